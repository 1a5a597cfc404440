//! Other sessions with the same key, clock jumps, and what the operator vouches for.
use super::*;

const STARTING: Option<OtherSession> = Some(OtherSession::Starting);
const WRITES: Option<OtherSession> = Some(OtherSession::Writes);

/// A replica that no operator has answered yet.
fn silent(n: usize) -> Replica<Id> {
    let mut replica = Replica::new(manifest(n), Some(name(0)), Vec::from([log(0)]));
    for i in 1..n {
        replica.peer_up(i, Some(name(i)), 0);
    }
    replica
}

/// An operator answers; its clock is `ahead` milliseconds ahead.
fn hear(replica: &mut Replica<Id>, i: usize, ahead: i64, other: Option<OtherSession>, now: u64) {
    replica.told_of_session(i, other);
    replica.frontier(i, ahead, Vec::new(), now, &TestDisk::default()).unwrap();
}

#[test]
fn a_starting_process_waits_until_enough_operators_report_no_other() {
    for other in [STARTING, WRITES] {
        let mut replica = silent(4);
        hear(&mut replica, 1, 0, other, 0);
        assert_eq!(replica.may_write(0), Err(WaitReason::Starting));
        hear(&mut replica, 2, 0, None, 0);
        assert_eq!(
            replica.may_write(0),
            Err(WaitReason::OtherSession),
            "three answered, one of them reports the other session"
        );
        assert!(!replica.has_started());
        let mut one_liar = silent(4);
        hear(&mut one_liar, 1, 0, other, 0);
        hear(&mut one_liar, 2, 0, None, 0);
        hear(&mut one_liar, 3, 0, None, 0);
        assert_eq!(one_liar.may_write(0), Ok(()), "f liars delay no node");
        assert_eq!(one_liar.warnings(0), [WriteWarning::OtherSession]);
        hear(&mut replica, 1, 0, None, 500);
        assert_eq!(replica.may_write(500), Ok(()), "the other session is gone");
        assert_eq!(replica.warnings(500), []);
    }
}

#[test]
fn a_start_depends_on_recent_answers_only() {
    let mut replica = silent(4);
    hear(&mut replica, 1, 0, None, 0);
    hear(&mut replica, 2, 0, None, 60_001);
    assert_eq!(replica.may_write(60_001), Err(WaitReason::Starting));
    hear(&mut replica, 1, 0, None, 60_002);
    assert_eq!(replica.may_write(60_002), Ok(()));
    assert_eq!(replica.may_write(600_000), Ok(()), "opened permanently");
}

#[test]
fn a_dead_session_delays_a_start_only_while_it_is_reported() {
    let mut replica = silent(4);
    for i in 1..4 {
        hear(&mut replica, i, 0, WRITES, 0);
    }
    assert!(replica.tick(499).is_empty());
    assert_eq!(replica.tick(500).len(), 3, "asked again soon");
    (1..4).for_each(|i| hear(&mut replica, i, 0, None, 600));
    (1..4).for_each(|i| hear(&mut replica, i, 0, None, 700));
    assert!(replica.tick(700 + FRONTIER_MILLIS - 1).is_empty(), "it has started");
    assert_eq!(replica.tick(700 + FRONTIER_MILLIS).len(), 3, "then as always");
}

#[test]
fn a_writing_process_stops_for_another_that_writes_but_not_for_one_that_starts() {
    for (n, enough) in [(2, 1), (3, 1), (4, 2), (7, 3), (10, 4)] {
        let mut replica = silent(n);
        (1..n).for_each(|i| hear(&mut replica, i, 0, None, 0));
        (1..n).for_each(|i| hear(&mut replica, i, 0, STARTING, 1));
        assert_eq!((replica.may_write(1), replica.warnings(1)), (Ok(()), vec![WriteWarning::OtherSession]), "{n}");
        (1..n).for_each(|i| hear(&mut replica, i, 0, None, 1));
        for i in 1..n {
            hear(&mut replica, i, 0, WRITES, 2);
            let stopped = if i >= enough { Err(WaitReason::OtherSession) } else { Ok(()) };
            assert_eq!(replica.may_write(2), stopped, "{n}: {i} reported it");
            assert_eq!(replica.warnings(2).is_empty(), i >= enough, "{n}: {i} reported it");
        }
        (1..n).for_each(|i| hear(&mut replica, i, 0, None, 3));
        assert_eq!(replica.may_write(3), Ok(()), "it continues when the other session is gone");
    }
    let mut replica = silent(2);
    hear(&mut replica, 1, 0, None, 0);
    hear(&mut replica, 1, 0, WRITES, 1);
    assert_eq!(replica.may_write(60_001), Err(WaitReason::OtherSession));
    assert_eq!(replica.may_write(60_002), Ok(()), "the reports have expired");
}

#[test]
fn only_reports_of_operators_count() {
    let mut replica = silent(4);
    (1..4).for_each(|i| hear(&mut replica, i, 0, None, 0));
    for (peer, operator) in [(77, None), (78, None), (79, Some(name(0)))] {
        replica.peer_up(peer, operator, 0);
        hear(&mut replica, peer, -100_000, WRITES, 0);
    }
    assert_eq!((replica.may_write(0), replica.warnings(0)), (Ok(()), vec![]));
}

#[test]
fn a_node_that_stops_for_another_process_cosigns_nothing() {
    let (mut replica, disk, manifest) = lone(4);
    let mut owner = OwnerBranch::default();
    let signed = sign(&manifest, 3, owner.grow(&leaves(3, 0, 5)));
    disk.0.borrow_mut().insert(log(3), owner.clone());
    hear(&mut replica, 1, 0, WRITES, 0);
    hear(&mut replica, 2, 0, WRITES, 0);
    let mut out = replica.checkpoint(signed.clone(), 0, &disk).unwrap();
    out.extend(replica.advanced(&log(3), owner.head(), Vec::new(), 0, &disk).unwrap());
    let cosigns =
        |out: &[ReplicaOutput<Id>]| out.contains(&ReplicaOutput::Cosign { signed: signed.clone(), by: log(0) });
    assert!(!cosigns(&out));
    replica.told_of_session(2, None);
    assert!(cosigns(&replica.frontier(2, 0, Vec::new(), 1, &disk).unwrap()), "it does when the other session is gone");
}

#[test]
fn an_operator_can_vouch_for_its_disk_but_not_for_another_process() {
    let overrides = Overrides { assume_disk_current: true, ..Overrides::default() };
    let mut replica = silent(4);
    replica.set_overrides(overrides);
    assert_eq!((replica.may_write(0), replica.warnings(0)), (Ok(()), vec![WriteWarning::AssumeDiskCurrent]));
    hear(&mut replica, 1, 0, WRITES, 0);
    assert_eq!(replica.warnings(0), [WriteWarning::OtherSession, WriteWarning::AssumeDiskCurrent]);
    hear(&mut replica, 2, 0, WRITES, 0);
    assert_eq!(replica.may_write(0), Err(WaitReason::OtherSession));
    let mut replica = silent(4);
    replica.set_overrides(overrides);
    let signed = sign(&manifest(4), 0, OwnerBranch::default().grow(&leaves(0, 0, 7)));
    let lost = PeerLog { newest: Some(signed), ..says(0, 7) };
    replica.frontier(1, 0, vec![lost], 0, &TestDisk::default()).unwrap();
    assert_eq!(replica.may_write(0), Err(WaitReason::CatchingUp), "other operators' heads still count");
}

#[test]
fn after_a_jump_the_median_of_three_clocks_decides() {
    let mut replica = silent(4);
    (1..4).for_each(|i| hear(&mut replica, i, 0, None, 0));
    replica.clock_jumped(10_000);
    assert_eq!(replica.may_write(10_000), Err(WaitReason::ClockJumped));
    (1..4).for_each(|i| hear(&mut replica, i, 0, None, 10_999));
    assert_eq!(replica.may_write(10_999), Err(WaitReason::ClockJumped), "measured before the jump, possibly");
    hear(&mut replica, 1, 0, None, 11_000);
    assert_eq!(replica.may_write(11_000), Err(WaitReason::ClockJumped), "two clocks");
    hear(&mut replica, 2, -31_000, None, 11_000);
    assert_eq!(replica.may_write(11_000), Ok(()), "the lower median of -31, 0 and 0 is 0");
    for wrong in [-31_000, 31_000] {
        replica.clock_jumped(20_000);
        (1..4).for_each(|i| hear(&mut replica, i, wrong, None, 21_000));
        assert_eq!(replica.may_write(21_000), Err(WaitReason::ClockJumped), "ahead or behind");
        (1..4).for_each(|i| hear(&mut replica, i, wrong.signum() * 30_000, None, 22_000));
        assert_eq!(replica.may_write(22_000), Ok(()), "set right");
    }
}

/// Symptom: a node two hours behind said that it was ready, refused every event, and its cosignatures counted nowhere.
#[test]
fn a_clock_that_is_behind_is_told_on_its_own_node() {
    let told = |clocks: [i64; 3]| {
        let mut replica = silent(4);
        (1..4).zip(clocks).for_each(|(i, ahead)| hear(&mut replica, i, ahead, None, 0));
        assert_eq!(replica.wrong_clock(60_001), None, "old answers do not count");
        (replica.may_write(0).is_ok(), replica.warnings(0), replica.wrong_clock(0))
    };
    let (ahead, behind) = (WriteWarning::ClockAhead, WriteWarning::ClockBehind);
    assert_eq!(told([7_200_000; 3]), (true, vec![behind], Some(behind)));
    assert_eq!(told([i64::MAX; 3]), (true, vec![behind], Some(behind)), "in 1970");
    assert_eq!(told([30_000; 3]), (true, vec![], None));
    assert_eq!(told([i64::MAX, 0, 0]), (true, vec![], None), "one liar does not move the median");
    assert_eq!(told([240_000, 240_000, 0]), (true, vec![behind], Some(behind)), "two of four are off: this one, too");
    assert_eq!(told([-240_000, -240_000, 0]), (false, vec![], Some(ahead)), "what the other two see");
    let mut two = silent(2);
    hear(&mut two, 1, 31_000, None, 0);
    assert_eq!((two.warnings(0), two.wrong_clock(0)), (vec![behind], None), "who is right?");
}

#[test]
fn two_clocks_decide_nothing_but_an_operator_does() {
    let mut replica = silent(2);
    hear(&mut replica, 1, -31_000, None, 0);
    assert_eq!((replica.may_write(0), replica.warnings(0)), (Ok(()), vec![WriteWarning::ClockAhead]));
    replica.clock_jumped(1_000);
    hear(&mut replica, 1, 0, None, 2_000);
    assert_eq!(replica.may_write(2_000), Err(WaitReason::ClockJumped));
    let mut replica = silent(4);
    replica.set_overrides(Overrides { accept_clock: true, ..Overrides::default() });
    (1..4).for_each(|i| hear(&mut replica, i, -31_000, None, 0));
    assert_eq!(replica.may_write(0), Ok(()));
    assert_eq!(replica.warnings(0), [WriteWarning::ClockAhead, WriteWarning::AcceptClock]);
    replica.clock_jumped(0);
    assert_eq!(replica.may_write(0), Ok(()));
    assert_eq!(replica.warnings(0), [WriteWarning::ClockJumped, WriteWarning::AcceptClock]);
}
