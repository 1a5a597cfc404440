//! The logs' states at their certificates, which others may begin with.
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fama_ledger::batch::LogMaps;
use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::public;
use fama_ledger::rows::{Changes, MapId, MapName, RowError, Rows as _};

use super::Shared;
use crate::store::{StoreError, View};

/// The state of a log at its certificate.
pub struct Version {
    /// The log.
    pub log: LogId,
    /// The certified head.
    pub head: Head,
    /// Its signed note.
    pub checkpoint: String,
    /// The maps there.
    pub maps: LogMaps,
    /// Rows that changed since, as they were there.
    former: Changes,
}

impl Version {
    /// A row of the map `log` as it was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, view: &View<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let map = MapName::log(&self.log).id();
        match self.former.get(&(map, key.to_vec())) {
            Some(former) => Ok(former.clone()),
            None => view.get(map, key),
        }
    }

    /// Shows each row of a map as it was, with a key not before `from`, to `each`, in order, until it breaks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_from(
        &self,
        view: &View<'_>,
        map: MapId,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let former = self.former.range((map, from.to_vec())..).take_while(|((of, _), _)| *of == map);
        let mut former = former.map(|((_, key), value)| (key.as_slice(), value.as_deref())).peekable();
        let mut stopped = false;
        view.rows_from(map, from, &mut |key, value| {
            while let Some((key, former)) = former.next_if(|(changed, _)| *changed < key) {
                if former.is_some_and(|value| each(key, value).is_break()) {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let now = match former.next_if(|(changed, _)| *changed == key) {
                Some((_, former)) => former,
                None => Some(value),
            };
            let step = now.map_or(ControlFlow::Continue(()), |value| each(key, value));
            stopped = step.is_break();
            step
        })?;
        for (key, value) in former.filter(|_| !stopped) {
            if value.is_some_and(|value| each(key, value).is_break()) {
                break;
            }
        }
        Ok(())
    }
}

/// The versions of all logs in use that are at hand, read in `view`.
///
/// # Errors
/// [`StoreError`].
pub fn versions(shared: &Shared, view: &View<'_>) -> Result<BTreeMap<LogId, Version>, StoreError> {
    let mut found = BTreeMap::new();
    for operator in shared.manifest.operators() {
        let log = operator.log();
        found.extend(version(shared, view, &log)?.map(|version| (log, version)));
    }
    Ok(found)
}

fn version(shared: &Shared, view: &View<'_>, log: &LogId) -> Result<Option<Version>, StoreError> {
    let (Some(record), Some(certificate)) = (view.log(log)?, view.certificate(log)?) else { return Ok(None) };
    let head = certificate.signed.head;
    let Ok(signed) = certificate.signed.verify(&shared.manifest, log) else { return Ok(None) };
    let cosignatures = certificate.cosignatures.iter().map(|(by, cosignature)| (by, cosignature));
    let Some(note) = public::checkpoint(&shared.manifest, log, &signed, cosignatures) else { return Ok(None) };
    if record.state.head() != head {
        return Ok(None);
    }
    let maps = LogMaps::load(&shared.manifest, log, view).map_err(|error| match error {
        RowError::Storage(error) => error,
        RowError::Broken(what) => shared.store.database(&format!("log {log}: {what}")),
    })?;
    Ok(Some(Version { log: log.clone(), head, checkpoint: note.to_string(), maps, former: Changes::new() }))
}
