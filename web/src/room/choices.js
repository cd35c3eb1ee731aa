// Which camera, microphone and loudspeaker: the same lists at the door and in the room.

import { make } from "./dom.js";

/** @typedef {"audio" | "video"} Kind */
/** @typedef {{ id: string, name: string }} Device */
/** @typedef {{ kind: Kind | "sink", label: string, devices: Device[], current: string | null }} Choice */

export class Choices {
  #document;
  #on;
  /** @type {{ box: HTMLElement, selects: Map<string, { field: HTMLElement, select: HTMLSelectElement, shown: string }> }[]} */
  #places;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {(kind: Kind | "sink", id: string) => void} options.on
   */
  constructor({ document, on }) {
    this.#document = document;
    this.#on = on;
    this.#places = [...document.querySelectorAll("[data-choices]")].map((box) => ({ box: /** @type {HTMLElement} */ (box), selects: new Map() }));
  }

  /** @param {Choice[]} choices one without devices is left out */
  show(choices) {
    for (const { box, selects } of this.#places) {
      for (const { kind, label, devices, current } of choices) {
        const place = selects.get(kind) ?? this.#make(box, selects, kind, label);
        place.field.hidden = devices.length === 0;
        const shown = JSON.stringify(devices);
        // A list that is open must not be thrown away under the finger.
        if (shown !== place.shown) {
          place.shown = shown;
          place.select.replaceChildren(...devices.map(({ id, name }) => new Option(name, id)));
        }
        if (current !== null && devices.some(({ id }) => id === current)) place.select.value = current;
      }
    }
  }

  /** @param {HTMLElement} box @param {Map<string, any>} selects @param {Kind | "sink"} kind @param {string} label */
  #make(box, selects, kind, label) {
    const field = make(this.#document, "label", "choice");
    const select = /** @type {HTMLSelectElement} */ (make(this.#document, "select", ""));
    field.append(make(this.#document, "span", "", label), select);
    select.addEventListener("change", () => this.#on(kind, select.value));
    box.append(field);
    const place = { field, select, shown: "[]" };
    selects.set(kind, place);
    return place;
  }
}
