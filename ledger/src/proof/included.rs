//! What a proof of inclusion shows to a reader that holds the manifests.
use alloc::string::ToString as _;
use alloc::vec::Vec;

use serde_json::{Value, json};

use crate::adoption::{ADOPTION_BYTES_MAX, Adoption};
use crate::checkpoint::{self, Origin};
use crate::codec;
use crate::entry::{Entry, VerifiedEntry};
use crate::id::Domain;
use crate::limits::ENTRY_BYTES_MAX;
use crate::log::{self, Head};
use crate::manifest::{LogId, Manifest};
use crate::note_quorum::NoteReading;
use crate::time::Millis;

use super::{TlogProof, TlogProofError};

/// An entry that a proof shows to be in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// The log that has the entry.
    pub log: LogId,
    /// The entry's index in the log, from 0.
    pub index: u64,
    /// The entry; if it is an event, the author's signature is valid. Whether the event took effect depends on earlier
    /// entries; an honest owner logs only events that do.
    pub entry: VerifiedEntry,
    /// The head above the entry, signed by the log's owner.
    pub head: Head,
    /// What makes the head final; `None`: so far only the owner has signed it.
    pub certified: Option<CertifiedBy>,
}

/// Why a head can never be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertifiedBy {
    /// Quorums of all versions that the log may have adopted there cosigned it.
    Cosigned {
        /// The newest of these versions.
        version: u32,
        /// The operators of that version that cosigned, each with the time on its cosignature in seconds since 1970.
        by: Vec<(Domain, u64)>,
    },
    /// A manifest cuts the log at this head.
    Cut,
}

impl Included {
    /// What the proof shows: the object that `fama verify --json` and the module `fama` for Python give.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let event = self.entry.event();
        let mut json = json!({
            "proven": true, "kind": "event", "event": event.map(|event| event.id().to_string()).unwrap_or_default(),
            "log": self.log.to_string(), "index": self.index, "time": self.entry.time.to_string(), "size": self.head.size,
            "final": self.certified.is_some(),
        });
        if let Some(more) = json.as_object_mut() {
            if let Some(event) = event {
                more.insert("text".to_string(), json!(event.event().text()));
            }
            if let Some(CertifiedBy::Cosigned { version, by }) = &self.certified {
                let time = |seconds: u64| Millis(seconds.saturating_mul(1_000)).to_string();
                let by = by.iter().map(|(by, at)| json!({"operator": by.as_str(), "time": time(*at)}));
                more.insert("manifest_version".to_string(), json!(version));
                more.insert("cosigned".to_string(), by.collect());
            }
        }
        json
    }
}

impl TlogProof {
    /// Checks that an entry is in a log of the federation at this index, below a head that the log's owner signed, and
    /// whether that head is final. `extra` is the encoded entry, optionally followed by an encoded adoption.
    ///
    /// # Errors
    /// [`TlogProofError`]: then nothing is known about the entry.
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

    /// The cosigners of the head, if quorums of all versions that may count cosigned it.
    ///
    /// These are the versions from the one that the shown adoption names, or without it the one that introduced the
    /// log. If the adopting batch is the last one below the head, the version before it counts as well.
    fn cosigned(
        &self,
        (log, head): (&LogId, &Head),
        manifest: &Manifest,
        adopted: Option<&Adoption>,
    ) -> Result<Option<CertifiedBy>, TlogProofError> {
        let since = manifest.log(log).map_or(1, |known| known.since);
        let (shown, first) = match adopted {
            None => (since, since),
            Some(shown) => {
                let version = shown.version(head, manifest)?.version();
                (version, version.saturating_sub(u32::from(shown.end() == head.size)).max(since))
            }
        };
        let last = manifest.cut(log).map_or(manifest.version(), |cut| cut.adopted);
        let (mut found, mut reading) = (None, NoteReading::of(&self.checkpoint, log, manifest)?);
        // The log's own row, which names the adopted version, is not here: every possible version counts.
        for version in manifest.versions().filter(|version| (first..=last).contains(&version.version())) {
            let quorum = reading.quorum(version)?;
            if !quorum.is_reached() {
                return Ok(None);
            }
            found = found.or(Some(CertifiedBy::Cosigned { version: quorum.version, by: quorum.cosigners() }));
        }
        // Who keeps the retired keys of that version, and what he keeps them for, nobody can tell.
        let wanted = manifest.adopted_min(log);
        if shown < wanted && manifest.cut(log).is_none() {
            return Err(TlogProofError::Outdated { log: log.clone(), adopted: shown, wanted });
        }
        Ok(found)
    }
}

/// The encoded entry that a proof carries, and the adoption after it, if any.
fn carried(extra: &[u8]) -> (Vec<u8>, Option<Adoption>) {
    let both = codec::decode::<(Entry, Adoption)>(extra, ENTRY_BYTES_MAX.saturating_add(ADOPTION_BYTES_MAX));
    both.map_or_else(|_| (extra.to_vec(), None), |(entry, adopted)| (codec::encode(&entry), Some(adopted)))
}

fn log_of(manifest: &Manifest, origin: &Origin) -> Option<LogId> {
    let log = LogId { operator: origin.operator.clone(), generation: origin.generation };
    (origin.federation == manifest.federation()).then_some(log)
}
