// A recording with stand-ins for canvas, Web Audio and MediaRecorder: what is let go of, and what it survives.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pace } from "../src/room/outside.js";
import { Recorder } from "../src/room/recorder.js";
import { Speaking } from "../src/room/speaking.js";
import { FakeClock } from "./fakes.js";
import { FakeTrack, fakeStream } from "./room-fakes.js";

Object.assign(globalThis, { MediaStream: class { constructor(/** @type {FakeTrack[]} */ tracks) { Object.assign(this, fakeStream(...tracks)); } } });

/** A node, a pen: whatever is called on it obeys. */
const obedient = () => /** @type {any} */ (new Proxy({}, { get: (given, name) => Reflect.get(given, name) ?? (() => ({ width: 1 })) }));

function scene({ deaf = /** @type {FakeTrack[]} */ ([]), broken = "" } = {}) {
  const clock = new FakeClock();
  const world = { clock, contexts: /** @type {any[]} */ ([]), tried: 0, captured: new FakeTrack("video"), recorders: /** @type {any[]} */ ([]), told: /** @type {any[]} */ ([]), people: /** @type {any[]} */ ([]) };
  class AudioContext {
    state = "running";
    closed = false;
    heard = /** @type {FakeTrack[]} */ ([]);
    constructor() {
      world.contexts.push(this);
    }
    createMediaStreamDestination = () => ({ stream: fakeStream(new FakeTrack("audio")) });
    createConstantSource = () => Object.assign(obedient(), { offset: {} });
    createAnalyser = () => ({ getFloatTimeDomainData: (/** @type {Float32Array} */ samples) => samples.fill(0.5) });
    /** @param {any} stream */
    createMediaStreamSource(stream) {
      world.tried += 1;
      const [track] = stream.getTracks();
      if (deaf.includes(track)) throw new Error("another sample rate");
      this.heard.push(track);
      return { connect() {}, disconnect: () => this.heard.splice(this.heard.indexOf(track), 1) };
    }
    close = async () => void (this.closed = true);
  }
  class MediaRecorder {
    static isTypeSupported = () => true;
    state = "recording";
    onstop = () => {};
    constructor() {
      if (broken) throw new Error(broken);
      world.recorders.push(this);
    }
    start() {}
    stop() {
      this.state = "inactive";
      this.onstop();
    }
  }
  const recorder = new Recorder({
    MediaRecorder: /** @type {any} */ (MediaRecorder),
    AudioContext: /** @type {any} */ (AudioContext),
    document: /** @type {any} */ ({ createElement: () => ({ getContext: obedient, captureStream: () => ({ getTracks: () => [world.captured], addTrack() {} }) }) }),
    clock,
    pace: (ms, run) => pace({ Worker: undefined, clock }, ms, run),
    people: () => world.people,
    on: (recording) => world.told.push(recording),
  });
  return { recorder, world, AudioContext: /** @type {any} */ (AudioContext) };
}

test("somebody whose sound the browser does not take up is left out of the mix, and asked for once", async () => {
  const [ann, ben] = [new FakeTrack("audio"), new FakeTrack("audio")];
  const { recorder, world } = scene({ deaf: [ann] });
  world.people = [ann, ben].map((sound, at) => ({ id: `${at}`, name: "x", video: null, sound }));
  recorder.start("x", null);
  await world.clock.advance(1_000);
  assert.deepEqual(world.contexts[0].heard, [ben]);
  assert.equal(world.tried, 2);
  recorder.stop();
  assert.deepEqual([world.contexts[0].closed, world.contexts[0].heard, world.captured.readyState, world.clock.pending], [true, [], "ended", 0]);
});

test("a recording that does not begin leaves nothing behind, and is told", async () => {
  const { recorder, world } = scene({ broken: "no encoder" });
  recorder.start("x", null);
  assert.deepEqual(world.told, [null]);
  assert.deepEqual([world.contexts[0].closed, world.captured.readyState, recorder.elapsed, world.clock.pending], [true, "ended", null, 0]);
});

test("somebody whose level cannot be measured is not measured, and all others are", async () => {
  const [ann, ben] = [new FakeTrack("audio"), new FakeTrack("audio")];
  const { world, AudioContext } = scene({ deaf: [ann] });
  /** @type {Set<string>} */
  const told = new Set();
  const speaking = new Speaking({ AudioContext, clock: world.clock, on: (id, { speaking: is }) => is && told.add(id) });
  speaking.watch("ann", /** @type {any} */ (ann));
  speaking.watch("ben", /** @type {any} */ (ben));
  speaking.wake();
  for (let again = 0; again < 5; again += 1) speaking.watch("ann", /** @type {any} */ (ann));
  await world.clock.advance(500);
  assert.deepEqual([...told], ["ben"]);
  assert.equal(world.tried, 2);
  speaking.close();
  assert.equal(world.clock.pending, 0);
});

test("a recording is drawn at the pace of a worker, one tick at a time, and by the clock where its file does not come", async () => {
  const clock = new FakeClock();
  /** @type {any[]} */
  const made = [];
  const Worker = /** @type {any} */ (
    class {
      asked = 0;
      ended = false;
      onmessage = () => {};
      onerror = () => {};
      constructor(/** @type {URL} */ url) {
        made.push(Object.assign(this, { url }));
      }
      postMessage = () => (this.asked += 1);
      terminate = () => (this.ended = true);
    }
  );
  let runs = 0;
  const stop = pace({ Worker, clock }, 40, () => (runs += 1));
  const [worker] = made;
  assert.match(worker.url.href, /\/src\/room\/ticks\.js$/);
  worker.onmessage();
  worker.onmessage();
  assert.deepEqual([runs, worker.asked, clock.pending], [2, 3, 0]);
  worker.onerror();
  await clock.advance(400);
  assert.deepEqual([runs, worker.ended], [12, true]);
  stop();
  assert.equal(clock.pending, 0);
  const forbidden = /** @type {any} */ (
    class {
      constructor() {
        throw new Error("the policy");
      }
    }
  );
  pace({ Worker: forbidden, clock }, 40, () => (runs += 1))();
  assert.equal(clock.pending, 0);
});
