//! The quick state: rows as they were at certified heads, in a separate database, without the entries below them.
//!
//! ```text
//! meta     "quick"                                            bool: whether all logs are loaded
//!          "offer" log8                                       Offer: the state of a log that is being loaded
//!          "parts" log8                                       list of Part: the key ranges that are still missing
//! ```
//!
//! Once loaded, it grows like any other store. Of the data derived from entries it holds only what newer entries give.
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bincode::{Decode, Encode};
use fama_ledger::adoption::Adopted;
use fama_ledger::id::{EventId, StateRoot};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::map::{NodeError, NodeSource, StateMap, value_hash};
use fama_ledger::rows::{MapId, MapNodes, Row as _, Tally};
use fama_ledger::snapshot::{Offer, Offered};

use super::engine::{Walk, WriteBatch};
use super::keys::{self, Family, META_FEDERATION, META_FORMAT, META_QUICK, META_USED, log8};
use super::{FORMAT, LogState, Store, StoreError, StoreSettings, View, open};
use crate::wire::{CosignedHead, RESPONSE_BYTES_MAX, SignedHead};

/// At most this many rows are deleted in one write.
const CLEAR_ROWS: usize = 10_000;
/// Most nodes of a map in memory while their records are written.
const INDEXED_NODES: usize = 1 << 16;

/// A key range of a map that is still to be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Index of the map in the offer, from 0.
    pub map: u16,
    /// The first key of the range.
    pub from: Vec<u8>,
    /// The key after the range; `None`: the range reaches the end of the map.
    pub to: Option<Vec<u8>>,
}

/// What a map's nodes are loaded from while its records are written: the rows from `end` on are stored, but belong to no
/// node yet.
struct IndexedNodes<'a> {
    all: MapNodes<'a, View<'a>>,
    end: &'a [u8],
}

impl NodeSource for IndexedNodes<'_> {
    type Error = StoreError;

    fn scan_from(
        &self,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.all.scan_from(level, from, &mut |key, value| {
            if level == 0 && key >= self.end { ControlFlow::Break(()) } else { each(key, value) }
        })
    }
}

impl View<'_> {
    /// The offer that a log is being loaded from, and the parts that are still missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn loading(&self, log: &LogId) -> Result<Option<(Offer, Vec<Part>)>, StoreError> {
        let offer = self.value(Family::Meta, &keys::quick_offer(log), RESPONSE_BYTES_MAX)?;
        let parts = self.value(Family::Meta, &keys::quick_parts(log), RESPONSE_BYTES_MAX)?;
        Ok(offer.zip(parts))
    }

    /// Whether all logs of this quick state are loaded; `None` if this is not a quick state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn quick(&self) -> Result<Option<bool>, StoreError> {
        self.value(Family::Meta, META_QUICK, 1)
    }

    /// The state from which on this store has a log's entries; `None`: it has all of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn base(&self, log: &LogId) -> Result<Option<LogState>, StoreError> {
        self.value(Family::Logs, &keys::log_base(log), super::read::RECORD_BYTES_MAX)
    }
}

impl Store {
    /// Opens or creates a quick state in `dir`, under `manifest` and the later versions that the folder holds.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Quick`] if the folder holds something else.
    pub fn open_quick(dir: &Path, manifest: &Arc<Manifest>, settings: &StoreSettings) -> Result<Self, StoreError> {
        open::open_quick(dir, manifest, settings)
    }

    /// Initializes a new quick state in one write: format, federation, the quick mark, and the versions in use. Synced.
    pub(super) fn put_quick(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Meta, META_FORMAT, &FORMAT);
        Self::put(&mut batch, Family::Meta, META_FEDERATION, &manifest.federation());
        Self::put(&mut batch, Family::Meta, META_QUICK, &false);
        Self::put(&mut batch, Family::Meta, META_USED, &manifest.version());
        for version in manifest.versions() {
            Self::put(&mut batch, Family::Manifests, &keys::manifest(version.version()), &version.note().to_string());
        }
        self.write(batch, true)
    }

    /// Starts to load a log: deletes the rows that its maps have here, then stores the offer and its parts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin_loading(
        &self,
        log: &LogId,
        (offer, offered): (&Offer, &Offered),
        parts: &[Part],
    ) -> Result<(), StoreError> {
        let _writing = self.lock();
        let mut batch = self.batch();
        // Without this list the log counts as not begun. It goes first and comes back last, so that a crash in between
        // has the log begun again and never mixes rows of two heads.
        batch.delete(Family::Meta, keys::quick_parts(log));
        self.write(batch, false)?;
        for (map, _) in &offered.maps {
            for level in map.id().levels() {
                while self.clear_some(level)? {}
            }
        }
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Meta, &keys::quick_offer(log), offer);
        Self::put(&mut batch, Family::Meta, &keys::quick_parts(log), &parts.to_vec());
        self.write(batch, false)
    }

    fn clear_some(&self, map: MapId) -> Result<bool, StoreError> {
        let (view, mut batch, mut count) = (self.view(), self.batch(), 0);
        view.walk(Family::Rows, Walk { once: true, ..Walk::of(map.0) }, &mut |key, _| {
            batch.delete(Family::Rows, key);
            count += 1;
            Ok(if count < CLEAR_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        self.write(batch, false)?;
        Ok(count == CLEAR_ROWS)
    }

    /// Stores proven rows of a map, and the parts of its log that are still missing. Not synced: lost rows are loaded
    /// again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_rows(
        &self,
        log: &LogId,
        map: MapId,
        rows: &[(Vec<u8>, Vec<u8>)],
        parts: &[Part],
    ) -> Result<(), StoreError> {
        let mut batch = self.batch();
        for (key, value) in rows {
            batch.put(Family::Rows, keys::row(map, key), value);
            put_given(&mut batch, key);
            keys::search_row(key, value).into_iter().for_each(|key| batch.put(Family::Search, key, []));
        }
        // In one batch with the rows: after a crash the list asks again for exactly the rows that were lost with it.
        Self::put(&mut batch, Family::Meta, &keys::quick_parts(log), &parts.to_vec());
        self.write(batch, false)
    }

    /// Marks the quick state as loaded: from now on its copies grow like any others. Synced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish_loading(&self, all: &[Offered]) -> Result<(), StoreError> {
        for (map, root) in all.iter().flat_map(|offered| &offered.maps) {
            if self.index_map(map.id())? != *root {
                return Err(self.database(&"rows of a certified state are missing"));
            }
        }
        let mut batch = self.batch();
        for offered in all {
            self.put_begin(&mut batch, offered);
        }
        Self::forget_scores(&mut batch);
        // Synced, and with it all earlier writes of the load, which were not: they are in the same write-ahead log.
        Self::put(&mut batch, Family::Meta, META_QUICK, &true);
        self.write(batch, true)
    }

    /// Writes the records of a map's nodes, from its rows. Not synced: an interrupted load does it again. Returns the root.
    pub(super) fn index_map(&self, map: MapId) -> Result<StateRoot, StoreError> {
        for level in map.levels().skip(1) {
            while self.clear_some(level)? {}
        }
        let (mut tree, mut from) = (StateMap::default(), Vec::new());
        loop {
            let (view, mut rows) = (self.view(), Vec::new());
            view.rows_from(map, &from, &mut |key, value| {
                rows.push((key.to_vec(), Some(value_hash(value))));
                if rows.len() < CLEAR_ROWS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return Ok(tree.root()) };
            // No key lies between a key and the same key with a zero byte appended.
            from = [last.as_slice(), &[0]].concat();
            let indexed = IndexedNodes { all: MapNodes(map, &view), end: first };
            let records = tree.update(&rows, &indexed).map_err(|error| match error {
                NodeError::Storage(error) => error,
                other => self.database(&other.to_string()),
            })?;
            let mut batch = self.batch();
            for ((level, key), change) in records {
                let key = keys::row(map.level(level), &key);
                match change.after {
                    Some(record) => batch.put(Family::Rows, key, record),
                    None => batch.delete(Family::Rows, key),
                }
            }
            self.write(batch, false)?;
            tree.trim(INDEXED_NODES);
        }
    }

    /// Writes the state, tiles and signed heads that the copy of one log starts from.
    fn put_begin(&self, batch: &mut WriteBatch<'_>, offered: &Offered) {
        let (log, head) = (offered.log(), offered.head());
        let state = LogState { log: log.clone(), size: head.size, root: head.root, state_root: offered.state_root };
        Self::put(batch, Family::Logs, &keys::log_state(&log), &state);
        Self::put(batch, Family::Logs, &keys::log_base(&log), &state);
        Self::put(batch, Family::Logs, &keys::log_certified(&log), &head.size);
        // All these adoptions are certified, so nobody needs their positions in the log any more.
        let since = self.manifest.log(&log).map_or(1, |known| known.since);
        let adopted: Vec<_> = (since..=offered.row.version).map(|version| Adopted { version, size: 0 }).collect();
        Self::put(batch, Family::Logs, &keys::log_adopted(&log), &adopted);
        for tile in &offered.tiles {
            batch.put(Family::Tiles, keys::tile(&log, tile.level, tile.index), tile.hashes.as_flattened());
        }
        let signed = SignedHead::of(&offered.signed);
        Self::put(batch, Family::Heads, &log8(&log), &signed);
        let adopted = self.manifest.at(offered.row.version);
        for cosignature in &offered.cosignatures {
            let Some(by) = adopted.and_then(|adopted| adopted.operator(&cosignature.operator)) else { continue };
            let cosigned = CosignedHead { signed: signed.clone(), cosignature: cosignature.clone() };
            Self::put(batch, Family::Heads, &keys::cosigned(&log, &by.log()), &cosigned);
        }
        batch.delete(Family::Meta, keys::quick_offer(&log));
        batch.delete(Family::Meta, keys::quick_parts(&log));
    }
}

/// Derives the key of `given` from a tally row.
fn put_given(batch: &mut WriteBatch<'_>, key: &[u8]) {
    let pair = key.strip_prefix(&[Tally::TAG]).and_then(|pair| pair.split_first_chunk::<32>());
    let Some((subject, provider)) = pair else { return };
    if let Ok(provider) = provider.try_into() {
        batch.put(Family::Given, keys::given(&EventId(provider), &EventId(*subject)), []);
    }
}
