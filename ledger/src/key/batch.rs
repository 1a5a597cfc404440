//! Many ECDSA signatures at once.
//!
//! A signature (r, s) with its recovery id names one point R, and holds if R = (z/s)·G + (r/s)·Q. Of many signatures, with a
//! factor aᵢ for each that nobody could foresee, one equation is checked instead:
//!
//! ```text
//! Σ aᵢ·zᵢ/sᵢ · G  +  Σ over signers (Σ aᵢ·rᵢ/sᵢ) · Q  −  Σ aᵢ · Rᵢ  =  0
//! ```
//!
//! If all hold, so does it. If one does not, at most one value of its factor makes up for it, whatever the others are: the
//! group has a prime order, so each wrong signature leaves a point of that order, with no cofactor to hide in. The factors are
//! bᵢ + cᵢ·λ with bᵢ and cᵢ of 64 bits. No two of these 2¹²⁸ are equal modulo the order, since no vector of the lattice of λ is that
//! short, so wrong signatures pass with a probability of at most 2⁻¹²⁸. BLAKE3 makes the factors from the caller's seed and
//! everything that is checked: signatures that are chosen after their factors have others. See Bellare, Garay and Rabin, "Fast
//! batch verification for modular exponentiation and digital signatures" (1998), section 3, and for ECDSA Karati, Das,
//! Roychowdhury, Bellur, Bhattacharya and Iyer, "Batch verification of ECDSA signatures" (2012).
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use k256::elliptic_curve::ops::Reduce;
use k256::elliptic_curve::scalar::IsHigh;
use k256::{Scalar, ecdsa};
use sha2::{Digest, Sha256};

use super::sum::{self, Compressed, Multiple, Point};
use super::{PublicKey, Signature, SignatureError};

/// Most signatures of one equation: more save nothing. If it does not hold, so many are verified alone.
const BATCH_MAX: usize = 4_096;

/// The order of the group, big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// A signature to be verified.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Whose signature it should be.
    pub key: &'a PublicKey,
    /// What should be signed.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a Signature,
}

impl Signed<'_> {
    /// [`PublicKey::verify`].
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self) -> Result<(), SignatureError> {
        self.key.verify(self.message, self.signature)
    }
}

/// What batches are verified with.
#[derive(Clone, Copy, Debug)]
pub struct Verifier {
    /// What the factors are made from. It should be one that whoever made the signatures does not know; who knows it still
    /// needs about 2¹²⁸ attempts.
    pub seed: [u8; 32],
    /// Verifies one signature, with the outcome of [`Signed::verify`]: another library may do it in less time.
    pub alone: fn(&Signed<'_>) -> Result<(), SignatureError>,
    /// With fewer ECDSA signatures than this, each is verified alone, which is faster then.
    pub batch_min: usize,
}

impl Verifier {
    /// Verifies with this crate alone.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed, alone: |one| one.verify(), batch_min: 12 }
    }
}

/// Verifies signatures, each with the outcome of [`Signed::verify`], in less time: see the [module](self) for why that is so,
/// except with a probability of 2⁻¹²⁸ for each 4,096 signatures.
///
/// Where one of them does not hold, this takes as long as the equation and all of them one by one.
#[must_use]
pub fn verify_all(signed: &[Signed<'_>], verifier: &Verifier) -> Vec<Result<(), SignatureError>> {
    signed.chunks(BATCH_MAX).flat_map(|chunk| verify_chunk(chunk, verifier)).collect()
}

fn verify_chunk(signed: &[Signed<'_>], verifier: &Verifier) -> Vec<Result<(), SignatureError>> {
    let mut hold = vec![false; signed.len()];
    if signed.len() >= verifier.batch_min {
        let equation = Equation::of(signed);
        if equation.terms.len() >= verifier.batch_min && equation.holds(&verifier.seed) {
            for (term, _) in &equation.terms {
                hold.get_mut(term.at).into_iter().for_each(|holds| *holds = true);
            }
        }
    }
    // Alone: whatever is not in the equation, and all of one that does not hold.
    let outcome = |(one, holds): (&Signed<'_>, bool)| match holds {
        true => Ok(()),
        false => (verifier.alone)(one),
    };
    signed.iter().zip(hold).map(outcome).collect()
}

/// An ECDSA signature in an equation.
struct Term {
    /// Its number among all that are verified.
    at: usize,
    /// The number of its signer.
    signer: usize,
    r: Scalar,
    s: Scalar,
    z: Scalar,
}

/// The equation of all ECDSA signatures whose form is right.
struct Equation {
    /// Each with its R.
    terms: Vec<(Term, Point)>,
    /// The keys. Where one is no point, no term is its.
    signers: Vec<Option<Point>>,
    /// All that the equation says.
    transcript: Vec<u8>,
}

impl Equation {
    fn of(signed: &[Signed<'_>]) -> Self {
        let (mut terms, mut nonces, mut transcript) = (Vec::new(), Vec::new(), Vec::new());
        let (mut numbers, mut signers) = (BTreeMap::new(), Vec::new());
        for (at, one) in signed.iter().enumerate() {
            let (PublicKey::Secp256k1(key), Signature::Secp256k1(bytes)) = (one.key, one.signature) else { continue };
            let (Some((r, s)), Some(nonce), Some(signer)) = (scalars(bytes), nonce(bytes), signer(key)) else {
                continue;
            };
            let number = *numbers.entry(*key).or_insert(signers.len());
            if number == signers.len() {
                signers.push(signer);
            }
            let digest = Sha256::digest(one.message);
            transcript.extend(digest.iter().chain(key).chain(bytes));
            nonces.push(nonce);
            terms.push(Term { at, signer: number, r, s, z: Scalar::reduce(&digest) });
        }
        let (signers, nonces) = (Point::lift_all(&signers), Point::lift_all(&nonces));
        let is_known = |term: &Term| signers.get(term.signer).is_some_and(Option::is_some);
        let terms = terms.into_iter().zip(nonces).filter_map(|(term, nonce)| is_known(&term).then_some((term, nonce?)));
        Self { terms: terms.collect(), signers, transcript }
    }

    #[expect(clippy::arithmetic_side_effects, reason = "field arithmetic, which cannot overflow")]
    fn holds(&self, seed: &[u8; 32]) -> bool {
        let mut inverses: Vec<Scalar> = self.terms.iter().map(|(term, _)| term.s).collect();
        invert(&mut inverses);
        let mut factors = blake3::Hasher::new_keyed(seed).update(&self.transcript).finalize_xof();
        let mut half = || {
            let mut bytes = [0; 8];
            factors.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let lambda = sum::lambda();
        let (mut of_generator, mut of_signers) = (Scalar::ZERO, vec![Scalar::ZERO; self.signers.len()]);
        let mut multiples = Vec::new();
        for ((term, nonce), inverse) in self.terms.iter().zip(&inverses) {
            let (b, c) = (half(), half());
            let factor = (Scalar::from(b) + Scalar::from(c) * lambda) * inverse;
            of_generator += factor * term.z;
            if let Some(of_signer) = of_signers.get_mut(term.signer) {
                *of_signer += factor * term.r;
            }
            let minus = nonce.negated();
            multiples.push(Multiple { point: minus, times: b.into() });
            multiples.push(Multiple { point: minus.by_lambda(), times: c.into() });
        }
        let signers = self.signers.iter().zip(&of_signers).filter_map(|(point, times)| Some(((*point)?, times)));
        let Some(generator) = Point::generator() else { return false };
        for (point, times) in core::iter::once((generator, &of_generator)).chain(signers) {
            let Some(halves) = sum::halves(point, times) else { return false };
            multiples.extend(halves);
        }
        sum::is_zero(&multiples)
    }
}

/// r and s, if they may be in the ledger.
fn scalars(bytes: &[u8; 65]) -> Option<(Scalar, Scalar)> {
    let [rs @ .., _] = bytes;
    let (r, s) = ecdsa::Signature::from_slice(rs).ok()?.split_scalars();
    (!bool::from(s.is_high())).then_some((*r, *s))
}

/// The key as its x and which y.
fn signer([tag, x @ ..]: &[u8; 33]) -> Option<Compressed> {
    matches!(tag, 2 | 3).then_some(Compressed { x: *x, odd: *tag == 3 })
}

/// R as r and the recovery id name it.
fn nonce(bytes: &[u8; 65]) -> Option<Compressed> {
    let (mut x, id) = (*bytes.first_chunk::<32>()?, *bytes.last()?);
    if id & 2 != 0 {
        // x is r plus the order. What is not below the field's modulus then is refused with the point.
        let mut carry = 0u16;
        for (byte, more) in x.iter_mut().zip(&ORDER).rev() {
            let [low, high] = u16::from(*byte).wrapping_add(u16::from(*more)).wrapping_add(carry).to_le_bytes();
            (*byte, carry) = (low, high.into());
        }
        if carry != 0 {
            return None;
        }
    }
    (id < 4).then_some(Compressed { x, odd: id & 1 != 0 })
}

/// Inverts scalars, none of which is zero, with one inversion.
#[expect(clippy::arithmetic_side_effects, reason = "field arithmetic, which cannot overflow")]
fn invert(scalars: &mut [Scalar]) {
    let mut product = Scalar::ONE;
    let mut before = Vec::with_capacity(scalars.len());
    for scalar in &*scalars {
        before.push(product);
        product *= scalar;
    }
    let mut inverse = product.invert_vartime().unwrap_or(Scalar::ZERO);
    for (scalar, before) in scalars.iter_mut().zip(&before).rev() {
        let found = inverse * before;
        inverse *= &*scalar;
        *scalar = found;
    }
}

#[cfg(test)]
mod tests;
