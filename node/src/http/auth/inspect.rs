//! Says whether a token holds now, and ends one.
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use fama_ledger::id::did;
use fama_ledger::token::{AccessToken, scope_text};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{AuthError, FormBody, Parameters, SignIn, oauth, run};
use crate::clock;
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::{ApiError, App};

/// Which token is meant, and who asks.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code, reason = "describes what `Parameters` reads")]
pub(in crate::http) struct AboutForm {
    token: String,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`
    client_assertion_type: String,
    /// A JWT that the caller signed for this issuer: the token's client or the service that it is for.
    client_assertion: String,
    /// A delegation, if it is not in the assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    fama_delegation: Option<String>,
}

/// Whether a token holds now (RFC 7662); if not, nothing else is said.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code, reason = "describes what `state` writes")]
pub(in crate::http) struct IntrospectionView {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// The agent's DID.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// The agent's handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// `Bearer` or `DPoP`
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
    /// The thumbprint of the key that the token is bound to, as `jkt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Value>,
    /// The process that acts, as `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Value>,
    /// The identity, the service, and the key's version and karma when the token was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    fama: Option<Value>,
}

pub(in crate::http) async fn introspect(
    State(shared): State<Arc<SignIn>>,
    place: Place,
    form: FormBody,
) -> Result<Response, AuthError> {
    let parameters = Parameters::read(form)?;
    let answer = run(place, shared, move |shared, app| {
        let result = introspected(shared, app, &parameters);
        shared.tell("introspect", result)
    });
    answer.await.map(oauth)
}

fn introspected(shared: &SignIn, app: &App, parameters: &Parameters) -> Result<Value, AuthError> {
    let moment = shared.moment(app)?;
    let caller = shared.authenticate(&moment, parameters)?;
    let (token, now) = (parameters.needed("token")?, clock::now().0 / 1_000);
    let Some(token) = read(shared, token, now)? else { return Ok(inactive()) };
    // Its client, or the service that it is for; whoever else has it learns nothing about it.
    let own = caller.did();
    if token.identity != caller.found.id && token.service != own && token.audience != own {
        return Ok(inactive());
    }
    state(shared, &moment, &token, now)
}

/// The token, if it is one of this issuer that has not ended.
fn read(shared: &SignIn, text: &str, now: u64) -> Result<Option<AccessToken>, AuthError> {
    let (operator, _) = shared.operator()?;
    Ok(AccessToken::of_issuer(text, operator, shared.app.shared.manifest.federation(), now).ok())
}

fn inactive() -> Value {
    json!({"active": false})
}

/// What the ledger says of a token at this moment.
pub(super) fn state(shared: &SignIn, moment: &Moment<'_>, token: &AccessToken, now: u64) -> Result<Value, AuthError> {
    let holds = holds(shared, moment, token, now)?;
    if !holds {
        return Ok(inactive());
    }
    let mut answer = json!({
        "active": true, "iss": token.issuer, "sub": token.subject, "client_id": token.client_id, "aud": token.audience,
        "scope": scope_text(&token.scopes), "iat": token.issued_at, "exp": token.expires, "jti": token.id,
        "token_type": if token.key_thumbprint.is_some() { "DPoP" } else { "Bearer" },
        "fama": {"identity": token.identity.to_string(), "service": token.service, "key_version": token.key_version,
            "karma": token.karma},
    });
    if let Some(thumbprint) = &token.key_thumbprint {
        answer["cnf"] = json!({"jkt": thumbprint});
    }
    if let Some(process) = &token.process {
        answer["act"] = json!({"iss": token.subject, "sub": process});
    }
    Ok(answer)
}

fn holds(shared: &SignIn, moment: &Moment<'_>, token: &AccessToken, now: u64) -> Result<bool, AuthError> {
    if shared.used.is_used(("revoked", token.identity), &token.id, now) {
        return Ok(false);
    }
    let join = moment.join();
    let Some(found) = join.identity(token.identity).map_err(ApiError::from)? else { return Ok(false) };
    let key = join.key_status(&found).map_err(ApiError::from)?;
    let mine = did(&found.home, &found.id) == token.subject;
    if !mine || key.version != token.key_version || key.is_revoked() {
        return Ok(false);
    }
    if shared.is_suspended(moment, found.id)? {
        return Ok(false);
    }
    let service = match moment.find(&token.service) {
        Ok(service) => service,
        Err(error) if error.code() == "unknown_agent" => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if join.key_status(&service).map_err(ApiError::from)?.is_revoked()
        || join.is_suspended(service.id).map_err(ApiError::from)?
    {
        return Ok(false);
    }
    for scope in &token.scopes {
        let grant = join.grant(&service, found.id, scope).map_err(ApiError::from)?;
        if !grant.is_some_and(|grant| grant.is_good(clock::now())) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(in crate::http) async fn revoke(
    State(shared): State<Arc<SignIn>>,
    place: Place,
    form: FormBody,
) -> Result<Response, AuthError> {
    let parameters = Parameters::read(form)?;
    let done = run(place, shared, move |shared, app| {
        let result = revoked(shared, app, &parameters);
        shared.tell("revoke", result)
    });
    done.await.map(|()| oauth(json!({})))
}

fn revoked(shared: &SignIn, app: &App, parameters: &Parameters) -> Result<(), AuthError> {
    let moment = shared.moment(app)?;
    let caller = shared.authenticate(&moment, parameters)?;
    let (token, now) = (parameters.needed("token")?, clock::now().0 / 1_000);
    // A token that is none, or not the caller's, is no error (RFC 7009, section 2.2): it is not valid for the caller.
    let Some(token) = read(shared, token, now)?.filter(|token| token.identity == caller.found.id) else {
        return Ok(());
    };
    shared.use_once(("revoked", token.identity), &token.id, token.expires, now)?;
    tracing::info!(agent = %token.client_id, token = %token.id, "a token was revoked");
    Ok(())
}
