//! Folds other nodes' logs into the auditor's own store, without a running node.
use std::path::Path;
use std::sync::Arc;

use fama_ledger::batch::{BatchError, LogMaps};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::Outcome;
use fama_ledger::limits;
use fama_ledger::log::{Head, Tree};
use fama_ledger::manifest::{LogId, Manifest};

use super::check::replay_order;
use super::{Fatal, LogCopy, ReplayStop, batches, commits, replay, tiles_fault};
use crate::store::{Store, StoreError};

/// Opens or creates a store that uses `manifest`, or the later version that the folder already uses. Also returns the
/// version that the folder used before; 1 for a new folder.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Manifest`] if the folder has another text of a version.
pub fn open(dir: &Path, manifest: &Arc<Manifest>) -> Result<(Store, u32), StoreError> {
    let store = Store::open(dir, manifest)?;
    let before = store.manifest().version();
    if before >= manifest.version() {
        return Ok((store, before));
    }
    manifest.versions().filter(|version| version.version() > 1).try_for_each(|version| store.put_manifest(version))?;
    store.use_manifest(manifest.version())?;
    drop(store);
    Ok((Store::open(dir, manifest)?, before))
}

/// All logs, in an order in which every log comes after those whose maps it receives.
#[must_use]
pub fn order(manifest: &Manifest) -> Vec<LogId> {
    replay_order(manifest)
}

/// Why folding a log stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoldRefusal {
    /// A batch is invalid: the owner is at fault.
    Invalid {
        /// Index of the invalid entry; for a wrong state root, of the state entry.
        index: u64,
        /// The rule that it breaks.
        error: BatchError,
    },
    /// The log adopts a manifest version that this store does not hold.
    Unheld {
        /// Index of the adopting entry.
        index: u64,
        /// The adopted version.
        version: u32,
    },
}

/// Called for each folded entry, in order, with its index and its outcome if it has one.
pub type OnEntry<'e> = dyn FnMut(u64, &VerifiedEntry, Option<&Outcome>) + 'e;

/// Folds one log, batch by batch. Folded batches are durable; the store is consistent whenever this is dropped.
pub struct Auditor<'a> {
    store: &'a Store,
    log: LogId,
    copy: LogCopy,
    rest: Vec<VerifiedEntry>,
}

impl<'a> Auditor<'a> {
    /// Continues where the store ends. Not for a log that has reached its end under a manifest: its maps may
    /// have passed to other logs.
    ///
    /// # Errors
    /// [`Fatal`]: the disk failed or the folder is damaged.
    pub fn resume(store: &'a Store, log: &LogId) -> Result<Self, Fatal> {
        let view = store.view();
        let record = view.log(log)?.map(|record| record.state);
        let size = record.as_ref().map_or(0, |state| state.size);
        let tree = Tree::load(size, &view.tiles(log)).map_err(|error| tiles_fault(log, error))?;
        let maps = LogMaps::load(store.manifest(), log, &view).map_err(|error| Fatal::rows(log, error))?;
        let damaged = |what: &str| Fatal::Damaged { log: log.clone(), what: what.to_owned() };
        if let Some(state) = record {
            if tree.head().root != state.root {
                return Err(damaged("its tree does not match the stored root"));
            }
            if maps.state_root() != state.state_root {
                return Err(damaged("its rows do not match the stored state root"));
            }
        }
        Ok(Self { store, log: log.clone(), copy: LogCopy { tree, maps: Some(maps) }, rest: Vec::new() })
    }

    /// Size and root of the folded part of the log, which ends with a whole batch.
    #[must_use]
    pub fn head(&self) -> Head {
        self.copy.tree.head()
    }

    /// How many entries wait for the state entry that ends their batch.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.rest.len()
    }

    /// Takes the next entries, and folds and stores the whole batches among them. The rest waits for the next call.
    ///
    /// # Errors
    /// [`Fatal`]: this store failed, or this program has a bug. [`FoldRefusal`] says what is wrong with the log.
    pub fn take(
        &mut self,
        entries: Vec<VerifiedEntry>,
        each: &mut OnEntry<'_>,
    ) -> Result<Result<(), FoldRefusal>, Fatal> {
        let mut all = std::mem::take(&mut self.rest);
        all.extend(entries);
        let (whole, rest) = batches(all);
        let sizes: Vec<u64> = whole.iter().map(|batch| batch.len() as u64).collect();
        let (done, stop) = replay(self.store.manifest(), &self.log, &self.store.view(), &mut self.copy, whole)?;
        if !done.is_empty() {
            self.store.commit(&commits(&done, &[]))?;
            if let Some(maps) = &mut self.copy.maps {
                maps.trim(self.store.nodes_max());
            }
        }
        for one in &done {
            let outcomes = one.replayed.outcomes.iter().map(Option::as_ref).chain([None]);
            for ((index, entry), outcome) in (one.first..).zip(&one.entries).zip(outcomes) {
                each(index, entry, outcome);
            }
        }
        self.rest = rest;
        let first = self.copy.tree.size();
        let refused = match stop {
            Some(ReplayStop::Invalid(error)) => {
                let size = sizes.get(done.len()).copied().unwrap_or_default();
                Some(FoldRefusal::Invalid { index: index_of(&error, first, size), error })
            }
            Some(ReplayStop::Unheld(version)) => Some(FoldRefusal::Unheld { index: first, version }),
            None if self.rest.len() > limits::BATCH_ENTRIES_MAX => {
                Some(FoldRefusal::Invalid { index: first, error: BatchError::Shape })
            }
            None => None,
        };
        Ok(refused.map_or(Ok(()), Err))
    }
}

/// Index of the invalid entry in a batch of `size` entries that begins at `first`.
const fn index_of(error: &BatchError, first: u64, size: u64) -> u64 {
    match error {
        BatchError::Time { index, .. }
        | BatchError::Adopt { index }
        | BatchError::Early { index, .. }
        | BatchError::Kind { index, .. }
        | BatchError::Bytes { index, .. } => *index,
        BatchError::StateRoot { .. } => first.saturating_add(size).saturating_sub(1),
        BatchError::Shape => first,
    }
}
