//! The listeners over a real store: what clients send, literally, and what they get.
#![allow(clippy::unwrap_used)]
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use fama_ledger::base64;
use fama_ledger::batch::{Batch, LogMaps};
use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint, read_note};
use fama_ledger::codec;
use fama_ledger::entry::{SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::event::{Action, Event, Kind, Method as Proof, Nonce, RevokeReason};
use fama_ledger::id::{Domain, EventId, IdentityId, ManifestHash, NoteHash, TreeRoot};
use fama_ledger::join::{Join, LogState, Ranking};
use fama_ledger::key::{Curve, PublicKey};
use fama_ledger::log::{Head, Tree, leaf_hash, verify_consistency};
use fama_ledger::manifest::{Genesis, LogId, Manifest, Operator, Policy};
use fama_ledger::note::{Note, note_hash};
use fama_ledger::proof::TlogProof;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};
use fama_ledger::time::Millis;
use k256::ecdsa;
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt;

mod proof;
mod public;

use super::App;
use crate::clock;
use crate::health::{Governance, Health, Pending};
use crate::inbox::Input;
use crate::metrics::Metrics;
use crate::network::wire::{CosignedHead, Refusal, SignedHead};
use crate::store::{Commit, Store};

/// 2026-11-22T05:00:00.000Z.
const NOW: u64 = 1_795_323_600_000;

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn agent(seed: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Secp256k1, &[seed; 32]).unwrap()
}

fn operator_key(seed: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap()
}

fn manifest() -> Arc<Manifest> {
    let operator = |name: &str, seed: u8| Operator {
        name: domain(name),
        node_key: operator_key(seed).ed25519().unwrap().verifying_key(),
        governance_key: operator_key(seed + 1).ed25519().unwrap().verifying_key(),
        generation: 1,
        addresses: vec!["/ip4/127.0.0.1/tcp/4001".to_owned()],
    };
    let operators = vec![operator("alpha.example", 10), operator("beta.example", 20)];
    let text = Genesis { name: "test".to_owned(), policy: Policy::recommended(2), operators }.text().unwrap();
    let sign = |name, seed| signed_note::sign(&text, name, operator_key(seed).ed25519().unwrap());
    let signatures = vec![sign("alpha.example", 11), sign("beta.example", 21)];
    Arc::new(Manifest::parse(&SignedNote { text: text.clone(), signatures }.to_string()).unwrap())
}

/// The writer of one log, as the inbox is one.
struct Log {
    id: LogId,
    node_key: SecretKey,
    tree: Tree,
    maps: LogMaps,
    now: u64,
}

/// A federation of two on one disk: `alpha.example`, whose node it is, and `beta.example`.
struct World {
    _dir: TempDir,
    app: Arc<App>,
    alpha: Log,
    beta: Log,
    nonce: u64,
}

impl World {
    fn new(namespace: Option<&str>) -> Self {
        let (dir, manifest) = (tempfile::tempdir().unwrap(), manifest());
        let store = Arc::new(Store::open(dir.path(), &manifest).unwrap());
        let log = |name: &str, seed| {
            let id = manifest.operator(&domain(name)).unwrap().log();
            let maps = LogMaps::load(&manifest, &id, &store.view()).unwrap();
            Log { id, node_key: operator_key(seed), tree: Tree::default(), maps, now: NOW }
        };
        let (alpha, beta) = (log("alpha.example", 10), log("beta.example", 20));
        let app = Arc::new(App {
            health: Arc::new(Health::new(&manifest)),
            store,
            manifest,
            ranking: Arc::new(RwLock::new(Ranking::default())),
            proved: Arc::default(),
            metrics: Arc::new(Metrics::new(Registry::new()).unwrap()),
            operator: Some(domain("alpha.example")),
            namespace: namespace.map(domain),
            started: Millis(NOW),
            partial: false,
            slot: Arc::default(),
        });
        for log in [&alpha, &beta] {
            app.proved.begin(&log.id, 0, &log.maps);
        }
        let mut world = Self { _dir: dir, app, alpha, beta, nonce: 0 };
        let adopt = || vec![VerifiedEntry::adopt(Millis(NOW), 1, world.app.manifest.hash())];
        append(&world.app, &mut world.alpha, adopt(), &[]);
        append(&world.app, &mut world.beta, adopt(), &[]);
        world
    }

    fn log(&mut self, home: &str) -> &mut Log {
        if home == "alpha.example" { &mut self.alpha } else { &mut self.beta }
    }

    fn signed(&mut self, by: &SecretKey, action: Action) -> VerifiedEvent {
        self.nonce += 1;
        let (federation, nonce) = (self.app.manifest.federation(), Nonce(self.nonce.to_be_bytes()));
        let event = Event { federation, action, created: Millis(NOW), nonce };
        let signature = by.sign(event.text().as_bytes());
        SignedEvent { event, signer: by.public(), signature, countersignature: None }.verify(&federation).unwrap()
    }

    /// Puts an event into the log of `log`, a second after the last one there.
    fn take(&mut self, log: &str, event: VerifiedEvent, notes: &[(NoteHash, String)]) -> EventId {
        let (id, app) = (event.id(), Arc::clone(&self.app));
        let log = self.log(log);
        log.now += 1_000;
        let entry = VerifiedEntry::of(Millis(log.now), event);
        append(&app, log, vec![entry], notes);
        id
    }

    fn register(&mut self, home: &str, name: &str, by: &SecretKey, bio: Option<&str>) -> IdentityId {
        let note = bio.map(|bio| note(&Note { bio: Some(bio.to_owned()), ..Note::default() }));
        let hash = note.as_ref().map(|(hash, _)| *hash);
        let (home_id, name) = (domain(home), name.parse().unwrap());
        let action = Action::Register { home: home_id, name, key: by.public(), next: None, note: hash };
        let event = self.signed(by, action);
        self.take(home, event, note.as_slice())
    }

    fn admit(&mut self, provider: IdentityId) -> EventId {
        let action = Action::Admit {
            operator: domain("alpha.example"),
            provider,
            service: "mloverflow".parse().unwrap(),
            domain: domain("mloverflow.example"),
            method: Proof::Manual,
            from: 0,
        };
        let event = self.signed(&operator_key(10), action);
        self.take("alpha.example", event, &[])
    }

    fn attest(
        &mut self,
        (by, issuer): (&SecretKey, IdentityId),
        subject: IdentityId,
        delta: i32,
        note: Option<NoteHash>,
    ) -> EventId {
        let (home, context) = (domain("alpha.example"), Some("code".parse().unwrap()));
        let event = self.signed(by, Action::Attest { home, issuer, subject, delta, context, note });
        self.take("alpha.example", event, &[])
    }

    fn retract(
        &mut self,
        (by, issuer): (&SecretKey, IdentityId),
        subject: IdentityId,
        attestation: EventId,
    ) -> EventId {
        let (home, day) = (domain("alpha.example"), Millis(NOW).day());
        let event = self.signed(by, Action::Retract { home, issuer, subject, day, attestation });
        self.take("alpha.example", event, &[])
    }

    fn revoke(&mut self, log: &str, by: &SecretKey, identity: IdentityId) -> EventId {
        let (home, reason) = (domain("alpha.example"), RevokeReason::KeyCompromised);
        let event = self.signed(by, Action::Revoke { home, identity, version: 1, key: by.public(), reason });
        self.take(log, event, &[])
    }

    fn certify(&self, log: &Log, size: u64) {
        self.app.store.put_certified(&log.id, size).unwrap();
    }

    /// The owner signs its head and both operators cosign it.
    fn cosign(&self, log: &Log) {
        let checkpoint = Checkpoint { origin: self.app.manifest.origin(&log.id), head: log.tree.head() };
        let signed = SignedCheckpoint::sign(checkpoint.clone(), log.node_key.ed25519().unwrap());
        let signed = SignedHead::of(&signed);
        self.app.store.put_newest(&log.id, &signed).unwrap();
        for (name, seed) in [("alpha.example", 10), ("beta.example", 20)] {
            let key = operator_key(seed);
            let cosignature = Cosignature::sign(&checkpoint, domain(name), key.ed25519().unwrap(), NOW / 1_000);
            let cosigned = CosignedHead { signed: signed.clone(), cosignature };
            let by = LogId { operator: domain(name), generation: 1 };
            self.app.store.put_cosigned(&log.id, &by, &cosigned, checkpoint.head.size, true).unwrap();
        }
    }

    fn rank(&self) {
        let view = self.app.store.view();
        *self.app.ranking.write().unwrap() = Ranking::rebuild(&Join::new(&self.app.manifest, &view)).unwrap();
    }

    fn query(&self) -> Router {
        super::query(Arc::clone(&self.app))
    }

    async fn get(&self, path: &str) -> Answer {
        ask(self.query(), Method::GET, path, &[], "").await
    }

    async fn profile(&self, x: &str) -> Value {
        let answer = self.get(&format!("/api/agent/{x}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    async fn verify(&self, body: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        ask(self.query(), Method::POST, "/api/verify", &json, &body.to_string()).await
    }
}

fn append(app: &App, log: &mut Log, mut entries: Vec<VerifiedEntry>, notes: &[(NoteHash, String)]) {
    let (view, first) = (app.store.view(), log.tree.size());
    let mut batch = Batch::begin(&app.manifest, &log.id, &view, first).unwrap();
    let outcomes: Vec<_> = entries.iter().map(|entry| batch.replay(entry).unwrap()).collect();
    let folded = batch.finish(&mut log.maps).unwrap();
    entries.push(VerifiedEntry::state(folded.time, folded.state_root));
    let tiles = log.tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
    let Head { size, root } = log.tree.head();
    let state = LogState { log: log.id.clone(), size, root, state_root: folded.state_root };
    let commit =
        Commit { state, first, entries: &entries, outcomes: &outcomes, tiles, changes: &folded.changes, notes };
    app.proved.before(&log.id, [&folded.changes], &view).unwrap();
    app.store.commit(&[commit]).unwrap();
    app.proved.after(&log.id, size, &log.maps);
}

fn note(note: &Note) -> (NoteHash, String) {
    let text = note.text();
    (note_hash(text.as_bytes()), text)
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(router: Router, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// Every error has the one form; gives its code.
fn problem(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text);
    let json = answer.json();
    assert_eq!(json["status"], answer.status);
    assert_eq!(json["error"], json["detail"]);
    assert!(json["error"].as_str().is_some_and(|text| !text.is_empty()));
    let title = StatusCode::from_u16(answer.status).unwrap().canonical_reason().unwrap();
    assert_eq!((&json["title"], &json["type"]), (&json!(title), &json!("about:blank")));
    json["code"].as_str().unwrap().to_owned()
}

fn pem(key: &SecretKey) -> String {
    key.public().to_pem().unwrap()
}

#[tokio::test]
async fn a_profile_has_the_shape_that_clients_of_mlauth_read() {
    let mut world = World::new(Some("alpha.example"));
    let (owner, service) = (agent(1), agent(2));
    let id = world.register("alpha.example", "swift-core-maps", &owner, Some("maps things"));
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    let said =
        note(&Note { reason: Some("helped".into()), reference: Some("https://x.example/1".into()), ..Note::default() });
    let first = world.attest((&service, provider), id, 5, Some(said.0));
    world.app.store.put_notes(&[said]).unwrap();
    let taken_back = world.attest((&service, provider), id, 4, None);
    world.retract((&service, provider), id, taken_back);
    let pending = world.attest((&service, provider), id, -2, Some(NoteHash([9; 32])));
    world.cosign(&world.alpha);
    world.cosign(&world.beta);

    let profile = world.profile("swift-core-maps").await;
    let key = pem(&owner);
    let frontier = json!({"alpha.example": 16, "beta.example": 2});
    let expect = json!({
        "identity": {
            "agent_id": id.to_string(),
            "did": format!("did:agent:alpha.example:{}", &id.to_string()[..32]),
            "dumbname": "swift-core-maps",
            "handle": "swift-core-maps@alpha.example",
            "bio": "maps things",
            "public_key": key,
            "joined_at": "2026-11-22T05:00:01.000Z",
            "key_version": 1,
        },
        "reputation": {
            "global_score": 3, "attestation_count": 2, "local_community_score": 0, "external_verified_score": 3,
        },
        "key_status": {
            "is_revoked": false, "key_version": 1, "rotated_at": null, "revoked_at": null, "revocation_reason": null,
        },
        "recent_attestations": [
            {
                "provider": "mloverflow", "points": -2, "effective": -2, "context": "code", "reason": null,
                "external_ref": null, "redacted": false, "pending": true, "date": "2026-11-22T05:00:00.000Z",
                "event": pending.to_string(),
            },
            {
                "provider": "mloverflow", "points": 5, "effective": 5, "context": "code", "reason": "helped",
                "external_ref": "https://x.example/1", "redacted": false, "date": "2026-11-22T05:00:00.000Z",
                "event": first.to_string(),
            },
        ],
        "recent_key_events": [{
            "event_type": "REGISTER", "signed_at": "2026-11-22T05:00:00.000Z",
            "recorded_at": "2026-11-22T05:00:01.000Z", "reason": null, "event": id.to_string(),
        }],
        "public_key": key,
        "agent": {"public_key": key, "global_karma": 3},
        "ledger": {
            "final": true, "home": "alpha.example", "frontier": frontier, "state_id": profile["ledger"]["state_id"],
        },
    });
    assert_eq!(profile, expect);
    assert_eq!(profile["ledger"]["state_id"].as_str().unwrap().len(), 64);
    for x in ["swift-core-maps@alpha.example", &id.to_string(), expect["identity"]["did"].as_str().unwrap()] {
        assert_eq!(world.profile(x).await, expect, "{x}");
    }
}

#[tokio::test]
async fn only_final_entries_count_if_that_is_asked_for() {
    let mut world = World::new(Some("alpha.example"));
    let service = agent(2);
    let id = world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    let by = (&service, provider);
    let first = world.attest(by, id, 5, None);
    let certified = world.alpha.tree.size();
    world.certify(&world.alpha, certified);
    assert_eq!(world.profile("swift-core-maps").await["ledger"]["final"], true);
    world.retract(by, id, first);
    world.attest(by, id, 2, None);
    let gone = world.attest(by, id, 1, None);
    world.retract(by, id, gone);

    let score = |profile: Value| {
        (profile["reputation"]["global_score"].clone(), profile["reputation"]["attestation_count"].clone())
    };
    let now = world.profile("swift-core-maps").await;
    assert_eq!(now["ledger"]["final"], false);
    assert_eq!(score(now), (json!(2), json!(1)));
    assert_eq!(score(world.profile("swift-core-maps?final=1").await), (json!(5), json!(1)));
    assert_eq!(score(world.profile("swift-core-maps?final=0").await), (json!(2), json!(1)));
    world.certify(&world.alpha, world.alpha.tree.size());
    assert_eq!(score(world.profile("swift-core-maps?final=1").await), (json!(2), json!(1)));
    assert_eq!(world.profile("swift-core-maps").await["ledger"]["final"], true);
    for (path, code) in
        [("?final=yes", "bad_parameter"), ("?fnal=1", "unknown_parameter"), ("?final=1&final=1", "repeated_parameter")]
    {
        let answer = world.get(&format!("/api/agent/swift-core-maps{path}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, code), "{path}");
    }
}

#[tokio::test]
async fn a_revocation_shows_wherever_it_was_said() {
    for (log, others) in [("alpha.example", "beta.example"), ("beta.example", "alpha.example")] {
        let mut world = World::new(Some("alpha.example"));
        let id = world.register("alpha.example", "swift-core-maps", &agent(1), None);
        // A claim by a key that never was the agent's means nothing.
        world.revoke("beta.example", &agent(7), id);
        assert_eq!(world.profile("swift-core-maps").await["key_status"]["is_revoked"], false);
        let revocation = world.revoke(log, &agent(1), id);
        world.log(others).now += 5_000;
        let profile = world.profile("swift-core-maps").await;
        let at = world.log(log).now;
        let status = json!({
            "is_revoked": true, "key_version": 1, "rotated_at": null, "revoked_at": Millis(at).to_string(),
            "revocation_reason": "KEY_COMPROMISED", "revocation_final": false,
        });
        assert_eq!(profile["key_status"], status);
        let events = profile["recent_key_events"].as_array().unwrap();
        let kinds: Vec<_> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["REVOKE", "REGISTER"]);
        assert_eq!(events[0]["reason"], "KEY_COMPROMISED");
        assert_eq!(events[0]["event"], revocation.to_string());
        let log = world.log(log);
        let (size, id) = (log.tree.size(), log.id.clone());
        world.app.store.put_certified(&id, size).unwrap();
        assert_eq!(world.profile("swift-core-maps").await["key_status"]["revocation_final"], true);
    }
}

#[tokio::test]
async fn nobody_passes_for_a_local_name_from_another_home() {
    let mut world = World::new(Some("alpha.example"));
    let here = world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let there = world.register("beta.example", "swift-core-maps", &agent(2), None);
    world.rank();
    let name = async |x: &str| world.profile(x).await["identity"]["dumbname"].as_str().unwrap().to_owned();
    assert_eq!(name(&here.to_string()).await, "swift-core-maps");
    assert_eq!(name(&there.to_string()).await, "swift-core-maps@beta.example");
    let board = world.get("/api/leaderboard").await.json();
    assert_eq!(board["service"], "mlauth");
    let mut names: Vec<_> = board["agents"].as_array().unwrap().iter().map(|one| one["dumbname"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, [json!("swift-core-maps"), json!("swift-core-maps@beta.example")]);

    let bare = World::new(None);
    let answer = bare.get("/api/agent/swift-core-maps").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (400, "ambiguous_name"));
    let wrong_home = format!("did:agent:beta.example:{}", &here.to_string()[..32]);
    for x in [
        &wrong_home,
        "nobody",
        "nobody@alpha.example",
        "a@b",
        "nobody@gamma.example",
        &"0".repeat(64),
        "%ff",
        "did:agent:",
        "A B",
    ] {
        let answer = world.get(&format!("/api/agent/{}", x.replace(' ', "%20"))).await;
        let expect = if x == "%ff" { (400, "bad_request") } else { (404, "unknown_agent") };
        assert_eq!((answer.status, problem(&answer).as_str()), expect, "{x}");
    }
}

#[tokio::test]
async fn the_leaderboard_has_pages() {
    let mut world = World::new(Some("alpha.example"));
    let service = agent(2);
    let provider = world.register("alpha.example", "mloverflow", &service, None);
    world.admit(provider);
    for (seed, delta) in [(11, 3), (12, 5), (13, 1)] {
        let id = world.register("alpha.example", &format!("agent-{seed}"), &agent(seed), None);
        world.attest((&service, provider), id, delta, None);
    }
    world.rank();
    let board = world.get("/api/leaderboard?limit=2").await.json();
    let expect = json!([
        {"dumbname": "agent-12", "global_karma": 5, "attestation_count": 1},
        {"dumbname": "agent-11", "global_karma": 3, "attestation_count": 1},
    ]);
    assert_eq!(board["agents"], expect);
    let cursor = board["cursor"].as_str().unwrap();
    let rest = world.get(&format!("/api/leaderboard?limit=2&cursor={cursor}")).await.json();
    let names: Vec<_> = rest["agents"].as_array().unwrap().iter().map(|one| one["dumbname"].clone()).collect();
    assert_eq!(names, [json!("agent-13"), json!("mloverflow")]);
    assert!(rest.get("cursor").is_none());
    for (query, code) in
        [("limit=0", "bad_limit"), ("limit=501", "bad_limit"), ("limit=x", "bad_limit"), ("cursor=5", "bad_cursor")]
    {
        let answer = world.get(&format!("/api/leaderboard?{query}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, code), "{query}");
    }
}

/// A login as a client of MLAuth sends it.
fn login(key: &SecretKey, dumbname: &str, timestamp: &str, message: &str) -> Value {
    let signature = key.sign(format!("{dumbname}{timestamp}{message}").as_bytes());
    let der = ecdsa::Signature::from_slice(&signature.as_bytes()[..64]).unwrap().to_der();
    json!({"dumbname": dumbname, "timestamp": timestamp, "message": message, "signature": base64::encode(der.as_bytes())})
}

/// Every spelling of an ECDSA signature that clients send: DER and r ‖ s, low and high s.
fn spellings(key: &SecretKey, signed: &str) -> Vec<Vec<u8>> {
    let signature = key.sign(signed.as_bytes());
    let low = ecdsa::Signature::from_slice(&signature.as_bytes()[..64]).unwrap();
    let (r, s) = low.split_scalars();
    let high = ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    [low, high].iter().flat_map(|one| [one.to_der().as_bytes().to_vec(), one.to_bytes().to_vec()]).collect()
}

#[tokio::test]
async fn a_login_is_verified_however_it_is_spelt() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let id = world.register("alpha.example", "swift-core-maps", &key, None);
    let millis = clock::now().to_string();
    let seconds = format!("{}Z", millis.split_once('.').unwrap().0);
    let expect = json!({
        "verified": true, "dumbname": "swift-core-maps", "handle": "swift-core-maps@alpha.example",
        "agent_id": id.to_string(), "attestation": "Verified via MLAuth Protocol 1.0",
    });
    for dumbname in ["swift-core-maps", "swift-core-maps@alpha.example"] {
        for timestamp in [&millis, &seconds] {
            for bytes in spellings(&key, &format!("{dumbname}{timestamp}hello")) {
                let standard = base64::encode(&bytes);
                let url = standard.replace('+', "-").replace('/', "_");
                let wrapped = format!("{}\n{}\n", &standard[..64], &standard[64..]);
                let bare = standard.trim_end_matches('=').to_owned();
                let url_bare = url.trim_end_matches('=').to_owned();
                for signature in [standard, url, wrapped, bare, url_bare] {
                    let body = json!({"dumbname": dumbname, "timestamp": timestamp, "signature": signature, "message": "hello"});
                    let answer = world.verify(&body).await;
                    assert_eq!((answer.status, answer.json()), (200, expect.clone()), "{body}");
                    assert_eq!(answer.header("cache-control"), "no-store");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_login_is_refused_for_one_reason() {
    let mut world = World::new(Some("alpha.example"));
    let (key, revoked) = (agent(1), agent(2));
    world.register("alpha.example", "swift-core-maps", &key, None);
    let id = world.register("alpha.example", "stolen-key", &revoked, None);
    world.revoke("beta.example", &revoked, id);
    let now = clock::now();
    let stamp = now.to_string();
    let good = login(&key, "swift-core-maps", &stamp, "hello");
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let at = |millis: u64| login(&key, "swift-core-maps", &Millis(millis).to_string(), "hello");
    let says = |message: &str| login(&key, "swift-core-maps", &stamp, message);
    let stamped = |stamp: &str| login(&key, "swift-core-maps", stamp, "hello");
    assert_eq!(world.verify(&good).await.status, 200);
    assert_eq!(world.verify(&says("")).await.status, 200);
    assert_eq!(world.verify(&at(now.0 - 299_000)).await.status, 200);
    for (body, status, code) in [
        (without("dumbname"), 400, "missing_dumbname"),
        (without("timestamp"), 400, "missing_timestamp"),
        (without("signature"), 400, "missing_signature"),
        (without("message"), 400, "missing_message"),
        (with("message", json!(5)), 400, "bad_message"),
        (json!([]), 400, "bad_json"),
        (with("signature", json!("????")), 400, "bad_signature_form"),
        (with("signature", json!("")), 400, "bad_signature_form"),
        (with("signature", json!("aGVsbG8=")), 400, "bad_signature_form"),
        (with("message", json!("other")), 401, "bad_signature"),
        (login(&agent(9), "swift-core-maps", &stamp, "hello"), 401, "bad_signature"),
        (at(now.0 - 310_000), 401, "expired"),
        (at(now.0 + 310_000), 401, "expired"),
        (login(&revoked, "stolen-key", &stamp, "hello"), 401, "revoked"),
        (login(&key, "nobody", &stamp, "hello"), 404, "unknown_agent"),
        (login(&key, "swift-core-maps@beta.example", &stamp, "hello"), 404, "unknown_agent"),
        (stamped(&stamp.replace('Z', "+00:00")), 400, "bad_timestamp"),
        (stamped(&stamp.replace('T', " ")), 400, "bad_timestamp"),
        (stamped(&stamp.replace('Z', "z")), 400, "bad_timestamp"),
        (stamped(&stamp.replace('Z', "000Z")), 400, "bad_timestamp"),
        (stamped("2026-02-30T00:00:00Z"), 400, "bad_timestamp"),
        (stamped("1795323600"), 400, "bad_timestamp"),
        (says("ROTATE_KEY:-----BEGIN"), 400, "forbidden_message"),
        (says("REVOKE_KEY:x"), 400, "forbidden_message"),
        (says("fama.event/1\nfederation: 00"), 400, "forbidden_message"),
        (says("format = \"fama.manifest/1\"\n"), 400, "forbidden_message"),
        (says("fama/00/alpha.example/1\n"), 400, "forbidden_message"),
        (says("cosignature/v1\ntime 1"), 400, "forbidden_message"),
    ] {
        let answer = world.verify(&body).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{body}");
    }
    let long = world.verify(&says(&"x".repeat(64 << 10))).await;
    assert_eq!((long.status, problem(&long).as_str()), (413, "body_too_large"));
    let announced = Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(1 << 10))));
    let endless = Request::post("/api/verify").body(announced).unwrap();
    assert_eq!(world.query().oneshot(endless).await.unwrap().status(), 413);
}

#[tokio::test]
async fn an_event_comes_with_a_receipt_that_holds() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let id = world.register("alpha.example", "swift-core-maps", &key, Some("maps things"));
    let path = format!("/api/event/{id}");
    assert_eq!(world.get(&path).await.json()["receipt"], Value::Null);
    world.cosign(&world.alpha);
    // Newer entries, not signed yet, don't hide the head that is.
    world.register("alpha.example", "other-agent", &agent(2), None);
    let event = world.get(&path).await.json();
    assert_eq!(event["kind"], "register");
    assert_eq!(event["signer"], key.public().to_string());
    let text = event["text"].as_str().unwrap();
    assert_eq!(Event::parse(text.as_bytes()).unwrap().id(), id);
    let position = json!([{
        "log": "alpha.example/1", "index": 2, "time": "2026-11-22T05:00:01.000Z", "outcome": "applied", "final": true,
    }]);
    assert_eq!(event["positions"], position);
    assert!(event["note"]["text"].as_str().unwrap().contains("bio: maps things\n"));
    let proof: TlogProof = event["receipt"].as_str().unwrap().parse().unwrap();
    let entry = world.app.store.view().entries(&world.alpha.id, 2, 1, 1).unwrap().remove(0);
    let node_key = |name: &Domain| world.app.manifest.operator(name).map(|operator| operator.node_key);
    let (_, cosignatures) = proof.verify(&entry, |origin| node_key(&origin.operator), node_key).unwrap();
    assert_eq!((proof.index, cosignatures.len()), (2, 2));

    world.app.store.redact_note(&note(&Note { bio: Some("maps things".into()), ..Note::default() }).0).unwrap();
    let event = world.get(&path).await.json();
    assert_eq!((&event["note"]["text"], &event["note"]["redacted"]), (&Value::Null, &json!(true)));
    let profile = world.profile("swift-core-maps").await;
    assert_eq!((&profile["identity"]["bio"], &profile["identity"]["bio_redacted"]), (&Value::Null, &json!(true)));
    for (path, status, code) in [("00", 400, "bad_id"), (&*"0".repeat(64), 404, "unknown_event")] {
        let answer = world.get(&format!("/api/event/{path}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{path}");
    }
}

/// Parameters of a query.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A query string of these pairs, everything but letters and digits escaped.
fn form(pairs: Pairs<'_>) -> String {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn templates_are_canonical_texts() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let here = world.register("alpha.example", "swift-core-maps", &key, None).to_string();
    let there = world.register("beta.example", "far-away", &agent(2), None).to_string();
    let did = format!("did:agent:beta.example:{}", &there[..32]);
    let (pem, new) = (pem(&agent(3)), agent(3).public().to_string());
    let (day, zero) = ("2026-11-22", "0".repeat(64));
    let template = async |pairs: Pairs<'_>| world.get(&format!("/api/event/template?{}", form(pairs))).await;
    let table: [(Pairs<'_>, Kind, &[String]); 7] = [
        (
            &[("kind", "register"), ("name", "new-agent"), ("key", &pem)],
            Kind::Register,
            &["home: alpha.example".into(), "name: new-agent".into(), format!("key: {new}")],
        ),
        (
            &[("kind", "rotate"), ("identity", "swift-core-maps"), ("key", pem.trim_end())],
            Kind::Rotate,
            &["home: alpha.example".into(), format!("identity: {here}"), "version: 2".into(), format!("key: {new}")],
        ),
        (
            &[("kind", "revoke"), ("identity", &did), ("reason", "retired")],
            Kind::Revoke,
            &[
                "home: beta.example".into(),
                format!("identity: {there}"),
                "version: 1".into(),
                format!("key: {}", agent(2).public()),
                "reason: retired".into(),
            ],
        ),
        (
            &[("kind", "attest"), ("issuer", "far-away@beta.example"), ("subject", "swift-core-maps"), ("delta", "-3")],
            Kind::Attest,
            &["home: beta.example".into(), format!("issuer: {there}"), format!("subject: {here}"), "delta: -3".into()],
        ),
        (
            &[("kind", "retract"), ("issuer", &here), ("subject", &zero), ("day", day), ("attestation", &zero)],
            Kind::Retract,
            &["home: alpha.example".into(), format!("issuer: {here}"), format!("subject: {zero}")],
        ),
        (
            &[
                ("kind", "admit"),
                ("provider", "swift-core-maps"),
                ("service", "s"),
                ("domain", "s.example"),
                ("method", "dns"),
                ("from", "0"),
            ],
            Kind::Admit,
            &["operator: alpha.example".into(), format!("provider: {here}")],
        ),
        (
            &[
                ("kind", "dismiss"),
                ("provider", &here),
                ("service", "s"),
                ("domain", "s.example"),
                ("reason", "expired"),
                ("from", "7"),
            ],
            Kind::Dismiss,
            &["from: 7".into(), "reason: expired".into()],
        ),
    ];
    for (pairs, kind, lines) in table {
        let answer = template(pairs).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        let event = Event::parse(answer.text.as_bytes()).unwrap();
        assert_eq!((event.action.kind(), event.federation), (kind, world.app.manifest.federation()));
        assert!(clock::now().0.abs_diff(event.created.0) < 60_000);
        for line in lines {
            assert!(answer.text.lines().any(|other| other == line), "{line}\n{}", answer.text);
        }
    }
    let long = "x".repeat(64);
    let bad: [(Pairs<'_>, u16, &str, &str); 10] = [
        (&[], 400, "missing_field", "kind"),
        (&[("kind", "adopt")], 400, "bad_value", "kind"),
        (&[("kind", "register"), ("name", "new-agent")], 400, "missing_field", "key"),
        (&[("kind", "register"), ("name", "New"), ("key", &pem)], 400, "bad_value", "name"),
        (&[("kind", "register"), ("name", "a\nkey: b"), ("key", &pem)], 400, "forbidden_character", "name"),
        (&[("kind", "register"), ("name", "new-agent"), ("key", "-----BEGIN x")], 400, "key_pem", "key"),
        (&[("kind", "register"), ("delta", "1")], 400, "unknown_parameter", "delta"),
        (&[("kind", "rotate"), ("identity", "nobody"), ("key", &pem)], 404, "unknown_agent", "identity"),
        (&[("kind", "attest"), ("issuer", &here), ("subject", &here), ("delta", "01")], 400, "bad_value", "delta"),
        (
            &[("kind", "attest"), ("issuer", &here), ("subject", &here), ("delta", "1"), ("context", &long)],
            400,
            "bad_value",
            "context",
        ),
    ];
    for (pairs, status, code, field) in bad {
        let answer = template(pairs).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{}", answer.text);
        assert_eq!(answer.json()["field"], field, "{}", answer.text);
    }
}

#[tokio::test]
async fn status_and_federation_say_how_far_the_node_is() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    world.cosign(&world.alpha);
    let status = world.get("/api/status").await.json();
    for (name, value) in [
        ("status", json!("ok")),
        ("algorithm", json!("ECDSA-secp256k1-SHA256")),
        ("timestamp_format", json!("ISO8601_UTC")),
        ("timestamp_window_seconds", json!(300)),
        ("operator", json!("alpha.example")),
        ("frontier", json!({"alpha.example": 4, "beta.example": 2})),
        ("certified", json!({"alpha.example": 4, "beta.example": 0})),
        ("operators_heard", json!(1)),
        ("fresh", json!(false)),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
    world.app.health.write().operators.get_mut(&domain("beta.example")).unwrap().heard = Some(clock::now());
    assert_eq!(world.get("/api/status").await.json()["fresh"], true);
    let beta = world.beta.id.clone();
    world.app.health.write().logs.get_mut(&beta).unwrap().newest = 99;
    assert_eq!(world.get("/api/status").await.json()["fresh"], false);

    let federation = world.get("/api/federation").await.json();
    assert_eq!(
        federation["logs"][0]["cosignatures"][1],
        json!({
            "operator": "beta.example", "size": 4, "time": "2026-11-22T05:00:00.000Z",
        })
    );
    assert_eq!(federation["logs"][1]["lag"], 97);
    let text = federation["manifest"]["text"].as_str().unwrap();
    assert_eq!(Manifest::parse(text).unwrap().hash(), world.app.manifest.hash());
    assert_eq!(world.get("/api").await.json()["federation"]["name"], "test");
    assert!(PublicKey::from_pem("").is_err());
}

#[tokio::test]
async fn the_federations_governance_is_shown() {
    let world = World::new(Some("alpha.example"));
    let chain = world.get("/api/federation/manifests").await;
    assert!(chain.header("content-type").starts_with("text/plain"), "{}", chain.header("content-type"));
    assert_eq!(Manifest::parse_chain(&chain.text).unwrap().hash(), world.app.manifest.hash());

    let federation = world.get("/api/federation").await.json();
    assert_eq!(federation["versions"], json!([{"version": 1, "hash": world.app.manifest.hash().to_string()}]));
    for (name, value) in [("since", json!(1)), ("adopted", json!(1)), ("cut", json!(null))] {
        assert_eq!(federation["logs"][1][name], value, "{name}");
    }
    for (name, value) in
        [("stands", json!([])), ("equivocations", json!([])), ("pending", json!(null)), ("halted", json!([]))]
    {
        assert_eq!(federation[name], value, "{name}");
    }
    let head = |seed| (Head { size: 7, root: TreeRoot([seed; 32]) }, [seed; 64]);
    let proof = Equivocation {
        log: world.beta.id.clone(),
        larger: head(1),
        smaller: head(2),
        root: TreeRoot([1; 32]),
        proof: Vec::new(),
    };
    let hash = ManifestHash([3; 32]);
    world.app.health.write().governance = Governance {
        stands: vec!["stand".to_owned()],
        equivocations: vec![proof.clone()],
        pending: Some(Pending { version: 2, hash, text: "text".to_owned(), waits_for: "entries".to_owned() }),
        halted: vec!["one".to_owned(), "other".to_owned()],
    };
    let federation = world.get("/api/federation").await.json();
    assert_eq!(federation["stands"], json!(["stand"]));
    assert_eq!(federation["halted"], json!(["one", "other"]));
    assert_eq!(
        federation["pending"],
        json!({"version": 2, "hash": hash.to_string(), "text": "text", "waits_for": "entries"})
    );
    let shown = &federation["equivocations"][0];
    assert_eq!((&shown["log"], &shown["smaller"]["size"]), (&json!("beta.example/1"), &json!(7)));
    let bytes = hex(shown["encoded"].as_str().unwrap());
    assert_eq!(codec::decode(&bytes, Equivocation::BYTES_MAX), Ok(proof));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test]
async fn one_head_extends_another() {
    let mut world = World::new(Some("alpha.example"));
    let small = world.alpha.tree.head();
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    world.register("alpha.example", "mloverflow", &agent(2), None);
    world.cosign(&world.alpha);
    let head = world.alpha.tree.head();
    let answer = world.get("/api/federation/consistency?log=alpha.example/1&from=2").await.json();
    assert_eq!(answer["from"], json!({"size": 2, "root": small.root.to_string()}));
    let state_root = world.alpha.maps.state_root().to_string();
    assert_eq!(answer["to"], json!({"size": 6, "root": head.root.to_string(), "state_root": state_root, "adopted": 1}));
    let proof: Vec<[u8; 32]> =
        answer["proof"].as_array().unwrap().iter().map(|one| hex(one.as_str().unwrap()).try_into().unwrap()).collect();
    assert_eq!(verify_consistency(&small, &head, &proof), Ok(()));
    let note = SignedNote::parse(answer["checkpoint"].as_str().unwrap().as_bytes(), 4_096).unwrap();
    let manifest = &world.app.manifest;
    let owner = |_: &_| Some(manifest.operators()[0].node_key);
    let (signed, cosigned) =
        read_note(&note, owner, |name| manifest.operator(name).map(|operator| operator.node_key)).unwrap();
    assert_eq!((signed.checkpoint().head, cosigned.len()), (head, 2));

    let between = world.get("/api/federation/consistency?log=alpha.example/1&from=0&to=3").await.json();
    assert_eq!((&between["to"]["state_root"], &between["to"]["adopted"]), (&json!(null), &json!(null)));
    assert_eq!(between["checkpoint"], json!(null));
    let before = world.get("/api/federation/consistency?log=alpha.example/1&to=2").await.json();
    assert_eq!((&before["to"]["adopted"], &before["from"]["size"]), (&json!(1), &json!(0)));
    let nothing = world.get("/api/federation/consistency?log=alpha.example/1&to=0").await.json();
    assert_eq!(nothing["to"]["root"], Head::EMPTY.root.to_string());
    for (query, status, code) in [
        ("", 400, "bad_log"),
        ("?log=alpha.example", 400, "bad_log"),
        ("?log=alpha.example/01", 400, "bad_log"),
        ("?log=alpha.example/2", 404, "unknown_log"),
        ("?log=alpha.example/1&from=7", 400, "bad_size"),
        ("?log=alpha.example/1&to=7", 400, "bad_size"),
        ("?log=alpha.example/1&from=5&to=4", 400, "bad_size"),
        ("?log=alpha.example/1&to=x", 400, "bad_size"),
        ("?log=alpha.example/1&until=4", 400, "unknown_parameter"),
    ] {
        let answer = world.get(&format!("/api/federation/consistency{query}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{query}");
    }
}

/// An inbox that takes what names the log of alpha.example, and refuses the rest.
fn inbox() -> mpsc::Sender<Input> {
    let (inputs, mut taken) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(input) = taken.recv().await {
            match input {
                Input::Stand { log, reply } if log.operator == domain("alpha.example") => {
                    reply.send(Ok(log.to_string())).unwrap();
                }
                Input::Stand { reply, .. } => reply.send(Err(Refusal::new("unknown_log", "no such log"))).unwrap(),
                Input::Manifest { text, reply } => {
                    let later = Refusal { retry_after: Some(7), ..Refusal::new("not_ready", "later") };
                    reply.unwrap().send(if text == "good" { Ok(()) } else { Err(later) }).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    });
    inputs
}

#[tokio::test]
async fn only_the_operators_own_programs_decide() {
    let world = World::new(Some("alpha.example"));
    let bytes = ("content-type", "application/octet-stream");
    let inputs = inbox();
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
        let router = super::admin(Arc::clone(&world.app), inputs.clone());
        ask(router, Method::POST, path, headers, body).await
    };
    let stand = post("/federation/stand", &[bytes], "alpha.example/1\n").await;
    assert_eq!((stand.status, &stand.json()["stand"]), (200, &json!("alpha.example/1")));
    assert_eq!(post("/federation/manifest", &[bytes], "good").await.status, 200);
    let later = post("/federation/manifest", &[bytes], "bad").await;
    assert_eq!((later.status, later.header("retry-after")), (503, "7"));
    let long = "x".repeat(131_073);
    let plain = ("content-type", "text/plain");
    let (json, page) = (("content-type", "application/json"), ("origin", "http://127.0.0.1:9090"));
    for (path, headers, body, status, code) in [
        ("/federation/stand", vec![bytes], "beta.example/1", 409, "unknown_log"),
        ("/federation/stand", vec![bytes], "alpha.example", 400, "bad_log"),
        ("/federation/stand", vec![bytes], &long, 413, "body_too_large"),
        ("/federation/manifest", vec![bytes], &long, 413, "body_too_large"),
        ("/federation/stand", vec![], "alpha.example/1", 415, "content_type"),
        ("/federation/stand", vec![plain], "alpha.example/1", 415, "content_type"),
        ("/federation/manifest", vec![json], "good", 415, "content_type"),
        ("/federation/manifest", vec![bytes, page], "good", 403, "from_a_web_page"),
        ("/federation/stand", vec![bytes, ("origin", "null")], "alpha.example/1", 403, "from_a_web_page"),
    ] {
        let answer = post(path, &headers, body).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{path} {headers:?}");
    }
    let nobody = super::admin(Arc::clone(&world.app), mpsc::channel(1).0);
    let gone = ask(nobody, Method::POST, "/federation/stand", &[bytes], "alpha.example/1").await;
    assert_eq!(gone.status, 503);
    for path in ["/federation/stand", "/federation/manifest", "/api/federation/stand", "/api/federation/manifest"] {
        let answer = ask(world.query(), Method::POST, path, &[bytes], "alpha.example/1").await;
        assert_eq!((answer.status, problem(&answer).as_str()), (404, "no_such_route"), "{path}");
    }
}

#[tokio::test]
async fn the_admin_listener_says_why_the_node_is_not_ready() {
    let world = World::new(Some("alpha.example"));
    let admin = async |path: &str| {
        ask(super::admin(Arc::clone(&world.app), mpsc::channel(1).0), Method::GET, path, &[], "").await
    };
    assert_eq!(admin("/healthz").await.status, 200);
    let answer = admin("/readyz").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (503, "not_ready"));
    assert_eq!(answer.json()["reasons"], json!(["too_few_operators_heard", "waiting: starting"]));
    {
        let mut health = world.app.health.write();
        health.waiting = None;
        health.operators.get_mut(&domain("beta.example")).unwrap().heard = Some(clock::now());
        health.logs.get_mut(&world.beta.id).unwrap().fault = Some("equivocation");
    }
    assert_eq!(admin("/readyz").await.json()["reasons"], json!(["fault: equivocation in beta.example/1"]));
    world.app.health.write().logs.get_mut(&world.beta.id).unwrap().fault = None;
    world.app.health.write().warnings = vec!["assume_disk_current"];
    let ready = admin("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready", "warnings": ["assume_disk_current"]})));
    let metrics = admin("/metrics").await;
    assert!(metrics.text.contains("fama_log_fault{log=\"beta.example/1\"} 0"), "{}", metrics.text);
    assert!(metrics.text.contains("fama_http_requests_total{route=\"/readyz\",status=\"5xx\"} 2"), "{}", metrics.text);
    for line in ["fama_node_warning{code=\"assume_disk_current\"} 1", "fama_node_warning{code=\"other_session\"} 0"] {
        assert!(metrics.text.contains(line), "{line}: {}", metrics.text);
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_around_it() {
    let mut world = World::new(Some("alpha.example"));
    world.register("alpha.example", "swift-core-maps", &agent(1), None);
    let path = "/api/agent/swift-core-maps";
    let answer =
        ask(world.query(), Method::GET, path, &[("origin", "https://x.example"), ("x-request-id", "abc-1")], "").await;
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with("W/\"") && tag.len() == 68, "{tag}");
    assert_eq!(answer.header("cache-control"), "public, max-age=1");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("x-request-id"), "abc-1");
    assert_eq!(world.get(path).await.header("x-request-id").len(), 16);
    let known = ask(world.query(), Method::GET, path, &[("if-none-match", &format!("\"x\", {tag}"))], "").await;
    assert_eq!((known.status, known.text.as_str(), known.header("etag")), (304, "", tag.as_str()));
    let head = ask(world.query(), Method::HEAD, path, &[], "").await;
    assert_eq!((head.status, head.text.as_str(), head.header("etag")), (200, "", tag.as_str()));
    assert_eq!(head.header("content-length"), answer.text.len().to_string());
    for coding in ["gzip", "zstd"] {
        let small = ask(world.query(), Method::GET, path, &[("accept-encoding", coding)], "").await;
        assert_eq!((small.header("content-encoding"), small.header("etag")), (coding, tag.as_str()));
    }
    let preflight = [
        ("origin", "https://x.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let preflight = ask(world.query(), Method::OPTIONS, "/api/verify", &preflight, "").await;
    assert!(preflight.status == 200 && preflight.header("access-control-allow-methods").contains("POST"));

    let missing = world.get("/api/nothing").await;
    assert_eq!((missing.status, problem(&missing).as_str()), (404, "no_such_route"));
    for (method, path, allow) in [
        (Method::POST, "/api/status", "GET,HEAD"),
        (Method::GET, "/api/verify", "POST"),
        (Method::DELETE, "/api/agent/x", "GET,HEAD"),
    ] {
        let answer = ask(world.query(), method, path, &[], "").await;
        assert_eq!(
            (answer.status, problem(&answer).as_str(), answer.header("allow")),
            (405, "method_not_allowed", allow)
        );
    }
}

#[tokio::test]
async fn a_full_listener_says_so_at_once() {
    let world = World::new(None);
    let bare = Router::new().route("/slow", axum::routing::get(std::future::pending::<()>));
    let full = super::shell::public(bare, &world.app.metrics, 1);
    let waiting = tokio::spawn(ask(full.clone(), Method::GET, "/slow", &[], ""));
    tokio::task::yield_now().await;
    let answer = ask(full, Method::GET, "/slow", &[("origin", "https://x.example")], "").await;
    assert_eq!((answer.status, problem(&answer).as_str()), (503, "overloaded"));
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), ("1", "no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    waiting.abort();
}

#[tokio::test]
async fn real_connections_are_served_until_the_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new(Some("alpha.example"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(super::serve(listener, world.query(), async move { drop(stopped.await) }));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 64];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
        while !answer.ends_with(b"}}") {
            answer.push(stream.read_u8().await.unwrap());
        }
    }
    stop.send(()).unwrap();
    served.await.unwrap();
    assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
