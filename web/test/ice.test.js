// ICE servers: one list out of several that no browser throws at, and what a policy leaves of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { allowed, mergeIceServers, readIceUrl } from "../sdk/ice.js";

const login = { username: "u", credential: "c" };

test("URLs are read as RFC 7064 and 7065 write them", () => {
  /** @type {[string, string | null, ("udp" | "tcp" | null)?][]} */
  const cases = [
    ["stun:a.example", "stun:a.example:3478?udp", null],
    ["STUN:A.example:3478", "stun:a.example:3478?udp", null],
    ["stuns:a.example", "stuns:a.example:5349?tcp", null],
    ["turn:a.example", "turn:a.example:3478?udp", "udp"],
    ["turn:a.example:3478?transport=udp", "turn:a.example:3478?udp", "udp"],
    ["turn:a.example?transport=TCP", "turn:a.example:3478?tcp", "tcp"],
    ["turns:a.example:443?transport=tcp", "turns:a.example:443?tcp", "tcp"],
    ["turns:a.example", "turns:a.example:5349?tcp", "tcp"],
    ["turn:[2001:db8::1]:3479", "turn:[2001:db8::1]:3479?udp", "udp"],
    [" turn:a.example ", "turn:a.example:3478?udp", "udp"],
    ["stun:a.example?transport=udp", null],
    ["turn:a.example?transport=sctp", null],
    ["turn:a.example:0", null],
    ["turn:a.example:65536", null],
    ["turn:", null],
    ["turn://a.example", null],
    ["turn:user@a.example", null],
    ["http://a.example", null],
    ["", null],
  ];
  for (const [url, key, relay] of cases) {
    const read = readIceUrl(url);
    assert.equal(read?.key ?? null, key, url);
    if (read) assert.equal(read.relay, relay, url);
  }
});

test("default, caller's and server's make one list, each URL once", () => {
  const merged = mergeIceServers(
    [{ urls: "stun:a.example" }],
    [{ urls: ["stun:a.example:3478", "stun:b.example"] }, { urls: "turn:mine.example", ...login }],
    [{ urls: ["turn:r.example?transport=udp", "turn:r.example?transport=tcp"], username: "s", credential: "p" }, { urls: "stun:b.example" }],
  );
  assert.deepEqual(merged, [
    { urls: ["stun:a.example", "stun:b.example"] },
    { urls: ["turn:mine.example"], ...login },
    { urls: ["turn:r.example?transport=udp", "turn:r.example?transport=tcp"], username: "s", credential: "p" },
  ]);
});

test("the newest credentials of a URL win, and those without any never", () => {
  const old = { urls: "turn:r.example", ...login };
  const fresh = { urls: "turn:r.example:3478?transport=udp", username: "u", credential: "fresh" };
  const bare = { urls: "turn:r.example" };
  const expected = [{ urls: ["turn:r.example:3478?transport=udp"], username: "u", credential: "fresh" }];
  assert.deepEqual(mergeIceServers([old], [fresh]), expected);
  assert.deepEqual(mergeIceServers([bare, old], [fresh], [bare]), expected);
  assert.deepEqual(mergeIceServers([{ urls: "stun:s.example", ...login }], [{ urls: "stun:s.example" }]), [{ urls: ["stun:s.example"], ...login }]);
});

test("what a browser would throw at is left out", () => {
  const servers = [
    { urls: [] },
    { urls: ["nonsense", "stun:a.example?transport=udp"] },
    { urls: "turn:a.example" },
    { urls: "turn:a.example", username: "u" },
    { urls: "turn:a.example", username: "", credential: "" },
    { urls: "stun:a.example", username: null, credential: null },
  ];
  assert.deepEqual(mergeIceServers(servers), [{ urls: ["stun:a.example"] }]);
});

test("udp and tcp leave relays of that transport, everything else leaves all", () => {
  const servers = mergeIceServers([
    { urls: ["stun:a.example", "stuns:a.example"] },
    { urls: ["turn:r.example", "turn:r.example?transport=tcp", "turns:r.example"], ...login },
  ]);
  /** @param {any} policy */
  const urls = (policy) => allowed(servers, policy).flatMap((server) => server.urls);
  assert.deepEqual(urls("udp"), ["turn:r.example"]);
  assert.deepEqual(urls("tcp"), ["turn:r.example?transport=tcp", "turns:r.example"]);
  for (const policy of ["all", null]) assert.equal(urls(policy).length, 5);
  assert.deepEqual(allowed(mergeIceServers([{ urls: "stun:a.example" }]), "udp"), []);
});
