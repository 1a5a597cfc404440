//! The store's part of the scrub: reads and checks everything that is stored, in steps.
use std::path::PathBuf;

use fama_ledger::id::NoteHash;
use fama_ledger::log::{Hash, LogError, TILE_WIDTH, Tiles, leaf_hash, node_hash, root_at};
use fama_ledger::manifest::LogId;

use super::engine::Walk;
use super::keys::Family;
use super::read::NOTE_VALUE_BYTES_MAX;
use super::write::is_note;
use super::{LogRecord, Store, StoreError, View};
use crate::wire::NoteAnswer;

const WIDTH: u64 = TILE_WIDTH as u64;

/// Position of a read through all families; starts at the first key of the first family.
#[derive(Clone, Debug, Default)]
pub struct ScrubCursor {
    family: usize,
    from: Vec<u8>,
}

/// Position of a check of a log's tree; starts at the first tile of leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct TreeCursor {
    level: u8,
    index: u64,
}

impl Store {
    /// Reads about `bytes` bytes from `position` on, past the cache, and checks each block's checksum and each
    /// note's hash. Returns how many bytes it read; `None` after the last family.
    ///
    /// # Errors
    /// [`StoreError`]: stored data is damaged.
    pub fn read_on(&self, position: &mut ScrubCursor, bytes: usize) -> Result<Option<usize>, StoreError> {
        let Some(family) = Family::ALL.get(position.family).copied() else { return Ok(None) };
        let view = self.view();
        let from = Some(std::mem::take(&mut position.from));
        let mut cursor = view.moment().walk(family, Walk { from, once: true, ..Walk::default() });
        let mut read = 0;
        while let Some((key, value)) = cursor.item() {
            if read >= bytes {
                position.from = key.to_vec();
                return Ok(Some(read));
            }
            if family == Family::Notes {
                self.check_note(key, value)?;
            }
            read += key.len() + value.len();
            cursor.step();
        }
        cursor.status().map_err(|error| self.database(&error))?;
        position.family += 1;
        Ok(Some(read))
    }

    fn check_note(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let hash = key.try_into().map(NoteHash).ok();
        let note = fama_ledger::codec::decode(value, NOTE_VALUE_BYTES_MAX);
        match (hash, note) {
            (Some(_), Ok(NoteAnswer::Redacted)) => Ok(()),
            (Some(hash), Ok(NoteAnswer::Text(text))) if is_note(&hash, &text) => Ok(()),
            _ => {
                let hash = fama_ledger::id::Hex(key);
                Err(self.database(&format!("the text stored for note {hash} does not match its hash")))
            }
        }
    }

    /// Paths of the table files, which hold everything except the newest writes. A table file never changes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tables(&self) -> Result<Vec<PathBuf>, StoreError> {
        let names = self.engine.tables().map_err(|error| self.database(&error))?;
        Ok(names.iter().map(|name| self.dir.join(name.trim_start_matches('/'))).collect())
    }

    /// Checks one tile of a log's tree: leaves against their entries, and every full tile against the tile above.
    /// The last step checks the root. Returns how many bytes it read; `None` once the root is checked.
    ///
    /// # Errors
    /// [`StoreError::Inconsistent`] names what contradicts what.
    pub fn check_tree_on(&self, log: &LogId, position: &mut TreeCursor) -> Result<Option<usize>, StoreError> {
        let view = self.view();
        let Some(record) = view.log(log)? else { return Ok(None) };
        let TreeCursor { level, index } = *position;
        let count = record.state.size.checked_div(WIDTH.saturating_pow(level.into())).unwrap_or_default();
        let Some(left) = count.checked_sub(index * WIDTH).filter(|left| *left > 0) else {
            *position = TreeCursor { level: level + 1, index: 0 };
            return if count > 0 { Ok(Some(0)) } else { top(&view, log, &record).map(|()| None) };
        };
        let hashes = view.tiles(log).tile(level, index)?;
        if hashes.len() as u64 != left.min(WIDTH) {
            return Err(self.inconsistent(log, &format!("tile {index} of level {level} has {} hashes", hashes.len())));
        }
        let below = if level == 0 { leaves(&view, log, index, &hashes)? } else { 0 };
        above(&view, log, (level, index), &hashes)?;
        position.index += 1;
        Ok(Some(below + hashes.as_flattened().len()))
    }
}

/// Checks a tile of leaves against the entries. Returns the size of these entries in bytes.
fn leaves(view: &View<'_>, log: &LogId, index: u64, hashes: &[Hash]) -> Result<usize, StoreError> {
    let first = index * WIDTH;
    let entries = view.entries(log, first, hashes.len(), usize::MAX)?;
    if entries.len() != hashes.len() {
        return Err(view.store().inconsistent(log, &format!("only {} entries from {first} on", entries.len())));
    }
    for (at, (entry, hash)) in (first..).zip(entries.iter().zip(hashes)) {
        if leaf_hash(entry) != *hash {
            return Err(view.store().inconsistent(log, &format!("entry {at} is not the one in the tree")));
        }
    }
    Ok(entries.iter().map(Vec::len).sum())
}

/// Checks the root of a full tile against its hash in the tile above.
fn above(view: &View<'_>, log: &LogId, (level, index): (u8, u64), hashes: &[Hash]) -> Result<(), StoreError> {
    if hashes.len() < TILE_WIDTH {
        return Ok(());
    }
    let upper = view.tiles(log).tile(level + 1, index / WIDTH)?;
    let at = usize::try_from(index % WIDTH).ok().and_then(|at| upper.get(at));
    if at.is_some() && at.copied() == root_of(hashes) {
        return Ok(());
    }
    Err(view.store().inconsistent(log, &format!("tile {index} of level {level} does not match the level above")))
}

/// The root hash of a full tile.
fn root_of(hashes: &[Hash]) -> Option<Hash> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.as_chunks().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    row.pop()
}

fn top(view: &View<'_>, log: &LogId, record: &LogRecord) -> Result<(), StoreError> {
    match root_at(record.state.size, &view.tiles(log)) {
        Ok(root) if root == record.state.root => Ok(()),
        Ok(root) => Err(view.store().inconsistent(log, &format!("tree root {root}, recorded {}", record.state.root))),
        Err(LogError::Tiles(error)) => Err(error),
        Err(error) => Err(view.store().inconsistent(log, &error)),
    }
}
