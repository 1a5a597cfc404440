//! Of which versions quorums must have cosigned a head before it is final, for whom has only the note of it.
//!
//! One quorum is enough beyond the batch by which the log adopted a version: nobody honest cosigns there before the
//! adoption is certified, so that what lies below it is. At the end of that batch it takes the version before too.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::codec;
use crate::entry::{Body, Entry};
use crate::limits::ENTRY_BYTES_MAX;
use crate::log::{self, Hash, Head, PROOF_HASHES_MAX, TreeProofError};
use crate::manifest::Manifest;

/// Entries of the batch that adopts a version: the adoption and the state.
const BATCH_ENTRIES: u64 = 2;

/// Longest adoption, encoded, in bytes.
pub(crate) const ADOPTION_BYTES_MAX: usize = 8 + 8 + ENTRY_BYTES_MAX + 8 + PROOF_HASHES_MAX * size_of::<Hash>();

/// A version that a log adopted, and the size behind the batch that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Adopted {
    /// The version.
    pub version: u32,
    /// Entries up to the state entry behind the adoption.
    pub size: u64,
}

/// The versions of which a quorum each must have cosigned a head of `size` entries on one note, of a log that
/// version `since` brought and that adopted these in their order.
pub fn certifying(adopted: &[Adopted], since: u32, size: u64) -> impl Iterator<Item = u32> {
    let at = |size| adopted.iter().rev().find(|one| one.size <= size).map_or(since, |one| one.version);
    let (there, before) = (at(size), at(size.saturating_sub(1)));
    [there].into_iter().chain(Some(before).filter(|before| *before != there))
}

/// The entry by which a log adopted a version, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Adoption {
    /// Its position in the log.
    pub index: u64,
    /// The entry, encoded.
    pub entry: Vec<u8>,
    /// Leads from it to the head, at most 64 hashes.
    pub path: Vec<Hash>,
}

/// Why it stays open which version's quorum counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptionError {
    /// Nothing shows where the log adopted the version.
    #[error("nothing shows where the log adopted version {0}")]
    Missing(u32),
    /// The version that brought the log needs no showing.
    #[error("version {0} brought the log: its adoption has no place here")]
    Superfluous(u32),
    /// The entry adopts no version that is held, or another one, or lies at the wrong place.
    #[error("the entry does not adopt that version in a batch below the head")]
    Entry,
    /// The entry is not in the log at this head.
    #[error(transparent)]
    Path(#[from] TreeProofError),
}

impl AdoptionError {
    /// The stable name of this error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "adoption_missing",
            Self::Superfluous(_) => "adoption_superfluous",
            Self::Entry => "adoption_entry",
            Self::Path(error) => error.code(),
        }
    }
}

impl Adoption {
    /// The version that the log with this head adopted so.
    ///
    /// # Errors
    /// [`AdoptionError`]
    pub fn version<'m>(&self, head: &Head, manifest: &'m Manifest) -> Result<&'m Manifest, AdoptionError> {
        let entry = codec::decode(&self.entry, ENTRY_BYTES_MAX).map_err(|_| AdoptionError::Entry)?;
        let Entry { body: Body::Adopt { version, manifest: hash }, .. } = entry else {
            return Err(AdoptionError::Entry);
        };
        let version = manifest.at(version).filter(|version| version.hash() == hash && self.end() <= head.size);
        log::verify_inclusion(log::leaf_hash(&self.entry), self.index, head, &self.path)?;
        version.ok_or(AdoptionError::Entry)
    }

    /// The size behind its batch.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.index.saturating_add(BATCH_ENTRIES)
    }
}

/// As [`certifying`], of a log that had adopted `version` at `head` as its own row says: the versions, of which the
/// first is that one.
///
/// # Errors
/// [`AdoptionError`]; a version that did not bring the log has to be `shown`, and no other.
pub fn certifying_at<'m>(
    manifest: &'m Manifest,
    since: u32,
    version: &'m Manifest,
    head: &Head,
    shown: Option<&Adoption>,
) -> Result<Vec<&'m Manifest>, AdoptionError> {
    let number = version.version();
    let Some(shown) = shown else {
        return if number == since { Ok(Vec::from([version])) } else { Err(AdoptionError::Missing(number)) };
    };
    if number == since {
        return Err(AdoptionError::Superfluous(number));
    }
    if shown.version(head, manifest)?.version() != number {
        return Err(AdoptionError::Entry);
    }
    let before = Some(number.saturating_sub(1)).filter(|_| shown.end() == head.size);
    Ok([version].into_iter().chain(before.and_then(|before| manifest.at(before))).collect())
}

/// The place behind whose batch the log adopted `version`, as [`Adoption::index`] counts; `None` of what is no batch.
#[must_use]
pub fn index_of(adopted: &Adopted) -> Option<u64> {
    adopted.size.checked_sub(BATCH_ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_versions_count_at_the_end_of_an_adoption() {
        let adopted = |pairs: &[(u32, u64)]| -> Vec<Adopted> {
            pairs.iter().map(|(version, size)| Adopted { version: *version, size: *size }).collect()
        };
        let (first, later) = (adopted(&[(1, 2)]), adopted(&[(3, 2), (4, 10), (5, 12)]));
        for (adopted, since, size, wanted) in [
            (&first, 1, 2, &[1][..]),
            (&first, 1, 30, &[1]),
            (&later, 3, 2, &[3]),
            (&later, 3, 9, &[3]),
            (&later, 3, 10, &[4, 3]),
            (&later, 3, 11, &[4]),
            (&later, 3, 12, &[5, 4]),
            (&later, 3, 13, &[5]),
        ] {
            let found: Vec<u32> = certifying(adopted, since, size).collect();
            assert_eq!(found, wanted, "{size} of {adopted:?}");
        }
    }
}
