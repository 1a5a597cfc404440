//! Attestations, retractions and the daily counters.
use super::*;

#[test]
fn attest_ladder() {
    let manifest = federation(2, |p| (p.daily_attestations, p.max_delta, p.daily_cap) = (2, 5, 7));
    let mut w = World::new(&manifest);
    let (key, stranger, dead_key) = (secret(2), secret(6), secret(4));
    let (issuer, dead, subject) = (w.replica.register(0, "issuer", 2), w.replica.register(0, "dead", 4), id(9));
    assert!(w.say(0, revoke(0, dead, 1, dead_key.public()), START, &dead_key).is_ok());
    let first = w.signed(attest(0, issuer, subject, 5), START, &key);
    assert!(w.replica.append_event(&log(0), START, first.clone()).is_ok());
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
    // Another subject and another day each have their own cap; returning to a day finds what it had used up.
    assert!(w.attest(issuer, id(8), 5, START, 2).is_ok());
    let midnight = Millis(START.day().0 as u64 * DAY + DAY);
    assert_eq!(effective(&mut w, 5, midnight), Ok(5));
    let late = w.signed(attest(0, issuer, subject, 5), Millis(midnight.0 - 1), &secret(2));
    w.void(0, midnight, late, Void::Cap);
    // A retraction does not free any of the cap.
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
            assert!(w.replica.append_event(&log(0), START, said).is_ok());
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
    assert!(w.replica.append_event(&log(0), START.plus(DAY), beyond).is_ok());
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
        w.replica.append_event(&log(0), time, event).map(|_| ())
    };
    // `created` goes back and forth, but the day of the entries does not.
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

/// Symptom: 4,097 identities of one home that attest to a victim made its profile unprovable forever, and its reads ever
/// slower. Cause: nothing bounded the tallies of one subject; a liar's log takes its own providers, sponsored or not.
#[test]
fn one_home_adds_few_providers_a_day_to_a_subject() {
    let manifest = federation(2, |p| p.daily_new_providers = 3);
    let mut w = World::new(&manifest);
    let victim = id(9);
    let crowd: Vec<(u8, IdentityId)> = (20..26).map(|n| (n, w.replica.register(0, &format!("crowd-{n}"), n))).collect();
    let tallies = |w: &World<'_>| w.replica.join().karma_by_provider(victim).unwrap().len();
    for (n, provider) in &crowd[..3] {
        assert!(w.attest(*provider, victim, -5, START, *n).is_ok());
    }
    let fourth = w.signed(attest(0, crowd[3].1, victim, -5), START, &secret(23));
    w.void(0, START, fourth, Void::Quota);
    assert_eq!(tallies(&w), 3);
    // Providers that began continue; other subjects and other homes have quotas of their own.
    assert!(w.attest(crowd[0].1, victim, -1, later(1), 20).is_ok());
    assert!(w.attest(crowd[3].1, id(8), -5, later(1), 23).is_ok());
    let elsewhere = w.replica.register(1, "elsewhere", 40);
    assert!(w.say(1, attest(1, elsewhere, victim, 5), later(1), &secret(40)).is_ok());
    let row = w.row::<SubjectRow>(&MapName::home(&home(0)), &victim).unwrap();
    assert_eq!(row.providers, DayCounter { day: START.day().0, count: 3 });
    // The next day by entry time, whatever `created` says, takes as many again.
    let (day, dated) = (START.plus(DAY), START.plus(DAY - 9 * SECOND));
    for (n, provider) in &crowd[3..] {
        let said = w.signed(attest(0, *provider, victim, -5), dated, &secret(*n));
        assert!(w.replica.append_event(&log(0), day, said).is_ok());
    }
    assert_eq!(tallies(&w), 7);
}
