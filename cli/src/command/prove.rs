//! `fama prove`: gets a proof from a node.
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fama_ledger::id::EventId;
use fama_ledger::profile::PROFILE_BYTES_MAX;
use serde_json::json;

use crate::failure::Failure;
use crate::files::{self, PUBLIC_MODE};
use crate::progress;
use crate::proven::{Accepted, VerifiedProof};
use crate::query::Query;
use crate::settings::{self, QueryArgs};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: from any node, verified before it is saved
  fama prove swift-core-maps@alpha.example --query https://any.example --out swift.proof
  fama prove 5f2c…e844 --event --manifest genesis.txt --out receipt.proof";

/// Codes of what may pass by itself: a quorum cosigns the logs' newest heads within seconds.
const IS_EARLY: [&str; 3] = ["proof_pending", "overloaded", "profile_left_out"];
/// Pause before asking again for something that cannot be proven yet.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An agent as `name@home`, id or DID; or the id of an event
    pub(super) what: String,
    /// Take an id for that of an event, not for that of the agent whose registration it is
    #[arg(long)]
    pub(super) event: bool,
    /// Write the proof to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Verify the proof with this manifest before it is printed or saved
    #[arg(long, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
    /// Prove also what this service lets the agent do: `name@home`, id or DID (repeatable)
    #[arg(long, value_name = "SERVICE", conflicts_with = "event")]
    pub(super) granted_by: Vec<String>,
    #[command(flatten)]
    pub(super) query: QueryArgs,
    /// How long to wait for a quorum's cosignatures
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// Asks a node for a proof, waiting for a quorum if need be.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let manifest = settings::trusted(args.manifest.as_deref())?;
    let query = args.query.open()?;
    let kind = kind(args, &query)?;
    let check = |proof: &str| match &manifest {
        Some(manifest) => VerifiedProof::read(proof, manifest, args.accepted).map(Some),
        None => Ok(None),
    };
    let granted_by = (!args.granted_by.is_empty()).then(|| ("granted_by", args.granted_by.join(",")));
    let parameters: Vec<_> = granted_by.into_iter().collect();
    let asked = (&[kind, &args.what, "proof"][..], parameters.as_slice());
    let (proof, shown) = fetch(&query, asked, Duration::from_secs(args.timeout), check)?;
    let out = args.out.as_ref().filter(|path| path.as_os_str() != "-");
    if let Some(path) = out {
        files::create(path, &proof, PUBLIC_MODE)?;
    }
    let mut json = json!({"kind": if kind == "event" { "event" } else { "profile" }, "bytes": proof.len()});
    if let Some(shown) = &shown {
        json["shows"] = shown.json();
    }
    let Some(path) = out else {
        json["proof"] = json!(proof);
        return terminal.answer(&json, proof.trim_end());
    };
    json["file"] = json!(path.display().to_string());
    let written = format!("{}, {} bytes", path.display(), proof.len());
    let checked = match &shown {
        Some(_) => "valid".to_owned(),
        None => format!("not yet: fama verify {} --manifest GENESIS", path.display()),
    };
    let mut lines = vec![("written", written), ("checked", checked)];
    lines.extend(shown.map(|shown| shown.table().0).unwrap_or_default());
    terminal.answer(&json, FieldList(lines))
}

/// The route of the node that has the proof. An agent's id is also the id of its registration; then the agent is meant.
fn kind(args: &Args, query: &Query) -> Result<&'static str, Failure> {
    if args.event {
        return Ok("event");
    }
    if args.what.parse::<EventId>().is_err() {
        return Ok("agent");
    }
    match query.get(&["agent", &args.what], &[]) {
        Err(failure) if failure.code == "unknown_agent" => Ok("event"),
        found => found.map(|_| "agent"),
    }
}

/// Asks again until there is a proof that passes `check`, or the time is up.
fn fetch<T>(
    query: &Query,
    (path, parameters): (&[&str], &[(&str, String)]),
    timeout: Duration,
    check: impl Fn(&str) -> Result<T, Failure>,
) -> Result<(String, T), Failure> {
    let (begun, spinner) = (Instant::now(), progress::spinner("waiting for a proof"));
    let proof = loop {
        let answer = query.get_text(path, parameters, PROFILE_BYTES_MAX).and_then(|proof| {
            let checked = check(&proof)?;
            Ok((proof, checked))
        });
        match answer {
            Err(failure) if IS_EARLY.contains(&failure.code.as_str()) && begun.elapsed() < timeout => {
                std::thread::sleep(PAUSE);
            }
            answer => break answer,
        }
    };
    spinner.finish_and_clear();
    proof
}
