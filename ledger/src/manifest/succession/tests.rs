//! Valid and invalid successors of a version, one case for each rule, and the quorums that must sign.
use alloc::string::{String, ToString};
use alloc::{format, vec};

use ed25519_dalek::SigningKey;

use super::*;
use crate::id::{Domain, FederationId, ManifestHash, StateRoot, TreeRoot};
use crate::log::Head;
use crate::manifest::{Cut, Draft, Genesis, Operator, Policy};
use crate::signed_note::sign;

fn key(kind: u8, i: u8) -> SigningKey {
    SigningKey::from_bytes(&[kind, i].repeat(16).try_into().unwrap())
}

/// The node key of one generation of an operator's log.
fn node_key(i: u8, generation: u8) -> SigningKey {
    key(generation, i)
}

/// One of an operator's governance keys; each `set` has its own.
fn governance_key(i: u8, set: u8) -> SigningKey {
    key(100 + set, i)
}

fn name(i: u8) -> Domain {
    format!("{}.example", char::from(b'a' + i)).parse().unwrap()
}

fn log(i: u8, generation: u32) -> LogId {
    LogId { operator: name(i), generation }
}

fn operator(i: u8, generation: u8) -> Operator {
    Operator {
        name: name(i),
        node_key: node_key(i, generation).verifying_key(),
        governance_key: governance_key(i, 1).verifying_key(),
        generation: u32::from(generation),
        begins: crate::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: crate::manifest::Endpoints::default(),
    }
}

/// The text signed with these governance keys, each given as operator and set.
fn signed(text: String, by: &[(u8, u8)]) -> String {
    let signatures = by.iter().map(|(i, set)| sign(&text, name(*i).as_str(), &governance_key(*i, *set))).collect();
    SignedNote { text, signatures }.to_string()
}

fn unsigned(previous: &Arc<Manifest>, text: String) -> Result<Manifest, ManifestError> {
    previous.unsigned_successor(SignedNote { text, signatures: Vec::new() })
}

/// Version 1 of the operators a to d.
fn genesis() -> Arc<Manifest> {
    let operators = (0..4).map(|i| operator(i, 1)).collect();
    let text = Genesis { name: "test".into(), policy: Policy::recommended(4), operators }.text().unwrap();
    Arc::new(Manifest::parse(&signed(text, &[(0, 1), (1, 1), (2, 1), (3, 1)])).unwrap())
}

fn after(previous: &Arc<Manifest>, change: impl FnOnce(&mut Draft)) -> Arc<Manifest> {
    let mut draft = previous.draft();
    change(&mut draft);
    Arc::new(unsigned(previous, draft.text().unwrap()).unwrap())
}

/// Version 2, which adds the operator e.
fn grown() -> Arc<Manifest> {
    after(&genesis(), |draft| join(draft, 4))
}

/// Version 3: d is gone and succeeded by a, and b has a new log.
fn shrunk() -> Arc<Manifest> {
    after(&grown(), |draft| {
        leave(draft, 3, log(0, 1));
        renew(draft, 1, 2);
    })
}

fn join(draft: &mut Draft, i: u8) {
    draft.operators.push(operator(i, 1));
    draft.homes.insert(name(i), log(i, 1));
}

fn cut(draft: &mut Draft, log: LogId, adopted: u32, successor: LogId) {
    let head = Head { size: 5, root: TreeRoot([7; 32]) };
    draft.cuts.push(Cut { log, head, state_root: StateRoot([8; 32]), adopted, successor });
}

fn cut_empty(draft: &mut Draft, log: LogId, successor: LogId) {
    draft.cuts.push(Cut { log, head: Head::EMPTY, state_root: StateRoot([0; 32]), adopted: 0, successor });
}

/// Removes an operator; its home and log pass to another.
fn leave(draft: &mut Draft, i: u8, successor: LogId) {
    draft.operators.retain(|operator| operator.name != name(i));
    draft.homes.insert(name(i), successor.clone());
    cut(draft, log(i, 1), 2, successor);
}

/// Cuts the operator's log and starts the given generation.
fn renew(draft: &mut Draft, i: u8, generation: u8) {
    let own = draft.operators.iter_mut().find(|operator| operator.name == name(i)).unwrap();
    let (before, after) = (own.log(), log(i, u32::from(generation)));
    *own = operator(i, generation);
    for carrier in draft.homes.values_mut().filter(|carrier| **carrier == before) {
        *carrier = after.clone();
    }
    cut(draft, before, draft.version - 1, after);
}

fn rename_key(draft: &mut Draft, i: u8, node_key: &SigningKey) {
    let own = draft.operators.iter_mut().find(|operator| operator.name == name(i)).unwrap();
    own.node_key = node_key.verifying_key();
}

/// The version before, the change made in the draft after it, and words of the refusal; `None` if it is valid.
type SuccessionRule = (fn() -> Arc<Manifest>, fn(&mut Draft), Option<&'static str>);

fn check(cases: &[SuccessionRule]) {
    for (at, (previous, change, refused)) in cases.iter().enumerate() {
        let previous = previous();
        let mut draft = previous.draft();
        change(&mut draft);
        let found = unsigned(&previous, draft.text().unwrap());
        match refused {
            None => assert!(found.is_ok(), "case {at}: {}", found.unwrap_err()),
            Some(words) => {
                let error = found.map(|_| format!("case {at} holds; want: {words}")).unwrap_err();
                assert!(error.to_string().contains(words), "case {at}: {error}; want: {words}");
                assert_eq!(error.code(), "manifest_succession", "case {at}");
            }
        }
    }
}

#[test]
fn what_may_change_without_a_cut() {
    check(&[
        (genesis, |_| {}, None),
        (shrunk, |_| {}, None),
        (genesis, |draft| draft.policy.daily_cap = 30, None),
        (genesis, |draft| draft.operators.reverse(), None),
        (genesis, |draft| draft.operators[0].addresses = vec!["/ip4/127.0.0.1/tcp/1".into()], None),
        (genesis, |draft| draft.operators[0].governance_key = governance_key(0, 2).verifying_key(), None),
        (genesis, |draft| join(draft, 4), None),
        (shrunk, |draft| join(draft, 5), None),
    ]);
}

#[test]
fn a_log_is_cut_once_at_a_version_that_it_can_have_adopted() {
    check(&[
        (grown, |draft| leave(draft, 3, log(0, 1)), None),
        (grown, |draft| renew(draft, 1, 2), None),
        (grown, |draft| renew(draft, 1, 9), None),
        (shrunk, |draft| renew(draft, 1, 3), None),
        (genesis, |draft| cut(draft, log(0, 2), 1, log(1, 1)), Some("no version has the log a.example/2")),
        (genesis, |draft| cut(draft, log(8, 1), 1, log(1, 1)), Some("no version has the log i.example/1")),
        (shrunk, |draft| cut(draft, log(3, 1), 2, log(0, 1)), Some("the log d.example/1 was cut before")),
        (shrunk, |draft| cut_empty(draft, log(1, 1), log(1, 2)), Some("the log b.example/1 was cut before")),
        (
            grown,
            |draft| {
                renew(draft, 1, 2);
                cut(draft, log(1, 1), 2, log(1, 2));
            },
            Some("the log b.example/1 was cut before"),
        ),
    ]);
    let adopted = |previous: fn() -> Arc<Manifest>, i: u8, adopted: u32| {
        let previous = previous();
        let mut draft = previous.draft();
        renew(&mut draft, i, 3);
        draft.cuts[0].adopted = adopted;
        unsigned(&previous, draft.text().unwrap()).map_err(|error| error.to_string())
    };
    for (i, at) in [(0, 1), (0, 2), (4, 2)] {
        assert_eq!(adopted(grown, i, at).err(), None, "{i} at {at}");
    }
    for (i, at) in [(0, 3), (4, 1), (4, 3), (0, u32::MAX)] {
        let wanted = format!("the log {} cannot have adopted version {at}", log(i, 1));
        assert_eq!(adopted(grown, i, at).err(), Some(wanted));
    }
}

#[test]
fn a_new_node_key_stands_in_a_new_generation() {
    check(&[
        (genesis, |draft| rename_key(draft, 1, &node_key(1, 2)), Some("a new node key of b.example needs")),
        (grown, |draft| cut(draft, log(1, 1), 1, log(0, 1)), Some("is cut; b.example needs a new generation")),
        (
            shrunk,
            |draft| {
                renew(draft, 1, 3);
                *draft.operators.iter_mut().find(|one| one.name == name(1)).unwrap() = operator(1, 1);
                draft.homes.insert(name(1), log(1, 1));
                draft.cuts[0].successor = log(1, 1);
            },
            Some("the log b.example/1 is cut; b.example needs a new generation"),
        ),
        (
            grown,
            |draft| {
                renew(draft, 1, 2);
                rename_key(draft, 1, &node_key(1, 1));
            },
            Some("the log b.example/2 needs a node key that no other log has or had"),
        ),
        (
            shrunk,
            |draft| {
                join(draft, 5);
                rename_key(draft, 5, &node_key(3, 1));
            },
            Some("the log f.example/1 needs a node key that no other log has or had"),
        ),
    ]);
}

fn govern(draft: &mut Draft, i: u8, key: &SigningKey) {
    let own = draft.operators.iter_mut().find(|operator| operator.name == name(i)).unwrap();
    own.governance_key = key.verifying_key();
}

/// Symptom: one signature line counted as a governance signature of one version and as an approval or cosigner's key
/// of another. Cause: the two kinds of keys were compared within a version only. Each order of the two uses is refused,
/// by the same operator and by another one.
#[test]
fn no_key_is_ever_both_of_the_node_and_of_governance() {
    fn governed_anew() -> Arc<Manifest> {
        after(&genesis(), |draft| govern(draft, 1, &governance_key(1, 2)))
    }
    check(&[
        (
            governed_anew,
            |draft| {
                renew(draft, 1, 2);
                govern(draft, 1, &governance_key(1, 2));
                rename_key(draft, 1, &governance_key(1, 1));
            },
            Some("a governance key of b.example is or was a node key"),
        ),
        (
            governed_anew,
            |draft| {
                join(draft, 5);
                rename_key(draft, 5, &governance_key(1, 1));
            },
            Some("a governance key of b.example is or was a node key"),
        ),
        (shrunk, |draft| govern(draft, 1, &node_key(1, 1)), Some("a governance key of b.example is or was a node key")),
        (shrunk, |draft| govern(draft, 2, &node_key(3, 1)), Some("a governance key of c.example is or was a node key")),
        (governed_anew, |draft| govern(draft, 2, &governance_key(1, 1)), None),
    ]);
}

#[test]
fn an_operator_that_is_gone_leaves_a_cut_and_stays_away() {
    check(&[
        (
            genesis,
            |draft| {
                draft.operators.pop();
                draft.homes.insert(name(3), log(0, 1));
            },
            Some("no operator has the log d.example/1 any more: cut it"),
        ),
        (
            grown,
            |draft| {
                renew(draft, 1, 2);
                draft.cuts.clear();
            },
            Some("no operator has the log b.example/1 any more: cut it"),
        ),
        (
            shrunk,
            |draft| {
                draft.operators.push(operator(3, 2));
                draft.homes.insert(name(3), log(3, 2));
            },
            Some("d.example was an operator once"),
        ),
    ]);
}

#[test]
fn a_home_stays_and_moves_with_a_cut_only() {
    check(&[
        (shrunk, |draft| drop(draft.homes.remove(&name(3))), Some("the home d.example is missing")),
        (grown, |draft| drop(draft.homes.insert(name(4), log(0, 1))), Some("leaves the log e.example/1")),
        (shrunk, |draft| drop(draft.homes.insert(name(3), log(2, 1))), Some("leaves the log a.example/1")),
        (
            grown,
            |draft| {
                leave(draft, 3, log(0, 1));
                draft.homes.insert(name(3), log(2, 1));
            },
            None,
        ),
        (genesis, |draft| drop(draft.homes.insert(name(9), log(0, 1))), Some("the new home j.example must")),
        (
            genesis,
            |draft| {
                join(draft, 4);
                draft.homes.insert(name(4), log(0, 1));
            },
            Some("the new home e.example must"),
        ),
        (
            genesis,
            |draft| {
                join(draft, 4);
                draft.homes.insert(name(9), log(4, 1));
            },
            Some("the new home j.example must"),
        ),
    ]);
}

#[test]
fn who_succeeds_goes_on() {
    check(&[
        (grown, |draft| leave_to(draft, 3, log(9, 1)), Some("j.example/1 cannot succeed d.example/1")),
        (grown, |draft| leave_to(draft, 3, log(3, 1)), Some("d.example/1 cannot succeed d.example/1")),
        (shrunk, |draft| leave_to(draft, 2, log(1, 1)), Some("b.example/1 cannot succeed c.example/1")),
        // A successor that the same version cuts was accepted if its own cut came later: the records had moved on.
        (
            grown,
            |draft| {
                leave_to(draft, 3, log(0, 1));
                renew(draft, 0, 2);
            },
            Some("a.example/1 cannot succeed d.example/1"),
        ),
        (
            grown,
            |draft| {
                renew(draft, 0, 2);
                leave_to(draft, 3, log(0, 1));
            },
            Some("a.example/1 cannot succeed d.example/1"),
        ),
        (
            grown,
            |draft| {
                renew(draft, 0, 2);
                leave_to(draft, 3, log(0, 2));
            },
            None,
        ),
        (
            grown,
            |draft| {
                renew(draft, 1, 2);
                draft.cuts[0].successor = log(0, 1);
            },
            Some("the statements of b.example must pass to its own new log"),
        ),
    ]);
}

/// Like [`leave`], but the cut may name any successor.
fn leave_to(draft: &mut Draft, i: u8, successor: LogId) {
    leave(draft, i, log(4, 1));
    draft.cuts.last_mut().unwrap().successor = successor;
}

#[test]
fn what_a_cut_passes_on_is_passed_on_again() {
    let third = shrunk();
    let carried = |manifest: &Manifest, i: u8| manifest.records().get(&name(i)).unwrap().clone();
    assert_eq!((carried(&third, 3), carried(&third, 1), carried(&third, 4)), (log(0, 1), log(1, 2), log(4, 1)));
    let fourth = after(&third, |draft| renew(draft, 0, 2));
    assert_eq!((carried(&fourth, 3), carried(&fourth, 0)), (log(0, 2), log(0, 2)));
    assert_eq!(fourth.records_of(&log(0, 2)).cloned().collect::<Vec<_>>(), [name(0), name(3)]);
    assert_eq!(fourth.log(&log(0, 2)).unwrap().since, 4);
    assert_eq!(fourth.cuts().map(|cut| cut.log.clone()).collect::<Vec<_>>(), [log(0, 1)], "its own cuts only");
    assert_eq!(fourth.cut(&log(3, 1)).unwrap().successor, log(0, 1), "a cut never changes");
}

#[test]
fn a_version_follows_the_one_that_is_held() {
    let (first, second) = (genesis(), grown());
    let version = |found, wanted| ManifestError::Version { found, wanted };
    let text = |manifest: &Manifest| manifest.note().text.clone();
    assert_eq!(unsigned(&second, text(&first)), Err(version(1, 3)));
    assert_eq!(unsigned(&second, text(&second)), Err(version(2, 3)));
    assert_eq!(unsigned(&first, second.draft().text().unwrap()), Err(version(3, 2)));
    assert!(unsigned(&first, text(&second)).is_ok());

    let changed = |change: fn(&mut Draft)| {
        let mut draft = second.draft();
        change(&mut draft);
        unsigned(&second, draft.text().unwrap()).unwrap_err()
    };
    let field = |field| ManifestError::Previous { field };
    assert_eq!(changed(|draft| draft.federation = FederationId([1; 32])), field("federation"));
    assert_eq!(changed(|draft| draft.previous = ManifestHash([1; 32])), field("previous"));
    assert_eq!(changed(|draft| draft.previous = ManifestHash(draft.federation.0)), field("previous"));
    assert_eq!(changed(|draft| draft.name.push('x')), field("name"));
    let without = |line: &str| {
        let text = second.draft().text().unwrap();
        let kept = text.lines().filter(|text| !text.starts_with(line));
        unsigned(&second, kept.map(|text| format!("{text}\n")).collect()).unwrap_err()
    };
    assert_eq!(without("federation ="), field("federation"));
    assert_eq!(without("previous ="), field("previous"));
}

/// Version 3, with the operators a to d, whose governance keys differ in each version, and e, new in version 2.
fn renewed() -> Arc<Manifest> {
    let renewed = |previous: &Arc<Manifest>, set: u8| {
        after(previous, |draft| {
            for (i, operator) in (0..4).zip(&mut draft.operators) {
                operator.governance_key = governance_key(i, set).verifying_key();
            }
            if set == 2 {
                join(draft, 4);
            }
        })
    };
    renewed(&renewed(&genesis(), 2), 3)
}

/// The note of version 4, which cuts the log of this operator at that adopted version; never begun if 0.
fn cutting(i: u8, adopted: u32, by: &[(u8, u8)]) -> String {
    let mut draft = renewed().draft();
    if i < 5 {
        renew(&mut draft, i, 2);
        draft.cuts.clear();
        match adopted {
            0 => cut_empty(&mut draft, log(i, 1), log(i, 2)),
            _ => cut(&mut draft, log(i, 1), adopted, log(i, 2)),
        }
        draft.operators[usize::from(i)].governance_key = governance_key(i, 4).verifying_key();
    }
    signed(draft.text().unwrap(), by)
}

#[test]
fn a_cut_is_signed_by_the_quorums_that_certified_the_log() {
    const NONE: u8 = 9;
    for (i, adopted, versions) in [
        (NONE, 0, &[3][..]),
        (0, 0, &[1, 3]),
        (0, 1, &[1, 3]),
        (0, 2, &[1, 2, 3]),
        (0, 3, &[2, 3]),
        (4, 0, &[2, 3]),
        (4, 2, &[2, 3]),
        (4, 3, &[2, 3]),
    ] {
        let previous = renewed();
        let note = |missing: u32, less: u8| {
            let quorum = |version: u32| if version == 1 { 3 } else { 4 };
            let of = |version: &u32| {
                let count = if *version == missing { less } else { quorum(*version) };
                (0..count).map(|i| (i, u8::try_from(*version).unwrap())).collect::<Vec<_>>()
            };
            cutting(i, adopted, &versions.iter().flat_map(of).collect::<Vec<_>>())
        };
        let signers = previous.successor(&note(0, 0)).unwrap().signers().unwrap();
        assert_eq!(signers.iter().map(|one| one.version).collect::<Vec<_>>(), versions, "{i} at {adopted}");
        for version in versions {
            let wanted = if *version == 1 { 3 } else { 4 };
            for signed in [1, wanted - 1] {
                let error = previous.successor(&note(*version, signed)).unwrap_err();
                let (version, signed, wanted) = (*version, usize::from(signed), usize::from(wanted));
                assert_eq!(error, ManifestError::Quorum { version, signed, wanted }, "{i} at {adopted}");
                assert_eq!(error.code(), "manifest_quorum");
            }
        }
    }
}

#[test]
fn a_quorum_is_of_the_version_before_and_of_its_keys() {
    let (first, by) = (genesis(), |by: &[(u8, u8)]| signed(grown().note().text.clone(), by));
    let short = ManifestError::Quorum { version: 1, signed: 2, wanted: 3 };
    for few in [&[(0, 1), (1, 1)][..], &[(0, 1), (1, 1), (4, 1)], &[(0, 1), (1, 1), (2, 2)], &[(0, 1), (3, 1), (9, 1)]]
    {
        assert_eq!(first.successor(&by(few)), Err(short.clone()), "{few:?}");
    }
    assert!(first.successor(&by(&[(0, 1), (1, 1), (3, 1)])).is_ok());
    assert!(
        first.successor(&by(&[(9, 1), (0, 1), (1, 1), (4, 1), (3, 1)])).is_ok(),
        "lines of other keys change nothing"
    );
    let (text, other) = (grown().note().text.clone(), "another text\n");
    let lines = [(0, &*text), (1, &text), (2, &text), (3, other)];
    let signatures = lines.map(|(i, text)| sign(text, name(i).as_str(), &governance_key(i, 1))).to_vec();
    let spoilt = SignedNote { text, signatures }.to_string();
    assert_eq!(first.successor(&spoilt), Err(ManifestError::Signature(name(3))), "an invalid line spoils the note");
}
