// Who is speaking, and who has not been heard for long: levels by Web Audio, beside the playback. It plays and shows nothing.

/** @typedef {{ speaking: boolean, silent: boolean }} Voice */
/** @typedef {{ track: MediaStreamTrack, source: MediaStreamAudioSourceNode, analyser: AnalyserNode, ear: Ear, told: Voice }} Watch */

/** Samples looked at: 21 ms at 48 kHz. */
const SPAN = 1024;
const LOOK_MS = 100;
/** Louder than a room with noise suppression, softer than a low voice. */
const SPEECH_DB = -48;
/** A breath between two words must not end it. */
const HOLD_MS = 600;
/** Below what any microphone gives, even in a quiet room: a muted one sends true zeros. */
const DEAD_DB = -95;
const DEAD_MS = 4_000;

/** What levels over time mean: pure, told the time. */
export class Ear {
  #loudAt = -Infinity;
  #aliveAt;

  /** @param {number} now */
  constructor(now) {
    this.#aliveAt = now;
  }

  /** @param {number} db @param {number} now @returns {Voice} */
  hear(db, now) {
    if (db >= SPEECH_DB) this.#loudAt = now;
    if (db >= DEAD_DB) this.#aliveAt = now;
    return { speaking: now - this.#loudAt < HOLD_MS, silent: now - this.#aliveAt >= DEAD_MS };
  }
}

export class Speaking {
  #Context;
  #clock;
  #on;
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {Map<string, Watch>} */
  #watched = new Map();
  /** @type {Map<string, MediaStreamTrack>} tracks that came before the context was there */
  #wanted = new Map();
  /** @type {WeakSet<MediaStreamTrack>} tracks that this browser does not measure: trying again at each event would be in vain */
  #deaf = new WeakSet();
  #samples = new Float32Array(SPAN);
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {object} options
   * @param {(new () => AudioContext) | undefined} options.AudioContext
   * @param {import("../../sdk/index.js").Clock} options.clock
   * @param {(id: string, voice: Voice, db: number) => void} options.on at each look
   */
  constructor({ AudioContext: Context, clock, on }) {
    this.#Context = Context;
    this.#clock = clock;
    this.#on = on;
  }

  /** Call it inside a gesture: browsers keep an AudioContext asleep until then. */
  wake() {
    if (!this.#Context) return;
    try {
      this.#context ??= new this.#Context();
    } catch {
      return; // too many already: then nobody is measured
    }
    if (this.#context.state !== "running") this.#context.resume().catch(() => {});
    for (const [id, track] of this.#wanted) this.watch(id, track);
  }

  /** The latest track of somebody, or null where there is none. @param {string} id @param {MediaStreamTrack | null} track */
  watch(id, track) {
    if (this.#watched.get(id)?.track === track) return;
    this.forget(id);
    if (!track || this.#deaf.has(track)) return;
    if (!this.#context) {
      this.#wanted.set(id, track);
      return;
    }
    try {
      const source = this.#context.createMediaStreamSource(new MediaStream([track]));
      const analyser = this.#context.createAnalyser();
      analyser.fftSize = SPAN;
      // Never towards `destination`: the tile plays, this only listens.
      source.connect(analyser);
      this.#watched.set(id, { track, source, analyser, ear: new Ear(this.#clock.now()), told: { speaking: false, silent: false } });
    } catch {
      // Firefox takes no track of another sample rate. The meter is no reason for the call to fail.
      this.#deaf.add(track);
      return;
    }
    this.#timer ??= this.#clock.after(LOOK_MS, () => this.#look());
  }

  /** @param {string} id */
  forget(id) {
    this.#wanted.delete(id);
    const watch = this.#watched.get(id);
    if (!watch) return;
    watch.source.disconnect();
    this.#watched.delete(id);
    if (watch.told.speaking || watch.told.silent) this.#on(id, { speaking: false, silent: false }, -Infinity);
  }

  close() {
    for (const id of [...this.#watched.keys()]) this.forget(id);
    this.#wanted.clear();
    this.#clock.cancel(this.#timer);
    this.#timer = null;
    this.#context?.close().catch(() => {});
    this.#context = null;
  }

  #look() {
    this.#timer = this.#watched.size > 0 ? this.#clock.after(LOOK_MS, () => this.#look()) : null;
    // A context that sleeps hears zeros, which would look as if all were muted.
    if (this.#context?.state !== "running") return;
    const now = this.#clock.now();
    for (const [id, watch] of this.#watched) {
      const db = this.#level(watch.analyser);
      const voice = watch.ear.hear(db, now);
      watch.told = voice;
      this.#on(id, voice, db);
    }
  }

  /** @param {AnalyserNode} analyser */
  #level(analyser) {
    analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return 10 * Math.log10(sum / SPAN);
  }
}
