//! What a node offers besides answers: `/skill.md`, whose commands agents run as they stand, MLAuth's paths for writing,
//! and the stream of events.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fama_ledger::base64;
use fama_ledger::event::{Action, Event, Nonce, RevokeReason};
use fama_ledger::id::EventId;
use fama_ledger::key::Signature;
use fama_ledger::secret::SecretKey;
use fama_tests::{DOMAINS, domain, secret};
use serde_json::{Value, json};

use crate::cli::program;
use crate::federation::{LocalFederation, get, multi};

/// Most events that wait to be looked at.
const SEEN_MAX: usize = 4_096;
/// How soon a revocation must reach a subscriber of another node.
const HEARD: Duration = Duration::from_secs(1);

/// A federation of `n`, whose nodes all take events over HTTP.
pub(crate) async fn running(n: u8) -> LocalFederation {
    let mut net = LocalFederation::new(n);
    for i in 0..usize::from(n) {
        let mut config = net.config(i);
        config.submit.enabled = true;
        net.start_with(i, config).await;
    }
    net.wait("all nodes hear the others", |status| status["fresh"] == true && status["waiting"].is_null()).await;
    net
}

pub(crate) fn text_of(address: SocketAddr, path: &str) -> String {
    let agent = ureq::Agent::config_builder().build().new_agent();
    agent.get(format!("http://{address}{path}")).call().unwrap().body_mut().read_to_string().unwrap()
}

fn post(address: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut answer = agent.post(format!("http://{address}{path}")).send_json(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

/// A signature as most libraries write it, in base64.
fn signature(key: &SecretKey, text: &str) -> String {
    let bytes = match key.sign(text.as_bytes()) {
        Signature::Ed25519(bytes) => bytes.to_vec(),
        Signature::Secp256k1([rs @ .., _]) => rs.to_vec(),
    };
    base64::encode(&bytes)
}

/// Hands in a text with a signature; the status and the answer.
fn hand_in(address: SocketAddr, text: &str, key: &SecretKey) -> (u16, Value) {
    post(address, "/events", &json!({"text": text, "signature": signature(key, text)}))
}

/// The commands of a Markdown text's `sh` blocks.
fn commands(text: &str) -> String {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect()
}

/// The commands of a Markdown text under each of its headings.
pub(crate) fn sections(text: &str) -> BTreeMap<&str, String> {
    let sections = text.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    sections.map(|(heading, rest)| (heading, commands(rest))).collect()
}

#[test]
fn every_command_of_the_skill_works_as_it_stands() {
    multi(async {
        let net = running(4).await;
        let query = net.nodes[0].as_ref().unwrap().query;
        let text = tokio::task::spawn_blocking(move || text_of(query, "/skill.md")).await.unwrap();
        assert!(!text.contains('{') || !text.contains("{query}"), "every address is filled in");
        let (dir, script) = (tempfile::tempdir().unwrap(), commands(&text));
        assert!(script.matches("curl").count() >= 8, "{script}");
        let ran = tokio::task::spawn_blocking(move || {
            let mut shell = Command::new("bash")
                .args(["-euo", "pipefail", "-s"])
                .current_dir(dir.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            shell.wait_with_output().unwrap()
        });
        let ran = ran.await.unwrap();
        let printed = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{printed}\n{}", String::from_utf8_lossy(&ran.stderr));
        assert!(printed.contains("\"verified\":true"), "the login: {printed}");
        assert!(printed.trim_end().ends_with("\"is_revoked\":true"), "the revocation: {printed}");
    });
}

#[test]
fn an_agent_with_its_old_recipe_needs_one_step_more() {
    multi(async {
        let net = running(4).await;
        let (query, submit) = (net.nodes[1].as_ref().unwrap().query, net.nodes[1].as_ref().unwrap().submit);
        let key = secret(2);
        let recipe = move || {
            let body =
                json!({"public_key": key.public().to_pem().unwrap(), "dumbname": "old-hand", "bio": "I know MLAuth"});
            // Both listeners say the same.
            let (status, refused) = post(submit, "/api/register", &body);
            assert_eq!((status, &refused["code"]), (422, &json!("sign_this")), "{refused}");
            let (_, refused) = post(query, "/api/register", &body);
            assert_eq!(refused["post_to"], format!("http://{submit}/events"));
            let text = refused["text"].as_str().unwrap();
            let sent = json!({"text": text, "signature": signature(&key, text), "note": refused["note"]});
            let (status, receipt) = post(submit, "/events", &sent);
            assert_eq!(status, 201, "{receipt}");
            let body = json!({"dumbname": "old-hand@beta.example", "timestamp": "x", "signature": "x", "reason": "KEY_COMPROMISED"});
            let (_, refused) = post(query, "/api/key/revoke", &body);
            assert_eq!(hand_in(submit, refused["text"].as_str().unwrap(), &key).0, 201);
            let (status, refused) = post(submit, "/api/services", &json!({"name": "x"}));
            assert_eq!((status, &refused["code"]), (422, &json!("ask_operator")));
        };
        tokio::task::spawn_blocking(recipe).await.unwrap();
        net.shows("old-hand@beta.example", |profile| profile["key_status"]["is_revoked"] == true).await;
        let profile = get(query, "/api/agent/old-hand@beta.example").await;
        assert_eq!(profile["identity"]["bio"], "I know MLAuth", "the note came along: {profile}");
    });
}

/// Schemathesis, if this machine has it.
#[allow(clippy::print_stdout, reason = "a test that shows nothing must say so")]
pub(crate) fn tester() -> Option<PathBuf> {
    let target = program().ancestors().nth(2).unwrap().to_owned();
    let tester = target.join("schemathesis/bin/schemathesis");
    if tester.is_file() {
        return Some(tester);
    }
    assert!(std::env::var_os("FAMA_FOREIGN").is_none(), "no {}", tester.display());
    println!("skipped: no schemathesis; `FAMA_FOREIGN=1 .cargo/needs.sh test` installs one");
    None
}

#[test]
fn the_openapi_documents_hold_against_a_tester_of_others() {
    let Some(tester) = tester() else { return };
    multi(async {
        let net = running(1).await;
        let (_, registration) = net.register(0, "swift-core-maps", &secret(2));
        net.accepted(0, registration).await;
        let node = net.nodes[0].as_ref().unwrap();
        for listener in [node.query, node.submit] {
            tested(&tester, listener, "/api/openapi.json").await;
        }
    });
}

/// Has the tester ask a listener for everything in its document, which is at this path.
pub(crate) async fn tested(tester: &Path, listener: SocketAddr, path: &str) {
    let (tester, document) = (tester.to_owned(), format!("http://{listener}{path}"));
    let ran = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let mut tester = Command::new(tester);
        tester.args(["run", &document, "--max-examples", "20", "--request-timeout", "10", "--no-color"]);
        // No stream ends.
        tester.args(["--exclude-path", "/api/stream", "--seed", "1"]);
        let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
        tester.args(["--checks", checks]).current_dir(dir.path()).output().unwrap()
    });
    let ran = ran.await.unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(printed.contains(" generated"), "it asked: {printed}");
}

/// Follows a stream on a thread: the time at which each event id was first seen.
fn follow(address: SocketAddr, path: &str) -> (mpsc::Receiver<(String, Instant)>, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: node\r\naccept: text/event-stream\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let open = loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(id) = line.strip_prefix("id: ") {
            break id.to_owned();
        }
    };
    let (found, seen) = mpsc::sync_channel(SEEN_MAX);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let data: Value = serde_json::from_str(data).unwrap();
            if let Some(event) = data["event"].as_str()
                && found.send((event.to_owned(), Instant::now())).is_err()
            {
                return;
            }
        }
    });
    (seen, open)
}

/// Attestations to many subjects, a batch every tenth of a second.
struct AttestationLoad {
    federation: fama_ledger::id::FederationId,
    judge: EventId,
    judge_key: SecretKey,
    subjects: Vec<EventId>,
}

impl AttestationLoad {
    /// Attestations a second.
    const RATE: u64 = 500;

    /// Sends until `busy` is false; returns how many were taken.
    fn send(&self, to: SocketAddr, busy: &AtomicBool) -> u64 {
        let (begin, mut sent, mut taken) = (Instant::now(), 0u64, 0u64);
        while busy.load(Ordering::Relaxed) {
            let batch: Vec<Value> = (sent..sent + Self::RATE / 10).map(|i| self.attestation(i)).collect();
            sent += Self::RATE / 10;
            let (status, answers) = post(to, "/events", &json!(batch));
            assert_eq!(status, 200, "{answers}");
            taken += answers.as_array().unwrap().iter().filter(|one| one["status"] == 201).count() as u64;
            let due = begin + Duration::from_millis(sent * 1_000 / Self::RATE);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        taken
    }

    fn attestation(&self, i: u64) -> Value {
        let subject = self.subjects[(i % self.subjects.len() as u64) as usize];
        let (home, issuer) = (domain(DOMAINS[1]), self.judge);
        let action = Action::Attest { home, issuer, subject, delta: 1, context: None, note: None };
        let nonce = Nonce((1 << 40 | i).to_be_bytes());
        let event = Event { federation: self.federation, action, created: fama_node::clock::now(), nonce };
        let text = event.text();
        json!({"text": text, "signature": signature(&self.judge_key, &text)})
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "a figure for those who ask for it")]
fn a_revocation_reaches_a_subscriber_of_another_node_within_a_second() {
    const COUNT: u32 = 200;
    multi(async {
        let net = running(4).await;
        let nodes: Vec<(SocketAddr, SocketAddr)> =
            net.nodes.iter().flatten().map(|node| (node.query, node.submit)).collect();
        let agents: Vec<(SecretKey, Event)> = (0..COUNT)
            .map(|i| {
                let mut seed = [0x5a; 32];
                seed[..4].copy_from_slice(&i.to_be_bytes());
                let key = SecretKey::from_seed(fama_ledger::key::Curve::Ed25519, &seed).unwrap();
                let (_, submission) = net.register(i as usize % 4, &format!("agent-{i}"), &key);
                (key, submission.signed.event)
            })
            .collect();
        let federation = net.manifest.federation();
        let judge_key = secret(4);
        let judge = net.provider(1, "judge", &judge_key).await;
        let measure = move || {
            for (i, (key, event)) in agents.iter().enumerate() {
                let (status, answer) = hand_in(nodes[i % 4].1, &event.text(), key);
                assert!(status < 300, "{answer}");
            }
            // Every node has every agent: else a claim could not be said to count.
            let deadline = Instant::now() + Duration::from_secs(30);
            for (query, _) in &nodes {
                let last = &agents.last().unwrap().1;
                while text_or_none(*query, &format!("/api/agent/{}", last.id())).is_none() {
                    assert!(Instant::now() < deadline, "a registration does not arrive");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            let subjects: Vec<EventId> = agents.iter().map(|(_, event)| event.id()).collect();
            let (load, busy) =
                (AttestationLoad { federation, judge, judge_key, subjects }, Arc::new(AtomicBool::new(true)));
            let loading = (load, nodes[1].1, Arc::clone(&busy));
            let loading = std::thread::spawn(move || loading.0.send(loading.1, &loading.2));
            let (heard, open) = follow(nodes[3].0, "/api/stream?kind=key");
            let mut said = BTreeMap::new();
            for (i, (key, event)) in agents.iter().enumerate() {
                let Action::Register { home, .. } = &event.action else { unreachable!() };
                let action = Action::Revoke {
                    home: home.clone(),
                    identity: event.id(),
                    version: 1,
                    key: key.public(),
                    reason: RevokeReason::KeyCompromised,
                };
                let nonce = Nonce((i as u64).to_be_bytes());
                let revocation = Event { federation, action, created: fama_node::clock::now(), nonce };
                // At any of the three other nodes, whoever is the home.
                let (status, answer) = hand_in(nodes[i % 3].1, &revocation.text(), key);
                let now = Instant::now();
                assert!(status < 300, "{answer}");
                said.insert(revocation.id().to_string(), now);
            }
            let mut took: Vec<Duration> = Vec::new();
            let mut left = said.clone();
            while !left.is_empty() {
                let (event, at) = heard.recv_timeout(Duration::from_secs(20)).expect("a revocation is not heard of");
                if let Some(said) = left.remove(&event) {
                    took.push(at.saturating_duration_since(said));
                }
            }
            took.sort();
            busy.store(false, Ordering::Relaxed);
            let sent = loading.join().unwrap();
            assert!(sent > 0, "nothing else happened");
            // A subscriber that lost its connection continues at another node, and misses none.
            let (again, _) = follow(nodes[0].0, &format!("/api/stream?kind=key&after={open}"));
            let mut left = said;
            while !left.is_empty() {
                let (event, _) = again.recv_timeout(Duration::from_secs(20)).expect("missed at another node");
                left.remove(&event);
            }
            took
        };
        let took = tokio::task::spawn_blocking(measure).await.unwrap();
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        println!("heard of: p50 {:?}, p99 {:?}, longest {:?}", at(50), at(99), at(100));
        assert!(at(99) < HEARD, "p50 {:?}, p99 {:?}, longest {:?}", at(50), at(99), at(100));
    });
}

fn text_or_none(address: SocketAddr, path: &str) -> Option<Value> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut answer = agent.get(format!("http://{address}{path}")).call().unwrap();
    answer.status().is_success().then(|| answer.body_mut().read_json().unwrap())
}
