// Bytes and texts: hex, base64, order.
import { BASE64_TEXT_BYTES_MAX } from "./bounds.js";

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
export const LONE_SURROGATE = /\p{Surrogate}/u;

export const utf8 = (text) => ENCODER.encode(text);

export function fromUtf8(bytes) {
  try {
    return DECODER.decode(bytes);
  } catch {
    return null;
  }
}

/** The UTF-8 of a text, or the bytes as they are; undefined for anything else, and for a text that is no Unicode. */
export function bytesOf(text) {
  if (text instanceof Uint8Array) return text;
  return typeof text === "string" && !LONE_SURROGATE.test(text) ? utf8(text) : undefined;
}

/** The value of a JSON text; undefined for anything else. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function join(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Negative, zero or positive as a comes before b, is b, or comes after b. */
export function compare(a, b) {
  const least = Math.min(a.length, b.length);
  for (let i = 0; i < least; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

export const equal = (a, b) => compare(a, b) === 0;

export function beginsWith(bytes, prefix) {
  return bytes.length >= prefix.length && equal(bytes.subarray(0, prefix.length), prefix);
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function toHex(bytes) {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/** The bytes of lower-case hex digits; null for anything else or another number of bytes. */
export function fromHex(text, count) {
  if (text.length !== 2 * count || /[^0-9a-f]/.test(text)) return null;
  return Uint8Array.from({ length: count }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_VALUES = new Uint8Array(128).fill(255);
for (let i = 0; i < 64; i++) BASE64_VALUES[BASE64.charCodeAt(i)] = i;

export function toBase64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const three = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const left = bytes.length - i;
    text += BASE64[three >> 18] + BASE64[(three >> 12) & 63];
    text += (left > 1 ? BASE64[(three >> 6) & 63] : "=") + (left > 2 ? BASE64[three & 63] : "=");
  }
  return text;
}

/** The bytes of the one canonical form: standard alphabet, padded, unused bits zero. Null for anything else. */
export function fromBase64(text) {
  if (text.length % 4 !== 0) return null;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const digits = text.length - padding;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < digits; i++) {
    const code = text.charCodeAt(i);
    const value = code < 128 ? BASE64_VALUES[code] : 255;
    if (value === 255) return null;
    held = ((held << 6) | value) & 0xffffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at++] = (held >> bits) & 255;
    }
  }
  return (held & ((1 << bits) - 1)) === 0 ? bytes : null;
}

/** Base64 of the alphabet for URLs, without padding. */
export const toBase64Url = (bytes) => toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

/** The bytes of its one canonical form; null for anything else. */
export function fromBase64Url(text) {
  if (/[^\w-]/.test(text)) return null;
  return fromBase64(text.replace(/-/g, "+").replace(/_/g, "/") + "=".repeat(-text.length & 3));
}

/** As people and programs supply it: either alphabet but not both, padded or not, with ASCII white space. */
export function fromLenientBase64(text) {
  if (text.length > BASE64_TEXT_BYTES_MAX || (/[-_]/.test(text) && /[+/]/.test(text))) return null;
  const plain = text.replace(/[\t\n\f\r ]/g, "").replace(/-/g, "+").replace(/_/g, "/");
  return fromBase64(plain.endsWith("=") ? plain : plain + "=".repeat((4 - (plain.length % 4)) % 4));
}

export function timeText(millis) {
  const bounded = Math.min(Number(millis), 8.64e15);
  return new Date(bounded).toISOString();
}

export const secondsText = (seconds) => (seconds === null ? null : timeText(seconds * 1000n));
