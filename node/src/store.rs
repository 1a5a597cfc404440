//! Everything durable: one RocksDB, its column families and key layout.
//!
//! ```text
//! family   key                                                value
//! meta     "format"                                           u32, FORMAT
//!          "federation"                                       federation id
//!          "used"                                             u32, newest manifest version in use; absent: 1
//!          "rebuild"                                          what follows from entries has to be made anew
//!          "stand" log8                                       Stand: a second copy
//!          "quick", "offer" log8, "parts" log8                only of a quick state
//! logs     log8 0x00                                          LogState: size, root and state root of the copy
//!          log8 0x01                                          u64, entries below a certified head
//!          log8 0x02                                          list of Adopted: versions and where
//!          log8 0x03                                          LogState: where the copy begins, only of a quick state
//! entries  log8 index                                         encoded entry
//! tiles    log8 level:u8 index                                1 to 256 hashes, 32 bytes each
//! rows     map id:8 row key                                   row: the state maps, in the maps' order
//! events   event id log8                                      (index, void): first applied entry, else first void one
//! history  identity kind:u8 time operator 0x00 gen:u32 index  empty; in the order of HistoryItem
//! touched  kind:u8 identity log8                              u64, newest index
//! given    provider subject                                   empty
//! notes    note hash                                          NoteAnswer
//! wanted   note hash                                          empty: an entry names it, its text is not here
//! heads    log8                                               SignedHead: the owner's largest
//!          log8 0x00                                          SignedHead: one on another branch, if there is one
//!          log8 0x01                                          Equivocation: proof that its owner signed two branches
//!          log8 0x02                                          Certificate: the largest that a quorum cosigned on one note
//!          log8 operator "/" generation                       CosignedHead: the newest by that node key
//! manifests 0x00 version:u32                                  text of a valid version, the genesis too
//!          0x01 log8                                          Stand
//!          0x02                                               another valid text of a version that is held
//! dropped  event id                                           encoded entry of a branch that was left
//! ```
//!
//! `log8`: the first 8 bytes of the BLAKE3 of `<operator>/<generation>`. Integers in keys are
//! big-endian, u64 where nothing is said; ids and hashes are 32 bytes. Values are in the ledger's
//! strict codec. All families but `meta`, `logs`, `entries`, `notes`, `heads`, `manifests`
//! and `dropped` follow from `entries`. RocksDB numbers the families in this order, in every
//! database: a new one comes last.
//!
//! A [`Store::commit`] is one write batch: after a crash all of it is there or nothing.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fama_ledger::adoption::Adopted;
use fama_ledger::checkpoint::Cosignature;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::{Outcome, Void};
use fama_ledger::id::{FederationId, NoteHash};
use fama_ledger::join::LogState;
use fama_ledger::log::TileWrite;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::replica;
use fama_ledger::rows::Changes;
use fama_ledger::time::Millis;

mod compare;
mod engine;
mod keys;
mod manifests;
mod open;
mod options;
mod read;
mod salvage;
mod scrub;
#[doc(hidden)]
pub mod simulated;
mod state_sync;
#[cfg(test)]
mod tests;
mod write;

pub use manifests::{Dropped, StoredStand};
pub use read::{LogTiles, View};
pub use scrub::{ScrubCursor, TreeCursor};
pub use state_sync::Part;

use crate::wire::SignedHead;
use engine::{Engine, WriteBatch};
use keys::Log8;

/// What a repair adds to a folder's name for the one that it builds, and for those that it keeps.
pub const REPAIR_ENDINGS: [&str; 2] = [".rebuilt", ".damaged-"];

/// How long a stopping node waits for requests that still read its database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Version of the layout above. A node opens no other.
pub const FORMAT: u32 = 2;

/// Why the store could not do it. After any failed write the node stops: what was written is known
/// again only when the store is opened anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder open, or this one has twice.
    #[error("{dir} is in use by another node; stop that one first, or give this one a folder of its own")]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder belongs to another federation.
    #[error("{dir} holds the federation {found}, not {wanted}; use the folder or the manifest that belongs to it")]
    Federation {
        /// The folder.
        dir: PathBuf,
        /// Whose data it holds.
        found: FederationId,
        /// The manifest's.
        wanted: FederationId,
    },
    /// The folder is gone, and what a repair works with lies beside it.
    #[error(
        "{dir} is missing, but {beside} is there: a repair was cut off; rename that to it, or make the folder to \
             begin with an empty one"
    )]
    HalfRepaired {
        /// The folder.
        dir: PathBuf,
        /// The rebuilt one, else the one kept.
        beside: PathBuf,
    },
    /// The folder was written by another version of this program.
    #[error(
        "{dir} has storage format {found}, this program knows {wanted} only; use the version that wrote it, \
             or an empty folder that is filled from peers"
    )]
    Format {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// [`FORMAT`].
        wanted: u32,
    },
    /// A folder with a quick state where a node's own copies belong, or the other way round.
    #[error(
        "{dir} was meant for something else: a node's own copies and its quick state don't stand in for one another; \
             name the folder that belongs here, or remove this one if it is a quick state"
    )]
    Quick {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no database in the folder.
    #[error("{dir} holds no data of a node")]
    NoData {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder does not say which federation's it is.
    #[error("{dir} holds no manifest; start its node once, or name its configuration instead of the folder")]
    NoManifest {
        /// The folder.
        dir: PathBuf,
    },
    /// What follows from the entries is not there at the moment.
    #[error("{dir} was left while it was made anew; start its node once")]
    NeedsRebuild {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds another text of a manifest's version than the configuration.
    #[error(
        "{dir} holds another version {version} of the manifest than the configuration; find out which one is yours"
    )]
    Manifest {
        /// The folder.
        dir: PathBuf,
        /// The version.
        version: u32,
    },
    /// The folder has a version of the manifest in use whose text it has lost.
    #[error(
        "{dir}: version {version} of the manifest is in use, but cannot be read; put a chain of versions that has it \
             in the place of the configured `manifest`: `GET /api/federation/manifests` of any node gives one"
    )]
    ManifestLost {
        /// The folder.
        dir: PathBuf,
        /// The version.
        version: u32,
    },
    /// The disk, its file system or the database's files are not in order.
    #[error(
        "{dir}: {message}; check disk, free space and permissions; if files are damaged, keep a copy of the \
             folder, then `fama check --repair`; what that cannot read is restored from a backup, or begun anew with \
             an empty folder that is filled from peers"
    )]
    Database {
        /// The folder.
        dir: PathBuf,
        /// What RocksDB or the operating system says.
        message: String,
    },
    /// The database could not be copied, to look at the copy: nothing is known of it.
    #[error(
        "{dir} could not be copied beside itself: {message}; check disk, free space and permissions; a file that cannot \
             be read is a failing disk: move the folder to another one, without that file, then `fama check --repair`"
    )]
    Copy {
        /// The folder.
        dir: PathBuf,
        /// What the operating system says.
        message: String,
    },
    /// Parts of a log contradict one another: something was lost or changed on disk.
    #[error(
        "{dir}: log {log}: {what}; keep a copy of the folder, then `fama check --repair`: peers bring what is missing"
    )]
    Inconsistent {
        /// The folder.
        dir: PathBuf,
        /// The log.
        log: LogId,
        /// What contradicts what.
        what: String,
    },
    /// A batch that does not follow the stored log, or of a log that the manifest lacks. Nothing was written.
    #[error("log {log}: {what}")]
    Misfit {
        /// The log.
        log: LogId,
        /// What does not fit.
        what: String,
    },
}

impl StoreError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::Federation { .. } => "store_federation",
            Self::HalfRepaired { .. } => "store_half_repaired",
            Self::Format { .. } => "store_format",
            Self::Quick { .. } => "store_quick",
            Self::NoData { .. } => "no_data",
            Self::NoManifest { .. } => "store_no_manifest",
            Self::NeedsRebuild { .. } => "store_rebuild",
            Self::Manifest { .. } => "store_manifest",
            Self::ManifestLost { .. } => "store_manifest_lost",
            Self::Database { .. } => "database",
            Self::Copy { .. } => "store_copy",
            Self::Inconsistent { .. } => "store_inconsistent",
            Self::Misfit { .. } => "store_misfit",
        }
    }
}

/// The open database. One process at a time; any number of threads.
pub struct Store {
    engine: Engine,
    dir: PathBuf,
    manifest: Arc<Manifest>,
    pending: Option<Arc<Manifest>>,
    logs: BTreeMap<Log8, LogId>,
    /// Held from the first read to the end of each write, so that none overtakes another.
    writing: Mutex<()>,
    /// What failed first, wherever it was noticed.
    failed: OnceLock<StoreError>,
}

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

/// A head that a quorum cosigned, with all cosignatures of it that are known.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StoredCertificate {
    /// The head, signed by the log's owner.
    pub signed: SignedHead,
    /// Its cosignatures, each by the node key of that generation of an operator's log.
    pub cosignatures: Vec<(LogId, Cosignature)>,
}

impl StoredCertificate {
    /// What is stored of a verified certificate.
    #[must_use]
    pub fn of(certificate: replica::Certificate) -> Self {
        let signed = SignedHead::of(&certificate.signed);
        Self { signed, cosignatures: certificate.cosignatures.into_iter().collect() }
    }

    /// Checks all signatures; `None` if one does not hold. Whether they are enough, the replica says.
    #[must_use]
    pub fn verify(self, manifest: &Manifest, log: &LogId) -> Option<replica::Certificate> {
        let signed = self.signed.verify(manifest, log).ok()?;
        let holds = |by: &LogId, cosignature: &Cosignature| {
            let known = manifest.log(by).filter(|_| cosignature.operator == by.operator)?;
            cosignature.verify(signed.checkpoint(), &known.node_key).ok()
        };
        let hold = self.cosignatures.iter().all(|(by, cosignature)| holds(by, cosignature).is_some());
        hold.then(|| replica::Certificate {
            signed: signed.clone(),
            cosignatures: self.cosignatures.into_iter().collect(),
        })
    }
}

/// How far a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Size, root and state root of this node's copy.
    pub state: LogState,
    /// Entries below a certified head.
    pub certified: u64,
    /// The versions that it adopted, in order.
    pub adopted: Vec<Adopted>,
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
    /// Opens or creates the database in `dir`, which is the store's alone, and checks cheaply that
    /// each log's record, last entry and tree agree. `manifest` is the genesis, or more of the chain; what is
    /// used is [`Store::manifest`].
    ///
    /// # Errors
    /// [`StoreError`]; none changes the data.
    pub fn open(dir: &Path, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open(dir, manifest)
    }

    /// Opens an existing database by the manifest that it holds itself: to read it without its configuration.
    ///
    /// # Errors
    /// As [`Store::open`], or that it holds no manifest.
    pub fn open_alone(dir: &Path) -> Result<Self, StoreError> {
        open::open_alone(dir)
    }

    /// Opens an existing database without the cheap check: to find out what is wrong with it.
    ///
    /// # Errors
    /// As [`Store::open`], but for what only that check finds.
    pub fn open_unchecked(dir: &Path, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open_unchecked(dir, manifest)
    }

    /// As [`Store::open`], on a simulated disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[doc(hidden)]
    pub fn open_simulated(disk: &simulated::Disk, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open_simulated(disk.clone(), manifest)
    }

    /// As [`Store::open_unchecked`], but opens a copy made at `copy`, in the place of whatever is there, and leaves
    /// `dir` as it is. The copy is not needed any more once the store is closed.
    ///
    /// # Errors
    /// As [`Store::open_unchecked`].
    pub fn open_copy(dir: &Path, copy: &Path, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open_copy(dir, copy, manifest)
    }

    /// As [`Store::open_copy`], of what is left of a damaged database, to rebuild another from it: damaged tables and
    /// records of its write-ahead log are left out instead of refused. Gives also what was left out and what could
    /// not be read of the versions of the manifest, in words; `manifest` may have them.
    ///
    /// # Errors
    /// As [`Store::open_unchecked`], where nothing can be read at all.
    pub fn open_damaged(dir: &Path, copy: &Path, manifest: &Arc<Manifest>) -> Result<(Self, Vec<String>), StoreError> {
        open::open_damaged(dir, copy, manifest)
    }

    /// Refuses a database that another process has open at this moment, whatever its state.
    ///
    /// # Errors
    /// [`StoreError::Locked`].
    pub fn check_unused(dir: &Path) -> Result<(), StoreError> {
        open::check_unused(dir)
    }

    /// Whether `dir` has something of a database, damaged or not.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        open::is_there(dir)
    }

    /// A consistent view: all reads see the same moment. Keep it short: it holds old data on disk.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// What failed first since the store was opened, in whatever thread, or in the background of the
    /// database. Once there is something the node must stop: no more of this folder is to be trusted.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        if self.failed.get().is_none() {
            let failed = self.engine.background_failure();
            let _ = failed.map(|failure| self.database(&failure));
        }
        self.failed.get().cloned()
    }

    /// Keeps what failed, if nothing did before.
    fn keep_failure(&self, error: StoreError) -> StoreError {
        let _ = self.failed.set(error.clone());
        error
    }

    fn batch(&self) -> WriteBatch<'_> {
        self.engine.batch()
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn database(&self, message: &impl ToString) -> StoreError {
        self.keep_failure(StoreError::Database { dir: self.dir.clone(), message: message.to_string() })
    }

    pub(crate) fn inconsistent(&self, log: &LogId, what: &impl ToString) -> StoreError {
        let what = what.to_string();
        self.keep_failure(StoreError::Inconsistent { dir: self.dir.clone(), log: log.clone(), what })
    }
}

/// Waits until nobody uses the database any more, so that its folder is free when the node has stopped.
/// Requests on their way when the node was told to stop still hold it, none for long. It is closed here and not by
/// whoever is last to let go of it: closing takes a moment in which nobody holds it any more.
pub async fn close(mut store: Arc<Store>) {
    let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
    while tokio::time::Instant::now() < deadline {
        match Arc::try_unwrap(store) {
            Ok(store) => {
                let _ = tokio::task::spawn_blocking(move || drop(store)).await;
                return;
            }
            Err(held) => store = held,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tracing::warn!("the database is still in use");
}
