//! Copies public files to a folder or bucket, and checks them before a reader can find them there.
//!
//! The order of writes is such that a reader never finds a head whose files are missing: first the manifests; then for
//! each log its bundles and tiles, its notes, and last its checkpoint; then the policy. Nothing of a log is written
//! before its tree was found to have the root of its head. Nothing is ever deleted but notes that the source has dropped:
//! they go first, and their hashes are published, so that no later pass from any source brings them back.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fama_ledger::id::NoteHash;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::note::note_hash;
use fama_ledger::public::{self, DROPPED_NOTES_MAX, Path};
use rayon::prelude::*;

use crate::bucket::Bucket;
use crate::error::ReadError;
use crate::source::PublicSource;

mod log;
mod tree;

/// How many files are read at the same time.
const READS_AT_ONCE: usize = 16;
/// How many missing notes are remembered and asked for again in the next pass; more are not remembered.
const NOTES_WANTED_MAX: usize = 100_000;

/// Copies from one source to one place, one pass for each call.
pub struct Publisher {
    source: PublicSource,
    target: Bucket,
    /// The federation to copy; `None`: whichever the source shows.
    genesis: Option<Arc<Manifest>>,
    threads: rayon::ThreadPool,
    /// For each published log: candidates for the version that it has adopted at its published head.
    adopted: BTreeMap<LogId, Vec<u32>>,
    /// Notes that entries name and the source did not have yet.
    wanted: BTreeSet<NoteHash>,
    /// Notes that are dropped for good, in the source or where it is published.
    dropped: BTreeSet<NoteHash>,
}

/// The result of one pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Number of the newest published manifest version.
    pub version: u32,
    /// Published entries of each log; 0 if none of its heads is certified yet.
    pub logs: BTreeMap<LogId, u64>,
    /// Entries copied by this pass.
    pub entries: u64,
    /// Files written by this pass.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Notes that entries name and the source lacks, without those that it dropped.
    pub notes_missing: usize,
    /// Dropped notes that this pass removed where they had been published.
    pub notes_removed: usize,
    /// All notes that are dropped where it is published.
    pub notes_dropped: usize,
}

impl Pass {
    fn wrote(&mut self, files: &[(Path, Vec<u8>)]) {
        self.files = self.files.saturating_add(files.len() as u64);
        let bytes = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Receives the entries copied so far and the total.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Publisher {
    /// Copies from `source` to `target`; with a `genesis`, its federation only.
    ///
    /// # Errors
    /// `system` if there are no threads.
    pub fn new(source: PublicSource, target: Bucket, genesis: Option<Arc<Manifest>>) -> Result<Self, ReadError> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(READS_AT_ONCE).build();
        let threads = threads.map_err(ReadError::system)?;
        Ok(Self {
            source,
            target,
            genesis,
            threads,
            adopted: BTreeMap::new(),
            wanted: BTreeSet::new(),
            dropped: BTreeSet::new(),
        })
    }

    /// Publishes whatever the source has beyond what is published.
    ///
    /// # Errors
    /// `unreachable` and `behind` (the source has less than is published) may pass by themselves. Anything else needs a
    /// person: `conflict`, or what is wrong with the source. Files written before the error were checked and stay.
    pub fn pass(&mut self, progress: Progress<'_>) -> Result<Pass, ReadError> {
        let mut pass = Pass::default();
        let manifest = self.manifests(&mut pass)?;
        pass.version = manifest.version();
        self.drop_notes(&mut pass)?;
        let plans: Vec<log::LogPlan> =
            manifest.logs().keys().map(|log| self.plan(&manifest, log)).collect::<Result<_, _>>()?;
        let total = plans.iter().map(log::LogPlan::entries).sum();
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

    fn put(&self, files: Vec<(Path, Vec<u8>)>, pass: &mut Pass) -> Result<(), ReadError> {
        pass.wrote(&files);
        self.target.put(files)
    }

    /// The longer of the source's and the published chain, one of which must begin with the other. Publishes the
    /// versions that are missing.
    fn manifests(&self, pass: &mut Pass) -> Result<Arc<Manifest>, ReadError> {
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
                return Err(ReadError::Conflict(message));
            }
            if published.version() > ours.version() {
                return Ok(published);
            }
        }
        // One at a time, in order: a reader takes the first missing version for the end of the chain.
        for version in from.saturating_add(1)..=ours.version() {
            let Some(note) = ours.at(version).map(|manifest| manifest.note().to_string()) else { continue };
            self.put(vec![(Path::Manifest(version), note.into_bytes())], pass)?;
        }
        Ok(ours)
    }

    /// Removes what the source has dropped and this place has not, and publishes the hashes.
    fn drop_notes(&mut self, pass: &mut Pass) -> Result<(), ReadError> {
        let here = dropped(self.target.name(), self.target.get(&Path::Dropped)?)?;
        let there = dropped(self.source.name(), self.source.get(&Path::Dropped)?)?;
        self.dropped = here.union(&there).copied().collect();
        pass.notes_dropped = self.dropped.len();
        self.wanted.retain(|hash| !self.dropped.contains(hash));
        let new: Vec<Path> = there.difference(&here).map(|hash| Path::Note(*hash)).collect();
        if new.is_empty() {
            return Ok(());
        }
        if self.dropped.len() > DROPPED_NOTES_MAX {
            return Err(ReadError::too_large(self.target.name(), &Path::Dropped));
        }
        // The texts go first: a pass that is cut off here removes them again.
        pass.notes_removed = self.target.delete(new)?;
        self.put(vec![(Path::Dropped, public::dropped(&self.dropped).into_bytes())], pass)
    }

    /// Copies those of the notes that the source has, and remembers the others.
    fn notes(&mut self, named: &BTreeSet<NoteHash>, pass: &mut Pass) -> Result<(), ReadError> {
        let named: Vec<NoteHash> = named.difference(&self.dropped).copied().collect();
        for some in named.chunks(READS_AT_ONCE * 16) {
            let read = |hash: &NoteHash| {
                let text = self.source.get(&Path::Note(*hash))?;
                Ok((*hash, text.filter(|text| note_hash(text) == *hash)))
            };
            let read: Vec<_> = self.threads.install(|| some.par_iter().map(read).collect::<Result<_, ReadError>>())?;
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

    fn retry_notes(&mut self, pass: &mut Pass) -> Result<(), ReadError> {
        let wanted = self.wanted.clone();
        self.notes(&wanted, pass)
    }
}

/// Reads a list of dropped notes. Without one, nothing is dropped: nodes of earlier releases have none.
fn dropped(name: &str, list: Option<Vec<u8>>) -> Result<BTreeSet<NoteHash>, ReadError> {
    let Some(list) = list else { return Ok(BTreeSet::new()) };
    let read = std::str::from_utf8(&list).ok().and_then(|text| public::read_dropped(text).ok());
    read.ok_or_else(|| ReadError::Invalid {
        code: "dropped_notes",
        what: format!("{name}/{}", Path::Dropped),
        reason: "want a line with 64 hex digits for each hash, in ascending order".to_owned(),
    })
}

fn published_chain(target: &Bucket) -> Result<Option<Arc<Manifest>>, ReadError> {
    crate::source::chain(target.name(), &|path| target.get(path))
}

fn other_federation(name: &str, found: &Manifest, wanted: &Manifest) -> ReadError {
    let (found, wanted) = (found.federation().to_string(), wanted.federation().to_string());
    ReadError::OtherFederation { name: name.to_owned(), found, wanted }
}
