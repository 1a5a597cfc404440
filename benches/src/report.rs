//! One table of all that was measured, for people, and the same in `bench/latest.json` below the target folder.
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::grow::target;

/// The lines of the table so far.
pub(crate) struct Report {
    rows: Vec<Value>,
}

impl Report {
    pub(crate) fn new() -> Self {
        println!("{:44} {:>12} {:>12} {:>6}  limit", "task", "a second", "limit", "ratio");
        Self { rows: Vec::new() }
    }

    /// A line: what was done in a second, and what the machine does of the task's limit in a second, in the same run.
    pub(crate) fn limited(&mut self, task: &str, per_second: f64, (what, limit): (&str, f64)) {
        let ratio = per_second / limit;
        println!("{task:44} {:>12} {:>12} {ratio:>6.2}  {what}", rate(per_second), rate(limit));
        let limit = json!({"what": what, "per_second": rounded(limit)});
        self.rows.push(json!({
            "task": task, "per_second": rounded(per_second), "limit": limit, "ratio": (ratio * 1e3).round() / 1e3,
        }));
    }

    /// A line without a limit: how long something takes.
    pub(crate) fn takes(&mut self, task: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        let millis = |part: usize| rounded(times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3);
        let (p50, p99) = (millis(50), millis(99));
        println!("{task:44} p50 {p50} ms, p99 {p99} ms, of {}", times.len());
        self.rows.push(json!({"task": task, "count": times.len(), "p50_ms": p50, "p99_ms": p99}));
    }

    /// A line about the one before: the processor time of a node's threads for each of so many items.
    pub(crate) fn cpu(&mut self, before: &BTreeMap<String, Duration>, after: &BTreeMap<String, Duration>, items: u64) {
        let spent = |(name, time): (&String, &Duration)| {
            let time = time.saturating_sub(before.get(name).copied().unwrap_or_default());
            (name.clone(), rounded(time.as_secs_f64() * 1e6 / items as f64))
        };
        let mut spent: Vec<(String, f64)> = after.iter().map(spent).filter(|(_, micros)| *micros >= 0.1).collect();
        spent.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let shown: Vec<String> = spent.iter().map(|(name, micros)| format!("{name} {micros}")).collect();
        println!("  processor time for each, µs: {}", shown.join(", "));
        if let Some(row) = self.rows.last_mut() {
            row["cpu_micros"] = json!(BTreeMap::from_iter(spent));
        }
    }

    /// Writes all lines to `bench/latest.json`.
    pub(crate) fn keep(self) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let all = json!({"version": env!("CARGO_PKG_VERSION"), "cores": cores, "tasks": self.rows});
        let folder = target().join("bench");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("latest.json"), format!("{all:#}\n")).unwrap();
        println!("kept in {}", folder.join("latest.json").display());
    }
}

/// To four digits.
fn rounded(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap()
}

fn rate(per_second: f64) -> String {
    let digits = format!("{:.0}", rounded(per_second));
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
