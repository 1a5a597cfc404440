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
const EVENT_SECONDS: u64 = 990;
const EVENTS_MAX: usize = 100_000;
const PROOFS_MAX: usize = 100_000;
/// How many of them one agent may have, whatever its keys.
const PROOFS_OF_ONE_MAX: usize = 2_000;
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const ANSWER_TIME: Option<Duration> = Some(Duration::from_secs(10));

struct Kept {
    manifest: Arc<Manifest>,
    /// When a newer manifest was last asked for.
    asked: u64,
    /// The newest thing that happened, by identity and granting service (`""`: it counts for every service) and log: its
    /// index, and when it was heard of. Of ids the first half, as DIDs have it.
    events: HashMap<(String, String, LogId), (u64, u64)>,
    /// What every token's issuer must have known, events before it were not heard of here; and when it was last raised.
    floor: (Frontier, u64),
    /// DPoP proofs that were used, by agent, until they end.
    proofs: HashMap<String, HashMap<(String, String), u64>>,
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
    fn check(&self, scope: &str, headers: &HeaderMap, method: &str, uri: &str) -> Result<AccessToken, No> {
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
        self.check_withdrawn(&token)?;
        // The newest version may have taken the key away that signed.
        let newest = Arc::clone(&self.kept.lock().unwrap().manifest);
        checked(&newest).map_err(|error| No(401, error.code(), "invalid_token"))?;
        let proof = match (&token.key_thumbprint, scheme.to_ascii_lowercase().as_str()) {
            (None, "bearer") => None,
            (Some(key), "dpop") => Some(Self::check_proof(headers, (method, uri), (text, key))?),
            _ => return Err(No(401, "wrong_scheme", "invalid_token")),
        };
        let needs_karma = scope == "pay";
        if !token.has_scope(scope) {
            return Err(No(403, "insufficient_scope", "insufficient_scope"));
        }
        if needs_karma && token.karma < self.min_karma {
            return Err(No(403, "low_karma", ""));
        }
        // Last, so that nobody fills the memory with what is refused anyway.
        if let Some(proof) = proof {
            self.use_once(&token, proof)?;
        }
        Ok(token)
    }

    /// Whoever sends the token has the key that it is bound to.
    fn check_proof(
        headers: &HeaderMap,
        (method, uri): (&str, &str),
        (text, key): (&str, &str),
    ) -> Result<DpopProof, No> {
        let wrong = |code| No(401, code, "invalid_dpop_proof");
        let mut proofs = headers.get_all("dpop").iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else { return Err(wrong("dpop_header")) };
        let proof = proof.to_str().map_err(|_| wrong("dpop_header"))?;
        let proof = DpopProof::check(proof, method, uri, Some(text), now()).map_err(|error| wrong(error.code()))?;
        if proof.key_thumbprint == key { Ok(proof) } else { Err(wrong("token_dpop")) }
    }

    /// Each proof works once.
    fn use_once(&self, token: &AccessToken, proof: DpopProof) -> Result<(), No> {
        let proofs = &mut self.kept.lock().unwrap().proofs;
        let count = |proofs: &HashMap<_, HashMap<_, _>>| proofs.values().map(HashMap::len).sum::<usize>();
        if count(proofs) >= PROOFS_MAX {
            proofs.values_mut().for_each(|of_one| of_one.retain(|_, ends| *ends > now()));
            proofs.retain(|_, of_one| !of_one.is_empty());
        }
        let is_full = count(proofs) >= PROOFS_MAX;
        let of_one = proofs.entry(token.identity.to_string()).or_default();
        if of_one.len() >= PROOFS_OF_ONE_MAX {
            of_one.retain(|_, ends| *ends > now());
        }
        if is_full || of_one.len() >= PROOFS_OF_ONE_MAX {
            return Err(No(503, "busy", ""));
        }
        match of_one.insert((proof.key_thumbprint, proof.id), proof.ends) {
            None => Ok(()),
            Some(_) => Err(No(401, "used", "invalid_dpop_proof")),
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
        let mut kept = self.kept.lock().unwrap();
        if now() > kept.floor.1 + EVENT_SECONDS {
            kept.floor.0 = Frontier::default();
        }
        let (agent, service) = (token.identity.to_string(), half(&token.service));
        let agent = agent.get(..32).unwrap_or_default();
        let is_known = kept.manifest.logs().iter().all(|(log, state)| {
            let index = |of: &str, by: &str| kept.events.get(&(of.to_owned(), by.to_owned(), log.clone()));
            let newest = [index(agent, ""), index(agent, service), index(service, "")].into_iter().flatten();
            let newest = newest.map(|(index, _)| index + 1).max().unwrap_or(0).max(kept.floor.0.of(log));
            // Beyond its cut a log has nothing.
            state.cut.as_ref().map_or(newest, |(_, cut)| newest.min(cut.head.size)) <= known.of(log)
        });
        if is_known { Ok(()) } else { Err(No(401, "withdrawn", "invalid_token")) }
    }

    /// Reads the node's stream after `cursor` until it ends; `None` always, with or without an error.
    fn follow(&self, cursor: &mut String) -> Option<()> {
        let request =
            ureq::get(format!("{}/api/stream?kind=key,access", self.node)).header("accept-encoding", "identity");
        let request = if cursor.is_empty() { request } else { request.header("last-event-id", cursor.as_str()) };
        let request = request.config().timeout_connect(ANSWER_TIME).timeout_recv_response(ANSWER_TIME);
        let answer = request.timeout_recv_body(Some(Duration::from_secs(300))).build().call();
        if let Err(ureq::Error::StatusCode(400 | 410 | 431)) = answer {
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
        // A version that is not held here may have taken a token key away.
        let at = Frontier::parse(id, &manifest).or_else(|_| Frontier::parse(id, &self.renew())).ok()?;
        if name == "open" {
            let is_ours = data["federation"].as_str() == Some(&manifest.federation().to_string());
            let floor = &mut self.kept.lock().unwrap().floor;
            for (log, size) in at.into_iter().filter(|_| is_first) {
                let size = size.max(floor.0.of(&log));
                floor.0.set(&log, size);
                floor.1 = now();
            }
            return is_ours.then_some(());
        }
        if name != "key" && name != "access" {
            return Some(());
        }
        let (agent, log) = (data["identity"].as_str()?.get(..32)?, data["log"].as_str()?.parse().ok()?);
        let index = data["index"].as_u64().filter(|index| *index < u64::MAX)?;
        let of_grant = matches!(data["kind"].as_str()?, "grant" | "ungrant");
        let service = if of_grant { data["provider"].as_str()?.get(..32)? } else { "" };
        let mut kept = self.kept.lock().unwrap();
        if kept.events.len() >= EVENTS_MAX {
            kept.events.retain(|_, (_, at)| *at + EVENT_SECONDS > now());
        }
        if kept.events.len() >= EVENTS_MAX {
            // Nothing is forgotten early: all tokens must be newer than what is dropped.
            for ((_, _, log), (index, _)) in std::mem::take(&mut kept.events) {
                let size = kept.floor.0.of(&log).max(index + 1);
                kept.floor.0.set(&log, size);
            }
            kept.floor.1 = now();
        }
        let newest = kept.events.entry((agent.to_owned(), service.to_owned(), log)).or_default();
        *newest = (index.max(newest.0), now());
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
            app.check(scope, &parts.headers, parts.method.as_str(), &uri)
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
    let (events, floor, proofs) = (HashMap::new(), (Frontier::default(), 0), HashMap::new());
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
