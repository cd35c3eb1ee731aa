// The loudspeaker that a person chose, as far as it is there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Own } from "../src/room/own.js";

class Element extends EventTarget {
  /** @type {any[]} */ children = [];
  value = "";
  append(/** @type {any[]} */ ...more) {
    this.children.push(...more);
  }
  replaceChildren(/** @type {any[]} */ ...all) {
    this.children = all;
    this.value = all[0]?.value ?? "";
  }
}

Object.assign(globalThis, {
  MediaStream: class {},
  HTMLMediaElement: class { setSinkId() {} },
  Option: class { constructor(/** @type {string} */ name, /** @type {string} */ value) { Object.assign(this, { name, value }); } },
});

function scene() {
  const box = new Element();
  const plugged = ["default", "usb"];
  /** @type {string[]} */
  const sinks = [];
  /** @type {string[]} */
  const toasts = [];
  const own = new Own({
    document: /** @type {any} */ ({ querySelectorAll: () => [box], createElement: () => new Element() }),
    media: /** @type {any} */ ({ enumerateDevices: async () => plugged.map((deviceId) => ({ kind: "audiooutput", deviceId, label: deviceId })) }),
    parts: /** @type {any} */ ({
      devices: { list: () => [], current: () => null },
      deck: { toast: (/** @type {string} */ text) => toasts.push(text) },
      tiles: { listenOn: (/** @type {string} */ sink) => sinks.push(sink) },
    }),
  });
  /** The list of loudspeakers, which is the last. */
  const list = () => box.children[2].children[1];
  const choose = (/** @type {string} */ id) => {
    list().value = id;
    list().dispatchEvent(new Event("change"));
  };
  return { own, plugged, sinks, toasts, list, choose };
}

test("a chosen loudspeaker that goes away makes room for the usual one, which is said once", async () => {
  const { own, plugged, sinks, toasts, list, choose } = scene();
  await own.look();
  choose("usb");
  await own.look();
  assert.deepEqual([sinks, toasts, list().value], [["usb"], [], "usb"]);
  plugged.pop();
  await own.look();
  await own.look();
  assert.deepEqual([sinks, toasts, list().value], [["usb", ""], ["The loudspeaker went away."], "default"]);
  plugged.push("usb");
  await own.look();
  assert.deepEqual(sinks, ["usb", ""], "who wants it back chooses it");
  choose("usb");
  assert.deepEqual(sinks, ["usb", "", "usb"]);
});
