// Where the token comes from, and where it does not stay.

import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenStore, orDevToken } from "../src/token.js";

function scene({ hash = "", works = true } = {}) {
  const fakeStore = () => {
    /** @type {Map<string, string>} */
    const values = new Map();
    const check = () => {
      if (!works) throw new DOMException("no", "SecurityError");
    };
    return {
      values,
      getItem: (/** @type {string} */ key) => (check(), values.get(key) ?? null),
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => void (check(), values.set(key, value)),
      removeItem: (/** @type {string} */ key) => void (check(), values.delete(key)),
    };
  };
  const [tab, device] = [fakeStore(), fakeStore()];
  /** @type {unknown[]} */
  const shown = [];
  const history = { state: null, replaceState: (/** @type {unknown} */ _state, /** @type {string} */ _title, /** @type {unknown} */ url) => void shown.push(url) };
  const tokens = new TokenStore({ location: { hash, pathname: "/", search: "?a=1" }, history, tab, device });
  return { tokens, tab, device, shown };
}

test("a token in the address bar is taken out of it", () => {
  const { tokens, shown } = scene({ hash: "#token=a%2Bb%20" });
  assert.equal(tokens.take(), "a+b");
  assert.deepEqual(shown, ["/?a=1"]);
});

test("another hash is left alone", () => {
  const { tokens, shown } = scene({ hash: "#chapter" });
  assert.equal(tokens.take(), null);
  assert.deepEqual(shown, []);
});

test("this tab, then this device", () => {
  const { tokens, tab, device } = scene();
  tokens.keep("t", false);
  assert.deepEqual([[...tab.values.values()], [...device.values.values()]], [["t"], []]);
  assert.equal(tokens.remembered, false);
  tokens.keep("u", true);
  assert.equal(tokens.remembered, true);
  tokens.leave();
  assert.equal(tokens.take(), "u");
  tokens.forget();
  assert.equal(tokens.take(), null);
});

test("a browser without storage still works", () => {
  const { tokens } = scene({ works: false, hash: "#token=t" });
  assert.equal(tokens.take(), "t");
  tokens.keep("t", true);
  tokens.forget();
  assert.equal(tokens.remembered, false);
});

test("without a token there is devtoken on this very machine, and nothing elsewhere", () => {
  for (const host of ["localhost", "127.0.0.1", "127.8.9.10", "[::1]"]) assert.equal(orDevToken("", host), "devtoken", host);
  for (const host of ["voxcast.example", "127.0.0.1.example", "localhost.example", "192.168.0.7", "[::2]", ""]) assert.equal(orDevToken("", host), "", host);
  assert.equal(orDevToken("mine", "localhost"), "mine");
});
