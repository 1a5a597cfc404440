//! Writes a federation's whole history as tables while it is audited.
use std::fs;
use std::path::{Path, PathBuf};

use fama_ledger::join::Join;
use fama_node::store::Store;

use crate::error::ReadError;

mod attestations;
mod cell;
mod entries;
mod identities;
mod parquet;
mod ranges;
mod table;
mod text;

pub use entries::EntryTable;
pub use ranges::{ENTRIES_FOLDER, LogRanges, RANGE_ENTRIES, ranges};
pub use table::TableFormat;

use cell::Column;
use table::TableFile;

/// Ends the name of a table until all of it is verified.
const UNFINISHED: &str = ".part";

/// A table that gets its final name from [`Unfinished::finish`]; dropped before that, it is deleted.
pub struct Unfinished {
    path: PathBuf,
    part: PathBuf,
    done: bool,
}

impl Unfinished {
    /// Creates the temporary file of `name` in `dir`.
    ///
    /// # Errors
    /// `file_exists` if a finished table has this name; `file`.
    pub fn create(dir: &Path, name: &str) -> Result<(Self, fs::File), ReadError> {
        let path = dir.join(name);
        if path.exists() {
            return Err(ReadError::FileExists(path));
        }
        let part = dir.join(format!("{name}{UNFINISHED}"));
        let file = fs::File::create(&part).map_err(|error| system(&part, &error))?;
        Ok((Self { path, part, done: false }, file))
    }

    /// Its path after [`Unfinished::finish`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the file to its final name.
    ///
    /// # Errors
    /// `file`.
    pub fn finish(mut self) -> Result<PathBuf, ReadError> {
        fs::rename(&self.part, &self.path).map_err(|error| system(&self.path, &error))?;
        self.done = true;
        Ok(self.path.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // A file that cannot be removed still has a name that marks it as unfinished.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn system(path: &Path, error: &dyn std::fmt::Display) -> ReadError {
    ReadError::file(format!("{}: {error}", path.display()))
}

/// Creates the file of a table and writes its header.
fn begin(
    dir: &Path,
    name: &str,
    format: TableFormat,
    columns: &'static [Column],
) -> Result<(Unfinished, TableFile), ReadError> {
    let (unfinished, file) = Unfinished::create(dir, &format!("{name}.{}", format.ending()))?;
    Ok((unfinished, TableFile::new(format, columns, file)?))
}

/// Writes the tables of identities and attestations from a store that an audit filled; gives each with its rows.
///
/// # Errors
/// `file_exists`; `file` if the disk failed; `damaged` if the store does not hold what the audit wrote.
pub fn join(store: &Store, dir: &Path, format: TableFormat) -> Result<Vec<(Unfinished, u64)>, ReadError> {
    let view = store.view();
    let join = Join::new(store.manifest(), &view);
    Ok(vec![identities::write(&join, dir, format)?, attestations::write(&view, &join, dir, format)?])
}
