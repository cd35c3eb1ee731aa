// Keys that open and close the panel, on a page of stand-ins.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Deck } from "../src/room/deck.js";
import { FakeClock } from "./fakes.js";

class Element extends EventTarget {
  hidden = false;
  ariaExpanded = "false";
  textContent = "";
  dataset = /** @type {Record<string, string>} */ ({ kind: "audio", title: "Title" });
  classList = { contains: () => false };
  content = { cloneNode: () => new Element() };
  append() {}
  focus() {}
}

function scene() {
  /** @type {Map<string, Element>} */
  const elements = new Map();
  const document = Object.assign(new EventTarget(), {
    body: new Element(),
    /** @param {string} id */
    getElementById: (id) => elements.get(id) ?? elements.set(id, new Element()).get(id),
  });
  const none = () => {};
  const deck = new Deck({ document: /** @type {any} */ (document), clock: new FakeClock(), on: { toggle: none, share: none, leave: none, panel: none } });
  /** @param {object} [more] */
  const escape = (more) => document.dispatchEvent(Object.assign(new Event("keydown"), { key: "Escape", isComposing: false, keyCode: 27, ...more }));
  return { deck, escape };
}

test("Escape closes the panel, unless it gives up a word that is being composed", () => {
  const { deck, escape } = scene();
  deck.show("chat");
  escape({ isComposing: true });
  escape({ keyCode: 229 });
  assert.equal(deck.open, "chat");
  escape();
  assert.equal(deck.open, null);
});
