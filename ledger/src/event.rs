//! What authors sign: seven kinds of events and their canonical text.
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt::{self, Write};
use core::str::FromStr;

use bincode::{Decode, Encode};

use crate::id::{Domain, EventId, FederationId, Hex, IdentityId, KeyHash, Name, NoteHash, from_hex};
use crate::key::PublicKey;
use crate::limits;
use crate::text::{Fields, TextError};
use crate::time::{Day, Millis};

/// First line of an event's text: tells it from everything else that is signed.
pub const EVENT_FORMAT: &str = "fama.event/1";

/// Eight random bytes that make two otherwise equal events two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Nonce(pub [u8; 8]);

/// A value that is not one of the words listed, or not of the form asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WordError(&'static str);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident, $rule:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The word as texts spell it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Every word there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
        }

        impl FromStr for $name {
            type Err = WordError;
            fn from_str(text: &str) -> Result<Self, WordError> {
                match text { $($word => Ok(Self::$variant),)* _ => Err(WordError($rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

words! {
    /// Why a key was revoked.
    RevokeReason, "want key_compromised, superseded, retired or unspecified" {
        /// Somebody else has it.
        KeyCompromised = "key_compromised",
        /// Another key took its place.
        Superseded = "superseded",
        /// The agent is gone.
        Retired = "retired",
        /// Not said.
        Unspecified = "unspecified",
    }
    /// How an operator checked that a provider speaks for its domain.
    Method, "want dns, https or manual" {
        /// A DNS record.
        Dns = "dns",
        /// A file served over HTTPS.
        Https = "https",
        /// By hand.
        Manual = "manual",
    }
    /// Why an operator no longer sponsors a provider.
    DismissReason, "want misconduct, key_compromised, expired or unspecified" {
        /// It attested what is not so.
        Misconduct = "misconduct",
        /// Somebody else has its key.
        KeyCompromised = "key_compromised",
        /// Its time is over.
        Expired = "expired",
        /// Not said.
        Unspecified = "unspecified",
    }
    /// The kinds of events.
    Kind, "want register, rotate, revoke, attest, retract, admit or dismiss" {
        /// A new identity.
        Register = "register",
        /// A new key for an identity.
        Rotate = "rotate",
        /// The end of a key.
        Revoke = "revoke",
        /// Karma given.
        Attest = "attest",
        /// Karma taken back.
        Retract = "retract",
        /// An operator sponsors a provider.
        Admit = "admit",
        /// An operator sponsors it no longer.
        Dismiss = "dismiss",
    }
}

macro_rules! slugs {
    ($($(#[$doc:meta])* $name:ident, $max:expr, $rule:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = WordError;
            fn from_str(text: &str) -> Result<Self, WordError> {
                let slug = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
                let ok = (1..=$max).contains(&text.len()) && text.bytes().all(slug);
                if ok { Ok(Self(text.to_owned())) } else { Err(WordError($rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

slugs! {
    /// The name of a service, as its sponsors call it.
    Service, limits::SERVICE_BYTES_MAX, "want 1 to 64 of a-z 0-9 . _ -";
    /// What an attestation is about.
    Context, limits::CONTEXT_BYTES_MAX, "want 1 to 32 of a-z 0-9 . _ -";
}

impl FromStr for Nonce {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        from_hex(text).map(Self).map_err(|_| WordError("want 16 lower-case hex digits"))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

/// An event: one statement, one canonical text, one id.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Event {
    /// The federation that it is meant for; valid nowhere else.
    pub federation: FederationId,
    /// What it says.
    pub action: Action,
    /// When its author made it, by the author's clock.
    pub created: Millis,
    /// Chosen at random.
    pub nonce: Nonce,
}

/// What an event says. The fields stand in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Action {
    /// Makes an identity, signed by `key`.
    Register {
        /// Where it will live.
        home: Domain,
        /// Its name there.
        name: Name,
        /// Its first key.
        key: PublicKey,
        /// Commits to the key after that.
        next: Option<KeyHash>,
        /// Commits to a note with a bio.
        note: Option<NoteHash>,
    },
    /// Gives an identity its next key.
    Rotate {
        /// The identity's home.
        home: Domain,
        /// The identity.
        identity: IdentityId,
        /// The new key's version; the first key has version 1.
        version: u32,
        /// The new key.
        key: PublicKey,
        /// Commits to the key after that.
        next: Option<KeyHash>,
    },
    /// Ends a key, signed by that key or by the next one.
    Revoke {
        /// The identity's home.
        home: Domain,
        /// The identity.
        identity: IdentityId,
        /// The version of the key that ends.
        version: u32,
        /// The key that ends.
        key: PublicKey,
        /// Why.
        reason: RevokeReason,
    },
    /// Gives karma.
    Attest {
        /// The issuer's home.
        home: Domain,
        /// Who gives it.
        issuer: IdentityId,
        /// Who gets it.
        subject: IdentityId,
        /// How much, from -`max_delta` to `max_delta`, not 0.
        delta: i32,
        /// What for.
        context: Option<Context>,
        /// Commits to a note with reason and reference.
        note: Option<NoteHash>,
    },
    /// Takes an attestation back.
    Retract {
        /// The issuer's home.
        home: Domain,
        /// Who gave it.
        issuer: IdentityId,
        /// Who got it.
        subject: IdentityId,
        /// The UTC date of the attestation's `created`.
        day: Day,
        /// The attestation.
        attestation: EventId,
    },
    /// Sponsors a provider, signed by the operator's node key.
    Admit {
        /// Who sponsors.
        operator: Domain,
        /// Who may attest.
        provider: IdentityId,
        /// The service that it is.
        service: Service,
        /// The service's domain.
        domain: Domain,
        /// How the operator checked that.
        method: Method,
        /// The first of the provider's numbers that counts.
        from: u64,
    },
    /// Ends a sponsorship, signed by the operator's node key.
    Dismiss {
        /// Who sponsored.
        operator: Domain,
        /// Who was sponsored.
        provider: IdentityId,
        /// The service that it is.
        service: Service,
        /// The service's domain.
        domain: Domain,
        /// The first of the provider's numbers that counts no longer.
        from: u64,
        /// Why.
        reason: DismissReason,
    },
}

impl Action {
    /// Which kind this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Register { .. } => Kind::Register,
            Self::Rotate { .. } => Kind::Rotate,
            Self::Revoke { .. } => Kind::Revoke,
            Self::Attest { .. } => Kind::Attest,
            Self::Retract { .. } => Kind::Retract,
            Self::Admit { .. } => Kind::Admit,
            Self::Dismiss { .. } => Kind::Dismiss,
        }
    }

    /// The home that the event acts in; for statements, the operator whose log takes them.
    #[must_use]
    pub const fn place(&self) -> &Domain {
        match self {
            Self::Register { home, .. }
            | Self::Rotate { home, .. }
            | Self::Revoke { home, .. }
            | Self::Attest { home, .. }
            | Self::Retract { home, .. } => home,
            Self::Admit { operator, .. } | Self::Dismiss { operator, .. } => operator,
        }
    }

    /// The note that the event commits to.
    #[must_use]
    pub const fn note(&self) -> Option<NoteHash> {
        match self {
            Self::Register { note, .. } | Self::Attest { note, .. } => *note,
            _ => None,
        }
    }
}

impl Event {
    /// The canonical text: what is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        self.write(&mut text).expect("a String takes all that is written to it");
        text
    }

    /// BLAKE3-256 of the canonical text.
    #[must_use]
    pub fn id(&self) -> EventId {
        EventId(*blake3::hash(self.text().as_bytes()).as_bytes())
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{EVENT_FORMAT}\nfederation: {}\nkind: {}", self.federation, self.action.kind())?;
        write_action(out, &self.action)?;
        writeln!(out, "created: {}\nnonce: {}", self.created, self.nonce)
    }

    /// Reads a canonical text.
    ///
    /// # Errors
    /// [`TextError`] names the first line that is wrong and why.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let mut fields = Fields::open(text, EVENT_FORMAT, limits::TEXT_BYTES_MAX)?;
        let federation = fields.parse("federation")?;
        let kind = fields.parse("kind")?;
        let action = read_action(&mut fields, kind)?;
        let created = fields.parse("created")?;
        let nonce = fields.parse("nonce")?;
        fields.close()?;
        Ok(Self { federation, action, created, nonce })
    }
}

fn write_optional(out: &mut String, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| writeln!(out, "{name}: {value}"))
}

fn write_hash(out: &mut String, name: &str, hash: Option<impl fmt::Display>) -> fmt::Result {
    hash.map_or(Ok(()), |hash| writeln!(out, "{name}: sha256:{hash}"))
}

fn write_action(out: &mut String, action: &Action) -> fmt::Result {
    match action {
        Action::Register { home, name, key, next, note } => {
            writeln!(out, "home: {home}\nname: {name}\nkey: {key}")?;
            write_hash(out, "next", *next)?;
            write_hash(out, "note", *note)
        }
        Action::Rotate { home, identity, version, key, next } => {
            writeln!(out, "home: {home}\nidentity: {identity}\nversion: {version}\nkey: {key}")?;
            write_hash(out, "next", *next)
        }
        Action::Revoke { home, identity, version, key, reason } => {
            writeln!(out, "home: {home}\nidentity: {identity}\nversion: {version}\nkey: {key}\nreason: {reason}")
        }
        Action::Attest { home, issuer, subject, delta, context, note } => {
            writeln!(out, "home: {home}\nissuer: {issuer}\nsubject: {subject}\ndelta: {delta}")?;
            write_optional(out, "context", context.as_ref())?;
            write_hash(out, "note", *note)
        }
        Action::Retract { home, issuer, subject, day, attestation } => {
            writeln!(out, "home: {home}\nissuer: {issuer}\nsubject: {subject}\nday: {day}\nattestation: {attestation}")
        }
        Action::Admit { operator, provider, service, domain, method, from } => {
            write_triple(out, operator, provider, service, domain)?;
            writeln!(out, "method: {method}\nfrom: {from}")
        }
        Action::Dismiss { operator, provider, service, domain, from, reason } => {
            write_triple(out, operator, provider, service, domain)?;
            writeln!(out, "from: {from}\nreason: {reason}")
        }
    }
}

fn write_triple(
    out: &mut String,
    operator: &Domain,
    provider: &IdentityId,
    service: &Service,
    domain: &Domain,
) -> fmt::Result {
    writeln!(out, "operator: {operator}\nprovider: {provider}\nservice: {service}\ndomain: {domain}")
}

fn read_action(fields: &mut Fields<'_>, kind: Kind) -> Result<Action, TextError> {
    Ok(match kind {
        Kind::Register => Action::Register {
            home: fields.parse("home")?,
            name: fields.parse("name")?,
            key: fields.parse("key")?,
            next: read_hash(fields, "next")?,
            note: read_hash(fields, "note")?,
        },
        Kind::Rotate => Action::Rotate {
            home: fields.parse("home")?,
            identity: fields.parse("identity")?,
            version: read_version(fields)?,
            key: fields.parse("key")?,
            next: read_hash(fields, "next")?,
        },
        Kind::Revoke => Action::Revoke {
            home: fields.parse("home")?,
            identity: fields.parse("identity")?,
            version: read_version(fields)?,
            key: fields.parse("key")?,
            reason: fields.parse("reason")?,
        },
        Kind::Attest => Action::Attest {
            home: fields.parse("home")?,
            issuer: fields.parse("issuer")?,
            subject: fields.parse("subject")?,
            delta: fields.integer("delta")?,
            context: read_context(fields)?,
            note: read_hash(fields, "note")?,
        },
        Kind::Retract => Action::Retract {
            home: fields.parse("home")?,
            issuer: fields.parse("issuer")?,
            subject: fields.parse("subject")?,
            day: fields.parse("day")?,
            attestation: fields.parse("attestation")?,
        },
        Kind::Admit => Action::Admit {
            operator: fields.parse("operator")?,
            provider: fields.parse("provider")?,
            service: fields.parse("service")?,
            domain: fields.parse("domain")?,
            method: fields.parse("method")?,
            from: read_from(fields)?,
        },
        Kind::Dismiss => Action::Dismiss {
            operator: fields.parse("operator")?,
            provider: fields.parse("provider")?,
            service: fields.parse("service")?,
            domain: fields.parse("domain")?,
            from: read_from(fields)?,
            reason: fields.parse("reason")?,
        },
    })
}

fn read_hash<T: FromStr<Err: fmt::Display>>(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Result<Option<T>, TextError> {
    let value = fields.optional(name)?;
    value.map(|value| fields.sha256(name, value)).transpose()
}

fn read_context(fields: &mut Fields<'_>) -> Result<Option<Context>, TextError> {
    let value = fields.optional("context")?;
    value.map(|value| fields.typed("context", value)).transpose()
}

fn read_version(fields: &mut Fields<'_>) -> Result<u32, TextError> {
    match fields.integer("version")? {
        0 => fields.refuse("version", "versions count from 1"),
        version => Ok(version),
    }
}

fn read_from(fields: &mut Fields<'_>) -> Result<u64, TextError> {
    let from: i64 = fields.integer("from")?;
    u64::try_from(from).or_else(|_| fields.refuse("from", "want 0 or more"))
}
