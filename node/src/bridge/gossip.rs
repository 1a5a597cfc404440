//! Checks gossip before it is passed on: that it is news, that hashes match, and only then signatures.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fama_ledger::log::{Head, Tree, leaf_hash};
use fama_ledger::manifest::LogId;
use libp2p::PeerId;

use super::Bridge;
use crate::inbox::InboxInput;
use crate::network::GossipVerdict;
use crate::store::{StoreError, View};
use crate::sync::heard;
use crate::wire::{CosignedHead, EntryRange, Gossip, SignedHead};

/// How often a peer is penalized for entries that do not match their head. A penalty is forgotten in half that time:
/// where owners sign two branches, honest peers on the other branch send such entries, and must not be banned for it.
const MISMATCH_PAUSE: Duration = Duration::from_secs(60);
/// Peers whose last mismatch is remembered; when there are more, the oldest is forgotten.
const MISMATCHES_MAX: usize = 1_024;

/// What was read of the logs' newest batches: these continue the copy on disk, which has not got so far yet.
#[derive(Default)]
pub(super) struct GossipRead {
    trees: Mutex<BTreeMap<LogId, Tree>>,
    mismatches: Mutex<BTreeMap<PeerId, Instant>>,
}

/// How gossiped entries fit this node's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// They lead from the copy, or from gossip just read, to the head.
    Leads,
    /// They begin elsewhere: useless for now.
    Elsewhere,
    /// They begin at the copy's end, and do not lead to the head.
    Mismatch,
}

impl GossipRead {
    /// Compares hashes. Costs at most a few tiles read from disk and a hash for each entry.
    fn fit(
        &self,
        view: &View<'_>,
        log: &LogId,
        head: Head,
        (first, entries): (u64, &[Vec<u8>]),
    ) -> Result<Fit, StoreError> {
        if first.checked_add(entries.len() as u64) != Some(head.size) {
            return Ok(Fit::Mismatch);
        }
        let read = self.trees.lock().unwrap_or_else(PoisonError::into_inner).get(log).cloned();
        let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let leads = |mut tree: Tree| {
            tree.append(leaves.iter().copied());
            (tree.head() == head).then_some(tree)
        };
        let led = match read.filter(|tree| tree.size() == first).and_then(leads) {
            Some(tree) => Some(tree),
            // What was read last may be another branch than the one on disk.
            None => {
                let stored = view.log(log)?.map_or(0, |record| record.state.size);
                let tree = (stored == first).then(|| Tree::load(first, &view.tiles(log)).ok()).flatten();
                let Some(tree) = tree else { return Ok(Fit::Elsewhere) };
                leads(tree)
            }
        };
        let Some(tree) = led else { return Ok(Fit::Mismatch) };
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).insert(log.clone(), tree);
        Ok(Fit::Leads)
    }

    /// Whether a mismatch by this peer is to be penalized now.
    fn is_penalized(&self, peer: PeerId, now: Instant) -> bool {
        let mut all = self.mismatches.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&peer).is_some_and(|at| now.duration_since(*at) < MISMATCH_PAUSE) {
            return false;
        }
        if all.len() >= MISMATCHES_MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, at)| **at).map(|(peer, _)| *peer)
        {
            all.remove(&oldest);
        }
        all.insert(peer, now);
        true
    }
}

impl Bridge {
    /// Checks gossip before it is passed on: that it is news, its signature, and its entries' signatures.
    pub(super) async fn take_gossip(&self, peer: PeerId, gossip: Gossip) -> GossipVerdict {
        match gossip {
            Gossip::Cosignature { log, cosigned } => self.take_cosigned(&log, &cosigned),
            // A log that this node does not know may be one of a later version.
            Gossip::Equivocation(proof) if self.shared.manifest.log(&proof.log).is_none() => GossipVerdict::Ignore,
            Gossip::Equivocation(proof) => match proof.verify(&self.shared.manifest) {
                // A known equivocation is not passed on again.
                Ok(()) if self.shared.health.read().logs.get(&proof.log).is_some_and(|log| log.fault.is_some()) => {
                    GossipVerdict::Ignore
                }
                Ok(()) => self.offer(InboxInput::Equivocation(proof)),
                Err(_) => GossipVerdict::Reject,
            },
            Gossip::Head { log, signed, first, entries, notes } => {
                let range = EntryRange { first, entries, proof: Vec::new(), notes };
                self.take_head(peer, &log, &signed, range).await
            }
        }
    }

    fn take_cosigned(&self, log: &LogId, cosigned: &CosignedHead) -> GossipVerdict {
        let manifest = &self.shared.manifest;
        match heard::cosigned(&self.shared.store.view(), manifest, log, cosigned, self.shared.clock.now()) {
            Ok(true) => match cosigned.verify(manifest, log) {
                Some(cosigned) => self.offer(InboxInput::Cosigned(cosigned)),
                None if cosigned.signed.verify(manifest, log).is_err() => GossipVerdict::Reject,
                // A later version may give the operator another key.
                None => GossipVerdict::Ignore,
            },
            Ok(false) => GossipVerdict::Ignore,
            Err(error) => unreadable(&error),
        }
    }

    /// A head that is not news is not passed on, but its entries may still be taken in.
    async fn take_head(&self, peer: PeerId, log: &LogId, signed: &SignedHead, range: EntryRange) -> GossipVerdict {
        let manifest = &self.shared.manifest;
        let news = match heard::head(&self.shared.store.view(), manifest, log, &signed.head) {
            Ok(news) => news,
            Err(error) => return unreadable(&error),
        };
        let held = self.shared.health.read().logs.get(log).map(|held| held.size);
        let bare = range.entries.is_empty();
        let beyond = held.is_some_and(|held| signed.head.size > held && !bare);
        if !news && !beyond {
            return GossipVerdict::Ignore;
        }
        if bare && !range.notes.is_empty() {
            return GossipVerdict::Reject;
        }
        // One signature before hashes: without the owner's word no head costs a look at the disk.
        let Ok(verified) = signed.verify(manifest, log) else { return GossipVerdict::Reject };
        let fits = match beyond {
            false => Fit::Elsewhere,
            true => match self.read.fit(&self.shared.store.view(), log, signed.head, (range.first, &range.entries)) {
                Ok(fits) => fits,
                Err(error) => return unreadable(&error),
            },
        };
        if fits == Fit::Mismatch && self.read.is_penalized(peer, Instant::now()) {
            self.network.penalize(peer, "mismatching_entries");
        }
        let range = match fits {
            Fit::Leads => self.decode(range).await,
            Fit::Elsewhere | Fit::Mismatch => None,
        };
        if range.as_ref().is_some_and(|range| range.fault.is_some() || range.strange_notes) {
            return GossipVerdict::Reject;
        }
        // Entries that were not verified are not passed on.
        let whole = bare || range.is_some();
        let verdict = self.offer(InboxInput::Head { peer, signed: verified, range });
        if news && whole { verdict } else { GossipVerdict::Ignore }
    }

    /// Passes gossip to the inbox. Drops it while the inbox's queue is full: sync brings the same later.
    fn offer(&self, input: InboxInput) -> GossipVerdict {
        match self.inputs.try_send(input) {
            Ok(()) => GossipVerdict::Accept,
            Err(_) => GossipVerdict::Ignore,
        }
    }
}

/// The verdict when the store cannot be read, which is not the sender's fault.
fn unreadable(error: &StoreError) -> GossipVerdict {
    tracing::error!(%error, "cannot read the store to check gossip");
    GossipVerdict::Ignore
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// Symptom: a peer that exchanged the entries of honest gossip made each node verify thousands of signatures. Cause:
    /// signatures were verified before hashes.
    #[test]
    fn entries_are_hashed_before_their_signatures_are_verified() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = crate::http::tests::manifest();
        let store = Store::open(dir.path(), &manifest).unwrap();
        let (log, read, view) = (manifest.operators()[0].log(), GossipRead::default(), store.view());
        let batch = |of: u8| vec![vec![of; 100], vec![of + 1; 100]];
        let mut tree = Tree::default();
        let mut head = |entries: &[Vec<u8>]| {
            tree.append(entries.iter().map(|entry| leaf_hash(entry)));
            tree.head()
        };
        let (first, second, third) = (head(&batch(1)), head(&batch(3)), head(&batch(5)));
        let fit = |head, from, entries: &[Vec<u8>]| read.fit(&view, &log, head, (from, entries)).unwrap();
        assert_eq!(fit(first, 0, &batch(9)), Fit::Mismatch, "other entries");
        assert_eq!(fit(second, 0, &batch(1)), Fit::Mismatch, "another size");
        assert_eq!(fit(second, 2, &batch(3)), Fit::Elsewhere, "nothing is known to continue there");
        assert_eq!(fit(first, 0, &batch(1)), Fit::Leads, "from the copy on disk");
        assert_eq!(fit(second, 2, &batch(3)), Fit::Leads, "from gossip just read, which is not on disk yet");
        assert_eq!(fit(third, 4, &batch(7)), Fit::Elsewhere, "what was read may be of another branch than the disk");
        assert_eq!(fit(third, 4, &batch(5)), Fit::Leads, "others' rubbish does no harm");
        assert_eq!(fit(first, 0, &batch(1)), Fit::Leads, "again from the disk, where that has not got further");
    }

    /// Owners with two branches make honest peers send entries that do not match: that must get nobody banned.
    #[test]
    fn mismatches_are_penalized_more_slowly_than_they_are_forgotten() {
        let (read, peer, now) = (GossipRead::default(), PeerId::random(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(read.is_penalized(peer, now) && !read.is_penalized(peer, at(59)));
        assert!(read.is_penalized(peer, at(60)), "one for each pause");
        for _ in 0..2 * MISMATCHES_MAX {
            read.is_penalized(PeerId::random(), now);
        }
        assert!(read.mismatches.lock().unwrap().len() <= MISMATCHES_MAX);
        assert!(!read.is_penalized(peer, at(61)), "the oldest make room");
    }
}
