//! An operator's durable word that it cosigns nothing more in a log until the next version of the manifest holds.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::id::{Domain, FederationId};
use crate::limits;
use crate::log::Head;
use crate::manifest::{LogId, Manifest};
use crate::signed_note::{NoteError, SignedNote, sign};
use crate::text::{Fields, TextError};

/// First line of a stand's text.
pub const STAND_FORMAT: &str = "fama.stand/1";

/// What an operator says when it stands still in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The federation.
    pub federation: FederationId,
    /// The version that is being prepared: the operator stands still until it holds.
    pub version: u32,
    /// The log.
    pub log: LogId,
    /// Who says so.
    pub operator: Domain,
    /// The largest head that it cosigned there; [`Head::EMPTY`] if none.
    pub head: Head,
}

impl Stand {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { federation, version, log, operator, head: Head { size, root } } = self;
        format!(
            "{STAND_FORMAT}\nfederation: {federation}\nversion: {version}\nlog: {log}\n\
             operator: {operator}\nsize: {size}\nroot: {root}\n"
        )
    }

    /// Reads exactly what [`Stand::text`] writes.
    ///
    /// # Errors
    /// [`TextError`] names the first line that is wrong and why.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut fields = Fields::open(text.as_bytes(), STAND_FORMAT, limits::TEXT_BYTES_MAX)?;
        let federation = fields.parse("federation")?;
        let version = fields.integer("version")?;
        let log = fields.parse("log")?;
        let operator = fields.parse("operator")?;
        let head = Head { size: fields.integer("size")?, root: fields.parse("root")? };
        if head.size == 0 && head != Head::EMPTY {
            return fields.refuse("root", "want the empty tree's root beside size 0");
        }
        fields.close()?;
        Ok(Self { federation, version, log, operator, head })
    }

    /// Signs as the operator, with its node key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedNote {
        let text = self.text();
        let signature = sign(&text, self.operator.as_str(), key);
        SignedNote { text, signatures: Vec::from([signature]) }
    }
}

/// Why a note is no stand that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StandError {
    /// Not a signed note.
    #[error("{0}")]
    Note(NoteError),
    /// Not a stand's text.
    #[error("{0}")]
    Text(TextError),
    /// Of another federation.
    #[error("of another federation: {0}")]
    Federation(FederationId),
    /// No version of the manifest has the log.
    #[error("no version has the log {0}")]
    Log(LogId),
    /// The operator is unknown, or did not sign it with its newest node key.
    #[error("not signed with the node key of {0}")]
    Unsigned(Domain),
}

impl StandError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Note(_) => "stand_note",
            Self::Text(_) => "stand_text",
            Self::Federation(_) => "stand_federation",
            Self::Log(_) => "stand_log",
            Self::Unsigned(_) => "stand_unsigned",
        }
    }
}

/// A stand that its operator signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStand(Stand);

impl VerifiedStand {
    /// Reads and verifies a stand against the newest version of the manifest. An operator that this version
    /// has not signs with the last node key that it had.
    ///
    /// # Errors
    /// [`StandError`].
    pub fn read(note: &str, manifest: &Manifest) -> Result<Self, StandError> {
        let note = SignedNote::parse(note.as_bytes(), limits::CHECKPOINT_BYTES_MAX).map_err(StandError::Note)?;
        let stand = Stand::parse(&note.text).map_err(StandError::Text)?;
        if stand.federation != manifest.federation() {
            return Err(StandError::Federation(stand.federation));
        }
        if manifest.log(&stand.log).is_none() {
            return Err(StandError::Log(stand.log));
        }
        let holds = |key: VerifyingKey| note.verify(stand.operator.as_str(), &key).is_ok();
        if node_key(manifest, &stand.operator).is_some_and(holds) {
            Ok(Self(stand))
        } else {
            Err(StandError::Unsigned(stand.operator))
        }
    }

    /// What was said.
    #[must_use]
    pub const fn stand(&self) -> &Stand {
        &self.0
    }
}

/// The node key that an operator has, or had last.
fn node_key(manifest: &Manifest, operator: &Domain) -> Option<VerifyingKey> {
    let current = manifest.operator(operator).map(|operator| operator.node_key);
    current.or_else(|| manifest.generations(operator).next().map(|(_, key)| *key))
}
