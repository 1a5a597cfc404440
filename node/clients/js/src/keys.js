// Keys and signatures: texts, PEM, verification (PROTOCOL.md, Keys and signatures).
import { must } from "./error.js";
import { fromHex, fromLenientBase64, join, toHex, utf8 } from "./bytes.js";
import { sha256 } from "./hash.js";
import { ED_L, ED_P, SECP_N, big, edIsSmall, edOnCurve, edY, recoveryId, secpY } from "./groups.js";
import { edHolds } from "./runtime.js";

const NO_POINT = "no point of the curve";

/** `{curve, bytes}` of a key's text, checked. */
export function parseKey(text) {
  const [, curve, digits] = /^(secp256k1|ed25519):([0-9a-f]*)$/.exec(text) ?? [];
  const bytes = curve && fromHex(digits, curve === "ed25519" ? 32 : 33);
  must(bytes, "key_malformed", "want secp256k1:… or ed25519:…");
  return checkKey({ curve, bytes });
}

export const keyText = (key) => `${key.curve}:${toHex(key.bytes)}`;

const checkedKeys = new WeakSet();

/** Refuses a key that is no point, not canonical or weak. */
export function checkKey(key) {
  if (checkedKeys.has(key)) return key;
  if (key.curve === "ed25519") {
    const y = edY(key.bytes);
    must(y < ED_P, "key_not_canonical");
    must(edOnCurve(y), "key_not_on_curve", NO_POINT);
    must(!edIsSmall(y), "key_weak");
  } else {
    secpPoint(key);
  }
  checkedKeys.add(key);
  return key;
}

function secpPoint({ bytes }) {
  const x = big(bytes.subarray(1));
  const y = bytes[0] === 2 || bytes[0] === 3 ? secpY(x, BigInt(bytes[0] & 1)) : null;
  must(y !== null, "key_not_on_curve", NO_POINT);
  return [x, y, 1n];
}

/** One DER value: its tag, its content and what follows; null unless its length is in the shortest form and inside. */
function der(bytes) {
  if (bytes.length < 2) return null;
  let [at, length] = [2, bytes[1]];
  if (length >= 0x80) {
    const count = length & 0x7f;
    if (count < 1 || count > 2 || bytes.length < 2 + count || bytes[2] === 0) return null;
    length = count === 1 ? bytes[2] : (bytes[2] << 8) | bytes[3];
    if (length < (count === 1 ? 0x80 : 0x100)) return null;
    at += count;
  }
  if (bytes.length < at + length) return null;
  return { tag: bytes[0], content: bytes.subarray(at, at + length), rest: bytes.subarray(at + length) };
}

function derOf(tag, bytes) {
  const found = bytes && der(bytes);
  return found?.tag === tag ? found : null;
}

/** A key from the one SPKI block in a text; what is outside of it and blocks of other kinds are ignored. */
export function keyFromPem(text) {
  const block = /(?:^|\n)[^\S\n]*-----BEGIN PUBLIC KEY-----([^-]*)-----END PUBLIC KEY-----/g;
  const found = [...text.matchAll(block)];
  const bytes = found.length === 1 ? fromLenientBase64(found[0][1]) : null;
  must(bytes, "key_pem");
  const whole = derOf(0x30, bytes);
  const algorithm = derOf(0x30, whole?.content);
  const point = derOf(0x03, algorithm?.rest);
  const oid = derOf(0x06, algorithm?.content);
  const sound = whole?.rest.length === 0 && point?.rest.length === 0 && point.content[0] === 0 && oid;
  must(sound, "key_der");
  return checkKey(keyFromPoint(toHex(oid.content), oid.rest, point.content.slice(1)));
}

function keyFromPoint(oid, parameters, point) {
  if (oid === "2b6570") {
    must(parameters.length === 0 && point.length === 32, "key_der");
    return { curve: "ed25519", bytes: point };
  }
  const isSecp = oid === "2a8648ce3d0201" && toHex(parameters) === "06052b8104000a";
  must(isSecp, "key_algorithm", "want a secp256k1 or Ed25519 key");
  if (point.length === 33) return { curve: "secp256k1", bytes: point };
  const x = big(point.subarray(1, 33));
  const y = big(point.subarray(33));
  const holds = point.length === 65 && point[0] === 4 && secpY(x, y & 1n) === y;
  must(holds, "key_not_on_curve", NO_POINT);
  return { curve: "secp256k1", bytes: join([2 + Number(y & 1n)], point.subarray(1, 33)) };
}

/** A key from its text or its PEM. */
export function readKey(text) {
  must(typeof text === "string" && text.length <= 65536, "key_malformed", "want a key");
  return text.includes("-----BEGIN") ? keyFromPem(text) : parseKey(text.trim());
}

export const keyHash = (key) => sha256(utf8(keyText(key)));

const MISMATCH = "it does not match key and message";
const NO_SIGNATURE = "no signature of the key's curve";
const inGroup = (n) => n > 0n && n < SECP_N;

/** Refuses a signature in the ledger's form that does not hold. */
export async function verifySignature(key, message, signature) {
  must(key.curve === signature.curve, "signature_wrong_curve");
  if (key.curve === "ed25519") return verifyEd25519(key, message, signature.bytes);
  const [r, s] = [big(signature.bytes.subarray(0, 32)), big(signature.bytes.subarray(32, 64))];
  must(inGroup(r) && inGroup(s), "signature_malformed", NO_SIGNATURE);
  must(s <= SECP_N / 2n, "signature_high_s");
  const id = recoveryId(secpPoint(key), message, r, s);
  must(id !== null, "signature_mismatch", MISMATCH);
  must(id === signature.bytes[64], "signature_recovery_id");
}

async function verifyEd25519(key, message, bytes) {
  checkKey(key);
  const y = edY(bytes.subarray(0, 32));
  const strict = y < ED_P && !edIsSmall(y) && big(bytes.slice(32).reverse()) < ED_L;
  const holds = strict && (await edHolds(key, message, bytes));
  must(holds, "signature_mismatch", MISMATCH);
}

/** Whether an Ed25519 signature line of 64 bytes holds; the key has been checked. */
export async function lineHolds(key, message, bytes) {
  if (bytes.length !== 64) return false;
  try {
    await verifyEd25519(key, message, bytes);
    return true;
  } catch (error) {
    if (error.code === "signature_mismatch") return false;
    throw error;
  }
}

/** r and s of a DER signature. */
export function derSignature(bytes) {
  const whole = bytes.length >= 8 && bytes.length <= 72 ? derOf(0x30, bytes) : null;
  const r = derOf(0x02, whole?.content);
  const s = derOf(0x02, r?.rest);
  if (!s || whole.rest.length || s.rest.length) return null;
  const numbers = [r.content, s.content].map((content) => {
    const shortest = content.length > 0 && content[0] < 0x80 && (content[0] > 0 || content[1] >= 0x80);
    return shortest ? big(content) : 0n;
  });
  return numbers.every(inGroup) ? numbers : null;
}

function compactSignature(bytes) {
  if (bytes.length !== 64 && bytes.length !== 65) return null;
  const numbers = [big(bytes.subarray(0, 32)), big(bytes.subarray(32, 64))];
  return numbers.every(inGroup) ? numbers : null;
}

/**
 * Refuses a signature that does not hold, in any of the forms that programs write: DER, r ‖ s, r ‖ s ‖ anything, with
 * s high or low; for Ed25519 the 64 bytes.
 */
export async function verifyEdge(key, message, bytes) {
  if (key.curve === "ed25519") {
    must(bytes.length === 64, "signature_malformed", NO_SIGNATURE);
    return verifyEd25519(key, message, bytes);
  }
  const forms = [derSignature(bytes), compactSignature(bytes)].filter((form) => form);
  must(forms.length > 0, "signature_malformed", NO_SIGNATURE);
  // Runtimes differ in which curves and encodings their crypto takes, so this is the same everywhere.
  const point = secpPoint(key);
  must(forms.some(([r, s]) => recoveryId(point, message, r, s) !== null), "signature_mismatch", MISMATCH);
}
