//! One function per decoder: what must hold for any input at all. Returns the code of a refusal.
use core::fmt::{Debug, Display};
use core::str::FromStr;
use std::sync::Arc;

use fama_ledger::base64;
use fama_ledger::checkpoint::{self, Checkpoint};
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry, VerifiedEntry, event_id};
use fama_ledger::equivocation::Equivocation;
use fama_ledger::event::{Context, Event, Kind, Nonce, Service};
use fama_ledger::id::{Domain, EventId, Handle, Name};
use fama_ledger::jose::{JoseKey, Jws};
use fama_ledger::key::{Curve, PublicKey, Signature};
use fama_ledger::limits;
use fama_ledger::log::{Hash, Head, verify_consistency, verify_inclusion};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::map::{self, MapProof, RangeProof};
use fama_ledger::note::Note;
use fama_ledger::profile::{ProfileError, ProfileProof};
use fama_ledger::proof::{PROOF_BYTES_MAX, TlogProof};
use fama_ledger::public;
use fama_ledger::rows::{self, Row, RowError};
use fama_ledger::secret::SecretKey;
use fama_ledger::signed_note::{SignedNote, sign};
use fama_ledger::stand::{Stand, VerifiedStand};
use fama_ledger::time::{Day, Millis};
use fama_ledger::token::{Assertion, Delegation, DpopProof};
use fama_node::wire;
use fama_tests::{DOMAINS, federation, governance_key, node_key, secret, signed};

use super::corpus;
pub(crate) use super::http::{login, question, recipe};
use crate::profile::{every_log, small_story};
use crate::tokens;

/// The number of targets.
pub(crate) const COUNT: usize = 31;
/// The message that [`edge`] takes a signature of.
pub(crate) const MESSAGE: &[u8] = b"fama";

pub(crate) type DecodeResult = Result<(), &'static str>;
pub(crate) type FuzzTarget = fn(&[u8]) -> DecodeResult;

/// The federation whose keys verify the inputs.
fn ours() -> &'static Manifest {
    static OURS: std::sync::LazyLock<Manifest> = std::sync::LazyLock::new(|| federation(2, |_| ()));
    &OURS
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "not_utf8")
}

/// Strict codec: a decoded value encodes to the same bytes, and they are no longer than the bound.
macro_rules! decoded {
    ($type:ty, $bytes:expr, $max:expr) => {{
        let value: $type = codec::decode($bytes, $max).map_err(|error| error.code())?;
        assert!($bytes.len() <= $max);
        assert_eq!(codec::encode(&value), $bytes);
        assert!(!format!("{value:?}").is_empty());
        value
    }};
}

fn decoded_entry(bytes: &[u8]) -> Result<Entry, &'static str> {
    Ok(decoded!(Entry, bytes, limits::ENTRY_BYTES_MAX))
}

pub(crate) fn event(bytes: &[u8]) -> DecodeResult {
    let event = Event::parse(bytes).map_err(|error| error.fault.code())?;
    assert_eq!(event.text().as_bytes(), bytes);
    let said = signed(event.clone(), &secret(2));
    let full = fama_ledger::entry::SignedEvent { countersignature: Some(said.signature), ..said };
    let entry = codec::encode(&Entry { time: Millis(u64::MAX), body: Body::Event(full) });
    assert!(entry.len() <= limits::ENTRY_BYTES_MAX, "every event fits an entry");
    assert_eq!(event_id(&entry), Some(event.id()));
    Ok(())
}

pub(crate) fn note(bytes: &[u8]) -> DecodeResult {
    let note = Note::parse(bytes).map_err(|error| error.fault.code())?;
    assert_eq!(note.text().as_bytes(), bytes);
    assert_eq!(note.check(), Ok(()));
    Ok(())
}

pub(crate) fn entry(bytes: &[u8]) -> DecodeResult {
    let raw = decoded_entry(bytes);
    let verified = VerifiedEntry::decode(bytes.to_vec(), &ours().federation());
    let Entry { body, .. } = raw.inspect_err(|code| assert_eq!(verified.as_ref().unwrap_err().code(), *code))?;
    if let Ok(verified) = &verified {
        assert_eq!(verified.bytes(), bytes);
    }
    if let Body::Event(said) = body {
        assert_eq!(event_id(bytes), Some(said.event.id()));
        // Whatever its signature, an event is valid only if a text can express it.
        let again = signed(said.event.clone(), &secret(2)).verify(&said.event.federation);
        if again.is_ok() {
            assert_eq!(Event::parse(said.event.text().as_bytes()), Ok(said.event));
        }
    }
    verified.map(drop).map_err(|error| error.code())
}

/// The input is a manifest's text, which its operators then sign as it is.
pub(crate) fn manifest(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let line = |i: u8| sign(text, DOMAINS[usize::from(i)], governance_key(i).ed25519().unwrap());
    let note = SignedNote { text: text.to_owned(), signatures: (0..2).map(line).collect() }.to_string();
    let manifest = Manifest::parse(&note).map_err(|error| error.code())?;
    assert_eq!(manifest.note().to_string(), note);
    assert!(manifest.quorum() > 2 * manifest.faults() && manifest.quorum() <= manifest.operators().len());
    for operator in manifest.operators() {
        assert_eq!(manifest.origin(&operator.log()).to_string().parse(), Ok(manifest.origin(&operator.log())));
    }
    Ok(())
}

/// The input is the notes of successive versions, joined.
pub(crate) fn chain(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let newest = Manifest::parse_chain(text).map_err(|error| error.code())?;
    assert_eq!(newest.chain(), text);
    assert_eq!(newest.versions().count(), usize::try_from(newest.version()).unwrap());
    Ok(())
}

/// The input is a stand's text, which an operator then signs as it is.
pub(crate) fn stand(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let stand = Stand::parse(text).map_err(|error| error.fault.code())?;
    assert_eq!(stand.text(), text);
    let note = stand.sign(node_key(0).ed25519().unwrap()).to_string();
    let verified = VerifiedStand::read(&note, ours()).map_err(|error| error.code())?;
    assert_eq!((verified.stand(), stand.operator.as_str()), (&stand, DOMAINS[0]));
    Ok(())
}

pub(crate) fn equivocation(bytes: &[u8]) -> DecodeResult {
    let found = decoded!(Equivocation, bytes, Equivocation::BYTES_MAX);
    found.verify(ours()).map_err(|error| error.code())?;
    assert!(found.larger.0.size >= found.smaller.0.size && found.larger.0 != found.smaller.0);
    Ok(())
}

fn read_signed(note: &SignedNote) -> DecodeResult {
    let owner = |origin: &checkpoint::Origin| Some(ours().operator(&origin.operator)?.node_key);
    let read = checkpoint::read_note(note, owner, |name| Some(ours().operator(name)?.node_key));
    read.map(drop).map_err(|error| error.code())
}

pub(crate) fn signed_note(bytes: &[u8]) -> DecodeResult {
    let note = SignedNote::parse(bytes, limits::CHECKPOINT_BYTES_MAX).map_err(|error| error.code())?;
    assert_eq!(note.to_string().as_bytes(), bytes);
    let _ = read_signed(&note);
    Ok(())
}

pub(crate) fn checkpoint(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let checkpoint: Checkpoint = text.parse().map_err(|error: checkpoint::CheckpointError| error.code())?;
    assert_eq!(checkpoint.text(), text);
    Ok(())
}

pub(crate) fn public_path(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let path: public::Path = text.parse().map_err(|_| "no_path")?;
    assert_eq!(path.to_string(), text, "one file, one path");
    if let public::Path::Log(_, file @ (public::LogFile::Entries(place) | public::LogFile::Tile(_, place))) = path {
        assert!((1..=256).contains(&place.width()) && place.end() > place.first() && !file.is_within(0));
    }
    Ok(())
}

/// The first byte is the number of entries less one, the rest an entry bundle.
pub(crate) fn entry_bundle(bytes: &[u8]) -> DecodeResult {
    let (count, bytes) = bytes.split_first().ok_or("empty")?;
    let place = public::TilePosition::new(0, usize::from(*count) + 1).unwrap();
    let entries = public::entries(bytes, place).map_err(|error| error.code())?;
    assert!(bytes.len() <= public::BUNDLE_BYTES_MAX);
    assert_eq!((public::bundle(&entries).unwrap(), entries.len()), (bytes.to_vec(), place.width()));
    Ok(())
}

pub(crate) fn tlog_proof(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let proof: TlogProof = text.parse().map_err(|error: fama_ledger::proof::TlogProofError| error.code())?;
    assert!(bytes.len() <= PROOF_BYTES_MAX);
    assert_eq!(proof.to_string(), text);
    let _ = proof.included(proof.extra.as_deref().unwrap_or_default(), ours());
    let key = |_: &_| Some(ours().operators()[0].node_key);
    let _ = proof.verify(b"entry", key, |_| None);
    Ok(())
}

/// A malformed proof shows nothing; a valid one about the golden question shows the golden answer.
pub(crate) fn profile_proof(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let proof: ProfileProof = text.parse().map_err(|error: ProfileError| error.code())?;
    assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
    let (manifest, golden) = small();
    let shows =
        |proof: &ProfileProof| proof.verify(manifest, &every_log(proof)).map(|proven| (proven.question, proven.answer));
    match shows(&proof) {
        Ok(shown) => {
            assert!(proof.question != golden.question || Ok(shown) == shows(golden), "another answer");
            Ok(())
        }
        Err(error) => Err(error.code()),
    }
}

fn small() -> &'static (Arc<Manifest>, ProfileProof) {
    static SMALL: std::sync::LazyLock<(Arc<Manifest>, ProfileProof)> = std::sync::LazyLock::new(small_story);
    &SMALL
}

/// No bytes but the golden proof show the golden rows, and none show them with a row left out.
pub(crate) fn map_proof(bytes: &[u8]) -> DecodeResult {
    let proof = decoded!(MapProof, bytes, map::MAP_PROOF_BYTES_MAX);
    for corpus::ProvenRowsInput { root, answers, proof: golden } in corpus::proven() {
        let told: Vec<_> = answers.iter().map(|(prefix, rows)| (prefix, rows.as_slice())).collect();
        assert!(proof.verify(root, &told).is_err() || golden == bytes, "another proof of the same");
        let lie: Vec<_> =
            answers.iter().map(|(prefix, rows)| (prefix, rows.split_first().map_or(&[][..], |r| r.1))).collect();
        assert!(proof.verify(root, &lie).is_err() || lie == told, "a row is hidden");
    }
    Ok(())
}

pub(crate) fn range_proof(bytes: &[u8]) -> DecodeResult {
    let proof = decoded!(RangeProof, bytes, map::RANGE_PROOF_BYTES_MAX);
    for corpus::ProvenRange { root, start, rows, proof: golden } in corpus::ranged() {
        assert!(proof.verify(root, start, rows).is_err() || golden == bytes, "another proof of the same");
        let lie = rows.split_first().map_or(&[][..], |rows| rows.1);
        assert!(proof.verify(root, start, lie).is_err() || lie == rows, "a row is hidden");
    }
    Ok(())
}

pub(crate) fn tree_proof(bytes: &[u8]) -> DecodeResult {
    let (old, new, proof) = decoded!((Head, Head, Vec<Hash>), bytes, 1 << 16);
    let consistent = verify_consistency(&old, &new, &proof);
    if consistent.is_ok() {
        assert!(old.size <= new.size && (old.size < new.size || old.root == new.root));
    }
    let _ = verify_inclusion([7; 32], old.size, &new, &proof);
    Ok(())
}

fn row_of<R: Row + Debug>(bytes: &[u8]) -> DecodeResult {
    match rows::decode_row::<R, ()>(bytes) {
        Ok(row) => {
            assert_eq!(codec::encode(&row), bytes);
            assert!(!format!("{row:?}").is_empty());
            Ok(())
        }
        Err(RowError::Broken(error)) => Err(error.code()),
        Err(RowError::Storage(()) | RowError::Torn) => unreachable!("nothing is stored"),
    }
}

/// The input is a row's tag and value.
pub(crate) fn row(bytes: &[u8]) -> DecodeResult {
    let (tag, value) = bytes.split_first().ok_or("empty")?;
    match tag {
        1 => row_of::<rows::Identity>(value),
        2 => row_of::<rows::KeyVersion>(value),
        3 => row_of::<rows::NameOwner>(value),
        4 => row_of::<rows::KeyOwner>(value),
        5 => row_of::<rows::Provider>(value),
        6 => row_of::<rows::Tally>(value),
        7 => row_of::<rows::DayRow>(value),
        8 => row_of::<rows::HomeRow>(value),
        9 => row_of::<rows::Claim>(value),
        10 => row_of::<rows::SubjectRow>(value),
        11 => row_of::<rows::Statement>(value),
        12 => row_of::<rows::LogRow>(value),
        13 => row_of::<rows::Grant>(value),
        14 => row_of::<rows::Issuer>(value),
        15 => row_of::<rows::Suspension>(value),
        _ => Err("unknown_tag"),
    }
}

/// What verifies is what was signed: the texts that the input was made from, and no other.
pub(crate) fn jws(bytes: &[u8]) -> DecodeResult {
    let (text, (id, key), now) = (text(bytes)?, tokens::identity(), crate::profile::NOW);
    let jws =
        Jws::parse(text).or_else(|_| Jws::parse_with_key(text).map(|(jws, _)| jws)).map_err(|error| error.code())?;
    let token = jws.token_type();
    let mine = jws.verify(&JoseKey::Ledger(key)).is_ok();
    let federation = ours().federation();
    let assertion = Assertion::parse(text, tokens::ISSUER, now);
    let passed = [
        assertion.and_then(|one| one.check((&id, &key), federation, None, now)).is_ok(),
        Delegation::check(text, (&id, &key), federation, now).is_ok(),
        DpopProof::check(text, "POST", tokens::ISSUER, None, now).is_ok(),
    ];
    assert!(passed.iter().filter(|one| **one).count() <= 1, "a text of one kind is none of another: {text}");
    if mine || passed.contains(&true) {
        assert!(tokens::examples().iter().any(|one| one == text), "{token:?}: {text}");
    }
    Ok(())
}

/// The first steps of a node with a head from a stranger.
fn head_of(log: &LogId, signed: &wire::SignedHead) {
    if let Ok(held) = signed.verify(ours(), log) {
        assert_eq!(wire::SignedHead::of(&held), *signed);
    }
}

fn cosigned_of(log: &LogId, cosigned: &wire::CosignedHead) {
    head_of(log, &cosigned.signed);
    let checkpoint = Checkpoint { origin: ours().origin(log), head: cosigned.signed.head };
    let _ = cosigned.cosignature.verify(&checkpoint, &ours().operators()[0].node_key);
}

fn frontier_of(frontier: &wire::Frontier) {
    for log in &frontier.logs {
        log.newest.iter().for_each(|head| head_of(&log.log, head));
        log.cosigned.iter().for_each(|head| cosigned_of(&log.log, head));
    }
}

fn entries_of(entries: &[Vec<u8>]) {
    for bytes in entries {
        let _ = VerifiedEntry::decode(bytes.clone(), &ours().federation());
    }
}

pub(crate) fn sync_request(bytes: &[u8]) -> DecodeResult {
    if let wire::SyncRequest::Frontier(frontier) = decoded!(wire::SyncRequest, bytes, wire::REQUEST_BYTES_MAX) {
        frontier_of(&frontier);
    }
    Ok(())
}

pub(crate) fn sync_response(bytes: &[u8]) -> DecodeResult {
    match decoded!(wire::SyncResponse, bytes, wire::RESPONSE_BYTES_MAX) {
        wire::SyncResponse::Frontier(frontier) => frontier_of(&frontier),
        wire::SyncResponse::Entries(range) => {
            entries_of(&range.entries);
            let _ = verify_consistency(&Head::EMPTY, &Head { size: range.first, ..Head::EMPTY }, &range.proof);
        }
        wire::SyncResponse::Manifests(texts) => texts.iter().for_each(|text| drop(Manifest::parse(text))),
        wire::SyncResponse::Notes(notes) => notes.iter().for_each(|(_, answer)| {
            if let wire::NoteAnswer::Text(text) = answer {
                let _ = Note::parse(text.as_bytes());
            }
        }),
        wire::SyncResponse::Offers(offers) => offers.iter().for_each(|offer| drop(offer.verify(ours()))),
        wire::SyncResponse::Rows(wire::RowRange { rows, proof }) => {
            let _ = proof.verify(&fama_ledger::id::StateRoot([1; 32]), &[], &rows);
        }
        wire::SyncResponse::Refused(_) => {}
    }
    Ok(())
}

pub(crate) fn gossip(bytes: &[u8]) -> DecodeResult {
    match decoded!(wire::Gossip, bytes, wire::GOSSIP_BYTES_MAX) {
        wire::Gossip::Head { log, signed, entries, .. } => {
            head_of(&log, &signed);
            entries_of(&entries);
        }
        wire::Gossip::Cosignature { log, cosigned } => cosigned_of(&log, &cosigned),
        wire::Gossip::Equivocation(proof) => drop(proof.verify(&crate::vectors::manifest())),
    }
    Ok(())
}

pub(crate) fn submit_request(bytes: &[u8]) -> DecodeResult {
    let request = decoded!(wire::SubmitRequest, bytes, wire::REQUEST_BYTES_MAX);
    for wire::Submission { signed, note, .. } in request.submissions {
        let _ = signed.verify(&ours().federation());
        let _ = note.map(|note| Note::parse(note.as_bytes()));
    }
    Ok(())
}

pub(crate) fn submit_response(bytes: &[u8]) -> DecodeResult {
    let wire::SubmitResponse(results) = decoded!(wire::SubmitResponse, bytes, wire::RESPONSE_BYTES_MAX);
    for result in results {
        if let wire::SubmitResult::Accepted(receipt) = result {
            let _ = entry(&receipt.entry);
            let _ = tlog_proof(receipt.proof.as_bytes());
        }
    }
    Ok(())
}

pub(crate) fn base64(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let read = base64::decode_lenient(text).ok_or("no_base64")?;
    assert!(text.len() <= base64::TEXT_BYTES_MAX && read.len() * 4 <= text.len() * 3);
    assert_eq!(base64::decode_lenient(&base64::encode(&read)), Some(read));
    Ok(())
}

/// The input is a key as text, as PEM or in the codec's bytes.
pub(crate) fn public_key(bytes: &[u8]) -> DecodeResult {
    let decoded = codec::decode::<PublicKey>(bytes, 64).map_err(|error| error.code());
    let checked = decoded.and_then(|key| key.check().map(|()| key).map_err(|error| error.code()));
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let key = match (checked, text.parse::<PublicKey>()) {
        (Ok(key), _) => key,
        (_, Ok(key)) => {
            assert_eq!(key.to_string(), text);
            key
        }
        _ => PublicKey::from_pem(text).map_err(|error| error.code())?,
    };
    assert_eq!(key.check(), Ok(()));
    assert_eq!(key.to_string().parse(), Ok(key));
    assert_eq!(PublicKey::from_pem(&key.to_pem().unwrap()), Ok(key));
    Ok(())
}

pub(crate) fn secret_key(bytes: &[u8]) -> DecodeResult {
    let key = SecretKey::from_pem(text(bytes)?).map_err(|error| error.code())?;
    assert_eq!(key.public().check(), Ok(()));
    let again = SecretKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(key.public().verify(MESSAGE, &key.sign(MESSAGE)), Ok(()));
    Ok(())
}

/// A value has only one text.
fn one_text<T: FromStr + Display>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|value| {
        assert_eq!(value.to_string(), text);
        true
    })
}

pub(crate) fn short_text(bytes: &[u8]) -> DecodeResult {
    let text = text(bytes)?;
    let types = [
        one_text::<Domain>,
        one_text::<Name>,
        one_text::<Handle>,
        one_text::<EventId>,
        one_text::<checkpoint::Origin>,
        one_text::<Millis>,
        one_text::<Day>,
        one_text::<Nonce>,
        one_text::<Service>,
        one_text::<Context>,
        one_text::<Kind>,
        one_text::<Curve>,
    ];
    if types.iter().fold(false, |read, one| one(text) | read) { Ok(()) } else { Err("nothing") }
}

/// The first byte chooses the key (even: secp256k1, odd: Ed25519); the rest is a signature in any encoding. Each key
/// signed [`MESSAGE`] once, so a signature that holds must be that one.
pub(crate) fn edge(bytes: &[u8]) -> DecodeResult {
    let (which, signature) = bytes.split_first().ok_or("empty")?;
    let key = secret(2 + which % 2);
    let read = Signature::from_edge(&key.public(), MESSAGE, signature).map_err(|error| error.code())?;
    assert_eq!(read, key.sign(MESSAGE), "forged");
    assert_eq!(key.public().verify(MESSAGE, &read), Ok(()));
    Ok(())
}
