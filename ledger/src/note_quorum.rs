//! Counting a quorum on one note: everything that is final rests on this check.
//!
//! [`crate::adoption`] decides which versions of the manifest need a quorum on a head. This module only counts the
//! operators of one version that cosigned one note.
use alloc::vec::Vec;

use ed25519_dalek::VerifyingKey;

use crate::checkpoint::{self, CheckpointError, Cosignature, Origin, SignedCheckpoint};
use crate::id::Domain;
use crate::limits;
use crate::manifest::{LogId, Manifest};
use crate::signed_note::SignedNote;
use crate::time::Millis;

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

/// The note of a head, read for any number of versions: each of its signatures is verified once, when a version first
/// counts its key.
#[derive(Clone, Debug)]
pub struct NoteReading<'n> {
    note: &'n SignedNote,
    signed: SignedCheckpoint,
    /// What each line was found to be, with the key that verified it; `None`: no version has counted it yet.
    lines: Vec<Option<(VerifyingKey, Result<Cosignature, CheckpointError>)>>,
    /// How many cosignatures were verified so far.
    verified: usize,
}

impl<'n> NoteReading<'n> {
    /// Reads the note of a head of `log` and verifies its owner's signature.
    ///
    /// # Errors
    /// [`CheckpointError`] if the note is not a head of `log`, or its owner did not sign it.
    pub fn of(note: &'n SignedNote, log: &LogId, manifest: &Manifest) -> Result<Self, CheckpointError> {
        let origin = manifest.origin(log);
        let owner = |found: &Origin| manifest.log(log).filter(|_| *found == origin).map(|known| known.node_key);
        let (signed, _) = checkpoint::read_note(note, owner, |_| None)?;
        Ok(Self { note, signed, lines: note.signatures.iter().map(|_| None).collect(), verified: 0 })
    }

    /// The head with its owner's signature.
    #[must_use]
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// How many cosignatures were verified so far.
    #[must_use]
    pub const fn verified(&self) -> usize {
        self.verified
    }

    /// The cosignatures by operators of `version`. Lines of other keys are ignored.
    ///
    /// # Errors
    /// [`CheckpointError`] if a cosignature by a key of the version is invalid, or one of its operators cosigned twice.
    /// Too few cosignatures are not an error: see [`NoteQuorum::is_reached`].
    pub fn quorum(&mut self, version: &Manifest) -> Result<NoteQuorum, CheckpointError> {
        let Self { note, signed, lines, verified } = self;
        let mut cosignatures: Vec<Cosignature> = Vec::new();
        for (line, known) in note.signatures.iter().zip(lines) {
            let operator = line.name.parse::<Domain>().ok().and_then(|name| version.operator(&name));
            let Some((operator, key)) = operator.map(|one| (&one.name, one.node_key)) else { continue };
            if !checkpoint::is_cosigned_by(line, &key) {
                continue;
            }
            // Key ids are short: another version's key may have the same one.
            let known = match known.take().filter(|(by, _)| *by == key) {
                Some(read) => known.insert(read),
                None => {
                    *verified = verified.saturating_add(1);
                    known.insert((key, checkpoint::read_cosignature(line, operator, signed.checkpoint(), &key)))
                }
            };
            let cosignature = known.1.clone()?;
            if cosignatures.iter().any(|other| other.operator == cosignature.operator) {
                return Err(CheckpointError::Twice(cosignature.operator));
            }
            cosignatures.push(cosignature);
        }
        let (signed, wanted) = (self.signed.clone(), version.quorum());
        Ok(NoteQuorum { signed, cosignatures, version: version.version(), wanted })
    }

    /// The first of `versions` without a quorum on the note; `None` if each has one.
    ///
    /// # Errors
    /// [`CheckpointError`] as in [`NoteReading::quorum`].
    pub(crate) fn first_short(&mut self, versions: &[&Manifest]) -> Result<Option<NoteQuorum>, CheckpointError> {
        for version in versions {
            let quorum = self.quorum(version)?;
            if !quorum.is_reached() {
                return Ok(Some(quorum));
            }
        }
        Ok(None)
    }
}

impl NoteQuorum {
    /// Reads the note of a head of `log` for one version, which is `manifest` or a version before it. To count the
    /// quorums of several versions, use one [`NoteReading`].
    ///
    /// # Errors
    /// [`CheckpointError`] as in [`NoteReading::of`] and [`NoteReading::quorum`].
    pub fn read(
        note: &SignedNote,
        log: &LogId,
        manifest: &Manifest,
        version: &Manifest,
    ) -> Result<Self, CheckpointError> {
        NoteReading::of(note, log, manifest)?.quorum(version)
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

    /// Like [`NoteQuorum::as_of`], for a reader that knows the time: does not count cosignatures that are more than
    /// [`limits::HEAD_SKEW_MILLIS_MAX`] ahead of `now`. If the reader's clock is slow, the head looks younger by as much.
    #[must_use]
    pub fn as_of_by(&self, now: Millis) -> Option<u64> {
        let latest = now.0.saturating_add(limits::HEAD_SKEW_MILLIS_MAX) / 1_000;
        let times = self.times().into_iter().rev().filter(|seconds| *seconds <= latest);
        times.take(self.wanted).nth(self.wanted.checked_sub(1)?)
    }

    /// The cosigners' times, earliest first.
    fn times(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self.cosignatures.iter().map(|one| one.seconds).collect();
        times.sort_unstable();
        times
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::sync::Arc;

    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::id::TreeRoot;
    use crate::log::Head;
    use crate::manifest::{Genesis, Operator, Policy};
    use crate::signed_note::sign;

    fn key(kind: u8, i: u8) -> SigningKey {
        SigningKey::from_bytes(&[kind, i].repeat(16).try_into().unwrap())
    }

    fn name(i: u8) -> Domain {
        format!("{}.example", char::from(b'a' + i)).parse().unwrap()
    }

    /// Three versions of the operators a to d.
    fn versions() -> Arc<Manifest> {
        let operator = |i: u8| Operator {
            name: name(i),
            node_key: key(1, i).verifying_key(),
            governance_key: key(2, i).verifying_key(),
            generation: 1,
            begins: Millis::FIRST,
            addresses: Vec::new(),
            endpoints: crate::manifest::Endpoints::default(),
        };
        let signed = |text: alloc::string::String| {
            let signatures = (0..4).map(|i| sign(&text, name(i).as_str(), &key(2, i))).collect();
            SignedNote { text, signatures }.to_string()
        };
        let operators = (0..4).map(operator).collect();
        let genesis = Genesis { name: "test".into(), policy: Policy::recommended(4), operators };
        let mut newest = Arc::new(Manifest::parse(&signed(genesis.text().unwrap())).unwrap());
        for _ in 0..2 {
            newest = Arc::new(newest.successor(&signed(newest.draft().text().unwrap())).unwrap());
        }
        newest
    }

    /// Symptom: a proof of inclusion in a log of a federation with a hundred versions took a hundred times as long.
    /// Cause: the note was read again for each version, and every line verified each time. Here three versions count
    /// the same four lines, twice each.
    #[test]
    fn each_line_is_verified_once_whatever_number_of_versions_count_it() {
        let manifest = versions();
        let log = LogId { operator: name(0), generation: 1 };
        let head = Head { size: 9, root: TreeRoot([7; 32]) };
        let signed = SignedCheckpoint::sign(Checkpoint { origin: manifest.origin(&log), head }, &key(1, 0));
        let cosigned = |i: u8| {
            let cosignature = Cosignature::sign(signed.checkpoint(), name(i), &key(1, i), 5);
            (cosignature, key(1, i).verifying_key())
        };
        let lines: Vec<_> = (0..4).map(cosigned).collect();
        let note = checkpoint::note(&signed, &key(1, 0).verifying_key(), &lines);
        let mut reading = NoteReading::of(&note, &log, &manifest).unwrap();
        assert_eq!(reading.verified(), 0, "nobody counts cosignatures yet");
        let all: Vec<&Manifest> = manifest.versions().collect();
        assert_eq!((all.len(), reading.first_short(&all)), (3, Ok(None)));
        for version in all {
            let quorum = reading.quorum(version).unwrap();
            assert_eq!(quorum, NoteQuorum::read(&note, &log, &manifest, version).unwrap());
            assert_eq!(quorum.found(), 4);
        }
        assert_eq!(reading.verified(), 4);
        // A line that does not hold spoils each version that counts it, every time.
        let mut spoilt = note.clone();
        *spoilt.signatures[2].bytes.last_mut().unwrap() ^= 1;
        let mut reading = NoteReading::of(&spoilt, &log, &manifest).unwrap();
        for version in manifest.versions() {
            assert_eq!(reading.quorum(version), Err(CheckpointError::Cosignature(name(1))));
        }
        assert_eq!(reading.verified(), 2);
    }
}
