//! What the node knows of itself and of the others right now: for status pages, readiness and metrics.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fama_ledger::equivocation::Equivocation;
use fama_ledger::id::{Domain, ManifestHash};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::time::Millis;
use tokio::sync::watch;
use tokio::time::{Instant, interval};

/// How many entries a node must be behind to count as far behind: it says so, and may start from certified states.
pub(crate) const BEHIND_MIN: u64 = 1_000;
/// How often it is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How many looks a rate is taken over.
const LOOKS: usize = 10;
/// Every how many looks a node that is far behind says how far it is.
const SAY_EVERY: u32 = 10;

/// An operator as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct OperatorHealth {
    /// When anything came from it last, by this node's clock.
    pub heard: Option<Millis>,
    /// Whether a connection is open.
    pub connected: bool,
}

/// A log as this node sees it.
#[derive(Clone, Debug, Default)]
pub struct LogHealth {
    /// Entries held.
    pub size: u64,
    /// Entries below a head that a quorum cosigned.
    pub certified: u64,
    /// The largest size that the owner signed, as far as known.
    pub newest: u64,
    /// Why this node cosigns the log no longer: a stable code.
    pub fault: Option<&'static str>,
}

/// A version of the manifest that a node has but does not use yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingManifest {
    /// Its version.
    pub version: u32,
    /// Its hash.
    pub hash: ManifestHash,
    /// The signed note.
    pub text: String,
    /// What it waits for, for people.
    pub waits_for: String,
}

/// What a node says of the federation's next version. The inbox writes it, the listeners show it.
#[derive(Clone, Debug, Default)]
pub struct Governance {
    /// This node's own stands for the next version, as signed notes.
    pub stands: Vec<String>,
    /// At most one per log.
    pub equivocations: Vec<Equivocation>,
    /// The next version, if the node has it.
    pub pending: Option<PendingManifest>,
    /// Valid texts of one version, as signed notes, for which this node cosigns no more: at most two.
    pub halted: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By name.
    pub operators: BTreeMap<Domain, OperatorHealth>,
    /// By log.
    pub logs: BTreeMap<LogId, LogHealth>,
    /// Why this node takes no events in yet: a stable code; `None` when it does, or has no log.
    pub waiting: Option<&'static str>,
    /// What the node writes in spite of and people should know: stable codes.
    pub warnings: Vec<&'static str>,
    /// Whether its start is over: it may have signed something.
    pub writes: bool,
    /// Providers whose change of sponsorship the ranking has still to follow.
    pub ranking_lag: usize,
    /// Open connections.
    pub peers: usize,
    /// What it says of the federation's next version.
    pub governance: Governance,
    /// How far its quick state is, if it has or makes one.
    pub quick: Option<StateSyncProgress>,
    /// Entries that its own copies grew by within a second, of late.
    pub entries_per_second: u64,
}

/// How far a quick state is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateSyncProgress {
    /// `asking` for offers, `loading`, `answering`; or `disagrees`: what was certified is not what the entries give.
    pub phase: &'static str,
    /// Rows loaded since the process started.
    pub rows: u64,
    /// How many there are, by what peers say.
    pub rows_about: u64,
    /// Bytes of the rows loaded.
    pub bytes: u64,
}

/// Shared by the inbox, which writes it, and the listeners, which read it.
#[derive(Debug, Default)]
pub struct Health(RwLock<Snapshot>);

impl Health {
    /// Nothing heard yet.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let operators = manifest.operators().iter().map(|o| (o.name.clone(), OperatorHealth::default())).collect();
        let logs = manifest.logs().keys().map(|log| (log.clone(), LogHealth::default())).collect();
        Self(RwLock::new(Snapshot { operators, logs, waiting: Some("starting"), ..Snapshot::default() }))
    }

    /// For reading. A writer that panicked left plain values behind: they are as good as before.
    pub fn read(&self) -> RwLockReadGuard<'_, Snapshot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, Snapshot> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures how fast the node's own copies grow, for its log, its status and its metrics, until it stops.
pub(crate) async fn measure_rate(health: Arc<Health>, mut stopped: watch::Receiver<bool>) {
    let (mut looks, mut ticks, mut count) = (VecDeque::new(), interval(TICK), 0u32);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let (held, of) = entries(&health);
        looks.push_back((Instant::now(), held));
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        let rate = rate(&looks);
        health.write().entries_per_second = rate;
        count = count.wrapping_add(1);
        if count.is_multiple_of(SAY_EVERY) && of.saturating_sub(held) >= BEHIND_MIN {
            tracing::info!(entries = held, of, per_second = rate, "fetching and verifying entries");
        }
    }
}

/// Entries of all logs that are held, and that there are.
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
