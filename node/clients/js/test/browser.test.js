// Without Node's crypto, as in a browser: WebCrypto for Ed25519, this module's own arithmetic for secp256k1.
import assert from "node:assert/strict";
import { test } from "node:test";

import { codeOf, load, raw, requiredOf, signatureOf, text } from "./vectors.js";

const { process } = globalThis;
const { subtle } = globalThis.crypto;
// The modules look for Node's crypto once, when they first verify a signature.
globalThis.process = undefined;
const protocol = await import("../src/protocol.js");
const { verifyProof } = await import("../fama.js");
const [key] = load("keys.json").filter((one) => one.curve === "ed25519");
await protocol.verifyEdge(protocol.parseKey(key.public), text(key.message), raw(key.signature));
const [first] = load("profiles.json");
await verifyProof(first.proof, first.manifest, requiredOf(first.required));
globalThis.process = process;

test("signatures", async () => {
  for (const one of load("keys.json")) {
    const own = protocol.parseKey(one.public);
    await protocol.verifyEdge(own, text(one.message), raw(one.signature));
    assert.equal(await codeOf(() => protocol.verifyEdge(own, text("other"), raw(one.signature))), "signature_mismatch");
  }
  for (const one of load("ed25519-matrix.json").filter((vector) => vector.type === "signature")) {
    const own = { curve: "ed25519", bytes: raw(one.public) };
    const verify = () => protocol.verifySignature(own, raw(one.message), signatureOf(own, raw(one.signature)));
    assert.equal(await codeOf(verify), one.verify, one.why);
  }
});

test("profile proofs", async () => {
  for (const one of load("profiles.json")) {
    const said = await codeOf(() => verifyProof(one.proof, one.manifest, requiredOf(one.required)));
    assert.equal(said, one.code ?? "ok", one.why);
  }
});

test("a page without crypto.subtle is told so", async () => {
  const [one] = load("profiles.json");
  Object.defineProperty(globalThis.crypto, "subtle", { value: undefined, configurable: true });
  try {
    assert.equal(await codeOf(() => verifyProof(one.proof, one.manifest, requiredOf(one.required))), "no_webcrypto");
  } finally {
    Object.defineProperty(globalThis.crypto, "subtle", { value: subtle, configurable: true });
  }
});
