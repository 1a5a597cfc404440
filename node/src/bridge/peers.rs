//! The set of connected peers, and its reports to the inbox of a certified state.
use std::collections::{BTreeMap, BTreeSet};

use fama_ledger::id::Domain;
use libp2p::PeerId;
use tokio::sync::{mpsc, watch};

use super::Bridge;
use crate::inbox::InboxInput;

/// The connected peers. A slow reader sees the latest set, so it misses no peer that is still connected.
pub(super) type ConnectedPeers = watch::Sender<BTreeSet<PeerId>>;

impl Bridge {
    pub(super) fn note(&self, peer: PeerId, up: bool) {
        self.peers.send_if_modified(|connected| if up { connected.insert(peer) } else { connected.remove(&peer) });
    }

    /// Reports the connected peers to this bridge's inbox, which gets no events of the network, until that inbox is
    /// gone.
    pub(crate) async fn follow(self) {
        report(self.peers.subscribe(), &self.operators, &self.inputs).await;
    }

    /// The connected peers, operators first.
    #[must_use]
    pub(crate) fn peers(&self) -> Vec<PeerId> {
        let peers = self.peers.borrow();
        let (mut all, others): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| self.operators.contains_key(peer));
        all.extend(others);
        all
    }
}

/// Reports every change of the connected peers to an inbox; waits while its queue is full, and then reports the
/// difference to the latest set.
async fn report(
    mut peers: watch::Receiver<BTreeSet<PeerId>>,
    operators: &BTreeMap<PeerId, Domain>,
    inputs: &mpsc::Sender<InboxInput>,
) {
    let mut reported = BTreeSet::new();
    loop {
        let connected = peers.borrow_and_update().clone();
        let gone = reported.difference(&connected).map(|peer| InboxInput::PeerDown { peer: *peer });
        let come = connected.difference(&reported);
        let come = come.map(|peer| InboxInput::PeerUp { peer: *peer, operator: operators.get(peer).cloned() });
        for input in gone.chain(come) {
            if inputs.send(input).await.is_err() {
                return;
            }
        }
        reported = connected;
        if peers.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes reports until the inbox believes that the peers in `want` are connected.
    async fn believed(
        inputs: &mut mpsc::Receiver<InboxInput>,
        want: &BTreeSet<PeerId>,
        believes: &mut BTreeSet<PeerId>,
    ) {
        while believes != want {
            match inputs.recv().await.unwrap() {
                InboxInput::PeerUp { peer, .. } => assert!(believes.insert(peer), "reported twice"),
                InboxInput::PeerDown { peer } => assert!(believes.remove(&peer), "never reported"),
                _ => {}
            }
        }
    }

    /// Symptom: the inbox of a certified state asked peers that were gone, and never asked peers that had connected.
    /// Cause: reports that did not fit into its queue were dropped.
    #[tokio::test]
    async fn an_inbox_that_is_busy_learns_of_every_peer() {
        let all = watch::Sender::new(BTreeSet::new());
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        let operators = BTreeMap::from([(peers[1], "beta.example".parse().unwrap())]);
        let (inputs, mut taken) = mpsc::channel(1);
        inputs.send(InboxInput::Stop).await.unwrap();
        all.send_replace(peers[..3].iter().copied().collect());
        let receiver = all.subscribe();
        let reporting = tokio::spawn(async move { report(receiver, &operators, &inputs).await });
        tokio::task::yield_now().await;
        let mut believes = BTreeSet::new();
        let deadline = std::time::Duration::from_secs(5);
        for want in [peers[1..].iter().copied().collect(), BTreeSet::new()] {
            all.send_replace(want.clone());
            tokio::time::timeout(deadline, believed(&mut taken, &want, &mut believes)).await.unwrap();
        }
        drop(all);
        tokio::time::timeout(deadline, reporting).await.unwrap().unwrap();
    }
}
