//! How RocksDB is set up: every number with its reason.
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    WriteOptions,
};

use super::keys::Family;

/// Blocks, indexes and filters of all families: what reading may keep in memory.
const CACHE_BYTES: usize = 128 << 20;
/// One family's unflushed writes: a dozen full batches, so that flushes are large and rare.
const WRITE_BUFFER_BYTES: usize = 32 << 20;
/// Unflushed writes of all families together: what writing may keep in memory.
const WRITE_BUFFERS_BYTES_MAX: usize = 96 << 20;
/// Most write-ahead log on disk: bounds the time to start, and flushes families that change seldom.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// Half of the usual limit of 1,024 descriptors: sockets need the rest.
const OPEN_FILES_MAX: i32 = 512;
/// One flush and one compaction at a time: verifying signatures has better use for the cores.
const BACKGROUND_JOBS: i32 = 2;
/// Larger than RocksDB's 4 KiB: entries and histories are read in ranges, and compress better.
const BLOCK_BYTES: usize = 16 << 10;
/// One look-up in a hundred of an absent key reads a block.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Of each write buffer, for the same question to what is not flushed yet: most look-ups of the fold
/// and of the event index are of absent keys. 64 bits for each row of 400 bytes.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;
/// Background writes go to disk in steps, so that no sync of the log waits behind a whole file.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// RocksDB's own log files, which nobody reads until something is wrong.
const LOG_FILES: usize = 4;
/// One of these files.
const LOG_FILE_BYTES: usize = 4 << 20;
/// The list of files is rewritten from there on, instead of from 1 GiB on.
const MANIFEST_BYTES: usize = 64 << 20;

/// Options of the database and of a family without its own.
pub(super) fn database(create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    // A crash between creating two families leaves some missing.
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // An incomplete last record is the write that a crash cut off, and nobody was told of it: it goes.
    // Damage anywhere else stops the node. PointInTime would drop what was acknowledged behind the
    // damage without a word; AbsoluteConsistency would refuse to start after many a kill -9. What no
    // mode notices is a newest log cut short afterwards: for that a node asks its peers at its start.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A write-ahead log that is missing or too short is noticed.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES_MAX);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(LOG_FILE_BYTES);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_stats_dump_period_sec(0);
    options
}

/// The same for a database that is read for the last time, as far as it can be read.
pub(super) fn damaged(create: bool) -> Options {
    let mut options = database(create);
    options.set_paranoid_checks(false);
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    options
}

/// The families, all reading through one cache.
pub(super) fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    Family::ALL.map(|each| ColumnFamilyDescriptor::new(each.name(), family(each, &cache))).into()
}

fn family(family: Family, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // These two are read in ranges only.
    if !matches!(family, Family::Entries | Family::History) {
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut options = Options::default();
    if matches!(family, Family::Rows | Family::Events) {
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    }
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(match family {
        Family::Entries | Family::Rows | Family::History | Family::Notes => DBCompressionType::Lz4,
        // Hashes and ids do not compress.
        _ => DBCompressionType::None,
    });
    options
}

/// How a write ends.
pub(super) fn write(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}
