//! Ed25519 where implementations differ: every edge case, its properties, and our one verdict.
//!
//! The cases called published are the twelve of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020); an
//! independent script made the others and computed the properties of all of them.
use std::collections::BTreeSet;

use fama_ledger::key::{PublicKey, Signature, SignatureError};
use fama_ledger::manifest::Manifest;

use crate::vectors::{Vector, read};
use fama_tests::{node_key, signed_genesis};

/// The known properties of one signature.
struct Facts {
    key_order: String,
    key_canonical: bool,
    r_order: String,
    r_canonical: bool,
    s_below_order: bool,
    cofactorless: bool,
    cofactored: bool,
}

impl Facts {
    fn take(v: &mut Vector) -> Self {
        Self {
            key_order: v.text("key_order"),
            key_canonical: v.truth("key_canonical"),
            r_order: v.text("r_order"),
            r_canonical: v.truth("r_canonical"),
            s_below_order: v.truth("s_below_order"),
            cofactorless: v.truth("holds_cofactorless"),
            cofactored: v.truth("holds_cofactored"),
        }
    }

    /// The ledger's rule, as PROTOCOL.md states it.
    fn holds(&self) -> bool {
        assert!(self.cofactored || !self.cofactorless);
        let key = self.key_canonical && self.key_order != "small";
        let r = self.r_canonical && self.r_order != "small";
        key && r && self.s_below_order && self.cofactorless
    }
}

/// The code of an outcome, or `ok`.
fn verdict<E>(outcome: &Result<(), E>, code: impl FnOnce(&E) -> &'static str) -> &'static str {
    outcome.as_ref().map_or_else(code, |()| "ok")
}

fn key(v: &mut Vector) -> PublicKey {
    let key = PublicKey::Ed25519(v.bytes("public").try_into().unwrap());
    let check = v.text("check");
    assert_eq!(verdict(&key.check(), |error| error.code()), check, "{key}");
    assert_eq!(verdict(&key.to_string().parse::<PublicKey>().map(drop), |error| error.code()), check, "as a text");
    assert_eq!(verdict(&key.to_pem().map(drop), |error| error.code()), check, "as PEM");
    assert_eq!(is_operator(&key), check == "ok", "{key} as a node key");
    key
}

/// Whether a manifest may name the key.
fn is_operator(key: &PublicKey) -> bool {
    let mut note = signed_genesis(1, fama_ledger::manifest::Policy::recommended(1));
    note.text = note.text.replace(&node_key(0).public().to_string(), &key.to_string());
    // The signatures no longer match; the question is only whether parsing gets that far.
    Manifest::parse(&note.to_string()).unwrap_err().code() == "manifest_signature"
}

fn check_signature(v: &mut Vector) -> (String, bool) {
    let key = key(v);
    let (message, bytes, facts) = (v.bytes("message"), v.bytes("signature"), Facts::take(v));
    let signature = Signature::Ed25519(bytes.clone().try_into().unwrap());
    let (source, why, want) = (v.text("source"), v.text("why"), v.text("verify"));
    let outcome = key.verify(&message, &signature);
    assert_eq!(verdict(&outcome, SignatureError::code), want, "{source}: {why}");
    assert_eq!(outcome.is_ok(), facts.holds(), "{source}: {why}");
    assert_eq!(Signature::from_edge(&key, &message, &bytes).map(drop), outcome, "{source}: {why}, at the edge");
    (source, facts.holds())
}

#[test]
fn every_edge_case_has_one_verdict() {
    let (mut sources, mut held, mut keys) = (BTreeSet::new(), 0, 0);
    let vectors = read("ed25519-matrix.json");
    let all = vectors.len();
    for vector in vectors {
        let mut v = Vector::of(vector);
        match v.text("type").as_str() {
            "signature" => {
                let (source, holds) = check_signature(&mut v);
                sources.insert(source);
                held += u32::from(holds);
            }
            "key" => {
                key(&mut v);
                let (why, order) = (v.text("why"), v.text("key_order"));
                assert!(["small", "mixed", "prime", "none"].contains(&order.as_str()), "{why}");
                keys += 1;
            }
            other => panic!("{other}"),
        }
        v.close();
    }
    let published = (0..12).map(|i| format!("published {i}"));
    assert_eq!(sources, published.chain(["own".to_owned()]).collect());
    assert_eq!((all, keys, held), (74, 52, 3), "cases, keys alone, signatures that hold");
}
