//! What the store needs from a disk: reads at one moment and atomic writes. Either RocksDB or a simulated disk.
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties::BACKGROUND_ERRORS;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, DBRawIterator, IteratorMode, PrefixRange, ReadOptions, Snapshot};
use rocksdb::{Error, WriteBatch as RocksBatch};

use super::changed::Marks;
use super::keys::Family;
use super::options;
use super::simulated::{self, Disk, Operation};

/// No key is longer, in bytes.
const KEY_BYTES_MAX: usize = 4_096;

/// The message of a failed disk operation.
pub(super) type EngineError = String;

fn failure(error: Error) -> EngineError {
    error.into_string()
}

/// The disk behind a store.
pub(super) enum Engine {
    Rocks(DB),
    Simulated(Disk),
}

fn column(db: &DB, family: Family) -> &ColumnFamily {
    db.cf_handle(family.name()).expect("all families were opened and none is ever dropped")
}

impl Engine {
    pub(super) fn moment(&self) -> EngineView<'_> {
        match self {
            Self::Rocks(db) => EngineView::Rocks(db, db.snapshot()),
            Self::Simulated(disk) => EngineView::Simulated(disk, disk.written()),
        }
    }

    pub(super) fn batch(&self) -> WriteBatch<'_> {
        match self {
            Self::Rocks(db) => WriteBatch::Rocks(db, RocksBatch::default(), Marks::default()),
            Self::Simulated(disk) => WriteBatch::Simulated(disk, Vec::new()),
        }
    }

    /// Writes a family's unflushed data to a table, so that it no longer depends on the write-ahead log.
    pub(super) fn flush(&self, family: Family) -> Result<(), EngineError> {
        match self {
            Self::Rocks(db) => db.flush_cf(column(db, family)).map_err(failure),
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Makes a copy of the whole database in a new folder: links to its tables, and copies of what may still change.
    pub(super) fn checkpoint(&self, folder: &Path) -> Result<(), EngineError> {
        match self {
            Self::Rocks(db) => Checkpoint::new(db).and_then(|made| made.create_checkpoint(folder)).map_err(failure),
            Self::Simulated(_) => Err("a simulated disk has no files".to_owned()),
        }
    }

    /// Rewrites the tables that hold a key, so that its overwritten values are gone from disk.
    pub(super) fn compact(&self, family: Family, key: &[u8]) {
        if let Self::Rocks(db) = self {
            db.compact_range_cf(column(db, family), Some(key), Some(key));
        }
    }

    /// The number of the newest write.
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Rocks(db) => db.latest_sequence_number(),
            Self::Simulated(_) => 0,
        }
    }

    /// The number of the newest write that the oldest snapshot shows; `None` without snapshots.
    pub(super) fn oldest_snapshot(&self) -> Option<u64> {
        let Self::Rocks(db) = self else { return None };
        let oldest = db.property_int_value("rocksdb.oldest-snapshot-sequence").ok().flatten();
        oldest.filter(|oldest| *oldest > 0)
    }

    /// A failure of background work (a flush or a compaction) that no call has returned.
    pub(super) fn background_failure(&self) -> Option<EngineError> {
        let Self::Rocks(db) = self else { return None };
        if db.property_int_value(BACKGROUND_ERRORS).ok().flatten().unwrap_or_default() == 0 {
            return None;
        }
        // An empty write returns that error if it blocks writing.
        let barred = db.write(RocksBatch::default()).map_err(failure);
        Some(barred.err().unwrap_or_else(|| "writing a table failed; see the file LOG in the folder".to_owned()))
    }

    /// The names of the table files in use.
    pub(super) fn tables(&self) -> Result<Vec<String>, EngineError> {
        let Self::Rocks(db) = self else { return Ok(Vec::new()) };
        let files = db.live_files().map_err(failure)?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    /// Whether the default family has a key: a node writes none there, so the database is not a node's.
    pub(super) fn has_foreign(&self) -> Result<bool, EngineError> {
        match self {
            Self::Rocks(db) => {
                let first = db.iterator(IteratorMode::Start).next().transpose();
                first.map(|found| found.is_some()).map_err(failure)
            }
            Self::Simulated(_) => Ok(false),
        }
    }
}

/// Changes that are written together or not at all.
pub(super) enum WriteBatch<'a> {
    Rocks(&'a DB, RocksBatch, Marks),
    Simulated(&'a Disk, Vec<Operation>),
}

impl WriteBatch<'_> {
    pub(super) fn put(&mut self, family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        match self {
            Self::Rocks(db, batch, marks) => {
                marks.key(family, key.as_ref());
                batch.put_cf(column(db, family), key, value);
            }
            Self::Simulated(_, batch) => {
                batch.push(Operation { family, key: key.as_ref().into(), value: Some(value.as_ref().into()) });
            }
        }
    }

    pub(super) fn delete(&mut self, family: Family, key: impl AsRef<[u8]>) {
        match self {
            Self::Rocks(db, batch, marks) => {
                marks.key(family, key.as_ref());
                batch.delete_cf(column(db, family), key);
            }
            Self::Simulated(_, batch) => batch.push(Operation { family, key: key.as_ref().into(), value: None }),
        }
    }

    /// Deletes every key that begins with `prefix`, at the cost of one key.
    pub(super) fn delete_prefix(&mut self, family: Family, prefix: &[u8]) {
        match self {
            Self::Rocks(db, batch, marks) => {
                marks.prefix(family);
                let end = simulated::after(prefix).unwrap_or_else(|| vec![u8::MAX; KEY_BYTES_MAX]);
                batch.delete_range_cf(column(db, family), prefix.to_vec(), end);
            }
            Self::Simulated(disk, batch) => {
                let deleted = |key| Operation { family, key, value: None };
                batch.extend(disk.keys(family, prefix).into_iter().map(deleted));
            }
        }
    }

    /// What it changes so far; nothing from then on. None on a simulated disk, whose views have no numbers.
    pub(super) fn marks(&mut self) -> Marks {
        match self {
            Self::Rocks(_, _, marks) => std::mem::take(marks),
            Self::Simulated(..) => Marks::default(),
        }
    }

    /// Writes the whole batch atomically; an empty batch does nothing.
    pub(super) fn write(self, sync: bool) -> Result<(), EngineError> {
        match self {
            Self::Rocks(_, batch, _) if batch.is_empty() => Ok(()),
            Self::Rocks(db, batch, _) => db.write_opt(batch, &options::write(sync)).map_err(failure),
            Self::Simulated(_, batch) if batch.is_empty() => Ok(()),
            Self::Simulated(disk, batch) => disk.write(batch, sync),
        }
    }
}

/// The key range and the direction of a walk.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) prefix: Vec<u8>,
    /// First key of the range (inclusive); it has the prefix.
    pub(super) from: Option<Vec<u8>>,
    /// End of the range (exclusive); it has the prefix.
    pub(super) before: Option<Vec<u8>>,
    pub(super) backward: bool,
    /// Reads past the block cache, for a walk that reads each block only once.
    pub(super) once: bool,
}

impl Walk {
    pub(super) fn of(prefix: impl Into<Vec<u8>>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    fn options(self) -> ReadOptions {
        let mut options = read_options();
        options.fill_cache(!self.once);
        options.set_iterate_range(PrefixRange(self.prefix));
        if let Some(from) = self.from {
            options.set_iterate_lower_bound(from);
        }
        if let Some(before) = self.before {
            options.set_iterate_upper_bound(before);
        }
        options
    }
}

fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options
}

/// A snapshot: everything that was written before one moment.
pub(super) enum EngineView<'a> {
    Rocks(&'a DB, Snapshot<'a>),
    Simulated(&'a Disk, u64),
}

impl EngineView<'_> {
    pub(super) fn write_number(&self) -> Option<u64> {
        match self {
            Self::Rocks(_, snapshot) => Some(snapshot.sequence_number()),
            Self::Simulated(..) => None,
        }
    }

    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<StoredValue<'_>>, EngineError> {
        match self {
            Self::Rocks(db, snapshot) => {
                let found = snapshot.get_pinned_cf_opt(column(db, family), key, read_options());
                found.map(|found| found.map(StoredValue::Rocks)).map_err(failure)
            }
            Self::Simulated(disk, at) => disk.get(*at, family, key).map(|found| found.map(StoredValue::Simulated)),
        }
    }

    /// A cursor on the first key of the walk.
    pub(super) fn walk(&self, family: Family, walk: Walk) -> Cursor<'_> {
        match self {
            Self::Rocks(db, snapshot) => {
                let backward = walk.backward;
                let mut iterator = snapshot.raw_iterator_cf_opt(column(db, family), walk.options());
                if backward {
                    iterator.seek_to_last();
                } else {
                    iterator.seek_to_first();
                }
                Cursor::Rocks(iterator, backward)
            }
            Self::Simulated(disk, at) => Cursor::Simulated(simulated::SimulatedCursor::new(disk, *at, family, walk)),
        }
    }
}

/// A value read from the disk, not copied.
pub(super) enum StoredValue<'a> {
    Rocks(DBPinnableSlice<'a>),
    Simulated(Arc<[u8]>),
}

impl Deref for StoredValue<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Rocks(bytes) => bytes,
            Self::Simulated(bytes) => bytes,
        }
    }
}

/// The position of a walk.
pub(super) enum Cursor<'a> {
    Rocks(DBRawIterator<'a>, bool),
    Simulated(simulated::SimulatedCursor<'a>),
}

impl Cursor<'_> {
    /// Goes on to the first key of its walk from `key` on; `None` if another walk has to be begun for that.
    pub(super) fn seek(self, key: &[u8]) -> Option<Self> {
        match self {
            Self::Rocks(mut iterator, false) => {
                iterator.seek(key);
                Some(Self::Rocks(iterator, false))
            }
            Self::Rocks(_, true) | Self::Simulated(_) => None,
        }
    }

    /// The current key and value; `None` at the end or after a read error: [`Cursor::status`] tells which.
    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Rocks(iterator, _) => iterator.item(),
            Self::Simulated(cursor) => cursor.item(),
        }
    }

    pub(super) fn step(&mut self) {
        match self {
            Self::Rocks(iterator, false) => iterator.next(),
            Self::Rocks(iterator, true) => iterator.prev(),
            Self::Simulated(cursor) => cursor.step(),
        }
    }

    pub(super) fn status(&self) -> Result<(), EngineError> {
        match self {
            Self::Rocks(iterator, _) => iterator.status().map_err(failure),
            Self::Simulated(cursor) => cursor.status(),
        }
    }
}
