//! Checks profile proofs: the reader's side.
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::convert::Infallible;

use super::carriers::carriers;
use super::make::by_log;
use super::recorded::{Prefixes, RecordedRows};
use super::{HeadEvidence, LogEvidence, MapEvidence, ProfileError, ProfileProof, Proven, ProvenLog, read};
use crate::adoption;
use crate::batch::{self, LogMaps};
use crate::codec;
use crate::entry::{Body, Entry};
use crate::id::{Domain, StateRoot};
use crate::limits;
use crate::log;
use crate::manifest::{Cut, LogId, Manifest};
use crate::map;
use crate::note_quorum::NoteQuorum;
use crate::rows::{self, Changes, LogRow, MapName, MemoryRows, RowError};

impl ProfileProof {
    /// Checks the whole proof. `held` is the genesis or a longer chain of manifests; nothing else is needed.
    ///
    /// # Errors
    /// [`ProfileError`]: then nothing in the file can be trusted. The sender is at fault, except for
    /// [`ProfileError::OldManifest`]: an honest node may not know the newest version yet.
    pub fn verify(&self, held: &Arc<Manifest>) -> Result<Proven, ProfileError> {
        let manifest = self.newest(held)?;
        let rows = self.claimed(&manifest)?;
        let logs = self.logs.iter().map(|evidence| evidence.check(&manifest, &rows));
        let logs = logs.collect::<Result<Vec<CheckedLog<'_>>, _>>()?;
        let asked = RecordedRows::new(&rows);
        for (log, _) in manifest.logs().iter().filter(|(_, known)| known.cut.is_none()) {
            log_row(&asked, log)?;
        }
        let answer = read(&manifest, &asked, &self.question).map_err(|error| broken(&error))?;
        check_asked(&manifest, &logs, asked.prefixes())?;
        let logs = logs.into_iter().map(|shown| shown.log).collect();
        Ok(Proven { question: self.question.clone(), answer, manifest, logs })
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

    /// The rows of the file, not verified yet.
    fn claimed(&self, manifest: &Manifest) -> Result<MemoryRows, ProfileError> {
        let mut pairs = self.logs.iter().zip(self.logs.iter().skip(1));
        if let Some((_, second)) = pairs.find(|(first, second)| first.log >= second.log) {
            return Err(ProfileError::log(&second.log, "the logs are out of order, or one is there twice"));
        }
        let has = |log: &LogId| self.logs.binary_search_by(|one| one.log.cmp(log)).is_ok();
        match manifest.logs().iter().find(|(log, known)| known.cut.is_none() && !has(log)) {
            Some((log, _)) => Err(ProfileError::log(log, "nothing shows its state")),
            None => self.rows(),
        }
    }

    fn rows(&self) -> Result<MemoryRows, ProfileError> {
        let (mut rows, mut changes) = (MemoryRows::default(), Changes::new());
        let maps = self.logs.iter().flat_map(|evidence| evidence.maps.iter().map(|map| (&evidence.log, map)));
        for (log, map) in maps {
            let strange = || ProfileError::Rows(map.name.clone());
            let id = map_name(log, &map.name).ok_or_else(strange)?.id();
            for (key, value) in &map.rows {
                if changes.insert((id, key.clone()), Some(value.clone())).is_some() {
                    return Err(strange());
                }
            }
        }
        rows.apply(&changes);
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
fn check_asked(manifest: &Manifest, logs: &[CheckedLog<'_>], asked: Prefixes) -> Result<(), ProfileError> {
    let cut = |log: &LogId| manifest.cut(log).map(|cut| cut.adopted);
    let shown = |log: &LogId| logs.iter().find(|one| one.log.log == *log);
    let adopted = |log: &LogId| cut(log).or_else(|| Some(shown(log)?.log.adopted)).unwrap_or_default();
    let carriers = carriers(manifest, &adopted);
    let asked = by_log(&carriers, asked);
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
        RowError::Storage(never) => match *never {},
    }
}

fn log_row<S: rows::Rows<Error = Infallible>>(rows: &S, log: &LogId) -> Result<LogRow, ProfileError> {
    let row = rows::read::<LogRow, S>(rows, MapName::log(log).id(), &()).map_err(|error| broken(&error))?;
    row.ok_or_else(|| ProfileError::log(log, "its own row is missing"))
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
    fn check(&self, manifest: &Manifest, rows: &MemoryRows) -> Result<CheckedLog<'_>, ProfileError> {
        let wrong = |what| ProfileError::log(&self.log, what);
        let known = manifest.log(&self.log).ok_or_else(|| wrong("no version of the manifest has it"))?;
        let (log, state_root) = match (&known.cut, &self.certificate) {
            (Some((_, cut)), None) => (at_cut(cut), cut.state_root),
            (None, Some(certificate)) => certificate.check(manifest, &self.log, log_row(rows, &self.log)?)?,
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

const NEVER_ADOPTED: &str = "it cannot have adopted the version that its own row names";

fn at_cut(cut: &Cut) -> ProvenLog {
    let (log, size, adopted) = (cut.log.clone(), cut.head.size, cut.adopted);
    ProvenLog { log, size, adopted, time: None, cosigned: Vec::new(), as_of: None }
}

impl HeadEvidence {
    /// Checks that a quorum of the version that `row` names cosigned the head; at the end of the adopting batch, also
    /// one of the previous version. Returns the root in the last entry below the head, which must be a state entry.
    fn check(&self, manifest: &Manifest, log: &LogId, row: LogRow) -> Result<(ProvenLog, StateRoot), ProfileError> {
        let adopted = manifest.at(row.version).ok_or_else(|| ProfileError::log(log, NEVER_ADOPTED))?;
        let checkpoint = |error| ProfileError::Checkpoint { log: log.clone(), error };
        let quorum = NoteQuorum::read(&self.note, log, manifest, adopted).map_err(checkpoint)?;
        let head = quorum.signed.checkpoint().head;
        let since = manifest.log(log).map_or(1, |known| known.since);
        let versions = adoption::certifying_at(manifest, since, adopted, &head, self.adopted.as_ref())
            .map_err(|error| ProfileError::Adoption { log: log.clone(), error })?;
        // Only the versions that the log's own row and the adoption shown with it name.
        if let Some(short) = quorum.first_short(&self.note, log, manifest, &versions).map_err(checkpoint)? {
            let (log, version, cosigned) = (log.clone(), short.version, short.found());
            return Err(ProfileError::Quorum { log, version, cosigned, wanted: short.wanted });
        }
        let root = match codec::decode(&self.entry, limits::ENTRY_BYTES_MAX) {
            Ok(Entry { body: Body::State { root }, .. }) => root,
            _ => return Err(ProfileError::Entry(log.clone())),
        };
        log::verify_inclusion(log::leaf_hash(&self.entry), head.size.saturating_sub(1), &head, &self.path)
            .map_err(|error| ProfileError::Path { log: log.clone(), error })?;
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
