// Debian's Chromium, driven by playwright-core, for journeys through pages: it reaches nothing but this machine.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(new URL("../../node/clients/js/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** A name for this machine that browsers take for a stranger: without https, they withhold WebCrypto from its pages. */
export const STRANGER = "page.example";
const HOSTS = ["127.0.0.1", STRANGER];
const JOURNEY_MILLIS_MAX = 120_000;
const TAB_STOPS_MAX = 200;
const ARGS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--no-proxy-server",
  // No other name is looked up, and no other address is connected to.
  `--host-resolver-rules=MAP ${STRANGER} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1`,
];

/**
 * Runs a journey with the plan that the test gives as the first argument. It ends after two minutes, and when the test
 * closes its input.
 */
export async function journey(run) {
  process.stdin.on("end", () => process.exit(3)).resume();
  setTimeout(() => {
    console.error("the journey takes too long");
    process.exit(4);
  }, JOURNEY_MILLIS_MAX);
  const browser = await Browser.open();
  await run(browser, JSON.parse(process.argv[2]));
  await browser.close();
  process.exit(0);
}

/** A browser with an empty profile. */
export class Browser {
  /** Addresses on other hosts for which pages asked. */
  strays = [];
  /** Exceptions that pages did not catch, and errors that they wrote to the console. */
  errors = [];
  #browser;

  static async open() {
    const browser = new Browser();
    browser.#browser = await chromium.launch({ executablePath: "/usr/bin/chromium", chromiumSandbox: false, args: ARGS });
    return browser;
  }

  /**
   * A page in a context of its own; `script: false` turns scripts off. The phone is the smallest that pages must fit, or a
   * usual screen on which they are four times as large.
   */
  async page({ script = true, dark = false, phone = false } = {}) {
    const viewport = phone ? { width: 320, height: 568 } : { width: 1280, height: 900 };
    const mobile = phone ? { isMobile: true, hasTouch: true, deviceScaleFactor: 2 } : {};
    const colorScheme = dark ? "dark" : "light";
    const context = await this.#browser.newContext({ viewport, colorScheme, javaScriptEnabled: script, ...mobile });
    context.on("request", (request) => {
      const { protocol, hostname } = new URL(request.url());
      if (/^(?:https?|wss?):$/.test(protocol) && !HOSTS.includes(hostname)) this.strays.push(request.url());
    });
    context.on("weberror", (error) => this.errors.push(String(error.error().stack)));
    context.on("console", (message) => {
      // Answers with an error status are what journeys look at themselves.
      const isStatus = message.text().startsWith("Failed to load resource: the server responded");
      // Over plain http from elsewhere Chromium says of each page that this header has no effect.
      const isPolicy = message.text().startsWith("The Cross-Origin-Opener-Policy header has been ignored");
      if (message.type() === "error" && !isStatus && !isPolicy) this.errors.push(message.text());
    });
    return context.newPage();
  }

  /** Fails if a page asked for another host, or had an error. */
  async close() {
    await this.#browser.close();
    const faults = [...this.strays.map((url) => `a page asked for ${url}`), ...this.errors];
    if (faults.length) throw new Error(faults.join("\n"));
  }
}

/** Serves texts of HTML by their paths, on an origin of its own; returns its port. */
export async function serve(pages) {
  const server = createServer((request, response) => {
    const page = pages[new URL(request.url, "http://page").pathname];
    response.writeHead(page ? 200 : 404, { "content-type": "text/html; charset=utf-8" }).end(page);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return server.address().port;
}

/** What keeps somebody from using this page, a line for each rule of axe-core that it breaks. */
export async function axe(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, impact, help, nodes }) => {
    return `${id} (${impact}): ${help}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`;
  });
}

/**
 * What it took to load this page: bytes as they came (from the cache, too), requests, elements, layout shift, and
 * milliseconds until something was seen and while the page could not answer. What its scripts then ask for is left out.
 */
export async function weight(page) {
  return page.evaluate(async () => {
    const observe = (type, take) => new PerformanceObserver((list) => take(list.getEntries())).observe({ type, buffered: true });
    const [shifts, tasks] = [[], []];
    observe("layout-shift", (entries) => shifts.push(...entries));
    observe("longtask", (entries) => tasks.push(...entries));
    const paint = await new Promise((done) => {
      observe("paint", (entries) => entries.filter(({ name }) => name === "first-contentful-paint").forEach(done));
    });
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const files = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    const again = files.find(({ initiatorType }) => initiatorType === "xmlhttprequest")?.startTime ?? Infinity;
    const loaded = (entries) => entries.filter(({ startTime, initiatorType }) => startTime < again && initiatorType !== "fetch");
    const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
    return {
      bytes: sum(loaded(files).map(({ encodedBodySize }) => encodedBodySize)), requests: loaded(files).length,
      elements: document.getElementsByTagName("*").length, shift: sum(loaded(shifts).map(({ value }) => value)),
      paint: paint.startTime, blocked: sum(loaded(tasks).map(({ duration }) => duration - 50)),
    };
  });
}

/** What the Tab key reaches from the top of the page, in its order: `text`, and whether a style shows the focus. */
export async function tabStops(page) {
  const stops = [];
  while (stops.length < TAB_STOPS_MAX) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate((isFirst) => {
      const element = document.activeElement;
      if (isFirst) globalThis.firstStop = element;
      if (!element || element === document.body || (!isFirst && element === globalThis.firstStop)) return null;
      const { outlineStyle, boxShadow } = getComputedStyle(element);
      const text = (element.ariaLabel || element.labels?.[0]?.textContent || element.textContent || element.name || "").trim();
      return { tag: element.localName, text, seen: outlineStyle !== "none" || boxShadow !== "none" };
    }, stops.length === 0);
    if (!stop) break;
    stops.push(stop);
  }
  return stops;
}

/** A picture of the whole page in the folder that FAMA_SCREENSHOTS names, if it names one. */
export async function screenshot(page, name) {
  const folder = process.env.FAMA_SCREENSHOTS;
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}
