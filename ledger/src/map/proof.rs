//! Proofs of all rows whose keys begin with given prefixes, or that there are none.
//!
//! A proof is the tree cut down to *items*: the requested rows, which the verifier has, and *others*, the rows and
//! nodes found where a requested row would be. Every other subtree is only a hash. The keys of a hidden subtree
//! leave the path of every prefix at its parent, so no requested row can be in it.
use alloc::vec::Vec;
use core::{iter, slice};

use bincode::{Decode, Encode};

use super::build::{Builder, Misplaced};
use super::hash::{KEY_BYTES_MAX, NodeHash, bit, bits, common_bits, inner_hash, leaf_hash, value_hash};
use super::stored::{NodeError, NodeSource};
use super::tree::{HashedNode, MapError, MapNode, PREFIXES_MAX, StateMap, check_key, check_order, padded, row_parts};
use crate::id::StateRoot;

/// Longest encoded map proof, in bytes: for each prefix 1,024 steps and one *other*.
pub const MAP_PROOF_BYTES_MAX: usize = PREFIXES_MAX * 36_864;

/// Shows a verifier that trusts only the root all rows of the map whose keys begin with certain prefixes.
///
/// The proof is unique: a map and a list of prefixes have exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MapProof {
    /// [`ProofStep`]s, from left to right.
    steps: Vec<u16>,
    /// One for each *other*, in order: a row's key, or the bits that all keys below a node share, zero-padded.
    keys: Vec<Vec<u8>>,
    /// The hashes that the steps consume, in order.
    hashes: Vec<NodeHash>,
}

/// What comes next from left to right in the cut tree; depths are below 1,024.
#[derive(Clone, Copy)]
enum ProofStep {
    /// A hidden left side of the node at this depth above the next item. Consumes a hash.
    Left(u16),
    /// A hidden right side of the node at this depth above the last item. Consumes a hash.
    Right(u16),
    /// An *other*: a node at this depth. Consumes the bits that its keys share and the hashes of its sides.
    MapNode(u16),
    /// An *other*: a row that was not requested. Consumes its key and the hash of its value.
    Row,
    /// All rows of the next prefix that has any; the verifier has them.
    Found,
}

impl ProofStep {
    const fn encode(self) -> u16 {
        match self {
            Self::Left(depth) => depth,
            Self::Right(depth) => 0x4000 | depth,
            Self::MapNode(depth) => 0x8000 | depth,
            Self::Row => 0xc000,
            Self::Found => 0xc001,
        }
    }

    const fn decode(step: u16) -> Option<Self> {
        let depth = step & 0x3fff;
        match (step & 0xc000, depth) {
            (0, _) => Some(Self::Left(depth)),
            (0x4000, _) => Some(Self::Right(depth)),
            (0x8000, _) => Some(Self::MapNode(depth)),
            (_, 0) => Some(Self::Row),
            (_, 1) => Some(Self::Found),
            _ => None,
        }
    }
}

/// Why a proof shows nothing. Always the sender's fault, unless the proof was made for another root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapProofError {
    /// A key that no map can have, or prefixes that no proof can be about.
    #[error(transparent)]
    Key(#[from] MapError),
    /// No prover makes a proof of this form.
    #[error("the proof is malformed")]
    Malformed,
    /// The proof does not show that the prefixes have exactly the claimed rows.
    #[error("the proof does not show that these are the rows")]
    Claim,
    /// The proof leads to a root other than the expected one.
    #[error("the proof leads to another root")]
    Root,
}

impl MapProofError {
    /// The stable code for answers, logs and metrics.
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

impl From<Misplaced> for MapProofError {
    fn from(_: Misplaced) -> Self {
        Self::Malformed
    }
}

/// A requested prefix, with the beginning of a row's key that shares `shared` leading bits with it; no row's key shares
/// more.
struct PrefixQuery<'a> {
    prefix: &'a [u8],
    near: Vec<u8>,
    shared: u16,
}

impl PrefixQuery<'_> {
    /// Whether a node at this depth on the path of the prefix holds all rows of the prefix and no others.
    fn is_found(&self, depth: u16) -> bool {
        self.shared == bits(self.prefix) && self.shared <= depth
    }

    /// Whether the path of the prefix continues below a node at this depth on it.
    fn continues(&self, depth: u16) -> bool {
        self.shared >= depth && bits(self.prefix) > depth
    }
}

fn check_prefixes<P: AsRef<[u8]>>(prefixes: impl ExactSizeIterator<Item = P>) -> Result<(), MapError> {
    if !(1..=PREFIXES_MAX).contains(&prefixes.len()) {
        return Err(MapError::Prefixes(prefixes.len()));
    }
    let mut previous: Option<P> = None;
    for prefix in prefixes {
        check_key(prefix.as_ref())?;
        previous.map_or(Ok(()), |previous| check_order(previous.as_ref(), prefix.as_ref()))?;
        previous = Some(prefix);
    }
    Ok(())
}

impl StateMap {
    /// Proves which rows have keys that begin with one of `prefixes`. A whole key asks for its row alone.
    ///
    /// # Errors
    /// [`MapError`]: there must be 1 to [`PREFIXES_MAX`] prefixes, strictly ascending, none a prefix of another.
    /// [`NodeError::Storage`], [`NodeError::Torn`].
    pub fn prove<P: AsRef<[u8]>, S: NodeSource>(
        &self,
        prefixes: &[P],
        source: &S,
    ) -> Result<MapProof, NodeError<S::Error>> {
        check_prefixes(prefixes.iter())?;
        let mut proof = MapProof::default();
        if !self.is_empty() {
            let asked = prefixes.iter().map(|prefix| self.asked(prefix.as_ref(), source));
            let asked: Vec<_> = asked.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            proof.walk(&self.top, &asked, source)?;
        }
        Ok(proof)
    }

    fn asked<'a, S: NodeSource>(
        &self,
        prefix: &'a [u8],
        source: &S,
    ) -> Result<Option<PrefixQuery<'a>>, NodeError<S::Error>> {
        let nearest = self.nearest(prefix, source)?;
        Ok(nearest.shared(prefix).map(|(near, shared)| PrefixQuery { prefix, near: near.to_vec(), shared }))
    }
}

impl MapProof {
    /// Adds the steps for `branch`, which is on the path of every prefix in `asked`; `asked` is not empty.
    fn walk<S: NodeSource>(
        &mut self,
        branch: &HashedNode,
        asked: &[PrefixQuery<'_>],
        source: &S,
    ) -> Result<(), NodeError<S::Error>> {
        let depth = branch.depth();
        if asked.iter().any(|asked| asked.is_found(depth)) {
            self.steps.push(ProofStep::Found.encode());
            return Ok(());
        }
        let inner = match branch.loaded(source)?.node {
            MapNode::InnerNode(inner) => inner,
            MapNode::Leaf(row) => {
                self.show(ProofStep::Row, row_parts(&row).map(|(key, value)| (key.to_vec(), [*value])));
                return Ok(());
            }
            MapNode::Stored(_) => unreachable!("just loaded"),
        };
        let sides = [(&inner.left, ProofStep::Left(depth)), (&inner.right, ProofStep::Right(depth))];
        // The prefixes that continue below this node share leading bits that the others lack, so they are adjacent.
        let Some(on) = asked.split(|asked| !asked.continues(depth)).find(|run| !run.is_empty()) else {
            let [(left, _), (right, _)] = sides;
            let other = asked.first().map(|a| (padded(&a.near, depth), [left.hash, right.hash]));
            self.show(ProofStep::MapNode(depth), other);
            return Ok(());
        };
        let (left, right) = on.split_at(on.partition_point(|asked| !bit(asked.prefix, depth)));
        for ((side, hidden), asked) in iter::zip(sides, [left, right]) {
            if asked.is_empty() {
                self.steps.push(hidden.encode());
                self.hashes.push(side.hash);
            } else {
                self.walk(side, asked, source)?;
            }
        }
        Ok(())
    }

    fn show<const N: usize>(&mut self, step: ProofStep, other: Option<(Vec<u8>, [NodeHash; N])>) {
        if let Some((key, hashes)) = other {
            self.steps.push(step.encode());
            self.keys.push(key);
            self.hashes.extend(hashes);
        }
    }

    /// Checks that in the map with this root each prefix has exactly the rows listed with it in `answers`.
    ///
    /// The rows are whole keys and values, ascending; the list is empty if the prefix has no rows. The prefixes
    /// must be those that the proof was made for.
    ///
    /// # Errors
    /// [`MapProofError`]: then nothing is known about any of the prefixes.
    pub fn verify<P, K, V>(&self, root: &StateRoot, answers: &[(P, &[(K, V)])]) -> Result<(), MapProofError>
    where
        P: AsRef<[u8]>,
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        check_prefixes(answers.iter().map(|(prefix, _)| prefix))?;
        let mut found = answers.iter().filter(|(_, rows)| !rows.is_empty());
        let mut reader = ProofReader::new(self, answers.iter().map(|(prefix, _)| prefix.as_ref()).collect());
        for step in &self.steps {
            match ProofStep::decode(*step).ok_or(MapProofError::Malformed)? {
                ProofStep::Found => {
                    let (prefix, rows) = found.next().ok_or(MapProofError::Claim)?;
                    reader.rows(prefix.as_ref(), rows)?;
                }
                step => reader.step(step)?,
            }
        }
        if found.next().is_some() { Err(MapProofError::Claim) } else { reader.finish(root) }
    }
}

/// Reads a proof step by step and rebuilds the root.
struct ProofReader<'a> {
    prefixes: Vec<&'a [u8]>,
    keys: slice::Iter<'a, Vec<u8>>,
    hashes: slice::Iter<'a, NodeHash>,
    builder: Builder<&'a [u8], NodeHash>,
    /// The key of the last item if it is an *other* whose depth in the tree is not known yet.
    other: Option<&'a [u8]>,
}

impl<'a> ProofReader<'a> {
    fn new(proof: &'a MapProof, prefixes: Vec<&'a [u8]>) -> Self {
        let (keys, hashes) = (proof.keys.iter(), proof.hashes.iter());
        Self { prefixes, keys, hashes, builder: Builder::default(), other: None }
    }

    fn key(&mut self) -> Result<&'a [u8], MapProofError> {
        self.keys.next().map(Vec::as_slice).ok_or(MapProofError::Malformed)
    }

    fn hash(&mut self) -> Result<NodeHash, MapProofError> {
        self.hashes.next().copied().ok_or(MapProofError::Malformed)
    }

    fn step(&mut self, step: ProofStep) -> Result<(), MapProofError> {
        match step {
            ProofStep::Found => Err(MapProofError::Malformed),
            ProofStep::Left(depth) => {
                let hidden = self.hash()?;
                self.builder.hide_left(depth, hidden);
                Ok(())
            }
            ProofStep::Right(depth) => self.right(depth),
            ProofStep::MapNode(depth) => self.node(depth),
            ProofStep::Row => self.row(),
        }
    }

    fn right(&mut self, depth: u16) -> Result<(), MapProofError> {
        self.settle(Some(depth))?;
        let hidden = self.hash()?;
        self.builder.hide_right(depth, hidden)?;
        self.builder.last_key().map_or(Ok(()), |key| self.pass(key, depth))
    }

    fn node(&mut self, depth: u16) -> Result<(), MapProofError> {
        let (key, left, right) = (self.key()?, self.hash()?, self.hash()?);
        if !is_padded(key, depth) {
            return Err(MapProofError::Malformed);
        }
        if self.meets(key, depth) {
            return Err(MapProofError::Claim);
        }
        self.push(key, depth, inner_hash(depth, key, &left, &right))?;
        self.other = Some(key);
        Ok(())
    }

    fn row(&mut self) -> Result<(), MapProofError> {
        let (key, value) = (self.key()?, self.hash()?);
        check_key(key).map_err(|_| MapProofError::Malformed)?;
        if self.near(key).any(|prefix| key.starts_with(prefix)) {
            return Err(MapProofError::Claim);
        }
        self.push(key, bits(key), leaf_hash(key, &value))?;
        self.other = Some(key);
        Ok(())
    }

    fn rows<K: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, prefix: &[u8], rows: &'a [(K, V)]) -> Result<(), MapProofError> {
        for (key, value) in rows {
            let (key, value) = (key.as_ref(), value.as_ref());
            check_key(key)?;
            if !key.starts_with(prefix) {
                return Err(MapProofError::Claim);
            }
            self.push(key, bits(key), leaf_hash(key, &value_hash(value)))?;
        }
        Ok(())
    }

    fn push(&mut self, key: &'a [u8], bits: u16, hash: NodeHash) -> Result<(), MapProofError> {
        self.settle(self.builder.last_key().map(|last| common_bits(last, key)))?;
        let hidden: Vec<_> = self.builder.hidden().collect();
        self.builder.push(key, bits, hash)?;
        hidden.into_iter().try_for_each(|depth| self.pass(key, depth))
    }

    /// Checks that no requested row can be on the other side of the node at `depth` above `key`.
    fn pass(&self, key: &[u8], depth: u16) -> Result<(), MapProofError> {
        if self.meets(&turned(key, depth), depth.saturating_add(1)) { Err(MapProofError::Claim) } else { Ok(()) }
    }

    /// Checks that the last item, if it is an *other*, had to be shown: that the path of a prefix continues below the
    /// deepest node above the item. `right` is the depth of the deepest node that has the item on its left.
    fn settle(&mut self, right: Option<u16>) -> Result<(), MapProofError> {
        let Some(key) = self.other.take() else { return Ok(()) };
        let below = self.builder.above().max(right).map_or(0, |depth| depth.saturating_add(1));
        if self.meets(key, below) { Ok(()) } else { Err(MapProofError::Malformed) }
    }

    /// Whether a key can begin both with the first `depth` bits of `key` and with one of the prefixes.
    fn meets(&self, key: &[u8], depth: u16) -> bool {
        let begin = padded(key, depth);
        self.near(&begin).any(|prefix| common_bits(prefix, &begin) >= depth.min(bits(prefix)))
    }

    /// The prefixes next to `key` in order: the one that `key` may begin with, and the first that may begin with `key`.
    fn near(&self, key: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let at = self.prefixes.partition_point(|prefix| *prefix <= key);
        let before = at.checked_sub(1).and_then(|before| self.prefixes.get(before));
        [before, self.prefixes.get(at)].into_iter().flatten().copied()
    }

    fn finish(mut self, root: &StateRoot) -> Result<(), MapProofError> {
        self.settle(None)?;
        if self.keys.next().is_some() || self.hashes.next().is_some() {
            return Err(MapProofError::Malformed);
        }
        if self.builder.finish()?.unwrap_or_default() == root.0 { Ok(()) } else { Err(MapProofError::Root) }
    }
}

/// Whether `prefix` can be the first `depth` bits of a key, zero-padded to whole bytes.
fn is_padded(prefix: &[u8], depth: u16) -> bool {
    let fits = prefix.len() == usize::from(depth).div_ceil(8) && prefix.len() <= KEY_BYTES_MAX;
    fits && padded(prefix, depth) == prefix
}

/// The first `depth` bits of `key`, then the opposite of its bit at `depth`, zero-padded to whole bytes.
fn turned(key: &[u8], depth: u16) -> Vec<u8> {
    let mut turned = padded(key, depth.saturating_add(1));
    if let Some(byte) = turned.get_mut(usize::from(depth / 8)) {
        *byte ^= 0x80u8.wrapping_shr(u32::from(depth % 8));
    }
    turned
}

#[cfg(test)]
pub(super) mod tests;
