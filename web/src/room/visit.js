// One stay in a room: the room client's events onto the page, and what a person does into the room. It ends with one `close()`.

import { portion } from "./cursors.js";
import { peerWord } from "./words.js";

/** @typedef {import("../../sdk/index.js").Room} Room */
/** @typedef {import("../../sdk/index.js").RoomPeer} RoomPeer */
/** @typedef {import("./tiles.js").Tiles} Tiles */

export class Visit {
  #room;
  #parts;
  /** @type {(() => void)[]} */
  #offs = [];
  /** @type {(() => void) | null} */
  #statsOff = null;
  /** @type {Set<string>} */
  #known = new Set();

  /**
   * @param {object} options
   * @param {Room} options.room
   * @param {object} options.parts
   * @param {Tiles} options.parts.tiles
   * @param {import("./speaking.js").Speaking} options.parts.speaking
   * @param {import("./chat.js").Chat} options.parts.chat
   * @param {import("./cursors.js").Pointers} options.parts.pointers
   * @param {import("./diagnostics.js").Diagnostics} options.parts.diagnostics
   * @param {HTMLElement} options.parts.stage
   * @param {{ state: () => void, came: (name: string) => void, went: (name: string) => void, fault: (error: { code: string, message: string }) => void }} options.on
   */
  constructor({ room, parts, on }) {
    this.#room = room;
    this.#parts = parts;
    for (const peer of room.peers.values()) this.#meet(peer);
    this.#offs = [
      room.on("state", () => on.state()),
      room.on("joined", (peer) => {
        if (!this.#meet(peer)) return;
        on.came(peer.id);
      }),
      room.on("left", (peer) => {
        if (!this.#known.delete(peer.id)) return;
        this.#part(peer.id);
        on.went(peer.id);
      }),
      room.on("peer", (peer) => parts.tiles.word(peer.id, peerWord(peer.state))),
      room.on("track", ({ peer }) => this.#heed(peer)),
      room.on("untrack", ({ peer }) => this.#heed(peer)),
      room.on("chat", (line) => parts.chat.add(line)),
      room.on("cursor", ({ peer, x, y }) => parts.pointers.move(peer.id, x, y)),
      room.on("error", (error) => on.fault(error)),
      // For whoever looks why somebody is not heard: how each connection fared.
      room.on("note", (text) => console.debug(text)),
    ];
    const point = (/** @type {PointerEvent} */ event) => this.#point(event);
    parts.stage.addEventListener("pointermove", point);
    this.#offs.push(() => parts.stage.removeEventListener("pointermove", point));
  }

  get room() {
    return this.#room;
  }

  /** Figures come only while somebody looks at them. @param {boolean} wanted */
  measure(wanted) {
    if (!wanted) {
      this.#statsOff?.();
      this.#statsOff = null;
    } else this.#statsOff ??= this.#room.on("stats", (report) => this.#parts.diagnostics.show(report));
  }

  close() {
    this.measure(false);
    for (const off of this.#offs) off();
    this.#offs = [];
    for (const id of this.#known) this.#part(id);
    this.#known.clear();
    this.#room.close();
  }

  /** Whether it is somebody new. @param {RoomPeer} peer */
  #meet(peer) {
    if (this.#known.has(peer.id)) return false;
    this.#known.add(peer.id);
    this.#parts.tiles.add(peer.id, { name: peer.id, own: false, stream: peer.stream });
    this.#parts.tiles.word(peer.id, peerWord(peer.state));
    this.#heed(peer);
    return true;
  }

  /** @param {string} id */
  #part(id) {
    this.#parts.tiles.remove(id);
    this.#parts.speaking.forget(id);
    this.#parts.pointers.forget(id);
  }

  /** @param {RoomPeer} peer */
  #heed(peer) {
    if (!this.#known.has(peer.id)) return;
    const sound = peer.stream.getAudioTracks().find(({ readyState }) => readyState === "live") ?? null;
    this.#parts.speaking.watch(peer.id, sound);
    this.#parts.tiles.hush(peer.id, sound === null);
    this.#parts.tiles.play(peer.id);
    this.#parts.tiles.refresh(peer.id);
  }

  /** @param {PointerEvent} event */
  #point({ clientX, clientY }) {
    const { left, top } = this.#parts.stage.getBoundingClientRect();
    const at = portion({ x: clientX - left, y: clientY - top }, this.#parts.tiles.surface);
    if (at) this.#room.moveCursor(at.x, at.y);
  }
}
