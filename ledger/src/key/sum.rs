//! Sums of many multiples of points on secp256k1, in variable time: nothing here is secret.
//!
//! Pippenger's method ("On the evaluation of powers and monomials", 1980) with affine buckets: a multiple of each point is
//! split into digits, the points with the same digit at the same place are added up, and so on with the sums and smaller
//! digits, until one point is left for each bit. Pairs of points are added in rounds, which share one inversion: an addition
//! then costs six multiplications in the field, about half of what it costs without affine coordinates.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "field arithmetic, and indices that are counted here: neither depends on a value that a stranger sent"
)]
use alloc::vec;
use alloc::vec::Vec;

use k256::elliptic_curve::group::Group;
use k256::elliptic_curve::hazmat::FieldArithmetic;
use k256::elliptic_curve::point::AffineCoordinates;
use k256::elliptic_curve::scalar::IsHigh;
use k256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar, Secp256k1};

/// An element of the field of coordinates. k256 normalizes late: the comments say by which magnitude, in multiples of the
/// modulus, a value is bounded. A factor may have 8.
type Field = <Secp256k1 as FieldArithmetic>::FieldElement;

/// A cube root of 1 in the field: (β·x, y) is λ·(x, y).
const BETA: [u8; 32] = [
    0x7a, 0xe9, 0x6a, 0x2b, 0x65, 0x7c, 0x07, 0x10, 0x6e, 0x64, 0x47, 0x9e, 0xac, 0x34, 0x34, 0xe9, 0x9c, 0xf0, 0x49,
    0x75, 0x12, 0xf5, 0x89, 0x95, 0xc1, 0x39, 0x6c, 0x28, 0x71, 0x95, 0x01, 0xee,
];
/// The cube root of 1 modulo the order that belongs to [`BETA`].
const LAMBDA: [u8; 32] = [
    0x53, 0x63, 0xad, 0x4c, 0xc0, 0x5c, 0x30, 0xe0, 0xa5, 0x26, 0x1c, 0x02, 0x88, 0x12, 0x64, 0x5a, 0x12, 0x2e, 0x22,
    0xea, 0x20, 0x81, 0x66, 0x78, 0xdf, 0x02, 0x96, 0x7c, 0x1b, 0x23, 0xbd, 0x72,
];

/// λ as a scalar.
pub(super) fn lambda() -> Scalar {
    scalar(&LAMBDA)
}

fn scalar(bytes: &[u8; 32]) -> Scalar {
    use k256::elliptic_curve::ff::PrimeField;
    Scalar::from_repr(FieldBytes::from(*bytes)).into_option().unwrap_or_default()
}

/// A point that is not the identity, in affine coordinates of magnitude 1. No point of this curve has order 2, so y is never
/// zero.
#[derive(Clone, Copy)]
pub(super) struct Point {
    x: Field,
    y: Field,
}

impl Point {
    /// The points with these x coordinates, big-endian, whose y is odd or even; `None` where there is none.
    ///
    /// Several roots are taken side by side: a processor has room for more than one chain of squarings.
    pub(super) fn lift_all(of: &[Compressed]) -> Vec<Option<Self>> {
        const SIDE_BY_SIDE: usize = 4;
        let mut points = Vec::with_capacity(of.len());
        for some in of.chunks(SIDE_BY_SIDE) {
            let mut squares = [Field::ONE; SIDE_BY_SIDE];
            let xs = some.iter().map(|one| Field::from_bytes(&FieldBytes::from(one.x)).into_option());
            let xs: Vec<Option<Field>> = xs.collect();
            for (square, x) in squares.iter_mut().zip(&xs) {
                *square = x.map_or(Field::ONE, |x| x.square().mul(&x) + Field::from_u64(7)); // 2
            }
            for (((one, x), y), square) in some.iter().zip(xs).zip(roots(&squares)).zip(squares) {
                let is_root = bool::from((y.square().negate(1) + square).normalizes_to_zero());
                let y = y.normalize();
                let y = if bool::from(y.is_odd()) == one.odd { y } else { y.negate(1).normalize() };
                points.push(x.filter(|_| is_root).map(|x| Self { x, y }));
            }
        }
        points
    }

    pub(super) fn generator() -> Option<Self> {
        let point = AffinePoint::GENERATOR;
        let compressed = Compressed { x: point.x().into(), odd: point.y_is_odd().into() };
        Self::lift_all(&[compressed]).pop().flatten()
    }

    pub(super) fn negated(self) -> Self {
        Self { x: self.x, y: self.y.negate(1).normalize_weak() }
    }

    /// λ times the point.
    pub(super) fn by_lambda(self) -> Self {
        let beta = Field::from_bytes(&FieldBytes::from(BETA)).into_option().unwrap_or_default();
        Self { x: self.x.mul(&beta), y: self.y }
    }

    /// The point for k256, which checks that it is on the curve: `None` if it is not, which only a fault here brings about.
    fn projective(self) -> Option<ProjectivePoint> {
        let (x, y) = (self.x.normalize().to_bytes(), self.y.normalize().to_bytes());
        AffinePoint::from_coordinates(&x, &y).map(ProjectivePoint::from).into_option()
    }
}

/// The x coordinate of a point, big-endian, and which of the two points with it is meant.
#[derive(Clone, Copy)]
pub(super) struct Compressed {
    pub(super) x: [u8; 32],
    pub(super) odd: bool,
}

/// Each to the power (p + 1)/4, which is a square root of what has one: the exponent in binary is 223 ones, a zero, 22 ones,
/// four zeros, two ones and two zeros.
fn roots<const N: usize>(squares: &[Field; N]) -> [Field; N] {
    let product = |a: &[Field; N], b: &[Field; N]| core::array::from_fn(|i| a[i].mul(&b[i]));
    let raised = |of: &[Field; N], doublings: u32| {
        let mut power = *of;
        (0..doublings).for_each(|_| power.iter_mut().for_each(|one| *one = one.square()));
        power
    };
    // Of so many ones.
    let ones_2 = product(&raised(squares, 1), squares);
    let ones_3 = product(&raised(&ones_2, 1), squares);
    let ones_6 = product(&raised(&ones_3, 3), &ones_3);
    let ones_9 = product(&raised(&ones_6, 3), &ones_3);
    let ones_11 = product(&raised(&ones_9, 2), &ones_2);
    let ones_22 = product(&raised(&ones_11, 11), &ones_11);
    let ones_44 = product(&raised(&ones_22, 22), &ones_22);
    let ones_88 = product(&raised(&ones_44, 44), &ones_44);
    let ones_176 = product(&raised(&ones_88, 88), &ones_88);
    let ones_220 = product(&raised(&ones_176, 44), &ones_44);
    let ones_223 = product(&raised(&ones_220, 3), &ones_3);
    let power = product(&raised(&ones_223, 23), &ones_22);
    raised(&product(&raised(&power, 6), &ones_2), 2)
}

/// A term of a sum: this many times the point.
#[derive(Clone, Copy)]
pub(super) struct Multiple {
    pub(super) point: Point,
    pub(super) times: u128,
}

/// Two multiples that are together `times` times the point: k₁·P + k₂·λ·P, both factors below 2¹²⁸ ("Guide to Elliptic Curve
/// Cryptography", algorithm 3.74, with the estimates of libsecp256k1). `None` if they are not, which no scalar brings about.
pub(super) fn halves(point: Point, times: &Scalar) -> Option<[Multiple; 2]> {
    /// 2³⁸⁴·b₂/n and −2³⁸⁴·b₁/n, rounded; the least limb first.
    const G1: [u64; 4] = [0xe893_209a_45db_b031, 0x3daa_8a14_71e8_ca7f, 0xe86c_90e4_9284_eb15, 0x3086_d221_a7d4_6bcd];
    const G2: [u64; 4] = [0x1571_b4ae_8ac4_7f71, 0x2212_08ac_9df5_06c6, 0x6f54_7fa9_0abf_e4c4, 0xe443_7ed6_010e_8828];
    /// −b₁ and b₂.
    const MINUS_B1: u128 = 0xe443_7ed6_010e_8828_6f54_7fa9_0abf_e4c3;
    const B2: u128 = 0x3086_d221_a7d4_6bcd_e86c_90e4_9284_eb15;
    let bytes: [u8; 32] = times.to_bytes().into();
    let second = Scalar::from(product_shifted(&bytes, &G1)) * Scalar::from(MINUS_B1)
        - Scalar::from(product_shifted(&bytes, &G2)) * Scalar::from(B2);
    let first = times - &(second * lambda());
    let half = |point: Point, times: Scalar| {
        let (point, times) = if times.is_high().into() { (point.negated(), -times) } else { (point, times) };
        let bytes: [u8; 32] = times.to_bytes().into();
        let (high, low) = bytes.split_at(16);
        let times = u128::from_be_bytes(low.try_into().ok()?);
        high.iter().all(|byte| *byte == 0).then_some(Multiple { point, times })
    };
    Some([half(point, first)?, half(point.by_lambda(), second)?])
}

/// The product of two numbers of 256 bits, divided by 2³⁸⁴ and rounded. The first is big-endian.
fn product_shifted(bytes: &[u8; 32], by: &[u64; 4]) -> u128 {
    let mut limbs = [0u64; 4];
    for (limb, bytes) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *limb = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    let mut product = [0u64; 8];
    for (i, a) in limbs.iter().enumerate() {
        let mut carry = 0u128;
        for (j, b) in by.iter().enumerate() {
            let sum = u128::from(*a) * u128::from(*b) + u128::from(product[i + j]) + carry;
            (product[i + j], carry) = (low(sum), sum >> 64);
        }
        product[i + 4] = low(carry);
    }
    (u128::from(product[7]) << 64 | u128::from(product[6])) + u128::from(product[5] >> 63)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn low(wide: u128) -> u64 {
    wide as u64
}

/// Whether the sum of all is the identity.
pub(super) fn is_zero(multiples: &[Multiple]) -> bool {
    let window = window(multiples.len());
    let mut sums = signed_digits(multiples, window);
    let mut width = window;
    while width > 1 {
        width = if width > 3 { width.div_ceil(2) } else { 1 };
        sums = smaller_digits(&sums, width);
    }
    // Now each is 2^place times its point.
    sums.sort_unstable_by_key(|sum| core::cmp::Reverse(sum.place));
    let (mut total, mut at) = (ProjectivePoint::IDENTITY, sums.first().map_or(0, |sum| sum.place));
    for sum in sums {
        (0..at - sum.place).for_each(|_| total = total.double());
        let Some(point) = sum.point.projective() else { return false };
        (total, at) = (total + point, sum.place);
    }
    // Doubling what is not the identity never makes it one: the order is odd.
    total.is_identity().into()
}

/// A digit in the base 2^`width` has so many bits that the work for the buckets is about that for the points.
fn window(multiples: usize) -> u32 {
    (multiples.max(2).ilog2()).saturating_sub(3).clamp(4, 12)
}

/// A point that counts `digit`·2^`place` times.
#[derive(Clone, Copy)]
struct Sum {
    place: u32,
    digit: u32,
    point: Point,
}

/// Sums of the points whose factors have the same digit at the same place, in digits from −2^(width−1) to 2^(width−1).
fn signed_digits(multiples: &[Multiple], width: u32) -> Vec<Sum> {
    let (half, buckets) = (1u32 << (width - 1), (1usize << (width - 1)) + 1);
    let mut rest: Vec<u128> = multiples.iter().map(|one| one.times).collect();
    let mut carries = vec![false; multiples.len()];
    let (mut sums, mut place, mut adder) = (Vec::new(), 0, Adder::default());
    let mut digits: Vec<(u32, bool)> = vec![(0, false); multiples.len()];
    while rest.iter().any(|rest| *rest != 0) || carries.contains(&true) {
        for ((rest, carry), digit) in rest.iter_mut().zip(&mut carries).zip(&mut digits) {
            let found = bits(*rest, width) + u32::from(*carry);
            *carry = found > half;
            *digit = if *carry { (2 * half - found, true) } else { (found, false) };
            *rest >>= width;
        }
        let terms = digits.iter().zip(multiples).filter(|((digit, _), _)| *digit != 0);
        adder.start(buckets, terms.clone().map(|((digit, _), _)| *digit));
        for ((digit, negative), one) in terms {
            adder.put(*digit, if *negative { one.point.negated() } else { one.point });
        }
        sums.extend(adder.sums().map(|(digit, point)| Sum { place, digit, point }));
        place += width;
    }
    sums
}

fn bits(of: u128, width: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a window has few bits")]
    let low = of as u32;
    low & ((1 << width) - 1)
}

/// The same sums with digits of fewer bits.
fn smaller_digits(sums: &[Sum], width: u32) -> Vec<Sum> {
    let terms = sums.iter().flat_map(|sum| {
        let parts = (0..32u32.div_ceil(width))
            .map(move |part| (part * width, (sum.digit >> (part * width)) & ((1 << width) - 1)));
        parts.filter(|(_, digit)| *digit != 0).map(|(up, digit)| ((sum.place + up) << width | digit, sum.point))
    });
    let buckets = terms.clone().map(|(key, _)| key as usize + 1).max().unwrap_or(0);
    let mut adder = Adder::default();
    adder.start(buckets, terms.clone().map(|(key, _)| key));
    terms.for_each(|(key, point)| adder.put(key, point));
    adder.sums().map(|(key, point)| Sum { place: key >> width, digit: key & ((1 << width) - 1), point }).collect()
}

/// Adds up points in buckets.
#[derive(Default)]
struct Adder {
    /// The points, those of one bucket after the other.
    points: Vec<Point>,
    /// How many points each bucket has.
    counts: Vec<u32>,
    /// Where the next point of each bucket goes.
    next: Vec<u32>,
    /// Of each pair what its slope is divided by, and the product of all before it.
    divisors: Vec<(Field, Field)>,
    /// The numbers of the pairs of equal points.
    doubled: Vec<usize>,
}

impl Adder {
    /// Makes room: for each point that will be put, its bucket.
    fn start(&mut self, buckets: usize, points: impl Iterator<Item = u32>) {
        self.counts.clear();
        self.counts.resize(buckets, 0);
        points.for_each(|bucket| self.counts[bucket as usize] += 1);
        self.next.clear();
        let mut total = 0;
        for count in &self.counts {
            self.next.push(total);
            total += count;
        }
        let filler = Point { x: Field::ZERO, y: Field::ZERO };
        self.points.clear();
        self.points.resize(total as usize, filler);
    }

    fn put(&mut self, bucket: u32, point: Point) {
        let next = &mut self.next[bucket as usize];
        self.points[*next as usize] = point;
        *next += 1;
    }

    /// The buckets whose sum is not the identity.
    fn sums(&mut self) -> impl Iterator<Item = (u32, Point)> {
        while self.counts.iter().any(|count| *count > 1) {
            self.round();
        }
        (0u32..)
            .zip(&self.counts)
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, _)| bucket)
            .zip(self.points.iter().copied())
    }

    /// Replaces each pair of points of one bucket by their sum.
    fn round(&mut self) {
        let product = self.divide_pairs();
        self.invert(product);
        self.add_pairs();
    }

    /// Finds what each pair's slope is divided by: zero for a point with its negative. Returns the product of the others.
    fn divide_pairs(&mut self) -> Field {
        self.divisors.clear();
        self.doubled.clear();
        let (mut product, mut at) = (Field::ONE, 0);
        for count in &self.counts {
            let count = *count as usize;
            for pair in self.points[at..at + count].chunks_exact(2) {
                let mut divisor = pair[1].x + pair[0].x.negate(1); // 3
                if divisor.normalizes_to_zero().into() {
                    // The same point twice: twice its y. A point and its negative: twice y less twice y.
                    divisor = (pair[0].y + pair[1].y).normalize();
                    if !bool::from(divisor.is_zero()) {
                        self.doubled.push(self.divisors.len());
                    }
                }
                self.divisors.push((divisor, product));
                if !bool::from(divisor.normalizes_to_zero()) {
                    product = product.mul(&divisor);
                }
            }
            at += count;
        }
        product
    }

    /// Inverts the divisors; zeros stay.
    fn invert(&mut self, product: Field) {
        let mut inverse = product.invert_vartime().unwrap_or(Field::ONE);
        for (divisor, before) in self.divisors.iter_mut().rev() {
            if !bool::from(divisor.normalizes_to_zero()) {
                let found = inverse.mul(before);
                inverse = inverse.mul(divisor);
                *divisor = found;
            }
        }
    }

    fn add_pairs(&mut self) {
        let (mut from, mut to, mut number) = (0, 0, 0);
        let mut doubled = self.doubled.iter().copied().peekable();
        for count in &mut self.counts {
            let (end, begin) = (from + *count as usize, to);
            while from + 1 < end {
                let (a, b, divisor) = (self.points[from], self.points[from + 1], self.divisors[number].0);
                let is_doubled = doubled.next_if_eq(&number).is_some();
                if is_doubled || !bool::from(divisor.normalizes_to_zero()) {
                    let rise = if is_doubled {
                        a.x.square().mul_single(3) // 3
                    } else {
                        b.y + a.y.negate(1) // 3
                    };
                    let slope = rise.mul(&divisor);
                    let x = (slope.square() + a.x.negate(1) + b.x.negate(1)).normalize_weak(); // 5, then 1
                    let y = (slope.mul(&(a.x + x.negate(1))) + a.y.negate(1)).normalize_weak();
                    self.points[to] = Point { x, y };
                    to += 1;
                }
                (from, number) = (from + 2, number + 1);
            }
            if from < end {
                self.points[to] = self.points[from];
                (from, to) = (from + 1, to + 1);
            }
            #[expect(clippy::cast_possible_truncation, reason = "not more than before")]
            {
                *count = (to - begin) as u32;
            }
        }
        self.points.truncate(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::elliptic_curve::ops::Reduce;
    use sha2::{Digest, Sha256};
    use std::format;

    fn number(seed: u32) -> Scalar {
        Scalar::reduce(&Sha256::digest(format!("number {seed}")))
    }

    /// So many times the generator.
    fn point(times: &Scalar) -> Point {
        let point = (ProjectivePoint::GENERATOR * times).to_affine();
        Point::lift_all(&[Compressed { x: point.x().into(), odd: point.y_is_odd().into() }])[0].unwrap()
    }

    #[test]
    fn roots_are_the_points_of_k256() {
        for seed in 0..50 {
            let times = number(seed);
            assert_eq!(point(&times).projective().unwrap(), ProjectivePoint::GENERATOR * times);
            assert_eq!(point(&times).negated().projective().unwrap(), ProjectivePoint::GENERATOR * -times);
            assert_eq!(
                point(&times).by_lambda().projective().unwrap(),
                ProjectivePoint::GENERATOR * (times * lambda())
            );
        }
        let no_point = Compressed { x: [0; 32], odd: false };
        let above = Compressed { x: [0xff; 32], odd: false };
        assert!(Point::lift_all(&[no_point, above]).iter().all(Option::is_none));
    }

    #[test]
    fn halves_are_the_whole() {
        let edges = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, lambda(), -lambda(), lambda() - Scalar::ONE];
        for times in (0..200).map(number).chain(edges) {
            let halves = halves(Point::generator().unwrap(), &times).unwrap();
            let found = halves.map(|half| half.point.projective().unwrap() * Scalar::from(half.times));
            assert_eq!(found[0] + found[1], ProjectivePoint::GENERATOR * times);
        }
    }

    /// Sums of known multiples of the generator, with equal points, negatives and extreme factors.
    #[test]
    fn sums_are_those_of_k256() {
        for count in [0u32, 1, 2, 3, 8, 33, 500] {
            let mut multiples = vec![];
            let mut total = Scalar::ZERO;
            for seed in 0..count {
                // Few different points, so that they meet.
                let of = number(seed % 7) * if seed % 2 == 0 { Scalar::ONE } else { -Scalar::ONE };
                let bytes: [u8; 16] = number(1_000 + seed).to_bytes()[..16].try_into().unwrap();
                let times = match seed % 5 {
                    0 => u128::from_be_bytes(bytes) >> 64,
                    1 => u128::MAX - u128::from(seed),
                    2 => u128::from(seed % 3),
                    _ => u128::from_be_bytes(bytes),
                };
                multiples.push(Multiple { point: point(&of), times });
                total += of * Scalar::from(times);
            }
            assert_eq!(is_zero(&multiples), bool::from(total.is_zero()), "{count}");
            for off in [Scalar::ONE, Scalar::ZERO] {
                let mut with = multiples.clone();
                with.extend(halves(Point::generator().unwrap(), &(off - total)).unwrap());
                assert_eq!(is_zero(&with), off == Scalar::ZERO, "{count}");
            }
        }
    }
}
