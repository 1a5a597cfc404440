// What fama.js exports.
import { decode, readEntry, verifyEntry } from "./codec.js";
import { fromHex, toHex, utf8 } from "./bytes.js";
import { readTlogProof } from "./event_proof.js";
import { blake3, sha256 } from "./hash.js";
import {
  checkKey, derSignature, keyHash, keyText, parseKey, readKey, verifyEdge, verifySignature,
} from "./keys.js";
import { checkMapProof, readMapProof } from "./maps.js";
import { cosigners, leafHash, openCheckpoint, parseSigned, verifyInclusion } from "./notes.js";

export {
  FamaClient, attestKarma, configure, getAgent, getLeaderboard, getProof, getStatus, register, revokeKey, rotateKey,
  verify, verifyRemote,
} from "./client.js";
export { FamaError } from "./error.js";
export { signLogin } from "./logins.js";
export { Manifest, readManifest } from "./manifest.js";
export { verifyProof } from "./proof.js";
export { eventId, eventText, noteText, parseEvent, parseNote } from "./texts.js";

/** The parts that the functions above are made of, by the chapters of PROTOCOL.md. May change with any version. */
export const protocol = {
  sha256, blake3, parseKey, checkKey, readKey, keyText, keyHash, verifySignature, verifyEdge, derSignature,
  decode, readEntry, verifyEntry, leafHash, parseSigned, openCheckpoint, cosigners, readTlogProof, verifyInclusion,
  readMapProof, checkMapProof, toHex, fromHex, utf8,
};
