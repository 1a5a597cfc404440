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
use super::{ApiError, Serving};
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
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// The score: the sum of what counts. A profile shows the same.
    pub(super) score: i64,
    /// How many attestations count.
    pub(super) attestation_count: u64,
    /// The view that was asked for; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) view: Option<WeighedView>,
    /// What counts, by the UTC day on which it was signed, oldest first; absent unless `days` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) days: Option<Vec<DayView>>,
    /// Every provider that ever attested to the agent, ordered by id.
    pub(super) providers: Vec<ProviderView>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// A score by a reader's own weights.
#[derive(Serialize, JsonSchema)]
pub(super) struct WeighedView {
    /// The weighed score in points, rounded towards zero.
    pub(super) score: i64,
    /// The weighed score in millionths of a point.
    pub(super) micropoints: i64,
    /// How many attestations it is made of.
    pub(super) attestation_count: u64,
    /// The UTC day on which ages are measured. What was signed later is left out.
    pub(super) as_of: String,
    /// The first UTC day that counts.
    pub(super) since: Option<String>,
    pub(super) context: Option<String>,
    /// After so many days an attestation counts half.
    pub(super) half_life: Option<u32>,
    /// The most that one provider contributes, in percent of what all contribute together before this limit, by absolute
    /// value.
    pub(super) provider_share_max: Option<u32>,
}

/// What counts of one day.
#[derive(Serialize, JsonSchema)]
pub(super) struct DayView {
    pub(super) day: String,
    #[serde(flatten)]
    pub(super) counts: SumView,
}

/// What counts of one context.
#[derive(Serialize, JsonSchema)]
pub(super) struct ContextView {
    /// Empty: those without a context.
    pub(super) context: String,
    #[serde(flatten)]
    pub(super) counts: SumView,
}

/// What a provider gave.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProviderView {
    pub(super) provider_id: String,
    /// Its handle; its id while this node does not know it.
    pub(super) handle: String,
    /// All of it.
    pub(super) given: SumView,
    /// What counts.
    pub(super) counts: SumView,
    /// What was retracted.
    pub(super) retracted: SumView,
    /// What does not count, because too few operators sponsor the provider at those numbers.
    pub(super) not_sponsored: SumView,
    /// What counts, by context, ordered by its name; absent unless `contexts` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contexts: Option<Vec<ContextView>>,
    /// What it contributes to the view, in millionths of a point, after the limit on shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) micropoints: Option<i64>,
}

/// A sum of effective deltas, after the caps of their days, and their number.
#[derive(Clone, Copy, Default, Serialize, JsonSchema)]
pub(super) struct SumView {
    pub(super) sum: i64,
    pub(super) count: u64,
}

impl SumView {
    fn add(&mut self, effective: i32) {
        self.sum = self.sum.saturating_add(effective.into());
        self.count = self.count.saturating_add(1);
    }
}

/// A reader's weights.
#[derive(Clone)]
pub(super) struct Weights {
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
    let known = [
        "limit",
        "cursor",
        "provider",
        "as_of",
        "since",
        "context",
        "half_life",
        "provider_share_max",
        "days",
        "contexts",
    ];
    let params = Params::new(query, &known)?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    let after = params.get("cursor").map(|text| text.parse().map_err(|_| wrong())).transpose()?;
    let asked = Asked {
        provider: params.get("provider").map(ToOwned::to_owned),
        weights: Weights::read(&params)?,
        days: params.flag("days")?,
        contexts: params.flag("contexts")?,
        after,
        limit,
        ..Asked::default()
    };
    place.read(move || read(&Moment::open(&app)?, &x, &asked)).await.map(Json)
}

/// What an answer shows, and what it may read.
pub(super) struct Asked {
    pub(super) provider: Option<String>,
    pub(super) weights: Option<Weights>,
    pub(super) days: bool,
    pub(super) contexts: bool,
    pub(super) after: Option<IdentityId>,
    pub(super) limit: usize,
    /// Most attestations that are summed up.
    pub(super) attestations_max: usize,
    /// Most of them whose entries are read, for their contexts.
    pub(super) entries_max: usize,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            provider: None,
            weights: None,
            days: false,
            contexts: false,
            after: None,
            limit: LIMIT_DEFAULT,
            attestations_max: ATTESTATIONS_MAX,
            entries_max: ENTRIES_MAX,
        }
    }
}

/// What one provider gave, as it is summed up.
#[derive(Default)]
struct Given {
    all: SumView,
    counts: SumView,
    retracted: SumView,
    not_sponsored: SumView,
    contexts: BTreeMap<String, SumView>,
    weighed: i128,
    weighed_count: u64,
}

pub(super) fn read(moment: &Moment<'_>, x: &str, asked: &Asked) -> Result<KarmaView, ApiError> {
    let Asked { provider, weights, after, limit, .. } = asked;
    let found = moment.find(x)?;
    let provider =
        provider.as_ref().map(|one| moment.find(one).map_err(|error| error.with("field", "provider"))).transpose()?;
    let (all, days) = sum_up(moment, found.id, provider.as_ref(), asked)?;
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
    let shown: Vec<(&IdentityId, &Given)> = page.by_ref().take(*limit).collect();
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
            contexts: asked.contexts.then(|| {
                let one =
                    |(context, counts): (&String, &SumView)| ContextView { context: context.clone(), counts: *counts };
                given.contexts.iter().map(one).collect()
            }),
            micropoints: weights.as_ref().map(|_| narrow(capped(given))),
        })
    });
    Ok(KarmaView {
        agent_id: found.id.to_string(),
        handle: handle(&found),
        score: total.sum,
        attestation_count: total.count,
        view,
        days: asked
            .days
            .then(|| days.iter().map(|(day, counts)| DayView { day: day.to_string(), counts: *counts }).collect()),
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
    asked: &Asked,
) -> Result<(BTreeMap<IdentityId, Given>, BTreeMap<Day, SumView>), ApiError> {
    let (mut all, mut left) = (BTreeMap::<IdentityId, Given>::new(), asked.attestations_max);
    let mut sponsored = Sponsored::new(moment);
    // Those that only their entries tell apart.
    let (mut open, mut days, mut failed) = (Vec::new(), BTreeMap::new(), None);
    moment.join().each_day(subject, provider, |provider, day, rows| {
        left = left.saturating_sub(rows.len());
        let summed = one_day(&mut sponsored, (&mut all, &mut open, &mut days), asked, (provider, day, rows));
        match summed {
            Ok(()) if left > 0 && open.len() <= asked.entries_max => return ControlFlow::Continue(()),
            Ok(()) => failed = Some(too_many()),
            Err(error) => failed = Some(error),
        }
        ControlFlow::Break(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let wanted = asked.weights.as_ref().and_then(|weights| weights.context.as_deref());
    for (provider, row, weight) in open {
        let (context, given) = (context(moment, &row)?, all.entry(provider).or_default());
        if let Some(weight) = weight.filter(|_| wanted.is_some_and(|wanted| wanted == context)) {
            given.weighed = given.weighed.saturating_add(weight);
            given.weighed_count = given.weighed_count.saturating_add(1);
        }
        if asked.contexts {
            given.contexts.entry(context).or_default().add(row.effective);
        }
    }
    Ok((all, days))
}

/// What an answer is summed up to: by provider, what only entries tell apart with its weight, and by day.
type Sums<'s> = (
    &'s mut BTreeMap<IdentityId, Given>,
    &'s mut Vec<(IdentityId, Attested, Option<i128>)>,
    &'s mut BTreeMap<Day, SumView>,
);

/// Adds a day row. What counts and is told apart by context goes to `open`, with its weight.
fn one_day(
    sponsored: &mut Sponsored<'_, '_>,
    (all, open, days): Sums<'_>,
    asked: &Asked,
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
        if asked.days {
            days.entry(day).or_default().add(row.effective);
        }
        let weights = asked.weights.as_ref().filter(|weights| weights.takes(day));
        let weight = weights.map(|weights| weights.weigh(row.effective, day));
        if asked.contexts || weights.is_some_and(|weights| weights.context.is_some()) {
            open.push((provider, *row, weight));
        }
        if let Some(weight) = weight.filter(|_| weights.is_some_and(|weights| weights.context.is_none())) {
            given.weighed = given.weighed.saturating_add(weight);
            given.weighed_count = given.weighed_count.saturating_add(1);
        }
    }
    Ok(())
}

/// The code of an answer that would be made of too many attestations.
pub(super) const TOO_MANY: &str = "too_many_attestations";

fn too_many() -> ApiError {
    let message = "the agent has too many attestations for this answer: ask for one provider, or leave out `context`";
    ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, TOO_MANY, message)
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
