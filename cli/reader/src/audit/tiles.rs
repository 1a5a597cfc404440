//! The public files of a log, each checked against a head before it is used.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::log::{Hash, Head, LogError, TILE_WIDTH, Tiles, Tree, leaf_hash};
use fama_ledger::manifest::LogId;
use fama_ledger::public::{LogFile, Path, TilePosition};

use super::finding::{AuditFinding, AuditResult, LieKind};
use super::{PublicFiles, read};

/// Cached tiles above level 0: enough for the paths from all workers' positions to the root.
const PARENTS_MAX: usize = 64;
/// Hashes in a full tile, and entries in a full bundle.
const WIDTH: u64 = TILE_WIDTH as u64;

/// The files of one log at one head. All that it returns is either in the tree of that head or a finding.
pub(super) struct LogFiles<'a> {
    files: &'a dyn PublicFiles,
    log: &'a LogId,
    head: Head,
    /// The partial tiles at the right edge of the tree, one at most for each level. They give the root.
    edge: BTreeMap<(u8, u64), Vec<Hash>>,
    parents: Mutex<BTreeMap<(u8, u64), Arc<Vec<Hash>>>>,
}

/// The part of a bundle that is in the tree.
pub(super) struct Bundle {
    /// The entries before the first wrong one.
    pub(super) entries: Vec<Vec<u8>>,
    /// What is wrong with the next entry, or with the hash tile of the bundle.
    pub(super) fault: Option<Box<AuditFinding>>,
}

impl<'a> LogFiles<'a> {
    /// Reads the tiles at the right edge, which must give the root of the head.
    ///
    /// # Errors
    /// An [`AuditFinding`] if they are missing or give another root.
    pub(super) fn open(files: &'a dyn PublicFiles, log: &'a LogId, head: Head) -> AuditResult<Self> {
        let mut opened = Self { files, log, head, edge: BTreeMap::new(), parents: Mutex::default() };
        let raw = Unchecked { files: &opened, read: Mutex::default() };
        let tree = Tree::load(head.size, &raw).map_err(|error| match error {
            LogError::Tiles(finding) => finding,
            other => opened.wrong(LieKind::TreeMismatch, other.to_string()),
        })?;
        let edge = raw.read.into_inner().unwrap_or_else(PoisonError::into_inner);
        if tree.head() != head {
            let what = format!("the hash tiles at the end of {} entries do not give the root {}", head.size, head.root);
            return Err(opened.wrong(LieKind::TreeMismatch, what));
        }
        opened.edge = edge;
        Ok(opened)
    }

    /// The head that the files are checked against.
    #[must_use]
    pub(super) const fn head(&self) -> Head {
        self.head
    }

    /// How many bundles the tree has, the last of them maybe partial.
    #[must_use]
    pub(super) const fn bundles(&self) -> u64 {
        self.head.size.div_ceil(WIDTH)
    }

    fn wrong(&self, lie: LieKind, what: impl Into<String>) -> Box<AuditFinding> {
        AuditFinding::new(lie, what).by(self.files.name()).within(self.log)
    }

    /// How many hashes of tile `index` of `level` the tree has.
    fn width(&self, level: u8, index: u64) -> usize {
        let hashes = self.head.size.unbounded_shr(8 * u32::from(level));
        usize::try_from(hashes.saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH)).unwrap_or(TILE_WIDTH)
    }

    /// Reads a file of `width` parts, or the full one if the partial one is gone.
    fn part(&self, index: u64, width: usize, file: impl Fn(TilePosition) -> LogFile) -> AuditResult<Vec<u8>> {
        let mut missing = String::new();
        for width in [width, TILE_WIDTH] {
            let place = TilePosition::new(index, width)
                .ok_or_else(|| self.wrong(LieKind::TreeMismatch, format!("no tree has a tile {index}")))?;
            let path = Path::Log(self.log.clone(), file(place));
            if let Some(bytes) = read(self.files, &path).map_err(|finding| finding.within(self.log))? {
                return Ok(bytes);
            }
            if missing.is_empty() {
                missing = path.to_string();
            }
        }
        Err(self.wrong(LieKind::Unavailable, format!("{missing} is missing")))
    }

    /// A hash tile as it is served, of the right length but not compared with the tree.
    fn unchecked(&self, level: u8, index: u64) -> AuditResult<Vec<Hash>> {
        let width = self.width(level, index);
        let bytes = self.part(index, width, |place| LogFile::Tile(level, place))?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        match hashes.get(..width).filter(|_| rest.is_empty()) {
            Some(hashes) => Ok(hashes.to_vec()),
            None => {
                let what = format!("hash tile {level}/{index} has {} bytes, {width} hashes are wanted", bytes.len());
                Err(self.wrong(LieKind::TreeMismatch, what).code("malformed_tile"))
            }
        }
    }

    /// The hash of a full tile, read from the tile above it.
    fn parent(&self, level: u8, index: u64) -> AuditResult<Hash> {
        let above = self.tile(level.saturating_add(1), index / WIDTH)?;
        let at = usize::try_from(index % WIDTH).unwrap_or(TILE_WIDTH);
        above
            .get(at)
            .copied()
            .ok_or_else(|| self.wrong(LieKind::TreeMismatch, format!("no hash for tile {level}/{index}")))
    }

    /// A hash tile, checked against the tree.
    fn tile(&self, level: u8, index: u64) -> AuditResult<Arc<Vec<Hash>>> {
        if let Some(edge) = self.edge.get(&(level, index)) {
            return Ok(Arc::new(edge.clone()));
        }
        if let Some(known) = self.lock().get(&(level, index)) {
            return Ok(Arc::clone(known));
        }
        let (hashes, parent) = (self.unchecked(level, index)?, self.parent(level, index)?);
        if root_of(&hashes) != parent {
            let what = format!("hash tile {level}/{index} is not in the tree of {} entries", self.head.size);
            return Err(self.wrong(LieKind::TreeMismatch, what).code("wrong_tile"));
        }
        let hashes = Arc::new(hashes);
        if level > 0 {
            let mut parents = self.lock();
            if parents.len() >= PARENTS_MAX {
                parents.pop_first();
            }
            parents.insert((level, index), Arc::clone(&hashes));
        }
        Ok(hashes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(u8, u64), Arc<Vec<Hash>>>> {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of bundle `index`, each compared with the tree.
    #[must_use]
    pub(super) fn bundle(&self, index: u64) -> Bundle {
        let served = self.entries(index);
        let expected = self.tile(0, index);
        match (served, expected) {
            (Ok(entries), Ok(expected)) => self.compare(index, entries, &expected),
            (Ok(entries), Err(fault)) => {
                let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
                let whole = leaves.len() == self.width(0, index);
                let in_tree = whole && self.parent(0, index).is_ok_and(|parent| root_of(&leaves) == parent);
                Bundle { entries: if in_tree { entries } else { Vec::new() }, fault: Some(fault) }
            }
            (Err(fault), _) => Bundle { entries: Vec::new(), fault: Some(fault) },
        }
    }

    fn entries(&self, index: u64) -> AuditResult<Vec<Vec<u8>>> {
        let width = self.width(0, index);
        let bytes = self.part(index, width, LogFile::Entries)?;
        let mut entries = split(&bytes).ok_or_else(|| {
            let what = format!("bundle {index} is malformed");
            self.wrong(LieKind::TreeMismatch, what).code("malformed_bundle").at(index.saturating_mul(WIDTH))
        })?;
        // A full bundle may replace the partial one that this head needs.
        if entries.len() == TILE_WIDTH {
            entries.truncate(width);
        }
        Ok(entries)
    }

    fn compare(&self, index: u64, mut entries: Vec<Vec<u8>>, expected: &[Hash]) -> Bundle {
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        if leaves == expected {
            return Bundle { entries, fault: None };
        }
        let same = leaves.iter().zip(expected).take_while(|(leaf, expected)| leaf == expected).count();
        let (lie, what) = difference(&leaves, expected, same);
        entries.truncate(same);
        let at = index.saturating_mul(WIDTH).saturating_add(same as u64);
        Bundle { entries, fault: Some(self.wrong(lie, what).at(at)) }
    }
}

/// How the served entries differ from the tree, from position `at` on.
fn difference(leaves: &[Hash], expected: &[Hash], at: usize) -> (LieKind, &'static str) {
    let sorted = |hashes: &[Hash]| {
        let mut hashes = hashes.to_vec();
        hashes.sort_unstable();
        hashes
    };
    let (leaf, wanted) = (leaves.get(at), expected.get(at));
    if sorted(leaves) == sorted(expected) {
        (LieKind::EntriesReordered, "the tree has the same entries in another order")
    } else if leaf.is_none() || leaf == expected.get(at.saturating_add(1)) {
        (LieKind::EntryDropped, "the tree has an entry here that is left out")
    } else if wanted.is_none() || wanted == leaves.get(at.saturating_add(1)) {
        (LieKind::EntryAdded, "an entry that the tree does not have")
    } else {
        (LieKind::EntryChanged, "the tree has another entry here")
    }
}

impl Tiles for LogFiles<'_> {
    type Error = Box<AuditFinding>;

    fn tile(&self, level: u8, index: u64) -> AuditResult<Vec<Hash>> {
        Self::tile(self, level, index).map(|hashes| hashes.to_vec())
    }
}

/// Tiles as they are served, remembered for [`LogFiles::edge`].
struct Unchecked<'a, 'f> {
    files: &'a LogFiles<'f>,
    read: Mutex<BTreeMap<(u8, u64), Vec<Hash>>>,
}

impl Tiles for Unchecked<'_, '_> {
    type Error = Box<AuditFinding>;

    fn tile(&self, level: u8, index: u64) -> AuditResult<Vec<Hash>> {
        let hashes = self.files.unchecked(level, index)?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert((level, index), hashes.clone());
        Ok(hashes)
    }
}

/// The root over the hashes of a full tile: one hash of the tile above.
fn root_of(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    tree.append(hashes.iter().copied());
    tree.head().root.0
}

/// The entries of a bundle, however many it has; `None` if it is malformed.
fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length > ENTRY_BYTES_MAX || entries.len() >= TILE_WIDTH {
            return None;
        }
        let (entry, rest) = rest.split_at_checked(length)?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}
