//! Chains whose last version breaks a rule, one for each.
use std::sync::Arc;

use fama_ledger::id::{FederationId, ManifestHash, StateRoot, TreeRoot};
use fama_ledger::log::Head;
use fama_ledger::manifest::{Cut, Draft, LogId, Manifest};
use fama_tests::{domain, governance_key, node_key};
use serde_json::{Value, json};

use super::story::{NAMES, first, note, operator, own_log, second, second_draft, third_draft, versions};

/// A note that cannot follow the first `behind` versions.
fn vector(why: &str, behind: u32, note: &str, code: &str) -> Value {
    json!({"type": "invalid chain", "why": why, "behind": behind, "note": note, "code": code})
}

fn cut(log: LogId, adopted: u32, successor: LogId) -> Cut {
    let head = Head { size: 4, root: TreeRoot([7; 32]) };
    Cut { log, head, state_root: StateRoot([8; 32]), adopted, successor }
}

fn owner(draft: &mut Draft, i: usize) -> &mut fama_ledger::manifest::Operator {
    draft.operators.iter_mut().find(|one| one.name.as_str() == NAMES[i]).unwrap()
}

/// The operator's log ends; it starts this generation with this node key.
fn renew(draft: &mut Draft, i: u8, node: u8, generation: u32) {
    let at = usize::from(i);
    let before = owner(draft, at).log();
    *owner(draft, at) = operator(i, node, generation);
    draft.homes.insert(domain(NAMES[at]), own_log(at, generation));
    draft.cuts.push(cut(before, draft.version - 1, own_log(at, generation)));
}

/// What is wrong, the chain before it, and the change that breaks an otherwise unchanged draft.
type SuccessionCase = (&'static str, fn() -> Arc<Manifest>, fn(&mut Draft));

const SUCCESSIONS: [SuccessionCase; 26] = [
    ("a log that continues and begins at another time", second, |draft| {
        owner(draft, 0).begins = owner(draft, 0).begins.plus(1_000);
    }),
    ("a token key that was a governance key", versions, |draft| {
        owner(draft, 0).endpoints.issuer = Some("https://alpha.example".to_owned());
        owner(draft, 0).endpoints.token_keys = vec![governance_key(3).ed25519().unwrap().verifying_key()];
    }),
    ("a cut of a log that no version has", second, |draft| draft.cuts.push(cut(own_log(0, 2), 1, own_log(1, 1)))),
    ("a cut of a log that was cut before", versions, |draft| draft.cuts.push(cut(own_log(3, 1), 2, own_log(0, 1)))),
    ("two cuts of a log", second, |draft| {
        renew(draft, 1, 5, 2);
        draft.cuts.push(draft.cuts[0].clone());
    }),
    ("a cut at a version before the one that brought the log", second, |draft| {
        renew(draft, 4, 5, 2);
        draft.cuts[0].adopted = 1;
    }),
    ("a cut at the version that makes it", second, |draft| {
        renew(draft, 1, 5, 2);
        draft.cuts[0].adopted = 3;
    }),
    ("an operator that keeps a log which is cut", second, |draft| {
        draft.cuts.push(cut(own_log(1, 1), 2, own_log(0, 1)));
    }),
    ("an operator that goes back to its first generation", versions, |draft| {
        renew(draft, 1, 6, 3);
        *owner(draft, 1) = operator(1, 1, 1);
        draft.homes.insert(domain(NAMES[1]), own_log(1, 1));
        draft.cuts[0].successor = own_log(1, 1);
    }),
    ("another node key in the same generation", second, |draft| {
        owner(draft, 1).node_key = node_key(5).ed25519().unwrap().verifying_key();
    }),
    ("a new generation with the node key of the one before", second, |draft| renew(draft, 1, 1, 2)),
    ("a new generation with the node key of an operator that is gone", versions, |draft| renew(draft, 2, 3, 2)),
    ("a governance key that is the node key of a log that was cut", versions, |draft| {
        owner(draft, 2).governance_key = node_key(3).ed25519().unwrap().verifying_key();
    }),
    ("a governance key that is the operator's own former node key", versions, |draft| {
        owner(draft, 1).governance_key = node_key(1).ed25519().unwrap().verifying_key();
    }),
    ("a node key that is a governance key of an operator that is gone", versions, |draft| {
        renew(draft, 2, 7, 2);
        owner(draft, 2).node_key = governance_key(3).ed25519().unwrap().verifying_key();
    }),
    ("a log that nobody has any more and that is not cut", second, |draft| {
        draft.operators.remove(3);
        draft.homes.insert(domain(NAMES[3]), own_log(0, 1));
    }),
    ("a new generation without a cut of the one before", second, |draft| {
        renew(draft, 1, 5, 2);
        draft.cuts.clear();
    }),
    ("an operator that was gone and comes back", versions, |draft| {
        draft.operators.push(operator(3, 6, 2));
        draft.homes.insert(domain(NAMES[3]), own_log(3, 2));
    }),
    ("a home that is gone", versions, |draft| drop(draft.homes.remove(&domain(NAMES[3])))),
    ("a home that leaves a log which goes on", second, |draft| {
        draft.homes.insert(domain(NAMES[3]), own_log(0, 1));
    }),
    ("a new home in an old log", second, |draft| drop(draft.homes.insert(domain("zeta.example"), own_log(0, 1)))),
    ("a new home in the new log of another operator", first, |draft| {
        *draft = second_draft();
        draft.homes.insert(domain("zeta.example"), own_log(4, 1));
    }),
    ("a successor that no version has", second, |draft| {
        *draft = third_draft();
        draft.cuts[1].successor = own_log(0, 9);
    }),
    ("a successor that was cut before", versions, |draft| {
        draft.operators.retain(|one| one.name.as_str() != NAMES[2]);
        draft.homes.insert(domain(NAMES[2]), own_log(0, 1));
        draft.cuts.push(cut(own_log(2, 1), 3, own_log(3, 1)));
    }),
    ("a successor that a later cut of the same version ends", second, |draft| {
        *draft = third_draft();
        draft.cuts.reverse();
        draft.homes.insert(domain(NAMES[3]), own_log(1, 2));
        draft.cuts[0].successor = own_log(1, 1);
    }),
    ("statements that do not pass to their operator's own new log", second, |draft| {
        renew(draft, 1, 5, 2);
        draft.cuts[0].successor = own_log(0, 1);
    }),
];

const OTHERS: [(SuccessionCase, &str); 7] = [
    (("a version again", second, |draft| draft.version = 2), "manifest_version"),
    (("a version left out", second, |draft| draft.version = 4), "manifest_version"),
    (("another federation", second, |draft| draft.federation = FederationId([1; 32])), "manifest_previous"),
    (("behind the version before the last", second, |draft| draft.previous = first().hash()), "manifest_previous"),
    (("behind no version", second, |draft| draft.previous = ManifestHash([1; 32])), "manifest_previous"),
    (("another name", second, |draft| draft.name.push('x')), "manifest_previous"),
    (("nobody of the version before signed", second, |_| ()), "manifest_quorum"),
];

/// Signers of the third version, whose cuts need a quorum of version 1 (three of alpha to delta) and of version 2
/// (four of all five), and the code.
const SIGNED: [(&str, &[usize], &str); 4] = [
    ("a signature too few of version 2", &[0, 1, 2], "manifest_quorum"),
    ("a signature too few of version 2, and one of a stranger", &[0, 1, 2, 6], "manifest_quorum"),
    ("a signature twice", &[0, 0, 1, 2], "manifest_quorum"),
    ("one signature", &[4], "manifest_quorum"),
];

pub(super) fn invalid() -> Vec<Value> {
    let mut all = Vec::new();
    for (why, previous, change) in SUCCESSIONS {
        all.push(changed(why, &previous(), change, "manifest_succession"));
    }
    for ((why, previous, change), code) in OTHERS {
        all.push(changed(why, &previous(), change, code));
    }
    let third = third_draft();
    for (why, by, code) in SIGNED {
        all.push(vector(why, 2, &signed(&third, by), code));
    }
    // Three of version 3 are a quorum there, but not in version 2, which brought the log.
    let mut never = versions().draft();
    renew(&mut never, 4, 7, 2);
    never.cuts[0] = Cut { head: Head::EMPTY, state_root: StateRoot([0; 32]), adopted: 0, ..never.cuts[0].clone() };
    let why = "a cut of a log that never began, without a quorum of the version that brought it";
    all.push(vector(why, 3, &signed(&never, &[0, 1, 2]), "manifest_quorum"));
    let good = signed(&third, &[0, 1, 2, 4]);
    for (why, behind, note, code) in [
        ("a line of a known key that does not hold", 2, spoilt(&third), "manifest_signature"),
        ("a changed rule", 2, good.replacen("max_delta = 3", "max_delta = 2", 1), "manifest_signature"),
        ("another text of the same content", 2, good.replacen("version = 3", "version =  3", 1), "manifest_canonical"),
        ("without the genesis", 0, good.clone(), "manifest_version"),
        ("without the second version", 1, good.clone(), "manifest_version"),
        ("something between two versions", 2, format!("\n{good}"), "manifest_note"),
        ("the version twice", 2, good.repeat(2), "manifest_version"),
        (
            "a cut that has a size, but was never adopted",
            2,
            good.replacen("adopted = 2", "adopted = 0", 1),
            "manifest_value",
        ),
    ] {
        all.push(vector(why, behind, &note, code));
    }
    all
}

/// Signed by all operators, unless the case is about missing signatures.
fn changed(why: &str, previous: &Manifest, change: fn(&mut Draft), code: &str) -> Value {
    let mut draft = previous.draft();
    change(&mut draft);
    let by: &[usize] = if code == "manifest_quorum" { &[6] } else { &[0, 1, 2, 3, 4] };
    vector(why, previous.version(), &signed(&draft, by), code)
}

/// Adds the signature lines of these operators; an index past the names signs as a stranger.
fn signed(draft: &Draft, by: &[usize]) -> String {
    let known: Vec<usize> = by.iter().copied().filter(|i| *i < NAMES.len()).collect();
    let mut note = note(draft, &known);
    for i in by.iter().filter(|i| **i >= NAMES.len()) {
        let key = governance_key(*i as u8);
        note.signatures.push(fama_ledger::signed_note::sign(&note.text, "zeta.example", key.ed25519().unwrap()));
    }
    note.to_string()
}

/// The third version, with delta's signature line from the second.
fn spoilt(third: &Draft) -> String {
    let mut spoilt = note(third, &[0, 1, 2, 4]);
    spoilt.signatures.extend(note(&second_draft(), &[3]).signatures);
    spoilt.to_string()
}
