//! Builders that tests share: federations with fixed keys, signed events, logs and replicas in memory.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "for tests only")]
use std::collections::BTreeMap;
use std::sync::Arc;

use fama_ledger::adoption::Adoption;
use fama_ledger::batch::{Batch, LogMaps, ReplayError, Replayed, replay};
use fama_ledger::entry::{SignedEvent, VerifiedEntry, VerifiedEvent};
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::fold::{Effect, Outcome, Void};
use fama_ledger::id::{Domain, FederationId, IdentityId, StateId, StateRoot};
use fama_ledger::join::{Join, LogState, state_id};
use fama_ledger::key::{Curve, Signature};
use fama_ledger::log::{Head, MemoryTiles, Tree, leaf_hash, prove_inclusion};
use fama_ledger::manifest::{Draft, Genesis, LogId, Manifest, Operator, Policy};
use fama_ledger::rows::MemoryRows;
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::time::Millis;

/// 2026-11-22T05:00:00.000Z, the time at which the tests' stories begin.
pub const START: Millis = Millis(1_795_323_600_000);
/// A second, in milliseconds.
pub const SECOND: u64 = 1_000;
/// A UTC day, in milliseconds.
pub const DAY: u64 = 86_400_000;

/// The domains of operators, in the manifests' order.
pub const DOMAINS: [&str; 4] = ["alpha.example", "beta.example", "gamma.example", "delta.example"];

/// The key with `seed` 32 times as its secret: secp256k1 if the seed is even, else Ed25519. Not 0.
#[must_use]
pub fn secret(seed: u8) -> SecretKey {
    let curve = if seed.is_multiple_of(2) { Curve::Secp256k1 } else { Curve::Ed25519 };
    SecretKey::from_seed(curve, &[seed; 32]).unwrap()
}

/// The node key of the `i`-th operator.
#[must_use]
pub fn node_key(i: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[200 + i; 32]).unwrap()
}

/// The governance key of the `i`-th operator.
#[must_use]
pub fn governance_key(i: u8) -> SecretKey {
    SecretKey::from_seed(Curve::Ed25519, &[220 + i; 32]).unwrap()
}

/// A domain from its text, which must be valid.
#[must_use]
pub fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

/// The text of a genesis of the first `n` of [`DOMAINS`].
#[must_use]
pub fn genesis(n: u8, policy: Policy) -> Genesis {
    let operators = (0..n).map(|i| Operator {
        name: domain(DOMAINS[usize::from(i)]),
        node_key: node_key(i).ed25519().unwrap().verifying_key(),
        governance_key: governance_key(i).ed25519().unwrap().verifying_key(),
        generation: 1,
        begins: START,
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 4_001 + u16::from(i))],
        endpoints: fama_ledger::manifest::Endpoints::default(),
    });
    Genesis { name: "test".to_owned(), policy, operators: operators.collect() }
}

/// The manifest text of [`genesis`], signed by all governance keys.
#[must_use]
pub fn signed_genesis(n: u8, policy: Policy) -> SignedNote {
    let text = genesis(n, policy).text().unwrap();
    let line = |i| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let signatures = (0..n).map(line).collect();
    SignedNote { text, signatures }
}

/// The policy under which vectors are made: what was recommended when the first were. It is part of the federation's id.
#[must_use]
pub fn policy(n: u8) -> Policy {
    Policy { batch_ms: 100, ..Policy::recommended(n.into()) }
}

/// A federation of `n` operators, with [`policy`] as `change` leaves it.
#[must_use]
pub fn federation(n: u8, change: impl FnOnce(&mut Policy)) -> Manifest {
    let mut policy = policy(n);
    change(&mut policy);
    Manifest::parse(&signed_genesis(n, policy).to_string()).unwrap()
}

/// The id of the `i`-th operator's log in generation 1.
#[must_use]
pub fn log(i: usize) -> LogId {
    LogId { operator: domain(DOMAINS[i]), generation: 1 }
}

/// An event of that federation.
#[must_use]
pub const fn event(federation: FederationId, action: Action, created: Millis, nonce: u64) -> Event {
    Event { federation, action, created, nonce: Nonce(nonce.to_be_bytes()) }
}

/// An event signed by one key.
#[must_use]
pub fn signed(event: Event, signer: &SecretKey) -> SignedEvent {
    let signature = signer.sign(event.text().as_bytes());
    SignedEvent { event, signer: signer.public(), signature, countersignature: None }
}

/// A rotation signed by the old key and countersigned by the new one.
#[must_use]
pub fn countersigned(event: Event, old: &SecretKey, new: &SecretKey) -> SignedEvent {
    let countersignature: Signature = new.sign(event.text().as_bytes());
    SignedEvent { countersignature: Some(countersignature), ..signed(event, old) }
}

/// One log as a replica holds it.
#[derive(Clone, Debug)]
pub struct MirroredLog {
    /// The state maps after the last batch.
    pub maps: LogMaps,
    /// The Merkle tree of all entries.
    pub tree: Tree,
    /// All tiles of the tree.
    pub tiles: MemoryTiles,
    /// The state root in the last state entry.
    pub state_root: StateRoot,
    /// Every entry, from index 0 on.
    pub entries: Vec<VerifiedEntry>,
}

/// Where a log adopted the version that it is at, with the path to its head; `None` while it is at the version that
/// it began with.
#[must_use]
pub fn adoption(mirror: &MirroredLog) -> Option<Adoption> {
    let adoptions = (0..).zip(&mirror.entries).filter(|(_, entry)| entry.adopts().is_some());
    adoptions.skip(1).last().map(|(index, entry)| Adoption {
        index,
        entry: entry.bytes().to_vec(),
        path: prove_inclusion(index, mirror.tree.size(), &mirror.tiles).unwrap(),
    })
}

/// The version after `previous`, with the draft changed by `change`, signed by the first three governance keys.
#[must_use]
pub fn later_version(previous: &Manifest, change: impl FnOnce(&mut Draft)) -> Manifest {
    let mut draft = previous.draft();
    change(&mut draft);
    let text = draft.text().unwrap();
    let line = |i: u8| sign(&text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let note = SignedNote { signatures: (0..3).map(line).collect(), text }.to_string();
    Arc::new(previous.clone()).successor(&note).unwrap()
}

/// All logs of a federation in memory: what a node holds, without a node.
#[derive(Clone, Debug)]
pub struct MemoryReplica<'a> {
    /// The newest version of the federation's manifest.
    pub manifest: &'a Manifest,
    /// The rows of all maps.
    pub rows: MemoryRows,
    /// Every log that was begun, by its id.
    pub logs: BTreeMap<LogId, MirroredLog>,
}

/// The error of a batch that a replica could not take.
pub type Invalid = ReplayError<core::convert::Infallible>;

impl<'a> MemoryReplica<'a> {
    /// A replica whose logs are all empty.
    #[must_use]
    pub fn new(manifest: &'a Manifest) -> Self {
        let mut replica = Self { manifest, rows: MemoryRows::default(), logs: BTreeMap::new() };
        manifest.operators().iter().for_each(|operator| replica.begin(&operator.log()));
        replica
    }

    /// Begins a log, or begins it again, with the maps that pass to it as they are now.
    pub fn begin(&mut self, log: &LogId) {
        let mirror = MirroredLog {
            maps: LogMaps::load(self.manifest, log, &self.rows).unwrap(),
            tree: Tree::default(),
            tiles: MemoryTiles::default(),
            state_root: StateRoot([0; 32]),
            entries: Vec::new(),
        };
        self.logs.insert(log.clone(), mirror);
    }

    /// A replica whose logs have all adopted the manifest at [`START`].
    #[must_use]
    pub fn adopted(manifest: &'a Manifest) -> Self {
        let mut replica = Self::new(manifest);
        for log in replica.logs.keys().cloned().collect::<Vec<_>>() {
            let entry = VerifiedEntry::adopt(START, manifest.version(), manifest.hash());
            replica.append(&log, vec![entry]);
        }
        replica
    }

    /// Appends `entries` with their state entry as the log's owner would, whatever their outcomes.
    pub fn append(&mut self, log: &LogId, entries: Vec<VerifiedEntry>) -> Vec<Option<Outcome>> {
        let batch = self.complete(log, entries);
        self.take(log, batch).unwrap().outcomes
    }

    /// `entries`, followed by the state entry that belongs after them.
    #[must_use]
    pub fn complete(&self, log: &LogId, mut entries: Vec<VerifiedEntry>) -> Vec<VerifiedEntry> {
        let mirror = &self.logs[log];
        let mut batch = Batch::begin(self.manifest, log, &self.rows, mirror.tree.size()).unwrap();
        for entry in &entries {
            batch.replay(entry).unwrap();
        }
        let folded = batch.finish(&mut mirror.maps.clone()).unwrap();
        entries.push(VerifiedEntry::state(folded.time, folded.state_root));
        entries
    }

    /// Appends as an honest owner: events that would be void stay out.
    pub fn admit(&mut self, log: &LogId, now: Millis, events: Vec<VerifiedEvent>) -> Vec<Result<Effect, Void>> {
        let mirror = &self.logs[log];
        let mut batch = Batch::begin(self.manifest, log, &self.rows, mirror.tree.size()).unwrap();
        let (mut entries, mut outcomes) = (Vec::new(), Vec::new());
        for event in events {
            let admitted = batch.admit(event, now).unwrap();
            outcomes.push(admitted.map(|(entry, effect)| {
                entries.push(entry);
                effect
            }));
        }
        if !batch.is_empty() {
            let folded = batch.finish(&mut mirror.maps.clone()).unwrap();
            entries.push(VerifiedEntry::state(folded.time, folded.state_root));
            self.take(log, entries).unwrap();
        }
        outcomes
    }

    /// Takes one whole batch as a mirror.
    ///
    /// # Errors
    /// [`ReplayError`], in which case nothing changed.
    pub fn take(&mut self, log: &LogId, entries: Vec<VerifiedEntry>) -> Result<Replayed, Invalid> {
        let mirror = self.logs.get_mut(log).unwrap();
        let replayed = replay(self.manifest, log, &self.rows, &mut mirror.maps, mirror.tree.size(), &entries)?;
        let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry.bytes())).collect();
        mirror.tiles.write(mirror.tree.append(leaves));
        mirror.state_root = replayed.folded.state_root;
        mirror.entries.extend(entries);
        self.rows.apply(&replayed.folded.changes);
        Ok(replayed)
    }

    /// Takes all whole batches in `entries`, which are the log's from index `first` on, that are not held yet.
    pub fn deliver(&mut self, log: &LogId, first: usize, entries: &[VerifiedEntry]) -> Vec<Replayed> {
        let held = self.logs[log].entries.len();
        let Some(fresh) = held.checked_sub(first).and_then(|skip| entries.get(skip..)) else { return Vec::new() };
        let batches = fresh.split_inclusive(VerifiedEntry::is_state);
        let whole = batches.filter(|batch| batch.last().is_some_and(VerifiedEntry::is_state));
        whole.map(|batch| self.take(log, batch.to_vec()).unwrap()).collect()
    }

    /// What all logs mean together under this manifest.
    #[must_use]
    pub fn join(&self) -> Join<'_, MemoryRows> {
        Join::new(self.manifest, &self.rows)
    }

    /// The size and root of a log.
    #[must_use]
    pub fn head(&self, log: &LogId) -> Head {
        self.logs[log].tree.head()
    }

    /// The state id of the logs that are not cut.
    #[must_use]
    pub fn state_id(&self) -> StateId {
        let uncut = self.logs.iter().filter(|(log, _)| self.manifest.cut(log).is_none());
        let logs = uncut.map(|(log, mirror)| {
            let Head { size, root } = mirror.tree.head();
            LogState { log: log.clone(), size, root, state_root: mirror.state_root }
        });
        state_id(self.manifest.hash(), &logs.collect::<Vec<_>>())
    }

    /// Verifies an event and logs it in a batch of its own in `log` at `time`, void or not.
    pub fn append_event(&mut self, log: &LogId, time: Millis, event: SignedEvent) -> Outcome {
        let event = event.verify(&self.manifest.federation()).unwrap();
        self.append(log, vec![VerifiedEntry::of(time, event)]).pop().flatten().unwrap()
    }

    /// Registers `name` with the key of `seed` in the home of operator `i`; returns the identity.
    pub fn register(&mut self, i: usize, name: &str, seed: u8) -> IdentityId {
        let key = secret(seed);
        let (home, name) = (domain(DOMAINS[i]), name.parse().unwrap());
        let action = Action::Register { home, name, key: key.public(), next: None, note: None };
        let event = event(self.manifest.federation(), action, START, seed.into());
        let id = event.id();
        self.append_event(&log(i), START, signed(event, &key)).unwrap();
        id
    }
}
