// Stands in for the client module in tests of the room page alone: people are canvases and oscillators made up in the page. What a test sets
// before the page loads lies in `window.fakeScene`; what it does to the people later, and what the page did, in `window.fakeRoom`.

/** @type {any} */
const scene = Object.assign({ people: [], refuse: null, voices: true, slow: false }, /** @type {any} */ (window).fakeScene);

export class VoxcastError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export const browserClock = {
  now: () => performance.now() + fake.ahead,
  /** @param {number} ms @param {() => void} run */
  after: (ms, run) => setTimeout(run, ms),
  /** @param {any} handle */
  cancel: (handle) => clearTimeout(handle),
};

class Events {
  /** @type {Map<string, Set<(event: any) => void>>} */
  #listeners = new Map();

  /** @param {string} name @param {(event: any) => void} listener */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** @param {string} name @param {any} event */
  emit(name, event) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) listener(event);
  }

  /** @param {string} name */
  has(name) {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }
}

/** @type {AudioContext | null} */
let context = null;

/** A tone of one's own. @param {number} frequency @param {number} level */
function tone(frequency, level) {
  context ??= new AudioContext();
  const wave = context.createOscillator();
  const gain = context.createGain();
  const out = context.createMediaStreamDestination();
  wave.frequency.value = frequency;
  gain.gain.value = level;
  wave.connect(gain).connect(out);
  wave.start();
  return { track: /** @type {MediaStreamTrack} */ (out.stream.getAudioTracks()[0]), gain };
}

/** A moving picture of one colour. @param {string} name @param {number} number @param {[number, number]} size */
function picture(name, number, [width, height]) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const hue = (number * 67 + 200) % 360;
  let step = 0;
  const draw = () => {
    const sky = pen.createLinearGradient(0, 0, width, height);
    sky.addColorStop(0, `hsl(${hue} 45% 46%)`);
    sky.addColorStop(1, `hsl(${hue + 40} 50% 24%)`);
    pen.fillStyle = sky;
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = `hsl(${hue} 40% 72%)`;
    pen.beginPath();
    pen.arc(width / 2 + Math.sin(step / 9) * 6, height * 0.44, height * 0.17, 0, 7);
    pen.ellipse(width / 2 + Math.sin(step / 9) * 6, height * 1.02, height * 0.38, height * 0.36, 0, 0, 7);
    pen.fill();
    step += 1;
  };
  draw();
  const timer = setInterval(draw, 200);
  const track = /** @type {MediaStreamTrack} */ (canvas.captureStream(5).getVideoTracks()[0]);
  return { track, end: () => clearInterval(timer), name };
}

let number = 0;

class Peer {
  stream = new MediaStream();
  state = "connected";
  cursor = null;
  channels = new Map();
  connection = null;
  /** @type {ReturnType<typeof picture> | null} */
  picture = null;
  /** @type {ReturnType<typeof tone> | null} */
  sound = null;

  /** @param {string} id @param {{ video?: boolean, audio?: boolean, level?: number, size?: [number, number] }} [options] */
  constructor(id, { video = true, audio = true, level = 0.0008, size = [320, 180] } = {}) {
    this.id = id;
    number += 1;
    if (video) this.stream.addTrack((this.picture = picture(id, number, size)).track);
    if (audio) this.stream.addTrack((this.sound = tone(200 + 40 * number, level)).track);
  }

  end() {
    this.picture?.end();
    for (const track of this.stream.getTracks()) track.stop();
  }
}

/** @type {any} */
const fake = { rooms: [], clients: [], asked: [], sent: { chat: [], cursors: [], tracks: [] }, nudges: 0, ahead: 0, scene };
Object.assign(window, { fakeRoom: fake });

class Room extends Events {
  state = "joined";
  /** @type {number | null} */
  retryAt = null;
  peers = new Map();
  /** @type {any[]} */
  chat = [];
  /** @type {any} */
  #timer = setInterval(() => this.has("stats") && void this.stats().then((report) => this.emit("stats", report)), 200);

  /** @param {any} options */
  constructor(options) {
    super();
    this.options = options;
    this.room = options.room;
    this.user = options.user;
  }

  /** @param {string} kind @param {MediaStreamTrack | null} track */
  async replaceTrack(kind, track) {
    fake.sent.tracks.push({ kind, label: track?.label ?? null, id: track?.id ?? null });
  }

  /** @param {string} text */
  sendChat(text) {
    const trimmed = text.trim();
    if (trimmed.length < 1 || trimmed.length > 4000) throw new RangeError("1 to 4000 characters");
    fake.sent.chat.push(trimmed);
    return this.#line({ from: this.user, text: trimmed, at: Date.now(), own: true });
  }

  /** @param {number} x @param {number} y */
  moveCursor(x, y) {
    fake.sent.cursors.push({ x, y });
  }

  async stats() {
    const end = { protocol: "udp", relayProtocol: null };
    const peers = [...this.peers.values()].map(({ id, state }, at) => ({
      peer: id,
      state,
      path: at % 3 === 2 ? "relay" : "direct",
      words: ["direct in the LAN", "through NAT", "relayed over TCP"][at % 3],
      pair: { local: { ...end, type: "host", address: "192.0.2.4:51000" }, remote: { ...end, type: ["host", "srflx", "relay"][at % 3], address: "192.0.2.9:52000" } },
      rttMs: 12 + 40 * at, lossPercent: at * 1.5, lossOutPercent: 0, jitterMs: 2.1, kbpsIn: 812, kbpsOut: 640,
      video: { in: { width: 1280, height: 720, fps: 29.97 }, out: null },
      audioLevel: 0.1,
      verdict: [{ rating: "good", text: "Good." }, { rating: "fair", text: "Fair: the round trip is long." }, { rating: "poor", text: "Poor: packets are lost." }][at % 3],
    }));
    return { at: Date.now(), room: this.room, user: this.user, peers };
  }

  nudge() {
    fake.nudges += 1;
  }

  close() {
    clearInterval(this.#timer);
    for (const peer of this.peers.values()) peer.end();
    this.state = "closed";
    this.closed = true;
  }

  // From here on: what only tests call.

  /** @param {string} id @param {any} [options] */
  add(id, options) {
    const peer = new Peer(id, options);
    this.peers.set(id, peer);
    this.emit("joined", peer);
  }

  /** @param {string} id */
  remove(id) {
    const peer = this.peers.get(id);
    this.peers.delete(id);
    this.emit("left", peer);
    peer.end();
  }

  /** @param {string} state @param {number | null} [retryIn] */
  become(state, retryIn = null) {
    this.state = state;
    this.retryAt = retryIn === null ? null : performance.now() + retryIn;
    this.emit("state", state);
  }

  /** @param {string} id @param {string} state */
  peerBecomes(id, state) {
    this.peers.get(id).state = state;
    this.emit("peer", this.peers.get(id));
  }

  /** @param {string} id @param {string} text */
  say(id, text) {
    this.#line({ from: id, text, at: Date.now(), own: false });
  }

  /** @param {string} id @param {number} x @param {number} y */
  point(id, x, y) {
    this.emit("cursor", { peer: this.peers.get(id), x, y });
  }

  /** @param {string} id @param {number} level */
  loud(id, level) {
    this.peers.get(id).sound.gain.gain.value = level;
  }

  /** The camera of somebody ends. @param {string} id */
  dark(id) {
    const peer = this.peers.get(id);
    const [track] = peer.stream.getVideoTracks();
    peer.picture.end();
    track.stop();
    peer.stream.removeTrack(track);
    this.emit("untrack", { peer, track });
  }

  /** Whether anything comes from the camera of somebody, as their browser tells it. @param {string} id @param {boolean} muted */
  muted(id, muted) {
    const [track] = this.peers.get(id).stream.getVideoTracks();
    Object.defineProperty(track, "muted", { configurable: true, value: muted });
  }

  /** The camera of somebody gives no more frames, and nobody says so. @param {string} id */
  freeze(id) {
    this.peers.get(id).picture.end();
  }

  /** @param {any} line */
  #line(line) {
    this.chat.push(line);
    this.emit("chat", line);
    return line;
  }
}

/** @param {any} options */
export async function joinRoom(options) {
  fake.asked.push({ url: String(options.url), room: options.room, user: options.user, token: options.token ?? null, receive: options.receive ?? true, kinds: options.stream?.getTracks().map((/** @type {any} */ track) => track.kind) ?? [] });
  await new Promise((done, fail) => {
    if (!scene.slow) setTimeout(done, 20);
    options.signal?.addEventListener("abort", () => fail(options.signal.reason));
  });
  if (scene.refuse) throw new VoxcastError(scene.refuse, `Refused: ${scene.refuse}`);
  const room = new Room(options);
  fake.rooms.push(room);
  if (options.receive === false) {
    const [main] = fake.rooms;
    main.add(options.user, { video: false, audio: false });
    main.peers.get(options.user).stream.addTrack(options.stream.getAudioTracks()[0].clone());
    main.emit("track", { peer: main.peers.get(options.user) });
    const { close } = room;
    room.close = () => {
      close.call(room);
      if (main.peers.has(options.user)) main.remove(options.user);
    };
    return room;
  }
  for (const [at, id] of scene.people.entries()) room.peers.set(id, new Peer(id, scene.kinds?.[at]));
  return room;
}

export class Client extends Events {
  state = "idle";
  started = "";

  /** @param {{ token?: string }} options */
  constructor({ token }) {
    super();
    this.token = token;
    fake.clients.push(this);
  }

  async connect() {
    await new Promise((done) => setTimeout(done, 30));
    if (!scene.voices) throw new VoxcastError("unauthorized", "Bad token");
    const voices = [220, 440, 880].map((tone, at) => ({ id: `sine-${tone}`, name: `${["Low", "Mid", "High"][at]} Tone (${tone} Hz)`, description: ["A deep, steady sine.", "Concert pitch A, the tuning tone.", "One octave above concert pitch."][at] }));
    this.emit("change", { voices });
    if (this.started) this.start(this.started);
  }

  /** @param {string} voice */
  start(voice) {
    this.started = voice;
    const { track } = tone(Number(voice.split("-")[1]), 0.2);
    setTimeout(() => this.emit("track", { track, stream: new MediaStream([track]) }), 20);
  }

  stop() {}
  close() {
    this.closed = true;
  }
}
