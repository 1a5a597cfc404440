//! Which entries reached this node too late for its operator to vouch for them, and how old the own log's oldest
//! uncertified event is: [`fama_ledger::lateness`] next to the store and the clock.
use fama_ledger::entry::{self, VerifiedEntry};
use fama_ledger::id::Domain;
use fama_ledger::lateness::{Lateness, Passing};
use fama_ledger::limits;
use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::time::Millis;
use libp2p::PeerId;

use super::Inbox;
use crate::replay::{Fatal, ReplayedBatch};
use crate::store::View;

/// How many batches with an adoption may stand between the certified size and the oldest uncertified event. An owner
/// adopts nothing while an adoption is not certified, so one is enough.
const ADOPTIONS_MAX: usize = 2;

impl Inbox {
    fn max_lag(&self) -> u64 {
        self.shared.manifest.policy().max_lag_ms
    }

    pub(super) fn restore_lateness(&mut self, log: &LogId, view: &View<'_>) -> Result<(), Fatal> {
        let begins = self.shared.manifest.log(log).map_or(Millis(0), |known| known.begins);
        let lateness = view.lateness(log)?.unwrap_or_else(|| Lateness::new(begins));
        self.lateness.insert(log.clone(), lateness);
        Ok(())
    }

    /// The owner of `log` gave a word: its node answered, or its key signed something new.
    pub(super) fn heard_owner(&mut self, log: &LogId) -> Result<(), Fatal> {
        let (now, max_lag) = (self.shared.clock.now(), self.max_lag());
        if let Some(lateness) = self.lateness.get_mut(log)
            && lateness.heard(now, max_lag)
        {
            self.shared.store.put_lateness(log, lateness)?;
        }
        Ok(())
    }

    /// An operator's own node answered with its frontier, which has its own logs with these sizes.
    pub(super) fn heard_operator(&mut self, peer: PeerId, sizes: &[(LogId, u64)]) -> Result<(), Fatal> {
        let Some(operator) = self.replica.operator_of(&peer).cloned() else { return Ok(()) };
        for (log, size) in sizes.iter().filter(|(log, _)| log.operator == operator) {
            self.heard_owner(log)?;
            let held = self.copies.get(log).map_or(0, |copy| copy.tree.size());
            let vouched = self.replica.vouched(log);
            if let Some(lateness) = self.lateness.get_mut(log)
                && held >= *size
                && lateness.caught_up(vouched)
            {
                self.shared.store.put_lateness(log, lateness)?;
            }
        }
        Ok(())
    }

    /// Records which of these new batches are late; returns the lateness to store with them if any is.
    pub(super) fn mark_late(&mut self, log: &LogId, done: &[ReplayedBatch]) -> Option<Lateness> {
        let (now, max_lag, own) = (self.shared.clock.now(), self.max_lag(), self.is_own(&log.operator));
        let certified = self.replica.certified(log);
        let lateness = self.lateness.get_mut(log).filter(|_| !own)?;
        let mut late = false;
        for batch in done {
            let Some(first) = batch.entries.first().filter(|first| first.adopts().is_none()) else { continue };
            late |= lateness.held((batch.first, batch.state.size), first.time, now, max_lag);
        }
        late.then(|| {
            lateness.forget(certified);
            lateness.clone()
        })
    }

    fn is_own(&self, operator: &Domain) -> bool {
        self.own.as_ref().is_some_and(|own| own.name == *operator)
    }

    /// Whether all entries below a head that this copy is at pass, so that this operator may vouch for it. What makes
    /// them pass is stored before this returns.
    pub(super) fn passes(&mut self, log: &LogId, head: Head) -> Result<bool, Fatal> {
        let (now, max_lag) = (self.shared.clock.now(), self.max_lag());
        let Some(lateness) = self.lateness.get(log).filter(|_| !self.is_own(&log.operator)) else { return Ok(true) };
        let passing = {
            let view = self.shared.store.view();
            let time_at = |index| entry_time(&view, log, index);
            lateness.judge((self.replica.vouched(log), head.size), now, max_lag, time_at)?
        };
        match passing {
            Passing::All => Ok(true),
            Passing::AfterSilence(first) => {
                if let Some(lateness) = self.lateness.get_mut(log) {
                    lateness.passed(first, now, max_lag);
                    // Not synced, but the cosignature after it is, in the same write-ahead log.
                    self.shared.store.put_lateness(log, lateness)?;
                }
                tracing::warn!(%log, size = head.size, first = %first, "this log's owner was silent; entries that it brings now are followed for one window of max_lag");
                Ok(true)
            }
            Passing::Late(_) if self.own.as_ref().is_some_and(|own| own.overrides.accept_late) => {
                tracing::warn!(%log, size = head.size, "late entries are accepted as this node's operator wants it (--accept-late)");
                Ok(true)
            }
            Passing::Late(index) => {
                self.tell_late(log, index);
                Ok(false)
            }
        }
    }

    /// Whether the own log's oldest event without a certificate is young enough for another revocation.
    pub(super) fn takes_revocations(&self) -> Result<bool, Fatal> {
        Ok(self.backlog_age()?.is_none_or(|age| age <= self.max_lag()))
    }

    /// The age of the own log's oldest event without a certificate, in milliseconds; `None` if there is none.
    pub(super) fn backlog_age(&self) -> Result<Option<u64>, Fatal> {
        let Some(log) = self.own.as_ref().and_then(|own| own.log.as_ref()) else { return Ok(None) };
        let (mut index, view) = (self.replica.certified(log), self.shared.store.view());
        for _ in 0..=ADOPTIONS_MAX {
            let Some(entry) = view.entry(log, index)? else { return Ok(None) };
            match entry::event_id(&entry) {
                // The adoption and the state entry after it.
                None => index = index.saturating_add(2),
                Some(_) => {
                    let time = entry::time(&entry).unwrap_or(Millis(0));
                    return Ok(Some(self.shared.clock.now().0.saturating_sub(time.0)));
                }
            }
        }
        Ok(None)
    }
}

/// Entries up to the first batch that is ahead of `now` by more than a cosigner's tolerance, and whether there is one.
pub(super) fn before_ahead(batches: &mut Vec<Vec<VerifiedEntry>>, now: Millis) -> bool {
    let latest = now.plus(limits::HEAD_SKEW_MILLIS_MAX);
    let ahead = batches.iter().position(|batch| batch.last().is_some_and(|last| last.time > latest));
    if let Some(ahead) = ahead {
        batches.truncate(ahead);
    }
    ahead.is_some()
}

fn entry_time(view: &View<'_>, log: &LogId, index: u64) -> Result<Millis, Fatal> {
    let entry = view.entry(log, index)?;
    let time = entry.and_then(|entry| entry::time(&entry));
    time.ok_or_else(|| Fatal::Damaged { log: log.clone(), what: format!("entry {index} is missing") })
}
