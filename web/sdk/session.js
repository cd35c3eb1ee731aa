// One listener's session: holds the line and the media path together and remembers what is wanted. It touches no document.

import { Peer } from "./peer.js";
import { Retry } from "./retry.js";
import { Signal } from "./signal.js";

/** @typedef {import("./wire.js").Voice} Voice */
/** @typedef {import("./wire.js").IceServer} IceServer */
/** @typedef {import("./wire.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./wire.js").HelloAck} HelloAck */
/** @typedef {import("./wire.js").ServerMessage} ServerMessage */

/**
 * idle: nobody asked. connecting: on the way, for the first time. connected: ready and silent. streaming: a voice is on.
 * detached: sound goes on while the line is down. recovering: the path is being mended. reconnecting: an attempt is under
 * way. waiting: the next attempt has its time. refused: only a person can mend it. closed: over.
 * @typedef {"idle" | "connecting" | "connected" | "streaming" | "detached" | "recovering" | "reconnecting" | "waiting" | "refused" | "closed"} State
 */

/**
 * @typedef {object} View
 * @property {State} state
 * @property {Voice[]} voices
 * @property {string | null} wanted the voice that should be heard
 * @property {boolean} once whether the server greeted us before
 * @property {number | null} retryAt when the next attempt is made, on the injected clock
 * @property {{ code: string, text: string } | null} refusal what the server has against us: while `refused`, or while it is full
 */

/**
 * @typedef {object} Listeners
 * @property {(view: View) => void} change
 * @property {(stream: MediaStream) => void} stream
 * @property {(text: string) => void} note a line for the log
 * @property {(text: string) => void} notice something a person should read
 */

export class Session {
  #clock;
  #on;
  #signal;
  #peer;
  #mediaRetry;
  /** @type {State} */
  #state = "idle";
  /** @type {Voice[]} */
  #voices = [];
  /** @type {IceServer[]} */
  #iceServers = [];
  /** @type {string | null} */
  #wanted = null;
  /** @type {string | null | undefined} what the server was last told to play; undefined where nobody knows what reached it */
  #told = null;
  #once = false;
  /** Whether media ever stood since `connect`. */
  #stood = false;
  /** @type {unknown} */
  #rebuildTimer = null;
  /** @type {number | null} */
  #rebuildAt = null;

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {new (url: string) => import("./signal.js").Socket} options.WebSocket
   * @param {new (configuration: RTCConfiguration) => RTCPeerConnection} options.RTCPeerConnection
   * @param {import("./clock.js").Clock} options.clock
   * @param {() => number} [options.random]
   * @param {Listeners} options.on
   */
  constructor({ url, WebSocket, RTCPeerConnection, clock, random = Math.random, on }) {
    this.#clock = clock;
    this.#on = on;
    this.#mediaRetry = new Retry({ random });
    this.#signal = new Signal({
      url,
      WebSocket,
      clock,
      retry: new Retry({ random }),
      on: {
        state: () => this.#lineMoved(),
        ready: (ack) => this.#ready(ack),
        message: (message) => this.#handle(message),
        note: on.note,
      },
    });
    this.#peer = new Peer({
      RTCPeerConnection,
      clock,
      send: (message) => this.#signal.send(message),
      on: { state: (state) => this.#peerMoved(state), stream: on.stream, note: on.note },
    });
  }

  /** @param {string} token */
  connect(token) {
    this.#forget();
    this.#peer.hangUp();
    this.#signal.open(token);
    this.#settle();
  }

  /** Plays this voice as soon as there is a way, and again after every loss, until `stop`. @param {string} voice */
  start(voice) {
    this.#wanted = voice;
    this.#tell();
    this.#settle();
  }

  stop() {
    this.#wanted = null;
    this.#tell();
    this.#settle();
  }

  /** Try now instead of at the appointed time, or make sure that the line still lives. */
  nudge() {
    if (this.#rebuildTimer !== null) this.#rebuild();
    this.#signal.nudge();
  }

  disconnect() {
    this.#wanted = null;
    this.#forget();
    this.#peer.hangUp();
    this.#signal.hangUp();
    this.#settle();
  }

  close() {
    this.#forget();
    this.#peer.close();
    this.#signal.close();
    this.#settle();
  }

  /** @returns {View} */
  get view() {
    const refusal = this.#signal.refusal;
    return {
      state: this.#state,
      voices: this.#voices,
      wanted: this.#wanted,
      once: this.#once,
      retryAt: this.#signal.state === "waiting" ? this.#signal.retryAt : this.#rebuildAt,
      refusal: refusal && { code: refusal.code, text: refusal.message },
    };
  }

  /** For statistics only. */
  get connection() {
    return this.#peer.connection;
  }

  /** @param {HelloAck} ack */
  #ready(ack) {
    this.#once = true;
    this.#voices = ack.voices;
    this.#iceServers = ack.ice_servers;
    this.#on.note(ack.resumed ? "session resumed" : `new session, ${ack.voices.length} voices`);
    if (this.#wanted !== null && !ack.voices.some(({ id }) => id === this.#wanted)) {
      this.#wanted = null;
      this.#on.notice("The voice that was playing is gone.");
    }
    // The last words may have gone into a socket that was dead already: a resumed session is told again.
    this.#told = ack.resumed ? undefined : null;
    if (ack.resumed && this.#peer.state === "connected") this.#tell();
    else this.#rebuild();
    this.#settle();
  }

  /** @param {ServerMessage} message */
  #handle(message) {
    switch (message.type) {
      case "answer":
      case "webrtc_answer":
        void this.#peer.answer(message.sdp);
        break;
      case "ice-candidate":
        this.#peer.candidate(message.candidate);
        break;
      case "ice_servers":
        this.#renew(message.ice_servers);
        break;
      case "turn_config":
        this.#renew([{ urls: message.urls, username: message.username, credential: message.credential }]);
        break;
      case "error":
        this.#handleError(message);
        break;
      default:
        this.#on.note(message.type.replaceAll("_", " "));
    }
    this.#settle();
  }

  /** @param {ErrorMessage} error */
  #handleError({ code, message }) {
    this.#on.note(`error: ${message} (${code})`);
    if (code === "no_session") {
      // The server let go of media that we believed in: only a new connection brings it back.
      this.#peer.hangUp();
      this.#rebuildLater();
      return;
    }
    if (code === "unknown_voice" || code === "engine_failed") {
      // The voice before it may still be on.
      this.#wanted = null;
      this.#told = undefined;
      this.#tell();
    }
    this.#on.notice(message);
  }

  /** @param {IceServer[]} iceServers */
  #renew(iceServers) {
    this.#iceServers = iceServers.filter(({ urls }) => urls.length > 0);
    this.#on.note("relay credentials renewed");
    this.#peer.configure(this.#iceServers);
  }

  #lineMoved() {
    const state = this.#signal.state;
    if (state === "open") return; // `ready` follows at once and says it all
    // A rebuild needs the line; `ready` decides anew.
    this.#cancelRebuild();
    if (state === "refused") {
      this.#wanted = null;
      this.#peer.hangUp();
    }
    this.#settle();
  }

  /** @param {import("./peer.js").State} state */
  #peerMoved(state) {
    if (state === "connected") {
      this.#stood = true;
      this.#mediaRetry.reset();
      this.#tell();
    } else if (state === "shaky") {
      // Often the whole network went, and the line has not noticed yet.
      this.#signal.nudge();
    } else if (state === "failed" && this.#signal.state === "open") {
      this.#rebuildLater();
    }
    this.#settle();
  }

  #rebuildLater() {
    this.#cancelRebuild();
    const wait = this.#mediaRetry.next();
    this.#rebuildAt = this.#clock.now() + wait;
    this.#rebuildTimer = this.#clock.after(wait, () => this.#rebuild());
  }

  #rebuild() {
    this.#cancelRebuild();
    // The server keeps its wish from one connection to the next, and a `stop` in between is not sent.
    if (this.#told !== null) this.#told = undefined;
    this.#peer.open(this.#iceServers);
    this.#settle();
  }

  /** Brings the server in line with what is wanted; does nothing where it is so already, or cannot be yet. */
  #tell() {
    if (this.#wanted === this.#told || this.#peer.state !== "connected") return;
    const sent = this.#signal.send(this.#wanted === null ? { type: "stop" } : { type: "start", voice_id: this.#wanted });
    if (sent) this.#told = this.#wanted;
  }

  #cancelRebuild() {
    this.#clock.cancel(this.#rebuildTimer);
    this.#rebuildTimer = null;
    this.#rebuildAt = null;
  }

  #forget() {
    this.#cancelRebuild();
    this.#mediaRetry.reset();
    this.#told = null;
    this.#once = false;
    this.#stood = false;
  }

  /** Derives the one state word from line and path, and tells. */
  #settle() {
    this.#state = this.#word();
    this.#on.change(this.view);
  }

  /** @returns {State} */
  #word() {
    const line = this.#signal.state;
    const path = this.#peer.state;
    if (line === "idle" || line === "refused" || line === "closed") return line;
    if (line !== "open" && path === "connected") return "detached";
    if (line === "waiting") return "waiting";
    if (line === "connecting") return this.#once ? "reconnecting" : "connecting";
    if (path === "connected") return this.#told ? "streaming" : "connected";
    if (this.#rebuildTimer !== null) return "waiting";
    return this.#stood ? "recovering" : "connecting";
  }
}
