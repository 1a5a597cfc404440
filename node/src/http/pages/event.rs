//! `/event/{id}`: a signed text, where it is recorded, and what came of it.
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use fama_ledger::id::EventId;
use fama_ledger::note::Note;
use maud::{Markup, html};

use super::Pages;
use super::frame::Page;
use super::words::{self, Mark, badge, given, number, piece, signed, time};
use crate::http::event::{CountedView, EventView, NoteView};
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::{ApiError, event};

pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id: EventId = id.parse().map_err(|rule| ApiError::bad("bad_id", format!("id: {rule}")).with("field", "id"))?;
    pages.read(place, move |_, moment| make(moment, id)).await
}

fn make(moment: &Moment<'_>, id: EventId) -> Result<Page, ApiError> {
    let view = event::read(moment, id)?;
    let name = name(view.kind);
    let is_open = view.positions.iter().any(|position| !position.r#final);
    let main = html! {
        div #head data-live {
            p.eyebrow { "Event" }
            h1 { (name) }
            p { code.whole { (view.id) } }
            p.badges {
                @if let Some(first) = view.positions.first() {
                    @if first.outcome == "applied" { (badge(Mark::Good, "Took effect")) }
                    @else { (badge(Mark::Bad, "Void")) " " span { "because " (first.outcome.replace('_', " ")) } }
                    (words::finality(first.r#final))
                }
            }
        }
        section #positions data-live aria-labelledby="positions-h" { h2 #positions-h { "Where it is recorded" } (positions(&view)) }
        @if let Some(counted) = &view.attestation { section #counted data-live aria-labelledby="counted-h" { h2 #counted-h { "What it counts for" } (self::counted(&view, counted)) } }
        @if let Some(note) = &view.note { section #note data-live aria-labelledby="note-h" { h2 #note-h { "Note" } (self::note(note)) } }
        section #text aria-labelledby="text-h" {
            h2 #text-h { "What was signed" }
            p.small { "These bytes, and nothing else. Their BLAKE3 hash is the event’s id." }
            pre #signed tabindex="0" { (lines(&view.text)) }
            dl.list {
                dt { "Signer" } dd { code.whole { (view.signer) } }
                dt { "Signature" } dd { code.whole { (view.signature) } }
                @if let Some(signature) = &view.countersignature { dt { "Signature of the new key" } dd { code.whole { (signature) } } }
                dt { "For programs" }
                dd.links { a href={ "/api/event/" (view.id) } { "Event" } a href={ "/api/event/" (view.id) "/proof" } { "Proof" } }
            }
        }
        (check(&view))
    };
    let stream = is_open.then(|| "/api/stream?kind=checkpoint".to_owned());
    Ok(Page {
        title: format!("{name} {}", view.id.get(..12).unwrap_or_default()),
        main,
        scripts: &["verify.js"],
        stream,
        ..Page::default()
    })
}

fn name(kind: &str) -> &'static str {
    match kind {
        "register" => "Registration",
        "rotate" => "New key",
        "revoke" => "Revocation",
        "attest" => "Attestation",
        "retract" => "Retraction",
        "admit" => "Sponsorship",
        "dismiss" => "End of a sponsorship",
        "grant" => "Grant",
        "ungrant" => "End of a grant",
        "suspend" => "Suspension",
        "resume" => "End of a suspension",
        _ => "Event",
    }
}

/// The text, with the identities and events in it as links.
fn lines(text: &str) -> Markup {
    let line = |line: &str| {
        let Some((field, value)) = line.split_once(": ") else { return html! { (given(line)) } };
        let page = match field {
            "identity" | "subject" | "issuer" | "provider" => Some("agent"),
            "attestation" => Some("event"),
            _ => None,
        };
        let page = page.filter(|_| value.len() == 64 && value.bytes().all(|digit| digit.is_ascii_hexdigit()));
        html! {
            (field) ": "
            @match page { Some(page) => { a href={ "/" (page) "/" (piece(value)) } { (value) } } None => { (given(value)) } }
        }
    };
    html! { @for one in text.lines() { (line(one)) "\n" } }
}

fn positions(view: &EventView) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Positions" {
            table {
                caption.hidden { "Logs that have this event" }
                thead { tr { th scope="col" { "Log" } th.num scope="col" { "Entry" } th scope="col" { "Recorded" } th scope="col" { "Outcome" } th scope="col" { "State" } } }
                tbody {
                    @for one in &view.positions {
                        tr { td { (given(&one.log)) } td.num { (number(one.index)) } td.when { (time(&one.time)) } td { (one.outcome.replace('_', " ")) } td { (words::finality(one.r#final)) } }
                    }
                }
            }
        }
    }
}

fn counted(view: &EventView, counted: &CountedView) -> Markup {
    html! {
        p {
            @if counted.counts { (badge(Mark::Good, "Counts")) } @else { (badge(Mark::Careful, "Does not count")) }
            " " (signed(counted.effective.into())) " after the cap of its day; number " (number(counted.number)) " of its provider."
            @if let Some(by) = counted.retracted_by { " Number " (number(by)) " retracts it." }
        }
        @if counted.event != view.id { p { "It takes back the attestation " (words::event(&counted.event)) "." } }
        p.small { "The day’s cap leaves " (number(counted.cap_left)) " points to this provider and agent." }
    }
}

fn note(note: &NoteView) -> Markup {
    let read = note.text.as_deref().and_then(|text| Note::parse(text.as_bytes()).ok());
    html! {
        @match (&read, note.redacted) {
            (Some(Note { bio, reason, reference, .. }), _) => {
                dl.list {
                    @if let Some(bio) = bio { dt { "Bio" } dd { (given(bio)) } }
                    @if let Some(reason) = reason { dt { "Reason" } dd { (given(reason)) } }
                    @if let Some(reference) = reference { dt { "Evidence" } dd { (words::evidence(reference)) } }
                }
            }
            (None, true) => { p.empty { "This node has dropped the note. The event still commits to its hash." } }
            (None, false) => { p.empty { "This node does not have the note yet." } }
        }
        p.small { "Its hash: " code.whole { (note.hash) } }
    }
}

fn check(view: &EventView) -> Markup {
    html! {
        section.check #check aria-labelledby="check-h" data-verify="event" data-question=(view.id) {
            h2 #check-h { "Check it yourself" }
            p { "Your browser can check that these bytes are in the log, in this place, under a head that a quorum of operators cosigned." }
            noscript { p { "Checking in the browser needs script. From a shell: " code { "curl -sS …/api/event/" (view.id) "/proof > event.proof && fama verify event.proof --manifest manifest.txt" } } }
            div.panel {}
        }
    }
}
