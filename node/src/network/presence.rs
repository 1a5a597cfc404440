//! Which peers are connected, and what the node has been told of it.
use std::collections::HashMap;

use libp2p::PeerId;

use super::NetworkEvent;

#[derive(Default)]
struct Presence {
    connections: usize,
    /// Said to speak this federation's protocol, on a connection that still counts.
    federated: bool,
    /// The node was told that it is up.
    announced: bool,
    /// It was gone in between.
    bounced: bool,
}

impl Presence {
    fn news(&self) -> Option<bool> {
        match (self.announced, self.federated) {
            (true, up) if !up || self.bounced => Some(false),
            (false, true) => Some(true),
            _ => None,
        }
    }
}

/// Every connected peer, and those whose going the node has not been told of.
///
/// Ups and downs of a peer strictly alternate; if the node is slow, several in between are told as one.
pub(super) struct PeerPresence {
    peers: HashMap<PeerId, Presence>,
    /// False where nobody listens: then there never is news.
    tell: bool,
}

impl PeerPresence {
    pub(super) fn new(tell: bool) -> Self {
        Self { peers: HashMap::new(), tell }
    }

    /// A new connection; true if it is the peer's first.
    pub(super) fn connected(&mut self, peer: PeerId) -> bool {
        let presence = self.peers.entry(peer).or_default();
        presence.connections += 1;
        presence.connections == 1
    }

    /// A connection is gone; true if it was the peer's last.
    pub(super) fn disconnected(&mut self, peer: PeerId) -> bool {
        let Some(presence) = self.peers.get_mut(&peer) else { return false };
        presence.connections = presence.connections.saturating_sub(1);
        let last = presence.connections == 0;
        if last {
            presence.federated = false;
            presence.bounced = presence.announced;
        }
        self.tidy(peer);
        last
    }

    /// The peer says that it speaks this federation's protocol.
    pub(super) fn federated(&mut self, peer: PeerId) {
        if let Some(presence) = self.peers.get_mut(&peer) {
            presence.federated = self.tell && presence.connections > 0;
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|presence| presence.connections > 0)
    }

    /// Whether [`Self::next_event`] has one.
    pub(super) fn has_news(&self) -> bool {
        self.peers.values().any(|presence| presence.news().is_some())
    }

    /// What the node has not been told yet.
    pub(super) fn next_event(&mut self) -> Option<NetworkEvent> {
        let (peer, up) = self.peers.iter().find_map(|(peer, presence)| Some((*peer, presence.news()?)))?;
        let presence = self.peers.get_mut(&peer)?;
        presence.announced = up;
        presence.bounced = false;
        self.tidy(peer);
        Some(if up { NetworkEvent::PeerUp { peer } } else { NetworkEvent::PeerDown { peer } })
    }

    /// Somebody new listens, who has been told nothing.
    pub(super) fn tell_again(&mut self) {
        self.peers.retain(|_, presence| {
            (presence.announced, presence.bounced) = (false, false);
            presence.connections > 0
        });
    }

    fn tidy(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|presence| presence.connections == 0 && !presence.announced) {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(peers: &mut PeerPresence) -> Vec<bool> {
        std::iter::from_fn(|| peers.next_event()).map(|event| matches!(event, NetworkEvent::PeerUp { .. })).collect()
    }

    #[test]
    fn ups_and_downs_alternate() {
        let (mut peers, peer) = (PeerPresence::new(true), PeerId::random());
        assert!(peers.connected(peer));
        assert!(told(&mut peers).is_empty(), "not known to be of the federation");
        peers.federated(peer);
        assert!(!peers.connected(peer));
        peers.federated(peer);
        assert_eq!(told(&mut peers), [true]);
        assert!(!peers.disconnected(peer));
        assert!(told(&mut peers).is_empty());
        assert!(peers.disconnected(peer));
        assert!(peers.connected(peer));
        peers.federated(peer);
        assert_eq!(told(&mut peers), [false, true], "gone in between");
        assert!(peers.disconnected(peer));
        assert_eq!(told(&mut peers), [false]);
        assert!(peers.connected(peer));
        peers.federated(peer);
        assert!(peers.disconnected(peer));
        assert!(told(&mut peers).is_empty(), "never announced");
        assert!(peers.peers.is_empty());
        assert!(peers.connected(peer));
        peers.federated(peer);
        assert_eq!(told(&mut peers), [true]);
        peers.tell_again();
        assert_eq!(told(&mut peers), [true], "to who listens now");
        assert!(peers.disconnected(peer));
        peers.tell_again();
        assert!(told(&mut peers).is_empty() && peers.peers.is_empty());
    }
}
