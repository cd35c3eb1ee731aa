// getStats in numbers: the selected pair and no other, deltas, and what browsers leave out.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Stats, digest } from "../sdk/stats.js";
import { FakeClock } from "./fakes.js";

/** @param {Record<string, object>} rows */
const report = (rows) => new Map(Object.entries(rows));

/** @param {object} [inbound] @param {object} [local] */
function rows(inbound = {}, local = {}) {
  return report({
    T: { type: "transport", selectedCandidatePairId: "P2" },
    P1: { type: "candidate-pair", state: "succeeded", localCandidateId: "R", remoteCandidateId: "S", currentRoundTripTime: 9 },
    P2: { type: "candidate-pair", state: "succeeded", localCandidateId: "L", remoteCandidateId: "S", currentRoundTripTime: 0.0123 },
    L: { type: "local-candidate", candidateType: "prflx", protocol: "udp", address: "2001:db8::1", port: 5000, ...local },
    R: { type: "local-candidate", candidateType: "relay", protocol: "udp", address: "198.18.0.1", port: 1, relayProtocol: "tcp" },
    S: { type: "remote-candidate", candidateType: "host", protocol: "udp", address: "192.0.2.1", port: 3479 },
    V: { type: "inbound-rtp", kind: "video", packetsReceived: 9_999 },
    I: { type: "inbound-rtp", kind: "audio", packetsReceived: 100, bytesReceived: 16_000, packetsLost: 0, jitter: 0.002, codecId: "C", ...inbound },
    C: { type: "codec", mimeType: "audio/opus", clockRate: 48_000 },
  });
}

test("only the selected pair decides what the path is", () => {
  const { report } = digest(rows(), null, 0);
  assert.equal(report.path, "direct");
  assert.equal(report.rttMs, 12.3);
  assert.deepEqual(report.pair?.local, { type: "prflx", protocol: "udp", address: "[2001:db8::1]:5000", relayProtocol: null });
  assert.deepEqual(report.pair?.remote, { type: "host", protocol: "udp", address: "192.0.2.1:3479", relayProtocol: null });
  assert.equal(digest(rows({}, { candidateType: "relay" }), null, 0).report.path, "relay");
  assert.equal(report.codec, "opus 48 kHz");
});

test("candidates are counted by kind", () => {
  const { report } = digest(rows(), null, 0);
  assert.deepEqual(report.localCandidates, ["prflx udp", "relay udp"]);
  const twice = rows();
  twice.set("S2", { type: "remote-candidate", candidateType: "host", protocol: "udp" });
  assert.deepEqual(digest(twice, null, 0).report.remoteCandidates, ["host udp ×2"]);
});

test("a browser that marks the pair itself is understood", () => {
  const firefox = rows();
  firefox.delete("T");
  assert.equal(digest(firefox, null, 0).report.path, null);
  firefox.set("P2", { ...firefox.get("P2"), selected: true });
  assert.equal(digest(firefox, null, 0).report.path, "direct");
});

test("bitrate and loss are of the last interval", () => {
  const first = digest(rows(), null, 1_000);
  assert.equal(first.report.kbps, null);
  assert.equal(first.report.lossPercent, null);
  const second = digest(rows({ packetsReceived: 145, bytesReceived: 24_000, packetsLost: 5 }), first.counts, 2_000);
  assert.equal(second.report.kbps, 64);
  assert.equal(second.report.lossPercent, 10);
  const third = digest(rows({ packetsReceived: 145, bytesReceived: 24_000, packetsLost: 5 }), second.counts, 3_000);
  assert.equal(third.report.kbps, 0);
  assert.equal(third.report.lossPercent, null, "nothing was expected");
});

test("a late packet that mends a loss is not a negative loss", () => {
  const first = digest(rows({ packetsLost: 5 }), null, 0);
  const second = digest(rows({ packetsReceived: 150, packetsLost: 3 }), first.counts, 1_000);
  assert.equal(second.report.lossPercent, 0);
});

test("it knows since when no packet has come", () => {
  const first = digest(rows(), null, 1_000);
  const second = digest(rows(), first.counts, 4_000);
  assert.equal(second.report.quietMs, 3_000);
  assert.equal(digest(rows({ packetsReceived: 101 }), second.counts, 5_000).report.quietMs, 0);
});

test("an empty report is no surprise", () => {
  const { report: empty } = digest(new Map(), null, 0);
  assert.deepEqual([empty.path, empty.rttMs, empty.jitterMs, empty.codec, empty.packets], [null, null, null, null, 0]);
});

test("it asks each second, counts anew for a new connection, and stops when told", async () => {
  const clock = new FakeClock();
  /** @type {import("../sdk/index.js").Report[]} */
  const reports = [];
  const fake = () => /** @type {RTCPeerConnection} */ (/** @type {unknown} */ ({ getStats: async () => rows() }));
  let connection = fake();
  const stats = new Stats({ clock, connection: () => connection, on: (one) => reports.push(one) });
  stats.start();
  stats.start();
  await clock.advance(2_000);
  assert.equal(reports.length, 3);
  assert.equal(reports[2]?.kbps, 0);
  connection = fake();
  await clock.advance(1_000);
  assert.equal(reports[3]?.kbps, null);
  connection = /** @type {RTCPeerConnection} */ (/** @type {unknown} */ ({ getStats: () => Promise.reject(new Error("closed")) }));
  await clock.advance(1_000);
  assert.equal(reports.length, 4);
  stats.close();
  await clock.advance(10_000);
  assert.equal(reports.length, 4);
  assert.equal(clock.pending, 0);
});
