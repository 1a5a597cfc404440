//! Two and more nodes over real sockets on the loopback interface.
use std::io;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fama_ledger::codec;
use fama_ledger::id::{FederationId, NoteHash, TreeRoot};
use fama_ledger::log::Head;
use fama_ledger::manifest::LogId;
use fama_ledger::time::Millis;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::mpsc;

use super::behaviour::Names;
use super::client::Client;
use super::*;
use crate::wire::{EntryRange, Frontier, NoteAnswer, RESPONSE_BYTES_MAX, Refusal, SignedHead, SubmitResult};

const DEADLINE: Duration = Duration::from_secs(30);
const FEDERATION: FederationId = FederationId([7; 32]);
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

struct Node {
    key: SigningKey,
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
}

fn config(seed: u8, listen: &str, dial: Vec<OperatorPeer>) -> NetworkConfig {
    let listen = vec![listen.parse().unwrap()];
    NetworkConfig { key: SigningKey::from_bytes(&[seed; 32]), federation: FEDERATION, listen, dial }
}

impl Node {
    async fn start(seed: u8, listen: &str, dial: Vec<OperatorPeer>) -> Self {
        Self::with(config(seed, listen, dial)).await
    }

    async fn with(config: NetworkConfig) -> Self {
        let (sender, events) = mpsc::channel(64);
        let key = config.key.clone();
        let network = start(config, sender).await.unwrap();
        Self { key, network, events }
    }

    fn id(&self) -> PeerId {
        peer_id(&self.key.verifying_key())
    }

    fn peer(&self) -> OperatorPeer {
        OperatorPeer { peer_id: self.id(), addresses: self.network.listeners() }
    }

    async fn event(&mut self) -> NetworkEvent {
        within(self.events.recv()).await.expect("the network runs")
    }

    async fn up(&mut self, want: PeerId) {
        let event = self.event().await;
        assert!(matches!(event, NetworkEvent::PeerUp { peer } if peer == want), "{event:?}");
    }

    async fn down(&mut self, want: PeerId) {
        let event = self.event().await;
        assert!(matches!(event, NetworkEvent::PeerDown { peer } if peer == want), "{event:?}");
    }
}

/// Two nodes that have connected and identified themselves to each other.
async fn pair(listen: &str) -> (Node, Node) {
    let mut a = Node::start(1, listen, vec![]).await;
    let mut b = Node::start(2, listen, vec![a.peer()]).await;
    a.up(b.id()).await;
    b.up(a.id()).await;
    (a, b)
}

fn log() -> LogId {
    LogId { operator: "a.example".parse().unwrap(), generation: 1 }
}

/// A gossip message identified by its number.
fn gossip(first: u64) -> Gossip {
    let signed = SignedHead { head: Head { size: first, root: TreeRoot([1; 32]) }, signature: [2; 64] };
    Gossip::Head { log: log(), signed, first, entries: vec![vec![3; 300]], notes: Vec::new() }
}

fn submission() -> SubmitRequest {
    SubmitRequest { forwarded: false, submissions: Vec::new() }
}

async fn exchange(listen: &str) {
    let (a, mut b) = pair(listen).await;
    let notes = SyncRequest::Notes(vec![NoteHash([9; 32])]);
    let answer = SyncResponse::Notes(vec![(NoteHash([9; 32]), NoteAnswer::Redacted)]);
    let asking = tokio::spawn({
        let (network, b, notes) = (a.network.clone(), b.id(), notes.clone());
        async move { network.sync(b, notes).await }
    });
    match b.event().await {
        NetworkEvent::Sync { peer, request, reply, .. } => {
            assert_eq!((peer, request), (a.id(), notes));
            reply.send(answer.clone());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(within(asking).await.unwrap(), Ok(answer));

    let submitting = tokio::spawn({
        let (network, b) = (a.network.clone(), b.id());
        async move { network.submit(b, submission()).await }
    });
    let result = SubmitResponse(vec![SubmitResult::Refused(Refusal::new("cap", "nothing left today"))]);
    match b.event().await {
        NetworkEvent::Submit { peer, address, reply, .. } => {
            assert_eq!((peer, address), (a.id(), Some("127.0.0.1".parse().unwrap())));
            reply.send(result.clone());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(within(submitting).await.unwrap(), Ok(result));
    within(a.network.stop()).await;
    b.down(a.id()).await;
    assert_eq!(a.network.sync(b.id(), SyncRequest::Manifests { from: 2 }).await, Err(RequestError::Stopped));
    assert_eq!(b.network.sync(a.id(), SyncRequest::Manifests { from: 2 }).await, Err(RequestError::NotConnected));
}

#[tokio::test]
async fn requests_over_tcp() {
    exchange(TCP).await;
}

#[tokio::test]
async fn requests_over_quic() {
    exchange(QUIC).await;
}

#[tokio::test]
async fn ten_megabytes_pass_and_too_much_does_not() {
    for listen in [TCP, QUIC] {
        let (a, mut b) = pair(listen).await;
        for (entries, fits) in [(2_560, true), (RESPONSE_BYTES_MAX / 4_096 + 1, false)] {
            let range = SyncResponse::Entries(EntryRange {
                first: 0,
                entries: vec![vec![5; 4_096]; entries],
                proof: vec![],
                notes: Vec::new(),
            });
            let request = SyncRequest::Entries { log: log(), from: 0, head: Head { size: 9, root: TreeRoot([1; 32]) } };
            let asking = tokio::spawn({
                let (network, b) = (a.network.clone(), b.id());
                async move { network.sync(b, request).await }
            });
            let NetworkEvent::Sync { reply, .. } = b.event().await else { panic!() };
            reply.send(range.clone());
            match within(asking).await.unwrap() {
                Ok(answer) => assert!(fits && answer == range),
                Err(error) => assert!(!fits && error.code() == "closed", "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_reply_closes_the_stream_and_too_many_requests_are_busy() {
    let (mut a, b) = pair(TCP).await;
    let to = a.id();
    // Each with turns of its own, so that more requests are in flight than this node would make.
    let ask = || {
        let network = Network { turns: Arc::default(), ..b.network.clone() };
        tokio::spawn(async move { network.sync(to, SyncRequest::Manifests { from: 2 }).await })
    };
    let asking = ask();
    drop(a.event().await);
    assert_eq!(within(asking).await.unwrap().unwrap_err().code(), "closed");

    // `a` has no operators, so `b` is a stranger to it. Nothing takes events from `a`'s queue: as many requests wait as
    // a stranger may have, and the rest are refused as busy.
    let mut asking: futures::stream::FuturesUnordered<_> =
        (0..limits::INBOUND_PER_STRANGER_MAX + 8).map(|_| ask()).collect();
    for _ in 0..8 {
        let answer = within(asking.next()).await.unwrap().unwrap();
        assert!(matches!(&answer, Ok(SyncResponse::Refused(refusal)) if refusal.code == "busy"), "{answer:?}");
    }
    for _ in 0..limits::INBOUND_PER_STRANGER_MAX {
        let NetworkEvent::Sync { reply, .. } = a.event().await else { panic!() };
        reply.send(SyncResponse::Manifests(Vec::new()));
    }
    for answer in within(asking.collect::<Vec<_>>()).await {
        assert_eq!(answer.unwrap(), Ok(SyncResponse::Manifests(Vec::new())));
    }
}

/// A line of nodes, each connected to its neighbours only.
async fn line(n: u8) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=n {
        let dial = nodes.last().map(Node::peer).into_iter().collect();
        let mut node = Node::start(seed, TCP, dial).await;
        if let Some(before) = nodes.last_mut() {
            before.up(node.id()).await;
            node.up(before.id()).await;
        }
        nodes.push(node);
    }
    nodes
}

/// Gives a verdict on all gossip that a node receives, and returns the numbers of the messages.
fn judge(mut node: Node, verdict: impl Fn(u64) -> GossipVerdict + Send + 'static) -> mpsc::Receiver<u64> {
    let (sender, heard) = mpsc::channel(1_024);
    tokio::spawn(async move {
        while let Some(event) = node.events.recv().await {
            if let NetworkEvent::Gossip { peer, id, gossip: Gossip::Head { first, .. } } = event {
                node.network.verdict(id, peer, verdict(first));
                let _ = sender.send(first).await;
            }
        }
    });
    heard
}

/// Publishes new numbers until one is received: the first may be sent before any node has subscribed.
async fn spread(network: &Network, heard: &mut mpsc::Receiver<u64>, mut number: u64) -> u64 {
    within(async {
        loop {
            network.publish(gossip(number));
            number += 2;
            if let Ok(Some(first)) = tokio::time::timeout(Duration::from_millis(100), heard.recv()).await {
                return first;
            }
        }
    })
    .await
}

#[tokio::test]
async fn accepted_gossip_reaches_nodes_that_are_not_connected() {
    let mut nodes = line(4).await;
    let first = nodes.remove(0);
    let mut heard: Vec<_> = nodes.into_iter().map(|node| judge(node, |_| GossipVerdict::Accept)).collect();
    let at_the_end = spread(&first.network, heard.last_mut().unwrap(), 2).await;
    for heard in &mut heard[..2] {
        within(async { while heard.recv().await != Some(at_the_end) {} }).await;
    }
}

#[tokio::test]
async fn rejected_gossip_is_not_passed_on() {
    let mut nodes = line(3).await;
    let (last, middle, first) = (nodes.remove(2), nodes.remove(1), nodes.remove(0));
    let mut in_the_middle =
        judge(middle, |number| if number % 2 == 0 { GossipVerdict::Accept } else { GossipVerdict::Reject });
    let mut at_the_end = judge(last, |_| GossipVerdict::Accept);
    spread(&first.network, &mut at_the_end, 2).await;
    first.network.publish(gossip(1));
    within(async { while in_the_middle.recv().await != Some(1) {} }).await;
    // Messages keep their order on a stream: if the odd one were passed on, it would arrive before these.
    let mut number = 10_000;
    loop {
        let heard = spread(&first.network, &mut at_the_end, number).await;
        assert_eq!(heard % 2, 0, "only the accepted");
        if heard >= 10_000 {
            break;
        }
        number += 1_000;
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    for listen in [TCP, QUIC] {
        let a = Node::start(1, listen, vec![]).await;
        let address = a.network.listeners().remove(0);
        let (events, _receiver) = mpsc::channel(1);
        let error = start(config(2, &address.to_string(), vec![]), events).await.err().unwrap();
        assert_eq!(error.code(), "address_in_use", "{error}");
        assert!(matches!(error, NetworkError::Listen { address: of, .. } if of == address));
    }
    for (listen, code) in [
        ("/ip4/192.0.2.1/tcp/0", "address_not_available"),
        ("/dns4/localhost/tcp/0", "address_not_supported"),
        ("/ip4/127.0.0.1/udp/0", "address_not_supported"),
    ] {
        let (events, _receiver) = mpsc::channel(1);
        assert_eq!(start(config(2, listen, vec![]), events).await.err().unwrap().code(), code, "{listen}");
    }
}

/// Starts a node on the address of one that has just stopped; QUIC releases its port a moment later.
async fn restart(seed: u8, listen: &Multiaddr) -> Node {
    within(async {
        loop {
            let (sender, events) = mpsc::channel(64);
            let config = config(seed, &listen.to_string(), vec![]);
            let key = config.key.clone();
            match start(config, sender).await {
                Ok(network) => return Node { key, network, events },
                Err(error) => assert_eq!(error.code(), "address_in_use"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn reconnects_after_a_restart_on_the_same_port() {
    for listen in [TCP, QUIC] {
        let (a, mut b) = pair(listen).await;
        let (id, address) = (a.id(), a.network.listeners().remove(0));
        within(a.network.stop()).await;
        drop(a);
        b.down(id).await;
        let mut a = restart(1, &address).await;
        b.up(id).await;
        a.up(b.id()).await;
    }
}

#[tokio::test]
async fn new_operators_are_dialled() {
    let (mut a, mut b) = (Node::start(1, TCP, vec![]).await, Node::start(2, TCP, vec![]).await);
    let named: Multiaddr =
        b.network.listeners()[0].to_string().replace("/ip4/127.0.0.1", "/dns4/localhost").parse().unwrap();
    a.network.set_operators(vec![a.peer(), OperatorPeer { peer_id: b.id(), addresses: vec![named] }]).await;
    a.up(b.id()).await;
    b.up(a.id()).await;
}

#[tokio::test]
async fn a_peer_that_the_node_penalizes_is_refused() {
    let (mut a, mut b) = pair(TCP).await;
    for _ in 0..limits::PENALTIES_MAX {
        a.network.penalize(b.id(), "bad_signature");
    }
    a.down(b.id()).await;
    b.down(a.id()).await;
    let address = a.network.listeners().remove(0);
    assert!(within(Client::connect(FEDERATION, address)).await.is_ok(), "others are served");
    assert!(a.events.try_recv().is_err(), "it redials in vain");
}

#[tokio::test]
async fn a_client_asks_several_things_at_once() {
    for listen in [TCP, QUIC] {
        let mut node = Node::start(1, listen, vec![]).await;
        let with_id = node.network.listeners().remove(0).with_p2p(node.id()).unwrap();
        let client = within(Client::connect(FEDERATION, with_id)).await.unwrap();
        assert_eq!(client.peer(), node.id());
        let asking = tokio::spawn({
            let client = client.clone();
            async move {
                tokio::join!(
                    client.sync(SyncRequest::Manifests { from: 2 }),
                    client.sync(SyncRequest::Manifests { from: 2 }),
                    async { client.submit(submission()).await }
                )
            }
        });
        for _ in 0..3 {
            match node.event().await {
                NetworkEvent::Sync { reply, .. } => reply.send(SyncResponse::Manifests(vec!["text".to_owned()])),
                NetworkEvent::Submit { reply, .. } => reply.send(SubmitResponse(Vec::new())),
                other => panic!("a client is not reported as a peer: {other:?}"),
            }
        }
        let text = Ok(SyncResponse::Manifests(vec!["text".to_owned()]));
        assert_eq!(within(asking).await.unwrap(), (text.clone(), text, Ok(SubmitResponse(Vec::new()))));
        within(client.close()).await;
    }
}

#[tokio::test]
async fn errors_of_a_client_that_cannot_connect() {
    for listen in [TCP, QUIC] {
        let node = Node::start(1, listen, vec![]).await;
        let address = node.network.listeners().remove(0);
        let connect = async |federation, address: Multiaddr| within(Client::connect(federation, address)).await.err();
        let error = connect(FederationId([8; 32]), address.clone()).await.unwrap();
        assert_eq!(error.to_string(), "this node belongs to another federation");
        assert_eq!(error.code(), "other_federation");
        let error = connect(FEDERATION, address.clone().with_p2p(PeerId::random()).unwrap()).await.unwrap();
        assert!(matches!(error, ClientError::WrongPeer { obtained } if obtained == node.id()), "{error}");
        let error = connect(FEDERATION, "/dns4/no-such-host.invalid/tcp/1".parse().unwrap()).await.unwrap();
        assert_eq!(error.code(), "unresolved", "{error}");
        let error = connect(FEDERATION, "/ip4/127.0.0.1/udp/1".parse().unwrap()).await.unwrap();
        assert_eq!(error.code(), "address_not_supported", "{error}");
    }
    let node = Node::start(1, TCP, vec![]).await;
    let address = node.network.listeners().remove(0);
    within(node.network.stop()).await;
    let error = within(Client::connect(FEDERATION, address)).await.err().unwrap();
    assert_eq!(error.to_string(), "cannot reach the node: Connection refused (os error 111)");
    assert_eq!(error.code(), "unreachable");
}

#[tokio::test]
async fn nodes_of_other_federations_part() {
    let mut ours = Node::start(1, TCP, vec![]).await;
    let other = NetworkConfig { federation: FederationId([8; 32]), ..config(2, TCP, vec![ours.peer()]) };
    let mut other = Node::with(other).await;
    let same = Node::start(3, TCP, vec![ours.peer()]).await;
    ours.up(same.id()).await;
    within(async {
        while ours.network.sync(other.id(), SyncRequest::Manifests { from: 2 }).await != Err(RequestError::NotConnected)
        {
        }
    })
    .await;
    assert!(ours.events.try_recv().is_err(), "nothing is reported to the node");
    assert!(other.events.try_recv().is_err());
}

/// Sends bytes as they are and returns the bytes of the answer.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(Vec::new())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, _: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

type RawSwarm = Swarm<request_response::Behaviour<Raw>>;

fn raw() -> RawSwarm {
    let protocol = [(Names::of(&FEDERATION).sync, ProtocolSupport::Outbound)];
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| request_response::Behaviour::new(protocol, request_response::Config::default()))
        .unwrap()
        .build()
}

/// The answer to these bytes; `None` if the stream or the connection is closed without one.
async fn send_raw(swarm: &mut RawSwarm, to: &OperatorPeer, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let addresses = to.addresses.clone();
    swarm.behaviour_mut().send_request_with_addresses(&to.peer_id, bytes, addresses);
    within(async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(request_response::Event::Message { message, .. }) => match message {
                    request_response::Message::Response { response, .. } => {
                        return Some(response).filter(|response| !response.is_empty());
                    }
                    request_response::Message::Request { .. } => {}
                },
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { .. }) => return None,
                _ => {}
            }
        }
    })
    .await
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

#[tokio::test]
async fn rubbish_is_refused_and_ends_in_a_ban() {
    let mut node = Node::start(1, TCP, vec![]).await;
    let (to, mut swarm) = (node.peer(), raw());
    let good = framed(&codec::encode(&SyncRequest::Manifests { from: 2 }));
    let asking = async {
        let NetworkEvent::Sync { reply, .. } = node.event().await else { panic!() };
        reply.send(SyncResponse::Manifests(Vec::new()));
        node
    };
    let (answer, mut node) = tokio::join!(send_raw(&mut swarm, &to, good.clone()), asking);
    assert_eq!(answer, Some(framed(&codec::encode(&SyncResponse::Manifests(Vec::new())))));

    let oversized = [&u32::MAX.to_le_bytes()[..], &[0; 64]].concat();
    let trailing = framed(&[&codec::encode(&SyncRequest::Manifests { from: 2 })[..], &[0]].concat());
    let huge_vector = framed(&[&2_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat());
    let rubbish = [oversized, trailing, huge_vector, framed(&[0xff; 300])];
    for bytes in rubbish.iter().cycle().take(limits::PENALTIES_MAX as usize) {
        assert_eq!(send_raw(&mut swarm, &to, bytes.clone()).await, None);
    }
    assert_eq!(send_raw(&mut swarm, &to, good).await, None, "banned");
    assert!(node.events.try_recv().is_err(), "nothing is reported to the node");

    let client = Client::connect(FEDERATION, to.addresses[0].clone()).await;
    assert!(client.is_ok(), "others are served");
}

/// Asks `asked` for a frontier as `session`; returns the other session that `asked` knows.
async fn asks(node: &Node, asked: &mut Node, session: Session) -> Option<Session> {
    let (manifest, manifest_hash) = (1, fama_ledger::id::ManifestHash([1; 32]));
    let frontier = Frontier { time: Millis(0), session, other: None, manifest, manifest_hash, logs: Vec::new() };
    let answer = SyncResponse::Frontier(frontier.clone());
    let asking = tokio::spawn({
        let (network, to) = (node.network.clone(), asked.id());
        async move { network.sync(to, SyncRequest::Frontier(frontier)).await }
    });
    let NetworkEvent::Sync { peer, other, reply, .. } = asked.event().await else { panic!("no other event") };
    assert_eq!(peer, node.id());
    reply.send(answer.clone());
    assert_eq!(within(asking).await.unwrap(), Ok(answer), "the answer finds the process that asked");
    other
}

#[tokio::test]
async fn two_processes_with_one_key_learn_of_each_other() {
    for listen in [TCP, QUIC] {
        let mut asked = Node::start(1, listen, vec![]).await;
        let old = Node::start(2, listen, vec![asked.peer()]).await;
        asked.up(old.id()).await;
        let (first, second) = (Session { id: [1; 16], writes: true }, Session { id: [2; 16], writes: false });
        assert_eq!(asks(&old, &mut asked, first).await, None);
        assert_eq!(asks(&old, &mut asked, first).await, None, "its own session is not another one");
        let mut new = Node::start(2, listen, vec![asked.peer()]).await;
        new.up(asked.id()).await;
        assert_eq!(asks(&new, &mut asked, second).await, Some(first));
        assert_eq!(asks(&old, &mut asked, first).await, Some(second));
        let other_key = Node::start(3, listen, vec![asked.peer()]).await;
        asked.up(other_key.id()).await;
        assert_eq!(asks(&other_key, &mut asked, Session { id: [3; 16], writes: true }).await, None);
        within(old.network.stop()).await;
        asked.down(new.id()).await;
        asked.up(new.id()).await;
        assert_eq!(asks(&new, &mut asked, second).await, None);
        // Gossip sends its subscriptions to a peer once: gossip of a process that came second reaches no node until
        // that process connects again.
        let mut heard = judge(asked, |_| GossipVerdict::Accept);
        spread(&new.network, &mut heard, 2).await;
    }
}

/// Answers every request with its name.
fn answers(node: Node, name: &'static str) {
    tokio::spawn(async move {
        // Moves the whole node in: without its handle the network stops.
        let mut node = node;
        while let Some(event) = node.events.recv().await {
            match event {
                NetworkEvent::Sync { reply, .. } => reply.send(SyncResponse::Manifests(vec![name.to_owned()])),
                NetworkEvent::Submit { reply, .. } => {
                    reply.send(SubmitResponse(vec![SubmitResult::Refused(Refusal::new(name, ""))]));
                }
                _ => {}
            }
        }
    });
}

/// Symptom: while a copy of its owner's node ran, a log stood still for most of a minute. Cause: libp2p spreads
/// requests over all connections of a key by their number, and the numbers kept step with the rounds, so that the
/// requests always reached the copy, which had nothing new.
#[tokio::test]
async fn requests_find_the_process_that_writes() {
    for listen in [TCP, QUIC] {
        let mut asking = Node::start(1, listen, vec![]).await;
        let writer = Node::start(2, listen, vec![asking.peer()]).await;
        let starting = Node::start(2, listen, vec![asking.peer()]).await;
        let id = writer.id();
        asking.up(id).await;
        asks(&writer, &mut asking, Session { id: [1; 16], writes: true }).await;
        assert!(asks(&starting, &mut asking, Session { id: [2; 16], writes: false }).await.is_some());
        answers(writer, "writer");
        answers(starting, "starting");
        for _ in 0..12 {
            let answer = within(asking.network.sync(id, SyncRequest::Manifests { from: 2 })).await;
            assert_eq!(answer, Ok(SyncResponse::Manifests(vec!["writer".to_owned()])));
            let answer = within(asking.network.submit(id, submission())).await;
            let SubmitResult::Refused(refusal) = &answer.unwrap().0[0] else { panic!("it was refused") };
            assert_eq!(refusal.code, "writer");
        }
    }
}
