//! Whether an operator's node may append and cosign: enough other operators must have answered, no other live process
//! may have its key, and its clock must be about right.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::FRONTIER_MILLIS;
use crate::id::Domain;

/// How long an operator's answer about the own session and the time counts, in milliseconds.
const HEARD_MILLIS: u64 = 60_000;
/// How far the own clock may be ahead of the lower median of the clocks, in milliseconds.
const AHEAD_MILLIS_MAX: i64 = 30_000;
/// The lower median at which the wait after a jump ends, in milliseconds ahead of the own clock.
const AGREES: core::ops::RangeInclusive<i64> = -AHEAD_MILLIS_MAX..=AHEAD_MILLIS_MAX;
/// How long after a jump an arriving answer may still carry a clock difference from before it, in milliseconds.
const JUMP_SETTLES_MILLIS: u64 = 1_000;
/// The number of clocks from which on the median decides; with fewer it can only warn.
const CLOCKS_MIN: usize = 3;
/// How often an operator is asked while only another session, which may already be dead, delays the start, in
/// milliseconds.
const HELD_MILLIS: u64 = 500;

/// Why a node accepts no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The node is a mirror: it has no log.
    NoLog,
    /// Too few operators have answered since the start.
    Starting,
    /// Other operators report another live process with the same key.
    OtherSession,
    /// Another node holds entries of the own log that this disk lacks.
    CatchingUp,
    /// The clock is ahead of most operators' clocks.
    ClockAhead,
    /// The clock jumped, and no median of clocks has agreed with it since.
    ClockJumped,
    /// The own log has a fault.
    OwnLogFault,
    /// The own log is about to end.
    Ending,
    /// Two manifests of one version are valid.
    Halted,
    /// A quorum of the previous version has not cosigned the own log's last adoption yet.
    Adopting,
    /// The own log's oldest event without a certificate is older than half of `max_lag_ms`.
    Uncertified,
}

impl WaitReason {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoLog => "no_log",
            Self::Starting => "starting",
            Self::OtherSession => "other_session",
            Self::CatchingUp => "catching_up",
            Self::ClockAhead => "clock_ahead",
            Self::ClockJumped => "clock_jumped",
            Self::OwnLogFault => "own_log_fault",
            Self::Ending => "ending",
            Self::Halted => "manifests_conflict",
            Self::Adopting => "adopting",
            Self::Uncertified => "uncertified",
        }
    }
}

/// A condition that does not stop a node from writing, but that its operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteWarning {
    /// Operators report another process with this node's key, but they are too few to stop this node, or that process
    /// is only starting.
    OtherSession,
    /// The clock is ahead of other clocks, but these are too few to decide, or the operator accepted it.
    ClockAhead,
    /// The clock is behind other clocks. It keeps nothing from being written, but events look as if they came from the
    /// future and are refused, and other nodes take this node's cosignatures for old.
    ClockBehind,
    /// The clock jumped, and the operator accepted it.
    ClockJumped,
    /// The operator let the node write before others answered.
    AssumeDiskCurrent,
    /// The operator let the node trust its clock.
    AcceptClock,
    /// The operator let the node vouch for late entries.
    AcceptLate,
}

impl WriteWarning {
    /// Every warning.
    pub const ALL: [Self; 7] = [
        Self::OtherSession,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::ClockJumped,
        Self::AssumeDiskCurrent,
        Self::AcceptClock,
        Self::AcceptLate,
    ];

    /// The stable code; the same as that of the [`WaitReason`] with the same cause.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::OtherSession => "other_session",
            Self::ClockAhead => "clock_ahead",
            Self::ClockBehind => "clock_behind",
            Self::ClockJumped => "clock_jumped",
            Self::AssumeDiskCurrent => "assume_disk_current",
            Self::AcceptClock => "accept_clock",
            Self::AcceptLate => "accept_late",
        }
    }
}

/// Another live process with this node's key, as an operator reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSession {
    /// The other process may not write yet.
    Starting,
    /// The other process may write.
    Writes,
}

/// What the operator of a node vouches for, so that the node need not ask the other operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The disk holds everything that this node ever signed: the node writes without waiting for others.
    pub assume_disk_current: bool,
    /// The clock is right, whatever the other clocks show.
    pub accept_clock: bool,
    /// Late entries are cosigned: the operator found out why they are late.
    pub accept_late: bool,
}

/// An operator's latest answer.
#[derive(Debug)]
struct LastHeard {
    /// Its clock minus the own one, in milliseconds; `None` if the own clock has jumped since.
    ahead: Option<i64>,
    other: Option<OtherSession>,
    at: u64,
}

/// The operators' answers since the start, and what follows from them.
#[derive(Debug)]
pub(super) struct WriteGate {
    me: Option<Domain>,
    want: usize,
    faults: usize,
    heard: BTreeMap<Domain, LastHeard>,
    open: bool,
    /// When the own clock jumped, until enough clocks agree with it.
    jumped: Option<u64>,
    overrides: Overrides,
}

impl WriteGate {
    /// Opens after n − f operators, including this node's, have no objection; with three operators, two are enough.
    pub(super) fn new(me: Option<Domain>, n: usize, faults: usize) -> Self {
        let want = if n == 3 { 2 } else { n.saturating_sub(faults) };
        let (heard, overrides) = (BTreeMap::new(), Overrides::default());
        let mut gate = Self { me, want, faults, heard, open: false, jumped: None, overrides };
        gate.update(0);
        gate
    }

    pub(super) fn set_overrides(&mut self, overrides: Overrides) {
        self.overrides = overrides;
        self.open |= overrides.assume_disk_current;
    }

    /// An operator answered. Its clock is `ahead` milliseconds ahead of this node's; `other` is another process with
    /// this node's key that it knows of.
    pub(super) fn heard(&mut self, operator: Domain, ahead: i64, other: Option<OtherSession>, now: u64) {
        // An answer measured before the jump may arrive after it.
        let settled = self.jumped.is_none_or(|at| now >= at.saturating_add(JUMP_SETTLES_MILLIS));
        self.heard.insert(operator, LastHeard { ahead: settled.then_some(ahead), other, at: now });
        self.update(now);
    }

    /// Opens the gate permanently once enough operators have recently reported no other session.
    ///
    /// If two processes with one key start together, each operator reports the other session to the one that asked
    /// it later, so from n = 4 on at most one of the two opens its gate.
    fn update(&mut self, now: u64) {
        let clear = self.lately(now).filter(|heard| heard.other.is_none()).count();
        self.open |= clear.saturating_add(self.myself()) >= self.want;
        let median = self.median(now).filter(|(clocks, _)| *clocks >= CLOCKS_MIN);
        self.jumped = self.jumped.filter(|_| median.is_none_or(|(_, ahead)| !AGREES.contains(&ahead)));
    }

    /// The own clock jumped: earlier comparisons with other clocks are void.
    pub(super) fn clock_jumped(&mut self, now: u64) {
        self.jumped = Some(now);
        for heard in self.heard.values_mut() {
            heard.ahead = None;
        }
    }

    /// The own clock was adjusted by `millis`: other clocks are that much less ahead of it.
    pub(super) fn clock_stepped(&mut self, millis: i64) {
        for heard in self.heard.values_mut() {
            heard.ahead = heard.ahead.map(|ahead| ahead.saturating_sub(millis));
        }
    }

    fn myself(&self) -> usize {
        usize::from(self.me.is_some())
    }

    fn lately(&self, now: u64) -> impl Iterator<Item = &LastHeard> + '_ {
        self.heard.values().filter(move |heard| heard.at.saturating_add(HEARD_MILLIS) >= now)
    }

    /// Whether the start is over: enough operators have reported no other session.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether this node may cosign now: readers take the times of cosignatures for proof, so its clock must be right.
    pub(super) fn may_cosign(&self, now: u64) -> bool {
        self.open && !self.has_other(now) && self.clock(now).is_ok()
    }

    /// Whether the own clock passes the test by the median of the clocks.
    fn clock(&self, now: u64) -> Result<(), WaitReason> {
        if self.overrides.accept_clock {
            Ok(())
        } else if self.jumped.is_some() {
            Err(WaitReason::ClockJumped)
        } else if self.is_ahead(now, CLOCKS_MIN) {
            Err(WaitReason::ClockAhead)
        } else {
            Ok(())
        }
    }

    /// Whether more than f operators, so at least one honest one, report that another process writes.
    fn has_other(&self, now: u64) -> bool {
        self.lately(now).filter(|heard| heard.other == Some(OtherSession::Writes)).count() > self.faults
    }

    pub(super) fn check(&self, behind: bool, now: u64) -> Result<(), WaitReason> {
        if !self.open {
            let enough = self.lately(now).count().saturating_add(self.myself()) >= self.want;
            Err(if enough { WaitReason::OtherSession } else { WaitReason::Starting })
        } else if self.has_other(now) {
            Err(WaitReason::OtherSession)
        } else if behind {
            Err(WaitReason::CatchingUp)
        } else {
            self.clock(now)
        }
    }

    /// Every condition that holds now but does not stop this node.
    pub(super) fn warnings(&self, now: u64) -> Vec<WriteWarning> {
        let stops = self.check(false, now).err().map(WaitReason::code);
        let holds = |warning: &WriteWarning| match warning {
            WriteWarning::OtherSession => self.lately(now).any(|heard| heard.other.is_some()),
            WriteWarning::ClockAhead => self.is_ahead(now, 1),
            WriteWarning::ClockBehind => self.is_behind(now, 1),
            WriteWarning::ClockJumped => self.jumped.is_some(),
            WriteWarning::AssumeDiskCurrent => self.overrides.assume_disk_current,
            WriteWarning::AcceptClock => self.overrides.accept_clock,
            WriteWarning::AcceptLate => self.overrides.accept_late,
        };
        WriteWarning::ALL.into_iter().filter(|warning| holds(warning) && stops != Some(warning.code())).collect()
    }

    /// How long to wait before an operator is asked again, in milliseconds.
    pub(super) fn pause(&self, now: u64) -> u64 {
        let held = !self.open && self.lately(now).any(|heard| heard.other.is_some());
        if held { HELD_MILLIS } else { FRONTIER_MILLIS }
    }

    /// Whether the own clock is too far ahead of the lower median of at least `clocks_min` clocks.
    fn is_ahead(&self, now: u64, clocks_min: usize) -> bool {
        self.median(now).is_some_and(|(clocks, ahead)| clocks >= clocks_min && ahead < -AHEAD_MILLIS_MAX)
    }

    /// Whether the own clock is too far behind the upper median of at least `clocks_min` clocks.
    fn is_behind(&self, now: u64, clocks_min: usize) -> bool {
        let ahead = self.clocks(now);
        let median = ahead.get(ahead.len() / 2);
        ahead.len() >= clocks_min && median.is_some_and(|ahead| *ahead > AHEAD_MILLIS_MAX)
    }

    /// Whether enough clocks show that the own one is wrong, and in which direction.
    pub(super) fn wrong_clock(&self, now: u64) -> Option<WriteWarning> {
        if self.is_ahead(now, CLOCKS_MIN) {
            Some(WriteWarning::ClockAhead)
        } else {
            self.is_behind(now, CLOCKS_MIN).then_some(WriteWarning::ClockBehind)
        }
    }

    /// How many clocks count now, including the own one, and how many milliseconds their lower median is ahead of the
    /// own clock.
    fn median(&self, now: u64) -> Option<(usize, i64)> {
        let ahead = self.clocks(now);
        let median = ahead.get(ahead.len().saturating_sub(1) / 2)?;
        Some((ahead.len(), *median))
    }

    /// By how many milliseconds each clock is ahead of the own one, which counts unless the node is a mirror; smallest
    /// first.
    fn clocks(&self, now: u64) -> Vec<i64> {
        let own = self.me.as_ref().map(|_| 0);
        let mut ahead: Vec<i64> = self.lately(now).filter_map(|heard| heard.ahead).chain(own).collect();
        ahead.sort_unstable();
        ahead
    }
}
