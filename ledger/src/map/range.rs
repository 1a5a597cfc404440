//! Proofs that rows follow one another in a map without a gap. With them, a snapshot can be fetched in parts from
//! any node that has it.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use super::build::Builder;
use super::hash::{NodeHash, bit, bits, leaf_hash, value_hash};
use super::proof::MapProofError;
use super::stored::{NodeError, NodeSource};
use super::tree::{HashedNode, MapError, MapNode, StateMap, check_key, row_parts};
use crate::id::StateRoot;

/// Longest encoded range proof, in bytes: 1,024 hashes on each side and a row.
pub const RANGE_PROOF_BYTES_MAX: usize = 73_728;

/// Shows a verifier that trusts only the root that rows follow one another from some key without a gap.
///
/// The proof is unique: a map, a start key and the rows from there have exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeProof {
    /// The last row before the range: its key, the hash of its value.
    before: Option<(Vec<u8>, NodeHash)>,
    /// The left siblings on the path to that row, each with the depth of its parent, from the top down.
    left: Vec<(u16, NodeHash)>,
    /// The right siblings on the path to the last row, each with the depth of its parent, from the row up.
    right: Vec<(u16, NodeHash)>,
}

impl StateMap {
    /// Proves the rows from the key `start` up to the row with the key `last`, inclusive.
    ///
    /// Without `last`, proves that there are no rows from `start` on. `start` may be any bytes; an empty one starts
    /// at the first row of the map.
    ///
    /// # Errors
    /// [`MapError::Range`]: no row has the key `last`, or it is before `start`, or there is no `last` but there are
    /// rows from `start` on. [`NodeError::Storage`], [`NodeError::Torn`].
    pub fn prove_range<S: NodeSource>(
        &self,
        start: &[u8],
        last: Option<&[u8]>,
        source: &S,
    ) -> Result<RangeProof, NodeError<S::Error>> {
        if let Some(last) = last
            && (last < start || self.get(last, source)?.is_none())
        {
            return Err(MapError::Range.into());
        }
        let before = self.before(start, source)?;
        let siblings = |key: Option<&[u8]>| key.map(|key| self.siblings(key, source)).transpose();
        let [left, _] = siblings(before.as_ref().map(|(key, _)| key.as_slice()))?.unwrap_or_default();
        let end = last.or(before.as_ref().map(|(key, _)| key.as_slice()));
        let [_, mut right] = siblings(end)?.unwrap_or_default();
        right.reverse();
        if last.is_none() && (!right.is_empty() || before.is_none() && !self.is_empty()) {
            return Err(MapError::Range.into());
        }
        Ok(RangeProof { before, left, right })
    }

    /// The last row before `start`.
    fn before<S: NodeSource>(
        &self,
        start: &[u8],
        source: &S,
    ) -> Result<Option<(Vec<u8>, NodeHash)>, NodeError<S::Error>> {
        let nearest = self.nearest(start, source)?;
        let Some((near, fork)) = nearest.shared(start) else { return Ok(None) };
        let (mut branch, mut left) = (self.top.loaded(source)?, None);
        while let MapNode::InnerNode(inner) = &branch.node
            && inner.depth < fork
        {
            let (next, other) = if bit(start, inner.depth) {
                (inner.right.loaded(source)?, Some(inner.left.clone()))
            } else {
                (inner.left.loaded(source)?, left)
            };
            (branch, left) = (next, other);
        }
        // `near` is below the branch, and all rows below the branch are on the same side of `start`.
        match if near < start { Some(branch) } else { left } {
            Some(branch) => branch.last(source),
            None => Ok(None),
        }
    }

    /// The left siblings and the right siblings on the path to the row with this key, from the top down.
    fn siblings<S: NodeSource>(&self, key: &[u8], source: &S) -> Result<[Siblings; 2], NodeError<S::Error>> {
        let (mut left, mut right, mut branch) = (Siblings::new(), Siblings::new(), self.top.loaded(source)?);
        while let MapNode::InnerNode(inner) = &branch.node {
            let next = if bit(key, inner.depth) {
                left.push((inner.depth, inner.left.hash));
                &inner.right
            } else {
                right.push((inner.depth, inner.right.hash));
                &inner.left
            };
            branch = next.loaded(source)?;
        }
        Ok([left, right])
    }
}

/// Siblings on a path, each with the depth of its parent.
type Siblings = Vec<(u16, NodeHash)>;

impl HashedNode {
    /// The last row below this node: its key, the hash of its value. `None` for the empty tree.
    fn last<S: NodeSource>(&self, source: &S) -> Result<Option<(Vec<u8>, NodeHash)>, NodeError<S::Error>> {
        let mut node = self.loaded(source)?;
        while let MapNode::InnerNode(inner) = &node.node {
            node = inner.right.loaded(source)?;
        }
        let MapNode::Leaf(row) = &node.node else { unreachable!("just loaded") };
        Ok(row_parts(row).map(|(key, value)| (key.to_vec(), *value)))
    }
}

impl RangeProof {
    /// Checks that in the map with this root `rows` are the first rows from the key `start` on. Returns whether the
    /// map ends with them.
    ///
    /// The rows are whole keys and values, ascending; an empty list claims that no rows follow.
    ///
    /// # Errors
    /// [`MapProofError`]: then nothing is known about the rows.
    pub fn verify<K, V>(&self, root: &StateRoot, start: &[u8], rows: &[(K, V)]) -> Result<bool, MapProofError>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut builder = Builder::<&[u8], NodeHash>::default();
        self.left.iter().for_each(|(depth, hidden)| builder.hide_left(*depth, *hidden));
        if let Some((key, value)) = &self.before {
            check_key(key).map_err(|_| MapProofError::Malformed)?;
            if key.as_slice() >= start {
                return Err(MapProofError::Claim);
            }
            builder.push(key, bits(key), leaf_hash(key, value))?;
        } else if !self.left.is_empty() {
            return Err(MapProofError::Malformed);
        }
        let hides_the_first = rows.is_empty() && !self.right.is_empty();
        if hides_the_first || rows.first().is_some_and(|(key, _)| key.as_ref() < start) {
            return Err(MapProofError::Claim);
        }
        for (key, value) in rows {
            let key = key.as_ref();
            check_key(key)?;
            builder.push(key, bits(key), leaf_hash(key, &value_hash(value.as_ref())))?;
        }
        self.right.iter().try_for_each(|(depth, hidden)| builder.hide_right(*depth, *hidden))?;
        let ends = self.right.is_empty();
        if builder.finish()?.unwrap_or_default() == root.0 { Ok(ends) } else { Err(MapProofError::Root) }
    }
}

#[cfg(test)]
pub(super) mod tests;
