// Joins the modules of src into fama.js, one module that nodes can serve. `node build.js` writes it, and with `--check`
// compares. It leaves out comments, the spaces at the beginning of lines, and line breaks at braces, and changes nothing
// else, so that what runs can be compared with its source.
import { readFileSync, writeFileSync } from "node:fs";

const IMPORT = /^import \{[^}]*\} from "\.\/(\w+)\.js";\n/gm;
const RE_EXPORT = /^export (\{[^}]*\}) from "\.\/(\w+)\.js";\n/gm;
const { version } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
const HEADER = `// fama.js ${version} (MIT OR Apache-2.0), made by build.js; fama.d.ts says what it does.\n`;

const read = (name) => readFileSync(new URL(`src/${name}.js`, import.meta.url), "utf8");

/** The names of modules in an order in which each comes after those that it imports. */
function inOrder(name, done = []) {
  const text = read(name);
  for (const [, before] of text.matchAll(IMPORT)) if (!done.includes(before)) inOrder(before, done);
  for (const [, , before] of text.matchAll(RE_EXPORT)) if (!done.includes(before)) inOrder(before, done);
  return done.includes(name) ? done : (done.push(name), done);
}

const isComment = (line) => /^(?:\/\/|\/\*\*|\*\/|\* |\*$)/.test(line);

function plain(text) {
  const lines = text.replace(IMPORT, "").replace(RE_EXPORT, "").replace(/^export /gm, "").split("\n");
  const kept = lines.map((line) => line.trim()).filter((line) => line !== "" && !isComment(line));
  return kept.join("\n").replace(/(?<=[{([])\n|\n(?=[}\])])/g, "");
}

function build() {
  const names = [...read("index").matchAll(RE_EXPORT)].map(([, list]) => list.slice(1, -1).trim().replace(/,$/, ""));
  const modules = inOrder("index").map((name) => `${plain(read(name))}\n`);
  return `${HEADER}${modules.join("")}export { ${names.join(", ").replace(/\s+/g, " ")} };\n`;
}

const target = new URL("fama.js", import.meta.url);
if (process.argv[2] !== "--check") writeFileSync(target, build());
else if (readFileSync(target, "utf8") !== build()) {
  process.stderr.write("fama.js is not what build.js makes of src: run `node build.js`\n");
  process.exitCode = 1;
}
