// Sign in with Fama, with nothing but Node.js: node login_server.mjs NODE_URL PORT MIN_KARMA
import { createPublicKey, verify } from "node:crypto";
import { createServer } from "node:http";

const [node, port, minKarma] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const AUDIENCE = "login to shop.example"; // what agents sign: a login for another service is worth nothing here
const WINDOW = 300_000, AGENTS_MAX = 100_000, PROFILES_MAX = 10_000, BODY_MAX = 65_536; // ms, bytes
class Refused extends Error { constructor(status, code) { super(code); this.status = status; } }

// By name: { profile, at }. Kept for 10 s, and for 300 s while the node's stream says what changes.
const profiles = new Map();
let maxAge = 10_000, changes = 0;
async function profileOf(name) {
  const kept = profiles.get(name);
  if (kept && Date.now() - kept.at < maxAge) return kept.profile;
  const [before, at, url] = [changes, Date.now(), `${node}/api/agent/${encodeURIComponent(name)}`];
  const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) }).catch(() => ({ status: 503 }));
  if (!answer.ok) throw answer.status < 500 ? new Refused(401, "unknown_agent") : new Refused(503, "unreachable");
  const profile = await answer.json();
  if (profile.identity.handle !== name) throw new Refused(401, "wrong_agent");
  if (profiles.size >= PROFILES_MAX) profiles.delete(profiles.keys().next().value);
  if (before === changes) profiles.set(name, { profile, at });
  return profile;
}

function signedBy(pem, text, base64) {
  const [key, data, signature] = [createPublicKey(pem), Buffer.from(text), Buffer.from(base64, "base64")];
  if (key.asymmetricKeyType === "ed25519") return verify(null, data, key, signature);
  return ["der", "ieee-p1363"].some((dsaEncoding) => verify("sha256", data, { key, dsaEncoding }, signature));
}

function timeOf(text) { // strict RFC 3339 with Z, in ms
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/.test(text) ? new Date(text) : new Date(NaN);
  if (isNaN(time) || !time.toISOString().startsWith(text.slice(0, 19))) throw new Refused(400, "bad_timestamp");
  return time.getTime();
}

// The newest time of each agent's logins: an agent's times must grow, so no login works twice.
const newest = new Map();
async function login({ dumbname, timestamp, signature }) {
  for (const text of [dumbname, timestamp, signature]) if (typeof text !== "string") throw new Refused(400, "missing_field");
  if (!/^[a-z0-9-]+@[a-z0-9.-]+$/.test(dumbname)) throw new Refused(400, "bad_name"); // a whole handle, the same at every node
  const time = timeOf(timestamp);
  if (Math.abs(Date.now() - time) > WINDOW) throw new Refused(401, "expired");
  const profile = await profileOf(dumbname), agent = profile.identity.agent_id;
  if (!signedBy(profile.identity.public_key, dumbname + timestamp + AUDIENCE, signature)) throw new Refused(401, "bad_signature");
  if (profile.key_status.is_revoked) throw new Refused(401, "revoked");
  if (profile.key_status.is_suspended) throw new Refused(401, "suspended");
  if (profile.reputation.global_score < minKarma) throw new Refused(403, "low_karma");
  if (time <= (newest.get(agent) ?? 0)) throw new Refused(401, "replayed");
  if (newest.size >= AGENTS_MAX) for (const [old, at] of newest) if (at < Date.now() - WINDOW) newest.delete(old);
  if (newest.size >= AGENTS_MAX) throw new Refused(503, "busy");
  newest.set(agent, time);
  return { handle: profile.identity.handle, karma: profile.reputation.global_score };
}

async function follow() { // forever: a stream that ends, or a node without one, is tried again
  const answer = await fetch(`${node}/api/stream`, { headers: { accept: "text/event-stream" } });
  if (!answer.ok) return;
  profiles.clear(); changes++; maxAge = 300_000;
  let rest = "";
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split(/\r?\n/);
    rest = lines.pop().slice(0, BODY_MAX);
    for (const { identity } of lines.filter((line) => line.startsWith("data:")).map((line) => JSON.parse(line.slice(5)))) {
      changes++;
      for (const [name, { profile }] of profiles) if (profile.identity.agent_id === identity) profiles.delete(name);
    }
  }
}
(function again() { follow().catch(() => {}).finally(() => { maxAge = 10_000; setTimeout(again, 1_000); }); })();
createServer(async (request, response) => {
  const answer = (status, body) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  try {
    if (request.method !== "POST" || request.url !== "/login") throw new Refused(404, "not_found");
    let body = "", read; request.setEncoding("utf8");
    for await (const chunk of request) if ((body += chunk).length > BODY_MAX) throw new Refused(413, "body_too_large");
    try { read = JSON.parse(body) ?? {}; } catch { throw new Refused(400, "bad_json"); }
    answer(200, await login(read));
  } catch (error) { answer(error.status ?? 500, { code: error.status ? error.message : "internal" }); }
}).listen(port, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${port}`));
