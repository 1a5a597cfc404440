//! One log: how far it may be published, which files that takes, and the quorum that its head needs.
use std::collections::BTreeSet;

use fama_ledger::adoption;
use fama_ledger::adoption::Adopted;
use fama_ledger::checkpoint::CheckpointError;
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::id::NoteHash;
use fama_ledger::limits::{CHECKPOINT_BYTES_MAX, ENTRY_BYTES_MAX};
use fama_ledger::log::{Head, LogError, Tree, leaf_hash, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::note_quorum::{NoteQuorum, NoteReading};
use fama_ledger::public::{self, LogFile, Path, TilePosition};
use fama_ledger::signed_note::SignedNote;
use rayon::prelude::*;

use super::tree::{GrownTree, PlacedTiles, TILES_AT_ONCE, grow, read, wrong_tree};
use super::{Pass, Publisher};
use crate::error::ReadError;

/// What one pass has to publish of a log.
pub(super) struct LogPlan {
    pub(super) log: LogId,
    /// The tree that is published already.
    tree: Tree,
    /// The heads to extend it to, in order.
    heads: Vec<Head>,
    /// The checkpoint to publish afterwards, with its head.
    note: Option<(SignedNote, Head)>,
}

impl LogPlan {
    /// How many entries it adds.
    pub(super) fn entries(&self) -> u64 {
        self.heads.last().map_or(0, |head| head.size.saturating_sub(self.tree.size()))
    }
}

impl Publisher {
    /// Compares the source's head of a log with the published one and decides what to copy.
    pub(super) fn plan(&mut self, manifest: &Manifest, log: &LogId) -> Result<LogPlan, ReadError> {
        let path = Path::Log(log.clone(), LogFile::Checkpoint);
        let end = manifest.cut(log).map(|cut| cut.head).filter(|end| end.size > 0);
        let published = self.target.get(&path)?;
        let published = published.map(|note| read_head(self.target.name(), &note, manifest, log)).transpose()?;
        let tree = self.published_tree(log, published.as_ref().map(|(_, head)| *head), end)?;
        if let Some((note, _)) = published.as_ref().filter(|_| !self.adopted.contains_key(log)) {
            self.adopted.insert(log.clone(), certifying(note, manifest, log)?);
        }
        let offered = self.source.get(&path)?;
        let offered = offered.map(|note| read_head(self.source.name(), &note, manifest, log)).transpose()?;
        // A head without a quorum is only the owner's claim: it may still be replaced by another one.
        let offered = match offered {
            Some((note, head)) if !certifying(&note, manifest, log)?.is_empty() => Some((note, head)),
            _ => None,
        };
        let (known, offer) = (published.as_ref().map(|(_, head)| *head), offered.as_ref().map(|(_, head)| *head));
        self.compare(log, known, offer, end)?;
        let more = match (&published, &offered) {
            (Some((old, before)), Some((new, now))) => {
                let as_of = |note: &SignedNote| NoteQuorum::read(note, log, manifest, manifest).ok()?.as_of();
                let renewed = || as_of(new) > as_of(old);
                now > before || new.signatures.len() > old.signatures.len() || renewed()
            }
            (None, offered) => offered.is_some(),
            (Some(_), None) => false,
        };
        let note = offered.filter(|_| more);
        let heads = note.iter().map(|(_, head)| *head).chain(end).filter(|head| head.size > tree.size());
        Ok(LogPlan { log: log.clone(), heads: heads.collect(), tree, note })
    }

    /// Refuses a head that is smaller than the published one or conflicts with it.
    fn compare(
        &self,
        log: &LogId,
        known: Option<Head>,
        offer: Option<Head>,
        end: Option<Head>,
    ) -> Result<(), ReadError> {
        let target = self.target.name();
        for head in known.iter().chain(&offer) {
            if end.is_some_and(|end| head.size > end.size || (head.size == end.size && head.root != end.root)) {
                return Err(ReadError::Conflict(format!("a head of {log} at {} is not below its end", head.size)));
            }
        }
        // The end of a cut log is fixed by the manifest, not by the source.
        let Some(known) = known.filter(|_| end.is_none()) else { return Ok(()) };
        let offered = offer.map_or(0, |offer| offer.size);
        if offered < known.size {
            return Err(ReadError::Behind {
                target: target.to_owned(),
                published: known.size,
                log: log.to_string(),
                source_name: self.source.name().to_owned(),
                offered,
            });
        }
        if offer.is_some_and(|offer| offer.size == known.size && offer.root != known.root) {
            return Err(ReadError::Conflict(format!(
                "{target} has another {log} at {} than {}",
                known.size,
                self.source.name()
            )));
        }
        Ok(())
    }

    /// The published tree: at the head of the log's cut if it goes that far, else at the published head.
    fn published_tree(&self, log: &LogId, known: Option<Head>, end: Option<Head>) -> Result<Tree, ReadError> {
        let at_end = end.map(|end| self.load_published(log, end)).transpose()?.flatten();
        match (at_end, known) {
            (Some(tree), _) => Ok(tree),
            (None, None) => Ok(Tree::default()),
            (None, Some(head)) => self.load_published(log, head)?.ok_or_else(|| ReadError::PublishedDamaged {
                target: self.target.name().to_owned(),
                log: log.to_string(),
            }),
        }
    }

    /// The published tree of this head; `None` if its tiles are missing or give another root.
    fn load_published(&self, log: &LogId, head: Head) -> Result<Option<Tree>, ReadError> {
        let tiles = PlacedTiles { log, size: head.size, get: |path: &Path| self.target.get(path) };
        match Tree::load(head.size, &tiles) {
            Ok(tree) => Ok(Some(tree).filter(|tree| tree.head() == head)),
            Err(LogError::Tiles(error)) if error.code() == "unreachable" => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Carries out a plan; gives the published size afterwards.
    pub(super) fn copy(
        &mut self,
        manifest: &Manifest,
        plan: LogPlan,
        pass: &mut Pass,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, ReadError> {
        let LogPlan { log, mut tree, heads, note } = plan;
        let (mut new, begin) = (NewEntries::default(), tree.size());
        for head in heads {
            let grown = grow(&self.source, &log, tree.clone(), head, &self.threads);
            let GrownTree { tree: grown, leaves, above } =
                grown.map_err(|error| self.explain(&log, &tree, head, error))?;
            for some in leaves.chunks(TILES_AT_ONCE) {
                let (bundles, tiles) = self.read_bundles(&log, tree.size(), some, &mut new)?;
                self.put(bundles, pass)?;
                self.put(tiles, pass)?;
                let done = some.last().map_or(begin, |(place, _)| place.end());
                progress(done.saturating_sub(begin));
            }
            let tile = |(file, hashes): &(LogFile, Vec<_>)| (Path::Log(log.clone(), *file), public::tile(hashes));
            self.put(above.iter().map(tile).collect(), pass)?;
            tree = grown;
        }
        pass.entries = pass.entries.saturating_add(tree.size().saturating_sub(begin));
        self.notes(&new.notes, pass)?;
        if let Some((note, head)) = note {
            // A cut log needs no quorum: the manifest names its end, and `compare` refused any other.
            if manifest.cut(&log).is_none() {
                let newest = new.adopted.as_ref().map(|adopted| vec![adopted.version]);
                let adopted = newest.or_else(|| self.adopted.get(&log).cloned()).unwrap_or_default();
                let since = manifest.log(&log).map_or(1, |known| known.since);
                let count: Vec<u32> = match new.adopted {
                    Some(adopted) => {
                        let before = Adopted { version: adopted.version.saturating_sub(1).max(since), size: 0 };
                        adoption::certifying(&[before, adopted], since, head.size).collect()
                    }
                    None => adopted.clone(),
                };
                require_quorum(manifest, &log, &note, head, &count)?;
                self.adopted.insert(log.clone(), adopted);
            }
            self.put(vec![(Path::Log(log, LogFile::Checkpoint), note.to_string().into_bytes())], pass)?;
        }
        Ok(tree.size())
    }

    /// Distinguishes a source whose files do not fit its own head from one whose history differs from the published.
    fn explain(&self, log: &LogId, tree: &Tree, head: Head, error: ReadError) -> ReadError {
        let tiles = PlacedTiles { log, size: head.size, get: |path: &Path| self.source.get(path) };
        let fits = Tree::load(head.size, &tiles).is_ok_and(|theirs| theirs.head() == head);
        let other = root_at(tree.size(), &tiles).is_ok_and(|root| root != tree.head().root);
        if error.code() != "wrong_tree" || !fits || !other {
            return error;
        }
        let (target, source) = (self.target.name(), self.source.name());
        ReadError::Conflict(format!(
            "{source} has another history of {log} than {target}, which has {} entries",
            tree.size()
        ))
    }

    /// Reads the bundles of these level-0 tiles, given with the hash of their content, and returns the bundle and tile
    /// files to write. Entries from `from` on are new: their adoptions and notes are added to `new`.
    fn read_bundles(
        &self,
        log: &LogId,
        from: u64,
        leaves: &[(TilePosition, blake3::Hash)],
        new: &mut NewEntries,
    ) -> Result<(FileBatch, FileBatch), ReadError> {
        let read = |(place, content): &(TilePosition, blake3::Hash)| self.read_bundle(log, from, *place, *content);
        let read: Vec<_> = self.threads.install(|| leaves.par_iter().map(read).collect::<Result<_, ReadError>>())?;
        let (mut bundles, mut tiles) = (Vec::new(), Vec::new());
        for ReadBundle { bundle, tile, adopts, notes } in read {
            bundles.push(bundle);
            tiles.push(tile);
            new.notes.extend(notes);
            new.adopted = adopts.or(new.adopted);
        }
        Ok((bundles, tiles))
    }

    fn read_bundle(
        &self,
        log: &LogId,
        from: u64,
        place: TilePosition,
        content: blake3::Hash,
    ) -> Result<ReadBundle, ReadError> {
        let (found, bytes) = read(&self.source, log, LogFile::Entries, place)?;
        let wrong = || wrong_tree(&self.source, log, place.end());
        let mut entries = public::entries(&bytes, found).map_err(|_| wrong())?;
        entries.truncate(place.width());
        let hashes: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        if blake3::hash(hashes.as_flattened()) != content {
            return Err(wrong());
        }
        let (mut adopts, mut notes) = (None, Vec::new());
        for (index, entry) in (place.first()..).zip(&entries).filter(|(index, _)| *index >= from) {
            // An unreadable entry names no note and adopts nothing. That it is invalid, an audit will say.
            match codec::decode::<Entry>(entry, ENTRY_BYTES_MAX).map(|entry| entry.body) {
                Ok(Body::Adopt { version, .. }) => adopts = Some(Adopted { version, size: index.saturating_add(2) }),
                Ok(Body::Event(event)) => notes.extend(event.event.action.note()),
                Ok(Body::State { .. }) | Err(_) => {}
            }
        }
        let bundle = public::bundle(&entries).map_err(|_| wrong())?;
        let path = |file| Path::Log(log.clone(), file);
        let (bundle, tile) = ((path(LogFile::Entries(place)), bundle), public::tile(&hashes));
        Ok(ReadBundle { bundle, tile: (path(LogFile::Tile(0, place)), tile), adopts, notes })
    }
}

/// What the new entries adopt and name.
#[derive(Default)]
struct NewEntries {
    /// The last adoption.
    adopted: Option<Adopted>,
    notes: BTreeSet<NoteHash>,
}

type FileBatch = Vec<(Path, Vec<u8>)>;

/// A bundle and its tile, which fit each other.
struct ReadBundle {
    bundle: (Path, Vec<u8>),
    tile: (Path, Vec<u8>),
    /// The last adoption among its new entries.
    adopts: Option<Adopted>,
    notes: Vec<NoteHash>,
}

/// Reads a checkpoint of `name` and checks that the log's owner signed it.
fn read_head(name: &str, note: &[u8], manifest: &Manifest, log: &LogId) -> Result<(SignedNote, Head), ReadError> {
    let what = format!("{name}: checkpoint of {log}");
    let note =
        SignedNote::parse(note, CHECKPOINT_BYTES_MAX).map_err(|error| invalid(error.code(), what.clone(), &error))?;
    let read = NoteQuorum::read(&note, log, manifest, manifest);
    let read = read.map_err(|error| invalid(error.code(), what, &error))?;
    Ok((note, read.signed.checkpoint().head))
}

fn invalid(code: &'static str, what: String, error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Invalid { code, what, reason: error.to_string() }
}

/// The versions whose quorum cosigned a head, from the version that added the log on.
fn certifying(note: &SignedNote, manifest: &Manifest, log: &LogId) -> Result<Vec<u32>, ReadError> {
    let since = manifest.log(log).map_or(1, |known| known.since);
    let wrong = |error: CheckpointError| invalid(error.code(), format!("checkpoint of {log}"), &error);
    let (mut found, mut reading) = (Vec::new(), NoteReading::of(note, log, manifest).map_err(wrong)?);
    for version in manifest.versions().take_while(|version| version.version() >= since) {
        let read = reading.quorum(version).map_err(wrong)?;
        found.extend(read.is_reached().then(|| version.version()));
    }
    Ok(found)
}

/// Requires that a quorum of each of these versions cosigned the head, and that no reader of `manifest` refuses the
/// newest of them as too old.
fn require_quorum(
    manifest: &Manifest,
    log: &LogId,
    note: &SignedNote,
    head: Head,
    adopted: &[u32],
) -> Result<(), ReadError> {
    let certifying = certifying(note, manifest, log)?;
    let oldest = manifest.adopted_min(log);
    let outdated = Some(&oldest).filter(|oldest| adopted.iter().all(|version| version < *oldest));
    match adopted.iter().find(|version| !certifying.contains(version)).or(outdated) {
        None if !adopted.is_empty() => Ok(()),
        missing => {
            let version = missing.map_or_else(|| "none".to_owned(), ToString::to_string);
            Err(ReadError::Uncertified { log: log.to_string(), size: head.size, version })
        }
    }
}
