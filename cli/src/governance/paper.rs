//! A version's text on its way: a file that has signature lines, or none yet.
use std::path::{Path, PathBuf};

use fama_ledger::limits::MANIFEST_BYTES_MAX;
use fama_ledger::signed_note::{NoteSignature, SignedNote};

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};

/// A text that people sign one after the other.
#[derive(Clone, Debug)]
pub struct Paper {
    /// The file.
    path: PathBuf,
    /// The text and its lines, maybe none.
    pub note: SignedNote,
}

/// The bytes of a paper's file: without signatures the text alone.
#[must_use]
pub fn render(note: &SignedNote) -> String {
    if note.signatures.is_empty() { note.text.clone() } else { note.to_string() }
}

impl Paper {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with the file or its form.
    pub fn read(path: &Path) -> Result<Self, Failure> {
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

    /// Adds a line unless it is there, and keeps the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, line: NoteSignature) -> Result<(), Failure> {
        if !self.note.signatures.contains(&line) {
            self.note.signatures.push(line);
        }
        files::replace(&self.path, &render(&self.note), PUBLIC_MODE)
    }
}
