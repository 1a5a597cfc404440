/** Types of login.js, which says what each part does. */
import type { FamaClient, Identified, Identify, Login } from "./fama.js";

export interface StreamEvent {
  id: string;
  event: string;
  data: string;
}

export class EventParser {
  constructor(each: (event: StreamEvent) => void);
  push(text: string): void;
}

export interface CacheOptions {
  /** Seconds, as are the next four. */
  maxAge?: number;
  fallbackAge?: number;
  unsettled?: number;
  silence?: number;
  pauseMax?: number;
  entriesMax?: number;
  requestsMax?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
  onState?: (state: { live: boolean; reason: string }) => void;
  onEvent?: (event: StreamEvent) => void;
}

export class ProfileCache {
  constructor(client: FamaClient, options?: CacheOptions);
  /** Whether the stream is followed, and if not, why. */
  readonly live: boolean;
  readonly reason: string;
  readonly lastEventId: string;
  readonly size: number;
  readonly identify: Identify;
  start(): this;
  stop(): void;
  forget(...ids: string[]): void;
  forgetAll(): void;
}

export interface UsedLoginMemory {
  add(login: string, agent: string, expires: number, now: number): Added | Promise<Added>;
}

export type Added = "new" | "used" | "full";

export class UsedLogins implements UsedLoginMemory {
  constructor(options?: { max?: number; perAgentMax?: number });
  add(login: string, agent: string, expires: number, now: number): Added;
}

export interface LoginOptions {
  client: FamaClient;
  cache?: ProfileCache;
  audience?: string;
  accepts?: (message: string, request: any) => boolean | Promise<boolean>;
  minKarma?: number;
  used?: UsedLoginMemory;
  now?: () => number;
}

export interface LoggedIn extends Pick<Identified, "handle" | "agent_id" | "karma" | "key_version"> {
  dumbname: string;
  message: string;
}

export type Checked = { ok: true; agent: LoggedIn } | { ok: false; status: number; code: string; error: string };

export function authorization(login: Login): string;
export function createLogin(options: LoginOptions): (login: Login | null | undefined, request?: any) => Promise<Checked>;
export function expressLogin(options: LoginOptions): (req: any, res: any, next: () => void) => Promise<any>;
export function fastifyLogin(options: LoginOptions): (request: any, reply: any) => Promise<any>;
export function honoLogin(options: LoginOptions): (context: any, next: () => Promise<void>) => Promise<any>;
