//! Range proofs: the rows from a key on have exactly one proof, and no other rows have any.
use alloc::vec;

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::super::hash::KEY_BYTES_MAX;
use super::super::stored::Whole;
use super::super::tests::{RowList, built, keys, rows};
use super::*;
use crate::codec;

type List = Vec<(Vec<u8>, Vec<u8>)>;

fn from(rows: &RowList, start: &[u8], count: usize) -> List {
    rows.iter().filter(|(key, _)| key.as_slice() >= start).take(count).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn prove(map: &StateMap, start: &[u8], list: &List) -> RangeProof {
    map.prove_range(start, list.last().map(|(key, _)| key.as_slice()), &Whole).unwrap()
}

/// Proves `count` rows from `start` on, and checks that the proof verifies no other rows.
pub(in super::super) fn check(map: &StateMap, rows: &RowList, start: &[u8], count: usize) -> RangeProof {
    let (truth, root) = (from(rows, start, count), map.root());
    let proof = prove(map, start, &truth);
    let ends = truth.last() == from(rows, start, usize::MAX).last();
    assert_eq!(proof.verify(&root, start, &truth), Ok(ends), "{start:02x?} {truth:02x?}");
    let bytes = codec::encode(&proof);
    assert_eq!(codec::decode(&bytes, RANGE_PROOF_BYTES_MAX).as_ref(), Ok(&proof));
    let refused = |lie: &dyn Fn(&mut List)| {
        let mut told = truth.clone();
        lie(&mut told);
        assert!(told == truth || proof.verify(&root, start, &told).is_err(), "{start:02x?} {told:02x?}");
    };
    for row in 0..truth.len() {
        refused(&|told| drop(told.remove(row)));
        refused(&|told| told[row].1.push(0));
        refused(&|told| *told[row].0.last_mut().unwrap() ^= 1);
        refused(&|told| told[row].0.push(0));
        refused(&|told| told.swap(0, row));
        refused(&|told| told.insert(row, told[row].clone()));
        let mut between = truth[row].0.clone();
        *between.last_mut().unwrap() = between.last().unwrap().wrapping_add(1);
        refused(&|told| told.insert(row + 1, (between.clone(), vec![])));
    }
    refused(&|told| told.clear());
    refused(&|told| told.insert(0, (start.to_vec(), vec![])));
    refused(&|told| told.push((vec![0xff; 128], vec![])));
    // One row more or less on either side; the map has these rows.
    let key = |row: Option<(&Vec<u8>, &Vec<u8>)>| row.map(|(key, value)| (key.clone(), value.clone()));
    let before = key(rows.range(..start.to_vec()).next_back());
    let behind = from(rows, start, count.saturating_add(1)).pop();
    refused(&|told| told.splice(0..0, before.clone()).for_each(drop));
    refused(&|told| told.extend(behind.clone().filter(|behind| told.last() != Some(behind))));
    for byte in 0..32 {
        let mut root = root;
        root.0[byte] ^= 1;
        assert_eq!(proof.verify(&root, start, &truth), Err(MapProofError::Root));
    }
    proof
}

fn starts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![1 => Just(vec![]), 4 => keys(), 2 => many(any::<u8>(), 0..5), 1 => Just(vec![0xff; 129])]
}

proptest! {
    #[test]
    fn true_answers_are_proven_and_lies_are_not(rows in rows(), start in starts(), count in 1usize..9) {
        let map = built(&rows);
        check(&map, &rows, &start, count);
        check(&map, &rows, &start, usize::MAX);
        if let Some(key) = rows.keys().nth(count) {
            check(&map, &rows, key, count);
            check(&map, &rows, &[key, &[0][..]].concat(), count);
        }
    }

    /// Consecutive ranges give the whole map and its root.
    #[test]
    fn ranges_make_up_the_map(rows in rows(), count in 1usize..9) {
        let (map, mut start, mut all) = (built(&rows), vec![], RowList::new());
        loop {
            let list = from(&rows, &start, count);
            let ends = prove(&map, &start, &list).verify(&map.root(), &start, &list).unwrap();
            start = list.last().map(|(key, _)| [key, &[0][..]].concat()).unwrap_or_default();
            all.extend(list);
            if ends {
                break;
            }
        }
        prop_assert_eq!(all, rows);
    }

    /// The same proof holds for every start after the previous row and up to the first row.
    #[test]
    fn a_proof_for_another_start_is_refused(rows in rows(), start in starts(), other in starts(), count in 1usize..9) {
        let (map, list) = (built(&rows), from(&rows, &start, count));
        let proof = prove(&map, &start, &list);
        let same = from(&rows, &other, count) == list && prove(&map, &other, &list) == proof;
        prop_assert_eq!(proof.verify(&map.root(), &other, &list).is_ok(), same);
    }

    /// Without hash collisions, every proof consists of rows and hashes of the tree.
    #[test]
    fn exactly_one_choice_of_rows_is_a_proof(rows in rows(), start in starts(), count in 1usize..7) {
        let rows: RowList = rows.into_iter().step_by(3).take(6).collect();
        let (map, list) = (built(&rows), from(&rows, &start, count));
        let truth = prove(&map, &start, &list);
        let all: List = rows.clone().into_iter().collect();
        for chosen in 0..1u32 << all.len() {
            let told: List = (0..).zip(&all).filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, row)| row.clone()).collect();
            for before in [None].into_iter().chain(all.iter().map(Some)) {
                let first = before.map(|(key, _)| key).or(told.first().map(|(key, _)| key));
                let last = told.last().map(|(key, _)| key).or(before.map(|(key, _)| key));
                let [left, _] = first.map(|key| map.siblings(key, &Whole).unwrap()).unwrap_or_default();
                let [_, mut right] = last.map(|key| map.siblings(key, &Whole).unwrap()).unwrap_or_default();
                right.reverse();
                let before = before.map(|(key, value)| (key.clone(), value_hash(value)));
                let proof = RangeProof { before, left, right };
                let follows = told == from(&rows, &start, told.len()) && (!told.is_empty() || list.is_empty());
                let honest = follows && proof.before == truth.before && proof.left == truth.left;
                prop_assert_eq!(proof.verify(&map.root(), &start, &told).is_ok(), honest, "{:02x?} {:02x?}", proof, told);
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_refused(rows in rows(), start in starts(), count in 1usize..9, flip in 1u8..) {
        let (map, list) = (built(&rows), from(&rows, &start, count));
        let bytes = codec::encode(&prove(&map, &start, &list));
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let proof = codec::decode::<RangeProof>(&bytes, RANGE_PROOF_BYTES_MAX);
            let verified = proof.is_ok_and(|proof| proof.verify(&map.root(), &start, &list).is_ok());
            prop_assert!(!verified, "byte {} of {:?}", at, bytes);
        }
    }
}

#[test]
fn no_longer_keys() {
    let long = vec![7; KEY_BYTES_MAX + 1];
    let proof = RangeProof { before: None, left: vec![], right: vec![] };
    let told = proof.verify(&StateRoot([0; 32]), &[], &[(&long, [])]);
    assert_eq!(told, Err(MapProofError::Key(MapError::KeyLength(KEY_BYTES_MAX + 1))));
    for key in [vec![], long] {
        let proof = RangeProof { before: Some((key, [0; 32])), ..proof.clone() };
        assert_eq!(proof.verify(&StateRoot([0; 32]), &[9], &[] as &[(&[u8], &[u8])]), Err(MapProofError::Malformed));
    }
}

#[test]
fn refused_ranges() {
    let map = built(&[1u8, 3, 5].map(|key| (vec![key], vec![])).into());
    let check = |start: u8, last: Option<u8>, expect: bool| {
        let proof = map.prove_range(&[start], last.as_ref().map(core::slice::from_ref), &Whole);
        assert_eq!(proof.is_ok(), expect, "{start} {last:?}");
        assert!(expect || proof == Err(MapError::Range.into()));
    };
    check(1, Some(1), true);
    check(0, Some(5), true);
    check(6, None, true);
    for (start, last) in [(1, Some(2)), (1, Some(0)), (3, Some(1)), (0, Some(6)), (5, None), (0, None)] {
        check(start, last, false);
    }
    assert!(StateMap::default().prove_range(&[], None, &Whole).is_ok());
    assert_eq!(StateMap::default().prove_range(&[], Some(&[]), &Whole), Err(MapError::Range.into()));
}
