//! The Merkle tree of one log: RFC 6962 over SHA-256, stored as tiles (c2sp.org/tlog-tiles).
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use core::convert::Infallible;

use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::id::TreeRoot;

/// A leaf's or inner node's hash.
pub type Hash = [u8; 32];

/// Number of hashes in a full tile.
pub const TILE_WIDTH: usize = 256;
/// Most leaves in a tree; one more append never overflows a size.
pub const SIZE_MAX: u64 = 1 << 63;
/// Most hashes in an inclusion or consistency proof; longer proofs are refused.
pub const PROOF_HASHES_MAX: usize = 64;

/// Tree levels that one level of tiles spans.
const TILE_HEIGHT: u32 = 8;
/// Levels of tiles in the largest tree.
const TILE_LEVELS: u8 = 8;
/// SHA-256 of the empty string: the root of the empty tree.
const EMPTY: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The leaf hash of an entry: SHA-256(0x00 ‖ entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Size and root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Head {
    /// Number of leaves.
    pub size: u64,
    /// Root over the first `size` leaves.
    pub root: TreeRoot,
}

impl Head {
    /// The head of the empty tree.
    pub const EMPTY: Self = Self { size: 0, root: TreeRoot(EMPTY) };
}

/// Read access to the stored tiles of a log.
pub trait Tiles {
    /// Why a tile could not be read.
    type Error;

    /// The stored hashes of tile `index` of `level`; empty if there is no such tile. A tile may hold
    /// more hashes than a tree of an older size needs. Hash `i` is the root over `256^level` leaves,
    /// from leaf `(256 * index + i) * 256^level` on.
    ///
    /// # Errors
    /// Whatever the storage reports.
    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Self::Error>;
}

impl<T: Tiles> Tiles for &T {
    type Error = T::Error;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Self::Error> {
        (**self).tile(level, index)
    }
}

/// A tile to store. It replaces the tile of the same level and index, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileWrite {
    /// 0 for leaf hashes.
    pub level: u8,
    /// Position within the level, from 0.
    pub index: u64,
    /// The whole content, 1 to 256 hashes.
    pub hashes: Vec<Hash>,
}

/// Tiles in memory, for tests and for checking a range before it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTiles(BTreeMap<(u8, u64), Vec<Hash>>);

impl MemoryTiles {
    /// Stores what [`Tree::append`] returned.
    pub fn write(&mut self, writes: impl IntoIterator<Item = TileWrite>) {
        self.0.extend(writes.into_iter().map(|write| ((write.level, write.index), write.hashes)));
    }
}

impl Tiles for MemoryTiles {
    type Error = Infallible;
    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Infallible> {
        Ok(self.0.get(&(level, index)).cloned().unwrap_or_default())
    }
}

/// Why a root or proof could not be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError<E> {
    /// Storage failed.
    #[error("tiles: {0}")]
    Tiles(E),
    /// A stored tile lacks hashes that the requested size needs.
    #[error("tile {index} of level {level} lacks hashes")]
    Missing {
        /// The tile's level.
        level: u8,
        /// The tile's index.
        index: u64,
    },
    /// An index not below the size, an old size above the new one, or a size above [`SIZE_MAX`].
    #[error("index or size out of range")]
    Range,
}

impl<E> LogError<E> {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Tiles(_) => "log_storage",
            Self::Missing { .. } => "log_tile_missing",
            Self::Range => "log_range",
        }
    }
}

/// Why a proof was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeProofError {
    /// An index not below the size, or an old size above the new one.
    #[error("index or size out of range")]
    Range,
    /// Fewer or more hashes than these sizes need.
    #[error("proof has the wrong number of hashes")]
    Length,
    /// The hashes lead to another root.
    #[error("proof leads to another root")]
    Root,
}

impl TreeProofError {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Range => "proof_range",
            Self::Length => "proof_length",
            Self::Root => "proof_root",
        }
    }
}

fn require<E>(ok: bool, error: E) -> Result<(), E> {
    if ok { Ok(()) } else { Err(error) }
}

/// The heights of the perfect trees that `leaves` leaves split into, largest first.
fn peak_heights(leaves: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).rev().filter(move |height| leaves.unbounded_shr(*height) & 1 == 1)
}

/// The root over perfect trees in the order of [`peak_heights`].
fn root_of_peaks(peaks: &[Hash]) -> Hash {
    peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or(EMPTY)
}

/// The root over a power of two of hashes.
fn root_of_perfect(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => EMPTY,
        [only] => *only,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&root_of_perfect(left), &root_of_perfect(right))
        }
    }
}

/// The largest power of two below `leaves`, which is at least 2: where RFC 6962 splits a tree.
fn split(leaves: u64) -> u64 {
    1u64.unbounded_shl(leaves.saturating_sub(1).checked_ilog2().unwrap_or(0))
}

/// A cache: reads each tile once and hashes each perfect tree once, however often they are requested.
struct TileReader<T> {
    tiles: T,
    seen: BTreeMap<(u8, u64), Vec<Hash>>,
    /// Roots of perfect trees by height and index, except those that a tile already holds.
    roots: BTreeMap<(u32, u64), Hash>,
}

impl<T: Tiles> TileReader<T> {
    const fn new(tiles: T) -> Self {
        Self { tiles, seen: BTreeMap::new(), roots: BTreeMap::new() }
    }

    /// `count` hashes of a level from `first` on, all in one tile.
    fn hashes(&mut self, level: u8, first: u64, count: usize) -> Result<&[Hash], LogError<T::Error>> {
        // The lowest byte is the position in the tile.
        let (index, offset) = (first.unbounded_shr(TILE_HEIGHT), usize::from(first.to_le_bytes()[0]));
        let tile = match self.seen.entry((level, index)) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(unseen) => unseen.insert(self.tiles.tile(level, index).map_err(LogError::Tiles)?),
        };
        tile.get(offset..offset.saturating_add(count)).ok_or(LogError::Missing { level, index })
    }

    /// The root of the `index`-th perfect tree of 2^`height` leaves.
    fn perfect(&mut self, height: u32, index: u64) -> Result<Hash, LogError<T::Error>> {
        let within = height % TILE_HEIGHT;
        let level = u8::try_from(height / TILE_HEIGHT).map_err(|_| LogError::Range)?;
        if let Some(root) = self.roots.get(&(height, index)) {
            return Ok(*root);
        }
        let hashes = self.hashes(level, index.unbounded_shl(within), 1usize.unbounded_shl(within))?;
        let root = root_of_perfect(hashes);
        if within > 0 {
            self.roots.insert((height, index), root);
        }
        Ok(root)
    }

    /// The roots of the perfect trees that the leaves of `start..end` split into. `start` is a
    /// multiple of a power of two that is at least the number of leaves, as in all splits of RFC 6962.
    fn peaks(&mut self, start: u64, end: u64) -> Result<Vec<Hash>, LogError<T::Error>> {
        // The bits of `end` from `height` up count the perfect trees of this height up to and including this one.
        peak_heights(end.saturating_sub(start))
            .map(|height| self.perfect(height, end.unbounded_shr(height).saturating_sub(1)))
            .collect()
    }

    fn root(&mut self, start: u64, end: u64) -> Result<Hash, LogError<T::Error>> {
        self.peaks(start, end).map(|peaks| root_of_peaks(&peaks))
    }
}

/// The part of a tree that appending needs: its size, the roots of its perfect trees, and its unfinished tiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    peaks: Vec<Hash>,
    /// For each level, the hashes of the rightmost tile; empty if that tile is full.
    edge: Vec<Vec<Hash>>,
}

impl Tree {
    /// Loads the tree over the first `size` leaves from stored tiles. The content of the tiles is not
    /// verified: compare the head with a trusted one.
    ///
    /// # Errors
    /// When storage fails, lacks hashes, or `size` is above [`SIZE_MAX`].
    pub fn load<T: Tiles>(size: u64, tiles: &T) -> Result<Self, LogError<T::Error>> {
        require(size <= SIZE_MAX, LogError::Range)?;
        let mut reader = TileReader::new(tiles);
        let peaks = reader.peaks(0, size)?;
        let mut edge = Vec::new();
        let hashes_of = |level: u8| size.unbounded_shr(TILE_HEIGHT.saturating_mul(level.into()));
        for level in (0..TILE_LEVELS).take_while(|level| hashes_of(*level) > 0) {
            let [width, ..] = hashes_of(level).to_le_bytes();
            let first = hashes_of(level).saturating_sub(width.into());
            let tile = if width == 0 { &[] } else { reader.hashes(level, first, width.into())? };
            edge.push(tile.to_vec());
        }
        Ok(Self { size, peaks, edge })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { size: self.size, root: TreeRoot(root_of_peaks(&self.peaks)) }
    }

    /// Appends leaves and returns the tiles to store: each changed tile once, with its whole content.
    /// Costs one node hash per leaf on average, whatever the size.
    pub fn append(&mut self, leaves: impl IntoIterator<Item = Hash>) -> Vec<TileWrite> {
        let (before, mut writes) = (self.size, Vec::new());
        for leaf in leaves {
            self.push(leaf, &mut writes);
        }
        for (level, hashes) in (0u8..).zip(&self.edge) {
            let height = TILE_HEIGHT.saturating_mul(level.into());
            let hashes_now = self.size.unbounded_shr(height);
            if !hashes.is_empty() && before.unbounded_shr(height) != hashes_now {
                writes.push(TileWrite { level, index: hashes_now.unbounded_shr(TILE_HEIGHT), hashes: hashes.clone() });
            }
        }
        writes
    }

    fn push(&mut self, leaf: Hash, writes: &mut Vec<TileWrite>) {
        let (mut hash, mut height, mut index) = (leaf, 0u32, self.size);
        loop {
            if height.is_multiple_of(TILE_HEIGHT) {
                self.push_edge(height / TILE_HEIGHT, index, hash, writes);
            }
            // An odd index: this perfect tree completes the one to its left, the last peak.
            let left = if index & 1 == 1 { self.peaks.pop() } else { None };
            let Some(left) = left else { break };
            hash = node_hash(&left, &hash);
            height = height.saturating_add(1);
            index /= 2;
        }
        self.peaks.push(hash);
        // A tree is loaded with at most 2^63 leaves, and no program lives for another 2^63 appends.
        self.size = self.size.saturating_add(1);
    }

    /// Adds hash `index` of a level to its unfinished tile, and writes the tile if that fills it.
    fn push_edge(&mut self, level: u32, index: u64, hash: Hash, writes: &mut Vec<TileWrite>) {
        let (Ok(level), Ok(position)) = (u8::try_from(level), usize::try_from(level)) else { return };
        if self.edge.len() <= position {
            self.edge.push(Vec::new());
        }
        let Some(tile) = self.edge.get_mut(position) else { return };
        tile.push(hash);
        if tile.len() == TILE_WIDTH {
            writes.push(TileWrite { level, index: index.unbounded_shr(TILE_HEIGHT), hashes: core::mem::take(tile) });
        }
    }
}

/// The root over the first `size` leaves.
///
/// # Errors
/// When storage fails or lacks hashes, or `size` is above [`SIZE_MAX`].
pub fn root_at<T: Tiles>(size: u64, tiles: &T) -> Result<TreeRoot, LogError<T::Error>> {
    require(size <= SIZE_MAX, LogError::Range)?;
    TileReader::new(tiles).root(0, size).map(TreeRoot)
}

/// The inclusion path from leaf `index` to the root over `size` leaves, the leaf's sibling first.
///
/// # Errors
/// When storage fails or lacks hashes, or `index` is not below `size`.
pub fn prove_inclusion<T: Tiles>(index: u64, size: u64, tiles: &T) -> Result<Vec<Hash>, LogError<T::Error>> {
    Prover::new(tiles).inclusion(index, size)
}

/// Proves the inclusion of many leaves for little more work than one. Its cache only grows: make one per request.
pub struct Prover<T>(TileReader<T>);

impl<T: Tiles> Prover<T> {
    /// A prover over stored tiles, with an empty cache.
    #[must_use]
    pub const fn new(tiles: T) -> Self {
        Self(TileReader::new(tiles))
    }

    /// Like [`prove_inclusion`], with the cache of earlier calls.
    ///
    /// # Errors
    /// The errors of [`prove_inclusion`].
    pub fn inclusion(&mut self, index: u64, size: u64) -> Result<Vec<Hash>, LogError<T::Error>> {
        require(index < size && size <= SIZE_MAX, LogError::Range)?;
        let (mut start, mut end, mut path) = (0u64, size, Vec::new());
        while end.saturating_sub(start) > 1 {
            let middle = start.saturating_add(split(end.saturating_sub(start)));
            if index < middle {
                path.push(self.0.root(middle, end)?);
                end = middle;
            } else {
                path.push(self.0.root(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Ok(path)
    }
}

/// The hashes that show that the tree of `old` leaves is a prefix of the tree of `new` leaves; empty
/// if `old` is 0 or equals `new`.
///
/// # Errors
/// When storage fails or lacks hashes, or `old` is above `new`.
pub fn prove_consistency<T: Tiles>(old: u64, new: u64, tiles: &T) -> Result<Vec<Hash>, LogError<T::Error>> {
    require(old <= new && new <= SIZE_MAX, LogError::Range)?;
    if old == 0 {
        return Ok(Vec::new());
    }
    let mut reader = TileReader::new(tiles);
    let (mut start, mut end, mut proof) = (0u64, new, Vec::new());
    while end != old {
        let middle = start.saturating_add(split(end.saturating_sub(start)));
        if old <= middle {
            proof.push(reader.root(middle, end)?);
            end = middle;
        } else {
            proof.push(reader.root(start, middle)?);
            start = middle;
        }
    }
    // A subtree at the left edge is left out: its root is the old root, which the verifier has.
    if start > 0 {
        proof.push(reader.root(start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Walks from a node towards the root and reports, level by level, whether the next sibling is on the left.
struct Climb {
    node: u64,
    last: u64,
}

impl Climb {
    /// Steps past the next hash of a proof; true if that is a left sibling.
    fn step(&mut self) -> Result<bool, TreeProofError> {
        require(self.last > 0, TreeProofError::Length)?;
        let left = self.node & 1 == 1 || self.node == self.last;
        // A last node without a right sibling moves up unchanged until it is a right child.
        let levels = if left { self.node.trailing_zeros().saturating_add(1) } else { 1 };
        self.node = self.node.unbounded_shr(levels);
        self.last = self.last.unbounded_shr(levels);
        Ok(left)
    }
}

/// Checks that the tree of `head` has this leaf at `index` (RFC 9162, 2.1.3.2).
///
/// # Errors
/// [`TreeProofError`] if the path does not show it.
pub fn verify_inclusion(leaf: Hash, index: u64, head: &Head, path: &[Hash]) -> Result<(), TreeProofError> {
    require(index < head.size, TreeProofError::Range)?;
    require(path.len() <= PROOF_HASHES_MAX, TreeProofError::Length)?;
    let mut climb = Climb { node: index, last: head.size.saturating_sub(1) };
    let mut hash = leaf;
    for sibling in path {
        hash = if climb.step()? { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    require(climb.last == 0, TreeProofError::Length)?;
    require(hash == head.root.0, TreeProofError::Root)
}

/// Checks that the tree of `old` is a prefix of the tree of `new` (RFC 9162, 2.1.4.2). The empty
/// tree is a prefix of every tree; equal sizes need equal roots; in both cases the proof is empty.
///
/// # Errors
/// [`TreeProofError`] if the proof does not show it.
pub fn verify_consistency(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), TreeProofError> {
    require(old.size <= new.size, TreeProofError::Range)?;
    require(proof.len() <= PROOF_HASHES_MAX, TreeProofError::Length)?;
    if old.size == 0 || old.size == new.size {
        require(proof.is_empty(), TreeProofError::Length)?;
        let old_ok = old.size > 0 || *old == Head::EMPTY;
        return require(old_ok && (old.size < new.size || old == new), TreeProofError::Root);
    }
    verify_growth(old, new, proof)
}

/// [`verify_consistency`] for two different sizes above 0.
fn verify_growth(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), TreeProofError> {
    let (first, rest) = if old.size.is_power_of_two() {
        (&old.root.0, proof)
    } else {
        proof.split_first().ok_or(TreeProofError::Length)?
    };
    let (node, last) = (old.size.saturating_sub(1), new.size.saturating_sub(1));
    let height = node.trailing_ones();
    let mut climb = Climb { node: node.unbounded_shr(height), last: last.unbounded_shr(height) };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if climb.step()? {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
    }
    require(climb.last == 0, TreeProofError::Length)?;
    require(old_hash == old.root.0 && new_hash == new.root.0, TreeProofError::Root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::from_hex;
    use alloc::vec;

    /// RFC 6962, 2.1, word for word.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&naive_root(left), &naive_root(right))
            }
        }
    }

    /// RFC 6962, 2.1.1.
    fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut path, other) = if index < left.len() {
            (naive_path(index, left), right)
        } else {
            (naive_path(index - left.len(), right), left)
        };
        path.push(naive_root(other));
        path
    }

    /// RFC 6962, 2.1.2: SUBPROOF.
    fn naive_subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if whole { vec![] } else { vec![naive_root(leaves)] };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut proof, other) = if old <= left.len() {
            (naive_subproof(old, left, whole), right)
        } else {
            (naive_subproof(old - left.len(), right, false), left)
        };
        proof.push(naive_root(other));
        proof
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(&i.to_le_bytes())).collect()
    }

    fn at(size: u64) -> usize {
        usize::try_from(size).unwrap()
    }

    fn stored(leaves: &[Hash]) -> (Tree, MemoryTiles) {
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        tiles.write(tree.append(leaves.iter().copied()));
        (tree, tiles)
    }

    fn head(leaves: &[Hash]) -> Head {
        Head { size: leaves.len() as u64, root: TreeRoot(naive_root(leaves)) }
    }

    /// Every proof that differs from `proof` in one bit of a hash, or by one hash less or more.
    fn spoiled(proof: &[Hash]) -> Vec<Vec<Hash>> {
        let flipped = (0..proof.len() * 32).map(|at| {
            let mut bad = proof.to_vec();
            bad[at / 32][at % 32] ^= 1 << (at % 8);
            bad
        });
        let longer = [proof, &[[7; 32]]].concat();
        let shorter = proof.split_last().map(|(_, rest)| rest.to_vec());
        flipped.chain([longer]).chain(shorter).collect()
    }

    #[test]
    fn roots_of_another_implementation() {
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let short: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let check = |leaves: &[Hash], root: &str| {
            let (tree, tiles) = stored(leaves);
            assert_eq!(tree.head(), Head { size: leaves.len() as u64, root: root.parse().unwrap() });
            assert_eq!(root_at(tree.size(), &tiles), Ok(tree.head().root));
        };
        check(&[], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        check(&short[..1], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        check(&short[..2], "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        check(&short[..3], "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        check(&short[..5], "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4");
        check(&short[..7], "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c");
        check(&short, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
        check(&leaves(1_000), "2ead098f942159838db37f138003c41ba2cdc6c04d42366c530027b1db6b7f75");
        check(&leaves(65_537), "b9bb14355e815be874f4ecae8d2d319ef0745fa4ab480558734c86bc570e21f4");
        check(&leaves(70_000), "d75c0fe83629b0aa56fdc1b568755ce525fd142ace91f75587c8e17676df04bf");
    }

    #[test]
    fn tiles_of_the_specification() {
        let (_, tiles) = stored(&leaves(70_000));
        let width = |level, index| tiles.tile(level, index).unwrap().len();
        assert_eq!((tiles.0.len(), width(0, 272), width(0, 273), width(0, 274)), (273 + 1 + 1 + 1 + 1, 256, 112, 0));
        assert_eq!((width(1, 0), width(1, 1), width(2, 0), width(3, 0)), (256, 17, 1, 0));
        assert_eq!(tiles.tile(1, 1).unwrap()[16], naive_root(&leaves(69_888)[69_632..]));
    }

    #[test]
    fn every_size_matches_the_definition_however_appended() {
        let all = leaves(600);
        let (mut tree, mut tiles) = (Tree::default(), MemoryTiles::default());
        for size in 0..=all.len() {
            let expect = head(&all[..size]);
            assert_eq!(tree.head(), expect);
            assert_eq!(root_at(size as u64, &tiles), Ok(expect.root));
            assert_eq!(Tree::load(size as u64, &tiles), Ok(tree.clone()));
            let (whole, whole_tiles) = stored(&all[..size]);
            assert_eq!((&whole, &whole_tiles), (&tree, &tiles));
            tiles.write(tree.append(all.get(size).copied()));
        }
        // The tiles of a larger tree also serve older sizes, for reading and for appending.
        for size in 0..all.len() {
            assert_eq!(root_at(size as u64, &tiles), Ok(head(&all[..size]).root));
            let mut old = Tree::load(size as u64, &tiles).unwrap();
            old.append(all[size..].iter().copied());
            assert_eq!(old, tree);
        }
    }

    #[test]
    fn each_changed_tile_is_written_once() {
        let mut tree = stored(&leaves(65_535)).0;
        let written: Vec<_> = tree.append(leaves(257)).iter().map(|w| (w.level, w.index, w.hashes.len())).collect();
        assert_eq!(written, [(0, 255, 256), (1, 0, 256), (0, 256, 256), (1, 1, 1), (2, 0, 1)]);
        assert_eq!(tree.append([]), []);
    }

    #[test]
    fn inclusion() {
        let all = leaves(600);
        let tiles = stored(&all).1;
        for size in 1..=600usize {
            let expect = head(&all[..size]);
            for index in (0..size).filter(|index| size < 40 || index % 7 == size % 7) {
                let path = prove_inclusion(index as u64, size as u64, &tiles).unwrap();
                if size < 130 {
                    assert_eq!(path, naive_path(index, &all[..size]));
                }
                assert_eq!(verify_inclusion(all[index], index as u64, &expect, &path), Ok(()));
                let other = verify_inclusion(all[index], (index as u64 + 1) % size as u64, &expect, &path);
                assert!(other.is_err() || size == 1);
            }
        }
        for (index, size) in [(0, 1), (4, 5), (6, 7), (599, 600), (255, 257), (256, 257)] {
            let path = prove_inclusion(index, size, &tiles).unwrap();
            let expect = head(&all[..at(size)]);
            for bad in spoiled(&path) {
                assert!(verify_inclusion(all[at(index)], index, &expect, &bad).is_err());
            }
            assert_eq!(verify_inclusion([0; 32], index, &expect, &path), Err(TreeProofError::Root));
            assert_eq!(verify_inclusion(all[0], size, &expect, &path), Err(TreeProofError::Range));
        }
    }

    #[test]
    fn consistency() {
        let all = leaves(600);
        let tiles = stored(&all).1;
        let sizes = (0..=70usize).chain([127, 128, 129, 255, 256, 257, 511, 512, 513, 600]);
        for new in sizes.clone() {
            for old in sizes.clone().filter(|old| *old <= new) {
                let proof = prove_consistency(old as u64, new as u64, &tiles).unwrap();
                if old > 0 {
                    assert_eq!(proof, naive_subproof(old, &all[..new], true), "{old} {new}");
                }
                let (a, b) = (head(&all[..old]), head(&all[..new]));
                assert_eq!(verify_consistency(&a, &b, &proof), Ok(()), "{old} {new}");
                let forked = Head { root: TreeRoot([1; 32]), ..a };
                assert_eq!(verify_consistency(&forked, &b, &proof), Err(TreeProofError::Root), "{old} {new}");
                let forked = Head { root: TreeRoot([1; 32]), ..b };
                assert!(old == 0 && new > 0 || verify_consistency(&a, &forked, &proof) == Err(TreeProofError::Root));
            }
        }
        for (old, new) in [(0, 5), (5, 5), (1, 2), (3, 7), (4, 7), (6, 8), (8, 600), (257, 600)] {
            let proof = prove_consistency(old, new, &tiles).unwrap();
            let (a, b) = (head(&all[..at(old)]), head(&all[..at(new)]));
            for bad in spoiled(&proof) {
                assert!(verify_consistency(&a, &b, &bad).is_err(), "{old} {new}");
            }
            assert!(old == new || verify_consistency(&b, &a, &proof) == Err(TreeProofError::Range));
        }
    }

    #[test]
    fn across_the_third_level() {
        let all = leaves(65_800);
        let (tree, tiles) = stored(&all);
        assert_eq!(Tree::load(65_800, &tiles), Ok(tree));
        let sizes = [255, 256, 65_535, 65_536, 65_537, 65_800];
        for new in sizes {
            let (b, index) = (head(&all[..at(new)]), new * 2 / 3);
            assert_eq!(root_at(new, &tiles), Ok(b.root));
            let path = prove_inclusion(index, new, &tiles).unwrap();
            assert_eq!(verify_inclusion(all[at(index)], index, &b, &path), Ok(()));
            for old in sizes.into_iter().filter(|old| *old <= new) {
                let proof = prove_consistency(old, new, &tiles).unwrap();
                assert_eq!(verify_consistency(&head(&all[..at(old)]), &b, &proof), Ok(()));
            }
        }
    }

    #[test]
    fn one_prover_for_many() {
        let (_, tiles) = stored(&leaves(1_500));
        let mut prover = Prover::new(&tiles);
        for size in [1_500, 1, 257, 1_024, 1_499] {
            for index in (0..size).rev().step_by(7) {
                assert_eq!(prover.inclusion(index, size), prove_inclusion(index, size, &tiles));
            }
        }
        assert_eq!(prover.inclusion(1_500, 1_500), Err(LogError::Range));
        assert_eq!(prover.inclusion(0, 1_501), Err(LogError::Missing { level: 0, index: 5 }));
        assert_eq!(prover.inclusion(1_499, 1_500), prove_inclusion(1_499, 1_500, &tiles));
    }

    #[test]
    fn refusals() {
        let (tree, tiles) = stored(&leaves(300));
        let missing = |level, index| LogError::Missing { level, index };
        assert_eq!(root_at(301, &tiles), Err(missing(0, 1)));
        assert_eq!(root_at(512, &tiles), Err(missing(1, 0)));
        assert_eq!(Tree::load(1 << 40, &tiles), Err(missing(5, 0)));
        assert_eq!(Tree::load(u64::MAX, &tiles), Err(LogError::Range));
        assert_eq!(prove_inclusion(300, 300, &tiles), Err(LogError::Range));
        assert_eq!(prove_inclusion(0, 301, &tiles), Err(missing(0, 1)));
        assert_eq!(prove_consistency(2, 1, &tiles), Err(LogError::Range));
        assert_eq!(prove_consistency(1, u64::MAX, &tiles), Err(LogError::Range));
        let huge = Head { size: u64::MAX, root: tree.head().root };
        for length in 0..=65 {
            let proof = vec![[0; 32]; length];
            for first in [0, 1, 1 << 63, u64::MAX - 1] {
                assert!(verify_inclusion([0; 32], first, &huge, &proof).is_err());
                assert!(verify_consistency(&Head { size: first, ..huge }, &huge, &proof).is_err());
            }
        }
        assert_eq!(from_hex(&alloc::format!("{}", Head::EMPTY.root)), Ok(naive_root(&[])));
    }
}
