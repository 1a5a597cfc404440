//! Batches of signatures next to libsecp256k1, which checks them one by one, on all cores: L.
//!
//! Workloads: the ratings in `FAMA_RATINGS` (each line a signature of its first column), or without them as many signatures
//! of as few raters; and signatures that are all of different keys.
use std::collections::HashMap;
use std::time::Duration;

use fama_ledger::key::batch::{Signed, Verifier, verify_all};
use fama_ledger::key::{Curve, PublicKey, Signature};
use fama_ledger::secret::SecretKey;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{ROUNDS, timed};
use crate::report::Report;

/// Bytes of a message: about those of an attestation's text.
const MESSAGE_BYTES: usize = 300;
/// Signatures of a workload.
const COUNT: usize = 16_384;
const BATCHES: [usize; 5] = [64, 256, 1_024, 2_048, 4_096];

struct Item {
    key: PublicKey,
    message: Vec<u8>,
    signature: Signature,
}

/// Adds a line for each workload and size of batch. Returns L, a second.
pub(crate) fn run(report: &mut Report) -> f64 {
    let ratings = measure(report, "signatures of the ratings", &ratings());
    ratings.max(measure(report, "signatures of different keys", &(0..COUNT).collect::<Vec<_>>()))
}

/// The rater of each rating.
fn ratings() -> Vec<usize> {
    let Some(path) = std::env::var_os("FAMA_RATINGS") else {
        println!("FAMA_RATINGS names no file: made-up raters");
        return (0..COUNT).map(|n| (n * n / 7) % 2_500).collect();
    };
    let (text, mut numbers) = (std::fs::read_to_string(path).unwrap(), HashMap::new());
    let raters = text.lines().filter_map(|line| line.split(',').next());
    let numbered = raters.map(|rater| {
        let next = numbers.len();
        *numbers.entry(rater.to_owned()).or_insert(next)
    });
    numbered.take(COUNT).collect()
}

fn measure(report: &mut Report, name: &str, signers: &[usize]) -> f64 {
    let secret = |n: usize| SecretKey::from_seed(Curve::Secp256k1, blake3::hash(&n.to_le_bytes()).as_bytes()).unwrap();
    let sign = |(n, signer): (usize, &usize)| {
        let (secret, mut message) = (secret(*signer), vec![b'.'; MESSAGE_BYTES]);
        message[..8].copy_from_slice(&n.to_le_bytes());
        Item { key: secret.public(), signature: secret.sign(&message), message }
    };
    let items: Vec<Item> = signers.par_iter().enumerate().map(|(n, signer)| sign((n, signer))).collect();
    let signed: Vec<Signed<'_>> =
        items.iter().map(|one| Signed { key: &one.key, message: &one.message, signature: &one.signature }).collect();
    let single = || timed(|| assert!(items.par_iter().all(holds_in_libsecp256k1)));
    let batches = |size: usize| {
        let holds = |batch: &[Signed<'_>]| verify_all(batch, &Verifier::new([1; 32])).iter().all(Result::is_ok);
        timed(|| assert!(signed.par_chunks(size).all(holds)))
    };
    let (mut limit, mut best) = (Duration::MAX, [Duration::MAX; BATCHES.len()]);
    for _ in 0..ROUNDS {
        limit = limit.min(single());
        for (size, best) in BATCHES.into_iter().zip(&mut best) {
            *best = (*best).min(batches(size));
        }
    }
    let a_second = |time: Duration| items.len() as f64 / time.as_secs_f64();
    for (size, best) in BATCHES.into_iter().zip(best) {
        report.limited(&format!("{name}, batches of {size}"), a_second(best), ("L", a_second(limit)));
    }
    a_second(limit)
}

/// Parses key and signature, hashes and verifies, as a batch does.
fn holds_in_libsecp256k1(item: &Item) -> bool {
    let key = secp256k1::PublicKey::from_slice(item.key.as_bytes()).unwrap();
    let signature = secp256k1::ecdsa::Signature::from_compact(&item.signature.as_bytes()[..64]).unwrap();
    let message = secp256k1::Message::from_digest(Sha256::digest(&item.message).into());
    secp256k1::ecdsa::verify(&signature, message, &key).is_ok()
}
