// What every page gets: times and numbers as the reader writes them, and parts that stay new.
const timeForm = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const numberForm = new Intl.NumberFormat();
const signedForm = new Intl.NumberFormat(undefined, { signDisplay: "exceptZero" });

/** Shows times and numbers below an element in the reader's own form; UTC is on hover. */
export function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
    time.textContent = timeForm.format(at);
  }
  for (const data of root.querySelectorAll("data[value]:not([data-shown])")) {
    const number = Number(data.value);
    if (!Number.isSafeInteger(number)) continue;
    data.textContent = ("signed" in data.dataset ? signedForm : numberForm).format(number);
    data.dataset.shown = "";
  }
}

const live = () => [...document.querySelectorAll("[data-live][id]")];
/** The parts as the node last sent them. */
const sent = new Map(live().map((part) => [part.id, part.innerHTML]));
localize(document);

/** This page as the node shows it now. */
export function load() {
  // Not fetch: this parses without handing text to the page as markup, and runs no script of it.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname + location.search);
    request.setRequestHeader("Accept", "text/html");
    // The browser asks the node whether its copy still holds: most often it does.
    request.setRequestHeader("Cache-Control", "max-age=0");
    request.responseType = "document";
    request.timeout = 10_000;
    request.onload = () => (request.status === 200 && request.response ? resolve(request.response) : reject(new Error(`${request.status}`)));
    request.onerror = request.ontimeout = () => reject(new Error("no answer"));
    request.send();
  });
}

/** Takes over the parts that changed. Says which did. */
export async function refresh() {
  const page = await load();
  const changed = [];
  for (const part of live()) {
    const fresh = page.getElementById(part.id);
    if (!fresh || sent.get(part.id) === fresh.innerHTML) continue;
    sent.set(part.id, fresh.innerHTML);
    replace(part, document.importNode(fresh, true));
    changed.push(part.id);
  }
  if (changed.length) document.dispatchEvent(new CustomEvent("fama:changed", { detail: changed }));
  return changed;
}

function replace(part, fresh) {
  const known = new Set([...part.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const places = (root) => [...root.querySelectorAll("a[href], button, summary, [tabindex]")];
  const at = focused ? places(part).indexOf(focused) : -1;
  localize(fresh);
  fresh.querySelectorAll("details").forEach((one, i) => (one.open = open[i] ?? false));
  if (known.size) {
    for (const row of fresh.querySelectorAll("[data-key]")) row.classList.toggle("fresh", !known.has(row.dataset.key));
  }
  part.replaceWith(fresh);
  if (at >= 0) {
    const all = places(fresh);
    const same = all.find((one) => focused.getAttribute("href") && one.getAttribute("href") === focused.getAttribute("href"));
    (same ?? all[at])?.focus({ preventScroll: true });
  }
}

// Paper cannot be hovered over: it says where it is from, and of which zone its times are.
addEventListener("beforeprint", () => {
  const { timeZone } = timeForm.resolvedOptions();
  document.getElementById("printed").textContent = `Printed from ${location.href} on ${timeForm.format(new Date())}. Times are those of ${timeZone}.`;
});

// ---- Following ----

/** Milliseconds: after an event, and between two looks; cosignatures come often and change little. */
const SOON = 120;
const PAUSE = 800;
const SELDOM = 4_000;

const pause = document.getElementById("pause");
let source = null;
let timer = null;
let last = 0;
let paused = false;

const wanted = () => !paused && !document.hidden;

function look(wait) {
  if (timer !== null && timer.wait <= wait) return;
  if (timer !== null) clearTimeout(timer.id);
  const due = Math.max(wait === SELDOM ? SELDOM - (Date.now() - last) : SOON, PAUSE - (Date.now() - last), SOON);
  timer = { wait, id: setTimeout(run, due) };
}

async function run() {
  timer = null;
  last = Date.now();
  if (!wanted()) return;
  try {
    const changed = await refresh();
    if (changed.length) say(`Updated at ${timeForm.format(new Date())}.`);
  } catch {
    say("The node does not answer; this page may be old.");
    look(SELDOM);
  }
}

function say(text) {
  const place = document.getElementById("updated");
  if (place && place.textContent !== text) place.textContent = text;
}

function follow() {
  const path = document.body.dataset.stream;
  if (!path || !window.EventSource) return;
  if (!wanted()) {
    source?.close();
    source = null;
    return;
  }
  if (source) return;
  source = new EventSource(path);
  // What happened while nobody listened is shown once the stream is open.
  source.onopen = () => look(SOON);
  for (const name of ["key", "registration", "karma"]) source.addEventListener(name, () => look(SOON));
  source.addEventListener("checkpoint", () => look(document.querySelector("[data-pending]") ? SOON : SELDOM));
  source.onerror = () => {
    say("The node does not answer; this page may be old.");
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(follow, SELDOM);
    }
  };
}

document.addEventListener("visibilitychange", follow);
addEventListener("pagehide", () => { source?.close(); source = null; });
addEventListener("pageshow", follow);
if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Continue" : "Pause";
    follow();
  });
}
follow();
