//! Rollbacks: a log goes back to a smaller size, in pieces, while the other logs are served.
//!
//! ```text
//! 1. begin   one write: the record of the rollback is there; heads, records and rows of its logs are gone
//! 2. drop    one write for each piece, last entries first: an entry goes, its event is kept aside
//! 3. replay  one write: the tiles are gone; then each commit adds whole batches again, from the first entry on
//! 4. end     one write: the record of the rollback is gone
//! ```
//!
//! Each write is atomic and synced. After a crash between any two of them, the next start continues with what is left.
//! From the first write on the log reads as empty, and from the third on as one that grows.
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bincode::{Decode, Encode};
use fama_ledger::event::Action;
use fama_ledger::id::EventId;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::profile::LogMaps;
use fama_ledger::rows::MapId;

use super::engine::WriteBatch;
use super::keys::{self, Family, META_ROLLBACK, log8};
use super::{Dropped, History, HistoryItem, Store, StoreError, Touch, View};
use crate::wire::{RESPONSE_BYTES_MAX, SignedHead};

/// Longest record of how far a log went back: two numbers.
const REWOUND_BYTES_MAX: usize = 32;

/// A log that goes back to a smaller size.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RolledBack {
    /// The log.
    pub log: LogId,
    /// How many entries stay.
    pub size: u64,
    /// The largest head that the owner signed above entries that go: their events keep a proof to it.
    pub signed: Option<SignedHead>,
}

/// How far a rollback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RollbackStep {
    /// Entries are being dropped.
    Drop,
    /// Entries are being replayed from the first one on.
    Replay,
}

/// A rollback that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rollback {
    /// The logs that go back.
    pub back: Vec<RolledBack>,
    /// All logs to replay: those, and the logs that received maps from them or passed maps to them. The maps of any
    /// other log follow from its own entries alone.
    pub logs: Vec<LogId>,
    /// How far it is.
    pub step: RollbackStep,
}

/// An entry to drop.
pub struct DroppedEntry {
    /// Its time, log and index.
    pub at: HistoryItem,
    /// Its event and what is kept of it; `None` if it has no event.
    pub event: Option<(EventId, Action, Dropped)>,
}

impl View<'_> {
    /// The rollbacks that are not finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rollbacks(&self) -> Result<&[Rollback], StoreError> {
        // Looked up in the snapshot only if there may be one. `begin_rollback` raises the flag before it writes.
        if !self.store().rolls_back.load(Ordering::SeqCst) {
            return Ok(&[]);
        }
        if let Some(found) = self.rollbacks.get() {
            return Ok(found);
        }
        let found = self.value(Family::Meta, META_ROLLBACK, RESPONSE_BYTES_MAX)?.unwrap_or_default();
        Ok(self.rollbacks.get_or_init(|| found))
    }

    /// The smallest size to which `log` ever went back, and the largest that it had before that: who was told of entries
    /// between them may have been told of other ones.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rewound(&self, log: &LogId) -> Result<Option<(u64, u64)>, StoreError> {
        self.value(Family::Meta, &keys::rewound(log), REWOUND_BYTES_MAX)
    }

    /// Whether a rollback was begun and not finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn needs_rebuild(&self) -> Result<bool, StoreError> {
        Ok(!self.rollbacks()?.is_empty())
    }

    /// Whether `log` is being rolled back, or replayed because another one is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_rolled_back(&self, log: &LogId) -> Result<bool, StoreError> {
        Ok(self.rollbacks()?.iter().any(|rollback| rollback.logs.contains(log)))
    }

    /// The size that `log` will have once its rollback is over; `None` if it is not being rolled back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn size_after_rollback(&self, log: &LogId) -> Result<Option<u64>, StoreError> {
        let Some(rollback) = self.rollbacks()?.iter().find(|rollback| rollback.logs.contains(log)) else {
            return Ok(None);
        };
        match rollback.back.iter().find(|back| back.log == *log) {
            Some(back) => Ok(Some(back.size)),
            None => Ok(Some(self.last_entry(log)?.map_or(0, |(index, _)| index.saturating_add(1)))),
        }
    }

    /// Whether an entry that an index names is below the size of its log: until its log is replayed that far, the
    /// index is ahead of it.
    pub(super) fn holds(&self, log: &LogId, index: u64) -> Result<bool, StoreError> {
        Ok(!self.is_rolled_back(log)? || self.log(log)?.is_some_and(|record| index < record.state.size))
    }

    /// Removes the items whose entries [`View::holds`] does not.
    pub(super) fn only_held<T>(&self, found: &mut Vec<T>, at: fn(&T) -> (&LogId, u64)) -> Result<(), StoreError> {
        if !self.needs_rebuild()? {
            return Ok(());
        }
        let mut held = Vec::new();
        for item in found.drain(..) {
            let (log, index) = at(&item);
            if self.holds(log, index)? {
                held.push(item);
            }
        }
        *found = held;
        Ok(())
    }
}

/// The maps that a log ever carried.
fn maps_of(manifest: &Manifest, log: &LogId) -> BTreeSet<MapId> {
    let names = manifest.versions().flat_map(|version| LogMaps::names(version, log));
    names.map(|name| name.id()).collect()
}

/// `log`, and all logs that it is connected with by maps that passed from one to the other.
pub(super) fn connected(manifest: &Manifest, log: &LogId) -> BTreeSet<LogId> {
    let (mut logs, mut maps) = (BTreeSet::from([log.clone()]), maps_of(manifest, log));
    loop {
        let before = logs.len();
        for other in manifest.logs().keys() {
            let theirs = maps_of(manifest, other);
            if !logs.contains(other) && !theirs.is_disjoint(&maps) {
                logs.insert(other.clone());
                maps.extend(theirs);
            }
        }
        if logs.len() == before {
            return logs;
        }
    }
}

/// Removes what a dropped entry's event is indexed by. The replay writes what entries that stay give again.
fn forget_event(
    view: &View<'_>,
    batch: &mut WriteBatch<'_>,
    at: &HistoryItem,
    (id, action): (&EventId, &Action),
) -> Result<(), StoreError> {
    let (histories, touch): (&[_], _) = match action {
        Action::Register { .. } => (&[(*id, History::Keys)], Some((*id, Touch::Subject))),
        Action::Rotate { identity, .. } | Action::Revoke { identity, .. } => {
            (&[(*identity, History::Keys)], Some((*identity, Touch::Subject)))
        }
        Action::Attest { issuer, subject, .. } | Action::Retract { issuer, subject, .. } => {
            (&[(*subject, History::Received), (*issuer, History::Given)], Some((*subject, Touch::Subject)))
        }
        Action::Admit { provider, .. } | Action::Dismiss { provider, .. } => {
            (&[(*provider, History::Stated)], Some((*provider, Touch::Sponsorship)))
        }
        Action::Grant { issuer, .. } | Action::Ungrant { issuer, .. } => (&[(*issuer, History::Access)], None),
        Action::Suspend { identity, .. } | Action::Resume { identity, .. } => {
            (&[(*identity, History::Access)], Some((*identity, Touch::Subject)))
        }
    };
    for (identity, history) in histories {
        batch.delete(Family::History, [keys::history(identity, *history), keys::history_item(at)].concat());
    }
    if let Some((identity, touch)) = touch {
        batch.delete(Family::Touched, [keys::touched(&identity, touch).as_slice(), &log8(&at.log)].concat());
    }
    let key = keys::event(id, &at.log);
    let Some((_, void)) = view.indexed(&key)?.filter(|(index, _)| *index == at.index) else { return Ok(()) };
    batch.delete(Family::Events, key);
    if void.is_some() {
        // It wrote nothing: the same event may be applied in the log of its home.
        return Ok(());
    }
    match action {
        Action::Attest { issuer, subject, .. } => batch.delete(Family::Given, keys::given(issuer, subject)),
        Action::Grant { issuer, subject, .. } | Action::Ungrant { issuer, subject, .. } => {
            batch.delete(Family::Search, keys::granted(subject, issuer));
        }
        Action::Register { name, key, .. } => {
            batch.delete(Family::Search, keys::search_name(name, id));
            keys::search_key(key, id).into_iter().for_each(|key| batch.delete(Family::Search, key));
        }
        Action::Rotate { identity, key, .. } => {
            keys::search_key(key, identity).into_iter().for_each(|key| batch.delete(Family::Search, key));
        }
        _ => {}
    }
    Ok(())
}

impl Store {
    /// Reads whether a rollback is unfinished.
    pub(super) fn find_rollbacks(&self) -> Result<(), StoreError> {
        let found = self.view().has(Family::Meta, META_ROLLBACK)?;
        self.rolls_back.store(found, Ordering::SeqCst);
        Ok(())
    }

    /// Begins to roll `back` a log. From here on it reads as empty, and what its owner signed is forgotten, but not
    /// what others cosigned. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn begin_rollback(&self, back: RolledBack) -> Result<(), StoreError> {
        let _writing = self.lock();
        let view = self.view();
        let (log, size) = (back.log.clone(), back.size);
        let certificate = view.certificate(&log)?.filter(|certificate| certificate.signed.head.size > size);
        let mut all = view.rollbacks()?.to_vec();
        match all.iter_mut().find(|known| known.logs.contains(&log)) {
            Some(known) if known.step == RollbackStep::Drop && known.back.iter().all(|known| known.log != log) => {
                known.back.push(back);
            }
            // Nobody can tell yet where this log will be: once it is there, it may go back again.
            Some(_) => return Ok(()),
            None => {
                let logs = connected(&self.manifest, &log).into_iter().collect();
                all.push(Rollback { back: vec![back], logs, step: RollbackStep::Drop });
            }
        }
        let mut batch = self.batch();
        // How far a log is final follows from no entry: that record stays.
        for log in all.iter().flat_map(|rollback| &rollback.logs) {
            batch.delete(Family::Logs, keys::log_state(log));
            batch.delete(Family::Logs, keys::log_adopted(log));
            for map in maps_of(&self.manifest, log).into_iter().flat_map(MapId::levels) {
                batch.delete_prefix(Family::Rows, &map.0);
            }
        }
        Self::forget_scores(&mut batch);
        Self::rewind_webhooks(&mut batch, &view, &log, size)?;
        let had = view.last_entry(&log)?.map_or(0, |(index, _)| index.saturating_add(1));
        let before = view.rewound(&log)?;
        let rewound = before.map_or((size, had), |(least, most)| (least.min(size), most.max(had)));
        Self::put(&mut batch, Family::Meta, &keys::rewound(&log), &rewound);
        Self::count_changes(&mut batch, &view, true, true)?;
        for key in [log8(&log).to_vec(), keys::conflicting(&log)] {
            batch.delete(Family::Heads, key);
        }
        // A certificate within what stays is kept: it may be all that shows how far this log is final.
        if certificate.is_some() {
            batch.delete(Family::Heads, keys::certificate(&log));
        }
        Self::put(&mut batch, Family::Meta, META_ROLLBACK, &all);
        self.rolls_back.store(true, Ordering::SeqCst);
        self.write(batch, true)?;
        self.rollbacks_begun.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// How many rollbacks were begun since this store was opened.
    #[must_use]
    pub fn rollbacks_begun(&self) -> u64 {
        self.rollbacks_begun.load(Ordering::SeqCst)
    }

    /// Drops entries, which must be the last ones of their log, and keeps their events aside. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn drop_entries(&self, entries: &[DroppedEntry]) -> Result<(), StoreError> {
        let _writing = self.lock();
        let (view, mut batch) = (self.view(), self.batch());
        for DroppedEntry { at, event } in entries {
            batch.delete(Family::Entries, keys::entry(&at.log, at.index));
            if let Some((id, action, dropped)) = event {
                forget_event(&view, &mut batch, at, (id, action))?;
                Self::put(&mut batch, Family::Dropped, &id.0, dropped);
            }
        }
        self.write(batch, true)
    }

    /// All entries of a rollback that go are gone: from here on its logs are replayed. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn begin_replay(&self, rollback: &Rollback) -> Result<(), StoreError> {
        let _writing = self.lock();
        let mut all = self.view().rollbacks()?.to_vec();
        all.iter_mut().filter(|known| *known == rollback).for_each(|known| known.step = RollbackStep::Replay);
        let mut batch = self.batch();
        for log in &rollback.logs {
            batch.delete_prefix(Family::Tiles, &log8(log));
        }
        Self::put(&mut batch, Family::Meta, META_ROLLBACK, &all);
        self.write(batch, true)
    }

    /// A rollback is finished: its logs are what their entries make them. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn end_rollback(&self, rollback: &Rollback) -> Result<(), StoreError> {
        let _writing = self.lock();
        let mut all = self.view().rollbacks()?.to_vec();
        all.retain(|known| known != rollback);
        let mut batch = self.batch();
        if all.is_empty() {
            batch.delete(Family::Meta, META_ROLLBACK);
        } else {
            Self::put(&mut batch, Family::Meta, META_ROLLBACK, &all);
        }
        self.write(batch, true)
    }
}
