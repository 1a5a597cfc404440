//! How fast a node that is behind makes its own copies: for its log, its status and its metrics.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::health::Health;
use crate::quick::BEHIND_MIN;

/// How often it is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How many looks a rate is taken over.
const LOOKS: usize = 10;
/// Every how many looks a node that is far behind says how far it is.
const SAY_EVERY: u32 = 10;

/// Looks until the node stops.
pub async fn watch(health: Arc<Health>, mut stopped: watch::Receiver<bool>) {
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
