//! Decides which connections to accept, which to keep open while idle, and which strangers give up their places.
//!
//! Replaces libp2p's own connection limits, which keep an entry for every peer id ever seen and know neither addresses
//! nor operators.
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
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
    /// Its peer did not answer the last question for its frontier.
    silent: bool,
    /// It is being closed, to make room, and takes no place any more.
    leaving: bool,
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
    to_close: VecDeque<(PeerId, ConnectionId)>,
    /// Incoming connections of each block within its current second.
    rates: HashMap<IpAddr, (Instant, u32)>,
}

impl ConnectionGate {
    pub(super) fn new(operators: Operators) -> Self {
        Self {
            operators,
            bans: Bans::default(),
            pending: HashMap::new(),
            open: HashMap::new(),
            to_keep: VecDeque::new(),
            to_close: VecDeque::new(),
            rates: HashMap::new(),
        }
    }

    /// Refuses new connections of a peer for this long. Closes none.
    pub(super) fn ban(&mut self, peer: PeerId, length: Duration) {
        self.bans.add(peer, length, Instant::now());
    }

    /// Notes whether a peer answered the last question for its frontier.
    pub(super) fn answered(&mut self, peer: PeerId, answered: bool) {
        self.open.values_mut().filter(|c| c.peer == peer).for_each(|c| c.silent = !answered);
    }

    /// Keeps a connection open while idle, unless too many connections with strangers are kept already and all of them
    /// answer.
    pub(super) fn keep(&mut self, id: ConnectionId) {
        let Some(connection) = self.open.get(&id).filter(|c| !c.kept) else { return };
        let peer = connection.peer;
        if !self.operators.has(&peer) {
            let kept = || self.strangers().filter(|(_, c)| c.kept);
            if kept().count() >= limits::CONNECTIONS_STRANGERS_KEPT_MAX {
                let Some(silent) = kept().find(|(_, c)| c.silent).map(|(id, _)| id) else { return };
                self.close(silent);
            }
        }
        self.open.entry(id).and_modify(|c| c.kept = true);
        self.to_keep.push_back((peer, id));
    }

    /// The connections with strangers that take a place.
    fn strangers(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let open = self.open.iter().map(|(id, c)| (*id, c));
        open.filter(|(_, c)| !c.leaving && !self.operators.has(&c.peer))
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open.get_mut(&id) {
            connection.leaving = true;
            self.to_close.push_back((connection.peer, id));
        }
    }

    /// The connection whose place a newcomer of `block` takes: one with a silent peer; otherwise one of the block with
    /// the most connections, if the newcomer's block still has fewer afterwards. Of these, one that is not kept, and
    /// the newest. `quic`: its place has to be one over QUIC.
    fn replaced_by(&self, block: Option<IpAddr>, quic: bool) -> Option<ConnectionId> {
        let mut blocks: HashMap<Option<IpAddr>, usize> = HashMap::new();
        let candidates = || self.strangers().filter(|(_, c)| c.quic || !quic);
        candidates().for_each(|(_, c)| *blocks.entry(c.block).or_default() += 1);
        let of = |block: &Option<IpAddr>| blocks.get(block).copied().unwrap_or_default();
        let rank = |(id, c): (ConnectionId, &Connection)| ((c.silent, of(&c.block), !c.kept, id), c.block);
        let ((silent, most, _, id), _) = candidates().map(rank).max()?;
        (silent || most >= of(&block) + 2).then_some(id)
    }

    /// Counts an incoming connection before its handshake, which costs more; false if the block has too many within a
    /// second.
    fn is_calm(&mut self, block: Option<IpAddr>, now: Instant) -> bool {
        let Some(block) = block.filter(|block| !is_local(*block)) else { return true };
        let lasts = |since: &Instant| now.duration_since(*since) < Duration::from_secs(1);
        if self.rates.len() >= limits::RATES_MAX {
            self.rates.retain(|_, (since, _)| lasts(since));
            if self.rates.len() >= limits::RATES_MAX && !self.rates.contains_key(&block) {
                return true;
            }
        }
        let (since, count) = self.rates.entry(block).or_insert((now, 0));
        if !lasts(since) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= limits::CONNECTIONS_PER_ADDRESS_PER_SECOND_MAX
    }

    fn admit_pending(&self, block: Option<IpAddr>, quic: bool) -> Result<(), RefusedConnection> {
        let same = |other: &Option<IpAddr>| block.is_some() && *other == block;
        let alike = || self.pending.values().filter(|other| other.quic == quic);
        let (all, pending) = (alike().count(), alike().filter(|other| same(&other.block)).count());
        let open = self.open.values().filter(|c| same(&c.block)).count();
        let local = block.is_some_and(is_local);
        let most = if local { limits::CONNECTIONS_PER_LOOPBACK_MAX } else { limits::CONNECTIONS_PER_ADDRESS_MAX };
        let full = if quic { limits::CONNECTIONS_PENDING_QUIC_MAX } else { limits::CONNECTIONS_PENDING_MAX };
        // A block with few handshakes finds room behind a crowd of others, up to as many again.
        if all >= 2 * full || (all >= full && pending >= limits::CONNECTIONS_PENDING_FEW) {
            Err(RefusedConnection::Pending)
        } else if pending >= limits::CONNECTIONS_PENDING_PER_ADDRESS_MAX || pending + open >= most {
            Err(RefusedConnection::Address)
        } else {
            Ok(())
        }
    }

    /// Whether one more connection with a peer fits, and which one has to close for it.
    fn admit(
        &self,
        peer: &PeerId,
        block: Option<IpAddr>,
        quic: bool,
    ) -> Result<Option<ConnectionId>, RefusedConnection> {
        let of_peer = self.open.values().filter(|c| c.peer == *peer).count();
        let (all, over_quic) = (self.strangers().count(), self.strangers().filter(|(_, c)| c.quic).count());
        let quic_full = quic && over_quic >= limits::CONNECTIONS_STRANGERS_QUIC_MAX;
        let full = all >= limits::CONNECTIONS_STRANGERS_MAX || quic_full;
        if self.bans.has(peer, Instant::now()) {
            Err(RefusedConnection::Banned)
        } else if of_peer >= limits::CONNECTIONS_PER_PEER_MAX {
            Err(RefusedConnection::Peer)
        } else if full && !self.operators.has(peer) {
            self.replaced_by(block, quic_full).map(Some).ok_or(RefusedConnection::Strangers)
        } else {
            Ok(None)
        }
    }

    fn establish(&mut self, peer: &PeerId, block: Option<IpAddr>, quic: bool) -> Result<KeepAlive, ConnectionDenied> {
        if let Some(replaced) = self.admit(peer, block, quic).map_err(ConnectionDenied::new)? {
            self.close(replaced);
        }
        Ok(KeepAlive(false))
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

/// Whether whole federations may run at this address: that is where a machine's own programs find one another.
fn is_local(ip: IpAddr) -> bool {
    ip == IpAddr::from(Ipv4Addr::LOCALHOST) || ip == IpAddr::from(Ipv6Addr::LOCALHOST)
}

/// The addresses that one person is likely to control: one IPv4 address, or an IPv6 /48.
fn block(address: &Multiaddr) -> Option<IpAddr> {
    match ip(address)? {
        ip if ip.is_loopback() => Some(ip),
        IpAddr::V4(ip) => Some(ip.into()),
        IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80)).into()),
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
        if !quic && !self.is_calm(block, Instant::now()) {
            return Err(ConnectionDenied::new(RefusedConnection::Address));
        }
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
        self.establish(&peer, block(remote), is_quic(remote))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match peer {
            Some(peer) => self.admit(&peer, None, false).map_err(ConnectionDenied::new).map(|_| Vec::new()),
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
        self.establish(&peer, None, is_quic(address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let block = match event.endpoint {
                    ConnectedPoint::Listener { send_back_addr, .. } => block(send_back_addr),
                    ConnectedPoint::Dialer { .. } => None,
                };
                let (peer, quic) = (event.peer_id, is_quic(event.endpoint.get_remote_address()));
                // A peer stays silent, however many connections it opens.
                let silent = self.open.values().any(|c| c.peer == peer && c.silent);
                let connection = Connection { peer, block, quic, kept: false, silent, leaving: false };
                self.open.insert(event.connection_id, connection);
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
        // No waker is needed: the task that calls `keep` polls the swarm right after, and so does the swarm after it
        // asked whether to admit a connection.
        if let Some((peer_id, id)) = self.to_close.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) });
        }
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
        assert_eq!(block("/ip6/2001:db8:1:2:3::4/udp/1/quic-v1"), Some("2001:db8:1::".to_owned()));
    }

    fn connect(gate: &mut ConnectionGate, n: usize, peer: PeerId, block: Option<IpAddr>) {
        let connection = Connection { peer, block, quic: false, kept: false, silent: false, leaving: false };
        gate.open.insert(ConnectionId::new_unchecked(n), connection);
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
            let one = Some(IpAddr::from(Ipv6Addr::from_bits(n as u128)));
            assert_eq!(gate.admit(&PeerId::random(), one, false), Ok(None));
            connect(&mut gate, n, PeerId::random(), one);
        }
        assert_eq!(gate.admit(&PeerId::random(), Some(here), false), Err(RefusedConnection::Strangers));
        for n in 0..limits::CONNECTIONS_PER_PEER_MAX {
            assert_eq!(gate.admit(&operator, None, true), Ok(None));
            connect(&mut gate, 1_000 + n, operator, None);
        }
        assert_eq!(gate.admit(&operator, None, false), Err(RefusedConnection::Peer));
        for n in 0..limits::CONNECTIONS_STRANGERS_MAX {
            gate.keep(ConnectionId::new_unchecked(n));
        }
        assert_eq!(gate.to_keep.len(), limits::CONNECTIONS_STRANGERS_KEPT_MAX);
        gate.keep(ConnectionId::new_unchecked(1_000));
        assert_eq!(gate.to_keep.len(), limits::CONNECTIONS_STRANGERS_KEPT_MAX + 1);
    }

    /// Symptom: strangers that filled all places, from few addresses or without ever answering, kept honest nodes and
    /// clients out. Cause: a place was held until its holder left.
    #[test]
    fn a_newcomer_takes_the_place_of_a_silent_peer_or_of_a_crowd() {
        let mut gate = ConnectionGate::new(Operators::new(HashSet::new()));
        let block = |n: usize| Some(IpAddr::from([192, 0, 2, u8::try_from(n).unwrap()]));
        let peers: Vec<PeerId> = (0..limits::CONNECTIONS_STRANGERS_MAX).map(|_| PeerId::random()).collect();
        for (n, peer) in peers.iter().enumerate() {
            connect(&mut gate, n, *peer, block(n % 64));
            gate.keep(ConnectionId::new_unchecked(n));
        }
        let taken = |gate: &mut ConnectionGate, from| {
            let replaced = gate.admit(&PeerId::random(), from, false)?;
            replaced.into_iter().for_each(|id| gate.close(id));
            Ok(replaced.map(|id| gate.open.remove(&id).unwrap().peer))
        };
        // Each block has three places: a newcomer from one of them has no better claim.
        assert_eq!(taken(&mut gate, block(7)), Err(RefusedConnection::Strangers));
        let crowd = taken(&mut gate, block(100)).unwrap().unwrap();
        assert_eq!(peers.iter().position(|peer| *peer == crowd), Some(191), "not a kept one, the newest");
        connect(&mut gate, 1_000, PeerId::random(), block(100));
        assert!(taken(&mut gate, block(100)).unwrap().is_some(), "still fewer than the crowd");
        connect(&mut gate, 1_001, PeerId::random(), block(100));
        assert_eq!(taken(&mut gate, block(100)), Err(RefusedConnection::Strangers));
        gate.answered(peers[3], false);
        assert_eq!(taken(&mut gate, block(100)), Ok(Some(peers[3])), "a silent one, though kept");
        assert_eq!(taken(&mut gate, block(100)), Ok(None), "there is a free place");
        gate.answered(peers[4], false);
        connect(&mut gate, 1_002, PeerId::random(), block(101));
        connect(&mut gate, 1_003, PeerId::random(), block(102));
        gate.to_close.clear();
        gate.keep(ConnectionId::new_unchecked(1_002));
        gate.keep(ConnectionId::new_unchecked(1_003));
        assert_eq!(gate.to_close, [(peers[4], ConnectionId::new_unchecked(4))], "one of both is kept for it");
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
        let full = fill(&mut gate, None);
        assert!((limits::CONNECTIONS_PENDING_QUIC_MAX..=2 * limits::CONNECTIONS_PENDING_QUIC_MAX).contains(&full));
        assert_eq!(gate.admit_pending(None, true), Err(RefusedConnection::Pending));
        assert_eq!(gate.admit_pending(Some(victim), false), Ok(()));
    }

    /// Symptom: strangers that dialled without pause kept everybody else from connecting. Cause: they held all places for
    /// unfinished handshakes, whose number alone was bounded.
    #[test]
    fn a_crowd_that_dials_without_pause_leaves_room_for_others() {
        let mut gate = ConnectionGate::new(Operators::new(HashSet::new()));
        let block = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let mut pending = 0;
        for crowd in 0..10 {
            while gate.admit_pending(block(crowd), false).is_ok() {
                let id = ConnectionId::new_unchecked(pending);
                gate.pending.insert(id, PendingConnection { block: block(crowd), quic: false });
                pending += 1;
            }
        }
        assert!((limits::CONNECTIONS_PENDING_MAX..2 * limits::CONNECTIONS_PENDING_MAX).contains(&pending), "{pending}");
        assert_eq!(gate.admit_pending(block(3), false), Err(RefusedConnection::Pending));
        assert_eq!(gate.admit_pending(block(100), false), Ok(()), "another block");

        let now = Instant::now();
        let dials = (0..100).filter(|_| gate.is_calm(block(1), now)).count();
        assert_eq!(dials, limits::CONNECTIONS_PER_ADDRESS_PER_SECOND_MAX as usize);
        assert!(gate.is_calm(block(2), now) && gate.is_calm(block(1), now + Duration::from_secs(1)));
        assert!((0..1_000).all(|_| gate.is_calm(Some(IpAddr::from(Ipv4Addr::LOCALHOST)), now)));
        for n in 0..2 * limits::RATES_MAX {
            let later = now + Duration::from_secs(n as u64);
            gate.is_calm(Some(IpAddr::from(Ipv6Addr::from_bits(n as u128 + 2))), later);
        }
        assert!(gate.rates.len() <= limits::RATES_MAX);
    }
}
