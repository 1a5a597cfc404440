// What fama.js exports.
export {
  FamaClient, attestKarma, configure, getAgent, getLeaderboard, getProof, getStatus, register, revokeKey, rotateKey,
  verify, verifyRemote,
} from "./client.js";
export { FamaError } from "./error.js";
export { signLogin } from "./logins.js";
export { Manifest, readManifest } from "./manifest.js";
export { verifyProof } from "./proof.js";
export { eventId, eventText, noteText, parseEvent, parseNote } from "./texts.js";
