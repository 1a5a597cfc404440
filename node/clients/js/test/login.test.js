// Logins on a server, against a small node of this file that shows agents and streams events.
import assert from "node:assert/strict";
import { createHash, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { createServer } from "node:http";
import { after, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { FamaClient, signLogin } from "../fama.js";
import { EventParser, ProfileCache, UsedLogins, authorization, createLogin, expressLogin, fastifyLogin, honoLogin } from "../login.js";

const AUDIENCE = "https://service.example";
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

const key = () => generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey;

/** What a node shows of agents, and its stream. */
class Node {
  agents = new Map();
  streams = new Set();
  events = [];
  asked = 0;
  resumed = [];
  hasStream = true;
  hold = () => undefined;

  async open() {
    this.query = await listen((request, response) => this.answer(request, response));
    return this;
  }

  add(name, secret, karma = 0) {
    const agent_id = createHash("sha256").update(name).digest("hex");
    const public_key = createPublicKey(secret).export({ type: "spki", format: "pem" });
    const handle = `${name}@alpha.example`;
    const agent = {
      identity: { agent_id, handle, did: `did:agent:alpha.example:${agent_id.slice(0, 32)}`, public_key, key_version: 1 },
      key_status: { is_revoked: false, is_suspended: false },
      reputation: { global_score: karma },
    };
    for (const one of [name, handle, agent_id]) this.agents.set(one, agent);
    return agent;
  }

  tooOld = "none";

  say(event, data) {
    this.events.push(`id: ${this.events.length + 1}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    for (const stream of this.streams) stream.write(this.events.at(-1));
  }

  async answer(request, response) {
    if (request.url === "/api/stream") return this.stream(request, response);
    this.asked += 1;
    const agent = this.agents.get(decodeURIComponent(request.url.replace("/api/agent/", "")));
    const body = JSON.stringify(agent ?? { code: "unknown_agent", error: "no such agent" });
    await this.hold();
    response.writeHead(agent ? 200 : 404, { "content-type": "application/json" });
    return response.end(body);
  }

  stream(request, response) {
    if (!this.hasStream) return response.writeHead(404).end();
    this.resumed.push(request.headers["last-event-id"]);
    if (request.headers["last-event-id"] === this.tooOld) return response.writeHead(410).end();
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`retry: 1000\nid: ${request.headers["last-event-id"] ?? this.events.length}\nevent: open\ndata: {"manifest_version":1}\n\n`);
    for (const event of this.events.slice(Number(request.headers["last-event-id"] ?? this.events.length))) response.write(event);
    this.streams.add(response);
    return response.on("close", () => this.streams.delete(response));
  }

  cut() {
    for (const stream of this.streams) stream.destroy();
  }
}

const node = await new Node().open();
const client = new FamaClient({ query: node.query });
const secret = key();
node.add("swift", secret, 7);

const login = (message = AUDIENCE, more = {}) => signLogin({ dumbname: "swift", message, key: secret, ...more });
const at = (millis) => new Date(millis).toISOString();

test("a login holds once, in its window, for its audience and with enough karma", async () => {
  const check = createLogin({ client, audience: AUDIENCE, minKarma: 7 });
  const good = await login();
  const { ok, agent } = await check(good);
  assert.ok(ok);
  assert.deepEqual([agent.handle, agent.karma, agent.message], ["swift@alpha.example", 7, AUDIENCE]);
  const codes = async (one, by = check) => (await by(one)).code;
  assert.equal(await codes(good), "used");
  // The same login with the other s, and as r ‖ s: still the same login.
  const raw = sign("sha256", Buffer.from(`swift${good.timestamp}${AUDIENCE}`), { key: secret, dsaEncoding: "ieee-p1363" });
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const other = (order - BigInt(`0x${raw.subarray(32).toString("hex")}`)).toString(16).padStart(64, "0");
  const turned = Buffer.concat([raw.subarray(0, 32), Buffer.from(other, "hex")]);
  for (const bytes of [raw, turned]) assert.equal(await codes({ ...good, signature: bytes.toString("base64url") }), "used");
  assert.equal(await codes(await login("https://other.example")), "wrong_audience");
  assert.equal(await codes(await login(`${AUDIENCE}.evil`)), "wrong_audience");
  assert.equal((await check(await login(`${AUDIENCE} GET /`))).ok, true);
  assert.equal(await codes({ ...(await login(`${AUDIENCE} 1`)), message: `${AUDIENCE} 2` }), "bad_signature");
  assert.equal(await codes(await login(AUDIENCE, { timestamp: at(Date.now() - 301000) })), "expired");
  assert.equal(await codes(await login(AUDIENCE, { timestamp: at(Date.now() + 302000) })), "expired");
  assert.equal((await check(await login(AUDIENCE, { timestamp: at(Date.now() - 298000) }))).ok, true);
  const gate = createLogin({ client, audience: AUDIENCE, minKarma: 8 });
  assert.equal(await codes(await login(), gate), "too_little_karma");
  assert.equal(await codes({ ...(await login()), dumbname: "nobody" }), "unknown_agent");
  for (const dumbname of ["..", "a/b", "x".repeat(1000), "Swift", "swift@alpha", "é@alpha.example"]) {
    const before = node.asked;
    assert.equal(await codes({ ...(await login()), dumbname }), "bad_name", dumbname);
    assert.equal(node.asked, before, "nobody is asked for what is no name");
  }
  assert.equal(await codes({ ...(await login()), signature: 5 }), "missing_signature");
  assert.equal(await codes({ ...(await login()), timestamp: "now" }), "bad_timestamp");
  assert.equal(await codes(undefined), "no_login");
  assert.throws(() => createLogin({ client }), { code: "requirement_missing" });
  await assert.rejects(login("fama.event/1\n"), { code: "forbidden_message" });
});

// The code was a number where time ran out: that of the exception by which platforms say so.
test("nobody gets in while the node cannot be asked", async () => {
  const silent = await listen(() => undefined);
  for (const options of [{ query: "http://127.0.0.1:1" }, { query: silent, timeout: 0.1 }]) {
    const dead = new FamaClient(options);
    await assert.rejects(dead.getStatus(), (error) => error.name === "FamaError" && error.code === "no_answer" && error.cause !== undefined);
    const { ok, status, code } = await createLogin({ client: dead, audience: AUDIENCE })(await login());
    assert.deepEqual([ok, status, code], [false, 503, "no_answer"], options.query);
  }
});

test("used logins are bounded, and none is forgotten early", () => {
  const used = new UsedLogins({ max: 5, perAgentMax: 3 });
  const add = (login, agent, now) => used.add(login, agent, 10000, now);
  assert.deepEqual(["a", "b", "c", "d", "a"].map((one) => add(one, "x", 0)), ["new", "new", "new", "full", "used"]);
  assert.deepEqual(["a", "b", "c"].map((one) => add(one, "y", 0)), ["new", "new", "full"]);
  assert.deepEqual([add("a", "x", 9999), add("d", "x", 9999)], ["used", "full"]);
  assert.deepEqual([add("a", "x", 11000), add("d", "z", 11000)], ["new", "new"]);
});

test("the stream is parsed wherever it is cut, and bounded", () => {
  const text = "\uFEFFid: 1\r\nevent: key\ndata: {\"a\":\ndata:1}\n\n: nothing\n\ndata: 2\r\r\nid\ndata\n\n".slice(1);
  const whole = [];
  new EventParser((event) => whole.push(event)).push(text);
  assert.deepEqual(whole, [
    { id: "1", event: "key", data: '{"a":\n1}' }, { id: "1", event: "message", data: "2" }, { id: "", event: "message", data: "" },
  ]);
  for (let cut = 0; cut <= text.length; cut++) {
    const found = [];
    const parser = new EventParser((event) => found.push(event));
    parser.push(text.slice(0, cut));
    parser.push(text.slice(cut));
    assert.deepEqual(found, whole, `cut at ${cut}`);
  }
  assert.throws(() => new EventParser(() => undefined).push("x".repeat(70000)), { code: "event_too_long" });
  assert.throws(() => new EventParser(() => undefined).push("data: x\n".repeat(20000)), { code: "event_too_long" });
});

test("a revoked key is refused at once while the stream is followed, and soon without it", async () => {
  const own = await new Node().open();
  const agent = own.add("swift", secret, 7);
  const states = [];
  const cache = new ProfileCache(new FamaClient({ query: own.query }), { fallbackAge: 0.2, pauseMax: 0.2, onState: (state) => states.push(state) });
  closing.push(() => cache.stop());
  const check = createLogin({ client: cache.client, cache, audience: AUDIENCE });
  let count = 0;
  const once = async (dumbname = "swift") => check(await signLogin({ dumbname, message: `${AUDIENCE} ${count++}`, key: secret }));
  cache.start();
  await eventually("the stream is followed", () => cache.live);
  for (const name of ["swift", "swift@alpha.example", agent.identity.agent_id, "swift"]) assert.ok((await once(name)).ok, name);
  assert.equal(own.asked, 3, "each name once");
  own.say("checkpoint", { log: "alpha.example/1" });
  own.say("registration", { identity: "1".repeat(64), handle: "new@alpha.example", kind: "register" });
  own.say("karma", { identity: "0".repeat(64), handle: "other@alpha.example", kind: "attest" });
  await eventually("the events came", () => cache.lastEventId === "3");
  assert.equal(cache.size, 3, "they are about others");
  agent.key_status.is_revoked = true;
  own.say("key", { identity: agent.identity.agent_id, handle: "swift@alpha.example", kind: "revoke" });
  await eventually("the cache forgot the agent", () => cache.size === 0);
  for (const name of ["swift", "swift@alpha.example"]) assert.equal((await once(name)).code, "revoked", name);

  // The stream breaks: what is kept is old after a moment, and the cache says so.
  agent.key_status.is_revoked = false;
  own.hasStream = false;
  own.cut();
  await eventually("the cache knows", () => !cache.live && cache.reason.startsWith("no stream"));
  await eventually("the key is good again", async () => (await once()).ok);
  agent.key_status.is_revoked = true;
  await eventually("the key is revoked", async () => (await once()).code === "revoked");

  // It comes back and continues after the last event.
  own.hasStream = true;
  own.say("key", { identity: agent.identity.agent_id });
  await eventually("the stream is back", () => cache.live);
  assert.equal(own.resumed.at(-1), "4");
  await eventually("what was missed came", () => cache.lastEventId === "5");

  // A sponsorship changes the karma of whoever the provider rated.
  agent.key_status.is_revoked = false;
  own.say("key", { identity: agent.identity.agent_id, kind: "rotate" });
  await eventually("the key is good again", async () => (await once()).ok);

  // A suspension is known at once; a grant, which any stranger can give, makes nobody be asked for again.
  agent.key_status.is_suspended = true;
  own.say("access", { identity: agent.identity.agent_id, kind: "suspend" });
  await eventually("the agent is suspended", async () => (await once()).code === "suspended");
  agent.key_status.is_suspended = false;
  own.say("access", { identity: agent.identity.agent_id, kind: "resume" });
  await eventually("the agent is good again", async () => (await once()).ok);
  const before = own.asked;
  own.say("access", { identity: agent.identity.agent_id, kind: "grant" });
  own.say("checkpoint", { log: "alpha.example/2" });
  await eventually("the grant came", () => cache.lastEventId === "10");
  assert.ok((await once()).ok);
  assert.equal(own.asked, before);

  own.say("karma", { identity: "2".repeat(64), handle: "judge@alpha.example", kind: "dismiss" });
  await eventually("all are forgotten", () => cache.size === 0);

  // The node says why it ends the stream, and cannot resume after the last event.
  own.tooOld = "12";
  own.say("error", { code: "too_slow" });
  await eventually("the cache knows why", () => states.some((state) => state.reason === "no stream: too_slow"));
  await eventually("the stream is back", () => cache.live);
  assert.deepEqual(own.resumed.slice(-2), ["12", undefined]);
  assert.deepEqual(states.filter((state, i) => state.live !== states[i - 1]?.live).map((state) => state.live), [true, false, true, false, true]);
});

test("an answer that an event overtook is not kept", async () => {
  const own = await new Node().open();
  const agent = own.add("swift", secret);
  const cache = new ProfileCache(new FamaClient({ query: own.query }));
  closing.push(() => cache.stop());
  cache.start();
  await eventually("the stream is followed", () => cache.live);
  let go;
  own.hold = () => new Promise((done) => (go = done));
  const asked = cache.identify("swift");
  await eventually("the node was asked", () => go);
  agent.key_status.is_revoked = true;
  own.say("key", { identity: agent.identity.agent_id });
  await eventually("the event came", () => cache.lastEventId === "1");
  own.hold = () => undefined;
  go();
  assert.equal((await asked).is_revoked, true);
});

test("after an event an agent is asked for again until what it says is surely shown", async () => {
  const own = await new Node().open();
  const agent = own.add("swift", secret);
  let now = 1e12;
  const cache = new ProfileCache(new FamaClient({ query: own.query }), { now: () => now });
  closing.push(() => cache.stop());
  cache.start();
  await eventually("the stream is followed", () => cache.live);
  own.say("key", { identity: agent.identity.agent_id });
  await eventually("the event came", () => cache.lastEventId === "1");
  const asks = async (later) => {
    now += 1000 * later;
    const before = own.asked;
    await cache.identify("swift");
    return own.asked - before;
  };
  assert.deepEqual([await asks(0), await asks(4), await asks(6), await asks(6)], [1, 0, 1, 1]);
  assert.deepEqual([await asks(50), await asks(100), await asks(250)], [0, 0, 1], "settled after a minute");
});

test("a silent stream counts as dead", async () => {
  const own = await new Node().open();
  const cache = new ProfileCache(new FamaClient({ query: own.query }), { silence: 0.1 });
  closing.push(() => cache.stop());
  cache.start();
  await eventually("the stream is followed", () => cache.live);
  await eventually("it is given up", () => !cache.live && cache.reason === "no stream: silent");
});

test("the cache is bounded", async () => {
  const own = await new Node().open();
  for (let i = 0; i < 20; i++) own.add(`agent-${i}`, secret);
  const cache = new ProfileCache(new FamaClient({ query: own.query }), { entriesMax: 10, requestsMax: 5 });
  for (let i = 0; i < 20; i++) await cache.identify(`agent-${i}`);
  assert.equal(cache.size, 10);
  const all = Array.from({ length: 20 }, (_, i) => cache.identify(`agent-${i % 10}`).catch((error) => error.code));
  assert.equal((await Promise.all(all)).filter((one) => one === "busy").length, 10, "five at once, and who asks for the same");
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

/** Calls a service with a good login, with the same again, with none and with a broken header. */
async function calls(url, options = {}) {
  const good = await login(`${AUDIENCE} ${Math.random()}`);
  const ask = async (headers, body) => {
    const answer = await fetch(url, { method: "POST", headers, body });
    return [answer.status, await answer.json(), answer.headers.get("www-authenticate")];
  };
  const header = { authorization: authorization(good) };
  assert.deepEqual(await ask(header), [200, { handle: "swift@alpha.example" }, null]);
  const [status, { code }, authenticate] = await ask(header);
  assert.deepEqual([status, code, authenticate], [401, "used", "Fama"]);
  assert.equal((await ask({}))[1].code, "no_login");
  assert.equal((await ask({ authorization: "Fama x" }))[1].code, "bad_login");
  assert.equal((await ask({ authorization: "Fama bnVsbA" }))[1].code, "bad_login");
  if (options.body === false) return;
  const body = JSON.stringify(await login(`${AUDIENCE} ${Math.random()}`));
  const json = { "content-type": "application/json" };
  assert.deepEqual((await ask(json, body)).slice(0, 2), [200, { handle: "swift@alpha.example" }]);
  assert.equal((await ask(json, body))[1].code, "used");
}

test("a plain server with Express's form of middleware", async () => {
  const middleware = expressLogin({ client, audience: AUDIENCE });
  const url = await listen((request, response) => {
    middleware(request, response, () => response.end(JSON.stringify({ handle: request.agent.handle })));
  });
  await calls(url, { body: false });
});

test("Express", async (t) => {
  const express = (await framework("express", t))?.default;
  if (!express) return;
  const app = express();
  app.post("/", express.json(), expressLogin({ client, audience: AUDIENCE }), (req, res) => res.json({ handle: req.agent.handle }));
  await calls(await listen(app));
});

test("Fastify", async (t) => {
  const fastify = (await framework("fastify", t))?.default;
  if (!fastify) return;
  const app = fastify();
  app.post("/", { preHandler: fastifyLogin({ client, audience: AUDIENCE }) }, async (request) => ({ handle: request.agent.handle }));
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  closing.push(() => app.close());
  await calls(url);
});

test("Hono", async (t) => {
  const Hono = (await framework("hono", t))?.Hono;
  if (!Hono) return;
  const app = new Hono();
  app.post("/", honoLogin({ client, audience: AUDIENCE }), (context) => context.json({ handle: context.get("agent").handle }));
  const url = await listen(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = parts.length ? Buffer.concat(parts) : undefined;
    const answer = await app.fetch(new Request(`http://127.0.0.1${request.url}`, { method: request.method, headers: request.headers, body }));
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    response.end(await answer.text());
  });
  await calls(url);
});

test("a stream that falls silent is given up, also once garbage was collected", async () => {
  // A signal that only `fetch` knows is collected with what nobody refers to.
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const query = await listen((request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("id: 1.AA\nevent: open\ndata: {}\n\n");
  });
  const reasons = [];
  const onState = ({ reason }) => reasons.push(reason);
  const cache = new ProfileCache(new FamaClient({ query }), { silence: 1, onState }).start();
  await eventually("the stream is followed", () => cache.live);
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((done) => setTimeout(done, 50));
  }
  await eventually("the silence is noticed", () => reasons.length > 1);
  assert.deepEqual(reasons.slice(0, 2), ["the stream is followed", "no stream: silent"]);
  cache.stop();
});
