// The logs of a profile proof: heads that quorums cosigned.
import { attempt, must } from "./error.js";
import { ENTRY_BYTES_MAX } from "./bounds.js";
import { equal, join } from "./bytes.js";
import { blake3 } from "./hash.js";
import { decode, readEntry, stringBytes, u64Bytes } from "./codec.js";
import { cosigners, openCheckpoint, verifyInclusion } from "./notes.js";
import { LOG_KEY, TAG, readRow } from "./rows.js";

/** Where a log adopted a version: that version's number, if the proof leads to the head. */
export function adoptedVersion({ index, entry, path }, head, manifest) {
  const adoption = (holds) => must(holds, "adoption_entry", "not that version below the head");
  const adopts = decodeOrNull(entry)?.adopts;
  adoption(adopts);
  verifyInclusion(entry, index, head, path);
  adoption(manifest.at(adopts.version)?.hash === adopts.hash && index + 2n <= head.size);
  return adopts.version;
}

function decodeOrNull(entry) {
  return attempt(() => decode(entry, ENTRY_BYTES_MAX, readEntry), () => null);
}

/** The versions whose quorums must have cosigned a head, at which the log had adopted `version`. */
function certifying(manifest, since, version, head, adoption) {
  if (!adoption) {
    must(version === since, "adoption_missing", `where the log adopted version ${version}`);
    return [version];
  }
  must(version !== since, "adoption_superfluous", `version ${version} brought the log`);
  must(adoptedVersion(adoption, head, manifest) === version, "adoption_entry", `not version ${version}`);
  return adoption.index + 2n === head.size ? [version, version - 1] : [version];
}

async function checkHead(certificate, log, row, manifest) {
  const { since } = manifest.logs.get(log);
  must(row.adopted >= since && manifest.at(row.adopted), "profile_log", `${log} at version ${row.adopted}`);
  must(row.adopted >= manifest.adoptedMin(log), "profile_outdated", `the head of ${log} is of version ${row.adopted}`);
  const head = await openCheckpoint(certificate.note, manifest, log);
  let cosigned;
  for (const number of certifying(manifest, since, row.adopted, head, certificate.adoption)) {
    const version = manifest.at(number);
    const by = await cosigners(certificate.note, version);
    const enough = by.length >= version.quorum;
    must(enough, "profile_quorum", `${log}: ${by.length} of ${version.quorum} of version ${number} cosigned`);
    cosigned ??= by;
  }
  const stateRoot = decodeOrNull(certificate.entry)?.stateRoot;
  must(stateRoot, "profile_entry", `the last entry of ${log} is no state entry`);
  verifyInclusion(certificate.entry, head.size > 0n ? head.size - 1n : 0n, head, certificate.path);
  const times = cosigned.map((one) => one.seconds).sort((a, b) => (a < b ? 1 : -1));
  const asOf = times[manifest.at(row.adopted).quorum - 1];
  return { log, size: head.size, adopted: row.adopted, time: row.time, cosigned, asOf, stateRoot };
}

/** One log of the file, its head and roots checked under the version that its own row names. */
export async function checkLog(evidence, manifest) {
  const { log, certificate, roots, maps } = evidence;
  const known = manifest.logs.get(log);
  must(known, "profile_log", `no version of the manifest has ${log}`);
  must(!known.cut === Boolean(certificate), "profile_log", `the head of ${log}`);
  let shown;
  if (known.cut) {
    const { size, adopted, stateRoot } = known.cut;
    shown = { log, size, adopted, time: null, cosigned: [], asOf: null, stateRoot };
  } else {
    const row = maps.find((map) => map.name === "log")?.rows[0];
    must(row && equal(row[0], LOG_KEY), "profile_log", `the own row of ${log} is missing`);
    shown = await checkHead(certificate, log, readRow(TAG.log, row[1]), manifest);
  }
  const under = shown.adopted >= known.since ? manifest.at(shown.adopted) : undefined;
  must(under, "profile_log", `${log} at version ${shown.adopted}`);
  const names = under.mapsOf(log);
  const pairs = names.map((name, i) => join(stringBytes(name), roots[i] ?? []));
  const same = names.length === roots.length && equal(blake3(join(u64Bytes(names.length), ...pairs)), shown.stateRoot);
  must(same, "profile_state_root", `the roots of ${log}`);
  return { ...shown, maps, names, roots };
}
