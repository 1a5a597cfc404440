//! Batches: a log grows by one batch at a time; each ends with a state entry, the root of the log's state.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::codec;
use crate::entry::{VerifiedBody, VerifiedEntry, VerifiedEvent};
use crate::event::Action;
use crate::fold::{Effect, EntryPosition, Fold, Outcome, Void};
use crate::id::{Domain, ManifestHash, StateRoot};
use crate::limits;
use crate::manifest::{LogId, Manifest, Policy};
use crate::map::{NodeError, StateMap};
use crate::rows::{self, Changes, LogRow, MapId, MapName, MapNodes, NodeChanges, RowError, Rows, StoredRows};
use crate::time::Millis;

#[cfg(test)]
mod tests;

/// The state maps that one log carries. They must be updated with every change of the log's rows.
#[derive(Clone, Debug, Default)]
pub struct LogMaps {
    maps: BTreeMap<String, (MapId, StateMap)>,
}

impl LogMaps {
    /// The sorted names of the maps that `log` carries under `manifest`, a version that the log adopted.
    #[must_use]
    pub fn names(manifest: &Manifest, log: &LogId) -> Vec<MapName> {
        let mut names: Vec<_> = manifest.homes_of(log).map(MapName::home).collect();
        names.extend(manifest.records_of(log).flat_map(|name| [MapName::statements(name), MapName::claims(name)]));
        names.push(MapName::log(log));
        names.sort();
        names
    }

    /// The maps of the version that the log adopted last or will adopt first. A map whose nodes have records next to the
    /// rows is not read; any other is built in memory by one scan of its rows.
    ///
    /// # Errors
    /// [`RowError`]: the storage failed or is broken, or `manifest` does not know that version.
    pub fn load<S: StoredRows>(manifest: &Manifest, log: &LogId, rows: &S) -> Result<Self, RowError<S::Error>> {
        let row = rows::read::<LogRow, S>(rows, MapName::log(log).id(), &())?;
        let mut maps = Self { maps: BTreeMap::new() };
        maps.carry(under(manifest, log, row)?, log, rows)?;
        Ok(maps)
    }

    /// Adds the maps that `log` carries under `manifest` and that are not here yet.
    fn carry<S: StoredRows>(&mut self, manifest: &Manifest, log: &LogId, rows: &S) -> Result<(), RowError<S::Error>> {
        for name in Self::names(manifest, log) {
            if self.maps.contains_key(name.as_str()) {
                continue;
            }
            let map = match StateMap::open(&MapNodes(name.id(), rows))? {
                Some(map) => map,
                None => build(name.id(), rows)?,
            };
            self.maps.insert(name.as_str().to_string(), (name.id(), map));
        }
        Ok(())
    }

    /// The root over all maps, as a state entry has it.
    #[must_use]
    pub fn state_root(&self) -> StateRoot {
        state_root(self.iter().map(|(name, _, map)| (name, map.root())))
    }

    /// Each map with its name in the state root and its id in storage, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, MapId, &StateMap)> {
        self.maps.iter().map(|(name, (id, map))| (name.as_str(), *id, map))
    }

    /// The map with this id, if the log carries it.
    #[must_use]
    pub fn get(&self, map: MapId) -> Option<&StateMap> {
        self.iter().find(|(_, id, _)| *id == map).map(|(_, _, map)| map)
    }

    /// Applies changed rows. Returns the changed records of the maps' nodes, by the id that they are stored under.
    ///
    /// # Errors
    /// [`RowError::Storage`], [`RowError::Torn`]: then the maps are of no use.
    ///
    /// # Panics
    /// If a row's key is empty or too long: [`rows`] makes no such key.
    pub fn update<S: StoredRows>(&mut self, changes: &Changes, rows: &S) -> Result<NodeChanges, RowError<S::Error>> {
        let mut nodes = NodeChanges::new();
        for (id, map) in self.maps.values_mut() {
            let range = changes.range((*id, Vec::new())..).take_while(|((map, _), _)| map == id);
            let hashed: Vec<_> = range
                .map(|((_, key), value)| (key.as_slice(), value.as_ref().map(|value| crate::map::value_hash(value))))
                .collect();
            let records = map.update(&hashed, &MapNodes(*id, rows));
            if let Err(NodeError::Map(error)) = &records {
                panic!("row keys are sorted, prefix-free and of bounded length: {error}");
            }
            nodes.extend(records?.into_iter().map(|((level, key), record)| ((id.level(level), key), record)));
        }
        Ok(nodes)
    }

    /// Forgets nodes, so that about `max` stay in memory; call it when all changed records are stored.
    pub fn trim(&mut self, max: usize) {
        let loaded = self.maps.values().map(|(_, map)| map.loaded()).fold(0, usize::saturating_add);
        if loaded <= max {
            return;
        }
        // Each map keeps its part.
        for (_, map) in self.maps.values_mut() {
            let part = map.loaded().saturating_mul(max).checked_div(loaded).unwrap_or(0);
            map.trim(part);
        }
    }
}

/// Builds a map in memory by one scan of its rows.
fn build<S: Rows>(map: MapId, rows: &S) -> Result<StateMap, RowError<S::Error>> {
    let mut leaves = Vec::new();
    rows.scan(map, &[], &mut |key, value| {
        leaves.push((key.to_vec(), crate::map::value_hash(value)));
        core::ops::ControlFlow::Continue(())
    })
    .map_err(RowError::Storage)?;
    StateMap::from_sorted(leaves).map_err(|_| RowError::Broken(codec::CodecError::Malformed))
}

/// BLAKE3 of the strict encoding of the list of (name, root), which the caller sorts by name.
#[must_use]
pub fn state_root<'a>(maps: impl Iterator<Item = (&'a str, StateRoot)>) -> StateRoot {
    let list: Vec<(String, StateRoot)> = maps.map(|(name, root)| (name.to_string(), root)).collect();
    StateRoot(*blake3::hash(&codec::encode(&list)).as_bytes())
}

/// The version that governs a log with this row: the one adopted last or, without a row, the one to adopt first.
fn under<'a, E>(manifest: &'a Manifest, log: &LogId, row: Option<LogRow>) -> Result<&'a Manifest, RowError<E>> {
    let version = row.map(|row| row.version).or_else(|| manifest.log(log).map(|known| known.since));
    version.and_then(|version| manifest.at(version)).ok_or(RowError::Broken(codec::CodecError::Malformed))
}

/// Why no valid log can contain a batch. The fault of the log's owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No state entry at the end, a state entry before the end, a state entry alone, or too many entries.
    #[error("a batch is 1 to 4096 entries and then a state entry")]
    Shape,
    /// An entry is earlier than the previous one, or a state entry's time differs from it.
    #[error("entry {index}: its time {time} does not follow {before}")]
    Time {
        /// The index of the entry.
        index: u64,
        /// The time of the entry.
        time: Millis,
        /// The time of the previous entry.
        before: Millis,
    },
    /// An adoption is missing, is not of the next version, or is not alone in its batch.
    #[error(
        "entry {index}: a log adopts its first version before any event, then later ones in order, alone in their batch"
    )]
    Adopt {
        /// The index of the entry.
        index: u64,
    },
    /// The log begins before its manifest lets it, or takes maps over from a log whose last entry is later.
    #[error("entry {index}: its time {time} is before {from}, when this log may adopt that version")]
    Early {
        /// The index of the entry.
        index: u64,
        /// The time of the entry.
        time: Millis,
        /// The earliest time that it may have.
        from: Millis,
    },
    /// An event of a kind that the protocol of the adopted version does not have yet.
    #[error("entry {index}: a kind of event of protocol {protocol}, but the log adopted one of protocol {adopted}")]
    Kind {
        /// The index of the entry.
        index: u64,
        /// The protocol that brought the kind.
        protocol: u32,
        /// The protocol of the version that the log has adopted.
        adopted: u32,
    },
    /// The entry exceeds the day's bytes.
    #[error("entry {index}: more than {max} bytes on one day")]
    Bytes {
        /// The index of the entry.
        index: u64,
        /// The policy's `daily_bytes`.
        max: u64,
    },
    /// The state entry's root is not the one that the entries lead to.
    #[error("state root {given}, but the entries make {computed}")]
    StateRoot {
        /// The root in the log.
        given: StateRoot,
        /// The recomputed root.
        computed: StateRoot,
    },
}

impl BatchError {
    /// The stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Shape => "batch_shape",
            Self::Time { .. } => "time_back",
            Self::Adopt { .. } => "adopt",
            Self::Early { .. } => "too_early",
            Self::Kind { .. } => "later_kind",
            Self::Bytes { .. } => "daily_bytes",
            Self::StateRoot { .. } => "state_root",
        }
    }
}

/// Why a batch could not be folded, by whose fault it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError<E> {
    /// The fault of the log's owner: no valid log contains this batch.
    #[error("{0}")]
    Invalid(#[from] BatchError),
    /// Nobody's fault: the log adopts a version that this node does not hold yet.
    #[error("the log adopts version {0}, which is not held yet")]
    Unheld(u32),
    /// The fault of our storage.
    #[error("{0}")]
    Rows(#[from] RowError<E>),
}

/// A version's assignment of homes, or of operators' statements and claims, to logs.
type Assigned = fn(&Manifest) -> &BTreeMap<Domain, LogId>;

/// Builds or replays one batch: takes entries, returns the changed rows.
pub struct Batch<'a, S> {
    manifest: &'a Manifest,
    /// The version that the entries are folded under.
    under: &'a Manifest,
    id: &'a LogId,
    rows: &'a S,
    map: MapId,
    fold: Fold<'a, S>,
    log: Option<LogRow>,
    size: u64,
    entries: u64,
    /// The version that the batch adopts.
    adopting: Option<&'a Manifest>,
}

/// The result of a finished batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The changed rows of all maps of the log.
    pub changes: Changes,
    /// Rows as they were before, as far as they were read: most of the changed ones, and some others.
    pub read: Changes,
    /// The changed records of the maps' nodes, by the id that they are stored under: see [`MapId::level`].
    pub nodes: NodeChanges,
    /// The state root after these changes.
    pub state_root: StateRoot,
    /// The time of the last entry, and so of the state entry.
    pub time: Millis,
}

impl<'a, S: Rows> Batch<'a, S> {
    /// Begins a batch after `size` entries; `rows` are the rows after these entries.
    ///
    /// # Errors
    /// [`RowError`]: the storage failed or is broken, or `manifest` does not know the log's version.
    pub fn begin(manifest: &'a Manifest, log: &'a LogId, rows: &'a S, size: u64) -> Result<Self, RowError<S::Error>> {
        let map = MapName::log(log).id();
        let row = rows::read::<LogRow, S>(rows, map, &())?;
        let under = under(manifest, log, row)?;
        let (fold, entries, adopting) = (Fold::new(under, log, rows), 0, None);
        Ok(Self { manifest, under, id: log, rows, map, fold, log: row, size, entries, adopting })
    }

    /// The version that the log adopts next, if the manifest has it and still lists the log there.
    #[must_use]
    pub fn next_version(&self) -> Option<&'a Manifest> {
        let next = match self.log {
            Some(row) => self.manifest.at(row.version.checked_add(1)?)?,
            None => self.under,
        };
        Some(next).filter(|next| next.operator(&self.id.operator).is_some_and(|owner| owner.log() == *self.id))
    }

    /// The time of an entry that is added at `now`: never before the previous entry's time.
    #[must_use]
    pub fn entry_time(&self, now: Millis) -> Millis {
        self.log.map_or(now, |log| log.time.max(now))
    }

    /// How many bytes are counted for the UTC day of `time` so far.
    #[must_use]
    pub fn bytes_on(&self, time: Millis) -> u64 {
        self.log.filter(|log| log.day == time.day()).map_or(0, |log| log.bytes)
    }

    /// The policy of the version that the entries are folded under.
    #[must_use]
    pub const fn policy(&self) -> &'a Policy {
        self.under.policy()
    }

    /// How many entries the batch has so far, without the state entry.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.entries
    }

    /// Whether the batch has no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Whether the protocol of the version that the log has adopted has this kind of event.
    #[must_use]
    pub const fn takes(&self, action: &Action) -> bool {
        action.protocol() <= self.under.protocol()
    }

    /// The earliest time at which the log may adopt `next`, the version that comes next: when the manifest lets it
    /// begin, and not before the last entry of any log whose maps it takes over with this version.
    ///
    /// # Errors
    /// [`RowError`]: the storage failed or is broken.
    pub fn adopts_from(&self, next: &Manifest) -> Result<Millis, RowError<S::Error>> {
        let (mut from, mut before) = (next.log(self.id).map_or(Millis(0), |known| known.begins), None);
        if self.log.is_some() {
            (from, before) = (Millis(0), Some(self.under));
        }
        let parts: [Assigned; 2] = [Manifest::homes, Manifest::records];
        for assigned in parts {
            let carried = |name| before.is_some_and(|before| assigned(before).get(name) == Some(self.id));
            let taken = assigned(next).iter().filter(|(name, log)| *log == self.id && !carried(*name));
            for (name, _) in taken {
                from = from.max(self.last_carried(next, name, assigned)?);
            }
        }
        Ok(from)
    }

    /// The time of the last entry of the log that a map passes on from; 0 if no log carried the map yet.
    fn last_carried(&self, next: &Manifest, name: &Domain, assigned: Assigned) -> Result<Millis, RowError<S::Error>> {
        let mut last = Some(self.id);
        for version in next.versions() {
            let Some(log) = assigned(version).get(name).filter(|log| last != Some(*log)) else { continue };
            last = Some(log);
            let Some(row) = rows::read::<LogRow, S>(self.rows, MapName::log(log).id(), &())? else { continue };
            // A log that was to carry the map, and was cut before it adopted that version, never had it.
            if next.at(row.version).and_then(|adopted| assigned(adopted).get(name)) == Some(log) {
                return Ok(row.time);
            }
        }
        Ok(Millis(0))
    }

    /// Whether an event of this kind is valid under the version that the log has adopted.
    fn check_kind(&self, event: &VerifiedEvent) -> Result<(), BatchError> {
        let action = &event.event().action;
        let (index, protocol, adopted) = (self.index(), action.protocol(), self.under.protocol());
        if self.takes(action) { Ok(()) } else { Err(BatchError::Kind { index, protocol, adopted }) }
    }

    const fn index(&self) -> u64 {
        self.size.saturating_add(self.entries)
    }

    /// Adds `event` to the batch if it applies; returns its entry and effect, or why it is void and was not added.
    ///
    /// # Errors
    /// [`ReplayError`]; the batch is unchanged. [`BatchError`] if the batch or the day is full, if the log has not
    /// adopted a version yet, if this batch adopts one, or if the adopted version's protocol lacks the kind.
    pub fn admit(
        &mut self,
        event: VerifiedEvent,
        now: Millis,
    ) -> Result<Result<(VerifiedEntry, Effect), Void>, ReplayError<S::Error>> {
        let index = self.index();
        if self.log.is_none() || self.adopting.is_some() {
            return Err(BatchError::Adopt { index }.into());
        }
        self.check_kind(&event)?;
        let time = self.entry_time(now);
        let entry = VerifiedEntry::of(time, event);
        // Checked before the fold, which cannot undo what it has applied.
        let row = self.counted(&entry)?;
        let VerifiedBody::Event(event) = &entry.body else { unreachable!("made of an event") };
        match self.fold.apply(event, EntryPosition { time, index })? {
            Ok(effect) => {
                self.take(row);
                Ok(Ok((entry, effect)))
            }
            Err(void) => Ok(Err(void)),
        }
    }

    /// Adds the adoption of the next version, no earlier than [`Batch::adopts_from`]. An empty log begins with one.
    ///
    /// # Errors
    /// [`BatchError::Adopt`] if `version` is not the next one or the batch is not empty; [`ReplayError::Unheld`].
    pub fn adopt(
        &mut self,
        version: u32,
        manifest: ManifestHash,
        now: Millis,
    ) -> Result<VerifiedEntry, ReplayError<S::Error>> {
        self.take_adopt(version, manifest)?;
        let from = self.adopting.map_or(Ok(Millis(0)), |next| self.adopts_from(next))?;
        let entry = VerifiedEntry::adopt(self.entry_time(now).max(from), version, manifest);
        let row = self.counted(&entry)?;
        self.take(row);
        Ok(entry)
    }

    /// Adds an entry as the log has it, applied or void, and returns its outcome; adoptions have none.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn replay(&mut self, entry: &VerifiedEntry) -> Result<Option<Outcome>, ReplayError<S::Error>> {
        self.check_time(entry.time, false)?;
        let index = self.index();
        let outcome = match &entry.body {
            VerifiedBody::State { .. } => return Err(BatchError::Shape.into()),
            VerifiedBody::Adopt { version, manifest } => {
                self.take_adopt(*version, *manifest)?;
                let from = self.adopting.map_or(Ok(Millis(0)), |next| self.adopts_from(next))?;
                if entry.time < from {
                    return Err(BatchError::Early { index, time: entry.time, from }.into());
                }
                None
            }
            VerifiedBody::Event(_) if self.log.is_none() || self.adopting.is_some() => {
                return Err(BatchError::Adopt { index }.into());
            }
            VerifiedBody::Event(event) => {
                self.check_kind(event)?;
                Some(self.fold.apply(event, EntryPosition { time: entry.time, index })?)
            }
        };
        let row = self.counted(entry)?;
        self.take(row);
        Ok(outcome)
    }

    fn take_adopt(&mut self, version: u32, hash: ManifestHash) -> Result<(), ReplayError<S::Error>> {
        let refused = BatchError::Adopt { index: self.index() };
        let wanted = self.log.map_or(self.under.version(), |row| row.version.saturating_add(1));
        if version != wanted || self.entries > 0 {
            return Err(refused.into());
        }
        if version > self.manifest.version() {
            return Err(ReplayError::Unheld(version));
        }
        let next = self.next_version().filter(|next| next.hash() == hash).ok_or(refused)?;
        self.adopting = Some(next);
        Ok(())
    }

    fn check_time(&self, time: Millis, state: bool) -> Result<(), BatchError> {
        match self.log {
            Some(log) if time < log.time || (state && time != log.time) => {
                Err(BatchError::Time { index: self.index(), time, before: log.time })
            }
            _ => Ok(()),
        }
    }

    /// The log's row after `entry`, with the entry's bytes counted. Refused if the batch or the day is full.
    fn counted(&self, entry: &VerifiedEntry) -> Result<LogRow, BatchError> {
        let limit = limits::BATCH_ENTRIES_MAX.try_into().unwrap_or(u64::MAX);
        if self.entries >= limit {
            return Err(BatchError::Shape);
        }
        let note = entry.event().and_then(|event| event.event().action.note());
        let weight = u64::try_from(entry.bytes().len()).unwrap_or(u64::MAX);
        let weight = weight.saturating_add(note.map_or(0, |_| limits::NOTE_QUOTA_BYTES));
        let (day, max) = (entry.time.day(), self.under.policy().daily_bytes);
        let bytes = self.bytes_on(entry.time).saturating_add(weight);
        if bytes > max {
            return Err(BatchError::Bytes { index: self.index(), max });
        }
        let version = match entry.body {
            VerifiedBody::Adopt { version, .. } => version,
            _ => self.log.map_or(0, |log| log.version),
        };
        Ok(LogRow { version, time: entry.time, day, bytes })
    }

    /// Counts an entry and keeps the row after it.
    const fn take(&mut self, row: LogRow) {
        self.log = Some(row);
        self.entries = self.entries.saturating_add(1);
    }

    /// Ends the batch: applies its changes to `maps`, adds the maps that an adoption passes to this log, and returns
    /// the root for the state entry.
    ///
    /// The rows of maps passed to this log must be those at the point where the former log was cut.
    ///
    /// # Errors
    /// [`BatchError::Shape`] if the batch has no entry; [`RowError`].
    pub fn finish(mut self, maps: &mut LogMaps) -> Result<Folded, ReplayError<S::Error>>
    where
        S: StoredRows,
    {
        let Some(row) = self.log.filter(|_| self.entries > 0) else { return Err(BatchError::Shape.into()) };
        if let Some(adopted) = self.adopting {
            maps.carry(adopted, self.id, self.rows)?;
        }
        self.fold.rows().put(self.map, &(), &row);
        let rows = self.rows;
        let (changes, read) = self.fold.into_changes();
        let nodes = maps.update(&changes, rows)?;
        Ok(Folded { changes, read, nodes, state_root: maps.state_root(), time: row.time })
    }
}

/// The result of a replayed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The changed rows, root and time of the batch.
    pub folded: Folded,
    /// The outcome of each entry except the state entry, in order; adoptions have none.
    pub outcomes: Vec<Option<Outcome>>,
}

/// Replays one whole batch and compares its state root. If the batch is invalid, `maps` is as before.
///
/// # Errors
/// [`ReplayError::Invalid`]: the log is invalid from here on. [`ReplayError::Unheld`]: try again once this node
/// holds that version. [`ReplayError::Rows`]: our storage failed.
pub fn replay<S: StoredRows>(
    manifest: &Manifest,
    log: &LogId,
    rows: &S,
    maps: &mut LogMaps,
    size: u64,
    entries: &[VerifiedEntry],
) -> Result<Replayed, ReplayError<S::Error>> {
    let Some((last, body)) = entries.split_last() else { return Err(BatchError::Shape.into()) };
    let VerifiedBody::State { root: given } = last.body else { return Err(BatchError::Shape.into()) };
    let carried: BTreeSet<String> = maps.maps.keys().cloned().collect();
    let mut batch = Batch::begin(manifest, log, rows, size)?;
    let outcomes = body.iter().map(|entry| batch.replay(entry)).collect::<Result<Vec<_>, _>>()?;
    batch.check_time(last.time, true)?;
    let folded = batch.finish(maps)?;
    if folded.state_root != given {
        undo(maps, rows, &folded.changes)?;
        maps.maps.retain(|name, _| carried.contains(name));
        return Err(BatchError::StateRoot { given, computed: folded.state_root }.into());
    }
    Ok(Replayed { folded, outcomes })
}

/// Restores `maps` from the old values of the changed rows: a map depends only on its rows.
fn undo<S: StoredRows>(maps: &mut LogMaps, rows: &S, changes: &Changes) -> Result<(), RowError<S::Error>> {
    let mut former = Changes::new();
    for (map, key) in changes.keys() {
        let value = rows.get(*map, key).map_err(RowError::Storage)?;
        former.insert((*map, key.clone()), value);
    }
    maps.update(&former, rows)?;
    Ok(())
}
