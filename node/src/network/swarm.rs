//! The task that owns the swarm: turns commands into libp2p calls, and libp2p's events into the node's events.
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fama_ledger::codec;
use fama_ledger::id::FederationId;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::gossipsub::{self, MessageAcceptance, MessageId, PublishError};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, InboundRequestId, Message, OutboundFailure, OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, StreamUpgradeError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, ping};
use tokio::sync::{mpsc, oneshot};

use super::ClientError;
use super::behaviour::{self, Behaviour, BehaviourEvent, Names, Role};
use super::bounds;
use super::codec::{FramedRequest, MemoryClaim};
use super::dialer::{self, Dialer, OperatorPeer};
use super::inbound::{self, RequestKey, Slots};
use super::operators::Operators;
use super::presence::PeerPresence;
use super::score::{Rates, Scores};
use super::session::Sessions;
use super::{
    AnswerSlot, GossipVerdict, NetworkCommand, NetworkError, NetworkEvent, NetworkHint, Queues, Reply, RequestError,
    gate, limits, peer_id,
};
use crate::wire::{
    Frontier, GOSSIP_BYTES_MAX, Gossip, Session, SubmitRequest, SubmitResponse, SyncRequest, SyncResponse,
};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The node's answer to an incoming request and the channel to send it on; no answer if the node dropped its reply.
enum Answered {
    Sync(InboundRequestId, ResponseChannel<SyncResponse>, Option<SyncResponse>),
    Submit(InboundRequestId, ResponseChannel<SubmitResponse>, Option<SubmitResponse>),
}

/// A request in flight to a peer.
struct Outbound<Q, A> {
    answer: AnswerSlot<A>,
    /// The request and how often it may still be sent again, if the peer has several processes and the wrong one may
    /// answer.
    again: Option<(Q, usize)>,
}

/// Owns the swarm and all state of its connections.
pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    names: Names,
    events: mpsc::Sender<NetworkEvent>,
    commands: mpsc::Receiver<NetworkCommand>,
    hints: mpsc::Receiver<NetworkHint>,
    listeners: Arc<RwLock<Vec<Multiaddr>>>,
    peers: PeerPresence,
    operators: Operators,
    scores: Scores,
    rates: Rates,
    dialer: Dialer,
    /// Operators whose host names are being looked up.
    resolving: FuturesUnordered<Boxed<OperatorPeer>>,
    /// The remote IP address of each open connection, if it has one.
    addresses: HashMap<ConnectionId, Option<IpAddr>>,
    sessions: Sessions,
    /// Connections that a client waits for, until identify has shown the peer's federation.
    connecting: HashMap<ConnectionId, oneshot::Sender<Result<PeerId, ClientError>>>,
    /// Peers of other federations, with the moment to disconnect them, soonest first.
    foreign: VecDeque<(Instant, PeerId)>,
    asked_sync: HashMap<OutboundRequestId, Outbound<SyncRequest, SyncResponse>>,
    asked_submit: HashMap<OutboundRequestId, Outbound<SubmitRequest, SubmitResponse>>,
    slots: Slots,
    /// Requests that the node has not answered yet. Some may have lost their slot along with their connection.
    answers: FuturesUnordered<Boxed<Answered>>,
}

impl Task {
    /// A node: answers, gossips, dials operators.
    pub(super) fn node(
        key: &ed25519_dalek::SigningKey,
        federation: FederationId,
        operators: Vec<OperatorPeer>,
        events: mpsc::Sender<NetworkEvent>,
        queues: Queues,
    ) -> Result<Self, NetworkError> {
        Self::new(key, federation, Role::Node, operators, events, queues)
    }

    /// A client: only sends requests, to the peer of a [`NetworkCommand::Connect`].
    pub(super) fn client(
        key: &ed25519_dalek::SigningKey,
        federation: FederationId,
        queues: Queues,
    ) -> Result<Self, NetworkError> {
        let (events, _) = mpsc::channel(1);
        Self::new(key, federation, Role::Client, Vec::new(), events, queues)
    }

    fn new(
        key: &ed25519_dalek::SigningKey,
        federation: FederationId,
        role: Role,
        operators: Vec<OperatorPeer>,
        events: mpsc::Sender<NetworkEvent>,
        queues: Queues,
    ) -> Result<Self, NetworkError> {
        let names = Names::of(&federation);
        let ids = Operators::new(operators.iter().map(|operator| operator.peer_id).collect());
        Ok(Self {
            swarm: behaviour::swarm(key, &names, role, &ids)?,
            operators: ids,
            names,
            events,
            commands: queues.commands,
            hints: queues.hints,
            listeners: queues.listeners,
            peers: PeerPresence::new(role == Role::Node),
            scores: Scores::default(),
            rates: Rates::default(),
            dialer: Dialer::new(peer_id(&key.verifying_key()), operators, Instant::now()),
            resolving: FuturesUnordered::new(),
            addresses: HashMap::new(),
            sessions: Sessions::default(),
            connecting: HashMap::new(),
            foreign: VecDeque::new(),
            asked_sync: HashMap::new(),
            asked_submit: HashMap::new(),
            slots: Slots::default(),
            answers: FuturesUnordered::new(),
        })
    }

    /// Binds every address and waits until each listener has reported its address.
    pub(super) async fn listen(&mut self, addresses: Vec<Multiaddr>) -> Result<(), NetworkError> {
        let addresses = usable(addresses)?;
        let mut unreported = HashMap::new();
        for address in addresses {
            let id = self.swarm.listen_on(address.clone()).map_err(|error| listen_error(&address, error))?;
            unreported.insert(id, address);
        }
        let deadline = tokio::time::Instant::now() + limits::LISTEN_TIMEOUT;
        while let Some(address) = unreported.values().next() {
            let Ok(event) = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await else {
                return Err(NetworkError::Listen { address: address.clone(), cause: io::ErrorKind::TimedOut.into() });
            };
            note_listener(&mut unreported, &event)?;
            self.on_swarm(event);
        }
        Ok(())
    }

    /// Runs until a stop command, or until every handle or the receiver of events is dropped.
    pub(super) async fn run(mut self) {
        let stopped = loop {
            let deadline = self.deadline();
            let timer = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into());
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                Some(answered) = self.answers.next() => self.on_answered(answered),
                Some(peer) = self.resolving.next() => self.dial(peer),
                command = self.commands.recv() => match command {
                    Some(NetworkCommand::Stop(done)) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some(hint) = self.hints.recv() => self.on_hint(hint),
                permit = self.events.clone().reserve_owned(), if self.peers.has_news() => {
                    let Ok(permit) = permit else { break None };
                    self.report(permit);
                }
                () = timer, if deadline.is_some() => self.on_timer(),
            }
        };
        self.close().await;
        drop(self);
        if let Some(done) = stopped {
            let _ = done.send(());
        }
    }

    fn report(&mut self, permit: mpsc::OwnedPermit<NetworkEvent>) {
        if let Some(event) = self.peers.next_event() {
            permit.send(event);
        }
    }

    async fn close(&mut self) {
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(limits::STOP_TIMEOUT, closed).await;
    }

    fn deadline(&self) -> Option<Instant> {
        self.dialer.next().into_iter().chain(self.foreign.front().map(|(at, _)| *at)).min()
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        for peer in self.dialer.due(now) {
            self.resolving.push(dialer::resolve_all(peer).boxed());
        }
        while let Some((_, peer)) = self.foreign.front().copied().filter(|(at, _)| *at <= now) {
            self.foreign.pop_front();
            self.expel(peer, limits::BAN_FOREIGN);
        }
    }

    fn dial(&mut self, peer: OperatorPeer) {
        let OperatorPeer { peer_id, addresses } = peer;
        // A new port: reusing the listener's port helps only behind address translation, and collides after restarts.
        let options = DialOpts::peer_id(peer_id).addresses(addresses).allocate_new_port().build();
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_failed(peer_id, &error);
        }
    }

    fn on_command(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::Sync(peer, request, answer) => {
                let again = self.may_reach_wrong_process(peer).then(|| (request.clone(), limits::RESENDS_MAX));
                self.ask_sync(peer, request, Outbound { answer, again });
            }
            NetworkCommand::Submit(peer, request, answer) => {
                let again = self.may_reach_wrong_process(peer).then(|| (request.clone(), limits::RESENDS_MAX));
                self.ask_submit(peer, request, Outbound { answer, again });
            }
            NetworkCommand::Connect(address, answer) => self.connect(address, answer),
            NetworkCommand::Operators(operators) => self.set_operators(operators),
            NetworkCommand::Stop(_) => {}
        }
    }

    /// Whether a request to `peer` may reach the wrong one of several processes: libp2p picks any connection.
    fn may_reach_wrong_process(&self, peer: PeerId) -> bool {
        self.sessions.are_several(peer, Instant::now())
    }

    fn ask_sync(&mut self, peer: PeerId, request: SyncRequest, asked: Outbound<SyncRequest, SyncResponse>) {
        if self.swarm.is_connected(&peer) {
            let id = self.swarm.behaviour_mut().sync.send_request(&peer, FramedRequest::new(request));
            self.asked_sync.insert(id, asked);
        } else {
            asked.answer.send(Err(RequestError::NotConnected));
        }
    }

    fn ask_submit(&mut self, peer: PeerId, request: SubmitRequest, asked: Outbound<SubmitRequest, SubmitResponse>) {
        if self.swarm.is_connected(&peer) {
            let id = self.swarm.behaviour_mut().submit.send_request(&peer, FramedRequest::new(request));
            self.asked_submit.insert(id, asked);
        } else {
            asked.answer.send(Err(RequestError::NotConnected));
        }
    }

    fn answered_sync(&mut self, peer: PeerId, by: ConnectionId, id: OutboundRequestId, response: SyncResponse) {
        let Some(Outbound { answer, again }) = self.asked_sync.remove(&id) else { return };
        match self.again(by, again) {
            Some((request, left)) => {
                self.ask_sync(peer, request.clone(), Outbound { answer, again: Some((request, left)) });
            }
            None => answer.send(Ok(response)),
        }
    }

    fn answered_submit(&mut self, peer: PeerId, by: ConnectionId, id: OutboundRequestId, response: SubmitResponse) {
        let Some(Outbound { answer, again }) = self.asked_submit.remove(&id) else { return };
        match self.again(by, again) {
            Some((request, left)) => {
                self.ask_submit(peer, request.clone(), Outbound { answer, again: Some((request, left)) });
            }
            None => answer.send(Ok(response)),
        }
    }

    /// The request to send again and its remaining retries, if an idle process answered and a retry is left.
    fn again<Q>(&self, by: ConnectionId, again: Option<(Q, usize)>) -> Option<(Q, usize)> {
        let (request, left) = again.filter(|_| self.sessions.is_idle(by, Instant::now()))?;
        Some((request, left.checked_sub(1)?))
    }

    fn connect(&mut self, address: Multiaddr, answer: oneshot::Sender<Result<PeerId, ClientError>>) {
        let options = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.connecting.insert(id, answer);
            }
            Err(error) => {
                let _ = answer.send(Err(ClientError::of_dial(error)));
            }
        }
    }

    fn set_operators(&mut self, operators: Vec<OperatorPeer>) {
        let ids: HashSet<_> = operators.iter().map(|operator| operator.peer_id).collect();
        self.operators.set(ids);
        self.dialer.set(operators, Instant::now(), |peer| self.peers.is_connected(peer));
        self.peers.report_again();
    }

    fn on_hint(&mut self, hint: NetworkHint) {
        match hint {
            NetworkHint::Publish(gossip) => self.publish(&gossip),
            NetworkHint::Verdict(id, peer, verdict) => self.on_verdict(&id, peer, verdict),
            NetworkHint::Penalize(peer, code) => self.penalize(peer, code),
            NetworkHint::Answered(peer, answered) => self.swarm.behaviour_mut().gate.answered(peer, answered),
        }
    }

    fn publish(&mut self, gossip: &Gossip) {
        let bytes = codec::encode(gossip);
        let len = bytes.len();
        if len > GOSSIP_BYTES_MAX {
            tracing::warn!(len, max = GOSSIP_BYTES_MAX, "gossip too long, not sent");
            return;
        }
        let topic = self.names.topic.hash();
        let Some(behaviour) = self.swarm.behaviour_mut().gossip.as_mut() else { return };
        match behaviour.publish(topic, bytes) {
            Ok(_) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::debug!(%error, "gossip not sent"),
        }
    }

    fn on_verdict(&mut self, id: &MessageId, peer: PeerId, verdict: GossipVerdict) {
        let acceptance = match verdict {
            GossipVerdict::Accept => MessageAcceptance::Accept,
            GossipVerdict::Ignore => MessageAcceptance::Ignore,
            GossipVerdict::Reject => MessageAcceptance::Reject,
        };
        if let Some(behaviour) = self.swarm.behaviour_mut().gossip.as_mut() {
            behaviour.report_message_validation_result(id, &peer, acceptance);
        }
        if verdict == GossipVerdict::Reject {
            self.penalize(peer, "gossip_rejected");
        }
    }

    fn penalize(&mut self, peer: PeerId, code: &'static str) {
        tracing::debug!(%peer, code, "peer penalized");
        if self.scores.penalize(peer, Instant::now()) {
            let operator = self.operators.has(&peer);
            self.expel(peer, if operator { limits::BAN_OPERATOR } else { limits::BAN_STRANGER });
        }
    }

    fn expel(&mut self, peer: PeerId, length: Duration) {
        tracing::debug!(%peer, seconds = length.as_secs(), "peer disconnected and refused for a while");
        self.swarm.behaviour_mut().gate.ban(peer, length);
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.addresses.insert(connection_id, gate::ip(endpoint.get_remote_address()));
                if self.peers.connected(peer_id) {
                    self.dialer.connected(&peer_id, Instant::now());
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.addresses.remove(&connection_id);
                if let Some(peer) = self.sessions.closed(connection_id) {
                    // On the next connection gossip sends its subscriptions again.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
                self.on_connected(connection_id, Err(ClientError::Closed));
                if self.peers.disconnected(peer_id) {
                    self.foreign.retain(|(_, peer)| *peer != peer_id);
                    self.rates.forget(&peer_id);
                    if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
                        gossip.remove_blacklisted_peer(&peer_id);
                    }
                    self.dialer.lost(&peer_id, Instant::now(), random());
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                if let Some(peer) = peer_id {
                    self.on_dial_failed(peer, &error);
                }
                self.on_connected(connection_id, Err(ClientError::of_dial(error)));
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listeners(|all| all.push(address)),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listeners(|all| all.retain(|a| *a != address)),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "listener closed");
                self.on_listeners(|all| all.retain(|address| !addresses.contains(address)));
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "connection not accepted"),
            _ => {}
        }
    }

    fn on_listeners(&self, change: impl FnOnce(&mut Vec<Multiaddr>)) {
        change(&mut self.listeners.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn on_dial_failed(&mut self, peer: PeerId, error: &DialError) {
        tracing::debug!(%peer, %error, "dial failed");
        self.dialer.failed(&peer, Instant::now(), random());
    }

    fn on_connected(&mut self, connection: ConnectionId, result: Result<PeerId, ClientError>) {
        if let Some(answer) = self.connecting.remove(&connection) {
            let _ = answer.send(result);
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gate(event) => match event {},
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Sync(event) => self.on_sync(event),
            BehaviourEvent::Submit(event) => self.on_submit(event),
        }
    }

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { connection_id, peer_id, info } => {
                let ours = info.protocol_version == self.names.federation;
                let answers = info.protocols.contains(&self.names.sync);
                self.on_identified(connection_id, peer_id, ours, answers);
            }
            identify::Event::Error { connection_id, error: StreamUpgradeError::NegotiationFailed, .. } => {
                self.on_connected(connection_id, Err(ClientError::OtherFederation));
            }
            identify::Event::Error { connection_id, .. } => {
                self.on_connected(connection_id, Err(ClientError::Closed));
            }
            _ => {}
        }
    }

    fn on_identified(&mut self, connection: ConnectionId, peer: PeerId, ours: bool, answers: bool) {
        let result = if ours && answers { Ok(peer) } else { Err(ClientError::OtherFederation) };
        self.on_connected(connection, result);
        if ours && answers {
            self.swarm.behaviour_mut().gate.keep(connection);
            self.peers.federated(peer);
        } else if !ours && !self.foreign.iter().any(|(_, other)| *other == peer) {
            tracing::debug!(%peer, "peer belongs to another federation");
            self.foreign.push_back((Instant::now() + limits::FOREIGN_GRACE, peer));
        }
    }

    /// Closes a connection that no longer answers pings: libp2p itself leaves it open.
    fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            // A peer that does not support ping is no node, and its connection times out while idle.
            Ok(_) | Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                tracing::debug!(peer = %event.peer, %error, "ping failed, connection closed");
                self.swarm.close_connection(event.connection);
            }
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source: peer, message_id: id, message } = event else {
            return;
        };
        if !self.rates.count(peer, self.gossip_per_second(), Instant::now()) {
            self.on_verdict(&id, peer, GossipVerdict::Ignore);
            return self.silence(peer);
        }
        match codec::decode(&message.data, GOSSIP_BYTES_MAX) {
            Err(_) => self.on_verdict(&id, peer, GossipVerdict::Reject),
            Ok(gossip) => {
                let event = NetworkEvent::Gossip { peer, id: id.clone(), gossip };
                if self.events.try_send(event).is_err() {
                    self.on_verdict(&id, peer, GossipVerdict::Ignore);
                }
            }
        }
    }

    /// More gossip messages per second than any honest peer sends.
    fn gossip_per_second(&self) -> usize {
        let operators = self.operators.at_most();
        limits::GOSSIP_PER_SECOND_BASE + limits::GOSSIP_PER_SECOND_PAIR * operators * operators
    }

    /// Disconnects a peer that floods. Gossipsub drops its messages that already arrived without remembering them.
    fn silence(&mut self, peer: PeerId) {
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.blacklist_peer(&peer);
        }
        let length = if self.operators.has(&peer) { limits::BAN_OPERATOR } else { limits::BAN_STRANGER };
        tracing::debug!(%peer, code = "gossip_flood", "peer penalized");
        self.expel(peer, length);
    }

    fn on_sync(&mut self, event: request_response::Event<FramedRequest<SyncRequest>, SyncResponse>) {
        match event {
            request_response::Event::Message { peer, connection_id, message } => match message {
                Message::Request { request_id, request, channel } => {
                    self.take_sync(peer, connection_id, request_id, request, channel);
                }
                Message::Response { request_id, response } => {
                    self.answered_sync(peer, connection_id, request_id, response);
                }
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                let error = self.request_error(peer, error);
                fail(&mut self.asked_sync, request_id, error);
            }
            request_response::Event::InboundFailure { request_id, .. }
            | request_response::Event::ResponseSent { request_id, .. } => {
                self.slots.release(RequestKey::Sync(request_id));
            }
        }
    }

    fn on_submit(&mut self, event: request_response::Event<FramedRequest<SubmitRequest>, SubmitResponse>) {
        match event {
            request_response::Event::Message { peer, connection_id, message } => match message {
                Message::Request { request_id, request, channel } => {
                    let address = self.addresses.get(&connection_id).copied().flatten();
                    self.take_submit(peer, address, request_id, request, channel);
                }
                Message::Response { request_id, response } => {
                    self.answered_submit(peer, connection_id, request_id, response);
                }
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                let error = self.request_error(peer, error);
                fail(&mut self.asked_submit, request_id, error);
            }
            request_response::Event::InboundFailure { request_id, .. }
            | request_response::Event::ResponseSent { request_id, .. } => {
                self.slots.release(RequestKey::Submit(request_id));
            }
        }
    }

    fn take_sync(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        id: InboundRequestId,
        asked: FramedRequest<SyncRequest>,
        channel: ResponseChannel<SyncResponse>,
    ) {
        let FramedRequest { request, claim } = asked;
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.penalize(peer, error.code()),
        };
        if !self.admit(RequestKey::Sync(id), peer, claim) {
            let _ = self.swarm.behaviour_mut().sync.send_response(channel, inbound::sync_busy());
            return;
        }
        let other = self.other_session(peer, connection, &request);
        let (reply, answer) = oneshot::channel();
        self.answers.push(answer.map(move |answer| Answered::Sync(id, channel, answer.ok())).boxed());
        let event = NetworkEvent::Sync { peer, request, other, reply: Reply(reply) };
        if let Err(NetworkEvent::Sync { reply, .. }) =
            self.events.try_send(event).map_err(mpsc::error::TrySendError::into_inner)
        {
            reply.send(inbound::sync_busy());
        }
    }

    /// Notes the session that asks for a frontier, and returns another live session of the same key.
    fn other_session(&mut self, peer: PeerId, connection: ConnectionId, request: &SyncRequest) -> Option<Session> {
        let SyncRequest::Frontier(Frontier { session, .. }) = request else { return None };
        let now = Instant::now();
        // A request may be reported after its connection has closed.
        if self.addresses.contains_key(&connection) {
            self.sessions.heard(connection, peer, *session, now);
        }
        self.sessions.other(peer, *session, now)
    }

    fn take_submit(
        &mut self,
        peer: PeerId,
        address: Option<IpAddr>,
        id: InboundRequestId,
        asked: FramedRequest<SubmitRequest>,
        channel: ResponseChannel<SubmitResponse>,
    ) {
        let FramedRequest { request, claim } = asked;
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.penalize(peer, error.code()),
        };
        if !self.admit(RequestKey::Submit(id), peer, claim) {
            let _ = self.swarm.behaviour_mut().submit.send_response(channel, inbound::submit_busy(&request));
            return;
        }
        let (reply, answer) = oneshot::channel();
        self.answers.push(answer.map(move |answer| Answered::Submit(id, channel, answer.ok())).boxed());
        let event = NetworkEvent::Submit { peer, address, request, reply: Reply(reply) };
        let rejected = self.events.try_send(event).map_err(mpsc::error::TrySendError::into_inner);
        if let Err(NetworkEvent::Submit { request, reply, .. }) = rejected {
            reply.send(inbound::submit_busy(&request));
        }
    }

    fn admit(&mut self, slot: RequestKey, peer: PeerId, claim: MemoryClaim) -> bool {
        // Some answers may be running on after their connection, and so their slot, is gone.
        let most = limits::INBOUND_STRANGERS_MAX + limits::INBOUND_PER_OPERATOR_MAX * self.operators.at_most();
        self.answers.len() < most && self.slots.take(slot, peer, self.operators.has(&peer), claim)
    }

    /// Sends the answer, or closes the stream by dropping its channel.
    fn on_answered(&mut self, answered: Answered) {
        match answered {
            Answered::Sync(id, channel, Some(answer)) => {
                let fits = self.slots.charge(RequestKey::Sync(id), bounds::sync_answer_bytes(&answer));
                let answer = if fits { answer } else { inbound::sync_busy() };
                let _ = self.swarm.behaviour_mut().sync.send_response(channel, answer);
            }
            Answered::Submit(id, channel, Some(answer)) => {
                // Sent even beyond the limit: the submissions are done, and the sender must learn their results.
                self.slots.charge(RequestKey::Submit(id), bounds::submit_answer_bytes(&answer));
                let _ = self.swarm.behaviour_mut().submit.send_response(channel, answer);
            }
            Answered::Sync(_, _, None) | Answered::Submit(_, _, None) => {}
        }
    }

    fn request_error(&mut self, peer: PeerId, failure: OutboundFailure) -> RequestError {
        match failure {
            OutboundFailure::DialFailure => RequestError::NotConnected,
            OutboundFailure::Timeout => RequestError::TimedOut,
            OutboundFailure::UnsupportedProtocols => RequestError::Unsupported,
            OutboundFailure::ConnectionClosed => RequestError::Closed("connection lost".to_owned()),
            OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.penalize(peer, "malformed_answer");
                RequestError::Malformed(error.to_string())
            }
            OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidInput => {
                RequestError::TooLong(error.to_string())
            }
            OutboundFailure::Io(error) => RequestError::Closed(error.to_string()),
        }
    }
}

fn fail<Q, A>(asked: &mut HashMap<OutboundRequestId, Outbound<Q, A>>, id: OutboundRequestId, error: RequestError) {
    if let Some(asked) = asked.remove(&id) {
        asked.answer.send(Err(error));
    }
}

/// Spreads redials. Without a random number, a node redials in step with others, which does no harm.
fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// Binds an address for a moment to see that it is free: libp2p's own TCP listeners let several processes share a port.
fn probe(address: &Multiaddr) -> Result<(), NetworkError> {
    let socket = |port| gate::ip(address).map(|ip| SocketAddr::new(ip, port));
    let bound = match address.iter().nth(1) {
        Some(Protocol::Tcp(port)) => socket(port).map(|socket| TcpListener::bind(socket).map(drop)),
        Some(Protocol::Udp(port)) => socket(port).map(|socket| UdpSocket::bind(socket).map(drop)),
        _ => None,
    };
    match bound {
        None => Err(NetworkError::Address { address: address.clone() }),
        Some(bound) => bound.map_err(|cause| NetworkError::Listen { address: address.clone(), cause }),
    }
}

/// The addresses that can be bound. Of those that stand for all of a machine's addresses of one family, those of a family
/// that the machine lacks are left out, if others remain: few configurations are written for one machine alone.
fn usable(addresses: Vec<Multiaddr>) -> Result<Vec<Multiaddr>, NetworkError> {
    let (mut usable, mut lacking) = (Vec::with_capacity(addresses.len()), None);
    for address in addresses {
        match probe(&address) {
            Ok(()) => usable.push(address),
            Err(NetworkError::Listen { address, cause }) if lacks_family(&address, &cause) => {
                tracing::warn!(%address, error = %cause, "this machine has no such addresses: not listening there");
                lacking = Some(NetworkError::Listen { address, cause });
            }
            Err(error) => return Err(error),
        }
    }
    lacking.filter(|_| usable.is_empty()).map_or(Ok(usable), Err)
}

/// Whether all addresses of a family were asked for, and the machine has none.
fn lacks_family(address: &Multiaddr, cause: &io::Error) -> bool {
    // The standard library has no stable kind for it.
    let unknown = cause.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    gate::ip(address).is_some_and(|ip| ip.is_unspecified())
        && (unknown || cause.kind() == io::ErrorKind::AddrNotAvailable)
}

fn listen_error(address: &Multiaddr, error: TransportError<io::Error>) -> NetworkError {
    let address = address.clone();
    match error {
        TransportError::MultiaddrNotSupported(_) => NetworkError::Address { address },
        TransportError::Other(cause) => NetworkError::Listen { address, cause },
    }
}

/// Removes a listener that has reported its address from `unreported`.
fn note_listener(
    unreported: &mut HashMap<ListenerId, Multiaddr>,
    event: &SwarmEvent<BehaviourEvent>,
) -> Result<(), NetworkError> {
    match event {
        SwarmEvent::NewListenAddr { listener_id, .. } => {
            unreported.remove(listener_id);
            Ok(())
        }
        SwarmEvent::ListenerClosed { listener_id, reason: Err(cause), .. } => match unreported.remove(listener_id) {
            Some(address) => {
                Err(NetworkError::Listen { address, cause: io::Error::new(cause.kind(), cause.to_string()) })
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_family_that_the_machine_lacks_is_left_out_if_others_remain() {
        for (address, cause, lacks) in [
            ("/ip6/::/tcp/4001", Errno::AFNOSUPPORT, true),
            ("/ip6/::/udp/4001/quic-v1", Errno::ADDRNOTAVAIL, true),
            ("/ip6/::1/tcp/4001", Errno::AFNOSUPPORT, false),
            ("/ip4/192.0.2.1/tcp/4001", Errno::ADDRNOTAVAIL, false),
            ("/ip6/::/tcp/4001", Errno::ADDRINUSE, false),
        ] {
            let cause = io::Error::from_raw_os_error(cause.raw_os_error());
            assert_eq!(lacks_family(&address.parse().unwrap(), &cause), lacks, "{address} {cause}");
        }
        let addresses: Vec<Multiaddr> = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        assert_eq!(usable(addresses.clone()).unwrap(), addresses);
        assert!(usable(vec!["/ip4/192.0.2.1/tcp/0".parse().unwrap()]).is_err());
    }
}
