//! A federation under attack: peers that flood, stall, lie and never read, and clients that never finish. Its memory
//! stays bounded, honest events still become final, and honest queries are still answered.
//! A short run is part of the tests; `FAMA_HOSTILE_SECONDS` makes a longer one. Each node is a separate process, of the
//! program that `FAMA_HOSTILE_PROGRAM` names or of this build. There are three attacks: strangers against one node of
//! four, here; one operator of four with silent peers against the other three, in `hostile/operator.rs`; and ten thousand
//! requests over HTTP against one node, in `hostile/crowd.rs`.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fama_cli::federation::{self, Created, FederationPlan, OperatorPlan};
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::{Domain, EventId};
use fama_ledger::key::Curve;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Endpoints, Manifest, Policy};
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_node::network::ClientError;
use fama_node::network::client::Client;
use fama_node::wire::{Submission, SubmitRequest, SubmitResult};
use fama_tests::{DOMAINS, domain};
use libp2p::Multiaddr;

use crate::cli::program;
use crate::federation::{eventually, free_ports, get, multi, signed};

mod clients;
mod crowd;
mod datagrams;
mod forwards;
mod operator;
mod peers;
mod silent;

use peers::{AttackKind, TransportKind};

/// Shortest duration of the attack, unless `FAMA_HOSTILE_SECONDS` says otherwise.
const SECONDS: u64 = 8;
/// Most resident memory of a node at any time, in KiB.
const RESIDENT_KIB_MAX: u64 = 512 << 10;
/// Fewest honest events and queries: the attack continues until they are done.
const HONEST_MIN: usize = 3;
/// How long an honest event may take to get a receipt, and then to become final, and an honest query to get its
/// answer: under attack, on a machine whose few cores also run the attackers.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this time a client gives up a query and asks again.
const ANSWER: Duration = Duration::from_secs(5);
/// Entries of the attacked log before the attack: enough that reading them never ends.
const ENTRIES: u64 = 2_048;

/// A node in a process of its own.
struct NodeProcess {
    child: Child,
    query: SocketAddr,
    admin: SocketAddr,
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // A process that ended by itself has failed the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl NodeProcess {
    /// A line of the process's `/proc` status, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// What attackers and honest peers and clients know of one attacked node.
pub(crate) struct World {
    manifest: Manifest,
    /// The attacked node's operator and home.
    home: Domain,
    /// The attacked node's address for peers; `query` is the one for clients.
    p2p: SocketAddr,
    query: SocketAddr,
    ends: Instant,
    over: AtomicBool,
    /// The attacked log's head before the attack.
    head: OnceLock<Head>,
    /// The attacked node's folder.
    folder: PathBuf,
}

impl World {
    /// The world in which this operator's node is attacked, for as long as the attack lasts from now on.
    fn new(manifest: &Manifest, (operator, folder): &(OperatorPlan, PathBuf)) -> Self {
        Self {
            manifest: manifest.clone(),
            home: operator.domain.clone(),
            p2p: SocketAddr::from((Ipv4Addr::LOCALHOST, operator.port)),
            query: operator.query,
            ends: Instant::now() + Duration::from_secs(seconds()),
            over: AtomicBool::new(false),
            head: OnceLock::new(),
            folder: folder.clone(),
        }
    }

    /// Whether the attack is still running.
    fn on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Whether an attack that struck so often is still to continue: on a busy machine its first strike may come late.
    fn wants(&self, struck: u64) -> bool {
        self.on() || struck == 0 && Instant::now() < self.ends + PATIENCE
    }

    fn registration(&self, name: &str) -> (EventId, Submission) {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let key = SecretKey::from_seed(Curve::Ed25519, &seed).unwrap();
        self.register(name, &key)
    }

    fn register(&self, name: &str, key: &SecretKey) -> (EventId, Submission) {
        let (home, name) = (self.home.clone(), name.parse().unwrap());
        let event = self.event(Action::Register { home, name, key: key.public(), next: None, note: None });
        (event.id(), signed(event, key))
    }

    fn event(&self, action: Action) -> Event {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).unwrap();
        Event { federation: self.manifest.federation(), action, created: clock::now(), nonce: Nonce(nonce) }
    }

    fn address(&self, over: TransportKind) -> Multiaddr {
        let (ip, port) = (self.p2p.ip(), self.p2p.port());
        let text = match over {
            TransportKind::Tcp => format!("/ip4/{ip}/tcp/{port}"),
            TransportKind::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
        };
        text.parse().unwrap()
    }

    async fn client(&self) -> Result<Client, ClientError> {
        Client::connect(self.manifest.federation(), self.address(TransportKind::Tcp)).await
    }

    /// Submits until it has a receipt; returns how long that took.
    async fn accepted(&self, client: &mut Option<Client>, submission: &Submission) -> Duration {
        let (begun, mut last) = (Instant::now(), String::new());
        loop {
            assert!(begun.elapsed() < PATIENCE, "no receipt in {PATIENCE:?}, at last: {last}");
            let Some(connected) = &client else {
                match self.client().await {
                    Ok(connected) => *client = Some(connected),
                    Err(error) => last = format!("not connected: {error}"),
                }
                continue;
            };
            let request = SubmitRequest { forwarded: false, submissions: vec![submission.clone()] };
            match connected.submit(request).await.map(|mut response| response.0.pop()) {
                Ok(Some(SubmitResult::Accepted(_))) => return begun.elapsed(),
                Ok(Some(SubmitResult::Refused(refusal))) => {
                    assert!(refusal.retry_after.is_some(), "{refusal:?}");
                    last = refusal.code;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => {
                    last = format!("not answered: {other:?}");
                    *client = None;
                }
            }
        }
    }

    async fn is_final(&self, event: EventId) -> Duration {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "not final in {PATIENCE:?}");
            let answer = clients::get(self.query, &format!("/api/event/{event}")).await;
            if answer.is_ok_and(|answer| answer["positions"][0]["final"] == true) {
                return begun.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn seconds() -> u64 {
    std::env::var("FAMA_HOSTILE_SECONDS").map_or(SECONDS, |text| text.parse().unwrap())
}

/// So many operators in a folder, with their seats and folders.
fn operators(count: usize) -> (tempfile::TempDir, Manifest, Vec<(OperatorPlan, PathBuf)>) {
    let (dir, ports) = (tempfile::tempdir().unwrap(), free_ports(3 * count));
    let http = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let operator = |(i, ports): (usize, &[u16])| OperatorPlan {
        domain: domain(DOMAINS[i]),
        host: "127.0.0.1".into(),
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        port: ports[0],
        query: http(ports[1]),
        admin: http(ports[2]),
        endpoints: Endpoints::default(),
    };
    let operators = ports.chunks(3).enumerate().map(operator).collect();
    let plan = FederationPlan { name: "hostile".into(), operators, policy: Policy::recommended(count) };
    let Created { manifest, folders, .. } = federation::create(&plan, dir.path()).unwrap();
    (dir, manifest, folders)
}

fn spawn(folders: &[(OperatorPlan, PathBuf)]) -> Vec<NodeProcess> {
    folders.iter().map(start).collect()
}

fn start((operator, folder): &(OperatorPlan, PathBuf)) -> NodeProcess {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(std::env::var_os("FAMA_HOSTILE_PROGRAM").map_or_else(program, PathBuf::from));
    command.args(["node", "--config"]).arg(Created::config(folder));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    NodeProcess { child, query: operator.query, admin: operator.admin }
}

async fn ready(query: SocketAddr) {
    eventually("the node writes", || async {
        match clients::get(query, "/api/status").await {
            Ok(status) if status["fresh"] == true && status["waiting"].is_null() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Gives the attacked log its first entries.
async fn fill(world: &World) {
    let (client, begun) = (world.client().await.unwrap(), Instant::now());
    for part in 0..ENTRIES / 256 {
        let submissions: Vec<_> = (0..256).map(|i| world.registration(&format!("first-{part}-{i}")).1).collect();
        let response = client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap();
        assert!(response.0.iter().all(|result| matches!(result, SubmitResult::Accepted(_))));
    }
    client.close().await;
    say(format!("{ENTRIES} entries in {:?}", begun.elapsed()));
}

/// How long honest clients had to wait, for each kind of answer.
#[derive(Default)]
struct HonestTraffic {
    receipts: Vec<Duration>,
    finals: Vec<Duration>,
    answers: Vec<Duration>,
}

/// One attack at a time, also where tests share a process: each is measured.
fn alone() -> MutexGuard<'static, ()> {
    static ATTACK: Mutex<()> = Mutex::new(());
    ATTACK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn worst(all: &[Duration]) -> Duration {
    all.iter().max().copied().unwrap_or_default()
}

/// Registers again and again, sometimes over a new connection.
async fn agent(world: Arc<World>) -> HonestTraffic {
    let (mut honest, mut client) = (HonestTraffic::default(), None);
    while Instant::now() < world.ends || honest.receipts.len() < HONEST_MIN {
        if honest.receipts.len() % 8 == 7 {
            client = None;
        }
        let (id, submission) = world.registration(&format!("honest-{}", honest.receipts.len()));
        honest.receipts.push(world.accepted(&mut client, &submission).await);
        honest.finals.push(world.is_final(id).await);
    }
    honest
}

async fn reader(world: Arc<World>) -> HonestTraffic {
    let mut honest = HonestTraffic::default();
    while Instant::now() < world.ends || honest.answers.len() < HONEST_MIN {
        let begun = Instant::now();
        // A connection that had to make room for another is tried again, as any client would.
        while let Err(error) = clients::get(world.query, "/api/status").await {
            assert!(begun.elapsed() < PATIENCE, "no answer in {PATIENCE:?}: {error}");
        }
        honest.answers.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    honest
}

/// Runs on a thread of its own, so that it measures the node's delay and not that of the attackers' threads.
fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
}

#[allow(clippy::print_stdout, reason = "the figures")]
fn say(text: impl std::fmt::Display) {
    println!("hostile: {text}");
}

#[test]
fn a_federation_under_attack_stays_small_and_serves_the_honest() {
    let _alone = alone();
    multi(async {
        let (_dir, manifest, folders) = operators(4);
        let nodes = spawn(&folders);
        for node in &nodes {
            ready(node.query).await;
        }
        let mut world = World::new(&manifest, &folders[0]);
        fill(&world).await;
        let before = nodes[0].memory("VmHWM");
        world.ends = Instant::now() + Duration::from_secs(seconds());
        let world = Arc::new(world);

        let deeds = attack(&world).await;
        let (agent, reader) = (apart(agent(Arc::clone(&world))), apart(reader(Arc::clone(&world))));
        let (agent, reader) = (agent.await.unwrap(), reader.await.unwrap());
        world.over.store(true, Ordering::Relaxed);
        let during = nodes.iter().map(|node| node.memory("VmHWM")).collect::<Vec<_>>();
        let mut idle = Vec::new();
        for (what, deed) in deeds {
            let count = deed.await.unwrap();
            say(format!("{what}: {count}"));
            idle.extend((count == 0).then_some(what));
        }

        say(format!("peak before {before} KiB, during {during:?} KiB"));
        say(format!(
            "{} honest events, receipt within {:?}, final {:?} later; {} answers within {:?}",
            agent.receipts.len(),
            worst(&agent.receipts),
            worst(&agent.finals),
            reader.answers.len(),
            worst(&reader.answers)
        ));
        assert!(idle.is_empty(), "attacks that never struck: {idle:?}");
        assert!(during.iter().all(|peak| *peak < RESIDENT_KIB_MAX), "{during:?} KiB");
        afterwards(&world, &nodes).await;
    });
}

/// Begins all attacks; each returns how often it struck.
async fn attack(world: &Arc<World>) -> Vec<(&'static str, tokio::task::JoinHandle<u64>)> {
    let first = datagrams::first().await;
    let (old, largest) = (peers::old_gossip(world).await, peers::largest(world));
    let mut deeds = Vec::new();
    for (what, over, kind, peers) in [
        ("requests that stall", TransportKind::Tcp, AttackKind::Stall, 10),
        ("largest requests", TransportKind::Tcp, AttackKind::Largest(Arc::clone(&largest)), 3),
        ("answers never read", TransportKind::Tcp, AttackKind::Unread, 8),
        ("rubbish", TransportKind::Tcp, AttackKind::Rubbish, 3),
        ("giant frontiers", TransportKind::Tcp, AttackKind::Frontiers, 6),
        ("false frontiers", TransportKind::Tcp, AttackKind::LyingFrontiers, 6),
        ("old gossip", TransportKind::Tcp, AttackKind::Gossip(old), 3),
        ("false gossip", TransportKind::Tcp, AttackKind::FalseGossip, 3),
        ("streams that say nothing", TransportKind::Tcp, AttackKind::Streams, 6),
        ("valid registrations", TransportKind::Tcp, AttackKind::Registrations, 2),
        ("attestations by unknown issuers", TransportKind::Tcp, AttackKind::Unsponsored, 3),
        ("requests that stall, over QUIC", TransportKind::Quic, AttackKind::Stall, 5),
        ("largest requests, over QUIC", TransportKind::Quic, AttackKind::Largest(largest), 3),
        ("answers never read, over QUIC", TransportKind::Quic, AttackKind::Unread, 5),
        ("rubbish, over QUIC", TransportKind::Quic, AttackKind::Rubbish, 2),
        ("false gossip, over QUIC", TransportKind::Quic, AttackKind::FalseGossip, 2),
        ("streams that say nothing, over QUIC", TransportKind::Quic, AttackKind::Streams, 5),
    ] {
        deeds.push((what, tokio::spawn(peers::attack(Arc::clone(world), over, kind, peers))));
    }
    deeds.push(("connections left, over QUIC", tokio::spawn(datagrams::visits(Arc::clone(world)))));
    deeds.push(("half-open handshakes, over QUIC", tokio::spawn(datagrams::half_open(Arc::clone(world), first))));
    deeds.push(("datagrams that are not QUIC", tokio::spawn(datagrams::noise(Arc::clone(world)))));
    deeds.push(("half-open connections", tokio::spawn(peers::half_open(Arc::clone(world)))));
    deeds.push(("slow heads", tokio::spawn(clients::slow_heads(Arc::clone(world)))));
    deeds.push(("slow bodies", tokio::spawn(clients::slow_bodies(Arc::clone(world)))));
    deeds.push(("answers to clients never read", tokio::spawn(clients::unread(Arc::clone(world)))));
    deeds.push(("clients that hang up", tokio::spawn(clients::hangs_up(Arc::clone(world), "nobody@alpha.example"))));
    deeds.push(("malformed HTTP", tokio::spawn(clients::malformed(Arc::clone(world)))));
    deeds
}

/// Everything is back to normal: nothing waits, nothing is lost, all nodes agree.
async fn afterwards(world: &World, nodes: &[NodeProcess]) {
    for node in nodes {
        ready(node.query).await;
    }
    let mut client = None;
    let (id, submission) = world.registration("honest-at-last");
    let receipt = world.accepted(&mut client, &submission).await;
    let last = world.is_final(id).await;
    eventually("one state everywhere", || async {
        let mut states = Vec::new();
        for node in nodes {
            let status = get(node.query, "/api/status").await;
            if status["frontier"] != status["certified"] {
                return Err(status.to_string());
            }
            states.push(status["state_id"].to_string());
        }
        states.dedup();
        if states.len() == 1 { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await;
    no_errors(&world.folder);
    let resident: Vec<u64> = nodes.iter().map(|node| node.memory("VmRSS")).collect();
    say(format!("afterwards: receipt in {receipt:?}, final {last:?} later, resident {resident:?} KiB"));
}

/// Nothing that strangers or other operators do is an error of the node.
fn no_errors(folder: &Path) {
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}
