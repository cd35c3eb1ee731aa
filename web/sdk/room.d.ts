// What a program that meets others in a room may rely on. The JavaScript beside it is held to this by a test of types.

import type { Clock, End, IceServer, SocketLike, VoxcastError } from "./index.js";

export interface RoomOptions {
  /** Of the server: `wss://host/signal`; `http:` and `https:` are understood, and `/signal` is the path where there is none. */
  url: string | URL;
  /** Not needed where the server's rooms are open. */
  token?: string;
  room: string;
  /** Who we are in the room: 1 to 64 printable characters, which nobody else there has. */
  user: string;
  /** What is sent: its first track of each kind. They are never stopped here. */
  stream?: MediaStream | null;
  /** `relay` goes through a relay and no other way. */
  iceTransportPolicy?: "all" | "relay";
  /** STUN and TURN servers beside those that the server names. */
  iceServers?: IceServer[];
  /** False makes a guest that only sends. */
  receive?: boolean;
  /** Ends the room in whatever state it is, as `close` does. */
  signal?: AbortSignal;
  /** How often a first join that failed is tried again, 2 unless told; one that once stood is mended without limit. */
  retries?: number;
  /** Stand-ins, for tests and for programs that bring their own. */
  WebSocket?: new (url: string, protocols?: string[]) => SocketLike;
  RTCPeerConnection?: new (configuration: RTCConfiguration) => RTCPeerConnection;
  MediaStream?: new () => MediaStream;
  clock?: Clock;
  /** As `Math.random`, for the jitter of the backoff. */
  random?: () => number;
}

/**
 * joining: on the way. joined: there. detached: the line to the server is down and is tried again, while media goes on. refused: only a
 * person can mend it; who is connected stays connected. closed: over.
 */
export type RoomState = "joining" | "joined" | "detached" | "refused" | "closed";

/** shaky: it may mend itself. restarting: another path is looked for. failed: a new connection follows. closed: has left. */
export type PeerState = "connecting" | "connected" | "shaky" | "restarting" | "failed" | "closed";

/** Another person in the room. */
export interface RoomPeer {
  readonly id: string;
  /** One and the same for life. A track is in it while something comes: it comes and goes as `track` and `untrack` tell. */
  readonly stream: MediaStream;
  readonly state: PeerState;
  /** Where they point, from 0 to 1 each way; null until they did. */
  readonly cursor: { x: number; y: number } | null;
  /** Those in use, by label. */
  readonly channels: ReadonlyMap<string, RTCDataChannel>;
  /** Another one after some failures; null while there is none. */
  readonly connection: RTCPeerConnection | null;
}

export interface ChatLine {
  from: string;
  text: string;
  /** As `Date.now()`. */
  at: number;
  own: boolean;
}

export interface Picture {
  width: number;
  height: number;
  fps: number;
}

/** Figures of one connection; null is what is not known. Rates are of the time since the last report. */
export interface PeerReport {
  peer: string;
  state: PeerState;
  path: "direct" | "relay" | null;
  /** `direct in the LAN`, `direct`, `through NAT`, `relayed over UDP`, `TCP` or `TLS`, `relayed at the other side`; empty while there is no path. */
  words: string;
  pair: { local: End; remote: End } | null;
  rttMs: number | null;
  /** Of what they send. */
  lossPercent: number | null;
  /** Of what we send, as they report it. */
  lossOutPercent: number | null;
  jitterMs: number | null;
  kbpsIn: number | null;
  kbpsOut: number | null;
  video: { in: Picture | null; out: Picture | null };
  /** From 0 to 1. */
  audioLevel: number | null;
  verdict: { rating: "good" | "fair" | "poor" | "none"; text: string };
}

/** Plain JSON. */
export interface RoomReport {
  /** As `Date.now()`. */
  at: number;
  room: string;
  user: string;
  peers: PeerReport[];
}

/**
 * What `on` tells of. What comes before the first listener of `peer`, `cursor` or `stats` is not kept; of all others, the last 256 are, so
 * that `joined` tells of those, too, who were there before.
 */
export interface RoomEvents {
  state: RoomState;
  /** Somebody is in the room. */
  joined: RoomPeer;
  left: RoomPeer;
  /** The state of somebody changed. */
  peer: RoomPeer;
  track: { peer: RoomPeer; track: MediaStreamTrack; stream: MediaStream };
  untrack: { peer: RoomPeer; track: MediaStreamTrack };
  /** Own lines, too. */
  chat: ChatLine;
  cursor: { peer: RoomPeer; x: number; y: number };
  /** Somebody opened a channel that is neither `chat` nor `cursors`. */
  channel: { peer: RoomPeer; channel: RTCDataChannel };
  /** Once a second while somebody listens. */
  stats: RoomReport;
  error: VoxcastError;
  /** A line for a log; it holds no secret. */
  note: string;
}

export declare class Room {
  private constructor();
  /** In the order in which they came. */
  get peers(): ReadonlyMap<string, RoomPeer>;
  get state(): RoomState;
  /** When the next attempt is made, on the room's clock, while one is waited for. */
  get retryAt(): number | null;
  /** The last 1000 lines of this visit, oldest first. */
  get chat(): readonly ChatLine[];
  readonly room: string;
  readonly user: string;
  /**
   * Sends another track of this kind, or none, to all who are there and to all who come. From track to track nothing is negotiated, so that a
   * screen takes the place of a camera at once. The old track goes on; it is the caller's.
   */
  replaceTrack(kind: "audio" | "video", track: MediaStreamTrack | null): Promise<void>;
  /** Says a line to all who are in the room now; to one who is not connected yet, as soon as that is so. 1 to 4000 characters, or a RangeError. */
  sendChat(text: string): ChatLine;
  /** From 0 to 1 each way; at most 30 positions a second are sent, and none while a channel is full. The last one always is. */
  moveCursor(x: number, y: number): void;
  stats(): Promise<RoomReport>;
  /** The network changed, or a person is waiting: try now, or make sure that the line still lives. */
  nudge(): void;
  /** Leaves for good and lets go of everything but the caller's tracks. */
  close(): void;
  /** Gives a function that ends it. What was kept for this event is delivered at once. */
  on<Name extends keyof RoomEvents>(name: Name, listener: (event: RoomEvents[Name]) => void): () => void;
  off<Name extends keyof RoomEvents>(name: Name, listener: (event: RoomEvents[Name]) => void): void;
}

/**
 * Joins and gives the room. Rejects with a `VoxcastError` when the server refuses or when all retries failed, and with the signal's reason
 * when that aborted.
 */
export declare function joinRoom(options: RoomOptions): Promise<Room>;
