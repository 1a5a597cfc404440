//! The sources of an audit, and how much is read from them.
use std::sync::atomic::{AtomicU64, Ordering};

use fama_ledger::public;

use super::finding::{AuditFinding, AuditResult, LieKind};
use crate::error::ReadError;
use crate::source::PublicSource;

/// A source of public files.
pub trait PublicFiles: Send + Sync {
    /// Shown in findings.
    fn name(&self) -> &str;

    /// The content of a file, `None` if there is none. Returns in bounded time.
    ///
    /// # Errors
    /// `unreachable` if the source does not answer, `too_large` if the file is longer than its path allows.
    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, ReadError>;
}

impl PublicFiles for PublicSource {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, ReadError> {
        Self::get(self, path)
    }
}

/// Reads a file; an error is a finding against the source.
pub(super) fn read(files: &dyn PublicFiles, path: &public::Path) -> AuditResult<Option<Vec<u8>>> {
    let wrong = |kind: LieKind, code: &str, what: &str| {
        AuditFinding::new(kind, format!("{path}: {what}")).code(code).by(files.name())
    };
    match files.get(path) {
        Ok(Some(bytes)) if bytes.len() > path.bytes_max() => {
            Err(wrong(LieKind::Unavailable, "too_long", "longer than such a file may be"))
        }
        Ok(found) => Ok(found),
        Err(error @ (ReadError::Unreachable { .. } | ReadError::BucketUnreachable { .. })) => {
            Err(wrong(LieKind::Unreachable, error.code(), &error.to_string()))
        }
        Err(error) => Err(wrong(LieKind::Unavailable, error.code(), &error.to_string())),
    }
}

/// A source that counts the files and bytes read from it.
pub(super) struct Counted<'a> {
    pub(super) files: &'a dyn PublicFiles,
    pub(super) count: &'a AtomicU64,
    pub(super) bytes: &'a AtomicU64,
}

impl PublicFiles for Counted<'_> {
    fn name(&self) -> &str {
        self.files.name()
    }

    fn get(&self, path: &public::Path) -> Result<Option<Vec<u8>>, ReadError> {
        let got = self.files.get(path)?;
        let bytes = got.as_ref().map_or(0, Vec::len) as u64;
        self.count.fetch_add(u64::from(got.is_some()), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(got)
    }
}
