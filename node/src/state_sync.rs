//! `verify = "certified"`: a node that is far behind answers from a quick state while it makes its own copies.
//!
//! The quick state is certified rows of every log in a database of its own, beside the node's. An inbox of its own,
//! without keys, follows the logs from there. Nothing of it reaches the node's copies, is cosigned or is given to
//! others; once the copies are as far it is compared with them and deleted. A crash leaves one that is gone on with.
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

/// What a quick state's folder adds to the name of the data folder.
pub(crate) const ENDING: &str = ".quick";
/// How long to wait after something failed.
const PAUSE: Duration = Duration::from_secs(5);
/// How many quick states may be of no use until no other is tried.
const SPOILED_MAX: u32 = 3;
/// How long requests that still read a quick state may take until it is deleted all the same.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no quick state now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateSyncError {
    /// Its database.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Its inbox.
    #[error("{0}")]
    Fatal(#[from] Fatal),
    /// Two texts of one version of the manifest are valid: people must choose.
    #[error("two texts of version {0} of the manifest are valid")]
    Conflict(u32),
    /// Nobody offers a certified state of every log and of all that logs that were cut left behind.
    #[error("nobody offers a certified state of {0}")]
    Uncovered(String),
    /// Nobody gives rows any more.
    #[error("nobody gives the rows of {0}")]
    NoSource(LogId),
    /// Its way back cannot be gone: it has not the entries.
    #[error("it would have to go back behind its begin")]
    Rewound,
    /// A quorum certified what the entries do not say.
    #[error("log {log}: the state certified at {size} is not what its entries give")]
    Disagrees {
        /// The log.
        log: LogId,
        /// The size.
        size: u64,
    },
    /// A thread could not be started or ended badly.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl StateSyncError {
    /// Stable code.
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

    /// Whether what is loaded is good for nothing any more.
    const fn spoils(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Fatal(_) | Self::Rewound | Self::Disagrees { .. })
    }
}

/// How one attempt ended.
enum AttemptEnd {
    /// The node's own copies are as far: no quick state is needed.
    Complete,
    /// Another version of the manifest is to be used: it is loaded anew.
    Again,
    /// The node stops: what is there is gone on with later.
    Stopped,
}

/// Makes, shows and deletes the quick state.
pub(crate) struct StateSync {
    shared: Shared,
    bridge: Bridge,
    dir: PathBuf,
    slot: Arc<ServingSlot>,
    /// What shows the node's own copies.
    app: Arc<App>,
    stopped: watch::Receiver<bool>,
}

impl StateSync {
    /// For a node whose own copies lie in `data_dir`.
    #[must_use]
    pub(crate) fn new(
        shared: Shared,
        bridge: Bridge,
        data_dir: &std::path::Path,
        (app, slot): (Arc<App>, Arc<ServingSlot>),
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let mut dir = data_dir.as_os_str().to_owned();
        dir.push(ENDING);
        Self { shared, bridge, dir: dir.into(), slot, app, stopped }
    }

    /// Works until the node's own copies are as far as the quick state, or the node stops.
    pub(crate) async fn run(mut self) {
        let mut spoiled = 0;
        loop {
            let done = self.attempt().await;
            self.slot.clear();
            self.tell(|quick| *quick = None);
            match done {
                Ok(AttemptEnd::Complete) => return self.delete().await,
                Ok(AttemptEnd::Stopped) => return,
                Ok(AttemptEnd::Again) => {}
                Err(error @ StateSyncError::Disagrees { .. }) => {
                    self.shared.metrics.fault(error.code());
                    tracing::error!(code = error.code(), %error, "a quorum certified a wrong state; only what this node verified itself is shown");
                    self.tell(|quick| {
                        *quick = Some(StateSyncProgress { phase: "disagrees", ..StateSyncProgress::default() });
                    });
                    return self.delete().await;
                }
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, "no quick state for now; the node makes its own copies meanwhile");
                    if error.spoils() {
                        self.delete().await;
                        spoiled += 1;
                    }
                    if spoiled >= SPOILED_MAX {
                        return tracing::warn!("no quick state any more until the node starts again");
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

    /// Opens the database; what this process had open before may take a moment to let go of it.
    async fn open(&self, manifest: Arc<Manifest>) -> Result<Arc<Store>, StateSyncError> {
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        loop {
            let (dir, manifest) = (self.dir.clone(), Arc::clone(&manifest));
            let opened = tokio::task::spawn_blocking(move || Store::open_quick(&dir, &manifest)).await;
            match opened.map_err(|_| StateSyncError::Internal("the database did not open"))? {
                Err(StoreError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                opened => return Ok(Arc::new(opened?)),
            }
        }
    }

    /// Deletes the folder, if it is a quick state's: nobody reads it any more, or not for long.
    async fn delete(&self) {
        if !self.dir.exists() {
            return;
        }
        // Opened first, to be sure that it is a folder of this kind: a configuration mistake must not delete another.
        let store = match self.open(Arc::clone(&self.shared.manifest)).await {
            Ok(store) => store,
            Err(error) => return tracing::warn!(%error, "what may be a quick state stays on disk; remove its folder"),
        };
        store::close(store).await;
        // A crash halfway leaves a folder that may not open. The next start says so and answers from the node's own
        // copies alone; the operator removes it.
        match tokio::fs::remove_dir_all(&self.dir).await {
            Ok(()) => tracing::info!("the quick state is deleted"),
            Err(error) => tracing::warn!(%error, "the quick state stays on disk; remove its folder"),
        }
    }

    /// How much more entries others have than this node's own copies.
    fn behind(&self) -> u64 {
        let health = self.shared.health.read();
        health.logs.values().map(|log| log.newest.saturating_sub(log.size)).sum()
    }

    fn tell(&self, change: impl FnOnce(&mut Option<StateSyncProgress>)) {
        change(&mut self.shared.health.write().quick);
    }

    /// Waits; whether the node stops.
    async fn rest(&mut self, pause: Duration) -> bool {
        tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => true,
            () = tokio::time::sleep(pause) => false,
        }
    }
}
