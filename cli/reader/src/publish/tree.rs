//! Rebuilds the tree of a log from a source's tiles and compares it with a signed head, before anything is published.
use std::collections::BTreeMap;

use fama_ledger::log::{Hash, Head, TILE_WIDTH, Tiles, Tree};
use fama_ledger::manifest::LogId;
use fama_ledger::public::{self, LogFile, Path, TilePosition};
use rayon::prelude::*;

use crate::error::ReadError;
use crate::source::PublicSource;

/// How many tiles or bundles are held in memory at the same time.
pub(super) const TILES_AT_ONCE: usize = 64;

/// The tiles of a tree of a known size, read with `get`.
pub(super) struct PlacedTiles<'a, G> {
    pub(super) log: &'a LogId,
    pub(super) size: u64,
    pub(super) get: G,
}

impl<G: Fn(&Path) -> Result<Option<Vec<u8>>, ReadError>> Tiles for PlacedTiles<'_, G> {
    type Error = ReadError;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, ReadError> {
        let hashes = self.size.unbounded_shr(8 * u32::from(level)).saturating_sub(index.saturating_mul(256));
        let width = usize::try_from(hashes).map_or(TILE_WIDTH, |hashes| hashes.min(TILE_WIDTH));
        let Some(place) = TilePosition::new(index, width) else { return Ok(Vec::new()) };
        let path = Path::Log(self.log.clone(), LogFile::Tile(level, place));
        let bytes = (self.get)(&path)?;
        bytes.map_or(Ok(Vec::new()), |bytes| hashes_of(&bytes, place, &path))
    }
}

fn hashes_of(bytes: &[u8], place: TilePosition, path: &Path) -> Result<Vec<Hash>, ReadError> {
    public::hashes(bytes, place).map_err(|error| ReadError::Invalid {
        code: error.code(),
        what: path.to_string(),
        reason: error.to_string(),
    })
}

/// Makes the file of one kind at a place: [`LogFile::Entries`], or [`LogFile::Tile`] of a level.
pub(super) type FileAt = fn(TilePosition) -> LogFile;

/// Reads a tile or bundle that the source must have, or the full one that replaced it; gives the place found.
pub(super) fn read(
    source: &PublicSource,
    log: &LogId,
    kind: FileAt,
    place: TilePosition,
) -> Result<(TilePosition, Vec<u8>), ReadError> {
    let path = Path::Log(log.clone(), kind(place));
    let full = TilePosition::new(place.index(), TILE_WIDTH).filter(|_| !place.is_full());
    let mut found = source.get(&path)?.map(|bytes| (place, bytes));
    if let Some(full) = full.filter(|_| found.is_none()) {
        found = source.get(&Path::Log(log.clone(), kind(full)))?.map(|bytes| (full, bytes));
    }
    found.ok_or_else(|| ReadError::MissingFile(format!("{}/{path}", source.name())))
}

/// The places of the bundles that grow when a tree goes from `before` to `size` leaves.
pub(super) fn places(before: u64, size: u64) -> Vec<TilePosition> {
    let bundle = |file: LogFile| if let LogFile::Entries(place) = file { Some(place) } else { None };
    LogFile::grown(before, size).map_while(bundle).collect()
}

/// A tree extended with the tiles of a source.
pub(super) struct GrownTree {
    /// The tree, now at the head.
    pub(super) tree: Tree,
    /// Each level-0 tile that is new or longer: its place and the hash of its content.
    pub(super) leaves: Vec<(TilePosition, blake3::Hash)>,
    /// The tiles above level 0 that are new or longer.
    pub(super) above: Vec<(LogFile, Vec<Hash>)>,
}

/// Appends the source's leaf hashes to `tree`, which must give `head`.
///
/// # Errors
/// `wrong_tree` if they give another root; as [`PublicSource::get`].
pub(super) fn grow(
    source: &PublicSource,
    log: &LogId,
    mut tree: Tree,
    head: Head,
    threads: &rayon::ThreadPool,
) -> Result<GrownTree, ReadError> {
    let (mut leaves, mut above) = (Vec::new(), BTreeMap::new());
    for some in places(tree.size(), head.size).chunks(TILES_AT_ONCE) {
        let read = |place: &TilePosition| {
            let (found, bytes) = read(source, log, |place| LogFile::Tile(0, place), *place)?;
            let mut hashes = hashes_of(&bytes, found, &Path::Log(log.clone(), LogFile::Tile(0, found)))?;
            hashes.truncate(place.width());
            Ok((*place, hashes))
        };
        let tiles: Vec<_> = threads.install(|| some.par_iter().map(read).collect::<Result<_, ReadError>>())?;
        for (place, hashes) in tiles {
            leaves.push((place, blake3::hash(hashes.as_flattened())));
            let known = usize::try_from(tree.size().saturating_sub(place.first())).unwrap_or(TILE_WIDTH);
            let fresh = hashes.get(known..).unwrap_or_default();
            for write in tree.append(fresh.iter().copied()).into_iter().filter(|write| write.level > 0) {
                above.insert((write.level, write.index), write.hashes);
            }
        }
    }
    if tree.head() != head {
        return Err(wrong_tree(source, log, head.size));
    }
    let file = |(level, index), hashes: &Vec<Hash>| Some(LogFile::Tile(level, TilePosition::new(index, hashes.len())?));
    let above = above.into_iter().filter_map(|(at, hashes)| Some((file(at, &hashes)?, hashes))).collect();
    Ok(GrownTree { tree, leaves, above })
}

pub(super) fn wrong_tree(source: &PublicSource, log: &LogId, size: u64) -> ReadError {
    ReadError::WrongTree { source_name: source.name().to_owned(), log: log.to_string(), size }
}
