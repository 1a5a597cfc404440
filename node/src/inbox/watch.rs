//! What keeps this node from writing, or should worry its operator: looked at, logged, shown.
use std::collections::BTreeMap;
use std::time::Duration;

use fama_ledger::replica::{WaitReason, WriteWarning};
use fama_ledger::time::Millis;

use super::Inbox;

/// By how much the wall clock may leave the time since boot between two looks, in milliseconds.
const JUMP_MILLIS_MAX: u64 = 3_600_000;
/// From how much on that is a step that others' clocks are to be compared with anew, in milliseconds.
const STEP_MILLIS_MIN: u64 = 1_000;
/// How often one and the same trouble is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What was seen last.
#[derive(Default)]
pub(super) struct TroubleWatch {
    /// The wall clock and the time since boot.
    clocks: Option<(Millis, Duration)>,
    /// When each code was logged last.
    logged: BTreeMap<&'static str, Duration>,
}

impl TroubleWatch {
    /// By how many milliseconds the wall clock stepped since the last look, if it did.
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
    /// Whether the own log may grow now, by a clock that was looked at now.
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

    /// Logs and shows what an operator's node waits for, and what it writes in spite of.
    pub(super) fn tell_trouble(&mut self) {
        let waiting = self.may_write().err().filter(|_| self.own.is_some());
        let warnings = if self.own.is_some() { self.replica.warnings(self.millis()) } else { Vec::new() };
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
        health.writes = self.replica.has_started();
    }
}

fn log_waiting(waiting: WaitReason, started: bool) {
    let code = waiting.code();
    match waiting {
        WaitReason::OtherSession if started => tracing::error!(
            code,
            "another process writes with this node's key: nothing is taken in or cosigned until it ends; find it"
        ),
        WaitReason::OtherSession => tracing::warn!(
            code,
            "other operators are connected to another process with this node's key: this one waits until it ends, some seconds if it was this node, killed a moment ago"
        ),
        WaitReason::ClockJumped => tracing::error!(
            code,
            "nothing is taken in until other operators' clocks agree; if the clock is right, restart with --accept-clock"
        ),
        WaitReason::ClockAhead => tracing::error!(
            code,
            "nothing is taken in while the clock is ahead of most operators'; if it is right, restart with --accept-clock"
        ),
        _ => tracing::info!(code, "nothing is taken in yet"),
    }
}

fn log_warning(warning: WriteWarning) {
    let code = warning.code();
    match warning {
        WriteWarning::OtherSession => {
            tracing::warn!(code, "an operator is connected to another process with this node's key: is there a copy?");
        }
        WriteWarning::ClockAhead => tracing::warn!(code, "the clock is ahead of other operators'"),
        WriteWarning::ClockJumped => tracing::warn!(code, "the clock jumped, and was accepted"),
        WriteWarning::AssumeDiskCurrent => tracing::warn!(
            code,
            "this process writes without asking others what it signed before; an old data folder forks the log"
        ),
        WriteWarning::AcceptClock => tracing::warn!(code, "this process trusts its clock, whatever the others' say"),
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
