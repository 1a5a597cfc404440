//! Tests of folders that belong to others or are damaged.
use super::*;

#[test]
fn others_are_refused() {
    let (dir, manifest, store) = temp();
    let error = refused(dir.path(), &manifest);
    assert_eq!(error.code(), "locked", "{error}");
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    drop(store);
    assert_eq!(refused(dir.path(), &federation("another")).code(), "store_federation");

    let store = Store::open(dir.path(), &manifest).unwrap();
    put(&store, Family::Meta, keys::META_FORMAT, &fama_ledger::codec::encode(&(FORMAT + 1)));
    drop(store);
    assert_eq!(refused(dir.path(), &manifest).code(), "store_format");

    let foreign = tempfile::tempdir().unwrap();
    rocksdb::DB::open_default(foreign.path()).unwrap().put(b"key", b"value").unwrap();
    assert_eq!(refused(foreign.path(), &manifest).code(), "database");

    let file = foreign.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refused(&file, &manifest).code(), "database");
}

#[test]
fn a_log_that_contradicts_its_record_is_refused() {
    type Damage = fn(&Store, &LogId);
    let damages: [(&str, Damage); 4] = [
        ("an entry beyond the record", |store, log| {
            put(store, Family::Entries, &keys::entry(log, 4), b"entry");
        }),
        ("the last entry is gone", |store, log| {
            let mut batch = store.batch();
            batch.delete(Family::Entries, keys::entry(log, 3));
            store.write(batch, true).unwrap();
        }),
        ("the last entry is another", |store, log| {
            put(store, Family::Entries, &keys::entry(log, 3), b"entry");
        }),
        ("a hash is another", |store, log| {
            let tile = store.view().get_tile(log);
            put(store, Family::Tiles, &keys::tile(log, 0, 0), &tile);
        }),
    ];
    for (name, damage) in damages {
        let (dir, manifest, store) = temp();
        let mut log = Log::begin(&store, &manifest, "alpha.example");
        log.commit(&store, &[log.register("agent", &key(1), None)], &[]);
        damage(&store, &log.id);
        drop(store);
        let error = refused(dir.path(), &manifest);
        assert_eq!(error.code(), "store_inconsistent", "{name}: {error}");
    }
}

impl View<'_> {
    /// The first tile with a bit of its first hash flipped.
    fn get_tile(&self, log: &LogId) -> Vec<u8> {
        use fama_ledger::log::Tiles;
        let mut hashes = self.tiles(log).tile(0, 0).unwrap();
        hashes[0][0] ^= 1;
        hashes.as_flattened().to_vec()
    }
}

/// Builds a database with data both in tables and in the write-ahead log.
fn filled(dir: &Path) -> (Arc<Manifest>, LogId) {
    let manifest = federation("test");
    let store = Store::open(dir, &manifest).unwrap();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    log.commit(&store, &[log.register("one", &key(1), None)], &[]);
    for family in Family::ALL {
        store.engine.flush(family).unwrap();
    }
    log.commit(&store, &[log.register("two", &key(2), None)], &[]);
    (manifest, log.id)
}

pub(super) fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// Opens the store and reads everything. An error is fine, a wrong result fails the test.
fn probe(dir: &Path, manifest: &Arc<Manifest>, log: &LogId) -> Result<u64, StoreError> {
    let store = Store::open(dir, manifest)?;
    let view = store.view();
    let Some(record) = view.log(log)? else { return Ok(0) };
    let entries = view.entries(log, 0, usize::MAX, usize::MAX)?;
    assert_eq!(entries.len() as u64, record.state.size);
    let mut tree = Tree::default();
    tree.append(entries.iter().map(|entry| leaf_hash(entry)));
    assert_eq!(tree.head(), record.state.head());
    match LogMaps::load(manifest, log, &view) {
        Ok(maps) => assert_eq!(maps.state_root(), record.state.state_root),
        Err(fama_ledger::rows::RowError::Storage(error)) => return Err(error),
        Err(error) => panic!("{error}"),
    }
    Ok(record.state.size)
}

#[test]
fn damaged_files_are_an_error_or_no_loss() {
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let whole = tempfile::tempdir().unwrap();
    let (manifest, log) = filled(whole.path());
    assert_eq!(probe(copy(whole.path()).path(), &manifest, &log).unwrap(), 6);
    let names: Vec<_> = fs::read_dir(whole.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    let damages: [(&str, Damage); 5] = [
        ("removed", |_| None),
        ("emptied", |_| Some(Vec::new())),
        ("cut in half", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("garbage", |bytes| {
            Some(bytes.iter().zip((0u8..=255).cycle()).map(|(byte, i)| byte ^ i.wrapping_mul(97) ^ 0x5a).collect())
        }),
        ("a bit flipped in the middle", |mut bytes| {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 4;
            }
            Some(bytes)
        }),
    ];
    for name in names.iter().filter_map(|name| name.to_str()).filter(|name| !name.starts_with("LO")) {
        for (how, damage) in damages {
            let dir = copy(whole.path());
            let path = dir.path().join(name);
            match damage(fs::read(&path).unwrap()) {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            match probe(dir.path(), &manifest, &log) {
                // A truncated write-ahead log looks like one after a crash, so losing its batch is fine.
                Ok(size) => assert!(size == 6 || (size == 4 && name.ends_with(".log")), "{name} {how}: {size}"),
                Err(error) => {
                    let folder = dir.path().to_str().unwrap();
                    assert!(error.to_string().contains(folder), "{name} {how}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_torn_write_is_undone_whole() {
    let whole = tempfile::tempdir().unwrap();
    let (manifest, log) = filled(whole.path());
    let is_wal = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let wals = fs::read_dir(whole.path()).unwrap().map(|file| file.unwrap().path()).filter(|path| is_wal(path));
    let wal = wals.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let bytes = fs::read(&wal).unwrap();
    let mut sizes = Vec::new();
    for cut in (0..bytes.len()).step_by(bytes.len() / 40) {
        let dir = copy(whole.path());
        fs::write(dir.path().join(wal.file_name().unwrap()), &bytes[..cut]).unwrap();
        sizes.push(probe(dir.path(), &manifest, &log).unwrap());
    }
    assert!(sizes.iter().all(|size| *size == 4), "{sizes:?}");
}
