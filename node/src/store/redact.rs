//! Notes whose text may not be here: deleted from the disk, and never stored again.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fama_ledger::id::NoteHash;

use super::engine::Walk;
use super::keys::{self, Family, META_REDACTED};
use super::{Store, StoreError, View};
use crate::wire::NoteAnswer;

/// How long erasing waits for readers that began before a text was redacted.
const READERS_TIME: Duration = Duration::from_secs(10);
/// How often it looks whether they are done.
const READERS_TICK: Duration = Duration::from_millis(20);

impl Store {
    /// Deletes a note's text permanently, also from disk, and never takes it in again, whether an entry names it yet or
    /// not. Synced. The caller bounds how many.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn redact_note(&self, hash: &NoteHash) -> Result<(), StoreError> {
        self.redact_notes(&[*hash])
    }

    /// [`Store::redact_note`] for several in one write.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn redact_notes(&self, hashes: &[NoteHash]) -> Result<(), StoreError> {
        self.forget_notes(hashes)?;
        self.erase_redacted()
    }

    /// Makes the texts of notes unreadable for good. Synced. Their bytes stay on disk until [`Store::erase_redacted`],
    /// which the next start calls in any case.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn forget_notes(&self, hashes: &[NoteHash]) -> Result<(), StoreError> {
        let _writing = self.lock();
        let (view, mut batch) = (self.view(), self.batch());
        for hash in hashes {
            Self::put_note(&mut batch, hash, &NoteAnswer::Redacted);
            Self::put(&mut batch, Family::Meta, &keys::redacted(hash), &false);
        }
        Self::count_changes(&mut batch, &view, false, true)?;
        self.write(batch, true)
    }

    /// Removes the bytes of forgotten texts from tables and write-ahead logs; may take seconds. Leaves them to the next
    /// call if a reader from before does not end.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn erase_redacted(&self) -> Result<(), StoreError> {
        let left = self.view().redacted(true)?;
        if left.is_empty() {
            return Ok(());
        }
        // What a reader's snapshot still shows survives a compaction.
        let (written, deadline) = (self.engine.sequence(), Instant::now() + READERS_TIME);
        while self.engine.oldest_snapshot().is_some_and(|oldest| oldest < written) {
            if Instant::now() > deadline {
                tracing::warn!("a long read keeps the bytes of a dropped note on disk: they go with the next start");
                return Ok(());
            }
            std::thread::sleep(READERS_TICK);
        }
        // A write-ahead log is deleted once no family needs it: until all are flushed, it may hold the texts.
        for family in Family::ALL {
            self.engine.flush(family).map_err(|error| self.database(&error))?;
        }
        let mut batch = self.batch();
        for hash in &left {
            self.engine.compact(Family::Notes, &hash.0);
            Self::put(&mut batch, Family::Meta, &keys::redacted(hash), &true);
        }
        self.write(batch, false)
    }
}

impl View<'_> {
    /// All notes that were redacted here, also those that no entry names yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn redacted_notes(&self) -> Result<BTreeSet<NoteHash>, StoreError> {
        self.redacted(false)
    }

    /// `left`: only those whose bytes may still be on disk.
    fn redacted(&self, left: bool) -> Result<BTreeSet<NoteHash>, StoreError> {
        let mut found = BTreeSet::new();
        self.walk(Family::Meta, Walk::of(META_REDACTED), &mut |key, value| {
            let hash = key.last_chunk().ok_or_else(|| self.broken(Family::Meta, &"a key without a hash"))?;
            let is_gone: bool = self.decode(Family::Meta, value, 1)?;
            if !(left && is_gone) {
                found.insert(NoteHash(*hash));
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}
