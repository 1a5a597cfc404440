//! The outcome of each event in each state: every void reason, in the protocol's order, and every bound.
mod access;
mod attestations;
mod batches;
mod identities;
mod statements;

use fama_ledger::batch::{Batch, BatchError, LogMaps, ReplayError};
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::event::{Action, DismissReason, Event, Method, RevokeReason};
use fama_ledger::fold::{Effect, Outcome, Void};
use fama_ledger::id::{Domain, EventId, IdentityId, ManifestHash, StateRoot};
use fama_ledger::key::PublicKey;
use fama_ledger::limits;
use fama_ledger::manifest::{Manifest, Policy};
use fama_ledger::rows::{
    DayCounter, DayRow, HomeRow, Identity, MapName, Provider, Rows, Statement, SubjectRow, Tally, read, text_key,
};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::{Day, Millis};
use fama_tests::{
    DAY, DOMAINS, MemoryReplica, SECOND, START, countersigned, domain, event, federation, log, node_key, secret, signed,
};

/// A federation in memory that logs one event after another.
struct World<'a> {
    replica: MemoryReplica<'a>,
    nonce: u64,
}

impl<'a> World<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        Self { replica: MemoryReplica::adopted(manifest), nonce: 1_000 }
    }

    fn event(&mut self, action: Action, created: Millis) -> Event {
        self.nonce += 1;
        event(self.replica.manifest.federation(), action, created, self.nonce)
    }

    fn signed(&mut self, action: Action, created: Millis, signer: &SecretKey) -> SignedEvent {
        let event = self.event(action, created);
        signed(event, signer)
    }

    /// Logs an event for operator `i`, in an entry with the same time as its `created`.
    fn say(&mut self, i: usize, action: Action, time: Millis, signer: &SecretKey) -> Outcome {
        let event = self.signed(action, time, signer);
        self.replica.append_event(&log(i), time, event)
    }

    fn void(&mut self, i: usize, time: Millis, event: SignedEvent, want: Void) {
        let before = self.replica.rows.clone();
        let text = event.event.text();
        assert_eq!(self.replica.append_event(&log(i), time, event), Err(want), "{text}");
        let log_map = MapName::log(&log(i)).id();
        let others = |rows: &fama_ledger::rows::MemoryRows| {
            rows.iter().filter(|((map, _), _)| *map != log_map).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
        };
        assert!(others(&before) == others(&self.replica.rows), "a void event changed rows: {text}");
    }

    fn row<R: fama_ledger::rows::Row>(&self, map: &MapName, key: &R::Key) -> Option<R> {
        read::<R, _>(&self.replica.rows, map.id(), key).unwrap()
    }

    fn attest(&mut self, issuer: IdentityId, subject: IdentityId, delta: i32, time: Millis, signer: u8) -> Outcome {
        self.say(0, attest(0, issuer, subject, delta), time, &secret(signer))
    }
}

fn home(i: usize) -> Domain {
    domain(DOMAINS[i])
}

fn id(byte: u8) -> IdentityId {
    EventId([byte; 32])
}

fn register(i: usize, name: &str, key: &SecretKey) -> Action {
    Action::Register { home: home(i), name: name.parse().unwrap(), key: key.public(), next: None, note: None }
}

fn rotate(i: usize, identity: IdentityId, version: u32, key: &SecretKey, next: Option<&SecretKey>) -> Action {
    let next = next.map(|next| next.public().hash());
    Action::Rotate { home: home(i), identity, version, key: key.public(), next }
}

fn revoke(i: usize, identity: IdentityId, version: u32, key: PublicKey) -> Action {
    Action::Revoke { home: home(i), identity, version, key, reason: RevokeReason::KeyCompromised }
}

fn attest(i: usize, issuer: IdentityId, subject: IdentityId, delta: i32) -> Action {
    Action::Attest { home: home(i), issuer, subject, delta, context: None, note: None }
}

fn retract(i: usize, issuer: IdentityId, subject: IdentityId, day: Day, attestation: EventId) -> Action {
    Action::Retract { home: home(i), issuer, subject, day, attestation }
}

fn admit(i: usize, provider: IdentityId, service: &str, from: u64) -> Action {
    let (service, domain) = (service.parse().unwrap(), domain("service.example"));
    Action::Admit { operator: home(i), provider, service, domain, method: Method::Dns, from }
}

fn dismiss(i: usize, provider: IdentityId, service: &str, from: u64) -> Action {
    let (service, domain) = (service.parse().unwrap(), domain("service.example"));
    Action::Dismiss { operator: home(i), provider, service, domain, from, reason: DismissReason::Expired }
}

fn later(seconds: u64) -> Millis {
    START.plus(seconds * SECOND)
}

const FUTURE: Millis = Millis(START.0 + limits::FUTURE_MILLIS_MAX + 1);

fn stale(manifest: &Manifest) -> Millis {
    Millis(START.0 - manifest.policy().max_age_ms - 1)
}

/// The tables above try every reason for each kind that can have it; this holds their order and codes.
#[test]
fn void_reasons_stand_in_the_protocols_order() {
    let words: Vec<_> = Void::ALL.iter().map(|void| void.code()).collect();
    assert_eq!(
        words.join(" "),
        "not_home future stale unknown_identity not_authorized revoked wrong_version name_taken key_in_use delta \
         self not_found duplicate already_retracted superseded cap quota"
    );
    assert!(Void::ALL.is_sorted());
}
