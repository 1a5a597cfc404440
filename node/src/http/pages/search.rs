//! `/search`: what begins with what was asked; one exact match is shown at once.
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fama_ledger::id::EventId;
use maud::{Markup, html};

use super::frame::{self, Page};
use super::{Pages, words};
use crate::http::input::Params;
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::search::{self, FoundView, SearchView};
use crate::http::{ApiError, Serving};

const LIMIT: usize = 50;
/// Length of the shortest whole key, or hash of one.
const KEY_BYTES_MIN: usize = 64;

pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["q"])?;
    let given = params.get("q").unwrap_or_default().trim().to_owned();
    let read = move || {
        let Serving(app) = Serving::of(&pages.app);
        if given.is_empty() {
            return Ok(empty().answer(&app));
        }
        let (moment, q) = (Moment::open(&app)?, search::query_text(&given)?);
        if let Some(path) = exact(&moment, &q)? {
            let location = HeaderValue::try_from(path).map_err(ApiError::internal)?;
            return Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response());
        }
        let found = search::read(&moment, &q, LIMIT)?;
        Ok(results(&given, &found).answer(&app))
    };
    place.read(read).await
}

/// The page of what is named in full.
fn exact(moment: &Moment<'_>, q: &str) -> Result<Option<String>, ApiError> {
    let is_whole = q.contains('@') || q.starts_with("did:agent:") || q.len() == 64;
    if is_whole && let Ok(found) = moment.find(q) {
        return Ok(Some(format!("/agent/{}", found.id)));
    }
    if let Ok(id) = q.parse::<EventId>()
        && !moment.view.positions(&id)?.is_empty()
    {
        return Ok(Some(format!("/event/{id}")));
    }
    let found = search::read(moment, q, 2)?;
    Ok(match found.results.as_slice() {
        [one] if matches!(one.matched, "key" | "key_hash") && q.len() >= KEY_BYTES_MIN => {
            Some(format!("/agent/{}", one.agent_id))
        }
        _ => None,
    })
}

fn empty() -> Page {
    let main = html! {
        h1 { "Search" }
        (frame::search_form("", "q"))
        (help())
    };
    Page { title: "Search".to_owned(), main, ..Page::default() }
}

fn help() -> Markup {
    html! {
        p { "A search finds what begins with what you type: a handle (" code { "swift-core-maps@alpha.example" } "), an id, a DID, a public key, the hash of a key, a service or its domain; and an event by its whole id." }
    }
}

fn results(q: &str, found: &SearchView) -> Page {
    let main = html! {
        h1 { "Results for “" (words::given(q)) "”" }
        (frame::search_form(q, "q"))
        @if found.results.is_empty() {
            p.empty { "Nothing that this node knows begins so." }
            (help())
        } @else {
            table {
                caption.hidden { "What begins so" }
                thead { tr { th scope="col" { "Found" } th scope="col" { "By" } th scope="col" { "Id" } } }
                tbody { @for one in &found.results { (row(one)) } }
            }
            @if found.more { p { "There is more: type a longer beginning." } }
        }
    };
    Page { title: format!("Search: {q}"), main, ..Page::default() }
}

fn row(one: &FoundView) -> Markup {
    let by = match one.matched {
        "did" => "DID",
        "key_hash" => "hash of a key",
        other => other,
    };
    html! {
        tr {
            td {
                @match &one.service {
                    Some(service) => { a href={ "/service/" (words::piece(&one.agent_id)) } { (words::given(&service.service)) } " at " (words::given(&service.domain)) }
                    None => { (words::agent(&one.handle)) }
                }
            }
            td { (by) }
            td { (words::digits(&one.agent_id)) }
        }
    }
}
