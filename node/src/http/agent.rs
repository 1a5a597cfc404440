//! `GET /api/agent/{x}` and `POST /api/agents`: an agent's identity, the status of its key, and its reputation.
use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Response};
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event};
use fama_ledger::id::{Domain, EventId, IdentityId, NoteHash, did};
use fama_ledger::join::{Karma, KeyStatus, LocatedIdentity, Numbers, Revoked, Score};
use fama_ledger::manifest::LogId;
use fama_ledger::note::Note;
use fama_ledger::rows::{Attested, Claim};
use fama_ledger::time::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::AsOf;
use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::ready::{KeptProfile, Stamp};
use super::view;
use super::{ApiError, App, Serving};
use crate::scores::{self, Open};
use crate::store::{History, HistoryItem, Touch};
use crate::wire::NoteAnswer;

/// Most agents of one question.
const AGENTS_MAX: usize = 100;
/// Most attestations, and most key events, that a profile shows.
const RECENT: usize = 20;
/// Most items of a history that are read for the attestations; retractions and what they retract are skipped.
const RECENT_READ_MAX: usize = 64;
/// Of how many of an identity's newest key versions a profile shows the claims.
const CLAIMED_VERSIONS: usize = 4;
/// Items of a history that are read at once.
const HISTORY_PAGE: usize = 256;
/// Most items of a history that are checked for one score from final entries only.
const NOT_FINAL_MAX: usize = 1 << 16;

pub(super) async fn profile(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let params = Params::new(query, &["final", "at"])?;
    let only_final = params.flag("final")?;
    if let Some(at) = params.get("at") {
        let at = super::verify::time(at).ok_or_else(|| {
            ApiError::bad("bad_parameter", "at: want a time like 2026-11-22T05:00:00Z").with("field", "at")
        })?;
        let effort = if only_final { Effort::OnlyFinal } else { Effort::Whole };
        return place.read(move || whole(&app, &x, effort, Some(at))).await.map(AsOf::into_response);
    }
    if !only_final && let Some(profile) = ready(&Moment::open(&app)?, &x)? {
        return Ok(profile);
    }
    // A popular subject may have thousands of providers.
    let effort = if only_final { Effort::OnlyFinal } else { Effort::Whole };
    place.read(move || whole(&app, &x, effort, None)).await.map(AsOf::into_response)
}

/// The profile of `x`, ready-made if nothing changed that it was made of; `None` if what is kept is not enough.
fn ready(moment: &Moment<'_>, x: &str) -> Result<Option<Response>, ApiError> {
    let open = moment.open_statements();
    if !moment.has_scores() || !matches!(open, Open::Few(_)) {
        return Ok(None);
    }
    if let Some(kept) = moment.app.ready.profile(&moment.view, x) {
        return answered(moment, &kept, open).map(Some);
    }
    let found = moment.find(x)?;
    let stamp = Stamp::of(&moment.view, &found.id)?;
    if let Some(kept) = moment.app.ready.stamped(&moment.view, x, (&found, &stamp)) {
        return answered(moment, &kept, open).map(Some);
    }
    let Some(score) = moment.score(&found.id)? else { return Ok(None) };
    let body = body(moment, &found, Some(score), Effort::Kept)?;
    let json = serde_json::to_vec(&body).map_err(ApiError::internal)?;
    let made = KeptProfile::new(&moment.view, found, stamp, json);
    // That a revocation is not final is no change of any row.
    if body.key_status.revocation_final == Some(false) {
        return answered(moment, &made, open).map(Some);
    }
    answered(moment, &moment.app.ready.keep(x, made), open).map(Some)
}

fn answered(moment: &Moment<'_>, profile: &KeptProfile, open: Open) -> Result<Response, ApiError> {
    let is_final = is_final(moment, &profile.found, &profile.stamp.touched, open)?;
    profile.answer(&ledger(moment, &profile.found, is_final))
}

/// The profile of `x`, with the key that it had at a time.
fn whole(app: &App, x: &str, effort: Effort, at: Option<Millis>) -> Result<AsOf<view::ProfileView>, ApiError> {
    let moment = Moment::open(app)?;
    let profile = read(&moment, x, effort)?;
    let mut profile = profile.ok_or_else(|| ApiError::internal("a profile that was read whole has no karma"))?;
    if let Some(at) = at {
        profile.body.key_at = Some(super::keys::key_at(&moment, &moment.find(x)?, at)?);
    }
    Ok(profile)
}

/// The body of `POST /api/agents`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct AgentsQuestion {
    /// Handles, ids, DIDs, or names of the node's namespace; at most 100.
    agents: Vec<String>,
}

/// The answer of `POST /api/agents`.
#[derive(Serialize, JsonSchema)]
pub(super) struct AgentsView {
    /// One for each agent that was asked for, in that order: its profile, or the error that `GET` would give.
    agents: Vec<AgentOrError>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum AgentOrError {
    Agent(Box<AsOf<view::ProfileView>>),
    Error(serde_json::Value),
}

pub(super) async fn profiles(
    Serving(app): Serving,
    place: Place,
    body: axum::body::Bytes,
) -> Result<Json<AgentsView>, ApiError> {
    let form = |error| ApiError::bad("bad_json", format!("want {{\"agents\": [\"name@home\", …]}}: {error}"));
    let AgentsQuestion { agents } = serde_json::from_slice(&body).map_err(form)?;
    if agents.len() > AGENTS_MAX {
        return Err(ApiError::bad("too_many", format!("at most {AGENTS_MAX} agents at a time")).with("field", "agents"));
    }
    place.read(move || all(&app, &agents)).await.map(Json)
}

/// All at one moment.
fn all(app: &App, agents: &[String]) -> Result<AgentsView, ApiError> {
    let moment = Moment::open(app)?;
    let shown = agents.iter().map(|x| match at(&moment, x) {
        Ok(profile) => AgentOrError::Agent(Box::new(profile)),
        Err(error) => AgentOrError::Error(error.json()),
    });
    Ok(AgentsView { agents: shown.collect() })
}

/// The profile of `x` at a moment, from what is kept if that suffices.
pub(super) fn at(moment: &Moment<'_>, x: &str) -> Result<AsOf<view::ProfileView>, ApiError> {
    let kept = read(moment, x, Effort::Kept)?;
    let profile = kept.map_or_else(|| read(moment, x, Effort::Whole), |kept| Ok(Some(kept)))?;
    profile.ok_or_else(|| ApiError::internal("a profile that was read whole has no karma"))
}

/// What may be read for a profile's karma.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Only what is kept.
    Kept,
    /// All providers of the subject, where nothing is kept.
    Whole,
    /// Also all entries that are not final, to leave them out.
    OnlyFinal,
}

/// The profile of `x`; `None` if `effort` is not enough.
fn read(moment: &Moment<'_>, x: &str, effort: Effort) -> Result<Option<AsOf<view::ProfileView>>, ApiError> {
    let found = moment.find(x)?;
    let (score, open) = (moment.score(&found.id)?, moment.open_statements());
    if effort == Effort::Kept && (score.is_none() || !matches!(open, Open::Few(_))) {
        return Ok(None);
    }
    let body = body(moment, &found, score, effort)?;
    let touched = moment.view.touched(&found.id, Touch::Subject)?;
    let is_final = is_final(moment, &found, &touched, open)?;
    Ok(Some(AsOf { body, ledger: ledger(moment, &found, is_final) }))
}

fn ledger(moment: &Moment<'_>, found: &LocatedIdentity, is_final: bool) -> view::LedgerView {
    view::LedgerView {
        r#final: is_final,
        home: found.home.to_string(),
        frontier: moment.frontier(),
        state_id: moment.state_id().to_string(),
        history: moment.app.partial.then_some("loading"),
    }
}

/// All of a profile but the ledger. `score`: what is kept; without it, all providers of the subject are read.
fn body(
    moment: &Moment<'_>,
    found: &LocatedIdentity,
    score: Option<Score>,
    effort: Effort,
) -> Result<view::ProfileView, ApiError> {
    let status = moment.join().key_status(found)?;
    let public_key = status.current.key.to_pem().map_err(ApiError::internal)?;
    let mut sponsored = Sponsored::new(moment);
    let mut karma = match score {
        Some(score) => score.settle(found.id, &moment.join())?,
        None => moment.join().karma(found.id)?,
    };
    if effort == Effort::OnlyFinal {
        karma = final_karma(moment, &mut sponsored, found, karma)?;
    }
    Ok(view::ProfileView {
        identity: identity(moment, found, &status, public_key.clone())?,
        reputation: view::ReputationView::of(karma),
        key_status: key_status(moment, found, &status)?,
        recent_attestations: recent_attestations(moment, &mut sponsored, found)?,
        recent_key_events: recent_key_events(moment, found)?,
        agent: view::AgentView { public_key: public_key.clone(), global_karma: karma.sum },
        public_key,
        key_at: None,
    })
}

fn identity(
    moment: &Moment<'_>,
    found: &LocatedIdentity,
    status: &KeyStatus,
    public_key: String,
) -> Result<view::IdentityView, ApiError> {
    let (joined, note) = match registration(moment, found)? {
        Some(registration) => registration,
        None => (first_key(moment, found)?, None),
    };
    let note = read_note(moment, note)?;
    Ok(view::IdentityView {
        agent_id: found.id.to_string(),
        did: did(&found.home, &found.id),
        dumbname: moment.dumbname(found),
        handle: handle(found),
        bio: note.text.and_then(|note| note.bio),
        bio_redacted: note.redacted,
        bio_pending: note.pending,
        public_key,
        joined_at: joined.to_string(),
        key_version: status.version,
    })
}

/// When the identity was registered, and the hash of its bio. `None` if that was before a quick state's starting
/// point.
fn registration(moment: &Moment<'_>, found: &LocatedIdentity) -> Result<Option<(Millis, Option<NoteHash>)>, ApiError> {
    let position = match moment.applied(&found.id)? {
        Some(position) => position,
        None if moment.app.partial => return Ok(None),
        None => return Err(ApiError::internal("an identity's registration is not indexed")),
    };
    let (_, entry) = moment.entry(&position.log, position.index)?;
    let note = match entry.body {
        fama_ledger::entry::Body::Event(signed) => signed.event.action.note(),
        _ => None,
    };
    Ok(Some((entry.time, note)))
}

/// The time of the entry with the identity's first key, which is its registration.
fn first_key(moment: &Moment<'_>, found: &LocatedIdentity) -> Result<Millis, ApiError> {
    let first = moment.join().key_version(found, 1)?;
    first.map(|version| version.time).ok_or_else(|| ApiError::internal("an identity without a key"))
}

/// A note as an answer shows it: at most one of the fields is set.
#[derive(Default)]
struct ShownNote {
    text: Option<Note>,
    redacted: bool,
    pending: bool,
}

fn read_note(moment: &Moment<'_>, hash: Option<NoteHash>) -> Result<ShownNote, ApiError> {
    let Some(hash) = hash else { return Ok(ShownNote::default()) };
    Ok(match moment.view.note(&hash)? {
        Some(NoteAnswer::Text(text)) => ShownNote { text: Note::parse(text.as_bytes()).ok(), ..ShownNote::default() },
        Some(NoteAnswer::Redacted) => ShownNote { redacted: true, ..ShownNote::default() },
        None => ShownNote { pending: true, ..ShownNote::default() },
    })
}

fn key_status(
    moment: &Moment<'_>,
    found: &LocatedIdentity,
    status: &KeyStatus,
) -> Result<view::KeyStatusView, ApiError> {
    let revoked = status.revoked.as_ref();
    let suspended = moment.join().suspended_by(found.id)?;
    Ok(view::KeyStatusView {
        is_suspended: suspended.len() >= moment.join().manifest().policy().sponsors_wanted(),
        suspended_by: suspended.iter().map(view::SuspendedView::of).collect(),
        is_revoked: status.is_revoked(),
        key_version: status.version,
        rotated_at: (status.version > 1).then(|| status.current.time.to_string()),
        revoked_at: revoked.map(|revoked| revoked.time.to_string()),
        revocation_reason: revoked.map(|revoked| view::reason(revoked.reason)),
        revocation_final: revoked.map(|revoked| revocation_final(moment, found, status, revoked)).transpose()?,
    })
}

fn revocation_final(
    moment: &Moment<'_>,
    found: &LocatedIdentity,
    status: &KeyStatus,
    revoked: &Revoked,
) -> Result<bool, ApiError> {
    if let (Some(operator), Some((generation, index))) = (&revoked.operator, revoked.place) {
        return Ok(moment.is_final(&LogId { operator: operator.clone(), generation }, index));
    }
    // The identity's home has it, in the log that carried the home then: it is the last key event, or among the last
    // where that log's clock was behind.
    for item in moment.view.history(&found.id, History::Keys, None, RECENT)? {
        let action = moment.signed(&item)?.event.action;
        if item.time == revoked.time && matches!(action, Action::Revoke { version, .. } if version == status.version) {
            return Ok(moment.is_final(&item.log, item.index));
        }
    }
    // The revocation is from before a quick state's starting point, where all entries were certified.
    Ok(moment.app.partial)
}

/// Whether no entry that this subject's answer depends on can be undone. In every log, the newest entry that changed a
/// row about the subject, or the sponsorship of one of its providers, must be below the certified size. `touched`: those
/// entries about the subject. `open`: the providers whose sponsorship is not final, if they are few.
fn is_final(
    moment: &Moment<'_>,
    found: &LocatedIdentity,
    touched: &[(LogId, u64)],
    open: Open,
) -> Result<bool, ApiError> {
    let is_final = |log: &LogId, index| moment.is_final(log, index);
    if !touched.iter().all(|(log, index)| is_final(log, *index)) {
        return Ok(false);
    }
    match open {
        Open::Few(providers) => {
            for provider in providers {
                if moment.view.has_given(&provider, &found.id)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Open::Many => Ok(!scores::has_open_provider(&moment.app.shared.open, &moment.join(), found.id, is_final)?),
        Open::Unknown => {
            let mut touched = Vec::new();
            for (provider, _) in moment.join().karma_by_provider(found.id)? {
                touched.extend(moment.view.touched(&provider, Touch::Sponsorship)?);
            }
            Ok(touched.iter().all(|(log, index)| is_final(log, *index)))
        }
    }
}

/// Numbers at which providers are sponsored; each provider is read once.
pub(super) struct Sponsored<'a, 'm> {
    moment: &'m Moment<'a>,
    numbers: BTreeMap<IdentityId, Numbers>,
}

impl<'a, 'm> Sponsored<'a, 'm> {
    pub(super) fn new(moment: &'m Moment<'a>) -> Self {
        Self { moment, numbers: BTreeMap::new() }
    }

    pub(super) fn numbers(&mut self, provider: IdentityId) -> Result<&Numbers, ApiError> {
        if !self.numbers.contains_key(&provider) {
            let numbers = self.moment.sponsored(provider)?;
            self.numbers.insert(provider, numbers);
        }
        Ok(self.numbers.entry(provider).or_default())
    }
}

/// The current row of an attestation in its home.
pub(super) fn attested(
    moment: &Moment<'_>,
    event: EventId,
    (home, issuer, subject, day): (&Domain, IdentityId, IdentityId, fama_ledger::time::Day),
) -> Result<Attested, ApiError> {
    let row = moment.join().attested(home, (subject, issuer, day), event)?;
    row.ok_or_else(|| ApiError::internal("an applied attestation has no row"))
}

/// Calls `each` for the items of a history, newest first, at most `max`, until it returns `false`.
fn walk(
    moment: &Moment<'_>,
    (identity, history): (&IdentityId, History),
    max: usize,
    mut each: impl FnMut(&HistoryItem) -> Result<bool, ApiError>,
) -> Result<(), ApiError> {
    let (mut before, mut left) = (None, max);
    while left > 0 {
        let page = moment.view.history(identity, history, before.as_ref(), HISTORY_PAGE.min(left))?;
        for item in &page {
            if !each(item)? {
                return Ok(());
            }
        }
        left = left.saturating_sub(page.len());
        before = page.into_iter().next_back();
        if before.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// Karma from final entries only, by the current sponsorship.
///
/// An attestation or retraction counts only below the certified size of its log, so an attestation whose retraction is
/// not final yet still counts. Computed from `karma`, that of all entries, by undoing those of the received history that
/// are not final. Times within a log never decrease, so none of these is older than the oldest first entry above a
/// log's certified size.
fn final_karma(
    moment: &Moment<'_>,
    sponsored: &mut Sponsored<'_, '_>,
    found: &LocatedIdentity,
    mut karma: Karma,
) -> Result<Karma, ApiError> {
    let Some(oldest) = oldest_not_final(moment)? else { return Ok(karma) };
    let mut left = NOT_FINAL_MAX;
    walk(moment, (&found.id, History::Received), usize::MAX, |item| {
        if item.time < oldest {
            return Ok(false);
        }
        left = left.checked_sub(1).ok_or_else(too_much)?;
        if !moment.is_final(&item.log, item.index) {
            karma = undone(moment, sponsored, karma, item)?;
        }
        Ok(true)
    })?;
    Ok(karma)
}

fn too_much() -> ApiError {
    let message = "too many recent entries are not final yet to compute this answer; try again later";
    ApiError::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "much_not_final", message).retry_after(60)
}

/// The time of the oldest entry, over all logs, that is not final; `None` if all are.
fn oldest_not_final(moment: &Moment<'_>) -> Result<Option<Millis>, ApiError> {
    let mut oldest = None;
    for record in moment.logs().iter().filter(|record| record.certified < record.state.size) {
        let (_, entry) = moment.entry(&record.state.log, record.certified)?;
        oldest = oldest.into_iter().chain([entry.time]).min();
    }
    Ok(oldest)
}

/// `karma` without the effect of the entry of `item`, which is not final.
fn undone(
    moment: &Moment<'_>,
    sponsored: &mut Sponsored<'_, '_>,
    karma: Karma,
    item: &HistoryItem,
) -> Result<Karma, ApiError> {
    let SignedEvent { event, .. } = moment.signed(item)?;
    match &event.action {
        Action::Attest { home, issuer, subject, .. } => {
            let row = attested(moment, event.id(), (home, *issuer, *subject, event.created.day()))?;
            let counted = row.counted(sponsored.numbers(*issuer)?);
            let (sum, count) = (karma.sum.saturating_sub(counted.sum), karma.count.saturating_sub(counted.count));
            Ok(Karma { sum, count })
        }
        Action::Retract { home, issuer, subject, day, attestation } => {
            let given = moment.applied(attestation)?;
            let unknown = moment.app.partial;
            if !given.map_or(unknown, |position| moment.is_final(&position.log, position.index)) {
                return Ok(karma);
            }
            let row = attested(moment, *attestation, (home, *issuer, *subject, *day))?;
            let numbers = sponsored.numbers(*issuer)?;
            let (now, standing) = (row.counted(numbers), Attested { retraction: None, ..row }.counted(numbers));
            let sum = karma.sum.saturating_sub(now.sum).saturating_add(standing.sum);
            let count = karma.count.saturating_sub(now.count).saturating_add(standing.count);
            Ok(Karma { sum, count })
        }
        _ => Ok(karma),
    }
}

fn recent_attestations(
    moment: &Moment<'_>,
    sponsored: &mut Sponsored<'_, '_>,
    found: &LocatedIdentity,
) -> Result<Vec<view::AttestationView>, ApiError> {
    let mut recent = Vec::new();
    walk(moment, (&found.id, History::Received), RECENT_READ_MAX, |item| {
        recent.extend(attestation(moment, sponsored, item)?);
        Ok(recent.len() < RECENT)
    })?;
    Ok(recent)
}

/// An item of a history as a profile shows it; `None` for retractions and retracted attestations.
fn attestation(
    moment: &Moment<'_>,
    sponsored: &mut Sponsored<'_, '_>,
    item: &HistoryItem,
) -> Result<Option<view::AttestationView>, ApiError> {
    let SignedEvent { event, .. } = moment.signed(item)?;
    let Action::Attest { home, issuer, subject, .. } = &event.action else { return Ok(None) };
    let row = attested(moment, event.id(), (home, *issuer, *subject, event.created.day()))?;
    let numbers = sponsored.numbers(*issuer)?;
    if row.retraction.is_some_and(|number| numbers.contains(number)) {
        return Ok(None);
    }
    attestation_view(moment, numbers, (&event, &row)).map(Some)
}

/// An applied attestation, of which `numbers` of its provider count.
pub(super) fn attestation_view(
    moment: &Moment<'_>,
    numbers: &Numbers,
    (event, row): (&Event, &Attested),
) -> Result<view::AttestationView, ApiError> {
    let Action::Attest { issuer, delta, context, note, .. } = &event.action else {
        return Err(ApiError::internal("another event in the place of an attestation"));
    };
    let ShownNote { text, redacted, pending } = read_note(moment, *note)?;
    let Note { reason, reference, .. } = text.unwrap_or_default();
    Ok(view::AttestationView {
        provider: moment.dumbname_of(*issuer)?,
        points: *delta,
        effective: row.effective,
        counts: row.counted(numbers).count > 0,
        context: context.as_ref().map(ToString::to_string),
        reason,
        external_ref: reference,
        redacted,
        pending,
        date: event.created.to_string(),
        event: event.id().to_string(),
    })
}

/// The newest key events, each once: what the home applied, and the claims of other logs that count. Claims that do not
/// count are never read, however many there are.
fn recent_key_events(moment: &Moment<'_>, found: &LocatedIdentity) -> Result<Vec<view::KeyEventView>, ApiError> {
    let mut items = moment.view.history(&found.id, History::Keys, None, RECENT)?;
    let mut claims = Vec::new();
    for version in (1..=found.identity.version).rev().take(CLAIMED_VERSIONS) {
        claims.extend(moment.join().claims(found, version)?);
    }
    let item = |(log, claim): (LogId, Claim)| HistoryItem { time: claim.time, log, index: claim.index };
    let mut claims: Vec<_> = claims.into_iter().map(item).collect();
    claims.sort();
    for claim in claims {
        // A quick state has no entries from before its starting point.
        let base = if moment.app.partial { moment.view.base(&claim.log)? } else { None };
        items.extend((base.map_or(0, |base| base.size) <= claim.index).then_some(claim));
    }
    let (mut recent, mut seen) = (Vec::new(), BTreeSet::new());
    for item in items {
        let signed = moment.signed(&item)?;
        if seen.insert(signed.event.id()) {
            recent.push((key_event(&signed, &item), item));
        }
    }
    recent.sort_by(|(_, a), (_, b)| b.cmp(a));
    recent.truncate(RECENT);
    Ok(recent.into_iter().map(|(event, _)| event).collect())
}

fn key_event(signed: &SignedEvent, item: &HistoryItem) -> view::KeyEventView {
    let (event_type, reason) = match &signed.event.action {
        Action::Register { .. } => ("REGISTER", None),
        Action::Rotate { .. } => ("ROTATE", None),
        Action::Revoke { reason, .. } => ("REVOKE", Some(view::reason(*reason))),
        other => (other.kind().as_str(), None),
    };
    view::KeyEventView {
        event_type,
        signed_at: signed.event.created.to_string(),
        recorded_at: item.time.to_string(),
        reason,
        event: signed.event.id().to_string(),
    }
}
