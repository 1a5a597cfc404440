//! Makes profile proofs: the node's side.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::carriers::carried;
use super::recorded::{Prefixes, Reading, RecordedRows};
use super::{
    HeadEvidence, LogEvidence, MapEvidence, PROFILE_BYTES_MAX, PROFILE_UNPACKED_BYTES_MAX, ProfileProof, Question,
    ReadError, find, read,
};
use crate::batch::LogMaps;
use crate::codec::CodecError;
use crate::id::{Domain, IdentityId};
use crate::join::Join;
use crate::manifest::{LogId, Manifest};
use crate::map::{MapError, NodeError, StateMap};
use crate::rows::{
    self, LogRow, MapId, MapName, MapNodes, MemoryRows, Row as _, RowError, Rows, Statement, StoredRows, Tally, prefix,
};

/// Most tallies of a subject that one proof shows. Of the homes with the most tallies none are shown beyond that, which
/// bounds the work for a subject that many strangers attest to.
const TALLIES_MAX: usize = 1 << 15;
/// With more tallies than this, a statements map is read as a whole if that is shorter.
const EACH_MAX: usize = 16;
/// About how many rows of a statements map take as much room as the proof that it has none for one provider.
const ROWS_OF_A_GAP: usize = 3;

/// One log's state at a head, except the rows.
pub struct LogSource<'a> {
    /// The log that this is the state of.
    pub log: LogId,
    /// The evidence for the head; `None` for a log that was cut, at its cut.
    pub certificate: Option<HeadEvidence>,
    /// The log's maps at that head.
    pub maps: &'a LogMaps,
}

/// Why no proof was made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError<E> {
    /// No source has the log of the home that would have the agent.
    #[error("nothing shows the state of {home}, which log {log} has")]
    HomeLeftOut {
        /// The home that would have the agent.
        home: Domain,
        /// Its log.
        log: LogId,
    },
    /// The answer is read from more rows than one proof can cover, even without any attestations.
    #[error("the answer is read from more rows than one proof can cover")]
    TooMany,
    /// The rows and the maps are not of the same state.
    #[error("rows and maps do not belong together")]
    Torn,
    /// The storage of the rows failed or is broken.
    #[error("{0}")]
    Rows(#[from] RowError<E>),
}

/// Why one attempt gave no proof.
enum Attempt<E> {
    /// Nothing shows this log, or a map of it that the answer is read from.
    Missing(LogId),
    /// Too many prefixes of this map.
    Prefixes(MapId),
    TooLong,
    Error(MakeError<E>),
}

impl<E> From<RowError<E>> for Attempt<E> {
    fn from(error: RowError<E>) -> Self {
        Self::Error(error.into())
    }
}

impl ProfileProof {
    /// Answers `question` from `rows`: the rows of all maps at the heads of `sources`.
    ///
    /// Logs without a source are left out. Where the attestations of a home are too many, they are left out. The
    /// caller must verify the result before it publishes it.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn make<S: StoredRows>(
        manifest: &Arc<Manifest>,
        question: Question,
        rows: &S,
        sources: &[LogSource<'_>],
    ) -> Result<Self, MakeError<S::Error>> {
        let mut maker = Maker::new(manifest, question, rows, sources)?;
        loop {
            // Each turn leaves out something more, or reads something more coarsely.
            match maker.attempt() {
                Ok(proof) => return Ok(proof),
                Err(Attempt::Missing(log)) if maker.left_out.insert(log.clone()) => maker.plan()?,
                Err(Attempt::Prefixes(map)) if maker.homes().any(|home| MapName::home(home).id() == map) => {
                    if !maker.whole_days.insert(map) {
                        maker.drop_most_tallies()?;
                    }
                }
                Err(Attempt::Prefixes(_) | Attempt::TooLong) => maker.drop_most_tallies()?,
                Err(Attempt::Missing(_)) => return Err(MakeError::Torn),
                Err(Attempt::Error(error)) => return Err(error),
            }
        }
    }
}

/// What a proof is made from, and what it does not show.
struct Maker<'a, S> {
    manifest: &'a Arc<Manifest>,
    question: Question,
    rows: HeldRows<'a, S>,
    sources: &'a [LogSource<'a>],
    /// The version that each log has adopted that is not left out.
    adopted: BTreeMap<&'a LogId, u32>,
    left_out: BTreeSet<LogId>,
    /// How many tallies each home has that are shown.
    tallies: BTreeMap<Domain, usize>,
    without: BTreeSet<Domain>,
    whole_statements: BTreeSet<MapId>,
    whole_days: BTreeSet<MapId>,
}

impl<'a, S: StoredRows> Maker<'a, S> {
    fn new(
        manifest: &'a Arc<Manifest>,
        question: Question,
        rows: &'a S,
        sources: &'a [LogSource<'a>],
    ) -> Result<Self, MakeError<S::Error>> {
        let (mut adopted, mut left_out) = (BTreeMap::new(), BTreeSet::new());
        for (log, known) in manifest.logs() {
            let row = || rows::read::<LogRow, _>(rows, MapName::log(log).id(), &());
            let version = match &known.cut {
                Some((_, cut)) => Some(cut.adopted),
                None if sources.iter().any(|source| source.log == *log) => row()?.map(|row| row.version),
                None => None,
            };
            match version {
                Some(version) => drop(adopted.insert(log, version)),
                None => drop(left_out.insert(log.clone())),
            }
        }
        let mut maker = Self {
            manifest,
            question,
            rows: HeldRows { rows, held: BTreeMap::new() },
            sources,
            adopted,
            left_out,
            tallies: BTreeMap::new(),
            without: BTreeSet::new(),
            whole_statements: BTreeSet::new(),
            whole_days: BTreeSet::new(),
        };
        maker.plan()?;
        Ok(maker)
    }

    fn homes(&self) -> impl Iterator<Item = &'a Domain> {
        self.manifest.homes().keys()
    }

    fn carried(&self) -> BTreeMap<MapName, &'a LogId> {
        carried(self.manifest, &|log| match self.left_out.contains(log) {
            true => None,
            false => Some(self.adopted.get(log).copied().unwrap_or_default()),
        })
    }

    fn reading(&self) -> Reading {
        let carried = self.carried();
        let hidden = carried.iter().filter(|(_, log)| self.left_out.contains(**log));
        Reading {
            hidden: hidden.map(|(map, _)| map.id()).collect(),
            without: self.without.iter().map(|home| MapName::home(home).id()).collect(),
            whole: self.whole_statements.union(&self.whole_days).copied().collect(),
            whole_statements: !self.whole_statements.is_empty(),
        }
    }

    /// Counts the tallies, and decides which homes are shown without any and which statements are read as a whole.
    fn plan(&mut self) -> Result<(), MakeError<S::Error>> {
        (self.tallies, self.without) = (BTreeMap::new(), BTreeSet::new());
        self.whole_statements.clear();
        let reading = self.reading();
        let shown = RecordedRows::new(&self.rows, &reading);
        let found = find(&Join::new(self.manifest, &shown), &self.question.agent, &reading.hidden);
        let Some(found) = found.map_err(|error| self.error(error))? else { return Ok(()) };
        let mut counts = Vec::new();
        for home in self.homes() {
            counts.push((count(&shown, home, found.id)?, home));
        }
        counts.sort_unstable();
        let mut all = 0usize;
        for (count, home) in counts.into_iter().filter(|(count, _)| *count > 0) {
            if all.saturating_add(count) > TALLIES_MAX {
                self.without.insert(home.clone());
            } else {
                all = all.saturating_add(count);
                self.tallies.insert(home.clone(), count);
            }
        }
        self.choose_whole(all)
    }

    /// Chooses the statements maps that are shorter as a whole than what they say about each provider.
    fn choose_whole(&mut self, tallies: usize) -> Result<(), MakeError<S::Error>> {
        self.whole_statements.clear();
        if tallies <= EACH_MAX {
            return Ok(());
        }
        let carried = self.carried();
        for operator in self.manifest.operators() {
            let map = MapName::statements(&operator.name);
            let source = carried.get(&map).and_then(|log| self.sources.iter().find(|source| source.log == **log));
            let rows = source.and_then(|source| source.maps.get(map.id())).map(StateMap::len);
            if rows.is_some_and(|rows| rows <= tallies.saturating_mul(ROWS_OF_A_GAP)) {
                self.rows.hold(map.id()).map_err(RowError::Storage)?;
                self.whole_statements.insert(map.id());
            }
        }
        Ok(())
    }

    /// Leaves out the tallies of the home that has the most.
    fn drop_most_tallies(&mut self) -> Result<(), MakeError<S::Error>> {
        let most = self.tallies.iter().max_by_key(|(_, count)| **count).map(|(home, _)| home.clone());
        let most = most.ok_or(MakeError::TooMany)?;
        self.tallies.remove(&most);
        self.without.insert(most);
        self.choose_whole(self.tallies.values().sum())
    }

    fn error(&self, error: ReadError<S::Error>) -> MakeError<S::Error> {
        match error {
            ReadError::Rows(error) => error.into(),
            ReadError::HomeLeftOut(home) => match self.carried().remove(&MapName::home(&home)) {
                Some(log) => MakeError::HomeLeftOut { home, log: log.clone() },
                None => MakeError::Torn,
            },
        }
    }

    fn attempt(&self) -> Result<ProfileProof, Attempt<S::Error>> {
        let (reading, carried) = (self.reading(), self.carried());
        let asked = RecordedRows::new(&self.rows, &reading);
        for (log, _) in self.manifest.logs().iter().filter(|(_, known)| known.cut.is_none()) {
            rows::read::<LogRow, _>(&asked, MapName::log(log).id(), &())?;
        }
        let answer = read(self.manifest, &asked, &self.question, &reading.hidden);
        answer.map_err(|error| Attempt::Error(self.error(error)))?;
        let asked = asked.prefixes().map_err(Attempt::Prefixes)?;
        let whole = carried.keys().filter(|map| reading.whole.contains(&map.id()) && asked.contains_key(&map.id()));
        let whole: Vec<String> = whole.map(|map| map.as_str().to_string()).collect();
        let mut logs = Vec::new();
        for (log, asked) in by_log(&carried, asked) {
            let source = self.sources.iter().find(|source| source.log == *log);
            logs.push(self.evidence(source.ok_or_else(|| Attempt::Missing(log.clone()))?, &asked)?);
        }
        let later = self.manifest.versions().filter(|version| version.version() > 1);
        let mut manifests: Vec<_> = later.map(|version| version.note().clone()).collect();
        manifests.reverse();
        let proof = ProfileProof {
            federation: self.manifest.federation(),
            question: self.question.clone(),
            manifests,
            left_out: self.left_out.iter().cloned().collect(),
            without: self.without.iter().cloned().collect(),
            whole,
            logs,
        };
        let is_long = proof.unpacked() > PROFILE_UNPACKED_BYTES_MAX || proof.to_string().len() > PROFILE_BYTES_MAX;
        if is_long { Err(Attempt::TooLong) } else { Ok(proof) }
    }

    fn evidence(&self, source: &LogSource<'_>, asked: &Prefixes) -> Result<LogEvidence, Attempt<S::Error>> {
        let (mut roots, mut maps) = (Vec::new(), Vec::new());
        for (name, id, map) in source.maps.iter() {
            roots.push(map.root());
            if let Some(prefixes) = asked.get(&id) {
                maps.push(self.map_evidence(name, (id, map), prefixes)?);
            }
        }
        if maps.len() != asked.len() {
            return Err(Attempt::Missing(source.log.clone()));
        }
        Ok(LogEvidence { log: source.log.clone(), certificate: source.certificate.clone(), roots, maps })
    }

    fn map_evidence(
        &self,
        name: &str,
        (id, map): (MapId, &StateMap),
        prefixes: &[Vec<u8>],
    ) -> Result<MapEvidence, Attempt<S::Error>> {
        let (mut found, mut bytes) = (Vec::new(), 0usize);
        for prefix in prefixes {
            let scanned = self.rows.scan(id, prefix, &mut |key, value| {
                bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
                found.push((key.to_vec(), value.to_vec()));
                if bytes > PROFILE_UNPACKED_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            scanned.map_err(RowError::Storage)?;
            if bytes > PROFILE_UNPACKED_BYTES_MAX {
                return Err(Attempt::TooLong);
            }
        }
        let proof = map.prove(prefixes, &MapNodes(id, self.rows.rows)).map_err(|error| match error {
            NodeError::Map(MapError::Prefixes(_)) => Attempt::Prefixes(id),
            NodeError::Torn => Attempt::Error(MakeError::Torn),
            NodeError::Map(_) => RowError::Broken(CodecError::Malformed).into(),
            NodeError::Storage(error) => RowError::Storage(error).into(),
        })?;
        let evidence = MapEvidence { name: name.into(), proof, rows: found };
        evidence.check(&map.root(), prefixes).map_err(|_| Attempt::Error(MakeError::Torn))?;
        Ok(evidence)
    }
}

/// How many tallies of the subject a home has; with more than fit into a proof, one more than that.
fn count<S: Rows>(rows: &S, home: &Domain, subject: IdentityId) -> Result<usize, RowError<S::Error>> {
    let mut count = 0usize;
    rows.scan(MapName::home(home).id(), &prefix::<Tally>(&subject), &mut |_, _| {
        count = count.saturating_add(1);
        if count > TALLIES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(RowError::Storage)?;
    Ok(count)
}

/// The recorded prefixes by log and map. Prefixes of a map that no log has are left out.
pub(super) fn by_log<'m>(carried: &BTreeMap<MapName, &'m LogId>, asked: Prefixes) -> BTreeMap<&'m LogId, Prefixes> {
    let logs: BTreeMap<MapId, &LogId> = carried.iter().map(|(map, log)| (map.id(), *log)).collect();
    let mut found: BTreeMap<&LogId, Prefixes> = BTreeMap::new();
    for (map, prefixes) in asked {
        if let Some(log) = logs.get(&map) {
            found.entry(log).or_default().insert(map, prefixes);
        }
    }
    found
}

/// Rows, of which the statements maps that a proof shows as a whole are held in memory: every tally asks all of them.
struct HeldRows<'a, S> {
    rows: &'a S,
    held: BTreeMap<MapId, MemoryRows>,
}

impl<S: Rows> HeldRows<'_, S> {
    /// Holds a map's statements.
    fn hold(&mut self, map: MapId) -> Result<(), S::Error> {
        let mut held = MemoryRows::default();
        if !self.held.contains_key(&map) {
            self.rows.scan(map, &[Statement::TAG], &mut |key, value| {
                held.insert(map, key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            })?;
            self.held.insert(map, held);
        }
        Ok(())
    }
}

impl<S: Rows> Rows for HeldRows<'_, S> {
    type Error = S::Error;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, S::Error> {
        self.rows.get(map, key)
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        match self.held.get(&map).filter(|_| prefix.first() == Some(&Statement::TAG)) {
            Some(held) => held.scan(map, prefix, each).map_err(|never| match never {}),
            None => self.rows.scan(map, prefix, each),
        }
    }
}
