//! Entries of a log: signed events and their owner's two kinds of marks.
use alloc::string::String;
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{Action, Event};
use crate::id::{EventId, FederationId, ManifestHash, StateRoot};
use crate::key::{PublicKey, Signature, SignatureError};
use crate::limits;
use crate::time::Millis;

/// An event with the signatures that make it count.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedEvent {
    /// What was signed.
    pub event: Event,
    /// The key that signed, so that the signature can be checked alone.
    pub signer: PublicKey,
    /// Over the canonical text.
    pub signature: Signature,
    /// By the new key, only of a rotation that another key signed.
    pub countersignature: Option<Signature>,
}

/// What an entry holds.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub enum Body {
    /// The owner takes up a manifest version.
    Adopt {
        /// The version.
        version: u32,
        /// Its text's hash.
        manifest: ManifestHash,
    },
    /// Ends a batch: the root of all that the log says so far.
    State {
        /// The state root before this entry, which changes nothing.
        root: StateRoot,
    },
    /// Somebody's event.
    Event(SignedEvent),
}

/// One leaf of a log.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Entry {
    /// When the owner took it in, by the owner's clock; never less than the entry's before.
    pub time: Millis,
    /// What it holds.
    pub body: Body,
}

/// What makes an entry invalid whatever the state: no log may hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not the strict encoding of an entry.
    #[error("encoding: {0}")]
    Codec(#[from] CodecError),
    /// Meant for another federation.
    #[error("the event names the federation {0}")]
    Federation(FederationId),
    /// The signature is not the signer's.
    #[error("signature: {0}")]
    Signature(SignatureError),
    /// The countersignature is missing, is not the new key's, or has no place here.
    #[error("countersignature: {0}")]
    Countersignature(&'static str),
    /// A registration that its own key did not sign.
    #[error("a registration is signed by the key that it registers")]
    Possession,
}

impl EntryError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Codec(error) => error.code(),
            Self::Federation(_) => "wrong_federation",
            Self::Signature(error) => error.code(),
            Self::Countersignature(_) => "countersignature",
            Self::Possession => "not_possessed",
        }
    }
}

/// A signed event whose form and signatures were checked; made by [`SignedEvent::verify`] only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedEvent {
    signed: SignedEvent,
    id: EventId,
}

impl VerifiedEvent {
    /// The signed event.
    #[must_use]
    pub const fn signed(&self) -> &SignedEvent {
        &self.signed
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.signed.event
    }

    /// The event's id.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.id
    }
}

impl SignedEvent {
    /// Checks form, federation and signatures. Looks at no state.
    ///
    /// # Errors
    /// [`EntryError`]: it can never be valid in this federation; the sender is at fault.
    pub fn verify(self, federation: &FederationId) -> Result<VerifiedEvent, EntryError> {
        if self.event.federation != *federation {
            return Err(EntryError::Federation(self.event.federation));
        }
        let text = self.checked_text()?;
        self.signer.verify(text.as_bytes(), &self.signature).map_err(EntryError::Signature)?;
        self.verify_second(text.as_bytes())?;
        let id = EventId(*blake3::hash(text.as_bytes()).as_bytes());
        Ok(VerifiedEvent { signed: self, id })
    }

    /// The canonical text, if it parses back to this event: so every rule of a field is in one place.
    fn checked_text(&self) -> Result<String, EntryError> {
        let text = self.event.text();
        match Event::parse(text.as_bytes()) {
            Ok(event) if event == self.event => Ok(text),
            _ => Err(EntryError::Codec(CodecError::Field)),
        }
    }

    fn verify_second(&self, text: &[u8]) -> Result<(), EntryError> {
        let countersigner = match &self.event.action {
            Action::Register { key, .. } if *key != self.signer => return Err(EntryError::Possession),
            Action::Rotate { key, .. } if *key != self.signer => Some(key),
            _ => None,
        };
        match (countersigner, &self.countersignature) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(EntryError::Countersignature("only a rotation that the old key signed has one")),
            (Some(_), None) => Err(EntryError::Countersignature("the new key must sign too")),
            (Some(key), Some(signature)) => {
                key.verify(text, signature).map_err(|_| EntryError::Countersignature("not the new key's"))
            }
        }
    }
}

/// An entry whose form and signatures were checked, with its encoded bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedEntry {
    /// When the owner took it in.
    pub time: Millis,
    /// What it holds.
    pub body: VerifiedBody,
    bytes: Vec<u8>,
}

/// What a verified entry holds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub enum VerifiedBody {
    /// The owner takes up a manifest version.
    Adopt {
        /// The version.
        version: u32,
        /// Its text's hash.
        manifest: ManifestHash,
    },
    /// Ends a batch.
    State {
        /// The state root before this entry.
        root: StateRoot,
    },
    /// Somebody's event.
    Event(VerifiedEvent),
}

impl VerifiedEntry {
    /// The leaf's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The leaf's bytes, taken out.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether this ends a batch.
    #[must_use]
    pub const fn is_state(&self) -> bool {
        matches!(self.body, VerifiedBody::State { .. })
    }

    /// The manifest version that this adopts, if it does.
    #[must_use]
    pub const fn adopts(&self) -> Option<u32> {
        match self.body {
            VerifiedBody::Adopt { version, .. } => Some(version),
            _ => None,
        }
    }

    /// The event, if it holds one.
    #[must_use]
    pub const fn event(&self) -> Option<&VerifiedEvent> {
        match &self.body {
            VerifiedBody::Event(event) => Some(event),
            _ => None,
        }
    }

    /// An owner's mark of a manifest version.
    #[must_use]
    pub fn adopt(time: Millis, version: u32, manifest: ManifestHash) -> Self {
        let bytes = codec::encode(&Entry { time, body: Body::Adopt { version, manifest } });
        Self { time, body: VerifiedBody::Adopt { version, manifest }, bytes }
    }

    /// An owner's mark of a batch's end.
    #[must_use]
    pub fn state(time: Millis, root: StateRoot) -> Self {
        let bytes = codec::encode(&Entry { time, body: Body::State { root } });
        Self { time, body: VerifiedBody::State { root }, bytes }
    }

    /// The entry of an event taken in at `time`.
    #[must_use]
    pub fn of(time: Millis, event: VerifiedEvent) -> Self {
        let bytes = codec::encode(&Entry { time, body: Body::Event(event.signed.clone()) });
        Self { time, body: VerifiedBody::Event(event), bytes }
    }

    /// Decodes and verifies a leaf's bytes: everything that can be said without state.
    ///
    /// # Errors
    /// [`EntryError`]: the log's owner is at fault.
    pub fn decode(bytes: Vec<u8>, federation: &FederationId) -> Result<Self, EntryError> {
        let Entry { time, body } = codec::decode(&bytes, limits::ENTRY_BYTES_MAX)?;
        let body = match body {
            Body::Adopt { version, manifest } => VerifiedBody::Adopt { version, manifest },
            Body::State { root } => VerifiedBody::State { root },
            Body::Event(signed) => VerifiedBody::Event(signed.verify(federation)?),
        };
        Ok(Self { time, body, bytes })
    }
}

/// The id of the event that an encoded entry holds; `None` for marks and for bytes that are no entry.
#[must_use]
pub fn event_id(entry: &[u8]) -> Option<EventId> {
    match codec::decode::<Entry>(entry, limits::ENTRY_BYTES_MAX) {
        Ok(Entry { body: Body::Event(signed), .. }) => Some(signed.event.id()),
        _ => None,
    }
}
