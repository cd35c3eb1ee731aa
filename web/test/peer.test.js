// The media path: offers, candidates in any order, first aid and its limits.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Peer } from "../sdk/peer.js";
import { FakeClock, fakeConnections, settled } from "./fakes.js";

function scene({ line = true, relayOnly = false } = {}) {
  const clock = new FakeClock();
  const connections = fakeConnections();
  /** @type {any[]} */
  const sent = [];
  /** @type {string[]} */
  const states = [];
  /** @type {any[]} */
  const streams = [];
  /** @type {any[]} */
  const seen = [];
  const wire = { up: line };
  const peer = new Peer({
    RTCPeerConnection: connections.RTCPeerConnection,
    clock,
    relayOnly,
    send: (message) => {
      if (wire.up) sent.push(message);
      return wire.up;
    },
    on: {
      state: (state) => states.push(state),
      track: ({ stream }) => streams.push(stream),
      answered: () => {},
      candidate: (side, candidate) => seen.push({ side, ...candidate }),
      note: () => {},
    },
  });
  const connected = async () => {
    peer.open([]);
    await settled();
    await peer.answer("answer");
    connections.last.become("connected");
  };
  return { clock, connections, sent, states, streams, seen, wire, peer, connected };
}

test("it offers one receiving audio line and trickles, null last", async () => {
  const { connections, sent, peer } = scene();
  peer.open([{ urls: "stun:x" }]);
  await settled();
  assert.deepEqual(connections.last.transceivers, [{ kind: "audio", direction: "recvonly" }]);
  assert.deepEqual(connections.last.configuration.iceServers, [{ urls: "stun:x" }]);
  const candidate = { candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: 0 };
  connections.last.onicecandidate?.({ candidate: { toJSON: () => candidate } });
  connections.last.onicecandidate?.({ candidate: null });
  assert.deepEqual(sent, [
    { type: "offer", sdp: "offer 1" },
    { type: "ice-candidate", candidate },
    { type: "ice-candidate", candidate: null },
  ]);
});

test("a restart that no relay has an address for fails at once where only a relay may be used", async () => {
  const relayed = { candidate: { toJSON: () => ({ candidate: "candidate:1 1 udp 1 192.0.2.1 5000 typ relay raddr 0.0.0.0 rport 0" }) } };
  for (const [relayOnly, answers, state] of /** @type {const} */ ([[true, false, "failed"], [true, true, "restarting"], [false, false, "restarting"]])) {
    const { connections, peer, connected } = scene({ relayOnly });
    peer.open([]);
    await settled();
    connections.last.onicecandidate?.(relayed);
    connections.last.onicecandidate?.({ candidate: null });
    await connected();
    const { last } = connections;
    if (relayOnly) last.onicecandidate?.(relayed);
    last.become("failed");
    await settled();
    assert.equal(peer.state, "restarting");
    if (answers) last.onicecandidate?.(relayed);
    last.onicecandidate?.({ candidate: null });
    assert.equal(peer.state, state);
  }
});

test("it keeps what it saw, for a verdict", async () => {
  const { clock, connections, seen, peer } = scene();
  peer.open([{ urls: "turn:r.example" }]);
  await settled();
  connections.last.gather("candidate:1 1 udp 1 198.18.0.1 2000 typ relay", { relayProtocol: "tcp" });
  connections.last.gather("candidate:2 1 tcp 1 192.0.2.9 9 typ host tcptype active");
  connections.last.onicecandidateerror?.({ errorCode: 701, url: "turn:r.example" });
  await peer.answer("v=0\r\na=candidate:1 1 udp 1 203.0.113.7 3479 typ host\r\n");
  peer.candidate({ candidate: "candidate:3 1 tcp 1 203.0.113.7 3479 typ host tcptype passive" });
  peer.candidate(null);
  connections.last.becomeIce("completed");
  for (let more = 0; more < 100; more += 1) peer.candidate({ candidate: `candidate:4 1 udp 1 203.0.113.7 ${more} typ host` });
  await clock.advance(15_000);
  assert.deepEqual(seen.slice(0, 4).map(({ side, type, protocol, tcpType }) => `${side} ${type} ${protocol} ${tcpType}`), [
    "local relay udp undefined",
    "local host tcp active",
    "remote host udp undefined",
    "remote host tcp passive",
  ]);
  const { local, remote, ...rest } = peer.evidence;
  assert.deepEqual([local.length, remote.length, local[0]?.relayProtocol], [2, 64, "tcp"]);
  assert.deepEqual(rest, { iceErrors: [{ code: 701, url: "turn:r.example" }], answered: true, ice: true, media: false, failure: "other" });
  peer.open([]);
  assert.equal(peer.evidence.local.length, 0, "the next one begins anew");
});

test("candidates that come before the answer wait for it", async () => {
  const { connections, peer } = scene();
  peer.open([]);
  await settled();
  peer.candidate({ candidate: "early" });
  assert.deepEqual(connections.last.candidates, []);
  await peer.answer("answer");
  peer.candidate({ candidate: "late" });
  peer.candidate(null);
  await settled();
  assert.deepEqual(connections.last.candidates, [{ candidate: "early" }, { candidate: "late" }, undefined]);
});

test("a path that stutters may come back by itself", async () => {
  const { clock, connections, sent, states, peer, connected } = scene();
  await connected();
  connections.last.become("disconnected");
  await clock.advance(2_000);
  connections.last.become("connected");
  await clock.advance(60_000);
  assert.deepEqual(states, ["connecting", "connected", "shaky", "connected"]);
  assert.equal(sent.filter(({ type }) => type === "offer").length, 1);
  assert.equal(peer.state, "connected");
});

test("a path that stays away gets an ICE restart, then it has failed", async () => {
  const { clock, connections, sent, states, connected } = scene();
  await connected();
  connections.last.become("disconnected");
  await clock.advance(3_000);
  assert.equal(connections.last.restarts, 1);
  assert.deepEqual(sent.at(-1), { type: "offer", sdp: "offer 2" });
  await clock.advance(6_000);
  assert.deepEqual(states, ["connecting", "connected", "shaky", "restarting", "failed"]);
  assert.equal(connections.last.closed, true);
});

test("a restart that helps keeps the connection", async () => {
  const { clock, connections, states, peer, connected } = scene();
  await connected();
  connections.last.become("failed");
  await settled();
  await peer.answer("answer 2");
  connections.last.become("connected");
  await clock.advance(60_000);
  assert.deepEqual(states, ["connecting", "connected", "restarting", "connected"]);
  assert.equal(connections.made.length, 1);
});

test("with the line down a restart cannot be asked for", async () => {
  const { clock, connections, wire, peer, connected } = scene();
  await connected();
  wire.up = false;
  connections.last.become("disconnected");
  await clock.advance(3_000);
  assert.equal(peer.state, "failed");
});

test("no path in time, no path at all, nonsense for an answer: all have failed", async () => {
  const late = scene();
  late.peer.open([]);
  await late.clock.advance(15_000);
  assert.equal(late.peer.state, "failed");

  const none = scene();
  none.peer.open([]);
  await settled();
  none.connections.last.become("failed");
  assert.equal(none.peer.state, "failed");

  const nonsense = scene();
  nonsense.peer.open([]);
  await settled();
  await nonsense.peer.answer("nonsense");
  assert.equal(nonsense.peer.state, "failed");
});

test("a browser that refuses the configuration is a failure, not an exception", () => {
  const { clock } = scene();
  const peer = new Peer({
    RTCPeerConnection: /** @type {any} */ (
      class {
        constructor() {
          throw new SyntaxError("bad url");
        }
      }
    ),
    clock,
    send: () => true,
    on: { state: () => {}, track: () => {}, answered: () => {}, candidate: () => {}, note: () => {} },
  });
  peer.open([]);
  assert.equal(peer.state, "failed");
});

test("what a browser says of a configuration, a description or a candidate is not passed on", async () => {
  const quote = () => {
    throw new SyntaxError("it says secret");
  };
  const { RTCPeerConnection, made } = fakeConnections();
  const refused = async (/** @type {string} */ method) => {
    /** @type {string[]} */
    const notes = [];
    const peer = new Peer({
      RTCPeerConnection: /** @type {any} */ (
        class extends /** @type {any} */ (RTCPeerConnection) {
          constructor(/** @type {any} */ configuration) {
            super(configuration);
            if (method === "constructor") quote();
            Object.assign(this, { [method]: method === "setConfiguration" ? quote : async () => quote() });
          }
        }
      ),
      clock: new FakeClock(),
      send: () => true,
      on: { state: () => {}, track: () => {}, answered: () => {}, candidate: () => {}, note: (text) => notes.push(text) },
    });
    peer.open([]);
    await settled();
    await peer.answer("answer");
    made.at(-1)?.become("connected");
    peer.configure([]);
    peer.candidate({ candidate: "candidate:1" });
    await settled();
    return notes.filter((note) => !note.startsWith("media"));
  };
  const steps = ["constructor", "createOffer", "setRemoteDescription", "setConfiguration", "addIceCandidate"];
  assert.deepEqual(await Promise.all(steps.map(refused)), [
    ["no connection could be made: SyntaxError"],
    ["no offer could be made: SyntaxError"],
    ["the answer was not understood: SyntaxError"],
    ["relay settings not taken: SyntaxError"],
    ["a candidate was not taken: SyntaxError"],
  ]);
});

test("fresh relay credentials restart ICE without leaving the path", async () => {
  const { connections, sent, states, peer, connected } = scene();
  await connected();
  peer.configure([{ urls: "turn:x", username: "u", credential: "c" }]);
  await settled();
  assert.equal(connections.last.configuration.iceServers[0].urls, "turn:x");
  assert.equal(connections.last.restarts, 1);
  assert.equal(sent.at(-1).type, "offer");
  assert.deepEqual(states, ["connecting", "connected"]);
});

test("a second offer waits for the answer to the first", async () => {
  const { connections, sent, peer, connected } = scene();
  await connected();
  peer.configure([{ urls: "stun:a" }]);
  await settled();
  peer.configure([{ urls: "stun:b" }]);
  await settled();
  assert.equal(sent.filter(({ type }) => type === "offer").length, 2);
  await peer.answer("answer 2");
  await settled();
  assert.equal(sent.filter(({ type }) => type === "offer").length, 3);
  assert.equal(connections.last.offers, 3);
});

test("an answer that nobody waits for is ignored", async () => {
  const { connections, peer, connected } = scene();
  await connected();
  await peer.answer("nonsense");
  assert.equal(peer.state, "connected");
  assert.equal(connections.last.remoteDescription.sdp, "answer");
});

test("an old connection is not heard any more", async () => {
  const { connections, streams, sent, peer, connected } = scene();
  await connected();
  const old = connections.last;
  const [track, candidate, moved] = [old.ontrack, old.onicecandidate, old.onconnectionstatechange];
  peer.open([]);
  await settled();
  const before = sent.length;
  track?.({ streams: [{}] });
  candidate?.({ candidate: null });
  old.connectionState = "failed";
  moved?.({});
  assert.equal(old.closed, true);
  assert.equal(sent.length, before);
  assert.deepEqual(streams, []);
  assert.equal(peer.state, "connecting");
});

test("hanging up and closing leave no timer behind", async () => {
  const { clock, connections, peer, connected } = scene();
  await connected();
  connections.last.become("disconnected");
  peer.hangUp();
  assert.equal(clock.pending, 0);
  peer.open([]);
  peer.close();
  assert.equal(clock.pending, 0);
  peer.open([]);
  peer.hangUp();
  assert.equal(peer.state, "closed");
});
