//! What a proof of inclusion shows to whoever holds the manifests.
use alloc::vec::Vec;

use crate::adoption::{ADOPTION_BYTES_MAX, Adoption};
use crate::checkpoint::{self, Origin};
use crate::codec;
use crate::entry::{Entry, VerifiedEntry};
use crate::id::Domain;
use crate::limits::ENTRY_BYTES_MAX;
use crate::log::{self, Head};
use crate::manifest::{LogId, Manifest};
use crate::note_quorum::NoteQuorum;

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
    pub certified: Option<CertifiedBy>,
}

/// Why a head can never be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertifiedBy {
    /// Quorums of all versions cosigned it that the log may have adopted there.
    Cosigned {
        /// The newest of them.
        version: u32,
        /// Which of its operators did, each at the time that it says, in seconds since 1970.
        by: Vec<(Domain, u64)>,
    },
    /// It is where the log ends by a manifest.
    Cut,
}

impl TlogProof {
    /// Checks that an entry is in a log of the federation at this index, as the log's owner signed, and says whether
    /// that is final. `extra` is the entry, encoded, and maybe the adoption of a version behind it.
    ///
    /// # Errors
    /// [`TlogProofError`]: then nothing is known of the entry.
    pub fn included(&self, extra: &[u8], manifest: &Manifest) -> Result<Included, TlogProofError> {
        let (entry, adopted) = carried(extra);
        let owner = |origin: &Origin| Some(manifest.log(&log_of(manifest, origin)?)?.node_key);
        let (signed, _) = checkpoint::read_note(&self.checkpoint, owner, |_| None)?;
        let (origin, head) = (&signed.checkpoint().origin, signed.checkpoint().head);
        let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
        log::verify_inclusion(log::leaf_hash(&entry), self.index, &head, &self.path)?;
        let certified = match manifest.cut(&log) {
            Some(cut) if head == cut.head => Some(CertifiedBy::Cut),
            Some(cut) if head.size >= cut.head.size => return Err(TlogProofError::Cut(log)),
            _ => self.cosigned((&log, &head), manifest, adopted.as_ref())?,
        };
        let entry = VerifiedEntry::decode(entry, &manifest.federation())?;
        Ok(Included { log, index: self.index, entry, head, certified })
    }

    /// Who certifies the head, if quorums of all versions cosigned it that may count: those from the one on that the
    /// log is shown to have adopted, or that brought it, and where the adoption's batch is the last, the one before.
    fn cosigned(
        &self,
        (log, head): (&LogId, &Head),
        manifest: &Manifest,
        adopted: Option<&Adoption>,
    ) -> Result<Option<CertifiedBy>, TlogProofError> {
        let since = manifest.log(log).map_or(1, |known| known.since);
        let first = match adopted {
            None => since,
            Some(shown) => {
                let version = shown.version(head, manifest)?.version();
                version.saturating_sub(u32::from(shown.end() == head.size)).max(since)
            }
        };
        let last = manifest.cut(log).map_or(manifest.version(), |cut| cut.adopted);
        let mut found = None;
        // Without the log's row, every version that the log may have adopted counts.
        for version in manifest.versions().filter(|version| (first..=last).contains(&version.version())) {
            let quorum = NoteQuorum::read(&self.checkpoint, log, manifest, version)?;
            if !quorum.is_reached() {
                return Ok(None);
            }
            found = found.or(Some(CertifiedBy::Cosigned { version: quorum.version, by: quorum.cosigners() }));
        }
        Ok(found)
    }
}

/// The entry that a proof carries, encoded, and the adoption behind it.
fn carried(extra: &[u8]) -> (Vec<u8>, Option<Adoption>) {
    let both = codec::decode::<(Entry, Adoption)>(extra, ENTRY_BYTES_MAX.saturating_add(ADOPTION_BYTES_MAX));
    both.map_or_else(|_| (extra.to_vec(), None), |(entry, adopted)| (codec::encode(&entry), Some(adopted)))
}

fn log_of(manifest: &Manifest, origin: &Origin) -> Option<LogId> {
    let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
    (origin.federation == manifest.federation()).then_some(log)
}
