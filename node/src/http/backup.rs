//! `POST /backup` and `/backup/end` of the admin listener: a checkpoint that `fama backup` copies, and its removal.
//!
//! A request names no path: the node makes and removes one folder of its own, whoever asks. So the most that a stray
//! request does is to make a running backup fail.
use std::fs;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::layers::Place;
use super::{ApiError, App};
use crate::clock;
use crate::store::StoreError;

/// Makes a checkpoint of the database, in place of an earlier one. Answers with the path of its folder.
pub(super) async fn begin(State(app): State<Arc<App>>, place: Place) -> Result<Json<Value>, ApiError> {
    let store = Arc::clone(&app.shared.store);
    let made = move || {
        let folder = store.checkpoint().map_err(|error| failed(&error))?;
        fs::canonicalize(&folder).map_err(ApiError::internal)
    };
    let folder = place.read(made).await?;
    tracing::info!(folder = %folder.display(), "made a checkpoint for a backup");
    Ok(Json(json!({"folder": folder})))
}

/// Body: `made` or `failed`. Removes the checkpoint.
pub(super) async fn end(State(app): State<Arc<App>>, place: Place, body: Bytes) -> Result<Json<Value>, ApiError> {
    match &body[..] {
        b"made" => {
            app.shared.metrics.backed_up(clock::now());
            tracing::info!("a backup is finished");
        }
        b"failed" => tracing::warn!("a backup failed"),
        _ => return Err(ApiError::bad("bad_outcome", "want made or failed")),
    }
    let store = Arc::clone(&app.shared.store);
    place.read(move || store.drop_checkpoint().map_err(|error| failed(&error))).await?;
    Ok(Json(json!({"removed": true})))
}

/// The operator's own program asks, so it may read why: most often the disk is full.
fn failed(error: &StoreError) -> ApiError {
    tracing::warn!(%error, "no checkpoint for a backup");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.code(), error)
}
