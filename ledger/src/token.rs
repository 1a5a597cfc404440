//! Tokens with which agents sign in, checked without I/O: an operator's access tokens, the delegations of identities to
//! their processes, the assertions that processes send to an issuer, and those that they send to a service directly.
//!
//! **What a token says.** An access token is one operator's word at one time: that the identity's key was in force, and
//! that the service let it do these things. An operator that lies can say so of anybody, so a service names the issuers
//! that it accepts; there is no default. What was withdrawn since, only the ledger says: ask a node, or follow its stream.
//!
//! ```no_run
//! use std::time::{SystemTime, UNIX_EPOCH};
//!
//! use fama_ledger::manifest::Manifest;
//! use fama_ledger::token::{AccessToken, Expected};
//!
//! fn may_pay(token: &str, chain: &str) -> Result<bool, Box<dyn std::error::Error>> {
//!     let manifest = Manifest::parse_chain(chain)?;
//!     let expected = Expected {
//!         manifest: &manifest,
//!         issuers: &["https://auth.alpha.example"],
//!         audience: "https://payments.example/api",
//!         now: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
//!     };
//!     let token = AccessToken::check(token, &expected)?;
//!     Ok(token.has_scope("pay") && token.karma >= 10)
//! }
//! ```
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};

use crate::event::Scope;
use crate::id::{Domain, FederationId, IdentityId};
use crate::jose::{self, JoseError, JoseKey, Jws};
use crate::key::PublicKey;
use crate::manifest::{Manifest, Operator};
use crate::profile::{Profile, ProvenStatus, ProvenSuspension};

mod assertion;
mod delegation;
mod login;

pub use assertion::{AGENT_CALL, AgentCall, Assertion, CALL_SECONDS_MAX, DELEGATION_CLAIM, DpopProof};
pub use delegation::{DELEGATION, DELEGATION_SECONDS_MAX, Delegation};
pub use login::{LOGIN_BYTES_MAX, LOGIN_FORMAT, LoginText};

/// How far two clocks may differ, in seconds.
pub const SKEW_SECONDS: u64 = 30;
/// Longest life of an access token, in seconds.
pub const TOKEN_SECONDS_MAX: u64 = 15 * 60;
/// The type of an access token (RFC 9068).
pub const ACCESS_TOKEN: &str = "at+jwt";
/// Longest `jti` that is accepted, in bytes.
pub const JTI_BYTES_MAX: usize = 128;
/// Most scopes of one token.
pub const SCOPES_MAX: usize = 64;

/// Why a token says nothing to this reader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no JWS that may be, or its signature does not hold.
    #[error("{0}")]
    Jose(#[from] JoseError),
    /// A claim is missing or of another form.
    #[error("the claim {0} is missing or malformed")]
    Claim(&'static str),
    /// The issuer is not one that the reader accepts.
    #[error("the issuer {0} is not among those accepted")]
    Issuer(String),
    /// No operator of the newest version has this issuer, or it has no such key.
    #[error("no operator's token key signed this")]
    Key,
    /// It is for another audience.
    #[error("it is for {found}, not for {wanted}")]
    Audience {
        /// The audience in the token.
        found: String,
        /// The audience that was expected.
        wanted: String,
    },
    /// It is of another federation.
    #[error("it is of another federation")]
    Federation,
    /// It has ended.
    #[error("it ended {0} seconds ago")]
    Expired(u64),
    /// It begins later than now.
    #[error("it begins {0} seconds from now, by this clock")]
    Early(u64),
    /// It lasts longer than one of this kind may.
    #[error("it lasts {found} seconds, at most {max} are allowed")]
    Lifetime {
        /// How long it lasts.
        found: u64,
        /// How long it may.
        max: u64,
    },
    /// It is about another identity than expected.
    #[error("it is of {found}, not of {wanted}")]
    Identity {
        /// The identity in it.
        found: String,
        /// The identity that was expected.
        wanted: String,
    },
    /// The identity's key is not known to be in force, or a suspension may hold.
    #[error("the agent may not act: {0}")]
    NotInForce(&'static str),
    /// A delegation is for other resources.
    #[error("the delegation is not for {0}")]
    Resource(String),
    /// A DPoP proof is of another request or token.
    #[error("the DPoP proof is of another {0}")]
    Dpop(&'static str),
}

impl TokenError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Jose(error) => error.code(),
            Self::Claim(_) => "token_claim",
            Self::Issuer(_) => "token_issuer",
            Self::Key => "token_key",
            Self::Audience { .. } => "token_audience",
            Self::Federation => "token_federation",
            Self::Expired(_) => "token_expired",
            Self::Early(_) => "token_early",
            Self::Lifetime { .. } => "token_lifetime",
            Self::Identity { .. } => "token_identity",
            Self::NotInForce(_) => "token_not_in_force",
            Self::Resource(_) => "token_resource",
            Self::Dpop(_) => "token_dpop",
        }
    }
}

/// What a reader of access tokens expects. Nothing has a default.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The newest manifest that the reader holds: it has the issuers' keys.
    pub manifest: &'a Manifest,
    /// The issuers that the reader accepts: origins as the manifest has them.
    pub issuers: &'a [&'a str],
    /// The reader's own name: the `aud` of the tokens for it, compared as a text.
    pub audience: &'a str,
    /// The reader's clock, in seconds since 1970.
    pub now: u64,
}

/// An access token (RFC 9068): one operator's word about an agent, for one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The issuer's origin.
    pub issuer: String,
    /// The operator that has this issuer by the manifest.
    pub operator: Domain,
    /// The agent's DID.
    pub subject: String,
    /// The agent's handle.
    pub client_id: String,
    /// The agent's identity.
    pub identity: IdentityId,
    /// The service's name for itself.
    pub audience: String,
    /// The service's DID: the identity that granted.
    pub service: String,
    /// What the agent may do at the service.
    pub scopes: Vec<Scope>,
    /// When it was issued, in seconds since 1970.
    pub issued_at: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// Its own name, different from that of every other token of this issuer.
    pub id: String,
    /// The thumbprint of the key with which its holder proves each request; `None` for a bearer token.
    pub key_thumbprint: Option<String>,
    /// The process that acts for the agent, by a delegation.
    pub process: Option<String>,
    /// The version of the agent's key then.
    pub key_version: u32,
    /// The agent's karma then.
    pub karma: i64,
    /// The issuer's clock at its frontier, as a time.
    pub as_of: String,
    /// Up to where the issuer had read every log, for [`Frontier::parse`](crate::frontier::Frontier::parse): what
    /// happened later, it did not know.
    pub frontier: String,
}

impl AccessToken {
    /// Checks a token: form, type, issuer, its operator's key, audience, federation and time.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(text: &str, expected: &Expected<'_>) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        jws.expect_type(ACCESS_TOKEN)?;
        let claims = Claims(jws.claims());
        let issuer = claims.text("iss")?;
        if !expected.issuers.contains(&issuer) {
            return Err(TokenError::Issuer(issuer.to_owned()));
        }
        let operator = issuer_of(expected.manifest, issuer).ok_or(TokenError::Key)?;
        verify_by(&jws, operator)?;
        let token = Self::read(&claims, operator, expected.manifest.federation())?;
        if token.audience != expected.audience {
            let (found, wanted) = (token.audience, expected.audience.to_owned());
            return Err(TokenError::Audience { found, wanted });
        }
        lifetime((token.issued_at, token.expires), TOKEN_SECONDS_MAX, expected.now)?;
        Ok(token)
    }

    /// Checks who signed a token and when it ends, whatever its audience: for the issuer that is asked about it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn of_issuer(text: &str, operator: &Operator, federation: FederationId, now: u64) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        jws.expect_type(ACCESS_TOKEN)?;
        let claims = Claims(jws.claims());
        let issuer = claims.text("iss")?;
        if operator.endpoints.issuer.as_deref() != Some(issuer) {
            return Err(TokenError::Issuer(issuer.to_owned()));
        }
        verify_by(&jws, operator)?;
        let token = Self::read(&claims, operator, federation)?;
        lifetime((token.issued_at, token.expires), TOKEN_SECONDS_MAX, now)?;
        Ok(token)
    }

    fn read(claims: &Claims<'_>, operator: &Operator, federation: FederationId) -> Result<Self, TokenError> {
        let fama = claims.0.get("fama").and_then(Value::as_object).ok_or(TokenError::Claim("fama"))?;
        let fama = Claims(fama);
        if fama.text("federation")? != federation.to_string() {
            return Err(TokenError::Federation);
        }
        let confirmation = claims.0.get("cnf").map(|cnf| cnf.get("jkt").and_then(Value::as_str).map(ToOwned::to_owned));
        let key_thumbprint = confirmation.map(|jkt| jkt.ok_or(TokenError::Claim("cnf"))).transpose()?;
        let actor = claims.0.get("act").map(|act| act.get("sub").and_then(Value::as_str).map(ToOwned::to_owned));
        Ok(Self {
            issuer: claims.text("iss")?.to_owned(),
            operator: operator.name.clone(),
            subject: claims.text("sub")?.to_owned(),
            client_id: claims.text("client_id")?.to_owned(),
            identity: fama.text("identity")?.parse().map_err(|_| TokenError::Claim("identity"))?,
            audience: claims.text("aud")?.to_owned(),
            service: fama.text("service")?.to_owned(),
            scopes: claims.scopes()?.ok_or(TokenError::Claim("scope"))?,
            issued_at: claims.seconds("iat")?,
            expires: claims.seconds("exp")?,
            id: claims.jti()?.to_owned(),
            key_thumbprint,
            process: actor.map(|sub| sub.ok_or(TokenError::Claim("act"))).transpose()?,
            key_version: u32::try_from(fama.seconds("key_version")?).map_err(|_| TokenError::Claim("key_version"))?,
            karma: fama.0.get("karma").and_then(Value::as_i64).ok_or(TokenError::Claim("karma"))?,
            as_of: fama.text("as_of")?.to_owned(),
            frontier: fama.text("frontier")?.to_owned(),
        })
    }

    /// Signs the token with the issuer's token key.
    #[must_use]
    pub fn sign(&self, federation: FederationId, key: &SigningKey) -> String {
        let public = JoseKey::Ledger(PublicKey::Ed25519(key.verifying_key().to_bytes()));
        // `EdDSA` and not `Ed25519`, which PyJWT does not know.
        let header = json!({"alg": "EdDSA", "kid": public.thumbprint(), "typ": ACCESS_TOKEN});
        let mut claims = json!({
            "iss": self.issuer, "sub": self.subject, "client_id": self.client_id, "aud": self.audience,
            "scope": scope_text(&self.scopes), "iat": self.issued_at, "exp": self.expires, "jti": self.id,
            "fama": {
                "federation": federation.to_string(), "identity": self.identity.to_string(), "service": self.service,
                "key_version": self.key_version, "karma": self.karma, "as_of": self.as_of, "frontier": self.frontier,
            },
        });
        if let Some(more) = claims.as_object_mut() {
            if let Some(thumbprint) = &self.key_thumbprint {
                more.insert("cnf".to_owned(), json!({"jkt": thumbprint}));
            }
            if let Some(process) = &self.process {
                more.insert("act".to_owned(), json!({"iss": self.subject, "sub": process}));
            }
        }
        jose::sign(&header, &claims, |message| key.sign(message).to_bytes())
    }

    /// Whether the token has this scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|one| one.as_str() == scope)
    }
}

/// The operator of the newest version whose issuer this is.
#[must_use]
pub fn issuer_of<'a>(manifest: &'a Manifest, issuer: &str) -> Option<&'a Operator> {
    manifest.operators().iter().find(|operator| operator.endpoints.issuer.as_deref() == Some(issuer))
}

/// A JWK set (RFC 7517) of one operator's token keys, and of nobody else's: a key counts for its own issuer only.
#[must_use]
pub fn jwk_set(operator: &Operator) -> Value {
    let jwk = |key: &ed25519_dalek::VerifyingKey| {
        let key = JoseKey::Ledger(PublicKey::Ed25519(key.to_bytes()));
        let mut jwk = key.to_jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("alg".to_owned(), "EdDSA".into());
            members.insert("kid".to_owned(), key.thumbprint().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    };
    json!({"keys": operator.endpoints.token_keys.iter().map(jwk).collect::<Vec<_>>()})
}

/// Verifies by the token key that the header names, or by any of the operator's if it names none.
fn verify_by(jws: &Jws, operator: &Operator) -> Result<(), TokenError> {
    let mut last = TokenError::Key;
    for key in &operator.endpoints.token_keys {
        let key = JoseKey::Ledger(PublicKey::Ed25519(key.to_bytes()));
        if jws.key_id().is_some_and(|id| id != key.thumbprint()) {
            continue;
        }
        match jws.verify(&key) {
            Ok(()) => return Ok(()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Whether a profile shows a key that may act: in force, and no suspension holds.
fn in_force(profile: &Profile) -> Result<(), TokenError> {
    Err(TokenError::NotInForce(match (&profile.status, profile.suspension) {
        (ProvenStatus::Active, ProvenSuspension::None) => return Ok(()),
        (ProvenStatus::Active, ProvenSuspension::Holds) => "it is suspended",
        (ProvenStatus::Active, ProvenSuspension::NotKnown) => "a log that is left out may suspend it",
        (ProvenStatus::Revoked(_), _) => "its key is revoked",
        (ProvenStatus::NotKnownRevoked, _) => "a log that is left out may revoke its key",
    }))
}

/// Checks `iat` and `exp` against a clock and the longest life of this kind. What has ended has ended: the skew is for a
/// signer's clock that is ahead.
fn lifetime((issued, expires): (u64, u64), max: u64, now: u64) -> Result<(), TokenError> {
    if issued > now.saturating_add(SKEW_SECONDS) {
        return Err(TokenError::Early(issued.saturating_sub(now)));
    }
    let found = expires.saturating_sub(issued);
    if found > max {
        return Err(TokenError::Lifetime { found, max });
    }
    if now >= expires {
        return Err(TokenError::Expired(now.saturating_sub(expires)));
    }
    Ok(())
}

/// Scopes as `scope` has them: with single spaces between them.
#[must_use]
pub fn scope_text(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
}

/// Reads the text of `scope`: words with single spaces between them, each once.
///
/// # Errors
/// [`TokenError::Claim`].
pub fn read_scopes(text: &str) -> Result<Vec<Scope>, TokenError> {
    let mut scopes: Vec<Scope> = Vec::new();
    for word in text.split(' ') {
        let scope = word.parse().map_err(|_| TokenError::Claim("scope"))?;
        if scopes.len() >= SCOPES_MAX || scopes.contains(&scope) {
            return Err(TokenError::Claim("scope"));
        }
        scopes.push(scope);
    }
    Ok(scopes)
}

/// Claims, read strictly.
struct Claims<'a>(&'a Map<String, Value>);

impl<'a> Claims<'a> {
    fn text(&self, name: &'static str) -> Result<&'a str, TokenError> {
        self.0.get(name).and_then(Value::as_str).ok_or(TokenError::Claim(name))
    }

    /// A whole number that is not negative: seconds since 1970, or a count.
    fn seconds(&self, name: &'static str) -> Result<u64, TokenError> {
        self.0.get(name).and_then(Value::as_u64).ok_or(TokenError::Claim(name))
    }

    fn optional_seconds(&self, name: &'static str) -> Result<Option<u64>, TokenError> {
        self.0.contains_key(name).then(|| self.seconds(name)).transpose()
    }

    fn jti(&self) -> Result<&'a str, TokenError> {
        let id = self.text("jti")?;
        if (1..=JTI_BYTES_MAX).contains(&id.len()) { Ok(id) } else { Err(TokenError::Claim("jti")) }
    }

    /// The scopes; `None` if the claim is absent.
    fn scopes(&self) -> Result<Option<Vec<Scope>>, TokenError> {
        self.0.contains_key("scope").then(|| read_scopes(self.text("scope")?)).transpose()
    }

    /// `aud` as one text: in a list, others could be meant too.
    fn audience(&self) -> Result<&'a str, TokenError> {
        match self.0.get("aud") {
            Some(Value::String(one)) => Ok(one),
            _ => Err(TokenError::Claim("aud")),
        }
    }
}
