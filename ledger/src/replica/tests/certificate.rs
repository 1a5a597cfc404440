//! The certificate of a log as cosignatures arrive one by one.
use super::*;

/// A mirror in a federation of four, and log 3 with everything that its owner appended.
struct CertifiedMirror {
    manifest: Arc<Manifest>,
    replica: Replica<Id>,
    disk: TestDisk,
    branch: OwnerBranch,
}

impl CertifiedMirror {
    fn new() -> Self {
        let manifest = manifest(4);
        let replica = Replica::new(Arc::clone(&manifest), None, Vec::new());
        Self { manifest, replica, disk: TestDisk::default(), branch: OwnerBranch::default() }
    }

    fn grown(&mut self) -> SignedCheckpoint {
        let from = self.branch.head().size;
        sign(&self.manifest, 3, self.branch.grow(&leaves(3, from, 2)))
    }

    /// The copy catches up with the owner.
    fn advanced(&mut self) {
        self.disk.0.borrow_mut().insert(log(3), self.branch.clone());
        self.replica.advanced(&log(3), self.branch.head(), Vec::new(), 0, &self.disk).unwrap();
    }

    fn cosigned(&mut self, head: &SignedCheckpoint, i: usize) -> Option<(u64, usize)> {
        self.replica.cosigned(cosign(head.clone(), i), 0, &self.disk).unwrap();
        self.certificate()
    }

    /// The certificate's size and number of cosignatures.
    fn certificate(&self) -> Option<(u64, usize)> {
        let one = self.replica.certificate(&log(3))?;
        Some((one.head().size, one.cosignatures.len()))
    }
}

#[test]
fn no_operators_newest_head_needs_to_be_the_certificate() {
    let mut mirror = CertifiedMirror::new();
    let heads = [mirror.grown(), mirror.grown(), mirror.grown(), mirror.grown()];
    mirror.advanced();
    assert_eq!(mirror.cosigned(&heads[1], 0), None);
    assert_eq!(mirror.cosigned(&heads[0], 1), None);
    assert_eq!(mirror.cosigned(&heads[2], 0), None, "the copy is beyond it already");
    assert_eq!(mirror.cosigned(&heads[1], 1), None);
    assert_eq!(mirror.cosigned(&heads[3], 1), None, "beyond this one too");
    assert_eq!(mirror.cosigned(&heads[1], 2), Some((4, 3)), "the third cosignature makes it the certificate");
    assert_eq!(mirror.replica.certified(&log(3)), 4);
    assert_eq!(mirror.cosigned(&heads[1], 3), Some((4, 4)), "a later one is added");
    assert_eq!(mirror.cosigned(&heads[2], 2), Some((4, 4)), "certified to 6, by heads of 6 and 8");
    assert_eq!(mirror.replica.certified(&log(3)), 6);
    assert_eq!(mirror.cosigned(&heads[2], 3), Some((6, 3)));
    assert_eq!(mirror.cosigned(&heads[3], 2), Some((6, 3)));
    assert_eq!(mirror.cosigned(&heads[3], 3), Some((8, 3)));
}

#[test]
fn a_certificate_waits_for_the_copy_and_is_of_its_branch() {
    let mut mirror = CertifiedMirror::new();
    let other = sign(&mirror.manifest, 3, OwnerBranch::default().grow(&leaves(9, 0, 4)));
    let heads = [mirror.grown(), mirror.grown()];
    for i in 0..3 {
        assert_eq!(mirror.cosigned(&heads[0], i), None, "the copy is empty yet");
    }
    mirror.advanced();
    assert_eq!(mirror.certificate(), Some((2, 3)));
    for i in 0..3 {
        assert_eq!(mirror.cosigned(&other, i), Some((2, 3)), "a branch that this copy is not on");
    }
}

#[test]
fn a_restart_keeps_the_certificate_unless_the_copy_became_smaller() {
    let mut mirror = CertifiedMirror::new();
    let heads = [mirror.grown(), mirror.grown()];
    let restored = |head: Head, disk: &TestDisk| {
        let mut replica: Replica<Id> = Replica::new(manifest(4), None, Vec::new());
        let cosigned = (0..3).map(|i| cosign(heads[1].clone(), i)).collect();
        let certificate = Some(certificate(&heads[0], &[1, 2, 3]));
        let stored =
            StoredLog { head, base: 0, adopted: Vec::new(), certified: 2, newest: None, cosigned, certificate };
        replica.restore(&log(3), stored, disk).unwrap();
        replica.certificate(&log(3)).map(|one| (one.head().size, one.cosignatures.len()))
    };
    let branch = |count: u64| {
        let mut branch = OwnerBranch::default();
        let head = branch.grow(&leaves(3, 0, count));
        let disk = TestDisk::default();
        disk.0.borrow_mut().insert(log(3), branch);
        (head, disk)
    };
    for (entries, expect) in [(4, Some((4, 3))), (3, Some((2, 3))), (2, Some((2, 3))), (1, None)] {
        let (head, disk) = branch(entries);
        assert_eq!(restored(head, &disk), expect, "{entries}");
    }
}

#[test]
fn heads_short_of_a_quorum_are_bounded() {
    let mut mirror = CertifiedMirror::new();
    let heads: Vec<_> = (0..70).map(|_| mirror.grown()).collect();
    mirror.advanced();
    for head in &heads {
        mirror.cosigned(head, 0);
    }
    assert_eq!(mirror.cosigned(&heads[5], 1), None);
    assert_eq!(mirror.cosigned(&heads[5], 2), None, "its first cosignature was dropped");
    assert_eq!(mirror.cosigned(&heads[6], 1), None);
    assert_eq!(mirror.cosigned(&heads[6], 2), Some((14, 3)));
}

#[test]
fn a_certificate_that_a_peer_shows_is_taken_if_it_is_larger() {
    let mut mirror = CertifiedMirror::new();
    let heads = [mirror.grown(), mirror.grown(), mirror.grown(), mirror.grown()];
    mirror.advanced();
    let cosigned = vec![cosign(heads[3].clone(), 0), cosign(heads[2].clone(), 1), cosign(heads[1].clone(), 2)];
    // Its cosigners met there, and have cosigned larger heads since; this node missed their cosignatures.
    mirror.replica.peer_up(0, Some(name(0)), 0);
    let mut shown = |certificate: Certificate| {
        let has = PeerLog { cosigned: cosigned.clone(), certificate: Some(certificate), ..says(3, 8) };
        mirror.replica.frontier(0, 0, vec![has], 0, &mirror.disk).unwrap();
        mirror.certificate()
    };
    assert_eq!(shown(certificate(&heads[1], &[0])), None, "no quorum, with the one that is known");
    assert_eq!(shown(certificate(&heads[1], &[0, 1, 2])), Some((4, 3)));
    assert_eq!(shown(certificate(&heads[0], &[0, 1, 2])), Some((4, 3)), "smaller");
    assert_eq!(shown(certificate(&heads[3], &[0, 1, 2])), Some((4, 3)), "larger than what is certified here");
}
