// What a program that uses the client may rely on. The JavaScript beside it is held to this by a test of types.

export * from "./room.js";

/** A clock and its timers, so that tests can turn them by hand. */
export interface Clock {
  /** Milliseconds on a clock that never steps back. */
  now: () => number;
  /** Runs once, later; gives what `cancel` takes. */
  after: (ms: number, run: () => void) => unknown;
  /** Forgets a timer; one that ran already, or null, is fine. */
  cancel: (handle: unknown) => void;
}

/** The browser's own. */
export declare const browserClock: Clock;

export interface Voice {
  id: string;
  name: string;
  description: string;
}

/** An `RTCIceServer`; the credentials of a TURN URL must be there, or the URL is left out. */
export interface IceServer {
  urls: string | string[];
  username?: string | null;
  credential?: string | null;
}

/**
 * `all` lets ICE choose and asks the server for its relay; `udp` and `tcp` allow a relay over that transport and nothing else. Without a
 * policy ICE chooses from what is known when the server has greeted.
 */
export type IceTransportPolicy = "all" | "udp" | "tcp";

/** Exactly one of the two. */
export interface Login {
  token?: string;
  apiKey?: string;
}

export interface ClientOptions {
  /** Of the server: `wss://host/ws`; `http:` and `https:` are understood, and `/ws` is the path where there is none. */
  url: string | URL;
  /** `speaker`, the server's default, or `echo`. */
  model?: string;
  /** Plays this voice as soon as there is a way. */
  voice?: string;
  /** What is sent, for a model that listens; without it one line of audio is received. */
  media?: MediaStream;
  /** STUN and TURN servers beside those that the server names. */
  iceServers?: IceServer[];
  /** What stands in for `DEFAULT_ICE_SERVERS`; `[]` asks nobody but the caller's and the server's own. */
  defaultIceServers?: IceServer[];
  iceTransportPolicy?: IceTransportPolicy;
  /** The server's media port lies in this range; both or neither. */
  rtpPortMin?: number;
  rtpPortMax?: number;
  /** Ends the client in whatever phase it is, as `close` does. */
  signal?: AbortSignal;
  /** How often a first connection that failed is tried again, 2 unless told; one that once stood is mended without limit. */
  retries?: number;
  onTrack?: (event: TrackEvent) => void;
  /** Stand-ins, for tests and for programs that bring their own. */
  WebSocket?: new (url: string) => SocketLike;
  RTCPeerConnection?: new (configuration: RTCConfiguration) => RTCPeerConnection;
  clock?: Clock;
  /** As `Math.random`, for the jitter of the backoff. */
  random?: () => number;
}

export type ConnectOptions = ClientOptions & Login;

/** The part of a WebSocket that is used. */
export interface SocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

/**
 * idle: nobody asked. connecting: on the way, for the first time. connected: ready and silent. streaming: a voice is on.
 * detached: sound goes on while the line is down. recovering: the path is being mended. reconnecting: an attempt is under
 * way. waiting: the next attempt has its time. refused: only a person can mend it. closed: over.
 */
export type State =
  | "idle"
  | "connecting"
  | "connected"
  | "streaming"
  | "detached"
  | "recovering"
  | "reconnecting"
  | "waiting"
  | "refused"
  | "closed";

/** Everything that a page shows, at one moment. */
export interface View {
  state: State;
  /** Empty until the server has greeted a token; a key is told of none. */
  voices: Voice[];
  /** The voice that should be heard. */
  wanted: string | null;
  /** Whether the server greeted us since `connect`. */
  once: boolean;
  /** When the next attempt is made, on the client's clock. */
  retryAt: number | null;
  /** What the server has against us: while `refused`, or while it lets us wait. */
  refusal: { code: string; text: string } | null;
  /** Why the last attempt failed; null once one succeeded. */
  verdict: Verdict | null;
}

/** Steps of an attempt: `configuring` is left out unless a policy asked the server for its relay. */
export type Phase = "opening" | "greeting" | "configuring" | "offering" | "checking" | "connected" | "waiting";

export interface PhaseEvent {
  phase: Phase;
  /** Since `connect`. */
  ms: number;
}

export type CandidateType = "host" | "srflx" | "prflx" | "relay";

/** One ICE candidate (RFC 8839 section 5.1). */
export interface Candidate {
  type: CandidateType;
  protocol: "udp" | "tcp";
  /** An IP address, or a `.local` name. */
  address: string;
  port: number;
  /** RFC 6544 section 4.5. */
  tcpType?: string;
  /** How a relay of ours is reached, where the browser tells: `udp`, `tcp` or `tls`. */
  relayProtocol?: string;
}

export interface CandidateEvent extends Candidate {
  side: "local" | "remote";
  /** Since `connect`. */
  ms: number;
}

/** One end of the selected pair. */
export interface End {
  type: string;
  protocol: string;
  /** With its port; empty where the browser hides it. */
  address: string;
  relayProtocol: string | null;
}

export interface PairEvent {
  path: "direct" | "relay";
  local: End;
  remote: End;
  /** Since `connect`. */
  ms: number;
}

export interface TrackEvent {
  track: MediaStreamTrack;
  stream: MediaStream;
}

export interface Report {
  /** Null while no pair is selected. */
  path: "direct" | "relay" | null;
  pair: { local: End; remote: End } | null;
  /** Kinds, and how many of each. */
  localCandidates: string[];
  remoteCandidates: string[];
  rttMs: number | null;
  /** Of the last interval. */
  lossPercent: number | null;
  jitterMs: number | null;
  /** Of the last interval. */
  kbps: number | null;
  packets: number;
  codec: string | null;
  /** How long no packet has come. */
  quietMs: number;
}

/** What the server says beside negotiation: speech and generation. */
export type Announcement =
  | { type: "generation_started" }
  | { type: "generation_tick"; seconds: number }
  | { type: "generation_ended"; seconds: number; reason: string }
  | { type: "speak_started"; id: string }
  | { type: "speak_ended"; id: string; seconds: number; reason: string }
  | { type: "prompt_ack"; prompt: string; success: boolean; error?: string | null }
  | { type: "set_image_ack"; success: boolean; error?: string | null };

/** What an attempt to connect left behind: all that a verdict is derived from. */
export interface Evidence {
  /** The server's host, as the caller named it. */
  host: string;
  policy: IceTransportPolicy | null;
  /** How far the WebSocket of the attempt came. */
  line: "never" | "opened" | "greeted";
  refusal: { code: string; text: string } | null;
  /** URLs that the browser was given. */
  iceUrls: string[];
  local: Candidate[];
  remote: Candidate[];
  /** `icecandidateerror` events: 701 is silence, 300 to 699 are a server's own words (RFC 8656 section 19). */
  iceErrors: { code: number; url: string }[];
  /** Whether the offer was answered. */
  answered: boolean;
  /** Whether ICE found a path. */
  ice: boolean;
  /** Whether media was connected: ICE and DTLS. */
  media: boolean;
  /** What the path itself failed of, if it came so far. */
  failure: "unsupported" | "bad_answer" | "other" | null;
}

export type VerdictCode =
  | "unauthorized"
  | "too_many_attempts"
  | "no_relay"
  | "bad_port_range"
  | "unknown_model"
  | "over_capacity"
  | "refused"
  | "server_unreachable"
  | "no_greeting"
  | "unsupported"
  | "no_answer"
  | "bad_answer"
  | "path_lost"
  | "dtls_failed"
  | "relay_refused"
  | "relay_unreachable"
  | "relay_dead"
  | "no_local_candidates"
  | "no_server_candidates"
  | "server_hidden"
  | "server_behind_nat"
  | "udp_blocked_no_tcp"
  | "udp_blocked_tcp_failed"
  | "media_port_closed";

/** Why it cannot connect, in words. */
export interface Verdict {
  code: VerdictCode;
  text: string;
  /** What to do about it: who listens, and who runs the server. */
  next: { listener: string; operator: string };
}

/** Derives the verdict. It looks at nothing but the evidence. */
export declare function explain(evidence: Evidence): Verdict;

/** What `connect` rejects with, and what the `error` event tells. */
export declare class VoxcastError extends Error {
  constructor(code: string, message: string, more?: { permanent?: boolean; verdict?: Verdict | null });
  /** The server's code, the verdict's, or `closed`. */
  readonly code: string;
  /** Whether trying again as things are is in vain. */
  readonly permanent: boolean;
  readonly verdict: Verdict | null;
}

/** What `on` tells of. What comes before the first listener of `change` or `stats` is not kept; of all others, the last 256 are. */
export interface ClientEvents {
  state: State;
  change: View;
  phase: PhaseEvent;
  candidate: CandidateEvent;
  pair: PairEvent;
  track: TrackEvent;
  /** Something that a person should read. */
  notice: string;
  /** A line for a log; it holds no secret. */
  note: string;
  error: VoxcastError;
  message: Announcement;
  /** Once a second while media is connected and somebody listens. */
  stats: Report;
}

export declare class Client {
  constructor(options: ClientOptions & Login);
  /**
   * Begins; another login takes the place of the one in the options. Resolves when media is connected. Rejects with a `VoxcastError`
   * when the server refuses for good, when all retries failed or when it was closed; with the signal's reason when that aborted.
   */
  connect(login?: Login): Promise<void>;
  /** Plays this voice as soon as there is a way, and again after every loss, until `stop`. */
  start(voice: string): void;
  stop(): void;
  /** Says a text; gives its id, which `message` events name. Throws a `VoxcastError` while the line is down. */
  speak(text: string, options?: { voice?: string; id?: string }): string;
  /** Gives a function that ends it. What was kept for this event is delivered at once. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): () => void;
  off<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): void;
  /** Figures of this moment, or null while there is no connection. */
  stats(): Promise<Report | null>;
  /** Try now instead of at the appointed time, or make sure that the line still lives. */
  nudge(): void;
  /** Comes back to the start; `connect` may be called again. */
  disconnect(): void;
  /** Ends for good and lets go of everything. */
  close(): void;
  get view(): View;
  get state(): State;
  get sessionId(): string | null;
}

/** Connects and gives the client once media is there. It is closed where this rejects. */
export declare function connect(options: ConnectOptions): Promise<Client>;

/** Merged under the caller's and the server's unless `defaultIceServers` says otherwise. */
export declare const DEFAULT_ICE_SERVERS: readonly Readonly<IceServer>[];
