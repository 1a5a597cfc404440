//! Replication as a state machine without I/O: takes what peers have, returns requests and verdicts.
//!
//! The caller moves the bytes: it verifies all signatures before a call, executes every [`ReplicaOutput`], and
//! calls back when that is done. Nothing here reads a clock: `now` is the caller's monotonic time in milliseconds.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::adoption::Adopted;
use crate::checkpoint::SignedCheckpoint;
use crate::id::Domain;
use crate::log::Head;
use crate::manifest::{Cut, LogId, Manifest};

mod announce;
mod certificate;
mod copy;
mod exchange;
mod gate;
mod heads;
mod known;
mod peer;
mod renewal;
#[cfg(test)]
mod tests;

use copy::ReplicaLog;
use peer::{Failures, PeerState};

pub use certificate::Certificate;
pub use exchange::{Cosigned, Fault, FetchFailure, PeerLog, ReplicaOutput, Roots, StoredLog};
pub use gate::{OtherSession, Overrides, WaitReason, WriteWarning};
pub use renewal::{Renewal, is_misdated, renews};

/// How often a peer is asked for its frontier, in milliseconds.
pub const FRONTIER_MILLIS: u64 = 2_000;
/// How long a question for a frontier may stay unanswered before it is asked again, in milliseconds. A later answer
/// counts all the same.
pub const ANSWER_MILLIS: u64 = 5_000;
/// How long a request for entries may stay unanswered before another peer is asked, in milliseconds.
pub const REQUEST_MILLIS_MAX: u64 = 15_000;
/// How long a copy whose next entries are ahead of this node's clock waits before they are fetched again, in
/// milliseconds.
const AHEAD_REST_MILLIS: u64 = 5_000;
/// Most heads of a copy whose roots are kept in memory; the smallest go first.
const RECENT_HEADS_MAX: usize = 256;

/// What a node knows of all logs and peers. `P` identifies a peer.
#[derive(Debug)]
pub struct Replica<P> {
    manifest: Arc<Manifest>,
    me: Option<Domain>,
    keys: Vec<LogId>,
    logs: BTreeMap<LogId, ReplicaLog<P>>,
    peers: BTreeMap<P, PeerState>,
    /// Failures of operators that are not connected: a few for each operator, since their ids are those of their keys.
    departed: BTreeMap<P, Failures>,
    gate: gate::WriteGate,
    announcer: announce::Announcer,
    halted: bool,
    /// When this node last cosigned its newest heads again.
    round: Option<u64>,
}

impl<P: Ord + Copy> Replica<P> {
    /// A replica without logs' entries or peers. `me` is the operator of this node; a mirror has none. `keys` are the
    /// generations whose node keys it cosigns with.
    #[must_use]
    pub fn new(manifest: Arc<Manifest>, me: Option<Domain>, keys: Vec<LogId>) -> Self {
        let cut = |log: &LogId| manifest.cut(log).map(|cut| cut.head);
        let logs = manifest.logs().keys().map(|log| (log.clone(), ReplicaLog::new(cut(log)))).collect();
        let gate = gate::WriteGate::new(me.clone(), manifest.operators().len(), manifest.faults());
        let (peers, departed, announcer) = (BTreeMap::new(), BTreeMap::new(), announce::Announcer::default());
        Self { manifest, me, keys, logs, peers, departed, gate, announcer, halted: false, round: None }
    }

    /// The next version cuts these logs: each copy is brought to its cut, and is not cosigned any more.
    pub fn end(&mut self, cuts: impl IntoIterator<Item = Cut>) {
        for cut in cuts {
            if let Some(copy) = self.logs.get_mut(&cut.log) {
                copy.end = Some(cut.head);
            }
        }
    }

    /// This operator froze `log` with a stand: it cosigns nothing more there until the next version is in use.
    pub fn stand(&mut self, log: &LogId) {
        if let Some(copy) = self.logs.get_mut(log) {
            copy.standing = true;
        }
    }

    /// Two valid manifests of one version exist: nothing is cosigned any more.
    pub const fn halt(&mut self) {
        self.halted = true;
    }

    /// Restores one log from disk. Must come before any other call about this log.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn restore<R: Roots>(
        &mut self,
        log: &LogId,
        stored: StoredLog,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
        let head = stored.head;
        (copy.head, copy.newest, copy.adopted) = (head, stored.newest, stored.adopted);
        (copy.base, copy.rewinding) = (stored.base, false);
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

    /// The caller rolls this log back, and shows it as empty until it is restored in another replica: it is neither
    /// fetched nor cosigned. `certified` of its entries are final all the same. Comes after [`Replica::restore`].
    pub fn roll_back(&mut self, log: &LogId, certified: u64) {
        if let Some(copy) = self.logs.get_mut(log) {
            (copy.rewinding, copy.certified) = (true, certified);
        }
    }

    /// A peer connected. `operator` is the operator whose node key the peer has, if any.
    pub fn peer_up(&mut self, peer: P, operator: Option<Domain>, now: u64) -> Vec<ReplicaOutput<P>> {
        let failed = self.departed.remove(&peer).unwrap_or_default();
        self.peers.insert(peer, PeerState::new(operator, failed, now));
        Vec::from([ReplicaOutput::AskFrontier { peer }])
    }

    /// The last connection to a peer closed.
    pub fn peer_down(&mut self, peer: P) -> Vec<ReplicaOutput<P>> {
        // Strangers make new ids at no cost: to remember theirs would only cost memory.
        if let Some(gone) = self.peers.remove(&peer).filter(|gone| gone.operator.is_some() && !gone.failed.is_empty()) {
            self.departed.insert(peer, gone.failed);
        }
        for copy in self.logs.values_mut() {
            copy.fetch = copy.fetch.filter(|(from, _)| *from != peer);
        }
        Vec::new()
    }

    /// A peer did not answer with its frontier. The pause until it is asked again doubles each time in a row.
    pub fn unanswered(&mut self, peer: P, now: u64) {
        // A question that was given up counts once: it may fail on the network only later.
        if let Some(peer) = self.peers.get_mut(&peer).filter(|peer| peer.asked.is_some()) {
            peer.unanswered(now);
        }
    }

    /// Whether a peer reports another live process with this node's key. Call this before [`Replica::frontier`] with
    /// the frontier that contains the report.
    pub fn told_of_session(&mut self, peer: P, other: Option<OtherSession>) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.other = other;
        }
    }

    /// A peer answered with its frontier. `clock_ahead` is the peer's clock minus this node's, in milliseconds.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn frontier<R: Roots>(
        &mut self,
        peer: P,
        clock_ahead: i64,
        logs: Vec<PeerLog>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let mut out = Vec::new();
        let Some(known) = self.peers.get_mut(&peer) else { return Ok(out) };
        (known.asked, known.next, known.silent) = (None, now.saturating_add(FRONTIER_MILLIS), 0);
        let carried = logs.iter().filter(|log| self.logs.contains_key(&log.log));
        known.sizes = carried.map(|log| (log.log.clone(), log.size)).collect();
        let other = known.other;
        let operator = known.operator.clone().filter(|operator| self.me.as_ref() != Some(operator));
        for PeerLog { log, newest, cosigned, renewed, certificate, .. } in logs {
            if let Some(signed) = newest {
                out.extend(self.checkpoint(signed, now, roots)?);
            }
            for cosigned in cosigned {
                out.extend(self.cosigned(cosigned, now, roots)?);
            }
            out.extend(renewed.into_iter().filter_map(|renewal| self.renewed(&log, renewal)));
            out.extend(self.shown_certificate(&log, certificate, now, roots)?);
        }
        if let Some(operator) = operator {
            self.gate.heard(operator, clock_ahead, other, now);
            let next = now.saturating_add(self.gate.pause(now));
            self.peers.entry(peer).and_modify(|known| known.next = next);
        }
        out.extend(self.work(now));
        Ok(out)
    }

    /// The copy of `log` is now durable up to `head`. `adopted` lists the versions that the new entries adopt.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn advanced<R: Roots>(
        &mut self,
        log: &LogId,
        head: Head,
        adopted: Vec<Adopted>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
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

    /// The own log grew to a head that is durable and signed.
    ///
    /// # Errors
    /// The error of `roots`.
    pub fn appended<R: Roots>(
        &mut self,
        signed: SignedCheckpoint,
        adopted: Vec<Adopted>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let (log, head) = (log_of(&signed), signed.checkpoint().head);
        if let Some(copy) = self.logs.get_mut(&log) {
            copy.newest = Some(signed.clone());
        }
        self.announcer.appended(signed);
        let mut out = Vec::from_iter(self.announce(now));
        out.extend(self.advanced(&log, head, adopted, now, roots)?);
        Ok(out)
    }

    /// A range of entries, requested or received by gossip, did not extend the copy.
    pub fn fetch_failed(&mut self, peer: P, log: &LogId, failure: FetchFailure, now: u64) -> Vec<ReplicaOutput<P>> {
        if let Some(copy) = self.logs.get_mut(log) {
            copy.fetch = copy.fetch.filter(|(from, _)| *from != peer);
            // What is wrong for a branch that the copy is leaving may be right.
            let blamed = matches!(failure, FetchFailure::Unanswered | FetchFailure::Wrong) && !copy.rewinding;
            if let Some(known) = self.peers.get_mut(&peer).filter(|_| blamed) {
                // With two branches, honest peers have entries of either: each of them may be right after a rewind.
                let wrong = failure == FetchFailure::Wrong && copy.certain(&self.manifest).is_none();
                copy.failed(log, known, wrong, now);
            }
        }
        let mut out = Vec::new();
        match failure {
            FetchFailure::Invalid => out.extend(self.set_fault(log, Fault::Invalid)),
            FetchFailure::Unheld => {
                if let Some(copy) = self.logs.get_mut(log) {
                    copy.unheld = true;
                }
            }
            FetchFailure::Wrong => out.extend(self.contrary(peer, log)),
            FetchFailure::Ahead => {
                if let Some(copy) = self.logs.get_mut(log) {
                    copy.rests_until = now.saturating_add(AHEAD_REST_MILLIS);
                }
            }
            FetchFailure::Late | FetchFailure::Unanswered => {}
        }
        out.extend(self.work(now));
        out
    }

    /// Asks every peer for its frontier now, except peers whose answer is still pending and those that did not answer
    /// twice in a row.
    pub fn ask_all(&mut self, now: u64) -> Vec<ReplicaOutput<P>> {
        let idle = self.peers.iter_mut().filter(|(_, peer)| peer.asked.is_none() && peer.silent < 2);
        idle.map(|(peer, known)| {
            known.asked = Some(now);
            ReplicaOutput::AskFrontier { peer: *peer }
        })
        .collect()
    }

    /// Time passed: gives up requests that took too long, asks peers that are due for their frontier.
    pub fn tick(&mut self, now: u64) -> Vec<ReplicaOutput<P>> {
        let mut out = Vec::new();
        let late = |since: u64| since.saturating_add(REQUEST_MILLIS_MAX) <= now;
        for (peer, known) in &mut self.peers {
            if known.asked.is_some_and(|since| since.saturating_add(ANSWER_MILLIS) <= now) {
                known.unanswered(now);
            }
            if known.asked.is_none() && known.next <= now {
                known.asked = Some(now);
                out.push(ReplicaOutput::AskFrontier { peer: *peer });
            }
        }
        for (log, copy) in &mut self.logs {
            if let Some((peer, _)) = copy.fetch.take_if(|(_, since)| late(*since))
                && let Some(known) = self.peers.get_mut(&peer)
            {
                copy.failed(log, known, false, now);
            }
        }
        out.extend(self.announce(now));
        out.extend(self.work(now));
        out.extend(self.renew(now));
        out.extend(self.renewed_certificates());
        out
    }

    /// The newest head of the own log, if it is to be announced now.
    fn announce(&mut self, now: u64) -> Option<ReplicaOutput<P>> {
        let signed = self.announcer.due(now, self.manifest.heartbeat_ms())?;
        Some(ReplicaOutput::Announce { signed })
    }

    /// Sets what the operator vouches for. Must come before any other call.
    pub fn set_overrides(&mut self, overrides: Overrides) {
        self.gate.set_overrides(overrides);
    }

    /// The wall clock was adjusted by `millis`, too little to distrust it.
    pub fn clock_stepped(&mut self, millis: i64) {
        self.gate.clock_stepped(millis);
    }

    /// The wall clock jumped relative to the monotonic clock, too far to trust it.
    pub fn clock_jumped(&mut self, now: u64) {
        self.gate.clock_jumped(now);
    }

    /// Everything that can be fetched and cosigned now.
    fn work(&mut self, now: u64) -> Vec<ReplicaOutput<P>> {
        let mut out = Vec::new();
        let cosigns = self.gate.may_cosign(now) && !self.halted;
        // A cosignature would show a head before its announcement does.
        let held = self.own_log().filter(|_| self.announcer.holds());
        for (log, copy) in self.logs.iter_mut().filter(|(_, copy)| !copy.rewinding) {
            if copy.fetch.is_none()
                && let Some((peer, head)) = copy.within_reach(log, &self.manifest, &self.peers, now)
            {
                copy.fetch = Some((peer, now));
                out.push(ReplicaOutput::Fetch { peer, log: log.clone(), from: copy.head.size, head });
            }
            for by in self.keys.iter().filter(|_| cosigns && held.as_ref() != Some(log)) {
                let signed = copy.to_cosign(by, &self.keys).cloned();
                out.extend(signed.map(|signed| ReplicaOutput::Cosign { signed, by: by.clone() }));
            }
        }
        out
    }
}

/// The log whose head the checkpoint is, from its origin.
#[must_use]
pub fn log_of(signed: &SignedCheckpoint) -> LogId {
    let origin = &signed.checkpoint().origin;
    LogId { operator: origin.operator.clone(), generation: origin.generation }
}
