//! `fama event`
use fama_ledger::id::EventId;

use super::agent::text;
use crate::failure::Failure;
use crate::query::{self, Query};
use crate::terminal::{Table, Terminal};

/// Shown below the help.
pub const EXAMPLE: &str = "\
Example:
  fama event 5f2c…e844 --query http://127.0.0.1:8080";

/// Options.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event's id
    event: EventId,
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
}

/// Does it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let event = Query::new(&args.query).get(&["event", &args.event.to_string()], &[])?;
    let people = members(&event);
    terminal.answer(&event, people)
}

/// The members that are no objects or lists, as the node names them.
fn members(value: &serde_json::Value) -> String {
    let plain = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_object() && !value.is_array());
    plain
        .map(|(name, value)| Table(vec![("", format!("{name}: {}", text(value)))]).to_string().trim_start().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
