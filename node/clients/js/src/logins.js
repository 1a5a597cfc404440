// What an agent signs to log in.
import { FamaError, must, refuse } from "./error.js";
import { LONE_SURROGATE, fromLenientBase64, toBase64, utf8 } from "./bytes.js";
import { native } from "./runtime.js";
import { keyFromPem, parseKey, readKey, verifyEdge } from "./keys.js";
import { isTime } from "./texts.js";

/** How far a login's time may be from the checker's clock, in seconds. */
const LOGIN_WINDOW_SECONDS = 300;
// How other texts begin that the same keys sign: no login may look like one.
const NO_LOGIN = ["fama.", "fama/", "format = ", "cosignature/v1", "c2sp.org/", "ROTATE_KEY:", "REVOKE_KEY:"];

/** The bytes that a login signs: name, time and message as they are, joined. Refuses what an agent may not sign. */
function loginText({ dumbname, timestamp, message }) {
  const text = `${dumbname}${timestamp}${message}`;
  const safe = !NO_LOGIN.some((begin) => message.startsWith(begin) || text.startsWith(begin));
  must(safe, "forbidden_message", "no agent may sign this to log in");
  return utf8(text);
}

/** The time in milliseconds since 1970 of strict RFC 3339 in UTC, with milliseconds or without a fraction. */
function loginTime(text) {
  const whole = text.length === 20 ? text.replace(/Z$/, ".000Z") : text;
  must(isTime(whole), "bad_timestamp", "want a time like 2026-11-22T05:00:00Z");
  return Date.parse(whole);
}

/** The login of an agent for a service's challenge, as `POST /api/verify` and `verify` take it. */
export async function signLogin({ dumbname, message, key, timestamp = `${new Date().toISOString().slice(0, 19)}Z` }) {
  loginTime(timestamp);
  const signer = await signerOf(key);
  return { dumbname, timestamp, message, signature: toBase64(await signer.sign(loginText({ dumbname, timestamp, message }))) };
}

/** Refuses a login that the agent did not sign just now; `agent` is what `FamaClient.identify` found for its name. */
export async function checkLogin(login, agent, now) {
  for (const field of ["dumbname", "timestamp", "signature", "message"]) {
    must(typeof login?.[field] === "string", `missing_${field}`, `${field}: want a string`);
    must(!LONE_SURROGATE.test(login[field]), "bad_message", `${field} is no Unicode`);
  }
  const time = loginTime(login.timestamp);
  const signature = fromLenientBase64(login.signature);
  must(signature?.length, "bad_signature_form", "signature: want base64");
  const text = loginText(login);
  must(Math.abs(now - time) <= 1000 * LOGIN_WINDOW_SECONDS, "expired", "more than 300 seconds from now");
  const { key, is_revoked, is_suspended } = await agent();
  try {
    await verifyEdge(parseKey(key), text, signature);
  } catch (error) {
    if (error.code === "signature_malformed") refuse("bad_signature_form", "signature: another curve");
    if (error.code === "signature_mismatch") refuse("bad_signature", "it does not match key and message");
    throw error;
  }
  must(!is_revoked, "revoked", "the agent's key is revoked");
  must(!is_suspended, "suspended", "the agent is suspended");
}

/** `{key, sign}` of a private key as PEM, of one of Node's key objects, or of `{public_key, sign}`. */
export async function signerOf(given) {
  if (typeof given?.sign === "function") return { key: readKey(given.public_key), sign: given.sign };
  const crypto = await native();
  must(crypto, "cannot_sign", "no private keys are read here: give {public_key, sign}");
  let own;
  try {
    own = typeof given === "string" ? crypto.createPrivateKey(given) : given;
    const key = keyFromPem(crypto.createPublicKey(own).export({ type: "spki", format: "pem" }));
    return { key, sign: (bytes) => new Uint8Array(crypto.sign(key.curve === "ed25519" ? null : "sha256", bytes, own)) };
  } catch (cause) {
    // What the runtime says of a private key is not passed on: it might quote it.
    return refuse(cause instanceof FamaError ? cause.code : "key_pem", "want a secp256k1 or Ed25519 private key");
  }
}
