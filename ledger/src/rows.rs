//! Rows of the state maps: their keys, their values, and where the fold reads and writes them.
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::ControlFlow;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{RevokeReason, Service};
use crate::id::{Domain, EventId, IdentityId, KeyHash, Name};
use crate::key::PublicKey;
use crate::manifest::LogId;
use crate::time::{Day, Millis};

/// Longest value of a row, in bytes: a full day row or the intervals of a statement.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// A state map: its name in the state root, and a short id for storage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapName {
    name: String,
    id: MapId,
}

/// First eight bytes of the BLAKE3 of a map's full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub [u8; 8]);

impl MapName {
    fn new(name: String, stored_as: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(stored_as.as_bytes()).as_bytes();
        Self { name, id: MapId([a, b, c, d, e, f, g, h]) }
    }

    /// Identities, names and tallies of a home.
    #[must_use]
    pub fn home(home: &Domain) -> Self {
        let name = alloc::format!("home/{home}");
        Self::new(name.clone(), &name)
    }

    /// An operator's statements about providers.
    #[must_use]
    pub fn statements(operator: &Domain) -> Self {
        let name = alloc::format!("statements/{operator}");
        Self::new(name.clone(), &name)
    }

    /// Revocations of foreign keys that an operator recorded.
    #[must_use]
    pub fn claims(operator: &Domain) -> Self {
        let name = alloc::format!("claims/{operator}");
        Self::new(name.clone(), &name)
    }

    /// What a log says of itself: `log` in its state root, stored as `log/<operator>/<generation>`.
    #[must_use]
    pub fn log(log: &LogId) -> Self {
        Self::new("log".to_string(), &alloc::format!("log/{log}"))
    }

    /// The name in the state root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The id for storage.
    #[must_use]
    pub const fn id(&self) -> MapId {
        self.id
    }
}

/// Where rows are read. Keys of one map come in their bytes' order.
pub trait Rows {
    /// What reading can fail with; never the fault of who wrote the rows.
    type Error;

    /// The value at `key`.
    ///
    /// # Errors
    /// What the storage says.
    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Shows each row whose key begins with `prefix` to `each`, in order, until it breaks.
    ///
    /// # Errors
    /// What the storage says.
    fn scan(
        &self,
        map: MapId,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// Whether to look below `prefix` first where any of several places may settle a question. Every answer is right;
    /// where what is read has to be proven, a good one makes the proof short.
    ///
    /// # Errors
    /// What the storage says.
    fn is_likely(&self, _map: MapId, _prefix: &[u8]) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Why rows could not be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError<E> {
    /// The storage failed.
    #[error("{0}")]
    Storage(E),
    /// A stored value is not what was written: the disk or this program is broken.
    #[error("a stored row is broken: {0}")]
    Broken(CodecError),
}

/// A kind of row: its tag, its key and the type of its value.
pub trait Row: Encode + Decode<()> {
    /// First byte of the key.
    const TAG: u8;
    /// What follows it, fixed in length.
    type Key: RowKey;
}

/// The fixed-length part of a key behind the tag.
pub trait RowKey {
    /// Appends the bytes.
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

/// The whole key of a row.
pub fn row_key<R: Row>(key: &R::Key) -> Vec<u8> {
    prefix::<R>(key)
}

/// The begin of the keys of all rows of kind `R` whose key begins with `part`.
pub fn prefix<R: Row>(part: &impl RowKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(105);
    bytes.push(R::TAG);
    part.write(&mut bytes);
    bytes
}

/// BLAKE3 of a text: how strings stand in keys.
#[must_use]
pub fn text_key(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// How often something happened on one UTC day of entry time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct DayCounter {
    /// The day, as days since 1970.
    pub day: u32,
    /// How often.
    pub count: u32,
}

impl DayCounter {
    /// How often on `day`.
    #[must_use]
    pub const fn on(&self, day: Day) -> u32 {
        if self.day == day.0 { self.count } else { 0 }
    }

    /// The counter after once more on `day`: another day, earlier or later, starts at 1.
    #[must_use]
    pub const fn counted(&self, day: Day) -> Self {
        Self { day: day.0, count: self.on(day).saturating_add(1) }
    }
}

/// Whether the current key of an identity holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Status {
    /// It does.
    Active,
    /// It was revoked in its home.
    Revoked,
}

/// `identity`: id → this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// Its name in its home.
    pub name: Name,
    /// The current key's version.
    pub version: u32,
    /// Of the current key.
    pub status: Status,
    /// Rotations of the day.
    pub rotations: DayCounter,
}

/// When and why a key was revoked in its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Revocation {
    /// The entry's time.
    pub time: Millis,
    /// Why.
    pub reason: RevokeReason,
}

/// `version`: (identity, version) → this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyVersion {
    /// The key.
    pub key: PublicKey,
    /// The time of the entry that brought it.
    pub time: Millis,
    /// Commits to the key after it.
    pub next: Option<KeyHash>,
    /// Its revocation in its home.
    pub revoked: Option<Revocation>,
}

/// `name`: BLAKE3 of the name → the identity that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NameOwner(pub IdentityId);

/// `key`: BLAKE3 of the key's text → the identity that proved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeyOwner(pub IdentityId);

/// `provider`: id → this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Provider {
    /// The number of its next attestation or retraction.
    pub next: u64,
    /// Attestations of the day.
    pub attestations: DayCounter,
    /// Retractions of the day.
    pub retractions: DayCounter,
}

/// `tally`: (subject, provider) → this. Never netted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Tally {
    /// Sum of the effective deltas of all applied attestations.
    pub sum: i64,
    /// Their number.
    pub count: u64,
    /// Sum of the effective deltas of those that were retracted.
    pub retracted_sum: i64,
    /// Their number.
    pub retracted_count: u64,
}

/// One attestation of a day row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attested {
    /// Its number among all of its provider's.
    pub number: u64,
    /// Its event.
    pub event: EventId,
    /// What of its delta the cap left, not 0.
    pub effective: i32,
    /// The number of its retraction.
    pub retraction: Option<u64>,
}

/// `day`: (subject, provider, UTC day of `created`) → the attestations of that day, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct DayRow(pub Vec<Attested>);

/// `home`: – → registrations of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct HomeRow {
    /// Registrations of the day.
    pub registrations: DayCounter,
}

/// `claim`: (identity, version, SHA-256 of the key's text, SHA-256 of the signer's) → the first one.
///
/// SHA-256, because a version's `next`, which the signer may have to match, is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// Why.
    pub reason: RevokeReason,
    /// The entry's time.
    pub time: Millis,
    /// The log's generation.
    pub generation: u32,
    /// The entry's index.
    pub index: u64,
}

/// In a claims map: – → claims of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct ClaimsRow {
    /// Claims of the day.
    pub claims: DayCounter,
}

/// Numbers from `start` up to, not including, `end`; without `end`, all from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Interval {
    /// The first number.
    pub start: u64,
    /// The first number behind it.
    pub end: Option<u64>,
}

/// `statement`: (provider, BLAKE3 of the service, BLAKE3 of the domain) → what an operator sponsors of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The service.
    pub service: Service,
    /// Its domain.
    pub domain: Domain,
    /// The provider's sponsored numbers: sorted, disjoint, not touching.
    pub intervals: Vec<Interval>,
    /// `created` of the last applied statement.
    pub created: Millis,
    /// Statements of the day.
    pub statements: DayCounter,
}

/// `log`: – → what a log says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LogRow {
    /// The manifest version adopted last.
    pub version: u32,
    /// The last entry's time.
    pub time: Millis,
    /// The UTC day of that time.
    pub day: Day,
    /// Bytes of that day: encoded entries but state entries, and 1,024 per note named.
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
    10 ClaimsRow: ();
    11 Statement: (IdentityId, [u8; 32], [u8; 32]);
    12 LogRow: ();
}

/// Reads one row.
///
/// # Errors
/// [`RowError`]: the storage failed, or holds what nobody wrote.
pub fn read<R: Row, S: Rows>(rows: &S, map: MapId, key: &R::Key) -> Result<Option<R>, RowError<S::Error>> {
    let bytes = rows.get(map, &row_key::<R>(key)).map_err(RowError::Storage)?;
    bytes.map(|bytes| decode_row(&bytes)).transpose()
}

/// Decodes a stored value.
///
/// # Errors
/// [`RowError::Broken`].
pub fn decode_row<R: Row, E>(bytes: &[u8]) -> Result<R, RowError<E>> {
    codec::decode(bytes, ROW_BYTES_MAX).map_err(RowError::Broken)
}

/// Collects the rows of kind `R` below `prefix`, at most `max`, with what follows the prefix in each key.
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

/// Changed rows: `None` is a removal.
pub type Changes = BTreeMap<(MapId, Vec<u8>), Option<Vec<u8>>>;

/// Rows with changes laid over them, so that entries of one batch see one another.
pub struct Overlay<'a, S> {
    base: &'a S,
    changes: Changes,
}

impl<'a, S: Rows> Overlay<'a, S> {
    /// No changes yet.
    pub const fn new(base: &'a S) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Writes one row.
    pub fn put<R: Row>(&mut self, map: MapId, key: &R::Key, row: &R) {
        self.changes.insert((map, row_key::<R>(key)), Some(codec::encode(row)));
    }

    /// Lays further changes over these.
    pub fn absorb(&mut self, changes: &Changes) {
        self.changes.extend(changes.iter().map(|(key, value)| (key.clone(), value.clone())));
    }

    /// The changes.
    pub fn into_changes(self) -> Changes {
        self.changes
    }
}

impl<S: Rows> Rows for Overlay<'_, S> {
    type Error = S::Error;

    fn get(&self, map: MapId, key: &[u8]) -> Result<Option<Vec<u8>>, S::Error> {
        match self.changes.get(&(map, key.to_vec())) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(map, key),
        }
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

/// Rows in memory: for tests, simulations and auditors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRows(BTreeMap<(MapId, Vec<u8>), Vec<u8>>);

impl MemoryRows {
    /// Takes changes over.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
    }

    /// All rows in order.
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
