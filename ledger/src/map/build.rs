//! A tree from sorted rows, each node hashed once.
use alloc::vec::Vec;

use super::hash::{Hash, common_bits};
use super::{Branch, MapError, check_key, check_order};

/// Takes rows one by one.
pub(super) struct Builder<K> {
    /// Left sides that wait for their right ones, and the depths at which they will meet, ascending.
    waiting: Vec<(u16, Branch)>,
    /// The subtree of the last row, as far as it is complete.
    current: Branch,
    previous: Option<K>,
    rows: usize,
}

impl<K> Default for Builder<K> {
    fn default() -> Self {
        Self { waiting: Vec::new(), current: Branch::default(), previous: None, rows: 0 }
    }
}

impl<K: AsRef<[u8]>> Builder<K> {
    /// # Errors
    /// Any [`MapError`]; the builder is then good for nothing.
    pub(super) fn push(&mut self, key: K, value: &Hash) -> Result<(), MapError> {
        check_key(key.as_ref())?;
        let leaf = Branch::leaf(key.as_ref(), value);
        if let Some(previous) = self.previous.take() {
            check_order(previous.as_ref(), key.as_ref())?;
            let fork = common_bits(previous.as_ref(), key.as_ref());
            let left = self.close(fork, previous.as_ref());
            self.waiting.push((fork, left));
        }
        self.current = leaf;
        self.previous = Some(key);
        self.rows = self.rows.saturating_add(1);
        Ok(())
    }

    /// The tree and the number of its rows.
    pub(super) fn finish(mut self) -> (Branch, usize) {
        let Some(previous) = self.previous.take() else { return Default::default() };
        (self.close(0, previous.as_ref()), self.rows)
    }

    /// Completes every node at `depth` or deeper: no later row falls below them.
    fn close(&mut self, depth: u16, key: &[u8]) -> Branch {
        let mut right = core::mem::take(&mut self.current);
        while let Some((at, left)) = self.waiting.pop_if(|(at, _)| *at >= depth) {
            right = Branch::join(at, left, right, key);
        }
        right
    }
}
