//! Everything durable: one RocksDB, its column families and key layout.
use std::ops::ControlFlow;
use std::path::Path;

use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::{Outcome, Void};
use fama_ledger::id::{EventId, IdentityId, NoteHash};
use fama_ledger::join::LogState;
use fama_ledger::log::{Hash, TileWrite, Tiles};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::rows::{Changes, MapId, Rows};
use fama_ledger::time::Millis;

use crate::network::wire::{CosignedHead, NoteAnswer, SignedHead};

/// Why the store could not do it. After any failed write the node stops.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SKELETON
    #[error("skeleton")]
    Skeleton,
}

/// The open database. One process at a time.
pub struct Store {}

/// One batch of one log, to be written at once.
pub struct Commit<'a> {
    /// The log behind the batch.
    pub state: LogState,
    /// Index of the first entry.
    pub first: u64,
    /// The batch, state entry included.
    pub entries: &'a [VerifiedEntry],
    /// What became of each entry but the last; adoptions have no outcome.
    pub outcomes: &'a [Option<Outcome>],
    /// Changed tiles.
    pub tiles: Vec<TileWrite>,
    /// Changed rows.
    pub changes: &'a Changes,
    /// Notes that came along, by their hash; those that no entry names are left out.
    pub notes: &'a [(NoteHash, String)],
}

/// How far a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Size, root and state root of this node's copy.
    pub state: LogState,
    /// Entries below a certified head.
    pub certified: u64,
}

/// Where an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub log: LogId,
    /// The entry's index.
    pub index: u64,
    /// Why it has no effect; `None`: applied.
    pub void: Option<Void>,
}

/// What a history lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Registrations, rotations, revocations and claims of an identity; applied ones.
    Keys,
    /// Attestations and retractions that an identity got; applied ones.
    Received,
    /// Attestations and retractions that a provider made; applied ones.
    Given,
}

/// One line of a history. Order: (time, operator, index).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryItem {
    /// The entry's time.
    pub time: Millis,
    /// Its log.
    pub log: LogId,
    /// Its index.
    pub index: u64,
}

/// What a newest change was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Rows of the identity itself: keys, claims, attestations it got.
    Subject,
    /// Statements about it as a provider.
    Sponsorship,
}

impl Store {
    /// Opens or creates the database in `dir`.
    pub fn open(_dir: &Path, _manifest: &Manifest) -> Result<Self, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// A consistent view: all reads see the same moment.
    pub fn view(&self) -> View<'_> {
        View { _store: self }
    }

    /// Writes batches in one atomic write, synced before this returns.
    pub fn commit(&self, _commits: &[Commit<'_>]) -> Result<(), StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Keeps the owner's largest known head.
    pub fn put_newest(&self, _log: &LogId, _signed: &SignedHead) -> Result<(), StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Keeps an operator's newest cosigned head and the log's certified size; synced if `durable`.
    pub fn put_cosigned(
        &self,
        _log: &LogId,
        _cosigned: &CosignedHead,
        _certified: u64,
        _durable: bool,
    ) -> Result<(), StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Keeps a certified size that grew without a new cosignature.
    pub fn put_certified(&self, _log: &LogId, _certified: u64) -> Result<(), StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Keeps the texts of notes that entries named.
    pub fn put_notes(&self, _notes: &[(NoteHash, String)]) -> Result<(), StoreError> {
        Err(StoreError::Skeleton)
    }
}

/// The database at one moment.
pub struct View<'a> {
    _store: &'a Store,
}

impl View<'_> {
    /// How far the copy of `log` is; `None` if it is empty.
    pub fn log(&self, _log: &LogId) -> Result<Option<LogRecord>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Encoded entries from `from` on: at least one if there is one, at most `count` and about `bytes`.
    pub fn entries(&self, _log: &LogId, _from: u64, _count: usize, _bytes: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Where an event stands, in the logs' order; several logs may have a revocation.
    pub fn positions(&self, _event: &EventId) -> Result<Vec<Position>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// A history, newest first, at most `limit` lines behind `before`.
    pub fn history(
        &self,
        _identity: &IdentityId,
        _history: History,
        _before: Option<&HistoryItem>,
        _limit: usize,
    ) -> Result<Vec<HistoryItem>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Per log, the index of the newest entry that changed rows of this kind about `identity`.
    pub fn touched(&self, _identity: &IdentityId, _touch: Touch) -> Result<Vec<(LogId, u64)>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Subjects that `provider` ever attested to, in their order, behind `after`.
    pub fn subjects_of(
        &self,
        _provider: &IdentityId,
        _after: Option<&IdentityId>,
        _limit: usize,
    ) -> Result<Vec<IdentityId>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// What is known of a note; `None`: named by no entry, or not fetched yet.
    pub fn note(&self, _hash: &NoteHash) -> Result<Option<NoteAnswer>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Notes that entries name and this node doesn't have yet.
    pub fn wanted_notes(&self, _limit: usize) -> Result<Vec<NoteHash>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// The owner's largest known head.
    pub fn newest(&self, _log: &LogId) -> Result<Option<SignedHead>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// Every operator's newest cosigned head of `log`, in the operators' order.
    pub fn cosigned(&self, _log: &LogId) -> Result<Vec<CosignedHead>, StoreError> {
        Err(StoreError::Skeleton)
    }

    /// The tiles of `log`.
    pub fn tiles<'v>(&'v self, _log: &LogId) -> LogTiles<'v> {
        LogTiles { _view: self }
    }
}

impl Rows for View<'_> {
    type Error = StoreError;

    fn get(&self, _map: MapId, _key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Err(StoreError::Skeleton)
    }

    fn scan(
        &self,
        _map: MapId,
        _prefix: &[u8],
        _each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Skeleton)
    }
}

/// The tiles of one log.
pub struct LogTiles<'v> {
    _view: &'v View<'v>,
}

impl Tiles for LogTiles<'_> {
    type Error = StoreError;

    fn tile(&self, _level: u8, _index: u64) -> Result<Vec<Hash>, StoreError> {
        Err(StoreError::Skeleton)
    }
}
