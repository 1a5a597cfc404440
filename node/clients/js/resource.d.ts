/** Types of resource.js, which says what each part does. */
import type { AccessToken, FamaClient, Genesis, Manifest } from "./fama.js";
import type { Added } from "./login.js";

export interface UsedMemory {
  /** Times in milliseconds since 1970. */
  add(id: string, key: string, ends: number, now: number): Added | Promise<Added>;
}

export interface ResourceOptions {
  client: FamaClient;
  genesis: Genesis;
  /** At least one. */
  issuers: string[];
  resource: string;
  /** Needed if `resource` is no address. */
  url?: string;
  scopes?: string[];
  strict?: boolean;
  /** `maxAge` in seconds; `service` is an id of 64 hex digits. */
  calls?: { maxAge: number; missing: number; service?: string };
  used?: UsedMemory;
  onState?: (state: { live: boolean; reason: string }) => void;
  eventsMax?: number;
  /** Seconds, as is the next one. */
  silence?: number;
  pauseMax?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export interface Needs {
  /** One word or several with spaces between them. */
  scope?: string;
  minKarma?: number;
}

export type Accepted = AccessToken | Caller;

type Common = "subject" | "client_id" | "identity" | "audience" | "scopes" | "expires" | "id" | "process";

/** An agent that signed a call itself. `calls.service` granted its scopes, and a proof showed its karma. */
export interface Caller extends Pick<AccessToken, Common> {
  issuer: null;
  key_version: number;
  karma: number;
  as_of: string | null;
}

export type Checked =
  | { ok: true; agent: Accepted }
  | { ok: false; status: number; code: string; error: string; headers: Record<string, string>; body: string };

export class ResourceServer {
  constructor(options: ResourceOptions);
  /** Whether the stream is followed, and if not, why. */
  readonly live: boolean;
  readonly reason: string;
  /** The newest that is held; undefined before `start` and the first check. */
  readonly manifest?: Manifest;
  /** Where the metadata is served, and its whole address. */
  readonly metadataPath: string;
  readonly metadataUrl: string;
  metadata(): Record<string, unknown>;
  start(): Promise<this>;
  stop(): void;
  /** Node's requests and `Request` fit. */
  check(request: { method?: string; url?: string; headers: unknown }, needs?: Needs): Promise<Checked>;
}

export function expressToken(
  server: ResourceServer, needs?: Needs,
): (req: any, res: any, next: (error?: unknown) => void) => Promise<any>;
export function fastifyToken(server: ResourceServer, needs?: Needs): (request: any, reply: any) => Promise<any>;
export function honoToken(
  server: ResourceServer, needs?: Needs,
): (context: any, next: () => Promise<void>) => Promise<any>;
