// The chat as it is seen: lines, what is unread, the field to write in. What others wrote is text and never markup.

import { composes, element, input, make } from "./dom.js";
import { hue } from "./words.js";

/** @typedef {import("../../sdk/index.js").ChatLine} ChatLine */

/** Lines in the page; the room's own history may be longer. */
export const MOST_LINES = 300;
/** Lines of one person that come close to each other stand under one name. */
const TOGETHER_MS = 120_000;
/** This close to the end counts as reading the newest, in pixels. */
const NEAR_PX = 48;

/** Whether a line needs no name of its own. @param {ChatLine | null} before @param {ChatLine} line */
export function follows(before, line) {
  return before !== null && before.from === line.from && before.own === line.own && line.at - before.at < TOGETHER_MS;
}

/** What stands on the badge. @param {number} unread */
export function badge(unread) {
  return unread > 99 ? "99+" : String(unread);
}

export class Chat {
  #document;
  #send;
  #log;
  #field;
  #badge;
  #button;
  #open = false;
  #unread = 0;
  /** @type {ChatLine | null} */
  #last = null;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {(text: string) => void} options.send throws where it cannot be said
   */
  constructor({ document, send }) {
    this.#document = document;
    this.#send = send;
    this.#log = element(document, "chat-log");
    this.#field = input(document, "chat-text");
    this.#badge = element(document, "unread");
    this.#button = element(document, "chat");
    element(document, "chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || composes(event)) return;
      event.preventDefault();
      this.#submit();
    });
    this.#count();
  }

  /** @param {ChatLine} line */
  add(line) {
    const near = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_PX;
    this.#log.append(this.#line(line));
    this.#last = line;
    while (this.#log.childElementCount > MOST_LINES) this.#log.firstElementChild?.remove();
    element(this.#document, "chat-empty").hidden = true;
    if (near || line.own) this.#log.scrollTop = this.#log.scrollHeight;
    if (!this.#open && !line.own) this.#unread += 1;
    this.#count();
  }

  /** @param {boolean} open */
  show(open) {
    this.#open = open;
    if (!open) return;
    this.#unread = 0;
    this.#count();
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#field.focus();
  }

  clear() {
    this.#log.replaceChildren();
    this.#last = null;
    this.#unread = 0;
    this.#field.value = "";
    element(this.#document, "chat-empty").hidden = false;
    this.#count();
  }

  #submit() {
    const text = this.#field.value.trim();
    if (!text) return;
    try {
      this.#send(text);
    } catch {
      return; // it stays in the field
    }
    this.#field.value = "";
  }

  /** @param {ChatLine} line */
  #line(line) {
    const box = make(this.#document, "li", "line");
    box.dataset.own = String(line.own);
    box.style.setProperty("--hue", String(hue(line.from)));
    if (!follows(this.#last, line)) {
      const head = make(this.#document, "p", "line-head");
      const time = /** @type {HTMLTimeElement} */ (make(this.#document, "time", ""));
      const at = new Date(line.at);
      time.dateTime = at.toISOString();
      time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      head.append(make(this.#document, "strong", "", line.own ? "You" : line.from), time);
      box.append(head);
    }
    box.append(make(this.#document, "p", "line-text", line.text));
    return box;
  }

  #count() {
    this.#badge.hidden = this.#unread === 0;
    this.#badge.textContent = badge(this.#unread);
    this.#button.ariaLabel = this.#unread === 0 ? "Chat" : `Chat, ${this.#unread} unread`;
  }
}
