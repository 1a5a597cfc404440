//! The scrub: reads all that is stored again and again, slowly, so that damage is met before it matters.
//!
//! A pass reads every table file and compares it with what it was when it was read first, soon after it
//! was written: these files never change. Then it reads every family, with RocksDB's checksums; then every
//! log: entries against the leaves of the tree, and each tile against the one above it. Rows are compared
//! with no root here: their checksums guard them while the node runs, and a start folds them into roots.
//! What the operating system still holds in memory is read from there.
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

/// How much is read at a time.
const STEP_BYTES: usize = 256 << 10;
/// How often new table files are looked for. Blocks of a younger one may come from the cache, right ones,
/// while the file is wrong already.
const LOOK: Duration = Duration::from_secs(10);

/// Why a pass did not come to its end.
enum ScrubEnd {
    /// The node stops.
    Stopped,
    /// The store keeps what it was; the node stops by it.
    Failed,
}

impl From<StoreError> for ScrubEnd {
    fn from(_: StoreError) -> Self {
        Self::Failed
    }
}

/// The thread that reads.
pub(crate) struct Scrubber {
    shared: Shared,
    settings: ScrubSettings,
    /// Nothing is sent: the sender is dropped when the node stops.
    stop: Receiver<()>,
    /// The table files as they were when they were read first.
    known: BTreeMap<PathBuf, blake3::Hash>,
    looked: Instant,
    read: u64,
}

impl Scrubber {
    /// Begins with nothing known.
    #[must_use]
    pub(crate) fn new(shared: Shared, settings: ScrubSettings, stop: Receiver<()>) -> Self {
        Self { shared, settings, stop, known: BTreeMap::new(), looked: Instant::now(), read: 0 }
    }

    /// Reads, pass after pass, until the node stops or something is damaged: then the store has failed,
    /// by which the node stops.
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
                "all that is stored was read: whole"
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

    /// Counts what was read, and waits as long as that may take.
    fn spend(&mut self, bytes: usize) -> Result<(), ScrubEnd> {
        let bytes = bytes as u64;
        self.read += bytes;
        self.shared.metrics.scrubbing(bytes);
        let micros = bytes.saturating_mul(1_000_000).checked_div(self.settings.bytes_per_second);
        self.wait(Duration::from_micros(micros.unwrap_or_default()))
    }

    fn pass(&mut self) -> Result<(), ScrubEnd> {
        self.tables()?;
        let mut place = ScrubCursor::default();
        while let Some(bytes) = self.shared.store.read_on(&mut place, STEP_BYTES)? {
            self.spend(bytes)?;
            self.look()?;
        }
        let logs: Vec<LogId> = self.shared.manifest.operators().iter().map(|operator| operator.log()).collect();
        for log in &logs {
            let mut place = TreeCursor::default();
            while let Some(bytes) = self.shared.store.check_tree_on(log, &mut place)? {
                self.spend(bytes)?;
                self.look()?;
            }
        }
        Ok(())
    }

    /// Compares every table file with what it was, and forgets those that are gone.
    fn tables(&mut self) -> Result<(), ScrubEnd> {
        let tables = self.shared.store.tables()?;
        self.known.retain(|known, _| tables.contains(known));
        for table in tables {
            let Some(hash) = self.table(&table)? else { continue };
            let known = *self.known.entry(table.clone()).or_insert(hash);
            if known != hash {
                let name = table.file_name().unwrap_or_default().display();
                self.shared.store.database(&format!("the file {name} is not what it was when it was new"));
                return Err(ScrubEnd::Failed);
            }
        }
        Ok(())
    }

    /// Reads the table files that are new, if it is time to.
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

    /// The hash of a file; `None` if a compaction has just removed it.
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
