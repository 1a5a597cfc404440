//! A node with the grown folder as a process, and clients that ask it over HTTP.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::folder::Folder;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Connections that ask, each as soon as it has its answer.
pub(crate) const CONNECTIONS: usize = 2;
/// How long they ask for the same paths.
const ASKING: Duration = Duration::from_secs(5);

/// A node as a process of its own; dropping it kills it.
pub(crate) struct RunningNode {
    pub(crate) child: Child,
    pub(crate) query: u16,
    pub(crate) submit: u16,
}

impl RunningNode {
    /// Starts it, and waits until it says that it is ready: in seconds.
    pub(super) fn start(folder: &Folder) -> (Self, f64) {
        let (config, query, submit) = folder.configure();
        let begun = Instant::now();
        let mut node = Self::spawn(&config, &folder.path.join("node.log"), (query, submit));
        node.ready();
        (node, (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3)
    }

    /// Starts it with a configuration that has these ports, without waiting for it.
    pub(crate) fn spawn(config: &Path, log: &Path, (query, submit): (u16, u16)) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["node", "--stop-with-stdin", "--config"]).arg(config);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, query, submit }
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(&mut self) {
        let begun = Instant::now();
        while !self.is_ready() {
            assert!(self.child.try_wait().unwrap().is_none(), "the node ended: see its log");
            assert!(begun.elapsed() < START_TIMEOUT, "the node does not become ready");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.query) else { return false };
        let answer = connection.get("/api/status").and_then(|body| Ok(serde_json::from_slice::<Value>(&body)?));
        answer.is_ok_and(|status| status["ready"] == true)
    }

    /// Processor time of its threads so far, by what they are called without their numbers; of those that have ended,
    /// nothing.
    pub(crate) fn cpu(&self) -> BTreeMap<String, Duration> {
        let mut all: BTreeMap<String, Duration> = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap() {
            let read = |file| fs::read_to_string(thread.as_ref().unwrap().path().join(file));
            // It may end while it is read.
            let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
            let name = name.trim().trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
            let nanos = times.split(' ').next().unwrap().parse().unwrap();
            *all.entry(name.to_owned()).or_default() += Duration::from_nanos(nanos);
        }
        all
    }

    /// As an operator stops it.
    pub(crate) fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "see its log");
    }

    /// Asks for paths in turn, over all connections, again and again.
    pub(crate) fn ask(&self, paths: &[String]) -> Value {
        let begun = Instant::now();
        self.asked(paths, &|number| {
            let own = paths.iter().cycle().skip(number * paths.len() / CONNECTIONS);
            Box::new(own.take_while(move |_| begun.elapsed() < ASKING))
        })
    }

    /// Asks for each path once.
    pub(crate) fn ask_once(&self, paths: &[String]) -> Value {
        self.asked(paths, &|number| Box::new(paths.iter().skip(number).step_by(CONNECTIONS)))
    }

    /// Asks for what `of` gives for each connection; says how long answers took.
    fn asked<'p>(&self, paths: &'p [String], of: &(dyn Fn(usize) -> Asked<'p> + Sync)) -> Value {
        let mut first = Connection::open(self.query).unwrap();
        let first = first.get(&paths[paths.len() / 2]).unwrap();
        let shown: Value = serde_json::from_slice(&first).unwrap_or_default();
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
        let times: Vec<Duration> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || asker(number))).collect();
            askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        let mut figures = spread(times, seconds);
        if let Value::Object(shown) = &shown["reputation"] {
            figures["attestations"] = shown["attestation_count"].clone();
        }
        figures
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

/// How long answers took, which came in so many seconds.
pub(crate) fn spread(mut times: Vec<Duration>, seconds: f64) -> Value {
    times.sort_unstable();
    let millis = |part: usize| (times[times.len() * part / 100].as_secs_f64() * 1e5).round() / 100.0;
    json!({"p50_ms": millis(50), "p99_ms": millis(99), "per_second": (times.len() as f64 / seconds).round()})
}

/// A connection over which requests follow one another.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    client: u8,
}

impl Connection {
    pub(crate) fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        Ok(Self { stream: BufReader::new(stream), client: 0 })
    }

    /// As the proxy of the client with this number: another block of addresses, for each of which a node handles so many
    /// submissions at a time.
    pub(crate) fn of_client(self, client: u8) -> Self {
        Self { client, ..self }
    }

    /// The body of the answer, which must be a 200.
    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<Vec<u8>> {
        write!(self.stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        self.answer()
    }

    /// The lines of a stream, once it has begun.
    pub(crate) fn stream(mut self, path: &str) -> std::io::Result<impl BufRead> {
        write!(self.stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut line = String::new();
        // The first event says that it has begun.
        while !line.starts_with("event: open") {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.stream)
    }

    /// Hands in an array of events: the answer, which must be a 200.
    pub(crate) fn submit(&mut self, body: &str) -> std::io::Result<Vec<u8>> {
        write!(
            self.stream.get_mut(),
            "POST /events HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 198.51.{}.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.client,
            body.len()
        )?;
        self.answer()
    }

    fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        let (mut length, mut line) = (0, String::new());
        self.stream.read_line(&mut line)?;
        let first = line.clone();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if first.starts_with("HTTP/1.1 200") {
            Ok(body)
        } else {
            Err(std::io::Error::other(format!("{first}{}", String::from_utf8_lossy(&body))))
        }
    }
}
