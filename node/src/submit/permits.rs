//! Per-peer concurrency limits: a number for all strangers and a part of it for each, and a number for each operator.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;

/// Counts the permits that each peer holds.
#[derive(Debug)]
pub(crate) struct Permits {
    strangers: usize,
    per_stranger: usize,
    per_operator: usize,
    held: Mutex<BTreeMap<PeerId, (bool, usize)>>,
}

/// One permit of one peer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<Permits>,
    peer: PeerId,
}

impl Permits {
    /// Up to `strangers` permits at a time for peers that are not operators, of which up to `per_stranger` for each; and
    /// up to `per_operator` for each operator, whatever the others hold.
    #[must_use]
    pub(crate) fn new((strangers, per_stranger, per_operator): (usize, usize, usize)) -> Arc<Self> {
        Arc::new(Self { strangers, per_stranger, per_operator, held: Mutex::default() })
    }

    /// One more permit for `peer`; `None` if its limit, or that of all strangers, is reached.
    pub(crate) fn take(self: &Arc<Self>, peer: PeerId, operator: bool) -> Option<Permit> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_strangers = || held.values().filter(|(operator, _)| !operator).map(|(_, count)| count).sum::<usize>();
        let own = held.get(&peer).map_or(0, |(_, count)| *count);
        let free = match operator {
            true => own < self.per_operator,
            false => own < self.per_stranger && of_strangers() < self.strangers,
        };
        free.then(|| {
            held.entry(peer).or_insert((operator, 0)).1 += 1;
            Permit { of: Arc::clone(self), peer }
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, count)) = held.get_mut(&self.peer) else { return };
        *count -= 1;
        if *count == 0 {
            held.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_share_of_another() {
        let (shares, [a, b, liar, operator]) = (Permits::new((4, 3, 2)), [(); 4].map(|()| PeerId::random()));
        let mut held: Vec<Permit> = (0..3).map(|_| shares.take(a, false).unwrap()).collect();
        assert!(shares.take(a, false).is_none(), "one stranger has its share");
        held.push(shares.take(b, false).unwrap());
        assert!(shares.take(b, false).is_none(), "all strangers have their share");
        held.extend((0..2).map(|_| shares.take(liar, true).unwrap()));
        assert!(shares.take(liar, true).is_none(), "one operator has its share");
        held.extend((0..2).map(|_| shares.take(operator, true).unwrap()));
        assert!(shares.take(operator, true).is_none());
        held.remove(0);
        assert!(shares.take(b, false).is_some(), "given back");
        drop(held);
        assert!(shares.held.lock().unwrap().is_empty());
    }
}
