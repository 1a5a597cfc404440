//! Keeps the scores: computed at the start, then followed after changes of sponsorship, a slice at a time.
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use fama_ledger::join::Join;

use super::Inbox;
use crate::replay::Fatal;
use crate::scores::Scores;

/// At most this many subjects are recounted, or providers looked at, between two looks at the input queue.
const SLICE: usize = 1_000;

impl Inbox {
    pub(super) fn rebuild_scores(&mut self) -> Result<(), Fatal> {
        let store = Arc::clone(&self.shared.store);
        let scores = Scores::rebuild(&self.shared.manifest, &store.view()).map_err(|error| self.join_fault(error))?;
        *self.shared.scores.write().unwrap_or_else(PoisonError::into_inner) = scores;
        // A rollback may have taken statements back.
        self.shared.statements.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Recounts the next subjects of providers whose sponsorship changed. This thread alone changes rows and scores, so
    /// between two commits both are of one moment; readers wait while memory is changed, not while rows are read.
    pub(super) fn follow_ranking(&mut self) -> Result<(), Fatal> {
        let (store, shared) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.scores));
        let view = store.view();
        let (mut left, manifest) = (SLICE, Arc::clone(&self.shared.manifest));
        let join = Join::new(&manifest, &view);
        while left > 0 {
            let next = shared.write().unwrap_or_else(PoisonError::into_inner).ranking.recount().cloned();
            self.recounting = next.is_some();
            let Some(recount) = next else { break };
            let subjects = view.subjects_of(&recount.provider, recount.after.as_ref(), left)?;
            let changes = join.recounted(recount.provider, &subjects, &recount.numbers);
            let changes = changes.map_err(|error| self.join_fault(error))?;
            let last = subjects.last().copied().filter(|_| subjects.len() == left);
            shared.write().unwrap_or_else(PoisonError::into_inner).ranking.recounted(&changes, last);
            left = left.saturating_sub(subjects.len().max(1));
        }
        Ok(())
    }

    /// Forgets the statements that were not final and are now.
    pub(super) fn follow_certified(&self) {
        let mut scores = self.shared.scores.write().unwrap_or_else(PoisonError::into_inner);
        for log in self.copies.keys() {
            scores.certified(log, self.replica.certified(log));
        }
    }
}
