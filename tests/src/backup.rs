//! Backups of real nodes by the command: made under load, incremental, damaged, cut off, in a bucket, and restored.
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use fama_node::config::Config;
use fama_node::store::{BackupLock, Store, checkpoint_folder};
use fama_reader::bucket::{Bucket, PIECE_BYTES};
use fama_tests::{DOMAINS, node_key, secret};
use serde_json::Value;

use crate::cli::program;
use crate::federation::{LocalFederation, eventually, get, multi};
use crate::publish::s3::S3Server;

/// The configuration file of the `i`-th node, as it runs now, with its data in `data`.
pub(crate) fn config_file(net: &LocalFederation, i: usize, data: &Path) -> PathBuf {
    let dir = net.dir.path();
    fs::write(dir.join("manifest.txt"), net.manifest.note().to_string()).unwrap();
    let key = dir.join(format!("node{i}.pem"));
    fs::write(&key, node_key(u8::try_from(i).unwrap()).to_pem().as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let admin = net.nodes[i].as_ref().map_or_else(String::new, |node| format!("listen = \"{}\"\n", node.admin));
    let file = dir.join(format!("node{i}.toml"));
    let text = format!(
        "data_dir = \"{}\"\nmanifest = \"manifest.txt\"\nnode_key = \"node{i}.pem\"\noperator = \"{}\"\n[admin]\n{admin}",
        data.display(),
        DOMAINS[i]
    );
    fs::write(&file, text).unwrap();
    file
}

/// Runs a command line: whether it succeeded, and its JSON.
async fn fama(words: &[&str]) -> (bool, Value) {
    let words: Vec<String> = ["fama", "--json"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let run = move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = fama_cli::run(words, &mut out, &mut err);
        (code == ExitCode::SUCCESS, serde_json::from_slice(&out).unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

pub(crate) async fn done(words: &[&str]) -> Value {
    let (done, answer) = fama(words).await;
    assert!(done, "{words:?}\n{answer}");
    answer
}

/// Runs a command line that must fail and say what to do next: its code and its message.
async fn refused(words: &[&str]) -> (String, String) {
    let (done, answer) = fama(words).await;
    assert!(!done && answer["hint"].is_string(), "{words:?}\n{answer}");
    let text = |member: &str| answer[member].as_str().unwrap().to_owned();
    (text("code"), text("error"))
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The `i`-th key of a series of its own.
fn key(series: u8, i: u32) -> SecretKey {
    let mut seed = [series; 32];
    seed[..4].copy_from_slice(&i.to_be_bytes());
    SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()
}

async fn no_faults(net: &LocalFederation) {
    for (_, query) in net.up() {
        let federation = get(query, "/api/federation").await;
        for log in federation["logs"].as_array().unwrap() {
            assert!(log["fault"].is_null() && log["equivocation"].is_null(), "{federation}");
        }
    }
}

/// One operator, that has done something.
async fn alone() -> (LocalFederation, PathBuf, PathBuf) {
    let net = LocalFederation::running(1).await;
    net.accepted(0, net.register(0, "first", &secret(2)).1).await;
    let (config, place) = (config_file(&net, 0, &net.data(0)), net.dir.path().join("place"));
    (net, config, place)
}

/// The backup holds what was acknowledged before it, and a node that starts with it, after the one that was backed up
/// has written more, fetches that from the others and never forks its log.
#[test]
fn a_backup_under_load_is_restored_and_its_node_catches_up() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let before = net.accepted(0, net.register(0, "before", &secret(2)).1).await;
        let (config, place) = (config_file(&net, 0, &net.data(0)), net.dir.path().join("place"));
        let (stop, net_ref) = (AtomicBool::new(false), &net);
        let load = async {
            let mut i = 0;
            while !stop.load(Ordering::Relaxed) || i < 20 {
                for home in 0..2 {
                    let name = format!("load-{home}-{i}");
                    net_ref.accepted(home, net_ref.register(home, &name, &key(home as u8, i)).1).await;
                }
                i += 1;
            }
            i
        };
        let backup = async {
            let made = done(&["backup", "--config", word(&config), "--to", word(&place)]).await;
            stop.store(true, Ordering::Relaxed);
            made
        };
        let (loaded, made) = tokio::join!(load, backup);
        assert!(!checkpoint_folder(&net.data(0)).exists(), "the node removed the checkpoint");
        let admin = net.nodes[0].as_ref().unwrap().admin;
        let metrics = tokio::task::spawn_blocking(move || {
            ureq::get(format!("http://{admin}/metrics")).call().unwrap().body_mut().read_to_string().unwrap()
        });
        let metrics = metrics.await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with("fama_backup_last_timestamp_seconds ")).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
        let (_, late) = net.register(0, "after-the-backup", &secret(4));
        net.accepted(0, late).await;
        net.settled().await;

        let moved = net.dir.path().join("moved");
        let restored = done(&["restore", "--from", word(&place), "--to", word(&moved), "--check"]).await;
        assert_eq!((&restored["id"], &restored["logs"]), (&made["id"], &made["logs"]));
        let own = made["logs"].as_array().unwrap().iter().find(|log| log["log"] == "alpha.example/1").unwrap();
        assert!(own["entries"].as_u64().unwrap() > before.index, "{made}");
        let moved_config = config_file(&net, 0, &moved);
        done(&["check", "--config", word(&moved_config)]).await;

        net.stop(0).await;
        // The others go on without it.
        net.accepted(1, net.register(1, "while-away", &secret(6)).1).await;
        let config = Config { data_dir: moved, ..net.config(0) };
        net.start_with(0, config).await;
        net.wait("all write", |status| status["waiting"].is_null()).await;
        net.accepted(0, net.register(0, "after-the-move", &secret(8)).1).await;
        net.settled().await;
        let mut wanted: Vec<String> = ["before", "after-the-backup", "after-the-move"].map(String::from).into();
        wanted.push(format!("load-0-{}", loaded - 1));
        for name in wanted {
            net.shows(&format!("{name}@alpha.example"), |profile| profile["ledger"]["final"] == true).await;
        }
        net.shows("while-away@beta.example", |profile| profile["ledger"]["final"] == true).await;
        no_faults(&net).await;
    });
}

#[test]
fn a_second_backup_copies_what_is_new_and_old_ones_go() {
    multi(async {
        let (mut net, config, place) = alone().await;
        let backup = ["backup", "--config", word(&config), "--to", word(&place), "--keep", "2"];
        let first = done(&backup).await;
        assert_eq!(first["copied"]["files"], first["files"], "{first}");
        net.accepted(0, net.register(0, "second-name", &secret(4)).1).await;
        let second = done(&backup).await;
        assert!(second["copied"]["files"].as_u64() < second["files"].as_u64(), "{second}");
        assert_eq!((&second["read_back"], &second["removed"]), (&second["copied"]["files"], &serde_json::json!([])));
        let files = names(&place.join("files"));

        // With the node stopped, the same command opens the folder itself.
        net.stop(0).await;
        let third = done(&backup).await;
        assert_eq!(third["removed"], serde_json::json!([first["id"]]), "{third}");
        assert!(!checkpoint_folder(&net.data(0)).exists());
        assert!(!files.is_subset(&names(&place.join("files"))), "files that only the first had are gone");
        let listed = done(&["restore", "--from", word(&place), "--list"]).await;
        let ids: Vec<&Value> = listed["backups"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, [&second["id"], &third["id"]]);
        for (i, made) in [&second, &third].into_iter().enumerate() {
            let to = net.dir.path().join(format!("restored-{i}"));
            let id = made["id"].as_str().unwrap();
            let restored = done(&["restore", "--from", word(&place), "--at", id, "--to", word(&to), "--check"]).await;
            assert_eq!(restored["logs"], made["logs"]);
            let mode = fs::metadata(&to).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o700, "only the node's user reads it");
            assert!(names(&to).iter().all(|name| !name.ends_with(".pem")));
        }
    });
}

#[test]
fn what_is_damaged_is_refused_by_name_and_copied_again() {
    multi(async {
        let (net, config, place) = alone().await;
        let made = done(&["backup", "--config", word(&config), "--to", word(&place)]).await;
        let record = place.join(format!("backups/{}.json", made["id"].as_str().unwrap()));
        let written = fs::read_to_string(&record).unwrap();
        let told: Value = serde_json::from_str(&written).unwrap();
        let to = net.dir.path().join("restored");
        let restore = ["restore", "--from", word(&place), "--to", word(&to)];
        let mut damaged = Vec::new();
        let nothing_there = || !to.exists() || names(&to).is_empty();
        for file in told["files"].as_array().unwrap() {
            let (name, hash) = (file["name"].as_str().unwrap(), file["blake3"].as_str().unwrap());
            let path = place.join("files").join(hash);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            // An empty file has nothing to damage.
            let Some(last) = bad.last_mut() else { continue };
            *last ^= 1;
            fs::write(&path, &bad).unwrap();
            let (code, message) = refused(&restore).await;
            assert!(code == "backup_damaged" && message.contains(name) && message.contains(hash), "{message}");
            assert!(nothing_there(), "after a damaged {name}");
            fs::remove_file(&path).unwrap();
            let (code, message) = refused(&restore).await;
            assert!(code == "backup_damaged" && message.contains(name) && message.contains("missing"), "{message}");
            assert!(nothing_there(), "after a missing {name}");
            fs::write(&path, good).unwrap();
            damaged.push((path, bad));
        }
        damaged.iter().for_each(|(path, bad)| fs::write(path, bad).unwrap());
        let healed = done(&["backup", "--config", word(&config), "--to", word(&place), "--read-all"]).await;
        assert_eq!(healed["read_back"], healed["files"]);
        assert!(healed["copied"]["files"].as_u64() > Some(1), "damaged files are copied again: {healed}");
        done(&restore).await;

        // Its files are whole; the first one's may be damaged still, where the node no longer has them.
        let record = place.join(format!("backups/{}.json", healed["id"].as_str().unwrap()));
        let written = fs::read_to_string(&record).unwrap();
        // A record that leads out of the folder, or that tells of other logs than its files hold.
        let outside = written.replace("\"CURRENT\"", "\"../CURRENT\"");
        let other = written.replace("\"entries\":", "\"entries\":1");
        for (changed, said) in [(outside, "no name of a database file"), (other, "other logs than it says")] {
            fs::write(&record, changed).unwrap();
            let empty = net.dir.path().join("empty");
            let id = healed["id"].as_str().unwrap();
            let healed_too = done(&["backup", "--config", word(&config), "--to", word(&place), "--read-all"]).await;
            assert_ne!(healed_too["id"], healed["id"]);
            let (code, message) = refused(&["restore", "--from", word(&place), "--at", id, "--to", word(&empty)]).await;
            assert!(code == "backup_damaged" && message.contains(said), "{code} {message}");
            assert!(!net.dir.path().join("CURRENT").exists());
        }
    });
}

#[test]
fn what_was_cut_off_is_no_backup_and_no_data_folder() {
    multi(async {
        let (mut net, config, place) = alone().await;
        let backup = ["backup", "--config", word(&config), "--to", word(&place)];
        let made = done(&backup).await;
        let record = place.join(format!("backups/{}.json", made["id"].as_str().unwrap()));
        let to = net.dir.path().join("restored");
        let restore = ["restore", "--from", word(&place), "--to", word(&to)];

        // Killed before the record was written: all files are there.
        fs::remove_file(&record).unwrap();
        assert_eq!(refused(&restore).await.0, "no_backup");
        assert_eq!(done(&["restore", "--from", word(&place), "--list"]).await["backups"], serde_json::json!([]));
        let again = done(&backup).await;
        assert!(again["copied"]["files"].as_u64() < again["files"].as_u64(), "what was copied is used: {again}");

        // A restore that was killed anywhere before its last file: a node does not start with it.
        done(&restore).await;
        fs::remove_file(to.join("CURRENT")).unwrap();
        let started = Store::open(&to, &net.manifest).err().unwrap();
        assert!(started.to_string().contains("CURRENT is missing"), "{started}");
        assert_eq!(refused(&restore).await.0, "not_empty");

        // A checkpoint that is being copied survives the start of the node; one that was left does not.
        net.stop(0).await;
        let (data, lock) = (net.data(0), BackupLock::take(&net.data(0)).unwrap().unwrap());
        fs::create_dir(checkpoint_folder(&data)).unwrap();
        fs::write(checkpoint_folder(&data).join("000001.sst"), "x").unwrap();
        assert_eq!(refused(&backup).await.0, "backup_running");
        net.start(0).await;
        assert!(checkpoint_folder(&data).exists());
        drop(lock);
        net.stop(0).await;
        net.start(0).await;
        assert!(!checkpoint_folder(&data).exists());
    });
}

/// Wherever the command is killed, the place has whole backups only, and the next one leaves nothing of the killed ones.
#[test]
fn a_backup_killed_anywhere_leaves_whole_backups_only() {
    multi(async {
        let (net, config, place) = alone().await;
        for i in 0..12 {
            net.accepted(0, net.register(0, &format!("killed-{i}"), &key(3, i)).1).await;
            let mut command = Command::new(program());
            command.args(["--json", "backup", "--config", word(&config), "--to", word(&place)]);
            let mut running = command.stdout(std::process::Stdio::null()).spawn().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(i) * 9)).await;
            running.kill().unwrap();
            running.wait().unwrap();
        }
        let restore = async |id: &str, name: &str| {
            let to = net.dir.path().join(name);
            done(&["restore", "--from", word(&place), "--at", id, "--to", word(&to)]).await
        };
        if place.exists() {
            for one in done(&["restore", "--from", word(&place), "--list"]).await["backups"].as_array().unwrap() {
                restore(one["id"].as_str().unwrap(), one["id"].as_str().unwrap()).await;
            }
        }
        let made = done(&["backup", "--config", word(&config), "--to", word(&place), "--keep", "1"]).await;
        assert_eq!(restore(made["id"].as_str().unwrap(), "last").await["logs"], made["logs"]);
        let record = fs::read(place.join(format!("backups/{}.json", made["id"].as_str().unwrap()))).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let needed = record["files"].as_array().unwrap().iter().map(|file| file["blake3"].as_str().unwrap().to_owned());
        assert_eq!(names(&place.join("files")), needed.collect::<BTreeSet<_>>());
        assert!(!checkpoint_folder(&net.data(0)).exists());
    });
}

/// Two nodes whose places were mixed up, and an admin listener that is another node's.
#[test]
fn a_backup_is_of_the_node_that_it_says() {
    multi(async {
        let net = LocalFederation::running(2).await;
        let place = net.dir.path().join("place");
        let config = config_file(&net, 0, &net.data(0));
        done(&["backup", "--config", word(&config), "--to", word(&place)]).await;
        let other = config_file(&net, 1, &net.data(1));
        let (code, message) = refused(&["backup", "--config", word(&other), "--to", word(&place)]).await;
        assert!(code == "other_node" && message.contains("alpha.example"), "{message}");
        let admin = format!("http://{}", net.nodes[0].as_ref().unwrap().admin);
        let apart = net.dir.path().join("apart");
        let (code, _) = refused(&["backup", "--config", word(&other), "--to", word(&apart), "--admin", &admin]).await;
        assert_eq!(code, "other_folder");
        for (i, name) in DOMAINS.iter().enumerate().take(2) {
            eventually("no checkpoint is left", || async {
                let left = checkpoint_folder(&net.data(i)).exists();
                if left { Err((*name).to_owned()) } else { Ok(()) }
            })
            .await;
        }
        done(&["backup", "--config", word(&other), "--to", word(&apart)]).await;
    });
}

#[test]
fn a_bucket_keeps_backups_too() {
    multi(async {
        let (net, config, _) = alone().await;
        let server = S3Server::for_backups();
        let place = "s3://my-bucket/some/where/";
        let run = |words: &[&str], secret: &str| -> Value {
            let mut command = Command::new(program());
            let command = server.known_to(command.arg("--json").args(words), secret);
            let output = tokio::task::block_in_place(|| command.output().unwrap());
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
        };
        let backup = ["backup", "--config", word(&config), "--to", place, "--keep", "1"];
        let first = run(&backup, "tester");
        assert_eq!(first["copied"]["files"], first["files"], "{first}");
        let second = run(&backup, "tester");
        assert_eq!(second["removed"], serde_json::json!([first["id"]]), "{second}");
        let keys = server.keys();
        assert_eq!(keys.iter().filter(|key| key.starts_with("backups/")).count(), 1, "{keys:?}");
        assert_eq!(keys.len() as u64, 1 + second["files"].as_u64().unwrap(), "{keys:?}");
        let to = net.dir.path().join("restored");
        let restored = run(&["restore", "--from", place, "--to", word(&to), "--check"], "tester");
        assert_eq!((&restored["id"], &restored["logs"]), (&second["id"], &second["logs"]), "{restored}");
        let denied = run(&backup, "somebody");
        assert_eq!(denied["code"], "unreachable", "{denied}");
        assert!(!checkpoint_folder(&net.data(0)).exists(), "a backup that failed leaves no checkpoint");
    });
}

/// A file of several pieces, in a folder and in a bucket. Credentials come from the environment, so for the bucket this
/// test runs itself once more with them.
#[test]
fn large_files_travel_in_pieces() {
    let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 17).map(|i| (i * 7 + i / 251) as u8).collect();
    let travels = |place: &str| {
        let bucket = Bucket::create(place).unwrap();
        let (mut pieces, mut back) = (0, Vec::new());
        bucket.write("files/large", bytes.len() as u64, &mut &bytes[..], &mut |_| pieces += 1).unwrap();
        assert_eq!(pieces, 3);
        let mut keep = |piece: &[u8]| {
            back.extend_from_slice(piece);
            Ok(())
        };
        assert!(bucket.read("files/large", bytes.len() as u64, &mut keep).unwrap().is_some());
        assert!(back == bytes);
        assert_eq!(
            bucket.list("files").unwrap().into_iter().collect::<Vec<_>>(),
            [("large".to_owned(), bytes.len() as u64)]
        );
        let short = bucket.write("files/short", bytes.len() as u64 + 1, &mut &bytes[..], &mut |_| ());
        assert_eq!(short.unwrap_err().code(), "file", "a source that ends early");
        assert_eq!(bucket.list("files").unwrap().len(), 1, "leaves nothing");
        bucket.remove("files/large").unwrap();
        bucket.remove("files/large").unwrap();
        assert!(bucket.list("files").unwrap().is_empty());
        assert!(bucket.read("files/large", 1, &mut |_| Ok(())).unwrap().is_none());
    };
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return travels("s3://my-bucket/some/where/");
    }
    let folder = tempfile::tempdir().unwrap();
    travels(word(folder.path()));
    multi(async {
        let server = S3Server::for_backups();
        let mut again = Command::new(std::env::current_exe().unwrap());
        server.known_to(again.args(["--exact", "backup::large_files_travel_in_pieces"]), "tester");
        let output = tokio::task::block_in_place(|| again.output().unwrap());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        assert!(server.keys().is_empty());
    });
}
