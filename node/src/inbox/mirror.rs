//! Entries of other logs: authenticates them against a signed head, replays them and makes them durable.
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use fama_ledger::batch::Folded;
use fama_ledger::checkpoint::SignedCheckpoint;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::Action;
use fama_ledger::fold::Effect;
use fama_ledger::id::{EventId, IdentityId, NoteHash};
use fama_ledger::join::{Join, Revoked};
use fama_ledger::limits;
use fama_ledger::log::{self, Head, Tree};
use fama_ledger::manifest::LogId;
use fama_ledger::replica::{FetchFailure, OtherSession, log_of};
use fama_ledger::rows::{Claim, Identity, MapId, MapName, Row as _, Rows as _, row_key};
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::input::note_of;
use super::lateness::before_ahead;
use super::{DecodedRange, Inbox, InboxCommand, StoredRoots, Submitted};
use crate::certified::Write;
use crate::metrics::Direction;
use crate::replay::{self, Fatal, ReplayStop, ReplayedBatch, adopted, batches};
use crate::shared::Shared;
use crate::sync::heard::HeardFrontier;
use crate::wire::{self, Session, SignedHead};

impl Inbox {
    /// Passes a peer's frontier to the replica, and asks the peer for manifest versions that this node lacks.
    pub(super) fn frontier(&mut self, peer: PeerId, said: HeardFrontier, ahead: i64) -> Result<(), Fatal> {
        let other = |session: Session| if session.writes { OtherSession::Writes } else { OtherSession::Starting };
        self.replica.told_of_session(peer, said.other.map(other));
        self.ask_for_manifests(peer, said.manifest, said.manifest_hash)?;
        for proof in said.equivocations {
            self.proven(&proof)?;
        }
        let logs = said.logs;
        let sizes: Vec<_> = logs.iter().map(|said| (said.log.clone(), said.size)).collect();
        let outputs = self.replica.frontier(peer, ahead, logs, self.millis(), &StoredRoots(&self.shared.store))?;
        self.perform(outputs)?;
        self.heard_operator(peer, &sizes)
    }

    /// Handles a gossiped head. Its entries are taken at once if they continue the copy, else they are fetched. The
    /// peer that forwarded them is not at fault: it cannot know whether they continue this copy.
    pub(super) fn gossiped(
        &mut self,
        peer: PeerId,
        signed: SignedCheckpoint,
        range: Option<DecodedRange>,
    ) -> Result<(), Fatal> {
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        let own = self.own.as_ref().is_some_and(|own| own.log.as_ref() == Some(&log));
        let follows = self.replica.fault(&log).is_none() && !self.replica.ends(&log);
        let copy = self.copies.get(&log).filter(|_| !own && follows);
        let range = range.filter(|range| copy.is_some_and(|copy| range.leads(copy.tree.clone(), head)));
        if let Some(range) = range.filter(|range| range.ends_at(head)) {
            // A gossiped head, unlike one that was asked for, may be new to the disk.
            self.keep_first(&log, &signed)?;
            self.take_range(peer, &log, true, range)?;
        }
        let outputs = self.replica.checkpoint(signed, self.millis(), &StoredRoots(&self.shared.store))?;
        self.perform(outputs)
    }

    /// Stores a head before the entries below it. Otherwise a crash between the two could leave entries that no
    /// head of the owner covers, and this node could serve them to nobody, not even to an owner that lost them.
    fn keep_first(&self, log: &LogId, signed: &SignedCheckpoint) -> Result<(), Fatal> {
        let known = self.replica.newest(log).map_or(0, |newest| newest.checkpoint().head.size);
        if signed.checkpoint().head.size > known {
            self.shared.store.put_newest(log, &SignedHead::of(signed))?;
        }
        Ok(())
    }

    /// Handles fetched entries: they must continue the copy and lead to the requested head.
    pub(super) fn range(&mut self, peer: PeerId, log: &LogId, head: Head, range: DecodedRange) -> Result<(), Fatal> {
        let Some(copy) = self.copies.get(log) else { return Ok(()) };
        if copy.tree.size() != range.first {
            return self.failed(peer, log, FetchFailure::Late);
        }
        if !range.leads(copy.tree.clone(), head) {
            return self.wrong(peer, log, "wrong_range");
        }
        self.take_range(peer, log, range.ends_at(head), range)
    }

    fn failed(&mut self, peer: PeerId, log: &LogId, failure: FetchFailure) -> Result<(), Fatal> {
        let outputs = self.replica.fetch_failed(peer, log, failure, self.millis());
        self.perform(outputs)
    }

    fn wrong(&mut self, peer: PeerId, log: &LogId, code: &'static str) -> Result<(), Fatal> {
        tracing::debug!(%peer, %log, code, "range refused");
        self.command(InboxCommand::Penalize { peer, code });
        self.failed(peer, log, FetchFailure::Wrong)
    }

    /// Takes entries that lead to a head signed by the owner. Their content is the owner's responsibility. Where the
    /// range ends is the peer's, unless it ends at the head itself.
    fn take_range(&mut self, peer: PeerId, log: &LogId, at_head: bool, range: DecodedRange) -> Result<(), Fatal> {
        let bytes: usize = range.entries.iter().map(|entry| entry.bytes().len()).sum();
        let (mut batches, rest) = batches(range.entries);
        if let Some(error) = &range.fault {
            tracing::error!(%log, code = error.code(), %error, "invalid entry");
        }
        let endless = rest.len() > limits::BATCH_ENTRIES_MAX || (at_head && !rest.is_empty());
        if endless {
            tracing::error!(%log, "a batch has no state entry");
        }
        let invalid = range.fault.is_some() || endless;
        if batches.is_empty() && !invalid {
            return self.wrong(peer, log, "cut_range");
        }
        // Before anything is folded or stored: an owner must not fill future days.
        let ahead = before_ahead(&mut batches, self.shared.clock.now());
        // Tree and maps run ahead of the disk from here to `commit`; if that fails, the node stops, and the next start
        // loads both from disk. Batches after the first that is refused were not replayed.
        let (done, stop) = self.replay(log, batches)?;
        self.keep(peer, log, &done, &range.notes)?;
        self.shared.metrics.range(Direction::In, bytes as u64);
        match stop {
            Some(ReplayStop::Unheld(_)) => self.failed(peer, log, FetchFailure::Unheld),
            Some(ReplayStop::Invalid(_)) => self.failed(peer, log, FetchFailure::Invalid),
            None if ahead => {
                tracing::warn!(%log, "entries are more than a minute ahead of this node's clock; they are fetched again later");
                self.failed(peer, log, FetchFailure::Ahead)
            }
            None if invalid => self.failed(peer, log, FetchFailure::Invalid),
            None => Ok(()),
        }
    }

    /// Replays whole batches, up to the first that is invalid or adopts a version that is not in use.
    fn replay(
        &mut self,
        log: &LogId,
        batches: Vec<Vec<VerifiedEntry>>,
    ) -> Result<(Vec<ReplayedBatch>, Option<ReplayStop>), Fatal> {
        let (store, manifest) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.manifest));
        let view = store.view();
        let Some(copy) = self.copies.get_mut(log) else { return Ok((Vec::new(), None)) };
        let (done, stop) = replay::replay(&manifest, log, &view, copy, batches)?;
        match &stop {
            Some(ReplayStop::Invalid(error)) => tracing::error!(%log, code = error.code(), %error, "invalid batch"),
            Some(ReplayStop::Unheld(version)) => {
                tracing::info!(%log, version, "a log adopts a manifest version that this node does not use yet");
            }
            None => {}
        }
        Ok((done, stop))
    }

    /// Makes replayed batches durable in one write, then visible.
    fn keep(
        &mut self,
        peer: PeerId,
        log: &LogId,
        done: &[ReplayedBatch],
        notes: &[(NoteHash, String)],
    ) -> Result<(), Fatal> {
        let Some(last) = done.last() else { return Ok(()) };
        let lateness = self.mark_late(log, done);
        let (head, Shared { certified, store, .. }) = (last.state.head(), &self.shared);
        // In memory only, as in `Inbox::write`: kept before the write can be seen.
        let folded = done.iter().map(|done| &done.replayed.folded);
        let writes = folded.map(|Folded { changes, read, nodes, .. }| Write { changes, read, nodes });
        certified.before(log, writes, &store.view())?;
        let states =
            done.iter().map(|done| Self::open_statements(&self.shared, log, done.first, &done.replayed.outcomes));
        let states = states.fold(false, |any, states| any | states);
        // One atomic, synced write of whole batches. A crash before or within it leaves the smaller copy, and the
        // entries are fetched again. After it the owner's head above them is on disk already: see `keep_first`.
        store.commit_with(&replay::commits(done, notes), lateness.as_ref().map(|lateness| (log, lateness)))?;
        if let Some(maps) = self.copies.get_mut(log).and_then(|copy| copy.maps.as_mut()) {
            maps.trim(self.shared.store.nodes_max());
            certified.after(log, head.size, maps);
        }
        if states {
            self.stated();
        }
        let adopted = done.iter().flat_map(|done| adopted(&done.entries, done.state.size)).collect();
        // This may cosign. A cosignature vouches for entries that this node can serve, so it comes after they are
        // durable; it is itself synced before it leaves (`Store::put_cosigned`).
        let outputs = self.replica.advanced(log, head, adopted, self.millis(), &StoredRoots(&self.shared.store))?;
        self.perform(outputs)?;
        // A request that a crash loses is made again: `commit` recorded the notes that are missing.
        self.want_notes(peer, named_notes(done, notes));
        // The submissions wait in memory. A crash loses them, and the next start scans all claims (`claims_due`).
        self.take_over(&claimed(done))
    }

    /// Copies claims into the own log that other logs recorded while this node did not write.
    pub(super) fn take_over_missed(&mut self) -> Result<(), Fatal> {
        if !self.claims_due || !self.takes_claims()? {
            return Ok(());
        }
        // Cleared before the scan: the submissions below wait in memory no longer than this process lives, and a start
        // sets it again.
        self.claims_due = false;
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        let own = self.own.as_ref().and_then(|own| own.log.as_ref());
        let homes = self.shared.manifest.homes().iter().filter(|(_, log)| Some(*log) == own);
        let homes: Vec<MapId> = homes.map(|(home, _)| MapName::home(home).id()).collect();
        let (mut claimed, mut broken) = (BTreeSet::new(), Ok(()));
        for operator in self.shared.manifest.records().keys() {
            view.scan(MapName::claims(operator).id(), &[Claim::TAG], &mut |key, _| {
                let Some(id) = key.get(1..33).and_then(|id| id.try_into().ok()).map(EventId) else {
                    return ControlFlow::Continue(());
                };
                // A liar's log may have any number of claims against identities that it invented: they are not kept.
                for home in &homes {
                    match view.get(*home, &row_key::<Identity>(&id)) {
                        Ok(Some(_)) => drop(claimed.insert(id)),
                        Ok(None) => {}
                        Err(error) => {
                            broken = Err(error);
                            return ControlFlow::Break(());
                        }
                    }
                }
                ControlFlow::Continue(())
            })?;
        }
        broken?;
        self.take_over(&claimed)
    }

    /// Whether the own log accepts revocations now.
    fn takes_claims(&mut self) -> Result<bool, Fatal> {
        Ok(self.replica.has_adopted() && self.may_write().is_ok() && self.takes_revocations()?)
    }

    /// Copies valid revocations that other logs recorded into the own log, if it has their home.
    fn take_over(&mut self, claimed: &BTreeSet<IdentityId>) -> Result<(), Fatal> {
        if self.own.is_none() || claimed.is_empty() {
            return Ok(());
        }
        if !self.takes_claims()? {
            self.claims_due = true;
            return Ok(());
        }
        let mut events = Vec::new();
        for identity in claimed {
            events.extend(self.claim_of(*identity)?);
        }
        if !events.is_empty() {
            // Nobody waits for the answer: if the home refuses the claim, it stays valid in the other log.
            self.waiting.push(events, oneshot::channel().0, self.shared.clock.monotonic());
        }
        Ok(())
    }

    /// The revocation of a current key that another log recorded, for an identity whose home is in the own log and does
    /// not have it yet.
    fn claim_of(&self, identity: IdentityId) -> Result<Option<Submitted>, Fatal> {
        let (manifest, view) = (&self.shared.manifest, self.shared.store.view());
        let join = Join::new(manifest, &view);
        let found = join.identity(identity).map_err(|error| self.join_fault(error))?;
        let own = self.own.as_ref().and_then(|own| own.log.as_ref());
        let Some(found) = found.filter(|found| manifest.homes().get(&found.home) == own) else { return Ok(None) };
        let status = join.key_status(&found).map_err(|error| self.join_fault(error))?;
        let Some(Revoked { operator: Some(operator), place: Some((generation, index)), .. }) = status.revoked else {
            return Ok(None);
        };
        let log = LogId { operator, generation };
        let entry = view.entry(&log, index)?;
        let entry = entry.and_then(|entry| VerifiedEntry::decode(entry, &manifest.federation()).ok());
        let event = entry.and_then(|entry| entry.event().cloned());
        let event = event.ok_or_else(|| Fatal::Damaged { log, what: format!("entry {index} is not a claim") })?;
        Ok(Some(Submitted { event, note: None, recovered: false, forwarder: None }))
    }
}

/// Identities against whose keys these batches record claims.
fn claimed(done: &[ReplayedBatch]) -> BTreeSet<IdentityId> {
    let outcomes = done.iter().flat_map(|done| done.entries.iter().zip(&done.replayed.outcomes));
    let claims = outcomes.filter_map(|(entry, outcome)| {
        let Action::Revoke { identity, .. } = &entry.event()?.event().action else { return None };
        matches!(outcome, Some(Ok(Effect::Claimed { .. }))).then_some(*identity)
    });
    claims.collect()
}

/// The notes that these entries name, without those that came along.
fn named_notes(done: &[ReplayedBatch], held: &[(NoteHash, String)]) -> Vec<NoteHash> {
    let held: BTreeSet<NoteHash> = held.iter().map(|(hash, _)| *hash).collect();
    let named = done.iter().flat_map(|done| &done.entries).filter_map(note_of);
    named.filter(|hash| !held.contains(hash)).take(wire::NOTES_MAX).collect()
}

impl DecodedRange {
    /// Whether the range continues the copy and leads to the signed head or to a smaller size on its branch.
    fn leads(&self, mut tree: Tree, head: Head) -> bool {
        if self.leaves.is_empty() || self.first != tree.size() {
            return false;
        }
        tree.append(self.leaves.iter().copied());
        log::verify_consistency(&tree.head(), &head, &self.proof).is_ok()
    }

    /// Whether the range ends exactly at `head`.
    fn ends_at(&self, head: Head) -> bool {
        self.first.checked_add(self.leaves.len() as u64) == Some(head.size)
    }
}
