//! Compares the simulated disk with RocksDB on real files.
use super::*;

/// Pseudorandom numbers from a seed, by a linear congruential generator with Knuth's multiplier.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Short keys, so that keys are often equal or a prefix of another.
    fn key(&mut self) -> Vec<u8> {
        (0..self.below(4)).map(|_| [0, 1, 7, 0xff][usize::try_from(self.below(4)).unwrap()]).collect()
    }

    fn walk(&mut self) -> Walk {
        let prefix = if self.below(2) == 0 { self.key() } else { Vec::new() };
        let mut bound = || (self.below(2) == 0).then(|| [prefix.clone(), self.key()].concat());
        let (from, before) = (bound(), bound());
        Walk { prefix, from, before, backward: self.below(2) == 0, once: false }
    }
}

fn walked(moment: &EngineView<'_>, walk: Walk) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut found, mut cursor) = (Vec::new(), moment.walk(Family::Given, walk));
    while let Some((key, value)) = cursor.item() {
        found.push((key.to_vec(), value.to_vec()));
        cursor.step();
    }
    cursor.status().unwrap();
    found
}

#[test]
fn a_simulated_disk_reads_as_rocksdb_does() {
    let (_dir, manifest, store) = temp();
    let simulated = Store::open_simulated(&Disk::default(), &manifest).unwrap();
    let mut draws = Draws(1);
    for round in 0..300u64 {
        let before = (store.engine.moment(), simulated.engine.moment());
        let rows = [draws.walk(), draws.walk()].map(|walk| walk.prefix);
        let unchanged = walked(&before.1, Walk::default());
        let (mut one, mut other) = (store.batch(), simulated.batch());
        for _ in 0..draws.below(5) {
            let (key, value) = (draws.key(), round.to_le_bytes());
            if draws.below(3) == 0 {
                one.delete(Family::Given, &key);
                other.delete(Family::Given, &key);
            } else {
                one.put(Family::Given, &key, value);
                other.put(Family::Given, &key, value);
            }
        }
        store.write(one, false).unwrap();
        simulated.write(other, false).unwrap();
        assert_eq!(walked(&before.0, Walk::default()), unchanged);
        assert_eq!(walked(&before.1, Walk::default()), unchanged);
        let now = (store.engine.moment(), simulated.engine.moment());
        for key in rows {
            let get = |moment: &EngineView<'_>| moment.get(Family::Given, &key).unwrap().map(|value| value.to_vec());
            assert_eq!(get(&now.0), get(&now.1));
        }
        let Walk { prefix, from, before, backward, once } = draws.walk();
        let again = Walk { prefix: prefix.clone(), from: from.clone(), before: before.clone(), backward, once };
        let shown = format!("{prefix:?} {from:?} {before:?} {backward}");
        assert_eq!(walked(&now.0, Walk { prefix, from, before, backward, once }), walked(&now.1, again), "{shown}");
    }
}

#[test]
fn a_simulated_crash_keeps_what_was_synced_and_a_first_part_of_the_rest() {
    let manifest = federation("test");
    let size = |disk: &Disk| Store::open_simulated(disk, &manifest).map(|store| store.view().any(Family::Given));
    let held = |store: &Store| walked(&store.engine.moment(), Walk::default()).len();
    for kept in 0..=3u8 {
        let disk = Disk::default();
        let store = Store::open_simulated(&disk, &manifest).unwrap();
        for (write, sync) in [(0u8, true), (1, false), (2, false)] {
            let mut batch = store.batch();
            batch.put(Family::Given, [write], []);
            batch.put(Family::Given, [write, write], []);
            store.write(batch, sync).unwrap();
        }
        disk.power_off_after(0);
        let mut batch = store.batch();
        batch.put(Family::Given, [3], []);
        batch.put(Family::Given, [3, 3], []);
        assert_eq!(store.write(batch, true).unwrap_err().code(), "database");
        assert!(store.put_certified(&manifest.operators()[0].log(), 1).is_err(), "the power stays off");
        drop(store);
        disk.crash(kept.into());
        let store = Store::open_simulated(&disk, &manifest).unwrap();
        assert_eq!(held(&store), 2 + 2 * usize::from(kept));
    }
    let disk = Disk::default();
    drop(Store::open_simulated(&disk, &manifest).unwrap());
    let backup = disk.copy();
    assert!(disk.damage(0));
    assert_eq!(size(&disk).unwrap_err().code(), "database");
    assert!(!size(&backup).unwrap().unwrap());
}
