// Access tokens, delegations, calls and DPoP proofs, by the vectors that all implementations read.
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";

import { readFrontier, readManifest } from "../src/index.js";
import * as tokens from "../src/tokens.js";
import { fromBase64Url, toBase64Url } from "../src/bytes.js";
import { codeOf, each, load } from "./vectors.js";

const vectors = load("tokens.json");
const manifest = await readManifest(vectors.find((one) => one.type === "federation").manifest);
const { federation } = manifest;
const [good] = vectors.filter((one) => one.type === "access token" && "ok" in one);

/** Each kind of vector: its check, with what is given besides the token. */
const checks = (by, held) => ({
  "access token": ({ token, issuers, audience, now }) => {
    return by.checkAccessToken(token, { manifest: held, issuers, audience, now });
  },
  delegation: ({ token, did, key, now }) => by.checkDelegation(token, { did, key, federation, now }),
  "agent call": ({ token, agent, audience, now }) => by.checkAgentCall(token, { agent, federation, audience, now }),
  "dpop proof": ({ proof, method, uri: url, token, now }) => by.checkDpop(proof, { method, url, token, now }),
});

/** Numbers beyond 2^53 as `JSON.parse` makes them of the vectors. */
const rounded = (value) => JSON.parse(JSON.stringify(value, (_, one) => (typeof one === "bigint" ? Number(one) : one)));

async function everyVector(by, held) {
  const all = checks(by, held);
  for (const { type } of vectors) assert.ok(type === "federation" || type in all, `vectors of the kind ${type}`);
  for (const [type, check] of Object.entries(all)) {
    await each(vectors, type, async (one) => {
      let found;
      const code = await codeOf(async () => {
        found = await check(one);
      });
      assert.equal(code, one.error ?? "ok", `${type} ${one.name}`);
      if ("ok" in one) assert.deepEqual(rounded(found), one.ok, `${type} ${one.name}`);
      if (type === "agent call" && "ok" in one) assert.equal(by.callSubject(one.token), one.agent.did);
    });
  }
}

test("every vector", () => everyVector(tokens, manifest));

test("every vector in fama.js, without Node's crypto, as in a browser", async () => {
  const { process } = globalThis;
  const alone = await import("../fama.js?alone");
  // The module looks for Node's crypto once, when it first verifies a signature.
  globalThis.process = undefined;
  const held = await alone.readManifest(vectors.find((one) => one.type === "federation").manifest);
  globalThis.process = process;
  await everyVector(alone, held);
});

test("a token of which any character is changed is none", async () => {
  const { token, issuers, audience, now } = good;
  let tried = 0;
  for (let at = 0; at < token.length; at++) {
    for (const bit of [1, 2, 32]) {
      const changed = token.slice(0, at) + String.fromCharCode(token.charCodeAt(at) ^ bit) + token.slice(at + 1);
      const code = await codeOf(() => tokens.checkAccessToken(changed, { manifest, issuers, audience, now }));
      assert.notEqual(code, "ok", `character ${at}`);
      tried += 1;
    }
  }
  assert.ok(tried > 1500, String(tried));
});

test("no requirement has a default", async () => {
  const missing = (run) => codeOf(run).then((code) => assert.equal(code, "requirement_missing"));
  const { key } = vectors.find((one) => one.type === "delegation");
  const whole = {
    checkAccessToken: { manifest, issuers: good.issuers, audience: good.audience, now: good.now },
    checkDelegation: { did: "did", key, federation, now: 0 },
    checkAgentCall: { agent: { did: "did", key }, federation, audience: "audience", now: 0 },
    checkDpop: { method: "GET", url: "https://a.example", token: null, now: 0 },
  };
  for (const [name, required] of Object.entries(whole)) {
    await missing(() => tokens[name](good.token));
    for (const one of Object.keys(required)) {
      await missing(() => tokens[name](good.token, { ...required, [one]: undefined }));
      if (one === "now") await missing(() => tokens[name](good.token, { ...required, now: NaN }));
    }
  }
});

test("whatever is no text of a token is refused as such", async () => {
  const { issuers, audience, now } = good;
  for (const [token, code] of [
    [undefined, "jws_form"], [null, "jws_form"], [7, "jws_form"], [{}, "jws_form"], ["..", "jws_form"],
    ["é".repeat(9000), "jws_too_long"], ["\ud800..", "jws_form"], [".".repeat(16384), "jws_form"],
    [`${"[".repeat(8000)}..`, "jws_form"], [`${toBase64Url(Buffer.from("[".repeat(12000)))}.e30.`, "jws_form"],
    [`${toBase64Url(Buffer.from('{"alg":"ES256","__proto__":1,"__proto__":1}'))}.e30.`, "jws_form"],
    [`${toBase64Url(Buffer.from('{"typ":"at+jwt","__proto__":{"alg":"EdDSA"}}'))}.e30.`, "token_claim"],
    // A header is read before what follows it.
    [`${toBase64Url(Buffer.from('{"crit":[]}'))}.?.?.?`, "jws_header"],
  ]) {
    const required = { manifest, issuers, audience, now };
    assert.equal(await codeOf(() => tokens.checkAccessToken(token, required)), code, String(token).slice(0, 40));
  }
});

test("karma beyond 2^53 keeps its value", async () => {
  const one = vectors.find(({ name }) => name === "the smallest karma");
  const { issuers, audience, now } = one;
  const { karma } = await tokens.checkAccessToken(one.token, { manifest, issuers, audience, now });
  assert.equal(karma, -(2n ** 63n));
});

test("signatures on P-256 with s of either half, and none with numbers out of range", async () => {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { kty, crv, x, y } = pair.publicKey.export({ format: "jwk" });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const header = part({ alg: "ES256", typ: "dpop+jwt", jwk: { kty, crv, x, y } });
  const input = `${header}.${part({ htm: "GET", htu: "https://a.example/", iat: 100, jti: "x" })}`;
  const bytes = sign("sha256", Buffer.from(input), { key: pair.privateKey, dsaEncoding: "ieee-p1363" });
  const [r, s] = [bytes.subarray(0, 32), BigInt(`0x${bytes.subarray(32).toString("hex")}`)];
  const number = (value) => Buffer.from(value.toString(16).padStart(64, "0"), "hex");
  const check = (...halves) => {
    const proof = `${input}.${Buffer.concat(halves).toString("base64url")}`;
    return codeOf(() => tokens.checkDpop(proof, { method: "GET", url: "https://a.example/", token: null, now: 100 }));
  };
  for (const half of [s, order - s]) assert.equal(await check(r, number(half)), "ok");
  for (const half of [0n, order, order + 1n, s + 1n]) assert.equal(await check(r, number(half)), "jws_signature");
  for (const first of [0n, order]) assert.equal(await check(number(first), number(s)), "jws_signature");
  assert.equal(await check(r), "jws_signature");
  assert.equal(await check(r, number(s), Buffer.from([0])), "jws_signature");
});

test("a key's members are texts", async () => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const { x } = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
  const good = { kty: "OKP", crv: "Ed25519", x };
  const check = (jwk) => {
    const input = `${part({ alg: "EdDSA", typ: "dpop+jwt", jwk })}.${part({})}`;
    const proof = `${input}.${Buffer.alloc(64).toString("base64url")}`;
    return codeOf(() => tokens.checkDpop(proof, { method: "GET", url: "https://a.example/", token: null, now: 100 }));
  };
  assert.equal(await check(good), "jws_signature");
  assert.equal(await check({ ...good, more: 1 }), "jws_signature");
  for (const wrong of [
    { kty: ["OKP"] }, { crv: ["Ed25519"] }, { x: [x] }, { x: `${x}=` }, { x: x.slice(1) }, { kty: "EC" },
    { d: null }, { k: "" },
  ]) {
    assert.equal(await check({ ...good, ...wrong }), "jws_key", JSON.stringify(wrong));
  }
  for (const jwk of [null, [], "x", 7, {}]) assert.equal(await check(jwk), "jws_key");
});

test("base64 for URLs has one form", () => {
  for (let length = 0; length < 70; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 255);
    const text = toBase64Url(bytes);
    assert.equal(text, Buffer.from(bytes).toString("base64url"));
    assert.deepEqual(fromBase64Url(text), bytes);
    for (const other of [`${text}=`, `${text}==`, ` ${text}`, `${text}\n`, `${text}+`, `${text}/`]) {
      assert.equal(fromBase64Url(other), null, other);
    }
    for (const last of "ABEIQgw_") {
      const other = text.slice(0, -1) + last;
      if (fromBase64Url(other) !== null) assert.equal(toBase64Url(fromBase64Url(other)), other);
    }
  }
  for (const text of ["A", "AB", "AAB", "AAAAA", "A=", "AA==", "+A", "/A", "é", "\u0000\u0000"]) {
    assert.equal(fromBase64Url(text), null, text);
  }
});

test("frontiers", () => {
  const [version, count] = [manifest.version, manifest.logs.size];
  const encoded = (...bytes) => Buffer.from(bytes).toString("base64url");
  const sizes = (text) => [...readFrontier(text, manifest).values()];
  const zeros = Array.from({ length: count - 1 }, () => 0);
  const [first] = [...manifest.logs.keys()].sort();
  assert.deepEqual([...readFrontier(`${version}.${encoded(5, ...zeros)}`, manifest).keys()][0], first);
  assert.deepEqual(sizes(`${version}.${encoded(0xac, 0x02, ...zeros)}`), [300, ...zeros]);
  assert.deepEqual(sizes(`${version}.${encoded(...Array(8).fill(0xff), 0x7f, ...zeros)}`)[0], 2 ** 63);
  const codes = [
    [`${version + 1}.${encoded(0, ...zeros)}`, "later_version"], [`${version + 1}.?`, "bad_cursor"],
    [`${2 ** 32 - 1}.`, "later_version"], [`${2 ** 32}.`, "bad_cursor"],
    [`0.${encoded(0, ...zeros)}`, "bad_cursor"], [`${version}.${encoded(...zeros)}`, "bad_cursor"],
    [`${version}.${encoded(0, 0, ...zeros)}`, "bad_cursor"], [`${version}.${encoded(...zeros, 0x80)}`, "bad_cursor"],
    [`${version}.${encoded(...Array(9).fill(0xff), 1, ...zeros)}`, "bad_cursor"],
    [`v${version}.AAAA`, "bad_cursor"], ["-1.AAAA", "bad_cursor"], ["", "bad_cursor"],
    [`${"9".repeat(11)}.`, "bad_cursor"],
  ];
  for (const [text, code] of codes) {
    assert.throws(() => readFrontier(text, manifest), { code }, text);
  }
});
