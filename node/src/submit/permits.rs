//! Per-peer concurrency limits: a total, a part of it for strangers, and a part of that for each stranger.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;

/// Counts the permits that each peer holds.
#[derive(Debug)]
pub(crate) struct Permits {
    all: usize,
    strangers: usize,
    each: usize,
    held: Mutex<BTreeMap<PeerId, (bool, usize)>>,
}

/// One permit of one peer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<Permits>,
    peer: PeerId,
}

impl Permits {
    /// Up to `all` permits at a time, of which up to `strangers` for peers that are not operators, of which up to
    /// `each` for one stranger.
    #[must_use]
    pub(crate) fn new(all: usize, strangers: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, strangers, each, held: Mutex::default() })
    }

    /// One more permit for `peer`; `None` if its limit or a total is reached.
    pub(crate) fn take(self: &Arc<Self>, peer: PeerId, operator: bool) -> Option<Permit> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |stranger: bool| -> usize {
            held.values().filter(|(operator, _)| !stranger || !operator).map(|(_, count)| count).sum()
        };
        let own = held.get(&peer).map_or(0, |(_, count)| *count);
        let free = count(false) < self.all && (operator || (count(true) < self.strangers && own < self.each));
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
        let (shares, [a, b, operator]) = (Permits::new(6, 4, 3), [(); 3].map(|()| PeerId::random()));
        let mut held: Vec<Permit> = (0..3).map(|_| shares.take(a, false).unwrap()).collect();
        assert!(shares.take(a, false).is_none(), "one stranger has its share");
        held.push(shares.take(b, false).unwrap());
        assert!(shares.take(b, false).is_none(), "all strangers have their share");
        held.extend((0..2).map(|_| shares.take(operator, true).unwrap()));
        assert!(shares.take(operator, true).is_none(), "all are taken");
        held.remove(0);
        assert!(shares.take(b, false).is_some(), "given back");
        drop(held);
        assert!(shares.held.lock().unwrap().is_empty());
    }
}
