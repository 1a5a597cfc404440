//! Rolls logs back to a smaller size, a piece at a time: drops their entries, then replays what stays. All that it needs
//! to continue after a crash is on disk; see `store/rollback.rs` for the order of the writes.
use std::collections::BTreeMap;
use std::sync::Arc;

use fama_ledger::batch::LogMaps;
use fama_ledger::checkpoint::{self, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry, VerifiedEntry};
use fama_ledger::limits::{BATCH_ENTRIES_MAX, ENTRY_BYTES_MAX};
use fama_ledger::log::{self, Tree};
use fama_ledger::manifest::LogId;
use fama_ledger::proof::TlogProof;

use super::check::replay_order;
use super::{Fatal, LogCopy, ReplayStop, ReplayedBatch, batches, commits, replay, tiles_fault};
use crate::health::RollbackProgress;
use crate::store::{Dropped, DroppedEntry, HistoryItem, Rollback, RollbackStep, RolledBack, Store, View};
use crate::verify;

/// At most this many entries are dropped, or read to be replayed, in one piece.
const PIECE_ENTRIES: usize = 256;

/// What a step did.
pub(crate) enum StepEnd {
    /// Something, with the batches that it replayed; there is more to do.
    More(Vec<ReplayedBatch>),
    /// Nothing: no rollback is left.
    Done,
}

/// Runs all unfinished rollbacks of a store.
pub(crate) struct RollbackRun {
    /// At most this many entries in one piece: [`PIECE_ENTRIES`], but fewer in tests.
    pub(crate) piece: usize,
    /// The log that is being replayed, and its entries after the last whole batch.
    open: Option<(LogId, LogCopy, Vec<VerifiedEntry>)>,
    /// Where the entries of each log end now: on disk, finding the last one means to pass all that were deleted.
    ends: BTreeMap<LogId, u64>,
}

/// The size of a log after its last whole batch of at most `size` entries.
///
/// # Errors
/// [`Fatal`].
pub(crate) fn batch_end(view: &View<'_>, log: &LogId, size: u64) -> Result<u64, Fatal> {
    let first = size.saturating_sub(BATCH_ENTRIES_MAX as u64 + 1);
    let count = usize::try_from(size - first).unwrap_or(usize::MAX);
    if count == 0 {
        return Ok(0);
    }
    let entries = view.entries(log, first, count, usize::MAX)?;
    let ends =
        |entry: &Vec<u8>| matches!(codec::decode(entry, ENTRY_BYTES_MAX), Ok(Entry { body: Body::State { .. }, .. }));
    Ok(entries.iter().rposition(ends).map_or(0, |at| first + at as u64 + 1))
}

impl Default for RollbackRun {
    fn default() -> Self {
        Self { piece: PIECE_ENTRIES, open: None, ends: BTreeMap::new() }
    }
}

impl RollbackRun {
    /// Does the next piece.
    ///
    /// # Errors
    /// [`Fatal`]; the next start continues.
    pub(crate) fn step(&mut self, store: &Store) -> Result<StepEnd, Fatal> {
        let Some(rollback) = store.view().rollbacks()?.first().cloned() else { return Ok(StepEnd::Done) };
        match rollback.step {
            RollbackStep::Drop => self.drop_piece(store, &rollback).map(|()| StepEnd::More(Vec::new())),
            RollbackStep::Replay => self.replay_piece(store, &rollback).map(StepEnd::More),
        }
    }

    fn replay_piece(&mut self, store: &Store, rollback: &Rollback) -> Result<Vec<ReplayedBatch>, Fatal> {
        let manifest = Arc::clone(store.manifest());
        let view = store.view();
        let (log, mut copy, mut rest) = match self.open.take() {
            Some(open) => open,
            None => match self.next(&view, rollback)? {
                Some((log, copy)) => (log, copy, Vec::new()),
                None => {
                    drop(view);
                    store.end_rollback(rollback)?;
                    return Ok(Vec::new());
                }
            },
        };
        let at = copy.tree.size() + rest.len() as u64;
        let damaged = |what: String| Fatal::Damaged { log: log.clone(), what };
        let read = view.entries(&log, at, self.piece, self.piece * ENTRY_BYTES_MAX)?;
        if read.is_empty() {
            // The next step finds the next log.
            return if rest.is_empty() { Ok(Vec::new()) } else { Err(damaged(format!("no state entry after {at}"))) };
        }
        let (decoded, fault) = verify::decode_all(read, &manifest.federation());
        if let Some(error) = fault {
            return Err(damaged(format!("an entry from {at} on: {error}")));
        }
        rest.extend(decoded);
        let (whole, rest) = batches(rest);
        let (done, stop) = replay(&manifest, &log, &view, &mut copy, whole)?;
        drop(view);
        // Whole batches in one synced write, with the size that they lead to: after a crash the replay continues there.
        store.commit(&commits(&done, &[]))?;
        if let Some(maps) = &mut copy.maps {
            maps.trim(store.nodes_max());
        }
        let size = copy.tree.size();
        match stop {
            None => {}
            Some(ReplayStop::Invalid(error)) => return Err(damaged(format!("batch from {size}: {error}"))),
            Some(ReplayStop::Unheld(version)) => {
                return Err(damaged(format!("batch from {size} adopts version {version}, which is not held")));
            }
        }
        self.open = Some((log, copy, rest));
        Ok(done)
    }

    /// The first log of a rollback that has entries to replay, as far as it was replayed before.
    fn next(&mut self, view: &View<'_>, rollback: &Rollback) -> Result<Option<(LogId, LogCopy)>, Fatal> {
        let manifest = view.store().manifest();
        for log in replay_order(manifest).into_iter().filter(|log| rollback.logs.contains(log)) {
            let size = view.log(&log)?.map_or(0, |record| record.state.size);
            if size >= self.end(view, &log)? {
                continue;
            }
            let tree = Tree::load(size, &view.tiles(&log)).map_err(|error| tiles_fault(&log, error))?;
            let maps = LogMaps::load(manifest, &log, view).map_err(|error| Fatal::rows(&log, error))?;
            return Ok(Some((log, LogCopy { tree, maps: Some(maps) })));
        }
        Ok(None)
    }

    /// Drops the last entries of the first log that still has some to drop, or ends the dropping.
    fn drop_piece(&mut self, store: &Store, rollback: &Rollback) -> Result<(), Fatal> {
        let view = store.view();
        for back in &rollback.back {
            let end = self.end(&view, &back.log)?;
            if end > back.size {
                let first = end.saturating_sub(self.piece as u64).max(back.size);
                store.drop_entries(&dropped(&view, back, (first, end))?)?;
                self.ends.insert(back.log.clone(), first);
                return Ok(());
            }
        }
        Ok(store.begin_replay(rollback)?)
    }

    /// How many entries a log has on disk; its record counts only those that were replayed.
    fn end(&mut self, view: &View<'_>, log: &LogId) -> Result<u64, Fatal> {
        if let Some(end) = self.ends.get(log) {
            return Ok(*end);
        }
        let end = view.last_entry(log)?.map_or(0, |(last, _)| last + 1);
        self.ends.insert(log.clone(), end);
        Ok(end)
    }

    /// What a node shows of its rollbacks; `None` without one.
    ///
    /// # Errors
    /// [`Fatal`].
    pub(crate) fn progress(&mut self, view: &View<'_>) -> Result<Option<RollbackProgress>, Fatal> {
        let Some(rollback) = view.rollbacks()?.first() else { return Ok(None) };
        let Some(first) = rollback.back.first() else { return Ok(None) };
        let (mut left, log) = (0, first.log.clone());
        if rollback.step == RollbackStep::Drop {
            for back in &rollback.back {
                left += self.end(view, &back.log)?.saturating_sub(back.size);
            }
            return Ok(Some(RollbackProgress { log, phase: "dropping", left }));
        }
        for log in &rollback.logs {
            let size = view.log(log)?.map_or(0, |record| record.state.size);
            left += self.end(view, log)?.saturating_sub(size);
        }
        Ok(Some(RollbackProgress { log, phase: "replaying", left }))
    }
}

/// Entries of a log that goes back, each event with a proof to the head that its owner signed, if there is one.
fn dropped(view: &View<'_>, back: &RolledBack, (first, end): (u64, u64)) -> Result<Vec<DroppedEntry>, Fatal> {
    let (log, manifest) = (&back.log, view.store().manifest());
    let owner = manifest.log(log).ok_or(Fatal::Internal("a log of the manifest is known"))?.node_key;
    let signed = back.signed.clone().and_then(|signed| signed.verify(manifest, log).ok());
    let tiles = view.tiles(log);
    let count = usize::try_from(end - first).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for (index, bytes) in (first..).zip(view.entries(log, first, count, usize::MAX)?) {
        let broken = |error| Fatal::Damaged { log: log.clone(), what: format!("entry {index}: {error}") };
        let entry: Entry = codec::decode(&bytes, ENTRY_BYTES_MAX).map_err(broken)?;
        let at = HistoryItem { time: entry.time, log: log.clone(), index };
        let Body::Event(event) = entry.body else {
            found.push(DroppedEntry { at, event: None });
            continue;
        };
        let above = |signed: &&SignedCheckpoint| index < signed.checkpoint().head.size;
        let prove = |signed: &SignedCheckpoint| {
            let path = log::prove_inclusion(index, signed.checkpoint().head.size, &tiles)?;
            Ok(TlogProof { extra: None, index, path, checkpoint: checkpoint::note(signed, &owner, &[]) }.to_string())
        };
        let proof = signed.as_ref().filter(above).map(prove).transpose().map_err(|error| tiles_fault(log, error))?;
        let dropped = Dropped { log: log.clone(), entry: bytes, proof };
        found.push(DroppedEntry { at, event: Some((event.event.id(), event.event.action, dropped)) });
    }
    Ok(found)
}
