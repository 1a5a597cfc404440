//! Which versions' quorums must cosign a head before a reader who holds only its note may call it final.
//!
//! Beyond the batch in which the log adopted a version, one quorum is enough: no honest operator cosigns there before
//! the adoption is certified, so everything below it is certified too. For a head at the very end of that batch, a
//! quorum of the version before is needed as well.
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::codec;
use crate::entry::{Body, Entry};
use crate::limits::ENTRY_BYTES_MAX;
use crate::log::{self, Hash, Head, PROOF_HASHES_MAX, TreeProofError};
use crate::manifest::Manifest;

/// Entries in the batch that adopts a version: the adoption and the state entry.
const BATCH_ENTRIES: u64 = 2;

/// Longest adoption, encoded, in bytes.
pub(crate) const ADOPTION_BYTES_MAX: usize = 8 + 8 + ENTRY_BYTES_MAX + 8 + PROOF_HASHES_MAX * size_of::<Hash>();

/// A version that a log adopted, and the log's size after the batch with the adoption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Adopted {
    /// Number of the version.
    pub version: u32,
    /// Number of entries up to and including the state entry after the adoption.
    pub size: u64,
}

/// The versions whose quorums must all have cosigned a head of `size` entries on one note. The log was introduced by
/// version `since` and then adopted the versions in `adopted`, in this order.
pub fn certifying(adopted: &[Adopted], since: u32, size: u64) -> impl Iterator<Item = u32> {
    let at = |size| adopted.iter().rev().find(|one| one.size <= size).map_or(since, |one| one.version);
    let (there, before) = (at(size), at(size.saturating_sub(1)));
    [there].into_iter().chain(Some(before).filter(|before| *before != there))
}

/// The entry by which a log adopted a version, with a proof of its position. Unverified until [`Adoption::version`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Adoption {
    /// The entry's position in the log, from 0.
    pub index: u64,
    /// The encoded entry.
    pub entry: Vec<u8>,
    /// Inclusion path from the entry to the head, at most 64 hashes.
    pub path: Vec<Hash>,
}

/// Why it is not shown which version's quorum counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptionError {
    /// Nothing shows where the log adopted the version.
    #[error("nothing shows where the log adopted version {0}")]
    Missing(u32),
    /// An adoption of the version that introduced the log, which must not be shown.
    #[error("version {0} introduced the log: its adoption must not be shown")]
    Superfluous(u32),
    /// The entry adopts no version of the manifest, or another one, or its batch ends beyond the head.
    #[error("the entry does not adopt that version in a batch below the head")]
    Entry,
    /// The entry is not in the log at this head.
    #[error(transparent)]
    Path(#[from] TreeProofError),
}

impl AdoptionError {
    /// A stable code for answers, logs and metrics.
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
    /// Verifies this adoption against a head of the log, and returns the version that the log adopted.
    ///
    /// # Errors
    /// [`AdoptionError::Entry`] or [`AdoptionError::Path`].
    pub fn version<'m>(&self, head: &Head, manifest: &'m Manifest) -> Result<&'m Manifest, AdoptionError> {
        let entry = codec::decode(&self.entry, ENTRY_BYTES_MAX).map_err(|_| AdoptionError::Entry)?;
        let Entry { body: Body::Adopt { version, manifest: hash }, .. } = entry else {
            return Err(AdoptionError::Entry);
        };
        let version = manifest.at(version).filter(|version| version.hash() == hash && self.end() <= head.size);
        log::verify_inclusion(log::leaf_hash(&self.entry), self.index, head, &self.path)?;
        version.ok_or(AdoptionError::Entry)
    }

    /// The log's size after the batch with this adoption.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.index.saturating_add(BATCH_ENTRIES)
    }
}

/// Like [`certifying`], for a log whose own row states that it had adopted `version` at `head`. The first version
/// returned is `version`.
///
/// # Errors
/// [`AdoptionError`]. `shown` is required if `version` did not introduce the log, and refused if it did.
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

/// The position of the adoption entry, as in [`Adoption::index`]; `None` if the size is too small for its batch.
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
