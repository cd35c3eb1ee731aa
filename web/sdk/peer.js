// The media path: one RTCPeerConnection at a time, its offers, candidates and first aid. It does not choose when to begin anew.

import { candidatesOf, readCandidate } from "./candidate.js";
import { nameOf } from "./error.js";

/** @typedef {import("./wire.js").ClientMessage} ClientMessage */
/** @typedef {import("./index.js").Candidate} Candidate */
/** @typedef {Pick<import("./index.js").Evidence, "local" | "remote" | "iceErrors" | "answered" | "ice" | "media" | "failure">} Evidence */
/** @typedef {RTCIceServer[]} IceServers */

/** `shaky` may mend itself, `restarting` asks ICE for another path, `failed` needs a new connection. */
/** @typedef {"idle" | "connecting" | "connected" | "shaky" | "restarting" | "failed" | "closed"} State */

/**
 * @typedef {object} Listeners
 * @property {(state: State) => void} state
 * @property {(event: import("./index.js").TrackEvent) => void} track
 * @property {() => void} answered
 * @property {(side: "local" | "remote", candidate: Candidate) => void} candidate
 * @property {(text: string) => void} note a line for the log
 */

/** An answer and a path take well under a second; with the worst relays a few. */
const CONNECT_MS = 15_000;
/** A path that stutters often comes back by itself: a lift, a hand-over between cells. */
const SHAKY_MS = 3_000;
/** A restart that helps, helps quickly. */
const RESTART_MS = 6_000;
/** Servers answer an offer at once. */
const ANSWER_MS = 5_000;
/** Candidates, and errors, that are remembered of each side: a machine with many networks has dozens. */
const REMEMBERED = 64;

/** @returns {Evidence} */
const nothing = () => ({ local: [], remote: [], iceErrors: [], answered: false, ice: false, media: false, failure: null });

export class Peer {
  #RTCPeerConnection;
  #clock;
  #send;
  #media;
  #relayOnly;
  #on;
  /** @type {State} */
  #state = "idle";
  /** @type {RTCPeerConnection | null} */
  #connection = null;
  /** @type {unknown} the one timer of this state */
  #timer = null;
  /** @type {(RTCIceCandidateInit | null)[]} candidates that came before the answer was in place */
  #early = [];
  #answered = false;
  /** Whether a relay gave an address since the path was last looked for. */
  #relayed = false;
  #offerOwed = false;
  /** @type {{ of: RTCPeerConnection, at: number }[]} offers that the server has still to answer, in their order: answers name none */
  #unanswered = [];
  /** Whether the last answer was to the offer of a connection that is gone. */
  #stale = false;
  /** @type {Evidence} of the newest connection, also after it failed */
  #evidence = nothing();

  /**
   * @param {object} options
   * @param {new (configuration: RTCConfiguration) => RTCPeerConnection} options.RTCPeerConnection
   * @param {import("./clock.js").Clock} options.clock
   * @param {(message: ClientMessage) => boolean} options.send false while the line is down
   * @param {MediaStream | null} [options.media] what is sent; otherwise one line of audio is received
   * @param {boolean} [options.relayOnly]
   * @param {Listeners} options.on
   */
  constructor({ RTCPeerConnection, clock, send, media = null, relayOnly = false, on }) {
    this.#RTCPeerConnection = RTCPeerConnection;
    this.#clock = clock;
    this.#send = send;
    this.#media = media;
    this.#relayOnly = relayOnly;
    this.#on = on;
  }

  /** Begins a new connection; one that exists is let go of. @param {IceServers} iceServers */
  open(iceServers) {
    if (this.#state === "closed") return;
    this.#drop();
    this.#evidence = nothing();
    this.#enter("connecting");
    // Whoever heard of it may have ended it, or begun anew.
    if (this.#state !== "connecting" || this.#connection) return;
    this.#timer = this.#clock.after(CONNECT_MS, () => this.#fail("no path found in time"));
    try {
      this.#connection = this.#build(iceServers);
    } catch (fault) {
      this.#fail(`no connection could be made: ${nameOf(fault)}`, "unsupported");
      return;
    }
    void this.#offer();
  }

  /** @param {string} sdp */
  async answer(sdp) {
    const connection = this.#connection;
    // One to the offer of a connection that is gone would be taken for the answer to the newer one.
    this.#stale = this.#next() !== connection;
    this.#unanswered.shift();
    if (this.#stale || !connection || connection.signalingState !== "have-local-offer") return;
    try {
      await connection.setRemoteDescription({ type: "answer", sdp });
    } catch (fault) {
      if (connection === this.#connection) this.#fail(`the answer was not understood: ${nameOf(fault)}`, "bad_answer");
      return;
    }
    if (connection !== this.#connection) return;
    this.#answered = true;
    this.#evidence.answered = true;
    const early = this.#early;
    this.#early = [];
    for (const candidate of early) this.#add(connection, candidate);
    if (this.#offerOwed) void this.#offer();
    this.#on.answered();
    for (const candidate of candidatesOf(sdp)) this.#saw("remote", candidate);
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  candidate(candidate) {
    const connection = this.#connection;
    // Those of an answer that is not for this connection are not for it either; they follow it.
    if (!connection || (this.#stale && !this.#answered) || (this.#next() ?? connection) !== connection) return;
    const read = readCandidate(candidate?.candidate);
    if (read) this.#saw("remote", read);
    if (this.#answered) this.#add(connection, candidate);
    else if (this.#early.length < REMEMBERED) this.#early.push(candidate);
  }

  /** The server refused an offer instead of answering it. */
  refused() {
    const ours = this.#next() === this.#connection;
    this.#unanswered.shift();
    if (ours && this.#state === "connecting") this.#fail("the offer was refused");
  }

  /** Another socket: what was not answered on the last one never will be. */
  lineRenewed() {
    this.#unanswered = [];
    this.#stale = false;
  }

  /** The session goes on over another socket: an offer that got no answer there is made again. */
  resume() {
    const { signalingState, localDescription } = this.#connection ?? {};
    if (signalingState === "have-local-offer" && localDescription) this.#tell(localDescription.sdp);
  }

  /**
   * Takes fresh relay credentials into a living connection, which looks for its path anew.
   * @param {IceServers} iceServers
   * @param {{ restart?: boolean }} [options] without a restart they serve the next one
   */
  configure(iceServers, { restart = true } = {}) {
    const connection = this.#connection;
    if (!connection) return;
    try {
      connection.setConfiguration({ ...connection.getConfiguration(), iceServers });
    } catch (fault) {
      this.#on.note(`relay settings not taken: ${nameOf(fault)}`);
      return;
    }
    // The path in use stays until the restart has found one, so the state does not change. An offer that is only being made gathers
    // with them anyway.
    if (restart && (this.#state === "connected" || (this.#state === "connecting" && connection.localDescription))) {
      connection.restartIce();
      void this.#offer();
    }
  }

  /** Comes back to the start; `open` may be called again. */
  hangUp() {
    if (this.#state === "closed") return;
    this.#drop();
    this.#evidence = nothing();
    this.#enter("idle");
  }

  close() {
    if (this.#state === "closed") return;
    this.#drop();
    this.#enter("closed");
  }

  get state() {
    return this.#state;
  }

  /** The connection itself, for statistics only. */
  get connection() {
    return this.#connection;
  }

  /** What the newest connection showed of itself, also after it failed. */
  get evidence() {
    return this.#evidence;
  }

  /** @param {IceServers} iceServers */
  #build(iceServers) {
    const relay = this.#relayOnly ? { iceTransportPolicy: /** @type {const} */ ("relay") } : {};
    const connection = new this.#RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle", ...relay });
    /** Makes a handler that is deaf once this connection was let go of. @type {<E>(run: (event: E) => void) => (event: E) => void} */
    const mine = (run) => (event) => {
      if (connection === this.#connection) run(event);
    };
    connection.onicecandidate = mine(({ candidate }) => this.#gathered(candidate));
    connection.onicecandidateerror = mine(({ errorCode, url }) => {
      this.#on.note(`${url}: ICE error ${errorCode}`);
      if (this.#evidence.iceErrors.length < REMEMBERED) this.#evidence.iceErrors.push({ code: errorCode, url });
    });
    connection.oniceconnectionstatechange = mine(() => {
      const state = connection.iceConnectionState;
      if (state === "connected" || state === "completed") this.#evidence.ice = true;
    });
    connection.ontrack = mine(({ streams, track }) => this.#on.track({ track, stream: streams[0] ?? new MediaStream([track]) }));
    connection.onconnectionstatechange = mine(() => this.#moved(connection.connectionState));
    const tracks = this.#media?.getTracks() ?? [];
    for (const track of tracks) connection.addTransceiver(track, { direction: "sendrecv", streams: [/** @type {MediaStream} */ (this.#media)] });
    if (tracks.length === 0) connection.addTransceiver("audio", { direction: "recvonly" });
    return connection;
  }

  /** @param {RTCIceCandidate | null} candidate null ends them */
  #gathered(candidate) {
    const init = candidate ? candidate.toJSON() : null;
    const read = readCandidate(init?.candidate);
    // The text does not say how a relay is reached; browsers say it apart.
    const by = /** @type {{ relayProtocol?: string | null } | null} */ (candidate)?.relayProtocol;
    if (read) this.#saw("local", by ? { ...read, relayProtocol: by } : read);
    if (read?.type === "relay") this.#relayed = true;
    this.#send({ type: "ice-candidate", candidate: init });
    const looking = this.#state === "connecting" || this.#state === "restarting";
    if (candidate === null && this.#relayOnly && looking && !this.#relayed) this.#fail("no relay gave an address");
  }

  /** @param {"local" | "remote"} side @param {Candidate} candidate */
  #saw(side, candidate) {
    const seen = this.#evidence[side];
    if (seen.length >= REMEMBERED) return;
    seen.push(candidate);
    this.#on.candidate(side, candidate);
  }

  async #offer() {
    const connection = this.#connection;
    if (!connection) return;
    // Two offers under way would get each other's answers.
    this.#offerOwed = connection.signalingState !== "stable";
    if (this.#offerOwed) return;
    try {
      const offer = await connection.createOffer();
      if (connection !== this.#connection) return;
      await connection.setLocalDescription(offer);
    } catch (fault) {
      if (connection === this.#connection) this.#fail(`no offer could be made: ${nameOf(fault)}`);
      return;
    }
    if (connection !== this.#connection) return;
    this.#tell(connection.localDescription?.sdp ?? "");
  }

  /** @param {string} sdp */
  #tell(sdp) {
    if (!this.#send({ type: "offer", sdp })) this.#fail("the line was down when an offer was due");
    else if (this.#connection) this.#unanswered.push({ of: this.#connection, at: this.#clock.now() });
  }

  /** Whose offer the next answer is to. One that stayed unanswered for long never will be, or all that follow were mistaken. */
  #next() {
    const now = this.#clock.now();
    while (this.#unanswered[0] && this.#unanswered[0].of !== this.#connection && now - this.#unanswered[0].at > ANSWER_MS) this.#unanswered.shift();
    return this.#unanswered[0]?.of;
  }

  /** @param {RTCPeerConnectionState} state */
  #moved(state) {
    this.#on.note(`media ${state}`);
    if (!this.#connection) return;
    if (state === "connected") {
      this.#evidence.ice = this.#evidence.media = true;
      this.#clock.cancel(this.#timer);
      this.#enter("connected");
    } else if (state === "disconnected" && this.#state === "connected") {
      this.#clock.cancel(this.#timer);
      this.#timer = this.#clock.after(SHAKY_MS, () => this.#restart());
      this.#enter("shaky");
    } else if (state === "failed") {
      // Only a path that once worked is worth a restart; and one restart is enough.
      if (this.#state === "connected" || this.#state === "shaky") this.#restart();
      else this.#fail("no path found");
    }
  }

  #restart() {
    this.#clock.cancel(this.#timer);
    this.#timer = this.#clock.after(RESTART_MS, () => this.#fail("no other path found"));
    this.#relayed = false;
    this.#enter("restarting");
    this.#connection?.restartIce();
    void this.#offer();
  }

  /** @param {RTCPeerConnection} connection @param {RTCIceCandidateInit | null} candidate */
  #add(connection, candidate) {
    connection.addIceCandidate(candidate ?? undefined).catch((fault) => {
      // One candidate of many: the others may do.
      if (candidate) this.#on.note(`a candidate was not taken: ${nameOf(fault)}`);
    });
  }

  /** Every failure comes through here. @param {string} why @param {Evidence["failure"]} [failure] */
  #fail(why, failure = "other") {
    if (this.#state === "closed" || this.#state === "failed") return;
    this.#evidence.failure = failure;
    this.#drop();
    this.#enter("failed", why);
  }

  #drop() {
    this.#clock.cancel(this.#timer);
    this.#timer = null;
    this.#early = [];
    this.#answered = false;
    this.#relayed = false;
    this.#offerOwed = false;
    const connection = this.#connection;
    this.#connection = null;
    if (!connection) return;
    connection.onicecandidate = connection.onicecandidateerror = connection.ontrack = null;
    connection.oniceconnectionstatechange = connection.onconnectionstatechange = null;
    connection.close();
  }

  /** Everything is in place by now, because whoever hears of it may end it. @param {State} state @param {string} [why] */
  #enter(state, why) {
    if (this.#state === state) return;
    this.#state = state;
    if (why) this.#on.note(why);
    if (this.#state === state) this.#on.state(state);
  }
}
