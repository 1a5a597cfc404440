//! The text that a shell signs to get a token: lines, as events have them.
use alloc::string::String;
use core::fmt::{self, Write};

use crate::event::Scope;
use crate::id::{FederationId, IdentityId};
use crate::text::{Fields, TextError, check_value};
use crate::time::Millis;

/// The first line of a login's text; no other text that a key signs begins with it.
pub const LOGIN_FORMAT: &str = "fama.login/1";
/// Longest text of a login, in bytes.
pub const LOGIN_BYTES_MAX: usize = 8_192;

/// What an identity signs for one issuer, to get one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginText {
    /// The federation of the identity.
    pub federation: FederationId,
    /// The issuer that asked for it, as the manifest names it.
    pub issuer: String,
    /// Who logs in.
    pub identity: IdentityId,
    /// The service that the token is for.
    pub resource: String,
    /// What it shall allow; `None`: all that is granted.
    pub scopes: Option<alloc::vec::Vec<Scope>>,
    /// What the issuer recognizes as its own.
    pub challenge: String,
    /// When it ends, by the issuer's clock.
    pub expires: Millis,
}

impl LoginText {
    /// The text, which is what is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        self.write(&mut text).expect("writing to a String cannot fail");
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let Self { federation, issuer, identity, resource, scopes, challenge, expires } = self;
        writeln!(out, "{LOGIN_FORMAT}\nfederation: {federation}\nissuer: {issuer}\nidentity: {identity}")?;
        writeln!(out, "resource: {resource}")?;
        if let Some(scopes) = scopes {
            writeln!(out, "scope: {}", super::scope_text(scopes))?;
        }
        writeln!(out, "challenge: {challenge}\nexpires: {expires}")
    }

    /// Reads a text; there is one for each login.
    ///
    /// # Errors
    /// [`TextError`] names the first wrong line and the reason.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let mut fields = Fields::open(text, LOGIN_FORMAT, LOGIN_BYTES_MAX)?;
        let federation = fields.parse("federation")?;
        let issuer = fields.text("issuer")?.into();
        let identity = fields.parse("identity")?;
        let resource = fields.text("resource")?.into();
        let scopes = match fields.optional("scope")? {
            Some(text) => match super::read_scopes(text) {
                Ok(scopes) => Some(scopes),
                Err(_) => return fields.refuse("scope", "want words with single spaces between them, each once"),
            },
            None => None,
        };
        let challenge = fields.text("challenge")?.into();
        let expires = fields.parse("expires")?;
        fields.close()?;
        Ok(Self { federation, issuer, identity, resource, scopes, challenge, expires })
    }

    /// The lines that a challenge is a MAC of: all but its own.
    #[must_use]
    pub fn unchallenged(&self) -> String {
        Self { challenge: String::new(), ..self.clone() }.text()
    }

    /// Whether every value is one that a text may have.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        [&self.issuer, &self.resource].into_iter().all(|value| check_value(value).is_ok())
    }
}
