//! A copy of a database, to look at it without changing it, and what can be read of one that does not open.
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rocksdb::DB;

use super::keys::Family;
use super::open::{DIR_MODE, check_unused, database_error, open_database};
use super::{StoreError, options};

/// Where the tables are made that name the families.
const SEED: &str = "seed";
/// Most lines of RocksDB's that are passed on.
const LINES_MAX: usize = 64;
/// Said where the list of files was not used.
const LISTED_ANEW: &str = "the list of tables and write-ahead logs was made anew from all that are there";

/// Opens a copy, made at `copy`, of the database in `dir`, which no other process has open.
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

/// What could be opened of a damaged database.
pub(super) struct Salvaged {
    pub(super) db: DB,
    /// In RocksDB's words.
    pub(super) left_out: Vec<String>,
}

impl Salvaged {
    fn open(copy: &Path) -> Result<Self, StoreError> {
        let db = open_database(copy, options::damaged)?;
        let left_out = left_out(copy).map_err(|error| database_error(copy, &error))?;
        Ok(Self { db, left_out })
    }

    /// Whether all of a table was left out because some of it is damaged.
    pub(super) fn lacks_a_table(&self) -> bool {
        self.left_out.iter().any(|line| line.starts_with("Table #"))
    }
}

/// Opens a copy of the tables and write-ahead logs that are there, whatever the list of them says: one that was cut
/// opens too, and lacks what came later. A table that is damaged somewhere is left out.
pub(super) fn open_all(dir: &Path, copy: &Path) -> Result<Salvaged, StoreError> {
    copy_files(dir, copy, |file| matches!(ending(file), "sst" | "log"))?;
    seed(copy)?;
    DB::repair(&options::damaged(false), copy).map_err(|error| database_error(dir, &error))?;
    let mut salvaged = Salvaged::open(copy)?;
    salvaged.left_out.insert(0, LISTED_ANEW.to_owned());
    Ok(salvaged)
}

/// Opens a copy of what is listed. What is damaged in a table is missed when it is read.
pub(super) fn open_listed(dir: &Path, copy: &Path) -> Result<Salvaged, StoreError> {
    copy_files(dir, copy, |_| true)?;
    Salvaged::open(copy)
}

/// Makes `copy` anew: links the tables, which never change, and copies the rest that is wanted.
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
    // Not every file system can link.
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

/// What RocksDB locks, and what it says, while a folder is open.
fn is_scratch(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name == "LOCK" || name.starts_with("LOG")
}

fn ending(file: &Path) -> &str {
    file.extension().and_then(OsStr::to_str).unwrap_or_default()
}

/// Puts a table of each family, without a row, beside the others: a repair learns the families from their tables,
/// and drops what a write-ahead log has of others.
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
        // Deletes nothing, but makes a table.
        let made = db.delete_cf(column, b"").and_then(|()| db.flush_cf(column));
        made.map_err(|error| database_error(dir, &error))
    })
}

/// What RocksDB says that it passed over, of any file.
fn left_out(copy: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in files(copy)?.iter().filter(|file| is_scratch(file)) {
        let said = String::from_utf8_lossy(&fs::read(file)?).into_owned();
        lines.extend(said.lines().filter(|line| line.contains("dropping ") || line.contains(": ignoring ")).map(told));
    }
    if let Some(more) = lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        lines.truncate(LINES_MAX);
        lines.push(format!("and {more} more like these"));
    }
    Ok(lines)
}

/// A line without its time, thread, level and place.
fn told(line: &str) -> String {
    let said = line.split_once(".cc:").and_then(|(_, said)| said.split_once("] "));
    said.map_or(line, |(_, said)| said).to_owned()
}
