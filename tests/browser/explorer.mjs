// The explorer of a node, as people use it: search, check, follow; without script, by keyboard, on a phone; and a node that lies.
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";

import { FamaClient } from "../../node/clients/js/fama.js";
import { STRANGER, axe, journey, screenshot, tabStops, weight } from "./driver.mjs";

const pem = () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  return { secret: privateKey.export({ type: "pkcs8", format: "pem" }), public: publicKey.export({ type: "spki", format: "pem" }) };
};
/** How soon after the home has accepted a revocation another node's page must show it, in milliseconds. */
const SHOWN_MILLIS_MAX = Number(process.env.FAMA_SHOWN_MILLIS_MAX ?? 10_000);
/** What a page may take to load. Of the times, what even a busy machine keeps. */
const BUDGET = { bytes: 24_000, requests: 6, elements: 1_400, shift: 0, paint: 5_000, blocked: 2_000 };
/** A sheet of A4 without its margins, in pixels of CSS. */
const SHEET = { width: 688, height: 1016 };
const HOSTILE = "<img src=x onerror=alert(1)> مرحبا </script><script>alert(2)</script>";

await journey(async (browser, { nodes: [home, other] }) => {
  const client = new FamaClient(home);
  const [first, next, last] = [pem(), pem(), pem()];
  const { handle } = await client.register({
    dumbname: "finch", bio: HOSTILE, key: first.secret, next: next.public, wait: true,
  });
  const { agent_id: id } = await client.identify(handle);
  const page = await browser.page();

  // Search, by keyboard alone.
  await page.goto(other.query);
  const stops = await tabStops(page);
  assert.ok(stops.length > 8 && stops.every(({ seen }) => seen), JSON.stringify(stops));
  await page.locator("#front-q").focus();
  await page.keyboard.type(handle);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: handle }).waitFor();
  const path = new URL(page.url()).pathname;
  assert.match(path, /^\/agent\//);
  assert.ok((await page.locator(".bio").innerText()).includes("<img src=x onerror=alert(1)>"), "shown as text");

  // Check: the reader pins the federation, and the browser verifies.
  const shown = (text) => page.getByText(text).first().waitFor();
  await page.getByRole("button", { name: "Show this node's federation" }).click();
  await page.getByRole("button", { name: "Pin it" }).click();
  const verify = () => page.getByRole("button", { name: "Verify in this browser" }).click();
  await verify();
  await shown("Proven: the page is right");
  await screenshot(page, "agent-verified");

  // A node that lies: karma that nobody gave.
  const lie = async (route) => {
    const response = await route.fetch();
    const body = (await response.text()).replace(/data-karma="[^"]*"/, 'data-karma="999"');
    await route.fulfill({ response, body });
  };
  await page.route(`**${path}`, lie);
  await page.reload();
  await verify();
  await shown("This page contradicts the node's own proof");
  await screenshot(page, "agent-lie");
  await page.unroute(`**${path}`);
  await page.reload();

  // What is said at the home shows at the other node, without a reload.
  await page.evaluate(() => (globalThis.sameDocument = true));
  await client.rotateKey({ dumbname: handle, key: first.secret, new_key: next.secret, next: last.public });
  await page.locator('#claims[data-version="2"]').waitFor({ state: "attached" });
  await client.revokeKey({ dumbname: handle, key: next.secret });
  const begun = Date.now();
  await page.getByText("Key revoked").first().waitFor({ timeout: SHOWN_MILLIS_MAX });
  console.log(`revoked after ${Date.now() - begun} ms`);
  assert.equal(await page.evaluate(() => globalThis.sameDocument), true, "the page was not loaded again");

  // Every page: no rule of axe broken, no sideways scrolling on a phone; and readable without script.
  const { events: [{ event }] } = await (await fetch(`${other.query}/api/agent/${id}/events`)).json();
  const paths = ["/", `/search?q=fin`, `/agent/${id}`, `/event/${event}`, "/leaderboard", "/services", "/federation", "/live",
    `/compare/${id}`, "/agent/nobody", `/search?q=${encodeURIComponent(HOSTILE)}`];
  await page.waitForFunction(() => !document.querySelector("[data-pending]"));
  const kinds = { light: {}, "dark-phone": { dark: true, phone: true }, plain: { script: false } };
  for (const [kind, options] of Object.entries(kinds)) {
    const reader = await browser.page(options);
    for (const at of paths) {
      await reader.goto(other.query + at, { waitUntil: "load" });
      const name = `${kind}${at.split("?")[0].replaceAll("/", "-").slice(0, 24)}`;
      await screenshot(reader, name);
      assert.ok((await reader.locator("h1").innerText()).length > 0, at);
      if (options.script === false) continue;
      const taken = Object.entries(await weight(reader));
      assert.deepEqual(taken.filter(([what, much]) => much > BUDGET[what]), [], `${kind} ${at}`);
      assert.deepEqual(await axe(reader), [], `${kind} ${at}`);
      const wide = await reader.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 0, `${kind} ${at} scrolls ${wide} pixels sideways`);
    }
  }

  // On paper: whole, with nothing to press, and it says where it is from.
  const paper = await browser.page();
  await paper.setViewportSize(SHEET);
  await paper.emulateMedia({ media: "print" });
  for (const at of paths) {
    await paper.goto(other.query + at, { waitUntil: "load" });
    await screenshot(paper, `paper${at.split("?")[0].replaceAll("/", "-").slice(0, 24)}`);
    const [cut, pressed] = await paper.evaluate(() => {
      dispatchEvent(new Event("beforeprint"));
      const all = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() && !one.closest(".hidden, .skip"));
      const isCut = (one) => one.getBoundingClientRect().right > innerWidth;
      return [all.filter(isCut), all.filter((one) => one.matches("nav, button, input, summary"))].map((found) => found.map((one) => one.outerHTML));
    });
    assert.deepEqual([cut, pressed], [[], []], at);
    assert.ok((await paper.locator("footer").innerText()).includes(`Printed from ${paper.url()} on `), at);
  }

  // Plain http from a stranger: the browser cannot check, and the page says so.
  const plain = await browser.page();
  await plain.goto(`http://${STRANGER}:${new URL(other.query).port}${path}`);
  await plain.getByText("This browser cannot check here").waitFor();
});
