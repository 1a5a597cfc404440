//! Admissions and dismissals, and their effect on karma.
use super::*;

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
    // An admission and a dismissal leave one interval; 7 pairs fit into a day.
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
    // An event that needs no further interval is applied.
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
    // Two operators for two different services do not count as two for one service.
    assert!(w.say(0, admit(0, issuer, "a", 0), later(1), &node_key(0)).is_ok());
    assert!(w.say(1, admit(1, issuer, "b", 0), later(1), &node_key(1)).is_ok());
    assert_eq!(karma(&w), (0, 0));
    // From number 2 on for b; a number that two services sponsor counts once.
    assert!(w.say(2, admit(2, issuer, "b", 2), later(1), &node_key(2)).is_ok());
    assert_eq!(karma(&w), (7, 2));
    assert!(w.say(3, admit(3, issuer, "a", 3), later(1), &node_key(3)).is_ok());
    assert_eq!(karma(&w), (7, 2));
    // The retraction has number 4; where number 4 is dismissed, it does not count.
    let row = w.row::<DayRow>(&MapName::home(&home(0)), &(subject, issuer, START.day())).unwrap();
    assert!(w.say(0, retract(0, issuer, subject, START.day(), row.0[3].event), later(2), &secret(2)).is_ok());
    assert_eq!(karma(&w), (3, 1));
    assert!(w.say(1, dismiss(1, issuer, "b", 4), later(3), &node_key(1)).is_ok());
    assert_eq!(karma(&w), (3, 1), "a still sponsors it");
    assert!(w.say(3, dismiss(3, issuer, "a", 4), later(3), &node_key(3)).is_ok());
    assert_eq!(karma(&w), (7, 2));
}
