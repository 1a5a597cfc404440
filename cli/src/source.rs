//! Where public files are read from: a node, a static host, a folder, a bucket, or a stopped node's data folder.
//!
//! ```no_run
//! # fn main() -> Result<(), fama_cli::failure::Failure> {
//! use fama_cli::source::Source;
//! let source = Source::open("https://node.alpha.example")?;
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
use fama_node::config::Config;
use fama_node::public;
use fama_node::store::{Store, StoreError};

use crate::bucket::{Bucket, S3, too_large};
use crate::failure::Failure;

/// How often a request is tried before it is given up.
const TRIES: u32 = 4;
/// The first pause between two tries; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an answer may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many connections are kept for the next request.
const CONNECTIONS_MAX: usize = 32;

/// A place with public files. Nothing that it gives is checked but its length. Any number of threads may read.
pub struct Source {
    name: String,
    kind: Kind,
}

enum Kind {
    Http(ureq::Agent),
    Files(Bucket),
    Data(Box<Store>),
}

impl Source {
    /// A URL of a node's query listener or of a static host (`https://…`), a bucket (`s3://bucket/prefix`), a folder
    /// that `fama publish` wrote, a node's data folder, or its configuration file, which names the data folder.
    ///
    /// # Errors
    /// What is wrong with it: `locked` if a running node uses the data folder.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let trimmed = name.trim_end_matches('/');
        let path = std::path::Path::new(name);
        let kind = if name.starts_with("http://") || name.starts_with("https://") {
            Kind::Http(agent())
        } else if name.starts_with(S3) {
            Kind::Files(Bucket::open(trimmed)?)
        } else if path.is_file() {
            let config = Config::load(path)?;
            Kind::Data(Box::new(
                Store::open(&config.data_dir, &config.manifest).map_err(|error| store_failure(&error))?,
            ))
        } else if path.join("CURRENT").exists() {
            Kind::Data(Box::new(Store::open_alone(path).map_err(|error| store_failure(&error))?))
        } else if path.is_dir() {
            Kind::Files(Bucket::open(name)?)
        } else {
            return Err(Failure::new("no_source", format!("{name}: no such folder")).hint(
                "want a URL like http://127.0.0.1:8080, a published folder, s3://bucket/prefix, or a data folder",
            ));
        };
        Ok(Self { name: trimmed.to_owned(), kind })
    }

    /// As it was named.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content at a path; `None` if there is none. At most [`Path::bytes_max`].
    ///
    /// # Errors
    /// `unreachable` after some tries, `too_large`, `no_node` for an answer that is none, or what the disk says.
    pub fn get(&self, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        match &self.kind {
            Kind::Http(agent) => self.get_http(agent, path),
            Kind::Files(bucket) => bucket.get(path),
            Kind::Data(store) => {
                let found = public::file(&store.view(), store.manifest(), path);
                found.map_err(|error| store_failure(&error))
            }
        }
    }

    /// The chain of the manifest's versions, verified from its genesis on; whose genesis it is, the caller decides.
    ///
    /// # Errors
    /// `no_manifest` if there is none; what is wrong with one; as [`Source::get`].
    pub fn manifest(&self) -> Result<Arc<Manifest>, Failure> {
        chain(&self.name, &|path| self.get(path))?.ok_or_else(|| {
            Failure::new("no_manifest", format!("{} has no manifest/1", self.name)).hint("is that the right place?")
        })
    }

    fn get_http(&self, agent: &ureq::Agent, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        let url = format!("{}/{path}", self.name);
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.try_http(agent, &url, path) {
                Err(failure) if failure.code == "unreachable" => thread::sleep(pause),
                done => return done,
            }
            pause *= 2;
        }
        self.try_http(agent, &url, path)
    }

    fn try_http(&self, agent: &ureq::Agent, url: &str, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| Failure::new("unreachable", format!("{url}: {error}"));
        let mut response = match agent.get(url).call() {
            Ok(response) => response,
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                return Err(Failure::new("bad_url", format!("{url}: {error}")));
            }
            Err(error) => return Err(unreachable(&error)),
        };
        match response.status().as_u16() {
            200 => {}
            // Stores that hide their listing say 403 of what is not there.
            403 | 404 | 410 => return Ok(None),
            429 | 500.. => return Err(unreachable(&response.status())),
            _ => return Err(Failure::new("no_node", format!("{url}: status {}", response.status()))),
        }
        let (mut bytes, max) = (Vec::new(), path.bytes_max());
        // Behind the decoder: what is small when packed may be endless.
        let reader = response.body_mut().as_reader();
        reader.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreachable(&error))?;
        if bytes.len() > max { Err(too_large(&self.name, path)) } else { Ok(Some(bytes)) }
    }
}

/// The verified chain of versions at a place, if there is one.
pub(crate) fn chain(
    name: &str,
    get: &dyn Fn(&Path) -> Result<Option<Vec<u8>>, Failure>,
) -> Result<Option<Arc<Manifest>>, Failure> {
    let about = |version: u32, error: ManifestError| Failure::from(error).about(format!("{name}/manifest/{version}"));
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

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .timeout_connect(Some(Duration::from_secs(5)))
        .http_status_as_error(false)
        .max_idle_connections(CONNECTIONS_MAX)
        .max_idle_connections_per_host(CONNECTIONS_MAX)
        .user_agent(concat!("fama/", env!("CARGO_PKG_VERSION")))
        .build();
    config.new_agent()
}

fn store_failure(error: &StoreError) -> Failure {
    let failure = Failure::new(error.code(), error);
    match error {
        StoreError::Locked { .. } => failure.hint("a running node serves the same files: name its query URL instead"),
        _ => failure,
    }
}
