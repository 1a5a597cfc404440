//! A peer: which entries it has, and whether it is asked for them.
use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use super::{FRONTIER_MILLIS, OtherSession};
use crate::id::Domain;
use crate::manifest::LogId;

/// How long a peer is not asked at all for entries of a log after it returned wrong ones, in milliseconds.
pub(super) const DISTRUST_MILLIS: u64 = 60_000;
/// How long a peer is not asked again after it failed to return entries up to the end of a log, in milliseconds. No
/// peer reports its size of a log that ends.
pub(super) const AGAIN_MILLIS: u64 = 1_000;
/// Longest pause before an operator that does not answer is asked for its frontier again, in milliseconds.
pub(super) const SILENT_OPERATOR_MILLIS_MAX: u64 = 4_000;
/// The same for a stranger.
pub(super) const SILENT_STRANGER_MILLIS_MAX: u64 = 64_000;

#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) operator: Option<Domain>,
    /// When it connected.
    pub(super) since: u64,
    /// Its latest report of another process with this node's key.
    pub(super) other: Option<OtherSession>,
    pub(super) asked: Option<u64>,
    pub(super) next: u64,
    /// Questions for its frontier in a row that it did not answer.
    pub(super) silent: u32,
    pub(super) sizes: BTreeMap<LogId, u64>,
    pub(super) failed: Failures,
}

/// When a peer last failed to return entries of each log, and whether it returned wrong ones.
pub(super) type Failures = BTreeMap<LogId, (u64, bool)>;

impl PeerState {
    pub(super) const fn new(operator: Option<Domain>, failed: Failures, now: u64) -> Self {
        let sizes = BTreeMap::new();
        Self { operator, since: now, other: None, asked: Some(now), next: now, silent: 0, sizes, failed }
    }

    /// It did not answer: each time in a row, it is asked after twice the pause.
    pub(super) fn unanswered(&mut self, now: u64) {
        let most = match self.operator {
            Some(_) => SILENT_OPERATOR_MILLIS_MAX,
            None => SILENT_STRANGER_MILLIS_MAX,
        };
        let pause = FRONTIER_MILLIS.saturating_mul(1 << self.silent.min(16)).min(most);
        self.silent = self.silent.saturating_add(1);
        (self.asked, self.next) = (None, now.saturating_add(pause));
    }

    pub(super) fn fail(&mut self, log: &LogId, wrong: bool, now: u64) {
        self.sizes.remove(log);
        let wrong = wrong || self.distrust(log, now).1;
        self.failed.insert(log.clone(), (now, wrong));
    }

    /// When the peer last failed, and whether it must not be asked at all.
    fn distrust(&self, log: &LogId, now: u64) -> (Option<u64>, bool) {
        let recent = |at: u64| now < at.saturating_add(DISTRUST_MILLIS);
        self.failed.get(log).map_or((None, false), |(at, wrong)| (Some(*at), *wrong && recent(*at)))
    }
}

/// The peer to ask for `size` entries of `log`: one that reports at least as many or, if `size` is 0, any operator.
/// `strangers` is when a stranger last failed to return entries of the log.
///
/// Prefers a peer that never failed, then the one whose failure is oldest, then the log's owner, then operators. Peers
/// may lie about sizes, so a larger size gives no preference. Strangers share one failure, because new ids cost nothing:
/// however many there are, operators get a turn after each of theirs. Among strangers, those that never failed are
/// first, then those whose failure is oldest, then those that have been connected longest. An operator's failures are
/// never forgotten, and those of a stranger not while it is connected: however many claim entries and stay silent, each
/// gets one request before all others had a turn.
pub(super) fn source<P: Ord + Copy>(
    peers: &BTreeMap<P, PeerState>,
    log: &LogId,
    size: u64,
    strangers: Option<u64>,
    now: u64,
) -> Option<P> {
    let has = |peer: &PeerState| match size {
        0 => peer.operator.is_some(),
        _ => peer.sizes.get(log).is_some_and(|has| *has >= size),
    };
    let candidates = peers.iter().filter_map(|(id, peer)| {
        let (failed, wrong) = peer.distrust(log, now);
        let rests = wrong || size == 0 && failed.is_some_and(|at| now < at.saturating_add(AGAIN_MILLIS));
        let (owner, operator) = (peer.operator.as_ref() == Some(&log.operator), peer.operator.is_some());
        let last = if operator { failed } else { failed.max(strangers) };
        let class = (last.is_none(), last.map(Reverse), owner, operator);
        let own = (failed.is_none(), failed.map(Reverse), Reverse(peer.since));
        (has(peer) && !rests).then_some(((class, own), *id))
    });
    candidates.max_by_key(|(rank, _)| *rank).map(|(_, id)| id)
}
