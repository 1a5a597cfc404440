//! Which peers are connected, and which of these changes were reported to the node.
use std::collections::HashMap;

use libp2p::PeerId;

use super::NetworkEvent;

#[derive(Default)]
struct Presence {
    connections: usize,
    /// Whether the peer speaks this federation's protocol, by a connection that is still open.
    federated: bool,
    /// Whether the node's last report of the peer is that it is up.
    announced: bool,
    /// Whether the peer was gone for a moment since that report.
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

/// Every connected peer, and those whose departure has not been reported to the node yet.
///
/// Reported ups and downs of a peer strictly alternate; if the node is slow, several in between are reported as one.
pub(super) struct PeerPresence {
    peers: HashMap<PeerId, Presence>,
    /// False for a client, which reports nothing.
    reports: bool,
}

impl PeerPresence {
    pub(super) fn new(reports: bool) -> Self {
        Self { peers: HashMap::new(), reports }
    }

    /// Counts a new connection; true if it is the peer's first.
    pub(super) fn connected(&mut self, peer: PeerId) -> bool {
        let presence = self.peers.entry(peer).or_default();
        presence.connections += 1;
        presence.connections == 1
    }

    /// Counts a closed connection; true if it was the peer's last.
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

    /// Notes that the peer speaks this federation's protocol.
    pub(super) fn federated(&mut self, peer: PeerId) {
        if let Some(presence) = self.peers.get_mut(&peer) {
            presence.federated = self.reports && presence.connections > 0;
        }
    }

    /// Whether the peer has an open connection.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|presence| presence.connections > 0)
    }

    /// Whether [`Self::next_event`] would return an event.
    pub(super) fn has_news(&self) -> bool {
        self.peers.values().any(|presence| presence.news().is_some())
    }

    /// The next change that the node does not know yet. Counts as reported from here on.
    pub(super) fn next_event(&mut self) -> Option<NetworkEvent> {
        let (peer, up) = self.peers.iter().find_map(|(peer, presence)| Some((*peer, presence.news()?)))?;
        let presence = self.peers.get_mut(&peer)?;
        presence.announced = up;
        presence.bounced = false;
        self.tidy(peer);
        Some(if up { NetworkEvent::PeerUp { peer } } else { NetworkEvent::PeerDown { peer } })
    }

    /// Reports every connected peer again, to a new listener that knows of none.
    pub(super) fn report_again(&mut self) {
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

    fn reported(peers: &mut PeerPresence) -> Vec<bool> {
        std::iter::from_fn(|| peers.next_event()).map(|event| matches!(event, NetworkEvent::PeerUp { .. })).collect()
    }

    #[test]
    fn ups_and_downs_alternate() {
        let (mut peers, peer) = (PeerPresence::new(true), PeerId::random());
        assert!(peers.connected(peer));
        assert!(reported(&mut peers).is_empty(), "not known to be of the federation");
        peers.federated(peer);
        assert!(!peers.connected(peer));
        peers.federated(peer);
        assert_eq!(reported(&mut peers), [true]);
        assert!(!peers.disconnected(peer));
        assert!(reported(&mut peers).is_empty());
        assert!(peers.disconnected(peer));
        assert!(peers.connected(peer));
        peers.federated(peer);
        assert_eq!(reported(&mut peers), [false, true], "gone in between");
        assert!(peers.disconnected(peer));
        assert_eq!(reported(&mut peers), [false]);
        assert!(peers.connected(peer));
        peers.federated(peer);
        assert!(peers.disconnected(peer));
        assert!(reported(&mut peers).is_empty(), "never announced");
        assert!(peers.peers.is_empty());
        assert!(peers.connected(peer));
        peers.federated(peer);
        assert_eq!(reported(&mut peers), [true]);
        peers.report_again();
        assert_eq!(reported(&mut peers), [true], "to the new listener");
        assert!(peers.disconnected(peer));
        peers.report_again();
        assert!(reported(&mut peers).is_empty() && peers.peers.is_empty());
    }
}
