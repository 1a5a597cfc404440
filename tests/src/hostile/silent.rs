//! Peers that connect as nodes of the federation do, from many addresses, and never answer a request.
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_node::network::peer_id;
use libp2p::futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, ResponseChannel};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::World;
use super::peers::{self, Hostile, HostileEvent, RawRequest, TransportKind};

/// Silent peers of a short run, and of one of a minute or more: more than the turns that any budget may have for
/// requests to all peers together.
const PEERS: usize = 100;
const PEERS_LONG: usize = 400;
/// From this duration on a run is long, in seconds.
pub(super) const LONG: u64 = 60;
/// Loopback addresses from which they connect, from 127.0.0.2 on: to a node, these are as foreign as any.
const ADDRESSES: usize = 20;
/// Requests that a peer holds unanswered at a time; the node ends older ones by itself.
const HELD_MAX: usize = 256;
/// How long a restless peer stays connected.
const RESTLESS: Duration = Duration::from_secs(1);

/// How many there are: `FAMA_HOSTILE_SILENT` or by the length of the run.
pub(super) fn count() -> usize {
    let default = if super::seconds() < LONG { PEERS } else { PEERS_LONG };
    std::env::var("FAMA_HOSTILE_SILENT").map_or(default, |text| text.parse().unwrap())
}

/// The nodes that a peer attacks, by their peer ids.
pub(super) fn targets(worlds: &[Arc<World>]) -> HashMap<PeerId, Multiaddr> {
    let target = |world: &Arc<World>| {
        let operator = world.manifest.operator(&world.home).unwrap();
        (peer_id(&operator.node_key), world.address(TransportKind::Tcp))
    };
    worlds.iter().map(target).collect()
}

/// Passes connections on to the nodes from one address: libp2p itself binds none. Returns where to dial instead of each
/// node.
async fn relays(worlds: &[Arc<World>], from: Ipv4Addr) -> HashMap<PeerId, Multiaddr> {
    let mut relays = HashMap::new();
    for world in worlds {
        let (listener, to) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), world.p2p);
        let port = listener.local_addr().unwrap().port();
        let operator = world.manifest.operator(&world.home).unwrap();
        relays.insert(peer_id(&operator.node_key), format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap());
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind((from, 0).into())?;
                    let mut node = socket.connect(to).await?;
                    copy_bidirectional(&mut peer, &mut node).await
                });
            }
        });
    }
    relays
}

/// Runs the peers; returns how many requests of the nodes they left unanswered.
pub(super) async fn peers(worlds: Vec<Arc<World>>) -> u64 {
    let (mut all, mut targets) = (JoinSet::new(), Vec::new());
    for i in 0..ADDRESSES {
        targets.push(relays(&worlds, Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(i).unwrap())).await);
    }
    for i in 0..count() {
        let (worlds, targets) = (worlds.clone(), targets[i % ADDRESSES].clone());
        all.spawn(async move {
            let (mut unanswered, mut key) = (0, Keypair::generate_ed25519());
            while worlds[0].on() {
                // One in eight comes back with another key each time.
                if i % 8 == 0 {
                    key = Keypair::generate_ed25519();
                }
                unanswered += peer(&worlds[0], i, key.clone(), targets.clone()).await;
            }
            unanswered
        });
    }
    all.join_all().await.into_iter().sum()
}

/// One peer, connected with all nodes. One in four leaves and returns all the time; the others return at once when a
/// node ends their connection.
async fn peer(world: &World, i: usize, key: Keypair, targets: HashMap<PeerId, Multiaddr>) -> u64 {
    let restless = i.is_multiple_of(4);
    let mut swarm = peers::with_key(world, key);
    let mut silent = Silence { listening: true, ..Silence::new(targets) };
    let (begun, mut pulse) = (Instant::now(), tokio::time::interval(Duration::from_millis(50)));
    while world.on() && !(restless && begun.elapsed() > RESTLESS) {
        tokio::select! {
            event = swarm.select_next_some() => silent.on_event(event),
            _ = pulse.tick() => silent.dial(&mut swarm),
        }
    }
    silent.unanswered
}

/// What a silent peer is connected to, and the requests that it does not answer.
pub(super) struct Silence {
    targets: HashMap<PeerId, Multiaddr>,
    /// Nodes to dial at the next pulse.
    apart: Vec<PeerId>,
    held: VecDeque<ResponseChannel<Vec<u8>>>,
    /// Whether the peer has an address to dial from.
    listening: bool,
    /// Requests that were not answered.
    pub(super) unanswered: u64,
}

impl Silence {
    pub(super) fn new(targets: HashMap<PeerId, Multiaddr>) -> Self {
        let apart = targets.keys().copied().collect();
        Self { targets, apart, held: VecDeque::new(), listening: false, unanswered: 0 }
    }

    /// Dials every node that it is not connected to.
    pub(super) fn dial(&mut self, swarm: &mut Swarm<Hostile>) {
        for peer in self.apart.drain(..).filter(|_| self.listening) {
            let address = self.targets[&peer].clone();
            // An error comes as an event, too.
            let _ = swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build());
        }
    }

    pub(super) fn on_event(&mut self, event: SwarmEvent<HostileEvent>) {
        match event {
            SwarmEvent::NewListenAddr { .. } => {
                self.listening = true;
                self.apart = self.targets.keys().copied().collect();
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.apart.push(peer_id),
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), .. } => self.apart.push(peer),
            SwarmEvent::Behaviour(HostileEvent::Sync(event) | HostileEvent::Submit(event)) => self.hold(event),
            _ => {}
        }
    }

    /// Keeps a request open.
    fn hold(&mut self, event: request_response::Event<RawRequest, Vec<u8>>) {
        let request_response::Event::Message { message: Message::Request { channel, .. }, .. } = event else { return };
        self.unanswered += 1;
        self.held.push_back(channel);
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }
}
