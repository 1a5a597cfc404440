// A Nostr relay, nostr_relay with SQLite: `node nostr.mjs N FOLDER` prints what it measured as JSON.
import { execFileSync } from "node:child_process";
import { realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finalizeEvent, generateSecretKey } from "nostr-tools/pure";
import { WebSocket } from "ws";
import { ifUp, send, start, stop } from "./http.mjs";
import { disk, family, folderOf, freePort, handIn, memory, now, payloads, queries, syncResult, until, versions } from "./measure.mjs";

const AUTHORS = 16;
/** That of labels (NIP-32): signed statements about somebody. */
const KIND = 1985;
/** Next to what npm installed, since it is a program in Python. */
const PYTHON = realpathSync(join(import.meta.dirname, "node_modules")).replace(/node_modules$/, "python/bin");
const IN_FLIGHT = 250;
const DURABLE = {
  synced: false,
  durable: "committed to SQLite with synchronous=NORMAL, which syncs only at checkpoints: a killed process loses nothing, a power failure may",
  notes: [
    "a batch is as many messages sent at once, each with an answer of its own", "a query finds the newest event about a subject, no sum",
    "it has no mirror: the driver reads everything and hands it in to a second relay",
  ],
};

/** A relay with the settings that it comes with, but for the bound on what one request finds. */
async function serve(folder, count) {
  const [config, port] = [join(folder, "config.yaml"), await freePort()];
  writeFileSync(config, [
    "relay_name: peers", `max_limit: ${2 * count}`, "storage:", `  sqlalchemy.url: sqlite+aiosqlite:///${join(folderOf(folder, "data"), "nostr.sqlite3")}`,
    "  num_concurrent_reqs: 10", "  num_concurrent_adds: 2", "  validators:", "    - nostr_relay.validators.is_not_too_large",
    "    - nostr_relay.validators.is_signed", "    - nostr_relay.validators.is_recent", "    - nostr_relay.validators.is_not_hellthread",
    "gunicorn:", `  bind: 127.0.0.1:${port}`, "  workers: 1", "  loglevel: warning", "",
  ].join("\n"));
  const relay = start(join(folder, "log"), join(PYTHON, "nostr-relay"), ["-c", config, "serve"]);
  await until(async () => (await ifUp(() => send(port, "GET", "/")))?.status === 200);
  return { process: relay, port };
}

const version = () =>
  execFileSync(join(PYTHON, "python3"), ["-c", "from importlib.metadata import version; print(version('nostr_relay'))"], { encoding: "utf8" }).trim();

/** A connection to a relay, over which many things are under way. */
class Client {
  #answers = new Map();
  #subscriptions = 0;

  static async open({ port }) {
    const client = new Client();
    client.socket = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
    client.socket.on("message", (message) => client.#take(JSON.parse(message)));
    await new Promise((resolve, reject) => client.socket.once("open", resolve).once("error", reject));
    return client;
  }

  #take([kind, about, said]) {
    const answer = this.#answers.get(about);
    if (kind === "EVENT") answer?.event(said);
    else if (kind === "OK" || kind === "EOSE") answer?.end(said);
    else throw new Error(`${kind} ${about} ${said}`);
  }

  #ask(about, message, event) {
    return new Promise((resolve) => {
      this.#answers.set(about, { event, end: resolve });
      this.socket.send(message);
    }).finally(() => this.#answers.delete(about));
  }

  /** Hands in an event; returns once the relay says that it has it. */
  async publish({ id, message }) {
    if ((await this.#ask(id, message)) !== true) throw new Error(`the relay refuses ${id}`);
  }

  /** Calls `each` for the events that a filter finds. */
  async request(filter, each) {
    const name = String((this.#subscriptions += 1));
    await this.#ask(name, JSON.stringify(["REQ", name, filter]), each);
    this.socket.send(JSON.stringify(["CLOSE", name]));
  }

  async newest(subject) {
    let found;
    await this.request({ kinds: [KIND], "#p": [subject], limit: 1 }, (event) => (found = event));
    return found;
  }
}

const messageOf = (event) => ({ id: event.id, message: JSON.stringify(["EVENT", event]) });

function sign(payload, key) {
  const created_at = Math.floor(Date.now() / 1000);
  return messageOf(finalizeEvent({ kind: KIND, created_at, tags: [["p", payload.subject]], content: JSON.stringify(payload) }, key));
}

/** What a mirror would do: read everything from one relay, and have another check and keep each event. */
async function mirror(from, to) {
  const found = [];
  await from.request({ kinds: [KIND] }, (event) => found.push(messageOf(event)));
  let next = 0;
  const worker = async () => {
    while (next < found.length) await to.publish(found[next++]);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return found.length;
}

async function main(count, folder) {
  const keys = Array.from({ length: AUTHORS }, generateSecretKey);
  const events = payloads(count);
  const signed = events.map((payload, i) => sign(payload, keys[i % AUTHORS]));
  const first = await serve(folderOf(folder, "first"), count);
  const before = disk(join(folder, "first", "data"));
  const client = await Client.open(first);
  const publish = (event) => client.publish(event);
  const figures = await handIn(signed, publish, (group) => Promise.all(group.map(publish)));
  const point_queries = await queries(events.map(({ subject }) => subject), async (subject) => {
    if ((await client.newest(subject)) === undefined) throw new Error(`${subject} is missing`);
  });
  const resident_memory_bytes = memory(...family(first.process.pid));
  const bytes = disk(join(folder, "first", "data")) - before;
  const begun = now();
  const second = await serve(folderOf(folder, "second"), count);
  const copy = await Client.open(second);
  const held = await mirror(client, copy);
  if ((await copy.newest(events.at(-1).subject)) === undefined || held !== count) throw new Error(`the second relay has ${held} of ${count}`);
  const sync = syncResult(count, begun);
  await stop(first.process);
  await stop(second.process);
  console.log(JSON.stringify({
    system: "Nostr relay", version: { nostr_relay: version(), ...versions("nostr-tools", "ws") }, events: count,
    ...figures, sync, quick_sync: null, point_queries, disk_bytes_per_event: Math.round(bytes / count), resident_memory_bytes, ...DURABLE,
  }));
  process.exit(0);
}

await main(Number(process.argv[2]), process.argv[3]);
