// OrbitDB with an indexed key-value database: `node orbitdb.mjs N FOLDER` prints what it measured as JSON.
import { fork } from "node:child_process";
import { join } from "node:path";
import { disk, folderOf, handIn, memory, now, payloads, queries, syncResult, until, versions } from "./measure.mjs";

// Its libp2p wants a function that Node.js has from version 22 on.
Promise.withResolvers ??= function withResolvers() {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
const { gossipsub } = await import("@chainsafe/libp2p-gossipsub");
const { noise } = await import("@chainsafe/libp2p-noise");
const { yamux } = await import("@chainsafe/libp2p-yamux");
const { identify } = await import("@libp2p/identify");
const { tcp } = await import("@libp2p/tcp");
const { multiaddr } = await import("@multiformats/multiaddr");
const { ComposedStorage, createOrbitDB, IPFSBlockStorage, KeyValueIndexed, LRUStorage } = await import("@orbitdb/core");
const { LevelBlockstore } = await import("blockstore-level");
const { LevelDatastore } = await import("datastore-level");
const { bitswap } = await import("@helia/block-brokers");
const { Helia } = await import("@helia/utils");
const { createLibp2p } = await import("libp2p");

/** Milliseconds after which a block that is not here yet is given up; OrbitDB's default of half a minute may be too short. */
const TIMEOUT = 600_000;
const DURABLE = {
  synced: false,
  durable: "written to LevelDB's logs, never synced: a killed process loses nothing, a power failure may",
  notes: [
    "it has no batches", "one author, its own identity", "the last value of a key, no sum", "program and driver are one process",
  ],
};

/** A peer whose blocks and pins are on disk: Helia by itself keeps them in memory. It asks no gateways. */
async function start(folder) {
  const libp2p = await createLibp2p({
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()], connectionEncrypters: [noise()], streamMuxers: [yamux()],
    services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) },
  });
  const [blockstore, datastore] = [new LevelBlockstore(join(folder, "blocks")), new LevelDatastore(join(folder, "pins"))];
  await blockstore.open();
  await datastore.open();
  const ipfs = new Helia({ libp2p, blockstore, datastore, blockBrokers: [bitswap()], routers: [] });
  await ipfs.start();
  return { ipfs, orbitdb: await createOrbitDB({ ipfs, directory: join(folder, "orbitdb") }) };
}

/** Opens a database with OrbitDB's own storages, but for the time-out. */
async function open({ ipfs, orbitdb }, name) {
  const blocks = await IPFSBlockStorage({ ipfs, pin: true, timeout: TIMEOUT });
  const entryStorage = await ComposedStorage(await LRUStorage({ size: 1000 }), blocks);
  return orbitdb.open(name, { Database: KeyValueIndexed(), entryStorage });
}

async function replica({ folder, address, peer, subject, nonce }) {
  const node = await start(folder);
  await node.ipfs.libp2p.dial(multiaddr(peer));
  const db = await open(node, address);
  // An entry joins the log once all that it refers to is there and checked.
  await until(async () => (await db.get(subject))?.nonce === nonce);
  process.send((await db.log.values()).length);
}

function sync(told, count) {
  const begun = now();
  const child = fork(import.meta.filename, ["replica", JSON.stringify(told)]);
  return new Promise((resolve, reject) => {
    child.once("message", (held) => {
      if (held === count) resolve(syncResult(count, begun));
      else reject(new Error(`the replica has ${held} entries of ${count}`));
      child.kill();
    });
    child.once("exit", (code) => reject(new Error(`the replica ended: ${code}`)));
  });
}

async function main(count, folder) {
  const events = payloads(count);
  const node = await start(folderOf(folder, "writer"));
  const db = await open(node, "peers");
  const figures = await handIn(events, (event) => db.put(event.subject, event));
  const point_queries = await queries(events.map(({ subject }) => subject), async (subject) => {
    if ((await db.get(subject)) === undefined) throw new Error(`${subject} is missing`);
  });
  const resident_memory_bytes = memory(process.pid);
  const { subject, nonce } = events.at(-1);
  const told = { folder: folderOf(folder, "replica"), address: db.address, peer: node.ipfs.libp2p.getMultiaddrs()[0].toString(), subject, nonce };
  const full = await sync(told, count);
  console.log(JSON.stringify({
    system: "OrbitDB", version: versions("@orbitdb/core", "@helia/utils", "libp2p", "blockstore-level", "classic-level"), events: count,
    ...figures, sync: full, quick_sync: null, point_queries,
    disk_bytes_per_event: Math.round(disk(`${folder}/writer`) / count), resident_memory_bytes, ...DURABLE,
  }));
  process.exit(0);
}

if (process.argv[2] === "replica") await replica(JSON.parse(process.argv[3]));
else await main(Number(process.argv[2]), process.argv[3]);
