//! Compares the entries and the derived data of two stores.
use super::engine::{Cursor, Walk};
use super::keys::{self, Family};
use super::{Store, StoreError, View};

/// At most this many differences are reported for a family.
const REPORTED_MAX: usize = 5;

/// The entries, and the families derived from them.
const COMPARED: [Family; 9] = [
    Family::Entries,
    Family::Logs,
    Family::Tiles,
    Family::Rows,
    Family::Events,
    Family::History,
    Family::Touched,
    Family::Given,
    Family::Search,
];

impl Store {
    /// What differs in this store from `other`, the correct one, but for the scores: at most five lines of text for each family.
    ///
    /// # Errors
    /// [`StoreError`] of `other`. What cannot be read in this store counts as a difference.
    pub fn differences(&self, other: &Self) -> Result<Vec<String>, StoreError> {
        self.differences_in(other, &COMPARED)
    }

    /// Like [`Store::differences`], of the scores alone. Those of both stores must be settled: see
    /// [`crate::scores::settle`].
    ///
    /// # Errors
    /// Those of [`Store::differences`].
    pub fn score_differences(&self, other: &Self) -> Result<Vec<String>, StoreError> {
        self.differences_in(other, &[Family::Scores])
    }

    fn differences_in(&self, other: &Self, families: &[Family]) -> Result<Vec<String>, StoreError> {
        let (mut found, mine_now, theirs_now) = (Vec::new(), self.view(), other.view());
        for family in families.iter().copied() {
            let before = found.len();
            let (mut mine, mut theirs) = (walk(&mine_now, family), walk(&theirs_now, family));
            while found.len() < before + REPORTED_MAX {
                let (a, b) = (mine.item(), theirs.item());
                let Some(order) = compare(a, b) else { break };
                match order {
                    std::cmp::Ordering::Equal if a == b => {}
                    std::cmp::Ordering::Equal => {
                        found.push(format!("{}: {} has a different value", family.name(), shown(a)));
                    }
                    std::cmp::Ordering::Less => {
                        found.push(format!("{}: {} should not exist", family.name(), shown(a)));
                    }
                    std::cmp::Ordering::Greater => found.push(format!("{}: {} is missing", family.name(), shown(b))),
                }
                if order.is_le() {
                    mine.step();
                }
                if order.is_ge() {
                    theirs.step();
                }
            }
            if let Err(error) = mine.status() {
                found.push(format!("{}: unreadable: {error}", family.name()));
            }
            theirs.status().map_err(|error| other.database(&error))?;
        }
        Ok(found)
    }
}

fn walk<'v>(view: &'v View<'_>, family: Family) -> Cursor<'v> {
    // How far the scores are, and whose turn was last, follows from no entry.
    let from = (family == Family::Scores).then(keys::scores);
    view.moment().walk(family, Walk { from, once: true, ..Walk::default() })
}

type ComparedRow<'a> = Option<(&'a [u8], &'a [u8])>;

/// Compares two cursors by key; the end comes after every key. `None` at the end of both.
fn compare(a: ComparedRow<'_>, b: ComparedRow<'_>) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (None, None) => None,
        (Some(_), None) => Some(std::cmp::Ordering::Less),
        (None, Some(_)) => Some(std::cmp::Ordering::Greater),
        (Some((a, _)), Some((b, _))) => Some(a.cmp(b)),
    }
}

fn shown(item: ComparedRow<'_>) -> String {
    item.map_or_else(String::new, |(key, _)| fama_ledger::id::Hex(key).to_string())
}
