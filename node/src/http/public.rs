//! `GET /log/…`, `/manifest/<version>` and `/note/<hash>`: the public files, for auditors and mirrors.
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::public::Path;

use super::layers::Place;
use super::{ApiError, App};
use crate::public;
use crate::wire::NoteAnswer;

/// Files that never change may be cached for a year.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Notes never change either, but may be removed.
const ONE_HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// The path is not unescaped: an escaped path would be a second name for the same file.
pub(super) async fn file(State(app): State<Arc<App>>, place: Place, uri: Uri) -> Result<Response, ApiError> {
    let none = || ApiError::not_found("no_such_file", "this node has no such file");
    let path: Path = uri.path().strip_prefix('/').unwrap_or_default().parse().map_err(|_| none())?;
    let wanted = path.clone();
    let read = move || {
        let view = app.shared.store.view();
        let found = public::file(&view, &app.shared.manifest, &wanted)?;
        let is_dropped = match &wanted {
            Path::Note(hash) if found.is_none() => view.note(hash)? == Some(NoteAnswer::Redacted),
            _ => false,
        };
        Ok((found, is_dropped))
    };
    let (bytes, is_dropped) = place.read(read).await?;
    if is_dropped {
        return Err(ApiError::new(StatusCode::GONE, "redacted", "this node's operator has dropped this note"));
    }
    let bytes = bytes.ok_or_else(none)?;
    let mut response = bytes.into_response();
    let kind = HeaderValue::from_static(path.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let lasting = if matches!(path, Path::Note(_)) { ONE_HOUR } else { IMMUTABLE };
    if path.is_lasting() {
        response.headers_mut().insert(header::CACHE_CONTROL, lasting);
    }
    Ok(response)
}
