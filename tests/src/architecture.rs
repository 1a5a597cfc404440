//! The house rules that hold between crates and files, read from cargo and from the sources.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names of all crates that `package` needs at run time, itself included.
fn dependencies(package: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

/// Every Rust source below `folder`, or the one of that name, without its tests, with its path from the repository's root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        let files = if folder.is_file() { vec![folder] } else { children(&folder) };
        for path in files {
            if path.is_dir() {
                folders.extend(Some(path).filter(|path| !path.ends_with("tests")));
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                let text = std::fs::read_to_string(&path).unwrap();
                let (code, _) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
                found.push((name, code.to_owned()));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

/// The sources in which one of `words` stands outside comments.
fn naming(folders: &[&str], words: &[&str]) -> BTreeSet<String> {
    let code = |text: &str| {
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .any(|line| words.iter().any(|word| line.contains(word)))
    };
    let all = folders.iter().flat_map(|folder| sources(folder));
    all.filter(|(_, text)| code(text)).map(|(name, _)| name).collect()
}

#[test]
fn the_ledger_is_pure() {
    let needs = dependencies("fama-ledger");
    for forbidden in
        ["tokio", "libp2p", "rocksdb", "axum", "futures", "tracing", "getrandom", "rand", "fama-node", "fama-cli"]
    {
        assert!(!needs.contains(forbidden), "the ledger needs {forbidden}");
    }
    let lib = std::fs::read_to_string(root().join("ledger/src/lib.rs")).unwrap();
    assert!(lib.contains("#![no_std]"));
    for lint in ["clippy::float_arithmetic", "clippy::indexing_slicing", "clippy::arithmetic_side_effects"] {
        assert!(lib.contains(lint), "{lint} is denied");
    }
    let outside = [
        "std::fs",
        "std::net",
        "std::time",
        "std::env",
        "std::thread",
        "SystemTime",
        "Instant",
        "HashMap",
        "HashSet",
        "f32",
        "f64",
    ];
    assert_eq!(naming(&["ledger/src"], &outside), BTreeSet::new());
}

#[test]
fn crates_know_only_who_is_below_them() {
    let node = dependencies("fama-node");
    assert!(node.contains("fama-ledger") && !node.contains("fama-cli") && !node.contains("clap"));
    let reader = dependencies("fama-reader");
    assert!(reader.contains("fama-ledger") && reader.contains("fama-node") && !reader.contains("fama-cli"));
    assert!(!reader.contains("clap") && !reader.contains("indicatif"));
    let cli = dependencies("fama-cli");
    assert!(cli.contains("fama-ledger") && cli.contains("fama-node") && cli.contains("fama-reader"));
}

#[test]
fn only_the_inbox_folds() {
    let folding =
        naming(&["node/src"], &["Batch::begin", "fama_ledger::batch", "batch::replay", "fold::Fold", "Fold::new"]);
    let elsewhere: Vec<_> = folding.iter().filter(|name| !name.starts_with("node/src/inbox")).collect();
    assert_eq!(elsewhere, [] as [&String; 0]);
}

/// The query listener is safe on the internet: what it is made of cannot reach the inbox.
#[test]
fn only_the_operators_listener_reaches_the_inbox() {
    let reaching = naming(&["node/src/http", "node/src/http.rs"], &["inbox::", "Input"]);
    assert_eq!(reaching, BTreeSet::from(["node/src/http.rs".to_owned(), "node/src/http/governance.rs".to_owned()]));
    let http = std::fs::read_to_string(root().join("node/src/http.rs")).unwrap();
    let admin = http.find("pub fn admin(").unwrap();
    let app = http.split_once("pub struct App {").unwrap().1.split_once("\n}").unwrap().0;
    assert!(!app.contains("Input") && !app.contains("Sender"), "the state that the query listener has");
    assert!(http.find("governance::").unwrap() > admin, "its routes are the admin listener's");
}

#[test]
fn only_the_clock_reads_the_clock() {
    let clocks = naming(&["ledger/src", "node/src", "cli/src", "cli/reader/src"], &["SystemTime"]);
    assert_eq!(clocks, BTreeSet::from(["node/src/clock.rs".to_owned()]));
}

#[test]
fn only_the_codec_knows_the_binary_format() {
    let users = naming(
        &["ledger/src", "node/src", "cli/src", "cli/reader/src"],
        &["bincode::config", "encode_to_vec", "decode_from_slice"],
    );
    assert_eq!(users, BTreeSet::from(["ledger/src/codec.rs".to_owned()]));
}

#[test]
fn one_version_of_what_signs_hashes_and_encodes() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["k256", "ed25519-dalek", "blake3", "bincode", "libp2p", "libp2p-identity", "rocksdb"] {
        let versions = lock.matches(&format!("\nname = \"{name}\"\n")).count();
        assert_eq!(versions, 1, "{versions} versions of {name}");
    }
    assert!(lock.contains("name = \"bincode\"\nversion = \"2.0.1\""), "3.0 of bincode is a tombstone");
}
