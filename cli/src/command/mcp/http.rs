//! The server over HTTP, for clients on this machine.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use fama_ledger::profile::PROFILE_BYTES_MAX;
use fama_node::config::CONNECTIONS_MAX;
use rmcp::transport::StreamableHttpService;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use serde_json::json;
use tokio::net::TcpListener;

use super::server::FamaMcp;
use crate::failure::Failure;
use crate::files::{self, SECRET_MODE};
use crate::terminal::Terminal;

/// Path of the endpoint.
const PATH: &str = "/mcp";
/// Longest request, in bytes: a proof as a JSON string, whose line feeds are escaped.
const BODY_BYTES_MAX: usize = PROFILE_BYTES_MAX + (PROFILE_BYTES_MAX >> 2);
/// Most sessions at once; each ends after five minutes of silence.
const SESSIONS_MAX: usize = 64;
/// Header with the id of a session.
const SESSION_ID: &str = "mcp-session-id";
/// Bounds of a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=256;

/// Parses an address that only this machine can reach.
///
/// # Errors
/// A sentence for the user.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "want an address like 127.0.0.1:8090".to_owned())?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("only a loopback address, 127.0.0.1 or [::1]: this server has no encryption".to_owned())
}

/// What a client must know to be served.
pub(super) struct Secret(blake3::Hash);

impl Secret {
    /// Reads the secret of a file, which is created if it does not exist.
    ///
    /// # Errors
    /// `bad_secret`, `key_permissions`; the error of the file.
    pub(super) fn read_or_create(path: &Path) -> Result<Self, Failure> {
        let mut bytes = [0; 32];
        files::fill(&mut bytes)?;
        let drawn: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match files::create_whole(path, &format!("{drawn}\n"), SECRET_MODE) {
            Err(failure) if failure.code != "file_exists" => return Err(failure),
            _ => {}
        }
        let text = files::read_secret(path, *SECRET_BYTES.end() + 1)?;
        let secret = text.trim_end();
        if !SECRET_BYTES.contains(&secret.len()) || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let wanted = "want one line of 32 to 256 printable ASCII characters without spaces";
            return Err(Failure::new("bad_secret", format!("{}: {wanted}", path.display()))
                .hint("name a file that does not exist: it is created with a random secret"));
        }
        Ok(Self(blake3::hash(secret.as_bytes())))
    }

    /// Whether a request has it. Hashes are compared in constant time.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        given
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|given| blake3::hash(given.as_bytes()) == self.0)
    }
}

/// What is checked before a request reaches the server.
struct Gate {
    secret: Option<Secret>,
    sessions: Arc<LocalSessionManager>,
}

async fn gate(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if gate.secret.as_ref().is_some_and(|secret| !secret.is_in(request.headers())) {
        let error = "this server wants the secret of its --secret file as `Authorization: Bearer SECRET`";
        let body = json!({"error": error, "code": "unauthorized"}).to_string();
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response();
    }
    let begins = !request.headers().contains_key(SESSION_ID);
    if begins && gate.sessions.sessions.read().await.len() >= SESSIONS_MAX {
        let body = json!({"error": format!("{SESSIONS_MAX} sessions are open"), "code": "busy"}).to_string();
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "60")], body).into_response();
    }
    next.run(request).await
}

/// Serves until the process ends.
///
/// # Errors
/// `address_in_use`, or another reason not to listen.
pub(super) async fn serve(
    server: FamaMcp,
    address: SocketAddr,
    secret: Option<Secret>,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::AddrInUse { "address_in_use" } else { "listen" };
        Failure::new(code, format!("{address}: {error}")).hint("--listen 127.0.0.1:0 takes a free port")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    // A web page that has its own name point to this machine sends that name as the host, and a page of any other kind
    // its origin: clients that are no browsers send none.
    let hosts = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:{}", address.port()));
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .enforce_origin_validation()
        .with_max_request_body_bytes(BODY_BYTES_MAX);
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(server.clone()), Arc::clone(&sessions), config);
    let gate_state = Arc::new(Gate { secret, sessions });
    let router = Router::new().nest_service(PATH, service).layer(middleware::from_fn_with_state(gate_state, gate));
    let url = format!("http://{address}{PATH}");
    terminal.answer(&json!({"url": url}), format!("listening  {url}"))?;
    fama_node::http::serve(listener, router, CONNECTIONS_MAX, std::future::pending()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback() {
        for good in ["127.0.0.1:8090", "[::1]:0", "127.1.2.3:1"] {
            assert!(loopback(good).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:8090", "[::]:8090", "192.168.0.1:80", "localhost:80", "127.0.0.1", "[::ffff:1.2.3.4]:1"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let secret = Secret::read_or_create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 65, "created");
        assert_eq!(Secret::read_or_create(&path).unwrap().0, secret.0, "and read again");
        let headers = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        assert!(secret.is_in(&headers(&format!("Bearer {}", text.trim_end()))));
        for bad in ["", "Bearer", "Bearer x", text.trim_end()] {
            assert!(!secret.is_in(&headers(bad)), "{bad}");
        }
        assert!(!secret.is_in(&HeaderMap::new()));
        for bad in ["short", "with spaces in it, but longer than thirty-two bytes"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Secret::read_or_create(&path).err().unwrap().code, "bad_secret", "{bad}");
        }
    }
}
