//! What agents and their processes sign: assertions for an issuer, calls to a service, and proofs that a token is theirs.
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use super::{Claims, Delegation, SKEW_SECONDS, TokenError, in_force, lifetime};
use crate::id::{FederationId, did};
use crate::jose::{JoseError, JoseKey, Jws};
use crate::key::PublicKey;
use crate::profile::Profile;

/// How old an assertion may be, and how far its end may be ahead if it does not say when it was made, in seconds.
const ASSERTION_AGE_SECONDS: u64 = 300;
/// Longest life of an assertion that says when it was made, in seconds: some libraries use an hour.
const ASSERTION_SECONDS_MAX: u64 = 3_600;
/// Longest life of a call, in seconds.
pub const CALL_SECONDS_MAX: u64 = 60;
/// How old a DPoP proof may be, in seconds.
const DPOP_AGE_SECONDS: u64 = 60;
/// The types that an assertion may have besides none.
const ASSERTION_TYPES: [&str; 2] = ["jwt", "client-authentication+jwt"];
/// The type of a call.
pub const AGENT_CALL: &str = "fama-agent+jwt";
/// The type of a DPoP proof (RFC 9449).
const DPOP: &str = "dpop+jwt";
/// The claim in which a delegation travels.
pub const DELEGATION_CLAIM: &str = "fama_delegation";

/// An assertion (RFC 7523) whose form, audience and times are right; who signed it is not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    jws: Jws,
    /// The name of the identity: a handle, an id or a DID, as the client wrote it.
    pub subject: String,
    /// Its own name: to be used once for each identity.
    pub id: String,
    /// From when on it is refused whether it was used or not, in seconds since 1970.
    pub ends: u64,
    delegation: Option<String>,
}

impl Assertion {
    /// Reads an assertion that is addressed to `issuer`, and to nobody else.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(text: &str, issuer: &str, now: u64) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        if let Some(found) = jws.token_type().filter(|found| !ASSERTION_TYPES.contains(&found.as_str())) {
            return Err(JoseError::Type { found, wanted: "JWT" }.into());
        }
        let claims = Claims(jws.claims());
        let (subject, by) = (claims.text("sub")?.to_owned(), claims.text("iss")?);
        if by != subject {
            return Err(TokenError::Identity { found: by.to_owned(), wanted: subject });
        }
        let found = claims.audience()?;
        if found != issuer {
            return Err(TokenError::Audience { found: found.to_owned(), wanted: issuer.to_owned() });
        }
        let id = claims.jti()?.to_owned();
        let ends = assertion_ends(&claims, now)?;
        let delegation = claims.0.get(DELEGATION_CLAIM).map(|one| one.as_str().map(ToOwned::to_owned));
        let delegation = delegation.map(|one| one.ok_or(TokenError::Claim(DELEGATION_CLAIM))).transpose()?;
        Ok(Self { jws, subject, id, ends, delegation })
    }

    /// Checks who signed it: the identity with this DID by its key in force, or a process by a delegation, which the
    /// assertion or `beside` brings.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(
        &self,
        (did, key): (&str, &PublicKey),
        federation: FederationId,
        beside: Option<&str>,
        now: u64,
    ) -> Result<Option<Delegation>, TokenError> {
        let delegation = match (self.delegation.as_deref(), beside) {
            (Some(_), Some(_)) => return Err(TokenError::Claim(DELEGATION_CLAIM)),
            (own, beside) => own.or(beside),
        };
        signed_by(&self.jws, (did, key), federation, delegation, now)
    }
}

/// Verifies by the delegation's key if there is one, else by the identity's.
fn signed_by(
    jws: &Jws,
    identity: (&str, &PublicKey),
    federation: FederationId,
    delegation: Option<&str>,
    now: u64,
) -> Result<Option<Delegation>, TokenError> {
    let delegation = delegation.map(|text| Delegation::check(text, identity, federation, now)).transpose()?;
    jws.verify(&delegation.as_ref().map_or(JoseKey::Ledger(*identity.1), |one| one.key))?;
    Ok(delegation)
}

/// Checks the times of an assertion; from when on it is refused.
fn assertion_ends(claims: &Claims<'_>, now: u64) -> Result<u64, TokenError> {
    let (issued, expires) = (claims.optional_seconds("iat")?, claims.seconds("exp")?);
    if let Some(begins) = claims.optional_seconds("nbf")?.filter(|begins| *begins > now.saturating_add(SKEW_SECONDS)) {
        return Err(TokenError::Early(begins.saturating_sub(now)));
    }
    let ends = match issued {
        Some(issued) => {
            if issued > now.saturating_add(SKEW_SECONDS) {
                return Err(TokenError::Early(issued.saturating_sub(now)));
            }
            let found = expires.saturating_sub(issued);
            if found > ASSERTION_SECONDS_MAX {
                return Err(TokenError::Lifetime { found, max: ASSERTION_SECONDS_MAX });
            }
            expires.min(issued.saturating_add(ASSERTION_AGE_SECONDS))
        }
        None => {
            let found = expires.saturating_sub(now);
            if found > ASSERTION_AGE_SECONDS.saturating_add(SKEW_SECONDS) {
                return Err(TokenError::Lifetime { found, max: ASSERTION_AGE_SECONDS });
            }
            expires
        }
    };
    let ends = ends.saturating_add(SKEW_SECONDS);
    if now >= ends { Err(TokenError::Expired(now.saturating_sub(ends))) } else { Ok(ends) }
}

/// A call that an agent or its process signed for one service, without an issuer.
///
/// The service remembers `id` until `expires`: it alone sees all uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCall {
    /// The agent's DID.
    pub subject: String,
    /// The delegation by which a process signed.
    pub delegation: Option<Delegation>,
    /// Its own name, to be used once.
    pub id: String,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

impl AgentCall {
    /// The DID of whoever says to have signed a call: whose profile is needed to check it.
    ///
    /// # Errors
    /// [`TokenError`]: it is no call.
    pub fn subject_of(text: &str) -> Result<String, TokenError> {
        let jws = Jws::parse(text)?;
        jws.expect_type(AGENT_CALL)?;
        Claims(jws.claims()).text("iss").map(ToOwned::to_owned)
    }

    /// Checks a call to `resource` by the agent of this profile, which a proof of at most the age that the service accepts
    /// showed.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(
        text: &str,
        profile: &Profile,
        federation: FederationId,
        resource: &str,
        now: u64,
    ) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        jws.expect_type(AGENT_CALL)?;
        let claims = Claims(jws.claims());
        let (subject, agent) = (claims.text("iss")?, did(&profile.found.home, &profile.found.id));
        if subject != agent {
            return Err(TokenError::Identity { found: subject.to_owned(), wanted: agent });
        }
        let found = claims.audience()?;
        if found != resource {
            return Err(TokenError::Audience { found: found.to_owned(), wanted: resource.to_owned() });
        }
        in_force(profile)?;
        let delegation =
            claims.0.get(DELEGATION_CLAIM).map(|one| one.as_str().ok_or(TokenError::Claim(DELEGATION_CLAIM)));
        let delegation = signed_by(&jws, (&agent, &profile.current.key), federation, delegation.transpose()?, now)?;
        if let Some(delegation) = &delegation {
            delegation.expect_resource(resource)?;
        }
        let (issued, expires) = (claims.seconds("iat")?, claims.seconds("exp")?);
        lifetime((issued, expires), CALL_SECONDS_MAX, now)?;
        Ok(Self { subject: agent, delegation, id: claims.jti()?.to_owned(), expires })
    }
}

/// A DPoP proof (RFC 9449): who sends this request has the key with this thumbprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpopProof {
    /// The thumbprint of the proof's key (RFC 7638).
    pub key_thumbprint: String,
    /// Its own name, to be used once.
    pub id: String,
    /// From when on it is refused, in seconds since 1970.
    pub ends: u64,
}

impl DpopProof {
    /// Checks the proof of a request. `token`: the access token that is used with it; `None` where one is asked for.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(text: &str, method: &str, uri: &str, token: Option<&str>, now: u64) -> Result<Self, TokenError> {
        let (jws, key) = Jws::parse_with_key(text)?;
        jws.expect_type(DPOP)?;
        if matches!(key, JoseKey::Ledger(PublicKey::Secp256k1(_))) {
            return Err(JoseError::Key("a DPoP key is on Ed25519 or P-256").into());
        }
        jws.verify(&key)?;
        let claims = Claims(jws.claims());
        if claims.text("htm")? != method {
            return Err(TokenError::Dpop("method"));
        }
        if without_query(claims.text("htu")?) != without_query(uri) {
            return Err(TokenError::Dpop("address"));
        }
        if let Some(token) = token {
            let hash = Base64UrlUnpadded::encode_string(&Sha256::digest(token.as_bytes()));
            if claims.text("ath")? != hash {
                return Err(TokenError::Dpop("token"));
            }
        }
        let issued = claims.seconds("iat")?;
        let ends = issued.saturating_add(DPOP_AGE_SECONDS);
        lifetime((issued, ends), DPOP_AGE_SECONDS, now)?;
        Ok(Self { key_thumbprint: key.thumbprint(), id: claims.jti()?.to_owned(), ends })
    }
}

/// A URI without query and fragment.
fn without_query(uri: &str) -> String {
    uri.split(['?', '#']).next().unwrap_or_default().to_string()
}
