//! Maps with most nodes on disk: the same roots, proofs and records as in memory.
use alloc::vec;

use proptest::prelude::*;

use super::super::tests::{RowList, batches, built, naive_root};
use super::*;

/// Rows and records as a store has them.
#[derive(Clone, Default)]
struct Disk {
    rows: RowList,
    records: BTreeMap<RecordKey, Vec<u8>>,
}

impl NodeSource for Disk {
    type Error = core::convert::Infallible;

    fn scan_from(
        &self,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        if level == 0 {
            let mut rows = self.rows.range(from.to_vec()..);
            let _ = rows.try_for_each(|(key, value)| each(key, value));
        } else {
            let mut records = self.records.range((level, from.to_vec())..).take_while(|((of, _), _)| *of == level);
            let _ = records.try_for_each(|((_, key), value)| each(key, value));
        }
        Ok(())
    }
}

impl Disk {
    /// Changes map and disk as a node does.
    fn update(&mut self, map: &mut StateMap, batch: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        let changes: Vec<_> = batch.iter().map(|(key, value)| (key, value.as_deref().map(value_hash))).collect();
        let records = map.update(&changes, self).unwrap();
        for (key, value) in batch {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
        for (key, RecordChange { before, after }) in records {
            assert_eq!(self.records.get(&key), before.as_ref(), "{key:?}");
            match after {
                Some(record) => self.records.insert(key, record),
                None => self.records.remove(&key),
            };
        }
    }

    fn check(&self, map: &StateMap) {
        let whole = built(&self.rows);
        assert_eq!(map.root(), whole.root());
        assert_eq!(map.len(), self.rows.len());
        let records: BTreeMap<_, _> =
            whole.all_records().into_iter().map(|(key, change)| (key, change.after.unwrap())).collect();
        assert_eq!(self.records, records, "records depend on the rows alone");
    }
}

proptest! {
    #[test]
    fn any_map_is_the_same_on_disk(batches in batches(), max in 0usize..64) {
        let (mut map, mut disk) = (StateMap::default(), Disk::default());
        for batch in &batches {
            let before = (map.clone(), disk.clone());
            disk.update(&mut map, batch);
            disk.check(&map);
            prop_assert_eq!(map.root(), naive_root(&disk.rows));
            map.trim(max);
            prop_assert_eq!(map.root(), naive_root(&disk.rows));
            if batch.len() % 3 == 0 {
                map = StateMap::open(&disk).unwrap().unwrap_or_default();
            }
            before.1.check(&before.0);
        }
        let whole = built(&disk.rows);
        for batch in &batches {
            let keys: Vec<_> = batch.keys().collect();
            for key in &keys {
                prop_assert_eq!(map.get(key, &disk), whole.get(key, &Whole));
                prop_assert!(!map.lacks(key) || !disk.rows.contains_key(*key));
                prop_assert_eq!(map.prove_range(key, Some(key), &disk), whole.prove_range(key, Some(key), &Whole));
                prop_assert_eq!(map.prove_range(key, None, &disk), whole.prove_range(key, None, &Whole));
            }
            prop_assert_eq!(map.prove(&keys, &disk), whole.prove(&keys, &Whole));
            for length in 1..3 {
                let mut prefixes: Vec<_> = keys.iter().map(|key| key[..length.min(key.len())].to_vec()).collect();
                prefixes.dedup_by(|b, a| b.starts_with(a));
                prop_assert_eq!(map.prove(&prefixes, &disk), whole.prove(&prefixes, &Whole));
            }
        }
    }
}

fn numbered(numbers: impl Iterator<Item = u32>) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    numbers.map(|n| (value_hash(&n.to_le_bytes()).to_vec(), Some(n.to_be_bytes().to_vec()))).collect()
}

#[test]
fn a_large_map_needs_little_memory() {
    const MAX: usize = 1_000;
    // What the newest update changed stays, with what was loaded next to it at each of three levels.
    const NEWEST: usize = 70 * 3 * 16;
    let (mut map, mut disk) = (StateMap::default(), Disk::default());
    let mut random = 1u32;
    for batch in 0..200 {
        let mut changes = numbered(batch * 50..batch * 50 + 50);
        for _ in 0..20 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let some = numbered(core::iter::once((random >> 8) % (batch * 50 + 50)));
            let value = (random & 1 == 0).then(|| random.to_be_bytes().to_vec());
            changes.extend(some.into_keys().map(|key| (key, value.clone())));
        }
        disk.update(&mut map, &changes);
        map.trim(MAX);
        assert!(map.loaded() <= MAX + NEWEST, "{}", map.loaded());
        let mut counts = [0; AGES];
        map.top.ages(TOP_LEVEL, (0, map.clock), &mut counts);
        assert!(counts.iter().sum::<usize>() <= MAX + NEWEST, "{counts:?}");
        if batch % 20 == 0 {
            disk.check(&map);
        }
    }
    disk.check(&map);
    assert!(disk.rows.len() > 5_000);
    // About one record for each ten rows.
    assert!(disk.records.len() * 6 < disk.rows.len(), "{} of {}", disk.records.len(), disk.rows.len());
}

#[test]
fn what_the_disk_has_lost_or_changed_is_noticed() {
    let (mut map, mut disk) = (StateMap::default(), Disk::default());
    disk.update(&mut map, &numbered(0..1_000));
    let open = |disk: &Disk| StateMap::open(disk).unwrap().unwrap();
    let keys: Vec<_> = disk.rows.keys().cloned().collect();
    for key in keys.iter().step_by(37) {
        let mut lost = disk.clone();
        lost.rows.remove(key);
        assert_eq!(open(&lost).get(key, &lost), Err(NodeError::Torn));
        let mut changed = disk.clone();
        changed.rows.insert(key.clone(), vec![1]);
        assert_eq!(open(&changed).get(key, &changed), Err(NodeError::Torn));
        let update = [(key, Some([1; 32]))];
        assert_eq!(open(&changed).update(&update, &changed), Err(NodeError::Torn));
    }
    for (at, record) in disk.records.iter().filter(|((level, _), _)| *level != TOP_LEVEL) {
        // The number of rows, and the hash.
        for byte in [2, 10, record.len() - 1] {
            let mut changed = disk.clone();
            changed.records.get_mut(at).unwrap()[byte] ^= 1;
            let found: Vec<_> = keys.iter().map(|key| open(&changed).get(key, &changed)).collect();
            assert!(found.contains(&Err(NodeError::Torn)), "{at:?}");
            let right =
                |(key, value): (&Vec<u8>, &Result<_, _>)| *value == open(&disk).get(key, &disk) || value.is_err();
            assert!(keys.iter().zip(&found).all(right), "a value is right or refused");
        }
    }
}

#[test]
fn levels() {
    for (rows, expect) in [(0, 0), (1, 0), (16, 0), (17, 1), (256, 1), (257, 2), (4_096, 2), (4_097, 3), (u64::MAX, 15)]
    {
        assert_eq!(level(rows), expect, "{rows}");
    }
    assert!(level(u64::MAX) <= LEVEL_MAX);
}
