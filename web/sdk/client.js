// The client as programs see it: options checked, one promise to wait for, events, and an end that leaves nothing behind.

import { browserClock } from "./clock.js";
import { VoxcastError } from "./error.js";
import { Events } from "./events.js";
import { DEFAULT_ICE_SERVERS } from "./ice.js";
import { Session } from "./session.js";
import { Stats } from "./stats.js";
import { socketUrl } from "./wire.js";

/** @typedef {import("./index.js").ClientOptions} ClientOptions */
/** @typedef {import("./index.js").ClientEvents} ClientEvents */
/** @typedef {import("./index.js").Login} Login */
/** @typedef {import("./index.js").View} View */

/** A first attempt may meet a server that restarts; after a third it is better to say why. */
const RETRIES = 2;
/** States in which media is there. */
const WITH_MEDIA = new Set(["connected", "streaming", "detached"]);
const POLICIES = new Set(["all", "udp", "tcp"]);

export class Client {
  #clock;
  /** @type {Login} */
  #login;
  #voice;
  #signal;
  #retries;
  /** @type {Events<ClientEvents>} */
  #events = new Events(["change", "stats"]);
  #session;
  #stats;
  /** @type {import("./index.js").State} */
  #state = "idle";
  #began = 0;
  #failures = 0;
  /** @type {{ resolve: () => void, reject: (fault: unknown) => void } | null} of the `connect` that is under way */
  #pending = null;
  /** @type {string} the selected pair that was told last */
  #pair = "";
  #abort = () => this.#end(this.#signal?.reason);

  /** @param {ClientOptions & Login} options */
  constructor(options) {
    const { clock = browserClock, signal, retries = RETRIES, onTrack, iceServers = [], defaultIceServers = DEFAULT_ICE_SERVERS } = options;
    this.#clock = clock;
    this.#login = { token: options.token, apiKey: options.apiKey };
    this.#voice = options.voice;
    this.#signal = signal;
    this.#retries = retries;
    this.#session = new Session({
      url: address(options),
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      RTCPeerConnection: options.RTCPeerConnection ?? globalThis.RTCPeerConnection,
      clock,
      random: options.random,
      policy: options.iceTransportPolicy ?? null,
      iceServers: [defaultIceServers, iceServers],
      media: options.media ?? null,
      on: {
        change: (view) => this.#changed(view),
        phase: (phase) => this.#entered(phase),
        candidate: (side, candidate) => this.#events.emit("candidate", { ...candidate, side, ms: this.#ms() }),
        track: (event) => this.#events.emit("track", event),
        failed: (verdict, permanent) => this.#failed(verdict, permanent),
        fault: ({ code, text }) => this.#events.emit("error", new VoxcastError(code, text)),
        message: (message) => this.#events.emit("message", message),
        note: (text) => this.#events.emit("note", text),
        notice: (text) => this.#events.emit("notice", text),
      },
    });
    this.#stats = new Stats({
      clock,
      connection: () => this.#session.connection,
      on: (report) => {
        this.#tellPair(report);
        this.#events.emit("stats", report);
      },
    });
    if (onTrack) this.#events.on("track", onTrack);
  }

  /** @param {Login} [login] @returns {Promise<void>} */
  connect(login = this.#login) {
    if (this.#session.view.state === "closed") return Promise.reject(closed());
    if (this.#signal?.aborted) {
      const { reason } = this.#signal;
      this.close();
      return Promise.reject(reason);
    }
    if ((login.token === undefined) === (login.apiKey === undefined)) {
      return Promise.reject(new TypeError("connect needs a token or an apiKey, and not both"));
    }
    this.#settle(closed());
    this.#login = login;
    this.#began = this.#clock.now();
    this.#failures = 0;
    this.#signal?.addEventListener("abort", this.#abort);
    const connected = new Promise((resolve, reject) => {
      this.#pending = { resolve: () => resolve(undefined), reject };
    });
    this.#session.connect(login);
    if (this.#voice !== undefined) this.#session.start(this.#voice);
    return connected;
  }

  /** @param {string} voice */
  start(voice) {
    this.#session.start(voice);
  }

  stop() {
    this.#session.stop();
  }

  /** @param {string} text @param {{ voice?: string, id?: string }} [options] */
  speak(text, options = {}) {
    const id = this.#session.speak(text, options);
    if (id === null) throw new VoxcastError("not_connected", "Nothing can be said while the line is down.");
    return id;
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {(event: ClientEvents[Name]) => void} listener
   */
  on(name, listener) {
    this.#events.on(name, listener);
    this.#count();
    return () => this.off(name, listener);
  }

  /**
   * @template {keyof ClientEvents} Name
   * @param {Name} name
   * @param {(event: ClientEvents[Name]) => void} listener
   */
  off(name, listener) {
    this.#events.off(name, listener);
    this.#count();
  }

  /** @returns {Promise<import("./index.js").Report | null>} */
  stats() {
    return this.#stats.read();
  }

  nudge() {
    this.#session.nudge();
  }

  disconnect() {
    this.#session.disconnect();
    this.#release(closed());
  }

  close() {
    this.#end(closed());
  }

  /** @returns {View} */
  get view() {
    return this.#session.view;
  }

  get state() {
    return this.#session.view.state;
  }

  get sessionId() {
    return this.#session.sessionId;
  }

  /** @param {View} view */
  #changed(view) {
    if (view.state !== this.#state) {
      this.#state = view.state;
      this.#events.emit("state", view.state);
    }
    this.#count();
    this.#events.emit("change", view);
    if (WITH_MEDIA.has(view.state)) this.#settle();
  }

  /** @param {import("./index.js").Phase} phase */
  #entered(phase) {
    this.#events.emit("phase", { phase, ms: this.#ms() });
    if (phase === "connected") void this.#stats.read().then((report) => report && this.#tellPair(report));
  }

  /** @param {import("./index.js").Verdict} verdict @param {boolean} permanent */
  #failed(verdict, permanent) {
    const refusal = this.#session.view.refusal;
    const fault = new VoxcastError(refusal?.code ?? verdict.code, verdict.text, { permanent, verdict });
    this.#events.emit("error", fault);
    this.#failures += 1;
    // One that stood is mended for ever; one that never did comes to an end.
    if (!permanent && (!this.#pending || this.#failures <= this.#retries)) return;
    if (!permanent) this.#session.giveUp();
    this.#release(fault);
  }

  /** @param {import("./index.js").Report} report */
  #tellPair({ path, pair }) {
    const key = JSON.stringify(pair);
    if (!path || !pair || key === this.#pair) return;
    this.#pair = key;
    this.#events.emit("pair", { path, ...pair, ms: this.#ms() });
  }

  /** Asks for figures while there are some and somebody wants them. */
  #count() {
    // Nothing else says that another pair carries the sound.
    const wanted = this.#events.has("stats") || this.#events.has("pair");
    if (WITH_MEDIA.has(this.#state) && wanted) this.#stats.start();
    else this.#stats.close();
  }

  /** @param {unknown} fault */
  #end(fault) {
    this.#session.close();
    this.#release(fault);
    this.#stats.close();
    this.#events.clear();
  }

  /** Nothing is under way any more. @param {unknown} fault for whoever waits */
  #release(fault) {
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#pair = "";
    this.#settle(fault);
  }

  /** @param {unknown} [fault] */
  #settle(fault) {
    const pending = this.#pending;
    this.#pending = null;
    if (fault === undefined) pending?.resolve();
    else pending?.reject(fault);
  }

  #ms() {
    return this.#clock.now() - this.#began;
  }
}

/**
 * @param {import("./index.js").ConnectOptions} options
 * @returns {Promise<Client>}
 */
export async function connect(options) {
  const client = new Client(options);
  try {
    await client.connect();
  } catch (fault) {
    client.close();
    throw fault;
  }
  return client;
}

function closed() {
  return new VoxcastError("closed", "The client was closed before it was connected.");
}

/** The WebSocket's address with everything but the key, which the line adds. @param {ClientOptions} options */
function address({ url: base, model, iceTransportPolicy: policy, rtpPortMin: min, rtpPortMax: max }) {
  const url = socketUrl(base, "/ws");
  if (policy !== undefined && !POLICIES.has(policy)) throw new TypeError(`iceTransportPolicy must be all, udp or tcp, not ${policy}`);
  if ((min === undefined) !== (max === undefined)) throw new TypeError("rtpPortMin and rtpPortMax go together");
  if (min !== undefined && max !== undefined && !(isPort(min) && isPort(max) && min <= max)) {
    throw new TypeError("rtpPortMin and rtpPortMax must be ports from 1 to 65535, in this order");
  }
  const query = { model, ice_transport_policy: policy, rtp_port_min: min, rtp_port_max: max };
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
  return url.href;
}

/** @param {number} port */
function isPort(port) {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}
