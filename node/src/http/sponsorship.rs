//! `GET /api/agent/{x}/sponsorship`: which operators sponsor a provider, what of it counts, what is left of its quotas
//! today, and what a dismissal would change.
use axum::Json;
use axum::extract::{Path, Query};
use fama_ledger::event::Service;
use fama_ledger::id::Domain;
use fama_ledger::join::{Karma, LocatedIdentity, Numbers, Sponsorship};
use fama_ledger::rows::{Attested, Interval};
use schemars::JsonSchema;
use serde::Serialize;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::{ApiError, App, Serving};
use crate::clock;

/// Most attestations that are read to tell what a dismissal would change.
const ATTESTATIONS_MAX: usize = 200_000;
/// Subjects that are read at once.
const SUBJECTS_PAGE: usize = 1_024;

#[derive(Serialize, JsonSchema)]
pub(super) struct SponsorshipView {
    agent_id: String,
    handle: String,
    /// The number that the next attestation or retraction gets.
    next_number: u64,
    /// Whether an attestation counts that gets that number.
    counts: bool,
    /// How many operators must sponsor the provider for the same service and domain.
    sponsors_wanted: u32,
    services: Vec<ServiceView>,
    /// The numbers that count.
    numbers: Vec<NumbersView>,
    today: TodayView,
    #[serde(skip_serializing_if = "Option::is_none")]
    dismissal: Option<DismissalView>,
}

#[derive(Serialize, JsonSchema)]
struct ServiceView {
    service: String,
    domain: String,
    sponsors: Vec<SponsorView>,
    /// How many more sponsors the next attestation needs to count for this service.
    missing: usize,
}

#[derive(Serialize, JsonSchema)]
struct SponsorView {
    operator: String,
    numbers: Vec<NumbersView>,
}

/// Numbers from `from` on, up to but not including `before`; without `before`, all from `from` on.
#[derive(Serialize, JsonSchema)]
struct NumbersView {
    from: u64,
    before: Option<u64>,
}

/// What is used, and left, of the quotas of this UTC day, by the days of the log's entries.
#[derive(Serialize, JsonSchema)]
struct TodayView {
    date: String,
    attestations: u32,
    attestations_left: u32,
    retractions: u32,
    retractions_left: u32,
}

/// What would change if an operator dismissed the provider for a service from a number on.
#[derive(Serialize, JsonSchema)]
struct DismissalView {
    operator: String,
    service: String,
    domain: String,
    from: u64,
    /// Attestations that count now, and would not.
    lost: KarmaView,
    /// Attestations that do not count now because they were retracted, and would again: their retraction would not count.
    revived: KarmaView,
    /// Whether all attestations were looked at; there may be too many.
    complete: bool,
}

#[derive(Serialize, JsonSchema)]
struct KarmaView {
    sum: i64,
    count: u64,
}

/// The dismissal that is asked about.
struct Dismissal {
    operator: Domain,
    service: Service,
    domain: Domain,
    from: u64,
}

impl Dismissal {
    /// `None` if no parameter of it is given.
    fn read(params: &Params) -> Result<Option<Self>, ApiError> {
        const NAMES: [&str; 4] = ["operator", "service", "domain", "dismiss_from"];
        if NAMES.iter().all(|name| params.get(name).is_none()) {
            return Ok(None);
        }
        let wrong = |name: &'static str| {
            ApiError::bad("bad_parameter", format!("{name}: malformed or missing")).with("field", name)
        };
        let text = |name: &'static str| params.get(name).ok_or_else(|| wrong(name));
        Ok(Some(Self {
            operator: text("operator")?.parse().map_err(|_| wrong("operator"))?,
            service: text("service")?.parse().map_err(|_| wrong("service"))?,
            domain: text("domain")?.parse().map_err(|_| wrong("domain"))?,
            from: text("dismiss_from")?.parse().map_err(|_| wrong("dismiss_from"))?,
        }))
    }

    /// The sponsorships after it.
    fn applied(&self, all: &[Sponsorship]) -> Vec<Sponsorship> {
        let mut all = all.to_vec();
        let meant = all.iter_mut().filter(|one| one.service == self.service && one.domain == self.domain);
        for (_, intervals) in meant.flat_map(|one| &mut one.sponsors).filter(|(operator, _)| *operator == self.operator)
        {
            intervals.retain(|interval| interval.start < self.from);
            for interval in intervals {
                interval.end = Some(interval.end.map_or(self.from, |end| end.min(self.from)));
            }
        }
        all
    }
}

pub(super) async fn sponsorship(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<SponsorshipView>, ApiError> {
    let params = Params::new(query, &["operator", "service", "domain", "dismiss_from"])?;
    let dismissal = Dismissal::read(&params)?;
    // It reads the statements of every operator, and for a dismissal all that the provider ever gave.
    place.read(move || read(&app, &x, dismissal)).await.map(Json)
}

fn read(app: &App, x: &str, dismissal: Option<Dismissal>) -> Result<SponsorshipView, ApiError> {
    let moment = Moment::open(app)?;
    let (found, join) = (moment.find(x)?, moment.join());
    let (policy, row) = (app.shared.manifest.policy(), join.provider(&found)?);
    let all = join.sponsorships(found.id)?;
    let want = usize::try_from(policy.min_sponsors).unwrap_or(usize::MAX);
    let (numbers, day) = (join.sponsored(found.id)?, clock::now().day());
    let services = all.iter().map(|one| {
        let sponsors = one.sponsors.iter().filter(|(_, intervals)| !intervals.is_empty());
        let counting = sponsors.clone().filter(|(_, intervals)| has(intervals, row.next)).count();
        ServiceView {
            service: one.service.to_string(),
            domain: one.domain.to_string(),
            sponsors: sponsors
                .map(|(operator, of)| SponsorView { operator: operator.to_string(), numbers: views(of) })
                .collect(),
            missing: want.saturating_sub(counting),
        }
    });
    let services = services.filter(|service| !service.sponsors.is_empty()).collect();
    let dismissal = dismissal.map(|one| effect(&moment, &found, one, (&all, want), &numbers)).transpose()?;
    let (attestations, retractions) = (row.attestations.on(day), row.retractions.on(day));
    Ok(SponsorshipView {
        agent_id: found.id.to_string(),
        handle: handle(&found),
        next_number: row.next,
        counts: numbers.contains(row.next),
        sponsors_wanted: policy.min_sponsors,
        services,
        numbers: views(numbers.intervals()),
        today: TodayView {
            date: day.to_string(),
            attestations,
            attestations_left: policy.daily_attestations.saturating_sub(attestations),
            retractions,
            retractions_left: policy.daily_retractions.saturating_sub(retractions),
        },
        dismissal,
    })
}

fn has(intervals: &[Interval], number: u64) -> bool {
    intervals.iter().any(|one| one.start <= number && one.end.is_none_or(|end| number < end))
}

fn views(intervals: &[Interval]) -> Vec<NumbersView> {
    intervals.iter().map(|one| NumbersView { from: one.start, before: one.end }).collect()
}

/// What a dismissal would change, attestation by attestation.
fn effect(
    moment: &Moment<'_>,
    found: &LocatedIdentity,
    dismissal: Dismissal,
    (all, want): (&[Sponsorship], usize),
    before: &Numbers,
) -> Result<DismissalView, ApiError> {
    let after = Numbers::of_any(&dismissal.applied(all), want);
    let (mut lost, mut revived) = (Karma::default(), Karma::default());
    let (mut left, mut last, mut complete) = (ATTESTATIONS_MAX, None, true);
    'all: loop {
        let subjects = moment.view.subjects_of(&found.id, last.as_ref(), SUBJECTS_PAGE)?;
        let Some(end) = subjects.last().copied() else { break };
        last = Some(end);
        for subject in subjects {
            for attested in moment.join().attestations(found, subject)? {
                let Some(fewer) = left.checked_sub(1) else {
                    complete = false;
                    break 'all;
                };
                left = fewer;
                count(&attested, (before, &after), &mut lost, &mut revived);
            }
        }
    }
    let view = |karma: Karma| KarmaView { sum: karma.sum, count: karma.count };
    let Dismissal { operator, service, domain, from } = dismissal;
    let (operator, service, domain) = (operator.to_string(), service.to_string(), domain.to_string());
    Ok(DismissalView { operator, service, domain, from, lost: view(lost), revived: view(revived), complete })
}

fn count(attested: &Attested, (before, after): (&Numbers, &Numbers), lost: &mut Karma, revived: &mut Karma) {
    let (now, then) = (attested.counted(before), attested.counted(after));
    let changed = match (now.count, then.count) {
        (1, 0) => (lost, now),
        (0, 1) => (revived, then),
        _ => return,
    };
    changed.0.sum = changed.0.sum.saturating_add(changed.1.sum);
    changed.0.count = changed.0.count.saturating_add(1);
}
