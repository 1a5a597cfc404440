//! The protocols of a node combined, and the swarm that runs them.
use std::collections::HashSet;

use fama_ledger::id::FederationId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade;
use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, IdentityTransform, MessageAuthenticity, MessageId, ValidationMode,
    WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{PeerId, StreamProtocol, Swarm, Transport, identify, noise, ping, quic, tcp, yamux};

use super::codec::{Budget, Frames};
use super::gate::ConnectionGate;
use super::handshakes::Paced;
use super::operators::Operators;
use super::streams::Pool;
use super::{NetworkError, limits};
use crate::wire::{GOSSIP_BYTES_MAX, SubmitRequest, SubmitResponse, SyncRequest, SyncResponse};

pub(super) type SyncFrames = Frames<SyncRequest, SyncResponse>;
pub(super) type SubmitFrames = Frames<SubmitRequest, SubmitResponse>;
type GossipBehaviour = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// The names of a federation's protocols and gossip topic.
#[derive(Clone)]
pub(super) struct Names {
    /// Sent by identify: the same for every peer of a federation, clients included.
    pub(super) federation: String,
    pub(super) sync: StreamProtocol,
    pub(super) submit: StreamProtocol,
    pub(super) topic: IdentTopic,
}

impl Names {
    pub(super) fn of(federation: &FederationId) -> Self {
        let protocol = |name| {
            StreamProtocol::try_from_owned(format!("/fama/{federation}/{name}/1")).expect("it begins with a slash")
        };
        Self {
            federation: format!("fama/{federation}"),
            sync: protocol("sync"),
            submit: protocol("submit"),
            topic: IdentTopic::new(format!("fama/{federation}/1")),
        }
    }
}

/// Whether this peer answers requests, or only sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Node,
    Client,
}

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // First, so that no other behaviour allocates anything for a connection that the gate refuses.
    pub(super) gate: ConnectionGate,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) gossip: Toggle<GossipBehaviour>,
    pub(super) sync: request_response::Behaviour<SyncFrames>,
    pub(super) submit: request_response::Behaviour<SubmitFrames>,
}

impl Behaviour {
    fn new(key: &Keypair, names: &Names, role: Role, operators: &Operators) -> Self {
        let budgets = [limits::REQUESTS_KIB_MAX, limits::ANSWERS_IN_KIB_MAX].map(Budget::new);
        let support = match role {
            Role::Node => ProtocolSupport::Full,
            Role::Client => ProtocolSupport::Outbound,
        };
        let requests = request_response::Config::default()
            .with_request_timeout(limits::REQUEST_TIMEOUT)
            .with_max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX);
        let sync = [(names.sync.clone(), support.clone())];
        let submit = [(names.submit.clone(), support)];
        Self {
            gate: ConnectionGate::new(operators.clone()),
            identify: identify::Behaviour::new(identify(key, names)),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_INTERVAL),
            ),
            gossip: (role == Role::Node).then(|| gossip(&names.topic)).into(),
            sync: request_response::Behaviour::with_codec(
                Frames::new(&budgets, operators.clone()),
                sync,
                requests.clone(),
            ),
            submit: request_response::Behaviour::with_codec(Frames::new(&budgets, operators.clone()), submit, requests),
        }
    }
}

fn identify(key: &Keypair, names: &Names) -> identify::Config {
    identify::Config::new(names.federation.clone(), key.public())
        .with_agent_version(concat!("fama/", env!("CARGO_PKG_VERSION")).to_owned())
        // Only the manifest's addresses are dialled.
        .with_cache_size(0)
}

/// BLAKE3 of the content, so that a message sent by two peers counts as one.
fn message_id(message: &gossipsub::Message) -> MessageId {
    MessageId::from(&blake3::hash(&message.data).as_bytes()[..20])
}

/// Messages are anonymous: their content carries its author's signature, and a node that passes on invalid content is
/// itself at fault, so the envelope needs neither a second signature nor a source. `Anonymous` is as strict as
/// `Strict`: it refuses messages that have either.
///
/// Gossipsub's own peer score is off: `score` keeps one score per peer for gossip and requests alike, and a small
/// federation has too little traffic for delivery statistics to mean anything.
///
/// Up to about twelve nodes, the mesh includes all of them. Beyond that, flood publishing still sends a node's own
/// messages to all its neighbours in one step, so the mesh matters only to nodes that are not connected to the author.
fn gossip(topic: &IdentTopic) -> GossipBehaviour {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(GOSSIP_BYTES_MAX + limits::GOSSIP_ENVELOPE_BYTES)
        .flood_publish(true)
        .mesh_outbound_min(2)
        .mesh_n_low(4)
        .mesh_n(8)
        .mesh_n_high(12)
        .heartbeat_initial_delay(std::time::Duration::from_secs(1))
        // In heartbeats of a second: how long a verdict may take, and how long a message is advertised.
        .history_length(10)
        .history_gossip(3)
        .duplicate_cache_time(limits::GOSSIP_KNOWN)
        .connection_handler_queue_len(limits::GOSSIP_QUEUE_MAX)
        .max_publish_messages(limits::GOSSIP_MESSAGES_PER_WRITE_MAX)
        .max_control_messages_sent(limits::GOSSIP_IDS_PER_HEARTBEAT_MAX)
        .build()
        .expect("constant parameters that a test builds");
    let filter = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    let mut behaviour = GossipBehaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
        .expect("anonymous authenticity fits the anonymous validation mode");
    behaviour.subscribe(topic).expect("the only topic that the filter lets through");
    behaviour
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(limits::STREAMS_MUXED_MAX as usize);
    config
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.max_concurrent_stream_limit = limits::STREAMS_MUXED_MAX;
    config.max_connection_data = limits::QUIC_CONNECTION_BYTES;
    config.max_stream_data = limits::QUIC_STREAM_BYTES;
    config.handshake_timeout = limits::HANDSHAKE_TIMEOUT;
    config
}

/// TCP with Noise and Yamux, and QUIC; both bound the streams of each connection.
fn transport(key: &Keypair, operators: &Operators) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let pool = Pool::new(operators.clone());
    let other = pool.clone();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(muxer())
        .map(move |(peer, muxer), _| (peer, pool.bound(&peer, StreamMuxerBox::new(muxer))));
    let quic = Paced::new(quic::tokio::Transport::new(quic_config(key)))
        .map(move |(peer, muxer), _| (peer, other.bound(&peer, StreamMuxerBox::new(muxer))));
    let either = tcp.or_transport(quic).map(|either, _| {
        let (peer, muxer) = either.into_inner();
        (peer, StreamMuxerBox::new(muxer))
    });
    Ok(TransportTimeout::new(either, limits::HANDSHAKE_TIMEOUT).boxed())
}

/// A swarm over TCP with Noise and Yamux, and over QUIC, on the current tokio runtime.
pub(super) fn swarm(
    key: &ed25519_dalek::SigningKey,
    names: &Names,
    role: Role,
    operators: &Operators,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
    let key = Keypair::ed25519_from_bytes(key.to_bytes()).map_err(|error| setup(&error))?;
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(limits::IDLE_TIMEOUT)
        .with_max_negotiating_inbound_streams(limits::NEGOTIATING_STREAMS_MAX);
    let transport = transport(&key, operators).map_err(|error| setup(&error))?;
    let behaviour = Behaviour::new(&key, names, role, operators);
    Ok(Swarm::new(transport, behaviour, key.public().to_peer_id(), config))
}
