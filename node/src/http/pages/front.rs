//! `/`: search, and how the federation is.
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};

use super::Pages;
use super::frame::{self, Page, tile};
use super::pulse::{self, Beat};
use super::words::{self, Mark, Told};
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::status::{self, StatusView};
use crate::http::view::RankedView;
use crate::http::{ApiError, leaderboard};

const NEWEST: usize = 8;
const BEST: usize = 8;

pub(super) async fn page(State(pages): State<Arc<Pages>>, place: Place) -> Result<Response, ApiError> {
    pages.read(place, make).await
}

fn make(pages: &Pages, moment: &Moment<'_>) -> Result<Page, ApiError> {
    let (status, beat) = (status::read(&pages.app, moment)?, pages.pulse.beat(moment)?);
    let newest = pulse::newest(moment, NEWEST)?;
    let best = match leaderboard::read(moment, None, None, BEST) {
        Err(error) if error.code() == "not_ready" => None,
        best => Some(best?),
    };
    let main = html! {
        div.hero {
            h1 { "Who is this agent, and how has it behaved?" }
            p.lead { "Every answer here is folded from signed events that this node holds and has checked. Any node of the federation gives the same." }
            (frame::search_form("", "front-q"))
        }
        section #pulse data-live aria-labelledby="pulse-h" {
            h2 #pulse-h { "Right now" }
            (tiles(&status, &beat))
        }
        section #revocations data-live aria-labelledby="revocations-h" {
            h2 #revocations-h { "Newest revocations" }
            (revocations(&beat))
        }
        div.columns {
            section #newest data-live aria-labelledby="newest-h" {
                h2 #newest-h { "Newest events" }
                (events(&newest))
                p { a href="/live" { "Follow them live" } }
            }
            section #best data-live aria-labelledby="best-h" {
                h2 #best-h { "Highest karma" }
                @match &best {
                    Some(best) => { (ranking(&best.agents)) }
                    None => { p.empty { "This node is still adding up its scores." } }
                }
                p { a href="/leaderboard" { "The whole leaderboard" } }
            }
        }
    };
    Ok(Page {
        title: "Explorer".to_owned(),
        part: "/",
        main,
        stream: Some("/api/stream".to_owned()),
        ..Page::default()
    })
}

fn tiles(status: &StatusView, beat: &Beat) -> Markup {
    let entries: u64 = status.frontier.values().sum();
    let finals: u64 = status.certified.values().sum();
    let open = entries.saturating_sub(finals);
    html! {
        dl.tiles {
            (tile("This node", &if status.fresh { words::badge(Mark::Good, "Up to date") } else { words::badge(Mark::Careful, "Behind") }, &html! {
                @if status.fresh { "has all entries known to exist" } @else { "asks the others for what it lacks" }
            }))
            (tile("Operators heard", &html! { (words::number(status.operators_heard)) " of " (words::number(status.operators)) }, &html! { "in the last minute" }))
            (tile("Events a minute", &html! { @if beat.about { "about " } (words::number(beat.per_minute)) }, &html! { "in all logs" }))
            (tile("Entries", &words::number(entries), &html! {
                @if open == 0 { "all final" } @else { (words::number(open)) " not final yet" }
            }))
        }
        p.small { "State " (words::digits(&status.state_id)) ", manifest version " (words::number(status.manifest_version)) ". " a href="/federation" { "Operators, logs and heads" } }
    }
}

fn revocations(beat: &Beat) -> Markup {
    html! {
        @if beat.revocations.is_empty() {
            p.empty {
                @match beat.since {
                    Some(since) => { "No key was revoked since " (words::time(&since.to_string())) ", as far as this page looks back." }
                    None => { "No key has been revoked." }
                }
            }
        } @else {
            ul.events {
                @for one in &beat.revocations {
                    li data-key=(one.event) { (words::time(&one.time)) " " span.what { (one.sentence()) } " " (words::event(&one.event)) }
                }
            }
            @if let Some(since) = beat.since { p.small { "This page looks back to " (words::time(&since.to_string())) "." } }
        }
    }
}

fn events(newest: &[Told]) -> Markup {
    html! {
        @if newest.is_empty() { p.empty { "Nothing has happened yet." } }
        @else {
            ul.events {
                @for one in newest {
                    li data-key=(one.event) { (words::time(&one.time)) " " span.what { (one.sentence()) } " " (words::event(&one.event)) }
                }
            }
        }
    }
}

/// A ranking as a table.
fn ranking(agents: &[RankedView]) -> Markup {
    html! {
        @if agents.is_empty() { p.empty { "No agent has karma yet." } }
        @else {
            table {
                caption.hidden { "Agents with the highest karma" }
                thead { tr { th scope="col" { "Agent" } th.num scope="col" { "Karma" } } }
                tbody { @for one in agents { tr { td { (words::agent(&one.handle)) } td.num { (words::number(one.global_karma)) } } } }
            }
        }
    }
}
