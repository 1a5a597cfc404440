//! Logs that leave an abandoned branch: rolled back a piece at a time, next to everything else that the inbox does.
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::replica::StoredLog;

use super::{Inbox, StoredRoots};
use crate::replay::Fatal;
use crate::replay::rollback::{self, RollbackRun, StepEnd};
use crate::store::RolledBack;
use crate::wire::SignedHead;

/// How often the progress of a rollback is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A rollback on its way.
pub(super) struct RunningRollback {
    pub(super) run: RollbackRun,
    /// When the next piece is due, if other inputs wait: after as long as the last one took.
    due: Duration,
    log_due: Duration,
}

impl Inbox {
    /// Abandons a branch: drops the entries of `log` from index `size` on, keeps their events aside, and replays the
    /// log. All that happens in pieces, after a reload.
    pub(super) fn rewind(&mut self, log: &LogId, size: u64) -> Result<(), Fatal> {
        tracing::error!(%log, size, "this copy is on an abandoned branch: it is rolled back and fetched again");
        let store = Arc::clone(&self.shared.store);
        let size = rollback::batch_end(&store.view(), log, size)?;
        // Dropped events are submitted again, to this log or to its successor, with a proof to this head.
        let signed = self.replica.signed_on_branch(log, &StoredRoots(&store))?.map(|signed| SignedHead::of(&signed));
        // One synced write, after which the log reads as empty. A crash before it: the copy is still on its old branch,
        // and this node decides again. After it: `Inbox::load` finds the rollback and continues.
        store.begin_rollback(RolledBack { log: log.clone(), size, signed })?;
        // Memory still holds what the disk no longer shows: nothing more is taken in until all is loaded again.
        self.reload = true;
        Ok(())
    }

    /// Finds the rollbacks that a crash, a stop or the reload before them left unfinished.
    pub(super) fn restore_rollbacks(&mut self) -> Result<(), Fatal> {
        if self.shared.store.view().needs_rebuild()? {
            let (run, due, log_due) = (RollbackRun::default(), self.now(), self.now());
            self.rollback = Some(RunningRollback { run, due, log_due });
        }
        Ok(())
    }

    /// Restores a log that is being rolled back: who signed and cosigned what, but no copy.
    pub(super) fn restore_rolled_back(&mut self, log: &LogId) -> Result<(), Fatal> {
        let store = Arc::clone(&self.shared.store);
        let (view, manifest) = (store.view(), &self.shared.manifest);
        let newest = view.newest(log)?.and_then(|signed| signed.verify(manifest, log).ok());
        let cosigned = view.cosigned(log)?.iter().filter_map(|one| one.verify(manifest, log)).collect();
        let certificate = view.certificate(log)?.and_then(|stored| stored.verify(manifest, log));
        let (base, certified, adopted) = (0, 0, Vec::new());
        let stored = StoredLog { head: Head::EMPTY, base, adopted, certified, newest, cosigned, certificate };
        let mut outputs = self.replica.restore(log, stored, &StoredRoots(&store))?;
        self.replica.roll_back(log, view.certified(log)?);
        outputs.extend(self.restore_fault(log)?);
        self.perform(outputs)
    }

    /// Whether the next piece of a rollback is due, while other inputs wait or not.
    pub(super) fn rolls_back(&self, inputs_wait: bool) -> bool {
        self.rollback.as_ref().is_some_and(|rollback| !inputs_wait || rollback.due <= self.now())
    }

    /// Does the next piece of a rollback, if there is one. After the last one everything is loaded again.
    pub(super) fn roll_back(&mut self) -> Result<(), Fatal> {
        let begun = self.now();
        let store = Arc::clone(&self.shared.store);
        let Some(rollback) = self.rollback.as_mut().filter(|_| !self.reload) else { return Ok(()) };
        match rollback.run.step(&store)? {
            StepEnd::More(done) => {
                for done in &done {
                    if Self::open_statements(&self.shared, &done.state.log, done.first, &done.replayed.outcomes) {
                        self.stated();
                    }
                }
            }
            StepEnd::Done => self.reload = true,
        }
        self.tell_rollback()?;
        let now = self.now();
        if let Some(rollback) = &mut self.rollback {
            rollback.due = now + now.saturating_sub(begun);
        }
        Ok(())
    }

    /// Shows how far a rollback is, and logs it now and then.
    pub(super) fn tell_rollback(&mut self) -> Result<(), Fatal> {
        let now = self.now();
        let Some(rollback) = &mut self.rollback else { return Ok(()) };
        let progress = rollback.run.progress(&self.shared.store.view())?;
        if let Some(shown) = progress.as_ref().filter(|_| rollback.log_due <= now) {
            rollback.log_due = now + LOG_INTERVAL;
            tracing::info!(log = %shown.log, phase = shown.phase, left = shown.left, "a log is being rolled back");
        }
        self.shared.health.write().rollback = progress;
        Ok(())
    }
}
