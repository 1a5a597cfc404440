//! Who is connected: told to the node's inbox, and to one that follows beside it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use fama_ledger::id::Domain;
use libp2p::PeerId;
use tokio::sync::mpsc;

use super::Driver;
use crate::inbox::Input;

/// Who is connected, and who else is to know.
#[derive(Default)]
pub(super) struct Peers {
    connected: BTreeSet<PeerId>,
    follower: Option<(mpsc::Sender<Input>, Arc<BTreeMap<PeerId, Domain>>)>,
}

impl Peers {
    /// What is lost in a full queue the follower goes without.
    fn tell(&self, peer: PeerId, up: bool) {
        let Some((inputs, operators)) = &self.follower else { return };
        let operator = operators.get(&peer).cloned();
        let _ = inputs.try_send(if up { Input::PeerUp { peer, operator } } else { Input::PeerDown { peer } });
    }
}

impl Driver {
    pub(super) fn note(&self, peer: PeerId, up: bool) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if up {
            peers.connected.insert(peer)
        } else {
            peers.connected.remove(&peer)
        };
        peers.tell(peer, up);
    }

    /// From now on the inbox of `follower` knows who is connected; nobody's any more without one.
    pub fn follow(&self, follower: Option<&Self>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.follower = follower.map(|follower| (follower.inputs.clone(), Arc::clone(&follower.operators)));
        peers.connected.iter().for_each(|peer| peers.tell(*peer, true));
    }

    /// Who is connected, operators first.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut all, others): (Vec<_>, Vec<_>) =
            peers.connected.iter().partition(|peer| self.operators.contains_key(peer));
        all.extend(others);
        all
    }
}
