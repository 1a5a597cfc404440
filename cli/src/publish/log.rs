//! One log: how far it may be published, what that takes, and the quorum that has to vouch for it.
use std::collections::BTreeSet;

use fama_ledger::adoption;
use fama_ledger::adoption::Adopted;
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::id::NoteHash;
use fama_ledger::limits::{CHECKPOINT_BYTES_MAX, ENTRY_BYTES_MAX};
use fama_ledger::log::{Head, LogError, Tree, leaf_hash, root_at};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::note_quorum::NoteQuorum;
use fama_ledger::public::{self, LogFile, Path, TilePosition};
use fama_ledger::signed_note::SignedNote;
use rayon::prelude::*;

use super::tree::{Grown, PlacedTiles, TILES_AT_ONCE, grow, read, wrong_tree};
use super::{Pass, Publisher, conflict};
use crate::failure::Failure;

/// What is to be published of a log.
pub(super) struct Plan {
    pub(super) log: LogId,
    /// The tree that is published.
    tree: Tree,
    /// The heads to go to, one after the other.
    heads: Vec<Head>,
    /// The checkpoint to publish then, and its head.
    note: Option<(SignedNote, Head)>,
}

impl Plan {
    /// How many entries it adds.
    pub(super) fn entries(&self) -> u64 {
        self.heads.last().map_or(0, |head| head.size.saturating_sub(self.tree.size()))
    }
}

impl Publisher {
    /// Compares the source's head of a log with the published one.
    pub(super) fn plan(&mut self, manifest: &Manifest, log: &LogId) -> Result<Plan, Failure> {
        let path = Path::Log(log.clone(), LogFile::Checkpoint);
        let end = manifest.cut(log).map(|cut| cut.head).filter(|end| end.size > 0);
        let published = self.target.get(&path)?;
        let published = published.map(|note| read_head(&note, manifest, log)).transpose();
        let published = published.map_err(|failure| failure.about(self.target.name()))?;
        let tree = self.published_tree(log, published.as_ref().map(|(_, head)| *head), end)?;
        if let Some((note, _)) = published.as_ref().filter(|_| !self.adopted.contains_key(log)) {
            self.adopted.insert(log.clone(), certifying(note, manifest, log)?);
        }
        let offered = self.source.get(&path)?;
        let offered = offered.map(|note| read_head(&note, manifest, log)).transpose();
        let offered = offered.map_err(|failure| failure.about(self.source.name()))?;
        // Before a quorum cosigned a head, it is the owner's word only.
        let offered = match offered {
            Some((note, head)) if !certifying(&note, manifest, log)?.is_empty() => Some((note, head)),
            _ => None,
        };
        let (known, offer) = (published.as_ref().map(|(_, head)| *head), offered.as_ref().map(|(_, head)| *head));
        self.compare(log, known, offer, end)?;
        let more = match (&published, &offered) {
            (Some((old, before)), Some((new, now))) => now > before || new.signatures.len() > old.signatures.len(),
            (None, offered) => offered.is_some(),
            (Some(_), None) => false,
        };
        let note = offered.filter(|_| more);
        let heads = note.iter().map(|(_, head)| *head).chain(end).filter(|head| head.size > tree.size());
        Ok(Plan { log: log.clone(), heads: heads.collect(), tree, note })
    }

    /// Refuses to go back, and to go on beside what is published.
    fn compare(&self, log: &LogId, known: Option<Head>, offer: Option<Head>, end: Option<Head>) -> Result<(), Failure> {
        let target = self.target.name();
        for head in known.iter().chain(&offer) {
            if end.is_some_and(|end| head.size > end.size || (head.size == end.size && head.root != end.root)) {
                return Err(conflict(format!("a head of {log} at {} is not below its end", head.size)));
            }
        }
        // How far a log that was cut goes is not the source's to say.
        let Some(known) = known.filter(|_| end.is_none()) else { return Ok(()) };
        let offered = offer.map_or(0, |offer| offer.size);
        if offered < known.size {
            let message = format!("{target} has {} entries of {log}, {} has {offered}", known.size, self.source.name());
            return Err(Failure::new("behind", message).hint("the source is behind, or was put back: take another one"));
        }
        if offer.is_some_and(|offer| offer.size == known.size && offer.root != known.root) {
            return Err(conflict(format!("{target} has another {log} at {} than {}", known.size, self.source.name())));
        }
        Ok(())
    }

    /// The tree that is published: at the log's end, else at the published head.
    fn published_tree(&self, log: &LogId, known: Option<Head>, end: Option<Head>) -> Result<Tree, Failure> {
        let at_end = end.map(|end| self.load_published(log, end)).transpose()?.flatten();
        match (at_end, known) {
            (Some(tree), _) => Ok(tree),
            (None, None) => Ok(Tree::default()),
            (None, Some(head)) => self.load_published(log, head)?.ok_or_else(|| {
                let message = format!("{}: the tiles of {log} are not those of its checkpoint", self.target.name());
                Failure::new("published_damaged", message)
                    .hint("remove what is published of this log: all of it is copied anew")
            }),
        }
    }

    /// The published tree of this head; `None` if its tiles are missing or others.
    fn load_published(&self, log: &LogId, head: Head) -> Result<Option<Tree>, Failure> {
        let tiles = PlacedTiles { log, size: head.size, get: |path: &Path| self.target.get(path) };
        match Tree::load(head.size, &tiles) {
            Ok(tree) => Ok(Some(tree).filter(|tree| tree.head() == head)),
            Err(LogError::Tiles(failure)) if failure.code == "unreachable" => Err(failure),
            Err(_) => Ok(None),
        }
    }

    /// Publishes what was planned, and gives the size that is published then.
    pub(super) fn copy(
        &mut self,
        manifest: &Manifest,
        plan: Plan,
        pass: &mut Pass,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, Failure> {
        let Plan { log, mut tree, heads, note } = plan;
        let (mut new, begin) = (New::default(), tree.size());
        for head in heads {
            let grown = grow(&self.source, &log, tree.clone(), head, &self.threads);
            let Grown { tree: grown, leaves, above } = grown.map_err(|failure| self.why(&log, &tree, head, failure))?;
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
        self.notes(new.notes, pass)?;
        if let Some((note, head)) = note {
            // Of a log that was cut the end counts, which the manifest names, whatever is signed.
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

    /// Tells a source whose files do not fit its head from one that has another history than the published one.
    fn why(&self, log: &LogId, tree: &Tree, head: Head, failure: Failure) -> Failure {
        let tiles = PlacedTiles { log, size: head.size, get: |path: &Path| self.source.get(path) };
        let fits = Tree::load(head.size, &tiles).is_ok_and(|theirs| theirs.head() == head);
        let other = root_at(tree.size(), &tiles).is_ok_and(|root| root != tree.head().root);
        if failure.code != "wrong_tree" || !fits || !other {
            return failure;
        }
        let (target, source) = (self.target.name(), self.source.name());
        conflict(format!("{source} has another history of {log} than {target}, which has {} entries", tree.size()))
    }

    /// Reads the bundles of these tiles, which are known by the hash of their content, and gives what to write of
    /// both. Entries from `from` on are new: what they adopt and the notes that they name are added.
    fn read_bundles(
        &self,
        log: &LogId,
        from: u64,
        leaves: &[(TilePosition, blake3::Hash)],
        new: &mut New,
    ) -> Result<(Files, Files), Failure> {
        let read = |(place, content): &(TilePosition, blake3::Hash)| self.read_bundle(log, from, *place, *content);
        let read: Vec<_> = self.threads.install(|| leaves.par_iter().map(read).collect::<Result<_, Failure>>())?;
        let (mut bundles, mut tiles) = (Vec::new(), Vec::new());
        for Read { bundle, tile, adopts, notes } in read {
            bundles.push(bundle);
            tiles.push(tile);
            new.notes.extend(notes);
            new.adopted = adopts.or(new.adopted);
        }
        Ok((bundles, tiles))
    }

    fn read_bundle(&self, log: &LogId, from: u64, place: TilePosition, content: blake3::Hash) -> Result<Read, Failure> {
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
            // What cannot be read names nothing; whether a log may hold it is for auditors to say.
            match codec::decode::<Entry>(entry, ENTRY_BYTES_MAX).map(|entry| entry.body) {
                Ok(Body::Adopt { version, .. }) => adopts = Some(Adopted { version, size: index.saturating_add(2) }),
                Ok(Body::Event(event)) => notes.extend(event.event.action.note()),
                Ok(Body::State { .. }) | Err(_) => {}
            }
        }
        let bundle = public::bundle(&entries).map_err(|_| wrong())?;
        let path = |file| Path::Log(log.clone(), file);
        let (bundle, tile) = ((path(LogFile::Entries(place)), bundle), public::tile(&hashes));
        Ok(Read { bundle, tile: (path(LogFile::Tile(0, place)), tile), adopts, notes })
    }
}

/// What new entries say.
#[derive(Default)]
struct New {
    /// The version adopted last.
    adopted: Option<Adopted>,
    notes: BTreeSet<NoteHash>,
}

type Files = Vec<(Path, Vec<u8>)>;

/// A bundle that fits its tile.
struct Read {
    bundle: (Path, Vec<u8>),
    tile: (Path, Vec<u8>),
    /// Its last new adoption.
    adopts: Option<Adopted>,
    notes: Vec<NoteHash>,
}

/// Reads the note of a head and checks that the log's owner signed it.
fn read_head(note: &[u8], manifest: &Manifest, log: &LogId) -> Result<(SignedNote, Head), Failure> {
    let note = SignedNote::parse(note, CHECKPOINT_BYTES_MAX)
        .map_err(|error| Failure::new(error.code(), format!("checkpoint of {log}: {error}")))?;
    let read = NoteQuorum::read(&note, log, manifest, manifest);
    let read = read.map_err(|error| Failure::new(error.code(), format!("checkpoint of {log}: {error}")))?;
    Ok((note, read.signed.checkpoint().head))
}

/// The versions of which a quorum cosigned a head, from the one on that brought the log.
fn certifying(note: &SignedNote, manifest: &Manifest, log: &LogId) -> Result<Vec<u32>, Failure> {
    let since = manifest.log(log).map_or(1, |known| known.since);
    let mut found = Vec::new();
    for version in manifest.versions().take_while(|version| version.version() >= since) {
        let read = NoteQuorum::read(note, log, manifest, version);
        let read = read.map_err(|error| Failure::new(error.code(), format!("checkpoint of {log}: {error}")))?;
        found.extend(read.is_reached().then(|| version.version()));
    }
    Ok(found)
}

/// The head was cosigned by a quorum of each of these versions.
fn require_quorum(
    manifest: &Manifest,
    log: &LogId,
    note: &SignedNote,
    head: Head,
    adopted: &[u32],
) -> Result<(), Failure> {
    let certifying = certifying(note, manifest, log)?;
    match adopted.iter().find(|version| !certifying.contains(version)) {
        None if !adopted.is_empty() => Ok(()),
        missing => {
            let version = missing.map_or_else(|| "none".to_owned(), ToString::to_string);
            let message =
                format!("the head of {log} at {}, which adopted version {version}, has no quorum of it", head.size);
            Err(Failure::new("uncertified", message).hint("that source is broken or lies: take another"))
        }
    }
}
