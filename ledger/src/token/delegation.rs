//! Delegations: an identity's signed word that a process with a key of its own acts for it. They stand in no log.
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::{Claims, TokenError, in_force, lifetime, scope_text};
use crate::event::{Scope, Service};
use crate::id::{FederationId, did};
use crate::jose::{self, JoseError, JoseKey, Jws};
use crate::key::PublicKey;
use crate::profile::Profile;
use crate::secret::SecretKey;

/// The type of a delegation.
pub const DELEGATION: &str = "fama-delegation+jwt";
/// Longest life of a delegation, in seconds. One alone cannot be withdrawn.
pub const DELEGATION_SECONDS_MAX: u64 = 86_400;
/// Most resources of one delegation.
const RESOURCES_MAX: usize = 16;

/// A delegation that holds: its key acts for the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The DID of the identity that delegates.
    pub subject: String,
    /// The process: 1 to 64 of `a-z 0-9 . _ -`.
    pub process: Service,
    /// The key with which it signs: on Ed25519 or P-256.
    pub key: JoseKey,
    /// What it may do, at most what the identity may; `None`: all of it.
    pub scopes: Option<Vec<Scope>>,
    /// Where it may do it; `None`: everywhere.
    pub resources: Option<Vec<String>>,
    /// When it was signed, in seconds since 1970.
    pub issued_at: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// Its own name.
    pub id: String,
}

/// The `aud` of a federation's delegations: no listener's, so that a delegation is never taken for an assertion.
pub(super) fn audience(federation: FederationId) -> String {
    format!("urn:fama:{federation}")
}

impl Delegation {
    /// Checks a delegation by the identity with this DID, whose key in force is `key`.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check(
        text: &str,
        (did, key): (&str, &PublicKey),
        federation: FederationId,
        now: u64,
    ) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        jws.expect_type(DELEGATION)?;
        let claims = Claims(jws.claims());
        let subject = claims.text("iss")?;
        if subject != did {
            return Err(TokenError::Identity { found: subject.to_owned(), wanted: did.to_owned() });
        }
        let found = claims.audience()?;
        if found != audience(federation) {
            return Err(TokenError::Audience { found: found.to_owned(), wanted: audience(federation) });
        }
        jws.verify(&JoseKey::Ledger(*key))?;
        let delegation = Self::read(&jws)?;
        lifetime((delegation.issued_at, delegation.expires), DELEGATION_SECONDS_MAX, now)?;
        Ok(delegation)
    }

    /// What a delegation says, whoever signed it and whenever it ends: for the process that has it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn unverified(text: &str) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        jws.expect_type(DELEGATION)?;
        Self::read(&jws)
    }

    fn read(jws: &Jws) -> Result<Self, TokenError> {
        let claims = Claims(jws.claims());
        let jwk = jws.claims().get("cnf").and_then(|cnf| cnf.get("jwk")).ok_or(TokenError::Claim("cnf"))?;
        let own = JoseKey::from_jwk(jwk)?;
        if matches!(own, JoseKey::Ledger(PublicKey::Secp256k1(_))) {
            return Err(JoseError::Key("a process has a key on Ed25519 or P-256").into());
        }
        Ok(Self {
            subject: claims.text("iss")?.to_owned(),
            process: claims.text("sub")?.parse().map_err(|_| TokenError::Claim("sub"))?,
            key: own,
            scopes: claims.scopes()?,
            resources: resources(jws.claims().get("resources"))?,
            issued_at: claims.seconds("iat")?,
            expires: claims.seconds("exp")?,
            id: claims.jti()?.to_owned(),
        })
    }

    /// Checks a delegation by the agent of this profile, whose key is in force and not suspended.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn check_by(text: &str, agent: &Profile, federation: FederationId, now: u64) -> Result<Self, TokenError> {
        in_force(agent)?;
        Self::check(text, (&did(&agent.found.home, &agent.found.id), &agent.current.key), federation, now)
    }

    /// Refuses a resource that the delegation does not name.
    ///
    /// # Errors
    /// [`TokenError::Resource`].
    pub fn expect_resource(&self, resource: &str) -> Result<(), TokenError> {
        match &self.resources {
            Some(all) if !all.iter().any(|one| one == resource) => Err(TokenError::Resource(resource.to_owned())),
            _ => Ok(()),
        }
    }

    /// Signs the delegation with the identity's key in force.
    #[must_use]
    pub fn sign(&self, federation: FederationId, key: &SecretKey) -> String {
        let algorithm = JoseKey::Ledger(key.public()).algorithms().first().copied().unwrap_or_default();
        let header = json!({"alg": algorithm, "typ": DELEGATION});
        let mut claims = json!({
            "iss": self.subject, "aud": audience(federation), "sub": self.process.as_str(),
            "cnf": {"jwk": self.key.to_jwk()}, "iat": self.issued_at, "exp": self.expires, "jti": self.id,
        });
        if let Some(more) = claims.as_object_mut() {
            if let Some(scopes) = &self.scopes {
                more.insert("scope".to_owned(), scope_text(scopes).into());
            }
            if let Some(resources) = &self.resources {
                more.insert("resources".to_owned(), json!(resources));
            }
        }
        jose::sign(&header, &claims, |message| jose::signature_bytes(&key.sign(message)))
    }
}

fn resources(value: Option<&Value>) -> Result<Option<Vec<String>>, TokenError> {
    let Some(value) = value else { return Ok(None) };
    let wrong = TokenError::Claim("resources");
    let all = value.as_array().filter(|all| (1..=RESOURCES_MAX).contains(&all.len())).ok_or(wrong.clone())?;
    let all = all.iter().map(|one| one.as_str().map(ToString::to_string)).collect::<Option<Vec<_>>>();
    all.map(Some).ok_or(wrong)
}
