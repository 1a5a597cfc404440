//! What a node with the grown folder costs: disk, memory, starts, and reads over HTTP.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fama_cli::synthetic::Shape;
use rocksdb::{DB, Options};
use serde_json::{Value, json};

use super::folder::{Folder, OPERATOR};

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Connections that ask, each as soon as it has its answer.
const CONNECTIONS: usize = 2;
/// How long they ask for each kind of agent.
const ASKING: Duration = Duration::from_secs(5);
/// Agents that are asked for in turn as typical ones, evenly spread over all ages.
const TYPICAL: u32 = 1_000;
/// Agents of which each is asked for once: nothing was made ready for them.
const ONCE: u32 = 20_000;

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
    let every = (shape.identities / TYPICAL).max(1);
    let typical: Vec<u32> = (0..shape.identities.min(TYPICAL)).map(|i| i * every + every / 2).collect();
    let paths = |agents: &[u32]| -> Vec<String> {
        agents.iter().map(|agent| format!("/api/agent/person-{agent}@{OPERATOR}")).collect()
    };
    let (typical, most) = (node.ask(&paths(&typical)), node.ask(&paths(&[0])));
    let step = (shape.identities / ONCE).max(1);
    let once: Vec<u32> =
        (0..shape.identities.min(ONCE)).map(|i| i * step).filter(|agent| agent % every != every / 2).collect();
    let once = node.ask_once(&paths(&once));
    // What an answer costs that is always the same.
    let fixed = node.ask(&["/api".to_owned()]);
    let (asked, peak) = (memory(&pid), status(&pid, "VmHWM:"));
    node.stop();
    json!({
        "start_seconds": {"clean": clean, "killed": killed},
        "memory_bytes": {"started": started, "asked": asked, "peak": peak},
        "get_agent": {"connections": CONNECTIONS, "typical": typical, "most_attested": most, "once": once, "fixed": fixed},
    })
}

/// A node as a process of its own; dropping it kills it.
struct RunningNode {
    child: Child,
    query: u16,
}

impl RunningNode {
    /// Starts it, and waits until it says that it is ready: in seconds.
    fn start(folder: &Folder) -> (Self, f64) {
        let (config, query) = folder.configure();
        let log = File::options().create(true).append(true).open(folder.path.join("node.log")).unwrap();
        let begun = Instant::now();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["node", "--stop-with-stdin", "--config"]).arg(config);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut node = Self { child, query };
        while !node.is_ready() {
            assert!(node.child.try_wait().unwrap().is_none(), "the node ended: see node.log");
            assert!(begun.elapsed() < START_TIMEOUT, "the node does not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        (node, (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3)
    }

    fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.query) else { return false };
        let answer = connection.get("/api/status").and_then(|body| Ok(serde_json::from_slice::<Value>(&body)?));
        answer.is_ok_and(|status| status["ready"] == true)
    }

    /// As an operator stops it.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "see node.log");
    }

    /// Asks for paths in turn, over all connections, again and again.
    fn ask(&self, paths: &[String]) -> Value {
        let begun = Instant::now();
        self.asked(paths, &|number| {
            let own = paths.iter().cycle().skip(number * paths.len() / CONNECTIONS);
            Box::new(own.take_while(move |_| begun.elapsed() < ASKING))
        })
    }

    /// Asks for each path once.
    fn ask_once(&self, paths: &[String]) -> Value {
        self.asked(paths, &|number| Box::new(paths.iter().skip(number).step_by(CONNECTIONS)))
    }

    /// Asks for what `of` gives for each connection; says how long answers took.
    fn asked<'p>(&self, paths: &'p [String], of: &(dyn Fn(usize) -> Asked<'p> + Sync)) -> Value {
        let mut first = Connection::open(self.query).unwrap();
        let shown: Value = serde_json::from_slice(&first.get(&paths[paths.len() / 2]).unwrap()).unwrap();
        let asker = |number: usize| {
            let (mut connection, mut times) = (Connection::open(self.query).unwrap(), Vec::new());
            for path in of(number) {
                let asked = Instant::now();
                connection.get(path).unwrap();
                times.push(asked.elapsed());
            }
            times
        };
        let begun = Instant::now();
        let mut times: Vec<Duration> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || asker(number))).collect();
            askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        let millis = |part: usize| (times[times.len() * part / 100].as_secs_f64() * 1e5).round() / 100.0;
        json!({
            "attestations": shown["reputation"]["attestation_count"], "p50_ms": millis(50), "p99_ms": millis(99),
            "per_second": (times.len() as f64 / seconds).round(),
        })
    }
}

/// The paths that a connection asks for.
type Asked<'p> = Box<dyn Iterator<Item = &'p String> + 'p>;

impl Drop for RunningNode {
    fn drop(&mut self) {
        // It may have been stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection over which requests follow one another.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The body of the answer, which must be a 200.
    fn get(&mut self, path: &str) -> std::io::Result<Vec<u8>> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let (mut length, mut line) = (0, String::new());
        self.0.read_line(&mut line)?;
        let status = line.clone();
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        if status.starts_with("HTTP/1.1 200") { Ok(body) } else { Err(std::io::Error::other(status)) }
    }
}
