//! A short-lived peer that only sends requests, for the command line.
use std::time::Duration;

use fama_ledger::id::FederationId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::{ClientError, Network, NetworkCommand, NetworkError, RequestError, dialer, swarm};
use crate::wire::{SubmitRequest, SubmitResponse, SyncRequest, SyncResponse};

/// How long connecting may take, including host name resolution and handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection to one node. Several requests may be in flight at once; a lost connection is not reopened.
#[derive(Clone)]
pub struct Client {
    network: Network,
    peer: PeerId,
}

impl Client {
    /// Connects to a node of `federation`, as a peer with a random key. If the address ends in `/p2p/…`, only that peer
    /// may answer.
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

    /// The node's peer id.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Sends a sync request and waits for the answer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncResponse, RequestError> {
        self.network.sync(self.peer, request).await
    }

    /// Sends submissions and waits for the answer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitResponse, RequestError> {
        self.network.submit(self.peer, request).await
    }

    /// Closes the connection and returns when it is closed. Dropping the client also closes it, a little later.
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
    network.commands.send(NetworkCommand::Connect(address, answer)).await.map_err(|_| ClientError::Stopped)?;
    answered.await.map_err(|_| ClientError::Stopped)?
}
