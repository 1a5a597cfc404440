//! Free text kept outside the log: an event only commits to its hash, so the text can be deleted.
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt::Write;

use sha2::{Digest, Sha256};

use crate::id::{Hex, NoteHash, from_hex};
use crate::limits;
use crate::text::{Fields, TextError, TextFault, check_value};

/// First line of a note's text.
pub const NOTE_FORMAT: &str = "fama.note/1";

/// A note: the bio for a registration, or reason and reference for an attestation; never both.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// Random. Without it, nobody can guess a deleted note from its hash.
    pub salt: [u8; 32],
    /// How the agent describes itself.
    pub bio: Option<String>,
    /// Why karma was given, at most 200 bytes.
    pub reason: Option<String>,
    /// Where to look (a URL, a ticket), at most 512 bytes.
    pub reference: Option<String>,
}

impl Note {
    /// The text whose hash an event commits to.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &Option<String>| {
            value.as_ref().map_or(Ok(()), |value| writeln!(text, "{name}: {value}"))
        };
        let fields = [("bio", &self.bio), ("reason", &self.reason), ("ref", &self.reference)];
        fields.iter().try_for_each(|(name, value)| line(name, value)).expect("writing to a String cannot fail");
        alloc::format!("{NOTE_FORMAT}\nsalt: {}\n{text}", Hex(&self.salt))
    }

    /// Reads a note's text; [`Note::text`] gives the same bytes back.
    ///
    /// # Errors
    /// [`TextError`] names the first wrong line and the reason.
    pub fn parse(text: &[u8]) -> Result<Self, TextError> {
        let mut fields = Fields::open(text, NOTE_FORMAT, limits::NOTE_BYTES_MAX)?;
        let salt = fields.text("salt")?;
        let salt = from_hex(salt).or_else(|rule| fields.refuse("salt", rule))?;
        let bio = fields.optional("bio")?.map(ToOwned::to_owned);
        let mut karma = |name, max| if bio.is_none() { bounded(&mut fields, name, max) } else { Ok(None) };
        let reason = karma("reason", limits::REASON_BYTES_MAX)?;
        let reference = karma("ref", limits::REF_BYTES_MAX)?;
        fields.close()?;
        Ok(Self { salt, bio, reason, reference })
    }

    /// Checks the values of a note that was not read from a text.
    ///
    /// # Errors
    /// The errors of [`Note::parse`] for its text.
    pub fn check(&self) -> Result<(), TextError> {
        let values = [&self.bio, &self.reason, &self.reference];
        values
            .into_iter()
            .flatten()
            .try_for_each(|value| check_value(value))
            .map_err(|fault| TextError { line: 3, fault })?;
        Self::parse(self.text().as_bytes()).map(|_| ())
    }
}

fn bounded(fields: &mut Fields<'_>, name: &'static str, max: usize) -> Result<Option<String>, TextError> {
    let value = fields.optional(name)?;
    match value {
        Some(value) if value.len() > max => fields.refuse(name, TextFault::TooLong { len: value.len(), max }),
        _ => Ok(value.map(ToOwned::to_owned)),
    }
}

/// SHA-256 of a note's whole text, last newline included.
#[must_use]
pub fn note_hash(text: &[u8]) -> NoteHash {
    NoteHash(Sha256::digest(text).into())
}
