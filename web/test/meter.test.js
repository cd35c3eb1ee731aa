// The meter, with a Web Audio that works, and with one that throws: it may measure nothing, and must stop nobody.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Meter } from "../src/meter.js";

function scene() {
  const audio = { full: false, odd: false, contexts: 0 };
  class Context {
    state = "running";
    constructor() {
      if (audio.full) throw new DOMException("too many", "NotSupportedError");
      audio.contexts += 1;
    }
    createAnalyser = () => ({ getFloatTimeDomainData: (/** @type {Float32Array} */ samples) => samples.fill(1) });
    /** @param {unknown} mediaStream */
    createMediaStreamSource(mediaStream) {
      if (audio.odd) throw new DOMException("odd", "NotSupportedError");
      return { mediaStream, connect() {}, disconnect() {} };
    }
  }
  return { audio, meter: new Meter({ AudioContext: /** @type {any} */ (Context) }) };
}
const stream = () => /** @type {MediaStream} */ ({});

test("a browser that makes no context measures nothing, and does later", () => {
  const { audio, meter } = scene();
  audio.full = true;
  meter.attach(stream());
  meter.wake();
  assert.equal(meter.read().db, -Infinity);
  audio.full = false;
  meter.wake();
  meter.wake();
  assert.deepEqual([meter.read().db, audio.contexts], [0, 1]);
});

test("a stream that cannot be measured is silence, also after one that could", () => {
  const { audio, meter } = scene();
  meter.wake();
  meter.attach(stream());
  assert.equal(meter.read().db, 0);
  audio.odd = true;
  meter.attach(stream());
  meter.wake();
  assert.equal(meter.read().db, -Infinity);
});
