// Proofs in the folder FAMA_PROOFS with each byte changed, and what another implementation says: see tests/src/clients.rs.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readManifest, verifyProof } from "../fama.js";
import { codeOf, noProofs, proofs as read, requiredOf, text } from "./vectors.js";

const skip = noProofs;

test("with any byte changed, what is refused there is refused here", { skip }, async () => {
  for (const { manifest, proof, required, codes } of read("flips-")) {
    const held = await readManifest(manifest);
    const bytes = text(proof);
    assert.equal(codes.length, bytes.length);
    for (const [at, code] of codes.entries()) {
      const flipped = bytes.slice();
      flipped[at] ^= 1 << at % 7;
      assert.equal(await codeOf(() => verifyProof(flipped, held, requiredOf(required))), code, `byte ${at}`);
    }
  }
});
