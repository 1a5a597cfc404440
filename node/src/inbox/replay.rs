//! Whole batches of one log, replayed in memory and made ready for one write.
use fama_ledger::batch::{self, BatchError, ReplayError};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::id::NoteHash;
use fama_ledger::join::LogState;
use fama_ledger::log;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::replica::Adopted;
use fama_ledger::rows::Overlay;

use super::{Copy, Fatal};
use crate::store::{Commit, View};

/// A batch that was replayed and waits for the disk.
pub(super) struct Done {
    pub(super) state: LogState,
    pub(super) first: u64,
    pub(super) entries: Vec<VerifiedEntry>,
    pub(super) replayed: batch::Replayed,
    tiles: Vec<log::TileWrite>,
}

/// Why a batch was not taken.
pub(super) enum Stop {
    /// No valid log has it.
    Invalid(BatchError),
    /// It adopts a version that is not in use here.
    Unheld(u32),
}

/// What a batch adopts that ends at `size`.
pub(super) fn adopted(entries: &[VerifiedEntry], size: u64) -> Vec<Adopted> {
    entries.first().and_then(VerifiedEntry::adopts).map(|version| Adopted { version, size }).into_iter().collect()
}

/// Replays batches one after the other, up to the first that cannot be taken; `copy` grows by those before it,
/// and the disk has to follow. A log that was cut has no maps in a running node, and takes nothing.
pub(super) fn replay(
    manifest: &Manifest,
    log: &LogId,
    view: &View<'_>,
    copy: &mut Copy,
    batches: Vec<Vec<VerifiedEntry>>,
) -> Result<(Vec<Done>, Option<Stop>), Fatal> {
    let Some(maps) = &mut copy.maps else { return Ok((Vec::new(), None)) };
    let mut rows: Overlay<'_, View<'_>> = Overlay::new(view);
    let mut done = Vec::new();
    for entries in batches {
        let first = copy.tree.size();
        match batch::replay(manifest, log, &rows, maps, first, &entries) {
            Ok(replayed) => {
                rows.absorb(&replayed.folded.changes);
                let tiles = copy.tree.append(entries.iter().map(|entry| log::leaf_hash(entry.bytes())));
                let (head, state_root) = (copy.tree.head(), replayed.folded.state_root);
                let state = LogState { log: log.clone(), size: head.size, root: head.root, state_root };
                done.push(Done { state, first, entries, replayed, tiles });
            }
            Err(ReplayError::Invalid(invalid)) => return Ok((done, Some(Stop::Invalid(invalid)))),
            Err(ReplayError::Unheld(version)) => return Ok((done, Some(Stop::Unheld(version)))),
            Err(ReplayError::Rows(error)) => return Err(Fatal::rows(log, error)),
        }
    }
    Ok((done, None))
}

/// One write of all of them.
pub(super) fn commits<'a>(done: &'a [Done], notes: &'a [(NoteHash, String)]) -> Vec<Commit<'a>> {
    let commit = |done: &'a Done| Commit {
        state: done.state.clone(),
        first: done.first,
        entries: &done.entries,
        outcomes: &done.replayed.outcomes,
        tiles: done.tiles.clone(),
        changes: &done.replayed.folded.changes,
        notes,
    };
    done.iter().map(commit).collect()
}

/// Cuts entries behind each state entry; what follows the last one is left over.
pub(super) fn batches(entries: Vec<VerifiedEntry>) -> (Vec<Vec<VerifiedEntry>>, Vec<VerifiedEntry>) {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    for entry in entries {
        let ends = entry.is_state();
        batch.push(entry);
        if ends {
            batches.push(std::mem::take(&mut batch));
        }
    }
    (batches, batch)
}
