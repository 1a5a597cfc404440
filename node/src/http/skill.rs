//! `GET /skill.md`: how an agent takes part with nothing but a shell, with this node's own addresses filled in.
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{ApiError, App};

const TEXT: &str = include_str!("skill.md");

/// Stands for an address that this node does not know.
const UNKNOWN: &str = "ADDRESS-OF-A-SUBMIT-LISTENER";

pub(super) async fn skill(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    let home = app.namespace.as_ref().ok_or_else(|| {
        let message = "this node belongs to no home; ask a node of an operator";
        ApiError::new(StatusCode::NOT_FOUND, "no_home", message)
    })?;
    let submit = app.submit_origin();
    let words = match &submit {
        Some(origin) => format!(" and takes signed texts at {origin}/events"),
        None => "; it takes no signed texts itself: find a node of this federation that does".to_owned(),
    };
    let values = [
        ("{federation}", app.shared.manifest.name().to_owned()),
        ("{federation_id}", app.shared.manifest.federation().to_string()),
        ("{home}", home.to_string()),
        ("{query}", app.query_origin().unwrap_or_else(|| asked_at(&headers))),
        ("{submit_words}", words),
        ("{submit}", submit.unwrap_or_else(|| UNKNOWN.to_owned())),
    ];
    let text = values.iter().fold(TEXT.to_owned(), |text, (name, value)| text.replace(name, value));
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8"), (header::VARY, "host")], text).into_response())
}

/// The address by which the client asked, if it is one: letters, digits and `.:-[]` only, since it goes into commands.
fn asked_at(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b':' | b'-' | b'[' | b']');
    let host = if !host.is_empty() && host.bytes().all(plain) { host } else { "127.0.0.1:8080" };
    format!("http://{host}")
}
