//! `GET /assets/{version}/{file}`: the stylesheet, the scripts and the icon of the pages, all in the binary.
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::id::Hex;

use crate::http::ApiError;

/// A file: its name, content type and content.
struct Asset(&'static str, &'static str, &'static str);

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [Asset; 5] = [
    Asset("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    Asset("page.js", JAVASCRIPT, include_str!("assets/page.js")),
    Asset("verify.js", JAVASCRIPT, include_str!("assets/verify.js")),
    Asset("compare.js", JAVASCRIPT, include_str!("assets/compare.js")),
    Asset("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];
/// Of what a path names by its content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// A page of another version of this program asks, and must not keep what it gets.
const BRIEF: HeaderValue = HeaderValue::from_static("public, max-age=1");

/// Names the content of all files: pages of another version ask for other paths.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    for Asset(name, _, content) in &ASSETS {
        hasher.update(name.as_bytes()).update(&[0]).update(content.as_bytes()).update(&[0]);
    }
    Hex(&hasher.finalize().as_bytes()[..8]).to_string()
});

/// The path of a file.
pub(super) fn path(file: &str) -> String {
    format!("/assets/{}/{file}", *VERSION)
}

pub(super) async fn file(Path((version, file)): Path<(String, String)>) -> Result<Response, ApiError> {
    let found = ASSETS.iter().find(|Asset(name, ..)| *name == file);
    let none = || ApiError::not_found("no_such_file", "this node has no such file");
    let Asset(_, kind, content) = found.ok_or_else(none)?;
    let tag = format!("\"{}\"", Hex(blake3::hash(content.as_bytes()).as_bytes()));
    let tag = HeaderValue::try_from(tag).map_err(ApiError::internal)?;
    let lasting = if version == *VERSION { IMMUTABLE } else { BRIEF };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, lasting),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, *content).into_response())
}
