//! `fama federation stand`
use fama_ledger::manifest::LogId;

use super::super::agent::text;
use crate::failure::Failure;
use crate::query::{self, Query};
use crate::terminal::Terminal;

/// Shown below the help.
pub(super) const EXAMPLE: &str = "\
Example: beta.example is to leave; every operator runs this against its own node
  fama federation stand --log beta.example/1";

/// Options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log, like beta.example/1
    #[arg(long)]
    log: LogId,
    /// The own node's admin listener
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let log = &args.log;
    terminal.say(format!(
        "Until the next version of the manifest holds, this node will cosign nothing more in the log {log}; if that\n\
         is its own log, it will take nothing more in. There is no way back."
    ));
    terminal.confirm("Stand still?", args.yes)?;
    let answer = Query::admin(&args.admin).post_text(&["federation", "stand"], &log.to_string());
    let answer = answer.map_err(|failure| failure.or_hint("--admin URL names the own node's admin listener"))?;
    let stand = text(&answer["stand"]);
    terminal.answer(&answer, stand.trim_end())
}
