//! `GET /log/…`, `/manifest/<version>` and `/note/<hash>`: the public files, for whoever checks them or copies them.
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::public::Path;

use super::{ApiError, App};
use crate::public;

/// What never changes may be kept for ever.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What never changes either, but may be taken away.
const FOR_AN_HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// The path is read as it was sent: an escaped one would be a second name for the same file.
pub(super) async fn file(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let none = || ApiError::not_found("no_such_file", "this node has no such file");
    let path: Path = uri.path().strip_prefix('/').unwrap_or_default().parse().map_err(|_| none())?;
    let wanted = path.clone();
    let read = move || public::file(&app.shared.store.view(), &app.shared.manifest, &wanted);
    let bytes = tokio::task::spawn_blocking(read).await??.ok_or_else(none)?;
    let mut response = bytes.into_response();
    let kind = HeaderValue::from_static(path.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let lasting = if matches!(path, Path::Note(_)) { FOR_AN_HOUR } else { FOR_EVER };
    if path.is_lasting() {
        response.headers_mut().insert(header::CACHE_CONTROL, lasting);
    }
    Ok(response)
}
