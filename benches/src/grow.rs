//! A node's data folder that grows as fast as it can, and what a node with it costs.
//!
//! Every event of a synthetic workload is signed and verified, on all cores, and appended through the inbox: batches of
//! 4,096, each one durable write. Nothing is left out but the network. The inbox's clock is simulated, so that days pass
//! as they would for a busy federation and days of the state are as many. It begins in the past, since a node with the
//! machine's clock continues from there. The same numbers give the same events in the same order, in however many runs;
//! where their batches end depends on the runs.
pub(crate) mod asking;
mod costs;
mod folder;
pub(crate) mod live;
pub(crate) mod load;
mod plot;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use fama_cli::synthetic::{PROVIDERS, SKEW, Shape, Workload};
use serde_json::json;

/// Events without `events=`.
const EVENTS: u64 = 1_000_000;
/// Events for each identity without `identities=`.
const EVENTS_PER_IDENTITY: u64 = 10;
/// No cap: the number follows from the events, so that a longer run continues a shorter one.
const IDENTITIES_MAX: u32 = fama_cli::synthetic::IDENTITIES_MAX;

/// Takes words of the form `name=value`: `events`, `identities`, `providers`, `skew`, `seed`, `data` (the folder) and
/// `label` (a name for the results).
pub(crate) fn run(words: &[String]) {
    let mut shape = Shape {
        events: EVENTS,
        events_per_identity: EVENTS_PER_IDENTITY,
        identities: IDENTITIES_MAX,
        providers: PROVIDERS,
        skew: SKEW,
        seed: 1,
    };
    let (mut identities, mut label, mut data) = (None, String::new(), target().join("grow"));
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("want name=value, not {word}"));
        let number = || value.parse::<u64>().unwrap_or_else(|error| panic!("{word}: {error}"));
        let small = || value.parse::<u32>().unwrap_or_else(|error| panic!("{word}: {error}"));
        match name {
            "events" => shape.events = number(),
            "identities" => identities = Some(number()),
            "providers" => shape.providers = small(),
            "skew" => shape.skew = value.parse().unwrap_or_else(|error| panic!("{word}: {error}")),
            "seed" => shape.seed = number(),
            "data" => data = PathBuf::from(value),
            "label" => value.clone_into(&mut label),
            _ => panic!("unknown: {word}"),
        }
    }
    if let Some(identities) = identities {
        shape.events_per_identity = shape.events.checked_div(identities).unwrap_or_default();
    }
    let workload = Workload::new(shape).unwrap_or_else(|error| panic!("{error}"));
    let shape = *workload.shape();
    println!(
        "{} events, {} identities, {} providers, in {}",
        shape.events,
        shape.identities,
        shape.providers,
        data.display()
    );
    let grown = folder::Folder::open(&data, &shape);
    let load = load::load(&grown, &workload);
    let mut costs = costs::of_node(&grown, &shape);
    let saturated = costs["get_agent"]["typical"]["per_second"].as_f64().unwrap();
    costs["while_written"] = live::reads(&grown, &shape, saturated);
    // Only now: a start writes out what was in the write-ahead log.
    let disk = costs::disk(&grown, shape.events);
    let line = json!({
        "label": label, "events": shape.events, "identities": shape.identities, "providers": shape.providers,
        "skew": shape.skew, "seed": shape.seed, "load": load, "disk": disk, "node": costs,
    });
    println!("{line}");
    keep(&target().join("bench"), &line.to_string());
}

/// Draws what all runs so far have measured, as an SVG in the file `to`.
pub(crate) fn plot(to: &str) {
    plot::draw(&target().join("bench/grow.json"), Path::new(to));
}

/// Adds a line to `grow.json`.
fn keep(folder: &Path, line: &str) {
    fs::create_dir_all(folder).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join("grow.json")).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// The target folder of the build that this program is of.
pub(crate) fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().to_owned()
}
