//! Manifest versions: receiving, using and adopting them, and the logs and branches that they end.
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::batch::Batch;
use fama_ledger::checkpoint::{self, SignedCheckpoint};
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::event::Action;
use fama_ledger::id::{EventId, ManifestHash};
use fama_ledger::limits;
use fama_ledger::log::{self, Head};
use fama_ledger::manifest::{LogId, Manifest, ManifestError};
use fama_ledger::proof::TlogProof;
use fama_ledger::replica::log_of;
use fama_ledger::time::Millis;
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::{Inbox, InboxCommand, StoredRoots, Submitted};
use crate::health::{Governance, PendingManifest};
use crate::replay::{Fatal, tiles_fault};
use crate::store::{Dropped, View};
use crate::wire::{Gossip, NoteAnswer, Recovered, Refusal, SUBMISSIONS_MAX, SignedHead, Submission};

/// At most this many events of abandoned branches are submitted again at a time.
const RESUBMITTED_MAX: usize = SUBMISSIONS_MAX;
/// Time between two rounds of resubmissions.
const RESUBMIT: Duration = Duration::from_secs(10);

impl Inbox {
    /// Handles manifest versions sent by a peer; an invalid one costs its score.
    pub(super) fn manifests(&mut self, peer: PeerId, texts: &[String]) -> Result<(), Fatal> {
        for text in texts {
            match self.manifest(text)? {
                Ok(()) => {}
                Err(error @ ManifestError::Version { .. }) => {
                    tracing::debug!(%peer, %error, "manifest of another version ignored");
                }
                Err(error) => {
                    tracing::warn!(%peer, %error, "a peer sent an invalid manifest");
                    self.command(InboxCommand::Penalize { peer, code: "wrong_manifest" });
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Handles a text that may be the next version: stored if it is valid, and used once every log that it cuts has
    /// reached its end. Another valid text of a version that is held stops all cosigning.
    pub(super) fn manifest(&mut self, text: &str) -> Result<Result<(), ManifestError>, Fatal> {
        let used = Arc::clone(&self.shared.manifest);
        let next = match used.successor(text) {
            Ok(next) => next,
            Err(ManifestError::Version { found, wanted }) if found == used.version() && found > 1 => {
                return self.rival(text, ManifestError::Version { found, wanted });
            }
            Err(error) => return Ok(Err(error)),
        };
        match self.shared.store.pending() {
            None => self.hold(&next).map(Ok),
            Some(pending) if pending.hash() == next.hash() => Ok(Ok(())),
            Some(_) => {
                self.refused = true;
                self.halt(text).map(Ok)
            }
        }
    }

    /// Handles a text of the version in use: it is known, invalid, or a rival that stops all cosigning.
    fn rival(&mut self, text: &str, error: ManifestError) -> Result<Result<(), ManifestError>, Fatal> {
        let used = Arc::clone(&self.shared.manifest);
        match used.previous().map(|previous| previous.successor(text)) {
            Some(Ok(other)) if other.hash() != used.hash() => self.halt(text).map(Ok),
            Some(Ok(_)) => Ok(Ok(())),
            Some(Err(error)) => Ok(Err(error)),
            None => Ok(Err(error)),
        }
    }

    /// Asks a peer for versions that this node lacks, or for the peer's text of the newest version if it differs.
    pub(super) fn ask_for_manifests(&self, peer: PeerId, theirs: u32, hash: ManifestHash) -> Result<(), Fatal> {
        let store = &self.shared.store;
        let held = store.pending().unwrap_or_else(|| store.manifest());
        let ours = crate::sync::said::manifest_hash(held.hash(), store.view().rival_manifest()?.as_deref());
        let from = held.version().saturating_add(u32::from(theirs != held.version()));
        if !self.reload && (theirs > held.version() || (theirs == held.version() && hash != ours)) {
            self.command(InboxCommand::FetchManifests { peer, from });
        }
        Ok(())
    }

    fn hold(&mut self, next: &Manifest) -> Result<(), Fatal> {
        tracing::info!(version = next.version(), hash = %next.hash(), "a valid new version of the manifest was received");
        self.shared.store.put_manifest(next)?;
        self.replica.end(next.cuts().cloned());
        if self.replica.at_ends() {
            return self.take_up(next);
        }
        self.reload = true;
        Ok(())
    }

    /// Switches to a version whose cut logs have all reached their ends, if these ends match what it states.
    fn take_up(&mut self, next: &Manifest) -> Result<(), Fatal> {
        let view = self.shared.store.view();
        for cut in next.cuts().filter(|cut| cut.head != Head::EMPTY) {
            let record = view.log(&cut.log)?.ok_or(Fatal::Internal("a log at its end has a record"))?;
            let adopted = record.adopted.last().map_or(0, |adopted| adopted.version);
            if record.state.state_root != cut.state_root || adopted != cut.adopted {
                drop(view);
                tracing::error!(log = %cut.log, "the manifest states a different state root or version at this log's end than its entries give: more operators are lying than the federation tolerates, or this program has a bug");
                self.refused = true;
                self.replica.halt();
                return Ok(());
            }
        }
        drop(view);
        self.shared.store.use_manifest(next.version())?;
        tracing::info!(version = next.version(), "the new version of the manifest is in use");
        self.reload = true;
        Ok(())
    }

    /// Switches to the pending version once all copies of the logs that it cuts have reached their ends.
    pub(super) fn follow_manifest(&mut self) -> Result<(), Fatal> {
        let Some(pending) = self.shared.store.pending().cloned() else { return Ok(()) };
        if self.reload || self.refused || !self.replica.at_ends() {
            return Ok(());
        }
        self.take_up(&pending)
    }

    /// Publishes stands, proofs, the pending version and a rival text in the health data.
    pub(super) fn tell_governance(&self) -> Result<(), Fatal> {
        let store = &self.shared.store;
        let view = store.view();
        let mut equivocations = Vec::new();
        for log in self.shared.manifest.logs().keys() {
            equivocations.extend(view.equivocation(log)?);
        }
        let pending = store.pending().map(|pending| {
            let short: Vec<String> = self.replica.short_of_end().map(ToString::to_string).collect();
            PendingManifest {
                version: pending.version(),
                hash: pending.hash(),
                text: pending.note().to_string(),
                waits_for: format!("entries up to the end of {}", short.join(", ")),
            }
        });
        let governance = Governance {
            stands: view.stands()?.into_iter().map(|stand| stand.note).collect(),
            equivocations,
            pending,
            halted: view.rival_manifest()?.into_iter().collect(),
        };
        self.shared.health.write().governance = governance;
        Ok(())
    }

    /// Stores a rival text and stops all cosigning: two texts of one version are valid, and the operators must choose.
    fn halt(&mut self, text: &str) -> Result<(), Fatal> {
        self.shared.store.put_rival_manifest(text)?;
        self.say_halted();
        self.tell_governance()
    }

    pub(super) fn say_halted(&mut self) {
        if !self.halted {
            self.shared.metrics.fault("manifests_conflict");
        }
        self.halted = true;
        self.replica.halt();
        tracing::error!(
            "this node has two valid texts of one manifest version: it accepts and cosigns nothing until the operators \
             choose one and the next version follows it; see /api/federation"
        );
    }

    /// Adopts the next version in the own log, if this node may write.
    pub(super) fn adopt(&mut self) -> Result<(), Fatal> {
        let Some(log) = self.own.as_ref().and_then(|own| own.log.clone()) else { return Ok(()) };
        let Some(size) = self.copies.get(&log).map(|copy| copy.tree.size()) else { return Ok(()) };
        if !self.replica.may_adopt() || self.reload || self.may_write().is_err() {
            return Ok(());
        }
        let (store, manifest) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.manifest));
        let view = store.view();
        let mut batch = Batch::begin(&manifest, &log, &view, size).map_err(|error| Fatal::rows(&log, error))?;
        let Some(next) = batch.next_version() else { return Ok(()) };
        let adopted = batch.adopt(next.version(), next.hash(), self.shared.clock.now());
        let entry = adopted.map_err(|_| Fatal::Internal("a log adopts the version that comes next"))?;
        self.write(&store, batch, (vec![entry], vec![None]), &[])
    }

    /// Signs a binding stand: what this operator has cosigned in a log that is to be cut. Until the next version is in
    /// use, this node cosigns nothing more there, and accepts no events if the log is its own.
    pub(super) fn stand(&mut self, log: &LogId) -> Result<Result<String, Refusal>, Fatal> {
        let Some((by, key)) = self.own.as_ref().and_then(|own| own.keys.last()) else {
            return Ok(Err(Refusal::new("no_log", "this node does not belong to an operator")));
        };
        let version = self.shared.manifest.version().saturating_add(1);
        let known = self.shared.store.view().stands()?.into_iter();
        if let Some(stand) = known.into_iter().find(|stand| stand.log == *log && stand.version == version) {
            return Ok(Ok(stand.note));
        }
        if self.shared.manifest.log(log).is_none_or(|known| known.cut.is_some()) {
            return Ok(Err(Refusal::new("unknown_log", format!("there is no active log {log}"))));
        }
        if !self.replica.is_open() {
            return Ok(Err(Refusal::new(
                "not_ready",
                "this node has not yet asked its peers what it cosigned: try again soon",
            )));
        }
        let head = self.replica.own_cosigned(log).unwrap_or(Head::EMPTY);
        let stand = fama_ledger::stand::Stand {
            federation: self.shared.manifest.federation(),
            version,
            log: log.clone(),
            operator: by.operator.clone(),
            head,
        };
        let note = stand.sign(key).to_string();
        self.shared.store.put_stand(&crate::store::StoredStand { version, log: log.clone(), note: note.clone() })?;
        self.replica.stand(log);
        self.tell_governance()?;
        tracing::warn!(%log, version, "this node signed a stand: it cosigns nothing more in this log until the next version of the manifest is in use");
        Ok(Ok(note))
    }

    /// Stores a head on an owner's second branch. If it proves the equivocation, stores and publishes the proof too.
    pub(super) fn keep_conflicting(
        &mut self,
        signed: &SignedCheckpoint,
        beside: Option<&SignedCheckpoint>,
    ) -> Result<(), Fatal> {
        let log = log_of(signed);
        self.shared.store.put_conflicting(&log, &SignedHead::of(signed))?;
        let Some(beside) = beside else { return Ok(()) };
        let (smaller, larger) = (signed.checkpoint().head, beside.checkpoint().head);
        let (mut root, mut proof) = (larger.root, Vec::new());
        if larger.size > smaller.size {
            let store = Arc::clone(&self.shared.store);
            let view = store.view();
            let tiles = view.tiles(&log);
            root = log::root_at(smaller.size, &tiles).map_err(|error| tiles_fault(&log, error))?;
            proof =
                log::prove_consistency(smaller.size, larger.size, &tiles).map_err(|error| tiles_fault(&log, error))?;
        }
        let proof = Equivocation {
            log,
            larger: (larger, *beside.signature()),
            smaller: (smaller, *signed.signature()),
            root,
            proof,
        };
        if proof.verify(&self.shared.manifest).is_ok() {
            self.shared.store.put_equivocation(&proof)?;
            self.command(InboxCommand::Publish(Gossip::Equivocation(proof)));
        }
        self.tell_governance()
    }

    /// Stores a verified proof of equivocation and marks the log as faulty.
    pub(super) fn proven(&mut self, proof: &Equivocation) -> Result<(), Fatal> {
        let log = proof.log.clone();
        if self.shared.store.view().equivocation(&log)?.is_none() {
            self.shared.store.put_equivocation(proof)?;
            self.tell_governance()?;
        }
        let outputs = self.replica.proven(&log);
        self.perform(outputs)
    }

    /// Abandons a branch: deletes the log's entries from index `size` on, keeps their events aside, and reloads.
    pub(super) fn rewind(&mut self, log: &LogId, size: u64) -> Result<(), Fatal> {
        tracing::error!(%log, size, "this copy is on an abandoned branch: it is rolled back and fetched again");
        let dropped = self.suffix(log, size)?;
        self.shared.store.rewind(log, size, &dropped)?;
        self.reload = true;
        Ok(())
    }

    /// The entries with events from index `from` on, each with a proof to a head signed by the owner if one is known.
    fn suffix(&self, log: &LogId, from: u64) -> Result<Vec<(EventId, Dropped)>, Fatal> {
        let store = &self.shared.store;
        let view = store.view();
        let size = view.log(log)?.map_or(0, |record| record.state.size);
        let signed = self.replica.signed_on_branch(log, &StoredRoots(store))?;
        let owner = self.shared.manifest.log(log).ok_or(Fatal::Internal("a log of the manifest is known"))?.node_key;
        let tiles = view.tiles(log);
        let mut found = Vec::new();
        for index in from..size {
            let Some(entry) = view.entries(log, index, 1, limits::ENTRY_BYTES_MAX)?.pop() else { break };
            let Some(id) = fama_ledger::entry::event_id(&entry) else { continue };
            let proof = match signed.as_ref().filter(|signed| index < signed.checkpoint().head.size) {
                None => None,
                Some(signed) => {
                    let path = log::prove_inclusion(index, signed.checkpoint().head.size, &tiles)
                        .map_err(|error| tiles_fault(log, error))?;
                    Some(
                        TlogProof { extra: None, index, path, checkpoint: checkpoint::note(signed, &owner, &[]) }
                            .to_string(),
                    )
                }
            };
            found.push((id, Dropped { log: log.clone(), entry, proof }));
        }
        Ok(found)
    }

    /// Submits events of abandoned branches again, some at a time. Revocations go into the own log at once, if there
    /// is one; other events go to their homes once their log is cut.
    pub(super) fn resubmit(&mut self) -> Result<(), Fatal> {
        let writes = self.own.as_ref().is_some_and(|own| own.log.is_some());
        let waits = writes && self.replica.may_write(self.millis()).is_err();
        if waits || self.resubmit_due > self.now() {
            return Ok(());
        }
        self.resubmit_due = self.now() + RESUBMIT;
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        let (mut gone, mut claims, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let found = view.dropped(self.resubmit_from, RESUBMITTED_MAX)?;
        let more = found.last().filter(|_| found.len() == RESUBMITTED_MAX);
        self.resubmit_from = more.map_or(EventId([0; 32]), |(last, _)| *last);
        for (id, dropped) in found {
            let applied = view.positions(&id)?.iter().any(|position| position.void.is_none());
            let verified = VerifiedEntry::decode(dropped.entry.clone(), &self.shared.manifest.federation()).ok();
            let event = verified.as_ref().and_then(VerifiedEntry::event).filter(|_| !applied);
            match event {
                None => gone.push(id),
                Some(event) if self.is_too_old(event.event().created) => gone.push(id),
                Some(event) if writes && matches!(event.event().action, Action::Revoke { .. }) => {
                    claims.push(Submitted { event: event.clone(), note: None, recovered: true });
                }
                Some(event) if self.shared.manifest.cut(&dropped.log).is_some() => {
                    others.push(self.submission(&view, event, dropped)?);
                }
                Some(_) => {}
            }
        }
        drop(view);
        if !claims.is_empty() {
            let now = self.now();
            self.waiting.push(claims, oneshot::channel().0, now);
        }
        if !others.is_empty() {
            self.command(InboxCommand::Resubmit(others));
        }
        if gone.is_empty() { Ok(()) } else { Ok(store.forget_dropped(&gone)?) }
    }

    fn is_too_old(&self, created: Millis) -> bool {
        created.plus(self.shared.manifest.policy().max_age_ms) < self.shared.clock.now()
    }

    fn submission(&self, view: &View<'_>, event: &VerifiedEvent, dropped: Dropped) -> Result<Submission, Fatal> {
        let note = match event.event().action.note() {
            Some(hash) => view.note(&hash)?,
            None => None,
        };
        let note = note.and_then(|note| match note {
            NoteAnswer::Text(text) => Some(text),
            NoteAnswer::Redacted => None,
        });
        let recovered = dropped.proof.map(|proof| Recovered { entry: dropped.entry, proof });
        Ok(Submission { signed: event.signed().clone(), note, invite: None, recovered })
    }
}
