//! Views of karma that weigh attestations: by age, and by how much one provider may contribute. In integers, so that
//! every node and every reader computes the same.
//!
//! The ledger knows one score, [`crate::join::Karma`]. A view is a reader's own opinion about the same attestations.

/// Fractional bits of a [`decay`] factor: 2^32 stands for 1.
const FACTOR_BITS: u32 = 32;
/// Fractional bits of an age in half-lives that count.
const AGE_BITS: usize = 20;
/// Millionths of a point in a point.
pub const MICROPOINTS: i128 = 1_000_000;

/// `ROOTS[k]` is 2^(−2^−(k+1)) in 2^32ths, rounded down: each is the square root of the one before.
const ROOTS: [u64; AGE_BITS] = {
    let mut roots = [0; AGE_BITS];
    let (mut k, mut square) = (0, 1u64 << 31);
    while k < AGE_BITS {
        #[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            square = (square << FACTOR_BITS).isqrt();
            roots[k] = square;
            k += 1;
        }
    }
    roots
};

/// What is left of 1 after `age`, with the given half-life, both in milliseconds: 2^(−age / half-life) in 2^32ths.
///
/// The age in half-lives is rounded down to 2^−20; each of its bits multiplies the factor by a root of one half, and each
/// product is rounded down. A half-life of 0 counts as 1.
#[must_use]
pub fn decay(age: u64, half_life: u64) -> u64 {
    let half_life = half_life.max(1);
    let (whole, rest) = (age.checked_div(half_life).unwrap_or(0), age.checked_rem(half_life).unwrap_or(0));
    if whole >= u64::from(FACTOR_BITS) {
        return 0;
    }
    let fraction = (u128::from(rest) << AGE_BITS).checked_div(u128::from(half_life)).unwrap_or(0);
    let mut factor = 1u128 << FACTOR_BITS;
    for (k, root) in ROOTS.iter().enumerate() {
        let bit = AGE_BITS.saturating_sub(1).saturating_sub(k);
        if (fraction >> bit) & 1 == 1 {
            factor = factor.saturating_mul(u128::from(*root)) >> FACTOR_BITS;
        }
    }
    u64::try_from(factor >> whole).unwrap_or(0)
}

/// An effective delta after `age`, in micropoints, rounded towards zero.
#[must_use]
pub fn decayed(effective: i32, age: u64, half_life: Option<u64>) -> i128 {
    let micropoints = i128::from(effective).saturating_mul(MICROPOINTS);
    match half_life {
        None => micropoints,
        Some(half_life) => {
            // Divided, not shifted: a shift would round what is negative away from zero.
            let product = micropoints.saturating_mul(i128::from(decay(age, half_life)));
            product.checked_div(1 << FACTOR_BITS).unwrap_or(0)
        }
    }
}

/// The most that one provider may contribute, by absolute value, when its share is limited: `percent` hundredths of the
/// sum of all contributions' absolute values, rounded down.
#[must_use]
pub fn share_cap(contributions: impl Iterator<Item = i128>, percent: u32) -> i128 {
    let sum = contributions.fold(0i128, |sum, one| sum.saturating_add(one.saturating_abs()));
    sum.saturating_mul(i128::from(percent)).checked_div(100).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_factor_halves_with_each_half_life() {
        assert_eq!(decay(0, DAY), 1 << 32);
        assert_eq!(decay(DAY, DAY), 1 << 31);
        assert_eq!(decay(31 * DAY, DAY), 2);
        assert_eq!(decay(32 * DAY, DAY), 0);
        assert_eq!(decay(u64::MAX, 1), 0);
        assert_eq!(decay(0, 0), 1 << 32);
        // 2^32 × 2^(−1/2) and 2^32 × 2^(−1/4), rounded down.
        assert_eq!(decay(DAY / 2, DAY), 3_037_000_499);
        assert_eq!(decay(DAY / 4, DAY), 3_611_622_602);
    }

    #[test]
    fn a_factor_never_grows_with_age() {
        let mut before = u64::MAX;
        for age in (0..40 * DAY).step_by(7_919_123) {
            let factor = decay(age, 3 * DAY);
            assert!(factor <= before, "{age}");
            before = factor;
        }
    }

    #[test]
    fn a_factor_is_close_to_the_exact_one() {
        for (age, exact) in [(DAY, 3_408_917_801u64), (2 * DAY, 2_705_659_852), (10 * DAY, 426_114_725)] {
            // 2^32 × 2^(−age / 3 days).
            let off = decay(age, 3 * DAY).abs_diff(exact);
            assert!(off < exact >> 19, "{age}: off by {off}");
        }
    }

    #[test]
    fn a_decayed_delta_is_rounded_towards_zero() {
        assert_eq!(decayed(5, 0, None), 5_000_000);
        assert_eq!(decayed(5, DAY, Some(DAY)), 2_500_000);
        assert_eq!(decayed(-5, DAY, Some(DAY)), -2_500_000);
        assert_eq!(decayed(1, DAY / 2, Some(DAY)), 707_106);
        assert_eq!(decayed(-1, DAY / 2, Some(DAY)), -707_106);
        assert_eq!(decayed(i32::MIN, 0, Some(DAY)), -2_147_483_648_000_000);
    }

    #[test]
    fn a_share_is_of_all_absolute_values() {
        assert_eq!(share_cap([10, -10, 5].into_iter(), 20), 5);
        assert_eq!(share_cap([i128::MAX, i128::MIN].into_iter(), 100), i128::MAX / 100);
        assert_eq!(share_cap([].into_iter(), 50), 0);
    }
}
