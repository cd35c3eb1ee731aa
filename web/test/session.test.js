// Line and path together: what a person wants survives every loss, and what the client says keeps the contract.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Session } from "../sdk/session.js";
import { FakeClock, error, fakeConnections, fakeSockets, helloAck, settled } from "./fakes.js";

function scene() {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const connections = fakeConnections();
  /** @type {string[]} */
  const states = [];
  /** @type {string[]} */
  const notices = [];
  const session = new Session({
    url: "ws://server/ws",
    WebSocket: sockets.WebSocket,
    RTCPeerConnection: connections.RTCPeerConnection,
    clock,
    random: () => 1,
    on: {
      change: ({ state }) => {
        if (states.at(-1) !== state) states.push(state);
      },
      phase: () => {},
      candidate: () => {},
      track: () => {},
      failed: () => {},
      fault: () => {},
      message: () => {},
      note: () => {},
      notice: (text) => notices.push(text),
    },
  });
  /** @param {object} [ack] */
  const greet = async (ack) => {
    sockets.last.open();
    sockets.last.say(helloAck(ack));
    await settled();
  };
  const answer = async () => {
    sockets.last.say({ type: "answer", sdp: "answer" });
    await settled();
    connections.last.become("connected");
    await settled();
  };
  const connected = async () => {
    session.connect({ token: "t" });
    await greet();
    await answer();
  };
  return { clock, sockets, connections, states, notices, session, greet, answer, connected };
}

test("connect, start, switch, stop: one message each", async () => {
  const { sockets, states, session, connected } = scene();
  await connected();
  assert.equal(session.view.voices.length, 2);
  session.start("sine-220");
  session.start("sine-220");
  session.start("sine-440");
  session.stop();
  session.stop();
  assert.deepEqual(sockets.last.sent.slice(2), [
    { type: "start", voice_id: "sine-220" },
    { type: "start", voice_id: "sine-440" },
    { type: "stop" },
  ]);
  assert.deepEqual(states, ["connecting", "connected", "streaming", "connected"]);
});

test("start before there is a path plays as soon as there is one", async () => {
  const { sockets, session, greet, answer } = scene();
  session.connect({ token: "t" });
  session.start("sine-440");
  await greet();
  assert.equal(sockets.last.all("start").length, 0);
  await answer();
  assert.deepEqual(sockets.last.all("start"), [{ type: "start", voice_id: "sine-440" }]);
  assert.equal(session.view.state, "streaming");
});

test("a dropped line with living media is resumed, and what is wanted is said again", async () => {
  const { clock, sockets, connections, states, session, greet, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.drop();
  assert.equal(session.view.state, "detached");
  await clock.advance(500);
  await greet({ resumed: true });
  assert.deepEqual(sockets.last.sent, [
    { type: "hello", token: "t", session: "a".repeat(32) },
    { type: "start", voice_id: "sine-220" },
  ]);
  assert.equal(connections.made.length, 1);
  assert.deepEqual(states, ["connecting", "connected", "streaming", "detached", "streaming"]);
});

test("a lock-out of the address leaves what plays alone", async () => {
  const { clock, sockets, connections, session, greet, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.drop();
  await clock.advance(500);
  sockets.last.open();
  sockets.last.say(error("too_many_attempts", "Too many attempts: try again in 5 s"));
  assert.deepEqual([session.view.state, session.view.wanted], ["detached", "sine-220"]);
  assert.equal(connections.last.closed, false);
  await clock.advance(7_000);
  await greet({ resumed: true });
  assert.deepEqual([session.view.state, session.view.refusal], ["streaming", null]);
});

test("what a person wished while the line was down is said when it is back", async () => {
  const { clock, sockets, session, greet, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.drop();
  session.start("sine-440");
  await clock.advance(500);
  await greet({ resumed: true });
  assert.deepEqual(sockets.last.all("start"), [{ type: "start", voice_id: "sine-440" }]);
  sockets.last.drop();
  session.stop();
  await clock.advance(500);
  await greet({ resumed: true });
  assert.deepEqual(sockets.last.all("stop"), [{ type: "stop" }]);
});

test("a word that went into a dying socket is said again", async () => {
  const { clock, sockets, session, greet, connected } = scene();
  /** Nothing of it arrives, and the browser does not know. @param {() => void} wish */
  const wishWhileDying = async (wish) => {
    wish();
    session.nudge();
    await clock.advance(4_000);
    assert.equal(session.view.state, "detached");
    await clock.advance(500);
    await greet({ resumed: true });
  };
  await connected();
  session.start("sine-220");
  await wishWhileDying(() => session.stop());
  assert.deepEqual(sockets.last.sent.slice(1), [{ type: "stop" }]);
  assert.equal(session.view.state, "connected");
  await wishWhileDying(() => session.start("sine-440"));
  assert.deepEqual(sockets.last.sent.slice(1), [{ type: "start", voice_id: "sine-440" }]);
  assert.equal(session.view.state, "streaming");
});

test("a stop into a dying socket is said again over a new connection", async () => {
  const { clock, sockets, connections, session, greet, answer, connected } = scene();
  await connected();
  session.start("sine-220");
  session.stop();
  sockets.last.drop();
  connections.last.become("failed");
  await clock.advance(500);
  await greet({ resumed: true });
  await answer();
  assert.equal(connections.made.length, 2);
  assert.deepEqual(sockets.last.all("stop"), [{ type: "stop" }]);
  assert.equal(session.view.state, "connected");
});

test("a stop while the path is rebuilt is said when it stands", async () => {
  const { clock, sockets, session, answer, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.say(error("no_session", "No WebRTC session"));
  session.stop();
  await clock.advance(500);
  await answer();
  assert.deepEqual(sockets.last.all("stop"), [{ type: "stop" }]);
  assert.equal(session.view.state, "connected");
});

test("a full server is told of and waited for", async () => {
  const { clock, sockets, states, notices, session, greet, answer } = scene();
  session.connect({ token: "t" });
  session.start("sine-220");
  sockets.last.open();
  sockets.last.say(error("over_capacity", "Over capacity: the server is full"));
  assert.equal(session.view.state, "waiting");
  assert.deepEqual(session.view.refusal, { code: "over_capacity", text: "Over capacity: the server is full" });
  assert.deepEqual(notices, ["Over capacity: the server is full"]);
  assert.equal(session.view.wanted, "sine-220");
  await clock.advance(5_500);
  await greet();
  await answer();
  assert.equal(session.view.refusal, null);
  assert.deepEqual(states, ["connecting", "waiting", "connecting", "streaming"]);
});

test("a server that forgot us gets a new connection and the same wish", async () => {
  const { clock, sockets, connections, states, session, greet, answer, connected } = scene();
  await connected();
  session.start("sine-440");
  sockets.last.drop(1001);
  await clock.advance(500);
  await greet({ resumed: false, session_id: "b".repeat(32) });
  assert.equal(connections.made.length, 2);
  assert.equal(connections.made[0]?.closed, true);
  assert.equal(sockets.last.all("start").length, 0, "not before there is a path");
  await answer();
  assert.deepEqual(sockets.last.all("start"), [{ type: "start", voice_id: "sine-440" }]);
  assert.deepEqual(states.slice(-3), ["detached", "recovering", "streaming"]);
  sockets.last.drop();
  await clock.advance(500);
  sockets.last.open();
  assert.equal(sockets.last.sent[0].session, "b".repeat(32), "the newest session is resumed");
});

test("a resumed session whose media died gets a new connection", async () => {
  const { clock, sockets, connections, session, greet, answer, connected } = scene();
  await connected();
  session.start("sine-440");
  sockets.last.drop();
  connections.last.become("disconnected");
  await clock.advance(500);
  await greet({ resumed: true });
  assert.equal(connections.made.length, 2);
  await answer();
  assert.deepEqual(sockets.last.all("start"), [{ type: "start", voice_id: "sine-440" }]);
});

test("media that fails on a living line is rebuilt, slower each time", async () => {
  const { clock, sockets, connections, session, connected, answer } = scene();
  await connected();
  session.start("sine-220");
  connections.last.become("failed");
  assert.equal(session.view.state, "recovering");
  await clock.advance(1_000);
  sockets.last.say({ type: "pong" });
  await clock.advance(5_000);
  assert.equal(session.view.state, "waiting");
  assert.equal(session.view.retryAt, clock.now() + 500);
  await clock.advance(500);
  assert.equal(connections.made.length, 2);
  connections.last.become("failed");
  assert.equal(session.view.retryAt, clock.now() + 1_000);
  session.nudge();
  assert.equal(connections.made.length, 3, "a nudge does not wait");
  await settled();
  await answer();
  assert.equal(session.view.state, "streaming");
  assert.deepEqual(sockets.last.all("start").at(-1), { type: "start", voice_id: "sine-220" });
});

test("shaky media makes the client ask whether the line lives", async () => {
  const { sockets, connections, connected } = scene();
  await connected();
  connections.last.become("disconnected");
  assert.equal(sockets.last.all("ping").length, 1);
});

test("line and media lost together come back through the line", async () => {
  const { clock, connections, states, session, greet, answer, connected } = scene();
  await connected();
  session.start("sine-220");
  connections.last.become("disconnected");
  await clock.advance(4_000);
  assert.equal(session.view.state, "waiting", "the doubted line did not answer");
  assert.equal(typeof session.view.retryAt, "number");
  await clock.advance(500);
  assert.equal(session.view.state, "reconnecting");
  await greet();
  await answer();
  assert.equal(session.view.state, "streaming");
  assert.ok(states.includes("recovering"));
});

test("a refusal ends everything until a person asks again", async () => {
  const { clock, sockets, connections, session, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.say(error("unauthorized", "Bad token"));
  assert.equal(session.view.state, "refused");
  assert.deepEqual(session.view.refusal, { code: "unauthorized", text: "Bad token" });
  assert.equal(session.view.wanted, null);
  assert.equal(connections.last.closed, true);
  await clock.advance(600_000);
  assert.equal(sockets.made.length, 1);
});

test("an error about the voice ends the wish and is shown", async () => {
  const { sockets, session, notices, connected } = scene();
  await connected();
  session.start("nobody");
  sockets.last.say(error("unknown_voice", "Unknown voice: nobody"));
  assert.equal(session.view.wanted, null);
  assert.equal(session.view.state, "connected");
  assert.deepEqual(notices, ["Unknown voice: nobody"]);
  assert.deepEqual(sockets.last.sent.at(-1), { type: "stop" }, "the voice before it may still be on");
});

test("other errors are shown and change nothing", async () => {
  const { sockets, session, notices, connected } = scene();
  await connected();
  session.start("sine-220");
  for (const code of ["rate_limited", "internal", "invalid_candidate", "unknown_type"]) sockets.last.say(error(code, code));
  assert.equal(session.view.state, "streaming");
  assert.equal(notices.length, 4);
});

test("no_session brings a new connection and the same wish", async () => {
  const { clock, sockets, connections, session, answer, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.say(error("no_session", "No WebRTC session"));
  await clock.advance(500);
  assert.equal(connections.made.length, 2);
  await answer();
  assert.deepEqual(sockets.last.all("start").length, 2);
  assert.equal(session.view.state, "streaming");
});

test("a voice that is gone after a restart is not asked for", async () => {
  const { clock, sockets, session, notices, greet, answer, connected } = scene();
  await connected();
  session.start("sine-220");
  sockets.last.drop();
  await clock.advance(500);
  await greet({ voices: [{ id: "other", name: "Other", description: "" }] });
  await answer();
  assert.equal(session.view.wanted, null);
  assert.equal(sockets.last.all("start").length, 0);
  assert.equal(notices.length, 1);
});

test("fresh credentials reach the connection and those that follow", async () => {
  const { clock, sockets, connections, connected, greet } = scene();
  await connected();
  sockets.last.say({ type: "ice_servers", ice_servers: [{ urls: ["turn:a"], username: "u", credential: "c" }] });
  await settled();
  assert.equal(connections.last.restarts, 1);
  sockets.last.say({ type: "turn_config", urls: ["turn:b"], username: "u", credential: "c" });
  assert.deepEqual(connections.last.configuration.iceServers, [{ urls: ["turn:b"], username: "u", credential: "c" }]);
  sockets.last.drop();
  await clock.advance(500);
  await greet({ ice_servers: [{ urls: "stun:c" }] });
  assert.deepEqual(connections.last.configuration.iceServers, [{ urls: ["stun:c"] }]);
});

test("disconnect ends it, connect begins anew, close is for good", async () => {
  const { clock, sockets, connections, session, connected } = scene();
  await connected();
  session.start("sine-220");
  session.disconnect();
  assert.equal(session.view.state, "idle");
  assert.equal(session.view.wanted, null);
  assert.equal(connections.last.closed, true);
  assert.equal(clock.pending, 0);
  await connected();
  assert.equal(session.view.state, "connected");
  assert.equal(sockets.last.sent[0].session, undefined);
  session.close();
  session.connect({ token: "t" });
  assert.equal(session.view.state, "closed");
  assert.equal(sockets.made.length, 2);
  assert.equal(clock.pending, 0);
});

test("each message that the client sends has the golden one's fields", async () => {
  const { clock, sockets, connections, session, greet, connected } = scene();
  await connected();
  connections.last.onicecandidate?.({
    candidate: { toJSON: () => ({ candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: 0, usernameFragment: "u" }) },
  });
  connections.last.onicecandidate?.({ candidate: null });
  session.start("sine-220");
  session.stop();
  await clock.advance(25_000);
  sockets.last.drop();
  await clock.advance(500);
  await greet();
  /** @type {{ type: string }[]} */
  const golden = Object.values(JSON.parse(readFileSync(new URL("../../src/tests/golden/client.json", import.meta.url), "utf8")));
  const sent = sockets.made.flatMap((socket) => socket.sent);
  assert.deepEqual([...new Set(sent.map(({ type }) => type))].sort(), ["hello", "ice-candidate", "offer", "ping", "start", "stop"]);
  for (const message of sent) {
    const fits = golden.some((one) => one.type === message.type && String(Object.keys(one).sort()) === String(Object.keys(message).sort()));
    assert.ok(fits, JSON.stringify(message));
  }
});
