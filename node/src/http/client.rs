//! `GET /fama.js`: the client for browsers and other JavaScript runtimes, of this node's version.
use axum::http::header;
use axum::response::{IntoResponse, Response};

const MODULE: &str = include_str!("../../clients/js/fama.js");

pub(super) async fn module() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], MODULE).into_response()
}
