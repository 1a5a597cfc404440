//! `fama event`: shows an event.
use fama_ledger::event::Event;
use fama_ledger::id::EventId;
use serde_json::Value;

use super::agent::text;
use crate::failure::Failure;
use crate::query::Query;
use crate::settings::QueryArgs;
use crate::terminal::{FieldList, Terminal};

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Example:
  fama event 5f2c…e844 --query http://127.0.0.1:8080";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The event's id
    pub(super) event: EventId,
    #[command(flatten)]
    pub(super) query: QueryArgs,
}

/// Gets an event from a node, with the node's whole answer. The id is the hash of the text, so the node cannot
/// substitute another event.
pub(super) fn fetch(query: &Query, id: &EventId) -> Result<(Event, Value), Failure> {
    let answer = query.get(&["event", &id.to_string()], &[])?;
    let event = Event::parse(answer["text"].as_str().unwrap_or_default().as_bytes());
    match event {
        Ok(event) if event.id() == *id => Ok((event, answer)),
        _ => Err(Failure::new("wrong_answer", format!("the node's answer is not the event {id}"))),
    }
}

/// Asks a node for an event and checks its id.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let (event, answer) = fetch(&args.query.open()?, &args.event)?;
    let people = table(&event, &answer);
    terminal.answer(&answer, people)
}

fn table(event: &Event, answer: &Value) -> FieldList {
    let mut lines = vec![("event", event.id().to_string())];
    for position in answer["positions"].as_array().into_iter().flatten() {
        let end = if position["final"] == true { "final" } else { "not final yet" };
        let (log, index, time) = (text(&position["log"]), text(&position["index"]), text(&position["time"]));
        lines.push(("where", format!("log {log}, entry {index}, {time}: {}, {end}", text(&position["outcome"]))));
    }
    let given = &answer["attestation"];
    if given.is_object() {
        let counts = if given["counts"] == true { "counts" } else { "does not count" };
        let retracted =
            given["retracted_by"].as_u64().map(|by| format!("; number {by} retracts it")).unwrap_or_default();
        let (number, effective) = (text(&given["number"]), text(&given["effective"]));
        lines.push(("number", format!("{number} of its provider: {effective} points; it {counts}{retracted}")));
        let left = text(&given["cap_left"]);
        lines.push(("cap", format!("{left} points are left to this provider and agent on that day")));
    }
    lines.push(("text", event.text()));
    match &answer["note"] {
        Value::Null => (),
        note if note["redacted"] == true => lines.push(("note", "redacted by this node".to_owned())),
        note if note["text"].is_string() => lines.push(("note", text(&note["text"]))),
        _ => lines.push(("note", "not on this node yet".to_owned())),
    }
    FieldList(lines)
}
