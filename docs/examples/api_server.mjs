// An API that accepts Fama's tokens: node api_server.mjs NODE_URL PORT GENESIS_FILE RESOURCE MIN_KARMA ISSUER...
// RESOURCE is the service's DID, or its https address.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

// Outside of Fama's sources: "fama-client" and "fama-client/resource".
import { FamaClient } from "../../node/clients/js/fama.js";
import { ResourceServer } from "../../node/clients/js/resource.js";

const [node, port, genesisFile, resource, minKarma, ...issuers] = process.argv.slice(2);
const here = `http://127.0.0.1:${port}`;
const tokens = new ResourceServer({
  client: new FamaClient({ query: node }), genesis: readFileSync(genesisFile, "utf8"), issuers, resource,
  url: resource.startsWith("did:") ? here : resource, scopes: ["read", "pay"],
  onState: ({ live, reason }) => console.error(live ? "revocations are heard" : `revocations are not heard: ${reason}`),
});

// What each route needs, and what it does for an agent that has it.
const ROUTES = {
  "GET /answers": [{ scope: "read" }, (agent) => ({ agent: agent.client_id, process: agent.process })],
  "POST /pay": [{ scope: "pay", minKarma: Number(minKarma) }, (agent) => ({ agent: agent.client_id, paid: true })],
};

async function answer(request) {
  const path = request.url.split("?")[0];
  if (path === tokens.metadataPath) return { status: 200, body: JSON.stringify(tokens.metadata()) };
  const name = `${request.method} ${path}`;
  if (!Object.hasOwn(ROUTES, name)) return { status: 404, body: JSON.stringify({ code: "not_found" }) };
  const [needs, handle] = ROUTES[name];
  const checked = await tokens.check(request, needs);
  return checked.ok ? { status: 200, body: JSON.stringify(handle(checked.agent)) } : checked;
}

await tokens.start();
createServer((request, response) => {
  const send = ({ status, headers, body }) => {
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
  };
  answer(request).then(send, () => send({ status: 500, body: JSON.stringify({ code: "internal" }) }));
}).listen(Number(port), "127.0.0.1", () => console.log(`listening on ${here}`));
