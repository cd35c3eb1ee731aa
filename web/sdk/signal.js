// The line to the server: one WebSocket at a time, greeted, kept alive and opened again when it drops. It knows no media.

import { nameOf } from "./error.js";
import { lockedMs } from "./retry.js";
import { read } from "./wire.js";

/** @typedef {import("./wire.js").ClientMessage} ClientMessage */
/** @typedef {import("./wire.js").ServerMessage} ServerMessage */
/** @typedef {import("./wire.js").ErrorMessage} ErrorMessage */

/** `refused` is final until somebody asks again: trying on by itself would only make it worse. */
/** @typedef {"idle" | "connecting" | "open" | "waiting" | "refused" | "closed"} State */

/** @typedef {import("./index.js").SocketLike} Socket */
/** @typedef {import("./index.js").Login} Login */

/**
 * @typedef {object} Greeting
 * @property {string | null} sessionId null where the server names none
 * @property {boolean} resumed
 * @property {import("./wire.js").Voice[] | null} voices null where nobody is told of them
 * @property {import("./wire.js").IceServer[]} iceServers
 * @property {boolean} silent a key was given, and the server took it without a word
 */

/**
 * @typedef {object} Listeners
 * @property {(state: State) => void} state
 * @property {() => void} opening a socket is made
 * @property {() => void} opened the socket is there, the greeting is not
 * @property {(greeting: Greeting) => void} ready the server accepted us, again after each reconnect
 * @property {(message: ServerMessage) => void} message everything that is not the line's own business
 * @property {(text: string) => void} note a line for the log
 */

/** What trying again by itself cannot mend. */
const FINAL = new Set(["unauthorized", "too_many_attempts", "no_relay", "bad_port_range", "unknown_model"]);
/** A place on a full server comes free in seconds at best: added to each wait for one. */
const FULL_MS = 5_000;
/** A greeting that takes longer is a dead path: better another socket. */
const GREETING_MS = 10_000;
/** Whoever comes with a key is greeted by an id, unasked; a server that sends none in this time sends none. */
const UNASKED_MS = 2_000;
/** Some proxies drop a WebSocket after 30 s of silence. */
const PING_MS = 25_000;
/** How long an answer to a ping may take. */
const PONG_MS = 10_000;
/** The same when there is a reason to doubt the line. */
const DOUBT_MS = 4_000;
/** `WebSocket.OPEN`, which a stand-in need not have. */
const OPEN = 1;
/** A greeting to a key, before anything was said. @type {Greeting} */
const UNSAID = { sessionId: null, resumed: false, voices: null, iceServers: [], silent: false };
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
  /** @type {Login} */
  #login = {};
  /** @type {string | undefined} */
  #session;
  /** Whether the server greeted us since `open`: our login is right. */
  #known = false;
  /** @type {unknown} the one timer that matters in this state: greeting, ping, pong or retry */
  #timer = null;
  #retryAt = 0;
  /** @type {ErrorMessage | null} */
  #refusal = null;

  /**
   * @param {object} options
   * @param {string} options.url an API key is added to its query
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

  /** @param {Login} login */
  open(login) {
    if (this.#state === "closed") return;
    // Another token may be another person: only the same one resumes.
    if (login.token !== this.#login.token || login.apiKey !== this.#login.apiKey) this.#session = undefined;
    this.#login = login;
    this.#known = false;
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

  /** What the server would refuse, or what is in vain by our own insight: final until somebody asks again. @param {ErrorMessage} error */
  refuse(error) {
    if (this.#state === "closed") return;
    this.#leave();
    this.#refusal = error;
    this.#enter("refused", `refused: ${error.message} (${error.code})`);
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

  /** Why the server refused, or that it lets us wait; null otherwise. */
  get refusal() {
    return this.#refusal;
  }

  #connect() {
    this.#drop();
    this.#enter("connecting");
    this.#on.opening();
    // Whoever heard of it may have ended it, or begun anew.
    if (this.#state !== "connecting" || this.#socket) return;
    /** @type {Socket} */
    let socket;
    try {
      socket = new this.#WebSocket(this.#address());
    } catch (fault) {
      this.#fail(`the socket could not be opened: ${nameOf(fault)}`);
      return;
    }
    this.#socket = socket;
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = (event) => this.#handle(event.data);
    socket.onclose = (event) => this.#fail(event.code === 1001 ? "the server is going away" : `the socket closed (${event.code})`);
    // A close always follows an error, and says more.
    socket.onerror = null;
    this.#timer = this.#clock.after(GREETING_MS, () => this.#fail("no greeting from the server"));
  }

  #address() {
    const { apiKey } = this.#login;
    if (apiKey === undefined) return this.#url;
    return `${this.#url}${this.#url.includes("?") ? "&" : "?"}api_key=${encodeURIComponent(apiKey)}`;
  }

  /** Whether a greeting is due that was not asked for by `hello`. */
  get #unasked() {
    return this.#state === "connecting" && this.#login.token === undefined;
  }

  /** @param {Socket} socket */
  #opened(socket) {
    const { token } = this.#login;
    if (token !== undefined) {
      const hello = { type: /** @type {const} */ ("hello"), token };
      socket.send(JSON.stringify(this.#session === undefined ? hello : { ...hello, session: this.#session }));
    } else {
      this.#clock.cancel(this.#timer);
      this.#timer = this.#clock.after(UNASKED_MS, () => this.#greeted({ ...UNSAID, silent: true }));
    }
    this.#on.opened();
  }

  /** @param {unknown} frame */
  #handle(frame) {
    const { message, fault } = read(frame);
    if (message === null) {
      this.#on.note(`ignored a message: ${fault}`);
      return;
    }
    if (this.#state === "open") this.#expectPing();
    if (message.type === "hello_ack") this.#acknowledged(message);
    else if (message.type === "session_id" && this.#unasked) this.#greeted({ ...UNSAID, sessionId: message.session_id });
    else if (message.type === "error" && message.code === "too_many_attempts" && this.#known) this.#lockedOut(message);
    else if (message.type === "error" && FINAL.has(message.code)) this.refuse(message);
    else if (message.type === "error" && message.code === "over_capacity") this.#queue(message);
    else if (message.type !== "pong") this.#on.message(message);
  }

  /** @param {import("./wire.js").HelloAck} ack */
  #acknowledged({ session_id, resumed, voices, ice_servers }) {
    this.#session = session_id;
    this.#greeted({ sessionId: session_id, resumed, voices, iceServers: ice_servers, silent: false });
  }

  /** @param {Greeting} greeting */
  #greeted(greeting) {
    this.#known = true;
    this.#refusal = null;
    this.#retry.reset();
    // From here on the session is this socket's, and the end of another one means nothing to it.
    this.#closeStale();
    this.#expectPing();
    this.#enter("open");
    this.#on.ready(greeting);
  }

  /** No place now: it waits for one, and tells once. @param {ErrorMessage} error */
  #queue(error) {
    if (this.#refusal === null) this.#on.message(error);
    this.#drop(1000);
    this.#fail("no place on the server", error, FULL_MS);
  }

  /** Anybody behind our address may have guessed tokens: it waits until ours counts again. @param {ErrorMessage} error */
  #lockedOut(error) {
    this.#drop(1000);
    this.#fail("our address is locked out", error, lockedMs(error.message));
  }

  /** Every failure comes through here. @param {string} why @param {ErrorMessage | null} [refusal] @param {number} [longer] */
  #fail(why, refusal = null, longer = 0) {
    if (this.#state !== "connecting" && this.#state !== "open") return;
    this.#setAside();
    this.#refusal = refusal;
    const wait = this.#retry.next() + longer;
    this.#retryAt = this.#clock.now() + wait;
    this.#timer = this.#clock.after(wait, () => this.#connect());
    this.#enter("waiting", `${why}; trying again in ${(wait / 1000).toFixed(1)} s`);
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
    if (socket) socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    return socket;
  }

  /** Everything is in place by now, because whoever hears of it may end it. @param {State} state @param {string} [why] */
  #enter(state, why) {
    if (this.#state === state) return;
    this.#state = state;
    if (why) this.#on.note(why);
    if (this.#state === state) this.#on.state(state);
  }
}
