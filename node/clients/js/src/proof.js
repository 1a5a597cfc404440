// Proofs of either kind.
import { must, stated } from "./error.js";
import { I63_MAX, PROOF_BYTES_MAX } from "./bounds.js";
import { bytesOf, fromUtf8, parsed } from "./bytes.js";
import { readManifest } from "./manifest.js";
import { verifyProfile } from "./profile.js";
import { TLOG_PROOF, verifyEvent } from "./event_proof.js";

/**
 * Checks a proof offline. `genesis` is the federation's genesis, a longer chain of its manifests, or what
 * `readManifest` made of one. Nothing about the requirements has a default:
 *
 * - `question`: for a profile proof the handle, id or DID; for a proof of an event its id. Any other is refused.
 * - `maxAge`: seconds; a log whose certificate is older counts as left out. Profile proofs only, like the next two.
 * - `missing`: how many logs may count as left out. Liars alone can bring it about that as many are as may lie.
 * - `now`: seconds since 1970, by the reader's clock.
 * - `ownerOnly`: true also accepts an event that its log's owner alone signed, which may still be lost.
 *
 * Resolves to what `fama verify --json` prints, and rejects with the same codes.
 */
export async function verifyProof(proof, genesis, requirements) {
  const text = proof instanceof Uint8Array ? fromUtf8(proof) : proof;
  must(typeof text === "string" && bytesOf(text), "profile_form", "want the text of a proof");
  const { question, maxAge, missing, now, ownerOnly = false } = requirements ?? {};
  stated(typeof question === "string", "question");
  const receipt = text.startsWith(TLOG_PROOF) ? text : receiptIn(text);
  if (receipt !== null) return verifyEvent(receipt, await readManifest(genesis), { question, ownerOnly });
  const isCount = (value) => typeof value === "number" && value >= 0;
  stated(isCount(maxAge), "maxAge, in seconds");
  stated(isCount(missing), "missing, a number of logs");
  stated(isCount(now) && Number.isFinite(now), "now, in seconds since 1970");
  const seconds = (value) => (value >= Number(I63_MAX) ? I63_MAX : BigInt(Math.floor(value)));
  const required = { question, missing, maxAge: seconds(maxAge), now: seconds(now) };
  return verifyProfile(text, await readManifest(genesis), required);
}

/** The proof in the JSON answer of a submission; null for anything else. */
function receiptIn(text) {
  if (text.length > 4 * PROOF_BYTES_MAX || !text.includes('"proof"')) return null;
  const proof = parsed(text)?.proof;
  return typeof proof === "string" ? proof : null;
}
