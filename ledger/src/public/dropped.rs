//! The list of notes that a node or a published place has dropped for good.
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::fmt::Write;

use super::PathError;
use crate::id::NoteHash;

/// Most notes that a list names.
pub const DROPPED_NOTES_MAX: usize = 100_000;
/// A hash in hex and the end of its line.
const LINE_BYTES: usize = 65;
/// Longest list, in bytes.
pub(super) const DROPPED_BYTES_MAX: usize = DROPPED_NOTES_MAX * LINE_BYTES;

/// The list as text: a line for each hash, in ascending order.
#[must_use]
pub fn dropped(notes: &BTreeSet<NoteHash>) -> String {
    let mut text = String::new();
    notes.iter().for_each(|hash| writeln!(text, "{hash}").expect("writing to a String cannot fail"));
    text
}

/// The inverse of [`dropped`].
///
/// # Errors
/// [`PathError`] for anything else: another order, a repeated hash, more than [`DROPPED_NOTES_MAX`].
pub fn read_dropped(text: &str) -> Result<BTreeSet<NoteHash>, PathError> {
    let mut notes = BTreeSet::new();
    for line in text.split_terminator('\n') {
        let hash: NoteHash = line.parse().map_err(|_| PathError)?;
        if notes.len() >= DROPPED_NOTES_MAX || notes.last().is_some_and(|last| *last >= hash) {
            return Err(PathError);
        }
        notes.insert(hash);
    }
    if dropped(&notes) == text { Ok(notes) } else { Err(PathError) }
}
