//! `fama grants`: shows what services let an agent do, or what a service lets agents do.
use std::fmt::Write;

use serde_json::{Value, json};

use super::agent::text;
use crate::failure::Failure;
use crate::settings::QueryArgs;
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: what an agent may do anywhere; then what a service lets others do
  fama grants swift-core-maps@alpha.example --query http://127.0.0.1:8080
  fama grants payments@beta.example --given --query http://127.0.0.1:8080";

/// Grants of one question to the node.
const PAGE: u16 = 200;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An agent or a service: `name@home`, id or DID
    pub(super) agent: String,
    /// What it lets others do, as a service
    #[arg(long)]
    pub(super) given: bool,
    /// Only those of this service, or to this agent
    #[arg(long, value_name = "IDENTITY")]
    pub(super) with: Option<String>,
    /// How many grants to show
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) query: QueryArgs,
}

/// Asks a node for the grants, page by page.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let query = args.query.open()?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut grants, mut cursor): (Vec<Value>, Option<String>) = (Vec::new(), None);
    let handle = loop {
        let mut parameters = vec![("given", args.given.to_string()), ("limit", PAGE.to_string())];
        parameters.extend(args.with.clone().map(|with| ("with", with)));
        parameters.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let mut answer = query.get(&["agent", &args.agent, "grants"], &parameters)?;
        if let Value::Array(page) = answer["grants"].take() {
            grants.extend(page);
        }
        cursor = answer["cursor"].as_str().map(ToOwned::to_owned);
        if cursor.is_none() || grants.len() >= limit {
            break answer["handle"].take();
        }
    };
    let more = cursor.is_some() || grants.len() > limit;
    grants.truncate(limit);
    let people = table(&grants, args.given, more);
    terminal.answer(&json!({"handle": handle, "grants": grants, "more": more}), people)
}

fn table(grants: &[Value], given: bool, more: bool) -> String {
    if grants.is_empty() {
        return "no grant stands".to_owned();
    }
    let mut lines = format!("{:<32} {:<24}  {}", "scope", "until", if given { "agent" } else { "service" });
    for grant in grants {
        let until = grant["expires"].as_str().unwrap_or("no end");
        let counts = if grant["in_force"] == true { "" } else { "  (not in force)" };
        let other = text(&grant[if given { "subject" } else { "issuer" }]);
        let _ = write!(lines, "\n{:<32} {until:<24}  {other}{counts}", text(&grant["scope"]));
    }
    if more {
        lines.push_str("\nand more: --limit N shows them");
    }
    lines
}
