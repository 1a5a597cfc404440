// What agents show to a service, checked without I/O: access tokens, delegations, calls, DPoP proofs (PROTOCOL.md,
// Signed JSON).
import { FamaError, must, refuse, stated } from "./error.js";
import { U32_MAX } from "./bounds.js";
import { fromBase64Url, fromUtf8, join, toBase64Url, utf8 } from "./bytes.js";
import { sha256 } from "./hash.js";
import { big, p256OnCurve } from "./groups.js";
import { p256Holds } from "./runtime.js";
import { checkKey, parseKey, verifyEdge } from "./keys.js";
import { HASH, KINDS } from "./texts.js";
import { compareLogs } from "./notes.js";
import { readJson } from "./json.js";
import { readManifest } from "./manifest.js";

const JWS_BYTES_MAX = 16384;
const JSON_DEPTH_MAX = 127;
/** How far two clocks may differ. All times here are in seconds. */
const SKEW_SECONDS = 30;
const TOKEN_SECONDS_MAX = 900;
const DELEGATION_SECONDS_MAX = 86400;
const CALL_SECONDS_MAX = 60;
const DPOP_AGE_SECONDS = 60;
const JTI_BYTES_MAX = 128;
const SCOPES_MAX = 64;
const RESOURCES_MAX = 16;

// ---- JSON Web Signatures ----

/** Members of a header by which a sender would say how to check what it sends. */
const HEADER_REFUSED = ["b64", "crit", "jku", "x5c", "x5t", "x5t#S256", "x5u"];
const ALGORITHMS = { secp256k1: ["ES256K"], ed25519: ["EdDSA", "Ed25519"], p256: ["ES256"] };
const wrongForm = (what) => refuse("jws_form", `not a compact JWS: ${what}`);

/** A whole number between -2^63 and 2^64 - 1: a BigInt if it is not safe as a number. */
function wholeNumber(text) {
  const value = BigInt(text);
  if (text === "-0" || value < -(2n ** 63n) || value >= 2n ** 64n) wrongForm("a number that is not read here");
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function scalar(text) {
  const known = { true: true, false: false, null: null };
  return Object.hasOwn(known, text) ? known[text] : wholeNumber(text);
}

const part = (text) => fromBase64Url(text) ?? wrongForm("not base64url");

function objectIn(text) {
  const json = fromUtf8(part(text)) ?? wrongForm("not UTF-8");
  const value = readJson(json, { depthMax: JSON_DEPTH_MAX, scalar, wrong: wrongForm });
  return value instanceof Map ? value : wrongForm("no JSON object");
}

/** A JWS of which nothing is verified but its form; `jwk`: whether it brings its own key. */
function parseJws(text, { jwk = false } = {}) {
  if (typeof text !== "string") wrongForm("want a text");
  const isShort = text.length <= JWS_BYTES_MAX && utf8(text).length <= JWS_BYTES_MAX;
  must(isShort, "jws_too_long", `more than ${JWS_BYTES_MAX} bytes`);
  const [first, last] = [text.indexOf("."), text.lastIndexOf(".")];
  if (first === last) wrongForm("want three parts");
  const header = objectIn(text.slice(0, first));
  const refused = HEADER_REFUSED.find((name) => header.has(name));
  must(!refused, "jws_header", `the header has the member ${refused}`);
  const [claims, signature] = [objectIn(text.slice(first + 1, last)), part(text.slice(last + 1))];
  must(jwk || !header.has("jwk"), "jws_header", "the header has the member jwk");
  return { header, claims, signature, input: utf8(text.slice(0, last)) };
}

/** Refuses another type; without regard to case, and with or without `application/` (RFC 7515). */
function expectType({ header }, wanted) {
  const said = header.get("typ");
  const found = typeof said === "string" ? said.replace(/[A-Z]/g, (letter) => letter.toLowerCase()) : "";
  must(found.replace(/^application\//, "") === wanted, "jws_type", `want the type ${wanted}`);
}

/** Refuses unless the key signed, by an algorithm that the key has, whatever the header says. */
async function verifyJws({ header, input, signature }, key) {
  must(ALGORITHMS[key.curve].includes(header.get("alg")), "jws_algorithm", `want ${ALGORITHMS[key.curve]}`);
  let holds = signature.length === 64;
  if (holds && key.curve === "p256") {
    holds = await p256Holds(key.bytes, input, signature);
  } else if (holds) {
    holds = await verifyEdge(key, input, signature).then(() => true, (error) => {
      if (error instanceof FamaError && error.code.startsWith("signature_")) return false;
      throw error;
    });
  }
  must(holds, "jws_signature", "the signature does not hold");
}

/** The key in a JWK, on Ed25519 or P-256, with the members that its thumbprint needs, in their order. */
function keyOfJwk(jwk) {
  const sound = (holds, what) => must(holds, "jws_key", `not a public JWK on Ed25519 or P-256: ${what}`);
  sound(jwk instanceof Map, "no object");
  sound(!jwk.has("d") && !jwk.has("k"), "it has a secret");
  const [kty, crv] = [jwk.get("kty"), jwk.get("crv")];
  const isP256 = kty === "EC" && crv === "P-256";
  sound(isP256 || (kty === "OKP" && crv === "Ed25519"), "another kind of key");
  const names = isP256 ? ["x", "y"] : ["x"];
  const numbers = names.map((name) => {
    const bytes = typeof jwk.get(name) === "string" ? fromBase64Url(jwk.get(name)) : null;
    sound(bytes?.length === 32, `${name}: want 32 bytes`);
    return bytes;
  });
  const own = Object.fromEntries([["crv", crv], ["kty", kty], ...names.map((name) => [name, jwk.get(name)])]);
  if (isP256) {
    sound(p256OnCurve(...numbers.map(big)), "off its curve");
    return { curve: "p256", bytes: join([4], ...numbers), jwk: own };
  }
  try {
    return { ...checkKey({ curve: "ed25519", bytes: numbers[0] }), jwk: own };
  } catch (error) {
    return sound(false, error.code);
  }
}

const thumbprint = (jwk) => toBase64Url(sha256(utf8(JSON.stringify(jwk))));
const edThumbprint = ({ bytes }) => thumbprint({ crv: "Ed25519", kty: "OKP", x: toBase64Url(bytes) });

// ---- Claims ----

const wantClaim = (holds, name) => must(holds, "token_claim", `the claim ${name} is missing or malformed`);

function textOf(claims, name) {
  const value = claims.get(name);
  wantClaim(typeof value === "string", name);
  return value;
}

/** A whole number that is not negative: seconds since 1970, or a count. */
function countOf(claims, name) {
  const value = claims.get(name);
  wantClaim((typeof value === "number" || typeof value === "bigint") && value >= 0, name);
  return value;
}

function idOf(claims) {
  const id = textOf(claims, "jti");
  wantClaim(id !== "" && utf8(id).length <= JTI_BYTES_MAX, "jti");
  return id;
}

/** Words with single spaces between them, each once. */
function scopesOf(claims) {
  const scopes = textOf(claims, "scope").split(" ");
  const sound = scopes.length <= SCOPES_MAX && new Set(scopes).size === scopes.length;
  wantClaim(sound && scopes.every(KINDS.grant.scope.holds), "scope");
  return scopes;
}

/** The text `name` in the object `of`; null if there is no such claim. */
function textWithin(claims, of, name) {
  if (!claims.has(of)) return null;
  const value = claims.get(of);
  const text = value instanceof Map ? value.get(name) : undefined;
  wantClaim(typeof text === "string", of);
  return text;
}

/** `aud` as one text: in a list, others could be meant too. */
function expectAudience(claims, wanted) {
  must(textOf(claims, "aud") === wanted, "token_audience", `it is not for ${wanted}`);
}

function expectIssuer(claims, did) {
  must(textOf(claims, "iss") === did, "token_identity", `it is not of ${did}`);
}

/** What has ended has ended: the skew is for a signer's clock that is ahead. */
function checkLifetime(issued, expires, max, now) {
  must(issued <= now + SKEW_SECONDS, "token_early", "it begins later than now, by this clock");
  must(Number(expires) - Number(issued) <= max, "token_lifetime", `it lasts longer than ${max} seconds`);
  must(now < expires, "token_expired", "it has ended");
}

/** The caller's clock in whole seconds. */
function secondsNow(now) {
  stated(Number.isFinite(now), "now, in seconds since 1970");
  return Math.floor(now);
}

// ---- Access tokens ----

/** Verifies by the token key that the header names, or by any of the operator's if it names none. */
async function verifyByOperator(jws, operator) {
  const named = jws.header.get("kid");
  let last = new FamaError("token_key", "no operator's token key signed this");
  for (const key of operator.tokenKeys) {
    if (typeof named === "string" && named !== edThumbprint(key)) continue;
    try {
      return await verifyJws(jws, key);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/**
 * Checks an access token: one operator's word about an agent, for one service. Nothing has a default.
 *
 * - `manifest`: the newest that is held, of `readManifest`: it has the issuers' keys.
 * - `issuers`: the origins of the issuers that are accepted. A key counts for its own issuer only.
 * - `audience`: the service's own name, compared as a text.
 * - `now`: seconds since 1970.
 *
 * Rejects with a `FamaError`: `jws_…` and `token_…`. What was withdrawn since it was issued, only the ledger says.
 */
export async function checkAccessToken(token, { manifest, issuers, audience, now } = {}) {
  stated(manifest !== undefined, "manifest");
  stated(Array.isArray(issuers), "issuers, a list");
  stated(typeof audience === "string", "audience");
  const at = secondsNow(now);
  const held = await readManifest(manifest);
  const jws = parseJws(token);
  expectType(jws, "at+jwt");
  const { claims } = jws;
  const issuer = textOf(claims, "iss");
  must(issuers.includes(issuer), "token_issuer", "the issuer is not among those accepted");
  const operator = [...held.operators.values()].find((one) => one.issuer === issuer);
  must(operator, "token_key", "no operator has this issuer");
  await verifyByOperator(jws, operator);
  const read = readToken(claims, operator, held.federation);
  expectAudience(claims, audience);
  checkLifetime(read.issued_at, read.expires, TOKEN_SECONDS_MAX, at);
  return read;
}

function readToken(claims, operator, federation) {
  const fama = claims.get("fama");
  wantClaim(fama instanceof Map, "fama");
  must(textOf(fama, "federation") === federation, "token_federation", "it is of another federation");
  const [identity, version, karma] = [textOf(fama, "identity"), countOf(fama, "key_version"), fama.get("karma")];
  wantClaim(HASH.test(identity), "identity");
  wantClaim(version < 2 ** 32, "key_version");
  wantClaim((typeof karma === "number" || typeof karma === "bigint") && karma < 2n ** 63n, "karma");
  return {
    issuer: operator.issuer, operator: operator.name, subject: textOf(claims, "sub"),
    client_id: textOf(claims, "client_id"), identity, audience: textOf(claims, "aud"), service: textOf(fama, "service"),
    scopes: scopesOf(claims), issued_at: countOf(claims, "iat"), expires: countOf(claims, "exp"), id: idOf(claims),
    key_thumbprint: textWithin(claims, "cnf", "jkt"), process: textWithin(claims, "act", "sub"), key_version: version,
    karma, as_of: textOf(fama, "as_of"), frontier: textOf(fama, "frontier"),
  };
}

// ---- Delegations and calls ----

/**
 * Checks a delegation: the word of the identity with this DID that a process with a key of its own acts for it. `key`
 * is the identity's key in force, `federation` the federation's id, `now` in seconds since 1970. Rejects as
 * `checkAccessToken`. In the answer, `scopes` and `resources` are null where the delegation does not bound them.
 */
export async function checkDelegation(token, { did, key, federation, now } = {}) {
  for (const [name, value] of Object.entries({ did, key, federation })) stated(typeof value === "string", name);
  return (await readDelegation(token, { did, key: parseKey(key), federation, now: secondsNow(now) })).read;
}

function resourcesOf(claims) {
  if (!claims.has("resources")) return null;
  const all = claims.get("resources");
  const isList = Array.isArray(all) && all.length > 0 && all.length <= RESOURCES_MAX;
  wantClaim(isList && all.every((one) => typeof one === "string"), "resources");
  return all;
}

/** What a delegation says, and the key to which it is given. */
async function readDelegation(token, { did, key, federation, now }) {
  const jws = parseJws(token);
  expectType(jws, "fama-delegation+jwt");
  const { claims } = jws;
  expectIssuer(claims, did);
  // No listener's name, so that a delegation is never taken for an assertion.
  expectAudience(claims, `urn:fama:${federation}`);
  await verifyJws(jws, key);
  const cnf = claims.get("cnf");
  wantClaim(cnf instanceof Map && cnf.has("jwk"), "cnf");
  const own = keyOfJwk(cnf.get("jwk"));
  const process = textOf(claims, "sub");
  wantClaim(KINDS.admit.service.holds(process), "sub");
  const read = {
    subject: did, process, key: own.jwk, scopes: claims.has("scope") ? scopesOf(claims) : null,
    resources: resourcesOf(claims), issued_at: countOf(claims, "iat"),
    expires: countOf(claims, "exp"), id: idOf(claims),
  };
  checkLifetime(read.issued_at, read.expires, DELEGATION_SECONDS_MAX, now);
  return { read, own };
}

/** A call of which nothing is verified but its form, and whose it says to be. */
function parseCall(token) {
  const jws = parseJws(token);
  expectType(jws, "fama-agent+jwt");
  return [jws, textOf(jws.claims, "iss")];
}

/** The DID of whoever says to have signed a call: whose profile is needed to check it. Refuses what is no call. */
export const callSubject = (token) => parseCall(token)[1];

/**
 * Checks a call that an agent or its process signed for one service, without an issuer. `agent` is what a profile proof
 * showed: the `agent` of `verifyProof`, by a proof as old as the service accepts. `federation` is the federation's id,
 * `audience` the service's own name, `now` in seconds since 1970. Rejects as `checkAccessToken`.
 *
 * The service remembers `id` until `expires`: it alone sees all uses.
 */
export async function checkAgentCall(token, { agent, federation, audience, now } = {}) {
  stated(typeof agent?.did === "string" && typeof agent.key === "string", "agent, of verifyProof");
  for (const [name, value] of Object.entries({ federation, audience })) stated(typeof value === "string", name);
  const [at, { did }, key] = [secondsNow(now), agent, parseKey(agent.key)];
  const [jws] = parseCall(token);
  const { claims } = jws;
  expectIssuer(claims, did);
  expectAudience(claims, audience);
  must(agent.status === "active" && agent.suspension === "none", "token_not_in_force", "the agent's key may not act");
  const given = claims.has("fama_delegation") ? textOf(claims, "fama_delegation") : null;
  const delegation = given === null ? null : await readDelegation(given, { did, key, federation, now: at });
  await verifyJws(jws, delegation?.own ?? key);
  const resources = delegation?.read.resources ?? [audience];
  must(resources.includes(audience), "token_resource", `the delegation is not for ${audience}`);
  const [issued, expires] = [countOf(claims, "iat"), countOf(claims, "exp")];
  checkLifetime(issued, expires, CALL_SECONDS_MAX, at);
  return { subject: did, delegation: delegation && delegation.read, id: idOf(claims), expires };
}

// ---- DPoP proofs ----

/**
 * Checks a DPoP proof (RFC 9449): who sends this request has the key with this thumbprint. `method` and `url` are those
 * of the request, `token` the access token that it has, or null where one is asked for, `now` in seconds since 1970.
 * Rejects as `checkAccessToken`. Whoever takes proofs remembers `id` for this key until `ends`.
 */
export async function checkDpop(proof, { method, url, token, now } = {}) {
  for (const [name, value] of Object.entries({ method, url })) stated(typeof value === "string", name);
  stated(typeof token === "string" || token === null, "token, or null");
  const [at, jws] = [secondsNow(now), parseJws(proof, { jwk: true })];
  const { header, claims } = jws;
  const key = keyOfJwk(header.get("jwk"));
  expectType(jws, "dpop+jwt");
  await verifyJws(jws, key);
  const bound = (holds, what) => must(holds, "token_dpop", `the DPoP proof is of another ${what}`);
  const withoutQuery = (uri) => uri.replace(/[?#][^]*$/, "");
  bound(textOf(claims, "htm") === method, "method");
  bound(withoutQuery(textOf(claims, "htu")) === withoutQuery(url), "address");
  if (token !== null) bound(textOf(claims, "ath") === toBase64Url(sha256(utf8(token))), "token");
  const issued = countOf(claims, "iat");
  const ends = Number(issued) + DPOP_AGE_SECONDS;
  checkLifetime(issued, ends, DPOP_AGE_SECONDS, at);
  return { key_thumbprint: thumbprint(key.jwk), id: idOf(claims), ends };
}

// ---- Frontiers ----

/**
 * The size of each log by a frontier, `<version>.<sizes>`, as tokens and the ids of a node's stream have it. Refuses
 * `later_version` if the manifest held does not reach to that version, and `bad_cursor`.
 */
export function readFrontier(text, manifest) {
  const sound = (holds) => must(holds, "bad_cursor", "this is no frontier");
  const [, version, encoded] = /^([1-9][0-9]{0,9})\.([\w-]*)$/.exec(text) ?? [];
  sound(version && Number(version) <= U32_MAX);
  must(Number(version) <= manifest.version, "later_version", `it needs version ${version} of the manifest`);
  const [known, bytes] = [manifest.at(Number(version)), fromBase64Url(encoded)];
  sound(known && bytes);
  let at = 0;
  const leb128 = () => {
    for (let [value, scale] = [0, 1]; ; scale *= 128) {
      const byte = bytes[at++];
      sound(byte !== undefined && scale < 2 ** 63);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const sizes = new Map([...known.logs.keys()].sort(compareLogs).map((log) => [log, leb128()]));
  sound(at === bytes.length);
  return sizes;
}
