//! A peer: which entries it has, and whether it is asked for them.
use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use super::OtherSession;
use crate::id::Domain;
use crate::manifest::LogId;

/// How long a peer is not asked at all for entries of a log after it returned wrong ones, in milliseconds.
pub(super) const DISTRUST_MILLIS: u64 = 60_000;
/// How long a peer is not asked again after it failed to return entries up to the end of a log, in milliseconds. No
/// peer reports its size of a log that ends.
pub(super) const AGAIN_MILLIS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) operator: Option<Domain>,
    /// Its latest report of another process with this node's key.
    pub(super) other: Option<OtherSession>,
    pub(super) asked: Option<u64>,
    pub(super) next: u64,
    pub(super) sizes: BTreeMap<LogId, u64>,
    /// When it last failed to return entries of a log, and whether it returned wrong ones.
    pub(super) failed: BTreeMap<LogId, (u64, bool)>,
}

impl PeerState {
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
///
/// Prefers a peer that never failed, then the one whose failure is oldest, then the log's owner, then operators. Peers
/// may lie about sizes, so a larger size gives no preference. A failure is never forgotten while the peer is connected:
/// however many peers claim entries and stay silent, each gets one request before all others had a turn.
pub(super) fn source<P: Ord + Copy>(peers: &BTreeMap<P, PeerState>, log: &LogId, size: u64, now: u64) -> Option<P> {
    let has = |peer: &PeerState| match size {
        0 => peer.operator.is_some(),
        _ => peer.sizes.get(log).is_some_and(|has| *has >= size),
    };
    let candidates = peers.iter().filter_map(|(id, peer)| {
        let (failed, wrong) = peer.distrust(log, now);
        let rests = wrong || size == 0 && failed.is_some_and(|at| now < at.saturating_add(AGAIN_MILLIS));
        let (owner, operator) = (peer.operator.as_ref() == Some(&log.operator), peer.operator.is_some());
        (has(peer) && !rests).then(|| ((failed.is_none(), failed.map(Reverse), owner, operator), *id))
    });
    candidates.max_by_key(|(rank, _)| *rank).map(|(_, id)| id)
}
