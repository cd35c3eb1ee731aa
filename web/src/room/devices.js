// Camera and microphone: asked for, chosen, switched, lost and found again. It touches no page and no connection.

/** @typedef {"audio" | "video"} Kind */
/** @typedef {import("./words.js").Fault} Fault */
/** @typedef {{ id: string, name: string }} Device */
/**
 * @typedef {object} Part
 * @property {boolean} on whether a person wants it on
 * @property {MediaStreamTrack | null} track
 * @property {Fault | null} fault
 * @property {string | null} chosen the device that was asked for
 * @property {(() => void) | null} off ends listening for the track's end
 */
/** @typedef {{ kind: Kind, lost?: boolean, found?: boolean }} Change */
/** @typedef {Pick<MediaDevices, "getUserMedia" | "enumerateDevices" | "addEventListener" | "removeEventListener">} MediaDevicesLike */

/** @type {Record<Kind, MediaTrackConstraints>} */
const WISHES = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  video: { width: { ideal: 1280 }, height: { ideal: 720 } },
};
/** @type {Record<string, Fault>} */
const FAULTS = { NotAllowedError: "denied", SecurityError: "denied", NotFoundError: "missing", NotReadableError: "busy", AbortError: "busy" };
/** @type {Kind[]} */
const KINDS = ["audio", "video"];

export class Devices {
  #media;
  #secure;
  #on;
  /** @type {Record<Kind, Part>} */
  #parts = {
    audio: { on: true, track: null, fault: null, chosen: null, off: null },
    video: { on: true, track: null, fault: null, chosen: null, off: null },
  };
  /** @type {Record<Kind, Device[]>} */
  #list = { audio: [], video: [] };
  /** One request after the other: two at once would leave a track that nobody stops. @type {Promise<unknown>} */
  #queue = Promise.resolve();
  /** Whether what is wanted waits for the next `open`. */
  #resting = false;
  #closed = false;

  /**
   * @param {object} options
   * @param {MediaDevicesLike | undefined} options.media there is none where the page is not secure
   * @param {boolean} options.secure
   * @param {(change: Change) => void} options.on
   */
  constructor({ media, secure, on }) {
    this.#media = media;
    this.#secure = secure;
    this.#on = on;
    this.#media?.addEventListener("devicechange", this.#changed);
  }

  /** Asks for whatever is wanted, both in one question where that works. */
  open() {
    this.#resting = false;
    return this.#next(async () => {
      const kinds = KINDS.filter((kind) => this.#parts[kind].on && !this.#parts[kind].track);
      if (kinds.length === 2 && (await this.#obtain(kinds))) return;
      for (const kind of kinds) if (!this.#parts[kind].track) await this.#obtain([kind]);
    });
  }

  /** Lets go of both, so that their lights go out, and forgets nothing: `open`, or switching one on, brings back what is wanted. */
  rest() {
    this.#resting = true;
    for (const kind of KINDS) this.#let(kind);
    for (const kind of KINDS) this.#tell({ kind });
  }

  /** A microphone that is off stays open and silent; a camera that is off is closed, so that its light goes out. @param {Kind} kind @param {boolean} on */
  set(kind, on) {
    const part = this.#parts[kind];
    part.on = on;
    if (part.track && kind === "audio") part.track.enabled = on;
    if (!on) part.fault = null;
    // Queued first: whoever is told may throw, and "off" must mean off.
    const done =
      on && this.#resting
        ? this.open()
        : this.#next(async () => {
            if (part.on && !part.track) await this.#obtain([kind]);
            else if (!part.on && part.track && kind === "video") {
              this.#let(kind);
              this.#tell({ kind });
            }
          });
    this.#tell({ kind });
    return done;
  }

  /** @param {Kind} kind @param {string} id */
  choose(kind, id) {
    const part = this.#parts[kind];
    part.chosen = id;
    if (!part.on) return kind === "audio" ? this.#next(() => this.#let(kind)) : Promise.resolve();
    if (this.#resting) return this.open();
    return this.#next(async () => {
      // Let go first: some systems open one camera at a time.
      this.#let(kind);
      await this.#obtain([kind]);
    });
  }

  /** @param {Kind} kind */
  track(kind) {
    return this.#parts[kind].track;
  }

  /** Whether it is heard or seen. @param {Kind} kind */
  live(kind) {
    const { on, track } = this.#parts[kind];
    return on && track !== null;
  }

  get resting() {
    return this.#resting;
  }

  /** What comes back with `open`, as far as can be told. */
  get waiting() {
    return KINDS.filter((kind) => this.#resting && this.#parts[kind].on && this.#parts[kind].fault === null);
  }

  get faults() {
    return { audio: this.#parts.audio.fault, video: this.#parts.video.fault };
  }

  /** Names come only once the browser has let us in. @param {Kind} kind */
  list(kind) {
    return this.#list[kind];
  }

  /** @param {Kind} kind */
  current(kind) {
    const part = this.#parts[kind];
    return part.track?.getSettings().deviceId ?? part.chosen;
  }

  close() {
    this.#closed = true;
    this.#media?.removeEventListener("devicechange", this.#changed);
    for (const kind of KINDS) this.#let(kind);
  }

  /** Whether all were opened. @param {Kind[]} kinds */
  async #obtain(kinds) {
    if (this.#resting) return true;
    if (!this.#media) {
      this.#fail(kinds, this.#secure ? "unsupported" : "insecure");
      return true; // asking again for each would be in vain
    }
    try {
      const stream = await this.#ask(this.#media, kinds);
      for (const track of stream.getTracks()) this.#take(/** @type {Kind} */ (track.kind), track);
    } catch (fault) {
      if (kinds.length > 1) return false;
      this.#fail(kinds, FAULTS[/** @type {Error} */ (fault)?.name] ?? "failed");
    }
    await this.#look();
    for (const kind of kinds) this.#tell({ kind });
    return true;
  }

  /** @param {MediaDevicesLike} media @param {Kind[]} kinds */
  async #ask(media, kinds) {
    /** @param {boolean} exact */
    const constraints = (exact) =>
      Object.fromEntries(kinds.map((kind) => {
        const { chosen } = this.#parts[kind];
        return [kind, chosen && exact ? { ...WISHES[kind], deviceId: { exact: chosen } } : WISHES[kind]];
      }));
    try {
      return await media.getUserMedia(constraints(true));
    } catch (fault) {
      const gone = ["OverconstrainedError", "NotFoundError"].includes(/** @type {Error} */ (fault)?.name);
      if (!gone || kinds.every((kind) => this.#parts[kind].chosen === null)) throw fault;
      // The chosen one is gone: any other is better than none.
      for (const kind of kinds) this.#parts[kind].chosen = null;
      return media.getUserMedia(constraints(false));
    }
  }

  /** @param {Kind} kind @param {MediaStreamTrack} track */
  #take(kind, track) {
    const part = this.#parts[kind];
    this.#let(kind);
    if (this.#closed || this.#resting || (kind === "video" && !part.on)) {
      track.stop();
      return;
    }
    const ended = () => this.#lost(kind);
    track.addEventListener("ended", ended);
    Object.assign(part, { track, fault: null, off: () => track.removeEventListener("ended", ended) });
    if (kind === "audio") track.enabled = part.on;
  }

  /** @param {Kind} kind */
  #let(kind) {
    const part = this.#parts[kind];
    part.off?.();
    part.track?.stop();
    part.off = null;
    part.track = null;
  }

  /** @param {Kind[]} kinds @param {Fault} fault */
  #fail(kinds, fault) {
    for (const kind of kinds) {
      this.#parts[kind].fault = fault;
      this.#tell({ kind });
    }
  }

  /** It was unplugged, or the browser took it away: whatever else there is takes its place. @param {Kind} kind */
  #lost(kind) {
    const part = this.#parts[kind];
    this.#let(kind);
    part.chosen = null;
    this.#tell({ kind, lost: true });
    if (part.on) void this.#next(() => (part.on && !part.track ? this.#obtain([kind]) : undefined));
  }

  #changed = () => {
    void this.#next(async () => {
      await this.#look();
      for (const kind of KINDS) {
        const part = this.#parts[kind];
        const found = part.on && part.fault === "missing" && this.#list[kind].length > 0;
        if (found) await this.#obtain([kind]);
        this.#tell({ kind, found: found && part.track !== null });
      }
    });
  };

  async #look() {
    const all = (await this.#media?.enumerateDevices().catch(() => [])) ?? [];
    for (const kind of KINDS) {
      this.#list[kind] = all
        .filter((device) => device.kind === `${kind}input` && device.deviceId !== "")
        .map(({ deviceId, label }, at) => ({ id: deviceId, name: label || `${kind === "audio" ? "Microphone" : "Camera"} ${at + 1}` }));
    }
  }

  /** What goes wrong with one is its caller's to know, and no reason to skip the next. @template T @param {() => T} task */
  #next(task) {
    const done = this.#queue.then(() => (this.#closed ? undefined : task()));
    this.#queue = done.catch(() => {});
    return done;
  }

  /** @param {Change} change */
  #tell(change) {
    if (!this.#closed) this.#on(change);
  }
}
