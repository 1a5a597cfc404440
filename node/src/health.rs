//! The current state of this node, its peers and the logs, for status pages, readiness and metrics.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, ManifestHash};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::time::Millis;
use tokio::sync::watch;
use tokio::time::{Instant, interval};

/// From how many missing entries on a node is far behind: it logs its progress, and may start from certified states.
pub(crate) const BEHIND_MIN: u64 = 1_000;
/// The age at which a certificate is old, in milliseconds: in a live federation none gets there.
pub(crate) const CERTIFICATE_MILLIS_MAX: u64 = 120_000;
/// How often the number of entries is sampled.
const TICK: Duration = Duration::from_secs(1);
/// Over how many samples the rate is computed.
const SAMPLES: usize = 10;
/// A node that is far behind logs its progress once in this many samples.
const LOG_EVERY: u32 = 10;

/// An operator as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct OperatorHealth {
    /// When anything last came from it, by this node's clock; `None` if nothing did since the start.
    pub heard: Option<Millis>,
    /// Whether a connection is open.
    pub connected: bool,
}

/// A log as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct LogHealth {
    /// Number of entries in this node's copy.
    pub size: u64,
    /// Size of the newest head that a quorum cosigned.
    pub certified: u64,
    /// The largest size known to be signed by the owner.
    pub newest: u64,
    /// Why this node no longer cosigns the log: a stable code.
    pub fault: Option<&'static str>,
}

/// A version of the manifest that a node has but does not use yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingManifest {
    /// Counted from 1, the genesis.
    pub version: u32,
    /// Hash of the version.
    pub hash: ManifestHash,
    /// The version as a signed note.
    pub text: String,
    /// What must happen before it is used, as text for people.
    pub waits_for: String,
}

/// What a node shows about the federation's next version. The inbox writes it, the listeners show it.
#[derive(Clone, Debug, Default)]
pub struct Governance {
    /// This node's own stands for the next version, as signed notes: in each of these logs it cosigns nothing more
    /// until that version holds.
    pub stands: Vec<String>,
    /// Proofs that a log forked, at most one per log.
    pub equivocations: Vec<Equivocation>,
    /// The next version, if the node has it.
    pub pending: Option<PendingManifest>,
    /// Two valid texts of one version, as signed notes, because of which this node cosigns nothing more; else
    /// empty.
    pub halted: Vec<String>,
}

/// The whole state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All operators of the manifest.
    pub operators: BTreeMap<Domain, OperatorHealth>,
    /// All logs that any version of the manifest names.
    pub logs: BTreeMap<LogId, LogHealth>,
    /// Of each log with entries that are not final: when one last became final, or when the first came that is not.
    pub unfinal_since: BTreeMap<LogId, Millis>,
    /// Why this node accepts no events yet: a stable code; `None` when it does, or has no log.
    pub waiting: Option<&'static str>,
    /// Stable codes of warnings despite which the node writes; its operator should look at them.
    pub warnings: Vec<&'static str>,
    /// `clock_ahead` or `clock_behind` if three clocks or more show that this node's is wrong.
    pub wrong_clock: Option<&'static str>,
    /// Whether the start is over, so that this run may have signed something.
    pub writes: bool,
    /// Providers whose sponsorship changed and whose subjects the ranking has not updated yet.
    pub ranking_lag: usize,
    /// Logs that continue and have no recent certificate: none at all, or one older than [`CERTIFICATE_MILLIS_MAX`].
    pub old_logs: usize,
    /// Number of open connections.
    pub peers: usize,
    /// The federation's next version, and what stops this node from cosigning.
    pub governance: Governance,
    /// The log that is being rolled back, if there is one.
    pub rollback: Option<RollbackProgress>,
    /// Progress of the quick state, if there is one or one is being loaded.
    pub quick: Option<StateSyncProgress>,
    /// Domains of services that this operator sponsors and that no longer name them: with a stable code.
    pub lost_domains: BTreeMap<Domain, &'static str>,
    /// By how many entries a second its own copies grew in the last seconds.
    pub entries_per_second: u64,
}

/// Progress of a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackProgress {
    /// The log that goes back to a smaller size.
    pub log: LogId,
    /// `dropping` entries, then `replaying` those that stay.
    pub phase: &'static str,
    /// How many entries are left to drop or to replay.
    pub left: u64,
}

/// Progress of a quick state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateSyncProgress {
    /// `asking` for offers, `loading` or `answering`; `disagrees`: a certified state contradicts the entries.
    pub phase: &'static str,
    /// Rows loaded since the process started.
    pub rows: u64,
    /// About how many rows there are in all, by the peers' offers.
    pub rows_about: u64,
    /// Bytes of the rows loaded, keys and values.
    pub bytes: u64,
}

/// The state behind a lock: the inbox writes, the listeners read.
#[derive(Debug, Default)]
pub struct Health(RwLock<Snapshot>);

impl Health {
    /// All operators and logs of `manifest`, nothing received yet, waiting: `starting`.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let operators = manifest.operators().iter().map(|o| (o.name.clone(), OperatorHealth::default())).collect();
        let logs = manifest.logs().keys().map(|log| (log.clone(), LogHealth::default())).collect();
        Self(RwLock::new(Snapshot { operators, logs, waiting: Some("starting"), ..Snapshot::default() }))
    }

    /// Locks for reading. A lock that a panicking writer poisoned is used all the same: these are values for display.
    pub fn read(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks for writing, also after a writer panicked.
    pub fn write(&self) -> RwLockWriteGuard<'_, Snapshot> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures how fast the node's own copies grow, for log and status, until the node stops.
pub(crate) async fn measure_rate(health: Arc<Health>, mut stopped: watch::Receiver<bool>) {
    let (mut looks, mut ticks, mut count) = (VecDeque::new(), interval(TICK), 0u32);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let (held, of) = entries(&health);
        looks.push_back((Instant::now(), held));
        if looks.len() > SAMPLES {
            looks.pop_front();
        }
        let rate = rate(&looks);
        health.write().entries_per_second = rate;
        count = count.wrapping_add(1);
        if count.is_multiple_of(LOG_EVERY) && of.saturating_sub(held) >= BEHIND_MIN {
            tracing::info!(entries = held, of, per_second = rate, "fetching and verifying entries");
        }
    }
}

/// How many entries of all logs this node has, and how many are known to exist.
fn entries(health: &Health) -> (u64, u64) {
    let health = health.read();
    let held = health.logs.values().map(|log| log.size).sum();
    (held, health.logs.values().map(|log| log.newest.max(log.size)).sum())
}

fn rate(looks: &VecDeque<(Instant, u64)>) -> u64 {
    let (Some((first, from)), Some((last, to))) = (looks.front(), looks.back()) else { return 0 };
    let millis = u64::try_from(last.saturating_duration_since(*first).as_millis()).unwrap_or(u64::MAX);
    to.saturating_sub(*from).saturating_mul(1_000).checked_div(millis).unwrap_or(0)
}
