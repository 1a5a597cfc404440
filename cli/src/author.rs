//! Builds and signs events and their notes.
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::{FederationId, KeyHash, NoteHash};
use fama_ledger::key::Signature;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_node::wire::{Recovered, Submission};

use crate::failure::Failure;
use crate::files;

/// An event created now, with a random nonce.
///
/// # Errors
/// `randomness`; the rule that a value breaks.
pub(crate) fn event(federation: FederationId, action: Action) -> Result<Event, Failure> {
    let mut nonce = [0; 8];
    files::fill(&mut nonce)?;
    let event = Event { federation, action, created: clock::now(), nonce: Nonce(nonce) };
    Event::parse(event.text().as_bytes())?;
    Ok(event)
}

/// The text of a note and its hash for the event; both `None` if no field of the note is set.
///
/// # Errors
/// `randomness`; the rule that a field breaks.
pub(crate) fn note(mut note: Note) -> Result<(Option<String>, Option<NoteHash>), Failure> {
    if note.bio.is_none() && note.reason.is_none() && note.reference.is_none() {
        return Ok((None, None));
    }
    files::fill(&mut note.salt)?;
    note.check().map_err(|error| Failure::from(error).about("the note"))?;
    let text = note.text();
    let hash = note_hash(text.as_bytes());
    Ok((Some(text), Some(hash)))
}

/// The commitment of an event to a next key: the hash of its public key.
#[must_use]
pub(crate) fn commitment(key: Option<&SecretKey>) -> Option<KeyHash> {
    key.map(|key| key.public().hash())
}

/// An event that is not signed yet, with its keys and what is sent along.
#[derive(Debug)]
pub(crate) struct EventDraft<'a> {
    /// Its fields, with nonce and time of creation.
    pub(crate) event: Event,
    /// The key that signs.
    pub(crate) signer: &'a SecretKey,
    /// The new key of a rotation that the current key signs.
    pub(crate) countersigner: Option<&'a SecretKey>,
    /// The note's text.
    pub(crate) note: Option<String>,
    /// An invitation token of the home.
    pub(crate) invite: Option<String>,
    /// With a revocation: the receipt of what brought the version that it names.
    pub(crate) receipt: Option<Recovered>,
}

impl<'a> EventDraft<'a> {
    /// A draft with one signer, no note and no invitation.
    #[must_use]
    pub(crate) const fn new(event: Event, signer: &'a SecretKey) -> Self {
        Self { event, signer, countersigner: None, note: None, invite: None, receipt: None }
    }

    /// Signs the event and verifies it as every node will.
    ///
    /// # Errors
    /// The reason for which every log would refuse it.
    pub(crate) fn sign(self) -> Result<Submission, Failure> {
        let submission = self.sign_unchecked();
        submission.signed.clone().verify(&submission.signed.event.federation)?;
        Ok(submission)
    }

    /// Signs the event without verifying it: for bulk loads.
    #[must_use]
    pub(crate) fn sign_unchecked(self) -> Submission {
        let text = self.event.text();
        let signed = SignedEvent {
            signer: self.signer.public(),
            signature: self.signer.sign(text.as_bytes()),
            countersignature: self.countersigner.map(|key| key.sign(text.as_bytes())),
            event: self.event,
        };
        Submission { signed, note: self.note, invite: self.invite, recovered: self.receipt }
    }
}

/// A signature in its usual encoding outside fama: DER for ECDSA, 64 bytes for Ed25519.
///
/// # Errors
/// `signature_malformed`, which no signature by a key causes.
pub(crate) fn edge_bytes(signature: &Signature) -> Result<Vec<u8>, Failure> {
    match signature {
        Signature::Ed25519(bytes) => Ok(bytes.to_vec()),
        Signature::Secp256k1([rs @ .., _]) => k256::ecdsa::Signature::from_slice(rs)
            .map(|signature| signature.to_der().as_bytes().to_vec())
            .map_err(|_| Failure::new("signature_malformed", "r or s is out of range")),
    }
}
