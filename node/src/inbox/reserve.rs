//! What an owner keeps back of its log's day: for rotations, for revocations, and for claims against each other
//! operator's homes. The fold knows none of it: other logs are judged by their bytes alone.
use fama_ledger::id::Domain;
use fama_ledger::time::Day;

use crate::store::ReservedBytes;

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
}

/// The parts of one day's reserve, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve {
    rotations: u64,
    revocations: u64,
    claims: u64,
    /// The most that claims against one operator's homes take.
    claims_each: u64,
}

impl Reserve {
    /// A tenth of the day: half of it for claims, a quarter each for rotations and for revocations at home.
    ///
    /// With at most `faults` liars, claims against all their homes leave one share of the claims' half for each honest
    /// operator that needs it.
    pub(super) const fn of(daily_bytes: u64, faults: usize) -> Self {
        let whole = daily_bytes / 10;
        let (quarter, half, shares) = (whole / 4, whole / 2, (faults as u64).saturating_add(1));
        Self { rotations: quarter, revocations: quarter, claims: half, claims_each: half / shares }
    }

    /// How many bytes of the day an event may not use, because other purposes have not used their parts yet.
    pub(super) fn kept_from(&self, purpose: &Purpose, used: &ReservedBytes) -> u64 {
        let all_claims = used.claims.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let kept = |own: bool, part: u64, used: u64| if own { 0 } else { part.saturating_sub(used) };
        kept(matches!(purpose, Purpose::Rotation), self.rotations, used.rotations)
            .saturating_add(kept(matches!(purpose, Purpose::Revocation), self.revocations, used.revocations))
            .saturating_add(kept(matches!(purpose, Purpose::Claim(_)), self.claims, all_claims))
    }

    /// Whether a claim of `bytes` against `operator`'s homes is within that operator's share.
    pub(super) fn takes_claim(&self, operator: &Domain, bytes: u64, used: &ReservedBytes) -> bool {
        used.claims.get(operator).copied().unwrap_or_default().saturating_add(bytes) <= self.claims_each
    }
}

impl ReservedBytes {
    /// What was used on `day`: nothing unless it is this record's day.
    pub(super) fn on(&self, day: Day) -> Self {
        if self.day == day.0 { self.clone() } else { Self { day: day.0, ..Self::default() } }
    }

    /// Counts an entry of this purpose.
    pub(super) fn count(&mut self, purpose: &Purpose, bytes: u64) {
        let used = match purpose {
            Purpose::Other => return,
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

    /// Fills the day with one purpose after the other; each is taken in as long as it fits.
    #[test]
    fn every_part_is_there_whatever_the_others_use() {
        let reserve = Reserve::of(4_000, 1);
        let claim = |name: &str| Purpose::Claim(name.parse().unwrap());
        let (mut used, mut total) = (ReservedBytes::default(), 0);
        let mut fill = |purpose: &Purpose| {
            let mut taken = 0;
            let share = |used: &ReservedBytes| match purpose {
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
        assert_eq!(used.on(Day(1)), ReservedBytes { day: 1, ..ReservedBytes::default() }, "another day begins anew");
    }

    #[test]
    fn nothing_but_revocations_uses_their_part() {
        let reserve = Reserve::of(4_000, 0);
        let used = ReservedBytes::default();
        let kept = |purpose| reserve.kept_from(&purpose, &used);
        assert_eq!(kept(Purpose::Other), 400);
        assert_eq!((kept(Purpose::Rotation), kept(Purpose::Revocation)), (300, 300));
        assert_eq!(kept(Purpose::Claim("a.example".parse().unwrap())), 200);
    }
}
