//! The public files, read from the database: the same for HTTP, for who copies them, and for who audits a folder.
use fama_ledger::checkpoint::Cosignature;
use fama_ledger::id::NoteHash;
use fama_ledger::log::{self, Head, LogError, Tiles as _};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::public::{self, BUNDLE_BYTES_MAX, LogFile, Path, Place};

use crate::network::wire::{NoteAnswer, SignedHead};
use crate::store::{LogRecord, StoreError, View};

/// The content of a public file; `None` if there is none. `manifest` is the newest version in use.
///
/// Tiles and bundles are given up to the size at the log's checkpoint, or at its end if it has one; what lies
/// beyond is not final.
///
/// # Errors
/// [`StoreError`].
pub fn file(view: &View<'_>, manifest: &Manifest, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match path {
        Path::Manifest(version) => Ok(manifest.at(*version).map(|version| version.note().to_string().into_bytes())),
        Path::Policy => Ok(Some(public::policy(manifest).into_bytes())),
        Path::Note(hash) => note(view, hash),
        Path::Log(log, file) => log_file(view, manifest, log, *file),
    }
}

fn note(view: &View<'_>, hash: &NoteHash) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(match view.note(hash)? {
        Some(NoteAnswer::Text(text)) => Some(text.into_bytes()),
        _ => None,
    })
}

fn log_file(view: &View<'_>, manifest: &Manifest, log: &LogId, file: LogFile) -> Result<Option<Vec<u8>>, StoreError> {
    // A log that the manifest lacks has no record.
    let Some(record) = manifest.log(log).map(|_| view.log(log)).transpose()?.flatten() else { return Ok(None) };
    let found = checkpoint(view, &record)?;
    let ended = manifest.cut(log).map(|cut| cut.head.size).filter(|end| *end <= record.state.size);
    let size = ended.or(found.as_ref().map(|found| found.signed.head.size)).unwrap_or(0);
    match file {
        LogFile::Checkpoint => Ok(found.and_then(|found| found.note(manifest, log))),
        LogFile::Entries(place) if file.is_within(size) => bundle(view, log, place),
        LogFile::Tile(level, place) if file.is_within(size) => tile(view, log, level, place),
        LogFile::Entries(_) | LogFile::Tile(..) => Ok(None),
    }
}

/// A head of this copy with the cosignatures of it; verified before they were kept.
struct Found {
    signed: SignedHead,
    cosignatures: Vec<(LogId, Cosignature)>,
}

impl Found {
    fn note(&self, manifest: &Manifest, log: &LogId) -> Option<Vec<u8>> {
        let cosignatures = self.cosignatures.iter().map(|(by, cosignature)| (by, cosignature));
        let signed = self.signed.verify(manifest, log).ok()?;
        let note = public::checkpoint(manifest, log, &signed, cosignatures)?;
        Some(note.to_string().into_bytes())
    }
}

/// The certificate; before there is one, the owner's newest head that this copy has.
fn checkpoint(view: &View<'_>, record: &LogRecord) -> Result<Option<Found>, StoreError> {
    let log = &record.state.log;
    // A copy that was repaired may be behind what was certified.
    let certificate = view.certificate(log)?.filter(|found| found.signed.head.size <= record.state.size);
    if let Some(found) = certificate {
        return Ok(Some(Found { signed: found.signed, cosignatures: found.cosignatures }));
    }
    let cosigned = view.cosigned_by(log)?;
    let newest = view.newest(log)?.into_iter();
    let mut heads: Vec<SignedHead> = newest.chain(cosigned.iter().map(|(_, one)| one.signed.clone())).collect();
    heads.sort_by_key(|signed| std::cmp::Reverse(signed.head.size));
    for signed in heads {
        if !is_on_branch(view, record, signed.head)? {
            continue;
        }
        let of = cosigned.iter().filter(|(_, one)| one.signed.head == signed.head);
        let cosignatures = of.map(|(by, one)| (by.clone(), one.cosignature.clone())).collect();
        return Ok(Some(Found { signed, cosignatures }));
    }
    Ok(None)
}

fn is_on_branch(view: &View<'_>, record: &LogRecord, head: Head) -> Result<bool, StoreError> {
    if head.size == 0 || head.size > record.state.size {
        return Ok(false);
    }
    match log::root_at(head.size, &view.tiles(&record.state.log)) {
        Ok(root) => Ok(root == head.root),
        Err(LogError::Tiles(error)) => Err(error),
        Err(error) => Err(view.store().inconsistent(&record.state.log, &error)),
    }
}

fn tile(view: &View<'_>, log: &LogId, level: u8, place: Place) -> Result<Option<Vec<u8>>, StoreError> {
    let hashes = view.tiles(log).tile(level, place.index())?;
    match hashes.get(..place.width()) {
        Some(hashes) => Ok(Some(public::tile(hashes))),
        None => Err(view.store().inconsistent(log, &format!("tile {place} of level {level} lacks hashes"))),
    }
}

fn bundle(view: &View<'_>, log: &LogId, place: Place) -> Result<Option<Vec<u8>>, StoreError> {
    let entries = view.entries(log, place.first(), place.width(), BUNDLE_BYTES_MAX)?;
    let whole = entries.get(..place.width()).and_then(|entries| public::bundle(entries).ok());
    whole
        .map(Some)
        .ok_or_else(|| view.store().inconsistent(log, &format!("entries from {} are missing", place.first())))
}
