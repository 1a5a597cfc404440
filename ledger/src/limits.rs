//! Bounds that the protocol fixes and no manifest can change. Units are part of the names.

/// Longest domain, in bytes (RFC 1035).
pub const DOMAIN_BYTES_MAX: usize = 253;
/// Shortest agent name, in bytes.
pub const NAME_BYTES_MIN: usize = 3;
/// Longest agent name, in bytes.
pub const NAME_BYTES_MAX: usize = 50;
/// Longest service name, in bytes.
pub const SERVICE_BYTES_MAX: usize = 64;
/// Longest context, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 32;
/// Longest scope of a grant, in bytes.
pub const SCOPE_BYTES_MAX: usize = 64;
/// Longest canonical text of an event, in bytes; the longest valid event is well below it.
pub const TEXT_BYTES_MAX: usize = 2_048;
/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// Longest reason in a note, in bytes.
pub const REASON_BYTES_MAX: usize = 200;
/// Longest ref in a note, in bytes.
pub const REF_BYTES_MAX: usize = 512;
/// Longest encoded entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4_096;
/// Most entries in a batch, not counting its state entry.
pub const BATCH_ENTRIES_MAX: usize = 4_096;
/// Most operators in a manifest.
pub const OPERATORS_MAX: usize = 64;
/// Most addresses of one operator.
pub const ADDRESSES_MAX: usize = 8;
/// Most keys with which one operator's tokens verify.
pub const TOKEN_KEYS_MAX: usize = 2;
/// Longest manifest with its signatures, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 131_072;
/// Most versions in a manifest chain.
pub const VERSIONS_MAX: usize = 1_000;
/// Longest manifest chain, in bytes.
pub const CHAIN_BYTES_MAX: usize = 16 << 20;
/// Longest signed note (checkpoint with cosignatures), in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 16_384;
/// How far `created` may be behind or ahead of the home's clock at submission, in milliseconds.
pub const SUBMIT_SKEW_MILLIS_MAX: u64 = 5 * 60 * 1_000;
/// How far `created` may be ahead of the entry's time, in milliseconds.
pub const FUTURE_MILLIS_MAX: u64 = 10 * 60 * 1_000;
/// How far a head's time may be ahead of a cosigner's clock, and a cosignature's time ahead of the clock of a node or
/// reader, in milliseconds.
pub const HEAD_SKEW_MILLIS_MAX: u64 = 60 * 1_000;
/// Most rotations of an identity per UTC day.
pub const ROTATIONS_PER_DAY: u32 = 10;
/// Most admit and dismiss statements per (provider, service, domain) and UTC day; the last must be a dismiss.
pub const STATEMENTS_PER_DAY: u32 = 16;
/// Most (service, domain) pairs per provider and operator.
pub const TRIPLES_PER_PROVIDER: usize = 64;
/// Most intervals per (provider, service, domain).
pub const INTERVALS_PER_TRIPLE: usize = 256;
/// Most scopes of one (issuer, subject) of which a grant stands.
pub const GRANTS_PER_PAIR: usize = 16;
/// Most scopes of one (issuer, subject) that grants ever named: whoever reads what stands reads them all.
pub const SCOPES_PER_PAIR: usize = 256;
/// Most suspend and resume statements of an operator per identity and UTC day.
pub const SUSPENSIONS_PER_DAY: u32 = 16;
/// Bytes that a note adds to its log's daily bytes, whatever its length.
pub const NOTE_QUOTA_BYTES: u64 = 1_024;
/// Earliest year of a valid `created`.
pub const YEAR_MIN: u16 = 2020;
/// Latest year of a valid `created`.
pub const YEAR_MAX: u16 = 9999;
