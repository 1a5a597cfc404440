// The codec, and entries of logs (PROTOCOL.md, The codec).
import { FamaError, attempt, must } from "./error.js";
import { fromUtf8, join, toHex, utf8 } from "./bytes.js";
import { checkKey, keyText, parseKey, verifySignature } from "./keys.js";
import { KINDS, KIND_NAMES, createdText, joinEvent, parseEvent } from "./texts.js";

/** Takes values off the front of bytes. Widths are fixed, so every value has one encoding. */
export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  take(count) {
    must(count <= this.bytes.length - this.at, "malformed_encoding");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  step(count) {
    this.take(count);
    return this.at - count;
  }

  u8() { return this.take(1)[0]; }
  u16() { return this.view.getUint16(this.step(2), true); }
  u32() { return this.view.getUint32(this.step(4), true); }
  i32() { return this.view.getInt32(this.step(4), true); }
  u64() { return this.view.getBigUint64(this.step(8), true); }
  i64() { return this.view.getBigInt64(this.step(8), true); }
  hash() { return this.take(32); }

  /** A number of items of at least one byte each, which the bytes that follow bound. */
  count() {
    const count = this.u64();
    must(count <= BigInt(this.bytes.length - this.at), "malformed_encoding");
    return Number(count);
  }

  blob() { return this.take(this.count()); }

  string() {
    const text = fromUtf8(this.blob());
    must(text !== null, "malformed_encoding");
    return text;
  }

  list(read) { return Array.from({ length: this.count() }, () => read(this)); }

  bool() {
    const flag = this.u8();
    must(flag <= 1, "malformed_encoding");
    return flag === 1;
  }

  optional(read) { return this.bool() ? read(this) : null; }

  variant(count) {
    const number = this.u32();
    must(number < count, "malformed_encoding");
    return number;
  }

  curved(secp256k1, ed25519) {
    return this.variant(2) ? { curve: "ed25519", bytes: this.take(ed25519) } : { curve: "secp256k1", bytes: this.take(secp256k1) };
  }

  key() { return this.curved(33, 32); }
  signature() { return this.curved(65, 64); }
}

/** The whole of the bytes as one value. */
export function decode(bytes, longest, read) {
  must(bytes.length <= longest, "too_long", `${bytes.length} bytes, at most ${longest}`);
  const reader = new Reader(bytes);
  const value = read(reader);
  must(reader.at === bytes.length, "not_canonical");
  return value;
}

export const u64Bytes = (value) => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
};

export const stringBytes = (text) => {
  const bytes = utf8(text);
  return join(u64Bytes(bytes.length), bytes);
};

export function readEntry(reader) {
  const time = reader.u64();
  const body = reader.variant(3);
  if (body === 0) return { time, adopts: { version: reader.u32(), hash: toHex(reader.hash()) } };
  if (body === 1) return { time, stateRoot: reader.hash() };
  const event = { federation: toHex(reader.hash()), kind: KIND_NAMES[reader.variant(KIND_NAMES.length)] };
  for (const [name, { read, optional }] of Object.entries(KINDS[event.kind])) {
    event[name] = optional ? reader.optional(read) : read(reader);
  }
  event.created = createdText(reader.u64());
  event.nonce = toHex(reader.take(8));
  const [signer, signature] = [reader.key(), reader.signature()];
  return { time, event, signer, signature, countersignature: reader.optional((one) => one.signature()) };
}

/** The text of a decoded event, if it is one that the text gives back. */
function checkedText(event) {
  const text = joinEvent(event);
  const again = attempt(() => parseEvent(text), () => null);
  const same = again && Object.keys(again).every((name) => again[name] === event[name]);
  must(same, "malformed_field");
  return text;
}

/** The text of the event that a decoded entry holds, null if it holds none, after every check of the entry. */
export async function verifyEntry({ event, signer, signature, countersignature }, federation) {
  if (!event) return null;
  must(event.federation === federation, "wrong_federation", `of the federation ${event.federation}`);
  const text = checkedText(event);
  const message = utf8(text);
  checkKey(signer);
  await verifySignature(signer, message, signature);
  const own = event.key === keyText(signer);
  must(event.kind !== "register" || own, "not_possessed");
  const counters = event.kind === "rotate" && !own;
  must(counters === (countersignature !== null), "countersignature");
  if (counters) {
    await verifySignature(parseKey(event.key), message, countersignature).catch((error) => {
      throw error instanceof FamaError ? new FamaError("countersignature", error.message) : error;
    });
  }
  return text;
}
