//! A peer: what it has, and how far it is trusted with requests.
use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use super::OtherSession;
use crate::id::Domain;
use crate::manifest::LogId;

/// For how long a peer that failed to give entries of a log is asked last, and one that gave wrong ones not at
/// all, in milliseconds.
pub(super) const DISTRUST_MILLIS: u64 = 60_000;
/// How soon a peer that failed to give entries up to the end of a log, of which nobody says how much it has, is asked
/// again, in milliseconds.
pub(super) const AGAIN_MILLIS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) operator: Option<Domain>,
    /// What it said last of other processes with this node's key.
    pub(super) other: Option<OtherSession>,
    pub(super) asked: Option<u64>,
    pub(super) next: u64,
    pub(super) sizes: BTreeMap<LogId, u64>,
    /// When it last failed to give entries, and whether it gave wrong ones.
    pub(super) failed: BTreeMap<LogId, (u64, bool)>,
}

impl PeerState {
    pub(super) fn fail(&mut self, log: &LogId, wrong: bool, now: u64) {
        self.sizes.remove(log);
        let wrong = wrong || self.distrust(log, now).1;
        self.failed.insert(log.clone(), (now, wrong));
    }

    /// When it failed, if that is lately, and whether so badly that it is not to be asked at all.
    fn distrust(&self, log: &LogId, now: u64) -> (Option<u64>, bool) {
        let lately = self.failed.get(log).filter(|(at, _)| now < at.saturating_add(DISTRUST_MILLIS));
        lately.map_or((None, false), |(at, wrong)| (Some(*at), *wrong))
    }
}

/// A peer with at least `size` entries of `log`, or of size 0 any operator: one that did not fail lately if
/// there is one, or whose failure was longest ago; the owner before others. Sizes are a peer's word, so a larger one
/// attracts nothing.
pub(super) fn source<P: Ord + Copy>(peers: &BTreeMap<P, PeerState>, log: &LogId, size: u64, now: u64) -> Option<P> {
    let has = |peer: &PeerState| match size {
        0 => peer.operator.is_some(),
        _ => peer.sizes.get(log).is_some_and(|has| *has >= size),
    };
    let candidates = peers.iter().filter_map(|(id, peer)| {
        let (failed, wrong) = peer.distrust(log, now);
        let rests = wrong || size == 0 && failed.is_some_and(|at| now < at.saturating_add(AGAIN_MILLIS));
        let owner = peer.operator.as_ref() == Some(&log.operator);
        (has(peer) && !rests).then(|| ((failed.is_none(), failed.map(Reverse), owner), *id))
    });
    candidates.max_by_key(|(rank, _)| *rank).map(|(_, id)| id)
}
