// A federation of four nodes, which this test starts: FAMA_BIN names the program `fama`.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import * as fama from "../fama.js";
import * as protocol from "../src/protocol.js";
import { ProfileCache, createLogin } from "../login.js";
import { ended, freePorts } from "./nodes.js";
import { codeOf } from "./vectors.js";

const program = process.env.FAMA_BIN;
const skip = program ? false : "FAMA_BIN names no program";
const OPERATORS = ["alpha", "beta", "gamma", "delta"].map((name) => `${name}.example`);
const run = async (...args) => (await promisify(execFile)(program, args, { cwd: dir, env: { ...process.env, HOME: dir } })).stdout;

let dir;
let genesis;
const nodes = [];
const queries = [];

async function eventually(what, holds) {
  for (const end = Date.now() + 30000; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {
    if (await holds()) return;
  }
  assert.fail(what);
}

before(async () => {
  if (skip) return;
  dir = mkdtempSync(join(tmpdir(), "fama-js-"));
  await run("federation", "new", "Test", ...OPERATORS, "--out", "net");
  const ports = await freePorts(13);
  for (const [i, name] of OPERATORS.entries()) {
    const file = join(dir, "net", name, "node.toml");
    const [peer, query, admin] = ports.slice(3 * i);
    const text = readFileSync(file, "utf8")
      .replace(/^listen = \[.*\]$/m, `listen = ["/ip4/127.0.0.1/tcp/${peer}"]`)
      .replace(/127\.0\.0\.1:808\d/, `127.0.0.1:${query}`)
      .replace(/127\.0\.0\.1:909\d/, `127.0.0.1:${admin}`);
    writeFileSync(file, text);
    queries.push(`http://127.0.0.1:${query}`);
  }
  appendFileSync(join(dir, "net", OPERATORS[0], "node.toml"), `\n[submit]\nlisten = "127.0.0.1:${ports[12]}"\n`);
  await rewriteManifest(ports);
  for (const name of OPERATORS) nodes.push(spawn(program, ["node", "--config", `net/${name}/node.toml`], { cwd: dir, stdio: "ignore" }));
  fama.configure({ query: queries[0], submit: `http://127.0.0.1:${ports[12]}`, genesis, maxAge: 600, missing: 1 });
  await eventually("all nodes are ready", async () => {
    const all = await Promise.all(queries.map((query) => new fama.FamaClient({ query }).getStatus().catch(() => ({}))));
    return all.every((status) => status.ready && status.operators_heard === 4);
  });
});

/** Makes the genesis again with the ports that are free, signed with the operators' keys. */
async function rewriteManifest(ports) {
  const file = join(dir, "net", "manifest.txt");
  let [text] = readFileSync(file, "utf8").split("\n\u2014");
  let next = 0;
  text = `${text.trimEnd()}\n`.replace(/addresses = \[.*\]/g, () => `addresses = ["/ip4/127.0.0.1/tcp/${ports[3 * next++]}"]`);
  const lines = OPERATORS.map((name) => {
    const secret = readFileSync(join(dir, "net", name, "governance.pem"), "utf8");
    const signature = sign(null, Buffer.from(text), secret);
    const [, key] = new RegExp(`name = "${name}"\nnode_key = .*\ngovernance_key = "ed25519:(\\w+)"`).exec(text);
    const id = protocol.sha256(Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([1]), Buffer.from(key, "hex")])).slice(0, 4);
    return `\u2014 ${name} ${Buffer.concat([id, signature]).toString("base64")}\n`;
  });
  genesis = `${text}\n${lines.join("")}`;
  await fama.readManifest(genesis);
  for (const folder of [".", ...OPERATORS]) writeFileSync(join(dir, "net", folder, "manifest.txt"), genesis);
}

after(async () => {
  await Promise.all(nodes.map(ended));
  if (dir) rmSync(dir, { recursive: true, force: true });
});

const keys = {
  secp256k1: () => generateKeyPairSync("ec", { namedCurve: "secp256k1" }),
  ed25519: () => generateKeyPairSync("ed25519"),
};
const pem = (pair) => ({
  secret: pair.privateKey.export({ type: "pkcs8", format: "pem" }), public: pair.publicKey.export({ type: "spki", format: "pem" }),
});

test("texts are those of the template, byte for byte", { skip }, async () => {
  const key = protocol.readKey(pem(keys.ed25519()).public);
  const status = await fama.getStatus();
  const id = "0123456789abcdef".repeat(4);
  const text = protocol.keyText(key);
  const events = [
    { kind: "register", home: "alpha.example", name: "swift-core-maps", key: text, next: `sha256:${id}` },
    { kind: "rotate", home: "alpha.example", identity: id, version: "2", key: text },
    { kind: "revoke", home: "alpha.example", identity: id, version: "1", key: text, reason: "superseded" },
    { kind: "attest", home: "alpha.example", issuer: id, subject: id.replaceAll("0", "f"), delta: "-3", context: "code" },
    { kind: "retract", home: "alpha.example", issuer: id, subject: id, day: "2026-11-22", attestation: id },
  ];
  for (const event of events) {
    const query = new URLSearchParams(event);
    const template = await (await fetch(`${queries[1]}/api/event/template?${query}`)).text();
    const { created, nonce } = fama.parseEvent(template);
    assert.equal(fama.eventText({ federation: status.federation.id, ...event, created, nonce }), template);
  }
});

test("an agent registers, logs in, replaces and revokes its key, on both curves", { skip }, async () => {
  for (const [curve, make] of Object.entries(keys)) {
    const [first, second, third] = [pem(make()), pem(make()), pem(make())];
    const name = `js-${curve}`;
    const receipt = await fama.register({ dumbname: name, key: first.secret, next: second.public, bio: "Übersetzt JavaScript", wait: true });
    assert.deepEqual([receipt.handle, receipt.final], [`${name}@alpha.example`, true]);
    assert.equal((await fama.getAgent(name)).identity.bio, "Übersetzt JavaScript");
    const login = async (key, message = "challenge") => fama.signLogin({ dumbname: receipt.handle, message, key });
    for (const verify of [fama.verify, fama.verifyRemote]) {
      assert.equal((await verify(await login(first.secret))).verified, true);
      assert.equal((await verify({ ...(await login(first.secret)), message: "another" })).code, "bad_signature");
      assert.equal((await verify(await login(second.secret))).code, "bad_signature");
      assert.equal((await verify({ ...(await login(first.secret)), dumbname: "nobody@alpha.example" })).code, "unknown_agent");
    }
    await assert.rejects(fama.rotateKey({ dumbname: name, key: first.secret, new_key: third.secret }), { code: "not_committed" });
    // The committed key alone, then a key to which nothing committed, with both signatures.
    assert.equal((await fama.rotateKey({ dumbname: name, new_key: second.secret, wait: true })).final, true);
    assert.equal((await fama.rotateKey({ dumbname: name, key: second.secret, new_key: third.secret, wait: true })).final, true);
    assert.equal((await fama.revokeKey({ dumbname: name, key: third.secret, reason: "KEY_COMPROMISED", wait: true })).final, true);
    for (const verify of [fama.verify, fama.verifyRemote]) assert.equal((await verify(await login(third.secret))).code, "revoked");
    await assert.rejects(fama.register({ dumbname: name, key: third.secret }), (error) => error.status === 409 && error.submission.text !== "");
  }
});

test("a service gives karma with a key that it keeps elsewhere, and a gate lets the agent in", { skip }, async () => {
  const [service, agent] = [keys.secp256k1(), pem(keys.secp256k1())];
  const signer = { public_key: pem(service).public, sign: async (bytes) => sign("sha256", bytes, service.privateKey) };
  await fama.register({ dumbname: "judge", ...signer, wait: true });
  await fama.register({ dumbname: "rated", key: agent.secret, wait: true });
  const attest = (score_change, options) => {
    return fama.attestKarma({ provider_name: "judge", agent_id: "rated@alpha.example", score_change, reason: "good", ...signer, ...options });
  };
  await assert.rejects(attest(5), { code: "not_sponsored", status: 403 });
  for (const name of OPERATORS.slice(0, 2)) {
    const options = ["--service", "judge", "--domain", "judge.example", "--method", "manual", "--manifest", "net/manifest.txt"];
    await run("admit", "judge@alpha.example", ...options, "--key", `net/${name}/node.pem`, "--query", queries[0], "--yes", "--wait", "final");
  }
  const receipt = await attest(5, { external_ref: "https://judge.example/1", context: "code", wait: true });
  const { event } = receipt;
  const shows = await fama.verifyProof(JSON.stringify(receipt), genesis, { question: event });
  assert.deepEqual([shows.final, shows.text, fama.eventId(receipt.text)], [true, receipt.text, event]);
  await eventually("the karma shows", async () => (await fama.getAgent("rated")).reputation.global_score === 5);
  assert.deepEqual((await fama.getLeaderboard(1)).agents.map((one) => one.global_karma), [5]);
  const login = () => fama.signLogin({ dumbname: "rated@alpha.example", message: "here", key: agent.secret });
  const client = new fama.FamaClient({ query: queries[2] });
  assert.equal((await createLogin({ client, audience: "here", minKarma: 6 })(await login())).code, "too_little_karma");

  // The command and this module print the same of the same proof.
  for (const question of ["rated@alpha.example", "judge@alpha.example", "nobody@alpha.example"]) {
    await eventually(`the proof of ${question} is whole`, async () => {
      const proof = await new fama.FamaClient({ query: queries[3] }).getProof(question);
      return JSON.parse(proof).left_out.length === 0;
    });
    const proof = await new fama.FamaClient({ query: queries[3] }).getProof(question);
    writeFileSync(join(dir, "profile.proof"), proof);
    const requirements = { question, maxAge: 600, missing: 1, now: Math.floor(Date.now() / 1000) };
    const { age_seconds, ...mine } = await fama.verifyProof(proof, genesis, requirements);
    const { age_seconds: theirs, ...said } = JSON.parse(await run("verify", "profile.proof", "--manifest", "net/manifest.txt", "--json"));
    assert.deepEqual(mine, said);
    assert.ok(theirs - age_seconds >= 0 && theirs - age_seconds < 5);
  }
  await run("prove", event, "--query", queries[1], "--out", "event.proof");
  const proof = readFileSync(join(dir, "event.proof"), "utf8");
  const said = JSON.parse(await run("verify", "event.proof", "--manifest", "net/manifest.txt", "--json"));
  assert.deepEqual(await fama.verifyProof(proof, genesis, { question: event }), said);
  const other = "0".repeat(64);
  assert.equal(await codeOf(() => fama.verifyProof(proof, genesis, { question: other })), "other_proof");
  let refused = 0;
  const bytes = protocol.utf8(proof.slice(0, proof.indexOf("\u2014")));
  for (let at = 0; at < bytes.length; at += 7) {
    const flipped = protocol.utf8(proof);
    flipped[at] ^= 1 << at % 7;
    refused += Number((await codeOf(() => fama.verifyProof(flipped, genesis, { question: event }))) !== "ok");
  }
  assert.equal(refused, Math.ceil(bytes.length / 7), "every changed byte of what is signed is refused");
});

test("with the node's stream or without it, a revoked key is refused soon", { skip }, async () => {
  const agent = pem(keys.ed25519());
  await fama.register({ dumbname: "cached", key: agent.secret, wait: true });
  const client = new fama.FamaClient({ query: queries[0] });
  const cache = new ProfileCache(client, { fallbackAge: 0.2 });
  try {
    const check = createLogin({ client, cache: cache.start(), audience: "here" });
    let count = 0;
    const once = async () => check(await fama.signLogin({ dumbname: "cached", message: `here ${count++}`, key: agent.secret }));
    assert.equal((await once()).ok, true);
    await fama.revokeKey({ dumbname: "cached", key: agent.secret });
    await eventually("the key is refused", async () => (await once()).code === "revoked");
    await eventually("the cache has tried", () => cache.reason !== "not started");
  } finally {
    cache.stop();
  }
});

test("the node's stream is followed: nobody asks again before a key is revoked, and then at once", { skip }, async (t) => {
  const stream = await fetch(`${queries[1]}/api/stream`);
  await stream.body.cancel();
  if (stream.status === 404) return t.skip("this node has no stream");
  const agent = pem(keys.secp256k1());
  await fama.register({ dumbname: "streamed", key: agent.secret, wait: true });
  // Another node than the one that takes the revocation.
  const client = new fama.FamaClient({ query: queries[1] });
  const events = [];
  const cache = new ProfileCache(client, { fallbackAge: 0, unsettled: 0, onEvent: (event) => events.push(event.event) }).start();
  try {
    await eventually("the stream is followed", () => cache.live);
    const name = "streamed@alpha.example";
    await eventually("the node knows the agent", () => cache.identify(name).catch(() => null));
    const before = await cache.identify(name);
    assert.equal(await cache.identify(name), before, "kept");
    await fama.revokeKey({ dumbname: name, key: agent.secret });
    await eventually("the key is revoked", async () => (await cache.identify(name)).is_revoked);
    assert.ok(events.includes("open") && events.includes("key"), String(events));
  } finally {
    cache.stop();
  }
  return undefined;
});
