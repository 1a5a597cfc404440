//! Penalties for peers that send rubbish, their gossip rates, and bans.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::limits;

struct Penalties {
    count: u32,
    since: Instant,
}

impl Penalties {
    fn at(&self, now: Instant) -> u32 {
        self.count.saturating_sub(self.forgotten(now))
    }

    fn forgotten(&self, now: Instant) -> u32 {
        let steps = now.saturating_duration_since(self.since).as_secs() / limits::PENALTY_DECAY.as_secs();
        u32::try_from(steps).unwrap_or(u32::MAX)
    }

    /// Counts one more. A new one does not delay how soon the earlier ones are forgotten.
    fn add(&mut self, now: Instant) {
        let forgotten = self.forgotten(now);
        if forgotten >= self.count {
            *self = Self { count: 1, since: now };
        } else {
            self.count = self.count - forgotten + 1;
            self.since += limits::PENALTY_DECAY.saturating_mul(forgotten);
        }
    }
}

/// One leaky bucket of penalties per peer. Kept across connections, so that reconnecting clears nothing.
#[derive(Default)]
pub(super) struct Scores(HashMap<PeerId, Penalties>);

impl Scores {
    /// Counts one more penalty. True if the peer has reached [`limits::PENALTIES_MAX`]; its count is then cleared.
    pub(super) fn penalize(&mut self, peer: PeerId, now: Instant) -> bool {
        if !self.0.contains_key(&peer) {
            self.make_room(now);
        }
        let penalties = self.0.entry(peer).or_insert(Penalties { count: 0, since: now });
        penalties.add(now);
        let too_many = penalties.count >= limits::PENALTIES_MAX;
        if too_many {
            self.0.remove(&peer);
        }
        too_many
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < limits::SCORES_MAX {
            return;
        }
        self.0.retain(|_, penalties| penalties.at(now) > 0);
        let least = self.0.iter().min_by_key(|(_, penalties)| penalties.at(now)).map(|(peer, _)| *peer);
        if let Some(peer) = least.filter(|_| self.0.len() >= limits::SCORES_MAX) {
            self.0.remove(&peer);
        }
    }
}

/// Gossip messages of each peer within its current second.
#[derive(Default)]
pub(super) struct Rates(HashMap<PeerId, (Instant, usize)>);

impl Rates {
    /// Counts one message; false if the peer has now sent more than `max` within a second.
    pub(super) fn count(&mut self, peer: PeerId, max: usize, now: Instant) -> bool {
        let (since, count) = self.0.entry(peer).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= max
    }

    /// Forgets a peer whose last connection is gone.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }
}

/// Banned peers, with the moment when each ban ends.
#[derive(Default)]
pub(super) struct Bans(HashMap<PeerId, Instant>);

impl Bans {
    /// Bans a peer for `length`; an earlier ban that ends later stays.
    pub(super) fn add(&mut self, peer: PeerId, length: Duration, now: Instant) {
        if self.0.len() >= limits::BANS_MAX && !self.0.contains_key(&peer) {
            self.make_room(now);
        }
        let until = self.0.entry(peer).or_insert(now);
        *until = (*until).max(now + length);
    }

    /// Whether the peer is banned now.
    pub(super) fn has(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_some_and(|until| *until > now)
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, until| *until > now);
        let soonest = self.0.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
        if let Some(peer) = soonest.filter(|_| self.0.len() >= limits::BANS_MAX) {
            self.0.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_add_up_and_are_forgotten() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        for _ in 1..limits::PENALTIES_MAX {
            assert!(!scores.penalize(peer, now));
        }
        let later = now + limits::PENALTY_DECAY;
        assert!(!scores.penalize(peer, later), "one was forgotten");
        assert!(scores.penalize(peer, later));
        assert!(!scores.penalize(peer, later), "the count starts over");
    }

    /// Symptom: a penalty every 20 seconds ended in a ban, although one is forgotten every 30. Cause: each penalty began
    /// the time until the next one is forgotten again.
    #[test]
    fn penalties_no_faster_than_they_are_forgotten_never_end_in_a_ban() {
        let (mut scores, peer, now) = (Scores::default(), PeerId::random(), Instant::now());
        for n in 0..100 {
            assert!(!scores.penalize(peer, now + limits::PENALTY_DECAY * n));
        }
        let often =
            |scores: &mut Scores, n: u32| scores.penalize(peer, now + Duration::from_secs(4_000 + 20 * u64::from(n)));
        let banned = (0..100).find(|n| often(&mut scores, *n));
        assert!(banned.is_some_and(|n| n > 15), "{banned:?}");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut scores, mut bans, now) = (Scores::default(), Bans::default(), Instant::now());
        let first = PeerId::random();
        bans.add(first, Duration::from_secs(1), now);
        for _ in 0..2 * limits::SCORES_MAX.max(limits::BANS_MAX) {
            scores.penalize(PeerId::random(), now);
            bans.add(PeerId::random(), Duration::from_secs(9), now);
        }
        assert_eq!((scores.0.len(), bans.0.len()), (limits::SCORES_MAX, limits::BANS_MAX));
        assert!(!bans.has(&first, now), "the ban that ends soonest made room");
    }

    #[test]
    fn bans_end() {
        let (mut bans, peer, now) = (Bans::default(), PeerId::random(), Instant::now());
        bans.add(peer, Duration::from_secs(9), now);
        bans.add(peer, Duration::from_secs(3), now);
        assert!(bans.has(&peer, now + Duration::from_secs(8)));
        assert!(!bans.has(&peer, now + Duration::from_secs(9)));
    }
}
