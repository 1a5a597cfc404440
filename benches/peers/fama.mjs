// Fama: `FAMA_BIN=… node fama.mjs N FOLDER [BATCH_MS]` prints what it measured as JSON. BATCH_MS is the policy's `batch_ms`.
import { execFileSync } from "node:child_process";
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign as signature } from "node:crypto";
import { appendFileSync, cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventId, eventText } from "../../node/clients/js/fama.js";
import { ifUp, must, send, start, stop } from "./http.mjs";
import { disk, folderOf, freePort, handIn, memory, now, payloads, queries, syncResult, until } from "./measure.mjs";

const OPERATOR = "peers.example";
const PROVIDERS = 16;
const DURABLE = {
  synced: true,
  durable: "on disk: a receipt leaves once the batch is in RocksDB's write-ahead log and that is synced (fdatasync, once for a batch)",
  notes: ["registrations of the subjects and admissions of the providers are not among the events", "a fresh node has them to verify, too"],
};
/** As many events as the submit listener takes in a request. */
const EVENTS_MAX = 1000;
const FAMA = process.env.FAMA_BIN;
const fama = (...args) => execFileSync(FAMA, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

/** A federation of one operator; its node's folder. Nothing of its policy is changed, unless `batch_ms` is given. */
async function found(folder) {
  const [port, query, submit, admin] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const ports = ["--port", port, "--query-port", query, "--admin-port", admin].map(String);
  fama("federation", "new", "Peers", OPERATOR, "--out", join(folder, "federation"), ...ports);
  const home = join(folder, "federation", OPERATOR);
  appendFileSync(join(home, "node.toml"), `\n[submit]\nlisten = "127.0.0.1:${submit}"\n\n[scrub]\nbytes_per_second = 0\n`);
  return { home, query, submit, admin, data: join(home, "data"), manifest: join(folder, "federation", "manifest.txt") };
}

async function run(node, ...options) {
  node.process = start(join(node.home, "log"), FAMA, ["node", "--config", join(node.home, "node.toml"), ...options]);
  return node;
}

const status = async (node) => JSON.parse(await must([200], node.query, "GET", "/api/status"));
const ready = (node) => until(async () => (await ifUp(() => status(node)))?.ready);

/** Another value of the policy, as operators agree on it: drafted, agreed, signed and published. */
async function agree(folder, node, batchMillis) {
  const [draft, at] = [join(folder, "next"), `http://127.0.0.1:${node.query}`];
  fama("federation", "draft", "--from", at, "--policy", `batch_ms=${batchMillis}`, "--out", draft);
  const [text, key] = [join(draft, "draft.txt"), (name) => ["--key", join(node.home, name), "--yes"]];
  fama("federation", "agree", text, ...key("node.pem"), "--query", at);
  fama("federation", "sign", text, ...key("governance.pem"));
  fama("federation", "publish", text, "--admin", `http://127.0.0.1:${node.admin}`);
  // The node loads again by itself; started again, it has no connections from before.
  const manifests = () => must([200], node.query, "GET", "/api/federation/manifests");
  await until(async () => (await ifUp(manifests))?.includes(`batch_ms = ${batchMillis}`));
  await stop(node.process);
  await ready(await run(node));
}

function newKey() {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
  const { x, y } = publicKey.export({ format: "jwk" });
  const odd = Buffer.from(y, "base64url").at(-1) & 1;
  return { privateKey, text: `secp256k1:0${2 + odd}${Buffer.from(x, "base64url").toString("hex")}` };
}

/** The event as a member of a request. */
function signed(event, privateKey) {
  const text = eventText(event);
  const algorithm = privateKey.asymmetricKeyType === "ed25519" ? null : "sha256";
  return { text, signature: signature(algorithm, Buffer.from(text), privateKey).toString("base64") };
}

async function submitAll(node, events) {
  for (let at = 0; at < events.length; at += EVENTS_MAX) await submitBatch(node, events.slice(at, at + EVENTS_MAX));
}

async function submitBatch(node, events) {
  const answers = JSON.parse(await must([200], node.submit, "POST", "/events", JSON.stringify(events)));
  const refused = answers.find((answer) => answer.status !== 201);
  if (refused) throw new Error(JSON.stringify(refused));
}

/** Registers providers and subjects, and admits the providers; the attestations of the payloads, signed. */
async function prepare(node, events) {
  const federation = (await status(node)).federation.id;
  const register = (name) => {
    const key = newKey();
    const event = signed({ federation, kind: "register", home: OPERATOR, name, key: key.text }, key.privateKey);
    return { event, key, id: eventId(event.text), path: `/api/agent/${name}@${OPERATOR}` };
  };
  const providers = Array.from({ length: PROVIDERS }, (_, i) => register(`provider-${i}`));
  const subjects = new Map([...new Set(events.map(({ subject }) => subject))].map((subject) => [subject, register(`agent-${subject.slice(0, 16)}`)]));
  await submitAll(node, [...providers, ...subjects.values()].map(({ event }) => event));
  const operatorKey = createPrivateKey(readFileSync(join(node.home, "node.pem")));
  const admission = ({ id }) => ({
    federation, kind: "admit", operator: OPERATOR, provider: id, service: "ratings", domain: "ratings.example", method: "manual", from: "0",
  });
  await submitAll(node, providers.map((provider) => signed(admission(provider), operatorKey)));
  const attestations = events.map(({ home, subject, delta, nonce, created }, i) => {
    const { id, key } = providers[i % PROVIDERS];
    const said = { federation, kind: "attest", home, issuer: id, subject: subjects.get(subject).id, delta: String(delta), created, nonce };
    return signed(said, key.privateKey);
  });
  return { attestations, subjects };
}

const count = async (node, path) => {
  const { status: code, body } = await send(node.query, "GET", path);
  return code === 200 ? JSON.parse(body).reputation.attestation_count : null;
};

/** Seconds until a new mirror answers about the last event, from the start of its process. */
async function mirror(folder, node, verify, events, path) {
  const home = folderOf(folder, verify);
  const [port, query, admin] = [await freePort(), await freePort(), await freePort()];
  fama("key", "new", "--ed25519", "--out", join(home, "node.pem"));
  cpSync(node.manifest, join(home, "manifest.txt"));
  writeFileSync(join(home, "node.toml"), [
    'data_dir = "data"', 'manifest = "manifest.txt"', 'node_key = "node.pem"', `verify = "${verify}"`,
    "[network]", `listen = ["/ip4/127.0.0.1/tcp/${port}"]`, "[query]", `listen = "127.0.0.1:${query}"`,
    "[admin]", `listen = "127.0.0.1:${admin}"`, "",
  ].join("\n"));
  const [expected, begun] = [await count(node, path), now()];
  const copy = await run({ home, query });
  await until(async () => (await ifUp(() => count(copy, path))) === expected);
  const result = syncResult(events, begun);
  await stop(copy.process);
  return result;
}

async function main(events, folder, batchMillis) {
  const node = await run(await found(folder));
  await ready(node);
  if (batchMillis !== undefined) await agree(folder, node, batchMillis);
  const said = payloads(events);
  const { attestations, subjects } = await prepare(node, said);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const before = disk(node.data);
  const one = (event) => must([201], node.submit, "POST", "/events", JSON.stringify(event));
  const figures = await handIn(attestations, one, (group) => submitBatch(node, group));
  const point_queries = await queries([...subjects.values()].map(({ path }) => path), (path) => must([200], node.query, "GET", path));
  const resident_memory_bytes = memory(node.process.pid);
  const counts = await Promise.all([...subjects.values()].map(({ path }) => count(node, path)));
  if (counts.reduce((sum, of) => sum + of, 0) !== events) throw new Error("the node does not have all events");
  const bytes = disk(node.data) - before;
  const { path } = subjects.get(said.at(-1).subject);
  const full = await mirror(folder, node, "full", events, path);
  const quick = await mirror(folder, node, "certified", events, path);
  await stop(node.process);
  console.log(JSON.stringify({
    system: "Fama", version: { fama: fama("--version").trim().split(" ").at(-1) }, events, ...figures,
    sync: full, quick_sync: quick, point_queries, disk_bytes_per_event: Math.round(bytes / events), resident_memory_bytes, ...DURABLE,
  }));
  process.exit(0);
}

await main(Number(process.argv[2]), process.argv[3], process.argv[4]);
