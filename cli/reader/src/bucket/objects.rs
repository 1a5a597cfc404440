//! Files of any size in a bucket, in pieces: neither reading nor writing one needs more memory than a piece.
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::Read;

use futures::TryStreamExt;
use object_store::{Error, ObjectStoreExt, PutPayload, path};

use super::{Bucket, S3, bad_place};
use crate::error::ReadError;

/// A file is read and written in pieces of this many bytes; of S3, at most 10,000 make a file.
pub const PIECE_BYTES: usize = 8 << 20;
/// Most files in one folder.
pub const OBJECTS_MAX: usize = 100_000;

impl Bucket {
    /// The sizes in bytes of the files in `folder`, by name. Empty if there is no such folder.
    ///
    /// # Errors
    /// `unreachable`, `file`; `too_many_files` beyond [`OBJECTS_MAX`].
    pub fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>, ReadError> {
        let prefix = self.object(folder)?;
        self.runtime.block_on(async {
            let (mut found, mut listed) = (BTreeMap::new(), self.store.list(Some(&prefix)));
            while let Some(object) = listed.try_next().await.map_err(|error| self.broken(&folder, &error))? {
                if found.len() == OBJECTS_MAX {
                    return Err(ReadError::TooManyFiles(format!("{}/{folder}", self.name)));
                }
                if let Some(name) = object.location.filename() {
                    found.insert(name.to_owned(), object.size);
                }
            }
            Ok(found)
        })
    }

    /// Writes `bytes` bytes of `from`, replacing a file of that name, which is whole or not there. Durable when this
    /// returns. Each piece is given to `each` on its way.
    ///
    /// # Errors
    /// `file` if `from` cannot be read or ends early; `unreachable`, or `file` for a folder: there is nothing new then.
    pub fn write(
        &self,
        name: &str,
        bytes: u64,
        from: &mut dyn Read,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        let location = self.object(name)?;
        let failed = |error: Error| self.broken(&name, &error);
        let mut next = |left: u64| -> Result<Vec<u8>, ReadError> {
            let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
            from.read_exact(&mut piece).map_err(|error| ReadError::file(format!("reading for {name}: {error}")))?;
            each(&piece);
            Ok(piece)
        };
        if bytes <= PIECE_BYTES as u64 {
            let piece = next(bytes)?;
            return self.runtime.block_on(self.store.put(&location, piece.into())).map(drop).map_err(failed);
        }
        self.runtime.block_on(async {
            let (mut upload, mut left) = (self.store.put_multipart(&location).await.map_err(failed)?, bytes);
            let mut written = Ok(());
            while left > 0 && written.is_ok() {
                written = match next(left) {
                    Ok(piece) => {
                        left = left.saturating_sub(piece.len() as u64);
                        upload.put_part(PutPayload::from(piece)).await.map_err(failed)
                    }
                    Err(error) => Err(error),
                };
            }
            let written = match written {
                Ok(()) => upload.complete().await.map(drop).map_err(failed),
                Err(error) => Err(error),
            };
            if written.is_err() {
                // What cannot be removed now stays as unfinished pieces, which no listing shows.
                let _ = upload.abort().await;
            }
            written
        })
    }

    /// Reads `bytes` bytes from the beginning of a file; `None` if there is no such file or it is shorter.
    ///
    /// # Errors
    /// `unreachable`, `file`; the error of `each`, which is given each piece.
    pub fn read(
        &self,
        name: &str,
        bytes: u64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ReadError>,
    ) -> Result<Option<()>, ReadError> {
        let location = self.object(name)?;
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at.saturating_add(PIECE_BYTES as u64));
            // Pieces by range: a whole file in one request would have to arrive within the time of one request.
            let piece = match self.runtime.block_on(self.store.get_range(&location, at..end)) {
                Ok(piece) if piece.len() as u64 == end.saturating_sub(at) => piece,
                Ok(_) | Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(self.broken(&name, &error)),
            };
            each(&piece)?;
            at = end;
        }
        Ok(Some(()))
    }

    /// Reads a whole file of at most `max` bytes; `None` if there is none.
    ///
    /// # Errors
    /// `unreachable`, `file`; `damaged` if it is longer.
    pub fn read_short(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let location = self.object(name)?;
        self.runtime.block_on(async {
            let found = match self.store.get(&location).await {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(self.broken(&name, &error)),
            };
            if found.meta.size > max {
                return Err(ReadError::damaged(format!("{}/{name} is longer than {max} bytes", self.name)));
            }
            Ok(Some(found.bytes().await.map_err(|error| self.broken(&name, &error))?.to_vec()))
        })
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// `unreachable`, `file`.
    pub fn remove(&self, name: &str) -> Result<(), ReadError> {
        let location = self.object(name)?;
        match self.runtime.block_on(self.store.delete(&location)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.broken(&name, &error)),
        }
    }

    /// Removes what a writer that was killed left in `folder` of a folder; a bucket's own rules remove it there. No other
    /// process may be writing there.
    ///
    /// # Errors
    /// `file`.
    pub fn remove_unfinished(&self, folder: &str) -> Result<(), ReadError> {
        if self.name.starts_with(S3) {
            return Ok(());
        }
        let folder = std::path::Path::new(&self.name).join(folder);
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // The library writes to a name with this sign and a number, then renames.
            if file.file_name().to_string_lossy().contains('#') {
                let failed = |error| ReadError::file(format!("{}: {error}", file.path().display()));
                fs::remove_file(file.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn object(&self, name: &str) -> Result<path::Path, ReadError> {
        let parsed = path::Path::parse(format!("{}/{name}", self.prefix).trim_start_matches('/'));
        parsed.map_err(|error| bad_place(&self.name, &error))
    }

    /// Like [`Bucket::failed`], but a folder's errors are those of files: a full disk, missing rights.
    fn broken(&self, name: &dyn Display, error: &Error) -> ReadError {
        if self.name.starts_with(S3) {
            return self.failed(name, error);
        }
        ReadError::file(format!("{}/{name}: {error}", self.name))
    }
}
