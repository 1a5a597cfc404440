//! Errors as clients see them: all in one JSON form, RFC 9457 problem details.
use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::codec::CodecError;
use fama_ledger::log::LogError;
use fama_ledger::rows::RowError;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::StoreError;
use crate::wire::Refusal;

/// An error answer: a status, a stable code and a message for a person.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Cow<'static, str>,
    message: String,
    retry_after: Option<u32>,
    more: Map<String, Value>,
}

impl ApiError {
    /// An error with only status, code and message.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, message: impl std::fmt::Display) -> Self {
        Self { status, code: code.into(), message: message.to_string(), retry_after: None, more: Map::new() }
    }

    /// 400: the request is malformed.
    pub(super) fn bad(code: &'static str, message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404: this node knows nothing of that name, id or path.
    pub(super) fn not_found(code: &'static str, message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 503: too many requests at once. The client may retry after a second.
    pub(super) fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many requests at once").retry_after(1)
    }

    /// 500: this node's disk or program failed. The cause goes to the log, never to the client.
    pub(super) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(cause = %cause, "a request could not be answered");
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The error for a status that the framework chose.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => ("no_such_route", "there is nothing at this path; GET /api lists all paths"),
            StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this path does not support this method"),
            StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is longer than 65536 bytes"),
            StatusCode::REQUEST_TIMEOUT => ("timeout", "the request took too long"),
            StatusCode::TOO_MANY_REQUESTS => ("rate_limited", "too many requests"),
            status if status.is_server_error() => ("internal", "the node could not answer"),
            _ => ("bad_request", "the request is malformed"),
        };
        Self::new(status, code, message)
    }

    /// Sets after how many seconds a retry may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a member to the JSON object.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The JSON object that clients read.
    pub(super) fn json(&self) -> Value {
        let mut json = serde_json::to_value(self.problem()).unwrap_or_default();
        if let Some(seconds) = self.retry_after {
            json["retry_after"] = seconds.into();
        }
        json
    }

    fn problem(&self) -> Problem<'_> {
        Problem {
            error: &self.message,
            code: &self.code,
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.message,
            more: &self.more,
        }
    }

    /// The HTTP status.
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The message for a person.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// After how many seconds a retry may succeed.
    pub(super) const fn seconds(&self) -> Option<u32> {
        self.retry_after
    }

    /// Stable snake_case code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}

/// What an error answer says, for those who show it in another form; among the answer's extensions.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    error: &'a str,
    code: &'a str,
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem())).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Failed { code: self.code, message: self.message });
        response
    }
}

/// Content type of all errors.
pub(super) const PROBLEM: &str = "application/problem+json";

/// Answers requests for paths that don't exist.
pub(super) async fn no_route() -> ApiError {
    ApiError::of_status(StatusCode::NOT_FOUND)
}

impl From<Refusal> for ApiError {
    /// 503 if the inbox may accept it later, else 409: a rule of the ledger refuses it.
    fn from(refusal: Refusal) -> Self {
        let status = if refusal.retry_after.is_some() || refusal.code == "not_ready" {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::CONFLICT
        };
        Self { retry_after: refusal.retry_after, ..Self::new(status, refusal.code, refusal.message) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<RowError<StoreError>> for ApiError {
    fn from(error: RowError<StoreError>) -> Self {
        Self::internal(error)
    }
}

impl From<LogError<StoreError>> for ApiError {
    fn from(error: LogError<StoreError>) -> Self {
        Self::internal(error)
    }
}

impl From<CodecError> for ApiError {
    fn from(error: CodecError) -> Self {
        Self::internal(error)
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}
