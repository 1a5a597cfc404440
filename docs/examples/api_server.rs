//! An API that accepts Fama's tokens, with axum and fama-ledger:
//! `api_server NODE_URL PORT GENESIS_FILE RESOURCE MIN_KARMA ISSUER...`. `RESOURCE` is the service's DID or https address.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program of its own, and no thread panics while it holds the lock
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use fama_ledger::frontier::{Frontier, FrontierError};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::token::{AccessToken, DpopProof, Expected, TokenError};
use serde_json::{Value, json};

/// What is older concerns no token that still holds.
const EVENT_SECONDS: u64 = 930;
const EVENTS_MAX: usize = 100_000;
const PROOFS_MAX: usize = 100_000;
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const ANSWER_TIME: Option<Duration> = Some(Duration::from_secs(10));

struct Kept {
    manifest: Arc<Manifest>,
    /// When a newer manifest was last asked for.
    asked: u64,
    /// The newest thing that happened, by agent and granting service (`""`: it counts for every service) and log: its
    /// index, and when it was heard of.
    events: HashMap<(String, String, LogId), (u64, u64)>,
    /// What every token's issuer must have known: events before it were not heard of here.
    floor: Frontier,
    /// DPoP proofs that were used, until they end.
    proofs: HashMap<(String, String), u64>,
}

struct App {
    node: String,
    resource: String,
    /// The address under which clients reach it: the resource, if that is one.
    url: String,
    min_karma: i64,
    issuers: Vec<String>,
    kept: Mutex<Kept>,
}

/// A refusal: its status, its code, and OAuth's word for it.
struct No(u16, &'static str, &'static str);

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// The origin and the path of an address; the path `/` counts as none.
fn split(url: &str) -> (&str, &str) {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let at = url[begin..].find('/').map_or(url.len(), |at| begin + at);
    (&url[..at], url[at..].trim_end_matches('/'))
}

/// The last part of a DID: the first half of the identity's id.
fn half(did: &str) -> &str {
    did.rsplit(':').next().unwrap_or_default()
}

impl App {
    /// Asks the node for newer versions of the manifest, unless that was done a moment ago.
    fn renew(&self) -> Arc<Manifest> {
        let held = {
            let mut kept = self.kept.lock().unwrap();
            if now() < kept.asked + 10 {
                return Arc::clone(&kept.manifest);
            }
            kept.asked = now();
            Arc::clone(&kept.manifest)
        };
        let request = ureq::get(format!("{}/api/federation/manifests", self.node)).config().timeout_global(ANSWER_TIME);
        let chain = request.build().call().and_then(|mut answer| answer.body_mut().read_to_string());
        // Whatever the node says instead: the version that is held stays in use.
        let newer = chain.ok().and_then(|chain| Manifest::parse_chain(&chain).ok()).filter(|newer| {
            let same = newer.at(held.version()).is_some_and(|version| version.hash() == held.hash());
            same && newer.version() > held.version()
        });
        let Some(newer) = newer else { return held };
        self.kept.lock().unwrap().manifest = Arc::clone(&newer);
        newer
    }

    /// What a token says, if it may be used for this request.
    fn check(&self, headers: &HeaderMap, method: &str, uri: &str) -> Result<AccessToken, No> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return Err(No(401, "no_credentials", "")) };
        let given = given.to_str().ok().and_then(|given| given.split_once(' '));
        let (scheme, text) = given.ok_or(No(400, "bad_authorization", "invalid_request"))?;
        let manifest = Arc::clone(&self.kept.lock().unwrap().manifest);
        let issuers: Vec<&str> = self.issuers.iter().map(String::as_str).collect();
        let checked = |manifest: &Manifest| {
            AccessToken::check(text, &Expected { manifest, issuers: &issuers, audience: &self.resource, now: now() })
        };
        // A newer version of the manifest may name the key.
        let token = checked(&manifest).or_else(|error| match error {
            TokenError::Key => checked(&self.renew()),
            error => Err(error),
        });
        let token = token.map_err(|error| No(401, error.code(), "invalid_token"))?;
        match (&token.key_thumbprint, scheme.to_ascii_lowercase().as_str()) {
            (None, "bearer") => {}
            (Some(key), "dpop") => self.check_proof(headers, (method, uri), (text, key))?,
            _ => return Err(No(401, "wrong_scheme", "invalid_token")),
        }
        self.check_withdrawn(&token)?;
        Ok(token)
    }

    /// Whoever sends the token has the key that it is bound to, and the proof was not used before.
    fn check_proof(
        &self,
        headers: &HeaderMap,
        (method, uri): (&str, &str),
        (text, key): (&str, &str),
    ) -> Result<(), No> {
        let wrong = |code| No(401, code, "invalid_dpop_proof");
        let proof = headers.get("dpop").and_then(|proof| proof.to_str().ok()).ok_or(wrong("dpop_header"))?;
        let proof = DpopProof::check(proof, method, uri, Some(text), now()).map_err(|error| wrong(error.code()))?;
        if proof.key_thumbprint != key {
            return Err(wrong("token_dpop"));
        }
        let proofs = &mut self.kept.lock().unwrap().proofs;
        if proofs.len() >= PROOFS_MAX {
            proofs.retain(|_, ends| *ends > now());
        }
        if proofs.len() >= PROOFS_MAX {
            return Err(No(503, "busy", ""));
        }
        match proofs.insert((proof.key_thumbprint, proof.id), proof.ends) {
            None => Ok(()),
            Some(_) => Err(wrong("used")),
        }
    }

    /// Nothing happened to the agent's key or access that the token's issuer did not know.
    fn check_withdrawn(&self, token: &AccessToken) -> Result<(), No> {
        let manifest = Arc::clone(&self.kept.lock().unwrap().manifest);
        let known = Frontier::parse(&token.frontier, &manifest).or_else(|error| match error {
            FrontierError::LaterVersion(_) => Frontier::parse(&token.frontier, &self.renew()),
            error => Err(error),
        });
        let known = known.map_err(|error| match error {
            FrontierError::LaterVersion(_) => No(503, "later_version", ""),
            FrontierError::Malformed => No(401, "token_claim", "invalid_token"),
        })?;
        let kept = self.kept.lock().unwrap();
        let (agent, service) = (token.identity.to_string(), half(&token.service));
        let unknown = ["", service].iter().any(|service| {
            kept.manifest.logs().keys().any(|log| {
                let event = kept.events.get(&(agent.clone(), (*service).to_owned(), log.clone()));
                event.is_some_and(|(index, _)| *index >= known.of(log))
            })
        });
        if unknown || kept.floor.is_beyond(&known) { Err(No(401, "withdrawn", "invalid_token")) } else { Ok(()) }
    }

    /// Reads the node's stream after `cursor` until it ends; `None` always, with or without an error.
    fn follow(&self, cursor: &mut String) -> Option<()> {
        let request =
            ureq::get(format!("{}/api/stream?kind=key,access", self.node)).header("accept-encoding", "identity");
        let request = if cursor.is_empty() { request } else { request.header("last-event-id", cursor.as_str()) };
        let request = request.config().timeout_connect(ANSWER_TIME).timeout_recv_response(ANSWER_TIME);
        let answer = request.timeout_recv_body(Some(Duration::from_secs(300))).build().call();
        if let Err(ureq::Error::StatusCode(400 | 410)) = answer {
            // It cannot continue there.
            cursor.clear();
        }
        let mut lines = BufReader::new(answer.ok()?.into_body().into_reader());
        let (mut id, mut name) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            lines.by_ref().take(65_536).read_line(&mut line).ok()?;
            let line = line.strip_suffix('\n')?;
            match line.split_once(": ") {
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("event", value)) => value.clone_into(&mut name),
                Some(("data", data)) => {
                    self.heard(&name, &id, cursor.is_empty(), &serde_json::from_str(data).ok()?)?;
                    id.clone_into(cursor);
                }
                _ => {}
            }
        }
    }

    fn heard(&self, name: &str, id: &str, is_first: bool, data: &Value) -> Option<()> {
        let manifest = Arc::clone(&self.kept.lock().unwrap().manifest);
        if name == "open" {
            let at = Frontier::parse(id, &manifest).or_else(|_| Frontier::parse(id, &self.renew())).ok()?;
            if is_first {
                self.kept.lock().unwrap().floor = at;
            }
            return Some(());
        }
        let (agent, log, index) =
            (data["identity"].as_str()?, data["log"].as_str()?.parse().ok()?, data["index"].as_u64()?);
        let of_grant = matches!(data["kind"].as_str()?, "grant" | "ungrant");
        let service = if of_grant { data["provider"].as_str()?.get(..32)? } else { "" };
        let mut kept = self.kept.lock().unwrap();
        if kept.events.len() >= EVENTS_MAX {
            kept.events.retain(|_, (_, at)| *at + EVENT_SECONDS > now());
        }
        if kept.events.len() >= EVENTS_MAX {
            // Nothing is forgotten early: all tokens must be newer than what is dropped.
            for ((_, _, log), (index, _)) in std::mem::take(&mut kept.events) {
                let size = kept.floor.of(&log).max(index + 1);
                kept.floor.set(&log, size);
            }
        }
        kept.events.insert((agent.to_owned(), service.to_owned(), log), (index, now()));
        Some(())
    }

    /// Where the metadata is: before the path of the address (RFC 9728, section 3.1).
    fn metadata_url(&self) -> String {
        let (origin, path) = split(&self.url);
        format!("{origin}{WELL_KNOWN}{path}")
    }
}

/// Serves what needs this scope.
async fn guarded(app: Arc<App>, scope: &'static str, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let checked = tokio::task::spawn_blocking({
        let app = Arc::clone(&app);
        move || {
            let uri = format!("{}{}", split(&app.url).0, parts.uri.path());
            let token = app.check(&parts.headers, parts.method.as_str(), &uri)?;
            if !token.has_scope(scope) {
                return Err(No(403, "insufficient_scope", "insufficient_scope"));
            }
            let enough = scope != "pay" || token.karma >= app.min_karma;
            if enough { Ok(token) } else { Err(No(403, "low_karma", "")) }
        }
    });
    match checked.await.unwrap_or(Err(No(500, "internal", ""))) {
        Ok(token) => Json(json!({"agent": token.client_id, "process": token.process, "scope": scope})).into_response(),
        Err(No(status, code, error)) => {
            let body = Json(json!({"code": code}));
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if status == 401 || !error.is_empty() {
                let error = if error.is_empty() { String::new() } else { format!("error=\"{error}\", ") };
                let scope = if status == 403 { format!("scope=\"{scope}\", ") } else { String::new() };
                let told = format!("Bearer {error}{scope}resource_metadata=\"{}\"", app.metadata_url());
                response.headers_mut().insert(header::WWW_AUTHENTICATE, told.parse().unwrap());
            }
            response
        }
    }
}

async fn metadata(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "resource": app.resource, "authorization_servers": app.issuers, "scopes_supported": ["read", "pay"],
        "bearer_methods_supported": ["header"], "dpop_signing_alg_values_supported": ["EdDSA", "Ed25519", "ES256"],
    }))
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, node, port, genesis, resource, min_karma, issuers @ ..] = &arguments[..] else {
        panic!("api_server NODE_URL PORT GENESIS_FILE RESOURCE MIN_KARMA ISSUER...")
    };
    assert!(!issuers.is_empty(), "name the issuers that you accept: there is no default");
    let genesis = std::fs::read_to_string(genesis).expect("GENESIS_FILE can be read");
    let manifest = Manifest::parse_chain(&genesis).expect("GENESIS_FILE is a manifest");
    let (events, floor, proofs) = (HashMap::new(), Frontier::default(), HashMap::new());
    let kept = Mutex::new(Kept { manifest, asked: 0, events, floor, proofs });
    let min_karma = min_karma.parse().expect("MIN_KARMA is a number");
    let (node, resource, issuers) = (node.clone(), resource.clone(), issuers.to_vec());
    let url = if resource.starts_with("did:") { format!("http://127.0.0.1:{port}") } else { resource.clone() };
    let app = Arc::new(App { node, resource, url, min_karma, issuers, kept });
    let follower = Arc::clone(&app);
    std::thread::spawn(move || {
        let mut cursor = String::new();
        loop {
            follower.follow(&mut cursor);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let read = async |State(app): State<Arc<App>>, request: Request| guarded(app, "read", request).await;
    let pay = async |State(app): State<Arc<App>>, request: Request| guarded(app, "pay", request).await;
    let router = Router::new().route("/answers", routing::get(read)).route("/pay", routing::post(pay));
    let place = format!("{WELL_KNOWN}{}", split(&app.url).1);
    let router = router.route(&place, routing::get(metadata)).with_state(app);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    println!("listening on http://127.0.0.1:{port}");
    axum::serve(listener, router).await.expect("axum's loop never ends");
}
