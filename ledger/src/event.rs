//! What authors sign: eleven kinds of events and their canonical text.
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

/// First line of an event's text; no other text that a key signs begins with it.
pub const EVENT_FORMAT: &str = "fama.event/1";

/// Eight random bytes that make otherwise equal events distinct.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Nonce(pub [u8; 8]);

/// A value that is not one of the allowed words, or not of the required form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WordError(&'static str);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident, $rule:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The value's spelling in texts.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Every value, in the order of the codec.
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
        /// Someone else has the key.
        KeyCompromised = "key_compromised",
        /// Another key replaced it.
        Superseded = "superseded",
        /// The agent no longer operates.
        Retired = "retired",
        /// No reason stated.
        Unspecified = "unspecified",
    }
    /// How an operator checked that a provider speaks for its domain.
    Method, "want dns, https or manual" {
        /// By a DNS record of the domain.
        Dns = "dns",
        /// By a file that the domain serves over HTTPS.
        Https = "https",
        /// By a person.
        Manual = "manual",
    }
    /// Why an operator no longer sponsors a provider.
    DismissReason, "want misconduct, key_compromised, expired or unspecified" {
        /// The provider made false attestations.
        Misconduct = "misconduct",
        /// Someone else has the provider's key.
        KeyCompromised = "key_compromised",
        /// The agreed time is over.
        Expired = "expired",
        /// No reason stated.
        Unspecified = "unspecified",
    }
    /// Why an operator suspended an identity.
    SuspendReason, "want misconduct, key_compromised or unspecified" {
        /// The agent did harm.
        Misconduct = "misconduct",
        /// Someone else seems to have the agent's key.
        KeyCompromised = "key_compromised",
        /// No reason stated.
        Unspecified = "unspecified",
    }
    /// The kinds of events.
    Kind, "want register, rotate, revoke, attest, retract, admit, dismiss, grant, ungrant, suspend or resume" {
        /// Registers an identity.
        Register = "register",
        /// Replaces an identity's key.
        Rotate = "rotate",
        /// Ends a key.
        Revoke = "revoke",
        /// Gives karma, positive or negative.
        Attest = "attest",
        /// Takes an attestation back.
        Retract = "retract",
        /// Starts an operator's sponsorship of a provider.
        Admit = "admit",
        /// Ends a sponsorship.
        Dismiss = "dismiss",
        /// Lets an agent do something at a service.
        Grant = "grant",
        /// Takes a grant back.
        Ungrant = "ungrant",
        /// An operator's word against an identity's use.
        Suspend = "suspend",
        /// Takes a suspension back.
        Resume = "resume",
    }
}

macro_rules! slugs {
    ($($(#[$doc:meta])* $name:ident, $max:expr, $rule:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
        pub struct $name(String);

        impl $name {
            /// The value's spelling in texts.
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
    /// The name that sponsors give a service.
    Service, limits::SERVICE_BYTES_MAX, "want 1 to 64 of a-z 0-9 . _ -";
    /// What an attestation is about, as one word.
    Context, limits::CONTEXT_BYTES_MAX, "want 1 to 32 of a-z 0-9 . _ -";
}

/// What a grant lets an agent do at the service that gives it: a scope-token of RFC 6749, of at most 64 bytes. The same
/// word means nothing at another service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct Scope(String);

impl Scope {
    /// The value's spelling in texts and tokens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let token = |c: u8| matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let ok = (1..=limits::SCOPE_BYTES_MAX).contains(&text.len()) && text.bytes().all(token);
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError("want 1 to 64 visible characters of ASCII, no \" and no \\"))
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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

/// An event: one statement with one canonical text and one id.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Event {
    /// The only federation in which the event is valid.
    pub federation: FederationId,
    /// What the event states.
    pub action: Action,
    /// When the author made it, by the author's clock.
    pub created: Millis,
    /// Drawn at random by the author.
    pub nonce: Nonce,
}

/// What an event states. The fields are in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Action {
    /// Registers an identity; signed by `key`.
    Register {
        /// The home of the new identity; it never changes.
        home: Domain,
        /// Its name in that home.
        name: Name,
        /// Its first key, version 1.
        key: PublicKey,
        /// Hash of the key after that, if the author commits to one.
        next: Option<KeyHash>,
        /// Hash of a note with a bio.
        note: Option<NoteHash>,
    },
    /// Replaces an identity's key.
    Rotate {
        /// The identity's home.
        home: Domain,
        /// Whose key is replaced.
        identity: IdentityId,
        /// The new key's version; the first key has version 1.
        version: u32,
        /// The new key.
        key: PublicKey,
        /// Hash of the key after that, if the author commits to one.
        next: Option<KeyHash>,
    },
    /// Ends a key; signed by that key or by the next one.
    Revoke {
        /// The identity's home.
        home: Domain,
        /// Whose key is revoked.
        identity: IdentityId,
        /// The version of the key that ends.
        version: u32,
        /// The key that ends.
        key: PublicKey,
        /// The stated reason.
        reason: RevokeReason,
    },
    /// Gives karma.
    Attest {
        /// The issuer's home.
        home: Domain,
        /// The provider that gives it.
        issuer: IdentityId,
        /// The identity that receives it.
        subject: IdentityId,
        /// Points of karma: from -`max_delta` to `max_delta`, not 0.
        delta: i32,
        /// What the karma is for.
        context: Option<Context>,
        /// Hash of a note with reason and reference.
        note: Option<NoteHash>,
    },
    /// Takes an attestation back.
    Retract {
        /// The issuer's home.
        home: Domain,
        /// The provider that gave it.
        issuer: IdentityId,
        /// The identity that received it.
        subject: IdentityId,
        /// The UTC date of the attestation's `created`.
        day: Day,
        /// The attestation to take back.
        attestation: EventId,
    },
    /// Sponsors a provider; signed by the operator's node key.
    Admit {
        /// The operator that sponsors.
        operator: Domain,
        /// The identity that may attest.
        provider: IdentityId,
        /// The service that the provider speaks for.
        service: Service,
        /// The service's domain.
        domain: Domain,
        /// How the operator checked that the provider speaks for the domain.
        method: Method,
        /// The first of the provider's attestation and retraction numbers that counts.
        from: u64,
    },
    /// Ends a sponsorship; signed by the operator's node key.
    Dismiss {
        /// The operator that sponsored.
        operator: Domain,
        /// The identity that was sponsored.
        provider: IdentityId,
        /// The service that the provider speaks for.
        service: Service,
        /// The service's domain.
        domain: Domain,
        /// The first of the provider's attestation and retraction numbers that no longer counts.
        from: u64,
        /// The stated reason.
        reason: DismissReason,
    },
    /// Lets an agent do something at a service.
    Grant {
        /// The issuer's home.
        home: Domain,
        /// The service that lets it.
        issuer: IdentityId,
        /// The agent that may.
        subject: IdentityId,
        /// What it may do there.
        scope: Scope,
        /// When the grant ends, by the clock of whoever reads it; the fold never judges it.
        expires: Option<Millis>,
        /// Hash of a note for people.
        note: Option<NoteHash>,
    },
    /// Takes a grant back.
    Ungrant {
        /// The issuer's home.
        home: Domain,
        /// The service that had let it.
        issuer: IdentityId,
        /// The agent that may no longer.
        subject: IdentityId,
        /// What it may no longer do there.
        scope: Scope,
    },
    /// An operator's word against an identity's use; signed by the operator's node key.
    Suspend {
        /// The operator that suspends.
        operator: Domain,
        /// Whose use is suspended.
        identity: IdentityId,
        /// The stated reason.
        reason: SuspendReason,
    },
    /// Takes a suspension back; signed by the operator's node key.
    Resume {
        /// The operator that had suspended.
        operator: Domain,
        /// Whose use is suspended no longer.
        identity: IdentityId,
    },
}

impl Action {
    /// The kind, as the text names it.
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
            Self::Grant { .. } => Kind::Grant,
            Self::Ungrant { .. } => Kind::Ungrant,
            Self::Suspend { .. } => Kind::Suspend,
            Self::Resume { .. } => Kind::Resume,
        }
    }

    /// The protocol that brought this kind of event. A log may have it once it adopted a version of that protocol.
    #[must_use]
    pub const fn protocol(&self) -> u32 {
        match self.kind() {
            Kind::Register
            | Kind::Rotate
            | Kind::Revoke
            | Kind::Attest
            | Kind::Retract
            | Kind::Admit
            | Kind::Dismiss
            | Kind::Grant
            | Kind::Ungrant
            | Kind::Suspend
            | Kind::Resume => 1,
        }
    }

    /// The home that the event acts in; for an admit, dismiss, suspend or resume, the operator that states it.
    #[must_use]
    pub const fn place(&self) -> &Domain {
        match self {
            Self::Register { home, .. }
            | Self::Rotate { home, .. }
            | Self::Revoke { home, .. }
            | Self::Attest { home, .. }
            | Self::Retract { home, .. }
            | Self::Grant { home, .. }
            | Self::Ungrant { home, .. } => home,
            Self::Admit { operator, .. }
            | Self::Dismiss { operator, .. }
            | Self::Suspend { operator, .. }
            | Self::Resume { operator, .. } => operator,
        }
    }

    /// Whether an operator states the event, and signs it with its node key. An identity signs every other one.
    #[must_use]
    pub const fn is_statement(&self) -> bool {
        matches!(self, Self::Admit { .. } | Self::Dismiss { .. } | Self::Suspend { .. } | Self::Resume { .. })
    }

    /// The note that the event commits to; only a registration, attestation or grant can have one.
    #[must_use]
    pub const fn note(&self) -> Option<NoteHash> {
        match self {
            Self::Register { note, .. } | Self::Attest { note, .. } | Self::Grant { note, .. } => *note,
            _ => None,
        }
    }
}

impl Event {
    /// The canonical text: exactly what the author signs.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        self.write(&mut text).expect("writing to a String cannot fail");
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
    /// [`TextError`] names the first wrong line and the reason.
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
        Action::Grant { home, issuer, subject, scope, expires, note } => {
            writeln!(out, "home: {home}\nissuer: {issuer}\nsubject: {subject}\nscope: {scope}")?;
            write_optional(out, "expires", *expires)?;
            write_hash(out, "note", *note)
        }
        Action::Ungrant { home, issuer, subject, scope } => {
            writeln!(out, "home: {home}\nissuer: {issuer}\nsubject: {subject}\nscope: {scope}")
        }
        Action::Suspend { operator, identity, reason } => {
            writeln!(out, "operator: {operator}\nidentity: {identity}\nreason: {reason}")
        }
        Action::Resume { operator, identity } => writeln!(out, "operator: {operator}\nidentity: {identity}"),
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
            context: read_optional(fields, "context")?,
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
        Kind::Grant => Action::Grant {
            home: fields.parse("home")?,
            issuer: fields.parse("issuer")?,
            subject: fields.parse("subject")?,
            scope: fields.parse("scope")?,
            expires: read_optional(fields, "expires")?,
            note: read_hash(fields, "note")?,
        },
        Kind::Ungrant => Action::Ungrant {
            home: fields.parse("home")?,
            issuer: fields.parse("issuer")?,
            subject: fields.parse("subject")?,
            scope: fields.parse("scope")?,
        },
        Kind::Suspend => Action::Suspend {
            operator: fields.parse("operator")?,
            identity: fields.parse("identity")?,
            reason: fields.parse("reason")?,
        },
        Kind::Resume => Action::Resume { operator: fields.parse("operator")?, identity: fields.parse("identity")? },
    })
}

fn read_hash<T: FromStr<Err: fmt::Display>>(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Result<Option<T>, TextError> {
    let value = fields.optional(name)?;
    value.map(|value| fields.sha256(name, value)).transpose()
}

fn read_optional<T: FromStr<Err: fmt::Display>>(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Result<Option<T>, TextError> {
    let value = fields.optional(name)?;
    value.map(|value| fields.typed(name, value)).transpose()
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
