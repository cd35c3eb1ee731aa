// What a person reads in each state.

import assert from "node:assert/strict";
import { test } from "node:test";
import { amount, describe, elapsed, endWord, secondsUntil, why } from "../src/words.js";
import { VOICES } from "./fakes.js";

/** @param {Partial<import("../sdk/index.js").View>} changes */
const view = (changes) => ({ state: /** @type {const} */ ("idle"), voices: VOICES, wanted: null, once: false, retryAt: null, refusal: null, verdict: null, ...changes });
const direct = { path: /** @type {const} */ ("direct"), quietMs: 0 };

test("every state has a title, a sentence and a mood", () => {
  const states = /** @type {const} */ (["idle", "connecting", "connected", "streaming", "detached", "recovering", "reconnecting", "waiting", "refused", "closed"]);
  for (const state of states) {
    const words = describe(view({ state, refusal: { code: "odd", text: "Odd." } }), direct);
    assert.ok(words.title && words.detail && words.mood, state);
  }
});

test("the path is named", () => {
  assert.equal(describe(view({ state: "connected" }), direct).title, "Connected directly");
  assert.equal(describe(view({ state: "connected" }), { path: "relay", quietMs: 0 }).title, "Connected through a relay");
  assert.equal(describe(view({ state: "connected" }), { path: null, quietMs: 0 }).title, "Connected");
});

test("each refusal says what to do, an unknown one says what the server said", () => {
  /** @param {string} code */
  const refused = (code) => describe(view({ state: "refused", refusal: { code, text: "Said the server." } }), direct);
  assert.equal(refused("unauthorized").title, "Wrong token");
  assert.equal(refused("too_many_attempts").title, "Too many attempts");
  assert.deepEqual(refused("odd"), { title: "Refused by the server", detail: "Said the server.", mood: "bad" });
});

test("silence that should be sound is told", () => {
  assert.equal(describe(view({ state: "streaming", wanted: "sine-220" }), direct).title, "Streaming");
  assert.equal(describe(view({ state: "streaming", wanted: "sine-220" }), { path: "direct", quietMs: 3_000 }).title, "No sound arriving");
});

test("what comes back is named", () => {
  assert.match(describe(view({ state: "waiting", once: true, wanted: "sine-220" }), direct).detail, /Low Tone/);
  assert.equal(describe(view({ state: "waiting" }), direct).title, "Server unreachable");
});

test("why it does not connect is said until it does, and not twice", () => {
  /** @param {import("../sdk/index.js").VerdictCode} code */
  const verdict = (code) => ({ code, text: "Because.", next: { listener: "Do this.", operator: "Do that." } });
  const blocked = verdict("udp_blocked_no_tcp");
  for (const state of /** @type {const} */ (["connecting", "recovering", "reconnecting", "waiting"])) assert.equal(why(view({ state, verdict: blocked })), blocked);
  for (const state of /** @type {const} */ (["idle", "connected", "streaming", "detached", "closed"])) assert.equal(why(view({ state, verdict: blocked })), null);
  assert.equal(why(view({ state: "waiting" })), null);
  /** @param {import("../sdk/index.js").VerdictCode} code @param {"refused" | "waiting"} state */
  const refused = (code, state) => why(view({ state, refusal: { code, text: "x" }, verdict: verdict(code) }));
  assert.equal(refused("no_relay", "refused")?.code, "no_relay");
  assert.equal(refused("unauthorized", "refused"), null, "the title and the sentence under it say it");
  assert.equal(refused("over_capacity", "waiting"), null);
  const title = (/** @type {import("../sdk/index.js").VerdictCode} */ code, once = true) => describe(view({ state: "waiting", once, verdict: verdict(code) }), direct).title;
  assert.deepEqual(
    [title("udp_blocked_no_tcp"), title("path_lost"), title("server_unreachable"), title("server_unreachable", false), title("no_greeting", false)],
    ["Cannot connect", "Connection lost", "Connection lost", "Server unreachable", "Server is silent"],
  );
});

test("a full server is waited for", () => {
  const refusal = { code: "over_capacity", text: "Over capacity: the server is full" };
  for (const once of [false, true]) {
    const { title, mood } = describe(view({ state: "waiting", once, refusal }), direct);
    assert.deepEqual([title, mood], ["Server is full", "warn"]);
  }
});

test("so is the end of a lock-out", () => {
  const refusal = { code: "too_many_attempts", text: "x" };
  const { title, detail, mood } = describe(view({ state: "waiting", once: true, refusal }), direct);
  assert.deepEqual([title, mood], ["Too many attempts", "warn"]);
  assert.match(detail, /by itself/);
});

test("time in words", () => {
  assert.equal(secondsUntil(2_500, 1_000), 2);
  assert.equal(secondsUntil(500, 1_000), 0);
  assert.deepEqual([0, 59_999, 61_000, 3_723_000].map(elapsed), ["0:00", "0:59", "1:01", "1:02:03"]);
});

test("words for ends and amounts", () => {
  assert.equal(endWord({ type: "host", protocol: "udp", address: "192.0.2.1:3479", relayProtocol: null }), "host, udp, 192.0.2.1:3479");
  assert.equal(endWord({ type: "relay", protocol: "udp", address: "", relayProtocol: "tls" }), "relay, udp over tls");
  assert.equal(endWord({ type: "odd", protocol: "tcp", address: "", relayProtocol: null }), "odd, tcp");
  assert.equal(amount(null, "ms"), "–");
  assert.equal(amount(12.34, "%", 1), "12.3 %");
});
