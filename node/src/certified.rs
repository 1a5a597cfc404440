//! Log states that can be proven to strangers: each log as it was at a head that a quorum cosigned.
//!
//! The copy of a log grows while its newest heads are still being cosigned. So the state maps are kept as they were
//! after each of the newest writes, with the former values of the rows that the next write changed. Once one
//! of these states is certified it becomes the *front*, and older states are dropped. Only the inbox writes here; the
//! listeners read through [`CertifiedRows`].
//!
//! Nothing here is on disk but the certificates. After a start, a log whose copy is exactly at its stored certificate
//! has a front at once, however long the federation has been idle. A log whose copy is larger has none until the next
//! certificate: proofs name it as left out.
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use fama_ledger::manifest::LogId;
use fama_ledger::profile::LogMaps;
use fama_ledger::replica::Certificate;
use fama_ledger::rows::{Changes, MapId, NodeChanges, Rows, StoredRows};

use crate::store::{StoreError, View};

/// At most this many states of a log are kept, the front and the newest included.
pub(crate) const STATES_MAX: usize = 32;
/// Memory for former row values of all logs together, in bytes, each log having the same part of it, but at least what two
/// full batches need. A log with more has no front until the next certificate.
const FORMER_BYTES_MAX: usize = 64 << 20;
const FORMER_BYTES_MIN: usize = 8 << 20;
/// About what a former value takes besides its key and itself, in bytes.
const FORMER_BYTES: usize = 96;

/// Takes a row, and says whether to continue.
type RowReader<'r> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'r;
/// Values of rows before a write; `None`: the row did not exist.
type Former = BTreeMap<(MapId, Vec<u8>), Option<Vec<u8>>>;

fn former_bytes(key: &(MapId, Vec<u8>), value: Option<&Vec<u8>>) -> usize {
    FORMER_BYTES.saturating_add(key.1.len()).saturating_add(value.map_or(0, Vec::len))
}

/// What a write is about to change.
pub(crate) struct Write<'c> {
    /// The changed rows.
    pub changes: &'c Changes,
    /// Rows as they are before, as far as they were read.
    pub read: &'c Changes,
    /// The changed records of the maps' nodes.
    pub nodes: &'c NodeChanges,
}

/// The state of a log after a write.
struct KeptState {
    size: u64,
    maps: LogMaps,
    /// Former values of the rows that the next write changed, or is about to change.
    former: Arc<Former>,
    /// The memory of these values, in bytes.
    bytes: usize,
}

/// The kept states of one log.
struct KeptLog {
    /// Oldest first, never empty; the last is the state after the newest write.
    kept: VecDeque<KeptState>,
    /// The certificate of the oldest state, which is then the front.
    certificate: Option<Arc<Certificate>>,
}

#[derive(Default)]
struct AllLogs {
    active: BTreeMap<LogId, KeptLog>,
    /// Maps of cut logs as they were at the cut, until other logs have received all of them.
    cut: BTreeMap<LogId, Arc<LogMaps>>,
}

/// The kept states of all logs. Dropped with the inbox; a reload starts with new ones.
#[derive(Default)]
pub struct CertifiedStates(RwLock<AllLogs>);

/// A log's newest certified state.
pub struct Front {
    /// The head and its cosignatures.
    pub certificate: Arc<Certificate>,
    /// The log's maps at that head.
    pub maps: LogMaps,
    /// Former row values of each write since that head, oldest write first.
    since: Vec<Arc<Former>>,
    /// The maps that the log carries now.
    carried: Vec<MapId>,
}

/// The fronts of all logs, and the rows as they were at them.
pub struct CertifiedRows<'a> {
    view: &'a View<'a>,
    /// The front of each active log that has one.
    pub fronts: BTreeMap<LogId, Front>,
    /// Maps of cut logs that no other log has received yet.
    pub cut: BTreeMap<LogId, Arc<LogMaps>>,
    /// For each map, the log whose front has its former rows.
    carriers: BTreeMap<MapId, LogId>,
}

impl CertifiedStates {
    fn write(&self) -> RwLockWriteGuard<'_, AllLogs> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a log with the state on disk, without a front.
    pub(crate) fn begin(&self, log: &LogId, size: u64, maps: &LogMaps) {
        let kept = VecDeque::from([KeptState::new(size, maps.clone())]);
        self.write().active.insert(log.clone(), KeptLog { kept, certificate: None });
    }

    /// Keeps a cut log's maps as they were at the cut, until the logs that receive them do.
    pub(crate) fn begin_cut(&self, log: &LogId, maps: LogMaps) {
        self.write().cut.insert(log.clone(), Arc::new(maps));
    }

    /// Keeps the current values of rows that a write is about to change. Call it before the write is visible.
    ///
    /// # Errors
    /// [`StoreError`]; then the caller must not write.
    pub(crate) fn before<'c>(
        &self,
        log: &LogId,
        writes: impl IntoIterator<Item = Write<'c>>,
        view: &View<'_>,
    ) -> Result<(), StoreError> {
        let newest = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(maps) = newest.active.get(log).and_then(|log| Some(log.kept.back()?.maps.clone())) else {
            return Ok(());
        };
        drop(newest);
        let mut former = Former::new();
        for Write { changes, read, nodes } in writes {
            for row in changes.keys() {
                if former.contains_key(row) {
                    continue;
                }
                let (map, key) = row;
                let value = match read.get(row) {
                    Some(value) => value.clone(),
                    // Often the map knows of a new row without reading the disk. A missing map is one that the log
                    // receives by this write, so its rows are on disk.
                    None if maps.get(*map).is_some_and(|map| map.lacks(key)) => None,
                    None => view.get(*map, key)?,
                };
                former.insert(row.clone(), value);
            }
            for (record, change) in nodes {
                former.entry(record.clone()).or_insert_with(|| change.before.clone());
            }
        }
        if let Some(newest) = self.write().active.get_mut(log).and_then(|log| log.kept.back_mut()) {
            newest.bytes = former.iter().map(|(key, value)| former_bytes(key, value.as_ref())).sum();
            newest.former = Arc::new(former);
        }
        Ok(())
    }

    /// Adds the state after a write.
    pub(crate) fn after(&self, log: &LogId, size: u64, maps: &LogMaps) {
        let mut logs = self.write();
        let bytes = (FORMER_BYTES_MAX / logs.active.len().max(1)).max(FORMER_BYTES_MIN);
        if let Some(log) = logs.active.get_mut(log) {
            log.kept.push_back(KeptState::new(size, maps.clone()));
            log.bound(bytes);
        }
    }

    /// Makes the state at this head the front and drops older states; does nothing if that state is not kept.
    pub(crate) fn certified(&self, log: &LogId, certificate: &Certificate) {
        let (mut logs, size) = (self.write(), certificate.head().size);
        let Some(log) = logs.active.get_mut(log) else { return };
        let Some(at) = log.kept.iter().position(|kept| kept.size == size) else { return };
        log.kept.drain(..at);
        log.certificate = Some(Arc::new(certificate.clone()));
        logs.drop_received();
    }

    /// How many states of a log are kept; 0 for an unknown log.
    #[cfg(test)]
    pub(crate) fn kept(&self, log: &LogId) -> usize {
        self.write().active.get(log).map_or(0, |log| log.kept.len())
    }

    /// The fronts, and their rows read through `view`; `None` if a front is newer than the view: open another view.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state<'a>(&self, view: &'a View<'a>) -> Result<Option<CertifiedRows<'a>>, StoreError> {
        let logs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fronts = logs.active.iter().filter_map(|(id, log)| Some((id.clone(), log.front()?)));
        let fronts: BTreeMap<LogId, Front> = fronts.collect();
        let cut = logs.cut.clone();
        drop(logs);
        let mut carriers = BTreeMap::new();
        for (log, front) in &fronts {
            let held = view.log(log)?.map_or(0, |record| record.state.size);
            if held < front.certificate.head().size {
                return Ok(None);
            }
            carriers.extend(front.carried.iter().map(|map| (*map, log.clone())));
        }
        Ok(Some(CertifiedRows { view, fronts, cut, carriers }))
    }
}

impl KeptState {
    /// The newest state of a log, which no write has changed.
    fn new(size: u64, maps: LogMaps) -> Self {
        Self { size, maps, former: Arc::default(), bytes: 0 }
    }
}

impl KeptLog {
    fn front(&self) -> Option<Front> {
        let (certificate, oldest, newest) = (self.certificate.clone()?, self.kept.front()?, self.kept.back()?);
        let since = self.kept.iter().map(|kept| Arc::clone(&kept.former)).collect();
        let carried = newest.maps.iter().map(|(_, id, _)| id).collect();
        Some(Front { certificate, maps: oldest.maps.clone(), since, carried })
    }

    /// Enforces the limits: with too many states, drops every other one between the oldest and the newest; with too
    /// many bytes of former rows, drops all states but the newest.
    fn bound(&mut self, bytes: usize) {
        if self.kept.len() > STATES_MAX {
            for at in (1..self.kept.len() - 1).rev().step_by(2) {
                self.merge_into_previous(at);
            }
        }
        if self.kept.iter().map(|kept| kept.bytes).sum::<usize>() > bytes {
            let older = self.kept.len() - 1;
            self.kept.drain(..older);
            self.certificate = None;
        }
    }

    /// Drops the state at `at`; its former values pass to the state before it, if that has none for a row.
    fn merge_into_previous(&mut self, at: usize) {
        let Some(gone) = self.kept.remove(at) else { return };
        if let Some(before) = at.checked_sub(1).and_then(|at| self.kept.get_mut(at)) {
            let former = Arc::make_mut(&mut before.former);
            for (row, value) in gone.former.iter() {
                if let btree_map::Entry::Vacant(entry) = former.entry(row.clone()) {
                    before.bytes = before.bytes.saturating_add(former_bytes(row, value.as_ref()));
                    entry.insert(value.clone());
                }
            }
        }
    }
}

impl AllLogs {
    /// Forgets cut logs whose maps, except the `log` map, have all reached the front of another log.
    fn drop_received(&mut self) {
        let Self { active, cut } = self;
        let received = |map: MapId| {
            let mut fronts = active.values().filter(|log| log.certificate.is_some()).filter_map(|log| log.kept.front());
            fronts.any(|front| front.maps.get(map).is_some())
        };
        cut.retain(|_, maps| maps.iter().any(|(name, id, _)| name != "log" && !received(id)));
    }
}

impl CertifiedRows<'_> {
    /// Calls `each` with every row of a map as it was at its front, from key `from` on, in order, until it breaks.
    /// Reads no rows beyond that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_from(
        &self,
        map: MapId,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.as_it_was((map, map), (from, &[]), &mut |each| self.view.rows_from(map, from, each), each)
    }

    /// Shows the rows that `walk` finds from key `from` on as they were at the front, and those deleted since, all with
    /// this prefix; or the records of a level of the map's nodes, which are stored under an id of their own.
    fn as_it_was(
        &self,
        (map, stored): (MapId, MapId),
        (from, prefix): (&[u8], &[u8]),
        walk: &mut dyn FnMut(&mut RowReader<'_>) -> Result<(), StoreError>,
        each: &mut RowReader<'_>,
    ) -> Result<(), StoreError> {
        let mut former: Vec<_> =
            self.since(map).iter().map(|former| Later::new(former, stored, (from, prefix))).collect();
        let mut ended = false;
        walk(&mut |key, value| {
            let mut step = shown(&mut former, Some(key), each);
            if step.is_continue() {
                step = match former_at(&mut former, key) {
                    None => each(key, value),
                    Some(Some(value)) => each(key, value),
                    Some(None) => ControlFlow::Continue(()),
                };
            }
            ended = step.is_break();
            step
        })?;
        if !ended {
            let _ = shown(&mut former, None, each);
        }
        Ok(())
    }

    fn since(&self, map: MapId) -> &[Arc<Former>] {
        let front = self.carriers.get(&map).and_then(|log| self.fronts.get(log));
        front.map_or(&[], |front| &front.since)
    }
}

/// Former values of one write in one map that a walk has not reached yet.
struct Later<'f> {
    rest: Peekable<btree_map::Range<'f, (MapId, Vec<u8>), Option<Vec<u8>>>>,
    map: MapId,
    prefix: &'f [u8],
}

impl<'f> Later<'f> {
    fn new(former: &'f Former, map: MapId, (from, prefix): (&[u8], &'f [u8])) -> Self {
        Self { rest: former.range((map, from.to_vec())..).peekable(), map, prefix }
    }

    fn key(&mut self) -> Option<&'f [u8]> {
        let next = self.rest.peek().filter(|((map, key), _)| *map == self.map && key.starts_with(self.prefix));
        next.map(|((_, key), _)| key.as_slice())
    }
}

/// The former value of a row, if it has one: that before the oldest write that changed it. Moves all writes past `key`.
fn former_at<'f>(former: &mut [Later<'f>], key: &[u8]) -> Option<Option<&'f [u8]>> {
    let mut oldest = None;
    for later in former {
        if later.key() == Some(key) {
            let value = later.rest.next().map(|(_, value)| value.as_deref());
            oldest = oldest.or(value);
        }
    }
    oldest
}

/// Shows the deleted rows with keys below `before`; without it, all remaining ones.
fn shown(
    former: &mut [Later<'_>],
    before: Option<&[u8]>,
    each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    loop {
        let next = former.iter_mut().filter_map(Later::key).min();
        let Some(key) = next.filter(|key| before.is_none_or(|before| *key < before)) else {
            return ControlFlow::Continue(());
        };
        if let Some(Some(value)) = former_at(former, key) {
            each(key, value)?;
        }
    }
}

impl StoredRows for CertifiedRows<'_> {
    fn scan_from(
        &self,
        map: MapId,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let stored = (map, map.level(level));
        self.as_it_was(stored, (from, &[]), &mut |each| self.view.scan_from(map, level, from, each), each)
    }
}

impl Rows for CertifiedRows<'_> {
    type Error = StoreError;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = (map, key.to_vec());
        match self.since(map).iter().find_map(|former| former.get(&row)) {
            Some(value) => Ok(value.clone()),
            None => self.view.get(map, key),
        }
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // Row by row, so that a reader that stops early has not loaded all of them.
        self.as_it_was((map, map), (prefix, prefix), &mut |each| self.view.scan(map, prefix, each), each)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn too_many_former_rows_leave_the_newest_state_only() {
        let former = |from: usize, count| -> Arc<Former> {
            Arc::new((from..from + count).map(|i| ((MapId([0; 8]), i.to_be_bytes().to_vec()), None)).collect())
        };
        let one = former_bytes(&(MapId([0; 8]), vec![0; 8]), None);
        let kept = |size, former: Arc<Former>| {
            let bytes = former.len() * one;
            KeptState { former, bytes, ..KeptState::new(size, LogMaps::default()) }
        };
        let mut log = KeptLog { kept: [kept(1, former(0, 50)), kept(2, former(50, 50))].into(), certificate: None };
        log.bound(100 * one);
        assert_eq!(log.kept.len(), 2);
        log.kept.push_back(kept(3, former(0, 1)));
        log.kept.push_back(kept(4, Arc::default()));
        log.bound(100 * one);
        assert_eq!(log.kept.iter().map(|kept| kept.size).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn what_merged_states_have_in_common_counts_once() {
        let former = |rows: std::ops::Range<u8>| -> Arc<Former> {
            Arc::new(rows.map(|i| ((MapId([0; 8]), vec![i]), Some(vec![0; 100]))).collect())
        };
        let one = former_bytes(&(MapId([0; 8]), vec![0]), Some(&vec![0; 100]));
        let kept = |size, former: Arc<Former>| {
            let bytes = former.len() * one;
            KeptState { former, bytes, ..KeptState::new(size, LogMaps::default()) }
        };
        let mut log = KeptLog { kept: [kept(1, former(0..10)), kept(2, former(5..12))].into(), certificate: None };
        log.merge_into_previous(1);
        assert_eq!((log.kept.len(), log.kept[0].bytes, log.kept[0].former.len()), (1, 12 * one, 12));
    }
}
