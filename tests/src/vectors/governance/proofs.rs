//! Stands and proofs of equivocation.
use fama_ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{FederationId, TreeRoot};
use fama_ledger::log::{Head, MemoryTiles, Tree, leaf_hash, prove_consistency, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::stand::Stand;
use fama_tests::{domain, log, node_key};
use serde_json::{Value, json};

use super::hex;
use super::story::{NAMES, head, own_log};

/// The operator's stand for the version after `held`.
fn stand(newest: &Manifest, held: u32, of: LogId, by: usize, at: Head) -> Stand {
    let (federation, operator) = (newest.federation(), domain(NAMES[by]));
    Stand { federation, version: held + 1, log: of, operator, head: at }
}

pub(super) fn stands(newest: &Manifest) -> Vec<Value> {
    let ends = |log: &LogId| head(newest, log);
    let beta = stand(newest, 2, log(1), 0, ends(&log(1)));
    let good = [
        (2, beta.clone(), 0),
        (2, stand(newest, 2, log(3), 3, ends(&log(3))), 3),
        (2, stand(newest, 2, log(3), 4, Head::EMPTY), 4),
        // The newest key of an operator that has several, and the last key of an operator that left.
        (3, stand(newest, 3, own_log(2, 1), 1, Head::EMPTY), 5),
        (3, stand(newest, 3, own_log(2, 1), 3, Head::EMPTY), 3),
    ];
    let mut all: Vec<Value> = good
        .iter()
        .map(|(held, stand, node)| {
            json!({
                "type": "stand", "held": held, "note": stand.sign(node_key(*node).ed25519().unwrap()).to_string(),
                "version": stand.version, "log": stand.log.to_string(), "operator": stand.operator.as_str(),
                "size": stand.head.size, "root": stand.head.root.to_string(),
            })
        })
        .collect();
    let by = |stand: &Stand, node: u8| stand.sign(node_key(node).ed25519().unwrap()).to_string();
    let foreign = Stand { federation: FederationId([1; 32]), ..beta.clone() };
    let nowhere = Stand { log: own_log(1, 2), ..beta.clone() };
    let rootless = Stand { head: Head { size: 0, root: TreeRoot([7; 32]) }, ..beta.clone() };
    let stranger = Stand { operator: domain("zeta.example"), ..beta.clone() };
    let note = by(&beta, 0);
    for (why, note, held, code) in [
        ("no signature", beta.text(), 2, "stand_note"),
        ("another first line", note.replacen("stand/1", "stand/2", 1), 2, "stand_text"),
        ("a generation with a leading zero", note.replacen("beta.example/1", "beta.example/01", 1), 2, "stand_text"),
        ("a root beside size 0 that is not the root of nothing", by(&rootless, 0), 2, "stand_text"),
        ("another federation", by(&foreign, 0), 2, "stand_federation"),
        ("a log that a later version brings", by(&nowhere, 0), 2, "stand_log"),
        ("signed by another operator", by(&beta, 2), 2, "stand_unsigned"),
        ("an operator that no version has", by(&stranger, 0), 2, "stand_unsigned"),
        (
            "signed with a key that was the operator's",
            by(&stand(newest, 3, own_log(2, 1), 1, Head::EMPTY), 1),
            3,
            "stand_unsigned",
        ),
        ("another size than was signed", note.replacen("size: 1", "size: 2", 1), 2, "stand_unsigned"),
    ] {
        all.push(json!({"type": "invalid stand", "why": why, "held": held, "note": note, "code": code}));
    }
    all
}

/// A log of 9 leaves that all hold the same one byte.
fn branch(byte: u8) -> MemoryTiles {
    let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
    tiles.write(tree.append((0..9).map(|_| leaf_hash(&[byte]))));
    tiles
}

fn at(tiles: &MemoryTiles, size: u64) -> Head {
    Head { size, root: root_at(size, tiles).unwrap() }
}

pub(super) fn equivocations(newest: &Manifest) -> Vec<Value> {
    let (one, other, log) = (branch(1), branch(2), own_log(2, 1));
    let signed = |head: Head, node: u8| {
        let checkpoint = Checkpoint { origin: newest.origin(&log), head };
        (head, *SignedCheckpoint::sign(checkpoint, node_key(node).ed25519().unwrap()).signature())
    };
    let proof = |smaller: Head, node: u8| Equivocation {
        log: log.clone(),
        larger: signed(at(&one, 9), node),
        smaller: signed(smaller, node),
        root: root_at(smaller.size, &one).unwrap(),
        proof: if smaller.size == 9 { Vec::new() } else { prove_consistency(smaller.size, 9, &one).unwrap() },
    };
    let (unequal, equal) = (proof(at(&other, 6), 2), proof(at(&other, 9), 2));
    let mut all: Vec<Value> = [&unequal, &equal]
        .iter()
        .map(|proof| {
            json!({
                "type": "equivocation", "proof": hex(codec::encode(*proof)), "log": log.to_string(),
                "larger": proof.larger.0.size, "smaller": proof.smaller.0.size,
            })
        })
        .collect();
    let changed = |change: &dyn Fn(&mut Equivocation)| {
        let mut proof = unequal.clone();
        change(&mut proof);
        codec::encode(&proof)
    };
    let good = codec::encode(&unequal);
    for (why, bytes, code) in [
        ("a byte short", good[..good.len() - 1].to_vec(), "malformed_encoding"),
        ("a byte long", [good.as_slice(), &[0]].concat(), "not_canonical"),
        ("a log that no version has", changed(&|proof| proof.log.generation = 2), "equivocation_log"),
        (
            "the smaller head first",
            changed(&|proof| std::mem::swap(&mut proof.larger, &mut proof.smaller)),
            "equivocation_order",
        ),
        (
            "the larger head signed by another",
            changed(&|it| it.larger = proof(at(&other, 6), 1).larger),
            "equivocation_signature",
        ),
        (
            "the smaller head signed by another",
            changed(&|it| it.smaller = proof(at(&other, 6), 1).smaller),
            "equivocation_signature",
        ),
        ("a root that leads nowhere", changed(&|proof| proof.root = TreeRoot([7; 32])), "equivocation_proof"),
        ("a hash of the proof too few", changed(&|proof| proof.proof.truncate(1)), "equivocation_proof"),
        ("a larger head that extends the smaller", codec::encode(&proof(at(&one, 6), 2)), "equivocation_consistent"),
        ("one head twice", codec::encode(&proof(at(&one, 9), 2)), "equivocation_consistent"),
    ] {
        all.push(json!({"type": "invalid equivocation", "why": why, "proof": hex(bytes), "code": code}));
    }
    all
}
