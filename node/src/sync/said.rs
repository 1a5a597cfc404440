//! This node's answers to peers that ask about its logs, read from one view of the store.
use fama_ledger::adoption::Adopted;
use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry};
use fama_ledger::id::ManifestHash;
use fama_ledger::limits;
use fama_ledger::log::{self, Head};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::signed_note::SignedNote;
use fama_ledger::time::Millis;

use crate::store::{StoreError, StoredCertificate, View};
use crate::wire::{
    self, CertifiedHead, CosignedHead, EntryRange, Frontier, LogFrontier, NoteAnswer, Refusal, Session, SyncRequest,
    SyncResponse,
};

/// How long frontiers list the same selection of many former cosigners, in milliseconds.
const FORMER_TURN_MILLIS: u64 = 1_000;
/// Entries read at a time while looking for the end of a batch.
const READ_ENTRIES: usize = 1_024;

/// This node's frontier; `now` by its wall clock.
///
/// # Errors
/// [`StoreError`].
pub fn frontier(view: &View<'_>, manifest: &Manifest, session: Session, now: Millis) -> Result<Frontier, StoreError> {
    let of = |log: LogId| -> Result<LogFrontier, StoreError> {
        let size = view.log(&log)?.map_or(0, |record| record.state.size);
        let (newest, equivocation) = (view.shown(&log)?, view.equivocation(&log)?);
        let cosigned = cosigned(view, manifest, &log, now)?;
        let certificate = certificate(view, manifest, &log, &cosigned)?.map(Box::new);
        Ok(LogFrontier { size, newest, cosigned, equivocation, certificate, log })
    };
    let logs = manifest.operators().iter().map(|operator| of(operator.log())).collect::<Result<_, _>>()?;
    let held = view.store().pending().unwrap_or_else(|| view.store().manifest());
    let manifest_hash = manifest_hash(held.hash(), view.rival_manifest()?.as_deref());
    Ok(Frontier { time: now, session, other: None, manifest: held.version(), manifest_hash, logs })
}

/// The answer to a request; `now` by this node's wall clock.
///
/// # Errors
/// [`StoreError`]; this is not the asker's fault.
pub fn answer(
    view: &View<'_>,
    manifest: &Manifest,
    session: Session,
    now: Millis,
    request: &SyncRequest,
) -> Result<SyncResponse, StoreError> {
    Ok(match request {
        SyncRequest::Frontier(_) => SyncResponse::Frontier(frontier(view, manifest, session, now)?),
        SyncRequest::Manifests { from } => SyncResponse::Manifests(manifests(view, *from)?),
        SyncRequest::Entries { log, from, head } => match range(view, manifest, log, *from, *head)? {
            Ok(range) => SyncResponse::Entries(range),
            Err(refusal) => SyncResponse::Refused(refusal),
        },
        // Answered from memory by `Snapshots`, not from the database.
        SyncRequest::Offers | SyncRequest::Rows { .. } => SyncResponse::Refused(Refusal::snapshot_gone()),
        SyncRequest::Notes(hashes) => {
            let mut notes = Vec::new();
            for hash in hashes.iter().take(wire::NOTES_MAX) {
                notes.extend(
                    view.note(hash)?.filter(|note| matches!(note, NoteAnswer::Text(_))).map(|note| (*hash, note)),
                );
            }
            SyncResponse::Notes(notes)
        }
    })
}

/// The newest cosigned heads of a log: by the operators' keys, and by former keys whose cosignatures a node may need
/// that has nothing yet. If there are too many of the latter, each turn lists a different selection.
fn cosigned(view: &View<'_>, manifest: &Manifest, log: &LogId, now: Millis) -> Result<Vec<CosignedHead>, StoreError> {
    let is_former = |by: &LogId| manifest.log(by).is_none_or(|known| known.cut.is_some());
    let (mut former, mut found): (Vec<_>, Vec<_>) =
        view.cosigned_by(log)?.into_iter().partition(|(by, _)| is_former(by));
    if !former.is_empty() {
        let periods = periods(manifest, log, view.log(log)?.map_or(Vec::new(), |record| record.adopted));
        former.retain(|(by, _)| periods.iter().any(|period| period.needs(by, &found)));
    }
    if former.len() > wire::FORMER_COSIGNERS_MAX {
        let turn = usize::try_from(now.0 / FORMER_TURN_MILLIS).unwrap_or_default();
        let first = turn.wrapping_mul(wire::FORMER_COSIGNERS_MAX) % former.len();
        former.rotate_left(first);
        former.truncate(wire::FORMER_COSIGNERS_MAX);
    }
    found.extend(former);
    Ok(found.into_iter().map(|(_, cosigned)| cosigned).collect())
}

/// This node's certificate of a log, if a frontier with these cosigned heads does not show all of it.
fn certificate(
    view: &View<'_>,
    manifest: &Manifest,
    log: &LogId,
    cosigned: &[CosignedHead],
) -> Result<Option<CertifiedHead>, StoreError> {
    let Some(StoredCertificate { signed, cosignatures }) = view.certificate(log)? else { return Ok(None) };
    let shown = |by: &LogId| {
        cosigned.iter().any(|one| one.cosignature.operator == by.operator && one.signed.head == signed.head)
    };
    if cosignatures.iter().all(|(by, _)| shown(by)) {
        return Ok(None);
    }
    let most = manifest.operators().len().saturating_mul(2);
    let cosignatures = cosignatures.into_iter().take(most).map(|(by, one)| (by.generation, one)).collect();
    Ok(Some(CertifiedHead { signed, cosignatures }))
}

/// The part of a log that the quorum of one version certifies, up to the end of the batch that adopts the next.
struct Period<'a> {
    version: &'a Manifest,
    /// The log's size at the end of that batch; `None` for the newest adopted version.
    end: Option<u64>,
}

fn periods<'a>(manifest: &'a Manifest, log: &LogId, adopted: Vec<Adopted>) -> Vec<Period<'a>> {
    let since = manifest.log(log).map(|known| known.since);
    let later = adopted.into_iter().skip(1).collect::<Vec<_>>();
    let versions = since.into_iter().chain(later.iter().map(|one| one.version));
    let ends = later.iter().map(|one| Some(one.size)).chain([None]);
    versions.zip(ends).filter_map(|(version, end)| Some(Period { version: manifest.at(version)?, end })).collect()
}

impl Period<'_> {
    /// Whether the cosignature of a former key may be needed: it counts in this period, and too few of the current
    /// keys cosigned the period's end.
    fn needs(&self, by: &LogId, current: &[(LogId, CosignedHead)]) -> bool {
        let counts = |by: &LogId| self.version.operator(&by.operator).is_some_and(|operator| operator.log() == *by);
        let reaches = |head: &CosignedHead| self.end.is_some_and(|end| head.signed.head.size >= end);
        let reached = current.iter().filter(|(by, cosigned)| counts(by) && reaches(cosigned)).count();
        counts(by) && reached < self.version.quorum()
    }
}

/// The [`Frontier::manifest_hash`] of a node: differs between nodes that hold different texts of one version.
pub fn manifest_hash(newest: ManifestHash, rival: Option<&str>) -> ManifestHash {
    let note = rival.and_then(|note| SignedNote::parse(note.as_bytes(), limits::MANIFEST_BYTES_MAX).ok());
    let Some(note) = note else { return newest };
    let mut both = [newest.0, *blake3::hash(note.text.as_bytes()).as_bytes()];
    both.sort_unstable();
    ManifestHash(*blake3::hash(both.as_flattened()).as_bytes())
}

fn manifests(view: &View<'_>, from: u32) -> Result<Vec<String>, StoreError> {
    let (store, mut found) = (view.store(), Vec::new());
    let held = store.pending().unwrap_or_else(|| store.manifest());
    for version in from..=held.version() {
        found.extend(held.at(version).map(|manifest| manifest.note().to_string()));
        if found.len() >= wire::MANIFESTS_MAX {
            break;
        }
    }
    found.extend(view.rival_manifest()?.filter(|_| from <= held.version()));
    Ok(found)
}

/// Whole batches from `from` on, below `head`, about [`wire::ENTRIES_BYTES_SOFT`] bytes. If `head` is inside a batch,
/// the entries up to it are included: they show the asker that the owner signed a head that no valid log has.
fn range(
    view: &View<'_>,
    manifest: &Manifest,
    log: &LogId,
    from: u64,
    head: Head,
) -> Result<Result<EntryRange, Refusal>, StoreError> {
    let size = if manifest.log(log).is_some() { view.log(log)?.map_or(0, |record| record.state.size) } else { 0 };
    if from >= head.size || head.size > size {
        return Ok(Err(Refusal::new("not_here", format!("this node has {size} entries of {log}"))));
    }
    match log::root_at(head.size, &view.tiles(log)) {
        Ok(root) if root == head.root => {}
        Err(fama_ledger::log::LogError::Tiles(error)) => return Err(error),
        _ => return Ok(Err(Refusal::new("other_branch", "this node's copy has another root at that size"))),
    }
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let (mut bytes, mut whole) = (0, 0);
    while bytes < wire::ENTRIES_BYTES_SOFT || whole == 0 {
        let at = from + entries.len() as u64;
        let count = READ_ENTRIES.min(usize::try_from(head.size - at).unwrap_or(usize::MAX));
        if count == 0 {
            whole = entries.len();
            break;
        }
        let read = view.entries(log, at, count, wire::ENTRIES_BYTES_SOFT)?;
        if read.is_empty() {
            break;
        }
        for entry in read {
            bytes += entry.len();
            let ends = is_state(&entry);
            entries.push(entry);
            if ends {
                whole = entries.len();
            }
            if ends && bytes >= wire::ENTRIES_BYTES_SOFT {
                break;
            }
        }
    }
    entries.truncate(whole);
    let reached = from + entries.len() as u64;
    match log::prove_consistency(reached, head.size, &view.tiles(log)) {
        Ok(proof) => {
            let notes = notes(view, &entries, wire::RANGE_NOTES_BYTES_MAX)?;
            Ok(Ok(EntryRange { first: from, entries, proof, notes }))
        }
        Err(fama_ledger::log::LogError::Tiles(error)) => Err(error),
        Err(_) => Ok(Err(Refusal::new("not_here", "no proof to that head"))),
    }
}

/// The texts of notes that encoded entries name, as far as this node has them and they have at most `most` bytes together.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn notes(view: &View<'_>, entries: &[Vec<u8>], most: usize) -> Result<Vec<String>, StoreError> {
    let (mut found, mut left) = (Vec::new(), most);
    for entry in entries {
        let Ok(Entry { body: Body::Event(signed), .. }) = codec::decode(entry, limits::ENTRY_BYTES_MAX) else {
            continue;
        };
        let Some(hash) = signed.event.action.note() else { continue };
        let Some(NoteAnswer::Text(text)) = view.note(&hash)? else { continue };
        let Some(fewer) = left.checked_sub(text.len().saturating_add(NOTE_OVERHEAD)) else { break };
        left = fewer;
        found.push(text);
    }
    Ok(found)
}

/// Bytes by which a text in a message is longer than its characters.
const NOTE_OVERHEAD: usize = 8;

/// Whether an encoded entry is a state entry, by the variant of its body, which follows the time.
fn is_state(entry: &[u8]) -> bool {
    entry.get(8..12) == Some(&[1, 0, 0, 0])
}
