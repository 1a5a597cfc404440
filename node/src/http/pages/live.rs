//! `/live`: the newest events, which scripts keep new.
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use maud::html;

use super::frame::Page;
use super::{Pages, pulse, words};
use crate::http::ApiError;
use crate::http::input::Params;
use crate::http::layers::Place;
use crate::http::moment::Moment;

const NEWEST: usize = 50;

pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    Params::new(query, &[])?;
    pages.read(place, |_, moment| make(moment)).await
}

fn make(moment: &Moment<'_>) -> Result<Page, ApiError> {
    let newest = pulse::newest(moment, NEWEST)?;
    let main = html! {
        h1 { "Live" }
        p.lead { "The newest events of all logs that took effect, each as soon as this node has checked it." }
        p.tools {
            button #pause type="button" hidden aria-pressed="false" { "Pause" }
            noscript { "Without script this page shows the newest events of the moment it was loaded. " a href="/live" { "Load it again" } }
        }
        section #events data-live aria-label="Newest events" {
            @if newest.is_empty() { p.empty { "Nothing has happened yet." } }
            @else { (words::happened("Newest events, newest first", &newest)) }
        }
        p.small { "Programs follow the same at " code { "/api/stream" } "." }
    };
    Ok(Page {
        title: "Live".to_owned(),
        part: "/live",
        main,
        stream: Some("/api/stream".to_owned()),
        ..Page::default()
    })
}
