//! Data folders whose list of files is damaged or missing: MANIFEST and CURRENT of RocksDB.
use super::*;

use fama_ledger::log::{Hash, leaf_hash};
use fama_ledger::manifest::LogId;
use fama_node::wire::{CosignedHead, SignedHead};

/// How many places of the list get a flipped bit, and how many a cut.
const PLACES: u64 = 3;

/// What a folder must not forget because no peer can be made to: sizes, and heads that it signed and cosigned.
type Held = BTreeMap<LogId, (u64, Option<SignedHead>, Vec<CosignedHead>)>;

fn must_not_forget(data: &Path, manifest: &Arc<Manifest>) -> Held {
    let copied = scratch();
    copy(data, copied.path());
    let store = Store::open(copied.path(), manifest).unwrap();
    let view = store.view();
    let of = |log: &LogId| {
        let size = view.log(log).unwrap().map_or(0, |record| record.state.size);
        (size, view.newest(log).unwrap(), view.cosigned(log).unwrap())
    };
    manifest.logs().keys().map(|log| (log.clone(), of(log))).collect()
}

/// The files with data: their lengths and hashes.
fn files(data: &Path) -> BTreeMap<PathBuf, (usize, Hash)> {
    let files = fs::read_dir(data).unwrap().map(|file| file.unwrap().path()).filter(|file| kind(file) != "other");
    let of = |bytes: Vec<u8>| (bytes.len(), leaf_hash(&bytes));
    files.map(|file| (file.file_name().unwrap().into(), of(fs::read(&file).unwrap()))).collect()
}

fn list_of(data: &Path) -> PathBuf {
    let mut files = fs::read_dir(data).unwrap().map(|file| file.unwrap().path());
    files.find(|file| kind(file) == "MANIFEST").unwrap()
}

type Damage = Box<dyn Fn(&Path)>;

fn damages() -> Vec<(String, Damage)> {
    fn add(all: &mut Vec<(String, Damage)>, name: &str, damage: impl Fn(&Path) + 'static) {
        all.push((name.to_string(), Box::new(damage)));
    }
    let mut all = Vec::new();
    for i in 0..PLACES {
        // Spread by the golden ratio.
        let part = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let at = move |bytes: &[u8]| usize::try_from((part * bytes.len() as u64) >> 32).unwrap();
        add(&mut all, &format!("list flipped, {i}"), move |data| {
            let mut bytes = fs::read(list_of(data)).unwrap();
            let at = at(&bytes);
            bytes[at] ^= 1 << (i % 8);
            fs::write(list_of(data), bytes).unwrap();
        });
        add(&mut all, &format!("list cut, {i}"), move |data| {
            let bytes = fs::read(list_of(data)).unwrap();
            fs::write(list_of(data), &bytes[..at(&bytes)]).unwrap();
        });
    }
    add(&mut all, "list gone", |data| fs::remove_file(list_of(data)).unwrap());
    add(&mut all, "CURRENT gone", |data| fs::remove_file(data.join("CURRENT")).unwrap());
    add(&mut all, "both gone", |data| {
        fs::remove_file(list_of(data)).unwrap();
        fs::remove_file(data.join("CURRENT")).unwrap();
    });
    for (name, text) in [("empty", ""), ("noise", "\0\u{7f}\n"), ("nowhere", "MANIFEST-999999\n")] {
        add(&mut all, &format!("CURRENT {name}"), move |data| fs::write(data.join("CURRENT"), text).unwrap());
    }
    all
}

/// Damages copies of a folder and repairs each; returns how many did not open before that.
fn repaired(net: &LocalFederation, data: &Path) -> usize {
    let (whole, mut refused) = (must_not_forget(data, &net.manifest), 0);
    for (name, damage) in damages() {
        let folder = scratch();
        let damaged = folder.path().join("data");
        fs::create_dir(&damaged).unwrap();
        copy(data, &damaged);
        damage(&damaged);
        let config = configured(net, 1, damaged.to_str().unwrap());
        let before = files(&damaged);
        let (sound, said) = command(&config, false);
        assert_eq!(files(&damaged), before, "{name}: a check changes nothing");
        if sound {
            // A list that ends early is that of an earlier time: peers bring what came later.
            assert!(name.starts_with("list cut"), "{name}: {said}");
            continue;
        }
        assert!(said.contains("--repair"), "{name}: {said}");
        let (mended, said) = command(&config, true);
        assert!(mended && said.contains("data.damaged-1"), "{name}: {said}");
        assert_eq!(files(&folder.path().join("data.damaged-1")), before, "{name}: a repair keeps what was there");
        assert_eq!(checked(&damaged, &net.manifest).unwrap().findings, [], "{name}");
        assert!(said.contains("was rebuilt from"), "{name}: {said}");
        assert_eq!(must_not_forget(&damaged, &net.manifest), whole, "{name}: {said}");
        refused += 1;
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{name}: nothing else is left behind: {left:?}");
    }
    refused
}

/// Symptom: `fama check --repair` gave up on a folder in which every entry was there. Cause: it needed RocksDB's list of
/// files, which was damaged. The test damages that list in many places, so a repair that needs it fails.
#[test]
fn a_folder_without_its_list_of_files_is_repaired_whole() {
    multi(async {
        // Everything is in one write-ahead log, for families that have no table yet.
        let (net, data) = used().await;
        let refused = repaired(&net, &data);
        assert!(refused > 5, "{refused} did not open");
        // With tables as well.
        let (net, data) = used_twice().await;
        let refused = repaired(&net, &data);
        assert!(refused > 5, "{refused} did not open");
    });
}

/// Without its write-ahead log the folder has also forgotten what it signed last, so it asks peers before it signs
/// again.
#[test]
fn a_repaired_folder_signs_nothing_before_its_peers_say_what_it_signed() {
    multi(async {
        let (mut net, data) = used_twice().await;
        let whole = must_not_forget(&data, &net.manifest);
        for file in fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()) {
            if matches!(kind(&file), "log" | "MANIFEST" | "CURRENT") {
                fs::remove_file(file).unwrap();
            }
        }
        let (mended, said) = command(&configured(&net, 1, DOMAINS[1]), true);
        assert!(mended && said.contains("was rebuilt from"), "{said}");
        let own = net.manifest.operators()[1].log();
        let size = |held: &Held| held[&own].0;
        let short = must_not_forget(&data, &net.manifest);
        assert!((2..size(&whole)).contains(&size(&short)), "{short:?}");

        net.start(1).await;
        let early = SubmitRequest { forwarded: false, submissions: vec![net.register(1, "early", &secret(10)).1] };
        let answers = net.client(1).await.submit(early).await.unwrap().0;
        assert!(matches!(&answers[..], [SubmitResult::Refused(_)]), "alone it accepts nothing: {answers:?}");
        net.start(0).await;
        net.wait("both write again", |status| status["waiting"].is_null()).await;
        let (_, registration) = net.register(1, "after-repair", &secret(6));
        net.accepted(1, registration).await;
        net.settled().await;
        net.stop(1).await;
        assert!(size(&must_not_forget(&data, &net.manifest)) > size(&whole), "its log continues where it was");
    });
}

/// If the folder of a running node could be renamed away, two nodes would write one log.
#[test]
fn a_folder_in_use_is_not_repaired_whatever_its_state() {
    multi(async {
        let (net, data) = used().await;
        let open = Store::open(&data, &net.manifest).unwrap();
        for file in ["CURRENT", "IDENTITY"] {
            fs::remove_file(data.join(file)).unwrap();
            let (mended, said) = command(&configured(&net, 1, DOMAINS[1]), true);
            assert!(!mended && said.contains("in use by another node"), "{said}");
        }
        drop(open);
    });
}
