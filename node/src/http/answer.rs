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

/// The answer of which `body` is the JSON of all but the ledger.
pub(super) fn of(body: &[u8], ledger: LedgerView) -> Response {
    let parts = parts(body, &ledger).and_then(|parts| Ok((parts, serde_json::to_string(&ledger.frontier)?)));
    let ((tag, json), frontier) = match parts {
        Ok(parts) => parts,
        Err(error) => return ApiError::internal(error).into_response(),
    };
    let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    for (name, value) in [(header::ETAG, tag), (FRONTIER, frontier), (STATE_ID, ledger.state_id)] {
        match HeaderValue::try_from(value) {
            Ok(value) => response.headers_mut().insert(name, value),
            Err(error) => return ApiError::internal(error).into_response(),
        };
    }
    response
}

/// The tag, and the JSON, which is written once.
fn parts(body: &[u8], ledger: &LedgerView) -> Result<(String, Vec<u8>), serde_json::Error> {
    let LedgerView { r#final, home, history, .. } = ledger;
    let mut tagged = blake3::Hasher::new();
    tagged.update(body).update(&serde_json::to_vec(&(r#final, home, history))?);
    // The body is an object with members: the ledger becomes its last one.
    let mut json = body.strip_suffix(b"}").unwrap_or(body).to_vec();
    json.extend_from_slice(b",\"ledger\":");
    serde_json::to_writer(&mut json, ledger)?;
    json.push(b'}');
    Ok((format!("W/\"{}\"", Hex(tagged.finalize().as_bytes())), json))
}

impl<T: Serialize> IntoResponse for AsOf<T> {
    fn into_response(self) -> Response {
        self.json().map_or_else(IntoResponse::into_response, |json| of(&json, self.ledger))
    }
}
