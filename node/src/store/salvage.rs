//! Opens a copy of a database to inspect it without changing it, also one that is too damaged to open itself.
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rocksdb::DB;

use super::keys::Family;
use super::open::{DIR_MODE, check_unused, database_error, open_database};
use super::{StoreError, options};

/// Folder in which the empty tables are made that name the families.
const SEED: &str = "seed";
/// At most this many lines of RocksDB's log are passed on.
const LINES_MAX: usize = 64;
/// Reported when RocksDB's own list of files was not used.
const LIST_REBUILT: &str = "the list of tables and write-ahead logs was rebuilt from the files in the folder";

/// Copies the database in `dir` to `copy` and opens the copy. No other process may have `dir` open.
pub(super) fn open_copy(dir: &Path, copy: &Path) -> Result<DB, StoreError> {
    copy_files(dir, copy, |_| true)?;
    open_database(copy, options::database).map_err(|error| match error {
        StoreError::Database { message, .. } => {
            let [copied, original] = [copy, dir].map(|folder| folder.display().to_string());
            database_error(dir, &message.replace(&copied, &original))
        }
        other => other,
    })
}

/// The readable part of a damaged database.
pub(super) struct Salvaged {
    pub(super) db: DB,
    /// What was skipped, as lines of RocksDB's log.
    pub(super) left_out: Vec<String>,
}

impl Salvaged {
    fn open(copy: &Path) -> Result<Self, StoreError> {
        let db = open_database(copy, options::damaged)?;
        let left_out = left_out(copy).map_err(|error| database_error(copy, &error))?;
        Ok(Self { db, left_out })
    }

    /// Whether a whole table was skipped because a part of it is damaged.
    pub(super) fn lacks_a_table(&self) -> bool {
        self.left_out.iter().any(|line| line.starts_with("Table #"))
    }
}

/// Opens a copy of all tables and write-ahead logs in the folder, and ignores RocksDB's list of them, which would hide
/// newer files if it was truncated. A table with any damage is skipped.
pub(super) fn open_all(dir: &Path, copy: &Path) -> Result<Salvaged, StoreError> {
    copy_files(dir, copy, |file| matches!(ending(file), "sst" | "log"))?;
    seed(copy)?;
    DB::repair(&options::damaged(false), copy).map_err(|error| database_error(dir, &error))?;
    let mut salvaged = Salvaged::open(copy)?;
    salvaged.left_out.insert(0, LIST_REBUILT.to_owned());
    Ok(salvaged)
}

/// Opens a copy by RocksDB's list of files. Damage in a table shows only when that part is read.
pub(super) fn open_listed(dir: &Path, copy: &Path) -> Result<Salvaged, StoreError> {
    copy_files(dir, copy, |_| true)?;
    Salvaged::open(copy)
}

/// Replaces `copy` by the wanted files of `dir`: links the tables, which never change, and copies the others.
fn copy_files(dir: &Path, copy: &Path, wanted: fn(&Path) -> bool) -> Result<(), StoreError> {
    check_unused(dir)?;
    let copied = || {
        if copy.exists() {
            fs::remove_dir_all(copy)?;
        }
        DirBuilder::new().mode(DIR_MODE).create(copy)?;
        files(dir)?.iter().filter(|file| !is_scratch(file) && wanted(file)).try_for_each(|file| copy_file(file, copy))
    };
    copied().map_err(|error: io::Error| StoreError::Copy { dir: dir.to_owned(), message: error.to_string() })
}

fn copy_file(file: &Path, folder: &Path) -> io::Result<()> {
    let to = folder.join(file.file_name().unwrap_or_default());
    // Not every file system supports hard links.
    if ending(file) == "sst" && fs::hard_link(file, &to).is_ok() {
        return Ok(());
    }
    fs::copy(file, &to).map(drop)
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(dir)?.map(|file| file.map(|file| file.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

/// Whether RocksDB uses the file only while the folder is open: its lock and its own logs.
fn is_scratch(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name == "LOCK" || name.starts_with("LOG")
}

fn ending(file: &Path) -> &str {
    file.extension().and_then(OsStr::to_str).unwrap_or_default()
}

/// Adds an empty table of each family to the copy. RocksDB's repair learns the families from their tables, and would
/// drop write-ahead records of a family that has none.
fn seed(copy: &Path) -> Result<(), StoreError> {
    let dir = copy.join(SEED);
    make_seed(&dir)?;
    let failed = |error: io::Error| database_error(copy, &error);
    let number = |file: &PathBuf| file.file_stem()?.to_str()?.parse::<u64>().ok();
    let last = files(copy).map_err(failed)?.iter().filter_map(number).max().unwrap_or(0);
    let mut made = files(&dir).map_err(failed)?;
    made.retain(|file| ending(file) == "sst");
    for (number, table) in (last.saturating_add(1)..).zip(made) {
        fs::rename(table, copy.join(format!("{number:06}.sst"))).map_err(failed)?;
    }
    fs::remove_dir_all(&dir).map_err(failed)
}

fn make_seed(dir: &Path) -> Result<(), StoreError> {
    let db = open_database(dir, options::database)?;
    Family::ALL.iter().try_for_each(|family| {
        let column = db.cf_handle(family.name()).expect("all families were opened");
        // Deletes nothing, but gives the flush a record to write to a table.
        let made = db.delete_cf(column, b"").and_then(|()| db.flush_cf(column));
        made.map_err(|error| database_error(dir, &error))
    })
}

/// The lines of RocksDB's logs about data that it skipped.
fn left_out(copy: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in files(copy)?.iter().filter(|file| is_scratch(file)) {
        let text = String::from_utf8_lossy(&fs::read(file)?).into_owned();
        let skipped = text.lines().filter(|line| line.contains("dropping ") || line.contains(": ignoring "));
        lines.extend(skipped.map(message));
    }
    if let Some(more) = lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        lines.truncate(LINES_MAX);
        lines.push(format!("and {more} more like these"));
    }
    Ok(lines)
}

/// A log line without its time, thread, level and source line.
fn message(line: &str) -> String {
    let message = line.split_once(".cc:").and_then(|(_, rest)| rest.split_once("] "));
    message.map_or(line, |(_, message)| message).to_owned()
}
