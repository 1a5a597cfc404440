//! When a copy leaves its branch: a quorum certified another branch, more than f operators have entries of another
//! branch, or the log was cut.
use super::*;
use crate::id::StateRoot;

/// The log of the fourth of four operators, with two branches of 20 entries that share the first 5.
struct Forked {
    replica: Replica<Id>,
    disk: TestDisk,
    manifest: Arc<Manifest>,
    left: OwnerBranch,
    right: OwnerBranch,
}

impl Forked {
    /// The first operator's copy has `size` entries of the left branch.
    fn new(size: u64) -> Self {
        let (replica, disk, manifest) = lone(4);
        let (mut left, mut right) = (OwnerBranch::default(), OwnerBranch::default());
        left.grow(&leaves(3, 0, 20));
        right.grow(&[leaves(3, 0, 5), leaves(9, 5, 15)].concat());
        let mut forked = Self { replica, disk, manifest, left, right };
        forked.grow(size);
        forked
    }

    fn grow(&mut self, size: u64) -> Vec<ReplicaOutput<Id>> {
        let mut copy = OwnerBranch::default();
        let head = copy.grow(&self.left.leaves[..size as usize]);
        self.disk.0.borrow_mut().insert(log(3), copy);
        self.replica.checkpoint(sign(&self.manifest, 3, head), 0, &self.disk).unwrap();
        self.replica.advanced(&log(3), head, Vec::new(), 0, &self.disk).unwrap()
    }

    fn head(branch: &OwnerBranch, size: u64) -> Head {
        Head { size, root: root_at(size, &branch.tiles).unwrap() }
    }

    /// These operators cosign one head; returns the outputs for the last cosignature.
    fn cosigned(&mut self, by: &[usize], head: Head) -> Vec<ReplicaOutput<Id>> {
        let signed = sign(&self.manifest, 3, head);
        let cosign = |i: &usize| cosign(signed.clone(), *i);
        let all: Vec<_> = by.iter().map(cosign).collect();
        let out = all.into_iter().map(|one| self.replica.cosigned(one, 0, &self.disk).unwrap());
        out.last().unwrap_or_default()
    }

    fn left(&self, size: u64) -> Head {
        Self::head(&self.left, size)
    }

    fn right(&self, size: u64) -> Head {
        Self::head(&self.right, size)
    }

    /// A peer's frontier shows a certificate of one head.
    fn shown(&mut self, by: &[usize], head: Head) -> Vec<ReplicaOutput<Id>> {
        let shown = Some(certificate(&sign(&self.manifest, 3, head), by));
        self.replica.peer_up(1, Some(name(1)), 0);
        self.replica.frontier(1, 0, vec![PeerLog { certificate: shown, ..says(3, 20) }], 0, &self.disk).unwrap()
    }

    /// The outputs after a restart from the disk with a manifest that ends the log at `end`.
    fn ended(&mut self, end: Head) -> Vec<ReplicaOutput<Id>> {
        let (log, successor) = (log(3), log(0));
        let cut = Cut { log: log.clone(), head: end, state_root: StateRoot([1; 32]), adopted: 1, successor };
        self.replica.end([cut]);
        let (head, certified) = (self.replica.head(&log).unwrap(), self.replica.certified(&log));
        let cosigned = self.replica.cosignatures(&log).cloned().collect();
        let newest = self.replica.newest(&log).cloned();
        let (adopted, certificate) = (Vec::new(), None);
        let stored = StoredLog { head, base: 0, adopted, certified, newest, cosigned, certificate };
        self.replica.restore(&log, stored, &self.disk).unwrap()
    }

    /// The fetches after all earlier requests timed out.
    fn fetches_later(&mut self) -> Vec<(Id, u64)> {
        self.replica.peer_up(90, None, 0);
        let mut out = self.replica.tick(REQUEST_MILLIS_MAX);
        out.extend(self.replica.frontier(90, 0, vec![says(3, 20)], REQUEST_MILLIS_MAX, &self.disk).unwrap());
        fetches(&out)
    }

    fn wrong(&mut self, peer: Id) -> Vec<ReplicaOutput<Id>> {
        self.replica.fetch_failed(peer, &log(3), FetchFailure::Wrong, 0)
    }
}

fn rewinds(out: &[ReplicaOutput<Id>]) -> Vec<u64> {
    let size = |output: &ReplicaOutput<Id>| match output {
        ReplicaOutput::Rewind { log: of, size } => {
            assert_eq!(*of, log(3));
            Some(*size)
        }
        _ => None,
    };
    out.iter().filter_map(size).collect()
}

#[test]
fn a_copy_leaves_its_branch_for_one_that_a_quorum_certified() {
    let mut forked = Forked::new(10);
    forked.cosigned(&[0, 1, 2], forked.left(4));
    assert_eq!(forked.replica.certified(&log(3)), 4);
    assert_eq!(rewinds(&forked.cosigned(&[1, 2], forked.right(9))), [0; 0], "two of four");
    assert_eq!(forked.replica.fault(&log(3)), Some(Fault::Equivocation));
    let right = forked.right(9);
    assert_eq!(rewinds(&forked.cosigned(&[3], right)), [4], "to the certified part");
    assert_eq!(rewinds(&forked.cosigned(&[0], right)), [0; 0], "once");
    assert_eq!(rewinds(&forked.wrong(1)), [0; 0]);
    assert_eq!(rewinds(&forked.wrong(2)), [0; 0]);
    let out = forked.replica.tick(1);
    assert!(fetches(&out).is_empty() && !out.iter().any(|one| matches!(one, ReplicaOutput::Cosign { .. })), "{out:?}");
}

/// The owner cosigned both branches, and its newest cosignature, which is kept, is on the branch that no quorum has.
#[test]
fn a_certificate_shows_which_branch_a_quorum_certified() {
    let torn = || {
        let mut forked = Forked::new(10);
        forked.cosigned(&[0, 1, 2], forked.left(4));
        forked.cosigned(&[3], forked.left(12));
        assert_eq!(rewinds(&forked.cosigned(&[1, 2], forked.right(9))), [0; 0], "two of four on one head");
        forked
    };
    let mut forked = torn();
    assert_eq!(rewinds(&forked.shown(&[1, 2], forked.right(9))), [0; 0], "no quorum");
    assert_eq!(rewinds(&forked.shown(&[1, 2, 3], forked.right(9))), [4], "to the certified part");

    let mut forked = torn();
    assert_eq!(rewinds(&forked.shown(&[1, 2, 3], forked.right(15))), [0; 0], "beyond the copy: not comparable yet");
    assert_eq!(forked.replica.fault(&log(3)), Some(Fault::Equivocation));
    assert_eq!(fetches(&forked.replica.tick(REQUEST_MILLIS_MAX)), [(1, 15)], "towards the certified head");
    assert_eq!(rewinds(&forked.wrong(1)), [0; 0], "one may lie");
    assert_eq!(rewinds(&forked.wrong(2)), [4]);
}

#[test]
fn a_fault_that_becomes_known_after_the_certificate_makes_a_copy_leave_its_branch() {
    let mut forked = Forked::new(10);
    assert_eq!(rewinds(&forked.shown(&[1, 2, 3], forked.right(15))), [0; 0]);
    assert_eq!(forked.replica.fault(&log(3)), None, "it may extend the copy");
    assert_eq!(rewinds(&forked.grow(18)), [0; 0]);
    forked.replica.proven(&log(3));
    assert_eq!(rewinds(&forked.shown(&[1, 2, 3], forked.right(15))), [0]);
}

#[test]
fn heads_without_a_quorum_do_not_displace_the_certified_branch() {
    let (mut replica, disk, manifest) = lone(4);
    let (mut left, mut right) = (OwnerBranch::default(), OwnerBranch::default());
    let (head, certified) = (left.grow(&leaves(3, 0, 200)), right.grow(&leaves(9, 0, 9)));
    disk.0.borrow_mut().insert(log(3), left);
    replica.advanced(&log(3), head, Vec::new(), 0, &disk).unwrap();
    replica.peer_up(1, Some(name(1)), 0);
    let shown = |replica: &mut Replica<Id>| {
        let shown = Some(certificate(&sign(&manifest, 3, certified), &[1, 2, 3]));
        let has = vec![PeerLog { certificate: shown, ..says(3, 9) }];
        rewinds(&replica.frontier(1, 0, has, 0, &disk).unwrap())
    };
    for size in 100..180 {
        let head = Head { size, root: disk.root_at(&log(3), size).unwrap() };
        replica.cosigned(cosign(sign(&manifest, 3, head), 3), 0, &disk).unwrap();
    }
    assert_eq!(shown(&mut replica), [0]);
}

#[test]
fn a_quorum_is_on_one_head() {
    let mut forked = Forked::new(10);
    for (by, size) in [(1, 7), (2, 8), (3, 9)] {
        assert_eq!(rewinds(&forked.cosigned(&[by], forked.right(size))), [0; 0], "three heads of one branch");
    }
    let mut forked = Forked::new(10);
    assert_eq!(rewinds(&forked.cosigned(&[1, 2, 3], forked.right(8))), [0], "nothing was certified");
    let mut forked = Forked::new(10);
    forked.replica.proven(&log(3));
    assert_eq!(rewinds(&forked.cosigned(&[1, 2, 3], forked.left(9))), [0; 0], "the copy's own branch");
    assert_eq!(rewinds(&forked.cosigned(&[1, 2, 3], forked.right(19))), [0; 0], "beyond the copy: not comparable yet");
}

#[test]
fn a_quorum_is_of_the_version_adopted_last() {
    let manifest = adoptions::growing();
    for (version, enough) in [(1, 3), (2, 5), (3, 7)] {
        let (mut replica, disk, _) = lone_of(Arc::clone(&manifest));
        let mut copy = OwnerBranch::default();
        let head = copy.grow(&leaves(3, 0, 10));
        disk.0.borrow_mut().insert(log(3), copy);
        let adopted = (1..=version).map(|version| Adopted { version, size: u64::from(version) }).collect();
        replica.advanced(&log(3), head, adopted, 0, &disk).unwrap();
        let other = sign(&manifest, 3, OwnerBranch::default().grow(&leaves(9, 0, 9)));
        for (count, by) in (1..).zip(0..10) {
            let out = replica.cosigned(cosign(other.clone(), by), 0, &disk).unwrap();
            let wanted = if count == enough { &[0][..] } else { &[] };
            assert_eq!(rewinds(&out), wanted, "version {version}: {count} cosigned");
        }
    }
}

#[test]
fn a_copy_rewinds_when_more_than_f_operators_are_on_another_branch() {
    let certain = |size| {
        let mut forked = Forked::new(size);
        forked.cosigned(&[0, 1, 2], forked.left(4));
        forked.replica.proven(&log(3));
        forked.replica.peer_up(77, None, 0);
        forked.cosigned(&[1, 2, 3], forked.right(15));
        forked
    };
    let mut forked = certain(10);
    for (peer, why) in
        [(77, "a mirror does not count"), (1, "one may lie"), (1, "also if it repeats it"), (55, "unknown")]
    {
        assert_eq!(rewinds(&forked.wrong(peer)), [0; 0], "{why}");
    }
    assert_eq!(rewinds(&forked.wrong(2)), [4], "to the certified part");
    assert_eq!(rewinds(&forked.wrong(3)), [0; 0], "once");
    assert_eq!(forked.fetches_later(), [], "not before the copy has rewound");
    assert_eq!(certain(10).fetches_later(), [(3, 15)]);

    // Symptom: a copy that had left its branch fetched nothing for a minute. Cause: those who have the other branch were
    // still distrusted for the entries that had shown it.
    let mut forked = certain(10);
    assert_eq!(rewinds(&[1, 2, 3].map(|peer| forked.wrong(peer)).concat()), [4]);
    let mut copy = OwnerBranch::default();
    let head = copy.grow(&forked.left.leaves[..4]);
    forked.disk.0.borrow_mut().insert(log(3), copy);
    let cosigned = forked.replica.cosignatures(&log(3)).cloned().collect();
    let newest = forked.replica.newest(&log(3)).cloned();
    let stored = StoredLog { head, base: 0, adopted: Vec::new(), certified: 4, newest, cosigned, certificate: None };
    forked.replica.restore(&log(3), stored, &forked.disk).unwrap();
    let out = [1, 2].map(|peer| forked.replica.frontier(peer, 0, vec![says(3, 15)], 1, &forked.disk).unwrap());
    let asked = fetches(&[out.concat(), forked.replica.tick(2)].concat());
    assert_eq!(asked, [(3, 15)], "all three are as good as before, and the owner comes first");

    // Symptom: a copy that had left its branch waited a minute for the last entries. Cause: a peer that was still on
    // the other branch when it was asked was distrusted, although it left that branch a moment later.
    let mut forked = certain(10);
    assert_eq!(rewinds(&forked.wrong(3)), [0; 0], "one may lie");
    let out = [1, 2, 3].map(|peer| forked.replica.frontier(peer, 0, vec![says(3, 15)], 1, &forked.disk).unwrap());
    assert_eq!(fetches(&out.concat()), [(1, 15)], "those that did not fail come first");
    let again = [1, 2].map(|peer| forked.replica.fetch_failed(peer, &log(3), FetchFailure::Unanswered, 2)).concat();
    assert_eq!(fetches(&again), [(2, 15), (3, 15)], "and then it is asked again");

    let mut forked = certain(10);
    forked.wrong(1);
    forked.grow(11);
    assert_eq!(rewinds(&forked.wrong(2)), [0; 0], "the copy grew: counted from zero again");
    assert_eq!(rewinds(&forked.wrong(1)), [4]);

    for failure in [FetchFailure::Late, FetchFailure::Unanswered, FetchFailure::Unheld, FetchFailure::Invalid] {
        let mut forked = certain(10);
        let out = [1, 2, 3].map(|peer| forked.replica.fetch_failed(peer, &log(3), failure, 0));
        assert_eq!(rewinds(&out.concat()), [0; 0], "{failure:?}");
    }

    let mut sound = Forked::new(10);
    sound.cosigned(&[1, 2, 3], sound.left(15));
    assert_eq!(
        rewinds(&[1, 2, 3].map(|peer| sound.wrong(peer)).concat()),
        [0; 0],
        "a log without fault has no such head"
    );
    let mut faulty = Forked::new(10);
    faulty.replica.proven(&log(3));
    faulty.cosigned(&[1, 2], faulty.right(15));
    assert_eq!(
        rewinds(&[1, 2, 3].map(|peer| faulty.wrong(peer)).concat()),
        [0; 0],
        "nor has a faulty log of which no quorum cosigned a head"
    );
}

#[test]
fn a_copy_is_brought_to_the_end_of_its_log() {
    let right = |size| move |forked: &Forked| forked.right(size);
    let left = |size| move |forked: &Forked| forked.left(size);
    type End = alloc::boxed::Box<dyn Fn(&Forked) -> Head>;
    let cases: [(u64, u64, End, &[u64]); 8] = [
        (10, 4, alloc::boxed::Box::new(left(10)), &[]),
        (10, 4, alloc::boxed::Box::new(left(12)), &[]),
        (10, 4, alloc::boxed::Box::new(left(8)), &[8]),
        (10, 0, alloc::boxed::Box::new(left(8)), &[8]),
        (10, 4, alloc::boxed::Box::new(right(8)), &[4]),
        (10, 4, alloc::boxed::Box::new(right(10)), &[4]),
        (10, 0, alloc::boxed::Box::new(right(8)), &[0]),
        (10, 4, alloc::boxed::Box::new(right(12)), &[]),
    ];
    for (at, (size, certified, end, wanted)) in cases.into_iter().enumerate() {
        let mut forked = Forked::new(size);
        if certified > 0 {
            forked.cosigned(&[0, 1, 2], forked.left(certified));
        }
        let end = end(&forked);
        let out = forked.ended(end);
        assert_eq!(rewinds(&out), wanted, "case {at}");
        let there = end == forked.left(size);
        assert_eq!(forked.replica.at_ends(), there, "case {at}");
        assert_eq!(forked.replica.certified(&log(3)), if there { size } else { certified }, "case {at}");
        assert_eq!(forked.replica.fault(&log(3)), None, "an end is not a fault");
        let out = forked.replica.tick(1);
        assert!(!out.iter().any(|one| matches!(one, ReplicaOutput::Cosign { .. })), "a log that ends is not cosigned");
    }
}

#[test]
fn a_copy_without_the_end_rewinds_when_more_than_f_operators_are_on_another_branch() {
    let mut forked = Forked::new(10);
    forked.cosigned(&[0, 1, 2], forked.left(4));
    assert_eq!(rewinds(&forked.ended(forked.right(15))), [0; 0]);
    assert_eq!(rewinds(&forked.wrong(1)), [0; 0]);
    assert_eq!(rewinds(&forked.wrong(2)), [4]);
}

#[test]
fn cosignatures_on_a_branch_without_the_end_are_no_fault() {
    let mut forked = Forked::new(10);
    forked.cosigned(&[1, 2], forked.right(12));
    forked.ended(forked.left(15));
    assert_eq!(rewinds(&forked.grow(15)), [0; 0]);
    assert_eq!(forked.replica.fault(&log(3)), None);
    assert_eq!(forked.replica.certified(&log(3)), 15);
}

#[test]
fn a_log_that_is_rolled_back_is_neither_fetched_nor_at_its_end() {
    let mut forked = Forked::new(10);
    forked.cosigned(&[0, 1, 2], forked.left(4));
    assert_eq!(forked.replica.certified(&log(3)), 4);
    forked.ended(Head::EMPTY);
    let stored = StoredLog {
        head: Head::EMPTY,
        base: 0,
        adopted: Vec::new(),
        certified: 0,
        newest: None,
        cosigned: forked.replica.cosignatures(&log(3)).cloned().collect(),
        certificate: None,
    };
    forked.replica.restore(&log(3), stored, &forked.disk).unwrap();
    assert!(forked.replica.at_ends());
    forked.replica.roll_back(&log(3), 4);
    assert!(!forked.replica.at_ends());
    assert_eq!(forked.replica.short_of_end().collect::<Vec<_>>(), [&log(3)]);
    assert_eq!(forked.replica.certified(&log(3)), 4);
    assert_eq!(forked.fetches_later(), []);
}
