// A world for unit tests of rooms: a server of GET /signal, and connections that negotiate, roll back and find each other as browsers' do.

/** @typedef {import("./fakes.js").FakeClock} FakeClock */

/** Browsers give `o=` lines numbers that nobody else has. */
let numbers = 1_000;

export class FakeTrack extends EventTarget {
  /** @param {string} kind */
  constructor(kind, muted = false) {
    super();
    this.kind = kind;
    this.muted = muted;
    this.stopped = false;
  }
  stop() {
    this.stopped = true;
  }
  /** @param {boolean} muted */
  become(muted) {
    if (this.muted === muted) return;
    this.muted = muted;
    this.dispatchEvent(new Event(muted ? "mute" : "unmute"));
  }
}

export class FakeStream {
  /** @type {any[]} */
  #tracks = [];
  /** @param {any[]} [tracks] */
  constructor(tracks = []) {
    this.#tracks = [...tracks];
  }
  getTracks() {
    return [...this.#tracks];
  }
  getAudioTracks() {
    return this.#tracks.filter(({ kind }) => kind === "audio");
  }
  getVideoTracks() {
    return this.#tracks.filter(({ kind }) => kind === "video");
  }
  /** @param {any} track */
  addTrack(track) {
    this.#tracks.push(track);
  }
  /** @param {any} track */
  removeTrack(track) {
    this.#tracks = this.#tracks.filter((one) => one !== track);
  }
}

/** As many streams as a test wants to look into. */
export const mediaStream = (/** @type {any[]} */ ...tracks) => /** @type {MediaStream} */ (/** @type {unknown} */ (new FakeStream(tracks)));
export const mediaTrack = (/** @type {string} */ kind) => /** @type {MediaStreamTrack & FakeTrack} */ (/** @type {unknown} */ (new FakeTrack(kind)));

class FakeChannel extends EventTarget {
  readyState = "connecting";
  bufferedAmount = 0;
  /** @type {FakeChannel | null} */ far = null;
  /** @type {any[]} */ sent = [];
  /** @type {Set<string>} */ heard = new Set();

  /** @param {string} label @param {any} init @param {any} owner */
  constructor(label, init, owner) {
    super();
    this.label = label;
    this.init = init;
    /** @type {FakeConnection} */
    this.owner = owner;
  }
  /** @param {string} text */
  send(text) {
    if (this.readyState !== "open") throw new Error("not open");
    this.sent.push(JSON.parse(text));
    const { far, owner } = this;
    owner.world.clock.after(owner.world.latency, () => far?.readyState === "open" && far.dispatchEvent(new MessageEvent("message", { data: text })));
  }
  open() {
    this.readyState = "open";
    this.dispatchEvent(new Event("open"));
  }
  /** At this side and the other. */
  close() {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    const { far, owner } = this;
    owner.world.clock.after(1, () => this.dispatchEvent(new Event("close")));
    owner.world.clock.after(owner.world.latency, () => {
      if (owner.state !== "dead") far?.close();
    });
  }
}

/** @param {string} direction @param {"send" | "recv"} way */
const does = (direction, way) => direction === "sendrecv" || direction === `${way}only`;
/** @param {string} mine @param {string} theirs */
function agree(mine, theirs) {
  const send = does(mine, "send") && does(theirs, "recv");
  const recv = does(mine, "recv") && does(theirs, "send");
  return send ? (recv ? "sendrecv" : "sendonly") : recv ? "recvonly" : "inactive";
}
/** @param {string} direction */
const mirrored = (direction) => ({ sendonly: "recvonly", recvonly: "sendonly" })[direction] ?? direction;

/** @param {string} sdp @param {string} name */
const attribute = (sdp, name) => new RegExp(`^a=${name}:(.*)$`, "m").exec(sdp)?.[1] ?? "";
/** @param {string} sdp */
const origin = (sdp) => /^o=- (\S+)/m.exec(sdp)?.[1] ?? "";

class FakeConnection {
  signalingState = "stable";
  connectionState = "new";
  /** @type {any} */ localDescription = null;
  /** @type {any} */ remoteDescription = null;
  /** @type {((event: any) => void) | null} */ onnegotiationneeded = null;
  /** @type {((event: any) => void) | null} */ onicecandidate = null;
  /** @type {((event: any) => void) | null} */ onconnectionstatechange = null;
  /** @type {((event: any) => void) | null} */ ontrack = null;
  /** @type {((event: any) => void) | null} */ ondatachannel = null;
  /** @type {any[]} */ transceivers = [];
  /** @type {FakeChannel[]} */ channels = [];
  /** @type {string[]} */ candidates = [];
  /** "dead" is a machine that went away without a word. */
  state = "alive";
  restarts = 0;
  sctp = { transport: { state: "new" } };
  id = String((numbers += 1));
  version = 0;
  generation = 0;
  /** What was agreed upon, as descriptions; `pending` is the offer of ours under way. @type {any} */ current = { local: null, remote: null };
  /** @type {any} */ pending = null;
  restart = false;
  data = false;
  /** @type {FakeConnection | null} */ far = null;
  #mids = 0;
  #checking = false;

  /** @param {World} world @param {any} configuration */
  constructor(world, configuration) {
    this.world = world;
    this.configuration = configuration;
    world.connections.push(this);
  }

  /** @param {any} kind or a track @param {any} init */
  addTransceiver(kind, init) {
    const track = typeof kind === "string" ? null : kind;
    const line = this.#line(track?.kind ?? kind, init?.direction ?? "sendrecv", track);
    this.#check();
    return line;
  }
  getTransceivers() {
    return this.transceivers.filter(({ direction }) => direction !== "stopped");
  }
  /** @param {string} label @param {any} init */
  createDataChannel(label, init) {
    const channel = new FakeChannel(label, init, this);
    this.channels.push(channel);
    this.#check();
    return channel;
  }
  restartIce() {
    this.restarts += 1;
    this.restart = true;
    this.#check();
  }
  getConfiguration() {
    return this.configuration;
  }
  /** @param {any} configuration */
  setConfiguration(configuration) {
    this.configuration = configuration;
  }
  /** @param {any} [description] */
  async setLocalDescription(description) {
    await this.#think();
    if (description?.type === "rollback") {
      if (this.signalingState !== "have-local-offer") throw new Error("nothing to roll back");
      this.#rollBack();
      return this.#check();
    }
    if (this.signalingState === "have-remote-offer") return this.#answer();
    if (this.signalingState !== "stable") throw new Error(`an offer in ${this.signalingState}`);
    for (const line of this.getTransceivers()) line.mid ??= `${this.id}.${(this.#mids += 1)}`;
    const generation = this.generation + (this.restart && this.current.local ? 1 : 0);
    this.pending = this.#describe("offer", generation, this.getTransceivers().map(({ mid, kind, direction }) => ({ mid, kind, direction })), this.channels.length > 0);
    this.localDescription = this.pending;
    this.signalingState = "have-local-offer";
    this.#gather(generation);
  }
  /** @param {any} description */
  async setRemoteDescription(description) {
    await this.#think();
    if (!origin(description.sdp)) throw new Error("bad SDP");
    if (description.type === "offer") {
      // Implicit rollback is not modelled, because not all browsers have it.
      if (this.signalingState !== "stable") throw new Error(`an offer in ${this.signalingState}`);
      for (const { mid, kind } of lines(description)) {
        if (!this.transceivers.some((line) => line.mid === mid)) this.#line(kind, "recvonly", null).mid = mid;
      }
      this.remoteDescription = description;
      this.signalingState = "have-remote-offer";
    } else {
      if (this.signalingState !== "have-local-offer") throw new Error(`an answer in ${this.signalingState}`);
      if (JSON.stringify(lines(description).map(({ mid }) => mid)) !== JSON.stringify(lines(this.pending).map(({ mid }) => mid))) throw new Error("other lines");
      this.remoteDescription = description;
      this.#settle(this.pending, description);
    }
  }
  /** @param {any} candidate */
  async addIceCandidate(candidate) {
    await this.#think();
    if (!this.remoteDescription) throw new Error("no remote description");
    if (candidate.usernameFragment !== attribute(this.remoteDescription.sdp, "ice-ufrag")) throw new Error("of another generation");
    this.candidates.push(candidate.usernameFragment);
    this.world.meet(this);
  }
  async getStats() {
    return new Map();
  }
  close() {
    if (this.connectionState === "closed") return;
    for (const channel of this.channels) channel.close();
    this.connectionState = this.signalingState = "closed";
    const { far } = this;
    if (this.state !== "dead") this.world.clock.after(this.world.latency, () => far && (far.sctp.transport.state = "closed"));
    this.world.clock.after(6_000, () => far?.far === this && far.become("disconnected"));
  }

  // --- what the world does

  /** @param {string} state */
  become(state) {
    if (this.connectionState === "closed" || this.connectionState === state) return;
    this.connectionState = state;
    this.onconnectionstatechange?.({});
  }
  get generationAgreed() {
    return this.current.local ? attribute(this.current.local.sdp, "ice-ufrag") : null;
  }
  /** What comes unmutes a track; that nothing comes any more is only told by a description, as in Chromium. */
  flow() {
    const { far } = this;
    if (!far) return;
    for (const line of this.transceivers) {
      const there = far.transceivers.find(({ mid }) => mid === line.mid);
      if (there && line.sender.track && does(line.currentDirection ?? "", "send") && this.connectionState === "connected") there.receiver.track.become(false);
    }
  }

  /** An answer takes its time, and one that is closed meanwhile never comes. */
  #think() {
    return new Promise((done, fail) => {
      this.world.clock.after(this.world.thinking(), () => {
        if (this.connectionState !== "closed") done(undefined);
        else if (this.world.random() < 0.5) fail(new Error("closed"));
      });
    });
  }
  /** @param {string} kind @param {string} direction @param {any} track */
  #line(kind, direction, track) {
    const connection = this;
    let wanted = direction;
    const line = {
      kind,
      mid: /** @type {string | null} */ (null),
      currentDirection: /** @type {string | null} */ (null),
      get direction() {
        return wanted;
      },
      set direction(to) {
        wanted = to;
        connection.#check();
      },
      sender: {
        track,
        /** @param {any} next */
        async replaceTrack(next) {
          await connection.#think();
          this.track = next;
          connection.flow();
        },
        setStreams() {},
      },
      receiver: { track: new FakeTrack(kind, true) },
      told: false,
      stop() {
        wanted = "stopped";
      },
    };
    this.transceivers.push(line);
    return line;
  }
  /** @param {string} type @param {number} generation @param {any[]} all @param {boolean} data */
  #describe(type, generation, all, data) {
    this.version += 1;
    const sdp = ["v=0", `o=- ${this.id} ${this.version} IN IP4 127.0.0.1`, `a=ice-ufrag:${this.id}g${generation}`, `a=data:${data}`, `a=lines:${JSON.stringify(all)}`];
    return { type, generation, sdp: `${sdp.join("\r\n")}\r\n` };
  }
  #rollBack() {
    for (const line of this.transceivers) if (!lines(this.current.local).some(({ mid }) => mid === line.mid)) line.mid = null;
    this.pending = null;
    this.localDescription = this.current.local;
    this.signalingState = "stable";
  }
  #answer() {
    const offer = this.remoteDescription;
    const again = this.current.remote && attribute(this.current.remote.sdp, "ice-ufrag") !== attribute(offer.sdp, "ice-ufrag");
    const generation = this.generation + (again ? 1 : 0);
    const all = lines(offer).map(({ mid, kind, direction }) => {
      const line = this.transceivers.find((one) => one.mid === mid);
      return { mid, kind, direction: line.direction === "stopped" ? "inactive" : agree(line.direction, direction) };
    });
    const answer = this.#describe("answer", generation, all, attribute(offer.sdp, "data") === "true");
    this.localDescription = answer;
    this.#gather(generation);
    this.#settle(answer, offer);
  }
  /** @param {any} local @param {any} remote */
  #settle(local, remote) {
    const answer = local.type === "answer" ? local : remote;
    this.current = { local, remote };
    this.generation = local.generation;
    this.pending = null;
    this.restart = false;
    this.data = attribute(answer.sdp, "data") === "true";
    this.signalingState = "stable";
    for (const { mid, direction } of lines(answer)) {
      const line = this.transceivers.find((one) => one.mid === mid);
      line.currentDirection = answer === local ? direction : mirrored(direction);
      const receives = does(line.currentDirection, "recv");
      if (receives && !line.told) this.ontrack?.({ track: line.receiver.track, streams: [] });
      if (!receives) line.receiver.track.become(true);
      line.told = receives;
    }
    this.#check();
    this.world.meet(this);
    this.flow();
    this.far?.flow();
  }
  /** @param {number} generation */
  #gather(generation) {
    const ufrag = `${this.id}g${generation}`;
    for (const ms of [1, 15]) {
      this.world.clock.after(ms, () => {
        const init = { candidate: `candidate:1 1 udp 1 192.0.2.1 5000 typ host ufrag ${ufrag}`, sdpMid: "0", sdpMLineIndex: 0, usernameFragment: ufrag };
        if (this.connectionState !== "closed") this.onicecandidate?.({ candidate: { ...init, toJSON: () => init } });
      });
    }
  }
  /** W3C WebRTC, section 4.7.3: told once it is stable, and if it is still so. */
  #check() {
    if (this.#checking) return;
    this.#checking = true;
    this.world.clock.after(0, () => {
      this.#checking = false;
      if (this.signalingState !== "stable" || !this.#needed()) return;
      this.onnegotiationneeded?.({});
    });
  }
  #needed() {
    if (this.restart || (this.channels.length > 0 && !this.data)) return true;
    const { local, remote } = this.current;
    return this.getTransceivers().some(({ mid, direction }) => {
      const mine = lines(local).find((line) => line.mid === mid);
      const theirs = lines(remote).find((line) => line.mid === mid);
      if (!mine || !theirs) return true;
      return local.type === "offer" ? direction !== mine.direction && direction !== mirrored(theirs.direction) : mine.direction !== agree(direction, theirs.direction);
    });
  }
}

/** @param {any} description @returns {{ mid: string, kind: string, direction: string }[]} */
function lines(description) {
  return description ? JSON.parse(attribute(description.sdp, "lines") || "[]") : [];
}

/** Sockets, connections and the server between them, under one clock. */
export class World {
  /** @type {FakeConnection[]} */ connections = [];
  /** @type {any[]} */ sockets = [];
  latency = 20;
  /** @type {() => number} */ random;
  /** Answers to joins, instead of the server's own. @type {((message: any) => string | null)} */ refuse = () => null;
  up = true;
  /** Whether paths exist. */
  open = true;
  iceServers = /** @type {any[]} */ ([]);
  /** Messages that are lost on their way. @type {(message: any, to: string) => boolean} */ lose = () => false;
  /** @type {any[]} */ passed = [];
  /** @type {Map<string, { socket: any, session: string }>} */
  #members = new Map();

  /** @param {FakeClock} clock @param {number} [seed] */
  constructor(clock, seed = 1) {
    this.clock = clock;
    let state = seed;
    this.random = () => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    const world = this;
    this.RTCPeerConnection = /** @type {new (configuration: RTCConfiguration) => RTCPeerConnection} */ (
      /** @type {unknown} */ (class extends FakeConnection {
        /** @param {any} configuration */
        constructor(configuration) {
          super(world, configuration);
        }
      })
    );
    this.MediaStream = /** @type {new () => MediaStream} */ (/** @type {unknown} */ (FakeStream));
    this.WebSocket = class FakeSocket {
      readyState = 0;
      /** @type {((event: any) => void) | null} */ onopen = null;
      /** @type {((event: any) => void) | null} */ onmessage = null;
      /** @type {((event: any) => void) | null} */ onclose = null;
      /** @type {((event: any) => void) | null} */ onerror = null;
      /** @type {any[]} */ sent = [];
      /** @type {string | null} */ user = null;
      /** A dead one swallows what it is given. */
      dead = false;
      /** @param {string} url @param {string[]} [protocols] */
      constructor(url, protocols) {
        this.url = url;
        this.protocols = protocols;
        world.sockets.push(this);
        world.clock.after(world.latency, () => {
          if (this.readyState !== 0) return;
          if (!world.up) return this.drop(1006);
          this.readyState = 1;
          this.onopen?.({});
        });
      }
      /** @param {string} text */
      send(text) {
        const message = JSON.parse(text);
        this.sent.push(message);
        // What a socket sent before it closed arrives before that.
        world.clock.after(world.latency, () => world.up && !this.dead && world.#heard(this, message));
      }
      close() {
        if (this.readyState >= 2) return;
        this.readyState = 3;
        world.clock.after(world.latency, () => !this.dead && world.#left(this));
      }
      /** @param {any} message */
      tell(message) {
        const text = JSON.stringify(message);
        world.clock.after(world.latency, () => this.readyState === 1 && !this.dead && this.onmessage?.({ data: text }));
      }
      /** @param {number} code */
      drop(code) {
        if (this.readyState === 3) return;
        this.readyState = 3;
        this.onclose?.({ code });
      }
    };
  }

  /** How long a browser thinks. */
  thinking() {
    return Math.floor(this.random() * 8);
  }

  /** @param {string} user */
  socketOf(user) {
    return this.#members.get(user)?.socket;
  }

  get members() {
    return [...this.#members.keys()];
  }

  /** The server ends; with it what it knew. */
  stop() {
    this.up = false;
    this.#members.clear();
    for (const socket of this.sockets) this.clock.after(1, () => socket.drop(1001));
  }

  /** Somebody's machine loses power. @param {string} user @param {FakeConnection[]} connections @param {boolean} [told] the server finds out at once */
  kill(user, connections, told = true) {
    const { socket } = /** @type {any} */ (this.#members.get(user));
    for (const connection of connections) {
      connection.state = "dead";
      connection.close();
    }
    socket.dead = true;
    if (told) this.#left(socket);
  }

  /** The other end, if both agreed upon the same and know a way. @param {FakeConnection} one */
  agreed(one) {
    const far = this.connections.find(({ id }) => one.current.remote && id === origin(one.current.remote.sdp));
    const agreed = [[one, far], [far, one]].every(([a, b]) => {
      const ufrag = a?.current.remote && attribute(a.current.remote.sdp, "ice-ufrag");
      return ufrag && ufrag === b?.generationAgreed && a?.candidates.includes(ufrag) && a.connectionState !== "closed";
    });
    return agreed ? far : null;
  }

  /** A path to or from this connection is there if both agreed upon the same descriptions. @param {FakeConnection} one */
  meet(one) {
    const far = this.agreed(one);
    if (!far || !this.open || one.state === "dead" || far.state === "dead") return;
    this.clock.after(5, () => {
      if ([one, far].some(({ connectionState }) => connectionState === "closed") || !this.open) return;
      [one.far, far.far] = [far, one];
      for (const end of [one, far]) end.sctp.transport.state = "connected";
      for (const end of [one, far]) end.become("connected");
      for (const end of [one, far]) end.flow();
      for (const [end, other] of [[one, far], [far, one]]) {
        for (const channel of end?.channels ?? []) {
          if (channel.far || !end?.data) continue;
          const there = new FakeChannel(channel.label, channel.init, other);
          other?.channels.push(there);
          [channel.far, there.far] = [there, channel];
          there.readyState = "open";
          other?.ondatachannel?.({ channel: there });
          channel.open();
        }
      }
    });
  }

  /** @param {any} socket @param {any} message */
  #heard(socket, message) {
    if (message.type === "join") return this.#join(socket, message);
    if (socket.user === null) return socket.tell({ type: "error", code: "not_in_room", message: "Must join a room first", error: "x" });
    if (message.type === "leave") return this.#left(socket);
    const to = message.to === socket.user ? undefined : this.#members.get(message.to);
    if (!to) return socket.tell({ type: "error", code: "unknown_peer", message: `Unknown peer: ${message.to}`, error: "x" });
    const passed = { ...message, from: socket.user };
    this.passed.push(passed);
    if (!this.lose(passed, message.to)) to.socket.tell(passed);
  }
  /** @param {any} socket @param {any} message */
  #join(socket, { userId, session }) {
    const code = this.refuse({ userId, session });
    const held = this.#members.get(userId);
    const ours = held !== undefined && held.session === session;
    const taken = held && !ours ? "taken" : null;
    if (code ?? taken) return socket.tell({ type: "error", code: code ?? taken, message: `no: ${code ?? taken}`, error: "x" });
    const fresh = { socket, session: ours ? session : `s${(numbers += 1)}` };
    const others = this.members.filter((id) => id !== userId);
    this.#members.set(userId, fresh);
    socket.user = userId;
    socket.tell({ type: "room-joined", peers: others, iceServers: this.iceServers, session: fresh.session });
    if (ours) {
      held.socket.user = null;
      this.clock.after(this.latency - 1, () => held.socket.drop(1000));
    } else for (const id of others) this.#members.get(id)?.socket.tell({ type: "peer-joined", peerId: userId });
  }
  /** @param {any} socket */
  #left(socket) {
    const { user } = socket;
    socket.user = null;
    if (user === null || this.#members.get(user)?.socket !== socket) return;
    this.#members.delete(user);
    for (const { socket: other } of this.#members.values()) other.tell({ type: "peer-left", peerId: user });
  }
}
