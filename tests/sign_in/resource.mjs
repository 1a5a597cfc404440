// A resource server made of the client for JavaScript: says when it begins to refuse each token that held at first.
//
// `FAMA_SIGN_IN` gives, as JSON, `query`, `genesis`, `issuers`, `resource`, `bearers`: tokens by name. A line on stdout, as
// JSON, says that all hold and the stream is followed; then one for each that is refused, with the time in milliseconds.
import { FamaClient } from "../../node/clients/js/fama.js";
import { ResourceServer } from "../../node/clients/js/resource.js";

const PAUSE_MILLIS = 10;
const given = JSON.parse(process.env.FAMA_SIGN_IN);
const client = new FamaClient({ query: given.query });
const server = new ResourceServer({
  client, genesis: given.genesis, issuers: given.issuers, resource: given.resource,
});
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const pause = () => new Promise((done) => setTimeout(done, PAUSE_MILLIS));
const check = (token) => {
  const headers = { authorization: `Bearer ${token}` };
  return server.check({ method: "GET", url: "/", headers }, { scope: "read" });
};

await server.start();
while (!server.live) await pause();
const left = new Map(Object.entries(given.bearers));
for (const [name, token] of left) {
  const { ok, code } = await check(token);
  if (!ok) throw new Error(`${name}: ${code}`);
}
say({ ready: left.size });
while (left.size > 0) {
  for (const [name, token] of left) {
    const { ok, code, status } = await check(token);
    if (ok) continue;
    left.delete(name);
    say({ name, code, status, at: Date.now() });
  }
  await pause();
}
server.stop();
