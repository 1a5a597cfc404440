//! The door: every event and every foreign entry enters the node here. Only this one thread appends, folds and
//! decides. The order of each step: durable, then visible, then signed, then announced.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};
use fama_ledger::batch::LogMaps;
use fama_ledger::checkpoint::{Checkpoint, Cosignature, SignedCheckpoint};
use fama_ledger::id::{Domain, EventId, NoteHash, TreeRoot};
use fama_ledger::lateness::Lateness;
use fama_ledger::limits;
use fama_ledger::log::{self, Head, Tree};
use fama_ledger::manifest::{LogId, Manifest, Operator, VersionState};
use fama_ledger::profile;
use fama_ledger::replica::{
    Cosigned, FetchFailure, Overrides, Renewal, Replica, ReplicaOutput, Roots, StoredLog, is_misdated, log_of, renews,
};
use fama_ledger::rows::{self, LogRow, MapName, RowError};
use libp2p::PeerId;
use tokio::sync::{mpsc, watch as signal};

use crate::health::{CERTIFICATE_MILLIS_MAX, PendingManifest};
use crate::metrics::Direction;
use crate::replay::{Fatal, LogCopy, tiles_fault};
use crate::shared::Shared;
use crate::store::{DayUsage, Store, StoreError, StoredCertificate};
use crate::sync::said;
use crate::wire::{self, CosignedHead, Gossip, Refusal, Session, SignedHead};

mod append;
mod input;
mod lateness;
mod manifests;
mod mirror;
mod rank;
mod redact;
mod reserve;
mod rollback;
#[cfg(test)]
mod tests;
mod watch;

pub use input::{DecodedRange, InboxCommand, InboxInput, SubmitOutcome, Submitted};
pub use redact::NoteBefore;

/// Length of the inbox's queue of inputs.
pub const INPUTS_MAX: usize = 256;
/// Length of the bridge's queue of commands.
pub const COMMANDS_MAX: usize = 1_024;
/// How often [`Inbox::tick`] runs.
const TICK: Duration = Duration::from_millis(250);
/// How long a batch that is due waits for more inputs at most.
const DRAIN: Duration = Duration::from_millis(20);

/// The name, log and keys that an operator's node writes with.
pub struct Own {
    /// The operator's domain, as in the manifest.
    pub name: Domain,
    /// The log that the node writes; `None` while the manifest gives the operator none, or the node lacks its key.
    pub log: Option<LogId>,
    /// The generations whose node keys the node has, oldest first: it cosigns with all of them.
    pub keys: Vec<(LogId, SigningKey)>,
    /// Safety checks that the operator has overridden, at its own risk.
    pub overrides: Overrides,
}

impl Own {
    /// The log and keys of operator `name` under `manifest`: those of the `held` node keys that some version gives this
    /// operator.
    #[must_use]
    pub fn of(manifest: &Manifest, name: Domain, held: &[&SigningKey], overrides: Overrides) -> Self {
        let key = |verifying: &VerifyingKey| held.iter().find(|key| key.verifying_key() == *verifying);
        let mut keys: Vec<(LogId, SigningKey)> =
            manifest.generations(&name).filter_map(|(log, node)| Some((log.clone(), (*key(node)?).clone()))).collect();
        keys.reverse();
        let log = manifest.operator(&name).map(Operator::log).filter(|log| keys.iter().any(|(held, _)| held == log));
        Self { name, log, keys, overrides }
    }

    /// The node key of one generation, if the node has it.
    fn key(&self, by: &LogId) -> Option<&SigningKey> {
        self.keys.iter().find(|(generation, _)| generation == by).map(|(_, key)| key)
    }

    /// The log that this node writes, and the key that signs it.
    fn writes(&self) -> Option<(&LogId, &SigningKey)> {
        let log = self.log.as_ref()?;
        self.keys.iter().find(|(generation, _)| generation == log).map(|(log, key)| (log, key))
    }
}

/// Why the inbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxEnd {
    /// It received [`InboxInput::Stop`], or every sender was dropped.
    Stopped,
    /// The store must be loaded again: under another manifest version, or after a rollback.
    Reload,
}

/// A running inbox; joining it returns why it ended.
pub type InboxThread = std::thread::JoinHandle<Result<InboxEnd, Fatal>>;

/// Starts an inbox on its own thread. The returned signal becomes `true` when it ends.
///
/// # Errors
/// The system cannot start another thread.
pub fn spawn(
    name: &str,
    inbox: Inbox,
    inputs: mpsc::Receiver<InboxInput>,
) -> std::io::Result<(InboxThread, signal::Receiver<bool>)> {
    let runtime = tokio::runtime::Handle::current();
    let (end, ended) = signal::channel(false);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = inbox.run(&runtime, inputs);
        let _ = end.send(true);
        result
    })?;
    Ok((thread, ended))
}

/// The only writer of the logs. [`Inbox::run`] is its thread.
pub struct Inbox {
    shared: Shared,
    own: Option<Own>,
    copies: BTreeMap<LogId, LogCopy>,
    replica: Replica<PeerId>,
    /// When entries of each log reached this node.
    lateness: BTreeMap<LogId, Lateness>,
    commands: mpsc::Sender<InboxCommand>,
    waiting: append::PendingSubmissions,
    /// What the day of the own log's last entry was used for.
    usage: DayUsage,
    notes_due: Duration,
    /// Claims in other logs may still have to be copied into this node's own log: they arrived while it did not write.
    claims_due: bool,
    resubmit_due: Duration,
    /// Where the next round of resubmissions starts.
    resubmit_from: EventId,
    /// Of the version in use: `InUse`, or `Conflict` once another valid text of it is known.
    used_state: VersionState,
    /// Of the version after it, if this node holds one: `Pending`, `Refused` or `Conflict`.
    next_state: Option<VersionState>,
    /// Logs that are being rolled back; they have no copy here meanwhile.
    rollback: Option<rollback::RunningRollback>,
    /// A valid version after the pending one was shown: the pending one waits for no adoptions.
    is_passed: bool,
    /// The version after the one in use, if it is stored and of a protocol that this program does not know.
    later: Option<PendingManifest>,
    /// The store must be loaded again.
    reload: bool,
    watch: watch::TroubleWatch,
    /// Providers whose sponsorship changed are still to be recounted.
    recounting: bool,
}

/// Roots of this node's copies, read from their tiles.
struct StoredRoots<'a>(&'a Store);

impl Roots for StoredRoots<'_> {
    type Error = Fatal;

    fn root_at(&self, log: &LogId, size: u64) -> Result<TreeRoot, Fatal> {
        let view = self.0.view();
        log::root_at(size, &view.tiles(log)).map_err(|error| tiles_fault(log, error))
    }
}

impl Inbox {
    /// Loads every log's tree and maps from disk and checks them against the stored roots. A log that is being rolled
    /// back is left out.
    ///
    /// # Errors
    /// [`Fatal`] if the disk fails or its content is damaged.
    pub fn load(shared: Shared, own: Option<Own>, commands: mpsc::Sender<InboxCommand>) -> Result<Self, Fatal> {
        let keys = own.as_ref().map_or_else(Vec::new, |own| own.keys.iter().map(|(log, _)| log.clone()).collect());
        let mut replica = Replica::new(Arc::clone(&shared.manifest), own.as_ref().map(|own| own.name.clone()), keys);
        replica.set_overrides(own.as_ref().map(|own| own.overrides).unwrap_or_default());
        replica.end(shared.store.pending().iter().flat_map(|pending| pending.cuts().cloned()));
        let (waiting, now) = (append::PendingSubmissions::default(), shared.clock.monotonic());
        let (copies, lateness) = (BTreeMap::new(), BTreeMap::new());
        let (notes_due, claims_due, resubmit_due) = (now, true, now);
        let (rollback, reload, watch) = (None, false, watch::TroubleWatch::default());
        let usage = shared.store.view().day_usage()?;
        let next_state = shared.store.pending().map(|_| VersionState::Pending);
        let mut inbox = Self {
            shared,
            own,
            copies,
            replica,
            lateness,
            commands,
            waiting,
            usage,
            notes_due,
            claims_due,
            resubmit_due,
            resubmit_from: EventId([0; 32]),
            used_state: VersionState::InUse,
            next_state,
            rollback,
            is_passed: false,
            later: None,
            reload,
            watch,
            recounting: false,
        };
        inbox.shared.store.erase_redacted()?;
        // No head of the own log waits for its announcement any more.
        inbox.shared.store.set_announced(None);
        inbox.restore_rollbacks()?;
        let manifest = Arc::clone(&inbox.shared.manifest);
        for log in manifest.logs().keys() {
            inbox.restore(log)?;
        }
        inbox.restore_cut()?;
        inbox.restore_manifests()?;
        inbox.restore_scores()?;
        inbox.tell_rollback()?;
        Ok(inbox)
    }

    fn restore(&mut self, log: &LogId) -> Result<(), Fatal> {
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        if view.is_rolled_back(log)? {
            return self.restore_rolled_back(log);
        }
        if let Some(cut) = self.shared.manifest.cut(log).filter(|_| view.quick().is_ok_and(|quick| quick.is_some())) {
            return self.restore_end(log, cut.head);
        }
        let record = view.log(log)?;
        let (adopted, certified) = record.as_ref().map_or((Vec::new(), 0), |one| (one.adopted.clone(), one.certified));
        let state = record.map(|record| record.state);
        let size = state.as_ref().map_or(0, |state| state.size);
        let tree = Tree::load(size, &view.tiles(log)).map_err(|error| tiles_fault(log, error))?;
        // The maps of a log that was cut are in other logs now, which may have changed them.
        let is_active = self.shared.manifest.cut(log).is_none();
        let load = || LogMaps::load(&self.shared.manifest, log, &view).map_err(|error| Fatal::rows(log, error));
        let maps = is_active.then(load).transpose()?;
        if let Some(state) = state {
            if tree.head().root != state.root {
                return Err(Fatal::Damaged {
                    log: log.clone(),
                    what: "its tree does not match the stored root".into(),
                });
            }
            if maps.as_ref().is_some_and(|maps| maps.state_root() != state.state_root) {
                return Err(Fatal::Damaged {
                    log: log.clone(),
                    what: "its rows do not match the stored state root".into(),
                });
            }
        }
        let head = tree.head();
        let newest = self.stored_newest(log, head, view.newest(log)?)?;
        let cosigned = view.cosigned(log)?;
        let cosigned = cosigned.iter().filter_map(|one| one.verify(&self.shared.manifest, log)).collect();
        if let Some(maps) = &maps {
            self.shared.certified.begin(log, head.size, maps);
        }
        self.copies.insert(log.clone(), LogCopy { tree, maps });
        let certificate = view.certificate(log)?;
        let certificate = certificate.and_then(|stored| stored.verify(&self.shared.manifest, log));
        self.restore_lateness(log, &view)?;
        let base = view.base(log)?.map_or(0, |base| base.size);
        let stored = StoredLog { head, base, adopted, certified, newest, cosigned, certificate };
        let mut outputs = self.replica.restore(log, stored, &StoredRoots(&store))?;
        if is_active {
            outputs.extend(self.restore_fault(log)?);
        }
        self.perform(outputs)
    }

    /// Restores a log that was cut, in a quick state: other logs have its maps now, and its entries are not here.
    fn restore_end(&mut self, log: &LogId, head: Head) -> Result<(), Fatal> {
        let (base, certified, adopted, newest) = (head.size, head.size, Vec::new(), None);
        let stored = StoredLog { head, base, adopted, certified, newest, cosigned: Vec::new(), certificate: None };
        let outputs = self.replica.restore(log, stored, &StoredRoots(&Arc::clone(&self.shared.store)))?;
        self.perform(outputs)
    }

    /// Keeps the maps of cut logs until the logs that receive them have adopted the version that cuts them.
    fn restore_cut(&self) -> Result<(), Fatal> {
        let (manifest, view) = (&self.shared.manifest, self.shared.store.view());
        let mut adopted = BTreeMap::new();
        for log in manifest.logs().keys() {
            let last = view.log(log)?.and_then(|record| record.adopted.last().map(|adopted| adopted.version));
            adopted.insert(log, manifest.cut(log).map_or(last.unwrap_or(0), |cut| cut.adopted));
        }
        let carriers = profile::carriers(manifest, &|log| adopted.get(log).copied().unwrap_or(0));
        let left: BTreeSet<&LogId> = carriers.values().filter(|log| manifest.cut(log).is_some()).collect();
        for cut in left.into_iter().filter_map(|log| manifest.cut(log)) {
            if view.is_rolled_back(&cut.log)? {
                continue;
            }
            let maps = LogMaps::load(manifest, &cut.log, &view).map_err(|error| Fatal::rows(&cut.log, error))?;
            // With another state root some of its maps have already passed to another log, and changed since the cut.
            if maps.state_root() == cut.state_root {
                self.shared.certified.begin_cut(&cut.log, maps);
            }
        }
        Ok(())
    }

    fn restore_fault(&mut self, log: &LogId) -> Result<Vec<ReplicaOutput<PeerId>>, Fatal> {
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        let mut outputs = Vec::new();
        if view.equivocation(log)?.is_some_and(|proof| proof.verify(&self.shared.manifest).is_ok()) {
            outputs.extend(self.replica.proven(log));
        }
        let conflicting = view.conflicting(log)?.and_then(|signed| signed.verify(&self.shared.manifest, log).ok());
        if let Some(signed) = conflicting {
            outputs.extend(self.replica.equivocated(signed, &StoredRoots(&store))?);
        }
        Ok(outputs)
    }

    fn restore_manifests(&mut self) -> Result<(), Fatal> {
        let view = self.shared.store.view();
        let preparing = self.shared.manifest.version().saturating_add(1);
        for stand in view.stands()?.iter().filter(|stand| stand.version == preparing) {
            self.replica.stand(&stand.log);
            if stand.agreed {
                self.replica.agree(&stand.log);
            }
        }
        let rival = view.rival_manifest()?;
        let later = view.later_manifest(&self.shared.manifest)?;
        drop(view);
        if let Some(text) = later {
            self.note_later(&text);
        }
        if let Some(rival) = rival {
            // The next version settles a rival of the version in use, but not a rival of itself.
            let rivals_next = self.shared.manifest.successor(&rival).is_ok();
            self.note_conflict(self.shared.manifest.version().saturating_add(u32::from(rivals_next)));
        }
        self.follow_manifest()?;
        self.tell_governance()
    }

    /// The owner's largest known head. For the own log this is the durable head: if a crash left it unsigned, it is
    /// signed and stored now, so that peers learn of it.
    fn stored_newest(
        &self,
        log: &LogId,
        head: Head,
        stored: Option<SignedHead>,
    ) -> Result<Option<SignedCheckpoint>, Fatal> {
        let manifest = &self.shared.manifest;
        let stored = stored.and_then(|signed| signed.verify(manifest, log).ok());
        match self.own.as_ref().and_then(Own::writes) {
            Some((own, key)) if own == log && head.size > 0 => {
                let known = stored.filter(|signed| signed.checkpoint().head.size >= head.size);
                if known.is_some() {
                    return Ok(known);
                }
                // A crash came between commit and signature. Only durable heads are signed, so there is no other.
                let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(log), head }, key);
                self.shared.store.put_newest(log, &SignedHead::of(&signed))?;
                Ok(Some(signed))
            }
            _ => Ok(stored),
        }
    }

    /// Handles inputs until it has to stop or reload.
    ///
    /// # Errors
    /// [`Fatal`]: a failure that only a restart can repair.
    pub fn run(
        mut self,
        runtime: &tokio::runtime::Handle,
        mut inputs: mpsc::Receiver<InboxInput>,
    ) -> Result<InboxEnd, Fatal> {
        let mut last_tick = self.now();
        self.tell_health()?;
        while !self.reload {
            // Providers are recounted, and logs rolled back, whenever nothing else waits.
            let idle = !self.recounting && !self.rolls_back(false);
            let longest = if idle { TICK } else { Duration::ZERO };
            let wait = self.append_due_in().unwrap_or(TICK).min(longest);
            let input = runtime.block_on(async { tokio::time::timeout(wait, inputs.recv()).await });
            match input {
                // What waits was not answered yet: it is appended first.
                Ok(Some(InboxInput::Stop) | None) => return self.append().map(|()| InboxEnd::Stopped),
                Ok(Some(input)) => self.take(input)?,
                Err(_) if self.recounting => self.follow_scores()?,
                Err(_) => {}
            }
            if self.waiting.is_due(self.now()) {
                let is_running = self.drain(&mut inputs)?;
                self.append()?;
                if !is_running {
                    return Ok(InboxEnd::Stopped);
                }
            }
            if self.now().saturating_sub(last_tick) >= TICK {
                last_tick = self.now();
                self.tick()?;
            } else if self.rolls_back(!inputs.is_empty()) {
                self.roll_back()?;
            }
        }
        self.refuse_all();
        Ok(InboxEnd::Reload)
    }

    /// Whether the store must be loaded again; until then the inbox refuses all inputs.
    #[doc(hidden)]
    #[must_use]
    pub const fn wants_reload(&self) -> bool {
        self.reload
    }

    /// Takes the inputs that are queued now, up to a full batch and for a short time, so that one write serves many.
    /// What arrives meanwhile is not waited for. `false` if the node has to stop.
    fn drain(&mut self, inputs: &mut mpsc::Receiver<InboxInput>) -> Result<bool, Fatal> {
        let until = self.now() + DRAIN;
        for _ in 0..inputs.len() {
            if self.waiting.len() >= limits::BATCH_ENTRIES_MAX || self.now() >= until {
                break;
            }
            match inputs.try_recv() {
                Ok(InboxInput::Stop) => return Ok(false),
                Ok(input) => self.take(input)?,
                Err(_) => break,
            }
        }
        Ok(true)
    }

    /// Monotonic time since some fixed start.
    fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }

    /// Time until the waiting submissions are due to be appended; `None` if nothing waits.
    #[doc(hidden)]
    #[must_use]
    pub fn append_due_in(&self) -> Option<Duration> {
        self.waiting.due_in(self.now())
    }

    /// Handles one input. Submissions wait for [`Inbox::append`].
    ///
    /// # Errors
    /// [`Fatal`], here and in every method: the inbox must not be used any more.
    #[doc(hidden)]
    pub fn take(&mut self, input: InboxInput) -> Result<(), Fatal> {
        if self.reload {
            refuse(input);
            return Ok(());
        }
        let now = self.millis();
        match input {
            InboxInput::PeerUp { peer, operator } => {
                let outputs = self.replica.peer_up(peer, operator, now);
                self.perform(outputs)
            }
            InboxInput::PeerDown { peer } => {
                let outputs = self.replica.peer_down(peer);
                self.perform(outputs)
            }
            InboxInput::Frontier { peer, said, ahead } => self.frontier(peer, said, ahead),
            InboxInput::Unanswered { peer } => {
                self.replica.unanswered(peer, now);
                Ok(())
            }
            InboxInput::Head { peer, signed, range } => self.gossiped(peer, signed, range),
            InboxInput::Cosigned(cosigned) => {
                let outputs = self.replica.cosigned(cosigned, now, &StoredRoots(&self.shared.store))?;
                self.perform(outputs)
            }
            InboxInput::Range { peer, log, head, range } => self.range(peer, &log, head, range),
            InboxInput::RangeFailed { peer, log } => {
                let outputs = self.replica.fetch_failed(peer, &log, FetchFailure::Unanswered, now);
                self.perform(outputs)
            }
            InboxInput::Submit { events, reply } => {
                self.waiting.push(events, reply, self.shared.clock.monotonic());
                Ok(())
            }
            InboxInput::Stand { log, reply } => {
                let answer = self.stand(&log)?;
                // The caller may have given up.
                let _ = reply.send(answer);
                Ok(())
            }
            InboxInput::Redact { hash, reply } => {
                let answer = self.redact(&hash)?;
                // The caller may have given up.
                let _ = reply.send(answer);
                Ok(())
            }
            InboxInput::Agree { text, reply } => {
                let answer = self.agree(text)?;
                // The caller may have given up.
                let _ = reply.send(answer);
                Ok(())
            }
            InboxInput::Manifest { text, reply } => {
                let answer = self.manifest(&text)?.map_err(|error| Refusal::new(error.code(), error));
                let _ = reply.map(|reply| reply.send(answer));
                Ok(())
            }
            InboxInput::Manifests { peer, texts } => self.manifests(peer, &texts),
            InboxInput::Equivocation(proof) => self.proven(&proof),
            InboxInput::AskAll => {
                let outputs = self.replica.ask_all(now);
                self.perform(outputs)
            }
            InboxInput::Notes(notes) => {
                // The peer that sent these may have more.
                self.notes_due = self.now();
                Ok(self.shared.store.put_notes(&notes)?)
            }
            InboxInput::Stop => Ok(()),
        }
    }

    /// Does what is due at the current time.
    ///
    /// # Errors
    /// [`Fatal`].
    #[doc(hidden)]
    pub fn tick(&mut self) -> Result<(), Fatal> {
        if let Some(error) = self.shared.store.failure() {
            return Err(error.into());
        }
        let outputs = self.replica.tick(self.millis());
        self.perform(outputs)?;
        self.follow_manifest()?;
        self.adopt()?;
        self.take_over_missed()?;
        self.resubmit()?;
        self.follow_scores()?;
        self.follow_certified();
        self.ask_for_notes()?;
        self.roll_back()?;
        self.tell_health()?;
        Ok(())
    }

    /// Performs the replica's outputs, and the outputs that follow from them, until none is left.
    fn perform(&mut self, outputs: Vec<ReplicaOutput<PeerId>>) -> Result<(), Fatal> {
        let mut queue = VecDeque::from(outputs);
        while let Some(output) = queue.pop_front() {
            queue.extend(self.perform_one(output)?);
        }
        Ok(())
    }

    fn perform_one(&mut self, output: ReplicaOutput<PeerId>) -> Result<Vec<ReplicaOutput<PeerId>>, Fatal> {
        match output {
            ReplicaOutput::AskFrontier { peer } => {
                let ours = self.asking();
                self.command(InboxCommand::AskFrontier { peer, ours });
            }
            ReplicaOutput::Fetch { peer, log, from, head } => {
                self.command(InboxCommand::Fetch { peer, log, from, head });
            }
            ReplicaOutput::KeepNewest { signed } => {
                let log = log_of(&signed);
                self.shared.store.put_newest(&log, &SignedHead::of(&signed))?;
                self.heard_owner(&log)?;
            }
            ReplicaOutput::KeepConflicting { signed, beside } => self.keep_conflicting(&signed, beside.as_ref())?,
            ReplicaOutput::Rewind { log, size } => self.rewind(&log, size)?,
            ReplicaOutput::KeepCosigned { log, cosigned, certified } => {
                let mine = self.own.as_ref().is_some_and(|own| own.name == cosigned.cosignature.operator);
                self.shared.metrics.cosignatures(if mine { Direction::Out } else { Direction::In }, 1);
                self.shared.store.put_cosigned(&log, &cosigned.by, &CosignedHead::of(&cosigned), certified, mine)?;
                if mine {
                    self.command(InboxCommand::Publish(Gossip::Cosignature {
                        log,
                        cosigned: CosignedHead::of(&cosigned),
                    }));
                }
            }
            ReplicaOutput::KeepCertificate { certificate } => {
                let log = log_of(&certificate.signed);
                self.shared.certified.certified(&log, &certificate);
                self.shared.store.put_certificate(&log, &StoredCertificate::of(certificate))?;
            }
            ReplicaOutput::Certified { log, size } => self.shared.store.put_certified(&log, size)?,
            ReplicaOutput::Cosign { signed, by } => return self.cosign(signed, by),
            ReplicaOutput::Renew { signed, by, known } => return Ok(self.renew(&signed, by, known)),
            ReplicaOutput::KeepRenewed { log, cosigned } => {
                self.shared.store.renew_cosigned(&log, &cosigned.by, CosignedHead::of(&cosigned));
                // The word of the owner of the cosigner's own log.
                self.heard_owner(&cosigned.by)?;
            }
            ReplicaOutput::KeepRenewedCertificate { certificate } => {
                let log = log_of(&certificate.signed);
                self.shared.certified.certified(&log, &certificate);
                self.shared.store.renew_certificate(&log, StoredCertificate::of(certificate));
            }
            ReplicaOutput::Announce { signed } => self.announce(&signed)?,
            ReplicaOutput::Faulted { log, fault } => {
                self.shared.metrics.fault(fault.code());
                tracing::error!(%log, fault = fault.code(), "this log has a fault and is not cosigned any more; only a new manifest version can fix it");
            }
        }
        Ok(Vec::new())
    }

    /// Queues a command for the bridge, or drops it if the queue is full. The bridge never waits for the inbox, so
    /// a full queue is soon empty; a dropped request times out and is made again.
    fn command(&self, command: InboxCommand) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::warn!(%error, "command to the network dropped");
        }
    }

    /// What a question for a frontier shows of this node: its session, and no logs, since nobody reads them.
    fn asking(&self) -> wire::Frontier {
        let session = Session { id: self.shared.session, writes: self.replica.has_started() };
        wire::Frontier { session, ..wire::Frontier::nothing(&self.shared.manifest, self.shared.clock.now()) }
    }

    /// Cosigns a head for this operator; never a smaller head than before, nor one of a log with a fault. The
    /// resulting outputs make the cosignature durable and then publish it.
    fn cosign(&mut self, signed: SignedCheckpoint, by: LogId) -> Result<Vec<ReplicaOutput<PeerId>>, Fatal> {
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        let now = self.shared.clock.now();
        if !self.replica.wants_cosigned(&log, &by, &head)
            || self.replica.fault(&log).is_some()
            || self.last_time(&log)? > now.0.saturating_add(limits::HEAD_SKEW_MILLIS_MAX)
            || !self.passes(&log, head)?
        {
            return Ok(Vec::new());
        }
        let Some(key) = self.own.as_ref().and_then(|own| own.key(&by)) else { return Ok(Vec::new()) };
        let cosignature = Cosignature::sign(signed.checkpoint(), by.operator.clone(), key, now.0 / 1_000);
        let cosigned = Cosigned { signed, by, cosignature };
        self.replica.cosigned(cosigned, self.millis(), &StoredRoots(&self.shared.store))
    }

    /// Cosigns the newest cosigned head of a log again. Nothing is written, since the disk has the head, and nothing is
    /// sent: the next frontiers carry it.
    fn renew(&mut self, signed: &SignedCheckpoint, by: LogId, known: u64) -> Vec<ReplicaOutput<PeerId>> {
        let Some(key) = self.own.as_ref().and_then(|own| own.key(&by)) else { return Vec::new() };
        let seconds = self.shared.clock.now().0 / 1_000;
        if !is_misdated(known, seconds) && !renews(known, seconds, self.shared.manifest.heartbeat_ms()) {
            return Vec::new();
        }
        let cosignature = Cosignature::sign(signed.checkpoint(), by.operator.clone(), key, seconds);
        let renewal = Renewal { head: signed.checkpoint().head, by, cosignature };
        Vec::from_iter(self.replica.renewed(&log_of(signed), renewal))
    }

    /// Time of a log's last entry, in milliseconds since 1970; 0 if it is empty.
    fn last_time(&self, log: &LogId) -> Result<u64, Fatal> {
        let row = rows::read::<LogRow, _>(&self.shared.store.view(), MapName::log(log).id(), &());
        Ok(row.map_err(|error| Fatal::rows(log, error))?.map_or(0, |row| row.time.0))
    }

    /// Gossips a head of the own log, with the entries since the last announced head if they are few.
    fn announce(&mut self, signed: &SignedCheckpoint) -> Result<(), Fatal> {
        let (log, head) = (log_of(signed), signed.checkpoint().head);
        self.shared.store.set_announced(Some((log.clone(), SignedHead::of(signed))));
        let first = std::mem::replace(&mut self.waiting.announced, head.size);
        let count = usize::try_from(head.size.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        if first < head.size && count <= 256 {
            entries = self.shared.store.view().entries(&log, first, count, wire::GOSSIP_ENTRIES_BYTES_MAX)?;
            if entries.len() < count || entries.iter().map(Vec::len).sum::<usize>() > wire::GOSSIP_ENTRIES_BYTES_MAX {
                entries.clear();
            }
        }
        let most = wire::GOSSIP_NOTES_BYTES_MAX.saturating_sub(entries.iter().map(Vec::len).sum());
        let notes = said::notes(&self.shared.store.view(), &entries, most)?;
        self.command(InboxCommand::Publish(Gossip::Head {
            log,
            signed: SignedHead::of(signed),
            first,
            entries,
            notes,
        }));
        Ok(())
    }

    /// The join reads all logs and does not name the one with the broken row, so any log serves for the message.
    fn join_fault(&self, error: RowError<StoreError>) -> Fatal {
        let log = self.shared.manifest.operators().first().map(|operator| operator.log());
        log.map_or(Fatal::Internal("a manifest without operators"), |log| Fatal::rows(&log, error))
    }

    fn ask_for_notes(&mut self) -> Result<(), Fatal> {
        if self.notes_due > self.now() {
            return Ok(());
        }
        self.notes_due = self.now() + Duration::from_secs(5);
        // A different start each time, so that notes that nobody has do not block the others.
        let start = blake3::hash(&[self.shared.session.as_slice(), &self.millis().to_le_bytes()].concat());
        let hashes = self.shared.store.view().wanted_notes_from(&NoteHash(*start.as_bytes()), wire::NOTES_MAX)?;
        if !hashes.is_empty() {
            self.command(InboxCommand::FetchNotes { peer: None, hashes });
        }
        Ok(())
    }

    fn want_notes(&self, peer: PeerId, hashes: Vec<NoteHash>) {
        if !hashes.is_empty() {
            self.command(InboxCommand::FetchNotes { peer: Some(peer), hashes });
        }
    }

    fn tell_health(&mut self) -> Result<(), Fatal> {
        self.tell_trouble()?;
        let now = self.shared.clock.now();
        let recent = |log: &LogId| {
            let as_of = self.replica.as_of(log).unwrap_or_default().saturating_mul(1_000);
            as_of.saturating_add(CERTIFICATE_MILLIS_MAX) >= now.0
        };
        let old = self.shared.manifest.operators().iter().filter(|operator| !recent(&operator.log())).count();
        let view = self.shared.store.view();
        // Scores that are incomplete lag, whatever is marked so far.
        let lag = view.score_lag()?.max(u64::from(!view.has_scores()?));
        let mut health = self.shared.health.write();
        health.old_logs = old;
        for (log, shown) in &mut health.logs {
            shown.size = self.replica.head(log).map_or(0, |head| head.size);
            shown.certified = self.replica.certified(log);
            shown.newest = self.replica.newest(log).map_or(shown.size, |newest| newest.checkpoint().head.size);
            shown.fault = self.replica.fault(log).map(|fault| fault.code());
        }
        if let Some(own) = self.own.as_ref().and_then(|own| health.operators.get_mut(&own.name)) {
            (own.heard, own.connected) = (Some(now), true);
        }
        health.ranking_lag = usize::try_from(lag).unwrap_or(usize::MAX);
        Ok(())
    }
}

/// Refuses an input while a reload is pending: the store must not change. Callers get `not_ready`.
fn refuse(input: InboxInput) {
    let refusal =
        || Refusal { retry_after: Some(2), ..Refusal::new("not_ready", "this node is about to reload its data") };
    // The caller may have given up.
    match input {
        InboxInput::Submit { events, reply } => {
            let _ = reply.send(events.iter().map(|_| SubmitOutcome::Refused(refusal())).collect());
        }
        InboxInput::Stand { reply, .. } => {
            let _ = reply.send(Err(refusal()));
        }
        InboxInput::Redact { reply, .. } => {
            let _ = reply.send(Err(refusal()));
        }
        InboxInput::Agree { reply, .. } => {
            let _ = reply.send(Err(refusal()));
        }
        InboxInput::Manifest { reply, .. } => {
            let _ = reply.map(|reply| reply.send(Err(refusal())));
        }
        _ => {}
    }
}
