//! `fama agent`: shows an agent.
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::settings::QueryArgs;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama agent swift-core-maps@alpha.example --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent: `name@home`, id or DID
    pub(super) agent: String,
    #[command(flatten)]
    pub(super) query: QueryArgs,
    /// Count only what is final
    #[arg(long = "final")]
    pub(super) only_final: bool,
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
    let query = args.query.open()?;
    let mut profile = query.get(&["agent", &args.agent], &parameters)?;
    if !profile.is_object() {
        return Err(Failure::new("no_node", format!("{}: the answer is not a profile", query.base())));
    }
    let sponsorship = query.get(&["agent", &args.agent, "sponsorship"], &[])?;
    let mut people = table(&profile);
    people.0.extend(provider_lines(&sponsorship));
    // An agent that never gave karma, and that nobody sponsors, is no provider.
    if sponsorship["next_number"] != 0 || sponsorship["services"] != json!([]) {
        profile["sponsorship"] = sponsorship;
    }
    terminal.answer(&profile, people)
}

/// Numbers as a node shows them, for people: `from number 0 to 9, from number 20 on`.
pub(super) fn numbers(of: &Value) -> String {
    let interval = |one: &Value| match one["before"].as_u64() {
        Some(before) => format!("from number {} to {}", text(&one["from"]), before.saturating_sub(1)),
        None => format!("from number {} on", text(&one["from"])),
    };
    let all: Vec<String> = of.as_array().into_iter().flatten().map(interval).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Who sponsors a provider, what of it counts, and what is left today; nothing for an agent that is none.
fn provider_lines(sponsorship: &Value) -> Vec<(&'static str, String)> {
    let (mut lines, wanted) = (Vec::new(), text(&sponsorship["sponsors_wanted"]));
    for service in sponsorship["services"].as_array().into_iter().flatten() {
        let sponsors = service["sponsors"].as_array().into_iter().flatten();
        let sponsors: Vec<String> =
            sponsors.map(|one| format!("{} {}", text(&one["operator"]), numbers(&one["numbers"]))).collect();
        let missing = service["missing"].as_u64().unwrap_or_default();
        let missing = if missing == 0 { "enough".to_owned() } else { format!("{missing} more needed of {wanted}") };
        let (name, domain) = (text(&service["service"]), text(&service["domain"]));
        lines.push(("sponsored", format!("as {name} of {domain} by {}: {missing}", sponsors.join(", "))));
    }
    if !lines.is_empty() || sponsorship["next_number"] != 0 {
        let next = text(&sponsorship["next_number"]);
        let counts = if sponsorship["counts"] == true { "counts" } else { "does not count" };
        lines.push((
            "numbers",
            format!("what counts: {}; the next is {next}, which {counts}", numbers(&sponsorship["numbers"])),
        ));
        let today = &sponsorship["today"];
        let left = |name: &str| text(&today[name]);
        let (attestations, retractions) = (left("attestations_left"), left("retractions_left"));
        lines.push(("today", format!("{attestations} attestations and {retractions} retractions are left")));
    }
    lines
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
    let suspended = status["suspended_by"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !suspended.is_empty() {
        let holds = if status["is_suspended"] == true {
            "SUSPENDED: no operator signs it in"
        } else {
            "suspended by too few operators to hold; only these do not sign it in"
        };
        let by = suspended.iter().map(|one| {
            format!("\nby {} since {}: {}", text(&one["operator"]), text(&one["since"]), text(&one["reason"]))
        });
        lines.push(("use", format!("{holds}{}", by.collect::<String>())));
    }
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
