//! A checkpoint: the database at one moment, as files that no longer change. `fama backup` copies it.
//!
//! It is a folder inside the data folder, where hard links always work and the node may always write. RocksDB makes it
//! below another name and renames it, so it is whole or not there. One that a crash left is replaced by the next one,
//! and removed when the node starts.
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::fs::{FlockOperation, flock};

use super::{Store, StoreError};

/// Name of the folder with the checkpoint, in the data folder.
const CHECKPOINT: &str = "backup";
/// What RocksDB calls the folder while it makes the checkpoint.
const UNFINISHED: &str = "backup.tmp";

/// Held by the one process that backs up a data folder. The system releases it with the process, however that ends.
#[derive(Debug)]
pub struct BackupLock {
    /// The data folder itself: any process that may read it may lock it, and no file is left behind.
    _folder: File,
}

impl BackupLock {
    /// Takes the lock of a data folder; `None` if another process, or this one, has it.
    ///
    /// # Errors
    /// The system's: there is no such folder, or its file system has no locks.
    pub fn take(data: &Path) -> io::Result<Option<Self>> {
        let folder = File::open(data)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _folder: folder })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the checkpoint of a data folder lies.
#[must_use]
pub fn checkpoint_folder(data: &Path) -> PathBuf {
    data.join(CHECKPOINT)
}

/// Removes the checkpoint of a data folder, if there is one.
///
/// # Errors
/// The system's.
pub fn remove_checkpoint(data: &Path) -> io::Result<()> {
    [CHECKPOINT, UNFINISHED].iter().try_for_each(|name| match fs::remove_dir_all(data.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}

/// Removes a checkpoint that nobody reads any more: `fama backup` was killed, or the node was.
pub fn remove_stale_checkpoint(data: &Path) {
    match BackupLock::take(data) {
        // Held until the folder is gone, so that no backup begins meanwhile.
        Ok(Some(_lock)) => {
            if let Err(error) = remove_checkpoint(data) {
                tracing::warn!(%error, "the checkpoint of an earlier backup could not be removed");
            }
        }
        // It is being copied, from a time when this node did not run.
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the data folder cannot be locked for backups"),
    }
}

impl Store {
    /// Makes a checkpoint of everything written so far, in place of an earlier one; returns its folder. Unflushed writes
    /// go to tables first. Tables are hard links: they need no space until the node would have deleted them.
    ///
    /// # Errors
    /// [`StoreError::Copy`]. The store stays usable.
    pub fn checkpoint(&self) -> Result<PathBuf, StoreError> {
        let _one_at_a_time = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = checkpoint_folder(&self.dir);
        let failed = |message| StoreError::Copy { dir: self.dir.clone(), message };
        remove_checkpoint(&self.dir).map_err(|error| failed(error.to_string()))?;
        self.engine.checkpoint(&folder).map_err(failed)?;
        Ok(folder)
    }

    /// Removes the checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Copy`]. The store stays usable.
    pub fn drop_checkpoint(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: io::Error| StoreError::Copy { dir: self.dir.clone(), message: error.to_string() };
        remove_checkpoint(&self.dir).map_err(failed)
    }
}
