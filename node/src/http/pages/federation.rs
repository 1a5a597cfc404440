//! `/federation`: operators, logs, heads, rules, and what ever went wrong.
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use fama_ledger::manifest::{Manifest, changes};
use maud::{Markup, html};

use super::Pages;
use super::frame::{Page, tile};
use super::words::{self, Mark, badge, digits, given, number, piece, time};
use crate::clock;
use crate::http::federation::{self, CosignatureView, FederationView, LogView, OperatorView};
use crate::http::layers::Place;
use crate::http::moment::{HEARD_MILLIS, Moment};
use crate::http::{ApiError, App};

/// Newest versions of the manifest that are told.
const VERSIONS: usize = 20;
/// Most changes that are told of a version.
const CHANGES: usize = 60;

pub(super) async fn page(State(pages): State<Arc<Pages>>, place: Place) -> Result<Response, ApiError> {
    // Of the node's own copies, as `/api/federation` is.
    let read = move || {
        let view = federation::read(&Moment::open(&pages.app)?)?;
        Ok(make(&pages.app, &view).answer(&pages.app))
    };
    place.read(read).await
}

fn make(app: &App, view: &FederationView) -> Page {
    let operators = view.operators.len();
    let main = html! {
        p.eyebrow { "Federation" }
        h1 { (given(&view.name)) }
        section #short data-live aria-label="In short" {
            dl.tiles {
                (tile("Operators", &number(operators), &html! { "each with one log" }))
                (tile("Make an event final", &number(view.quorum), &html! { "of " (operators) ", by cosigning" }))
                (tile("May lie", &number(view.faults), &html! { "without harm" }))
                (tile("Manifest", &html! { "Version " (number(view.manifest.version)) }, &digits(&view.manifest.hash)))
            }
            p.small { "Federation " code.whole { (view.id) } }
        }
        section #trouble data-live aria-labelledby="trouble-h" { h2 #trouble-h { "What went wrong" } (trouble(view)) }
        section #operators data-live aria-labelledby="operators-h" { h2 #operators-h { "Operators" } (self::operators(app, view)) }
        section #logs data-live aria-labelledby="logs-h" { h2 #logs-h { "Logs and heads" } (logs(view)) }
        section #versions data-live aria-labelledby="versions-h" { h2 #versions-h { "Versions of the manifest" } (versions(app)) }
        section #policy aria-labelledby="policy-h" { h2 #policy-h { "Rules" } (policy(view)) }
        p.links { a href="/api/federation" { "The same as JSON" } a href="/api/federation/manifests" { "All versions" } a href="/log/policy" { "Policy for witnesses" } }
    };
    Page {
        title: "Federation".to_owned(),
        part: "/federation",
        main,
        stream: Some("/api/stream?kind=checkpoint".to_owned()),
        ..Page::default()
    }
}

fn trouble(view: &FederationView) -> Markup {
    let cuts = view.logs.iter().filter_map(|log| Some((log, log.cut.as_ref()?)));
    let faults: Vec<_> = view.logs.iter().filter_map(|log| Some((log, log.fault?))).collect();
    let calm = view.equivocations.is_empty()
        && view.halted.is_empty()
        && view.pending.is_none()
        && view.stands.is_empty()
        && faults.is_empty()
        && cuts.clone().next().is_none();
    html! {
        @if calm { p { (badge(Mark::Good, "Nothing")) " No log has forked, been cut or been given up, as far as this node knows." } }
        @else {
            ol.timeline {
                @for one in &view.equivocations {
                    li {
                        p { (badge(Mark::Bad, "Fork proven")) " " strong { (given(&one.log)) } }
                        p { "Its owner signed two histories: one head of " (number(one.larger.size)) " entries (" (digits(&one.larger.root)) ") and another of " (number(one.smaller.size)) " (" (digits(&one.smaller.root)) ") that it does not extend. Anybody can check the two signatures." }
                        details { summary { "The proof, in the ledger’s encoding" } pre { (one.encoded) } }
                    }
                }
                @for (log, fault) in &faults { li { p { (badge(Mark::Bad, "Not cosigned")) " This node no longer cosigns " strong { (given(&log.log)) } ": " (fault.replace('_', " ")) "." } } }
                @for (log, cut) in cuts {
                    li {
                        p { (badge(Mark::Plain, "Cut")) " " strong { (given(&log.log)) } " by version " (number(cut.version)) }
                        p { "It ends forever at " (words::count(cut.size, "entry", "entries")) " under version " (number(cut.adopted)) "; " (given(&cut.successor)) " continues its statements and claims. Head " (digits(&cut.root)) ", state " (digits(&cut.state_root)) "." }
                    }
                }
                @if !view.stands.is_empty() { li { p { (badge(Mark::Careful, "Standing still")) " Until the next version holds, this node cosigns nothing more in " (words::count(view.stands.len() as u64, "log", "logs")) "." } } }
                @if !view.halted.is_empty() { li { p { (badge(Mark::Bad, "Halted")) " There are two valid texts of one version of the manifest. While there are, this node cosigns nothing more." } } }
                @if let Some(pending) = &view.pending { li { p { (badge(Mark::Careful, "Pending")) " Version " (number(pending.version)) " is here and waits: " (given(&pending.waits_for)) } } }
            }
        }
    }
}

fn operators(app: &App, view: &FederationView) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Operators" {
            table {
                caption.hidden { "Operators, and when this node last heard each" }
                thead { tr { th scope="col" { "Operator" } th scope="col" { "State" } th scope="col" { "Last heard" } th scope="col" { "Homes" } th scope="col" { "Its node" } } }
                tbody { @for one in &view.operators { (operator(app, one)) } }
            }
        }
    }
}

fn operator(app: &App, one: &OperatorView) -> Markup {
    let own = app.operator.as_ref().is_some_and(|own| own.as_str() == one.name);
    let age =
        |heard: &String| heard.parse().map(|heard: fama_ledger::time::Millis| clock::now().0.saturating_sub(heard.0));
    let heard = own || one.last_heard.as_ref().and_then(|heard| age(heard).ok()).is_some_and(|age| age <= HEARD_MILLIS);
    let state = match (own, heard, one.connected) {
        (true, ..) => badge(Mark::Good, "This node"),
        (_, true, _) => badge(Mark::Good, "Heard"),
        (_, false, true) => badge(Mark::Careful, "Connected, silent"),
        _ => badge(Mark::Bad, "Not heard"),
    };
    html! {
        tr {
            th scope="row" { (given(&one.name)) }
            td { (state) }
            td.when { @match &one.last_heard { Some(heard) => { (time(heard)) } None if own => { "–" } None => { "not since the start" } } }
            td { @for home in &one.homes { (given(home)) " " } }
            td { @match &one.query { Some(origin) => { a.out href=(origin) rel="noopener noreferrer" { (given(origin)) } } None => { span.zero { "no address named" } } } }
        }
    }
}

fn logs(view: &FederationView) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Logs" {
            table {
                caption.hidden { "Logs, how far this node’s copies are, and who cosigned" }
                thead { tr { th scope="col" { "Log" } th.num scope="col" { "Entries" } th.num scope="col" { "Final" } th.num scope="col" { "Missing here" } th.num scope="col" { "Cosigners" } th scope="col" { "Newest cosignature" } th scope="col" { "Head" } } }
                tbody { @for log in &view.logs { (self::log(log)) } }
            }
        }
        @for log in view.logs.iter().filter(|log| log.cut.is_none() && !log.cosignatures.is_empty()) { (cosigners(log)) }
    }
}

fn log(log: &LogView) -> Markup {
    let newest = log.cosignatures.iter().map(|one| &one.time).max();
    let open = log.size.saturating_sub(log.certified);
    html! {
        tr {
            th scope="row" { (given(&log.log)) @if log.cut.is_some() { " " (badge(Mark::Plain, "Cut")) } @if log.fault.is_some() { " " (badge(Mark::Bad, "Fault")) } }
            td.num { (number(log.size)) }
            td.num { (number(log.certified)) @if open > 0 && log.cut.is_none() { " " span data-pending { (badge(Mark::Careful, "behind")) } } }
            td.num { @if log.lag == 0 { (number(0)) } @else { (badge(Mark::Careful, &log.lag.to_string())) } }
            td.num { (number(log.cosignatures.len())) }
            td.when { @match newest { Some(newest) => { (time(newest)) } None => { "–" } } }
            td { (digits(&log.root)) " " a.small href={ "/log/" (piece(&log.operator)) "/" (log.generation) "/checkpoint" } { "checkpoint" } }
        }
    }
}

fn cosigners(log: &LogView) -> Markup {
    let row = |one: &CosignatureView| html! { tr { td { (given(&one.operator)) } td.num { (number(one.size)) } td.when { (time(&one.time)) } } };
    html! {
        details {
            summary { "Who cosigned " (given(&log.log)) }
            table {
                caption.hidden { "Newest cosignatures of " (given(&log.log)) }
                thead { tr { th scope="col" { "Operator" } th.num scope="col" { "Up to entry" } th scope="col" { "Signed" } } }
                tbody { @for one in &log.cosignatures { (row(one)) } }
            }
        }
    }
}

/// Each version with what it changed, newest first.
fn versions(app: &App) -> Markup {
    let all: Vec<&Manifest> = app.shared.manifest.versions().take(VERSIONS).collect();
    html! {
        ol.timeline reversed {
            @for version in all {
                li {
                    p { strong { "Version " (number(version.version())) } " " (digits(&version.hash().to_string())) " " a href={ "/manifest/" (version.version()) } { "text" } }
                    @match version.previous() {
                        None => { p { "Founded by " (words::count(version.operators().len() as u64, "operator", "operators")) ": " @for (at, one) in version.operators().iter().enumerate() { @if at > 0 { ", " } (given(one.name.as_str())) } "." } }
                        Some(previous) => { (changed(&changes(previous, version))) }
                    }
                }
            }
        }
        @if app.shared.manifest.version() as usize > VERSIONS { p.small { "Older ones: " a href="/api/federation/manifests" { "all texts" } } }
    }
}

fn changed(changes: &[String]) -> Markup {
    html! {
        @if changes.is_empty() { p { "Nothing but the number." } }
        @else { ul { @for change in changes.iter().take(CHANGES) { li { (given(change)) } } } }
        @if changes.len() > CHANGES { p.small { "And " (changes.len() - CHANGES) " more." } }
    }
}

fn policy(view: &FederationView) -> Markup {
    let policy = &view.manifest.policy;
    let hours = |millis: u64| html! { (number(millis / 3_600_000)) " h" };
    let seconds = |millis: u64| html! { (number(millis / 1_000)) " s" };
    let rows: [(&str, Markup); 10] = [
        ("Largest change of one attestation", number(policy.max_delta)),
        ("What one provider can change of one agent’s karma in a day", number(policy.daily_cap)),
        ("Sponsors that a service needs, and suspensions that hold", number(policy.min_sponsors)),
        ("Registrations a day and home", number(policy.daily_registrations)),
        ("Attestations a day and home", number(policy.daily_attestations)),
        ("Retractions a day and provider", number(policy.daily_retractions)),
        ("Grants a day and service", number(policy.daily_grants)),
        ("Oldest event that a log takes in", hours(policy.max_age_ms)),
        ("Longest silence of a log", hours(policy.max_lag_ms)),
        ("Cosignatures are renewed every", seconds(policy.heartbeat_ms)),
    ];
    html! {
        table {
            caption.hidden { "Rules of the newest version" }
            tbody { @for (name, value) in rows { tr { th scope="row" { (name) } td.num { (value) } } } }
        }
    }
}
