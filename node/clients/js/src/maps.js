// Proofs about state maps (PROTOCOL.md, State maps).
import { must } from "./error.js";
import { KEY_BYTES_MAX, PREFIXES_MAX } from "./bounds.js";
import { beginsWith, compare, equal, join } from "./bytes.js";
import { blake3 } from "./hash.js";

const padded = (key, depth) => {
  const bytes = key.slice(0, Math.ceil(depth / 8));
  if (depth % 8 && bytes.length > depth >> 3) bytes[depth >> 3] &= 0xff00 >> depth % 8;
  return bytes;
};

const bitOf = (key, depth) => ((key[depth >> 3] ?? 0) >> (7 - (depth % 8))) & 1;

/** The number of leading bits that the two share. */
function fork(a, b) {
  const least = Math.min(a.length, b.length);
  for (let i = 0; i < least; i++) if (a[i] !== b[i]) return 8 * i + Math.clz32(a[i] ^ b[i]) - 24;
  return 8 * least;
}

const u16Bytes = (value) => [value & 255, value >> 8];
const hashLeaf = (key, valueHash) => blake3(join([0], u16Bytes(key.length), key, valueHash));
const hashNode = (depth, key, left, right) => blake3(join([1], u16Bytes(depth), padded(key, depth), left, right));

const form = (holds) => must(holds, "proof_malformed");
export const claim = (holds) => must(holds, "proof_claim");

/** Builds the root from items and hidden subtrees, from left to right. */
class Climb {
  stack = [];
  lefts = [];
  last = null;

  item(key, bits, hash) {
    let above = -1;
    if (this.last) {
      above = fork(this.last.key, key);
      form(above < bits && above < this.last.top && bitOf(key, above));
      this.close(above);
      this.stack.push([above, this.last.hash]);
    }
    for (const [depth, hidden] of this.lefts.splice(0)) {
      form(above < depth && depth < bits && bitOf(key, depth));
      this.stack.push([depth, hidden]);
      above = depth;
    }
    this.last = { key, top: bits, hash };
  }

  right(depth, hidden) {
    form(this.last && !this.lefts.length && depth < this.last.top && !bitOf(this.last.key, depth));
    this.close(depth);
    this.last.hash = hashNode(depth, this.last.key, this.last.hash, hidden);
    this.last.top = depth;
  }

  close(depth) {
    while (this.stack.length && this.stack.at(-1)[0] > depth) {
      const [above, left] = this.stack.pop();
      this.last.hash = hashNode(above, this.last.key, left, this.last.hash);
    }
  }

  above() {
    return this.stack.at(-1)?.[0] ?? -1;
  }

  end() {
    form(!this.lefts.length);
    if (this.last) this.close(-1);
    return this.last?.hash ?? new Uint8Array(32);
  }
}

export function readMapProof(reader) {
  return {
    steps: reader.list((one) => one.u16()),
    keys: reader.list((one) => one.blob()),
    hashes: reader.list((one) => one.hash()),
  };
}

function checkPrefixes(prefixes) {
  let fits = prefixes.length >= 1 && prefixes.length <= PREFIXES_MAX;
  fits &&= prefixes.every((one) => one.length >= 1 && one.length <= KEY_BYTES_MAX);
  fits &&= prefixes.every((one, i) => i === 0 || (compare(prefixes[i - 1], one) < 0 && !beginsWith(one, prefixes[i - 1])));
  must(fits, "proof_key");
}

/** One run over the steps of a map proof; `answers` pairs each prefix with the rows that it is said to have. */
class MapProofRun {
  constructor({ keys, hashes }, answers) {
    this.prefixes = answers.map(([prefix]) => prefix);
    this.told = answers.filter(([, rows]) => rows.length);
    this.climb = new Climb();
    this.keys = keys[Symbol.iterator]();
    this.hashes = hashes[Symbol.iterator]();
    this.other = null;
  }

  next(values) {
    const { value, done } = values.next();
    form(!done);
    return value;
  }

  /** The last prefix up to these bytes and the one after it: the only ones that can share their first bits. */
  near(bytes) {
    let [low, high] = [0, this.prefixes.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.prefixes[middle], bytes) <= 0) low = middle + 1;
      else high = middle;
    }
    return [this.prefixes[low - 1], this.prefixes[low]].filter((prefix) => prefix);
  }

  /** Whether a key can begin with both these bits and one of the prefixes. */
  meets(key, depth) {
    const bits = padded(key, depth);
    return this.near(bits).some((prefix) => fork(prefix, bits) >= Math.min(depth, 8 * prefix.length));
  }

  /** Refuses a subtree, hidden next to the key at this depth, that may hold a row asked for. */
  hides(key, depth) {
    const turned = padded(key, depth + 1);
    if (depth >> 3 < turned.length) turned[depth >> 3] ^= 0x80 >> depth % 8;
    claim(!this.meets(turned, depth + 1));
  }

  /** Refuses an other that was shown without need; `depth` is that of what comes next, -1 for nothing. */
  settle(depth) {
    const key = this.other;
    this.other = null;
    if (key) form(this.meets(key, Math.max(this.climb.above(), depth) + 1));
  }

  item(key, bits, hash) {
    this.settle(this.climb.last ? fork(this.climb.last.key, key) : -1);
    const hidden = this.climb.lefts.map(([depth]) => depth);
    this.climb.item(key, bits, hash);
    for (const depth of hidden) this.hides(key, depth);
  }

  step(step) {
    const depth = step & 0x3fff;
    if (step < 0x4000) {
      this.climb.lefts.push([depth, this.next(this.hashes)]);
    } else if (step < 0x8000) {
      this.settle(depth);
      this.climb.right(depth, this.next(this.hashes));
      this.hides(this.climb.last.key, depth);
    } else if (step < 0xc000) {
      const [key, left, right] = [this.next(this.keys), this.next(this.hashes), this.next(this.hashes)];
      form(key.length === Math.ceil(depth / 8) && key.length <= KEY_BYTES_MAX && equal(padded(key, depth), key));
      claim(!this.meets(key, depth));
      this.item(key, depth, hashNode(depth, key, left, right));
      this.other = key;
    } else if (step === 0xc000) {
      const [key, hash] = [this.next(this.keys), this.next(this.hashes)];
      form(key.length >= 1 && key.length <= KEY_BYTES_MAX);
      claim(!this.near(key).some((prefix) => beginsWith(key, prefix)));
      this.item(key, 8 * key.length, hashLeaf(key, hash));
      this.other = key;
    } else {
      form(step === 0xc001);
      this.rows();
    }
  }

  rows() {
    claim(this.told.length > 0);
    const [prefix, rows] = this.told.shift();
    for (const [key, value] of rows) {
      must(key.length >= 1 && key.length <= KEY_BYTES_MAX, "proof_key");
      claim(beginsWith(key, prefix));
      this.item(key, 8 * key.length, hashLeaf(key, blake3(value)));
    }
  }

  end(root) {
    claim(this.told.length === 0);
    this.settle(-1);
    form(this.keys.next().done && this.hashes.next().done);
    must(equal(this.climb.end(), root), "proof_root");
  }
}

/** Refuses unless the map with this root has exactly these rows below the prefixes. */
export function checkMapProof(root, proof, answers) {
  checkPrefixes(answers.map(([prefix]) => prefix));
  const run = new MapProofRun(proof, answers);
  for (const step of proof.steps) run.step(step);
  run.end(root);
}
