// Every vector that applies to a reader of proofs, events and logins.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { test } from "node:test";

import { eventId, eventText, parseEvent, parseNote, readManifest, verifyProof } from "../src/index.js";
import * as protocol from "../src/protocol.js";
import { codeOf, each, load, raw, requiredOf, shown, signatureOf, text } from "./vectors.js";

const { toHex } = protocol;

test("hashes of every length up to some blocks and chunks", () => {
  // The published BLAKE3 vectors hash the bytes 0, 1, …, 250, 0, 1, …
  const published = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    3072: "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
  };
  const input = (length) => Uint8Array.from({ length }, (_, i) => i % 251);
  for (const [length, hash] of Object.entries(published)) {
    assert.equal(toHex(protocol.blake3(input(Number(length)))), hash, length);
  }
  for (let length = 0; length < 300; length++) {
    const hash = createHash("sha256").update(input(length)).digest("hex");
    assert.equal(toHex(protocol.sha256(input(length))), hash, String(length));
  }
});

test("keys", async () => {
  await each(load("keys.json"), "key", async (one) => {
    const key = protocol.parseKey(one.public);
    assert.equal(toHex(protocol.keyHash(key)), one.hash);
    assert.deepEqual(protocol.readKey(one.pem), key);
    const signature = signatureOf(key, raw(one.signature));
    await protocol.verifySignature(key, text(one.message), signature);
    await protocol.verifyEdge(key, text(one.message), raw(one.signature));
    const other = await codeOf(() => protocol.verifySignature(key, text("other"), signature));
    assert.equal(other, "signature_mismatch");
    assert.equal(await codeOf(() => protocol.verifyEdge(key, text("other"), raw(one.signature))), "signature_mismatch");
  });
});

test("the edge cases of Ed25519", async () => {
  for (const one of load("ed25519-matrix.json")) {
    const key = { curve: "ed25519", bytes: raw(one.public) };
    assert.equal(await codeOf(() => protocol.checkKey(key)), one.check, one.why);
    if (one.type !== "signature") continue;
    const signature = signatureOf(key, raw(one.signature));
    const verify = () => protocol.verifySignature(key, raw(one.message), signature);
    assert.equal(await codeOf(verify), one.verify, one.why);
  }
});

test("events", async () => {
  const kinds = new Set();
  await each(load("events.json"), "event", async (one) => {
    const event = parseEvent(one.text);
    kinds.add(event.kind);
    assert.equal(event.kind, one.kind);
    assert.equal(eventText(event), one.text);
    assert.equal(eventId(one.text), one.id);
    const entry = protocol.decode(raw(one.entry), 4096, protocol.readEntry);
    assert.equal(Number(entry.time), one.time);
    assert.equal(protocol.keyText(entry.signer), one.signer);
    assert.equal(await protocol.verifyEntry(entry, event.federation), one.text);
    assert.equal(toHex(protocol.leafHash(raw(one.entry))), one.leaf);
  });
  assert.equal(kinds.size, 11);
});

test("notes", async () => {
  await each(load("notes.json"), "note", (one) => {
    parseNote(one.text);
    assert.equal(toHex(protocol.sha256(text(one.text))), one.hash);
  });
});

test("manifests and their succession", async () => {
  await each(load("manifests.json"), "manifest", async (one) => {
    const manifest = await readManifest(one.note);
    assert.deepEqual([manifest.federation, manifest.quorum], [one.federation, one.quorum]);
  });
  const found = load("governance.json");
  const [{ chain, versions }] = found.filter((one) => one.type === "chain");
  const manifest = await readManifest(chain);
  for (const one of versions) {
    const version = manifest.at(one.version);
    assert.deepEqual([version.hash, version.quorum], [one.hash, one.quorum]);
    assert.deepEqual([...version.homes], one.homes);
    assert.deepEqual([...version.records].sort(), one.records);
  }
  const notes = chain.split(/^(?=format = "fama)/m);
  await each(found, "invalid chain", async (one) => {
    const said = notes.slice(0, one.behind).join("") + one.note;
    assert.equal(await codeOf(() => readManifest(said)), one.code, one.why);
  });
});

const answersOf = (one) => {
  return one.answers.map(([prefix, rows]) => [raw(prefix), rows.map(([key, value]) => [raw(key), raw(value)])]);
};

const checkMap = (one, proof) => {
  const read = protocol.decode(proof, proof.length, protocol.readMapProof);
  protocol.checkMapProof(raw(one.root), read, answersOf(one));
};

test("map proofs, and each with any bit flipped", async () => {
  const found = load("maps.json");
  await each(found, "map proof", async (one) => {
    checkMap(one, raw(one.proof));
    for (let at = 0; at < 4 * one.proof.length; at++) {
      const flipped = raw(one.proof);
      flipped[at >> 3] ^= 1 << at % 8;
      assert.notEqual(await codeOf(() => checkMap(one, flipped)), "ok", `bit ${at}`);
    }
  });
  await each(found, "invalid map proof", async (one) => {
    assert.equal(await codeOf(() => checkMap(one, raw(one.proof))), one.code, one.why);
  });
});

async function openCheckpoint(manifest, note) {
  const parsed = protocol.parseSigned(text(note), 16384);
  const head = await protocol.openCheckpoint(parsed, manifest);
  return { head, cosigners: await protocol.cosigners(parsed, manifest) };
}

async function checkProof(manifest, proof, entry) {
  const read = protocol.readTlogProof(proof);
  protocol.verifyInclusion(entry, read.index, await protocol.openCheckpoint(read.note, manifest), read.path);
  return read;
}

test("checkpoints and proofs of inclusion", async () => {
  const manifest = await readManifest(load("manifests.json")[0].note);
  const found = load("checkpoints.json");
  await each(found, "checkpoint", async (one) => {
    const { head, cosigners } = await openCheckpoint(manifest, one.note);
    assert.equal(Number(head.size), one.size);
    assert.deepEqual(cosigners.map((cosigner) => cosigner.operator).sort(), one.cosigners);
  });
  await each(found, "proof", async (one) => {
    assert.equal(Number((await checkProof(manifest, one.proof, raw(one.entry))).index), one.index);
  });
});

test("what must be refused", async () => {
  const manifest = await readManifest(load("manifests.json")[0].note);
  const proved = raw(load("checkpoints.json")[1].entry);
  const found = load("invalid.json");
  const refused = {
    "invalid event": (input) => parseEvent(input),
    "invalid note": (input) => parseNote(input),
    "invalid entry": (input) => protocol.verifyEntry(protocol.decode(raw(input), 4096, protocol.readEntry), manifest.federation),
    "invalid manifest": (input) => readManifest(input),
    "invalid checkpoint": (input) => openCheckpoint(manifest, input),
    "invalid proof": (input) => checkProof(manifest, input, proved),
  };
  for (const [type, refuse] of Object.entries(refused)) {
    await each(found, type, async (one) => {
      assert.equal(await codeOf(() => refuse(one.input)), one.code, one.why);
    });
  }
});

test("profile proofs", async () => {
  const found = load("profiles.json");
  await each(found, "profile", async (one) => {
    const manifest = await readManifest(one.manifest);
    assert.deepEqual(shown(await verifyProof(one.proof, manifest, requiredOf(one.required))), one.shows);
    // A changed file is refused or shows the same: other white space, or without a surplus cosigner.
    let refused = 0;
    let tried = 0;
    const bytes = text(one.proof);
    for (let at = 0; at < bytes.length; at += 61) {
      const flipped = bytes.slice();
      flipped[at] ^= 1 << at % 7;
      tried += 1;
      let proven;
      const code = await codeOf(async () => {
        proven = await verifyProof(flipped, manifest, requiredOf(one.required));
      });
      if (code === "ok") assert.deepEqual({ ...shown(proven), as_of: null }, { ...one.shows, as_of: null }, `byte ${at}`);
      else refused += 1;
    }
    assert.ok(refused > tried * 0.9, `${refused} of ${tried}`);
  });
  await each(found, "invalid profile", async (one) => {
    const code = await codeOf(() => verifyProof(one.proof, one.manifest, requiredOf(one.required)));
    assert.equal(code, one.code, one.why);
  });
});

test("no requirement has a default", async () => {
  const [one] = load("profiles.json");
  const whole = requiredOf(one.required);
  for (const name of Object.keys(whole)) {
    const { [name]: _, ...rest } = whole;
    assert.equal(await codeOf(() => verifyProof(one.proof, one.manifest, rest)), "requirement_missing", name);
  }
});

// ---- Project Wycheproof ----

function* wycheproof(name) {
  for (const group of load(`wycheproof/${name}`).testGroups) for (const one of group.tests) yield [group, one];
}

const secpKey = (group) => {
  const point = raw(group.publicKey.uncompressed);
  return { curve: "secp256k1", bytes: Uint8Array.of(2 + (point[64] & 1), ...point.subarray(1, 33)) };
};

test("Wycheproof's Ed25519", async () => {
  for (const [group, one] of wycheproof("ed25519_test.json")) {
    const key = { curve: "ed25519", bytes: raw(group.publicKey.pk) };
    const code = await codeOf(() => protocol.verifyEdge(key, raw(one.msg), raw(one.sig)));
    assert.equal(code === "ok", one.result === "valid", one.comment);
  }
});

test("Wycheproof's ECDSA", async () => {
  for (const name of ["test", "p1363_test"]) {
    for (const [group, one] of wycheproof(`ecdsa_secp256k1_sha256_${name}.json`)) {
      // 65 bytes may be r ‖ s ‖ anything here.
      if (name === "p1363_test" && one.sig.length === 130) continue;
      const code = await codeOf(() => protocol.verifyEdge(secpKey(group), raw(one.msg), raw(one.sig)));
      assert.equal(code === "ok", one.result === "valid", `${name} ${one.tcId} ${one.comment}`);
    }
  }
});

/** Whether a signature holds with one of the four recovery ids; never do two. */
async function holdsInLedger(group, one, rs) {
  let held = 0;
  for (let id = 0; id < 5; id++) {
    const signature = signatureOf(secpKey(group), Uint8Array.of(...rs, id));
    const code = await codeOf(() => protocol.verifySignature(secpKey(group), raw(one.msg), signature));
    held += Number(code === "ok");
  }
  assert.ok(held < 2);
  return held === 1;
}

test("Wycheproof's ECDSA in the ledger's form, by this module's own arithmetic", async () => {
  for (const [group, one] of wycheproof("ecdsa_secp256k1_sha256_bitcoin_test.json")) {
    const rs = protocol.derSignature(raw(one.sig));
    const bytes = rs?.map((number) => raw(number.toString(16).padStart(64, "0")));
    const held = bytes ? await holdsInLedger(group, one, [...bytes[0], ...bytes[1]]) : false;
    assert.equal(held, one.result === "valid", `${one.tcId} ${one.comment}`);
  }
});

test("fama.js is what build.js makes of src, and of moderate size", async () => {
  const { status, stderr } = spawnSync(process.execPath, ["build.js", "--check"], { cwd: new URL("..", import.meta.url), encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const { size } = statSync(new URL("../fama.js", import.meta.url));
  assert.ok(size < 120000, `${size} bytes, which a node serves to browsers`);
});
