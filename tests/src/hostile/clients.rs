//! Attacks over HTTP, on plain sockets.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{ANSWER, World};

/// How many connections an attack holds, if this process may open that many files.
const MANY: usize = 1_200;
const SOME: usize = 300;

pub(super) fn files() -> usize {
    let table = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1_024)
}

/// One honest request on a connection of its own.
pub(crate) async fn get(to: SocketAddr, path: &str) -> Result<Value, String> {
    let asked = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(ANSWER, asked).await.map_err(|_| "late")?.map_err(|error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").ok_or("no answer")?.1;
    serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))
}

/// Many connections that each repeat `deed`.
async fn crowd<F>(world: Arc<World>, most: usize, deed: impl Fn(Arc<World>) -> F) -> u64
where
    F: Future<Output = u64> + Send + 'static,
{
    let mut all = JoinSet::new();
    for _ in 0..most.min(files() / 8) {
        all.spawn(deed(Arc::clone(&world)));
    }
    all.join_all().await.into_iter().sum()
}

/// Begins a request, then sends one more byte every half second.
async fn drip(world: Arc<World>, begin: &'static str) -> u64 {
    let mut sent = 0;
    while world.wants(sent) {
        let Ok(mut stream) = TcpStream::connect(world.query).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut open = stream.write_all(begin.as_bytes()).await.is_ok();
        sent += 1;
        while open && world.on() {
            sleep(Duration::from_millis(500)).await;
            open = stream.write_all(b"a").await.is_ok();
        }
    }
    sent
}

/// Asks for what is long to compute, mostly about one agent, and hangs up at once.
pub(super) async fn hangs_up(world: Arc<World>, agent: &'static str) -> u64 {
    crowd(world, SOME / 30, move |world| async move {
        let mut sent = 0;
        let paths = [
            format!("/api/agent/{agent}/proof"),
            "/api/leaderboard?limit=500".to_owned(),
            format!("/api/agent/{agent}"),
            "/log/alpha.example/1/tile/0/000".to_owned(),
        ];
        while world.wants(sent) {
            for path in &paths {
                let Ok(mut stream) = TcpStream::connect(world.query).await else { continue };
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                sent += u64::from(stream.write_all(request.as_bytes()).await.is_ok());
                // Long enough for the request to be read.
                sleep(Duration::from_millis(20)).await;
            }
        }
        sent
    })
    .await
}

pub(super) async fn slow_heads(world: Arc<World>) -> u64 {
    crowd(world, MANY, |world| drip(world, "GET /api/status HTTP/1.1\r\nHost: a\r\nX-Slow: ")).await
}

pub(super) async fn slow_bodies(world: Arc<World>) -> u64 {
    crowd(world, SOME, |world| {
        drip(world, "POST /api/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{\"dumbname\": \"")
    })
    .await
}

/// Asks as much as it can and never reads an answer.
pub(super) async fn unread(world: Arc<World>) -> u64 {
    crowd(world, SOME / 4, |world| async move {
        let (mut sent, request) = (0, "GET /api/federation HTTP/1.1\r\nHost: a\r\n\r\n".repeat(64));
        while world.wants(sent) {
            let Ok(mut stream) = TcpStream::connect(world.query).await else { continue };
            while world.on() {
                match timeout(Duration::from_millis(500), stream.write_all(request.as_bytes())).await {
                    Ok(Err(_)) => break,
                    _ => sent += 1,
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        sent
    })
    .await
}

/// Requests that no client sends; each is answered with an error or by hanging up, never with a success.
pub(super) async fn malformed(world: Arc<World>) -> u64 {
    let head = "POST /api/verify HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    // The beginning of a gzip member that holds a megabyte of zeros; nothing here unpacks what it receives.
    let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xec, 0xc1][..], &[0; 1_000]].concat();
    let requests: [Vec<u8>; 6] = [
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-More: a\r\n".repeat(200)).into_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        format!("{head}Content-Length: 18446744073709551615\r\n\r\n").into_bytes(),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n").into_bytes(),
        [format!("{head}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len()).as_bytes(), &bomb].concat(),
    ];
    let mut sent = 0;
    while world.wants(sent) {
        for request in &requests {
            let Ok(mut stream) = TcpStream::connect(world.query).await else { continue };
            let _ = stream.write_all(request).await;
            let mut answer = Vec::new();
            let _ = timeout(ANSWER, stream.read_to_end(&mut answer)).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 503"));
            sent += 1;
        }
        sleep(Duration::from_millis(20)).await;
    }
    sent
}
