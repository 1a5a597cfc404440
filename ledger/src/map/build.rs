//! Builds a tree, or only its root, from rows and subtrees given from left to right; hashes each node once.
use alloc::vec::Vec;
use core::mem;

use super::hash::{NodeHash, bit, common_bits, inner_hash};

/// What the builder makes of each subtree: a node, or only its hash.
pub(super) trait Subtree: Sized {
    /// Makes the node at `depth`. `key` is any key that begins with the `depth` bits that both sides share.
    fn join(depth: u16, left: Self, right: Self, key: &[u8]) -> Self;
}

impl Subtree for NodeHash {
    fn join(depth: u16, left: Self, right: Self, key: &[u8]) -> Self {
        inner_hash(depth, key, &left, &right)
    }
}

/// An item or a hidden side that no tree has to the right of the previous ones.
#[derive(Debug)]
pub(super) struct Misplaced;

/// Builds a tree from *items*, which are subtrees with a known key, and *hidden* subtrees between them.
///
/// A hidden subtree has no key here, only the depth of its parent, which has an item on the other side.
pub(super) struct Builder<K, T> {
    /// Left sides whose right side is not complete yet, each with the depth of its parent, ascending.
    waiting: Vec<(u16, T)>,
    /// Hidden left sides above the next item, each with the depth of its parent.
    hidden: Vec<(u16, T)>,
    last: Option<BuilderItem<K, T>>,
}

/// The last item, joined with those of its ancestors that are complete.
struct BuilderItem<K, T> {
    /// A key of the item, or at least the bits that all of its keys share.
    key: K,
    /// The depth of the subtree's top node; before the first join, the number of bits that the item's keys share.
    top: u16,
    subtree: T,
}

impl<K, T> Default for Builder<K, T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), hidden: Vec::new(), last: None }
    }
}

impl<K: AsRef<[u8]>, T: Subtree> Builder<K, T> {
    /// The key of the last item.
    pub(super) fn last_key(&self) -> Option<&K> {
        self.last.as_ref().map(|last| &last.key)
    }

    /// The depth of the deepest node known so far to have the last item on its right.
    pub(super) fn above(&self) -> Option<u16> {
        self.waiting.last().map(|(depth, _)| *depth)
    }

    /// The depths of the hidden left sides above the next item.
    pub(super) fn hidden(&self) -> impl Iterator<Item = u16> {
        self.hidden.iter().map(|(depth, _)| *depth)
    }

    /// Adds a hidden left side to the node at `depth` above the next item.
    pub(super) fn hide_left(&mut self, depth: u16, subtree: T) {
        self.hidden.push((depth, subtree));
    }

    /// Adds a hidden right side to the node at `depth` above the last item.
    pub(super) fn hide_right(&mut self, depth: u16, subtree: T) -> Result<(), Misplaced> {
        let mut last = self.last.take().filter(|_| self.hidden.is_empty()).ok_or(Misplaced)?;
        if depth >= last.top || bit(last.key.as_ref(), depth) {
            return Err(Misplaced);
        }
        let left = self.close(Some(depth), last.subtree, last.key.as_ref());
        last.subtree = T::join(depth, left, subtree, last.key.as_ref());
        last.top = depth;
        self.last = Some(last);
        Ok(())
    }

    /// Adds an item whose keys all begin with the first `bits` bits of `key`.
    pub(super) fn push(&mut self, key: K, bits: u16, subtree: T) -> Result<(), Misplaced> {
        let mut above = None;
        if let Some(last) = self.last.take() {
            let fork = common_bits(last.key.as_ref(), key.as_ref());
            if fork >= bits || fork >= last.top || !bit(key.as_ref(), fork) {
                return Err(Misplaced);
            }
            let left = self.close(Some(fork), last.subtree, last.key.as_ref());
            self.waiting.push((fork, left));
            above = Some(fork);
        }
        for (depth, hidden) in mem::take(&mut self.hidden) {
            if above >= Some(depth) || depth >= bits || !bit(key.as_ref(), depth) {
                return Err(Misplaced);
            }
            self.waiting.push((depth, hidden));
            above = Some(depth);
        }
        self.last = Some(BuilderItem { key, top: bits, subtree });
        Ok(())
    }

    /// The whole tree; `None` if it is empty.
    pub(super) fn finish(mut self) -> Result<Option<T>, Misplaced> {
        if !self.hidden.is_empty() {
            return Err(Misplaced);
        }
        let last = self.last.take();
        Ok(last.map(|last| self.close(None, last.subtree, last.key.as_ref())))
    }

    /// Completes every node deeper than `depth`: all later items are outside of these nodes.
    fn close(&mut self, depth: Option<u16>, mut right: T, key: &[u8]) -> T {
        while let Some((at, left)) = self.waiting.pop_if(|(at, _)| Some(*at) > depth) {
            right = T::join(at, left, right, key);
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum BuildStep {
        Left(u16),
        Right(u16),
        BuilderItem(&'static [u8], u16),
        End,
    }
    use BuildStep::{BuilderItem, End, Left, Right};

    /// Without these checks the root comparison would still refuse the same proofs, given the root of a real map.
    #[test]
    fn the_last_step_is_misplaced() {
        const TOP: BuildStep = BuilderItem(&[0b1010_0000], 8);
        let check = |steps: &[BuildStep]| {
            let mut builder = Builder::default();
            for (at, step) in steps.iter().enumerate() {
                let done = match step {
                    Left(depth) => {
                        builder.hide_left(*depth, [1; 32]);
                        Ok(())
                    }
                    Right(depth) => builder.hide_right(*depth, [2; 32]),
                    BuilderItem(key, bits) => builder.push(*key, *bits, [3; 32]),
                    End => mem::take(&mut builder).finish().map(drop),
                };
                assert_eq!(done.is_err(), at + 1 == steps.len(), "step {at} of {}", steps.len());
            }
        };
        check(&[Left(0), End]);
        check(&[TOP, Left(0), End]);
        check(&[Right(1)]);
        check(&[TOP, Left(0), Right(1)]);
        check(&[TOP, Right(0)]);
        check(&[TOP, Right(8)]);
        check(&[TOP, Right(3), Right(3)]);
        check(&[TOP, Right(3), Right(4)]);
        check(&[Left(1), TOP]);
        check(&[Left(8), TOP]);
        check(&[Left(2), Left(2), TOP]);
        check(&[Left(2), Left(0), TOP]);
        check(&[Left(2), BuilderItem(&[0b1010_0000], 2)]);
        check(&[TOP, TOP]);
        check(&[TOP, BuilderItem(&[0b1000_0000], 8)]);
        check(&[TOP, BuilderItem(&[0b1010_0000, 0], 16)]);
        check(&[BuilderItem(&[0b1010_0000, 0x80], 16), TOP]);
        check(&[TOP, BuilderItem(&[0b1010_1000], 4)]);
        check(&[BuilderItem(&[0b1010_0000], 4), BuilderItem(&[0b1010_1000], 8)]);
        check(&[TOP, Right(3), BuilderItem(&[0b1010_1000], 8)]);
        check(&[TOP, Right(1), BuilderItem(&[0b1011_0000], 8)]);
        check(&[TOP, Left(3), BuilderItem(&[0b1011_0000], 8)]);
        check(&[TOP, Left(2), BuilderItem(&[0b1011_0000], 8)]);
    }
}
