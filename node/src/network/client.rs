//! A short-lived peer that only asks: for the command line.
use std::io;
use std::time::Duration;

use fama_ledger::id::FederationId;
use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::wire::{SubmitRequest, SubmitResponse, SyncRequest, SyncResponse};
use super::{Command, Network, NetworkError, RequestError, dialer, swarm};

/// How long a connection may take, its host name's resolution and its handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to a node.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address of a node.
    #[error("cannot use the address {address}: want /ip4|ip6|dns/…/tcp/… or …/udp/…/quic-v1")]
    Address {
        /// The address.
        address: Multiaddr,
    },
    /// Its host name has no address.
    #[error("no address found for {address}")]
    Unresolved {
        /// The address.
        address: Multiaddr,
    },
    /// Nobody answers there.
    #[error("cannot reach the node: {cause}")]
    Unreachable {
        /// What the system or the handshake says.
        cause: String,
    },
    /// No connection within [`CONNECT_TIMEOUT`].
    #[error("no connection to the node in time")]
    TimedOut,
    /// Somebody else than the address says.
    #[error("the node there is {obtained}, not the one named in the address")]
    WrongPeer {
        /// Who answered.
        obtained: PeerId,
    },
    /// A node of another federation, or none of Fama at all.
    #[error("this node belongs to another federation")]
    OtherFederation,
    /// It hung up before saying who it is: too many connections, or a ban.
    #[error("the node closed the connection")]
    Closed,
    /// No random key could be drawn, or the encryption layer could not be set up.
    #[error(transparent)]
    Setup(#[from] NetworkError),
    /// The network task ended.
    #[error("the client is stopped")]
    Stopped,
}

impl ClientError {
    /// Stable code.
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

/// The first cause of an error: libp2p wraps several layers that each repeat the next.
fn innermost(error: &io::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// One connection to one node. Requests may be under way at once; it is not renewed when lost.
#[derive(Clone)]
pub struct Client {
    network: Network,
    peer: PeerId,
}

impl Client {
    /// Connects to a node of `federation`, as a peer with a random key. If the address ends in `/p2p/…`, nobody else
    /// may answer there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(federation: FederationId, address: Multiaddr) -> Result<Self, ClientError> {
        tokio::time::timeout(CONNECT_TIMEOUT, Self::try_connect(federation, address))
            .await
            .unwrap_or(Err(ClientError::TimedOut))
    }

    async fn try_connect(federation: FederationId, address: Multiaddr) -> Result<Self, ClientError> {
        let resolved = dialer::resolve(&address).await;
        if resolved.is_empty() {
            return Err(ClientError::Unresolved { address });
        }
        let network = start(federation)?;
        let mut result = Err(ClientError::Stopped);
        for address in resolved {
            result = connect(&network, address).await;
            if !matches!(result, Err(ClientError::Unreachable { .. } | ClientError::TimedOut)) {
                break;
            }
        }
        result.map(|peer| Self { network, peer })
    }

    /// The node.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Asks.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncResponse, RequestError> {
        self.network.sync(self.peer, request).await
    }

    /// Submits.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, RequestError> {
        self.network.submit(self.peer, request).await
    }

    /// Closes the connection and returns when it is closed. Dropping the client closes it too, a little later.
    pub async fn close(self) {
        self.network.stop().await;
    }
}

fn start(federation: FederationId) -> Result<Network, NetworkError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| NetworkError::Setup(error.to_string()))?;
    let (network, queues) = Network::with_queues();
    let task = swarm::Task::client(&ed25519_dalek::SigningKey::from_bytes(&seed), federation, queues)?;
    tokio::spawn(task.run());
    Ok(network)
}

async fn connect(network: &Network, address: Multiaddr) -> Result<PeerId, ClientError> {
    let (answer, answered) = oneshot::channel();
    network.commands.send(Command::Connect(address, answer)).await.map_err(|_| ClientError::Stopped)?;
    answered.await.map_err(|_| ClientError::Stopped)?
}
