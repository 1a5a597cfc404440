//! Whole federations in one thread: the real inbox and store, on simulated time, network and disks.
//!
//! One seed decides everything: who takes part, who lies and how, what breaks when, what agents want. A failure
//! prints its seed. `FAMA_SIMULATE_SEED` and `FAMA_SIMULATE_RUNS` choose other runs, or more of them.
#![allow(clippy::print_stdout, reason = "progress and figures of long runs")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod chance;
mod checker;
mod cuts;
mod federation;
mod liar;
mod load;
mod node;
mod plan;
mod planted;
mod world;

use checker::StopReason;
use plan::RunPlan;
use planted::Planted;
use world::World;

/// Runs of the short form, which is part of the normal tests.
const RUNS: u64 = 300;
/// A planted bug must be caught within this many runs.
const PLANTED_RUNS_MAX: u64 = 500;
/// How many of the last happenings a failure shows; a single run shows all.
const SHOWN: usize = 30;
/// How long a federation rests, in milliseconds: long enough for cosignatures that are not renewed to be too old.
const REST_MILLIS: u64 = 240_000;
/// How often a long run reports its progress.
const PROGRESS: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug)]
enum RunEnd {
    /// Every promise was kept.
    Kept,
    /// More went wrong than any promise covers: what, and how to repeat the run.
    Beyond(String),
    /// A promise is broken; the report says which and how to repeat the run.
    Broken(String),
}

struct RunResult {
    ended: RunEnd,
    trace: u64,
    steps: u64,
    /// Later versions of the manifest that were published, logs that they ended, and logs that nobody can ever cut.
    governed: [u64; 3],
}

/// Totals over many runs.
#[derive(Debug, Default)]
struct RunTotals {
    pages: Vec<String>,
    steps: u64,
    beyond: Vec<String>,
    versions: u64,
    ended: u64,
    split: u64,
}

impl RunTotals {
    fn add(&mut self, run: RunResult) {
        self.steps += run.steps;
        let [versions, ended, split] = run.governed;
        self.versions += versions;
        self.ended += ended;
        self.split += split;
        match run.ended {
            RunEnd::Kept => {}
            RunEnd::Beyond(page) => self.beyond.push(page),
            RunEnd::Broken(page) => self.pages.push(page),
        }
    }
}

fn run(seed: u64, planted: Option<Planted>, shown: usize) -> RunResult {
    let mut world = World::new(seed, planted, shown);
    let ended = match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(Ok(())) => RunEnd::Kept,
        Ok(Err(StopReason::Beyond(what))) => RunEnd::Beyond(beyond(seed, &world, what)),
        Ok(Err(StopReason::Broken { promise, what })) => RunEnd::Broken(page(seed, &world, promise, &what)),
        Ok(Err(StopReason::Unreadable(what))) => RunEnd::Broken(page(seed, &world, "disks can be read", &what)),
        Err(_) => RunEnd::Broken(page(seed, &world, "nothing panics", "see above")),
    };
    RunResult { ended, trace: world.trace.hash(), steps: world.steps, governed: world.governed() }
}

/// A single run shows all that happened.
fn beyond(seed: u64, world: &World, what: &str) -> String {
    let all = if world.trace.last.len() > SHOWN { world.trace.text() } else { String::new() };
    format!("seed {seed}: {what}{all}")
}

fn page(seed: u64, world: &World, promise: &str, what: &str) -> String {
    let (steps, time) = (world.steps, world.time());
    format!(
        "broken: {promise}\n{what}\nseed {seed}, step {steps}, {time} ms{}\n\nrepeat: make simulate SEED={seed} RUNS=1\n",
        world.trace.text()
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// Runs the seeds from `first` on, on all cores, until one breaks a promise.
fn simulate(first: u64, runs: u64) -> RunTotals {
    let (next, begun) = (AtomicU64::new(0), Instant::now());
    let (sum, told) = (Mutex::new(RunTotals::default()), Mutex::new(Instant::now()));
    let shown = if runs == 1 { usize::MAX } else { SHOWN };
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= runs || !sum.lock().unwrap().pages.is_empty() {
                return;
            }
            let run = run(first.wrapping_add(at), None, shown);
            sum.lock().unwrap().add(run);
            let mut told = told.lock().unwrap();
            if told.elapsed() > PROGRESS {
                *told = Instant::now();
                let rate = (at + 1) as f64 / begun.elapsed().as_secs_f64();
                println!("{} of {runs} runs, {rate:.1} a second, {} steps", at + 1, sum.lock().unwrap().steps);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap()
}

#[test]
fn federations_keep_their_promises() {
    let mut drawn = [0; 8];
    getrandom::fill(&mut drawn).unwrap();
    // The normal tests use the same runs each time; an explicit number of runs starts at a random seed.
    let asked = number("FAMA_SIMULATE_RUNS");
    let seed = number("FAMA_SIMULATE_SEED").or(asked.is_none().then_some(0));
    let (first, runs) = (seed.unwrap_or(u64::from_le_bytes(drawn) >> 20), asked.unwrap_or(RUNS));
    let RunTotals { pages, beyond, versions, ended, split, .. } = simulate(first, runs);
    assert!(pages.is_empty(), "{}", pages.join("\n\n"));
    println!("{runs} runs from seed {first}, {} of them beyond what is promised", beyond.len());
    beyond.iter().for_each(|page| println!("{page}"));
    println!("{versions} later versions of manifests, {ended} logs ended, {split} that nobody can ever cut");
    assert!(runs < RUNS || (versions > 0 && ended > 0), "no manifest changed in {runs} runs");
    assert!(split <= 2 + runs / 100, "{split} logs in {runs} runs that nobody can ever cut");
    let most = 2 + runs as usize / 10;
    assert!(beyond.len() <= most, "{} of {runs} runs went beyond what is promised", beyond.len());
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in 0..10 {
        let (one, other) = (run(seed, None, SHOWN), run(seed, None, SHOWN));
        assert_eq!((one.trace, one.steps), (other.trace, other.steps), "seed {seed}");
    }
}

/// A quiet run of four, then rest: nothing is appended, and `gone` is no more. Liars date what they cosign ahead.
fn rested(seed: u64, liars: &[usize], gone: Option<usize>, planted: Option<Planted>) -> Result<(), StopReason> {
    let mut world = World::of(seed, RunPlan::quiet(seed, liars), planted, SHOWN);
    world.date_ahead();
    world.run()?;
    world.rest(REST_MILLIS, gone)
}

#[test]
fn certificates_stay_recent() {
    for seed in 0..4 {
        for (liars, gone) in [(&[][..], None), (&[], Some(2)), (&[1], None)] {
            let rested = rested(seed, liars, gone, None);
            assert!(rested.is_ok(), "seed {seed}, liars {liars:?}, gone {gone:?}: {rested:?}");
        }
    }
    for (planted, liars) in [(Planted::DropsRenewals, &[][..]), (Planted::KeepsFuture, &[1])] {
        let caught = rested(0, liars, None, Some(planted));
        assert!(matches!(caught, Err(StopReason::Broken { promise, .. }) if promise == planted.breaks()), "{caught:?}");
    }
}

#[test]
fn planted_bugs_are_caught() {
    for planted in Planted::ALL {
        let breaks = |seed: &u64| match run(*seed, Some(planted), SHOWN).ended {
            RunEnd::Broken(page) => page.starts_with(&format!("broken: {}\n", planted.breaks())),
            RunEnd::Kept | RunEnd::Beyond(_) => false,
        };
        let caught = (0..PLANTED_RUNS_MAX).find(breaks);
        let seed = caught.unwrap_or_else(|| panic!("{planted:?} was not caught in {PLANTED_RUNS_MAX} runs"));
        println!("{planted:?}: \"{}\" broken after {} runs", planted.breaks(), seed + 1);
    }
}
