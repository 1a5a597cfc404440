//! The file format: JSON with plain texts, and base64 for the values in the strict codec.
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display};
use core::str::FromStr;

use base64ct::{Base64, Encoding};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::{PROFILE_BYTES_MAX, PROFILE_FORMAT, PROFILE_UNPACKED_BYTES_MAX, ProfileError, Question};
use crate::adoption::{ADOPTION_BYTES_MAX, Adoption};
use crate::codec;
use crate::id::{Domain, FederationId, StateRoot};
use crate::limits;
use crate::log::{Hash, PROOF_HASHES_MAX};
use crate::manifest::LogId;
use crate::map::{KEY_BYTES_MAX, MapProof};
use crate::rows::{ROW_BYTES_MAX, Row as _, Statement, text_key};
use crate::signed_note::{SignedNote, from_base64};

/// A row's key and its encoded value.
type KeyValue = (Vec<u8>, Vec<u8>);

/// A question and all evidence for its answer. Nothing in it is verified yet. Displays as the text of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileProof {
    /// The federation whose logs answer the question.
    pub federation: FederationId,
    /// The question that the proof answers.
    pub question: Question,
    /// The manifest's versions from the second on, oldest first.
    pub manifests: Vec<SignedNote>,
    /// The logs that are not shown, strictly ascending: all of the newest version that are not in `logs`, except those
    /// that were cut and that the answer is not read from.
    pub left_out: Vec<LogId>,
    /// The homes of which no attestations are shown, strictly ascending.
    pub without: Vec<Domain>,
    /// The names of maps of which one prefix is proven instead of one for each provider, strictly ascending: all
    /// statements of `statements/…`, all days of the agent in `home/…`.
    pub whole: Vec<String>,
    /// The logs that the answer is read from, strictly ascending.
    pub logs: Vec<LogEvidence>,
}

impl ProfileProof {
    /// How many bytes the keys and values of all rows have.
    pub(super) fn unpacked(&self) -> usize {
        let rows = self.logs.iter().flat_map(|log| &log.maps).flat_map(|map| &map.rows);
        rows.fold(0, |sum, (key, value)| sum.saturating_add(key.len()).saturating_add(value.len()))
    }
}

/// The rows that are read from one log, with the evidence for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvidence {
    /// The log that the rows are read from.
    pub log: LogId,
    /// The evidence for its head; `None` for a log that was cut, whose head the manifest names.
    pub certificate: Option<HeadEvidence>,
    /// The roots of all its maps, ordered by name.
    pub roots: Vec<StateRoot>,
    /// The maps that the answer is read from, ordered by name.
    pub maps: Vec<MapEvidence>,
}

/// The evidence for a log's state root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadEvidence {
    /// A head with its cosignatures.
    pub note: SignedNote,
    /// The last entry below the head, encoded: a state entry.
    pub entry: Vec<u8>,
    /// The inclusion proof of that entry under the head: at most 64 hashes.
    pub path: Vec<Hash>,
    /// The adoption of the version that the log's row names; `None` if that version introduced the log.
    pub adopted: Option<Adoption>,
}

/// The rows that are read from one map, with their proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEvidence {
    /// The map's name in the state root.
    pub name: String,
    /// Shows that these are all rows with the prefixes that the join reads.
    pub proof: MapProof,
    /// Whole keys and encoded values, ascending by key.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofText {
    format: String,
    federation: String,
    question: String,
    manifests: Vec<String>,
    left_out: Vec<String>,
    without: Vec<String>,
    whole: Vec<String>,
    logs: Vec<LogText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogText {
    log: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<String>,
    roots: String,
    maps: Vec<MapText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MapText {
    name: String,
    proof: String,
    rows: String,
}

/// Consecutive rows, each without the bytes that follow from its value or from the previous row.
#[derive(Encode, Decode)]
struct Packed {
    lengths: Vec<Lengths>,
    /// For each row, the rest of its key, then the rest of its value.
    bytes: Vec<u8>,
}

/// The lengths of the parts of a packed row.
#[derive(Encode, Decode)]
struct Lengths {
    /// The length of the prefix that the key shares with the previous key: at most 255 bytes.
    key_shared: u8,
    /// The length of the key's own part after the shared prefix.
    key: u8,
    /// The length of the prefix that the value shares with the previous value: at most 255 bytes.
    value_shared: u8,
    /// The length of the value's own part after the shared prefix.
    value: u32,
}

/// The end of a statement's key, which follows from its value: hashes of the service and the domain. Empty for other
/// rows.
fn key_end(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if key.first() != Some(&Statement::TAG) {
        return Some(Vec::new());
    }
    let Statement { service, domain, .. } = codec::decode(value, ROW_BYTES_MAX).ok()?;
    Some([text_key(service.as_str()), text_key(domain.as_str())].concat())
}

fn pack(rows: &[KeyValue]) -> Packed {
    let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
    let mut before: (&[u8], &[u8]) = (&[], &[]);
    for (key, value) in rows {
        let begin = key_end(key, value).and_then(|end| key.strip_suffix(end.as_slice())).unwrap_or(key);
        let (key_shared, value_shared) = shared((begin, value), before);
        let key_rest = begin.get(usize::from(key_shared)..).unwrap_or_default();
        let value_rest = value.get(usize::from(value_shared)..).unwrap_or_default();
        bytes.extend_from_slice(key_rest);
        bytes.extend_from_slice(value_rest);
        lengths.push(Lengths {
            key_shared,
            key: u8::try_from(key_rest.len()).unwrap_or(u8::MAX),
            value_shared,
            value: u32::try_from(value_rest.len()).unwrap_or(u32::MAX),
        });
        before = (key, value);
    }
    Packed { lengths, bytes }
}

/// How many leading bytes a key and a value share with the previous key and value, at most 255 each.
fn shared((key, value): (&[u8], &[u8]), before: (&[u8], &[u8])) -> (u8, u8) {
    let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (key, value) = (common(key, before.0), common(value, before.1));
    (u8::try_from(key).unwrap_or(u8::MAX), u8::try_from(value).unwrap_or(u8::MAX))
}

/// How many bytes the rows of a file may still unpack to.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), ProfileError> {
        self.0 = self.0.checked_sub(bytes).ok_or(ProfileError::Unpacked)?;
        Ok(())
    }
}

/// The unpacked rows. Refused unless they ascend, [`pack`] would give exactly these bytes and the budget suffices.
fn unpack(packed: &Packed, budget: &mut Budget) -> Result<Vec<KeyValue>, ProfileError> {
    let malformed = || form("rows: out of order, or not in the shortest form");
    let (mut rows, mut rest): (Vec<KeyValue>, _) = (Vec::new(), packed.bytes.as_slice());
    for lengths in &packed.lengths {
        let before = rows.last().map(|(key, value)| (key.as_slice(), value.as_slice())).unwrap_or_default();
        let (row, after) = unpack_row(lengths, before, rest).ok_or_else(malformed)?;
        budget.take(row.0.len().saturating_add(row.1.len()))?;
        rows.push(row);
        rest = after;
    }
    if rest.is_empty() { Ok(rows) } else { Err(malformed()) }
}

/// One row and the bytes after it.
fn unpack_row<'p>(lengths: &Lengths, before: (&[u8], &[u8]), rest: &'p [u8]) -> Option<(KeyValue, &'p [u8])> {
    let Lengths { key_shared, key, value_shared, value } = *lengths;
    let (key_rest, after) = rest.split_at_checked(usize::from(key))?;
    let (value_rest, after) = after.split_at_checked(usize::try_from(value).ok()?)?;
    let mut key = [before.0.get(..usize::from(key_shared))?, key_rest].concat();
    let value = [before.1.get(..usize::from(value_shared))?, value_rest].concat();
    if shared((&key, &value), before) != (key_shared, value_shared) {
        return None;
    }
    key.extend(key_end(&key, &value)?);
    (key.as_slice() > before.0 && key.len() <= KEY_BYTES_MAX).then_some(((key, value), after))
}

impl Display for ProfileProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = ProofText {
            format: PROFILE_FORMAT.to_owned(),
            federation: self.federation.to_string(),
            question: self.question.to_string(),
            manifests: self.manifests.iter().map(ToString::to_string).collect(),
            left_out: self.left_out.iter().map(ToString::to_string).collect(),
            without: self.without.iter().map(ToString::to_string).collect(),
            whole: self.whole.clone(),
            logs: self.logs.iter().map(LogText::of).collect(),
        };
        let text = serde_json::to_string_pretty(&text).map_err(|_| fmt::Error)?;
        writeln!(f, "{text}")
    }
}

impl LogText {
    fn of(log: &LogEvidence) -> Self {
        let certificate = log.certificate.as_ref();
        let roots: Vec<[u8; 32]> = log.roots.iter().map(|root| root.0).collect();
        Self {
            log: log.log.to_string(),
            checkpoint: certificate.map(|one| one.note.to_string()),
            entry: certificate.map(|one| Base64::encode_string(&one.entry)),
            path: certificate.map(|one| Base64::encode_string(one.path.as_flattened())),
            adopted: certificate.and_then(|one| Some(Base64::encode_string(&codec::encode(one.adopted.as_ref()?)))),
            roots: Base64::encode_string(roots.as_flattened()),
            maps: log.maps.iter().map(MapText::of).collect(),
        }
    }
}

impl MapText {
    fn of(map: &MapEvidence) -> Self {
        let encode = |bytes: Vec<u8>| Base64::encode_string(&bytes);
        let (proof, rows) = (encode(codec::encode(&map.proof)), encode(codec::encode(&pack(&map.rows))));
        Self { name: map.name.clone(), proof, rows }
    }
}

fn form(what: impl Display) -> ProfileError {
    ProfileError::Form(what.to_string())
}

impl FromStr for ProfileProof {
    type Err = ProfileError;
    /// Parses a file. White space between JSON tokens and the order of members do not matter.
    fn from_str(text: &str) -> Result<Self, ProfileError> {
        if text.len() > PROFILE_BYTES_MAX {
            return Err(ProfileError::TooLong(text.len()));
        }
        let text: ProofText = serde_json::from_str(text).map_err(form)?;
        if text.format != PROFILE_FORMAT {
            return Err(form(format_args!("want the format {PROFILE_FORMAT}")));
        }
        if text.manifests.len() >= limits::VERSIONS_MAX {
            return Err(form("too many versions of the manifest"));
        }
        let note = |text: &String| SignedNote::parse(text.as_bytes(), limits::MANIFEST_BYTES_MAX).map_err(form);
        let mut budget = Budget(PROFILE_UNPACKED_BYTES_MAX);
        Ok(Self {
            federation: text.federation.parse().map_err(form)?,
            question: text.question.parse().map_err(form)?,
            manifests: text.manifests.iter().map(note).collect::<Result<_, _>>()?,
            left_out: text.left_out.iter().map(|log| log.parse().map_err(form)).collect::<Result<_, _>>()?,
            without: text.without.iter().map(|home| home.parse().map_err(form)).collect::<Result<_, _>>()?,
            whole: text.whole,
            logs: text.logs.into_iter().map(|log| log.read(&mut budget)).collect::<Result<_, _>>()?,
        })
    }
}

impl LogText {
    fn read(self, budget: &mut Budget) -> Result<LogEvidence, ProfileError> {
        let roots = hashes("roots", &self.roots)?.into_iter().map(StateRoot).collect();
        let certificate = match (self.checkpoint, self.entry, self.path, self.adopted) {
            (Some(note), Some(entry), Some(path), adopted) => {
                Some(certificate(&note, &entry, &path, adopted.as_deref())?)
            }
            (None, None, None, None) => None,
            _ => return Err(form("a log with an incomplete certificate")),
        };
        let maps = self.maps.into_iter().map(|map| map.read(budget)).collect::<Result<_, _>>()?;
        Ok(LogEvidence { log: self.log.parse().map_err(form)?, certificate, roots, maps })
    }
}

fn certificate(note: &str, entry: &str, path: &str, adopted: Option<&str>) -> Result<HeadEvidence, ProfileError> {
    let note = SignedNote::parse(note.as_bytes(), limits::CHECKPOINT_BYTES_MAX).map_err(form)?;
    let path = hashes("path", path)?;
    if path.len() > PROOF_HASHES_MAX {
        return Err(form("path: too many hashes"));
    }
    let adopted = adopted.map(|adopted| {
        let bytes = bytes("adopted", adopted)?;
        codec::decode(&bytes, ADOPTION_BYTES_MAX).map_err(form)
    });
    Ok(HeadEvidence { note, entry: bytes("entry", entry)?, path, adopted: adopted.transpose()? })
}

impl MapText {
    fn read(self, budget: &mut Budget) -> Result<MapEvidence, ProfileError> {
        let proof = bytes("proof", &self.proof)?;
        let rows = bytes("rows", &self.rows)?;
        let proof = codec::decode(&proof, proof.len()).map_err(form)?;
        let packed: Packed = codec::decode(&rows, rows.len()).map_err(form)?;
        Ok(MapEvidence { name: self.name, proof, rows: unpack(&packed, budget)? })
    }
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, ProfileError> {
    from_base64(text).ok_or_else(|| form(format_args!("{name}: want base64")))
}

fn hashes(name: &str, text: &str) -> Result<Vec<Hash>, ProfileError> {
    let bytes = bytes(name, text)?;
    match bytes.as_chunks() {
        (hashes, []) => Ok(hashes.to_vec()),
        _ => Err(form(format_args!("{name}: want hashes of 32 bytes"))),
    }
}
