// The retry policy: exponential, full jitter, bounded.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Retry, lockedMs } from "../sdk/retry.js";

test("the widest wait doubles until its bound", () => {
  const retry = new Retry({ random: () => 1, first: 100, longest: 1000 });
  assert.deepEqual(Array.from({ length: 6 }, () => retry.next()), [100, 200, 400, 800, 1000, 1000]);
});

test("jitter covers the whole span, down to at once", () => {
  const low = new Retry({ random: () => 0 });
  assert.equal(low.next(), 0);
  const half = new Retry({ random: () => 0.5, first: 100, longest: 1000 });
  assert.deepEqual([half.next(), half.next()], [50, 100]);
});

test("it stays bounded for ever and a reset begins anew", () => {
  const retry = new Retry({ random: () => 1 });
  for (let attempt = 0; attempt < 5_000; attempt += 1) assert.ok(retry.next() <= 15_000);
  retry.reset();
  assert.equal(retry.next(), 500);
});

test("a lock-out lasts as long as the server says, and a minute at most", () => {
  const texts = ["Too many attempts: try again in 7 s", "Too many attempts: try again in 900 s", "Slow down"];
  assert.deepEqual(texts.map(lockedMs), [7_000, 60_000, 60_000]);
});
