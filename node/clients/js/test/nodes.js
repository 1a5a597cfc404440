// For tests that start nodes.
import { createServer } from "node:net";

/** Free ports on this machine, between those of tests in Rust and those that the system gives to connections. */
export async function freePorts(count) {
  const servers = [];
  while (servers.length < count) {
    const server = createServer();
    const port = 30000 + Math.floor(2768 * Math.random());
    const free = await new Promise((done) => {
      server.once("error", () => done(false)).listen(port, "127.0.0.1", () => done(true));
    });
    // One that was drawn before is not free.
    if (free) servers.push(server);
  }
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

/** Ends a node, which may have ended by itself. */
export async function ended(node) {
  if (node.exitCode !== null || node.signalCode !== null) return;
  await new Promise((done) => (node.once("exit", done), node.kill()));
}
