//! Map proofs: each true answer has exactly one proof, and no false answer has any.
use alloc::vec;

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::super::stored::Whole;
use super::super::tests::{RowList, built, keys, rows};
use super::super::tree::InnerNode;
use super::*;
use crate::codec;

type Answers = Vec<(Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>)>;

fn answers(rows: &RowList, prefixes: &[Vec<u8>]) -> Answers {
    let of = |prefix: &Vec<u8>| {
        let found = rows.iter().filter(|(key, _)| key.starts_with(prefix));
        (prefix.clone(), found.map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    prefixes.iter().map(of).collect()
}

fn verify(proof: &MapProof, root: &StateRoot, answers: &Answers) -> Result<(), MapProofError> {
    let answers: Vec<_> = answers.iter().map(|(prefix, rows)| (prefix, rows.as_slice())).collect();
    proof.verify(root, &answers)
}

fn decode(bytes: &[u8]) -> Option<MapProof> {
    codec::decode(bytes, MAP_PROOF_BYTES_MAX).ok()
}

/// Proves the rows of `prefixes`, and checks that the proof verifies no other rows.
pub(in super::super) fn check(map: &StateMap, rows: &RowList, prefixes: &[Vec<u8>]) -> MapProof {
    let (proof, truth, root) = (map.prove(prefixes, &Whole).unwrap(), answers(rows, prefixes), map.root());
    assert_eq!(verify(&proof, &root, &truth), Ok(()), "{truth:02x?}");
    assert_eq!(decode(&codec::encode(&proof)).as_ref(), Some(&proof));
    let refused = |lie: &dyn Fn(&mut Answers)| {
        let mut told = truth.clone();
        lie(&mut told);
        assert!(told == truth || verify(&proof, &root, &told).is_err(), "{told:02x?}");
    };
    // Every kind of lie about the rows of each prefix, or of some of the prefixes if there are many.
    for at in (0..truth.len()).step_by(truth.len().div_ceil(16)) {
        let found = truth[at].1.len();
        for row in 0..found {
            refused(&|told| drop(told[at].1.remove(row)));
            refused(&|told| told[at].1[row].1.push(0));
            refused(&|told| *told[at].1[row].0.last_mut().unwrap() ^= 1);
            refused(&|told| told[at].1[row].0.push(0));
            refused(&|told| {
                let row = told[at].1[row].clone();
                told[at].1.push(row);
            });
            refused(&|told| told[at].1.swap(0, row));
            refused(&|told| {
                let moved = told[at].1.remove(row);
                let to = (at + 1) % truth.len();
                told[to].1.push(moved);
            });
        }
        let more = |end: &[u8]| ([&truth[at].0, end].concat(), b"lie".to_vec());
        refused(&|told| told[at].1.insert(0, more(&[])));
        refused(&|told| told[at].1.push(more(&[0xff; 3])));
    }
    for byte in 0..32 {
        let mut root = root;
        root.0[byte] ^= 1;
        assert_eq!(verify(&proof, &root, &truth), Err(MapProofError::Root));
    }
    proof
}

/// Sorts prefixes and removes those that begin with another one.
fn prefix_free(mut prefixes: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    prefixes.sort();
    prefixes.dedup_by(|next, kept| next.starts_with(kept));
    prefixes
}

fn prefixes() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let short = (keys(), 1usize..5).prop_map(|(key, length)| key[..length.min(key.len())].to_vec());
    many(prop_oneof![keys(), short, many(any::<u8>(), 1..5)], 1..9).prop_map(prefix_free)
}

/// A possible proof: the tree cut anywhere, with the rows that it claims were requested.
#[derive(Clone, Debug, Default)]
struct CutProof {
    proof: MapProof,
    claimed: Vec<Vec<u8>>,
}

impl CutProof {
    fn then(mut self, next: &Self) -> Self {
        self.proof.steps.extend(&next.proof.steps);
        self.proof.keys.extend_from_slice(&next.proof.keys);
        self.proof.hashes.extend(&next.proof.hashes);
        self.claimed.extend_from_slice(&next.claimed);
        self
    }

    fn hidden(step: ProofStep, hash: NodeHash) -> Self {
        Self { proof: MapProof { steps: vec![step.encode()], keys: vec![], hashes: vec![hash] }, ..Self::default() }
    }

    fn other<const N: usize>(step: ProofStep, key: Vec<u8>, hashes: [NodeHash; N]) -> Self {
        let mut cut = Self::default();
        cut.proof.show(step, Some((key, hashes)));
        cut
    }

    /// All ways to cut the subtree below `branch` that leave at least one item.
    fn all(branch: &HashedNode, sample: &[u8]) -> Vec<Self> {
        let inner = match &branch.node {
            MapNode::Leaf(row) => {
                let (key, value) = row_parts(row).unwrap();
                let proof = MapProof { steps: vec![ProofStep::Found.encode()], ..MapProof::default() };
                let claimed = Self { proof, claimed: vec![key.to_vec()] };
                return vec![claimed, Self::other(ProofStep::Row, key.to_vec(), [*value])];
            }
            MapNode::InnerNode(inner) => inner,
            MapNode::Stored(_) => unreachable!("the map is in memory"),
        };
        let InnerNode { depth, left, right, .. } = &**inner;
        let (lefts, rights) = (Self::all(left, first_key(left)), Self::all(right, first_key(right)));
        let mut cuts = vec![Self::other(ProofStep::MapNode(*depth), padded(sample, *depth), [left.hash, right.hash])];
        let left_hidden = Self::hidden(ProofStep::Left(*depth), left.hash);
        let right_hidden = Self::hidden(ProofStep::Right(*depth), right.hash);
        cuts.extend(lefts.iter().map(|shown| shown.clone().then(&right_hidden)));
        cuts.extend(rights.iter().map(|shown| left_hidden.clone().then(shown)));
        cuts.extend(lefts.iter().flat_map(|left| rights.iter().map(|right| left.clone().then(right))));
        cuts
    }
}

impl CutProof {
    /// Merges the claimed rows of each prefix into one step; `None` if a claimed row has none of these prefixes.
    fn about(mut self, rows: &RowList, prefixes: &[Vec<u8>]) -> Option<(MapProof, Answers)> {
        let mut answers: Answers = prefixes.iter().map(|prefix| (prefix.clone(), vec![])).collect();
        let (mut claimed, mut steps) = (self.claimed.iter(), vec![]);
        for step in &self.proof.steps {
            if *step == ProofStep::Found.encode() {
                let key = claimed.next().unwrap();
                let (_, found) = answers.iter_mut().find(|(prefix, _)| key.starts_with(prefix))?;
                found.push((key.clone(), rows[key].clone()));
                if found.len() > 1 {
                    continue;
                }
            }
            steps.push(*step);
        }
        self.proof.steps = steps;
        Some((self.proof, answers))
    }
}

fn first_key(branch: &HashedNode) -> &[u8] {
    match &branch.node {
        MapNode::Leaf(row) => row_parts(row).unwrap().0,
        MapNode::InnerNode(inner) => first_key(&inner.left),
        MapNode::Stored(_) => unreachable!("the map is in memory"),
    }
}

proptest! {
    #[test]
    fn true_answers_are_proven_and_lies_are_not(rows in rows(), prefixes in prefixes()) {
        let map = built(&rows);
        check(&map, &rows, &prefixes);
        let all: Vec<_> = rows.keys().cloned().collect();
        if !all.is_empty() {
            check(&map, &rows, &all);
        }
    }

    /// Without hash collisions, every proof is a cut of the tree itself.
    #[test]
    fn exactly_one_cut_of_the_tree_is_a_proof(rows in rows(), prefixes in prefixes(), few in 1usize..7) {
        let rows: RowList = rows.into_iter().step_by(3).take(few).collect();
        prop_assume!(!rows.is_empty());
        let map = built(&rows);
        let truth = (map.prove(&prefixes, &Whole).unwrap(), answers(&rows, &prefixes));
        let mut held = 0;
        for (proof, told) in CutProof::all(&map.top, first_key(&map.top)).into_iter().filter_map(|cut| cut.about(&rows, &prefixes)) {
            let holds = verify(&proof, &map.root(), &told).is_ok();
            held += usize::from(holds);
            prop_assert_eq!(holds, (&proof, &told) == (&truth.0, &truth.1), "{:02x?} for {:02x?}", proof, told);
        }
        prop_assert_eq!(held, 1);
    }

    #[test]
    fn a_flipped_byte_is_refused(rows in rows(), prefixes in prefixes(), flip in 1u8..) {
        let (map, truth) = (built(&rows), answers(&rows, &prefixes));
        let proof = map.prove(&prefixes, &Whole).unwrap();
        let bytes = codec::encode(&proof);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let verified = decode(&bytes).is_some_and(|proof| verify(&proof, &map.root(), &truth).is_ok());
            prop_assert!(!verified, "byte {} of {:?}", at, bytes);
        }
        // Another prefix without rows may have the same proof, if the proof is true for it too.
        for (at, byte) in prefixes.iter().enumerate().flat_map(|(at, prefix)| (0..prefix.len()).map(move |b| (at, b))) {
            let (mut prefixes, mut told) = (prefixes.clone(), truth.clone());
            prefixes[at][byte] ^= flip;
            told[at].0[byte] ^= flip;
            let same = map.prove(&prefixes, &Whole).as_ref() == Ok(&proof) && told == answers(&rows, &prefixes);
            prop_assert_eq!(verify(&proof, &map.root(), &told).is_ok(), same, "prefix {} of {:02x?}", at, told);
        }
    }

    #[test]
    fn rubbish_is_no_proof(
        steps in many(prop_oneof![0u16..20, 0x4000u16..0x4020, 0x8000u16..0x8020, 0xc000u16..0xc003, any::<u16>()], 0..8),
        others in many(many(any::<u8>(), 0..5), 0..4),
        hashes in many(any::<[u8; 32]>(), 0..10),
        prefixes in prefixes(),
        value in any::<bool>(),
    ) {
        let rows: RowList = prefixes.iter().filter(|_| value).map(|prefix| (prefix.clone(), vec![7])).collect();
        let proof = MapProof { steps, keys: others, hashes };
        prop_assert!(verify(&proof, &StateRoot([3; 32]), &answers(&rows, &prefixes)).is_err());
    }
}

#[test]
fn hashes_that_prefixes_share_are_included_once() {
    let rows: RowList = (0u32..1_024).map(|n| (value_hash(&n.to_le_bytes()).to_vec(), vec![])).collect();
    let map = built(&rows);
    let keys: Vec<_> = rows.keys().cloned().collect();
    let size = |prefixes: &[Vec<u8>]| codec::encode(&check(&map, &rows, prefixes)).len();
    let (alone, all) = (size(&keys[100..101]), size(&keys));
    assert!((24 + 8 * 34..24 + 20 * 34).contains(&alone), "{alone}");
    // The rows are adjacent: they share all hashes but a few, and need none themselves.
    assert!(size(&keys[100..108]) < alone + 8 * 34, "{}", size(&keys[100..108]));
    assert_eq!(all, 24 + keys.len() * 2);
}

#[test]
fn refused_prefixes() {
    let map = built(&RowList::from([(vec![1], vec![]), (vec![2, 0], vec![])]));
    let check = |prefixes: &[&[u8]], expect: MapError| {
        assert_eq!(map.prove(prefixes, &Whole).unwrap_err(), NodeError::Map(expect), "{prefixes:?}");
        let answers: Vec<_> = prefixes.iter().map(|prefix| (*prefix, &[] as &[([u8; 0], [u8; 0])])).collect();
        assert_eq!(MapProof::default().verify(&map.root(), &answers), Err(MapProofError::Key(expect)));
    };
    check(&[], MapError::Prefixes(0));
    let many: Vec<_> = (0..=PREFIXES_MAX).map(|n| u32::try_from(n).unwrap().to_be_bytes()).collect();
    check(&many.iter().map(<[u8; 4]>::as_slice).collect::<Vec<_>>(), MapError::Prefixes(PREFIXES_MAX + 1));
    check(&[&[]], MapError::KeyLength(0));
    check(&[&[1; KEY_BYTES_MAX + 1]], MapError::KeyLength(KEY_BYTES_MAX + 1));
    check(&[&[2], &[1]], MapError::Order);
    check(&[&[1], &[1]], MapError::Order);
    check(&[&[1], &[1, 1]], MapError::Prefix);
}

#[test]
fn nothing_superfluous_and_no_longer_keys() {
    let rows = RowList::from([(vec![1], vec![]), (vec![2, 0], vec![])]);
    let (map, prefixes) = (built(&rows), [vec![1]]);
    let (truth, proof) = (answers(&rows, &prefixes), check(&map, &rows, &prefixes));
    let refused = |changed: MapProof, answers: &Answers, expect: MapProofError| {
        assert_eq!(verify(&changed, &map.root(), answers), Err(expect), "{changed:?}");
    };
    refused(MapProof { keys: vec![vec![]], ..proof.clone() }, &truth, MapProofError::Malformed);
    let hashes = [&proof.hashes[..], &[[0; 32]]].concat();
    refused(MapProof { hashes, ..proof.clone() }, &truth, MapProofError::Malformed);
    refused(MapProof { hashes: vec![], ..proof.clone() }, &truth, MapProofError::Malformed);
    for step in [0xc002, 0xffff] {
        let steps = [&proof.steps[..], &[step]].concat();
        refused(MapProof { steps, ..proof.clone() }, &truth, MapProofError::Malformed);
    }
    let steps = vec![ProofStep::Row.encode()];
    for key in [vec![], vec![3; KEY_BYTES_MAX + 1]] {
        let row = MapProof { steps: steps.clone(), keys: vec![key], hashes: vec![[0; 32]] };
        refused(row, &vec![(vec![1], vec![])], MapProofError::Malformed);
    }
    let long = vec![(vec![1], vec![(vec![1; KEY_BYTES_MAX + 1], vec![])])];
    refused(proof, &long, MapProofError::Key(MapError::KeyLength(KEY_BYTES_MAX + 1)));
}

/// Proofs byte by byte as the format describes them: requested rows, other rows and nodes, hidden sides.
#[test]
fn golden_bytes() {
    let rows: RowList = [&[0x10, 1][..], &[0x10, 2], &[0x20, 1], &[0x80, 1], &[0xc0, 1], &[0xc0, 2]]
        .into_iter()
        .map(|key| (key.to_vec(), b"value".to_vec()))
        .collect();
    let map = built(&rows);
    let proof = check(&map, &rows, &[vec![0x11], vec![0x20], vec![0xe0]]);
    assert_eq!(proof.steps, [0x800e, 0xc001, 0x0001, 0x800e]);
    assert_eq!(proof.keys, [[0x10, 0], [0xc0, 0]]);
    assert_eq!(proof.hashes.len(), 5);
    let proof = check(&map, &rows, &[vec![0x30]]);
    assert_eq!((proof.steps.as_slice(), proof.keys.as_slice()), (&[0x0002, 0xc000, 0x4000][..], &[vec![0x20, 1]][..]));
    assert_eq!(&codec::encode(&proof)[..18], [3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xc0, 0, 0x40, 1, 0, 0, 0]);
}
