//! Tests of the inbox without a network: they give inputs and check commands and the disk.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use fama_ledger::entry::{SignedEvent, VerifiedEvent};
use fama_ledger::event::{Action, Event, Nonce, RevokeReason};
use fama_ledger::key::Curve;
use fama_ledger::log::leaf_hash;
use fama_ledger::manifest::{Genesis, Operator, Policy};
use fama_ledger::replica::Fault;
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
        addresses: Vec::new(),
    };
    let operators = (0..4).map(operator).collect();
    let text = Genesis { name: "test".into(), policy: Policy::recommended(4), operators }.text().unwrap();
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

    fn waiting(&self) -> Option<&'static str> {
        self.inbox.shared.health.read().waiting
    }

    fn submit(&mut self, event: &VerifiedEvent) -> SubmitOutcome {
        let (reply, mut answer) = oneshot::channel();
        let events = vec![Submitted { event: event.clone(), note: None, recovered: false }];
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
    let (home, reason) = (DOMAINS[home].parse().unwrap(), RevokeReason::KeyCompromised);
    event(Action::Revoke { home, identity, version: 1, key: key.public(), reason }, key)
}

/// The owner of log 0 with three batches, each of one entry and its state entry.
fn owner() -> Node {
    let mut owner = Node::new(0);
    owner.open_gate();
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
    let events = vec![Submitted { event: register(0, "last", 50).0, note: None, recovered: false }];
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
        assert_eq!(stored(&owner), None);
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
    owner.inbox.shared.store.rewind(&log_id(0), 6, &[]).unwrap();
    assert_eq!(stored(&owner), Some((6, 3)));
    owner.inbox.shared.store.rewind(&log_id(0), 4, &[]).unwrap();
    assert_eq!(stored(&owner), None);
}

#[test]
fn an_event_twice_in_one_batch_is_one_entry() {
    let mut node = owner();
    let (registration, _) = register(0, "twin", 60);
    let (reply, mut answer) = oneshot::channel();
    let events = (0..2).map(|_| Submitted { event: registration.clone(), note: None, recovered: false }).collect();
    node.inbox.take(InboxInput::Submit { events, reply }).unwrap();
    let (other, mut dropped) = oneshot::channel();
    dropped.close();
    let events = vec![Submitted { event: registration.clone(), note: None, recovered: false }];
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
    assert!(!node.inbox.own_frontier().unwrap().session.writes);
    node.open_gate();
    assert!(node.inbox.own_frontier().unwrap().session.writes, "other operators learn that it writes");
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
    assert!(!copy.inbox.own_frontier().unwrap().session.writes);
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
