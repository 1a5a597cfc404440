//! Proofs that rows follow one another in a map without a gap. With them, a snapshot can be fetched in parts from
//! any node that has it.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use super::build::Builder;
use super::hash::{NodeHash, bit, bits, common_bits, leaf_hash, value_hash};
use super::proof::MapProofError;
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
    /// rows from `start` on.
    pub fn prove_range(&self, start: &[u8], last: Option<&[u8]>) -> Result<RangeProof, MapError> {
        if last.is_some_and(|last| last < start || self.get(last).is_none()) {
            return Err(MapError::Range);
        }
        let before = self.before(start);
        let (left, _) = before.map(|(key, _)| self.siblings(key)).unwrap_or_default();
        let (_, mut right) = last.or(before.map(|(key, _)| key)).map(|key| self.siblings(key)).unwrap_or_default();
        right.reverse();
        if last.is_none() && (!right.is_empty() || before.is_none() && !self.is_empty()) {
            return Err(MapError::Range);
        }
        Ok(RangeProof { before: before.map(|(key, value)| (key.to_vec(), *value)), left, right })
    }

    /// The last row before `start`.
    fn before(&self, start: &[u8]) -> Option<(&[u8], &NodeHash)> {
        let (near, _) = row_parts(self.nearest(start))?;
        let fork = common_bits(near, start);
        let (mut branch, mut left) = (&self.top, None);
        while let MapNode::InnerNode(inner) = &branch.node
            && inner.depth < fork
        {
            if bit(start, inner.depth) {
                (branch, left) = (&inner.right, Some(&inner.left));
            } else {
                branch = &inner.left;
            }
        }
        // `near` is below the branch, and all rows below the branch are on the same side of `start`.
        if near < start { Some(branch) } else { left }.and_then(HashedNode::last)
    }

    /// The left siblings and the right siblings on the path to the row with this key, from the top down.
    fn siblings(&self, key: &[u8]) -> (Vec<(u16, NodeHash)>, Vec<(u16, NodeHash)>) {
        let (mut left, mut right, mut branch) = (Vec::new(), Vec::new(), &self.top);
        while let MapNode::InnerNode(inner) = &branch.node {
            if bit(key, inner.depth) {
                left.push((inner.depth, inner.left.hash));
                branch = &inner.right;
            } else {
                right.push((inner.depth, inner.right.hash));
                branch = &inner.left;
            }
        }
        (left, right)
    }
}

impl HashedNode {
    /// The last row below this node; `None` for the empty tree.
    fn last(&self) -> Option<(&[u8], &NodeHash)> {
        let mut node = &self.node;
        loop {
            match node {
                MapNode::Leaf(row) => return row_parts(row),
                MapNode::InnerNode(inner) => node = &inner.right.node,
            }
        }
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
