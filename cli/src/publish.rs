//! Copying public files to a folder or bucket, checked before who reads there is pointed to them.
//!
//! What is written, in this order, so that a reader never finds a head whose files are missing: manifests; of each
//! log bundles and tiles, then notes, then the checkpoint; the policy. Nothing is written of a log before its tree
//! was found to be the one that the head says, and nothing is ever deleted.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fama_ledger::id::NoteHash;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::note::note_hash;
use fama_ledger::public::{self, Path};
use rayon::prelude::*;

use crate::bucket::Bucket;
use crate::failure::Failure;
use crate::source::Source;

mod log;
mod tree;

/// How many files are read at the same time.
const READS_AT_ONCE: usize = 16;
/// How many notes that could not be had are asked for again; what is beyond them is told as missing only.
const NOTES_WANTED_MAX: usize = 100_000;

/// Copies from one source to one place, as often as it is told to.
pub struct Publisher {
    source: Source,
    target: Bucket,
    /// The federation to copy, if it is not just the source's.
    genesis: Option<Arc<Manifest>>,
    threads: rayon::ThreadPool,
    /// The versions of which one is the one that a log has adopted where it was published to.
    adopted: BTreeMap<LogId, Vec<u32>>,
    /// Notes that entries name and the source did not have.
    wanted: BTreeSet<NoteHash>,
}

/// What one pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The newest version of the manifest there now.
    pub version: u32,
    /// Logs whose published size is that now; 0: nothing is certified yet.
    pub logs: BTreeMap<LogId, u64>,
    /// Entries that were copied.
    pub entries: u64,
    /// Files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Notes that entries name and the source does not have, or not yet.
    pub notes_missing: usize,
}

impl Pass {
    fn wrote(&mut self, files: &[(Path, Vec<u8>)]) {
        self.files = self.files.saturating_add(files.len() as u64);
        let bytes = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Told how many entries are done, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Publisher {
    /// From `source` to `target`; of `genesis`' federation only, if there is one.
    ///
    /// # Errors
    /// `system` if there are no threads.
    pub fn new(source: Source, target: Bucket, genesis: Option<Arc<Manifest>>) -> Result<Self, Failure> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(READS_AT_ONCE).build();
        let threads = threads.map_err(|error| Failure::new("system", error))?;
        Ok(Self { source, target, genesis, threads, adopted: BTreeMap::new(), wanted: BTreeSet::new() })
    }

    /// Makes what is published as new as the source.
    ///
    /// # Errors
    /// `unreachable`, which may pass; `behind` if more is published than the source has; else something that people
    /// have to look at: `conflict`, or what is wrong with the source. What was written by then is checked and stays.
    pub fn pass(&mut self, progress: Progress<'_>) -> Result<Pass, Failure> {
        let mut pass = Pass::default();
        let manifest = self.manifests(&mut pass)?;
        pass.version = manifest.version();
        let plans: Vec<log::Plan> =
            manifest.logs().keys().map(|log| self.plan(&manifest, log)).collect::<Result<_, _>>()?;
        let total = plans.iter().map(log::Plan::entries).sum();
        for plan in plans {
            let (log, done) = (plan.log.clone(), pass.entries);
            let size = self.copy(&manifest, plan, &mut pass, &mut |entries| progress(done + entries, total))?;
            pass.logs.insert(log, size);
        }
        self.retry_notes(&mut pass)?;
        let policy = public::policy(&manifest).into_bytes();
        if self.target.get(&Path::Policy)?.as_ref() != Some(&policy) {
            self.put(vec![(Path::Policy, policy)], &mut pass)?;
        }
        pass.notes_missing = self.wanted.len();
        Ok(pass)
    }

    fn put(&self, files: Vec<(Path, Vec<u8>)>, pass: &mut Pass) -> Result<(), Failure> {
        pass.wrote(&files);
        self.target.put(files)
    }

    /// The longer of the two chains, of which one begins the other; what is not published yet is then.
    fn manifests(&self, pass: &mut Pass) -> Result<Arc<Manifest>, Failure> {
        let ours = self.source.manifest()?;
        if let Some(genesis) = self.genesis.as_ref().filter(|genesis| genesis.federation() != ours.federation()) {
            return Err(other_federation(self.source.name(), &ours, genesis));
        }
        let published = published_chain(&self.target)?;
        let from = published.as_ref().map_or(0, |published| published.version());
        if let Some(published) = published {
            if published.federation() != ours.federation() {
                return Err(other_federation(self.target.name(), &published, &ours));
            }
            let both = published.version().min(ours.version());
            let hash = |chain: &Manifest| chain.at(both).map(Manifest::hash);
            if hash(&published) != hash(&ours) {
                let message = format!("{} has another version {both} of the manifest", self.target.name());
                return Err(conflict(message));
            }
            if published.version() > ours.version() {
                return Ok(published);
            }
        }
        // One after the other: the first that is missing ends the chain.
        for version in from.saturating_add(1)..=ours.version() {
            let Some(note) = ours.at(version).map(|manifest| manifest.note().to_string()) else { continue };
            self.put(vec![(Path::Manifest(version), note.into_bytes())], pass)?;
        }
        Ok(ours)
    }

    /// Copies what there is of these notes, and remembers the others.
    fn notes(&mut self, named: BTreeSet<NoteHash>, pass: &mut Pass) -> Result<(), Failure> {
        let named: Vec<NoteHash> = named.into_iter().collect();
        for some in named.chunks(READS_AT_ONCE * 16) {
            let read = |hash: &NoteHash| {
                let text = self.source.get(&Path::Note(*hash))?;
                Ok((*hash, text.filter(|text| note_hash(text) == *hash)))
            };
            let read: Vec<_> = self.threads.install(|| some.par_iter().map(read).collect::<Result<_, Failure>>())?;
            let mut files = Vec::new();
            for (hash, text) in read {
                match text {
                    Some(text) => {
                        self.wanted.remove(&hash);
                        files.push((Path::Note(hash), text));
                    }
                    None if self.wanted.len() < NOTES_WANTED_MAX => drop(self.wanted.insert(hash)),
                    None => {}
                }
            }
            self.put(files, pass)?;
        }
        Ok(())
    }

    fn retry_notes(&mut self, pass: &mut Pass) -> Result<(), Failure> {
        let wanted = self.wanted.clone();
        self.notes(wanted, pass)
    }
}

fn published_chain(target: &Bucket) -> Result<Option<Arc<Manifest>>, Failure> {
    crate::source::chain(target.name(), &|path| target.get(path))
}

fn other_federation(name: &str, found: &Manifest, wanted: &Manifest) -> Failure {
    let message = format!("{name} is of the federation {}, not {}", found.federation(), wanted.federation());
    Failure::new("other_federation", message).hint("each federation has a place of its own")
}

/// Somebody lied, or two federations are mixed up: no program decides that.
fn conflict(message: impl std::fmt::Display) -> Failure {
    Failure::new("conflict", message)
        .hint("nothing was overwritten; `fama audit` with both as sources says which log has two histories")
}
