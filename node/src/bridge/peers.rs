//! Which peers are connected: reported to the node's inbox and to the inbox of a certified state.
use std::collections::{BTreeMap, BTreeSet};

use fama_ledger::id::Domain;
use libp2p::PeerId;
use tokio::sync::{mpsc, watch};

use super::Bridge;
use crate::inbox::InboxInput;

/// Who is connected, for whoever looks: nothing that was not looked at in time is lost.
pub(super) type ConnectedPeers = watch::Sender<BTreeSet<PeerId>>;

impl Bridge {
    pub(super) fn note(&self, peer: PeerId, up: bool) {
        self.peers.send_if_modified(|connected| if up { connected.insert(peer) } else { connected.remove(&peer) });
    }

    /// Tells the inbox of this bridge, which gets none of the network's events, who is connected, for as long as
    /// there is an inbox.
    pub(crate) async fn follow(self) {
        tell(self.peers.subscribe(), &self.operators, &self.inputs).await;
    }

    /// Who is connected, operators first.
    #[must_use]
    pub(crate) fn peers(&self) -> Vec<PeerId> {
        let peers = self.peers.borrow();
        let (mut all, others): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| self.operators.contains_key(peer));
        all.extend(others);
        all
    }
}

/// Brings what an inbox knows of peers up to what is so, again and again; waits while its queue is full.
async fn tell(
    mut peers: watch::Receiver<BTreeSet<PeerId>>,
    operators: &BTreeMap<PeerId, Domain>,
    inputs: &mpsc::Sender<InboxInput>,
) {
    let mut told = BTreeSet::new();
    loop {
        let connected = peers.borrow_and_update().clone();
        let gone = told.difference(&connected).map(|peer| InboxInput::PeerDown { peer: *peer });
        let come = connected.difference(&told);
        let come = come.map(|peer| InboxInput::PeerUp { peer: *peer, operator: operators.get(peer).cloned() });
        for input in gone.chain(come) {
            if inputs.send(input).await.is_err() {
                return;
            }
        }
        told = connected;
        if peers.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the inbox believes once it has taken in all that is told.
    async fn believed(
        inputs: &mut mpsc::Receiver<InboxInput>,
        want: &BTreeSet<PeerId>,
        believes: &mut BTreeSet<PeerId>,
    ) {
        while believes != want {
            match inputs.recv().await.unwrap() {
                InboxInput::PeerUp { peer, .. } => assert!(believes.insert(peer), "told twice"),
                InboxInput::PeerDown { peer } => assert!(believes.remove(&peer), "never told of"),
                _ => {}
            }
        }
    }

    /// Symptom: a quick state's inbox asked peers that were gone, or never others that had come. Cause: what did not
    /// fit into its queue was dropped.
    #[tokio::test]
    async fn an_inbox_that_is_busy_learns_of_every_peer() {
        let all = watch::Sender::new(BTreeSet::new());
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        let operators = BTreeMap::from([(peers[1], "beta.example".parse().unwrap())]);
        let (inputs, mut taken) = mpsc::channel(1);
        inputs.send(InboxInput::Stop).await.unwrap();
        all.send_replace(peers[..3].iter().copied().collect());
        let receiver = all.subscribe();
        let telling = tokio::spawn(async move { tell(receiver, &operators, &inputs).await });
        tokio::task::yield_now().await;
        let mut believes = BTreeSet::new();
        let deadline = std::time::Duration::from_secs(5);
        for want in [peers[1..].iter().copied().collect(), BTreeSet::new()] {
            all.send_replace(want.clone());
            tokio::time::timeout(deadline, believed(&mut taken, &want, &mut believes)).await.unwrap();
        }
        drop(all);
        tokio::time::timeout(deadline, telling).await.unwrap().unwrap();
    }
}
