// How an answer is read from rows, and which rows it asks for.
import { must, refuse } from "./error.js";
import { PREFIXES_MAX, SCOPES_PER_PAIR, TRIPLES_PER_PROVIDER } from "./bounds.js";
import { beginsWith, compare, join, toHex } from "./bytes.js";
import { blakeOfText } from "./hash.js";
import { keyHash } from "./keys.js";
import { compareTexts } from "./notes.js";
import { byName } from "./manifest.js";
import { TAG, readRow, u32Key } from "./rows.js";

/** A name for each map that is unique in the federation, although every log has its own `log`. */
const fullName = (log, name) => (name === "log" ? `log/${log}` : name);

/** The log that each map is read from, or that is left out and may have it: where `adopted` is null. */
export function carriers(manifest, adopted) {
  const found = new Map();
  const find = (of, name) => {
    let last;
    for (let version = manifest.version; version >= 1; version--) {
      const log = manifest.at(version)[of].get(name);
      if (log === undefined || log === last) continue;
      last = log;
      const taken = adopted(log);
      if (taken === null || manifest.at(taken)?.[of].get(name) === log) return log;
    }
    return undefined;
  };
  const add = (map, log) => log !== undefined && found.set(map, log);
  for (const home of manifest.homes.keys()) add(`home/${home}`, find("homes", home));
  for (const operator of manifest.records.keys()) {
    const log = find("records", operator);
    add(`statements/${operator}`, log);
    add(`claims/${operator}`, log);
  }
  for (const [log, known] of manifest.logs) if (!known.cut) found.set(`log/${log}`, log);
  return byName(found);
}

/** The rows of the file by map, and every key and prefix that is asked of them. */
export class AskedRows {
  constructor(logs, hidden, file) {
    this.hidden = hidden;
    this.without = new Set(file.without.map((home) => `home/${home}`));
    this.whole = new Set(file.whole);
    this.wholeStatements = file.whole.some((name) => name.startsWith("statements/"));
    this.maps = new Map();
    this.asked = new Map();
    for (const { log, maps } of logs) {
      for (const { name, rows } of maps) {
        const full = fullName(log, name);
        must(!this.maps.has(full), "profile_rows", `${name} twice`);
        this.maps.set(full, { rows, byKey: new Map(rows.map(([key, value]) => [toHex(key), value])) });
      }
    }
  }

  note(map, prefix) {
    let proven = prefix;
    if (this.whole.has(map)) {
      if (prefix[0] === TAG.statement) proven = prefix.subarray(0, 1);
      if (prefix[0] === TAG.day) proven = prefix.subarray(0, 33);
    }
    if (!this.asked.has(map)) this.asked.set(map, new Map());
    const prefixes = this.asked.get(map);
    // No proof is about more, so no more are kept: that is refused later.
    if (prefixes.size <= PREFIXES_MAX) prefixes.set(toHex(proven), proven);
  }

  get(map, ...parts) {
    const key = join(...parts);
    if (this.hidden.has(map)) return null;
    this.note(map, key);
    const value = this.maps.get(map)?.byKey.get(toHex(key));
    return value === undefined ? null : readRow(key[0], value);
  }

  /** The rows below a prefix, as [rest of the key, row]. */
  scan(map, ...parts) {
    const prefix = join(...parts);
    if (this.hidden.has(map) || (prefix[0] === TAG.tally && this.without.has(map))) return [];
    this.note(map, prefix);
    return this.below(map, prefix).map(([key, value]) => [key.subarray(prefix.length), readRow(prefix[0], value)]);
  }

  below(map, prefix) {
    const rows = this.maps.get(map)?.rows ?? [];
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(rows[middle][0], prefix) < 0) low = middle + 1;
      else high = middle;
    }
    let to = low;
    while (to < rows.length && beginsWith(rows[to][0], prefix)) to++;
    return rows.slice(low, to);
  }

  /** Whether to read this statements map before others: if it is read whole; if none is, if it has such rows. */
  isLikely(map, prefix) {
    if (this.wholeStatements || this.hidden.has(map)) return this.whole.has(map);
    return this.below(map, prefix).length > 0;
  }

  /** The prefixes asked of a map, without those that begin with another one. */
  prefixes(map) {
    const kept = [];
    for (const prefix of [...this.asked.get(map).values()].sort(compare)) {
      if (!kept.length || !beginsWith(prefix, kept.at(-1))) kept.push(prefix);
    }
    return kept;
  }
}

const isAll = (intervals) => intervals.length === 1 && intervals[0][0] === 0n && intervals[0][1] === null;
const hasNumber = (intervals, number) => intervals.some(([start, end]) => start <= number && (end === null || number < end));

/** The numbers that at least `want` of the sets have, as sorted intervals. */
function sharedNumbers(sets, want) {
  const steps = new Map();
  const step = (at, by) => steps.set(at, (steps.get(at) ?? 0) + by);
  for (const [start, end] of sets.flat()) {
    step(start, 1);
    if (end !== null) step(end, -1);
  }
  const found = [];
  let [level, open] = [0, null];
  for (const [at, by] of [...steps].sort(([a], [b]) => (a < b ? -1 : 1))) {
    level += by;
    if (open === null && level >= want) open = at;
    else if (open !== null && level < want) {
      found.push([open, at]);
      open = null;
    }
  }
  return open === null ? found : [...found, [open, null]];
}

/** Reads an answer from rows, in the order of the protocol. */
export class AnswerReader {
  constructor(manifest, rows, doubtful) {
    this.manifest = manifest;
    this.rows = rows;
    this.doubtful = doubtful;
    this.operators = [...manifest.operators.keys()].sort(compareTexts);
    this.everybody = [...manifest.records.keys()].sort(compareTexts);
  }

  isSure(home) {
    must(!this.doubtful.has(`home/${home}`), "profile_home_left_out", `the log of ${home} is left out`);
  }

  needed(row) {
    return row ?? refuse("profile_row");
  }

  answer(question) {
    const found = this.find(question);
    if (!found) return null;
    const key = this.key(found);
    const keys = this.rows.scan(`home/${found.home}`, [TAG.version], found.id).map(([, version]) => version);
    const use = this.use(found.id);
    const granted = question.grantedBy.map((issuer) => this.granted(issuer, found.id));
    return { ...found, ...key, keys, ...use, granted, providers: this.karma(found.id) };
  }

  /** The current key of an identity, and whether it is in force. */
  key({ home, id, identity }) {
    const current = this.needed(this.rows.get(`home/${home}`, [TAG.version], id, u32Key(identity.version)));
    let revoked = current.revoked && { by: "home", ...current.revoked };
    revoked ??= this.claimed(id, identity.version, current);
    const hides = this.everybody.some((operator) => this.doubtful.has(`claims/${operator}`));
    return { current, revoked, status: revoked ? "revoked" : hides ? "not_known_revoked" : "active" };
  }

  /** Who suspends an identity's use, and whether that holds. */
  use(id) {
    const suspendedBy = [];
    let hidden = 0;
    for (const operator of this.operators) {
      const row = this.rows.get(`statements/${operator}`, [TAG.suspension], id);
      if (row?.standing) suspendedBy.push({ operator, ...row.standing });
      else if (this.doubtful.has(`statements/${operator}`)) hidden += 1;
    }
    const want = this.manifest.policy.minSponsors;
    const unsure = suspendedBy.length + hidden >= want;
    return { suspendedBy, suspension: suspendedBy.length >= want ? "holds" : unsure ? "not_known" : "none" };
  }

  /** What one service lets the subject do. */
  granted(issuer, subject) {
    const found = this.findById(issuer);
    if (!found) return { issuer, found: null, inForce: false, grants: [] };
    const { status } = this.key(found);
    const { suspension } = this.use(issuer);
    const rows = this.rows.scan(`home/${found.home}`, [TAG.grant], issuer, subject).slice(0, SCOPES_PER_PAIR);
    const grants = rows.map(([, grant]) => grant).filter((grant) => grant.stands);
    return {
      issuer, found: { home: found.home, status, suspension }, inForce: status === "active" && suspension === "none", grants,
    };
  }

  find(question) {
    if (question.id) return this.findById(question.id);
    const { home, name, begin } = question;
    const map = `home/${home}`;
    this.isSure(home);
    if (!this.manifest.homes.has(home)) return null;
    let id;
    if (name !== undefined) {
      id = this.rows.get(map, [TAG.name], blakeOfText(name));
    } else {
      const [first] = this.rows.scan(map, [TAG.identity], begin);
      id = first && join(begin, first[0]);
      if (id && id.length !== 32) return null;
    }
    return id ? { home, id, identity: this.needed(this.rows.get(map, [TAG.identity], id)) } : null;
  }

  findById(id) {
    for (const home of this.manifest.homes.keys()) {
      const identity = this.rows.get(`home/${home}`, [TAG.identity], id);
      if (!identity) continue;
      this.isSure(home);
      return { home, id, identity };
    }
    for (const home of this.manifest.homes.keys()) this.isSure(home);
    return null;
  }

  claimed(id, number, { key, next }) {
    const hash = keyHash(key);
    for (const operator of this.everybody) {
      let best = null;
      for (const signer of next ? [hash, next] : [hash]) {
        const claim = this.rows.get(`claims/${operator}`, [TAG.claim], id, u32Key(number), hash, signer);
        const isEarlier = (a, b) => a.generation < b.generation || (a.generation === b.generation && a.index < b.index);
        if (claim && (!best || isEarlier(claim, best))) best = claim;
      }
      if (best) return { by: operator, time: best.time, reason: best.reason };
    }
    return null;
  }

  /** For each provider with a tally of the subject, ordered: [id, sum, count] of what counts. */
  karma(subject) {
    const found = [];
    for (const home of this.manifest.homes.keys()) {
      for (const [provider, tally] of this.rows.scan(`home/${home}`, [TAG.tally], subject)) {
        must(provider.length === 32, "profile_row", "a tally of no provider");
        found.push([provider, ...this.counted(`home/${home}`, subject, provider, tally)]);
      }
    }
    return found.sort(([a, , x], [b, , y]) => compare(a, b) || (x < y ? -1 : 1));
  }

  counted(map, subject, provider, tally) {
    const numbers = this.sponsored(provider);
    if (!numbers.length) return [0n, 0n];
    if (isAll(numbers)) return [tally.sum - tally.retractedSum, tally.count - tally.retractedCount];
    let [sum, count] = [0n, 0n];
    for (const [, day] of this.rows.scan(map, [TAG.day], subject, provider)) {
      for (const { number, effective, retraction } of day) {
        if (!hasNumber(numbers, number) || (retraction !== null && hasNumber(numbers, retraction))) continue;
        sum += BigInt(effective);
        count += 1n;
      }
    }
    return [sum, count];
  }

  /** The provider's numbers that enough operators sponsor for one and the same service and domain. */
  sponsored(provider) {
    const prefix = join([TAG.statement], provider);
    const want = this.manifest.policy.minSponsors;
    const likely = this.operators.filter((one) => this.rows.isLikely(`statements/${one}`, prefix));
    const others = this.operators.filter((one) => !likely.includes(one));
    const services = new Map();
    let unread = this.operators.length;
    for (const operator of [...likely, ...others]) {
      unread -= 1;
      const rows = this.rows.scan(`statements/${operator}`, prefix).slice(0, TRIPLES_PER_PROVIDER);
      for (const [, { service, domain, intervals }] of rows) {
        const name = JSON.stringify([service, domain]);
        if (!services.has(name)) services.set(name, []);
        services.get(name).push(intervals);
      }
      const sets = [...services.values()];
      const most = Math.max(0, ...sets.map((one) => one.length));
      if (most + unread < want || sets.some((one) => one.filter(isAll).length >= want)) break;
    }
    return sharedNumbers([...services.values()].map((sets) => sharedNumbers(sets, want)), 1);
  }
}
