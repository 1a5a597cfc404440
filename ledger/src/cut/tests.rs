//! Which operators may sign a cut, case by case. The operators are a, b, c, d, and e from version 2 on; a owns the log.
#![allow(clippy::cast_possible_truncation, reason = "a handful of operators")]
mod branches;

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::{format, vec};

use ed25519_dalek::SigningKey;

use super::*;
use crate::checkpoint;
use crate::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use crate::id::{StateRoot, TreeRoot};
use crate::log::{Hash, MemoryTiles, Tree, leaf_hash, prove_consistency, root_at};
use crate::manifest::{Genesis, Operator, Policy};
use crate::signed_note;
use crate::stand::StandError;

fn key(seed: usize) -> SigningKey {
    SigningKey::from_bytes(&[seed as u8 + 1; 32])
}

fn name(i: usize) -> Domain {
    format!("{}.example", char::from(b'a' + i as u8)).parse().unwrap()
}

fn log() -> LogId {
    LogId { operator: name(0), generation: 1 }
}

fn operator(i: usize) -> Operator {
    Operator {
        name: name(i),
        node_key: key(i).verifying_key(),
        governance_key: key(i + 100).verifying_key(),
        generation: 1,
        begins: crate::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: crate::manifest::Endpoints::default(),
    }
}

fn note(text: &str, n: usize) -> alloc::string::String {
    let signatures = (0..n).map(|i| signed_note::sign(text, name(i).as_str(), &key(i + 100))).collect();
    SignedNote { text: text.to_string(), signatures }.to_string()
}

/// Version 1 of operators 0 to `n`.
fn genesis(n: usize) -> Arc<Manifest> {
    let operators = (0..n).map(operator).collect();
    let text = Genesis { name: "test".into(), policy: Policy::recommended(n), operators }.text().unwrap();
    Arc::new(Manifest::parse(&note(&text, n)).unwrap())
}

/// Version 2, which adds operators `n` to `more` to the first `n`.
fn grown(n: usize, more: usize) -> Arc<Manifest> {
    let first = genesis(n);
    let mut draft = first.draft();
    draft.operators.extend((n..more).map(operator));
    draft.homes.extend((n..more).map(|i| (name(i), operator(i).log())));
    let next = first.successor(&note(&draft.text().unwrap(), n)).unwrap();
    Arc::new(next)
}

/// A branch of the log: 4 entries that all branches share, then its own. Branch 4 shares one more with branch 2, and
/// branch 5 shares none.
struct CutBranch(MemoryTiles);

/// The branch whose content entry `i` of a branch has; 0 for the shared ones.
fn whose(seed: u8, i: u64) -> u8 {
    match (seed, i) {
        (5, _) => 5,
        (_, 0..4) => 0,
        (4, 4) => 2,
        (seed, _) => seed,
    }
}

impl CutBranch {
    fn new(seed: u8) -> Self {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append((0..12).map(|i| leaf_hash(&[&[whose(seed, i)][..], &i.to_le_bytes()].concat()))));
        Self(tiles)
    }

    fn at(&self, size: u64) -> Head {
        Head { size, root: root_at(size, &self.0).unwrap() }
    }

    /// The root at `smaller`, and the proof that the head at `size` extends it.
    fn proof(&self, size: u64, smaller: u64) -> (TreeRoot, Vec<Hash>) {
        (self.at(smaller).root, prove_consistency(smaller, size, &self.0).unwrap())
    }
}

fn head((seed, size): (u8, u64)) -> Head {
    if size == 0 { Head::EMPTY } else { CutBranch::new(seed).at(size) }
}

/// All proofs that can be found for these heads.
fn shown(cut: (u8, u64), heads: &[(u8, u64)]) -> Extensions {
    let known: Vec<(Head, CutBranch)> =
        heads.iter().chain([&cut]).map(|at| (head(*at), CutBranch::new(at.0))).collect();
    let mut ask = |head: &Head, size: u64| -> Result<_, ()> {
        Ok(known.iter().find(|(known, _)| known == head).map(|(_, branch)| branch.proof(head.size, size)))
    };
    find(&head(cut), &heads.iter().copied().map(head).collect::<Vec<_>>(), &mut ask).unwrap()
}

/// The same proofs without the one of a head at a smaller size.
fn without(extensions: &Extensions, of: &Head, size: u64) -> Extensions {
    let mut rest = Extensions::default();
    for (head, smaller, proof) in extensions.iter().filter(|(head, smaller, _)| *head != of || smaller.size != size) {
        rest.add(head, &smaller, proof.to_vec()).unwrap();
    }
    assert_ne!(&rest, extensions, "{of:?} at {size} was not shown");
    rest
}

/// A case: the evidence for a cut of the first operator's log at a head of the first branch.
struct CutCase {
    previous: Arc<Manifest>,
    cut: Cut,
    stands: Vec<VerifiedStand>,
    extensions: Extensions,
    equivocation: Option<Equivocation>,
    checkpoint: Option<SignedNote>,
}

fn stand(previous: &Manifest, i: usize, head: Head) -> VerifiedStand {
    let (federation, version) = (previous.federation(), previous.version() + 1);
    let stand = Stand { federation, version, log: log(), operator: name(i), head };
    VerifiedStand::read(&stand.sign(&key(i)).to_string(), previous).unwrap()
}

fn signed(previous: &Manifest, head: Head) -> SignedCheckpoint {
    SignedCheckpoint::sign(Checkpoint { origin: previous.origin(&log()), head }, &key(0))
}

fn equivocation(previous: &Manifest) -> Equivocation {
    let (one, other) = (CutBranch::new(1), CutBranch::new(2));
    let signature = |head| (head, *signed(previous, head).signature());
    Equivocation {
        log: log(),
        larger: signature(one.at(8)),
        smaller: signature(other.at(6)),
        root: one.at(6).root,
        proof: prove_consistency(6, 8, &one.0).unwrap(),
    }
}

/// The cut is at 8 entries of the first branch. A head is (branch, size), or `None` for a silent operator.
fn case(previous: Arc<Manifest>, adopted: u32, heads: &[Option<(u8, u64)>]) -> CutCase {
    case_at((1, 8), previous, adopted, heads)
}

fn case_at(at: (u8, u64), previous: Arc<Manifest>, adopted: u32, heads: &[Option<(u8, u64)>]) -> CutCase {
    let stands = heads.iter().enumerate().filter_map(|(i, at)| Some(stand(&previous, i, head((*at)?)))).collect();
    let successor = LogId { operator: name(1), generation: 1 };
    let cut = Cut { log: log(), head: head(at), state_root: StateRoot([1; 32]), adopted, successor };
    let extensions = shown(at, &heads.iter().copied().flatten().collect::<Vec<_>>());
    CutCase { previous, cut, stands, extensions, equivocation: None, checkpoint: None }
}

impl CutCase {
    fn shown(&self) -> ProposedCut<'_> {
        ProposedCut {
            previous: &self.previous,
            cut: &self.cut,
            stands: &self.stands,
            extensions: &self.extensions,
            equivocation: self.equivocation.as_ref(),
            checkpoint: self.checkpoint.as_ref(),
        }
    }

    fn check(&self, i: usize) -> Result<Ground, CutError> {
        self.shown().check(&name(i))
    }

    fn code(&self, i: usize) -> &'static str {
        self.check(i).unwrap_err().code()
    }

    fn proven(mut self) -> Self {
        self.equivocation = Some(equivocation(&self.previous));
        self
    }

    /// The case with cosignatures of the cut by these operators.
    fn cosigned(mut self, by: &[usize]) -> Self {
        let signed = signed(&self.previous, self.cut.head);
        let cosignatures: Vec<_> = by
            .iter()
            .map(|i| (Cosignature::sign(signed.checkpoint(), name(*i), &key(*i), 1), key(*i).verifying_key()))
            .collect();
        self.checkpoint = Some(checkpoint::note(&signed, &key(0).verifying_key(), &cosignatures));
        self
    }
}

const A: Option<(u8, u64)> = None;

#[test]
fn a_cut_that_extends_what_one_cosigned_may_be_signed() {
    for size in 0..=8 {
        let case = case(genesis(4), 1, &[A, Some((1, size)), A, A]);
        assert_eq!(case.check(1), Ok(Ground::Extends), "{size}");
        assert_eq!(case.code(2), "cut_no_stand");
    }
    for (branch, size) in [(1, 9), (1, 12), (2, 5), (2, 8), (2, 9)] {
        let case = case(genesis(4), 1, &[A, Some((branch, size)), Some((1, 8)), Some((1, 8))]);
        assert_eq!(case.code(1), "cut_conflict", "{branch} {size}");
    }
    let mut unproved = case(genesis(4), 1, &[A, Some((1, 5)), Some((1, 8))]);
    unproved.extensions = without(&unproved.extensions, &head((1, 8)), 5);
    assert_eq!((unproved.code(1), unproved.check(2)), ("cut_conflict", Ok(Ground::Extends)));
}

#[test]
fn only_stands_for_this_log_and_version_count() {
    let previous = genesis(4);
    let mut case = case(Arc::clone(&previous), 1, &[Some((1, 3))]);
    let head = CutBranch::new(1).at(3);
    let good = Stand { federation: previous.federation(), version: 2, log: log(), operator: name(1), head };
    let other = LogId { operator: name(2), generation: 1 };
    for wrong in
        [Stand { version: 3, ..good.clone() }, Stand { version: 1, ..good.clone() }, Stand { log: other, ..good }]
    {
        case.stands = vec![VerifiedStand::read(&wrong.sign(&key(1)).to_string(), &previous).unwrap()];
        assert_eq!(case.code(1), "cut_no_stand", "{wrong:?}");
    }
    case.stands = vec![stand(&previous, 1, head), stand(&previous, 1, head)];
    assert_eq!(case.check(1), Ok(Ground::Extends), "the same one twice");
    case.stands.push(stand(&previous, 1, CutBranch::new(1).at(2)));
    assert_eq!(case.code(1), "cut_two_stands");
}

/// a lies; b, c and d are honest.
#[test]
fn a_branch_is_given_up_on_enough_stands_beside_it_and_a_proof() {
    let stands = |c, d| case(genesis(4), 1, &[A, Some((2, 6)), c, d]);
    let on = Some((1, 8));
    let beside =
        [(1, 8), (1, 5), (1, 4), (1, 3), (1, 0), (1, 9), (1, 12), (3, 5), (3, 12), (4, 4), (5, 1), (5, 9), (2, 4)];
    for other in beside {
        assert_eq!(stands(on, Some(other)).proven().check(1), Ok(Ground::GivenUp), "none on the branch: {other:?}");
    }
    assert_eq!(stands(on, on).code(1), "cut_conflict", "no proof");
    let too_few = Err(CutError::TooFewStands { log: log(), version: 1, found: 1, wanted: 2 });
    for other in [A, Some((2, 5)), Some((2, 6)), Some((2, 12)), Some((4, 5)), Some((4, 6)), Some((4, 12))] {
        assert_eq!(stands(on, other).proven().check(1), too_few, "{other:?}");
    }
    let owner = case(genesis(4), 1, &[on, Some((2, 6)), on, A]).proven();
    assert_eq!(owner.check(1), too_few, "the owner's own stand does not count");
    let mut other_log = stands(on, on).proven();
    other_log.equivocation.as_mut().unwrap().log = LogId { operator: name(2), generation: 1 };
    assert_eq!(other_log.code(1), "cut_conflict");
    let mut unsigned = stands(on, on).proven();
    unsigned.equivocation.as_mut().unwrap().larger.1[0] ^= 1;
    assert_eq!(unsigned.code(1), "cut_equivocation");
    let mut twice = stands(on, on).proven();
    twice.stands.push(stand(&twice.previous, 3, CutBranch::new(1).at(2)));
    assert_eq!(twice.check(1), too_few, "two different stands count as none");
}

#[test]
fn how_many_stands_are_wanted() {
    for (n, others) in [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (6, 3), (7, 4), (10, 6)] {
        let previous = genesis(n);
        assert_eq!(wanted(&previous, &name(0)), others, "{n}");
        assert_eq!(wanted(&previous, &"x.example".parse().unwrap()), others + 1, "{n}");
    }
}

#[test]
fn a_certified_cut_may_be_signed_by_all_who_stand_on_another_branch() {
    let stands = || case(genesis(4), 1, &[A, Some((2, 6)), Some((1, 8)), A]);
    assert_eq!(stands().cosigned(&[0, 2, 3]).check(1), Ok(Ground::Certified));
    // What lies beyond the head on its own branch may be final too.
    for own in [(1, 9), (1, 12)] {
        let below = case(genesis(4), 1, &[A, Some(own), Some((1, 8)), Some((1, 8))]).cosigned(&[0, 2, 3]);
        assert_eq!(below.code(1), "cut_conflict", "{own:?}");
    }
    let beyond = case(genesis(4), 1, &[A, Some((2, 12)), Some((1, 8)), A]).cosigned(&[0, 2, 3]);
    assert_eq!(beyond.check(1), Ok(Ground::Certified));
    let mut unproved = stands().cosigned(&[0, 2, 3]);
    unproved.extensions = Extensions::default();
    assert_eq!(unproved.code(1), "cut_conflict", "nothing shows that the branches diverge");
    assert_eq!(stands().cosigned(&[0, 2]).code(1), "cut_conflict");
    assert_eq!(stands().cosigned(&[0, 2, 7]).code(1), "cut_conflict", "a stranger");
    let mut other_head = stands().cosigned(&[0, 2, 3]);
    other_head.cut.head = CutBranch::new(1).at(9);
    assert_eq!(other_head.code(1), "cut_conflict");
    let mut spoiled = stands().cosigned(&[0, 2, 3]);
    spoiled.checkpoint.as_mut().unwrap().signatures[2].bytes[20] ^= 1;
    assert_eq!(spoiled.code(1), "cut_conflict");
    let mut no_stand = stands().cosigned(&[0, 2, 3]);
    no_stand.stands.remove(0);
    assert_eq!(no_stand.code(1), "cut_no_stand");
}

/// Version 2 adds e, f and g. Even after the log has adopted it, the branch may have begun under version 1.
#[test]
fn a_branch_may_begin_under_either_of_two_versions() {
    let on = Some((1, 8));
    let lagging = |heads: &[_]| case(grown(4, 7), 1, heads).proven();
    let heads = [A, Some((2, 6)), on, on];
    assert_eq!(lagging(&heads).check(1), Ok(Ground::GivenUp), "version 1 alone governs");
    let newer = |heads: &[_]| case(grown(4, 7), 2, heads).proven();
    assert_eq!(newer(&heads).check(1), Err(CutError::TooFewStands { log: log(), version: 2, found: 2, wanted: 4 }));
    assert_eq!(newer(&[A, Some((2, 6)), on, on, on, on]).check(1), Ok(Ground::GivenUp));
    let one_old = newer(&[A, Some((2, 6)), on, A, on, on, on]).check(1);
    assert_eq!(one_old, Err(CutError::TooFewStands { log: log(), version: 1, found: 1, wanted: 2 }));
    let certified = |by: &[usize]| case(grown(4, 7), 2, &[A, Some((2, 6))]).cosigned(by);
    assert_eq!(certified(&[0, 2, 3, 4, 5]).check(1), Ok(Ground::Certified));
    assert_eq!(certified(&[0, 2, 4, 5, 6]).code(1), "cut_conflict", "no quorum of version 1");
    assert_eq!(certified(&[0, 2, 3, 4]).code(1), "cut_conflict", "no quorum of version 2");
}

#[test]
fn the_proposed_cut_is_one_that_most_may_sign() {
    let heads = [A, Some((1, 8)), Some((1, 5)), Some((2, 6))];
    let all = case(genesis(4), 1, &heads).proven();
    assert_eq!(all.shown().signers(), [&name(1), &name(2), &name(3)]);
    let smaller = case_at((1, 5), genesis(4), 1, &heads).proven();
    let other = case_at((2, 6), genesis(4), 1, &heads).proven();
    assert_eq!((smaller.shown().signers().len(), other.shown().signers().len()), (3, 1));
    let candidates = [smaller.shown(), all.shown(), other.shown()];
    assert_eq!(choose(&candidates).unwrap().cut, &all.cut);
    assert!(choose(&[]).is_none());
}

#[test]
fn stands_are_read_strictly() {
    let previous = genesis(4);
    let head = CutBranch::new(1).at(3);
    let good = Stand { federation: previous.federation(), version: 2, log: log(), operator: name(1), head };
    let read = |stand: &Stand, by: usize| VerifiedStand::read(&stand.sign(&key(by)).to_string(), &previous);
    assert_eq!(read(&good, 1).unwrap().stand(), &good);
    assert_eq!(Stand::parse(&good.text()), Ok(good.clone()));
    let lines: Vec<_> = good.text().lines().map(ToString::to_string).collect();
    assert_eq!(lines[3..6], ["log: a.example/1", "operator: b.example", "size: 3"].map(ToString::to_string));
    let unsigned = |i| Err(StandError::Unsigned(name(i)));
    assert_eq!(read(&good, 2), unsigned(1));
    assert_eq!(read(&good, 101), unsigned(1), "a governance key is not a node key");
    assert_eq!(read(&Stand { operator: name(8), ..good.clone() }, 8), unsigned(8));
    let federation = genesis(1).federation();
    assert_eq!(read(&Stand { federation, ..good.clone() }, 1), Err(StandError::Federation(federation)));
    let unknown = LogId { operator: name(0), generation: 2 };
    assert_eq!(read(&Stand { log: unknown.clone(), ..good.clone() }, 1), Err(StandError::Log(unknown)));
    assert_eq!(VerifiedStand::read("x", &previous).unwrap_err().code(), "stand_note");
    let bytes = good.sign(&key(1)).to_string().into_bytes();
    for at in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[at / 8] ^= 1 << (at % 8);
        let text = alloc::string::String::from_utf8(bad);
        assert!(!text.is_ok_and(|text| VerifiedStand::read(&text, &previous).is_ok()), "bit {at}");
    }
    for (from, to, code) in [
        ("size: 3", "size: 03", "bad_value"),
        ("size: 3", "size: 0", "bad_value"),
        ("version: 2", "version: +2", "bad_value"),
        ("log: a.example/1", "log: a.example", "bad_value"),
        ("operator: b.example", "operator: B.example", "bad_value"),
        ("fama.stand/1", "fama.stand/2", "first_line"),
        ("root: ", "roof: ", "wrong_field"),
    ] {
        assert_eq!(Stand::parse(&good.text().replace(from, to)).unwrap_err().fault.code(), code, "{to}");
    }
    assert_eq!(Stand::parse(&[&good.text(), "more: 1\n"].concat()).unwrap_err().fault.code(), "extra_line");
}

/// An old node key of an operator no longer signs for it. A former operator signs with its last node key.
#[test]
fn a_stand_is_signed_with_the_newest_key() {
    let first = genesis(4);
    let mut draft = first.draft();
    let old = LogId { operator: name(1), generation: 1 };
    let new = LogId { operator: name(1), generation: 2 };
    let rotated = Operator { node_key: key(50).verifying_key(), generation: 2, ..operator(1) };
    draft.operators = vec![operator(0), rotated, operator(2)];
    draft.homes.insert(name(1), new.clone());
    draft.homes.insert(name(3), new.clone());
    draft.policy = Policy::recommended(3);
    let empty =
        |log| Cut { log, head: Head::EMPTY, state_root: StateRoot([0; 32]), adopted: 0, successor: new.clone() };
    draft.cuts = vec![empty(old), empty(operator(3).log())];
    let second = Arc::new(first.successor(&note(&draft.text().unwrap(), 4)).unwrap());
    let stand =
        |i| Stand { federation: first.federation(), version: 3, log: log(), operator: name(i), head: Head::EMPTY };
    let read = |i, by| VerifiedStand::read(&stand(i).sign(&key(by)).to_string(), &second).is_ok();
    assert_eq!((read(1, 50), read(1, 1), read(3, 3)), (true, false, true));
}
