//! What a proof of inclusion shows to whoever holds the manifests.
use alloc::vec::Vec;

use crate::checkpoint::{self, Origin};
use crate::entry::VerifiedEntry;
use crate::id::Domain;
use crate::log::{self, Head};
use crate::manifest::{LogId, Manifest};

use super::{TlogProof, TlogProofError};

/// An entry of which it is shown that it stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// The log.
    pub log: LogId,
    /// The entry's position in it.
    pub index: u64,
    /// The entry; of an event the author's signature holds. Whether it took effect, only the entries before it say:
    /// an honest owner logs none that does not.
    pub entry: VerifiedEntry,
    /// The head that it lies below, which the log's owner signed.
    pub head: Head,
    /// What makes it final; `None`: nothing but its owner's word does yet.
    pub certified: Option<Certified>,
}

/// Why a head can never be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certified {
    /// A quorum of the operators of this version cosigned it, each at the time that it says, in seconds since 1970.
    Cosigned {
        /// The newest version that the log may have adopted there and of which a quorum cosigned. A proof of
        /// inclusion does not show which version the log had adopted; a profile proof does.
        version: u32,
        /// Who, and when.
        by: Vec<(Domain, u64)>,
    },
    /// It is where the log ends by a manifest.
    Cut,
}

impl TlogProof {
    /// Checks that `entry`, in its encoded form, is in a log of the federation at this index, as the log's owner
    /// signed, and says whether that is final.
    ///
    /// # Errors
    /// [`TlogProofError`]: then nothing is known of the entry.
    pub fn included(&self, entry: &[u8], manifest: &Manifest) -> Result<Included, TlogProofError> {
        let owner = |origin: &Origin| Some(manifest.log(&log_of(manifest, origin)?)?.node_key);
        let (signed, _) = checkpoint::read_note(&self.checkpoint, owner, |_| None)?;
        let (origin, head) = (&signed.checkpoint().origin, signed.checkpoint().head);
        let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
        log::verify_inclusion(log::leaf_hash(entry), self.index, &head, &self.path)?;
        let certified = match manifest.cut(&log) {
            Some(cut) if head == cut.head => Some(Certified::Cut),
            Some(cut) if head.size >= cut.head.size => return Err(TlogProofError::Cut(log)),
            _ => self.cosigned(&log, manifest)?,
        };
        let entry = VerifiedEntry::decode(entry.to_vec(), &manifest.federation())?;
        Ok(Included { log, index: self.index, entry, head, certified })
    }

    /// The newest version that the log may have adopted of which a quorum cosigned.
    fn cosigned(&self, log: &LogId, manifest: &Manifest) -> Result<Option<Certified>, TlogProofError> {
        let since = manifest.log(log).map_or(1, |known| known.since);
        let last = manifest.cut(log).map_or(manifest.version(), |cut| cut.adopted);
        let owner = |_: &Origin| manifest.log(log).map(|known| known.node_key);
        for version in manifest.versions().filter(|version| (since..=last).contains(&version.version())) {
            let key = |name: &Domain| version.operator(name).map(|operator| operator.node_key);
            let (_, cosignatures) = checkpoint::read_note(&self.checkpoint, owner, key)?;
            if cosignatures.len() >= version.quorum() {
                let by = cosignatures.into_iter().map(|one| (one.operator, one.seconds)).collect();
                return Ok(Some(Certified::Cosigned { version: version.version(), by }));
            }
        }
        Ok(None)
    }
}

fn log_of(manifest: &Manifest, origin: &Origin) -> Option<LogId> {
    let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
    (origin.federation == manifest.federation()).then_some(log)
}
