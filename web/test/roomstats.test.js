// Figures of a connection between two browsers: rates by deltas, the way in words, and a plain verdict.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RoomStats, blank, digestPeer, judge, words } from "../sdk/roomstats.js";
import { FakeClock } from "./fakes.js";

/** @param {object} [audio] @param {object} [more] */
function rows(audio = {}, more = {}) {
  return new Map(
    Object.entries({
      T: { type: "transport", selectedCandidatePairId: "P" },
      P: { type: "candidate-pair", localCandidateId: "L", remoteCandidateId: "R", currentRoundTripTime: 0.02 },
      L: { type: "local-candidate", candidateType: "host", protocol: "udp", address: "192.168.1.2", port: 5000 },
      R: { type: "remote-candidate", candidateType: "host", protocol: "udp", address: "192.168.1.3", port: 5001 },
      A: { type: "inbound-rtp", kind: "audio", bytesReceived: 1_000, packetsReceived: 100, packetsLost: 0, jitter: 0.004, audioLevel: 0.5, ...audio },
      V: { type: "inbound-rtp", kind: "video", bytesReceived: 9_000, packetsReceived: 100, packetsLost: 2, framesReceived: 30, frameWidth: 1280, frameHeight: 720, framesPerSecond: 29 },
      O: { type: "outbound-rtp", kind: "video", bytesSent: 5_000, framesSent: 0, frameWidth: 640, frameHeight: 480 },
      F: { type: "remote-inbound-rtp", kind: "video", fractionLost: 0.05 },
      ...more,
    }),
  );
}

test("rates are of the time since the last report, both ways, all kinds together", () => {
  const first = digestPeer(rows(), null, 0);
  assert.deepEqual([first.report.kbpsIn, first.report.kbpsOut, first.report.lossPercent], [null, null, null]);
  const later = { O: { type: "outbound-rtp", kind: "video", bytesSent: 25_000, framesSent: 10, frameWidth: 640, frameHeight: 480 } };
  const { report, counts } = digestPeer(rows({ bytesReceived: 11_000, packetsReceived: 190, packetsLost: 10 }, later), first.counts, 1_000);
  assert.deepEqual([report.kbpsIn, report.kbpsOut, report.lossPercent], [80, 160, 10]);
  assert.deepEqual(report.video, { in: { width: 1280, height: 720, fps: 29 }, out: { width: 640, height: 480, fps: 0 } });
  assert.deepEqual([report.rttMs, report.jitterMs, report.audioLevel, report.lossOutPercent], [20, 4, 0.5, 5]);
  const soon = digestPeer(rows({ bytesReceived: 99_000 }, later), counts, 1_100);
  assert.equal(soon.report.kbpsIn, 80, "who asks again at once is told the same");
  const back = digestPeer(rows({ bytesReceived: 0 }, later), soon.counts, 2_000);
  assert.equal(back.report.kbpsIn, 0, "counters that step back are no rate");
});

test("what is missing is null", () => {
  assert.deepEqual(digestPeer(new Map(), null, 0).report, blank());
  assert.equal(digestPeer(rows(), null, 0).report.video.out, null, "nothing was sent yet");
});

test("the way in words", () => {
  const end = (/** @type {string} */ type, address = "10.0.0.1:5000", protocol = "udp", relayProtocol = null) => ({ type, address, protocol, relayProtocol });
  /** @type {[any, any, string][]} */
  const ways = [
    [end("host"), end("host"), "direct in the LAN"],
    [end("host", ""), end("host", ""), "direct in the LAN"],
    [end("host", ""), end("prflx", ""), "direct"],
    [end("host", "127.0.0.1:1"), end("host", "x.local:9"), "direct in the LAN"],
    [end("host", "[2001:db8::1]:5000"), end("host", "[2001:db8::2]:5000"), "direct"],
    [end("host", "[2001:db8::1]:5000"), end("host", "[fd00::2]:5000"), "direct in the LAN"],
    [end("host"), end("prflx", "203.0.113.1:5"), "through NAT"],
    [end("srflx", "203.0.113.1:5"), end("host"), "through NAT"],
    [end("prflx", "10.0.0.2:5", "tcp"), end("host", "10.0.0.1:9", "tcp"), "direct in the LAN by TCP"],
    [end("relay", "198.18.0.1:1024", "udp", /** @type {any} */ ("tls")), end("relay"), "relayed over TLS"],
    [end("relay", "198.18.0.1:1024", "udp", /** @type {any} */ ("tcp")), end("host"), "relayed over TCP"],
    [end("relay"), end("host"), "relayed over UDP"],
    [end("host"), end("relay"), "relayed at the other side"],
  ];
  for (const [local, remote, text] of ways) assert.equal(words({ local, remote }), text);
  assert.equal(words(null), "");
});

test("a verdict says what is wrong, and why", () => {
  const figures = digestPeer(rows({}, { F: { type: "x" } }), null, 0).report;
  const rate = (/** @type {object} */ changes) => judge("connected", { ...figures, ...changes });
  assert.deepEqual(rate({}), { rating: "good", text: "All arrives, and in time." });
  assert.deepEqual(rate({ rttMs: 250 }), { rating: "fair", text: "It takes 250 ms there and back." });
  assert.deepEqual(rate({ lossPercent: 12, jitterMs: 40 }), { rating: "poor", text: "12 % of what they send is lost, it arrives unevenly, by 40 ms." });
  assert.equal(rate({ lossOutPercent: 9, rttMs: 250 }).rating, "poor");
  assert.equal(judge("connected", null).rating, "none");
  for (const state of /** @type {const} */ (["connecting", "failed", "closed"])) assert.equal(judge(state, figures).rating, "none");
  for (const state of /** @type {const} */ (["shaky", "restarting"])) assert.equal(judge(state, figures).rating, "poor");
});

test("a report of the room is plain, and comes each second while it is wanted", async () => {
  const clock = new FakeClock();
  const connection = { getStats: async () => rows() };
  const peers = new Map(/** @type {any[]} */ ([["bob", { id: "bob", state: "connected", connection }], ["cid", { id: "cid", state: "connecting", connection: null }]]));
  /** @type {any[]} */
  const told = [];
  const stats = new RoomStats({ clock, room: /** @type {any} */ ({ room: "blue", user: "ann", peers }), on: (report) => told.push(report) });
  const report = await stats.read();
  assert.deepEqual(JSON.parse(JSON.stringify(report)), report);
  assert.deepEqual([report.room, report.user, report.peers.map(({ peer, state, words: way }) => [peer, state, way])], ["blue", "ann", [["bob", "connected", "direct in the LAN"], ["cid", "connecting", ""]]]);
  stats.start();
  stats.start();
  await clock.advance(3_000);
  assert.equal(told.length, 4);
  assert.deepEqual(told[1].peers[0].kbpsIn, 0);
  stats.stop();
  await clock.advance(3_000);
  assert.equal(told.length, 4);
  assert.equal(clock.pending, 0);
});
