//! `/compare/{x}`: the same agent as other operators' nodes show it, asked by the reader's own browser.
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use fama_ledger::id::Domain;
use maud::{Markup, html};

use super::Pages;
use super::frame::Page;
use super::words::{self, given, number, piece};
use crate::http::answer::AsOf;
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::view::ProfileView;
use crate::http::{ApiError, agent};

pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Path(x): Path<String>,
) -> Result<Response, ApiError> {
    pages.read(place, move |_, moment| make(moment, &x)).await
}

fn make(moment: &Moment<'_>, x: &str) -> Result<Page, ApiError> {
    let (app, profile) = (moment.app, agent::at(moment, x)?);
    let operators = app.shared.manifest.operators().iter();
    // The manifest's rules say what an origin is: it cannot end a source of the policy.
    let others: Vec<(String, String)> = operators
        .filter(|one| app.operator.as_ref() != Some(&one.name))
        .filter_map(|one| Some((one.name.to_string(), one.endpoints.query.clone()?)))
        .collect();
    let identity = &profile.body.identity;
    let main = html! {
        p.eyebrow { "One agent, several nodes" }
        h1.handle { a href={ "/agent/" (piece(&identity.agent_id)) } { (words::handle(&identity.handle)) } }
        p.lead { "Your browser asks the node of every operator that names an address. Nodes that have the same entries must say the same." }
        @if others.is_empty() {
            p.empty { "No other operator names the address of its node in the manifest, so there is nothing to compare with. Each can, as " code { "--query" } " of the next version." }
        }
        (table(app.operator.as_ref().map_or("this mirror", Domain::as_str), &profile, &others))
        p #verdict role="status" aria-live="polite" {}
        noscript { p { "Without script the browser cannot ask the other nodes for you. Their own pages: " @for (name, origin) in &others { (link(origin, &identity.agent_id, name)) " " } } }
    };
    let origins = others.into_iter().map(|(_, origin)| origin).collect();
    Ok(Page {
        title: format!("Compare {}", identity.handle),
        main,
        scripts: &["compare.js"],
        origins,
        ..Page::default()
    })
}

fn link(origin: &str, id: &str, name: &str) -> Markup {
    html! { a.out href={ (origin) "/agent/" (piece(id)) } rel="noopener noreferrer" { (given(name)) } }
}

fn table(own: &str, profile: &AsOf<ProfileView>, others: &[(String, String)]) -> Markup {
    let (body, status) = (&profile.body, &profile.body.key_status);
    let entries: u64 = profile.ledger.frontier.values().sum();
    let revoked = if status.is_revoked { "revoked" } else { "good" };
    html! {
        div.scroll tabindex="0" role="group" aria-label="Nodes" {
            table #nodes data-id=(body.identity.agent_id) data-pem=(body.public_key) data-state=(profile.ledger.state_id) {
                caption.hidden { "What each node says about the agent" }
                thead { tr { th scope="col" { "Node of" } th scope="col" { "Verdict" } th scope="col" { "Handle" } th scope="col" { "Key" } th.num scope="col" { "Karma" } th.num scope="col" { "Attestations" } th.num scope="col" { "Entries" } } }
                tbody {
                    tr data-own {
                        th scope="row" { (given(own)) }
                        td data-field="verdict" { (words::badge(words::Mark::Plain, "This node")) }
                        td data-field="handle" { (given(&body.identity.handle)) }
                        td data-field="key" { "Key " (status.key_version) ", " (revoked) }
                        td.num data-field="karma" { (number(body.reputation.global_score)) }
                        td.num data-field="count" { (number(body.reputation.attestation_count)) }
                        td.num data-field="entries" { (number(entries)) }
                    }
                    @for (name, origin) in others {
                        tr data-origin=(origin) {
                            th scope="row" { (link(origin, &body.identity.agent_id, name)) }
                            td data-field="verdict" { (words::badge(words::Mark::Plain, "Not asked")) }
                            @for field in ["handle", "key"] { td data-field=(field) { "–" } }
                            @for field in ["karma", "count", "entries"] { td.num data-field=(field) { "–" } }
                        }
                    }
                }
            }
        }
    }
}
