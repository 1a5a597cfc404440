// fama.js 0.1.0 (MIT OR Apache-2.0), made by build.js; fama.d.ts says what it does.
class FamaError extends Error {constructor(code, message, more = {}) {super(message ? `${message} (${code})` : code);
this.name = "FamaError";
this.code = code;
Object.assign(this, more);}}
function refuse(code, message, more) {throw new FamaError(code, message, more);}
function attempt(run, other) {try {return run();} catch (error) {if (error instanceof FamaError) return other(error);
throw error;}}
function must(holds, code, message) {if (!holds) refuse(code, message);}
const stated = (holds, name) => must(holds, "requirement_missing", `say ${name}: it has no default`);
const PROOF_HASHES_MAX = 64;
const SIGNATURES_MAX = 128;
const CHECKPOINT_BYTES_MAX = 16384;
const PROOF_BYTES_MAX = 2 * CHECKPOINT_BYTES_MAX;
const MANIFEST_BYTES_MAX = 131072;
const CHAIN_BYTES_MAX = 1 << 24;
const VERSIONS_MAX = 1000;
const OPERATORS_MAX = 64;
const ENTRY_BYTES_MAX = 4096;
const ADOPTION_BYTES_MAX = 8 + 8 + ENTRY_BYTES_MAX + 8 + 32 * PROOF_HASHES_MAX;
const ROW_BYTES_MAX = 1 << 20;
const KEY_BYTES_MAX = 128;
const PREFIXES_MAX = 4096;
const PROFILE_BYTES_MAX = 1 << 22;
const PROFILE_UNPACKED_BYTES_MAX = 1 << 24;
const HEAD_SKEW_SECONDS_MAX = 60n;
const TRIPLES_PER_PROVIDER = 64;
const SCOPES_PER_PAIR = 256;
const GRANTED_BY_MAX = 16;
const BASE64_TEXT_BYTES_MAX = 4096;
const U32_MAX = 0xffffffff;
const I63_MAX = (1n << 63n) - 1n;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LONE_SURROGATE = /\p{Surrogate}/u;
const utf8 = (text) => ENCODER.encode(text);
function fromUtf8(bytes) {try {return DECODER.decode(bytes);} catch {return null;}}
function bytesOf(text) {if (text instanceof Uint8Array) return text;
return typeof text === "string" && !LONE_SURROGATE.test(text) ? utf8(text) : undefined;}
function parsed(text) {try {return JSON.parse(text);} catch {return undefined;}}
function join(...parts) {const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
let at = 0;
for (const part of parts) {all.set(part, at);
at += part.length;}
return all;}
function compare(a, b) {const least = Math.min(a.length, b.length);
for (let i = 0; i < least; i++) if (a[i] !== b[i]) return a[i] - b[i];
return a.length - b.length;}
const equal = (a, b) => compare(a, b) === 0;
function beginsWith(bytes, prefix) {return bytes.length >= prefix.length && equal(bytes.subarray(0, prefix.length), prefix);}
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
function toHex(bytes) {let text = "";
for (const byte of bytes) text += HEX[byte];
return text;}
function fromHex(text, count) {if (text.length !== 2 * count || /[^0-9a-f]/.test(text)) return null;
return Uint8Array.from({ length: count }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));}
const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_VALUES = new Uint8Array(128).fill(255);
for (let i = 0; i < 64; i++) BASE64_VALUES[BASE64.charCodeAt(i)] = i;
function toBase64(bytes) {let text = "";
for (let i = 0; i < bytes.length; i += 3) {const three = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
const left = bytes.length - i;
text += BASE64[three >> 18] + BASE64[(three >> 12) & 63];
text += (left > 1 ? BASE64[(three >> 6) & 63] : "=") + (left > 2 ? BASE64[three & 63] : "=");}
return text;}
function fromBase64(text) {if (text.length % 4 !== 0) return null;
const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
const digits = text.length - padding;
const bytes = new Uint8Array((text.length / 4) * 3 - padding);
let bits = 0;
let held = 0;
let at = 0;
for (let i = 0; i < digits; i++) {const code = text.charCodeAt(i);
const value = code < 128 ? BASE64_VALUES[code] : 255;
if (value === 255) return null;
held = ((held << 6) | value) & 0xffffff;
bits += 6;
if (bits >= 8) {bits -= 8;
bytes[at++] = (held >> bits) & 255;}}
return (held & ((1 << bits) - 1)) === 0 ? bytes : null;}
const toBase64Url = (bytes) => toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
function fromBase64Url(text) {if (/[^\w-]/.test(text)) return null;
return fromBase64(text.replace(/-/g, "+").replace(/_/g, "/") + "=".repeat(-text.length & 3));}
function fromLenientBase64(text) {if (text.length > BASE64_TEXT_BYTES_MAX || (/[-_]/.test(text) && /[+/]/.test(text))) return null;
const plain = text.replace(/[\t\n\f\r ]/g, "").replace(/-/g, "+").replace(/_/g, "/");
return fromBase64(plain.endsWith("=") ? plain : plain + "=".repeat((4 - (plain.length % 4)) % 4));}
function timeText(millis) {const bounded = Math.min(Number(millis), 8.64e15);
return new Date(bounded).toISOString();}
const secondsText = (seconds) => (seconds === null ? null : timeText(seconds * 1000n));
const SHA_K = new Uint32Array(64);
const SHA_START = new Uint32Array(8);
{const root = (n, degree) => {const wanted = BigInt(n) << BigInt(32 * degree);
let low = 0n;
let high = 1n << 40n;
while (high - low > 1n) {const middle = (low + high) >> 1n;
if (middle ** BigInt(degree) <= wanted) low = middle;
else high = middle;}
return Number(low & 0xffffffffn);};
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
primes.forEach((prime, i) => {SHA_K[i] = root(prime, 3);
if (i < 8) SHA_START[i] = root(prime, 2);});}
const SHA_WORDS = new Uint32Array(64);
const turn = (word, by) => (word >>> by) | (word << (32 - by));
function sha256(message) {const length = message.length;
const padded = new Uint8Array(((length + 72) >> 6) << 6);
padded.set(message);
padded[length] = 0x80;
const view = new DataView(padded.buffer);
view.setUint32(padded.length - 8, Math.floor(length / 0x20000000));
view.setUint32(padded.length - 4, (length << 3) >>> 0);
const state = SHA_START.slice();
const w = SHA_WORDS;
for (let at = 0; at < padded.length; at += 64) {for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
for (let i = 16; i < 64; i++) {const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
w[i] = w[i - 16] + s0 + w[i - 7] + s1;}
let [a, b, c, d, e, f, g, h] = state;
for (let i = 0; i < 64; i++) {const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
const one = (h + s1 + ((e & f) ^ (~e & g)) + SHA_K[i] + w[i]) | 0;
const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
[h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];}
[a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] += word));}
const hash = new Uint8Array(32);
const out = new DataView(hash.buffer);
state.forEach((word, i) => out.setUint32(4 * i, word));
return hash;}
const BLAKE_ORDERS = [Array.from({ length: 16 }, (_, i) => i)];
for (let round = 1; round < 7; round++) {BLAKE_ORDERS.push([2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8].map((from) => BLAKE_ORDERS[round - 1][from]));}
const CHUNK_START = 1;
const CHUNK_END = 2;
const PARENT = 4;
const ROOT = 8;
const BLAKE_STATE = new Uint32Array(16);
function blakeMix(v, a, b, c, d, x, y) {v[a] += v[b] + x;
v[d] = turn(v[d] ^ v[a], 16);
v[c] += v[d];
v[b] = turn(v[b] ^ v[c], 12);
v[a] += v[b] + y;
v[d] = turn(v[d] ^ v[a], 8);
v[c] += v[d];
v[b] = turn(v[b] ^ v[c], 7);}
function blakeCompress(chain, m, counter, length, flags) {const v = BLAKE_STATE;
v.set(chain);
v.set(SHA_START.subarray(0, 4), 8);
v[12] = counter;
v[13] = Math.floor(counter / 0x100000000);
v[14] = length;
v[15] = flags;
for (const o of BLAKE_ORDERS) {for (let i = 0; i < 4; i++) blakeMix(v, i, 4 + i, 8 + i, 12 + i, m[o[2 * i]], m[o[2 * i + 1]]);
blakeMix(v, 0, 5, 10, 15, m[o[8]], m[o[9]]);
blakeMix(v, 1, 6, 11, 12, m[o[10]], m[o[11]]);
blakeMix(v, 2, 7, 8, 13, m[o[12]], m[o[13]]);
blakeMix(v, 3, 4, 9, 14, m[o[14]], m[o[15]]);}
const out = new Uint32Array(8);
for (let i = 0; i < 8; i++) out[i] = v[i] ^ v[8 + i];
return out;}
function blakeBlock(bytes) {const words = new Uint32Array(16);
for (let i = 0; i < bytes.length; i++) words[i >> 2] |= bytes[i] << (8 * (i & 3));
return words;}
function blakeChunk(bytes, counter, root) {let chain = SHA_START;
const blocks = Math.max(1, Math.ceil(bytes.length / 64));
for (let i = 0; i < blocks; i++) {const block = bytes.subarray(64 * i, 64 * i + 64);
const last = i === blocks - 1;
const flags = (i === 0 ? CHUNK_START : 0) | (last ? CHUNK_END | root : 0);
chain = blakeCompress(chain, blakeBlock(block), counter, block.length, flags);}
return chain;}
function blakeTree(bytes, counter, root) {if (bytes.length <= 1024) return blakeChunk(bytes, counter, root);
let left = 1024;
while (2 * left < bytes.length) left *= 2;
const sides = [...blakeTree(bytes.subarray(0, left), counter, 0),
...blakeTree(bytes.subarray(left), counter + left / 1024, 0),];
return blakeCompress(SHA_START, sides, 0, 64, PARENT | root);}
function blake3(bytes) {const hash = new Uint8Array(32);
const view = new DataView(hash.buffer);
blakeTree(bytes, 0, ROOT).forEach((word, i) => view.setUint32(4 * i, word, true));
return hash;}
const blakeOfText = (text) => blake3(utf8(text));
const mod = (a, p) => {const rest = a % p;
return rest < 0n ? rest + p : rest;};
function power(base, exponent, p) {let result = 1n;
for (let b = mod(base, p), e = exponent; e > 0n; e >>= 1n) {if (e & 1n) result = (result * b) % p;
b = (b * b) % p;}
return result;}
function inverse(a, p) {let [r, s, x, y] = [mod(a, p), p, 1n, 0n];
while (r > 1n) {const quotient = s / r;
[r, s, x, y] = [s % r, r, y - quotient * x, x];}
return mod(x, p);}
const big = (bytes) => BigInt(`0x0${toHex(bytes)}`);
const SECP_P = 2n ** 256n - 2n ** 32n - 977n;
const SECP_N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const SECP_G = [0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
1n,];
const SECP_NOTHING = [0n, 1n, 0n];
function secpY(x, odd) {if (x >= SECP_P) return null;
const square = (x * x * x + 7n) % SECP_P;
const y = power(square, (SECP_P + 1n) / 4n, SECP_P);
if ((y * y) % SECP_P !== square) return null;
return (y & 1n) === odd ? y : SECP_P - y;}
function secpDouble([x, y, z]) {if (z === 0n) return SECP_NOTHING;
const yy = (y * y) % SECP_P;
const s = (4n * x * yy) % SECP_P;
const m = (3n * x * x) % SECP_P;
const x3 = mod(m * m - 2n * s, SECP_P);
return [x3, mod(m * (s - x3) - 8n * yy * yy, SECP_P), (2n * y * z) % SECP_P];}
function secpAdd(a, b) {if (a[2] === 0n) return b;
if (b[2] === 0n) return a;
const [x1, y1, z1] = a;
const [x2, y2, z2] = b;
const zz1 = (z1 * z1) % SECP_P;
const zz2 = (z2 * z2) % SECP_P;
const u1 = (x1 * zz2) % SECP_P;
const s1 = (y1 * zz2 * z2) % SECP_P;
const h = mod(x2 * zz1 - u1, SECP_P);
const r = mod(y2 * zz1 * z1 - s1, SECP_P);
if (h === 0n) return r === 0n ? secpDouble(a) : SECP_NOTHING;
const hh = (h * h) % SECP_P;
const hhh = (h * hh) % SECP_P;
const v = (u1 * hh) % SECP_P;
const x3 = mod(r * r - hhh - 2n * v, SECP_P);
return [x3, mod(r * (v - x3) - s1 * hhh, SECP_P), (z1 * z2 * h) % SECP_P];}
function secpSum(a, b, q) {const both = secpAdd(SECP_G, q);
let sum = SECP_NOTHING;
for (let bit = 255n; bit >= 0n; bit--) {sum = secpDouble(sum);
const [ofG, ofQ] = [(a >> bit) & 1n, (b >> bit) & 1n];
if (ofG && ofQ) sum = secpAdd(sum, both);
else if (ofG) sum = secpAdd(sum, SECP_G);
else if (ofQ) sum = secpAdd(sum, q);}
return sum;}
function recoveryId(point, message, r, s) {const byS = inverse(s, SECP_N);
const u1 = (big(sha256(message)) * byS) % SECP_N;
const [x, y, z] = secpSum(u1, (r * byS) % SECP_N, point);
if (z === 0n) return null;
const byZ = inverse(z, SECP_P);
const affineX = (x * byZ * byZ) % SECP_P;
if (affineX % SECP_N !== r) return null;
const odd = ((y * byZ * byZ * byZ) % SECP_P) & 1n;
return (affineX !== r ? 2 : 0) | Number(odd);}
const P256_P = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
const P256_B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;
const p256OnCurve = (x, y) => x < P256_P && y < P256_P && (x ** 3n - 3n * x + P256_B - y * y) % P256_P === 0n;
const ED_P = 2n ** 255n - 19n;
const ED_L = 2n ** 252n + 27742317777372353535851937790883648493n;
const ED_D = mod(-121665n * inverse(121666n, ED_P), ED_P);
const ED_SMALL_YS = new Set([0n,
1n,
ED_P - 1n,
0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
ED_P - 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,]);
const edY = (bytes) => big(bytes.slice().reverse()) & (2n ** 255n - 1n);
function edOnCurve(y) {const yy = (y * y) % ED_P;
const square = mod((yy - 1n) * inverse(ED_D * yy + 1n, ED_P), ED_P);
return square === 0n || power(square, (ED_P - 1n) / 2n, ED_P) === 1n;}
const edIsSmall = (y) => ED_SMALL_YS.has(y % ED_P);
let nodeCrypto;
async function native() {if (nodeCrypto === undefined) {const { process } = globalThis;
nodeCrypto = process?.getBuiltinModule?.("node:crypto") ?? null;
if (!nodeCrypto && process?.versions?.node) {const name = "node:crypto";
nodeCrypto = await import(/* @vite-ignore */ /* webpackIgnore: true */ name).catch(() => null);}}
return nodeCrypto;}
const SPKI_ED25519 = fromHex("302a300506032b6570032100", 12);
const nativeKeys = new WeakMap();
async function nativeKey(key) {const crypto = await native();
if (crypto && !nativeKeys.has(key)) {nativeKeys.set(key, crypto.createPublicKey({ key: join(SPKI_ED25519, key.bytes), format: "der", type: "spki" }));}
return nativeKeys.get(key) ?? null;}
function webCrypto() {const subtle = globalThis.crypto?.subtle;
must(subtle, "no_webcrypto", "crypto.subtle is withheld: browsers give it to https and localhost only");
return subtle;}
async function p256Holds(point, message, signature) {const imported = await webCrypto().importKey("raw", point, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
return webCrypto().verify({ name: "ECDSA", hash: "SHA-256" }, imported, signature, message);}
async function edHolds(key, message, signature) {const own = await nativeKey(key);
if (own) return nodeCrypto.verify(null, message, own, signature);
const subtle = webCrypto();
let imported;
try {imported = await subtle.importKey("raw", key.bytes, { name: "Ed25519" }, false, ["verify"]);} catch (cause) {refuse("no_ed25519", `WebCrypto has no Ed25519 here: ${cause?.message}`, { cause });}
return subtle.verify({ name: "Ed25519" }, imported, signature, message);}
const NO_POINT = "no point of the curve";
function parseKey(text) {const [, curve, digits] = /^(secp256k1|ed25519):([0-9a-f]*)$/.exec(text) ?? [];
const bytes = curve && fromHex(digits, curve === "ed25519" ? 32 : 33);
must(bytes, "key_malformed", "want secp256k1:… or ed25519:…");
return checkKey({ curve, bytes });}
const keyText = (key) => `${key.curve}:${toHex(key.bytes)}`;
const checkedKeys = new WeakSet();
function checkKey(key) {if (checkedKeys.has(key)) return key;
if (key.curve === "ed25519") {const y = edY(key.bytes);
must(y < ED_P, "key_not_canonical");
must(edOnCurve(y), "key_not_on_curve", NO_POINT);
must(!edIsSmall(y), "key_weak");} else {secpPoint(key);}
checkedKeys.add(key);
return key;}
function secpPoint({ bytes }) {const x = big(bytes.subarray(1));
const y = bytes[0] === 2 || bytes[0] === 3 ? secpY(x, BigInt(bytes[0] & 1)) : null;
must(y !== null, "key_not_on_curve", NO_POINT);
return [x, y, 1n];}
function der(bytes) {if (bytes.length < 2) return null;
let [at, length] = [2, bytes[1]];
if (length >= 0x80) {const count = length & 0x7f;
if (count < 1 || count > 2 || bytes.length < 2 + count || bytes[2] === 0) return null;
length = count === 1 ? bytes[2] : (bytes[2] << 8) | bytes[3];
if (length < (count === 1 ? 0x80 : 0x100)) return null;
at += count;}
if (bytes.length < at + length) return null;
return { tag: bytes[0], content: bytes.subarray(at, at + length), rest: bytes.subarray(at + length) };}
function derOf(tag, bytes) {const found = bytes && der(bytes);
return found?.tag === tag ? found : null;}
function keyFromPem(text) {const block = /(?:^|\n)[^\S\n]*-----BEGIN PUBLIC KEY-----([^-]*)-----END PUBLIC KEY-----/g;
const found = [...text.matchAll(block)];
const bytes = found.length === 1 ? fromLenientBase64(found[0][1]) : null;
must(bytes, "key_pem");
const whole = derOf(0x30, bytes);
const algorithm = derOf(0x30, whole?.content);
const point = derOf(0x03, algorithm?.rest);
const oid = derOf(0x06, algorithm?.content);
const sound = whole?.rest.length === 0 && point?.rest.length === 0 && point.content[0] === 0 && oid;
must(sound, "key_der");
return checkKey(keyFromPoint(toHex(oid.content), oid.rest, point.content.slice(1)));}
function keyFromPoint(oid, parameters, point) {if (oid === "2b6570") {must(parameters.length === 0 && point.length === 32, "key_der");
return { curve: "ed25519", bytes: point };}
const isSecp = oid === "2a8648ce3d0201" && toHex(parameters) === "06052b8104000a";
must(isSecp, "key_algorithm", "want a secp256k1 or Ed25519 key");
if (point.length === 33) return { curve: "secp256k1", bytes: point };
const x = big(point.subarray(1, 33));
const y = big(point.subarray(33));
const holds = point.length === 65 && point[0] === 4 && secpY(x, y & 1n) === y;
must(holds, "key_not_on_curve", NO_POINT);
return { curve: "secp256k1", bytes: join([2 + Number(y & 1n)], point.subarray(1, 33)) };}
function readKey(text) {must(typeof text === "string" && text.length <= 65536, "key_malformed", "want a key");
return text.includes("-----BEGIN") ? keyFromPem(text) : parseKey(text.trim());}
const keyHash = (key) => sha256(utf8(keyText(key)));
const MISMATCH = "it does not match key and message";
const NO_SIGNATURE = "no signature of the key's curve";
const inGroup = (n) => n > 0n && n < SECP_N;
async function verifySignature(key, message, signature) {must(key.curve === signature.curve, "signature_wrong_curve");
if (key.curve === "ed25519") return verifyEd25519(key, message, signature.bytes);
const [r, s] = [big(signature.bytes.subarray(0, 32)), big(signature.bytes.subarray(32, 64))];
must(inGroup(r) && inGroup(s), "signature_malformed", NO_SIGNATURE);
must(s <= SECP_N / 2n, "signature_high_s");
const id = recoveryId(secpPoint(key), message, r, s);
must(id !== null, "signature_mismatch", MISMATCH);
must(id === signature.bytes[64], "signature_recovery_id");}
async function verifyEd25519(key, message, bytes) {checkKey(key);
const y = edY(bytes.subarray(0, 32));
const strict = y < ED_P && !edIsSmall(y) && big(bytes.slice(32).reverse()) < ED_L;
const holds = strict && (await edHolds(key, message, bytes));
must(holds, "signature_mismatch", MISMATCH);}
async function lineHolds(key, message, bytes) {if (bytes.length !== 64) return false;
try {await verifyEd25519(key, message, bytes);
return true;} catch (error) {if (error.code === "signature_mismatch") return false;
throw error;}}
function derSignature(bytes) {const whole = bytes.length >= 8 && bytes.length <= 72 ? derOf(0x30, bytes) : null;
const r = derOf(0x02, whole?.content);
const s = derOf(0x02, r?.rest);
if (!s || whole.rest.length || s.rest.length) return null;
const numbers = [r.content, s.content].map((content) => {const shortest = content.length > 0 && content[0] < 0x80 && (content[0] > 0 || content[1] >= 0x80);
return shortest ? big(content) : 0n;});
return numbers.every(inGroup) ? numbers : null;}
function compactSignature(bytes) {if (bytes.length !== 64 && bytes.length !== 65) return null;
const numbers = [big(bytes.subarray(0, 32)), big(bytes.subarray(32, 64))];
return numbers.every(inGroup) ? numbers : null;}
async function verifyEdge(key, message, bytes) {if (key.curve === "ed25519") {must(bytes.length === 64, "signature_malformed", NO_SIGNATURE);
return verifyEd25519(key, message, bytes);}
const forms = [derSignature(bytes), compactSignature(bytes)].filter((form) => form);
must(forms.length > 0, "signature_malformed", NO_SIGNATURE);
const point = secpPoint(key);
must(forms.some(([r, s]) => recoveryId(point, message, r, s) !== null), "signature_mismatch", MISMATCH);}
const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
const DOMAIN = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})+$`);
const NAME = /^(?=.{3,50}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;
const HASH = /^[0-9a-f]{64}$/;
const COMMITMENT = /^sha256:[0-9a-f]{64}$/;
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const SUSPEND_REASONS = ["misconduct", "key_compromised", "unspecified"];
const REVOKE_REASONS = ["key_compromised", "superseded", "retired", "unspecified"];
const is = (pattern) => (text) => pattern.test(text);
const integer = (least, most) => (text) =>
text.length < 30 && /^(?:0|-?[1-9][0-9]*)$/.test(text) && BigInt(text) >= least && BigInt(text) <= most;
function isDay(text) {if (!/^(?!20[01])[2-9][0-9]{3}-[0-9]{2}-[0-9]{2}$/.test(text)) return false;
const date = new Date(`${text}T00:00:00.000Z`);
return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);}
const CLOCK_TIME = /^T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z$/;
const isTime = (text) => isDay(text.slice(0, 10)) && CLOCK_TIME.test(text.slice(10));
function isKey(text) {return attempt(() => keyText(parseKey(text)) === text, () => false);}
const dayText = (day) => (day <= 2932896 ? timeText(day * 86400000).slice(0, 10) : String(day));
const createdText = (millis) => (millis < 253402300800000n ? timeText(millis) : String(millis));
const textType = (holds) => ({ holds, read: (reader) => reader.string() });
const wordType = (words) => ({ holds: (text) => words.includes(text), read: (reader) => words[reader.variant(words.length)] });
const TYPES = {domain: textType(is(DOMAIN)),
name: textType(is(NAME)),
service: textType(is(/^[a-z0-9._-]{1,64}$/)),
context: textType(is(/^[a-z0-9._-]{1,32}$/)),
scope: textType(is(/^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/)),
hash: { holds: is(HASH), read: (reader) => toHex(reader.hash()) },
commitment: { holds: is(COMMITMENT), read: (reader) => `sha256:${toHex(reader.hash())}` },
key: { holds: isKey, read: (reader) => keyText(reader.key()) },
version: { holds: integer(1n, BigInt(U32_MAX)), read: (reader) => String(reader.u32()) },
delta: { holds: integer(-(2n ** 31n), 2n ** 31n - 1n), read: (reader) => String(reader.i32()) },
from: { holds: integer(0n, I63_MAX), read: (reader) => String(reader.u64()) },
day: { holds: isDay, read: (reader) => dayText(reader.u32()) },
time: { holds: isTime, read: (reader) => createdText(reader.u64()) },
revocation: wordType(REVOKE_REASONS),
suspension: wordType(SUSPEND_REASONS),
method: wordType(["dns", "https", "manual"]),
dismissal: wordType(["misconduct", "key_compromised", "expired", "unspecified"]),};
function readList(list, of) {return Object.fromEntries(list.split(" ").map((said) => {const [, name, type, optional] = /^(\w+)(?::(\w+))?(\?)?$/.exec(said);
return [name, of(type ?? name, optional === "?")];}));}
const fieldsOf = (list) => readList(list, (type, optional) => ({ ...TYPES[type], optional }));
const KINDS = {register: fieldsOf("home:domain name key next:commitment? note:commitment?"),
rotate: fieldsOf("home:domain identity:hash version key next:commitment?"),
revoke: fieldsOf("home:domain identity:hash version key reason:revocation"),
attest: fieldsOf("home:domain issuer:hash subject:hash delta context? note:commitment?"),
retract: fieldsOf("home:domain issuer:hash subject:hash day attestation:hash"),
admit: fieldsOf("operator:domain provider:hash service domain method from"),
dismiss: fieldsOf("operator:domain provider:hash service domain from reason:dismissal"),
grant: fieldsOf("home:domain issuer:hash subject:hash scope expires:time? note:commitment?"),
ungrant: fieldsOf("home:domain issuer:hash subject:hash scope"),
suspend: fieldsOf("operator:domain identity:hash reason:suspension"),
resume: fieldsOf("operator:domain identity:hash"),};
const KIND_NAMES = Object.keys(KINDS);
const isKind = (kind) => Object.hasOwn(KINDS, kind);
class Lines {constructor(bytes, firstLine, longest) {must(bytes.length <= longest, "too_long", `more than ${longest} bytes`);
const text = fromUtf8(bytes);
must(text !== null, "not_utf8");
must(text.startsWith(`${firstLine}\n`), "first_line", `want ${firstLine}`);
must(text.endsWith("\n"), "no_newline");
this.lines = text.split("\n").slice(1, -1);}
value(wanted) {must(this.lines.length > 0, "missing_field", wanted);
const line = this.lines.shift();
const colon = line.indexOf(": ");
must(colon >= 0, "no_colon", wanted);
const value = line.slice(colon + 2);
must(value !== "", "empty_value", wanted);
must(!value.startsWith(" ") && !value.endsWith(" "), "outer_space", wanted);
must(!FORBIDDEN.test(value), "forbidden_character", wanted);
must(line.slice(0, colon) === wanted, "wrong_field", wanted);
return value;}
optional(wanted) {return this.lines[0]?.startsWith(`${wanted}:`) ? this.value(wanted) : null;}
typed(name, { holds, optional }) {const value = optional ? this.optional(name) : this.value(name);
must(value === null || holds(value), "bad_value", `${name}: ${value}`);
return value;}
end() {must(this.lines.length === 0, "extra_line", this.lines[0]);}}
function parseEvent(text) {const lines = new Lines(bytesOf(text) ?? refuse("not_utf8"), "fama.event/1", 2048);
const event = { federation: lines.typed("federation", TYPES.hash), kind: lines.typed("kind", { holds: isKind }) };
for (const [name, field] of Object.entries(KINDS[event.kind])) event[name] = lines.typed(name, field);
event.created = lines.typed("created", { holds: isTime });
event.nonce = lines.typed("nonce", { holds: is(/^[0-9a-f]{16}$/) });
lines.end();
return event;}
function joinEvent(event) {const lines = ["fama.event/1", `federation: ${event.federation}`, `kind: ${event.kind}`];
for (const name of [...Object.keys(KINDS[event.kind]), "created", "nonce"]) {const value = event[name] ?? null;
if (value !== null) lines.push(`${name}: ${value}`);}
return `${lines.join("\n")}\n`;}
function eventText(event) {must(isKind(event.kind), "bad_value", `kind: ${event.kind}`);
const fields = KINDS[event.kind];
const given = { created: timeText(Date.now()), nonce: toHex(randomBytes(8)), ...event };
const unknown = Object.keys(given).find((name) => !(name in fields) && !EVENT_FIELDS.includes(name));
must(unknown === undefined, "unknown_field", `${event.kind} has no ${unknown}`);
const text = joinEvent(given);
parseEvent(text);
return text;}
const EVENT_FIELDS = ["federation", "kind", "created", "nonce"];
const eventId = (text) => toHex(blakeOfText(text));
function randomBytes(count) {must(globalThis.crypto?.getRandomValues, "no_webcrypto", "no crypto.getRandomValues");
return globalThis.crypto.getRandomValues(new Uint8Array(count));}
function noteText({ salt = toHex(randomBytes(32)), ...said }) {const lines = ["fama.note/1", `salt: ${salt}`];
for (const name of ["bio", "reason", "ref"]) if (said[name] != null) lines.push(`${name}: ${said[name]}`);
const text = `${lines.join("\n")}\n`;
parseNote(text);
return text;}
function parseNote(text) {const lines = new Lines(bytesOf(text) ?? refuse("not_utf8"), "fama.note/1", 1024);
const note = { salt: lines.typed("salt", TYPES.hash), bio: lines.optional("bio"), reason: null, ref: null };
if (note.bio === null) {const atMost = (longest) => ({ holds: (value) => utf8(value).length <= longest, optional: true });
note.reason = lines.typed("reason", atMost(200));
note.ref = lines.typed("ref", atMost(512));}
lines.end();
return note;}
const commitment = (text) => `sha256:${toHex(sha256(utf8(text)))}`;
const NOTE_SIGNATURE = 1;
const NOTE_COSIGNATURE = 4;
const keyId = (name, kind, key) => toHex(sha256(join(utf8(name), [10, kind], key.bytes)).subarray(0, 4));
function parseSigned(bytes, longest) {must(bytes.length <= longest, "note_too_long", `more than ${longest} bytes`);
const whole = fromUtf8(bytes);
must(whole !== null && !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(whole), "note_text");
const gap = whole.lastIndexOf("\n\n");
must(gap >= 0 && whole.endsWith("\n") && gap + 2 < whole.length, "note_form", "text, empty line, signatures");
const lines = whole.slice(gap + 2, -1).split("\n");
must(lines.length <= SIGNATURES_MAX, "note_signatures");
return { text: whole.slice(0, gap + 1), lines: lines.map(parseSignatureLine) };}
function parseSignatureLine(line) {const [, name, encoded] = /^\u2014 ([^\s+\u0085]+) (\S+)$/u.exec(line) ?? [];
const bytes = encoded === undefined ? null : fromBase64(encoded);
must(bytes && bytes.length > 4, "note_signature_line");
return { name, keyId: toHex(bytes.subarray(0, 4)), bytes: bytes.subarray(4) };}
async function isSignedBy(note, name, key, code) {const wanted = keyId(name, NOTE_SIGNATURE, key);
const lines = note.lines.filter((line) => line.name === name && line.keyId === wanted);
for (const line of lines) must(await lineHolds(key, utf8(note.text), line.bytes), code, `invalid signature by ${name}`);
return lines.length > 0;}
function decimal(text) {const number = /^(?:0|[1-9][0-9]{0,19})$/.test(text) ? BigInt(text) : null;
return number !== null && number < 1n << 64n ? number : null;}
function parseLog(text) {const [operator, generation, ...more] = text.split("/");
const number = decimal(generation ?? "");
if (more.length || !DOMAIN.test(operator) || number === null || number > BigInt(U32_MAX)) return null;
return { operator, generation: Number(number) };}
const logName = ({ operator, generation }) => `${operator}/${generation}`;
function compareLogs(a, b) {const [x, y] = [parseLog(a), parseLog(b)];
return compareTexts(x.operator, y.operator) || x.generation - y.generation;}
const compareTexts = (a, b) => (a === b ? 0 : compare(utf8(a), utf8(b)));
function parseCheckpoint(text) {const lines = text.split("\n");
const size = decimal(lines[1] ?? "");
const root = lines.length === 4 && lines[3] === "" ? fromBase64(lines[2]) : null;
must(size !== null && root?.length === 32, "checkpoint_text", "origin, size, root");
const [, federation, log] = /^fama\/([0-9a-f]{64})\/(.*)$/.exec(lines[0]) ?? [];
must(log && parseLog(log), "checkpoint_origin", "the origin");
return { federation, log, size, root };}
async function openCheckpoint(note, manifest, wanted) {const found = parseCheckpoint(note.text);
const origin = `fama/${found.federation}/${found.log}`;
const known = found.federation === manifest.federation ? manifest.logs.get(found.log) : undefined;
must(known && (wanted ?? found.log) === found.log, "checkpoint_unknown_origin", `unknown log ${origin}`);
const signed = await isSignedBy(note, origin, known.nodeKey, "checkpoint_signature");
must(signed, "checkpoint_unsigned", `not signed by the owner of ${origin}`);
return found;}
async function cosigners(note, version) {const found = [];
for (const line of note.lines) {const { name, bytes } = line;
const key = version.operators.get(name)?.nodeKey;
if (!key || line.keyId !== keyId(name, NOTE_COSIGNATURE, key)) continue;
const seconds = bytes.length === 72 ? big(bytes.subarray(0, 8)) : I63_MAX + 1n;
if (line.by !== keyText(key)) {const message = utf8(`cosignature/v1\ntime ${seconds}\n${note.text}`);
const holds = seconds <= I63_MAX && (await lineHolds(key, message, bytes.subarray(8)));
must(holds, "checkpoint_cosignature", `invalid cosignature by ${name}`);
line.by = keyText(key);}
must(!found.some((one) => one.operator === name), "checkpoint_cosigned_twice", `${name} cosigned twice`);
found.push({ operator: name, seconds });}
return found;}
const leafHash = (entry) => sha256(join([0], entry));
const EMPTY_TREE = toHex(sha256(new Uint8Array()));
function verifyInclusion(entry, index, head, path) {must(index < head.size, "proof_range", `index ${index} of ${head.size}`);
must(path.length <= PROOF_HASHES_MAX, "proof_length", "too many hashes");
let [first, last, hash] = [index, head.size - 1n, leafHash(entry)];
for (const sibling of path) {must(last > 0n, "proof_length", "too many hashes");
if (first & 1n || first === last) {hash = sha256(join([1], sibling, hash));
while (!(first & 1n) && first > 0n) [first, last] = [first >> 1n, last >> 1n];} else {hash = sha256(join([1], hash, sibling));}
[first, last] = [first >> 1n, last >> 1n];}
must(last === 0n, "proof_length", "too few hashes");
must(equal(hash, head.root), "proof_root");}
const MANIFEST_FORMAT = "fama.manifest/1";
const MANIFEST_FIRST_LINE = `format = "${MANIFEST_FORMAT}"\n`;
const tableOf = (list) => readList(list, (type, optional) => ({ type, optional }));
const TABLES = {"": tableOf("format name version:u32 protocol:u32? federation? previous?"),
policy: tableOf("max_delta:u32 daily_cap:u32 min_sponsors:u32 daily_registrations:u32 daily_attestations:u32 daily_retractions:u32 " +
"daily_new_providers:u32 daily_grants:u32 daily_bytes:int max_age_ms:int max_lag_ms:int heartbeat_ms:int batch_ms:int",),
operators: tableOf("name node_key governance_key generation:u32 begins addresses:list query? submit? issuer? token_keys:list?",),
homes: tableOf("name operator generation:u32"),
cuts: tableOf("operator generation:u32 size:int root state_root adopted:u32 successor successor_generation:u32"),};
const toml = (holds, what) => must(holds, "manifest_toml", what);
const TOML_TABLE = /^\[(\[)?(policy|operators|homes|cuts)\](\])?$/;
const TOML_STRING = `"[^"\\\\]*"|'[^']*'`;
const TOML_PAIR = new RegExp(`^([a-z_]+)\\s*=\\s*([0-9]+|${TOML_STRING}|\\[.*\\])\\s*(?:#.*)?$`);
function readTables(text) {const tables = { "": [{}], policy: [], operators: [], homes: [], cuts: [] };
let [name, table] = ["", tables[""][0]];
for (const whole of text.split("\n")) {const line = whole.trim();
if (line === "" || line.startsWith("#")) continue;
const header = TOML_TABLE.exec(line);
if (header) {name = header[2];
const many = name !== "policy";
toml(Boolean(header[1]) === many && Boolean(header[3]) === many && (many || !tables.policy.length), line);
tables[name].push((table = {}));
continue;}
const pair = TOML_PAIR.exec(line);
const known = pair && Object.hasOwn(TABLES[name], pair[1]) && !Object.hasOwn(table, pair[1]);
toml(known, line);
table[pair[1]] = readTomlValue(TABLES[name][pair[1]].type, pair[2], line);}
for (const [of, all] of Object.entries(tables)) {for (const one of all) {const missing = Object.entries(TABLES[of]).find(([key, { optional }]) => !optional && !(key in one));
toml(!missing, `${of} has no ${missing?.[0]}`);}}
toml(tables.policy.length && tables.operators.length && tables.homes.length, "a table is missing");
return tables;}
function readTomlValue(type, value, line) {if (type === "list") {const items = value.startsWith("[") ? value.slice(1, -1).trim() : "?";
toml(new RegExp(`^(?:(?:${TOML_STRING})\\s*(?:,\\s*|$))*$`).test(items), line);
return (items.match(new RegExp(TOML_STRING, "g")) ?? []).map((item) => item.slice(1, -1));}
if (type !== "int" && type !== "u32") {toml(/^["']/.test(value), line);
return value.slice(1, -1);}
const number = /^(?:0|[1-9][0-9]{0,19})$/.test(value) ? BigInt(value) : -1n;
toml(number >= 0n && number <= (type === "int" ? I63_MAX : BigInt(U32_MAX)), line);
return type === "int" ? number : Number(number);}
function writeTables(tables) {const show = (value) => {if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
return typeof value === "string" ? `"${value}"` : String(value);};
const isThere = (key, value) => {if (key === "protocol") return value !== undefined && value !== 1;
return value !== undefined && !(key === "token_keys" && value.length === 0);};
const write = (name, table) => {const keys = Object.keys(TABLES[name]).filter((key) => isThere(key, table[key]));
return keys.map((key) => `${key} = ${show(table[key])}\n`).join("");};
let text = write("", tables[""][0]) + `\n[policy]\n${write("policy", tables.policy[0])}`;
for (const name of ["operators", "homes", "cuts"]) {for (const table of tables[name]) text += `\n[[${name}]]\n${write(name, table)}`;}
return text;}
const wants = (holds, what) => must(holds, "manifest_value", what);
const PLAIN = /^[\x21\x23-\x5b\x5d-\x7e]*$/;
const isPlain = (text, longest) => text.length >= 1 && text.length <= longest && PLAIN.test(text);
const distinct = (values) => new Set(values).size === values.length;
function isOrigin(text) {const [, scheme, host, port] = /^(https?):\/\/([a-z0-9.-]+|\[::1\])(?::([1-9][0-9]{0,4}))?$/.exec(text) ?? [];
if (!scheme || (port && (Number(port) > 65535 || port === (scheme === "http" ? "80" : "443")))) return false;
return ["localhost", "127.0.0.1", "[::1]"].includes(host) || (scheme === "https" && DOMAIN.test(host));}
function readEdKey(text, what) {wants(text.startsWith("ed25519:") && isKey(text), `${what}: want ed25519: and 64 hex digits`);
return parseKey(text);}
function readOperator(table) {const addresses = table.addresses.length <= 8 && table.addresses.every((address) => isPlain(address, 253));
wants(addresses && table.generation > 0 && DOMAIN.test(table.name) && isTime(table.begins), `operator ${table.name}`);
for (const field of ["query", "submit", "issuer"]) wants(table[field] === undefined || isOrigin(table[field]), field);
const tokens = table.token_keys ?? [];
wants(tokens.length <= 2 && (table.issuer !== undefined) === tokens.length > 0, "token_keys");
const tokenKeys = tokens.map((key) => readEdKey(key, "token_keys"));
return {name: table.name,
nodeKey: readEdKey(table.node_key, "node_key"),
governanceKey: readEdKey(table.governance_key, "governance_key"),
log: logName({ operator: table.name, generation: table.generation }),
begins: table.begins,
issuer: table.issuer,
tokenKeys,};}
function readCut(table) {const names = DOMAIN.test(table.operator) && DOMAIN.test(table.successor);
wants(names && HASH.test(table.root) && HASH.test(table.state_root), "cuts");
const never = table.size === 0n && table.root === EMPTY_TREE && table.adopted === 0 && /^0*$/.test(table.state_root);
wants(never || (table.size > 0n && table.adopted > 0), "cuts");
return {log: logName(table),
size: table.size,
root: table.root,
stateRoot: fromHex(table.state_root, 32),
adopted: table.adopted,
successor: logName({ operator: table.successor, generation: table.successor_generation }),};}
function checkPolicy(policy, operators) {wants(1 <= policy.max_delta && policy.max_delta <= policy.daily_cap && policy.daily_cap <= 1000, "max_delta, daily_cap");
wants(1 <= policy.min_sponsors && policy.min_sponsors <= operators, "min_sponsors");
wants(policy.max_lag_ms >= 3600000n && policy.max_lag_ms <= 2592000000n, "max_lag_ms");
wants(policy.heartbeat_ms >= 1000n && policy.heartbeat_ms <= 600000n && policy.batch_ms <= 60000n, "heartbeat_ms, batch_ms");}
function readContent(text) {must(text.startsWith(MANIFEST_FIRST_LINE), "manifest_format", `want ${MANIFEST_FORMAT}`);
const outline = /^protocol\s*=\s*([0-9]+)/m.exec(text);
wants(!outline || Number(outline[1]) > 0, "protocols count from 1");
must(!outline || Number(outline[1]) === 1, "manifest_protocol", `protocol ${outline?.[1]} is not known here`);
const tables = readTables(text);
const [{ name, version, federation, previous }] = tables[""];
const later = federation !== undefined || previous !== undefined || tables.cuts.length > 0;
wants((version === 1) === !later, "federation, previous");
wants(isPlain(name, 64) && tables.operators.length <= OPERATORS_MAX, "name, operators");
checkPolicy(tables.policy[0], tables.operators.length);
wants([federation, previous].every((hash) => hash === undefined || HASH.test(hash)), "federation, previous");
const operators = tables.operators.map(readOperator);
const homes = new Map();
for (const table of tables.homes) {const log = logName(table);
const right = DOMAIN.test(table.name) && !homes.has(table.name) && operators.some((one) => one.log === log);
wants(right, `home ${table.name}`);
homes.set(table.name, log);}
wants(operators.every((one) => homes.has(one.name)), "homes");
wants(distinct(operators.map((one) => one.name)), "operators");
wants(distinct(operators.flatMap((one) => one.issuer ?? [])), "issuer");
wants(distinct(operators.flatMap((one) => keyUses(one).map(([key]) => key))), "keys");
const cuts = tables.cuts.map(readCut);
must(writeTables(tables) === text, "manifest_canonical");
const policy = { minSponsors: tables.policy[0].min_sponsors };
return { hash: toHex(blakeOfText(text)), version, federation, previous, name, policy, operators, homes, cuts };}
function keyUses({ name, nodeKey, governanceKey, tokenKeys }) {return [...[nodeKey, governanceKey].map((key) => [keyText(key), ""]), ...tokenKeys.map((key) => [keyText(key), name]),];}
const byName = (entries) => new Map([...entries].sort(([a], [b]) => compareTexts(a, b)));
class Manifest {constructor(note, content, before) {this.note = note;
this.version = content.version;
this.hash = content.hash;
this.federation = before?.federation ?? content.hash;
this.name = content.name;
this.policy = content.policy;
this.operators = new Map(content.operators.map((one) => [one.name, one]));
this.homes = byName(content.homes);
this.records = new Map(before?.records);
this.logs = new Map(before?.logs);
this.chain = [...(before?.chain ?? []), this];}
at(version) {return this.chain[version - 1];}
get faults() {return Math.floor((this.operators.size - 1) / 3);}
get quorum() {return Math.floor((this.operators.size + this.faults) / 2) + 1;}
cut(log) {return this.logs.get(log)?.cut;}
adoptedMin(log) {return Math.max(this.logs.get(log)?.since ?? 1, this.version - 1);}
mapsOf(log) {const homes = [...this.homes].filter(([, by]) => by === log).map(([home]) => `home/${home}`);
const records = [...this.records].filter(([, by]) => by === log).map(([operator]) => operator);
const names = records.flatMap((operator) => [`statements/${operator}`, `claims/${operator}`]);
return [...homes, ...names, "log"].sort(compareTexts);}}
function readManifestNote(bytes) {must(bytes.length <= MANIFEST_BYTES_MAX, "manifest_too_long", `more than ${MANIFEST_BYTES_MAX} bytes`);
return attempt(() => parseSigned(bytes, MANIFEST_BYTES_MAX), (error) => refuse("manifest_note", error.message));}
async function signersAmong(note, version) {let count = 0;
for (const one of version.operators.values()) {count += Number(await isSignedBy(note, one.name, one.governanceKey, "manifest_signature"));}
return count;}
async function readGenesis(note) {const content = readContent(note.text);
must(content.version === 1, "manifest_version", `version ${content.version}, want the genesis`);
const manifest = new Manifest(note, content, null);
begin(manifest);
const signed = await signersAmong(note, manifest);
must(signed === manifest.operators.size, "manifest_signature", "the genesis");
return manifest;}
async function succeed(before, note) {let content;
try {content = readContent(note.text);} catch (error) {if (error.code === "manifest_protocol") await checkUnknown(before, note);
throw error;}
must(content.version === before.version + 1, "manifest_version", `version ${content.version} after ${before.version}`);
const same = content.federation === before.federation && content.previous === before.hash;
must(same && content.name === before.name, "manifest_previous");
const next = new Manifest(note, content, before);
for (const cut of content.cuts) end(next, cut);
begin(next);
checkSuccession(next, before, content.cuts);
for (const version of signingVersions(next, content.cuts)) {const [signed, wanted] = [await signersAmong(note, next.at(version)), next.at(version).quorum];
must(signed >= wanted, "manifest_quorum", `${signed} of ${wanted} of version ${version} signed`);}
return next;}
async function checkUnknown(before, note) {const said = (key) => new RegExp(`^${key} = "?([0-9a-f]+)"?$`, "m").exec(note.text)?.[1];
must(Number(said("version")) === before.version + 1, "manifest_version");
const same = said("federation") === before.federation && said("previous") === before.hash;
must(same, "manifest_previous");
must((await signersAmong(note, before)) >= before.quorum, "manifest_quorum");}
const rule = (holds, what) => must(holds, "manifest_succession", what);
function end(next, cut) {const known = next.logs.get(cut.log);
rule(known && !known.cut, `${cut.log} is not known, or was cut before`);
rule(cut.adopted === 0 || (known.since <= cut.adopted && cut.adopted < next.version), `${cut.log}: its adopted version`);
for (const [operator, log] of next.records) if (log === cut.log) next.records.set(operator, cut.successor);
next.logs.set(cut.log, { ...known, cut });}
function begin(next) {const used = new Set([...next.logs.values()].map((known) => keyText(known.nodeKey)));
for (const { name, log, nodeKey, begins } of next.operators.values()) {const known = next.logs.get(log);
if (known) {const same = !known.cut && keyText(known.nodeKey) === keyText(nodeKey) && known.begins === begins;
rule(same, `${log} is cut, or has another key or begin`);
continue;}
rule(!used.has(keyText(nodeKey)), `${log} needs a new node key`);
if (!next.records.has(name)) next.records.set(name, log);
next.logs.set(log, { nodeKey, begins, since: next.version });}}
function checkSuccession(next, before, cuts) {const everyone = next.chain.flatMap((version) => [...version.operators.values()]);
const nodeKeys = new Set([...next.logs.values()].map((known) => keyText(known.nodeKey)));
rule(!everyone.some((one) => nodeKeys.has(keyText(one.governanceKey))), "a node key as a governance key");
const current = new Set([...next.operators.values()].map((one) => one.log));
for (const [log, known] of next.logs) rule(known.cut || current.has(log), `${log} must be cut`);
for (const name of next.operators.keys()) {rule(!before.records.has(name) || before.operators.has(name), `${name} was an operator once`);}
for (const [home, log] of before.homes) {const now = next.homes.get(home);
rule(now && (now === log || next.cut(log)), `${home} is missing, or leaves its log`);}
for (const [home, log] of next.homes) {rule(before.homes.has(home) || parseLog(log).operator === home, `${home} must be in its own operator's log`);}
for (const { log, successor } of cuts) {rule(next.logs.has(successor) && !next.cut(successor), `${successor} cannot succeed ${log}`);}
for (const [operator, log] of next.records) {const own = next.operators.get(operator)?.log;
rule(own === undefined || own === log, `the statements of ${operator}`);}
const uses = new Map(before.chain.flatMap((one) => [...one.operators.values()].flatMap(keyUses)));
for (const [key, use] of [...next.operators.values()].flatMap(keyUses)) {rule((uses.get(key) ?? use) === use, `${key} had another use before`);}}
function signingVersions(next, cuts) {const versions = new Set([next.version - 1]);
for (const cut of cuts) {const { since } = next.logs.get(cut.log);
const adopted = Math.max(cut.adopted, since);
versions.add(adopted).add(Math.max(adopted - 1, since));}
return [...versions].sort((a, b) => a - b);}
async function readManifest(text) {if (text instanceof Manifest) return text;
const bytes = bytesOf(text);
must(bytes && bytes.length <= CHAIN_BYTES_MAX, "manifest_too_long", "no text, or too long");
const whole = fromUtf8(bytes);
must(whole !== null, "manifest_note");
const notes = whole.split(`\n${MANIFEST_FIRST_LINE}`);
must(notes.length <= VERSIONS_MAX, "manifest_chain_too_long", `more than ${VERSIONS_MAX} versions`);
let manifest = null;
for (const [i, rest] of notes.entries()) {const part = (i > 0 ? MANIFEST_FIRST_LINE : "") + rest + (i + 1 < notes.length ? "\n" : "");
const note = readManifestNote(utf8(part));
manifest = manifest ? await succeed(manifest, note) : await readGenesis(note);}
return manifest;}
const TOKEN = /[\t\n\r ]*([[\]{},:"]|true|false|null|-?(?:0|[1-9][0-9]*)(?![.0-9Ee]))/y;
const STRING_ENDS = /["\\\u0000-\u001f]/g;
function readJson(text, { depthMax, scalar, wrong }) {let [at, token] = [0];
const sound = (holds, what) => holds || wrong(what);
const next = () => {TOKEN.lastIndex = at;
[, token] = TOKEN.exec(text) ?? wrong("no JSON of a kind that is read here");
const begin = TOKEN.lastIndex - 1;
at = token === '"' ? stringEnd(TOKEN.lastIndex) : TOKEN.lastIndex;
if (token === '"') token = text.slice(begin, at);};
const stringEnd = (from) => {for (;;) {STRING_ENDS.lastIndex = from;
const found = STRING_ENDS.exec(text);
sound(found && found[0] >= '"', "a string");
if (found[0] === '"') return STRING_ENDS.lastIndex;
from = found.index + 2;}};
const string = () => {const value = parsed(token);
sound(typeof value === "string" && !LONE_SURROGATE.test(value), "a string");
return value;};
const list = (close, item) => {next();
if (token === close) return;
for (;;) {item();
next();
if (token === close) return;
sound(token === ",", "a comma is missing");
next();}};
const value = (depth) => {if (token.startsWith('"')) return string();
if (token !== "[" && token !== "{") return /^[\]},:]/.test(token) ? wrong("a value is missing") : scalar(token);
sound(depth < depthMax, "nested too deeply");
if (token === "[") {const items = [];
list("]", () => items.push(value(depth + 1)));
return items;}
const members = new Map();
list("}", () => {const name = string();
next();
sound(token === ":" && !members.has(name), `member ${name}`);
next();
members.set(name, value(depth + 1));});
return members;};
next();
const whole = value(0);
sound(/^[\t\n\r ]*$/.test(text.slice(at)), "more than one value");
return whole;}
class Reader {constructor(bytes) {this.bytes = bytes;
this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
this.at = 0;}
take(count) {must(count <= this.bytes.length - this.at, "malformed_encoding");
this.at += count;
return this.bytes.subarray(this.at - count, this.at);}
step(count) {this.take(count);
return this.at - count;}
u8() { return this.take(1)[0]; }
u16() { return this.view.getUint16(this.step(2), true); }
u32() { return this.view.getUint32(this.step(4), true); }
i32() { return this.view.getInt32(this.step(4), true); }
u64() { return this.view.getBigUint64(this.step(8), true); }
i64() { return this.view.getBigInt64(this.step(8), true); }
hash() { return this.take(32); }
count() {const count = this.u64();
must(count <= BigInt(this.bytes.length - this.at), "malformed_encoding");
return Number(count);}
blob() { return this.take(this.count()); }
string() {const text = fromUtf8(this.blob());
must(text !== null, "malformed_encoding");
return text;}
list(read) { return Array.from({ length: this.count() }, () => read(this)); }
bool() {const flag = this.u8();
must(flag <= 1, "malformed_encoding");
return flag === 1;}
optional(read) { return this.bool() ? read(this) : null; }
variant(count) {const number = this.u32();
must(number < count, "malformed_encoding");
return number;}
curved(secp256k1, ed25519) {return this.variant(2) ? { curve: "ed25519", bytes: this.take(ed25519) } : { curve: "secp256k1", bytes: this.take(secp256k1) };}
key() { return this.curved(33, 32); }
signature() { return this.curved(65, 64); }}
function decode(bytes, longest, read) {must(bytes.length <= longest, "too_long", `${bytes.length} bytes, at most ${longest}`);
const reader = new Reader(bytes);
const value = read(reader);
must(reader.at === bytes.length, "not_canonical");
return value;}
const u64Bytes = (value) => {const bytes = new Uint8Array(8);
new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
return bytes;};
const stringBytes = (text) => {const bytes = utf8(text);
return join(u64Bytes(bytes.length), bytes);};
function readEntry(reader) {const time = reader.u64();
const body = reader.variant(3);
if (body === 0) return { time, adopts: { version: reader.u32(), hash: toHex(reader.hash()) } };
if (body === 1) return { time, stateRoot: reader.hash() };
const event = { federation: toHex(reader.hash()), kind: KIND_NAMES[reader.variant(KIND_NAMES.length)] };
for (const [name, { read, optional }] of Object.entries(KINDS[event.kind])) {event[name] = optional ? reader.optional(read) : read(reader);}
event.created = createdText(reader.u64());
event.nonce = toHex(reader.take(8));
const [signer, signature] = [reader.key(), reader.signature()];
return { time, event, signer, signature, countersignature: reader.optional((one) => one.signature()) };}
function checkedText(event) {const text = joinEvent(event);
const again = attempt(() => parseEvent(text), () => null);
const same = again && Object.keys(again).every((name) => again[name] === event[name]);
must(same, "malformed_field");
return text;}
async function verifyEntry({ event, signer, signature, countersignature }, federation) {if (!event) return null;
must(event.federation === federation, "wrong_federation", `of the federation ${event.federation}`);
const text = checkedText(event);
const message = utf8(text);
checkKey(signer);
await verifySignature(signer, message, signature);
const own = event.key === keyText(signer);
must(event.kind !== "register" || own, "not_possessed");
const counters = event.kind === "rotate" && !own;
must(counters === (countersignature !== null), "countersignature");
if (counters) {await verifySignature(parseKey(event.key), message, countersignature).catch((error) => {throw error instanceof FamaError ? new FamaError("countersignature", error.message) : error;});}
return text;}
const padded = (key, depth) => {const bytes = key.slice(0, Math.ceil(depth / 8));
if (depth % 8 && bytes.length > depth >> 3) bytes[depth >> 3] &= 0xff00 >> depth % 8;
return bytes;};
const bitOf = (key, depth) => ((key[depth >> 3] ?? 0) >> (7 - (depth % 8))) & 1;
function fork(a, b) {const least = Math.min(a.length, b.length);
for (let i = 0; i < least; i++) if (a[i] !== b[i]) return 8 * i + Math.clz32(a[i] ^ b[i]) - 24;
return 8 * least;}
const u16Bytes = (value) => [value & 255, value >> 8];
const hashLeaf = (key, valueHash) => blake3(join([0], u16Bytes(key.length), key, valueHash));
const hashNode = (depth, key, left, right) => blake3(join([1], u16Bytes(depth), padded(key, depth), left, right));
const form = (holds) => must(holds, "proof_malformed");
const claim = (holds) => must(holds, "proof_claim");
class Climb {stack = [];
lefts = [];
last = null;
item(key, bits, hash) {let above = -1;
if (this.last) {above = fork(this.last.key, key);
form(above < bits && above < this.last.top && bitOf(key, above));
this.close(above);
this.stack.push([above, this.last.hash]);}
for (const [depth, hidden] of this.lefts.splice(0)) {form(above < depth && depth < bits && bitOf(key, depth));
this.stack.push([depth, hidden]);
above = depth;}
this.last = { key, top: bits, hash };}
right(depth, hidden) {form(this.last && !this.lefts.length && depth < this.last.top && !bitOf(this.last.key, depth));
this.close(depth);
this.last.hash = hashNode(depth, this.last.key, this.last.hash, hidden);
this.last.top = depth;}
close(depth) {while (this.stack.length && this.stack.at(-1)[0] > depth) {const [above, left] = this.stack.pop();
this.last.hash = hashNode(above, this.last.key, left, this.last.hash);}}
above() {return this.stack.at(-1)?.[0] ?? -1;}
end() {form(!this.lefts.length);
if (this.last) this.close(-1);
return this.last?.hash ?? new Uint8Array(32);}}
function readMapProof(reader) {return {steps: reader.list((one) => one.u16()),
keys: reader.list((one) => one.blob()),
hashes: reader.list((one) => one.hash()),};}
function checkPrefixes(prefixes) {let fits = prefixes.length >= 1 && prefixes.length <= PREFIXES_MAX;
fits &&= prefixes.every((one) => one.length >= 1 && one.length <= KEY_BYTES_MAX);
fits &&= prefixes.every((one, i) => i === 0 || (compare(prefixes[i - 1], one) < 0 && !beginsWith(one, prefixes[i - 1])));
must(fits, "proof_key");}
class MapProofRun {constructor({ keys, hashes }, answers) {this.prefixes = answers.map(([prefix]) => prefix);
this.told = answers.filter(([, rows]) => rows.length);
this.climb = new Climb();
this.keys = keys[Symbol.iterator]();
this.hashes = hashes[Symbol.iterator]();
this.other = null;}
next(values) {const { value, done } = values.next();
form(!done);
return value;}
near(bytes) {let [low, high] = [0, this.prefixes.length];
while (low < high) {const middle = (low + high) >> 1;
if (compare(this.prefixes[middle], bytes) <= 0) low = middle + 1;
else high = middle;}
return [this.prefixes[low - 1], this.prefixes[low]].filter((prefix) => prefix);}
meets(key, depth) {const bits = padded(key, depth);
return this.near(bits).some((prefix) => fork(prefix, bits) >= Math.min(depth, 8 * prefix.length));}
hides(key, depth) {const turned = padded(key, depth + 1);
if (depth >> 3 < turned.length) turned[depth >> 3] ^= 0x80 >> depth % 8;
claim(!this.meets(turned, depth + 1));}
settle(depth) {const key = this.other;
this.other = null;
if (key) form(this.meets(key, Math.max(this.climb.above(), depth) + 1));}
item(key, bits, hash) {this.settle(this.climb.last ? fork(this.climb.last.key, key) : -1);
const hidden = this.climb.lefts.map(([depth]) => depth);
this.climb.item(key, bits, hash);
for (const depth of hidden) this.hides(key, depth);}
step(step) {const depth = step & 0x3fff;
if (step < 0x4000) {this.climb.lefts.push([depth, this.next(this.hashes)]);} else if (step < 0x8000) {this.settle(depth);
this.climb.right(depth, this.next(this.hashes));
this.hides(this.climb.last.key, depth);} else if (step < 0xc000) {const [key, left, right] = [this.next(this.keys), this.next(this.hashes), this.next(this.hashes)];
form(key.length === Math.ceil(depth / 8) && key.length <= KEY_BYTES_MAX && equal(padded(key, depth), key));
claim(!this.meets(key, depth));
this.item(key, depth, hashNode(depth, key, left, right));
this.other = key;} else if (step === 0xc000) {const [key, hash] = [this.next(this.keys), this.next(this.hashes)];
form(key.length >= 1 && key.length <= KEY_BYTES_MAX);
claim(!this.near(key).some((prefix) => beginsWith(key, prefix)));
this.item(key, 8 * key.length, hashLeaf(key, hash));
this.other = key;} else {form(step === 0xc001);
this.rows();}}
rows() {claim(this.told.length > 0);
const [prefix, rows] = this.told.shift();
for (const [key, value] of rows) {must(key.length >= 1 && key.length <= KEY_BYTES_MAX, "proof_key");
claim(beginsWith(key, prefix));
this.item(key, 8 * key.length, hashLeaf(key, blake3(value)));}}
end(root) {claim(this.told.length === 0);
this.settle(-1);
form(this.keys.next().done && this.hashes.next().done);
must(equal(this.climb.end(), root), "proof_root");}}
function checkMapProof(root, proof, answers) {checkPrefixes(answers.map(([prefix]) => prefix));
const run = new MapProofRun(proof, answers);
for (const step of proof.steps) run.step(step);
run.end(root);}
const TAG = { identity: 1, version: 2, name: 3, tally: 6, day: 7, claim: 9, statement: 11, log: 12, grant: 13, suspension: 15 };
const readCounter = (reader) => ({ day: reader.u32(), count: reader.u32() });
const readInterval = (reader) => [reader.u64(), reader.optional((one) => one.u64())];
const ROWS = {[TAG.identity]: (reader) => ({name: reader.string(), version: reader.u32(), status: reader.variant(2), rotations: readCounter(reader),}),
[TAG.version]: (reader) => ({key: reader.key(), time: reader.u64(), next: reader.optional((one) => one.hash()),
revoked: reader.optional((one) => ({ time: one.u64(), reason: REVOKE_REASONS[one.variant(4)] })),}),
[TAG.name]: (reader) => reader.hash(),
[TAG.tally]: (reader) => ({sum: reader.i64(), count: reader.u64(), retractedSum: reader.i64(), retractedCount: reader.u64(),}),
[TAG.day]: (reader) =>
reader.list((one) => ({number: one.u64(), event: one.hash(), effective: one.i32(), retraction: one.optional((two) => two.u64()),})),
[TAG.claim]: (reader) => ({reason: REVOKE_REASONS[reader.variant(4)], time: reader.u64(), generation: reader.u32(), index: reader.u64(),}),
[TAG.statement]: (reader) => ({service: reader.string(), domain: reader.string(), intervals: reader.list(readInterval), created: reader.u64(),
statements: readCounter(reader),}),
[TAG.grant]: (reader) => ({scope: reader.string(), stands: reader.bool(), expires: reader.optional((one) => one.u64()), created: reader.u64(),}),
[TAG.suspension]: (reader) => ({standing: reader.optional((one) => ({ since: one.u64(), reason: SUSPEND_REASONS[one.variant(3)] })),
created: reader.u64(), statements: readCounter(reader),}),
[TAG.log]: (reader) => ({ adopted: reader.u32(), time: reader.u64(), day: reader.u32(), bytes: reader.u64() }),};
function readRow(tag, value) {return attempt(() => decode(value, ROW_BYTES_MAX, ROWS[tag]), ({ message }) => refuse("profile_row", message));}
const u32Key = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
const LOG_KEY = Uint8Array.of(TAG.log);
const FORMAT = "fama.profile-proof/1";
const wrong = (what) => refuse("profile_form", `this is no profile proof: ${what}`);
const sound = (holds, what) => holds || wrong(what);
class Members {constructor(value) {sound(value instanceof Map, "want an object");
this.rest = value;}
take(name, isRight) {const value = this.rest.get(name);
sound(value !== undefined && isRight(value), name);
this.rest.delete(name);
return value;}
text(name) { return this.take(name, (value) => typeof value === "string"); }
list(name) { return this.take(name, Array.isArray); }
texts(name) {return this.take(name, (value) => Array.isArray(value) && value.every((one) => typeof one === "string"));}
optional(name) { return this.rest.has(name) ? this.text(name) : null; }
end() { sound(this.rest.size === 0, `unknown: ${[...this.rest.keys()]}`); }}
function base64Of(name, text) {return fromBase64(text) ?? wrong(`${name}: want base64`);}
function hashesOf(name, text) {const bytes = base64Of(name, text);
sound(bytes.length % 32 === 0, `${name}: want hashes of 32 bytes`);
return Array.from({ length: bytes.length / 32 }, (_, i) => bytes.subarray(32 * i, 32 * i + 32));}
function within(read) {return attempt(read, (error) => {if (error.code === "profile_unpacked") throw error;
return wrong(error.message);});}
const readLogName = (text) => (parseLog(text) ? text : wrong(`${text} is no log`));
function readProfileFile(text) {const bytes = bytesOf(text) ?? wrong("want a text");
must(bytes.length <= PROFILE_BYTES_MAX, "profile_too_long", `${bytes.length} bytes, at most ${PROFILE_BYTES_MAX}`);
const scalar = () => wrong("want texts");
const members = new Members(readJson(fromUtf8(bytes) ?? wrong("not UTF-8"), { depthMax: 16, scalar, wrong }));
sound(members.text("format") === FORMAT, `want the format ${FORMAT}`);
const file = {federation: members.text("federation"),
question: members.text("question"),
manifests: members.texts("manifests"),
leftOut: members.texts("left_out"),
without: members.texts("without"),
whole: members.texts("whole"),};
const logs = members.list("logs").map(readLogMembers);
members.end();
sound(HASH.test(file.federation) && parseQuestion(file.question), "federation, question");
sound(file.manifests.length < VERSIONS_MAX, "manifests");
file.manifests = file.manifests.map((note) => within(() => parseSigned(utf8(note), MANIFEST_BYTES_MAX)));
file.leftOut.forEach(readLogName);
sound(file.without.every(is(DOMAIN)), "without");
const budget = { bytes: PROFILE_UNPACKED_BYTES_MAX };
file.logs = logs.map((log) => readEvidence(log, budget));
return file;}
function readLogMembers(value) {const members = new Members(value);
const log = { log: members.text("log"), roots: members.text("roots") };
for (const name of ["checkpoint", "entry", "path", "adopted"]) log[name] = members.optional(name);
log.maps = members.list("maps").map((one) => {const map = new Members(one);
const found = { name: map.text("name"), proof: map.text("proof"), rows: map.text("rows") };
map.end();
return found;});
members.end();
return log;}
function readEvidence({ log, roots, checkpoint, entry, path, adopted, maps }, budget) {const evidence = { roots: hashesOf("roots", roots), certificate: null };
const parts = [checkpoint, entry, path];
if (parts.every((part) => part !== null)) {evidence.certificate = {note: within(() => parseSigned(utf8(checkpoint), CHECKPOINT_BYTES_MAX)),
path: hashesOf("path", path),
entry: base64Of("entry", entry),
adoption: adopted === null ? null : within(() => decode(base64Of("adopted", adopted), ADOPTION_BYTES_MAX, readAdoption)),};
sound(evidence.certificate.path.length <= PROOF_HASHES_MAX, "path: too many hashes");} else {sound([...parts, adopted].every((part) => part === null), "half a certificate");}
evidence.maps = maps.map((map) => {const [proof, rows] = [base64Of("proof", map.proof), base64Of("rows", map.rows)];
return {name: map.name,
proof: within(() => decode(proof, proof.length, readMapProof)),
rows: within(() => decode(rows, rows.length, (reader) => unpack(reader, budget))),};});
evidence.log = readLogName(log);
return evidence;}
function readAdoption(reader) {return { index: reader.u64(), entry: reader.blob(), path: reader.list((one) => one.hash()) };}
function shared(a, b) {const least = Math.min(a.length, b.length, 255);
let count = 0;
while (count < least && a[count] === b[count]) count++;
return count;}
function unpack(reader, budget) {const lengths = reader.list((one) => [one.u8(), one.u8(), one.u8(), one.u32()]);
const rest = new Reader(reader.blob());
const rows = [];
let [keyBefore, valueBefore] = [new Uint8Array(), new Uint8Array()];
for (const [keyShared, keyRest, valueShared, valueRest] of lengths) {sound(keyShared <= keyBefore.length && valueShared <= valueBefore.length, "rows: shared");
let key = join(keyBefore.subarray(0, keyShared), rest.take(keyRest));
const value = join(valueBefore.subarray(0, valueShared), rest.take(valueRest));
const shortest = shared(key, keyBefore) === keyShared && shared(value, valueBefore) === valueShared;
sound(shortest, "rows: length");
if (key[0] === TAG.statement) {const { service, domain } = decode(value, ROW_BYTES_MAX, ROWS[TAG.statement]);
key = join(key, blakeOfText(service), blakeOfText(domain));}
sound(compare(key, keyBefore) > 0 && key.length <= KEY_BYTES_MAX, "rows: out of order");
budget.bytes -= key.length + value.length;
must(budget.bytes >= 0, "profile_unpacked", `the rows unpack to more than ${PROFILE_UNPACKED_BYTES_MAX} bytes`);
rows.push([key, value]);
[keyBefore, valueBefore] = [key, value];}
sound(rest.at === rest.bytes.length, "rows: more");
return rows;}
function parseQuestion(text) {const [agent, issuers, ...more] = text.split(" granted by ");
const named = parseAgent(agent);
const ids = issuers === undefined ? [] : issuers.split(" ");
const ascend = ids.every((id, i) => HASH.test(id) && (i === 0 || ids[i - 1] < id));
if (!named || more.length || !ascend || ids.length > GRANTED_BY_MAX) return null;
return { ...named, grantedBy: ids.map((id) => fromHex(id, 32)) };}
function parseAgent(text) {if (HASH.test(text)) return { id: fromHex(text, 32) };
const [, home, digits] = /^did:agent:([^:]*):([0-9a-f]{32})$/.exec(text) ?? [];
if (home !== undefined) return DOMAIN.test(home) ? { home, begin: fromHex(digits, 16) } : null;
const at = text.indexOf("@");
const [name, of] = [text.slice(0, at), text.slice(at + 1)];
return at > 0 && NAME.test(name) && DOMAIN.test(of) ? { home: of, name } : null;}
function adoptedVersion({ index, entry, path }, head, manifest) {const adoption = (holds) => must(holds, "adoption_entry", "not that version below the head");
const adopts = decodeOrNull(entry)?.adopts;
adoption(adopts);
verifyInclusion(entry, index, head, path);
adoption(manifest.at(adopts.version)?.hash === adopts.hash && index + 2n <= head.size);
return adopts.version;}
function decodeOrNull(entry) {return attempt(() => decode(entry, ENTRY_BYTES_MAX, readEntry), () => null);}
function certifying(manifest, since, version, head, adoption) {if (!adoption) {must(version === since, "adoption_missing", `where the log adopted version ${version}`);
return [version];}
must(version !== since, "adoption_superfluous", `version ${version} brought the log`);
must(adoptedVersion(adoption, head, manifest) === version, "adoption_entry", `not version ${version}`);
return adoption.index + 2n === head.size ? [version, version - 1] : [version];}
async function checkHead(certificate, log, row, manifest) {const { since } = manifest.logs.get(log);
must(row.adopted >= since && manifest.at(row.adopted), "profile_log", `${log} at version ${row.adopted}`);
must(row.adopted >= manifest.adoptedMin(log), "profile_outdated", `the head of ${log} is of version ${row.adopted}`);
const head = await openCheckpoint(certificate.note, manifest, log);
let cosigned;
for (const number of certifying(manifest, since, row.adopted, head, certificate.adoption)) {const version = manifest.at(number);
const by = await cosigners(certificate.note, version);
const enough = by.length >= version.quorum;
must(enough, "profile_quorum", `${log}: ${by.length} of ${version.quorum} of version ${number} cosigned`);
cosigned ??= by;}
const stateRoot = decodeOrNull(certificate.entry)?.stateRoot;
must(stateRoot, "profile_entry", `the last entry of ${log} is no state entry`);
verifyInclusion(certificate.entry, head.size > 0n ? head.size - 1n : 0n, head, certificate.path);
const times = cosigned.map((one) => one.seconds).sort((a, b) => (a < b ? 1 : -1));
const asOf = times[manifest.at(row.adopted).quorum - 1];
return { log, size: head.size, adopted: row.adopted, time: row.time, cosigned, asOf, stateRoot };}
async function checkLog(evidence, manifest) {const { log, certificate, roots, maps } = evidence;
const known = manifest.logs.get(log);
must(known, "profile_log", `no version of the manifest has ${log}`);
must(!known.cut === Boolean(certificate), "profile_log", `the head of ${log}`);
let shown;
if (known.cut) {const { size, adopted, stateRoot } = known.cut;
shown = { log, size, adopted, time: null, cosigned: [], asOf: null, stateRoot };} else {const row = maps.find((map) => map.name === "log")?.rows[0];
must(row && equal(row[0], LOG_KEY), "profile_log", `the own row of ${log} is missing`);
shown = await checkHead(certificate, log, readRow(TAG.log, row[1]), manifest);}
const under = shown.adopted >= known.since ? manifest.at(shown.adopted) : undefined;
must(under, "profile_log", `${log} at version ${shown.adopted}`);
const names = under.mapsOf(log);
const pairs = names.map((name, i) => join(stringBytes(name), roots[i] ?? []));
const same = names.length === roots.length && equal(blake3(join(u64Bytes(names.length), ...pairs)), shown.stateRoot);
must(same, "profile_state_root", `the roots of ${log}`);
return { ...shown, maps, names, roots };}
const fullName = (log, name) => (name === "log" ? `log/${log}` : name);
function carriers(manifest, adopted) {const found = new Map();
const find = (of, name) => {let last;
for (let version = manifest.version; version >= 1; version--) {const log = manifest.at(version)[of].get(name);
if (log === undefined || log === last) continue;
last = log;
const taken = adopted(log);
if (taken === null || manifest.at(taken)?.[of].get(name) === log) return log;}
return undefined;};
const add = (map, log) => log !== undefined && found.set(map, log);
for (const home of manifest.homes.keys()) add(`home/${home}`, find("homes", home));
for (const operator of manifest.records.keys()) {const log = find("records", operator);
add(`statements/${operator}`, log);
add(`claims/${operator}`, log);}
for (const [log, known] of manifest.logs) if (!known.cut) found.set(`log/${log}`, log);
return byName(found);}
class AskedRows {constructor(logs, hidden, file) {this.hidden = hidden;
this.without = new Set(file.without.map((home) => `home/${home}`));
this.whole = new Set(file.whole);
this.wholeStatements = file.whole.some((name) => name.startsWith("statements/"));
this.maps = new Map();
this.asked = new Map();
for (const { log, maps } of logs) {for (const { name, rows } of maps) {const full = fullName(log, name);
must(!this.maps.has(full), "profile_rows", `${name} twice`);
this.maps.set(full, { rows, byKey: new Map(rows.map(([key, value]) => [toHex(key), value])) });}}}
note(map, prefix) {let proven = prefix;
if (this.whole.has(map)) {if (prefix[0] === TAG.statement) proven = prefix.subarray(0, 1);
if (prefix[0] === TAG.day) proven = prefix.subarray(0, 33);}
if (!this.asked.has(map)) this.asked.set(map, new Map());
const prefixes = this.asked.get(map);
if (prefixes.size <= PREFIXES_MAX) prefixes.set(toHex(proven), proven);}
get(map, ...parts) {const key = join(...parts);
if (this.hidden.has(map)) return null;
this.note(map, key);
const value = this.maps.get(map)?.byKey.get(toHex(key));
return value === undefined ? null : readRow(key[0], value);}
scan(map, ...parts) {const prefix = join(...parts);
if (this.hidden.has(map) || (prefix[0] === TAG.tally && this.without.has(map))) return [];
this.note(map, prefix);
return this.below(map, prefix).map(([key, value]) => [key.subarray(prefix.length), readRow(prefix[0], value)]);}
below(map, prefix) {const rows = this.maps.get(map)?.rows ?? [];
let [low, high] = [0, rows.length];
while (low < high) {const middle = (low + high) >> 1;
if (compare(rows[middle][0], prefix) < 0) low = middle + 1;
else high = middle;}
let to = low;
while (to < rows.length && beginsWith(rows[to][0], prefix)) to++;
return rows.slice(low, to);}
isLikely(map, prefix) {if (this.wholeStatements || this.hidden.has(map)) return this.whole.has(map);
return this.below(map, prefix).length > 0;}
prefixes(map) {const kept = [];
for (const prefix of [...this.asked.get(map).values()].sort(compare)) {if (!kept.length || !beginsWith(prefix, kept.at(-1))) kept.push(prefix);}
return kept;}}
const isAll = (intervals) => intervals.length === 1 && intervals[0][0] === 0n && intervals[0][1] === null;
const hasNumber = (intervals, number) => intervals.some(([start, end]) => start <= number && (end === null || number < end));
function sharedNumbers(sets, want) {const steps = new Map();
const step = (at, by) => steps.set(at, (steps.get(at) ?? 0) + by);
for (const [start, end] of sets.flat()) {step(start, 1);
if (end !== null) step(end, -1);}
const found = [];
let [level, open] = [0, null];
for (const [at, by] of [...steps].sort(([a], [b]) => (a < b ? -1 : 1))) {level += by;
if (open === null && level >= want) open = at;
else if (open !== null && level < want) {found.push([open, at]);
open = null;}}
return open === null ? found : [...found, [open, null]];}
class AnswerReader {constructor(manifest, rows, doubtful) {this.manifest = manifest;
this.rows = rows;
this.doubtful = doubtful;
this.operators = [...manifest.operators.keys()].sort(compareTexts);
this.everybody = [...manifest.records.keys()].sort(compareTexts);}
isSure(home) {must(!this.doubtful.has(`home/${home}`), "profile_home_left_out", `the log of ${home} is left out`);}
needed(row) {return row ?? refuse("profile_row");}
answer(question) {const found = this.find(question);
if (!found) return null;
const key = this.key(found);
const keys = this.rows.scan(`home/${found.home}`, [TAG.version], found.id).map(([, version]) => version);
const use = this.use(found.id);
const granted = question.grantedBy.map((issuer) => this.granted(issuer, found.id));
return { ...found, ...key, keys, ...use, granted, providers: this.karma(found.id) };}
key({ home, id, identity }) {const current = this.needed(this.rows.get(`home/${home}`, [TAG.version], id, u32Key(identity.version)));
let revoked = current.revoked && { by: "home", ...current.revoked };
revoked ??= this.claimed(id, identity.version, current);
const hides = this.everybody.some((operator) => this.doubtful.has(`claims/${operator}`));
return { current, revoked, status: revoked ? "revoked" : hides ? "not_known_revoked" : "active" };}
use(id) {const suspendedBy = [];
let hidden = 0;
for (const operator of this.operators) {const row = this.rows.get(`statements/${operator}`, [TAG.suspension], id);
if (row?.standing) suspendedBy.push({ operator, ...row.standing });
else if (this.doubtful.has(`statements/${operator}`)) hidden += 1;}
const want = this.manifest.policy.minSponsors;
const unsure = suspendedBy.length + hidden >= want;
return { suspendedBy, suspension: suspendedBy.length >= want ? "holds" : unsure ? "not_known" : "none" };}
granted(issuer, subject) {const found = this.findById(issuer);
if (!found) return { issuer, found: null, inForce: false, grants: [] };
const { status } = this.key(found);
const { suspension } = this.use(issuer);
const rows = this.rows.scan(`home/${found.home}`, [TAG.grant], issuer, subject).slice(0, SCOPES_PER_PAIR);
const grants = rows.map(([, grant]) => grant).filter((grant) => grant.stands);
return {issuer, found: { home: found.home, status, suspension }, inForce: status === "active" && suspension === "none", grants,};}
find(question) {if (question.id) return this.findById(question.id);
const { home, name, begin } = question;
const map = `home/${home}`;
this.isSure(home);
if (!this.manifest.homes.has(home)) return null;
let id;
if (name !== undefined) {id = this.rows.get(map, [TAG.name], blakeOfText(name));} else {const [first] = this.rows.scan(map, [TAG.identity], begin);
id = first && join(begin, first[0]);
if (id && id.length !== 32) return null;}
return id ? { home, id, identity: this.needed(this.rows.get(map, [TAG.identity], id)) } : null;}
findById(id) {for (const home of this.manifest.homes.keys()) {const identity = this.rows.get(`home/${home}`, [TAG.identity], id);
if (!identity) continue;
this.isSure(home);
return { home, id, identity };}
for (const home of this.manifest.homes.keys()) this.isSure(home);
return null;}
claimed(id, number, { key, next }) {const hash = keyHash(key);
for (const operator of this.everybody) {let best = null;
for (const signer of next ? [hash, next] : [hash]) {const claim = this.rows.get(`claims/${operator}`, [TAG.claim], id, u32Key(number), hash, signer);
const isEarlier = (a, b) => a.generation < b.generation || (a.generation === b.generation && a.index < b.index);
if (claim && (!best || isEarlier(claim, best))) best = claim;}
if (best) return { by: operator, time: best.time, reason: best.reason };}
return null;}
karma(subject) {const found = [];
for (const home of this.manifest.homes.keys()) {for (const [provider, tally] of this.rows.scan(`home/${home}`, [TAG.tally], subject)) {must(provider.length === 32, "profile_row", "a tally of no provider");
found.push([provider, ...this.counted(`home/${home}`, subject, provider, tally)]);}}
return found.sort(([a, , x], [b, , y]) => compare(a, b) || (x < y ? -1 : 1));}
counted(map, subject, provider, tally) {const numbers = this.sponsored(provider);
if (!numbers.length) return [0n, 0n];
if (isAll(numbers)) return [tally.sum - tally.retractedSum, tally.count - tally.retractedCount];
let [sum, count] = [0n, 0n];
for (const [, day] of this.rows.scan(map, [TAG.day], subject, provider)) {for (const { number, effective, retraction } of day) {if (!hasNumber(numbers, number) || (retraction !== null && hasNumber(numbers, retraction))) continue;
sum += BigInt(effective);
count += 1n;}}
return [sum, count];}
sponsored(provider) {const prefix = join([TAG.statement], provider);
const want = this.manifest.policy.minSponsors;
const likely = this.operators.filter((one) => this.rows.isLikely(`statements/${one}`, prefix));
const others = this.operators.filter((one) => !likely.includes(one));
const services = new Map();
let unread = this.operators.length;
for (const operator of [...likely, ...others]) {unread -= 1;
const rows = this.rows.scan(`statements/${operator}`, prefix).slice(0, TRIPLES_PER_PROVIDER);
for (const [, { service, domain, intervals }] of rows) {const name = JSON.stringify([service, domain]);
if (!services.has(name)) services.set(name, []);
services.get(name).push(intervals);}
const sets = [...services.values()];
const most = Math.max(0, ...sets.map((one) => one.length));
if (most + unread < want || sets.some((one) => one.filter(isAll).length >= want)) break;}
return sharedNumbers([...services.values()].map((sets) => sharedNumbers(sets, want)), 1);}}
async function newestOf(file, held) {must(file.federation === held.federation, "profile_federation", `of the federation ${file.federation}`);
const found = file.manifests.length + 1;
must(found >= held.version, "profile_old_manifest", `version ${found}, the reader has ${held.version}`);
let newest = held;
for (const [i, note] of file.manifests.entries()) {const version = i + 2;
if (version > newest.version) newest = await succeed(newest, note);
else must(held.at(version).note.text === note.text, "profile_other_manifest", `another text of version ${version}`);}
return newest;}
const ascend = (values, order) => values.every((value, i) => i === 0 || order(values[i - 1], value) < 0);
function checkLogs(file, manifest) {const shown = file.logs.map((one) => one.log);
must(ascend(shown, compareLogs), "profile_log", "the order of the logs");
const listed = ascend(file.leftOut, compareLogs) && ascend(file.without, compareTexts) && ascend(file.whole, compareTexts);
sound(listed, "names out of order");
for (const log of file.leftOut) {must(!shown.includes(log) && manifest.logs.has(log), "profile_log", `${log} is left out, but shown or unknown`);}
for (const [log, known] of manifest.logs) {must(known.cut || shown.includes(log) || file.leftOut.includes(log), "profile_log", `nothing shows ${log}`);}}
function leftOutBy(file, logs, readFrom, required) {const why = new Map(file.leftOut.map((log) => [log, { why: "missing" }]));
for (const { log, asOf } of logs) {if (asOf === null) continue;
must(asOf <= required.now + HEAD_SKEW_SECONDS_MAX, "profile_ahead", `${log} was cosigned after now`);
if (required.now - asOf > required.maxAge) why.set(log, { why: "old", asOf });}
const without = new Set(file.without.map((home) => `home/${home}`));
for (const map of without) {const log = readFrom.get(map);
if (log !== undefined && !why.has(log)) why.set(log, { why: "attestations" });}
const all = [...why].sort(([a], [b]) => compareLogs(a, b)).map(([log, one]) => {const maps = [...readFrom].filter(([map, by]) => by === log && !map.startsWith("log/")).map(([map]) => map);
return { log, ...one, maps: maps.filter((map) => one.why !== "attestations" || without.has(map)) };});
const missing = all.map((one) => one.log).join(", ");
must(all.length <= required.missing, "profile_left_out", `left out: ${missing}; at most ${required.missing} may be`);
return all;}
function checkAsked(logs, readFrom, rows) {const asked = new Map();
for (const [map, prefixes] of rows.asked) {must(prefixes.size <= PREFIXES_MAX, "profile_rows", `too much is asked of ${map}`);
const log = readFrom.get(map);
if (log === undefined) continue;
if (!asked.has(log)) asked.set(log, new Map());
asked.get(log).set(map.startsWith("log/") ? "log" : map, rows.prefixes(map));}
for (const log of [...asked.keys()].sort(compareLogs)) {const shown = logs.find((one) => one.log === log);
must(shown, "profile_log", `nothing shows ${log}`);
const rest = shown.maps[Symbol.iterator]();
for (const [i, name] of shown.names.entries()) {const prefixes = asked.get(log).get(name);
if (!prefixes) continue;
const { value: map } = rest.next();
must(map?.name === name, "profile_rows", `not the rows of ${name} that the answer needs`);
checkMap(map, shown.roots[i], prefixes);}
const more = rest.next();
must(more.done, "profile_rows", `nothing needs ${more.value?.name}`);}
const idle = logs.find((one) => !asked.has(one.log));
must(!idle, "profile_log", `nothing needs ${idle?.log}`);}
function checkMap({ proof, rows }, root, prefixes) {let at = 0;
const answers = prefixes.map((prefix) => {const from = at;
while (at < rows.length && beginsWith(rows[at][0], prefix)) at++;
return [prefix, rows.slice(from, at)];});
claim(at === rows.length);
checkMapProof(root, proof, answers);}
const MAP_NAME = /^(?:home|statements|claims)\/(.+)$/;
async function verifyProfile(text, held, required) {const file = readProfileFile(text);
const { question } = file;
must(question === required.question, "profile_question", `about ${question}, not ${required.question}`);
const manifest = await newestOf(file, held);
checkLogs(file, manifest);
const logs = [];
for (const evidence of file.logs) logs.push(await checkLog(evidence, manifest));
const adopted = (log) => {if (file.leftOut.includes(log)) return null;
return manifest.cut(log)?.adopted ?? logs.find((one) => one.log === log)?.adopted ?? 0;};
const readFrom = carriers(manifest, adopted);
const leftOut = leftOutBy(file, logs, readFrom, required);
for (const home of file.without) sound(manifest.homes.has(home), `${home} is no home`);
for (const name of file.whole) {const known = /^(?:home|statements)\//.test(name) && readFrom.has(name);
must(known, "profile_rows", `not the rows of ${name} that the answer needs`);}
for (const { name } of logs.flatMap((one) => one.maps)) {must(name === "log" || DOMAIN.test(MAP_NAME.exec(name)?.[1]), "profile_rows", `no log has a map ${name}`);}
const carriedBy = (some) => new Set([...readFrom].filter(([, log]) => some.has(log)).map(([map]) => map));
const rows = new AskedRows(logs, carriedBy(new Set(file.leftOut)), file);
for (const { log, asOf } of logs) if (asOf !== null) rows.get(`log/${log}`, LOG_KEY);
const doubtful = carriedBy(new Set(leftOut.filter((one) => one.why !== "attestations").map((one) => one.log)));
const answer = new AnswerReader(manifest, rows, doubtful).answer(parseQuestion(question));
checkAsked(logs, readFrom, rows);
return profileJson(question, answer, { manifest, logs, leftOut, now: required.now });}
function profileJson(question, answer, { manifest, logs, leftOut, now }) {const old = new Set(leftOut.filter((one) => one.why === "old").map((one) => one.log));
const times = logs.filter((one) => one.asOf !== null && !old.has(one.log)).map((one) => one.asOf);
const asOf = times.length ? times.reduce((a, b) => (a < b ? a : b)) : null;
const age = asOf === null ? null : Number(now > asOf ? now - asOf : 0n);
return {proven: true, kind: "profile", question, found: answer !== null, age_seconds: age, as_of: secondsText(asOf),
federation: manifest.federation, manifest_version: manifest.version,
logs: logs.map(logJson),
left_out: leftOut.map((one) => ({log: one.log, why: one.why, as_of: secondsText(one.asOf ?? null), maps: one.maps,})),
...(answer && { agent: agentJson(answer) }),};}
const cosignedJson = (by) => by.map((one) => ({ operator: one.operator, time: secondsText(one.seconds) }));
function logJson({ log, size, adopted, time, cosigned, asOf }) {return {log, size: Number(size), adopted, cut: asOf === null, last_entry: time === null ? null : timeText(time),
as_of: secondsText(asOf), cosigned: cosignedJson(cosigned),};}
function grantedJson({ issuer, found, inForce, grants }) {return {issuer: toHex(issuer), home: found?.home ?? null, status: found?.status ?? null, suspension: found?.suspension ?? null,
in_force: inForce,
grants: grants.map(({ scope, expires }) => ({ scope, expires: expires === null ? null : timeText(expires) })),};}
function agentJson({ home, id, identity, current, revoked, keys, status, suspension, suspendedBy, granted, providers }) {const karma = ([, sum, count]) => ({ sum: Number(sum), count: Number(count) });
const all = providers.reduce(([, sum, count], [, a, b]) => [null, sum + a, count + b], [null, 0n, 0n]);
return {id: toHex(id), handle: `${identity.name}@${home}`, did: `did:agent:${home}:${toHex(id.subarray(0, 16))}`,
key: keyText(current.key), key_version: identity.version, status,
revoked: revoked && { by: revoked.by, time: timeText(revoked.time), reason: revoked.reason },
suspension,
suspended_by: suspendedBy.map((one) => ({ operator: one.operator, since: timeText(one.since), reason: one.reason })),
keys: keys.map((version) => ({ key: keyText(version.key), since: timeText(version.time) })),
karma: karma(all), providers: providers.map((one) => ({ provider: toHex(one[0]), karma: karma(one) })),
granted: granted.map(grantedJson),};}
const TLOG_PROOF = "c2sp.org/tlog-proof@v1";
function readTlogProof(text) {const lineForm = (holds) => must(holds, "proof_form", `want the lines of a ${TLOG_PROOF}`);
must(utf8(text).length <= PROOF_BYTES_MAX, "proof_too_long", `more than ${PROOF_BYTES_MAX} bytes`);
const gap = text.indexOf("\n\n");
lineForm(gap >= 0);
const lines = text.slice(0, gap).split("\n");
lineForm(lines.shift() === TLOG_PROOF);
const extra = lines[0]?.startsWith("extra ") ? fromBase64(lines.shift().slice(6)) : undefined;
const [, digits] = /^index ([0-9]+)$/.exec(lines.shift() ?? "") ?? [];
const index = decimal(digits ?? "");
const path = lines.slice(0, PROOF_HASHES_MAX + 1).map(fromBase64);
lineForm(extra !== null && index !== null && path.length <= PROOF_HASHES_MAX);
lineForm(path.every((hash) => hash?.length === 32));
return { extra, index, path, note: parseSigned(utf8(text.slice(gap + 2)), CHECKPOINT_BYTES_MAX) };}
function carried(extra) {const both = (reader) => {readEntry(reader);
return { entry: extra.subarray(0, reader.at), adoption: readAdoption(reader) };};
return attempt(() => decode(extra, ENTRY_BYTES_MAX + ADOPTION_BYTES_MAX, both), () => ({ entry: extra, adoption: null }));}
async function verifyEvent(text, manifest, required) {const proof = readTlogProof(text);
must(proof.extra, "proof_no_entry");
const { entry, adoption } = carried(proof.extra);
const head = await openCheckpoint(proof.note, manifest);
verifyInclusion(entry, proof.index, head, proof.path);
const cut = manifest.cut(head.log);
const atCut = cut && head.size === cut.size && toHex(head.root) === cut.root;
must(!cut || atCut || head.size < cut.size, "proof_cut", `${head.log} was cut at another head`);
const by = atCut ? null : await certifiedBy(proof.note, head, manifest, adoption);
const decoded = decode(entry, ENTRY_BYTES_MAX, readEntry);
const event = await verifyEntry(decoded, manifest.federation);
const id = event === null ? "" : eventId(event);
const final = Boolean(atCut || by);
must(id === required.question, "other_proof", `about ${id || "no event"}, not ${required.question}`);
must(final || required.ownerOnly, "not_final", "only the log's owner signed");
return {proven: true, kind: "event", event: id, log: head.log, index: Number(proof.index), time: timeText(decoded.time),
size: Number(head.size), final, ...(event !== null && { text: event }),
...(by && { manifest_version: by.version, cosigned: cosignedJson(by.cosigned) }),};}
async function certifiedBy(note, head, manifest, adoption) {const { since } = manifest.logs.get(head.log);
const cut = manifest.cut(head.log);
const shown = adoption ? adoptedVersion(adoption, head, manifest) : since;
const atItsEnd = adoption && adoption.index + 2n === head.size;
const first = atItsEnd ? Math.max(shown - 1, since) : shown;
let found = null;
for (let version = cut ? cut.adopted : manifest.version; version >= first; version--) {const cosigned = await cosigners(note, manifest.at(version));
if (cosigned.length < manifest.at(version).quorum) return null;
found ??= { version, cosigned };}
const current = cut || shown >= manifest.adoptedMin(head.log);
must(current, "proof_outdated", `the head of ${head.log} is of version ${shown}`);
return found;}
async function verifyProof(proof, genesis, requirements) {const text = proof instanceof Uint8Array ? fromUtf8(proof) : proof;
must(typeof text === "string" && bytesOf(text), "profile_form", "want the text of a proof");
const { question, maxAge, missing, now, ownerOnly = false } = requirements ?? {};
stated(typeof question === "string", "question");
const receipt = text.startsWith(TLOG_PROOF) ? text : receiptIn(text);
if (receipt !== null) return verifyEvent(receipt, await readManifest(genesis), { question, ownerOnly });
const isCount = (value) => typeof value === "number" && value >= 0;
stated(isCount(maxAge), "maxAge, in seconds");
stated(isCount(missing), "missing, a number of logs");
stated(isCount(now) && Number.isFinite(now), "now, in seconds since 1970");
const seconds = (value) => (value >= Number(I63_MAX) ? I63_MAX : BigInt(Math.floor(value)));
const required = { question, missing, maxAge: seconds(maxAge), now: seconds(now) };
return verifyProfile(text, await readManifest(genesis), required);}
function receiptIn(text) {if (text.length > 4 * PROOF_BYTES_MAX || !text.includes('"proof"')) return null;
const proof = parsed(text)?.proof;
return typeof proof === "string" ? proof : null;}
const LOGIN_WINDOW_SECONDS = 300;
const NO_LOGIN = ["fama.", "fama/", "format = ", "cosignature/v1", "c2sp.org/", "ROTATE_KEY:", "REVOKE_KEY:"];
function loginText({ dumbname, timestamp, message }) {const text = `${dumbname}${timestamp}${message}`;
const safe = !NO_LOGIN.some((begin) => message.startsWith(begin) || text.startsWith(begin));
must(safe, "forbidden_message", "no agent may sign this to log in");
return utf8(text);}
function loginTime(text) {const whole = text.length === 20 ? text.replace(/Z$/, ".000Z") : text;
must(isTime(whole), "bad_timestamp", "want a time like 2026-11-22T05:00:00Z");
return Date.parse(whole);}
async function signLogin({ dumbname, message, key, timestamp = `${new Date().toISOString().slice(0, 19)}Z` }) {loginTime(timestamp);
const signer = await signerOf(key);
return { dumbname, timestamp, message, signature: toBase64(await signer.sign(loginText({ dumbname, timestamp, message }))) };}
async function checkLogin(login, agent, now) {for (const field of ["dumbname", "timestamp", "signature", "message"]) {must(typeof login?.[field] === "string", `missing_${field}`, `${field}: want a string`);
must(!LONE_SURROGATE.test(login[field]), "bad_message", `${field} is no Unicode`);}
const time = loginTime(login.timestamp);
const signature = fromLenientBase64(login.signature);
must(signature?.length, "bad_signature_form", "signature: want base64");
const text = loginText(login);
must(Math.abs(now - time) <= 1000 * LOGIN_WINDOW_SECONDS, "expired", "more than 300 seconds from now");
const { key, is_revoked, is_suspended } = await agent();
try {await verifyEdge(parseKey(key), text, signature);} catch (error) {if (error.code === "signature_malformed") refuse("bad_signature_form", "signature: another curve");
if (error.code === "signature_mismatch") refuse("bad_signature", "it does not match key and message");
throw error;}
must(!is_revoked, "revoked", "the agent's key is revoked");
must(!is_suspended, "suspended", "the agent is suspended");}
async function signerOf(given) {if (typeof given?.sign === "function") return { key: readKey(given.public_key), sign: given.sign };
const crypto = await native();
must(crypto, "cannot_sign", "no private keys are read here: give {public_key, sign}");
let own;
try {own = typeof given === "string" ? crypto.createPrivateKey(given) : given;
const key = keyFromPem(crypto.createPublicKey(own).export({ type: "spki", format: "pem" }));
return { key, sign: (bytes) => new Uint8Array(crypto.sign(key.curve === "ed25519" ? null : "sha256", bytes, own)) };} catch (cause) {return refuse(cause instanceof FamaError ? cause.code : "key_pem", "want a secp256k1 or Ed25519 private key");}}
const ANSWER_BYTES_MAX = 1 << 23;
async function* piecesOf(body, signal) {const reader = body.getReader();
const cancel = () => reader.cancel().catch(() => {});
signal.addEventListener("abort", cancel, { once: true });
try {for (;;) {const { done, value } = await reader.read();
if (signal.aborted) throw signal.reason;
if (done) return;
yield value;}} finally {signal.removeEventListener("abort", cancel);
cancel();}}
async function bodyOf(response, signal) {const parts = [];
let length = 0;
if (response.body === null) return join();
for await (const piece of piecesOf(response.body, signal)) {length += piece.length;
must(length <= ANSWER_BYTES_MAX, "answer_too_long", `more than ${ANSWER_BYTES_MAX} bytes`);
parts.push(piece);}
return join(...parts);}
class FamaClient {constructor({ query, submit, federation, genesis, maxAge, missing, timeout = 30, fetch = globalThis.fetch } = {}) {const here = import.meta.url.startsWith("http") ? new URL(import.meta.url).origin : "http://127.0.0.1:8080";
this.query = (query ?? here).replace(/\/+$/, "");
this.submitTo = submit?.replace(/\/+$/, "");
const stated = genesis === undefined || [maxAge, missing].every((value) => typeof value === "number");
must(stated, "requirement_missing", "with genesis, say maxAge and missing");
Object.assign(this, { federation, genesis, maxAge, missing, timeout, fetch });}
async request(url, init = {}) {const signal = AbortSignal.timeout(1000 * this.timeout);
const { fetch } = this;
let response, text;
try {response = await fetch(url, { cache: "no-cache", redirect: "error", ...init, signal });
text = fromUtf8(await bodyOf(response, signal));} catch (cause) {if (cause instanceof FamaError) throw cause;
refuse("no_answer", `${url}: ${cause?.message}`, { cause });}
if (response.ok && text !== null) return text;
const said = parsed(text) ?? {};
const code = typeof said.code === "string" ? said.code : "no_answer";
return refuse(code, said.error ?? `HTTP ${response.status}`, { status: response.status, answer: said });}
async json(url, init) {return parsed(await this.request(url, init)) ?? refuse("no_answer", "no JSON");}
get(path, parameters = {}) {const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined)).toString();
return this.json(this.query + path + (query && `?${query}`));}
post(url, value) {return this.json(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });}
held() {this.manifest ??= readManifest(this.genesis);
return this.manifest;}
getStatus() {return this.get("/api/status");}
getAgent(agent, { final } = {}) {return this.get(`/api/agent/${encodeURIComponent(agent)}`, { final: final ? 1 : undefined });}
getLeaderboard(options = {}) {const { limit, cursor } = typeof options === "number" ? { limit: options } : options;
return this.get("/api/leaderboard", { limit, cursor });}
getProof(agent) {const [x, issuers] = agent.split(" granted by ");
const more = issuers === undefined ? "" : `?granted_by=${encodeURIComponent(issuers.replaceAll(" ", ","))}`;
return this.request(`${this.query}/api/agent/${encodeURIComponent(x)}/proof${more}`);}
async verifyRemote(login) {return verdict(() => this.post(`${this.query}/api/verify`, login));}
async verify(login, { identify = (name) => this.identify(name), now = Date.now() } = {}) {return verdict(async () => {let found;
await checkLogin(login, async () => (found = await identify(login.dumbname)), now);
const { handle, agent_id, karma, key_version } = found;
const attestation = "Verified via MLAuth Protocol 1.0";
return { verified: true, dumbname: login.dumbname, handle, agent_id, karma, key_version, attestation };});}
async identify(agent) {const asked = parseQuestion(agent);
must(asked || NAME.test(agent), "bad_name", "want a name, a handle, an id or a DID");
if (this.genesis === undefined) return identityOf(await this.getAgent(agent));
const question = asked ? agent : `${agent}@${(await this.getStatus()).namespace}`;
const { maxAge, missing } = this;
const now = Math.floor(Date.now() / 1000);
const proven = await verifyProof(await this.getProof(question), await this.held(), { question, maxAge, missing, now });
must(proven.found, "unknown_agent", `nobody is ${question}`, { status: 404 });
const { id, handle, did, key, key_version, status, suspension, karma } = proven.agent;
const [is_revoked, is_suspended] = [status === "revoked", suspension === "holds"];
return { agent_id: id, handle, did, key, key_version, is_revoked, is_suspended, karma: karma.sum, proven: true };}
async federationId() {if (this.federation === undefined && this.genesis !== undefined) {this.federation = (await this.held()).federation;}
this.federation ??= (await this.getStatus()).federation.id;
return this.federation;}
async register({ dumbname, home, bio, next, key, public_key, sign, ...more }) {const signer = await signerOf(key ?? { public_key, sign });
const [name, of] = dumbname.split("@");
const note = bio == null ? undefined : noteText({ bio });
const event = {kind: "register", home: of ?? home ?? (await this.getStatus()).namespace, name, key: keyText(signer.key),
next: next == null ? null : committed(next), note: note && commitment(note),};
return this.signAndSubmit(event, signer, { note, ...more });}
async rotateKey({ dumbname, key, new_key, next, ...more }) {const [found, signer] = [await this.identify(dumbname), await signerOf(new_key)];
const before = await this.commitmentOf(found);
const newKey = keyText(signer.key);
must(before === null || before === commitment(newKey), "not_committed", "committed to another key");
const event = {kind: "rotate", home: homeOf(found), identity: found.agent_id, version: String(found.key_version + 1), key: newKey,
next: next == null ? null : committed(next),};
if (before !== null) return this.signAndSubmit(event, signer, more);
return this.signAndSubmit(event, await signerOf(key), { countersigner: signer, ...more });}
async revokeKey({ dumbname, reason = "unspecified", key, public_key, sign, ...more }) {const [found, signer] = [await this.identify(dumbname), await signerOf(key ?? { public_key, sign })];
const event = {kind: "revoke", home: homeOf(found), identity: found.agent_id, version: String(found.key_version), key: found.key,
reason: reason.toLowerCase(),};
return this.signAndSubmit(event, signer, more);}
async attestKarma({ provider_name, agent_id, score_change, reason, external_ref, context, key, public_key, sign, ...more }) {const [issuer, subject] = [await this.identify(provider_name), await this.identify(agent_id)];
const note = reason == null && external_ref == null ? undefined : noteText({ reason, ref: external_ref });
const event = {kind: "attest", home: homeOf(issuer), issuer: issuer.agent_id, subject: subject.agent_id,
delta: String(score_change), context: context ?? null, note: note && commitment(note),};
return this.signAndSubmit(event, await signerOf(key ?? { public_key, sign }), { note, ...more });}
async commitmentOf({ agent_id, key }) {const { recent_key_events } = await this.getAgent(agent_id);
for (const { event } of recent_key_events.filter((one) => one.event_type !== "REVOKE")) {const { text } = await this.get(`/api/event/${event}`);
must(eventId(text) === event, "wrong_event", "the node shows another event");
const said = parseEvent(text);
if (said.key === key) return said.next;}
return refuse("unknown_event", "no event brought the key");}
async signAndSubmit(event, signer, { note, countersigner, wait, invite } = {}) {const text = eventText({ federation: await this.federationId(), ...event });
const signed = async ({ sign }) => toBase64(await sign(utf8(text)));
const submission = { text, signature: await signed(signer), signer: keyText(signer.key), note, invite };
if (countersigner) submission.countersignature = await signed(countersigner);
return this.submit(submission, { wait });}
async submit(submission, { wait = false } = {}) {must(this.submitTo, "no_submit", "configure submit");
let receipt;
try {receipt = await this.post(`${this.submitTo}/events${wait ? "?wait=final" : ""}`, submission);} catch (error) {error.submission = submission;
throw error;}
const requirements = { question: eventId(submission.text), ownerOnly: !receipt.final };
if (this.genesis !== undefined) await verifyProof(receipt.proof, await this.held(), requirements);
return { ...receipt, text: submission.text };}}
const homeOf = (found) => found.handle.split("@")[1];
const committed = (next) => (COMMITMENT.test(next) ? next : commitment(keyText(readKey(next))));
function identityOf({ identity, key_status, reputation }) {const { agent_id, handle, did, public_key, key_version } = identity;
const { is_revoked, is_suspended } = key_status;
const key = keyText(readKey(public_key));
return { agent_id, handle, did, key, key_version, is_revoked, is_suspended, karma: reputation.global_score, proven: false };}
function loginStatus(code) {if (/^(?:expired|bad_signature|revoked|suspended)$/.test(code)) return 401;
if (code === "unknown_agent") return 404;
return /^(?:missing|bad|forbidden)_/.test(code) ? 400 : undefined;}
async function verdict(run) {try {return await run();} catch (error) {const status = error.status ?? loginStatus(error.code);
if (!(error instanceof FamaError) || ![400, 401, 404].includes(status)) throw error;
return { verified: false, code: error.code, error: error.message, status };}}
let client = new FamaClient();
function configure(options) {client = new FamaClient(options);
return client;}
const call = (name) => (...given) => client[name](...given);
const getStatus = call("getStatus");
const getAgent = call("getAgent");
const getLeaderboard = call("getLeaderboard");
const getProof = call("getProof");
const verify = call("verify");
const verifyRemote = call("verifyRemote");
const register = call("register");
const rotateKey = call("rotateKey");
const revokeKey = call("revokeKey");
const attestKarma = call("attestKarma");
const JWS_BYTES_MAX = 16384;
const JSON_DEPTH_MAX = 127;
const SKEW_SECONDS = 30;
const TOKEN_SECONDS_MAX = 900;
const DELEGATION_SECONDS_MAX = 86400;
const CALL_SECONDS_MAX = 60;
const DPOP_AGE_SECONDS = 60;
const JTI_BYTES_MAX = 128;
const SCOPES_MAX = 64;
const RESOURCES_MAX = 16;
const HEADER_REFUSED = ["b64", "crit", "jku", "x5c", "x5t", "x5t#S256", "x5u"];
const ALGORITHMS = { secp256k1: ["ES256K"], ed25519: ["EdDSA", "Ed25519"], p256: ["ES256"] };
const wrongForm = (what) => refuse("jws_form", `not a compact JWS: ${what}`);
function wholeNumber(text) {const value = BigInt(text);
if (text === "-0" || value < -(2n ** 63n) || value >= 2n ** 64n) wrongForm("a number that is not read here");
return Number.isSafeInteger(Number(value)) ? Number(value) : value;}
function scalar(text) {const known = { true: true, false: false, null: null };
return Object.hasOwn(known, text) ? known[text] : wholeNumber(text);}
const part = (text) => fromBase64Url(text) ?? wrongForm("not base64url");
function objectIn(text) {const json = fromUtf8(part(text)) ?? wrongForm("not UTF-8");
const value = readJson(json, { depthMax: JSON_DEPTH_MAX, scalar, wrong: wrongForm });
return value instanceof Map ? value : wrongForm("no JSON object");}
function parseJws(text, { jwk = false } = {}) {if (typeof text !== "string") wrongForm("want a text");
const isShort = text.length <= JWS_BYTES_MAX && utf8(text).length <= JWS_BYTES_MAX;
must(isShort, "jws_too_long", `more than ${JWS_BYTES_MAX} bytes`);
const [first, last] = [text.indexOf("."), text.lastIndexOf(".")];
if (first === last) wrongForm("want three parts");
const header = objectIn(text.slice(0, first));
const refused = HEADER_REFUSED.find((name) => header.has(name));
must(!refused, "jws_header", `the header has the member ${refused}`);
const [claims, signature] = [objectIn(text.slice(first + 1, last)), part(text.slice(last + 1))];
must(jwk || !header.has("jwk"), "jws_header", "the header has the member jwk");
return { header, claims, signature, input: utf8(text.slice(0, last)) };}
function expectType({ header }, wanted) {const said = header.get("typ");
const found = typeof said === "string" ? said.replace(/[A-Z]/g, (letter) => letter.toLowerCase()) : "";
must(found.replace(/^application\//, "") === wanted, "jws_type", `want the type ${wanted}`);}
async function verifyJws({ header, input, signature }, key) {must(ALGORITHMS[key.curve].includes(header.get("alg")), "jws_algorithm", `want ${ALGORITHMS[key.curve]}`);
let holds = signature.length === 64;
if (holds && key.curve === "p256") {holds = await p256Holds(key.bytes, input, signature);} else if (holds) {holds = await verifyEdge(key, input, signature).then(() => true, (error) => {if (error instanceof FamaError && error.code.startsWith("signature_")) return false;
throw error;});}
must(holds, "jws_signature", "the signature does not hold");}
function keyOfJwk(jwk) {const sound = (holds, what) => must(holds, "jws_key", `not a public JWK on Ed25519 or P-256: ${what}`);
sound(jwk instanceof Map, "no object");
sound(!jwk.has("d") && !jwk.has("k"), "it has a secret");
const [kty, crv] = [jwk.get("kty"), jwk.get("crv")];
const isP256 = kty === "EC" && crv === "P-256";
sound(isP256 || (kty === "OKP" && crv === "Ed25519"), "another kind of key");
const names = isP256 ? ["x", "y"] : ["x"];
const numbers = names.map((name) => {const bytes = typeof jwk.get(name) === "string" ? fromBase64Url(jwk.get(name)) : null;
sound(bytes?.length === 32, `${name}: want 32 bytes`);
return bytes;});
const own = Object.fromEntries([["crv", crv], ["kty", kty], ...names.map((name) => [name, jwk.get(name)])]);
if (isP256) {sound(p256OnCurve(...numbers.map(big)), "off its curve");
return { curve: "p256", bytes: join([4], ...numbers), jwk: own };}
try {return { ...checkKey({ curve: "ed25519", bytes: numbers[0] }), jwk: own };} catch (error) {return sound(false, error.code);}}
const thumbprint = (jwk) => toBase64Url(sha256(utf8(JSON.stringify(jwk))));
const edThumbprint = ({ bytes }) => thumbprint({ crv: "Ed25519", kty: "OKP", x: toBase64Url(bytes) });
const wantClaim = (holds, name) => must(holds, "token_claim", `the claim ${name} is missing or malformed`);
function textOf(claims, name) {const value = claims.get(name);
wantClaim(typeof value === "string", name);
return value;}
function countOf(claims, name) {const value = claims.get(name);
wantClaim((typeof value === "number" || typeof value === "bigint") && value >= 0, name);
return value;}
function idOf(claims) {const id = textOf(claims, "jti");
wantClaim(id !== "" && utf8(id).length <= JTI_BYTES_MAX, "jti");
return id;}
function scopesOf(claims) {const scopes = textOf(claims, "scope").split(" ");
const sound = scopes.length <= SCOPES_MAX && new Set(scopes).size === scopes.length;
wantClaim(sound && scopes.every(KINDS.grant.scope.holds), "scope");
return scopes;}
function textWithin(claims, of, name) {if (!claims.has(of)) return null;
const value = claims.get(of);
const text = value instanceof Map ? value.get(name) : undefined;
wantClaim(typeof text === "string", of);
return text;}
function expectAudience(claims, wanted) {must(textOf(claims, "aud") === wanted, "token_audience", `it is not for ${wanted}`);}
function expectIssuer(claims, did) {must(textOf(claims, "iss") === did, "token_identity", `it is not of ${did}`);}
function checkLifetime(issued, expires, max, now) {must(issued <= now + SKEW_SECONDS, "token_early", "it begins later than now, by this clock");
must(Number(expires) - Number(issued) <= max, "token_lifetime", `it lasts longer than ${max} seconds`);
must(now < expires, "token_expired", "it has ended");}
function secondsNow(now) {stated(Number.isFinite(now), "now, in seconds since 1970");
return Math.floor(now);}
async function verifyByOperator(jws, operator) {const named = jws.header.get("kid");
let last = new FamaError("token_key", "no operator's token key signed this");
for (const key of operator.tokenKeys) {if (typeof named === "string" && named !== edThumbprint(key)) continue;
try {return await verifyJws(jws, key);} catch (error) {last = error;}}
throw last;}
async function checkAccessToken(token, { manifest, issuers, audience, now } = {}) {stated(manifest !== undefined, "manifest");
stated(Array.isArray(issuers), "issuers, a list");
stated(typeof audience === "string", "audience");
const at = secondsNow(now);
const held = await readManifest(manifest);
const jws = parseJws(token);
expectType(jws, "at+jwt");
const { claims } = jws;
const issuer = textOf(claims, "iss");
must(issuers.includes(issuer), "token_issuer", "the issuer is not among those accepted");
const operator = [...held.operators.values()].find((one) => one.issuer === issuer);
must(operator, "token_key", "no operator has this issuer");
await verifyByOperator(jws, operator);
const read = readToken(claims, operator, held.federation);
expectAudience(claims, audience);
checkLifetime(read.issued_at, read.expires, TOKEN_SECONDS_MAX, at);
return read;}
function readToken(claims, operator, federation) {const fama = claims.get("fama");
wantClaim(fama instanceof Map, "fama");
must(textOf(fama, "federation") === federation, "token_federation", "it is of another federation");
const [identity, version, karma] = [textOf(fama, "identity"), countOf(fama, "key_version"), fama.get("karma")];
wantClaim(HASH.test(identity), "identity");
wantClaim(version < 2 ** 32, "key_version");
wantClaim((typeof karma === "number" || typeof karma === "bigint") && karma < 2n ** 63n, "karma");
return {issuer: operator.issuer, operator: operator.name, subject: textOf(claims, "sub"),
client_id: textOf(claims, "client_id"), identity, audience: textOf(claims, "aud"), service: textOf(fama, "service"),
scopes: scopesOf(claims), issued_at: countOf(claims, "iat"), expires: countOf(claims, "exp"), id: idOf(claims),
key_thumbprint: textWithin(claims, "cnf", "jkt"), process: textWithin(claims, "act", "sub"), key_version: version,
karma, as_of: textOf(fama, "as_of"), frontier: textOf(fama, "frontier"),};}
async function checkDelegation(token, { did, key, federation, now } = {}) {for (const [name, value] of Object.entries({ did, key, federation })) stated(typeof value === "string", name);
return (await readDelegation(token, { did, key: parseKey(key), federation, now: secondsNow(now) })).read;}
function resourcesOf(claims) {if (!claims.has("resources")) return null;
const all = claims.get("resources");
const isList = Array.isArray(all) && all.length > 0 && all.length <= RESOURCES_MAX;
wantClaim(isList && all.every((one) => typeof one === "string"), "resources");
return all;}
async function readDelegation(token, { did, key, federation, now }) {const jws = parseJws(token);
expectType(jws, "fama-delegation+jwt");
const { claims } = jws;
expectIssuer(claims, did);
expectAudience(claims, `urn:fama:${federation}`);
await verifyJws(jws, key);
const cnf = claims.get("cnf");
wantClaim(cnf instanceof Map && cnf.has("jwk"), "cnf");
const own = keyOfJwk(cnf.get("jwk"));
const process = textOf(claims, "sub");
wantClaim(KINDS.admit.service.holds(process), "sub");
const read = {subject: did, process, key: own.jwk, scopes: claims.has("scope") ? scopesOf(claims) : null,
resources: resourcesOf(claims), issued_at: countOf(claims, "iat"),
expires: countOf(claims, "exp"), id: idOf(claims),};
checkLifetime(read.issued_at, read.expires, DELEGATION_SECONDS_MAX, now);
return { read, own };}
function parseCall(token) {const jws = parseJws(token);
expectType(jws, "fama-agent+jwt");
return [jws, textOf(jws.claims, "iss")];}
const callSubject = (token) => parseCall(token)[1];
async function checkAgentCall(token, { agent, federation, audience, now } = {}) {stated(typeof agent?.did === "string" && typeof agent.key === "string", "agent, of verifyProof");
for (const [name, value] of Object.entries({ federation, audience })) stated(typeof value === "string", name);
const [at, { did }, key] = [secondsNow(now), agent, parseKey(agent.key)];
const [jws] = parseCall(token);
const { claims } = jws;
expectIssuer(claims, did);
expectAudience(claims, audience);
must(agent.status === "active" && agent.suspension === "none", "token_not_in_force", "the agent's key may not act");
const given = claims.has("fama_delegation") ? textOf(claims, "fama_delegation") : null;
const delegation = given === null ? null : await readDelegation(given, { did, key, federation, now: at });
await verifyJws(jws, delegation?.own ?? key);
const resources = delegation?.read.resources ?? [audience];
must(resources.includes(audience), "token_resource", `the delegation is not for ${audience}`);
const [issued, expires] = [countOf(claims, "iat"), countOf(claims, "exp")];
checkLifetime(issued, expires, CALL_SECONDS_MAX, at);
return { subject: did, delegation: delegation && delegation.read, id: idOf(claims), expires };}
async function checkDpop(proof, { method, url, token, now } = {}) {for (const [name, value] of Object.entries({ method, url })) stated(typeof value === "string", name);
stated(typeof token === "string" || token === null, "token, or null");
const [at, jws] = [secondsNow(now), parseJws(proof, { jwk: true })];
const { header, claims } = jws;
const key = keyOfJwk(header.get("jwk"));
expectType(jws, "dpop+jwt");
await verifyJws(jws, key);
const bound = (holds, what) => must(holds, "token_dpop", `the DPoP proof is of another ${what}`);
const withoutQuery = (uri) => uri.replace(/[?#][^]*$/, "");
bound(textOf(claims, "htm") === method, "method");
bound(withoutQuery(textOf(claims, "htu")) === withoutQuery(url), "address");
if (token !== null) bound(textOf(claims, "ath") === toBase64Url(sha256(utf8(token))), "token");
const issued = countOf(claims, "iat");
const ends = Number(issued) + DPOP_AGE_SECONDS;
checkLifetime(issued, ends, DPOP_AGE_SECONDS, at);
return { key_thumbprint: thumbprint(key.jwk), id: idOf(claims), ends };}
function readFrontier(text, manifest) {const sound = (holds) => must(holds, "bad_cursor", "this is no frontier");
const [, version, encoded] = /^([1-9][0-9]{0,9})\.([\w-]*)$/.exec(text) ?? [];
sound(version && Number(version) <= U32_MAX);
must(Number(version) <= manifest.version, "later_version", `it needs version ${version} of the manifest`);
const [known, bytes] = [manifest.at(Number(version)), fromBase64Url(encoded)];
sound(known && bytes);
let at = 0;
const leb128 = () => {for (let [value, scale] = [0, 1]; ; scale *= 128) {const byte = bytes[at++];
sound(byte !== undefined && scale < 2 ** 63);
value += (byte & 127) * scale;
if (byte < 128) return value;}};
const sizes = new Map([...known.logs.keys()].sort(compareLogs).map((log) => [log, leb128()]));
sound(at === bytes.length);
return sizes;}

export { FamaClient, attestKarma, configure, getAgent, getLeaderboard, getProof, getStatus, piecesOf, register, revokeKey, rotateKey, verify, verifyRemote, FamaError, signLogin, Manifest, readManifest, verifyProof, callSubject, checkAccessToken, checkAgentCall, checkDelegation, checkDpop, readFrontier, eventId, eventText, noteText, parseEvent, parseNote };
