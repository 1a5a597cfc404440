// The parts of fama.js by the chapters of PROTOCOL.md, for tests. fama.js does not export them.
export { fromHex, toHex, utf8 } from "./bytes.js";
export { decode, readEntry, verifyEntry } from "./codec.js";
export { readTlogProof } from "./event_proof.js";
export { blake3, sha256 } from "./hash.js";
export { checkKey, derSignature, keyHash, keyText, parseKey, readKey, verifyEdge, verifySignature } from "./keys.js";
export { checkMapProof, readMapProof } from "./maps.js";
export { cosigners, leafHash, openCheckpoint, parseSigned, verifyInclusion } from "./notes.js";
