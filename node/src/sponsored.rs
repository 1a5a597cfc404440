//! Looks again at the domains of the services that this node's operator sponsors, and tells the operator when one no
//! longer names its provider. What follows is the operator's decision: no rule of the ledger depends on it.
//!
//! Nothing is stored. After a start every domain is looked at within the first 24th of the period, and one that was lost
//! before is told of again.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::event::{Action, Method, Service};
use fama_ledger::id::{Domain, IdentityId};
use fama_ledger::join::Join;
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::manifest::LogId;
use fama_ledger::rows::{Interval, RowError};
use tokio::sync::watch;

use crate::config::DomainSettings;
use crate::domains::{DomainClaim, DomainLookup, LookupError};
use crate::shared::Shared;
use crate::store::{History, HistoryItem, StoreError, Touch, View};

/// How many look-ups without an answer make a domain a lost one, if they span [`DomainSettings::doubt`], too.
const FAILURES_MIN: u32 = 3;
/// Most providers whose domains are looked at; the first ones, by id.
const PROVIDERS_MAX: usize = 10_000;
/// Most services whose domains are looked at.
const SERVICES_MAX: usize = 20_000;
/// How many statements about a provider are looked through, of all operators, newest first; in pages.
const STATEMENTS_PAGE: usize = 1_000;
const STATEMENT_PAGES_MAX: usize = 1_000;
/// Part of the period in which all domains are looked at first, and after which one without an answer is asked again.
const FIRST_PART: u32 = 24;
const RETRY_PART: u32 = 4;
/// How often the list of sponsored providers is read and looked at for what is due, at most and at least.
const TICK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Where a statement is.
type Place = (LogId, u64);

/// A provider about which the operator has made statements.
struct WatchedProvider {
    /// Its newest statement.
    place: Place,
    services: Vec<WatchedService>,
}

/// A sponsored service with the proof that the operator's newest statement about it names.
struct WatchedService {
    place: Place,
    claim: DomainClaim,
    method: Method,
    /// Monotonic.
    due: Duration,
    health: DomainHealth,
}

/// What the look-ups at one domain have shown.
#[derive(Debug, Default)]
struct DomainHealth {
    failures: u32,
    /// Of these failures, the time of the first.
    since: Duration,
    /// Why it is lost, as a stable code.
    lost: Option<&'static str>,
}

/// A domain that was lost or is back.
#[derive(Debug, PartialEq, Eq)]
enum DomainChange {
    Lost,
    Back,
}

impl DomainHealth {
    /// Takes the result of a look-up. A domain that answers without naming the provider is lost at once; one that does
    /// not answer, after [`FAILURES_MIN`] failures over at least `doubt`.
    fn look(&mut self, found: Result<(), &LookupError>, now: Duration, doubt: Duration) -> Option<DomainChange> {
        let Err(error) = found else {
            let was_lost = std::mem::take(self).lost.is_some();
            return was_lost.then_some(DomainChange::Back);
        };
        if self.failures == 0 {
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
        let is_lost = match error {
            LookupError::Unproven(_) => true,
            LookupError::Unreachable(_) | LookupError::Private(_) => {
                self.failures >= FAILURES_MIN && now.saturating_sub(self.since) >= doubt
            }
        };
        let is_new = is_lost && self.lost.is_none();
        if is_lost {
            self.lost = Some(error.code());
        }
        is_new.then_some(DomainChange::Lost)
    }
}

/// Watches the domains that one operator sponsors.
pub(crate) struct DomainWatch {
    shared: Shared,
    operator: Domain,
    settings: DomainSettings,
    watched: BTreeMap<IdentityId, WatchedProvider>,
}

impl DomainWatch {
    /// `None` if the settings turn it off.
    pub(crate) fn new(shared: Shared, operator: Domain, settings: DomainSettings) -> Option<Self> {
        (settings.every_seconds > 0).then_some(Self { shared, operator, settings, watched: BTreeMap::new() })
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval((self.every() / 100).clamp(TICK.0, TICK.1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                _ = ticks.tick() => {}
            }
            // A node that lacks entries would look at what is dismissed by now.
            if self.shared.health.read().waiting.is_some() {
                continue;
            }
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = self.round() => {}
            }
        }
    }

    fn every(&self) -> Duration {
        Duration::from_secs(self.settings.every_seconds)
    }

    async fn round(&mut self) {
        if let Err(error) = tokio::task::block_in_place(|| self.follow()) {
            // The inbox stops the node if its disk fails.
            return tracing::debug!(%error, "cannot read whom this operator sponsors");
        }
        let now = self.shared.clock.monotonic();
        let is_due = |watched: &WatchedProvider| watched.services.iter().any(|service| service.due <= now);
        if !self.watched.values().any(is_due) {
            return;
        }
        // Made for each round: the system's DNS servers may have changed.
        let lookup = DomainLookup::new(&self.settings.lookup());
        let (every, doubt) = (self.every(), self.settings.doubt);
        for (provider, watched) in &mut self.watched {
            for service in watched.services.iter_mut().filter(|service| service.due <= now) {
                let found = match &lookup {
                    Ok(lookup) => lookup.find(&service.claim, service.method).await.map(drop),
                    Err(error) => Err(LookupError::Unreachable(error.clone())),
                };
                service.looked(provider, found, self.shared.clock.monotonic(), (every, doubt));
            }
        }
        self.tell();
    }

    /// Reads whom the operator sponsors, and keeps what is known of the services that it still does.
    fn follow(&mut self) -> Result<(), RowError<StoreError>> {
        let mut newest: BTreeMap<IdentityId, Place> = BTreeMap::new();
        let touched = self.shared.store.view().all_touched(Touch::Sponsorship, &mut |provider, log, index| {
            if log.operator == self.operator && (newest.len() < PROVIDERS_MAX || newest.contains_key(&provider)) {
                let place = newest.entry(provider).or_insert_with(|| (log.clone(), index));
                if (log.generation, index) > (place.0.generation, place.1) {
                    *place = (log.clone(), index);
                }
            }
        });
        touched.map_err(RowError::Storage)?;
        let (mut before, mut left) = (std::mem::take(&mut self.watched), SERVICES_MAX);
        let mut is_changed = false;
        for (provider, place) in newest {
            let mut watched = match before.remove(&provider) {
                Some(known) if known.place == place => known,
                known => {
                    is_changed = true;
                    let known = known.map_or_else(Vec::new, |known| known.services);
                    WatchedProvider { place, services: self.services(&provider, known)? }
                }
            };
            watched.services.truncate(left);
            left = left.saturating_sub(watched.services.len());
            self.watched.insert(provider, watched);
        }
        if is_changed || !before.is_empty() {
            self.tell();
        }
        Ok(())
    }

    /// The services for which the operator sponsors a provider and whose domains can be looked up. What is `known` of them
    /// is kept while no other statement about them follows.
    fn services(
        &self,
        provider: &IdentityId,
        mut known: Vec<WatchedService>,
    ) -> Result<Vec<WatchedService>, RowError<StoreError>> {
        let view = self.shared.store.view();
        let join = Join::new(&self.shared.manifest, &view);
        let found = join.identity(*provider)?;
        let handle = found.as_ref().map(|found| (found.identity.name.as_str(), &found.home));
        let is_own = |sponsors: &[(Domain, Vec<Interval>)]| {
            let own = sponsors.iter().filter(|(operator, _)| *operator == self.operator);
            own.filter_map(|(_, intervals)| intervals.last()).any(|last| last.end.is_none())
        };
        let sponsored = join.sponsorships(*provider)?.into_iter().filter(|one| is_own(&one.sponsors));
        let mut sponsored: BTreeSet<(Service, Domain)> = sponsored.map(|one| (one.service, one.domain)).collect();
        let (mut services, mut before) = (Vec::new(), None::<HistoryItem>);
        for _ in 0..STATEMENT_PAGES_MAX {
            let page = view.history(provider, History::Stated, before.as_ref(), STATEMENTS_PAGE);
            let page = page.map_err(RowError::Storage)?;
            for HistoryItem { log, index, .. } in &page {
                if sponsored.is_empty() || log.operator != self.operator {
                    continue;
                }
                let place = (log.clone(), *index);
                let Some((service, domain, method)) = admission(&view, &place).map_err(RowError::Storage)? else {
                    continue;
                };
                // The newest one counts.
                if !sponsored.remove(&(service, domain.clone())) || method == Method::Manual {
                    continue;
                }
                services.push(match known.iter().position(|service| service.place == place) {
                    Some(at) => known.swap_remove(at),
                    None => WatchedService {
                        claim: DomainClaim::new(domain, self.shared.manifest.federation(), provider, handle),
                        due: self.shared.clock.monotonic() + part(self.every() / FIRST_PART),
                        health: DomainHealth::default(),
                        place,
                        method,
                    },
                });
            }
            before = page.into_iter().next_back();
            if sponsored.is_empty() || before.is_none() {
                break;
            }
        }
        Ok(services)
    }

    fn tell(&self) {
        let services = self.watched.values().flat_map(|watched| &watched.services);
        let lost = services.filter_map(|service| Some((service.claim.domain.clone(), service.health.lost?)));
        self.shared.health.write().lost_domains = lost.collect();
    }
}

impl WatchedService {
    /// Takes the result of a look-up at `now`, tells the operator of a change, and says when the next one is due.
    fn looked(
        &mut self,
        provider: &IdentityId,
        found: Result<(), LookupError>,
        now: Duration,
        (every, doubt): (Duration, Duration),
    ) {
        let pause = if found.is_ok() { every } else { every / RETRY_PART };
        // Between nine tenths and eleven tenths, so that the domains of a start do not stay together.
        self.due = now + pause * 9 / 10 + part(pause / 5);
        let domain = &self.claim.domain;
        match self.health.look(found.as_ref().map(drop), now, doubt) {
            Some(DomainChange::Lost) => {
                let reason = found.err().map(|error| error.to_string()).unwrap_or_default();
                let code = self.health.lost.unwrap_or_default();
                tracing::warn!(%domain, %provider, code, %reason, "a domain no longer names the provider that this operator sponsors for it: talk to the service, or dismiss it");
            }
            Some(DomainChange::Back) => {
                tracing::info!(%domain, %provider, "a domain names the provider again that this operator sponsors for it");
            }
            None => {
                tracing::debug!(%domain, %provider, ?found, "a sponsored service's domain was looked at");
            }
        }
    }
}

/// The service, domain and method of an admission; `None` if the statement is none.
fn admission(view: &View<'_>, (log, index): &Place) -> Result<Option<(Service, Domain, Method)>, StoreError> {
    let read = view.entry(log, *index)?;
    // Verified when it was appended.
    let entry = read.and_then(|bytes| codec::decode::<Entry>(&bytes, ENTRY_BYTES_MAX).ok());
    let Some(Entry { body: Body::Event(signed), .. }) = entry else { return Ok(None) };
    let Action::Admit { service, domain, method, .. } = signed.event.action else { return Ok(None) };
    Ok(Some((service, domain, method)))
}

/// A random part of a time.
fn part(of: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the looks only stay together.
    let _ = getrandom::fill(&mut random);
    of.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn silence_must_last_and_a_wrong_answer_need_not() {
        let unreachable = LookupError::Unreachable("no route".to_owned());
        let unproven = LookupError::Unproven("another".to_owned());
        let hour = |hours: u32| DAY / 24 * hours;
        let mut health = DomainHealth::default();
        let mut look = |found: Result<(), &LookupError>, hours: u32| health.look(found, hour(hours), DAY);
        assert_eq!(look(Ok(()), 0), None);
        // Often, but not for a day.
        for hours in [1, 2, 3, 24] {
            assert_eq!(look(Err(&unreachable), hours), None, "{hours}");
        }
        assert_eq!(look(Ok(()), 25), None, "it counts again from here");
        // For a day, but not often.
        assert_eq!(look(Err(&unreachable), 30), None);
        assert_eq!(look(Err(&unreachable), 60), None);
        assert_eq!(look(Err(&unreachable), 61), Some(DomainChange::Lost));
        assert_eq!(look(Err(&unreachable), 62), None, "told once");
        assert_eq!(look(Err(&unproven), 63), None, "told once, whatever the reason");
        assert_eq!(look(Ok(()), 64), Some(DomainChange::Back));
        assert_eq!(look(Ok(()), 65), None);
        assert_eq!(look(Err(&unproven), 66), Some(DomainChange::Lost));
        assert_eq!(look(Ok(()), 67), Some(DomainChange::Back));
    }
}
