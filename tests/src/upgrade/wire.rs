//! Messages as the last release sent them, as bytes and as what they mean.
use std::collections::BTreeSet;
use std::fmt::Debug;

use fama_ledger::codec::{self, CodecError};
use fama_node::wire::{
    Gossip, RESPONSE_BYTES_MAX, SubmitRequest, SubmitResponse, SubmitResult, SyncRequest, SyncResponse,
};
use serde_json::{Value, json};

use crate::fuzz::corpus;
use crate::vectors::{Vector, blessing, hex, read, write};

const FILE: &str = "upgrade/wire.json";
/// From how many numbers on a list is shown as hex.
const BYTES_MIN: usize = 8;

/// A message between nodes, with the name of its variant; one that is added has to be named, and recorded.
trait Message: Debug + Sized {
    const NAME: &'static str;
    const VARIANTS: &'static [&'static str];

    fn variant(&self) -> &'static str;
    fn read(bytes: &[u8]) -> Result<Self, CodecError>;
    fn bytes(&self) -> Vec<u8>;
}

impl Message for SyncRequest {
    const NAME: &'static str = "sync request";
    const VARIANTS: &'static [&'static str] = &["Frontier", "Entries", "Notes", "Manifests", "Offers", "Rows"];

    fn variant(&self) -> &'static str {
        match self {
            Self::Frontier(_) => "Frontier",
            Self::Entries { .. } => "Entries",
            Self::Notes(_) => "Notes",
            Self::Manifests { .. } => "Manifests",
            Self::Offers => "Offers",
            Self::Rows { .. } => "Rows",
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, RESPONSE_BYTES_MAX)
    }

    fn bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

impl Message for SyncResponse {
    const NAME: &'static str = "sync response";
    const VARIANTS: &'static [&'static str] =
        &["Frontier", "Entries", "Notes", "Manifests", "Refused", "Offers", "Rows"];

    fn variant(&self) -> &'static str {
        match self {
            Self::Frontier(_) => "Frontier",
            Self::Entries(_) => "Entries",
            Self::Notes(_) => "Notes",
            Self::Manifests(_) => "Manifests",
            Self::Refused(_) => "Refused",
            Self::Offers(_) => "Offers",
            Self::Rows(_) => "Rows",
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, RESPONSE_BYTES_MAX)
    }

    fn bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

impl Message for Gossip {
    const NAME: &'static str = "gossip";
    const VARIANTS: &'static [&'static str] = &["Head", "Cosignature", "Equivocation"];

    fn variant(&self) -> &'static str {
        match self {
            Self::Head { .. } => "Head",
            Self::Cosignature { .. } => "Cosignature",
            Self::Equivocation(_) => "Equivocation",
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, RESPONSE_BYTES_MAX)
    }

    fn bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

impl Message for SubmitRequest {
    const NAME: &'static str = "submit request";
    const VARIANTS: &'static [&'static str] = &["Empty", "First", "Forwarded"];

    fn variant(&self) -> &'static str {
        match (self.forwarded, self.submissions.is_empty()) {
            (true, _) => "Forwarded",
            (_, true) => "Empty",
            _ => "First",
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, RESPONSE_BYTES_MAX)
    }

    fn bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

impl Message for SubmitResponse {
    const NAME: &'static str = "submit response";
    const VARIANTS: &'static [&'static str] = &["Empty", "Accepted"];

    fn variant(&self) -> &'static str {
        match self.0.first() {
            None => "Empty",
            Some(SubmitResult::Accepted(_)) => "Accepted",
            Some(SubmitResult::Refused(_)) => "Refused",
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, RESPONSE_BYTES_MAX)
    }

    fn bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// What a value is, for people: as `{:?}`, with lists of bytes in hex.
fn meaning(value: &impl Debug) -> String {
    let (text, mut shown) = (format!("{value:?}"), String::new());
    let mut rest = text.as_str();
    while let Some((before, list)) = rest.split_once('[') {
        shown.push_str(before);
        let bytes: Option<(Vec<u8>, &str)> = list.split_once(']').and_then(|(items, after)| {
            let bytes: Result<Vec<u8>, _> = items.split(", ").map(str::parse).collect();
            Some((bytes.ok().filter(|bytes| bytes.len() >= BYTES_MIN)?, after))
        });
        match bytes {
            Some((bytes, after)) => {
                shown.push_str(&hex(bytes));
                rest = after;
            }
            None => {
                shown.push('[');
                rest = list;
            }
        }
    }
    shown + rest
}

fn decoded<M: Message>(bytes: &[u8]) -> M {
    M::read(bytes).unwrap_or_else(|error| panic!("{}: {error}", M::NAME))
}

fn recorded<M: Message>(corpus: Vec<Vec<u8>>) -> Vec<Value> {
    let record = |bytes: Vec<u8>| {
        let message: M = decoded(&bytes);
        json!({"type": M::NAME, "variant": message.variant(), "bytes": hex(&bytes), "reads": meaning(&message)})
    };
    corpus.into_iter().map(record).collect()
}

fn made() -> Value {
    let all = [
        recorded::<SyncRequest>(corpus::sync_request()),
        recorded::<SyncResponse>(corpus::sync_response()),
        recorded::<Gossip>(corpus::gossip()),
        recorded::<SubmitRequest>(corpus::submit_request()),
        recorded::<SubmitResponse>(corpus::submit_response()),
    ];
    Value::Array(all.concat())
}

/// Reads a recorded message and writes it again; returns its variant.
fn check<M: Message>(v: &mut Vector) -> (&'static str, &'static str) {
    let (bytes, variant, reads) = (v.bytes("bytes"), v.text("variant"), v.text("reads"));
    let message: M = decoded(&bytes);
    assert_eq!((message.variant(), meaning(&message)), (variant.as_str(), reads), "{}", M::NAME);
    assert_eq!(message.bytes(), bytes, "{} {variant}", M::NAME);
    (M::NAME, message.variant())
}

#[test]
fn messages_of_the_last_release_are_read_and_written() {
    let made = made();
    if blessing() {
        write(FILE, &made);
    }
    let mut seen = BTreeSet::new();
    for vector in read(FILE) {
        let mut v = Vector::of(vector);
        let one = match v.text("type").as_str() {
            SyncRequest::NAME => check::<SyncRequest>(&mut v),
            SyncResponse::NAME => check::<SyncResponse>(&mut v),
            Gossip::NAME => check::<Gossip>(&mut v),
            SubmitRequest::NAME => check::<SubmitRequest>(&mut v),
            SubmitResponse::NAME => check::<SubmitResponse>(&mut v),
            other => panic!("{other}"),
        };
        v.close();
        seen.insert(one);
    }
    let all = |name, variants: &'static [&'static str]| variants.iter().map(move |variant| (name, *variant));
    let every = all(SyncRequest::NAME, SyncRequest::VARIANTS)
        .chain(all(SyncResponse::NAME, SyncResponse::VARIANTS))
        .chain(all(Gossip::NAME, Gossip::VARIANTS))
        .chain(all(SubmitRequest::NAME, SubmitRequest::VARIANTS))
        .chain(all(SubmitResponse::NAME, SubmitResponse::VARIANTS));
    assert_eq!(seen, every.collect(), "every variant is recorded");
    assert_eq!(Value::Array(read(FILE)), made, "{FILE} differs; FAMA_BLESS=1 rewrites it: tests/README.md says when");
}
