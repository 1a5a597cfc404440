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
        begins: fama_ledger::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: fama_ledger::manifest::Endpoints::default(),
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
    cosigned_at(manifest, (1, seed), size, 7)
}

/// A head of alpha's log, cosigned by an operator with one of its keys at a time in seconds.
fn cosigned_at(manifest: &Manifest, (i, seed): (usize, u8), size: u64, seconds: u64) -> CosignedHead {
    let checkpoint = Checkpoint { origin: manifest.origin(&log(0, 1)), head: Head { size, root: TreeRoot([1; 32]) } };
    let cosignature = Cosignature::sign(&checkpoint, DOMAINS[i].parse().unwrap(), &key(seed), seconds);
    CosignedHead { signed: SignedHead::of(&SignedCheckpoint::sign(checkpoint, &key(1))), cosignature }
}

fn said(manifest: &Manifest, version: u32, cosigned: CosignedHead) -> Frontier {
    told(manifest, version, vec![cosigned])
}

fn told(manifest: &Manifest, version: u32, cosigned: Vec<CosignedHead>) -> Frontier {
    let log = log(0, 1);
    let log = LogFrontier { log, size: 2, newest: None, cosigned, equivocation: None, certificate: None };
    Frontier { manifest: version, logs: vec![log], ..Frontier::nothing(manifest, Millis(0)) }
}

#[test]
fn a_node_that_is_behind_does_not_blame_the_key_of_a_later_version() {
    let (dir, genesis) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &genesis).unwrap();
    let view = store.view();
    let heard = |version, one| frontier(&view, &genesis, said(&genesis, version, one), Millis(0));
    assert_eq!(heard(2, cosigned(&genesis, SECOND, 2)).unwrap().logs[0].cosigned, [], "left out");
    assert_eq!(heard(2, cosigned(&genesis, 2, 2)).unwrap().logs[0].cosigned.len(), 1);
    let lie = |said| matches!(said, Err(FrontierError::Sender("checkpoint_cosignature")));
    assert!(lie(heard(1, cosigned(&genesis, SECOND, 2))), "not the key of any operator");
    let mut forged = cosigned(&genesis, SECOND, 2);
    forged.signed.signature[0] ^= 1;
    assert!(lie(heard(2, forged)), "the owner's key is known");
}

/// A node that was offline while beta got another key lacks what certifies a log's adoption, and waited for it forever:
/// the others list the cosignature by the key that it does not know first, and the known one was not checked any more.
#[test]
fn a_node_that_is_behind_hears_the_key_that_it_knows_after_those_of_later_versions() {
    let (dir, genesis) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &genesis).unwrap();
    let view = store.view();
    let all = |keys: &[u8]| keys.iter().map(|key| cosigned(&genesis, *key, 4)).collect::<Vec<_>>();
    let heard = |version, keys: &[u8]| {
        frontier(&view, &genesis, told(&genesis, version, all(keys)), Millis(0)).unwrap().logs[0].cosigned.len()
    };
    assert_eq!(heard(2, &[SECOND, 2]), 1);
    assert_eq!(heard(3, &[SECOND + 1, SECOND, 2]), 1);
    assert_eq!(heard(2, &[SECOND + 1, SECOND, 2]), 0, "one version brings one key at most");
}

#[test]
fn each_key_of_an_operator_may_cosign_the_same_head() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), rotated(&genesis()));
    let store = Store::open(dir.path(), &manifest).unwrap();
    let news = |one: &CosignedHead| super::cosigned(&store.view(), &manifest, &log(0, 1), one, Millis(0)).unwrap();
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

#[test]
fn a_time_ahead_of_the_own_clock_is_neither_kept_nor_passed_on() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &manifest).unwrap();
    let view = store.view();
    for (seconds, kept) in [(1_000, true), (1_060, true), (1_061, false), (9_999_999, false)] {
        let (now, one) = (Millis(1_000_999), cosigned_at(&manifest, (1, 2), 4, seconds));
        let heard = frontier(&view, &manifest, said(&manifest, 1, one.clone()), now).unwrap();
        assert_eq!(heard.logs[0].cosigned.len(), usize::from(kept), "{seconds}");
        assert_eq!(super::cosigned(&view, &manifest, &log(0, 1), &one, now).unwrap(), kept, "{seconds}");
    }
}

#[test]
fn a_renewal_is_heard_once_from_a_frontier_and_never_by_gossip() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), rotated(&genesis()));
    let store = Store::open(dir.path(), &manifest).unwrap();
    let now = Millis(1_000_000);
    let at = |seed, size, seconds| cosigned_at(&manifest, (1, seed), size, seconds);
    let heard = |all: Vec<CosignedHead>| {
        let logs = frontier(&store.view(), &manifest, told(&manifest, 2, all), now).unwrap().logs;
        assert_eq!(logs[0].cosigned, []);
        logs[0].renewed.iter().map(|one| (one.by.generation, one.cosignature.seconds)).collect::<Vec<_>>()
    };
    store.put_cosigned(&log(0, 1), &log(1, 1), &at(2, 4, 900), 0, false).unwrap();
    store.put_cosigned(&log(0, 1), &log(1, 2), &at(SECOND, 4, 900), 0, false).unwrap();
    assert_eq!(heard(vec![at(2, 4, 914), at(SECOND, 4, 914)]), [], "too soon");
    assert_eq!(heard(vec![at(2, 4, 915), at(SECOND, 4, 915)]), [(1, 915), (2, 915)], "each of the two keys");
    assert_eq!(heard(vec![at(2, 4, 915), at(SECOND, 4, 915), at(2, 4, 990)]), [(1, 915), (2, 915)], "no third");
    assert_eq!(heard(vec![at(2, 2, 990)]), [], "of a smaller head");
    assert!(!super::cosigned(&store.view(), &manifest, &log(0, 1), &at(2, 4, 915), now).unwrap());
    for (generation, seed) in [(1, 2), (2, SECOND)] {
        store.renew_cosigned(&log(0, 1), &log(1, generation), at(seed, 4, 915));
    }
    assert_eq!(heard(vec![at(2, 4, 915), at(2, 4, 929), at(2, 4, 900)]), [], "known, too soon, older");
    assert_eq!(heard(vec![at(2, 4, 930)]), [(1, 930)]);
    let mut forged = at(2, 4, 930);
    forged.cosignature.seconds += 1;
    let lie = frontier(&store.view(), &manifest, said(&manifest, 2, forged), now);
    assert!(matches!(lie, Err(FrontierError::Sender("checkpoint_cosignature"))));
}

/// What a liar costs that renews its cosignatures at every moment, in frontiers that come every two seconds.
#[test]
fn a_liar_that_renews_without_end_costs_one_check_in_half_a_heartbeat() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &manifest).unwrap();
    store.put_cosigned(&log(0, 1), &log(1, 1), &cosigned_at(&manifest, (1, 2), 4, 1_000), 0, false).unwrap();
    let mut checked = 0;
    for second in (1_000..1_300).step_by(2) {
        let one = cosigned_at(&manifest, (1, 2), 4, second);
        let logs = frontier(&store.view(), &manifest, said(&manifest, 1, one), Millis(second * 1_000)).unwrap().logs;
        checked += logs[0].renewed.len();
        for renewal in &logs[0].renewed {
            let one = cosigned_at(&manifest, (1, 2), 4, renewal.cosignature.seconds);
            store.renew_cosigned(&log(0, 1), &log(1, 1), one);
        }
    }
    assert!(checked <= 300 / 15, "{checked} checks in 300 s");
}

/// What a heartbeat costs a node: every key's renewal in a log is checked once, whoever shows it first.
#[test]
fn a_heartbeat_costs_one_check_for_each_key_and_log() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &manifest).unwrap();
    let all = |seconds| (0..4).map(|i| cosigned_at(&manifest, (i, i as u8 + 1), 4, seconds)).collect::<Vec<_>>();
    for (i, one) in all(1_000).iter().enumerate() {
        store.put_cosigned(&log(0, 1), &log(i, 1), one, 0, false).unwrap();
    }
    for heartbeat in 1..4 {
        let seconds = 1_000 + 30 * heartbeat;
        let mut checked = 0;
        for _peer in 0..3 {
            let said = told(&manifest, 1, all(seconds));
            let renewed =
                frontier(&store.view(), &manifest, said, Millis(seconds * 1_000)).unwrap().logs.remove(0).renewed;
            checked += renewed.len();
            for Renewal { by, cosignature, .. } in renewed {
                let signed = all(seconds).remove(0).signed;
                store.renew_cosigned(&log(0, 1), &by, CosignedHead { signed, cosignature });
            }
        }
        assert_eq!(checked, 4, "heartbeat {heartbeat}");
    }
}

/// The owner of a log signed two branches: a certificate that this copy has not reached shows which one counts.
#[test]
fn a_certificate_beyond_the_copy_is_heard_if_the_owner_has_two_branches() {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), genesis());
    let store = Store::open(dir.path(), &manifest).unwrap();
    let shown = |by: &[usize], size| {
        let all = by.iter().map(|i| cosigned_at(&manifest, (*i, *i as u8 + 1), size, 7)).collect::<Vec<_>>();
        let signed = all[0].signed.clone();
        let cosignatures = all.into_iter().map(|one| (1, one.cosignature)).collect();
        let mut said = told(&manifest, 1, Vec::new());
        said.logs[0].certificate = Some(Box::new(CertifiedHead { signed, cosignatures }));
        let heard = frontier(&store.view(), &manifest, said, Millis(9_000)).unwrap();
        heard.logs[0].certificate.as_ref().map(|one| (one.head().size, one.cosignatures.len()))
    };
    assert_eq!(shown(&[0, 1, 2], 4), None, "the copy is empty");
    let other = SignedHead::of(&SignedCheckpoint::sign(
        Checkpoint { origin: manifest.origin(&log(0, 1)), head: Head { size: 1, root: TreeRoot([2; 32]) } },
        &key(1),
    ));
    store.put_conflicting(&log(0, 1), &other).unwrap();
    assert_eq!(shown(&[1, 2], 4), None, "no quorum");
    assert_eq!(shown(&[0, 1, 2], 4), Some((4, 3)));
}
