//! Every encoding in which real clients send signatures, and the one in which the ledger stores them.
use fama_ledger::base64;
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::Action;
use fama_ledger::key::{PublicKey, Signature, SignatureError};
use fama_ledger::secret::SecretKey;
use fama_tests::{START, countersigned, domain, event, federation, secret, signed};

/// The order of secp256k1, big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// The order minus `s`.
pub(crate) fn negated(s: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let mut borrow = 0i16;
    for i in (0..32).rev() {
        let difference = i16::from(ORDER[i]) - i16::from(s[i]) - borrow;
        borrow = i16::from(difference < 0);
        out[i] = (difference + 256 * borrow) as u8;
    }
    out
}

fn der_integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(31);
    let mut value = bytes[start..].to_vec();
    if value[0] >= 0x80 {
        value.insert(0, 0);
    }
    [vec![2, value.len() as u8], value].concat()
}

pub(crate) fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let body = [der_integer(r), der_integer(s)].concat();
    [vec![0x30, body.len() as u8], body].concat()
}

/// r, low s and high s of a signature in the ledger's form.
fn parts(signature: &Signature) -> ([u8; 32], [u8; 32], [u8; 32]) {
    let bytes = signature.as_bytes();
    let (r, s) = (bytes[..32].try_into().unwrap(), bytes[32..64].try_into().unwrap());
    (r, s, negated(&s))
}

#[test]
fn every_dress_of_ecdsa_is_the_same_signature() {
    let mut lengths = std::collections::BTreeSet::new();
    for n in 0u16..400 {
        let key = secret(2);
        let message = format!("swift-core-maps2026-11-22T05:00:00.000Zchallenge {n}");
        let want = key.sign(message.as_bytes());
        let (r, low, high) = parts(&want);
        for s in [low, high] {
            let compact = [r, s].concat();
            let recoverable = [compact.as_slice(), &[0]].concat();
            lengths.insert(der(&r, &s).len());
            for bytes in [der(&r, &s), compact.clone(), recoverable] {
                let read = Signature::from_edge(&key.public(), message.as_bytes(), &bytes);
                assert_eq!(read, Ok(want), "{n}");
                let text = base64::encode(&bytes);
                let url = text.replace('+', "-").replace('/', "_");
                let wrapped: String =
                    text.as_bytes().chunks(64).map(|c| format!("{}\n", str::from_utf8(c).unwrap())).collect();
                for dressed in [text.clone(), url.clone(), url.trim_end_matches('=').to_owned(), wrapped] {
                    assert_eq!(base64::decode_lenient(&dressed), Some(bytes.clone()));
                }
            }
        }
    }
    assert!(lengths.is_superset(&[70, 71, 72].into()), "{lengths:?}");
}

#[test]
fn the_ledger_holds_one_form() {
    let key = secret(2);
    let message = b"message";
    let signature = key.sign(message);
    let (r, low, high) = parts(&signature);
    let id = signature.as_bytes()[64];
    let made = |s: [u8; 32], id: u8| Signature::Secp256k1([r.as_slice(), &s, &[id]].concat().try_into().unwrap());
    let check = |signature: Signature| key.public().verify(message, &signature);
    assert_eq!(check(made(low, id)), Ok(()));
    for id in [id, id ^ 1] {
        assert_eq!(check(made(high, id)), Err(SignatureError::HighS));
    }
    for wrong in (0..=255).filter(|wrong| *wrong != id) {
        assert_eq!(check(made(low, wrong)), Err(SignatureError::RecoveryId), "{wrong}");
    }
    assert_eq!(check(Signature::Ed25519([1; 64])), Err(SignatureError::WrongCurve));
    assert_eq!(check(made([0; 32], id)), Err(SignatureError::Malformed));
    assert_eq!(check(made(ORDER, id)), Err(SignatureError::Malformed));
    assert_eq!(check(Signature::Secp256k1([0; 65])), Err(SignatureError::Malformed));
    assert_eq!(secret(4).public().verify(message, &signature), Err(SignatureError::Mismatch));
    assert_eq!(key.public().verify(b"another", &signature), Err(SignatureError::Mismatch));
}

#[test]
fn what_is_no_signature() {
    let (key, message) = (secret(2), b"message");
    let (r, s, _) = parts(&key.sign(message));
    let good = der(&r, &s);
    let trailing = [good.as_slice(), &[0]].concat();
    let table: Vec<(Vec<u8>, SignatureError)> = vec![
        (vec![], SignatureError::Malformed),
        (vec![0x30], SignatureError::Malformed),
        (vec![7; 63], SignatureError::Malformed),
        (vec![7; 66], SignatureError::Malformed),
        (good[..good.len() - 1].to_vec(), SignatureError::Malformed),
        (trailing, SignatureError::Malformed),
        (der(&r, &[0; 32]), SignatureError::Malformed),
        (der(&[0; 32], &s), SignatureError::Malformed),
        (der(&r, &ORDER), SignatureError::Malformed),
        ([r, r].concat(), SignatureError::Mismatch),
        (der(&s, &r), SignatureError::Mismatch),
        (vec![0; 4_096], SignatureError::Malformed),
    ];
    for (bytes, want) in table {
        assert_eq!(Signature::from_edge(&key.public(), message, &bytes), Err(want), "{bytes:02x?}");
    }
    let ed = secret(3);
    let signature = ed.sign(message);
    assert_eq!(Signature::from_edge(&ed.public(), message, signature.as_bytes()), Ok(signature));
    for bytes in [&signature.as_bytes()[..63], &[0; 65], good.as_slice()] {
        let read = Signature::from_edge(&ed.public(), message, bytes);
        assert_eq!(read, Err(SignatureError::Malformed));
    }
}

fn register(key: PublicKey) -> Action {
    Action::Register { home: domain("alpha.example"), name: "agent".parse().unwrap(), key, next: None, note: None }
}

fn code(signed: SignedEvent) -> Result<(), &'static str> {
    signed.verify(&federation(1, |_| ()).federation()).map(drop).map_err(|error| error.code())
}

/// Which keys must sign what, on both curves and across them.
#[test]
fn signers_of_registrations_and_rotations() {
    let federation = federation(1, |_| ()).federation();
    let keys: [SecretKey; 4] = [2, 3, 4, 5].map(secret);
    for key in &keys {
        let made = |signer: &SecretKey| signed(event(federation, register(key.public()), START, 1), signer);
        for signer in &keys {
            let want = if signer.public() == key.public() { Ok(()) } else { Err("not_possessed") };
            assert_eq!(code(made(signer)), want);
        }
        let own = made(key);
        let both = SignedEvent { countersignature: Some(own.signature), ..own.clone() };
        assert_eq!(code(both), Err("countersignature"), "a registration has one signature");
        let other = SignedEvent { signature: keys[0].sign(b"another"), ..own };
        assert!(code(other).is_err());
    }
    for (old, new) in [(0, 1), (1, 0), (0, 2), (1, 3)] {
        let (old, new) = (&keys[old], &keys[new]);
        let id = fama_ledger::id::EventId([7; 32]);
        let action =
            Action::Rotate { home: domain("alpha.example"), identity: id, version: 2, key: new.public(), next: None };
        let said = event(federation, action, START, 1);
        assert_eq!(code(countersigned(said.clone(), old, new)), Ok(()));
        assert_eq!(code(countersigned(said.clone(), old, old)), Err("countersignature"));
        assert_eq!(code(signed(said.clone(), old)), Err("countersignature"), "the new key must sign too");
        assert_eq!(code(signed(said.clone(), new)), Ok(()), "the committed key alone; the fold knows whether");
        assert_eq!(code(countersigned(said, new, new)), Err("countersignature"), "and then once");
    }
}
