//! Folders and S3-compatible stores: public files without a server of ours.
use std::fmt::Display;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::public::Path;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{Certificate, ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig, path};
use tokio::runtime::Runtime;

use crate::error::ReadError;
use crate::http::{INVALID_CERTIFICATE, certificate_hint};

mod objects;

pub use objects::{OBJECTS_MAX, PIECE_BYTES};

/// Prefix of the names of S3-compatible stores.
pub const S3: &str = "s3://";

/// Whether a name begins with a scheme, which may be in any case.
pub(crate) fn has_prefix(name: &str, scheme: &str) -> bool {
    name.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
}
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
        let (store, prefix): (Arc<dyn ObjectStore>, _) = match Place::of(name)? {
            Place::Bucket { bucket, prefix } => {
                check_credentials(name)?;
                let store = s3(bucket).map_err(|error| failed(&error))?;
                (Arc::new(store), path::Path::parse(prefix))
            }
            Place::Folder => {
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
        if matches!(Place::of(name)?, Place::Folder) {
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

    /// Deletes files, many at a time; returns how many were there, as far as the store tells. Missing ones are no error.
    ///
    /// # Errors
    /// `unreachable`: any of the files may have been deleted.
    pub fn delete(&self, paths: Vec<Path>) -> Result<usize, ReadError> {
        use futures::stream::{StreamExt, TryStreamExt};
        let one = |path: Path| async move {
            let location = self.location(&path)?;
            // A store's answer to deleting does not say whether there was anything.
            match self.store.head(&location).await {
                Err(Error::NotFound { .. }) => return Ok(0),
                Err(error) => return Err(self.failed(&path, &error)),
                Ok(_) => {}
            }
            match self.store.delete(&location).await {
                Ok(()) => Ok(1),
                Err(Error::NotFound { .. }) => Ok(0),
                Err(error) => Err(self.failed(&path, &error)),
            }
        };
        let all = futures::stream::iter(paths).map(one).buffer_unordered(PUTS_AT_ONCE).try_collect::<Vec<usize>>();
        self.runtime.block_on(all).map(|deleted| deleted.iter().sum())
    }

    fn location(&self, path: &Path) -> Result<path::Path, ReadError> {
        let parsed = path::Path::parse(format!("{}/{path}", self.prefix).trim_start_matches('/'));
        parsed.map_err(|error| bad_place(&self.name, &error))
    }

    fn failed(&self, path: &dyn Display, error: &Error) -> ReadError {
        let (what, mut reason) = (format!("{}/{path}", self.name), error.to_string());
        // The client's error does not repeat its cause, which says most: a certificate, a refused connection.
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let cause = cause.to_string();
        if !reason.contains(&cause) {
            reason = format!("{reason}: {cause}");
        }
        match error {
            _ if reason.contains(INVALID_CERTIFICATE) => {
                let hint = certificate_hint(&reason);
                ReadError::Certificate { what, reason, hint }
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ReadError::BucketDenied { what, reason },
            _ if reason.contains("redentials") => ReadError::BucketDenied { what, reason },
            _ if has_prefix(&self.name, S3) => ReadError::BucketUnreachable { what, reason },
            _ => ReadError::Unreachable { what, reason },
        }
    }
}

/// What a name stands for.
enum Place<'a> {
    Bucket { bucket: &'a str, prefix: &'a str },
    Folder,
}

impl<'a> Place<'a> {
    /// Refuses what looks like an address without being one: a shell leaves a gap where a variable is not set, and every
    /// text is the name of some folder.
    fn of(name: &'a str) -> Result<Self, ReadError> {
        let Some((scheme, rest)) = name.split_once("://") else {
            return if name.is_empty() { Err(bad_place(name, &EMPTY)) } else { Ok(Self::Folder) };
        };
        if !has_prefix(name, S3) {
            return Err(bad_place(name, &format!("want s3:// or a folder, not {scheme}://")));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        if bucket.is_empty() {
            return Err(bad_place(name, &format!("the bucket has no name: {EMPTY}")));
        }
        if !bucket.bytes().all(plain) {
            return Err(bad_place(name, &"the bucket's name has characters that no bucket has"));
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.starts_with('/') || prefix.contains("//") {
            return Err(bad_place(name, &format!("two slashes in a row: {EMPTY}")));
        }
        Ok(Self::Bucket { bucket, prefix })
    }
}

const EMPTY: &str = "is a variable not set?";
/// The variables that say where credentials are, other than on the machine's metadata service.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];
/// Where machines of Amazon's get credentials.
const METADATA: &str = "http://169.254.169.254";
/// How long that may take.
const METADATA_TIME: Duration = Duration::from_secs(3);

/// Finds out whether there are credentials. Without any, they would be asked of a metadata service that most machines do
/// not have, for a minute, and the error would not say a word of credentials.
fn check_credentials(name: &str) -> Result<(), ReadError> {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if CREDENTIALS.iter().any(set) {
        return Ok(());
    }
    let service = std::env::var("AWS_METADATA_ENDPOINT").ok().filter(|service| !service.is_empty());
    let service = service.unwrap_or_else(|| METADATA.to_owned());
    let config =
        ureq::Agent::config_builder().timeout_global(Some(METADATA_TIME)).http_status_as_error(false).proxy(None);
    let asked = config.build().new_agent().put(format!("{}/latest/api/token", service.trim_end_matches('/')));
    let answer = asked.header("x-aws-ec2-metadata-token-ttl-seconds", "60").send_empty();
    answer.map(drop).map_err(|error| ReadError::BucketDenied {
        what: name.to_owned(),
        reason: format!("no AWS credentials: none in the environment, and none from {service}: {error}"),
    })
}

fn bad_place(name: &str, error: &dyn Display) -> ReadError {
    ReadError::BadPlace { name: name.to_owned(), reason: error.to_string() }
}

/// As [`AmazonS3Builder::from_env`], but a variable that is set to nothing counts as not set.
fn from_env() -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && name.starts_with("AWS_")
            && !value.is_empty()
            && let Ok(key) = name.to_ascii_lowercase().parse()
        {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

fn s3(bucket: &str) -> Result<object_store::aws::AmazonS3, Error> {
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
    let mut client = ClientOptions::new().with_timeout(REQUEST_TIME);
    // With client options given, the builder no longer reads this variable.
    if std::env::var("AWS_ALLOW_HTTP").is_ok_and(|allow| matches!(allow.as_str(), "1" | "true")) {
        client = client.with_allow_http(true);
    }
    for der in crate::http::trusted() {
        client = client.with_root_certificate(Certificate::from_der(&der)?);
    }
    let builder = from_env().with_bucket_name(bucket).with_retry(retry).with_client_options(client);
    // Not every store that speaks S3 deletes many files by one request.
    builder.with_disable_bulk_delete(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symptom: everything went into a bucket named after the prefix, or into a folder named `S3:`.
    #[test]
    fn a_gap_in_a_name_is_no_place() {
        for (name, want) in [
            ("s3://b", Some(("b", ""))),
            ("S3://b/fama/", Some(("b", "fama"))),
            ("s3://b/a/b", Some(("b", "a/b"))),
            ("public", None),
            ("./a:b", None),
            ("/", None),
        ] {
            let place = match Place::of(name).unwrap() {
                Place::Bucket { bucket, prefix } => Some((bucket, prefix)),
                Place::Folder => None,
            };
            assert_eq!(place, want, "{name}");
        }
        for name in [
            "",
            "s3://",
            "s3:///fama",
            "s3://b//x",
            "s3://b/x//y",
            "s3://b c",
            "s3://$B/x",
            "gs://b",
            "file:///b",
            "https://b",
        ] {
            assert_eq!(Place::of(name).err().map(|error| error.code()), Some("bad_place"), "{name}");
        }
    }
}
