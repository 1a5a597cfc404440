//! `fama resume`: submits again what was signed and whose outcome is not known.
use std::time::Duration;

use fama_ledger::id::EventId;
use serde_json::{Value, json};

use crate::chain;
use crate::delivery::{Delivery, Wait};
use crate::failure::Failure;
use crate::pending::{Pending, PendingFolder};
use crate::terminal::Terminal;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example: after a command was interrupted, or ended with exit code 3
  fama resume

The same text again is the same event: it counts once, and gets the same receipt. What a log has
(final, if that was wanted) or a node refuses is not pending any more.
The files are in ~/.local/state/fama/pending.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these events [default: all that are pending]
    #[arg(value_name = "EVENT")]
    events: Vec<EventId>,
    /// Show what is pending, and send nothing
    #[arg(long, conflicts_with = "forget")]
    list: bool,
    /// Drop these events without submitting them; a log may have them all the same
    #[arg(long, requires = "events")]
    forget: bool,
    /// How long to wait for each to be final, if that was wanted
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    timeout: u64,
}

/// Submits what is pending, oldest event first.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let folder =
        PendingFolder::of_user().ok_or_else(|| Failure::new("no_home", "HOME is not set, so nothing is remembered"))?;
    let mut all = folder.all()?;
    if let Some(unknown) = args.events.iter().find(|wanted| all.iter().all(|(id, _)| id != *wanted)) {
        return Err(Failure::new("not_pending", format!("{unknown} is not pending"))
            .hint("`fama resume --list` shows what is; `fama event ID` what the ledger holds"));
    }
    all.retain(|(id, _)| args.events.is_empty() || args.events.contains(id));
    let (mut rows, mut lines, mut refused, mut open) = (Vec::new(), Vec::new(), 0usize, 0usize);
    for (id, pending) in &all {
        let mut row = json!({"event": id.to_string(), "text": pending.submission.text});
        let outcome = if args.list {
            "pending".to_owned()
        } else if args.forget {
            folder.remove(id)?;
            "dropped".to_owned()
        } else {
            match deliver(args, terminal, pending) {
                Ok(receipt) => {
                    row["receipt"] = receipt;
                    "accepted".to_owned()
                }
                Err(failure) => {
                    let failure = failure.or_usual_hint();
                    row["failure"] = failure.json();
                    if failure.undecided {
                        open += 1;
                    } else {
                        refused += 1;
                    }
                    format!("{failure}")
                }
            }
        };
        let told = ["kind", "home", "name", "identity", "subject", "provider", "created"];
        let told = |line: &&str| line.split_once(": ").is_some_and(|(name, _)| told.contains(&name));
        let kind = pending.submission.text.lines().filter(told).collect::<Vec<_>>().join("\n  ");
        lines.push(format!("{id}\n  {kind}\n  {}", outcome.replace('\n', "\n  ")));
        rows.push(row);
    }
    let people = if lines.is_empty() { "Nothing is pending.".to_owned() } else { lines.join("\n") };
    let answer = json!({"events": rows});
    if refused + open == 0 {
        return terminal.answer(&answer, people);
    }
    terminal.say(people);
    let message = format!("{refused} of {} events were refused, {open} are still pending", all.len());
    let mut failure = Failure::new(if open > 0 { "outcome_unknown" } else { "refused" }, message);
    failure = failure.achieved("events", Value::from(rows));
    Err(if open > 0 { failure.hint("`fama resume` again in a moment").undecided() } else { failure })
}

fn deliver(args: &Args, terminal: &mut Terminal<'_>, pending: &Pending) -> Result<Value, Failure> {
    // Nothing is known about the event as long as the manifest cannot be read.
    let manifest = chain::read(&pending.manifest).map_err(Failure::undecided)?;
    let delivery = Delivery {
        path: pending.manifest.clone(),
        manifest,
        nodes: pending.nodes.clone(),
        wait: if pending.until_final { Wait::Final } else { Wait::Accepted },
        timeout: Duration::from_secs(args.timeout),
    };
    let delivered = delivery.run(terminal, &pending.submission.read()?)?;
    terminal.say(&delivered.people);
    Ok(delivered.json)
}
