// The line to the server: one WebSocket at a time, greeted, kept alive and opened again when it drops. It knows no media.

import { read } from "./wire.js";

/** @typedef {import("./wire.js").ClientMessage} ClientMessage */
/** @typedef {import("./wire.js").ServerMessage} ServerMessage */
/** @typedef {import("./wire.js").HelloAck} HelloAck */
/** @typedef {import("./wire.js").ErrorMessage} ErrorMessage */

/** `refused` is final until somebody asks again: trying on by itself would only make it worse. */
/** @typedef {"idle" | "connecting" | "open" | "waiting" | "refused" | "closed"} State */

/** The part of a WebSocket that is used, so that a test can stand in for it. */
/**
 * @typedef {object} Socket
 * @property {number} readyState
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number) => void} close
 */

/**
 * @typedef {object} Listeners
 * @property {(state: State) => void} state
 * @property {(ack: HelloAck) => void} ready the server accepted the greeting, again after each reconnect
 * @property {(message: ServerMessage) => void} message everything that is not the line's own business
 * @property {(text: string) => void} note a line for the log
 */

/** What trying again by itself cannot mend. */
const FINAL = new Set(["unauthorized", "too_many_attempts", "no_relay", "bad_port_range"]);
/** A place on a full server comes free in seconds at best: added to each wait for one. */
const FULL_MS = 5_000;
/** A greeting that takes longer is a dead path: better another socket. */
const GREETING_MS = 10_000;
/** Some proxies drop a WebSocket after 30 s of silence. */
const PING_MS = 25_000;
/** How long an answer to a ping may take. */
const PONG_MS = 10_000;
/** The same when there is a reason to doubt the line. */
const DOUBT_MS = 4_000;
/** `WebSocket.OPEN`, which a stand-in need not have. */
const OPEN = 1;
/** Doubted sockets kept at a time: the greeted one, and one that got no greeting. */
const STALE = 2;

export class Signal {
  #url;
  #WebSocket;
  #clock;
  #retry;
  #on;
  /** @type {State} */
  #state = "idle";
  /** @type {Socket | null} */
  #socket = null;
  /**
   * Doubted sockets, deaf but not closed: the close would be the first that the server hears when the network is back,
   * and would end the session that the next socket is to resume.
   * @type {Socket[]}
   */
  #stale = [];
  #token = "";
  /** @type {string | undefined} */
  #session;
  /** @type {unknown} the one timer that matters in this state: greeting, ping, pong or retry */
  #timer = null;
  #retryAt = 0;
  /** @type {ErrorMessage | null} */
  #refusal = null;

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {new (url: string) => Socket} options.WebSocket
   * @param {import("./clock.js").Clock} options.clock
   * @param {import("./retry.js").Retry} options.retry
   * @param {Listeners} options.on
   */
  constructor({ url, WebSocket, clock, retry, on }) {
    this.#url = url;
    this.#WebSocket = WebSocket;
    this.#clock = clock;
    this.#retry = retry;
    this.#on = on;
  }

  /** @param {string} token */
  open(token) {
    if (this.#state === "closed") return;
    // Another token may be another person: only the same one resumes.
    if (token !== this.#token) this.#session = undefined;
    this.#token = token;
    this.#refusal = null;
    this.#retry.reset();
    this.#connect();
  }

  /**
   * False says that the line is down: nothing is queued, whoever sends decides again when it is `ready`.
   * @param {ClientMessage} message
   */
  send(message) {
    if (this.#state !== "open" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Something changed (network, page in front again, a person's wish): try now, or ask whether the line still lives. */
  nudge() {
    if (this.#state === "waiting") this.#connect();
    else if (this.#state === "open") this.#ping(DOUBT_MS);
  }

  /** Hangs up and comes back to the start; `open` may be called again. */
  hangUp() {
    if (this.#state === "closed") return;
    this.#leave();
    this.#refusal = null;
    this.#enter("idle");
  }

  close() {
    if (this.#state === "closed") return;
    this.#leave();
    this.#enter("closed");
  }

  get state() {
    return this.#state;
  }

  /** When the next attempt is made, on the injected clock; only meaningful while `waiting`. */
  get retryAt() {
    return this.#retryAt;
  }

  /** Why the server refused, or that it is full; null otherwise. */
  get refusal() {
    return this.#refusal;
  }

  #connect() {
    this.#drop();
    this.#enter("connecting");
    /** @type {Socket} */
    let socket;
    try {
      socket = new this.#WebSocket(this.#url);
    } catch (fault) {
      this.#fail(`the socket could not be opened: ${fault}`);
      return;
    }
    this.#socket = socket;
    socket.onopen = () => socket.send(JSON.stringify(this.#hello()));
    socket.onmessage = (event) => this.#handle(event.data);
    socket.onclose = (event) => this.#fail(event.code === 1001 ? "the server is going away" : `the socket closed (${event.code})`);
    // A close always follows an error, and says more.
    socket.onerror = null;
    this.#timer = this.#clock.after(GREETING_MS, () => this.#fail("no greeting from the server"));
  }

  /** @returns {ClientMessage} */
  #hello() {
    const hello = { type: /** @type {const} */ ("hello"), token: this.#token };
    return this.#session === undefined ? hello : { ...hello, session: this.#session };
  }

  /** @param {unknown} frame */
  #handle(frame) {
    const { message, fault } = read(frame);
    if (message === null) {
      this.#on.note(`ignored a message: ${fault}`);
      return;
    }
    if (this.#state === "open") this.#expectPing();
    if (message.type === "hello_ack") this.#greeted(message);
    else if (message.type === "error" && FINAL.has(message.code)) this.#refuse(message);
    else if (message.type === "error" && message.code === "over_capacity") this.#queue(message);
    else if (message.type !== "pong") this.#on.message(message);
  }

  /** @param {HelloAck} ack */
  #greeted(ack) {
    this.#session = ack.session_id;
    this.#refusal = null;
    this.#retry.reset();
    // From here on the session is this socket's, and the end of another one means nothing to it.
    this.#closeStale();
    this.#expectPing();
    this.#enter("open");
    this.#on.ready(ack);
  }

  /** @param {ErrorMessage} error */
  #refuse(error) {
    this.#leave();
    this.#refusal = error;
    this.#on.note(`refused: ${error.message} (${error.code})`);
    this.#enter("refused");
  }

  /** No place now: it waits for one, and tells once. @param {ErrorMessage} error */
  #queue(error) {
    if (this.#refusal === null) this.#on.message(error);
    this.#drop(1000);
    this.#fail("no place on the server", error);
  }

  /** Every failure comes through here. @param {string} why @param {ErrorMessage | null} [full] */
  #fail(why, full = null) {
    if (this.#state !== "connecting" && this.#state !== "open") return;
    this.#setAside();
    this.#refusal = full;
    const wait = this.#retry.next() + (full ? FULL_MS : 0);
    this.#retryAt = this.#clock.now() + wait;
    this.#timer = this.#clock.after(wait, () => this.#connect());
    this.#on.note(`${why}; trying again in ${(wait / 1000).toFixed(1)} s`);
    this.#enter("waiting");
  }

  #expectPing() {
    this.#clock.cancel(this.#timer);
    this.#timer = this.#clock.after(PING_MS, () => this.#ping(PONG_MS));
  }

  /** @param {number} patience */
  #ping(patience) {
    this.send({ type: "ping" });
    this.#clock.cancel(this.#timer);
    this.#timer = this.#clock.after(patience, () => this.#fail("no answer to a ping"));
  }

  /** Hangs up for good: nothing is to be resumed. */
  #leave() {
    this.#drop(1000);
    this.#closeStale();
    this.#session = undefined;
  }

  /** @param {number} [code] */
  #drop(code) {
    this.#release()?.close(code);
  }

  #setAside() {
    const socket = this.#release();
    if (!socket) return;
    // One that never opened carries no session, and the first ones are the likeliest to carry it.
    if (socket.readyState === OPEN && this.#stale.length < STALE) this.#stale.push(socket);
    else socket.close();
  }

  #closeStale() {
    for (const socket of this.#stale.splice(0)) socket.close(1000);
  }

  /** Lets go of socket and timer, so that nothing of the old ones is heard any more. */
  #release() {
    this.#clock.cancel(this.#timer);
    this.#timer = null;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    return socket;
  }

  /** @param {State} state */
  #enter(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#on.state(state);
  }
}
