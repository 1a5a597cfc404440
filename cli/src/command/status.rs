//! `fama status`: shows the state of a node.
use serde_json::Value;

use super::agent::text;
use crate::failure::Failure;
use crate::query::{self, Query};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama status --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
}

/// Asks a node for its status.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let status = Query::new(&args.query).get(&["status"], &[])?;
    let people = table(&status);
    terminal.answer(&status, people)
}

fn table(status: &Value) -> FieldList {
    let federation = &status["federation"];
    let operator = if status["operator"].is_string() { text(&status["operator"]) } else { "none: a mirror".to_owned() };
    let freshness = if status["fresh"] == true { "up to date" } else { "behind, or not hearing enough of the others" };
    let mut lines = vec![
        ("status", format!("{}, {freshness}", text(&status["status"]))),
        ("operator", operator),
        ("federation", format!("{} {}", text(&federation["name"]), text(&federation["id"]))),
        ("manifest", format!("version {}", text(&status["manifest_version"]))),
        ("software", text(&status["node_version"])),
        ("heard", format!("{} of {} operators", text(&status["operators_heard"]), text(&status["operators"]))),
        ("state", text(&status["state_id"])),
    ];
    for (log, size) in status["frontier"].as_object().into_iter().flatten() {
        let certified = text(&status["certified"][log]);
        lines.push(("log", format!("{}: {} entries, {certified} final", text(&log.as_str().into()), text(size))));
    }
    FieldList(lines)
}
