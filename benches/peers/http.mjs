// Requests over connections that are kept, and servers as processes of their own.
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { Agent, request } from "node:http";

const agent = new Agent({ keepAlive: true, maxSockets: 256, noDelay: true });

/** `{status, body}` of a request to this machine. */
export function send(port, method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const sent = request({ host: "127.0.0.1", port, method, path, headers, agent }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", reject);
      answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(parts).toString() }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** The body of an answer that must have one of these statuses. */
export async function must(statuses, port, method, path, body) {
  const answer = await send(port, method, path, body);
  if (!statuses.includes(answer.status)) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.slice(0, 300)}`);
  return answer.body;
}

/** What `ask` gives; undefined where nothing listens, or a connection breaks. */
export async function ifUp(ask) {
  try {
    return await ask();
  } catch (error) {
    if (["ECONNREFUSED", "ECONNRESET"].includes(error.code)) return undefined;
    throw error;
  }
}

const children = new Set();
// What is still running when this process ends, ends with it.
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

/** Starts a program whose output goes to a file. */
export function start(log, program, args, options = {}) {
  const out = openSync(log, "a");
  const child = spawn(program, args, { stdio: ["ignore", out, out], ...options });
  children.add(child);
  child.once("exit", (code, signal) => {
    children.delete(child);
    if (!child.stopping) console.error(`${program} ended: ${code ?? signal}; see ${log}`);
  });
  return child;
}

export function stop(child, signal = "SIGTERM") {
  child.stopping = true;
  return new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill(signal);
  });
}
