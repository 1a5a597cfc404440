//! Rollbacks: in pieces, with a crash between any two writes, and in bounded memory.
use fama_ledger::batch::Batch;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::Method;
use fama_ledger::join::LogState;

use super::*;
use crate::replay::check::check;
use crate::store::{Commit, DeadLetter, WebhookCursor};

/// Writes a valid log on a disk of its own.
struct Author {
    log: LogId,
    store: Store,
    maps: LogMaps,
    tree: Tree,
    manifest: Arc<Manifest>,
    entries: Vec<Vec<u8>>,
    time: Millis,
}

impl Author {
    fn new(i: usize) -> Self {
        let (log, manifest) = (log_id(i), manifest());
        let store = Store::open_simulated(&Disk::default(), &manifest).unwrap();
        let maps = LogMaps::load(&manifest, &log, &store.view()).unwrap();
        let (tree, entries, time) = (Tree::default(), Vec::new(), clock::now());
        let adopt = VerifiedEntry::adopt(time, 1, manifest.hash());
        let mut author = Self { log, store, maps, tree, manifest, entries, time };
        author.append(vec![adopt]);
        author
    }

    fn events(&mut self, events: &[&VerifiedEvent]) {
        self.time.0 += 1;
        self.append(events.iter().map(|event| VerifiedEntry::of(self.time, (*event).clone())).collect());
    }

    fn append(&mut self, mut entries: Vec<VerifiedEntry>) {
        let (log, first) = (self.log.clone(), self.tree.size());
        let view = self.store.view();
        let mut batch = Batch::begin(&self.manifest, &log, &view, first).unwrap();
        let outcomes: Vec<_> = entries.iter().map(|entry| batch.replay(entry).unwrap()).collect();
        let folded = batch.finish(&mut self.maps).unwrap();
        entries.push(VerifiedEntry::state(folded.time, folded.state_root));
        let tiles = self.tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
        let Head { size, root } = self.tree.head();
        let state = LogState { log, size, root, state_root: folded.state_root };
        let (entries, outcomes) = (&entries[..], &outcomes[..]);
        let (changes, nodes) = (&folded.changes, &folded.nodes);
        self.store.commit(&[Commit { state, first, entries, outcomes, tiles, changes, nodes, notes: &[] }]).unwrap();
        self.entries.extend(entries.iter().map(|entry| entry.bytes().to_vec()));
    }

    fn signed(&self) -> SignedCheckpoint {
        let checkpoint = Checkpoint { origin: self.manifest.origin(&self.log), head: self.tree.head() };
        SignedCheckpoint::sign(
            checkpoint,
            &signing(DOMAINS.iter().position(|name| *name == self.log.operator.as_str()).unwrap()),
        )
    }

    /// Gives the entries that it lacks to an inbox, a few at a time.
    fn give(&self, inbox: &mut Inbox) {
        let (signed, federation) = (self.signed(), self.manifest.federation());
        let head = signed.checkpoint().head;
        inbox.take(InboxInput::Head { peer: peer(3), signed, range: None }).unwrap();
        for _ in 0..self.entries.len() {
            let first = inbox.replica.head(&self.log).unwrap().size;
            let entries: Vec<_> = self.entries[first as usize..].iter().take(9).cloned().collect();
            if entries.is_empty() {
                break;
            }
            let view = self.store.view();
            let size = first + entries.len() as u64;
            let proof = log::prove_consistency(size, head.size, &view.tiles(&self.log)).unwrap();
            let range = DecodedRange::new(EntryRange { first, entries, proof, notes: Vec::new() }, &federation);
            inbox.take(InboxInput::Range { peer: peer(3), log: self.log.clone(), head, range }).unwrap();
        }
        assert_eq!(inbox.replica.head(&self.log), Some(head));
    }
}

/// A mirror on a simulated disk, which rolls back in pieces of three entries.
fn mirror(disk: &Disk) -> Result<Inbox, Fatal> {
    let store = Store::open_simulated(disk, &manifest())?;
    let shared = Shared::new(store, Clock::machine(), [0; 16]);
    let mut inbox = Inbox::load(shared, None, mpsc::channel(COMMANDS_MAX).0)?;
    if let Some(rollback) = &mut inbox.rollback {
        rollback.run.piece = 3;
    }
    Ok(inbox)
}

/// A log in which each kind of index must be partly undone: the size after which everything is abandoned, and how many
/// different events come after it.
fn story() -> ([Author; 2], u64, usize) {
    let (mut author, mut other) = (Author::new(0), Author::new(1));
    let (service, service_key) = register(0, "service", 50);
    let (agent, agent_key) = register(0, "agent", 51);
    let (late, late_key) = register(0, "late", 52);
    let home: Domain = DOMAINS[0].parse().unwrap();
    let attest = |home: &Domain, by: &VerifiedEvent, key: &SecretKey, nonce: u8| {
        let (issuer, subject) = (by.id(), agent.id());
        let action = Action::Attest { home: home.clone(), issuer, subject, delta: 1, context: None, note: None };
        let event =
            Event { federation: manifest().federation(), action, created: clock::now(), nonce: Nonce([nonce; 8]) };
        let signature = key.sign(event.text().as_bytes());
        let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
        signed.verify(&manifest().federation()).unwrap()
    };
    let (first, second, early) = (
        attest(&home, &service, &service_key, 1),
        attest(&home, &service, &service_key, 2),
        attest(&home, &late, &late_key, 3),
    );
    // The other log has a provider too. Its attestation is void in this one.
    let (stranger, stranger_key) = register(1, "stranger", 53);
    let foreign = attest(&DOMAINS[1].parse().unwrap(), &stranger, &stranger_key, 4);
    other.events(&[&stranger, &foreign]);
    author.events(&[&service, &agent, &early]);
    author.events(&[&first]);
    let stays = author.tree.size();
    let retract = Action::Retract {
        home: home.clone(),
        issuer: service.id(),
        subject: agent.id(),
        day: first.event().created.day(),
        attestation: first.id(),
    };
    let (retract, revoked) = (event(retract, &service_key), revoke(0, agent.id(), &agent_key));
    let (service, domain) = ("karma".parse().unwrap(), DOMAINS[1].parse().unwrap());
    let admit = Action::Admit { operator: home, provider: late.id(), service, domain, method: Method::Manual, from: 0 };
    let admit = event(admit, &secret(1));
    author.events(&[&first, &late, &early, &second, &foreign, &foreign]);
    author.events(&[&retract, &admit]);
    author.events(&[&revoked]);
    ([author, other], stays, 8)
}

/// The events that are kept aside, with whether each has a proof.
fn aside(inbox: &Inbox) -> (usize, bool) {
    let found = inbox.shared.store.view().dropped(EventId([0; 32]), 99).unwrap();
    (found.len(), found.iter().all(|(_, dropped)| dropped.proof.is_some()))
}

/// Ticks until a rollback is finished; `false` if the power went off.
fn finish(inbox: &mut Inbox) -> bool {
    while !inbox.wants_reload() {
        if inbox.tick().is_err() {
            return false;
        }
    }
    true
}

#[test]
fn a_rollback_is_finished_after_a_crash_at_any_write() {
    let (authors, stays, events) = story();
    let disk = Disk::default();
    authors.iter().for_each(|author| author.give(&mut mirror(&disk).unwrap()));
    let mut finished = false;
    for writes in 0..64 {
        let disk = disk.copy();
        let mut inbox = mirror(&disk).unwrap();
        disk.power_off_after(writes);
        // One more than stays is within a batch: the log goes back to the end of the batch before.
        finished = inbox.rewind(&log_id(0), stays + 1).is_ok();
        drop(inbox);
        finished = finished && mirror(&disk).is_ok_and(|mut inbox| finish(&mut inbox));
        for kept in (0..=disk.unsynced()).rev() {
            let disk = disk.crashed(kept);
            let mut inbox = mirror(&disk).unwrap();
            if !inbox.shared.store.view().needs_rebuild().unwrap()
                && inbox.replica.head(&log_id(0)).unwrap().size > stays
            {
                inbox.rewind(&log_id(0), stays).unwrap();
                inbox = mirror(&disk).unwrap();
            }
            let store = Arc::clone(&inbox.shared.store);
            if store.view().needs_rebuild().unwrap() {
                assert_eq!(inbox.replica.head(&log_id(0)), Some(Head::EMPTY), "it has no copy meanwhile");
                assert!(finish(&mut inbox));
                inbox = mirror(&disk).unwrap();
            }
            assert_eq!(inbox.replica.head(&log_id(0)).unwrap().size, stays, "{writes} writes, {kept} kept");
            assert_eq!(aside(&inbox), (events, true), "{writes} writes, {kept} kept");
            let rebuilt = Store::open_simulated(&Disk::default(), &manifest()).unwrap();
            let found = check(&inbox.shared.store, &rebuilt, &manifest(), &mut |_, _| {}).unwrap();
            assert_eq!(found.findings, [], "{writes} writes, {kept} kept");
            authors[0].give(&mut inbox);
        }
        if finished {
            assert!(writes > 8, "{writes} writes: it was not done in pieces");
            break;
        }
    }
    assert!(finished);
}

#[test]
fn a_load_ends_when_the_node_has_to_stop() {
    let (authors, ..) = story();
    let disk = Disk::default();
    authors.iter().for_each(|author| author.give(&mut mirror(&disk).unwrap()));
    let store = Arc::new(Store::open_simulated(&disk, &manifest()).unwrap());
    store.interrupt();
    let shared = Shared::with(Arc::clone(&store), Clock::machine(), [0; 16]);
    let loaded = Inbox::load(shared, None, mpsc::channel(COMMANDS_MAX).0);
    assert_eq!(loaded.err().map(|error| error.code()), Some("interrupted"));
    assert_eq!(store.failure(), None, "the disk is as good as before");
    drop(store);
    assert_eq!(mirror(&disk).unwrap().replica.head(&log_id(0)), Some(authors[0].tree.head()));
}

#[test]
fn other_logs_grow_while_one_is_rolled_back() {
    let (authors, stays, _) = story();
    let mut node = Node::new(1);
    node.open_gate();
    authors[0].give(&mut node.inbox);
    node.inbox.rewind(&log_id(0), stays).unwrap();
    let mut node = node.restart();
    node.open_gate();
    assert!(matches!(node.submit(&register(1, "meanwhile", 60).0), SubmitOutcome::Taken { .. }));
    let shown = node.inbox.shared.health.read().rollback.clone().unwrap();
    assert_eq!((shown.log, shown.phase), (log_id(0), "dropping"));
    assert!(node.inbox.rolls_back(false));
    assert!(finish(&mut node.inbox));
    let node = node.restart();
    assert_eq!((node.size(0), node.size(1), node.waiting()), (stays, 4, Some("starting")));
}

/// A webhook that was told of a branch was told nothing of what came instead, until the log was as long again.
#[test]
fn webhooks_go_back_to_what_is_left_of_a_log() {
    let (authors, stays, _) = story();
    let mut node = Node::new(1);
    node.open_gate();
    authors[0].give(&mut node.inbox);
    let store = Arc::clone(&node.inbox.shared.store);
    let (told, other) = (node.size(0), (log_id(1), 2));
    assert!(told > stays);
    let at = |size| WebhookCursor { sizes: vec![(log_id(0), size), other.clone()], ..WebhookCursor::default() };
    for name in ["one", "two"] {
        store.put_webhook(name, &at(told), None).unwrap();
    }
    let letter = DeadLetter { id: "a".into(), body: "b".into(), time: Millis(1), error: "c".into() };
    store.put_webhook("two", &at(told), Some(&letter)).unwrap();
    node.inbox.rewind(&log_id(0), stays).unwrap();
    let cursor = |name: &str| store.view().webhook(name).unwrap().unwrap();
    assert_eq!(cursor("one"), at(stays));
    assert_eq!((cursor("two").sizes, store.view().dead_letters("two", 9).unwrap().len()), (at(stays).sizes, 1));
    // What was on its way meanwhile brings it no further.
    store.put_webhook("one", &at(told), None).unwrap();
    assert_eq!(cursor("one"), at(stays));
    assert_eq!(store.view().size_after_rollback(&log_id(0)).unwrap(), Some(stays));
    assert_eq!(store.view().size_after_rollback(&log_id(1)).unwrap(), None);
}

/// A node forgot a revocation that an abandoned branch had, if it had been created long before the branch took it. But
/// logs take revocations at any age, and a client had the receipt.
#[test]
fn an_old_revocation_of_an_abandoned_branch_is_submitted_again() {
    let mut author = Author::new(0);
    let (agent, key) = register(0, "agent", 51);
    author.events(&[&agent]);
    let stays = author.tree.size();
    let (home, identity, reason) = (DOMAINS[0].parse().unwrap(), agent.id(), RevokeReason::KeyCompromised);
    let action = Action::Revoke { home, identity, version: 1, key: key.public(), reason };
    let created = Millis(clock::now().0 - 10 * 86_400_000);
    let event = Event { federation: manifest().federation(), action, created, nonce: Nonce([1; 8]) };
    let signature = key.sign(event.text().as_bytes());
    let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
    let revoked = signed.verify(&manifest().federation()).unwrap();
    author.events(&[&revoked]);
    let mut node = Node::new(1);
    node.open_gate();
    author.give(&mut node.inbox);
    node.inbox.rewind(&log_id(0), stays).unwrap();
    let mut node = node.restart();
    assert!(finish(&mut node.inbox));
    let mut node = node.restart();
    node.open_gate();
    node.inbox.resubmit().unwrap();
    node.inbox.append().unwrap();
    let position = node.inbox.shared.store.view().position(&revoked.id(), &log_id(1)).unwrap();
    assert!(position.as_ref().is_some_and(|position| position.void.is_none()), "{position:?}");
}

#[test]
fn an_owner_whose_log_is_rolled_back_waits() {
    let mut node = owner();
    node.inbox.rewind(&log_id(0), 4).unwrap();
    let mut node = node.restart();
    node.open_gate();
    assert!(
        matches!(node.submit(&register(0, "early", 60).0), SubmitOutcome::Refused(refusal) if refusal.code == "not_ready")
    );
    assert!(finish(&mut node.inbox));
    assert_eq!(node.restart().size(0), 4);
}
