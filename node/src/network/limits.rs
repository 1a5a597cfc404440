//! Every bound of the network that the wire format does not set, each with its unit in its name.
//!
//! What a stranger can make the node hold is bounded by numbers that multiply to little: connections, streams of all
//! strangers, bytes of requests until they are answered and of answers until they have left, gossip within a second.
//! Operators have bounds of their own, so that strangers use up none of theirs.
//!
//! Advisories looked at, and why they do no harm here. Gossipsub's CVE-2026-33040, CVE-2026-34219 and
//! GHSA-g3g5-x568-qvqx, Yamux's CVE-2026-31814 and CVE-2026-32314, Quinn's CVE-2026-31812 and RUSTSEC-2026-0185:
//! mended in the versions used, older ones are refused by `.cargo/deny.toml`. Hickory's GHSA-q2qq-hmj6-3wpp and
//! rendezvous's GHSA-cqfx-gf56-8x59 and GHSA-v5hw-cv9c-rpg7: not built, names are resolved by the system.
use std::time::Duration;

use fama_ledger::replica::FRONTIER_MILLIS;

/// From a request's first byte to its answer's last, both ways.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Transport, encryption and multiplexer of a new connection together.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After which a connection without streams closes, unless to a node of this federation.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two pings of a connection, and how long one may take before the connection counts as dead.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a peer of another federation may stay: long enough to learn of whose federation we are.
pub(super) const FOREIGN_GRACE: Duration = Duration::from_secs(2);
/// How long the network waits for its connections to close when it stops.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a listener may take to report its address.
pub(super) const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a host name may take to resolve.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses used of one host name.
pub(super) const RESOLVED_MAX: usize = 8;

/// How long a session counts as live after its last frontier request, of which there is one every two seconds.
pub(super) const SESSION_LIVES: Duration = Duration::from_millis(2 * FRONTIER_MILLIS + 1_000);

/// How often a request is sent again that an idle process answered, while another one with its key writes. Each
/// goes out on another connection, as far as no other request comes between.
pub(super) const RESENDS_MAX: usize = CONNECTIONS_PER_PEER_MAX;

/// Requests of this node under way, to all peers together.
pub(super) const IN_FLIGHT_MAX: usize = 64;
/// Requests waiting to be handed to the swarm.
pub(super) const COMMANDS_MAX: usize = 64;
/// Gossip, verdicts and penalties waiting to be handed to the swarm.
pub(super) const HINTS_MAX: usize = 256;
/// Streams of one protocol on one connection, both directions.
pub(super) const STREAMS_PER_CONNECTION_MAX: usize = 2 * IN_FLIGHT_MAX;
/// Streams of all protocols on one connection, and some for identify, ping and gossip.
pub(super) const STREAMS_MUXED_MAX: u32 = 2 * 128 + 32;
/// Of these, opened by an operator on one connection.
pub(super) const STREAMS_PER_OPERATOR_MAX: usize = STREAMS_PER_CONNECTION_MAX;
/// Of these, opened by another peer on one connection.
pub(super) const STREAMS_PER_STRANGER_MAX: usize = IN_FLIGHT_MAX;
/// As many while more than half of [`STREAMS_STRANGERS_MAX`] are open.
pub(super) const STREAMS_PER_STRANGER_CROWDED_MAX: usize = 4;
/// Streams opened by all peers together that are not operators: at worst 128 MiB that nobody has read.
pub(super) const STREAMS_STRANGERS_MAX: usize = 512;
/// Streams beyond the bounds after which a connection is closed.
pub(super) const STREAMS_REFUSED_MAX: u32 = 4_096;
/// What a peer may send on all streams of a QUIC connection before it is read, in bytes.
pub(super) const QUIC_CONNECTION_BYTES: u32 = 512 << 10;
/// The same of one stream.
pub(super) const QUIC_STREAM_BYTES: u32 = 256 << 10;
/// Requests of peers that wait for an answer, or whose answer is on its way.
pub(super) const INBOUND_MAX: usize = 256;
/// Of these, of peers that are not operators.
pub(super) const INBOUND_STRANGERS_MAX: usize = 128;
/// Of these, of one operator.
pub(super) const INBOUND_PER_OPERATOR_MAX: usize = 64;
/// Of these, of one other peer.
pub(super) const INBOUND_PER_STRANGER_MAX: usize = 32;
/// Requests from their arrival to their answer, in KiB, beyond the first [`FREE_BYTES`] of each.
pub(super) const REQUESTS_KIB_MAX: usize = 24 << 10;
/// Answers of others while they arrive, in KiB, beyond the first [`FREE_BYTES`] of each: two of the longest.
pub(super) const ANSWERS_IN_KIB_MAX: usize = 40 << 10;
/// Of a frame, what counts against no budget: streams are counted, and short requests always find room.
pub(super) const FREE_BYTES: usize = 64 << 10;
/// Longer frames of one kind, requests or answers, that are decoded at the same time.
pub(super) const DECODED_AT_ONCE_MAX: usize = 2;
/// How many bytes of a frame memory is first taken for; then as many again as have arrived.
pub(super) const CHUNK_BYTES: usize = 1 << 10;
/// How long a request may take to arrive.
pub(super) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers to one stranger on their way, in bytes, unless it is only one.
pub(super) const ANSWERS_PER_STRANGER_BYTES_MAX: usize = 8 << 20;
/// Answers to one operator on their way, in bytes, unless it is only one.
pub(super) const ANSWERS_PER_OPERATOR_BYTES_MAX: usize = 24 << 20;
/// Answers to all strangers on their way, in bytes.
pub(super) const ANSWERS_STRANGERS_BYTES_MAX: usize = 48 << 20;
/// Answers to all on their way, in bytes.
pub(super) const ANSWERS_BYTES_MAX: usize = 96 << 20;

/// Handshakes over QUIC that peers begin within a second: each is remembered for three, with up to 40 KiB. What comes
/// beyond waits in QUIC's own queue, which no setting here bounds: of 65,536, with a few KiB each.
pub(super) const QUIC_HANDSHAKES_PER_SECOND_MAX: u32 = 256;

/// Connections of one peer, both directions.
pub(super) const CONNECTIONS_PER_PEER_MAX: usize = 8;
/// Connections of peers that are not operators.
pub(super) const CONNECTIONS_STRANGERS_MAX: usize = 192;
/// Of these, kept open while idle: other nodes of the federation. The rest is for short visits.
pub(super) const CONNECTIONS_STRANGERS_KEPT_MAX: usize = 96;
/// Of these, over QUIC: of each up to 10 MB wait for the peer to say that it has them.
pub(super) const CONNECTIONS_STRANGERS_QUIC_MAX: usize = 24;
/// Incoming connections of one IPv4 address or one IPv6 /64.
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
/// Incoming connections of one loopback address: whole federations run there.
pub(super) const CONNECTIONS_PER_LOOPBACK_MAX: usize = 160;
/// Incoming connections within their handshake over TCP.
pub(super) const CONNECTIONS_PENDING_MAX: usize = 128;
/// The same over QUIC, where senders' addresses may be made up: they take nobody's place who comes over TCP.
pub(super) const CONNECTIONS_PENDING_QUIC_MAX: usize = 64;
/// Of each of both, of one address, loopback too.
pub(super) const CONNECTIONS_PENDING_PER_ADDRESS_MAX: usize = 64;
/// Streams of one connection that negotiate their protocol.
pub(super) const NEGOTIATING_STREAMS_MAX: usize = STREAMS_PER_CONNECTION_MAX;

/// Penalties, less one per [`PENALTY_DECAY`], that end a peer's connections.
pub(super) const PENALTIES_MAX: u32 = 8;
/// After which one penalty is forgotten.
pub(super) const PENALTY_DECAY: Duration = Duration::from_secs(30);
/// How long a stranger is refused.
pub(super) const BAN_STRANGER: Duration = Duration::from_secs(600);
/// How long an operator is refused.
pub(super) const BAN_OPERATOR: Duration = Duration::from_secs(60);
/// How long a peer of another federation is refused.
pub(super) const BAN_FOREIGN: Duration = Duration::from_secs(60);
/// Peers whose penalties are remembered.
pub(super) const SCORES_MAX: usize = 1_024;
/// Peers that are refused; beyond, the one whose time is up soonest is let in.
pub(super) const BANS_MAX: usize = 1_024;

/// First pause before a redial.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(250);
/// Longest pause before a redial.
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(30);
/// How long a connection must have lasted for the pauses to begin anew.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// What gossipsub adds to a message: topic, field tags and lengths, other messages of the same write.
pub(super) const GOSSIP_ENVELOPE_BYTES: usize = 1 << 10;
/// Gossip messages waiting for one slow peer.
pub(super) const GOSSIP_QUEUE_MAX: usize = 32;
/// Gossip messages that one peer may send within a second, beside those for each pair of operators.
pub(super) const GOSSIP_PER_SECOND_BASE: usize = 512;
/// What an honest federation says within a second, for each pair of operators: a log's heads and their cosignatures.
pub(super) const GOSSIP_PER_SECOND_PAIR: usize = 128;
/// How long a message is known again. What is no news is ignored without a check, so it need not be long; and each
/// message, valid or not, is remembered for as long.
pub(super) const GOSSIP_KNOWN: Duration = Duration::from_secs(20);
/// Gossip messages of one write of a peer.
pub(super) const GOSSIP_MESSAGES_PER_WRITE_MAX: usize = 64;
/// Message ids that one peer may ask for, or be told of, within a heartbeat.
pub(super) const GOSSIP_IDS_PER_HEARTBEAT_MAX: usize = 256;
