// What fama.js exports.
export {
  FamaClient, attestKarma, configure, getAgent, getLeaderboard, getProof, getStatus, piecesOf, register, revokeKey,
  rotateKey, verify, verifyRemote,
} from "./client.js";
export { FamaError } from "./error.js";
export { signLogin } from "./logins.js";
export { Manifest, readManifest } from "./manifest.js";
export { verifyProof } from "./proof.js";
export { callSubject, checkAccessToken, checkAgentCall, checkDelegation, checkDpop, readFrontier } from "./tokens.js";
export { eventId, eventText, noteText, parseEvent, parseNote } from "./texts.js";
