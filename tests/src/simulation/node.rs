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
use super::federation::Federation;
use super::plan::Disk as Loss;

/// What a request was about, so that its answer or its end can be told to the inbox.
pub(super) enum Ask {
    Frontier,
    Entries { log: LogId, head: Head },
    Notes(Vec<NoteHash>),
    Manifests,
}

/// A node that runs.
pub(super) struct Running {
    pub(super) inbox: Inbox,
    pub(super) shared: Shared,
    pub(super) commands: mpsc::Receiver<InboxCommand>,
    /// Requests under way, each to one peer.
    pub(super) asks: BTreeMap<u64, (PeerId, Ask)>,
    /// Who waits for the answer to a submission: the deed's number.
    pub(super) replies: Vec<(usize, oneshot::Receiver<Vec<SubmitOutcome>>)>,
    /// Open connections, as far as this node knows: machines, and what they were called.
    pub(super) peers: BTreeMap<usize, PeerId>,
    /// When it is to append.
    pub(super) append_at: Option<u64>,
    pub(super) boot: Boot,
    started: u64,
}

/// One machine.
pub(super) struct Node {
    pub(super) number: usize,
    federation: &'static Federation,
    /// Whether it is configured as an operator's.
    pub(super) operates: bool,
    /// The log whose key its network goes by.
    pub(super) key: usize,
    clock: Arc<Simulated>,
    /// Its wall clock less the true time, in milliseconds.
    pub(super) skew: i64,
    /// Since when, by the clock of all.
    pub(super) skewed: u64,
    pub(super) disk: Disk,
    pub(super) backup: Option<Disk>,
    /// What happens when the power, which is about to go, is gone: the disk after it, and for how long.
    pub(super) fallen: Option<(Loss, u64)>,
    /// A bit flipped, and nobody noticed.
    pub(super) damaged: bool,
    pub(super) running: Option<Running>,
    /// How often it was started or loaded anew: tells what is meant for a former inbox.
    pub(super) boots: u64,
    /// How often it was started.
    session: u64,
}

impl Node {
    pub(super) fn new(number: usize, federation: &'static Federation) -> Self {
        Self {
            number,
            federation,
            operates: number < federation.len(),
            key: number,
            clock: Arc::default(),
            skew: 0,
            skewed: 0,
            disk: Disk::default(),
            backup: None,
            fallen: None,
            damaged: false,
            running: None,
            boots: 0,
            session: 0,
        }
    }

    fn set_clock(&self, now: u64, started: u64) {
        self.clock.set(Millis((START.0 + now).saturating_add_signed(self.skew)), now - started);
    }

    /// Its wall clock.
    pub(super) fn wall(&self, now: u64) -> Millis {
        Millis((START.0 + now).saturating_add_signed(self.skew))
    }

    /// Starts the node on what its disk holds; `boot` reads what that is.
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
        let own = self.operates.then(|| {
            Own::of(&shared.manifest, self.federation.names[self.number].clone(), &held, Overrides::default())
        });
        let newest = own.as_ref().and_then(|own| own.keys.last());
        self.key = newest.map_or(self.number, |(log, _)| self.federation.log(log));
        let (commands_out, commands) = mpsc::channel(COMMANDS_MAX);
        let inbox = Inbox::load(shared.clone(), own, commands_out)?;
        let boot = boot(&shared.store)?;
        self.running = Some(Running {
            inbox,
            shared,
            commands,
            asks: BTreeMap::new(),
            replies: Vec::new(),
            peers: BTreeMap::new(),
            append_at: None,
            boot,
            started: began,
        });
        Ok(())
    }

    /// The running node, with its clock at `now`.
    pub(super) fn at(&mut self, now: u64) -> Option<&mut Running> {
        let started = self.running.as_ref()?.started;
        self.set_clock(now, started);
        self.running.as_mut()
    }
}

impl Running {
    /// When its process was started.
    pub(super) const fn began(&self) -> u64 {
        self.started
    }

    /// What the driver makes of an answer: what it tells the inbox, if it does, and for what it blames the peer.
    pub(super) fn answered(
        &self,
        from: PeerId,
        ask: Ask,
        answer: Option<SyncResponse>,
    ) -> (Option<InboxInput>, Option<&'static str>) {
        let input = match (ask, answer) {
            (Ask::Frontier, Some(SyncResponse::Frontier(frontier))) => return self.frontier(from, frontier),
            (Ask::Frontier, _) => Some(InboxInput::Unanswered { peer: from }),
            (Ask::Entries { log, head }, Some(SyncResponse::Entries(range))) => {
                let range = self.decode(range);
                Some(InboxInput::Range { peer: from, log, head, range })
            }
            (Ask::Entries { log, .. }, _) => Some(InboxInput::RangeFailed { peer: from, log }),
            (Ask::Notes(hashes), Some(SyncResponse::Notes(notes))) => given(&hashes, notes),
            (Ask::Manifests, Some(SyncResponse::Manifests(texts))) => Some(InboxInput::Manifests { peer: from, texts }),
            (Ask::Notes(_) | Ask::Manifests, _) => None,
        };
        (input, None)
    }

    fn frontier(&self, peer: PeerId, frontier: Frontier) -> (Option<InboxInput>, Option<&'static str>) {
        let ahead = i128::from(frontier.time.0) - i128::from(self.shared.clock.now().0);
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        match heard::frontier(&self.shared.store.view(), &self.shared.manifest, frontier) {
            Ok(said) => (Some(InboxInput::Frontier { peer, said, ahead }), None),
            Err(FrontierError::Sender(code)) => (Some(InboxInput::Unanswered { peer }), Some(code)),
            Err(FrontierError::Store(_)) => (Some(InboxInput::Unanswered { peer }), None),
        }
    }

    /// Which process this is.
    pub(super) fn session(&self) -> Session {
        Session { id: self.shared.session, writes: self.shared.health.read().writes }
    }

    fn decode(&self, range: EntryRange) -> DecodedRange {
        DecodedRange::new(range, &self.shared.manifest.federation())
    }

    /// What the driver makes of gossip; `None` where it refuses it, or it is no news.
    pub(super) fn heard(&self, peer: PeerId, gossip: Gossip) -> Option<InboxInput> {
        let (manifest, view) = (&self.shared.manifest, self.shared.store.view());
        match gossip {
            Gossip::Cosignature { log, cosigned } => {
                let news = heard::cosigned(&view, manifest, &log, &cosigned).unwrap_or(false);
                let verified = news.then(|| cosigned.verify(manifest, &log)).flatten();
                verified.map(InboxInput::Cosigned)
            }
            Gossip::Equivocation(proof) => {
                let known = self.shared.health.read().logs.get(&proof.log).is_some_and(|log| log.fault.is_some());
                (!known && proof.verify(manifest).is_ok()).then_some(InboxInput::Equivocation(proof))
            }
            Gossip::Head { log, signed, first, entries } => {
                let news = heard::head(&view, manifest, &log, &signed.head).unwrap_or(false);
                let held = self.shared.health.read().logs.get(&log).map(|held| held.size);
                let beyond = held.is_some_and(|held| signed.head.size > held && !entries.is_empty());
                let signed = (news || beyond).then(|| signed.verify(manifest, &log).ok()).flatten()?;
                let range = beyond.then(|| self.decode(EntryRange { first, entries, proof: Vec::new() }));
                let faulty = range.as_ref().is_some_and(|range| range.fault.is_some());
                (!faulty).then_some(InboxInput::Head { peer, signed, range })
            }
        }
    }
}

/// The texts of notes that were asked for, if all are what their hashes say.
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
