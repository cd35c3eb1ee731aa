// The media path: one RTCPeerConnection at a time, its offers, candidates and first aid. It does not choose when to begin anew.

/** @typedef {import("./wire.js").ClientMessage} ClientMessage */
/** @typedef {import("./wire.js").IceServer} IceServer */

/** `shaky` may mend itself, `restarting` asks ICE for another path, `failed` needs a new connection. */
/** @typedef {"idle" | "connecting" | "connected" | "shaky" | "restarting" | "failed" | "closed"} State */

/**
 * @typedef {object} Listeners
 * @property {(state: State) => void} state
 * @property {(stream: MediaStream) => void} stream
 * @property {(text: string) => void} note a line for the log
 */

/** An answer and a path take well under a second; with the worst relays a few. */
const CONNECT_MS = 15_000;
/** A path that stutters often comes back by itself: a lift, a hand-over between cells. */
const SHAKY_MS = 3_000;
/** A restart that helps, helps quickly. */
const RESTART_MS = 6_000;

export class Peer {
  #RTCPeerConnection;
  #clock;
  #send;
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
  #offerOwed = false;

  /**
   * @param {object} options
   * @param {new (configuration: RTCConfiguration) => RTCPeerConnection} options.RTCPeerConnection
   * @param {import("./clock.js").Clock} options.clock
   * @param {(message: ClientMessage) => boolean} options.send false while the line is down
   * @param {Listeners} options.on
   */
  constructor({ RTCPeerConnection, clock, send, on }) {
    this.#RTCPeerConnection = RTCPeerConnection;
    this.#clock = clock;
    this.#send = send;
    this.#on = on;
  }

  /** Begins a new connection; one that exists is let go of. @param {IceServer[]} iceServers */
  open(iceServers) {
    if (this.#state === "closed") return;
    this.#drop();
    this.#enter("connecting");
    this.#timer = this.#clock.after(CONNECT_MS, () => this.#fail("no path found in time"));
    try {
      this.#connection = this.#build(iceServers);
    } catch (fault) {
      this.#fail(`no connection could be made: ${fault}`);
      return;
    }
    void this.#offer();
  }

  /** @param {string} sdp */
  async answer(sdp) {
    const connection = this.#connection;
    if (!connection || connection.signalingState !== "have-local-offer") return;
    try {
      await connection.setRemoteDescription({ type: "answer", sdp });
    } catch (fault) {
      if (connection === this.#connection) this.#fail(`the answer was not understood: ${fault}`);
      return;
    }
    if (connection !== this.#connection) return;
    this.#answered = true;
    const early = this.#early;
    this.#early = [];
    for (const candidate of early) this.#add(connection, candidate);
    if (this.#offerOwed) void this.#offer();
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  candidate(candidate) {
    if (!this.#connection) return;
    if (this.#answered) this.#add(this.#connection, candidate);
    else this.#early.push(candidate);
  }

  /** Takes fresh relay credentials into a living connection. @param {IceServer[]} iceServers */
  configure(iceServers) {
    const connection = this.#connection;
    if (!connection) return;
    try {
      connection.setConfiguration({ ...connection.getConfiguration(), iceServers });
    } catch (fault) {
      this.#on.note(`relay settings not taken: ${fault}`);
      return;
    }
    // The path in use stays until the restart has found one, so the state does not change.
    if (this.#state === "connected") {
      connection.restartIce();
      void this.#offer();
    }
  }

  /** Comes back to the start; `open` may be called again. */
  hangUp() {
    if (this.#state === "closed") return;
    this.#drop();
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

  /** @param {IceServer[]} iceServers */
  #build(iceServers) {
    const connection = new this.#RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    /** Makes a handler that is deaf once this connection was let go of. @type {<E>(run: (event: E) => void) => (event: E) => void} */
    const mine = (run) => (event) => {
      if (connection === this.#connection) run(event);
    };
    connection.onicecandidate = mine(({ candidate }) => {
      this.#send({ type: "ice-candidate", candidate: candidate ? candidate.toJSON() : null });
    });
    connection.ontrack = mine(({ streams, track }) => this.#on.stream(streams[0] ?? new MediaStream([track])));
    connection.onconnectionstatechange = mine(() => this.#moved(connection.connectionState));
    connection.addTransceiver("audio", { direction: "recvonly" });
    return connection;
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
      if (connection === this.#connection) this.#fail(`no offer could be made: ${fault}`);
      return;
    }
    if (connection !== this.#connection) return;
    const sdp = connection.localDescription?.sdp ?? "";
    if (!this.#send({ type: "offer", sdp })) this.#fail("the line was down when an offer was due");
  }

  /** @param {RTCPeerConnectionState} state */
  #moved(state) {
    this.#on.note(`media ${state}`);
    if (state === "connected") {
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
    this.#enter("restarting");
    this.#connection?.restartIce();
    void this.#offer();
  }

  /** @param {RTCPeerConnection} connection @param {RTCIceCandidateInit | null} candidate */
  #add(connection, candidate) {
    connection.addIceCandidate(candidate ?? undefined).catch((fault) => {
      // One candidate of many: the others may do.
      if (candidate) this.#on.note(`a candidate was not taken: ${fault}`);
    });
  }

  /** Every failure comes through here. @param {string} why */
  #fail(why) {
    if (this.#state === "closed" || this.#state === "failed") return;
    this.#drop();
    this.#on.note(why);
    this.#enter("failed");
  }

  #drop() {
    this.#clock.cancel(this.#timer);
    this.#timer = null;
    this.#early = [];
    this.#answered = false;
    this.#offerOwed = false;
    const connection = this.#connection;
    this.#connection = null;
    if (!connection) return;
    connection.onicecandidate = connection.ontrack = connection.onconnectionstatechange = null;
    connection.close();
  }

  /** @param {State} state */
  #enter(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#on.state(state);
  }
}
