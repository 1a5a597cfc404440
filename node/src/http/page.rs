//! Query strings and bodies, read strictly.
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;

use super::ApiError;

/// Longest request body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// The parameters of a query string, each at most once.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Refuses parameters that are not among `known` and those given twice.
    pub(super) fn new(pairs: Vec<(String, String)>, known: &[&str]) -> Result<Self, ApiError> {
        let mut params = Self(Vec::with_capacity(pairs.len().min(known.len())));
        for (name, value) in pairs {
            let Some(name) = known.iter().find(|known| **known == name) else {
                let message = format!("unknown parameter; want some of: {}", known.join(", "));
                return Err(ApiError::bad("unknown_parameter", message).with("field", name));
            };
            if params.get(name).is_some() {
                let message = format!("the parameter {name} stands twice");
                return Err(ApiError::bad("repeated_parameter", message).with("field", *name));
            }
            params.0.push(((*name).to_owned(), value));
        }
        Ok(params)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// `1` or `true`, `0` or `false`, or absent, which is false.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(ApiError::bad("bad_parameter", format!("{name}: want 1 or 0")).with("field", name)),
        }
    }

    /// How many items a list may have.
    pub(super) fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| ApiError::bad("bad_limit", format!("limit: want 1 to {max}")).with("field", "limit"))
    }
}

/// The whole body, if it is not too long.
pub(super) async fn body(body: Body) -> Result<Bytes, ApiError> {
    body_within(body, BODY_BYTES_MAX).await
}

/// The whole body, if it has at most `max` bytes.
pub(super) async fn body_within(body: Body, max: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is longer than {max} bytes"))
    };
    // What a client announces is refused before it is read.
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    axum::body::to_bytes(body, max).await.map_err(|_| too_large())
}
