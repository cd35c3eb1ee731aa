// Our cursor on its way to all others: thinned, never queued, and the last position always comes through.

import { unit } from "./roomwire.js";

/** @typedef {import("./roompeer.js").RoomPeer} RoomPeer */

/** 30 a second, as often as an eye follows; a whole number, because browsers cut the rest off, which would make it 31. */
const EVERY_MS = Math.ceil(1_000 / 30);

export class RoomCursor {
  #clock;
  #peers;
  /** @type {{ x: number, y: number } | null} */
  #at = null;
  /** @type {Set<RoomPeer>} who has not been sent this position */
  #owed = new Set();
  /** @type {unknown} */
  #timer = null;
  #closed = false;

  /** @param {{ clock: import("./clock.js").Clock, peers: () => Iterable<RoomPeer> }} options */
  constructor({ clock, peers }) {
    this.#clock = clock;
    this.#peers = peers;
  }

  /** @param {number} x @param {number} y */
  move(x, y) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    this.#at = { x: unit(x), y: unit(y) };
    for (const peer of this.#peers()) this.#owed.add(peer);
    this.#send();
  }

  /** There is a way to somebody who may not know where we are. @param {RoomPeer} peer */
  due(peer) {
    if (!this.#at) return;
    this.#owed.add(peer);
    this.#send();
  }

  /** @param {RoomPeer} peer */
  forget(peer) {
    this.#owed.delete(peer);
  }

  close() {
    this.#closed = true;
    this.#clock.cancel(this.#timer);
    this.#owed.clear();
  }

  /** At once, unless something was sent just now: then what is newest at the end of that time. */
  #send() {
    if (this.#closed || this.#timer !== null || !this.#at || this.#owed.size === 0) return;
    for (const peer of [...this.#owed]) if (peer.point(this.#at)) this.#owed.delete(peer);
    this.#timer = this.#clock.after(EVERY_MS, () => {
      this.#timer = null;
      this.#send();
    });
  }
}
