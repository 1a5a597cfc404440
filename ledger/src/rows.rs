//! Rows of the state maps: keys, values, and the traits through which the fold reads and writes them.
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::ControlFlow;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{RevokeReason, Scope, Service, SuspendReason};
use crate::id::{Domain, EventId, IdentityId, KeyHash, Name};
use crate::key::PublicKey;
use crate::manifest::LogId;
use crate::map::{LEVEL_MAX, LoadedNode, MissingNode, NodeError, NodeSource, RecordChange, TOP_LEVEL};
use crate::time::{Day, Millis};

/// Longest value of a row, in bytes. Day rows and the intervals of a statement are the longest values.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// A state map: its name in the state root, and a short id for storage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapName {
    name: String,
    id: MapId,
}

/// The first eight bytes of the BLAKE3 of the name that a map is stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub [u8; 8]);

impl MapName {
    fn new(name: String, stored_as: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(stored_as.as_bytes()).as_bytes();
        Self { name, id: MapId([a, b, c, d, e, f, g, h]) }
    }

    /// The map of a home: its identities, names, keys, providers, tallies and day rows.
    #[must_use]
    pub fn home(home: &Domain) -> Self {
        let name = alloc::format!("home/{home}");
        Self::new(name.clone(), &name)
    }

    /// The map of an operator's statements about providers.
    #[must_use]
    pub fn statements(operator: &Domain) -> Self {
        let name = alloc::format!("statements/{operator}");
        Self::new(name.clone(), &name)
    }

    /// The map of an operator's claims: revocations of keys whose home another log carries.
    #[must_use]
    pub fn claims(operator: &Domain) -> Self {
        let name = alloc::format!("claims/{operator}");
        Self::new(name.clone(), &name)
    }

    /// The map with a log's own row: named `log` in its state root, stored as `log/<operator>/<generation>`.
    #[must_use]
    pub fn log(log: &LogId) -> Self {
        Self::new("log".to_string(), &alloc::format!("log/{log}"))
    }

    /// The map's name in the state root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The map's id in storage.
    #[must_use]
    pub const fn id(&self) -> MapId {
        self.id
    }
}

impl MapId {
    /// The id under which the records of one level of the map's nodes are stored; of level 0, the rows themselves.
    #[must_use]
    pub fn level(self, level: u8) -> Self {
        if level == 0 {
            return self;
        }
        let [a, b, c, d, e, f, g, h] = self.0;
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&[a, b, c, d, e, f, g, h, level]).as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }

    /// The ids of the rows and of all records of the map's nodes.
    pub fn levels(self) -> impl Iterator<Item = Self> {
        (0..=LEVEL_MAX).chain([TOP_LEVEL]).map(move |level| self.level(level))
    }
}

/// A source of rows. The keys of one map are ordered by their bytes.
pub trait Rows {
    /// A failure of the storage; never the fault of the author of a row.
    type Error;

    /// The value at `key`.
    ///
    /// # Errors
    /// The storage's own error.
    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Calls `each` with every row whose key begins with `prefix`, in order, until `each` breaks.
    ///
    /// # Errors
    /// The storage's own error.
    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// A hint: whether to look below `prefix` first, when several maps may answer the same question.
    ///
    /// Every answer is correct. If the rows read must be proven, a good answer makes the proof shorter.
    ///
    /// # Errors
    /// The storage's own error.
    fn is_likely(&self, _map: MapId, _prefix: &[u8]) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Rows with the records of the map's nodes next to them, so that a map need not be in memory.
pub trait StoredRows: Rows {
    /// Calls `each` with every row of `map`, or every record at another level of its nodes, from the key `from` on in
    /// order, until `each` breaks.
    ///
    /// # Errors
    /// The storage's own error.
    fn scan_from(
        &self,
        map: MapId,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Loads nodes of `map`, in their order: one by one, or several at a time.
    ///
    /// # Errors
    /// Those of [`MissingNode::load`].
    fn load_all<'k>(
        &self,
        map: MapId,
        missing: &[MissingNode<'k>],
    ) -> Result<Vec<LoadedNode<'k>>, NodeError<Self::Error>>
    where
        Self: Sized,
    {
        missing.iter().map(|node| node.load(&MapNodes(map, self))).collect()
    }
}

/// The rows and records of one map.
pub struct MapNodes<'a, S>(pub MapId, pub &'a S);

impl<S: StoredRows> NodeSource for MapNodes<'_, S> {
    type Error = S::Error;

    fn scan_from(
        &self,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        self.1.scan_from(self.0, level, from, each)
    }

    fn load_all<'k>(&self, missing: &[MissingNode<'k>]) -> Result<Vec<LoadedNode<'k>>, NodeError<S::Error>> {
        self.1.load_all(self.0, missing)
    }
}

/// Why rows could not be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError<E> {
    /// The storage failed.
    #[error("{0}")]
    Storage(E),
    /// A stored value does not decode or fit: the disk or this program is broken.
    #[error("a stored row is broken: {0}")]
    Broken(CodecError),
    /// The rows of a state map are not those that its records name: the disk or this program is broken.
    #[error("the rows of a state map differ from its stored nodes")]
    Torn,
}

impl<E> From<NodeError<E>> for RowError<E> {
    fn from(error: NodeError<E>) -> Self {
        match error {
            NodeError::Storage(error) => Self::Storage(error),
            NodeError::Torn | NodeError::Map(_) => Self::Torn,
        }
    }
}

/// A kind of row: a tag and a key type for the value type that implements it.
pub trait Row: Encode + Decode<()> {
    /// First byte of the key.
    const TAG: u8;
    /// The rest of the key, of fixed length.
    type Key: RowKey;
}

/// The fixed-length part of a key after the tag.
pub trait RowKey {
    /// Appends the key's bytes to `out`; their order is the order of the rows.
    fn write(&self, out: &mut Vec<u8>);
}

impl RowKey for () {
    fn write(&self, _: &mut Vec<u8>) {}
}

impl RowKey for EventId {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl RowKey for [u8; 32] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl RowKey for KeyHash {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl RowKey for u32 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl RowKey for Day {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl<A: RowKey, B: RowKey> RowKey for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
}

impl<A: RowKey, B: RowKey, C: RowKey> RowKey for (A, B, C) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
        self.2.write(out);
    }
}

impl<A: RowKey, B: RowKey, C: RowKey, D: RowKey> RowKey for (A, B, C, D) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
        self.2.write(out);
        self.3.write(out);
    }
}

/// The whole key of a row: the tag, then the bytes of `key`.
pub fn row_key<R: Row>(key: &R::Key) -> Vec<u8> {
    prefix::<R>(key)
}

/// The prefix of the keys of all rows of kind `R` whose key begins with `part`.
pub fn prefix<R: Row>(part: &impl RowKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(105);
    bytes.push(R::TAG);
    part.write(&mut bytes);
    bytes
}

/// BLAKE3 of a text: keys contain this instead of the string.
#[must_use]
pub fn text_key(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// How many times something happened on one UTC day, by the entries' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct DayCounter {
    /// The day, as days since 1970.
    pub day: u32,
    /// The number of times on that day.
    pub count: u32,
}

impl DayCounter {
    /// The count for `day`: 0 unless it is the counter's day.
    #[must_use]
    pub const fn on(&self, day: Day) -> u32 {
        if self.day == day.0 { self.count } else { 0 }
    }

    /// The counter after one more on `day`; a different day, earlier or later, starts at 1.
    #[must_use]
    pub const fn counted(&self, day: Day) -> Self {
        Self { day: day.0, count: self.on(day).saturating_add(1) }
    }
}

/// Whether the current key of an identity is valid in its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Status {
    /// Not revoked in its home.
    Active,
    /// Revoked in its home.
    Revoked,
}

/// Row `identity`, in a home's map: id → this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The identity's name in its home.
    pub name: Name,
    /// The current key's version.
    pub version: u32,
    /// Status of the current key.
    pub status: Status,
    /// Rotations applied per day.
    pub rotations: DayCounter,
}

/// When and why a key was revoked in its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    /// The time of the revocation's entry.
    pub time: Millis,
    /// The reason that the revocation gives.
    pub reason: RevokeReason,
}

/// Row `version`, in a home's map: (identity, version) → this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyVersion {
    /// The public key of this version.
    pub key: PublicKey,
    /// The time of the entry that introduced the key.
    pub time: Millis,
    /// Commitment to the next key.
    pub next: Option<KeyHash>,
    /// The key's revocation in its home, if any.
    pub revoked: Option<Revocation>,
}

/// Row `name`, in a home's map: BLAKE3 of the name → the identity with that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NameOwner(pub IdentityId);

/// Row `key`, in a home's map: BLAKE3 of the key's text → the identity that has or had the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyOwner(pub IdentityId);

/// Row `provider`, in a home's map: id → this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Provider {
    /// The number of the provider's next attestation or retraction.
    pub next: u64,
    /// Attestations applied per day.
    pub attestations: DayCounter,
    /// Retractions applied per day.
    pub retractions: DayCounter,
}

/// Row `tally`, in a home's map: (subject, provider) → this. Retractions are summed separately, never subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Tally {
    /// Sum of the effective deltas of all applied attestations, including those retracted later.
    pub sum: i64,
    /// The number of those attestations.
    pub count: u64,
    /// Sum of the effective deltas of the retracted attestations.
    pub retracted_sum: i64,
    /// The number of retracted attestations.
    pub retracted_count: u64,
}

/// One attestation in a day row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attested {
    /// Its number in the provider's sequence of attestations and retractions.
    pub number: u64,
    /// The id of its event.
    pub event: EventId,
    /// The effective delta: what the day's cap left of the delta. Never 0.
    pub effective: i32,
    /// The number of its retraction in the same sequence, if it was retracted.
    pub retraction: Option<u64>,
}

/// Row `day`, in a home's map: (subject, provider, UTC day of `created`) → that day's attestations in log order.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct DayRow(pub Vec<Attested>);

/// Row `home`, the only one of its kind in a home's map: the home's registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct HomeRow {
    /// Registrations applied per day.
    pub registrations: DayCounter,
}

/// Row `subject`, in a home's map: subject → how many of the home's providers began with it. The join never reads it.
///
/// Whoever reads the subject's karma reads all of its tallies, so one home cannot add to them without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct SubjectRow {
    /// New tallies per day.
    pub providers: DayCounter,
}

/// Row `claim`, in a claims map: (identity, version, SHA-256 of the key's text, SHA-256 of the signer's text) → the
/// first such claim.
///
/// SHA-256, because the signer may have to match a version's `next`, which is a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// The reason that the claim gives.
    pub reason: RevokeReason,
    /// The time of the claim's entry.
    pub time: Millis,
    /// The generation of the log that has the entry.
    pub generation: u32,
    /// The index of the entry in that log.
    pub index: u64,
}

/// Numbers from `start` up to but not including `end`; without `end`, all numbers from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Interval {
    /// The first number of the interval.
    pub start: u64,
    /// The first number after the interval; `None` if it has no end.
    pub end: Option<u64>,
}

/// Row `statement`, in an operator's statements map: (provider, BLAKE3 of the service, BLAKE3 of the domain) →
/// which of the provider's numbers the operator sponsors.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The service that the provider is sponsored for.
    pub service: Service,
    /// The domain of the service.
    pub domain: Domain,
    /// The provider's sponsored numbers: sorted, disjoint, not touching.
    pub intervals: Vec<Interval>,
    /// `created` of the last applied statement.
    pub created: Millis,
    /// Statements applied per day.
    pub statements: DayCounter,
}

/// Row `grant`, in a home's map: (issuer, subject, BLAKE3 of the scope) → whether the issuer lets the subject do that.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Grant {
    /// What the subject may do at the issuer's service.
    pub scope: Scope,
    /// Whether the grant stands: the newest statement is a grant.
    pub stands: bool,
    /// When the grant ends, by the clock of whoever reads it.
    pub expires: Option<Millis>,
    /// `created` of the newest statement.
    pub created: Millis,
}

impl Grant {
    /// Whether the grant stands and has not ended by a clock that shows `now`.
    #[must_use]
    pub fn is_good(&self, now: Millis) -> bool {
        self.stands && self.expires.is_none_or(|expires| now < expires)
    }
}

/// Row `issuer`, in a home's map: id → how often the identity granted. The join never reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Issuer {
    /// Grants applied per day, and withdrawals of what did not stand.
    pub grants: DayCounter,
}

/// Row `suspension`, in an operator's statements map: identity → whether the operator speaks against its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Suspension {
    /// What stands; `None` once the operator took it back.
    pub standing: Option<Suspended>,
    /// `created` of the newest statement.
    pub created: Millis,
    /// Statements applied per day.
    pub statements: DayCounter,
}

/// An operator's word against an identity's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Suspended {
    /// The time of the entry since which it stands without a break.
    pub since: Millis,
    /// The reason of the newest statement.
    pub reason: SuspendReason,
}

/// Row `log`, the only row in the map that [`MapName::log`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogRow {
    /// The manifest version adopted last.
    pub version: u32,
    /// The time of the last entry.
    pub time: Millis,
    /// The UTC day of that time.
    pub day: Day,
    /// Bytes counted for that day: every encoded entry except state entries, plus 1,024 for each named note.
    pub bytes: u64,
}

macro_rules! rows {
    ($($tag:literal $row:ty: $key:ty;)*) => {$(
        impl Row for $row {
            const TAG: u8 = $tag;
            type Key = $key;
        }
    )*};
}

rows! {
    1 Identity: IdentityId;
    2 KeyVersion: (IdentityId, u32);
    3 NameOwner: [u8; 32];
    4 KeyOwner: [u8; 32];
    5 Provider: IdentityId;
    6 Tally: (IdentityId, IdentityId);
    7 DayRow: (IdentityId, IdentityId, Day);
    8 HomeRow: ();
    9 Claim: (IdentityId, u32, KeyHash, KeyHash);
    10 SubjectRow: IdentityId;
    11 Statement: (IdentityId, [u8; 32], [u8; 32]);
    12 LogRow: ();
    13 Grant: (IdentityId, IdentityId, [u8; 32]);
    14 Issuer: IdentityId;
    15 Suspension: IdentityId;
}

/// Reads one row; `None` if it does not exist.
///
/// # Errors
/// [`RowError`]: the storage failed, or the stored value is broken.
pub fn read<R: Row, S: Rows>(rows: &S, map: MapId, key: &R::Key) -> Result<Option<R>, RowError<S::Error>> {
    let bytes = rows.get(map, &row_key::<R>(key)).map_err(RowError::Storage)?;
    bytes.map(|bytes| decode_row(&bytes)).transpose()
}

/// Decodes a stored value of at most [`ROW_BYTES_MAX`] bytes.
///
/// # Errors
/// [`RowError::Broken`] if the bytes are no encoded `R`.
pub fn decode_row<R: Row, E>(bytes: &[u8]) -> Result<R, RowError<E>> {
    codec::decode_written(bytes, ROW_BYTES_MAX).map_err(RowError::Broken)
}

/// Collects at most `max` rows of kind `R` whose keys begin with `prefix`, each with the rest of its key.
///
/// # Errors
/// As for [`read`].
pub fn collect<R: Row, S: Rows>(
    rows: &S,
    map: MapId,
    prefix: &[u8],
    max: usize,
) -> Result<Vec<(Vec<u8>, R)>, RowError<S::Error>> {
    let mut found = Vec::new();
    let mut broken = Ok(());
    rows.scan(map, prefix, &mut |key, value| {
        match decode_row(value) {
            Ok(row) => found.push((key.get(prefix.len()..).unwrap_or_default().to_vec(), row)),
            Err(error) => broken = Err(error),
        }
        if broken.is_err() || found.len() >= max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(RowError::Storage)?;
    broken.map(|()| found)
}

/// Changed rows by map and key: the new value, or `None` for a removal.
pub type Changes = BTreeMap<(MapId, Vec<u8>), Option<Vec<u8>>>;

/// Changed records of maps' nodes, by the id that they are stored under and their key.
pub type NodeChanges = BTreeMap<(MapId, Vec<u8>), RecordChange>;

/// Base rows with pending changes on top, so that each entry of a batch sees the effects of the earlier ones. Reads each
/// row of the base once, and keeps it as long as it lives: make one for a batch, or for few.
pub struct Overlay<'a, S> {
    base: &'a S,
    changes: Changes,
    read: RefCell<Changes>,
}

impl<'a, S: Rows> Overlay<'a, S> {
    /// An overlay without changes.
    pub const fn new(base: &'a S) -> Self {
        Self { base, changes: BTreeMap::new(), read: RefCell::new(BTreeMap::new()) }
    }

    /// Writes one row to the changes; the base stays as it is.
    pub fn put<R: Row>(&mut self, map: MapId, key: &R::Key, row: &R) {
        self.changes.insert((map, row_key::<R>(key)), Some(codec::encode(row)));
    }

    /// Adds further changes; they override the earlier ones.
    pub fn absorb(&mut self, changes: &Changes) {
        self.changes.extend(changes.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    /// The pending changes, to be written to the base, and what was read of it: the rows with the values before them.
    pub fn into_changes(self) -> (Changes, Changes) {
        (self.changes, self.read.into_inner())
    }
}

impl<S: Rows> Rows for Overlay<'_, S> {
    type Error = S::Error;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, S::Error> {
        let row = (map, key.to_vec());
        if let Some(value) = self.changes.get(&row) {
            return Ok(value.clone());
        }
        if let Some(value) = self.read.borrow().get(&row) {
            return Ok(value.clone());
        }
        let value = self.base.get(map, key)?;
        self.read.borrow_mut().insert(row, value.clone());
        Ok(value)
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut merged = BTreeMap::new();
        self.base.scan(map, prefix, &mut |key, value| {
            merged.insert(key.to_vec(), Some(value.to_vec()));
            ControlFlow::Continue(())
        })?;
        let from = (map, prefix.to_vec());
        let changed = self.changes.range(from..).take_while(|((m, key), _)| *m == map && key.starts_with(prefix));
        merged.extend(changed.map(|((_, key), value)| (key.clone(), value.clone())));
        for (key, value) in &merged {
            let Some(value) = value else { continue };
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl<S: StoredRows> StoredRows for Overlay<'_, S> {
    /// Of the base: what pending changes are below is in memory until it is written.
    fn load_all<'k>(
        &self,
        map: MapId,
        missing: &[MissingNode<'k>],
    ) -> Result<Vec<LoadedNode<'k>>, NodeError<Self::Error>> {
        self.base.load_all(map, missing)
    }

    fn scan_from(
        &self,
        map: MapId,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let stored = map.level(level);
        let changed = self.changes.range((stored, from.to_vec())..).take_while(|((of, _), _)| *of == stored);
        let mut changed = changed.map(|((_, key), value)| (key.as_slice(), value.as_deref())).peekable();
        let mut ended = false;
        self.base.scan_from(map, level, from, &mut |key, value| {
            let mut step = ControlFlow::Continue(());
            let mut hidden = false;
            while let Some((at, new)) = changed.next_if(|(at, _)| *at <= key)
                && step.is_continue()
            {
                hidden |= at == key;
                step = new.map_or(ControlFlow::Continue(()), |new| each(at, new));
            }
            if step.is_continue() && !hidden {
                step = each(key, value);
            }
            ended = step.is_break();
            step
        })?;
        while let Some((key, value)) = changed.next()
            && !ended
        {
            ended = value.is_some_and(|value| each(key, value).is_break());
        }
        Ok(())
    }
}

/// Rows in memory: for tests, simulations and auditors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRows(BTreeMap<(MapId, Vec<u8>), Vec<u8>>);

impl MemoryRows {
    /// Applies changes.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
    }

    /// Adds a row; returns the value that it replaces.
    pub(crate) fn insert(&mut self, map: MapId, key: Vec<u8>, value: Vec<u8>) -> Option<Vec<u8>> {
        self.0.insert((map, key), value)
    }

    /// All rows, ordered by map and key.
    pub fn iter(&self) -> impl Iterator<Item = (&(MapId, Vec<u8>), &Vec<u8>)> {
        self.0.iter()
    }
}

impl Rows for MemoryRows {
    type Error = core::convert::Infallible;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(&(map, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        for ((m, key), value) in self.0.range((map, prefix.to_vec())..) {
            if *m != map || !key.starts_with(prefix) || each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl StoredRows for MemoryRows {
    fn scan_from(
        &self,
        map: MapId,
        level: u8,
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        let stored = map.level(level);
        for ((of, key), value) in self.0.range((stored, from.to_vec())..) {
            if *of != stored || each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
