//! Real ratings, and made-up ones: each node's answer about every rated person, against sums computed without Fama.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fama_cli::synthetic::{self, Shape, Step, Workload};
use serde_json::Value;

use crate::cli::Demo;

/// How long loading, settling and ranking may take.
const LOADED: Duration = Duration::from_secs(110);
/// How many connections query each node.
const ASKERS: usize = 3;

/// For each rated person: the sum of half of each rating, rounded away from zero, and the number of ratings.
fn sums(csv: &str) -> BTreeMap<u32, (i64, u64)> {
    let mut sums: BTreeMap<u32, (i64, u64)> = BTreeMap::new();
    for line in csv.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let (target, rating): (u32, f64) = (fields[1].parse().unwrap(), fields[2].parse().unwrap());
        let sum = sums.entry(target).or_default();
        sum.0 += (rating.signum() * (rating.abs() / 2.0).ceil()) as i64;
        sum.1 += 1;
    }
    sums
}

fn ask(agent: &ureq::Agent, url: &str) -> Value {
    agent.get(url).call().unwrap().body_mut().read_json().unwrap()
}

/// Asks a node about every rated person over a few persistent connections.
fn compare(node: &str, names: &[&str], sums: &[(u32, (i64, u64))]) {
    std::thread::scope(|scope| {
        for part in sums.chunks(sums.len().div_ceil(ASKERS)) {
            scope.spawn(move || {
                let agent = ureq::Agent::config_builder().timeout_global(Some(LOADED)).build().new_agent();
                for (id, (sum, count)) in part {
                    let home = names[*id as usize % names.len()];
                    let profile = ask(&agent, &format!("{node}/api/agent/person-{id}@{home}"));
                    let shown = &profile["reputation"];
                    assert_eq!(shown["global_score"], *sum, "person-{id}@{home} at {node}: {profile}");
                    assert_eq!(shown["attestation_count"], *count, "person-{id}@{home} at {node}: {profile}");
                    assert_eq!(profile["ledger"]["final"], true, "person-{id}@{home} at {node}: {profile}");
                }
            });
        }
    });
}

/// The file is named by `FAMA_RATINGS`, which CI sets.
#[test]
#[allow(clippy::print_stderr, reason = "a test that does nothing says so")]
fn every_node_answers_the_sum_that_the_ratings_give() {
    let Some(path) = std::env::var_os("FAMA_RATINGS").filter(|path| !path.is_empty()) else {
        eprintln!("skipped: FAMA_RATINGS names no file of ratings");
        return;
    };
    let path = path.into_string().unwrap();
    let csv = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("FAMA_RATINGS={path}: {error}"));
    let sums: Vec<(u32, (i64, u64))> = sums(&csv).into_iter().collect();

    let mut demo = Demo::start(&["--ratings", &path]);
    let loaded = demo.phase("loaded", LOADED);
    let ready = demo.phase("ready", LOADED);
    let ready_after = demo.begun.elapsed();
    let of = |member: &str| -> Vec<&str> {
        ready["nodes"].as_array().unwrap().iter().map(|node| node[member].as_str().unwrap()).collect()
    };
    let (names, nodes) = (of("operator"), of("query"));
    assert_eq!(names.len(), 4);

    let asked = Instant::now();
    std::thread::scope(|scope| {
        for node in &nodes {
            scope.spawn(|| compare(node, &names, &sums));
        }
    });
    let agent = ureq::Agent::new_with_defaults();
    let statuses: Vec<Value> = nodes.iter().map(|node| ask(&agent, &format!("{node}/api/status"))).collect();
    for status in &statuses {
        assert_eq!(status["state_id"], statuses[0]["state_id"]);
        assert_eq!(status["frontier"], status["certified"], "all final");
        assert_eq!(status["ranking_lag"], 0);
    }
    eprintln!(
        "{} people on {} nodes: ready after {ready_after:.1?}, compared in {:.1?}; {}",
        sums.len(),
        nodes.len(),
        asked.elapsed(),
        loaded["steps"]
    );
    assert!(demo.end("-TERM").success());
}

/// Also that whoever changed its key has another, and that the demonstration's numbers are the generator's.
#[test]
fn every_node_answers_the_sum_that_made_up_ratings_give() {
    let shape = Shape {
        events: 3_000,
        events_per_identity: 10,
        identities: 300,
        providers: 40,
        skew: synthetic::SKEW,
        seed: 5,
    };
    let workload = Workload::new(shape).unwrap();
    let (mut sums, mut versions, mut revoked) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for index in 0..shape.events {
        match workload.step(index) {
            Step::Attest { subject, delta, .. } => {
                let sum: &mut (i64, u64) = sums.entry(subject).or_default();
                *sum = (sum.0 + i64::from(delta), sum.1 + 1);
            }
            Step::Rotate { identity } => drop(versions.insert(identity, 2)),
            Step::Revoke { identity } => revoked.push(identity),
            Step::Register { .. } | Step::Admit { .. } => {}
        }
    }
    let sums: Vec<(u32, (i64, u64))> = sums.into_iter().collect();

    let mut demo = Demo::start(&["--operators", "2", "--synthetic", "3000", "--providers", "40", "--seed", "5"]);
    let loaded = demo.phase("loaded", LOADED);
    let ready = demo.phase("ready", LOADED);
    let of = |member: &str| -> Vec<&str> {
        ready["nodes"].as_array().unwrap().iter().map(|node| node[member].as_str().unwrap()).collect()
    };
    let (names, nodes) = (of("operator"), of("query"));
    nodes.iter().for_each(|node| compare(node, &names, &sums));
    assert!(!versions.is_empty() && !revoked.is_empty());
    let changed =
        versions.iter().map(|(id, version)| (*id, *version, false)).chain(revoked.iter().map(|id| (*id, 1, true)));
    let agent = ureq::Agent::new_with_defaults();
    for (id, version, is_revoked) in changed {
        let profile = ask(&agent, &format!("{}/api/agent/person-{id}@{}", nodes[1], names[id as usize % names.len()]));
        assert_eq!(profile["key_status"]["key_version"], version, "{profile}");
        assert_eq!(profile["key_status"]["is_revoked"], is_revoked, "{profile}");
    }
    let steps: Vec<(&str, u64)> = loaded["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["what"].as_str().unwrap(), step["events"].as_u64().unwrap()))
        .collect();
    let attested: u64 = sums.iter().map(|(_, (_, count))| count).sum();
    let changes = (versions.len() + revoked.len()) as u64;
    let want = [("identities", 300), ("admissions", 40), ("attestations", attested), ("key changes", changes)];
    assert_eq!(steps, want);
    assert!(demo.end("-TERM").success());
}
