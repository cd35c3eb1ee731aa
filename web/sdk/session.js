// One listener's session: holds the line and the media path together and remembers what is wanted. It touches no document.

import { allowed, mergeIceServers, relayOnly } from "./ice.js";
import { Peer } from "./peer.js";
import { Retry } from "./retry.js";
import { Signal } from "./signal.js";
import { explain } from "./verdict.js";

/** @typedef {import("./index.js").Voice} Voice */
/** @typedef {import("./index.js").IceServer} IceServer */
/** @typedef {import("./index.js").State} State */
/** @typedef {import("./index.js").View} View */
/** @typedef {import("./index.js").Verdict} Verdict */
/** @typedef {import("./wire.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./wire.js").ServerMessage} ServerMessage */
/** @typedef {import("./signal.js").Greeting} Greeting */

/**
 * @typedef {object} Listeners
 * @property {(view: View) => void} change
 * @property {(phase: import("./index.js").Phase) => void} phase
 * @property {(side: "local" | "remote", candidate: import("./index.js").Candidate) => void} candidate
 * @property {(event: import("./index.js").TrackEvent) => void} track
 * @property {(verdict: Verdict, permanent: boolean) => void} failed an attempt has
 * @property {(fault: { code: string, text: string }) => void} fault the server said that something else is wrong
 * @property {(message: import("./index.js").Announcement) => void} message
 * @property {(text: string) => void} note a line for the log
 * @property {(text: string) => void} notice something a person should read
 */

/** How long a relay that was asked for is waited for: ours has been named by then, and others should not keep a listener. */
const CONFIG_MS = 2_000;
/** Texts that are on their way to be spoken; a server's own queue is shorter. */
const SPEAKING = 64;
/** What a text to be spoken may be refused with; such an error names no id. */
const SPEECH_FAULTS = new Set(["engine_failed", "empty_text", "unknown_voice"]);

export class Session {
  #clock;
  #host;
  #policy;
  #extra;
  #on;
  #signal;
  #peer;
  #mediaRetry;
  /** @type {State} */
  #state = "idle";
  /** @type {Voice[]} */
  #voices = [];
  /** @type {IceServer[]} what the server's greeting named, or what came fresh after it */
  #iceServers = [];
  /** @type {IceServer[] | null} what this socket's first `turn_config` named; null until it came */
  #turn = null;
  /** @type {string | null} */
  #wanted = null;
  /** @type {string | null | undefined} what the server was last told to play; undefined where nobody knows what reached it */
  #told = null;
  /** @type {string[]} ids of texts that the server has not begun to speak */
  #speaking = [];
  #spoken = 0;
  /** @type {string | null} */
  #sessionId = null;
  #once = false;
  /** Whether media ever stood since `connect`. */
  #stood = false;
  /** @type {import("./index.js").Evidence["line"]} how far the newest socket came */
  #line = "never";
  /** Whether the path was there before this socket. */
  #resumed = false;
  /** @type {ReturnType<typeof mergeIceServers>} what the connection was given last */
  #given = [];
  /** @type {Verdict | null} */
  #verdict = null;
  /** Whether that is about the line, so that a greeting proves it wrong. */
  #ofLine = false;
  /** The view that was told last, as text. */
  #shown = "";
  #unreported = false;
  /** @type {unknown} */
  #configTimer = null;
  /** @type {unknown} */
  #rebuildTimer = null;
  /** @type {number | null} */
  #rebuildAt = null;

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {new (url: string) => import("./index.js").SocketLike} options.WebSocket
   * @param {new (configuration: RTCConfiguration) => RTCPeerConnection} options.RTCPeerConnection
   * @param {import("./index.js").Clock} options.clock
   * @param {() => number} [options.random]
   * @param {import("./index.js").IceTransportPolicy | null} [options.policy]
   * @param {(readonly Readonly<IceServer>[])[]} [options.iceServers] beside the server's own, older ones first
   * @param {MediaStream | null} [options.media]
   * @param {Listeners} options.on
   */
  constructor({ url, WebSocket, RTCPeerConnection, clock, random = Math.random, policy = null, iceServers = [], media = null, on }) {
    this.#clock = clock;
    this.#host = new URL(url).hostname;
    this.#policy = policy;
    this.#extra = iceServers;
    this.#on = on;
    this.#mediaRetry = new Retry({ random });
    this.#signal = new Signal({
      url,
      WebSocket,
      clock,
      retry: new Retry({ random }),
      on: {
        state: () => this.#lineMoved(),
        opening: () => this.#opening(),
        opened: () => this.#opened(),
        ready: (greeting) => this.#ready(greeting),
        message: (message) => this.#handle(message),
        note: on.note,
      },
    });
    this.#peer = new Peer({
      RTCPeerConnection,
      clock,
      media,
      relayOnly: relayOnly(policy),
      send: (message) => this.#signal.send(message),
      on: {
        state: (state) => this.#peerMoved(state),
        track: on.track,
        answered: () => {
          if (this.#peer.state === "connecting") this.#on.phase("checking");
        },
        candidate: on.candidate,
        note: on.note,
      },
    });
  }

  /** @param {import("./index.js").Login} login */
  connect(login) {
    this.#forget();
    this.#verdict = null;
    this.#peer.hangUp();
    this.#signal.open(login);
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

  /** Gives the id that the server will name, or null while the line is down. @param {string} text @param {{ voice?: string, id?: string }} options */
  speak(text, { voice, id = `speak-${(this.#spoken += 1)}` }) {
    if (!this.#signal.send({ type: "speak", text, ...(voice !== undefined && { voice_id: voice }), id })) return null;
    this.#speaking.push(id);
    if (this.#speaking.length > SPEAKING) this.#speaking.shift();
    return id;
  }

  /** Try now instead of at the appointed time, or make sure that the line still lives. */
  nudge() {
    if (this.#rebuildTimer !== null) this.#rebuild();
    this.#signal.nudge();
  }

  disconnect() {
    this.#verdict = null;
    this.giveUp();
  }

  /** As `disconnect`, but what was found out stays to be read. */
  giveUp() {
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
      verdict: this.#verdict,
    };
  }

  get sessionId() {
    return this.#sessionId;
  }

  /** For statistics only. */
  get connection() {
    return this.#peer.connection;
  }

  #opening() {
    this.#line = "never";
    this.#turn = null;
    this.#on.phase("opening");
  }

  #opened() {
    this.#line = "opened";
    this.#on.phase("greeting");
  }

  /** @param {Greeting} greeting */
  #ready({ sessionId, resumed, voices, iceServers, silent }) {
    if (this.#line !== "greeted" && this.#ofLine) this.#verdict = null;
    this.#line = "greeted";
    this.#once = true;
    this.#sessionId = sessionId;
    this.#voices = voices ?? [];
    this.#iceServers = iceServers;
    this.#on.note(resumed ? "session resumed" : voices ? `new session, ${voices.length} voices` : "new session");
    if (voices && this.#wanted !== null && !voices.some(({ id }) => id === this.#wanted)) {
      this.#wanted = null;
      this.#on.notice("The voice that was playing is gone.");
    }
    // The last words may have gone into a socket that was dead already: a resumed session is told again.
    this.#told = resumed ? undefined : null;
    this.#speaking = [];
    this.#peer.lineRenewed();
    // Whoever heard of it may have ended it.
    if (this.#signal.state !== "open") return;
    this.#resumed = resumed && this.#peer.state === "connected";
    if (this.#resumed) {
      this.#peer.resume();
      this.#reconfigure(false);
      this.#tell();
    } else if (this.#policy !== null && this.#turn === null && !silent) {
      this.#awaitConfig();
    } else {
      this.#rebuild();
    }
    this.#settle();
  }

  /** The server was asked for its relay, and has not named it yet. */
  #awaitConfig() {
    // The old path is not the server's any more, and must not be taken for the new one.
    this.#peer.hangUp();
    this.#cancelWaits();
    if (this.#signal.state !== "open") return;
    this.#configTimer = this.#clock.after(CONFIG_MS, () => {
      this.#on.note("the server names no relay");
      this.#rebuild();
    });
    this.#on.phase("configuring");
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
        this.#configure(message);
        break;
      case "session_id":
        this.#sessionId = message.session_id;
        break;
      case "error":
        this.#handleError(message);
        break;
      case "hello_ack":
      case "pong":
        break;
      default:
        if (message.type.startsWith("speak_") && "id" in message) this.#speaking = this.#speaking.filter((id) => id !== message.id);
        this.#on.note(message.type.replaceAll("_", " "));
        this.#on.message(message);
    }
    this.#settle();
  }

  /** @param {ErrorMessage} error */
  #handleError({ code, message }) {
    this.#on.note(`error: ${message} (${code})`);
    if (code === "over_capacity") {
      this.#on.notice(message);
      return; // the attempt has failed, and says so itself
    }
    this.#on.fault({ code, text: message });
    if (code === "no_session") {
      // The server let go of media that we believed in: only a new connection brings it back.
      this.#peer.hangUp();
      this.#rebuildLater();
      return;
    }
    if (code === "invalid_sdp") this.#peer.refused();
    if (SPEECH_FAULTS.has(code) && this.#speaking.shift() !== undefined) {
      // Texts are answered in their order, and what plays goes on.
    } else if (code === "unknown_voice" || code === "engine_failed") {
      // The voice before it may still be on.
      this.#wanted = null;
      this.#told = undefined;
      this.#tell();
    }
    this.#on.notice(message);
  }

  /**
   * The first one of a socket completes its greeting, however late it comes; others bring fresh credentials.
   * @param {Extract<ServerMessage, { type: "turn_config" }>} config
   */
  #configure({ urls, username, credential }) {
    const servers = [{ urls, username, credential }];
    if (this.#turn !== null || (this.#policy === null && this.#line === "greeted")) {
      this.#renew(servers);
      return;
    }
    this.#turn = servers;
    if (this.#configTimer !== null) this.#rebuild();
    else if (this.#line === "greeted") this.#reconfigure(!this.#resumed);
  }

  /** @param {IceServer[]} servers */
  #renew(servers) {
    if (allowed(mergeIceServers(servers), this.#policy).length === 0) {
      this.#on.note("fresh relay settings that name no relay are ignored");
      return;
    }
    this.#iceServers = servers;
    this.#turn = [];
    this.#on.note("relay credentials renewed");
    this.#reconfigure(true);
  }

  /** The connection that there is takes what is known now. One that the session brought along needs no other path for it. @param {boolean} restart */
  #reconfigure(restart) {
    const servers = this.#servers();
    if (servers.length === 0 || JSON.stringify(servers) === JSON.stringify(this.#given)) return;
    this.#given = servers;
    this.#peer.configure(servers, { restart });
  }

  #servers() {
    return allowed(mergeIceServers(...this.#extra, this.#iceServers, this.#turn ?? []), this.#policy);
  }

  #lineMoved() {
    const state = this.#signal.state;
    if (state === "open") return; // `ready` follows at once and says it all
    // A rebuild needs the line; `ready` decides anew.
    this.#cancelWaits();
    if (state === "waiting") {
      const unanswered = !this.#stood && !this.#peer.evidence.answered;
      if (this.#line !== "greeted" || this.#signal.refusal || unanswered) this.#judge(true);
      this.#on.phase("waiting");
    } else if (state === "refused") {
      this.#wanted = null;
      this.#judge(true);
      this.#peer.hangUp();
    }
    this.#settle();
    this.#report(state === "refused");
  }

  /** @param {import("./peer.js").State} state */
  #peerMoved(state) {
    if (state === "connected") {
      this.#stood = true;
      this.#verdict = null;
      this.#mediaRetry.reset();
      this.#on.phase("connected");
      this.#tell();
    } else if (state === "shaky") {
      // Often the whole network went, and the line has not noticed yet.
      this.#signal.nudge();
    } else if (state === "failed") {
      const open = this.#signal.state === "open";
      // Without a line and an answer it was the line that failed, which says so itself.
      if (open || this.#peer.evidence.answered) this.#judge(false);
      if (open) {
        this.#rebuildLater();
        this.#on.phase("waiting");
      }
    }
    this.#settle();
    this.#report(false);
  }

  /** The attempt failed: says why. @param {boolean} ofLine */
  #judge(ofLine) {
    const refusal = this.#signal.refusal;
    this.#ofLine = ofLine;
    this.#verdict = explain({
      host: this.#host,
      policy: this.#policy,
      line: this.#line,
      refusal: refusal && { code: refusal.code, text: refusal.message },
      iceUrls: this.#given.flatMap(({ urls }) => urls),
      ...this.#peer.evidence,
    });
    this.#unreported = true;
  }

  /** Last of all, because whoever hears of a failure may end the session. @param {boolean} permanent */
  #report(permanent) {
    const verdict = this.#verdict;
    if (!this.#unreported || !verdict) return;
    this.#unreported = false;
    this.#on.note(`${verdict.text} (${verdict.code})`);
    this.#on.failed(verdict, permanent);
  }

  #rebuildLater() {
    this.#cancelWaits();
    if (this.#signal.state !== "open") return;
    const wait = this.#mediaRetry.next();
    this.#rebuildAt = this.#clock.now() + wait;
    this.#rebuildTimer = this.#clock.after(wait, () => this.#rebuild());
  }

  #rebuild() {
    this.#cancelWaits();
    if (this.#signal.state !== "open") return;
    this.#resumed = false;
    this.#given = this.#servers();
    if (relayOnly(this.#policy) && this.#given.length === 0) {
      const text = `Relay-only over ${this.#policy?.toUpperCase()} cannot be: nobody named such a relay`;
      this.#signal.refuse({ type: "error", code: "no_relay", message: text, error: text });
      return;
    }
    // The server keeps its wish from one connection to the next, and a `stop` in between is not sent.
    if (this.#told !== null) this.#told = undefined;
    this.#on.phase("offering");
    if (this.#signal.state === "open") this.#peer.open(this.#given);
    this.#settle();
  }

  /** Brings the server in line with what is wanted; does nothing where it is so already, or cannot be yet. */
  #tell() {
    if (this.#wanted === this.#told || this.#peer.state !== "connected") return;
    const sent = this.#signal.send(this.#wanted === null ? { type: "stop" } : { type: "start", voice_id: this.#wanted });
    if (sent) this.#told = this.#wanted;
  }

  #cancelWaits() {
    this.#clock.cancel(this.#configTimer);
    this.#clock.cancel(this.#rebuildTimer);
    this.#configTimer = null;
    this.#rebuildTimer = null;
    this.#rebuildAt = null;
  }

  #forget() {
    this.#cancelWaits();
    this.#mediaRetry.reset();
    this.#told = null;
    this.#once = false;
    this.#stood = false;
    this.#sessionId = null;
    this.#speaking = [];
  }

  /** Derives the one state word from line and path, and tells of what is new: whoever ends it on each change must come to an end as well. */
  #settle() {
    this.#state = this.#word();
    const view = this.view;
    const shown = JSON.stringify(view);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#on.change(view);
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
