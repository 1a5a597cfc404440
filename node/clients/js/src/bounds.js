// Bounds of what is read (PROTOCOL.md, Bounds).

export const PROOF_HASHES_MAX = 64;
export const SIGNATURES_MAX = 128;
export const CHECKPOINT_BYTES_MAX = 16384;
export const PROOF_BYTES_MAX = 2 * CHECKPOINT_BYTES_MAX;
export const MANIFEST_BYTES_MAX = 131072;
export const CHAIN_BYTES_MAX = 1 << 24;
export const VERSIONS_MAX = 1000;
export const OPERATORS_MAX = 64;
export const ENTRY_BYTES_MAX = 4096;
export const ADOPTION_BYTES_MAX = 8 + 8 + ENTRY_BYTES_MAX + 8 + 32 * PROOF_HASHES_MAX;
export const ROW_BYTES_MAX = 1 << 20;
export const KEY_BYTES_MAX = 128;
export const PREFIXES_MAX = 4096;
export const PROFILE_BYTES_MAX = 1 << 22;
export const PROFILE_UNPACKED_BYTES_MAX = 1 << 24;
export const HEAD_SKEW_SECONDS_MAX = 60n;
export const TRIPLES_PER_PROVIDER = 64;
export const SCOPES_PER_PAIR = 256;
export const GRANTED_BY_MAX = 16;
export const BASE64_TEXT_BYTES_MAX = 4096;
export const U32_MAX = 0xffffffff;
export const I63_MAX = (1n << 63n) - 1n;
