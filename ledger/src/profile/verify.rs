//! Checks profile proofs: the reader's side.
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::convert::Infallible;

use super::carriers::carried;
use super::make::by_log;
use super::recorded::{Prefixes, Reading, RecordedRows};
use super::{
    HeadEvidence, LeftOut, LogEvidence, MapEvidence, ProfileError, ProfileProof, Proven, ProvenLog, ReadError,
    Required, WhyLeftOut, read,
};
use crate::adoption;
use crate::batch::{self, LogMaps};
use crate::codec;
use crate::entry::{Body, Entry};
use crate::id::{Domain, StateRoot};
use crate::limits;
use crate::log;
use crate::manifest::{Cut, LogId, Manifest};
use crate::map;
use crate::note_quorum::NoteReading;
use crate::rows::{self, LogRow, MapId, MapName, MemoryRows, RowError};

impl ProfileProof {
    /// Checks the whole proof. `held` is the genesis or a longer chain of manifests; nothing else is needed.
    ///
    /// # Errors
    /// [`ProfileError`]: then nothing in the file can be trusted. The sender is at fault, except for
    /// [`ProfileError::OldManifest`], [`ProfileError::LeftOut`] and [`ProfileError::HomeLeftOut`]: an honest node may
    /// not know the newest version or the newest certificates yet; and [`ProfileError::Ahead`]: a clock is wrong.
    pub fn verify(&self, held: &Arc<Manifest>, required: &Required) -> Result<Proven, ProfileError> {
        if self.question != required.question {
            let (found, wanted) = (Box::new(self.question.clone()), Box::new(required.question.clone()));
            return Err(ProfileError::Question { found, wanted });
        }
        let manifest = self.newest(held)?;
        self.check_logs(&manifest)?;
        // Certificates first: whoever has none gets no further, whatever rows the file has.
        let logs = self.logs.iter().map(|evidence| evidence.check(&manifest));
        let logs = logs.collect::<Result<Vec<CheckedLog<'_>>, _>>()?;
        let carried = self.carried(&manifest, &logs);
        let left_out = self.left_out(&carried, &logs, required)?;
        let reading = self.reading(&manifest, &carried)?;
        let rows = self.rows()?;
        let asked = RecordedRows::new(&rows, &reading);
        for one in logs.iter().filter(|one| one.evidence.certificate.is_some()) {
            rows::read::<LogRow, _>(&asked, MapName::log(&one.log.log).id(), &()).map_err(|error| broken(&error))?;
        }
        let hiding = left_out.iter().filter(|one| one.why != WhyLeftOut::Tallies);
        let hiding: BTreeSet<&LogId> = hiding.map(|one| &one.log).collect();
        let hiding = carried.iter().filter(|(_, log)| hiding.contains(*log)).map(|(map, _)| map.id()).collect();
        let answer = read(&manifest, &asked, &self.question, &hiding).map_err(|error| match error {
            ReadError::HomeLeftOut(home) => ProfileError::HomeLeftOut(home),
            ReadError::Rows(error) => broken(&error),
        })?;
        let name = |map: MapId| carried.keys().find(|name| name.id() == map).map_or("a map", MapName::as_str);
        let asked = asked.prefixes().map_err(|map| ProfileError::Rows(name(map).to_string()))?;
        check_asked(&carried, &logs, asked)?;
        let logs = logs.into_iter().map(|shown| shown.log).collect();
        Ok(Proven { question: self.question.clone(), answer, manifest, logs, left_out })
    }

    /// The newest version that the proof carries, if the versions after the held one follow from it.
    fn newest(&self, held: &Arc<Manifest>) -> Result<Arc<Manifest>, ProfileError> {
        if self.federation != held.federation() {
            return Err(ProfileError::Federation { found: self.federation, wanted: held.federation() });
        }
        let found = u32::try_from(self.manifests.len()).unwrap_or(u32::MAX).saturating_add(1);
        if found < held.version() {
            return Err(ProfileError::OldManifest { found, held: held.version() });
        }
        let mut newest = Arc::clone(held);
        for (version, note) in (2..).zip(&self.manifests) {
            if version > newest.version() {
                newest = Arc::new(newest.successor(&note.to_string()).map_err(ProfileError::Manifest)?);
            } else if held.at(version).is_none_or(|known| known.note().text != note.text) {
                return Err(ProfileError::OtherManifest(version));
            }
        }
        Ok(newest)
    }

    /// Checks the order of everything listed, and that every log that was not cut is shown or named as left out.
    fn check_logs(&self, manifest: &Manifest) -> Result<(), ProfileError> {
        let mut pairs = self.logs.iter().zip(self.logs.iter().skip(1));
        if let Some((_, second)) = pairs.find(|(first, second)| first.log >= second.log) {
            return Err(ProfileError::log(&second.log, "the logs are out of order, or one is there twice"));
        }
        if !self.left_out.is_sorted_by(|a, b| a < b)
            || !self.without.is_sorted_by(|a, b| a < b)
            || !self.whole.is_sorted_by(|a, b| a < b)
        {
            return Err(ProfileError::Form("lists of names out of order".to_string()));
        }
        let is_shown = |log: &LogId| self.logs.binary_search_by(|one| one.log.cmp(log)).is_ok();
        for log in &self.left_out {
            if is_shown(log) || manifest.log(log).is_none() {
                return Err(ProfileError::log(
                    log,
                    "it is left out, but also shown, or no version of the manifest has it",
                ));
            }
        }
        let is_told = |log: &LogId| is_shown(log) || self.left_out.binary_search(log).is_ok();
        match manifest.logs().iter().find(|(log, known)| known.cut.is_none() && !is_told(log)) {
            Some((log, _)) => Err(ProfileError::log(log, "nothing shows its state")),
            None => Ok(()),
        }
    }

    /// The log in which each map is read, or that is left out and may have it.
    fn carried<'m>(&self, manifest: &'m Manifest, logs: &[CheckedLog<'_>]) -> BTreeMap<MapName, &'m LogId> {
        carried(manifest, &|log| {
            if self.left_out.binary_search(log).is_ok() {
                return None;
            }
            let shown = || logs.iter().find(|one| one.log.log == *log).map(|one| one.log.adopted);
            Some(manifest.cut(log).map(|cut| cut.adopted).or_else(shown).unwrap_or_default())
        })
    }

    /// The logs that count as left out, if they are not too many.
    fn left_out(
        &self,
        carried: &BTreeMap<MapName, &LogId>,
        logs: &[CheckedLog<'_>],
        required: &Required,
    ) -> Result<Vec<LeftOut>, ProfileError> {
        let mut why: BTreeMap<LogId, WhyLeftOut> = BTreeMap::new();
        why.extend(self.left_out.iter().map(|log| (log.clone(), WhyLeftOut::Missing)));
        for CheckedLog { log, .. } in logs {
            let Some(as_of) = log.as_of else { continue };
            if as_of > required.now.saturating_add(limits::HEAD_SKEW_MILLIS_MAX / 1_000) {
                let (log, seconds) = (log.log.clone(), as_of.saturating_sub(required.now));
                return Err(ProfileError::Ahead { log, seconds });
            }
            if required.now.saturating_sub(as_of) > required.max_age_seconds {
                why.insert(log.log.clone(), WhyLeftOut::Old { as_of });
            }
        }
        let without: Vec<MapName> = self.without.iter().map(MapName::home).collect();
        for log in without.iter().filter_map(|map| carried.get(map)) {
            why.entry((*log).clone()).or_insert(WhyLeftOut::Tallies);
        }
        let left_out: Vec<LeftOut> = why
            .into_iter()
            .map(|(log, why)| {
                let of_log = carried.iter().filter(|(map, by)| ***by == log && map.as_str() != "log");
                let hidden = of_log.filter(|(map, _)| why != WhyLeftOut::Tallies || without.contains(map));
                LeftOut { why, maps: hidden.map(|(map, _)| map.as_str().to_string()).collect(), log }
            })
            .collect();
        match left_out.len() > required.missing_max {
            true => Err(ProfileError::LeftOut { left_out, max: required.missing_max }),
            false => Ok(left_out),
        }
    }

    /// What the file says about what is not read, and what is read whole.
    fn reading(&self, manifest: &Manifest, carried: &BTreeMap<MapName, &LogId>) -> Result<Reading, ProfileError> {
        if let Some(home) = self.without.iter().find(|home| !manifest.homes().contains_key(*home)) {
            return Err(ProfileError::Form(format!("{home} is no home")));
        }
        let hidden = carried.iter().filter(|(_, log)| self.left_out.binary_search(log).is_ok());
        let mut reading = Reading {
            hidden: hidden.map(|(map, _)| map.id()).collect(),
            without: self.without.iter().map(|home| MapName::home(home).id()).collect(),
            ..Reading::default()
        };
        for name in &self.whole {
            let map = carried.keys().find(|map| map.as_str() == *name).filter(|_| !name.starts_with("claims/"));
            let map = map.filter(|_| *name != "log").ok_or_else(|| ProfileError::Rows(name.clone()))?;
            reading.whole.insert(map.id());
            reading.whole_statements |= name.starts_with("statements/");
        }
        Ok(reading)
    }

    /// The rows of the file, not verified yet.
    fn rows(&self) -> Result<MemoryRows, ProfileError> {
        let mut rows = MemoryRows::default();
        let maps = self.logs.iter().flat_map(|evidence| evidence.maps.iter().map(|map| (&evidence.log, map)));
        for (log, map) in maps {
            let strange = || ProfileError::Rows(map.name.clone());
            let id = map_name(log, &map.name).ok_or_else(strange)?.id();
            for (key, value) in &map.rows {
                if rows.insert(id, key.clone(), value.clone()).is_some() {
                    return Err(strange());
                }
            }
        }
        Ok(rows)
    }
}

/// A log's evidence after its head and roots were checked.
struct CheckedLog<'a> {
    evidence: &'a LogEvidence,
    log: ProvenLog,
    roots: Vec<(MapName, StateRoot)>,
}

/// Checks that the maps prove everything that the join read, and that the file contains nothing else.
fn check_asked(
    carried: &BTreeMap<MapName, &LogId>,
    logs: &[CheckedLog<'_>],
    asked: Prefixes,
) -> Result<(), ProfileError> {
    let shown = |log: &LogId| logs.iter().find(|one| one.log.log == *log);
    let asked = by_log(carried, asked);
    for (log, maps) in &asked {
        shown(log).ok_or_else(|| ProfileError::log(log, "nothing shows its state"))?.check_maps(maps)?;
    }
    match logs.iter().find(|one| !asked.contains_key(&one.log.log)) {
        Some(one) => Err(ProfileError::log(&one.log.log, "the answer does not depend on it")),
        None => Ok(()),
    }
}

fn broken(error: &RowError<Infallible>) -> ProfileError {
    match error {
        RowError::Broken(error) => ProfileError::Row(*error),
        RowError::Torn => unreachable!("a proof's rows are read without maps"),
        RowError::Storage(never) => match *never {},
    }
}

/// The map named `name` in the state root of `log`.
fn map_name(log: &LogId, name: &str) -> Option<MapName> {
    let domain = |text: &str| text.parse::<Domain>().ok();
    match name.split_once('/') {
        None if name == "log" => Some(MapName::log(log)),
        Some(("home", home)) => Some(MapName::home(&domain(home)?)),
        Some(("statements", operator)) => Some(MapName::statements(&domain(operator)?)),
        Some(("claims", operator)) => Some(MapName::claims(&domain(operator)?)),
        _ => None,
    }
}

impl LogEvidence {
    /// Checks the head under the version that the log's own row names, and that the roots lead to the state root there.
    /// That row is proven later, like all other rows.
    fn check(&self, manifest: &Manifest) -> Result<CheckedLog<'_>, ProfileError> {
        let wrong = |what| ProfileError::log(&self.log, what);
        let known = manifest.log(&self.log).ok_or_else(|| wrong("no version of the manifest has it"))?;
        let (log, state_root) = match (&known.cut, &self.certificate) {
            (Some((_, cut)), None) => (at_cut(cut), cut.state_root),
            (None, Some(certificate)) => certificate.check(manifest, &self.log, self.log_row()?)?,
            (Some(_), Some(_)) => return Err(wrong("it was cut, and the manifest names its head")),
            (None, None) => return Err(wrong("nothing shows its head")),
        };
        let under = manifest.at(log.adopted).filter(|_| log.adopted >= known.since);
        let names = LogMaps::names(under.ok_or_else(|| wrong(NEVER_ADOPTED))?, &self.log);
        let right = names.len() == self.roots.len();
        let roots: Vec<(MapName, StateRoot)> = names.into_iter().zip(self.roots.iter().copied()).collect();
        if !right || batch::state_root(roots.iter().map(|(name, root)| (name.as_str(), *root))) != state_root {
            return Err(ProfileError::StateRoot(self.log.clone()));
        }
        Ok(CheckedLog { evidence: self, log, roots })
    }
}

impl LogEvidence {
    /// The log's own row, as the file has it.
    fn log_row(&self) -> Result<LogRow, ProfileError> {
        let key = rows::row_key::<LogRow>(&());
        let row = self.maps.iter().find(|map| map.name == "log").and_then(|map| map.rows.first());
        let (_, value) = row
            .filter(|(found, _)| *found == key)
            .ok_or_else(|| ProfileError::log(&self.log, "its own row is missing"))?;
        rows::decode_row::<LogRow, Infallible>(value).map_err(|error| broken(&error))
    }
}

const NEVER_ADOPTED: &str = "it cannot have adopted the version that its own row names";

fn at_cut(cut: &Cut) -> ProvenLog {
    let (log, size, adopted) = (cut.log.clone(), cut.head.size, cut.adopted);
    ProvenLog { log, size, adopted, time: None, cosigned: Vec::new(), as_of: None }
}

impl HeadEvidence {
    /// Checks that a quorum of the version that `row` names cosigned the head; at the end of the adopting batch, also
    /// one of the previous version. Returns the root in the last entry below the head, which must be a state entry.
    fn check(&self, manifest: &Manifest, log: &LogId, row: LogRow) -> Result<(ProvenLog, StateRoot), ProfileError> {
        let since = manifest.log(log).map_or(1, |known| known.since);
        let adopted = manifest.at(row.version).filter(|_| row.version >= since);
        let adopted = adopted.ok_or_else(|| ProfileError::log(log, NEVER_ADOPTED))?;
        let wanted = manifest.adopted_min(log);
        if row.version < wanted {
            return Err(ProfileError::Outdated { log: log.clone(), adopted: row.version, wanted });
        }
        let checkpoint = |error| ProfileError::Checkpoint { log: log.clone(), error };
        let mut note = NoteReading::of(&self.note, log, manifest).map_err(checkpoint)?;
        let head = note.signed().checkpoint().head;
        let versions = adoption::certifying_at(manifest, since, adopted, &head, self.adopted.as_ref())
            .map_err(|error| ProfileError::Adoption { log: log.clone(), error })?;
        // Only the versions that the log's own row and the adoption shown with it name.
        if let Some(short) = note.first_short(&versions).map_err(checkpoint)? {
            let (log, version, cosigned) = (log.clone(), short.version, short.found());
            return Err(ProfileError::Quorum { log, version, cosigned, wanted: short.wanted });
        }
        let root = match codec::decode(&self.entry, limits::ENTRY_BYTES_MAX) {
            Ok(Entry { body: Body::State { root }, .. }) => root,
            _ => return Err(ProfileError::Entry(log.clone())),
        };
        log::verify_inclusion(log::leaf_hash(&self.entry), head.size.saturating_sub(1), &head, &self.path)
            .map_err(|error| ProfileError::Path { log: log.clone(), error })?;
        let quorum = note.quorum(adopted).map_err(checkpoint)?;
        let (cosigned, as_of) = (quorum.cosigners(), quorum.as_of());
        let (log, size, adopted, time) = (log.clone(), head.size, row.version, Some(row.time));
        Ok((ProvenLog { log, size, adopted, time, cosigned, as_of }, root))
    }
}

impl CheckedLog<'_> {
    /// Checks that the evidence has exactly the maps in `asked`, and that each proves exactly its prefixes.
    fn check_maps(&self, asked: &Prefixes) -> Result<(), ProfileError> {
        let mut maps = self.evidence.maps.iter();
        for (name, root) in &self.roots {
            let Some(prefixes) = asked.get(&name.id()) else { continue };
            let strange = || ProfileError::Rows(name.as_str().to_string());
            let map = maps.next().filter(|map| map.name == name.as_str()).ok_or_else(strange)?;
            map.check(root, prefixes).map_err(|error| {
                let (log, map) = (self.log.log.clone(), map.name.clone());
                ProfileError::Map { log, map, error }
            })?;
        }
        match maps.next() {
            Some(more) => Err(ProfileError::Rows(more.name.clone())),
            None => Ok(()),
        }
    }
}

impl MapEvidence {
    /// Checks that in the map with this root the prefixes have exactly these rows.
    pub(super) fn check(&self, root: &StateRoot, prefixes: &[Vec<u8>]) -> Result<(), map::MapProofError> {
        let (mut answers, mut rest) = (Vec::new(), self.rows.as_slice());
        for prefix in prefixes {
            let below = rest.iter().take_while(|(key, _)| key.starts_with(prefix)).count();
            let (rows, after) = rest.split_at(below);
            answers.push((prefix.as_slice(), rows));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(map::MapProofError::Claim);
        }
        self.proof.verify(root, &answers)
    }
}
