//! A state map: the Merkle tree over sorted rows whose root two nodes compare.
//!
//! The tree keeps each row's key and the hash of the value, not the value itself. The root depends only on the
//! rows, never on the order of the updates that led to them. Parts of the tree that are not in memory are read from the
//! rows and from records of the nodes above them when they are needed.
mod build;
mod hash;
mod proof;
mod range;
mod stored;
mod tree;

pub use self::hash::{KEY_BYTES_MAX, value_hash};
pub use self::proof::{MAP_PROOF_BYTES_MAX, MapProof, MapProofError};
pub use self::range::{RANGE_PROOF_BYTES_MAX, RangeProof};
pub use self::stored::{
    LEVEL_MAX, LoadedNode, MissingNode, NodeError, NodeSource, RecordChange, RecordChanges, RecordKey, TOP_LEVEL, Whole,
};
pub use self::tree::{MapError, PREFIXES_MAX, StateMap};

#[cfg(test)]
mod tests;
