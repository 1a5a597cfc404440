//! Rows that record every key and prefix that is read.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::ControlFlow;

use crate::map::PREFIXES_MAX;
use crate::rows::{DayRow, MapId, Row as _, Rows, Statement, Tally};

/// The prefixes that were read, by map: sorted, none a prefix of another.
pub(super) type Prefixes = BTreeMap<MapId, Vec<Vec<u8>>>;

/// What is not read, and what is read as one prefix instead of one for each provider. The file says it.
#[derive(Default)]
pub(super) struct Reading {
    /// Maps of which nothing is read: those of logs that are not shown.
    pub(super) hidden: BTreeSet<MapId>,
    /// Homes of which no tallies are read.
    pub(super) without: BTreeSet<MapId>,
    /// Statements maps that are read as a whole, and homes whose day rows of the subject are.
    pub(super) whole: BTreeSet<MapId>,
    /// Whether `whole` has a statements map.
    pub(super) whole_statements: bool,
}

impl Reading {
    fn is_hidden(&self, map: MapId, prefix: &[u8]) -> bool {
        let is_tally = prefix.first() == Some(&Tally::TAG);
        self.hidden.contains(&map) || is_tally && self.without.contains(&map)
    }

    /// The prefix that stands for this one in the proof.
    fn proven<'p>(&self, map: MapId, prefix: &'p [u8]) -> &'p [u8] {
        let length = match prefix.first() {
            Some(&Statement::TAG) => 1,
            // The tag and the subject, without the provider.
            Some(&DayRow::TAG) => 33,
            _ => return prefix,
        };
        if self.whole.contains(&map) { prefix.get(..length).unwrap_or(prefix) } else { prefix }
    }
}

/// Rows, and every key and prefix that was read from them.
pub(super) struct RecordedRows<'a, S> {
    rows: &'a S,
    reading: &'a Reading,
    prefixes: RefCell<BTreeMap<MapId, BTreeSet<Vec<u8>>>>,
}

impl<'a, S> RecordedRows<'a, S> {
    pub(super) fn new(rows: &'a S, reading: &'a Reading) -> Self {
        Self { rows, reading, prefixes: RefCell::default() }
    }

    /// Records a prefix. A whole key is a prefix of itself alone, because no key is a prefix of another.
    fn note(&self, map: MapId, prefix: &[u8]) {
        let (mut all, prefix) = (self.prefixes.borrow_mut(), self.reading.proven(map, prefix));
        let prefixes = all.entry(map).or_default();
        // No proof covers more, so no more are kept: `prefixes` then names the map.
        if prefixes.len() <= PREFIXES_MAX && !prefixes.contains(prefix) {
            prefixes.insert(prefix.to_vec());
        }
    }

    /// Everything that was read, without the prefixes that a shorter one covers.
    ///
    /// # Errors
    /// The map of which more was read than a proof can cover.
    pub(super) fn prefixes(self) -> Result<Prefixes, MapId> {
        let all = self.prefixes.into_inner();
        if let Some((map, _)) = all.iter().find(|(_, prefixes)| prefixes.len() > PREFIXES_MAX) {
            return Err(*map);
        }
        Ok(all.into_iter().map(|(map, prefixes)| (map, shortest(prefixes))).collect())
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
        if self.reading.is_hidden(map, key) {
            return Ok(None);
        }
        self.note(map, key);
        self.rows.get(map, key)
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        if self.reading.is_hidden(map, prefix) {
            return Ok(());
        }
        self.note(map, prefix);
        self.rows.scan(map, prefix, each)
    }

    /// Whether the map is read as a whole; if none is, whether it has such rows. Not recorded: the answer does not
    /// depend on this, so it needs no proof.
    fn is_likely(&self, map: MapId, prefix: &[u8]) -> Result<bool, S::Error> {
        if self.reading.whole_statements || self.reading.is_hidden(map, prefix) {
            return Ok(self.reading.whole.contains(&map));
        }
        let mut any = false;
        self.rows.scan(map, prefix, &mut |_, _| {
            any = true;
            ControlFlow::Break(())
        })?;
        Ok(any)
    }
}
