/** The client of Fama: asks nodes, checks their proofs offline, signs events, checks logins and access tokens. */

/**
 * Everything that this module refuses or that a node refuses. `code` is a stable word, the same as in the answers of nodes
 * and in `fama`. A node's refusal has `status` and `answer`, a failed submission `submission`. Where no answer came in time,
 * the code is `no_answer`, and `cause` says why; the node may have acted on the request.
 */
export class FamaError extends Error {
  code: string;
  status?: number;
  answer?: unknown;
  submission?: Submission;
}

// ---- Proofs ----

/** One version of a federation's manifest with all before it, each checked. Made by `readManifest` only. */
export class Manifest {
  private constructor();
  readonly version: number;
  /** 64 hex digits, as is `federation`. */
  readonly hash: string;
  readonly federation: string;
  readonly name: string;
  /** How many operators may lie, and how many make an event final. */
  readonly faults: number;
  readonly quorum: number;
  at(version: number): Manifest | undefined;
}

/**
 * Reads the genesis of a federation, or a chain file of its versions. Whoever names the genesis names the federation;
 * everything else follows from signatures. `verifyProof` also takes the text; read it once to save time.
 */
export function readManifest(text: string | Uint8Array | Manifest): Promise<Manifest>;

/** What a reader requires of a profile proof. Nothing has a default: each decides what a node can hide. */
export interface ProfileRequirements {
  /** The handle, id or DID that the proof must be about. */
  question: string;
  /** Seconds; a log with an older certificate counts as left out. */
  maxAge: number;
  /** How many logs may count as left out. Liars alone can bring it about that as many are as may lie. */
  missing: number;
  /** Seconds since 1970, by the reader's clock. */
  now: number;
}

export interface EventRequirements {
  /** The event's id. */
  question: string;
  /** True also accepts an event that its log's owner alone signed, which may still be lost. */
  ownerOnly?: boolean;
}

export interface Karma {
  sum: number;
  count: number;
}

export interface ProvenLog {
  log: string;
  size: number;
  adopted: number;
  cut: boolean;
  last_entry: string | null;
  as_of: string | null;
  cosigned: { operator: string; time: string }[];
}

export interface ProvenAgent {
  id: string;
  handle: string;
  did: string;
  key: string;
  key_version: number;
  status: "active" | "revoked" | "not_known_revoked";
  revoked: { by: string; time: string; reason: string } | null;
  /** `not_known`: the logs that are left out could make up the number of operators that it takes. */
  suspension: "none" | "holds" | "not_known";
  suspended_by: { operator: string; since: string; reason: string }[];
  keys: { key: string; since: string }[];
  karma: Karma;
  providers: { provider: string; karma: Karma }[];
  /** What the services in the question let the agent do. */
  granted: ProvenGrants[];
}

export interface ProvenGrants {
  issuer: string;
  /** Null, like `status` and `suspension`, if nobody has this id. */
  home: string | null;
  status: "active" | "revoked" | "not_known_revoked" | null;
  suspension: "none" | "holds" | "not_known" | null;
  /** Whether the service's own key is known to be in force: without this no grant counts. */
  in_force: boolean;
  /** The grants that stand. Those with `expires` may have ended. */
  grants: { scope: string; expires: string | null }[];
}

export interface ProvenProfile {
  proven: true;
  kind: "profile";
  question: string;
  found: boolean;
  /** Only if `found`. */
  agent?: ProvenAgent;
  age_seconds: number | null;
  as_of: string | null;
  federation: string;
  manifest_version: number;
  logs: ProvenLog[];
  left_out: { log: string; why: "missing" | "old" | "attestations"; as_of: string | null; maps: string[] }[];
}

export interface ProvenEvent {
  proven: true;
  kind: "event";
  event: string;
  log: string;
  index: number;
  time: string;
  size: number;
  final: boolean;
  text?: string;
  manifest_version?: number;
  cosigned?: { operator: string; time: string }[];
}

export type Genesis = string | Uint8Array | Manifest;

/**
 * Checks a proof offline: a profile proof, a proof of an event, or the JSON answer to a submission. Resolves to what
 * `fama verify --json` prints, and rejects with the same codes. Without Node's crypto it needs `crypto.subtle`, which
 * browsers give to pages from https and localhost only; elsewhere it rejects with `no_webcrypto`.
 */
export function verifyProof(proof: string | Uint8Array, genesis: Genesis, requirements: ProfileRequirements): Promise<ProvenProfile>;
export function verifyProof(
  proof: string | Uint8Array, genesis: Genesis, requirements: EventRequirements,
): Promise<ProvenEvent>;

// ---- Tokens ----

/** What a reader of access tokens expects. Nothing has a default. */
export interface TokenRequirements {
  /** The newest that is held: it has the issuers' keys. */
  manifest: Genesis;
  /** The origins of the issuers that are accepted. A key counts for its own issuer only. */
  issuers: string[];
  /** The service's own name: the `aud` of the tokens for it, compared as a text. */
  audience: string;
  /** Seconds since 1970, by the reader's clock. */
  now: number;
}

/** One operator's word about an agent, for one service. */
export interface AccessToken {
  issuer: string;
  /** The operator that has this issuer by the manifest. */
  operator: string;
  /** The agent's DID, handle and id. */
  subject: string;
  client_id: string;
  identity: string;
  audience: string;
  /** The DID of the identity that granted. */
  service: string;
  /** What the agent may do at the service. */
  scopes: string[];
  /** Seconds since 1970, as is `expires`. */
  issued_at: number;
  expires: number;
  id: string;
  /** The thumbprint of the key that proves each request; null for a bearer token. */
  key_thumbprint: string | null;
  /** The process that acts for the agent, by a delegation. */
  process: string | null;
  key_version: number;
  /** The agent's karma then; a BigInt if it is not safe as a number. */
  karma: number | bigint;
  /** The issuer's clock at its frontier, as a time. */
  as_of: string;
  /** Up to where the issuer had read every log (`readFrontier`). */
  frontier: string;
}

/** A public key on Ed25519 or P-256. */
export type ProcessKey = { crv: "Ed25519"; kty: "OKP"; x: string } | { crv: "P-256"; kty: "EC"; x: string; y: string };

/** An identity's word that a process with a key of its own acts for it. */
export interface Delegation {
  /** The DID of the identity. */
  subject: string;
  process: string;
  key: ProcessKey;
  /** What it may do and where; null: all that the identity may, everywhere. */
  scopes: string[] | null;
  resources: string[] | null;
  /** Seconds since 1970, as is `expires`. */
  issued_at: number;
  expires: number;
  id: string;
}

/** A call that an agent or its process signed for one service. The service remembers `id` until `expires`. */
export interface AgentCall {
  /** The agent's DID. */
  subject: string;
  delegation: Delegation | null;
  id: string;
  /** Seconds since 1970. */
  expires: number;
}

/** Whoever takes proofs remembers `id` for this key until `ends`. */
export interface DpopProof {
  key_thumbprint: string;
  id: string;
  /** Seconds since 1970. */
  ends: number;
}

/**
 * Checks an access token offline: form, signature, issuer, audience, federation and time. Rejects with the codes of
 * `fama token check`: `jws_…` and `token_…`. What was withdrawn since it was issued, only the ledger says:
 * `ResourceServer` of `fama-client/resource` follows that.
 */
export function checkAccessToken(token: string, requirements: TokenRequirements): Promise<AccessToken>;
/** `did` and `key` are those of the identity, its key the one in force; `now` in seconds since 1970. */
export function checkDelegation(
  token: string, requirements: { did: string; key: string; federation: string; now: number },
): Promise<Delegation>;
/** The DID of whoever says to have signed a call; throws for what is no call. */
export function callSubject(token: string): string;
/** `agent` is what `verifyProof` showed by a proof as old as the service accepts; `now` in seconds since 1970. */
export function checkAgentCall(
  token: string,
  requirements: {
    agent: Pick<ProvenAgent, "did" | "key" | "status" | "suspension">;
    federation: string; audience: string; now: number;
  },
): Promise<AgentCall>;
/** `token`: the access token of the request, or null where one is asked for; `now` in seconds since 1970. */
export function checkDpop(
  proof: string, requirements: { method: string; url: string; token: string | null; now: number },
): Promise<DpopProof>;
/** The size of each log by a frontier. Throws `bad_cursor`, and `later_version` if the manifest is too old for it. */
export function readFrontier(frontier: string, manifest: Manifest): Map<string, number>;
/** The pieces of a body until it ends or `signal` aborts, also where Node has forgotten the signal given to `fetch`. */
export function piecesOf(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array>;

// ---- Texts ----

/** The fields of an event as texts; absent ones are null or missing. */
export interface EventFields {
  federation: string;
  kind: "register" | "rotate" | "revoke" | "attest" | "retract" | "admit" | "dismiss";
  created?: string;
  nonce?: string;
  [field: string]: string | null | undefined;
}

/** The text that the author signs. `created` and `nonce` are filled in if they are missing. */
export function eventText(event: EventFields): string;
/** Refuses every text that is not the one text of an event. */
export function parseEvent(text: string | Uint8Array): EventFields & { created: string; nonce: string };
/** 64 hex digits; of a registration, they are also the identity's id. */
export function eventId(text: string): string;
/** A note's text, with a fresh salt unless one is given. */
export function noteText(note: { salt?: string; bio?: string; reason?: string; ref?: string }): string;
export function parseNote(text: string | Uint8Array): { salt: string; bio: string | null; reason: string | null; ref: string | null };

// ---- Keys ----

/** A signature in any form that `fama` takes: DER, r and s, with s high or low; 64 bytes for Ed25519. */
export type Sign = (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>;

/** A private key as PEM or one of Node's key objects, or a public one with a function that signs. */
export type Signer = string | object | { public_key: string; sign: Sign };

// ---- Logins ----

export interface Login {
  dumbname: string;
  timestamp: string;
  message: string;
  /** Base64. */
  signature: string;
}

export interface VerifiedLogin {
  verified: true;
  dumbname: string;
  handle: string;
  agent_id: string;
  /** Missing from the answer of a node. */
  karma?: number;
  key_version?: number;
  attestation: string;
}

export interface RefusedLogin {
  verified: false;
  code: string;
  error: string;
  status: number;
}

/** What logins and signatures need of an agent. */
export interface Identified {
  agent_id: string;
  handle: string;
  did: string;
  key: string;
  key_version: number;
  is_revoked: boolean;
  is_suspended: boolean;
  karma: number;
  /** Whether a proof showed it, or a node said so. */
  proven: boolean;
}

export type Identify = (agent: string) => Promise<Identified>;

/** The login for a service's challenge, as `verify` and `POST /api/verify` take it. */
export function signLogin(login: { dumbname: string; message: string; key: Signer; timestamp?: string }): Promise<Login>;

// ---- The client ----

export interface ClientOptions {
  /** Origin of a query listener. By default that of the page or of the module, elsewhere http://127.0.0.1:8080. */
  query?: string;
  /** Origin of a submit listener, for the functions that write. */
  submit?: string;
  /** The federation's id. Without it and without a genesis, what is signed is for the federation that the node names. */
  federation?: string;
  /**
   * With a genesis, no answer about an agent that a login or a signature depends on is believed without a profile proof,
   * checked with `maxAge` and `missing`, which then have no default. Receipts are checked too.
   */
  genesis?: Genesis;
  maxAge?: number;
  missing?: number;
  /** Seconds that a request may take, 30 by default. */
  timeout?: number;
  fetch?: typeof fetch;
}

export interface Submission {
  text: string;
  signature: string;
  countersignature?: string;
  signer?: string;
  note?: string;
  invite?: string;
}

export interface Receipt {
  event: string;
  kind: string;
  log: string;
  index: number;
  known: boolean;
  final: boolean;
  proof: string;
  text: string;
  time?: string;
  identity?: string;
  handle?: string;
  did?: string;
}

export interface SubmitOptions {
  /** Answer only once the event is final, or after some 20 seconds. */
  wait?: boolean;
  invite?: string;
}

/** Who signs: `key`, or `public_key` and `sign`. */
export interface Signing {
  key?: Signer;
  public_key?: string;
  sign?: Sign;
}

export interface RegisterOptions extends Signing, SubmitOptions {
  dumbname: string;
  home?: string;
  bio?: string;
  /** The key that may follow, public or as `sha256:…`. Without it, a thief of the key has the identity. */
  next?: string;
}

export interface RotateOptions extends SubmitOptions {
  dumbname: string;
  /** The current key; not needed if it committed to `new_key`. */
  key?: Signer;
  new_key: Signer;
  next?: string;
}

export interface RevokeOptions extends Signing, SubmitOptions {
  dumbname: string;
  reason?: string;
}

export interface AttestOptions extends Signing, SubmitOptions {
  provider_name: string;
  agent_id: string;
  score_change: number;
  reason?: string;
  external_ref?: string;
  context?: string;
}

export interface Profile {
  identity: {
    agent_id: string; did: string; dumbname: string; handle: string; bio: string | null; public_key: string;
    joined_at: string; key_version: number;
  };
  reputation: { global_score: number; attestation_count: number };
  key_status: {
    is_revoked: boolean; key_version: number; rotated_at: string | null; revoked_at: string | null;
    revocation_reason: string | null;
    is_suspended: boolean; suspended_by: { operator: string; reason: string; since: string }[];
  };
  [member: string]: unknown;
}

export interface Leaderboard {
  timestamp: string;
  agents: { dumbname: string; global_karma: number; attestation_count: number }[];
  cursor?: string;
}

export interface VerifyOptions {
  identify?: Identify;
  now?: number;
}

export class FamaClient {
  constructor(options?: ClientOptions);
  readonly query: string;
  getStatus(): Promise<Record<string, unknown>>;
  getAgent(agent: string, options?: { final?: boolean }): Promise<Profile>;
  getLeaderboard(options?: number | { limit?: number; cursor?: string }): Promise<Leaderboard>;
  getProof(agent: string): Promise<string>;
  identify(agent: string): Promise<Identified>;
  /** Checks a login here; only the agent's key and status are asked for. It holds for 300 s: remember what was used. */
  verify(login: Login, options?: VerifyOptions): Promise<VerifiedLogin | RefusedLogin>;
  /** Asks the node. */
  verifyRemote(login: Login): Promise<VerifiedLogin | RefusedLogin>;
  register(options: RegisterOptions): Promise<Receipt>;
  rotateKey(options: RotateOptions): Promise<Receipt>;
  revokeKey(options: RevokeOptions): Promise<Receipt>;
  attestKarma(options: AttestOptions): Promise<Receipt>;
  /** The same text is the same event: after a broken connection, submit `error.submission` again. */
  submit(submission: Submission, options?: { wait?: boolean }): Promise<Receipt>;
}

/** Makes the client that the functions below use. */
export function configure(options: ClientOptions): FamaClient;
export const getStatus: FamaClient["getStatus"];
export const getAgent: FamaClient["getAgent"];
export const getLeaderboard: FamaClient["getLeaderboard"];
export const getProof: FamaClient["getProof"];
export const verify: FamaClient["verify"];
export const verifyRemote: FamaClient["verifyRemote"];
export const register: FamaClient["register"];
export const rotateKey: FamaClient["rotateKey"];
export const revokeKey: FamaClient["revokeKey"];
export const attestKarma: FamaClient["attestKarma"];
