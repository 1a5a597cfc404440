// The file of a profile proof, nothing in it verified (PROTOCOL.md, Profile proofs).
import { attempt, must, refuse } from "./error.js";
import {
  ADOPTION_BYTES_MAX, CHECKPOINT_BYTES_MAX, GRANTED_BY_MAX, KEY_BYTES_MAX, MANIFEST_BYTES_MAX, PROFILE_BYTES_MAX,
  PROFILE_UNPACKED_BYTES_MAX, PROOF_HASHES_MAX, ROW_BYTES_MAX, VERSIONS_MAX,
} from "./bounds.js";
import { bytesOf, compare, fromBase64, fromHex, fromUtf8, join, utf8 } from "./bytes.js";
import { blakeOfText } from "./hash.js";
import { readJson } from "./json.js";
import { DOMAIN, HASH, NAME, is } from "./texts.js";
import { Reader, decode } from "./codec.js";
import { parseLog, parseSigned } from "./notes.js";
import { readMapProof } from "./maps.js";
import { ROWS, TAG } from "./rows.js";

const FORMAT = "fama.profile-proof/1";

const wrong = (what) => refuse("profile_form", `this is no profile proof: ${what}`);
export const sound = (holds, what) => holds || wrong(what);

/** Takes the members of an object; all that it has must be taken. */
class Members {
  constructor(value) {
    sound(value instanceof Map, "want an object");
    this.rest = value;
  }

  take(name, isRight) {
    const value = this.rest.get(name);
    sound(value !== undefined && isRight(value), name);
    this.rest.delete(name);
    return value;
  }

  text(name) { return this.take(name, (value) => typeof value === "string"); }
  list(name) { return this.take(name, Array.isArray); }

  texts(name) {
    return this.take(name, (value) => Array.isArray(value) && value.every((one) => typeof one === "string"));
  }

  optional(name) { return this.rest.has(name) ? this.text(name) : null; }
  end() { sound(this.rest.size === 0, `unknown: ${[...this.rest.keys()]}`); }
}

/** The bytes of a base64 member. */
function base64Of(name, text) {
  return fromBase64(text) ?? wrong(`${name}: want base64`);
}

function hashesOf(name, text) {
  const bytes = base64Of(name, text);
  sound(bytes.length % 32 === 0, `${name}: want hashes of 32 bytes`);
  return Array.from({ length: bytes.length / 32 }, (_, i) => bytes.subarray(32 * i, 32 * i + 32));
}

/** Runs `read`; whatever it refuses makes the file no proof. */
function within(read) {
  return attempt(read, (error) => {
    if (error.code === "profile_unpacked") throw error;
    return wrong(error.message);
  });
}

const readLogName = (text) => (parseLog(text) ? text : wrong(`${text} is no log`));

export function readProfileFile(text) {
  const bytes = bytesOf(text) ?? wrong("want a text");
  must(bytes.length <= PROFILE_BYTES_MAX, "profile_too_long", `${bytes.length} bytes, at most ${PROFILE_BYTES_MAX}`);
  // Objects, lists and strings are all that a proof has.
  const scalar = () => wrong("want texts");
  const members = new Members(readJson(fromUtf8(bytes) ?? wrong("not UTF-8"), { depthMax: 16, scalar, wrong }));
  sound(members.text("format") === FORMAT, `want the format ${FORMAT}`);
  const file = {
    federation: members.text("federation"),
    question: members.text("question"),
    manifests: members.texts("manifests"),
    leftOut: members.texts("left_out"),
    without: members.texts("without"),
    whole: members.texts("whole"),
  };
  const logs = members.list("logs").map(readLogMembers);
  members.end();
  sound(HASH.test(file.federation) && parseQuestion(file.question), "federation, question");
  sound(file.manifests.length < VERSIONS_MAX, "manifests");
  file.manifests = file.manifests.map((note) => within(() => parseSigned(utf8(note), MANIFEST_BYTES_MAX)));
  file.leftOut.forEach(readLogName);
  sound(file.without.every(is(DOMAIN)), "without");
  const budget = { bytes: PROFILE_UNPACKED_BYTES_MAX };
  file.logs = logs.map((log) => readEvidence(log, budget));
  return file;
}

function readLogMembers(value) {
  const members = new Members(value);
  const log = { log: members.text("log"), roots: members.text("roots") };
  for (const name of ["checkpoint", "entry", "path", "adopted"]) log[name] = members.optional(name);
  log.maps = members.list("maps").map((one) => {
    const map = new Members(one);
    const found = { name: map.text("name"), proof: map.text("proof"), rows: map.text("rows") };
    map.end();
    return found;
  });
  members.end();
  return log;
}

function readEvidence({ log, roots, checkpoint, entry, path, adopted, maps }, budget) {
  const evidence = { roots: hashesOf("roots", roots), certificate: null };
  const parts = [checkpoint, entry, path];
  if (parts.every((part) => part !== null)) {
    evidence.certificate = {
      note: within(() => parseSigned(utf8(checkpoint), CHECKPOINT_BYTES_MAX)),
      path: hashesOf("path", path),
      entry: base64Of("entry", entry),
      adoption: adopted === null ? null : within(() => decode(base64Of("adopted", adopted), ADOPTION_BYTES_MAX, readAdoption)),
    };
    sound(evidence.certificate.path.length <= PROOF_HASHES_MAX, "path: too many hashes");
  } else {
    sound([...parts, adopted].every((part) => part === null), "half a certificate");
  }
  evidence.maps = maps.map((map) => {
    const [proof, rows] = [base64Of("proof", map.proof), base64Of("rows", map.rows)];
    return {
      name: map.name,
      proof: within(() => decode(proof, proof.length, readMapProof)),
      rows: within(() => decode(rows, rows.length, (reader) => unpack(reader, budget))),
    };
  });
  evidence.log = readLogName(log);
  return evidence;
}

export function readAdoption(reader) {
  return { index: reader.u64(), entry: reader.blob(), path: reader.list((one) => one.hash()) };
}

function shared(a, b) {
  const least = Math.min(a.length, b.length, 255);
  let count = 0;
  while (count < least && a[count] === b[count]) count++;
  return count;
}

/** The rows in the order of their keys; refused if they could be packed shorter, or beyond the budget. */
function unpack(reader, budget) {
  const lengths = reader.list((one) => [one.u8(), one.u8(), one.u8(), one.u32()]);
  const rest = new Reader(reader.blob());
  const rows = [];
  let [keyBefore, valueBefore] = [new Uint8Array(), new Uint8Array()];
  for (const [keyShared, keyRest, valueShared, valueRest] of lengths) {
    sound(keyShared <= keyBefore.length && valueShared <= valueBefore.length, "rows: shared");
    let key = join(keyBefore.subarray(0, keyShared), rest.take(keyRest));
    const value = join(valueBefore.subarray(0, valueShared), rest.take(valueRest));
    const shortest = shared(key, keyBefore) === keyShared && shared(value, valueBefore) === valueShared;
    sound(shortest, "rows: length");
    if (key[0] === TAG.statement) {
      // The end of such a key follows from the value.
      const { service, domain } = decode(value, ROW_BYTES_MAX, ROWS[TAG.statement]);
      key = join(key, blakeOfText(service), blakeOfText(domain));
    }
    sound(compare(key, keyBefore) > 0 && key.length <= KEY_BYTES_MAX, "rows: out of order");
    budget.bytes -= key.length + value.length;
    must(budget.bytes >= 0, "profile_unpacked", `the rows unpack to more than ${PROFILE_UNPACKED_BYTES_MAX} bytes`);
    rows.push([key, value]);
    [keyBefore, valueBefore] = [key, value];
  }
  sound(rest.at === rest.bytes.length, "rows: more");
  return rows;
}

/** What a question names, and the issuers whose grants it asks for; null if it is none. */
export function parseQuestion(text) {
  const [agent, issuers, ...more] = text.split(" granted by ");
  const named = parseAgent(agent);
  const ids = issuers === undefined ? [] : issuers.split(" ");
  const ascend = ids.every((id, i) => HASH.test(id) && (i === 0 || ids[i - 1] < id));
  if (!named || more.length || !ascend || ids.length > GRANTED_BY_MAX) return null;
  return { ...named, grantedBy: ids.map((id) => fromHex(id, 32)) };
}

function parseAgent(text) {
  if (HASH.test(text)) return { id: fromHex(text, 32) };
  const [, home, digits] = /^did:agent:([^:]*):([0-9a-f]{32})$/.exec(text) ?? [];
  if (home !== undefined) return DOMAIN.test(home) ? { home, begin: fromHex(digits, 16) } : null;
  const at = text.indexOf("@");
  const [name, of] = [text.slice(0, at), text.slice(at + 1)];
  return at > 0 && NAME.test(name) && DOMAIN.test(of) ? { home: of, name } : null;
}
