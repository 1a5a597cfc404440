//! Replication without I/O: what peers have goes in, requests and verdicts come out.
//!
//! The caller moves the bytes: it verifies signatures before it calls in, does what each [`Output`]
//! says, and calls back when that is done. Nothing here reads a clock: `now` is the caller's
//! monotonic time in milliseconds.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::checkpoint::{Cosignature, SignedCheckpoint};
use crate::id::{Domain, TreeRoot};
use crate::log::Head;
use crate::manifest::{LogId, Manifest};

mod announce;
mod gate;
#[cfg(test)]
mod tests;

pub use gate::{OtherSession, Overrides, Waiting, Warning};

/// How often a peer is asked for its frontier, in milliseconds.
pub const FRONTIER_MILLIS: u64 = 2_000;
/// After how long an unanswered request is given up, in milliseconds.
pub const REQUEST_MILLIS_MAX: u64 = 15_000;
/// For how long a peer that failed to give entries of a log is asked last, and one that gave wrong ones not at
/// all, in milliseconds.
const DISTRUST_MILLIS: u64 = 60_000;
/// Roots of the newest heads of a copy that are kept at hand.
const RECENT_HEADS_MAX: usize = 256;

/// Why a log is not cosigned any more. Only a manifest heals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its owner signed a head below which an entry or a state root is invalid.
    Invalid,
    /// Its owner signed two heads of which neither extends the other.
    Equivocation,
}

impl Fault {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_log",
            Self::Equivocation => "equivocation",
        }
    }
}

/// Why a range did not bring the copy on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The copy grew on another way meanwhile: nobody's fault.
    Late,
    /// The peer gave none.
    Unanswered,
    /// The peer gave entries that do not lead from the copy to the head. Either the peer is wrong, or
    /// copy and head are on two branches that the owner signed.
    Wrong,
    /// The owner signed what no log may hold.
    Invalid,
}

/// A verified cosignature and the head that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// One operator's cosignature of it.
    pub cosignature: Cosignature,
}

impl Cosigned {
    const fn head(&self) -> Head {
        self.signed.checkpoint().head
    }
}

/// What a peer says it has of one log; signatures checked by the caller.
#[derive(Clone, Debug)]
pub struct PeerLog {
    /// The log.
    pub log: LogId,
    /// Entries that the peer can serve.
    pub size: u64,
    /// The largest head that it knows, if that was news.
    pub newest: Option<SignedCheckpoint>,
    /// Cosignatures that were news.
    pub cosigned: Vec<Cosigned>,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Ask for the frontier; answer with [`Replica::frontier`] or [`Replica::unanswered`].
    AskFrontier {
        /// Whom.
        peer: P,
    },
    /// Ask for entries; answer with [`Replica::advanced`] or [`Replica::fetch_failed`].
    Fetch {
        /// Whom.
        peer: P,
        /// Of which log.
        log: LogId,
        /// From which index.
        from: u64,
        /// Below which signed head.
        head: Head,
    },
    /// Keep the owner's largest head.
    KeepNewest {
        /// It.
        signed: SignedCheckpoint,
    },
    /// Keep a head that its owner signed on another branch, durably: with the copy and the owner's other heads
    /// it proves the equivocation, and [`Replica::equivocated`] tells of it after a restart.
    KeepConflicting {
        /// It.
        signed: SignedCheckpoint,
    },
    /// Keep an operator's newest cosignature and the log's certified size.
    KeepCosigned {
        /// The log.
        log: LogId,
        /// The cosignature.
        cosigned: Cosigned,
        /// Entries below a certified head.
        certified: u64,
    },
    /// Entries below this are final now.
    Certified {
        /// The log.
        log: LogId,
        /// How many.
        size: u64,
    },
    /// Cosign this head, durably first, then call [`Replica::cosigned`] and tell everybody.
    Cosign {
        /// The head; the copy is exactly there.
        signed: SignedCheckpoint,
    },
    /// Tell everybody of this head of the own log.
    Announce {
        /// The head.
        signed: SignedCheckpoint,
    },
    /// The log is not cosigned any more: say so loudly.
    Faulted {
        /// The log.
        log: LogId,
        /// Why.
        fault: Fault,
    },
}

/// Reads the root of this node's copy of a log at a size that the copy has.
pub trait Roots {
    /// Why it could not be read.
    type Error;

    /// The root over the first `size` entries.
    ///
    /// # Errors
    /// What the storage says.
    fn root_at(&self, log: &LogId, size: u64) -> Result<TreeRoot, Self::Error>;
}

#[derive(Debug)]
struct Copy<P> {
    head: Head,
    recent: BTreeMap<u64, TreeRoot>,
    newest: Option<SignedCheckpoint>,
    /// The owner's head that the copy is exactly at, if one is known.
    here: Option<SignedCheckpoint>,
    /// Newest of each operator; `true` once its head is known to lie on this copy's branch.
    cosigned: BTreeMap<Domain, (Cosigned, bool)>,
    certified: u64,
    fetch: Option<(P, u64)>,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Peer {
    operator: Option<Domain>,
    /// What it said last of other processes with this node's key.
    other: Option<OtherSession>,
    asked: Option<u64>,
    next: u64,
    sizes: BTreeMap<LogId, u64>,
    /// When it last failed to give entries, and whether it gave wrong ones.
    failed: BTreeMap<LogId, (u64, bool)>,
}

impl Peer {
    fn fail(&mut self, log: &LogId, wrong: bool, now: u64) {
        self.sizes.remove(log);
        let wrong = wrong || self.distrust(log, now).1;
        self.failed.insert(log.clone(), (now, wrong));
    }

    /// Whether it failed lately, and whether so badly that it is not to be asked at all.
    fn distrust(&self, log: &LogId, now: u64) -> (bool, bool) {
        let lately = self.failed.get(log).filter(|(at, _)| now < at.saturating_add(DISTRUST_MILLIS));
        lately.map_or((false, false), |(_, wrong)| (true, *wrong))
    }
}

/// A node's knowledge of all logs and peers. `P` names a peer.
#[derive(Debug)]
pub struct Replica<P> {
    manifest: Arc<Manifest>,
    me: Option<Domain>,
    logs: BTreeMap<LogId, Copy<P>>,
    peers: BTreeMap<P, Peer>,
    gate: gate::Gate,
    announcer: announce::Announcer,
}

impl<P: Ord + core::marker::Copy> Replica<P> {
    /// Knows nothing yet; `me` is the operator that this node is, if it is one.
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, me: Option<Domain>) -> Self {
        let copy = || Copy {
            head: Head::EMPTY,
            recent: BTreeMap::new(),
            newest: None,
            here: None,
            cosigned: BTreeMap::new(),
            certified: 0,
            fetch: None,
            fault: None,
        };
        let logs = manifest.operators().iter().map(|operator| (operator.log(), copy())).collect();
        let gate = gate::Gate::new(me.clone(), manifest.operators().len(), manifest.faults());
        Self { manifest, me, logs, peers: BTreeMap::new(), gate, announcer: announce::Announcer::default() }
    }

    /// Puts back what the disk has of one log, before anything else is said of it.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn restore<R: Roots>(
        &mut self,
        log: &LogId,
        head: Head,
        newest: Option<SignedCheckpoint>,
        cosigned: Vec<Cosigned>,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
        copy.head = head;
        copy.newest = newest;
        copy.cosigned = cosigned.into_iter().map(|one| (one.cosignature.operator.clone(), (one, false))).collect();
        let here = copy.signed().find(|signed| signed.checkpoint().head == head).cloned();
        copy.here = here;
        let mut out: Vec<_> = self.conflicting_newest(log, roots)?.map(|one| self.equivocated(one)).unwrap_or_default();
        out.extend(self.certify(log, roots)?);
        Ok(out)
    }

    /// The owner signed this head and others of which none extends the other: from now on, for good.
    pub fn equivocated(&mut self, signed: SignedCheckpoint) -> Vec<Output<P>> {
        let fault = self.set_fault(&log_of(&signed), Fault::Equivocation);
        fault.map_or_else(Vec::new, |fault| Vec::from([Output::KeepConflicting { signed }, fault]))
    }

    /// The operator that this node is.
    #[must_use]
    pub const fn me(&self) -> Option<&Domain> {
        self.me.as_ref()
    }

    /// The own log.
    #[must_use]
    pub fn own_log(&self) -> Option<LogId> {
        self.me.as_ref().and_then(|me| self.manifest.operator(me)).map(crate::manifest::Operator::log)
    }

    /// The head of this node's copy.
    #[must_use]
    pub fn head(&self, log: &LogId) -> Option<Head> {
        self.logs.get(log).map(|copy| copy.head)
    }

    /// The owner's largest known head.
    #[must_use]
    pub fn newest(&self, log: &LogId) -> Option<&SignedCheckpoint> {
        self.logs.get(log).and_then(|copy| copy.newest.as_ref())
    }

    /// Every operator's newest cosigned head.
    pub fn cosignatures(&self, log: &LogId) -> impl Iterator<Item = &Cosigned> + '_ {
        self.logs.get(log).into_iter().flat_map(|copy| copy.cosigned.values().map(|(cosigned, _)| cosigned))
    }

    /// Entries below a certified head.
    #[must_use]
    pub fn certified(&self, log: &LogId) -> u64 {
        self.logs.get(log).map_or(0, |copy| copy.certified)
    }

    /// Why the log is not cosigned any more.
    #[must_use]
    pub fn fault(&self, log: &LogId) -> Option<Fault> {
        self.logs.get(log).and_then(|copy| copy.fault)
    }

    /// Whether a head would be news, or may prove that the owner has two branches: so that its
    /// signature is checked only then.
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

    /// Whether an operator's cosignature of `head` would be news.
    #[must_use]
    pub fn wants_cosigned(&self, log: &LogId, operator: &Domain, head: &Head) -> bool {
        let copy = self.logs.get(log).filter(|_| head.size > 0 && self.manifest.operator(operator).is_some());
        let known = copy.map(|copy| copy.cosigned.get(operator).map(|(known, _)| known.head()));
        known.is_some_and(|known| {
            known.is_none_or(|known| head.size > known.size || (head.size == known.size && head.root != known.root))
        })
    }

    /// A connection opened; `operator` if the peer's key is an operator's.
    pub fn peer_up(&mut self, peer: P, operator: Option<Domain>, now: u64) -> Vec<Output<P>> {
        let (sizes, failed) = (BTreeMap::new(), BTreeMap::new());
        self.peers.insert(peer, Peer { operator, other: None, asked: Some(now), next: now, sizes, failed });
        Vec::from([Output::AskFrontier { peer }])
    }

    /// The last connection closed.
    pub fn peer_down(&mut self, peer: P) -> Vec<Output<P>> {
        self.peers.remove(&peer);
        for copy in self.logs.values_mut() {
            copy.fetch = copy.fetch.filter(|(from, _)| *from != peer);
        }
        Vec::new()
    }

    /// A peer did not answer with its frontier.
    pub fn unanswered(&mut self, peer: P, now: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            (peer.asked, peer.next) = (None, now.saturating_add(FRONTIER_MILLIS));
        }
    }

    /// What a peer says of other live processes with this node's key; part of the frontier that follows.
    pub fn told_of_session(&mut self, peer: P, other: Option<OtherSession>) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.other = other;
        }
    }

    /// A peer's frontier. `clock_ahead` is its clock less this node's, in milliseconds.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn frontier<R: Roots>(
        &mut self,
        peer: P,
        clock_ahead: i64,
        logs: Vec<PeerLog>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let mut out = Vec::new();
        let Some(known) = self.peers.get_mut(&peer) else { return Ok(out) };
        (known.asked, known.next) = (None, now.saturating_add(FRONTIER_MILLIS));
        let carried = logs.iter().filter(|log| self.logs.contains_key(&log.log));
        known.sizes = carried.map(|log| (log.log.clone(), log.size)).collect();
        let other = known.other;
        let operator = known.operator.clone().filter(|operator| self.me.as_ref() != Some(operator));
        for PeerLog { newest, cosigned, .. } in logs {
            if let Some(signed) = newest {
                out.extend(self.checkpoint(signed, now, roots)?);
            }
            for cosigned in cosigned {
                out.extend(self.cosigned(cosigned, now, roots)?);
            }
        }
        if let Some(operator) = operator {
            self.gate.heard(operator, clock_ahead, other, now);
            let next = now.saturating_add(self.gate.pause(now));
            self.peers.entry(peer).and_modify(|known| known.next = next);
        }
        out.extend(self.work(now));
        Ok(out)
    }

    /// A head that its owner signed.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn checkpoint<R: Roots>(
        &mut self,
        signed: SignedCheckpoint,
        now: u64,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let mut out = Vec::new();
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        // A log without entries has no head.
        if head.size == 0 || !self.logs.contains_key(&log) {
            return Ok(out);
        }
        if self.conflicts(&log, &head, roots)? {
            return Ok(self.equivocated(signed));
        }
        self.has(&log, head.size);
        let Some(copy) = self.logs.get_mut(&log) else { return Ok(out) };
        if copy.head == head {
            copy.here = Some(signed.clone());
        }
        if copy.newest.as_ref().is_none_or(|known| known.checkpoint().head.size < head.size) {
            copy.newest = Some(signed.clone());
            out.push(Output::KeepNewest { signed });
        }
        out.extend(self.work(now));
        Ok(out)
    }

    /// The owner of `log` has at least `size` entries.
    fn has(&mut self, log: &LogId, size: u64) {
        for peer in self.peers.values_mut().filter(|peer| peer.operator.as_ref() == Some(&log.operator)) {
            let known = peer.sizes.entry(log.clone()).or_default();
            *known = size.max(*known);
        }
    }

    /// Whether a head that the owner signed cannot be on the branch of this copy, as far as that reaches.
    fn conflicts<R: Roots>(&mut self, log: &LogId, head: &Head, roots: &R) -> Result<bool, R::Error> {
        let Some(copy) = self.logs.get(log) else { return Ok(false) };
        let cosigned = copy.cosigned.values().map(|(cosigned, _)| cosigned.head());
        let mut known = copy.newest.iter().map(|signed| signed.checkpoint().head).chain(cosigned);
        if known.any(|known| known.size == head.size && known.root != head.root) {
            return Ok(true);
        }
        Ok(!self.on_branch(log, head, roots)?.unwrap_or(true))
    }

    /// Whether `head` is a head of this copy; `None` if the copy is shorter.
    fn on_branch<R: Roots>(&self, log: &LogId, head: &Head, roots: &R) -> Result<Option<bool>, R::Error> {
        let Some(copy) = self.logs.get(log).filter(|copy| head.size <= copy.head.size) else { return Ok(None) };
        let root = match copy.recent.get(&head.size) {
            Some(root) => *root,
            None => roots.root_at(log, head.size)?,
        };
        Ok(Some(root == head.root))
    }

    fn set_fault(&mut self, log: &LogId, fault: Fault) -> Option<Output<P>> {
        let worse = |known: Fault| known == Fault::Invalid && fault == Fault::Equivocation;
        let copy = self.logs.get_mut(log).filter(|copy| copy.fault.is_none_or(worse))?;
        copy.fault = Some(fault);
        Some(Output::Faulted { log: log.clone(), fault })
    }

    /// An operator's cosignature, this node's own included.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn cosigned<R: Roots>(&mut self, cosigned: Cosigned, now: u64, roots: &R) -> Result<Vec<Output<P>>, R::Error> {
        let log = log_of(&cosigned.signed);
        if !self.wants_cosigned(&log, &cosigned.cosignature.operator, &cosigned.head()) {
            return Ok(Vec::new());
        }
        let mut out = self.checkpoint(cosigned.signed.clone(), now, roots)?;
        if self.fault(&log) == Some(Fault::Equivocation) {
            return Ok(out);
        }
        if let Some(copy) = self.logs.get_mut(&log) {
            copy.cosigned.insert(cosigned.cosignature.operator.clone(), (cosigned.clone(), false));
        }
        out.extend(self.certify(&log, roots)?);
        self.found(&log, &cosigned.head());
        out.push(Output::KeepCosigned { certified: self.certified(&log), log, cosigned });
        Ok(out)
    }

    /// Tells the announcer when a head of the own log has its quorum of cosignatures.
    fn found(&mut self, log: &LogId, head: &Head) {
        if self.own_log().as_ref() != Some(log) {
            return;
        }
        let on_it = self.cosignatures(log).filter(|one| one.head() == *head).count();
        if on_it >= self.manifest.quorum() {
            self.announcer.found(head.size);
        }
    }

    /// Looks which cosigned heads lie on this copy's branch, and how far that certifies it.
    fn certify<R: Roots>(&mut self, log: &LogId, roots: &R) -> Result<Vec<Output<P>>, R::Error> {
        let Some(copy) = self.logs.get(log) else { return Ok(Vec::new()) };
        let open: Vec<_> =
            copy.cosigned.iter().filter(|(_, (_, on))| !on).map(|(o, (c, _))| (o.clone(), c.signed.clone())).collect();
        let mut out = Vec::new();
        for (operator, signed) in open {
            match self.on_branch(log, &signed.checkpoint().head, roots)? {
                None => {}
                Some(false) => out.extend(self.equivocated(signed)),
                Some(true) => {
                    if let Some((_, on)) = self.logs.get_mut(log).and_then(|copy| copy.cosigned.get_mut(&operator)) {
                        *on = true;
                    }
                }
            }
        }
        let quorum = self.manifest.quorum();
        let Some(copy) = self.logs.get_mut(log) else { return Ok(out) };
        let size = certified_size(copy.cosigned.values().filter(|(_, on)| *on).map(|(c, _)| c.head().size), quorum);
        if size > copy.certified {
            copy.certified = size;
            out.push(Output::Certified { log: log.clone(), size });
        }
        Ok(out)
    }

    /// This copy is durable up to `head` now.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn advanced<R: Roots>(
        &mut self,
        log: &LogId,
        head: Head,
        now: u64,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
        (copy.head, copy.fetch) = (head, None);
        let here = copy.signed().find(|signed| signed.checkpoint().head == head).cloned();
        copy.here = here;
        copy.recent.insert(head.size, head.root);
        if copy.recent.len() > RECENT_HEADS_MAX {
            copy.recent.pop_first();
        }
        let mut out: Vec<_> = self.conflicting_newest(log, roots)?.map(|one| self.equivocated(one)).unwrap_or_default();
        out.extend(self.certify(log, roots)?);
        out.extend(self.work(now));
        Ok(out)
    }

    /// The owner's largest known head, if this copy reaches it and is on another branch.
    fn conflicting_newest<R: Roots>(&self, log: &LogId, roots: &R) -> Result<Option<SignedCheckpoint>, R::Error> {
        let Some(newest) = self.newest(log) else { return Ok(None) };
        let on_branch = self.on_branch(log, &newest.checkpoint().head, roots)?.unwrap_or(true);
        Ok((!on_branch).then(|| newest.clone()))
    }

    /// The own log grew to a head that is durable and signed.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn appended<R: Roots>(
        &mut self,
        signed: SignedCheckpoint,
        now: u64,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        if let Some(copy) = self.logs.get_mut(&log) {
            copy.newest = Some(signed.clone());
        }
        self.announcer.appended(signed);
        let mut out = Vec::from_iter(self.announcer.due(now).map(|signed| Output::Announce { signed }));
        out.extend(self.advanced(&log, head, now, roots)?);
        Ok(out)
    }

    /// A range that was asked for, or that came as gossip, did not bring the copy on.
    pub fn fetch_failed(&mut self, peer: P, log: &LogId, failure: Failure, now: u64) -> Vec<Output<P>> {
        if let Some(copy) = self.logs.get_mut(log) {
            copy.fetch = copy.fetch.filter(|(from, _)| *from != peer);
            let blamed = matches!(failure, Failure::Unanswered | Failure::Wrong);
            if let Some(known) = self.peers.get_mut(&peer).filter(|_| blamed) {
                known.fail(log, failure == Failure::Wrong, now);
            }
        }
        let mut out = Vec::new();
        if failure == Failure::Invalid {
            out.extend(self.set_fault(log, Fault::Invalid));
        }
        out.extend(self.work(now));
        out
    }

    /// Asks every peer for its frontier at once.
    pub fn ask_all(&mut self, now: u64) -> Vec<Output<P>> {
        let idle = self.peers.iter_mut().filter(|(_, peer)| peer.asked.is_none());
        idle.map(|(peer, known)| {
            known.asked = Some(now);
            Output::AskFrontier { peer: *peer }
        })
        .collect()
    }

    /// Time passed: gives up what was not answered, asks who is due.
    pub fn tick(&mut self, now: u64) -> Vec<Output<P>> {
        let mut out = Vec::new();
        let late = |since: u64| since.saturating_add(REQUEST_MILLIS_MAX) <= now;
        for (peer, known) in &mut self.peers {
            known.asked = known.asked.filter(|since| !late(*since));
            if known.asked.is_none() && known.next <= now {
                known.asked = Some(now);
                out.push(Output::AskFrontier { peer: *peer });
            }
        }
        for (log, copy) in &mut self.logs {
            if let Some((peer, _)) = copy.fetch.take_if(|(_, since)| late(*since))
                && let Some(known) = self.peers.get_mut(&peer)
            {
                known.fail(log, false, now);
            }
        }
        out.extend(self.announcer.due(now).map(|signed| Output::Announce { signed }));
        out.extend(self.work(now));
        out
    }

    /// Whether the own log may grow now.
    ///
    /// # Errors
    /// [`Waiting`] says what for.
    pub fn may_write(&self, now: u64) -> Result<(), Waiting> {
        let Some(own) = self.own_log() else { return Err(Waiting::NoLog) };
        let behind = self.newest(&own).is_some_and(|newest| self.head(&own) != Some(newest.checkpoint().head));
        if self.fault(&own).is_some() { Err(Waiting::OwnLogFault) } else { self.gate.check(behind, now) }
    }

    /// What the own log grows in spite of; people should know.
    #[must_use]
    pub fn warnings(&self, now: u64) -> Vec<Warning> {
        self.gate.warnings(now)
    }

    /// Whether the start is over: this process may have signed something.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.gate.is_open()
    }

    /// What the operator answers for; to be said before anything else.
    pub fn set_overrides(&mut self, overrides: Overrides) {
        self.gate.set_overrides(overrides);
    }

    /// The wall clock made a leap that time did not.
    pub fn clock_jumped(&mut self, now: u64) {
        self.gate.clock_jumped(now);
    }

    /// What can be fetched and cosigned as things stand.
    fn work(&mut self, now: u64) -> Vec<Output<P>> {
        let mut out = Vec::new();
        let me = self.me.as_ref().filter(|_| self.gate.may_cosign(now));
        for (log, copy) in self.logs.iter_mut().filter(|(_, copy)| copy.fault.is_none()) {
            if copy.fetch.is_none()
                && let Some((peer, head)) = copy.within_reach(log, &self.peers, now)
            {
                copy.fetch = Some((peer, now));
                out.push(Output::Fetch { peer, log: log.clone(), from: copy.head.size, head });
            }
            if let Some(signed) = me.and_then(|me| copy.to_cosign(me)) {
                out.push(Output::Cosign { signed: signed.clone() });
            }
        }
        out
    }
}

impl<P: Ord + core::marker::Copy> Copy<P> {
    /// Every head that the owner is known to have signed, the newest first.
    fn signed(&self) -> impl Iterator<Item = &SignedCheckpoint> {
        self.newest.iter().chain(self.cosigned.values().map(|(cosigned, _)| &cosigned.signed))
    }

    /// The largest signed head beyond the copy that a peer can lead to. Nobody may have the newest: an
    /// owner can fall silent behind a head that it told.
    fn within_reach(&self, log: &LogId, peers: &BTreeMap<P, Peer>, now: u64) -> Option<(P, Head)> {
        let mut beyond: Vec<Head> = self.signed().map(|signed| signed.checkpoint().head).collect();
        beyond.retain(|head| head.size > self.head.size);
        beyond.sort_unstable_by(|a, b| b.cmp(a));
        beyond.into_iter().find_map(|head| Some((source(peers, log, head.size, now)?, head)))
    }

    /// The head to cosign, with the copy exactly there: the newest, or where that is out of reach, the one
    /// before.
    fn to_cosign(&self, me: &Domain) -> Option<&SignedCheckpoint> {
        let behind = self.cosigned.get(me).is_none_or(|(mine, _)| mine.head().size < self.head.size);
        self.here.as_ref().filter(|_| behind && self.fetch.is_none())
    }
}

/// A peer with at least `size` entries of `log`: one that did not fail lately if there is one, the owner
/// before others. Sizes are a peer's word, so a larger one attracts nothing.
fn source<P: Ord + core::marker::Copy>(peers: &BTreeMap<P, Peer>, log: &LogId, size: u64, now: u64) -> Option<P> {
    let has = |peer: &Peer| peer.sizes.get(log).is_some_and(|has| *has >= size);
    let candidates = peers.iter().filter_map(|(id, peer)| {
        let (failed, wrong) = peer.distrust(log, now);
        (has(peer) && !wrong).then(|| ((!failed, peer.operator.as_ref() == Some(&log.operator)), *id))
    });
    candidates.max_by_key(|(rank, _)| *rank).map(|(_, id)| id)
}

/// The `quorum`-th largest of the operators' cosigned sizes; 0 if there are fewer.
fn certified_size(sizes: impl Iterator<Item = u64>, quorum: usize) -> u64 {
    let mut sizes: Vec<u64> = sizes.collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    quorum.checked_sub(1).and_then(|at| sizes.get(at)).copied().unwrap_or_default()
}

/// The log that a checkpoint is of.
#[must_use]
pub fn log_of(signed: &SignedCheckpoint) -> LogId {
    let origin = &signed.checkpoint().origin;
    LogId { operator: origin.operator.clone(), generation: origin.generation }
}
