//! The public files, read from the database: the same for HTTP, for `fama publish` and for the audit of a folder.
use std::cmp::Reverse;

use fama_ledger::id::NoteHash;
use fama_ledger::log::{LogError, Tiles as _};
use fama_ledger::manifest::{LogId, Manifest};
use fama_ledger::public::{self, BUNDLE_BYTES_MAX, LogFile, Path, TilePosition};

use crate::store::{LogRecord, StoreError, View};
use crate::wire::NoteAnswer;

pub mod heads;
pub(crate) mod inclusion;

use heads::HeldHead;

/// The content of a public file; `None` if it does not exist. `manifest` is the newest version in use.
///
/// Tiles and bundles exist up to the end of a log that was cut, otherwise up to the size of its checkpoint; entries
/// beyond that are not final.
///
/// # Errors
/// [`StoreError`].
pub fn file(view: &View<'_>, manifest: &Manifest, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match path {
        Path::Manifest(version) => Ok(manifest.at(*version).map(|version| version.note().to_string().into_bytes())),
        Path::Policy => Ok(Some(public::policy(manifest).into_bytes())),
        Path::Note(hash) => note(view, hash),
        Path::Dropped => Ok(Some(public::dropped(&view.redacted_notes()?).into_bytes())),
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
    // Only a log of the manifest has a record.
    let Some(record) = manifest.log(log).map(|_| view.log(log)).transpose()?.flatten() else { return Ok(None) };
    let found = checkpoint(view, &record)?;
    let ended = manifest.cut(log).map(|cut| cut.head.size).filter(|end| *end <= record.state.size);
    let size = ended.or(found.as_ref().map(|found| found.signed.head.size)).unwrap_or(0);
    match file {
        LogFile::Checkpoint => {
            let note = found.and_then(|found| found.note(manifest, log).ok().flatten());
            Ok(note.map(|note| note.to_string().into_bytes()))
        }
        LogFile::Entries(position) if file.is_within(size) => bundle(view, log, position),
        LogFile::Tile(level, position) if file.is_within(size) => tile(view, log, level, position),
        LogFile::Entries(_) | LogFile::Tile(..) => Ok(None),
    }
}

/// The certificate; if there is none yet, the largest signed head on this copy's branch.
fn checkpoint(view: &View<'_>, record: &LogRecord) -> Result<Option<HeldHead>, StoreError> {
    let (log, size) = (&record.state.log, record.state.size);
    // A repaired copy may be smaller than the certified head.
    let certificate = heads::certificate(view, log)?.filter(|found| found.signed.head.size <= size);
    if certificate.is_some() {
        return Ok(certificate);
    }
    let mut found = heads::all(view, log, size)?;
    found.retain(|held| held.signed.head.size > 0);
    found.sort_by_key(|held| Reverse(held.signed.head.size));
    heads::first_on_branch(view, log, found).map_err(|error| match error {
        LogError::Tiles(error) => error,
        other => view.store().inconsistent(log, &other),
    })
}

fn tile(view: &View<'_>, log: &LogId, level: u8, position: TilePosition) -> Result<Option<Vec<u8>>, StoreError> {
    let hashes = view.tiles(log).tile(level, position.index())?;
    match hashes.get(..position.width()) {
        Some(hashes) => Ok(Some(public::tile(hashes))),
        None => Err(view.store().inconsistent(log, &format!("tile {position} of level {level} lacks hashes"))),
    }
}

fn bundle(view: &View<'_>, log: &LogId, position: TilePosition) -> Result<Option<Vec<u8>>, StoreError> {
    let entries = view.entries(log, position.first(), position.width(), BUNDLE_BYTES_MAX)?;
    let whole = entries.get(..position.width()).and_then(|entries| public::bundle(entries).ok());
    whole
        .map(Some)
        .ok_or_else(|| view.store().inconsistent(log, &format!("entries from {} on are missing", position.first())))
}
