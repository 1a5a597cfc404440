//! Which subjects changed when, in memory: what was read about one in an earlier view is still right if nothing about it was
//! written since.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fama_ledger::id::IdentityId;

use super::keys::{self, Family, META_CHANGES};
use super::{Touch, View};

/// Subjects share them by the first two bytes of their ids: a change of one then counts as a change of all of a slot, which
/// only costs reads. Half a megabyte.
const SLOTS: usize = 1 << 16;
/// Instead of a write's number, while it is on its way: a view may show it before its number is known.
const ON_ITS_WAY: u64 = u64::MAX;

/// The number of the newest write that changed something about the subjects of a slot.
pub(super) struct ChangedSubjects {
    slots: Box<[AtomicU64]>,
    /// Of the newest write that changed what profiles of many subjects are made of.
    all: AtomicU64,
    /// Held by a write that changes subjects. Others need no order.
    writing: Mutex<()>,
}

/// What a write changes, as far as [`View::is_unchanged_since`] tells.
#[derive(Default)]
pub(super) struct Marks {
    slots: Vec<usize>,
    all: bool,
}

impl Marks {
    /// Notes a key that is written or deleted.
    pub(super) fn key(&mut self, family: Family, key: &[u8]) {
        match family {
            Family::Touched => {
                if let Some(id) = key.strip_prefix(keys::all_touched(Touch::Subject).as_slice()) {
                    self.slots.extend(slot(id));
                }
            }
            Family::Meta => self.all |= key == META_CHANGES,
            _ => {}
        }
    }

    /// Notes that all keys with a prefix are deleted.
    pub(super) fn prefix(&mut self, family: Family) {
        self.all |= matches!(family, Family::Touched | Family::Meta);
    }
}

/// The slot of an id that begins so.
fn slot(id: &[u8]) -> Option<usize> {
    id.first_chunk::<2>().map(|first| usize::from(u16::from_be_bytes(*first)))
}

impl Default for ChangedSubjects {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { slots, all: AtomicU64::new(0), writing: Mutex::new(()) }
    }
}

impl ChangedSubjects {
    /// Makes a write; `number` is that of the newest write, this one or one after it.
    pub(super) fn mark<E>(
        &self,
        marks: &Marks,
        write: impl FnOnce() -> Result<(), E>,
        number: impl FnOnce() -> u64,
    ) -> Result<(), E> {
        if !marks.all && marks.slots.is_empty() {
            return write();
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |number: u64| {
            let slots = marks.slots.iter().filter_map(|slot| self.slots.get(*slot));
            slots.chain(marks.all.then_some(&self.all)).for_each(|last| last.store(number, Ordering::SeqCst));
        };
        // Before the write can be seen. If it fails, nothing of it is believed to be unchanged again: the node stops.
        set(ON_ITS_WAY);
        write()?;
        set(number());
        Ok(())
    }
}

impl View<'_> {
    /// Whether nothing about this subject, and nothing that profiles of many subjects are made of, differs between this view
    /// and an earlier or later one that shows the writes up to `number`. `false` may also mean that this is not known.
    #[must_use]
    pub fn is_unchanged_since(&self, subject: &IdentityId, number: u64) -> bool {
        // Both views have all writes up to here, so this one was opened before the slot is read.
        let Some(common) = self.write_number().map(|own| own.min(number)) else { return false };
        let changed = &self.store().changed;
        let slot = slot(&subject.0).and_then(|slot| changed.slots.get(slot));
        slot.is_some_and(|last| last.load(Ordering::SeqCst) <= common) && changed.all.load(Ordering::SeqCst) <= common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_on_its_way_counts_as_a_change() {
        let (changed, id) = (ChangedSubjects::default(), fama_ledger::id::EventId([7; 32]));
        let mut marks = Marks::default();
        marks.key(Family::Touched, &[keys::all_touched(Touch::Subject).as_slice(), &id.0].concat());
        marks.key(Family::Touched, &[keys::all_touched(Touch::Sponsorship).as_slice(), &[9; 32]].concat());
        let last = |slot: usize| changed.slots[slot].load(Ordering::SeqCst);
        let write = || {
            assert_eq!(last(0x0707), ON_ITS_WAY);
            Ok::<_, ()>(())
        };
        changed.mark(&marks, write, || 41).unwrap();
        assert_eq!((last(0x0707), last(0x0909), changed.all.load(Ordering::SeqCst)), (41, 0, 0));
        // Whether a failed write is on disk is unknown.
        assert!(changed.mark(&marks, || Err(()), || 42).is_err());
        assert_eq!(last(0x0707), ON_ITS_WAY);
    }
}
