//! `fama demo`: a whole federation on this machine, a short story, and optionally real or synthetic ratings.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fama_ledger::manifest::Policy;
use fama_node::wire::{Submission, SubmitRequest, SubmitResult};
use serde_json::{Value, json};

use crate::command::node::stop_signal;
use crate::failure::Failure;
use crate::synthetic::{self, Shape, ShapeError, Workload};
use crate::terminal::Terminal;

mod cluster;
mod join;
mod load;
mod ratings;
mod story;

use cluster::Cluster;
use load::Source;

/// Timeout for the nodes to find each other, and later to agree.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of operators [default: 4, or that of the federation in --data]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=24))]
    operators: Option<u16>,
    /// Keep keys, configuration and data in this folder; run again with it to continue where it stopped
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Load a CSV file of `source,target,rating,time` lines, without a header
    #[arg(long, value_name = "FILE")]
    ratings: Option<PathBuf>,
    #[command(flatten)]
    synthetic: SyntheticArgs,
    /// At the end, time how long a fresh node takes to join from entries alone, and another from certified states
    #[arg(long)]
    join: bool,
    /// Exit after the story instead of running until Ctrl-C
    #[arg(long)]
    exit: bool,
}

/// Ratings that are made up, with the skew of real ones.
#[derive(Debug, clap::Args)]
struct SyntheticArgs {
    /// Load N made-up events: registrations, admissions, attestations, and a few changed keys
    #[arg(long, value_name = "N", conflicts_with = "ratings", value_parser = clap::value_parser!(u64).range(6..=10_000_000))]
    synthetic: Option<u64>,
    /// How many of them register [default: a tenth]
    #[arg(long, value_name = "N", requires = "synthetic")]
    identities: Option<u32>,
    /// How many of those who register attest [default: 5000, or all if they are fewer]
    #[arg(long, value_name = "N", requires = "synthetic")]
    providers: Option<u32>,
    /// How unevenly attestations are spread, from 0 (all agents alike) to 3; the default is that of real ratings
    #[arg(long, value_name = "S", requires = "synthetic", default_value_t = synthetic::SKEW)]
    skew: f64,
    /// Who attests to whom, and all agents' keys, follow from this number
    #[arg(long, value_name = "N", requires = "synthetic", default_value_t = 1)]
    seed: u64,
}

impl SyntheticArgs {
    fn workload(&self) -> Result<Option<Workload>, Failure> {
        let Some(events) = self.synthetic else { return Ok(None) };
        let tenth = u32::try_from(events / 10).unwrap_or(u32::MAX).max(2);
        let identities = self.identities.unwrap_or(tenth);
        let shape = Shape {
            events,
            events_per_identity: events.checked_div(identities.into()).unwrap_or_default(),
            identities,
            providers: self.providers.unwrap_or(synthetic::PROVIDERS),
            skew: self.skew,
            seed: self.seed,
        };
        Workload::new(shape).map(Some).map_err(|error: ShapeError| Failure::new(error.code(), error))
    }
}

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama demo                                   four operators, until Ctrl-C
  fama demo --operators 7 --exit              seven operators, exit after the story
  fama demo --ratings soc-sign-bitcoinotc.csv --data /tmp/otc --json
  fama demo --synthetic 100000 --seed 7       a tenth of the events are registrations";

/// Starts the nodes, plays the story and loads the ratings; stops every node before it returns.
///
/// # Errors
/// The part that failed, or the node that ended.
pub(crate) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    // Read first: a broken file is reported before any node is started.
    let source = match (&args.ratings, args.synthetic.workload()?) {
        (Some(path), _) => Some(Source::File { path: path.clone(), overview: ratings::overview(path)? }),
        (None, synthetic) => synthetic.map(|workload| Source::Synthetic(Arc::new(workload))),
    };
    let policy = if matches!(source, Some(Source::Synthetic(_))) { synthetic::policy } else { Policy::recommended };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::new("system", error))?;
    let mut cluster = Cluster::start(args.operators.map(usize::from), args.data.as_deref(), policy)?;
    let ended = runtime.block_on(async {
        let stop = stop_signal()?;
        tokio::pin!(stop);
        tokio::select! {
            done = play(&mut cluster, source.as_ref(), args.join, terminal) => done.map_err(|failure| cluster.cause(failure))?,
            () = &mut stop => return Ok(()),
        }
        if !args.exit {
            terminal.say("The federation runs until Ctrl-C.");
            tokio::select! {
                () = &mut stop => {}
                failed = cluster.watch() => return Err(failed),
            }
        }
        Ok(())
    });
    cluster.stop();
    ended
}

async fn play(
    cluster: &mut Cluster,
    source: Option<&Source>,
    join: bool,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    cluster.wait_until_up(READY_TIMEOUT).await?;
    print_step(
        terminal,
        &json!({"phase": "up", "explorer": cluster.explorer(), "nodes": cluster.json()}),
        &cluster.intro(),
    )?;
    let clients = cluster.connect().await?;
    if cluster.is_new() {
        story::play(cluster, &clients, terminal).await?;
    }
    if let Some(source) = source {
        load::load(cluster, &clients, source, terminal).await?;
    }
    let table = cluster.wait_until_final(READY_TIMEOUT).await?;
    print_step(terminal, &json!({"phase": "final", "nodes": table}), &cluster::table(&table))?;
    if join {
        join::join(cluster, terminal).await?;
    }
    let ready =
        json!({"phase": "ready", "federation": cluster.federation().to_string(), "nodes": cluster.public_json()});
    print_step(terminal, &ready, &cluster.addresses())
}

/// Prints one line of JSON, or text for people.
fn print_step(terminal: &mut Terminal<'_>, json: &Value, people: &str) -> Result<(), Failure> {
    terminal.answer(json, people)
}

/// Submits to one node; repeats what was refused for a passing reason.
///
/// # Errors
/// The first refusal that a retry would not change.
async fn submit(
    client: &fama_node::network::client::Client,
    mut submissions: Vec<Submission>,
) -> Result<usize, Failure> {
    let count = submissions.len();
    let deadline = Instant::now() + READY_TIMEOUT;
    while !submissions.is_empty() {
        let request = SubmitRequest { forwarded: false, submissions: submissions.clone() };
        let response = client.submit(request).await.map_err(|error| Failure::new(error.code(), error))?;
        let mut again = Vec::new();
        for (submission, result) in submissions.into_iter().zip(response.0) {
            match result {
                SubmitResult::Accepted(_) => {}
                SubmitResult::Refused(refusal) if passing(&refusal.code) && Instant::now() < deadline => {
                    again.push(submission);
                }
                SubmitResult::Refused(refusal) => return Err(Failure::from(refusal)),
            }
        }
        if !again.is_empty() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        submissions = again;
    }
    Ok(count)
}

/// Whether a refusal may pass by itself.
fn passing(code: &str) -> bool {
    matches!(code, "busy" | "not_ready" | "home_unreachable" | "not_sponsored")
}
