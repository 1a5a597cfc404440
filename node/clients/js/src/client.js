// A client of one node: asks, signs and submits.
import { FamaError, must, refuse } from "./error.js";
import { fromUtf8, join, parsed, toBase64, utf8 } from "./bytes.js";
import { keyText, readKey } from "./keys.js";
import { COMMITMENT, NAME, commitment, eventId, eventText, noteText, parseEvent } from "./texts.js";
import { readManifest } from "./manifest.js";
import { parseQuestion } from "./profile_file.js";
import { verifyProof } from "./proof.js";
import { checkLogin, signerOf } from "./logins.js";

const ANSWER_BYTES_MAX = 1 << 23;

/**
 * The pieces of a body until it ends, or `signal` aborts. The signal that `fetch` was given is not enough: Node forgets
 * it once it has collected garbage, and a body of which nothing more comes would never end.
 */
export async function* piecesOf(body, signal) {
  const reader = body.getReader();
  const cancel = () => reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) throw signal.reason;
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

/** The body of an answer, up to `ANSWER_BYTES_MAX`. */
async function bodyOf(response, signal) {
  const parts = [];
  let length = 0;
  if (response.body === null) return join();
  for await (const piece of piecesOf(response.body, signal)) {
    length += piece.length;
    must(length <= ANSWER_BYTES_MAX, "answer_too_long", `more than ${ANSWER_BYTES_MAX} bytes`);
    parts.push(piece);
  }
  return join(...parts);
}

/**
 * A client of one node.
 *
 * - `query`: the origin of its query listener. In a page from a node, that node's own by default.
 * - `submit`: the origin of a submit listener, for the functions that write.
 * - `federation`: the federation's id. Without it, what is signed is for the federation that the node names first.
 * - `genesis`, `maxAge`, `missing`: then no answer about an agent that a login or a signature depends on is believed
 *   without a profile proof, checked with these requirements (`verifyProof`). Karma is that of the proof, too.
 * - `timeout`: seconds that a request may take, 30 by default.
 */
export class FamaClient {
  constructor({ query, submit, federation, genesis, maxAge, missing, timeout = 30, fetch = globalThis.fetch } = {}) {
    const here = import.meta.url.startsWith("http") ? new URL(import.meta.url).origin : "http://127.0.0.1:8080";
    this.query = (query ?? here).replace(/\/+$/, "");
    this.submitTo = submit?.replace(/\/+$/, "");
    const stated = genesis === undefined || [maxAge, missing].every((value) => typeof value === "number");
    must(stated, "requirement_missing", "with genesis, say maxAge and missing");
    Object.assign(this, { federation, genesis, maxAge, missing, timeout, fetch });
  }

  async request(url, init = {}) {
    const signal = AbortSignal.timeout(1000 * this.timeout);
    // Browsers' fetch must not be called as a method of this.
    const { fetch } = this;
    let response, text;
    try {
      // A browser's cache may hold what was true before an event of which the page just heard: the node is always asked.
      response = await fetch(url, { cache: "no-cache", redirect: "error", ...init, signal });
      text = fromUtf8(await bodyOf(response, signal));
    } catch (cause) {
      if (cause instanceof FamaError) throw cause;
      refuse("no_answer", `${url}: ${cause?.message}`, { cause });
    }
    if (response.ok && text !== null) return text;
    // What is no JSON is not a node's answer, for example a proxy's.
    const said = parsed(text) ?? {};
    const code = typeof said.code === "string" ? said.code : "no_answer";
    return refuse(code, said.error ?? `HTTP ${response.status}`, { status: response.status, answer: said });
  }

  async json(url, init) {
    return parsed(await this.request(url, init)) ?? refuse("no_answer", "no JSON");
  }

  get(path, parameters = {}) {
    const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined)).toString();
    return this.json(this.query + path + (query && `?${query}`));
  }

  post(url, value) {
    return this.json(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });
  }

  /** The manifest that the client was given. */
  held() {
    this.manifest ??= readManifest(this.genesis);
    return this.manifest;
  }

  getStatus() {
    return this.get("/api/status");
  }

  /** An agent by name, handle, id or DID. `final`: karma from final entries only. */
  getAgent(agent, { final } = {}) {
    return this.get(`/api/agent/${encodeURIComponent(agent)}`, { final: final ? 1 : undefined });
  }

  getLeaderboard(options = {}) {
    const { limit, cursor } = typeof options === "number" ? { limit: options } : options;
    return this.get("/api/leaderboard", { limit, cursor });
  }

  /** The text of a profile proof, not verified; the question may have issuers: `name@home granted by ID ID`. */
  getProof(agent) {
    const [x, issuers] = agent.split(" granted by ");
    const more = issuers === undefined ? "" : `?granted_by=${encodeURIComponent(issuers.replaceAll(" ", ","))}`;
    return this.request(`${this.query}/api/agent/${encodeURIComponent(x)}/proof${more}`);
  }

  /** Asks the node whether a login is good: `{verified: true, …}`, or `{verified: false, code, error, status}`. */
  async verifyRemote(login) {
    return verdict(() => this.post(`${this.query}/api/verify`, login));
  }

  /**
   * Checks a login here: only the agent's key and status are asked for, of `identify` if given (a `ProfileCache` has
   * one). `now` is in milliseconds. A login holds for 300 seconds: whoever must not see one twice remembers it.
   */
  async verify(login, { identify = (name) => this.identify(name), now = Date.now() } = {}) {
    return verdict(async () => {
      let found;
      await checkLogin(login, async () => (found = await identify(login.dumbname)), now);
      const { handle, agent_id, karma, key_version } = found;
      const attestation = "Verified via MLAuth Protocol 1.0";
      return { verified: true, dumbname: login.dumbname, handle, agent_id, karma, key_version, attestation };
    });
  }

  /** What logins and signatures need of an agent: by a proof if the client has a genesis. */
  async identify(agent) {
    const asked = parseQuestion(agent);
    must(asked || NAME.test(agent), "bad_name", "want a name, a handle, an id or a DID");
    if (this.genesis === undefined) return identityOf(await this.getAgent(agent));
    const question = asked ? agent : `${agent}@${(await this.getStatus()).namespace}`;
    const { maxAge, missing } = this;
    const now = Math.floor(Date.now() / 1000);
    const proven = await verifyProof(await this.getProof(question), await this.held(), { question, maxAge, missing, now });
    must(proven.found, "unknown_agent", `nobody is ${question}`, { status: 404 });
    const { id, handle, did, key, key_version, status, suspension, karma } = proven.agent;
    const [is_revoked, is_suspended] = [status === "revoked", suspension === "holds"];
    return { agent_id: id, handle, did, key, key_version, is_revoked, is_suspended, karma: karma.sum, proven: true };
  }

  async federationId() {
    if (this.federation === undefined && this.genesis !== undefined) {
      this.federation = (await this.held()).federation;
    }
    this.federation ??= (await this.getStatus()).federation.id;
    return this.federation;
  }

  /**
   * Registers a name with the key of `key` (`signLogin` says in which forms). `next` commits to the key that may
   * follow, as a public key or `sha256:…`; without it, whoever steals the key has the identity.
   */
  async register({ dumbname, home, bio, next, key, public_key, sign, ...more }) {
    const signer = await signerOf(key ?? { public_key, sign });
    const [name, of] = dumbname.split("@");
    const note = bio == null ? undefined : noteText({ bio });
    const event = {
      kind: "register", home: of ?? home ?? (await this.getStatus()).namespace, name, key: keyText(signer.key),
      next: next == null ? null : committed(next), note: note && commitment(note),
    };
    return this.signAndSubmit(event, signer, { note, ...more });
  }

  /**
   * Replaces the key of an agent. If the version before committed to `new_key`, that key alone signs, and `key` is not
   * needed; otherwise both sign.
   */
  async rotateKey({ dumbname, key, new_key, next, ...more }) {
    const [found, signer] = [await this.identify(dumbname), await signerOf(new_key)];
    const before = await this.commitmentOf(found);
    const newKey = keyText(signer.key);
    must(before === null || before === commitment(newKey), "not_committed", "committed to another key");
    const event = {
      kind: "rotate", home: homeOf(found), identity: found.agent_id, version: String(found.key_version + 1), key: newKey,
      next: next == null ? null : committed(next),
    };
    if (before !== null) return this.signAndSubmit(event, signer, more);
    return this.signAndSubmit(event, await signerOf(key), { countersigner: signer, ...more });
  }

  /** Ends the key of an agent for good; `key` is that key, or the one to which it committed. */
  async revokeKey({ dumbname, reason = "unspecified", key, public_key, sign, ...more }) {
    const [found, signer] = [await this.identify(dumbname), await signerOf(key ?? { public_key, sign })];
    const event = {
      kind: "revoke", home: homeOf(found), identity: found.agent_id, version: String(found.key_version), key: found.key,
      reason: reason.toLowerCase(),
    };
    return this.signAndSubmit(event, signer, more);
  }

  /** Gives `score_change` points to `agent_id` (or a name) as the provider `provider_name`. */
  async attestKarma({ provider_name, agent_id, score_change, reason, external_ref, context, key, public_key, sign, ...more }) {
    const [issuer, subject] = [await this.identify(provider_name), await this.identify(agent_id)];
    const note = reason == null && external_ref == null ? undefined : noteText({ reason, ref: external_ref });
    const event = {
      kind: "attest", home: homeOf(issuer), issuer: issuer.agent_id, subject: subject.agent_id,
      delta: String(score_change), context: context ?? null, note: note && commitment(note),
    };
    return this.signAndSubmit(event, await signerOf(key ?? { public_key, sign }), { note, ...more });
  }

  /** The commitment of an agent's current version, `sha256:…` or null, from the text that its author signed. */
  async commitmentOf({ agent_id, key }) {
    const { recent_key_events } = await this.getAgent(agent_id);
    for (const { event } of recent_key_events.filter((one) => one.event_type !== "REVOKE")) {
      const { text } = await this.get(`/api/event/${event}`);
      must(eventId(text) === event, "wrong_event", "the node shows another event");
      const said = parseEvent(text);
      if (said.key === key) return said.next;
    }
    return refuse("unknown_event", "no event brought the key");
  }

  /** Builds the text here, signs it, and submits it. The error of a failed submission has it as `submission`. */
  async signAndSubmit(event, signer, { note, countersigner, wait, invite } = {}) {
    const text = eventText({ federation: await this.federationId(), ...event });
    const signed = async ({ sign }) => toBase64(await sign(utf8(text)));
    const submission = { text, signature: await signed(signer), signer: keyText(signer.key), note, invite };
    if (countersigner) submission.countersignature = await signed(countersigner);
    return this.submit(submission, { wait });
  }

  /**
   * Submits a signed event. `wait`: answer only once it is final, or after some 20 seconds. The same text is the same
   * event: after a broken connection, submit `error.submission` again.
   */
  async submit(submission, { wait = false } = {}) {
    must(this.submitTo, "no_submit", "configure submit");
    let receipt;
    try {
      receipt = await this.post(`${this.submitTo}/events${wait ? "?wait=final" : ""}`, submission);
    } catch (error) {
      error.submission = submission;
      throw error;
    }
    const requirements = { question: eventId(submission.text), ownerOnly: !receipt.final };
    if (this.genesis !== undefined) await verifyProof(receipt.proof, await this.held(), requirements);
    return { ...receipt, text: submission.text };
  }
}

const homeOf = (found) => found.handle.split("@")[1];
const committed = (next) => (COMMITMENT.test(next) ? next : commitment(keyText(readKey(next))));

function identityOf({ identity, key_status, reputation }) {
  const { agent_id, handle, did, public_key, key_version } = identity;
  const { is_revoked, is_suspended } = key_status;
  const key = keyText(readKey(public_key));
  return { agent_id, handle, did, key, key_version, is_revoked, is_suspended, karma: reputation.global_score, proven: false };
}

/** The status that a node gives to a login that it refuses with this code; undefined for other codes. */
function loginStatus(code) {
  if (/^(?:expired|bad_signature|revoked|suspended)$/.test(code)) return 401;
  if (code === "unknown_agent") return 404;
  return /^(?:missing|bad|forbidden)_/.test(code) ? 400 : undefined;
}

/** What `run` says of a login, a refusal of it as a value. Everything else, such as a node that is down, throws. */
async function verdict(run) {
  try {
    return await run();
  } catch (error) {
    const status = error.status ?? loginStatus(error.code);
    if (!(error instanceof FamaError) || ![400, 401, 404].includes(status)) throw error;
    return { verified: false, code: error.code, error: error.message, status };
  }
}

let client = new FamaClient();

/** Makes the client that the functions below use; the options are those of `FamaClient`. */
export function configure(options) {
  client = new FamaClient(options);
  return client;
}

const call = (name) => (...given) => client[name](...given);

export const getStatus = call("getStatus");
export const getAgent = call("getAgent");
export const getLeaderboard = call("getLeaderboard");
export const getProof = call("getProof");
export const verify = call("verify");
export const verifyRemote = call("verifyRemote");
export const register = call("register");
export const rotateKey = call("rotateKey");
export const revokeKey = call("revokeKey");
export const attestKarma = call("attestKarma");
