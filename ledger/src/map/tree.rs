//! The tree itself: built from sorted rows, updated in batches. Clones share its nodes.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};

use super::build::{Builder, Subtree};
use super::hash::{KEY_BYTES_MAX, NodeHash, bit, bits, common_bits, inner_hash, leaf_hash};
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

/// The rows of one map as a tree in memory: about 260 bytes per row with 65-byte keys.
///
/// A clone costs one reference count: it shares all nodes, and an update copies only the paths that it changes.
#[derive(Clone, Default)]
pub struct StateMap {
    pub(super) top: HashedNode,
    rows: usize,
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
}

/// All keys below share the bits before `depth`; the bit at `depth` is 0 on the left side and 1 on the right.
#[derive(Clone)]
pub(super) struct InnerNode {
    pub(super) depth: u16,
    pub(super) left: HashedNode,
    pub(super) right: HashedNode,
}

/// A change that has an effect.
struct RowChange<'a> {
    key: &'a [u8],
    value: Option<&'a NodeHash>,
    /// The first bit in which the key differs from its nearest row, or [`PRESENT`] if the key has a row.
    fork: u16,
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

    fn is_empty(&self) -> bool {
        matches!(&self.node, MapNode::Leaf(row) if row.is_empty())
    }

    pub(super) fn depth(&self) -> u16 {
        match &self.node {
            MapNode::Leaf(_) => PRESENT,
            MapNode::InnerNode(inner) => inner.depth,
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

    /// Applies `changes` to this subtree. Their keys share with the keys below it all bits before the smaller of its
    /// depth and their smallest fork.
    fn apply(&mut self, changes: &[RowChange<'_>]) {
        let Some(first) = changes.first() else { return };
        let fork = changes.iter().fold(PRESENT, |least, change| least.min(change.fork));
        if fork < self.depth() {
            return self.grow(fork, changes, first.key);
        }
        match &mut self.node {
            MapNode::Leaf(_) => *self = first.value.map(|value| Self::leaf(first.key, value)).unwrap_or_default(),
            MapNode::InnerNode(inner) => {
                let inner = Arc::make_mut(inner);
                let (left, right) = split(changes, inner.depth);
                inner.left.apply(left);
                inner.right.apply(right);
                self.settle(first.key);
            }
        }
    }

    /// Inserts a parent node at depth `fork`, where some of `changes` branch off from this subtree.
    fn grow(&mut self, fork: u16, changes: &[RowChange<'_>], key: &[u8]) {
        let (left, right) = split(changes, fork);
        let mut old = mem::take(self);
        *self = if left.first().is_some_and(|change| change.fork == fork) {
            old.apply(right);
            Self::join(fork, Self::plant(left), old, key)
        } else {
            old.apply(left);
            Self::join(fork, old, Self::plant(right), key)
        };
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

impl Subtree for HashedNode {
    /// If one side is empty, the result is the other side.
    fn join(depth: u16, left: Self, right: Self, key: &[u8]) -> Self {
        let mut branch =
            Self { hash: NodeHash::default(), node: MapNode::InnerNode(Arc::new(InnerNode { depth, left, right })) };
        branch.settle(key);
        branch
    }
}

fn push_row<K: AsRef<[u8]>>(builder: &mut Builder<K, HashedNode>, key: K, value: &NodeHash) -> Result<(), MapError> {
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

/// The changes on the left side and on the right side of a node at `depth`.
fn split<'a, 'b>(changes: &'a [RowChange<'b>], depth: u16) -> (&'a [RowChange<'b>], &'a [RowChange<'b>]) {
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
    /// Builds the map of `rows` (key, value hash), in linear time.
    ///
    /// # Errors
    /// Any [`MapError`]: the rows must ascend strictly, with no key a prefix of another.
    pub fn from_sorted<K: AsRef<[u8]>>(rows: impl IntoIterator<Item = (K, [u8; 32])>) -> Result<Self, MapError> {
        let (mut builder, mut count) = (Builder::default(), 0usize);
        for (key, value) in rows {
            push_row(&mut builder, key, &value)?;
            count = count.saturating_add(1);
        }
        Ok(Self { top: finish(builder), rows: count })
    }

    /// Sets rows (`Some` value hash) and removes rows (`None`); removing an absent row does nothing.
    ///
    /// # Errors
    /// Any [`MapError`], and then nothing is changed. The keys must ascend strictly, and no key may be a prefix of
    /// another key in the changes or in the map, in either direction; this includes keys of removed rows.
    pub fn update<K: AsRef<[u8]>>(&mut self, changes: &[(K, Option<[u8; 32]>)]) -> Result<(), MapError> {
        let changes = self.effective(changes)?;
        let inserted = changes.iter().filter(|change| change.fork != PRESENT).count();
        let removed = changes.iter().filter(|change| change.value.is_none()).count();
        if self.top.is_empty() {
            self.top = HashedNode::plant(&changes);
        } else {
            self.top.apply(&changes);
        }
        self.rows = self.rows.saturating_add(inserted).saturating_sub(removed);
        Ok(())
    }

    /// The root hash: 32 zero bytes for the empty map.
    #[must_use]
    pub fn root(&self) -> StateRoot {
        StateRoot(self.top.hash)
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The hash of the value at `key`, if it has a row.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<[u8; 32]> {
        row_parts(self.nearest(key)).filter(|(near, _)| *near == key).map(|(_, value)| *value)
    }

    /// A row whose key shares the most leading bits with `key`; no bytes if the map is empty.
    pub(super) fn nearest(&self, key: &[u8]) -> &[u8] {
        let mut node = &self.top.node;
        loop {
            match node {
                MapNode::Leaf(row) => return row,
                MapNode::InnerNode(inner) => {
                    let side = if bit(key, inner.depth) { &inner.right } else { &inner.left };
                    node = &side.node;
                }
            }
        }
    }

    /// The changes that have an effect, each with its fork.
    fn effective<'a, K: AsRef<[u8]>>(
        &self,
        changes: &'a [(K, Option<[u8; 32]>)],
    ) -> Result<Vec<RowChange<'a>>, MapError> {
        let mut effective = Vec::with_capacity(changes.len());
        let mut previous: &[u8] = &[];
        for (key, value) in changes {
            let key = key.as_ref();
            check_key(key)?;
            if !previous.is_empty() {
                check_order(previous, key)?;
            }
            previous = key;
            effective.extend(self.locate(key, value.as_ref())?);
        }
        Ok(effective)
    }

    /// The change with its fork; `None` if it has no effect.
    fn locate<'a>(&self, key: &'a [u8], value: Option<&'a NodeHash>) -> Result<Option<RowChange<'a>>, MapError> {
        let present = row_parts(self.nearest(key));
        let fork = match present {
            None => 0,
            Some((near, _)) if near == key => PRESENT,
            Some((near, _)) if near.starts_with(key) || key.starts_with(near) => return Err(MapError::Prefix),
            Some((near, _)) => common_bits(near, key),
        };
        let old = present.filter(|_| fork == PRESENT).map(|(_, old)| old);
        Ok((old != value).then_some(RowChange { key, value, fork }))
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateMap({} rows, {:?})", self.rows, self.root())
    }
}
