//! Project Wycheproof's vectors: every case of every file in the folder, through the edge and the ledger's rule.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fama_ledger::key::{Curve, PublicKey, Signature, SignatureError};
use serde_json::Value;

use crate::vectors::unhex;

/// The files, each with its number of cases.
const FILES: [(&str, usize); 4] = [
    ("ecdsa_secp256k1_sha256_bitcoin_test.json", 463),
    ("ecdsa_secp256k1_sha256_p1363_test.json", 242),
    ("ecdsa_secp256k1_sha256_test.json", 463),
    ("ed25519_test.json", 150),
];

/// Cases that Wycheproof calls invalid and the edge accepts, by file, case number and flag.
///
/// The Bitcoin file requires a low s in the input. Our edge accepts either s and stores the low one, as agents'
/// libraries send both; the ledger's own rule refuses a high s.
const TAKEN: [(&str, u64, &str); 2] = [
    ("ecdsa_secp256k1_sha256_bitcoin_test.json", 1, "SignatureMalleabilityBitcoin"),
    ("ecdsa_secp256k1_sha256_bitcoin_test.json", 388, "ArithmeticError"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/wycheproof")
}

fn files() -> BTreeSet<String> {
    let names = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".json")).collect()
}

/// The group's key; its PEM and its bytes must agree.
fn key(group: &Value) -> PublicKey {
    let key = PublicKey::from_pem(group["publicKeyPem"].as_str().unwrap()).unwrap();
    let public = &group["publicKey"];
    match key {
        PublicKey::Ed25519(bytes) => assert_eq!(unhex(public["pk"].as_str().unwrap()), bytes),
        PublicKey::Secp256k1([tag, x @ ..]) => {
            let point = unhex(public["uncompressed"].as_str().unwrap());
            assert_eq!((2 + point[64] % 2, &point[1..33]), (tag, &x[..]));
        }
    }
    key
}

/// The edge's verdict. A signature that it accepts is in the ledger's form, holds there, and comes back the same.
fn edge(key: &PublicKey, message: &[u8], bytes: &[u8]) -> Result<Signature, SignatureError> {
    let signature = Signature::from_edge(key, message, bytes)?;
    assert_eq!(key.verify(message, &signature), Ok(()));
    assert_eq!(Signature::from_edge(key, message, signature.as_bytes()), Ok(signature));
    if let Signature::Secp256k1(low) = signature {
        assert_eq!(key.verify(message, &Signature::Secp256k1(high(low))), Err(SignatureError::HighS));
    }
    Ok(signature)
}

/// The same signature with the other s.
fn high(mut bytes: [u8; 65]) -> [u8; 65] {
    let s = crate::signature::negated(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&s);
    bytes[64] ^= 1;
    bytes
}

/// Checks whether Wycheproof's verdict on one case is ours; counts differences by flag.
fn check(file: &str, key: &PublicKey, case: &Value, differ: &mut BTreeSet<(String, u64, String)>) -> bool {
    let (message, bytes) = (unhex(case["msg"].as_str().unwrap()), unhex(case["sig"].as_str().unwrap()));
    let valid = match case["result"].as_str().unwrap() {
        "valid" => true,
        "invalid" => false,
        other => panic!("{file}: no verdict for {other}"),
    };
    let read = edge(key, &message, &bytes);
    if read.is_ok() != valid {
        let flag = case["flags"][0].as_str().unwrap().to_owned();
        assert!(!valid, "{file}: {case} is refused: {read:?}");
        differ.insert((file.to_owned(), case["tcId"].as_u64().unwrap(), flag));
    }
    // Whatever Wycheproof says, the ledger accepts only its own form.
    let as_it_came = match key.curve() {
        Curve::Ed25519 => bytes.try_into().ok().map(Signature::Ed25519),
        Curve::Secp256k1 => bytes.try_into().ok().map(Signature::Secp256k1),
    };
    if let Some(sent) = as_it_came {
        assert_eq!(key.verify(&message, &sent).is_ok(), read == Ok(sent), "{file}: {case}");
    }
    valid
}

#[test]
fn every_case_has_the_verdict_that_is_written_down() {
    assert_eq!(files(), FILES.iter().map(|(name, _)| (*name).to_owned()).collect(), "every file is read");
    let (mut differ, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for (name, want) in FILES {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap();
        let mut cases = 0;
        for group in file["testGroups"].as_array().unwrap() {
            let key = key(group);
            for case in group["tests"].as_array().unwrap() {
                let valid = check(name, &key, case, &mut differ);
                *counts.entry(valid).or_insert(0) += 1;
                cases += 1;
            }
        }
        assert_eq!((cases as u64, cases), (file["numberOfTests"].as_u64().unwrap(), want), "{name}");
    }
    let taken = TAKEN.map(|(file, case, flag)| (file.to_owned(), case, flag.to_owned()));
    assert_eq!(differ, taken.into_iter().collect(), "taken though invalid");
    assert_eq!(counts, BTreeMap::from([(true, 577), (false, 741)]));
}
