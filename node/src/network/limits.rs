//! Every bound of the network that the wire format does not set, with the unit in its name.
//!
//! These bound what strangers can make the node hold: connections, streams of all strangers together, bytes of requests
//! until they are answered and of answers until they are sent, gossip within a second. Their products are small.
//! Operators have bounds of their own, which strangers cannot use up.
//!
//! Advisories checked, and why none applies here. Gossipsub's CVE-2026-33040, CVE-2026-34219 and GHSA-g3g5-x568-qvqx,
//! Yamux's CVE-2026-31814 and CVE-2026-32314, Quinn's CVE-2026-31812 and RUSTSEC-2026-0185: fixed in the versions used;
//! `.cargo/deny.toml` refuses older ones. Hickory's GHSA-q2qq-hmj6-3wpp and rendezvous's GHSA-cqfx-gf56-8x59 and
//! GHSA-v5hw-cv9c-rpg7: neither crate is built; the operating system resolves names.
use std::time::Duration;

use fama_ledger::replica::{ANSWER_MILLIS, FRONTIER_MILLIS};

/// From a request's first byte to its answer's last, for incoming and outgoing requests.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stranger may take to answer with its frontier.
pub(super) const STRANGER_ANSWER_TIMEOUT: Duration = Duration::from_millis(ANSWER_MILLIS);
/// For the whole setup of a connection: transport, encryption and multiplexer.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without streams a connection closes, except to a node of this federation.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two pings of a connection; also how long a ping may take before the connection counts as dead.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a peer of another federation stays connected: long enough to learn which federation this node is in.
pub(super) const FOREIGN_GRACE: Duration = Duration::from_secs(2);
/// How long a stopping network waits for its connections to close.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a listener may take to report its address.
pub(super) const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a host name may take to resolve.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most addresses used of one host name.
pub(super) const RESOLVED_MAX: usize = 8;

/// How long a session counts as live after its last frontier request; nodes send one every two seconds.
pub(super) const SESSION_LIVES: Duration = Duration::from_millis(2 * FRONTIER_MILLIS + 1_000);

/// How often a request is sent again if an idle process answers while another one with the same key writes. Each retry
/// goes out on another connection unless another request comes in between.
pub(super) const RESENDS_MAX: usize = CONNECTIONS_PER_PEER_MAX;

/// Sync requests of this node in flight to one peer: a frontier, ranges of some logs, notes.
pub(super) const TURNS_SYNC_PER_PEER: usize = 8;
/// Forwarded submissions in flight to one operator, so to one home's node, without those of revocations alone.
pub(super) const TURNS_SUBMIT_PER_PEER: usize = 16;
/// Forwarded revocations in flight to one operator.
pub(super) const TURNS_REVOKE_PER_PEER: usize = 16;
/// Requests in flight to all peers together that are no operators. Operators have no such total: each has its own turns.
pub(super) const TURNS_STRANGERS_MAX: usize = 32;
/// Peers whose turns are remembered; those without a request are forgotten when there are more.
pub(super) const TURNS_PEERS_MAX: usize = 1_024;
/// Requests in flight to one peer, of all kinds.
pub(super) const IN_FLIGHT_MAX: usize = 64;
/// Commands waiting for the swarm's task.
pub(super) const COMMANDS_MAX: usize = 64;
/// Gossip, verdicts and penalties waiting for the swarm's task.
pub(super) const HINTS_MAX: usize = 256;
/// Streams of one protocol on one connection, in both directions.
pub(super) const STREAMS_PER_CONNECTION_MAX: usize = 2 * IN_FLIGHT_MAX;
/// Streams on one connection: of sync and submit, and some for identify, ping and gossip.
pub(super) const STREAMS_MUXED_MAX: u32 = 2 * 128 + 32;
/// Streams that an operator may open on one connection.
pub(super) const STREAMS_PER_OPERATOR_MAX: usize = STREAMS_PER_CONNECTION_MAX;
/// Streams that a stranger may open on one connection.
pub(super) const STREAMS_PER_STRANGER_MAX: usize = IN_FLIGHT_MAX;
/// The same while more than half of [`STREAMS_STRANGERS_MAX`] are open.
pub(super) const STREAMS_PER_STRANGER_CROWDED_MAX: usize = 4;
/// Streams that all strangers together may open: at worst 128 MiB of unread bytes.
pub(super) const STREAMS_STRANGERS_MAX: usize = 512;
/// Refused streams after which a connection is closed.
pub(super) const STREAMS_REFUSED_MAX: u32 = 4_096;
/// Unread bytes that a peer may send on all streams of a QUIC connection.
pub(super) const QUIC_CONNECTION_BYTES: u32 = 512 << 10;
/// Unread bytes that a peer may send on one QUIC stream.
pub(super) const QUIC_STREAM_BYTES: u32 = 256 << 10;
/// Incoming requests of all strangers together that wait for an answer or whose answer is being sent.
pub(super) const INBOUND_STRANGERS_MAX: usize = 128;
/// The same for each operator: as many as a node has in flight to one peer.
pub(super) const INBOUND_PER_OPERATOR_MAX: usize = TURNS_SYNC_PER_PEER + TURNS_SUBMIT_PER_PEER + TURNS_REVOKE_PER_PEER;
/// Of [`INBOUND_STRANGERS_MAX`], those from one stranger.
pub(super) const INBOUND_PER_STRANGER_MAX: usize = 32;
/// Memory for incoming requests until they are answered, in KiB, beyond the first [`FREE_BYTES`] of each.
pub(super) const REQUESTS_KIB_MAX: usize = 24 << 10;
/// Memory for incoming answers while they arrive, in KiB, beyond the first [`FREE_BYTES`] of each: two of the longest.
pub(super) const ANSWERS_IN_KIB_MAX: usize = 40 << 10;
/// Bytes of each frame that no budget counts, so that short requests always find room: the stream limits bound them.
pub(super) const FREE_BYTES: usize = 64 << 10;
/// Longer frames of one kind, requests or answers, decoded at the same time.
pub(super) const DECODED_AT_ONCE_MAX: usize = 2;
/// First allocation for a frame, in bytes; it doubles as bytes arrive.
pub(super) const CHUNK_BYTES: usize = 1 << 10;
/// How long a request may take to arrive.
pub(super) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers being sent to one stranger, in bytes; a single answer may be longer.
pub(super) const ANSWERS_PER_STRANGER_BYTES_MAX: usize = 8 << 20;
/// Answers being sent to one operator, in bytes; a single answer may be longer.
pub(super) const ANSWERS_PER_OPERATOR_BYTES_MAX: usize = 24 << 20;
/// Answers being sent to all strangers together, in bytes.
pub(super) const ANSWERS_STRANGERS_BYTES_MAX: usize = 48 << 20;
/// Answers being sent to all peers together, in bytes.
pub(super) const ANSWERS_BYTES_MAX: usize = 96 << 20;

/// Incoming QUIC handshakes within a second: each is remembered for three seconds, with up to 40 KiB. More of them wait
/// in QUIC's own queue, which no setting here bounds: 65,536 of a few KiB each.
pub(super) const QUIC_HANDSHAKES_PER_SECOND_MAX: u32 = 256;

/// Connections with one peer, in both directions.
pub(super) const CONNECTIONS_PER_PEER_MAX: usize = 8;
/// Connections with all strangers together.
pub(super) const CONNECTIONS_STRANGERS_MAX: usize = 192;
/// Of [`CONNECTIONS_STRANGERS_MAX`], those kept open while idle: to other nodes of the federation. The rest is for
/// short visits.
pub(super) const CONNECTIONS_STRANGERS_KEPT_MAX: usize = 96;
/// Of [`CONNECTIONS_STRANGERS_MAX`], those over QUIC: each may hold up to 10 MB that the peer has not acknowledged.
pub(super) const CONNECTIONS_STRANGERS_QUIC_MAX: usize = 24;
/// Incoming connections from one IPv4 address or one IPv6 /48, which one customer often has.
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
/// New incoming TCP connections from one such block within a second: each costs a handshake.
pub(super) const CONNECTIONS_PER_ADDRESS_PER_SECOND_MAX: u32 = 16;
/// Blocks whose connections within a second are counted; those whose second is over make room.
pub(super) const RATES_MAX: usize = 4_096;
/// Incoming connections from 127.0.0.1 or ::1: whole federations run there.
pub(super) const CONNECTIONS_PER_LOOPBACK_MAX: usize = 160;
/// Incoming TCP connections whose handshake is not finished.
pub(super) const CONNECTIONS_PENDING_MAX: usize = 128;
/// The same for QUIC, counted separately: QUIC addresses can be forged, and must not use up the room for TCP.
pub(super) const CONNECTIONS_PENDING_QUIC_MAX: usize = 64;
/// With fewer unfinished handshakes than this, a block finds room when the others have used up the above: as many again
/// are for such blocks.
pub(super) const CONNECTIONS_PENDING_FEW: usize = 4;
/// Of [`CONNECTIONS_PENDING_MAX`] and [`CONNECTIONS_PENDING_QUIC_MAX`] each, those from one address, loopback included.
pub(super) const CONNECTIONS_PENDING_PER_ADDRESS_MAX: usize = 64;
/// Incoming streams of one connection that are still negotiating their protocol.
pub(super) const NEGOTIATING_STREAMS_MAX: usize = STREAMS_PER_CONNECTION_MAX;

/// Penalties at which a peer is disconnected and banned; one is forgotten per [`PENALTY_DECAY`].
pub(super) const PENALTIES_MAX: u32 = 8;
/// Time after which one penalty is forgotten.
pub(super) const PENALTY_DECAY: Duration = Duration::from_secs(30);
/// How long a stranger is banned.
pub(super) const BAN_STRANGER: Duration = Duration::from_secs(600);
/// How long an operator is banned.
pub(super) const BAN_OPERATOR: Duration = Duration::from_secs(60);
/// How long a peer of another federation is banned.
pub(super) const BAN_FOREIGN: Duration = Duration::from_secs(60);
/// Peers whose penalties are remembered.
pub(super) const SCORES_MAX: usize = 1_024;
/// Banned peers remembered; when full, the ban that ends soonest is dropped.
pub(super) const BANS_MAX: usize = 1_024;

/// First pause before a redial.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(250);
/// Longest pause before a redial.
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(30);
/// How long a connection must last for the pauses to start over at [`REDIAL_MIN`].
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// What gossipsub adds to a message: topic, field tags and lengths, other messages of the same write.
pub(super) const GOSSIP_ENVELOPE_BYTES: usize = 1 << 10;
/// Gossip messages waiting for one slow peer.
pub(super) const GOSSIP_QUEUE_MAX: usize = 32;
/// Gossip messages that one peer may send within a second, besides those for each pair of operators.
pub(super) const GOSSIP_PER_SECOND_BASE: usize = 512;
/// Gossip messages of an honest federation within a second, per pair of operators: a log's heads and cosignatures.
pub(super) const GOSSIP_PER_SECOND_PAIR: usize = 128;
/// How long gossipsub recognizes a duplicate. It stays short because each message, valid or not, is remembered for as
/// long, and because old messages are no news, which is ignored without further checks.
pub(super) const GOSSIP_KNOWN: Duration = Duration::from_secs(20);
/// Gossip messages accepted in one write of a peer.
pub(super) const GOSSIP_MESSAGES_PER_WRITE_MAX: usize = 64;
/// Message ids that one peer may request, or be offered, within a heartbeat.
pub(super) const GOSSIP_IDS_PER_HEARTBEAT_MAX: usize = 256;
