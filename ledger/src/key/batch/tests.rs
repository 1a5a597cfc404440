//! Batches decide as single checks do, whatever strangers put into them.
use super::*;
use crate::key::{Curve, with_recovery_id};
use crate::secret::SecretKey;
use k256::elliptic_curve::ff::PrimeField;
use k256::elliptic_curve::point::AffineCoordinates;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::{AffinePoint, FieldBytes, ProjectivePoint};
use std::string::String;
use std::{format, vec};

/// A signature that owns its parts.
#[derive(Clone)]
struct Owned {
    key: PublicKey,
    message: String,
    signature: Signature,
}

fn secret(seed: u8) -> SecretKey {
    let curve = if seed >= 200 { Curve::Ed25519 } else { Curve::Secp256k1 };
    SecretKey::from_seed(curve, &[seed; 32]).unwrap()
}

fn signed(signer: u8, number: usize) -> Owned {
    let (secret, message) = (secret(signer), format!("message {number}"));
    let signature = secret.sign(message.as_bytes());
    Owned { key: secret.public(), message, signature }
}

/// So many good signatures by so many keys.
fn good(count: usize, signers: u8) -> Vec<Owned> {
    (0..count).map(|number| signed(1 + u8::try_from(number % usize::from(signers)).unwrap(), number)).collect()
}

/// Both outcomes, which are compared.
fn verified(all: &[Owned]) -> Vec<Result<(), SignatureError>> {
    let signed: Vec<Signed<'_>> = all
        .iter()
        .map(|one| Signed { key: &one.key, message: one.message.as_bytes(), signature: &one.signature })
        .collect();
    let found = verify_all(&signed, &Verifier { batch_min: 1, ..Verifier::new([3; 32]) });
    let alone: Vec<_> = signed.iter().map(|one| one.key.verify(one.message, one.signature)).collect();
    assert_eq!(found, alone);
    found
}

/// Whether the equation of all of them holds.
fn holds(all: &[Owned]) -> bool {
    let signed =
        all.iter().map(|one| Signed { key: &one.key, message: one.message.as_bytes(), signature: &one.signature });
    let equation = Equation::of(&signed.collect::<Vec<_>>());
    assert_eq!(equation.terms.len(), all.len(), "all are in the equation");
    equation.holds(&[3; 32])
}

fn bytes(signature: &Signature) -> [u8; 65] {
    let Signature::Secp256k1(bytes) = signature else { panic!("an ECDSA signature") };
    *bytes
}

#[test]
fn good_signatures_hold_at_every_size() {
    let all = good(300, 7);
    for count in (0..40).chain([100, 300]) {
        assert!(holds(&all[..count]), "{count}");
        assert!(verified(&all[..count]).iter().all(Result::is_ok));
    }
    assert!(holds(&good(64, 1)) && holds(&good(64, 64)));
}

#[test]
fn both_curves_may_be_mixed() {
    let mut all = good(20, 3);
    all.extend((200..210).map(|seed| signed(seed, 0)));
    all.push(Owned { signature: all[0].signature, ..all[25].clone() });
    let found = verified(&all);
    assert_eq!(found[..30], vec![Ok(()); 30]);
    assert_eq!(found[30], Err(SignatureError::WrongCurve));
}

/// One bad signature among many, wherever it is and whatever is wrong with it.
#[test]
fn one_bad_signature_is_found() {
    let all = good(70, 5);
    for at in [0, 33, 69] {
        for bit in [0, 3, 100, 255, 256 + 7, 300, 500, 512, 513] {
            let mut bad = all.clone();
            let mut changed = bytes(&bad[at].signature);
            changed[bit / 8] ^= 1 << (bit % 8);
            bad[at].signature = Signature::Secp256k1(changed);
            let found = verified(&bad);
            assert_eq!(found.iter().position(Result::is_err), Some(at), "bit {bit}");
            assert_eq!(found.iter().filter(|one| one.is_err()).count(), 1);
        }
        let mut bad = all.clone();
        bad[at].message.push('x');
        assert!(!holds(&bad));
        assert_eq!(verified(&bad)[at], Err(SignatureError::Mismatch));
        bad[at].key = secret(77).public();
        assert_eq!(verified(&bad)[at], Err(SignatureError::Mismatch));
    }
}

#[test]
fn what_has_another_form_is_refused_for_that() {
    let mut bad = good(20, 4);
    let mut high = bytes(&bad[1].signature);
    let s = Scalar::from_repr(FieldBytes::try_from(&high[32..64]).unwrap()).unwrap();
    high[32..64].copy_from_slice(&(-s).to_bytes());
    let (mut zero, mut large, mut id) = (bytes(&bad[2].signature), bytes(&bad[3].signature), bytes(&bad[4].signature));
    zero[..32].fill(0);
    large[32..64].fill(0xff);
    id[64] = 4;
    let (PublicKey::Secp256k1(mut tag), PublicKey::Secp256k1(mut off)) = (bad[5].key, bad[6].key) else { panic!() };
    tag[0] = 4;
    // No point has this x: 5³ + 7 is no square.
    off[1..].fill(0);
    off[32] = 5;
    for (at, changed) in [(1, high), (2, zero), (3, large), (4, id)] {
        bad[at].signature = Signature::Secp256k1(changed);
    }
    (bad[5].key, bad[6].key) = (PublicKey::Secp256k1(tag), PublicKey::Secp256k1(off));
    let found = verified(&bad);
    use super::super::KeyError::Point;
    use SignatureError::{HighS, Key, Malformed, RecoveryId};
    let wanted = [HighS, Malformed, Malformed, RecoveryId, Key(Point), Key(Point)];
    assert_eq!(found[1..7], wanted.map(Err));
    assert!(found[0].is_ok() && found[7..].iter().all(Result::is_ok), "the others hold together");
}

/// A signature with R = k·G for which z/s·G + r/s·Q is not R but R + off·G: by the key q = (s·(k + off) − z) / r.
#[allow(clippy::arithmetic_side_effects)]
fn wrong_by(off: Scalar, number: u64) -> Owned {
    let (message, k) = (format!("wrong {number}"), Scalar::from(number + 2));
    let nonce = (ProjectivePoint::GENERATOR * k).to_affine();
    let (r, s) = (Scalar::from_repr(nonce.x()).unwrap(), Scalar::from(11u64));
    let z = Scalar::reduce(&Sha256::digest(message.as_bytes()));
    let q = (s * (k + off) - z) * r.invert().unwrap();
    let key = SecretKey::from_seed(Curve::Secp256k1, &q.to_bytes().into()).unwrap().public();
    let signature = ecdsa::Signature::from_scalars(r, s).unwrap();
    let id = u8::from(bool::from(nonce.y_is_odd()));
    Owned { key, message, signature: Signature::Secp256k1(with_recovery_id(&signature, id)) }
}

/// Errors that cancel each other in a plain sum.
#[test]
fn errors_do_not_cancel() {
    let all = good(32, 3);
    assert!(holds(&[&all[..], &[wrong_by(Scalar::ZERO, 0), wrong_by(Scalar::ZERO, 1)]].concat()));
    for off in [Scalar::ONE, Scalar::from(5u64), -Scalar::from(7u64)] {
        let pair = [wrong_by(off, 0), wrong_by(-off, 1)];
        let bad = [&all[..], &pair].concat();
        assert!(!holds(&bad));
        assert_eq!(verified(&bad)[32..], [Err(SignatureError::Mismatch); 2]);
        let many: Vec<Owned> =
            (0..16).map(|number| wrong_by(if number % 2 == 0 { off } else { -off }, number)).collect();
        assert!(!holds(&[&all[..], &many].concat()));
    }
    // The same wrong signature many times, and a good one with its counterpart of the other y.
    let mut flipped = bytes(&all[0].signature);
    flipped[64] ^= 1;
    let flipped = Owned { signature: Signature::Secp256k1(flipped), ..all[0].clone() };
    for more in [vec![flipped.clone(); 2], vec![all[0].clone(), flipped.clone()], vec![flipped; 16]] {
        let bad = [&all[1..], &more].concat();
        assert!(!holds(&bad));
        assert_eq!(verified(&bad).last(), Some(&Err(SignatureError::RecoveryId)));
    }
}

/// Equal points meet in one bucket, and points with their negatives.
#[test]
fn duplicates_hold() {
    let one = signed(1, 0);
    for count in [8, 9, 100] {
        assert!(holds(&vec![one.clone(); count]));
        assert!(verified(&vec![one.clone(); count]).iter().all(Result::is_ok));
    }
    // Keys Q and −Q, and G itself as a key, whose terms are added to those of the generator.
    let order_less = |secret: Scalar| SecretKey::from_seed(Curve::Secp256k1, &secret.to_bytes().into()).unwrap();
    let secrets = [Scalar::ONE, -Scalar::ONE, Scalar::from(5u64), -Scalar::from(5u64)];
    let keys: Vec<Owned> = (0..40)
        .map(|number| {
            let (secret, message) = (order_less(secrets[number % 4]), format!("message {number}"));
            let signature = secret.sign(message.as_bytes());
            Owned { key: secret.public(), message, signature }
        })
        .collect();
    assert!(holds(&keys));
    assert!(verified(&keys).iter().all(Result::is_ok));
}

/// A key for which r, s and the message are good: Q = (s·R − z·G) / r.
fn key_for(message: &str, r: Scalar, s: Scalar, id: u8) -> Option<PublicKey> {
    let signature = ecdsa::Signature::from_scalars(r, s).ok()?;
    let recovery = ecdsa::RecoveryId::from_byte(id)?;
    let key = ecdsa::VerifyingKey::recover_from_msg(message.as_bytes(), &signature, recovery).ok()?;
    Some(PublicKey::Secp256k1(key.to_sec1_point(true).as_bytes().try_into().unwrap()))
}

/// R's x is r plus the order, which strangers can bring about with keys that they compute.
#[test]
fn x_above_the_order() {
    let (mut all, mut made) = (good(16, 2), 0);
    for small in 1..60u64 {
        for id in [2, 3] {
            let (r, s, message) = (Scalar::from(small), Scalar::from(7u64), format!("small {small}"));
            let Some(key) = key_for(&message, r, s, id) else { continue };
            let signature = ecdsa::Signature::from_scalars(r, s).unwrap();
            let signature = |id| Signature::Secp256k1(with_recovery_id(&signature, id));
            all.push(Owned { key, message: message.clone(), signature: signature(id) });
            assert!(holds(&all));
            made += 1;
            for other in (0..5).filter(|other| *other != id) {
                let bad = [&all[..], &[Owned { key, message: message.clone(), signature: signature(other) }]].concat();
                assert_eq!(verified(&bad).last(), Some(&Err(SignatureError::RecoveryId)));
            }
        }
    }
    assert!(made > 10, "{made}");
    // An r so large that r plus the order is no coordinate.
    let mut large = bytes(&all[0].signature);
    large[64] |= 2;
    all.push(Owned { signature: Signature::Secp256k1(large), ..all[0].clone() });
    assert_eq!(verified(&all).last(), Some(&Err(SignatureError::RecoveryId)));
}

/// With Q = −(z/r)·G the right side is the identity for every s.
#[test]
#[allow(clippy::arithmetic_side_effects)]
fn the_identity_is_no_signature() {
    let mut all = good(16, 2);
    for number in 0..4 {
        let message = format!("identity {number}");
        let z = Scalar::reduce(&Sha256::digest(message.as_bytes()));
        let r = Scalar::from_repr(AffinePoint::GENERATOR.x()).unwrap();
        let point = (ProjectivePoint::GENERATOR * -(z * r.invert().unwrap())).to_affine();
        let key = PublicKey::Secp256k1(point.to_sec1_point(true).as_bytes().try_into().unwrap());
        let signature = ecdsa::Signature::from_scalars(r, Scalar::from(9u64)).unwrap();
        all.push(Owned { key, message, signature: Signature::Secp256k1(with_recovery_id(&signature, 0)) });
    }
    assert!(!holds(&all));
    assert_eq!(verified(&all)[16..], [Err(SignatureError::Mismatch); 4]);
}

#[test]
fn more_than_one_equation() {
    let mut all = good(40, 3);
    all = all.iter().cycle().take(BATCH_MAX + 50).cloned().collect();
    all[BATCH_MAX + 7].message.push('x');
    let found = verified(&all);
    assert_eq!(found.iter().filter(|one| one.is_err()).count(), 1);
    assert_eq!(found[BATCH_MAX + 7], Err(SignatureError::Mismatch));
}

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn batches_decide_as_single_checks_do(
            choices in proptest::collection::vec((0u8..6, any::<u8>(), 0usize..10, 0usize..520), 0..60),
        ) {
            let all: Vec<Owned> = choices.into_iter().map(|(signer, what, number, bit)| {
                let mut one = signed(if signer == 5 { 210 } else { signer + 1 }, number);
                match (what, &mut one.signature) {
                    (0..10, Signature::Secp256k1(bytes)) => bytes[bit / 8] ^= 1 << (bit % 8),
                    (10..15, _) => one.key = secret(9).public(),
                    (15..20, _) => one.message.push('y'),
                    _ => {}
                }
                one
            }).collect();
            verified(&all);
        }
    }
}
