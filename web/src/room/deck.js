// The controls at the bottom, the panel that they open, and short messages. It reports what a person wants and does none of it.

import { button, composes, element, make, part, say, stamp } from "./dom.js";
import { toggleWord } from "./words.js";

/** @typedef {"chat" | "voices" | "record" | "details" | "devices"} Pane */
/** @typedef {"audio" | "video"} Kind */

const PANES = /** @type {const} */ (["chat", "voices", "record", "details", "devices"]);
const TOAST_MS = 4_500;
const MOST_TOASTS = 3;

export class Deck {
  #document;
  #clock;
  #on;
  /** @type {Pane | null} */
  #open = null;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {import("../../sdk/index.js").Clock} options.clock
   * @param {{ toggle: (kind: Kind) => void, share: () => void, leave: () => void, panel: (pane: Pane | null) => void }} options.on
   */
  constructor({ document, clock, on }) {
    this.#document = document;
    this.#clock = clock;
    this.#on = on;
    for (const id of ["mic", "camera", "door-mic", "door-camera"]) {
      const key = button(document, id);
      const kind = /** @type {Kind} */ (key.dataset.kind);
      key.append(stamp(document, `icon-${kind}`));
      if (key.classList.contains("key")) key.append(make(document, "span", "word"));
      key.addEventListener("click", () => on.toggle(kind));
    }
    for (const pane of PANES) button(document, pane).addEventListener("click", () => this.show(this.#open === pane ? null : pane));
    button(document, "share").addEventListener("click", () => {
      this.#more(false);
      on.share();
    });
    button(document, "leave").addEventListener("click", () => on.leave());
    button(document, "panel-close").addEventListener("click", () => this.show(null));
    button(document, "more").addEventListener("click", () => this.#more(button(document, "more").ariaExpanded !== "true"));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented && !composes(event)) this.#escape();
    });
    document.addEventListener("pointerdown", ({ target }) => {
      const inside = target instanceof Node && (element(document, "extras").contains(target) || button(document, "more").contains(target));
      if (!inside) this.#more(false);
    });
  }

  /** @param {Pane | null} pane */
  show(pane) {
    const before = this.#open;
    if (pane === before) return;
    this.#open = pane;
    this.#more(false);
    element(this.#document, "panel").hidden = pane === null;
    this.#document.body.dataset.panel = pane ?? "none";
    for (const one of PANES) {
      element(this.#document, `panel-${one}`).hidden = one !== pane;
      button(this.#document, one).ariaExpanded = String(one === pane);
    }
    if (pane) {
      const title = element(this.#document, "panel-title");
      say(title, element(this.#document, `panel-${pane}`).dataset.title ?? "");
      title.focus();
    } else if (before) this.#back(before);
    this.#on.panel(pane);
  }

  get open() {
    return this.#open;
  }

  /** @param {Kind} kind @param {{ on: boolean, faulty: boolean }} state */
  toggled(kind, { on, faulty }) {
    for (const id of kind === "audio" ? ["mic", "door-mic"] : ["camera", "door-camera"]) {
      const key = button(this.#document, id);
      key.dataset.on = String(on);
      key.dataset.faulty = String(faulty);
      const word = toggleWord(kind, on);
      if (key.ariaLabel !== word) key.ariaLabel = word;
      key.title = word;
      const label = key.querySelector(".word");
      if (label) say(label, kind === "audio" ? (on ? "Mute" : "Unmute") : on ? "Camera off" : "Camera on");
    }
  }

  /** @param {boolean} supported @param {boolean} active */
  sharing(supported, active) {
    const key = button(this.#document, "share");
    key.hidden = !supported;
    key.dataset.active = String(active);
    say(part(key, ".word"), active ? "Stop sharing" : "Share screen");
  }

  /** @param {boolean} active */
  recording(active) {
    button(this.#document, "record").dataset.active = String(active);
  }

  /** Something small that happened; it goes by itself. @param {string} text @param {"calm" | "warn"} [mood] */
  toast(text, mood = "calm") {
    const box = element(this.#document, "toasts");
    const toast = make(this.#document, "p", "toast", text);
    toast.dataset.mood = mood;
    box.append(toast);
    while (box.childElementCount > MOST_TOASTS) box.firstElementChild?.remove();
    this.#clock.after(TOAST_MS, () => toast.remove());
  }

  /** @param {boolean} open */
  #more(open) {
    button(this.#document, "more").ariaExpanded = String(open);
    element(this.#document, "extras").dataset.open = String(open);
  }

  #escape() {
    const more = button(this.#document, "more");
    if (more.ariaExpanded === "true") {
      this.#more(false);
      more.focus();
    } else this.show(null);
  }

  /** The focus goes back to where it came from; on a phone that may be behind More. @param {Pane} pane */
  #back(pane) {
    const key = button(this.#document, pane);
    (key.checkVisibility?.({ visibilityProperty: true }) === false ? button(this.#document, "more") : key).focus();
  }
}
