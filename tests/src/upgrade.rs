//! What the last release stored and sent, before this program: it takes over the data folder, with the configuration
//! next to it, gives the answers that were given, and reads and writes the same messages.
//!
//! `tests/vectors/upgrade` is made by the program itself. `FAMA_BLESS=1` renews the messages, and the folder only where
//! it does not hold or is another release's, since it has times and nonces in it; tests/README.md says when.
mod wire;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::codec;
use fama_ledger::event::{Action, DismissReason, Scope, SuspendReason};
use fama_ledger::id::EventId;
use fama_ledger::key::{Curve, PublicKey};
use fama_ledger::manifest::Manifest;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::{Day, Millis};
use fama_node::clock;
use fama_node::network::client::Client;
use fama_node::store::Store;
use fama_node::wire::{Receipt, Submission, SubmitRequest, SubmitResult};
use fama_tests::{DOMAINS, domain, event, node_key, secret};
use serde_json::{Map, Value, json};

use crate::cli::program;
use crate::federation::{LocalFederation, addresses, copy, eventually, free_ports, get, multi, signed};
use crate::governance::signed as signed_draft;
use crate::vectors::{blessing, folder as vectors, hex, read, unhex, write};

/// The folder with everything that a node of the last release had: configuration, manifest, key and data.
const FOLDER: &str = "upgrade/folder.tar.gz";
/// What a node must answer from it.
const ANSWERS: &str = "upgrade/answers.json";
/// How large the folder may be in git.
const FOLDER_BYTES_MAX: usize = 200 << 10;
/// The ports of `config/node.toml`: here they are replaced by free ones.
const PORTS: [u16; 3] = [4_001, 8_080, 9_090];
/// How long a node may take to stop.
const STOPPED: Duration = Duration::from_secs(30);

/// Runs a command that must succeed; returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// The same bytes for the same files: names in order, nobody's, without times.
fn pack(from: &Path, to: &Path) {
    let same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--use-compress-program"];
    run(Command::new("tar").args(same).arg("gzip -9n").arg("-cf").arg(to).arg("-C").arg(from).arg("."));
}

/// An answer without the moment and the day on which it was given, and the cosignature, which is renewed.
fn lasting(mut answer: Value) -> Value {
    let members = answer.as_object_mut().unwrap();
    members.retain(|name, _| name != "timestamp" && name != "today");
    if let Some(Value::String(receipt)) = members.get_mut("receipt") {
        let cosignature = receipt.rfind("\n— alpha.example ").unwrap();
        receipt.truncate(cosignature);
    }
    answer
}

/// What is compared of `/api/status`.
fn position(status: &Value) -> Value {
    let members = ["frontier", "certified", "state_id", "manifest_version", "federation", "operator", "namespace"];
    Value::Object(members.into_iter().map(|name| (name.to_owned(), status[name].clone())).collect())
}

async fn answers(query: SocketAddr, paths: &[String]) -> Map<String, Value> {
    let mut answers = Map::new();
    for path in paths {
        answers.insert(path.clone(), lasting(get(query, path).await));
    }
    answers
}

/// A node that has done all that one alone can do, stopped.
struct Story {
    net: LocalFederation,
    events: Vec<EventId>,
    agents: Vec<EventId>,
}

impl Story {
    async fn told(&mut self, submission: Submission) -> Receipt {
        let receipt = self.net.accepted(0, submission).await;
        self.events.push(receipt.event);
        receipt
    }

    async fn registered(&mut self, name: &str, key: &SecretKey, next: Option<&SecretKey>) -> EventId {
        let note = Note { salt: [3; 32], bio: Some(format!("{name} travels")), ..Note::default() }.text();
        let event = self.net.event(Action::Register {
            home: domain(DOMAINS[0]),
            name: name.parse().unwrap(),
            key: key.public(),
            next: next.map(SecretKey::public).as_ref().map(PublicKey::hash),
            note: Some(note_hash(note.as_bytes())),
        });
        let receipt = self.told(Submission { note: Some(note), ..signed(event, key) }).await;
        self.agents.push(receipt.event);
        receipt.event
    }

    async fn attested(&mut self, by: (EventId, &SecretKey), subject: EventId, delta: i32) -> (EventId, Day) {
        let said = self.net.attest(0, by, subject, delta);
        let day = said.signed.event.created.day();
        (self.told(said).await.event, day)
    }

    /// Every kind of event, both curves, two versions of the manifest, notes of which one was removed, two runs.
    async fn tell() -> (Self, Submission) {
        let net = LocalFederation::running(1).await;
        let mut story = Self { net, events: Vec::new(), agents: Vec::new() };
        let home = domain(DOMAINS[0]);
        let (judge_key, rated_key, next_key, stolen_key) = (secret(4), secret(3), secret(10), secret(6));
        let rated = story.registered("rated", &rated_key, Some(&next_key)).await;
        let stolen = story.registered("stolen", &stolen_key, None).await;
        let judge = story.registered("judge", &judge_key, None).await;
        let (service, site) = ("judge".parse().unwrap(), domain("judge.example"));
        let method = fama_ledger::event::Method::Dns;
        let admit =
            Action::Admit { operator: home.clone(), provider: judge, service, domain: site.clone(), method, from: 0 };
        let admit = signed(story.net.event(admit), &node_key(0));
        story.told(admit).await;
        let first = story.attested((judge, &judge_key), rated, 5).await;
        story.attested((judge, &judge_key), rated, -2).await;
        story.attested((judge, &judge_key), stolen, 3).await;
        let (attestation, day) = first;
        let retract =
            story.net.event(Action::Retract { home: home.clone(), issuer: judge, subject: rated, day, attestation });
        story.told(signed(retract, &judge_key)).await;
        let key = next_key.public();
        let rotate =
            story.net.event(Action::Rotate { home: home.clone(), identity: rated, version: 2, key, next: None });
        story.told(signed(rotate, &next_key)).await;
        let revoke = story.net.revoke(0, stolen, &stolen_key);
        story.told(revoke).await;
        let scope: Scope = "read".parse().unwrap();
        let grant = Action::Grant {
            home: home.clone(),
            issuer: judge,
            subject: rated,
            scope: scope.clone(),
            expires: Some(Millis(4_000_000_000_000)),
            note: None,
        };
        story.told(signed(story.net.event(grant), &judge_key)).await;
        let ungrant = Action::Ungrant { home: home.clone(), issuer: judge, subject: stolen, scope };
        story.told(signed(story.net.event(ungrant), &judge_key)).await;
        let reason = SuspendReason::Misconduct;
        let suspend = Action::Suspend { operator: home.clone(), identity: stolen, reason };
        story.told(signed(story.net.event(suspend), &node_key(0))).await;
        let resume = Action::Resume { operator: home.clone(), identity: rated };
        story.told(signed(story.net.event(resume), &node_key(0))).await;
        let mut draft = story.net.manifest.draft();
        draft.policy.max_delta = 4;
        story.net.publish(0, &signed_draft(&draft, &[0])).await;
        story.net.adopted().await;
        story.net.wait("it writes", |status| status["waiting"].is_null()).await;
        let last = story.attested((judge, &judge_key), rated, 4).await;
        let service = "judge".parse().unwrap();
        let reason = DismissReason::Misconduct;
        let dismiss = Action::Dismiss { operator: home, provider: judge, service, domain: site, from: 3, reason };
        let dismiss = signed(story.net.event(dismiss), &node_key(0));
        story.told(dismiss).await;
        story.net.settled().await;
        assert_ne!(last.0, first.0);

        story.net.stop(0).await;
        let store = Store::open(&story.net.data(0), &story.net.manifest.genesis()).unwrap();
        let removed = Note { salt: [3; 32], bio: Some("stolen travels".into()), ..Note::default() }.text();
        store.redact_note(&note_hash(removed.as_bytes())).unwrap();
        drop(store);
        story.net.start(0).await;
        story.net.wait("it writes again", |status| status["waiting"].is_null()).await;
        let (_, again) = story.net.register(0, "second-run", &secret(8));
        story.told(again.clone()).await;
        story.net.settled().await;
        (story, again)
    }
}

/// Writes the folder and what a node answers from it.
async fn renew() {
    let (mut story, again) = Story::tell().await;
    let query = story.net.nodes[0].as_ref().unwrap().query;
    let agents = story
        .agents
        .iter()
        .flat_map(|id| ["", "/sponsorship", "/grants", "/grants?given=1"].map(|of| format!("/api/agent/{id}{of}")));
    let events = story.events.iter().map(|id| format!("/api/event/{id}"));
    let paths: Vec<String> =
        agents.chain(events).chain(["/api/leaderboard".to_owned(), "/api/agent/second-run".to_owned()]).collect();
    let status = position(&get(query, "/api/status").await);
    let answers = answers(query, &paths).await;
    let genesis = story.net.manifest.genesis().note().to_string();
    story.net.stop(0).await;

    let all = tempfile::tempdir().unwrap();
    let data = all.path().join("data");
    copy(&story.net.data(0), &data);
    for file in fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()) {
        // RocksDB's own log and lock, which it makes again.
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with("LOG") || name == "LOCK" {
            fs::remove_file(&file).unwrap();
        }
    }
    fs::write(all.path().join("manifest.txt"), genesis).unwrap();
    key_file(&all.path().join("node.pem"), &node_key(0));
    let reference = fs::read_to_string(crate::papers::root().join("config/node.toml")).unwrap();
    let config = reference.replacen("# operator = ", "operator = ", 1).replacen("# namespace = ", "namespace = ", 1);
    fs::write(all.path().join("node.toml"), config).unwrap();
    fs::create_dir_all(vectors().join("upgrade")).unwrap();
    pack(all.path(), &vectors().join(FOLDER));
    let request = SubmitRequest { forwarded: false, submissions: vec![again] };
    let made = json!([{
        "type": "folder",
        "software": env!("CARGO_PKG_VERSION"),
        "status": status,
        "answers": answers,
        "submitted": hex(codec::encode(&request)),
    }]);
    write(ANSWERS, &made);
}

fn key_file(path: &Path, key: &SecretKey) {
    fs::write(path, key.to_pem().as_bytes()).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// The program of today as the node of an unpacked folder.
struct Upgraded {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    manifest: Arc<Manifest>,
    process: Option<Child>,
}

impl Upgraded {
    fn unpacked() -> Self {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("tar").arg("-xzf").arg(vectors().join(FOLDER)).arg("-C").arg(dir.path()));
        let ports = free_ports(3);
        let mut config = fs::read_to_string(dir.path().join("node.toml")).unwrap();
        for (named, free) in PORTS.iter().zip(&ports) {
            let [named, free] = [named, free].map(ToString::to_string);
            assert!(config.contains(&named), "port {named}");
            config = config.replace(&named, &free);
        }
        fs::write(dir.path().join("node.toml"), config).unwrap();
        let text = fs::read_to_string(dir.path().join("manifest.txt")).unwrap();
        Self { dir, ports, manifest: Arc::new(Manifest::parse(&text).unwrap()), process: None }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("node.toml")
    }

    fn query(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[1]))
    }

    /// `fama check` finds nothing.
    fn is_whole(&self) {
        let said = run(Command::new(program()).args(["--json", "check", "--config"]).arg(self.config()));
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["ok"], true, "{said}");
    }

    async fn start(&mut self) -> Client {
        run(Command::new(program()).args(["node", "--check", "--config"]).arg(self.config()));
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["node", "--config"]).arg(self.config()).env_remove("RUST_LOG");
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let address = addresses(self.ports[0])[0].clone();
        eventually("a connection", || async {
            let connected = Client::connect(self.manifest.federation(), address.parse().unwrap()).await;
            connected.map_err(|error| {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
                format!("{error}: {log}")
            })
        })
        .await
    }

    /// Stops it in order, as a service manager does.
    fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        run(Command::new("kill").arg(process.id().to_string()));
        let begun = std::time::Instant::now();
        while process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < STOPPED, "it does not stop");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(process.wait().unwrap().success());
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

async fn submitted(client: &Client, request: SubmitRequest) -> Receipt {
    match client.submit(request).await.unwrap().0.pop().unwrap() {
        SubmitResult::Accepted(receipt) => receipt,
        SubmitResult::Refused(refusal) => panic!("{}: {}", refusal.code, refusal.message),
    }
}

/// The program of today on the folder in `tests/vectors/upgrade`.
async fn taken_over() {
    let recorded = read(ANSWERS).remove(0);
    let mut node = Upgraded::unpacked();
    node.is_whole();
    let client = node.start().await;
    let query = node.query();
    eventually("it writes, and everything is final", || async {
        let status = get(query, "/api/status").await;
        let same = position(&status) == recorded["status"];
        if status["ready"] == true && status["ranking_lag"] == 0 && same { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let wanted = recorded["answers"].as_object().unwrap();
    for (path, answer) in wanted {
        assert_eq!(lasting(get(query, path).await), *answer, "{path}");
    }
    assert!(wanted.len() > 15, "{} answers", wanted.len());

    // A client of the last release sends what it sent then.
    let sent = unhex(recorded["submitted"].as_str().unwrap());
    let request: SubmitRequest = codec::decode(&sent, fama_node::wire::REQUEST_BYTES_MAX).unwrap();
    let again = submitted(&client, request).await;
    assert!(again.known, "{again:?}");

    let key = SecretKey::from_seed(Curve::Ed25519, &[77; 32]).unwrap();
    let (home, name) = (domain(DOMAINS[0]), "after-the-upgrade".parse().unwrap());
    let action = Action::Register { home, name, key: key.public(), next: None, note: None };
    let said = signed(event(node.manifest.federation(), action, clock::now(), 1), &key);
    let receipt = submitted(&client, SubmitRequest { forwarded: false, submissions: vec![said] }).await;
    assert!(!receipt.known && receipt.index > again.index);
    eventually("it is final", || async {
        let profile = get(query, "/api/agent/after-the-upgrade").await;
        if profile["ledger"]["final"] == true { Ok(()) } else { Err(profile.to_string()) }
    })
    .await;
    node.stop();
    node.is_whole();
}

/// The folder of the last release is taken over: nothing else tells that a change of a format forgot the folders that
/// are there.
#[test]
fn a_folder_of_the_last_release_is_taken_over() {
    let holds = || std::panic::catch_unwind(|| multi(taken_over())).is_ok();
    let current = || read(ANSWERS)[0]["software"] == env!("CARGO_PKG_VERSION");
    if blessing() && !(vectors().join(ANSWERS).exists() && current() && holds()) {
        multi(renew());
    }
    multi(taken_over());
    let bytes = fs::metadata(vectors().join(FOLDER)).unwrap().len();
    assert!(bytes < FOLDER_BYTES_MAX as u64, "{bytes}");
}

/// The fixture is worth its name: it has every kind of event, and both versions of the manifest.
#[test]
fn the_folder_has_everything_that_one_operator_can_have() {
    let recorded = read(ANSWERS).remove(0);
    let answers = recorded["answers"].as_object().unwrap();
    let kinds: std::collections::BTreeSet<&str> =
        answers.values().filter_map(|answer| answer["kind"].as_str()).collect();
    let all: Vec<&str> = fama_ledger::event::Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(kinds, all.into_iter().collect());
    assert_eq!(recorded["status"]["manifest_version"], 2);
    let text = recorded.to_string();
    assert!(text.contains("ed25519") && text.contains("secp256k1"), "both curves");
}

/// An operator reads in one line whether data folder, wire and rules are those of the release before.
#[test]
fn the_changelog_says_what_an_upgrade_changes() {
    let changes = fs::read_to_string(crate::papers::root().join("CHANGELOG.md")).unwrap();
    let newest = changes.split("\n## ").nth(1).unwrap();
    let (wire, protocol) = (1, 1);
    let line =
        format!("**Upgrade**: data folder format {}, wire {wire}, protocol {protocol}.", fama_node::store::FORMAT);
    assert!(newest.starts_with(env!("CARGO_PKG_VERSION")) && newest.contains(&line), "no line: {line}");
    let rules = fs::read_to_string(crate::papers::root().join("ledger/PROTOCOL.md")).unwrap();
    for named in
        [format!("/sync/{wire}`"), format!("/submit/{wire}`"), format!("This document describes protocol {protocol}.")]
    {
        assert!(rules.contains(&named), "{named}");
    }
}
