//! Subtrees that are not in memory: the rows, and records of nodes above them, say how to load each again.
//!
//! The *level* of a node with `r` rows is the largest `l` for which 16^l < r, and 0 for a single row. A node whose level
//! is below that of its parent, and the top node, have a *record*: depth, number of rows, hash. The records at level `l`
//! are those of nodes whose parent has level `l`, so the records at the level of any node are those of disjoint subtrees
//! that together hold all its rows: at most 16 times 16 of them, mostly about 16. At level 0 the rows themselves take the
//! place of records. So a node is loaded by reading what follows its prefix at its level, and nothing above it.
//!
//! Records depend on the rows alone, like the tree. Hash and number of rows of a record are checked when its node is
//! loaded, its hash also against the node above; that its depth is what was written, the store's checksums say.
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use bincode::{Decode, Encode};

use super::build::Builder;
use super::hash::{NodeHash, bit, bits, common_bits, value_hash};
use super::tree::{HashedNode, InnerNode, MapError, MapNode, RowChange, StateMap, padded, push_row};
use crate::codec;

/// The level of the record of a map's top node.
pub const TOP_LEVEL: u8 = u8::MAX;
/// The highest level of other records: a node of more rows than 2^64 has none.
pub const LEVEL_MAX: u8 = 15;
/// Each level has at most this many times the rows of the one below, as a power of two.
const FAN_BITS: u32 = 4;

/// Why a map could not be read or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError<E> {
    /// The caller's mistake.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The source failed.
    #[error("{0}")]
    Storage(E),
    /// The source has other rows or records than those of this map.
    #[error("the stored rows are not those of the map")]
    Torn,
}

/// Where the parts of a map are that are not in memory.
pub trait NodeSource {
    /// A failure of the storage.
    type Error;

    /// Calls `each` with the records of a level, or at level 0 the rows, from the key `from` on in order, until it breaks.
    ///
    /// # Errors
    /// The storage's own error.
    fn scan_from(
        &self,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Loads nodes, in their order: one by one, or several at a time.
    ///
    /// # Errors
    /// Those of [`MissingNode::load`].
    fn load_all<'k>(&self, missing: &[MissingNode<'k>]) -> Result<Vec<LoadedNode<'k>>, NodeError<Self::Error>>
    where
        Self: Sized,
    {
        missing.iter().map(|node| node.load(self)).collect()
    }
}

/// A node that is not in memory, on the paths of keys.
pub struct MissingNode<'k> {
    /// At least one.
    keys: Vec<&'k [u8]>,
    hash: NodeHash,
    stored: Arc<StoredNode>,
}

impl<'k> MissingNode<'k> {
    /// Reads it. Keeps of few rows only what is on the paths of its keys: the rest can be read again.
    ///
    /// # Errors
    /// [`NodeError::Storage`], [`NodeError::Torn`].
    pub fn load<S: NodeSource>(&self, source: &S) -> Result<LoadedNode<'k>, NodeError<S::Error>> {
        let (mut node, mut count) = HashedNode::load(&self.hash, &self.stored, source)?;
        if level(self.stored.rows) == 0 {
            count = node.keep_paths(&self.keys);
        }
        Ok(LoadedNode { key: self.keys.first().copied().unwrap_or_default(), node, count })
    }
}

/// A node that was missing, with what is below it.
pub struct LoadedNode<'k> {
    key: &'k [u8],
    node: HashedNode,
    count: usize,
}

/// The source of maps that are in memory as a whole.
pub struct Whole;

impl NodeSource for Whole {
    type Error = core::convert::Infallible;

    fn scan_from(
        &self,
        _: u8,
        _: &[u8],
        _: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A changed record: its level, and the bits that all keys below the node share, zero-padded.
pub type RecordKey = (u8, Vec<u8>);
/// Changed records.
pub type RecordChanges = BTreeMap<RecordKey, RecordChange>;

/// A record, encoded, before and after a change; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordChange {
    /// What is stored.
    pub before: Option<Vec<u8>>,
    /// What has to be stored now.
    pub after: Option<Vec<u8>>,
}

/// The record of a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct NodeRecord {
    depth: u16,
    rows: u64,
    hash: NodeHash,
}

/// A node that is not in memory.
#[derive(Debug)]
pub(super) struct StoredNode {
    /// The first `depth` bits of all keys below, zero-padded.
    pub(super) prefix: Box<[u8]>,
    /// The node's depth; for a single row, the length of its key in bits.
    pub(super) depth: u16,
    pub(super) rows: u64,
}

impl StoredNode {
    /// Whether `key` begins with the bits that all keys below share.
    pub(super) fn is_above(&self, key: &[u8]) -> bool {
        common_bits(&self.prefix, key) >= self.depth
    }

    /// How many leading bits `key` and the keys below share; if all of `depth`, perhaps more.
    pub(super) fn shared(&self, key: &[u8]) -> u16 {
        common_bits(&self.prefix, key).min(self.depth)
    }
}

/// The level of a node with this many rows.
pub(super) fn level(rows: u64) -> u8 {
    let log = rows.saturating_sub(1).checked_ilog2().unwrap_or(0);
    u8::try_from(log / FAN_BITS).unwrap_or(LEVEL_MAX)
}

impl HashedNode {
    fn stored(prefix: &[u8], record: &NodeRecord) -> Self {
        let node = StoredNode { prefix: prefix.into(), depth: record.depth, rows: record.rows };
        Self { hash: record.hash, node: MapNode::Stored(Arc::new(node)) }
    }

    /// The node that `stored` stands for, with stored nodes below it where there are more than 16 rows. Also returns
    /// how many nodes were loaded.
    pub(super) fn load<S: NodeSource>(
        hash: &NodeHash,
        stored: &StoredNode,
        source: &S,
    ) -> Result<(Self, usize), NodeError<S::Error>> {
        let (level, mut builder, mut count, mut fits) = (level(stored.rows), Builder::default(), 0usize, true);
        source
            .scan_from(level, &stored.prefix, &mut |key, value| {
                if !stored.is_above(key) {
                    return ControlFlow::Break(());
                }
                fits &= if level == 0 {
                    push_row(&mut builder, key.to_vec(), &value_hash(value)).is_ok()
                } else {
                    push_record(&mut builder, key, value)
                };
                count = count.saturating_add(1);
                let many = u64::try_from(count).map_or(true, |count| count > stored.rows);
                fits &= !many;
                if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(NodeError::Storage)?;
        let loaded = builder.finish().ok().flatten().filter(|_| fits).ok_or(NodeError::Torn)?;
        let same = loaded.hash == *hash && loaded.rows() == stored.rows;
        if same { Ok((loaded, count.saturating_mul(2))) } else { Err(NodeError::Torn) }
    }

    /// Forgets all nodes below that are on the path of none of `keys`, but single rows. There are at most 16
    /// rows, so that any node can be loaded from them. Returns how many nodes are left.
    fn keep_paths(&mut self, keys: &[&[u8]]) -> usize {
        if keys.is_empty() && matches!(self.node, MapNode::InnerNode(_)) {
            let prefix = self.prefix();
            *self = Self::stored(&prefix, &self.record(&prefix));
        }
        let MapNode::InnerNode(inner) = &mut self.node else { return 1 };
        let inner = Arc::make_mut(inner);
        let (right, left): (Vec<&[u8]>, Vec<&[u8]>) = keys.iter().partition(|key| bit(key, inner.depth));
        inner.left.keep_paths(&left).saturating_add(inner.right.keep_paths(&right)).saturating_add(1)
    }

    /// Puts a node where it was missing; `false` if it is missing nowhere.
    fn put_loaded(&mut self, loaded: LoadedNode<'_>) -> bool {
        let mut at = self;
        loop {
            if at.hash == loaded.node.hash && matches!(at.node, MapNode::Stored(_)) {
                at.node = loaded.node.node;
                return true;
            }
            let MapNode::InnerNode(inner) = &mut at.node else { return false };
            let inner = Arc::make_mut(inner);
            at = if bit(loaded.key, inner.depth) { &mut inner.right } else { &mut inner.left };
        }
    }

    /// The bits that all keys below share, zero-padded; the whole key of a row.
    fn prefix(&self) -> Vec<u8> {
        let mut node = &self.node;
        loop {
            match node {
                MapNode::Leaf(_) | MapNode::Stored(_) => break,
                MapNode::InnerNode(inner) => node = &inner.left.node,
            }
        }
        let key = match node {
            MapNode::Stored(stored) => &stored.prefix,
            MapNode::Leaf(row) => super::tree::row_parts(row).map_or(&[][..], |(key, _)| key),
            MapNode::InnerNode(_) => &[],
        };
        match &self.node {
            MapNode::InnerNode(inner) => padded(key, inner.depth),
            MapNode::Leaf(_) | MapNode::Stored(_) => key.to_vec(),
        }
    }

    fn record(&self, prefix: &[u8]) -> NodeRecord {
        let depth = match &self.node {
            MapNode::InnerNode(inner) => inner.depth,
            MapNode::Leaf(_) => bits(prefix),
            MapNode::Stored(stored) => stored.depth,
        };
        NodeRecord { depth, rows: self.rows(), hash: self.hash }
    }

    /// This node's record and its key, if the level of the node above is `above` and this node has one there. `below` is
    /// a key that has its place below this node.
    fn record_in(&self, above: u8, below: Option<&[u8]>) -> Option<(RecordKey, Vec<u8>)> {
        if self.is_empty() || level(self.rows()) >= above {
            return None;
        }
        let prefix = below.map_or_else(|| self.prefix(), |key| padded(key, self.depth()));
        let record = codec::encode(&self.record(&prefix));
        Some(((above, prefix), record))
    }

    /// Notes the record that this node has before `changes` below the node above it are applied.
    pub(super) fn note_before(&self, above: u8, changes: &[RowChange<'_>], records: &mut RecordChanges) {
        // A key that forks above this node has its place next to it.
        let below = changes.iter().find(|change| change.fork >= self.depth()).map(|change| change.key);
        if let Some((key, record)) = self.record_in(above, below) {
            records.entry(key).or_default().before = Some(record);
        }
    }

    /// Notes the record that this node has now that `changes` have been applied in its place.
    pub(super) fn note_after(&self, above: u8, changes: &[RowChange<'_>], records: &mut RecordChanges) {
        let below = changes.iter().find(|change| change.value.is_some()).map(|change| change.key);
        if let Some((key, record)) = self.record_in(above, below) {
            records.entry(key).or_default().after = Some(record);
        }
    }

    /// Notes the records of this node and of all nodes below it, which are new.
    pub(super) fn note_all(&self, above: u8, records: &mut RecordChanges) {
        if let Some((key, record)) = self.record_in(above, None) {
            records.entry(key).or_default().after = Some(record);
        }
        if let MapNode::InnerNode(inner) = &self.node {
            inner.note_all(records);
        }
    }

    /// Adds the number of nodes below, by the age of the nearest node above each that has a record.
    fn ages(&self, above: u8, (mut age, clock): (usize, u32), counts: &mut [usize; AGES]) {
        if let Some(count) = counts.get_mut(age) {
            *count = count.saturating_add(1);
        }
        let MapNode::InnerNode(inner) = &self.node else { return };
        let level = level(inner.rows);
        if level < above {
            age = age_of(inner.used, clock);
        }
        inner.left.ages(level, (age, clock), counts);
        inner.right.ages(level, (age, clock), counts);
    }

    /// This node without those below that have a record and are of at least this age; `None` if there are none.
    fn without(&self, above: u8, (age, clock): (usize, u32)) -> Option<Self> {
        let MapNode::InnerNode(inner) = &self.node else { return None };
        let level = level(inner.rows);
        if level < above && age_of(inner.used, clock) >= age {
            let prefix = self.prefix();
            return Some(Self::stored(&prefix, &self.record(&prefix)));
        }
        let (left, right) = (inner.left.without(level, (age, clock)), inner.right.without(level, (age, clock)));
        if left.is_none() && right.is_none() {
            return None;
        }
        let left = left.unwrap_or_else(|| inner.left.clone());
        let right = right.unwrap_or_else(|| inner.right.clone());
        let inner = InnerNode { depth: inner.depth, rows: inner.rows, used: inner.used, left, right };
        Some(Self { hash: self.hash, node: MapNode::InnerNode(Arc::new(inner)) })
    }
}

impl InnerNode {
    /// Notes the records of all nodes below this one, which are new.
    pub(super) fn note_all(&self, records: &mut RecordChanges) {
        let level = level(self.rows);
        self.left.note_all(level, records);
        self.right.note_all(level, records);
    }
}

/// Ages are powers of two: 0 is the newest update, 1 the one before it, 2 the two before that.
const AGES: usize = 33;

fn age_of(used: u32, clock: u32) -> usize {
    clock.saturating_sub(used).checked_ilog2().map_or(0, |log| usize::try_from(log).unwrap_or(0).saturating_add(1))
}

fn push_record(builder: &mut Builder<Vec<u8>, HashedNode>, prefix: &[u8], value: &[u8]) -> bool {
    let Ok(record) = codec::decode_written::<NodeRecord>(value, RECORD_BYTES) else { return false };
    let fits = prefix.len() == usize::from(record.depth).div_ceil(8) && record.rows > 0;
    fits && builder.push(prefix.to_vec(), record.depth, HashedNode::stored(prefix, &record)).is_ok()
}

/// The length of an encoded record: depth, rows, hash.
const RECORD_BYTES: usize = 2 + 8 + 32;

impl StateMap {
    /// The map whose records `source` has, with nothing in memory; `None` if it has none.
    ///
    /// # Errors
    /// [`NodeError::Storage`], [`NodeError::Torn`].
    pub fn open<S: NodeSource>(source: &S) -> Result<Option<Self>, NodeError<S::Error>> {
        let mut top = None;
        source
            .scan_from(TOP_LEVEL, &[], &mut |prefix, value| {
                let record = codec::decode_written::<NodeRecord>(value, RECORD_BYTES);
                top = Some(record.map(|record| HashedNode::stored(prefix, &record)));
                ControlFlow::Break(())
            })
            .map_err(NodeError::Storage)?;
        let top = top.transpose().map_err(|_| NodeError::Torn)?;
        Ok(top.map(|top| Self { stored: true, ..Self::of(top) }))
    }

    /// Loads all nodes on the paths of `keys`, which ascend: at each depth, those of all keys at once.
    pub(super) fn load_paths<S: NodeSource>(
        &mut self,
        mut keys: Vec<&[u8]>,
        source: &S,
    ) -> Result<(), NodeError<S::Error>> {
        loop {
            let mut missing: Vec<MissingNode<'_>> = Vec::new();
            keys.retain(|key| {
                let Err((hash, stored)) = self.top.nearest_loaded(key) else { return false };
                // Keys below one node follow one another.
                match missing.last_mut().filter(|last| Arc::ptr_eq(&last.stored, stored)) {
                    Some(last) => last.keys.push(key),
                    None => missing.push(MissingNode { keys: vec![*key], hash: *hash, stored: Arc::clone(stored) }),
                }
                true
            });
            if missing.is_empty() {
                return Ok(());
            }
            for loaded in source.load_all(&missing)? {
                self.loaded = self.loaded.saturating_add(loaded.count);
                if !self.top.put_loaded(loaded) {
                    return Err(NodeError::Torn);
                }
            }
        }
    }

    /// All records of a map that is in memory as a whole.
    pub(super) fn all_records(&self) -> RecordChanges {
        let mut records = RecordChanges::new();
        self.top.note_all(TOP_LEVEL, &mut records);
        records
    }

    /// If more than `max` nodes may be in memory, forgets those that were not changed for the longest time, down to three
    /// quarters of it if possible. All records must be stored.
    pub fn trim(&mut self, max: usize) {
        if self.loaded <= max || !self.stored {
            return;
        }
        let mut counts = [0; AGES];
        self.top.ages(TOP_LEVEL, (0, self.clock), &mut counts);
        let (wanted, mut kept, mut age) = (max.saturating_mul(3) / 4, 0usize, 0usize);
        for count in counts {
            let with = kept.saturating_add(count);
            if with > wanted {
                break;
            }
            (kept, age) = (with, age.saturating_add(1));
        }
        if let Some(top) = self.top.without(TOP_LEVEL, (age.max(1), self.clock)) {
            self.top = top;
        }
        self.loaded = kept.max(counts.first().copied().unwrap_or(0));
    }

    /// About how many nodes are in memory.
    #[must_use]
    pub const fn loaded(&self) -> usize {
        self.loaded
    }
}

#[cfg(test)]
mod tests;
