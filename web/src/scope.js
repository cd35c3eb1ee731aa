// The wave on the stage: what is heard, a line while it is quiet, and something to look at before. It only draws on its canvas.

/** Samples drawn across the whole width: 17 ms at 48 kHz, so that one tone looks different from another. */
const DRAWN = 820;
/** How far the greeting drifts a millisecond. */
const DRIFT = 0.003;
/** A voice at 0.3 of full scale should fill the stage well. */
const STRETCH = 1.35;

/** @typedef {(step: number) => number} Wave */

export class Scope {
  #canvas;
  /** What stands on the canvas, where it does not move; empty where it does. */
  #still = "";

  /** @param {{ canvas: HTMLCanvasElement }} options */
  constructor({ canvas }) {
    this.#canvas = canvas;
  }

  /** The sound itself, from its first rise through zero, so that a steady tone stands still. @param {Float32Array} samples @param {string} color as #rrggbb */
  sound(samples, color) {
    const from = rise(samples);
    this.#still = "";
    this.#trace((step) => samples[from + step] ?? 0, color, 1);
  }

  /** @param {string} color as #rrggbb */
  rest(color) {
    if (this.#moves(`rest ${color}`)) this.#trace(() => 0, color, 1);
  }

  /** Before there is any sound; it drifts where a time is given. @param {string} color as #rrggbb @param {number} now */
  greet(color, now) {
    if (!this.#moves(now === 0 ? `greet ${color}` : "")) return;
    const phase = now * DRIFT;
    this.#trace((step) => 0.34 * Math.sin(step / 34 - phase) + 0.2 * Math.sin(step / 15.5 - phase * 1.7), color, 0.6);
  }

  /** Whether there is anything to draw anew: what stands still is drawn once. @param {string} picture */
  #moves(picture) {
    const { clientWidth, clientHeight } = this.#canvas;
    const still = picture && `${picture} ${clientWidth} ${clientHeight}`;
    if (still && still === this.#still) return false;
    this.#still = still;
    return true;
  }

  /** @param {Wave} wave @param {string} color @param {number} strength */
  #trace(wave, color, strength) {
    const pen = this.#blank();
    if (!pen) return;
    const { width, height } = this.#canvas;
    pen.globalAlpha = strength;
    pen.strokeStyle = ink(pen, color);
    pen.beginPath();
    for (let step = 0; step < DRAWN; step += 1) {
      const place = step / (DRAWN - 1);
      // The ends taper off, so that the wave seems to come out of the quiet.
      const swing = clamp(wave(step) * Math.sin(Math.PI * place) * STRETCH);
      pen.lineTo(place * width, height / 2 - swing * (height / 2 - pen.lineWidth));
    }
    pen.stroke();
  }

  /** The canvas in its true size, wiped. */
  #blank() {
    const canvas = this.#canvas;
    const scale = canvas.ownerDocument.defaultView?.devicePixelRatio ?? 1;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    if (!pen) return null;
    pen.clearRect(0, 0, width, height);
    pen.lineWidth = 2.5 * scale;
    pen.lineJoin = "round";
    return pen;
  }
}

/** A colour that fades at both ends. @param {CanvasRenderingContext2D} pen @param {string} color */
function ink(pen, color) {
  const gradient = pen.createLinearGradient(0, 0, pen.canvas.width, 0);
  // The same colour without its strength: `transparent` is black, and would show on a light page.
  gradient.addColorStop(0, `${color}00`);
  gradient.addColorStop(0.15, color);
  gradient.addColorStop(0.85, color);
  gradient.addColorStop(1, `${color}00`);
  return gradient;
}

/** Where the wave first climbs through zero, in the part that leaves enough samples to draw. @param {Float32Array} samples */
function rise(samples) {
  for (let at = 1; at < samples.length - DRAWN; at += 1) {
    if (/** @type {number} */ (samples[at - 1]) < 0 && /** @type {number} */ (samples[at]) >= 0) return at;
  }
  return 0;
}

/** @param {number} value */
function clamp(value) {
  return Math.min(1, Math.max(-1, value));
}
