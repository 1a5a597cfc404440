//! `POST /note/redact` of the admin listener: the operator drops a note.
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use fama_ledger::id::NoteHash;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::governance::ask;
use super::{ApiError, App, Serving, input};
use crate::inbox::InboxInput;

/// Longest body: a hash in hex after its algorithm, with space around it.
const BYTES_MAX: usize = 128;
/// Memory for bodies posted here, in bytes.
static MEMORY: Semaphore = Semaphore::const_new(input::BODIES_BYTES_MAX);

/// Body: `sha256:` and the note's hash in hex. Answers once the text is durably deleted, with what was there before.
pub(super) async fn redact(
    State((app, inputs)): State<(Arc<App>, mpsc::Sender<InboxInput>)>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = input::body(body, BYTES_MAX, &MEMORY).await?;
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::bad("bad_hash", "not UTF-8"))?;
    let hash: Option<NoteHash> = text.trim().strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    let hash = hash.ok_or_else(|| ApiError::bad("bad_hash", "want sha256: and 64 hex digits"))?;
    let before = ask(&inputs, |reply| InboxInput::Redact { hash, reply }).await?;
    let erase = move || {
        app.shared.store.erase_redacted()?;
        // A quick state that answers meanwhile has texts of its own.
        let Serving(shown) = Serving::of(&app);
        if Arc::ptr_eq(&shown.shared.store, &app.shared.store) { Ok(()) } else { shown.shared.store.redact_note(&hash) }
    };
    tokio::task::spawn_blocking(erase).await??;
    Ok(Json(json!({"note": format!("sha256:{hash}"), "before": before.code()})))
}
