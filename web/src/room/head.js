// How it stands: the pill and the title at the top, and the banner over the stage where something is the matter.

import { secondsUntil } from "../words.js";
import { button, element, say } from "./dom.js";
import { DETACHED, refusalWords, statusWords } from "./words.js";

/** @typedef {{ code: string, message: string }} Refusal */
/** @typedef {{ state: string, room: string | null, people: number, refusal: Refusal | null }} View `room` is null at the door */

export class Head {
  #document;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {{ retry: () => void, back: () => void, invite: () => void }} options.wishes
   */
  constructor({ document, wishes }) {
    this.#document = document;
    button(document, "banner-retry").addEventListener("click", () => wishes.retry());
    button(document, "banner-back").addEventListener("click", () => wishes.back());
    button(document, "invite").addEventListener("click", () => wishes.invite());
  }

  /** @param {View} view */
  show({ state, room, people, refusal }) {
    const document = this.#document;
    const inside = room !== null;
    document.title = `${room ?? "Room"} · voxcast`;
    document.body.dataset.state = state;
    element(document, "door").hidden = inside;
    element(document, "inside").hidden = !inside;
    button(document, "invite").hidden = !inside;
    say(element(document, "title"), room ?? "voxcast");
    const { title, mood } = statusWords(state, people);
    document.body.dataset.mood = mood;
    say(element(document, "status-title"), title);
    element(document, "alone").hidden = people !== 1;
    const words = state === "refused" ? refusalWords(refusal ?? { code: "", message: "" }) : state === "detached" ? DETACHED : null;
    element(document, "banner").hidden = words === null;
    say(element(document, "banner-title"), words?.title ?? "");
    say(element(document, "banner-text"), words?.text ?? "");
    button(document, "banner-back").hidden = state !== "refused";
  }

  /** When the line is tried again; apart from the sentence, because nobody wants every second read out. @param {number | null} at @param {number} now */
  count(at, now) {
    const seconds = at === null ? 0 : secondsUntil(at, now);
    say(element(this.#document, "banner-count"), this.#document.body.dataset.state !== "detached" ? "" : seconds === 0 ? "Trying now…" : `Next try in ${seconds} s.`);
  }
}
