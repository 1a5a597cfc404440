//! libp2p: who is connected, what is asked and answered, what is gossiped.
//!
//! One task owns the swarm; [`Network`] is a handle that talks to it over bounded queues, and the task tells the node
//! what happens over the bounded queue given to [`start`]. It never waits for the node: a request that finds that
//! queue full is answered `busy`, gossip is forgotten.
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
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use fama_ledger::id::{Domain, FederationId};
use fama_ledger::manifest::Manifest;
use libp2p::identity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::wire::{Gossip, Session, SubmitRequest, SubmitResponse, SyncRequest, SyncResponse};
pub use dialer::OperatorPeer;
pub use error::{ClientError, NetworkError, RequestError};
pub use libp2p::gossipsub::MessageId;
pub use libp2p::{Multiaddr, PeerId};

/// Log filter directives that keep libp2p's own crates from logging above what strangers may cause.
///
/// They warn, for example, about each stream beyond a limit; what matters is logged here.
pub const LOG_DIRECTIVES: &str = "libp2p=error,multistream_select=error,quinn=error,yamux=error";

/// What a node's network needs to know.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node key, or a mirror's own key: determines the peer id.
    pub key: ed25519_dalek::SigningKey,
    /// Topics and protocols carry it; peers of others are not talked to.
    pub federation: FederationId,
    /// Where to listen; port 0 takes any.
    pub listen: Vec<Multiaddr>,
    /// The operators: dialled for ever while not connected, let in beyond the limits for strangers.
    pub dial: Vec<OperatorPeer>,
}

/// What the network tells the node.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A node of this federation is connected. Its requests may come before this.
    PeerUp {
        /// Who.
        peer: PeerId,
    },
    /// Its last connection is gone.
    PeerDown {
        /// Who.
        peer: PeerId,
    },
    /// A sync request to answer.
    Sync {
        /// Who asks.
        peer: PeerId,
        /// What.
        request: SyncRequest,
        /// Another live process with the asker's key, if a frontier is asked for.
        other: Option<Session>,
        /// Where the answer goes.
        reply: Reply<SyncResponse>,
    },
    /// Submissions to answer.
    Submit {
        /// Who asks.
        peer: PeerId,
        /// From where, if the connection shows an IP address.
        address: Option<IpAddr>,
        /// What.
        request: SubmitRequest,
        /// Where the answer goes.
        reply: Reply<SubmitResponse>,
    },
    /// Gossip that decodes; it travels on only after [`Network::verdict`] accepts it, within some ten seconds.
    Gossip {
        /// The neighbour that sent it: at fault for its content, author or not.
        peer: PeerId,
        /// Names it for the verdict.
        id: MessageId,
        /// What.
        gossip: Gossip,
    },
}

/// Where the answer to one request goes. Dropped without one, it closes the stream.
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Answers. Does nothing if the asker is gone or its time is up.
    pub fn send(self, answer: T) {
        let _ = self.0.send(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// What the node thinks of a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Pass it on.
    Accept,
    /// Not new or not usable now; nobody's fault.
    Ignore,
    /// It can never be valid; costs its sender score.
    Reject,
}

/// Where the result of a request goes. Keeps its turn until then, even if nobody waits for it any more.
struct AnswerSlot<T> {
    to: oneshot::Sender<Result<T, RequestError>>,
    _turn: OwnedSemaphorePermit,
}

impl<T> AnswerSlot<T> {
    fn send(self, result: Result<T, RequestError>) {
        let _ = self.to.send(result);
    }
}

/// What must arrive: senders wait for room.
enum NetworkCommand {
    Sync(PeerId, SyncRequest, AnswerSlot<SyncResponse>),
    Submit(PeerId, SubmitRequest, AnswerSlot<SubmitResponse>),
    Connect(Multiaddr, oneshot::Sender<Result<PeerId, ClientError>>),
    Operators(Vec<OperatorPeer>),
    Stop(oneshot::Sender<()>),
}

/// What may be lost when the queue is full.
enum NetworkHint {
    Publish(Box<Gossip>),
    Verdict(MessageId, PeerId, GossipVerdict),
    Penalize(PeerId, &'static str),
}

/// The handle. When the last one is dropped, the network stops.
#[derive(Clone)]
pub struct Network {
    commands: mpsc::Sender<NetworkCommand>,
    hints: mpsc::Sender<NetworkHint>,
    in_flight: Arc<Semaphore>,
    listeners: Arc<RwLock<Vec<Multiaddr>>>,
}

/// The two ends of a handle's queues, for the task.
struct Queues {
    commands: mpsc::Receiver<NetworkCommand>,
    hints: mpsc::Receiver<NetworkHint>,
    listeners: Arc<RwLock<Vec<Multiaddr>>>,
}

/// Binds every listener, starts the swarm's task on the current tokio runtime and begins to dial.
///
/// # Errors
/// [`NetworkError`]; nothing runs or listens then.
pub async fn start(config: NetworkConfig, events: mpsc::Sender<NetworkEvent>) -> Result<Network, NetworkError> {
    let (network, queues) = Network::with_queues();
    let NetworkConfig { key, federation, listen, dial } = config;
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
        let in_flight = Arc::new(Semaphore::new(limits::IN_FLIGHT_MAX));
        (Self { commands, hints, in_flight, listeners }, queues)
    }

    /// Asks a connected peer. Waits for its turn while too many requests are under way.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn sync(&self, peer: PeerId, request: SyncRequest) -> Result<SyncResponse, RequestError> {
        self.ask(|answer| NetworkCommand::Sync(peer, request, answer)).await
    }

    /// Submits to a connected peer. Waits for its turn while too many requests are under way.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn submit(&self, peer: PeerId, request: SubmitRequest) -> Result<SubmitResponse, RequestError> {
        self.ask(|answer| NetworkCommand::Submit(peer, request, answer)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(AnswerSlot<T>) -> NetworkCommand) -> Result<T, RequestError> {
        let turn = Arc::clone(&self.in_flight).acquire_owned().await.map_err(|_| RequestError::Stopped)?;
        let (to, answered) = oneshot::channel();
        self.commands.send(command(AnswerSlot { to, _turn: turn })).await.map_err(|_| RequestError::Stopped)?;
        answered.await.map_err(|_| RequestError::Stopped)?
    }

    /// Tells every subscribed peer. Lost when the queue is full: gossip is a hint.
    pub fn publish(&self, gossip: Gossip) {
        let _ = self.hints.try_send(NetworkHint::Publish(Box::new(gossip)));
    }

    /// Says what becomes of a gossip message; once per message. A rejected one costs `peer` score.
    pub fn verdict(&self, id: MessageId, peer: PeerId, verdict: GossipVerdict) {
        let _ = self.hints.try_send(NetworkHint::Verdict(id, peer, verdict));
    }

    /// Takes score from a peer that sent rubbish. Too much within a few minutes, and it is disconnected and refused
    /// for some minutes; operators for a shorter time.
    pub fn penalize(&self, peer: PeerId, code: &'static str) {
        let _ = self.hints.try_send(NetworkHint::Penalize(peer, code));
    }

    /// Replaces the operators to dial and to let in, after a new manifest. Closes no connection.
    pub async fn set_operators(&self, operators: Vec<OperatorPeer>) {
        let _ = self.commands.send(NetworkCommand::Operators(operators)).await;
    }

    /// The addresses listened on, without the peer id, port 0 and wildcard hosts resolved.
    #[must_use]
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes every connection and listener and returns when they are closed.
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

/// The operators of the version in use by the peer ids of their nodes, also of the node keys that the version to come
/// gives them: an operator with a new key may be the only one that has the end of its former log, without which that
/// version cannot be used.
#[must_use]
pub fn operators(used: &Manifest, pending: Option<&Manifest>) -> BTreeMap<PeerId, Domain> {
    let later = pending.into_iter().flat_map(Manifest::operators);
    let known = later.filter(|operator| used.operator(&operator.name).is_some()).chain(used.operators());
    known.map(|operator| (peer_id(&operator.node_key), operator.name.clone())).collect()
}
