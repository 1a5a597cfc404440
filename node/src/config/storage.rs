//! What the database may take.
use serde::Deserialize;

/// `[storage]`: bounds on what the database takes. The defaults are for a machine with 1 GiB of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub struct StoreSettings {
    /// Memory for reads: blocks, indexes and filters of all families together, in bytes, at least 8 MiB.
    pub cache_bytes: usize,
    /// Memory for unflushed writes of all families together, in bytes, at least 8 MiB.
    pub write_buffer_bytes: usize,
    /// Memory for nodes of the state maps of all logs together, in bytes, at least 8 MiB.
    pub nodes_bytes: usize,
    /// Files of the database that are open at a time, at least 64. The default fits into the usual limit of 1,024, where a
    /// process can't raise that.
    pub open_files: u32,
    /// Flushes and compactions at a time, 2 to 64. Few by default: the cores are needed to verify signatures.
    pub background_jobs: u32,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            write_buffer_bytes: 96 << 20,
            nodes_bytes: 64 << 20,
            open_files: 512,
            background_jobs: 2,
        }
    }
}

impl StoreSettings {
    /// The first setting that is too small or too large, and its rule.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        const BYTES: usize = 8 << 20;
        [
            (self.cache_bytes >= BYTES, "storage.cache_bytes", "at least 8388608"),
            (self.write_buffer_bytes >= BYTES, "storage.write_buffer_bytes", "at least 8388608"),
            (self.nodes_bytes >= BYTES, "storage.nodes_bytes", "at least 8388608"),
            (self.open_files >= 64, "storage.open_files", "at least 64"),
            ((2..=64).contains(&self.background_jobs), "storage.background_jobs", "2 to 64"),
        ]
        .into_iter()
        .find_map(|(holds, name, rule)| (!holds).then_some((name, rule)))
    }

    /// The memory of the three, in bytes.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.cache_bytes.saturating_add(self.write_buffer_bytes).saturating_add(self.nodes_bytes)
    }
}
