//! The libp2p side of a node: connections, requests and answers, gossip.
//!
//! One task owns the swarm. [`Network`] is a handle that sends commands to the task over bounded queues; the task
//! reports events to the node over the bounded queue given to [`start`]. The task never waits for the node: when that
//! queue is full, requests are answered `busy` and gossip is dropped.
mod behaviour;
mod bounds;
pub mod client;
mod codec;
mod dialer;
mod error;
mod gate;
mod handshakes;
mod inbound;
mod limits;
mod operators;
mod presence;
mod score;
mod session;
mod streams;
mod swarm;
mod turns;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use fama_ledger::event::Action;
use fama_ledger::id::{Domain, FederationId};
use fama_ledger::manifest::Manifest;
use libp2p::identity;
use tokio::sync::{mpsc, oneshot};

use turns::{RequestTurn, RequestTurns, TurnKind};

use crate::wire::{Frontier, Gossip, Session, Submission, SubmitRequest, SubmitResponse, SyncRequest, SyncResponse};
pub use dialer::OperatorPeer;
pub use error::{ClientError, NetworkError, RequestError};
pub use libp2p::gossipsub::MessageId;
pub use libp2p::multiaddr::Protocol;
pub use libp2p::{Multiaddr, PeerId};

/// Log filter directives that silence what strangers can make libp2p's own crates log.
///
/// Those crates warn, for example, about each stream beyond a limit; this module logs what matters.
pub const LOG_DIRECTIVES: &str = "libp2p=error,multistream_select=error,quinn=error,yamux=error";

/// Settings of a node's network.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node key, or a mirror's own key. Determines the peer id.
    pub key: ed25519_dalek::SigningKey,
    /// Part of the names of topics and protocols; peers of other federations are disconnected.
    pub federation: FederationId,
    /// Addresses to listen on; port 0 picks a free port.
    pub listen: Vec<Multiaddr>,
    /// The operators: dialled forever while not connected, and exempt from the limits for strangers.
    pub dial: Vec<OperatorPeer>,
}

/// What the network reports to the node.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A node of this federation is connected. Its first requests may arrive before this event.
    PeerUp {
        /// The connected node.
        peer: PeerId,
    },
    /// The last connection to a peer is gone.
    PeerDown {
        /// The peer that left.
        peer: PeerId,
    },
    /// A sync request to answer.
    Sync {
        /// The peer that asks.
        peer: PeerId,
        /// The decoded request.
        request: SyncRequest,
        /// Another live process with the asker's key, if the request is for a frontier.
        other: Option<Session>,
        /// Takes the answer.
        reply: Reply<SyncResponse>,
    },
    /// Submissions to append or forward.
    Submit {
        /// The peer that submits.
        peer: PeerId,
        /// The peer's IP address, if the connection has one.
        address: Option<IpAddr>,
        /// The decoded request.
        request: SubmitRequest,
        /// Takes the answer.
        reply: Reply<SubmitResponse>,
    },
    /// Decoded gossip. It is passed on only if [`Network::verdict`] accepts it within about ten seconds.
    Gossip {
        /// The neighbour that sent the message: at fault for its content, even if another node is the author.
        peer: PeerId,
        /// Identifies the message in the verdict.
        id: MessageId,
        /// The decoded message.
        gossip: Gossip,
    },
}

/// Takes the answer to one request. Dropping it without an answer closes the stream.
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Sends the answer. Does nothing if the asker is gone or the request has timed out.
    pub fn send(self, answer: T) {
        let _ = self.0.send(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// What to do with a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Valid and new: pass it on.
    Accept,
    /// Not new, or not usable now: drop it, nobody is at fault.
    Ignore,
    /// Can never be valid: drop it and penalize the sender.
    Reject,
}

/// Takes the result of a request, and holds the request's turn until then, even if the caller has given up, unless the
/// caller holds the turn.
struct AnswerSlot<T> {
    to: oneshot::Sender<Result<T, RequestError>>,
    _turn: Option<RequestTurn>,
}

impl<T> AnswerSlot<T> {
    fn send(self, result: Result<T, RequestError>) {
        let _ = self.to.send(result);
    }
}

/// Messages to the task that must arrive: senders wait while the queue is full.
enum NetworkCommand {
    Sync(PeerId, SyncRequest, AnswerSlot<SyncResponse>),
    Submit(PeerId, SubmitRequest, AnswerSlot<SubmitResponse>),
    Connect(Multiaddr, oneshot::Sender<Result<PeerId, ClientError>>),
    Operators(Vec<OperatorPeer>),
    Stop(oneshot::Sender<()>),
}

/// Messages to the task that may be lost: dropped while the queue is full.
enum NetworkHint {
    Publish(Box<Gossip>),
    Verdict(MessageId, PeerId, GossipVerdict),
    Penalize(PeerId, &'static str),
    Answered(PeerId, bool),
}

/// A handle to the network's task. The network stops when the last handle is dropped.
#[derive(Clone)]
pub struct Network {
    commands: mpsc::Sender<NetworkCommand>,
    hints: mpsc::Sender<NetworkHint>,
    turns: Arc<RequestTurns>,
    listeners: Arc<RwLock<Vec<Multiaddr>>>,
}

/// The task's ends of what it shares with the handles.
struct Queues {
    commands: mpsc::Receiver<NetworkCommand>,
    hints: mpsc::Receiver<NetworkHint>,
    listeners: Arc<RwLock<Vec<Multiaddr>>>,
}

/// Binds every listener, starts the swarm's task on the current tokio runtime and begins to dial.
///
/// # Errors
/// [`NetworkError`]; then nothing runs or listens.
pub async fn start(config: NetworkConfig, events: mpsc::Sender<NetworkEvent>) -> Result<Network, NetworkError> {
    let (network, queues) = Network::with_queues();
    let NetworkConfig { key, federation, listen, dial } = config;
    network.turns.set_operators(dial.iter().map(|operator| operator.peer_id));
    let mut task = swarm::Task::node(&key, federation, dial, events, queues)?;
    task.listen(listen).await?;
    tokio::spawn(task.run());
    Ok(network)
}

impl Network {
    fn with_queues() -> (Self, Queues) {
        let (commands, command_queue) = mpsc::channel(limits::COMMANDS_MAX);
        let (hints, hint_queue) = mpsc::channel(limits::HINTS_MAX);
        let listeners = Arc::default();
        let queues = Queues { commands: command_queue, hints: hint_queue, listeners: Arc::clone(&listeners) };
        (Self { commands, hints, turns: Arc::default(), listeners }, queues)
    }

    /// Asks a connected peer. Waits while too many requests to it, or to all strangers, are in flight.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn sync(&self, peer: PeerId, request: SyncRequest) -> Result<SyncResponse, RequestError> {
        self.ask(peer, TurnKind::Sync, |answer| NetworkCommand::Sync(peer, request, answer)).await
    }

    /// Asks a connected peer for its frontier. A stranger has five seconds, and then frees its turn: silent strangers are
    /// asked ever more rarely, so that few of their turns are held at any time.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn frontier(&self, peer: PeerId, ours: Frontier) -> Result<SyncResponse, RequestError> {
        let request = SyncRequest::Frontier(ours);
        if self.turns.is_operator(&peer) {
            return self.sync(peer, request).await;
        }
        let turn = self.turns.take(peer, TurnKind::Sync);
        let turn = tokio::time::timeout(limits::STRANGER_ANSWER_TIMEOUT, turn).await;
        let turn = turn.map_err(|_| RequestError::Unsent)?;
        let _turn = turn.map_err(|_| RequestError::Stopped)?;
        let (to, answered) = oneshot::channel();
        let command = NetworkCommand::Sync(peer, request, AnswerSlot { to, _turn: None });
        self.commands.send(command).await.map_err(|_| RequestError::Stopped)?;
        let answer = tokio::time::timeout(limits::STRANGER_ANSWER_TIMEOUT, answered).await;
        answer.map_err(|_| RequestError::TimedOut)?.map_err(|_| RequestError::Stopped)?
    }

    /// Submits to a connected peer. Waits while too many submissions to it are in flight; a request that has nothing but
    /// revocations does not wait for others.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn submit(&self, peer: PeerId, request: SubmitRequest) -> Result<SubmitResponse, RequestError> {
        let revokes = |one: &Submission| matches!(one.signed.event.action, Action::Revoke { .. });
        let kind = if request.submissions.iter().all(revokes) { TurnKind::Revoke } else { TurnKind::Submit };
        self.ask(peer, kind, |answer| NetworkCommand::Submit(peer, request, answer)).await
    }

    async fn ask<T>(
        &self,
        peer: PeerId,
        kind: TurnKind,
        command: impl FnOnce(AnswerSlot<T>) -> NetworkCommand,
    ) -> Result<T, RequestError> {
        let turn = self.turns.take(peer, kind).await.map_err(|_| RequestError::Stopped)?;
        let (to, answered) = oneshot::channel();
        self.commands.send(command(AnswerSlot { to, _turn: Some(turn) })).await.map_err(|_| RequestError::Stopped)?;
        answered.await.map_err(|_| RequestError::Stopped)?
    }

    /// Sends gossip to every subscribed peer. Dropped while the queue is full: gossip is only a hint.
    pub fn publish(&self, gossip: Gossip) {
        let _ = self.hints.try_send(NetworkHint::Publish(Box::new(gossip)));
    }

    /// Decides what happens to a gossip message; call it once per message. A rejected message penalizes `peer`.
    pub fn verdict(&self, id: MessageId, peer: PeerId, verdict: GossipVerdict) {
        let _ = self.hints.try_send(NetworkHint::Verdict(id, peer, verdict));
    }

    /// Counts one penalty for a peer that sent rubbish. After too many within a few minutes the peer is disconnected
    /// and banned: a stranger for ten minutes, an operator for one.
    pub fn penalize(&self, peer: PeerId, code: &'static str) {
        let _ = self.hints.try_send(NetworkHint::Penalize(peer, code));
    }

    /// Notes whether a peer answered the last question for its frontier. A stranger that did not gives its place to any
    /// newcomer once all places are taken.
    pub fn answered(&self, peer: PeerId, answered: bool) {
        let _ = self.hints.try_send(NetworkHint::Answered(peer, answered));
    }

    /// Replaces the operators after a new manifest. Closes no connection.
    pub async fn set_operators(&self, operators: Vec<OperatorPeer>) {
        self.turns.set_operators(operators.iter().map(|operator| operator.peer_id));
        let _ = self.commands.send(NetworkCommand::Operators(operators)).await;
    }

    /// The addresses that the network listens on, without the peer id, with port 0 and wildcard hosts resolved.
    #[must_use]
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every connection and listener, and returns when they are closed.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(NetworkCommand::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

/// The peer id of a node key.
///
/// # Panics
/// Never: a verifying key is a valid point.
#[must_use]
pub fn peer_id(key: &ed25519_dalek::VerifyingKey) -> PeerId {
    let key = identity::ed25519::PublicKey::try_from_bytes(key.as_bytes()).expect("a verifying key is a valid point");
    identity::PublicKey::from(key).to_peer_id()
}

/// The operators of the version in use, by the peer ids of their nodes, also under the node keys that the pending
/// version gives them. An operator with a new key may be the only node that has the end of its former log, and the
/// pending version cannot be used without that end.
#[must_use]
pub fn operators(used: &Manifest, pending: Option<&Manifest>) -> BTreeMap<PeerId, Domain> {
    let later = pending.into_iter().flat_map(Manifest::operators);
    let known = later.filter(|operator| used.operator(&operator.name).is_some()).chain(used.operators());
    known.map(|operator| (peer_id(&operator.node_key), operator.name.clone())).collect()
}
