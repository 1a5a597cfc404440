// JSON, read strictly: no member twice, no lone surrogates, only whole numbers, a bounded depth.
import { LONE_SURROGATE, parsed } from "./bytes.js";

const TOKEN = /[\t\n\r ]*([[\]{},:"]|true|false|null|-?(?:0|[1-9][0-9]*)(?![.0-9Ee]))/y;
const STRING_ENDS = /["\\\u0000-\u001f]/g;

/**
 * The value of a JSON text, its objects as maps. `scalar` gives the value of `true`, `false`, `null` or a number by its
 * text. `wrong` refuses everything else, also what is nested deeper than `depthMax`: it would take much stack.
 */
export function readJson(text, { depthMax, scalar, wrong }) {
  let [at, token] = [0];
  const sound = (holds, what) => holds || wrong(what);
  const next = () => {
    TOKEN.lastIndex = at;
    [, token] = TOKEN.exec(text) ?? wrong("no JSON of a kind that is read here");
    const begin = TOKEN.lastIndex - 1;
    at = token === '"' ? stringEnd(TOKEN.lastIndex) : TOKEN.lastIndex;
    if (token === '"') token = text.slice(begin, at);
  };
  // Where a string ends whose content begins at `from`.
  const stringEnd = (from) => {
    for (;;) {
      STRING_ENDS.lastIndex = from;
      const found = STRING_ENDS.exec(text);
      sound(found && found[0] >= '"', "a string");
      if (found[0] === '"') return STRING_ENDS.lastIndex;
      from = found.index + 2;
    }
  };
  const string = () => {
    const value = parsed(token);
    sound(typeof value === "string" && !LONE_SURROGATE.test(value), "a string");
    return value;
  };
  const list = (close, item) => {
    next();
    if (token === close) return;
    for (;;) {
      item();
      next();
      if (token === close) return;
      sound(token === ",", "a comma is missing");
      next();
    }
  };
  const value = (depth) => {
    if (token.startsWith('"')) return string();
    if (token !== "[" && token !== "{") return /^[\]},:]/.test(token) ? wrong("a value is missing") : scalar(token);
    sound(depth < depthMax, "nested too deeply");
    if (token === "[") {
      const items = [];
      list("]", () => items.push(value(depth + 1)));
      return items;
    }
    const members = new Map();
    list("}", () => {
      const name = string();
      next();
      sound(token === ":" && !members.has(name), `member ${name}`);
      next();
      members.set(name, value(depth + 1));
    });
    return members;
  };
  next();
  const whole = value(0);
  sound(/^[\t\n\r ]*$/.test(text.slice(at)), "more than one value");
  return whole;
}
