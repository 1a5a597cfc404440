//! Which head a quorum cosigned on one note: what who has no history of the log goes by.
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Cosigned, Replica, ReplicaOutput, Roots};
use crate::adoption::{self, Adopted};
use crate::checkpoint::{Cosignature, SignedCheckpoint};
use crate::log::Head;
use crate::manifest::{LogId, Manifest};
use crate::signed_note::SIGNATURES_MAX;

/// Heads beyond the certificate whose cosignatures are kept, of each log; the smallest go first.
const OPEN_MAX: usize = 64;
/// Cosignatures of a head that are kept: as many as its note has room for.
const COSIGNATURES_MAX: usize = SIGNATURES_MAX - 1;

/// A head that quorums of the versions that count there cosigned ([`adoption::certifying`]), with all cosignatures
/// of it that are known, each by the node key that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The head, signed by the log's owner.
    pub signed: SignedCheckpoint,
    /// Its cosignatures.
    pub cosignatures: BTreeMap<LogId, Cosignature>,
}

impl Certificate {
    /// The head.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.signed.checkpoint().head
    }

    /// Whether that was news.
    fn add(&mut self, cosigned: &Cosigned) -> bool {
        let full = self.cosignatures.len() >= COSIGNATURES_MAX;
        let news = !full && !self.cosignatures.contains_key(&cosigned.by);
        if news {
            self.cosignatures.insert(cosigned.by.clone(), cosigned.cosignature.clone());
        }
        news
    }
}

/// What is known of one log's certificate and of the heads that may take its place.
#[derive(Debug)]
pub(super) struct Certificates {
    newest: Option<Certificate>,
    /// Larger heads, not all of them of this copy's branch.
    open: BTreeMap<Head, Certificate>,
    /// The certificate has more cosignatures than were told.
    grew: bool,
}

impl Certificates {
    pub(super) const fn new() -> Self {
        Self { newest: None, open: BTreeMap::new(), grew: false }
    }

    /// Of what the disk has: the copy may have become smaller since, so that the certificate has to be found anew.
    pub(super) fn restored(stored: Option<Certificate>, cosigned: &[Cosigned]) -> Self {
        let open = stored.into_iter().map(|certificate| (certificate.head(), certificate)).collect();
        let mut restored = Self { open, ..Self::new() };
        cosigned.iter().for_each(|one| restored.add(one));
        restored
    }

    fn size(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.head().size)
    }

    /// Keeps a cosignature of the certificate, or of a larger head.
    pub(super) fn add(&mut self, cosigned: &Cosigned) {
        let head = cosigned.head();
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.head() == head) {
            self.grew |= newest.add(cosigned);
        } else if head.size > self.size() {
            let empty = || Certificate { signed: cosigned.signed.clone(), cosignatures: BTreeMap::new() };
            self.open.entry(head).or_insert_with(empty).add(cosigned);
            if self.open.len() > OPEN_MAX {
                self.open.pop_first();
            }
        }
    }

    /// Of the heads up to `certified` that a quorum cosigned, the largest.
    fn best(&self, certified: u64, quorum: impl Fn(&Certificate) -> bool) -> Option<Head> {
        let mut found = self.open.iter().rev().filter(|(head, one)| head.size <= certified && quorum(one));
        found.next().map(|(head, _)| *head)
    }

    fn take(&mut self, head: Head) {
        self.newest = self.open.remove(&head);
        self.open.retain(|open, _| open.size > head.size);
        self.grew = true;
    }
}

/// Whether quorums of all versions that count at that head cosigned it.
fn has_quorum(one: &Certificate, adopted: &[Adopted], since: u32, manifest: &Manifest) -> bool {
    let signed = |log: &LogId| one.cosignatures.contains_key(log);
    adoption::certifying(adopted, since, one.head().size)
        .all(|version| manifest.at(version).is_some_and(|version| version.has_quorum(signed)))
}

impl<P: Ord + Copy> Replica<P> {
    /// The largest head of this copy that a quorum cosigned on one note; at most its certified size.
    #[must_use]
    pub fn certificate(&self, log: &LogId) -> Option<&Certificate> {
        self.logs.get(log)?.certificates.newest.as_ref()
    }

    /// Takes the largest head that may be the certificate now, and tells of a new one or of new cosignatures.
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
