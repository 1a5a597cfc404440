//! Synthetic workloads: who registers, is admitted, attests, and changes its key, in which order; all of it from a seed.
//!
//! # The law
//!
//! Identities are ranked by their age, 0 for the oldest. Of those that are there, the one of rank r attests, and is
//! attested to, with a weight of 1/(r + 3)^0.65: Zipf's law with Mandelbrot's offset. Since the oldest are there longest,
//! the counts at the end are less even than the weights. Exponent and offset were fitted to the trust network of Bitcoin
//! OTC, 35,592 ratings by 4,814 of 5,881 persons, so that the counts of as many events have its shares:
//!
//! | share of the | busiest 0.1 % | 1 % | 10 % | 50 % | most rated 0.1 % | 1 % | 10 % | 50 % |
//! |---|---|---|---|---|---|---|---|---|
//! | ratings there | 6 % | 24 % | 63 % | 92 % | 5 % | 23 % | 61 % | 90 % |
//! | attestations here | 5 % | 25 % | 62 % | 94 % | 6 % | 24 % | 61 % | 95 % |
//!
//! One ranking serves both sides since persons who rate much are rated much there: the counts correlate with 0.96.
//!
//! What an attestation gives has the frequencies of that network, each rating halved and rounded away from zero: −5 to 5.
//!
//! # The order
//!
//! After the first registration, events come in rounds of `events_per_identity`: a registration; the admission of the
//! identity before it, for the first `providers`; attestations; and in every twentieth round the last event is a change
//! of key. Three in four of those are rotations, the others revocations of identities that are not providers. No
//! identity changes its key twice. A provider attests from [`LEAD`] events after its admission on; while there are fewer than
//! twice as many, from the middle of all on. So a workload of fewer events with the same numbers is the beginning of a longer one.
use fama_ledger::key::{Curve, KeyError};
use fama_ledger::manifest::Policy;
use fama_ledger::secret::SecretKey;

/// Most identities of a workload: they need 8 bytes of memory each.
pub const IDENTITIES_MAX: u32 = 100_000_000;
/// Fewest events for each identity: it registers, may be admitted, and may change its key.
pub const EVENTS_PER_IDENTITY_MIN: u64 = 3;
/// Providers of a workload that says nothing else.
pub const PROVIDERS: u32 = 5_000;
/// Exponent of the real ratings.
pub const SKEW: f64 = 0.65;
/// Largest exponent: with it the first identity has nearly everything.
pub const SKEW_MAX: f64 = 3.0;

/// Mandelbrot's offset of the law.
const OFFSET: f64 = 3.0;
/// Weights are whole numbers of this part of one, so that sums do not depend on the order of additions.
const WEIGHT_UNIT: f64 = (1u64 << 40) as f64;
/// Events between the admission of a provider and its first attestation. A home that appends up to so many events at once
/// then knows of the admission: it takes attestations of those only whose sponsors it knew before the batch.
pub const LEAD: u64 = 4_096;
/// In every so many rounds, one identity changes its key.
const CHANGE_ROUNDS: u32 = 20;
/// The identity that changes its key registered this many rounds before.
const CHANGE_AGE: u32 = 9;
/// How often each delta occurs among the real ratings.
const DELTAS: [(i32, u64); 10] =
    [(1, 25_610), (2, 3_528), (-5, 2_433), (3, 1_533), (5, 873), (-1, 783), (4, 485), (-3, 184), (-2, 118), (-4, 45)];

/// What a workload is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Number of events; an admission counts as one, however many operators repeat it.
    pub events: u64,
    /// Events for each registration, at least [`EVENTS_PER_IDENTITY_MIN`].
    pub events_per_identity: u64,
    /// Most registrations, from 2 to [`IDENTITIES_MAX`]; after them come attestations only.
    pub identities: u32,
    /// How many of the first identities attest, at least 1.
    pub providers: u32,
    /// Exponent of the law, from 0 (all identities alike) to [`SKEW_MAX`].
    pub skew: f64,
    /// Another seed gives other keys, and another choice of who attests to whom.
    pub seed: u64,
}

/// Why there is no workload of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Too few or too many identities.
    #[error("want 2 to {IDENTITIES_MAX} identities")]
    Identities,
    /// Too few events for the identities.
    #[error("want at least {EVENTS_PER_IDENTITY_MIN} events for each identity")]
    Events,
    /// Nobody would attest.
    #[error("want at least 1 provider")]
    Providers,
    /// The exponent is out of range.
    #[error("want a skew of 0 to {SKEW_MAX}")]
    Skew,
}

impl ShapeError {
    /// Stable snake_case code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Events => "events",
            Self::Providers => "providers",
            Self::Skew => "skew",
        }
    }
}

/// One event, before it has a home, a time and a signature. Identities are numbers in the order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Registers with key version 1.
    Register {
        /// The new identity.
        identity: u32,
    },
    /// Sponsors a provider.
    Admit {
        /// The identity that may attest from now on.
        provider: u32,
    },
    /// Replaces key version 1 by version 2; the identity committed to no next key.
    Rotate {
        /// Whose key it is.
        identity: u32,
    },
    /// Ends key version 1.
    Revoke {
        /// Whose key it is; no provider.
        identity: u32,
    },
    /// Gives karma.
    Attest {
        /// The provider, which was admitted before.
        issuer: u32,
        /// Another identity, which registered before.
        subject: u32,
        /// From −5 to 5, not 0.
        delta: i32,
    },
}

/// A workload: any of its events can be computed without those before it.
#[derive(Debug)]
pub struct Workload {
    shape: Shape,
    /// The sum of the weights of all ranks up to each.
    weights: Vec<u64>,
}

impl Workload {
    /// Computes the weights of all identities.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn new(mut shape: Shape) -> Result<Self, ShapeError> {
        if !(2..=IDENTITIES_MAX).contains(&shape.identities) {
            return Err(ShapeError::Identities);
        }
        if shape.events_per_identity < EVENTS_PER_IDENTITY_MIN || shape.events < EVENTS_PER_IDENTITY_MIN {
            return Err(ShapeError::Events);
        }
        if shape.providers == 0 {
            return Err(ShapeError::Providers);
        }
        if !(0.0..=SKEW_MAX).contains(&shape.skew) {
            return Err(ShapeError::Skew);
        }
        let rounds = shape.events.saturating_sub(1).div_ceil(shape.events_per_identity);
        shape.identities = shape.identities.min(u32::try_from(rounds.saturating_add(1)).unwrap_or(u32::MAX));
        let mut sum = 0u64;
        let weights = (0..shape.identities).map(|rank| {
            sum = sum.saturating_add(weight(rank, shape.skew));
            sum
        });
        Ok(Self { weights: weights.collect(), shape })
    }

    /// What it is made of; its identities are those that register.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of identities that are admitted.
    #[must_use]
    pub fn providers(&self) -> u32 {
        // The admission of the last identity comes in a round that may have no place for it any more.
        let last = self.shape.identities.saturating_sub(1);
        let admitted = if self.admitted_at(last) < self.shape.events { last.saturating_add(1) } else { last };
        self.shape.providers.min(admitted)
    }

    /// Index of an identity's registration.
    #[must_use]
    pub const fn registered_at(&self, identity: u32) -> u64 {
        match identity {
            0 => 0,
            _ => (identity as u64 - 1).saturating_mul(self.shape.events_per_identity).saturating_add(1),
        }
    }

    /// Index of the event that admits an identity, if it is a provider.
    const fn admitted_at(&self, identity: u32) -> u64 {
        self.registered_at(identity.saturating_add(1)).saturating_add(1)
    }

    /// The version of the key with which an identity signs the event at `index`, other than its rotation.
    #[must_use]
    pub fn version_at(&self, identity: u32, index: u64) -> u32 {
        let at = (u64::from(identity) + u64::from(CHANGE_AGE)).saturating_mul(self.shape.events_per_identity);
        let rotated = self.change(at).is_some_and(|step| step == Step::Rotate { identity }) && at < index;
        if rotated { 2 } else { 1 }
    }

    /// One version of an identity's key, on secp256k1. Keys follow from the seed: they protect nothing.
    ///
    /// # Errors
    /// [`KeyError::Scalar`] for one seed in 2¹²⁷.
    pub fn key(&self, identity: u32, version: u32) -> Result<SecretKey, KeyError> {
        SecretKey::from_seed(Curve::Secp256k1, &self.draw(b"key", u64::from(identity) << 32 | u64::from(version)))
    }

    /// The event at `index`, from 0 on.
    #[must_use]
    pub fn step(&self, index: u64) -> Step {
        let Some(after) = index.checked_sub(1) else { return Step::Register { identity: 0 } };
        let round = after / self.shape.events_per_identity;
        let identity = u32::try_from(round.saturating_add(1)).unwrap_or(u32::MAX);
        match after % self.shape.events_per_identity {
            0 if identity < self.shape.identities => return Step::Register { identity },
            1 if identity <= self.shape.providers.min(self.shape.identities) => {
                return Step::Admit { provider: identity.saturating_sub(1) };
            }
            _ => {}
        }
        if let Some(change) = self.change(index) {
            return change;
        }
        let [issuer, subject, delta, _] = self.numbers(index);
        let issuer = self.rank(issuer, self.attesting(index));
        let subject = self.rank(subject, identity.saturating_add(1).min(self.shape.identities));
        // Who would rate itself rates the next older identity, or the first the second.
        let subject = if subject == issuer { subject.checked_sub(1).unwrap_or(1) } else { subject };
        Step::Attest { issuer, subject, delta: delta_of(delta) }
    }

    /// How many providers attest at `index`: those that were admitted [`LEAD`] events ago, or in the first half of a
    /// workload that is shorter so far; at least the first.
    fn attesting(&self, index: u64) -> u32 {
        let before = index.saturating_sub(LEAD.min(index / 2));
        // The first is admitted at index 2, the others a round later each.
        let admitted = before.saturating_sub(2).div_ceil(self.shape.events_per_identity);
        let most = self.shape.providers.min(self.shape.identities);
        u32::try_from(admitted).unwrap_or(u32::MAX).clamp(1, most)
    }

    /// The change of a key at `index`, if there is one.
    fn change(&self, index: u64) -> Option<Step> {
        if index == 0 || !index.is_multiple_of(self.shape.events_per_identity) {
            return None;
        }
        let round = u32::try_from(index / self.shape.events_per_identity).ok()?;
        if round % CHANGE_ROUNDS != CHANGE_ROUNDS - 1 || round >= self.shape.identities {
            return None;
        }
        let identity = round.checked_sub(CHANGE_AGE)?;
        let revoked = (round / CHANGE_ROUNDS) % 4 == 3 && identity >= self.shape.providers;
        Some(if revoked { Step::Revoke { identity } } else { Step::Rotate { identity } })
    }

    /// The rank, below `ranks`, on which a random number falls.
    fn rank(&self, random: u64, ranks: u32) -> u32 {
        let weights = self.weights.get(..ranks as usize).unwrap_or(&self.weights);
        let all = weights.last().copied().unwrap_or(1);
        let rank = weights.partition_point(|sum| *sum <= random % all);
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// Four random numbers that belong to an index.
    fn numbers(&self, index: u64) -> [u64; 4] {
        let drawn = self.draw(b"step", index);
        let (words, _) = drawn.as_chunks::<8>();
        std::array::from_fn(|at| words.get(at).copied().map_or(0, u64::from_le_bytes))
    }

    fn draw(&self, what: &[u8], number: u64) -> [u8; 32] {
        let parts = [b"fama synthetic ", what, &self.shape.seed.to_le_bytes(), &number.to_le_bytes()];
        *blake3::hash(&parts.concat()).as_bytes()
    }
}

/// The recommended policy for `n` operators, with daily limits that no workload reaches: its days are busier than those of
/// the network that it resembles.
#[must_use]
pub fn policy(n: usize) -> Policy {
    Policy {
        daily_cap: 1_000,
        daily_registrations: u32::MAX,
        daily_attestations: u32::MAX,
        daily_new_providers: u32::MAX,
        daily_bytes: 1 << 40,
        ..Policy::recommended(n)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^40")]
fn weight(rank: u32, skew: f64) -> u64 {
    ((WEIGHT_UNIT / (f64::from(rank) + OFFSET).powf(skew)) as u64).max(1)
}

fn delta_of(random: u64) -> i32 {
    let mut left = random % DELTAS.iter().map(|(_, count)| count).sum::<u64>();
    for (delta, count) in DELTAS {
        match left.checked_sub(count) {
            Some(less) => left = less,
            None => return delta,
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const SHAPE: Shape = Shape {
        events: 60_000,
        events_per_identity: 10,
        identities: IDENTITIES_MAX,
        providers: 1_000,
        skew: SKEW,
        seed: 7,
    };

    fn steps(shape: Shape) -> Vec<Step> {
        let workload = Workload::new(shape).unwrap();
        (0..shape.events).map(|index| workload.step(index)).collect()
    }

    #[test]
    fn the_same_numbers_give_the_same_events_and_a_longer_workload_begins_with_a_shorter_one() {
        let all = steps(SHAPE);
        assert_eq!(all, steps(SHAPE));
        assert_eq!(all[..12_345], steps(Shape { events: 12_345, ..SHAPE }));
        let other = Shape { seed: 8, ..SHAPE };
        let same =
            all.iter().zip(steps(other)).filter(|(one, two)| **one == *two && matches!(one, Step::Attest { .. }));
        assert!(same.count() < 600, "another seed is another choice");
        let keys = [SHAPE, other].map(|shape| Workload::new(shape).unwrap().key(3, 1).unwrap().public());
        assert_ne!(keys[0], keys[1]);
        // The text of these is what a folder that was grown before continues with.
        assert_eq!(all[2], Step::Admit { provider: 0 });
        assert_eq!(all[59_999], Step::Attest { issuer: 208, subject: 2_715, delta: 1 });
    }

    /// Every step follows from those before it, as a node would want it.
    #[test]
    fn nobody_acts_before_it_can() {
        for shape in [
            SHAPE,
            Shape { events: 20_000, events_per_identity: 3, providers: 5_000, ..SHAPE },
            Shape { events: 9_999, identities: 300, providers: 300, ..SHAPE },
            Shape { events: 5_000, identities: 2, providers: 1, events_per_identity: 2_500, ..SHAPE },
            Shape { events: 4, providers: 1, ..SHAPE },
        ] {
            let workload = Workload::new(shape).unwrap();
            let (mut versions, mut revoked, mut admitted) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            for index in 0..shape.events {
                let signs = |identity: u32| workload.version_at(identity, index);
                match workload.step(index) {
                    Step::Register { identity } => {
                        assert_eq!((identity as usize, workload.registered_at(identity)), (versions.len(), index));
                        versions.push(1);
                    }
                    Step::Admit { provider } => {
                        assert!((provider as usize) < versions.len() && admitted.insert(provider));
                        assert_eq!(provider as usize + 1, admitted.len());
                    }
                    Step::Rotate { identity } => {
                        assert_eq!((versions[identity as usize], signs(identity)), (1, 1));
                        versions[identity as usize] = 2;
                    }
                    Step::Revoke { identity } => {
                        assert_eq!((versions[identity as usize], signs(identity)), (1, 1));
                        assert!(revoked.insert(identity) && !admitted.contains(&identity));
                    }
                    Step::Attest { issuer, subject, delta } => {
                        assert!(admitted.contains(&issuer) && issuer != subject && !revoked.contains(&issuer));
                        assert_eq!(versions[issuer as usize], signs(issuer), "{issuer} at {index}");
                        assert!((subject as usize) < versions.len() && delta != 0 && delta.abs() <= 5);
                    }
                }
            }
            assert_eq!(versions.len(), workload.shape().identities as usize, "{shape:?}");
            assert_eq!(admitted.len(), workload.providers() as usize, "{shape:?}");
        }
    }

    #[test]
    fn the_skew_is_that_of_the_real_ratings() {
        // About as many persons, raters and ratings as there.
        let all = steps(Shape { events: 35_592 + 5_881 + 4_814, events_per_identity: 8, providers: 4_814, ..SHAPE });
        let (mut given, mut got, mut deltas) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for step in &all {
            if let Step::Attest { issuer, subject, delta } = step {
                *given.entry(issuer).or_insert(0u32) += 1;
                *got.entry(subject).or_insert(0u32) += 1;
                *deltas.entry(*delta).or_insert(0u32) += 1;
            }
        }
        // 1 and 10 % of them.
        for (counts, tops, real) in [(&given, [48, 481], [0.24, 0.63]), (&got, [58, 585], [0.23, 0.61])] {
            let mut counts: Vec<u32> = counts.values().copied().collect();
            counts.sort_unstable_by(|one, two| two.cmp(one));
            let all = f64::from(counts.iter().sum::<u32>());
            for (people, real) in tops.into_iter().zip(real) {
                let share = f64::from(counts[..people].iter().sum::<u32>()) / all;
                assert!((share - real).abs() < 0.06, "the first {people} have {share}, not {real}");
            }
        }
        let share = |delta: i32| f64::from(deltas[&delta]) / f64::from(deltas.values().sum::<u32>());
        assert!((share(1) - 0.72).abs() < 0.01 && (share(-5) - 0.068).abs() < 0.01);
    }

    #[test]
    fn some_keys_change() {
        let (mut rotations, mut revocations) = (0u32, 0u32);
        for step in steps(SHAPE) {
            rotations += u32::from(matches!(step, Step::Rotate { .. }));
            revocations += u32::from(matches!(step, Step::Revoke { .. }));
        }
        assert_eq!((rotations, revocations), (237, 63), "of 6,000 identities 5 % change their keys");
    }

    #[test]
    fn shapes_that_make_no_sense_are_refused() {
        let check = |shape: Shape, want: ShapeError| assert_eq!(Workload::new(shape).unwrap_err(), want);
        check(Shape { identities: 1, ..SHAPE }, ShapeError::Identities);
        check(Shape { identities: IDENTITIES_MAX + 1, ..SHAPE }, ShapeError::Identities);
        check(Shape { events_per_identity: 2, ..SHAPE }, ShapeError::Events);
        check(Shape { providers: 0, ..SHAPE }, ShapeError::Providers);
        check(Shape { skew: -0.1, ..SHAPE }, ShapeError::Skew);
        check(Shape { skew: f64::NAN, ..SHAPE }, ShapeError::Skew);
    }
}
