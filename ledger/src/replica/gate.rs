//! Whether an operator's node may append and cosign: it has to hear from enough others first, must be the
//! only live process with its key, and its clock must be about right.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::FRONTIER_MILLIS;
use crate::id::Domain;

/// For how long what an operator said of the own session and of the time counts, in milliseconds.
const HEARD_MILLIS: u64 = 60_000;
/// How far the own clock may be ahead of the lower median, in milliseconds.
const AHEAD_MILLIS_MAX: i64 = 30_000;
/// Where the lower median ends a wait for it after a jump, in milliseconds ahead of the own clock.
const AGREES: core::ops::RangeInclusive<i64> = -AHEAD_MILLIS_MAX..=AHEAD_MILLIS_MAX;
/// For how long after a jump what others' clocks say may have been measured before it, in milliseconds.
const JUMP_SETTLES_MILLIS: u64 = 1_000;
/// From how many clocks on the median decides; below it can only warn.
const CLOCKS_MIN: usize = 3;
/// How often an operator is asked while only another session, which may be a dead one's, holds the start up,
/// in milliseconds.
const HELD_MILLIS: u64 = 500;

/// Why a node takes no events in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// It is a mirror: it has no log.
    NoLog,
    /// Too few operators answered since the start.
    Starting,
    /// Operators are connected to another live process with the same key.
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
    /// A quorum of the version before has not cosigned the own log's last adoption yet.
    Adopting,
}

impl WaitReason {
    /// Stable code.
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
        }
    }
}

/// What a node writes in spite of, and people should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteWarning {
    /// Too few operators to stop it say that another process has its key, or that one only starts.
    OtherSession,
    /// The clock is ahead of others', but these are too few to decide, or the operator accepted it.
    ClockAhead,
    /// The clock jumped, and the operator accepted it.
    ClockJumped,
    /// The operator had it write before others answered.
    AssumeDiskCurrent,
    /// The operator had it trust its clock.
    AcceptClock,
}

impl WriteWarning {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::OtherSession, Self::ClockAhead, Self::ClockJumped, Self::AssumeDiskCurrent, Self::AcceptClock];

    /// Stable code; that of [`WaitReason`] where it is the same matter.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::OtherSession => "other_session",
            Self::ClockAhead => "clock_ahead",
            Self::ClockJumped => "clock_jumped",
            Self::AssumeDiskCurrent => "assume_disk_current",
            Self::AcceptClock => "accept_clock",
        }
    }
}

/// Another live process with this node's key, as an operator tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSession {
    /// It has not written since its start.
    Starting,
    /// Its start is over.
    Writes,
}

/// What the operator of a node answers for in place of the other operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The disk holds everything that this node ever signed: it writes without asking others.
    pub assume_disk_current: bool,
    /// The clock is right, whatever the others' say.
    pub accept_clock: bool,
}

/// What an operator said last.
#[derive(Debug)]
struct LastHeard {
    /// Its clock less the own, in milliseconds; `None` if the own clock jumped since.
    ahead: Option<i64>,
    other: Option<OtherSession>,
    at: u64,
}

/// Who was heard since the start, and what they said.
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
    /// n − f operators, itself counted; of two or three operators, one other.
    pub(super) fn new(me: Option<Domain>, n: usize, faults: usize) -> Self {
        let want = if n == 3 { 2 } else { n.saturating_sub(faults) };
        let (heard, overrides) = (BTreeMap::new(), Overrides::default());
        let mut gate = Self { me, want, faults, heard, open: false, jumped: None, overrides };
        gate.look(0);
        gate
    }

    pub(super) fn set_overrides(&mut self, overrides: Overrides) {
        self.overrides = overrides;
        self.open |= overrides.assume_disk_current;
    }

    /// An operator answered; its clock is that much ahead of this node's, and it knows of another process.
    pub(super) fn heard(&mut self, operator: Domain, ahead: i64, other: Option<OtherSession>, now: u64) {
        // What came before the jump may still have been on its way.
        let settled = self.jumped.is_none_or(|at| now >= at.saturating_add(JUMP_SETTLES_MILLIS));
        self.heard.insert(operator, LastHeard { ahead: settled.then_some(ahead), other, at: now });
        self.look(now);
    }

    /// Opens for good once enough operators have lately said that they know of no other session. Of two
    /// processes with one key that start together, each operator tells the one that asked it later, so
    /// that from n = 4 on at most one of them gets through.
    fn look(&mut self, now: u64) {
        let clear = self.lately(now).filter(|heard| heard.other.is_none()).count();
        self.open |= clear.saturating_add(self.myself()) >= self.want;
        let median = self.median(now).filter(|(clocks, _)| *clocks >= CLOCKS_MIN);
        self.jumped = self.jumped.filter(|_| median.is_none_or(|(_, ahead)| !AGREES.contains(&ahead)));
    }

    /// The own clock jumped: what it was compared with before says nothing any more.
    pub(super) fn clock_jumped(&mut self, now: u64) {
        self.jumped = Some(now);
        for heard in self.heard.values_mut() {
            heard.ahead = None;
        }
    }

    /// The own clock made a step of so many milliseconds: the others' are that much less ahead of it.
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

    /// Whether enough operators answered since the start.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether cosignatures may be given now.
    pub(super) fn may_cosign(&self, now: u64) -> bool {
        self.open && !self.has_other(now)
    }

    /// Whether operators of whom one must be honest say that another process writes.
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
        } else if self.jumped.is_some() && !self.overrides.accept_clock {
            Err(WaitReason::ClockJumped)
        } else if self.is_ahead(now, CLOCKS_MIN) && !self.overrides.accept_clock {
            Err(WaitReason::ClockAhead)
        } else {
            Ok(())
        }
    }

    /// What holds and does not stop this node.
    pub(super) fn warnings(&self, now: u64) -> Vec<WriteWarning> {
        let stops = self.check(false, now).err().map(WaitReason::code);
        let holds = |warning: &WriteWarning| match warning {
            WriteWarning::OtherSession => self.lately(now).any(|heard| heard.other.is_some()),
            WriteWarning::ClockAhead => self.is_ahead(now, 1),
            WriteWarning::ClockJumped => self.jumped.is_some(),
            WriteWarning::AssumeDiskCurrent => self.overrides.assume_disk_current,
            WriteWarning::AcceptClock => self.overrides.accept_clock,
        };
        WriteWarning::ALL.into_iter().filter(|warning| holds(warning) && stops != Some(warning.code())).collect()
    }

    /// After how long an operator is asked again, in milliseconds.
    pub(super) fn pause(&self, now: u64) -> u64 {
        let held = !self.open && self.lately(now).any(|heard| heard.other.is_some());
        if held { HELD_MILLIS } else { FRONTIER_MILLIS }
    }

    /// Whether the own clock is too far ahead of the lower median of at least so many.
    fn is_ahead(&self, now: u64, clocks_min: usize) -> bool {
        self.median(now).is_some_and(|(clocks, ahead)| clocks >= clocks_min && ahead < -AHEAD_MILLIS_MAX)
    }

    /// How many clocks were heard in the last minute, the own included, and how far their lower median is
    /// ahead of it.
    fn median(&self, now: u64) -> Option<(usize, i64)> {
        let own = self.me.as_ref().map(|_| 0);
        let mut ahead: Vec<i64> = self.lately(now).filter_map(|heard| heard.ahead).chain(own).collect();
        ahead.sort_unstable();
        let median = ahead.get(ahead.len().saturating_sub(1) / 2)?;
        Some((ahead.len(), *median))
    }
}
