// A service's API that accepts tokens, against a small node of this file with a manifest and a stream; and against a
// real one, if FAMA_BIN names the program `fama`.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as call } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";

import { FamaClient, readManifest } from "../fama.js";
import { UsedLogins } from "../login.js";
import { ResourceServer, expressToken, fastifyToken, honoToken } from "../resource.js";
import { ended, freePorts } from "./nodes.js";

const RESOURCE = "https://shop.example/api";
const ISSUER = "https://auth.alpha.example";
const START = 1795323960;
const hash = (text) => createHash("sha256").update(text).digest("hex");
const [AGENT, SERVICE, OTHER] = ["agent", "service", "other"].map(hash);
const didOf = (id, home = "alpha.example") => `did:agent:${home}:${id.slice(0, 32)}`;
const closing = [];
after(() => Promise.all(closing.map((close) => close())));

async function listen(handler) {
  const server = createServer(handler);
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  closing.push(() => (server.closeAllConnections(), new Promise((done) => server.close(done))));
  return `http://127.0.0.1:${server.address().port}`;
}

async function eventually(what, holds) {
  for (const end = Date.now() + 10000; Date.now() < end; await new Promise((done) => setTimeout(done, 10))) {
    if (await holds()) return;
  }
  assert.fail(what);
}

// ---- Keys, manifests, tokens ----

const edKey = () => generateKeyPairSync("ed25519").privateKey;
const rawOf = (secret) => Buffer.from(createPublicKey(secret).export({ format: "jwk" }).x, "base64url");
const textOf = (secret) => `ed25519:${rawOf(secret).toString("hex")}`;
const POLICY = `
[policy]
max_delta = 5
daily_cap = 25
min_sponsors = 1
daily_registrations = 1000
daily_attestations = 1000
daily_retractions = 1000
daily_new_providers = 1000
daily_grants = 1000
daily_bytes = 1073741824
max_age_ms = 259200000
max_lag_ms = 86400000
heartbeat_ms = 30000
batch_ms = 20
`;

/** The lines of operators' governance keys under a manifest's text. */
function signed(text, operators) {
  const lines = operators.map(({ name, governance }) => {
    const id = createHash("sha256").update(`${name}\n\x01`).update(rawOf(governance)).digest().subarray(0, 4);
    return `\u2014 ${name} ${Buffer.concat([id, sign(null, Buffer.from(text), governance)]).toString("base64")}\n`;
  });
  return `${text}\n${lines.join("")}`;
}

/** A federation of two operators, of which the first issues tokens; each `next` makes a version of its manifest. */
class Federation {
  operators = ["alpha.example", "beta.example"].map((name) => {
    return { name, governance: edKey(), node: edKey(), generation: 1 };
  });
  tokenKeys = [edKey()];
  chain = "";

  async next(cuts = []) {
    const { manifest } = this;
    let text = `format = "fama.manifest/1"\nname = "Test"\nversion = ${(manifest?.version ?? 0) + 1}\n`;
    if (manifest) text += `federation = "${manifest.federation}"\nprevious = "${manifest.hash}"\n`;
    text += POLICY;
    for (const [i, { name, governance, node, generation }] of this.operators.entries()) {
      text += `\n[[operators]]\nname = "${name}"\nnode_key = "${textOf(node)}"\n`;
      text += `governance_key = "${textOf(governance)}"\n`;
      text += `generation = ${generation}\nbegins = "2026-01-01T00:00:00.000Z"\naddresses = []\n`;
      const keys = this.tokenKeys.map((key) => `"${textOf(key)}"`).join(", ");
      if (i === 0) text += `issuer = "${ISSUER}"\ntoken_keys = [${keys}]\n`;
    }
    for (const { name, generation } of this.operators) {
      text += `\n[[homes]]\nname = "${name}"\noperator = "${name}"\ngeneration = ${generation}\n`;
    }
    for (const { operator, generation, size } of cuts) {
      text += `\n[[cuts]]\noperator = "${operator}"\ngeneration = ${generation}\nsize = ${size}\n`;
      text += `root = "${hash("root")}"\nstate_root = "${hash("state")}"\nadopted = 1\n`;
      text += `successor = "${operator}"\nsuccessor_generation = ${generation + 1}\n`;
    }
    this.chain += signed(text, this.operators);
    this.manifest = await readManifest(this.chain);
    this.genesis ??= this.chain;
    return this;
  }

  /** A token of an agent, with these claims changed; `fama` those within `fama`. */
  token({ key = this.tokenKeys[0], now = START, header = {}, fama, ...claims } = {}) {
    const jwk = JSON.stringify({ crv: "Ed25519", kty: "OKP", x: rawOf(key).toString("base64url") });
    const kid = createHash("sha256").update(jwk).digest("base64url");
    const own = {
      iss: ISSUER, sub: didOf(AGENT), client_id: "swift@alpha.example", aud: RESOURCE, scope: "read pay", iat: now,
      exp: now + 300, jti: String(Math.random()), ...claims,
      fama: {
        federation: this.manifest.federation, identity: AGENT, service: didOf(SERVICE, "beta.example"), key_version: 1,
        karma: 7, as_of: "2026-11-22T05:00:00.000Z", frontier: frontier(this.manifest.version, 10, 10), ...fama,
      },
    };
    return jws({ alg: "EdDSA", typ: "at+jwt", kid, ...header }, own, (text) => sign(null, text, key));
  }
}

function jws(header, claims, by) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const input = `${part(header)}.${part(claims)}`;
  return `${input}.${by(Buffer.from(input)).toString("base64url")}`;
}

/** Sizes below 2^14 as a frontier has them. */
function frontier(version, ...sizes) {
  const bytes = sizes.flatMap((size) => (size < 128 ? [size] : [(size & 127) | 128, size >> 7]));
  return `${version}.${Buffer.from(bytes).toString("base64url")}`;
}

/** A key that proves requests, with its proofs and its thumbprint. */
class Prover {
  constructor(type = "ec") {
    this.secret = generateKeyPairSync(type, { namedCurve: "P-256" }).privateKey;
    this.alg = type === "ec" ? "ES256" : "EdDSA";
    const { kty, crv, x, y } = createPublicKey(this.secret).export({ format: "jwk" });
    this.jwk = { crv, kty, x, ...(y && { y }) };
    this.thumbprint = createHash("sha256").update(JSON.stringify(this.jwk)).digest("base64url");
  }

  proof(token, claims) {
    const ath = createHash("sha256").update(token).digest("base64url");
    const own = { htm: "GET", htu: `${RESOURCE}/answers`, iat: START, jti: String(Math.random()), ath, ...claims };
    return jws({ alg: this.alg, typ: "dpop+jwt", jwk: this.jwk }, own, (bytes) => this.sign(bytes));
  }

  sign(bytes) {
    return sign(this.alg === "ES256" ? "sha256" : null, bytes, { key: this.secret, dsaEncoding: "ieee-p1363" });
  }
}

// ---- The node ----

/** What a node shows of manifests, and its stream. */
class Node {
  streams = new Set();
  events = [];
  chains = 0;
  resumed = [];
  hasStream = true;
  tooOld = undefined;

  constructor(federation) {
    this.federation = federation;
    this.chain = federation.chain;
    this.at = frontier(1, 10, 10);
  }

  async open() {
    this.query = await listen((request, response) => this.answer(request, response));
    return this;
  }

  /** A revocation of the agent's key, with other members where they are given. */
  say(event, data) {
    const whole = { kind: "revoke", identity: AGENT, log: "alpha.example/1", index: 10, ...data };
    this.events.push(`id: ${this.at}-${this.events.length}\nevent: ${event}\ndata: ${JSON.stringify(whole)}\n\n`);
    for (const stream of this.streams) stream.write(this.events.at(-1));
  }

  answer(request, response) {
    if (request.url === "/api/federation/manifests") {
      this.chains += 1;
      return this.chain ? response.end(this.chain) : response.writeHead(503).end();
    }
    if (request.url !== "/api/stream?kind=key,access" || !this.hasStream) return response.writeHead(404).end();
    const after = request.headers["last-event-id"];
    this.resumed.push(after);
    if (after !== undefined && after === this.tooOld) return response.writeHead(410).end();
    response.writeHead(200, { "content-type": "text/event-stream" });
    const data = { federation: this.federation.manifest.federation, manifest_version: 1 };
    response.write(`retry: 1000\nid: ${after ?? this.at}\nevent: open\ndata: ${JSON.stringify(data)}\n\n`);
    const seen = after === undefined ? this.events.length : Number(after.split("-")[1] ?? -1) + 1;
    for (const event of this.events.slice(seen)) response.write(event);
    this.streams.add(response);
    return response.on("close", () => this.streams.delete(response));
  }

  cut() {
    for (const stream of this.streams) stream.destroy();
  }
}

/** A server with its federation and node. `clock.now` is what time it is, in seconds. */
async function world(options = {}) {
  const federation = await new Federation().next();
  const node = await new Node(federation).open();
  const clock = { now: START };
  const states = [];
  const server = new ResourceServer({
    client: new FamaClient({ query: node.query }), genesis: federation.genesis, issuers: [ISSUER], resource: RESOURCE,
    pauseMax: 0.1, now: () => 1000 * clock.now, onState: (state) => states.push(state), ...options,
  });
  closing.push(() => server.stop());
  const bearer = (token) => ({ method: "GET", url: "/api/answers", headers: { authorization: `Bearer ${token}` } });
  const check = (token, needs) => server.check(bearer(token), needs);
  const codeOf = async (token, needs) => (await check(token, needs)).code ?? "ok";
  const live = () => eventually("the stream is followed", () => server.live);
  return { federation, node, clock, states, server, check, codeOf, live };
}

// ---- Tests ----

test("the metadata and where it is", async () => {
  const { server } = await world({ scopes: ["read", "pay"] });
  assert.deepEqual(server.metadata(), {
    resource: RESOURCE, authorization_servers: [ISSUER], scopes_supported: ["read", "pay"],
    bearer_methods_supported: ["header"], dpop_signing_alg_values_supported: ["EdDSA", "Ed25519", "ES256"],
    dpop_bound_access_tokens_required: false,
  });
  const given = { client: server.client, genesis: "x", issuers: [ISSUER] };
  for (const [resource, url, path] of [
    ["https://shop.example", undefined, ""], ["https://shop.example/", undefined, ""],
    ["https://shop.example/a/b", undefined, "/a/b"], ["https://shop.example:8443/a/", undefined, "/a/"],
    [didOf(SERVICE), "https://shop.example/a", "/a"],
  ]) {
    const one = new ResourceServer({ ...given, resource, ...(url && { url }) });
    assert.equal(one.metadataPath, `/.well-known/oauth-protected-resource${path}`);
    assert.equal(one.metadataUrl, new URL(url ?? resource).origin + one.metadataPath);
    assert.equal(one.metadata().resource, resource);
    assert.equal("scopes_supported" in one.metadata(), false);
  }
  for (const wrong of [
    { issuers: [] }, { issuers: undefined }, { issuers: ISSUER }, { issuers: [7] }, { genesis: undefined },
    { client: undefined }, { resource: undefined }, { resource: didOf(SERVICE) }, { resource: "https://a.example/?x" },
    { resource: "https://a.example/#" }, { calls: {} }, { calls: { maxAge: 60 } },
  ]) {
    const options = { resource: RESOURCE, ...given, ...wrong };
    assert.throws(() => new ResourceServer(options), { code: "requirement_missing" });
  }
});

test("a token lets in whom it names, with enough scope and karma", async () => {
  const { federation, check, codeOf, clock } = await world();
  const good = federation.token();
  const { ok, agent } = await check(good, { scope: "read", minKarma: 7 });
  assert.ok(ok);
  const { client_id, scopes, karma, process: by } = agent;
  assert.deepEqual([client_id, scopes, karma, by], ["swift@alpha.example", ["read", "pay"], 7, null]);
  assert.equal(await codeOf(good), "ok", "a bearer token holds many times");
  for (const [claims, needs, code] of [
    [{}, { scope: "read pay" }, "ok"], [{}, { scope: "write" }, "insufficient_scope"],
    [{}, { scope: "read write" }, "insufficient_scope"], [{}, { scope: "" }, "insufficient_scope"],
    [{}, { minKarma: 8 }, "low_karma"], [{ aud: "https://other.example" }, {}, "token_audience"],
    [{ iss: "https://evil.example" }, {}, "token_issuer"], [{ exp: START }, {}, "token_expired"],
    [{ exp: START + 901 }, {}, "token_lifetime"], [{ iat: START + 31 }, {}, "token_early"],
    [{ fama: { federation: hash("x") } }, {}, "token_federation"], [{ header: { typ: "JWT" } }, {}, "jws_type"],
    [{ header: { alg: "none" } }, {}, "jws_algorithm"], [{ header: { crit: ["exp"] } }, {}, "jws_header"],
    [{ fama: { frontier: "x" } }, {}, "token_claim"], [{ fama: { frontier: frontier(1, 10) } }, {}, "token_claim"],
  ]) {
    assert.equal(await codeOf(federation.token(claims), needs), code, JSON.stringify(claims));
  }
  const another = federation.token().split(".")[1];
  assert.equal(await codeOf(good.replace(/\..*\./, `.${another}.`)), "jws_signature");
  clock.now += 300;
  assert.equal(await codeOf(good), "token_expired");
});

test("refusals are those of RFC 6750, and nothing that a stranger wrote is in a header", async () => {
  const { federation, server } = await world();
  const ask = (headers, needs, more) => server.check({ method: "GET", url: "/api/answers", headers, ...more }, needs);
  const challenge = async (...given) => {
    const { status, code, headers } = await ask(...given);
    return [status, code, headers["www-authenticate"]];
  };
  const at = 'resource_metadata="https://shop.example/.well-known/oauth-protected-resource/api"';
  for (const headers of [{}, { authorization: "Basic eA==" }, { authorization: "" }, { authorization: "Bearerx" }]) {
    assert.deepEqual(await challenge(headers), [401, "no_credentials", `Bearer ${at}`]);
  }
  for (const authorization of ["Bearer", "Bearer ", ["Bearer a", "Bearer b"]]) {
    const [status, code, said] = await challenge({ authorization });
    assert.deepEqual([status, code, said.split(",")[0]], [400, "bad_authorization", 'Bearer error="invalid_request"']);
  }
  const [status, code, said] = await challenge({ authorization: `bEARER ${federation.token({ exp: START })}` });
  assert.deepEqual([status, code], [401, "token_expired"]);
  assert.equal(said, `Bearer error="invalid_token", error_description="it has ended (token_expired)", ${at}`);
  const good = { authorization: `Bearer ${federation.token()}` };
  assert.deepEqual(await challenge(good, { scope: "write" }), [
    403, "insufficient_scope",
    'Bearer error="insufficient_scope", ' +
      'error_description="the token does not let the agent do this (insufficient_scope)", ' +
      `scope="write", ${at}`,
  ]);
  assert.deepEqual(await challenge(good, { minKarma: 8 }), [403, "low_karma", undefined]);
  assert.match((await challenge(good, { scope: 'a"b\\c\né' }))[2], /, scope="a\?b\?c\?\?", resource/);
  // Both forms of headers that show more than one.
  assert.equal((await ask(new Headers([["authorization", "Bearer a"], ["authorization", "Bearer b"]]))).status, 401);
  assert.equal((await ask({}, {}, { headersDistinct: { authorization: ["Bearer a", "Bearer b"] } })).status, 400);
  const evil = 'x", realm="evil\r\nset-cookie: a=b\u00e9\\"';
  for (const claims of [
    { iss: evil }, { aud: evil }, { sub: evil, exp: 0 }, { scope: evil }, { header: { typ: evil } },
    { header: { kid: evil } }, { header: { [evil]: 1, crit: 1 } }, { header: { alg: evil } },
    { fama: { federation: evil } }, { jti: evil.repeat(99) },
  ]) {
    for (const token of [federation.token(claims), evil, `${evil}.${evil}.${evil}`]) {
      for (const scheme of ["Bearer", "DPoP"]) {
        const { headers, body } = await ask({ authorization: `${scheme} ${token}`, dpop: evil });
        assert.match(headers["www-authenticate"], /^(?:Bearer|DPoP) [a-z_]+="[^"\\]*"(?:, [a-z_]+="[\x20-\x7e]*?")*$/);
        assert.ok(!/evil|realm|cookie/.test(headers["www-authenticate"]), headers["www-authenticate"]);
        assert.equal(typeof JSON.parse(body).code, "string");
      }
    }
  }
});

test("a bound token holds with proofs of its key, each once", async () => {
  const { federation, server, clock } = await world();
  for (const type of ["ec", "ed25519"]) {
    const prover = new Prover(type);
    const token = federation.token({ cnf: { jkt: prover.thumbprint } });
    const ask = async (proof, { scheme = "DPoP", of = token, url = "/api/answers?page=1", ...more } = {}) => {
      const headers = { authorization: `${scheme} ${of}`, ...(proof !== undefined && { dpop: proof }) };
      const { code, headers: said } = await server.check({ method: "GET", url, headers, ...more });
      return [code ?? "ok", /^(\S+) error="(\w+)"/.exec(said?.["www-authenticate"])?.slice(1).join(" ")];
    };
    const proof = prover.proof(token);
    assert.deepEqual(await ask(proof), ["ok", undefined]);
    assert.deepEqual(await ask(proof), ["used", "DPoP invalid_dpop_proof"]);
    assert.deepEqual(await ask(prover.proof(token), { scheme: "dpop" }), ["ok", undefined]);
    const whole = { url: "https://proxied.example/api" };
    assert.deepEqual(await ask(prover.proof(token, { htu: RESOURCE }), whole), ["ok", undefined]);
    const mounted = { originalUrl: "/api/answers", url: "/answers" };
    assert.deepEqual(await ask(prover.proof(token), mounted), ["ok", undefined]);
    assert.deepEqual(await ask(prover.proof(token), { scheme: "Bearer" }), ["dpop_required", "Bearer invalid_token"]);
    assert.deepEqual(await ask(prover.proof(token), { of: federation.token() }), ["not_bound", "DPoP invalid_token"]);
    for (const none of [undefined, [], [prover.proof(token), prover.proof(token)]]) {
      assert.deepEqual(await ask(none), ["dpop_header", "DPoP invalid_dpop_proof"]);
    }
    const another = new Prover(type);
    for (const [wrong, code] of [
      [another.proof(token), "token_dpop"], [prover.proof(federation.token()), "token_dpop"],
      [prover.proof(token, { htm: "POST" }), "token_dpop"],
      [prover.proof(token, { htu: `${RESOURCE}/pay` }), "token_dpop"],
      [prover.proof(token, { htu: "https://evil.example/api/answers" }), "token_dpop"],
      [prover.proof(token, { iat: START - 60 }), "token_expired"],
      [prover.proof(token, { iat: START + 31 }), "token_early"], [prover.proof(token, { jti: "" }), "token_claim"],
      [prover.proof(token).slice(0, -1), "jws_form"], ["x", "jws_form"], [token, "jws_key"],
    ]) {
      assert.deepEqual(await ask(wrong), [code, "DPoP invalid_dpop_proof"], code);
    }
    const { headers } = await server.check({ method: "GET", url: "/", headers: { authorization: `DPoP ${token}` } });
    assert.match(headers["www-authenticate"], /, algs="EdDSA Ed25519 ES256", resource_metadata="https:/);
  }
  // A proof is remembered for as long as it holds.
  const prover = new Prover();
  const token = federation.token({ cnf: { jkt: prover.thumbprint } });
  const late = prover.proof(token, { iat: START + 30 });
  const [codes, headers] = [[], { authorization: `DPoP ${token}`, dpop: late }];
  for (const now of [START, START + 60, START + 89, START + 90]) {
    clock.now = now;
    const { code } = await server.check({ method: "GET", url: "/api/answers", headers });
    codes.push(code ?? "ok");
  }
  assert.deepEqual(codes, ["ok", "used", "used", "token_expired"]);
});

test("proofs are remembered up to a bound, each agent has its own, and what is refused takes no place", async () => {
  const { federation, server, clock } = await world({ used: new UsedLogins({ max: 5, perAgentMax: 3 }) });
  const ask = async (prover, needs, claims, identity = AGENT) => {
    const token = federation.token({ cnf: { jkt: prover.thumbprint }, fama: { identity } });
    const headers = { authorization: `DPoP ${token}`, dpop: prover.proof(token, claims) };
    const { status, code, headers: said } = await server.check({ method: "GET", url: "/api/answers", headers }, needs);
    return code === undefined ? "ok" : `${status} ${code} ${said["retry-after"]}`;
  };
  const [one, two] = [new Prover(), new Prover()];
  for (let i = 0; i < 9; i++) assert.match(await ask(one, { scope: "write" }), /^403/);
  const codes = async (prover, count, identity) => {
    return Promise.all(Array.from({ length: count }, () => ask(prover, {}, {}, identity)));
  };
  assert.deepEqual((await codes(one, 4)).sort(), ["503 busy 5", "ok", "ok", "ok"]);
  assert.deepEqual(await codes(two, 1), ["503 busy 5"], "another key of the same agent");
  assert.deepEqual((await codes(two, 3, OTHER)).sort(), ["503 busy 5", "ok", "ok"]);
  clock.now += 60;
  assert.equal(await ask(one, {}, { iat: clock.now }), "ok", "the others have ended");
});

test("a newer manifest is asked for when a token needs it; an older one or another branch never counts", async () => {
  const { federation, node, clock, server, codeOf, live } = await world();
  await server.start();
  await live();
  assert.deepEqual([server.manifest.version, node.chains], [1, 1]);
  const first = federation.chain;
  const old = federation.token();
  federation.tokenKeys = [edKey(), federation.tokenKeys[0]];
  await federation.next();
  const fama = { frontier: frontier(1, 10, 10) };
  const renewed = federation.token({ fama });
  assert.equal(await codeOf(renewed), "token_key", "the node has no newer one, and was just asked");
  assert.equal(node.chains, 1);
  clock.now += 10;
  assert.equal(await codeOf(renewed), "token_key");
  assert.equal(node.chains, 2);
  node.chain = federation.chain;
  const made = Array.from({ length: 20 }, () => federation.token({ fama }));
  assert.deepEqual(new Set(await Promise.all(made.map((one) => codeOf(one)))), new Set(["token_key"]));
  assert.equal(node.chains, 2, "strangers' tokens make it ask once in ten seconds");
  clock.now += 10;
  assert.deepEqual(new Set(await Promise.all(made.map((one) => codeOf(one)))), new Set(["ok"]));
  assert.deepEqual([server.manifest.version, node.chains], [2, 3]);
  assert.equal(await codeOf(old), "ok", "of a key that is still there");

  // Another branch, an older version, another federation, nonsense, nothing.
  const second = server.manifest;
  const other = await (await new Federation().next()).next();
  const branch = new Federation();
  const same = { operators: federation.operators, chain: first, genesis: first };
  Object.assign(branch, { ...same, manifest: await readManifest(first) });
  branch.tokenKeys = [edKey()];
  await (await branch.next()).next();
  for (const chain of [branch.chain, first, other.chain, "nonsense", federation.chain.slice(0, -9), undefined]) {
    node.chain = chain;
    clock.now += 10;
    const asked = node.chains;
    assert.equal(await codeOf(branch.token({ key: branch.tokenKeys[0], fama })), "token_key");
    assert.equal(node.chains, asked + 1);
    assert.equal(server.manifest, second);
    assert.equal(await codeOf(federation.token({ fama, now: clock.now })), "ok", "what is held stays in use");
  }
  // A key that was left out counts no more.
  const leaked = federation.tokenKeys.pop();
  await federation.next();
  node.chain = federation.chain;
  clock.now += 10;
  const lost = federation.token({ now: clock.now, fama: { frontier: frontier(3, 10, 10) } });
  assert.equal(await codeOf(lost), "ok", "its frontier is of a newer version");
  assert.equal(server.manifest.version, 3);
  assert.equal(await codeOf(federation.token({ key: leaked, now: clock.now, fama })), "token_key");
});

test("a newer manifest is asked for every five minutes", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const { federation, node, server } = await world();
  await server.start();
  await federation.next();
  node.chain = federation.chain;
  t.mock.timers.tick(299999);
  assert.equal(node.chains, 1);
  t.mock.timers.tick(1);
  await eventually("the newer version is there", () => server.manifest.version === 2);
});

test("a token whose frontier is of a version that the node does not have is refused for now", async () => {
  const { federation, node, clock, server, check } = await world();
  await server.start();
  await federation.next();
  clock.now += 10;
  const { status, code, headers } = await check(federation.token());
  assert.deepEqual([status, code, headers["retry-after"]], [503, "later_version", "5"]);
  assert.equal(node.chains, 2);
});

test("what happens to an agent ends the tokens from before", async () => {
  const { federation, node, clock, server, codeOf, live } = await world();
  await server.start();
  await live();
  const at = (alpha, beta, identity = AGENT) => {
    return federation.token({ now: clock.now, fama: { identity, frontier: frontier(1, alpha, beta) } });
  };
  const [before, later, others] = [at(10, 10), at(12, 11), at(10, 10, OTHER)];
  for (const token of [before, later, others]) assert.equal(await codeOf(token), "ok");
  let heard = 0;
  const said = async (event, data) => {
    // The last event shows that those before were taken.
    node.say(event, data);
    node.say("key", { identity: hash(`last ${heard++}`), index: 5000 });
    const last = federation.token({ now: clock.now, fama: { identity: hash(`last ${heard - 1}`) } });
    await eventually("the events came", async () => (await codeOf(last)) === "withdrawn");
  };
  // What others let it do concerns nobody here; neither does what happens to others.
  await said("access", { kind: "ungrant", provider: OTHER });
  await said("access", { kind: "grant", provider: hash("nobody") });
  assert.equal(await codeOf(before), "ok");
  for (const [kind, more] of [
    ["rotate", {}], ["revoke", {}], ["suspend", {}], ["resume", {}], ["grant", { provider: SERVICE }],
    ["ungrant", { provider: SERVICE }], ["something newer", {}],
  ]) {
    const identity = hash(kind);
    const token = (alpha) => at(alpha, 10, identity);
    assert.equal(await codeOf(token(11)), "ok");
    await said(kind === "revoke" || kind === "rotate" ? "key" : "access", { kind, identity, index: 11, ...more });
    assert.deepEqual([await codeOf(token(11)), await codeOf(token(12))], ["withdrawn", "ok"], kind);
  }
  await said("key", {});
  await said("access", { kind: "suspend", log: "beta.example/1", index: 10 });
  assert.deepEqual([await codeOf(before), await codeOf(others), await codeOf(later)], ["withdrawn", "ok", "ok"]);
  assert.equal(await codeOf(at(11, 10)), "withdrawn", "one of two logs");
  // An event that comes twice, or later than a newer one, changes nothing.
  const [identity, index] = [hash("again"), 20];
  await said("key", { identity, index });
  await said("key", { identity, index: 3 });
  await said("key", { identity, index });
  await said("key", { identity, index: 3 });
  assert.deepEqual(await Promise.all([20, 21].map((size) => codeOf(at(size, 10, identity)))), ["withdrawn", "ok"]);
  // After the longest life of a token and the skew, no token from before is left.
  clock.now += 990;
  assert.equal(await codeOf(at(10, 10)), "withdrawn");
  clock.now += 1;
  assert.equal(await codeOf(at(10, 10)), "ok");
});

test("what was not seen must be known to a token: a floor, which a stream that continues does not raise", async () => {
  const { federation, node, states, server, codeOf, live } = await world();
  const at = (alpha, beta) => federation.token({ fama: { frontier: frontier(1, alpha, beta) } });
  node.at = frontier(1, 200, 30);
  assert.equal(await codeOf(at(10, 10)), "ok", "offline, tokens hold until they end");
  await server.start();
  await live();
  for (const [alpha, beta] of [[200, 30], [201, 31]]) assert.equal(await codeOf(at(alpha, beta)), "ok");
  for (const [alpha, beta] of [[199, 30], [200, 29]]) assert.equal(await codeOf(at(alpha, beta)), "withdrawn");
  // The stream breaks, events are missed, and it continues after the last one.
  node.say("key", { identity: OTHER, index: 300 });
  const other = (alpha) => federation.token({ fama: { identity: OTHER, frontier: frontier(1, alpha, 30) } });
  await eventually("it came", async () => (await codeOf(other(300))) === "withdrawn");
  node.hasStream = false;
  node.cut();
  await eventually("the server knows", () => !server.live);
  assert.equal(await codeOf(at(200, 30)), "ok", "tokens hold until they end");
  node.say("key", { index: 400 });
  node.at = frontier(1, 500, 500);
  node.hasStream = true;
  await live();
  await eventually("what was missed came", async () => (await codeOf(at(400, 30))) === "withdrawn");
  assert.deepEqual(await Promise.all([codeOf(at(401, 30)), codeOf(other(301))]), ["ok", "ok"]);
  assert.equal(node.resumed.at(-1), `${frontier(1, 200, 30)}-0`);

  // The node cannot continue: what happened meanwhile was not seen.
  node.tooOld = `${frontier(1, 200, 30)}-1`;
  node.cut();
  await eventually("a new stream", () => node.resumed.at(-1) === undefined && server.live);
  assert.deepEqual(await Promise.all([codeOf(at(500, 500)), codeOf(at(499, 500))]), ["ok", "withdrawn"]);
  assert.deepEqual(states[0], { live: true, reason: "the stream is followed" });
  assert.ok(states.some(({ live: is, reason }) => !is && reason === "no stream: http_410"), JSON.stringify(states));
});

test("events that are dropped early raise the floor", async () => {
  const { federation, node, server, codeOf, live } = await world({ eventsMax: 3 });
  await server.start();
  await live();
  const at = (alpha, beta, identity = AGENT) => {
    return federation.token({ fama: { identity, frontier: frontier(1, alpha, beta) } });
  };
  const say = async (name, index, log = "alpha.example/1") => {
    node.say("key", { identity: hash(name), index, log });
    await eventually("it came", async () => (await codeOf(at(index, index, hash(name)))) === "withdrawn");
  };
  await say("a", 20);
  await say("b", 21, "beta.example/1");
  await say("c", 22);
  assert.equal(await codeOf(at(10, 10)), "ok");
  // Of one agent and log, the newest is enough.
  for (let i = 0; i < 10; i++) node.say("key", { identity: hash("c"), index: 30 + i });
  await say("d", 50);
  assert.deepEqual(await Promise.all([[20, 10], [21, 10]].map(([a, b]) => codeOf(at(a, b)))), ["withdrawn", "ok"]);
  // Of "b" there is something new: "c" is the oldest now.
  await say("b", 60, "beta.example/1");
  await say("e", 51);
  assert.deepEqual(await Promise.all([[39, 10], [40, 10]].map(([a, b]) => codeOf(at(a, b)))), ["withdrawn", "ok"]);
});

test("events of a log that is new, and a log that was cut", async () => {
  const { federation, node, server, codeOf, live } = await world();
  node.at = frontier(1, 10, 40);
  await server.start();
  await live();
  const identity = hash("cut");
  node.say("key", { identity, log: "beta.example/1", index: 45 });
  const old = (beta) => federation.token({ fama: { identity, frontier: frontier(1, 10, beta) } });
  await eventually("it came", async () => (await codeOf(old(45))) === "withdrawn");
  // The log is cut before what was seen of it, and another continues it.
  Object.assign(federation.operators[1], { node: edKey(), generation: 2 });
  await federation.next([{ operator: "beta.example", generation: 1, size: 30 }]);
  node.chain = federation.chain;
  const at = (...sizes) => federation.token({ fama: { identity, frontier: frontier(2, ...sizes) } });
  assert.equal(await codeOf(at(10, 30, 0)), "later_version");
  node.say("key", { log: "beta.example/2", index: 0 });
  await eventually("the event makes the server ask", () => server.manifest.version === 2);
  assert.ok(server.live);
  assert.deepEqual(await Promise.all([at(10, 30, 0), at(10, 29, 0), old(30), old(29)].map((one) => codeOf(one))), [
    "ok", "withdrawn", "ok", "withdrawn",
  ]);
  const own = (...sizes) => federation.token({ fama: { frontier: frontier(sizes.length - 1, ...sizes) } });
  await eventually("the event counts", async () => (await codeOf(own(10, 30, 0))) === "withdrawn");
  assert.deepEqual(await Promise.all([own(10, 30, 1), own(10, 30)].map((one) => codeOf(one))), ["ok", "withdrawn"]);
});

test("a stream that cannot be read is not followed", async () => {
  const { node, states, server, live } = await world();
  await server.start();
  for (const [say, reason] of [
    [() => node.say("key", { identity: "x" }), "bad_event"], [() => node.say("key", { index: -1 }), "bad_event"],
    [() => node.say("key", { index: "1" }), "bad_event"], [() => node.say("access", { kind: "grant" }), "bad_event"],
    [() => node.say("key", { log: "gamma.example/1" }), "unknown_log"],
    [() => node.say("error", { code: "too_slow" }), "too_slow"], [() => node.say("error", { code: 7 }), "stream_error"],
  ]) {
    await live();
    states.length = 0;
    say();
    await eventually(reason, () => states.some((state) => !state.live && state.reason === `no stream: ${reason}`));
    node.events.pop();
  }
  await live();
  node.at = "x";
  node.tooOld = `${frontier(1, 10, 10)}`;
  node.cut();
  await eventually("no cursor", () => server.reason === "no stream: bad_event");
  node.at = frontier(1, 10, 10);
  await live();
  // A node of another federation.
  const wrong = await world({ genesis: (await new Federation().next()).genesis });
  await wrong.server.start();
  await eventually("another federation", () => wrong.server.reason === "no stream: other_federation");
});

test("a strict server refuses once it has not heard for ten seconds", async () => {
  const { federation, node, clock, server, check, codeOf, live } = await world({ strict: true });
  node.hasStream = false;
  await server.start();
  assert.equal(await codeOf(federation.token()), "ok");
  clock.now += 11;
  const { status, code, headers } = await check(federation.token());
  assert.deepEqual([status, code, headers["retry-after"]], [503, "no_stream", "5"]);
  assert.equal(await codeOf("x.y.z"), "jws_form", "what is no token is told so");
  node.hasStream = true;
  await live();
  assert.equal(await codeOf(federation.token()), "ok");
  node.hasStream = false;
  node.cut();
  await eventually("the server knows", () => !server.live);
  clock.now += 10;
  assert.equal(await codeOf(federation.token()), "ok");
  clock.now += 1;
  assert.equal(await codeOf(federation.token()), "no_stream");
});

test("without a node, and with a genesis that is none", async () => {
  const federation = await new Federation().next();
  const client = new FamaClient({ query: "http://127.0.0.1:1" });
  const given = { client, issuers: [ISSUER], resource: RESOURCE, now: () => 1000 * START };
  const server = new ResourceServer({ ...given, genesis: federation.genesis });
  const request = { method: "GET", url: "/", headers: { authorization: `Bearer ${federation.token()}` } };
  assert.equal((await server.check(request)).ok, true, "before it is started, too");
  await server.start();
  closing.push(() => server.stop());
  assert.equal((await server.check(request)).ok, true);
  const broken = new ResourceServer({ ...given, genesis: "no manifest" });
  await assert.rejects(broken.start(), { code: "manifest_note" });
  const { status, code, body } = await broken.check(request);
  assert.deepEqual([status, code], [503, "manifest_note"]);
  assert.deepEqual(JSON.parse(body), { error: "this cannot be checked now", code });
});

test("callers are asked for up to a bound at once, and nobody for what is no DID", async () => {
  const { federation, server } = await world({ calls: { maxAge: 60, missing: 0 } });
  const asked = [];
  server.client.getProof = (question) => (asked.push(question), new Promise(() => {}));
  const ask = (iss) => {
    const call = jws({ alg: "ES256K", typ: "fama-agent+jwt" }, { iss }, () => Buffer.alloc(64));
    return server.check({ method: "GET", url: "/", headers: { authorization: `Bearer ${call}` } });
  };
  for (const iss of ["swift@alpha.example", AGENT, `${didOf(AGENT)} granted by ${SERVICE}`, `${didOf(AGENT)}\n`, ""]) {
    assert.equal((await ask(iss)).code, "token_identity", iss);
  }
  assert.deepEqual(asked, []);
  const dids = Array.from({ length: 16 }, (_, i) => didOf(hash(String(i))));
  for (const did of [...dids, ...dids]) ask(did);
  await eventually("all are asked for, each once", () => asked.length === 16);
  assert.deepEqual(asked, dids);
  const { status, code } = await ask(didOf(AGENT));
  assert.deepEqual([status, code], [503, "busy"]);
  const token = { authorization: `Bearer ${federation.token()}` };
  assert.ok((await server.check({ method: "GET", url: "/", headers: token })).ok, "tokens need no proof");
});

// ---- The frameworks ----

async function framework(name, t) {
  try {
    return await import(name);
  } catch {
    assert.notEqual(process.env.FAMA_FOREIGN, "1", `${name} is not installed`);
    t.skip(`${name} is not installed`);
    return null;
  }
}

/** Calls a service at `/api/answers`, which needs `read`: with good tokens, without one, with two, with too little. */
async function calls({ federation }, origin) {
  const ask = (headers) => new Promise((done, fail) => {
    const sent = call(`${origin}/api/answers?page=1`, { headers }, async (answer) => {
      const parts = [];
      for await (const part of answer) parts.push(part);
      const { status, headers: said } = { status: answer.statusCode, headers: answer.headers };
      done([status, JSON.parse(Buffer.concat(parts)), said["www-authenticate"]]);
    });
    sent.on("error", fail);
    sent.end();
  });
  const good = `Bearer ${federation.token()}`;
  assert.deepEqual(await ask({ authorization: good }), [200, { handle: "swift@alpha.example" }, undefined]);
  const prover = new Prover();
  const token = federation.token({ cnf: { jkt: prover.thumbprint } });
  const bound = { authorization: `DPoP ${token}`, dpop: prover.proof(token) };
  assert.deepEqual((await ask(bound))[0], 200);
  assert.deepEqual((await ask(bound))[1].code, "used");
  const [status, { code }, challenge] = await ask({});
  assert.deepEqual([status, code], [401, "no_credentials"]);
  assert.match(challenge, /^Bearer resource_metadata="https:/);
  // Two headers are refused, also where a framework shows only one of them.
  const [two] = await ask(["host", "a", "authorization", good, "authorization", good]);
  assert.ok(two === 400 || two === 401, String(two));
  const twice = ["dpop", prover.proof(token), "dpop", prover.proof(token)];
  assert.equal((await ask(["host", "a", "authorization", `DPoP ${token}`, ...twice]))[0], 401);
  const [low, { code: why }, scopes] = await ask({ authorization: `Bearer ${federation.token({ scope: "pay" })}` });
  assert.deepEqual([low, why], [403, "insufficient_scope"]);
  assert.match(scopes, /scope="read"/);
}

test("a plain server with Express's form of middleware", async () => {
  const own = await world();
  const middleware = expressToken(own.server, { scope: "read" });
  await calls(own, await listen((request, response) => {
    middleware(request, response, () => response.end(JSON.stringify({ handle: request.agent.client_id })));
  }));
  // What is nobody's fault goes to the framework.
  const faults = [];
  const failing = expressToken({ check: () => Promise.reject(new TypeError("a fault")) });
  await failing({}, {}, (error) => faults.push(error.message));
  assert.deepEqual(faults, ["a fault"]);
});

test("Express", async (t) => {
  const express = (await framework("express", t))?.default;
  if (!express) return;
  const own = await world();
  const app = express();
  const router = express.Router();
  const handle = (req, res) => res.json({ handle: req.agent.client_id });
  router.get("/answers", expressToken(own.server, { scope: "read" }), handle);
  app.use("/api", router);
  app.get(own.server.metadataPath, (req, res) => res.json(own.server.metadata()));
  const origin = await listen(app);
  await calls(own, origin);
  const metadata = await fetch(`${origin}/.well-known/oauth-protected-resource/api`);
  assert.equal((await metadata.json()).resource, RESOURCE);
});

test("Fastify", async (t) => {
  const fastify = (await framework("fastify", t))?.default;
  if (!fastify) return;
  const own = await world();
  const app = fastify();
  const preHandler = fastifyToken(own.server, { scope: "read" });
  app.get("/api/answers", { preHandler }, async (request) => ({ handle: request.agent.client_id }));
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  closing.push(() => app.close());
  await calls(own, url);
  const authorization = `Bearer ${own.federation.token()}`;
  assert.equal((await app.inject({ url: "/api/answers", headers: { authorization } })).statusCode, 200);
});

test("Hono", async (t) => {
  const Hono = (await framework("hono", t))?.Hono;
  if (!Hono) return;
  const own = await world();
  const app = new Hono();
  const handle = (context) => context.json({ handle: context.get("agent").client_id });
  app.get("/api/answers", honoToken(own.server, { scope: "read" }), handle);
  await calls(own, await listen(async (request, response) => {
    const all = Object.entries(request.headersDistinct);
    const headers = all.flatMap(([name, values]) => values.map((value) => [name, value]));
    const answer = await app.fetch(new Request(`http://127.0.0.1${request.url}`, { method: request.method, headers }));
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    response.end(await answer.text());
  }));
});

// ---- A real node ----

const program = process.env.FAMA_BIN;
const skip = program ? false : "FAMA_BIN names no program";

/** A federation of one operator that issues tokens; its node runs until the tests end. */
async function realNode() {
  const dir = mkdtempSync(join(tmpdir(), "fama-js-"));
  const [peer, query, admin, submit, auth] = await freePorts(5);
  const ports = ["--port", peer, "--query-port", query, "--admin-port", admin].map(String);
  const run = promisify(execFile);
  const env = { ...process.env, HOME: dir };
  await run(program, ["federation", "new", "Test", "alpha.example", "--out", "net", ...ports], { cwd: dir, env });
  const folder = join(dir, "net", "alpha.example");
  const token = edKey();
  writeFileSync(join(folder, "token.pem"), token.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  appendFileSync(join(folder, "node.toml"), `\n[submit]\nlisten = "127.0.0.1:${submit}"\n`);
  appendFileSync(join(folder, "node.toml"), `\n[auth]\nlisten = "127.0.0.1:${auth}"\ntoken_key = "token.pem"\n`);
  const governance = createPrivateKey(readFileSync(join(folder, "governance.pem")));
  const issuer = `http://127.0.0.1:${auth}`;
  let [text] = readFileSync(join(folder, "manifest.txt"), "utf8").split("\n\u2014");
  const issuing = `issuer = "${issuer}"\ntoken_keys = ["${textOf(token)}"]`;
  text = text.trimEnd().replace(/^addresses = .*$/m, (line) => `${line}\n${issuing}`);
  const genesis = signed(`${text}\n`, [{ name: "alpha.example", governance }]);
  writeFileSync(join(folder, "manifest.txt"), genesis);
  const node = spawn(program, ["node", "--config", join(folder, "node.toml")], { env, stdio: "ignore" });
  closing.push(async () => {
    await ended(node);
    rmSync(dir, { recursive: true, force: true });
  });
  const client = new FamaClient({ query: `http://127.0.0.1:${query}`, submit: `http://127.0.0.1:${submit}` });
  await eventually("the node is ready", async () => (await client.getStatus().catch(() => ({}))).fresh);
  return { client, genesis, issuer };
}

test("tokens and calls of a real federation, and what withdraws them", { skip }, async () => {
  const { client, genesis, issuer } = await realNode();
  const secp = () => generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey;
  const [key, serviceKey] = [secp(), edKey()];
  const agent = await client.register({ dumbname: "swift", key, wait: true });
  const service = await client.register({ dumbname: "shop", key: serviceKey, wait: true });
  const granting = { curve: "ed25519", bytes: new Uint8Array(rawOf(serviceKey)) };
  const signer = { key: granting, sign: (bytes) => sign(null, bytes, serviceKey) };
  const say = (kind, scope, more) => {
    const event = { kind, home: "alpha.example", issuer: service.identity, subject: agent.identity, scope, ...more };
    return client.signAndSubmit(event, signer, { wait: true });
  };
  await say("grant", "read");
  await say("grant", "pay");

  const seconds = () => Math.floor(Date.now() / 1000);
  const lasting = (time = 60) => ({ iat: seconds(), exp: seconds() + time, jti: String(Math.random()) });
  const es256k = (bytes) => sign("sha256", bytes, { key, dsaEncoding: "ieee-p1363" });
  const getToken = async () => {
    const claims = { iss: agent.did, sub: agent.did, aud: issuer, ...lasting() };
    const body = new URLSearchParams({
      grant_type: "client_credentials", client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      client_assertion: jws({ alg: "ES256K" }, claims, es256k), resource: service.did,
    });
    const answer = await (await fetch(`${issuer}/oauth/token`, { method: "POST", body })).json();
    return answer.access_token ?? assert.fail(JSON.stringify(answer));
  };
  const given = {
    client, genesis, issuers: [issuer], resource: service.did, url: RESOURCE,
    calls: { maxAge: 600, missing: 0, service: service.identity },
  };
  const server = new ResourceServer(given);
  let proofs = 0;
  client.getProof = (question) => ((proofs += 1), FamaClient.prototype.getProof.call(client, question));
  closing.push(() => server.stop());
  await server.start();
  await eventually("the stream is followed", () => server.live);
  const bearer = (text) => ({ method: "GET", url: "/api", headers: { authorization: `Bearer ${text}` } });
  const check = (text, needs) => server.check(bearer(text), needs);
  const codeOf = async (text, needs) => (await check(text, needs)).code ?? "ok";
  const callOf = (claims) => {
    const own = { iss: agent.did, aud: service.did, ...lasting(), ...claims };
    return jws({ alg: "ES256K", typ: "fama-agent+jwt" }, own, es256k);
  };

  let token = await getToken();
  const { ok, agent: found } = await check(token, { scope: "read pay", minKarma: 0 });
  assert.ok(ok);
  const said = [found.client_id, found.scopes, found.service];
  assert.deepEqual(said, ["swift@alpha.example", ["pay", "read"], service.did]);
  const own = callOf();
  const called = await check(own, { scope: "read", minKarma: 0 });
  assert.ok(called.ok, called.error);
  const { subject, client_id, identity, scopes, process: by, issuer: none } = called.agent;
  assert.deepEqual([subject, client_id, identity], [agent.did, "swift@alpha.example", agent.identity]);
  assert.deepEqual([by, none], [null, null]);
  assert.deepEqual([...scopes].sort(), ["pay", "read"]);
  assert.equal(await codeOf(own), "used");
  // A process with a key of its own, and less than the agent may.
  const prover = new Prover();
  const delegation = jws({ alg: "ES256K", typ: "fama-delegation+jwt" }, {
    iss: agent.did, aud: `urn:fama:${server.manifest.federation}`, sub: "worker-1", cnf: { jwk: prover.jwk },
    scope: "read write", ...lasting(600),
  }, es256k);
  const byWorker = () => {
    const claims = { iss: agent.did, aud: service.did, ...lasting(), fama_delegation: delegation };
    return jws({ alg: "ES256", typ: "fama-agent+jwt" }, claims, (bytes) => prover.sign(bytes));
  };
  assert.deepEqual((await check(byWorker())).agent.scopes, ["read"]);
  assert.equal((await check(byWorker())).agent.process, "worker-1");
  for (const [text, needs, code] of [
    [callOf({ aud: RESOURCE }), {}, "token_audience"], [callOf({ iss: service.did }), {}, "jws_algorithm"],
    [callOf({ iss: `did:agent:alpha.example:${"0".repeat(32)}` }), {}, "unknown_agent"],
    [callOf({ iss: "swift@alpha.example" }), {}, "token_identity"], [callOf(lasting(61)), {}, "token_lifetime"],
    [callOf(), { scope: "write" }, "insufficient_scope"], [byWorker(), { scope: "pay" }, "insufficient_scope"],
    [callOf(), { minKarma: 1 }, "low_karma"],
  ]) {
    assert.equal(await codeOf(text, needs), code);
  }
  assert.equal(proofs, 2 + 1, "one for the agent, and one for each of the others that are asked for");
  const offline = new ResourceServer({ ...given, calls: undefined });
  assert.equal((await offline.check(bearer(callOf()))).code, "jws_type", "calls are off by default");

  const withdrawn = async (what) => {
    await eventually(what, async () => (await codeOf(token)) === "withdrawn");
    token = await getToken();
  };
  await say("ungrant", "pay");
  await withdrawn("an ungrant");
  assert.deepEqual((await check(token)).agent.scopes, ["read"]);
  await eventually("a proof shows it", async () => (await codeOf(callOf(), { scope: "pay" })) === "insufficient_scope");
  assert.equal(await codeOf(callOf(), { scope: "read" }), "ok");
  await say("grant", "pay");
  await withdrawn("a grant");
  assert.equal(await codeOf(token, { scope: "pay" }), "ok");
  // A grant that ends, and a service whose key is revoked.
  const expires = new Date(Date.now() + 2000).toISOString();
  await say("grant", "brief", { expires });
  await eventually("it begins", async () => (await codeOf(callOf(), { scope: "brief" })) === "ok");
  await eventually("it ends", async () => (await codeOf(callOf(), { scope: "brief" })) === "insufficient_scope");
  assert.ok(Date.now() >= Date.parse(expires));
  await withdrawn("a grant");
  await client.revokeKey({ dumbname: "shop", key: serviceKey, wait: true });
  const again = new ResourceServer(given);
  assert.equal((await again.check(bearer(callOf()), { scope: "read" })).code, "insufficient_scope");
  await assert.rejects(getToken(), /not_granted/);
  await eventually("the service's revocation", async () => (await codeOf(token)) === "withdrawn");
  await client.revokeKey({ dumbname: "swift", key, wait: true });
  await eventually("a proof shows it", async () => (await codeOf(callOf())) === "token_not_in_force");
});

test("what is stated wrongly is refused before the first request", async () => {
  const vectors = readFileSync(new URL("../../../../tests/vectors/tokens.json", import.meta.url));
  const [{ manifest: genesis }] = JSON.parse(vectors);
  const client = new FamaClient({ query: "http://127.0.0.1:1" });
  const good = { client, genesis, issuers: ["https://auth.alpha.example"], resource: "https://shop.example/api" };
  assert.ok(new ResourceServer(good));
  for (const wrong of [
    { client: "http://127.0.0.1:8080" }, { issuers: ["https://auth.alpha.example/"] }, { issuers: ["alpha.example"] },
    { resource: "shop@beta.example" }, { resource: "http://shop.example" }, { resource: "https://shop.example/?a" },
    { resource: `did:agent:beta.example:${"0".repeat(32)}` },
  ]) {
    assert.throws(() => new ResourceServer({ ...good, ...wrong }), { code: "requirement_missing" }, JSON.stringify(wrong));
  }
  const did = `did:agent:beta.example:${"0".repeat(32)}`;
  assert.ok(new ResourceServer({ ...good, resource: did, url: "http://127.0.0.1:8095" }), "with the address beside");
  const query = await listen((request, response) => response.end(genesis));
  const unknown = new ResourceServer({ ...good, client: new FamaClient({ query }), issuers: ["https://auth.gamma.example"] });
  await assert.rejects(unknown.start(), { code: "unknown_issuer" });
});

test("a service whose key is revoked ends its tokens, and a node that is cut off is not believed to be live", async () => {
  const { federation, node, server, codeOf, live } = await world({ strict: true });
  await server.start();
  await live();
  const token = federation.token();
  assert.equal(await codeOf(token), "ok");
  node.say("key", { kind: "revoke", identity: SERVICE, index: 5000 });
  await eventually("the service's own key", async () => (await codeOf(token)) === "withdrawn");
  for (const [fresh, reason] of [[false, "the node does not hear the federation"], [true, "the stream is followed"]]) {
    node.say("freshness", { fresh });
    await eventually(reason, () => server.live === fresh && server.reason === reason);
  }
});
