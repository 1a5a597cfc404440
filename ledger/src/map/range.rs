//! Proofs that rows follow one another in a map: how a snapshot comes in parts, from whoever has it.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use super::build::Builder;
use super::hash::{NodeHash, bit, bits, common_bits, leaf_hash, value_hash};
use super::proof::MapProofError;
use super::tree::{HashedNode, MapError, MapNode, StateMap, check_key, row_parts};
use crate::id::StateRoot;

/// Longest encoded range proof, in bytes: 1,024 hashes on either side and a row.
pub const RANGE_PROOF_BYTES_MAX: usize = 73_728;

/// Shows a stranger who has the root the rows of a map from some key on, without a gap.
///
/// A map, a key and the rows from there have one proof only.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RangeProof {
    /// The last row before: its key, the hash of its value.
    before: Option<(Vec<u8>, NodeHash)>,
    /// What is left of it: the other sides of the nodes above it, from the top down.
    left: Vec<(u16, NodeHash)>,
    /// What is right of the last row: the other sides of the nodes above it, from the row up.
    right: Vec<(u16, NodeHash)>,
}

impl StateMap {
    /// Proves the rows from the key `start` on up to the row with the key `last`; without `last`, that there are
    /// no rows from `start` on. `start` may be any bytes, none at all for the first row of the map.
    ///
    /// # Errors
    /// [`MapError::Range`]: no row has the key `last`, or it is before `start`; or there are rows from `start` on.
    pub fn prove_range(&self, start: &[u8], last: Option<&[u8]>) -> Result<RangeProof, MapError> {
        if last.is_some_and(|last| last < start || self.get(last).is_none()) {
            return Err(MapError::Range);
        }
        let before = self.before(start);
        let (left, _) = before.map(|(key, _)| self.beside(key)).unwrap_or_default();
        let (_, mut right) = last.or(before.map(|(key, _)| key)).map(|key| self.beside(key)).unwrap_or_default();
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
        // All rows below the branch are on the same side of `start` as the near one.
        if near < start { Some(branch) } else { left }.and_then(HashedNode::last)
    }

    /// The other sides of the nodes above the row with this key, from the top down: on its left, on its right.
    fn beside(&self, key: &[u8]) -> (Vec<(u16, NodeHash)>, Vec<(u16, NodeHash)>) {
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
    /// The last row below.
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
    /// Checks that in the map with this root the first rows with keys not before `start` are `rows`, whole keys
    /// and values, ascending; none, if there are none. Gives whether the map ends there.
    ///
    /// # Errors
    /// A [`MapProofError`]: then nothing is known about the rows.
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
