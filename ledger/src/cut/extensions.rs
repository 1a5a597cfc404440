//! Which heads extend which, and where branches diverge. Every proof is verified, so its source is irrelevant.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::TreeRoot;
use crate::log::{Hash, Head, TreeProofError, verify_consistency};

/// Most proofs for one cut. The heads of 64 operators need fewer than 64 × 67, wherever they diverge.
pub const EXTENSIONS_MAX: usize = 8_192;

/// Why a proof was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// The proof does not lead from the smaller head to the larger one.
    #[error("{0}")]
    Proof(TreeProofError),
    /// There are already [`EXTENSIONS_MAX`] proofs.
    #[error("more than {EXTENSIONS_MAX} proofs")]
    TooMany,
}

/// The roots that the trees of some heads had at smaller sizes, each with a verified proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(BTreeMap<Head, BTreeMap<u64, (TreeRoot, Vec<Hash>)>>);

impl Extensions {
    /// Records that `head` extends `smaller`, as an RFC 6962 consistency proof shows.
    ///
    /// # Errors
    /// [`ExtensionError`]; nothing is added.
    pub fn add(&mut self, head: &Head, smaller: &Head, proof: Vec<Hash>) -> Result<(), ExtensionError> {
        verify_consistency(smaller, head, &proof).map_err(ExtensionError::Proof)?;
        if self.root(head, smaller.size).is_some() {
            return Ok(());
        }
        if self.0.values().map(BTreeMap::len).sum::<usize>() >= EXTENSIONS_MAX {
            return Err(ExtensionError::TooMany);
        }
        self.0.entry(*head).or_default().insert(smaller.size, (smaller.root, proof));
        Ok(())
    }

    /// All recorded extensions: head, smaller head, proof.
    pub fn iter(&self) -> impl Iterator<Item = (&Head, Head, &[Hash])> {
        self.0.iter().flat_map(|(head, roots)| {
            roots.iter().map(move |(size, (root, proof))| (head, Head { size: *size, root: *root }, &proof[..]))
        })
    }

    /// Heads that several others are shown to extend; the heads where branches diverge are among them.
    #[must_use]
    pub fn forks(&self) -> BTreeSet<Head> {
        let mut seen = BTreeSet::new();
        self.iter().map(|(_, smaller, _)| smaller).filter(|smaller| !seen.insert(*smaller)).collect()
    }

    /// The root that the tree of `head` had at `size`, if that is shown.
    fn root(&self, head: &Head, size: u64) -> Option<TreeRoot> {
        match size {
            0 => Some(Head::EMPTY.root),
            _ if size == head.size => Some(head.root),
            _ => self.0.get(head)?.get(&size).map(|(root, _)| *root),
        }
    }

    /// Whether `head` is shown to equal or extend `smaller`.
    #[must_use]
    pub fn extends(&self, head: &Head, smaller: &Head) -> bool {
        self.root(head, smaller.size) == Some(smaller.root)
    }

    /// Whether `other` is shown to be off the branch of `own`: it extends no head that `own` extends and `cut` does
    /// not. This is so if `cut` extends `other`, or if `other` is no larger than the prefix that `own` and `cut`
    /// share, or if one entry after that prefix `other` has another root than `own`.
    #[must_use]
    pub fn is_off_branch(&self, other: &Head, own: &Head, cut: &Head) -> bool {
        let differ = |next: u64| match (self.root(own, next), self.root(other, next)) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        };
        let clear = |shared: u64| other.size <= shared || differ(shared.saturating_add(1));
        self.extends(cut, other) || self.shared(cut, own).any(clear)
    }

    /// Whether the heads are shown to be on different branches: at some size that both had, their roots differ.
    #[must_use]
    pub fn part(&self, one: &Head, other: &Head) -> bool {
        let sizes = [one, other].into_iter().flat_map(|head| self.0.get(head)).flat_map(|roots| roots.keys().copied());
        let mut sizes = sizes.chain([one.size, other.size]);
        sizes.any(|size| match (self.root(one, size), self.root(other, size)) {
            (Some(one), Some(other)) => one != other,
            _ => false,
        })
    }

    /// The sizes at which both are shown to have had the same root.
    fn shared(&self, one: &Head, other: &Head) -> impl Iterator<Item = u64> {
        let sizes = self.0.get(one).into_iter().flat_map(|roots| roots.keys().copied());
        let sizes = [0, one.size].into_iter().chain(sizes);
        sizes.filter(|size| self.root(one, *size).is_some_and(|root| self.root(other, *size) == Some(root)))
    }
}

/// Asks for the root that a head's tree had at a smaller size above 0, with the consistency proof; `None` if nobody
/// has that head.
pub type RootSource<'a, E> = dyn FnMut(&Head, u64) -> Result<Option<(TreeRoot, Vec<Hash>)>, E> + 'a;

/// Collects the proofs that show who may sign a cut at `cut`, given the heads of the stands in its log. For a head on
/// its branch: that the cut extends it. For any other head: where it diverges from the cut, and which root it, the cut
/// and all other heads have one entry later.
///
/// # Errors
/// The errors of `ask`.
pub fn find<E>(cut: &Head, heads: &[Head], ask: &mut RootSource<'_, E>) -> Result<Extensions, E> {
    let mut finder = Finder { ask, found: Extensions::default() };
    for own in heads.iter().filter(|own| *own != cut && own.size > 0) {
        if own.size <= cut.size && finder.root(cut, own.size)? == Some(own.root) {
            finder.keep(cut, own.size)?;
            continue;
        }
        let shared = finder.shared(cut, own)?;
        finder.keep(cut, shared)?;
        finder.keep(own, shared)?;
        for other in heads.iter().chain([cut]) {
            finder.keep(other, shared.saturating_add(1))?;
        }
    }
    Ok(finder.found)
}

struct Finder<'f, 'a, E> {
    ask: &'f mut RootSource<'a, E>,
    found: Extensions,
}

impl<E> Finder<'_, '_, E> {
    /// The root that the tree of `head` had at `size`; asks for it if it is not recorded.
    fn root(&mut self, head: &Head, size: u64) -> Result<Option<TreeRoot>, E> {
        match self.found.root(head, size) {
            None if size < head.size => Ok((self.ask)(head, size)?.map(|(root, _)| root)),
            known => Ok(known),
        }
    }

    fn keep(&mut self, head: &Head, size: u64) -> Result<(), E> {
        if size >= head.size || self.found.root(head, size).is_some() {
            return Ok(());
        }
        let Some((root, proof)) = (self.ask)(head, size)? else { return Ok(()) };
        // A proof that is invalid or one too many is left out. At worst an operator then may not sign.
        self.found.add(head, &Head { size, root }, proof).unwrap_or_default();
        Ok(())
    }

    /// How many entries two heads share; meaningless if nobody has one of them.
    fn shared(&mut self, one: &Head, other: &Head) -> Result<u64, E> {
        let (mut shared, mut end) = (0_u64, one.size.min(other.size).saturating_add(1));
        while shared.saturating_add(1) < end {
            let middle = shared.midpoint(end);
            let (left, right) = (self.root(one, middle)?, self.root(other, middle)?);
            if left == right { shared = middle } else { end = middle }
        }
        Ok(shared)
    }
}
