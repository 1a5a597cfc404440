//! Times how long fresh nodes take to join the demo, from entries alone and from certified states.
use std::time::{Duration, Instant};

use fama_ledger::key::Curve;
use fama_ledger::secret::SecretKey;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::print_step;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Pause between two questions to a joining node; bounds the precision of the measured times.
const POLL: Duration = Duration::from_millis(20);
/// Timeout of one join.
const TIMEOUT: Duration = Duration::from_secs(3_600);
/// How many signatures are checked to measure [`bare_rate`].
const SIGNATURES: u32 = 4_000;

/// The measurements of one join.
struct Joined {
    how: &'static str,
    /// Seconds until it answered correctly from certified states; 0 for entries alone.
    answers_seconds: f64,
    /// Seconds until it had verified every entry.
    seconds: f64,
    row_bytes: u64,
    entry_bytes: u64,
}

/// Lets one node join in each way, one after the other.
///
/// # Errors
/// [`Failure`].
pub(super) async fn join(cluster: &mut Cluster, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let first = cluster.status(0).await?;
    let entries = first["frontier"].as_object().into_iter().flat_map(|sizes| sizes.values());
    let entries: u64 = entries.filter_map(Value::as_u64).sum();
    let bare = tokio::task::spawn_blocking(bare_rate).await.map_err(|error| Failure::new("internal", error))?;
    let mut all = Vec::new();
    for how in ["full", "certified"] {
        let at = cluster.join(how)?;
        let joined = wait(cluster, at, how, &first["state_id"]).await;
        cluster.leave();
        all.push(joined?);
    }
    report(terminal, entries, bare, &all)
}

async fn wait(cluster: &Cluster, at: usize, how: &'static str, state: &Value) -> Result<Joined, Failure> {
    let begun = Instant::now();
    let mut joined = Joined { how, answers_seconds: 0.0, seconds: 0.0, row_bytes: 0, entry_bytes: 0 };
    loop {
        let seconds = begun.elapsed().as_secs_f64();
        // The listeners answer before the database is open: errors until then are expected.
        if let Ok(status) = cluster.status(at).await {
            let start = &status["start"];
            joined.row_bytes = joined.row_bytes.max(start["bytes"].as_u64().unwrap_or_default());
            let same = status["state_id"] == *state;
            if same && start["quick"] == "answering" && joined.answers_seconds == 0.0 {
                joined.answers_seconds = seconds;
            }
            if same && start.is_null() {
                joined.seconds = seconds;
                joined.entry_bytes = cluster.entry_bytes(at).await?;
                return Ok(joined);
            }
        }
        if begun.elapsed() > TIMEOUT {
            return Err(Failure::new("node_late", "a fresh node did not catch up in time"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Signature checks per second on all cores when nothing else is done: the upper bound of any verification.
fn bare_rate() -> f64 {
    let key = SecretKey::from_seed(Curve::Secp256k1, &[7; 32]).expect("not zero and below the group's order");
    let public = key.public();
    let signed: Vec<_> = (0..SIGNATURES).into_par_iter().map(|i| (i, key.sign(&i.to_le_bytes()))).collect();
    let begun = Instant::now();
    let good = signed.par_iter().filter(|(i, signature)| public.verify(&i.to_le_bytes(), signature).is_ok()).count();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let good = good as f64;
    good / begun.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn report(terminal: &mut Terminal<'_>, entries: u64, bare: f64, all: &[Joined]) -> Result<(), Failure> {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let mut text = format!("A fresh node joins, {entries} entries behind:\n\n");
    for one in all {
        let rate = entries as f64 / one.seconds.max(0.001);
        text += &format!("  {:10}", one.how);
        if one.answers_seconds > 0.0 {
            text += &format!(" answers after {:.1} s, {:.1} MB;", one.answers_seconds, megabytes(one.row_bytes));
        }
        let (seconds, moved) = (one.seconds, megabytes(one.entry_bytes));
        text += &format!(" has verified all after {seconds:.1} s, {moved:.1} MB: {rate:.0} entries per second\n");
    }
    text += &format!("\nSignature checks alone, on all cores: {bare:.0} per second.\n");
    let rows = all.iter().map(|one| {
        json!({
            "how": one.how, "answers_seconds": one.answers_seconds, "seconds": one.seconds,
            "row_bytes": one.row_bytes, "entry_bytes": one.entry_bytes,
            "entries_per_second": entries as f64 / one.seconds.max(0.001),
        })
    });
    let rows: Vec<Value> = rows.collect();
    print_step(
        terminal,
        &json!({"phase": "joined", "entries": entries, "bare_checks_per_second": bare, "nodes": rows}),
        &text,
    )
}
