//! Whether an operator's node may append and cosign: it has to hear from enough others first.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::Domain;

/// How long an operator's clock counts after it was heard, in milliseconds.
const HEARD_MILLIS: u64 = 60_000;
/// How far the own clock may be ahead of the lower median, in milliseconds.
const AHEAD_MILLIS_MAX: i64 = 30_000;
/// From how many clocks on the median decides; below it can only warn.
const CLOCKS_MIN: usize = 3;

/// Why a node takes no events in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It is a mirror: it has no log.
    NoLog,
    /// Too few operators answered since the start.
    Starting,
    /// Another node holds entries of the own log that this disk lacks.
    CatchingUp,
    /// The clock is ahead of most operators' clocks.
    ClockAhead,
    /// The own log has a fault.
    OwnLogFault,
    /// The own log is about to end.
    Ending,
    /// Two manifests of one version are valid.
    Halted,
}

impl Waiting {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoLog => "no_log",
            Self::Starting => "starting",
            Self::CatchingUp => "catching_up",
            Self::ClockAhead => "clock_ahead",
            Self::OwnLogFault => "own_log_fault",
            Self::Ending => "ending",
            Self::Halted => "manifests_conflict",
        }
    }
}

/// Who was heard since the start, and when by which clock.
#[derive(Debug)]
pub(super) struct Gate {
    want: usize,
    clocks: BTreeMap<Domain, (i64, u64)>,
    heard: usize,
}

impl Gate {
    /// n − f operators, itself counted; of two or three operators, one other.
    pub(super) fn new(me: Option<Domain>, n: usize, faults: usize) -> Self {
        let want = if n == 3 { 2 } else { n.saturating_sub(faults) };
        let clocks: BTreeMap<_, _> = me.into_iter().map(|me| (me, (0, u64::MAX))).collect();
        Self { want, heard: clocks.len(), clocks }
    }

    /// An operator answered; its clock is that much ahead of this node's.
    pub(super) fn heard(&mut self, operator: Domain, ahead: i64, now: u64) {
        self.clocks.insert(operator, (ahead, now));
        self.heard = self.heard.max(self.clocks.len());
    }

    /// Whether enough operators answered since the start.
    pub(super) const fn is_open(&self) -> bool {
        self.heard >= self.want
    }

    pub(super) fn check(&self, behind: bool, now: u64) -> Result<(), Waiting> {
        if !self.is_open() {
            Err(Waiting::Starting)
        } else if behind {
            Err(Waiting::CatchingUp)
        } else if self.is_ahead(now) {
            Err(Waiting::ClockAhead)
        } else {
            Ok(())
        }
    }

    /// Whether the own clock is too far ahead of the lower median of those heard in the last minute.
    fn is_ahead(&self, now: u64) -> bool {
        let fresh = self.clocks.values().filter(|(_, at)| at.saturating_add(HEARD_MILLIS) >= now);
        let mut ahead: Vec<i64> = fresh.map(|(ahead, _)| *ahead).collect();
        ahead.sort_unstable();
        let median = ahead.get(ahead.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        ahead.len() >= CLOCKS_MIN && median < -AHEAD_MILLIS_MAX
    }
}
