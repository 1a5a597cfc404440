//! Tests of the store on real files.
#![allow(clippy::unwrap_used)]
use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use fama_ledger::adoption::Adopted;
use fama_ledger::batch::{Batch, LogMaps};
use fama_ledger::checkpoint::Cosignature;
use fama_ledger::codec;
use fama_ledger::entry::{SignedEvent, VerifiedEvent};
use fama_ledger::event::{Action, Event, Method, Nonce, RevokeReason};
use fama_ledger::id::{Domain, EventId, IdentityId};
use fama_ledger::key::Curve;
use fama_ledger::log::{Head, Tiles, Tree, leaf_hash, root_at};
use fama_ledger::manifest::{Genesis, Operator, Policy};
use fama_ledger::map::{NodeError, NodeSource, StateMap, Whole, value_hash};
use fama_ledger::note::{Note, note_hash};
use fama_ledger::rows::{MapId, MapName, MapNodes, NodeChanges, Rows, StoredRows};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{self, SignedNote};
use tempfile::TempDir;

use super::engine::{EngineView, Walk};
use super::keys::Family;
use super::simulated::Disk;
use super::*;
use crate::wire::{CosignedHead, NoteAnswer, SignedHead};

mod damage;
mod manifests;
mod rollback;
mod simulated;

/// 2026-11-22T05:00:00.000Z.
const NOW: u64 = 1_795_323_600_000;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[seed; 32]).unwrap()
}

fn federation(name: &str) -> Arc<Manifest> {
    let operator = |name: &str, seed: u8| Operator {
        name: name.parse().unwrap(),
        node_key: key(seed).ed25519().unwrap().verifying_key(),
        governance_key: key(seed + 1).ed25519().unwrap().verifying_key(),
        generation: 1,
        begins: fama_ledger::time::Millis::FIRST,
        addresses: Vec::new(),
        endpoints: fama_ledger::manifest::Endpoints::default(),
    };
    // Deliberately not in the order of the names.
    let operators = vec![operator("beta.example", 10), operator("alpha.example", 20)];
    let text = Genesis { name: name.to_owned(), policy: Policy::recommended(2), operators }.text().unwrap();
    let sign = |name, seed| signed_note::sign(&text, name, key(seed).ed25519().unwrap());
    let signatures = vec![sign("beta.example", 11), sign("alpha.example", 21)];
    Arc::new(Manifest::parse(&SignedNote { text: text.clone(), signatures }.to_string()).unwrap())
}

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

/// The writer of one log, standing in for the inbox.
struct Log {
    id: LogId,
    manifest: Manifest,
    tree: Tree,
    maps: LogMaps,
    now: u64,
}

/// A batch ready to be committed.
struct Made {
    state: LogState,
    first: u64,
    entries: Vec<VerifiedEntry>,
    outcomes: Vec<Option<Outcome>>,
    tiles: Vec<TileWrite>,
    changes: Changes,
    nodes: NodeChanges,
}

impl Made {
    fn commit<'a>(&'a self, notes: &'a [(NoteHash, String)]) -> Commit<'a> {
        Commit {
            state: self.state.clone(),
            first: self.first,
            entries: &self.entries,
            outcomes: &self.outcomes,
            tiles: self.tiles.clone(),
            changes: &self.changes,
            nodes: &self.nodes,
            notes,
        }
    }
}

impl Log {
    /// A new log whose first batch, the adoption, is committed.
    fn begin(store: &Store, manifest: &Manifest, operator: &str) -> Self {
        let id = manifest.operator(&domain(operator)).unwrap().log();
        let maps = LogMaps::load(manifest, &id, &store.view()).unwrap();
        let mut log = Self { id, manifest: manifest.clone(), tree: Tree::default(), maps, now: NOW };
        let adopt = VerifiedEntry::adopt(Millis(NOW), 1, manifest.hash());
        let made = log.make(store, vec![adopt]);
        store.commit(&[made.commit(&[])]).unwrap();
        log
    }

    fn events(&mut self, store: &Store, events: &[VerifiedEvent]) -> Made {
        self.now += 1;
        let entries = events.iter().map(|event| VerifiedEntry::of(Millis(self.now), event.clone())).collect();
        self.make(store, entries)
    }

    fn make(&mut self, store: &Store, mut entries: Vec<VerifiedEntry>) -> Made {
        let (view, first) = (store.view(), self.tree.size());
        let mut batch = Batch::begin(&self.manifest, &self.id, &view, first).unwrap();
        let outcomes = entries.iter().map(|entry| batch.replay(entry).unwrap()).collect();
        let folded = batch.finish(&mut self.maps).unwrap();
        entries.push(VerifiedEntry::state(folded.time, folded.state_root));
        let tiles = self.tree.append(entries.iter().map(|entry| leaf_hash(entry.bytes())));
        let Head { size, root } = self.tree.head();
        let state = LogState { log: self.id.clone(), size, root, state_root: folded.state_root };
        Made { state, first, entries, outcomes, tiles, changes: folded.changes, nodes: folded.nodes }
    }

    fn commit(&mut self, store: &Store, events: &[VerifiedEvent], notes: &[(NoteHash, String)]) -> Made {
        let made = self.events(store, events);
        store.commit(&[made.commit(notes)]).unwrap();
        made
    }

    fn signed(&self, by: &SecretKey, nonce: u64, action: Action) -> VerifiedEvent {
        let (federation, nonce) = (self.manifest.federation(), Nonce(nonce.to_be_bytes()));
        let event = Event { federation, action, created: Millis(NOW), nonce };
        let signature = by.sign(event.text().as_bytes());
        let signed = SignedEvent { event, signer: by.public(), signature, countersignature: None };
        signed.verify(&federation).unwrap()
    }

    fn register(&self, name: &str, by: &SecretKey, note: Option<NoteHash>) -> VerifiedEvent {
        let (home, name) = (self.id.operator.clone(), name.parse().unwrap());
        self.signed(by, 0, Action::Register { home, name, key: by.public(), next: None, note })
    }

    /// A statement of the log's operator about a provider.
    fn admit(&self, provider: IdentityId) -> VerifiedEvent {
        let (operator, service, domain) =
            (self.id.operator.clone(), "karma".parse().unwrap(), domain("service.example"));
        self.signed(&key(10), 0, Action::Admit { operator, provider, service, domain, method: Method::Manual, from: 0 })
    }

    fn attest(&self, by: &SecretKey, issuer: IdentityId, subject: IdentityId, nonce: u64) -> VerifiedEvent {
        let home = self.id.operator.clone();
        self.signed(by, nonce, Action::Attest { home, issuer, subject, delta: 2, context: None, note: None })
    }

    fn revoke(&self, by: &SecretKey, identity: IdentityId, home: &str) -> VerifiedEvent {
        let (home, key, reason) = (domain(home), by.public(), RevokeReason::Retired);
        self.signed(by, 0, Action::Revoke { home, identity, version: 1, key, reason })
    }
}

fn note(salt: u8) -> (NoteHash, String) {
    let text = Note { salt: [salt; 32], bio: Some("writes tests".to_owned()), ..Note::default() }.text();
    (note_hash(text.as_bytes()), text)
}

fn temp() -> (TempDir, Arc<Manifest>, Store) {
    let (dir, manifest) = (tempfile::tempdir().unwrap(), federation("test"));
    let store = Store::open(dir.path(), &manifest).unwrap();
    (dir, manifest, store)
}

fn all_rows(view: &View<'_>, map: &MapName, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    view.scan(map.id(), prefix, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

#[test]
fn a_folder_that_others_open_and_leave_is_busy_not_damaged() {
    let (dir, manifest) = (TempDir::new().unwrap(), federation("Busy"));
    drop(Store::open(dir.path(), &manifest).unwrap());
    let opened = || {
        let opens = (0..150).filter(|_| match Store::open(dir.path(), &manifest) {
            Ok(_) => true,
            Err(StoreError::Locked { .. }) => false,
            Err(error) => panic!("{error}"),
        });
        opens.count()
    };
    let all: usize = std::thread::scope(|scope| {
        let others: Vec<_> = (0..3).map(|_| scope.spawn(opened)).collect();
        others.into_iter().map(|other| other.join().unwrap()).sum()
    });
    assert!(all > 0);
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let (dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let agent = key(1);
    let mut made = Vec::new();
    for batch in 0..4u8 {
        let keys: Vec<_> = (0..100u8)
            .map(|i| SecretKey::from_seed(Curve::Ed25519, &[batch + 100, i].repeat(16).try_into().unwrap()).unwrap())
            .collect();
        let events: Vec<_> =
            keys.iter().zip(0..).map(|(key, i)| log.register(&format!("agent-{batch}-{i}"), key, None)).collect();
        made.push(log.commit(&store, &events, &[]));
    }
    let register = log.register("agent", &agent, None);
    made.push(log.commit(&store, std::slice::from_ref(&register), &[]));
    store.put_certified(&log.id, 102).unwrap();
    drop(store);

    let store = Store::open(dir.path(), &manifest).unwrap();
    let view = store.view();
    let record = view.log(&log.id).unwrap().unwrap();
    assert_eq!(
        record,
        LogRecord { state: made[4].state.clone(), certified: 102, adopted: vec![Adopted { version: 1, size: 2 }] }
    );
    let entries = view.entries(&log.id, 2, usize::MAX, usize::MAX).unwrap();
    let written: Vec<_> = made.iter().flat_map(|made| &made.entries).map(|entry| entry.bytes().to_vec()).collect();
    assert_eq!(entries, written);
    assert_eq!(view.entries(&log.id, 2, 3, usize::MAX).unwrap(), written[..3]);
    assert_eq!(view.entries(&log.id, 3, usize::MAX, 1).unwrap(), written[1..2]);
    assert_eq!(view.entries(&log.id, record.state.size, 9, 9).unwrap(), Vec::<Vec<u8>>::new());
    for made in &made {
        assert_eq!(root_at(made.state.size, &view.tiles(&log.id)).unwrap(), made.state.root);
        for ((map, key), value) in &made.changes {
            assert!(view.get(*map, key).unwrap().is_some() && value.is_some());
        }
    }
    let maps = LogMaps::load(&manifest, &log.id, &view).unwrap();
    assert_eq!(maps.state_root(), record.state.state_root);
    let position = Position { log: log.id.clone(), index: record.state.size - 2, void: None };
    assert_eq!(view.positions(&register.id()).unwrap(), vec![position.clone()]);
    assert_eq!(view.position(&register.id(), &log.id).unwrap(), Some(position));
    assert_eq!(view.positions(&EventId([7; 32])).unwrap(), vec![]);
    assert_eq!(view.log(&manifest.operators()[0].log()).unwrap(), None);
}

/// Reads everything once, as the scrub does.
fn scrub(store: &Store, log: &LogId) -> Result<usize, StoreError> {
    let (mut position, mut tree, mut bytes) = (ScrubCursor::default(), TreeCursor::default(), 0);
    while let Some(read) = store.read_on(&mut position, 1_000)? {
        bytes += read;
    }
    while let Some(read) = store.check_tree_on(log, &mut tree)? {
        bytes += read;
    }
    Ok(bytes)
}

#[test]
fn a_scrub_finds_what_contradicts_what() {
    let (_dir, manifest, store) = temp();
    let (hash, text) = note(1);
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    for batch in 0..3u8 {
        let keys = (0..100u8).map(|i| [batch + 100, i].repeat(16).try_into().unwrap());
        let keys: Vec<_> = keys.map(|seed| SecretKey::from_seed(Curve::Ed25519, &seed).unwrap()).collect();
        let name = |i| format!("agent-{batch}-{i}");
        let events: Vec<_> = keys.iter().zip(0..).map(|(key, i)| log.register(&name(i), key, Some(hash))).collect();
        log.commit(&store, &events, &[(hash, text.clone())]);
    }
    let bytes = scrub(&store, &log.id).unwrap();
    assert!(bytes > 300 * 200, "{bytes}");
    let view = store.view();
    let entry = view.entries(&log.id, 7, 1, 1).unwrap().remove(0);
    let (leaves, last) = (view.tiles(&log.id).tile(0, 0).unwrap(), view.tiles(&log.id).tile(0, 1).unwrap());
    assert!(last.len() > 1 && last.len() < 256 && view.tiles(&log.id).tile(1, 0).unwrap().len() == 1);
    let record = view.log(&log.id).unwrap().unwrap();
    drop(view);
    let swapped = [leaves.as_flattened()[32..64].to_vec(), leaves.as_flattened()[..32].to_vec()].concat();
    let shorter = LogState { root: fama_ledger::id::TreeRoot([1; 32]), ..record.state };
    for (family, key, value, message) in [
        (Family::Entries, keys::entry(&log.id, 8), Some(entry), "entry 8 is not the one in the tree"),
        (Family::Entries, keys::entry(&log.id, 300), None, "entry 300 is missing"),
        (Family::Tiles, keys::tile(&log.id, 0, 0), None, "tile 0 of level 0 has 0 hashes"),
        (Family::Tiles, keys::tile(&log.id, 0, 0), Some(swapped), "tile 0 of level 0 has 2 hashes"),
        (Family::Tiles, keys::tile(&log.id, 0, 1), Some(last.as_flattened()[..32].to_vec()), "tile 1 of level 0"),
        (Family::Tiles, keys::tile(&log.id, 1, 0), Some(vec![7; 32]), "does not match the level above"),
        (Family::Logs, keys::log_state(&log.id), Some(codec::encode(&shorter)), "recorded 01010101"),
        (
            Family::Notes,
            hash.0.to_vec(),
            Some(codec::encode(&NoteAnswer::Text("else".into()))),
            "the text stored for note",
        ),
    ] {
        let good = store.view().moment().get(family, &key).unwrap().unwrap().to_vec();
        let write = |value: Option<Vec<u8>>| {
            let mut batch = store.batch();
            match value {
                Some(value) => batch.put(family, &key, value),
                None => batch.delete(family, &key),
            }
            batch.write(false).unwrap();
        };
        write(value);
        let error = scrub(&store, &log.id).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("fama check --repair"), "{error}\n{message}");
        write(Some(good));
        assert_eq!(scrub(&store, &log.id).unwrap(), bytes, "{message}");
    }
    assert!(store.failure().is_some_and(|error| error.to_string().contains("entry 8")), "the first failure is kept");
    let refused = store.put_certified(&log.id, 1).unwrap_err();
    assert_eq!(Some(refused), store.failure(), "a failed store refuses to write");
}

/// Loads nodes one by one, and counts the scans of rows.
struct OneByOne<'v>(MapId, &'v View<'v>, Cell<usize>);

impl NodeSource for OneByOne<'_> {
    type Error = StoreError;

    fn scan_from(
        &self,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.2.update(|count| count + usize::from(level == 0));
        self.1.scan_from(self.0, level, from, each)
    }
}

#[test]
fn nodes_that_all_cores_load_are_those_that_one_would() {
    const ROWS: u32 = 30_000;
    let (_dir, _, store) = temp();
    let map = MapName::home(&domain("alpha.example")).id();
    let row = |number: u32, value: Option<u8>| (value_hash(&number.to_le_bytes()), value.map(|value| vec![value; 40]));
    let changes = |rows: Vec<([u8; 32], Option<Vec<u8>>)>| {
        let mut changes: Vec<_> =
            rows.into_iter().map(|(key, value)| (key, value.as_deref().map(value_hash))).collect();
        changes.sort_unstable();
        changes
    };
    let mut batch = store.batch();
    let rows: Vec<_> = (0..ROWS).map(|number| row(number, Some(1))).collect();
    for (key, value) in &rows {
        batch.put(Family::Rows, keys::row(map, key), value.as_deref().unwrap());
    }
    let mut whole = StateMap::default();
    for ((level, key), record) in whole.update(&changes(rows), &Whole).unwrap() {
        batch.put(Family::Rows, keys::row(map.level(level), &key), record.after.unwrap());
    }
    batch.write(false).unwrap();

    // Changed, new and removed rows, all over the map.
    let (changed, new) = ((0..ROWS).step_by(7), ROWS..ROWS + 500);
    let removed = (1..ROWS).step_by(7).map(|number| row(number, None));
    let update = changes(changed.chain(new).map(|number| row(number, Some(2))).chain(removed).collect());
    let view = store.view();
    let (all, one) = (MapNodes(map, &view), OneByOne(map, &view, Cell::new(0)));
    let (mut by_all, mut by_one) = (StateMap::open(&all).unwrap().unwrap(), StateMap::open(&one).unwrap().unwrap());
    let records = by_all.update(&update, &all).unwrap();
    assert_eq!(records, by_one.update(&update, &one).unwrap());
    assert!(one.2.get() > 2 * read::LOADED_BY_ALL_MIN, "{:?}: enough for several cores", one.2);
    whole.update(&update, &Whole).unwrap();
    assert_eq!((by_all.root(), by_all.loaded()), (whole.root(), by_one.loaded()));

    // A row that is not the one that was hashed, below one of many nodes.
    let (mut cold, mut batch) = (StateMap::open(&all).unwrap().unwrap(), store.batch());
    batch.put(Family::Rows, keys::row(map, &row(ROWS / 2, None).0), [3; 40]);
    batch.write(false).unwrap();
    let view = store.view();
    assert_eq!(cold.update(&update, &MapNodes(map, &view)), Err(NodeError::Torn));
    assert_eq!(cold.root(), StateMap::open(&all).unwrap().unwrap().root(), "nothing is changed");
}

#[test]
fn a_map_larger_than_what_stays_in_memory_is_indexed_from_its_rows() {
    // Keys of several rows each begin alike, as those of an identity do.
    const ROWS: u32 = 100_000;
    let (_dir, _, store) = temp();
    let map = MapName::home(&domain("alpha.example")).id();
    let (mut batch, mut rows) = (store.batch(), Vec::new());
    for number in 0..ROWS {
        let key = [&[1], value_hash(&(number / 7).to_le_bytes()).as_slice(), &number.to_le_bytes()].concat();
        batch.put(Family::Rows, keys::row(map, &key), number.to_le_bytes());
        rows.push((key, value_hash(&number.to_le_bytes())));
    }
    batch.write(false).unwrap();
    rows.sort_unstable();
    let whole = StateMap::from_sorted(rows.iter().map(|(key, value)| (key, *value))).unwrap();
    assert_eq!(store.index_map(map).unwrap(), whole.root());

    // From these records, every path leads to its row.
    let view = store.view();
    let nodes = MapNodes(map, &view);
    let mut stored = StateMap::open(&nodes).unwrap().unwrap();
    for (key, value) in rows.iter().step_by(97) {
        assert_eq!(stored.get(key, &nodes).unwrap(), Some(*value));
    }
    // Half of them changed, and changed back.
    for change in [[9; 32].as_slice(), &[]] {
        let value = |value: &[u8; 32]| Some(change.try_into().unwrap_or(*value));
        let changes: Vec<_> = rows.iter().step_by(2).map(|(key, of)| (key, value(of))).collect();
        stored.update(&changes, &nodes).unwrap();
    }
    assert_eq!(stored.root(), whole.root());
}

#[test]
fn scans_stay_in_their_map_and_prefix() {
    let (_dir, manifest, store) = temp();
    let mut alpha = Log::begin(&store, &manifest, "alpha.example");
    let mut beta = Log::begin(&store, &manifest, "beta.example");
    let made = alpha.commit(&store, &[alpha.register("one", &key(1), None), alpha.register("two", &key(2), None)], &[]);
    beta.commit(&store, &[beta.register("one", &key(1), None)], &[]);
    let view = store.view();
    let home = MapName::home(&domain("alpha.example"));
    let of_home = made.changes.iter().filter(|((map, _), _)| *map == home.id());
    let wanted: Vec<_> = of_home.map(|((_, key), value)| (key.clone(), value.clone().unwrap())).collect();
    assert_eq!(all_rows(&view, &home, &[]), wanted);
    for tag in 0..=255 {
        let wanted: Vec<_> = wanted.iter().filter(|(key, _)| key.starts_with(&[tag])).cloned().collect();
        assert_eq!(all_rows(&view, &home, &[tag]), wanted, "tag {tag}");
    }
    let mut seen = 0;
    let stop = &mut |_: &[u8], _: &[u8]| {
        seen += 1;
        ControlFlow::Break(())
    };
    view.scan(home.id(), &[], stop).unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn a_view_stays_as_it_was() {
    let (_dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let before = store.view();
    let register = log.register("agent", &key(1), None);
    log.commit(&store, std::slice::from_ref(&register), &[]);
    assert_eq!(before.log(&log.id).unwrap().unwrap().state.size, 2);
    assert_eq!(before.entries(&log.id, 0, 9, usize::MAX).unwrap().len(), 2);
    assert_eq!(before.positions(&register.id()).unwrap(), vec![]);
    assert_eq!(all_rows(&before, &MapName::home(&log.id.operator), &[]), vec![]);
    assert_eq!(store.view().log(&log.id).unwrap().unwrap().state.size, 4);
}

#[test]
fn histories_are_newest_first_in_pages() {
    let (_dir, manifest, store) = temp();
    let mut alpha = Log::begin(&store, &manifest, "alpha.example");
    let mut beta = Log::begin(&store, &manifest, "beta.example");
    let (agent, service) = (key(1), key(2));
    let (a, s) = (alpha.register("agent", &agent, None), alpha.register("service", &service, None));
    alpha.commit(&store, &[a.clone(), s.clone()], &[]);
    let attests: Vec<_> = (0..3).map(|i| alpha.attest(&service, s.id(), a.id(), i)).collect();
    alpha.commit(&store, &attests, &[]);
    // A claim in the other log, with the same time as the revocation in the home.
    beta.now = alpha.now;
    beta.commit(&store, &[beta.revoke(&agent, a.id(), "alpha.example")], &[]);
    alpha.commit(&store, &[alpha.revoke(&agent, a.id(), "alpha.example")], &[]);

    let view = store.view();
    let item = |time, log: &Log, index| HistoryItem { time: Millis(time), log: log.id.clone(), index };
    // The claim is in no history: anybody can make one.
    let keys = vec![item(NOW + 3, &alpha, 9), item(NOW + 1, &alpha, 2)];
    assert_eq!(view.history(&a.id(), History::Keys, None, 9).unwrap(), keys);
    assert!(keys.is_sorted_by(|a, b| a > b));
    let received: Vec<_> = (5..8).rev().map(|index| item(NOW + 2, &alpha, index)).collect();
    assert_eq!(view.history(&a.id(), History::Received, None, 9).unwrap(), received);
    assert_eq!(view.history(&s.id(), History::Given, None, 9).unwrap(), received);
    assert_eq!(view.history(&a.id(), History::Given, None, 9).unwrap(), vec![]);
    let mut paged = Vec::new();
    while let [item] = view.history(&a.id(), History::Keys, paged.last(), 1).unwrap().as_slice() {
        paged.push(item.clone());
    }
    assert_eq!(paged, keys);

    let revoked = beta.revoke(&agent, a.id(), "alpha.example").id();
    let logs: Vec<_> =
        view.positions(&revoked).unwrap().into_iter().map(|position| (position.log, position.index)).collect();
    assert_eq!(logs, vec![(alpha.id.clone(), 9), (beta.id.clone(), 2)]);
    assert_eq!(view.touched(&a.id(), Touch::Subject).unwrap(), logs);
    assert_eq!(view.touched(&s.id(), Touch::Subject).unwrap(), vec![(alpha.id.clone(), 3)]);
    assert_eq!(view.touched(&s.id(), Touch::Sponsorship).unwrap(), vec![]);
    beta.commit(&store, &[beta.admit(s.id())], &[]);
    assert_eq!(store.view().touched(&s.id(), Touch::Sponsorship).unwrap(), vec![(beta.id.clone(), 4)]);
}

#[test]
fn a_subject_is_unchanged_until_something_about_it_is_written() {
    let (_dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let mut beta = Log::begin(&store, &manifest, "beta.example");
    let (agent, service) = (key(1), key(2));
    let (a, s) = (log.register("agent", &agent, None), log.register("service", &service, None));
    log.commit(&store, &[a.clone(), s.clone()], &[]);
    let before = store.view();
    let number = before.write_number().unwrap();
    let unchanged = |view: &View<'_>| [&a, &s].map(|one| view.is_unchanged_since(&one.id(), number));
    assert_eq!(unchanged(&before), [true, true]);
    log.commit(&store, &[log.register("other", &key(3), None)], &[]);
    assert_eq!(unchanged(&store.view()), [true, true], "nothing about these two");
    log.commit(&store, &[log.attest(&service, s.id(), a.id(), 0)], &[]);
    let view = store.view();
    assert_eq!(unchanged(&view), [false, true]);
    let now = view.write_number().unwrap();
    assert!(view.is_unchanged_since(&a.id(), now));
    assert!(!before.is_unchanged_since(&a.id(), now), "what is read now is not right for an earlier view");
    beta.commit(&store, &[beta.admit(s.id())], &[]);
    assert_eq!(unchanged(&store.view()), [false, false], "a statement counts for all");
}

#[test]
fn subjects_of_a_provider() {
    let (_dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let service = key(2);
    let s = log.register("service", &service, None);
    log.commit(&store, std::slice::from_ref(&s), &[]);
    let mut subjects: Vec<_> = (0..5).map(|i| EventId([i * 51; 32])).collect();
    let twice = subjects.iter().chain(&subjects).zip(0..).map(|(id, nonce)| log.attest(&service, s.id(), *id, nonce));
    let twice: Vec<_> = twice.collect();
    log.commit(&store, &twice, &[]);
    subjects.sort();
    let view = store.view();
    assert_eq!(view.subjects_of(&s.id(), None, 9).unwrap(), subjects);
    assert_eq!(view.subjects_of(&s.id(), Some(&subjects[1]), 2).unwrap(), subjects[2..4]);
    assert_eq!(view.subjects_of(&s.id(), subjects.last(), 2).unwrap(), vec![]);
}

#[test]
fn an_applied_event_wins_over_a_void_one() {
    let (_dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let (agent, service) = (key(1), key(2));
    let (a, s) = (log.register("agent", &agent, None), log.register("service", &service, None));
    let attest = log.attest(&service, s.id(), a.id(), 0);
    // The event before its issuer is registered, again in the same batch, after the registration, and once more.
    let (early, late) = ([attest.clone(), attest.clone()], [a, s.clone(), attest.clone(), attest.clone()]);
    log.commit(&store, &early, &[]);
    let position =
        |index, void| vec![Position { log: LogId { operator: domain("alpha.example"), generation: 1 }, index, void }];
    assert_eq!(store.view().positions(&attest.id()).unwrap(), position(2, Some(Void::UnknownIdentity)));
    assert_eq!(store.view().history(&s.id(), History::Given, None, 9).unwrap(), vec![]);
    log.commit(&store, &late, &[]);
    assert_eq!(store.view().positions(&attest.id()).unwrap(), position(7, None));
    log.commit(&store, std::slice::from_ref(&attest), &[]);
    assert_eq!(store.view().positions(&attest.id()).unwrap(), position(7, None));
    assert_eq!(store.view().history(&s.id(), History::Given, None, 9).unwrap().len(), 1);
}

#[test]
fn notes_are_wanted_until_they_come() {
    let (_dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let (here, later, forged, stranger) = (note(1), note(2), note(3), note(4));
    let register = |name, seed, note: &(NoteHash, String)| log.register(name, &key(seed), Some(note.0));
    let events = [register("one", 1, &here), register("two", 2, &later), register("three", 3, &forged)];
    log.commit(&store, &events, &[here.clone(), (forged.0, "not it".to_owned()), stranger.clone()]);

    let mut wanted = vec![later.0, forged.0];
    wanted.sort();
    let view = store.view();
    assert_eq!(view.wanted_notes(9).unwrap(), wanted);
    assert_eq!(view.wanted_notes(1).unwrap(), wanted[..1]);
    assert_eq!(view.wanted_notes_from(&wanted[1], 9).unwrap(), [wanted[1], wanted[0]]);
    assert_eq!(view.note(&here.0).unwrap(), Some(NoteAnswer::Text(here.1.clone())));
    assert_eq!(view.note(&stranger.0).unwrap(), None);

    store.put_notes(&[later.clone(), (forged.0, "not it".to_owned()), stranger.clone()]).unwrap();
    let view = store.view();
    assert_eq!(view.wanted_notes(9).unwrap(), [forged.0]);
    assert_eq!(view.note(&later.0).unwrap(), Some(NoteAnswer::Text(later.1.clone())));
    assert_eq!(view.note(&stranger.0).unwrap(), None);

    store.redact_note(&later.0).unwrap();
    store.put_notes(std::slice::from_ref(&later)).unwrap();
    log.commit(&store, &[log.register("four", &key(4), Some(later.0))], std::slice::from_ref(&later));
    assert_eq!(store.view().note(&later.0).unwrap(), Some(NoteAnswer::Redacted));
    assert_eq!(store.view().wanted_notes(9).unwrap(), [forged.0]);
}

/// Tables and write-ahead logs of the folder that have these bytes.
fn files_with(dir: &TempDir, bytes: &[u8]) -> usize {
    let files = fs::read_dir(dir.path()).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap_or_default());
    files.filter(|content| content.windows(bytes.len()).any(|window| window == bytes)).count()
}

/// Symptom: a deleted text could still be read in the write-ahead log. Cause: that file stays until every family is
/// flushed, and only the one with the notes was.
#[test]
fn a_redacted_text_leaves_the_disk() {
    let (dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let note = |bio: &str| {
        let text = Note { salt: [1; 32], bio: Some(bio.to_owned()), ..Note::default() }.text();
        (note_hash(text.as_bytes()), text)
    };
    let words = ["grows the finest pumpkins", "walks dogs at midnight"];
    let (first, second) = (note(words[0]), note(words[1]));
    let events = [log.register("one", &key(1), Some(first.0)), log.register("two", &key(2), Some(second.0))];
    log.commit(&store, &events, &[first.clone(), second.clone()]);
    // In a table, too.
    store.engine.flush(Family::Notes).unwrap();
    assert!(files_with(&dir, words[0].as_bytes()) > 1);
    store.redact_note(&first.0).unwrap();
    assert_eq!(files_with(&dir, words[0].as_bytes()), 0);
    assert_eq!(store.view().redacted_notes().unwrap(), [first.0].into());
    assert_eq!(store.view().note(&second.0).unwrap(), Some(NoteAnswer::Text(second.1.clone())));

    // Cut off after the write: the next start removes the bytes.
    let mut batch = store.batch();
    Store::put_note(&mut batch, &second.0, &NoteAnswer::Redacted);
    Store::put(&mut batch, Family::Meta, &keys::redacted(&second.0), &false);
    store.write(batch, true).unwrap();
    assert!(files_with(&dir, words[1].as_bytes()) > 0);
    store.erase_redacted().unwrap();
    assert_eq!(files_with(&dir, words[1].as_bytes()), 0);
    assert_eq!(store.view().redacted_notes().unwrap(), [first.0, second.0].into());
}

#[test]
fn heads_are_kept_per_operator() {
    let (_dir, manifest, store) = temp();
    let log = Log::begin(&store, &manifest, "alpha.example");
    let signed = SignedHead { head: log.tree.head(), signature: [1; 64] };
    let by = |operator: &str| CosignedHead {
        signed: signed.clone(),
        cosignature: Cosignature { operator: domain(operator), seconds: 1, signature: [2; 64] },
    };
    let generation = |operator: &str| LogId { operator: domain(operator), generation: 1 };
    assert_eq!(store.view().newest(&log.id).unwrap(), None);
    store.put_newest(&log.id, &signed).unwrap();
    store.put_cosigned(&log.id, &generation("beta.example"), &by("beta.example"), 0, false).unwrap();
    store.put_cosigned(&log.id, &generation("alpha.example"), &by("alpha.example"), 2, true).unwrap();
    let view = store.view();
    assert_eq!(view.newest(&log.id).unwrap(), Some(signed.clone()));
    assert_eq!(view.cosigned(&log.id).unwrap(), [by("alpha.example"), by("beta.example")]);
    assert_eq!(view.log(&log.id).unwrap().unwrap().certified, 2);
}

#[test]
fn a_batch_that_does_not_follow_is_not_written() {
    let (_dir, manifest, store) = temp();
    let mut log = Log::begin(&store, &manifest, "alpha.example");
    let made = log.commit(&store, &[log.register("agent", &key(1), None)], &[]);
    assert_eq!(store.commit(&[made.commit(&[])]).unwrap_err().code(), "store_misfit");
    let mut foreign = log.events(&store, &[log.register("other", &key(2), None)]);
    let mut short = foreign.commit(&[]);
    short.outcomes = &[];
    assert_eq!(store.commit(&[short]).unwrap_err().code(), "store_misfit");
    foreign.state.log.generation = 2;
    assert_eq!(store.commit(&[foreign.commit(&[])]).unwrap_err().code(), "store_misfit");
    assert_eq!(store.view().log(&log.id).unwrap().unwrap().state.size, 4);
}

fn refused(dir: &Path, manifest: &Arc<Manifest>) -> StoreError {
    Store::open(dir, manifest).err().expect("it was opened")
}

fn put(store: &Store, family: Family, key: &[u8], value: &[u8]) {
    let mut batch = store.batch();
    batch.put(family, key, value);
    store.write(batch, true).unwrap();
}
