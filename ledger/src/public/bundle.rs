//! The contents of tiles and entry bundles (c2sp.org/tlog-tiles).
use alloc::vec::Vec;

use super::TilePosition;
use crate::limits::ENTRY_BYTES_MAX;
use crate::log::{Hash, TILE_WIDTH};

/// Longest tile, in bytes.
pub(super) const TILE_BYTES_MAX: usize = TILE_WIDTH * size_of::<Hash>();
/// Longest entry bundle, in bytes.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH * (size_of::<u16>() + ENTRY_BYTES_MAX);

/// Why bytes are not the content of a tile or of an entry bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// Not the length of the tile's hashes, or not the one that the bundle's entries add up to.
    #[error("too short, or with bytes after its end")]
    Length,
    /// An entry of this length, longer than a log may have.
    #[error("an entry of {0} bytes")]
    Entry(usize),
}

impl TileError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Length => "tile_length",
            Self::Entry(_) => "tile_entry",
        }
    }
}

/// Encodes a tile: the hashes one after another.
#[must_use]
pub fn tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.as_flattened().to_vec()
}

/// Decodes a tile of exactly as many hashes as its position says.
///
/// # Errors
/// [`TileError::Length`].
pub fn hashes(bytes: &[u8], position: TilePosition) -> Result<Vec<Hash>, TileError> {
    match bytes.as_chunks() {
        (hashes, []) if hashes.len() == position.width() => Ok(hashes.to_vec()),
        _ => Err(TileError::Length),
    }
}

/// Encodes an entry bundle: each entry after its length as a big-endian u16.
///
/// # Errors
/// [`TileError::Entry`] for an entry of more than [`ENTRY_BYTES_MAX`] bytes.
pub fn bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::new();
    for entry in entries.iter().map(AsRef::as_ref) {
        let length = u16::try_from(entry.len()).ok().filter(|_| entry.len() <= ENTRY_BYTES_MAX);
        bytes.extend_from_slice(&length.ok_or(TileError::Entry(entry.len()))?.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Decodes an entry bundle of exactly as many entries as its position says, and nothing after them.
///
/// # Errors
/// [`TileError`].
pub fn entries(bytes: &[u8], position: TilePosition) -> Result<Vec<&[u8]>, TileError> {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while found.len() < position.width() {
        let (length, after) = rest.split_first_chunk().ok_or(TileError::Length)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > ENTRY_BYTES_MAX {
            return Err(TileError::Entry(length));
        }
        let (entry, after) = after.split_at_checked(length).ok_or(TileError::Length)?;
        found.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(found) } else { Err(TileError::Length) }
}
