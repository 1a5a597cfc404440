//! The entries of every log with their bytes, as Parquet files by range of indexes that a later export continues.
//!
//! `entries/log=alpha.example/generation=1/000000000000-000000262143.parquet`: a file is named after its range, not
//! after what it holds so far. So there is one file for each range at any time, and no reader counts an entry twice.
//! A file that holds its whole range is final. The last one of a log is written again, whole, when there is more.
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fama_ledger::codec;
use fama_ledger::entry::{Body, Entry, SignedEvent};
use fama_ledger::event::Action;
use fama_ledger::id::EventId;
use fama_ledger::join::LogState;
use fama_ledger::limits::ENTRY_BYTES_MAX;
use fama_ledger::log::{self, leaf_hash};
use fama_ledger::manifest::LogId;
use fama_ledger::rows::{self, DayRow, MapName};
use fama_node::store::{Store, View};

use super::cell::{Cell, Column, columns};
use super::entries::{COLUMNS, RowOutcome, stored_row};
use super::parquet::{Parquet, rows_and_note};
use super::system;
use crate::error::ReadError;

/// How many indexes a file of `fama export` has: 2¹⁸, about 80 MB.
pub const RANGE_ENTRIES: u64 = 1 << 18;
/// The folder of the files, in the folder of the export.
pub const ENTRIES_FOLDER: &str = "entries";
/// Name, in a file, of the root of its log's tree up to the file's last entry, in hex.
const ROOT: &str = "fama.root";
/// How many entries are read from the store at a time, and after how many bytes a read ends.
const READ_ENTRIES: usize = 1_024;
const READ_BYTES: usize = 1 << 20;
/// Outcome of an event that stands in its log once more: it is void, and only its first place has the reason.
const REPEATED: &str = "repeated";

/// The columns of the files: index, bytes and leaf's hash, then those of the table of entries but its log, which the
/// path names.
static RANGE_COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let first: &[Column] = columns! { "index": Int, "entry": Binary, "leaf": Binary };
    [first, COLUMNS.get(2..).unwrap_or_default()].concat()
});

/// What [`ranges`] did for one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRanges {
    /// Operator and generation.
    pub log: LogId,
    /// Entries in all its files.
    pub entries: u64,
    /// The number of its files.
    pub files: u64,
    /// How many of them this export wrote or replaced.
    pub written: u64,
}

/// Writes, below `dir`, the files of all `logs` that are not there yet, from a store that an audit filled. A file has
/// `size` indexes, at least 1, and every export into one folder the same. `progress` receives the number of entries that
/// are done, and of all.
///
/// A crash at any line leaves whole files of verified entries, and at most one temporary file in each log's folder,
/// which Spark and DuckDB do not read and the next export replaces. Two exports into one folder at a time are the
/// caller's to prevent: by one audit store for each folder, which is locked.
///
/// # Errors
/// `conflict` if a file holds another history than the store, or is named after another range; `behind` if the files
/// hold more than the store; `file` if the disk failed; `damaged` if the store does not hold what the audit wrote.
pub fn ranges(
    store: &Store,
    logs: &[LogState],
    dir: &Path,
    size: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<LogRanges>, ReadError> {
    let (view, total) = (store.view(), logs.iter().map(|log| log.size).sum());
    let (mut done, mut written) = (0u64, Vec::new());
    for state in logs {
        let folder = dir.join(ENTRIES_FOLDER).join(format!("log={}", state.log.operator));
        let folder = folder.join(format!("generation={}", state.log.generation));
        let writer = RangeWriter { view: &view, state, folder, size: size.max(1) };
        writer.known_only()?;
        written.push(writer.all(&mut |entries| {
            done = done.saturating_add(entries);
            progress(done, total);
        })?);
    }
    Ok(written)
}

struct RangeWriter<'a> {
    view: &'a View<'a>,
    state: &'a LogState,
    folder: PathBuf,
    size: u64,
}

impl RangeWriter<'_> {
    /// Refuses files that no range up to the log's end has: a reader would count their entries, too.
    fn known_only(&self) -> Result<(), ReadError> {
        let files = match fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(system(&self.folder, &error)),
        };
        for file in files {
            let file = file.map_err(|error| system(&self.folder, &error))?.path();
            if file.extension().is_none_or(|extension| extension != "parquet") {
                continue;
            }
            let first = file.file_name().and_then(|name| name.to_str()?.split('-').next()?.parse().ok());
            match first.filter(|first: &u64| first.is_multiple_of(self.size) && self.path(*first) == file) {
                None => return Err(self.other_history(file)),
                Some(first) if first >= self.state.size => return Err(self.behind(first.saturating_add(1))),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn all(&self, progress: &mut dyn FnMut(u64)) -> Result<LogRanges, ReadError> {
        let mut found = LogRanges { log: self.state.log.clone(), entries: self.state.size, files: 0, written: 0 };
        let mut start = 0u64;
        while start < self.state.size {
            let end = self.state.size.min(start.saturating_add(self.size));
            match self.held(start)?.map(|rows| start.saturating_add(rows)) {
                Some(held) if held > end => return Err(self.behind(held)),
                Some(held) if held == end => {}
                _ => {
                    self.write(start, end)?;
                    found.written = found.written.saturating_add(1);
                }
            }
            found.files = found.files.saturating_add(1);
            progress(end.saturating_sub(start));
            start = start.saturating_add(self.size);
        }
        Ok(found)
    }

    fn other_history(&self, file: PathBuf) -> ReadError {
        ReadError::FileOfOtherHistory { file, log: self.state.log.to_string() }
    }

    fn behind(&self, published: u64) -> ReadError {
        ReadError::FilesAhead {
            folder: self.folder.clone(),
            files: published,
            log: self.state.log.to_string(),
            audited: self.state.size,
        }
    }

    fn path(&self, start: u64) -> PathBuf {
        let last = start.saturating_add(self.size).saturating_sub(1);
        self.folder.join(format!("{start:012}-{last:012}.parquet"))
    }

    /// How many entries the file of the range that begins at `start` has; `None` if there is no file. All of them, and
    /// all before them, are those of the store's log.
    fn held(&self, start: u64) -> Result<Option<u64>, ReadError> {
        let path = self.path(start);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(system(&path, &error)),
        };
        let (rows, root) = rows_and_note(file, ROOT)?;
        let end = start.saturating_add(rows);
        if end <= self.state.size && root != Some(self.root(end)?) {
            return Err(self.other_history(path));
        }
        Ok(Some(rows))
    }

    fn root(&self, size: u64) -> Result<String, ReadError> {
        let root = log::root_at(size, &self.view.tiles(&self.state.log)).map_err(ReadError::damaged)?;
        Ok(root.to_string())
    }

    /// Writes the entries from `start` to `end` into the file of their range, and replaces what was there at once.
    fn write(&self, start: u64, end: u64) -> Result<(), ReadError> {
        let path = self.path(start);
        let failed = |error: std::io::Error| system(&path, &error);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        // Spark and Hive read no file whose name begins with `_`, DuckDB none that ends otherwise than its pattern.
        // A crash from here on leaves this file, which the next export writes over.
        let part = self.folder.join(format!("_{start:012}.part"));
        let file = File::create(&part).map_err(failed)?;
        let durable = file.try_clone().map_err(failed)?;
        let mut out = Parquet::new(&RANGE_COLUMNS, file)?;
        let mut next = start;
        while next < end {
            let count = usize::try_from(end.saturating_sub(next)).map_or(READ_ENTRIES, |left| left.min(READ_ENTRIES));
            let entries = self.view.entries(&self.state.log, next, count, READ_BYTES).map_err(ReadError::damaged)?;
            if entries.is_empty() {
                return Err(ReadError::damaged(format!("entry {next} of {} is missing", self.state.log)));
            }
            for bytes in entries {
                out.row(self.row(next, bytes)?)?;
                next = next.saturating_add(1);
            }
        }
        out.note(ROOT, &self.root(end)?);
        out.finish()?;
        // Durable before it has its name: after a crash the name stands for the whole file.
        durable.sync_all().map_err(failed)?;
        fs::rename(&part, &path).map_err(failed)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn row(&self, index: u64, bytes: Vec<u8>) -> Result<Vec<Cell>, ReadError> {
        let entry: Entry = codec::decode(&bytes, ENTRY_BYTES_MAX).map_err(ReadError::damaged)?;
        let signed = if let Body::Event(signed) = &entry.body { Some(signed) } else { None };
        let id = signed.map(|signed| signed.event.id());
        let outcome = signed.zip(id.as_ref()).map(|(signed, id)| self.outcome(index, signed, id)).transpose()?;
        let row = stored_row(&self.state.log, index, &entry, id.as_ref(), outcome.unwrap_or_default());
        let leaf = leaf_hash(&bytes).to_vec();
        let first = [Cell::number(index), Cell::Binary(bytes), Cell::Binary(leaf)];
        Ok(first.into_iter().chain(row.into_iter().skip(2)).collect())
    }

    /// What the fold made of the event, as the store's index and rows say.
    fn outcome(&self, index: u64, signed: &SignedEvent, id: &EventId) -> Result<RowOutcome, ReadError> {
        let position = self.view.position(id, &self.state.log).map_err(ReadError::damaged)?;
        let position = position.ok_or_else(|| ReadError::damaged(format!("event {id} is not in the index")))?;
        if position.index != index {
            // The index names the place where the event applied, or the first one if it never did.
            return Ok(RowOutcome { code: Some(REPEATED), ..RowOutcome::default() });
        }
        if let Some(void) = position.void {
            return Ok(RowOutcome { code: Some(void.code()), ..RowOutcome::default() });
        }
        let applied = RowOutcome { code: Some(RowOutcome::APPLIED), ..RowOutcome::default() };
        let (home, key, attestation) = match &signed.event.action {
            Action::Attest { home, issuer, subject, .. } => (home, (*subject, *issuer, signed.event.created.day()), id),
            Action::Retract { home, issuer, subject, day, attestation } => {
                (home, (*subject, *issuer, *day), attestation)
            }
            _ => return Ok(applied),
        };
        let map = MapName::home(home).id();
        let day: Option<DayRow> = rows::read(self.view, map, &key).map_err(ReadError::damaged)?;
        let attested = day.into_iter().flat_map(|day| day.0).find(|one| one.event == *attestation);
        let attested = attested.ok_or_else(|| ReadError::damaged(format!("attestation {attestation} has no row")))?;
        Ok(if matches!(signed.event.action, Action::Attest { .. }) {
            RowOutcome { number: Some(attested.number), effective: Some(attested.effective), ..applied }
        } else {
            RowOutcome { number: attested.retraction, ..applied }
        })
    }
}
