//! Log entries: signed events, and the owner's adoptions and state entries.
use alloc::string::String;
use alloc::vec::Vec;

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::event::{Action, Event};
use crate::id::{EventId, FederationId, ManifestHash, StateRoot};
use crate::key::batch::{self, Signed, Verifier};
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
        let text = self.checked_text(federation)?;
        self.signer.verify(text.as_bytes(), &self.signature).map_err(EntryError::Signature)?;
        if let Some((key, signature)) = self.second()? {
            key.verify(text.as_bytes(), signature).map_err(|_| NOT_THE_NEW_KEYS)?;
        }
        Ok(VerifiedEvent { id: id_of(&text), signed: self })
    }

    /// [`SignedEvent::verify`] of many events, in less time: see [`batch`].
    #[must_use]
    pub fn verify_all(
        events: Vec<Self>,
        federation: &FederationId,
        verifier: &Verifier,
    ) -> Vec<Result<VerifiedEvent, EntryError>> {
        let texts: Vec<Result<String, EntryError>> =
            events.iter().map(|event| event.checked_text(federation)).collect();
        let mut signed = Vec::with_capacity(events.len());
        for (event, text) in events.iter().zip(&texts) {
            let Ok(text) = text else { continue };
            signed.push(Signed { key: &event.signer, message: text.as_bytes(), signature: &event.signature });
            let second = event.second().ok().flatten();
            signed.extend(second.map(|(key, signature)| Signed { key, message: text.as_bytes(), signature }));
        }
        // One outcome for each that was pushed, in the same order.
        let mut outcomes = batch::verify_all(&signed, verifier).into_iter();
        let mut next = || outcomes.next().unwrap_or(Err(SignatureError::Mismatch));
        let verified = events.iter().zip(texts).map(|(event, text)| {
            let (text, first, second) = (text?, next(), event.second());
            let countersigned = second.as_ref().is_ok_and(Option::is_some).then(&mut next);
            first.map_err(EntryError::Signature)?;
            second?;
            countersigned.transpose().map_err(|_| NOT_THE_NEW_KEYS)?;
            Ok(id_of(&text))
        });
        let ids: Vec<Result<EventId, EntryError>> = verified.collect();
        events.into_iter().zip(ids).map(|(signed, id)| Ok(VerifiedEvent { signed, id: id? })).collect()
    }

    /// The canonical text, if it is of this federation and parses back to this event. So the parser is the one place with the
    /// rules of fields.
    fn checked_text(&self, federation: &FederationId) -> Result<String, EntryError> {
        if self.event.federation != *federation {
            return Err(EntryError::Federation(self.event.federation));
        }
        let text = self.event.text();
        match Event::parse(text.as_bytes()) {
            Ok(event) if event == self.event => Ok(text),
            _ => Err(EntryError::Codec(CodecError::Field)),
        }
    }

    /// The new key and its signature, where a rotation needs them.
    fn second(&self) -> Result<Option<(&PublicKey, &Signature)>, EntryError> {
        let countersigner = match &self.event.action {
            Action::Register { key, .. } if *key != self.signer => return Err(EntryError::Possession),
            Action::Rotate { key, .. } if *key != self.signer => Some(key),
            _ => None,
        };
        match (countersigner, &self.countersignature) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(EntryError::Countersignature("only rotations signed by the old key have one")),
            (Some(_), None) => Err(EntryError::Countersignature("the new key must sign too")),
            (Some(key), Some(signature)) => Ok(Some((key, signature))),
        }
    }
}

const NOT_THE_NEW_KEYS: EntryError = EntryError::Countersignature("not the new key's");

fn id_of(text: &str) -> EventId {
    EventId(*blake3::hash(text.as_bytes()).as_bytes())
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

    /// [`VerifiedEntry::decode`] of many entries, in less time: see [`batch`].
    #[must_use]
    pub fn decode_all(
        entries: Vec<Vec<u8>>,
        federation: &FederationId,
        verifier: &Verifier,
    ) -> Vec<Result<Self, EntryError>> {
        let (mut decoded, mut events) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for bytes in &entries {
            decoded.push(codec::decode(bytes, limits::ENTRY_BYTES_MAX).map(|Entry { time, body }| {
                let mark = match body {
                    Body::Adopt { version, manifest } => Some(VerifiedBody::Adopt { version, manifest }),
                    Body::State { root } => Some(VerifiedBody::State { root }),
                    Body::Event(signed) => {
                        events.push(signed);
                        None
                    }
                };
                (time, mark)
            }));
        }
        // One for each entry without another body, in the same order.
        let mut events = SignedEvent::verify_all(events, federation, verifier).into_iter();
        let mut event = || events.next().unwrap_or(Err(CodecError::Field.into())).map(VerifiedBody::Event);
        let whole = |(decoded, bytes): (Result<(Millis, Option<VerifiedBody>), CodecError>, Vec<u8>)| {
            let (time, mark) = decoded?;
            Ok(Self { time, body: mark.map_or_else(&mut event, Ok)?, bytes })
        };
        decoded.into_iter().zip(entries).map(whole).collect()
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
