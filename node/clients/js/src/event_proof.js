// Proofs that an event is in a log (c2sp.org/tlog-proof).
import { attempt, must } from "./error.js";
import {
  ADOPTION_BYTES_MAX, CHECKPOINT_BYTES_MAX, ENTRY_BYTES_MAX, PROOF_BYTES_MAX, PROOF_HASHES_MAX,
} from "./bounds.js";
import { fromBase64, timeText, toHex, utf8 } from "./bytes.js";
import { eventId } from "./texts.js";
import { decode, readEntry, verifyEntry } from "./codec.js";
import { cosigners, decimal, openCheckpoint, parseSigned, verifyInclusion } from "./notes.js";
import { readAdoption } from "./profile_file.js";
import { adoptedVersion } from "./profile_heads.js";
import { cosignedJson } from "./profile.js";

export const TLOG_PROOF = "c2sp.org/tlog-proof@v1";

export function readTlogProof(text) {
  const lineForm = (holds) => must(holds, "proof_form", `want the lines of a ${TLOG_PROOF}`);
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
  return { extra, index, path, note: parseSigned(utf8(text.slice(gap + 2)), CHECKPOINT_BYTES_MAX) };
}

/** What travels with a proof: the entry, and the adoption of the version that the log had adopted, or null. */
function carried(extra) {
  const both = (reader) => {
    readEntry(reader);
    return { entry: extra.subarray(0, reader.at), adoption: readAdoption(reader) };
  };
  return attempt(() => decode(extra, ENTRY_BYTES_MAX + ADOPTION_BYTES_MAX, both), () => ({ entry: extra, adoption: null }));
}

export async function verifyEvent(text, manifest, required) {
  const proof = readTlogProof(text);
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
  return {
    proven: true, kind: "event", event: id, log: head.log, index: Number(proof.index), time: timeText(decoded.time),
    size: Number(head.size), final, ...(event !== null && { text: event }),
    ...(by && { manifest_version: by.version, cosigned: cosignedJson(by.cosigned) }),
  };
}

/** Who of the newest version certified the head, if quorums of all versions did that the log may have adopted there. */
async function certifiedBy(note, head, manifest, adoption) {
  const { since } = manifest.logs.get(head.log);
  const cut = manifest.cut(head.log);
  const shown = adoption ? adoptedVersion(adoption, head, manifest) : since;
  const atItsEnd = adoption && adoption.index + 2n === head.size;
  const first = atItsEnd ? Math.max(shown - 1, since) : shown;
  let found = null;
  for (let version = cut ? cut.adopted : manifest.version; version >= first; version--) {
    const cosigned = await cosigners(note, manifest.at(version));
    if (cosigned.length < manifest.at(version).quorum) return null;
    found ??= { version, cosigned };
  }
  const current = cut || shown >= manifest.adoptedMin(head.log);
  must(current, "proof_outdated", `the head of ${head.log} is of version ${shown}`);
  return found;
}
