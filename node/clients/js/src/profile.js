// The whole check of a profile proof, and what it shows.
import { must } from "./error.js";
import { HEAD_SKEW_SECONDS_MAX, PREFIXES_MAX } from "./bounds.js";
import { beginsWith, secondsText, timeText, toHex } from "./bytes.js";
import { keyText } from "./keys.js";
import { DOMAIN } from "./texts.js";
import { compareLogs, compareTexts } from "./notes.js";
import { succeed } from "./manifest.js";
import { checkMapProof, claim } from "./maps.js";
import { LOG_KEY } from "./rows.js";
import { parseQuestion, readProfileFile, sound } from "./profile_file.js";
import { checkLog } from "./profile_heads.js";
import { AnswerReader, AskedRows, carriers } from "./profile_answer.js";

async function newestOf(file, held) {
  must(file.federation === held.federation, "profile_federation", `of the federation ${file.federation}`);
  const found = file.manifests.length + 1;
  must(found >= held.version, "profile_old_manifest", `version ${found}, the reader has ${held.version}`);
  let newest = held;
  for (const [i, note] of file.manifests.entries()) {
    const version = i + 2;
    if (version > newest.version) newest = await succeed(newest, note);
    else must(held.at(version).note.text === note.text, "profile_other_manifest", `another text of version ${version}`);
  }
  return newest;
}

const ascend = (values, order) => values.every((value, i) => i === 0 || order(values[i - 1], value) < 0);

function checkLogs(file, manifest) {
  const shown = file.logs.map((one) => one.log);
  must(ascend(shown, compareLogs), "profile_log", "the order of the logs");
  const listed = ascend(file.leftOut, compareLogs) && ascend(file.without, compareTexts) && ascend(file.whole, compareTexts);
  sound(listed, "names out of order");
  for (const log of file.leftOut) {
    must(!shown.includes(log) && manifest.logs.has(log), "profile_log", `${log} is left out, but shown or unknown`);
  }
  for (const [log, known] of manifest.logs) {
    must(known.cut || shown.includes(log) || file.leftOut.includes(log), "profile_log", `nothing shows ${log}`);
  }
}

/** The logs that count as left out, in their order, each with the reason and the maps that it may hide. */
function leftOutBy(file, logs, readFrom, required) {
  const why = new Map(file.leftOut.map((log) => [log, { why: "missing" }]));
  for (const { log, asOf } of logs) {
    if (asOf === null) continue;
    must(asOf <= required.now + HEAD_SKEW_SECONDS_MAX, "profile_ahead", `${log} was cosigned after now`);
    if (required.now - asOf > required.maxAge) why.set(log, { why: "old", asOf });
  }
  const without = new Set(file.without.map((home) => `home/${home}`));
  for (const map of without) {
    const log = readFrom.get(map);
    if (log !== undefined && !why.has(log)) why.set(log, { why: "attestations" });
  }
  const all = [...why].sort(([a], [b]) => compareLogs(a, b)).map(([log, one]) => {
    const maps = [...readFrom].filter(([map, by]) => by === log && !map.startsWith("log/")).map(([map]) => map);
    return { log, ...one, maps: maps.filter((map) => one.why !== "attestations" || without.has(map)) };
  });
  const missing = all.map((one) => one.log).join(", ");
  must(all.length <= required.missing, "profile_left_out", `left out: ${missing}; at most ${required.missing} may be`);
  return all;
}

/** Refuses unless the file proves every map for exactly what was asked, and has nothing else. */
function checkAsked(logs, readFrom, rows) {
  const asked = new Map();
  for (const [map, prefixes] of rows.asked) {
    must(prefixes.size <= PREFIXES_MAX, "profile_rows", `too much is asked of ${map}`);
    const log = readFrom.get(map);
    if (log === undefined) continue;
    if (!asked.has(log)) asked.set(log, new Map());
    asked.get(log).set(map.startsWith("log/") ? "log" : map, rows.prefixes(map));
  }
  for (const log of [...asked.keys()].sort(compareLogs)) {
    const shown = logs.find((one) => one.log === log);
    must(shown, "profile_log", `nothing shows ${log}`);
    const rest = shown.maps[Symbol.iterator]();
    for (const [i, name] of shown.names.entries()) {
      const prefixes = asked.get(log).get(name);
      if (!prefixes) continue;
      const { value: map } = rest.next();
      must(map?.name === name, "profile_rows", `not the rows of ${name} that the answer needs`);
      checkMap(map, shown.roots[i], prefixes);
    }
    const more = rest.next();
    must(more.done, "profile_rows", `nothing needs ${more.value?.name}`);
  }
  const idle = logs.find((one) => !asked.has(one.log));
  must(!idle, "profile_log", `nothing needs ${idle?.log}`);
}

function checkMap({ proof, rows }, root, prefixes) {
  let at = 0;
  const answers = prefixes.map((prefix) => {
    const from = at;
    while (at < rows.length && beginsWith(rows[at][0], prefix)) at++;
    return [prefix, rows.slice(from, at)];
  });
  claim(at === rows.length);
  checkMapProof(root, proof, answers);
}

const MAP_NAME = /^(?:home|statements|claims)\/(.+)$/;

/** Checks the whole proof; what it shows, in the shape of `fama verify --json`. */
export async function verifyProfile(text, held, required) {
  const file = readProfileFile(text);
  const { question } = file;
  must(question === required.question, "profile_question", `about ${question}, not ${required.question}`);
  const manifest = await newestOf(file, held);
  checkLogs(file, manifest);
  const logs = [];
  for (const evidence of file.logs) logs.push(await checkLog(evidence, manifest));
  const adopted = (log) => {
    if (file.leftOut.includes(log)) return null;
    return manifest.cut(log)?.adopted ?? logs.find((one) => one.log === log)?.adopted ?? 0;
  };
  const readFrom = carriers(manifest, adopted);
  const leftOut = leftOutBy(file, logs, readFrom, required);
  for (const home of file.without) sound(manifest.homes.has(home), `${home} is no home`);
  for (const name of file.whole) {
    const known = /^(?:home|statements)\//.test(name) && readFrom.has(name);
    must(known, "profile_rows", `not the rows of ${name} that the answer needs`);
  }
  for (const { name } of logs.flatMap((one) => one.maps)) {
    must(name === "log" || DOMAIN.test(MAP_NAME.exec(name)?.[1]), "profile_rows", `no log has a map ${name}`);
  }
  const carriedBy = (some) => new Set([...readFrom].filter(([, log]) => some.has(log)).map(([map]) => map));
  const rows = new AskedRows(logs, carriedBy(new Set(file.leftOut)), file);
  for (const { log, asOf } of logs) if (asOf !== null) rows.get(`log/${log}`, LOG_KEY);
  const doubtful = carriedBy(new Set(leftOut.filter((one) => one.why !== "attestations").map((one) => one.log)));
  const answer = new AnswerReader(manifest, rows, doubtful).answer(parseQuestion(question));
  checkAsked(logs, readFrom, rows);
  return profileJson(question, answer, { manifest, logs, leftOut, now: required.now });
}

function profileJson(question, answer, { manifest, logs, leftOut, now }) {
  const old = new Set(leftOut.filter((one) => one.why === "old").map((one) => one.log));
  const times = logs.filter((one) => one.asOf !== null && !old.has(one.log)).map((one) => one.asOf);
  const asOf = times.length ? times.reduce((a, b) => (a < b ? a : b)) : null;
  const age = asOf === null ? null : Number(now > asOf ? now - asOf : 0n);
  return {
    proven: true, kind: "profile", question, found: answer !== null, age_seconds: age, as_of: secondsText(asOf),
    federation: manifest.federation, manifest_version: manifest.version,
    logs: logs.map(logJson),
    left_out: leftOut.map((one) => ({
      log: one.log, why: one.why, as_of: secondsText(one.asOf ?? null), maps: one.maps,
    })),
    ...(answer && { agent: agentJson(answer) }),
  };
}

export const cosignedJson = (by) => by.map((one) => ({ operator: one.operator, time: secondsText(one.seconds) }));

function logJson({ log, size, adopted, time, cosigned, asOf }) {
  return {
    log, size: Number(size), adopted, cut: asOf === null, last_entry: time === null ? null : timeText(time),
    as_of: secondsText(asOf), cosigned: cosignedJson(cosigned),
  };
}

function grantedJson({ issuer, found, inForce, grants }) {
  return {
    issuer: toHex(issuer), home: found?.home ?? null, status: found?.status ?? null, suspension: found?.suspension ?? null,
    in_force: inForce,
    grants: grants.map(({ scope, expires }) => ({ scope, expires: expires === null ? null : timeText(expires) })),
  };
}

function agentJson({ home, id, identity, current, revoked, keys, status, suspension, suspendedBy, granted, providers }) {
  const karma = ([, sum, count]) => ({ sum: Number(sum), count: Number(count) });
  const all = providers.reduce(([, sum, count], [, a, b]) => [null, sum + a, count + b], [null, 0n, 0n]);
  return {
    id: toHex(id), handle: `${identity.name}@${home}`, did: `did:agent:${home}:${toHex(id.subarray(0, 16))}`,
    key: keyText(current.key), key_version: identity.version, status,
    revoked: revoked && { by: revoked.by, time: timeText(revoked.time), reason: revoked.reason },
    suspension,
    suspended_by: suspendedBy.map((one) => ({ operator: one.operator, since: timeText(one.since), reason: one.reason })),
    keys: keys.map((version) => ({ key: keyText(version.key), since: timeText(version.time) })),
    karma: karma(all), providers: providers.map((one) => ({ provider: toHex(one[0]), karma: karma(one) })),
    granted: granted.map(grantedJson),
  };
}
