//! Rows that record every key and prefix that is read.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::ControlFlow;

use crate::rows::{MapId, Rows};

/// The prefixes that were read, by map: sorted, none a prefix of another.
pub(super) type Prefixes = BTreeMap<MapId, Vec<Vec<u8>>>;

/// Rows, and every key and prefix that was read from them.
pub(super) struct RecordedRows<'a, S> {
    rows: &'a S,
    prefixes: RefCell<BTreeMap<MapId, BTreeSet<Vec<u8>>>>,
}

impl<'a, S> RecordedRows<'a, S> {
    pub(super) fn new(rows: &'a S) -> Self {
        Self { rows, prefixes: RefCell::default() }
    }

    /// Records a prefix. A whole key is a prefix of itself alone, because no key is a prefix of another.
    fn note(&self, map: MapId, prefix: &[u8]) {
        self.prefixes.borrow_mut().entry(map).or_default().insert(prefix.to_vec());
    }

    /// Everything that was read, without the prefixes that a shorter one covers.
    pub(super) fn prefixes(self) -> Prefixes {
        let all = self.prefixes.into_inner().into_iter();
        all.map(|(map, prefixes)| (map, shortest(prefixes))).collect()
    }
}

/// Removes every prefix that begins with another one, which precedes it in the sorted order.
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

    /// Whether there are rows. Not recorded: the answer does not depend on this, so it needs no proof.
    fn is_likely(&self, map: MapId, prefix: &[u8]) -> Result<bool, S::Error> {
        let mut any = false;
        self.rows.scan(map, prefix, &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        })?;
        Ok(any)
    }
}
