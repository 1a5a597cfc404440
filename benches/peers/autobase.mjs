// Autobase with a Hyperbee as its view: `node autobase.mjs N FOLDER` prints what it measured as JSON.
import { fork } from "node:child_process";
import { connect, createServer } from "node:net";
import Autobase from "autobase";
import Corestore from "corestore";
import Hyperbee from "hyperbee";
import sodium from "sodium-native";
import { disk, folderOf, handIn, memory, now, payloads, queries, syncResult, until, versions } from "./measure.mjs";

const AUTHORS = 16;
const DURABLE = {
  synced: false,
  durable: "written to RocksDB's write-ahead log, never synced: a killed process loses nothing, a power failure may",
  notes: ["the authors' signatures are checked by the function that makes the view", "program and driver are one process", "one writer"],
};
const hex = (bytes) => bytes.toString("hex");

function keys(number) {
  const [publicKey, secretKey] = [Buffer.alloc(sodium.crypto_sign_PUBLICKEYBYTES), Buffer.alloc(sodium.crypto_sign_SECRETKEYBYTES)];
  sodium.crypto_sign_seed_keypair(publicKey, secretKey, Buffer.alloc(32, number + 1));
  return { publicKey, secretKey };
}

function sign(payload, { publicKey, secretKey }) {
  const [text, signature] = [JSON.stringify(payload), Buffer.alloc(sodium.crypto_sign_BYTES)];
  sodium.crypto_sign_detached(signature, Buffer.from(text), secretKey);
  return { text, author: hex(publicKey), signature: hex(signature) };
}

// As in a ledger, the writer is not the author: everybody who folds an event checks its author's signature.
function verified({ text, author, signature }) {
  const holds = sodium.crypto_sign_verify_detached(Buffer.from(signature, "hex"), Buffer.from(text), Buffer.from(author, "hex"));
  return holds ? JSON.parse(text) : null;
}

const open = (store) => new Hyperbee(store.get("view"), { extension: false, keyEncoding: "utf-8", valueEncoding: "json" });

async function apply(nodes, view) {
  const batch = view.batch({ update: false });
  for (const { value } of nodes) {
    const event = verified(value);
    if (event === null) continue;
    const before = (await batch.get(event.subject))?.value ?? { karma: 0, count: 0 };
    await batch.put(event.subject, { karma: before.karma + event.delta, count: before.count + 1, last: event.nonce });
  }
  await batch.flush();
}

async function start(folder, key, fastForward) {
  const base = new Autobase(new Corestore(folder), key, { open, apply, valueEncoding: "json", fastForward });
  await base.ready();
  return base;
}

const answer = async (base, subject) => (await base.view.get(subject))?.value;

async function replica({ folder, key, port, subject, nonce, fastForward }) {
  const base = await start(folder, Buffer.from(key, "hex"), fastForward);
  const socket = connect(port, "127.0.0.1");
  const stream = base.replicate(true);
  socket.pipe(stream).pipe(socket);
  await until(async () => {
    await base.update();
    return (await answer(base, subject))?.last === nonce;
  });
  process.send({ memory: memory(process.pid) });
}

function sync(told, count) {
  const begun = now();
  const child = fork(import.meta.filename, ["replica", JSON.stringify(told)]);
  return new Promise((resolve, reject) => {
    child.once("message", () => {
      resolve(syncResult(count, begun));
      child.kill();
    });
    child.once("exit", (code) => reject(new Error(`the replica ended: ${code}`)));
  });
}

async function main(count, folder) {
  const authors = Array.from({ length: AUTHORS }, (_, number) => keys(number));
  const events = payloads(count);
  const signed = events.map((payload, i) => sign(payload, authors[i % AUTHORS]));
  const base = await start(folderOf(folder, "writer"), null, true);
  // A call returns once the block is appended; it counts once the view has it, too.
  const append = async (value) => {
    await base.append(value);
    await base.update();
  };
  const figures = await handIn(signed, append, append);
  const point_queries = await queries(events.map(({ subject }) => subject), async (subject) => {
    if ((await answer(base, subject)) === undefined) throw new Error(`${subject} is missing`);
  });
  const resident_memory_bytes = memory(process.pid);
  const seen = await Promise.all([...new Set(events.map(({ subject }) => subject))].map((subject) => answer(base, subject)));
  if (seen.reduce((sum, { count: of }) => sum + of, 0) !== count) throw new Error("the view does not have all events");
  const server = createServer((socket) => {
    const stream = base.replicate(false);
    socket.on("error", () => {});
    stream.on("error", () => {});
    socket.pipe(stream).pipe(socket);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { subject, nonce } = events.at(-1);
  const told = { key: hex(base.key), port: server.address().port, subject, nonce };
  const full = await sync({ ...told, folder: folderOf(folder, "full"), fastForward: false }, count);
  const quick = await sync({ ...told, folder: folderOf(folder, "quick"), fastForward: true }, count);
  await base.close();
  console.log(JSON.stringify({
    system: "Autobase", version: versions("autobase", "hyperbee", "hypercore", "hypercore-storage", "rocksdb-native"), events: count,
    ...figures, sync: full, quick_sync: quick, point_queries,
    disk_bytes_per_event: Math.round(disk(`${folder}/writer`) / count), resident_memory_bytes, ...DURABLE,
  }));
  process.exit(0);
}

if (process.argv[2] === "replica") await replica(JSON.parse(process.argv[3]));
else await main(Number(process.argv[2]), process.argv[3]);
