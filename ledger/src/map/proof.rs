//! Proofs that a row is in a map, or is not.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use super::hash::{Hash, bit, bits, common_bits, inner_hash, leaf_hash, prefix, value_hash};
use super::{MapError, Node, StateMap, check_key, row_parts};
use crate::id::StateRoot;

/// Longest encoded proof, in bytes: the limit to decode one with.
pub const PROOF_BYTES_MAX: usize = 36_864;

/// Shows a stranger who has the root what the map says about one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MapProof {
    /// From the top down: the nodes on the key's way, their depths ascending.
    path: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Step {
    depth: u16,
    sibling: Hash,
}

/// What stands where the key's way ends.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum End {
    /// The row itself, which the verifier has.
    Row,
    /// Nothing: the map is empty.
    Empty,
    /// Another row.
    Leaf { key: Vec<u8>, value: Hash },
    /// A node whose common prefix (`depth` bits, zero-padded) the key does not have.
    Inner { depth: u16, prefix: Vec<u8>, left: Hash, right: Hash },
}

/// Why a proof shows nothing. All are its sender's fault, unless root or key are not the ones it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// No map has such a key.
    #[error(transparent)]
    Key(#[from] MapError),
    /// The proof has a form that `prove` never makes.
    #[error("the proof is malformed")]
    Malformed,
    /// The proof is about presence, the claim about absence, or the other way round.
    #[error("the proof does not answer whether the row exists as claimed")]
    Claim,
    /// The proof leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

impl ProofError {
    /// The stable word for this in answers, logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Key(_) => "proof_key",
            Self::Malformed => "proof_malformed",
            Self::Claim => "proof_claim",
            Self::Root => "proof_root",
        }
    }
}

impl StateMap {
    /// Proves what the map says about `key`: the hash of its value, or that it has no row.
    ///
    /// # Errors
    /// [`MapError::KeyLength`].
    pub fn prove(&self, key: &[u8]) -> Result<MapProof, MapError> {
        check_key(key)?;
        let Some((near, value)) = row_parts(self.nearest(key)) else {
            return Ok(MapProof { path: Vec::new(), end: End::Empty });
        };
        let shared = common_bits(near, key);
        let (mut path, mut branch) = (Vec::new(), &self.top);
        while let Node::Inner(inner) = &branch.node {
            let (depth, left, right) = (inner.depth, &inner.left, &inner.right);
            if shared < depth || bits(key) <= depth {
                let end = End::Inner { depth, prefix: padded(near, depth), left: left.hash, right: right.hash };
                return Ok(MapProof { path, end });
            }
            let (next, sibling) = if bit(key, depth) { (right, left.hash) } else { (left, right.hash) };
            path.push(Step { depth, sibling });
            branch = next;
        }
        let end = if near == key { End::Row } else { End::Leaf { key: near.to_vec(), value: *value } };
        Ok(MapProof { path, end })
    }
}

impl MapProof {
    /// Checks that in the map with this root `key` has this value, or with `None` that it has no row.
    ///
    /// # Errors
    /// A [`ProofError`]: then nothing is known about the key.
    pub fn verify(&self, root: &StateRoot, key: &[u8], value: Option<&[u8]>) -> Result<(), ProofError> {
        check_key(key)?;
        let end = match (&self.end, value) {
            (End::Row, Some(value)) => leaf_hash(key, &value_hash(value)),
            (End::Row, None) | (_, Some(_)) => return Err(ProofError::Claim),
            (absent, None) => self.absent_hash(absent, key)?,
        };
        if self.climb(key, end)? == root.0 { Ok(()) } else { Err(ProofError::Root) }
    }

    /// The hash of an end that shows that `key` has no row, checked to show that.
    fn absent_hash(&self, end: &End, key: &[u8]) -> Result<Hash, ProofError> {
        match end {
            End::Empty if self.path.is_empty() => Ok(Hash::default()),
            End::Leaf { key: other, value } if check_key(other).is_ok() && other != key => Ok(leaf_hash(other, value)),
            End::Inner { depth, prefix, left, right } => {
                let (well_formed, deeper) = (is_padded(prefix, *depth), self.below(*depth));
                let leaves = common_bits(prefix, key) < *depth || bits(key) <= *depth;
                if well_formed && deeper && leaves {
                    Ok(inner_hash(*depth, prefix, left, right))
                } else {
                    Err(ProofError::Malformed)
                }
            }
            _ => Err(ProofError::Malformed),
        }
    }

    /// Whether `depth` lies below the whole path.
    fn below(&self, depth: u16) -> bool {
        self.path.last().is_none_or(|step| step.depth < depth)
    }

    /// The root above `end`, the path being the key's own.
    fn climb(&self, key: &[u8], end: Hash) -> Result<Hash, ProofError> {
        if !self.path.is_sorted_by(|upper, lower| upper.depth < lower.depth) || !self.below(bits(key)) {
            return Err(ProofError::Malformed);
        }
        Ok(self.path.iter().rev().fold(end, |hash, Step { depth, sibling }| {
            let (left, right) = if bit(key, *depth) { (sibling, &hash) } else { (&hash, sibling) };
            inner_hash(*depth, key, left, right)
        }))
    }
}

/// The first `depth` bits of `key`, zero-padded to whole bytes.
fn padded(key: &[u8], depth: u16) -> Vec<u8> {
    let (whole, partial) = prefix(key, depth);
    [whole, partial.as_slice()].concat()
}

/// Whether `prefix` is `depth` bits of a key, zero-padded to whole bytes.
fn is_padded(prefix: &[u8], depth: u16) -> bool {
    let fits = prefix.len() == usize::from(depth).div_ceil(8) && prefix.len() <= super::KEY_BYTES_MAX;
    fits && padded(prefix, depth) == prefix
}
