//! Ten thousand requests over HTTP that are slow, half-open or huge, thousands at once and all from one address, against
//! one node: an honest client at another address is answered as if they were not there.
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{
    RESIDENT_KIB_MAX, SECONDS, World, alone, apart, clients, fill, no_errors, operators, ready, say, seconds, start,
};
use crate::federation::multi;

/// Hostile requests of a run.
const REQUESTS: usize = 10_000;
/// How many of them are open at a time, if this process may open that many files.
const AT_ONCE: usize = 3_000;
/// How long each stays, unless the node ends it.
const STAY: Duration = Duration::from_secs(3);
/// Pause before the next one.
const PAUSE: Duration = Duration::from_millis(200);
/// Where they come from, and where the honest client is: a node counts loopback addresses one by one.
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long honest requests may take, or so many times what they take before the attack: the machine also runs the
/// attackers. In the short form, which runs next to other tests, half of them; in the long form 99 of 100.
const BOUND: Duration = Duration::from_millis(100);
const NOISE: u32 = 4;
/// No honest request takes longer.
const WORST: Duration = Duration::from_secs(5);
/// Honest requests before the attack.
const CALM: usize = 100;

/// What a hostile request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostileRequest {
    Nothing,
    SlowHead,
    SlowBody,
    HugeHead,
    HugeBody,
    EndlessBody,
    Pipeline,
    Stream,
}

const KINDS: [HostileRequest; 8] = [
    HostileRequest::Nothing,
    HostileRequest::SlowHead,
    HostileRequest::SlowBody,
    HostileRequest::HugeHead,
    HostileRequest::HugeBody,
    HostileRequest::EndlessBody,
    HostileRequest::Pipeline,
    HostileRequest::Stream,
];

impl HostileRequest {
    /// What is sent at once, and what is then sent again and again, with pauses.
    fn bytes(self) -> (Vec<u8>, &'static [u8], Duration) {
        let head = |method: &str, more: &str| format!("{method} HTTP/1.1\r\nHost: a\r\n{more}");
        let verify = |more: &str| head("POST /api/verify", more);
        let slow = Duration::from_millis(400);
        match self {
            Self::Nothing => (Vec::new(), b"", slow),
            Self::SlowHead => (head("GET /api/status", "X-Slow: ").into_bytes(), b"a", slow),
            Self::SlowBody => (verify("Content-Length: 60000\r\n\r\n{").into_bytes(), b"a", slow),
            Self::HugeHead => (head("GET /api/status", "X-Huge: ").into_bytes(), &[b'a'; 8_192], Duration::ZERO),
            Self::HugeBody => (verify("Content-Length: 65536\r\n\r\n{").into_bytes(), &[b'a'; 8_192], Duration::ZERO),
            Self::EndlessBody => (
                verify("Transfer-Encoding: chunked\r\n\r\n").into_bytes(),
                b"10\r\naaaaaaaaaaaaaaaa\r\n",
                Duration::from_millis(20),
            ),
            Self::Pipeline => (head("GET /api/federation", "\r\n").repeat(200).into_bytes(), b"", slow),
            Self::Stream => (head("GET /api/stream", "\r\n").into_bytes(), b"", slow),
        }
    }

    /// Whether the node ended it before its time.
    async fn done(self, stream: &mut TcpStream) -> bool {
        let (first, again, pause) = self.bytes();
        let until = Instant::now() + STAY;
        let left = || until.saturating_duration_since(Instant::now());
        let mut open = matches!(timeout(left(), stream.write_all(&first)).await, Ok(Ok(())));
        while open && !left().is_zero() {
            sleep(pause).await;
            open = match timeout(left(), stream.write_all(again)).await {
                Ok(sent) => sent.is_ok(),
                Err(_) => break,
            };
            // Only those that send nothing have to look whether they are still heard.
            if again.is_empty() && !matches!(self, Self::Pipeline | Self::Stream) {
                open = !matches!(timeout(Duration::from_millis(1), stream.read(&mut [0])).await, Ok(Ok(0) | Err(_)));
            }
        }
        !open
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// The hostile requests, as they run.
#[derive(Default)]
struct Crowd {
    sent: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    ended: AtomicUsize,
}

impl Crowd {
    async fn attack(self: Arc<Self>, to: SocketAddr) {
        let mut all = JoinSet::new();
        for i in 0..AT_ONCE.min(clients::files() / 4) {
            let this = Arc::clone(&self);
            all.spawn(async move {
                // Not all in one moment: what the system queues for a listener is not the node's.
                sleep(Duration::from_micros(500) * u32::try_from(i).unwrap()).await;
                let mut kind = i;
                while this.sent.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                    let Ok(Ok(mut stream)) = timeout(STAY, connect(HOSTILE, to)).await else { continue };
                    this.most.fetch_max(this.open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    this.ended
                        .fetch_add(usize::from(KINDS[kind % KINDS.len()].done(&mut stream).await), Ordering::Relaxed);
                    this.open.fetch_sub(1, Ordering::Relaxed);
                    kind += 1;
                    drop(stream);
                    sleep(PAUSE).await;
                }
            });
        }
        all.join_all().await;
    }
}

/// One honest request on a connection of its own, and how long it took.
async fn honest(to: SocketAddr, path: &str) -> Duration {
    let begun = Instant::now();
    let asked = async {
        let mut stream = connect(HONEST, to).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(WORST, asked).await.unwrap_or_else(|_| panic!("{path}: no answer in {WORST:?}")).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{path}: {}", String::from_utf8_lossy(&answer));
    begun.elapsed()
}

/// Asks until told to stop, at least [`CALM`] times.
async fn asks(to: SocketAddr, over: Arc<AtomicBool>) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) || times.len() < CALM {
        let path = ["/api/agent/first-0-7@alpha.example", "/api/status", "/api/leaderboard?limit=20"][times.len() % 3];
        times.push(honest(to, path).await);
        sleep(Duration::from_millis(10)).await;
    }
    times.sort();
    times
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

/// A newcomer must not wait in the listener's queue behind thousands of its attackers: room is made for it at once.
#[test]
fn ten_thousand_hostile_requests_hold_up_no_honest_one() {
    let _alone = alone();
    multi(async {
        let (_dir, manifest, folders) = operators(1);
        let node = start(&folders[0]);
        ready(node.query).await;
        fill(&World::new(&manifest, &folders[0])).await;
        let calm = apart(asks(node.query, Arc::new(AtomicBool::new(true)))).await.unwrap();
        // What a newcomer waits for is decided by the node; how late the slowest is, by all that runs here.
        let judged = if seconds() > SECONDS { p99 } else { |times: &[Duration]| times[times.len() / 2] };
        let bound = BOUND.max(judged(&calm) * NOISE);

        let (crowd, over, begun) = (Arc::new(Crowd::default()), Arc::new(AtomicBool::new(false)), Instant::now());
        let asked = apart(asks(node.query, Arc::clone(&over)));
        Arc::clone(&crowd).attack(node.query).await;
        over.store(true, Ordering::Relaxed);
        let times = asked.await.unwrap();
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        say(format!(
            "{REQUESTS} hostile requests in {:?}, at most {} at once, {} ended by the node; {} honest ones: half within \
             {:?}, p99 {:?} (before {:?}, bound {bound:?}), worst {:?}; peak {} KiB",
            begun.elapsed(),
            of(&crowd.most),
            of(&crowd.ended),
            times.len(),
            times[times.len() / 2],
            p99(&times),
            p99(&calm),
            times[times.len() - 1],
            node.memory("VmHWM"),
        ));
        assert!(judged(&times) < bound, "{:?}", judged(&times));
        // A busy machine leaves more of them in the listener's queue until they end themselves.
        let ended_min = if seconds() > SECONDS { REQUESTS / 4 } else { REQUESTS / 20 };
        assert!(of(&crowd.ended) > ended_min, "the node lets go of them: {}", of(&crowd.ended));
        assert!(node.memory("VmHWM") < RESIDENT_KIB_MAX);
        no_errors(&folders[0].1);
    });
}
