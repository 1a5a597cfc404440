// The rows of state maps (PROTOCOL.md, Rows).
import { attempt, refuse } from "./error.js";
import { ROW_BYTES_MAX } from "./bounds.js";
import { REVOKE_REASONS, SUSPEND_REASONS } from "./texts.js";
import { decode } from "./codec.js";

export const TAG = { identity: 1, version: 2, name: 3, tally: 6, day: 7, claim: 9, statement: 11, log: 12, grant: 13, suspension: 15 };

const readCounter = (reader) => ({ day: reader.u32(), count: reader.u32() });
const readInterval = (reader) => [reader.u64(), reader.optional((one) => one.u64())];
export const ROWS = {
  [TAG.identity]: (reader) => ({
    name: reader.string(), version: reader.u32(), status: reader.variant(2), rotations: readCounter(reader),
  }),
  [TAG.version]: (reader) => ({
    key: reader.key(), time: reader.u64(), next: reader.optional((one) => one.hash()),
    revoked: reader.optional((one) => ({ time: one.u64(), reason: REVOKE_REASONS[one.variant(4)] })),
  }),
  [TAG.name]: (reader) => reader.hash(),
  [TAG.tally]: (reader) => ({
    sum: reader.i64(), count: reader.u64(), retractedSum: reader.i64(), retractedCount: reader.u64(),
  }),
  [TAG.day]: (reader) =>
    reader.list((one) => ({
      number: one.u64(), event: one.hash(), effective: one.i32(), retraction: one.optional((two) => two.u64()),
    })),
  [TAG.claim]: (reader) => ({
    reason: REVOKE_REASONS[reader.variant(4)], time: reader.u64(), generation: reader.u32(), index: reader.u64(),
  }),
  [TAG.statement]: (reader) => ({
    service: reader.string(), domain: reader.string(), intervals: reader.list(readInterval), created: reader.u64(),
    statements: readCounter(reader),
  }),
  [TAG.grant]: (reader) => ({
    scope: reader.string(), stands: reader.bool(), expires: reader.optional((one) => one.u64()), created: reader.u64(),
  }),
  [TAG.suspension]: (reader) => ({
    standing: reader.optional((one) => ({ since: one.u64(), reason: SUSPEND_REASONS[one.variant(3)] })),
    created: reader.u64(), statements: readCounter(reader),
  }),
  [TAG.log]: (reader) => ({ adopted: reader.u32(), time: reader.u64(), day: reader.u32(), bytes: reader.u64() }),
};

export function readRow(tag, value) {
  return attempt(() => decode(value, ROW_BYTES_MAX, ROWS[tag]), ({ message }) => refuse("profile_row", message));
}

export const u32Key = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
export const LOG_KEY = Uint8Array.of(TAG.log);
