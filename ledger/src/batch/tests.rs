//! When a log may begin and take maps over, and which kinds of event it may have.
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use ed25519_dalek::SigningKey;

use super::*;
use crate::entry::SignedEvent;
use crate::event::{Event, Nonce};
use crate::key::Curve;
use crate::log::{Head, MemoryTiles, Tree, leaf_hash};
use crate::manifest::{Cut, Draft, Endpoints, Genesis, Operator};
use crate::rows::MemoryRows;
use crate::secret::SecretKey;
use crate::signed_note::{SignedNote, sign};

const START: Millis = Millis(1_795_323_600_000);
const NAMES: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn operator(i: u8, generation: u32, begins: Millis) -> Operator {
    Operator {
        name: NAMES[usize::from(i)].parse().unwrap(),
        node_key: key(10 * (i + 1) + u8::try_from(generation).unwrap()).verifying_key(),
        governance_key: key(100 + i).verifying_key(),
        generation,
        begins,
        addresses: Vec::new(),
        endpoints: Endpoints::default(),
    }
}

fn log(i: u8, generation: u32) -> LogId {
    operator(i, generation, START).log()
}

fn signed(text: String) -> String {
    let signatures = (0..4).map(|i| sign(&text, NAMES[usize::from(i)], &key(100 + i))).collect();
    SignedNote { text, signatures }.to_string()
}

fn first() -> Arc<Manifest> {
    let operators = (0..4).map(|i| operator(i, 1, START)).collect();
    let text = Genesis { name: "test".into(), policy: Policy::recommended(4), operators }.text().unwrap();
    Arc::new(Manifest::parse(&signed(text)).unwrap())
}

fn after(previous: &Arc<Manifest>, change: impl FnOnce(&mut Draft)) -> Arc<Manifest> {
    let mut draft = previous.draft();
    change(&mut draft);
    Arc::new(previous.successor(&signed(draft.text().unwrap())).unwrap())
}

/// A log in memory that takes whole batches.
struct Copy<'a> {
    rows: &'a mut MemoryRows,
    maps: LogMaps,
    log: LogId,
    tree: Tree,
    tiles: MemoryTiles,
    state_root: StateRoot,
}

impl<'a> Copy<'a> {
    fn new(manifest: &Manifest, log: LogId, rows: &'a mut MemoryRows) -> Self {
        let maps = LogMaps::load(manifest, &log, rows).unwrap();
        let (tree, tiles, state_root) = (Tree::default(), MemoryTiles::default(), StateRoot([0; 32]));
        Self { rows, maps, log, tree, tiles, state_root }
    }

    /// Replays an entry with the state entry that follows it.
    fn take(
        &mut self,
        manifest: &Manifest,
        entry: &VerifiedEntry,
    ) -> Result<(), ReplayError<core::convert::Infallible>> {
        let mut batch = Batch::begin(manifest, &self.log, &*self.rows, self.tree.size()).unwrap();
        batch.replay(entry)?;
        let folded = batch.finish(&mut self.maps)?;
        let state = VerifiedEntry::state(folded.time, folded.state_root);
        self.tiles.write(self.tree.append([entry, &state].map(|entry| leaf_hash(entry.bytes()))));
        self.state_root = folded.state_root;
        self.rows.apply(&folded.changes);
        Ok(())
    }

    fn adopt(
        &mut self,
        manifest: &Manifest,
        version: u32,
        time: Millis,
    ) -> Result<(), ReplayError<core::convert::Infallible>> {
        self.take(manifest, &VerifiedEntry::adopt(time, version, manifest.at(version).unwrap().hash()))
    }

    fn cut(&self, adopted: u32, successor: LogId) -> Cut {
        Cut { log: self.log.clone(), head: self.tree.head(), state_root: self.state_root, adopted, successor }
    }
}

fn registration(manifest: &Manifest, created: Millis) -> VerifiedEvent {
    let key = SecretKey::from_seed(Curve::Ed25519, &[1; 32]).unwrap();
    let (home, name) = (NAMES[0].parse().unwrap(), "ml-overflow".parse().unwrap());
    let action = crate::event::Action::Register { home, name, key: key.public(), next: None, note: None };
    let event = Event { federation: manifest.federation(), action, created, nonce: Nonce([1; 8]) };
    let signature = key.sign(event.text().as_bytes());
    let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
    signed.verify(&manifest.federation()).unwrap()
}

fn early<T: core::fmt::Debug>(refused: Result<T, ReplayError<core::convert::Infallible>>, time: Millis, from: Millis) {
    match refused {
        Err(ReplayError::Invalid(error)) => assert_eq!(error, BatchError::Early { index: 0, time, from }),
        other => panic!("{other:?}"),
    }
}

/// An owner that begins years ago and walks forward day by day would have a day's cap for each of them.
#[test]
fn a_log_begins_when_its_manifest_says() {
    let (manifest, mut rows) = (first(), MemoryRows::default());
    assert_eq!(manifest.log(&log(0, 1)).unwrap().begins, START);
    let before = Millis(START.0 - 1);
    let mut copy = Copy::new(&manifest, log(0, 1), &mut rows);
    early(copy.adopt(&manifest, 1, before), before, START);
    copy.adopt(&manifest, 1, START).unwrap();
    // The owner's own builder: a clock that is behind does not make an invalid log.
    let rows = MemoryRows::default();
    let (id, hash) = (log(1, 1), manifest.hash());
    let mut batch = Batch::begin(&manifest, &id, &rows, 0).unwrap();
    assert_eq!(batch.adopt(1, hash, before).unwrap().time, START);
    let mut batch = Batch::begin(&manifest, &id, &rows, 0).unwrap();
    assert_eq!(batch.adopt(1, hash, START.plus(5)).unwrap().time, START.plus(5));
}

/// Rows must not go back in time where they pass from log to log.
#[test]
fn maps_pass_on_after_the_last_entry_of_the_log_that_had_them() {
    let (first, mut rows) = (first(), MemoryRows::default());
    let mut cut = Vec::new();
    for (i, last) in [(1, 50), (2, 70), (3, 90)] {
        let mut copy = Copy::new(&first, log(i, 1), &mut rows);
        copy.adopt(&first, 1, START.plus(last)).unwrap();
        cut.push(copy.cut(1, log(if i == 1 { 1 } else { 0 }, if i == 1 { 2 } else { 1 })));
    }
    Copy::new(&first, log(0, 1), &mut rows).adopt(&first, 1, START).unwrap();
    // b has a new log; c leaves, its home passes to b's new log and its statements to a; d stays.
    let second = after(&first, |draft| {
        draft.operators.retain(|operator| operator.name.as_str() != NAMES[2]);
        draft.operators[1] = operator(1, 2, START.plus(60));
        draft.homes.insert(NAMES[1].parse().unwrap(), log(1, 2));
        draft.homes.insert(NAMES[2].parse().unwrap(), log(1, 2));
        draft.cuts = cut[..2].to_vec();
    });
    let from = |manifest: &Manifest, rows: &MemoryRows, log: &LogId| {
        let batch = Batch::begin(manifest, log, rows, 0).unwrap();
        batch.adopts_from(batch.next_version().unwrap()).unwrap()
    };
    // The home of c, which ended at 70, counts for b's new log; c's statements for a; d takes nothing over.
    assert_eq!(from(&second, &rows, &log(1, 2)), START.plus(70));
    assert_eq!(from(&second, &rows, &log(0, 1)), START.plus(70));
    assert_eq!(from(&second, &rows, &log(3, 1)), Millis(0));
    let mut copy = Copy::new(&second, log(1, 2), &mut rows);
    early(copy.adopt(&second, 2, START.plus(69)), START.plus(69), START.plus(70));
    // b's new log is cut before its first entry: the next one takes the maps from the logs that had them.
    let never =
        Cut { log: log(1, 2), head: Head::EMPTY, state_root: StateRoot([0; 32]), adopted: 0, successor: log(1, 3) };
    let third = after(&second, |draft| {
        draft.operators[1] = operator(1, 3, START.plus(60));
        for home in [1, 2] {
            draft.homes.insert(NAMES[home].parse().unwrap(), log(1, 3));
        }
        draft.cuts.push(never);
    });
    assert_eq!(from(&third, &rows, &log(1, 3)), START.plus(70));
    let mut copy = Copy::new(&third, log(1, 3), &mut rows);
    early(copy.adopt(&third, 3, START.plus(69)), START.plus(69), START.plus(70));
    copy.adopt(&third, 3, START.plus(70)).unwrap();
}

/// A program that knows a kind of event refuses it in a log whose operators agreed on no protocol that has it.
#[test]
fn a_kind_of_event_is_valid_from_the_protocol_that_brought_it() {
    let manifest = first();
    let before = manifest.with_protocol(0);
    for (manifest, valid) in [(&*manifest, true), (&before, false)] {
        let mut rows = MemoryRows::default();
        Copy::new(manifest, log(0, 1), &mut rows).adopt(manifest, 1, START).unwrap();
        let event = registration(manifest, START);
        let id = log(0, 1);
        let mut batch = Batch::begin(manifest, &id, &rows, 2).unwrap();
        assert_eq!(batch.takes(&event.event().action), valid);
        let wanted = BatchError::Kind { index: 2, protocol: 1, adopted: 0 };
        let admitted = batch.admit(event.clone(), START);
        let replayed = Batch::begin(manifest, &id, &rows, 2).unwrap().replay(&VerifiedEntry::of(START, event));
        if valid {
            assert!(matches!(admitted, Ok(Ok(_))) && matches!(replayed, Ok(Some(Ok(_)))));
        } else {
            assert_eq!(admitted.unwrap_err(), wanted.clone().into());
            assert_eq!(replayed.unwrap_err(), wanted.into());
        }
    }
}

/// A federation whose newest member wrote a version for a later program: the logs that adopt it wait on a program that
/// cannot read it, and what they hold beyond it is nobody's fault.
#[test]
fn logs_that_adopt_an_unknown_protocol_wait() {
    let (manifest, mut rows) = (first(), MemoryRows::default());
    let draft = manifest.draft().text().unwrap();
    let text = signed(draft.replacen("version = 2\n", "version = 2\nprotocol = 2\n", 1));
    assert_eq!(manifest.successor(&text).unwrap_err().code(), "manifest_protocol");
    let hash =
        ManifestHash(*blake3::hash(SignedNote::parse(text.as_bytes(), text.len()).unwrap().text.as_bytes()).as_bytes());
    let mut copy = Copy::new(&manifest, log(3, 1), &mut rows);
    copy.adopt(&manifest, 1, START).unwrap();
    let newer = copy.take(&manifest, &VerifiedEntry::adopt(START, 2, hash));
    assert!(matches!(newer, Err(ReplayError::Unheld(2))), "{newer:?}");
    // The others continue under the version that they know.
    let mut copy = Copy::new(&manifest, log(0, 1), &mut rows);
    copy.adopt(&manifest, 1, START).unwrap();
    copy.take(&manifest, &VerifiedEntry::of(START, registration(&manifest, START))).unwrap();
    assert_eq!(vec![copy.tree.size()], [4]);
}
