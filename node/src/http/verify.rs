//! `POST /api/verify`: whether an agent signed a message just now. This is MLAuth's login.
use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use fama_ledger::base64;
use fama_ledger::key::{Signature, SignatureError};
use fama_ledger::time::Millis;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::moment::{Moment, handle};
use super::view::VerifiedView;
use super::{ApiError, App, Serving};
use crate::clock;

/// How far a signed time may be from the node's clock, in either direction, in milliseconds.
pub(super) const WINDOW_MILLIS: u64 = 300_000;

/// Prefixes that neither a login's message nor the whole signed text may have: those of other texts that are signed,
/// and of MLAuth's own key changes. Otherwise a login could trick an agent into signing one of these.
pub const FORBIDDEN_LOGINS: [&str; 7] =
    ["fama.", "fama/", "format = ", "cosignature/v1", "c2sp.org/", "ROTATE_KEY:", "REVOKE_KEY:"];

/// The body of a login request.
#[derive(JsonSchema)]
pub(super) struct Login {
    dumbname: String,
    timestamp: String,
    signature: String,
    message: String,
}

impl Login {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let form = || ApiError::bad("bad_json", "want a JSON object with dumbname, timestamp, signature and message");
        let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(|_| form())?;
        let mut text = |name: &'static str, missing, bad| match fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            None | Some(Value::Null) => Err(field(name, missing, "is missing")),
            Some(_) => Err(field(name, bad, "want a string")),
        };
        Ok(Self {
            dumbname: text("dumbname", "missing_dumbname", "bad_dumbname")?,
            timestamp: text("timestamp", "missing_timestamp", "bad_timestamp")?,
            signature: text("signature", "missing_signature", "bad_signature_form")?,
            message: text("message", "missing_message", "bad_message")?,
        })
    }

    /// The signed text: name, timestamp and message as sent, concatenated.
    fn signed(&self) -> String {
        [self.dumbname.as_str(), &self.timestamp, &self.message].concat()
    }
}

fn field(name: &'static str, code: &'static str, rule: &str) -> ApiError {
    ApiError::bad(code, format!("{name}: {rule}")).with("field", name)
}

fn unauthorized(code: &'static str, message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, message)
}

pub(super) async fn verify(Serving(app): Serving, body: Bytes) -> Result<Json<VerifiedView>, ApiError> {
    let login = Login::read(&body)?;
    check(&app, &login, clock::now()).map(Json)
}

fn check(app: &App, login: &Login, now: Millis) -> Result<VerifiedView, ApiError> {
    let time = time(&login.timestamp).ok_or_else(|| {
        field("timestamp", "bad_timestamp", "want a time like 2026-11-22T05:00:00Z or 2026-11-22T05:00:00.000Z")
    })?;
    let signature = base64::decode_lenient(&login.signature).filter(|bytes| !bytes.is_empty());
    let signature = signature.ok_or_else(|| field("signature", "bad_signature_form", "want base64"))?;
    let signed = login.signed();
    if FORBIDDEN_LOGINS.iter().any(|begin| login.message.starts_with(begin) || signed.starts_with(begin)) {
        return Err(field("message", "forbidden_message", "an agent may not sign such a message to log in"));
    }
    let moment = Moment::open(app)?;
    let found = moment.find(&login.dumbname)?;
    if now.0.abs_diff(time.0) > WINDOW_MILLIS {
        return Err(unauthorized("expired", "the timestamp is more than 300 seconds from this node's clock"));
    }
    let status = moment.join().key_status(&found)?;
    match Signature::from_edge(&status.current.key, signed.as_bytes(), &signature) {
        Ok(_) if status.is_revoked() => return Err(unauthorized("revoked", "the agent's key is revoked")),
        Ok(_) if moment.join().is_suspended(found.id)? => {
            return Err(unauthorized("suspended", "operators have suspended the agent's use"));
        }
        Ok(_) => {}
        Err(SignatureError::Malformed) => {
            return Err(field("signature", "bad_signature_form", "want a signature of the key's curve"));
        }
        Err(_) => return Err(unauthorized("bad_signature", "the signature does not match key and message")),
    }
    Ok(VerifiedView {
        verified: true,
        // As it was signed.
        dumbname: login.dumbname.clone(),
        handle: handle(&found),
        agent_id: found.id.to_string(),
        key_version: status.version,
        fresh: moment.is_fresh(now)?,
        attestation: "Verified via MLAuth Protocol 1.0",
    })
}

/// Reads a time in strict RFC 3339 with `Z`, with milliseconds or without a fraction.
pub(super) fn time(text: &str) -> Option<Millis> {
    match text.strip_suffix('Z') {
        Some(seconds) if text.len() == "2026-11-22T05:00:00Z".len() => format!("{seconds}.000Z").parse().ok(),
        _ => text.parse().ok(),
    }
}
