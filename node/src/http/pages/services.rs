//! `/services` and `/service/{x}`: who attests, who answers for them, and what they gave.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};

use super::frame::{Page, next, tile};
use super::words::{self, Mark, badge, given, number, piece, signed, time};
use super::{Pages, chart};
use crate::http::history::Wanted;
use crate::http::input::Params;
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::services::{self, ProviderView, ServiceView, SubjectView};
use crate::http::{ApiError, App, history};

/// Rows of one page.
const LIMIT: usize = 50;
/// Of how many of the newest attestations the deltas are shown.
const NEWEST: usize = 200;

pub(super) async fn list(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["cursor"])?;
    let after = params.get("cursor").map(ToOwned::to_owned);
    pages.read(place, move |pages, moment| make_list(pages, moment, after.as_deref())).await
}

fn make_list(pages: &Pages, moment: &Moment<'_>, after: Option<&str>) -> Result<Page, ApiError> {
    let found = services::page(moment, after, LIMIT)?;
    let main = html! {
        h1 { "Services" }
        p.lead { "Services give karma. What one gives counts once " (words::count(found.sponsors_wanted.into(), "operator sponsors", "operators sponsor")) " it." }
        section #services data-live aria-label="Services" {
            @if found.services.is_empty() { p.empty { "No operator sponsors a service yet." } }
            @else { (table(&found.services, &pages.app, true)) }
        }
        (next(found.cursor.as_ref().map(|cursor| format!("/services?cursor={}", piece(cursor))).as_deref()))
    };
    Ok(Page { title: "Services".to_owned(), part: "/services", main, ..Page::default() })
}

fn table(services: &[ServiceView], app: &App, links: bool) -> Markup {
    let lost = app.shared.health.read().lost_domains.clone();
    let lost = |domain: &str| lost.iter().find(|(name, _)| name.as_str() == domain).map(|(_, code)| *code);
    html! {
        div.scroll tabindex="0" role="group" aria-label="Services" {
            table {
                caption.hidden { "Services, their domains and their sponsors" }
                thead { tr { th scope="col" { "Service" } th scope="col" { "Domain" } th scope="col" { "Provider" } th.wide scope="col" { "Sponsors, and when each last proved the domain" } th scope="col" { "State" } } }
                tbody {
                    @for one in services {
                        tr {
                            td { @if links { a href={ "/service/" (one.provider_id) } { (given(&one.service)) } } @else { (given(&one.service)) } }
                            td { (given(&one.domain)) @if let Some(code) = lost(&one.domain) { " " (badge(Mark::Bad, "Lost")) " " span.small { (code.replace('_', " ")) } } }
                            td { (words::agent(&one.handle)) }
                            td.wide { ul.plain { @for sponsor in &one.sponsors {
                                li {
                                    (given(&sponsor.operator))
                                    @if let Some(since) = &sponsor.since { ", " (time(since)) }
                                    @if let Some(method) = &sponsor.method { ", by " (method) }
                                    @if let Some(event) = &sponsor.event { " " (words::event(event)) }
                                }
                            } } }
                            td { @if one.counts { (badge(Mark::Good, "Counts")) } @else { (badge(Mark::Careful, "Too few sponsors")) } }
                        }
                    }
                }
            }
        }
    }
}

pub(super) async fn one(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["cursor"])?;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    let after = params.get("cursor").map(|text| text.parse().map_err(|_| wrong())).transpose()?;
    let make = move |pages: &Pages, moment: &Moment<'_>| {
        let found = services::read(moment, &x, after, LIMIT)?;
        make_one(pages, moment, &found)
    };
    pages.read(place, make).await
}

fn make_one(pages: &Pages, moment: &Moment<'_>, found: &ProviderView) -> Result<Page, ApiError> {
    let id = &found.provider_id;
    let wanted = Wanted { given: true, limit: NEWEST, ..Wanted::default() };
    let given_ones = history::page(moment, id, wanted)?;
    let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
    for one in &given_ones.attestations {
        *counts.entry(one.attestation.points.into()).or_default() += 1;
    }
    let main = html! {
        p.eyebrow { "Provider" }
        h1.handle { (words::handle(&found.handle)) }
        section #made data-live aria-label="In short" {
            dl.tiles {
                (tile("Signed", &number(found.made), &html! { "attestations and retractions" }))
                (tile("Sponsors wanted", &number(found.sponsors_wanted), &html! { "for what it gives to count" }))
                (tile("Agent", &html! { a href={ "/agent/" (id) } { "Its own page" } }, &html! { "keys and karma" }))
            }
        }
        section #services data-live aria-labelledby="services-h" {
            h2 #services-h { "Services and sponsors" }
            @if found.services.is_empty() { p.empty { "No operator sponsors it, so nothing that it gives counts." } }
            @else { (table(&found.services, &pages.app, false)) }
        }
        section #deltas data-live aria-labelledby="deltas-h" {
            h2 #deltas-h { "How it rates" }
            @if counts.is_empty() { p.empty { "It has attested to nobody." } }
            @else {
                p.small { "The deltas of its newest " (words::count(counts.values().sum(), "attestation", "attestations")) "." }
                (chart::deltas(&every(&counts)))
            }
        }
        section #subjects data-live aria-labelledby="subjects-h" { h2 #subjects-h { "To whom it gave" } (subjects(&found.subjects)) }
        (next(found.cursor.as_ref().map(|cursor| format!("/service/{id}?cursor={cursor}")).as_deref()))
        p.small { a href={ "/api/service/" (id) } { "The same as JSON" } }
    };
    let stream = Some(format!("/api/stream?provider={id}"));
    Ok(Page { title: format!("Provider {}", found.handle), part: "/services", main, stream, ..Page::default() })
}

/// Every delta from the lowest to the highest, those that were not given with 0: what was given has bounds by the policy.
fn every(counts: &BTreeMap<i64, u64>) -> Vec<(i64, u64)> {
    let most = counts.keys().map(|delta| delta.abs()).max().unwrap_or(0);
    if most > 25 {
        return counts.iter().map(|(delta, count)| (*delta, *count)).collect();
    }
    (-most..=most).filter(|delta| *delta != 0).map(|delta| (delta, counts.get(&delta).copied().unwrap_or(0))).collect()
}

fn subjects(subjects: &[SubjectView]) -> Markup {
    html! {
        @if subjects.is_empty() { p.empty { "To nobody yet." } }
        @else {
            div.scroll tabindex="0" role="group" aria-label="Agents it attested to" {
                table {
                    caption.hidden { "Agents that it attested to, by id" }
                    thead { tr { th scope="col" { "Agent" } th.num scope="col" { "Sum that counts" } th.num scope="col" { "Count" } th.num scope="col" { "Given in all" } } }
                    tbody { @for one in subjects { tr { td { (words::agent(&one.handle)) } td.num { (signed(one.sum)) } td.num { (number(one.count)) } td.num { (number(one.given)) } } } }
                }
            }
        }
    }
}
