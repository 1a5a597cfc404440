//! An in-memory disk that fails on demand and gives RocksDB's guarantees, for deterministic simulation.
//!
//! A batch is applied whole or not at all. A crash keeps everything up to the last synced write, and the first few
//! of the writes after it. Reading a damaged value is an error.
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::{EngineError, Walk};
use super::keys::Family;

/// One change of a key; without a value it deletes the key.
#[derive(Clone)]
pub(super) struct Operation {
    pub(super) family: Family,
    pub(super) key: Box<[u8]>,
    pub(super) value: Option<Arc<[u8]>>,
}

/// The value that a write left at a key.
#[derive(Clone)]
enum Value {
    Put(Arc<[u8]>),
    Deleted,
    Damaged,
}

/// The values of one key, each with the number of its write, oldest first.
type Versions = Vec<(u64, Value)>;

#[derive(Clone, Default)]
struct Platter {
    families: [BTreeMap<Box<[u8]>, Versions>; Family::ALL.len()],
    written: u64,
    synced: u64,
    power: Power,
    lies: bool,
}

#[derive(Clone, Copy, Default)]
enum Power {
    #[default]
    On,
    /// This many more writes succeed; the power goes off during the one after them.
    Until(u64),
    Off,
}

/// A simulated disk; clones are handles to the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

fn visible(versions: &Versions, at: u64) -> Option<&Value> {
    let found = versions.iter().rev().find(|(number, _)| *number <= at).map(|(_, value)| value);
    found.filter(|value| !matches!(value, Value::Deleted))
}

fn damaged(family: Family) -> EngineError {
    format!("checksum mismatch in {}", family.name())
}

impl Disk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the current content, synced or not, like a backup.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut copy = self.platter().clone();
        (copy.synced, copy.power) = (copy.written, Power::On);
        Self(Arc::new(Mutex::new(copy)))
    }

    /// A copy of what the worst possible crash would leave now: only synced writes.
    #[must_use]
    pub fn synced(&self) -> Self {
        self.crashed(0)
    }

    /// A copy of what a crash would leave now if the first `kept` unsynced writes survived it.
    #[must_use]
    pub fn crashed(&self, kept: u64) -> Self {
        let copy = Self(Arc::new(Mutex::new(self.platter().clone())));
        copy.crash(kept);
        copy
    }

    /// Lets `writes` more writes succeed; the power goes off during the next one.
    pub fn power_off_after(&self, writes: u64) {
        self.platter().power = Power::Until(writes);
    }

    /// Cancels [`Disk::power_off_after`], or turns the power on again without losing writes.
    pub fn power_on(&self) {
        self.platter().power = Power::On;
    }

    /// How many writes a crash could undo: those after the last synced one.
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        let platter = self.platter();
        platter.written - platter.synced
    }

    /// Restarts the machine: of the unsynced writes only the first `kept` survive.
    pub fn crash(&self, kept: u64) {
        let mut platter = self.platter();
        let last = platter.written.min(platter.synced.saturating_add(kept));
        for family in &mut platter.families {
            family.retain(|_, versions| {
                versions.retain(|(number, _)| *number <= last);
                !versions.is_empty()
            });
        }
        (platter.written, platter.synced, platter.power) = (last, last, Power::On);
    }

    /// From now on the disk reports writes as synced that are not: a broken disk, to test the tests.
    pub fn lie_about_sync(&self) {
        self.platter().lies = true;
    }

    /// Damages one stored value: number `choice` modulo their count. `false` if nothing is stored.
    pub fn damage(&self, choice: u64) -> bool {
        self.change(choice, |_| Value::Damaged)
    }

    /// Flips a bit of one stored value, undetected by any checksum: a broken disk, to test the tests. `choice` and
    /// the result are those of [`Disk::damage`].
    pub fn flip_unnoticed(&self, choice: u64) -> bool {
        self.change(choice, |value| match value {
            Value::Put(bytes) => {
                let mut bytes = bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
                Value::Put(bytes.into())
            }
            other => other.clone(),
        })
    }

    fn change(&self, choice: u64, change: impl FnOnce(&Value) -> Value) -> bool {
        let mut platter = self.platter();
        let written = platter.written;
        let mut stored: Vec<&mut Versions> = platter.families.iter_mut().flat_map(BTreeMap::values_mut).collect();
        stored.retain(|versions| visible(versions, written).is_some());
        let at = choice.checked_rem(stored.len() as u64).and_then(|at| usize::try_from(at).ok());
        let Some((_, value)) = at.and_then(|at| stored.get_mut(at)?.last_mut()) else { return false };
        *value = change(value);
        true
    }

    pub(super) fn written(&self) -> u64 {
        self.platter().written
    }

    pub(super) fn write(&self, batch: Vec<Operation>, sync: bool) -> Result<(), EngineError> {
        let mut platter = self.platter();
        match platter.power {
            Power::On => {}
            Power::Off => return Err("the power is off".into()),
            Power::Until(left) => platter.power = left.checked_sub(1).map_or(Power::Off, Power::Until),
        }
        platter.written += 1;
        let number = platter.written;
        for Operation { family, key, value } in batch {
            let versions = platter.families.get_mut(family as usize).map(|rows| rows.entry(key).or_default());
            if let Some(versions) = versions {
                versions.retain(|(before, _)| *before != number);
                versions.push((number, value.map_or(Value::Deleted, Value::Put)));
            }
        }
        if matches!(platter.power, Power::Off) {
            // The caller cannot know whether the write happened: the crash decides.
            return Err("the power went off".into());
        }
        if sync && !platter.lies {
            platter.synced = number;
        }
        Ok(())
    }

    /// The stored keys that begin with `prefix`.
    pub(super) fn keys(&self, family: Family, prefix: &[u8]) -> Vec<Box<[u8]>> {
        let platter = self.platter();
        let Some(rows) = platter.families.get(family as usize) else { return Vec::new() };
        let below = rows.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let below = below.take_while(|(key, _)| key.starts_with(prefix));
        below.filter(|(_, versions)| visible(versions, platter.written).is_some()).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn get(&self, at: u64, family: Family, key: &[u8]) -> Result<Option<Arc<[u8]>>, EngineError> {
        let platter = self.platter();
        let found = platter.families.get(family as usize).and_then(|rows| rows.get(key));
        match found.and_then(|versions| visible(versions, at)) {
            Some(Value::Put(bytes)) => Ok(Some(Arc::clone(bytes))),
            Some(Value::Damaged) => Err(damaged(family)),
            Some(Value::Deleted) | None => Ok(None),
        }
    }
}

/// The position of a walk over a simulated disk.
pub(super) struct SimulatedCursor<'a> {
    disk: &'a Disk,
    at: u64,
    family: Family,
    backward: bool,
    /// The keys that the walk has not reached yet.
    range: (Bound<Box<[u8]>>, Bound<Box<[u8]>>),
    item: Option<(Box<[u8]>, Arc<[u8]>)>,
    status: Result<(), EngineError>,
}

impl<'a> SimulatedCursor<'a> {
    pub(super) fn new(disk: &'a Disk, at: u64, family: Family, walk: Walk) -> Self {
        let Walk { prefix, from, before, backward, .. } = walk;
        let ends = [after(&prefix), before].into_iter().flatten();
        let end = ends.min().map_or(Bound::Unbounded, |end| Bound::Excluded(end.into()));
        let first = Bound::Included(from.unwrap_or_default().max(prefix).into());
        let mut cursor = Self { disk, at, family, backward, range: (first, end), item: None, status: Ok(()) };
        cursor.step();
        cursor
    }

    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        self.item.as_ref().map(|(key, value)| (&key[..], &value[..]))
    }

    pub(super) fn step(&mut self) {
        let found = self.next();
        match &found {
            Some((key, _)) if self.backward => self.range.1 = Bound::Excluded(key.clone()),
            Some((key, _)) => self.range.0 = Bound::Excluded(key.clone()),
            None => {}
        }
        self.item = match found {
            Some((key, Value::Put(bytes))) => Some((key, bytes)),
            Some(_) => {
                self.status = Err(damaged(self.family));
                None
            }
            None => None,
        };
    }

    fn next(&self) -> Option<(Box<[u8]>, Value)> {
        let platter = self.disk.platter();
        let range = (self.range.0.as_ref().map(|key| &**key), self.range.1.as_ref().map(|key| &**key));
        if is_empty(range) {
            return None;
        }
        let rows = platter.families.get(self.family as usize)?.range::<[u8], _>(range);
        let mut seen = rows.filter_map(|(key, versions)| Some((key.clone(), visible(versions, self.at)?.clone())));
        if self.backward { seen.next_back() } else { seen.next() }
    }

    pub(super) fn status(&self) -> Result<(), EngineError> {
        self.status.clone()
    }
}

/// Whether no key can be in the range.
fn is_empty(range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match range {
        (Bound::Excluded(first), Bound::Excluded(end)) => first >= end,
        (Bound::Included(first), Bound::Excluded(end)) => first >= end,
        _ => false,
    }
}

/// The first key after all keys that begin with `prefix`; `None` if no key can follow them.
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}
