//! Says in the log whenever what `/readyz` answers changes, and when operators fall silent and are back.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::manifest::LogId;
use fama_ledger::time::Millis;
use tokio::sync::watch;

use super::admin::reasons;
use super::moment::{HEARD_MILLIS, operators_heard};
use super::{App, Serving};
use crate::clock;

/// How often the state is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long a reason must last to be logged, and be gone to be logged as gone: a busy node lacks entries for moments.
const LASTING: Duration = Duration::from_secs(3);

/// A condition that began or ended, with how long it lasted.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Began(String),
    Ended(String, Duration),
}

/// Which conditions hold, without those that hold, or do not, for moments only.
#[derive(Default)]
struct Conditions(BTreeMap<String, Condition>);

struct Condition {
    since: Instant,
    /// Since when it is gone.
    gone: Option<Instant>,
    told: bool,
}

impl Conditions {
    /// Takes the conditions that hold now; returns what changed. `lasting` is how long a change must last to count.
    fn look(&mut self, present: &BTreeSet<String>, lasting: Duration, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in present {
            let new = Condition { since: now, gone: None, told: false };
            let condition = self.0.entry(name.clone()).or_insert(new);
            condition.gone = None;
            if !condition.told && now.duration_since(condition.since) >= lasting {
                condition.told = true;
                changes.push(Change::Began(name.clone()));
            }
        }
        self.0.retain(|name, condition| {
            if present.contains(name) {
                return true;
            }
            let gone = *condition.gone.get_or_insert(now);
            let over = !condition.told || now.duration_since(gone) >= lasting;
            if over && condition.told {
                changes.push(Change::Ended(name.clone(), gone.duration_since(condition.since)));
            }
            !over
        });
        changes
    }
}

/// Whether the log says that the node is ready, and since when.
struct Readiness {
    ready: bool,
    since: Instant,
}

impl Readiness {
    /// How long the node was not ready, if it has just become ready: `conditions` is empty now.
    fn look(&mut self, conditions: &Conditions, now: Instant) -> Option<Duration> {
        if self.ready {
            let told = conditions.0.values().filter(|condition| condition.told).map(|condition| condition.since).min();
            if let Some(since) = told {
                *self = Self { ready: false, since };
            }
            return None;
        }
        conditions.0.is_empty().then(|| {
            let lasted = now.duration_since(self.since);
            *self = Self { ready: true, since: now };
            lasted
        })
    }
}

/// Watches until the node stops. Sets the gauges of readiness and of silence, too.
pub async fn watch(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TICK);
    let begun = Instant::now();
    let (mut reasons_shown, mut silent_shown) = (Conditions::default(), Conditions::default());
    let mut readiness = Readiness { ready: false, since: begun };
    let mut certified = BTreeMap::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let looked = Arc::clone(&app);
        // It reads the disk.
        let Ok(reasons) = tokio::task::spawn_blocking(move || reasons(&looked, &Serving::of(&looked).0)).await else {
            return;
        };
        let (now, time) = (Instant::now(), clock::now());
        note_unfinal(&app, &mut certified, time);
        app.shared.metrics.ready(reasons.is_empty(), operators_heard(&app, time), app.operators_needed());
        for change in reasons_shown.look(&reasons.iter().map(|reason| stable(reason)).collect(), LASTING, now) {
            match change {
                Change::Began(reason) => tracing::warn!(%reason, "not ready"),
                Change::Ended(reason, lasted) => {
                    tracing::info!(%reason, seconds = lasted.as_secs(), "what kept the node from being ready is over");
                }
            }
        }
        if let Some(lasted) = readiness.look(&reasons_shown, now) {
            tracing::info!(after_seconds = lasted.as_secs(), "ready");
        }
        for change in silent_shown.look(&silent(&app, time), Duration::ZERO, now) {
            match change {
                Change::Began(operator) => {
                    tracing::warn!(%operator, "operator not heard for {} seconds", HEARD_MILLIS / 1_000);
                }
                Change::Ended(operator, lasted) => {
                    let seconds = lasted.as_secs() + HEARD_MILLIS / 1_000;
                    tracing::info!(%operator, seconds, "operator heard again");
                }
            }
        }
    }
}

/// A reason without the numbers in it, which change all the time.
fn stable(reason: &str) -> String {
    reason.split_once(", ").map_or(reason, |(name, _)| name).to_owned()
}

/// The other operators that were not heard for a minute, or since the start if that is longer ago.
fn silent(app: &App, now: Millis) -> BTreeSet<String> {
    let health = app.shared.health.read();
    let others = health.operators.iter().filter(|(name, _)| app.operator.as_ref() != Some(name));
    let silent = others.filter(|(_, known)| now.0.saturating_sub(known.heard.unwrap_or(app.started).0) > HEARD_MILLIS);
    silent.map(|(name, _)| name.to_string()).collect()
}

/// Notes which logs have entries that wait to become final. `certified` has the sizes of the last look.
fn note_unfinal(app: &App, certified: &mut BTreeMap<LogId, u64>, now: Millis) {
    let mut health = app.shared.health.write();
    let mut unfinal_since = std::mem::take(&mut health.unfinal_since);
    for (log, known) in &health.logs {
        let grew = certified.insert(log.clone(), known.certified) != Some(known.certified);
        if known.size <= known.certified {
            unfinal_since.remove(log);
        } else if grew || !unfinal_since.contains_key(log) {
            unfinal_since.insert(log.clone(), now);
        }
    }
    health.unfinal_since = unfinal_since;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_in_both_directions_with_its_length() {
        let (mut conditions, begun) = (Conditions::default(), Instant::now());
        let mut look = |second: u64, present: &[&str]| {
            let present = present.iter().map(|name| (*name).to_owned()).collect();
            conditions.look(&present, LASTING, begun + Duration::from_secs(second))
        };
        let ended = |name: &str, seconds| vec![Change::Ended(name.to_owned(), Duration::from_secs(seconds))];
        assert_eq!(look(0, &["lagging"]), []);
        assert_eq!(look(1, &[]), [], "for a moment: never told");
        assert_eq!(look(10, &["store", "lagging"]), []);
        assert_eq!(look(12, &["store"]), []);
        assert_eq!(look(13, &["store"]), [Change::Began("store".to_owned())]);
        assert_eq!(look(40, &["store"]), []);
        assert_eq!(look(41, &[]), []);
        assert_eq!(look(42, &["store"]), [], "gone for a moment");
        assert_eq!(look(50, &[]), []);
        assert_eq!(look(53, &[]), ended("store", 40));
        assert_eq!(look(54, &[]), []);
    }

    #[test]
    fn ready_is_told_at_the_start_and_after_each_outage() {
        let begun = Instant::now();
        let (mut conditions, mut readiness) = (Conditions::default(), Readiness { ready: false, since: begun });
        let mut look = |second: u64, present: &[&str]| {
            let now = begun + Duration::from_secs(second);
            conditions.look(&present.iter().map(|name| (*name).to_owned()).collect(), LASTING, now);
            readiness.look(&conditions, now).map(|lasted| lasted.as_secs())
        };
        assert_eq!(look(0, &["waiting: starting"]), None);
        assert_eq!(look(2, &[]), Some(2), "after the start");
        assert_eq!(look(9, &["lagging"]), None);
        assert_eq!(look(10, &[]), None, "it never said that it was not ready");
        for second in 20..30 {
            assert_eq!(look(second, &["too_few_operators_heard"]), None);
        }
        assert_eq!(look(30, &[]), None);
        assert_eq!(look(33, &[]), Some(13));
    }

    #[test]
    fn numbers_in_a_reason_make_no_new_one() {
        assert_eq!(stable("rollback: dropping, 12 entries left in a.example/1"), "rollback: dropping");
        assert_eq!(stable("waiting: adopting"), "waiting: adopting");
    }
}
