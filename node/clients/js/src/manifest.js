// Versions of the manifest, each checked against those before it (PROTOCOL.md, Versions and cuts).
import { attempt, must, refuse } from "./error.js";
import { CHAIN_BYTES_MAX, MANIFEST_BYTES_MAX, VERSIONS_MAX } from "./bounds.js";
import { bytesOf, fromUtf8, utf8 } from "./bytes.js";
import { keyText } from "./keys.js";
import { compareTexts, isSignedBy, parseLog, parseSigned } from "./notes.js";
import { MANIFEST_FIRST_LINE, keyUses, readContent } from "./manifest_text.js";

export const byName = (entries) => new Map([...entries].sort(([a], [b]) => compareTexts(a, b)));

/** One version of the manifest with all before it. Made by `readManifest` only. */
export class Manifest {
  constructor(note, content, before) {
    this.note = note;
    this.version = content.version;
    this.hash = content.hash;
    this.federation = before?.federation ?? content.hash;
    this.name = content.name;
    this.policy = content.policy;
    this.operators = new Map(content.operators.map((one) => [one.name, one]));
    this.homes = byName(content.homes);
    // For each operator that ever was, the log that has its statements and claims.
    this.records = new Map(before?.records);
    // Each log's key, first version, begin and cut.
    this.logs = new Map(before?.logs);
    this.chain = [...(before?.chain ?? []), this];
  }

  /** The version of this number; undefined if it is not held. */
  at(version) {
    return this.chain[version - 1];
  }

  get faults() {
    return Math.floor((this.operators.size - 1) / 3);
  }

  get quorum() {
    return Math.floor((this.operators.size + this.faults) / 2) + 1;
  }

  cut(log) {
    return this.logs.get(log)?.cut;
  }

  /** The oldest version of which a reader takes a head of this log, which is not cut. */
  adoptedMin(log) {
    return Math.max(this.logs.get(log)?.since ?? 1, this.version - 1);
  }

  /** The names of the maps that a log carries once it has adopted this version, sorted. */
  mapsOf(log) {
    const homes = [...this.homes].filter(([, by]) => by === log).map(([home]) => `home/${home}`);
    const records = [...this.records].filter(([, by]) => by === log).map(([operator]) => operator);
    const names = records.flatMap((operator) => [`statements/${operator}`, `claims/${operator}`]);
    return [...homes, ...names, "log"].sort(compareTexts);
  }
}

function readManifestNote(bytes) {
  must(bytes.length <= MANIFEST_BYTES_MAX, "manifest_too_long", `more than ${MANIFEST_BYTES_MAX} bytes`);
  return attempt(() => parseSigned(bytes, MANIFEST_BYTES_MAX), (error) => refuse("manifest_note", error.message));
}

/** The operators of `version` whose governance keys signed the note. */
async function signersAmong(note, version) {
  let count = 0;
  for (const one of version.operators.values()) {
    count += Number(await isSignedBy(note, one.name, one.governanceKey, "manifest_signature"));
  }
  return count;
}

async function readGenesis(note) {
  const content = readContent(note.text);
  must(content.version === 1, "manifest_version", `version ${content.version}, want the genesis`);
  const manifest = new Manifest(note, content, null);
  begin(manifest);
  const signed = await signersAmong(note, manifest);
  must(signed === manifest.operators.size, "manifest_signature", "the genesis");
  return manifest;
}

/** The version after `before`. */
export async function succeed(before, note) {
  let content;
  try {
    content = readContent(note.text);
  } catch (error) {
    if (error.code === "manifest_protocol") await checkUnknown(before, note);
    throw error;
  }
  must(content.version === before.version + 1, "manifest_version", `version ${content.version} after ${before.version}`);
  const same = content.federation === before.federation && content.previous === before.hash;
  must(same && content.name === before.name, "manifest_previous");
  const next = new Manifest(note, content, before);
  for (const cut of content.cuts) end(next, cut);
  begin(next);
  checkSuccession(next, before, content.cuts);
  for (const version of signingVersions(next, content.cuts)) {
    const [signed, wanted] = [await signersAmong(note, next.at(version)), next.at(version).quorum];
    must(signed >= wanted, "manifest_quorum", `${signed} of ${wanted} of version ${version} signed`);
  }
  return next;
}

/** Refuses a text of an unknown protocol that is not the next version, or that no quorum signed, as just that. */
async function checkUnknown(before, note) {
  const said = (key) => new RegExp(`^${key} = "?([0-9a-f]+)"?$`, "m").exec(note.text)?.[1];
  must(Number(said("version")) === before.version + 1, "manifest_version");
  const same = said("federation") === before.federation && said("previous") === before.hash;
  must(same, "manifest_previous");
  must((await signersAmong(note, before)) >= before.quorum, "manifest_quorum");
}

const rule = (holds, what) => must(holds, "manifest_succession", what);

function end(next, cut) {
  const known = next.logs.get(cut.log);
  rule(known && !known.cut, `${cut.log} is not known, or was cut before`);
  rule(cut.adopted === 0 || (known.since <= cut.adopted && cut.adopted < next.version), `${cut.log}: its adopted version`);
  for (const [operator, log] of next.records) if (log === cut.log) next.records.set(operator, cut.successor);
  next.logs.set(cut.log, { ...known, cut });
}

function begin(next) {
  const used = new Set([...next.logs.values()].map((known) => keyText(known.nodeKey)));
  for (const { name, log, nodeKey, begins } of next.operators.values()) {
    const known = next.logs.get(log);
    if (known) {
      const same = !known.cut && keyText(known.nodeKey) === keyText(nodeKey) && known.begins === begins;
      rule(same, `${log} is cut, or has another key or begin`);
      continue;
    }
    rule(!used.has(keyText(nodeKey)), `${log} needs a new node key`);
    if (!next.records.has(name)) next.records.set(name, log);
    next.logs.set(log, { nodeKey, begins, since: next.version });
  }
}

function checkSuccession(next, before, cuts) {
  const everyone = next.chain.flatMap((version) => [...version.operators.values()]);
  const nodeKeys = new Set([...next.logs.values()].map((known) => keyText(known.nodeKey)));
  rule(!everyone.some((one) => nodeKeys.has(keyText(one.governanceKey))), "a node key as a governance key");
  const current = new Set([...next.operators.values()].map((one) => one.log));
  for (const [log, known] of next.logs) rule(known.cut || current.has(log), `${log} must be cut`);
  for (const name of next.operators.keys()) {
    rule(!before.records.has(name) || before.operators.has(name), `${name} was an operator once`);
  }
  for (const [home, log] of before.homes) {
    const now = next.homes.get(home);
    rule(now && (now === log || next.cut(log)), `${home} is missing, or leaves its log`);
  }
  for (const [home, log] of next.homes) {
    rule(before.homes.has(home) || parseLog(log).operator === home, `${home} must be in its own operator's log`);
  }
  for (const { log, successor } of cuts) {
    rule(next.logs.has(successor) && !next.cut(successor), `${successor} cannot succeed ${log}`);
  }
  for (const [operator, log] of next.records) {
    const own = next.operators.get(operator)?.log;
    rule(own === undefined || own === log, `the statements of ${operator}`);
  }
  const uses = new Map(before.chain.flatMap((one) => [...one.operators.values()].flatMap(keyUses)));
  for (const [key, use] of [...next.operators.values()].flatMap(keyUses)) {
    rule((uses.get(key) ?? use) === use, `${key} had another use before`);
  }
}

function signingVersions(next, cuts) {
  const versions = new Set([next.version - 1]);
  for (const cut of cuts) {
    const { since } = next.logs.get(cut.log);
    const adopted = Math.max(cut.adopted, since);
    versions.add(adopted).add(Math.max(adopted - 1, since));
  }
  return [...versions].sort((a, b) => a - b);
}

/**
 * Reads a manifest: the genesis, or a chain file of the versions 1, 2, …, each checked against those before it.
 * Whoever names the genesis names the federation; everything else follows from signatures.
 */
export async function readManifest(text) {
  if (text instanceof Manifest) return text;
  const bytes = bytesOf(text);
  must(bytes && bytes.length <= CHAIN_BYTES_MAX, "manifest_too_long", "no text, or too long");
  const whole = fromUtf8(bytes);
  must(whole !== null, "manifest_note");
  const notes = whole.split(`\n${MANIFEST_FIRST_LINE}`);
  must(notes.length <= VERSIONS_MAX, "manifest_chain_too_long", `more than ${VERSIONS_MAX} versions`);
  let manifest = null;
  for (const [i, rest] of notes.entries()) {
    const part = (i > 0 ? MANIFEST_FIRST_LINE : "") + rest + (i + 1 < notes.length ? "\n" : "");
    const note = readManifestNote(utf8(part));
    manifest = manifest ? await succeed(manifest, note) : await readGenesis(note);
  }
  return manifest;
}
