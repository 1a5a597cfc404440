//! Reads public files from a node, a static host, a folder, a bucket, or a stopped node's data folder.
//!
//! ```no_run
//! # fn main() -> Result<(), fama_reader::error::ReadError> {
//! use fama_reader::source::PublicSource;
//! let source = PublicSource::open("https://node.alpha.example")?;
//! let checkpoint = source.get(&"log/alpha.example/1/checkpoint".parse().expect("a path"))?;
//! # Ok(()) }
//! ```
use std::io::Read;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fama_ledger::limits::VERSIONS_MAX;
use fama_ledger::manifest::{Manifest, ManifestError};
use fama_ledger::public::Path;
use fama_node::public;
use fama_node::store::Store;

use crate::bucket::{Bucket, S3, has_prefix};
use crate::error::ReadError;
use crate::http::{HttpClient, NoAnswer, NoAnswerKind};

/// How often a request is made before its failure is final.
const TRIES: u32 = 4;
/// Pause after the first failed try; it doubles after each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// Timeout of one request with its whole answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many idle connections are kept open.
const CONNECTIONS_MAX: usize = 32;

/// A place with public files. Of what it serves only the length is checked. Any number of threads may read.
pub struct PublicSource {
    name: String,
    kind: SourceKind,
}

enum SourceKind {
    Http(HttpClient),
    Bucket(Bucket),
    Data(Box<Store>),
}

impl PublicSource {
    /// Opens the URL of a node's query listener or of a static host (`https://…`), a bucket (`s3://bucket/prefix`), a
    /// folder that `fama publish` wrote, a node's data folder, or its configuration file, which names that folder.
    ///
    /// # Errors
    /// `no_source`, `bad_place`, those of the configuration or the data folder: `locked` if a running node uses it.
    pub fn open(name: &str) -> Result<Self, ReadError> {
        let trimmed = name.trim_end_matches('/');
        let path = std::path::Path::new(name);
        let kind = if has_prefix(name, "http://") || has_prefix(name, "https://") {
            SourceKind::Http(HttpClient::new(name, TIMEOUT, CONNECTIONS_MAX))
        } else if has_prefix(name, S3) {
            SourceKind::Bucket(Bucket::open(trimmed)?)
        } else if path.is_file() {
            let config = fama_node::node::configured(path).map_err(|error| ReadError::Config(Box::new(error)))?;
            let store = Store::open(&config.data_dir, &config.manifest).map_err(ReadError::source_store)?;
            SourceKind::Data(Box::new(store))
        } else if path.join("CURRENT").exists() {
            SourceKind::Data(Box::new(Store::open_alone(path).map_err(ReadError::source_store)?))
        } else if path.is_dir() {
            SourceKind::Bucket(Bucket::open(name)?)
        } else {
            return Err(ReadError::NoSource(name.to_owned()));
        };
        Ok(Self { name: trimmed.to_owned(), kind })
    }

    /// The name that it was opened with, without slashes at its end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content at a path, `None` if there is no such file.
    ///
    /// # Errors
    /// `unreachable` after retries, `too_large` beyond [`Path::bytes_max`], `no_node` for a status that no node gives,
    /// or the error of the data folder.
    pub fn get(&self, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
        match &self.kind {
            SourceKind::Http(client) => self.get_http(client, path),
            SourceKind::Bucket(bucket) => bucket.get(path),
            SourceKind::Data(store) => {
                let found = public::file(&store.view(), store.manifest(), path);
                found.map_err(ReadError::source_store)
            }
        }
    }

    /// The chain of the manifest's versions, verified from its genesis on. Whether to trust that genesis is for the
    /// caller to decide.
    ///
    /// # Errors
    /// `no_manifest` if there is none; the rule that a version breaks; as [`PublicSource::get`].
    pub fn manifest(&self) -> Result<Arc<Manifest>, ReadError> {
        chain(&self.name, &|path| self.get(path))?.ok_or_else(|| ReadError::NoManifest(self.name.clone()))
    }

    fn get_http(&self, client: &HttpClient, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
        let url = format!("{}/{path}", self.name);
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.try_http(client, &url, path) {
                Err(ReadError::Unreachable { .. }) => thread::sleep(pause),
                done => return done,
            }
            pause *= 2;
        }
        self.try_http(client, &url, path)
    }

    fn try_http(&self, client: &HttpClient, url: &str, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
        let unreachable =
            |error: &dyn std::fmt::Display| ReadError::Unreachable { what: url.to_owned(), reason: error.to_string() };
        let no_answer = |NoAnswer { kind, reason }: NoAnswer| {
            let what = url.to_owned();
            match kind {
                NoAnswerKind::Url => ReadError::BadUrl { url: what, reason },
                NoAnswerKind::Certificate(hint) => ReadError::Certificate { what, reason, hint },
                NoAnswerKind::Tls => ReadError::NoTls { what, reason },
                NoAnswerKind::Proxy => ReadError::Proxy { what, reason },
                NoAnswerKind::Server => ReadError::Unreachable { what, reason },
            }
        };
        let answer = client.agent().map_err(no_answer)?.get(url).call();
        let mut response = answer.map_err(|error| no_answer(client.explain(&error)))?;
        match response.status().as_u16() {
            200 => {}
            // Object stores that hide their listing answer 403 for a missing file.
            403 | 404 | 410 => return Ok(None),
            429 | 500.. => return Err(unreachable(&response.status())),
            _ => {
                return Err(ReadError::NoNode { url: url.to_owned(), status: response.status().to_string() });
            }
        }
        let (mut bytes, max) = (Vec::new(), path.bytes_max());
        // Limits the decompressed bytes: a small compressed answer may expand without end.
        let reader = response.body_mut().as_reader();
        reader.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreachable(&error))?;
        if bytes.len() > max { Err(ReadError::too_large(&self.name, path)) } else { Ok(Some(bytes)) }
    }
}

/// The verified chain of versions that `get` reads, `None` if it has no genesis.
pub(crate) fn chain(
    name: &str,
    get: &dyn Fn(&Path) -> Result<Option<Vec<u8>>, ReadError>,
) -> Result<Option<Arc<Manifest>>, ReadError> {
    let about = |version: u32, error: ManifestError| ReadError::Invalid {
        code: error.code(),
        what: format!("{name}/manifest/{version}"),
        reason: error.to_string(),
    };
    let read = |version: u32| {
        let text = get(&Path::Manifest(version))?.map(String::from_utf8).transpose();
        text.map_err(|_| about(version, ManifestError::Note("not UTF-8".into())))
    };
    let Some(genesis) = read(1)? else { return Ok(None) };
    let mut newest = Arc::new(Manifest::parse(&genesis).map_err(|error| about(1, error))?);
    while let Some(next) = read(newest.version().saturating_add(1))? {
        let version = newest.version().saturating_add(1);
        if usize::try_from(version).is_ok_and(|version| version > VERSIONS_MAX) {
            return Err(about(version, ManifestError::ChainTooLong));
        }
        newest = Arc::new(newest.successor(&next).map_err(|error| about(version, error))?);
    }
    Ok(Some(newest))
}
