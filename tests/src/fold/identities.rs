//! Registrations, rotations, revocations and claims.
use fama_ledger::codec::encode;
use fama_ledger::fold::{EntryPosition, Fold};
use fama_ledger::rows::{Status, row_key};

use super::*;

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
    // Another home has its own quota; names and keys of one home are free in another.
    assert!(w.say(1, register(1, "taken", &known), START, &known).is_ok());
    // The next day has a new quota.
    assert!(w.say(0, register(0, "free", &fresh), START.plus(DAY), &fresh).is_ok());
    let row = w.row::<HomeRow>(&MapName::home(&home(0)), &()).unwrap();
    assert_eq!(row.registrations, DayCounter { day: START.plus(DAY).day().0, count: 1 });
}

/// Symptom: a DID could mean two identities. Cause: it shows half of the id, and nothing kept the halves apart.
#[test]
fn dids_are_unique_in_a_home() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let key = secret(2);
    let said = w.signed(register(0, "agent", &key), START, &key);
    // Two real ids that share 16 bytes cannot be made: a row of the other identity is planted.
    let mut twin = said.event.id();
    twin.0[16] ^= 1;
    let row =
        Identity { name: "twin".parse().unwrap(), version: 1, status: Status::Active, rotations: Default::default() };
    let plant = |map: &MapName, id: IdentityId| [((map.id(), row_key::<Identity>(&id)), Some(encode(&row)))].into();
    w.replica.rows.apply(&plant(&MapName::home(&home(1)), twin));
    let mut near = said.event.id();
    near.0[15] ^= 1;
    w.replica.rows.apply(&plant(&MapName::home(&home(0)), near));
    let own = log(0);
    let mut alone = Fold::new(&manifest, &own, &w.replica.rows);
    let (event, at) = (said.verify(&manifest.federation()).unwrap(), EntryPosition { time: START, index: 2 });
    assert_eq!(alone.apply(&event, at).unwrap(), Ok(Effect::Registered { identity: event.id() }));
    w.replica.rows.apply(&plant(&MapName::home(&home(0)), twin));
    let mut beside = Fold::new(&manifest, &own, &w.replica.rows);
    assert_eq!(beside.apply(&event, at).unwrap(), Err(Void::NameTaken));
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
        assert!(w.replica.append_event(&log(0), START, event).is_ok(), "{name}");
    }
}

#[test]
fn a_repeated_event_meets_itself() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (first, second) = (secret(2), secret(4));
    let said = w.signed(register(0, "agent", &first), START, &first);
    let agent = said.event.id();
    assert_eq!(w.replica.append_event(&log(0), START, said.clone()), Ok(Effect::Registered { identity: agent }));
    w.void(0, START, said, Void::NameTaken);
    let said = {
        let event = w.event(rotate(0, agent, 2, &second, None), START);
        countersigned(event, &first, &second)
    };
    assert!(w.replica.append_event(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::WrongVersion);
    let subject = id(9);
    let said = w.signed(attest(0, agent, subject, 1), START, &second);
    assert!(w.replica.append_event(&log(0), START, said.clone()).is_ok());
    let attestation = said.event.id();
    w.void(0, START, said, Void::Duplicate);
    let said = w.signed(retract(0, agent, subject, START.day(), attestation), START, &second);
    assert!(w.replica.append_event(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::AlreadyRetracted);
    let said = w.signed(admit(0, agent, "s", 0), START, &node_key(0));
    assert!(w.replica.append_event(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::Superseded);
    let said = w.signed(revoke(0, agent, 2, second.public()), START, &second);
    assert!(w.replica.append_event(&log(0), START, said.clone()).is_ok());
    w.void(0, START, said, Void::Revoked);
}

#[test]
fn rotate_ladder() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let keys: Vec<_> = (0..=limits::ROTATIONS_PER_DAY as u8).map(|n| secret(20 + n)).collect();
    // Two identities with as many rotations as a day allows; the last key of the first one is revoked.
    let agents = ["revoked", "alive"].map(|name| {
        let shift: u8 = if name == "alive" { 20 } else { 0 };
        let agent = w.replica.register(0, name, 20 + shift);
        for n in 1..=limits::ROTATIONS_PER_DAY as u8 {
            let (old, new) = (secret(20 + shift + n - 1), secret(20 + shift + n));
            let event = w.event(rotate(0, agent, u32::from(n) + 1, &new, None), START);
            assert!(w.replica.append_event(&log(0), START, countersigned(event, &old, &new)).is_ok(), "{name} {n}");
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
    assert!(w.replica.append_event(&log(0), START.plus(DAY), countersigned(event, &alive_key, &new)).is_ok());
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
    assert!(w.replica.append_event(&log(0), START, said).is_ok());
    // The holder of the current key cannot rotate, neither to another key nor to the committed one.
    for (key, signer) in [(&thief, &first), (&next, &first)] {
        let event = w.event(rotate(0, agent, 2, key, None), START);
        w.void(0, START, countersigned(event, signer, key), Void::NotAuthorized);
    }
    let alone = w.signed(rotate(0, agent, 2, &thief, None), START, &thief);
    w.void(0, START, alone, Void::NotAuthorized);
    // A revoked key with a commitment can still rotate, so the identity lives on.
    assert!(w.say(0, revoke(0, agent, 1, first.public()), START, &next).is_ok());
    let wrong = w.signed(rotate(0, agent, 3, &next, None), START, &next);
    w.void(0, START, wrong, Void::WrongVersion);
    assert!(w.say(0, rotate(0, agent, 2, &next, None), START, &next).is_ok());
    let found = w.replica.join().identity(agent).unwrap().unwrap();
    let status = w.replica.join().key_status(&found).unwrap();
    assert_eq!((status.version, status.current.key, status.is_revoked()), (2, next.public(), false));
    let keys = w.replica.join().keys(&found).unwrap();
    assert_eq!(keys[0].revoked.unwrap().reason, RevokeReason::KeyCompromised);
    // Version 2 committed to nothing: the old rule applies, and once revoked it stays revoked.
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
    assert!(w.replica.append_event(&log(0), START, countersigned(event, &first, &second)).is_ok());
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
    // A time that is too old or too early does not matter here.
    let said = w.signed(revoke(0, agent, 2, second.public()), stale(&manifest), &second);
    assert_eq!(w.replica.append_event(&log(0), START, said), Ok(Effect::KeyChanged { identity: agent }));
    for version in [1, 2] {
        let key = if version == 1 { &first } else { &second };
        let event = w.signed(revoke(0, agent, version, key.public()), START, key);
        w.void(0, START, event, Void::Revoked);
    }
}

#[test]
fn claims() {
    let manifest = federation(4, |_| ());
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
    assert!(w.replica.append_event(&log(0), START, said).is_ok());
    let revoked = |w: &World<'_>| {
        let found = w.replica.join().identity(agent).unwrap().unwrap();
        let revoked = w.replica.join().key_status(&found).unwrap().revoked;
        revoked.map(|r| (r.operator.map(|o| o.to_string()), r.place, r.time))
    };
    // Claims that do not count: another version, another key, a signer that is neither the key nor the next one. None of
    // them makes the true one a duplicate.
    for (version, named, signer) in
        [(2, &key, &key), (1, &stranger, &stranger), (1, &key, &stranger), (1, &stranger, &key)]
    {
        let said = w.signed(revoke(0, agent, version, named.public()), START, signer);
        assert!(w.replica.append_event(&log(2), START, said).is_ok());
        assert_eq!(revoked(&w), None);
        let again = w.signed(revoke(0, agent, version, named.public()), START, signer);
        w.void(2, START, again, Void::Duplicate);
    }
    // The true one counts, however old. Another log's claim by the next key is the one shown, because operators'
    // order decides, not time.
    let old = w.signed(revoke(0, agent, 1, key.public()), START, &key);
    assert!(w.replica.append_event(&log(2), START.plus(DAY), old).is_ok());
    assert_eq!(revoked(&w), Some((Some("gamma.example".to_owned()), Some((1, 18)), START.plus(DAY))));
    assert!(w.say(3, revoke(0, agent, 1, key.public()), START, &next).is_ok());
    assert_eq!(revoked(&w).unwrap().0.as_deref(), Some("delta.example"));
    assert!(w.say(1, revoke(0, agent, 1, key.public()), later(9), &next).is_ok());
    assert_eq!(revoked(&w), Some((Some("beta.example".to_owned()), Some((1, 2)), later(9))));
    // Claims block nothing at home: the home's own record is shown, and the owner's rotation makes all claims moot.
    assert!(w.say(0, revoke(0, agent, 1, key.public()), later(10), &key).is_ok());
    assert_eq!(revoked(&w), Some((None, None, later(10))));
    assert!(w.say(0, rotate(0, agent, 2, &next, None), later(11), &next).is_ok());
    // Made for version 2 before it existed, but with the wrong key.
    assert_eq!(revoked(&w), None);
}

/// Symptom: a revocation that a silent home refuses could be claimed nowhere. Cause: 10,000 claims a day were a log's
/// only bucket for all homes, so that a liar's own revocations at midnight used it up.
#[test]
fn no_number_of_claims_shuts_out_another() {
    let manifest = federation(4, |_| ());
    let mut w = World::new(&manifest);
    let agent = w.replica.register(0, "agent", 2);
    let liar = secret(6);
    let flood = |n: u32| {
        let action = revoke(3, id(9), n, liar.public());
        let said = signed(event(manifest.federation(), action, START, n.into()), &liar);
        said.verify(&manifest.federation()).unwrap()
    };
    for batch in 0..3u32 {
        let events = (1..=4_000).map(|n| flood(batch * 4_000 + n)).collect();
        assert!(w.replica.admit(&log(1), START, events).iter().all(Result::is_ok));
    }
    assert!(w.say(1, revoke(0, agent, 1, secret(2).public()), START, &secret(2)).is_ok());
    let found = w.replica.join().identity(agent).unwrap().unwrap();
    assert!(w.replica.join().key_status(&found).unwrap().is_revoked());
}

#[test]
fn a_claim_before_its_version_bites_when_the_version_comes() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let (first, second) = (secret(2), secret(4));
    let agent = w.replica.register(0, "agent", 2);
    assert!(w.say(1, revoke(0, agent, 2, second.public()), START, &second).is_ok());
    let event = w.event(rotate(0, agent, 2, &second, None), START);
    assert!(w.replica.append_event(&log(0), START, countersigned(event, &first, &second)).is_ok());
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
    assert_eq!(w.say(0, action, START, &key), Ok(Effect::Claimed { identity: id(7) }));
}
