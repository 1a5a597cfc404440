//! Everything durable: one RocksDB database, its column families and key layout.
//!
//! ```text
//! family   key                                                value
//! meta     "format"                                           u32, FORMAT
//!          "federation"                                       federation id
//!          "used"                                             u32, newest manifest version in use; absent: 1
//!          "rollback"                                         list of Rollback: logs that go back to a smaller size
//!          "stand" log8                                       Stand: a second copy
//!          "day_usage"                                        DayUsage: what the own log took in today, by purpose
//!          "changes"                                          ChangeCounts
//!          "redacted" hash                                    bool: whether the note's text is gone from the disk too
//!          "quick", "offer" log8, "parts" log8                only in a quick state
//! logs     log8 0x00                                          LogState: size, root and state root of the copy
//!          log8 0x01                                          u64, entries below a certified head
//!          log8 0x02                                          list of Adopted: versions and the sizes after them
//!          log8 0x03                                          LogState: where the copy begins, only in a quick state
//! entries  log8 index                                         encoded entry
//! tiles    log8 level:u8 index                                1 to 256 hashes, 32 bytes each
//! rows     map id:8 row key                                   row of a state map, in the map's order
//!          id of the map's level:8 prefix                     record of a node of the map
//! events   event id log8                                      (index, void): first applied entry, else first void one
//! history  identity kind:u8 time operator 0x00 gen:u32 index  empty; in the order of HistoryItem
//! touched  kind:u8 identity log8                              u64, newest index
//! given    provider subject                                   empty
//! notes    note hash                                          NoteAnswer
//! wanted   note hash                                          empty: an entry names the note, its text is not here
//! heads    log8                                               SignedHead: the owner's largest
//!          log8 0x00                                          SignedHead: one on another branch, if there is one
//!          log8 0x01                                          Equivocation: proof that its owner signed two branches
//!          log8 0x02                                          Certificate: the largest head with a quorum on one note
//!          log8 0x03                                          Lateness: when this node heard of the log's entries
//!          log8 operator "/" generation                       CosignedHead: the newest by that node key
//! manifests 0x00 version:u32                                  text of a valid version, the genesis too
//!          0x01 log8                                          Stand
//!          0x02                                               another valid text of a version that is held
//! dropped  event id                                           Dropped: an entry of an abandoned branch
//! webhooks name 0x00 0x00                                     WebhookCursor: how far it was told
//!          name 0x00 0x01 number                              DeadLetter: an event that it did not take
//! search   kind:u8 text 0x00 identity                         empty; the name, a key's text, a key's hash in hex
//! scores   0x00                                               ScoreProgress
//!          0x01                                               Recounting: the provider that is being recounted
//!          0x02 subject                                       KeptScore
//!          0x03 karma:i64, descending, subject                empty: the leaderboard, registered subjects only
//!          0x04 provider                                      Numbers that are sponsored; absent: none
//!          0x05 provider                                      Numbers by which its subjects count until recounted
//! ```
//!
//! `log8`: the first 8 bytes of the BLAKE3 of `<operator>/<generation>`. Integers in keys are
//! big-endian, u64 unless stated otherwise; ids and hashes are 32 bytes. Values use the ledger's
//! strict codec. All families except `meta`, `logs`, `entries`, `notes`, `heads`, `manifests`,
//! `dropped` and `webhooks` are derived from `entries`. RocksDB numbers the families in this order, in every
//! database: a new family goes last.
//!
//! A [`Store::commit`] is one write batch: after a crash, either all of it is there or none.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fama_ledger::adoption::Adopted;
use fama_ledger::checkpoint::Cosignature;
use fama_ledger::entry::VerifiedEntry;
use fama_ledger::fold::{Outcome, Void};
use fama_ledger::id::{Domain, FederationId, NoteHash};
use fama_ledger::join::LogState;
use fama_ledger::log::TileWrite;
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::replica;
use fama_ledger::rows::{Changes, NodeChanges};
use fama_ledger::time::Millis;

mod backup;
mod changed;
mod compare;
mod engine;
mod keys;
mod manifests;
mod open;
mod options;
mod read;
mod redact;
mod renewed;
mod rollback;
mod salvage;
mod scores;
mod scrub;
#[doc(hidden)]
pub mod simulated;
mod state_sync;
mod swap;
#[cfg(test)]
mod tests;
mod used;
mod webhooks;
mod write;

pub use backup::{BackupLock, checkpoint_folder, remove_checkpoint, remove_stale_checkpoint};
pub use manifests::{Dropped, StoredStand};
pub use read::{LogTiles, View};
pub use rollback::{DroppedEntry, Rollback, RollbackStep, RolledBack};
pub use scores::{ScoreProgress, ScoreStep};
pub use scrub::{ScrubCursor, TreeCursor};
pub use state_sync::Part;
pub use used::UsedKey;
pub use webhooks::{DEAD_MAX, DeadLetter, WebhookCursor};

use crate::config::StoreSettings;
use crate::wire::SignedHead;
use engine::{Engine, WriteBatch};
use keys::Log8;

/// Suffixes of the folders next to a repaired one: the rebuilt database, and the damaged ones that are kept.
pub const REPAIR_ENDINGS: [&str; 2] = [".rebuilt", ".damaged-"];

/// How long a stopping node waits for requests that still read its database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Version of the layout above. A node opens no other version.
pub const FORMAT: u32 = 6;

/// Why a store operation failed. After any failed write the node stops: only reopening the store shows
/// what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder open, or this process opened it twice.
    #[error("{dir} is in use by another node; stop that one first, or give this one a folder of its own")]
    Locked {
        /// The data folder.
        dir: PathBuf,
    },
    /// The folder belongs to another federation.
    #[error("{dir} holds data of federation {found}, not {wanted}; use the folder and the manifest of one federation")]
    Federation {
        /// The data folder.
        dir: PathBuf,
        /// The federation whose data it holds.
        found: FederationId,
        /// The federation of the manifest.
        wanted: FederationId,
    },
    /// The folder is missing, and a folder that a repair left is next to it.
    #[error(
        "{dir} is missing, but {beside} exists: a repair was interrupted; rename {beside} to {dir}, or create {dir} \
             to start with an empty folder"
    )]
    HalfRepaired {
        /// The missing data folder.
        dir: PathBuf,
        /// The rebuilt database if there is one, else the newest damaged one that was kept.
        beside: PathBuf,
    },
    /// A repair within the folder was interrupted.
    #[error("{dir}: a repair was interrupted; `fama check --repair` finishes it")]
    HalfSwapped {
        /// The data folder.
        dir: PathBuf,
    },
    /// The folder was written by another version of this program.
    #[error(
        "{dir} has storage format {found}, but this program supports only {wanted}; use the version that wrote it, \
             or an empty folder, which the node fills from its peers"
    )]
    Format {
        /// The data folder.
        dir: PathBuf,
        /// The format it has.
        found: u32,
        /// The supported format, [`FORMAT`].
        wanted: u32,
    },
    /// The folder holds a quick state where a node's own copies belong, or the other way round.
    #[error(
        "{dir} holds the wrong kind of data: a node's own copies and its quick state cannot replace each other; \
             name the right folder, or remove this one if it is a quick state"
    )]
    Quick {
        /// The data folder.
        dir: PathBuf,
    },
    /// There is no database in the folder.
    #[error("{dir} holds no node data")]
    NoData {
        /// The data folder.
        dir: PathBuf,
    },
    /// The folder holds no genesis manifest, so its federation is unknown.
    #[error("{dir} holds no manifest; start its node once, or name its configuration instead of the folder")]
    NoManifest {
        /// The data folder.
        dir: PathBuf,
    },
    /// A log is being rolled back, and what follows from its entries is not rebuilt yet.
    #[error("{dir}: the rollback of a log was interrupted; start its node once")]
    NeedsRebuild {
        /// The data folder.
        dir: PathBuf,
    },
    /// The folder and the configuration have different texts of one manifest version.
    #[error(
        "{dir} and the configuration hold different texts of manifest version {version}; find out which one is yours"
    )]
    Manifest {
        /// The data folder.
        dir: PathBuf,
        /// The version with two texts.
        version: u32,
    },
    /// The folder has lost the text of a manifest version that is in use.
    #[error(
        "{dir}: version {version} of the manifest is in use, but cannot be read; set `manifest` in the configuration \
             to a chain of versions that includes it: `GET /api/federation/manifests` of any node returns one"
    )]
    ManifestLost {
        /// The data folder.
        dir: PathBuf,
        /// The version whose text is missing.
        version: u32,
    },
    /// The disk, its file system or the database's files failed or are damaged.
    #[error(
        "{dir}: {message}; check disk, free space and permissions; if files are damaged, keep a copy of the \
             folder, then run `fama check --repair`; restore what it cannot read from a backup, or start again with \
             an empty folder, which the node fills from its peers"
    )]
    Database {
        /// The data folder.
        dir: PathBuf,
        /// The message of RocksDB or the operating system.
        message: String,
    },
    /// The database could not be copied for inspection, so its state is unknown.
    #[error(
        "{dir} could not be copied to a folder next to it: {message}; check disk, free space and permissions; if a \
             file cannot be read, the disk is failing: move the folder to another disk without that file, then run \
             `fama check --repair`"
    )]
    Copy {
        /// The data folder.
        dir: PathBuf,
        /// The message of the operating system.
        message: String,
    },
    /// A long read was cut off by [`Store::interrupt`]: the process stops.
    #[error("reading was interrupted: the node stops")]
    Interrupted,
    /// Parts of a log contradict each other: something was lost or changed on disk.
    #[error(
        "{dir}: log {log}: {what}; keep a copy of the folder, then run `fama check --repair`; the node fetches what \
             is missing from its peers"
    )]
    Inconsistent {
        /// The data folder.
        dir: PathBuf,
        /// The log that is inconsistent.
        log: LogId,
        /// The two things that contradict each other.
        what: String,
    },
    /// The batch does not continue the stored log, or the manifest has no such log. Nothing was written.
    #[error("log {log}: {what}")]
    Misfit {
        /// The log named by the batch.
        log: LogId,
        /// How the batch and the stored log disagree.
        what: String,
    },
}

impl StoreError {
    /// A stable snake_case code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::Federation { .. } => "store_federation",
            Self::HalfRepaired { .. } | Self::HalfSwapped { .. } => "store_half_repaired",
            Self::Format { .. } => "store_format",
            Self::Quick { .. } => "store_quick",
            Self::NoData { .. } => "no_data",
            Self::NoManifest { .. } => "store_no_manifest",
            Self::NeedsRebuild { .. } => "store_rebuild",
            Self::Manifest { .. } => "store_manifest",
            Self::ManifestLost { .. } => "store_manifest_lost",
            Self::Database { .. } => "database",
            Self::Copy { .. } => "store_copy",
            Self::Interrupted => "interrupted",
            Self::Inconsistent { .. } => "store_inconsistent",
            Self::Misfit { .. } => "store_misfit",
        }
    }
}

/// About how much memory a node of a state map takes.
const NODE_BYTES: usize = 130;

/// An open database. One process at a time, any number of threads.
pub struct Store {
    engine: Engine,
    dir: PathBuf,
    manifest: Arc<Manifest>,
    pending: Option<Arc<Manifest>>,
    logs: BTreeMap<Log8, LogId>,
    settings: StoreSettings,
    /// Held from the first read to the end of a write that depends on what it read.
    writing: Mutex<()>,
    /// Held while a checkpoint is made or removed.
    checkpoints: Mutex<()>,
    /// The first failure, from any thread; from then on nothing is written.
    failed: OnceLock<StoreError>,
    renewed: renewed::RenewedHeads,
    changed: changed::ChangedSubjects,
    /// Whether a log goes back, or did since the store was opened: views then look for the record of it.
    rolls_back: AtomicBool,
    /// How many rollbacks were begun since then.
    rollbacks_begun: AtomicU64,
    /// Whether long reads end with [`StoreError::Interrupted`].
    interrupted: AtomicBool,
}

/// One batch of one log with everything that it changes.
pub struct Commit<'a> {
    /// The log's state after the batch.
    pub state: LogState,
    /// Index of the first entry.
    pub first: u64,
    /// The entries, with the state entry that ends the batch.
    pub entries: &'a [VerifiedEntry],
    /// The outcome of each entry except the last; `None` for an adoption.
    pub outcomes: &'a [Option<Outcome>],
    /// Tiles that the batch changes.
    pub tiles: Vec<TileWrite>,
    /// Rows of the state maps that the batch changes.
    pub changes: &'a Changes,
    /// Records of the maps' nodes that the batch changes.
    pub nodes: &'a NodeChanges,
    /// Notes submitted with the entries, each with its hash; notes that no entry names are ignored.
    pub notes: &'a [(NoteHash, String)],
}

/// What one day of the own log was used for, beyond what its rows say.
#[derive(Clone, Debug, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct DayUsage {
    /// The day, as days since 1970.
    pub day: u32,
    /// Bytes of rotations in the log's homes.
    pub rotations: u64,
    /// Bytes of revocations in the log's homes.
    pub revocations: u64,
    /// Bytes of claims, by the operator whose home the identity has.
    pub claims: BTreeMap<Domain, u64>,
    /// Number of registrations, by the operator whose node forwarded them.
    pub forwarded: BTreeMap<Domain, u32>,
}

/// How often something changed that answers about many subjects are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct ChangeCounts {
    /// Writes with statements about providers.
    pub statements: u64,
    /// Writes with texts of notes that entries before them named, or without texts that were there before.
    pub notes: u64,
}

/// A head that a quorum cosigned, with all its known cosignatures.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StoredCertificate {
    /// The head, signed by the log's owner.
    pub signed: SignedHead,
    /// Cosignatures, each with the operator's log generation whose node key signed.
    pub cosignatures: Vec<(LogId, Cosignature)>,
}

impl StoredCertificate {
    /// The stored form of a verified certificate.
    #[must_use]
    pub fn of(certificate: replica::Certificate) -> Self {
        let signed = SignedHead::of(&certificate.signed);
        Self { signed, cosignatures: certificate.cosignatures.into_iter().collect() }
    }

    /// Verifies all signatures; `None` if one is invalid. Does not check for a quorum: the replica does.
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

/// A log's size, certified size and adopted versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Size, root and state root of this node's copy.
    pub state: LogState,
    /// How many entries are below a certified head.
    pub certified: u64,
    /// Manifest versions that the log adopted, oldest first.
    pub adopted: Vec<Adopted>,
}

impl LogRecord {
    /// The version that the log had adopted at a head of `size` entries; 0 before its first adoption.
    #[must_use]
    pub fn adopted_at(&self, size: u64) -> u32 {
        let last = self.adopted.iter().rev().find(|adopted| adopted.size <= size);
        last.map_or(0, |adopted| adopted.version)
    }
}

/// An event's position in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log with the entry.
    pub log: LogId,
    /// Index of the entry in it.
    pub index: u64,
    /// Why the event has no effect; `None`: it was applied.
    pub void: Option<Void>,
}

/// Which applied events a history lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Registrations, rotations and revocations of an identity, as its home applied them; no claims in other logs.
    Keys,
    /// Attestations and retractions that an identity received.
    Received,
    /// Attestations and retractions that a provider made.
    Given,
    /// What operators stated about a provider: admissions and dismissals.
    Stated,
    /// Grants that an identity gave and took back, and what operators stated about its use. Not the grants that it
    /// received: strangers could fill it.
    Access,
}

/// One line of a history. Order: (time, operator, index).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryItem {
    /// Time of the entry.
    pub time: Millis,
    /// The log with the entry.
    pub log: LogId,
    /// Index of the entry in it.
    pub index: u64,
}

/// What identities are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchedBy {
    /// Their name, without the home.
    Name,
    /// The text of a key that they have or had, like `ed25519:…`.
    Key,
    /// The hash of such a key, in hex.
    KeyHash,
}

/// Which rows about an identity an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Rows of the identity itself: keys, claims, received attestations.
    Subject,
    /// Statements about the identity as a provider.
    Sponsorship,
}

impl Store {
    /// Opens or creates the database in `dir`, which nothing else may use, and checks cheaply that each log's
    /// record, last entry and tree agree. `manifest` is the genesis, or a longer part of the chain; the version in
    /// use is [`Store::manifest`].
    ///
    /// # Errors
    /// [`StoreError`]; the data is unchanged.
    pub fn open(dir: &Path, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open(dir, manifest, &StoreSettings::default())
    }

    /// Like [`Store::open`], with other bounds on memory, files and threads.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_with(dir: &Path, manifest: &Arc<Manifest>, settings: &StoreSettings) -> Result<Self, StoreError> {
        open::open(dir, manifest, settings)
    }

    /// What bounds its memory, files and threads.
    #[must_use]
    pub const fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Most nodes of state maps that one log keeps in memory: its part of [`StoreSettings::nodes_bytes`].
    #[must_use]
    pub fn nodes_max(&self) -> usize {
        let active = self.manifest.logs().values().filter(|log| log.cut.is_none()).count();
        self.settings.nodes_bytes / NODE_BYTES / active.max(1)
    }

    /// Opens an existing database with the manifest stored in it, to read it without its configuration.
    ///
    /// # Errors
    /// Those of [`Store::open`], and [`StoreError::NoData`], [`StoreError::NoManifest`] or
    /// [`StoreError::NeedsRebuild`].
    pub fn open_alone(dir: &Path) -> Result<Self, StoreError> {
        open::open_alone(dir)
    }

    /// Opens an existing database, a backup or a checkpoint, with the manifest stored in it, and changes nothing in its
    /// folder. Makes the cheap checks of [`Store::open`].
    ///
    /// # Errors
    /// Those of [`Store::open`], and [`StoreError::NoData`] or [`StoreError::NoManifest`].
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        open::open_read_only(dir)
    }

    /// Opens an existing database without the cheap check, to find out what is wrong with it.
    ///
    /// # Errors
    /// Those of [`Store::open`], except what only that check finds.
    pub fn open_unchecked(dir: &Path, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open_unchecked(dir, manifest)
    }

    /// Like [`Store::open`], on a simulated disk.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    #[doc(hidden)]
    pub fn open_simulated(disk: &simulated::Disk, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open_simulated(disk.clone(), manifest)
    }

    /// Like [`Store::open_unchecked`], but opens a copy of the database. `dir` does not change; `copy` is
    /// overwritten, and may be deleted once the store is closed.
    ///
    /// # Errors
    /// Those of [`Store::open_unchecked`], and [`StoreError::Copy`].
    pub fn open_copy(dir: &Path, copy: &Path, manifest: &Arc<Manifest>) -> Result<Self, StoreError> {
        open::open_copy(dir, copy, manifest)
    }

    /// Like [`Store::open_copy`], for a damaged database that another will be rebuilt from: damaged tables and
    /// records of the write-ahead log are skipped instead of refused. Manifest versions that cannot be read are
    /// taken from `manifest` if it has them. Also returns a line of text for everything that was skipped or
    /// could not be read.
    ///
    /// # Errors
    /// Those of [`Store::open_copy`], if nothing at all can be read.
    pub fn open_damaged(dir: &Path, copy: &Path, manifest: &Arc<Manifest>) -> Result<(Self, Vec<String>), StoreError> {
        open::open_damaged(dir, copy, manifest)
    }

    /// Refuses a database that another process has open right now, whatever its state.
    ///
    /// # Errors
    /// [`StoreError::Locked`].
    pub fn check_unused(dir: &Path) -> Result<(), StoreError> {
        open::check_unused(dir)
    }

    /// Tries that a node could use `dir`: that it can be created and written. Changes nothing, opens no database. Returns
    /// whether another process has it open.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::HalfRepaired`].
    pub fn try_folder(dir: &Path) -> Result<bool, StoreError> {
        open::try_folder(dir)
    }

    /// The folder, within the data folder `dir`, for a database that is to replace the one in `dir`: see [`Store::swap`].
    #[must_use]
    pub fn rebuilt_within(dir: &Path) -> PathBuf {
        dir.join(swap::REBUILT)
    }

    /// Puts the database in [`Store::rebuilt_within`] in the place of the one in `dir`, which nothing may have open. Returns
    /// the folder, within `dir`, with what was there. After a crash no node opens the folder until this is called again.
    ///
    /// # Errors
    /// The system's: the swap is to be finished by another call, unless it did not begin.
    pub fn swap(dir: &Path) -> std::io::Result<PathBuf> {
        if swap::is_interrupted(dir) { swap::finish(dir) } else { swap::swap(dir) }
    }

    /// Whether [`Store::swap`] was interrupted.
    #[must_use]
    pub fn is_half_swapped(dir: &Path) -> bool {
        swap::is_interrupted(dir)
    }

    /// Whether `dir` holds any part of a database, damaged or not.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        open::is_there(dir)
    }

    /// Bytes of the files in the data folder, and bytes that are free where it is; `None` where the system does not tell.
    #[must_use]
    pub fn disk_bytes(&self) -> (Option<u64>, Option<u64>) {
        let files = std::fs::read_dir(&self.dir).ok();
        // A file may go meanwhile: then it takes nothing.
        let sizes = |files: std::fs::ReadDir| files.flatten().filter_map(|file| Some(file.metadata().ok()?.len()));
        let free = rustix::fs::statvfs(&self.dir).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize));
        (files.map(|files| sizes(files).sum()), free)
    }

    /// A consistent view: all reads see the same moment. Drop it soon: until then old data stays on disk.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// The first failure since the store was opened, in any thread or in RocksDB's background work. Once there
    /// is one the node must stop: the folder cannot be trusted any more.
    #[must_use]
    pub fn failure(&self) -> Option<StoreError> {
        if self.failed.get().is_none() {
            let failed = self.engine.background_failure();
            let _ = failed.map(|failure| self.database(&failure));
        }
        self.failed.get().cloned()
    }

    /// Ends all walks over many keys with [`StoreError::Interrupted`], now and from now on, so that a process that has
    /// to stop does not wait for a load. Nothing on disk changes.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Keeps `error` if it is the first failure.
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

/// Waits until nothing uses the database any more, so that its folder is free once the node has stopped.
/// Requests that were running when the node had to stop still hold it, none for long. This function closes the
/// database, not the last holder to drop it: closing takes a moment, and then nobody would wait for it.
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
    tracing::warn!("the database is still in use and was not closed");
}
