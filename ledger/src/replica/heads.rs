//! Heads and cosignatures: what they certify, when they prove an equivocation, and when a copy leaves its branch.
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::copy::ReplicaLog;
use super::{Cosigned, Fault, Replica, ReplicaOutput, Roots, log_of};
use crate::checkpoint::SignedCheckpoint;
use crate::log::Head;
use crate::manifest::LogId;

impl<P: Ord + Copy> Replica<P> {
    /// A head signed by the log's owner arrived.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn checkpoint<R: Roots>(
        &mut self,
        signed: SignedCheckpoint,
        now: u64,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let mut out = Vec::new();
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        // A log without entries has no head, and a log that ends needs no head other than its end.
        if head.size == 0 || self.logs.get(&log).is_none_or(|copy| copy.end.is_some()) {
            return Ok(out);
        }
        if self.conflicts(&log, &head, roots)? {
            return self.equivocated(signed, roots);
        }
        self.has(&log, head.size);
        let Some(copy) = self.logs.get_mut(&log) else { return Ok(out) };
        if copy.head == head {
            copy.here = Some(signed.clone());
        }
        if copy.newest.as_ref().is_none_or(|known| known.checkpoint().head.size < head.size) {
            copy.newest = Some(signed.clone());
            out.push(ReplicaOutput::KeepNewest { signed });
        }
        out.extend(self.work(now));
        Ok(out)
    }

    /// A cosignature arrived from an operator, or this node made one.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn cosigned<R: Roots>(
        &mut self,
        cosigned: Cosigned,
        now: u64,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let log = log_of(&cosigned.signed);
        if !self.wants_cosigned(&log, &cosigned.by, &cosigned.head()) {
            return Ok(Vec::new());
        }
        let mut out = self.checkpoint(cosigned.signed.clone(), now, roots)?;
        if let Some(copy) = self.logs.get_mut(&log) {
            copy.cosigned.insert(cosigned.by.clone(), (cosigned.clone(), false));
            copy.certificates.add(&cosigned);
            if let Some(version) = copy.version(&self.manifest) {
                copy.certificates.trim(version);
            }
        }
        let certifies = self.certify(&log, roots)?;
        self.found(&log, &cosigned.head());
        // The cosignature first: what it certifies must not outlive it in a crash.
        out.push(ReplicaOutput::KeepCosigned { certified: self.certified(&log), log, cosigned });
        out.extend(certifies);
        if let Some(announce) = self.announce(now) {
            out.push(announce);
            out.extend(self.work(now));
        }
        Ok(out)
    }

    /// The owner signed this head and another one, and neither extends the other. The fault is permanent.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn equivocated<R: Roots>(
        &mut self,
        signed: SignedCheckpoint,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let log = log_of(&signed);
        let Some(fault) = self.set_fault(&log, Fault::Equivocation) else { return Ok(Vec::new()) };
        let beside = self.rival(&log, signed.checkpoint().head, roots)?;
        Ok(Vec::from([ReplicaOutput::KeepConflicting { signed, beside }, fault]))
    }

    /// A verified proof shows that the owner of `log` signed two heads, neither of which extends the other.
    pub fn proven(&mut self, log: &LogId) -> Vec<ReplicaOutput<P>> {
        Vec::from_iter(self.set_fault(log, Fault::Equivocation))
    }

    pub(super) fn set_fault(&mut self, log: &LogId, fault: Fault) -> Option<ReplicaOutput<P>> {
        let worse = |known: Fault| known == Fault::Invalid && fault == Fault::Equivocation;
        let copy = self.logs.get_mut(log).filter(|copy| copy.fault.is_none_or(worse))?;
        copy.fault = Some(fault);
        Some(ReplicaOutput::Faulted { log: log.clone(), fault })
    }

    /// The owner's smallest known head that proves the equivocation together with `head`: of the same size with another
    /// root, or larger and on this copy's branch.
    fn rival<R: Roots>(&self, log: &LogId, head: Head, roots: &R) -> Result<Option<SignedCheckpoint>, R::Error> {
        let Some(copy) = self.logs.get(log) else { return Ok(None) };
        let mut best: Option<&SignedCheckpoint> = None;
        for signed in copy.here.iter().chain(copy.signed()) {
            let other = signed.checkpoint().head;
            let rival = match other.size.cmp(&head.size) {
                Ordering::Less => false,
                Ordering::Equal => other.root != head.root,
                Ordering::Greater => self.on_branch(log, &other, roots)? == Some(true),
            };
            if rival && best.is_none_or(|best| other.size < best.checkpoint().head.size) {
                best = Some(signed);
            }
        }
        Ok(best.cloned())
    }

    /// Records that the owner of `log` has at least `size` entries.
    fn has(&mut self, log: &LogId, size: u64) {
        for peer in self.peers.values_mut().filter(|peer| peer.operator.as_ref() == Some(&log.operator)) {
            let known = peer.sizes.entry(log.clone()).or_default();
            *known = size.max(*known);
        }
    }

    /// Whether a head that the owner signed contradicts another one that it signed, or this copy.
    pub(super) fn conflicts<R: Roots>(&mut self, log: &LogId, head: &Head, roots: &R) -> Result<bool, R::Error> {
        let Some(copy) = self.logs.get(log) else { return Ok(false) };
        let cosigned = copy.cosigned.values().map(|(cosigned, _)| cosigned.head());
        let mut known = copy.newest.iter().map(|signed| signed.checkpoint().head).chain(cosigned);
        if known.any(|known| known.size == head.size && known.root != head.root) {
            return Ok(true);
        }
        Ok(!self.on_branch(log, head, roots)?.unwrap_or(true))
    }

    /// The owner's largest known head, if this copy is long enough to compare and is on another branch.
    pub(super) fn conflicting_newest<R: Roots>(
        &self,
        log: &LogId,
        roots: &R,
    ) -> Result<Option<SignedCheckpoint>, R::Error> {
        let ends = self.logs.get(log).is_some_and(|copy| copy.end.is_some());
        let Some(newest) = self.newest(log).filter(|_| !ends) else { return Ok(None) };
        let on_branch = self.on_branch(log, &newest.checkpoint().head, roots)?.unwrap_or(true);
        Ok((!on_branch).then(|| newest.clone()))
    }

    /// Whether `head` is a head of this copy; `None` if the copy is shorter, or begins after `head`.
    pub(super) fn on_branch<R: Roots>(&self, log: &LogId, head: &Head, roots: &R) -> Result<Option<bool>, R::Error> {
        let known = |copy: &&ReplicaLog<P>| (copy.base..=copy.head.size).contains(&head.size);
        let Some(copy) = self.logs.get(log).filter(known) else { return Ok(None) };
        let root = match copy.recent.get(&head.size) {
            Some(root) => *root,
            None if head.size == copy.head.size => copy.head.root,
            None => roots.root_at(log, head.size)?,
        };
        Ok(Some(root == head.root))
    }

    /// Informs the announcer if a head of the own log has reached its quorum of cosignatures.
    fn found(&mut self, log: &LogId, head: &Head) {
        if self.own_log().as_ref() != Some(log) {
            return;
        }
        let on = |by: &LogId| self.logs.get(log).and_then(|copy| copy.cosigned.get(by)).map(|(one, _)| one.head());
        // By the version in use, whatever the log has adopted: its operators are the ones that cosign announced heads.
        if self.manifest.has_quorum(|log| on(log) == Some(*head)) {
            self.announcer.found(head.size);
        }
    }

    /// Checks which cosigned heads are on this copy's branch, and up to which size they certify it.
    pub(super) fn certify<R: Roots>(&mut self, log: &LogId, roots: &R) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let Some(copy) = self.logs.get(log) else { return Ok(Vec::new()) };
        let open: Vec<_> =
            copy.cosigned.iter().filter(|(_, (_, on))| !on).map(|(o, (c, _))| (o.clone(), c.signed.clone())).collect();
        let mut out = Vec::new();
        for (by, signed) in open {
            match self.on_branch(log, &signed.checkpoint().head, roots)? {
                None => {}
                Some(false) if self.logs.get(log).is_some_and(|copy| copy.end.is_some()) => {}
                Some(false) => out.extend(self.equivocated(signed, roots)?),
                Some(true) => {
                    if let Some((_, on)) = self.logs.get_mut(log).and_then(|copy| copy.cosigned.get_mut(&by)) {
                        *on = true;
                    }
                }
            }
        }
        let since = self.manifest.log(log).map_or(1, |known| known.since);
        let Some(copy) = self.logs.get_mut(log) else { return Ok(out) };
        let size = copy.certified_size(&self.manifest, since);
        if size > copy.certified {
            copy.certified = size;
            out.push(ReplicaOutput::Certified { log: log.clone(), size });
        }
        out.extend(self.certificates(log, roots)?);
        out.extend(self.leave_branch(log, roots)?);
        Ok(out)
    }

    /// Rewinds this copy if it extends beyond the log's end, is on a branch without that end, or is on a branch
    /// without a head that others certified.
    pub(super) fn leave_branch<R: Roots>(
        &mut self,
        log: &LogId,
        roots: &R,
    ) -> Result<Option<ReplicaOutput<P>>, R::Error> {
        let Some(copy) = self.logs.get(log).filter(|copy| !copy.rewinding) else { return Ok(None) };
        let certain = copy.end.or_else(|| copy.certified_despite_fault(&self.manifest));
        let Some(certain) = certain else { return Ok(None) };
        let size = match self.on_branch(log, &certain, roots)? {
            Some(true) if copy.end.is_some() && copy.head.size > certain.size => certain.size,
            Some(false) => copy.certified.min(certain.size),
            _ => return Ok(None),
        };
        Ok(self.rewind(log, size))
    }

    /// A peer has entries that do not lead from this copy to a head that the log certainly has. If more than f
    /// operators do, the copy is on another branch: it rewinds to its certified part, and no final entry is lost.
    pub(super) fn contrary(&mut self, peer: P, log: &LogId) -> Option<ReplicaOutput<P>> {
        let operator = self.peers.get(&peer)?.operator.clone()?;
        let copy = self.logs.get_mut(log).filter(|copy| copy.certain(&self.manifest).is_some())?;
        copy.contrary.insert(operator);
        let (operators, certified) = (copy.contrary.len(), copy.certified);
        if operators > self.manifest.faults() { self.rewind(log, certified) } else { None }
    }

    fn rewind(&mut self, log: &LogId, size: u64) -> Option<ReplicaOutput<P>> {
        let copy = self.logs.get_mut(log).filter(|copy| !copy.rewinding && size < copy.head.size)?;
        copy.rewinding = true;
        // What peers returned was wrong for the branch that is left now: those who have the other one are needed next.
        copy.contrary.clear();
        copy.strangers_failed = None;
        let failures = self.peers.values_mut().map(|peer| &mut peer.failed).chain(self.departed.values_mut());
        for failed in failures {
            failed.remove(log);
        }
        Some(ReplicaOutput::Rewind { log: log.clone(), size })
    }
}
