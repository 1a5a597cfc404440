// Signatures by what the runtime brings: Node's crypto, or WebCrypto.
import { must, refuse } from "./error.js";
import { fromHex, join } from "./bytes.js";

let nodeCrypto;

/** Node's crypto module, or null where there is none. */
export async function native() {
  if (nodeCrypto === undefined) {
    const { process } = globalThis;
    nodeCrypto = process?.getBuiltinModule?.("node:crypto") ?? null;
    if (!nodeCrypto && process?.versions?.node) {
      // A variable, so that bundlers for browsers leave it alone.
      const name = "node:crypto";
      nodeCrypto = await import(/* @vite-ignore */ /* webpackIgnore: true */ name).catch(() => null);
    }
  }
  return nodeCrypto;
}

const SPKI_ED25519 = fromHex("302a300506032b6570032100", 12);

const nativeKeys = new WeakMap();

/** An Ed25519 key for Node's crypto; null where there is none. */
async function nativeKey(key) {
  const crypto = await native();
  if (crypto && !nativeKeys.has(key)) {
    nativeKeys.set(key, crypto.createPublicKey({ key: join(SPKI_ED25519, key.bytes), format: "der", type: "spki" }));
  }
  return nativeKeys.get(key) ?? null;
}

/** WebCrypto, which has P-256 everywhere. */
function webCrypto() {
  const subtle = globalThis.crypto?.subtle;
  must(subtle, "no_webcrypto", "crypto.subtle is withheld: browsers give it to https and localhost only");
  return subtle;
}

/** Whether r ‖ s is a signature by a point of P-256, which the caller has checked, over SHA-256. */
export async function p256Holds(point, message, signature) {
  const imported = await webCrypto().importKey("raw", point, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
  return webCrypto().verify({ name: "ECDSA", hash: "SHA-256" }, imported, signature, message);
}

/** Whether [S]B = R + [k]A without a cofactor; the caller has checked key, R and s. */
export async function edHolds(key, message, signature) {
  const own = await nativeKey(key);
  if (own) return nodeCrypto.verify(null, message, own, signature);
  const subtle = webCrypto();
  let imported;
  try {
    imported = await subtle.importKey("raw", key.bytes, { name: "Ed25519" }, false, ["verify"]);
  } catch (cause) {
    refuse("no_ed25519", `WebCrypto has no Ed25519 here: ${cause?.message}`, { cause });
  }
  return subtle.verify({ name: "Ed25519" }, imported, signature, message);
}
