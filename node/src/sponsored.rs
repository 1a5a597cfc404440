//! Looks again at the domains of the services that this node's operator sponsors, and tells the operator when one no
//! longer names its provider. What follows is the operator's decision: no rule of the ledger depends on it.
//!
//! Nothing is stored. After a start every domain is looked at within the first 24th of the period, and one that was lost
//! before is told of again.
use std::collections::BTreeMap;
use std::time::Duration;

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::event::{Action, Method};
use fama_ledger::id::{Domain, IdentityId};
use fama_ledger::join::Join;
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::manifest::LogId;
use tokio::sync::watch;

use crate::config::DomainSettings;
use crate::domains::{DomainClaim, DomainLookup, LookupError};
use crate::shared::Shared;
use crate::store::{StoreError, Touch};

/// How many look-ups without an answer make a domain a lost one, if they span [`DomainSettings::doubt`], too.
const FAILURES_MIN: u32 = 3;
/// Most providers whose domains are looked at; the first ones, by id.
const PROVIDERS_MAX: usize = 10_000;
/// Part of the period in which all domains are looked at first, and after which one without an answer is asked again.
const FIRST_PART: u32 = 24;
const RETRY_PART: u32 = 4;
/// How often the list of sponsored providers is read and looked at for what is due, at most and at least.
const TICK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Where an operator's newest statement about a provider is.
type Place = (LogId, u64);

/// A sponsored provider with the proof that the operator's newest statement names.
struct WatchedProvider {
    place: Place,
    /// `None` if there is nothing to look up: dismissed, or checked by hand.
    proof: Option<(DomainClaim, Method)>,
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
        let due: Vec<IdentityId> = self
            .watched
            .iter()
            .filter(|(_, watched)| watched.proof.is_some() && watched.due <= now)
            .map(|(provider, _)| *provider)
            .collect();
        if due.is_empty() {
            return;
        }
        // Made for each round: the system's DNS servers may have changed.
        let lookup = DomainLookup::new(&self.settings.lookup());
        for provider in due {
            self.look(&provider, &lookup).await;
        }
        self.tell();
    }

    /// Reads whom the operator sponsors, and keeps what is known of those that it still does.
    fn follow(&mut self) -> Result<(), StoreError> {
        let mut newest: BTreeMap<IdentityId, Place> = BTreeMap::new();
        self.shared.store.view().all_touched(Touch::Sponsorship, &mut |provider, log, index| {
            if log.operator == self.operator && (newest.len() < PROVIDERS_MAX || newest.contains_key(&provider)) {
                let place = newest.entry(provider).or_insert_with(|| (log.clone(), index));
                if (log.generation, index) > (place.0.generation, place.1) {
                    *place = (log.clone(), index);
                }
            }
        })?;
        let is_same = |provider: &IdentityId, watched: &WatchedProvider| newest.get(provider) == Some(&watched.place);
        let before = self.watched.len();
        self.watched.retain(|provider, watched| is_same(provider, watched));
        let is_changed = before != self.watched.len();
        let first = self.every() / FIRST_PART;
        for (provider, place) in newest {
            if self.watched.contains_key(&provider) {
                continue;
            }
            let proof = self.proof(&provider, &place)?;
            let due = self.shared.clock.monotonic() + part(first);
            self.watched.insert(provider, WatchedProvider { place, proof, due, health: DomainHealth::default() });
        }
        if is_changed {
            self.tell();
        }
        Ok(())
    }

    /// What a statement says can be looked up.
    fn proof(&self, provider: &IdentityId, (log, index): &Place) -> Result<Option<(DomainClaim, Method)>, StoreError> {
        let view = self.shared.store.view();
        let read = view.entries(log, *index, 1, ENTRY_BYTES_MAX)?;
        // Verified when it was appended.
        let entry = read.first().and_then(|bytes| codec::decode::<Entry>(bytes, ENTRY_BYTES_MAX).ok());
        let Some(Entry { body: Body::Event(signed), .. }) = entry else { return Ok(None) };
        let Action::Admit { domain, method, .. } = signed.event.action else { return Ok(None) };
        if method == Method::Manual {
            return Ok(None);
        }
        let found = Join::new(&self.shared.manifest, &view).identity(*provider);
        let found = found.ok().flatten();
        let handle = found.as_ref().map(|found| (found.identity.name.as_str(), &found.home));
        Ok(Some((DomainClaim::new(domain, self.shared.manifest.federation(), provider, handle), method)))
    }

    async fn look(&mut self, provider: &IdentityId, lookup: &Result<DomainLookup, String>) {
        let (every, doubt) = (self.every(), self.settings.doubt);
        let Some(watched) = self.watched.get_mut(provider) else { return };
        let Some((claim, method)) = &watched.proof else { return };
        let found = match lookup {
            Ok(lookup) => lookup.find(claim, *method).await.map(drop),
            Err(error) => Err(LookupError::Unreachable(error.clone())),
        };
        let now = self.shared.clock.monotonic();
        let pause = if found.is_ok() { every } else { every / RETRY_PART };
        // Between nine tenths and eleven tenths, so that the domains of a start do not stay together.
        watched.due = now + pause * 9 / 10 + part(pause / 5);
        match watched.health.look(found.as_ref().map(drop), now, doubt) {
            Some(DomainChange::Lost) => {
                let reason = found.err().map(|error| error.to_string()).unwrap_or_default();
                let code = watched.health.lost.unwrap_or_default();
                tracing::warn!(domain = %claim.domain, %provider, code, %reason, "a domain no longer names the provider that this operator sponsors for it: talk to the service, or dismiss it");
            }
            Some(DomainChange::Back) => {
                tracing::info!(domain = %claim.domain, %provider, "a domain names the provider again that this operator sponsors for it");
            }
            None => {
                tracing::debug!(domain = %claim.domain, %provider, ?found, "a sponsored service's domain was looked at");
            }
        }
    }

    fn tell(&self) {
        let lost = self.watched.values().filter_map(|watched| {
            let (claim, _) = watched.proof.as_ref()?;
            Some((claim.domain.clone(), watched.health.lost?))
        });
        self.shared.health.write().lost_domains = lost.collect();
    }
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
