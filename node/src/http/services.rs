//! `GET /api/services` and `/api/service/{x}`: who attests, who sponsors them, and what they gave.
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, Query};
use fama_ledger::event::{Action, Method, Service};
use fama_ledger::id::{Domain, IdentityId, did};
use fama_ledger::join::{LocatedIdentity, Sponsorship};
use fama_ledger::rows::Interval;
use schemars::JsonSchema;
use serde::Serialize;

use super::input::Params;
use super::layers::Place;
use super::moment::{Moment, handle};
use super::{ApiError, App, Serving};
use crate::store::{HistoryItem, Touch};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Most services that are listed; operators admit each of them.
const SERVICES_MAX: usize = 100_000;

/// A provider under one of its services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListedService {
    pub(super) service: Service,
    pub(super) domain: Domain,
    pub(super) provider: IdentityId,
}

/// All services, kept until an operator makes a statement about one.
#[derive(Default)]
pub struct ServiceList(Mutex<Option<KeptList>>);

/// The list, and the count of changes at which it was read.
type KeptList = (u64, Arc<Vec<ListedService>>);

impl ServiceList {
    /// The services now, ordered by service, domain and provider. One request reads them; others wait for it.
    pub(super) fn of(&self, app: &App) -> Result<Arc<Vec<ListedService>>, ApiError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the rows: a statement that comes between the two is read again, never missed.
        let changes = app.shared.statements.load(Ordering::SeqCst);
        if let Some((_, list)) = kept.as_ref().filter(|(known, _)| *known == changes) {
            return Ok(Arc::clone(list));
        }
        let moment = Moment::open(app)?;
        let mut providers = Vec::new();
        moment.view.all_touched(Touch::Sponsorship, &mut |provider, _, _| {
            if providers.last() != Some(&provider) {
                providers.push(provider);
            }
        })?;
        let mut list = Vec::new();
        for provider in providers {
            let join = moment.join();
            if join.identity(provider)?.is_some() {
                list.extend(join.sponsorships(provider)?.into_iter().map(|one| listed(&one, provider)));
            }
            if list.len() > SERVICES_MAX {
                break;
            }
        }
        list.sort();
        let list = Arc::new(list);
        *kept = Some((changes, Arc::clone(&list)));
        Ok(list)
    }
}

fn listed(one: &Sponsorship, provider: IdentityId) -> ListedService {
    ListedService { service: one.service.clone(), domain: one.domain.clone(), provider }
}

fn has(intervals: &[Interval], number: u64) -> bool {
    intervals.iter().any(|one| one.start <= number && one.end.is_none_or(|end| number < end))
}

/// The answer of `GET /api/services`.
#[derive(Serialize, JsonSchema)]
pub(super) struct ServicesView {
    /// Ordered by service, domain and provider.
    pub(super) services: Vec<ServiceView>,
    /// How many operators must sponsor a provider for the same service and domain.
    pub(super) sponsors_wanted: u32,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// A service, and who answers for it.
#[derive(Serialize, JsonSchema)]
pub(super) struct ServiceView {
    pub(super) service: String,
    pub(super) domain: String,
    pub(super) provider_id: String,
    pub(super) handle: String,
    pub(super) sponsors: Vec<SponsorView>,
    /// Whether the provider's next attestation counts because of this service.
    pub(super) counts: bool,
}

/// An operator that sponsors a provider.
#[derive(Serialize, JsonSchema)]
pub(super) struct SponsorView {
    pub(super) operator: String,
    /// How it checked the domain: `dns`, `https` or `manual`; absent if its newest statement about the provider is about
    /// another service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    /// When it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<String>,
}

/// The answer of `GET /api/service/{x}`.
#[derive(Serialize, JsonSchema)]
pub(super) struct ProviderView {
    pub(super) provider_id: String,
    pub(super) did: String,
    pub(super) handle: String,
    pub(super) services: Vec<ServiceView>,
    pub(super) sponsors_wanted: u32,
    /// How many attestations and retractions it has made.
    pub(super) made: u64,
    /// The agents that it attested to, ordered by id.
    pub(super) subjects: Vec<SubjectView>,
    /// The cursor of the next page of subjects; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// What a provider gave to one agent.
#[derive(Serialize, JsonSchema)]
pub(super) struct SubjectView {
    pub(super) agent_id: String,
    pub(super) handle: String,
    /// The sum of the effective deltas that count.
    pub(super) sum: i64,
    /// How many attestations count.
    pub(super) count: u64,
    /// How many there are in all.
    pub(super) given: u64,
}

pub(super) async fn services(
    Serving(app): Serving,
    place: Place,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<ServicesView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = params.get("cursor").map(ToOwned::to_owned);
    place.read(move || page(&Moment::open(&app)?, after.as_deref(), limit)).await.map(Json)
}

fn cursor(one: &ListedService) -> String {
    format!("{}~{}~{}", one.service, one.domain, one.provider)
}

fn read_cursor(text: &str) -> Result<(Service, Domain, IdentityId), ApiError> {
    let mut parts = text.splitn(3, '~');
    let read = (|| Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))();
    read.ok_or_else(|| ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor"))
}

pub(super) fn page(moment: &Moment<'_>, after: Option<&str>, limit: usize) -> Result<ServicesView, ApiError> {
    let app = moment.app;
    let (list, after) = (app.services.of(app)?, after.map(read_cursor).transpose()?);
    let key = |one: &ListedService| (one.service.clone(), one.domain.clone(), one.provider);
    let begin = after.map_or(0, |after| list.partition_point(|one| key(one) <= after));
    let rest = list.get(begin..).unwrap_or_default();
    let services = rest.iter().take(limit).map(|one| view(moment, one)).collect::<Result<_, _>>()?;
    let last = limit.checked_sub(1).and_then(|last| rest.get(last)).filter(|_| rest.len() > limit);
    Ok(ServicesView { services, sponsors_wanted: app.shared.manifest.policy().min_sponsors, cursor: last.map(cursor) })
}

/// A service, with the operators that sponsor its provider's next number for it.
pub(super) fn view(moment: &Moment<'_>, one: &ListedService) -> Result<ServiceView, ApiError> {
    let found = moment.join().identity(one.provider)?;
    let sponsorships = moment.join().sponsorships(one.provider)?;
    let of = sponsorships.into_iter().find(|of| (&of.service, &of.domain) == (&one.service, &one.domain));
    let sponsors = of.map(|of| of.sponsors).unwrap_or_default();
    view_of(moment, (one, &sponsors), found.as_ref())
}

fn view_of(
    moment: &Moment<'_>,
    (one, sponsors): (&ListedService, &[(Domain, Vec<Interval>)]),
    found: Option<&LocatedIdentity>,
) -> Result<ServiceView, ApiError> {
    let want = usize::try_from(moment.app.shared.manifest.policy().min_sponsors).unwrap_or(usize::MAX);
    let next = found.map(|found| moment.join().provider(found)).transpose()?.map_or(0, |row| row.next);
    let now = sponsors.iter().filter(|(_, of)| has(of, next)).map(|(operator, _)| sponsor(moment, one, operator));
    let now = now.collect::<Result<Vec<_>, _>>()?;
    Ok(ServiceView {
        service: one.service.to_string(),
        domain: one.domain.to_string(),
        provider_id: one.provider.to_string(),
        handle: found.map_or_else(|| one.provider.to_string(), handle),
        counts: now.len() >= want,
        sponsors: now,
    })
}

/// What an operator last said about the provider, if that was about this service.
fn sponsor(moment: &Moment<'_>, one: &ListedService, operator: &Domain) -> Result<SponsorView, ApiError> {
    let mut shown = SponsorView { operator: operator.to_string(), method: None, since: None, event: None };
    let touched = moment.view.touched(&one.provider, Touch::Sponsorship)?;
    let newest = touched.into_iter().filter(|(log, _)| log.operator == *operator).max_by_key(|(log, _)| log.generation);
    let Some((log, index)) = newest else { return Ok(shown) };
    // A quick state has no entries from before its starting point.
    if moment.app.partial && moment.view.base(&log)?.is_some_and(|base| index < base.size) {
        return Ok(shown);
    }
    let signed = moment.signed(&HistoryItem { time: fama_ledger::time::Millis(0), log, index })?;
    if let Action::Admit { service, domain, method, .. } = &signed.event.action
        && (service, domain) == (&one.service, &one.domain)
    {
        shown.method = Some(word(*method));
        shown.since = Some(signed.event.created.to_string());
        shown.event = Some(signed.event.id().to_string());
    }
    Ok(shown)
}

fn word(method: Method) -> String {
    method.to_string()
}

/// The provider that `x` names: an identity by handle, id, DID or name, or else the only provider of a service.
pub(super) fn provider(moment: &Moment<'_>, x: &str) -> Result<IdentityId, ApiError> {
    let error = match moment.find(x) {
        Ok(found) => return Ok(found.id),
        Err(error) => error,
    };
    let Ok(service) = x.parse::<Service>() else { return Err(error) };
    let list = moment.app.services.of(moment.app)?;
    let begin = list.partition_point(|one| one.service < service);
    let mut of: Vec<&ListedService> = list.iter().skip(begin).take_while(|one| one.service == service).collect();
    of.dedup_by_key(|one| one.provider);
    match of.as_slice() {
        [] => Err(moment.unknown("unknown_service", "no service or provider of this name is known here")),
        [one] => Ok(one.provider),
        several => {
            let ids: Vec<String> = several.iter().map(|one| one.provider.to_string()).collect();
            Err(ApiError::bad("ambiguous_service", "several providers have a service of this name")
                .with("providers", ids))
        }
    }
}

pub(super) async fn service(
    Serving(app): Serving,
    place: Place,
    Path(x): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<ProviderView>, ApiError> {
    let params = Params::new(query, &["limit", "cursor"])?;
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let wrong = || ApiError::bad("bad_cursor", "cursor: want one from an earlier page").with("field", "cursor");
    let after = params.get("cursor").map(|text| text.parse().map_err(|_| wrong())).transpose()?;
    place.read(move || read(&Moment::open(&app)?, &x, after, limit)).await.map(Json)
}

pub(super) fn read(
    moment: &Moment<'_>,
    x: &str,
    after: Option<IdentityId>,
    limit: usize,
) -> Result<ProviderView, ApiError> {
    let app = moment.app;
    let id = provider(moment, x)?;
    let found = moment.join().identity(id)?.ok_or_else(|| ApiError::internal("a provider without an identity"))?;
    let sponsorships = moment.join().sponsorships(id)?;
    let services = sponsorships.iter().map(|one| view_of(moment, (&listed(one, id), &one.sponsors), Some(&found)));
    let mut subjects = moment.view.subjects_of(&id, after.as_ref(), limit.saturating_add(1))?;
    let more = subjects.len() > limit;
    subjects.truncate(limit);
    let cursor = subjects.last().filter(|_| more).map(ToString::to_string);
    let numbers = moment.sponsored(id)?;
    let subject = |subject: &IdentityId| subject_view(moment, &found, *subject, &numbers);
    Ok(ProviderView {
        provider_id: id.to_string(),
        did: did(&found.home, &id),
        handle: handle(&found),
        services: services.collect::<Result<_, _>>()?,
        sponsors_wanted: app.shared.manifest.policy().min_sponsors,
        made: moment.join().provider(&found)?.next,
        subjects: subjects.iter().map(subject).collect::<Result<_, _>>()?,
        cursor,
    })
}

fn subject_view(
    moment: &Moment<'_>,
    provider: &LocatedIdentity,
    subject: IdentityId,
    numbers: &fama_ledger::join::Numbers,
) -> Result<SubjectView, ApiError> {
    let rows = moment.join().attestations(provider, subject)?;
    let found = moment.join().identity(subject)?;
    let counted = rows.iter().map(|row| row.counted(numbers));
    let (sum, count) = counted
        .fold((0i64, 0u64), |(sum, count), karma| (sum.saturating_add(karma.sum), count.saturating_add(karma.count)));
    Ok(SubjectView {
        agent_id: subject.to_string(),
        handle: found.as_ref().map_or_else(|| subject.to_string(), handle),
        sum,
        count,
        given: u64::try_from(rows.len()).unwrap_or(u64::MAX),
    })
}
