// Why it cannot connect: each kind of evidence, the verdict on it, and steps that name what can be done.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { candidatesOf, readCandidate, reachOf } from "../sdk/candidate.js";
import { explain } from "../sdk/index.js";

/** @typedef {import("../sdk/index.js").Evidence} Evidence */
/** @typedef {import("../sdk/index.js").Candidate} Candidate */

/** @param {string} text type, protocol, address and port, and how a relay is reached @returns {Candidate} */
const candidate = (text) => {
  const [type, protocol, address = "", port, relayProtocol] = text.split(" ");
  return /** @type {Candidate} */ ({ type, protocol, address, port: Number(port), ...(relayProtocol && { relayProtocol }) });
};

/** A network that lets nothing through, of a client that did everything right. @type {Evidence} */
const STUCK = {
  host: "voxcast.example",
  policy: null,
  line: "greeted",
  refusal: null,
  iceUrls: ["turn:203.0.113.7:3478?transport=udp"],
  local: [candidate("host udp abc.local 50000"), candidate("host tcp abc.local 9")],
  remote: [candidate("host udp 203.0.113.7 3479")],
  iceErrors: [],
  answered: true,
  ice: false,
  media: false,
  failure: "other",
};
const OPEN_TCP = candidate("host tcp 203.0.113.7 3479");
const RELAY_ONLY = { policy: /** @type {const} */ ("tcp"), iceUrls: ["turn:203.0.113.7:3478?transport=tcp"], local: [] };

/** @type {[name: string, changes: Partial<Evidence>, code: string, text: RegExp, step: RegExp][]} */
const TABLE = [
  ["the socket never opened", { line: "never" }, "server_unreachable", /could not be reached/, /it runs.*port.*ALLOWED_ORIGINS/],
  ["the server said nothing", { line: "opened" }, "no_greeting", /did not greet/, /stuck/],
  ["a wrong token", { refusal: { code: "unauthorized", text: "Bad token" } }, "unauthorized", /did not accept this token/, /AUTH_TOKEN/],
  ["too many of them", { refusal: { code: "too_many_attempts", text: "x" } }, "too_many_attempts", /too often/, /Wait a minute/],
  ["no relay, says the server", { refusal: { code: "no_relay", text: "x" } }, "no_relay", /Only a relay/, /RELAY.*TURN_URLS/],
  ["other ports", { refusal: { code: "bad_port_range", text: "x" } }, "bad_port_range", /ports/, /RTP_PORT_RANGE/],
  ["another model", { refusal: { code: "unknown_model", text: "x" } }, "unknown_model", /no such model/, /echo/],
  ["a full server", { refusal: { code: "over_capacity", text: "x" } }, "over_capacity", /Every place/, /MAX_SESSIONS/],
  ["an unknown refusal", { refusal: { code: "constructor", text: "Not today" } }, "refused", /Not today/, /log/],
  ["a browser without WebRTC", { failure: "unsupported", answered: false }, "unsupported", /no WebRTC/, /ICE servers/],
  ["an answer that nobody understands", { failure: "bad_answer", answered: false }, "bad_answer", /not understood/, /version/],
  ["no answer", { answered: false }, "no_answer", /did not answer the offer/, /log/],
  ["a path that broke", { ice: true, media: true }, "path_lost", /broke/, /tried again/],
  ["DTLS failed", { ice: true }, "dtls_failed", /handshake/, /1200/],
  ["relay only, and none named", { ...RELAY_ONLY, iceUrls: [], answered: false }, "no_relay", /Only a relay/, /TURN_URLS/],
  [
    "a relay that refuses",
    { ...RELAY_ONLY, iceErrors: [{ code: 701, url: "turn:a" }, { code: 401, url: "turn:203.0.113.7:3478?transport=tcp" }] },
    "relay_refused",
    /\(401\)/,
    /credentials/,
  ],
  ["a relay whose quota is used up", { ...RELAY_ONLY, iceErrors: [{ code: 486, url: "turn:203.0.113.7" }] }, "relay_refused", /\(486\)/, /quota/],
  ["a relay that is silent", { ...RELAY_ONLY, iceErrors: [{ code: 701, url: "turn:203.0.113.7?transport=tcp" }] }, "relay_unreachable", /over TCP.*could not/, /TURNS_PORT/],
  ["one that is silent by UDP", { ...RELAY_ONLY, policy: "udp" }, "relay_unreachable", /over UDP/, /\(RELAY_PORT\)/],
  ["a line that drops while the relay is asked", { ...RELAY_ONLY, answered: false, failure: null }, "no_answer", /did not answer the offer/, /log/],
  ["a relay that leads nowhere", { ...RELAY_ONLY, local: [candidate("relay udp 198.18.0.1 2000 tcp")] }, "relay_dead", /nothing came back/, /UDP 203\.0\.113\.7:3479/],
  ["a relay to a server without an address", { ...RELAY_ONLY, local: [candidate("relay udp 198.18.0.1 2000 tcp")], remote: [] }, "no_server_candidates", /no address/, /PUBLIC_IP/],
  ["a browser that hides everything", { local: [] }, "no_local_candidates", /no network/, /extensions/],
  ["a server without an address", { remote: [] }, "no_server_candidates", /no address/, /HOST/],
  ["a server that names itself only", { remote: [candidate("host udp 127.0.0.1 3479"), candidate("host tcp ::1 3479")] }, "server_hidden", /own machine/, /PUBLIC_IP/],
  ["or a name of its own network", { remote: [candidate("host udp abc.local 3479")] }, "server_hidden", /own machine/, /PUBLIC_IP/],
  ["the same, on its own machine", { host: "localhost", remote: [candidate("host udp 127.0.0.1 3479")] }, "udp_blocked_no_tcp", /UDP/, /3479/],
  [
    "a tunnel: HTTP works, private addresses, no relay",
    { iceUrls: [], remote: [candidate("host udp 192.168.1.5 3479"), candidate("host tcp 192.168.1.5 3479")] },
    "server_behind_nat",
    /behind a NAT/,
    /Forward UDP and TCP 3479 .* PUBLIC_IP.*TURN_URLS/,
  ],
  ["the same in its own network", { host: "192.168.1.5", remote: [candidate("host udp 192.168.1.5 3479")] }, "udp_blocked_no_tcp", /UDP/, /3479/],
  ["UDP blocked, no TCP offered", {}, "udp_blocked_no_tcp", /^UDP is blocked here and the server offered no TCP path\.$/, /TURNS_PORT/],
  ["UDP blocked, TCP too", { remote: [...STUCK.remote, OPEN_TCP] }, "udp_blocked_tcp_failed", /^UDP is blocked here, and the TCP path failed too\.$/, /443/],
  ["UDP blocked, a relay by TCP too", { iceUrls: [...STUCK.iceUrls, "turns:203.0.113.7"] }, "udp_blocked_tcp_failed", /TCP path failed/, /443/],
  ["nobody was asked by UDP", { iceUrls: [] }, "udp_blocked_no_tcp", /^UDP does not get through to the server and/, /3479/],
  ["UDP works, as STUN shows", { local: [...STUCK.local, candidate("srflx udp 198.51.100.9 50000")] }, "media_port_closed", /UDP works here/, /UDP and TCP 3479/],
  ["UDP works, as a relay shows", { local: [...STUCK.local, candidate("relay udp 203.0.113.9 50000 udp")] }, "media_port_closed", /UDP works here/, /firewall/],
  ["a relay by TCP shows nothing about UDP", { local: [...STUCK.local, candidate("relay udp 203.0.113.9 50000 tcp")] }, "udp_blocked_no_tcp", /UDP/, /3479/],
];

for (const [name, changes, code, text, step] of TABLE) {
  test(`verdict: ${name}`, () => {
    const verdict = explain({ ...STUCK, ...changes });
    assert.equal(verdict.code, code);
    assert.match(verdict.text, text);
    assert.match(verdict.next.operator, step);
    for (const sentence of [verdict.text, verdict.next.listener, verdict.next.operator]) assert.match(sentence, /^[A-Z].*[.]$/, sentence);
    // Whoever listens is not asked to set variables of a server.
    assert.doesNotMatch(verdict.next.listener, /[A-Z]+_[A-Z]+/);
  });
}

test("every verdict that there is stands in the table", () => {
  const source = readFileSync(new URL("../sdk/index.d.ts", import.meta.url), "utf8");
  const declared = [...(/VerdictCode =([^;]*);/.exec(source)?.[1] ?? "").matchAll(/"(\w+)"/g)].map(([, code]) => code);
  assert.deepEqual([...new Set(TABLE.map(([, , code]) => code))].sort(), declared.sort());
});

test("candidates are read as RFC 8839 writes them", () => {
  assert.deepEqual(readCandidate("candidate:1 1 udp 2130706175 192.0.2.1 3479 typ host"), { type: "host", protocol: "udp", address: "192.0.2.1", port: 3479 });
  assert.deepEqual(readCandidate("candidate:2 1 TCP 1 2001:db8::1 3479 typ host tcptype passive ufrag x"), {
    type: "host",
    protocol: "tcp",
    address: "2001:db8::1",
    port: 3479,
    tcpType: "passive",
  });
  for (const text of ["", null, undefined, "candidate:1 2 udp 1 192.0.2.1 3479 typ host", "candidate:1 1 sctp 1 a 1 typ host", "candidate:1 1 udp 1 a 1 typ odd", "x"]) {
    assert.equal(readCandidate(text), null, String(text));
  }
  const sdp = "v=0\r\na=candidate:1 1 udp 1 192.0.2.1 3479 typ host\r\na=candidate:x\r\na=mid:0\r\n";
  assert.deepEqual(candidatesOf(sdp).map(({ port }) => port), [3479]);
});

test("who reaches an address", () => {
  const groups = {
    machine: ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "0.0.0.0", "::", "::ffff:127.0.0.1", "a.localhost"],
    network: ["10.1.2.3", "172.16.0.1", "172.31.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "100.127.0.1", "fd00::1", "fe80::1", "[fc00::1]", "abc.local"],
    anybody: ["8.8.8.8", "172.32.0.1", "172.15.0.1", "100.63.0.1", "100.128.0.1", "2001:db8::1", "a.example", "10.example.org", "local"],
  };
  for (const [reach, addresses] of Object.entries(groups)) for (const address of addresses) assert.equal(reachOf(address), reach, address);
});
