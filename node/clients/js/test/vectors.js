// The golden vectors in tests/vectors, and helpers for the tests over them.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { utf8 } from "../src/protocol.js";

const VECTORS = new URL("../../../../tests/vectors/", import.meta.url);

export const load = (name) => JSON.parse(readFileSync(new URL(name, VECTORS), "utf8"));
export const raw = (digits) => Uint8Array.from(Buffer.from(digits, "hex"));

/** `ok`, or the code of the refusal. */
export async function codeOf(run) {
  try {
    await run();
  } catch (error) {
    if (error.name !== "FamaError") throw error;
    return error.code;
  }
  return "ok";
}

/** Runs `check` on each vector of a type; fails if there is none. */
export async function each(vectors, type, check) {
  const found = vectors.filter((one) => one.type === type);
  assert.ok(found.length > 0, `no vector of type ${type}`);
  for (const one of found) await check(one);
}

/** A signature of the ledger's form. */
export function signatureOf(key, bytes) {
  return { curve: key.curve, bytes };
}

export const text = utf8;

/** What a reader requires, as `verifyProof` takes it. */
export const requiredOf = ({ question, max_age_seconds, missing_max, now }) => {
  return { question, maxAge: max_age_seconds, missing: missing_max, now };
};

/** What a proof shows, in the form of the vectors. */
export function shown(proven) {
  const karma = ({ sum, count }) => [sum, count];
  const agent = proven.agent && {
    id: proven.agent.id,
    home: proven.agent.handle.split("@")[1],
    keys: proven.agent.keys.map((one) => one.key),
    status: proven.agent.status,
    suspension: proven.agent.suspension,
    suspended_by: proven.agent.suspended_by.map((one) => [one.operator, one.reason]),
    granted: proven.agent.granted.map((one) => [
      one.issuer, one.status, one.suspension,
      one.grants.map(({ scope, expires }) => [scope, expires === null ? null : Date.parse(expires)]),
    ]),
    karma: karma(proven.agent.karma),
    providers: proven.agent.providers.map((one) => [one.provider, ...karma(one.karma)]),
  };
  return {
    ...agent,
    question: proven.question,
    manifest_version: proven.manifest_version,
    logs: proven.logs.map(({ log, size, adopted }) => [log, size, adopted]),
    as_of: proven.as_of === null ? null : Date.parse(proven.as_of) / 1000,
    left_out: proven.left_out.map(({ log, why, maps }) => [log, why, maps]),
  };
}

const folder = process.env.FAMA_PROOFS;
/** Why there are no proofs that another implementation made; false if there are. */
export const noProofs = folder ? false : "FAMA_PROOFS names no folder";

/** The contents of its files whose names begin so. */
export function proofs(kind) {
  const names = readdirSync(folder).filter((name) => name.startsWith(kind));
  assert.ok(names.length > 0, `no ${kind}`);
  return names.map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")));
}
