//! The tree itself: built from sorted rows, updated in batches. Clones share its nodes. Parts of it may be on disk only.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};

use super::build::{Builder, Subtree};
use super::hash::{KEY_BYTES_MAX, NodeHash, bit, bits, common_bits, inner_hash, leaf_hash, prefix};
use super::stored::{NodeError, NodeSource, RecordChanges, StoredNode, TOP_LEVEL, level};
use crate::id::StateRoot;

/// Most prefixes in one proof.
pub const PREFIXES_MAX: usize = 4_096;

/// Why rows or changes were refused: always the caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("a key of {0} bytes, want 1 to {KEY_BYTES_MAX}")]
    KeyLength(usize),
    /// Keys are not in strictly ascending order.
    #[error("keys are not in strictly ascending order")]
    Order,
    /// A key is a prefix of another.
    #[error("a key is a prefix of another")]
    Prefix,
    /// A proof has no prefix or more than [`PREFIXES_MAX`].
    #[error("{0} prefixes, want 1 to {PREFIXES_MAX}")]
    Prefixes(usize),
    /// The map has no row at the end of the requested range, or has rows where the caller expects none.
    #[error("the range does not end on a row of the map")]
    Range,
}

/// The rows of one map as a tree: about 260 bytes per row with 65-byte keys, for what is in memory.
///
/// A clone costs one reference count: it shares all nodes, and an update copies only the paths that it changes. Nodes
/// that are needed and not in memory are read from a [`NodeSource`], which must have the rows and records of this map as
/// it is, except below nodes that changed since they were written.
#[derive(Clone, Default)]
pub struct StateMap {
    pub(super) top: HashedNode,
    /// Counts the updates.
    pub(super) clock: u32,
    /// About how many nodes are in memory.
    pub(super) loaded: usize,
    /// Whether its records are stored, except those that updates returned.
    pub(super) stored: bool,
}

/// A subtree and its hash, which is kept in the parent so that an update never loads a sibling.
///
/// The default is the empty tree: a leaf of no bytes whose hash is 32 zero bytes. It occurs only at the top and,
/// during an update, where all rows were removed.
#[derive(Clone, Default)]
pub(super) struct HashedNode {
    pub(super) hash: NodeHash,
    pub(super) node: MapNode,
}

#[derive(Clone)]
pub(super) enum MapNode {
    /// key ‖ value hash, in one allocation.
    Leaf(Arc<[u8]>),
    InnerNode(Arc<InnerNode>),
    /// A node that is not in memory.
    Stored(Arc<StoredNode>),
}

/// All keys below share the bits before `depth`; the bit at `depth` is 0 on the left side and 1 on the right.
#[derive(Clone)]
pub(super) struct InnerNode {
    pub(super) depth: u16,
    /// The update that changed this node last; 0 if none did since it was loaded.
    pub(super) used: u32,
    pub(super) rows: u64,
    pub(super) left: HashedNode,
    pub(super) right: HashedNode,
}

/// A change that has an effect.
pub(super) struct RowChange<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a NodeHash>,
    /// The first bit in which the key differs from its nearest row, or [`PRESENT`] if the key has a row.
    pub(super) fork: u16,
}

/// The row nearest to a key: one that shares the most leading bits with it.
pub(super) enum Nearest {
    /// The map is empty.
    None,
    /// A row: key ‖ value hash.
    Row(Arc<[u8]>),
    /// The key leaves the tree above this node, which is not in memory, or all keys below begin with it.
    Stored(Arc<StoredNode>),
}

impl Nearest {
    /// The bits of the row's key that matter, zero-padded, and how many of them it shares with `key`.
    pub(super) fn shared(&self, key: &[u8]) -> Option<(&[u8], u16)> {
        match self {
            Self::None => None,
            Self::Row(row) => row_parts(row).map(|(near, _)| (near, common_bits(near, key))),
            Self::Stored(stored) => Some((&stored.prefix, stored.shared(key))),
        }
    }
}

/// Instead of a depth: the key has a row, or the node is a leaf. Greater than every real depth.
const PRESENT: u16 = u16::MAX;

impl Default for MapNode {
    fn default() -> Self {
        Self::Leaf(Arc::default())
    }
}

impl HashedNode {
    fn leaf(key: &[u8], value: &NodeHash) -> Self {
        Self { hash: leaf_hash(key, value), node: MapNode::Leaf([key, value.as_slice()].concat().into()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.node, MapNode::Leaf(row) if row.is_empty())
    }

    pub(super) fn rows(&self) -> u64 {
        match &self.node {
            MapNode::Leaf(row) => u64::from(!row.is_empty()),
            MapNode::InnerNode(inner) => inner.rows,
            MapNode::Stored(stored) => stored.rows,
        }
    }

    pub(super) fn depth(&self) -> u16 {
        match &self.node {
            MapNode::Leaf(_) => PRESENT,
            MapNode::InnerNode(inner) => inner.depth,
            MapNode::Stored(stored) if stored.rows == 1 => PRESENT,
            MapNode::Stored(stored) => stored.depth,
        }
    }

    /// Restores the invariants after a change of the sides: updates the hash, or replaces the node by its only side.
    fn settle(&mut self, key: &[u8]) {
        let MapNode::InnerNode(inner) = &self.node else { return };
        if inner.left.is_empty() {
            *self = inner.right.clone();
        } else if inner.right.is_empty() {
            *self = inner.left.clone();
        } else {
            self.hash = inner_hash(inner.depth, key, &inner.left.hash, &inner.right.hash);
        }
    }

    /// Applies `changes` to this subtree, and notes the changed records below this node. Their keys share with the keys
    /// below it all bits before the smaller of its depth and their smallest fork, and all nodes on their paths are in
    /// memory.
    fn apply(&mut self, changes: &[RowChange<'_>], clock: u32, records: &mut RecordChanges) {
        let Some(first) = changes.first() else { return };
        let fork = changes.iter().fold(PRESENT, |least, change| least.min(change.fork));
        if fork < self.depth() {
            return self.grow(fork, changes, first.key, clock, records);
        }
        match &mut self.node {
            MapNode::Leaf(_) => *self = first.value.map(|value| Self::leaf(first.key, value)).unwrap_or_default(),
            MapNode::InnerNode(inner) => {
                Arc::make_mut(inner).apply(changes, clock, records);
                self.settle(first.key);
            }
            MapNode::Stored(_) => unreachable!("the paths of all changes were loaded"),
        }
    }

    /// Inserts a parent node at depth `fork`, where some of `changes` branch off from this subtree.
    fn grow(&mut self, fork: u16, changes: &[RowChange<'_>], key: &[u8], clock: u32, records: &mut RecordChanges) {
        let (left, right) = split(changes, fork);
        let new_left = left.first().is_some_and(|change| change.fork == fork);
        let (new, own) = if new_left { (left, right) } else { (right, left) };
        let (mut old, new) = (mem::take(self), Self::plant(new));
        old.apply(own, clock, records);
        *self = if new_left { Self::join(fork, new, old, key) } else { Self::join(fork, old, new, key) };
        match &mut self.node {
            MapNode::InnerNode(inner) if inner.depth == fork => {
                let inner = Arc::make_mut(inner);
                inner.used = clock;
                let level = level(inner.rows);
                let (new, old) = if new_left { (&inner.left, &inner.right) } else { (&inner.right, &inner.left) };
                old.note_after(level, own, records);
                new.note_all(level, records);
            }
            // All that was here before has gone.
            MapNode::InnerNode(inner) => {
                let inner = Arc::make_mut(inner);
                inner.used = clock;
                inner.note_all(records);
            }
            MapNode::Leaf(_) | MapNode::Stored(_) => {}
        }
    }

    /// The row nearest to `key`, or the node that has to be loaded to find it.
    pub(super) fn nearest_loaded(&self, key: &[u8]) -> Result<Nearest, (&NodeHash, &Arc<StoredNode>)> {
        let mut at = self;
        loop {
            match &at.node {
                MapNode::Leaf(row) if row.is_empty() => return Ok(Nearest::None),
                MapNode::Leaf(row) => return Ok(Nearest::Row(Arc::clone(row))),
                MapNode::InnerNode(inner) => at = inner.side(key),
                MapNode::Stored(stored) if stored.is_above(key) => return Err((&at.hash, stored)),
                MapNode::Stored(stored) => return Ok(Nearest::Stored(Arc::clone(stored))),
            }
        }
    }

    /// This node, loaded if it was not in memory.
    pub(super) fn loaded<S: NodeSource>(&self, source: &S) -> Result<Self, NodeError<S::Error>> {
        match &self.node {
            MapNode::Stored(stored) => Self::load(&self.hash, stored, source).map(|(node, _)| node),
            _ => Ok(self.clone()),
        }
    }

    /// A subtree of new rows only.
    fn plant(changes: &[RowChange<'_>]) -> Self {
        let mut builder = Builder::default();
        for change in changes {
            if let Some(value) = change.value {
                push_row(&mut builder, change.key, value).expect("the changes were checked to ascend without prefixes");
            }
        }
        finish(builder)
    }
}

impl InnerNode {
    /// The side on which `key` has its place.
    pub(super) fn side(&self, key: &[u8]) -> &HashedNode {
        if bit(key, self.depth) { &self.right } else { &self.left }
    }

    /// Applies `changes` to both sides, and notes the changed records below this node.
    fn apply(&mut self, changes: &[RowChange<'_>], clock: u32, records: &mut RecordChanges) {
        let (before, (left, right)) = (level(self.rows), split(changes, self.depth));
        let mut sides = [(&mut self.left, left), (&mut self.right, right)];
        // Sides without a change are not looked at: they are where no change of this update was.
        for (side, changes) in sides.iter_mut().filter(|(_, changes)| !changes.is_empty()) {
            side.note_before(before, changes, records);
            self.rows = self.rows.saturating_sub(side.rows());
            side.apply(changes, clock, records);
            self.rows = self.rows.saturating_add(side.rows());
        }
        self.used = clock;
        let (after, is_whole) = (level(self.rows), sides.iter().all(|(side, _)| !side.is_empty()));
        for (side, changes) in sides {
            if changes.is_empty() && (before != after || !is_whole) {
                side.note_before(before, changes, records);
            }
            // The only side that is left takes the place of this node, and its record is the matter of the node above.
            if is_whole && (before != after || !changes.is_empty()) {
                side.note_after(after, changes, records);
            }
        }
    }
}

impl Subtree for HashedNode {
    /// If one side is empty, the result is the other side.
    fn join(depth: u16, left: Self, right: Self, key: &[u8]) -> Self {
        let rows = left.rows().saturating_add(right.rows());
        let inner = InnerNode { depth, used: 0, rows, left, right };
        let mut branch = Self { hash: NodeHash::default(), node: MapNode::InnerNode(Arc::new(inner)) };
        branch.settle(key);
        branch
    }
}

pub(super) fn push_row<K: AsRef<[u8]>>(
    builder: &mut Builder<K, HashedNode>,
    key: K,
    value: &NodeHash,
) -> Result<(), MapError> {
    check_key(key.as_ref())?;
    if let Some(previous) = builder.last_key() {
        check_order(previous.as_ref(), key.as_ref())?;
    }
    let (bits, leaf) = (bits(key.as_ref()), HashedNode::leaf(key.as_ref(), value));
    builder.push(key, bits, leaf).expect("keys that ascend without prefixes are never misplaced");
    Ok(())
}

/// Finishes a tree that was built from rows only.
fn finish<K: AsRef<[u8]>>(builder: Builder<K, HashedNode>) -> HashedNode {
    builder.finish().expect("nothing was hidden").unwrap_or_default()
}

/// The first `depth` bits of `key`, zero-padded to whole bytes.
pub(super) fn padded(key: &[u8], depth: u16) -> Vec<u8> {
    let (whole, partial) = prefix(key, depth);
    [whole, partial.as_slice()].concat()
}

/// The changes on the left side and on the right side of a node at `depth`.
pub(super) fn split<'a, 'b>(changes: &'a [RowChange<'b>], depth: u16) -> (&'a [RowChange<'b>], &'a [RowChange<'b>]) {
    changes.split_at(changes.partition_point(|change| !bit(change.key, depth)))
}

/// The key and the value hash of a leaf; `None` for the empty tree.
pub(super) fn row_parts(row: &[u8]) -> Option<(&[u8], &NodeHash)> {
    row.split_last_chunk()
}

pub(super) fn check_key(key: &[u8]) -> Result<(), MapError> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) { Ok(()) } else { Err(MapError::KeyLength(key.len())) }
}

/// Checks that `key` may follow `previous`: it is greater and does not begin with it.
pub(super) fn check_order(previous: &[u8], key: &[u8]) -> Result<(), MapError> {
    match () {
        () if key <= previous => Err(MapError::Order),
        () if key.starts_with(previous) => Err(MapError::Prefix),
        () => Ok(()),
    }
}

impl StateMap {
    pub(super) const fn of(top: HashedNode) -> Self {
        Self { top, clock: 0, loaded: 0, stored: false }
    }

    /// Builds the map of `rows` (key, value hash), in linear time and in memory as a whole.
    ///
    /// # Errors
    /// Any [`MapError`]: the rows must ascend strictly, with no key a prefix of another.
    pub fn from_sorted<K: AsRef<[u8]>>(rows: impl IntoIterator<Item = (K, [u8; 32])>) -> Result<Self, MapError> {
        let (mut builder, mut count) = (Builder::default(), 0usize);
        for (key, value) in rows {
            push_row(&mut builder, key, &value)?;
            count = count.saturating_add(1);
        }
        Ok(Self { loaded: count.saturating_mul(2), ..Self::of(finish(builder)) })
    }

    /// Sets rows (`Some` value hash) and removes rows (`None`); removing an absent row does nothing. Returns the records
    /// that change; those of a map that was built from its rows are all new with its first change.
    ///
    /// # Errors
    /// Any [`NodeError`], and then nothing is changed. The keys must ascend strictly, and no key may be a prefix of
    /// another key in the changes or in the map, in either direction; this includes keys of removed rows.
    pub fn update<K: AsRef<[u8]>, S: NodeSource>(
        &mut self,
        changes: &[(K, Option<[u8; 32]>)],
        source: &S,
    ) -> Result<RecordChanges, NodeError<S::Error>> {
        let changes = self.effective(changes, source)?;
        if changes.is_empty() {
            return Ok(RecordChanges::new());
        }
        self.clock = self.clock.saturating_add(1);
        let mut records = RecordChanges::new();
        if self.top.is_empty() {
            self.top = HashedNode::plant(&changes);
            self.top.note_all(TOP_LEVEL, &mut records);
        } else {
            self.top.note_before(TOP_LEVEL, &changes, &mut records);
            self.top.apply(&changes, self.clock, &mut records);
            self.top.note_after(TOP_LEVEL, &changes, &mut records);
        }
        let inserted = changes.iter().filter(|change| change.fork != PRESENT).count();
        self.loaded = self.loaded.saturating_add(inserted.saturating_mul(2));
        if !self.stored {
            self.stored = true;
            return Ok(self.all_records());
        }
        records.retain(|_, change| change.before != change.after);
        Ok(records)
    }

    /// The root hash: 32 zero bytes for the empty map.
    #[must_use]
    pub fn root(&self) -> StateRoot {
        StateRoot(self.top.hash)
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.top.rows()).unwrap_or(usize::MAX)
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.top.is_empty()
    }

    /// The hash of the value at `key`, if it has a row.
    ///
    /// # Errors
    /// [`NodeError::Storage`], [`NodeError::Torn`].
    pub fn get<S: NodeSource>(&self, key: &[u8], source: &S) -> Result<Option<[u8; 32]>, NodeError<S::Error>> {
        Ok(match self.nearest(key, source)? {
            Nearest::Row(row) => row_parts(&row).filter(|(near, _)| *near == key).map(|(_, value)| *value),
            Nearest::None | Nearest::Stored(_) => None,
        })
    }

    /// Whether what is in memory shows that `key` has no row.
    #[must_use]
    pub fn lacks(&self, key: &[u8]) -> bool {
        match self.top.nearest_loaded(key) {
            Ok(Nearest::Row(row)) => row_parts(&row).is_none_or(|(near, _)| near != key),
            Ok(Nearest::None | Nearest::Stored(_)) => true,
            Err(_) => false,
        }
    }

    /// The row nearest to `key`. Loads what is not in memory, without keeping it.
    pub(super) fn nearest<S: NodeSource>(&self, key: &[u8], source: &S) -> Result<Nearest, NodeError<S::Error>> {
        let mut loaded: HashedNode;
        let mut top = &self.top;
        loop {
            match top.nearest_loaded(key) {
                Ok(nearest) => return Ok(nearest),
                Err((hash, stored)) => loaded = HashedNode::load(hash, stored, source)?.0,
            }
            top = &loaded;
        }
    }

    /// The changes that have an effect, each with its fork. Loads the nodes on their paths.
    fn effective<'a, K: AsRef<[u8]>, S: NodeSource>(
        &mut self,
        changes: &'a [(K, Option<[u8; 32]>)],
        source: &S,
    ) -> Result<Vec<RowChange<'a>>, NodeError<S::Error>> {
        let keys: Vec<&[u8]> = changes.iter().map(|(key, _)| key.as_ref()).collect();
        let mut previous: &[u8] = &[];
        for key in &keys {
            check_key(key)?;
            if !previous.is_empty() {
                check_order(previous, key)?;
            }
            previous = key;
        }
        self.load_paths(keys, source)?;
        let mut effective = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            effective.extend(self.locate(key.as_ref(), value.as_ref())?);
        }
        Ok(effective)
    }

    /// The change with its fork, once all nodes on the path of its key are in memory; `None` if it has no effect.
    fn locate<'a>(&self, key: &'a [u8], value: Option<&'a NodeHash>) -> Result<Option<RowChange<'a>>, MapError> {
        let Ok(nearest) = self.top.nearest_loaded(key) else { unreachable!("all paths were loaded") };
        let (mut fork, mut old) = (0, None);
        match &nearest {
            Nearest::Row(row) => {
                if let Some((near, present)) = row_parts(row) {
                    if near == key {
                        (fork, old) = (PRESENT, Some(present));
                    } else if near.starts_with(key) || key.starts_with(near) {
                        return Err(MapError::Prefix);
                    } else {
                        fork = common_bits(near, key);
                    }
                }
            }
            Nearest::Stored(stored) => {
                fork = stored.shared(key);
                if fork == bits(key) {
                    return Err(MapError::Prefix);
                }
            }
            Nearest::None => {}
        }
        Ok((old != value).then_some(RowChange { key, value, fork }))
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateMap({} rows, {:?})", self.len(), self.root())
    }
}
