//! Foreign entries: authenticated against a signed head, replayed, made durable.
use std::sync::Arc;

use fama_ledger::batch;
use fama_ledger::checkpoint::SignedCheckpoint;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::event::Action;
use fama_ledger::fold::{Effect, Outcome};
use fama_ledger::id::NoteHash;
use fama_ledger::join::{Join, LogState};
use fama_ledger::log::{self, Head, Tree};
use fama_ledger::manifest::LogId;
use fama_ledger::replica::PeerLog;
use fama_ledger::rows::Overlay;
use libp2p::PeerId;
use tokio::sync::oneshot;

use super::{Command, DecodedRange, Fatal, Inbox, StoredRoots, Submitted, replay_fault, verify_cosigned};
use crate::clock;
use crate::metrics::Direction;
use crate::network::wire::{self, Frontier};
use crate::store::{Commit, View};

/// A batch that was replayed and waits for the disk.
struct Done {
    state: LogState,
    first: u64,
    entries: Vec<VerifiedEntry>,
    replayed: batch::Replayed,
    tiles: Vec<log::TileWrite>,
}

impl Inbox {
    /// A peer's frontier: signatures that are news are checked, the rest is skipped.
    pub(super) fn frontier(&mut self, peer: PeerId, frontier: Frontier) -> Result<(), Fatal> {
        let most = self.shared.manifest.operators().len();
        if frontier.logs.len() > most || frontier.logs.iter().any(|log| log.cosigned.len() > most) {
            self.command(Command::Penalize { peer, code: "frontier_too_long" });
            return Ok(());
        }
        let mut logs = Vec::with_capacity(frontier.logs.len());
        for log in frontier.logs {
            match self.news(log) {
                Ok(log) => logs.push(log),
                Err(code) => {
                    self.command(Command::Penalize { peer, code });
                    self.replica.unanswered(peer, self.millis());
                    return Ok(());
                }
            }
        }
        let ahead = i128::from(frontier.time.0) - i128::from(clock::now().0);
        let ahead = i64::try_from(ahead).unwrap_or(i64::MAX);
        let outputs = self.replica.frontier(peer, ahead, logs, self.millis(), &StoredRoots(&self.shared.store))?;
        self.perform(outputs)
    }

    /// The verified part of a peer's word about one log that is news.
    fn news(&self, log: wire::LogFrontier) -> Result<PeerLog, &'static str> {
        let manifest = &self.shared.manifest;
        let newest = log.newest.filter(|signed| self.replica.wants_head(&log.log, &signed.head));
        let newest =
            newest.map(|signed| signed.verify(manifest, &log.log)).transpose().map_err(|error| error.code())?;
        let wanted = log
            .cosigned
            .iter()
            .filter(|one| self.replica.wants_cosigned(&log.log, &one.cosignature.operator, &one.signed.head));
        let cosigned: Option<Vec<_>> = wanted.map(|one| verify_cosigned(manifest, &log.log, one)).collect();
        let cosigned = cosigned.ok_or("checkpoint_cosignature")?;
        Ok(PeerLog { log: log.log, size: log.size, newest, cosigned })
    }

    /// A gossiped head: taken at once if its entries follow the copy, else fetched.
    pub(super) fn gossiped(
        &mut self,
        peer: PeerId,
        signed: SignedCheckpoint,
        range: Option<DecodedRange>,
    ) -> Result<(), Fatal> {
        let (log, head) = (fama_ledger::replica::log_of(&signed), signed.checkpoint().head);
        let own = self.own.as_ref().is_some_and(|own| own.log == log);
        let size = self.replica.head(&log).map(|head| head.size);
        match range {
            Some(range)
                if !own && size == Some(range.first) && self.replica.fault(&log).is_none() && range.fits(head) =>
            {
                self.take_range(peer, &log, head, range)?;
            }
            _ => {}
        }
        let outputs = self.replica.checkpoint(signed, self.millis(), &StoredRoots(&self.shared.store))?;
        self.perform(outputs)
    }

    /// Entries that were asked for.
    pub(super) fn range(&mut self, peer: PeerId, log: &LogId, head: Head, range: DecodedRange) -> Result<(), Fatal> {
        if self.replica.head(log).is_none_or(|copy| copy.size != range.first) {
            // Gossip was faster.
            let outputs = self.replica.fetch_failed(peer, log, false, self.millis());
            return self.perform(outputs);
        }
        self.take_range(peer, log, head, range)
    }

    fn take_range(&mut self, peer: PeerId, log: &LogId, head: Head, range: DecodedRange) -> Result<(), Fatal> {
        let Some(copy) = self.copies.get(log) else { return Ok(()) };
        if let Err(code) = authenticate(copy.tree.clone(), head, &range) {
            tracing::debug!(%peer, %log, code, "range refused");
            self.command(Command::Penalize { peer, code });
            let outputs = self.replica.fetch_failed(peer, log, false, self.millis());
            return self.perform(outputs);
        }
        // From here on the owner answers for the entries, not the peer.
        let Ok(entries) =
            range.entries.map_err(|error| tracing::error!(%log, code = error.code(), %error, "invalid entry"))
        else {
            let outputs = self.replica.fetch_failed(peer, log, true, self.millis());
            return self.perform(outputs);
        };
        let bytes: usize = entries.iter().map(|entry| entry.bytes().len()).sum();
        let (done, valid) = self.replay(log, entries)?;
        self.keep(peer, log, done)?;
        self.shared.metrics.range(Direction::In, bytes as u64);
        if !valid {
            let outputs = self.replica.fetch_failed(peer, log, true, self.millis());
            self.perform(outputs)?;
        }
        Ok(())
    }

    /// Replays whole batches; `false` if one of them can be in no valid log.
    fn replay(&mut self, log: &LogId, entries: Vec<VerifiedEntry>) -> Result<(Vec<Done>, bool), Fatal> {
        let (store, manifest) = (Arc::clone(&self.shared.store), Arc::clone(&self.shared.manifest));
        let view = store.view();
        let mut rows: Overlay<'_, View<'_>> = Overlay::new(&view);
        let Some(copy) = self.copies.get_mut(log) else { return Ok((Vec::new(), true)) };
        let mut done = Vec::new();
        for entries in batches(entries) {
            let first = copy.tree.size();
            match batch::replay(&manifest, log, &rows, &mut copy.maps, first, &entries) {
                Ok(replayed) => {
                    rows.absorb(&replayed.folded.changes);
                    let tiles = copy.tree.append(entries.iter().map(|entry| log::leaf_hash(entry.bytes())));
                    let (head, state_root) = (copy.tree.head(), replayed.folded.state_root);
                    let state = LogState { log: log.clone(), size: head.size, root: head.root, state_root };
                    done.push(Done { state, first, entries, replayed, tiles });
                }
                Err(error) => {
                    let invalid = replay_fault(log, error)?;
                    tracing::error!(%log, code = invalid.code(), error = %invalid, "invalid batch");
                    return Ok((done, false));
                }
            }
        }
        Ok((done, true))
    }

    /// Makes replayed batches durable in one write, then visible.
    fn keep(&mut self, peer: PeerId, log: &LogId, done: Vec<Done>) -> Result<(), Fatal> {
        let Some(last) = done.last() else { return Ok(()) };
        let head = last.state.head();
        let commits: Vec<Commit<'_>> = done
            .iter()
            .map(|done| Commit {
                state: done.state.clone(),
                first: done.first,
                entries: &done.entries,
                outcomes: &done.replayed.outcomes,
                tiles: done.tiles.clone(),
                changes: &done.replayed.folded.changes,
                notes: &[],
            })
            .collect();
        self.shared.store.commit(&commits)?;
        drop(commits);
        self.effects(done.iter().flat_map(|done| &done.replayed.outcomes))?;
        let outputs = self.replica.advanced(log, head, self.millis(), &StoredRoots(&self.shared.store))?;
        self.perform(outputs)?;
        self.want_notes(peer, named_notes(&done));
        self.take_over(done)
    }

    /// Takes valid revocations that another log recorded over into the own log, where their home is.
    fn take_over(&mut self, done: Vec<Done>) -> Result<(), Fatal> {
        let Some(own) = self.own.as_ref().map(|own| own.log.clone()) else { return Ok(()) };
        let store = Arc::clone(&self.shared.store);
        let view = store.view();
        let manifest = Arc::clone(&self.shared.manifest);
        let join = Join::new(&manifest, &view);
        let mut events = Vec::new();
        for (entry, outcome) in done.into_iter().flat_map(|done| done.entries.into_iter().zip(done.replayed.outcomes)) {
            let Some(event) = entry.event().filter(|_| is_claim(outcome.as_ref())) else { continue };
            let Action::Revoke { home, identity, version, key, .. } = &event.event().action else { continue };
            if manifest.homes().get(home) != Some(&own) {
                continue;
            }
            let found = join.identity(*identity).map_err(|error| self.join_fault(error))?;
            let Some(found) = found.filter(|found| found.home == *home) else { continue };
            let signer = event.signed().signer.hash();
            if join.fits_chain(&found, *version, key.hash(), signer).map_err(|error| self.join_fault(error))? {
                events.push(Submitted { event: event.clone(), note: None });
            }
        }
        if !events.is_empty() {
            // Nobody waits for the answer: if the home refuses it, the claim stands where it is.
            self.waiting.push(events, oneshot::channel().0);
        }
        Ok(())
    }
}

fn is_claim(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Ok(Effect::KeyChanged { .. })))
}

fn named_notes(done: &[Done]) -> Vec<NoteHash> {
    let entries = done.iter().flat_map(|done| &done.entries);
    let named = entries.filter_map(|entry| entry.event().and_then(|event| event.event().action.note()));
    named.take(wire::NOTES_MAX).collect()
}

/// Cuts entries behind each state entry.
fn batches(entries: Vec<VerifiedEntry>) -> Vec<Vec<VerifiedEntry>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    for entry in entries {
        let ends = entry.is_state();
        batch.push(entry);
        if ends {
            batches.push(std::mem::take(&mut batch));
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// Checks that the range leads from the copy to the signed head, or to a head below it.
fn authenticate(mut tree: Tree, head: Head, range: &DecodedRange) -> Result<(), &'static str> {
    if range.leaves.is_empty() || range.first != tree.size() {
        return Err("empty_range");
    }
    tree.append(range.leaves.iter().copied());
    let reached = tree.head();
    log::verify_consistency(&reached, &head, &range.proof).map_err(|_| "wrong_range")
}

impl DecodedRange {
    /// Whether the range ends exactly at `head`.
    fn fits(&self, head: Head) -> bool {
        self.first.checked_add(self.leaves.len() as u64) == Some(head.size) && self.proof.is_empty()
    }
}
