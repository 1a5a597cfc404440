// What the peers in JavaScript measure, each in the same way, and the events that all of them take.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, lstatSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createServer } from "node:net";
import { createRequire } from "node:module";

/** Requests that are under way at a time: 16 single events are what a node of Fama takes from one address. */
export const IN_FLIGHT = { events: 16, batches: 4, queries: 4 };
export const BATCH = 250;
/** Seconds after which events are no longer handed in one by one, and nothing is asked any more. */
const ONE_BY_ONE_SECONDS = 20;
const QUERY_SECONDS = 5;
const QUERIES_MAX = 20_000;

const hex = (text) => createHash("sha256").update(text).digest("hex");

/** What an attestation says, without signer and signature: about as many bytes as Fama's. Each subject gets about ten. */
export function payloads(count) {
  const subjects = Math.max(1, Math.min(1000, Math.floor(count / 10)));
  const created = new Date().toISOString();
  return Array.from({ length: count }, (_, i) => ({
    home: "peers.example", subject: hex(`subject ${i % subjects}`), delta: (i % 5) + 1, created, nonce: hex(`nonce ${i}`).slice(0, 16),
  }));
}

const now = () => performance.now();
const round = (number, places = 2) => Number(number.toFixed(places));

function spread(times, seconds) {
  times.sort((a, b) => a - b);
  const at = (part) => round(times[Math.min(times.length - 1, Math.floor((times.length * part) / 100))]);
  return { per_second: round(times.length / seconds, 1), p50_ms: at(50), p99_ms: at(99) };
}

/** Calls `call` for the items in turn, `width` at a time, until `seconds` are over. */
async function timed(items, width, seconds, call) {
  const [times, begun] = [[], now()];
  let next = 0;
  const worker = async () => {
    while (next < items.length && now() - begun < seconds * 1000) {
      const item = items[next++];
      const asked = now();
      await call(item);
      times.push(now() - asked);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return { done: next, ...spread(times, (now() - begun) / 1000) };
}

/**
 * Hands in all events: a tenth one by one, then many at once, then in batches. `one` and `batch` return once the system
 * says that it has them. Without `batch`, those that are left are handed in many at once.
 */
export async function handIn(events, one, batch) {
  const first = await timed(events.slice(0, Math.ceil(events.length / 10)), 1, ONE_BY_ONE_SECONDS, one);
  const rest = events.slice(first.done);
  const many = batch ? rest.slice(0, Math.ceil(events.length * 0.4)) : rest;
  const result = { one_by_one: first, many_at_once: await timed(many, IN_FLIGHT.events, Infinity, one), batches: null };
  if (batch) {
    const left = rest.slice(many.length);
    const groups = [];
    for (let at = 0; at < left.length; at += BATCH) groups.push(left.slice(at, at + BATCH));
    const begun = now();
    await timed(groups, IN_FLIGHT.batches, Infinity, batch);
    result.batches = { done: left.length, per_second: round((left.length * 1000) / (now() - begun), 1) };
  }
  return result;
}

/** Asks about the keys in an order that looks random. */
export async function queries(keys, ask) {
  const sorted = [...new Set(keys)].sort((a, b) => (hex(a) < hex(b) ? -1 : 1));
  const asked = Array.from({ length: Math.min(QUERIES_MAX, keys.length * 10) }, (_, i) => sorted[i % sorted.length]);
  return timed(asked, IN_FLIGHT.queries, QUERY_SECONDS, ask);
}

/** Waits until `ready` says so; fails after `seconds`. */
export async function until(ready, seconds = 600) {
  const begun = now();
  while (!(await ready())) {
    if (now() - begun > seconds * 1000) throw new Error(`not there after ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const syncResult = (events, begun) => {
  const seconds = (now() - begun) / 1000;
  return { seconds: round(seconds), per_second: round(events / seconds, 1) };
};
export { now };

/** Memory that processes have for themselves, with their part of what they share, in bytes. */
export function memory(...pids) {
  const own = (pid) => Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) * 1024;
  return pids.map(own).reduce((sum, bytes) => sum + bytes, 0);
}

/** A process and all that it started. */
export function family(pid) {
  const parent = (of) => Number(readFileSync(`/proc/${of}/stat`, "utf8").replace(/.*\) . /, "").split(" ")[0]);
  const numbers = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const isChild = (of) => {
    try {
      return parent(of) === pid;
    } catch {
      return false; // it ended meanwhile
    }
  };
  return [pid, ...numbers.filter(isChild)];
}

/** Bytes of all files below a folder, without holes and without room that is only reserved. */
export function disk(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => {
      try {
        const { size, blocks } = lstatSync(join(folder, name));
        return Math.min(size, blocks * 512);
      } catch {
        return 0; // deleted meanwhile
      }
    })
    .reduce((sum, bytes) => sum + bytes, 0);
}

/** Versions of packages as they are installed. */
export function versions(...names) {
  const of = (name) => JSON.parse(readFileSync(join(import.meta.dirname, "node_modules", name, "package.json"), "utf8")).version;
  return Object.fromEntries(names.map((name) => [name, of(name)]));
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export function folderOf(...parts) {
  const path = join(...parts);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

export const require = createRequire(import.meta.url);
