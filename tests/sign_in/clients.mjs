// Other people's JavaScript software signs in and checks tokens: oauth4webapi, jose and dpop, as their users have them.
//
// The test that starts this gives a federation in `FAMA_SIGN_IN`, as JSON. `routes` stands in for the name service and TLS: the
// origins there are those of the test's listeners. What fails ends the program with an error.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// The packages are those of the client for JavaScript.
const { resolve } = createRequire(new URL("../../node/clients/js/package.json", import.meta.url));
const load = async (name) => import(pathToFileURL(resolve(name)));
const [oauth, jose, dpop] = [await load("oauth4webapi"), await load("jose"), await load("dpop")];

const given = JSON.parse(process.env.FAMA_SIGN_IN);
const { resource } = given;
const [first, second] = given.issuers;

function routed(url, options) {
  const text = String(url);
  const origin = Object.keys(given.routes).find((one) => text.startsWith(`${one}/`));
  return fetch(origin ? given.routes[origin] + text.slice(origin.length) : text, options);
}

const through = { [oauth.customFetch]: routed };

async function discover(issuer) {
  const url = new URL(issuer);
  const answer = await oauth.discoveryRequest(url, { algorithm: "oauth2", ...through });
  return oauth.processDiscoveryResponse(url, answer);
}

/** Gets a token, asks about it and revokes it. */
async function life(issuer, client, auth, more, options = {}) {
  const server = await discover(issuer);
  const want = new URLSearchParams({ resource, scope: "read", ...more });
  const asked = await oauth.clientCredentialsGrantRequest(server, client, auth, want, { ...through, ...options });
  const token = await oauth.processClientCredentialsResponse(server, client, asked);
  assert.equal(token.scope, "read");
  const ask = async () => {
    const parameters = { additionalParameters: new URLSearchParams(more) };
    const about = await oauth.introspectionRequest(server, client, auth, token.access_token, { ...through, ...parameters });
    return oauth.processIntrospectionResponse(server, client, about);
  };
  const answer = await ask();
  assert.equal(answer.active, true);
  assert.equal(answer.client_id, client.client_id);
  const revoked = await oauth.revocationRequest(server, client, auth, token.access_token, {
    ...through,
    additionalParameters: new URLSearchParams(more),
  });
  await oauth.processRevocationResponse(revoked);
  assert.deepEqual(await ask(), { active: false });
  return token;
}

async function keyOf(agent) {
  return crypto.subtle.importKey("pkcs8", der(readFileSync(agent.key, "utf8")), { name: "Ed25519" }, false, ["sign"]);
}

function der(pem) {
  return Buffer.from(pem.replace(/-----[A-Z ]+-----/g, "").replace(/\s/g, ""), "base64");
}

const parts = {
  /** An identity with an Ed25519 key, and one on secp256k1 by a delegated key: WebCrypto has no secp256k1. */
  async oauth4webapi() {
    const [, ed, delegated] = [...given.agents, given.delegated];
    for (const issuer of given.issuers) {
      const own = await life(issuer, { client_id: ed.handle }, oauth.PrivateKeyJwt(await keyOf(ed)), {});
      assert.equal(own.token_type, "bearer");
      const key = await jose.importJWK(delegated.jwk, "ES256");
      const more = { fama_delegation: delegated.delegation };
      const { access_token: text } = await life(issuer, { client_id: delegated.handle }, oauth.PrivateKeyJwt(key), more);
      assert.equal(jose.decodeJwt(text).act.sub, delegated.process);
    }
    // A scope that nobody granted, in the words of the RFC.
    const client = { client_id: ed.handle };
    const server = await discover(first);
    const want = new URLSearchParams({ resource, scope: "delete" });
    const auth = oauth.PrivateKeyJwt(await keyOf(ed));
    const asked = await oauth.clientCredentialsGrantRequest(server, client, auth, want, through);
    const refused = (error) => error instanceof oauth.ResponseBodyError && error.error === "invalid_scope";
    await assert.rejects(oauth.processClientCredentialsResponse(server, client, asked), refused);
    // Another's key: the body says why.
    const other = oauth.PrivateKeyJwt((await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign"])).privateKey);
    const stranger = await oauth.clientCredentialsGrantRequest(server, client, other, want, through);
    const unknown = (error) => error instanceof oauth.ResponseBodyError && error.error === "invalid_client";
    await assert.rejects(oauth.processClientCredentialsResponse(server, client, stranger), unknown);
  },

  /** Tokens bound to a key: oauth4webapi's own proofs, and those of the package dpop. */
  async dpop() {
    const [, ed] = given.agents;
    const client = { client_id: ed.handle };
    const auth = oauth.PrivateKeyJwt(await keyOf(ed));
    for (const algorithm of ["ES256", "Ed25519"]) {
      const pair = await oauth.generateKeyPair(algorithm, { extractable: true });
      const handle = oauth.DPoP(client, pair);
      const token = await life(first, client, auth, {}, { DPoP: handle });
      assert.equal(token.token_type, "dpop");
      const thumbprint = await jose.calculateJwkThumbprint(await jose.exportJWK(pair.publicKey));
      assert.equal(jose.decodeJwt(token.access_token).cnf.jkt, thumbprint);
    }
    const server = await discover(first);
    const pair = await dpop.generateKeyPair("ES256");
    const proof = await dpop.generateProof(pair, server.token_endpoint, "POST");
    const want = new URLSearchParams({ resource, scope: "read" });
    const headers = new Headers({ dpop: proof });
    const ask = () => oauth.clientCredentialsGrantRequest(server, client, auth, want, { ...through, headers });
    const answer = await (await ask()).json();
    assert.equal(answer.token_type, "DPoP");
    assert.equal(jose.decodeJwt(answer.access_token).cnf.jkt, await dpop.calculateThumbprint(pair.publicKey));
    const again = await ask();
    assert.deepEqual([again.status, (await again.json()).error], [400, "invalid_dpop_proof"], "a proof works once");
    for (const [uri, method] of [[server.introspection_endpoint, "POST"], [server.token_endpoint, "GET"]]) {
      headers.set("dpop", await dpop.generateProof(pair, uri, method));
      assert.equal((await (await ask()).json()).error, "invalid_dpop_proof", "a proof of another request");
    }
  },

  /** The protocol's SDK signs in at an MCP server with an Ed25519 key, and with a delegated key. */
  async mcp() {
    const sdk = (path) => load(`@modelcontextprotocol/sdk/client/${path}`);
    const [{ Client }, { StreamableHTTPClientTransport }] = [await sdk("index.js"), await sdk("streamableHttp.js")];
    const { PrivateKeyJwtProvider, createPrivateKeyJwtAuth } = await sdk("auth-extensions.js");
    const [, ed, delegated] = [...given.agents, given.delegated];
    const whoami = async (provider) => {
      const client = new Client({ name: "test", version: "1" });
      const transport = new StreamableHTTPClientTransport(new URL(given.mcp), { authProvider: provider, fetch: routed });
      await client.connect(transport);
      const { content } = await client.callTool({ name: "whoami", arguments: {} });
      await client.close();
      return content.map((block) => block.text ?? "").join("");
    };
    const common = { expectedIssuer: first, scope: "read" };
    const privateKey = await jose.exportJWK(await jose.importPKCS8(readFileSync(ed.key, "utf8"), "EdDSA", { extractable: true }));
    const own = new PrivateKeyJwtProvider({ clientId: ed.handle, privateKey, algorithm: "EdDSA", ...common });
    assert.match(await whoami(own), new RegExp(ed.handle));
    const [issuer, claims] = [delegated.handle, { fama_delegation: delegated.delegation }];
    const process = new PrivateKeyJwtProvider({ clientId: issuer, privateKey: delegated.jwk, algorithm: "ES256", ...common });
    process.addClientAuthentication = createPrivateKeyJwtAuth({
      issuer, subject: issuer, privateKey: delegated.jwk, alg: "ES256", claims,
    });
    assert.match(await whoami(process), new RegExp(delegated.process));
  },

  /** A token holds with its issuer's set as another operator's node serves it, and a set holds for its own issuer only. */
  async jose() {
    const sets = Object.fromEntries(given.issuers.map((one) => [one, jose.createRemoteJWKSet(new URL(given.sets[one]))]));
    const verify = (token, issuer) => {
      const wanted = { issuer, audience: resource, algorithms: ["EdDSA"], typ: "at+jwt", requiredClaims: ["exp", "jti", "sub"] };
      return jose.jwtVerify(token, sets[issuer], wanted);
    };
    const { payload } = await verify(given.tokens[first], first);
    assert.deepEqual([payload.sub, payload.scope], [given.agents[0].did, "pay read"]);
    await verify(given.tokens[second], second);
    await assert.rejects(verify(given.lie, second), { code: "ERR_JWKS_NO_MATCHING_KEY" });
    await assert.rejects(verify(given.tokens[first], second), { code: "ERR_JWKS_NO_MATCHING_KEY" });
    await assert.rejects(verify(given.tokens[second], first), { code: "ERR_JWKS_NO_MATCHING_KEY" });
  },
};

await parts[process.argv[2]]();
