//! Watches for what keeps this node from writing or should worry its operator; logs and shows it.
use std::collections::BTreeMap;
use std::time::Duration;

use fama_ledger::manifest::LogId;
use fama_ledger::replica::{WaitReason, WriteWarning};
use fama_ledger::time::Millis;

use super::Inbox;
use crate::replay::Fatal;

/// A larger difference between the wall clock and the time since boot, between two looks, is a jump; in milliseconds.
const JUMP_MILLIS_MAX: u64 = 3_600_000;
/// A difference from this size on is a step: the clock is compared with other operators' again; in milliseconds.
const STEP_MILLIS_MIN: u64 = 1_000;
/// Each warning is logged at most once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The last clock readings and log times.
#[derive(Default)]
pub(super) struct TroubleWatch {
    /// The wall clock and the time since boot at the last look.
    clocks: Option<(Millis, Duration)>,
    /// When each code was last logged.
    logged: BTreeMap<&'static str, Duration>,
}

impl TroubleWatch {
    /// By how many milliseconds the wall clock stepped since the last look, if that is a step.
    fn step(&mut self, wall: Millis, since_boot: Duration) -> Option<i64> {
        let (last_wall, last_boot) = self.clocks.replace((wall, since_boot))?;
        let passed = i128::try_from(since_boot.saturating_sub(last_boot).as_millis()).unwrap_or(i128::MAX);
        let step = i128::from(wall.0) - i128::from(last_wall.0) - passed;
        (step.unsigned_abs() >= STEP_MILLIS_MIN.into()).then(|| i64::try_from(step).unwrap_or(i64::MAX))
    }

    fn is_due(&mut self, code: &'static str, now: Duration) -> bool {
        let due = self.logged.get(code).is_none_or(|last| now.saturating_sub(*last) >= LOG_INTERVAL);
        if due {
            self.logged.insert(code, now);
        }
        due
    }
}

impl Inbox {
    /// Whether the own log may grow now. Reads the clocks first and reports a step or jump to the replica.
    pub(super) fn may_write(&mut self) -> Result<(), WaitReason> {
        let clock = &self.shared.clock;
        match self.watch.step(clock.now(), clock.since_boot()) {
            Some(millis) if millis.unsigned_abs() > JUMP_MILLIS_MAX => {
                tracing::error!(millis, "the wall clock jumped");
                self.replica.clock_jumped(self.millis());
            }
            Some(millis) => {
                tracing::warn!(millis, "the wall clock stepped");
                self.replica.clock_stepped(millis);
            }
            None => {}
        }
        self.replica.may_write(self.millis())
    }

    /// Logs and shows why an operator's node does not write, and the warnings despite which it writes.
    ///
    /// # Errors
    /// [`Fatal`].
    pub(super) fn tell_trouble(&mut self) -> Result<(), Fatal> {
        let max_age = self.shared.manifest.policy().max_lag_ms / 2;
        let uncertified = self.backlog_age()?.is_some_and(|age| age > max_age).then_some(WaitReason::Uncertified);
        let waiting = self.may_write().err().filter(|_| self.own.is_some()).or(uncertified);
        let mut warnings = self.replica.warnings(self.millis());
        if self.own.is_none() {
            // A mirror writes nothing, but judges logins and submissions by its clock.
            warnings.retain(|warning| matches!(warning, WriteWarning::ClockAhead | WriteWarning::ClockBehind));
        }
        let wrong_clock = self.replica.wrong_clock(self.millis()).map(WriteWarning::code);
        let now = self.now();
        if let Some(waiting) = waiting.filter(|waiting| self.watch.is_due(waiting.code(), now)) {
            log_waiting(waiting, self.replica.has_started());
        }
        for warning in warnings.iter().filter(|warning| self.watch.is_due(warning.code(), now)) {
            log_warning(*warning);
        }
        let mut health = self.shared.health.write();
        health.waiting = waiting.map(WaitReason::code);
        health.warnings = warnings.into_iter().map(WriteWarning::code).collect();
        health.wrong_clock = wrong_clock;
        health.writes = self.replica.has_started();
        Ok(())
    }

    /// Logs, at most once a minute, that an entry is too late to be cosigned.
    pub(super) fn tell_late(&mut self, log: &LogId, index: u64) {
        let now = self.now();
        if self.watch.is_due("late", now) {
            tracing::warn!(%log, index, "an entry reached this node long after its time: this operator vouches for nothing from it on, unless f + 1 operators do; see --accept-late");
        }
    }
}

fn log_waiting(waiting: WaitReason, started: bool) {
    let code = waiting.code();
    match waiting {
        WaitReason::OtherSession if started => tracing::error!(
            code,
            "another process writes with this node's key: this node accepts and cosigns nothing until it ends; find it"
        ),
        WaitReason::OtherSession => tracing::warn!(
            code,
            "other operators are connected to another process with this node's key: this one waits until that ends; it takes a few seconds if this node was killed just now"
        ),
        WaitReason::ClockJumped => tracing::error!(
            code,
            "the clock jumped: no events are accepted until other operators' clocks agree; if it is right, restart with --accept-clock"
        ),
        WaitReason::ClockAhead => tracing::error!(
            code,
            "no events are accepted while the clock is ahead of most operators' clocks; if it is right, restart with --accept-clock"
        ),
        WaitReason::Uncertified => tracing::error!(
            code,
            "too few operators cosigned this node's log for hours: only revocations are accepted until they do"
        ),
        _ => tracing::info!(code, "no events are accepted yet"),
    }
}

fn log_warning(warning: WriteWarning) {
    let code = warning.code();
    match warning {
        WriteWarning::OtherSession => {
            tracing::warn!(
                code,
                "an operator is connected to another process with this node's key: does a copy of this node run?"
            );
        }
        WriteWarning::ClockAhead => tracing::warn!(code, "the clock is ahead of other operators' clocks"),
        WriteWarning::ClockBehind => tracing::error!(
            code,
            "the clock is behind other operators' clocks: events and logins are refused as if they came from the future, and other nodes take what this one cosigns for old; set it"
        ),
        WriteWarning::ClockJumped => tracing::warn!(code, "the clock jumped, and the operator accepted it"),
        WriteWarning::AssumeDiskCurrent => tracing::warn!(
            code,
            "this node writes without asking its peers what it signed before; an outdated data folder forks the log"
        ),
        WriteWarning::AcceptLate => {
            tracing::warn!(code, "this node vouches for entries however late they reached it");
        }
        WriteWarning::AcceptClock => {
            tracing::warn!(code, "this node trusts its clock even if other operators' clocks disagree");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_the_wall_clock_does_and_time_does_not() {
        const HOUR: u64 = 3_600_000;
        let mut watch = TroubleWatch::default();
        let mut look = |wall: u64, boot: u64| watch.step(Millis(wall), Duration::from_millis(boot));
        assert_eq!(look(50 * HOUR, HOUR), None, "the first look");
        assert_eq!(look(59 * HOUR, 10 * HOUR), None, "nine hours asleep");
        assert_eq!(look(59 * HOUR + 999, 10 * HOUR), None, "a second is not much");
        assert_eq!(look(60 * HOUR, 10 * HOUR), Some(3_599_001));
        assert_eq!(look(61 * HOUR + 1, 10 * HOUR), Some(3_600_001));
        assert_eq!(look(61 * HOUR + 251, 10 * HOUR + 250), None, "once");
        assert_eq!(look(0, 10 * HOUR + 250), Some(-(61 * 3_600_000 + 251)), "back");
        assert_eq!(look(u64::MAX, 10 * HOUR + 250), Some(i64::MAX));
    }

    #[test]
    fn trouble_is_logged_once_a_minute() {
        let mut watch = TroubleWatch::default();
        let second = Duration::from_secs;
        assert!(watch.is_due("a", second(1)) && watch.is_due("b", second(2)));
        assert!(!watch.is_due("a", second(60)));
        assert!(watch.is_due("a", second(61)) && !watch.is_due("a", second(62)));
    }
}
