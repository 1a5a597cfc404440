// Checks what a page says against proofs, in the reader's own browser.
import { load, localize, refresh } from "./page.js";

const PINNED = "fama.genesis";
/** Seconds: a log with an older certificate counts as left out. In a federation that works, every log is cosigned more often. */
const AGE_MAX = 600;
/** How often a page that lags behind the proof is loaded again, and the pause in between, in milliseconds. */
const TRIES = 4;
const PAUSE = 1_500;
const FILE_BYTES_MAX = 1 << 20;
/** Refusals that are no lie: what is asked for cannot be proven now. */
const NOT_NOW = new Set(["proof_pending", "overloaded", "rate_limited", "profile_left_out", "profile_home_left_out", "profile_ahead", "not_final", "profile_outdated", "proof_outdated", "not_ready", "loading", "timeout"]);

const section = document.querySelector("[data-verify]");
const panel = section.querySelector(".panel");
const { verify: kind, question } = section.dataset;
const sleep = (millis) => new Promise((resolve) => setTimeout(resolve, millis));
const fama = () => import("/fama.js");

function node(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
const text = (value) => node("bdi", { dir: "auto", textContent: value });
const code = (value) => node("code", { textContent: value });
const button = (name, run, className = "") => {
  const made = node("button", { type: "button", className, textContent: name });
  made.addEventListener("click", async () => {
    made.disabled = true;
    try { await run(); } finally { made.disabled = false; }
  });
  return made;
};
const when = (time) => {
  const made = node("span", {}, node("time", { dateTime: time, textContent: time }));
  localize(made);
  return made;
};

const outcome = node("div", { role: "status", "aria-live": "polite", id: "outcome" });

/** A verdict: `good`, `careful` or `bad`, a headline, and lines that are texts or nodes. */
function tell(mark, headline, lines = [], not = []) {
  const shape = { good: "● ", careful: "▲ ", bad: "✕ " }[mark] ?? "";
  const shown = node("div", { className: `verdict ${mark}` }, node("h3", {}, node("span", { "aria-hidden": "true", textContent: shape }), headline));
  const list = (items) => node("ul", {}, ...items.map((item) => node("li", {}, ...[item].flat())));
  if (lines.length) shown.append(list(lines));
  if (not.length) shown.append(node("p", { textContent: "Not proven:" }), list(not));
  outcome.replaceChildren(shown);
}

async function get(path) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(20_000) });
  } catch {
    throw Object.assign(new Error("the node does not answer"), { code: "timeout" });
  }
  const body = await answer.text();
  if (answer.ok) return body;
  let said = {};
  try { said = JSON.parse(body); } catch { /* Not in the form of an API: the status says enough. */ }
  throw Object.assign(new Error(said.error ?? `the node answers ${answer.status}`), { code: said.code ?? `status_${answer.status}`, refused: true });
}

// ---- The pinned genesis ----

function stored() {
  try { return JSON.parse(localStorage.getItem(PINNED) ?? "null"); } catch { return null; }
}

async function pinned() {
  const { readManifest } = await fama();
  const kept = stored();
  return kept ? readManifest(kept.text) : null;
}

/** Keeps the first version of what a reader chose. */
function keep(chain, genesis) {
  localStorage.setItem(PINNED, JSON.stringify({ text: chain, id: genesis.federation, name: genesis.name, at: new Date().toISOString() }));
  draw();
}

async function choose(chain, from) {
  const { readManifest } = await fama();
  let genesis;
  try {
    genesis = (await readManifest(chain)).at(1);
  } catch (error) {
    tell("bad", "That is no manifest of a federation", [`${error.message}`]);
    return;
  }
  const shown = node("div", { className: "verdict" },
    node("h3", { textContent: "Is this the federation you mean?" }),
    node("p", {}, text(genesis.name), ", with the id "),
    node("p", {}, code(genesis.federation)),
    node("p", { textContent: `${from} Compare the id with one you got elsewhere: from an operator's own page, from somebody you trust, or from fama federation show. Whoever chooses it chooses what you will believe.` }),
    node("div", { className: "row" },
      button("Pin it", () => { outcome.replaceChildren(); keep(chain, genesis); }, "primary"),
      button("Cancel", () => outcome.replaceChildren())));
  outcome.replaceChildren(shown);
  shown.querySelector("button").focus();
}

async function fromNode() {
  try {
    await choose(await get("/manifest/1"), "This node sent it just now.");
  } catch (error) {
    tell("careful", "The node did not send its genesis", [error.message]);
  }
}

async function fromFile(input) {
  const [file] = input.files;
  if (!file) return;
  if (file.size > FILE_BYTES_MAX) tell("bad", "That is no manifest of a federation", ["The file is too long."]);
  else await choose(await file.text(), "It is from your file.");
  input.value = "";
}

// ---- Profiles ----

/** What a page shows, from its own markup. */
function claims(root) {
  const of = root.getElementById("claims")?.dataset;
  if (!of) return null;
  return {
    handle: of.handle, id: of.id, pem: of.pem.replaceAll(/\s/g, ""), version: Number(of.version), revoked: of.revoked === "true",
    karma: Number(of.karma), count: Number(of.count), final: of.final === "true",
  };
}

/** The PEM of a proven key, as pages show it. */
function pem(key) {
  const [curve, hex] = key.split(":");
  const prefix = curve === "ed25519" ? "302a300506032b6570032100" : "3036301006072a8648ce3d020106052b8104000a032200";
  const bytes = Uint8Array.from((prefix + hex).match(/../g), (byte) => parseInt(byte, 16));
  return `-----BEGINPUBLICKEY-----${btoa(String.fromCharCode(...bytes))}-----ENDPUBLICKEY-----`;
}

/** How a page differs from what is proven about an agent. */
function differences(page, agent) {
  const found = [];
  if (page.id !== agent.id || page.handle !== agent.handle) found.push(`The page is of ${page.handle}, the proof of ${agent.handle}.`);
  if (page.version !== agent.key_version) found.push(`The page shows key ${page.version}, proven is key ${agent.key_version}.`);
  else if (!samePem(page.pem, agent.key)) found.push("The page shows another public key than the one that is proven.");
  if (page.revoked !== (agent.status === "revoked")) found.push(page.revoked ? "The page says that the key is revoked; no revocation is proven." : "The key is revoked, and the page says that it is good.");
  if (page.karma !== agent.karma.sum || page.count !== agent.karma.count) found.push(`The page shows karma ${page.karma} from ${page.count}, proven is ${agent.karma.sum} from ${agent.karma.count}.`);
  return found;
}

function samePem(shown, key) {
  if (shown === pem(key)) return true;
  // A PEM may hold the whole point, of which the proven text has the compressed form: its x coordinate is the same.
  const body = shown.replaceAll(/-----[A-Z]*-----/g, "");
  try {
    const hex = Array.from(atob(body), (byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");
    return key.startsWith("secp256k1:") && hex.length === 176 && hex.slice(48, 112) === key.slice(-64);
  } catch {
    return false;
  }
}

async function checkProfile(genesis) {
  const { readManifest, verifyProof } = await fama();
  const chain = await readManifest(await get("/api/federation/manifests"));
  const missing = chain.federation === genesis.federation ? chain.faults : genesis.faults;
  let [proven, page, found] = [null, null, []];
  for (let left = TRIES; left > 0; left--) {
    proven = await verifyProof(await get(`/api/agent/${question}/proof`), genesis, { question, maxAge: AGE_MAX, missing, now: Date.now() / 1000 });
    await refresh();
    page = claims(document) ?? claims(await load());
    found = page && proven.found ? differences(page, proven.agent) : [];
    if (proven.found && !found.length) break;
    if (left > 1) await sleep(PAUSE);
  }
  if (!proven.found) {
    if (page?.final) return tell("bad", "The node proves that there is no such agent", ["Yet its page shows one, and says that it is final."]);
    return tell("careful", "Not proven yet", ["The agent's registration is not final: it can be proven once a quorum of operators has cosigned it. Try again in a moment."]);
  }
  if (found.length && page.final) return tell("bad", "This page contradicts the node's own proof", [...found, "The page says that all of this is final, so the two must agree. Do not believe it: ask another operator's node."]);
  if (found.length) return tell("careful", "Proven, but the page is ahead of the proof", [...found, "The page says that its newest entries are not final yet. What is proven is older."], unproven(proven));
  return tell("good", "Proven: the page is right", provenLines(proven), unproven(proven));
}

function provenLines(proven) {
  const { agent } = proven;
  const status = { revoked: "is revoked", active: "is good", not_known_revoked: "is not known to be revoked" }[agent.status];
  const names = new Set(proven.logs.flatMap((log) => log.cosigned.map((one) => one.operator)));
  const lines = [
    [text(agent.handle), ` has key ${agent.key_version}, which ${status}.`],
    `Karma ${agent.karma.sum} from ${agent.karma.count} ${agent.karma.count === 1 ? "attestation" : "attestations"} that count.`,
  ];
  if (proven.as_of) lines.push(["As of ", when(proven.as_of), `, ${proven.age_seconds} s before this check.`]);
  lines.push(`Signed by ${[...names].sort().join(", ")}, under version ${proven.manifest_version} of the manifest.`);
  return lines;
}

function unproven(proven) {
  const lines = [
    "What happened after that time.",
    "Bios, reasons and evidence: the events commit to their hashes, not to their truth.",
    "That this check is honest: its code came from the same node. For a check that does not depend on any node, run fama prove and fama verify, or open the page at an operator you trust.",
  ];
  for (const log of proven.left_out) lines.unshift([`Anything that only the log ${log.log} says: it is left out (${log.why}).`]);
  return lines;
}

// ---- Events ----

async function checkEvent(genesis) {
  const { readManifest, verifyProof } = await fama();
  const chain = await readManifest(await get("/api/federation/manifests"));
  if (chain.federation !== genesis.federation) throw Object.assign(new Error("the node's manifest is of another federation"), { code: "other_federation" });
  const proven = await verifyProof(await get(`/api/event/${question}/proof`), chain, { question });
  const shown = document.getElementById("signed").textContent;
  if (proven.text !== undefined && proven.text.trim() !== shown.trim()) {
    return tell("bad", "This page shows another text than the one that is proven", ["Do not believe it: ask another operator's node."]);
  }
  return tell("good", "Proven: these bytes are in the log", [
    ["Entry ", `${proven.index} of ${proven.log}, recorded `, when(proven.time), "."],
    "The author's signature over the text is valid.",
    proven.cosigned ? `Under a head that ${proven.cosigned.map((one) => one.operator).join(", ")} cosigned, by version ${proven.manifest_version} of the manifest.` : "The log was cut at this head.",
  ], [
    "Whether the event had an effect: a log can hold events that a rule makes void.",
    "The note's text: the event commits to its hash, not to its truth.",
    "That this check is honest: its code came from the same node. fama verify checks the same proof without it.",
  ]);
}

// ---- The panel ----

async function check() {
  tell("", "Checking…");
  try {
    const genesis = (await pinned())?.at(1);
    if (!genesis) return;
    await (kind === "profile" ? checkProfile(genesis) : checkEvent(genesis));
  } catch (error) {
    const why = [`${error.message}`];
    if (error.code === "profile_federation" || error.code === "other_federation") {
      tell("bad", "This node serves another federation than the one you pinned", [...why, "Either you pinned the wrong one, or somebody shows you a copy."]);
    } else if (error.refused || NOT_NOW.has(error.code)) {
      tell("careful", "Nothing is proven now", [...why, "That is no sign of a lie: try again in a moment, or at another operator's node."]);
    } else {
      tell("bad", "The proof does not hold", [...why, `Code: ${error.code ?? error.name}`, "An honest node proves what it says. Do not believe this page: ask another operator's node."]);
    }
  }
}

function draw() {
  if (!globalThis.crypto?.subtle) {
    panel.replaceChildren(node("div", { className: "verdict careful" },
      node("h3", { textContent: "▲ This browser cannot check here" }),
      node("p", { textContent: "Browsers lend their cryptography only to pages from https and from this machine, and this page came over plain http." }),
      node("p", {}, "Open the node by https, or through a tunnel (", code(`ssh -L 8080:${location.host} …`), " and then http://localhost:8080), or run ", code("fama prove"), " and ", code("fama verify"), ".")));
    return;
  }
  const kept = stored();
  if (kept) {
    const forget = button("Forget it", () => { localStorage.removeItem(PINNED); outcome.replaceChildren(); draw(); });
    panel.replaceChildren(
      node("div", { className: "row" }, button("Verify in this browser", check, "primary"), forget),
      node("p", { className: "small" }, "Pinned ", when(kept.at), ": ", text(kept.name), ", id ", code(kept.id)), outcome);
    return;
  }
  const input = node("input", { type: "file", accept: ".txt,text/plain", id: "genesis-file" });
  input.addEventListener("change", () => fromFile(input));
  panel.replaceChildren(
    node("p", { textContent: "First choose the federation whose operators you mean, once for this browser. Everything else follows from signatures." }),
    node("div", { className: "row" }, button("Show this node's federation", fromNode, "primary"), node("label", { htmlFor: "genesis-file", textContent: "or a manifest file of yours:" }), input), outcome);
}

document.addEventListener("fama:changed", () => {
  const shown = outcome.querySelector(".verdict.good h3");
  if (shown && !shown.dataset.old) {
    shown.dataset.old = "";
    shown.append(" – the page has changed since; verify again");
  }
});
draw();
