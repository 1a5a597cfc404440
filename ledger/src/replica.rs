//! Replication without I/O: what peers have goes in, requests and verdicts come out.
//!
//! The caller moves the bytes: it verifies signatures before it calls in, does what each [`Output`]
//! says, and calls back when that is done. Nothing here reads a clock: `now` is the caller's
//! monotonic time in milliseconds.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use bincode::{Decode, Encode};

use crate::checkpoint::{Cosignature, SignedCheckpoint};
use crate::id::{Domain, TreeRoot};
use crate::log::Head;
use crate::manifest::{Cut, LogId, Manifest};

mod announce;
mod certificate;
mod gate;
#[cfg(test)]
mod tests;

pub use certificate::Certificate;
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
    /// The log adopts a manifest version that is not held yet: it goes on once that is.
    Unheld,
}

/// A verified cosignature and the head that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// Whose node key made the cosignature: that of this generation of the operator's log.
    pub by: LogId,
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
    /// Keep a head that its owner signed on another branch, durably: [`Replica::equivocated`] tells of it after
    /// a restart. With a head of this copy's branch that is at least as large it proves the equivocation.
    KeepConflicting {
        /// It.
        signed: SignedCheckpoint,
        /// The owner's smallest known head on this copy's branch that is as large, or larger.
        beside: Option<SignedCheckpoint>,
    },
    /// This copy is on a branch that others have left for good: drop what lies behind this size, fetch anew.
    Rewind {
        /// The log.
        log: LogId,
        /// What stays.
        size: u64,
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
    /// Keep the log's certificate: a new one, or one with more cosignatures.
    KeepCertificate {
        /// It.
        certificate: Certificate,
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
        /// With the node key of this generation of the own log.
        by: LogId,
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

/// A version that a log adopted, and the size behind the batch that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Adopted {
    /// The version.
    pub version: u32,
    /// Entries up to the state entry behind the adoption.
    pub size: u64,
}

#[derive(Debug)]
struct Copy<P> {
    head: Head,
    /// Nothing is known of the roots at smaller sizes, but of the empty log's.
    base: u64,
    recent: BTreeMap<u64, TreeRoot>,
    newest: Option<SignedCheckpoint>,
    /// The owner's head that the copy is exactly at, if one is known.
    here: Option<SignedCheckpoint>,
    /// Newest by each node key; `true` once its head is known to lie on this copy's branch.
    cosigned: BTreeMap<LogId, (Cosigned, bool)>,
    /// The versions that the log adopted, each with the size behind its batch.
    adopted: Vec<Adopted>,
    certified: u64,
    certificates: certificate::Certificates,
    fetch: Option<(P, u64)>,
    fault: Option<Fault>,
    /// Where the log ends, by a manifest that is held or about to be.
    end: Option<Head>,
    /// This operator cosigns nothing more here until the next version holds.
    standing: bool,
    /// The log goes on under a version that is not held.
    unheld: bool,
    /// Operators that gave entries which do not lead from this copy to a head that the log surely has.
    contrary: BTreeSet<Domain>,
    rewinding: bool,
}

impl<P> Copy<P> {
    const fn new(end: Option<Head>) -> Self {
        Self {
            head: Head::EMPTY,
            base: 0,
            recent: BTreeMap::new(),
            newest: None,
            here: None,
            cosigned: BTreeMap::new(),
            adopted: Vec::new(),
            certified: 0,
            certificates: certificate::Certificates::new(),
            fetch: None,
            fault: None,
            end,
            standing: false,
            unheld: false,
            contrary: BTreeSet::new(),
            rewinding: false,
        }
    }
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

/// What the disk has of one log.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The head of the copy.
    pub head: Head,
    /// The size from which on entries are here; what lies below is known to be certified.
    pub base: u64,
    /// The versions adopted up to there.
    pub adopted: Vec<Adopted>,
    /// How much of it is final.
    pub certified: u64,
    /// The owner's largest known head.
    pub newest: Option<SignedCheckpoint>,
    /// Newest cosignature by each node key.
    pub cosigned: Vec<Cosigned>,
    /// The largest head that a quorum cosigned on one note.
    pub certificate: Option<Certificate>,
}

/// A node's knowledge of all logs and peers. `P` names a peer.
#[derive(Debug)]
pub struct Replica<P> {
    manifest: Arc<Manifest>,
    me: Option<Domain>,
    keys: Vec<LogId>,
    logs: BTreeMap<LogId, Copy<P>>,
    peers: BTreeMap<P, Peer>,
    gate: gate::Gate,
    announcer: announce::Announcer,
    halted: bool,
}

impl<P: Ord + core::marker::Copy> Replica<P> {
    /// Knows nothing yet; `me` is the operator that this node is, if it is one, and `keys` the generations
    /// whose node keys it cosigns with.
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, me: Option<Domain>, keys: Vec<LogId>) -> Self {
        let cut = |log: &LogId| manifest.cut(log).map(|cut| cut.head);
        let logs = manifest.logs().keys().map(|log| (log.clone(), Copy::new(cut(log)))).collect();
        let gate = gate::Gate::new(me.clone(), manifest.operators().len(), manifest.faults());
        let (peers, announcer) = (BTreeMap::new(), announce::Announcer::default());
        Self { manifest, me, keys, logs, peers, gate, announcer, halted: false }
    }

    /// Logs end where the next version cuts them: each copy is brought there, and cosigned no more.
    pub fn end(&mut self, cuts: impl IntoIterator<Item = Cut>) {
        for cut in cuts {
            if let Some(copy) = self.logs.get_mut(&cut.log) {
                copy.end = Some(cut.head);
            }
        }
    }

    /// Whether every copy of a log that ends is exactly at its end.
    #[must_use]
    pub fn at_ends(&self) -> bool {
        self.logs.values().all(|copy| copy.end.is_none_or(|end| copy.head == end))
    }

    /// The logs that end, whose copies are not there yet.
    pub fn short_of_end(&self) -> impl Iterator<Item = &LogId> {
        let short = |copy: &Copy<P>| copy.end.is_some_and(|end| copy.head != end);
        self.logs.iter().filter(move |(_, copy)| short(copy)).map(|(log, _)| log)
    }

    /// This operator said what it cosigned in `log`, and says no more there until the next version holds.
    pub fn stand(&mut self, log: &LogId) {
        if let Some(copy) = self.logs.get_mut(log) {
            copy.standing = true;
        }
    }

    /// Whether it stands still there.
    #[must_use]
    pub fn stands(&self, log: &LogId) -> bool {
        self.logs.get(log).is_some_and(|copy| copy.standing)
    }

    /// Two manifests of one version are valid: nothing is cosigned any more.
    pub const fn halt(&mut self) {
        self.halted = true;
    }

    /// The largest head that this operator cosigned in `log`, with any of its node keys.
    #[must_use]
    pub fn own_cosigned(&self, log: &LogId) -> Option<Head> {
        let copy = self.logs.get(log)?;
        self.keys.iter().filter_map(|key| Some(copy.cosigned.get(key)?.0.head())).max()
    }

    /// Puts back what the disk has of one log, before anything else is said of it.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn restore<R: Roots>(&mut self, log: &LogId, stored: Stored, roots: &R) -> Result<Vec<Output<P>>, R::Error> {
        let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
        let head = stored.head;
        (copy.head, copy.newest, copy.adopted) = (head, stored.newest, stored.adopted);
        copy.base = stored.base;
        copy.certified = stored.certified.min(head.size);
        copy.certificates = certificate::Certificates::restored(stored.certificate, &stored.cosigned);
        copy.cosigned = stored.cosigned.into_iter().map(|one| (one.by.clone(), (one, false))).collect();
        let here = copy.signed().find(|signed| signed.checkpoint().head == head).cloned();
        copy.here = here;
        let mut out = Vec::new();
        if let Some(conflicting) = self.conflicting_newest(log, roots)? {
            out.extend(self.equivocated(conflicting, roots)?);
        }
        out.extend(self.certify(log, roots)?);
        Ok(out)
    }

    /// The owner signed this head and others of which none extends the other: from now on, for good.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn equivocated<R: Roots>(&mut self, signed: SignedCheckpoint, roots: &R) -> Result<Vec<Output<P>>, R::Error> {
        let log = log_of(&signed);
        let Some(fault) = self.set_fault(&log, Fault::Equivocation) else { return Ok(Vec::new()) };
        let beside = self.beside(&log, signed.checkpoint().head, roots)?;
        Ok(Vec::from([Output::KeepConflicting { signed, beside }, fault]))
    }

    /// A proof was shown that the owner of `log` signed two heads of which none extends the other.
    pub fn proven(&mut self, log: &LogId) -> Vec<Output<P>> {
        Vec::from_iter(self.set_fault(log, Fault::Equivocation))
    }

    /// The owner's smallest known head of at least `head`'s size that is its rival: of the same size with
    /// another root, or on this copy's branch.
    fn beside<R: Roots>(&self, log: &LogId, head: Head, roots: &R) -> Result<Option<SignedCheckpoint>, R::Error> {
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

    /// Whether a cosignature of `head` by this node key would be news.
    #[must_use]
    pub fn wants_cosigned(&self, log: &LogId, by: &LogId, head: &Head) -> bool {
        let wanted = head.size > 0 && self.manifest.log(by).is_some();
        let copy = self.logs.get(log).filter(|copy| wanted && copy.end.is_none());
        let known = copy.map(|copy| copy.cosigned.get(by).map(|(known, _)| known.head()));
        known.is_some_and(|known| {
            known.is_none_or(|known| head.size > known.size || (head.size == known.size && head.root != known.root))
        })
    }

    /// As [`Replica::wants_cosigned`], where it is not known yet with which of its node keys `operator` cosigned.
    #[must_use]
    pub fn wants_cosigned_of(&self, log: &LogId, operator: &Domain, head: &Head) -> bool {
        let known = |by: &LogId| Some(self.logs.get(log)?.cosigned.get(by)?.0.head());
        let mut generations = self.manifest.generations(operator).map(|(by, _)| by);
        !self.manifest.generations(operator).any(|(by, _)| known(by) == Some(*head))
            && generations.any(|by| self.wants_cosigned(log, by, head))
    }

    /// The owner's largest known head that this copy has.
    ///
    /// # Errors
    /// What reading a root fails with.
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

    /// Whether the log ends, by a manifest that is held.
    #[must_use]
    pub fn ends(&self, log: &LogId) -> bool {
        self.logs.get(log).is_some_and(|copy| copy.end.is_some())
    }

    /// Whether enough operators answered since the start.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.gate.is_open()
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
        // A log without entries has no head, and one that ends no other than its last.
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

    /// Whether `head` is a head of this copy; `None` if the copy is shorter, or begins behind it.
    fn on_branch<R: Roots>(&self, log: &LogId, head: &Head, roots: &R) -> Result<Option<bool>, R::Error> {
        let known = |copy: &&Copy<P>| (copy.base..=copy.head.size).contains(&head.size);
        let Some(copy) = self.logs.get(log).filter(known) else { return Ok(None) };
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
        if !self.wants_cosigned(&log, &cosigned.by, &cosigned.head()) {
            return Ok(Vec::new());
        }
        let mut out = self.checkpoint(cosigned.signed.clone(), now, roots)?;
        if let Some(copy) = self.logs.get_mut(&log) {
            copy.cosigned.insert(cosigned.by.clone(), (cosigned.clone(), false));
            copy.certificates.add(&cosigned);
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
        let on = |by: &LogId| self.logs.get(log).and_then(|copy| copy.cosigned.get(by)).map(|(one, _)| one.head());
        let operators = self.manifest.operators().iter();
        if operators.filter(|operator| on(&operator.log()) == Some(*head)).count() >= self.manifest.quorum() {
            self.announcer.found(head.size);
        }
    }

    /// Looks which cosigned heads lie on this copy's branch, and how far that certifies it.
    fn certify<R: Roots>(&mut self, log: &LogId, roots: &R) -> Result<Vec<Output<P>>, R::Error> {
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
            out.push(Output::Certified { log: log.clone(), size });
        }
        out.extend(self.certificates(log, roots)?);
        out.extend(self.leave_branch(log, roots)?);
        Ok(out)
    }

    /// Whether this copy has to go back: it is beyond the log's end or beside it, or others certified a head
    /// that it does not have.
    fn leave_branch<R: Roots>(&mut self, log: &LogId, roots: &R) -> Result<Option<Output<P>>, R::Error> {
        let Some(copy) = self.logs.get(log).filter(|copy| !copy.rewinding) else { return Ok(None) };
        let certain = copy.end.or_else(|| copy.certified_beside(&self.manifest));
        let Some(certain) = certain else { return Ok(None) };
        let size = match self.on_branch(log, &certain, roots)? {
            Some(true) if copy.end.is_some() && copy.head.size > certain.size => certain.size,
            Some(false) => copy.certified.min(certain.size),
            _ => return Ok(None),
        };
        Ok(self.rewind(log, size))
    }

    fn rewind(&mut self, log: &LogId, size: u64) -> Option<Output<P>> {
        let copy = self.logs.get_mut(log).filter(|copy| !copy.rewinding && size < copy.head.size)?;
        copy.rewinding = true;
        Some(Output::Rewind { log: log.clone(), size })
    }

    /// This copy is durable up to `head` now; `adopted` is what the new entries adopt.
    ///
    /// # Errors
    /// What reading a root fails with.
    pub fn advanced<R: Roots>(
        &mut self,
        log: &LogId,
        head: Head,
        adopted: Vec<Adopted>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
        (copy.head, copy.fetch) = (head, None);
        copy.contrary.clear();
        copy.adopted.extend(adopted);
        let here = copy.signed().find(|signed| signed.checkpoint().head == head).cloned();
        copy.here = here;
        copy.recent.insert(head.size, head.root);
        if copy.recent.len() > RECENT_HEADS_MAX {
            copy.recent.pop_first();
        }
        let mut out = Vec::new();
        if let Some(conflicting) = self.conflicting_newest(log, roots)? {
            out.extend(self.equivocated(conflicting, roots)?);
        }
        out.extend(self.certify(log, roots)?);
        out.extend(self.work(now));
        Ok(out)
    }

    /// The owner's largest known head, if this copy reaches it and is on another branch.
    fn conflicting_newest<R: Roots>(&self, log: &LogId, roots: &R) -> Result<Option<SignedCheckpoint>, R::Error> {
        let ends = self.logs.get(log).is_some_and(|copy| copy.end.is_some());
        let Some(newest) = self.newest(log).filter(|_| !ends) else { return Ok(None) };
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
        adopted: Vec<Adopted>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<Output<P>>, R::Error> {
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        if let Some(copy) = self.logs.get_mut(&log) {
            copy.newest = Some(signed.clone());
        }
        self.announcer.appended(signed);
        let mut out = Vec::from_iter(self.announcer.due(now).map(|signed| Output::Announce { signed }));
        out.extend(self.advanced(&log, head, adopted, now, roots)?);
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
        match failure {
            Failure::Invalid => out.extend(self.set_fault(log, Fault::Invalid)),
            Failure::Unheld => {
                if let Some(copy) = self.logs.get_mut(log) {
                    copy.unheld = true;
                }
            }
            Failure::Wrong => out.extend(self.contrary(peer, log)),
            Failure::Late | Failure::Unanswered => {}
        }
        out.extend(self.work(now));
        out
    }

    /// A peer's entries lead to what the log surely has, but not from this copy: if more operators than may lie
    /// say so, the copy is on another branch. Nothing that is final lies behind its certified part.
    fn contrary(&mut self, peer: P, log: &LogId) -> Option<Output<P>> {
        let operator = self.peers.get(&peer)?.operator.clone()?;
        let copy = self.logs.get_mut(log).filter(|copy| copy.certain(&self.manifest).is_some())?;
        copy.contrary.insert(operator);
        let (said, certified) = (copy.contrary.len(), copy.certified);
        if said > self.manifest.faults() { self.rewind(log, certified) } else { None }
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
        let copy = self.logs.get(&own);
        if self.fault(&own).is_some() {
            Err(Waiting::OwnLogFault)
        } else if copy.is_some_and(|copy| copy.standing || copy.end.is_some()) {
            Err(Waiting::Ending)
        } else if self.halted {
            Err(Waiting::Halted)
        } else {
            self.gate.check(behind, now)
        }
    }

    /// Whether the own log has adopted the version in use, and so carries the homes that it gives it.
    #[must_use]
    pub fn has_adopted(&self) -> bool {
        let copy = self.own_log().and_then(|own| self.logs.get(&own));
        copy.and_then(|copy| copy.adopted.last()).is_some_and(|last| last.version == self.manifest.version())
    }

    /// Whether the own log may adopt another version: all that it adopted before is certified, so that at most
    /// one adoption never is.
    #[must_use]
    pub fn may_adopt(&self) -> bool {
        let copy = self.own_log().and_then(|own| self.logs.get(&own));
        copy.is_some_and(|copy| copy.uncertified_adoptions() == 0)
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

    /// The wall clock made a step of so many milliseconds that time did not: too little to distrust it.
    pub fn clock_stepped(&mut self, millis: i64) {
        self.gate.clock_stepped(millis);
    }

    /// The wall clock made a leap that time did not.
    pub fn clock_jumped(&mut self, now: u64) {
        self.gate.clock_jumped(now);
    }

    /// What can be fetched and cosigned as things stand.
    fn work(&mut self, now: u64) -> Vec<Output<P>> {
        let mut out = Vec::new();
        let cosigns = self.gate.may_cosign(now) && !self.halted;
        for (log, copy) in self.logs.iter_mut().filter(|(_, copy)| !copy.rewinding) {
            if copy.fetch.is_none()
                && let Some((peer, head)) = copy.within_reach(log, &self.manifest, &self.peers, now)
            {
                copy.fetch = Some((peer, now));
                out.push(Output::Fetch { peer, log: log.clone(), from: copy.head.size, head });
            }
            for by in self.keys.iter().filter(|_| cosigns) {
                let signed = copy.to_cosign(by, &self.keys).cloned();
                out.extend(signed.map(|signed| Output::Cosign { signed, by: by.clone() }));
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

    /// The largest head beyond the copy that a peer can lead to. Nobody may have the newest: an owner can fall
    /// silent behind a head that it told. A log that ends, or has a fault, is followed to what is certain only.
    fn within_reach(&self, log: &LogId, manifest: &Manifest, peers: &BTreeMap<P, Peer>, now: u64) -> Option<(P, Head)> {
        if self.unheld || (self.fault == Some(Fault::Invalid) && self.end.is_none()) {
            return None;
        }
        let mut beyond: Vec<Head> = match self.certain(manifest) {
            Some(head) => Vec::from([head]),
            None if self.fault.is_some() => Vec::new(),
            None => self.signed().map(|signed| signed.checkpoint().head).collect(),
        };
        beyond.retain(|head| head.size > self.head.size);
        beyond.sort_unstable_by(|a, b| b.cmp(a));
        // Who uses the version that ends a log has all of it, and does not speak of it any more.
        let size = |head: Head| if self.end == Some(head) { 0 } else { head.size };
        beyond.into_iter().find_map(|head| Some((source(peers, log, size(head), now)?, head)))
    }

    /// The head that the log surely has, where the owner's word is not enough: its end, or if it has a fault,
    /// the largest head that a quorum cosigned.
    fn certain(&self, manifest: &Manifest) -> Option<Head> {
        self.end.or_else(|| self.certified_beside(manifest))
    }

    /// The largest head that a quorum cosigned, of a log with a fault.
    fn certified_beside(&self, manifest: &Manifest) -> Option<Head> {
        self.fault?;
        let version = self.adopted.last().map_or(Some(manifest), |last| manifest.at(last.version))?;
        let mut heads: Vec<Head> = self.cosigned.values().map(|(cosigned, _)| cosigned.head()).collect();
        heads.sort_unstable_by(|a, b| b.cmp(a));
        heads.dedup();
        heads.into_iter().find(|head| {
            let on = |log: &LogId| self.cosigned.get(log).is_some_and(|(cosigned, _)| cosigned.head() == *head);
            version.operators().iter().filter(|operator| on(&operator.log())).count() >= version.quorum()
        })
    }

    /// The head to cosign with the key `by`, with the copy exactly there: the newest, or where that is out of
    /// reach, the one before. Never one with two adoptions that are not certified.
    fn to_cosign(&self, by: &LogId, keys: &[LogId]) -> Option<&SignedCheckpoint> {
        let rests = self.fault.is_some() || self.end.is_some() || self.standing || self.fetch.is_some();
        if rests || self.uncertified_adoptions() > 1 {
            return None;
        }
        let cosigned = |key: &LogId| self.cosigned.get(key).map_or(0, |(mine, _)| mine.head().size);
        let smaller = keys.iter().any(|key| cosigned(key) > self.head.size);
        self.here.as_ref().filter(|_| !smaller && cosigned(by) < self.head.size)
    }

    fn uncertified_adoptions(&self) -> usize {
        self.adopted.iter().filter(|adopted| adopted.size > self.certified).count()
    }

    /// How far quorums certify this copy: up to the end of the batch that adopts a version, one of the version
    /// before it; beyond, one of that version. All of a log that ends is certain at its end.
    fn certified_size(&self, manifest: &Manifest, since: u32) -> u64 {
        if self.end == Some(self.head) {
            return self.head.size;
        }
        let mut later = self.adopted.iter().skip(1);
        let (mut version, mut certified) = (since, 0);
        loop {
            let Some(under) = manifest.at(version) else { return certified };
            let on =
                |log: &LogId| self.cosigned.get(log).filter(|(_, on)| *on).map(|(cosigned, _)| cosigned.head().size);
            let sizes = under.operators().iter().filter_map(|operator| on(&operator.log()));
            let size = certified_size(sizes, under.quorum());
            match later.next() {
                Some(next) if size >= next.size => (version, certified) = (next.version, next.size),
                Some(next) => return size.min(next.size).max(certified),
                None => return size.max(certified),
            }
        }
    }
}

/// A peer with at least `size` entries of `log`, or of size 0 any operator: one that did not fail lately if there is one, the owner
/// before others. Sizes are a peer's word, so a larger one attracts nothing.
fn source<P: Ord + core::marker::Copy>(peers: &BTreeMap<P, Peer>, log: &LogId, size: u64, now: u64) -> Option<P> {
    let has = |peer: &Peer| match size {
        0 => peer.operator.is_some(),
        _ => peer.sizes.get(log).is_some_and(|has| *has >= size),
    };
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
