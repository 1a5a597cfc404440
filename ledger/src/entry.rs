//! Log entries: signed events, and the owner's adoptions and state entries.
use alloc::string::String;
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{Action, Event};
use crate::id::{EventId, FederationId, ManifestHash, StateRoot};
use crate::key::{PublicKey, Signature, SignatureError};
use crate::limits;
use crate::time::Millis;

/// An event with the signatures that it needs.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct SignedEvent {
    /// The event that was signed.
    pub event: Event,
    /// The key that signed; included so that the signature can be checked without state.
    pub signer: PublicKey,
    /// By `signer`, over the canonical text.
    pub signature: Signature,
    /// By the new key, over the same text; only on a rotation that another key signed.
    pub countersignature: Option<Signature>,
}

/// The content of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub enum Body {
    /// The owner adopts a manifest version.
    Adopt {
        /// Number of the version.
        version: u32,
        /// Hash of the version's text.
        manifest: ManifestHash,
    },
    /// Ends a batch and states the root of the state so far.
    State {
        /// The state root after the entries before this one, which itself changes no state.
        root: StateRoot,
    },
    /// An event that the owner appended.
    Event(SignedEvent),
}

/// One leaf of a log's tree.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Entry {
    /// When the owner appended it, by the owner's clock; never earlier than the time of the entry before.
    pub time: Millis,
    /// An event, or the owner's own mark: an adoption or a state root.
    pub body: Body,
}

/// Why an entry is invalid whatever the state: no log may contain it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not the strict encoding of an entry.
    #[error("encoding: {0}")]
    Codec(#[from] CodecError),
    /// The event is for another federation.
    #[error("the event names the federation {0}")]
    Federation(FederationId),
    /// The signature is not the signer's.
    #[error("signature: {0}")]
    Signature(SignatureError),
    /// The countersignature is missing, is not the new key's, or is not allowed here.
    #[error("countersignature: {0}")]
    Countersignature(&'static str),
    /// A registration that its own key did not sign.
    #[error("a registration must be signed by the key that it registers")]
    Possession,
}

impl EntryError {
    /// A stable code for answers, logs and metrics.
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

/// A signed event whose form and signatures were checked; made only by [`SignedEvent::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedEvent {
    signed: SignedEvent,
    id: EventId,
}

impl VerifiedEvent {
    /// The event with its signatures.
    #[must_use]
    pub const fn signed(&self) -> &SignedEvent {
        &self.signed
    }

    /// The event without its signatures.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.signed.event
    }

    /// The event's id, computed once at verification.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.id
    }
}

impl SignedEvent {
    /// Checks form, federation and signatures. Needs no state.
    ///
    /// # Errors
    /// [`EntryError`]: the event can never be valid in this federation; the sender is at fault.
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

    /// The canonical text, if it parses back to this event. So the parser is the one place with the rules of fields.
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
            (None, Some(_)) => Err(EntryError::Countersignature("only rotations signed by the old key have one")),
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
    /// When the owner appended it, by the owner's clock.
    pub time: Millis,
    /// As in [`Entry`], with the signatures of an event verified.
    pub body: VerifiedBody,
    bytes: Vec<u8>,
}

/// The content of a verified entry.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub enum VerifiedBody {
    /// The owner adopts a manifest version.
    Adopt {
        /// Number of the version.
        version: u32,
        /// Hash of the version's text.
        manifest: ManifestHash,
    },
    /// Ends a batch and states the root of the state so far.
    State {
        /// The state root after the entries before this one.
        root: StateRoot,
    },
    /// An event that the owner appended.
    Event(VerifiedEvent),
}

impl VerifiedEntry {
    /// The encoded entry, which is the leaf of the log's tree.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded entry, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether this is the state entry that ends a batch.
    #[must_use]
    pub const fn is_state(&self) -> bool {
        matches!(self.body, VerifiedBody::State { .. })
    }

    /// The manifest version that this entry adopts, if it is an adoption.
    #[must_use]
    pub const fn adopts(&self) -> Option<u32> {
        match self.body {
            VerifiedBody::Adopt { version, .. } => Some(version),
            _ => None,
        }
    }

    /// The event, unless this is an adoption or state entry.
    #[must_use]
    pub const fn event(&self) -> Option<&VerifiedEvent> {
        match &self.body {
            VerifiedBody::Event(event) => Some(event),
            _ => None,
        }
    }

    /// The entry with which an owner adopts a manifest version.
    #[must_use]
    pub fn adopt(time: Millis, version: u32, manifest: ManifestHash) -> Self {
        let bytes = codec::encode(&Entry { time, body: Body::Adopt { version, manifest } });
        Self { time, body: VerifiedBody::Adopt { version, manifest }, bytes }
    }

    /// The entry with which an owner ends a batch.
    #[must_use]
    pub fn state(time: Millis, root: StateRoot) -> Self {
        let bytes = codec::encode(&Entry { time, body: Body::State { root } });
        Self { time, body: VerifiedBody::State { root }, bytes }
    }

    /// The entry of an event that the owner appends at `time`.
    #[must_use]
    pub fn of(time: Millis, event: VerifiedEvent) -> Self {
        let bytes = codec::encode(&Entry { time, body: Body::Event(event.signed.clone()) });
        Self { time, body: VerifiedBody::Event(event), bytes }
    }

    /// Decodes an entry and makes every check that needs no state.
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

/// The time of an encoded entry, from its first bytes alone; `None` if there are fewer.
#[must_use]
pub fn time(entry: &[u8]) -> Option<Millis> {
    entry.first_chunk().map(|time| Millis(u64::from_le_bytes(*time)))
}

/// The id of the event that an encoded entry holds; `None` for other entries and for bytes that are not an entry.
#[must_use]
pub fn event_id(entry: &[u8]) -> Option<EventId> {
    match codec::decode::<Entry>(entry, limits::ENTRY_BYTES_MAX) {
        Ok(Entry { body: Body::Event(signed), .. }) => Some(signed.event.id()),
        _ => None,
    }
}
