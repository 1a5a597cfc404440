//! Manifest versions: receiving, using and adopting them, and the logs and branches that they end.
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::batch::Batch;
use fama_ledger::checkpoint::SignedCheckpoint;
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::event::Action;
use fama_ledger::id::{EventId, ManifestHash};
use fama_ledger::limits;
use fama_ledger::log::{self, Head};
use fama_ledger::manifest::{LogId, Manifest, ManifestError, VersionState};
use fama_ledger::replica::log_of;
use fama_ledger::signed_note::SignedNote;
use fama_ledger::time::Millis;
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::{Inbox, InboxCommand, Submitted};
use crate::health::{Governance, PendingManifest};
use crate::replay::{Fatal, tiles_fault};
use crate::store::{Dropped, StoredStand, View};
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
                Err(error @ (ManifestError::Version { .. } | ManifestError::Protocol { .. })) => {
                    tracing::debug!(%peer, %error, "manifest of another version or protocol not taken up");
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "a peer sent an invalid manifest");
                    self.command(InboxCommand::Penalize { peer, code: "wrong_manifest" });
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Handles a text that may be the next version: stored if it is valid, and used once every log that it cuts has
    /// reached its end, and every other has adopted the version in use. Another valid text of a version that is held
    /// stops all cosigning.
    pub(super) fn manifest(&mut self, text: &str) -> Result<Result<(), ManifestError>, Fatal> {
        let used = Arc::clone(&self.shared.manifest);
        let next = match used.successor(text) {
            Ok(next) => next,
            Err(ManifestError::Version { found, wanted }) if found == used.version() && found > 1 => {
                return self.rival(text, ManifestError::Version { found, wanted });
            }
            Err(ManifestError::Version { found, wanted }) if found == wanted.saturating_add(1) => {
                return self.passed(text, ManifestError::Version { found, wanted });
            }
            Err(error @ ManifestError::Protocol { version, .. }) => {
                self.keep_later(text, version)?;
                return Ok(Err(error));
            }
            Err(error) => return Ok(Err(error)),
        };
        match self.shared.store.pending() {
            None => self.hold(&next).map(Ok),
            Some(pending) if pending.hash() == next.hash() => Ok(Ok(())),
            Some(_) => self.conflict(text, next.version()).map(Ok),
        }
    }

    /// Handles a text of the version after the pending one. If it is valid, others are past the pending version, and
    /// this node waits for no adoptions before it: peers no longer pass on logs that the later version cuts.
    fn passed(&mut self, text: &str, error: ManifestError) -> Result<Result<(), ManifestError>, Fatal> {
        let Some(pending) = self.shared.store.pending() else { return Ok(Err(error)) };
        if !self.is_passed {
            match pending.successor(text) {
                Ok(_) => self.is_passed = true,
                // It follows another text of the pending version: not the fault of who passed it on.
                Err(ManifestError::Previous { .. }) => return Ok(Err(error)),
                Err(error) => return Ok(Err(error)),
            }
        }
        // Not kept: peers are asked for it again once the pending version is in use.
        self.follow_manifest().map(Ok)
    }

    /// Keeps the next version, which a quorum signed for a newer program: that program takes it up when it starts here.
    /// Until then this node continues with the version that it knows, as if it had not seen the text.
    fn keep_later(&mut self, text: &str, version: u32) -> Result<(), Fatal> {
        if self.shared.store.pending().is_some() || self.later.is_some() {
            return Ok(());
        }
        self.shared.store.put_later_manifest(version, text)?;
        self.note_later(text);
        self.tell_governance()
    }

    /// Says that only a newer program can read the next version.
    pub(super) fn note_later(&mut self, text: &str) {
        let Err(error @ ManifestError::Protocol { version, protocol }) = self.shared.manifest.successor(text) else {
            return;
        };
        tracing::error!(version, protocol, %error, "the next version of the manifest needs a newer release of this program: update it; this node cannot follow logs that adopt that version");
        let note = SignedNote::parse(text.as_bytes(), limits::MANIFEST_BYTES_MAX).map(|note| note.text);
        let hash = ManifestHash(*blake3::hash(note.unwrap_or_default().as_bytes()).as_bytes());
        let waits_for = format!("a newer release of this program, which knows protocol {protocol}");
        self.later = Some(PendingManifest { version, hash, text: text.to_owned(), waits_for });
    }

    /// Handles a text of the version in use: it is known, invalid, or a rival that stops all cosigning.
    fn rival(&mut self, text: &str, error: ManifestError) -> Result<Result<(), ManifestError>, Fatal> {
        let used = Arc::clone(&self.shared.manifest);
        match used.previous().map(|previous| previous.successor(text)) {
            Some(Ok(other)) if other.hash() != used.hash() => self.conflict(text, used.version()).map(Ok),
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
        // It is here already, and nothing after it can be checked without it.
        if self.later.as_ref().is_some_and(|later| theirs >= later.version) {
            return Ok(());
        }
        if !self.reload && (theirs > held.version() || (theirs == held.version() && hash != ours)) {
            self.command(InboxCommand::FetchManifests { peer, from });
        }
        Ok(())
    }

    fn hold(&mut self, next: &Manifest) -> Result<(), Fatal> {
        tracing::info!(version = next.version(), hash = %next.hash(), "a valid new version of the manifest was received");
        // Synced before anything acts on it. After a crash the start finds the version pending and continues below.
        self.shared.store.put_manifest(next)?;
        self.next_state = Some(VersionState::Pending);
        // From here on nothing is cosigned beyond the end of a log that the version cuts.
        self.replica.end(next.cuts().cloned());
        if self.replica.at_ends() && self.has_adoptions(next) {
            return self.take_up(next);
        }
        self.reload = true;
        Ok(())
    }

    /// Whether the logs that continue have adopted the version in use, so that the next may be taken up.
    fn has_adoptions(&self, next: &Manifest) -> bool {
        self.is_passed || self.replica.behind(next).next().is_none()
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
                self.next_state = Some(VersionState::Refused);
                self.replica.halt();
                return Ok(());
            }
        }
        drop(view);
        // One synced write switches the version and deletes the stands and the rival text that it settles. A crash
        // before it: still pending, and `follow_manifest` comes here again. After it: the start uses the new version.
        self.shared.store.use_manifest(next.version())?;
        tracing::info!(version = next.version(), "the new version of the manifest is in use");
        self.reload = true;
        Ok(())
    }

    /// Switches to the pending version once all copies of the logs that it cuts have reached their ends, and those of
    /// all others have a certified adoption of the version in use.
    pub(super) fn follow_manifest(&mut self) -> Result<(), Fatal> {
        let Some(pending) = self.shared.store.pending().cloned() else { return Ok(()) };
        let usable = self.next_state.is_none_or(VersionState::may_be_used);
        if self.reload || !usable {
            return Ok(());
        }
        if !self.replica.at_ends() || !self.has_adoptions(&pending) {
            let waits_for = self.waits_for(&pending);
            if let Some(shown) = self.shared.health.write().governance.pending.as_mut() {
                shown.waits_for = waits_for;
            }
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
        let pending = store.pending().map(|pending| PendingManifest {
            version: pending.version(),
            hash: pending.hash(),
            text: pending.note().to_string(),
            waits_for: self.waits_for(pending),
        });
        let pending = pending.or_else(|| self.later.clone());
        let governance = Governance {
            stands: view.stands()?.into_iter().map(|stand| stand.note).collect(),
            equivocations,
            pending,
            halted: view.rival_manifest()?.into_iter().collect(),
        };
        self.shared.health.write().governance = governance;
        Ok(())
    }

    /// What the pending version waits for.
    fn waits_for(&self, pending: &Manifest) -> String {
        let list = |logs: Vec<&LogId>| logs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let short: Vec<&LogId> = self.replica.short_of_end().collect();
        match short.is_empty() {
            false => format!("entries up to the end of {}", list(short)),
            true => {
                let (version, behind) = (self.shared.manifest.version(), self.replica.behind(pending).collect());
                format!("certified adoptions of version {version} in {}", list(behind))
            }
        }
    }

    /// Keeps a second valid text of a version and stops cosigning: operators must choose.
    fn conflict(&mut self, text: &str, version: u32) -> Result<(), Fatal> {
        // Synced first: after a crash in between, `restore_manifests` reads the rival text and halts again.
        self.shared.store.put_rival_manifest(text)?;
        self.note_conflict(version);
        self.tell_governance()
    }

    /// Stops cosigning over a second valid text of `version`, which is the one in use or the next.
    pub(super) fn note_conflict(&mut self, version: u32) {
        let conflict = VersionState::Conflict;
        if self.used_state != conflict && self.next_state != Some(conflict) {
            self.shared.metrics.fault("manifests_conflict");
        }
        if version == self.shared.manifest.version() {
            self.used_state = conflict;
        } else {
            self.next_state = Some(conflict);
        }
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
        let (now, from) = (self.shared.clock.now(), batch.adopts_from(next).map_err(|error| Fatal::rows(&log, error))?);
        // Nobody would cosign an entry so far ahead. Within the bound the entry gets the time at which it may be.
        if from > now.plus(limits::HEAD_SKEW_MILLIS_MAX) {
            return Ok(());
        }
        let adopted = batch.adopt(next.version(), next.hash(), now);
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
        // Durable, in two files, before the note leaves: it binds this operator whatever happens to this process. After
        // a crash here the start freezes the log again, and the next request gets the same note.
        let stored = StoredStand { version, log: log.clone(), note: note.clone(), agreed: false };
        self.shared.store.put_stand(&stored)?;
        // No cosignature slips in between: this thread makes them all.
        self.replica.stand(log);
        self.tell_governance()?;
        tracing::warn!(%log, version, "this node signed a stand: it cosigns nothing more in this log until the next version of the manifest is in use");
        Ok(Ok(note))
    }

    /// This operator is about to approve a text of the next version: in the logs that it cuts, this node renews no
    /// cosignature any more until that version is in use. So a cosignature that is newer than a valid cut does not
    /// exist in a quorum. A log where the node does not stand still yet is frozen too.
    pub(super) fn agree(&mut self, text: String) -> Result<Result<(), Refusal>, Fatal> {
        let next = match self.shared.manifest.unsigned_successor(SignedNote { text, signatures: Vec::new() }) {
            Ok(next) => next,
            Err(error) => return Ok(Err(Refusal::new(error.code(), error))),
        };
        for cut in next.cuts() {
            if let Err(refusal) = self.stand(&cut.log)? {
                return Ok(Err(refusal));
            }
        }
        let stands = self.shared.store.view().stands()?.into_iter();
        let cut = |stand: &StoredStand| stand.version == next.version() && next.cut(&stand.log).is_some();
        for stand in stands.filter(cut) {
            // Durable before anybody hears of the approval: after a crash the start ends the renewals again.
            self.shared.store.put_stand(&StoredStand { agreed: true, ..stand.clone() })?;
            self.replica.agree(&stand.log);
        }
        Ok(Ok(()))
    }

    /// Stores a head on an owner's second branch. If it proves the equivocation, stores and publishes the proof too.
    pub(super) fn keep_conflicting(
        &mut self,
        signed: &SignedCheckpoint,
        beside: Option<&SignedCheckpoint>,
    ) -> Result<(), Fatal> {
        let log = log_of(signed);
        // Synced first. After a crash the start finds this head and stops cosigning the log (`restore_fault`), with or
        // without the proof that follows.
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
            // Durable before it is gossiped, so that this node can always show what it accused the owner of.
            self.shared.store.put_equivocation(&proof)?;
            self.command(InboxCommand::Publish(Gossip::Equivocation(proof)));
        }
        self.tell_governance()
    }

    /// Stores a verified proof of equivocation and marks the log as faulty.
    pub(super) fn proven(&mut self, proof: &Equivocation) -> Result<(), Fatal> {
        let log = proof.log.clone();
        if self.shared.store.view().equivocation(&log)?.is_none() {
            // Durable before it takes effect: the start proves the fault again from disk.
            self.shared.store.put_equivocation(proof)?;
            self.tell_governance()?;
        }
        let outputs = self.replica.proven(&log);
        self.perform(outputs)
    }

    /// Submits events of abandoned branches again, some at a time. Revocations go into the own log at once, if there
    /// is one; other events go to their homes once their log is cut.
    pub(super) fn resubmit(&mut self) -> Result<(), Fatal> {
        let writes = self.own.as_ref().is_some_and(|own| own.log.is_some());
        // A log that goes back may apply some of them again.
        let waits = self.rollback.is_some() || (writes && self.replica.may_write(self.millis()).is_err());
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
            let taken = verified.as_ref().map_or(Millis(0), |entry| entry.time);
            match event {
                None => gone.push(id),
                Some(event) if self.is_too_old(event, taken) => gone.push(id),
                Some(event) if writes && matches!(event.event().action, Action::Revoke { .. }) => {
                    claims.push(Submitted { event: event.clone(), note: None, recovered: false, forwarder: None });
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
        // Forgotten only once an entry with the event is applied, or nobody may take it any more. A crash at any moment
        // before that repeats a submission, which finds the event in the log; it never loses one.
        if gone.is_empty() { Ok(()) } else { Ok(store.forget_dropped(&gone)?) }
    }

    /// Whether no log takes the event any more, or, if it is a revocation, which logs take at any age, whether it has
    /// been submitted again for long enough since a log took it at `taken`.
    fn is_too_old(&self, event: &VerifiedEvent, taken: Millis) -> bool {
        let event = event.event();
        let since = if matches!(event.action, Action::Revoke { .. }) { taken } else { event.created };
        since.plus(self.shared.manifest.policy().max_age_ms) < self.shared.clock.now()
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
