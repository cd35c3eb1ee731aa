// Stand-ins for the browser in unit tests: a clock that is turned by hand, a socket and a connection that obey.

/** Time that passes only when told to. */
export class FakeClock {
  #now = 0;
  /** @type {Map<number, { at: number, run: () => void }>} */
  #timers = new Map();
  #next = 1;

  now = () => this.#now;

  /** @type {(ms: number, run: () => void) => unknown} */
  after = (ms, run) => {
    this.#timers.set(this.#next, { at: this.#now + ms, run });
    return this.#next++;
  };

  /** @type {(handle: unknown) => void} */
  cancel = (handle) => void this.#timers.delete(/** @type {number} */ (handle));

  /** Lets this much time pass, running what falls due in its order. @param {number} ms */
  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.#now = Math.max(this.#now, due[1].at);
      due[1].run();
    }
    this.#now = end;
    await settled();
  }

  get pending() {
    return this.#timers.size;
  }
}

/** Lets promises that can settle do so. */
export const settled = () => new Promise((done) => setImmediate(done));

/** A kind of WebSocket whose every instance is remembered. */
export function fakeSockets() {
  /** @type {FakeSocket[]} */
  const made = [];
  class FakeSocket {
    readyState = 0;
    /** @type {((event: any) => void) | null} */ onopen = null;
    /** @type {((event: any) => void) | null} */ onmessage = null;
    /** @type {((event: any) => void) | null} */ onclose = null;
    /** @type {((event: any) => void) | null} */ onerror = null;
    /** @type {any[]} */ sent = [];
    /** @type {number | undefined | "no"} */ closedWith = "no";

    /** @param {string} url */
    constructor(url) {
      this.url = url;
      made.push(this);
    }
    /** @param {string} text */
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    /** @param {number} [code] */
    close(code) {
      this.closedWith = code;
      this.readyState = 2;
    }
    open() {
      this.readyState = 1;
      this.onopen?.({});
    }
    /** @param {unknown} message */
    say(message) {
      this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
    }
    /** @param {number} [code] */
    drop(code = 1006) {
      this.readyState = 3;
      this.onclose?.({ code });
    }
    /** @param {string} type */
    all(type) {
      return this.sent.filter((message) => message.type === type);
    }
  }
  return {
    WebSocket: FakeSocket,
    made,
    get last() {
      return /** @type {FakeSocket} */ (made.at(-1));
    },
  };
}

/** A kind of RTCPeerConnection whose every instance is remembered. */
export function fakeConnections() {
  /** @type {FakeConnection[]} */
  const made = [];
  class FakeConnection {
    signalingState = "stable";
    connectionState = "new";
    iceConnectionState = "new";
    /** @type {any} */ localDescription = null;
    /** @type {any} */ remoteDescription = null;
    /** @type {((event: any) => void) | null} */ onicecandidate = null;
    /** @type {((event: any) => void) | null} */ ontrack = null;
    /** @type {((event: any) => void) | null} */ onconnectionstatechange = null;
    /** @type {((event: any) => void) | null} */ oniceconnectionstatechange = null;
    /** @type {((event: any) => void) | null} */ onicecandidateerror = null;
    /** @type {any[]} */ transceivers = [];
    /** @type {any[]} */ candidates = [];
    restarts = 0;
    offers = 0;
    closed = false;

    /** @param {any} configuration */
    constructor(configuration) {
      this.configuration = configuration;
      made.push(this);
    }
    /** @param {any} kind or a track @param {any} init */
    addTransceiver(kind, init) {
      this.transceivers.push({ kind, ...init });
    }
    async createOffer() {
      this.offers += 1;
      return { type: "offer", sdp: `offer ${this.offers}` };
    }
    /** @param {any} description */
    async setLocalDescription(description) {
      this.localDescription = description;
      this.signalingState = "have-local-offer";
    }
    /** @param {any} description */
    async setRemoteDescription(description) {
      if (description.sdp === "nonsense") throw new Error("bad SDP");
      this.remoteDescription = description;
      this.signalingState = "stable";
    }
    /** @param {any} candidate */
    async addIceCandidate(candidate) {
      this.candidates.push(candidate);
    }
    getConfiguration() {
      return this.configuration;
    }
    /** @param {any} configuration */
    setConfiguration(configuration) {
      this.configuration = configuration;
    }
    restartIce() {
      this.restarts += 1;
    }
    close() {
      this.closed = true;
    }
    /** @param {string} state */
    become(state) {
      this.connectionState = state;
      this.onconnectionstatechange?.({});
    }
    /** @param {string} state */
    becomeIce(state) {
      this.iceConnectionState = state;
      this.oniceconnectionstatechange?.({});
    }
    /** A candidate of this side, as text; null ends them. @param {string | null} candidate @param {object} [more] */
    gather(candidate, more = {}) {
      this.onicecandidate?.({ candidate: candidate && { ...more, toJSON: () => ({ candidate, sdpMid: "0", sdpMLineIndex: 0 }) } });
    }
  }
  return {
    RTCPeerConnection: /** @type {new (configuration: RTCConfiguration) => RTCPeerConnection} */ (/** @type {unknown} */ (FakeConnection)),
    made,
    get last() {
      return /** @type {FakeConnection} */ (made.at(-1));
    },
  };
}

/** An AbortController whose listeners can be counted. */
export function fakeAbort() {
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = new Set();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (/** @type {string} */ type, /** @type {any} */ listener, /** @type {any} */ options) => {
    listeners.add(listener);
    add(type, listener, options);
  };
  signal.removeEventListener = (/** @type {string} */ type, /** @type {any} */ listener) => {
    listeners.delete(listener);
    remove(type, listener);
  };
  return { signal, listeners, abort: () => controller.abort() };
}

/**
 * What a client that ended has not let go of.
 * @param {{ clock: FakeClock, sockets: ReturnType<typeof fakeSockets>, connections: ReturnType<typeof fakeConnections>, abort?: ReturnType<typeof fakeAbort> }} world
 */
export function leftovers({ clock, sockets, connections, abort }) {
  /** @type {(thing: object) => string[]} */
  const handlers = (thing) => Object.entries(thing).filter(([name, value]) => /^on[a-z]/.test(name) && value !== null).map(([name]) => name);
  return [
    ...sockets.made.flatMap((socket, at) => handlers(socket).map((name) => `socket ${at}: ${name}`)),
    ...sockets.made.flatMap((socket, at) => (socket.closedWith === "no" && socket.readyState !== 3 ? [`socket ${at} is open`] : [])),
    ...connections.made.flatMap((connection, at) => handlers(connection).map((name) => `connection ${at}: ${name}`)),
    ...connections.made.flatMap((connection, at) => (connection.closed ? [] : [`connection ${at} is open`])),
    ...(clock.pending > 0 ? [`${clock.pending} timers`] : []),
    ...(abort && abort.listeners.size > 0 ? [`${abort.listeners.size} abort listeners`] : []),
  ];
}

export const VOICES = [
  { id: "sine-220", name: "Low Tone (220 Hz)", description: "Low." },
  { id: "sine-440", name: "Mid Tone (440 Hz)", description: "Mid." },
];

/** @param {object} [changes] */
export function helloAck(changes = {}) {
  return { type: "hello_ack", voices: VOICES, ice_servers: [], session_id: "a".repeat(32), resumed: false, ...changes };
}

/** @param {string} code @param {string} message */
export function error(code, message) {
  return { type: "error", code, message, error: message };
}
