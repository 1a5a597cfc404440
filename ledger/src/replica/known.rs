//! Read-only queries of a replica.
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::copy::ReplicaLog;
use super::{Cosigned, Fault, Replica, Roots, WaitReason, WriteWarning};
use crate::checkpoint::SignedCheckpoint;
use crate::id::Domain;
use crate::log::Head;
use crate::manifest::{LogId, Manifest};

impl<P: Ord + Copy> Replica<P> {
    /// Whether the copy of every log that ends is exactly at its end.
    #[must_use]
    pub fn at_ends(&self) -> bool {
        self.logs.values().all(|copy| copy.end.is_none_or(|end| copy.head == end && !copy.rewinding))
    }

    /// The logs that end and whose copies are not exactly at the end yet.
    pub fn short_of_end(&self) -> impl Iterator<Item = &LogId> {
        let short = |copy: &ReplicaLog<P>| copy.end.is_some_and(|end| copy.head != end || copy.rewinding);
        self.logs.iter().filter(move |(_, copy)| short(copy)).map(|(log, _)| log)
    }

    /// The logs that keep `next`, the version after the one in use, from being taken up: as far as this copy shows, they
    /// have no certified adoption of the version in use ([`Manifest::must_have_adopted`]).
    ///
    /// A copy that has come to the adoption of `next` is not waited for: nobody cosigns beyond an adoption that is not
    /// certified, and what certifies it may be on heads that this copy cannot reach yet. Nor is a log with a fault, whose
    /// owner would decide over everybody's versions.
    pub fn behind<'a>(&'a self, next: &'a Manifest) -> impl Iterator<Item = &'a LogId> {
        let version = self.manifest.version();
        let there = move |copy: &ReplicaLog<P>| {
            copy.adopted.iter().any(|adopted| adopted.version == version && adopted.size <= copy.certified)
        };
        let waits = move |copy: &ReplicaLog<P>| copy.fault.is_none() && !copy.unheld && !there(copy);
        next.must_have_adopted().filter(move |log| self.logs.get(*log).is_some_and(waits))
    }

    /// Whether a manifest that this node holds cuts the log.
    #[must_use]
    pub fn ends(&self, log: &LogId) -> bool {
        self.logs.get(log).is_some_and(|copy| copy.end.is_some())
    }

    /// Whether this operator froze the log with a stand and cosigns nothing there.
    #[must_use]
    pub fn stands(&self, log: &LogId) -> bool {
        self.logs.get(log).is_some_and(|copy| copy.standing)
    }

    /// The largest head that this operator cosigned in `log`, with any of its node keys.
    #[must_use]
    pub fn own_cosigned(&self, log: &LogId) -> Option<Head> {
        let copy = self.logs.get(log)?;
        self.keys.iter().filter_map(|key| Some(copy.cosigned.get(key)?.0.head())).max()
    }

    /// The operator of this node; `None` for a mirror.
    #[must_use]
    pub const fn me(&self) -> Option<&Domain> {
        self.me.as_ref()
    }

    /// The log that this node's operator owns under the manifest in use; `None` for a mirror.
    #[must_use]
    pub fn own_log(&self) -> Option<LogId> {
        self.me.as_ref().and_then(|me| self.manifest.operator(me)).map(crate::manifest::Operator::log)
    }

    /// The head of this node's copy of `log`.
    #[must_use]
    pub fn head(&self, log: &LogId) -> Option<Head> {
        self.logs.get(log).map(|copy| copy.head)
    }

    /// The largest known head that the owner of `log` signed.
    #[must_use]
    pub fn newest(&self, log: &LogId) -> Option<&SignedCheckpoint> {
        self.logs.get(log).and_then(|copy| copy.newest.as_ref())
    }

    /// The newest cosigned head of `log` by each node key.
    pub fn cosignatures(&self, log: &LogId) -> impl Iterator<Item = &Cosigned> + '_ {
        self.logs.get(log).into_iter().flat_map(|copy| copy.cosigned.values().map(|(cosigned, _)| cosigned))
    }

    /// The number of certified entries of this copy.
    #[must_use]
    pub fn certified(&self, log: &LogId) -> u64 {
        self.logs.get(log).map_or(0, |copy| copy.certified)
    }

    /// How many entries of this copy need no judgement of their age by this operator: it vouched for them before, they
    /// are certified, or f + 1 operators of the version adopted there vouch for them, the owner included.
    #[must_use]
    pub fn vouched(&self, log: &LogId) -> u64 {
        let (Some(copy), Some(known)) = (self.logs.get(log), self.manifest.log(log)) else { return 0 };
        let own = self.own_cosigned(log).map_or(0, |head| head.size);
        copy.vouched_size(&self.manifest, (log, known.since)).max(copy.certified).max(own)
    }

    /// The operator whose node key a connected peer has.
    pub fn operator_of(&self, peer: &P) -> Option<&Domain> {
        self.peers.get(peer).and_then(|peer| peer.operator.as_ref())
    }

    /// Why the log is not cosigned any more; `None` if it has no fault.
    #[must_use]
    pub fn fault(&self, log: &LogId) -> Option<Fault> {
        self.logs.get(log).and_then(|copy| copy.fault)
    }

    /// Whether a head would be new to this replica, or may prove that the owner has two branches. Callers verify the
    /// signature only then.
    #[must_use]
    pub fn wants_head(&self, log: &LogId, head: &Head) -> bool {
        let Some(copy) = self.logs.get(log).filter(|_| head.size > 0) else { return false };
        let known = copy.newest.as_ref().map(|signed| signed.checkpoint().head);
        let comparable = head.size <= copy.head.size && copy.recent.get(&head.size) != Some(&head.root);
        known.is_none_or(|known| match head.size.cmp(&known.size) {
            Ordering::Greater => true,
            Ordering::Equal => head.root != known.root,
            Ordering::Less => comparable && copy.fault != Some(Fault::Equivocation),
        })
    }

    /// Whether a cosignature of `head` by this node key would be new to this replica.
    #[must_use]
    pub fn wants_cosigned(&self, log: &LogId, by: &LogId, head: &Head) -> bool {
        let wanted = head.size > 0 && self.manifest.log(by).is_some();
        let copy = self.logs.get(log).filter(|copy| wanted && copy.end.is_none());
        let known = copy.map(|copy| copy.cosigned.get(by).map(|(known, _)| known.head()));
        known.is_some_and(|known| {
            known.is_none_or(|known| head.size > known.size || (head.size == known.size && head.root != known.root))
        })
    }

    /// The largest known head that the owner signed on this copy's branch, up to the size of the copy.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn signed_on_branch<R: Roots>(&self, log: &LogId, roots: &R) -> Result<Option<SignedCheckpoint>, R::Error> {
        let Some(copy) = self.logs.get(log) else { return Ok(None) };
        let mut best: Option<&SignedCheckpoint> = None;
        for signed in copy.here.iter().chain(copy.signed()) {
            let head = signed.checkpoint().head;
            let larger = best.is_none_or(|best| best.checkpoint().head.size < head.size);
            if larger && self.on_branch(log, &head, roots)? == Some(true) {
                best = Some(signed);
            }
        }
        Ok(best.cloned())
    }

    /// Whether the start is over: enough operators have reported no other session.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Checks whether the own log may grow now.
    ///
    /// # Errors
    /// [`WaitReason`]: what the node waits for.
    pub fn may_write(&self, now: u64) -> Result<(), WaitReason> {
        let Some(own) = self.own_log() else { return Err(WaitReason::NoLog) };
        let behind = self.newest(&own).is_some_and(|newest| self.head(&own) != Some(newest.checkpoint().head));
        let copy = self.logs.get(&own);
        let behind = behind || copy.is_some_and(|copy| copy.rewinding);
        if self.fault(&own).is_some() {
            Err(WaitReason::OwnLogFault)
        } else if copy.is_some_and(|copy| copy.standing || copy.end.is_some()) {
            Err(WaitReason::Ending)
        } else if self.halted {
            Err(WaitReason::Halted)
        } else {
            self.gate.check(behind, now)?;
            let adopting = copy.is_some_and(|copy| copy.uncertified_adoption().is_some());
            if adopting { Err(WaitReason::Adopting) } else { Ok(()) }
        }
    }

    /// Whether the own log has adopted the version in use, and so carries the homes that this version assigns to it.
    #[must_use]
    pub fn has_adopted(&self) -> bool {
        let copy = self.own_log().and_then(|own| self.logs.get(&own));
        copy.and_then(|copy| copy.adopted.last()).is_some_and(|last| last.version == self.manifest.version())
    }

    /// Whether the own log may adopt another version: its last adoption, also the first one, must be certified.
    #[must_use]
    pub fn may_adopt(&self) -> bool {
        let copy = self.own_log().and_then(|own| self.logs.get(&own));
        copy.is_some_and(|copy| copy.adopted.last().is_none_or(|last| last.size <= copy.certified))
    }

    /// Every condition that does not stop the own log from growing, but that the operator should know.
    #[must_use]
    pub fn warnings(&self, now: u64) -> Vec<WriteWarning> {
        self.gate.warnings(now)
    }

    /// Whether three clocks or more show that this node's is wrong: [`WriteWarning::ClockAhead`] or
    /// [`WriteWarning::ClockBehind`]. Such a node judges by the wrong time what it is asked, also a mirror.
    #[must_use]
    pub fn wrong_clock(&self, now: u64) -> Option<WriteWarning> {
        self.gate.wrong_clock(now)
    }

    /// Whether this process may have signed something: the same as [`Replica::is_open`].
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.gate.is_open()
    }
}
