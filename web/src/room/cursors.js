// Where the others point: small named arrows over the stage, which never take a click.

import { element, part, say, stamp } from "./dom.js";
import { hue } from "./words.js";

/** @typedef {import("./grid.js").Place} Place */
/** @typedef {{ box: HTMLElement, x: number, y: number, timer: unknown }} Pointer */

/** An arrow that rests this long is put away. */
const REST_MS = 4_000;

/**
 * A point in the stage as parts of the surface, or null where it lies outside.
 * @param {{ x: number, y: number }} point
 * @param {Place} surface
 */
export function portion(point, surface) {
  if (surface.width <= 0 || surface.height <= 0) return null;
  const x = (point.x - surface.x) / surface.width;
  const y = (point.y - surface.y) / surface.height;
  return x >= 0 && x <= 1 && y >= 0 && y <= 1 ? { x, y } : null;
}

export class Pointers {
  #document;
  #clock;
  #surface;
  #layer;
  /** @type {Map<string, Pointer>} */
  #shown = new Map();

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {import("../../sdk/index.js").Clock} options.clock
   * @param {() => Place} options.surface
   */
  constructor({ document, clock, surface }) {
    this.#document = document;
    this.#clock = clock;
    this.#surface = surface;
    this.#layer = element(document, "pointers");
  }

  /** @param {string} id @param {number} x @param {number} y */
  move(id, x, y) {
    const pointer = this.#shown.get(id) ?? this.#make(id);
    Object.assign(pointer, { x, y });
    this.#clock.cancel(pointer.timer);
    pointer.timer = this.#clock.after(REST_MS, () => this.forget(id));
    this.#put(pointer);
  }

  /** @param {string} id */
  forget(id) {
    const pointer = this.#shown.get(id);
    if (!pointer) return;
    this.#clock.cancel(pointer.timer);
    pointer.box.remove();
    this.#shown.delete(id);
  }

  /** The stage was laid out anew. */
  place() {
    for (const pointer of this.#shown.values()) this.#put(pointer);
  }

  clear() {
    for (const id of [...this.#shown.keys()]) this.forget(id);
  }

  /** @param {string} id */
  #make(id) {
    const box = /** @type {HTMLElement} */ (part(stamp(this.#document, "pointer-form"), ".pointer"));
    box.style.setProperty("--hue", String(hue(id)));
    say(part(box, "span"), id);
    this.#layer.append(box);
    const pointer = { box, x: 0, y: 0, timer: null };
    this.#shown.set(id, pointer);
    return pointer;
  }

  /** @param {Pointer} pointer */
  #put({ box, x, y }) {
    const surface = this.#surface();
    box.style.transform = `translate(${surface.x + x * surface.width}px, ${surface.y + y * surface.height}px)`;
  }
}
