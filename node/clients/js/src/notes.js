// Signed notes, checkpoints, cosignatures, and proofs in a log's tree (PROTOCOL.md, Signed notes and proofs).
import { must } from "./error.js";
import { I63_MAX, PROOF_HASHES_MAX, SIGNATURES_MAX, U32_MAX } from "./bounds.js";
import { compare, equal, fromBase64, fromUtf8, join, toHex, utf8 } from "./bytes.js";
import { sha256 } from "./hash.js";
import { big } from "./groups.js";
import { keyText, lineHolds } from "./keys.js";
import { DOMAIN } from "./texts.js";

const NOTE_SIGNATURE = 1;
const NOTE_COSIGNATURE = 4;

const keyId = (name, kind, key) => toHex(sha256(join(utf8(name), [10, kind], key.bytes)).subarray(0, 4));

/** `{text, lines}` of a signed note, nothing verified; `longest` in bytes. */
export function parseSigned(bytes, longest) {
  must(bytes.length <= longest, "note_too_long", `more than ${longest} bytes`);
  const whole = fromUtf8(bytes);
  must(whole !== null && !/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(whole), "note_text");
  const gap = whole.lastIndexOf("\n\n");
  must(gap >= 0 && whole.endsWith("\n") && gap + 2 < whole.length, "note_form", "text, empty line, signatures");
  const lines = whole.slice(gap + 2, -1).split("\n");
  must(lines.length <= SIGNATURES_MAX, "note_signatures");
  return { text: whole.slice(0, gap + 1), lines: lines.map(parseSignatureLine) };
}

function parseSignatureLine(line) {
  const [, name, encoded] = /^\u2014 ([^\s+\u0085]+) (\S+)$/u.exec(line) ?? [];
  const bytes = encoded === undefined ? null : fromBase64(encoded);
  must(bytes && bytes.length > 4, "note_signature_line");
  return { name, keyId: toHex(bytes.subarray(0, 4)), bytes: bytes.subarray(4) };
}

/** Whether this key signed the note. A line of it that does not hold is refused with `code`. */
export async function isSignedBy(note, name, key, code) {
  const wanted = keyId(name, NOTE_SIGNATURE, key);
  const lines = note.lines.filter((line) => line.name === name && line.keyId === wanted);
  for (const line of lines) must(await lineHolds(key, utf8(note.text), line.bytes), code, `invalid signature by ${name}`);
  return lines.length > 0;
}

/** A number in decimal, below 2⁶⁴, or null. */
export function decimal(text) {
  const number = /^(?:0|[1-9][0-9]{0,19})$/.test(text) ? BigInt(text) : null;
  return number !== null && number < 1n << 64n ? number : null;
}

/** `operator/generation`, as an object; null if the text is none. */
export function parseLog(text) {
  const [operator, generation, ...more] = text.split("/");
  const number = decimal(generation ?? "");
  if (more.length || !DOMAIN.test(operator) || number === null || number > BigInt(U32_MAX)) return null;
  return { operator, generation: Number(number) };
}

export const logName = ({ operator, generation }) => `${operator}/${generation}`;

/** By operator, then by generation. */
export function compareLogs(a, b) {
  const [x, y] = [parseLog(a), parseLog(b)];
  return compareTexts(x.operator, y.operator) || x.generation - y.generation;
}

export const compareTexts = (a, b) => (a === b ? 0 : compare(utf8(a), utf8(b)));

/** `{federation, log, size, root}` of a checkpoint's text. */
function parseCheckpoint(text) {
  const lines = text.split("\n");
  const size = decimal(lines[1] ?? "");
  const root = lines.length === 4 && lines[3] === "" ? fromBase64(lines[2]) : null;
  must(size !== null && root?.length === 32, "checkpoint_text", "origin, size, root");
  const [, federation, log] = /^fama\/([0-9a-f]{64})\/(.*)$/.exec(lines[0]) ?? [];
  must(log && parseLog(log), "checkpoint_origin", "the origin");
  return { federation, log, size, root };
}

/** The head in a note that the owner of a known log signed; of `wanted` only, if that is given. */
export async function openCheckpoint(note, manifest, wanted) {
  const found = parseCheckpoint(note.text);
  const origin = `fama/${found.federation}/${found.log}`;
  const known = found.federation === manifest.federation ? manifest.logs.get(found.log) : undefined;
  must(known && (wanted ?? found.log) === found.log, "checkpoint_unknown_origin", `unknown log ${origin}`);
  const signed = await isSignedBy(note, origin, known.nodeKey, "checkpoint_signature");
  must(signed, "checkpoint_unsigned", `not signed by the owner of ${origin}`);
  return found;
}

/** The operators of a version that cosigned the note, each with its time in seconds, in the order of the lines. */
export async function cosigners(note, version) {
  const found = [];
  for (const line of note.lines) {
    const { name, bytes } = line;
    const key = version.operators.get(name)?.nodeKey;
    if (!key || line.keyId !== keyId(name, NOTE_COSIGNATURE, key)) continue;
    const seconds = bytes.length === 72 ? big(bytes.subarray(0, 8)) : I63_MAX + 1n;
    // Many versions may count a line; its signature is checked once for each key.
    if (line.by !== keyText(key)) {
      const message = utf8(`cosignature/v1\ntime ${seconds}\n${note.text}`);
      const holds = seconds <= I63_MAX && (await lineHolds(key, message, bytes.subarray(8)));
      must(holds, "checkpoint_cosignature", `invalid cosignature by ${name}`);
      line.by = keyText(key);
    }
    must(!found.some((one) => one.operator === name), "checkpoint_cosigned_twice", `${name} cosigned twice`);
    found.push({ operator: name, seconds });
  }
  return found;
}

export const leafHash = (entry) => sha256(join([0], entry));
export const EMPTY_TREE = toHex(sha256(new Uint8Array()));

/** Refuses a proof of inclusion that does not lead to the head's root (RFC 9162, section 2.1.3.2). */
export function verifyInclusion(entry, index, head, path) {
  must(index < head.size, "proof_range", `index ${index} of ${head.size}`);
  must(path.length <= PROOF_HASHES_MAX, "proof_length", "too many hashes");
  let [first, last, hash] = [index, head.size - 1n, leafHash(entry)];
  for (const sibling of path) {
    must(last > 0n, "proof_length", "too many hashes");
    if (first & 1n || first === last) {
      hash = sha256(join([1], sibling, hash));
      while (!(first & 1n) && first > 0n) [first, last] = [first >> 1n, last >> 1n];
    } else {
      hash = sha256(join([1], hash, sibling));
    }
    [first, last] = [first >> 1n, last >> 1n];
  }
  must(last === 0n, "proof_length", "too few hashes");
  must(equal(hash, head.root), "proof_root");
}
