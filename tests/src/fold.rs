//! What each event does in each state: every void reason, in the protocol's order, and every bound.
use fama_ledger::batch::{Batch, BatchError, LogMaps, ReplayError};
use fama_ledger::entry::{SignedEvent, VerifiedEntry};
use fama_ledger::event::{Action, DismissReason, Event, Method, RevokeReason};
use fama_ledger::fold::{Effect, Outcome, Void};
use fama_ledger::id::{Domain, EventId, IdentityId, ManifestHash, StateRoot};
use fama_ledger::key::PublicKey;
use fama_ledger::limits;
use fama_ledger::manifest::{Manifest, Policy};
use fama_ledger::rows::{
    DayCounter, DayRow, HomeRow, Identity, MapName, Provider, Rows, Statement, Tally, read, text_key,
};
use fama_ledger::secret::SecretKey;
use fama_ledger::time::{Day, Millis};
use fama_tests::{
    DAY, DOMAINS, Replica, SECOND, START, countersigned, domain, event, federation, log, node_key, secret, signed,
};

/// A federation in memory, told one event after another.
struct World<'a> {
    replica: Replica<'a>,
    nonce: u64,
}

impl<'a> World<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        Self { replica: Replica::adopted(manifest), nonce: 1_000 }
    }

    fn event(&mut self, action: Action, created: Millis) -> Event {
        self.nonce += 1;
        event(self.replica.manifest.federation(), action, created, self.nonce)
    }

    fn signed(&mut self, action: Action, created: Millis, signer: &SecretKey) -> SignedEvent {
        let event = self.event(action, created);
        signed(event, signer)
    }

    /// Says an event in the log of operator `i`, an entry of the same time as its `created`.
    fn say(&mut self, i: usize, action: Action, time: Millis, signer: &SecretKey) -> Outcome {
        let event = self.signed(action, time, signer);
        self.replica.say(&log(i), time, event)
    }

    fn void(&mut self, i: usize, time: Millis, event: SignedEvent, want: Void) {
        let before = self.replica.rows.clone();
        let text = event.event.text();
        assert_eq!(self.replica.say(&log(i), time, event), Err(want), "{text}");
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

#[test]
fn register_ladder() {
    let manifest = federation(2, |p| p.daily_registrations = 1);
    let mut w = World::new(&manifest);
    w.replica.register(0, "taken", 2);
    let (known, fresh) = (secret(2), secret(3));
    let table = [
        (1, "taken", FUTURE, &known, Void::NotHome),
        (0, "taken", FUTURE, &known, Void::Future),
        (0, "taken", stale(&manifest), &known, Void::Stale),
        (0, "taken", START, &known, Void::NameTaken),
        (0, "free", START, &known, Void::KeyInUse),
        (0, "free", START, &fresh, Void::Quota),
    ];
    for (i, name, created, key, want) in table {
        let event = w.signed(register(i, name, key), created, key);
        w.void(0, START, event, want);
    }
    // The other home counts for itself, and names and keys of one home are free in another.
    assert!(w.say(1, register(1, "taken", &known), START, &known).is_ok());
    // The next day has a new quota.
    assert!(w.say(0, register(0, "free", &fresh), START.plus(DAY), &fresh).is_ok());
    let row = w.row::<HomeRow>(&MapName::home(&home(0)), &()).unwrap();
    assert_eq!(row.registrations, DayCounter { day: START.plus(DAY).day().0, count: 1 });
}

#[test]
fn the_edges_of_future_and_stale_are_inside() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (key, other) = (secret(2), secret(4));
    for (created, key, name) in
        [(Millis(FUTURE.0 - 1), &key, "ahead"), (Millis(stale(&manifest).0 + 1), &other, "behind")]
    {
        let event = w.signed(register(0, name, key), created, key);
        assert!(w.replica.say(&log(0), START, event).is_ok(), "{name}");
    }
}

#[test]
fn a_repeated_event_meets_itself() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (first, second) = (secret(2), secret(4));
    let said = w.signed(register(0, "agent", &first), START, &first);
    let agent = said.event.id();
    assert_eq!(w.replica.say(&log(0), START, said.clone()), Ok(Effect::Registered { identity: agent }));
    w.void(0, START, said, Void::NameTaken);
    let said = {
        let event = w.event(rotate(0, agent, 2, &second, None), START);
        countersigned(event, &first, &second)
    };
    assert!(w.replica.say(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::WrongVersion);
    let subject = id(9);
    let said = w.signed(attest(0, agent, subject, 1), START, &second);
    assert!(w.replica.say(&log(0), START, said.clone()).is_ok());
    let attestation = said.event.id();
    w.void(0, START, said, Void::Duplicate);
    let said = w.signed(retract(0, agent, subject, START.day(), attestation), START, &second);
    assert!(w.replica.say(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::AlreadyRetracted);
    let said = w.signed(admit(0, agent, "s", 0), START, &node_key(0));
    assert!(w.replica.say(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::Superseded);
    let said = w.signed(revoke(0, agent, 2, second.public()), START, &second);
    assert!(w.replica.say(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::Revoked);
}

#[test]
fn rotate_ladder() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let keys: Vec<_> = (0..=limits::ROTATIONS_PER_DAY as u8).map(|n| secret(20 + n)).collect();
    // Two identities with as many rotations as a day allows; the first one's last key is revoked.
    let agents = ["revoked", "alive"].map(|name| {
        let shift: u8 = if name == "alive" { 20 } else { 0 };
        let agent = w.replica.register(0, name, 20 + shift);
        for n in 1..=limits::ROTATIONS_PER_DAY as u8 {
            let (old, new) = (secret(20 + shift + n - 1), secret(20 + shift + n));
            let event = w.event(rotate(0, agent, u32::from(n) + 1, &new, None), START);
            assert!(w.replica.say(&log(0), START, countersigned(event, &old, &new)).is_ok(), "{name} {n}");
        }
        agent
    });
    let [dead, alive] = agents;
    let last = keys.last().unwrap();
    assert!(w.say(0, revoke(0, dead, 11, last.public()), START, last).is_ok());
    let (stranger, new, alive_key) = (secret(90), secret(91), secret(50));
    let steps = [
        (1, id(9), 5, FUTURE, &stranger, &keys[0], Void::NotHome),
        (0, id(9), 5, FUTURE, &stranger, &keys[0], Void::Future),
        (0, id(9), 5, stale(&manifest), &stranger, &keys[0], Void::Stale),
        (0, id(9), 5, START, &stranger, &keys[0], Void::UnknownIdentity),
        (0, dead, 5, START, &stranger, &keys[0], Void::NotAuthorized),
        (0, dead, 5, START, last, &keys[0], Void::Revoked),
        (0, alive, 11, START, &alive_key, &keys[0], Void::WrongVersion),
        (0, alive, 13, START, &alive_key, &keys[0], Void::WrongVersion),
        (0, alive, 12, START, &alive_key, &keys[0], Void::KeyInUse),
        (0, alive, 12, START, &alive_key, &new, Void::Quota),
    ];
    for (i, agent, version, created, signer, key, want) in steps {
        let event = w.event(rotate(i, agent, version, key, None), created);
        w.void(0, START, countersigned(event, signer, key), want);
    }
    let event = w.event(rotate(0, alive, 12, &new, None), START.plus(DAY));
    assert!(w.replica.say(&log(0), START.plus(DAY), countersigned(event, &alive_key, &new)).is_ok());
}

#[test]
fn a_committed_key_alone_rotates_and_revives() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (first, next, third, thief) = (secret(2), secret(3), secret(4), secret(6));
    let action = Action::Register {
        home: home(0),
        name: "agent".parse().unwrap(),
        key: first.public(),
        next: Some(next.public().hash()),
        note: None,
    };
    let said = w.signed(action, START, &first);
    let agent = said.event.id();
    assert!(w.replica.say(&log(0), START, said).is_ok());
    // The holder of the current key cannot rotate, neither to a key of his own nor to the committed one.
    for (key, signer) in [(&thief, &first), (&next, &first)] {
        let event = w.event(rotate(0, agent, 2, key, None), START);
        w.void(0, START, countersigned(event, signer, key), Void::NotAuthorized);
    }
    let alone = w.signed(rotate(0, agent, 2, &thief, None), START, &thief);
    w.void(0, START, alone, Void::NotAuthorized);
    // A revoked key with a commitment rotates all the same: the identity lives on.
    assert!(w.say(0, revoke(0, agent, 1, first.public()), START, &next).is_ok());
    let wrong = w.signed(rotate(0, agent, 3, &next, None), START, &next);
    w.void(0, START, wrong, Void::WrongVersion);
    assert!(w.say(0, rotate(0, agent, 2, &next, None), START, &next).is_ok());
    let found = w.replica.join().identity(agent).unwrap().unwrap();
    let status = w.replica.join().key_status(&found).unwrap();
    assert_eq!((status.version, status.current.key, status.is_revoked()), (2, next.public(), false));
    let keys = w.replica.join().keys(&found).unwrap();
    assert_eq!(keys[0].revoked.unwrap().reason, RevokeReason::KeyCompromised);
    // Version 2 committed to nothing: the old rule, and once revoked it stays so.
    assert!(w.say(0, revoke(0, agent, 2, next.public()), later(1), &next).is_ok());
    let event = w.event(rotate(0, agent, 3, &third, None), later(1));
    w.void(0, later(1), countersigned(event, &next, &third), Void::Revoked);
}

#[test]
fn revoke_ladder() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let (first, second, stranger) = (secret(2), secret(4), secret(6));
    let agent = w.replica.register(0, "agent", 2);
    let event = w.event(rotate(0, agent, 2, &second, None), START);
    assert!(w.replica.say(&log(0), START, countersigned(event, &first, &second)).is_ok());
    let table = [
        (id(9), 7, stranger.public(), &stranger, Void::UnknownIdentity),
        (agent, 2, second.public(), &stranger, Void::NotAuthorized),
        (agent, 2, stranger.public(), &stranger, Void::NotAuthorized),
        (agent, 1, second.public(), &second, Void::NotAuthorized),
        (agent, 1, first.public(), &first, Void::WrongVersion),
        (agent, 3, second.public(), &second, Void::WrongVersion),
    ];
    for (who, version, key, signer, want) in table {
        for created in [START, FUTURE, stale(&manifest)] {
            let event = w.signed(revoke(0, who, version, key), created, signer);
            w.void(0, START, event, want);
        }
    }
    // However old or early.
    let said = w.signed(revoke(0, agent, 2, second.public()), stale(&manifest), &second);
    assert_eq!(w.replica.say(&log(0), START, said), Ok(Effect::KeyChanged { identity: agent }));
    for version in [1, 2] {
        let key = if version == 1 { &first } else { &second };
        let event = w.signed(revoke(0, agent, version, key.public()), START, key);
        w.void(0, START, event, Void::Revoked);
    }
}

#[test]
fn claims() {
    let manifest = federation(4, |p| p.daily_claims = 3);
    let mut w = World::new(&manifest);
    let (key, next, stranger) = (secret(2), secret(4), secret(6));
    let action = Action::Register {
        home: home(0),
        name: "agent".parse().unwrap(),
        key: key.public(),
        next: Some(next.public().hash()),
        note: None,
    };
    let said = w.signed(action, START, &key);
    let agent = said.event.id();
    assert!(w.replica.say(&log(0), START, said).is_ok());
    let revoked = |w: &World<'_>| {
        let found = w.replica.join().identity(agent).unwrap().unwrap();
        let revoked = w.replica.join().key_status(&found).unwrap().revoked;
        revoked.map(|r| (r.operator.map(|o| o.to_string()), r.place, r.time))
    };
    // Claims that do not count: another version, another key, a signer that is neither key nor next.
    for (version, named, signer) in [(2, &key, &key), (1, &stranger, &stranger), (1, &key, &stranger)] {
        assert!(w.say(2, revoke(0, agent, version, named.public()), START, signer).is_ok());
        assert_eq!(revoked(&w), None);
    }
    // The fourth of the day is beyond the quota, but a repeated one is a duplicate first.
    let fourth = w.signed(revoke(0, agent, 1, key.public()), START, &key);
    w.void(2, START, fourth.clone(), Void::Quota);
    let again = w.signed(revoke(0, agent, 2, key.public()), later(1), &key);
    w.void(2, later(1), again, Void::Duplicate);
    // The next day it counts, however old; said by the next key in another log it is the one shown,
    // by the order of operators, not of time.
    assert!(w.replica.say(&log(2), START.plus(DAY), fourth).is_ok());
    assert_eq!(revoked(&w), Some((Some("gamma.example".to_owned()), Some((1, 12)), START.plus(DAY))));
    assert!(w.say(3, revoke(0, agent, 1, key.public()), START, &next).is_ok());
    assert_eq!(revoked(&w).unwrap().0.as_deref(), Some("delta.example"));
    assert!(w.say(1, revoke(0, agent, 1, key.public()), later(9), &next).is_ok());
    assert_eq!(revoked(&w), Some((Some("beta.example".to_owned()), Some((1, 2)), later(9))));
    // Claims block nothing at home; the home's own word is shown, and the owner's rotation makes all moot.
    assert!(w.say(0, revoke(0, agent, 1, key.public()), later(10), &key).is_ok());
    assert_eq!(revoked(&w), Some((None, None, later(10))));
    assert!(w.say(0, rotate(0, agent, 2, &next, None), later(11), &next).is_ok());
    // Made for version 2 before there was one, but with the wrong key.
    assert_eq!(revoked(&w), None);
}

#[test]
fn a_claim_before_its_version_bites_when_the_version_comes() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let (first, second) = (secret(2), secret(4));
    let agent = w.replica.register(0, "agent", 2);
    assert!(w.say(1, revoke(0, agent, 2, second.public()), START, &second).is_ok());
    let event = w.event(rotate(0, agent, 2, &second, None), START);
    assert!(w.replica.say(&log(0), START, countersigned(event, &first, &second)).is_ok());
    let found = w.replica.join().identity(agent).unwrap().unwrap();
    assert!(w.replica.join().key_status(&found).unwrap().is_revoked());
}

#[test]
fn a_claim_of_a_home_that_nobody_carries_is_recorded() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let key = secret(2);
    let action = Action::Revoke {
        home: domain("nowhere.example"),
        identity: id(7),
        version: 1,
        key: key.public(),
        reason: RevokeReason::Retired,
    };
    assert_eq!(w.say(0, action, START, &key), Ok(Effect::KeyChanged { identity: id(7) }));
}

#[test]
fn attest_ladder() {
    let manifest = federation(2, |p| (p.daily_attestations, p.max_delta, p.daily_cap) = (2, 5, 7));
    let mut w = World::new(&manifest);
    let (key, stranger, dead_key) = (secret(2), secret(6), secret(4));
    let (issuer, dead, subject) = (w.replica.register(0, "issuer", 2), w.replica.register(0, "dead", 4), id(9));
    assert!(w.say(0, revoke(0, dead, 1, dead_key.public()), START, &dead_key).is_ok());
    let first = w.signed(attest(0, issuer, subject, 5), START, &key);
    assert!(w.replica.say(&log(0), START, first.clone()).is_ok());
    let second = w.attest(issuer, subject, -5, START, 2);
    assert_eq!(second, Ok(Effect::Attested { subject, provider: issuer, number: 1, effective: -2 }));
    let table = [
        (1, id(8), id(8), 0, FUTURE, &stranger, Void::NotHome),
        (0, id(8), id(8), 0, FUTURE, &stranger, Void::Future),
        (0, id(8), id(8), 0, stale(&manifest), &stranger, Void::Stale),
        (0, id(8), id(8), 0, START, &stranger, Void::UnknownIdentity),
        (0, dead, dead, 0, START, &stranger, Void::NotAuthorized),
        (0, dead, dead, 0, START, &dead_key, Void::Revoked),
        (0, issuer, issuer, 0, START, &key, Void::Delta),
        (0, issuer, issuer, 6, START, &key, Void::Delta),
        (0, issuer, issuer, -6, START, &key, Void::Delta),
        (0, issuer, issuer, i32::MIN, START, &key, Void::Delta),
        (0, issuer, issuer, 5, START, &key, Void::SelfAttestation),
        (0, issuer, subject, 5, START, &key, Void::Cap),
        (0, issuer, id(10), 5, START, &key, Void::Quota),
    ];
    w.void(0, START, first, Void::Duplicate);
    for (i, who, whom, delta, created, signer, want) in table {
        let event = w.signed(attest(i, who, whom, delta), created, signer);
        w.void(0, START, event, want);
    }
}

#[test]
fn the_cap_is_absolute_per_day_of_created() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (issuer, subject) = (w.replica.register(0, "issuer", 2), id(9));
    let effective = |w: &mut World<'_>, delta, time| match w.attest(issuer, subject, delta, time, 2) {
        Ok(Effect::Attested { effective, .. }) => Ok(effective),
        Ok(other) => panic!("{other:?}"),
        Err(void) => Err(void),
    };
    let given: Vec<_> = [5, -5, 4, -4, 5].into_iter().map(|delta| effective(&mut w, delta, START)).collect();
    assert_eq!(given, [Ok(5), Ok(-5), Ok(4), Ok(-4), Ok(5)]);
    assert_eq!(effective(&mut w, -5, START), Ok(-2));
    assert_eq!(effective(&mut w, 1, START), Err(Void::Cap));
    // Another subject, and another day, have a cap of their own; a day comes back with what it had.
    assert!(w.attest(issuer, id(8), 5, START, 2).is_ok());
    let midnight = Millis(START.day().0 as u64 * DAY + DAY);
    assert_eq!(effective(&mut w, 5, midnight), Ok(5));
    let late = w.signed(attest(0, issuer, subject, 5), Millis(midnight.0 - 1), &secret(2));
    w.void(0, midnight, late, Void::Cap);
    // A retraction gives no room back.
    let row = w.row::<DayRow>(&MapName::home(&home(0)), &(subject, issuer, START.day())).unwrap();
    let undo = retract(0, issuer, subject, START.day(), row.0[0].event);
    assert!(w.say(0, undo, midnight, &secret(2)).is_ok());
    let late = w.signed(attest(0, issuer, subject, 5), Millis(midnight.0 - 1), &secret(2));
    w.void(0, midnight, late, Void::Cap);
    let tally = w.row::<Tally>(&MapName::home(&home(0)), &(subject, issuer)).unwrap();
    assert_eq!(tally, Tally { sum: 8, count: 7, retracted_sum: 5, retracted_count: 1 });
}

#[test]
fn retract_ladder() {
    let manifest = federation(2, |p| p.daily_retractions = 1);
    let mut w = World::new(&manifest);
    let (key, other_key, dead_key, stranger) = (secret(2), secret(8), secret(4), secret(6));
    let (issuer, other, dead) =
        (w.replica.register(0, "issuer", 2), w.replica.register(0, "other", 8), w.replica.register(0, "dead", 4));
    let (subject, day) = (id(9), START.day());
    let given: Vec<EventId> = (0..2)
        .map(|_| {
            let said = w.signed(attest(0, issuer, subject, 1), START, &key);
            let id = said.event.id();
            assert!(w.replica.say(&log(0), START, said).is_ok());
            id
        })
        .collect();
    assert!(w.say(0, revoke(0, dead, 1, dead_key.public()), START, &dead_key).is_ok());
    let outcome = w.say(0, retract(0, issuer, subject, day, given[0]), START, &key);
    assert_eq!(outcome, Ok(Effect::Retracted { subject, provider: issuer, number: 0, retraction: 2, effective: 1 }));
    let yesterday = Day(day.0 - 1);
    let table = [
        (1, id(8), id(8), day, FUTURE, &stranger, Void::NotHome),
        (0, id(8), id(8), day, FUTURE, &stranger, Void::Future),
        (0, id(8), id(8), day, stale(&manifest), &stranger, Void::Stale),
        (0, id(8), id(8), day, START, &stranger, Void::UnknownIdentity),
        (0, dead, id(8), day, START, &stranger, Void::NotAuthorized),
        (0, dead, id(8), day, START, &dead_key, Void::Revoked),
        (0, issuer, id(8), day, START, &key, Void::NotFound),
        (0, issuer, subject, yesterday, START, &key, Void::NotFound),
        (0, other, subject, day, START, &other_key, Void::NotFound),
    ];
    for (i, who, whom, day, created, signer, want) in table {
        let event = w.signed(retract(i, who, whom, day, given[0]), created, signer);
        w.void(0, START, event, want);
    }
    let again = w.signed(retract(0, issuer, subject, day, given[0]), START, &key);
    w.void(0, START, again, Void::AlreadyRetracted);
    let beyond = w.signed(retract(0, issuer, subject, day, given[1]), START, &key);
    w.void(0, START, beyond.clone(), Void::Quota);
    assert!(w.replica.say(&log(0), START.plus(DAY), beyond).is_ok());
    let provider = w.row::<Provider>(&MapName::home(&home(0)), &issuer).unwrap();
    assert_eq!(provider.next, 4, "attestations and retractions share one sequence");
    assert_eq!(provider.attestations, DayCounter { day: day.0, count: 2 });
    assert_eq!(provider.retractions, DayCounter { day: day.0 + 1, count: 1 });
}

#[test]
fn counters_follow_the_day_of_the_entry_not_of_created() {
    let manifest = federation(1, |p| p.daily_attestations = 2);
    let mut w = World::new(&manifest);
    let issuer = w.replica.register(0, "issuer", 2);
    let created = |days: i64| Millis(START.0.wrapping_add_signed(days * DAY as i64));
    let mut say = |time: Millis, created: Millis, subject: u8| {
        let event = w.signed(attest(0, issuer, id(subject), 1), created, &secret(2));
        w.replica.say(&log(0), time, event).map(|_| ())
    };
    // `created` goes back and forth, the day of the entries does not.
    assert_eq!(say(START, created(0), 3), Ok(()));
    assert_eq!(say(START, created(-2), 3), Ok(()));
    assert_eq!(say(START, created(-1), 3), Err(Void::Quota));
    assert_eq!(say(created(1), created(-1), 3), Ok(()));
    assert_eq!(say(created(1), created(1), 3), Ok(()));
    assert_eq!(say(created(1), created(0), 4), Err(Void::Quota));
    let counter = DayCounter { day: 5, count: 7 };
    for day in [4, 6] {
        assert_eq!((counter.on(Day(day)), counter.counted(Day(day))), (0, DayCounter { day, count: 1 }));
    }
    assert_eq!((counter.on(Day(5)), counter.counted(Day(5))), (7, DayCounter { day: 5, count: 8 }));
}

#[test]
fn statement_ladder() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let (mine, theirs, agent) = (node_key(0), node_key(1), id(9));
    assert!(w.say(0, admit(0, agent, "s", 0), later(100), &mine).is_ok());
    let now = later(100);
    let ahead = now.plus(limits::FUTURE_MILLIS_MAX + 1);
    let behind = Millis(now.0 - manifest.policy().max_age_ms - 1);
    for say in [admit, dismiss] {
        let table = [
            (1, ahead, &theirs, Void::NotHome),
            (0, ahead, &theirs, Void::Future),
            (0, behind, &theirs, Void::Stale),
            (0, now, &theirs, Void::NotAuthorized),
            (0, now, &mine, Void::Superseded),
        ];
        for (i, created, signer, want) in table {
            let event = w.signed(say(i, agent, "s", 3), created, signer);
            w.void(0, now, event, want);
        }
    }
    let governance = fama_tests::governance_key(0);
    let event = w.signed(admit(0, agent, "s", 3), later(101), &governance);
    w.void(0, later(101), event, Void::NotAuthorized);
}

#[test]
fn the_sixteenth_statement_of_a_day_only_dismisses() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (key, agent) = (node_key(0), id(9));
    for n in 1..limits::STATEMENTS_PER_DAY {
        let say = if n % 2 == 1 { admit } else { dismiss };
        assert!(w.say(0, say(0, agent, "s", n.into()), later(n.into()), &key).is_ok(), "{n}");
    }
    let event = w.signed(admit(0, agent, "s", 90), later(90), &key);
    w.void(0, later(90), event, Void::Quota);
    assert!(w.say(0, admit(0, agent, "another", 0), later(90), &key).is_ok(), "each triple counts for itself");
    assert!(w.say(0, dismiss(0, agent, "s", 0), later(91), &key).is_ok());
    for say in [admit, dismiss] {
        let event = w.signed(say(0, agent, "s", 0), later(92), &key);
        w.void(0, later(92), event, Void::Quota);
    }
    assert!(w.say(0, admit(0, agent, "s", 0), START.plus(DAY), &key).is_ok());
}

#[test]
fn triples_and_intervals_are_bounded() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (key, agent) = (node_key(0), id(9));
    for n in 0..limits::TRIPLES_PER_PROVIDER {
        assert!(w.say(0, dismiss(0, agent, &format!("s{n}"), 0), START, &key).is_ok(), "{n}");
    }
    let beyond = w.signed(admit(0, agent, "beyond", 0), START, &key);
    w.void(0, START, beyond, Void::Quota);
    assert!(w.say(0, admit(0, id(8), "beyond", 0), START, &key).is_ok(), "each provider counts for itself");
    // An admission and a dismissal leave an interval behind; 7 pairs fit into a day.
    let (mut time, mut from) = (START, 0);
    for n in 0..limits::INTERVALS_PER_TRIPLE as u64 {
        if n % 7 == 0 {
            time = time.plus(DAY);
        }
        for (say, from) in [(admit as fn(_, _, _, _) -> _, from), (dismiss, from + 1)] {
            time = time.plus(1);
            assert!(w.say(0, say(0, agent, "s0", from), time, &key).is_ok(), "{n}");
        }
        from += 2;
    }
    let statement = |w: &World<'_>| {
        let key = (agent, text_key("s0"), text_key("service.example"));
        w.row::<Statement>(&MapName::statements(&home(0)), &key).unwrap()
    };
    assert_eq!(statement(&w).intervals.len(), limits::INTERVALS_PER_TRIPLE);
    time = time.plus(DAY);
    let event = w.signed(admit(0, agent, "s0", from), time, &key);
    w.void(0, time, event, Void::Quota);
    // What needs no further interval is taken.
    assert!(w.say(0, admit(0, agent, "s0", from - 1), time, &key).is_ok());
    assert_eq!(statement(&w).intervals.last().unwrap().end, None);
    assert!(w.say(0, dismiss(0, agent, "s0", 0), time.plus(1), &key).is_ok());
    assert_eq!(statement(&w).intervals, []);
}

#[test]
fn karma_counts_where_enough_operators_sponsor_one_service() {
    let manifest = federation(4, |_| ());
    assert_eq!(manifest.policy().min_sponsors, 2);
    let mut w = World::new(&manifest);
    let (issuer, subject) = (w.replica.register(0, "issuer", 2), w.replica.register(1, "subject", 4));
    let karma = |w: &World<'_>| {
        let karma = w.replica.join().karma(subject).unwrap();
        (karma.sum, karma.count)
    };
    for delta in [1, 2, 3, 4] {
        assert!(w.attest(issuer, subject, delta, START, 2).is_ok());
    }
    assert_eq!(karma(&w), (0, 0));
    // Two operators for two services are not two for one.
    assert!(w.say(0, admit(0, issuer, "a", 0), later(1), &node_key(0)).is_ok());
    assert!(w.say(1, admit(1, issuer, "b", 0), later(1), &node_key(1)).is_ok());
    assert_eq!(karma(&w), (0, 0));
    // From number 2 on for b; a number that two services sponsor counts once.
    assert!(w.say(2, admit(2, issuer, "b", 2), later(1), &node_key(2)).is_ok());
    assert_eq!(karma(&w), (7, 2));
    assert!(w.say(3, admit(3, issuer, "a", 3), later(1), &node_key(3)).is_ok());
    assert_eq!(karma(&w), (7, 2));
    // The retraction has number 4; where that is dismissed, it does not count.
    let row = w.row::<DayRow>(&MapName::home(&home(0)), &(subject, issuer, START.day())).unwrap();
    assert!(w.say(0, retract(0, issuer, subject, START.day(), row.0[3].event), later(2), &secret(2)).is_ok());
    assert_eq!(karma(&w), (3, 1));
    assert!(w.say(1, dismiss(1, issuer, "b", 4), later(3), &node_key(1)).is_ok());
    assert_eq!(karma(&w), (3, 1), "a still sponsors it");
    assert!(w.say(3, dismiss(3, issuer, "a", 4), later(3), &node_key(3)).is_ok());
    assert_eq!(karma(&w), (7, 2));
}

/// An adoption or an event behind it, as an owner would have to write them.
fn bodies(manifest: &Manifest) -> (VerifiedEntry, VerifiedEntry) {
    let adopt = VerifiedEntry::adopt(START, manifest.version(), manifest.hash());
    let key = secret(2);
    let event = signed(event(manifest.federation(), register(0, "agent", &key), START, 1), &key);
    (adopt, VerifiedEntry::of(START, event.verify(&manifest.federation()).unwrap()))
}

#[test]
fn invalid_batches_change_nothing() {
    let manifest = federation(1, |_| ());
    let (adopt, agent) = bodies(&manifest);
    let (state, zero) = (VerifiedEntry::state, StateRoot([0; 32]));
    let fresh = Replica::new(&manifest);
    let begun = Replica::adopted(&manifest);
    let before = VerifiedEntry::of(Millis(START.0 - 1), agent.event().unwrap().clone());
    let after = VerifiedEntry::of(later(1), agent.event().unwrap().clone());
    let other = |version, hash| VerifiedEntry::adopt(START, version, hash);
    let good = begun.complete(&log(0), vec![agent.clone()]);
    let table: Vec<(&str, &Replica<'_>, Vec<VerifiedEntry>, &str)> = vec![
        ("nothing", &begun, vec![], "batch_shape"),
        ("no state entry", &begun, vec![agent.clone()], "batch_shape"),
        ("a state entry alone", &begun, vec![state(START, zero)], "batch_shape"),
        ("a state entry within", &begun, vec![agent.clone(), state(START, zero), state(START, zero)], "batch_shape"),
        ("time back", &begun, vec![before, state(START, zero)], "time_back"),
        ("time back within", &begun, vec![after, agent.clone(), state(later(1), zero)], "time_back"),
        ("a state entry later", &begun, vec![agent.clone(), state(later(1), zero)], "time_back"),
        ("a state entry earlier", &begun, vec![agent.clone(), state(Millis(START.0 - 1), zero)], "time_back"),
        ("no adoption", &fresh, vec![agent.clone(), state(START, zero)], "adopt"),
        ("adoption not alone", &fresh, vec![adopt.clone(), agent.clone(), state(START, zero)], "adopt"),
        ("adoption twice", &fresh, vec![adopt.clone(), adopt.clone(), state(START, zero)], "adopt"),
        ("adoption again", &begun, vec![adopt.clone(), state(START, zero)], "adopt"),
        ("version 2", &fresh, vec![other(2, manifest.hash()), state(START, zero)], "adopt"),
        ("wrong hash", &fresh, vec![other(1, ManifestHash([1; 32])), state(START, zero)], "adopt"),
        ("wrong root", &begun, vec![agent, state(START, zero)], "state_root"),
        ("wrong root of the first", &fresh, vec![adopt, state(START, zero)], "state_root"),
    ];
    for (name, replica, entries, code) in table {
        let mut replica = replica.clone();
        let (rows, root) = (replica.rows.clone(), replica.logs[&log(0)].maps.state_root());
        match replica.take(&log(0), entries) {
            Err(ReplayError::Invalid(error)) => assert_eq!(error.code(), code, "{name}: {error}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!((&replica.rows, replica.logs[&log(0)].maps.state_root()), (&rows, root), "{name}");
        if replica.logs[&log(0)].tree.size() > 0 {
            assert!(replica.take(&log(0), good.clone()).is_ok(), "{name}: the good batch is still good");
        }
    }
}

#[test]
fn bytes_of_a_day_are_bounded() {
    let (adopt, agent) = bodies(&federation(1, |_| ()));
    let sum = (adopt.bytes().len() + agent.bytes().len()) as u64;
    let fits = |daily_bytes: u64| {
        let manifest = federation(1, |p: &mut Policy| p.daily_bytes = daily_bytes);
        let replica = Replica::adopted(&manifest);
        let (log, (_, agent)) = (log(0), bodies(&manifest));
        let mut batch = Batch::begin(&manifest, &log, &replica.rows, 2).unwrap();
        batch.replay(&agent).map(|_| ())
    };
    assert_eq!(fits(sum), Ok(()));
    assert_eq!(fits(sum - 1), Err(BatchError::Bytes { index: 2, max: sum - 1 }.into()));
}

/// A note counts 1,024 bytes beside its entry; the next day begins at 0; state entries are not counted.
#[test]
fn what_counts_as_bytes() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let key = secret(2);
    let mut action = register(0, "agent", &key);
    if let Action::Register { note, .. } = &mut action {
        *note = Some(fama_ledger::id::NoteHash([7; 32]));
    }
    let bytes = |w: &World<'_>, time| Batch::begin(&manifest, &log(0), &w.replica.rows, 9).unwrap().bytes_on(time);
    let begun = bytes(&w, START);
    let said = w.signed(action, START, &key).verify(&manifest.federation()).unwrap();
    let entry = VerifiedEntry::of(START, said);
    let length = entry.bytes().len() as u64;
    w.replica.append(&log(0), vec![entry]);
    assert_eq!(bytes(&w, START), begun + length + limits::NOTE_QUOTA_BYTES);
    assert_eq!(bytes(&w, START.plus(DAY)), 0);
    let entry = VerifiedEntry::adopt(START, 1, manifest.hash());
    assert_eq!(begun, entry.bytes().len() as u64);
}

/// A full batch refused an event but kept its effects, so that the owner's next state root would have
/// been one that no mirror can recompute: the fold ran before there was known to be room.
#[test]
fn an_event_without_room_leaves_no_effect() {
    let (adopt, agent) = bodies(&federation(1, |_| ()));
    let room = (adopt.bytes().len() + agent.bytes().len()) as u64;
    let manifest = federation(1, |p| p.daily_bytes = room);
    let mut replica = Replica::adopted(&manifest);
    let (_, agent) = bodies(&manifest);
    let key = secret(4);
    let second = signed(event(manifest.federation(), register(0, "second", &key), START, 2), &key);
    let log = log(0);
    let mut batch = Batch::begin(&manifest, &log, &replica.rows, 2).unwrap();
    let (entry, _) = batch.admit(agent.event().unwrap().clone(), START).unwrap().unwrap();
    let refused = batch.admit(second.verify(&manifest.federation()).unwrap(), START);
    assert!(matches!(refused, Err(ReplayError::Invalid(BatchError::Bytes { index: 3, .. }))), "{refused:?}");
    let folded = batch.finish(&mut replica.logs[&log].maps.clone()).unwrap();
    let state = VerifiedEntry::state(folded.time, folded.state_root);
    assert!(replica.take(&log, vec![entry, state]).is_ok());
}

#[test]
fn a_log_that_has_not_adopted_admits_nothing() {
    let manifest = federation(1, |_| ());
    let (_, agent) = bodies(&manifest);
    let (log, rows) = (log(0), fama_ledger::rows::MemoryRows::default());
    let mut batch = Batch::begin(&manifest, &log, &rows, 0).unwrap();
    let refused = batch.admit(agent.event().unwrap().clone(), START);
    assert!(matches!(refused, Err(ReplayError::Invalid(BatchError::Adopt { index: 0 }))));
    batch.adopt(1, manifest.hash(), START).unwrap();
    let refused = batch.admit(agent.event().unwrap().clone(), START);
    assert!(matches!(refused, Err(ReplayError::Invalid(BatchError::Adopt { index: 1 }))));
    assert!(batch.finish(&mut LogMaps::load(&manifest, &log, &rows).unwrap()).is_ok());
}

#[test]
fn a_batch_holds_4096_entries() {
    let manifest = federation(1, |_| ());
    let replica = Replica::adopted(&manifest);
    let (_, agent) = bodies(&manifest);
    let log = log(0);
    let mut batch = Batch::begin(&manifest, &log, &replica.rows, 2).unwrap();
    for _ in 0..limits::BATCH_ENTRIES_MAX {
        batch.replay(&agent).unwrap();
    }
    assert_eq!(batch.replay(&agent), Err(BatchError::Shape.into()));
}

#[test]
fn entries_of_a_batch_see_one_another() {
    let manifest = federation(1, |_| ());
    let mut replica = Replica::adopted(&manifest);
    let key = secret(2);
    let said = signed(event(manifest.federation(), register(0, "agent", &key), START, 1), &key);
    let agent = said.event.id();
    let given = signed(event(manifest.federation(), attest(0, agent, id(9), 3), START, 2), &key);
    let entries =
        [said.clone(), said, given].map(|e| VerifiedEntry::of(START, e.verify(&manifest.federation()).unwrap()));
    let outcomes = replica.append(&log(0), entries.to_vec());
    assert_eq!(outcomes[1], Some(Err(Void::NameTaken)));
    assert!(outcomes[0].as_ref().unwrap().is_ok() && outcomes[2].as_ref().unwrap().is_ok());
    let identity = read::<Identity, _>(&replica.rows, MapName::home(&home(0)).id(), &agent).unwrap().unwrap();
    assert_eq!(identity.version, 1);
    // The maps that were updated are those that a scan of the rows gives.
    let rebuilt = LogMaps::load(&manifest, &log(0), &replica.rows).unwrap();
    assert_eq!(rebuilt.state_root(), replica.logs[&log(0)].state_root);
    let mut rows = 0;
    replica
        .rows
        .scan(MapName::home(&home(0)).id(), &[], &mut |_, _| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(rows, 8, "identity, version, name, key, provider, tally, day and home");
}

/// Every reason is tried above for each kind that can have it; this holds the order and the words.
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
