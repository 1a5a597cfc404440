//! The certificate of a log: the largest head that a quorum cosigned on one note. Readers without the log's history
//! rely on it.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Cosigned, Replica, ReplicaOutput, Roots};
use crate::adoption::{self, Adopted};
use crate::checkpoint::{Cosignature, SignedCheckpoint};
use crate::log::Head;
use crate::manifest::{LogId, Manifest};
use crate::signed_note::SIGNATURES_MAX;

/// Most heads per log, larger than the certificate's, whose cosignatures are kept.
const OPEN_MAX: usize = 64;
/// Most cosignatures kept for a head: as many as its note has room for next to the owner's signature.
const COSIGNATURES_MAX: usize = SIGNATURES_MAX - 1;

/// A head cosigned by quorums of all versions that count there ([`adoption::certifying`]), with its known
/// cosignatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// The cosignatures of the head, by the node key that made each.
    pub cosignatures: BTreeMap<LogId, Cosignature>,
}

impl Certificate {
    /// The size and root of the certified head.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.signed.checkpoint().head
    }

    /// Whether a quorum of this version cosigned the head.
    pub(super) fn has_quorum(&self, version: &Manifest) -> bool {
        version.has_quorum(|log| self.cosignatures.contains_key(log))
    }

    /// Adds a cosignature if there is room; returns whether its key is new. Of one key the newest is kept.
    fn add(&mut self, cosigned: &Cosigned) -> bool {
        let full = self.cosignatures.len() >= COSIGNATURES_MAX;
        match self.cosignatures.get_mut(&cosigned.by) {
            Some(known) if known.seconds < cosigned.cosignature.seconds => *known = cosigned.cosignature.clone(),
            Some(_) => {}
            None if full => {}
            None => {
                self.cosignatures.insert(cosigned.by.clone(), cosigned.cosignature.clone());
                return true;
            }
        }
        false
    }
}

/// One log's certificate, and the larger heads that may replace it.
#[derive(Debug)]
pub(super) struct Certificates {
    newest: Option<Certificate>,
    /// Larger heads, possibly on another branch than this copy.
    open: BTreeMap<Head, Certificate>,
    /// The certificate changed since the caller last received it.
    grew: bool,
    /// It has newer cosignatures than the caller last received.
    renewed: bool,
}

impl Certificates {
    pub(super) const fn new() -> Self {
        Self { newest: None, open: BTreeMap::new(), grew: false, renewed: false }
    }

    /// Restores from disk. The copy may have become smaller since, so the certificate is only a candidate again.
    pub(super) fn restored(stored: Option<Certificate>, cosigned: &[Cosigned]) -> Self {
        let open = stored.into_iter().map(|certificate| (certificate.head(), certificate)).collect();
        let mut restored = Self { open, ..Self::new() };
        cosigned.iter().for_each(|one| restored.add(one));
        restored
    }

    fn size(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.head().size)
    }

    /// Keeps a cosignature if its head is the certificate's or a larger one.
    pub(super) fn add(&mut self, cosigned: &Cosigned) {
        let head = cosigned.head();
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.head() == head) {
            self.grew |= newest.add(cosigned);
        } else if head.size > self.size() {
            let empty = || Certificate { signed: cosigned.signed.clone(), cosignatures: BTreeMap::new() };
            self.open.entry(head).or_insert_with(empty).add(cosigned);
        }
    }

    /// Drops the smallest heads if there are too many, but not the largest that a quorum of `version` cosigned: however
    /// many heads an owner signs on another branch, that one stays known.
    pub(super) fn trim(&mut self, version: &Manifest) {
        let surplus = self.open.len().saturating_sub(OPEN_MAX);
        if surplus > 0 {
            let stays = self.best(u64::MAX, |one| one.has_quorum(version));
            let smallest: Vec<Head> =
                self.open.keys().filter(|head| Some(**head) != stays).take(surplus).copied().collect();
            self.open.retain(|head, _| !smallest.contains(head));
        }
    }

    /// Replaces a cosignature by a renewed one of the same head and key.
    pub(super) fn renew(&mut self, cosigned: &Cosigned) {
        let newest = self.newest.as_mut().filter(|newest| newest.head() == cosigned.head());
        self.renewed |= newest.is_some();
        let of_head = newest.or_else(|| self.open.get_mut(&cosigned.head()));
        if let Some(known) = of_head.and_then(|one| one.cosignatures.get_mut(&cosigned.by)) {
            *known = cosigned.cosignature.clone();
        }
    }

    /// The certificate, if its cosignatures were renewed since the last call.
    pub(super) fn take_renewed(&mut self) -> Option<Certificate> {
        core::mem::take(&mut self.renewed).then(|| self.newest.clone()).flatten()
    }

    /// The largest head up to size `certified` for which `quorum` holds.
    pub(super) fn best(&self, certified: u64, quorum: impl Fn(&Certificate) -> bool) -> Option<Head> {
        let mut found = self.open.iter().rev().filter(|(head, one)| head.size <= certified && quorum(one));
        found.next().map(|(head, _)| *head)
    }

    fn take(&mut self, head: Head) {
        self.newest = self.open.remove(&head);
        self.open.retain(|open, _| open.size > head.size);
        self.grew = true;
    }
}

/// Whether quorums of all versions that count at the head cosigned it.
fn has_quorum(one: &Certificate, adopted: &[Adopted], since: u32, manifest: &Manifest) -> bool {
    adoption::certifying(adopted, since, one.head().size)
        .all(|version| manifest.at(version).is_some_and(|version| one.has_quorum(version)))
}

impl<P: Ord + Copy> Replica<P> {
    /// The largest head of this copy that a quorum cosigned on one note. Never beyond the certified size.
    #[must_use]
    pub fn certificate(&self, log: &LogId) -> Option<&Certificate> {
        self.logs.get(log)?.certificates.newest.as_ref()
    }

    /// The time, in seconds since 1970, that the clocks of a quorum had reached when they last cosigned the log's
    /// certificate; `None` without one.
    #[must_use]
    pub fn as_of(&self, log: &LogId) -> Option<u64> {
        let copy = self.logs.get(log)?;
        let certificate = copy.certificates.newest.as_ref()?;
        let version = copy.version(&self.manifest)?;
        let cosigned = version.operators().iter().filter_map(|one| certificate.cosignatures.get(&one.log()));
        let mut times: Vec<u64> = cosigned.map(|one| one.seconds).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(version.quorum().checked_sub(1)?).copied()
    }

    /// A peer shows its certificate. It may be of a head that cosigners met at and have left since, or of another
    /// branch than this copy's.
    pub(super) fn shown_certificate<R: Roots>(
        &mut self,
        log: &LogId,
        shown: Option<Certificate>,
        now: u64,
        roots: &R,
    ) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let since = self.manifest.log(log).map_or(1, |known| known.since);
        let copy = self.logs.get_mut(log).filter(|copy| copy.end.is_none());
        let Some((copy, Certificate { signed, cosignatures })) = copy.zip(shown) else { return Ok(Vec::new()) };
        // After a start the own certificate may wait for the copy, and is not given up for a smaller one.
        let quorum = |one: &Certificate| has_quorum(one, &copy.adopted, since, &self.manifest);
        if copy.certificates.best(u64::MAX, quorum).is_some_and(|own| own.size >= signed.checkpoint().head.size) {
            // The fault that makes a copy leave its branch may have become known since that one was shown.
            return Ok(Vec::from_iter(self.leave_branch(log, roots)?));
        }
        for (by, cosignature) in cosignatures {
            copy.certificates.add(&Cosigned { signed: signed.clone(), by, cosignature });
        }
        if let Some(version) = copy.version(&self.manifest) {
            copy.certificates.trim(version);
        }
        let mut out = self.checkpoint(signed, now, roots)?;
        out.extend(self.certificates(log, roots)?);
        out.extend(self.leave_branch(log, roots)?);
        Ok(out)
    }

    /// Makes the largest eligible head the certificate; returns it if it is new or has new cosignatures.
    pub(super) fn certificates<R: Roots>(&mut self, log: &LogId, roots: &R) -> Result<Vec<ReplicaOutput<P>>, R::Error> {
        let since = self.manifest.log(log).map_or(1, |known| known.since);
        loop {
            let Some(copy) = self.logs.get(log) else { return Ok(Vec::new()) };
            let quorum = |one: &Certificate| has_quorum(one, &copy.adopted, since, &self.manifest);
            let Some(head) = copy.certificates.best(copy.certified, quorum) else { break };
            let on_branch = self.on_branch(log, &head, roots)?;
            let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
            match on_branch {
                Some(true) => copy.certificates.take(head),
                _ => drop(copy.certificates.open.remove(&head)),
            }
        }
        let Some(copy) = self.logs.get_mut(log) else { return Ok(Vec::new()) };
        let grew = core::mem::take(&mut copy.certificates.grew);
        let certificate = copy.certificates.newest.as_ref().filter(|_| grew).cloned();
        Ok(certificate.into_iter().map(|certificate| ReplicaOutput::KeepCertificate { certificate }).collect())
    }
}
