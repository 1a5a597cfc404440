//! Tests of manifest versions in a damaged folder: a repair neither raises nor lowers the version in use.
use super::*;
use crate::store::keys::META_USED;

/// Versions 1 to `version`, each with a different policy.
fn chain(version: u32) -> Arc<Manifest> {
    (2..=version).fold(federation("test"), |previous, _| {
        let mut draft = previous.draft();
        draft.policy.daily_bytes += 1;
        let text = draft.text().unwrap();
        let sign = |name, seed| signed_note::sign(&text, name, key(seed).ed25519().unwrap());
        let signatures = vec![sign("beta.example", 11), sign("alpha.example", 21)];
        let note = SignedNote { text: text.clone(), signatures }.to_string();
        Arc::new(previous.successor(&note).unwrap())
    })
}

/// A folder that uses version 2 and holds version 3, changed behind the store's back.
fn folder(damage: impl FnOnce(&Store)) -> TempDir {
    let (dir, versions) = (tempfile::tempdir().unwrap(), chain(3));
    let store = Store::open(dir.path(), &chain(1)).unwrap();
    store.put_manifest(versions.at(2).unwrap()).unwrap();
    store.use_manifest(2).unwrap();
    store.put_manifest(&versions).unwrap();
    damage(&store);
    dir
}

fn delete(store: &Store, family: Family, key: &[u8]) {
    let mut batch = store.batch();
    batch.delete(family, key);
    store.write(batch, true).unwrap();
}

/// Records that an operator's log adopted these versions.
fn adopted(store: &Store, versions: &[u32]) {
    let log = store.manifest().operators()[0].log();
    let adopted: Vec<_> =
        versions.iter().map(|version| Adopted { version: *version, size: u64::from(*version) * 2 }).collect();
    put(store, Family::Logs, &keys::log_adopted(&log), &codec::encode(&adopted));
}

fn text(store: &Store, version: u32, text: &str) {
    put(store, Family::Manifests, &keys::manifest(version), &codec::encode(&text.to_owned()));
}

fn held(store: &Store) -> (u32, Option<u32>) {
    (store.manifest().version(), store.pending().map(|pending| pending.version()))
}

/// Repairs a folder: returns the versions in use and pending, and the number of lines about unreadable data, without
/// the one about the rebuilt list of files; or the code of the error.
fn repaired(dir: &TempDir, configured: u32) -> Result<((u32, Option<u32>), usize), &'static str> {
    let configured = chain(configured);
    let (target, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = Store::open_damaged(dir.path(), &copies.path().join("copy"), &configured);
    let (original, unreadable) = opened.map_err(|error| error.code())?;
    let mut rebuilt = Store::open(target.path(), &configured).unwrap();
    assert_eq!(rebuilt.take_governance(&original).unwrap(), Vec::<String>::new());
    assert_eq!(held(&rebuilt), held(&original));
    drop(rebuilt);
    for later in [&configured, &chain(1)] {
        let reopened = Store::open(target.path(), later).unwrap();
        assert_eq!(held(&reopened), held(&original), "it keeps the copied versions");
    }
    Ok((held(&original), unreadable.len() - 1))
}

/// Symptom: a repair changed the manifest version in use. Cause: where a stored version could not be read, it used the
/// newest configured one and only logged that; a missing text silently lowered the version in use. The table has a case
/// for each version that is damaged or missing.
#[test]
fn a_repair_neither_raises_nor_lowers_the_version_in_use() {
    type Damage = fn(&Store);
    type Repaired = Result<((u32, Option<u32>), usize), &'static str>;
    /// Name and damage, newest configured version, result of opening without a repair, result of a repair.
    type Case = (&'static str, Damage, u32, Result<(), &'static str>, Repaired);
    let cases: [Case; 15] = [
        ("whole", |_| {}, 1, Ok(()), Ok(((2, Some(3)), 0))),
        ("whole", |_| {}, 4, Ok(()), Ok(((2, Some(3)), 0))),
        ("2 is invalid", |store| text(store, 2, "x"), 1, Err("database"), Err("store_manifest_lost")),
        ("2 is invalid", |store| text(store, 2, "x"), 2, Err("database"), Ok(((2, Some(3)), 1))),
        ("2 is invalid", |store| text(store, 2, "x"), 4, Err("database"), Ok(((2, Some(3)), 1))),
        ("2 is missing", lose_second, 1, Err("store_manifest_lost"), Err("store_manifest_lost")),
        ("2 is missing", lose_second, 2, Ok(()), Ok(((2, Some(3)), 0))),
        ("3 is invalid", |store| text(store, 3, "x"), 1, Err("database"), Ok(((2, None), 1))),
        ("3 is invalid", |store| text(store, 3, "x"), 4, Err("database"), Ok(((2, Some(3)), 1))),
        (
            "the version in use is invalid",
            |store| put(store, Family::Meta, META_USED, b"x"),
            4,
            Err("database"),
            Ok(((1, Some(2)), 1)),
        ),
        (
            "the version in use is invalid, but was adopted",
            |store| {
                adopted(store, &[1, 2]);
                put(store, Family::Meta, META_USED, b"x");
            },
            4,
            Err("database"),
            Ok(((2, Some(3)), 2)),
        ),
        (
            "the version in use is missing, but was adopted",
            |store| {
                adopted(store, &[1, 2]);
                delete(store, Family::Meta, META_USED);
            },
            1,
            Ok(()),
            Ok(((2, Some(3)), 1)),
        ),
        ("the version in use was adopted", |store| adopted(store, &[1, 2]), 4, Ok(()), Ok(((2, Some(3)), 0))),
        ("an older version was adopted", |store| adopted(store, &[1]), 4, Ok(()), Ok(((2, Some(3)), 0))),
        ("2 differs from the configured text", other_second, 2, Err("store_manifest"), Err("store_manifest")),
    ];
    for (name, damage, configured, opened, wanted) in cases {
        let dir = folder(damage);
        let found = Store::open_unchecked(dir.path(), &chain(configured)).map(drop).map_err(|error| error.code());
        assert_eq!(found, opened, "{name}, {configured} configured");
        let dir = folder(damage);
        assert_eq!(repaired(&dir, configured), wanted, "{name}, {configured} configured");
    }
}

fn lose_second(store: &Store) {
    delete(store, Family::Manifests, &keys::manifest(2));
}

/// Stores another valid version 2, with a different policy.
fn other_second(store: &Store) {
    let mut draft = chain(1).draft();
    draft.policy.max_delta = 4;
    let changed = draft.text().unwrap();
    let sign = |name, seed| signed_note::sign(&changed, name, key(seed).ed25519().unwrap());
    let signatures = vec![sign("beta.example", 11), sign("alpha.example", 21)];
    text(store, 2, &SignedNote { text: changed.clone(), signatures }.to_string());
}

/// Symptom: a repair lost a stand, which is binding and which no peer could return. Cause: the stand had only one copy,
/// and that was unreadable. The test damages each copy, and both.
#[test]
fn a_stand_outlives_damage_to_one_of_its_copies() {
    let whole = tempfile::tempdir().unwrap();
    let store = Store::open(whole.path(), &chain(1)).unwrap();
    let log = store.manifest().operators()[0].log();
    let stand = StoredStand { version: 2, log, note: "a stand, as it was signed".repeat(8), agreed: false };
    store.put_stand(&stand).unwrap();
    drop(store);
    let with = |dir: &Path| {
        let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| {
            file.extension() == Some("sst".as_ref()) && at(&fs::read(file).unwrap(), b"as it was signed").is_some()
        });
        files.sort();
        files
    };
    let tables = with(whole.path());
    assert_eq!(tables.len(), 2);
    for (damaged, listed) in [(0b01, true), (0b10, true), (0b11, true), (0b01, false), (0b10, false), (0b11, false)] {
        let dir = super::damage::copy(whole.path());
        let here = |file: &Path| dir.path().join(file.file_name().unwrap());
        if !listed {
            fs::remove_file(dir.path().join("CURRENT")).unwrap();
        }
        for (_, table) in tables.iter().enumerate().filter(|(i, _)| damaged >> i & 1 == 1) {
            let mut bytes = fs::read(table).unwrap();
            let position = at(&bytes, b"as it was signed").unwrap();
            bytes[position] ^= 1;
            fs::write(here(table), bytes).unwrap();
        }
        let target = tempfile::tempdir().unwrap();
        let (original, mut unreadable) =
            Store::open_damaged(dir.path(), &target.path().join("copy"), &chain(1)).unwrap();
        let mut rebuilt = Store::open(&target.path().join("rebuilt"), &chain(1)).unwrap();
        unreadable.extend(rebuilt.take_governance(&original).unwrap());
        let kept = if damaged == 0b11 { vec![] } else { vec![stand.clone()] };
        assert_eq!(rebuilt.view().stands().unwrap(), kept, "{damaged:b}, {listed}: {unreadable:?}");
        let reported = unreadable.iter().any(|line| line.starts_with("stands may be lost"));
        assert!(reported || damaged != 0b11, "{damaged:b}, {listed}: {unreadable:?}");
    }
}

fn at(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
