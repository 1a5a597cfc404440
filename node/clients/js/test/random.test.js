// Proofs in the folder FAMA_PROOFS, with what another implementation finds in each: see tests/src/clients.rs.
import assert from "node:assert/strict";
import { test } from "node:test";

import { readManifest, verifyProof } from "../fama.js";
import { codeOf, noProofs, proofs as read, requiredOf, shown } from "./vectors.js";

const skip = noProofs;

test("random proofs show the same, or are refused with the same code", { skip }, async () => {
  const counts = { shown: 0, refused: 0 };
  for (const { manifest, proofs } of read("proofs-")) {
    const held = await readManifest(manifest);
    for (const { proof, required, shows, code } of proofs) {
      let proven;
      const said = await codeOf(async () => {
        proven = await verifyProof(proof, held, requiredOf(required));
      });
      assert.equal(said, code ?? "ok", `${JSON.stringify(required)}\n${proof}`);
      if (shows) assert.deepEqual(shown(proven), shows);
      counts[shows ? "shown" : "refused"] += 1;
    }
  }
  assert.ok(counts.shown > 200 && counts.refused > 200, JSON.stringify(counts));
});

test("random proofs of events as well", { skip }, async () => {
  const counts = { shown: 0, refused: 0 };
  for (const { manifest, proofs } of read("events-")) {
    const held = await readManifest(manifest);
    for (const { proof, question, owner_only, shows, code } of proofs) {
      let proven;
      const said = await codeOf(async () => {
        proven = await verifyProof(proof, held, { question, ownerOnly: owner_only });
      });
      assert.equal(said, code ?? "ok", `${question} ${held.version}\n${proof}`);
      counts[shows ? "shown" : "refused"] += 1;
      if (!shows) continue;
      const { event, log, index, size, final, manifest_version = 0, cosigned = [] } = proven;
      assert.deepEqual({ event, log, index, size, final, manifest_version, cosigned: cosigned.map((one) => one.operator) }, shows);
    }
  }
  assert.ok(counts.shown > 50 && counts.refused > 50, JSON.stringify(counts));
});
