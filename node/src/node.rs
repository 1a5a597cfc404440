//! A node: its parts wired together, started in order and stopped in order.
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};
use fama_ledger::manifest::Manifest;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot, watch};

use crate::bridge::Bridge;
use crate::clock::{self, Clock};
use crate::config::{Config, ConfigError, Listener, LiveSettings, ScrubSettings, StoredManifest, Verify};
use crate::health;
use crate::http::{self, App, ServingSlot, SignIn};
use crate::inbox::{self, COMMANDS_MAX, INPUTS_MAX, Inbox, InboxCommand, InboxEnd, InboxInput, Own};
use crate::network::{self, Network, NetworkConfig, NetworkError, OperatorPeer, peer_id};
use crate::replay::Fatal;
use crate::scrub::Scrubber;
use crate::shared::Shared;
use crate::sponsored::DomainWatch;
use crate::state_sync::{self, StateSync};
use crate::store::{self, Store, StoreError};
use crate::submit::Submitter;
use crate::submit::admission::Admission;

/// How long a reload waits until this process has released its database and, if the key changed, its sockets. QUIC
/// releases its own late.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a start waits for a database that another process uses.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Most network events that wait for the bridge.
const EVENTS_MAX: usize = 256;
/// Niceness of the threads that write and compact tables: next to others that compute, each gets a third of what they get.
const BACKGROUND_NICE: i32 = 5;
/// Most connections of a listener that the system keeps until they are accepted; `net.core.somaxconn` may allow fewer.
/// Of what does not fit the client hears nothing, and tries again after a second, three, seven. The standard library's
/// 128 are a tenth of a second of a crowd.
const QUEUE_MAX: u32 = 4_096;

/// Why a node did not start, or stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder can't be opened, read or written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A peer-to-peer listener can't be opened.
    #[error("{0}")]
    Network(#[from] NetworkError),
    /// An HTTP listener can't be opened.
    #[error("{what} listener {address}: {cause}")]
    Listen {
        /// `query` or `admin`.
        what: &'static str,
        /// The configured address.
        address: std::net::SocketAddr,
        /// Reported by the operating system.
        cause: std::io::Error,
    },
    /// The inbox stopped because of an error. The disk stays as it is; a restart recovers.
    #[error("{0}")]
    Fatal(#[from] Fatal),
    /// The operating system gave no randomness, thread or socket, or the node key is of the wrong kind.
    #[error("the operating system: {0}")]
    System(String),
}

impl NodeError {
    /// Stable snake_case code; for wrapped errors, theirs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Network(error) => error.code(),
            Self::Listen { cause, .. } if cause.kind() == std::io::ErrorKind::AddrInUse => "address_in_use",
            Self::Listen { .. } => "listen",
            Self::Fatal(error) => error.code(),
            Self::System(_) => "system",
        }
    }
}

/// The addresses that a started node listens on.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The query listener; `None` if it is disabled.
    pub query: Option<std::net::SocketAddr>,
    /// The submit listener; `None` if it is disabled.
    pub submit: Option<std::net::SocketAddr>,
    /// The sign-in listener; `None` if it is disabled.
    pub auth: Option<std::net::SocketAddr>,
    /// The admin listener; `None` if it is disabled.
    pub admin: Option<std::net::SocketAddr>,
    /// All peer-to-peer listeners.
    pub p2p: Vec<libp2p::Multiaddr>,
}

/// Reads a configuration. Its operator, key and namespace may be those of the newest version of the manifest in its data
/// folder, which the file that it names need not have. Opens the database only where they are not in the file.
///
/// # Errors
/// [`ConfigError`].
pub fn configured(path: &Path) -> Result<Config, ConfigError> {
    Config::load_with(path, |data, manifest| {
        if !data.join("CURRENT").exists() {
            return StoredManifest::Absent;
        }
        let Ok(held) = Store::open(data, manifest) else { return StoredManifest::Unreadable };
        StoredManifest::Newest(Arc::clone(held.pending().unwrap_or(held.manifest())))
    })
}

/// Tries the folders that a node with this configuration would use, and leaves everything as it was. Returns what its
/// operator should look at, though the node starts.
///
/// # Errors
/// [`StoreError`]: the data folder cannot be created or written, or a repair of it was interrupted.
pub fn try_folders(config: &Config) -> Result<Vec<String>, StoreError> {
    let mut warnings = Vec::new();
    // Not an error: a configuration is often checked while the node runs with the one before.
    if Store::try_folder(&config.data_dir)? {
        warnings.push(format!("{} is in use by a running node", config.data_dir.display()));
    }
    if config.verify == Verify::Certified {
        let quick = state_sync::folder(&config.data_dir);
        let tried = Store::try_folder(&quick);
        warnings.extend(
            tried.err().map(|error| format!("verify = \"certified\" needs a folder next to the data: {error}")),
        );
    }
    Ok(warnings)
}

/// Runs a node until `stop` completes or an error occurs from which only a restart recovers.
///
/// HTTP listeners are bound before the data folder is opened; `started` is called once all listeners answer. To change
/// to another version of the manifest, the node closes and restarts everything but the HTTP listeners and, if its key
/// stays the same, the network. On a stop, it accepts no new events, writes those that wait, then closes everything.
///
/// # Errors
/// [`NodeError`]: a listener, the data folder or the inbox failed.
pub async fn run(
    config: Config,
    stop: impl Future<Output = ()>,
    started: impl FnOnce(&Addresses),
) -> Result<(), NodeError> {
    let (_unchanged, live) = watch::channel(Arc::new(config.live()));
    Box::pin(run_with(config, live, stop, started)).await
}

/// As [`run`], with settings that may change while the node runs.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    live: watch::Receiver<Arc<LiveSettings>>,
    stop: impl Future<Output = ()>,
    started: impl FnOnce(&Addresses),
) -> Result<(), NodeError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let off = Listener { enabled: false, ..config.admin };
    let listeners = Listeners {
        query: bind("query", &config.query)?,
        submit: bind("submit", &config.submit)?,
        auth: bind("auth", &config.auth.as_ref().map_or(off, |auth| auth.listener))?,
        admin: bind("admin", &config.admin)?,
    };
    let (mut stop, mut started, mut wires) = (pin!(stop), Some(started), None);
    let mut session = [0; 16];
    getrandom::fill(&mut session).map_err(|error| NodeError::System(error.to_string()))?;
    loop {
        // Listeners stay bound, so connections wait during a reload instead of being refused.
        wires = run_once((&config, &live), listeners.second()?, wires, session, stop.as_mut(), &mut started).await?;
        if wires.is_none() {
            return Ok(());
        }
        tracing::info!("reloading from disk");
    }
}

/// The network and its events. Survives a reload unless the node's key changes.
struct Wires {
    key: VerifyingKey,
    network: Network,
    events: mpsc::Receiver<network::NetworkEvent>,
}

/// Runs until the node has to stop (`None`) or to reload.
async fn run_once(
    (config, live): (&Config, &watch::Receiver<Arc<LiveSettings>>),
    listeners: Listeners<TcpListener>,
    wires: Option<Wires>,
    session: [u8; 16],
    mut stop: Pin<&mut impl Future<Output = ()>>,
    started: &mut Option<impl FnOnce(&Addresses)>,
) -> Result<Option<Wires>, NodeError> {
    // The database first: its lock keeps a second process out before anything is bound to this node's key.
    let opened = tokio::select! {
        biased;
        () = stop.as_mut() => None,
        opened = open(config, wires.is_some()) => Some(opened?),
    };
    let Some(opened) = opened else {
        stop_network(wires).await;
        return Ok(None);
    };
    store::remove_stale_checkpoint(&config.data_dir);
    let shared = Shared::new(opened, Clock::machine(), session);
    let own = own(config, &shared.manifest);
    let (inputs, inputs_in) = mpsc::channel(INPUTS_MAX);
    let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
    let own_log = own.as_ref().and_then(|own| own.log.clone());
    let network_config = network_config(config, &shared.manifest, own.as_ref())?;
    // Loads and checks, before any peer can ask or be asked. It may take long, on a thread that a stop interrupts.
    let loaded = tokio::select! {
        biased;
        () = stop.as_mut() => None,
        loaded = load(&shared, own, commands) => Some(loaded?),
    };
    let Some(inbox) = loaded else {
        tracing::info!("stopping before everything was loaded");
        stop_network(wires).await;
        let store = Arc::clone(&shared.store);
        store.interrupt();
        drop(shared);
        store::close(store).await;
        return Ok(None);
    };
    // From here on peers connect. Their requests wait in a bounded queue until the bridge runs.
    let wired = tokio::select! {
        biased;
        () = stop.as_mut() => None,
        wired = wired(network_config, wires) => Some(wired?),
    };
    let Some(Wires { key, network, events }) = wired else {
        drop(inbox);
        let store = Arc::clone(&shared.store);
        drop(shared);
        store::close(store).await;
        return Ok(None);
    };
    let (inbox_done, mut inbox_end) =
        inbox::spawn("inbox", inbox, inputs_in).map_err(|error| NodeError::System(error.to_string()))?;

    let admission = Admission::new(live.clone());
    let submitter =
        Submitter::new(shared.clone(), (own_log, peer_id(&key)), inputs.clone(), network.clone(), admission);
    let (stopping, stopped) = watch::channel(false);
    let submitter = Arc::new(submitter);
    let bridge = Bridge::new(shared.clone(), network.clone(), inputs.clone(), Arc::clone(&submitter), stopped.clone());
    let commands = tokio::spawn(bridge.clone().commands(commands_in));
    let events = tokio::spawn(bridge.clone().events(events));

    let scrub = spawn_scrub(&shared, config.scrub)?;
    let addresses = addresses(&listeners, &network);
    let slot = Arc::default();
    let app = Arc::new(app(&shared, config, &slot, addresses.submit));
    let quick = (config.verify == Verify::Certified).then(|| {
        let shown = (Arc::clone(&app), slot);
        tokio::spawn(StateSync::new(shared.clone(), bridge.clone(), &config.data_dir, shown, stopped.clone()).run())
    });
    drop(bridge);
    let watched = config.operator.clone();
    let watched = watched.and_then(|name| DomainWatch::new(shared.clone(), name, config.domains.clone()));
    let domains = watched.map(|watched| tokio::spawn(watched.run(stopped.clone())));
    tokio::spawn(health::measure_rate(Arc::clone(&shared.health), stopped.clone()));
    tokio::spawn(http::watch(Arc::clone(&app), stopped.clone()));
    let desk = http::Desk::new(Arc::clone(&app), submitter, live.clone());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let webhooks = Arc::<http::Webhooks>::default();
    tokio::spawn(http::run_webhooks(Arc::clone(&app), Arc::clone(&webhooks), live.clone(), stopped.clone()));
    let signs_in = sign_in(config, &app)?;
    let signs_in = signs_in.map(|signs_in| http::sign_in(signs_in, http::Rates::new(live.clone()))).unwrap_or_default();
    let connections_max = config.connections_max();
    let bounds = http::QueryBounds { rates: http::Rates::new(live.clone()), connections_max, stopped: stopped.clone() };
    let asked = http::query(Arc::clone(&app), Some(bounds));
    let serve = |named, listener, router| serve(named, listener, router, connections_max, &stopped);
    let servers = [
        serve(("query", cores), listeners.query, http::accessed(asked, live.clone()))?,
        serve(("submit", cores), listeners.submit, http::accessed(http::submit(desk), live.clone()))?,
        serve(("auth", cores), listeners.auth, http::accessed(signs_in, live.clone()))?,
        serve(("admin", 1), listeners.admin, http::admin(app, inputs.clone(), webhooks))?,
    ];
    let operator = config.operator.as_ref().map_or("none", |operator| operator.as_str());
    let shown = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "off".to_owned(), |at| at.to_string());
    let p2p = addresses.p2p.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (query, submit) = (shown(addresses.query), shown(addresses.submit));
    let (auth, admin) = (shown(addresses.auth), shown(addresses.admin));
    tracing::info!(federation = %shared.manifest.federation(), version = shared.manifest.version(), operator, query, submit, auth, admin, p2p, "node is up");
    if let Some(started) = started.take() {
        started(&addresses);
    }

    let stops = tokio::select! {
        biased;
        () = stop.as_mut() => true,
        _ = inbox_end.changed() => false,
    };
    if stops {
        tracing::info!("stopping");
    }
    // The order of stopping. First everything that only asks, reads or serves is told; nobody waits for anybody yet.
    let _ = stopping.send(true);
    // Ends the scrub's thread at its next step; it holds the store.
    drop(scrub);
    // The inbox appends and answers what it had taken in before this, and nothing after it. A process that is killed
    // instead loses only what was never answered.
    let _ = inputs.send(InboxInput::Stop).await;
    let ended = tokio::task::spawn_blocking(move || inbox_done.join()).await;
    // A panic ends the process by this error, with nothing cleaned up: the disk is as after kill -9.
    let ended = ended.ok().and_then(Result::ok).ok_or(Fatal::Internal("the inbox panicked"))?;
    if let Err(error) = &ended {
        tracing::error!(code = error.code(), %error, "the node stops");
    }
    // An inbox that was about to reload when the stop came ends with that: a node that was told to stop does not.
    let reloads = !stops && matches!(ended, Ok(InboxEnd::Reload));
    // It closes its own database and holds the node's; it has seen `stopping`.
    if let Some(quick) = quick {
        quick.await.map_err(|_| Fatal::Internal("the task of the quick state panicked"))?;
    }
    // It holds the store.
    if let Some(domains) = domains {
        domains.await.map_err(|_| Fatal::Internal("the task that looks at domains panicked"))?;
    }
    // On a reload peers stay connected. What they send meanwhile waits, and is dropped or answered `busy` when the
    // queue is full.
    if !reloads {
        network.stop().await;
    }
    // Commands that are lost here are requests to peers: the inbox makes them again after its start.
    commands.abort();
    // Gives the queue's receiver back for the next round; nothing of this round reads it any more.
    let events = events.await.map_err(|_| Fatal::Internal("the bridge panicked"))?;
    // Requests on their way end first; their listeners stay bound on a reload.
    for server in servers.into_iter().flatten() {
        // An error: its thread has ended.
        let _ = server.await;
    }
    let store = Arc::clone(&shared.store);
    // The last handles but those of readers on their way, for which `close` waits a while. Killed before it is done,
    // the database recovers from its write-ahead log like after any crash.
    drop(shared);
    store::close(store).await;
    ended?;
    Ok(reloads.then_some(Wires { key, network, events }))
}

/// Loads the inbox on a thread of its own.
async fn load(shared: &Shared, own: Option<Own>, commands: mpsc::Sender<InboxCommand>) -> Result<Inbox, NodeError> {
    let shared = shared.clone();
    let loading = tokio::task::spawn_blocking(move || Inbox::load(shared, own, commands));
    Ok(loading.await.map_err(|_| Fatal::Internal("loading panicked"))??)
}

async fn stop_network(wires: Option<Wires>) {
    if let Some(wires) = wires {
        wires.network.stop().await;
    }
}

/// The network, dialing the operators that `config` names: the running one if it has this node's key, else a new one.
async fn wired(config: NetworkConfig, wires: Option<Wires>) -> Result<Wires, NodeError> {
    let key = config.key.verifying_key();
    let deadline = tokio::time::Instant::now() + wires.as_ref().map_or(Duration::ZERO, |_| RELOAD_TIMEOUT);
    match wires {
        Some(mut wires) if wires.key == key => {
            // Events from before the reload are dropped: peers send their heads again, and the new inbox asks again.
            while wires.events.try_recv().is_ok() {}
            wires.network.set_operators(config.dial).await;
            return Ok(wires);
        }
        Some(Wires { network, .. }) => network.stop().await,
        None => {}
    }
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    loop {
        match network::start(config.clone(), sender.clone()).await {
            Err(error) if error.code() == "address_in_use" && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
            Ok(network) => return Ok(Wires { key, network, events }),
        }
    }
}

/// The keys that this node may sign with: those it holds that some version of the manifest gives to its operator.
fn own(config: &Config, manifest: &Manifest) -> Option<Own> {
    let name = config.operator.clone()?;
    let held: Vec<&SigningKey> = [Some(&config.node_key), config.next_node_key.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|key| key.ed25519())
        .collect();
    let own = Own::of(manifest, name, &held, config.overrides);
    if own.log.is_none() {
        tracing::warn!(operator = %own.name, version = manifest.version(), "the manifest has no log for the keys that this node holds: it accepts no events");
    }
    Some(own)
}

/// Opens the database. On a reload, waits until this process has released it; else for a moment, since the process
/// before this one may still be ending, or a backup may be making its checkpoint.
async fn open(config: &Config, reload: bool) -> Result<Store, StoreError> {
    let deadline = tokio::time::Instant::now() + if reload { RELOAD_TIMEOUT } else { LOCK_WAIT };
    loop {
        match open_behind_reads(config) {
            Err(StoreError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// Opens the database on a thread of lower priority, which RocksDB's threads take over: on a busy machine flushes and
/// compactions give way to those who answer.
fn open_behind_reads(config: &Config) -> Result<Store, StoreError> {
    let open = || {
        // On Linux that is of this thread alone. In vain where the system does not allow it: then reads wait now and then.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(BACKGROUND_NICE);
        Store::open_with(&config.data_dir, &config.manifest, &config.storage)
    };
    std::thread::scope(|scope| scope.spawn(open).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn app(shared: &Shared, config: &Config, slot: &Arc<ServingSlot>, submit: Option<SocketAddr>) -> App {
    App {
        shared: shared.clone(),
        partial: false,
        slot: Arc::clone(slot),
        operator: config.operator.clone(),
        namespace: config.namespace.clone(),
        started: clock::now(),
        submit: submit.map(|address| format!("http://{address}")),
        services: http::ServiceList::default(),
        ready: http::Ready::default(),
    }
}

fn network_config(config: &Config, manifest: &Manifest, own: Option<&Own>) -> Result<NetworkConfig, NodeError> {
    let key = match own.and_then(|own| own.keys.last()) {
        Some((_, key)) => key.clone(),
        None => {
            config.node_key.ed25519().ok_or_else(|| NodeError::System("the node key is not Ed25519".into()))?.clone()
        }
    };
    let others = manifest.operators().iter().filter(|operator| config.operator.as_ref() != Some(&operator.name));
    let dial = others.map(|operator| OperatorPeer {
        peer_id: peer_id(&operator.node_key),
        addresses: operator.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
    });
    Ok(NetworkConfig {
        key,
        federation: manifest.federation(),
        listen: config.network.listen.clone(),
        dial: dial.collect(),
    })
}

/// Starts the scrub's thread, which ends when the returned sender is dropped; `None` if the scrub is turned off.
fn spawn_scrub(shared: &Shared, settings: ScrubSettings) -> Result<Option<SyncSender<()>>, NodeError> {
    if settings.bytes_per_second == 0 {
        return Ok(None);
    }
    let (stop, stopped) = sync_channel(0);
    let scrubber = Scrubber::new(shared.clone(), settings, stopped);
    let thread = std::thread::Builder::new().name("scrub".into()).spawn(move || scrubber.run());
    thread.map(|_| Some(stop)).map_err(|error| NodeError::System(error.to_string()))
}

fn bind(what: &'static str, listener: &Listener) -> Result<Option<std::net::TcpListener>, NodeError> {
    if !listener.enabled {
        return Ok(None);
    }
    let address = listener.listen;
    let bound = listen(address).and_then(TcpListener::into_std);
    Ok(Some(bound.map_err(|cause| NodeError::Listen { what, address, cause })?))
}

/// Like [`TcpListener::bind`], with a longer queue.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that starts again must not wait for connections of its last life.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE_MAX)
}

/// A second handle to a listener that stays bound.
fn second_handle(listener: Option<&std::net::TcpListener>) -> Result<Option<TcpListener>, NodeError> {
    let clone = |listener: &std::net::TcpListener| TcpListener::from_std(listener.try_clone()?);
    listener.map(clone).transpose().map_err(|error| NodeError::System(error.to_string()))
}

/// The HTTP listeners; `None` for one that is disabled.
struct Listeners<L> {
    query: Option<L>,
    submit: Option<L>,
    auth: Option<L>,
    admin: Option<L>,
}

impl Listeners<std::net::TcpListener> {
    /// Handles to listeners that stay bound.
    fn second(&self) -> Result<Listeners<TcpListener>, NodeError> {
        Ok(Listeners {
            query: second_handle(self.query.as_ref())?,
            submit: second_handle(self.submit.as_ref())?,
            auth: second_handle(self.auth.as_ref())?,
            admin: second_handle(self.admin.as_ref())?,
        })
    }
}

fn addresses(listeners: &Listeners<TcpListener>, network: &Network) -> Addresses {
    let of = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
    Addresses {
        query: of(&listeners.query),
        submit: of(&listeners.submit),
        auth: of(&listeners.auth),
        admin: of(&listeners.admin),
        p2p: network.listeners(),
    }
}

/// What the sign-in listener needs; `None` if it is disabled.
fn sign_in(config: &Config, app: &Arc<App>) -> Result<Option<Arc<SignIn>>, NodeError> {
    let Some(auth) = &config.auth else { return Ok(None) };
    let key = auth.token_key.ed25519().ok_or_else(|| NodeError::System("a token key is Ed25519".to_owned()))?;
    Ok(Some(SignIn::new(Arc::clone(app), key.clone(), auth.token_seconds)?))
}

/// Serves on a runtime of its own, with the given name and number of threads; `None` if the listener is disabled.
fn serve(
    (name, threads): (&'static str, usize),
    listener: Option<TcpListener>,
    router: axum::Router,
    connections_max: u32,
    stopped: &watch::Receiver<bool>,
) -> Result<Option<oneshot::Receiver<()>>, NodeError> {
    let Some(listener) = listener else { return Ok(None) };
    let mut stopped = stopped.clone();
    let stop = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let served = listener
        .into_std()
        .and_then(|listener| http::serve_apart(name, threads, listener, router, connections_max, stop));
    served.map(Some).map_err(|error| NodeError::System(error.to_string()))
}
