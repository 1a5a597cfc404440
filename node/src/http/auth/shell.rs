//! The shell's way to a token: a text to sign, and the signature back.
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use fama_ledger::base64;
use fama_ledger::id::Hex;
use fama_ledger::key::{Signature, SignatureError};
use fama_ledger::text::check_value;
use fama_ledger::time::Millis;
use fama_ledger::token::{AccessToken, LoginText, read_scopes};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::issue::{TokenView, Wanted, dpop, issue, use_proof};
use super::{AuthError, Caller, SignIn, inspect, random_name, run};
use crate::clock;
use crate::http::layers::Place;
use crate::http::{ApiError, App};

/// How long a challenge may be answered, in milliseconds.
const CHALLENGE_MILLIS: u64 = 60_000;
/// Longest resource, in bytes.
const RESOURCE_BYTES_MAX: usize = 1_024;

/// The body of `POST /v1/challenge`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ChallengeQuestion {
    /// Who wants a token: a handle, an id or a DID.
    identity: String,
    /// The service that it is for: its DID, or an address at its domain.
    resource: String,
    /// What it shall allow, words with spaces between them; all that is granted if absent.
    scope: Option<String>,
}

/// A text to sign with the identity's key in force.
#[derive(Serialize, JsonSchema)]
pub(in crate::http) struct ChallengeView {
    text: String,
    expires: String,
}

/// The body of `POST /v1/token`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct TokenQuestion {
    /// The text of the challenge, as it came.
    text: String,
    /// The signature over it, in any base64.
    signature: String,
}

/// The body of `POST /v1/verify`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct VerifyQuestion {
    /// A token that the caller holds.
    token: String,
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let status = match (error.error, error.status) {
            ("invalid_target" | "invalid_scope", _) => StatusCode::BAD_REQUEST,
            (_, status) => status,
        };
        let answer = Self::new(status, error.code, error.message);
        match error.retry_after {
            Some(seconds) => answer.retry_after(seconds),
            None => answer,
        }
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad("bad_json", error))
}

pub(in crate::http) async fn challenge(
    State(shared): State<Arc<SignIn>>,
    place: Place,
    body: Bytes,
) -> Result<Json<ChallengeView>, ApiError> {
    let question: ChallengeQuestion = read(&body)?;
    let made = run(place, shared, move |shared, app| {
        let result = challenged(shared, app, &question);
        shared.tell("challenge", result)
    });
    Ok(Json(made.await?))
}

fn challenged(shared: &SignIn, app: &App, question: &ChallengeQuestion) -> Result<ChallengeView, AuthError> {
    let moment = shared.moment(app)?;
    let (_, issuer) = shared.operator()?;
    let found = moment.find(&question.identity)?;
    let bad = |code: &'static str, message: &str| AuthError::invalid_request(code, message);
    if question.resource.len() > RESOURCE_BYTES_MAX || check_value(&question.resource).is_err() {
        return Err(bad("bad_resource", "resource: want an address or a DID of at most 1024 bytes"));
    }
    let scopes = question.scope.as_deref().map(read_scopes).transpose();
    let scopes = scopes.map_err(|_| bad("bad_scope", "scope: want words with single spaces between them"))?;
    let expires = Millis(clock::now().0.saturating_add(CHALLENGE_MILLIS));
    let mut login = LoginText {
        federation: app.shared.manifest.federation(),
        issuer: issuer.to_owned(),
        identity: found.id,
        resource: question.resource.clone(),
        scopes,
        challenge: random_name()?,
        expires,
    };
    login.challenge = shared.challenge(&login);
    Ok(ChallengeView { text: login.text(), expires: expires.to_string() })
}

impl SignIn {
    /// The challenge of a login: its random part, and a MAC of that and of all other lines under a key of this listener.
    fn challenge(&self, login: &LoginText) -> String {
        let random: String = login.challenge.chars().take(32).collect();
        let mut hasher = blake3::Hasher::new_keyed(&self.challenge_key);
        hasher.update(random.as_bytes()).update(login.unchallenged().as_bytes());
        format!("{random}{}", Hex(hasher.finalize().as_bytes()))
    }
}

pub(in crate::http) async fn token(
    State(shared): State<Arc<SignIn>>,
    place: Place,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TokenView>, ApiError> {
    let question: TokenQuestion = read(&body)?;
    let made = run(place, shared, move |shared, app| {
        let result = answered(shared, app, &question, &headers);
        shared.tell("login", result)
    });
    Ok(Json(made.await?))
}

fn answered(shared: &SignIn, app: &App, question: &TokenQuestion, headers: &HeaderMap) -> Result<TokenView, AuthError> {
    let login = LoginText::parse(question.text.as_bytes());
    let login = login.map_err(|error| AuthError::invalid_request("bad_text", format!("text: {error}")))?;
    let refused = |status, code: &'static str, message: &str| AuthError {
        status,
        ..AuthError::new("invalid_request", code, message)
    };
    // Compared as hashes, in constant time.
    if blake3::hash(shared.challenge(&login).as_bytes()) != blake3::hash(login.challenge.as_bytes()) {
        return Err(refused(StatusCode::NOT_FOUND, "not_ours", "this issuer did not make that challenge"));
    }
    let now = clock::now();
    if now >= login.expires {
        return Err(refused(StatusCode::GONE, "expired", "the challenge has ended: ask for another"));
    }
    let moment = shared.moment(app)?;
    let proof = dpop(shared, headers, "/v1/token")?;
    let found = moment.find(&login.identity.to_string())?;
    let status = moment.join().key_status(&found).map_err(ApiError::from)?;
    let signature = base64::decode_lenient(&question.signature).filter(|bytes| !bytes.is_empty());
    let signature =
        signature.ok_or_else(|| AuthError::invalid_request("bad_signature_form", "signature: want base64"))?;
    match Signature::from_edge(&status.current.key, question.text.as_bytes(), &signature) {
        Ok(_) => {}
        Err(SignatureError::Malformed) => {
            return Err(AuthError::invalid_request("bad_signature_form", "want a signature of the key's curve"));
        }
        Err(_) => return Err(AuthError::new("invalid_client", "bad_signature", "the signature does not match")),
    }
    shared.count(found.id)?;
    if status.is_revoked() {
        return Err(AuthError::new("invalid_client", "revoked", "the identity's key is revoked"));
    }
    let ends = login.expires.0.div_ceil(1_000);
    if !shared.use_once(("challenge", found.id), &login.challenge, ends, now.0 / 1_000)? {
        return Err(refused(StatusCode::CONFLICT, "used", "this challenge was used before"));
    }
    let key_thumbprint = use_proof(shared, found.id, proof)?;
    let caller = Caller { found, key_version: status.version, delegation: None };
    let wanted = Wanted { resource: &login.resource, scopes: login.scopes.clone(), key_thumbprint };
    issue(shared, &moment, &caller, wanted)
}

pub(in crate::http) async fn verify(
    State(shared): State<Arc<SignIn>>,
    place: Place,
    body: Bytes,
) -> Result<Response, ApiError> {
    let question: VerifyQuestion = read(&body)?;
    let answer = run(place, shared, move |shared, app| {
        let result = verified(shared, app, &question);
        shared.tell("verify", result)
    });
    Ok(Json(answer.await?).into_response())
}

/// For whoever holds the token: it says nothing that the token does not.
fn verified(shared: &SignIn, app: &App, question: &VerifyQuestion) -> Result<Value, AuthError> {
    let moment = shared.moment(app)?;
    let (operator, _) = shared.operator()?;
    let now = clock::now().0 / 1_000;
    match AccessToken::of_issuer(&question.token, operator, app.shared.manifest.federation(), now) {
        Ok(token) => inspect::state(shared, &moment, &token, now),
        Err(_) => Ok(serde_json::json!({"active": false})),
    }
}
