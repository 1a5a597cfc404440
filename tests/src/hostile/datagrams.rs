//! Attacks on the UDP port: handshakes that are never finished, connections that are left at once, and noise.
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{Swarm, SwarmBuilder};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::peers::TransportKind;
use super::{PATIENCE, World};

/// Handshakes begun, each of them many times: the node remembers each for seconds.
const HANDSHAKES: usize = 4_000;
/// How long honest peers have to connect over QUIC before the flood stops everybody from doing so.
const FLOOD_AFTER: Duration = Duration::from_secs(2);
/// Source addresses of the flood, as if they were forged.
const ADDRESSES: u8 = 20;
/// Handshakes from one address in a row.
const BURST: usize = 8;

/// A peer that speaks no protocol, with a key of its own.
fn swarm() -> Swarm<dummy::Behaviour> {
    SwarmBuilder::with_new_identity().with_tokio().with_quic().with_behaviour(|_| dummy::Behaviour).unwrap().build()
}

/// First datagrams of handshakes, each of a different connection, recorded by a socket that never answers.
pub(super) async fn first() -> Arc<Vec<Vec<u8>>> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", sink.local_addr().unwrap().port());
    let (mut swarm, mut dialed) = (swarm(), 0);
    let (mut found, mut datagram, end) = (HashMap::new(), [0; 2_048], Instant::now() + PATIENCE);
    while found.len() < HANDSHAKES {
        if dialed < found.len() + 64 {
            swarm.dial(DialOpts::unknown_peer_id().address(address.parse().unwrap()).build()).unwrap();
            dialed += 1;
            continue;
        }
        tokio::select! {
            _ = swarm.select_next_some() => {}
            received = timeout_at(end, sink.recv(&mut datagram)) => {
                let datagram = &datagram[..received.expect("datagrams arrive").unwrap()];
                // A long header has the form bit and type, the version, the length of the connection id, and the id.
                if datagram.len() >= 1_200 && datagram[0] & 0xf0 == 0xc0 {
                    let id = datagram[6..6 + usize::from(datagram[5])].to_vec();
                    found.entry(id).or_insert_with(|| datagram.to_vec());
                }
            }
        }
    }
    Arc::new(found.into_values().collect())
}

/// Symptom: peers over TCP found no free place, and memory grew with every datagram. Cause: each unfinished handshake
/// took a place. Begins handshakes from many addresses and finishes none, while the test needs new TCP peers and
/// bounds memory.
pub(super) async fn half_open(world: Arc<World>, first: Arc<Vec<Vec<u8>>>) -> u64 {
    let mut sockets = Vec::new();
    for i in 0..ADDRESSES {
        sockets.push(UdpSocket::bind((Ipv4Addr::new(127, 0, 1, i + 1), 0)).await.unwrap());
    }
    let (mut sent, mut datagrams) = (0, first.iter().cycle());
    sleep(FLOOD_AFTER).await;
    while world.wants(sent) {
        for socket in &sockets {
            for datagram in datagrams.by_ref().take(BURST) {
                sent += u64::from(socket.send_to(datagram, world.p2p).await.is_ok());
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    sent
}

/// Connects, or tries to for a second, and leaves without sending anything.
pub(super) async fn visits(world: Arc<World>) -> u64 {
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let world = Arc::clone(&world);
        all.spawn(async move {
            let mut count = 0;
            while world.wants(count) {
                let mut swarm = swarm();
                swarm.dial(world.address(TransportKind::Quic)).unwrap();
                let ended = async {
                    loop {
                        use SwarmEvent::{ConnectionEstablished, OutgoingConnectionError};
                        let event = swarm.select_next_some().await;
                        if matches!(event, ConnectionEstablished { .. } | OutgoingConnectionError { .. }) {
                            break;
                        }
                    }
                };
                let _ = timeout(Duration::from_secs(1), ended).await;
                count += 1;
                sleep(Duration::from_millis(20)).await;
            }
            count
        });
    }
    all.join_all().await.into_iter().sum()
}

/// Noise of all lengths after first bytes that are parsed: no version, an unknown version, the first datagram of a
/// handshake, a datagram of an unknown connection, a datagram to be answered with a reset.
pub(super) async fn noise(world: Arc<World>) -> u64 {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 2, 1), 0)).await.unwrap();
    let heads: [&[u8]; 6] = [
        &[],
        &[0xc0, 0, 0, 0, 0, 20],
        &[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 20],
        &[0xc3, 0, 0, 0, 1, 8],
        &[0xf0, 0, 0, 0, 1, 255],
        &[0x40],
    ];
    let (mut sent, mut turn) = (0, 0);
    while world.wants(sent) {
        for head in heads {
            for len in [1, 21, 100, 1_200, 9_000, 60_000] {
                let mut bytes = vec![0; len];
                getrandom::fill(&mut bytes).unwrap();
                bytes.iter_mut().zip(head).for_each(|(byte, wanted)| *byte = *wanted);
                sent += u64::from(socket.send_to(&bytes, world.p2p).await.is_ok());
            }
        }
        turn += 1;
        if turn % 4 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    sent
}
