//! Makes profile proofs: the node's side.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::carriers::carriers;
use super::recorded::{Prefixes, RecordedRows};
use super::{HeadEvidence, LogEvidence, MapEvidence, ProfileProof, Question, read};
use crate::batch::LogMaps;
use crate::codec::CodecError;
use crate::manifest::{LogId, Manifest};
use crate::map::{MapError, StateMap};
use crate::rows::{self, LogRow, MapId, MapName, RowError, Rows};

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
    /// No source has this log, or its source lacks a map that the answer is read from.
    #[error("nothing shows the state of log {0}")]
    Missing(LogId),
    /// The answer is read from more prefixes of a map than one proof can cover.
    #[error("the answer is read from more rows than one proof can cover")]
    TooMany,
    /// The rows and the maps are not of the same state.
    #[error("rows and maps do not belong together")]
    Torn,
    /// The storage of the rows failed or is broken.
    #[error("{0}")]
    Rows(#[from] RowError<E>),
}

impl ProfileProof {
    /// Answers `question` from `rows`: the rows of all maps at the heads of `sources`.
    ///
    /// `sources` must have every log that was not cut, and every cut one that still carries a map. The caller must
    /// verify the result before it publishes it.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn make<S: Rows>(
        manifest: &Arc<Manifest>,
        question: Question,
        rows: &S,
        sources: &[LogSource<'_>],
    ) -> Result<Self, MakeError<S::Error>> {
        let asked = RecordedRows::new(rows);
        let mut adopted = BTreeMap::new();
        for (log, known) in manifest.logs() {
            let version = match &known.cut {
                Some((_, cut)) => cut.adopted,
                None => rows::read::<LogRow, _>(&asked, MapName::log(log).id(), &())?.map_or(0, |row| row.version),
            };
            adopted.insert(log, version);
        }
        read(manifest, &asked, &question)?;
        let carriers = carriers(manifest, &|log| adopted.get(log).copied().unwrap_or_default());
        let mut logs = Vec::new();
        for (log, asked) in by_log(&carriers, asked.prefixes()) {
            let missing = || MakeError::Missing(log.clone());
            let source = sources.iter().find(|source| source.log == *log).ok_or_else(missing)?;
            logs.push(evidence(source, rows, &asked)?);
        }
        let later = manifest.versions().filter(|version| version.version() > 1);
        let mut manifests: Vec<_> = later.map(|version| version.note().clone()).collect();
        manifests.reverse();
        Ok(Self { federation: manifest.federation(), question, manifests, logs })
    }
}

/// The recorded prefixes by log and map. Prefixes of a map that no log has are left out.
pub(super) fn by_log(carriers: &BTreeMap<MapId, LogId>, asked: Prefixes) -> BTreeMap<&LogId, Prefixes> {
    let mut found: BTreeMap<&LogId, Prefixes> = BTreeMap::new();
    for (map, prefixes) in asked {
        if let Some(log) = carriers.get(&map) {
            found.entry(log).or_default().insert(map, prefixes);
        }
    }
    found
}

fn evidence<S: Rows>(source: &LogSource<'_>, rows: &S, asked: &Prefixes) -> Result<LogEvidence, MakeError<S::Error>> {
    let (mut roots, mut maps) = (Vec::new(), Vec::new());
    for (name, id, map) in source.maps.iter() {
        roots.push(map.root());
        if let Some(prefixes) = asked.get(&id) {
            maps.push(map_evidence(name, (id, map), rows, prefixes)?);
        }
    }
    if maps.len() != asked.len() {
        return Err(MakeError::Missing(source.log.clone()));
    }
    Ok(LogEvidence { log: source.log.clone(), certificate: source.certificate.clone(), roots, maps })
}

fn map_evidence<S: Rows>(
    name: &str,
    (id, map): (MapId, &StateMap),
    rows: &S,
    prefixes: &[Vec<u8>],
) -> Result<MapEvidence, MakeError<S::Error>> {
    let mut found = Vec::new();
    for prefix in prefixes {
        rows.scan(id, prefix, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            core::ops::ControlFlow::Continue(())
        })
        .map_err(RowError::Storage)?;
    }
    let proof = map.prove(prefixes).map_err(|error| match error {
        MapError::Prefixes(_) => MakeError::TooMany,
        _ => RowError::Broken(CodecError::Malformed).into(),
    })?;
    let evidence = MapEvidence { name: name.into(), proof, rows: found };
    evidence.check(&map.root(), prefixes).map_err(|_| MakeError::Torn)?;
    Ok(evidence)
}
