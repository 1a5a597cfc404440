//! The listeners over a real store: literal requests, and the answers to them.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;
use std::sync::Arc;

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
use fama_ledger::fold::Effect;
use fama_ledger::id::{Domain, EventId, IdentityId, ManifestHash, NoteHash, TreeRoot};
use fama_ledger::join::{Join, LogState};
use fama_ledger::key::{Curve, PublicKey};
use fama_ledger::log::{Head, Tree, leaf_hash, verify_consistency};
use fama_ledger::manifest::{Genesis, LogId, Manifest, Operator, Policy};
use fama_ledger::note::{Note, note_hash};
use fama_ledger::proof::TlogProof;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};
use fama_ledger::time::Millis;
use k256::ecdsa;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt;

mod proof;
mod public;

use super::App;
use crate::certified::Write;
use crate::clock::{self, Clock};
use crate::health::{Governance, PendingManifest};
use crate::inbox::InboxInput;
use crate::scores::{self, OpenStatements};
use crate::shared::Shared;
use crate::store::{Commit, Store};
use crate::wire::{CosignedHead, Refusal, SignedHead};

mod access;
mod agent;
mod event;
mod history;
mod mlauth;
mod conforms;
mod openapi;
mod federation;
mod listeners;
mod login;
mod malformed;
mod pages;
mod rollback;
mod stream;
mod webhooks;

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

pub(crate) fn manifest() -> Arc<Manifest> {
    let operator = |name: &str, seed: u8| Operator {
        name: domain(name),
        node_key: operator_key(seed).ed25519().unwrap().verifying_key(),
        governance_key: operator_key(seed + 1).ed25519().unwrap().verifying_key(),
        generation: 1,
        begins: fama_ledger::time::Millis::FIRST,
        addresses: vec!["/ip4/127.0.0.1/tcp/4001".to_owned()],
        endpoints: fama_ledger::manifest::Endpoints::default(),
    };
    let mut operators = vec![operator("alpha.example", 10), operator("beta.example", 20)];
    operators[0].endpoints.issuer = Some("https://auth.alpha.example".to_owned());
    operators[0].endpoints.token_keys = vec![operator_key(12).ed25519().unwrap().verifying_key()];
    let text = Genesis { name: "test".to_owned(), policy: Policy::recommended(2), operators }.text().unwrap();
    let sign = |name, seed| signed_note::sign(&text, name, operator_key(seed).ed25519().unwrap());
    let signatures = vec![sign("alpha.example", 11), sign("beta.example", 21)];
    Arc::new(Manifest::parse(&SignedNote { text: text.clone(), signatures }.to_string()).unwrap())
}

/// Writes one log, as an inbox does.
struct Log {
    id: LogId,
    node_key: SecretKey,
    tree: Tree,
    maps: LogMaps,
    now: u64,
}

/// A federation of two operators, with the node of `alpha.example`: its own log and its copy of `beta.example`'s.
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
            shared: Shared { manifest, ..Shared::with(store, Clock::machine(), [0; 16]) },
            operator: Some(domain("alpha.example")),
            namespace: namespace.map(domain),
            started: Millis(NOW),
            partial: false,
            slot: Arc::default(),
            submit: Some("http://127.0.0.1:8070".to_owned()),
            services: super::ServiceList::default(),
            ready: super::Ready::default(),
        });
        for log in [&alpha, &beta] {
            app.shared.certified.begin(&log.id, 0, &log.maps);
        }
        let mut world = Self { _dir: dir, app, alpha, beta, nonce: 0 };
        let adopt = || vec![VerifiedEntry::adopt(Millis(NOW), 1, world.app.shared.manifest.hash())];
        append(&world.app, &mut world.alpha, adopt(), &[]);
        append(&world.app, &mut world.beta, adopt(), &[]);
        world
    }

    fn log(&mut self, home: &str) -> &mut Log {
        if home == "alpha.example" { &mut self.alpha } else { &mut self.beta }
    }

    fn signed(&mut self, by: &SecretKey, action: Action) -> VerifiedEvent {
        self.nonce += 1;
        let (federation, nonce) = (self.app.shared.manifest.federation(), Nonce(self.nonce.to_be_bytes()));
        let event = Event { federation, action, created: Millis(NOW), nonce };
        let signature = by.sign(event.text().as_bytes());
        SignedEvent { event, signer: by.public(), signature, countersignature: None }.verify(&federation).unwrap()
    }

    /// Appends an event to the log of operator `log`, a second after the last one there.
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
        self.app.shared.store.put_certified(&log.id, size).unwrap();
    }

    /// Has the owner sign the log's head and both operators cosign it.
    fn cosign(&self, log: &Log) {
        let checkpoint = Checkpoint { origin: self.app.shared.manifest.origin(&log.id), head: log.tree.head() };
        let signed = SignedCheckpoint::sign(checkpoint.clone(), log.node_key.ed25519().unwrap());
        let signed = SignedHead::of(&signed);
        self.app.shared.store.put_newest(&log.id, &signed).unwrap();
        for (name, seed) in [("alpha.example", 10), ("beta.example", 20)] {
            let key = operator_key(seed);
            let cosignature = Cosignature::sign(&checkpoint, domain(name), key.ed25519().unwrap(), NOW / 1_000);
            let cosigned = CosignedHead { signed: signed.clone(), cosignature };
            let by = LogId { operator: domain(name), generation: 1 };
            self.app.shared.store.put_cosigned(&log.id, &by, &cosigned, checkpoint.head.size, true).unwrap();
        }
    }

    fn rank(&self) {
        let store = &self.app.shared.store;
        scores::settle(store).unwrap();
        *self.app.shared.open.write().unwrap() = OpenStatements::read(store.manifest(), &store.view()).unwrap();
    }

    fn query(&self) -> Router {
        super::query(Arc::clone(&self.app), None)
    }

    async fn get(&self, path: &str) -> HttpAnswer {
        ask(self.query(), Method::GET, path, &[], "").await
    }

    async fn profile(&self, x: &str) -> Value {
        // From all rows, and from what is kept.
        self.app.shared.store.drop_scores();
        *self.app.shared.open.write().unwrap() = OpenStatements::default();
        let answer = self.get(&format!("/api/agent/{x}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.rank();
        assert_eq!(self.get(&format!("/api/agent/{x}")).await.text, answer.text);
        answer.json()
    }

    async fn verify(&self, body: &Value) -> HttpAnswer {
        let json = [("content-type", "application/json")];
        ask(self.query(), Method::POST, "/api/verify", &json, &body.to_string()).await
    }
}

fn append(app: &App, log: &mut Log, mut entries: Vec<VerifiedEntry>, notes: &[(NoteHash, String)]) {
    let (view, first) = (app.shared.store.view(), log.tree.size());
    let mut batch = Batch::begin(&app.shared.manifest, &log.id, &view, first).unwrap();
    let outcomes: Vec<_> = entries.iter().map(|entry| batch.replay(entry).unwrap()).collect();
    let folded = batch.finish(&mut log.maps).unwrap();
    entries.push(VerifiedEntry::state(folded.time, folded.state_root));
    let tiles = log.tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
    let Head { size, root } = log.tree.head();
    let state = LogState { log: log.id.clone(), size, root, state_root: folded.state_root };
    let (changes, nodes) = (&folded.changes, &folded.nodes);
    let commit = Commit { state, first, entries: &entries, outcomes: &outcomes, tiles, changes, nodes, notes };
    app.shared.certified.before(&log.id, [Write { changes, read: &folded.read, nodes }], &view).unwrap();
    app.shared.store.commit(&[commit]).unwrap();
    app.shared.certified.after(&log.id, size, &log.maps);
    // As the inbox does.
    if outcomes.iter().any(|outcome| matches!(outcome, Some(Ok(Effect::Sponsored { .. })))) {
        app.shared.statements.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

fn note(note: &Note) -> (NoteHash, String) {
    note.check().expect("a note that a node takes");
    let text = note.text();
    (note_hash(text.as_bytes()), text)
}

struct HttpAnswer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl HttpAnswer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(router: Router, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    HttpAnswer { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// Checks that an error has the one JSON form; returns its code.
fn problem(answer: &HttpAnswer) -> String {
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
