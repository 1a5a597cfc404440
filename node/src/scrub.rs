//! The scrub: reads everything that is stored again and again, slowly, so that damage is found before it matters.
//!
//! A pass first reads every table file and compares its hash with the one from its first read, soon after the file
//! was written: table files never change. Then it reads every family with RocksDB's checksums, and then checks every
//! log: entries against the leaves of the tree, and each tile against the one above it. It does not compare rows
//! with a state root: checksums protect them while the node runs, and a start checks them against the roots.
//! Files that the operating system still caches are read from memory, not from disk.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use fama_ledger::manifest::LogId;

use crate::config::ScrubSettings;
use crate::shared::Shared;
use crate::store::{ScrubCursor, StoreError, TreeCursor};

/// About this many bytes are read at a time.
const STEP_BYTES: usize = 256 << 10;
/// How often the scrub looks for new table files. The sooner a file is first read, the smaller the chance that it is
/// damaged by then, unnoticed because its intact blocks are still cached.
const LOOK: Duration = Duration::from_secs(10);

/// Why a pass ended early.
enum ScrubEnd {
    /// The node is stopping.
    Stopped,
    /// Damage was found. The store keeps the failure, and the node stops because of it.
    Failed,
}

impl From<StoreError> for ScrubEnd {
    fn from(_: StoreError) -> Self {
        Self::Failed
    }
}

/// The state of the scrub thread.
pub(crate) struct Scrubber {
    shared: Shared,
    settings: ScrubSettings,
    /// Never receives a message: the sender is dropped when the node stops.
    stop: Receiver<()>,
    /// The hash of each table file from its first read.
    known: BTreeMap<PathBuf, blake3::Hash>,
    looked: Instant,
    read: u64,
}

impl Scrubber {
    /// A scrub that has read no table file yet.
    #[must_use]
    pub(crate) fn new(shared: Shared, settings: ScrubSettings, stop: Receiver<()>) -> Self {
        Self { shared, settings, stop, known: BTreeMap::new(), looked: Instant::now(), read: 0 }
    }

    /// Runs passes until the node stops or damage is found. Damage becomes the store's failure, which stops the node.
    pub(crate) fn run(mut self) {
        loop {
            let begun = Instant::now();
            self.read = 0;
            if self.pass().is_err() {
                return;
            }
            self.shared.metrics.scrubbed(self.shared.clock.now());
            tracing::info!(
                bytes = self.read,
                seconds = begun.elapsed().as_secs(),
                "everything that is stored was read, no damage found"
            );
            if self.pause().is_err() {
                return;
            }
        }
    }

    fn pause(&mut self) -> Result<(), ScrubEnd> {
        let until = Instant::now() + Duration::from_secs(self.settings.pause_seconds);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.wait(left.min(LOOK))?;
            self.look()?;
        }
    }

    fn wait(&self, time: Duration) -> Result<(), ScrubEnd> {
        match self.stop.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(ScrubEnd::Stopped),
        }
    }

    /// Counts the bytes that were read, and waits as long as reading them takes at the configured rate.
    fn spend(&mut self, bytes: usize) -> Result<(), ScrubEnd> {
        let bytes = bytes as u64;
        self.read += bytes;
        self.shared.metrics.scrubbing(bytes);
        let micros = bytes.saturating_mul(1_000_000).checked_div(self.settings.bytes_per_second);
        self.wait(Duration::from_micros(micros.unwrap_or_default()))
    }

    fn pass(&mut self) -> Result<(), ScrubEnd> {
        self.tables()?;
        let mut position = ScrubCursor::default();
        while let Some(bytes) = self.shared.store.read_on(&mut position, STEP_BYTES)? {
            self.spend(bytes)?;
            self.look()?;
        }
        let logs: Vec<LogId> = self.shared.manifest.operators().iter().map(|operator| operator.log()).collect();
        for log in &logs {
            let mut position = TreeCursor::default();
            while let Some(bytes) = self.shared.store.check_tree_on(log, &mut position)? {
                self.spend(bytes)?;
                self.look()?;
            }
        }
        Ok(())
    }

    /// Compares every table file's hash with that of its first read, and forgets deleted files.
    fn tables(&mut self) -> Result<(), ScrubEnd> {
        let tables = self.shared.store.tables()?;
        self.known.retain(|known, _| tables.contains(known));
        for table in tables {
            let Some(hash) = self.table(&table)? else { continue };
            let known = *self.known.entry(table.clone()).or_insert(hash);
            if known != hash {
                let name = table.file_name().unwrap_or_default().display();
                self.shared.store.database(&format!("the file {name} has changed since it was first read"));
                return Err(ScrubEnd::Failed);
            }
        }
        Ok(())
    }

    /// Hashes new table files, if [`LOOK`] has passed since the last look.
    fn look(&mut self) -> Result<(), ScrubEnd> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        for table in self.shared.store.tables()? {
            if !self.known.contains_key(&table)
                && let Some(hash) = self.table(&table)?
            {
                self.known.insert(table, hash);
            }
        }
        Ok(())
    }

    /// The hash of a table file; `None` if a compaction has just deleted it.
    fn table(&mut self, path: &Path) -> Result<Option<blake3::Hash>, ScrubEnd> {
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), vec![0; STEP_BYTES]);
        let mut file = match File::open(path) {
            Err(error)
                if error.kind() == ErrorKind::NotFound && !self.shared.store.tables()?.iter().any(|t| t == path) =>
            {
                return Ok(None);
            }
            opened => opened.map_err(|error| self.unreadable(path, &error))?,
        };
        loop {
            let read = file.read(&mut bytes).map_err(|error| self.unreadable(path, &error))?;
            if read == 0 {
                return Ok(Some(hasher.finalize()));
            }
            hasher.update(bytes.get(..read).unwrap_or_default());
            self.spend(read)?;
        }
    }

    fn unreadable(&self, path: &Path, error: &std::io::Error) -> ScrubEnd {
        self.shared.store.database(&format!("{}: {error}", path.display()));
        ScrubEnd::Failed
    }
}
