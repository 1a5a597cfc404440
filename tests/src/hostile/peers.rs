//! Attacks over libp2p, by peers that speak its protocols and obey none of their rules.
use std::future::pending;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fama_ledger::checkpoint::Cosignature;
use fama_ledger::codec;
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::{EventId, TreeRoot};
use fama_ledger::key::Curve;
use fama_ledger::log::Head;
use fama_ledger::manifest::Operator;
use fama_ledger::secret::SecretKey;
use fama_ledger::time::Millis;
use fama_node::clock;
use fama_node::wire::{
    CosignedHead, Frontier, Gossip, LogFrontier, SignedHead, SubmitRequest, SyncRequest, SyncResponse,
};
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::World;
use crate::federation::signed;

/// After this many strikes that pile up, an attacker starts over with another key.
const STRIKES_MAX: u64 = 300;

/// The way in which a peer misbehaves.
#[derive(Clone)]
pub(super) enum AttackKind {
    /// Submissions of which only the first bytes are sent.
    Stall,
    /// Requests of the largest size, full of bad signatures; the value is the frame.
    Largest(Arc<Vec<u8>>),
    /// Asks for all entries and reads none.
    Unread,
    /// Frames that are invalid: huge lengths, trailing bytes, noise.
    Rubbish,
    /// Answers with a frontier of the greatest length that a frame may have.
    Frontiers,
    /// Answers with a frontier of all logs and operators, with every signature bad.
    LyingFrontiers,
    /// Heads and cosignatures that used to be news.
    Gossip(Arc<Vec<Gossip>>),
    /// Gossip with invalid signatures, and noise.
    FalseGossip,
    /// Opens streams and never sends anything.
    Streams,
    /// Valid events, as many as fit.
    Registrations,
    /// Valid attestations of unknown issuers.
    Unsponsored,
}

impl AttackKind {
    /// Whether the requests never finish and so cost the attacker memory too.
    fn piles_up(&self) -> bool {
        matches!(self, Self::Stall | Self::Unread | Self::Streams)
    }
}

/// A request as bytes, and what the attacker does with its stream afterwards.
#[derive(Clone, Debug)]
pub(super) struct RawRequest {
    bytes: Vec<u8>,
    then: StreamEnding,
}

impl RawRequest {
    /// A whole encoded message; its answer is read.
    pub(super) fn whole(message: &[u8]) -> Self {
        Self { bytes: framed(message), then: StreamEnding::Read }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnding {
    Read,
    /// Neither ends the stream nor reads from it.
    Stall,
}

impl request_response::Codec for RawRequest {
    type Protocol = StreamProtocol;
    type Request = RawRequest;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<RawRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut header = [0; 4];
        io.read_exact(&mut header).await?;
        Ok(self.clone())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        if self.then == StreamEnding::Stall {
            return pending().await;
        }
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: RawRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.then = request.then;
        io.write_all(&request.bytes).await?;
        io.flush().await?;
        if request.bytes.is_empty() { pending().await } else { Ok(()) }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

#[derive(NetworkBehaviour)]
pub(super) struct Hostile {
    identify: identify::Behaviour,
    pub(super) sync: request_response::Behaviour<RawRequest>,
    pub(super) submit: request_response::Behaviour<RawRequest>,
    gossip: gossipsub::Behaviour,
}

fn behaviour(key: &Keypair, federation: &str) -> Hostile {
    let requests = |name: &str| {
        let protocol = StreamProtocol::try_from_owned(format!("/fama/{federation}/{name}/1")).unwrap();
        let config = request_response::Config::default().with_request_timeout(Duration::from_secs(600));
        let raw = RawRequest { bytes: Vec::new(), then: StreamEnding::Read };
        request_response::Behaviour::with_codec(
            raw,
            [(protocol, ProtocolSupport::Full)],
            config.with_max_concurrent_streams(1_000),
        )
    };
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .max_transmit_size(70_000)
        .message_id_fn(|message| {
            let mut hasher = DefaultHasher::new();
            message.data.hash(&mut hasher);
            hasher.finish().to_be_bytes().to_vec().into()
        })
        .heartbeat_initial_delay(Duration::from_millis(100))
        .build()
        .unwrap();
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).unwrap();
    gossip.subscribe(&IdentTopic::new(format!("fama/{federation}/1"))).unwrap();
    let identify = identify::Config::new(format!("fama/{federation}"), key.public());
    Hostile { identify: identify::Behaviour::new(identify), sync: requests("sync"), submit: requests("submit"), gossip }
}

/// A peer with a new key each time.
fn swarm(world: &World) -> Swarm<Hostile> {
    with_key(world, Keypair::generate_ed25519())
}

/// A peer with this key.
pub(super) fn with_key(world: &World, key: Keypair) -> Swarm<Hostile> {
    let federation = world.manifest.federation().to_string();
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|key| behaviour(key, &federation))
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// The transport of a peer's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransportKind {
    Tcp,
    Quic,
}

/// Runs this many peers with one kind of attack; returns how often they struck.
pub(super) async fn attack(world: Arc<World>, over: TransportKind, kind: AttackKind, peers: usize) -> u64 {
    let (mut all, struck) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for _ in 0..peers {
        let (world, kind, struck) = (Arc::clone(&world), kind.clone(), Arc::clone(&struck));
        all.spawn(async move {
            while world.wants(struck.load(Ordering::Relaxed)) {
                connection(&world, over, &kind, &struck).await;
                sleep(Duration::from_millis(50)).await;
            }
        });
    }
    all.join_all().await;
    struck.load(Ordering::Relaxed)
}

/// One peer's connection, until the node ends it or the attack is over. Adds its strikes to those of the attack.
async fn connection(world: &World, over: TransportKind, kind: &AttackKind, struck: &AtomicU64) {
    let (mut swarm, mut count) = (swarm(world), 0);
    swarm.dial(world.address(over)).unwrap();
    let (mut node, mut pulse) = (None, tokio::time::interval(Duration::from_millis(50)));
    while world.wants(struck.load(Ordering::Relaxed)) && (count < STRIKES_MAX || !kind.piles_up()) {
        let strikes = tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    node = Some(peer_id);
                    0
                }
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => return,
                SwarmEvent::Behaviour(event) => on_event(&mut swarm, event, world, kind),
                _ => 0,
            },
            _ = pulse.tick() => node.map_or(0, |node| strike(&mut swarm, node, world, kind)),
        };
        count += strikes;
        struck.fetch_add(strikes, Ordering::Relaxed);
    }
}

fn on_event(swarm: &mut Swarm<Hostile>, event: HostileEvent, world: &World, kind: &AttackKind) -> u64 {
    let HostileEvent::Sync(request_response::Event::Message { message, .. }) = event else { return 0 };
    let Message::Request { channel, .. } = message else { return 0 };
    let answer = match kind {
        AttackKind::Frontiers => [&(20_u32 << 20).to_le_bytes()[..], &noise(1 << 20)].concat(),
        AttackKind::LyingFrontiers => framed(&codec::encode(&SyncResponse::Frontier(lying_frontier(world)))),
        _ => Vec::new(),
    };
    swarm.behaviour_mut().sync.send_response(channel, answer).map_or(0, |()| 1)
}

/// One round of an attack; a peer makes twenty a second.
fn strike(swarm: &mut Swarm<Hostile>, node: PeerId, world: &World, kind: &AttackKind) -> u64 {
    let hostile = swarm.behaviour_mut();
    let read = |bytes: Vec<u8>| RawRequest { bytes, then: StreamEnding::Read };
    match kind {
        AttackKind::Stall => {
            let bytes = [&(2_u32 << 20).to_le_bytes()[..], &noise(60_000)].concat();
            for _ in 0..2 {
                hostile.submit.send_request(&node, RawRequest { bytes: bytes.clone(), then: StreamEnding::Stall });
            }
            2
        }
        AttackKind::Largest(frame) => {
            hostile.submit.send_request(&node, read(frame.to_vec()));
            hostile
                .sync
                .send_request(&node, read(framed(&codec::encode(&SyncRequest::Frontier(lying_frontier(world))))));
            2
        }
        AttackKind::Unread => {
            let bytes = framed(&codec::encode(&all_entries(world)));
            for _ in 0..2 {
                hostile.sync.send_request(&node, RawRequest { bytes: bytes.clone(), then: StreamEnding::Stall });
            }
            2
        }
        AttackKind::Rubbish => {
            let trailing = [&codec::encode(&SyncRequest::Manifests { from: 2 })[..], &[0]].concat();
            for bytes in [[0xff; 64].to_vec(), framed(&trailing), framed(&noise(300)), noise(100_000)] {
                hostile.sync.send_request(&node, read(bytes));
            }
            4
        }
        AttackKind::Frontiers | AttackKind::LyingFrontiers => 0,
        AttackKind::Gossip(old) => {
            let sent = old.iter().cycle().take(100).filter(|gossip| publish(hostile, world, vary((*gossip).clone())));
            sent.count() as u64
        }
        AttackKind::FalseGossip => {
            let head = || SignedHead { head: Head { size: 1 << 40, root: TreeRoot([1; 32]) }, signature: [2; 64] };
            let log = world.manifest.operators()[1].log();
            let gossip =
                Gossip::Head { log, signed: head(), first: 0, entries: vec![noise(4_000); 10], notes: Vec::new() };
            let sent = u64::from(publish(hostile, world, codec::encode(&gossip)));
            sent + u64::from(publish(hostile, world, noise(60_000)))
        }
        AttackKind::Streams => {
            let nothing = RawRequest { bytes: Vec::new(), then: StreamEnding::Stall };
            for _ in 0..20 {
                hostile.sync.send_request(&node, nothing.clone());
            }
            20
        }
        AttackKind::Registrations => {
            let name = |i: usize| format!("flood-{i}-{}", u64::from_le_bytes(noise(8).try_into().unwrap()));
            let submissions = (0..16).map(|i| world.registration(&name(i)).1).collect();
            let request = SubmitRequest { forwarded: false, submissions };
            hostile.submit.send_request(&node, read(framed(&codec::encode(&request))));
            1
        }
        AttackKind::Unsponsored => {
            let submissions = vec![unsponsored(world)];
            let request = SubmitRequest { forwarded: false, submissions };
            hostile.submit.send_request(&node, read(framed(&codec::encode(&request))));
            1
        }
    }
}

fn publish(hostile: &mut Hostile, world: &World, bytes: Vec<u8>) -> bool {
    hostile.gossip.publish(IdentTopic::new(format!("fama/{}/1", world.manifest.federation())), bytes).is_ok()
}

/// The same statement in different bytes, so that it counts as a new message.
fn vary(gossip: Gossip) -> Vec<u8> {
    let number = u64::from_le_bytes(noise(8).try_into().unwrap());
    codec::encode(&match gossip {
        Gossip::Head { log, signed, entries, .. } => {
            Gossip::Head { log, signed, first: number, entries, notes: Vec::new() }
        }
        Gossip::Equivocation(_) => unreachable!("nobody here signs two branches"),
        Gossip::Cosignature { log, mut cosigned } => {
            // An old cosignature with another time: what is no news is not even checked.
            cosigned.cosignature.seconds = number;
            Gossip::Cosignature { log, cosigned }
        }
    })
}

/// Every log and cosignature, each ahead of everything that exists.
fn lying_frontier(world: &World) -> Frontier {
    let head = || SignedHead { head: Head { size: 1 << 40, root: TreeRoot([1; 32]) }, signature: [2; 64] };
    let cosigned = |operator: &Operator| {
        let cosignature = Cosignature { operator: operator.name.clone(), seconds: 1 << 30, signature: [3; 64] };
        CosignedHead { signed: head(), cosignature }
    };
    let operators = world.manifest.operators();
    let log = |operator: &Operator| LogFrontier {
        log: operator.log(),
        size: u64::MAX,
        newest: None,
        cosigned: operators.iter().map(cosigned).collect(),
        equivocation: None,
        certificate: None,
    };
    Frontier { logs: operators.iter().map(log).collect(), ..Frontier::nothing(&world.manifest, Millis(0)) }
}

pub(super) fn largest(world: &World) -> Arc<Vec<u8>> {
    let mut submission = world.registration("nobody").1;
    submission.signed.event.nonce = Nonce([7; 8]);
    submission.invite = Some("x".repeat(7_500));
    Arc::new(framed(&codec::encode(&SubmitRequest { forwarded: false, submissions: vec![submission; 256] })))
}

fn unsponsored(world: &World) -> fama_node::wire::Submission {
    let key = SecretKey::from_seed(Curve::Ed25519, &noise(32).try_into().unwrap()).unwrap();
    let (home, subject) = (fama_tests::domain(fama_tests::DOMAINS[0]), EventId(noise(32).try_into().unwrap()));
    let action = Action::Attest { home, issuer: EventId([9; 32]), subject, delta: 1, context: None, note: None };
    let nonce = Nonce(noise(8).try_into().unwrap());
    signed(Event { federation: world.manifest.federation(), action, created: clock::now(), nonce }, &key)
}

/// Asks for the attacked log from its first entry on. The head was learned before the attack.
fn all_entries(world: &World) -> SyncRequest {
    let log = world.manifest.operators()[0].log();
    SyncRequest::Entries { log, from: 0, head: *world.head.get().unwrap() }
}

/// The node's own gossip of heads and cosignatures; it will soon be old.
pub(super) async fn old_gossip(world: &World) -> Arc<Vec<Gossip>> {
    let client = world.client().await.unwrap();
    let ours = Frontier::nothing(&world.manifest, clock::now());
    let answer = client.sync(SyncRequest::Frontier(ours)).await.unwrap();
    let SyncResponse::Frontier(frontier) = answer else { panic!("{answer:?}") };
    let mut old = Vec::new();
    for LogFrontier { log, newest, cosigned, .. } in frontier.logs {
        if log == world.manifest.operators()[0].log() {
            world.head.set(newest.as_ref().unwrap().head).unwrap();
        }
        old.extend(newest.map(|signed| Gossip::Head {
            log: log.clone(),
            signed,
            first: 0,
            entries: Vec::new(),
            notes: Vec::new(),
        }));
        old.extend(cosigned.into_iter().map(|cosigned| Gossip::Cosignature { log: log.clone(), cosigned }));
    }
    client.close().await;
    assert!(old.len() >= 8, "{old:?}");
    Arc::new(old)
}

/// Connections that never finish their handshake, from a different address.
pub(super) async fn half_open(world: Arc<World>) -> u64 {
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let world = Arc::clone(&world);
        all.spawn(async move {
            let mut count = 0;
            while world.wants(count) {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
                let Ok(mut stream) = socket.connect(world.p2p).await else { continue };
                let _ = stream.write_all(b"\x13/multistream/1.0.0\n").await;
                count += 1;
                let mut byte = [0; 64];
                while world.on() {
                    let read = stream.read(&mut byte);
                    if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(500), read).await {
                        break;
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
            count
        });
    }
    all.join_all().await.into_iter().sum()
}
