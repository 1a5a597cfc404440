//! Folders and S3-compatible stores: public files without a server of ours.
use std::fmt::Display;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::public::Path;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig, path};
use tokio::runtime::Runtime;

use crate::error::ReadError;

mod objects;

pub use objects::{OBJECTS_MAX, PIECE_BYTES};

/// Prefix of the names of S3-compatible stores.
pub const S3: &str = "s3://";
/// Timeout of one request.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// How often and for how long a request is retried, with exponential backoff.
const RETRIES_MAX: usize = 6;
const RETRY_TIME: Duration = Duration::from_secs(60);
/// How many files are uploaded at the same time.
const PUTS_AT_ONCE: usize = 32;

/// A folder, or a bucket with a prefix. Any number of threads may share one, but its calls block: none may be made
/// from asynchronous code.
pub struct Bucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: path::Path,
    runtime: Runtime,
}

impl Bucket {
    /// Opens `s3://bucket/prefix`, with credentials, region and endpoint from the environment (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`); any other name is a folder that
    /// must exist.
    ///
    /// # Errors
    /// `bad_place`; `system` if there are no threads.
    pub fn open(name: &str) -> Result<Self, ReadError> {
        let failed = |error: &dyn Display| bad_place(name, error);
        let (store, prefix): (Arc<dyn ObjectStore>, _) = match name.strip_prefix(S3) {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let store = s3(bucket).map_err(|error| failed(&error))?;
                (Arc::new(store), path::Path::parse(prefix.trim_end_matches('/')))
            }
            None => {
                let folder = LocalFileSystem::new_with_prefix(name).map_err(|error| failed(&error))?;
                (Arc::new(folder.with_fsync(true)), Ok(path::Path::default()))
            }
        };
        let prefix = prefix.map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(ReadError::system)?;
        Ok(Self { name: name.to_owned(), store, prefix, runtime })
    }

    /// As [`Bucket::open`]; creates the folder if there is none.
    ///
    /// # Errors
    /// As there; `file` if the folder cannot be created.
    pub fn create(name: &str) -> Result<Self, ReadError> {
        if !name.starts_with(S3) {
            fs::create_dir_all(name).map_err(|error| ReadError::file(format!("{name}: {error}")))?;
        }
        Self::open(name)
    }

    /// The name that it was opened with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content at a path, `None` if there is no such file.
    ///
    /// # Errors
    /// `too_large` beyond [`Path::bytes_max`]; `unreachable`.
    pub fn get(&self, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
        let location = self.location(path)?;
        self.runtime.block_on(async {
            let found = match self.store.get(&location).await {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(self.failed(path, &error)),
            };
            if found.meta.size > path.bytes_max() as u64 {
                return Err(ReadError::too_large(&self.name, path));
            }
            let bytes = found.bytes().await.map_err(|error| self.failed(path, &error))?;
            Ok(Some(bytes.to_vec()))
        })
    }

    /// Writes files, replacing those that exist, many at a time and in no order. When this returns, all
    /// of them are durable.
    ///
    /// # Errors
    /// `unreachable`: any of the files may have been written.
    pub fn put(&self, files: Vec<(Path, Vec<u8>)>) -> Result<(), ReadError> {
        use futures::stream::{StreamExt, TryStreamExt};
        let one = |(path, bytes): (Path, Vec<u8>)| async move {
            let location = self.location(&path)?;
            self.store.put(&location, bytes.into()).await.map_err(|error| self.failed(&path, &error))
        };
        let all = futures::stream::iter(files).map(one).buffer_unordered(PUTS_AT_ONCE).try_collect::<Vec<_>>();
        self.runtime.block_on(all).map(drop)
    }

    fn location(&self, path: &Path) -> Result<path::Path, ReadError> {
        let parsed = path::Path::parse(format!("{}/{path}", self.prefix).trim_start_matches('/'));
        parsed.map_err(|error| bad_place(&self.name, &error))
    }

    fn failed(&self, path: &dyn Display, error: &Error) -> ReadError {
        let (what, reason) = (format!("{}/{path}", self.name), error.to_string());
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ReadError::BucketDenied { what, reason },
            _ if self.name.starts_with(S3) => ReadError::BucketUnreachable { what, reason },
            _ => ReadError::Unreachable { what, reason },
        }
    }
}

fn bad_place(name: &str, error: &dyn Display) -> ReadError {
    ReadError::BadPlace { name: name.to_owned(), reason: error.to_string() }
}

fn s3(bucket: &str) -> Result<object_store::aws::AmazonS3, Error> {
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
    let mut client = ClientOptions::new().with_timeout(REQUEST_TIME);
    // With client options given, the builder no longer reads this variable.
    if std::env::var("AWS_ALLOW_HTTP").is_ok_and(|allow| matches!(allow.as_str(), "1" | "true")) {
        client = client.with_allow_http(true);
    }
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).with_client_options(client);
    // Not every store that speaks S3 deletes many files by one request.
    builder.with_disable_bulk_delete(true).build()
}
