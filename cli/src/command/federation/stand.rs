//! `fama federation stand`: freezes a log at one's own node.
use fama_ledger::manifest::LogId;

use super::super::agent::text;
use crate::failure::Failure;
use crate::governance::ask_until_ready;
use crate::query::{self, Query};
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(super) const EXAMPLE: &str = "\
Example: beta.example is to leave; every operator runs this with its own node
  fama federation stand --log beta.example/1";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The log, like beta.example/1
    #[arg(long)]
    log: LogId,
    /// The admin listener of your own node
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
    /// Skip the confirmation
    #[arg(long)]
    yes: bool,
}

/// Makes the operator's own node stop cosigning a log.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let log = &args.log;
    terminal.say(format!(
        "Until the next version of the manifest is adopted, this node will cosign nothing more in the log {log}; if\n\
         that is its own log, it will accept no more entries. This cannot be undone."
    ));
    terminal.confirm("Freeze the log?", args.yes)?;
    let node = Query::admin(&args.admin);
    let answer = ask_until_ready(&["not_ready"], || node.post_text(&["federation", "stand"], &log.to_string()));
    let answer = answer
        .map_err(|failure| failure.hint_if_unreachable("--admin URL names the admin listener of your own node"))?;
    let stand = text(&answer["stand"]);
    terminal.answer(&answer, stand.trim_end())
}
