//! A real node, killed at random moments under load: nothing that it acknowledged is ever lost.
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fama_cli::federation::{self, Created, FederationPlan, OperatorPlan};
use fama_ledger::entry::{Body, Entry};
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::EventId;
use fama_ledger::key::Curve;
use fama_ledger::log::Head;
use fama_ledger::manifest::{Endpoints, Manifest, Policy};
use fama_ledger::proof::TlogProof;
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_node::config::Config;
use fama_node::network::client::Client;
use fama_node::node;
use fama_node::replay::check::check;
use fama_node::store::{RolledBack, Store, StoreError};
use fama_node::wire::{Receipt, Submission, SubmitRequest, SubmitResult, SyncRequest, SyncResponse};
use fama_tests::{domain, node_key};

use crate::cli::program;
use crate::federation::{eventually, free_ports, get, multi, signed};

/// How often the node is killed, unless `FAMA_CRASHES` says otherwise.
const CRASHES: u32 = 100;
/// Registrations per request: enough for a kill to hit each part of a write.
const REQUEST: u64 = 16;

/// A small random number generator, so that a run can be repeated by its seed.
pub(crate) struct SeededRandom(pub(crate) u64);

impl SeededRandom {
    /// Starts from a random seed, which a failing test prints.
    #[allow(clippy::print_stdout, reason = "the seed of a run that failed")]
    pub(crate) fn begin() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        let seed = u64::from_le_bytes(seed) | 1;
        println!("seed {seed}");
        Self(seed)
    }

    /// xorshift64*, Vigna 2016.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// A federation of one operator, whose node is a separate process.
pub(crate) struct SoleOperator {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) config: std::path::PathBuf,
    address: String,
    query: SocketAddr,
    dir: tempfile::TempDir,
}

impl SoleOperator {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(3);
        let http = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (query, admin, bind) = (http(ports[1]), http(ports[2]), vec![Ipv4Addr::LOCALHOST.into()]);
        let operator = OperatorPlan {
            domain: domain("alpha.example"),
            host: "127.0.0.1".into(),
            bind,
            port: ports[0],
            query,
            admin,
            endpoints: Endpoints::default(),
        };
        let policy = Policy { batch_ms: 5, ..Policy::recommended(1) };
        let created =
            federation::create(&FederationPlan { name: "crash".into(), operators: vec![operator], policy }, dir.path())
                .unwrap();
        let config = Created::config(&created.folders[0].1);
        let address = format!("/ip4/127.0.0.1/tcp/{}", ports[0]);
        Self { manifest: Arc::new(created.manifest), config, address, query, dir }
    }

    /// The file that the node logs to.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) fn spawn(&self) -> Child {
        self.spawn_with(&[])
    }

    pub(crate) fn spawn_with(&self, environment: &[(&str, &OsStr)]) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(program());
        command.args(["node", "--config"]).arg(&self.config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(environment.iter().copied()).spawn().unwrap()
    }

    pub(crate) async fn connect(&self, child: &mut Child) -> Client {
        let connected = self.connect_or_end(child).await;
        connected.unwrap_or_else(|status| panic!("the node ended with {status}: {}", tail(&self.log())))
    }

    /// A connection, or how the node ended before one was possible.
    pub(crate) async fn connect_or_end(&self, child: &mut Child) -> Result<Client, ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let connected = Client::connect(self.manifest.federation(), self.address.parse().unwrap()).await;
            match connected {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                Err(_) => {}
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Err(status);
            }
        }
    }

    /// Registers without pause until the node is gone; keeps what was acknowledged.
    pub(crate) async fn load(&self, client: Client, round: u64, acknowledged: &mut BTreeMap<EventId, Receipt>) {
        let mut count = 0;
        loop {
            let submissions = (0..REQUEST).map(|i| self.registration(round, count + i)).collect();
            count += REQUEST;
            let Ok(response) = client.submit(SubmitRequest { forwarded: false, submissions }).await else { return };
            for result in response.0 {
                match result {
                    SubmitResult::Accepted(receipt) => {
                        self.check(&receipt);
                        acknowledged.insert(receipt.event, receipt);
                    }
                    SubmitResult::Refused(refusal) => {
                        assert!(refusal.retry_after.is_some() || refusal.code == "stopping", "{refusal:?}");
                    }
                }
            }
        }
    }

    pub(crate) fn registration(&self, round: u64, count: u64) -> Submission {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let key = SecretKey::from_seed(Curve::Ed25519, &seed).unwrap();
        let (home, name) = (domain("alpha.example"), format!("agent-{round}-{count}").parse().unwrap());
        let action = Action::Register { home, name, key: key.public(), next: None, note: None };
        let nonce = Nonce(count.to_be_bytes());
        signed(Event { federation: self.manifest.federation(), action, created: clock::now(), nonce }, &key)
    }

    /// The head that a receipt's proof leads to.
    pub(crate) fn check(&self, receipt: &Receipt) -> Head {
        let proof: TlogProof = receipt.proof.parse().unwrap();
        let key = self.manifest.operators()[0].node_key;
        proof.verify(&receipt.entry, |_| Some(key), |_| None).unwrap().0.checkpoint().head
    }

    /// Every acknowledged entry must be where its receipt says, byte for byte.
    pub(crate) async fn has(&self, client: &Client, acknowledged: &BTreeMap<EventId, Receipt>, from: u64) {
        let log = self.manifest.operators()[0].log();
        let frontier = client.sync(SyncRequest::Frontier(empty_frontier(&self.manifest))).await.unwrap();
        let SyncResponse::Frontier(frontier) = frontier else { panic!("{frontier:?}") };
        let Some(newest) = &frontier.logs[0].newest else {
            return assert!(acknowledged.is_empty(), "a log without a signed head");
        };
        let head = newest.head;
        assert_eq!(head.size, frontier.logs[0].size, "a restarted node has signed what it has");
        let (mut at, mut entries) = (from, Vec::new());
        while at < head.size {
            let answer = client.sync(SyncRequest::Entries { log: log.clone(), from: at, head }).await.unwrap();
            let SyncResponse::Entries(range) = answer else { panic!("{answer:?}") };
            at += range.entries.len() as u64;
            entries.extend(range.entries);
        }
        for receipt in acknowledged.values().filter(|receipt| receipt.index >= from) {
            let entry = entries.get(usize::try_from(receipt.index - from).unwrap());
            assert_eq!(entry, Some(&receipt.entry), "entry {} was acknowledged", receipt.index);
        }
    }
}

pub(crate) fn empty_frontier(manifest: &Manifest) -> fama_node::wire::Frontier {
    fama_node::wire::Frontier::nothing(manifest, clock::now())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().take(5).collect::<Vec<_>>().join("\n")
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures of a long run")]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let crashes = std::env::var("FAMA_CRASHES").map_or(CRASHES, |count| count.parse().unwrap());
    let mut random = SeededRandom::begin();
    multi(async {
        let operator = SoleOperator::new();
        let mut acknowledged = BTreeMap::new();
        let mut checked = 0;
        for round in 0..crashes {
            let mut child = operator.spawn();
            let client = operator.connect(&mut child).await;
            operator.has(&client, &acknowledged, checked).await;
            checked = acknowledged.values().map(|receipt: &Receipt| receipt.index).max().unwrap_or_default();
            let wait = Duration::from_micros(random.next() % 120_000);
            let kill = async {
                tokio::time::sleep(wait).await;
                child.kill().unwrap();
            };
            tokio::join!(kill, operator.load(client, round.into(), &mut acknowledged));
            child.wait().unwrap();
        }
        let mut child = operator.spawn();
        let client = operator.connect(&mut child).await;
        operator.has(&client, &acknowledged, 0).await;
        assert!(acknowledged.len() as u32 > crashes, "the load was too light: {}", acknowledged.len());
        let last = acknowledged.values().max_by_key(|receipt| receipt.index).unwrap();
        eventually("the last one is answered for", || async {
            let event = get(operator.query, &format!("/api/event/{}", last.event)).await;
            if event["positions"][0]["index"] == last.index { Ok(()) } else { Err(event.to_string()) }
        })
        .await;
        println!("{crashes} kills, {} acknowledged events", acknowledged.len());
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// The folder of a sole operator whose log has many entries, with a configuration of a mirror: nobody is left from whom
/// it could fetch the log again.
async fn abandoned(operator: &mut SoleOperator) -> PathBuf {
    let mut child = operator.spawn();
    let client = operator.connect(&mut child).await;
    let kill = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        child.kill().unwrap();
    };
    let mut acknowledged = BTreeMap::new();
    tokio::join!(kill, operator.load(client, 0, &mut acknowledged));
    child.wait().unwrap();
    let text = std::fs::read_to_string(&operator.config).unwrap();
    let mirror: Vec<&str> = text.lines().filter(|line| !line.starts_with("operator = ")).collect();
    operator.config = operator.config.with_file_name("mirror.toml");
    // Not the operator's key, which no mirror may have; in a file that nobody else may read.
    let [node, mirrors] = ["node.pem", "mirror.pem"].map(|name| operator.config.with_file_name(name));
    std::fs::copy(node, &mirrors).unwrap();
    std::fs::write(mirrors, node_key(20).to_pem().as_bytes()).unwrap();
    std::fs::write(&operator.config, mirror.join("\n").replace("node.pem", "mirror.pem")).unwrap();
    Config::load(&operator.config).unwrap().data_dir
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures of a long run")]
fn a_rollback_is_finished_by_a_node_that_is_killed_again_and_again() {
    let mut random = SeededRandom::begin();
    multi(async {
        let mut operator = SoleOperator::new();
        let data = abandoned(&mut operator).await;
        let log = operator.manifest.operators()[0].log();
        let store = Store::open(&data, &operator.manifest).unwrap();
        let size = store.view().log(&log).unwrap().unwrap().state.size;
        let entries = store.view().entries(&log, 0, usize::MAX, usize::MAX).unwrap();
        let middle = usize::try_from(size / 2).unwrap();
        let ends = |entry: &Vec<u8>| matches!(decode(entry), Entry { body: Body::State { .. }, .. });
        let stays = middle + entries[middle..].iter().position(ends).unwrap() + 1;
        let events = entries[stays..].iter().filter(|entry| matches!(decode(entry).body, Body::Event(_))).count();
        let back = RolledBack { log: log.clone(), size: stays as u64, signed: None };
        store.begin_rollback(back).unwrap();
        drop(store);
        let mut kills = 0;
        let store = loop {
            let mut child = operator.spawn();
            tokio::time::sleep(Duration::from_micros(50_000 + random.next() % 250_000)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            match Store::open_alone(&data) {
                Ok(store) => break store,
                Err(StoreError::NeedsRebuild { .. }) => kills += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(kills < 1_000, "it comes no further");
        };
        println!("{kills} kills while {size} entries became {stays}");
        assert!(kills > 0, "the load was too light: {size} entries");
        let aside = store.view().dropped(EventId([0; 32]), usize::MAX).unwrap().len();
        assert_eq!((store.view().log(&log).unwrap().unwrap().state.size, aside), (stays as u64, events));
        let empty = tempfile::tempdir().unwrap();
        let rebuilt = Store::open(empty.path(), &operator.manifest).unwrap();
        // A sole operator certifies all that it writes, and nothing certified is ever rolled back outside this test: its
        // certified size, which follows from no entry, is larger than its log now. Its key is the log's, then 1.
        let mut findings = check(&store, &rebuilt, &operator.manifest, &mut |_, _| {}).unwrap().findings;
        let certified = |what: &str| what.starts_with("logs: ") && what.ends_with("01 has a different value");
        findings.retain(|finding| !certified(&finding.what));
        assert_eq!(findings, []);
    });
}

fn decode(entry: &[u8]) -> Entry {
    fama_ledger::codec::decode(entry, fama_ledger::limits::ENTRY_BYTES_MAX).unwrap()
}

/// Symptom: a node that was told to stop while it loaded its data, or waited for its database, did that first. Cause:
/// nothing looked at the signal in between. The signal comes at each look in turn.
#[test]
fn a_stop_is_heeded_at_any_moment_of_a_start() {
    multi(async {
        let operator = SoleOperator::new();
        let config = Config::load(&operator.config).unwrap();
        for looks in 0..10 {
            let mut left = looks;
            let stop = std::future::poll_fn(move |context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                context.waker().wake_by_ref();
                Poll::Pending
            });
            let ended = tokio::time::timeout(Duration::from_secs(30), node::run(config.clone(), stop, |_| {})).await;
            ended.expect("it does not stop").unwrap();
            drop(Store::open(&config.data_dir, &operator.manifest).expect("the folder is free at once"));
        }
    });
}
