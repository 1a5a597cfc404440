//! Updates the ranking after changes of sponsorship, in the background, a slice at a time.
use std::sync::{Arc, PoisonError};

use fama_ledger::join::{Join, Ranking};

use super::Inbox;
use crate::health::BEHIND_MIN;
use crate::replay::Fatal;

/// At most this many scores are recomputed, or providers checked, between two looks at the input queue.
const SLICE: usize = 1_000;
/// The slice while the node is far behind: most scores computed now change again with the next log's entries.
const SLICE_BEHIND: usize = 50;

impl Inbox {
    pub(super) fn rebuild_ranking(&mut self) -> Result<(), Fatal> {
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        let join = Join::new(&self.shared.manifest, &view);
        let ranking = Ranking::rebuild(&join).map_err(|error| self.join_fault(error))?;
        *self.shared.ranking.write().unwrap_or_else(PoisonError::into_inner) = ranking;
        Ok(())
    }

    /// How many entries this node's copies lack below the newest known heads.
    fn behind(&self) -> u64 {
        let newest = |log| self.replica.newest(log).map_or(0, |newest| newest.checkpoint().head.size);
        let missing = |log| newest(log).saturating_sub(self.replica.head(log).map_or(0, |head| head.size));
        self.copies.keys().map(missing).sum()
    }

    pub(super) fn follow_ranking(&mut self) -> Result<(), Fatal> {
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        let manifest = Arc::clone(&self.shared.manifest);
        let join = Join::new(&manifest, &view);
        let shared = Arc::clone(&self.shared.ranking);
        let mut ranking = shared.write().unwrap_or_else(PoisonError::into_inner);
        let mut left = if self.behind() >= BEHIND_MIN { SLICE_BEHIND } else { SLICE };
        while left > 0 {
            let (provider, after) = match self.rerank.take() {
                Some(progress) => progress,
                None => {
                    let Some(provider) = ranking.marked() else { break };
                    ranking.unmark(provider, &join).map_err(|error| self.join_fault(error))?;
                    (provider, None)
                }
            };
            let subjects = view.subjects_of(&provider, after.as_ref(), left)?;
            for subject in &subjects {
                ranking.set(*subject, join.karma(*subject).map_err(|error| self.join_fault(error))?);
            }
            if subjects.len() == left {
                self.rerank = subjects.last().map(|last| (provider, Some(*last)));
            }
            left = left.saturating_sub(subjects.len().max(1));
        }
        Ok(())
    }
}
