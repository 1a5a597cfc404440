//! An honest node: the real inbox on a simulated disk, by a simulated clock.
use std::collections::BTreeMap;
use std::sync::Arc;

use fama_ledger::id::NoteHash;
use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::note::note_hash;
use fama_ledger::replica::Overrides;
use fama_ledger::time::Millis;
use fama_node::clock::{Clock, Simulated};
use fama_node::inbox::{COMMANDS_MAX, DecodedRange, Inbox, InboxCommand, InboxInput, Own, SubmitOutcome};
use fama_node::replay::Fatal;
use fama_node::shared::Shared;
use fama_node::store::simulated::Disk;
use fama_node::store::{Store, StoreError};
use fama_node::sync::heard::{self, FrontierError};
use fama_node::wire::{EntryRange, Frontier, Gossip, NoteAnswer, Session, SyncResponse};
use fama_tests::START;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::checker::Boot;
use super::federation::SimulatedFederation;
use super::plan::ReplacementDisk;

/// What a request asked for, so that its answer or its failure can be passed to the inbox.
pub(super) enum PendingRequest {
    Frontier,
    Entries { log: LogId, head: Head },
    Notes(Vec<NoteHash>),
    Manifests,
}

/// A node while it runs.
pub(super) struct RunningNode {
    pub(super) inbox: Inbox,
    pub(super) shared: Shared,
    pub(super) commands: mpsc::Receiver<InboxCommand>,
    /// Open requests by number, each to one peer.
    pub(super) asks: BTreeMap<u64, (PeerId, PendingRequest)>,
    /// Clients that wait for the answer to a submission: the deed's number and the channel.
    pub(super) replies: Vec<(usize, oneshot::Receiver<Vec<SubmitOutcome>>)>,
    /// Open connections as far as this node knows: machines, and the peer ids that they had.
    pub(super) peers: BTreeMap<usize, PeerId>,
    /// When it is due to append, in milliseconds.
    pub(super) append_at: Option<u64>,
    pub(super) boot: Boot,
    started: u64,
    tolerates: u64,
}

/// One machine with its disk and clock, and the node on it while that runs.
pub(super) struct SimulatedMachine {
    pub(super) number: usize,
    federation: &'static SimulatedFederation,
    /// Whether it is configured as an operator's node.
    pub(super) operates: bool,
    /// The log whose key its network uses.
    pub(super) key: usize,
    clock: Arc<Simulated>,
    /// Its wall clock minus the true time, in milliseconds.
    pub(super) skew: i64,
    /// Since when it is skewed, in true time.
    pub(super) skewed: u64,
    /// Planted fault: by how much its clock is ahead for a moment, in milliseconds.
    pub(super) ahead: u64,
    /// Planted fault: how far ahead of its clock it takes cosignatures, besides what is right, in milliseconds.
    pub(super) tolerates: u64,
    pub(super) disk: Disk,
    pub(super) backup: Option<Disk>,
    /// What follows when the power, which is about to go, is off: the disk afterwards, and for how long it stays off.
    pub(super) fallen: Option<(ReplacementDisk, u64)>,
    /// A bit flipped that has not been noticed.
    pub(super) damaged: bool,
    pub(super) overrides: Overrides,
    pub(super) running: Option<RunningNode>,
    /// How often it was started or reloaded; it marks what was meant for an earlier inbox.
    pub(super) boots: u64,
    /// How often its process was started.
    session: u64,
}

impl SimulatedMachine {
    pub(super) fn new(number: usize, federation: &'static SimulatedFederation) -> Self {
        Self {
            number,
            federation,
            operates: number < federation.len(),
            key: number,
            clock: Arc::default(),
            skew: 0,
            skewed: 0,
            ahead: 0,
            tolerates: 0,
            disk: Disk::default(),
            backup: None,
            fallen: None,
            damaged: false,
            overrides: Overrides::default(),
            running: None,
            boots: 0,
            session: 0,
        }
    }

    fn set_clock(&self, now: u64, started: u64) {
        self.clock.set(self.wall(now).plus(self.ahead), now - started);
    }

    /// The time on its wall clock.
    pub(super) fn wall(&self, now: u64) -> Millis {
        Millis((START.0 + now).saturating_add_signed(self.skew))
    }

    /// Starts the node on what its disk holds; `boot` records what that is.
    pub(super) fn start(
        &mut self,
        now: u64,
        boot: impl FnOnce(&Store) -> Result<Boot, StoreError>,
    ) -> Result<(), Fatal> {
        self.session += 1;
        self.load(now, now, boot)
    }

    /// Loads what the disk holds, within the process that was started at `began`.
    pub(super) fn load(
        &mut self,
        now: u64,
        began: u64,
        boot: impl FnOnce(&Store) -> Result<Boot, StoreError>,
    ) -> Result<(), Fatal> {
        self.boots += 1;
        self.set_clock(now, began);
        let store = Store::open_simulated(&self.disk, &self.federation.manifest)?;
        let mut session = [self.number as u8; 16];
        session[..8].copy_from_slice(&self.session.to_le_bytes());
        let clock = Clock::simulated(Arc::clone(&self.clock));
        let shared = Shared::new(store, clock, session);
        let keys = self.federation.logs_of(self.number).map(|log| self.federation.key(log));
        let held = keys.each_ref().map(|key| key.ed25519().unwrap());
        let own = self
            .operates
            .then(|| Own::of(&shared.manifest, self.federation.names[self.number].clone(), &held, self.overrides));
        let newest = own.as_ref().and_then(|own| own.keys.last());
        self.key = newest.map_or(self.number, |(log, _)| self.federation.log(log));
        let (commands_out, commands) = mpsc::channel(COMMANDS_MAX);
        let inbox = Inbox::load(shared.clone(), own, commands_out)?;
        let boot = boot(&shared.store)?;
        self.running = Some(RunningNode {
            inbox,
            shared,
            commands,
            asks: BTreeMap::new(),
            replies: Vec::new(),
            peers: BTreeMap::new(),
            append_at: None,
            boot,
            started: began,
            tolerates: self.tolerates,
        });
        Ok(())
    }

    /// The running node, with its clock at `now`.
    pub(super) fn at(&mut self, now: u64) -> Option<&mut RunningNode> {
        let started = self.running.as_ref()?.started;
        self.set_clock(now, started);
        self.running.as_mut()
    }
}

impl RunningNode {
    /// When its process was started, in milliseconds.
    pub(super) const fn began(&self) -> u64 {
        self.started
    }

    /// What a real node makes of an answer: the input for its inbox, if any, and what it blames the peer for.
    pub(super) fn answered(
        &self,
        from: PeerId,
        ask: PendingRequest,
        answer: Option<SyncResponse>,
    ) -> (Option<InboxInput>, Option<&'static str>) {
        let input = match (ask, answer) {
            (PendingRequest::Frontier, Some(SyncResponse::Frontier(frontier))) => return self.frontier(from, frontier),
            (PendingRequest::Frontier, _) => Some(InboxInput::Unanswered { peer: from }),
            (PendingRequest::Entries { log, head }, Some(SyncResponse::Entries(range))) => {
                let range = self.decode(range);
                Some(InboxInput::Range { peer: from, log, head, range })
            }
            (PendingRequest::Entries { log, .. }, _) => Some(InboxInput::RangeFailed { peer: from, log }),
            (PendingRequest::Notes(hashes), Some(SyncResponse::Notes(notes))) => given(&hashes, notes),
            (PendingRequest::Manifests, Some(SyncResponse::Manifests(texts))) => {
                Some(InboxInput::Manifests { peer: from, texts })
            }
            (PendingRequest::Notes(_) | PendingRequest::Manifests, _) => None,
        };
        (input, None)
    }

    fn frontier(&self, peer: PeerId, frontier: Frontier) -> (Option<InboxInput>, Option<&'static str>) {
        let ahead = i128::from(frontier.time.0) - i128::from(self.shared.clock.now().0);
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        let latest = self.shared.clock.now().plus(self.tolerates);
        match heard::frontier(&self.shared.store.view(), &self.shared.manifest, frontier, latest) {
            Ok(said) => (Some(InboxInput::Frontier { peer, said, ahead }), None),
            Err(FrontierError::Sender(code)) => (Some(InboxInput::Unanswered { peer }), Some(code)),
            Err(FrontierError::Store(_)) => (Some(InboxInput::Unanswered { peer }), None),
        }
    }

    /// The session of this process.
    pub(super) fn session(&self) -> Session {
        Session { id: self.shared.session, writes: self.shared.health.read().writes }
    }

    fn decode(&self, range: EntryRange) -> DecodedRange {
        DecodedRange::new(range, &self.shared.manifest.federation())
    }

    /// What a real node makes of gossip; `None` if it refuses it or it is no news.
    pub(super) fn heard(&self, peer: PeerId, gossip: Gossip) -> Option<InboxInput> {
        let (manifest, view) = (&self.shared.manifest, self.shared.store.view());
        match gossip {
            Gossip::Cosignature { log, cosigned } => {
                let news = heard::cosigned(&view, manifest, &log, &cosigned, self.shared.clock.now()).unwrap_or(false);
                let verified = news.then(|| cosigned.verify(manifest, &log)).flatten();
                verified.map(InboxInput::Cosigned)
            }
            Gossip::Equivocation(proof) => {
                let known = self.shared.health.read().logs.get(&proof.log).is_some_and(|log| log.fault.is_some());
                (!known && proof.verify(manifest).is_ok()).then_some(InboxInput::Equivocation(proof))
            }
            Gossip::Head { log, signed, first, entries, notes } => {
                let news = heard::head(&view, manifest, &log, &signed.head).unwrap_or(false);
                let held = self.shared.health.read().logs.get(&log).map(|held| held.size);
                let beyond = held.is_some_and(|held| signed.head.size > held && !entries.is_empty());
                let signed = (news || beyond).then(|| signed.verify(manifest, &log).ok()).flatten()?;
                let range = beyond.then(|| self.decode(EntryRange { first, entries, proof: Vec::new(), notes }));
                let faulty = range.as_ref().is_some_and(|range| range.fault.is_some() || range.strange_notes);
                (!faulty).then_some(InboxInput::Head { peer, signed, range })
            }
        }
    }
}

/// The requested texts of notes, if all match their hashes.
fn given(hashes: &[NoteHash], notes: Vec<(NoteHash, NoteAnswer)>) -> Option<InboxInput> {
    let texts: Vec<_> = notes
        .into_iter()
        .filter_map(|(hash, note)| match note {
            NoteAnswer::Text(text) => Some((hash, text)),
            NoteAnswer::Redacted => None,
        })
        .collect();
    let right = texts.iter().all(|(hash, text)| hashes.contains(hash) && note_hash(text.as_bytes()) == *hash);
    (right && !texts.is_empty()).then_some(InboxInput::Notes(texts))
}
