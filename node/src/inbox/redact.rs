//! The operator drops a note's text at its own node.
use fama_ledger::id::NoteHash;
use fama_ledger::public::DROPPED_NOTES_MAX;

use super::Inbox;
use crate::replay::Fatal;
use crate::wire::{NoteAnswer, Refusal};

/// What a node had of a note before its operator dropped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteBefore {
    /// Its text.
    Held,
    /// An entry names it; its text had not arrived.
    Wanted,
    /// No entry here names it.
    Unknown,
    /// It was dropped before.
    Redacted,
}

impl NoteBefore {
    /// Stable snake_case word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Wanted => "wanted",
            Self::Unknown => "unknown",
            Self::Redacted => "redacted",
        }
    }
}

impl Inbox {
    /// Drops a note for good, and says what was there. Durable when this returns, though the bytes are still on disk.
    pub(super) fn redact(&self, hash: &NoteHash) -> Result<Result<NoteBefore, Refusal>, Fatal> {
        let store = &self.shared.store;
        let view = store.view();
        let before = match view.note(hash)? {
            Some(NoteAnswer::Redacted) => return Ok(Ok(NoteBefore::Redacted)),
            Some(NoteAnswer::Text(_)) => NoteBefore::Held,
            None if view.wants_note(hash)? => NoteBefore::Wanted,
            None => NoteBefore::Unknown,
        };
        if view.redacted_notes()?.len() >= DROPPED_NOTES_MAX {
            let message = format!("this node has dropped {DROPPED_NOTES_MAX} notes, and that is the most it can");
            return Ok(Err(Refusal::new("too_many_redacted", message)));
        }
        store.forget_notes(&[*hash])?;
        tracing::warn!(note = %hash, before = before.code(), "the operator dropped a note: its text is deleted here and never taken in again");
        Ok(Ok(before))
    }
}
