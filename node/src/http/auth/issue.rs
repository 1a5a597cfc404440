//! Issues access tokens: what is asked for, cut down to what the service granted.
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fama_ledger::event::Scope;
use fama_ledger::id::{Domain, IdentityId, did};
use fama_ledger::join::LocatedIdentity;
use fama_ledger::token::{AccessToken, DpopProof, read_scopes, scope_text};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AuthError, Caller, FormBody, Parameters, SignIn, oauth, random_name, run};
use crate::clock;
use crate::http::feed;
use crate::http::layers::Place;
use crate::http::moment::{Moment, handle};
use crate::http::{ApiError, App};

/// The answer with a token.
#[derive(Serialize, JsonSchema)]
pub(in crate::http) struct TokenView {
    pub(in crate::http) access_token: String,
    /// `Bearer`, or `DPoP` if it is bound to a key.
    pub(in crate::http) token_type: &'static str,
    /// Seconds until it ends.
    pub(in crate::http) expires_in: u64,
    /// What was given of what was asked for.
    pub(in crate::http) scope: String,
}

/// What is asked for; each parameter at most once.
#[derive(Serialize, JsonSchema)]
#[allow(dead_code, reason = "describes what `by_assertion` reads")]
pub(in crate::http) struct TokenForm {
    /// `client_credentials`
    grant_type: String,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`
    client_assertion_type: String,
    /// A JWT that the identity or its process signed for this issuer.
    client_assertion: String,
    /// The service's DID, or an https address at its domain: the token's `aud`.
    resource: String,
    /// Words with single spaces; all that is granted if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The same identity as the assertion's, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// A delegation, if it is not in the assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    fama_delegation: Option<String>,
}

/// What somebody wants a token for.
pub(super) struct Wanted<'a> {
    pub(super) resource: &'a str,
    pub(super) scopes: Option<Vec<Scope>>,
    /// The key to which the token shall be bound.
    pub(super) key_thumbprint: Option<String>,
}

pub(in crate::http) async fn token(
    State(shared): State<Arc<SignIn>>,
    place: Place,
    headers: HeaderMap,
    form: FormBody,
) -> Result<Response, AuthError> {
    let parameters = Parameters::read(form)?;
    let view = run(place, shared, move |shared, app| {
        let result = by_assertion(shared, app, &parameters, &headers);
        shared.tell("token", result)
    });
    let view = serde_json::to_value(view.await?).map_err(ApiError::internal)?;
    Ok(oauth(view))
}

fn by_assertion(
    shared: &SignIn,
    app: &App,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<TokenView, AuthError> {
    match parameters.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            let message = "want client_credentials";
            return Err(AuthError::new("unsupported_grant_type", "grant_type", message));
        }
        None => return Err(AuthError::invalid_request("missing_parameter", "grant_type is missing")),
    }
    let moment = shared.moment(app)?;
    let proof = dpop(shared, headers, "/oauth/token")?;
    let caller = shared.authenticate(&moment, parameters)?;
    let key_thumbprint = use_proof(shared, caller.found.id, proof)?;
    let resource = parameters.get("resource");
    let resource = resource.ok_or_else(|| AuthError::new("invalid_target", "no_resource", "resource is missing"))?;
    let scopes = parameters.get("scope").map(read_scopes).transpose();
    let scopes = scopes.map_err(|_| AuthError::new("invalid_scope", "bad_scope", "scope is malformed"))?;
    issue(shared, &moment, &caller, Wanted { resource, scopes, key_thumbprint })
}

/// Uses up a DPoP proof of an identity whose signature held; the thumbprint of its key, to which the token is bound.
pub(super) fn use_proof(
    shared: &SignIn,
    by: IdentityId,
    proof: Option<DpopProof>,
) -> Result<Option<String>, AuthError> {
    let Some(proof) = proof else { return Ok(None) };
    if shared.use_once(("dpop", by), &proof.id, proof.ends, clock::now().0 / 1_000)? {
        Ok(Some(proof.key_thumbprint))
    } else {
        Err(AuthError::new("invalid_dpop_proof", "used", "this DPoP proof was used before"))
    }
}

/// The DPoP proof of a request for a token at this path, if it has one.
pub(super) fn dpop(shared: &SignIn, headers: &HeaderMap, path: &str) -> Result<Option<DpopProof>, AuthError> {
    let mut proofs = headers.get_all("dpop").into_iter();
    let Some(proof) = proofs.next() else { return Ok(None) };
    let wrong = |code: &'static str, message: String| AuthError::new("invalid_dpop_proof", code, message);
    let text = proof.to_str().ok().filter(|_| proofs.next().is_none());
    let text = text.ok_or_else(|| wrong("dpop_header", "want one DPoP header".to_owned()))?;
    let uri = format!("{}{path}", shared.operator()?.1);
    let proof = DpopProof::check(text, "POST", &uri, None, clock::now().0 / 1_000);
    proof.map(Some).map_err(|error| wrong(error.code(), error.to_string()))
}

/// Issues the token that a caller wants, as far as the service lets it.
pub(super) fn issue(
    shared: &SignIn,
    moment: &Moment<'_>,
    caller: &Caller,
    wanted: Wanted<'_>,
) -> Result<TokenView, AuthError> {
    let (operator, issuer) = shared.operator()?;
    shared.refuse_suspended(moment, caller.found.id)?;
    if let Some(delegation) = &caller.delegation {
        let refused = |error: fama_ledger::token::TokenError| AuthError::new("invalid_target", error.code(), error);
        delegation.expect_resource(wanted.resource).map_err(refused)?;
    }
    let service = service(moment, wanted.resource)?;
    let (now, join) = (clock::now(), moment.join());
    let counts = !join.key_status(&service).map_err(ApiError::from)?.is_revoked()
        && !join.is_suspended(service.id).map_err(ApiError::from)?;
    let mut expires = (now.0 / 1_000).saturating_add(shared.token_seconds);
    let mut scopes = Vec::new();
    let grants = join.grants(&service, caller.found.id).map_err(ApiError::from)?;
    for grant in grants.into_iter().filter(|grant| counts && grant.is_good(now)) {
        let is_asked = wanted.scopes.as_ref().is_none_or(|asked| asked.contains(&grant.scope));
        let delegated = caller.delegation.as_ref().and_then(|delegation| delegation.scopes.as_ref());
        if is_asked && delegated.is_none_or(|scopes| scopes.contains(&grant.scope)) {
            expires = expires.min(grant.expires.map_or(u64::MAX, |ends| ends.0 / 1_000));
            scopes.push(grant.scope);
        }
    }
    if scopes.is_empty() {
        let message = match wanted.scopes {
            Some(_) => "no grant of the service that stands has any of these scopes for this agent",
            None => "no grant of the service to this agent stands",
        };
        return Err(AuthError::new("invalid_scope", "not_granted", message));
    }
    if let Some(delegation) = &caller.delegation {
        expires = expires.min(delegation.expires);
    }
    scopes.sort();
    let karma = match moment.score(&caller.found.id)? {
        Some(score) => score.settle(caller.found.id, &join).map_err(ApiError::from)?,
        None => join.karma(caller.found.id).map_err(ApiError::from)?,
    };
    let issued_at = now.0 / 1_000;
    let token = AccessToken {
        issuer: issuer.to_owned(),
        operator: operator.name.clone(),
        subject: caller.did(),
        client_id: handle(&caller.found),
        identity: caller.found.id,
        audience: wanted.resource.to_owned(),
        service: did(&service.home, &service.id),
        scopes,
        issued_at,
        expires,
        id: random_name()?,
        key_thumbprint: wanted.key_thumbprint,
        process: caller.delegation.as_ref().map(|delegation| delegation.process.to_string()),
        key_version: caller.key_version,
        karma: karma.sum,
        as_of: now.to_string(),
        frontier: feed::sizes(moment)?.text(moment.join().manifest()),
    };
    tracing::info!(
        agent = %token.client_id, process = token.process.as_deref().unwrap_or("none"), service = %token.service,
        audience = %token.audience, scope = %scope_text(&token.scopes), token = %token.id, expires = token.expires,
        "a token was issued"
    );
    Ok(TokenView {
        token_type: if token.key_thumbprint.is_some() { "DPoP" } else { "Bearer" },
        expires_in: expires.saturating_sub(issued_at),
        scope: scope_text(&token.scopes),
        access_token: token.sign(moment.join().manifest().federation(), &shared.key),
    })
}

/// The identity that answers for a resource: a service's DID, or an address at a domain that stands for one identity.
fn service(moment: &Moment<'_>, resource: &str) -> Result<LocatedIdentity, AuthError> {
    let wrong = |code: &'static str, message: &str| AuthError::new("invalid_target", code, message);
    if resource.starts_with("did:agent:") {
        let unknown = |error: ApiError| match error.code() {
            "unknown_agent" | "bad_name" => wrong("unknown_resource", "no identity has this DID"),
            _ => error.into(),
        };
        return moment.find(resource).map_err(unknown);
    }
    let domain = domain_of(resource).ok_or_else(|| {
        wrong("bad_resource", "want the service's DID, or https://its-domain with a path, without query and fragment")
    })?;
    let list = moment.app.services.of(moment.app)?;
    let mut found: Option<LocatedIdentity> = None;
    for one in list.iter().filter(|one| one.domain == domain) {
        if found.as_ref().is_some_and(|found| found.id == one.provider) || !stands(moment, one.provider, &domain)? {
            continue;
        }
        if found.is_some() {
            return Err(wrong("ambiguous_resource", "this domain stands for several identities: name one by its DID"));
        }
        found = moment.join().identity(one.provider).map_err(ApiError::from)?;
    }
    found.ok_or_else(|| wrong("unknown_resource", "this domain stands for no identity here"))
}

/// Whether as many operators as the policy wants say, without an end, that `domain` is this identity's, for one and the
/// same service.
fn stands(moment: &Moment<'_>, provider: fama_ledger::id::IdentityId, domain: &Domain) -> Result<bool, AuthError> {
    let wanted = moment.join().manifest().policy().sponsors_wanted();
    let services = moment.join().sponsorships(provider).map_err(ApiError::from)?;
    let open = |one: &fama_ledger::join::Sponsorship| {
        one.sponsors.iter().filter(|(_, of)| of.iter().any(|interval| interval.end.is_none())).count()
    };
    Ok(services.iter().any(|one| one.domain == *domain && open(one) >= wanted))
}

/// The domain of `https://<domain>[:port][/path]`.
fn domain_of(resource: &str) -> Option<Domain> {
    // What is not visible would forge lines of logs.
    let is_plain = resource.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = resource.strip_prefix("https://").filter(|rest| is_plain && !rest.contains(['?', '#', '@', '\\']))?;
    let host = rest.split('/').next()?;
    match host.split_once(':') {
        Some((domain, port)) => domain.parse().ok().filter(|_| port.parse::<u16>().is_ok_and(|port| port > 0)),
        None => host.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::domain_of;

    #[test]
    fn resources_are_addresses_at_a_domain() {
        for (resource, domain) in [
            ("https://payments.example", Some("payments.example")),
            ("https://payments.example/", Some("payments.example")),
            ("https://payments.example:8443/api/v1", Some("payments.example")),
            ("http://payments.example", None),
            ("https://payments.example?x", None),
            ("https://payments.example/#x", None),
            ("https://user@payments.example", None),
            ("https://payments.example:0", None),
            ("https://payments.example:port", None),
            ("https://Payments.example", None),
            ("https://payments.example\\@evil.example", None),
            ("https://payments.example/\nforged", None),
            ("https://payments.example/\u{1b}[31m", None),
            ("https://payments.example/é", None),
            ("https://payments.example/ ", None),
            ("https://", None),
            ("payments.example", None),
        ] {
            assert_eq!(domain_of(resource).map(|domain| domain.to_string()).as_deref(), domain, "{resource}");
        }
    }
}
