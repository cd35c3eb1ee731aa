// The words of GET /signal, held to the golden examples that the server's tests read too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { joinRoom } from "../sdk/roomclient.js";
import { readRoom } from "../sdk/roomwire.js";
import { FakeClock } from "./fakes.js";
import { World, mediaStream, mediaTrack } from "./roomfakes.js";

/** @type {(side: string) => Record<string, any>} */
const golden = (side) => JSON.parse(readFileSync(new URL(`../../src/tests/golden/room-${side}.json`, import.meta.url), "utf8"));

/** All that an object has, by the names of its fields and their types, and what `type` says. @param {any} value @returns {unknown} */
const shape = (value) => {
  if (Array.isArray(value)) return value.map(shape);
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.fromEntries(Object.keys(value).sort().map((name) => [name, name === "type" ? value[name] : shape(value[name])]));
};

test("every golden message of the server is understood", () => {
  for (const [name, message] of Object.entries(golden("server"))) {
    assert.deepEqual(readRoom(JSON.stringify(message)), { message, fault: null }, name);
  }
});

test("a message that lacks any one of its golden fields is refused", () => {
  // `to` is ourselves, and an error says the same twice.
  const optional = new Set(["to", "error.error"]);
  for (const [name, message] of Object.entries(golden("server"))) {
    for (const field of Object.keys(message)) {
      const { [field]: _, ...rest } = message;
      if (optional.has(field) || optional.has(`${message.type}.${field}`)) continue;
      assert.notEqual(readRoom(JSON.stringify(rest)).fault, null, `${name} without ${field}`);
    }
  }
});

test("each message that the client sends has the golden one's fields", async () => {
  const clock = new FakeClock();
  const world = new World(clock);
  const { WebSocket, RTCPeerConnection, MediaStream } = world;
  const options = { url: "http://server", room: "blue", WebSocket, RTCPeerConnection, MediaStream, clock, random: world.random };
  const visits = ["ann", "bob"].map((user) => joinRoom({ ...options, user, stream: mediaStream(mediaTrack("audio")) }));
  await clock.advance(3_000);
  world.sockets[0].drop(1006);
  await clock.advance(3_000);
  for (const room of await Promise.all(visits)) room.close();
  await clock.advance(1_000);

  /** @type {any[]} */
  const sent = world.sockets.flatMap((socket) => socket.sent);
  assert.deepEqual([...new Set(sent.map(({ type }) => type))].sort(), ["answer", "ice-candidate", "join", "leave", "offer"]);
  const known = Object.entries(golden("client")).map(([name, message]) => ({ name, shape: JSON.stringify(shape(message)) }));
  const met = new Set();
  for (const message of sent) {
    // What we say above the protocol: which offer an answer is to, and who gives one up.
    if (message.type === "answer") assert.equal(typeof message.sdp.re, "string");
    if (message.type === "offer") assert.equal(message.sdp.yields, true);
    const plain = message.sdp ? { ...message, sdp: { ...message.sdp, re: undefined, yields: undefined } } : message;
    const one = known.find((other) => other.shape === JSON.stringify(shape(JSON.parse(JSON.stringify(plain)))));
    assert.ok(one, JSON.stringify(message));
    met.add(one?.name);
  }
  // A token travels as a subprotocol, whatever else is allowed.
  assert.deepEqual([...met].sort(), Object.keys(golden("client")).filter((name) => name !== "join_token").sort());
});

test("messages of the room are checked", () => {
  const fault = (/** @type {object} */ message) => readRoom(JSON.stringify(message)).fault;
  const offer = { type: "offer", from: "bob", to: "ann", sdp: { type: "offer", sdp: "v=0" } };
  const candidate = { candidate: "candidate:1", sdpMid: "0", sdpMLineIndex: 0, usernameFragment: "u" };
  const good = [
    offer,
    { ...offer, sdp: { ...offer.sdp, re: "1 2", yields: true } },
    { type: "ice-candidate", from: "bob", candidate },
    { type: "ice-candidate", from: "bob", candidate: null },
    { type: "room-joined", peers: ["bob"], iceServers: [{ urls: "stun:x" }], session: "s" },
    { type: "peer-joined", peerId: "😀".repeat(64) },
    { type: "error", code: "new", message: "x" },
  ];
  for (const message of good) assert.equal(fault(message), null);
  /** @type {[object, string][]} */
  const bad = [
    [{ ...offer, from: "" }, "from"],
    [{ ...offer, from: "x".repeat(129) }, "from"],
    [{ ...offer, sdp: { type: "answer", sdp: "v=0" } }, "sdp"],
    [{ ...offer, type: "answer" }, "sdp"],
    [{ ...offer, sdp: "v=0" }, "sdp"],
    [{ ...offer, sdp: { ...offer.sdp, re: 1 } }, "sdp"],
    [{ ...offer, sdp: { ...offer.sdp, yields: 1 } }, "sdp"],
    [{ type: "ice-candidate", from: "bob", candidate: "candidate:1" }, "candidate"],
    [{ type: "room-joined", peers: [1], iceServers: [], session: "s" }, "peers"],
    [{ type: "room-joined", peers: [], iceServers: [{ urls: [] }], session: "s" }, "iceServers"],
    [{ type: "peer-left" }, "peerId"],
  ];
  for (const [message, name] of bad) assert.match(fault(message) ?? "", new RegExp(`wrong ${name}$`));
  assert.match(fault({ type: "hello_ack" }) ?? "", /unknown type/);
});
