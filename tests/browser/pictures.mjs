// The pictures of the papers: pages of a federation with made-up events. `make pictures` runs it: the program, and the
// folder for the pictures, are its arguments.
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { Browser } from "./driver.mjs";

const EVENTS = 6_000;
const [program, folder] = process.argv.slice(2);
if (!folder) throw new Error("usage: pictures.mjs PROGRAM FOLDER");
mkdirSync(folder, { recursive: true });

const demo = spawn(program, ["demo", "--json", "--synthetic", String(EVENTS)], { stdio: ["ignore", "pipe", "inherit"] });
const phases = {};
const ready = new Promise((done, failed) => {
  createInterface({ input: demo.stdout }).on("line", (text) => {
    const line = JSON.parse(text);
    phases[line.phase] = line;
    if (line.phase === "ready") done();
  });
  demo.on("exit", (code) => failed(new Error(`the demo ended: ${code}`)));
});
try {
  await ready;
  const explorer = phases.up.explorer.replace(/\/$/, "");
  const [best] = phases.leaderboard.agents;
  const browser = await Browser.open();
  // Of each page what fits on a screen; the papers show no more.
  const pages = {
    agent: [`/agent/${encodeURIComponent(best.handle)}`, {}],
    federation: ["/federation", {}],
  };
  for (const [name, [path, options]] of Object.entries(pages)) {
    const page = await browser.page(options);
    await page.goto(explorer + path, { waitUntil: "load" });
    if (name === "agent") {
      await page.getByRole("button", { name: "Show this node's federation" }).click();
      await page.getByRole("button", { name: "Pin it" }).click();
      await page.getByRole("button", { name: "Verify in this browser" }).click();
      await page.getByText("Proven: the page is right").first().waitFor();
    }
    await page.screenshot({ path: join(folder, `${name}.png`), scale: "css" });
    console.log(join(folder, `${name}.png`));
  }
  await browser.close();
} finally {
  demo.kill("SIGINT");
}
process.exit(0);
