//! `fama status`: shows the state of a node.
use serde_json::Value;

use super::agent::text;
use crate::failure::Failure;
use crate::settings::QueryArgs;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: a container's health check, which fails unless the node is ready
  fama status --query http://127.0.0.1:8080 --json

Exit codes: 0 ready, 3 not ready (the answer says what it waits for), 1 no answer. --json prints
the same members in both cases: `ready`, `reasons`, and what the node says at /api/status.
Another operator counts as heard for a minute after its last word.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
}

/// Asks a node for its status.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let status = args.query.open_own()?.get(&["status"], &[])?;
    let people = table(&status);
    if status["ready"] == true {
        return terminal.answer(&status, people);
    }
    if !terminal.json {
        terminal.answer(&status, people)?;
    }
    let reasons: Vec<String> =
        status["reasons"].as_array().into_iter().flatten().map(|one| words(&text(one))).collect();
    let mut failure = Failure::new("not_ready", format!("the node is not ready: {}", reasons.join("; "))).undecided();
    failure.achieved = Some(Box::new(status));
    Err(failure.hint("the node's log says since when"))
}

/// What a reason of `/readyz` means.
pub(super) fn words(reason: &str) -> String {
    let (name, details) = reason.split_once(": ").unwrap_or((reason, ""));
    let meaning = match (name, details) {
        ("store", _) => "its database cannot be read",
        ("lagging", _) => "it lacks entries that other nodes have",
        ("too_few_operators_heard", _) => "it hears too few of the other operators",
        ("rollback", _) => return format!("it drops entries of an abandoned branch: {details}"),
        ("fault", _) => return format!("it no longer follows a log: {details}"),
        ("loading", _) => "it loads its first state",
        ("waiting", "starting") => "it is starting",
        ("waiting", "other_session") => "another process runs with its key",
        ("waiting", "catching_up") => "it has not heard enough of the others to know what it wrote before",
        ("waiting", "clock_ahead") => "its clock is ahead of the other operators' clocks",
        ("clock_behind", _) => "its clock is behind the other operators' clocks",
        ("waiting", "clock_jumped") => "its clock jumped",
        ("waiting", "own_log_fault") => "its own log has a fault: `fama check`",
        ("waiting", "ending") => "its log is to be cut by the next version of the manifest",
        ("waiting", "manifests_conflict") => "there are two valid texts of one version of the manifest",
        ("waiting", "adopting") => "its adoption of the new version of the manifest is not certified yet",
        ("waiting", "uncertified") => "no quorum has cosigned its log for long",
        _ => return reason.to_owned(),
    };
    format!("{meaning} ({reason})")
}

fn table(status: &Value) -> FieldList {
    let federation = &status["federation"];
    let operator = if status["operator"].is_string() { text(&status["operator"]) } else { "none: a mirror".to_owned() };
    let readiness = if status["ready"] == true { "ready" } else { "NOT READY" };
    let freshness = if status["fresh"] == true { "up to date" } else { "behind, or not hearing enough of the others" };
    let mut lines = vec![
        ("status", format!("{readiness}, {freshness}")),
        ("operator", operator),
        ("federation", format!("{} {}", text(&federation["name"]), text(&federation["id"]))),
        ("manifest", format!("version {}", text(&status["manifest_version"]))),
        ("software", text(&status["node_version"])),
        ("heard", format!("{} of {} operators", text(&status["operators_heard"]), text(&status["operators"]))),
        ("state", text(&status["state_id"])),
    ];
    for (domain, code) in status["lost_domains"].as_object().into_iter().flatten() {
        lines.push((
            "DOMAIN",
            format!("{domain} no longer names the service that this operator sponsors ({})", text(code)),
        ));
    }
    for (log, size) in status["frontier"].as_object().into_iter().flatten() {
        let certified = text(&status["certified"][log]);
        lines.push(("log", format!("{}: {} entries, {certified} final", text(&log.as_str().into()), text(size))));
    }
    FieldList(lines)
}
