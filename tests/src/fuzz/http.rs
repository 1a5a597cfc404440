//! Client input to the query listener: bodies, paths, query strings. Whatever the input, the answer is well-formed.
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, header};
use fama_ledger::base64;
use fama_ledger::batch::{Batch, LogMaps};
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::Action;
use fama_ledger::id::EventId;
use fama_ledger::join::LogState;
use fama_ledger::log::{Head, Tree, leaf_hash};
use fama_ledger::manifest::Manifest;
use fama_ledger::secret::SecretKey;
use fama_node::clock::{self, Clock};
use fama_node::http::{App, query};
use fama_node::shared::Shared;
use fama_node::store::{Commit, Store};
use fama_tests::{DOMAINS, START, domain, event, federation, log, secret, signed};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use super::targets::DecodeResult;

const NAME: &str = "swift-core-maps";
/// Longest answer that is read, in bytes; no answer is that long.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A query listener over a store with one agent, and the runtime that it runs on.
struct FuzzedListener {
    router: Router,
    runtime: Runtime,
    agent: EventId,
}

static ASKED: LazyLock<FuzzedListener> = LazyLock::new(|| {
    let manifest = Arc::new(federation(1, |_| ()));
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), &manifest).unwrap());
    let agent = register(&store, &manifest);
    fama_node::scores::settle(&store).unwrap();
    let app = App {
        shared: Shared { manifest, ..Shared::with(store, Clock::machine(), [0; 16]) },
        operator: Some(domain(DOMAINS[0])),
        namespace: Some(domain(DOMAINS[0])),
        started: START,
        partial: false,
        slot: Arc::default(),
        submit: None,
        services: fama_node::http::ServiceList::default(),
        ready: fama_node::http::Ready::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The folder is deleted here; the open database keeps reading from memory until the process ends.
    drop(dir);
    FuzzedListener { router: query(Arc::new(app), None), runtime, agent }
});

fn key() -> SecretKey {
    secret(2)
}

/// Fills a log with two batches: the owner's first entry, and the agent.
fn register(store: &Store, manifest: &Manifest) -> EventId {
    let (home, name) = (domain(DOMAINS[0]), NAME.parse().unwrap());
    let action = Action::Register { home, name, key: key().public(), next: None, note: None };
    let event = event(manifest.federation(), action, START, 1);
    let id = event.id();
    let said = signed(event, &key()).verify(&manifest.federation()).unwrap();
    let (mut tree, log) = (Tree::default(), log(0));
    let mut maps = LogMaps::load(manifest, &log, &store.view()).unwrap();
    let adopt = VerifiedEntry::adopt(START, manifest.version(), manifest.hash());
    for entry in [adopt, VerifiedEntry::of(START, said)] {
        let (view, first) = (store.view(), tree.size());
        let mut batch = Batch::begin(manifest, &log, &view, first).unwrap();
        let outcomes = [batch.replay(&entry).unwrap()];
        let folded = batch.finish(&mut maps).unwrap();
        let entries = [entry, VerifiedEntry::state(folded.time, folded.state_root)];
        let tiles = tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
        let Head { size, root } = tree.head();
        let state = LogState { log: log.clone(), size, root, state_root: folded.state_root };
        let (changes, nodes, notes) = (&folded.changes, &folded.nodes, &[]);
        let commit = Commit { state, first, entries: &entries, outcomes: &outcomes, tiles, changes, nodes, notes };
        store.commit(&[commit]).unwrap();
    }
    id
}

fn ask(method: Method, uri: &[u8], body: &[u8]) -> DecodeResult {
    let request = Request::builder().method(method).uri(uri).body(Body::from(body.to_vec()));
    let request = request.map_err(|_| "no_uri")?;
    ASKED.runtime.block_on(async { check(ASKED.router.clone().oneshot(request).await.unwrap()).await })
}

/// Every answer is JSON, except the texts that agents sign and the pages; every error has a code, and none is the node's fault.
async fn check(response: Response<Body>) -> DecodeResult {
    let (parts, body) = response.into_parts();
    if parts.headers[header::CONTENT_TYPE] == "text/event-stream" {
        // It has no end.
        return Ok(());
    }
    let bytes = to_bytes(body, ANSWER_BYTES_MAX).await.unwrap();
    assert!(!parts.status.is_server_error(), "{}", String::from_utf8_lossy(&bytes));
    let kind = parts.headers[header::CONTENT_TYPE].to_str().unwrap();
    if parts.status.is_success() && kind.starts_with("text/plain") {
        assert!(bytes.starts_with(b"fama.event/1\n"));
        return Ok(());
    }
    if kind.starts_with("text/html") {
        // A page for people; those of errors have no code.
        return if parts.status.is_success() { Ok(()) } else { Err("page") };
    }
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    if parts.status.is_success() {
        assert!(["application/json", "application/did+ld+json"].contains(&kind) && answer.is_object());
        return Ok(());
    }
    assert_eq!(kind, "application/problem+json");
    assert_eq!(answer["status"], parts.status.as_u16());
    assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()));
    Err(known(answer["code"].as_str().unwrap()))
}

/// The code as a string that lives forever; there are only a few codes to leak.
fn known(code: &str) -> &'static str {
    static CODES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut codes = CODES.lock().unwrap();
    if let Some(known) = codes.get(code) {
        return known;
    }
    let leaked = Box::leak(code.to_owned().into_boxed_str());
    codes.insert(leaked);
    leaked
}

/// The input is a body of `POST /api/verify`.
pub(crate) fn login(bytes: &[u8]) -> DecodeResult {
    ask(Method::POST, b"/api/verify", bytes)
}

/// The input is a path and a query string.
pub(crate) fn question(bytes: &[u8]) -> DecodeResult {
    ask(Method::GET, bytes, b"")
}

/// The input is a body of MLAuth's paths for writing, and of the one that asks for many agents.
pub(crate) fn recipe(bytes: &[u8]) -> DecodeResult {
    let paths: [&[u8]; 5] =
        [b"/api/register", b"/api/key/rotate", b"/api/key/revoke", b"/api/karma/attest", b"/api/agents"];
    // A text to sign is the answer that these paths are for.
    let taken = |answer: DecodeResult| answer.or_else(|code| if code == "sign_this" { Ok(()) } else { Err(code) });
    paths.into_iter().map(|path| taken(ask(Method::POST, path, bytes))).fold(Err("none"), Result::or)
}

pub(crate) fn recipes() -> Vec<Vec<u8>> {
    let key = secret(3).public().to_pem().unwrap();
    let bodies = [
        json!({"agents": [NAME, ASKED.agent.to_string(), "nobody@alpha.example"]}),
        json!({"public_key": key, "dumbname": "other", "bio": "é"}),
        json!({"dumbname": NAME, "timestamp": "x", "signature": "x", "new_public_key": key}),
        json!({"dumbname": NAME, "timestamp": "x", "signature": "x", "reason": "KEY_COMPROMISED"}),
        json!({"provider_name": NAME, "agent_id": NAME, "score_change": 1, "reason": "r", "external_ref": "https://x.example"}),
    ];
    bodies.iter().map(|body| body.to_string().into_bytes()).collect()
}

pub(crate) fn logins() -> Vec<Vec<u8>> {
    let (timestamp, message) = (clock::now().to_string(), "GET /me é");
    let signature = key().sign(format!("{NAME}{timestamp}{message}").as_bytes());
    let signature = base64::encode(signature.as_bytes());
    let body = json!({"dumbname": NAME, "timestamp": timestamp, "signature": signature, "message": message});
    vec![body.to_string().into_bytes(), format!("{body:#}").into_bytes()]
}

pub(crate) fn questions() -> Vec<Vec<u8>> {
    let agent = ASKED.agent;
    let did = fama_ledger::id::did(&domain(DOMAINS[0]), &agent);
    let questions = [
        "/api".to_owned(),
        "/api/status".to_owned(),
        "/api/federation".to_owned(),
        format!("/api/agent/{NAME}"),
        format!("/api/agent/{NAME}@alpha.example?final=1"),
        format!("/api/agent/{agent}"),
        format!("/api/agent/{did}"),
        format!("/api/event/{agent}"),
        "/api/leaderboard".to_owned(),
        format!("/api/leaderboard?limit=3&cursor=-7.{agent}"),
        format!("/api/agent/{NAME}/attestations?limit=2&cursor=1795323600000-0-alpha.example/1"),
        format!("/api/agent/{NAME}/events?limit=2"),
        format!("/api/agent/{NAME}/keys?cursor=2"),
        format!(
            "/api/agent/{NAME}/karma?half_life=30&since=2026-01-01&as_of=2026-12-01&provider_share_max=50&context=code"
        ),
        format!("/api/agent/{NAME}?at=2026-12-01T00:00:00Z"),
        format!("/api/agent/{NAME}/did.json"),
        format!("/api/agent/{NAME}/sponsorship"),
        format!("/api/key/{}", key().public()),
        format!("/api/services?limit=1&cursor=a~b.example~{agent}"),
        format!("/api/service/{NAME}"),
        format!("/api/search?q={}&limit=3", &NAME[..2]),
        format!("/api/search?q=did:agent:alpha.example:{}", &agent.to_string()[..5]),
        format!("/api/event/template?kind=register&home=alpha.example&name=other&key={}", secret(3).public()),
        format!("/api/event/template?kind=revoke&identity={NAME}&key={}&reason=retired", key().public()),
        format!("/api/event/template?kind=attest&issuer={NAME}&subject={agent}&delta=%2D5&context=code"),
    ];
    questions.map(String::into_bytes).into()
}
