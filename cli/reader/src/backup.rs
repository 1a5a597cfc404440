//! Backups of a node's database in a folder or bucket, each byte checked when it is written and when it is restored.
//!
//! ```text
//! files/<BLAKE3>        one file of a database, by the hash of its content; shared by all backups that have it
//! backups/<id>.json     one backup: its files, and what the database held. Ids sort by time
//! ```
//!
//! A backup begins to exist with its json, which is written last, and ends with it, which is removed first. So a crash
//! at any line leaves whole backups, and files that none has: the next run uses or removes these.
//!
//! One place is for one node, and one process at a time writes there: [`make`] wants its caller to hold the
//! [`BackupLock`](fama_node::store::BackupLock) of the node's data folder.
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use fama_ledger::id::Domain;
use fama_ledger::time::Millis;
use fama_node::store::{FORMAT, Store};
use serde_json::{Value, json};

use crate::bucket::{Bucket, PIECE_BYTES};
use crate::error::ReadError;

mod record;

use record::RECORD_BYTES_MAX;
pub use record::{BackedUpFile, BackedUpLog, BackupRecord};

/// Folder of the files of all backups.
const FILES: &str = "files";
/// Folder of the backups.
const BACKUPS: &str = "backups";
/// Ending of a backup's record.
const RECORD: &str = ".json";
/// The file that makes a folder a database: restored last.
const CURRENT: &str = "CURRENT";
/// Permission bits of a restored folder and its files: the node's own user only.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What a run of [`make`] did.
#[derive(Clone, Debug)]
pub struct MadeBackup {
    /// The new backup.
    pub record: BackupRecord,
    /// Files that the place did not have, and their bytes.
    pub copied: (usize, u64),
    /// Files that were read back from the place and found intact.
    pub read_back: usize,
    /// Ids of the backups that were removed.
    pub removed: Vec<String>,
    /// Why not all was removed that is no longer needed.
    pub not_removed: Option<String>,
}

/// How a backup is made.
#[derive(Clone, Copy, Debug)]
pub struct BackupOptions {
    /// How many backups to keep, the new one included; at least 1.
    pub keep: usize,
    /// Whether files that the place already had are read back, too. Those that are new there always are.
    pub read_all: bool,
}

/// Copies a checkpoint, or the data folder of a stopped node, to `to`, and removes older backups. `progress` is told the
/// bytes done and their total.
///
/// # Errors
/// The checkpoint's own fault (those of [`Store::open_read_only`]); `other_node`, `backup_damaged`, `unreachable`, `file`.
/// There is no new backup then, and no older one was removed.
pub fn make(
    checkpoint: &Path,
    to: &Bucket,
    operator: Option<&Domain>,
    (now, options): (Millis, BackupOptions),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<MadeBackup, ReadError> {
    let mut record = BackupRecord::of(&Store::open_read_only(checkpoint).map_err(ReadError::source_store)?, now)?;
    record.operator = operator.map(ToString::to_string);
    check_place(to, &record)?;
    let (held, sources) = (to.list(FILES)?, database_files(checkpoint)?);
    let total: u64 = sources.iter().map(|(_, bytes)| bytes).sum();
    let (mut done, mut copied, mut read_back) = (0, (0, 0), 0);
    for (name, bytes) in sources {
        let source = checkpoint.join(&name);
        let file = BackedUpFile { hash: hash(&source, bytes)?, name, bytes };
        let held = held.get(&file.hash) == Some(&bytes);
        if !held || options.read_all && !is_intact(to, &file)? {
            copy_in(&source, to, &file)?;
            copied = (copied.0 + 1, copied.1 + bytes);
            if !is_intact(to, &file)? {
                return Err(damaged(to, &file.place(), "it reads back with another hash than it was written with"));
            }
            read_back += 1;
        } else if options.read_all {
            read_back += 1;
        }
        record.files.push(file);
        done += bytes;
        progress(done, total);
    }
    let text = record.json().to_string().into_bytes();
    if text.len() as u64 > RECORD_BYTES_MAX {
        return Err(ReadError::TooManyFiles(checkpoint.display().to_string()));
    }
    to.write(&record_name(&record.id), text.len() as u64, &mut &text[..], &mut |_| ())?;
    // The backup exists, whatever happens now: a place may allow no removal.
    let (removed, not_removed) = match remove_old(to, &record, options.keep.max(1)) {
        Ok(removed) => (removed, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Ok(MadeBackup { record, copied, read_back, removed, not_removed })
}

/// The finished backups, oldest first.
///
/// # Errors
/// `unreachable`, `file`; `backup_damaged` for one whose record cannot be understood.
pub fn list(from: &Bucket) -> Result<Vec<BackupRecord>, ReadError> {
    ids(from)?.iter().map(|id| read_record(from, id)).collect()
}

/// Restores a backup, the newest unless `id` names one, into a folder that is missing or empty, and makes the cheap
/// checks of a node that starts: every file by its hash, then records, last entries and trees of all logs.
///
/// # Errors
/// `no_backup`, `not_empty`, `backup_damaged`, `unreachable`, `file`; those of [`Store::open_read_only`]. The folder is
/// empty again then. After a crash it is not, but lacks the file `CURRENT`: no node starts with it.
pub fn restore(
    from: &Bucket,
    id: Option<&str>,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupRecord, ReadError> {
    let absent = || ReadError::NoBackup { place: from.name().to_owned(), id: id.map(str::to_owned) };
    let ids = ids(from)?;
    let id = match id {
        Some(id) => ids.iter().find(|known| *known == id),
        None => ids.last(),
    };
    let record = read_record(from, id.ok_or_else(absent)?)?;
    make_folder(to)?;
    let restored = restore_files(from, &record, to, progress).and_then(|()| check_restored(from, &record, to));
    if let Err(error) = restored {
        // The folder was empty: everything in it is of this restore. `CURRENT` goes first.
        let _ = fs::remove_file(to.join(CURRENT));
        for file in fs::read_dir(to).into_iter().flatten().flatten() {
            let _ = fs::remove_file(file.path());
        }
        return Err(error);
    }
    Ok(record)
}

fn restore_files(
    from: &Bucket,
    record: &BackupRecord,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), ReadError> {
    let (total, mut done) = (record.bytes(), 0);
    // First the tables: a node refuses a folder that has tables and no CURRENT.
    let mut files: Vec<&BackedUpFile> = record.files.iter().collect();
    files.sort_by_key(|file| (file.name == CURRENT, !file.name.ends_with(".sst")));
    for file in files {
        if file.name == CURRENT {
            sync(to)?;
        }
        let path = to.join(&file.name);
        let failed = |error: io::Error| ReadError::file(format!("{}: {error}", path.display()));
        let mut out = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path).map_err(failed)?;
        copy_out(from, file, &mut |piece| {
            done += piece.len() as u64;
            progress(done, total);
            out.write_all(piece).map_err(failed)
        })?;
        out.sync_all().map_err(failed)?;
    }
    sync(to)
}

/// Opens what was restored and compares it with what was backed up.
fn check_restored(from: &Bucket, record: &BackupRecord, to: &Path) -> Result<(), ReadError> {
    let found = BackupRecord::of(&Store::open_read_only(to).map_err(ReadError::source_store)?, Millis(0))?;
    if found.federation == record.federation && found.logs == record.logs {
        return Ok(());
    }
    Err(damaged(from, &record_name(&record.id), "its files hold other logs than it says"))
}

fn make_folder(to: &Path) -> Result<(), ReadError> {
    let failed = |error: io::Error| ReadError::file(format!("{}: {error}", to.display()));
    match fs::read_dir(to) {
        Ok(mut found) => match found.next() {
            Some(_) => Err(ReadError::NotEmpty(to.to_owned())),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(to).map_err(failed)?;
            to.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> Result<(), ReadError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| ReadError::file(format!("{}: {error}", folder.display())))
}

/// The files of a database and their sizes, without those that RocksDB uses only while it is open.
fn database_files(folder: &Path) -> Result<Vec<(String, u64)>, ReadError> {
    let failed = |error: io::Error| ReadError::file(format!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for file in fs::read_dir(folder).map_err(failed)? {
        let file = file.map_err(failed)?;
        let (name, about) = (file.file_name().to_string_lossy().into_owned(), file.metadata().map_err(failed)?);
        if about.is_file() && name != "LOCK" && !name.starts_with("LOG") {
            found.push((name, about.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// The hash of a file's first `bytes` bytes, in hex.
fn hash(path: &Path, bytes: u64) -> Result<String, ReadError> {
    let failed = |error: io::Error| ReadError::file(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(failed)?.take(bytes);
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            read => {
                hasher.update(piece.get(..read).unwrap_or_default());
            }
        }
    }
}

fn copy_in(source: &Path, to: &Bucket, file: &BackedUpFile) -> Result<(), ReadError> {
    let failed = |error: io::Error| ReadError::file(format!("{}: {error}", source.display()));
    let (mut from, mut hasher) = (File::open(source).map_err(failed)?, blake3::Hasher::new());
    to.write(&file.place(), file.bytes, &mut from, &mut |piece| {
        hasher.update(piece);
    })?;
    if hasher.finalize().to_hex().as_str() == file.hash {
        return Ok(());
    }
    // It lies under a hash that it does not have: nobody must take it for that content.
    to.remove(&file.place())?;
    Err(ReadError::damaged(format!("{}: two reads gave different bytes: the disk is failing", source.display())))
}

/// Reads a file back. One that is damaged is removed: the next backup must not take it for a copy that it has.
fn is_intact(place: &Bucket, file: &BackedUpFile) -> Result<bool, ReadError> {
    match copy_out(place, file, &mut |_| Ok(())) {
        Ok(()) => Ok(true),
        Err(ReadError::BackupDamaged { .. }) => place.remove(&file.place()).map(|()| false),
        Err(error) => Err(error),
    }
}

/// Reads a file of a backup to its end and checks its hash.
fn copy_out(
    from: &Bucket,
    file: &BackedUpFile,
    each: &mut dyn FnMut(&[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut hasher = blake3::Hasher::new();
    let read = from.read(&file.place(), file.bytes, &mut |piece| {
        hasher.update(piece);
        each(piece)
    })?;
    let reason = match read {
        None => "missing, or too short",
        Some(()) if hasher.finalize().to_hex().as_str() != file.hash => "its content has another hash",
        Some(()) => return Ok(()),
    };
    Err(damaged(from, &file.place(), &format!("{reason} (it is the backup's {})", file.name)))
}

/// Refuses a place with backups of another node, which this one would remove in time.
fn check_place(to: &Bucket, record: &BackupRecord) -> Result<(), ReadError> {
    for id in ids(to)?.iter().rev() {
        match read_record(to, id) {
            Ok(last) if last.node() == record.node() => return Ok(()),
            Ok(last) => {
                let (place, found, wanted) = (to.name().to_owned(), last.node(), record.node());
                return Err(ReadError::OtherNode { place, found, wanted });
            }
            // One that is damaged must not be the end of all backups.
            Err(ReadError::BackupDamaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes backups beyond the newest `keep`, then the files that no backup has. Never removes `made`. Returns the ids.
///
/// # Errors
/// `backup_damaged` if it is not known which files a backup needs: nothing was removed then; `unreachable`, `file`.
fn remove_old(to: &Bucket, made: &BackupRecord, keep: usize) -> Result<Vec<String>, ReadError> {
    let mut kept = ids(to)?;
    // A clock that was wrong once gives ids that sort behind the new one.
    kept.retain(|id| *id != made.id);
    let removed: Vec<String> = kept.drain(..(kept.len() + 1).saturating_sub(keep)).collect();
    let mut needed: BTreeSet<String> = made.files.iter().map(|file| file.hash.clone()).collect();
    for id in &kept {
        needed.extend(read_record(to, id)?.files.into_iter().map(|file| file.hash));
    }
    for id in &removed {
        to.remove(&record_name(id))?;
    }
    for (hash, _) in to.list(FILES)? {
        if !needed.contains(&hash) {
            to.remove(&format!("{FILES}/{hash}"))?;
        }
    }
    to.remove_unfinished(FILES)?;
    to.remove_unfinished(BACKUPS)?;
    Ok(removed)
}

/// The ids of the finished backups, oldest first.
fn ids(place: &Bucket) -> Result<Vec<String>, ReadError> {
    let found = place.list(BACKUPS)?.into_keys();
    Ok(found.filter_map(|name| Some(name.strip_suffix(RECORD)?.to_owned())).collect())
}

fn record_name(id: &str) -> String {
    format!("{BACKUPS}/{id}{RECORD}")
}

fn read_record(place: &Bucket, id: &str) -> Result<BackupRecord, ReadError> {
    let name = record_name(id);
    let bytes = place.read_short(&name, RECORD_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| ReadError::NoBackup { place: place.name().to_owned(), id: Some(id.to_owned()) })?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(place, &name, &error.to_string()))?;
    BackupRecord::parse(id, &value).map_err(|reason| damaged(place, &name, &reason))
}

fn damaged(place: &Bucket, name: &str, reason: &str) -> ReadError {
    ReadError::BackupDamaged { what: format!("{}/{name}", place.name()), reason: reason.to_owned() }
}

impl BackedUpFile {
    fn place(&self) -> String {
        format!("{FILES}/{}", self.hash)
    }
}

impl BackupRecord {
    /// What a store holds, with no files yet.
    fn of(store: &Store, now: Millis) -> Result<Self, ReadError> {
        let (manifest, view) = (store.manifest(), store.view());
        let mut logs = Vec::new();
        for log in manifest.logs().keys() {
            if let Some(found) = view.log(log).map_err(ReadError::source_store)? {
                let (entries, root) = (found.state.size, found.state.root.to_string());
                logs.push(BackedUpLog { log: log.to_string(), entries, root, certified: found.certified });
            }
        }
        let time = now.to_string();
        Ok(Self {
            id: time.chars().filter(char::is_ascii_alphanumeric).collect(),
            time,
            federation: manifest.federation().to_string(),
            name: manifest.name().to_owned(),
            operators: manifest.operators().len(),
            operator: None,
            version: manifest.version(),
            format: FORMAT,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            logs,
            files: Vec::new(),
        })
    }

    /// The record as an object, with the number of its files and their bytes in place of their list.
    #[must_use]
    pub fn summary(&self) -> Value {
        let mut object = self.json();
        object["files"] = json!(self.files.len());
        object["bytes"] = json!(self.bytes());
        object
    }
}
