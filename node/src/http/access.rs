//! The access log: a line for each request, off unless the operator wants it.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::watch;

use super::input;
use super::layers::REQUEST_ID;
use crate::config::LiveSettings;

/// How much of a path or of a user agent is logged, in characters.
const LOGGED_MAX: usize = 256;

/// The routes with an access log around them, for as long as the settings want one.
pub fn accessed(router: Router, live: watch::Receiver<Arc<LiveSettings>>) -> Router {
    router.layer(middleware::from_fn_with_state(live, log))
}

/// What a stranger wrote is logged in quotes, with escapes, so that nobody can forge a line.
async fn log(State(live): State<watch::Receiver<Arc<LiveSettings>>>, request: Request, next: Next) -> Response {
    let live = Arc::clone(&live.borrow());
    if !live.access.log {
        return next.run(request).await;
    }
    let begin = Instant::now();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let client = peer.map(|peer| input::client(&live.access, peer, request.headers()));
    let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
    let (method, path) = (request.method().clone(), request.uri().path_and_query().map_or("", |path| path.as_str()));
    let (path, agent) = (short(path), text(request.headers(), &header::USER_AGENT));
    let response = next.run(request).await;
    let (status, id) = (response.status().as_u16(), text(response.headers(), &REQUEST_ID));
    let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%client, ?method, ?path, status, millis, ?agent, %id, "request");
    response
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).map(|value| short(&String::from_utf8_lossy(value.as_bytes()))).unwrap_or_default()
}

fn short(text: &str) -> String {
    text.chars().take(LOGGED_MAX).collect()
}
