//! Hashes, identifiers and domain names, each with its own type.
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use bincode::{Decode, Encode};

use crate::limits;

/// A text that is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want 64 lower-case hex digits")]
pub struct HexError;

/// Decodes exactly `N` bytes of lower-case hex.
///
/// # Errors
/// [`HexError`] for another length, upper case or any other character.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Ok(c.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(c.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(HexError),
    };
    let mut bytes = [0; N];
    let mut pairs = text.as_bytes().chunks_exact(2);
    if !text.len().is_multiple_of(2) || pairs.len() != N {
        return Err(HexError);
    }
    for (byte, pair) in bytes.iter_mut().zip(&mut pairs) {
        if let [high, low] = pair {
            *byte = (nibble(*high)? << 4) | nibble(*low)?;
        }
    }
    Ok(bytes)
}

/// Writes bytes as lower-case hex.
pub struct Hex<'a>(pub &'a [u8]);

/// The hex digit of a number below 16.
const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { nibble.wrapping_add(b'0') } else { nibble.wrapping_sub(10).wrapping_add(b'a') }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bytes in self.0.chunks(32) {
            let mut digits = [[0; 2]; 32];
            for (pair, byte) in digits.iter_mut().zip(bytes) {
                *pair = [digit(byte >> 4), digit(byte & 15)];
            }
            let text = digits.get(..bytes.len()).unwrap_or_default().as_flattened();
            f.write_str(core::str::from_utf8(text).expect("hex digits are ASCII"))?;
        }
        Ok(())
    }
}

macro_rules! hash_type {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes, in the order in which they are printed.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Hex(&self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), a, b, c, d)
            }
        }

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                from_hex(text).map(Self)
            }
        }
    )*};
}

hash_type! {
    /// BLAKE3-256 of the genesis manifest's text: identifies the federation.
    FederationId;
    /// BLAKE3-256 of a manifest's text.
    ManifestHash;
    /// BLAKE3-256 of an event's canonical text.
    EventId;
    /// SHA-256 of a note's text.
    NoteHash;
    /// SHA-256 of a public key's text: commits to the next key.
    KeyHash;
    /// RFC 6962 SHA-256 root of a log's tree.
    TreeRoot;
    /// Root of one state map, or of the list of maps that a log carries.
    StateRoot;
    /// BLAKE3-256 over the manifest and every log's head and state root: equal ids mean equal state.
    StateId;
}

/// The id of an identity: the event id of its registration.
pub type IdentityId = EventId;

/// Hex digits of the identity id that a DID shows: the first half of the id.
pub const DID_DIGITS: usize = 32;

/// Why a name or domain is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not a domain of lower-case LDH labels.
    #[error("want a domain of lower-case letters, digits and hyphens with at least one dot, at most 253 bytes")]
    Domain,
    /// Not an agent's name.
    #[error("want 3 to 50 lower-case letters and digits, words joined by single hyphens")]
    Name,
    /// Not a name and a domain joined by `@`.
    #[error("want name@home, like swift-core-maps@alpha.example")]
    Handle,
}

/// Lower-case LDH A-labels with at least one dot: names an operator, a home or a service's domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Domain(String);

impl Domain {
    /// The domain in lower case, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn label_ok(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl FromStr for Domain {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = text.len() <= limits::DOMAIN_BYTES_MAX && text.contains('.') && text.split('.').all(label_ok);
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Domain) }
    }
}

/// The name of an agent within its home, unique there forever.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Name(String);

impl Name {
    /// The name alone, without its home.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let word_ok = |word: &str| !word.is_empty() && word.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9'));
        let ok =
            (limits::NAME_BYTES_MIN..=limits::NAME_BYTES_MAX).contains(&text.len()) && text.split('-').all(word_ok);
        if ok { Ok(Self(text.to_owned())) } else { Err(NameError::Name) }
    }
}

/// `name@home`: unique in the federation, and never changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// The name, unique within the home.
    pub name: Name,
    /// The home where the name was registered.
    pub home: Domain,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.home)
    }
}

impl FromStr for Handle {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, home) = text.split_once('@').ok_or(NameError::Handle)?;
        Ok(Self { name: name.parse()?, home: home.parse()? })
    }
}

/// `did:agent:<home>:<first 32 hex digits of the identity's id>`.
#[must_use]
pub fn did(home: &Domain, identity: &IdentityId) -> String {
    let mut hex = identity.to_string();
    hex.truncate(DID_DIGITS);
    alloc::format!("did:agent:{home}:{hex}")
}

macro_rules! text_type {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}
text_type! { Domain Name }

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}
