//! Whole federations over real sockets: all nodes in this process, each with its own database.
use std::fs::File;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event, Method, Nonce, RevokeReason};
use fama_ledger::id::{Domain, EventId};
use fama_ledger::manifest::{Endpoints, Genesis, LogId, Manifest, Operator, Policy};
use fama_ledger::note::{Note, note_hash};
use fama_ledger::profile::{ProfileProof, Required};
use fama_ledger::proof::TlogProof;
use fama_ledger::replica::Overrides;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_node::clock;
use fama_node::config::{
    AccessSettings, AdmissionSettings, Config, DomainSettings, Listener, LogSettings, NetworkSettings, ScrubSettings,
    StoreSettings, Verify,
};
use fama_node::network::client::Client;
use fama_node::node::{self, Addresses, NodeError};
use fama_node::wire::{Receipt, Recovered, Submission, SubmitRequest, SubmitResult};
use fama_tests::{DOMAINS, domain, governance_key, node_key, secret};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for what must come about. Longer than the minute for which a copy does not ask a peer again that
/// returned entries of another branch.
const DEADLINE: Duration = Duration::from_secs(100);

/// A federation on loopback ports of its own.
pub(crate) struct LocalFederation {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) ports: Vec<u16>,
    pub(crate) nodes: Vec<Option<LocalNode>>,
}

pub(crate) struct LocalNode {
    pub(crate) query: SocketAddr,
    /// Port 0 where it is off.
    pub(crate) submit: SocketAddr,
    pub(crate) auth: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), NodeError>>,
}

impl LocalNode {
    pub(crate) async fn start(config: Config) -> Self {
        eventually("the ports are free", || async {
            match launch(config.clone()).await {
                Err(error) if error.code() == "address_in_use" => Err(error.to_string()),
                started => Ok(started.unwrap()),
            }
        })
        .await
    }

    pub(crate) async fn stop(self) {
        let Self { stop, task, .. } = self;
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
    }
}

impl Drop for LocalFederation {
    /// Stops the nodes that still run: a database must be closed before the process ends.
    fn drop(&mut self) {
        let running: Vec<LocalNode> = self.nodes.iter_mut().filter_map(Option::take).collect();
        if running.is_empty() {
            return;
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for LocalNode { stop, task, .. } in running {
                    // The error of a node that ended by itself has already reached the test.
                    let _ = stop.send(());
                    let _ = task.await;
                }
            });
        });
    }
}

/// Different ports that are free for TCP and UDP, outside the range that the system gives to outgoing connections: a node
/// that restarts must find its ports free. So other tests, which may be other processes, are not given them before this
/// process ends: a locked file says whose each one is.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    static OWN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("fama-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let mut ports = Vec::new();
    while ports.len() < count {
        let mut drawn = [0; 2];
        getrandom::fill(&mut drawn).unwrap();
        let port = 10_000 + u16::from_le_bytes(drawn) % 20_000;
        let lock = File::options().create(true).append(true).open(folder.join(port.to_string())).unwrap();
        let at = (Ipv4Addr::LOCALHOST, port);
        let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        if locked.is_ok() && TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            OWN.lock().unwrap().push(lock);
            ports.push(port);
        }
    }
    ports
}

fn loopback() -> Listener {
    Listener { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

impl LocalFederation {
    /// `n` operators, none of them running yet.
    pub(crate) fn new(n: u8) -> Self {
        Self::at(free_ports(n.into()))
    }

    /// One operator per port: the same ports give the same federation.
    pub(crate) fn at(ports: Vec<u16>) -> Self {
        let policy = Policy { batch_ms: 20, ..Policy::recommended(ports.len()) };
        Self::with(ports, policy, |_| Endpoints::default())
    }

    /// `n` operators, none of them running yet, with what the manifest says of each one's HTTP addresses and token keys.
    pub(crate) fn with_endpoints(n: u8, endpoints: impl Fn(u8) -> Endpoints) -> Self {
        let policy = Policy { batch_ms: 20, ..Policy::recommended(n.into()) };
        Self::with(free_ports(n.into()), policy, endpoints)
    }

    fn with(ports: Vec<u16>, policy: Policy, endpoints: impl Fn(u8) -> Endpoints) -> Self {
        let n = u8::try_from(ports.len()).unwrap();
        let operators = (0..n).map(|i| Operator {
            name: domain(DOMAINS[usize::from(i)]),
            node_key: node_key(i).ed25519().unwrap().verifying_key(),
            governance_key: governance_key(i).ed25519().unwrap().verifying_key(),
            generation: 1,
            begins: fama_ledger::time::Millis::FIRST,
            addresses: addresses(ports[usize::from(i)]),
            endpoints: endpoints(i),
        });
        let text = Genesis { name: "test".into(), policy, operators: operators.collect() }.text().unwrap();
        let signatures = (0..n).map(|i| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap()));
        let note = SignedNote { signatures: signatures.collect(), text };
        let manifest = Arc::new(Manifest::parse(&note.to_string()).unwrap());
        let dir = tempfile::tempdir().unwrap();
        Self { dir, manifest, ports, nodes: (0..n).map(|_| None).collect() }
    }

    /// `n` operators, all running.
    pub(crate) async fn running(n: u8) -> Self {
        let mut net = Self::new(n);
        net.start_all().await;
        net
    }

    pub(crate) async fn start_all(&mut self) {
        for i in 0..self.nodes.len() {
            self.start(i).await;
        }
        self.wait("all nodes hear the others", |status| status["fresh"] == true && status["waiting"].is_null()).await;
    }

    pub(crate) fn data(&self, i: usize) -> PathBuf {
        self.dir.path().join(DOMAINS[i])
    }

    pub(crate) fn config(&self, i: usize) -> Config {
        let listen = addresses(self.ports[i]).iter().map(|address| address.parse().unwrap()).collect();
        Config {
            data_dir: self.data(i),
            manifest: Arc::clone(&self.manifest),
            operator: Some(domain(DOMAINS[i])),
            node_key: Arc::new(node_key(u8::try_from(i).unwrap())),
            next_node_key: None,
            namespace: Some(domain(DOMAINS[i])),
            network: NetworkSettings { listen },
            query: loopback(),
            access: AccessSettings::default(),
            submit: Listener { enabled: false, ..loopback() },
            auth: None,
            admin: loopback(),
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

    /// Starts a node; an earlier one in this process may still be closing its QUIC socket.
    pub(crate) async fn start(&mut self, i: usize) {
        self.start_with(i, self.config(i)).await;
    }

    pub(crate) async fn start_with(&mut self, i: usize, config: Config) {
        self.nodes[i] = Some(LocalNode::start(config).await);
    }

    pub(crate) async fn stop(&mut self, i: usize) {
        self.nodes[i].take().unwrap().stop().await;
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = (usize, SocketAddr)> + '_ {
        self.nodes.iter().enumerate().filter_map(|(i, node)| node.as_ref().map(|node| (i, node.query)))
    }

    pub(crate) async fn client(&self, i: usize) -> Client {
        let address = addresses(self.ports[i])[0].parse().unwrap();
        Client::connect(self.manifest.federation(), address).await.unwrap()
    }

    async fn submit(&self, through: usize, submission: Submission) -> SubmitResult {
        let client = self.client(through).await;
        let request = SubmitRequest { forwarded: false, submissions: vec![submission] };
        client.submit(request).await.unwrap().0.pop().unwrap()
    }

    /// Submits an event and checks the receipt against the manifest's keys.
    pub(crate) async fn accepted(&self, through: usize, submission: Submission) -> Receipt {
        match self.submit(through, submission).await {
            SubmitResult::Accepted(receipt) => {
                let proof: TlogProof = receipt.proof.parse().unwrap();
                let owner = |origin: &fama_ledger::checkpoint::Origin| {
                    let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
                    (self.manifest.origin(&log) == *origin).then(|| self.manifest.log(&log).unwrap().node_key)
                };
                let (signed, _) = proof.verify(&receipt.entry, owner, |_| None).unwrap();
                assert_eq!(signed.checkpoint().origin, self.manifest.origin(&receipt.log));
                assert_eq!(fama_ledger::entry::event_id(&receipt.entry), Some(receipt.event));
                receipt
            }
            SubmitResult::Refused(refusal) => panic!("{}: {}", refusal.code, refusal.message),
        }
    }

    pub(crate) async fn refused(&self, through: usize, submission: Submission) -> String {
        match self.submit(through, submission).await {
            SubmitResult::Accepted(receipt) => panic!("accepted: {receipt:?}"),
            SubmitResult::Refused(refusal) => refusal.code,
        }
    }

    /// Waits until the status of every running node passes.
    pub(crate) async fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        for (i, query) in self.up() {
            eventually(&format!("{what}, at {}", DOMAINS[i]), || async {
                let status = get(query, "/api/status").await;
                if fits(&status) { Ok(()) } else { Err(status.to_string()) }
            })
            .await;
        }
    }

    /// Waits until all running nodes have the same state, all of it final; returns the state id.
    pub(crate) async fn settled(&self) -> String {
        eventually("one final state everywhere", || async {
            let mut states = Vec::new();
            for (_, query) in self.up() {
                let status = get(query, "/api/status").await;
                if status["frontier"] != status["certified"] || status["ranking_lag"] != 0 {
                    return Err(status.to_string());
                }
                states.push(status["state_id"].as_str().unwrap().to_owned());
            }
            states.dedup();
            if states.len() == 1 { Ok(states.remove(0)) } else { Err(format!("{states:?}")) }
        })
        .await
    }

    /// Waits until every running node's answer about an agent passes.
    pub(crate) async fn shows(&self, x: &str, fits: impl Fn(&Value) -> bool) {
        for (i, query) in self.up() {
            eventually(&format!("{x} at {}", DOMAINS[i]), || async {
                let profile = get(query, &format!("/api/agent/{x}")).await;
                if fits(&profile) { Ok(()) } else { Err(profile.to_string()) }
            })
            .await;
        }
    }

    pub(crate) fn event(&self, action: Action) -> Event {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).unwrap();
        Event { federation: self.manifest.federation(), action, created: clock::now(), nonce: Nonce(nonce) }
    }

    pub(crate) fn register(&self, home: usize, name: &str, key: &SecretKey) -> (EventId, Submission) {
        let (home, name, key_of) = (domain(DOMAINS[home]), name.parse().unwrap(), key.public());
        let event = self.event(Action::Register { home, name, key: key_of, next: None, note: None });
        (event.id(), signed(event, key))
    }

    /// Registers a service and lets the first two operators sponsor it.
    pub(crate) async fn provider(&self, home: usize, name: &str, key: &SecretKey) -> EventId {
        let (provider, registration) = self.register(home, name, key);
        self.accepted(home, registration).await;
        for i in 0..self.manifest.policy().min_sponsors as u8 {
            self.accepted(usize::from(i), self.admit(i, provider)).await;
        }
        provider
    }

    pub(crate) fn admit(&self, i: u8, provider: EventId) -> Submission {
        let (operator, service, domain) =
            (domain(DOMAINS[usize::from(i)]), "judge".parse().unwrap(), domain("judge.example"));
        signed(
            self.event(Action::Admit { operator, provider, service, domain, method: Method::Manual, from: 0 }),
            &node_key(i),
        )
    }

    pub(crate) fn attest(
        &self,
        home: usize,
        (issuer, key): (EventId, &SecretKey),
        subject: EventId,
        delta: i32,
    ) -> Submission {
        let note = Note { salt: [7; 32], reason: Some("well done".into()), ..Note::default() }.text();
        let named = Some(note_hash(note.as_bytes()));
        let home = domain(DOMAINS[home]);
        let event = self.event(Action::Attest { home, issuer, subject, delta, context: None, note: named });
        Submission { note: Some(note), ..signed(event, key) }
    }

    pub(crate) fn revoke(&self, home: usize, identity: EventId, key: &SecretKey) -> Submission {
        self.revoke_version(home, (identity, 1), key)
    }

    pub(crate) fn revoke_version(
        &self,
        home: usize,
        (identity, version): (EventId, u32),
        key: &SecretKey,
    ) -> Submission {
        let (home, reason) = (domain(DOMAINS[home]), RevokeReason::KeyCompromised);
        signed(self.event(Action::Revoke { home, identity, version, key: key.public(), reason }), key)
    }

    /// Rotates to `version`, from the first key, which committed to none, to the second.
    pub(crate) fn rotate(&self, home: usize, (identity, version): (EventId, u32), keys: &[SecretKey]) -> Submission {
        let home = domain(DOMAINS[home]);
        let event = self.event(Action::Rotate { home, identity, version, key: keys[1].public(), next: None });
        let countersignature = Some(keys[1].sign(event.text().as_bytes()));
        let mut submission = signed(event, &keys[0]);
        submission.signed.countersignature = countersignature;
        submission
    }
}

/// Starts a node and waits until it reports its addresses.
#[expect(clippy::print_stderr, reason = "a node that stops by itself explains what its test will miss")]
async fn launch(config: Config) -> Result<LocalNode, NodeError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (told, addresses) = oneshot::channel();
    let stop_told = async {
        let _ = stopped.await;
    };
    let mut task = tokio::spawn(async move {
        let off = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tell = |addresses: &Addresses| {
            let Addresses { query, submit, auth, admin, .. } = addresses;
            told.send((query.unwrap(), submit.unwrap_or(off), auth.unwrap_or(off), admin.unwrap())).unwrap();
        };
        let ended = node::run(config, stop_told, tell).await;
        if let Some(error) = ended.as_ref().err().filter(|error| error.code() != "address_in_use") {
            eprintln!("a node stops: {error}");
        }
        ended
    });
    tokio::select! {
        Ok((query, submit, auth, admin)) = addresses => Ok(LocalNode { query, submit, auth, admin, stop, task }),
        ended = &mut task => Err(ended.unwrap().unwrap_err()),
    }
}

pub(crate) fn addresses(port: u16) -> Vec<String> {
    vec![format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")]
}

pub(crate) fn signed(event: Event, key: &SecretKey) -> Submission {
    let signature = key.sign(event.text().as_bytes());
    let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
    Submission { signed, note: None, invite: None, recovered: None }
}

/// The body of a node's answer, whatever its status.
pub(crate) async fn get(query: SocketAddr, path: &str) -> Value {
    let url = format!("http://{query}{path}");
    let get = move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build();
        let agent = config.new_agent();
        // A node that adopts another version of the manifest drops its connections.
        let mut answer = (0..50).find_map(|_| {
            agent.get(&url).call().ok().or_else(|| {
                std::thread::sleep(Duration::from_millis(100));
                None
            })
        });
        answer.as_mut().unwrap_or_else(|| panic!("{url} answers")).body_mut().read_json().unwrap()
    };
    tokio::task::spawn_blocking(get).await.unwrap()
}

/// Tries until it succeeds; fails with the last error.
pub(crate) async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("{what}: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) fn multi(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_submission_at_the_wrong_node_reaches_its_home_and_all_agree() {
    multi(async {
        let net = LocalFederation::running(4).await;
        let agent_key = secret(2);
        let (agent, registration) = net.register(0, "swift-core-maps", &agent_key);
        let receipt = net.accepted(2, registration.clone()).await;
        assert_eq!((receipt.log.operator.as_str(), receipt.known), ("alpha.example", false));
        let again = net.accepted(3, registration).await;
        assert_eq!((again.index, again.known), (receipt.index, true), "a duplicate gets the original receipt");

        let judge_key = secret(4);
        let judge = net.provider(1, "judge", &judge_key).await;
        net.accepted(3, net.attest(1, (judge, &judge_key), agent, 5)).await;
        let state = net.settled().await;
        net.shows("swift-core-maps@alpha.example", |profile| {
            profile["reputation"]["global_score"] == 5
                && profile["ledger"]["final"] == true
                && profile["ledger"]["state_id"] == state
                && profile["recent_attestations"][0]["reason"] == "well done"
        })
        .await;
    });
}

/// The same text again is the same event: it gets the same place in the log, with the proof that it is final as soon as
/// the node that is asked has it, at any node and at any age.
#[test]
fn the_same_text_again_gets_the_same_receipt() {
    multi(async {
        let net = LocalFederation::running(4).await;
        let (_, registration) = net.register(0, "again", &secret(2));
        let first = net.accepted(1, registration.clone()).await;
        assert!(!first.known);
        net.settled().await;
        for through in 0..4 {
            let again = net.accepted(through, registration.clone()).await;
            assert_eq!((again.known, &again.log, again.index), (true, &first.log, first.index));
            let proof: TlogProof = again.proof.parse().unwrap();
            let included = proof.included(&proof.extra.clone().unwrap(), &net.manifest).unwrap();
            assert!(included.certified.is_some(), "{}", again.proof);
        }
    });
}

/// Symptom: on other nodes a note was missing for 18 seconds after its event was final. Cause: notes were asked for apart from
/// the entries that name them, every five seconds, from an operator that need not have had them.
#[test]
fn notes_travel_with_the_entries_that_name_them() {
    multi(async {
        let net = LocalFederation::running(4).await;
        let (agent, registration) = net.register(0, "noted", &secret(2));
        net.accepted(0, registration).await;
        let key = secret(4);
        let judge = net.provider(1, "judge", &key).await;
        let attested = net.accepted(1, net.attest(1, (judge, &key), agent, 5)).await;
        for (i, query) in net.up() {
            eventually(&format!("the attestation at {}", DOMAINS[i]), || async {
                let event = get(query, &format!("/api/event/{}", attested.event)).await;
                match event["positions"][0]["final"] == true {
                    // As soon as it is final there, the note is there.
                    true => assert!(event["note"]["text"].is_string(), "{event}"),
                    false => return Err(event.to_string()),
                }
                Ok(())
            })
            .await;
        }
    });
}

#[test]
fn one_of_four_nodes_down_and_the_others_still_certify() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        net.stop(3).await;
        for name in ["one-of-three", "two-of-three"] {
            let (_, registration) = net.register(0, name, &secret(name.len() as u8 + name.as_bytes()[0] % 7));
            net.accepted(1, registration).await;
        }
        let before = net.settled().await;
        net.start(3).await;
        assert_eq!(net.settled().await, before, "a node that was offline has the same state");
        net.shows("one-of-three@alpha.example", |profile| profile["ledger"]["final"] == true).await;
    });
}

#[test]
fn a_revocation_at_another_operator_shows_everywhere_while_the_home_is_down() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let key = secret(6);
        let (agent, registration) = net.register(0, "stolen-key", &key);
        net.accepted(0, registration).await;
        net.settled().await;
        net.stop(0).await;
        let revoked = |profile: &Value| profile["key_status"]["is_revoked"] == true;
        let receipt = net.accepted(1, net.revoke(0, agent, &key)).await;
        assert_eq!(receipt.log.operator.as_str(), "beta.example", "a claim in the log of the operator that was asked");
        net.shows("stolen-key@alpha.example", |p| {
            revoked(p) && p["key_status"]["revocation_reason"] == "KEY_COMPROMISED"
        })
        .await;

        net.start(0).await;
        net.shows("stolen-key@alpha.example", revoked).await;
        let event = format!("/api/event/{}", receipt.event);
        let query = net.nodes[2].as_ref().unwrap().query;
        eventually("the home takes the claim over", || async {
            let event = get(query, &event).await;
            let logs = event["positions"].as_array().map_or(0, Vec::len);
            if logs == 2 { Ok(()) } else { Err(event.to_string()) }
        })
        .await;
    });
}

/// Certificates survive a restart: in a federation that was idle when its nodes stopped, one node alone proves a profile
/// from all logs at once, before any other operator has cosigned anything again.
#[test]
fn a_node_alone_proves_profiles_after_an_idle_federation_restarted() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (_, registration) = net.register(0, "idle-agent", &secret(6));
        net.accepted(0, registration).await;
        net.settled().await;
        let every_log = |net: &LocalFederation| {
            let (query, manifest) = (net.nodes[2].as_ref().unwrap().query, Arc::clone(&net.manifest));
            async move {
                let text = get(query, "/api/agent/idle-agent@alpha.example/proof").await.to_string();
                let proof = text.parse::<ProfileProof>().map_err(|error| format!("{error}: {text}"))?;
                let (question, now) = (proof.question.clone(), fama_node::clock::now().0 / 1_000);
                let required = Required { question, max_age_seconds: 600, missing_max: 0, now };
                proof.verify(&manifest, &required).map_err(|error| error.to_string())
            }
        };
        eventually("all logs are proven", || every_log(&net)).await;
        for i in 0..4 {
            net.stop(i).await;
        }
        net.start(2).await;
        let proven = eventually("all logs are proven by one node", || every_log(&net)).await;
        assert_eq!(proven.logs.len(), 4);
    });
}

/// Symptom: a revocation was refused, although other operators could have claimed it. Cause: the operator that was asked
/// may not write yet, and tried nobody else.
#[test]
fn an_operator_that_may_not_write_yet_has_another_one_claim() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let key = secret(6);
        let (agent, registration) = net.register(3, "stolen-key", &key);
        net.accepted(3, registration).await;
        net.settled().await;
        for gone in [3, 1, 0] {
            net.stop(gone).await;
        }
        net.start(0).await;
        let own = net.register(0, "own-agent", &secret(7)).1;
        assert_eq!(net.refused(0, own).await, "not_ready", "it hears one other operator of three");
        let receipt = net.accepted(0, net.revoke(3, agent, &key)).await;
        assert_eq!(receipt.log.operator.as_str(), "gamma.example");
    });
}

/// Symptom: a stolen key stayed in force. Cause: only a home that did not answer was bypassed; one that answered with
/// a refusal, for example because it was full, was not. The home here is full and refuses the revocation.
#[test]
fn a_revocation_that_its_home_refuses_is_claimed_elsewhere() {
    multi(async {
        let policy = Policy { batch_ms: 20, daily_bytes: 14_000, ..Policy::recommended(4) };
        let mut net = LocalFederation::with(free_ports(4), policy, |_| Endpoints::default());
        net.start_all().await;
        let keys: Vec<SecretKey> = (20..60).map(secret).collect();
        let (busy, registration) = net.register(0, "busy", &keys[30]);
        net.accepted(0, registration).await;
        for version in 1..10 {
            net.accepted(0, net.rotate(0, (busy, version + 1), &keys[29 + version as usize..][..2])).await;
        }
        let mut others = Vec::new();
        for (n, key) in keys[20..30].iter().enumerate() {
            let (id, registration) = net.register(0, &format!("other-{n}"), key);
            net.accepted(0, registration).await;
            others.push((id, key));
        }
        let (agent, registration) = net.register(0, "full-home", &keys[0]);
        net.accepted(0, registration).await;
        let mut version = 1;
        while let SubmitResult::Accepted(_) =
            net.submit(0, net.rotate(0, (agent, version + 1), &keys[version as usize - 1..][..2])).await
        {
            version += 1;
        }
        // The home keeps a part for revocations, whatever fills the rest of its day.
        let mut revoked = 0;
        for (id, key) in others {
            match net.submit(0, net.revoke(0, id, key)).await {
                SubmitResult::Accepted(_) => revoked += 1,
                SubmitResult::Refused(refusal) => assert_eq!(refusal.code, "daily_bytes"),
            }
        }
        assert!((1..10).contains(&revoked), "{revoked}");
        net.settled().await;
        let revocation = net.revoke_version(0, (agent, version), &keys[version as usize - 1]);
        assert_eq!(net.refused(0, revocation.clone()).await, "daily_bytes");
        let receipt = net.accepted(1, revocation.clone()).await;
        assert_eq!(receipt.log.operator.as_str(), "beta.example");
        net.shows("full-home@alpha.example", |profile| profile["key_status"]["is_revoked"] == true).await;
        let receipt = net.accepted(2, revocation).await;
        assert_eq!(receipt.log.operator.as_str(), "gamma.example", "a claim elsewhere does not count");
        let moot = net.revoke_version(0, (agent, 1), &keys[0]);
        assert_eq!(net.refused(1, moot).await, "daily_bytes", "the owner has rotated past it");
    });
}

/// Symptom: a key that only its home had seen could not be revoked once that fell silent. Cause: no other operator could
/// tell a claim against it from an invented one. Its receipt tells.
#[test]
fn a_receipt_shows_a_key_that_only_the_silent_home_has_seen() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let (keys, late) = ([secret(6), secret(7)], secret(8));
        let (agent, registration) = net.register(0, "rotated", &keys[0]);
        net.accepted(0, registration).await;
        net.settled().await;
        for other in 1..4 {
            net.stop(other).await;
        }
        let rotated = net.accepted(0, net.rotate(0, (agent, 2), &keys)).await;
        let (newcomer, registration) = net.register(0, "newcomer", &late);
        let registered = net.accepted(0, registration).await;
        net.stop(0).await;
        for other in 1..4 {
            net.start(other).await;
        }
        net.wait("the others write", |status| status["waiting"].is_null()).await;

        let shown = |submission: &Submission, receipt: &Receipt| {
            let recovered = Some(Recovered { entry: receipt.entry.clone(), proof: receipt.proof.clone() });
            Submission { recovered, ..submission.clone() }
        };
        let second = net.revoke_version(0, (agent, 2), &keys[1]);
        let first = net.revoke(0, newcomer, &late);
        assert_eq!(net.refused(1, second.clone()).await, "home_unreachable");
        assert_eq!(net.refused(1, first.clone()).await, "unknown_identity");
        assert_eq!(net.refused(1, shown(&first, &rotated)).await, "unknown_identity", "another identity's receipt");
        assert_eq!(net.accepted(1, shown(&second, &rotated)).await.log.operator.as_str(), "beta.example");
        assert_eq!(net.accepted(2, shown(&first, &registered)).await.log.operator.as_str(), "gamma.example");

        net.start(0).await;
        for name in ["rotated", "newcomer"] {
            net.shows(&format!("{name}@alpha.example"), |profile| profile["key_status"]["is_revoked"] == true).await;
        }
    });
}

#[test]
fn bad_submissions_are_refused_with_their_code() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let key = secret(8);
        let (agent, registration) = net.register(0, "careful", &key);
        let change = |change: &dyn Fn(&mut Event)| {
            let mut event = registration.signed.event.clone();
            change(&mut event);
            signed(event, &key)
        };
        let late = |event: &mut Event| event.created.0 -= 6 * 60 * 1_000;
        assert_eq!(net.refused(0, change(&late)).await, "outside_window");
        let early = |event: &mut Event| event.created.0 += 6 * 60 * 1_000;
        assert_eq!(net.refused(0, change(&early)).await, "outside_window");
        assert_eq!(net.refused(0, change(&|event| event.federation.0[0] ^= 1)).await, "wrong_federation");
        let mut forged = registration.clone();
        forged.signed.event.nonce.0[0] ^= 1;
        assert_eq!(net.refused(0, forged).await, "signature_mismatch");
        let mut noted = registration.clone();
        noted.note = Some("fama.note/1\n".into());
        assert_eq!(net.refused(0, noted).await, "wrong_note");
        let elsewhere = signed(
            net.event(Action::Register {
                home: domain("no.example"),
                name: "careful".parse().unwrap(),
                key: key.public(),
                next: None,
                note: None,
            }),
            &key,
        );
        assert_eq!(net.refused(0, elsewhere).await, "unknown_home");
        assert_eq!(net.refused(0, net.attest(0, (agent, &key), agent, 1)).await, "not_sponsored");
        net.accepted(0, registration).await;
        let (_, twin) = net.register(0, "careful", &secret(10));
        assert_eq!(net.refused(0, twin).await, "name_taken");
        let (_, same_key) = net.register(0, "careless", &key);
        assert_eq!(net.refused(0, same_key).await, "key_in_use");
        assert_eq!(net.refused(0, net.revoke(0, EventId([9; 32]), &key)).await, "unknown_identity");
    });
}

#[test]
fn a_mirror_follows_answers_and_passes_on() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let config = Config {
            data_dir: net.dir.path().join("mirror"),
            operator: None,
            namespace: None,
            node_key: Arc::new(SecretKey::from_seed(fama_ledger::key::Curve::Ed25519, &[99; 32]).unwrap()),
            network: NetworkSettings { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()] },
            ..net.config(0)
        };
        let mirror = launch(config).await.unwrap();
        let (_, registration) = net.register(0, "seen-afar", &secret(12));
        net.accepted(0, registration).await;
        let state = net.settled().await;
        eventually("the mirror has it", || async {
            let profile = get(mirror.query, "/api/agent/seen-afar@alpha.example").await;
            if profile["ledger"]["state_id"] == state { Ok(()) } else { Err(profile.to_string()) }
        })
        .await;
        assert_eq!(get(mirror.query, "/api/agent/seen-afar").await["code"], "ambiguous_name");
        mirror.stop.send(()).unwrap();
        mirror.task.await.unwrap().unwrap();
    });
}

#[test]
fn a_node_comes_back_with_what_it_had() {
    multi(async {
        let mut net = LocalFederation::running(1).await;
        let (_, registration) = net.register(0, "still-here", &secret(14));
        let receipt = net.accepted(0, registration.clone()).await;
        let before = net.settled().await;
        net.stop(0).await;
        net.start(0).await;
        net.wait("it writes again", |status| status["waiting"].is_null()).await;
        assert_eq!(net.settled().await, before);
        let again = net.accepted(0, registration).await;
        assert_eq!((again.index, again.known), (receipt.index, true));
    });
}

#[test]
fn what_stands_in_the_way_of_a_start_is_named() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let code = |config: Config| async move { launch(config).await.err().map(|error| error.code()) };
        let free = |net: &LocalFederation| Config {
            network: NetworkSettings { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()] },
            ..net.config(0)
        };
        assert_eq!(code(free(&net)).await, Some("locked"), "a data folder belongs to one process");
        let elsewhere = |dir: &Path| Config { data_dir: dir.join("other"), ..net.config(0) };
        assert_eq!(code(elsewhere(net.dir.path())).await, Some("address_in_use"), "the p2p port is taken");
        let query = Listener { enabled: true, listen: net.nodes[0].as_ref().unwrap().query };
        assert_eq!(code(Config { query, ..free(&net) }).await, Some("address_in_use"), "the query port is taken");
        let other = LocalFederation::new(2);
        let foreign = Config { data_dir: net.data(0), ..free(&other) };
        let mut net = net;
        net.stop(0).await;
        assert_eq!(code(foreign).await, Some("store_federation"), "the folder is another federation's");
    });
}

#[test]
fn a_client_of_another_federation_is_told_so() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let address = addresses(net.ports[0])[0].parse().unwrap();
        let foreign = Client::connect(fama_ledger::id::FederationId([3; 32]), address).await;
        assert_eq!(foreign.err().map(|error| error.code()), Some("other_federation"));
        let _: Domain = domain("still.example");
        let (_, registration) = net.register(0, "undisturbed", &secret(16));
        net.accepted(0, registration).await;
    });
}

/// A node that comes back with less than it had signed asks the others before it signs anything.
#[test]
fn a_lost_disk_and_an_old_backup_never_fork_the_log() {
    multi(async {
        let mut net = LocalFederation::running(4).await;
        let backup = net.dir.path().join("backup");
        let mut names = Vec::new();
        for (round, name) in
            ["before-the-backup", "after-the-backup", "after-its-return", "after-the-loss"].iter().enumerate()
        {
            match round {
                1 => {
                    net.stop(0).await;
                    copy(&net.data(0), &backup);
                    net.start(0).await;
                }
                2 => {
                    net.stop(0).await;
                    std::fs::remove_dir_all(net.data(0)).unwrap();
                    std::fs::rename(&backup, net.data(0)).unwrap();
                    net.start(0).await;
                }
                3 => {
                    net.stop(0).await;
                    std::fs::remove_dir_all(net.data(0)).unwrap();
                    net.start(0).await;
                }
                _ => {}
            }
            net.wait("all write", |status| status["waiting"].is_null()).await;
            let (_, registration) = net.register(0, name, &secret(20 + 2 * round as u8));
            net.accepted(0, registration).await;
            net.settled().await;
            names.push(*name);
        }
        for name in names {
            net.shows(&format!("{name}@alpha.example"), |profile| profile["ledger"]["final"] == true).await;
        }
        for (_, query) in net.up() {
            let federation = get(query, "/api/federation").await;
            let logs = federation["logs"].as_array().unwrap();
            assert!(logs.len() == 4 && logs.iter().all(|log| log["fault"].is_null()), "{federation}");
        }
    });
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
