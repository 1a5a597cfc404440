//! The small part of S3 that publishing needs, strict about requests: each must be signed, its body must be the one
//! that was signed, and its key must be the path of a public file.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path as File;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use fama_ledger::public::Path;

use super::{files, program};

const PREFIX: &str = "/my-bucket/some/where/";
const CREDENTIALS: &str = "AWS4-HMAC-SHA256 Credential=tester/";

#[derive(Default)]
struct Objects {
    kept: BTreeMap<String, Vec<u8>>,
    puts: usize,
    /// Requests that broke a rule, with the reason.
    wrong: Vec<String>,
}

/// Listens on a port of its own for as long as the test's runtime runs.
pub(super) struct S3Server {
    objects: Arc<Mutex<Objects>>,
    address: SocketAddr,
}

impl S3Server {
    pub(super) fn start() -> Self {
        let objects = Arc::new(Mutex::new(Objects::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&objects));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { objects, address }
    }

    fn publish(&self, from: &str, secret: &str) -> Output {
        let mut command = Command::new(program());
        command.args(["publish", "--json", "--once", "--from", from, "--to", "s3://my-bucket/some/where/"]);
        command.env("AWS_ENDPOINT", format!("http://{}", self.address)).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", secret).env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "nowhere-1");
        command.output().unwrap()
    }

    /// Runs the program twice to publish there. Then the files of `folder` are there, and the second run wrote
    /// nothing.
    pub(super) fn publishes(&self, from: &str, folder: &File) {
        tokio::task::block_in_place(|| {
            let first = self.publish(from, "tester");
            assert!(first.status.success(), "{first:?}");
            let puts = self.objects.lock().unwrap().puts;
            let again = self.publish(from, "tester");
            assert!(again.status.success() && self.objects.lock().unwrap().puts == puts, "{again:?}");
            let refused = self.publish(from, "somebody");
            let told: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
            assert!(!refused.status.success() && told["code"] == "unreachable", "{told}");
            assert!(told["hint"].as_str().unwrap().contains("AWS_ACCESS_KEY_ID"), "{told}");
        });
        let objects = self.objects.lock().unwrap();
        assert_eq!(objects.wrong, Vec::<String>::new());
        let published = files(folder);
        for (key, bytes) in &objects.kept {
            assert!(published.get(File::new(key)) == Some(bytes) || key.ends_with("checkpoint"), "{key}");
        }
        // The folder was published twice, so it still has partial tiles of the first time.
        let partial = |key: &&str| key.contains(".p/");
        let full =
            |keys: Vec<&str>| keys.into_iter().filter(|key| !partial(key)).map(str::to_owned).collect::<Vec<_>>();
        let theirs = full(objects.kept.keys().map(String::as_str).collect());
        assert_eq!(theirs, full(published.keys().map(|file| file.to_str().unwrap()).collect()));
    }
}

async fn answer(State(objects): State<Arc<Mutex<Objects>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 4 << 20).await.unwrap().to_vec();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !header("authorization").starts_with(CREDENTIALS) {
        return (StatusCode::FORBIDDEN, "<Error><Code>InvalidAccessKeyId</Code></Error>").into_response();
    }
    let mut objects = objects.lock().unwrap();
    let key = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let signed_body = header("x-amz-content-sha256");
    let body_is_signed = signed_body == sha256(&bytes) || signed_body == "UNSIGNED-PAYLOAD";
    if key.parse::<Path>().is_err() || !body_is_signed || !header("authorization").contains("/nowhere-1/s3/") {
        objects.wrong.push(format!("{} {} {signed_body}", parts.method, parts.uri));
        return StatusCode::BAD_REQUEST.into_response();
    }
    match parts.method {
        Method::PUT => {
            objects.puts += 1;
            objects.kept.insert(key, bytes);
            ([("etag", "\"1\"")], "").into_response()
        }
        Method::GET => match objects.kept.get(&key) {
            Some(found) => {
                let headers = [("etag", "\"1\""), ("last-modified", "Sun, 22 Nov 2026 05:00:00 GMT")];
                (headers, Body::from(found.clone())).into_response()
            }
            None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
        },
        _ => {
            objects.wrong.push(format!("{} {}", parts.method, parts.uri));
            StatusCode::METHOD_NOT_ALLOWED.into_response()
        }
    }
}

/// SHA-256 in hex, in the form of a key commitment of an event: the tests have no other SHA-256.
fn sha256(bytes: &[u8]) -> String {
    fama_ledger::note::note_hash(bytes).to_string()
}
