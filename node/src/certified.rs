//! The states of logs that can be proven to strangers: each as it was at a head that a quorum cosigned.
//!
//! The copy of a log goes on while its newest heads are cosigned one by one. Its state maps are kept as they were at
//! the ends of the newest writes, and beside each the former values of the rows that the next write changed. Once one
//! of these states is certified it is the *front*, and what is older is dropped. Only the inbox writes here; the
//! listeners take a [`CertifiedRows`].
//!
//! Nothing here is on disk. After a start, a log whose copy is beyond its certificate has no front until the next.
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use fama_ledger::manifest::LogId;
use fama_ledger::profile::LogMaps;
use fama_ledger::replica::Certificate;
use fama_ledger::rows::{Changes, MapId, Rows};

use crate::store::{StoreError, View};

/// Most states kept of one log, the front and the newest included.
pub(crate) const STATES_MAX: usize = 32;
/// Most former values kept of one log's rows; beyond it there is no front until the next certificate.
pub(crate) const FORMER_ROWS_MAX: usize = 1 << 18;

/// Rows as they were before a write.
type Former = BTreeMap<(MapId, Vec<u8>), Option<Vec<u8>>>;

/// A log after a write.
struct KeptState {
    size: u64,
    maps: LogMaps,
    /// Of the rows that the next write changed, or is about to change.
    former: Arc<Former>,
}

/// One log.
struct KeptLog {
    /// Oldest first, at least one; the last is the newest write's.
    kept: VecDeque<KeptState>,
    /// Of the oldest.
    certificate: Option<Arc<Certificate>>,
}

#[derive(Default)]
struct AllLogs {
    going: BTreeMap<LogId, KeptLog>,
    /// Logs that were cut, as they were there, as long as another has not taken all of their maps on.
    cut: BTreeMap<LogId, Arc<LogMaps>>,
}

/// All logs. Dropped with the inbox: what is loaded anew begins anew.
#[derive(Default)]
pub struct CertifiedStates(RwLock<AllLogs>);

/// A log at its front.
pub struct Front {
    /// The head, and who cosigned it.
    pub certificate: Arc<Certificate>,
    /// Its maps there.
    pub maps: LogMaps,
    /// Of each write since then the rows' former values, oldest first.
    since: Vec<Arc<Former>>,
    /// The maps that the log carries now.
    carried: Vec<MapId>,
}

/// All fronts, and the rows at them.
pub struct CertifiedRows<'a> {
    view: &'a View<'a>,
    /// The logs that go on and have a front.
    pub fronts: BTreeMap<LogId, Front>,
    /// Maps that are still those of a log that was cut.
    pub cut: BTreeMap<LogId, Arc<LogMaps>>,
    /// By map, whose front has its former rows.
    carriers: BTreeMap<MapId, LogId>,
}

impl CertifiedStates {
    fn write(&self) -> RwLockWriteGuard<'_, AllLogs> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with the state that the disk holds.
    pub(crate) fn begin(&self, log: &LogId, size: u64, maps: &LogMaps) {
        let kept = VecDeque::from([KeptState { size, maps: maps.clone(), former: Arc::default() }]);
        self.write().going.insert(log.clone(), KeptLog { kept, certificate: None });
    }

    /// Keeps a cut log's maps, as they were there, for the log that has not taken them on yet.
    pub(crate) fn begin_cut(&self, log: &LogId, maps: LogMaps) {
        self.write().cut.insert(log.clone(), Arc::new(maps));
    }

    /// Keeps rows as they are before they change. To be called before a write can be seen.
    ///
    /// # Errors
    /// [`StoreError`]; then the write must not be made.
    pub(crate) fn before<'c>(
        &self,
        log: &LogId,
        changes: impl IntoIterator<Item = &'c Changes>,
        view: &View<'_>,
    ) -> Result<(), StoreError> {
        let newest = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(maps) = newest.going.get(log).and_then(|log| Some(log.kept.back()?.maps.clone())) else {
            return Ok(());
        };
        drop(newest);
        let mut former = Former::new();
        for (map, key) in changes.into_iter().flat_map(Changes::keys) {
            let row = (*map, key.clone());
            if former.contains_key(&row) {
                continue;
            }
            // Most rows that a write makes are new: the map knows that without the disk. A map that is not there yet
            // passes to the log by this write.
            let absent = maps.get(*map).is_some_and(|map| map.get(key).is_none());
            former.insert(row, if absent { None } else { view.get(*map, key)? });
        }
        if let Some(newest) = self.write().going.get_mut(log).and_then(|log| log.kept.back_mut()) {
            newest.former = Arc::new(former);
        }
        Ok(())
    }

    /// Keeps the state after a write.
    pub(crate) fn after(&self, log: &LogId, size: u64, maps: &LogMaps) {
        if let Some(log) = self.write().going.get_mut(log) {
            log.kept.push_back(KeptState { size, maps: maps.clone(), former: Arc::default() });
            log.bound();
        }
    }

    /// Makes the state at this head the front, if it is kept.
    pub(crate) fn certified(&self, log: &LogId, certificate: &Certificate) {
        let (mut logs, size) = (self.write(), certificate.head().size);
        let Some(log) = logs.going.get_mut(log) else { return };
        let Some(at) = log.kept.iter().position(|kept| kept.size == size) else { return };
        log.kept.drain(..at);
        log.certificate = Some(Arc::new(certificate.clone()));
        logs.drop_taken();
    }

    /// How many states of a log are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self, log: &LogId) -> usize {
        self.write().going.get(log).map_or(0, |log| log.kept.len())
    }

    /// The fronts, with the rows at them, which are read from `view`.
    ///
    /// # Errors
    /// [`StoreError`]. `None` if the fronts have overtaken the view: open another.
    pub fn state<'a>(&self, view: &'a View<'a>) -> Result<Option<CertifiedRows<'a>>, StoreError> {
        let logs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fronts = logs.going.iter().filter_map(|(id, log)| Some((id.clone(), log.front()?)));
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

impl KeptLog {
    fn front(&self) -> Option<Front> {
        let (certificate, oldest, newest) = (self.certificate.clone()?, self.kept.front()?, self.kept.back()?);
        let since = self.kept.iter().map(|kept| Arc::clone(&kept.former)).collect();
        let carried = newest.maps.iter().map(|(_, id, _)| id).collect();
        Some(Front { certificate, maps: oldest.maps.clone(), since, carried })
    }

    /// Leaves out every other state between the oldest and the newest when there are too many, and all but the newest
    /// when their rows are too many.
    fn bound(&mut self) {
        if self.kept.len() > STATES_MAX {
            for at in (1..self.kept.len() - 1).rev().step_by(2) {
                self.leave_out(at);
            }
        }
        let rows: usize = self.kept.iter().map(|kept| kept.former.len()).sum();
        if rows > FORMER_ROWS_MAX {
            let older = self.kept.len() - 1;
            self.kept.drain(..older);
            self.certificate = None;
        }
    }

    /// What changed behind a state that is left out changed behind the one before it.
    fn leave_out(&mut self, at: usize) {
        let Some(gone) = self.kept.remove(at) else { return };
        if let Some(before) = at.checked_sub(1).and_then(|at| self.kept.get_mut(at)) {
            let former = Arc::make_mut(&mut before.former);
            for (row, value) in gone.former.iter() {
                former.entry(row.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

impl AllLogs {
    /// Forgets cut logs all of whose maps, but that of itself, are at the front of another.
    fn drop_taken(&mut self) {
        let Self { going, cut } = self;
        let taken = |map: MapId| {
            let mut fronts = going.values().filter(|log| log.certificate.is_some()).filter_map(|log| log.kept.front());
            fronts.any(|front| front.maps.get(map).is_some())
        };
        cut.retain(|_, maps| maps.iter().any(|(name, id, _)| name != "log" && !taken(id)));
    }
}

impl CertifiedRows<'_> {
    /// Shows each row of a map as it was at its front, with a key not before `from`, to `each`, in order, until it
    /// breaks. Reads no more than it shows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_from(
        &self,
        map: MapId,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut former: Vec<_> = self.since(map).iter().map(|former| Later::new(former, map, from)).collect();
        let mut ended = false;
        self.view.rows_from(map, from, &mut |key, value| {
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

/// Former values of one write that are still to come in a walk.
struct Later<'f>(Peekable<btree_map::Range<'f, (MapId, Vec<u8>), Option<Vec<u8>>>>, MapId);

impl<'f> Later<'f> {
    fn new(former: &'f Former, map: MapId, from: &[u8]) -> Self {
        Self(former.range((map, from.to_vec())..).peekable(), map)
    }

    fn key(&mut self) -> Option<&'f [u8]> {
        self.0.peek().filter(|((map, _), _)| *map == self.1).map(|((_, key), _)| key.as_slice())
    }
}

/// The former value of a row, if it has one: that of the oldest write that changed it. No write has it to come then.
fn former_at<'f>(former: &mut [Later<'f>], key: &[u8]) -> Option<Option<&'f [u8]>> {
    let mut oldest = None;
    for later in former {
        if later.key() == Some(key) {
            let value = later.0.next().map(|(_, value)| value.as_deref());
            oldest = oldest.or(value);
        }
    }
    oldest
}

/// Shows the rows that are there no more and come before `key`.
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
        let mut rows = BTreeMap::new();
        self.view.scan(map, prefix, &mut |key, value| {
            rows.insert(key.to_vec(), Some(value.to_vec()));
            ControlFlow::Continue(())
        })?;
        // The oldest of a row's former values is the one at the front.
        for former in self.since(map).iter().rev() {
            let below = former.range((map, prefix.to_vec())..);
            let below = below.take_while(|((id, key), _)| *id == map && key.starts_with(prefix));
            rows.extend(below.map(|((_, key), value)| (key.clone(), value.clone())));
        }
        for (key, value) in &rows {
            let Some(value) = value else { continue };
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
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
        let kept = |size, former| KeptState { size, maps: LogMaps::default(), former };
        let half = FORMER_ROWS_MAX / 2;
        let mut log =
            KeptLog { kept: [kept(1, former(0, half)), kept(2, former(half, half))].into(), certificate: None };
        log.bound();
        assert_eq!(log.kept.len(), 2);
        log.kept.push_back(kept(3, former(0, 1)));
        log.kept.push_back(kept(4, Arc::default()));
        log.bound();
        assert_eq!(log.kept.iter().map(|kept| kept.size).collect::<Vec<_>>(), [4]);
    }
}
