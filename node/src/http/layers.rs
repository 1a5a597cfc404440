//! The layers around all routes: limits, request ids, validators, caching, CORS, compression, metrics.
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next, map_response};
use axum::response::{IntoResponse, Response};
use fama_ledger::id::Hex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::compression::CompressionLayer;
use tower_http::cors::{Any, CorsLayer};
use tower_http::normalize_path::NormalizePath;

use super::error::PROBLEM;
use super::rates::{self, Rates};
use super::serve::Turn;
use super::{ApiError, READS_MAX, answer, input, status};
use crate::metrics::Metrics;

/// How long a request may take to be answered.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Longest request id that is accepted from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The longest body of a request that asks, and the memory for all of them.
const BODIES: (usize, usize) = (input::BODY_BYTES_MAX, input::BODIES_BYTES_MAX);
/// Memory for all bodies of a submit listener, in bytes, not counting the first 4 KiB of each.
const EVENTS_MEMORY: usize = 32 << 20;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// For a listener that strangers' browsers may read. Answers at most `requests_max` requests at a time.
pub(super) fn public(router: Router, metrics: &Arc<Metrics>, requests_max: usize, rates: Option<Arc<Rates>>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::IF_NONE_MATCH, REQUEST_ID])
        .expose_headers([
            header::ETAG,
            header::RETRY_AFTER,
            REQUEST_ID,
            status::STALE,
            answer::FRONTIER,
            answer::STATE_ID,
        ]);
    let router = inner(router, requests_max, BODIES);
    let router = match rates {
        Some(rates) => router.layer(middleware::from_fn_with_state(rates, rates::limit)),
        None => router,
    };
    any_slash(router.layer(cors).layer(middleware::from_fn_with_state(Arc::clone(metrics), outer)))
}

/// For a listener that takes events in, from browsers, too. Answers at most `requests_max` requests at a time.
/// `headers` are those that browsers may send besides the usual ones, `body_max` is the longest body, in bytes.
pub(super) fn submit(
    router: Router,
    metrics: &Arc<Metrics>,
    requests_max: usize,
    (headers, body_max): (impl IntoIterator<Item = HeaderName>, usize),
) -> Router {
    let headers = [header::CONTENT_TYPE, REQUEST_ID].into_iter().chain(headers);
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(headers.collect::<Vec<_>>())
        .expose_headers([header::RETRY_AFTER, REQUEST_ID]);
    let router = inner(router, requests_max, (body_max, EVENTS_MEMORY));
    any_slash(router.layer(cors).layer(middleware::from_fn_with_state(Arc::clone(metrics), outer)))
}

/// Ignores a slash at the end of a path.
fn any_slash(router: Router) -> Router {
    Router::new().fallback_service(NormalizePath::trim_trailing_slash(router))
}

/// For a listener for the operator's own programs. Answers at most `requests_max` requests at a time.
pub(super) fn private(router: Router, metrics: &Arc<Metrics>, requests_max: usize) -> Router {
    inner(router, requests_max, BODIES).layer(middleware::from_fn_with_state(Arc::clone(metrics), outer))
}

/// `bodies`: the longest body, and the memory for all of them, in bytes.
fn inner(router: Router, requests_max: usize, bodies: (usize, usize)) -> Router {
    let permits = [requests_max, READS_MAX].map(|permits| Arc::new(Semaphore::new(permits)));
    let gate = middleware::from_fn_with_state(permits, limit);
    let memory = middleware::from_fn_with_state((bodies.0, Arc::new(Semaphore::new(bodies.1))), gather);
    router
        .layer(gate)
        .layer(memory)
        .layer(middleware::from_fn(finish))
        .layer(CompressionLayer::new())
        .layer(map_response(weaken))
}

/// A strong tag stands for the very bytes: those that were compressed have other ones.
async fn weaken(mut response: Response) -> Response {
    let tag =
        response.headers().get(header::ETAG).filter(|_| response.headers().contains_key(header::CONTENT_ENCODING));
    let weak = tag.and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.starts_with("W/")).map(|tag| format!("W/{tag}"));
    if let Some(weak) = weak.and_then(|weak| HeaderValue::try_from(weak).ok()) {
        response.headers_mut().insert(header::ETAG, weak);
    }
    response
}

/// Adds the request id and counts the request, whatever the answer.
async fn outer(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = request_id(request.headers());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    metrics.request(route, response.status().as_u16(), begin.elapsed().as_secs_f64());
    response
}

/// Refuses the request at once if too many are being answered, and limits its time.
async fn limit(State([permits, reads]): State<[Arc<Semaphore>; 2]>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = permits.try_acquire_owned() else { return ApiError::overloaded().into_response() };
    let place = Place { request: Arc::new(permit), reads };
    request.extensions_mut().insert(place.clone());
    let _ours = request.extensions().get::<Turn>().map(Turn::ours);
    let answer = tokio::time::timeout(REQUEST_TIME, next.run(request)).await;
    drop(place);
    answer.unwrap_or_else(|_| ApiError::of_status(StatusCode::REQUEST_TIMEOUT).into_response())
}

/// A request's place among those that its listener answers at the same time. Work that may outlive the request, since its
/// client can hang up, holds the place until it ends: else clients that hang up would have any number of reads run.
#[derive(Clone)]
pub(super) struct Place {
    request: Arc<OwnedSemaphorePermit>,
    reads: Arc<Semaphore>,
}

impl Place {
    /// Runs a long read on a thread for blocking work, once fewer than [`READS_MAX`] are running.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = Arc::clone(&self.reads).acquire_owned().await.map_err(ApiError::internal)?;
        let held = (Arc::clone(&self.request), turn);
        tokio::task::spawn_blocking(move || {
            let _held = held;
            read()
        })
        .await?
    }
}

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::internal("a route without a limit"))
    }
}

/// Reads the body before the request counts towards the limit, so that slow senders hold up nobody. Only POST has a
/// body here; other bodies are not read.
async fn gather(State((most, memory)): State<(usize, Arc<Semaphore>)>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match input::body(body, most, &memory).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(error) => error.into_response(),
    }
}

/// The client's id if it has only letters, digits, `-`, `_` and `.`; else a random one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let given = headers
        .get(REQUEST_ID)
        .filter(|id| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(plain));
    given.cloned().unwrap_or_else(|| {
        let mut random = [0; 8];
        // Without randomness the id is all zeros: it only helps to find lines in a log.
        let _ = getrandom::fill(&mut random);
        HeaderValue::try_from(Hex(&random).to_string()).expect("hex digits are valid in a header")
    })
}

/// Gives all errors the one form, and answers their validators and caching headers.
async fn finish(request: Request, next: Next) -> Response {
    let none_match = request.headers().get(header::IF_NONE_MATCH).cloned();
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = as_problem(next.run(request).await);
    let mut response = if safe { tagged(response, none_match.as_ref()).await } else { response };
    let cache = if safe && cacheable(response.status()) { "public, max-age=1" } else { "no-store" };
    // The compression adds it only to what has a body: a 304 must name what its 200 names.
    response.headers_mut().append(header::VARY, header::ACCEPT_ENCODING.into());
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(cache));
    response
}

fn cacheable(status: StatusCode) -> bool {
    status.is_success() || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND)
}

/// An answer in OAuth's form: it stays as it is.
#[derive(Clone, Copy)]
pub(super) struct OauthAnswer;

/// Replaces an error of the framework by one in the JSON form of [`ApiError`].
fn as_problem(response: Response) -> Response {
    let status = response.status();
    let problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == PROBLEM.as_bytes());
    let oauth = response.extensions().get::<OauthAnswer>().is_some();
    if problem || oauth || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut ours = ApiError::of_status(status).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        ours.headers_mut().insert(header::ALLOW, allow.clone());
    }
    ours
}

/// Adds an entity tag to a 200 answer of known length; answers 304 if the client already has it.
///
/// The tag is weak, because the same bytes may be sent compressed. An answer may come with a tag of its own.
async fn tagged(response: Response, none_match: Option<&HeaderValue>) -> Response {
    if response.status() != StatusCode::OK || response.body().size_hint().exact().is_none() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return ApiError::internal(error).into_response(),
    };
    let tag = parts.headers.entry(header::ETAG).or_insert_with(|| {
        let tag = format!("W/\"{}\"", Hex(blake3::hash(&bytes).as_bytes()));
        HeaderValue::try_from(tag).expect("hex digits are valid in a header")
    });
    let tag = tag.to_str().unwrap_or_default().to_owned();
    let known = none_match.and_then(|tags| tags.to_str().ok()).is_some_and(|tags| matches(tags, &tag));
    if known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether a list of entity tags contains this one, by weak comparison.
fn matches(tags: &str, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags.trim() == "*" || tags.split(',').any(|one| opaque(one) == opaque(tag))
}
