// Asks every node for the same agent, and marks what differs.
import { localize } from "./page.js";

const TIMEOUT = 8_000;
const table = document.getElementById("nodes");
const verdict = document.getElementById("verdict");
const own = table.querySelector("tr[data-own]");
const cell = (row, field) => row.querySelector(`[data-field="${field}"]`);

/** What is compared, of a profile. */
function facts(profile) {
  const { identity, key_status: key, reputation, ledger } = profile;
  return {
    handle: identity.handle, pem: identity.public_key.trim(), key: `Key ${key.key_version}, ${key.is_revoked ? "revoked" : "good"}`,
    karma: reputation.global_score, count: reputation.attestation_count,
    entries: Object.values(ledger.frontier).reduce((sum, size) => sum + size, 0), state: ledger.state_id,
  };
}

async function ask(origin) {
  const answer = await fetch(`${origin}/api/agent/${table.dataset.id}`, { signal: AbortSignal.timeout(TIMEOUT), credentials: "omit", cache: "no-store" });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`it answers ${answer.status}`);
  return facts(await answer.json());
}

function number(value) {
  const data = document.createElement("data");
  [data.value, data.textContent, data.className] = [String(value), String(value), "n"];
  return data;
}

function text(value) {
  const bdi = document.createElement("bdi");
  [bdi.dir, bdi.textContent] = ["auto", value];
  return bdi;
}

function badge(mark, word) {
  const [badge, shape] = [document.createElement("span"), document.createElement("span")];
  badge.className = `badge ${mark}`;
  shape.className = "shape";
  shape.setAttribute("aria-hidden", "true");
  shape.textContent = { good: "●", careful: "▲", bad: "✕" }[mark];
  badge.append(shape, word);
  return badge;
}

function show(row, found, ours) {
  const shown = { handle: text(found.handle), key: text(found.key), karma: number(found.karma), count: number(found.count), entries: number(found.entries) };
  for (const [field, node] of Object.entries(shown)) cell(row, field).replaceChildren(node);
  const differs = ["handle", "karma", "count"].filter((field) => found[field] !== ours[field]);
  if (found.key !== ours.key || found.pem !== ours.pem) differs.push("key");
  for (const field of differs) cell(row, field).classList.add("differs");
  localize(row);
  const same = found.state === ours.state;
  if (!differs.length) return ["good", "Agrees"];
  return same ? ["bad", `Differs: ${differs.join(", ")}`] : ["careful", `Differs, at other entries: ${differs.join(", ")}`];
}

async function compare() {
  const rows = [...table.querySelectorAll("tr[data-origin]")];
  if (!rows.length) return;
  verdict.textContent = "Asking the other nodes…";
  const mine = ask(location.origin);
  const marks = await Promise.all(rows.map(async (row) => {
    try {
      const [found, ours] = await Promise.all([ask(row.dataset.origin), mine]);
      const [mark, word] = found ? show(row, found, ours) : ["careful", "Does not know the agent"];
      cell(row, "verdict").replaceChildren(badge(mark, word));
      return mark;
    } catch (error) {
      const why = error.name === "TimeoutError" || error instanceof TypeError ? "No answer" : `No answer: ${error.message}`;
      cell(row, "verdict").replaceChildren(badge("careful", why));
      return "none";
    }
  }));
  const ours = await mine.catch(() => null);
  if (ours) {
    for (const field of ["karma", "count", "entries"]) cell(own, field).replaceChildren(number(ours[field]));
    cell(own, "key").replaceChildren(text(ours.key));
    localize(own);
  }
  const count = (mark) => marks.filter((one) => one === mark).length;
  const answered = marks.length - count("none");
  const parts = [`${answered} of ${marks.length} other nodes answered.`];
  if (count("bad")) parts.push("At the same entries, nodes say different things: one of them lies or is broken. Check the agent's proof.");
  else if (count("careful")) parts.push("Some differ, but hold other entries: one of them may be behind. Compare again in a moment.");
  else if (answered) parts.push(answered === marks.length ? "All of them agree with this one." : "Those that answered agree with this one.");
  verdict.textContent = parts.join(" ");
}

await compare();
