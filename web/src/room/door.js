// Before the room: name, room, token, and how one will be seen. It asks for no device and joins nothing.

import { button, element, input, part, say } from "./dom.js";
import { hue, initial } from "./words.js";

/** @typedef {{ name: string, room: string, token: string }} Entry */

const FLOOR_DB = -60;

export class Door {
  #document;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {{ join: (entry: Entry) => void, cancel: () => void }} options.wishes
   */
  constructor({ document, wishes }) {
    this.#document = document;
    element(document, "join").addEventListener("submit", (event) => {
      event.preventDefault();
      wishes.join(this.entry);
    });
    button(document, "cancel").addEventListener("click", () => wishes.cancel());
    button(document, "token-show").addEventListener("click", () => this.askToken());
    input(document, "name").addEventListener("input", () => this.#face());
  }

  /** @returns {Entry} */
  get entry() {
    const value = (/** @type {string} */ id) => input(this.#document, id).value.trim();
    return { name: value("name"), room: value("room"), token: value("token") };
  }

  /** @param {Entry} entry */
  fill({ name, room, token }) {
    input(this.#document, "name").value = name;
    input(this.#document, "room").value = room;
    input(this.#document, "token").value = token;
    this.#face();
    const empty = ["name", "room"].find((id) => input(this.#document, id).value === "");
    (empty ? input(this.#document, empty) : button(this.#document, "enter")).focus({ preventScroll: true });
  }

  /** Another token came while nobody looked. @param {string} token */
  give(token) {
    input(this.#document, "token").value = token;
  }

  askToken() {
    element(this.#document, "token-part").hidden = false;
    const show = button(this.#document, "token-show");
    show.ariaExpanded = "true";
    show.hidden = true;
    input(this.#document, "token").focus();
  }

  /** @param {boolean} busy */
  busy(busy) {
    const enter = button(this.#document, "enter");
    enter.disabled = busy;
    say(enter, busy ? "Joining…" : "Join");
    button(this.#document, "cancel").hidden = !busy;
    for (const id of ["name", "room", "token"]) input(this.#document, id).readOnly = busy;
  }

  /** Why it did not work, or nothing. @param {import("./words.js").Words | null} words */
  refuse(words) {
    element(this.#document, "why").hidden = words === null;
    say(element(this.#document, "why-title"), words?.title ?? "");
    say(element(this.#document, "why-text"), words?.text ?? "");
  }

  /** The mirror. @param {MediaStream | null} stream with a picture, or null */
  look(stream) {
    const video = /** @type {HTMLVideoElement} */ (element(this.#document, "preview"));
    if (video.srcObject !== stream) video.srcObject = stream;
    video.hidden = stream === null;
    if (stream) video.play().catch(() => {});
  }

  /** @param {number} db */
  level(db) {
    const meter = element(this.#document, "door-meter");
    const shown = Math.max(FLOOR_DB, Math.min(0, db));
    meter.style.setProperty("--level", String(1 - shown / FLOOR_DB));
    meter.ariaValueNow = shown.toFixed(0);
    meter.ariaValueText = shown > FLOOR_DB ? `${shown.toFixed(0)} decibels` : "silent";
  }

  #face() {
    const name = input(this.#document, "name").value;
    const face = element(this.#document, "preview-face");
    face.style.setProperty("--hue", String(hue(name)));
    say(part(face, "span"), initial(name));
  }
}
