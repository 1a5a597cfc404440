//! Tests of the inbox without a network: they give inputs and check commands and the disk.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use fama_ledger::batch::Batch;
use fama_ledger::entry::{SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, Event, Nonce, RevokeReason};
use fama_ledger::id::{IdentityId, ManifestHash};
use fama_ledger::key::Curve;
use fama_ledger::log::leaf_hash;
use fama_ledger::manifest::{Genesis, Operator, Policy};
use fama_ledger::replica::{Fault, PeerLog};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};
use fama_ledger::time::Millis;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::clock::{self, Clock};
use crate::network::peer_id;
use crate::store::simulated::Disk;
use crate::sync::heard::HeardFrontier;
use crate::wire::{EntryRange, Session, SyncRequest, SyncResponse};

mod lateness;
mod rollback;

const DOMAINS: [&str; 4] = ["alpha.example", "beta.example", "gamma.example", "delta.example"];

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap()
}

fn signing(i: usize) -> SigningKey {
    secret(i as u8 + 1).ed25519().unwrap().clone()
}

fn manifest() -> Arc<Manifest> {
    let governance = |i: usize| secret(i as u8 + 101).ed25519().unwrap().clone();
    let operator = |i: usize| Operator {
        name: DOMAINS[i].parse().unwrap(),
        node_key: signing(i).verifying_key(),
        governance_key: governance(i).verifying_key(),
        generation: 1,
        begins: fama_ledger::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: fama_ledger::manifest::Endpoints::default(),
    };
    let operators = (0..4).map(operator).collect();
    // Small, so that a test can fill a day.
    let policy = Policy { daily_bytes: 1_000_000, daily_registrations: 240, ..Policy::recommended(4) };
    let text = Genesis { name: "test".into(), policy, operators }.text().unwrap();
    let signatures = (0..4).map(|i| signed_note::sign(&text, DOMAINS[i], &governance(i))).collect();
    Arc::new(Manifest::parse(&SignedNote { text, signatures }.to_string()).unwrap())
}

struct Node {
    inbox: Inbox,
    commands: mpsc::Receiver<InboxCommand>,
    dir: TempDir,
    i: usize,
}

fn log_id(i: usize) -> LogId {
    LogId { operator: DOMAINS[i].parse().unwrap(), generation: 1 }
}

fn peer(i: usize) -> PeerId {
    peer_id(&signing(i).verifying_key())
}

impl Node {
    fn new(i: usize) -> Self {
        Self::load(i, tempfile::tempdir().unwrap())
    }

    fn load(i: usize, dir: TempDir) -> Self {
        Self::load_with(i, dir, Clock::machine())
    }

    fn load_with(i: usize, dir: TempDir, clock: Clock) -> Self {
        let manifest = manifest();
        let shared = Shared::new(Store::open(dir.path(), &manifest).unwrap(), clock, [0; 16]);
        let (log, keys) = (Some(log_id(i)), vec![(log_id(i), signing(i))]);
        let own = Own { name: DOMAINS[i].parse().unwrap(), log, keys, overrides: Overrides::default() };
        let (commands_out, commands) = mpsc::channel(COMMANDS_MAX);
        let inbox = Inbox::load(shared, Some(own), commands_out).unwrap();
        Self { inbox, commands, dir, i }
    }

    /// Restarts as after kill -9: everything in memory is lost.
    fn restart(self) -> Self {
        let Self { inbox, dir, i, .. } = self;
        drop(inbox);
        Self::load(i, dir)
    }

    /// Rolls log 0 back to `size` entries, with a restart before and after.
    fn rolled_back(mut self, size: u64) -> Self {
        self.inbox.rewind(&log_id(0), size).unwrap();
        let mut node = self.restart();
        while !node.inbox.wants_reload() {
            node.inbox.tick().unwrap();
        }
        node.restart()
    }

    fn connect(&mut self) {
        for i in (0..4).filter(|i| *i != self.i) {
            self.inbox.take(InboxInput::PeerUp { peer: peer(i), operator: Some(DOMAINS[i].parse().unwrap()) }).unwrap();
        }
    }

    /// Connects to all other operators and receives their frontiers, which are empty.
    fn open_gate(&mut self) {
        self.connect();
        self.hear(None);
    }

    /// All other operators answer with empty frontiers, and with clocks like this node's.
    fn hear(&mut self, other: Option<Session>) {
        for i in (0..4).filter(|i| *i != self.i) {
            let (manifest, manifest_hash) = (1, manifest().hash());
            let said = HeardFrontier { logs: Vec::new(), other, manifest, manifest_hash, equivocations: Vec::new() };
            self.inbox.take(InboxInput::Frontier { peer: peer(i), said, ahead: 0 }).unwrap();
        }
        self.inbox.tick().unwrap();
    }

    /// Two others cosign the newest head of log 0: with this node's cosignature it is certified.
    fn meet(&mut self) {
        for i in [1, 2] {
            let (signed, operator) = (self.head(0), DOMAINS[i].parse().unwrap());
            let seconds = self.inbox.shared.clock.now().0 / 1_000;
            let cosignature = Cosignature::sign(signed.checkpoint(), operator, &signing(i), seconds);
            self.inbox.take(InboxInput::Cosigned(Cosigned { signed, by: log_id(i), cosignature })).unwrap();
        }
    }

    /// What this node tells peers about log 0: the newest head's size, and each cosigned head with its time.
    fn shown(&self) -> (u64, Vec<(u64, u64)>) {
        let Shared { store, manifest, clock, .. } = &self.inbox.shared;
        let logs = crate::sync::said::frontier(&store.view(), manifest, Session::default(), clock.now()).unwrap().logs;
        let log = logs.into_iter().find(|one| one.log == log_id(0)).unwrap();
        let cosigned = log.cosigned.iter().map(|one| (one.signed.head.size, one.cosignature.seconds)).collect();
        (log.newest.map_or(0, |newest| newest.head.size), cosigned)
    }

    fn waiting(&self) -> Option<&'static str> {
        self.inbox.shared.health.read().waiting
    }

    fn submit(&mut self, event: &VerifiedEvent) -> SubmitOutcome {
        self.submit_by(event, None)
    }

    fn submit_by(&mut self, event: &VerifiedEvent, forwarder: Option<usize>) -> SubmitOutcome {
        let (reply, mut answer) = oneshot::channel();
        let forwarder = forwarder.map(|i| DOMAINS[i].parse().unwrap());
        let events = vec![Submitted { event: event.clone(), note: None, recovered: false, forwarder }];
        self.inbox.take(InboxInput::Submit { events, reply }).unwrap();
        self.inbox.append().unwrap();
        answer.try_recv().unwrap().pop().unwrap()
    }

    fn head(&self, i: usize) -> SignedCheckpoint {
        self.inbox.replica.newest(&log_id(i)).unwrap().clone()
    }

    fn size(&self, i: usize) -> u64 {
        self.inbox.replica.head(&log_id(i)).unwrap().size
    }

    fn serve(&self, i: usize, from: u64, head: Head) -> SyncResponse {
        let shared = &self.inbox.shared;
        let request = SyncRequest::Entries { log: log_id(i), from, head };
        crate::sync::said::answer(&shared.store.view(), &shared.manifest, Session::default(), clock::now(), &request)
            .unwrap()
    }

    fn range(&self, i: usize, from: u64, head: Head) -> EntryRange {
        match self.serve(i, from, head) {
            SyncResponse::Entries(range) => range,
            other => panic!("{other:?}"),
        }
    }

    /// Receives the answer of peer `from` to a fetch of log `i` below `head`.
    fn give(&mut self, from: usize, i: usize, head: Head, range: EntryRange) {
        let range = DecodedRange::new(range, &self.inbox.shared.manifest.federation());
        self.inbox.take(InboxInput::Range { peer: peer(from), log: log_id(i), head, range }).unwrap();
    }

    fn told_of(&mut self, signed: SignedCheckpoint, range: Option<EntryRange>) {
        let federation = self.inbox.shared.manifest.federation();
        let range = range.map(|range| DecodedRange::new(range, &federation));
        self.inbox.take(InboxInput::Head { peer: peer(3), signed, range }).unwrap();
    }

    fn penalties(&mut self) -> Vec<&'static str> {
        let mut codes = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            if let InboxCommand::Penalize { code, .. } = command {
                codes.push(code);
            }
        }
        codes
    }
}

fn event(action: Action, key: &SecretKey) -> VerifiedEvent {
    let federation = manifest().federation();
    let event = Event { federation, action, created: clock::now(), nonce: Nonce([1; 8]) };
    let signature = key.sign(event.text().as_bytes());
    SignedEvent { event, signer: key.public(), signature, countersignature: None }.verify(&federation).unwrap()
}

fn register(home: usize, name: &str, seed: u8) -> (VerifiedEvent, SecretKey) {
    let key = secret(seed);
    let home = DOMAINS[home].parse().unwrap();
    let action = Action::Register { home, name: name.parse().unwrap(), key: key.public(), next: None, note: None };
    (event(action, &key), key)
}

fn revoke(home: usize, identity: IdentityId, key: &SecretKey) -> VerifiedEvent {
    revoke_as(home, identity, 1, key, RevokeReason::KeyCompromised)
}

fn revoke_as(home: usize, identity: IdentityId, version: u32, key: &SecretKey, reason: RevokeReason) -> VerifiedEvent {
    let home = DOMAINS[home].parse().unwrap();
    event(Action::Revoke { home, identity, version, key: key.public(), reason }, key)
}

/// The owner of log 0 with three batches, each of one entry and its state entry.
fn owner() -> Node {
    let mut owner = Node::new(0);
    owner.open_gate();
    owner.meet();
    for (name, seed) in [("first", 50), ("second", 51)] {
        let answer = owner.submit(&register(0, name, seed).0);
        assert!(matches!(answer, SubmitOutcome::Taken { known: false, .. }), "{answer:?}");
    }
    assert_eq!(owner.size(0), 6);
    owner
}

#[test]
fn a_stop_that_arrives_behind_a_submission_ends_the_node() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut node = Node::new(0);
    node.open_gate();
    let (inputs, inputs_in) = mpsc::channel(INPUTS_MAX);
    let (reply, answer) = oneshot::channel();
    let events = vec![Submitted { event: register(0, "last", 50).0, note: None, recovered: false, forwarder: None }];
    inputs.try_send(InboxInput::Submit { events, reply }).unwrap();
    inputs.try_send(InboxInput::Stop).unwrap();
    let handle = runtime.handle().clone();
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || ended.send(node.inbox.run(&handle, inputs_in).is_ok()));
    assert!(end.recv_timeout(Duration::from_secs(20)).unwrap(), "it ends although senders still exist");
    let answers = runtime.block_on(answer).unwrap();
    assert!(matches!(answers[..], [SubmitOutcome::Taken { .. }]), "waiting submissions are written first");
}

#[test]
fn a_range_that_a_peer_cuts_within_a_batch_is_not_the_owners_fault() {
    let (owner, mut other) = (owner(), Node::new(1));
    let head = owner.head(0).checkpoint().head;
    other.told_of(owner.head(0), None);
    for (keep, size) in [(1, 0), (3, 2), (1, 2), (2, 4)] {
        let from = other.size(0);
        let mut range = owner.range(0, from, head);
        range.entries.truncate(keep);
        let view = owner.inbox.shared.store.view();
        range.proof = log::prove_consistency(from + keep as u64, 6, &view.tiles(&log_id(0))).unwrap();
        drop(view);
        other.give(3, 0, head, range);
        assert_eq!((other.size(0), other.inbox.replica.fault(&log_id(0))), (size, None), "{keep} entries");
    }
    assert_eq!(other.penalties(), ["cut_range", "cut_range"]);
    let rest = owner.range(0, 4, head);
    other.give(0, 0, head, rest);
    assert_eq!(other.size(0), 6);
}

#[test]
fn an_owners_head_within_a_batch_is_the_owners_fault_alone() {
    let (owner, mut other) = (owner(), Node::new(1));
    let root = log::root_at(5, &owner.inbox.shared.store.view().tiles(&log_id(0))).unwrap();
    let head = Head { size: 5, root };
    let origin = manifest().origin(&log_id(0));
    other.told_of(SignedCheckpoint::sign(Checkpoint { origin, head }, &signing(0)), None);
    let range = owner.range(0, 0, head);
    other.give(2, 0, head, range);
    assert_eq!(other.inbox.replica.fault(&log_id(0)), Some(Fault::Invalid));
    assert_eq!(other.size(0), 4, "whole batches before it are kept");
    assert_eq!(other.penalties(), Vec::<&str>::new());
}

#[test]
fn what_is_valid_before_an_invalid_entry_is_kept() {
    let (owner, mut other) = (owner(), Node::new(1));
    let mut range = owner.range(0, 0, owner.head(0).checkpoint().head);
    range.entries[4] = vec![0xff; 40];
    let mut tree = Tree::default();
    tree.append(range.entries.iter().map(|entry| leaf_hash(entry)));
    let checkpoint = Checkpoint { origin: manifest().origin(&log_id(0)), head: tree.head() };
    other.told_of(SignedCheckpoint::sign(checkpoint, &signing(0)), None);
    other.give(2, 0, tree.head(), range);
    assert_eq!((other.size(0), other.inbox.replica.fault(&log_id(0))), (4, Some(Fault::Invalid)));
    assert_eq!(other.penalties(), Vec::<&str>::new());
}

#[test]
fn gossip_with_wrong_entries_costs_who_passed_it_on_nothing() {
    let (owner, mut other) = (owner(), Node::new(1));
    let head = owner.head(0).checkpoint().head;
    let mut range = owner.range(0, 0, head);
    range.entries.swap(0, 2);
    other.told_of(owner.head(0), Some(range));
    assert_eq!((other.size(0), other.inbox.replica.fault(&log_id(0))), (0, None));
    assert_eq!(other.penalties(), Vec::<&str>::new());
    other.told_of(owner.head(0), Some(owner.range(0, 0, head)));
    assert_eq!(other.size(0), 6);
}

#[test]
fn an_asked_peer_with_wrong_entries_is_at_fault() {
    let (owner, mut other) = (owner(), Node::new(1));
    let head = owner.head(0).checkpoint().head;
    let mut range = owner.range(0, 0, head);
    range.entries.swap(0, 2);
    other.give(3, 0, head, range);
    assert_eq!(other.penalties(), ["wrong_range"]);
    let elsewhere = Head { root: TreeRoot([7; 32]), ..head };
    assert!(matches!(owner.serve(0, 0, elsewhere), SyncResponse::Refused(refusal) if refusal.code == "other_branch"));
}

#[test]
fn a_claim_recorded_while_the_home_did_not_write_is_taken_over_later() {
    let (mut home, mut other) = (Node::new(0), Node::new(1));
    home.open_gate();
    let (registration, key) = register(0, "stolen", 50);
    home.submit(&registration);
    let head = home.head(0);
    other.open_gate();
    other.told_of(head.clone(), Some(home.range(0, 0, head.checkpoint().head)));
    let claim = revoke(0, registration.id(), &key);
    assert!(matches!(other.submit(&claim), SubmitOutcome::Taken { .. }));
    // The home mirrors the claim before its gate opens, and is killed before it can copy the claim to its own log.
    let mut home = home.restart();
    let head = other.head(1);
    home.told_of(head.clone(), Some(other.range(1, 0, head.checkpoint().head)));
    assert_eq!(home.size(1), other.size(1));
    let mut home = home.restart();
    let position = |home: &Node| home.inbox.shared.store.view().position(&claim.id(), &log_id(0)).unwrap();
    home.open_gate();
    home.inbox.append().unwrap();
    assert!(position(&home).is_some_and(|position| position.void.is_none()));
    let size = home.size(0);
    home.inbox.claims_due = true;
    home.inbox.tick().unwrap();
    home.inbox.append().unwrap();
    assert_eq!(home.size(0), size, "once");
}

#[test]
fn a_batch_that_a_crash_left_unsigned_is_signed_at_the_start() {
    let owner = owner();
    let head = owner.head(0);
    let stale = owner.inbox.shared.store.view().entries(&log_id(0), 0, 2, 4_096).unwrap();
    let mut tree = Tree::default();
    tree.append(stale.iter().map(|entry| leaf_hash(entry)));
    let checkpoint = Checkpoint { origin: manifest().origin(&log_id(0)), head: tree.head() };
    let old = SignedHead::of(&SignedCheckpoint::sign(checkpoint, &signing(0)));
    owner.inbox.shared.store.put_newest(&log_id(0), &old).unwrap();
    let owner = owner.restart();
    assert_eq!(owner.head(0), head);
    assert_eq!(owner.inbox.shared.store.view().newest(&log_id(0)).unwrap(), Some(SignedHead::of(&head)));
}

/// Symptom: a node that had seen two branches forgot it at the next start and cosigned again. Cause: the second head
/// was stored nowhere. The test restarts the node after it saw both heads.
#[test]
fn an_equivocation_is_known_after_a_restart() {
    let (owner, mut other) = (owner(), Node::new(1));
    let head = owner.head(0);
    other.open_gate();
    other.told_of(head.clone(), Some(owner.range(0, 0, head.checkpoint().head)));
    let elsewhere = Head { size: 4, root: TreeRoot([7; 32]) };
    let checkpoint = Checkpoint { origin: manifest().origin(&log_id(0)), head: elsewhere };
    other.told_of(SignedCheckpoint::sign(checkpoint, &signing(0)), None);
    assert_eq!(other.inbox.replica.fault(&log_id(0)), Some(Fault::Equivocation));
    let other = other.restart();
    assert_eq!(other.inbox.replica.fault(&log_id(0)), Some(Fault::Equivocation));
    let view = other.inbox.shared.store.view();
    assert_eq!(view.conflicting(&log_id(0)).unwrap().map(|signed| signed.head), Some(elsewhere));
    assert_eq!(view.cosigned(&log_id(0)).unwrap().len(), 1, "the earlier cosignature is kept too");
}

/// Symptom: a head with three cosignatures was no longer known as certified once two operators had cosigned the next
/// one. Cause: only the newest cosignature of each operator was kept.
/// The loudest level of all events that are logged while it is in force.
#[derive(Clone)]
struct Loudest(Arc<std::sync::Mutex<Option<tracing::Level>>>);

impl tracing::Subscriber for Loudest {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut loudest = self.0.lock().unwrap();
        *loudest = (*loudest).into_iter().chain([*event.metadata().level()]).min();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn what_a_stranger_sends_as_a_manifest_is_logged_for_debugging_only() {
    let mut node = owner();
    let loudest = Loudest(Arc::default());
    tracing::subscriber::with_default(loudest.clone(), || {
        let texts = vec!["no manifest".to_owned()];
        node.inbox.take(InboxInput::Manifests { peer: peer(3), texts }).unwrap();
    });
    assert_eq!(node.penalties(), ["wrong_manifest"]);
    assert_eq!(*loudest.0.lock().unwrap(), Some(tracing::Level::DEBUG));
}

#[test]
fn a_certificate_outlives_newer_cosignatures_and_restarts_and_goes_with_its_entries() {
    let mut owner = owner();
    let cosigned = |owner: &Node, i: usize| {
        let (signed, operator) = (owner.head(0), DOMAINS[i].parse().unwrap());
        let cosignature = Cosignature::sign(signed.checkpoint(), operator, &signing(i), 1_795_000_000);
        Cosigned { signed, by: log_id(i), cosignature }
    };
    let stored = |owner: &Node| {
        let found = owner.inbox.shared.store.view().certificate(&log_id(0)).unwrap();
        found.map(|found| (found.signed.head.size, found.cosignatures.len()))
    };
    for i in 1..3 {
        assert_eq!(stored(&owner), Some((2, 3)));
        let cosigned = cosigned(&owner, i);
        owner.inbox.take(InboxInput::Cosigned(cosigned)).unwrap();
    }
    assert_eq!(stored(&owner), Some((6, 3)), "the owner's own cosignature is the third");
    assert!(matches!(owner.submit(&register(0, "third", 52).0), SubmitOutcome::Taken { .. }));
    let next = cosigned(&owner, 1);
    owner.inbox.take(InboxInput::Cosigned(next)).unwrap();
    assert_eq!(owner.inbox.shared.store.view().cosigned(&log_id(0)).unwrap().len(), 3);
    let owner = owner.restart();
    assert_eq!(stored(&owner), Some((6, 3)));
    assert_eq!(owner.inbox.replica.certificate(&log_id(0)).map(|one| one.head().size), Some(6));
    let owner = owner.rolled_back(6);
    assert_eq!((stored(&owner), owner.size(0)), (Some((6, 3)), 6));
    let owner = owner.rolled_back(4);
    assert_eq!((stored(&owner), owner.size(0)), (None, 4));
}

#[test]
fn an_event_twice_in_one_batch_is_one_entry() {
    let mut node = owner();
    let (registration, _) = register(0, "twin", 60);
    let (reply, mut answer) = oneshot::channel();
    let events = (0..2)
        .map(|_| Submitted { event: registration.clone(), note: None, recovered: false, forwarder: None })
        .collect();
    node.inbox.take(InboxInput::Submit { events, reply }).unwrap();
    let (other, mut dropped) = oneshot::channel();
    dropped.close();
    let events = vec![Submitted { event: registration.clone(), note: None, recovered: false, forwarder: None }];
    node.inbox.take(InboxInput::Submit { events, reply: other }).unwrap();
    node.inbox.append().unwrap();
    let indexes: Vec<u64> = answer
        .try_recv()
        .unwrap()
        .iter()
        .map(|answer| match answer {
            SubmitOutcome::Taken { index, .. } => *index,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((indexes, node.size(0)), (vec![6, 6], 8));
    assert!(matches!(node.submit(&registration), SubmitOutcome::Taken { index: 6, known: true, .. }));
}

#[test]
fn nothing_is_taken_in_before_the_gate_opens() {
    let mut node = Node::new(0);
    let (registration, _) = register(0, "early", 60);
    assert!(matches!(node.submit(&registration), SubmitOutcome::Refused(refusal) if refusal.code == "not_ready"));
    node.open_gate();
    assert!(matches!(node.submit(&registration), SubmitOutcome::Taken { known: false, .. }));
}

/// Whether a submission is refused for this reason, and the health data shows the same reason.
fn held(node: &mut Node, code: &str) -> bool {
    let (event, _) = register(0, "held-up", 60);
    let refused = matches!(node.submit(&event), SubmitOutcome::Refused(refusal)
        if refusal.code == "not_ready" && refusal.message.ends_with(&format!(": {code}")));
    node.inbox.tick().unwrap();
    refused && node.waiting() == Some(code)
}

#[test]
fn a_clock_that_jumps_stops_writing_until_others_agree() {
    let simulated = Arc::new(clock::Simulated::default());
    let wall = clock::now();
    simulated.set(wall, 1_000);
    let mut node = Node::load_with(0, tempfile::tempdir().unwrap(), Clock::simulated(Arc::clone(&simulated)));
    node.open_gate();
    assert!(matches!(node.submit(&register(0, "before", 61).0), SubmitOutcome::Taken { .. }));
    simulated.set(Millis(wall.0 + 2 * 3_600_000), 1_250);
    assert!(held(&mut node, "clock_jumped"), "before the next tick");
    simulated.set(wall, 1_500);
    assert!(held(&mut node, "clock_jumped"), "the clock is right again, but not compared yet");
    simulated.set(wall, 2_500);
    node.hear(None);
    assert_eq!(node.waiting(), None);
    assert!(matches!(node.submit(&register(0, "after", 62).0), SubmitOutcome::Taken { .. }));
}

#[test]
fn another_session_stops_a_start_and_a_writer() {
    let session = |writes| Some(Session { id: [9; 16], writes });
    let mut node = Node::new(0);
    assert!(!node.inbox.asking().session.writes);
    node.open_gate();
    assert!(node.inbox.asking().session.writes, "other operators learn that it writes");
    node.hear(session(false));
    assert!(
        matches!(node.submit(&register(0, "first", 61).0), SubmitOutcome::Taken { .. }),
        "a writer does not stop for a process that only starts"
    );
    assert_eq!(node.inbox.shared.health.read().warnings, ["other_session"]);
    node.hear(session(true));
    assert!(held(&mut node, "other_session"));
    node.hear(None);
    assert!(matches!(node.submit(&register(0, "second", 62).0), SubmitOutcome::Taken { .. }));

    let mut copy = node.restart();
    copy.connect();
    copy.hear(session(false));
    assert!(held(&mut copy, "other_session"));
    assert!(!copy.inbox.asking().session.writes);
}

/// Symptom: an owner that had lost its disk began another branch, although a mirror had its entries. Cause: gossiped
/// entries were made durable before the head above them, and a crash between the two left entries that the mirror
/// could serve to nobody. The test crashes after every write.
#[test]
fn entries_are_never_kept_without_a_head_above_them() {
    let owner = owner();
    let head = owner.head(0);
    for writes in 0..6 {
        let (disk, manifest) = (Disk::default(), manifest());
        let load = || {
            let store = Store::open_simulated(&disk, &manifest).unwrap();
            let shared = Shared::new(store, Clock::machine(), [0; 16]);
            Inbox::load(shared, None, mpsc::channel(COMMANDS_MAX).0)
        };
        let mut mirror = load().unwrap();
        disk.power_off_after(writes);
        let range = DecodedRange::new(owner.range(0, 0, head.checkpoint().head), &manifest.federation());
        let taken = mirror.take(InboxInput::Head { peer: peer(0), signed: head.clone(), range: Some(range) });
        assert!(taken.is_err() || writes > 1, "{writes} writes");
        drop(mirror);
        for kept in (0..=disk.unsynced()).rev() {
            disk.crash(kept);
            let mirror = load().unwrap();
            let (size, newest) = (mirror.replica.head(&log_id(0)).unwrap().size, mirror.replica.newest(&log_id(0)));
            assert!(newest.map_or(0, |newest| newest.checkpoint().head.size) >= size, "{writes} writes, {kept} kept");
        }
    }
}

/// Registers identities in the owner's home.
fn identities(owner: &mut Node, count: u8) -> Vec<(EventId, SecretKey)> {
    (0..count)
        .map(|n| {
            let (event, key) = register(owner.i, &format!("agent-{n}"), 100 + n);
            assert!(matches!(owner.submit(&event), SubmitOutcome::Taken { .. }));
            (event.id(), key)
        })
        .collect()
}

fn code(outcome: SubmitOutcome) -> String {
    match outcome {
        SubmitOutcome::Taken { .. } => "taken".into(),
        SubmitOutcome::Refused(refusal) => refusal.code,
        SubmitOutcome::Unsponsored => "unsponsored".into(),
    }
}

fn mirrors(node: &mut Node, owner: &Node) {
    let (i, from) = (owner.i, node.inbox.replica.head(&log_id(owner.i)).map_or(0, |head| head.size));
    let head = owner.head(i);
    node.told_of(head.clone(), Some(owner.range(i, from, head.checkpoint().head)));
    assert_eq!(node.size(i), owner.size(i));
}

/// Symptom: a liar's own revocations at midnight shut out the true one that a silent home refuses. Cause: claims against
/// all homes shared one budget. A restart gives no new one.
#[test]
fn claims_against_a_liars_homes_leave_room_for_others() {
    let (mut silent, mut liar, mut other) = (Node::new(0), Node::new(3), Node::new(1));
    [&mut silent, &mut liar, &mut other].into_iter().for_each(Node::open_gate);
    let victim = identities(&mut silent, 1).remove(0);
    let liars = identities(&mut liar, 100);
    mirrors(&mut other, &silent);
    mirrors(&mut other, &liar);
    let flood = |other: &mut Node, range: std::ops::Range<usize>| -> Vec<String> {
        liars[range].iter().map(|(id, key)| code(other.submit(&revoke(3, *id, key)))).collect()
    };
    assert!(flood(&mut other, 0..60).iter().all(|code| code == "taken"));
    let mut other = other.restart();
    other.open_gate();
    let codes = flood(&mut other, 60..100);
    assert_eq!((codes[0].as_str(), codes[39].as_str()), ("taken", "daily_bytes"));
    assert_eq!(code(other.submit(&revoke(0, victim.0, &victim.1))), "taken");
}

/// Symptom: an operator's node could use up a day's registrations of every other home, and again after each restart of
/// theirs. Cause: only a rate bounded it, which was kept in memory.
#[test]
fn a_forwarder_brings_half_of_the_days_registrations_at_most() {
    let mut owner = Node::new(0);
    owner.open_gate();
    let forwarded = |owner: &mut Node, by: usize, range: std::ops::Range<u8>| -> Vec<String> {
        let one = |n: u8| code(owner.submit_by(&register(0, &format!("agent-{n}"), n).0, Some(by)));
        range.map(one).collect()
    };
    assert!(forwarded(&mut owner, 3, 50..110).iter().all(|code| code == "taken"));
    let mut owner = owner.restart();
    owner.open_gate();
    assert!(forwarded(&mut owner, 3, 110..170).iter().all(|code| code == "taken"));
    assert_eq!(forwarded(&mut owner, 3, 170..172), ["rate", "rate"]);
    assert_eq!(forwarded(&mut owner, 2, 170..171), ["taken"], "another operator has a share of its own");
    assert_eq!(code(owner.submit(&register(0, "agent-171", 171).0)), "taken", "whoever comes directly has the rest");
}

/// Symptom: any number of claims against one identity were taken in. Cause: versions that do not exist, and keys that
/// nobody has, were recorded as claims like any other.
#[test]
fn a_claim_is_against_the_current_key_or_one_that_a_receipt_shows() {
    let (mut home, mut other) = (Node::new(0), Node::new(1));
    [&mut home, &mut other].into_iter().for_each(Node::open_gate);
    let (id, key) = identities(&mut home, 1).remove(0);
    let true_claim = revoke(0, id, &key);
    let refused = |outcome: SubmitOutcome| match outcome {
        SubmitOutcome::Refused(refusal) => (refusal.code, refusal.retry_after.is_some()),
        _ => panic!("taken"),
    };
    assert_eq!(refused(other.submit(&true_claim)), ("unknown_identity".to_owned(), true));
    mirrors(&mut other, &home);
    let thief = secret(77);
    assert_eq!(refused(other.submit(&revoke(0, id, &thief))), ("not_authorized".to_owned(), false));
    let early = revoke_as(0, id, 2, &thief, RevokeReason::KeyCompromised);
    assert_eq!(refused(other.submit(&early)), ("wrong_version".to_owned(), true));
    let (reply, mut answer) = oneshot::channel();
    let events = vec![Submitted { event: early, note: None, recovered: true, forwarder: None }];
    other.inbox.take(InboxInput::Submit { events, reply }).unwrap();
    other.inbox.append().unwrap();
    assert_eq!(code(answer.try_recv().unwrap().remove(0)), "taken", "a receipt shows it");
    assert_eq!(code(other.submit(&true_claim)), "taken");
    assert_eq!(code(other.submit(&revoke_as(0, id, 1, &key, RevokeReason::Retired))), "duplicate");
}

/// A clock and a function that moves it forward, in milliseconds.
fn moving() -> (Clock, u64, impl FnMut(u64)) {
    let simulated = Arc::new(clock::Simulated::default());
    let (clock, wall) = (Clock::simulated(Arc::clone(&simulated)), clock::now());
    let mut passed = 1_000;
    simulated.set(wall, passed);
    let forward = move |millis: u64| {
        passed += millis;
        simulated.set(Millis(wall.0 + passed - 1_000), passed);
    };
    (clock, wall.0 / 1_000, forward)
}

/// Symptom: the proof of an idle log and one that hides its newest entries looked alike. Cause: a head was cosigned
/// once. The test lets a log be idle, and looks at what peers and readers are shown.
#[test]
fn cosignatures_of_an_idle_log_are_renewed_in_memory() {
    let (clock, began, mut forward) = moving();
    let mut node = Node::load_with(0, tempfile::tempdir().unwrap(), clock.clone());
    node.open_gate();
    node.meet();
    let times = |node: &Node| {
        let found = node.inbox.shared.store.view().certificate(&log_id(0)).unwrap().unwrap();
        found.cosignatures.iter().map(|(_, one)| one.seconds - began).collect::<Vec<_>>()
    };
    assert_eq!(times(&node), [0, 0, 0]);
    forward(31_000);
    node.hear(None);
    assert_eq!(node.shown().1.iter().map(|(_, at)| at - began).collect::<Vec<_>>(), [31, 0, 0]);
    node.inbox.tick().unwrap();
    assert_eq!(times(&node), [31, 0, 0], "in the certificate too");
    forward(29_000);
    node.hear(None);
    assert_eq!(times(&node), [31, 0, 0], "not before the next heartbeat");
    let dir = node.dir;
    drop(node.inbox);
    let mut node = Node::load_with(0, dir, clock);
    assert_eq!(times(&node), [0, 0, 0], "nothing was written");
    node.inbox.tick().unwrap();
    assert_eq!(times(&node), [0, 0, 0], "not before others answered");
    node.open_gate();
    node.inbox.tick().unwrap();
    assert_eq!(times(&node), [60, 0, 0]);
}

#[test]
fn nobody_hears_of_a_head_while_a_quorum_meets_at_the_one_before() {
    let (clock, _, mut forward) = moving();
    let mut node = Node::load_with(0, tempfile::tempdir().unwrap(), clock);
    node.open_gate();
    assert!(matches!(node.submit(&register(0, "first", 50).0), SubmitOutcome::Taken { .. }));
    let sizes = |node: &Node| (node.shown().0, node.shown().1.iter().map(|(size, _)| *size).collect::<Vec<_>>());
    assert_eq!((node.size(0), sizes(&node)), (4, (2, vec![2])), "its receipt is durable all the same");
    forward(3_999);
    node.hear(None);
    assert_eq!(sizes(&node), (2, vec![2]));
    forward(1);
    node.hear(None);
    assert_eq!(sizes(&node), (4, vec![4]), "without a quorum it waits no longer");
    forward(30_000);
    node.hear(None);
    assert!(matches!(node.submit(&register(0, "second", 51).0), SubmitOutcome::Taken { .. }));
    assert!(matches!(node.submit(&register(0, "third", 52).0), SubmitOutcome::Taken { .. }));
    assert_eq!(sizes(&node), (6, vec![6]));
    for i in [1, 2] {
        let signed = node.inbox.shared.store.view().shown(&log_id(0)).unwrap().unwrap();
        let (signed, operator) = (signed.verify(&manifest(), &log_id(0)).unwrap(), DOMAINS[i].parse().unwrap());
        let cosignature = Cosignature::sign(signed.checkpoint(), operator, &signing(i), 1_795_000_000);
        node.inbox.take(InboxInput::Cosigned(Cosigned { signed, by: log_id(i), cosignature })).unwrap();
    }
    assert_eq!(sizes(&node), (8, vec![8, 6, 6]), "a quorum met");
}

#[test]
fn agreeing_to_a_cut_ends_renewals_for_good() {
    let (clock, began, mut forward) = moving();
    let mut node = Node::load_with(0, tempfile::tempdir().unwrap(), clock.clone());
    node.open_gate();
    node.meet();
    let head = node.head(0).checkpoint().head;
    let (genesis, successor) = (manifest(), LogId { operator: DOMAINS[0].parse().unwrap(), generation: 2 });
    let mut draft = genesis.draft();
    draft.operators[0].generation = 2;
    draft.operators[0].node_key = signing(60).verifying_key();
    draft.homes.insert(successor.operator.clone(), successor.clone());
    let state_root = fama_ledger::id::StateRoot([1; 32]);
    draft.cuts.push(fama_ledger::manifest::Cut { log: log_id(0), head, state_root, adopted: 1, successor });
    let agree = |node: &mut Node, text: &str| {
        let (reply, mut answer) = oneshot::channel();
        node.inbox.take(InboxInput::Agree { text: text.into(), reply }).unwrap();
        answer.try_recv().unwrap()
    };
    assert!(agree(&mut node, "not a draft").is_err());
    agree(&mut node, &draft.text().unwrap()).unwrap();
    let own = |node: &Node| node.shown().1[0].1 - began;
    forward(31_000);
    node.hear(None);
    assert_eq!(own(&node), 0);
    let dir = node.dir;
    drop(node.inbox);
    let mut node = Node::load_with(0, dir, clock);
    node.open_gate();
    assert_eq!(own(&node), 0, "also after a restart");
}

/// Symptom: while inputs kept arriving, nothing that clients had submitted was ever appended. Cause: a batch that was
/// due waited until the queue of inputs was empty. The test refills the queue without pause.
#[test]
fn a_constant_flow_of_inputs_does_not_keep_submissions_waiting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut node = Node::new(0);
    node.open_gate();
    let (inputs, inputs_in) = mpsc::channel(INPUTS_MAX);
    let (reply, answer) = oneshot::channel();
    let flood = inputs.clone();
    let flooding = std::thread::spawn(move || while flood.blocking_send(InboxInput::AskAll).is_ok() {});
    let handle = runtime.handle().clone();
    let thread = std::thread::spawn(move || node.inbox.run(&handle, inputs_in).is_ok());
    let events = vec![Submitted { event: register(0, "flooded", 50).0, note: None, recovered: false, forwarder: None }];
    inputs.blocking_send(InboxInput::Submit { events, reply }).unwrap();
    let answered = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), answer).await });
    inputs.blocking_send(InboxInput::Stop).unwrap();
    assert!(matches!(answered.unwrap().unwrap()[..], [SubmitOutcome::Taken { .. }]));
    assert!(thread.join().unwrap());
    flooding.join().unwrap();
}

/// The version after `previous`, which changes nothing but its number.
fn next(previous: &Arc<Manifest>) -> Arc<Manifest> {
    let text = previous.draft().text().unwrap();
    let governance = |i: usize| secret(i as u8 + 101).ed25519().unwrap().clone();
    let signatures = (0..4).map(|i| signed_note::sign(&text, DOMAINS[i], &governance(i))).collect();
    Arc::new(previous.successor(&SignedNote { text, signatures }.to_string()).unwrap())
}

/// Symptom: a node took up a version while a log had not adopted the one before. Here no log has adopted version 2 when
/// version 3 comes: it must stay pending, over a restart and with the reason shown, until a valid version 4 shows that
/// the others went on.
#[test]
fn a_version_waits_for_adoptions_until_a_later_one_is_shown() {
    let second = next(&manifest());
    let third = next(&second);
    let fourth = next(&third);
    let text = |manifest: &Manifest| manifest.note().to_string();
    let mut node = Node::new(0);
    node.inbox.manifest(&text(&second)).unwrap().unwrap();
    let mut node = node.restart();
    assert_eq!(node.inbox.shared.manifest.version(), 2, "version 1 brought all logs");
    let early = node.inbox.manifest(&text(&fourth)).unwrap();
    assert!(early.is_err(), "nothing shows version 3: {early:?}");
    node.inbox.manifest(&text(&third)).unwrap().unwrap();
    let mut node = node.restart();
    node.open_gate();
    let pending = node.inbox.shared.health.read().governance.pending.clone().unwrap();
    assert_eq!((node.inbox.shared.manifest.version(), pending.version), (2, 3));
    let all: Vec<String> = (0..4).map(|i| log_id(i).to_string()).collect();
    assert!(pending.waits_for.starts_with("certified adoptions of version 2 in "), "{}", pending.waits_for);
    assert!(all.iter().all(|log| pending.waits_for.contains(log)), "{}", pending.waits_for);
    let unsigned = SignedNote { signatures: third.note().signatures.clone(), ..fourth.note().clone() };
    assert!(node.inbox.manifest(&unsigned.to_string()).unwrap().is_err());
    assert!(!node.inbox.reload, "a text that nobody signed shows nothing");
    node.inbox.manifest(&text(&fourth)).unwrap().unwrap();
    let node = node.restart();
    assert_eq!(node.inbox.shared.manifest.version(), 3);
    assert!(node.inbox.shared.store.pending().is_none(), "version 4 is asked for again");
}

/// The next version as a newer program writes it, signed by three operators.
fn later_version() -> String {
    let text = manifest().draft().text().unwrap().replacen("version = 2\n", "version = 2\nprotocol = 2\n", 1);
    let text = text.replacen("[policy]\n", "[policy]\nnew_rule = 1\n", 1);
    let sign = |i: usize| signed_note::sign(&text, DOMAINS[i], secret(i as u8 + 101).ed25519().unwrap());
    SignedNote { signatures: (1..4).map(sign).collect(), text: text.clone() }.to_string()
}

/// Four operators; the program of the fourth is newer. It has the next version signed, which the others cannot read,
/// and its log adopts it.
#[test]
fn a_version_of_a_later_protocol_is_kept_and_stops_nobody() {
    let text = later_version();
    let mut node = owner();
    node.inbox.take(InboxInput::Manifests { peer: peer(3), texts: vec![text.clone()] }).unwrap();
    assert_eq!(node.penalties(), Vec::<&str>::new());
    let check = |node: &Node| {
        let health = node.inbox.shared.health.read();
        let pending = health.governance.pending.as_ref().unwrap();
        assert_eq!((pending.version, pending.text == text), (2, true));
        assert_eq!(pending.waits_for, "a newer release of this program, which knows protocol 2");
        assert_eq!(node.inbox.shared.manifest.version(), 1);
        assert!(node.inbox.shared.store.pending().is_none());
    };
    check(&node);
    // Nothing is asked for again, and the log continues.
    let said = HeardFrontier {
        logs: Vec::new(),
        other: None,
        manifest: 2,
        manifest_hash: ManifestHash([2; 32]),
        equivocations: Vec::new(),
    };
    node.inbox.take(InboxInput::Frontier { peer: peer(3), said, ahead: 0 }).unwrap();
    while let Ok(command) = node.commands.try_recv() {
        assert!(!matches!(command, InboxCommand::FetchManifests { .. }));
    }
    let (event, _) = register(0, "after-the-update", 77);
    assert!(matches!(node.submit(&event), SubmitOutcome::Taken { .. }));
    // After a restart it is still there, for the program that will know it.
    let mut node = node.restart();
    check(&node);
    // The log of the fourth: it adopts version 2, and an entry of a kind that nobody here can read follows. That is no
    // fault of its owner.
    let key = signing(3);
    let first = VerifiedEntry::adopt(clock::now(), 1, manifest().hash());
    let mut maps = LogMaps::load(&manifest(), &log_id(3), &node.inbox.shared.store.view()).unwrap();
    let (manifest, id, store) = (manifest(), log_id(3), Arc::clone(&node.inbox.shared.store));
    let view = store.view();
    let mut batch = Batch::begin(&manifest, &id, &view, 0).unwrap();
    batch.replay(&first).unwrap();
    let folded = batch.finish(&mut maps).unwrap();
    let state = |root| VerifiedEntry::state(first.time, root).bytes().to_vec();
    let second = VerifiedEntry::adopt(first.time, 2, ManifestHash([2; 32])).bytes().to_vec();
    let unknown = [&first.time.0.to_le_bytes()[..], &[9; 60]].concat();
    let zero = fama_ledger::id::StateRoot([0; 32]);
    let entries = vec![first.bytes().to_vec(), state(folded.state_root), second, state(zero), unknown, state(zero)];
    drop(view);
    let mut tree = Tree::default();
    tree.append(entries.iter().map(|entry| leaf_hash(entry)));
    let head = tree.head();
    let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&id), head }, &key);
    node.open_gate();
    node.told_of(signed, None);
    node.give(3, 3, head, EntryRange { first: 0, entries, proof: Vec::new(), notes: Vec::new() });
    assert_eq!((node.size(3), node.inbox.replica.fault(&id)), (2, None));
    assert_eq!(node.penalties(), Vec::<&str>::new());
}
