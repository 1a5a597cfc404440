//! The small part of S3 that publishing and backups need, strict about requests: each must be signed, its body must be
//! the one that was signed, and its key must be the path of a public file, or one of a backup.
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
    /// Pieces of files that are not complete yet.
    pieces: BTreeMap<(String, usize), Vec<u8>>,
    /// Whether keys are those of backups.
    backups: bool,
    puts: usize,
    /// Requests that broke a rule, with the reason.
    wrong: Vec<String>,
}

/// Listens on a port of its own for as long as the test's runtime runs.
pub(crate) struct S3Server {
    objects: Arc<Mutex<Objects>>,
    address: SocketAddr,
}

impl S3Server {
    pub(super) fn start() -> Self {
        Self::of(Objects::default())
    }

    pub(crate) fn for_backups() -> Self {
        Self::of(Objects { backups: true, ..Objects::default() })
    }

    fn of(objects: Objects) -> Self {
        let objects = Arc::new(Mutex::new(objects));
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
        self.known_to(&mut command, secret);
        command.output().unwrap()
    }

    /// Tells a program where this is.
    pub(crate) fn known_to<'c>(&self, command: &'c mut Command, secret: &str) -> &'c mut Command {
        command.env("AWS_ENDPOINT", format!("http://{}", self.address)).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", secret).env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "nowhere-1")
    }

    /// The keys of all objects; no request was wrong, and no piece is left over.
    pub(crate) fn keys(&self) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        assert_eq!(objects.wrong, Vec::<String>::new());
        assert!(objects.pieces.is_empty(), "{:?}", objects.pieces.keys());
        objects.kept.keys().cloned().collect()
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
    let bytes = to_bytes(body, 16 << 20).await.unwrap().to_vec();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !header("authorization").starts_with(CREDENTIALS) {
        return (StatusCode::FORBIDDEN, "<Error><Code>InvalidAccessKeyId</Code></Error>").into_response();
    }
    let mut objects = objects.lock().unwrap();
    let key = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let signed_body = header("x-amz-content-sha256");
    let body_is_signed = signed_body == sha256(&bytes) || signed_body == "UNSIGNED-PAYLOAD";
    if objects.backups && parts.uri.path().trim_end_matches('/') == "/my-bucket" {
        return list(&objects, parts.uri.query().unwrap_or_default());
    }
    let allowed = match objects.backups {
        true => key.starts_with("files/") || key.starts_with("backups/"),
        false => key.parse::<Path>().is_ok(),
    };
    if !allowed || !body_is_signed || !header("authorization").contains("/nowhere-1/s3/") {
        objects.wrong.push(format!("{} {} {signed_body}", parts.method, parts.uri));
        return StatusCode::BAD_REQUEST.into_response();
    }
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let number = query.split('&').find_map(|part| part.strip_prefix("partNumber="));
    match parts.method {
        Method::POST if objects.backups && query.starts_with("uploads") => {
            xml("<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>".to_owned())
        }
        Method::POST if objects.backups && query.contains("uploadId=7") => {
            let (whole, rest): (BTreeMap<_, _>, _) =
                std::mem::take(&mut objects.pieces).into_iter().partition(|((of, _), _)| *of == key);
            objects.pieces = rest;
            objects.kept.insert(key, whole.into_values().flatten().collect());
            xml("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>".to_owned())
        }
        Method::PUT if number.is_some() => {
            objects.pieces.insert((key, number.unwrap().parse().unwrap()), bytes);
            ([("etag", "\"1\"")], "").into_response()
        }
        Method::DELETE if query.contains("uploadId=7") => {
            objects.pieces.retain(|(of, _), _| *of != key);
            StatusCode::NO_CONTENT.into_response()
        }
        Method::DELETE if objects.backups => {
            objects.kept.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        Method::PUT => {
            objects.puts += 1;
            objects.kept.insert(key, bytes);
            ([("etag", "\"1\"")], "").into_response()
        }
        Method::GET => match objects.kept.get(&key) {
            Some(found) => {
                let headers = [("etag", "\"1\""), ("last-modified", "Sun, 22 Nov 2026 05:00:00 GMT")];
                if let Some((first, last)) =
                    header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'))
                {
                    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                    let last = last.min(found.len() - 1);
                    let range = ("content-range", format!("bytes {first}-{last}/{}", found.len()));
                    let body = Body::from(found[first..=last].to_vec());
                    return (StatusCode::PARTIAL_CONTENT, headers, [range], body).into_response();
                }
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

fn xml(text: String) -> Response {
    ([("content-type", "application/xml")], text).into_response()
}

/// The objects whose keys begin with the wanted prefix.
fn list(objects: &Objects, query: &str) -> Response {
    let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap().replace("%2F", "/");
    let inside = PREFIX.strip_prefix("/my-bucket/").unwrap();
    let prefix = prefix.strip_prefix(inside).unwrap();
    let found = objects.kept.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, bytes)| {
        format!(
            "<Contents><Key>{inside}{key}</Key><Size>{}</Size><LastModified>2026-11-22T05:00:00.000Z</LastModified>\
             <ETag>\"1\"</ETag></Contents>",
            bytes.len()
        )
    });
    xml(format!("<ListBucketResult>{}</ListBucketResult>", found.collect::<String>()))
}

/// SHA-256 in hex, in the form of a key commitment of an event: the tests have no other SHA-256.
fn sha256(bytes: &[u8]) -> String {
    fama_ledger::note::note_hash(bytes).to_string()
}
