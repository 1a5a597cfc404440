//! `GET /api/agent/{x}/attestations` and `/events`: pages of history, newest first.
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query};
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::Action;
use fama_ledger::id::IdentityId;
use fama_ledger::join::LocatedIdentity;
use fama_ledger::manifest::LogId;
use fama_ledger::rows::Claim;
use fama_ledger::time::Millis;
use schemars::JsonSchema;
use serde::Serialize;

use super::agent::{Sponsored, attestation_view, attested};
use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::view::AttestationView;
use super::{ApiError, App, Serving};
use crate::store::{History, HistoryItem};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Most items of a history that are read for one page, in pages of the limit: retractions are skipped, and what a filter
/// leaves out.
const READ_PAGES: usize = 5;
/// Of how many of an identity's newest key versions the claims are among the events.
const CLAIMED_VERSIONS: u32 = 64;

/// The answer of `GET /api/agent/{x}/attestations`.
#[derive(Serialize, JsonSchema)]
pub(super) struct AttestationsView {
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// Newest first. A page may be shorter than `limit` and yet not the last: see `cursor`.
    pub(super) attestations: Vec<HistoryView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// An attestation, and why it counts or does not.
#[derive(Serialize, JsonSchema)]
pub(super) struct HistoryView {
    #[serde(flatten)]
    pub(super) attestation: AttestationView,
    /// `counts`, `retracted`, or `not_sponsored`: too few operators sponsor the provider at its number.
    pub(super) status: &'static str,
    /// Whether the cap of its day took something of its points.
    pub(super) capped: bool,
    pub(super) provider_id: String,
    pub(super) subject_id: String,
    /// The subject's handle, or its id while this node does not know it.
    pub(super) subject: String,
    /// Its number in the provider's sequence of attestations and retractions.
    pub(super) number: u64,
    /// The number of its retraction in the same sequence, whether or not that counts.
    pub(super) retracted_by: Option<u64>,
    #[serde(flatten)]
    pub(super) place: PlaceView,
}

/// Where an event is recorded.
#[derive(Serialize, JsonSchema)]
pub(super) struct PlaceView {
    pub(super) log: String,
    pub(super) index: u64,
    pub(super) recorded_at: String,
    pub(super) r#final: bool,
}

/// The answer of `GET /api/agent/{x}/events`.
#[derive(Serialize, JsonSchema)]
pub(super) struct EventsView {
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// Newest first.
    pub(super) events: Vec<EventView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// An event about an identity, or by it.
#[derive(Serialize, JsonSchema)]
pub(super) struct EventView {
    pub(super) event: String,
    pub(super) kind: &'static str,
    /// The identity that acts, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<String>,
    /// The identity that it is about, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    pub(super) signed_at: String,
    #[serde(flatten)]
    pub(super) place: PlaceView,
}

fn place_view(moment: &Moment<'_>, item: &HistoryItem) -> PlaceView {
    PlaceView {
        log: item.log.to_string(),
        index: item.index,
        recorded_at: item.time.to_string(),
        r#final: moment.is_final(&item.log, item.index),
    }
}

/// Where a page ends.
fn write_cursor(item: &HistoryItem) -> String {
    format!("{}-{}-{}", item.time.0, item.index, item.log)
}

/// Accepts only the spelling that pages write.
pub(super) fn read_cursor(text: &str) -> Result<HistoryItem, ApiError> {
    let mut parts = text.splitn(3, '-');
    let item = (|| {
        let time = Millis(parts.next()?.parse().ok()?);
        let index = parts.next()?.parse().ok()?;
        Some(HistoryItem { time, index, log: parts.next()?.parse::<LogId>().ok()? })
    })();
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    item.filter(|item| write_cursor(item) == text).ok_or_else(wrong)
}

/// What a page of attestations shows.
#[derive(Default)]
pub(super) struct Wanted {
    /// Those that the identity gave, not those that it received.
    pub(super) given: bool,
    /// Only those of this provider, or to this subject.
    pub(super) other: Option<String>,
    pub(super) context: Option<String>,
    pub(super) before: Option<HistoryItem>,
    pub(super) limit: usize,
}

pub(super) async fn attestations(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<AttestationsView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor", "given", "with", "context"])?;
    let wanted = Wanted {
        given: params.flag("given")?,
        other: params.get("with").map(ToOwned::to_owned),
        context: params.get("context").map(ToOwned::to_owned),
        before: params.get("cursor").map(read_cursor).transpose()?,
        limit: params.limit(LIMIT_DEFAULT, LIMIT_MAX)?,
    };
    place.read(move || page(&Moment::open(&app)?, &x, wanted)).await.map(Json)
}

pub(super) fn page(moment: &Moment<'_>, x: &str, wanted: Wanted) -> Result<AttestationsView, ApiError> {
    let found = moment.find(x)?;
    let other = wanted.other.as_deref().map(|other| moment.find(other).map_err(|error| error.with("field", "with")));
    let other = other.transpose()?.map(|found| found.id);
    let history = if wanted.given { History::Given } else { History::Received };
    let (mut sponsored, mut shown) = (Sponsored::new(moment), Vec::new());
    let (mut before, mut cursor) = (wanted.before, None);
    'pages: for _ in 0..READ_PAGES {
        let items = moment.view.history(&found.id, history, before.as_ref(), wanted.limit)?;
        for item in &items {
            if shown.len() == wanted.limit {
                break 'pages;
            }
            let filter = (other, wanted.context.as_deref(), wanted.given);
            shown.extend(history_view(moment, &mut sponsored, item, filter)?);
            cursor = Some(item.clone());
        }
        before = items.into_iter().next_back();
        if before.is_none() {
            cursor = None;
            break;
        }
    }
    let cursor = cursor.as_ref().map(write_cursor);
    Ok(AttestationsView { agent_id: found.id.to_string(), handle: handle(&found), attestations: shown, cursor })
}

/// An item of a history of attestations; `None` for a retraction, and for what the filter leaves out: another provider or
/// subject, another context.
fn history_view(
    moment: &Moment<'_>,
    sponsored: &mut Sponsored<'_, '_>,
    item: &HistoryItem,
    (other, wanted, given): (Option<IdentityId>, Option<&str>, bool),
) -> Result<Option<HistoryView>, ApiError> {
    let SignedEvent { event, .. } = moment.signed(item)?;
    let Action::Attest { home, issuer, subject, delta, context, .. } = &event.action else { return Ok(None) };
    let theirs = if given { subject } else { issuer };
    let of_context = wanted.is_none_or(|wanted| context.as_ref().map_or("", |context| context.as_str()) == wanted);
    if other.is_some_and(|other| other != *theirs) || !of_context {
        return Ok(None);
    }
    let row = attested(moment, event.id(), (home, *issuer, *subject, event.created.day()))?;
    let numbers = sponsored.numbers(*issuer)?;
    let retracted = row.retraction.is_some_and(|number| numbers.contains(number));
    let status = match (numbers.contains(row.number), retracted) {
        (true, false) => "counts",
        (true, true) => "retracted",
        (false, _) => "not_sponsored",
    };
    Ok(Some(HistoryView {
        attestation: attestation_view(moment, numbers, (&event, &row))?,
        status,
        capped: row.effective != *delta,
        provider_id: issuer.to_string(),
        subject_id: subject.to_string(),
        subject: handle_of(moment, *subject)?,
        number: row.number,
        retracted_by: row.retraction,
        place: place_view(moment, item),
    }))
}

fn handle_of(moment: &Moment<'_>, id: IdentityId) -> Result<String, ApiError> {
    Ok(moment.join().identity(id)?.map_or_else(|| id.to_string(), |found| handle(&found)))
}

pub(super) async fn events(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<EventsView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let before = params.get("cursor").map(read_cursor).transpose()?;
    place.read(move || events_page(&app, &x, before.as_ref(), limit)).await.map(Json)
}

/// Key events as the home applied them, claims against the keys in other logs, all karma that the identity gave and
/// received, the grants that it gave, and what operators stated about its use, merged.
fn events_page(app: &App, x: &str, before: Option<&HistoryItem>, limit: usize) -> Result<EventsView, ApiError> {
    let moment = Moment::open(app)?;
    let found = moment.find(x)?;
    let mut items = claimed(&moment, &found)?;
    items.retain(|item| before.is_none_or(|before| item < before));
    for history in [History::Keys, History::Received, History::Given, History::Access] {
        items.extend(moment.view.history(&found.id, history, before, limit.saturating_add(1))?);
    }
    // Once each: who attests to itself has an event in two histories.
    let items: BTreeSet<HistoryItem> = items.into_iter().collect();
    let more = items.len() > limit;
    let items: Vec<HistoryItem> = items.into_iter().rev().take(limit).collect();
    let cursor = items.last().filter(|_| more).map(write_cursor);
    let events = items.iter().map(|item| event_view(&moment, &found, item)).collect::<Result<_, _>>()?;
    Ok(EventsView { agent_id: found.id.to_string(), handle: handle(&found), events, cursor })
}

/// The claims against the newest versions of an identity's keys, where their entries are held.
fn claimed(moment: &Moment<'_>, found: &LocatedIdentity) -> Result<Vec<HistoryItem>, ApiError> {
    let mut items = Vec::new();
    let oldest = found.identity.version.saturating_sub(CLAIMED_VERSIONS).max(1);
    for version in oldest..=found.identity.version {
        for (log, Claim { time, index, .. }) in moment.join().claims(found, version)? {
            // A quick state has no entries from before its starting point.
            let base = if moment.app.partial { moment.view.base(&log)? } else { None };
            if base.is_none_or(|base| base.size <= index) {
                items.push(HistoryItem { time, log, index });
            }
        }
    }
    Ok(items)
}

fn event_view(moment: &Moment<'_>, found: &LocatedIdentity, item: &HistoryItem) -> Result<EventView, ApiError> {
    let SignedEvent { event, .. } = moment.signed(item)?;
    let (issuer, subject) = match &event.action {
        Action::Attest { issuer, subject, .. }
        | Action::Retract { issuer, subject, .. }
        | Action::Grant { issuer, subject, .. }
        | Action::Ungrant { issuer, subject, .. } => (Some(*issuer), Some(*subject)),
        _ => (None, None),
    };
    let other = |id: Option<IdentityId>| id.filter(|id| *id != found.id).map(|id| handle_of(moment, id)).transpose();
    Ok(EventView {
        event: event.id().to_string(),
        kind: event.action.kind().as_str(),
        issuer: other(issuer)?,
        subject: other(subject)?,
        signed_at: event.created.to_string(),
        place: place_view(moment, item),
    })
}
