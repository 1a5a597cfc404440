// What a service's API that accepts Fama's tokens puts in front of its handlers, for Express, Fastify, Hono and others.
import {
  FamaError, callSubject, checkAccessToken, checkAgentCall, checkDpop, readFrontier, readManifest, verifyProof,
} from "./fama.js";
import { NO_RESUMING, UsedLogins, streamOf, wait } from "./login.js";

/** Longest life of a token, how far clocks may differ, and how far an issuer may be behind: what is older cannot concern
 * a token that still holds. */
const EVENT_SECONDS = 900 + 30 + 60;
/** The id of an event: what is sent back after a lost connection. */
const EVENT_ID = /^[1-9][0-9]{0,9}\.[\w-]{1,8192}$/;
/** How often strangers' tokens may make the server ask for a newer manifest, and how often it asks by itself. */
const MANIFEST_PAUSE_SECONDS = 10;
const MANIFEST_SECONDS = 300;
/** How long a strict server goes without a stream before it refuses. */
const STRICT_SECONDS = 10;
/** How many proofs of callers are kept, and how many are asked for at once. */
const PROOFS_MAX = 1000;
const PROOFS_AT_ONCE_MAX = 16;
const DPOP_ALGORITHMS = ["EdDSA", "Ed25519", "ES256"];
const STREAM = "/api/stream?kind=key,access";
const WELL_KNOWN = "/.well-known/oauth-protected-resource";
const HASH = /^[0-9a-f]{64}$/;
const DID = /^did:agent:[a-z0-9.-]{3,253}:[0-9a-f]{32}$/;

/** The object in a text of JSON; an empty one for anything else. */
function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

/**
 * What happened lately to agents' keys and access: for each agent the newest index in each log, apart for what concerns
 * every service and for the grants of each. What happened before the stream was followed, and what is dropped before
 * its time, is kept as a floor: a size of each log that every token's frontier must reach.
 */
class Withdrawals {
  // `{log, index, at}` by identity, service and log, the newest last. Of ids the first half, as DIDs have it.
  #events = new Map();
  #floor = new Map();
  #raised = 0;

  constructor(max) {
    this.max = max;
  }

  raise(log, size, now) {
    this.#raised = now;
    this.#floor.set(log, Math.max(size, this.#floor.get(log) ?? 0));
  }

  #forget(now) {
    if (now - this.#raised > EVENT_SECONDS) this.#floor.clear();
    for (const [key, { at }] of this.#events) {
      if (now - at <= EVENT_SECONDS) break;
      this.#events.delete(key);
    }
  }

  /** `service`: the first half of the identity that granted; "" if the event counts for every service. */
  add({ identity, service, log, index }, now) {
    this.#forget(now);
    const key = `${identity} ${service} ${log}`;
    const newest = Math.max(index, this.#events.get(key)?.index ?? 0);
    this.#events.delete(key);
    this.#events.set(key, { log, index: newest, at: now });
    if (this.#events.size <= this.max) return;
    const [[oldest, dropped]] = this.#events;
    this.#events.delete(oldest);
    this.raise(dropped.log, dropped.index + 1, now);
  }

  /**
   * Whether a reader of the logs up to these sizes knew all that happened to this agent and to the service, and what the
   * service granted it.
   */
  isKnown(sizes, identity, service, manifest, now) {
    this.#forget(now);
    const indexOf = (one, of, log) => this.#events.get(`${one} ${of} ${log}`)?.index ?? -1;
    // Beyond its cut a log has nothing.
    return [...manifest.logs].every(([log, { cut }]) => {
      const newest = Math.max(indexOf(identity, "", log), indexOf(identity, service, log), indexOf(service, "", log));
      return Math.min(newest + 1, Number(cut?.size ?? Infinity)) <= (sizes.get(log) ?? 0);
    });
  }

  reachesFloor(sizes, manifest, now) {
    this.#forget(now);
    return [...this.#floor].every(([log, size]) => {
      return Math.min(size, Number(manifest.logs.get(log)?.cut?.size ?? Infinity)) <= (sizes.get(log) ?? 0);
    });
  }
}

// ---- Requests and refusals ----

/** All values of a header, of Node's headers by name, single or in lists, or of `Headers`. */
function valuesOf(headers, name) {
  const found = typeof headers.get === "function" ? headers.get(name) : headers[name];
  return [found ?? []].flat();
}

/** A refusal: `error` is the word of RFC 6750 or RFC 9449 for the challenge; without one, there were no credentials. */
const refusal = (status, code, message, error) => new FamaError(code, message, { refusal: { status, error } });
const badToken = (code, message) => refusal(401, code, message, "invalid_token");
const badProof = (code, message) => refusal(401, code, message, "invalid_dpop_proof");
const isOfToken = (error) => error instanceof FamaError && /^(?:jws|token)_/.test(error.code);

/** `{scheme, token}` of the one header `Authorization`. */
function credentials(headers) {
  const all = valuesOf(headers, "authorization");
  const malformed = (message) => refusal(400, "bad_authorization", message, "invalid_request");
  if (all.length > 1) throw malformed("want one header Authorization");
  const [, scheme, token] = /^(bearer|dpop)(?: +(.*))?$/i.exec(all[0] ?? "") ?? [];
  if (!scheme) throw refusal(401, "no_credentials", "want a token: Authorization: Bearer …");
  if (!token) throw malformed("the header Authorization has no token");
  return { scheme: /^d/i.test(scheme) ? "DPoP" : "Bearer", token };
}

/** A parameter of a challenge. What RFC 6750 does not let into a quoted text becomes a question mark. */
const parameter = ([name, value]) => `${name}="${String(value).replace(/[^\x20-\x7e]|["\\]/g, "?")}"`;

// ---- The server ----

/**
 * What an API puts in front of its handlers.
 *
 * - `client`: a `FamaClient` of a node's query listener, for the manifest, the stream, and proofs of callers.
 * - `genesis`: the federation's genesis or a longer chain. Until the node answers, its newest version is what counts.
 * - `issuers`: the origins of the issuers whose tokens are accepted. There is no default: a token is its issuer's word.
 * - `resource`: the service's own name, which is the `aud` of its tokens: its https address or its DID.
 * - `url`: the address under which clients reach it, for the metadata and DPoP; by default `resource`.
 * - `scopes`: those that the service knows, for the metadata.
 * - `strict`: refuse with 503 once the stream was not followed for 10 s; else tokens hold until they end, as offline.
 * - `calls`: accept what agents sign themselves, without an issuer: `{maxAge, missing, service?}`. The first two are
 *   what `verifyProof` requires of the profile that the node shows of the caller; `service` is the id of the service's
 *   identity, 64 hex digits: the caller's scopes are what it granted. Without it, calls have no scopes.
 * - `used`: where DPoP proofs and calls are remembered until they end, a `UsedLogins` by default. Where several
 *   processes serve one resource, give an object of your own with `add(id, key, ends, now)`, times in milliseconds.
 * - `onState({live, reason})` is called with every change of whether the stream is followed. `silence` 45 is after how
 *   many seconds without a byte it counts as dead, `eventsMax` 100000 how many events are remembered, and `now` gives
 *   milliseconds since 1970.
 */
export class ResourceServer {
  #genesis;
  #origin;
  #withdrawals;
  #cursor = "";
  #stopped;
  #timer;
  #renewing;
  #renewed = -Infinity;
  #chain;
  #notLiveSince;
  #proofs = new Map();
  #asking = 0;

  constructor({
    client, genesis, issuers, resource, url = resource, scopes, strict = false, calls, onState,
    used = new UsedLogins({ perAgentMax: 10000 }), eventsMax = 100000, silence = 45, pauseMax = 30, now = Date.now,
  }) {
    const requires = (holds, what) => {
      if (!holds) throw new FamaError("requirement_missing", what);
    };
    requires(typeof client?.request === "function" && genesis !== undefined, "say client, a FamaClient, and genesis");
    const isList = Array.isArray(issuers) && issuers.length > 0 && issuers.every((one) => typeof one === "string");
    requires(isList, "say issuers, at least one: whose tokens are accepted has no default");
    const isOrigin = (one) => URL.canParse(one) && new URL(one).origin === one;
    requires(issuers.every(isOrigin), "say issuers as origins, without a slash at the end");
    const isName = DID.test(resource) || (/^https:\/\/[^/?#]+[^?#]*$/.test(resource) && URL.canParse(resource));
    requires(isName, "say resource, the service's own name: its DID, or its https address without query");
    const at = URL.canParse(url) && !/[?#]/.test(url) ? new URL(url) : {};
    requires(/^https?:$/.test(at.protocol), "say url, the address under which clients reach it: resource is no address");
    const isStated = !calls || [calls.maxAge, calls.missing].every((value) => typeof value === "number");
    requires(isStated, "with calls, say maxAge and missing");
    Object.assign(this, { client, issuers, resource, scopes, strict, calls, onState, used, silence, pauseMax, now });
    this.#genesis = genesis;
    this.#withdrawals = new Withdrawals(eventsMax);
    this.#origin = at.origin;
    this.metadataPath = WELL_KNOWN + at.pathname.replace(/^\/$/, "");
    this.metadataUrl = at.origin + this.metadataPath;
    this.live = false;
    this.reason = "not started";
    this.#notLiveSince = this.#seconds();
  }

  #seconds() {
    return Math.floor(this.now() / 1000);
  }

  /** The metadata of RFC 9728, to be served at `metadataPath`. */
  metadata() {
    return {
      resource: this.resource,
      authorization_servers: this.issuers,
      ...(this.scopes && { scopes_supported: this.scopes }),
      bearer_methods_supported: ["header"],
      dpop_signing_alg_values_supported: DPOP_ALGORITHMS,
      dpop_bound_access_tokens_required: false,
    };
  }

  /**
   * Reads the genesis, asks the node for newer versions, and follows its stream until `stop`. Rejects if the genesis is
   * none, or if the node's newest version has an issuer not; a node that does not answer is asked again.
   */
  async start() {
    await this.#ready();
    await this.#renew();
    const known = new Set([...this.manifest.operators.values()].map((one) => one.issuer));
    const unknown = this.issuers.find((one) => !known.has(one));
    if (this.#chain !== undefined && unknown !== undefined) {
      throw new FamaError("unknown_issuer", `no operator has the issuer ${unknown}: GET /api/federation/issuers lists all`);
    }
    if (!this.#stopped) {
      this.#stopped = new AbortController();
      this.#timer = setInterval(() => this.#renew(), 1000 * MANIFEST_SECONDS);
      this.#timer.unref?.();
      this.#follow(this.#stopped.signal);
    }
    return this;
  }

  stop() {
    clearInterval(this.#timer);
    this.#stopped?.abort();
    this.#stopped = undefined;
  }

  // ---- The manifest ----

  async #ready() {
    const first = await readManifest(this.#genesis);
    this.#genesis = first;
    this.manifest ??= first;
  }

  /** Asks the node for newer versions, unless that was done less than `pause` seconds ago. */
  async #renew(pause = 0) {
    if (!this.#renewing && this.#seconds() - this.#renewed >= pause) {
      this.#renewed = this.#seconds();
      this.#renewing = this.#fetchManifest().finally(() => (this.#renewing = undefined));
    }
    await this.#renewing;
  }

  /** What `read` makes of the manifest. If it refuses with `code`, a newer version may have what it lacks. */
  async #byManifest(code, pause, read) {
    const { manifest } = this;
    try {
      return await read(manifest);
    } catch (error) {
      if (error.code !== code) throw error;
      await this.#renew(pause);
      if (this.manifest === manifest) throw error;
      return read(this.manifest);
    }
  }

  async #fetchManifest() {
    const { client, manifest } = this;
    try {
      const chain = await client.request(`${client.query}/api/federation/manifests`);
      if (chain === this.#chain) return;
      const found = await readManifest(chain);
      // Never an older version, and no other branch.
      const continues = found.version > manifest.version && found.at(manifest.version).hash === manifest.hash;
      if (continues) this.manifest = found;
      this.#chain = chain;
    } catch {
      // Whatever the node lacks or says instead, the version that is held stays in use.
    }
  }

  // ---- The stream ----

  #say(live, reason) {
    if (live === this.live && reason === this.reason) return;
    if (this.live && !live) this.#notLiveSince = this.#seconds();
    [this.live, this.reason] = [live, reason];
    this.onState?.({ live, reason });
  }

  async #follow(stopped) {
    for (let pause = 1; !stopped.aborted; pause = Math.min(2 * pause, this.pauseMax)) {
      const began = Date.now();
      let reason = "the stream ended";
      try {
        const options = { cursor: this.#cursor, silence: this.silence, stopped };
        for await (const event of streamOf(this.client, STREAM, options)) await this.#heard(event);
      } catch (error) {
        reason = [error.code, error.cause?.code].find((code) => typeof code === "string") ?? error.name;
        if (NO_RESUMING.includes(reason) || reason === "http_431") this.#cursor = "";
      }
      this.#say(false, stopped.aborted ? "stopped" : `no stream: ${reason}`);
      if (Date.now() - began > 60000) pause = 1;
      if (!stopped.aborted) await wait(pause * (0.5 + Math.random()), stopped);
    }
  }

  /** A node that does not hear the federation hears of no revocation. */
  #hears(isFresh) {
    this.#say(isFresh, isFresh ? "the stream is followed" : "the node does not hear the federation");
  }

  /** Takes an event; only then the stream is continued after it. */
  async #heard({ id, event, data }) {
    const said = parsed(data);
    if (event === "error") throw new FamaError(typeof said.code === "string" ? said.code : "stream_error");
    if (!EVENT_ID.test(id)) throw new FamaError("bad_event");
    // A version that this server lacks may have taken a token key away.
    if (Number(id.split(".")[0]) > this.manifest.version) await this.#renew(MANIFEST_PAUSE_SECONDS);
    if (event === "open") {
      if (said.federation !== this.manifest.federation) throw new FamaError("other_federation");
      // A stream that continues has no gap.
      if (this.#cursor === "") {
        for (const [log, size] of await this.#sizes(id)) this.#withdrawals.raise(log, size, this.#seconds());
      }
      this.#hears(said.fresh !== false);
    } else if (event === "freshness") {
      this.#hears(said.fresh === true);
    } else if (event === "key" || event === "access") {
      await this.#remember(said);
    }
    this.#cursor = id;
  }

  async #remember({ kind, identity, provider, log, index }) {
    const isGrant = kind === "grant" || kind === "ungrant";
    const sound = HASH.test(identity) && Number.isSafeInteger(index) && index >= 0 && (!isGrant || HASH.test(provider));
    if (!sound) throw new FamaError("bad_event");
    if (!this.manifest.logs.has(log)) await this.#renew();
    if (!this.manifest.logs.has(log)) throw new FamaError("unknown_log");
    const service = isGrant ? provider.slice(0, 32) : "";
    this.#withdrawals.add({ identity: identity.slice(0, 32), service, log, index }, this.#seconds());
  }

  #sizes(frontier, pause) {
    return this.#byManifest("later_version", pause, (manifest) => readFrontier(frontier, manifest));
  }

  // ---- The check ----

  /**
   * Checks a request: `{method, url, headers}`, such as Node's or a `Request`. `url` is what the client called; a path
   * is enough. `scope`: what the token must let the agent do, one word or several with spaces between them. `minKarma`:
   * the least karma that the token must say.
   *
   * Resolves to `{ok: true, agent}`, or to `{ok: false, status, code, error, headers, body}`: an answer by RFC 6750.
   * `code` is a stable word: 401 with those of `checkAccessToken`, `checkAgentCall` and `checkDpop`, `no_credentials`,
   * `dpop_required`, `not_bound`, `dpop_header`, `used`, `withdrawn` and `unknown_agent`; 400 `bad_authorization`; 403
   * `insufficient_scope` and `low_karma`; 503 `busy`, `later_version`, `no_stream`, and why nothing proves who calls.
   */
  async check(request, { scope, minKarma } = {}) {
    let scheme = "Bearer";
    try {
      await this.#ready();
      const headers = request.headersDistinct ?? request.headers;
      const given = credentials(headers);
      ({ scheme } = given);
      const { agent, once } = await this.#identify({ ...given, headers, request });
      if (scope !== undefined && !scope.split(" ").every((word) => agent.scopes.includes(word))) {
        throw refusal(403, "insufficient_scope", "the token does not let the agent do this", "insufficient_scope");
      }
      if (minKarma !== undefined && !(agent.karma >= minKarma)) {
        throw refusal(403, "low_karma", `this needs karma ${minKarma}, the agent has ${agent.karma}`);
      }
      // Last, so that nobody fills the memory with what is refused anyway.
      const before = once === null ? "new" : await this.used.add(once.id, once.key, 1000 * once.ends, this.now());
      const again = scheme === "DPoP" ? badProof : badToken;
      if (before === "used") throw again("used", "this was used before");
      if (before !== "new") throw refusal(503, "busy", "too much is remembered: try again soon");
      return { ok: true, agent };
    } catch (error) {
      if (!(error instanceof FamaError)) throw error;
      return this.#answer(error, scheme, scope);
    }
  }

  /** Who asks, and what must not come twice: `{id, key, ends}`, or null. */
  async #identify({ scheme, token, headers, request }) {
    const caller = this.calls && scheme === "Bearer" ? callerOf(token) : null;
    const isToken = caller === null;
    const found = await (isToken ? this.#token({ scheme, token, headers, request }) : this.#call(token, caller));
    if (this.strict && !this.live && this.#seconds() - this.#notLiveSince > STRICT_SECONDS) {
      throw refusal(503, "no_stream", "this server does not hear now what was withdrawn");
    }
    return found;
  }

  async #token({ scheme, token, headers, request }) {
    const { manifest } = this;
    const agent = await this.#accessToken(token);
    const once = scheme === "DPoP" ? await this.#proofOf(agent, token, headers, request) : null;
    if (once === null && agent.key_thumbprint !== null) {
      throw badToken("dpop_required", "this token is bound to a key: send it as DPoP, with a proof");
    }
    await this.#checkWithdrawn(agent);
    // The newest version may have taken the key away that signed.
    if (this.manifest !== manifest) await this.#accessToken(token);
    return { agent, once };
  }

  #accessToken(token) {
    const { issuers, resource: audience } = this;
    return this.#byManifest("token_key", MANIFEST_PAUSE_SECONDS, (manifest) => {
      return checkAccessToken(token, { manifest, issuers, audience, now: this.#seconds() });
    });
  }

  async #proofOf({ identity, key_thumbprint }, token, headers, { method, originalUrl, url }) {
    if (key_thumbprint === null) throw badToken("not_bound", "this token is bound to no key: send it as Bearer");
    const proofs = valuesOf(headers, "dpop");
    if (proofs.length !== 1) throw badProof("dpop_header", "want one header DPoP");
    const path = (originalUrl ?? url).replace(/^[a-z]+:\/\/[^/?#]*/i, "");
    try {
      const required = { method, url: this.#origin + path, token, now: this.#seconds() };
      const { key_thumbprint: key, id, ends } = await checkDpop(proofs[0], required);
      if (key !== key_thumbprint) throw new FamaError("token_dpop", "the DPoP proof is of another key");
      // By agent: each may have many keys.
      return { id: `${key} ${id}`, key: identity, ends };
    } catch (error) {
      throw isOfToken(error) ? Object.assign(error, { refusal: { status: 401, error: "invalid_dpop_proof" } }) : error;
    }
  }

  async #checkWithdrawn({ identity, service, frontier }) {
    let sizes;
    try {
      sizes = await this.#sizes(frontier, MANIFEST_PAUSE_SECONDS);
    } catch (error) {
      if (error.code !== "bad_cursor") throw error;
      throw badToken("token_claim", "the claim frontier is malformed");
    }
    const { manifest } = this;
    if (!this.#withdrawals.reachesFloor(sizes, manifest, this.#seconds())) {
      throw badToken("withdrawn", "issued before all that is followed here: get a new one");
    }
    const [half, of] = [identity.slice(0, 32), service.split(":").at(-1)];
    if (!this.#withdrawals.isKnown(sizes, half, of, manifest, this.#seconds())) {
      const what = "something happened to this agent's key or access after the token was issued: get a new one";
      throw badToken("withdrawn", what);
    }
  }

  // ---- Calls ----

  async #call(token, did) {
    const { service } = this.calls;
    if (!DID.test(did)) throw badToken("token_identity", "the caller names no DID");
    const question = service === undefined ? did : `${did} granted by ${service}`;
    let shown = await this.#prove(question);
    const [half, now] = [service?.slice(0, 32), this.#seconds()];
    const isKnown = () => this.#withdrawals.isKnown(shown.sizes, shown.identity.slice(0, 32), half, this.manifest, now);
    if (!isKnown()) shown = await this.#prove(question, true);
    if (!isKnown()) {
      throw badToken("withdrawn", "something happened to this agent that no proof shows yet: try again soon");
    }
    const [federation, audience] = [this.manifest.federation, this.resource];
    const call = await checkAgentCall(token, { agent: shown.agent, federation, audience, now });
    const stands = shown.grants.filter(({ expires }) => expires === null || Date.parse(expires) > this.now());
    const scopes = stands.map((one) => one.scope).filter((one) => call.delegation?.scopes?.includes(one) ?? true);
    const agent = {
      issuer: null, subject: did, client_id: shown.handle, identity: shown.identity, audience, scopes,
      expires: call.expires, id: call.id, process: call.delegation?.process ?? null, key_version: shown.key_version,
      karma: shown.karma, as_of: shown.as_of,
    };
    return { agent, once: { id: call.id, key: did, ends: call.expires } };
  }

  /** What a proof shows of a caller: one that is kept, while it is new enough, or a `fresh` one. */
  async #prove(question, fresh = false) {
    const [kept, now] = [this.#proofs.get(question), this.#seconds()];
    if (kept && (kept.ends === undefined || (now <= kept.ends && !fresh))) return kept.asked;
    if (this.#asking >= PROOFS_AT_ONCE_MAX) throw refusal(503, "busy", "too many callers are asked for at once");
    this.#asking += 1;
    const entry = { asked: this.#ask(question, now).finally(() => (this.#asking -= 1)), ends: undefined };
    this.#proofs.delete(question);
    this.#proofs.set(question, entry);
    if (this.#proofs.size > PROOFS_MAX) this.#proofs.delete(this.#proofs.keys().next().value);
    try {
      const shown = await entry.asked;
      entry.ends = shown.ends;
      return shown;
    } catch (error) {
      if (this.#proofs.get(question) === entry) this.#proofs.delete(question);
      throw error;
    }
  }

  async #ask(question, now) {
    const { maxAge, missing } = this.calls;
    const proof = await this.client.getProof(question);
    const proven = await verifyProof(proof, this.manifest, { question, maxAge, missing, now });
    if (!proven.found) throw badToken("unknown_agent", "nobody has this DID");
    const { id: identity, did, handle, key, key_version, status, suspension, karma, granted } = proven.agent;
    const grants = granted.filter((one) => one.in_force).flatMap((one) => one.grants);
    const sizes = new Map(proven.logs.map(({ log, size }) => [log, size]));
    const { as_of, age_seconds: age } = proven;
    // Not all that is proven: an agent's providers may be many.
    return {
      agent: { did, key, status, suspension }, identity, handle, key_version, karma: karma.sum, as_of, grants, sizes,
      ends: age === null ? now : now - age + maxAge,
    };
  }

  // ---- Answers ----

  #answer(error, scheme, scope) {
    const { code } = error;
    const otherwise = isOfToken(error) ? { status: 401, error: "invalid_token" } : { status: 503 };
    const { status, error: word } = error.refusal ?? otherwise;
    // What the server's own troubles are is nobody else's business.
    const said = error.refusal || word ? error.message : "this cannot be checked now";
    // In the body, the code that a `FamaError` ends with stands beside.
    const message = said.replace(` (${code})`, "");
    const headers = { "content-type": "application/json" };
    if (status === 503) headers["retry-after"] = "5";
    if (word || status === 401) {
      const told = word ? { error: word, error_description: said } : {};
      if (code === "insufficient_scope") told.scope = scope;
      if (scheme === "DPoP") told.algs = DPOP_ALGORITHMS.join(" ");
      const all = Object.entries({ ...told, resource_metadata: this.metadataUrl });
      headers["www-authenticate"] = `${scheme} ${all.map(parameter).join(", ")}`;
    }
    return { ok: false, status, code, error: message, headers, body: JSON.stringify({ error: message, code }) };
  }
}

/** Whose call this says to be; null if it is no call. */
function callerOf(token) {
  try {
    return callSubject(token);
  } catch {
    return null;
  }
}

// ---- The frameworks ----

/** For Express and every server of that form: puts what `check` found on `req.agent`. `needs`: `{scope, minKarma}`. */
export function expressToken(server, needs) {
  return async function famaToken(req, res, next) {
    let result;
    try {
      result = await server.check(req, needs);
    } catch (error) {
      return next(error);
    }
    if (result.ok) {
      req.agent = result.agent;
      return next();
    }
    res.statusCode = result.status;
    for (const [name, value] of Object.entries(result.headers)) res.setHeader(name, value);
    return res.end(result.body);
  };
}

/** A `preHandler` for Fastify: puts what `check` found on `request.agent`. */
export function fastifyToken(server, needs) {
  return async function famaToken(request, reply) {
    const { method, originalUrl: url, raw } = request;
    const result = await server.check({ method, url, headers: raw.headersDistinct ?? raw.headers }, needs);
    if (!result.ok) return reply.code(result.status).headers(result.headers).send(result.body);
    request.agent = result.agent;
    return undefined;
  };
}

/** For Hono: sets the variable `agent` of the context. */
export function honoToken(server, needs) {
  return async function famaToken(context, next) {
    const result = await server.check(context.req.raw, needs);
    if (!result.ok) return context.body(result.body, result.status, result.headers);
    context.set("agent", result.agent);
    return next();
  };
}
