//! This node's copy of one log: how much of it is certified, what to fetch next and what to cosign.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::certificate::Certificates;
use super::peer::{PeerState, source};
use super::{Cosigned, Fault};
use crate::adoption::Adopted;
use crate::checkpoint::SignedCheckpoint;
use crate::id::{Domain, TreeRoot};
use crate::log::Head;
use crate::manifest::{LogId, Manifest};

#[derive(Debug)]
pub(super) struct ReplicaLog<P> {
    pub(super) head: Head,
    /// The size at which the copy starts; roots at smaller sizes are unknown.
    pub(super) base: u64,
    pub(super) recent: BTreeMap<u64, TreeRoot>,
    pub(super) newest: Option<SignedCheckpoint>,
    /// The owner's signed head that is exactly the copy's head, if known.
    pub(super) here: Option<SignedCheckpoint>,
    /// The newest cosignature by each node key; `true` once its head is known to be on this copy's branch.
    pub(super) cosigned: BTreeMap<LogId, (Cosigned, bool)>,
    /// The versions that the log adopted, each with the log's size after the adopting batch.
    pub(super) adopted: Vec<Adopted>,
    pub(super) certified: u64,
    pub(super) certificates: Certificates,
    pub(super) fetch: Option<(P, u64)>,
    /// When a peer that is no operator last failed to return entries.
    pub(super) strangers_failed: Option<u64>,
    pub(super) fault: Option<Fault>,
    /// Where a manifest that is held or about to be held cuts the log.
    pub(super) end: Option<Head>,
    /// This operator froze the log with a stand: it cosigns nothing more here until the next version is in use.
    pub(super) standing: bool,
    /// This operator agreed to a text that cuts the log: it renews no cosignature here.
    pub(super) agreed: bool,
    /// The log continues under a version that this node does not hold.
    pub(super) unheld: bool,
    /// Until then, in monotonic milliseconds, nothing is fetched: the next entries are ahead of this node's clock.
    pub(super) rests_until: u64,
    /// Operators that returned entries which do not lead from this copy to a head that the log certainly has.
    pub(super) contrary: BTreeSet<Domain>,
    pub(super) rewinding: bool,
}

impl<P> ReplicaLog<P> {
    pub(super) const fn new(end: Option<Head>) -> Self {
        Self {
            head: Head::EMPTY,
            base: 0,
            recent: BTreeMap::new(),
            newest: None,
            here: None,
            cosigned: BTreeMap::new(),
            adopted: Vec::new(),
            certified: 0,
            certificates: Certificates::new(),
            fetch: None,
            strangers_failed: None,
            fault: None,
            end,
            standing: false,
            agreed: false,
            unheld: false,
            rests_until: 0,
            contrary: BTreeSet::new(),
            rewinding: false,
        }
    }
}

impl<P: Ord + Copy> ReplicaLog<P> {
    /// Known heads that the owner signed: the newest, then those with a cosignature.
    pub(super) fn signed(&self) -> impl Iterator<Item = &SignedCheckpoint> {
        self.newest.iter().chain(self.cosigned.values().map(|(cosigned, _)| &cosigned.signed))
    }

    /// The largest head beyond the copy for which a peer has the entries, and that peer.
    ///
    /// This may not be the newest head: an owner may announce it and disappear before any peer has the entries. A log
    /// that ends or has a fault is fetched only up to the head that it certainly has.
    pub(super) fn within_reach(
        &self,
        log: &LogId,
        manifest: &Manifest,
        peers: &BTreeMap<P, PeerState>,
        now: u64,
    ) -> Option<(P, Head)> {
        if self.unheld || now < self.rests_until || (self.fault == Some(Fault::Invalid) && self.end.is_none()) {
            return None;
        }
        let mut beyond: Vec<Head> = match self.certain(manifest) {
            Some(head) => Vec::from([head]),
            None if self.fault.is_some() => Vec::new(),
            None => self.signed().map(|signed| signed.checkpoint().head).collect(),
        };
        beyond.retain(|head| head.size > self.head.size);
        beyond.sort_unstable_by(|a, b| b.cmp(a));
        // An operator that uses the version that cuts a log has all of it, but no longer reports its size.
        let size = |head: Head| if self.end == Some(head) { 0 } else { head.size };
        beyond.into_iter().find_map(|head| Some((source(peers, log, size(head), self.strangers_failed, now)?, head)))
    }

    /// `peer` failed to return entries of `log`, or returned wrong ones.
    pub(super) fn failed(&mut self, log: &LogId, peer: &mut PeerState, wrong: bool, now: u64) {
        peer.fail(log, wrong, now);
        if peer.operator.is_none() {
            self.strangers_failed = Some(now);
        }
    }

    /// The head that the log certainly has, if the owner's signature is not enough: its end or, if it has a fault, the
    /// largest head that a quorum cosigned.
    pub(super) fn certain(&self, manifest: &Manifest) -> Option<Head> {
        self.end.or_else(|| self.certified_despite_fault(manifest))
    }

    /// The largest head that a quorum cosigned, on any branch; `None` if the log has no fault.
    pub(super) fn certified_despite_fault(&self, manifest: &Manifest) -> Option<Head> {
        self.fault?;
        let version = self.version(manifest)?;
        let mut heads: Vec<Head> = self.cosigned.values().map(|(cosigned, _)| cosigned.head()).collect();
        heads.sort_unstable_by(|a, b| b.cmp(a));
        heads.dedup();
        let newest = heads.into_iter().find(|head| {
            let on = |log: &LogId| self.cosigned.get(log).is_some_and(|(cosigned, _)| cosigned.head() == *head);
            version.has_quorum(on)
        });
        // A key that cosigned both branches, as a lying owner's does, is not on the certified one if its newest
        // cosignature is of the other. Certificates keep its cosignatures of both.
        newest.max(self.certificates.best(u64::MAX, |one| one.has_quorum(version)))
    }

    /// The version that the log adopted last, or the one in use; `None` if `manifest` does not know it.
    pub(super) fn version<'a>(&self, manifest: &'a Manifest) -> Option<&'a Manifest> {
        self.adopted.last().map_or(Some(manifest), |last| manifest.at(last.version))
    }

    /// The head to cosign with the key `by`, if any: a signed head that the copy is exactly at, larger than every head
    /// cosigned with `by` and not smaller than those cosigned with the other keys.
    ///
    /// Never a head beyond an uncertified adoption: a reader that has only a later note relies on that.
    pub(super) fn to_cosign(&self, by: &LogId, keys: &[LogId]) -> Option<&SignedCheckpoint> {
        let rests = self.fault.is_some() || self.end.is_some() || self.standing || self.fetch.is_some();
        if rests || self.uncertified_adoption().is_some_and(|size| size < self.head.size) {
            return None;
        }
        let cosigned = |key: &LogId| self.cosigned.get(key).map_or(0, |(mine, _)| mine.head().size);
        let smaller = keys.iter().any(|key| cosigned(key) > self.head.size);
        self.here.as_ref().filter(|_| !smaller && cosigned(by) < self.head.size)
    }

    /// The size after the first uncertified adoption. The log's first adoption is skipped: the same quorum certifies it
    /// together with the entries after it.
    pub(super) fn uncertified_adoption(&self) -> Option<u64> {
        self.adopted.iter().skip(1).map(|adopted| adopted.size).find(|size| *size > self.certified)
    }

    /// The size up to which quorums certify this copy.
    ///
    /// Up to the end of the batch that adopts a version, a quorum of the previous version counts; beyond it, a quorum
    /// of the adopted one. A copy at the log's end is certified as a whole.
    pub(super) fn certified_size(&self, manifest: &Manifest, since: u32) -> u64 {
        if self.end == Some(self.head) {
            return self.head.size;
        }
        self.cosigned_size(manifest, since, Manifest::quorum, |_| None)
    }

    /// The size up to which at least one honest operator vouches for this copy: f + 1 operators do, counted as for
    /// [`ReplicaLog::certified_size`]. The owner vouches for the copy's head, which it signed.
    pub(super) fn vouched_size(&self, manifest: &Manifest, (log, since): (&LogId, u32)) -> u64 {
        let signed = self.here.as_ref().map(|signed| signed.checkpoint().head.size);
        let owners = |operator: &LogId| signed.filter(|_| operator.operator == log.operator);
        self.cosigned_size(manifest, since, |under| under.faults().saturating_add(1), owners)
    }

    /// The size that `wanted` operators of each version cosigned. `also` gives sizes besides those of cosignatures.
    fn cosigned_size(
        &self,
        manifest: &Manifest,
        since: u32,
        wanted: impl Fn(&Manifest) -> usize,
        also: impl Fn(&LogId) -> Option<u64>,
    ) -> u64 {
        let mut later = self.adopted.iter().skip(1);
        let (mut version, mut certified) = (since, 0);
        loop {
            let Some(under) = manifest.at(version) else { return certified };
            let on =
                |log: &LogId| self.cosigned.get(log).filter(|(_, on)| *on).map(|(cosigned, _)| cosigned.head().size);
            let sizes = under.operators().iter().filter_map(|operator| on(&operator.log()).max(also(&operator.log())));
            let size = nth_size(sizes, wanted(under));
            match later.next() {
                Some(next) if size >= next.size => (version, certified) = (next.version, next.size),
                _ => return size.max(certified),
            }
        }
    }
}

/// The `wanted`-th largest of the operators' cosigned sizes; 0 if there are fewer.
fn nth_size(sizes: impl Iterator<Item = u64>, wanted: usize) -> u64 {
    let mut sizes: Vec<u64> = sizes.collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    wanted.checked_sub(1).and_then(|at| sizes.get(at)).copied().unwrap_or_default()
}
