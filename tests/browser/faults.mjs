// What the driver must notice, since journeys pass by its silence.
import assert from "node:assert/strict";

import { STRANGER, axe, journey, screenshot, serve, tabStops } from "./driver.mjs";

const PAGE = `<!doctype html><html lang="en"><title>Faults</title>
<main><h1>Faults</h1><a href="#one">one</a><label><input>two</label><button id="three" style="outline: none">three</button>
<div id="said">no script</div></main><script>said.textContent = "script"</script></html>`;

await journey(async (browser) => {
  const port = await serve({ "/": PAGE });
  const page = await browser.page();
  await page.goto(`http://127.0.0.1:${port}/`);
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(await tabStops(page), [
    { tag: "a", text: "one", seen: true }, { tag: "input", text: "two", seen: true }, { tag: "button", text: "three", seen: false },
  ]);
  await screenshot(page, "faults");
  await page.evaluate(() => document.querySelector("main").append(new Image()));
  assert.deepEqual((await axe(page)).map((line) => line.split(" ")[0]), ["image-alt"]);

  const said = async (options) => {
    const other = await browser.page(options);
    await other.goto(`http://127.0.0.1:${port}/`);
    return { said: await other.locator("#said").textContent(), other };
  };
  assert.equal((await said({})).said, "script");
  assert.equal((await said({ script: false })).said, "no script");
  const { other } = await said({ dark: true, phone: true });
  assert.equal(await other.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches && screen.width), 320);

  await page.goto(`http://${STRANGER}:${port}/`);
  assert.equal(await page.evaluate(() => isSecureContext), false);
  assert.deepEqual([browser.strays, browser.errors], [[], []]);
  await page.evaluate(() => setTimeout(() => missing()));
  for (const url of ["http://elsewhere.example/", "http://192.0.2.1/"]) {
    assert.equal(await page.evaluate((to) => fetch(to).then(() => "reached", () => "refused"), url), "refused");
  }
  assert.deepEqual(browser.strays, ["http://elsewhere.example/", "http://192.0.2.1/"]);
  assert.match(browser.errors[0], /missing is not defined/);
  const faults = await browser.close().catch((error) => error.message);
  assert.match(faults, /asked for http:\/\/elsewhere\.example\/[^]*missing is not defined/);
  [browser.strays, browser.errors] = [[], []];
});
