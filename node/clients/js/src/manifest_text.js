// The content of a manifest's text (PROTOCOL.md, The manifest).
import { must } from "./error.js";
import { I63_MAX, OPERATORS_MAX, U32_MAX } from "./bounds.js";
import { fromHex, toHex } from "./bytes.js";
import { blakeOfText } from "./hash.js";
import { keyText, parseKey } from "./keys.js";
import { DOMAIN, HASH, isKey, isTime, readList } from "./texts.js";
import { EMPTY_TREE, logName } from "./notes.js";

const MANIFEST_FORMAT = "fama.manifest/1";
export const MANIFEST_FIRST_LINE = `format = "${MANIFEST_FORMAT}"\n`;
const tableOf = (list) => readList(list, (type, optional) => ({ type, optional }));
// Of each table the keys in the order of the canonical text. What is neither a number nor a list is a text.
const TABLES = {
  "": tableOf("format name version:u32 protocol:u32? federation? previous?"),
  policy: tableOf(
    "max_delta:u32 daily_cap:u32 min_sponsors:u32 daily_registrations:u32 daily_attestations:u32 daily_retractions:u32 " +
      "daily_new_providers:u32 daily_grants:u32 daily_bytes:int max_age_ms:int max_lag_ms:int heartbeat_ms:int batch_ms:int",
  ),
  operators: tableOf(
    "name node_key governance_key generation:u32 begins addresses:list query? submit? issuer? token_keys:list?",
  ),
  homes: tableOf("name operator generation:u32"),
  cuts: tableOf("operator generation:u32 size:int root state_root adopted:u32 successor successor_generation:u32"),
};
const toml = (holds, what) => must(holds, "manifest_toml", what);
const TOML_TABLE = /^\[(\[)?(policy|operators|homes|cuts)\](\])?$/;
const TOML_STRING = `"[^"\\\\]*"|'[^']*'`;
const TOML_PAIR = new RegExp(`^([a-z_]+)\\s*=\\s*([0-9]+|${TOML_STRING}|\\[.*\\])\\s*(?:#.*)?$`);

/**
 * The tables of a manifest. It reads the forms that a canonical text can have, and a few more, so that a text in
 * another form is refused as such and not as no TOML at all.
 */
function readTables(text) {
  const tables = { "": [{}], policy: [], operators: [], homes: [], cuts: [] };
  let [name, table] = ["", tables[""][0]];
  for (const whole of text.split("\n")) {
    const line = whole.trim();
    if (line === "" || line.startsWith("#")) continue;
    const header = TOML_TABLE.exec(line);
    if (header) {
      name = header[2];
      const many = name !== "policy";
      toml(Boolean(header[1]) === many && Boolean(header[3]) === many && (many || !tables.policy.length), line);
      tables[name].push((table = {}));
      continue;
    }
    const pair = TOML_PAIR.exec(line);
    const known = pair && Object.hasOwn(TABLES[name], pair[1]) && !Object.hasOwn(table, pair[1]);
    toml(known, line);
    table[pair[1]] = readTomlValue(TABLES[name][pair[1]].type, pair[2], line);
  }
  for (const [of, all] of Object.entries(tables)) {
    for (const one of all) {
      const missing = Object.entries(TABLES[of]).find(([key, { optional }]) => !optional && !(key in one));
      toml(!missing, `${of} has no ${missing?.[0]}`);
    }
  }
  toml(tables.policy.length && tables.operators.length && tables.homes.length, "a table is missing");
  return tables;
}

function readTomlValue(type, value, line) {
  if (type === "list") {
    const items = value.startsWith("[") ? value.slice(1, -1).trim() : "?";
    toml(new RegExp(`^(?:(?:${TOML_STRING})\\s*(?:,\\s*|$))*$`).test(items), line);
    return (items.match(new RegExp(TOML_STRING, "g")) ?? []).map((item) => item.slice(1, -1));
  }
  if (type !== "int" && type !== "u32") {
    toml(/^["']/.test(value), line);
    return value.slice(1, -1);
  }
  const number = /^(?:0|[1-9][0-9]{0,19})$/.test(value) ? BigInt(value) : -1n;
  toml(number >= 0n && number <= (type === "int" ? I63_MAX : BigInt(U32_MAX)), line);
  return type === "int" ? number : Number(number);
}

/** The one text of this content. */
function writeTables(tables) {
  const show = (value) => {
    if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
    return typeof value === "string" ? `"${value}"` : String(value);
  };
  const isThere = (key, value) => {
    if (key === "protocol") return value !== undefined && value !== 1;
    return value !== undefined && !(key === "token_keys" && value.length === 0);
  };
  const write = (name, table) => {
    const keys = Object.keys(TABLES[name]).filter((key) => isThere(key, table[key]));
    return keys.map((key) => `${key} = ${show(table[key])}\n`).join("");
  };
  let text = write("", tables[""][0]) + `\n[policy]\n${write("policy", tables.policy[0])}`;
  for (const name of ["operators", "homes", "cuts"]) {
    for (const table of tables[name]) text += `\n[[${name}]]\n${write(name, table)}`;
  }
  return text;
}

const wants = (holds, what) => must(holds, "manifest_value", what);
const PLAIN = /^[\x21\x23-\x5b\x5d-\x7e]*$/;
const isPlain = (text, longest) => text.length >= 1 && text.length <= longest && PLAIN.test(text);
const distinct = (values) => new Set(values).size === values.length;

function isOrigin(text) {
  const [, scheme, host, port] = /^(https?):\/\/([a-z0-9.-]+|\[::1\])(?::([1-9][0-9]{0,4}))?$/.exec(text) ?? [];
  if (!scheme || (port && (Number(port) > 65535 || port === (scheme === "http" ? "80" : "443")))) return false;
  return ["localhost", "127.0.0.1", "[::1]"].includes(host) || (scheme === "https" && DOMAIN.test(host));
}

function readEdKey(text, what) {
  wants(text.startsWith("ed25519:") && isKey(text), `${what}: want ed25519: and 64 hex digits`);
  return parseKey(text);
}

function readOperator(table) {
  const addresses = table.addresses.length <= 8 && table.addresses.every((address) => isPlain(address, 253));
  wants(addresses && table.generation > 0 && DOMAIN.test(table.name) && isTime(table.begins), `operator ${table.name}`);
  for (const field of ["query", "submit", "issuer"]) wants(table[field] === undefined || isOrigin(table[field]), field);
  const tokens = table.token_keys ?? [];
  wants(tokens.length <= 2 && (table.issuer !== undefined) === tokens.length > 0, "token_keys");
  const tokenKeys = tokens.map((key) => readEdKey(key, "token_keys"));
  return {
    name: table.name,
    nodeKey: readEdKey(table.node_key, "node_key"),
    governanceKey: readEdKey(table.governance_key, "governance_key"),
    log: logName({ operator: table.name, generation: table.generation }),
    begins: table.begins,
    issuer: table.issuer,
    tokenKeys,
  };
}

function readCut(table) {
  const names = DOMAIN.test(table.operator) && DOMAIN.test(table.successor);
  wants(names && HASH.test(table.root) && HASH.test(table.state_root), "cuts");
  const never = table.size === 0n && table.root === EMPTY_TREE && table.adopted === 0 && /^0*$/.test(table.state_root);
  wants(never || (table.size > 0n && table.adopted > 0), "cuts");
  return {
    log: logName(table),
    size: table.size,
    root: table.root,
    stateRoot: fromHex(table.state_root, 32),
    adopted: table.adopted,
    successor: logName({ operator: table.successor, generation: table.successor_generation }),
  };
}

function checkPolicy(policy, operators) {
  wants(1 <= policy.max_delta && policy.max_delta <= policy.daily_cap && policy.daily_cap <= 1000, "max_delta, daily_cap");
  wants(1 <= policy.min_sponsors && policy.min_sponsors <= operators, "min_sponsors");
  wants(policy.max_lag_ms >= 3600000n && policy.max_lag_ms <= 2592000000n, "max_lag_ms");
  wants(policy.heartbeat_ms >= 1000n && policy.heartbeat_ms <= 600000n && policy.batch_ms <= 60000n, "heartbeat_ms, batch_ms");
}

/** The content of a version's text, its rules checked as far as they concern this version alone. */
export function readContent(text) {
  must(text.startsWith(MANIFEST_FIRST_LINE), "manifest_format", `want ${MANIFEST_FORMAT}`);
  const outline = /^protocol\s*=\s*([0-9]+)/m.exec(text);
  wants(!outline || Number(outline[1]) > 0, "protocols count from 1");
  must(!outline || Number(outline[1]) === 1, "manifest_protocol", `protocol ${outline?.[1]} is not known here`);
  const tables = readTables(text);
  const [{ name, version, federation, previous }] = tables[""];
  const later = federation !== undefined || previous !== undefined || tables.cuts.length > 0;
  wants((version === 1) === !later, "federation, previous");
  wants(isPlain(name, 64) && tables.operators.length <= OPERATORS_MAX, "name, operators");
  checkPolicy(tables.policy[0], tables.operators.length);
  wants([federation, previous].every((hash) => hash === undefined || HASH.test(hash)), "federation, previous");
  const operators = tables.operators.map(readOperator);
  const homes = new Map();
  for (const table of tables.homes) {
    const log = logName(table);
    const right = DOMAIN.test(table.name) && !homes.has(table.name) && operators.some((one) => one.log === log);
    wants(right, `home ${table.name}`);
    homes.set(table.name, log);
  }
  wants(operators.every((one) => homes.has(one.name)), "homes");
  wants(distinct(operators.map((one) => one.name)), "operators");
  wants(distinct(operators.flatMap((one) => one.issuer ?? [])), "issuer");
  wants(distinct(operators.flatMap((one) => keyUses(one).map(([key]) => key))), "keys");
  const cuts = tables.cuts.map(readCut);
  must(writeTables(tables) === text, "manifest_canonical");
  const policy = { minSponsors: tables.policy[0].min_sponsors };
  return { hash: toHex(blakeOfText(text)), version, federation, previous, name, policy, operators, homes, cuts };
}

/** An operator's keys, each with what it is for: the operator's tokens, or anything else. */
export function keyUses({ name, nodeKey, governanceKey, tokenKeys }) {
  return [
    ...[nodeKey, governanceKey].map((key) => [keyText(key), ""]), ...tokenKeys.map((key) => [keyText(key), name]),
  ];
}
