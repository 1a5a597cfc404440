//! `fama agent`: shows an agent.
use serde_json::Value;

use crate::failure::Failure;
use crate::query::{self, Query};
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama agent swift-core-maps@alpha.example --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent: `name@home`, id or DID
    agent: String,
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = query::DEFAULT)]
    query: String,
    /// Count only what is final
    #[arg(long = "final")]
    only_final: bool,
}

/// A member of a JSON answer as text; empty if it is missing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// A node's text without control characters, which could manipulate the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if fama_ledger::text::forbidden(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Asks a node for a profile.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let parameters = if args.only_final { vec![("final", "1".to_owned())] } else { Vec::new() };
    let profile = Query::new(&args.query).get(&["agent", &args.agent], &parameters)?;
    let people = table(&profile);
    terminal.answer(&profile, people)
}

fn table(profile: &Value) -> FieldList {
    let (identity, reputation, status) = (&profile["identity"], &profile["reputation"], &profile["key_status"]);
    let karma =
        format!("{} from {} attestations", text(&reputation["global_score"]), text(&reputation["attestation_count"]));
    let revoked = if status["is_revoked"] == true {
        format!("revoked {} {}", text(&status["revoked_at"]), text(&status["revocation_reason"]))
    } else {
        "in force".to_owned()
    };
    let mut lines = vec![
        ("agent", text(&identity["handle"])),
        ("id", text(&identity["agent_id"])),
        ("did", text(&identity["did"])),
        ("joined", text(&identity["joined_at"])),
        ("karma", karma),
        ("final", if profile["ledger"]["final"] == true { "yes" } else { "not yet" }.to_owned()),
        ("key", format!("version {}, {revoked}\n{}", text(&identity["key_version"]), text(&identity["public_key"]))),
    ];
    if identity["bio"].is_string() {
        lines.insert(3, ("bio", text(&identity["bio"])));
    }
    for attestation in profile["recent_attestations"].as_array().into_iter().flatten().take(10) {
        let (date, provider) = (text(&attestation["date"]), text(&attestation["provider"]));
        let (points, reason) = (text(&attestation["points"]), text(&attestation["reason"]));
        let counts = if attestation["counts"] == false { "  (not sponsored: does not count)" } else { "" };
        lines.push(("attested", format!("{date}  {points:>3}  {provider}  {reason}{counts}")));
    }
    FieldList(lines)
}
