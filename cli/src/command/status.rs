//! `fama status`
use super::agent::text;
use crate::failure::Failure;
use crate::query::{self, Query};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama status --query http://127.0.0.1:8080";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let status = Query::new(&args.query).get(&["status"], &[])?;
    let names = [
        "status",
        "operator",
        "federation",
        "manifest_version",
        "node_version",
        "fresh",
        "state_id",
        "frontier",
        "certified",
    ];
    let lines = names.into_iter().map(|name| (name, text(&status[name]))).filter(|(_, value)| !value.is_empty());
    let people = Table(lines.collect());
    terminal.answer(&status, people)
}
