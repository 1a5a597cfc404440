//! Errors of starting the network, of requests, and of connecting to a node.
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId};

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Binding an address failed.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address from the configuration.
        address: Multiaddr,
        /// The operating system's error.
        cause: io::Error,
    },
    /// An address is neither `/ip4|ip6/…/tcp/…` nor `/ip4|ip6/…/udp/…/quic-v1`.
    #[error("cannot listen on {address}: want /ip4/…/tcp/… or /ip4/…/udp/…/quic-v1, or the same with ip6")]
    Address {
        /// The address from the configuration.
        address: Multiaddr,
    },
    /// The encryption layer could not be set up.
    #[error("encryption layer: {0}")]
    Setup(String),
}

impl NetworkError {
    /// Stable snake_case code, for logs and scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Listen { cause, .. } => match cause.kind() {
                io::ErrorKind::AddrInUse => "address_in_use",
                io::ErrorKind::AddrNotAvailable => "address_not_available",
                io::ErrorKind::PermissionDenied => "permission_denied",
                _ => "listen",
            },
            Self::Address { .. } => "address_not_supported",
            Self::Setup(_) => "setup",
        }
    }
}

/// Why a request got no answer. The peer may have received and carried out the request all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection to the peer.
    #[error("not connected")]
    NotConnected,
    /// No answer arrived within the request timeout.
    #[error("no answer in time")]
    TimedOut,
    /// Too many requests to strangers wait for answers: nothing was sent.
    #[error("not sent: too many requests to others wait for answers")]
    Unsent,
    /// The peer does not speak this federation's protocol.
    #[error("the peer does not speak this federation's protocol")]
    Unsupported,
    /// The connection or the stream ended without an answer.
    #[error("closed without an answer: {0}")]
    Closed(String),
    /// The answer is too long or does not decode: the peer's fault.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// The request is longer than the protocol allows: our fault.
    #[error("request too long: {0}")]
    TooLong(String),
    /// The network's task has ended.
    #[error("the network is stopped")]
    Stopped,
}

impl RequestError {
    /// Stable snake_case code, for logs and scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::TimedOut => "timed_out",
            Self::Unsent => "unsent",
            Self::Unsupported => "unsupported",
            Self::Closed(_) => "closed",
            Self::Malformed(_) => "malformed_answer",
            Self::TooLong(_) => "too_long",
            Self::Stopped => "stopped",
        }
    }
}

/// Why there is no connection to a node.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address has a form that no node listens on.
    #[error("cannot use the address {address}: want /ip4|ip6|dns/…/tcp/… or …/udp/…/quic-v1")]
    Address {
        /// The address given.
        address: Multiaddr,
    },
    /// The host name in the address does not resolve.
    #[error("no address found for {address}")]
    Unresolved {
        /// The address given.
        address: Multiaddr,
    },
    /// No node answers at the address, or the handshake fails.
    #[error("cannot reach the node: {cause}")]
    Unreachable {
        /// The operating system's error, or the handshake's.
        cause: String,
    },
    /// No connection within [`CONNECT_TIMEOUT`](super::client::CONNECT_TIMEOUT).
    #[error("no connection to the node in time")]
    TimedOut,
    /// Another peer answers than the one that the address names.
    #[error("the node there is {obtained}, not the one named in the address")]
    WrongPeer {
        /// The peer that answered.
        obtained: PeerId,
    },
    /// The peer is a node of another federation, or no Fama node at all.
    #[error("this node belongs to another federation")]
    OtherFederation,
    /// The node closed the connection before identifying itself: it has too many connections, or has banned this peer.
    #[error("the node closed the connection")]
    Closed,
    /// No random key could be drawn, or the encryption layer could not be set up.
    #[error(transparent)]
    Setup(#[from] NetworkError),
    /// The client's network task has ended.
    #[error("the client is stopped")]
    Stopped,
}

impl ClientError {
    /// Stable snake_case code, for logs and scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address_not_supported",
            Self::Unresolved { .. } => "unresolved",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut => "timed_out",
            Self::WrongPeer { .. } => "wrong_peer",
            Self::OtherFederation => "other_federation",
            Self::Closed => "closed",
            Self::Setup(error) => error.code(),
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn of_dial(error: DialError) -> Self {
        match error {
            DialError::WrongPeerId { obtained, .. } => Self::WrongPeer { obtained },
            DialError::Transport(attempts) => attempts
                .into_iter()
                .next_back()
                .map_or(Self::Closed, |(address, error)| Self::of_attempt(address, &error)),
            other => Self::Unreachable { cause: other.to_string() },
        }
    }

    fn of_attempt(address: Multiaddr, error: &TransportError<io::Error>) -> Self {
        match error {
            TransportError::MultiaddrNotSupported(_) => Self::Address { address },
            TransportError::Other(error) if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            TransportError::Other(error) => Self::Unreachable { cause: innermost(error) },
        }
    }
}

/// The root cause of an error: libp2p wraps errors in layers that each repeat the next one's text.
fn innermost(error: &io::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
