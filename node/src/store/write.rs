//! Writes: each call is one atomic batch.
use std::collections::{BTreeMap, BTreeSet};

use bincode::Encode;
use fama_ledger::adoption::Adopted;
use fama_ledger::codec;
use fama_ledger::entry::{VerifiedEntry, VerifiedEvent};
use fama_ledger::fold::{Effect, Outcome, Void};
use fama_ledger::id::{IdentityId, NoteHash};
use fama_ledger::lateness::Lateness;
use fama_ledger::limits::NOTE_BYTES_MAX;
use fama_ledger::manifest::LogId;
use fama_ledger::note::note_hash;

use super::engine::WriteBatch;
use super::keys::{self, Family, META_CHANGES, META_DAY_USAGE, META_FORMAT, log8};
use super::{
    ChangeCounts, Commit, DayUsage, FORMAT, History, HistoryItem, Store, StoreError, StoredCertificate, Touch, View,
};
use crate::wire::{CosignedHead, NoteAnswer, SignedHead};

impl Store {
    /// Writes batches in one atomic write, synced before this returns. Batches of one log must be in
    /// order in the slice.
    ///
    /// # Errors
    /// [`StoreError::Misfit`]: nothing was written. After any other error it is unknown whether the batches
    /// were written; stop the node.
    pub fn commit(&self, commits: &[Commit<'_>]) -> Result<(), StoreError> {
        self.commit_with(commits, None)
    }

    /// [`Store::commit`] that also stores a log's lateness in the same write.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub fn commit_with(&self, commits: &[Commit<'_>], lateness: Option<(&LogId, &Lateness)>) -> Result<(), StoreError> {
        let _writing = self.lock();
        // Everything goes into one RocksDB batch: after a crash either all of it is there or nothing.
        let mut writer = CommitWriter::new(self, commits);
        commits.iter().try_for_each(|commit| writer.add(commit))?;
        self.add_scores(&mut writer.batch, &writer.view, commits)?;
        // An error above wrote nothing. An error here leaves open whether the write is on disk: `failed` is set, and no
        // write of this process succeeds again.
        let mut batch = writer.finish()?;
        if let Some((log, lateness)) = lateness {
            Self::put(&mut batch, Family::Heads, &keys::lateness(log), lateness);
        }
        self.write(batch, true)
    }

    /// Stores a log's lateness. Not synced: an older one only makes the owner's silence longer, and a cosignature that
    /// depends on it is synced after it.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_lateness(&self, log: &LogId, lateness: &Lateness) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Heads, &keys::lateness(log), lateness);
        self.write(batch, false)
    }

    /// Stores what the own log's day is used for once the next [`Store::commit`] is written. Not synced: the log of
    /// writes is in order, so a commit that is durable has this before it.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_day_usage(&self, usage: &DayUsage) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Meta, META_DAY_USAGE, usage);
        self.write(batch, false)
    }

    /// Stores the owner's largest known head. The caller checks that it is larger. Not synced: a lost head is
    /// fetched again.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_newest(&self, log: &LogId, signed: &SignedHead) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Heads, &log8(log), signed);
        self.write(batch, false)
    }

    /// Stores a head that its owner signed on another branch. Synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_conflicting(&self, log: &LogId, signed: &SignedHead) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Heads, &keys::conflicting(log), signed);
        self.write(batch, true)
    }

    /// Stores the newest head that a node key cosigned, and the log's certified size. Synced if `durable`: this
    /// node's own cosignature must be durable before it is published.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_cosigned(
        &self,
        log: &LogId,
        by: &LogId,
        cosigned: &CosignedHead,
        certified: u64,
        durable: bool,
    ) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Heads, &keys::cosigned(log, by), cosigned);
        Self::put(&mut batch, Family::Logs, &keys::log_certified(log), &certified);
        self.write(batch, durable)
    }

    /// Stores the largest head that a quorum cosigned on one note. Not synced: the next certificate replaces a
    /// lost one.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_certificate(&self, log: &LogId, certificate: &StoredCertificate) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Heads, &keys::certificate(log), certificate);
        self.write(batch, false)?;
        self.forget_renewed(log);
        Ok(())
    }

    /// Stores a certified size that grew without a new cosignature. Not synced.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_certified(&self, log: &LogId, certified: u64) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Logs, &keys::log_certified(log), &certified);
        self.write(batch, false)
    }

    /// Stores the texts of wanted notes. Ignores notes that no entry names, notes that are stored already, and
    /// texts that do not match their hash. Not synced: a lost text is fetched again.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn put_notes(&self, notes: &[(NoteHash, String)]) -> Result<(), StoreError> {
        let _writing = self.lock();
        let (view, mut batch, mut is_any) = (self.view(), self.batch(), false);
        for (hash, text) in notes.iter().filter(|(hash, text)| is_note(hash, text)) {
            if view.has(Family::Wanted, &hash.0)? {
                Self::put_note(&mut batch, hash, &NoteAnswer::Text(text.clone()));
                is_any = true;
            }
        }
        Self::count_changes(&mut batch, &view, false, is_any)?;
        self.write(batch, false)
    }

    /// Makes all earlier writes durable.
    ///
    /// # Errors
    /// [`StoreError`]; stop the node.
    pub fn sync(&self) -> Result<(), StoreError> {
        let mut batch = self.batch();
        Self::put(&mut batch, Family::Meta, META_FORMAT, &FORMAT);
        self.write(batch, true)
    }

    pub(super) fn put_note(batch: &mut WriteBatch<'_>, hash: &NoteHash, answer: &NoteAnswer) {
        Self::put(batch, Family::Notes, &hash.0, answer);
        batch.delete(Family::Wanted, hash.0);
    }

    /// Counts what a write changes that answers about many subjects are made of. The caller holds the lock.
    pub(super) fn count_changes(
        batch: &mut WriteBatch<'_>,
        view: &View<'_>,
        statements: bool,
        notes: bool,
    ) -> Result<(), StoreError> {
        if statements || notes {
            let ChangeCounts { statements: stated, notes: noted } = view.change_counts()?;
            let statements = stated.saturating_add(statements.into());
            let counts = ChangeCounts { statements, notes: noted.saturating_add(notes.into()) };
            Self::put(batch, Family::Meta, META_CHANGES, &counts);
        }
        Ok(())
    }

    pub(super) fn put(batch: &mut WriteBatch<'_>, family: Family, key: &[u8], value: &impl Encode) {
        batch.put(family, key, codec::encode(value));
    }

    pub(super) fn write(&self, mut batch: WriteBatch<'_>, sync: bool) -> Result<(), StoreError> {
        // A write after a failed one may succeed and leave a gap on disk. Only reopening shows what is there.
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        let (marks, write) = (batch.marks(), || batch.write(sync).map_err(|error| self.database(&error)));
        self.changed.mark(&marks, write, || self.engine.sequence())
    }
}

pub(super) fn is_note(hash: &NoteHash, text: &str) -> bool {
    text.len() <= NOTE_BYTES_MAX && note_hash(text.as_bytes()) == *hash
}

/// Collects one write batch. A key that several entries write is written once, in sorted order.
struct CommitWriter<'a> {
    store: &'a Store,
    view: View<'a>,
    batch: WriteBatch<'a>,
    sizes: BTreeMap<&'a LogId, u64>,
    adopted: BTreeMap<&'a LogId, Vec<Adopted>>,
    events: BTreeMap<Vec<u8>, (u64, Option<Void>)>,
    touched: BTreeMap<Vec<u8>, u64>,
    given: BTreeSet<Vec<u8>>,
    searched: BTreeSet<Vec<u8>>,
    histories: BTreeSet<Vec<u8>>,
    tiles: BTreeMap<Vec<u8>, &'a [u8]>,
    /// Rows and records of the maps' nodes, in the order of the commits; `None` is deleted.
    rows: Vec<(Vec<u8>, Option<&'a [u8]>)>,
    named: BTreeSet<NoteHash>,
    texts: BTreeMap<NoteHash, &'a str>,
    /// Whether there are statements about providers.
    states: bool,
    /// Whether there are texts that entries of earlier writes named.
    has_late: bool,
}

impl<'a> CommitWriter<'a> {
    fn new(store: &'a Store, commits: &'a [Commit<'a>]) -> Self {
        let texts = commits.iter().flat_map(|commit| commit.notes).map(|(hash, text)| (*hash, text.as_str()));
        Self {
            store,
            view: store.view(),
            batch: store.batch(),
            sizes: BTreeMap::new(),
            adopted: BTreeMap::new(),
            events: BTreeMap::new(),
            touched: BTreeMap::new(),
            given: BTreeSet::new(),
            searched: BTreeSet::new(),
            histories: BTreeSet::new(),
            tiles: BTreeMap::new(),
            rows: Vec::new(),
            named: BTreeSet::new(),
            texts: texts.collect(),
            states: false,
            has_late: false,
        }
    }

    fn add(&mut self, commit: &'a Commit<'a>) -> Result<(), StoreError> {
        let log = &commit.state.log;
        self.check(commit)?;
        // Neither an adoption nor the state entry at the end has an outcome.
        let outcomes = commit.outcomes.iter().map(Option::as_ref).chain([None]);
        for ((index, entry), outcome) in (commit.first..).zip(commit.entries).zip(outcomes) {
            self.batch.put(Family::Entries, keys::entry(log, index), entry.bytes());
            if let (Some(event), Some(outcome)) = (entry.event(), outcome) {
                self.add_event(&HistoryItem { time: entry.time, log: log.clone(), index }, event, outcome)?;
            }
        }
        for write in &commit.tiles {
            self.tiles.insert(keys::tile(log, write.level, write.index), write.hashes.as_flattened());
        }
        self.add_rows(commit);
        self.add_adopted(commit)?;
        Store::put(&mut self.batch, Family::Logs, &keys::log_state(log), &commit.state);
        Ok(())
    }

    /// Checks that a batch continues the stored log, so that a caller's mistake cannot corrupt it.
    fn check(&mut self, commit: &'a Commit<'a>) -> Result<(), StoreError> {
        let (log, first, after) = (&commit.state.log, commit.first, commit.state.size);
        let misfit = |what: String| Err(StoreError::Misfit { log: log.clone(), what });
        if self.store.logs.get(&log8(log)) != Some(log) {
            return misfit("the manifest has no such log".to_owned());
        }
        let size = match self.sizes.get(log) {
            Some(size) => *size,
            None => self.view.log(log)?.map_or(0, |record| record.state.size),
        };
        let count = u64::try_from(commit.entries.len()).unwrap_or(u64::MAX);
        if first != size || first.checked_add(count) != Some(after) {
            return misfit(format!("{count} entries from {first} to {after} do not continue the {size} stored ones"));
        }
        let ends = commit.entries.last().is_some_and(VerifiedEntry::is_state);
        if !ends || commit.outcomes.len().checked_add(1) != Some(commit.entries.len()) {
            return misfit("there is no state entry at the end, or not one outcome for each other entry".to_owned());
        }
        self.sizes.insert(log, after);
        Ok(())
    }

    fn add_event(&mut self, at: &HistoryItem, event: &VerifiedEvent, outcome: &Outcome) -> Result<(), StoreError> {
        self.named.extend(event.event().action.note());
        self.index(keys::event(&event.id(), &at.log), at.index, outcome.as_ref().err().copied())?;
        if let Ok(effect) = outcome {
            self.add_effect(at, effect);
        }
        Ok(())
    }

    /// Indexes an event's first applied entry, or its first void one if none was applied.
    fn index(&mut self, key: Vec<u8>, index: u64, void: Option<Void>) -> Result<(), StoreError> {
        let known = match self.events.get(&key) {
            Some(known) => Some(*known),
            None => self.view.indexed(&key)?,
        };
        if known.is_none_or(|(_, known_void)| known_void.is_some() && void.is_none()) {
            self.events.insert(key, (index, void));
        }
        Ok(())
    }

    fn add_effect(&mut self, at: &HistoryItem, effect: &Effect) {
        match effect {
            Effect::Registered { identity } | Effect::KeyChanged { identity } => {
                self.history(at, identity, History::Keys);
                self.touch(at, identity, Touch::Subject);
            }
            // In no history: strangers could fill it, and the join finds those that count by their keys.
            Effect::Claimed { identity } => self.touch(at, identity, Touch::Subject),
            Effect::Attested { subject, provider, .. } | Effect::Retracted { subject, provider, .. } => {
                self.history(at, subject, History::Received);
                self.history(at, provider, History::Given);
                self.touch(at, subject, Touch::Subject);
            }
            Effect::Sponsored { provider } => {
                self.states = true;
                self.history(at, provider, History::Stated);
                self.touch(at, provider, Touch::Sponsorship);
            }
            // Strangers may grant to anybody: nothing about the subject changes.
            Effect::Granted { issuer, .. } => self.history(at, issuer, History::Access),
            Effect::Suspended { identity } => {
                self.history(at, identity, History::Access);
                self.touch(at, identity, Touch::Subject);
            }
        }
        if let Effect::Attested { subject, provider, .. } = effect {
            self.given.insert(keys::given(provider, subject));
        }
    }

    fn history(&mut self, at: &HistoryItem, identity: &IdentityId, history: History) {
        self.histories.insert([keys::history(identity, history), keys::history_item(at)].concat());
    }

    /// Entries arrive in log order, so the last call for a key has the newest index.
    fn touch(&mut self, at: &HistoryItem, identity: &IdentityId, touch: Touch) {
        let key = [keys::touched(identity, touch).as_slice(), &log8(&at.log)].concat();
        self.touched.insert(key, at.index);
    }

    /// Reads only the first entry: an adoption is alone in its batch.
    fn add_adopted(&mut self, commit: &'a Commit<'a>) -> Result<(), StoreError> {
        let Some(version) = commit.entries.first().and_then(VerifiedEntry::adopts) else { return Ok(()) };
        let log = &commit.state.log;
        if !self.adopted.contains_key(log) {
            self.adopted.insert(log, self.view.log(log)?.map_or_else(Vec::new, |record| record.adopted));
        }
        let adopted = self.adopted.entry(log).or_default();
        adopted.push(Adopted { version, size: commit.state.size });
        Store::put(&mut self.batch, Family::Logs, &keys::log_adopted(log), &*adopted);
        Ok(())
    }

    fn add_rows(&mut self, commit: &'a Commit<'a>) {
        for ((map, key), value) in commit.changes {
            self.rows.push((keys::row(*map, key), value.as_deref()));
            self.searched.extend(value.iter().flat_map(|value| keys::search_row(key, value)));
        }
        let records =
            commit.nodes.iter().map(|((level, key), change)| (keys::row(*level, key), change.after.as_deref()));
        self.rows.extend(records);
    }

    /// Writes each row once: the batches of a range change the same rows again and again, above all the records of the
    /// maps' upper nodes.
    fn put_rows(&mut self) {
        // Keeps the order of the commits among equal keys.
        self.rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (key, value) in self.rows.chunk_by(|(one, _), (other, _)| one == other).filter_map(<[_]>::last) {
            match value {
                Some(value) => self.batch.put(Family::Rows, key, value),
                None => self.batch.delete(Family::Rows, key),
            }
        }
    }

    fn add_note(&mut self, hash: &NoteHash) -> Result<(), StoreError> {
        if self.view.has(Family::Notes, &hash.0)? {
            return Ok(());
        }
        match self.texts.get(hash).filter(|text| is_note(hash, text)) {
            Some(text) => {
                self.has_late |= self.view.has(Family::Wanted, &hash.0)?;
                Store::put_note(&mut self.batch, hash, &NoteAnswer::Text((*text).to_owned()));
            }
            None => self.batch.put(Family::Wanted, hash.0, []),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<WriteBatch<'a>, StoreError> {
        self.put_rows();
        for (key, hashes) in std::mem::take(&mut self.tiles) {
            self.batch.put(Family::Tiles, key, hashes);
        }
        for key in std::mem::take(&mut self.histories) {
            self.batch.put(Family::History, key, []);
        }
        for (key, position) in std::mem::take(&mut self.events) {
            Store::put(&mut self.batch, Family::Events, &key, &position);
        }
        for (key, index) in std::mem::take(&mut self.touched) {
            Store::put(&mut self.batch, Family::Touched, &key, &index);
        }
        for key in std::mem::take(&mut self.given) {
            self.batch.put(Family::Given, key, []);
        }
        for key in std::mem::take(&mut self.searched) {
            self.batch.put(Family::Search, key, []);
        }
        for hash in std::mem::take(&mut self.named) {
            self.add_note(&hash)?;
        }
        Store::count_changes(&mut self.batch, &self.view, self.states, self.has_late)?;
        Ok(self.batch)
    }
}
