//! `verify = "certified"`: a node that is far behind answers from a quick state while it makes its own copies.
//!
//! A quick state holds the certified rows of every log, in a separate database next to the node's. A separate inbox
//! without keys follows the logs from there. None of it reaches the node's own copies, is cosigned or is served to
//! peers. Once the own copies have caught up, it is compared with them and deleted. After a crash, the node continues
//! with what is there.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fama_ledger::manifest::{LogId, Manifest};
use tokio::sync::watch;

use crate::bridge::Bridge;
use crate::health::StateSyncProgress;
use crate::http::{App, ServingSlot};
use crate::replay::Fatal;
use crate::shared::Shared;
use crate::store::{self, Store, StoreError};

mod answer;
mod gather;
mod load;

/// Suffix of the data folder's name that names the quick state's folder.
pub(crate) const ENDING: &str = ".quick";
/// How long to wait after an attempt failed.
const PAUSE: Duration = Duration::from_secs(5);
/// After how many unusable quick states the node stops trying.
const SPOILED_MAX: u32 = 3;
/// How long opening waits for this process to release the database, which a request may still read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an attempt at a quick state failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateSyncError {
    /// Its database failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Its inbox stopped.
    #[error("{0}")]
    Fatal(#[from] Fatal),
    /// Two texts of one version of the manifest are valid; people must choose one.
    #[error("two texts of version {0} of the manifest are valid")]
    Conflict(u32),
    /// No peer offers a certified state of this log, or of this map, which may come from a log that was cut.
    #[error("no peer offers a certified state of {0}")]
    Uncovered(String),
    /// No peer serves the rest of the log's rows any more.
    #[error("no peer serves the rows of {0}")]
    NoSource(LogId),
    /// It would have to roll back past its starting point, and it has no entries from before that.
    #[error("the quick state would have to roll back past its starting point")]
    Rewound,
    /// A quorum certified a state that the entries contradict.
    #[error("log {log}: the state certified at size {size} contradicts its entries")]
    Disagrees {
        /// The log whose state is wrong.
        log: LogId,
        /// Size of the certified head, in entries.
        size: u64,
    },
    /// A thread or task could not be started, or panicked.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl StateSyncError {
    /// Stable snake_case code; for wrapped errors, theirs.
    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Fatal(error) => error.code(),
            Self::Conflict(_) => "quick_conflict",
            Self::Uncovered(_) => "quick_uncovered",
            Self::NoSource(_) => "quick_no_source",
            Self::Rewound => "quick_rewound",
            Self::Disagrees { .. } => "quick_disagrees",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the error makes what is loaded useless, so that it must be deleted.
    const fn spoils(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Fatal(_) | Self::Rewound | Self::Disagrees { .. })
    }
}

/// How an attempt ended.
enum AttemptEnd {
    /// The node's own copies have caught up: no quick state is needed.
    Complete,
    /// The quick state must reload to use another version of the manifest: try again.
    Again,
    /// The node stops; its next start continues with what is there.
    Stopped,
}

/// The folder of the quick state of a node whose own copies are in `data_dir`.
#[must_use]
pub(crate) fn folder(data_dir: &std::path::Path) -> PathBuf {
    let mut folder = data_dir.as_os_str().to_owned();
    folder.push(ENDING);
    folder.into()
}

/// Loads, shows and deletes the quick state.
pub(crate) struct StateSync {
    shared: Shared,
    bridge: Bridge,
    dir: PathBuf,
    slot: Arc<ServingSlot>,
    /// Answers from the node's own copies.
    app: Arc<App>,
    stopped: watch::Receiver<bool>,
}

impl StateSync {
    /// For a node whose own copies are in `data_dir`. Opens and writes nothing yet.
    #[must_use]
    pub(crate) fn new(
        shared: Shared,
        bridge: Bridge,
        data_dir: &std::path::Path,
        (app, slot): (Arc<App>, Arc<ServingSlot>),
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self { shared, bridge, dir: folder(data_dir), slot, app, stopped }
    }

    /// Runs until the node's own copies have caught up with the quick state, or the node stops.
    pub(crate) async fn run(mut self) {
        let mut spoiled = 0;
        loop {
            let done = self.attempt().await;
            self.slot.clear();
            self.report(|quick| *quick = None);
            match done {
                Ok(AttemptEnd::Complete) => return self.delete().await,
                Ok(AttemptEnd::Stopped) => return,
                Ok(AttemptEnd::Again) => {}
                Err(error @ StateSyncError::Disagrees { .. }) => {
                    self.shared.metrics.fault(error.code());
                    tracing::error!(code = error.code(), %error, "a quorum certified a wrong state; this node shows only what it verified itself");
                    self.report(|quick| {
                        *quick = Some(StateSyncProgress { phase: "disagrees", ..StateSyncProgress::default() });
                    });
                    return self.delete().await;
                }
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, "no quick state for now; meanwhile the node makes its own copies");
                    if error.spoils() {
                        self.delete().await;
                        spoiled += 1;
                    }
                    if spoiled >= SPOILED_MAX {
                        return tracing::warn!("no further quick state until the node is restarted");
                    }
                    if self.rest(PAUSE).await {
                        return;
                    }
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<AttemptEnd, StateSyncError> {
        let held = if self.dir.exists() { Some(self.open(Arc::clone(&self.shared.manifest)).await?) } else { None };
        let store = match held {
            // Loaded whole, by this process or one before it: the flag is set in the write that completes the load.
            Some(store) if store.view().quick()? == Some(true) => store,
            held => {
                // New, or cut off while loading: what was loaded counts, the rest is fetched.
                let Some(store) = self.load(held).await? else { return Ok(self.ended()) };
                store
            }
        };
        self.answer(store).await
    }

    fn ended(&self) -> AttemptEnd {
        if *self.stopped.borrow() { AttemptEnd::Stopped } else { AttemptEnd::Complete }
    }

    /// Opens the database. Waits up to [`CLOSE_TIMEOUT`] until this process has released it.
    async fn open(&self, manifest: Arc<Manifest>) -> Result<Arc<Store>, StateSyncError> {
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        loop {
            let (dir, manifest, settings) = (self.dir.clone(), Arc::clone(&manifest), *self.shared.store.settings());
            let opened = tokio::task::spawn_blocking(move || Store::open_quick(&dir, &manifest, &settings)).await;
            match opened.map_err(|_| StateSyncError::Internal("the database did not open"))? {
                Err(StoreError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                opened => return Ok(Arc::new(opened?)),
            }
        }
    }

    /// Deletes the folder if it holds a quick state. One that can't be opened stays, with a warning.
    async fn delete(&self) {
        if !self.dir.exists() {
            return;
        }
        // Opened first, to be sure that it is a folder of this kind: a configuration mistake must not delete another.
        let store = match self.open(Arc::clone(&self.shared.manifest)).await {
            Ok(store) => store,
            Err(error) => {
                return tracing::warn!(%error, "what may be a quick state cannot be opened and stays on disk; remove its folder");
            }
        };
        store::close(store).await;
        // A crash halfway leaves a folder that may not open. The next start says so and answers from the node's own
        // copies alone; the operator removes it.
        match tokio::fs::remove_dir_all(&self.dir).await {
            Ok(()) => tracing::info!("quick state deleted"),
            Err(error) => tracing::warn!(%error, "the quick state stays on disk; remove its folder"),
        }
    }

    /// How many entries this node's own copies are behind the newest heads known.
    fn behind(&self) -> u64 {
        let health = self.shared.health.read();
        health.logs.values().map(|log| log.newest.saturating_sub(log.size)).sum()
    }

    fn report(&self, change: impl FnOnce(&mut Option<StateSyncProgress>)) {
        change(&mut self.shared.health.write().quick);
    }

    /// Waits for `pause`; `true` at once if the node stops.
    async fn rest(&mut self, pause: Duration) -> bool {
        tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => true,
            () = tokio::time::sleep(pause) => false,
        }
    }
}
