//! Grants and suspensions.
use fama_ledger::event::{Scope, SuspendReason};
use fama_ledger::rows::{Grant, Issuer, Suspended, Suspension};

use super::*;

fn scope(word: &str) -> Scope {
    word.parse().unwrap()
}

fn grant(i: usize, issuer: IdentityId, subject: IdentityId, word: &str) -> Action {
    Action::Grant { home: home(i), issuer, subject, scope: scope(word), expires: None, note: None }
}

fn ungrant(i: usize, issuer: IdentityId, subject: IdentityId, word: &str) -> Action {
    Action::Ungrant { home: home(i), issuer, subject, scope: scope(word) }
}

fn suspend(i: usize, identity: IdentityId, reason: SuspendReason) -> Action {
    Action::Suspend { operator: home(i), identity, reason }
}

fn resume(i: usize, identity: IdentityId) -> Action {
    Action::Resume { operator: home(i), identity }
}

fn granted(w: &World<'_>, issuer: IdentityId, subject: IdentityId, word: &str) -> Option<Grant> {
    w.row::<Grant>(&MapName::home(&home(0)), &(issuer, subject, text_key(word)))
}

fn suspended(w: &World<'_>, identity: IdentityId) -> Option<Suspension> {
    w.row::<Suspension>(&MapName::statements(&home(0)), &identity)
}

#[test]
fn grant_ladder() {
    let manifest = federation(2, |p| p.daily_grants = 3);
    let mut w = World::new(&manifest);
    let (key, stranger, dead_key) = (secret(2), secret(6), secret(4));
    let (issuer, dead, subject) = (w.replica.register(0, "issuer", 2), w.replica.register(0, "dead", 4), id(9));
    assert!(w.say(0, revoke(0, dead, 1, dead_key.public()), START, &dead_key).is_ok());
    assert_eq!(w.say(0, grant(0, issuer, subject, "read"), START, &key), Ok(Effect::Granted { subject, issuer }));
    let want = Grant { scope: scope("read"), stands: true, expires: None, created: START };
    assert_eq!(granted(&w, issuer, subject, "read"), Some(want));
    for kind in [grant, ungrant] {
        let table = [
            (1, id(8), FUTURE, &stranger, Void::NotHome),
            (0, id(8), FUTURE, &stranger, Void::Future),
            (0, id(8), stale(&manifest), &stranger, Void::Stale),
            (0, id(8), START, &stranger, Void::UnknownIdentity),
            (0, dead, START, &stranger, Void::NotAuthorized),
            (0, dead, START, &dead_key, Void::Revoked),
            (0, issuer, START, &key, Void::Superseded),
            (0, issuer, Millis(START.0 - 1), &key, Void::Superseded),
        ];
        for (i, who, created, signer, want) in table {
            let event = w.signed(kind(i, who, subject, "read"), created, signer);
            w.void(0, START, event, want);
        }
    }
    // An issuer may use its own service.
    assert!(w.say(0, grant(0, issuer, issuer, "read"), START, &key).is_ok());
    // The third of the day: a withdrawal of what never stood counts like a grant.
    assert!(w.say(0, ungrant(0, issuer, subject, "write"), START, &key).is_ok());
    let late = w.signed(grant(0, issuer, subject, "write"), Millis(START.0 - 1), &key);
    w.void(0, START, late, Void::Superseded);
    let more = w.signed(grant(0, issuer, subject, "more"), START, &key);
    w.void(0, START, more, Void::Quota);
    let again = w.signed(ungrant(0, issuer, subject, "write"), later(1), &key);
    w.void(0, later(1), again, Void::Quota);
    // The withdrawal of what stands is never refused.
    assert!(w.say(0, ungrant(0, issuer, subject, "read"), later(1), &key).is_ok());
    let want = Grant { scope: scope("read"), stands: false, expires: None, created: later(1) };
    assert_eq!(granted(&w, issuer, subject, "read"), Some(want));
    let counter = w.row::<Issuer>(&MapName::home(&home(0)), &issuer).unwrap().grants;
    assert_eq!(counter, DayCounter { day: START.day().0, count: 3 });
    // Another day, another quota.
    let tomorrow = START.plus(DAY);
    assert!(w.say(0, grant(0, issuer, subject, "read"), tomorrow, &key).is_ok());
}

#[test]
fn the_newest_statement_about_a_scope_counts() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (key, issuer, subject) = (secret(2), w.replica.register(0, "issuer", 2), id(9));
    let until = |expires| Action::Grant {
        home: home(0),
        issuer,
        subject,
        scope: scope("read"),
        expires: Some(expires),
        note: None,
    };
    // The fold judges no `expires`: not even one that is over.
    assert!(w.say(0, until(Millis(START.0 - 1)), START, &key).is_ok());
    assert!(!granted(&w, issuer, subject, "read").unwrap().is_good(START));
    // Dated ahead as far as may be, then taken back a millisecond later.
    let ahead = START.plus(limits::FUTURE_MILLIS_MAX);
    let event = w.signed(until(later(3_600)), ahead, &key);
    assert!(w.replica.append_event(&log(0), START, event).is_ok());
    let row = granted(&w, issuer, subject, "read").unwrap();
    assert!(row.is_good(START) && row.is_good(Millis(later(3_600).0 - 1)) && !row.is_good(later(3_600)));
    let early = w.signed(ungrant(0, issuer, subject, "read"), ahead, &key);
    w.void(0, later(1), early, Void::Superseded);
    let event = w.signed(ungrant(0, issuer, subject, "read"), ahead.plus(1), &key);
    assert!(w.replica.append_event(&log(0), later(1), event).is_ok());
    assert!(!granted(&w, issuer, subject, "read").unwrap().is_good(START));
    // Another scope of the pair is another row, and so is the same scope in another case.
    assert!(w.say(0, grant(0, issuer, subject, "Read"), later(2), &key).is_ok());
    let join = w.replica.join();
    let found = join.identity(issuer).unwrap().unwrap();
    let standing: Vec<String> =
        join.grants(&found, subject).unwrap().iter().map(|grant| grant.scope.to_string()).collect();
    assert_eq!(standing, ["Read"]);
    assert_eq!(join.grant(&found, subject, &scope("read")).unwrap().map(|grant| grant.stands), Some(false));
    assert_eq!(join.grant(&found, id(8), &scope("read")).unwrap(), None);
}

#[test]
fn a_pair_has_a_bounded_number_of_scopes() {
    let manifest = federation(1, |_| ());
    let mut w = World::new(&manifest);
    let (key, issuer, subject) = (secret(2), w.replica.register(0, "issuer", 2), id(9));
    let word = |i: usize| format!("read:{i}");
    for i in 0..limits::GRANTS_PER_PAIR {
        assert!(w.say(0, grant(0, issuer, subject, &word(i)), START, &key).is_ok());
    }
    let more = w.signed(grant(0, issuer, subject, "more"), START, &key);
    w.void(0, START, more, Void::Quota);
    // One that stands may be given again, with another end.
    assert!(w.say(0, grant(0, issuer, subject, &word(0)), later(1), &key).is_ok());
    assert!(w.say(0, grant(0, issuer, id(8), "more"), later(1), &key).is_ok());
    for i in 0..limits::SCOPES_PER_PAIR {
        assert!(w.say(0, ungrant(0, issuer, subject, &word(i)), later(2), &key).is_ok());
    }
    for kind in [grant, ungrant] {
        let more = w.signed(kind(0, issuer, subject, "more"), later(3), &key);
        w.void(0, later(3), more, Void::Quota);
    }
    assert!(w.say(0, grant(0, issuer, subject, &word(200)), later(3), &key).is_ok());
}

#[test]
fn suspension_ladder() {
    let manifest = federation(2, |_| ());
    let mut w = World::new(&manifest);
    let (own, other, identity) = (node_key(0), node_key(1), id(9));
    let said = w.say(0, suspend(0, identity, SuspendReason::Misconduct), START, &own);
    assert_eq!(said, Ok(Effect::Suspended { identity }));
    for action in [suspend(0, identity, SuspendReason::Misconduct), resume(0, identity)] {
        let elsewhere = match &action {
            Action::Suspend { .. } => suspend(1, identity, SuspendReason::Misconduct),
            _ => resume(1, identity),
        };
        let table = [
            (elsewhere, FUTURE, &other, Void::NotHome),
            (action.clone(), FUTURE, &other, Void::Future),
            (action.clone(), stale(&manifest), &other, Void::Stale),
            (action.clone(), START, &other, Void::NotAuthorized),
            (action.clone(), START, &own, Void::Superseded),
        ];
        for (action, created, signer, want) in table {
            let event = w.signed(action, created, signer);
            w.void(0, START, event, want);
        }
    }
    // A new reason, and the same beginning.
    assert!(w.say(0, suspend(0, identity, SuspendReason::KeyCompromised), later(1), &own).is_ok());
    let standing = Suspended { since: START, reason: SuspendReason::KeyCompromised };
    assert_eq!(suspended(&w, identity).unwrap().standing, Some(standing));
    assert!(w.say(0, resume(0, identity), later(2), &own).is_ok());
    assert_eq!(suspended(&w, identity).unwrap().standing, None);
    assert!(w.say(0, suspend(0, identity, SuspendReason::Unspecified), later(3), &own).is_ok());
    assert_eq!(suspended(&w, identity).unwrap().standing.map(|standing| standing.since), Some(later(3)));
    for i in 4..u64::from(limits::SUSPENSIONS_PER_DAY) {
        assert!(w.say(0, resume(0, identity), later(i), &own).is_ok());
    }
    let more = w.signed(suspend(0, identity, SuspendReason::Misconduct), later(99), &own);
    w.void(0, later(99), more, Void::Quota);
    assert!(w.say(0, suspend(0, id(8), SuspendReason::Misconduct), later(99), &own).is_ok());
    // A suspension is no statement about a provider.
    let provider = admit(0, identity, "service", 0);
    assert!(w.say(0, provider, later(99), &own).is_ok());
    assert_eq!(w.replica.join().sponsorships(identity).unwrap().len(), 1);
}

/// Neither key nor karma changes, nothing is blocked, and it holds with `min_sponsors` operators.
#[test]
fn a_suspension_holds_with_as_many_operators_as_sponsor() {
    let manifest = federation(4, |p| p.min_sponsors = 2);
    let mut w = World::new(&manifest);
    let (key, next) = (secret(2), secret(3));
    let identity = w.replica.register(0, "agent", 2);
    let by = |w: &World<'_>| {
        let by = w.replica.join().suspended_by(identity).unwrap();
        by.into_iter().map(|(operator, _)| operator).collect::<Vec<_>>()
    };
    assert!(w.say(2, suspend(2, identity, SuspendReason::Misconduct), START, &node_key(2)).is_ok());
    assert_eq!(by(&w), [home(2)]);
    assert!(w.say(0, suspend(0, identity, SuspendReason::Misconduct), START, &node_key(0)).is_ok());
    assert_eq!(by(&w), [home(0), home(2)]);
    assert_eq!(manifest.policy().sponsors_wanted(), 2);
    let rotation = w.event(rotate(0, identity, 2, &next, None), START);
    assert!(w.replica.append_event(&log(0), START, countersigned(rotation, &key, &next)).is_ok());
    assert!(w.say(0, revoke(0, identity, 2, next.public()), START, &next).is_ok());
    assert!(w.say(2, resume(2, identity), later(1), &node_key(2)).is_ok());
    assert_eq!(by(&w), [home(0)]);
}
