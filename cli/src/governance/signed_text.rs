//! The file of a manifest version that collects signature lines.
use std::path::{Path, PathBuf};

use fama_ledger::limits::MANIFEST_BYTES_MAX;
use fama_ledger::signed_note::{NoteSignature, SignedNote};

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};

/// A text that operators sign one after the other.
#[derive(Clone, Debug)]
pub(crate) struct SignedText {
    /// Rewritten by [`SignedText::add`].
    path: PathBuf,
    /// The text and its signature lines, if any.
    pub(crate) note: SignedNote,
}

/// The content of the file; without signatures, the text alone.
#[must_use]
pub(crate) fn render(note: &SignedNote) -> String {
    if note.signatures.is_empty() { note.text.clone() } else { note.to_string() }
}

impl SignedText {
    /// Reads a file.
    ///
    /// # Errors
    /// The error of the file; `manifest_note` for a malformed text or line.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read(path, MANIFEST_BYTES_MAX)?;
        let signed = text.rsplit_once("\n\n").is_some_and(|(_, lines)| lines.starts_with("— "));
        let note = if signed {
            let note = SignedNote::parse(text.as_bytes(), MANIFEST_BYTES_MAX);
            note.map_err(|error| Failure::new("manifest_note", error).about(path.display()))?
        } else if text.chars().any(|c| c.is_control() && c != '\n') {
            let failure = Failure::new("manifest_note", "want text without control characters other than newline");
            return Err(failure.about(path.display()));
        } else {
            SignedNote { text: text.to_string(), signatures: Vec::new() }
        };
        Ok(Self { path: path.to_owned(), note })
    }

    /// Adds a signature line unless it is there, and writes the file.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn add(&mut self, line: NoteSignature) -> Result<(), Failure> {
        if !self.note.signatures.contains(&line) {
            self.note.signatures.push(line);
        }
        files::replace(&self.path, &render(&self.note), PUBLIC_MODE)
    }
}
