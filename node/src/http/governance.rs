//! `POST /federation/stand`, `/federation/agree` and `/federation/manifest` of the admin listener: decisions by the operator's people.
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fama_ledger::limits;
use fama_ledger::manifest::LogId;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{ApiError, input};
use crate::inbox::InboxInput;
use crate::wire::Refusal;

/// Required content type. A web page can't send it to another origin without a CORS preflight.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Memory for bodies posted here, in bytes.
static MEMORY: Semaphore = Semaphore::const_new(input::BODIES_BYTES_MAX);

/// Refuses requests that a web page in the operator's browser could send: browsers add the page's origin.
pub(super) async fn own_programs_only(request: Request, next: Next) -> Response {
    match check_sender(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_sender(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::ORIGIN) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "from_a_web_page", "web pages may not post here"));
    }
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != CONTENT_TYPE.as_bytes()) {
        let message = format!("want the content type {CONTENT_TYPE}");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
    }
    Ok(())
}

/// Body: the name of a log. This node cosigns nothing more in it until the next version of the manifest holds. Answers
/// with that promise, its stand, as a signed note.
pub(super) async fn stand(State(inputs): State<mpsc::Sender<InboxInput>>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = input::body(body, limits::DOMAIN_BYTES_MAX + 16, &MEMORY).await?;
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::bad("bad_log", "not UTF-8"))?;
    let log: LogId = text.trim().parse().map_err(|error| ApiError::bad("bad_log", error))?;
    let stand = ask(&inputs, |reply| InboxInput::Stand { log, reply }).await?;
    Ok(Json(json!({"stand": stand})))
}

/// Body: the text of a draft that this operator is about to approve. This node renews no cosignature any more in the
/// logs that the draft cuts.
pub(super) async fn agree(State(inputs): State<mpsc::Sender<InboxInput>>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = input::body(body, limits::MANIFEST_BYTES_MAX, &MEMORY).await?;
    let text = String::from_utf8(body.into()).map_err(|_| ApiError::bad("bad_manifest", "not UTF-8"))?;
    ask(&inputs, |reply| InboxInput::Agree { text, reply }).await?;
    Ok(Json(json!({"agreed": true})))
}

/// Body: a version of the manifest as a signed note.
pub(super) async fn manifest(
    State(inputs): State<mpsc::Sender<InboxInput>>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = input::body(body, limits::MANIFEST_BYTES_MAX, &MEMORY).await?;
    let text = String::from_utf8(body.into()).map_err(|_| ApiError::bad("bad_manifest", "not UTF-8"))?;
    ask(&inputs, |reply| InboxInput::Manifest { text, reply: Some(reply) }).await?;
    Ok(Json(json!({"taken": true})))
}

pub(super) async fn ask<T>(
    inputs: &mpsc::Sender<InboxInput>,
    input: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> InboxInput,
) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    inputs.try_send(input(reply)).map_err(|_| ApiError::overloaded())?;
    let stopping = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the node is stopping");
    Ok(answer.await.map_err(stopping)??)
}
