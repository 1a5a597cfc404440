//! Batches of signatures against single checks by k256 and by libsecp256k1.
//!
//! A pool of good and bad signatures is judged once, each alone. Then batches are drawn from the pool: no outcome may differ.
//! A short run is part of the tests; `FAMA_FUZZ_BATCHES` makes a longer one and `FAMA_FUZZ_SEED` a different one.
use std::thread;

use fama_ledger::key::batch::{Signed, Verifier, verify_all};
use fama_ledger::key::{Curve, PublicKey, Signature, SignatureError};
use fama_ledger::secret::SecretKey;
use sha2::{Digest, Sha256};

use super::{FuzzRandom, SEED, setting};
use crate::signature::negated;

const SHORT: u64 = 300;
/// Signatures in the pool, and the keys that signed.
const POOL: usize = 4_000;
const KEYS: u8 = 40;

struct Judged {
    key: PublicKey,
    message: Vec<u8>,
    signature: Signature,
    outcome: Result<(), SignatureError>,
}

/// A signature, or one with something wrong.
fn drawn(random: &mut FuzzRandom, secrets: &[SecretKey]) -> (PublicKey, Vec<u8>, Signature) {
    let secret = random.pick(secrets);
    let message = random.next().to_le_bytes()[..random.below(9)].to_vec();
    let (mut key, mut signature) = (secret.public(), secret.sign(&message));
    let Signature::Secp256k1(bytes) = &mut signature else { panic!("secp256k1 keys only") };
    match random.below(24) {
        0 => bytes[random.below(65)] ^= 1 << random.below(8),
        1 => bytes[64] = random.below(6) as u8,
        2 => {
            let high = negated(&bytes[32..64]);
            bytes[32..64].copy_from_slice(&high);
            bytes[64] ^= 1;
        }
        3 => key = random.pick(secrets).public(),
        4 => {
            let part = random.below(2) * 32;
            let fill = [0, 0xff][random.below(2)];
            bytes[part..part + 32].fill(fill);
        }
        5 => {
            let PublicKey::Secp256k1(point) = &mut key else { panic!("secp256k1 keys only") };
            point[random.below(33)] ^= 1 << random.below(8);
        }
        // The other signature of the same equation: R and s negated.
        6 => bytes[64] ^= 1,
        _ => {}
    }
    (key, message, signature)
}

/// Whether libsecp256k1 takes it, without a look at the recovery id.
fn holds_elsewhere(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let (Ok(key), Ok(signature)) = (
        secp256k1::PublicKey::from_slice(key.as_bytes()),
        secp256k1::ecdsa::Signature::from_compact(&signature.as_bytes()[..64]),
    ) else {
        return false;
    };
    let message = secp256k1::Message::from_digest(Sha256::digest(message).into());
    secp256k1::ecdsa::verify(&signature, message, &key).is_ok()
}

#[test]
#[allow(clippy::print_stdout, reason = "figures of a long run")]
fn batches_agree_with_k256_and_libsecp256k1() {
    let (count, seed) = (setting("FAMA_FUZZ_BATCHES").unwrap_or(SHORT), setting("FAMA_FUZZ_SEED").unwrap_or(SEED));
    let mut random = FuzzRandom(seed);
    let secrets: Vec<SecretKey> =
        (1..=KEYS).map(|seed| SecretKey::from_seed(Curve::Secp256k1, &[seed; 32]).unwrap()).collect();
    let judged = |(key, message, signature): (PublicKey, Vec<u8>, Signature)| {
        let outcome = key.verify(&message, &signature);
        let is_ecdsa = matches!(outcome, Ok(()) | Err(SignatureError::RecoveryId));
        assert_eq!(is_ecdsa, holds_elsewhere(&key, &message, &signature), "{key} {message:?} {signature:?}");
        Judged { key, message, signature, outcome }
    };
    let pool: Vec<Judged> = (0..POOL).map(|_| judged(drawn(&mut random, &secrets))).collect();
    let (good, bad): (Vec<&Judged>, Vec<&Judged>) = pool.iter().partition(|one| one.outcome.is_ok());
    assert!(good.len() > POOL / 2 && bad.len() > POOL / 20, "{} good, {} bad", good.len(), bad.len());
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let (signatures, refused) = thread::scope(|scope| {
        let own =
            |worker: u64| (worker..count).step_by(workers as usize).map(|number| batch(number, seed, &good, &bad));
        let begun: Vec<_> = (0..workers).map(|worker| scope.spawn(move || own(worker).fold((0, 0), sum))).collect();
        begun.into_iter().map(|worker| worker.join().unwrap()).fold((0, 0), sum)
    });
    println!("{count} batches with {signatures} signatures, {refused} of them refused");
}

const fn sum(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1 + other.1)
}

/// Verifies the batch with this number; returns how many signatures it has and how many of them were refused.
fn batch(number: u64, seed: u64, good: &[&Judged], bad: &[&Judged]) -> (u64, u64) {
    let mut random = FuzzRandom(seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let size = match number % 200 {
        0 => 8 + random.below(500),
        1..20 => 8 + random.below(24),
        _ => 1 + random.below(12),
    };
    // Half of the batches are good, and most others have one or two bad ones.
    let wrong = [0, 0, 0, 0, 1, 1, 2, size / 2][random.below(8)];
    let mut chosen: Vec<&Judged> = (0..size).map(|_| *random.pick(good)).collect();
    (0..wrong).for_each(|_| chosen[random.below(size)] = *random.pick(bad));
    let signed: Vec<Signed<'_>> =
        chosen.iter().map(|one| Signed { key: &one.key, message: &one.message, signature: &one.signature }).collect();
    let coefficients = random.next().to_le_bytes().repeat(4).try_into().unwrap();
    // As a node verifies, with libsecp256k1 for single ones, but with equations at every size; some are too small for one.
    let batch_min = 1 + random.below(size.min(12) + 1);
    let verifier = Verifier { seed: coefficients, batch_min, ..fama_node::verify::verifier() };
    let mut refused = 0;
    for (found, one) in verify_all(&signed, &verifier).into_iter().zip(&chosen) {
        assert_eq!(found, one.outcome, "batch {number} of the seed {seed}: {} {:?}", one.key, one.signature);
        refused += u64::from(found.is_err());
    }
    (size as u64, refused)
}
