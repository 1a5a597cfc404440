// A page of another origin uses the client that a node serves, against two nodes of one federation.
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer as serveHttp } from "node:http";
import { connect, createServer } from "node:net";

import { FamaClient, eventText, signLogin } from "../../node/clients/js/fama.js";
import { STRANGER, axe, journey, screenshot, serve } from "./driver.mjs";

const MAX_AGE = 600;

const pem = (pair) => ({
  secret: pair.privateKey.export({ type: "pkcs8", format: "pem" }), public: pair.publicKey.export({ type: "spki", format: "pem" }),
});
const keys = {
  ed25519: () => pem(generateKeyPairSync("ed25519")),
  secp256k1: () => pem(generateKeyPairSync("ec", { namedCurve: "secp256k1" })),
};

await journey(async (browser, { nodes: [home, other], genesis }) => {
  const port = await serve({ "/": readFileSync(new URL("page.html", import.meta.url)) });
  const open = async (page, parameters, host = "127.0.0.1") => {
    await page.goto(`http://${host}:${port}/?${new URLSearchParams(parameters)}`);
    await page.waitForFunction(() => globalThis.fama);
    return page;
  };
  const client = new FamaClient(home);
  const agents = {};
  for (const [curve, make] of Object.entries(keys)) {
    const [first, next] = [make(), make()];
    const { handle } = await client.register({ dumbname: curve, key: first.secret, next: next.public, wait: true });
    agents[curve] = { handle, first, next };
  }
  const page = await open(await browser.page(), { node: other.query });

  // Questions and logins, with no other address known than the one that the module came from.
  for (const { handle, first } of Object.values(agents)) {
    const shown = await page.evaluate((name) => fama.getAgent(name), handle);
    assert.deepEqual([shown.identity.handle, shown.key_status.is_revoked], [handle, false]);
    const login = await signLogin({ dumbname: handle, message: "challenge", key: first.secret });
    const verified = (one) => page.evaluate((given) => fama.verify(given), one);
    assert.equal((await verified(login)).verified, true, handle);
    assert.equal((await verified({ ...login, message: "another" })).code, "bad_signature");
  }
  const { agents: leaders } = await page.evaluate(() => fama.getLeaderboard());
  assert.deepEqual(leaders.map((one) => one.handle).sort(), Object.values(agents).map(({ handle }) => handle));

  // A page that had asked less than a second before it heard of a rotation showed the old key until the next event: the
  // browser answered from its cache, as the node's `max-age=1` allows. The module asks again even where more is allowed.
  let count = 0;
  const headers = { "access-control-allow-origin": "*", "cache-control": "public, max-age=600" };
  const cached = serveHttp((_, response) => response.writeHead(200, headers).end(String(count += 1)));
  await new Promise((done) => cached.listen(0, "127.0.0.1", done));
  const counts = await page.evaluate(async (query) => {
    const own = new fama.FamaClient({ query });
    return [await own.getStatus(), await own.getStatus()];
  }, `http://127.0.0.1:${cached.address().port}`);
  assert.deepEqual(counts, [1, 2]);

  // A proof, checked by WebCrypto against the genesis, and with single bits flipped.
  const question = agents.secp256k1.handle;
  const check = async ([name, manifest, maxAge]) => {
    let verified = 0;
    const { verify } = SubtleCrypto.prototype;
    SubtleCrypto.prototype.verify = function (...given) {
      verified += 1;
      return verify.apply(this, given);
    };
    const bytes = new TextEncoder().encode(await fama.getProof(name));
    const requirements = { question: name, maxAge, missing: 0, now: Math.floor(Date.now() / 1000) };
    const proven = await fama.verifyProof(bytes, manifest, requirements);
    const accepted = [];
    const at = Array.from({ length: 32 }, (_, i) => Math.floor((i * bytes.length) / 32));
    for (const i of at) {
      const flipped = bytes.slice();
      flipped[i] ^= 1;
      await fama.verifyProof(flipped, manifest, requirements).then(() => accepted.push(i), ({ code }) => code ?? accepted.push(i));
    }
    SubtleCrypto.prototype.verify = verify;
    return { handle: proven.agent.handle, accepted, verified };
  };
  const { verified, ...proven } = await page.evaluate(check, [question, genesis, MAX_AGE]);
  assert.deepEqual(proven, { handle: question, accepted: [] });
  assert.ok(verified >= 4, `${verified} signatures of two nodes on two heads`);

  // Events from the browser: one that was signed elsewhere, one that a key outside of the page signs when asked.
  const { federation } = await client.getStatus();
  const elsewhere = keys.ed25519();
  await page.exposeFunction("signElsewhere", (text) => sign(null, Buffer.from(text), elsewhere.secret).toString("base64"));
  const receipt = await page.evaluate(async ([options, public_key]) => {
    const base64 = async (text) => Uint8Array.from(atob(await signElsewhere(text)), (byte) => byte.charCodeAt(0));
    const own = new fama.FamaClient(options);
    const signs = (bytes) => base64(new TextDecoder().decode(bytes));
    return own.register({ dumbname: "from-a-page", bio: "of a browser", public_key, sign: signs, wait: true });
  }, [{ ...other, genesis, maxAge: MAX_AGE, missing: 0 }, elsewhere.public]);
  const [, homeName] = receipt.handle.split("@");
  assert.equal(receipt.final, true);
  const { agent_id, key } = await new FamaClient(home).identify(receipt.handle);
  const text = eventText({
    federation: federation.id, kind: "revoke", home: homeName, identity: agent_id, version: "1", key, reason: "superseded",
  });
  const signature = sign(null, Buffer.from(text), elsewhere.secret).toString("base64");
  const submitted = await page.evaluate(async ([to, body, headers]) => {
    const answer = await fetch(`${to}/events?wait=final`, { method: "POST", body, headers });
    return [answer.status, await answer.json()];
  }, [home.submit, text, { "fama-signature": signature }]);
  assert.deepEqual([submitted[0], submitted[1].final], [201, true]);

  // The other node's stream, through a connection that breaks: the page hears of a rotation, and of one that it missed.
  const sockets = new Set();
  const target = new URL(other.query);
  let refusals = 0;
  const between = createServer((near) => {
    if (refusals-- > 0) return near.end("HTTP/1.1 503 Starting\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    const far = connect(target.port, target.hostname);
    for (const socket of [near, far]) socket.on("error", () => socket.destroy()).on("close", () => (near.destroy(), far.destroy()));
    return sockets.add(near.pipe(far).pipe(near));
  });
  await new Promise((done) => between.listen(0, "127.0.0.1", done));
  const { handle, first, next } = agents.ed25519;
  const watched = await open(await browser.page({ dark: true, phone: true }), {
    node: `http://127.0.0.1:${between.address().port}`, agent: handle,
  });
  const shows = (what) => watched.getByText(`${handle}: ${what}`, { exact: true }).waitFor();
  await shows("key 1 is good");
  const later = keys.ed25519();
  await client.rotateKey({ dumbname: handle, key: first.secret, new_key: next.secret, next: later.public });
  await shows("key 2 is good");
  assert.deepEqual(await axe(watched), []);
  await screenshot(watched, "watched-dark-phone");
  const { port: again } = between.address();
  await new Promise((done) => {
    between.close(done);
    for (const socket of sockets) socket.destroy();
  });
  await client.revokeKey({ dumbname: handle, key: next.secret, wait: true });
  // As a proxy whose node restarts answers at first.
  refusals = 1;
  between.listen(again, "127.0.0.1");
  await shows("key 2 is revoked");
  assert.ok(refusals < 0, "the page was refused once");
  // What the browser says of connections that broke and of the refusal.
  browser.errors = browser.errors.filter((error) => !/net::ERR_|blocked by CORS policy/.test(error));

  // Plain http from a stranger: no WebCrypto. What needs it says so, and all else works.
  const plain = await open(await browser.page(), { node: other.query }, STRANGER);
  assert.equal(await plain.evaluate(() => crypto.subtle), undefined);
  const login = (curve) => signLogin({ dumbname: agents[curve].handle, message: "challenge", key: agents[curve].first.secret });
  const codeOf = (one) => plain.evaluate((given) => fama.verify(given).then(({ verified }) => verified, ({ code }) => code), one);
  assert.equal(await codeOf(await login("secp256k1")), true);
  assert.equal(await codeOf(await login("ed25519")), "no_webcrypto");
  const refused = await plain.evaluate(async ([name, manifest, maxAge]) => {
    const requirements = { question: name, maxAge, missing: 0, now: Math.floor(Date.now() / 1000) };
    return fama.verifyProof(await fama.getProof(name), manifest, requirements).catch(({ code, message }) => ({ code, message }));
  }, [question, genesis, MAX_AGE]);
  assert.equal(refused.code, "no_webcrypto");
  assert.match(refused.message, /https/);
});
