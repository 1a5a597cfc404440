// SHA-256 (FIPS 180-4) and BLAKE3 without a key, of 32 bytes.
import { utf8 } from "./bytes.js";

const SHA_K = new Uint32Array(64);
const SHA_START = new Uint32Array(8);
{
  // The constants are the first 32 bits of the fractions of cube and square roots of the first primes.
  const root = (n, degree) => {
    const wanted = BigInt(n) << BigInt(32 * degree);
    let low = 0n;
    let high = 1n << 40n;
    while (high - low > 1n) {
      const middle = (low + high) >> 1n;
      if (middle ** BigInt(degree) <= wanted) low = middle;
      else high = middle;
    }
    return Number(low & 0xffffffffn);
  };
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  primes.forEach((prime, i) => {
    SHA_K[i] = root(prime, 3);
    if (i < 8) SHA_START[i] = root(prime, 2);
  });
}

const SHA_WORDS = new Uint32Array(64);
const turn = (word, by) => (word >>> by) | (word << (32 - by));

export function sha256(message) {
  const length = message.length;
  const padded = new Uint8Array(((length + 72) >> 6) << 6);
  padded.set(message);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(length / 0x20000000));
  view.setUint32(padded.length - 4, (length << 3) >>> 0);
  const state = SHA_START.slice();
  const w = SHA_WORDS;
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
      const one = (h + s1 + ((e & f) ^ (~e & g)) + SHA_K[i] + w[i]) | 0;
      const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
      const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] += word));
  }
  const hash = new Uint8Array(32);
  const out = new DataView(hash.buffer);
  state.forEach((word, i) => out.setUint32(4 * i, word));
  return hash;
}

// BLAKE3 starts from the same words as SHA-256. Each round takes the words of a block in another order.
const BLAKE_ORDERS = [Array.from({ length: 16 }, (_, i) => i)];
for (let round = 1; round < 7; round++) {
  BLAKE_ORDERS.push([2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8].map((from) => BLAKE_ORDERS[round - 1][from]));
}
const CHUNK_START = 1;
const CHUNK_END = 2;
const PARENT = 4;
const ROOT = 8;
const BLAKE_STATE = new Uint32Array(16);

function blakeMix(v, a, b, c, d, x, y) {
  v[a] += v[b] + x;
  v[d] = turn(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = turn(v[b] ^ v[c], 12);
  v[a] += v[b] + y;
  v[d] = turn(v[d] ^ v[a], 8);
  v[c] += v[d];
  v[b] = turn(v[b] ^ v[c], 7);
}

function blakeCompress(chain, m, counter, length, flags) {
  const v = BLAKE_STATE;
  v.set(chain);
  v.set(SHA_START.subarray(0, 4), 8);
  v[12] = counter;
  v[13] = Math.floor(counter / 0x100000000);
  v[14] = length;
  v[15] = flags;
  for (const o of BLAKE_ORDERS) {
    for (let i = 0; i < 4; i++) blakeMix(v, i, 4 + i, 8 + i, 12 + i, m[o[2 * i]], m[o[2 * i + 1]]);
    blakeMix(v, 0, 5, 10, 15, m[o[8]], m[o[9]]);
    blakeMix(v, 1, 6, 11, 12, m[o[10]], m[o[11]]);
    blakeMix(v, 2, 7, 8, 13, m[o[12]], m[o[13]]);
    blakeMix(v, 3, 4, 9, 14, m[o[14]], m[o[15]]);
  }
  const out = new Uint32Array(8);
  for (let i = 0; i < 8; i++) out[i] = v[i] ^ v[8 + i];
  return out;
}

function blakeBlock(bytes) {
  const words = new Uint32Array(16);
  for (let i = 0; i < bytes.length; i++) words[i >> 2] |= bytes[i] << (8 * (i & 3));
  return words;
}

/** The chaining value of one chunk of up to 1,024 bytes. */
function blakeChunk(bytes, counter, root) {
  let chain = SHA_START;
  const blocks = Math.max(1, Math.ceil(bytes.length / 64));
  for (let i = 0; i < blocks; i++) {
    const block = bytes.subarray(64 * i, 64 * i + 64);
    const last = i === blocks - 1;
    const flags = (i === 0 ? CHUNK_START : 0) | (last ? CHUNK_END | root : 0);
    chain = blakeCompress(chain, blakeBlock(block), counter, block.length, flags);
  }
  return chain;
}

/** The chaining value of a subtree; its left side has as many chunks as the largest power of two that leaves some. */
function blakeTree(bytes, counter, root) {
  if (bytes.length <= 1024) return blakeChunk(bytes, counter, root);
  let left = 1024;
  while (2 * left < bytes.length) left *= 2;
  const sides = [
    ...blakeTree(bytes.subarray(0, left), counter, 0),
    ...blakeTree(bytes.subarray(left), counter + left / 1024, 0),
  ];
  return blakeCompress(SHA_START, sides, 0, 64, PARENT | root);
}

export function blake3(bytes) {
  const hash = new Uint8Array(32);
  const view = new DataView(hash.buffer);
  blakeTree(bytes, 0, ROOT).forEach((word, i) => view.setUint32(4 * i, word, true));
  return hash;
}

export const blakeOfText = (text) => blake3(utf8(text));
