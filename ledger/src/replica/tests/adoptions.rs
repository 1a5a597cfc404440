//! Logs that adopt later versions: which operators' cosignatures certify which part, and what waits for that.
use super::*;

/// Versions 1, 2 and 3 with 4, 7 and 10 operators; the quorums are 3, 5 and 7.
pub(super) fn growing() -> Arc<Manifest> {
    [7, 10].into_iter().fold(manifest(4), |previous, n| {
        let mut draft = previous.draft();
        draft.operators.extend((draft.operators.len()..n).map(operator));
        draft.homes = draft.operators.iter().map(|operator| (operator.name.clone(), operator.log())).collect();
        Arc::new(previous.unsigned_successor(SignedNote { text: draft.text().unwrap(), signatures: vec![] }).unwrap())
    })
}

/// The first operator's copy of another operator's log, with given entries and adoptions.
struct AdoptingMirror {
    replica: Replica<Id>,
    disk: TestDisk,
    manifest: Arc<Manifest>,
    of: usize,
}

impl AdoptingMirror {
    fn new(of: usize, adopted: &[(u32, u64)], size: u64) -> (Self, Vec<ReplicaOutput<Id>>) {
        let (mut replica, disk, manifest) = lone_of(growing());
        let mut branch = OwnerBranch::default();
        let head = branch.grow(&leaves(of, 0, size));
        disk.0.borrow_mut().insert(log(of), branch);
        replica.checkpoint(sign(&manifest, of, head), 0, &disk).unwrap();
        let adopted = adopted.iter().map(|(version, size)| Adopted { version: *version, size: *size }).collect();
        let out = replica.advanced(&log(of), head, adopted, 0, &disk).unwrap();
        (Self { replica, disk, manifest, of }, out)
    }

    /// The operator cosigns the head of the first `size` entries; with 0 it cosigns nothing.
    fn cosign(&mut self, by: usize, size: u64) -> Vec<ReplicaOutput<Id>> {
        if size == 0 {
            return Vec::new();
        }
        let root = self.disk.root_at(&log(self.of), size).unwrap();
        let signed = sign(&self.manifest, self.of, Head { size, root });
        self.replica.cosigned(cosign(signed, by), 0, &self.disk).unwrap()
    }

    fn certified(&self) -> u64 {
        self.replica.certified(&log(self.of))
    }
}

fn cosigns(out: &[ReplicaOutput<Id>]) -> bool {
    out.iter().any(|output| matches!(output, ReplicaOutput::Cosign { .. }))
}

const ONCE: &[(u32, u64)] = &[(1, 2)];
const TWICE: &[(u32, u64)] = &[(1, 2), (2, 10)];
const THRICE: &[(u32, u64)] = &[(1, 2), (2, 10), (3, 20)];

#[test]
fn each_version_certifies_up_to_the_end_of_the_batch_that_leaves_it() {
    /// The log, its adoptions, the sizes that operators cosigned, and the certified size of 30 entries.
    type Case = (usize, &'static [(u32, u64)], &'static [u64], u64);
    let cases: &[Case] = &[
        (3, ONCE, &[30, 30], 0),
        (3, ONCE, &[3, 5, 4], 3),
        (3, ONCE, &[3, 5, 4, 30], 4),
        (3, ONCE, &[30, 30, 30], 30),
        (3, ONCE, &[0, 30, 30, 0, 30, 30, 30, 30, 30, 30], 0),
        (3, TWICE, &[5, 5, 5], 5),
        (3, TWICE, &[9, 30, 30], 9),
        (3, TWICE, &[10, 30, 30], 10),
        (3, TWICE, &[30, 30, 30], 10),
        (3, TWICE, &[30, 30, 30, 30], 10),
        (3, TWICE, &[30, 30, 10, 0, 30, 30, 30], 30),
        (3, TWICE, &[30, 30, 30, 15, 30], 15),
        (3, TWICE, &[0, 30, 30, 0, 30, 30, 30], 0),
        (3, TWICE, &[9, 30, 30, 0, 30, 30, 30], 9),
        (3, TWICE, &[10, 10, 10, 30, 30, 30, 30], 10),
        (3, TWICE, &[11, 11, 11, 30, 30, 30, 30], 11),
        (3, TWICE, &[30, 30, 30, 30, 0, 0, 0, 30, 30, 30], 10),
        (3, THRICE, &[30, 30, 30, 30], 10),
        (3, THRICE, &[30, 30, 30, 30, 19], 19),
        (3, THRICE, &[30, 30, 30, 30, 30], 20),
        (3, THRICE, &[30, 30, 30, 30, 30, 30], 20),
        (3, THRICE, &[30, 30, 30, 30, 30, 25, 30], 25),
        (3, THRICE, &[30, 30, 30, 0, 0, 0, 0, 30, 30, 30], 10),
        (3, THRICE, &[0, 0, 30, 30, 30, 30, 30, 30, 30, 30], 0),
        (3, THRICE, &[20, 20, 20, 20, 20, 30, 30, 30, 30, 30], 20),
        (4, &[(2, 2)], &[30, 30, 30, 30], 0),
        (4, &[(2, 2)], &[30, 30, 30, 30, 7], 7),
        (4, &[(2, 2), (3, 10)], &[30, 30, 30, 30, 30], 10),
        (4, &[(2, 2), (3, 10)], &[30, 30, 30, 30, 30, 12, 12], 12),
    ];
    for (at, (of, adopted, sizes, wanted)) in cases.iter().enumerate() {
        for backwards in [false, true] {
            let (mut mirror, _) = AdoptingMirror::new(*of, adopted, 30);
            let mut order: Vec<_> = sizes.iter().copied().enumerate().collect();
            if backwards {
                order.reverse();
            }
            order.into_iter().for_each(|(by, size)| drop(mirror.cosign(by, size)));
            assert_eq!(mirror.certified(), *wanted, "case {at}: {sizes:?}");
        }
    }
}

#[test]
fn a_cosignature_beyond_the_copy_certifies_nothing_until_the_copy_is_there() {
    let (mut mirror, _) = AdoptingMirror::new(3, ONCE, 30);
    let mut longer = mirror.disk.branch(&log(3));
    let head = longer.grow(&leaves(3, 30, 10));
    let signed = sign(&mirror.manifest, 3, head);
    for by in 1..4 {
        mirror.replica.cosigned(cosign(signed.clone(), by), 0, &mirror.disk).unwrap();
    }
    assert_eq!(mirror.certified(), 0);
    mirror.disk.0.borrow_mut().insert(log(3), longer);
    let out = mirror.replica.advanced(&log(3), head, Vec::new(), 0, &mirror.disk).unwrap();
    assert!(out.contains(&ReplicaOutput::Certified { log: log(3), size: 40 }), "{out:?}");
}

#[test]
fn nobody_cosigns_beyond_an_adoption_that_is_not_certified() {
    for (adopted, size, certified, wanted) in [
        (&[][..], 30, 0, true),
        (ONCE, 30, 0, true),
        (TWICE, 30, 0, false),
        (TWICE, 30, 9, false),
        (TWICE, 30, 10, true),
        (TWICE, 10, 0, true),
        (TWICE, 10, 9, true),
        (THRICE, 30, 10, false),
        (THRICE, 30, 19, false),
        (THRICE, 30, 20, true),
        (THRICE, 20, 9, false),
        (THRICE, 20, 10, true),
    ] {
        let (mut mirror, mut out) = AdoptingMirror::new(3, adopted, size);
        (1..6).for_each(|by| out.extend(mirror.cosign(by, certified)));
        assert_eq!(mirror.certified(), certified);
        assert!(wanted || !cosigns(&out), "{adopted:?}: {certified} of {size}");
        assert_eq!(cosigns(&mirror.replica.tick(1)), wanted, "{adopted:?}: {certified} of {size}");
    }
}

#[test]
fn a_certificate_at_the_end_of_an_adoption_has_both_quorums() {
    let (mut mirror, _) = AdoptingMirror::new(3, TWICE, 30);
    let size = |mirror: &AdoptingMirror| mirror.replica.certificate(&log(3)).map(|one| one.head().size);
    (1..4).for_each(|by| drop(mirror.cosign(by, 10)));
    assert_eq!((mirror.certified(), size(&mirror)), (10, None), "3 of 7 operators of version 2");
    mirror.cosign(4, 10);
    mirror.cosign(5, 10);
    assert_eq!(size(&mirror), Some(10));
    let (mut mirror, _) = AdoptingMirror::new(3, TWICE, 30);
    [3, 4, 5, 6, 2].into_iter().for_each(|by| drop(mirror.cosign(by, 10)));
    assert_eq!((mirror.certified(), size(&mirror)), (0, None), "2 of 4 operators of version 1");
    mirror.cosign(1, 10);
    assert_eq!(size(&mirror), Some(10));
    [3, 4, 5, 6, 2].into_iter().for_each(|by| drop(mirror.cosign(by, 30)));
    assert_eq!(size(&mirror), Some(30), "beyond it, a quorum of version 2 is enough");
}

/// Symptom: a reader accepted a head that a quorum of the version adopted there had cosigned, and a cut undid it.
/// Cause: a quorum of the previous version had not certified the adoption. An owner that appended entries in the
/// meantime would leave its followers with copies that they may not cosign.
#[test]
fn an_owner_accepts_nothing_before_its_adoption_is_certified() {
    let waits = |own: &AdoptingMirror| own.replica.may_write(1) == Err(WaitReason::Adopting);
    for (adopted, certified, wanted) in [
        (ONCE, 0, false),
        (TWICE, 0, true),
        (TWICE, 9, true),
        (TWICE, 10, false),
        (THRICE, 10, true),
        (THRICE, 20, false),
    ] {
        let (mut own, _) = AdoptingMirror::new(0, adopted, 30);
        (1..6).for_each(|by| drop(own.cosign(by, certified)));
        assert_eq!((own.certified(), waits(&own)), (certified, wanted), "{adopted:?}: {certified}");
    }
}

#[test]
fn an_owner_adopts_nothing_before_its_last_adoption_is_certified() {
    for (adopted, certified, wanted) in [
        (&[][..], 0, true),
        (ONCE, 0, false),
        (ONCE, 1, false),
        (ONCE, 2, true),
        (TWICE, 2, false),
        (TWICE, 9, false),
        (TWICE, 10, true),
    ] {
        let (mut own, _) = AdoptingMirror::new(0, adopted, 30);
        (1..4).for_each(|by| drop(own.cosign(by, certified)));
        assert_eq!(own.certified(), certified);
        assert_eq!(own.replica.may_adopt(), wanted, "{adopted:?}: {certified}");
        assert!(!own.replica.has_adopted(), "version 3 is in use");
    }
    let (own, _) = AdoptingMirror::new(0, THRICE, 30);
    assert!(own.replica.has_adopted());
    let mirror: Replica<Id> = Replica::new(growing(), None, Vec::new());
    assert!(!mirror.may_adopt() && !mirror.has_adopted());
}

/// Symptom: a version was taken up while a log had not adopted the one before, and nobody could cut it later. The copy
/// here must be waited for until its adoption of the version in use is certified, unless it comes to that of the next
/// version, has a fault, or is cut or so new that it need not adopt.
#[test]
fn the_next_version_waits_for_certified_adoptions_of_the_one_in_use() {
    let waits = |mirror: &AdoptingMirror| {
        let draft = mirror.manifest.draft();
        let note = SignedNote { text: draft.text().unwrap(), signatures: vec![] };
        let next = mirror.manifest.unsigned_successor(note).unwrap();
        mirror.replica.behind(&next).any(|log| *log == super::log(mirror.of))
    };
    for (of, adopted, certified, wanted) in [
        (3, &[][..], 0, true),
        (3, ONCE, 30, true),
        (3, TWICE, 30, true),
        (3, THRICE, 10, true),
        (3, THRICE, 19, true),
        (3, THRICE, 20, false),
        (4, &[(2, 2)], 30, true),
        (4, &[(2, 2), (3, 10)], 10, false),
        (8, &[], 0, false),
        (8, &[(3, 2)], 0, false),
    ] {
        let (mut mirror, _) = AdoptingMirror::new(of, adopted, 30);
        (0..6).for_each(|by| drop(mirror.cosign(by, certified)));
        assert_eq!(waits(&mirror), wanted, "{of}: {adopted:?}, {certified}");
    }
    let lagging = || AdoptingMirror::new(3, TWICE, 30).0;
    let mut continued = lagging();
    continued.replica.fetch_failed(1, &log(3), FetchFailure::Unheld, 0);
    assert!(!waits(&continued), "its adoption of the next version is known");
    let mut faulty = lagging();
    faulty.replica.proven(&log(3));
    assert!(!waits(&faulty), "its owner signed two branches");
}
