//! Turns of this node's own requests, so that peers that never answer hold up nobody but themselves.
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::limits;

/// What a request is for. Each kind has turns of its own with each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TurnKind {
    /// Frontiers, entries, notes, manifests and states.
    Sync,
    /// Forwarded events that are not revocations.
    Submit,
    /// Forwarded revocations: they wait for nothing else.
    Revoke,
}

impl TurnKind {
    const fn per_peer(self) -> usize {
        match self {
            Self::Sync => limits::TURNS_SYNC_PER_PEER,
            Self::Submit => limits::TURNS_SUBMIT_PER_PEER,
            Self::Revoke => limits::TURNS_REVOKE_PER_PEER,
        }
    }
}

/// A request's turn, until its answer or its failure.
#[derive(Debug)]
pub(super) struct RequestTurn {
    _peer: OwnedSemaphorePermit,
    _strangers: Option<OwnedSemaphorePermit>,
}

/// Each operator has turns of its own. Each stranger has, too, and all strangers together have a bounded number.
#[derive(Debug)]
pub(super) struct RequestTurns {
    strangers: Arc<Semaphore>,
    state: Mutex<RequestTurnsState>,
}

#[derive(Debug, Default)]
struct RequestTurnsState {
    operators: HashSet<PeerId>,
    peers: HashMap<(PeerId, TurnKind), Arc<Semaphore>>,
}

impl Default for RequestTurns {
    fn default() -> Self {
        Self { strangers: Arc::new(Semaphore::new(limits::TURNS_STRANGERS_MAX)), state: Mutex::default() }
    }
}

impl RequestTurns {
    pub(super) fn set_operators(&self, operators: impl Iterator<Item = PeerId>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).operators = operators.collect();
    }

    pub(super) fn is_operator(&self, peer: &PeerId) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).operators.contains(peer)
    }

    /// Waits for a turn with a peer.
    pub(super) async fn take(&self, peer: PeerId, kind: TurnKind) -> Result<RequestTurn, AcquireError> {
        let (own, is_operator) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.peers.len() >= limits::TURNS_PEERS_MAX {
                // Whoever holds or waits for a turn holds the semaphore too.
                state.peers.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            let own = state.peers.entry((peer, kind)).or_insert_with(|| Arc::new(Semaphore::new(kind.per_peer())));
            (Arc::clone(own), state.operators.contains(&peer))
        };
        let own = own.acquire_owned().await?;
        let strangers = match is_operator {
            true => None,
            false => Some(Arc::clone(&self.strangers).acquire_owned().await?),
        };
        Ok(RequestTurn { _peer: own, _strangers: strangers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn now(turns: &RequestTurns, peer: PeerId, kind: TurnKind) -> Option<RequestTurn> {
        tokio::time::timeout(Duration::from_millis(20), turns.take(peer, kind)).await.ok()?.ok()
    }

    /// Symptom: forty peers that never answered held all 64 turns, and operators waited for minutes. Cause: all requests
    /// shared one budget.
    #[tokio::test]
    async fn silent_peers_hold_up_nobody_but_themselves() {
        let (turns, operator, silent) = (RequestTurns::default(), PeerId::random(), PeerId::random());
        turns.set_operators([operator, silent].into_iter());
        let mut held = Vec::new();
        for _ in 0..400 {
            held.extend(now(&turns, PeerId::random(), TurnKind::Sync).await.filter(|_| held.len() < 400));
            if held.len() >= limits::TURNS_STRANGERS_MAX {
                break;
            }
        }
        assert_eq!(held.len(), limits::TURNS_STRANGERS_MAX);
        assert!(now(&turns, PeerId::random(), TurnKind::Sync).await.is_none(), "strangers wait for one another");
        for kind in [TurnKind::Sync, TurnKind::Submit, TurnKind::Revoke] {
            for _ in 0..kind.per_peer() {
                held.push(now(&turns, silent, kind).await.unwrap());
            }
            assert!(now(&turns, silent, kind).await.is_none(), "a silent operator has so many turns");
            assert!(now(&turns, operator, kind).await.is_some(), "another operator has its own");
        }
        held.clear();
        assert!(now(&turns, PeerId::random(), TurnKind::Sync).await.is_some());
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let turns = RequestTurns::default();
        for _ in 0..2 * limits::TURNS_PEERS_MAX {
            drop(turns.take(PeerId::random(), TurnKind::Sync).await);
        }
        assert!(turns.state.lock().unwrap().peers.len() <= limits::TURNS_PEERS_MAX);
    }
}
