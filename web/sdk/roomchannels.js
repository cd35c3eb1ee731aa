// The data channels to one person: chat that arrives in order and once, a cursor that never queues, and whatever else is opened.

import { readChat, readCursor } from "./roomwire.js";

/**
 * @typedef {object} Listeners
 * @property {(text: string) => void} chat
 * @property {(at: { x: number, y: number }) => void} cursor
 * @property {() => void} pointable there is a way for cursors, from now on
 * @property {(channel: RTCDataChannel) => void} channel one of another label
 * @property {() => void} silent the last channel closed
 * @property {(text: string) => void} note
 */

/** Lines that wait for a way to this person; who is longer without one has missed the conversation. */
const WAITING = 256;
/** Lines that are taken from one person: no one types so fast, but what waited comes at once. */
const CHAT = { burst: 512, perSecond: 20 };
/** Twice what we send ourselves. */
const CURSORS = { burst: 120, perSecond: 60 };
/** Channels that are kept of one person; each costs memory, and a stranger opens them for nothing. */
const CHANNELS = 32;
/** A cursor that waits is older than the next one. */
const BUFFERED = 65_536;

export class RoomChannels {
  #on;
  /** @type {Map<RTCDataChannel, () => void>} every channel, and what lets go of it */
  #all = new Map();
  /** @type {Map<string, RTCDataChannel>} the one in use, by label */
  #byLabel = new Map();
  /** @type {string[]} */
  #outbox = [];
  #ready = false;
  #lines;
  #cursors;

  /** @param {{ clock: import("./clock.js").Clock, on: Listeners }} options */
  constructor({ clock, on }) {
    this.#on = on;
    this.#lines = new Bucket(clock, CHAT);
    this.#cursors = new Bucket(clock, CURSORS);
  }

  /** @param {RTCDataChannel} channel */
  add(channel) {
    if (this.#all.size >= CHANNELS) {
      channel.close();
      this.#on.note("closed a channel: there are too many");
      return;
    }
    const { label } = channel;
    const opened = () => this.#opened(channel);
    const closed = () => this.#closed(channel);
    const heard = (/** @type {MessageEvent} */ { data }) => this.#heard(label, data);
    // By addEventListener: the handlers of other channels belong to the program.
    const ours = label === "chat" || label === "cursors";
    channel.addEventListener("open", opened);
    channel.addEventListener("close", closed);
    if (ours) channel.addEventListener("message", heard);
    this.#all.set(channel, () => {
      channel.removeEventListener("open", opened);
      channel.removeEventListener("close", closed);
      channel.removeEventListener("message", heard);
    });
    if (!this.#byLabel.has(label)) this.#byLabel.set(label, channel);
    if (channel.readyState === "open") this.#opened(channel);
    if (!ours) this.#on.channel(channel);
  }

  /** Said now or as soon as there is a way, and never twice. @param {string} text */
  say(text) {
    this.#outbox.push(text);
    if (this.#outbox.length > WAITING) {
      this.#outbox.shift();
      this.#on.note("dropped a line of chat: nobody was there to take it");
    }
    this.#flush();
  }

  /** False says that it must be tried again: too much is on its way. @param {{ x: number, y: number }} at */
  point({ x, y }) {
    const channel = this.#byLabel.get("cursors");
    // One that opens later asks for it then.
    if (channel?.readyState !== "open" || !this.#ready) return true;
    if (channel.bufferedAmount >= BUFFERED) return false;
    return send(channel, { type: "cursor", x, y });
  }

  /** Whether the connection stands. What is said to one that does not might be lost with it. @param {boolean} ready */
  set ready(ready) {
    if (this.#ready === ready) return;
    this.#ready = ready;
    this.#flush();
    if (ready && this.#byLabel.get("cursors")?.readyState === "open") this.#on.pointable();
  }

  /** The connection is gone, and its channels with it; what waits goes on waiting. */
  reset() {
    for (const release of this.#all.values()) release();
    this.#all.clear();
    this.#byLabel.clear();
    this.#ready = false;
  }

  close() {
    this.reset();
    this.#outbox = [];
  }

  /** @returns {ReadonlyMap<string, RTCDataChannel>} */
  get byLabel() {
    return this.#byLabel;
  }

  get open() {
    return [...this.#all.keys()].some(({ readyState }) => readyState === "open");
  }

  /** @param {RTCDataChannel} channel */
  #opened(channel) {
    const { label } = channel;
    // After a glare there may be two of a label. All are heard; one that works is kept to, so that nothing overtakes.
    if (this.#byLabel.get(label)?.readyState !== "open") this.#byLabel.set(label, channel);
    if (label === "chat") this.#flush();
    if (label === "cursors" && this.#ready) this.#on.pointable();
  }

  /** @param {RTCDataChannel} channel */
  #closed(channel) {
    this.#all.get(channel)?.();
    this.#all.delete(channel);
    const { label } = channel;
    if (this.#byLabel.get(label) === channel) {
      this.#byLabel.delete(label);
      const others = [...this.#all.keys()].filter((other) => other.label === label);
      const other = others.find(({ readyState }) => readyState === "open") ?? others[0];
      if (other) this.#byLabel.set(label, other);
      if (label === "chat") this.#flush();
    }
    if (!this.open) this.#on.silent();
  }

  #flush() {
    const channel = this.#byLabel.get("chat");
    if (!this.#ready || channel?.readyState !== "open") return;
    while (this.#outbox.length > 0 && send(channel, { type: "chat", text: this.#outbox[0] })) this.#outbox.shift();
  }

  /** Counted before it is read: reading is what costs. @param {string} label @param {unknown} data */
  #heard(label, data) {
    if (label === "cursors") {
      const at = this.#cursors.take() ? readCursor(data) : null;
      if (at) this.#on.cursor(at);
    } else if (this.#lines.take()) {
      const text = readChat(data);
      if (text !== null) this.#on.chat(text);
    }
  }
}

/** A token bucket. */
class Bucket {
  #clock;
  #rate;
  #tokens;
  #filledAt;

  /** @param {import("./clock.js").Clock} clock @param {{ burst: number, perSecond: number }} rate */
  constructor(clock, rate) {
    this.#clock = clock;
    this.#rate = rate;
    this.#tokens = rate.burst;
    this.#filledAt = clock.now();
  }

  take() {
    const now = this.#clock.now();
    const { burst, perSecond } = this.#rate;
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) / 1000) * perSecond);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

/** @param {RTCDataChannel} channel @param {object} message */
function send(channel, message) {
  try {
    channel.send(JSON.stringify(message));
    return true;
  } catch {
    return false; // full, or closing at this moment
  }
}
