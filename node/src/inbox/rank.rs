//! Keeps the scores complete: what changes of sponsorship leave to do is done a step at a time.
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use fama_ledger::fold::{Effect, Outcome};
use fama_ledger::manifest::LogId;

use super::Inbox;
use crate::replay::Fatal;
use crate::scores::{self, OpenStatements};
use crate::shared::Shared;

/// Steps that a start makes before it goes on: a small folder is complete then, and a large one delays no start.
const START_STEPS: usize = 16;

impl Inbox {
    /// Reads which statements are not final, and begins with what is left to do for the scores.
    pub(super) fn restore_scores(&mut self) -> Result<(), Fatal> {
        let open = OpenStatements::read(&self.shared.manifest, &self.shared.store.view())?;
        *self.shared.open.write().unwrap_or_else(PoisonError::into_inner) = open;
        // A rollback may have taken statements back.
        self.shared.statements.fetch_add(1, Ordering::SeqCst);
        for _ in 0..START_STEPS {
            self.follow_scores()?;
            if !self.recounting {
                break;
            }
        }
        Ok(())
    }

    /// Makes the next step for the scores.
    pub(super) fn follow_scores(&mut self) -> Result<(), Fatal> {
        let store = Arc::clone(&self.shared.store);
        self.recounting = scores::step(&store).map_err(|error| self.join_fault(error))?;
        Ok(())
    }

    /// Notes the statements among entries that are about to be written, from index `first` on: readers must not take
    /// them for final. Returns whether there are any.
    pub(super) fn open_statements<'a>(
        shared: &Shared,
        log: &LogId,
        first: u64,
        outcomes: impl IntoIterator<Item = &'a Option<Outcome>>,
    ) -> bool {
        let outcomes = (first..).zip(outcomes);
        let stated: Vec<_> = outcomes
            .filter_map(|(index, outcome)| match outcome {
                Some(Ok(Effect::Sponsored { provider })) => Some((index, *provider)),
                _ => None,
            })
            .collect();
        if stated.is_empty() {
            return false;
        }
        let mut open = shared.open.write().unwrap_or_else(PoisonError::into_inner);
        stated.into_iter().for_each(|(index, provider)| open.add(log, provider, index));
        true
    }

    /// Statements are written: what is kept by number of statements is out of date, and there may be subjects to recount.
    pub(super) fn stated(&mut self) {
        self.shared.statements.fetch_add(1, Ordering::SeqCst);
        self.recounting = true;
    }

    /// Forgets the statements that were not final and are now.
    pub(super) fn follow_certified(&self) {
        let mut open = self.shared.open.write().unwrap_or_else(PoisonError::into_inner);
        for log in self.copies.keys() {
            open.certified(log, self.replica.certified(log));
        }
    }
}
