// The room as programs see it: who is there, what is sent to all of them, and an end that leaves nothing behind.

import { browserClock } from "./clock.js";
import { VoxcastError } from "./error.js";
import { Events } from "./events.js";
import { mergeIceServers } from "./ice.js";
import { Retry } from "./retry.js";
import { RoomCursor } from "./roomcursor.js";
import { RoomLine } from "./roomline.js";
import { RoomPeer } from "./roompeer.js";
import { RoomStats } from "./roomstats.js";
import { CHAT_CHARS } from "./roomwire.js";
import { socketUrl } from "./wire.js";

/** @typedef {import("./room.js").RoomOptions} RoomOptions */
/** @typedef {import("./room.js").RoomEvents} RoomEvents */
/** @typedef {import("./room.js").RoomState} RoomState */
/** @typedef {import("./room.js").ChatLine} ChatLine */
/** @typedef {import("./roomlink.js").Kind} Kind */

/** A first attempt may meet a server that restarts; after a third it is better to say why. */
const RETRIES = 2;
/** Lines of chat that are remembered. */
const LINES = 1_000;
/** Persons that are kept, whatever a server says; a mesh of that size serves nobody. */
const PEERS = 256;
/** How long somebody whose socket died has to come back. */
const LEFT_MS = 10_000;
/** The same after a restart of the server, which sends all of them back at once. */
const MISSING_MS = 30_000;
/** And when we shall never be told: as long as a browser's timer can be. */
const REFUSED_MS = 2 ** 31 - 1;
/** Credentials are renewed when this part of their time is left. */
const MARGIN = 0.2;
/**
 * Not more often than this, and when they seem to have ended by our own clock, that clock is wrong. Many do not say when they end; that no
 * path is found may say it, but not of fresh ones.
 */
const RENEW_MS = { least: 30_000, pathless: 120_000, ended: 600_000, untold: 1_800_000, most: 43_200_000 };
const POLICIES = new Set(["all", "relay"]);

export class Room {
  #clock;
  #signal;
  #retries;
  /** @type {Events<RoomEvents>} */
  #events = new Events(["peer", "cursor", "stats"]);
  #line;
  #iceServers;
  /** @type {ReturnType<typeof mergeIceServers>} */
  #given;
  /** @type {Map<string, RoomPeer>} */
  #peers = new Map();
  /** @type {Record<Kind, MediaStreamTrack | null>} */
  #tracks;
  #MediaStream;
  /** @type {import("./roompeer.js").Surroundings} */
  #around;
  #cursor;
  #stats;
  /** @type {ChatLine[]} */
  #chat = [];
  /** @type {RoomState} */
  #state = "joining";
  #once = false;
  #failures = 0;
  /** @type {unknown} */
  #renewTimer = null;
  #renewedAt = -Infinity;
  /** @type {{ resolve: (room: Room) => void, reject: (fault: unknown) => void } | null} of the first join */
  #pending = null;
  #abort = () => this.#end(this.#signal?.reason);

  /** @param {RoomOptions} options */
  static join(options) {
    const room = new Room(options);
    const { signal } = options;
    return /** @type {Promise<Room>} */ (
      new Promise((resolve, reject) => {
        room.#pending = { resolve, reject };
        if (signal?.aborted) {
          room.#abort();
          return;
        }
        signal?.addEventListener("abort", room.#abort);
        room.#line.open();
      })
    );
  }

  /** @param {RoomOptions} options */
  constructor(options) {
    const { clock = browserClock, random = Math.random, stream = null, iceTransportPolicy = "all", receive = true } = options;
    if (!POLICIES.has(iceTransportPolicy)) throw new TypeError(`iceTransportPolicy must be all or relay, not ${iceTransportPolicy}`);
    this.room = options.room;
    this.user = options.user;
    this.#clock = clock;
    this.#signal = options.signal;
    this.#retries = options.retries ?? RETRIES;
    this.#iceServers = options.iceServers ?? [];
    this.#given = mergeIceServers(this.#iceServers);
    this.#tracks = { audio: stream?.getAudioTracks()[0] ?? null, video: stream?.getVideoTracks()[0] ?? null };
    this.#MediaStream = options.MediaStream ?? globalThis.MediaStream;
    this.#line = new RoomLine({
      url: socketUrl(options.url, "/signal").href,
      token: options.token,
      room: this.room,
      user: this.user,
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      clock,
      retry: new Retry({ random }),
      on: {
        state: (state) => this.#moved(state),
        joined: (joined) => this.#joined(joined),
        message: (message) => this.#handle(message),
        failed: (fault) => this.#failed(fault),
        note: (text) => this.#events.emit("note", text),
      },
    });
    const Connection = options.RTCPeerConnection ?? globalThis.RTCPeerConnection;
    this.#around = {
      clock,
      random,
      connect: () => new Connection({ iceServers: this.#given, iceTransportPolicy, bundlePolicy: "max-bundle" }),
      send: (message) => this.#line.send(message),
      line: () => this.#state === "joined",
      doubt: () => this.#line.doubt(),
      pathless: () => {
        if (clock.now() - this.#renewedAt >= RENEW_MS.pathless) this.#line.doubt();
      },
      tracks: (kind) => this.#tracks[kind],
      outgoing: stream ?? new this.#MediaStream(),
      receive,
    };
    this.#cursor = new RoomCursor({ clock, peers: () => this.#peers.values() });
    this.#stats = new RoomStats({ clock, room: this, on: (report) => this.#events.emit("stats", report) });
  }

  /** @param {Kind} kind @param {MediaStreamTrack | null} track */
  async replaceTrack(kind, track) {
    if (track && track.kind !== kind) throw new TypeError(`a track of ${track.kind} cannot be sent as ${kind}`);
    this.#tracks[kind] = track;
    await Promise.all([...this.#peers.values()].map((peer) => peer.replace(kind)));
  }

  /** @param {string} text @returns {ChatLine} */
  sendChat(text) {
    const said = text.trim();
    if (said === "" || said.length > CHAT_CHARS) throw new RangeError(`a line of chat has 1 to ${CHAT_CHARS} characters`);
    for (const peer of this.#peers.values()) peer.say(said);
    return this.#said(this.user, said);
  }

  /** @param {number} x @param {number} y */
  moveCursor(x, y) {
    if (this.#state !== "closed") this.#cursor.move(x, y);
  }

  stats() {
    return this.#stats.read();
  }

  nudge() {
    this.#line.nudge();
  }

  close() {
    this.#end(new VoxcastError("closed", "The room was left before it was joined."));
  }

  /**
   * @template {keyof RoomEvents} Name
   * @param {Name} name
   * @param {(event: RoomEvents[Name]) => void} listener
   */
  on(name, listener) {
    if (this.#state !== "closed") this.#events.on(name, listener);
    this.#count();
    return () => this.off(name, listener);
  }

  /**
   * @template {keyof RoomEvents} Name
   * @param {Name} name
   * @param {(event: RoomEvents[Name]) => void} listener
   */
  off(name, listener) {
    this.#events.off(name, listener);
    this.#count();
  }

  get state() {
    return this.#state;
  }

  get retryAt() {
    return this.#line.state === "waiting" ? this.#line.retryAt : null;
  }

  /** @returns {ReadonlyMap<string, import("./room.js").RoomPeer>} */
  get peers() {
    return this.#peers;
  }

  /** @returns {readonly ChatLine[]} */
  get chat() {
    return [...this.#chat];
  }

  /** @param {import("./roomline.js").State} state */
  #moved(state) {
    if (state === "refused") {
      const { code, message } = this.#line.refusal ?? { code: "refused", message: "The server refused." };
      // A place may come free at any time; a name that somebody has is theirs.
      const fault = new VoxcastError(code, message, { permanent: code !== "room_full" });
      this.#enter("refused");
      this.#events.emit("error", fault);
      if (!this.#once) this.#end(fault);
      // Nobody tells us any more who leaves: they are there as long as their media is.
      for (const peer of [...this.#peers.values()]) peer.away(REFUSED_MS, true);
    } else if (state === "joined") this.#enter("joined");
    else if (state === "joining" || state === "waiting") this.#enter(this.#once ? "detached" : "joining");
  }

  /** @param {{ code: string, text: string }} fault */
  #failed({ code, text }) {
    const fault = new VoxcastError(code, text);
    this.#events.emit("error", fault);
    this.#failures += 1;
    if (!this.#once && this.#failures > this.#retries) this.#end(fault);
  }

  /** @param {{ peers: string[], iceServers: import("./index.js").IceServer[], resumed: boolean }} joined */
  #joined({ peers, iceServers, resumed }) {
    this.#once = true;
    this.#renew(iceServers);
    const there = new Set(peers.filter((id) => id !== this.user).slice(0, PEERS));
    for (const [id, peer] of [...this.#peers]) {
      if (there.has(id)) {
        peer.here();
        peer.lineBack();
        // Nobody there offers to whom they take for a newcomer.
        if (!resumed) peer.offer();
      } else if (!peer.isAway) {
        // A server that was started anew knows nobody, and all come back to it. One that was there all the time knows better.
        if (resumed) peer.away(LEFT_MS);
        else peer.away(MISSING_MS, true);
      }
    }
    for (const id of there) if (!this.#peers.has(id)) this.#add(id)?.offer();
    this.#pending?.resolve(this);
    this.#pending = null;
  }

  /** @param {Exclude<import("./roomwire.js").RoomServerMessage, import("./roomwire.js").RoomJoined>} message */
  #handle(message) {
    if (message.type === "error") {
      // Somebody left while something was on its way to them: everybody is told of that anyway.
      if (message.code === "unknown_peer") this.#events.emit("note", message.message);
      else this.#events.emit("error", new VoxcastError(message.code, message.message));
    } else if (message.type === "peer-left") this.#peers.get(message.peerId)?.away(LEFT_MS);
    else if (message.type === "peer-joined") {
      const peer = this.#peers.get(message.peerId) ?? this.#add(message.peerId);
      peer?.here();
      peer?.expect();
    } else if ("from" in message) {
      // Whoever can send us something is in the room. Only an offer is worth making somebody's acquaintance.
      const peer = this.#peers.get(message.from) ?? (message.type === "offer" ? this.#add(message.from) : null);
      peer?.here();
      peer?.handle(message);
    }
  }

  /** @param {string} id @returns {RoomPeer | null} */
  #add(id) {
    if (id === this.user || this.#peers.size >= PEERS || this.#state === "closed") return null;
    const events = this.#events;
    const peer = new RoomPeer({
      id,
      // Both sides must come to the same end of it, whatever their language says of letters.
      polite: this.user < id,
      stream: new this.#MediaStream(),
      around: this.#around,
      on: {
        state: () => events.emit("peer", peer),
        gone: () => this.#remove(peer),
        track: (track) => events.emit("track", { peer, track, stream: peer.stream }),
        untrack: (track) => events.emit("untrack", { peer, track }),
        chat: (text) => void this.#said(id, text),
        cursor: () => peer.cursor && events.emit("cursor", { peer, ...peer.cursor }),
        pointable: () => this.#cursor.due(peer),
        channel: (channel) => events.emit("channel", { peer, channel }),
        note: (text) => events.emit("note", text),
      },
    });
    this.#peers.set(id, peer);
    events.emit("joined", peer);
    return this.#peers.get(id) === peer ? peer : null;
  }

  /** @param {RoomPeer} peer */
  #remove(peer) {
    if (this.#peers.get(peer.id) !== peer) return;
    this.#peers.delete(peer.id);
    this.#cursor.forget(peer);
    peer.close();
    this.#events.emit("left", peer);
  }

  /** @param {string} from @param {string} text @returns {ChatLine} */
  #said(from, text) {
    const line = { from, text, at: Date.now(), own: from === this.user };
    this.#chat.push(line);
    if (this.#chat.length > LINES) this.#chat.shift();
    this.#events.emit("chat", line);
    return line;
  }

  /** Takes fresh ICE servers, and sees to it that there are others before they end. @param {import("./index.js").IceServer[]} iceServers */
  #renew(iceServers) {
    this.#given = mergeIceServers(this.#iceServers, iceServers);
    this.#renewedAt = this.#clock.now();
    for (const peer of this.#peers.values()) peer.configure(this.#given);
    this.#clock.cancel(this.#renewTimer);
    const left = lifetime(iceServers, Date.now());
    // Whoever joins again, unnoticed, is given others.
    if (left !== null) this.#renewTimer = this.#clock.after(left, () => this.#line.nudge());
  }

  /** Asks for figures while somebody wants them. */
  #count() {
    if (this.#events.has("stats")) this.#stats.start();
    else this.#stats.stop();
  }

  /** @param {unknown} fault for whoever waits */
  #end(fault) {
    if (this.#state === "closed") return;
    // Told first, so that others hear of it before the channels close.
    this.#line.close();
    this.#clock.cancel(this.#renewTimer);
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#cursor.close();
    const peers = [...this.#peers.values()];
    this.#peers.clear();
    for (const peer of peers) peer.close();
    this.#enter("closed");
    this.#events.clear();
    this.#stats.stop();
    this.#pending?.reject(fault);
    this.#pending = null;
  }

  /** Everything is in place by now, because whoever hears of it may end it. @param {RoomState} state */
  #enter(state) {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#events.emit("state", state);
  }
}

/**
 * @param {RoomOptions} options
 * @returns {Promise<Room>}
 */
export async function joinRoom(options) {
  return Room.join(options);
}

/**
 * How long to wait before credentials are renewed: the user names of many begin with the second at which they end. Null where there are none.
 * @param {import("./index.js").IceServer[]} iceServers
 * @param {number} now
 */
export function lifetime(iceServers, now) {
  const waits = iceServers.filter(({ credential }) => credential).map(({ username }) => {
    const end = /^(\d{9,11}):/.exec(username ?? "")?.[1];
    if (end === undefined) return RENEW_MS.untold;
    const left = Number(end) * 1000 - now;
    return left <= 0 ? RENEW_MS.ended : Math.min(RENEW_MS.most, Math.max(RENEW_MS.least, left * (1 - MARGIN)));
  });
  return waits.length === 0 ? null : Math.min(...waits);
}
