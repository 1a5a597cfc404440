//! Reads of the database, all at one moment.
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use bincode::Decode;
use fama_ledger::adoption::{self, Adoption};
use fama_ledger::codec;
use fama_ledger::fold::Void;
use fama_ledger::id::{EventId, IdentityId, NoteHash};
use fama_ledger::join::LogState;
use fama_ledger::lateness::{LATENESS_BYTES_MAX, Lateness};
use fama_ledger::limits::{self, NOTE_BYTES_MAX};
use fama_ledger::log::{Hash, LogError, TILE_WIDTH, Tiles, prove_inclusion};
use fama_ledger::manifest::LogId;
use fama_ledger::map::{LoadedNode, MissingNode, NodeError, NodeSource};
use fama_ledger::rows::{MapId, Rows, StoredRows};
use fama_ledger::signed_note::SIGNATURES_MAX;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::engine::{Cursor, EngineView, StoredValue, Walk};
use super::keys::{self, Family, Log8, log8};
use super::{
    ChangeCounts, DayUsage, History, HistoryItem, LogRecord, Position, Rollback, SearchedBy, Store, StoreError,
    StoredCertificate, Touch,
};
use crate::wire::{CosignedHead, NoteAnswer, SignedHead};

/// Longest value of `logs`, `events`, `touched` and `heads`, in bytes: heads with two signatures and a domain.
pub(super) const RECORD_BYTES_MAX: usize = 1_024;
/// Longest certificate, in bytes: the most cosignatures that a note may have, each with two domains.
const CERTIFICATE_BYTES_MAX: usize = SIGNATURES_MAX * 640;
/// Longest record of a day's usage: two numbers for each operator of the day, also of versions that followed one another
/// within it.
const DAY_USAGE_BYTES_MAX: usize = 64 + 128 * limits::OPERATORS_MAX * (limits::DOMAIN_BYTES_MAX + 16);
/// Longest list of adopted versions, in bytes.
pub(super) const ADOPTED_BYTES_MAX: usize = 16 * limits::VERSIONS_MAX;
/// Longest value of `notes`, in bytes: a note, its variant and its length.
pub(super) const NOTE_VALUE_BYTES_MAX: usize = NOTE_BYTES_MAX + 16;

/// Up to so many logs are asked one by one for what they have under a key: filters answer for most that have nothing. A walk
/// over the logs that have something reads a block of every level.
const LOGS_ASKED_MAX: usize = 16;

/// A history ends after this many items of logs that are being rolled back.
const HIDDEN_MAX: usize = 1_024;

/// A snapshot of the database.
pub struct View<'a> {
    store: &'a Store,
    moment: EngineView<'a>,
    /// Read once, where a log goes back.
    pub(super) rollbacks: OnceLock<Vec<Rollback>>,
}

/// Called with each key and value of a walk, until it breaks.
type OnKey<'e> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'e;

impl<'a> View<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, moment: store.engine.moment(), rollbacks: OnceLock::new() }
    }

    /// The store that this view reads.
    #[must_use]
    pub const fn store(&self) -> &'a Store {
        self.store
    }

    pub(super) const fn moment(&self) -> &EngineView<'a> {
        &self.moment
    }

    fn get_raw(&self, family: Family, key: &[u8]) -> Result<Option<StoredValue<'_>>, StoreError> {
        self.moment.get(family, key).map_err(|error| self.store.database(&error))
    }

    /// Whether the family has `key`.
    pub(super) fn has(&self, family: Family, key: &[u8]) -> Result<bool, StoreError> {
        self.get_raw(family, key).map(|found| found.is_some())
    }

    /// The decoded value at `key`.
    pub(super) fn value<T: Decode<()>>(&self, family: Family, key: &[u8], max: usize) -> Result<Option<T>, StoreError> {
        self.get_raw(family, key)?.map(|bytes| self.decode(family, &bytes, max)).transpose()
    }

    pub(super) fn decode<T: Decode<()>>(&self, family: Family, bytes: &[u8], max: usize) -> Result<T, StoreError> {
        codec::decode_written(bytes, max).map_err(|error| self.broken(family, &error))
    }

    pub(super) fn broken(&self, family: Family, what: &impl std::fmt::Display) -> StoreError {
        self.store.database(&format!("a stored value of {} is broken: {what}", family.name()))
    }

    pub(super) fn walk(&self, family: Family, walk: Walk, each: &mut OnKey<'_>) -> Result<(), StoreError> {
        self.walk_on(&mut self.moment.walk(family, walk), each)
    }

    /// Walks from where the cursor is.
    fn walk_on(&self, cursor: &mut Cursor<'_>, each: &mut OnKey<'_>) -> Result<(), StoreError> {
        while let Some((key, value)) = cursor.item() {
            if self.store.interrupted.load(Ordering::Relaxed) {
                return Err(StoreError::Interrupted);
            }
            if each(key, value)?.is_break() {
                return Ok(());
            }
            cursor.step();
        }
        // A cursor also ends, without an error of its own, at something it cannot read.
        cursor.status().map_err(|error| self.store.database(&error))
    }

    /// Whether the family has any key at all.
    pub(super) fn any(&self, family: Family) -> Result<bool, StoreError> {
        let mut any = false;
        self.walk(family, Walk::of([]), &mut |_, _| {
            any = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(any)
    }

    /// Calls `each` with every log that has a value at `prefix` followed by the log, and that value.
    fn of_logs(
        &self,
        family: Family,
        prefix: &[u8],
        each: &mut dyn FnMut(LogId, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.store.logs.len() > LOGS_ASKED_MAX {
            return self.walk(family, Walk::of(prefix), &mut |key, value| {
                each(self.log_of(family, key)?, value)?;
                Ok(ControlFlow::Continue(()))
            });
        }
        for (short, log) in &self.store.logs {
            if let Some(value) = self.get_raw(family, &[prefix, short].concat())? {
                each(log.clone(), &value)?;
            }
        }
        Ok(())
    }

    fn log_of(&self, family: Family, key: &[u8]) -> Result<LogId, StoreError> {
        let log = key.last_chunk::<{ size_of::<Log8>() }>().and_then(|log| self.store.logs.get(log));
        log.cloned().ok_or_else(|| self.broken(family, &"a log that is not in the manifest"))
    }

    /// The number of the last write that this view shows; `None` on a simulated disk. Two views with one number are equal.
    #[must_use]
    pub fn write_number(&self) -> Option<u64> {
        self.moment.write_number()
    }

    /// How often statements and notes changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn change_counts(&self) -> Result<ChangeCounts, StoreError> {
        Ok(self.value(Family::Meta, keys::META_CHANGES, RECORD_BYTES_MAX)?.unwrap_or_default())
    }

    /// Index and bytes of the last entry on disk; while the log goes back, its record does not count it.
    pub(crate) fn last_entry(&self, log: &LogId) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let mut last = None;
        self.walk(Family::Entries, Walk { backward: true, ..Walk::of(log8(log)) }, &mut |key, entry| {
            last = Some((self.entry_index(key)?, entry.to_vec()));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(last)
    }

    fn entry_index(&self, key: &[u8]) -> Result<u64, StoreError> {
        let index = key.last_chunk().copied().map(u64::from_be_bytes);
        index.ok_or_else(|| self.broken(Family::Entries, &"a key without an index"))
    }

    /// The record of this node's copy of `log`; `None` if the copy is empty.
    ///
    /// # Errors
    /// [`StoreError`], here and in every method below: the disk failed or its content is damaged.
    pub fn log(&self, log: &LogId) -> Result<Option<LogRecord>, StoreError> {
        let state: Option<LogState> = self.value(Family::Logs, &keys::log_state(log), RECORD_BYTES_MAX)?;
        let Some(state) = state else { return Ok(None) };
        let certified = self.certified(log)?;
        let adopted = self.value(Family::Logs, &keys::log_adopted(log), ADOPTED_BYTES_MAX)?.unwrap_or_default();
        Ok(Some(LogRecord { state, certified, adopted }))
    }

    /// How many entries of `log` are below a certified head, also while this node's copy is empty.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn certified(&self, log: &LogId) -> Result<u64, StoreError> {
        Ok(self.value(Family::Logs, &keys::log_certified(log), RECORD_BYTES_MAX)?.unwrap_or(0))
    }

    /// The adoption of the version that the log had at a head of `size`, with its entry and inclusion proof, for
    /// readers without the log's entries; `None` if that version introduced the log.
    ///
    /// # Errors
    /// [`LogError`]: the disk failed, or the tree is damaged.
    pub fn adoption(&self, log: &LogId, size: u64) -> Result<Option<Adoption>, LogError<StoreError>> {
        let adopted = self.log(log).map_err(LogError::Tiles)?.map(|record| record.adopted).unwrap_or_default();
        let last = adopted.iter().skip(1).rev().find(|adopted| adopted.size <= size);
        let Some(index) = last.and_then(adoption::index_of) else { return Ok(None) };
        let Some(entry) = self.entry(log, index).map_err(LogError::Tiles)? else { return Ok(None) };
        Ok(Some(Adoption { index, entry, path: prove_inclusion(index, size, &self.tiles(log))? }))
    }

    /// An encoded entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entry(&self, log: &LogId, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get_raw(Family::Entries, &keys::entry(log, index))?.map(|entry| entry.to_vec()))
    }

    /// Encoded entries, starting at index `from`: at most `count`, and no more once their total reaches `bytes`, but at
    /// least one if it exists.
    ///
    /// # Errors
    /// [`StoreError`], also if there is a gap between entries.
    pub fn entries(&self, log: &LogId, from: u64, count: usize, bytes: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut found, mut total, mut next) = (Vec::new(), 0usize, from);
        let walk = Walk { from: Some(keys::entry(log, from)), ..Walk::of(log8(log)) };
        self.walk(Family::Entries, walk, &mut |key, entry| {
            if !found.is_empty() && (found.len() >= count || total >= bytes) {
                return Ok(ControlFlow::Break(()));
            }
            if self.entry_index(key)? != next {
                return Err(self.store.inconsistent(log, &format!("entry {next} is missing")));
            }
            next = next.saturating_add(1);
            total = total.saturating_add(entry.len());
            found.push(entry.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// An event's positions, in the order of the logs; a revocation may be in several.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn positions(&self, event: &EventId) -> Result<Vec<Position>, StoreError> {
        let mut found = Vec::new();
        self.of_logs(Family::Events, &event.0, &mut |log, value| {
            let (index, void) = self.decode(Family::Events, value, RECORD_BYTES_MAX)?;
            found.push(Position { log, index, void });
            Ok(())
        })?;
        self.only_held(&mut found, |position| (&position.log, position.index))?;
        found.sort_by(|a, b| a.log.cmp(&b.log));
        Ok(found)
    }

    /// An event's position in one log. Cheaper than [`View::positions`] for an unknown event.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn position(&self, event: &EventId, log: &LogId) -> Result<Option<Position>, StoreError> {
        let found = self.indexed(&keys::event(event, log))?;
        let held = found.map_or(Ok(true), |(index, _)| self.holds(log, index))?;
        Ok(found.filter(|_| held).map(|(index, void)| Position { log: log.clone(), index, void }))
    }

    pub(super) fn indexed(&self, key: &[u8]) -> Result<Option<(u64, Option<Void>)>, StoreError> {
        self.value(Family::Events, key, RECORD_BYTES_MAX)
    }

    /// At most `limit` lines of a history, newest first, all older than `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn history(
        &self,
        identity: &IdentityId,
        history: History,
        before: Option<&HistoryItem>,
        limit: usize,
    ) -> Result<Vec<HistoryItem>, StoreError> {
        let (mut found, mut hidden, prefix) = (Vec::new(), 0, keys::history(identity, history));
        let before = before.map(|item| [prefix.clone(), keys::history_item(item)].concat());
        let walk = Walk { before, backward: true, ..Walk::of(prefix.clone()) };
        self.walk(Family::History, walk, &mut |key, _| {
            if found.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let item = key.get(prefix.len()..).and_then(keys::parse_history_item);
            let item = item.ok_or_else(|| self.broken(Family::History, &"not a key of this family"))?;
            if self.holds(&item.log, item.index)? {
                found.push(item);
            } else {
                hidden += 1;
            }
            Ok(if hidden < HIDDEN_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }

    /// For each log that has one, the index of its newest entry that changed rows of this kind about `identity`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn touched(&self, identity: &IdentityId, touch: Touch) -> Result<Vec<(LogId, u64)>, StoreError> {
        let mut found = Vec::new();
        self.of_logs(Family::Touched, &keys::touched(identity, touch), &mut |log, value| {
            let index = self.decode(Family::Touched, value, RECORD_BYTES_MAX)?;
            found.push((log, index));
            Ok(())
        })?;
        self.only_held(&mut found, |(log, index)| (log, *index))?;
        found.sort();
        Ok(found)
    }

    /// Calls `each` with every identity, log and index that [`View::touched`] gives for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn all_touched(&self, touch: Touch, each: &mut dyn FnMut(IdentityId, &LogId, u64)) -> Result<(), StoreError> {
        self.walk(Family::Touched, Walk::of(keys::all_touched(touch)), &mut |key, value| {
            let identity = key.get(1..).and_then(|rest| rest.first_chunk().copied());
            let identity = identity.ok_or_else(|| self.broken(Family::Touched, &"a key without an id"))?;
            let index = self.decode(Family::Touched, value, RECORD_BYTES_MAX)?;
            each(EventId(identity), &self.log_of(Family::Touched, key)?, index);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Whether `provider` has ever attested to `subject`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_given(&self, provider: &IdentityId, subject: &IdentityId) -> Result<bool, StoreError> {
        self.has(Family::Given, &keys::given(provider, subject))
    }

    /// At most `limit` subjects that `provider` has ever attested to, in the order of their ids, all after `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn subjects_of(
        &self,
        provider: &IdentityId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> Result<Vec<IdentityId>, StoreError> {
        // The next key after a key is the key with a zero byte appended.
        let from = after.map(|after| [keys::given(provider, after).as_slice(), &[0]].concat());
        self.ids(Family::Given, Walk { from, ..Walk::of(provider.0) }, limit)
            .map(|ids| ids.into_iter().map(EventId).collect())
    }

    /// At most `limit` issuers that ever granted `subject` something, or took it back, ordered by id, all after `after`.
    /// An issuer that a rollback is about to drop may be among them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn issuers_of(
        &self,
        subject: &IdentityId,
        after: Option<&IdentityId>,
        limit: usize,
    ) -> Result<Vec<IdentityId>, StoreError> {
        let from = after.map(|after| [keys::granted(subject, after).as_slice(), &[0]].concat());
        self.ids(Family::Search, Walk { from, ..Walk::of(keys::granted_to(subject)) }, limit)
            .map(|ids| ids.into_iter().map(EventId).collect())
    }

    /// At most `limit` identities whose name, key or hash of a key begins with `text`, in the order of what is searched,
    /// all after `after`, which is the last text and identity of a page before. An identity that a rollback is about to
    /// drop may be among them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn search(
        &self,
        by: SearchedBy,
        text: &str,
        after: Option<&(String, IdentityId)>,
        limit: usize,
    ) -> Result<Vec<(String, IdentityId)>, StoreError> {
        if text.bytes().any(|byte| byte == 0) {
            return Ok(Vec::new());
        }
        let broken = || self.broken(Family::Search, &"not a key of this family");
        // The next key after a key is the key with a zero byte appended.
        let next =
            |(last, id): &(String, IdentityId)| [&keys::searched(by, last), [0].as_slice(), &id.0, &[0]].concat();
        let walk = Walk { from: after.map(next), ..Walk::of(keys::searched(by, text)) };
        let mut found = Vec::new();
        self.walk(Family::Search, walk, &mut |key, _| {
            if found.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let (rest, id) = key.split_last_chunk().ok_or_else(broken)?;
            let [_, text @ .., 0] = rest else { return Err(broken()) };
            let text = std::str::from_utf8(text).map_err(|_| broken())?;
            found.push((text.to_owned(), EventId(*id)));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The last 32 bytes of at most `limit` keys.
    fn ids(&self, family: Family, walk: Walk, limit: usize) -> Result<Vec<[u8; 32]>, StoreError> {
        let mut found = Vec::new();
        self.walk(family, walk, &mut |key, _| {
            if found.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            found.push(*key.last_chunk().ok_or_else(|| self.broken(family, &"a key without an id"))?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// A note's text, or that it was redacted; `None`: no entry names it, or it is not fetched yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn note(&self, hash: &NoteHash) -> Result<Option<NoteAnswer>, StoreError> {
        self.value(Family::Notes, &hash.0, NOTE_VALUE_BYTES_MAX)
    }

    /// Whether an entry names a note whose text is not here yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn wants_note(&self, hash: &NoteHash) -> Result<bool, StoreError> {
        self.has(Family::Wanted, &hash.0)
    }

    /// At most `limit` notes that entries name and this node does not have yet, in the order of their hashes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn wanted_notes(&self, limit: usize) -> Result<Vec<NoteHash>, StoreError> {
        self.wanted_notes_from(&NoteHash([0; 32]), limit)
    }

    /// Like [`View::wanted_notes`], from `start` to the end and then from the beginning. With a random `start`,
    /// notes that nobody has cannot block the others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn wanted_notes_from(&self, start: &NoteHash, limit: usize) -> Result<Vec<NoteHash>, StoreError> {
        let upper = Walk { from: Some(start.0.into()), ..Walk::of([]) };
        let mut found = self.ids(Family::Wanted, upper, limit)?;
        let lower = Walk { before: Some(start.0.into()), ..Walk::of([]) };
        found.extend(self.ids(Family::Wanted, lower, limit.saturating_sub(found.len()))?);
        Ok(found.into_iter().map(NoteHash).collect())
    }

    /// The owner's largest known head.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn newest(&self, log: &LogId) -> Result<Option<SignedHead>, StoreError> {
        self.value(Family::Heads, &log8(log), RECORD_BYTES_MAX)
    }

    /// A head that the owner signed on another branch than this copy or the owner's other heads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn conflicting(&self, log: &LogId) -> Result<Option<SignedHead>, StoreError> {
        self.value(Family::Heads, &keys::conflicting(log), RECORD_BYTES_MAX)
    }

    /// What the own log's day was used for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn day_usage(&self) -> Result<DayUsage, StoreError> {
        Ok(self.value(Family::Meta, keys::META_DAY_USAGE, DAY_USAGE_BYTES_MAX)?.unwrap_or_default())
    }

    /// The largest head on this copy's branch that a quorum cosigned on one note, with the newest cosignatures.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn certificate(&self, log: &LogId) -> Result<Option<StoredCertificate>, StoreError> {
        let stored = self.value(Family::Heads, &keys::certificate(log), CERTIFICATE_BYTES_MAX)?;
        Ok(stored.map(|stored| self.store().renewed.certificate(log, stored)))
    }

    /// What this node remembers about when it received the log's entries; `None` if nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lateness(&self, log: &LogId) -> Result<Option<Lateness>, StoreError> {
        self.value(Family::Heads, &keys::lateness(log), LATENESS_BYTES_MAX)
    }

    /// The newest head of `log` that each node key cosigned, in the order of operators and generations.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn cosigned(&self, log: &LogId) -> Result<Vec<CosignedHead>, StoreError> {
        Ok(self.cosigned_by(log)?.into_iter().map(|(_, cosigned)| cosigned).collect())
    }

    /// Like [`View::cosigned`], each with the operator's log generation whose node key cosigned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn cosigned_by(&self, log: &LogId) -> Result<Vec<(LogId, CosignedHead)>, StoreError> {
        let (mut found, prefix) = (Vec::new(), log8(log));
        // The first keys of the log hold the owner's two heads, a proof, the certificate and the lateness.
        let from = Some([keys::lateness(log).as_slice(), &[0]].concat());
        self.walk(Family::Heads, Walk { from, ..Walk::of(prefix) }, &mut |key, value| {
            let by = key.get(prefix.len()..).and_then(|by| std::str::from_utf8(by).ok()?.parse().ok());
            let by = by.ok_or_else(|| self.broken(Family::Heads, &"a key without a log"))?;
            found.push((by, self.decode(Family::Heads, value, RECORD_BYTES_MAX)?));
            Ok(ControlFlow::Continue(()))
        })?;
        self.store().renewed.cosigned(log, &mut found);
        Ok(found)
    }

    /// Calls `each` with every row of a map from key `from` on, in order, until it breaks. Reads past the cache.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_from(
        &self,
        map: MapId,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let walk = Walk { from: Some(keys::row(map, from)), once: true, ..Walk::of(map.0) };
        self.walk(Family::Rows, walk, &mut |key, value| Ok(each(key.get(map.0.len()..).unwrap_or_default(), value)))
    }

    /// The tiles of `log`, read from disk one by one.
    #[must_use]
    pub fn tiles<'v>(&'v self, log: &LogId) -> LogTiles<'v> {
        LogTiles { view: self, log: log.clone() }
    }
}

impl StoredRows for View<'_> {
    fn scan_from(
        &self,
        map: MapId,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        MapScans { view: self, map, kept: RefCell::new(None) }.scan_from(level, from, each)
    }

    /// Of many, each core loads some.
    fn load_all<'k>(
        &self,
        map: MapId,
        missing: &[MissingNode<'k>],
    ) -> Result<Vec<LoadedNode<'k>>, NodeError<StoreError>> {
        let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        // A thread takes the next few until none are left.
        let load = || {
            let scans = MapScans { view: self, map, kept: RefCell::new(None) };
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(some) = missing.chunks(LOADED_AT_ONCE).nth(at) else { return };
                let loaded = some.iter().map(|node| node.load(&scans)).collect::<Result<Vec<_>, _>>();
                all.lock().unwrap_or_else(PoisonError::into_inner).push((at, loaded));
            }
        };
        // A simulated disk is read in the same order each time.
        let others = LOADERS.as_ref().filter(|_| missing.len() >= LOADED_BY_ALL_MIN && self.write_number().is_some());
        if let Some(pool) = others {
            pool.in_place_scope(|scope| {
                for _ in 0..pool.current_num_threads() {
                    scope.spawn(|_| load());
                }
                load();
            });
        } else {
            load();
        }
        let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.sort_by_key(|(at, _)| *at);
        let mut loaded = Vec::with_capacity(missing.len());
        for (_, some) in all {
            loaded.extend(some?);
        }
        Ok(loaded)
    }
}

/// Threads that load nodes of maps next to the thread that needs them: one for each further core. `None` if there are none.
static LOADERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let further = rayon::current_num_threads().checked_sub(1).filter(|threads| *threads > 0)?;
    ThreadPoolBuilder::new().num_threads(further).thread_name(|_| "inbox-load".to_owned()).build().ok()
});

/// All cores load no fewer nodes than this: those of a batch of some hundred events, which a node has when it catches up.
/// Otherwise questions have the other cores: on two, with 1,000 events a second in batches of a hundred, their 99th
/// percentile falls by a fifth to a third, and events take no longer.
pub(super) const LOADED_BY_ALL_MIN: usize = 1_024;

/// Nodes that a thread loads before it looks whether others are left: a millisecond or two.
const LOADED_AT_ONCE: usize = 64;

/// Scans of one map, each by the cursor of the last one where that is at the same level.
struct MapScans<'v> {
    view: &'v View<'v>,
    map: MapId,
    /// Level, the first key that its walk may reach, and the cursor.
    kept: RefCell<Option<(u8, Vec<u8>, Cursor<'v>)>>,
}

impl NodeSource for MapScans<'_> {
    type Error = StoreError;

    fn scan_from(
        &self,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let stored = self.map.level(level);
        let key = keys::row(stored, from);
        let kept = self.kept.take().filter(|(of, first, _)| *of == level && *first <= key);
        let sought = kept.and_then(|(_, first, cursor)| Some((first, cursor.seek(&key)?)));
        let (first, mut cursor) = sought.unwrap_or_else(|| {
            let walk = Walk { from: Some(key.clone()), ..Walk::of(stored.0) };
            (key, self.view.moment.walk(Family::Rows, walk))
        });
        self.view
            .walk_on(&mut cursor, &mut |key, value| Ok(each(key.get(stored.0.len()..).unwrap_or_default(), value)))?;
        self.kept.replace(Some((level, first, cursor)));
        Ok(())
    }
}

impl Rows for View<'_> {
    type Error = StoreError;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get_raw(Family::Rows, &keys::row(map, key))?.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.walk(Family::Rows, Walk::of(keys::row(map, prefix)), &mut |key, value| {
            Ok(each(key.get(map.0.len()..).unwrap_or_default(), value))
        })
    }
}

/// The tiles of one log; an absent tile reads as empty.
pub struct LogTiles<'v> {
    view: &'v View<'v>,
    log: LogId,
}

impl Tiles for LogTiles<'_> {
    type Error = StoreError;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, StoreError> {
        let bytes = self.view.get_raw(Family::Tiles, &keys::tile(&self.log, level, index))?;
        let Some(bytes) = bytes else { return Ok(Vec::new()) };
        match bytes.as_chunks() {
            (hashes, []) if hashes.len() <= TILE_WIDTH => Ok(hashes.to_vec()),
            _ => Err(self.view.broken(Family::Tiles, &format!("{} bytes", bytes.len()))),
        }
    }
}
