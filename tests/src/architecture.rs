//! The house rules that hold between crates and files, read from cargo and from the sources.
use std::collections::{BTreeMap, BTreeSet};
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

/// The crates, lowest first; each knows all below it and none above.
#[test]
fn crates_know_only_who_is_below_them() {
    let names = ["fama-ledger", "fama-node", "fama-reader", "fama-cli"];
    for (at, name) in names.iter().enumerate() {
        let needs = dependencies(name);
        let known: Vec<&str> = names.iter().copied().filter(|other| other != name && needs.contains(*other)).collect();
        assert_eq!(known, names[..at], "{name}");
        assert_eq!(needs.contains("clap"), *name == "fama-cli", "{name}");
    }
}

/// The modules of `node/src` by floor, lowest first. Those of one floor do not know each other.
const FLOORS: [&[&str]; 13] = [
    &["domains", "verify", "wire"],
    &["clock", "config", "health"],
    &["metrics", "outgoing"],
    &["network", "store"],
    &["certified", "public", "scores"],
    &["shared"],
    &["replay", "scrub", "sponsored", "sync"],
    &["inbox"],
    &["submit"],
    &["http"],
    &["bridge"],
    &["state_sync"],
    &["node"],
];

/// Files that import each other since they are one thing: an engine and its simulation; opening and what it salvages.
const CIRCLES: [[&str; 2]; 2] = [["store/engine", "store/simulated"], ["store/open", "store/salvage"]];

/// Adds each path that begins at `text` to `found`, with groups in braces written out; gives what follows.
fn paths<'t>(mut path: Vec<&'t str>, mut text: &'t str, found: &mut Vec<Vec<&'t str>>) -> &'t str {
    loop {
        text = text.trim_start();
        if let Some(mut rest) = text.strip_prefix('{') {
            loop {
                rest = paths(path.clone(), rest, found).trim_start();
                match rest.strip_prefix(',') {
                    Some(next) => rest = next,
                    None => return rest.strip_prefix('}').unwrap_or(rest),
                }
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        path.extend(Some(name).filter(|name| !name.is_empty()));
        match rest.strip_prefix("::") {
            Some(next) => text = next,
            None => {
                found.push(path);
                let rest = rest.strip_prefix('*').unwrap_or(rest).trim_start();
                let Some(alias) = rest.strip_prefix("as ") else { return rest };
                return alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            }
        }
    }
}

/// Which files of `node/src` each one names by a path from the crate's root, its parent or itself. What a module
/// names of its own children is left out: it declares them.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let name = |path: &str| path.strip_prefix("node/src/").unwrap().strip_suffix(".rs").unwrap().to_owned();
    let files: BTreeMap<String, String> =
        sources("node/src").iter().map(|(path, text)| (name(path), text.clone())).collect();
    let imported = |file: &String, text: &String| {
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        let mut found = Vec::new();
        for root in ["crate::", "super::", "self::"] {
            for (at, _) in code.match_indices(root) {
                let before = code[..at].chars().next_back();
                if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                    paths(Vec::new(), &code[at..], &mut found);
                }
            }
        }
        let of = |path: &Vec<&str>| {
            let ups = path.iter().take_while(|part| **part == "super").count();
            let mut whole: Vec<&str> = if path[0] == "crate" { Vec::new() } else { file.split('/').collect() };
            whole.truncate(whole.len() - ups);
            whole.extend(&path[ups.max(usize::from(ups == 0))..]);
            let mut name = whole.join("/");
            while !name.is_empty() && !files.contains_key(&name) {
                name.truncate(name.rfind('/').unwrap_or(0));
            }
            Some(name).filter(|name| !name.is_empty() && name != file)
        };
        found.iter().filter_map(of).collect()
    };
    files.iter().map(|(file, text)| (file.clone(), imported(file, text))).collect()
}

#[test]
fn a_node_imports_only_downwards() {
    let floor = |file: &str| {
        let module = file.split('/').next().unwrap();
        let floor = FLOORS.iter().position(|floor| floor.contains(&module));
        floor.unwrap_or_else(|| panic!("{module} has no floor: add it to the list"))
    };
    let imports = imports();
    for (file, imported) in imports.iter().filter(|(file, _)| *file != "lib") {
        let (module, floor_here) = (file.split('/').next(), floor(file));
        for other in imported.iter().filter(|other| other.split('/').next() != module) {
            assert!(floor(other) < floor_here, "{file} imports {other}");
        }
    }
    for module in FLOORS.iter().copied().flatten() {
        assert!(imports.contains_key(*module), "there is no {module}");
    }
    assert!(
        imports["bridge/fetch"].is_superset(&["bridge", "inbox", "wire"].map(str::to_owned).into()),
        "imports are read"
    );
}

#[test]
fn files_of_a_node_import_no_circles() {
    let imports = imports();
    let reached = |file: &String| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![file]);
        while let Some(next) = open.pop() {
            open.extend(imports[next].iter().filter(|other| reached.insert((*other).clone())));
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = imports.keys().map(|file| (file, reached(file))).collect();
    let circle = |file: &String| -> BTreeSet<String> {
        reached[file].iter().filter(|other| reached[other].contains(file)).cloned().collect()
    };
    let circles: BTreeSet<BTreeSet<String>> = imports.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    assert_eq!(circles, CIRCLES.map(|circle| circle.map(str::to_owned).into()).into());
}

/// The inbox folds what enters the node. What was in a log before is folded again in one other place, below it: for
/// the inbox, where other nodes wrote it, and for checks, rebuilds and audits, which no node is running for.
#[test]
fn only_the_inbox_folds() {
    let beyond = |words: &[&str], allowed: &[&str]| -> Vec<String> {
        let found = naming(&["node/src"], words).into_iter();
        found.filter(|name| !allowed.iter().any(|place| name.starts_with(place))).collect()
    };
    let (inbox, replay) = ("node/src/inbox", "node/src/replay");
    assert_eq!(beyond(&["Batch::begin", "fold::Fold", "Fold::new"], &[inbox]), [""; 0]);
    assert_eq!(beyond(&["fama_ledger::batch", "batch::replay"], &[inbox, replay]), [""; 0]);
    assert_eq!(beyond(&[".commit(&"], &[inbox, replay]), [""; 0]);
}

/// The query listener is safe on the internet: what it is made of cannot reach the inbox.
#[test]
fn only_the_operators_listener_reaches_the_inbox() {
    let reaching = naming(&["node/src/http", "node/src/http.rs"], &["inbox::", "Input"]);
    let listener = ["node/src/http.rs", "node/src/http/governance.rs", "node/src/http/redact.rs"];
    assert_eq!(reaching, listener.map(str::to_owned).into());
    let http = std::fs::read_to_string(root().join("node/src/http.rs")).unwrap();
    let admin = http.find("pub fn admin(").unwrap();
    let app = http.split_once("pub struct App {").unwrap().1.split_once("\n}").unwrap().0;
    assert!(!app.contains("Input") && !app.contains("Sender"), "the state that the query listener has");
    for routes in ["governance::", "redact::"] {
        assert!(http.find(routes).unwrap() > admin, "its routes are the admin listener's");
    }
    let shared = naming(&["node/src/shared.rs"], &["inbox::", "Input", "Sender"]);
    assert_eq!(shared, BTreeSet::new(), "what that state shares with the rest of the node");
    assert_eq!(naming(&["node/src/http", "node/src/http.rs"], &["network::"]), BTreeSet::new(), "nor peers");
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
