//! Cosignatures made again, and the heads at which cosigners meet: how recent certificates are.
use super::super::announce::{Announcer, MEETING_MILLIS};
use super::*;
/// The recommended `heartbeat_ms`.
const HEARTBEAT_MILLIS: u64 = 30_000;

/// The age of the certificate that `at` has of log `of`, in milliseconds: by the q-th newest of its times.
fn age(net: &TestNet, at: Id, of: usize) -> u64 {
    let certificate = net.nodes[at].replica.certificate(&log(of)).unwrap();
    let mut times: Vec<u64> = certificate.cosignatures.values().map(|one| one.seconds).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    net.now - times[net.manifest.quorum() - 1] * 1_000
}

fn oldest(net: &TestNet, of: usize) -> u64 {
    let up = (0..net.nodes.len()).filter(|at| !net.silent.contains(at));
    up.map(|at| age(net, at, of)).max().unwrap()
}

/// All nodes are up, and each log has entries that are certified.
fn begun(n: usize, seed: u64, loss: u64) -> TestNet {
    let mut net = TestNet::new(n, seed, loss);
    net.connect();
    net.run(20_000);
    (0..n).for_each(|at| net.append(at, 2));
    net.run(20_000);
    net
}

#[test]
fn certificates_of_idle_logs_stay_recent_also_where_the_owner_is_gone() {
    for (seed, loss) in [(1, 0), (2, 5)] {
        let mut net = begun(4, seed, loss);
        net.silent = vec![3];
        for _ in 0..10 {
            net.run(60_000);
            for of in 0..4 {
                let age = oldest(&net, of);
                assert!(age < 60_000, "seed {seed} log {of}: {age} ms");
            }
        }
    }
}

/// A tenth of a second in which log 0 grows by a batch. A message is on its way for `slow` of them; one in `loss` gossiped
/// ones is lost.
fn busy_moment(net: &mut TestNet, slow: u64, loss: u64) {
    net.now += 100;
    if net.nodes[0].replica.may_write(net.now).is_ok() {
        net.append(0, 1);
    }
    for at in (0..net.sent.len()).rev() {
        if net.dice.roll(slow) == 0 {
            let (from, to, message) = net.sent.swap_remove(at);
            let gossip = matches!(message, TestMessage::Head(_) | TestMessage::Cosigned(_));
            if !gossip || net.dice.roll(loss) > 0 {
                net.take(from, to, message);
            }
        }
    }
    for at in 0..net.nodes.len() {
        let out = net.nodes[at].replica.tick(net.now);
        net.perform(at, out);
    }
}

#[test]
fn certificates_of_busy_logs_are_as_recent() {
    for (n, seed, slow, loss) in [(4, 3, 3, 4), (7, 6, 8, 1_000)] {
        let mut net = begun(n, seed, 0);
        let mut worst = 0;
        for moment in 0..800 {
            busy_moment(&mut net, slow, loss);
            if moment > 400 {
                worst = worst.max(oldest(&net, 0));
            }
        }
        assert!(worst < 60_000, "{n} operators, seed {seed}: {worst} ms");
        net.check_certified();
    }
}

/// Node 0 of four after everything is certified, with the others gone; every head that it would renew at `now`.
fn renews_at(net: &mut TestNet, now: u64) -> Vec<(LogId, u64)> {
    for i in 1..4 {
        net.nodes[0].replica.frontier(i, 0, Vec::new(), now, &TestDisk::default()).unwrap();
    }
    let renew = |output| match output {
        ReplicaOutput::Renew { signed, .. } => Some((log_of(&signed), signed.checkpoint().head.size)),
        _ => None,
    };
    net.nodes[0].replica.tick(now).into_iter().filter_map(renew).collect()
}

#[test]
fn a_node_renews_the_newest_head_of_each_log_once_a_heartbeat() {
    let mut net = begun(4, 7, 0);
    let now = net.now + HEARTBEAT_MILLIS;
    let all: Vec<(LogId, u64)> = (0..4).map(|of| (log(of), 2)).collect();
    assert_eq!(renews_at(&mut net, now), all);
    assert_eq!(renews_at(&mut net, now + HEARTBEAT_MILLIS - 1), []);
    assert_eq!(renews_at(&mut net, now + HEARTBEAT_MILLIS), all);
}

#[test]
fn stands_and_faults_do_not_end_renewals_but_agreeing_to_a_cut_does() {
    let mut net = begun(4, 8, 0);
    let mut now = net.now;
    let mut renewed = |net: &mut TestNet| {
        now += HEARTBEAT_MILLIS;
        renews_at(net, now).into_iter().map(|(log, _)| log).collect::<Vec<_>>()
    };
    let cut = |of: usize, net: &TestNet| Cut {
        log: log(of),
        head: net.nodes[0].disk.branch(&log(of)).head(),
        state_root: StateRoot([0; 32]),
        adopted: 1,
        successor: log(0),
    };
    net.nodes[0].replica.stand(&log(3));
    net.nodes[0].replica.proven(&log(2));
    assert_eq!(renewed(&mut net), [log(0), log(1), log(2), log(3)]);
    net.nodes[0].replica.agree(&log(3));
    assert_eq!(renewed(&mut net), [log(0), log(1), log(2)], "it agreed to a text that cuts the log");
    let cut = cut(2, &net);
    net.nodes[0].replica.end([cut]);
    assert_eq!(renewed(&mut net), [log(0), log(1)], "a version that it holds ends the log");
    net.nodes[0].replica.halt();
    assert_eq!(renewed(&mut net), [], "two texts of one version");
}

#[test]
fn a_node_whose_clock_is_wrong_cosigns_nothing() {
    let mut net = begun(4, 9, 0);
    let now = net.now + HEARTBEAT_MILLIS;
    net.nodes[0].replica.clock_jumped(now);
    assert_eq!(renews_at(&mut net, now), [], "it jumped");
    assert_eq!(renews_at(&mut net, now + 2_000).len(), 4, "the others' clocks agree with it");
    let now = now + 2_000 + HEARTBEAT_MILLIS;
    for ahead in [-31_000, 31_000, 0] {
        for i in 1..4 {
            net.nodes[0].replica.frontier(i, ahead, Vec::new(), now, &TestDisk::default()).unwrap();
        }
        let renewed = net.nodes[0].replica.tick(now);
        let renewed = renewed.iter().filter(|output| matches!(output, ReplicaOutput::Renew { .. })).count();
        // A clock that is behind makes its own times look older, no others.
        assert_eq!(renewed, if ahead == 31_000 { 4 } else { 0 }, "{ahead}");
    }
}

#[test]
fn a_renewal_is_of_the_known_head_and_half_a_heartbeat_newer() {
    let mut net = begun(4, 10, 0);
    let replica = &mut net.nodes[0].replica;
    let known = replica.cosignatures(&log(2)).find(|one| one.by == log(1)).unwrap().clone();
    let mut renew = |signed: &SignedCheckpoint, by: usize, seconds: u64| {
        let Cosigned { by, cosignature, .. } = cosign_at(signed.clone(), by, seconds);
        replica.renewed(&log(2), Renewal { head: signed.checkpoint().head, by, cosignature }).is_some()
    };
    let (at, half) = (known.cosignature.seconds, HEARTBEAT_MILLIS / 2_000);
    let other = sign(&net.manifest, 2, Head { size: 2, root: TreeRoot([9; 32]) });
    assert!(!renew(&other, 1, at + 100), "another head");
    assert!(!renew(&known.signed, 5, at + 100), "a key that cosigned nothing here");
    assert!(!renew(&known.signed, 1, at + half - 1), "too soon");
    assert!(renew(&known.signed, 1, at + half));
    assert!(!renew(&known.signed, 1, at + half), "known");
    assert!(!renew(&known.signed, 1, at), "older");
    // A liar with a new time every second.
    let taken = (at + half..at + half + 300).filter(|seconds| renew(&known.signed, 1, *seconds)).count();
    assert!(taken as u64 <= 300 / half, "{taken} taken");
}

#[test]
fn the_certificate_takes_the_newest_times() {
    let mut net = begun(4, 11, 0);
    let replica = &mut net.nodes[0].replica;
    let before = replica.certificate(&log(2)).unwrap().clone();
    let Cosigned { by, cosignature, .. } = cosign_at(before.signed.clone(), 1, 1_000);
    replica.renewed(&log(2), Renewal { head: before.head(), by, cosignature: cosignature.clone() });
    let kept = |output: ReplicaOutput<Id>| match output {
        ReplicaOutput::KeepRenewedCertificate { certificate } => Some(certificate),
        _ => None,
    };
    let now = net.now;
    let kept: Vec<Certificate> = replica.tick(now).into_iter().filter_map(kept).collect();
    assert!(matches!(&kept[..], [one] if one.cosignatures[&log(1)] == cosignature && same_cosigners(one, &before)));
    assert_eq!(replica.certificate(&log(2)), kept.first());
}

#[test]
fn the_head_after_a_meeting_head_waits_for_its_quorum_but_not_for_long() {
    let manifest = manifest(4);
    let (mut announcer, mut branch) = (Announcer::default(), OwnerBranch::default());
    let mut append = |announcer: &mut Announcer, now: u64| {
        let from = branch.head().size;
        announcer.appended(sign(&manifest, 0, branch.grow(&leaves(0, from, 1))));
        announcer.due(now, HEARTBEAT_MILLIS).map(|signed| signed.checkpoint().head.size)
    };
    assert_eq!(append(&mut announcer, 0), Some(1), "they meet here");
    assert_eq!(append(&mut announcer, 100), None);
    assert!(announcer.holds(), "nor is it cosigned");
    assert_eq!(append(&mut announcer, 200), None);
    announcer.found(1);
    let after = announcer.due(201, HEARTBEAT_MILLIS).map(|signed| signed.checkpoint().head.size);
    assert_eq!(after, Some(3), "the newest, once a quorum has cosigned the meeting head");
    assert_eq!(append(&mut announcer, 300), Some(4), "the others do not wait");
    assert_eq!(append(&mut announcer, HEARTBEAT_MILLIS), Some(5), "the next meeting");
    assert_eq!(append(&mut announcer, HEARTBEAT_MILLIS + MEETING_MILLIS - 1), None);
    assert_eq!(
        append(&mut announcer, HEARTBEAT_MILLIS + MEETING_MILLIS),
        Some(7),
        "without a quorum it waits no longer"
    );
}

#[test]
fn a_reader_that_knows_the_time_does_not_count_the_future() {
    let (net, liar) = (begun(4, 12, 0), 1_000_000);
    let certificate = certificate(&sign(&net.manifest, 2, net.nodes[2].disk.branch(&log(2)).head()), &[]);
    let read = |times: &[u64], now: u64| {
        let one = |(i, seconds): (usize, &u64)| cosign_at(certificate.signed.clone(), i, *seconds).cosignature;
        let cosignatures = times.iter().enumerate().map(one).collect();
        let quorum =
            crate::note_quorum::NoteQuorum { signed: certificate.signed.clone(), cosignatures, version: 1, wanted: 3 };
        (quorum.as_of(), quorum.as_of_by(crate::time::Millis(now * 1_000)))
    };
    assert_eq!(read(&[100, 110, 120], 130), (Some(100), Some(100)));
    assert_eq!(read(&[100, 110, 120, 90], 130), (Some(100), Some(100)));
    assert_eq!(read(&[100, 110, 120, liar], 130), (Some(110), Some(100)), "one liar is not counted");
    assert_eq!(read(&[110, 120, liar], 130), (Some(110), None), "nor makes it a quorum");
    assert_eq!(read(&[100, 110, 120], 60), (Some(100), Some(100)), "up to a minute ahead");
    assert_eq!(read(&[100, 110, 120], 59), (Some(100), None));
}

/// Symptom: a head was never certified, since an honest operator had cosigned it while its clock was hours ahead: nobody
/// kept that cosignature, and it made no other. The test has a node renew such a cosignature of its own.
#[test]
fn a_cosignature_dated_ahead_is_made_again_with_the_right_time() {
    let mut net = begun(4, 13, 0);
    let replica = &mut net.nodes[0].replica;
    let signed = replica.newest(&log(2)).unwrap().clone();
    let mut renew = |by: usize, seconds: u64| {
        let Cosigned { by, cosignature, .. } = cosign_at(signed.clone(), by, seconds);
        replica.renewed(&log(2), Renewal { head: signed.checkpoint().head, by, cosignature }).is_some()
    };
    assert!(renew(0, 10_000) && renew(1, 10_000));
    assert!(!renew(0, 9_940), "a minute is no reason");
    assert!(renew(0, 9_939));
    assert!(!renew(1, 9_939), "not a cosignature of somebody else");
    let own = net.nodes[0].replica.certificate(&log(2)).unwrap().cosignatures[&log(0)].seconds;
    assert_eq!(own, 9_939);
}
