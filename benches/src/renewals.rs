//! What an idle federation costs, in which renewals are all that happens, and how old its proofs are.
//!
//! Real nodes in this process, with a shorter heartbeat than the recommended one: a line of the tables says which. Bytes
//! are those of the loopback interface, headers and all: run this alone, or in a network namespace of its own.
//! Sixty-four nodes are too many for one machine, so their line is computed from frontiers of that size.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::codec;
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::{Domain, TreeRoot};
use fama_ledger::key::Curve;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Endpoints, Genesis, Manifest, Operator, Policy};
use fama_ledger::profile::{ProfileProof, Proven, Required};
use fama_ledger::replica::{FRONTIER_MILLIS, Overrides};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;
use fama_node::config::{
    AccessSettings, AdmissionSettings, Config, DomainSettings, Listener, LogSettings, NetworkSettings, ScrubSettings,
    StoreSettings, Verify,
};
use fama_node::network::client::Client;
use fama_node::node::{self, Addresses};
use fama_node::wire::{
    CosignedHead, Frontier, LogFrontier, RESPONSE_BYTES_MAX, SignedHead, Submission, SubmitRequest, SubmitResult,
    SyncRequest, SyncResponse,
};
use fama_node::{clock, wire};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// The heartbeat of the measured federations, unless `FAMA_BENCH_HEARTBEAT_MS` says otherwise.
const HEARTBEAT_MILLIS: u64 = 5_000;
/// How many heartbeats each measurement takes.
const HEARTBEATS: u32 = 6;
/// How long anything may take to begin.
const PATIENCE: Duration = Duration::from_secs(120);

/// Prints both tables.
pub(crate) fn run() {
    let heartbeat = std::env::var("FAMA_BENCH_HEARTBEAT_MS").map_or(HEARTBEAT_MILLIS, |text| text.parse().unwrap());
    let computed: Vec<Cost> = [4, 16, 64].map(|n| Cost::computed(n, heartbeat)).into();
    let mut costs = Vec::new();
    let mut lags = Vec::new();
    for n in [4, 16] {
        let (cost, [idle, busy]) = measured(n, heartbeat);
        costs.push(cost);
        lags.push((n, "idle", idle));
        lags.push((n, "busy", busy));
    }
    println!("\nan idle federation, each node, every second; heartbeat {heartbeat} ms");
    println!("{:>9}  {:9} {:>8} {:>8} {:>10} {:>9}", "operators", "", "messages", "checks", "KB sent", "CPU");
    for cost in computed.iter().chain(&costs) {
        cost.print();
    }
    println!("\nage of a profile proof, one owner dead; heartbeat {heartbeat} ms");
    println!(
        "{:>9}  {:6} {:>7} {:>10} {:>10} {:>17}",
        "operators", "", "proofs", "median", "oldest", "oldest/heartbeat"
    );
    for (n, what, mut ages) in lags {
        ages.sort_by(f64::total_cmp);
        let (median, oldest) = (ages[ages.len() / 2], ages[ages.len() - 1]);
        let ratio = oldest * 1_000.0 / heartbeat as f64;
        println!("{n:>9}  {what:6} {:>7} {median:>8.1} s {oldest:>8.1} s {ratio:>17.2}", ages.len());
    }
}

/// What a node of an idle federation sends, checks and computes, every second.
struct Cost {
    operators: usize,
    how: &'static str,
    /// Frontiers asked for and frontiers answered; not counted at real nodes.
    messages: Option<f64>,
    /// Signatures of renewed cosignatures.
    checks: f64,
    bytes: f64,
    /// Processor time; of a computed cost, that of decoding frontiers and checking signatures alone.
    seconds: f64,
}

impl Cost {
    fn print(&self) {
        let Self { operators, how, messages, checks, bytes, seconds } = self;
        let (messages, bytes) = (messages.map_or("-".to_owned(), |all| format!("{all:.1}")), bytes / 1e3);
        let seconds = seconds * 100.0;
        println!("{operators:>9}  {how:9} {messages:>8} {checks:>8.1} {bytes:>10.1} {seconds:>7.1} %");
    }

    /// Every node asks every other for its frontier.
    fn computed(n: usize, heartbeat: u64) -> Self {
        let others = (n - 1) as f64;
        let (frontier, manifest) = frontier(n);
        let encoded = codec::encode(&SyncResponse::Frontier(frontier.clone()));
        let asked = codec::encode(&SyncRequest::Frontier(Frontier::nothing(&manifest, clock::now()))).len();
        let decode = shortest(|| codec::decode::<SyncResponse>(&encoded, RESPONSE_BYTES_MAX).unwrap());
        let one = &frontier.logs[0].cosigned[0];
        let checkpoint = Checkpoint { origin: manifest.origin(&frontier.logs[0].log), head: one.signed.head };
        let key = &manifest.operators()[0].node_key;
        let check = shortest(|| one.cosignature.verify(&checkpoint, key).unwrap());
        let rounds = 1_000.0 / FRONTIER_MILLIS as f64;
        // One of each pair of a log and another operator, once a heartbeat.
        let checks = n as f64 * others * 1_000.0 / heartbeat as f64;
        Self {
            operators: n,
            how: "computed",
            messages: Some(2.0 * others * rounds),
            checks,
            bytes: others * rounds * (encoded.len() + asked) as f64,
            seconds: others * rounds * decode.as_secs_f64() + checks * check.as_secs_f64(),
        }
    }
}

/// A frontier of `n` logs, each cosigned by all, with true signatures in the first place.
fn frontier(n: usize) -> (Frontier, Manifest) {
    let manifest = manifest(&ports(n), Policy::recommended(n), |_| Endpoints::default());
    let cosigned = |log: usize, by: usize| {
        let origin = manifest.origin(&manifest.operators()[log].log());
        let checkpoint = Checkpoint { origin, head: Head { size: 1_000_000, root: TreeRoot([7; 32]) } };
        let owner = key(log);
        let signed = SignedCheckpoint::sign(checkpoint.clone(), owner.ed25519().unwrap());
        let (signed, operator, seconds) = (SignedHead::of(&signed), domain(by), clock::now().0 / 1_000);
        let cosignature = Cosignature::sign(&checkpoint, operator, key(by).ed25519().unwrap(), seconds);
        CosignedHead { signed, cosignature }
    };
    let log = |log: usize| {
        let first = cosigned(log, 0);
        let by = |by: usize| {
            let mut one = first.clone();
            one.cosignature.operator = domain(by);
            one
        };
        LogFrontier {
            log: manifest.operators()[log].log(),
            size: 1_000_000,
            newest: Some(first.signed.clone()),
            cosigned: (0..n).map(by).collect(),
            equivocation: None,
            certificate: None,
        }
    };
    let frontier = Frontier { logs: (0..n).map(log).collect(), ..Frontier::nothing(&manifest, clock::now()) };
    (frontier, manifest)
}

fn shortest<T>(mut work: impl FnMut() -> T) -> Duration {
    let timed = |_| {
        let begun = Instant::now();
        std::hint::black_box(work());
        begun.elapsed()
    };
    (0..20).map(timed).min().unwrap()
}

/// What an idle federation of real nodes costs, and the ages of proofs while one of its owners is dead, idle and busy.
fn measured(n: usize, heartbeat: u64) -> (Cost, [Vec<f64>; 2]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut net = LiveFederation::start(&runtime, n, heartbeat);
    let window = Duration::from_millis(heartbeat) * HEARTBEATS;
    net.register(&runtime, 0, "measured");
    wait("all logs are proven", || net.proven().is_some());
    std::thread::sleep(Duration::from_millis(heartbeat));
    let cost = net.cost(&runtime, window);
    net.stop(&runtime, n - 1);
    std::thread::sleep(Duration::from_millis(2 * heartbeat));
    let idle = net.ages(window);
    let (over, net_ref) = (Arc::new(AtomicBool::new(false)), &net);
    let busy = std::thread::scope(|scope| {
        for home in 0..n - 1 {
            let (over, runtime) = (Arc::clone(&over), &runtime);
            scope.spawn(move || {
                for i in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    net_ref.register(runtime, home, &format!("busy-{i}"));
                }
            });
        }
        let busy = net.ages(window);
        over.store(true, Ordering::Relaxed);
        busy
    });
    (0..n - 1).for_each(|i| net.stop(&runtime, i));
    (cost, [idle, busy])
}

pub(crate) fn domain(i: usize) -> Domain {
    format!("op-{i}.example").parse().unwrap()
}

pub(crate) fn key(i: usize) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, blake3::hash(&i.to_le_bytes()).as_bytes()).unwrap()
}

/// Free ports for TCP and UDP, outside the range that the system gives to outgoing connections.
pub(crate) fn ports(n: usize) -> Vec<u16> {
    let free = |port: &u16| {
        let at = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
    };
    (20_000..32_000).filter(free).take(n).collect()
}

pub(crate) fn addresses(port: u16) -> Vec<String> {
    vec![format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]
}

pub(crate) fn manifest(ports: &[u16], policy: Policy, endpoints: impl Fn(usize) -> Endpoints) -> Manifest {
    let operator = |(i, port): (usize, &u16)| Operator {
        name: domain(i),
        node_key: key(i).ed25519().unwrap().verifying_key(),
        governance_key: key(1_000 + i).ed25519().unwrap().verifying_key(),
        generation: 1,
        begins: Millis::FIRST,
        addresses: addresses(*port),
        endpoints: endpoints(i),
    };
    let operators = ports.iter().enumerate().map(operator).collect();
    let text = Genesis { name: "measured".into(), policy, operators }.text().unwrap();
    let line = |i| sign(&text, domain(i).as_str(), key(1_000 + i).ed25519().unwrap());
    let signatures = (0..ports.len()).map(line).collect();
    Manifest::parse(&SignedNote { text, signatures }.to_string()).unwrap()
}

pub(crate) struct LiveNode {
    pub(crate) query: SocketAddr,
    pub(crate) auth: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl LiveNode {
    pub(crate) fn stop(self, runtime: &Runtime) {
        self.stop.send(()).unwrap();
        runtime.block_on(self.ended).unwrap();
    }
}

/// Nodes in this process, on loopback ports of their own.
struct LiveFederation {
    manifest: Arc<Manifest>,
    ports: Vec<u16>,
    nodes: Vec<Option<LiveNode>>,
    _dir: tempfile::TempDir,
}

impl LiveFederation {
    fn start(runtime: &Runtime, n: usize, heartbeat: u64) -> Self {
        let (ports, dir) = (ports(n), tempfile::tempdir().unwrap());
        let policy = Policy { heartbeat_ms: heartbeat, ..Policy::recommended(n) };
        let manifest = Arc::new(manifest(&ports, policy, |_| Endpoints::default()));
        let start = |i: usize| Some(runtime.block_on(launch(config(&manifest, dir.path(), i, ports[i]))));
        let nodes: Vec<_> = (0..n).map(start).collect();
        let net = Self { manifest, nodes, _dir: dir, ports };
        for node in net.nodes.iter().flatten() {
            wait("a node writes", || {
                let status = get(node.query, "/api/status");
                status.contains("\"fresh\":true") && status.contains("\"waiting\":null")
            });
        }
        net
    }

    fn stop(&mut self, runtime: &Runtime, i: usize) {
        self.nodes[i].take().unwrap().stop(runtime);
    }

    async fn client(&self, i: usize) -> Client {
        Client::connect(self.manifest.federation(), addresses(self.ports[i])[0].parse().unwrap()).await.unwrap()
    }

    /// Registers somebody in the home of operator `i`.
    fn register(&self, runtime: &Runtime, i: usize, name: &str) {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).unwrap();
        let agent = SecretKey::from_seed(Curve::Ed25519, blake3::hash(&nonce).as_bytes()).unwrap();
        let (home, name) = (domain(i), name.parse().unwrap());
        let action = Action::Register { home, name, key: agent.public(), next: None, note: None };
        let (federation, created) = (self.manifest.federation(), clock::now());
        let event = Event { federation, action, created, nonce: Nonce(nonce) };
        let signature = agent.sign(event.text().as_bytes());
        let signed = SignedEvent { event, signer: agent.public(), signature, countersignature: None };
        let submissions = vec![Submission { signed, note: None, invite: None, recovered: None }];
        runtime.block_on(async {
            let client = self.client(i).await;
            let answer = client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap();
            client.close().await;
            assert!(matches!(answer.0[0], SubmitResult::Accepted(_)), "{answer:?}");
        });
    }

    /// A verified proof of the first node, of all logs.
    fn proven(&self) -> Option<Proven> {
        let query = self.nodes[0].as_ref().unwrap().query;
        let proof: ProfileProof = get(query, "/api/agent/measured@op-0.example/proof").parse().ok()?;
        let (question, now) = (proof.question.clone(), clock::now().0 / 1_000);
        let required = Required { question, max_age_seconds: 3_600, missing_max: 0, now };
        proof.verify(&self.manifest, &required).ok()
    }

    /// Ages of proofs in seconds, four every second. A proof that cannot be had counts as one of an hour.
    fn ages(&self, window: Duration) -> Vec<f64> {
        let (mut ages, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < window {
            let as_of = self.proven().and_then(|proven| proven.as_of()).unwrap_or_default();
            let age = clock::now().0 as f64 / 1e3 - as_of as f64;
            ages.push(age.min(3_600.0));
            std::thread::sleep(Duration::from_millis(250));
        }
        ages
    }

    /// Of each node, every second. Renewals are counted by looking at the first node's frontier.
    fn cost(&self, runtime: &Runtime, window: Duration) -> Cost {
        let (n, client) = (self.nodes.len(), runtime.block_on(self.client(0)));
        let ask = || {
            let ours = Frontier::nothing(&self.manifest, clock::now());
            let answer = runtime.block_on(client.sync(SyncRequest::Frontier(ours))).unwrap();
            let SyncResponse::Frontier(frontier) = answer else { panic!("{answer:?}") };
            let of_log =
                |log: wire::LogFrontier| log.cosigned.into_iter().map(move |one| (log.log.clone(), one.cosignature));
            frontier.logs.into_iter().flat_map(of_log).collect::<Vec<_>>()
        };
        let own = domain(0);
        let (begun, bytes, seconds) = (Instant::now(), loopback(), processor());
        let (mut known, mut renewed) = (ask(), 0);
        while begun.elapsed() < window {
            std::thread::sleep(Duration::from_millis(500));
            let now = ask();
            renewed += now.iter().filter(|one| one.1.operator != own && !known.contains(one)).count();
            known = now;
        }
        let (bytes, seconds) = (loopback() - bytes, processor() - seconds);
        let each = begun.elapsed().as_secs_f64() * n as f64;
        runtime.block_on(client.close());
        Cost {
            operators: n,
            how: "measured",
            messages: None,
            checks: renewed as f64 / begun.elapsed().as_secs_f64(),
            bytes: bytes as f64 / each,
            seconds: seconds / each,
        }
    }
}

pub(crate) fn config(manifest: &Arc<Manifest>, dir: &Path, i: usize, port: u16) -> Config {
    let local = Listener { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
    let listen = addresses(port).iter().map(|address| address.parse().unwrap()).collect();
    Config {
        data_dir: dir.join(domain(i).as_str()),
        manifest: Arc::clone(manifest),
        operator: Some(domain(i)),
        node_key: Arc::new(key(i)),
        next_node_key: None,
        namespace: Some(domain(i)),
        network: NetworkSettings { listen },
        query: local,
        access: AccessSettings::default(),
        submit: Listener { enabled: false, ..local },
        auth: None,
        admin: local,
        admission: AdmissionSettings::default(),
        verify: Verify::default(),
        scrub: ScrubSettings::default(),
        webhooks: Vec::new(),
        domains: DomainSettings { every_seconds: 0, ..DomainSettings::default() },
        storage: StoreSettings::default(),
        log: LogSettings::default(),
        overrides: Overrides::default(),
    }
}

pub(crate) async fn launch(config: Config) -> LiveNode {
    let ((stop, stopped), (told, addresses)) = (oneshot::channel::<()>(), oneshot::channel());
    let stopped = async {
        let _ = stopped.await;
    };
    let tell = |addresses: &Addresses| told.send((addresses.query.unwrap(), addresses.auth)).unwrap();
    let ended = tokio::spawn(async move { node::run(config, stopped, tell).await.unwrap() });
    let (query, auth) = addresses.await.unwrap();
    LiveNode { query, auth, stop, ended }
}

pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The body of an answer.
pub(crate) fn get(query: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(query).unwrap();
    let mut answer = String::new();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Bytes that the loopback interface has carried.
fn loopback() -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Processor time of this process, in seconds: Linux counts it in hundredths.
pub(crate) fn processor() -> f64 {
    let line = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = line.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
