//! Decides which connections to accept, and which to keep open while idle.
//!
//! Replaces libp2p's own connection limits, which keep an entry for every peer id ever seen and know neither addresses
//! nor operators.
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::limits;
use super::operators::Operators;
use super::score::Bans;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusedConnection {
    #[error("banned for a while")]
    Banned,
    #[error("too many unfinished handshakes")]
    Pending,
    #[error("too many connections from this address")]
    Address,
    #[error("too many connections with this peer")]
    Peer,
    #[error("too many connections with strangers")]
    Strangers,
}

struct Connection {
    peer: PeerId,
    block: Option<IpAddr>,
    quic: bool,
    kept: bool,
}

/// An incoming connection whose handshake is not finished.
struct PendingConnection {
    block: Option<IpAddr>,
    quic: bool,
}

/// Counts connections; refuses those beyond a limit and those of banned peers.
pub(super) struct ConnectionGate {
    operators: Operators,
    bans: Bans,
    pending: HashMap<ConnectionId, PendingConnection>,
    open: HashMap<ConnectionId, Connection>,
    to_keep: VecDeque<(PeerId, ConnectionId)>,
}

impl ConnectionGate {
    pub(super) fn new(operators: Operators) -> Self {
        Self {
            operators,
            bans: Bans::default(),
            pending: HashMap::new(),
            open: HashMap::new(),
            to_keep: VecDeque::new(),
        }
    }

    /// Refuses new connections of a peer for this long. Closes none.
    pub(super) fn ban(&mut self, peer: PeerId, length: Duration) {
        self.bans.add(peer, length, Instant::now());
    }

    /// Keeps a connection open while idle, unless too many connections with strangers are kept already.
    pub(super) fn keep(&mut self, id: ConnectionId) {
        let kept = |c: &Connection| c.kept && !self.operators.has(&c.peer);
        let full = self.open.values().filter(|c| kept(c)).count() >= limits::CONNECTIONS_STRANGERS_KEPT_MAX;
        let Some(connection) = self.open.get_mut(&id) else { return };
        if !connection.kept && (!full || self.operators.has(&connection.peer)) {
            connection.kept = true;
            self.to_keep.push_back((connection.peer, id));
        }
    }

    fn admit_pending(&self, block: Option<IpAddr>, quic: bool) -> Result<(), RefusedConnection> {
        let same = |other: &Option<IpAddr>| block.is_some() && *other == block;
        let alike = || self.pending.values().filter(|other| other.quic == quic);
        let (all, pending) = (alike().count(), alike().filter(|other| same(&other.block)).count());
        let open = self.open.values().filter(|c| same(&c.block)).count();
        let loopback = block.is_some_and(|ip| ip.is_loopback());
        let most = if loopback { limits::CONNECTIONS_PER_LOOPBACK_MAX } else { limits::CONNECTIONS_PER_ADDRESS_MAX };
        if all >= if quic { limits::CONNECTIONS_PENDING_QUIC_MAX } else { limits::CONNECTIONS_PENDING_MAX } {
            Err(RefusedConnection::Pending)
        } else if pending >= limits::CONNECTIONS_PENDING_PER_ADDRESS_MAX || pending + open >= most {
            Err(RefusedConnection::Address)
        } else {
            Ok(())
        }
    }

    fn admit(&self, peer: &PeerId, quic: bool) -> Result<(), RefusedConnection> {
        let of_peer = self.open.values().filter(|c| c.peer == *peer).count();
        let strangers = || self.open.values().filter(|c| !self.operators.has(&c.peer));
        let (of_strangers, over_quic) = (strangers().count(), strangers().filter(|c| c.quic).count());
        let full = of_strangers >= limits::CONNECTIONS_STRANGERS_MAX
            || (quic && over_quic >= limits::CONNECTIONS_STRANGERS_QUIC_MAX);
        if self.bans.has(peer, Instant::now()) {
            Err(RefusedConnection::Banned)
        } else if of_peer >= limits::CONNECTIONS_PER_PEER_MAX {
            Err(RefusedConnection::Peer)
        } else if full && !self.operators.has(peer) {
            Err(RefusedConnection::Strangers)
        } else {
            Ok(())
        }
    }
}

/// The IP address at the front of `address`.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

/// The addresses that one person is likely to control: one IPv4 address, or an IPv6 /64.
fn block(address: &Multiaddr) -> Option<IpAddr> {
    match ip(address)? {
        ip if ip.is_loopback() => Some(ip),
        IpAddr::V4(ip) => Some(ip.into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into()),
    }
}

impl NetworkBehaviour for ConnectionGate {
    type ConnectionHandler = KeepAlive;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let (block, quic) = (block(remote), is_quic(remote));
        self.admit_pending(block, quic).map_err(ConnectionDenied::new)?;
        self.pending.insert(id, PendingConnection { block, quic });
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        self.admit(&peer, is_quic(remote)).map_err(ConnectionDenied::new)?;
        Ok(KeepAlive(false))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match peer {
            Some(peer) => self.admit(&peer, false).map_err(ConnectionDenied::new).map(|()| Vec::new()),
            None => Ok(Vec::new()),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer, is_quic(address)).map_err(ConnectionDenied::new)?;
        Ok(KeepAlive(false))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let block = match event.endpoint {
                    ConnectedPoint::Listener { send_back_addr, .. } => block(send_back_addr),
                    ConnectedPoint::Dialer { .. } => None,
                };
                let (peer, quic) = (event.peer_id, is_quic(event.endpoint.get_remote_address()));
                self.open.insert(event.connection_id, Connection { peer, block, quic, kept: false });
            }
            FromSwarm::ConnectionClosed(event) => {
                self.open.remove(&event.connection_id);
            }
            FromSwarm::ListenFailure(event) => {
                self.pending.remove(&event.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker is needed: the task that calls `keep` polls the swarm right after.
        match self.to_keep.pop_front() {
            Some((peer_id, id)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event: Keep })
            }
            None => Poll::Pending,
        }
    }
}

/// Tells a connection to stay open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep;

/// Speaks no protocol. Only holds whether the connection stays open while idle.
pub(super) struct KeepAlive(bool);

impl ConnectionHandler for KeepAlive {
    type FromBehaviour = Keep;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.0
    }

    fn on_behaviour_event(&mut self, Keep: Keep) {
        self.0 = true;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
        Poll::Pending
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<'_, DeniedUpgrade, DeniedUpgrade>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn blocks() {
        let block = |text: &str| block(&text.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(block("/ip4/127.0.0.2/tcp/1"), Some("127.0.0.2".to_owned()));
        assert_eq!(block("/ip6/::1/tcp/1"), Some("::1".to_owned()));
        assert_eq!(block("/ip4/192.0.2.7/tcp/1"), Some("192.0.2.7".to_owned()));
        assert_eq!(block("/ip6/::ffff:192.0.2.7/tcp/1"), Some("192.0.2.7".to_owned()));
        assert_eq!(block("/ip6/2001:db8:1:2:3::4/udp/1/quic-v1"), Some("2001:db8:1:2::".to_owned()));
    }

    fn connect(gate: &mut ConnectionGate, n: usize, peer: PeerId, block: Option<IpAddr>) {
        gate.open.insert(ConnectionId::new_unchecked(n), Connection { peer, block, quic: false, kept: false });
    }

    #[test]
    fn limits_hold_and_operators_are_let_in() {
        let operator = PeerId::random();
        let mut gate = ConnectionGate::new(Operators::new(HashSet::from([operator])));
        let here: IpAddr = "192.0.2.7".parse().unwrap();
        for n in 0..limits::CONNECTIONS_PER_ADDRESS_MAX {
            assert_eq!(gate.admit_pending(Some(here), false), Ok(()));
            connect(&mut gate, n, PeerId::random(), Some(here));
        }
        assert_eq!(gate.admit_pending(Some(here), false), Err(RefusedConnection::Address));
        assert_eq!(gate.admit_pending(None, false), Ok(()));
        for n in limits::CONNECTIONS_PER_ADDRESS_MAX..limits::CONNECTIONS_STRANGERS_MAX {
            assert_eq!(gate.admit(&PeerId::random(), false), Ok(()));
            connect(&mut gate, n, PeerId::random(), None);
        }
        assert_eq!(gate.admit(&PeerId::random(), false), Err(RefusedConnection::Strangers));
        for n in 0..limits::CONNECTIONS_PER_PEER_MAX {
            assert_eq!(gate.admit(&operator, true), Ok(()));
            connect(&mut gate, 1_000 + n, operator, None);
        }
        assert_eq!(gate.admit(&operator, false), Err(RefusedConnection::Peer));
        for n in 0..limits::CONNECTIONS_STRANGERS_MAX {
            gate.keep(ConnectionId::new_unchecked(n));
        }
        assert_eq!(gate.to_keep.len(), limits::CONNECTIONS_STRANGERS_KEPT_MAX);
        gate.keep(ConnectionId::new_unchecked(1_000));
        assert_eq!(gate.to_keep.len(), limits::CONNECTIONS_STRANGERS_KEPT_MAX + 1);
    }

    /// Symptom: QUIC handshakes with a forged address kept the address's owner from connecting over TCP. Cause: both
    /// transports were counted together.
    #[test]
    fn handshakes_over_quic_leave_room_for_tcp() {
        let mut gate = ConnectionGate::new(Operators::new(HashSet::new()));
        let victim: IpAddr = "192.0.2.7".parse().unwrap();
        let fill = |gate: &mut ConnectionGate, block| {
            while gate.admit_pending(block, true).is_ok() {
                let id = ConnectionId::new_unchecked(gate.pending.len());
                gate.pending.insert(id, PendingConnection { block, quic: true });
            }
            gate.pending.len()
        };
        assert_eq!(fill(&mut gate, Some(victim)), limits::CONNECTIONS_PER_ADDRESS_MAX);
        assert_eq!(fill(&mut gate, None), limits::CONNECTIONS_PENDING_QUIC_MAX);
        assert_eq!(gate.admit_pending(None, true), Err(RefusedConnection::Pending));
        assert_eq!(gate.admit_pending(Some(victim), false), Ok(()));
    }
}
