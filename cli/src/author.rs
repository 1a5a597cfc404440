//! Making events: fields, signatures and the note beside them.
use fama_ledger::entry::SignedEvent;
use fama_ledger::event::{Action, Event, Nonce};
use fama_ledger::id::{FederationId, KeyHash, NoteHash};
use fama_ledger::key::Signature;
use fama_ledger::note::{Note, note_hash};
use fama_ledger::secret::SecretKey;
use fama_node::clock;
use fama_node::wire::Submission;

use crate::failure::Failure;
use crate::files;

/// An event of now, with a nonce of its own.
///
/// # Errors
/// `randomness`; what the canonical text says of the values.
pub fn event(federation: FederationId, action: Action) -> Result<Event, Failure> {
    let mut nonce = [0; 8];
    files::fill(&mut nonce)?;
    let event = Event { federation, action, created: clock::now(), nonce: Nonce(nonce) };
    Event::parse(event.text().as_bytes())?;
    Ok(event)
}

/// A note's text and what an event says of it; both `None` if there is nothing to note.
///
/// # Errors
/// `randomness`; what is wrong with the values.
pub fn note(mut note: Note) -> Result<(Option<String>, Option<NoteHash>), Failure> {
    if note.bio.is_none() && note.reason.is_none() && note.reference.is_none() {
        return Ok((None, None));
    }
    files::fill(&mut note.salt)?;
    note.check().map_err(|error| Failure::from(error).about("the note"))?;
    let text = note.text();
    let hash = note_hash(text.as_bytes());
    Ok((Some(text), Some(hash)))
}

/// Commits to a key.
#[must_use]
pub fn commitment(key: Option<&SecretKey>) -> Option<KeyHash> {
    key.map(|key| key.public().hash())
}

/// An event and who signs it.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What is said.
    pub event: Event,
    /// Who says it.
    pub signer: &'a SecretKey,
    /// The new key of a rotation that the old one signs.
    pub countersigner: Option<&'a SecretKey>,
    /// The note's text.
    pub note: Option<String>,
    /// An invitation of the home.
    pub invite: Option<String>,
}

impl<'a> Draft<'a> {
    /// Signed by one key, with nothing beside it.
    #[must_use]
    pub const fn new(event: Event, signer: &'a SecretKey) -> Self {
        Self { event, signer, countersigner: None, note: None, invite: None }
    }

    /// Signs it, and checks it as every node will.
    ///
    /// # Errors
    /// Why no log could ever take it.
    pub fn sign(self) -> Result<Submission, Failure> {
        let submission = self.sign_unchecked();
        submission.signed.clone().verify(&submission.signed.event.federation)?;
        Ok(submission)
    }

    /// Signs it and leaves checking to the nodes: for loads of thousands.
    #[must_use]
    pub fn sign_unchecked(self) -> Submission {
        let text = self.event.text();
        let signed = SignedEvent {
            signer: self.signer.public(),
            signature: self.signer.sign(text.as_bytes()),
            countersignature: self.countersigner.map(|key| key.sign(text.as_bytes())),
            event: self.event,
        };
        Submission { signed, note: self.note, invite: self.invite, recovered: None }
    }
}

/// A signature as the rest of the world reads it: DER for ECDSA, 64 bytes for Ed25519.
///
/// # Errors
/// `signature_malformed`, of no signature that a key made.
pub fn edge_bytes(signature: &Signature) -> Result<Vec<u8>, Failure> {
    match signature {
        Signature::Ed25519(bytes) => Ok(bytes.to_vec()),
        Signature::Secp256k1([rs @ .., _]) => k256::ecdsa::Signature::from_slice(rs)
            .map(|signature| signature.to_der().as_bytes().to_vec())
            .map_err(|_| Failure::new("signature_malformed", "r or s is out of range")),
    }
}

/// A text set off from what stands around it.
#[must_use]
pub fn shown(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
