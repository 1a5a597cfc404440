//! Which cosignatures are news when an operator has more than one key.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::id::{StateRoot, TreeRoot};
use fama_ledger::manifest::{Cut, Genesis, Operator, Policy};
use fama_ledger::signed_note::{self, SignedNote};
use fama_ledger::time::Millis;

use super::*;
use crate::store::Store;
use crate::wire::SignedHead;

const DOMAINS: [&str; 4] = ["alpha.example", "beta.example", "gamma.example", "delta.example"];
const GOVERNANCE: u8 = 100;
/// Seed of the node key of beta's second generation.
const SECOND: u8 = 50;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn log(i: usize, generation: u32) -> LogId {
    LogId { operator: DOMAINS[i].parse().unwrap(), generation }
}

fn note(text: String) -> String {
    let sign = |i: usize| signed_note::sign(&text, DOMAINS[i], &key(GOVERNANCE + i as u8));
    SignedNote { signatures: (0..4).map(sign).collect(), text }.to_string()
}

fn genesis() -> Arc<Manifest> {
    let operator = |i: usize| Operator {
        name: DOMAINS[i].parse().unwrap(),
        node_key: key(i as u8 + 1).verifying_key(),
        governance_key: key(GOVERNANCE + i as u8).verifying_key(),
        generation: 1,
        addresses: Vec::new(),
    };
    let operators = (0..4).map(operator).collect();
    let text = Genesis { name: "test".into(), policy: Policy::recommended(4), operators }.text().unwrap();
    Arc::new(Manifest::parse(&note(text)).unwrap())
}

/// Version 2: beta's log, which is still empty, is cut and continued under another key.
fn rotated(genesis: &Arc<Manifest>) -> Arc<Manifest> {
    let (mut draft, first, second) = (genesis.draft(), log(1, 1), log(1, 2));
    draft.operators[1].generation = 2;
    draft.operators[1].node_key = key(SECOND).verifying_key();
    draft.homes.insert(second.operator.clone(), second.clone());
    draft.cuts.push(Cut {
        log: first,
        head: Head::EMPTY,
        state_root: StateRoot([0; 32]),
        adopted: 0,
        successor: second,
    });
    Arc::new(genesis.successor(&note(draft.text().unwrap())).unwrap())
}

/// A head of alpha's log, cosigned by beta with one of its keys.
fn cosigned(manifest: &Manifest, seed: u8, size: u64) -> CosignedHead {
    let checkpoint = Checkpoint { origin: manifest.origin(&log(0, 1)), head: Head { size, root: TreeRoot([1; 32]) } };
    let cosignature = Cosignature::sign(&checkpoint, DOMAINS[1].parse().unwrap(), &key(seed), 7);
    CosignedHead { signed: SignedHead::of(&SignedCheckpoint::sign(checkpoint, &key(1))), cosignature }
}

fn said(manifest: &Manifest, version: u32, cosigned: CosignedHead) -> Frontier {
    let log = LogFrontier { log: log(0, 1), size: 2, newest: None, cosigned: vec![cosigned], equivocation: None };
    Frontier { manifest: version, logs: vec![log], ..Frontier::nothing(manifest, Millis(0)) }
}

#[test]
fn a_node_that_is_behind_does_not_blame_the_key_of_a_later_version() {
    let (dir, genesis) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &genesis).unwrap();
    let view = store.view();
    let heard = |version, one| frontier(&view, &genesis, said(&genesis, version, one));
    assert_eq!(heard(2, cosigned(&genesis, SECOND, 2)).unwrap().logs[0].cosigned, [], "left out");
    assert_eq!(heard(2, cosigned(&genesis, 2, 2)).unwrap().logs[0].cosigned.len(), 1);
    let lie = |said| matches!(said, Err(FrontierError::Sender("checkpoint_cosignature")));
    assert!(lie(heard(1, cosigned(&genesis, SECOND, 2))), "not the key of any operator");
    let mut forged = cosigned(&genesis, SECOND, 2);
    forged.signed.signature[0] ^= 1;
    assert!(lie(heard(2, forged)), "the owner's key is known");
}

#[test]
fn each_key_of_an_operator_may_cosign_the_same_head() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), rotated(&genesis()));
    let store = Store::open(dir.path(), &manifest).unwrap();
    let news = |one: &CosignedHead| super::cosigned(&store.view(), &manifest, &log(0, 1), one).unwrap();
    let (first, second) = (cosigned(&manifest, 2, 4), cosigned(&manifest, SECOND, 4));
    assert!(news(&first) && news(&second));
    store.put_cosigned(&log(0, 1), &log(1, 2), &second, 0, false).unwrap();
    assert!(news(&first), "the other key's cosignature counts in another version");
    assert!(!news(&second));
    store.put_cosigned(&log(0, 1), &log(1, 1), &first, 0, false).unwrap();
    assert!(!news(&first) && !news(&second));
    assert!(!news(&cosigned(&manifest, 2, 2)), "smaller than what either cosigned");
    assert!(news(&cosigned(&manifest, 2, 6)));
}
