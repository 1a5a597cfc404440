//! Folds existing entries again: whole batches of one log, prepared for one write.
//!
//! The inbox replays entries of other nodes, [`check`] those of a data folder, [`audit`] those that an auditor fetched.
use fama_ledger::adoption::Adopted;
use fama_ledger::batch::{self, BatchError, LogMaps, ReplayError};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::id::NoteHash;
use fama_ledger::join::LogState;
use fama_ledger::log::{self, LogError, Tree};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::{Overlay, RowError};

use crate::store::{Commit, StoreError, View};

pub mod audit;
pub mod check;
pub(crate) mod rollback;

/// Why the inbox, and with it the node, stops. The disk is left unchanged; a restart recovers.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The store failed or is damaged.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A stored row or tile differs from what was written.
    #[error("log {log}: {what}; the data folder is damaged: keep a copy of it, then run `fama check --repair`")]
    Damaged {
        /// The log with the damage.
        log: LogId,
        /// The contradiction that was found.
        what: String,
    },
    /// A bug: an invariant of this program, stated in the message, does not hold.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Fatal {
    /// A stable snake_case code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Damaged { .. } => "damaged",
            Self::Internal(_) => "internal",
        }
    }

    pub(crate) fn rows(log: &LogId, error: RowError<StoreError>) -> Self {
        match error {
            RowError::Storage(error) => Self::Store(error),
            error => Self::Damaged { log: log.clone(), what: error.to_string() },
        }
    }
}

/// The tree and maps of a log in memory, equal to those on disk.
pub(crate) struct LogCopy {
    pub(crate) tree: Tree,
    /// `None` for a log that was cut: other logs have its maps.
    pub(crate) maps: Option<LogMaps>,
}

/// A replayed batch that is not on disk yet.
pub(crate) struct ReplayedBatch {
    pub(crate) state: LogState,
    pub(crate) first: u64,
    pub(crate) entries: Vec<VerifiedEntry>,
    pub(crate) replayed: batch::Replayed,
    tiles: Vec<log::TileWrite>,
}

/// Why a replay stopped at a batch.
pub(crate) enum ReplayStop {
    /// The batch is invalid in any log: the owner's fault.
    Invalid(BatchError),
    /// The batch adopts this version, which is not in use here.
    Unheld(u32),
}

/// The node's failure for an error in a stored tree.
pub(crate) fn tiles_fault(log: &LogId, error: LogError<StoreError>) -> Fatal {
    match error {
        LogError::Tiles(error) => Fatal::Store(error),
        other => Fatal::Damaged { log: log.clone(), what: other.to_string() },
    }
}

/// The version that a batch adopts, if any; the log has `size` entries after the batch.
pub(crate) fn adopted(entries: &[VerifiedEntry], size: u64) -> Vec<Adopted> {
    entries.first().and_then(VerifiedEntry::adopts).map(|version| Adopted { version, size }).into_iter().collect()
}

/// Replays batches in order, up to the first that cannot be taken. `copy` grows by the batches before it, and the
/// caller must commit them. A log that was cut has no maps in a running node, so nothing is replayed.
pub(crate) fn replay(
    manifest: &Manifest,
    log: &LogId,
    view: &View<'_>,
    copy: &mut LogCopy,
    batches: Vec<Vec<VerifiedEntry>>,
) -> Result<(Vec<ReplayedBatch>, Option<ReplayStop>), Fatal> {
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
                done.push(ReplayedBatch { state, first, entries, replayed, tiles });
            }
            Err(ReplayError::Invalid(invalid)) => return Ok((done, Some(ReplayStop::Invalid(invalid)))),
            Err(ReplayError::Unheld(version)) => return Ok((done, Some(ReplayStop::Unheld(version)))),
            Err(ReplayError::Rows(error)) => return Err(Fatal::rows(log, error)),
        }
    }
    Ok((done, None))
}

/// The commits of all replayed batches, for one write.
pub(crate) fn commits<'a>(done: &'a [ReplayedBatch], notes: &'a [(NoteHash, String)]) -> Vec<Commit<'a>> {
    let commit = |done: &'a ReplayedBatch| Commit {
        state: done.state.clone(),
        first: done.first,
        entries: &done.entries,
        outcomes: &done.replayed.outcomes,
        tiles: done.tiles.clone(),
        changes: &done.replayed.folded.changes,
        nodes: &done.replayed.folded.nodes,
        notes,
    };
    done.iter().map(commit).collect()
}

/// Splits entries into batches, one for each state entry. Also returns the entries after the last state entry.
pub(crate) fn batches(entries: Vec<VerifiedEntry>) -> (Vec<Vec<VerifiedEntry>>, Vec<VerifiedEntry>) {
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
