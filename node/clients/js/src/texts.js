// Texts that authors sign: events, and the notes that they name (PROTOCOL.md, Texts).
import { attempt, must, refuse } from "./error.js";
import { I63_MAX, U32_MAX } from "./bounds.js";
import { bytesOf, fromUtf8, timeText, toHex, utf8 } from "./bytes.js";
import { blakeOfText, sha256 } from "./hash.js";
import { keyText, parseKey } from "./keys.js";

const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
export const DOMAIN = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})+$`);
export const NAME = /^(?=.{3,50}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;
export const HASH = /^[0-9a-f]{64}$/;
export const COMMITMENT = /^sha256:[0-9a-f]{64}$/;
const FORBIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
export const SUSPEND_REASONS = ["misconduct", "key_compromised", "unspecified"];
export const REVOKE_REASONS = ["key_compromised", "superseded", "retired", "unspecified"];

export const is = (pattern) => (text) => pattern.test(text);
const integer = (least, most) => (text) =>
  text.length < 30 && /^(?:0|-?[1-9][0-9]*)$/.test(text) && BigInt(text) >= least && BigInt(text) <= most;

function isDay(text) {
  if (!/^(?!20[01])[2-9][0-9]{3}-[0-9]{2}-[0-9]{2}$/.test(text)) return false;
  const date = new Date(`${text}T00:00:00.000Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
}

const CLOCK_TIME = /^T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z$/;
export const isTime = (text) => isDay(text.slice(0, 10)) && CLOCK_TIME.test(text.slice(10));

export function isKey(text) {
  return attempt(() => keyText(parseKey(text)) === text, () => false);
}

const dayText = (day) => (day <= 2932896 ? timeText(day * 86400000).slice(0, 10) : String(day));
export const createdText = (millis) => (millis < 253402300800000n ? timeText(millis) : String(millis));

const textType = (holds) => ({ holds, read: (reader) => reader.string() });
const wordType = (words) => ({ holds: (text) => words.includes(text), read: (reader) => words[reader.variant(words.length)] });
// For each type of value whether a text has it, and how the codec reads it.
const TYPES = {
  domain: textType(is(DOMAIN)),
  name: textType(is(NAME)),
  service: textType(is(/^[a-z0-9._-]{1,64}$/)),
  context: textType(is(/^[a-z0-9._-]{1,32}$/)),
  scope: textType(is(/^[\x21\x23-\x5b\x5d-\x7e]{1,64}$/)),
  hash: { holds: is(HASH), read: (reader) => toHex(reader.hash()) },
  commitment: { holds: is(COMMITMENT), read: (reader) => `sha256:${toHex(reader.hash())}` },
  key: { holds: isKey, read: (reader) => keyText(reader.key()) },
  version: { holds: integer(1n, BigInt(U32_MAX)), read: (reader) => String(reader.u32()) },
  delta: { holds: integer(-(2n ** 31n), 2n ** 31n - 1n), read: (reader) => String(reader.i32()) },
  from: { holds: integer(0n, I63_MAX), read: (reader) => String(reader.u64()) },
  day: { holds: isDay, read: (reader) => dayText(reader.u32()) },
  time: { holds: isTime, read: (reader) => createdText(reader.u64()) },
  revocation: wordType(REVOKE_REASONS),
  suspension: wordType(SUSPEND_REASONS),
  method: wordType(["dns", "https", "manual"]),
  dismissal: wordType(["misconduct", "key_compromised", "expired", "unspecified"]),
};

/** What each name in a list such as `name other:type more?` stands for: its type, by default its name, and if it may miss. */
export function readList(list, of) {
  return Object.fromEntries(list.split(" ").map((said) => {
    const [, name, type, optional] = /^(\w+)(?::(\w+))?(\?)?$/.exec(said);
    return [name, of(type ?? name, optional === "?")];
  }));
}

const fieldsOf = (list) => readList(list, (type, optional) => ({ ...TYPES[type], optional }));

// Kinds and their fields, in the order of the protocol, which is also that of the encoding.
export const KINDS = {
  register: fieldsOf("home:domain name key next:commitment? note:commitment?"),
  rotate: fieldsOf("home:domain identity:hash version key next:commitment?"),
  revoke: fieldsOf("home:domain identity:hash version key reason:revocation"),
  attest: fieldsOf("home:domain issuer:hash subject:hash delta context? note:commitment?"),
  retract: fieldsOf("home:domain issuer:hash subject:hash day attestation:hash"),
  admit: fieldsOf("operator:domain provider:hash service domain method from"),
  dismiss: fieldsOf("operator:domain provider:hash service domain from reason:dismissal"),
  grant: fieldsOf("home:domain issuer:hash subject:hash scope expires:time? note:commitment?"),
  ungrant: fieldsOf("home:domain issuer:hash subject:hash scope"),
  suspend: fieldsOf("operator:domain identity:hash reason:suspension"),
  resume: fieldsOf("operator:domain identity:hash"),
};
export const KIND_NAMES = Object.keys(KINDS);
const isKind = (kind) => Object.hasOwn(KINDS, kind);

/** Takes the values of `name: value` lines in the order of a format. */
class Lines {
  constructor(bytes, firstLine, longest) {
    must(bytes.length <= longest, "too_long", `more than ${longest} bytes`);
    const text = fromUtf8(bytes);
    must(text !== null, "not_utf8");
    must(text.startsWith(`${firstLine}\n`), "first_line", `want ${firstLine}`);
    must(text.endsWith("\n"), "no_newline");
    this.lines = text.split("\n").slice(1, -1);
  }

  value(wanted) {
    must(this.lines.length > 0, "missing_field", wanted);
    const line = this.lines.shift();
    const colon = line.indexOf(": ");
    must(colon >= 0, "no_colon", wanted);
    const value = line.slice(colon + 2);
    must(value !== "", "empty_value", wanted);
    must(!value.startsWith(" ") && !value.endsWith(" "), "outer_space", wanted);
    must(!FORBIDDEN.test(value), "forbidden_character", wanted);
    must(line.slice(0, colon) === wanted, "wrong_field", wanted);
    return value;
  }

  optional(wanted) {
    return this.lines[0]?.startsWith(`${wanted}:`) ? this.value(wanted) : null;
  }

  typed(name, { holds, optional }) {
    const value = optional ? this.optional(name) : this.value(name);
    must(value === null || holds(value), "bad_value", `${name}: ${value}`);
    return value;
  }

  end() {
    must(this.lines.length === 0, "extra_line", this.lines[0]);
  }
}

/**
 * Reads an event's text into `{federation, kind, …fields, created, nonce}`, every value as the text has it, absent
 * fields null. Refuses any text that is not the one text of an event.
 */
export function parseEvent(text) {
  const lines = new Lines(bytesOf(text) ?? refuse("not_utf8"), "fama.event/1", 2048);
  const event = { federation: lines.typed("federation", TYPES.hash), kind: lines.typed("kind", { holds: isKind }) };
  for (const [name, field] of Object.entries(KINDS[event.kind])) event[name] = lines.typed(name, field);
  event.created = lines.typed("created", { holds: isTime });
  event.nonce = lines.typed("nonce", { holds: is(/^[0-9a-f]{16}$/) });
  lines.end();
  return event;
}

export function joinEvent(event) {
  const lines = ["fama.event/1", `federation: ${event.federation}`, `kind: ${event.kind}`];
  for (const name of [...Object.keys(KINDS[event.kind]), "created", "nonce"]) {
    const value = event[name] ?? null;
    if (value !== null) lines.push(`${name}: ${value}`);
  }
  return `${lines.join("\n")}\n`;
}

/**
 * The canonical text of an event, which is what its author signs. `created` and `nonce` are filled in if they are
 * missing. Refuses fields that the kind does not have, and values that break the rule of their field.
 */
export function eventText(event) {
  must(isKind(event.kind), "bad_value", `kind: ${event.kind}`);
  const fields = KINDS[event.kind];
  const given = { created: timeText(Date.now()), nonce: toHex(randomBytes(8)), ...event };
  const unknown = Object.keys(given).find((name) => !(name in fields) && !EVENT_FIELDS.includes(name));
  must(unknown === undefined, "unknown_field", `${event.kind} has no ${unknown}`);
  const text = joinEvent(given);
  parseEvent(text);
  return text;
}

const EVENT_FIELDS = ["federation", "kind", "created", "nonce"];

/** The id of an event, 64 hex digits; that of a registration is the identity's. */
export const eventId = (text) => toHex(blakeOfText(text));

function randomBytes(count) {
  must(globalThis.crypto?.getRandomValues, "no_webcrypto", "no crypto.getRandomValues");
  return globalThis.crypto.getRandomValues(new Uint8Array(count));
}

/** The text of a note, with a fresh salt unless one is given: `bio`, or `reason` and `ref`. */
export function noteText({ salt = toHex(randomBytes(32)), ...said }) {
  const lines = ["fama.note/1", `salt: ${salt}`];
  for (const name of ["bio", "reason", "ref"]) if (said[name] != null) lines.push(`${name}: ${said[name]}`);
  const text = `${lines.join("\n")}\n`;
  parseNote(text);
  return text;
}

/** Reads a note's text into `{salt, bio, reason, ref}`, absent fields null. */
export function parseNote(text) {
  const lines = new Lines(bytesOf(text) ?? refuse("not_utf8"), "fama.note/1", 1024);
  const note = { salt: lines.typed("salt", TYPES.hash), bio: lines.optional("bio"), reason: null, ref: null };
  if (note.bio === null) {
    const atMost = (longest) => ({ holds: (value) => utf8(value).length <= longest, optional: true });
    note.reason = lines.typed("reason", atMost(200));
    note.ref = lines.typed("ref", atMost(512));
  }
  lines.end();
  return note;
}

/** What an event says of a note or of a next key: `sha256:` and 64 hex digits. */
export const commitment = (text) => `sha256:${toHex(sha256(utf8(text)))}`;
