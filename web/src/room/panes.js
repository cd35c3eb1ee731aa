// What stands in the panels for voices and recordings: lists with a button each.

import { button, element, input, make, say } from "./dom.js";
import { elapsed } from "../words.js";

/** @typedef {import("../../sdk/index.js").Voice} Voice */
/** @typedef {import("./guest.js").Guest} Guest */
/** @typedef {import("./recorder.js").Recording} Recording */

/** Each holds its file in memory until then. */
const MOST_FILES = 5;

export class VoicesPane {
  #document;
  #wishes;
  #shown = "";

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {{ ask: (voice: Voice) => void, send: (name: string) => void }} options.wishes
   */
  constructor({ document, wishes }) {
    this.#document = document;
    this.#wishes = wishes;
  }

  /** @param {{ voices: readonly Voice[], guests: Guest[], fault: string, full: boolean }} view */
  show({ voices, guests, fault, full }) {
    const shown = JSON.stringify([voices, guests, fault, full]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const held = /** @type {HTMLElement | null} */ (this.#document.activeElement)?.ariaLabel;
    element(this.#document, "guest-list").replaceChildren(
      ...guests.map(({ name, state }) => this.#row(name, state === "here" ? "Heard by everybody" : "Coming…", "Send away", () => this.#wishes.send(name))),
    );
    element(this.#document, "voice-list").replaceChildren(
      ...voices.map((voice) => this.#row(voice.name, voice.description, "Ask in", () => this.#wishes.ask(voice), full)),
    );
    say(element(this.#document, "voices-state"), fault || (voices.length === 0 ? "Asking the server which voices it has…" : full ? "That is as many as one browser can bring." : ""));
    // The button that was pressed may be a new one now.
    if (held) [...element(this.#document, "panel-voices").querySelectorAll("button")].find(({ ariaLabel }) => ariaLabel === held)?.focus();
  }

  /** @param {string} title @param {string} text @param {string} action @param {() => void} act */
  #row(title, text, action, act, disabled = false) {
    const row = make(this.#document, "li", "row");
    const words = make(this.#document, "span", "row-words");
    words.append(make(this.#document, "strong", "", title), make(this.#document, "small", "", text));
    const key = /** @type {HTMLButtonElement} */ (make(this.#document, "button", "button plain small", action));
    Object.assign(key, { type: "button", disabled, ariaLabel: `${action}: ${title}` });
    key.addEventListener("click", act);
    row.append(words, key);
    return row;
  }
}

export class RecordPane {
  #document;
  #wishes;
  #shown = "";
  #active = false;
  /** @type {{ row: HTMLElement, url: string }[]} */
  #files = [];

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {{ start: (who: string | null, tell: boolean) => void, stop: () => void }} options.wishes
   */
  constructor({ document, wishes }) {
    this.#document = document;
    this.#wishes = wishes;
    button(document, "record-go").addEventListener("click", () => {
      if (this.#active) this.#wishes.stop();
      else this.#wishes.start(this.#who.value === "*" ? null : this.#who.value.slice(1), input(document, "record-tell").checked);
    });
  }

  /** Whom there is to record. @param {{ id: string, name: string }[]} people */
  people(people) {
    const shown = JSON.stringify(people.map(({ id, name }) => [id, name]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    const before = this.#who.value;
    // A mark before the id, because anybody may be called anything.
    this.#who.replaceChildren(new Option("The whole room", "*"), ...people.map(({ id, name }) => new Option(id === "" ? `${name} (you)` : name, `=${id}`)));
    this.#who.value = people.some(({ id }) => before === `=${id}`) ? before : "*";
  }

  /** @param {{ able: boolean, ms: number | null }} state */
  show({ able, ms }) {
    this.#active = ms !== null;
    const key = button(this.#document, "record-go");
    key.disabled = !able;
    say(key, this.#active ? "Stop and save" : "Start recording");
    key.dataset.active = String(this.#active);
    this.#who.disabled = this.#active;
    input(this.#document, "record-tell").disabled = this.#active;
    element(this.#document, "recording").hidden = !this.#active;
    if (ms !== null) say(element(this.#document, "recording-time"), elapsed(ms));
    say(
      element(this.#document, "record-state"),
      !able ? "This browser cannot record." : this.#active ? "Recording. Whoever comes in meanwhile is recorded too." : "It is made in your browser and saved on this device.",
    );
  }

  /** Saves it, and keeps a link for the case that the browser did not. @param {Recording} recording */
  save({ name, blob, seconds }) {
    const url = URL.createObjectURL(blob);
    const row = make(this.#document, "li", "row");
    const words = make(this.#document, "span", "row-words");
    words.append(make(this.#document, "strong", "", name), make(this.#document, "small", "", `${elapsed(seconds * 1000)}, ${(blob.size / 1e6).toFixed(1)} MB`));
    const link = /** @type {HTMLAnchorElement} */ (make(this.#document, "a", "button plain small", "Save"));
    Object.assign(link, { href: url, download: name, ariaLabel: `Save ${name}` });
    row.append(words, link);
    element(this.#document, "record-files").prepend(row);
    this.#files.push({ row, url });
    if (this.#files.length > MOST_FILES) {
      const oldest = /** @type {{ row: HTMLElement, url: string }} */ (this.#files.shift());
      oldest.row.remove();
      URL.revokeObjectURL(oldest.url);
    }
    link.click();
  }

  get #who() {
    return /** @type {HTMLSelectElement} */ (element(this.#document, "record-who"));
  }
}
