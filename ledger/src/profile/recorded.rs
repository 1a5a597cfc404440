//! Rows that write down what is asked of them.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::ControlFlow;

use crate::rows::{MapId, Rows};

/// By map, the prefixes that were asked for: sorted, none the beginning of another.
pub(super) type Prefixes = BTreeMap<MapId, Vec<Vec<u8>>>;

/// Rows, and every key and prefix that was asked of them.
pub(super) struct RecordedRows<'a, S> {
    rows: &'a S,
    prefixes: RefCell<BTreeMap<MapId, BTreeSet<Vec<u8>>>>,
}

impl<'a, S> RecordedRows<'a, S> {
    pub(super) fn new(rows: &'a S) -> Self {
        Self { rows, prefixes: RefCell::default() }
    }

    /// A key is the prefix of itself alone.
    fn note(&self, map: MapId, prefix: &[u8]) {
        self.prefixes.borrow_mut().entry(map).or_default().insert(prefix.to_vec());
    }

    /// What was asked for so far, without what a shorter prefix covers.
    pub(super) fn prefixes(self) -> Prefixes {
        let all = self.prefixes.into_inner().into_iter();
        all.map(|(map, prefixes)| (map, shortest(prefixes))).collect()
    }
}

/// Leaves out what begins with another one, which stands before it in their order.
fn shortest(sorted: BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for prefix in sorted {
        if kept.last().is_none_or(|last| !prefix.starts_with(last)) {
            kept.push(prefix);
        }
    }
    kept
}

impl<S: Rows> Rows for RecordedRows<'_, S> {
    type Error = S::Error;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, S::Error> {
        self.note(map, key);
        self.rows.get(map, key)
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        self.note(map, prefix);
        self.rows.scan(map, prefix, each)
    }

    /// Where there are rows. This look is no part of the answer, so that nobody has to prove what it saw.
    fn is_likely(&self, map: MapId, prefix: &[u8]) -> Result<bool, S::Error> {
        let mut any = false;
        self.rows.scan(map, prefix, &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        })?;
        Ok(any)
    }
}
