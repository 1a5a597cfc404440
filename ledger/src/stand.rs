//! A stand: an operator's durable promise to cosign nothing more in a log until the next manifest version is valid.
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

/// An operator's promise to cosign nothing more in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The federation that the log belongs to.
    pub federation: FederationId,
    /// The version in preparation: the promise ends when that version is valid.
    pub version: u32,
    /// The log in which the operator cosigns nothing more.
    pub log: LogId,
    /// The operator that promises.
    pub operator: Domain,
    /// The largest head that the operator cosigned in the log; [`Head::EMPTY`] if none.
    pub head: Head,
}

impl Stand {
    /// The text that the operator signs.
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
    /// [`TextError`] names the first wrong line and the reason.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut fields = Fields::open(text.as_bytes(), STAND_FORMAT, limits::TEXT_BYTES_MAX)?;
        let federation = fields.parse("federation")?;
        let version = fields.integer("version")?;
        let log = fields.parse("log")?;
        let operator = fields.parse("operator")?;
        let head = Head { size: fields.integer("size")?, root: fields.parse("root")? };
        if head.size == 0 && head != Head::EMPTY {
            return fields.refuse("root", "want the empty tree's root with size 0");
        }
        fields.close()?;
        Ok(Self { federation, version, log, operator, head })
    }

    /// Signs with the operator's node key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedNote {
        let text = self.text();
        let signature = sign(&text, self.operator.as_str(), key);
        SignedNote { text, signatures: Vec::from([signature]) }
    }
}

/// Why a stand was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StandError {
    /// Not a signed note.
    #[error("{0}")]
    Note(NoteError),
    /// The text is not that of a stand.
    #[error("{0}")]
    Text(TextError),
    /// The stand is for another federation.
    #[error("the stand is for another federation: {0}")]
    Federation(FederationId),
    /// No version of the manifest has the log.
    #[error("no version has the log {0}")]
    Log(LogId),
    /// The operator is unknown, or did not sign with its newest node key.
    #[error("not signed with the node key of {0}")]
    Unsigned(Domain),
}

impl StandError {
    /// A stable code for answers, logs and metrics.
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

/// A stand with a verified signature of its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStand(Stand);

impl VerifiedStand {
    /// Reads and verifies a stand against the newest version of the manifest. A former operator signs with the
    /// last node key that it had.
    ///
    /// # Errors
    /// [`StandError`]: the first check that fails.
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

    /// The promise that the operator signed.
    #[must_use]
    pub const fn stand(&self) -> &Stand {
        &self.0
    }
}

/// The node key of an operator; the last one of a former operator.
fn node_key(manifest: &Manifest, operator: &Domain) -> Option<VerifyingKey> {
    let current = manifest.operator(operator).map(|operator| operator.node_key);
    current.or_else(|| manifest.generations(operator).next().map(|(_, key)| *key))
}
