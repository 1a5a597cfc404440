//! A whole federation's history as tables, verified while they are written.
use std::fs;
use std::path::{Path, PathBuf};

use fama_ledger::join::Join;
use fama_node::store::Store;

use crate::failure::Failure;

mod attestations;
mod entries;
mod identities;
mod parquet;
mod table;
mod text;

pub use entries::Entries;
pub use table::{Cell, Column, Format, Kind, Table};

/// What a table is called until all of it was verified.
const UNFINISHED: &str = ".part";

/// A file that gets its name once everything holds; until then it is gone when dropped.
pub struct Unfinished {
    path: PathBuf,
    part: PathBuf,
    done: bool,
}

impl Unfinished {
    /// Begins `name` in `dir`.
    ///
    /// # Errors
    /// `file_exists`, or what the system says.
    pub fn create(dir: &Path, name: &str) -> Result<(Self, fs::File), Failure> {
        let path = dir.join(name);
        if path.exists() {
            let failure = Failure::new("file_exists", format!("{} is there", path.display()));
            return Err(failure.hint("remove it, or export to another folder"));
        }
        let part = dir.join(format!("{name}{UNFINISHED}"));
        let file = fs::File::create(&part).map_err(|error| system(&part, &error))?;
        Ok((Self { path, part, done: false }, file))
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> Result<PathBuf, Failure> {
        fs::rename(&self.part, &self.path).map_err(|error| system(&self.path, &error))?;
        self.done = true;
        Ok(self.path.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed says by its name what it is.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn system(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new("file", format!("{}: {error}", path.display()))
}

/// Begins a table of these columns.
fn begin(dir: &Path, name: &str, format: Format, columns: &'static [Column]) -> Result<(Unfinished, Table), Failure> {
    let (unfinished, file) = Unfinished::create(dir, &format!("{name}.{}", format.ending()))?;
    Ok((unfinished, Table::new(format, columns, file)?))
}

/// Writes who there is and what was attested, from a store that an audit filled.
///
/// # Errors
/// The disk failed.
pub fn join(store: &Store, dir: &Path, format: Format) -> Result<Vec<(Unfinished, u64)>, Failure> {
    let view = store.view();
    let join = Join::new(store.manifest(), &view);
    Ok(vec![identities::write(&join, dir, format)?, attestations::write(&view, &join, dir, format)?])
}

fn damaged(error: &dyn std::fmt::Display) -> Failure {
    Failure::new("damaged", error)
}
