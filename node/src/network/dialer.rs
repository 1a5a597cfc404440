//! When to dial which operator: forever while not connected, with growing, jittered pauses.
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::limits;

/// An operator's peer id and the addresses of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPeer {
    /// The peer that must answer at these addresses.
    pub peer_id: PeerId,
    /// TCP or QUIC addresses; hosts may be `/dns`, `/dns4` or `/dns6` names.
    pub addresses: Vec<Multiaddr>,
}

enum DialState {
    /// Until this moment, when the next attempt is due.
    Waiting(Instant),
    /// An attempt is in progress.
    Dialling,
    /// Since this moment.
    Connected(Instant),
}

struct DialTarget {
    addresses: Vec<Multiaddr>,
    /// Attempts since the last connection that lasted [`limits::STABLE_AFTER`].
    attempts: u32,
    state: DialState,
}

/// All operators except this node. Does no I/O; time is an argument.
pub(super) struct Dialer {
    own: PeerId,
    targets: HashMap<PeerId, DialTarget>,
}

impl Dialer {
    pub(super) fn new(own: PeerId, peers: Vec<OperatorPeer>, now: Instant) -> Self {
        let mut dialer = Self { own, targets: HashMap::new() };
        dialer.set(peers, now, |_| false);
        dialer
    }

    /// Replaces the operators; those that stay keep their state.
    pub(super) fn set(&mut self, peers: Vec<OperatorPeer>, now: Instant, connected: impl Fn(&PeerId) -> bool) {
        let mut known = std::mem::take(&mut self.targets);
        for OperatorPeer { peer_id, addresses } in peers.into_iter().filter(|peer| peer.peer_id != self.own) {
            let state = if connected(&peer_id) { DialState::Connected(now) } else { DialState::Waiting(now) };
            let (attempts, state) = known.remove(&peer_id).map_or((0, state), |old| (old.attempts, old.state));
            self.targets.insert(peer_id, DialTarget { addresses, attempts, state });
        }
    }

    /// The operators to dial now; from here on an attempt at each counts as in progress.
    pub(super) fn due(&mut self, now: Instant) -> Vec<OperatorPeer> {
        let mut due = Vec::new();
        for (peer_id, target) in &mut self.targets {
            if matches!(target.state, DialState::Waiting(at) if at <= now) {
                target.state = DialState::Dialling;
                due.push(OperatorPeer { peer_id: *peer_id, addresses: target.addresses.clone() });
            }
        }
        due
    }

    /// When the next operator is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = |target: &DialTarget| if let DialState::Waiting(at) = target.state { Some(at) } else { None };
        self.targets.values().filter_map(waiting).min()
    }

    /// Notes a peer's first connection, dialled by either side.
    pub(super) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.state = DialState::Connected(now);
        }
    }

    /// Schedules a redial after a failed attempt or a lost last connection. `random` spreads the redials of many nodes.
    pub(super) fn lost(&mut self, peer: &PeerId, now: Instant, random: u32) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        match target.state {
            DialState::Connected(since) if now.saturating_duration_since(since) >= limits::STABLE_AFTER => {
                target.attempts = 0;
            }
            _ => {}
        }
        target.state = DialState::Waiting(now + pause(target.attempts, random));
        target.attempts = target.attempts.saturating_add(1);
    }

    /// Schedules a redial after a failed attempt; does nothing if the peer is connected by now.
    pub(super) fn failed(&mut self, peer: &PeerId, now: Instant, random: u32) {
        if self.targets.get(peer).is_some_and(|target| matches!(target.state, DialState::Dialling)) {
            self.lost(peer, now, random);
        }
    }
}

/// Between half and all of a pause that doubles with each attempt, up to [`limits::REDIAL_MAX`].
fn pause(attempts: u32, random: u32) -> Duration {
    let full = limits::REDIAL_MIN.saturating_mul(1 << attempts.min(16)).min(limits::REDIAL_MAX);
    let half = full / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Replaces a host name by the IP addresses that the system resolves it to, at most [`limits::RESOLVED_MAX`].
///
/// An address without a host name is returned unchanged; a name that does not resolve gives no address.
pub(super) async fn resolve(address: &Multiaddr) -> Vec<Multiaddr> {
    let wanted: fn(&IpAddr) -> bool = match address.iter().next() {
        Some(Protocol::Dns(_)) => |_| true,
        Some(Protocol::Dns4(_)) => IpAddr::is_ipv4,
        Some(Protocol::Dns6(_)) => IpAddr::is_ipv6,
        _ => return vec![address.clone()],
    };
    let Some(Protocol::Dns(host) | Protocol::Dns4(host) | Protocol::Dns6(host)) = address.iter().next() else {
        return Vec::new();
    };
    let lookup = tokio::net::lookup_host((host.as_ref(), 0));
    let Ok(Ok(found)) = tokio::time::timeout(limits::RESOLVE_TIMEOUT, lookup).await else {
        return Vec::new();
    };
    let ips = found.map(|socket| socket.ip()).filter(wanted).take(limits::RESOLVED_MAX);
    ips.filter_map(|ip| address.replace(0, |_| Some(ip.into()))).collect()
}

/// Resolves all addresses of an operator.
pub(super) async fn resolve_all(peer: OperatorPeer) -> OperatorPeer {
    let resolved = futures::future::join_all(peer.addresses.iter().map(resolve)).await;
    OperatorPeer { peer_id: peer.peer_id, addresses: resolved.into_iter().flatten().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let (own, peer, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let peers = [own, peer].map(|peer_id| OperatorPeer { peer_id, addresses: Vec::new() });
        let mut dialer = Dialer::new(own, peers.to_vec(), now);
        assert_eq!(dialer.next(), Some(now));
        assert_eq!(dialer.due(now), [peers[1].clone()], "not this node");
        assert_eq!(dialer.next(), None, "an attempt is in progress");
        for want in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            dialer.failed(&peer, now, u32::MAX);
            assert_eq!(dialer.next(), Some(now + Duration::from_millis(want)));
            dialer.failed(&peer, now, u32::MAX);
            dialer.due(now + Duration::from_secs(60));
        }
        dialer.connected(&peer, now);
        dialer.failed(&peer, now, 0);
        assert_eq!(dialer.next(), None, "connected");
        dialer.lost(&peer, now, 0);
        assert_eq!(dialer.next(), Some(now + Duration::from_secs(15)), "it did not last");
        dialer.connected(&peer, now);
        let later = now + limits::STABLE_AFTER;
        dialer.lost(&peer, later, 0);
        assert_eq!(dialer.next(), Some(later + Duration::from_millis(125)));
        dialer.set(Vec::new(), later, |_| false);
        assert_eq!(dialer.next(), None);
    }

    #[tokio::test]
    async fn names_resolve() {
        let resolve = async |text: &str| resolve(&text.parse().unwrap()).await;
        assert_eq!(resolve("/dns4/localhost/tcp/7").await, ["/ip4/127.0.0.1/tcp/7".parse().unwrap()]);
        assert_eq!(resolve("/ip4/192.0.2.7/tcp/7").await, ["/ip4/192.0.2.7/tcp/7".parse().unwrap()]);
    }
}
