// A page follows one agent's key, at a node, and says each state that it shows.
import { readFileSync } from "node:fs";

import { journey, screenshot, serve } from "./driver.mjs";

await journey(async (browser, { node, agent, states }) => {
  const port = await serve({ "/": readFileSync(new URL("page.html", import.meta.url)) });
  const page = await browser.page();
  await page.goto(`http://127.0.0.1:${port}/?${new URLSearchParams({ node, agent })}`);
  for (const [i, state] of states.entries()) {
    await page.getByText(`${agent}: ${state}`, { exact: true }).waitFor();
    await screenshot(page, `watch-${i}`);
    console.log(state);
  }
});
