//! Strict reading of query strings and request bodies, and of whose request it is.
use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use futures::StreamExt;
use tokio::sync::Semaphore;

use super::ApiError;
use crate::config::AccessSettings;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Longest request body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// The address of a client, behind the proxies that are believed.
pub(super) fn client(settings: &AccessSettings, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    // A value that is no text is an address of nobody, and ends the chain.
    let values: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    settings.client(peer, values.into_iter())
}

/// The parameters of a query string; each name at most once.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes the parameters in `known` and ignores others, as everybody does: clients add some to pass caches. Refuses
    /// repeated ones.
    pub(super) fn new(pairs: Vec<(String, String)>, known: &[&str]) -> Result<Self, ApiError> {
        let mut params = Self(Vec::with_capacity(pairs.len().min(known.len())));
        for (name, value) in pairs {
            let Some(name) = known.iter().find(|known| **known == name) else { continue };
            if params.get(name).is_some() {
                let message = format!("the parameter {name} is repeated");
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

    /// The parameter `limit`, from 1; `default` if absent, and `max` if it is more.
    pub(super) fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        let whole = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let wrong =
            || ApiError::bad("bad_limit", format!("limit: want a number from 1 to {max}")).with("field", "limit");
        // What is too large for a number is above the maximum, too.
        let limit = if whole { text.parse().unwrap_or(max) } else { 0 };
        if limit == 0 { Err(wrong()) } else { Ok(limit.min(max)) }
    }
}

/// Memory of a listener for request bodies, in bytes, not counting the first [`FREE_BYTES`] of each.
pub(super) const BODIES_BYTES_MAX: usize = 8 << 20;
/// Bytes of each body that are always read, however many other bodies arrive.
const FREE_BYTES: usize = 4 << 10;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Reads the whole body. `memory` has a permit for each byte.
///
/// # Errors
/// `body_too_large` above `max` bytes, `timeout` after [`BODY_TIME`], `overloaded` without memory left.
pub(super) async fn body(body: Body, max: usize, memory: &Semaphore) -> Result<Bytes, ApiError> {
    // If the client announces too many bytes, none are read.
    if body.size_hint().lower() > max as u64 {
        return Err(ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let read = tokio::time::timeout(BODY_TIME, read(body, max, memory)).await;
    read.unwrap_or_else(|_| Err(ApiError::of_status(StatusCode::REQUEST_TIMEOUT)))
}

async fn read(body: Body, max: usize, memory: &Semaphore) -> Result<Bytes, ApiError> {
    let (mut bytes, mut claims, mut chunks) = (Vec::new(), Vec::new(), body.into_data_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::of_status(StatusCode::BAD_REQUEST))?;
        let len = bytes.len() + chunk.len();
        if len > max {
            return Err(ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let beyond = len.saturating_sub(bytes.len().max(FREE_BYTES));
        let beyond = u32::try_from(beyond).map_err(|_| ApiError::overloaded())?;
        claims.push(memory.try_acquire_many(beyond).map_err(|_| ApiError::overloaded())?);
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}
