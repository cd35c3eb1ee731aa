// How each connection does, in figures and in plain words; to be copied or saved for whoever has to mend it. It measures nothing itself.

import { amount, endWord } from "../words.js";
import { button, element, make, part, say } from "./dom.js";

/** @typedef {import("../../sdk/index.js").RoomReport} RoomReport */
/** @typedef {import("../../sdk/index.js").PeerReport} PeerReport */

/** The rows of one connection. @param {PeerReport} report @returns {[name: string, value: string][]} */
export function rowsOf(report) {
  return [
    ["Path", report.words || "–"],
    ["This side", report.pair ? endWord(report.pair.local) : "–"],
    ["Other side", report.pair ? endWord(report.pair.remote) : "–"],
    ["Round trip", amount(report.rttMs, "ms")],
    ["Loss coming in", amount(report.lossPercent, "%", 1)],
    ["Loss going out", amount(report.lossOutPercent, "%", 1)],
    ["Jitter", amount(report.jitterMs, "ms", 1)],
    ["Coming in", amount(report.kbpsIn, "kbit/s")],
    ["Going out", amount(report.kbpsOut, "kbit/s")],
    ["Picture in", pictureWord(report.video.in)],
    ["Picture out", pictureWord(report.video.out)],
  ];
}

/** @param {import("../../sdk/index.js").Picture | null} picture */
export function pictureWord(picture) {
  return picture ? `${picture.width} × ${picture.height}, ${Math.round(picture.fps)} a second` : "–";
}

export class Diagnostics {
  #document;
  /** @type {RoomReport | null} */
  #report = null;
  /** @type {Map<string, HTMLElement>} */
  #cards = new Map();

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {{ copy: (text: string) => void, save: (text: string) => void }} options.wishes
   */
  constructor({ document, wishes }) {
    this.#document = document;
    button(document, "details-copy").addEventListener("click", () => wishes.copy(this.text));
    button(document, "details-save").addEventListener("click", () => wishes.save(this.text));
  }

  /** All that is known, for a report; it holds no secret. */
  get text() {
    return JSON.stringify(this.#report, null, 2);
  }

  /** @param {RoomReport} report */
  show(report) {
    this.#report = report;
    const list = element(this.#document, "details-list");
    const gone = new Set(this.#cards.keys());
    for (const peer of report.peers) {
      gone.delete(peer.peer);
      const card = this.#cards.get(peer.peer) ?? this.#card(peer.peer);
      if (!card.isConnected) list.append(card);
      this.#fill(card, peer);
    }
    for (const id of gone) {
      this.#cards.get(id)?.remove();
      this.#cards.delete(id);
    }
    element(this.#document, "details-empty").hidden = report.peers.length > 0;
  }

  clear() {
    this.#report = null;
    this.#cards.clear();
    element(this.#document, "details-list").replaceChildren();
    element(this.#document, "details-empty").hidden = false;
  }

  /** @param {HTMLElement} card @param {PeerReport} report */
  #fill(card, report) {
    card.dataset.rating = report.verdict.rating;
    say(part(card, ".verdict"), report.verdict.text);
    const facts = part(card, "dl");
    // Rows stay the same elements, so that a selection is not thrown out each second.
    rowsOf(report).forEach(([name, value], at) => say(part(facts.children[at] ?? this.#fact(facts, name), "dd"), value));
  }

  /** @param {string} name */
  #card(name) {
    const card = make(this.#document, "section", "peer-card");
    card.ariaLabel = `Connection to ${name}`;
    card.append(make(this.#document, "h3", "", name), make(this.#document, "p", "verdict"), make(this.#document, "dl", "facts"));
    this.#cards.set(name, card);
    return card;
  }

  /** @param {Element} facts @param {string} name */
  #fact(facts, name) {
    const row = make(this.#document, "div", "");
    row.append(make(this.#document, "dt", "", name), make(this.#document, "dd", ""));
    facts.append(row);
    return row;
  }
}
