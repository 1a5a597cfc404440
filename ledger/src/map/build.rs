//! A tree, or its root alone, from what stands in it, taken from left to right; each node is hashed once.
use alloc::vec::Vec;
use core::mem;

use super::hash::{NodeHash, bit, common_bits, inner_hash};

/// What a node is made of.
pub(super) trait Subtree: Sized {
    /// The node at `depth`; `key` is any key with the bits before `depth` that both sides share.
    fn join(depth: u16, left: Self, right: Self, key: &[u8]) -> Self;
}

impl Subtree for NodeHash {
    fn join(depth: u16, left: Self, right: Self, key: &[u8]) -> Self {
        inner_hash(depth, key, &left, &right)
    }
}

/// This stands nowhere in a tree to the right of what came before it.
#[derive(Debug)]
pub(super) struct Misplaced;

/// Takes *items*, subtrees whose keys are known, and between them *hidden* subtrees, which have no keys here:
/// only the depth of the node above them, where they are the other side than an item.
pub(super) struct Builder<K, T> {
    /// Left sides that wait for their right ones, and the depths at which they will meet, ascending.
    waiting: Vec<(u16, T)>,
    /// Hidden left sides above the next item.
    hidden: Vec<(u16, T)>,
    last: Option<BuilderItem<K, T>>,
}

/// The last item, and what is above it as far as it is complete.
struct BuilderItem<K, T> {
    /// A key of the item, of at least the bits that all its keys share.
    key: K,
    /// The depth of the subtree's topmost node, or how many bits the item's keys share.
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

    /// Hides the left side of the node at `depth` above the next item.
    pub(super) fn hide_left(&mut self, depth: u16, subtree: T) {
        self.hidden.push((depth, subtree));
    }

    /// Hides the right side of the node at `depth` above the last item.
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

    /// Takes an item whose keys share `bits` first bits with `key`.
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

    /// The whole tree, if there is anything in it.
    pub(super) fn finish(mut self) -> Result<Option<T>, Misplaced> {
        if !self.hidden.is_empty() {
            return Err(Misplaced);
        }
        let last = self.last.take();
        Ok(last.map(|last| self.close(None, last.subtree, last.key.as_ref())))
    }

    /// Completes every node deeper than `depth`: nothing that comes falls below them.
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

    /// Without these rules hashes would refuse the same, if the root is that of a map.
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
