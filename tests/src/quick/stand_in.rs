//! Peers that answer in place of a stopped node, with its key, at its address and from its database, but the way a
//! test wants.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fama_node::clock::{self, Clock};
use fama_node::inbox::Inbox;
use fama_node::network::{self, Network, NetworkConfig, NetworkEvent};
use fama_node::shared::Shared;
use fama_node::store::{self, Store};
use fama_node::sync::offered::Snapshots;
use fama_node::sync::said;
use fama_node::wire::{Session, SyncRequest, SyncResponse};
use fama_tests::node_key;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::federation::{LocalFederation, addresses};

/// Changes an honest answer; `None` leaves the request unanswered.
pub(super) type AnswerFilter = dyn Fn(&SyncRequest, SyncResponse) -> Option<SyncResponse> + Send + Sync;

/// How often a stand-in was asked for what.
#[derive(Default)]
pub(super) struct RequestCounts {
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) row_bytes: AtomicU64,
}

impl RequestCounts {
    fn note(&self, request: &SyncRequest) {
        let kind = match request {
            SyncRequest::Frontier(_) => "frontier",
            SyncRequest::Entries { .. } => "entries",
            SyncRequest::Notes(_) => "notes",
            SyncRequest::Manifests { .. } => "manifests",
            SyncRequest::Offers => "offers",
            SyncRequest::Rows { .. } => "rows",
        };
        *self.kinds.lock().unwrap().entry(kind).or_default() += 1;
    }

    pub(super) fn count(&self, kind: &str) -> u64 {
        self.kinds.lock().unwrap().get(kind).copied().unwrap_or_default()
    }
}

/// A running stand-in and the requests that it got.
pub(super) struct StandIn {
    pub(super) asked: Arc<RequestCounts>,
    network: Network,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Takes the place of the `i`-th node, which must be stopped.
    pub(super) async fn start(net: &LocalFederation, i: usize, way: Arc<AnswerFilter>) -> Self {
        let store = Store::open(&net.data(i), &net.manifest).unwrap();
        let key = node_key(i as u8).ed25519().unwrap().clone();
        let listen = addresses(net.ports[i])[..1].iter().map(|address| address.parse().unwrap()).collect();
        let config = NetworkConfig { key, federation: net.manifest.federation(), listen, dial: Vec::new() };
        let (events, told) = mpsc::channel(256);
        let network = network::start(config, events).await.unwrap();
        let asked = Arc::<RequestCounts>::default();
        let shared = Shared::new(store, Clock::machine(), [i as u8; 16]);
        let task = tokio::spawn(answer(shared, told, way, Arc::clone(&asked)));
        Self { asked, network, task }
    }

    pub(super) async fn stop(self) {
        self.network.stop().await;
        self.task.await.unwrap();
    }
}

async fn answer(
    shared: Shared,
    mut events: mpsc::Receiver<NetworkEvent>,
    way: Arc<AnswerFilter>,
    asked: Arc<RequestCounts>,
) {
    // The certified state is available only after an inbox has read the disk.
    let inbox = Inbox::load(shared.clone(), None, mpsc::channel(1_024).0).unwrap();
    let snapshots = Arc::new(Snapshots::new(shared.clone()));
    let mut held = Vec::new();
    while let Some(event) = events.recv().await {
        let NetworkEvent::Sync { request, reply, .. } = event else { continue };
        asked.note(&request);
        let (shared, snapshots, way, asked) =
            (shared.clone(), Arc::clone(&snapshots), Arc::clone(&way), Arc::clone(&asked));
        let answered = tokio::task::spawn_blocking(move || {
            let honest = match &request {
                SyncRequest::Offers | SyncRequest::Rows { .. } => snapshots.answer(&request),
                _ => {
                    let session = Session { id: shared.session, writes: true };
                    said::answer(&shared.store.view(), &shared.manifest, session, clock::now(), &request).unwrap()
                }
            };
            if let SyncResponse::Rows(rows) = &honest {
                let bytes: usize = rows.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
                asked.row_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            way(&request, honest)
        });
        match answered.await.unwrap() {
            Some(answer) => reply.send(answer),
            None => held.push(reply),
        }
    }
    drop((inbox, snapshots));
    let store = Arc::clone(&shared.store);
    drop(shared);
    store::close(store).await;
}
