//! Malformed requests: those that the HTTP library refuses before any code here sees them, and those that it accepts.
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, timeout};

use super::World;
use crate::config::CONNECTIONS_MAX;

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1_024;
/// How long answering and closing the connection may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What a client gets before its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// A status line and `content-length: 0`, without the headers that the node adds.
    Bare(u16),
    /// An error in the usual JSON form, with this status and code.
    Problem(u16, &'static str),
    /// Not a single byte.
    Nothing,
}

fn read(answer: &str) -> Gets {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        assert_eq!(answer, "");
        return Gets::Nothing;
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    if head.contains("x-request-id") {
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        let code = problem["code"].as_str().unwrap().to_owned();
        return Gets::Problem(status, code.leak());
    }
    assert!(head.contains("\r\ncontent-length: 0\r\n") && head.contains("\r\nconnection: close"), "{head}");
    assert_eq!(body, "");
    Gets::Bare(status)
}

#[tokio::test]
async fn malformed_requests_get_a_short_answer_and_end_their_connection() {
    let world = World::new(Some("alpha.example"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::http::serve(listener, world.query(), CONNECTIONS_MAX, std::future::pending()));

    let get = |rest: &str| format!("GET /api HTTP/1.1\r\nhost: x\r\n{rest}\r\n");
    let post = |rest: &str| format!("POST /api/verify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{rest}");
    let (bare, problem) = (Gets::Bare, Gets::Problem);
    let cases: Vec<(&str, Vec<u8>, Gets)> = vec![
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".into(), bare(400)),
        ("no method", b" / HTTP/1.1\r\n\r\n".into(), bare(400)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Gets::Nothing),
        ("HTTP/3", b"GET /api HTTP/3.0\r\n\r\n".into(), bare(400)),
        ("no version", b"GET /api\r\n\r\n".into(), bare(400)),
        ("an invalid target", b"GET \x01 HTTP/1.1\r\n\r\n".into(), bare(400)),
        ("a long request line", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(17 << 10)).into(), bare(431)),
        ("a longer one", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)).into(), bare(431)),
        ("a long header", get(&format!("x: {}\r\n", "a".repeat(17 << 10))).into(), bare(431)),
        ("many headers", get(&"x: a\r\n".repeat(101)).into(), bare(431)),
        ("a header's name", get("a b: c\r\n").into(), bare(400)),
        ("a header's bytes", get("x: \x01\r\n").into(), bare(400)),
        ("a folded header", get("x: a\r\n b\r\n").into(), bare(400)),
        ("an invalid length", post("content-length: x\r\n\r\n").into(), bare(400)),
        ("two lengths", post("content-length: 1\r\ncontent-length: 2\r\n\r\n").into(), bare(400)),
        ("the longest length", post("content-length: 18446744073709551615\r\n\r\n").into(), bare(431)),
        ("an unknown coding", post("transfer-encoding: gzip\r\n\r\n").into(), bare(400)),
        ("a head cut off", b"GET /api HTTP/1.1\r\nhos".into(), Gets::Nothing),
        ("nothing", b"".into(), Gets::Nothing),
        ("a long length", post("content-length: 9999999999\r\n\r\n").into(), problem(413, "body_too_large")),
        ("a bad chunk", post("transfer-encoding: chunked\r\n\r\nx\r\n").into(), problem(400, "bad_request")),
        (
            "a huge chunk",
            post("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n").into(),
            problem(400, "bad_request"),
        ),
        ("a body cut off", post("content-length: 9\r\n\r\n{").into(), problem(400, "bad_request")),
        (
            "a path's bytes",
            b"GET /api/agent/%ff HTTP/1.1\r\nconnection: close\r\n\r\n".into(),
            problem(400, "bad_request"),
        ),
        ("a method", b"BREW /api HTTP/1.1\r\nconnection: close\r\n\r\n".into(), problem(405, "method_not_allowed")),
        ("a proxy's", b"CONNECT x:1 HTTP/1.1\r\nconnection: close\r\n\r\n".into(), problem(404, "no_such_route")),
    ];
    for (name, request, gets) in cases {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The node may close the connection before it has read all of a request that is too long.
        let _ = stream.write_all(&request).await;
        if name.ends_with("cut off") || request.is_empty() {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        let ended = timeout(ANSWER, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok() && answer.len() <= ANSWER_BYTES_MAX, "{name}: {ended:?}, {} bytes", answer.len());
        assert_eq!(read(&String::from_utf8_lossy(&answer)), gets, "{name}");
    }
}
