//! Answers that keep their entity tag while other agents' events come in.
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::id::Hex;
use schemars::JsonSchema;
use serde::Serialize;

use super::ApiError;
use super::view::LedgerView;

/// The sizes of all logs of which an answer is made, as JSON; also on a 304.
pub(super) const FRONTIER: HeaderName = HeaderName::from_static("fama-frontier");
/// The id of the state of which an answer is made; also on a 304.
pub(super) const STATE_ID: HeaderName = HeaderName::from_static("fama-state-id");

/// About how long the JSON of a ledger is, in bytes.
const LEDGER_BYTES: usize = 256;

/// What is said about one subject, and the state of the ledger of which it is said. The tag stands for all but the
/// frontier and the state's id, which change with every entry of any log: they also travel as headers.
#[derive(Serialize, JsonSchema)]
pub(super) struct AsOf<T> {
    #[serde(flatten)]
    pub(super) body: T,
    pub(super) ledger: LedgerView,
}

impl<T: Serialize> AsOf<T> {
    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(&self.body).map_err(ApiError::internal)
    }
}

/// The entity tag of an answer of which `body` is the JSON of all but the ledger.
pub(super) fn tag(body: &[u8], ledger: &LedgerView) -> Result<HeaderValue, ApiError> {
    let LedgerView { r#final, home, history, .. } = ledger;
    let mut tagged = blake3::Hasher::new();
    tagged.update(body).update(&serde_json::to_vec(&(r#final, home, history)).map_err(ApiError::internal)?);
    HeaderValue::try_from(format!("W/\"{}\"", Hex(tagged.finalize().as_bytes()))).map_err(ApiError::internal)
}

/// The answer of which `body` is the JSON of all but the ledger.
pub(super) fn of(body: &[u8], tag: HeaderValue, ledger: &LedgerView) -> Result<Response, ApiError> {
    // The body is an object with members: the ledger becomes its last one.
    let mut json = Vec::with_capacity(body.len() + LEDGER_BYTES);
    json.extend_from_slice(body.strip_suffix(b"}").unwrap_or(body));
    json.extend_from_slice(b",\"ledger\":");
    serde_json::to_writer(&mut json, ledger).map_err(ApiError::internal)?;
    json.push(b'}');
    let frontier = serde_json::to_string(&ledger.frontier).map_err(ApiError::internal)?;
    let frontier = HeaderValue::try_from(frontier).map_err(ApiError::internal)?;
    let state_id = HeaderValue::try_from(ledger.state_id.as_str()).map_err(ApiError::internal)?;
    let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    response.headers_mut().extend([(header::ETAG, tag), (FRONTIER, frontier), (STATE_ID, state_id)]);
    Ok(response)
}

impl<T: Serialize> IntoResponse for AsOf<T> {
    fn into_response(self) -> Response {
        let json = self.json().and_then(|json| Ok((tag(&json, &self.ledger)?, json)));
        json.and_then(|(tag, json)| of(&json, tag, &self.ledger)).into_response()
    }
}
