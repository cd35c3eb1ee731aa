// The line of a room: one joined WebSocket, proven by a fresh one when in doubt and opened again when it drops. It knows no media.

import { nameOf } from "./error.js";
import { lockedMs } from "./retry.js";
import { readRoom } from "./roomwire.js";

/** @typedef {import("./index.js").SocketLike} Socket */
/** @typedef {import("./roomwire.js").RoomClientMessage} RoomClientMessage */
/** @typedef {import("./roomwire.js").RoomServerMessage} RoomServerMessage */
/** @typedef {import("./wire.js").ErrorMessage} ErrorMessage */

/** `waiting` says that the next attempt has its time; `refused` is final. */
/** @typedef {"idle" | "joining" | "joined" | "waiting" | "refused" | "closed"} State */

/**
 * @typedef {object} Listeners
 * @property {(state: State) => void} state
 * @property {(joined: { peers: string[], iceServers: import("./index.js").IceServer[], resumed: boolean }) => void} joined again after each
 *   reconnect; `resumed` where nobody else was told
 * @property {(message: Exclude<RoomServerMessage, import("./roomwire.js").RoomJoined>) => void} message
 * @property {(fault: { code: string, text: string }) => void} failed an attempt has
 * @property {(text: string) => void} note a line for the log
 */

/** What trying again cannot mend. */
const FINAL = new Set(["unauthorized", "too_many_attempts", "invalid_message"]);
/** What our own dead socket may cause, and what is otherwise for a person to decide. */
const OCCUPIED = new Set(["taken", "room_full"]);
/** What is mended by waiting longer than usual. */
const BUSY = new Set(["over_capacity", "rate_limited"]);
const BUSY_MS = 5_000;
/** A server finds out within 30 s that a socket is dead; until then it holds our name, if it forgot the session. */
const OCCUPIED_MS = 45_000;
/** A join that takes longer is a dead path: better another socket. */
const JOIN_MS = 10_000;
/** Many things go missing at once; one proof is enough for all of them. */
const PROOF_MS = 5_000;
/** A room where nobody says anything is silent for long: after this the line is asked. */
const SILENCE_MS = 15_000;
/** How long its answer may take. With the silence it is less than the 30 s after which the server tells others that we left. */
const ANSWER_MS = 8_000;
/** `WebSocket.OPEN`, which a stand-in need not have. */
const OPEN = 1;

export class RoomLine {
  #url;
  #token;
  #room;
  #user;
  #WebSocket;
  #clock;
  #retry;
  #on;
  /** @type {State} */
  #state = "idle";
  /**
   * The joined one. While it is in doubt it is heard and used as before and above all not closed: the close might be the first that the
   * server hears when the network is back, and everybody would be told that we left.
   * @type {Socket | null}
   */
  #socket = null;
  /** @type {unknown} its own timer: until it is asked, or has to answer */
  #pulse = null;
  /** Whether it was asked and has not answered yet; and whether it did not in time. */
  #asking = false;
  #mute = false;
  /** @type {Socket | null} one that is to take its place */
  #next = null;
  /** Whether that one has said `join`. */
  #asked = false;
  /** Whether any attempt did: from then on our name may be held by a socket of our own. */
  #mayHold = false;
  /** @type {string | undefined} */
  #session;
  /** @type {unknown} the one timer: of an attempt, or until the next */
  #timer = null;
  /** @type {number | null} since when our name or our place is occupied */
  #occupiedAt = null;
  #retryAt = 0;
  #provedAt = -Infinity;
  /** @type {ErrorMessage | null} */
  #refusal = null;

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {string} [options.token]
   * @param {string} options.room
   * @param {string} options.user
   * @param {new (url: string, protocols?: string[]) => Socket} options.WebSocket
   * @param {import("./clock.js").Clock} options.clock
   * @param {import("./retry.js").Retry} options.retry
   * @param {Listeners} options.on
   */
  constructor({ url, token, room, user, WebSocket, clock, retry, on }) {
    this.#url = url;
    this.#token = token;
    this.#room = room;
    this.#user = user;
    this.#WebSocket = WebSocket;
    this.#clock = clock;
    this.#retry = retry;
    this.#on = on;
  }

  open() {
    if (this.#state === "idle") this.#connect();
  }

  /** False says that it certainly does not arrive. @param {RoomClientMessage} message */
  send(message) {
    if (!this.#socket || this.#socket.readyState !== OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Something changed (network, page in front again): try now, or prove that the line still lives. */
  nudge() {
    if (this.#state === "waiting" || (this.#state === "joined" && !this.#next)) this.#connect();
  }

  /** Something did not come that should have: as `nudge`, but not at every such thing. */
  doubt() {
    if (this.#state === "joined" && this.#clock.now() - this.#provedAt >= PROOF_MS) this.nudge();
  }

  close() {
    if (this.#state === "closed") return;
    this.send({ type: "leave", roomId: this.#room });
    this.#release();
    this.#enter("closed");
  }

  get state() {
    return this.#state;
  }

  /** When the next attempt is made, on the injected clock; only meaningful while `waiting`. */
  get retryAt() {
    return this.#retryAt;
  }

  get refusal() {
    return this.#refusal;
  }

  #connect() {
    this.#clock.cancel(this.#timer);
    this.#dropNext();
    if (this.#state !== "joined") this.#enter("joining");
    // Whoever heard of it may have ended it.
    if (this.#state !== "joining" && this.#state !== "joined") return;
    this.#provedAt = this.#clock.now();
    /** @type {Socket} */
    let socket;
    try {
      const Constructor = this.#WebSocket;
      // In the header that a browser lets a page write, and not in the URL, which is logged.
      socket = this.#token === undefined ? new Constructor(this.#url) : new Constructor(this.#url, ["voxcast", `bearer.${base64url(this.#token)}`]);
    } catch (fault) {
      this.#fail(`the socket could not be opened: ${nameOf(fault)}`);
      return;
    }
    this.#next = socket;
    this.#asked = false;
    socket.onopen = () => this.#ask(socket);
    socket.onmessage = (event) => this.#handleNext(event.data);
    socket.onclose = (event) => this.#fail(event.code === 1001 ? "the server is going away" : `the socket closed (${event.code})`);
    // A close always follows an error, and says more.
    socket.onerror = null;
    this.#timer = this.#clock.after(JOIN_MS, () => this.#fail("no answer to the join"));
  }

  /** @param {Socket} socket */
  #ask(socket) {
    const join = { type: /** @type {const} */ ("join"), roomId: this.#room, userId: this.#user };
    socket.send(JSON.stringify(this.#session === undefined ? join : { ...join, session: this.#session }));
    this.#asked = true;
  }

  /** Before the socket has joined. @param {unknown} frame */
  #handleNext(frame) {
    const message = this.#read(frame);
    if (message?.type === "room-joined") this.#joined(message);
    else if (message?.type === "error") this.#refusedJoin(message);
  }

  /** @param {unknown} frame */
  #handle(frame) {
    this.#listen();
    const message = this.#read(frame);
    if (message === null || message.type === "room-joined") return;
    const code = message.type === "error" ? message.code : null;
    // The server does not know of us: it will after another join.
    if (code === "not_in_room") {
      this.#mute = true;
      this.doubt();
    }
    if (this.#asking && (code === "unknown_peer" || code === "not_in_room")) this.#asking = false;
    else this.#on.message(message);
  }

  /** Something was heard of the joined socket, or can be from now on. */
  #listen() {
    this.#mute = false;
    this.#clock.cancel(this.#pulse);
    this.#pulse = this.#clock.after(SILENCE_MS, () => this.#call());
  }

  /** A half-open socket looks joined. What we send to ourselves the server refuses, and nobody else hears of it. */
  #call() {
    this.#asking = this.send({ type: "ice-candidate", to: this.#user, candidate: {} });
    this.#pulse = this.#clock.after(ANSWER_MS, () => {
      this.#mute = true;
      this.doubt();
    });
  }

  /** @param {unknown} frame */
  #read(frame) {
    const { message, fault } = readRoom(frame);
    if (message === null) this.#on.note(`ignored a message: ${fault}`);
    return message;
  }

  /** @param {import("./roomwire.js").RoomJoined} joined */
  #joined({ peers, iceServers, session }) {
    this.#clock.cancel(this.#timer);
    const resumed = this.#session !== undefined && session === this.#session;
    this.#session = session;
    const socket = /** @type {Socket} */ (this.#next);
    this.#next = null;
    // From here on our name is this socket's, and the end of the older one means nothing to anybody.
    this.#dropSocket();
    this.#socket = socket;
    this.#asking = false;
    this.#listen();
    socket.onopen = null;
    socket.onmessage = (event) => this.#handle(event.data);
    socket.onclose = (event) => this.#lost(event.code === 1001 ? "the server is going away" : `the socket closed (${event.code})`);
    this.#retry.reset();
    this.#refusal = null;
    this.#occupiedAt = null;
    this.#mayHold = true;
    this.#enter("joined", resumed ? "joined again, unnoticed" : "joined");
    if (this.#state === "joined" && this.#socket === socket) this.#on.joined({ peers, iceServers, resumed });
  }

  /** @param {ErrorMessage} error */
  #refusedJoin(error) {
    const now = this.#clock.now();
    const { code } = error;
    if (OCCUPIED.has(code)) this.#occupiedAt ??= now;
    // A place that was ours is worth waiting for.
    const patient = this.#mayHold && now - (this.#occupiedAt ?? now) < OCCUPIED_MS;
    // Anybody behind our address may have locked it out: our own token was right, and will be again.
    const locked = code === "too_many_attempts" && this.#session !== undefined;
    // A refused proof says nothing of a joined socket that answers, unless our token counts no more.
    const kept = this.#socket?.readyState === OPEN && !this.#mute && code !== "unauthorized";
    if ((FINAL.has(code) || (OCCUPIED.has(code) && !patient)) && !locked && !kept) this.#refuse(error);
    else this.#fail(`${error.message} (${code})`, error);
  }

  /** @param {ErrorMessage} error */
  #refuse(error) {
    this.#release();
    this.#refusal = error;
    this.#enter("refused", `refused: ${error.message} (${error.code})`);
  }

  /** The joined socket is gone. @param {string} why */
  #lost(why) {
    this.#dropSocket();
    // A socket that takes our place makes the server close this one, and its own `room-joined` may be heard later than that.
    if (this.#next && this.#asked) return;
    if (this.#next) this.#enter("joining", why);
    else this.#fail(why);
  }

  /** Every attempt that fails comes through here. @param {string} why @param {ErrorMessage | null} [error] */
  #fail(why, error = null) {
    this.#clock.cancel(this.#timer);
    // One that asked and got no word may hold our name now, for all that we know.
    if (this.#asked && !error) this.#mayHold = true;
    this.#dropNext();
    this.#refusal = error;
    const wait = this.#retry.next() + (error ? busyMs(error) : 0);
    this.#retryAt = this.#clock.now() + wait;
    this.#timer = this.#clock.after(wait, () => this.#connect());
    this.#enter("waiting", `${why}; trying again in ${(wait / 1000).toFixed(1)} s`);
    if (this.#state === "waiting") this.#on.failed({ code: error?.code ?? "unreachable", text: error?.message ?? why });
  }

  #dropNext() {
    const socket = this.#next;
    this.#next = null;
    this.#asked = false;
    if (socket) hangUp(socket);
  }

  #dropSocket() {
    this.#clock.cancel(this.#pulse);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) hangUp(socket);
  }

  #release() {
    this.#clock.cancel(this.#timer);
    this.#timer = null;
    this.#dropNext();
    this.#dropSocket();
  }

  /** Everything is in place by now, because whoever hears of it may end it. @param {State} state @param {string} [why] */
  #enter(state, why) {
    if (why) this.#on.note(why);
    if (this.#state === state) return;
    this.#state = state;
    this.#on.state(state);
  }
}

/** What is added to the wait for another attempt. @param {ErrorMessage} error */
function busyMs({ code, message }) {
  if (code === "too_many_attempts") return lockedMs(message);
  return BUSY.has(code) ? BUSY_MS : 0;
}

/** @param {Socket} socket */
function hangUp(socket) {
  socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
  socket.close(1000);
}

/** As RFC 4648 section 5 has it, of UTF-8, without padding: what a subprotocol may be made of. @param {string} token */
function base64url(token) {
  const bytes = new TextEncoder().encode(token);
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
