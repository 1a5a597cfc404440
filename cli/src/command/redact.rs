//! `fama redact`: the operator's own node drops texts of notes.
use std::str::FromStr;

use fama_ledger::id::{EventId, NoteHash};
use serde_json::{Value, json};

use super::agent::text;
use super::event;
use crate::failure::Failure;
use crate::governance::ask_until_ready;
use crate::query::{self, Query};
use crate::settings::QueryArgs;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama redact 5f2c…e844
  fama redact sha256:91b0…07aa sha256:c2d4…11f3 --yes

The node deletes the text from its disk, shows it as redacted, serves and sends it to nobody, and
never takes it in again, not even after a restart. This cannot be undone. A hash that no entry names
yet may be dropped, too. `fama publish` from this node removes the text where it was published.
What remains: the note's hash, which is in the ledger forever; copies at other nodes, whose operators
decide for themselves; backups, published places and caches made before.";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Notes: sha256:… as `fama event --json` shows it, or the id of an event that names one
    #[arg(required = true, num_args = 1..=1000, value_name = "NOTE")]
    notes: Vec<NamedNote>,
    /// The admin listener of your own node
    #[arg(long, value_name = "URL", default_value = query::ADMIN)]
    admin: String,
    #[command(flatten)]
    query: QueryArgs,
    /// Skip the confirmation
    #[arg(long)]
    yes: bool,
}

/// A note, or the event that names it.
#[derive(Clone, Copy, Debug)]
enum NamedNote {
    Hash(NoteHash),
    Event(EventId),
}

impl FromStr for NamedNote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.strip_prefix("sha256:") {
            Some(hex) => hex.parse().map(Self::Hash).ok(),
            None => text.parse().map(Self::Event).ok(),
        };
        read.ok_or_else(|| "want sha256: and 64 hex digits, or an event's id".to_owned())
    }
}

impl NamedNote {
    /// The note's hash. Asks for the event, whose text says it, so the node cannot name another note.
    fn hash(self, args: &Args) -> Result<NoteHash, Failure> {
        let id = match self {
            Self::Hash(hash) => return Ok(hash),
            Self::Event(id) => id,
        };
        let (event, _) = event::fetch(&args.query.open()?, &id)?;
        event.action.note().ok_or_else(|| Failure::new("no_note", format!("the event {id} names no note")))
    }
}

/// Looks up all notes before it asks, and drops none if one is not found.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let hashes = args.notes.iter().map(|named| named.hash(args)).collect::<Result<Vec<_>, _>>()?;
    for hash in &hashes {
        terminal.say(format!("note  sha256:{hash}"));
    }
    terminal.say(
        "This node will delete the text, serve it to nobody, and never take it in again. This cannot be undone.\n\
         The hash stays in the ledger. Copies at other nodes, in backups and in published places stay where they are.",
    );
    terminal.confirm("Drop it for good?", args.yes)?;
    let node = Query::admin(&args.admin);
    let mut done: Vec<Value> = Vec::new();
    for hash in &hashes {
        let asked = ask_until_ready(&["not_ready"], || node.post_text(&["note", "redact"], &format!("sha256:{hash}")));
        let answer = asked.map_err(|failure| {
            let failure = failure.hint_if_unreachable("--admin URL names the admin listener of your own node");
            failure.achieved("dropped", done.clone().into())
        })?;
        done.push(answer);
    }
    let lines = done.iter().map(|answer| ("dropped", format!("{}, {}", text(&answer["note"]), what(answer))));
    let mut lines: Vec<_> = lines.collect();
    lines.push((
        "remains",
        "the hash in the ledger, copies of other operators, backups and published places".to_owned(),
    ));
    lines.push(("next", "run `fama publish`, if you publish, and make a backup in place of older ones".to_owned()));
    terminal.answer(&json!({"dropped": done}), FieldList(lines))
}

/// What the node had of the note, for people.
fn what(answer: &Value) -> &'static str {
    match answer["before"].as_str() {
        Some("held") => "its text is deleted",
        Some("wanted") => "its text had not arrived, and will not be taken in",
        Some("unknown") => "no entry names it yet; its text will not be taken in",
        Some("redacted") => "it was dropped before",
        _ => "its text is not here any more",
    }
}
