//! The sign-in listener: agents get tokens for services, with the ledger as the only authority.
//!
//! An agent proves its key with a signature that is addressed to this issuer and used once. The token says what the ledger
//! says at this node's frontier: the key in force, no suspension that holds, and what the service granted. Nothing is kept
//! but what must not be used twice, until it ends.
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Form, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use ed25519_dalek::SigningKey;
use fama_ledger::id::{Hex, IdentityId, did};
use fama_ledger::join::LocatedIdentity;
use fama_ledger::manifest::Operator;
use fama_ledger::token::{Assertion, Delegation, TokenError, jwk_set};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::layers::{self, OauthAnswer, Place};
use super::moment::Moment;
use super::openapi::{Api, Doc, Docs, Kind, Parameter};
use super::{ApiError, App, REQUESTS_MAX, Rates, Serving, error};
use crate::clock;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::submit::admission::Windows;

mod inspect;
mod issue;
mod shell;
mod used;

use used::{Use, UsedOnce};

/// Requests of one identity a minute, counted after its signature held.
const REQUESTS_PER_MINUTE: u32 = 240;
/// How long a request waits while this node takes in entries that it has just heard of.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Pause between two looks whether it has.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(20);
/// The algorithms of assertions.
const ALGORITHMS: [&str; 4] = ["EdDSA", "ES256K", "ES256", "Ed25519"];
/// The one kind of client assertion (RFC 7523).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What the routes of the listener share.
pub struct SignIn {
    app: Arc<App>,
    key: SigningKey,
    token_seconds: u64,
    used: UsedOnce,
    challenge_key: [u8; 32],
    rates: Windows<IdentityId>,
    /// Since when this node has not been up to date, as far as requests saw.
    behind: Mutex<Option<Instant>>,
}

impl SignIn {
    /// Issues tokens of `token_seconds` with this key, which the manifest names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new(app: Arc<App>, key: SigningKey, token_seconds: u64) -> Result<Arc<Self>, StoreError> {
        let used = UsedOnce::open(Arc::clone(&app.shared.store))?;
        let challenge_key = blake3::derive_key("fama 2026-11 challenges of a sign-in listener", key.as_bytes());
        let rates = Windows::new(Duration::from_secs(60));
        Ok(Arc::new(Self { app, key, token_seconds, used, challenge_key, rates, behind: Mutex::default() }))
    }

    /// The operator whose token key this is, by the version in use.
    fn operator(&self) -> Result<(&Operator, &str), AuthError> {
        let own = self.key.verifying_key();
        let mut operators = self.app.shared.manifest.operators().iter();
        let operator = operators.find(|operator| operator.endpoints.token_keys.contains(&own));
        let found = operator.and_then(|operator| Some((operator, operator.endpoints.issuer.as_deref()?)));
        found.ok_or_else(|| {
            AuthError::unavailable("unknown_token_key", "the manifest names no such token key: ask another issuer", 60)
        })
    }

    fn metrics(&self) -> &Metrics {
        &self.app.shared.metrics
    }

    /// The state to answer from, if it is new enough to answer from. In a busy federation a node hears of new entries all
    /// the time and has them a moment later, so a request waits for that; where a node stays behind, none does.
    fn moment<'a>(&self, app: &'a App) -> Result<Moment<'a>, AuthError> {
        loop {
            let moment = Moment::open(app)?;
            let is_fresh = moment.is_fresh(clock::now())?;
            let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
            if is_fresh {
                *behind = None;
                return Ok(moment);
            }
            if behind.get_or_insert_with(Instant::now).elapsed() >= CATCH_UP {
                let message = "this node may not have the newest revocations and grants: try again, or another issuer";
                return Err(AuthError::unavailable("not_fresh", message, 5));
            }
            drop((behind, moment));
            std::thread::sleep(CATCH_UP_PAUSE);
        }
    }

    /// Uses up what an identity signed once.
    fn use_once(&self, of: (&str, IdentityId), what: &str, ends: u64, now: u64) -> Result<bool, AuthError> {
        match self.used.once(of, what, ends, now).map_err(ApiError::from)? {
            Use::First => Ok(true),
            Use::Again => Ok(false),
            Use::Full => Err(AuthError::unavailable("too_many", "too much is remembered: try again in a minute", 60)),
        }
    }
}

/// Who sent a request, by a signature that held.
struct Caller {
    found: LocatedIdentity,
    key_version: u32,
    delegation: Option<Delegation>,
}

impl Caller {
    fn did(&self) -> String {
        did(&self.found.home, &self.found.id)
    }
}

/// A refusal, in the words of OAuth and with a code of our own.
struct AuthError {
    status: StatusCode,
    error: &'static str,
    code: Cow<'static, str>,
    message: String,
    retry_after: Option<u32>,
}

impl AuthError {
    fn new(error: &'static str, code: impl Into<Cow<'static, str>>, message: impl std::fmt::Display) -> Self {
        let status = match error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "slow_down" => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { status, error, code: code.into(), message: message.to_string(), retry_after: None }
    }

    fn invalid_request(code: &'static str, message: impl std::fmt::Display) -> Self {
        Self::new("invalid_request", code, message)
    }

    fn unavailable(code: &'static str, message: impl std::fmt::Display, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new("temporarily_unavailable", code, message) }
    }
}

impl From<ApiError> for AuthError {
    fn from(error: ApiError) -> Self {
        let (status, message) = (error.status(), error.message().to_owned());
        let kind = if status.is_server_error() { "temporarily_unavailable" } else { "invalid_request" };
        Self { status, retry_after: error.seconds(), ..Self::new(kind, error.code().to_owned(), message) }
    }
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        Self::new("invalid_client", error.code(), error)
    }
}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        // No `WWW-Authenticate` with a 401: it hides the body from clients.
        let body = json!({"error": self.error, "error_description": plain(&self.message), "code": self.code});
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(OauthAnswer);
        response
    }
}

/// The characters that `error_description` may have (RFC 6749, section 5.2).
fn plain(message: &str) -> String {
    message.chars().map(|c| if matches!(c, ' '..='!' | '#'..='[' | ']'..='~') { c } else { '\'' }).collect()
}

/// The type of the bodies of OAuth's requests.
const FORM: &str = "application/x-www-form-urlencoded";

/// An error of OAuth's routes (RFC 6749, section 5.2).
#[derive(JsonSchema)]
#[allow(dead_code, reason = "describes what `AuthError` writes")]
struct OauthErrorView {
    error: String,
    error_description: String,
    /// The stable code, which says more than `error` does.
    code: String,
}

/// The routes of the sign-in listener.
pub fn sign_in(shared: Arc<SignIn>, rates: Arc<Rates>) -> Router {
    let metrics = Arc::clone(&shared.app.shared.metrics);
    let about = "The sign-in listener of a Fama node: an OAuth 2.0 authorization server for client credentials, with \
                 signatures instead of secrets.";
    let oauth = |doc: Doc| doc.fails::<OauthErrorView>().or(&[401]);
    let (router, docs) = Api::new(Docs::new(about))
        .get(
            "/.well-known/oauth-authorization-server",
            metadata,
            oauth(Doc::json::<Value>("What this server is and does (RFC 8414)")),
        )
        .get("/.well-known/jwks.json", keys, Doc::bytes(&["application/jwk-set+json"], "This issuer's token keys"))
        .get(
            "/oauth/authorize",
            authorize,
            oauth(Doc::json::<Value>("Always an error: there is nobody to ask")).never(&[]),
        )
        .post(
            "/oauth/token",
            issue::token,
            oauth(Doc::json::<issue::TokenView>("An access token for an assertion (RFC 7523, RFC 8707, RFC 9449)"))
                .headers(&[Parameter("DPoP", Kind::Text, "a proof (RFC 9449): the token is bound to its key")])
                .bodies(const { &[(FORM, SchemaGenerator::subschema_for::<issue::TokenForm>)] }),
        )
        .post(
            "/oauth/introspect",
            inspect::introspect,
            oauth(Doc::json::<inspect::IntrospectionView>("Whether a token holds now (RFC 7662)"))
                .bodies(const { &[(FORM, SchemaGenerator::subschema_for::<inspect::AboutForm>)] }),
        )
        .post(
            "/oauth/revoke",
            inspect::revoke,
            oauth(Doc::json::<Value>("Ends a token at this issuer (RFC 7009)"))
                .bodies(const { &[(FORM, SchemaGenerator::subschema_for::<inspect::AboutForm>)] }),
        )
        .post(
            "/v1/challenge",
            shell::challenge,
            Doc::json::<shell::ChallengeView>("A text to sign, for a token").body::<shell::ChallengeQuestion>(),
        )
        .post(
            "/v1/token",
            shell::token,
            Doc::json::<issue::TokenView>("A token for a signed challenge")
                .headers(&[Parameter("DPoP", Kind::Text, "a proof (RFC 9449): the token is bound to its key")])
                .body::<shell::TokenQuestion>()
                .or(&[401, 404, 409, 410, 429]),
        )
        .post(
            "/v1/verify",
            shell::verify,
            Doc::json::<inspect::IntrospectionView>("Whether a token holds now").body::<shell::VerifyQuestion>(),
        )
        .end();
    let router = router.merge(docs.served("/openapi.json")).fallback(error::no_route).with_state(shared);
    layers::public(router, &metrics, REQUESTS_MAX, Some(rates))
}

async fn metadata(State(shared): State<Arc<SignIn>>) -> Result<Response, AuthError> {
    let (_, issuer) = shared.operator()?;
    let at = |path: &str| format!("{issuer}{path}");
    let methods = json!(["private_key_jwt"]);
    Ok(oauth(json!({
        "issuer": issuer,
        "token_endpoint": at("/oauth/token"),
        "jwks_uri": at("/.well-known/jwks.json"),
        "introspection_endpoint": at("/oauth/introspect"),
        "revocation_endpoint": at("/oauth/revoke"),
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "dpop_signing_alg_values_supported": ["EdDSA", "Ed25519", "ES256"],
        // Clients refuse a document without these two; nobody is sent anywhere.
        "authorization_endpoint": at("/oauth/authorize"),
        "response_types_supported": ["none"],
    })))
}

async fn keys(State(shared): State<Arc<SignIn>>) -> Result<Response, AuthError> {
    let (operator, _) = shared.operator()?;
    let mut response = oauth(jwk_set(operator));
    let kind = HeaderValue::from_static("application/jwk-set+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn authorize() -> AuthError {
    AuthError::new("unsupported_response_type", "no_people", "agents sign in with a key: use the token endpoint")
}

fn oauth(value: Value) -> Response {
    let mut response = Json(value).into_response();
    response.extensions_mut().insert(OauthAnswer);
    response
}

/// The parameters of a request in OAuth's form; each at most once.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(
        form: Result<Form<Vec<(String, String)>>, axum::extract::rejection::FormRejection>,
    ) -> Result<Self, AuthError> {
        let form = form.map_err(|_| {
            AuthError::invalid_request("bad_form", "want a body of the type application/x-www-form-urlencoded")
        })?;
        let Form(pairs) = form;
        for (i, (name, _)) in pairs.iter().enumerate() {
            if pairs.iter().skip(i + 1).any(|(other, _)| other == name) {
                // RFC 8707 allows several resources; a token is for one.
                let (error, code) = match name.as_str() {
                    "resource" => ("invalid_target", "one_resource"),
                    _ => ("invalid_request", "repeated_parameter"),
                };
                return Err(AuthError::new(error, code, format!("{name} is there twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter; one without a value counts as absent (RFC 6749, section 3.2).
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, value)| given == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn needed(&self, name: &'static str) -> Result<&str, AuthError> {
        self.get(name).ok_or_else(|| AuthError::invalid_request("missing_parameter", format!("{name} is missing")))
    }
}

impl SignIn {
    /// The caller: an identity or its process, by an assertion that is addressed to this issuer and used up now.
    fn authenticate(&self, moment: &Moment<'_>, parameters: &Parameters) -> Result<Caller, AuthError> {
        let (_, issuer) = self.operator()?;
        if parameters.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            let message = format!("want client_assertion, with client_assertion_type {ASSERTION_TYPE}");
            return Err(AuthError::new("invalid_client", "no_assertion", message));
        }
        let now = clock::now().0 / 1_000;
        let text = parameters.get("client_assertion").unwrap_or_default();
        let assertion = Assertion::parse(text, issuer, now)?;
        let known = |name: &str| {
            moment.find(name).map_err(|error| match error.code() {
                "unknown_agent" | "bad_name" | "ambiguous_name" => {
                    AuthError::new("invalid_client", error.code().to_owned(), error.message())
                }
                _ => error.into(),
            })
        };
        let found = known(&assertion.subject)?;
        if let Some(client) = parameters.get("client_id")
            && known(client)?.id != found.id
        {
            return Err(AuthError::new("invalid_client", "other_client", "client_id names another identity"));
        }
        let status = moment.join().key_status(&found).map_err(ApiError::from)?;
        let did = did(&found.home, &found.id);
        let federation = self.app.shared.manifest.federation();
        let beside = parameters.get("fama_delegation");
        let delegation = assertion.check((&did, &status.current.key), federation, beside, now)?;
        // Only now: nobody's budget is spent by who merely names it.
        self.count(found.id)?;
        if status.is_revoked() {
            return Err(AuthError::new("invalid_client", "revoked", "the identity's key is revoked"));
        }
        if !self.use_once(("jti", found.id), &assertion.id, assertion.ends, now)? {
            return Err(AuthError::new("invalid_client", "used", "this assertion was used before"));
        }
        Ok(Caller { found, key_version: status.version, delegation })
    }

    /// Counts a request of an identity whose signature held.
    fn count(&self, identity: IdentityId) -> Result<(), AuthError> {
        self.rates.count(identity, REQUESTS_PER_MINUTE).map_err(|refusal| AuthError {
            retry_after: refusal.retry_after,
            ..AuthError::new("slow_down", "rate", refusal.message)
        })
    }

    /// Refuses an identity whose use is suspended: everywhere if that holds, here if this operator says so.
    fn refuse_suspended(&self, moment: &Moment<'_>, identity: IdentityId) -> Result<(), AuthError> {
        if self.is_suspended(moment, identity)? {
            return Err(AuthError::new("invalid_client", "suspended", "the identity's use is suspended"));
        }
        Ok(())
    }

    /// Whether a suspension of an identity holds, or one of this issuer's operator stands.
    fn is_suspended(&self, moment: &Moment<'_>, identity: IdentityId) -> Result<bool, AuthError> {
        let (operator, _) = self.operator()?;
        let by = moment.join().suspended_by(identity).map_err(ApiError::from)?;
        let holds = by.len() >= moment.join().manifest().policy().sponsors_wanted();
        Ok(holds || by.iter().any(|(name, _)| *name == operator.name))
    }

    /// Tells the log and the metrics what became of a request.
    fn tell<T>(&self, what: &'static str, result: Result<T, AuthError>) -> Result<T, AuthError> {
        match &result {
            Ok(_) => self.metrics().signed_in(what, "ok"),
            Err(error) => {
                self.metrics().signed_in(what, &error.code);
                tracing::info!(what, code = %error.code, error = error.error, "a sign-in was refused");
            }
        }
        result
    }
}

/// A name that no other token or challenge has.
fn random_name() -> Result<String, AuthError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    Ok(Hex(&random).to_string())
}

type FormBody = Result<Form<Vec<(String, String)>>, axum::extract::rejection::FormRejection>;

/// Runs `work` as a long read: it verifies signatures and waits for the disk.
async fn run<T: Send + 'static>(
    place: Place,
    shared: Arc<SignIn>,
    work: impl FnOnce(&SignIn, &App) -> Result<T, AuthError> + Send + 'static,
) -> Result<T, AuthError> {
    let Serving(app) = Serving::of(&shared.app);
    place.read(move || Ok(work(&shared, &app))).await?
}
