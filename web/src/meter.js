// How loud it is: an analyser beside the playback, which it can neither change nor stop. It draws nothing.

/** Samples looked at: 43 ms at 48 kHz, enough to see a 50 Hz wave twice. */
const SPAN = 2048;
/** What counts as silence. */
export const FLOOR_DB = -60;

export class Meter {
  #Context;
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {AnalyserNode | null} */
  #analyser = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;
  /** @type {MediaStream | null} */
  #stream = null;
  #samples = new Float32Array(SPAN);

  /** @param {{ AudioContext: (new () => AudioContext) | undefined }} options */
  constructor({ AudioContext: Context }) {
    this.#Context = Context;
  }

  /** Call it inside a gesture: browsers keep an AudioContext asleep until a person touched the page. */
  wake() {
    if (!this.#Context) return;
    try {
      this.#context ??= new this.#Context();
    } catch {
      return; // too many already: then nothing is measured
    }
    // iOS also puts it to sleep after a phone call.
    if (this.#context.state !== "running") this.#context.resume().catch(() => {});
    this.#connect();
  }

  /** @param {MediaStream} stream */
  attach(stream) {
    this.#stream = stream;
    this.#connect();
  }

  detach() {
    this.#source?.disconnect();
    this.#source = null;
    this.#stream = null;
  }

  /** The latest samples and their level; the array is reused. */
  read() {
    if (!this.#analyser || !this.#source) {
      this.#samples.fill(0);
      return { samples: this.#samples, db: -Infinity };
    }
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return { samples: this.#samples, db: 10 * Math.log10(sum / SPAN) };
  }

  #connect() {
    if (!this.#context || !this.#stream) return;
    if (this.#source?.mediaStream === this.#stream) return;
    this.#source?.disconnect();
    this.#source = null;
    try {
      if (!this.#analyser) {
        this.#analyser = this.#context.createAnalyser();
        this.#analyser.fftSize = SPAN;
      }
      // Never towards `destination`: the audio element plays, this only listens.
      this.#source = this.#context.createMediaStreamSource(this.#stream);
      this.#source.connect(this.#analyser);
    } catch {
      // What this browser does not measure plays all the same.
    }
  }
}
