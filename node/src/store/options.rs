//! The RocksDB settings, each number with its reason.
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, WriteOptions,
};

use super::keys::Family;
use crate::config::StoreSettings;

/// Unflushed writes of one family: a dozen full batches, so that flushes are large and rare.
const WRITE_BUFFER_BYTES: usize = 32 << 20;
/// Limit of the write-ahead log on disk: bounds the time to start, and forces flushes of families that rarely change.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// Larger than RocksDB's 4 KiB: entries and histories are read in ranges, and compress better.
const BLOCK_BYTES: usize = 16 << 10;
/// Size of a part of a table's index or filter: RocksDB's default.
const METADATA_BLOCK_BYTES: usize = 4 << 10;
/// About one lookup in a hundred of an absent key reads a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Part of each write buffer that is a bloom filter over unflushed keys: most lookups of the fold and of the event
/// index are of absent keys. 64 bits for each row of 400 bytes.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;
/// Background writes reach the disk in steps, so that no sync of the write-ahead log waits for a whole file.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// How many of RocksDB's own log files are kept; they are read only when something is wrong.
const LOG_FILES: usize = 4;
/// Size limit of one of these log files.
const LOG_FILE_BYTES: usize = 4 << 20;
/// Size at which RocksDB's list of files is rewritten; the default is 1 GiB.
const MANIFEST_BYTES: usize = 64 << 20;

/// zstd's level where most of the data is. Of 200,000 synthetic events, level 3 saves 1 byte in 300 and takes a third more
/// time.
const ZSTD_LEVEL: i32 = 1;
/// RocksDB's default; only zlib looks at it.
const ZLIB_WINDOW_BITS: i32 = -14;

/// Options of the database, and of families of another format.
pub(super) fn database(create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    // A crash between creating two families leaves some missing.
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // An incomplete last record is a write that a crash interrupted and that was never acknowledged: it is
    // dropped. Damage anywhere else stops the node. PointInTime would silently drop acknowledged writes after
    // the damage; AbsoluteConsistency would refuse to start after many a kill -9. No mode notices that the
    // newest log was truncated later: to find out, a starting node asks its peers.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Notices a write-ahead log that is missing or too short.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(LOG_FILE_BYTES);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_stats_dump_period_sec(0);
    options
}

/// Sets what `settings` says of the whole database.
pub(super) fn bound(options: &mut Options, settings: &StoreSettings) {
    options.set_db_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_open_files(i32::try_from(settings.open_files).unwrap_or(i32::MAX));
    options.set_max_background_jobs(i32::try_from(settings.background_jobs).unwrap_or(i32::MAX));
}

/// Options for salvaging a damaged database: skips everything that cannot be read.
pub(super) fn damaged(create: bool) -> Options {
    let mut options = database(create);
    options.set_paranoid_checks(false);
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    options
}

/// All families, sharing one block cache.
pub(super) fn families(settings: &StoreSettings) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(settings.cache_bytes);
    Family::ALL.map(|each| ColumnFamilyDescriptor::new(each.name(), family(each, &cache))).into()
}

fn family(family: Family, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(BLOCK_BYTES);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // A whole filter of half a million keys is 650 KB, and a shard of the cache holds three: at two million events they
    // pushed each other out, and each lookup read one again. In parts, only the part that is asked is read and kept.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
    // These two are only read in ranges.
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
    // Hashes do not compress. Ids do not either, but the logs and positions beside them do.
    if family == Family::Tiles {
        options.set_compression_type(DBCompressionType::None);
    } else {
        // Nine tenths of the data are in the last level, and are written there less often than above it.
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_bottommost_compression_options(ZLIB_WINDOW_BITS, ZSTD_LEVEL, 0, 0, true);
    }
    options
}

/// Options of one write; with `sync` it returns only once the write is on disk.
pub(super) fn write(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}
