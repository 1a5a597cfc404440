//! What an owner keeps back of its log's day: for rotations, for revocations, for claims against each other operator's
//! homes, and for registrations that other operators do not forward. The fold knows none of it.
use fama_ledger::id::Domain;
use fama_ledger::manifest::Policy;
use fama_ledger::time::Day;

use crate::store::DayUsage;

/// What an event is taken in for, and so which part of the reserve is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything that has no part of its own.
    Other,
    /// A rotation in a home of this log.
    Rotation,
    /// A revocation in a home of this log.
    Revocation,
    /// A revocation in a home of this operator, which another log carries.
    Claim(Domain),
    /// A registration that this operator's node forwards. It has no part of the reserve, and a bound of its own.
    Forwarded(Domain),
}

/// The parts of one day's reserve, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve {
    rotations: u64,
    revocations: u64,
    claims: u64,
    /// The most that claims against one operator's homes take.
    claims_each: u64,
    /// The most registrations that one operator's node may forward.
    pub(super) forwarded_each: u32,
}

impl Reserve {
    /// A tenth of the day: half of it for claims, a quarter each for rotations and for revocations at home.
    ///
    /// With at most `faults` liars, claims against all their homes leave one share of the claims' half for each honest
    /// operator that needs it, and their forwarded registrations at least half of the day's to everybody else.
    pub(super) fn of(policy: &Policy, faults: usize) -> Self {
        let whole = policy.daily_bytes / 10;
        let (quarter, half, shares) = (whole / 4, whole / 2, (faults as u64).saturating_add(1));
        let liars = u32::try_from(faults).unwrap_or(u32::MAX).max(1);
        let forwarded_each = policy.daily_registrations / liars.saturating_mul(2);
        Self { rotations: quarter, revocations: quarter, claims: half, claims_each: half / shares, forwarded_each }
    }

    /// How many bytes of the day an event may not use, because other purposes have not used their parts yet.
    pub(super) fn kept_from(&self, purpose: &Purpose, used: &DayUsage) -> u64 {
        let all_claims = used.claims.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let kept = |own: bool, part: u64, used: u64| if own { 0 } else { part.saturating_sub(used) };
        kept(matches!(purpose, Purpose::Rotation), self.rotations, used.rotations)
            .saturating_add(kept(matches!(purpose, Purpose::Revocation), self.revocations, used.revocations))
            .saturating_add(kept(matches!(purpose, Purpose::Claim(_)), self.claims, all_claims))
    }

    /// Whether a claim of `bytes` against `operator`'s homes is within that operator's share.
    pub(super) fn takes_claim(&self, operator: &Domain, bytes: u64, used: &DayUsage) -> bool {
        used.claims.get(operator).copied().unwrap_or_default().saturating_add(bytes) <= self.claims_each
    }
}

impl DayUsage {
    /// What was used on `day`: nothing unless it is this record's day.
    pub(super) fn on(&self, day: Day) -> Self {
        if self.day == day.0 { self.clone() } else { Self { day: day.0, ..Self::default() } }
    }

    /// Counts an entry of this purpose.
    pub(super) fn count(&mut self, purpose: &Purpose, bytes: u64) {
        let used = match purpose {
            Purpose::Other => return,
            Purpose::Forwarded(operator) => {
                let count = self.forwarded.entry(operator.clone()).or_default();
                *count = count.saturating_add(1);
                return;
            }
            Purpose::Rotation => &mut self.rotations,
            Purpose::Revocation => &mut self.revocations,
            Purpose::Claim(operator) => self.claims.entry(operator.clone()).or_default(),
        };
        *used = used.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { daily_bytes: 4_000, ..Policy::recommended(4) }
    }

    /// Fills the day with one purpose after the other; each is taken in as long as it fits.
    #[test]
    fn every_part_is_there_whatever_the_others_use() {
        let reserve = Reserve::of(&policy(), 1);
        let claim = |name: &str| Purpose::Claim(name.parse().unwrap());
        let (mut used, mut total) = (DayUsage::default(), 0);
        let mut fill = |purpose: &Purpose| {
            let mut taken = 0;
            let share = |used: &DayUsage| match purpose {
                Purpose::Claim(operator) => reserve.takes_claim(operator, 1, used),
                _ => true,
            };
            while total + 1 + reserve.kept_from(purpose, &used) <= 4_000 && share(&used) {
                used.count(purpose, 1);
                total += 1;
                taken += 1;
            }
            taken
        };
        assert_eq!(fill(&Purpose::Other), 3_600);
        assert_eq!(fill(&claim("liar.example")), 100, "one operator's share");
        assert_eq!(fill(&Purpose::Rotation), 100);
        assert_eq!(fill(&claim("honest.example")), 100, "the other share of the claims' half");
        assert_eq!(fill(&claim("third.example")), 0);
        assert_eq!(fill(&Purpose::Revocation), 100);
        assert_eq!(used.on(Day(1)), DayUsage { day: 1, ..DayUsage::default() }, "another day begins anew");
    }

    /// Two liars of seven operators forward as many registrations as they like: half of the day is left.
    #[test]
    fn forwarders_leave_half_of_the_registrations_to_others() {
        let policy = policy();
        let (each, used) = (Reserve::of(&policy, 2).forwarded_each, &mut DayUsage::default());
        assert_eq!(each * 2, policy.daily_registrations / 2);
        assert_eq!(Reserve::of(&policy, 0).forwarded_each, policy.daily_registrations / 2);
        let liar = Purpose::Forwarded("liar.example".parse().unwrap());
        (0..3).for_each(|_| used.count(&liar, 500));
        assert_eq!(used.forwarded.values().sum::<u32>(), 3, "entries, not bytes");
    }

    #[test]
    fn nothing_but_revocations_uses_their_part() {
        let reserve = Reserve::of(&policy(), 0);
        let used = DayUsage::default();
        let kept = |purpose| reserve.kept_from(&purpose, &used);
        assert_eq!(kept(Purpose::Other), 400);
        assert_eq!((kept(Purpose::Rotation), kept(Purpose::Revocation)), (300, 300));
        assert_eq!(kept(Purpose::Claim("a.example".parse().unwrap())), 200);
    }
}
