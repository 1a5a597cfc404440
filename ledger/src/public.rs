//! The public files, from which anybody can audit the federation: their paths and contents.
//!
//! The paths are the same on a node's query listener, in a folder and in a bucket. The files of a log follow
//! c2sp.org/tlog-tiles below `log/<operator>/<generation>/`.
use alloc::string::ToString;
use core::fmt;
use core::str::FromStr;

use crate::checkpoint::decimal;
use crate::id::NoteHash;
use crate::log::{SIZE_MAX, TILE_WIDTH};
use crate::manifest::LogId;

mod bundle;
mod dropped;
mod note;
mod policy;
#[cfg(test)]
mod tests;

use bundle::TILE_BYTES_MAX;
use dropped::DROPPED_BYTES_MAX;
use policy::POLICY_BYTES_MAX;

pub use bundle::{BUNDLE_BYTES_MAX, TileError, bundle, entries, hashes, tile};
pub use dropped::{DROPPED_NOTES_MAX, dropped, read_dropped};
pub use note::checkpoint;
pub use policy::policy;

/// Largest level of a tile that the format knows.
const LEVEL_MAX: u8 = 63;
/// Tree levels that one level of tiles spans.
const TILE_HEIGHT: u32 = 8;

/// A text that is not the path of a public file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a public file")]
pub struct PathError;

/// The path of a public file. Displays without a leading slash; each file has exactly one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// `manifest/<version>`: the signed note of that version.
    Manifest(u32),
    /// `log/policy`: the newest version as a c2sp.org/tlog-policy.
    Policy,
    /// `log/<operator>/<generation>/…`: a file of a log.
    Log(LogId, LogFile),
    /// `note/<64 hex>`: the text of a note.
    Note(NoteHash),
    /// `note/dropped`: the hashes of notes that are not here and never will be.
    Dropped,
}

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogFile {
    /// `checkpoint`: a signed head with its cosignatures.
    Checkpoint,
    /// `tile/entries/<N>[.p/<W>]`: an entry bundle, each entry after its length.
    Entries(TilePosition),
    /// `tile/<L>/<N>[.p/<W>]`: hashes of the tree.
    Tile(u8, TilePosition),
}

/// The index of a tile or bundle in its level, and its width if it is partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePosition {
    index: u64,
    /// 1 to 256.
    width: u16,
}

impl TilePosition {
    /// A tile of `width` hashes; `None` if that is not 1 to [`TILE_WIDTH`], or if no log is long enough.
    #[must_use]
    pub fn new(index: u64, width: usize) -> Option<Self> {
        let fits = index < SIZE_MAX.unbounded_shr(TILE_HEIGHT) && (1..=TILE_WIDTH).contains(&width);
        Some(Self { index, width: u16::try_from(width).ok().filter(|_| fits)? })
    }

    /// The position in its level, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// The number of hashes or entries, 1 to [`TILE_WIDTH`].
    #[must_use]
    pub fn width(self) -> usize {
        self.width.into()
    }

    /// Whether the tile is full: [`TILE_WIDTH`] hashes or entries.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.width() == TILE_WIDTH
    }

    /// The index of its first hash or entry in the level.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.index.unbounded_shl(TILE_HEIGHT)
    }

    /// The index after its last hash or entry in the level.
    #[must_use]
    pub fn end(self) -> u64 {
        self.first().saturating_add(self.width.into())
    }
}

impl fmt::Display for TilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut thousands = 1_000_000_000_000_000_000;
        while thousands > 1 {
            if self.index >= thousands {
                write!(f, "x{:03}/", self.index.checked_div(thousands).unwrap_or(0) % 1_000)?;
            }
            thousands /= 1_000;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for TilePosition {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        let (index, width) = match text.split_once(".p/") {
            Some((index, width)) => (index, decimal(width).ok_or(PathError)?),
            None => (text, TILE_WIDTH),
        };
        let position = Self::new(parse_index(index).ok_or(PathError)?, width).ok_or(PathError)?;
        // The path of a full tile has no width, and an index has no leading zero parts.
        if position.to_string() == text { Ok(position) } else { Err(PathError) }
    }
}

/// Reads `x001/x234/067` as 1234067.
fn parse_index(text: &str) -> Option<u64> {
    text.split('/').try_fold(0u64, |index, part| {
        let digits = part.strip_prefix('x').unwrap_or(part);
        let number: u64 = Some(digits).filter(|digits| digits.bytes().all(|c| c.is_ascii_digit()))?.parse().ok()?;
        index.checked_mul(1_000)?.checked_add(number)
    })
}

impl LogFile {
    /// Whether a tree of `size` leaves has this tile or bundle, or a wider one; always true for a checkpoint.
    #[must_use]
    pub fn is_within(self, size: u64) -> bool {
        match self {
            Self::Checkpoint => true,
            Self::Entries(position) => position.end() <= size,
            Self::Tile(level, position) => position.end() <= hashes_at(level, size),
        }
    }

    /// The tiles and bundles that a tree of `size` leaves has and one of `before` leaves does not: first the bundles,
    /// then the tiles by level and index.
    pub fn grown(before: u64, size: u64) -> impl Iterator<Item = Self> {
        let bundles = positions(before, size).map(Self::Entries);
        let levels = (0..=LEVEL_MAX).take_while(move |level| hashes_at(*level, size) > 0);
        let tiles = move |level: u8| {
            positions(hashes_at(level, before), hashes_at(level, size)).map(move |position| Self::Tile(level, position))
        };
        bundles.chain(levels.flat_map(tiles))
    }
}

/// How many hashes a level of tiles has in a tree of `size` leaves.
fn hashes_at(level: u8, size: u64) -> u64 {
    size.unbounded_shr(TILE_HEIGHT.saturating_mul(level.into()))
}

/// The tiles of a level with `count` hashes that a level with `before` hashes does not have.
fn positions(before: u64, count: u64) -> impl Iterator<Item = TilePosition> {
    let from = if before < count { before.unbounded_shr(TILE_HEIGHT) } else { u64::MAX };
    let full = count.unbounded_shr(TILE_HEIGHT);
    let [rest, ..] = count.to_le_bytes();
    let last = TilePosition::new(full, rest.into()).filter(|_| from <= full);
    (from..full).filter_map(|index| TilePosition::new(index, TILE_WIDTH)).chain(last)
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Entries(position) => write!(f, "tile/entries/{position}"),
            Self::Tile(level, position) => write!(f, "tile/{level}/{position}"),
        }
    }
}

impl FromStr for LogFile {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        if text == "checkpoint" {
            return Ok(Self::Checkpoint);
        }
        let (level, position) = text.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(PathError)?;
        match level {
            "entries" => Ok(Self::Entries(position.parse()?)),
            level => {
                let level = decimal(level).filter(|level| *level <= LEVEL_MAX).ok_or(PathError)?;
                Ok(Self::Tile(level, position.parse()?))
            }
        }
    }
}

impl Path {
    /// Whether the file never changes after it was written.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        !matches!(self, Self::Policy | Self::Dropped | Self::Log(_, LogFile::Checkpoint))
    }

    /// The media type of the file's content.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Log(_, LogFile::Entries(_) | LogFile::Tile(..)) => "application/octet-stream",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// The maximum length of the file's content, in bytes.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        match self {
            Self::Manifest(_) => crate::limits::MANIFEST_BYTES_MAX,
            Self::Policy => POLICY_BYTES_MAX,
            Self::Log(_, LogFile::Checkpoint) => crate::limits::CHECKPOINT_BYTES_MAX,
            Self::Log(_, LogFile::Entries(_)) => BUNDLE_BYTES_MAX,
            Self::Log(_, LogFile::Tile(..)) => TILE_BYTES_MAX,
            Self::Note(_) => crate::limits::NOTE_BYTES_MAX,
            Self::Dropped => DROPPED_BYTES_MAX,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(version) => write!(f, "manifest/{version}"),
            Self::Policy => f.write_str("log/policy"),
            Self::Log(log, file) => write!(f, "log/{log}/{file}"),
            Self::Note(hash) => write!(f, "note/{hash}"),
            Self::Dropped => f.write_str("note/dropped"),
        }
    }
}

impl FromStr for Path {
    type Err = PathError;
    /// Parses exactly the displayed form.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let (first, rest) = text.split_once('/').ok_or(PathError)?;
        match first {
            "manifest" => decimal(rest).filter(|version| *version > 0).map(Self::Manifest).ok_or(PathError),
            "note" if rest == "dropped" => Ok(Self::Dropped),
            "note" => rest.parse().map(Self::Note).map_err(|_| PathError),
            "log" if rest == "policy" => Ok(Self::Policy),
            "log" => parse_log(rest).ok_or(PathError),
            _ => Err(PathError),
        }
    }
}

fn parse_log(text: &str) -> Option<Path> {
    let (operator, rest) = text.split_once('/')?;
    let (generation, file) = rest.split_once('/')?;
    let log = LogId { operator: operator.parse().ok()?, generation: decimal(generation)? };
    Some(Path::Log(log, file.parse().ok()?))
}
