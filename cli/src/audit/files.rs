//! Where an audit reads, and how much it read.
use std::sync::atomic::{AtomicU64, Ordering};

use fama_ledger::public;

use super::finding::{Finding, Found, Lie};
use crate::failure::Failure;
use crate::source::Source;

/// Where public files are read.
pub trait Files: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// The content of a file, `None` if there is none. Bounded in time.
    ///
    /// # Errors
    /// The source does not answer, or the file is longer than its path allows.
    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, Failure>;
}

impl Files for Source {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, Failure> {
        Self::get(self, path)
    }
}

/// Reads a file; what goes wrong is the source's fault.
pub(super) fn read(files: &dyn Files, path: &public::Path) -> Found<Option<Vec<u8>>> {
    let wrong =
        |code: &str, what: &str| Finding::new(Lie::Unavailable, format!("{path}: {what}")).code(code).by(files.name());
    match files.get(path) {
        Ok(Some(bytes)) if bytes.len() > path.bytes_max() => Err(wrong("too_long", "longer than such a file may be")),
        Ok(found) => Ok(found),
        Err(failure) => Err(wrong(&failure.code, &failure.message)),
    }
}

/// Counts what is read of a source.
pub(super) struct Counted<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) count: &'a AtomicU64,
    pub(super) bytes: &'a AtomicU64,
}

impl Files for Counted<'_> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, Failure> {
        let got = self.files.get(path)?;
        let bytes = got.as_ref().map_or(0, Vec::len) as u64;
        self.count.fetch_add(u64::from(got.is_some()), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(got)
    }
}
