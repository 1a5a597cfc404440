//! Tokens that a node issues in a second, next to the signatures that one token cannot do without: checking the assertion's
//! and making the token's, on the same number of processors.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::{IdentityId, did};
use fama_ledger::jose::{self, JoseKey, Jws};
use fama_ledger::key::Curve;
use fama_ledger::manifest::{Endpoints, Manifest, Policy};
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_node::config::{AuthSettings, Config};
use fama_node::network::client::Client;
use fama_node::wire::{Submission, SubmitRequest, SubmitResult};
use serde_json::json;

use crate::renewals::{addresses, config, domain, get, key, launch, manifest, ports, wait};
use crate::report::Report;

const ISSUER: &str = "https://auth.op-0.example";
/// Agents that sign in; each may do so 240 times a minute.
const AGENTS: usize = 50;
/// Tokens of a round; a node answers one address block 2,000 requests a second.
const TOKENS: usize = 2_000;
const ROUNDS: usize = 4;
/// Clients at the same time.
const CLIENTS: usize = 64;

struct Agent {
    key: SecretKey,
    id: IdentityId,
}

/// Adds tokens a second next to bare signatures, for agents with keys of each curve.
pub(crate) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for curve in [Curve::Secp256k1, Curve::Ed25519] {
        let (ports, dir) = (ports(1), tempfile::tempdir().unwrap());
        let token_key = key(2_000);
        let endpoints = |_| Endpoints {
            issuer: Some(ISSUER.to_owned()),
            token_keys: vec![token_key.ed25519().unwrap().verifying_key()],
            ..Endpoints::default()
        };
        let manifest = Arc::new(manifest(&ports, Policy::recommended(1), endpoints));
        let usual = config(&manifest, dir.path(), 0, ports[0]);
        let auth = AuthSettings { listener: usual.query, token_key: Arc::new(key(2_000)), token_seconds: 300 };
        let node = runtime.block_on(launch(Config { auth: Some(auth), ..usual }));
        wait("the node writes", || get(node.query, "/api/status").contains("\"waiting\":null"));
        let (service, agents) = runtime.block_on(registered(&manifest, ports[0], curve));
        let resource = did(&domain(0), &service);
        wait("all are registered and final", || {
            get(node.query, &format!("/api/agent/{}/grants?given=1&limit=200", service)).matches("\"scope\"").count()
                == AGENTS
        });
        let (mut ours, mut limit) = (0.0f64, 0.0f64);
        for _ in 0..ROUNDS {
            let assertions = assertions(&agents);
            limit = limit.max(bare(&agents, &assertions, &token_key));
            ours = ours.max(issued(node.auth.unwrap(), &resource, &assertions));
        }
        let task = format!("tokens issued to agents with {}", curve.as_str());
        report.limited(&task, ours, ("their two signatures, bare", limit));
        node.stop(&runtime);
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// A service and agents that it grants one scope.
async fn registered(manifest: &Manifest, port: u16, curve: Curve) -> (IdentityId, Vec<Agent>) {
    let client = Client::connect(manifest.federation(), addresses(port)[0].parse().unwrap()).await.unwrap();
    let made = |action: Action, by: &SecretKey| {
        let event = Event { federation: manifest.federation(), action, created: clock::now(), nonce: Nonce(random()) };
        let signature = by.sign(event.text().as_bytes());
        SignedEvent { event, signer: by.public(), signature, countersignature: None }
    };
    let submit = async |events: Vec<SignedEvent>| {
        let whole = |signed| Submission { signed, note: None, invite: None, recovered: None };
        let submissions = events.into_iter().map(whole).collect();
        let answer = client.submit(SubmitRequest { forwarded: false, submissions }).await.unwrap();
        assert!(answer.0.iter().all(|one| matches!(one, SubmitResult::Accepted(_))), "{answer:?}");
    };
    let new = |i: usize| {
        let own = SecretKey::from_seed(curve, &random()).unwrap();
        let (home, name) = (domain(0), format!("agent-{i}").parse().unwrap());
        let event = made(Action::Register { home, name, key: own.public(), next: None, note: None }, &own);
        (Agent { key: own, id: event.event.id() }, event)
    };
    let mut everybody = Vec::new();
    for i in 0..=AGENTS {
        let (agent, event) = new(i);
        submit(vec![event]).await;
        everybody.push(agent);
    }
    let service = everybody.pop().unwrap();
    for agent in &everybody {
        let (scope, expires, note) = ("read".parse().unwrap(), None, None);
        let action = Action::Grant { home: domain(0), issuer: service.id, subject: agent.id, scope, expires, note };
        submit(vec![made(action, &service.key)]).await;
    }
    client.close().await;
    (service.id, everybody)
}

/// Assertions by all agents in turns.
fn assertions(agents: &[Agent]) -> Vec<String> {
    let now = clock::now().0 / 1_000;
    let one = |i: usize| {
        let agent = &agents[i % agents.len()];
        let name = did(&domain(0), &agent.id);
        let id = fama_ledger::id::Hex(&random::<16>()).to_string();
        let claims = json!({"iss": name, "sub": name, "aud": ISSUER, "jti": id, "iat": now, "exp": now + 240});
        let header = json!({"alg": JoseKey::Ledger(agent.key.public()).algorithms()[0], "typ": "JWT"});
        jose::sign(&header, &claims, |message| jose::signature_bytes(&agent.key.sign(message)))
    };
    (0..TOKENS).map(one).collect()
}

/// Checks each assertion's signature and signs as many bytes as a token has, on all processors.
fn bare(agents: &[Agent], assertions: &[String], token_key: &SecretKey) -> f64 {
    let workers = std::thread::available_parallelism().unwrap().get();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for (i, text) in assertions.iter().enumerate().skip(worker).step_by(workers) {
                    let agent = &agents[i % agents.len()];
                    Jws::parse(text).unwrap().verify(&JoseKey::Ledger(agent.key.public())).unwrap();
                    std::hint::black_box(token_key.sign(&[7; 700]));
                }
            });
        }
    });
    assertions.len() as f64 / begun.elapsed().as_secs_f64()
}

/// Sends all assertions over connections that stay open, and counts the tokens.
fn issued(auth: SocketAddr, resource: &str, assertions: &[String]) -> f64 {
    // A second for the listener's own bound to allow as many again.
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(auth).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                for assertion in assertions.iter().skip(client).step_by(CLIENTS) {
                    let body = format!(
                        "grant_type=client_credentials&resource={resource}&client_assertion={assertion}&client_assertion_type=\
                         urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                    );
                    write!(
                        stream,
                        "POST /oauth/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                         Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .unwrap();
                    let (status, body) = answer(&mut answers);
                    assert!(status.contains(" 200 "), "{status}{body}");
                    assert!(body.contains("access_token"), "{body}");
                }
            });
        }
    });
    assertions.len() as f64 / begun.elapsed().as_secs_f64()
}

/// The status line and the body of the next answer.
fn answer(answers: &mut impl BufRead) -> (String, String) {
    let (mut status, mut length) = (String::new(), 0);
    answers.read_line(&mut status).unwrap();
    loop {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(told) = line.strip_prefix("content-length: ") {
            length = told.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}
