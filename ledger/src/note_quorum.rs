//! Counting a quorum on one note: everything that is final rests on this check.
//!
//! [`crate::adoption`] decides which versions of the manifest need a quorum on a head. This module only counts the
//! operators of one version that cosigned one note.
use alloc::vec::Vec;

use crate::checkpoint::{self, CheckpointError, Cosignature, Origin, SignedCheckpoint};
use crate::id::Domain;
use crate::manifest::{LogId, Manifest};
use crate::signed_note::SignedNote;

/// A head that its owner signed, with the cosignatures that operators of one version put on the same note. Every
/// signature in it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteQuorum {
    /// The head with its owner's signature.
    pub signed: SignedCheckpoint,
    /// At most one cosignature for each operator of the version, in the note's order.
    pub cosignatures: Vec<Cosignature>,
    /// The number of the version.
    pub version: u32,
    /// How many cosignatures make a quorum of the version.
    pub wanted: usize,
}

impl NoteQuorum {
    /// Reads the note of a head of `log` and verifies the owner's signature and the cosignatures by operators of
    /// `version`, which is `manifest` or a version before it. Lines of other keys are ignored.
    ///
    /// # Errors
    /// [`CheckpointError`] if the note is not a head of `log`, its owner did not sign it, or a signature by a known
    /// key is invalid. Too few cosignatures are not an error: see [`NoteQuorum::is_reached`].
    pub fn read(
        note: &SignedNote,
        log: &LogId,
        manifest: &Manifest,
        version: &Manifest,
    ) -> Result<Self, CheckpointError> {
        let origin = manifest.origin(log);
        let owner = |found: &Origin| manifest.log(log).filter(|_| *found == origin).map(|known| known.node_key);
        let cosigner = |name: &Domain| version.operator(name).map(|operator| operator.node_key);
        let (signed, cosignatures) = checkpoint::read_note(note, owner, cosigner)?;
        Ok(Self { signed, cosignatures, version: version.version(), wanted: version.quorum() })
    }

    /// How many operators of the version cosigned.
    #[must_use]
    pub fn found(&self) -> usize {
        self.cosignatures.len()
    }

    /// Whether enough operators of the version cosigned.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.found() >= self.wanted
    }

    /// The first of `versions` without a quorum on the note; `None` if each has one. For its own
    /// version this reading is used; for every other version the note is read again.
    ///
    /// # Errors
    /// [`CheckpointError`] as in [`NoteQuorum::read`].
    pub(crate) fn first_short(
        &self,
        note: &SignedNote,
        log: &LogId,
        manifest: &Manifest,
        versions: &[&Manifest],
    ) -> Result<Option<Self>, CheckpointError> {
        for version in versions {
            let read = match version.version() == self.version {
                true => self.clone(),
                false => Self::read(note, log, manifest, version)?,
            };
            if !read.is_reached() {
                return Ok(Some(read));
            }
        }
        Ok(None)
    }

    /// The operators that cosigned, each with the time that it states, in seconds since 1970.
    #[must_use]
    pub fn cosigners(&self) -> Vec<(Domain, u64)> {
        self.cosignatures.iter().map(|one| (one.operator.clone(), one.seconds)).collect()
    }

    /// When the quorum was first complete, in seconds since 1970, by the cosigners' clocks; `None` without a quorum.
    #[must_use]
    pub fn completed(&self) -> Option<u64> {
        let times = self.times();
        self.wanted.checked_sub(1).and_then(|last| times.get(last)).copied()
    }

    /// The latest time, in seconds since 1970, that the clocks of a quorum of cosigners had reached; `None` without a
    /// quorum.
    #[must_use]
    pub fn as_of(&self) -> Option<u64> {
        let times = self.times();
        times.iter().rev().nth(self.wanted.saturating_sub(1)).copied()
    }

    /// The cosigners' times, earliest first.
    fn times(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self.cosignatures.iter().map(|one| one.seconds).collect();
        times.sort_unstable();
        times
    }
}
