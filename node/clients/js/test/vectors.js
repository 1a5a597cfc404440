// The golden vectors in tests/vectors, and helpers for the tests over them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { FamaError, protocol } from "../fama.js";

const VECTORS = new URL("../../../../tests/vectors/", import.meta.url);

export const load = (name) => JSON.parse(readFileSync(new URL(name, VECTORS), "utf8"));
export const raw = (digits) => Uint8Array.from(Buffer.from(digits, "hex"));

/** `ok`, or the code of the refusal. */
export async function codeOf(run) {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof FamaError)) throw error;
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

export const text = (value) => protocol.utf8(value);
