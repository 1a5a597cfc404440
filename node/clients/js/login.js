// Logins on a server: a cache of agents that follows a node's events, and middlewares for Express, Fastify and Hono.
import { FamaError, piecesOf } from "./fama.js";

/** Resolves after so many seconds, or when `signal` aborts. */
export const wait = (seconds, signal) =>
  new Promise((done) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      done();
    };
    const timer = setTimeout(over, 1000 * seconds);
    timer.unref?.();
    signal.addEventListener("abort", over);
  });

// ---- Server-sent events ----

/** Longest line of a stream, and most data of one event, in characters. */
const EVENT_CHARACTERS_MAX = 65536;

/** Takes the text of a stream in pieces; calls `each({id, event, data})` for every event that is complete. */
export class EventParser {
  constructor(each) {
    this.each = each;
    this.rest = "";
    this.id = "";
    this.clear();
  }

  clear() {
    this.event = "message";
    this.data = [];
    this.characters = 0;
  }

  push(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
    if (this.rest.length > EVENT_CHARACTERS_MAX) throw new FamaError("event_too_long", "a line of the stream is too long");
  }

  line(line) {
    this.characters += line.length;
    if (this.characters > EVENT_CHARACTERS_MAX) throw new FamaError("event_too_long", "an event of the stream is too long");
    if (line === "") {
      if (this.data.length) this.each({ id: this.id, event: this.event, data: this.data.join("\n") });
      this.clear();
      return;
    }
    const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (field === "event") this.event = value;
    if (field === "data") this.data.push(value);
    if (field === "id" && !value.includes("\0")) this.id = value;
  }
}

// ---- The cache ----

// Events that change nothing about an agent that is kept. All others may, also those of later versions.
const IRRELEVANT = new Set(["open", "registration", "checkpoint", "freshness"]);
/** Codes of answers to an id after which the node cannot continue. */
export const NO_RESUMING = ["http_400", "http_410"];

/** The object in a text of JSON; an empty one for anything else. */
function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

/**
 * The events of a node's stream after the id `cursor`, until it ends, is silent for `silence` seconds or `stopped`
 * aborts; `begun` is called when the node has begun to tell. Throws a `FamaError` if it doesn't, or falls silent.
 */
export async function* streamOf({ fetch, query }, path, { cursor, silence, stopped, begun }) {
  const over = new AbortController();
  const abort = () => over.abort(new FamaError("stopped", "nobody listens any more"));
  stopped.addEventListener("abort", abort, { once: true });
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => over.abort(new FamaError("silent", "nothing came for too long")), 1000 * silence);
    timer.unref?.();
  };
  try {
    heard();
    const headers = { accept: "text/event-stream", ...(cursor && { "last-event-id": cursor }) };
    const response = await fetch(query + path, { headers, signal: over.signal, redirect: "error" });
    if (!response.ok || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
      await response.body?.cancel();
      throw new FamaError(response.ok ? "no_stream" : `http_${response.status}`);
    }
    begun?.();
    const events = [];
    const [decoder, parser] = [new TextDecoder(), new EventParser((event) => events.push(event))];
    parser.id = cursor;
    for await (const bytes of piecesOf(response.body, over.signal)) {
      heard();
      parser.push(decoder.decode(bytes, { stream: true }));
      yield* events.splice(0);
    }
  } finally {
    clearTimeout(timer);
    over.abort();
    stopped.removeEventListener("abort", abort);
  }
}

/**
 * Keeps what `FamaClient.identify` found. It follows `GET /api/stream` of the client's node: while that works, an
 * agent whose key or karma changes is forgotten at once, so a revoked key is refused within seconds. While it does not,
 * nothing older than `fallbackAge` is used; `live` and `onState` say which of the two it is.
 *
 * Options, times in seconds: `maxAge` 300 and `fallbackAge` 5 are how old an answer may be with and without the stream,
 * `unsettled` 60 for how long after an event about an agent it may be `fallbackAge` only: a proof shows the event once
 * it is final. `silence` 45 is after how long without a byte a stream counts as dead, `entriesMax` 10000 and
 * `requestsMax` 64 how many agents are kept and how many are asked for at once. `onState({live, reason})` and
 * `onEvent({id, event, data})` are called with every change and every event.
 */
export class ProfileCache {
  #entries = new Map();
  // The names under which an agent is kept, by its id and its handle.
  #names = new Map();
  #asking = new Map();
  #touched = new Map();
  #clock = 0;
  #floor = 0;
  #stopped;

  constructor(client, options = {}) {
    const times = { maxAge: 300, fallbackAge: 5, unsettled: 60, silence: 45, pauseMax: 30 };
    this.client = client;
    this.options = { ...times, entriesMax: 10000, requestsMax: 64, now: Date.now, ...options };
    this.live = false;
    this.reason = "not started";
    this.lastEventId = "";
    this.identify = this.identify.bind(this);
  }

  /** Follows the node's events until `stop`. */
  start() {
    if (this.#stopped) return this;
    this.#stopped = new AbortController();
    this.#follow(this.#stopped.signal);
    return this;
  }

  stop() {
    this.#stopped?.abort();
    this.#stopped = undefined;
  }

  get size() {
    return this.#entries.size;
  }

  /** What is known of an agent by name, handle, id or DID; asks the node if that is too old. */
  async identify(name) {
    const [kept, now] = [this.#entries.get(name), this.options.now()];
    const age = this.live && kept?.settles <= now ? this.options.maxAge : this.options.fallbackAge;
    if (kept && now - kept.at <= 1000 * age) return kept.agent;
    if (!this.#asking.has(name)) {
      const isFull = this.#asking.size >= this.options.requestsMax;
      if (isFull) throw new FamaError("busy", "too many agents are asked for at once", { status: 503 });
      this.#asking.set(name, this.#ask(name).finally(() => this.#asking.delete(name)));
    }
    return this.#asking.get(name);
  }

  async #ask(name) {
    this.#drop(name);
    for (let tries = 0; ; tries++) {
      const [began, at] = [this.#clock, this.options.now()];
      const agent = await this.client.identify(name);
      const events = [agent.agent_id, agent.handle].flatMap((one) => this.#touched.get(one) ?? []);
      const changed = Math.max(this.#floor, ...events.map((one) => one.clock));
      // An event that came while the node answered may be newer than the answer.
      if (changed > began && tries < 3) continue;
      const settles = Math.max(0, ...events.map((one) => one.at)) + 1000 * this.options.unsettled;
      if (changed <= began) this.#keep(name, { agent, at, settles });
      return agent;
    }
  }

  #keep(name, entry) {
    this.#entries.set(name, entry);
    for (const id of [entry.agent.agent_id, entry.agent.handle]) {
      if (!this.#names.has(id)) this.#names.set(id, new Set());
      this.#names.get(id).add(name);
    }
    if (this.#entries.size > this.options.entriesMax) this.#drop(this.#entries.keys().next().value);
  }

  #drop(name) {
    const { agent } = this.#entries.get(name) ?? {};
    this.#entries.delete(name);
    for (const id of agent ? [agent.agent_id, agent.handle] : []) {
      this.#names.get(id)?.delete(name);
      if (this.#names.get(id)?.size === 0) this.#names.delete(id);
    }
  }

  /** Forgets agents, each by its id or its handle, under all their names. */
  forget(...ids) {
    this.#clock += 1;
    for (const id of ids) {
      this.#touched.delete(id);
      this.#touched.set(id, { clock: this.#clock, at: this.options.now() });
      if (this.#touched.size > this.options.entriesMax) this.#forgetTouch();
      for (const name of [...(this.#names.get(id) ?? [])]) this.#drop(name);
    }
  }

  /** Of the oldest event only this is kept: whoever asked before it asks again. */
  #forgetTouch() {
    const [id, { clock }] = this.#touched.entries().next().value;
    this.#touched.delete(id);
    this.#floor = Math.max(this.#floor, clock);
  }

  forgetAll() {
    for (const one of [this.#entries, this.#names]) one.clear();
    this.#floor = this.#clock += 1;
  }

  #say(live, reason) {
    if (live === this.live && reason === this.reason) return;
    [this.live, this.reason] = [live, reason];
    this.options.onState?.({ live, reason });
  }

  async #follow(stopped) {
    let pause = 1;
    while (!stopped.aborted) {
      const began = Date.now();
      let reason = "the stream ended";
      try {
        await this.#read(stopped);
      } catch (error) {
        reason = [error.code, error.cause?.code].find((code) => typeof code === "string") ?? error.name;
        if (NO_RESUMING.includes(reason)) this.lastEventId = "";
      }
      this.#say(false, stopped.aborted ? "stopped" : `no stream: ${reason}`);
      if (Date.now() - began > 60000) pause = 1;
      if (!stopped.aborted) await wait(pause * (0.5 + Math.random()), stopped);
      pause = Math.min(2 * pause, this.options.pauseMax);
    }
  }

  /** Reads the stream until it ends, is silent for too long, or the cache is stopped. */
  async #read(stopped) {
    const begun = () => {
      // What was said before this stream began may have changed since, whether or not the node resumes.
      this.forgetAll();
      this.#say(true, "the stream is followed");
    };
    const options = { cursor: this.lastEventId, silence: this.options.silence, stopped, begun };
    for await (const event of streamOf(this.client, "/api/stream", options)) this.#heard(event);
  }

  #heard(event) {
    this.lastEventId = event.id;
    if (event.event === "error") throw new FamaError(parsed(event.data).code ?? "stream_error");
    if (!IRRELEVANT.has(event.event)) {
      const { identity, handle, kind } = parsed(event.data);
      // Who is sponsored changes the karma of everybody whom the provider rated; they are not named.
      const isKnown = typeof identity === "string" && kind !== "admit" && kind !== "dismiss";
      // A grant changes nothing that is kept, and strangers may grant to anybody.
      if (kind !== "grant" && kind !== "ungrant") isKnown ? this.forget(identity, handle) : this.forgetAll();
    }
    this.options.onEvent?.(event);
  }
}

// ---- Logins that were used ----

/**
 * Remembers logins until they have expired. Full, it refuses and never forgets early. One agent may have `perAgentMax`
 * of `max`, so that none uses it up alone. Where several processes serve one audience, give the middleware an object of
 * your own with `add(login, agent, expires, now)`.
 */
export class UsedLogins {
  #agents = new Map();
  #count = 0;
  #swept = 0;

  constructor({ max = 100000, perAgentMax = 1000 } = {}) {
    this.max = max;
    this.perAgentMax = perAgentMax;
  }

  /** `new`, `used` or `full`. `login` is the text that was signed; times in milliseconds. */
  add(login, agent, expires, now) {
    const isFull = (logins) => this.#count >= this.max || logins.size >= this.perAgentMax;
    let logins = this.#agents.get(agent) ?? new Map();
    if ((logins.get(login) ?? 0) > now) return "used";
    // Once a second at most, so that nobody can make every login pay for a sweep.
    if (now - this.#swept >= 1000 && (isFull(logins) || now - this.#swept >= 60000)) {
      this.#sweep(now);
      logins = this.#agents.get(agent) ?? new Map();
    }
    if (isFull(logins)) return "full";
    if (!logins.has(login)) this.#count += 1;
    logins.set(login, expires);
    this.#agents.set(agent, logins);
    return "new";
  }

  #sweep(now) {
    this.#swept = now;
    this.#count = 0;
    for (const [agent, logins] of this.#agents) {
      for (const [login, expires] of logins) if (expires <= now) logins.delete(login);
      if (logins.size === 0) this.#agents.delete(agent);
      this.#count += logins.size;
    }
  }
}

// ---- The check ----

const WINDOW_MILLIS = 300000;
const HEADER_CHARACTERS_MAX = 8192;
const BODY_BYTES_MAX = 65536;

/** The value of the header `Authorization` for what `signLogin` made. */
export function authorization({ dumbname, timestamp, message, signature }) {
  const bytes = new TextEncoder().encode(JSON.stringify({ dumbname, timestamp, message, signature }));
  const base64 = btoa(String.fromCharCode(...bytes));
  return `Fama ${base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

/** The login in a header `Authorization: Fama …`; undefined if it has none, null if that is malformed. */
function fromHeader(header) {
  if (typeof header !== "string" || !/^fama /i.test(header)) return undefined;
  if (header.length > HEADER_CHARACTERS_MAX) return null;
  try {
    const base64 = header.slice(5).trim().replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const login = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return login !== null && typeof login === "object" ? login : null;
  } catch {
    return null;
  }
}

const fromBody = (body) => (body !== null && typeof body === "object" && "dumbname" in body ? body : undefined);

function loginOf(header, body) {
  const login = fromHeader(header);
  return login === undefined ? fromBody(body) : login;
}

const refused = (status, code, error) => ({ ok: false, status, code, error });

/**
 * The check that the middlewares share: `check(login, request)` resolves to `{ok: true, agent}` or to
 * `{ok: false, status, code, error}`.
 *
 * - `client`: a `FamaClient`. `cache`: a `ProfileCache`, without which the node is asked each time.
 * - `audience`: the message of a login must be this word, or begin with it and a space. Or `accepts(message, request)`,
 *   which says whether a message is for this service. One of them is needed: a login for another service must not hold
 *   here.
 * - `minKarma`: an agent with less is refused with 403 `too_little_karma`.
 * - `used`: where used logins are remembered, a `UsedLogins` by default.
 */
export function createLogin({ client, cache, audience, accepts, minKarma, used = new UsedLogins(), now = Date.now }) {
  if (typeof accepts !== "function" && !audience) {
    throw new FamaError("requirement_missing", "say audience or accepts: a login for another service must not hold here");
  }
  const isForUs = accepts ?? ((message) => message === audience || message.startsWith(`${audience} `));
  const identify = cache?.identify ?? ((name) => client.identify(name));
  return async function check(login, request) {
    if (login === undefined) return refused(401, "no_login", "want the header Authorization: Fama …, or a login as the body");
    if (login === null) return refused(400, "bad_login", "the header Authorization is no login");
    try {
      const isText = typeof login.message === "string";
      if (isText && !(await isForUs(login.message, request))) return refused(401, "wrong_audience", "the message is for another service");
      const at = now();
      const said = await client.verify(login, { identify, now: at });
      if (!said.verified) return refused(said.status, said.code, said.error);
      const text = `${login.dumbname}${login.timestamp}${login.message}`;
      // Not the signature: one and the same login can have several.
      const before = await used.add(text, said.agent_id, Date.parse(login.timestamp) + WINDOW_MILLIS + 1, at);
      if (before === "used") return refused(401, "used", "this login was used before");
      if (before !== "new") return refused(503, "busy", "too many logins are remembered");
      if (minKarma !== undefined && !(said.karma >= minKarma)) {
        return refused(403, "too_little_karma", `this needs karma ${minKarma}, the agent has ${said.karma}`);
      }
      const { dumbname, handle, agent_id, karma, key_version } = said;
      return { ok: true, agent: { dumbname, handle, agent_id, karma, key_version, message: login.message } };
    } catch (error) {
      // The node cannot be asked, or its answer proves nothing: nobody gets in, and it is not the agent's fault.
      return refused(503, error instanceof FamaError ? error.code : "no_answer", "the agent cannot be checked now");
    }
  };
}

/** The body and headers of a refusal. */
function answer({ status, code, error }) {
  const headers = { "content-type": "application/json" };
  if (status === 401) headers["www-authenticate"] = "Fama";
  if (status === 503) headers["retry-after"] = "5";
  return { headers, body: JSON.stringify({ error, code }) };
}

/** For Express and every server of that form: puts the agent on `req.agent`. A login as the body needs `express.json()`. */
export function expressLogin(options) {
  const check = createLogin(options);
  return async function famaLogin(req, res, next) {
    const result = await check(loginOf(req.headers.authorization, req.body), req);
    if (result.ok) {
      req.agent = result.agent;
      return next();
    }
    const { headers, body } = answer(result);
    res.statusCode = result.status;
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    return res.end(body);
  };
}

/** A `preHandler` for Fastify: puts the agent on `request.agent`. */
export function fastifyLogin(options) {
  const check = createLogin(options);
  return async function famaLogin(request, reply) {
    const result = await check(loginOf(request.headers.authorization, request.body), request);
    if (result.ok) {
      request.agent = result.agent;
      return undefined;
    }
    const { headers, body } = answer(result);
    return reply.code(result.status).headers(headers).send(body);
  };
}

/** For Hono: sets the variable `agent` of the context. A login as the body must say its length, at most 64 KiB. */
export function honoLogin(options) {
  const check = createLogin(options);
  return async function famaLogin(context, next) {
    const header = fromHeader(context.req.header("authorization"));
    const result = await check(header === undefined ? await honoBody(context) : header, context);
    if (!result.ok) {
      const { headers, body } = answer(result);
      return context.body(body, result.status, headers);
    }
    context.set("agent", result.agent);
    return next();
  };
}

async function honoBody(context) {
  const isJson = context.req.header("content-type")?.startsWith("application/json");
  const length = Number(context.req.header("content-length") ?? Infinity);
  if (!isJson || !(length <= BODY_BYTES_MAX)) return undefined;
  return fromBody(await context.req.json().catch(() => undefined));
}
