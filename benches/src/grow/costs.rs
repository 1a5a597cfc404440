//! What a node with the grown folder costs: disk, memory, starts, and reads over HTTP.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fama_cli::synthetic::Shape;
use rocksdb::{DB, Options};
use serde_json::{Value, json};

use super::asking::{CONNECTIONS, RunningNode};
use super::folder::{Folder, OPERATOR};

/// Agents that are asked for in turn as typical ones, evenly spread over all ages.
const TYPICAL: u32 = 1_000;
/// Agents of which each is asked for once: nothing was made ready for them.
const ONCE: u32 = 20_000;
/// Pages of the explorer.
const PAGES: [&str; 7] =
    ["/", "/agent/{agent}", "/search?q=person-1", "/leaderboard", "/services", "/federation", "/live"];

/// Bytes on disk for each event: all, by kind of file, and of tables by family.
pub(super) fn disk(folder: &Folder, events: u64) -> Value {
    let (data, mut options) = (folder.data(), Options::default());
    // As the store writes them: without it, RocksDB would change its list of files, which crashes when it only reads.
    options.set_track_and_verify_wals_in_manifest(true);
    let mut families: BTreeMap<String, u64> = BTreeMap::new();
    if let Ok(names) = DB::list_cf(&options, &data) {
        let tables = DB::open_cf_for_read_only(&options, &data, &names, false).and_then(|db| db.live_files());
        for table in tables.unwrap() {
            *families.entry(table.column_family_name).or_default() += table.size as u64;
        }
    }
    let each = |bytes: u64| (bytes as f64 * 10.0 / events as f64).round() / 10.0;
    let all =
        |kinds: BTreeMap<String, u64>| Value::from_iter(kinds.into_iter().map(|(kind, bytes)| (kind, each(bytes))));
    json!({"bytes_per_event": each(bytes(&data)), "files": all(kinds(&data)), "tables": all(families)})
}

/// Bytes of all files below a folder.
pub(super) fn bytes(folder: &Path) -> u64 {
    kinds(folder).values().sum()
}

/// Bytes of all files below a folder by kind: RocksDB numbers its tables (`sst`) and write-ahead logs (`log`), and names other
/// files by a word. A file that is deleted meanwhile counts nothing.
fn kinds(folder: &Path) -> BTreeMap<String, u64> {
    let (mut kinds, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            let Ok(metadata) = file.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(file.path());
                continue;
            }
            let name = file.file_name().into_string().unwrap();
            let mut words = name.split(['.', '-']);
            let kind =
                if name.starts_with(|first: char| first.is_ascii_digit()) { words.next_back() } else { words.next() };
            let kind = kind.unwrap();
            *kinds.entry(kind.to_owned()).or_default() += metadata.len();
        }
    }
    kinds
}

/// Resident memory of a process, in bytes.
pub(super) fn memory(process: &str) -> u64 {
    status(process, "VmRSS:")
}

fn status(process: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Starts a node three times: on what loading left, after a clean stop, and after a kill. The last one is asked.
pub(super) fn of_node(folder: &Folder, shape: &Shape) -> Value {
    let (node, _) = RunningNode::start(folder);
    node.stop();
    let (node, clean) = RunningNode::start(folder);
    drop(node);
    let (node, killed) = RunningNode::start(folder);
    let pid = node.child.id().to_string();
    let started = memory(&pid);
    let (every, typical) = typical(shape);
    let (typical, most) = (node.ask(&typical), node.ask(&[agent(0)]));
    let step = (shape.identities / ONCE).max(1);
    let once = (0..shape.identities.min(ONCE)).map(|i| i * step).filter(|number| number % every != every / 2);
    let once = node.ask_once(&once.map(agent).collect::<Vec<_>>());
    // What an answer costs that is always the same.
    let fixed = node.ask(&["/api".to_owned()]);
    let pages = PAGES.map(|page| {
        // The agent of a page was not asked for before.
        let path = page.replace("{agent}", &format!("person-{}@{OPERATOR}", shape.identities / 3));
        (page.to_owned(), node.ask(&[path]))
    });
    let (asked, peak) = (memory(&pid), status(&pid, "VmHWM:"));
    node.stop();
    json!({
        "start_seconds": {"clean": clean, "killed": killed},
        "memory_bytes": {"started": started, "asked": asked, "peak": peak},
        "get_agent": {"connections": CONNECTIONS, "typical": typical, "most_attested": most, "once": once, "fixed": fixed},
        "pages": Value::from_iter(pages),
    })
}

fn agent(number: u32) -> String {
    format!("/api/agent/person-{number}@{OPERATOR}")
}

/// Paths of typical agents, and the distance between the numbers of two.
pub(super) fn typical(shape: &Shape) -> (u32, Vec<String>) {
    let every = (shape.identities / TYPICAL).max(1);
    (every, (0..shape.identities.min(TYPICAL)).map(|i| agent(i * every + every / 2)).collect())
}
