// Listeners by name: what came before them is kept, in order and within bounds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Events } from "../sdk/events.js";

/** @returns {Events<{ a: number, b: number, now: number }>} */
const events = () => new Events(["now"]);

test("what came before the first listener is delivered to it, once and in order", () => {
  const made = events();
  for (const at of [1, 2, 3]) made.emit("a", at);
  made.emit("b", 9);
  /** @type {[number[], number[]]} */
  const [first, second] = [[], []];
  made.on("a", (at) => first.push(at));
  made.on("a", (at) => second.push(at));
  made.emit("a", 4);
  assert.deepEqual([first, second], [[1, 2, 3, 4], [4]]);
});

test("no more than 256 are kept, the newest", () => {
  const made = events();
  for (let at = 0; at < 300; at += 1) made.emit("a", at);
  /** @type {number[]} */
  const heard = [];
  made.on("a", (at) => heard.push(at));
  assert.deepEqual([heard.length, heard[0], heard.at(-1)], [256, 44, 299]);
});

test("fleeting events are not kept, nor any after the first listener", () => {
  const made = events();
  /** @type {number[]} */
  const heard = [];
  const listen = (/** @type {number} */ at) => heard.push(at);
  made.emit("now", 1);
  made.on("now", listen);
  made.on("a", listen);
  made.off("a", listen);
  made.emit("a", 2);
  made.on("a", listen);
  assert.deepEqual(heard, []);
});

test("what is emitted while the kept ones are delivered comes after them", () => {
  const made = events();
  for (const at of [1, 2]) made.emit("a", at);
  /** @type {number[]} */
  const heard = [];
  made.on("a", (at) => {
    heard.push(at);
    if (at === 1) made.emit("a", 3);
  });
  assert.deepEqual(heard, [1, 2, 3]);
});

test("a listener that ends itself hears no more, and the rest is for the next", () => {
  const made = events();
  for (const at of [1, 2, 3]) made.emit("a", at);
  /** @type {number[]} */
  const heard = [];
  const once = (/** @type {number} */ at) => {
    heard.push(at);
    made.off("a", once);
  };
  made.on("a", once);
  assert.deepEqual(heard, [1]);
  made.on("a", (at) => heard.push(at * 10));
  assert.deepEqual(heard, [1, 20, 30]);
});

test("one listener's fault does not keep the others from hearing", async () => {
  const made = events();
  /** @type {unknown[]} */
  const uncaught = [];
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (fault) => uncaught.push(fault));
  /** @type {number[]} */
  const heard = [];
  made.on("a", () => {
    throw new Error("mine");
  });
  made.on("a", (at) => heard.push(at));
  made.emit("a", 1);
  await new Promise((done) => setImmediate(done));
  process.removeAllListeners("uncaughtException");
  for (const other of others) process.on("uncaughtException", other);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(uncaught.map(String), ["Error: mine"]);
});

test("clear forgets listeners and what was kept", () => {
  const made = events();
  made.emit("a", 1);
  made.clear();
  made.on("a", () => assert.fail("it was forgotten"));
});
