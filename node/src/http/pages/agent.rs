//! `/agent/{x}`: who an agent is, whether its key is good, and why its karma is what it is.
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};

use super::frame::{Page, next, tile};
use super::words::{self, Mark, badge, digits, given, number, piece, signed, time};
use super::{Pages, chart};
use crate::http::answer::AsOf;
use crate::http::grants::GrantsView;
use crate::http::history::{AttestationsView, HistoryView, Wanted};
use crate::http::input::Params;
use crate::http::karma::{Asked, KarmaView, ProviderView};
use crate::http::keys::KeysView;
use crate::http::layers::Place;
use crate::http::moment::Moment;
use crate::http::view::{KeyVersionView, ProfileView};
use crate::http::{ApiError, agent, grants, history, karma, keys};

/// Attestations of one page.
const ATTESTATIONS: usize = 20;
/// Newest versions of the key that are shown.
const KEYS: usize = 20;
/// Grants that are shown, of each kind.
const GRANTS: usize = 20;
/// Providers that are shown.
const PROVIDERS: usize = 50;
/// Most attestations that a page sums up, and most of them whose entries it reads for their contexts.
const SUMMED_MAX: usize = 20_000;
const ENTRIES_MAX: usize = 400;

pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["cursor", "with", "context"])?;
    let own = |name| params.get(name).filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let wanted = Wanted {
        other: own("with"),
        context: own("context"),
        before: own("cursor").as_deref().map(history::read_cursor).transpose()?,
        limit: ATTESTATIONS,
        ..Wanted::default()
    };
    pages.read(place, move |_, moment| make(moment, &x, wanted)).await
}

fn make(moment: &Moment<'_>, x: &str, wanted: Wanted) -> Result<Page, ApiError> {
    let profile = agent::at(moment, x)?;
    let id = &profile.body.identity.agent_id;
    let keys = keys::page(moment, id, None, KEYS)?;
    let karma = sums(moment, id)?;
    let filter = [("with", wanted.other.clone()), ("context", wanted.context.clone())];
    let is_first = wanted.before.is_none();
    let attestations = history::page(moment, id, wanted)?;
    let grants =
        |given| grants::page(moment, id, &grants::Wanted { given, limit: GRANTS, ..grants::Wanted::default() });
    let (received, given) = (grants(false)?, grants(true)?);
    let body = &profile.body;
    let main = html! {
        (head(&profile))
        (facts(&profile))
        (check(id))
        section #karma data-live aria-labelledby="karma-h" {
            h2 #karma-h { "Karma" }
            (karma_part(id, karma.as_ref()))
        }
        section #attestations data-live aria-labelledby="attestations-h" {
            h2 #attestations-h { "Attestations" }
            (filtered(id, &filter))
            (attestations_part(&attestations))
            (next(attestations.cursor.as_ref().map(|cursor| link(id, &filter, cursor)).as_deref()))
        }
        section #keys data-live aria-labelledby="keys-h" {
            h2 #keys-h { "Keys" }
            (timeline(&keys, body.key_status.key_version))
        }
        section #access data-live aria-labelledby="access-h" {
            h2 #access-h { "Access" }
            (access(id, body, &received, &given))
        }
        (identity(&profile))
    };
    let stream = is_first.then(|| format!("/api/stream?agent={id}"));
    Ok(Page { title: body.identity.handle.clone(), main, scripts: &["verify.js"], stream, ..Page::default() })
}

/// What services let the agent do, what it lets others do, and who speaks against its use.
fn access(id: &str, body: &ProfileView, received: &GrantsView, given: &GrantsView) -> Markup {
    let status = &body.key_status;
    html! {
        @if status.suspended_by.is_empty() { p { "No operator suspends its use." } }
        @else {
            p {
                @if status.is_suspended { "As many operators suspend its use as it takes: none signs it in." }
                @else { "Too few operators suspend its use for that to hold; only these do not sign it in." }
            }
            ul {
                @for one in &status.suspended_by {
                    li { (words::given(&one.operator)) " since " (time(&one.since)) ": " (words::revocation(one.reason)) }
                }
            }
        }
        (granted("Services that let it do something", "Service", received, &format!("/api/agent/{}/grants", piece(id))))
        @if !given.grants.is_empty() {
            (granted("What it lets others do", "Agent", given, &format!("/api/agent/{}/grants?given=1", piece(id))))
        }
    }
}

fn granted(caption: &str, other: &str, grants: &GrantsView, json: &str) -> Markup {
    let of_issuer = other == "Service";
    html! {
        h3 { (caption) }
        @if grants.grants.is_empty() { p.empty { "No grant stands." } }
        @else {
            div.scroll tabindex="0" role="group" aria-label=(caption) {
                table {
                    caption.hidden { (caption) }
                    thead { tr { th scope="col" { (other) } th scope="col" { "May" } th scope="col" { "Until" } th scope="col" { "State" } } }
                    tbody {
                        @for one in &grants.grants {
                            tr {
                                td { (words::agent(if of_issuer { &one.issuer } else { &one.subject })) }
                                td { (words::given(&one.scope)) }
                                td.when { @match &one.expires { Some(at) => { (time(at)) } None => { "taken back" } } }
                                td { @if one.in_force { (badge(Mark::Good, "In force")) } @else { (badge(Mark::Bad, "Not in force")) } }
                            }
                        }
                    }
                }
            }
        }
        @if grants.cursor.is_some() { p.small { "There are more: " a href=(json) { "all as JSON" } "." } }
    }
}

/// What counts, as far as a page may sum it up; without contexts where there are too many; `None` if that is too much, too.
fn sums(moment: &Moment<'_>, id: &str) -> Result<Option<KarmaView>, ApiError> {
    for contexts in [true, false] {
        let asked = Asked {
            days: true,
            contexts,
            limit: PROVIDERS,
            attestations_max: SUMMED_MAX,
            entries_max: ENTRIES_MAX,
            ..Asked::default()
        };
        match karma::read(moment, id, &asked) {
            Err(error) if error.code() == karma::TOO_MANY => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

fn head(profile: &AsOf<ProfileView>) -> Markup {
    let body = &profile.body;
    html! {
        div #head data-live {
            p.eyebrow { "Agent of " (given(&profile.ledger.home)) }
            h1.handle { (words::handle(&body.identity.handle)) }
            p.badges {
                @if body.key_status.is_revoked { (badge(Mark::Bad, "Key revoked")) } @else { (badge(Mark::Good, "Key good")) }
                @if body.key_status.is_suspended { (badge(Mark::Bad, "Suspended")) }
                (words::finality(profile.ledger.r#final))
                @if profile.ledger.history.is_some() { (badge(Mark::Careful, "History loading")) }
            }
            @match &body.identity.bio {
                Some(bio) => { p.bio { (given(bio)) } }
                None if body.identity.bio_redacted => { p.empty { "This node has dropped the bio." } }
                None if body.identity.bio_pending => { p.empty { "This node does not have the bio yet." } }
                None => {}
            }
        }
    }
}

/// What the page claims, in words and, for the check, as the answer spells it.
fn facts(profile: &AsOf<ProfileView>) -> Markup {
    let (body, status) = (&profile.body, &profile.body.key_status);
    let state = html! {
        @if status.is_revoked { "Key " (status.key_version) ", revoked" } @else { "Key " (status.key_version) ", good" }
    };
    let since = html! {
        @match (&status.revoked_at, &status.rotated_at) {
            (Some(at), _) => {
                "since " (time(at))
                @if let Some(reason) = &status.revocation_reason { ": " (words::revocation(reason)) }
                @if status.revocation_final == Some(false) { "; not final yet" }
            }
            (None, Some(at)) => { "since " (time(at)) }
            (None, None) => { "since " (time(&body.identity.joined_at)) }
        }
    };
    html! {
        section #facts data-live aria-label="In short" {
            dl.tiles #claims data-handle=(body.identity.handle) data-id=(body.identity.agent_id) data-pem=(body.public_key)
                data-version=(status.key_version) data-revoked=(status.is_revoked) data-karma=(body.reputation.global_score)
                data-count=(body.reputation.attestation_count) data-final=(profile.ledger.r#final) {
                (tile("Karma", &number(body.reputation.global_score), &html! { "from " (words::count(body.reputation.attestation_count, "attestation", "attestations")) }))
                (tile("Key", &state, &since))
                (tile("Home", &given(&profile.ledger.home), &html! { "decides about its keys" }))
                (tile("Joined", &time(&body.identity.joined_at), &html! { "by its home's clock" }))
            }
        }
    }
}

/// The panel from which a reader's browser checks the page.
fn check(id: &str) -> Markup {
    html! {
        section.check #check aria-labelledby="check-h" data-verify="profile" data-question=(id) {
            h2 #check-h { "Check it yourself" }
            p {
                "You need not believe this node. It can prove what it says about this agent with signatures of the federation’s operators, and your browser can check the proof."
            }
            noscript { p { "Checking in the browser needs script. From a shell: " code { "fama prove " (id) " --out agent.proof && fama verify agent.proof --manifest manifest.txt" } } }
            div.panel {}
        }
    }
}

fn karma_part(id: &str, karma: Option<&KarmaView>) -> Markup {
    html! {
        @match karma {
            None => {
                p.empty { "This agent has more attestations than a page sums up. " a href={ "/api/agent/" (piece(id)) "/karma?days=1" } { "The sums as JSON" } "." }
            }
            Some(karma) => {
                @if let Some(days) = &karma.days { (chart::karma(days)) }
                @if !karma.providers.is_empty() { (providers(id, karma)) }
                p.small { a href={ "/api/agent/" (piece(id)) "/karma?days=1&contexts=1" } { "The same as JSON" } }
            }
        }
    }
}

fn providers(id: &str, karma: &KarmaView) -> Markup {
    let have_contexts = karma.providers.iter().any(|one| one.contexts.is_some());
    html! {
        h3 { "By provider" }
        p.small { "An attestation counts if enough operators sponsor its provider at its number, and it is not retracted." }
        div.scroll tabindex="0" role="group" aria-label="Karma by provider" {
            table {
                caption.hidden { "Karma by provider: what counts, and what does not" }
                thead { tr {
                    th scope="col" { "Provider" } th.num scope="col" { "Counts" }
                    @if have_contexts { th scope="col" { "By context" } }
                    th.num scope="col" { "Retracted" } th.num scope="col" { "Not sponsored" }
                } }
                tbody { @for one in &karma.providers { (provider(id, one, have_contexts)) } }
            }
        }
        @if !have_contexts { p.small { "There are too many attestations to tell contexts apart on this page." } }
        @if karma.cursor.is_some() { p.small { "These are the first " (karma.providers.len()) " providers by id." } }
    }
}

fn provider(id: &str, one: &ProviderView, have_contexts: bool) -> Markup {
    let sum = |sum: &karma::SumView| html! { @if sum.count == 0 { span.zero { "–" } } @else { (signed(sum.sum)) " " span.small { "(" (number(sum.count)) ")" } } };
    html! {
        tr {
            td { (words::agent(&one.handle)) " " a.small href={ "/agent/" (piece(id)) "?with=" (one.provider_id) "#attestations" } { "theirs only" } }
            td.num { (sum(&one.counts)) }
            @if have_contexts {
                td {
                    @for context in one.contexts.iter().flatten() {
                        span.chip { @if context.context.is_empty() { "no context" } @else { (given(&context.context)) } " " (signed(context.counts.sum)) } " "
                    }
                }
            }
            td.num { (sum(&one.retracted)) }
            td.num { (sum(&one.not_sponsored)) }
        }
    }
}

/// The address of this page with a filter, at a place in its list.
fn link(id: &str, filter: &[(&str, Option<String>)], cursor: &str) -> String {
    let given = filter.iter().filter_map(|(name, value)| Some(format!("{name}={}&", piece(value.as_deref()?))));
    format!("/agent/{id}?{}cursor={}#attestations", given.collect::<String>(), piece(cursor))
}

fn filtered(id: &str, filter: &[(&str, Option<String>)]) -> Markup {
    html! {
        @for (name, value) in filter {
            @if let Some(value) = value {
                p { @if *name == "with" { "Only those of " (words::agent(value)) } @else { "Only those for " (given(value)) } ". " a href={ "/agent/" (piece(id)) "#attestations" } { "Show all" } }
            }
        }
    }
}

fn attestations_part(page: &AttestationsView) -> Markup {
    html! {
        @if page.attestations.is_empty() { p.empty { "There are none here." } }
        @else {
            div.scroll tabindex="0" role="group" aria-label="Attestations" {
                table {
                    caption.hidden { "Attestations that the agent received, newest first" }
                    thead { tr {
                        th scope="col" { "Signed" } th scope="col" { "Provider" } th.num scope="col" { "Points" } th scope="col" { "Outcome" }
                        th scope="col" { "Reason and evidence" } th scope="col" { "Event" }
                    } }
                    tbody { @for one in &page.attestations { (attestation(one)) } }
                }
            }
        }
    }
}

fn attestation(one: &HistoryView) -> Markup {
    let of = &one.attestation;
    html! {
        tr data-key=(of.event) {
            td.when { (time(&of.date)) }
            td { (words::agent(&of.provider)) @if let Some(context) = &of.context { " " span.chip { (given(context)) } } }
            td.num { (signed(of.points.into())) @if one.capped { " " span.small { "capped to " (signed(of.effective.into())) } } }
            td { (outcome(one)) }
            td.wide {
                @match (&of.reason, of.redacted, of.pending) {
                    (Some(reason), ..) => { (given(reason)) }
                    (None, true, _) => { span.zero { "dropped by this node" } }
                    (None, _, true) => { span.zero { "not here yet" } }
                    _ => {}
                }
                @if let Some(reference) = &of.external_ref { " " span.evidence { (words::evidence(reference)) } }
            }
            td { (words::event(&of.event)) }
        }
    }
}

fn outcome(one: &HistoryView) -> Markup {
    html! {
        @match one.status {
            "counts" => { (badge(Mark::Good, "Counts")) }
            "retracted" => { (badge(Mark::Plain, "Retracted")) }
            _ => { (badge(Mark::Careful, "Not sponsored")) }
        }
        @if !one.place.r#final { " " (words::finality(false)) }
    }
}

fn timeline(keys: &KeysView, current: u32) -> Markup {
    html! {
        ol.timeline reversed start=[keys.keys.first().map(|key| key.version)] {
            @for key in &keys.keys { (key_version(key, current)) }
        }
        @if keys.cursor.is_some() { p.small { "Older keys: " a href={ "/api/agent/" (piece(&keys.agent_id)) "/keys" } { "as JSON" } } }
    }
}

fn key_version(key: &KeyVersionView, current: u32) -> Markup {
    let state = match &key.revoked {
        Some(_) => badge(Mark::Bad, "Revoked"),
        None if key.version == current => badge(Mark::Good, "In force"),
        None => badge(Mark::Plain, "Replaced"),
    };
    html! {
        li {
            p { strong { "Key " (key.version) } " " (state) }
            p {
                "From " (time(&key.from))
                @match &key.until { Some(until) => { " until " (time(until)) } None if key.revoked.is_none() => { ", still" } None => {} }
            }
            @if let Some(revoked) = &key.revoked {
                p { "Revoked " (time(&revoked.at)) ": " (words::revocation(&revoked.reason)) ", recorded by " (given(&revoked.recorded_by)) }
            }
            p.small { "Hash " (digits(&key.key_hash)) @if let Some(next) = &key.next { ", committed to the next key " (digits(next)) } @else { ", no commitment to a next key" } }
            details { summary { "Public key " (key.version) } pre { (key.key) "\n\n" (key.public_key) } }
        }
    }
}

fn identity(profile: &AsOf<ProfileView>) -> Markup {
    let identity = &profile.body.identity;
    let id = piece(&identity.agent_id);
    html! {
        section #identity data-live aria-labelledby="identity-h" {
            h2 #identity-h { "Identity and sources" }
            dl.list {
                dt { "Id" } dd { code { (identity.agent_id) } }
                dt { "DID" } dd { code { (identity.did) } }
                dt { "Entries behind this page" } dd { (number(profile.ledger.frontier.values().sum::<u64>())) ", state " (digits(&profile.ledger.state_id)) }
                dt { "For programs" }
                dd.links {
                    a href={ "/api/agent/" (id) } { "Profile" } a href={ "/api/agent/" (id) "/proof" } { "Proof" }
                    a href={ "/api/agent/" (id) "/did.json" } { "DID document" } a href={ "/api/agent/" (id) "/events" } { "All events" }
                    a href={ "/api/agent/" (id) "/keys" } { "Keys" }
                }
                dt { "Other views" }
                dd.links { a href={ "/compare/" (id) } { "Compare nodes" } a href={ "/event/" (id) } { "Its registration" } a href={ "/service/" (id) } { "What it gave" } }
            }
        }
    }
}
