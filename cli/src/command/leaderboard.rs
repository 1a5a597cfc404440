//! `fama leaderboard`: shows the ranking by karma.
use std::fmt::Write;

use serde_json::Value;

use super::agent::text;
use crate::failure::Failure;
use crate::settings::QueryArgs;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama leaderboard --limit 10 --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many agents, at most 500
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(super) limit: u16,
    #[command(flatten)]
    pub(super) query: QueryArgs,
}

/// Asks a node for its ranking.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let answer = args.query.open()?.get(&["leaderboard"], &[("limit", args.limit.to_string())])?;
    let people = table(&answer);
    terminal.answer(&answer, people)
}

fn table(answer: &Value) -> String {
    let mut lines = format!("{:>4} {:>8} {:>12}  agent", "", "karma", "attestations");
    for (i, agent) in answer["agents"].as_array().into_iter().flatten().enumerate() {
        let (karma, count) = (text(&agent["global_karma"]), text(&agent["attestation_count"]));
        let name = text(&agent["handle"]);
        let _ = write!(lines, "\n{:>4} {karma:>8} {count:>12}  {name}", i.saturating_add(1));
    }
    lines
}
