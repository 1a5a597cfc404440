//! `GET /api/agent/{x}/karma`: why a score is what it is, and views of the same attestations that weigh them.
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use axum::Json;
use axum::extract::{Path, Query};
use fama_ledger::id::IdentityId;
use fama_ledger::join::{Karma, LocatedIdentity};
use fama_ledger::rows::Attested;
use fama_ledger::time::Day;
use fama_ledger::weighted::{MICROPOINTS, decayed, share_cap};
use schemars::JsonSchema;
use serde::Serialize;

use super::agent::Sponsored;
use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::{ApiError, App, Serving};
use crate::clock;
use crate::store::Position;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 500;
/// Most attestations that one answer is computed from.
const ATTESTATIONS_MAX: usize = 1_000_000;
/// Most of them whose entries are read, for their contexts.
const ENTRIES_MAX: usize = 65_536;
/// Longest half-life, in days.
const HALF_LIFE_MAX: u32 = 36_500;
/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// The answer of `GET /api/agent/{x}/karma`.
#[derive(Serialize, JsonSchema)]
pub(super) struct KarmaView {
    agent_id: String,
    handle: String,
    /// The score: the sum of what counts. A profile shows the same.
    score: i64,
    /// How many attestations count.
    attestation_count: u64,
    /// The view that was asked for; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<WeighedView>,
    /// Every provider that ever attested to the agent, ordered by id.
    providers: Vec<ProviderView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// A score by a reader's own weights.
#[derive(Serialize, JsonSchema)]
struct WeighedView {
    /// The weighed score in points, rounded towards zero.
    score: i64,
    /// The weighed score in millionths of a point.
    micropoints: i64,
    /// How many attestations it is made of.
    attestation_count: u64,
    /// The UTC day on which ages are measured. What was signed later is left out.
    as_of: String,
    /// The first UTC day that counts.
    since: Option<String>,
    context: Option<String>,
    /// After so many days an attestation counts half.
    half_life: Option<u32>,
    /// The most that one provider contributes, in percent of what all contribute together before this limit, by absolute
    /// value.
    provider_share_max: Option<u32>,
}

/// What a provider gave.
#[derive(Serialize, JsonSchema)]
struct ProviderView {
    provider_id: String,
    /// Its handle; its id while this node does not know it.
    handle: String,
    /// All of it.
    given: SumView,
    /// What counts.
    counts: SumView,
    /// What was retracted.
    retracted: SumView,
    /// What does not count, because too few operators sponsor the provider at those numbers.
    not_sponsored: SumView,
    /// What it contributes to the view, in millionths of a point, after the limit on shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    micropoints: Option<i64>,
}

/// A sum of effective deltas, after the caps of their days, and their number.
#[derive(Clone, Copy, Default, Serialize, JsonSchema)]
struct SumView {
    sum: i64,
    count: u64,
}

impl SumView {
    fn add(&mut self, effective: i32) {
        self.sum = self.sum.saturating_add(effective.into());
        self.count = self.count.saturating_add(1);
    }
}

/// A reader's weights.
#[derive(Clone)]
struct Weights {
    as_of: Day,
    since: Option<Day>,
    context: Option<String>,
    half_life: Option<u32>,
    share_max: Option<u32>,
}

impl Weights {
    /// `None` if no parameter asks for a view.
    fn read(params: &Params) -> Result<Option<Self>, ApiError> {
        const NAMES: [&str; 5] = ["as_of", "since", "context", "half_life", "provider_share_max"];
        if NAMES.iter().all(|name| params.get(name).is_none()) {
            return Ok(None);
        }
        Ok(Some(Self {
            as_of: day(params, "as_of")?.unwrap_or_else(|| clock::now().day()),
            since: day(params, "since")?,
            context: params.get("context").map(ToOwned::to_owned),
            half_life: number(params, "half_life", HALF_LIFE_MAX)?,
            share_max: number(params, "provider_share_max", 100)?,
        }))
    }

    fn takes(&self, day: Day) -> bool {
        day <= self.as_of && self.since.is_none_or(|since| since <= day)
    }

    /// What an attestation of a day weighs, in micropoints.
    fn weigh(&self, effective: i32, day: Day) -> i128 {
        let age = u64::from(self.as_of.0.saturating_sub(day.0)).saturating_mul(DAY);
        decayed(effective, age, self.half_life.map(|days| u64::from(days).saturating_mul(DAY)))
    }
}

fn day(params: &Params, name: &'static str) -> Result<Option<Day>, ApiError> {
    let wrong =
        || ApiError::bad("bad_parameter", format!("{name}: want a UTC day like 2026-11-22")).with("field", name);
    params.get(name).map(|text| text.parse().map_err(|_| wrong())).transpose()
}

fn number(params: &Params, name: &'static str, max: u32) -> Result<Option<u32>, ApiError> {
    let wrong = || ApiError::bad("bad_parameter", format!("{name}: want 1 to {max}")).with("field", name);
    let read = |text: &str| text.parse().ok().filter(|number| (1..=max).contains(number)).ok_or_else(wrong);
    params.get(name).map(read).transpose()
}

pub(super) async fn karma(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<KarmaView>, ApiError> {
    let known = ["limit", "cursor", "provider", "as_of", "since", "context", "half_life", "provider_share_max"];
    let params = Params::new(query, &known)?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    let after = params.get("cursor").map(|text| text.parse().map_err(|_| wrong())).transpose()?;
    let (weights, provider) = (Weights::read(&params)?, params.get("provider").map(ToOwned::to_owned));
    place.read(move || read(&app, &x, (provider, weights), (after, limit))).await.map(Json)
}

/// What one provider gave, as it is summed up.
#[derive(Default)]
struct Given {
    all: SumView,
    counts: SumView,
    retracted: SumView,
    not_sponsored: SumView,
    weighed: i128,
    weighed_count: u64,
}

fn read(
    app: &App,
    x: &str,
    (provider, weights): (Option<String>, Option<Weights>),
    (after, limit): (Option<IdentityId>, usize),
) -> Result<KarmaView, ApiError> {
    let moment = Moment::open(app)?;
    let found = moment.find(x)?;
    let provider =
        provider.map(|one| moment.find(&one).map_err(|error| error.with("field", "provider"))).transpose()?;
    let all = sum_up(&moment, found.id, provider.as_ref(), weights.as_ref())?;
    let total = all.values().fold(Karma::default(), |total, given| Karma {
        sum: total.sum.saturating_add(given.counts.sum),
        count: total.count.saturating_add(given.counts.count),
    });
    let cap = weights.as_ref().and_then(|weights| weights.share_max);
    let cap = cap.map(|percent| share_cap(all.values().map(|given| given.weighed), percent));
    let capped = |given: &Given| cap.map_or(given.weighed, |cap| given.weighed.clamp(cap.saturating_neg(), cap));
    let view = weights.as_ref().map(|weights| {
        let sum = all.values().fold(0i128, |sum, given| sum.saturating_add(capped(given)));
        WeighedView {
            score: narrow(sum / MICROPOINTS),
            micropoints: narrow(sum),
            attestation_count: all.values().map(|given| given.weighed_count).sum(),
            as_of: weights.as_of.to_string(),
            since: weights.since.map(|day| day.to_string()),
            context: weights.context.clone(),
            half_life: weights.half_life,
            provider_share_max: weights.share_max,
        }
    });
    let mut page = all.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
    let shown: Vec<(&IdentityId, &Given)> = page.by_ref().take(limit).collect();
    let cursor = shown.last().filter(|_| page.next().is_some()).map(|(id, _)| id.to_string());
    let providers = shown.into_iter().map(|(id, given)| {
        let known = moment.join().identity(*id)?;
        Ok(ProviderView {
            provider_id: id.to_string(),
            handle: known.as_ref().map_or_else(|| id.to_string(), handle),
            given: given.all,
            counts: given.counts,
            retracted: given.retracted,
            not_sponsored: given.not_sponsored,
            micropoints: weights.as_ref().map(|_| narrow(capped(given))),
        })
    });
    Ok(KarmaView {
        agent_id: found.id.to_string(),
        handle: handle(&found),
        score: total.sum,
        attestation_count: total.count,
        view,
        providers: providers.collect::<Result<_, ApiError>>()?,
        cursor,
    })
}

fn narrow(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// Reads every attestation that `subject` received, or those of one provider.
fn sum_up(
    moment: &Moment<'_>,
    subject: IdentityId,
    provider: Option<&LocatedIdentity>,
    weights: Option<&Weights>,
) -> Result<BTreeMap<IdentityId, Given>, ApiError> {
    let (mut all, mut left) = (BTreeMap::<IdentityId, Given>::new(), ATTESTATIONS_MAX);
    let mut sponsored = Sponsored::new(moment);
    // Those that only their entries tell apart.
    let (mut open, mut failed) = (Vec::new(), None);
    moment.join().each_day(subject, provider, |provider, day, rows| {
        left = left.saturating_sub(rows.len());
        let summed = one_day(&mut sponsored, (&mut all, &mut open), weights, (provider, day, rows));
        match summed {
            Ok(()) if left > 0 && open.len() <= ENTRIES_MAX => return ControlFlow::Continue(()),
            Ok(()) => failed = Some(too_many()),
            Err(error) => failed = Some(error),
        }
        ControlFlow::Break(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let wanted = weights.and_then(|weights| weights.context.as_deref()).unwrap_or_default();
    for (provider, row, weight) in open {
        if context(moment, &row)? == wanted {
            let given = all.entry(provider).or_default();
            given.weighed = given.weighed.saturating_add(weight);
            given.weighed_count = given.weighed_count.saturating_add(1);
        }
    }
    Ok(all)
}

/// Adds a day row. What counts and is weighed by context goes to `open`, with its weight.
fn one_day(
    sponsored: &mut Sponsored<'_, '_>,
    (all, open): (&mut BTreeMap<IdentityId, Given>, &mut Vec<(IdentityId, Attested, i128)>),
    weights: Option<&Weights>,
    (provider, day, rows): (IdentityId, Day, &[Attested]),
) -> Result<(), ApiError> {
    let numbers = sponsored.numbers(provider)?;
    let given = all.entry(provider).or_default();
    for row in rows {
        given.all.add(row.effective);
        if !numbers.contains(row.number) {
            given.not_sponsored.add(row.effective);
            continue;
        }
        if row.retraction.is_some_and(|number| numbers.contains(number)) {
            given.retracted.add(row.effective);
            continue;
        }
        given.counts.add(row.effective);
        let Some(weights) = weights.filter(|weights| weights.takes(day)) else { continue };
        let weight = weights.weigh(row.effective, day);
        if weights.context.is_some() {
            open.push((provider, *row, weight));
        } else {
            given.weighed = given.weighed.saturating_add(weight);
            given.weighed_count = given.weighed_count.saturating_add(1);
        }
    }
    Ok(())
}

fn too_many() -> ApiError {
    let message = "the agent has too many attestations for this answer: ask for one provider, or leave out `context`";
    ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "too_many_attestations", message)
}

/// The context of an attestation, which only its entry has; empty without one, and if a quick state lacks the entry.
fn context(moment: &Moment<'_>, row: &Attested) -> Result<String, ApiError> {
    let Some(Position { log, index, .. }) = moment.applied(&row.event)? else { return Ok(String::new()) };
    let item = crate::store::HistoryItem { time: fama_ledger::time::Millis(0), log, index };
    match moment.signed(&item)?.event.action {
        fama_ledger::event::Action::Attest { context, .. } => {
            Ok(context.map(|context| context.to_string()).unwrap_or_default())
        }
        _ => Err(ApiError::internal("an attestation's entry holds another event")),
    }
}
