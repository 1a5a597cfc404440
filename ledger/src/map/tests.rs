//! The map against a naive implementation of its definition, golden roots and extreme shapes.
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::*;
use crate::id::StateRoot;

pub(super) type RowList = BTreeMap<Vec<u8>, Vec<u8>>;
type ChangeList = Vec<(Vec<u8>, Option<[u8; 32]>)>;

/// The root straight from the definition, with bits as a list of booleans and without any code of the map.
fn naive(rows: &[(&Vec<u8>, &Vec<u8>)]) -> [u8; 32] {
    let bits =
        |key: &[u8]| -> Vec<bool> { key.iter().flat_map(|b| (0..8).map(move |i| b >> (7 - i) & 1 == 1)).collect() };
    let short = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
    let hash = |parts: &[&[u8]]| *blake3::hash(&parts.concat()).as_bytes();
    match rows {
        [] => [0; 32],
        [(key, value)] => hash(&[&[0], &short(key.len()), key, &hash(&[value])]),
        _ => {
            let all: Vec<_> = rows.iter().map(|(key, _)| bits(key)).collect();
            let depth = (0..).find(|&i| all.iter().any(|bits| bits[i] != all[0][i])).unwrap();
            let mut prefix = vec![0u8; depth.div_ceil(8)];
            (0..depth).for_each(|i| prefix[i / 8] |= u8::from(all[0][i]) << (7 - i % 8));
            let (left, right): (Vec<_>, Vec<_>) = rows.iter().partition(|(key, _)| !bits(key)[depth]);
            hash(&[&[1], &short(depth), &prefix, &naive(&left), &naive(&right)])
        }
    }
}

pub(super) fn naive_root(rows: &RowList) -> StateRoot {
    StateRoot(naive(&rows.iter().collect::<Vec<_>>()))
}

pub(super) fn built(rows: &RowList) -> StateMap {
    StateMap::from_sorted(rows.iter().map(|(key, value)| (key, value_hash(value)))).unwrap()
}

fn changes(batch: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> ChangeList {
    batch.iter().map(|(key, value)| (key.clone(), value.as_deref().map(value_hash))).collect()
}

/// Keys with four tags, each of its own length, which often share prefixes and collide.
pub(super) fn keys() -> impl Strategy<Value = Vec<u8>> {
    let body = |length| {
        many(prop_oneof![4 => Just(0u8), 2 => Just(0xff), 1 => Just(0x80), 1 => Just(1), 1 => Just(0x10)], length)
    };
    prop_oneof![Just((0u8, 1)), Just((1, 3)), Just((2, 2)), Just((0x80, 40))]
        .prop_flat_map(move |(tag, length)| body(length).prop_map(move |body| [vec![tag], body].concat()))
}

pub(super) fn batches() -> impl Strategy<Value = Vec<BTreeMap<Vec<u8>, Option<Vec<u8>>>>> {
    let value = prop::option::weighted(0.6, many(0u8..3, 0..3));
    many(prop::collection::btree_map(keys(), value, 0..24), 1..12)
}

/// The rows of a map: for each key its last value.
pub(super) fn rows() -> impl Strategy<Value = RowList> {
    batches().prop_map(|batch| batch.into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect())
}

proptest! {
    #[test]
    fn the_root_depends_on_the_rows_alone(batches in batches()) {
        let (mut map, mut rows) = (StateMap::default(), RowList::new());
        for batch in &batches {
            map.update(&changes(batch), &Whole).unwrap();
            for (key, value) in batch {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
            prop_assert_eq!(map.root(), naive_root(&rows));
            prop_assert_eq!(map.root(), built(&rows).root());
            prop_assert_eq!(map.len(), rows.len());
            for key in batch.keys() {
                prop_assert_eq!(map.get(key, &Whole).unwrap(), rows.get(key).map(|value| value_hash(value)));
            }
        }
    }

    #[test]
    fn a_clone_keeps_what_it_was(batches in batches()) {
        let mut map = StateMap::default();
        let mut kept = vec![(map.clone(), RowList::new())];
        for batch in &batches {
            map.update(&changes(batch), &Whole).unwrap();
            let mut rows = kept[kept.len() - 1].1.clone();
            rows.retain(|key, _| !batch.contains_key(key));
            rows.extend(batch.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))));
            kept.push((map.clone(), rows));
        }
        for (map, rows) in &kept {
            prop_assert_eq!(map.root(), naive_root(rows));
            prop_assert_eq!(map.len(), rows.len());
            prop_assert!(rows.iter().all(|(key, value)| map.get(key, &Whole).unwrap() == Some(value_hash(value))));
        }
    }

    #[test]
    fn an_update_is_all_or_nothing(batch in batches(), keys in many(many(0u8..2, 0..5), 1..6)) {
        let mut map = StateMap::default();
        for batch in &batch {
            map.update(&changes(batch), &Whole).unwrap();
        }
        let (root, rows) = (map.root(), map.len());
        let prefix = |a: &Vec<u8>, b: &Vec<u8>| a != b && (a.starts_with(b) || b.starts_with(a));
        let present: Vec<_> = batch.iter().flat_map(BTreeMap::keys).filter(|key| map.get(key, &Whole).unwrap().is_some()).collect();
        let good = keys.is_sorted_by(|a, b| a < b)
            && keys.iter().all(|a| !a.is_empty() && !keys.iter().chain(present.iter().copied()).any(|b| prefix(a, b)));
        let update: ChangeList = keys.into_iter().map(|key| (key, Some([1; 32]))).collect();
        prop_assert_eq!(map.update(&update, &Whole).is_ok(), good);
        if good {
            prop_assert!(update.iter().all(|(key, value)| map.get(key, &Whole).unwrap() == *value));
        } else {
            prop_assert_eq!((map.root(), map.len()), (root, rows));
        }
    }
}

/// Computed by an independent script from the definition of the tree.
#[test]
fn golden_roots() {
    let check = |rows: &[(&[u8], &[u8])], expect: &str| {
        let rows: RowList = rows.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(built(&rows).root().to_string(), expect);
    };
    check(&[], &"00".repeat(32));
    check(&[(&[1, 2, 3], b"fama")], "2b885c2ec35f203eb18d5ba477a00b8bd98067625fce53098462b2846704fcc7");
    check(
        &[(&[1, 2, 3], b"fama"), (&[1, 2, 0x83], b"")],
        "3dde58b6836fd8d8c350810f46ae0d9463707cdca85f42136cf46ac8e4c18ec0",
    );
    check(
        &[
            (&[0, 0], b"a"),
            (&[0, 1], b"b"),
            (&[1, 0xff, 0xff], b"c"),
            (&[1, 0xff, 0xfe], b"d"),
            (&[0xff; KEY_BYTES_MAX], b"e"),
        ],
        "1adb3764d62b37aa1a3e33566bd292f0b5e4bd061f64a77ee3e1a3834eda95b0",
    );
    let numbers: Vec<_> = (0u32..1_000).map(|i| (value_hash(&i.to_le_bytes()), i.to_le_bytes())).collect();
    let rows: Vec<_> = numbers.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
    check(&rows, "1e2581a3235d3724d33908b5d75cd5f7cd4695927a7445a328fff4cd7d903429");
}

/// Every key differs from the first in one bit, so the tree is one chain of 1,024 nodes.
#[test]
fn the_deepest_tree_grows_proves_and_collapses() {
    let mut rows = RowList::from([(vec![0; KEY_BYTES_MAX], b"zero".to_vec())]);
    for bit in 0..KEY_BYTES_MAX * 8 {
        let mut key = vec![0; KEY_BYTES_MAX];
        key[bit / 8] = 0x80 >> (bit % 8);
        rows.insert(key, bit.to_string().into_bytes());
    }
    // From the same script as the golden roots.
    let expect = "465345d1e7cc2ad1849ad5c9bc32ea2c3366f103f66894ca7d15f85fc2fad6d3".parse().unwrap();
    assert_eq!(built(&rows).root(), expect);
    let mut map = StateMap::default();
    let all: ChangeList = rows.iter().map(|(key, value)| (key.clone(), Some(value_hash(value)))).collect();
    for (key, value) in all.iter().rev() {
        map.update(&[(key, *value)], &Whole).unwrap();
    }
    assert_eq!((map.root(), map.len()), (expect, 1_025));
    let keys: Vec<_> = rows.keys().cloned().collect();
    super::proof::tests::check(&map, &rows, &keys[..1_024]);
    for prefix in [&keys[0][..], &keys[1_024], &[0; KEY_BYTES_MAX - 1], &[vec![0; KEY_BYTES_MAX - 1], vec![3]].concat()]
    {
        super::proof::tests::check(&map, &rows, &[prefix.to_vec()]);
    }
    for start in [&keys[0][..], &keys[1], &keys[500], &[0; KEY_BYTES_MAX - 1], &[]] {
        super::range::tests::check(&map, &rows, start, 3);
    }
    let removed: ChangeList = all.iter().skip(1).map(|(key, _)| (key.clone(), None)).collect();
    map.update(&removed, &Whole).unwrap();
    assert_eq!((map.root(), map.len()), (naive_root(&rows.into_iter().take(1).collect()), 1));
    map.update(&[(&all[0].0, None)], &Whole).unwrap();
    assert!(map.is_empty() && map.root() == StateRoot([0; 32]));
    map.update(&all, &Whole).unwrap();
    assert_eq!(map.root(), expect);
}

#[test]
fn removals_collapse_what_the_same_update_grows() {
    let mut map = StateMap::from_sorted([([0x10], [1; 32]), ([0x11], [2; 32])]).unwrap();
    map.update(&[([0x10], None), ([0x11], None), ([0x90], Some([3; 32]))], &Whole).unwrap();
    assert_eq!(map.root(), StateMap::from_sorted([([0x90], [3; 32])]).unwrap().root());
    map.update(&[([0x10], None), ([0x90], None)], &Whole).unwrap();
    assert_eq!((map.root(), map.len()), (StateMap::default().root(), 0));
}

#[test]
fn refused_keys() {
    let check = |keys: &[&[u8]], expect: MapError| {
        let batch: Vec<_> = keys.iter().map(|key| (*key, Some([0; 32]))).collect();
        assert_eq!(StateMap::from_sorted(keys.iter().map(|key| (key, [0; 32]))).unwrap_err(), expect, "{keys:?}");
        assert_eq!(StateMap::default().update(&batch, &Whole), Err(expect.into()), "{keys:?}");
    };
    check(&[&[]], MapError::KeyLength(0));
    check(&[&[0], &[1; 129]], MapError::KeyLength(129));
    check(&[&[1], &[0]], MapError::Order);
    check(&[&[1], &[1]], MapError::Order);
    check(&[&[1, 0], &[1]], MapError::Order);
    check(&[&[1], &[1, 0]], MapError::Prefix);
    let mut map = StateMap::from_sorted([([1, 1], [0; 32]), ([1, 2], [0; 32])]).unwrap();
    for key in [&[1][..], &[1, 2, 0], &[1, 1, 0xff]] {
        assert_eq!(map.update(&[(key, Some([0; 32]))], &Whole), Err(MapError::Prefix.into()));
        assert_eq!(map.update(&[(key, None)], &Whole), Err(MapError::Prefix.into()));
        assert_eq!(map.get(key, &Whole).unwrap(), None);
    }
    assert_eq!(format!("{:?}", StateMap::default()), "StateMap(0 rows, StateRoot(00000000…))");
}
