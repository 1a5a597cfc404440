//! A data folder changed behind the node's back: the check reports it, and repairs it.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fama_ledger::key::Curve;
use fama_ledger::manifest::Manifest;
use fama_ledger::secret::SecretKey;
use fama_node::replay::check::{CheckReport, check};
use fama_node::store::{Store, StoreError};
use fama_node::wire::{SubmitRequest, SubmitResult};
use fama_tests::{DOMAINS, node_key, secret};

use crate::federation::{LocalFederation, copy, eventually, multi};

mod unlisted;

/// How many single-bit flips are tried, unless `FAMA_FLIPS` says otherwise.
const FLIPS: u64 = 150;

fn checked(data: &Path, manifest: &Arc<Manifest>) -> Result<CheckReport, StoreError> {
    let rebuilt = scratch();
    let original = Store::open_unchecked(data, manifest)?;
    let rebuilt = Store::open(rebuilt.path(), manifest).unwrap();
    Ok(check(&original, &rebuilt, manifest, &mut |_, _| {}).unwrap())
}

/// A federation that has done a little of everything, stopped; returns its second node's folder.
async fn used() -> (LocalFederation, PathBuf) {
    let mut net = LocalFederation::running(2).await;
    let (agent_key, judge_key) = (secret(2), secret(4));
    let (agent, registration) = net.register(0, "checked", &agent_key);
    net.accepted(0, registration).await;
    let judge = net.provider(1, "judge", &judge_key).await;
    net.accepted(1, net.attest(1, (judge, &judge_key), agent, 3)).await;
    net.accepted(0, net.revoke(0, agent, &agent_key)).await;
    net.settled().await;
    eventually("the note arrives", || async {
        let query = net.nodes[1].as_ref().unwrap().query;
        let profile = crate::federation::get(query, "/api/agent/checked@alpha.example").await;
        if profile["recent_attestations"][0]["reason"] == "well done" { Ok(()) } else { Err(profile.to_string()) }
    })
    .await;
    net.stop(0).await;
    net.stop(1).await;
    let data = net.data(1);
    (net, data)
}

/// Like [`used`], and run once more: tables from the first run, a write-ahead log from the second.
async fn used_twice() -> (LocalFederation, PathBuf) {
    let (mut net, data) = used().await;
    net.start_all().await;
    let (_, registration) = net.register(1, "second-run", &secret(8));
    net.accepted(1, registration).await;
    net.settled().await;
    net.stop(0).await;
    net.stop(1).await;
    (net, data)
}

#[test]
fn a_folder_is_what_its_entries_make() {
    multi(async {
        let (net, data) = used().await;
        let report = checked(&data, &net.manifest).unwrap();
        assert_eq!(report.findings, []);
        assert!(report.logs.iter().all(|(_, size)| *size > 2), "{report:?}");
    });
}

/// The effect of a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flip {
    /// The database does not open.
    Refused,
    /// The check reports it.
    Found,
    /// The end of the write-ahead log is taken for a write that a crash cut off. A node gets from its peers what it
    /// lost.
    Cut,
    /// No stored data is different.
    Harmless,
}

/// Copies the folder, with hard links for unchanged files, flips a bit of one file, and checks.
fn flipped(data: &Path, manifest: &Arc<Manifest>, whole: &CheckReport, (file, at, bit): (&Path, usize, u8)) -> Flip {
    let folder = scratch();
    for other in fs::read_dir(data).unwrap().map(|file| file.unwrap().path()) {
        fs::hard_link(&other, folder.path().join(other.file_name().unwrap())).unwrap();
    }
    let place = folder.path().join(file.file_name().unwrap());
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1 << bit;
    fs::remove_file(&place).unwrap();
    fs::write(&place, bytes).unwrap();
    let checked = checked(folder.path(), manifest);
    match checked {
        Err(_) => Flip::Refused,
        Ok(report) if !report.findings.is_empty() => Flip::Found,
        Ok(report) if report == *whole => Flip::Harmless,
        Ok(report) => {
            assert_eq!(kind(file), "log", "{file:?}, bit {bit} of byte {at}: entries lost unnoticed: {report:?}");
            Flip::Cut
        }
    }
}

/// A folder in memory, where the system has one: nothing here has to survive.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The kind of a database file, by its name.
fn kind(file: &Path) -> &'static str {
    let name = file.file_name().unwrap().to_str().unwrap();
    match name {
        _ if name.ends_with(".sst") => "sst",
        _ if name.ends_with(".log") => "log",
        _ if name.starts_with("MANIFEST") => "MANIFEST",
        "CURRENT" => "CURRENT",
        _ => "other",
    }
}

/// A flipped bit is refused by the database, found by the check, or changes nothing that is stored; the check says
/// which.
#[test]
#[allow(clippy::print_stdout, reason = "the figures of a long run")]
fn every_flipped_bit_is_refused_found_or_without_effect() {
    multi(async {
        let (net, data) = used_twice().await;
        let memory = scratch();
        copy(&data, memory.path());
        let (data, manifest) = (memory.path(), &net.manifest);
        let copied = scratch();
        copy(data, copied.path());
        let whole = checked(copied.path(), manifest).unwrap();
        assert_eq!(whole.findings, []);
        let flips = std::env::var("FAMA_FLIPS").map_or(FLIPS, |flips| flips.parse().unwrap());
        let mut files: Vec<PathBuf> = fs::read_dir(data).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| fs::metadata(file).unwrap().len() > 0 && !file.file_name().unwrap().eq("LOG"));
        files.sort();
        for wanted in ["sst", "log", "MANIFEST", "CURRENT"] {
            assert!(files.iter().any(|file| kind(file) == wanted), "{wanted}: {files:?}");
        }
        let done = Mutex::new(BTreeMap::<(&str, Flip), Vec<String>>::new());
        let next = AtomicU64::new(0);
        let work = || {
            loop {
                let flip = next.fetch_add(1, Ordering::Relaxed);
                if flip >= flips {
                    return;
                }
                let file = &files[flip as usize % files.len()];
                let length = fs::metadata(file).unwrap().len();
                // Spread over the file by the golden ratio, so that no two flips are close.
                let at = (flip.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % length;
                let effect = flipped(data, manifest, &whole, (file, at as usize, (flip % 8) as u8));
                let place = format!("{} byte {at} of {length}", file.file_name().unwrap().display());
                done.lock().unwrap().entry((kind(file), effect)).or_default().push(place);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let done = done.into_inner().unwrap();
        for ((kind, effect), places) in &done {
            println!("{kind} {effect:?}: {}", places.len());
            let telling = matches!(effect, Flip::Harmless | Flip::Cut) && *kind != "other";
            places.iter().filter(|_| telling).for_each(|place| println!("    {place}"));
        }
        let all: usize = done.values().map(Vec::len).sum();
        println!("all: {all}");
        assert_eq!(all as u64, flips, "each flip has one effect");
        let count = |effect| {
            done.iter()
                .filter(|((kind, one), _)| *one == effect && *kind == "sst")
                .map(|(_, places)| places.len())
                .sum()
        };
        let (noticed, harmless): (usize, usize) = (count(Flip::Refused) + count(Flip::Found), count(Flip::Harmless));
        assert!(noticed > 10 * harmless, "of flips in tables {noticed} were noticed, {harmless} had no effect");
    });
}

/// Writes a configuration file for the command: a node of `net` with its data in the folder `name`.
fn configured(net: &LocalFederation, i: usize, name: &str) -> PathBuf {
    let dir = net.dir.path();
    fs::write(dir.join("manifest.txt"), net.manifest.note().to_string()).unwrap();
    let key = dir.join("node.pem");
    fs::write(&key, node_key(u8::try_from(i).unwrap()).to_pem().as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let (operator, file) = (DOMAINS[i], dir.join("node.toml"));
    let text = format!(
        "data_dir = \"{name}\"\nmanifest = \"manifest.txt\"\nnode_key = \"node.pem\"\noperator = \"{operator}\"\n"
    );
    fs::write(&file, text).unwrap();
    file
}

/// Runs `fama check` with these arguments; returns whether it succeeded, and all its output.
fn command(config: &Path, repair: bool) -> (bool, String) {
    command_with(config, if repair { &["--repair"] } else { &[] })
}

fn command_with(config: &Path, options: &[&str]) -> (bool, String) {
    let mut args = vec!["fama".into(), "check".into(), "--config".into(), config.as_os_str().to_owned()];
    args.extend(options.iter().map(Into::into));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = fama_cli::run(args, &mut out, &mut err);
    (code == std::process::ExitCode::SUCCESS, String::from_utf8_lossy(&[out, err].concat()).into_owned())
}

/// Flips a bit at a quarter and at three quarters of the table that holds the entries of both logs.
fn damage_entries(data: &Path, manifest: &Arc<Manifest>) {
    let tables: Vec<PathBuf> = fs::read_dir(data).unwrap().map(|file| file.unwrap().path()).collect();
    for table in tables.iter().filter(|file| kind(file) == "sst") {
        let good = fs::read(table).unwrap();
        let mut bytes = good.clone();
        for at in [good.len() / 4, good.len() / 4 * 3] {
            bytes[at] ^= 1;
        }
        fs::write(table, bytes).unwrap();
        let copied = scratch();
        copy(data, copied.path());
        let cut =
            |report: &CheckReport| report.findings.iter().filter(|one| one.what.starts_with("entries from")).count();
        if checked(copied.path(), manifest).is_ok_and(|report| cut(&report) == 2) {
            return;
        }
        fs::write(table, good).unwrap();
    }
    panic!("no table holds the entries of both logs: {tables:?}");
}

/// Two nodes with some hundred entries in each log.
async fn filled() -> LocalFederation {
    let net = LocalFederation::running(2).await;
    for home in 0..2 {
        let submissions = (0..200).map(|i| {
            let key = SecretKey::from_seed(Curve::Ed25519, &[10 + home as u8, i, 1, 2].repeat(8).try_into().unwrap());
            net.register(home, &format!("agent-{i}"), &key.unwrap()).1
        });
        let request = SubmitRequest { forwarded: false, submissions: submissions.collect() };
        let answers = net.client(home).await.submit(request).await.unwrap().0;
        assert!(answers.iter().all(|answer| matches!(answer, SubmitResult::Accepted(_))), "{answers:?}");
    }
    net
}

#[test]
fn damaged_ranges_come_back_from_peers_the_own_logs_too() {
    multi(async {
        let mut net = filled().await;
        let state = net.settled().await;
        net.stop(1).await;
        let data = net.data(1);
        // Opened once more, so that the database's files include tables and not only a write-ahead log.
        drop(Store::open(&data, &net.manifest).unwrap());
        let whole = checked(&data, &net.manifest).unwrap();
        damage_entries(&data, &net.manifest);

        let config = configured(&net, 1, DOMAINS[1]);
        let (sound, said) = command(&config, false);
        assert!(!sound && said.matches("entries from").count() == 2, "{said}");
        let (repaired, said) = command(&config, true);
        assert!(repaired && said.contains("beta.example.damaged-1"), "{said}");
        let short = checked(&data, &net.manifest).unwrap();
        assert_eq!(short.findings, []);
        let cut = short.logs.iter().zip(&whole.logs).filter(|((_, short), (_, whole))| short < whole).count();
        assert_eq!(cut, 2, "{short:?} {whole:?}");

        net.start(1).await;
        net.wait("both write again", |status| status["waiting"].is_null()).await;
        assert_eq!(net.settled().await, state, "all that was there is there again");
        let (_, registration) = net.register(1, "after-repair", &secret(6));
        net.accepted(1, registration).await;
        net.settled().await;
        net.stop(1).await;
        let again = checked(&data, &net.manifest).unwrap();
        assert_eq!(again.findings, []);
        assert!(again.logs.iter().zip(&whole.logs).all(|((_, again), (_, whole))| again >= whole), "{again:?}");
    });
}

/// The last byte of a table and the middle of the write-ahead log: the database refuses to open at all.
#[test]
fn a_folder_that_does_not_open_is_repaired_as_far_as_it_can_be_read() {
    multi(async {
        let (net, data) = used_twice().await;
        let mut refused = 0;
        let files = fs::read_dir(&data).unwrap().map(|file| file.unwrap().path());
        let files: Vec<PathBuf> = files.filter(|file| matches!(kind(file), "sst" | "log")).collect();
        for (i, file) in files.iter().enumerate() {
            let name = format!("damaged-{i}");
            let damaged = net.dir.path().join(&name);
            fs::create_dir(&damaged).unwrap();
            copy(&data, &damaged);
            let place = damaged.join(file.file_name().unwrap());
            let mut bytes = fs::read(&place).unwrap();
            let at = if kind(file) == "sst" { bytes.len() - 1 } else { bytes.len() / 2 };
            let Some(byte) = bytes.get_mut(at) else { continue };
            *byte ^= 1;
            fs::write(&place, bytes).unwrap();
            let config = configured(&net, 1, &name);
            let (sound, said) = command(&config, false);
            assert!(!sound, "{file:?}: {said}");
            refused += usize::from(said.contains("(database)"));
            let (repaired, said) = command(&config, true);
            assert!(repaired, "{file:?}: {said}");
            assert_eq!(checked(&damaged, &net.manifest).unwrap().findings, [], "{file:?}");
            drop(Store::open(&damaged, &net.manifest).unwrap());
        }
        assert!(refused > 10, "{refused} of {} did not open", files.len());
    });
}

/// Symptom: where the data folder is a mount point, the check did all the work, could not rename the folder, and threw the
/// rebuilt data away. A link stands for it here: neither may be renamed.
#[test]
fn a_folder_that_cannot_be_renamed_is_repaired_within() {
    multi(async {
        let (net, data) = used_twice().await;
        let mut tables = fs::read_dir(&data).unwrap().map(|file| file.unwrap().file_name());
        let table = tables.find(|name| kind(Path::new(name)) == "sst").unwrap();
        let work = net.dir.path().join("work");
        let work_option = ["--work", work.to_str().unwrap()];
        for (name, linked, options) in [("linked", true, &[][..]), ("worked", false, &work_option[..])] {
            let (dir, elsewhere) = (net.dir.path().join(name), net.dir.path().join("elsewhere"));
            let real = if linked { &elsewhere } else { &dir };
            fs::create_dir(real).unwrap();
            copy(&data, real);
            if linked {
                std::os::unix::fs::symlink(real, &dir).unwrap();
            }
            let config = configured(&net, 1, name);
            let repair = [options, &["--repair"]].concat();
            let (sound, said) = command_with(&config, options);
            assert!(sound, "{name}: {said}");
            let mut bytes = fs::read(real.join(&table)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(real.join(&table), bytes).unwrap();
            assert!(!command_with(&config, options).0, "{name}");
            let inner = || fs::read_dir(real).unwrap().filter(|file| file.as_ref().unwrap().path().is_dir()).count();
            assert_eq!(inner(), 0, "{name}: nothing is left behind");
            let (repaired, said) = command_with(&config, &repair);
            assert!(repaired && said.contains(dir.join("damaged-1").to_str().unwrap()), "{name}: {said}");
            assert!(real.join("damaged-1").join(&table).exists() && inner() == 1, "{name}");
            assert_eq!(dir.is_symlink(), linked);
            assert_eq!(checked(real, &net.manifest).unwrap().findings, [], "{name}");
            assert!(command_with(&config, options).0, "{name}");

            // A repair that a crash cut off before its last file, without which nothing opens.
            fs::create_dir(real.join("check.moving")).unwrap();
            fs::rename(real.join("CURRENT"), real.join("check.moving/CURRENT")).unwrap();
            assert_eq!(Store::open(&dir, &net.manifest).err().unwrap().code(), "store_half_repaired");
            let (sound, said) = command_with(&config, options);
            assert!(!sound && said.contains("--repair"), "{said}");
            let (finished, said) = command_with(&config, &repair);
            assert!(finished && !real.join("check.moving").exists(), "{said}");
            assert_eq!(checked(real, &net.manifest).unwrap().findings, [], "{name}");
        }
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    });
}

/// A crash between the two renames of a repair, or a second rename that fails, must not let a node start with an
/// empty folder.
#[test]
fn a_repair_cut_off_is_noticed() {
    multi(async {
        let (net, data) = used().await;
        for beside in ["beta.example.rebuilt", "beta.example.damaged-1"] {
            let beside = data.with_file_name(beside);
            fs::rename(&data, &beside).unwrap();
            let error = Store::open(&data, &net.manifest).err().unwrap();
            assert_eq!(error.code(), "store_half_repaired", "{error}");
            assert!(error.to_string().contains(beside.to_str().unwrap()) && !data.exists(), "{error}");
            fs::rename(&beside, &data).unwrap();
            drop(Store::open(&data, &net.manifest).unwrap());
        }
    });
}

#[test]
fn a_rebuilt_folder_is_the_same_and_takes_its_place() {
    multi(async {
        let (mut net, data) = used().await;
        let rebuilt = data.with_extension("rebuilt");
        let original = Store::open_unchecked(&data, &net.manifest).unwrap();
        let empty = Store::open(&rebuilt, &net.manifest).unwrap();
        let report = check(&original, &empty, &net.manifest, &mut |_, _| {}).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(original.differences(&empty).unwrap(), Vec::<String>::new(), "the rebuilt folder is the same");
        drop((original, empty));
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&rebuilt, &data).unwrap();
        net.start(0).await;
        net.start(1).await;
        net.wait("both write again", |status| status["waiting"].is_null()).await;
        let (_, registration) = net.register(1, "after-repair", &secret(6));
        net.accepted(0, registration).await;
        net.settled().await;
    });
}
