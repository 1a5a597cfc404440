//! Folders and S3-compatible stores: the places where public files lie and nobody answers.
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::public::Path;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig, path};
use tokio::runtime::Runtime;

use crate::failure::Failure;

/// What names of S3-compatible stores begin with.
pub const S3: &str = "s3://";
/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// How often a request is tried again, and for how long, with growing pauses.
const RETRIES_MAX: usize = 6;
const RETRY_TIME: Duration = Duration::from_secs(60);

/// A folder, or a bucket with a prefix. Any number of threads may use it, none of them an asynchronous one.
pub struct Bucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: path::Path,
    runtime: Runtime,
}

impl Bucket {
    /// `s3://bucket/prefix`, with credentials, region and endpoint from the environment (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`), else a folder that exists.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let failed = |error: Error| Failure::new("bad_place", format!("{name}: {error}"));
        let (store, prefix): (Arc<dyn ObjectStore>, _) = match name.strip_prefix(S3) {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                (Arc::new(s3(bucket).map_err(failed)?), path::Path::parse(prefix.trim_end_matches('/')))
            }
            None => {
                let folder = LocalFileSystem::new_with_prefix(name).map_err(failed)?;
                (Arc::new(folder.with_fsync(true)), Ok(path::Path::default()))
            }
        };
        let prefix = prefix.map_err(|error| Failure::new("bad_place", format!("{name}: {error}")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("system", error))?;
        Ok(Self { name: name.to_owned(), store, prefix, runtime })
    }

    /// As [`Bucket::open`]; a folder is made if there is none.
    ///
    /// # Errors
    /// As there, or what the system says.
    pub fn create(name: &str) -> Result<Self, Failure> {
        if !name.starts_with(S3) {
            fs::create_dir_all(name).map_err(|error| Failure::new("file", format!("{name}: {error}")))?;
        }
        Self::open(name)
    }

    /// Where it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content at a path, if there is any.
    ///
    /// # Errors
    /// `too_large` beyond what such a file may have; `unreachable`.
    pub fn get(&self, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        let place = self.place(path)?;
        self.runtime.block_on(async {
            let found = match self.store.get(&place).await {
                Ok(found) => found,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(self.failed(path, &error)),
            };
            if found.meta.size > path.bytes_max() as u64 {
                return Err(too_large(&self.name, path));
            }
            let bytes = found.bytes().await.map_err(|error| self.failed(path, &error))?;
            Ok(Some(bytes.to_vec()))
        })
    }

    /// Puts files there, many at a time, in place of what lies there; all of them are there when this returns.
    ///
    /// # Errors
    /// `unreachable`: some of them may be there.
    pub fn put(&self, files: Vec<(Path, Vec<u8>)>) -> Result<(), Failure> {
        use futures::stream::{StreamExt, TryStreamExt};
        let one = |(path, bytes): (Path, Vec<u8>)| async move {
            let place = self.place(&path)?;
            self.store.put(&place, bytes.into()).await.map_err(|error| self.failed(&path, &error))
        };
        let all = futures::stream::iter(files).map(one).buffer_unordered(PUTS_AT_ONCE).try_collect::<Vec<_>>();
        self.runtime.block_on(all).map(drop)
    }

    fn place(&self, path: &Path) -> Result<path::Path, Failure> {
        let parsed = path::Path::parse(format!("{}/{path}", self.prefix).trim_start_matches('/'));
        parsed.map_err(|error| Failure::new("bad_place", format!("{}: {error}", self.name)))
    }

    fn failed(&self, path: &Path, error: &Error) -> Failure {
        let failure = Failure::new("unreachable", format!("{}/{path}: {error}", self.name));
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                failure.hint("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment must be allowed to")
            }
            _ if self.name.starts_with(S3) => {
                failure.hint("AWS_ENDPOINT names a store other than Amazon's, AWS_ALLOW_HTTP=true lets it be http")
            }
            _ => failure,
        }
    }
}

/// How many files are put at the same time.
const PUTS_AT_ONCE: usize = 32;

/// What a source that sends more than it may is told of.
pub(crate) fn too_large(name: &str, path: &Path) -> Failure {
    Failure::new("too_large", format!("{name}/{path} is longer than {} bytes", path.bytes_max()))
}

fn s3(bucket: &str) -> Result<object_store::aws::AmazonS3, Error> {
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
    let mut client = ClientOptions::new().with_timeout(REQUEST_TIME);
    // The builder takes this variable up only if no options are given.
    if std::env::var("AWS_ALLOW_HTTP").is_ok_and(|allow| matches!(allow.as_str(), "1" | "true")) {
        client = client.with_allow_http(true);
    }
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).with_client_options(client);
    builder.build()
}
