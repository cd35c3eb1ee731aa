// Two persons and nothing between them but a wire: offers that meet, answers that come too late, messages that are lost.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RoomPeer } from "../sdk/roompeer.js";
import { FakeClock } from "./fakes.js";
import { World, mediaStream, mediaTrack } from "./roomfakes.js";

/** Ann is polite, and knows bob; bob knows ann. @param {number} [seed] */
function pair(seed = 1) {
  const clock = new FakeClock();
  const world = new World(clock, seed);
  /** @type {any[]} */
  const passed = [];
  /** @type {string[]} */
  const notes = [];
  const wire = { up: true, lose: (/** @type {any} */ _) => false, strange: false, doubts: 0, pathless: 0 };
  /** @param {string} me @param {string} id @param {boolean} polite @returns {RoomPeer} */
  const meet = (me, id, polite) => {
    const tracks = { audio: mediaTrack("audio"), video: mediaTrack("video") };
    const none = () => {};
    return new RoomPeer({
      id,
      polite,
      stream: mediaStream(),
      around: {
        clock,
        random: () => 0,
        connect: () => new world.RTCPeerConnection({}),
        send: (message) => {
          if (!wire.up) return false;
          const sent = /** @type {any} */ ({ ...message, from: me });
          if (wire.strange && sent.sdp) sent.sdp = { type: sent.sdp.type, sdp: sent.sdp.sdp };
          passed.push(sent);
          if (!wire.lose(sent)) clock.after(world.latency, () => both[me === "ann" ? 1 : 0]?.handle(sent));
          return true;
        },
        line: () => wire.up,
        doubt: () => (wire.doubts += 1),
        pathless: () => (wire.pathless += 1),
        tracks: (kind) => tracks[kind],
        outgoing: null,
        receive: true,
      },
      on: { state: none, gone: none, track: none, untrack: none, chat: none, cursor: none, pointable: none, channel: none, note: (text) => notes.push(text) },
    });
  };
  /** Bob as ann knows him, and ann as bob knows her. */
  const both = [meet("ann", "bob", true), meet("bob", "ann", false)];
  const [bob, ann] = /** @type {[RoomPeer, RoomPeer]} */ (both);
  /** @param {string} word */
  const assertStand = (word) => {
    for (const peer of both) {
      assert.equal(peer.state, "connected", word);
      assert.ok(world.agreed(/** @type {any} */ (peer.connection)), word);
    }
    assert.equal(world.connections.filter(({ connectionState }) => connectionState !== "closed").length, 2, word);
  };
  const words = () => passed.filter(({ type }) => type !== "ice-candidate").map(({ type, from }) => `${from} ${type}`);
  return { clock, world, wire, notes, passed, bob, ann, assertStand, words };
}

test("two first offers that meet: the polite side's is given up with its connection, and that is all", async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { clock, world, bob, ann, assertStand, words } = pair(seed);
    world.latency = seed * 3;
    bob.offer();
    ann.offer();
    await clock.advance(800);
    assertStand(`seed ${seed}`);
    assert.equal(world.connections.length, 3);
    assert.deepEqual(words().sort(), ["ann answer", "ann offer", "bob offer"]);
    for (const peer of [bob, ann]) assert.deepEqual([...peer.channels.values()].map(({ label, readyState }) => [label, readyState]), [["chat", "open"], ["cursors", "open"]]);
  }
});

test("an offer that is lost is said again, each time later, and the line is doubted", async () => {
  const { clock, wire, bob, assertStand, words } = pair();
  wire.lose = ({ type }) => type === "offer" && words().filter((word) => word === "ann offer").length <= 2;
  bob.offer();
  await clock.advance(4_300);
  assert.equal(wire.doubts, 0);
  await clock.advance(200);
  assert.equal(wire.doubts, 1);
  await clock.advance(7_800);
  assert.equal(wire.doubts, 1);
  await clock.advance(700);
  assert.equal(wire.doubts, 2);
  assertStand("said again");
  assert.deepEqual(words(), ["ann offer", "ann offer", "ann offer", "bob answer"]);
});

test("an answer that is lost is given again", async () => {
  const { clock, wire, bob, assertStand, words } = pair();
  wire.lose = ({ type }) => type === "answer" && words().filter((word) => word === "bob answer").length === 1;
  bob.offer();
  await clock.advance(4_700);
  assertStand("answered again");
});

test("an answer to an offer that is over is not taken for another's", async () => {
  const { clock, world, ann, assertStand, words } = pair();
  world.latency = 100;
  ann.offer();
  await clock.advance(420);
  // Whoever does not yield begins anew at once; the answer to its first offer is under way.
  world.connections[0]?.become("failed");
  await clock.advance(700);
  assertStand("the second");
  assert.deepEqual(words(), ["bob offer", "bob offer", "ann answer", "ann answer"]);
  assert.equal(world.connections.length, 4);
});

test("who does not yield takes a stranger's offer when its own is not answered, with the candidates that came before", async () => {
  const { clock, world, wire, bob, ann, assertStand } = pair();
  wire.strange = true;
  bob.offer();
  await clock.advance(800);
  wire.lose = ({ type, from }) => type === "offer" && from === "bob";
  ann.connection?.restartIce();
  await clock.advance(15);
  bob.connection?.restartIce();
  await clock.advance(1_900);
  assert.equal(ann.connection?.signalingState, "have-local-offer");
  await clock.advance(400);
  const [hers] = world.connections;
  assert.ok(/** @type {any} */ (ann.connection).candidates.includes(`${hers?.id}g1`), "those of the restart, not of the first offer");
  wire.lose = () => false;
  await clock.advance(5_000);
  assertStand("taken");
  const far = /** @type {any} */ (bob.connection);
  assert.ok(/** @type {any} */ (ann.connection).candidates.includes(far.generationAgreed));
  assert.equal(world.connections.length, 2);
});

test("a stranger that yields as well is offered anew", async () => {
  const { clock, world, wire, bob, words } = pair();
  wire.lose = () => true;
  bob.offer();
  await clock.advance(450);
  const lines = '{"mid":"0","kind":"audio","direction":"sendrecv"},{"mid":"1","kind":"video","direction":"sendrecv"}';
  const sdp = `v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\na=ice-ufrag:u\r\na=data:true\r\na=lines:[${lines}]\r\n`;
  bob.handle({ type: "offer", from: "bob", sdp: { type: "offer", sdp } });
  await clock.advance(50);
  assert.deepEqual(words(), ["ann offer", "ann answer"], "she yields");
  bob.handle({ type: "answer", from: "bob", sdp: { type: "answer", sdp } });
  await clock.advance(1_100);
  assert.deepEqual(words().slice(0, 3), ["ann offer", "ann answer", "ann offer"], "his answer was to what she gave up");
  assert.equal(world.connections.length, 3);
  // One that names its offer, or comes twice, is no such thing.
  const { connection } = bob;
  bob.handle({ type: "answer", from: "bob", sdp: { type: "answer", sdp, re: "1 1" } });
  await clock.advance(1_100);
  assert.equal(bob.connection, connection);
});

/** Bob, who offers from one connection after another. @param {ReturnType<typeof pair>} pair */
function restless({ clock, wire, bob, passed }) {
  wire.lose = () => true;
  const lines = '[{"mid":"0","kind":"audio","direction":"sendrecv"},{"mid":"1","kind":"video","direction":"sendrecv"}]';
  /** @param {number} from @param {number} [to] */
  const offers = async (from, to = from) => {
    for (let id = from; id <= to; id += 1) {
      const sdp = `v=0\r\no=- ${id} 1 IN IP4 127.0.0.1\r\na=ice-ufrag:u\r\na=data:true\r\na=lines:${lines}\r\n`;
      bob.handle({ type: "offer", from: "bob", sdp: { type: "offer", sdp } });
      await clock.advance(50);
    }
  };
  const answered = () => passed.filter(({ type }) => type === "answer").map(({ sdp }) => sdp.re);
  return { offers, answered };
}

test("who offers from ever new connections makes us build some, and the newest later", async () => {
  const it = pair();
  const { clock, world, bob } = it;
  const { offers, answered } = restless(it);
  await offers(1, 60);
  assert.equal(world.connections.length, 8);
  await clock.advance(6_900);
  assert.equal(world.connections.length, 8);
  await clock.advance(200);
  assert.deepEqual([world.connections.length, answered().length, answered().at(-1)], [9, 9, "60 1"]);
  await offers(61, 80);
  const { length } = world.connections;
  bob.close();
  await clock.advance(7_000);
  assert.deepEqual([world.connections.length, clock.pending], [length, 0]);
});

test("an offer that waits for its turn is dropped for any later word", async () => {
  for (const word of ["offer", "answer"]) {
    const it = pair();
    const { clock, world, bob, passed } = it;
    const { offers, answered } = restless(it);
    await offers(1, 20);
    assert.equal(answered().at(-1), "8 1");
    if (word === "offer") {
      await offers(8);
      assert.deepEqual(answered().slice(-2), ["8 1", "8 1"], "one of the connection that there is is taken at once");
    } else {
      bob.connection?.restartIce();
      await clock.advance(100);
      const { sdp } = passed.findLast(({ type }) => type === "offer").sdp;
      const [, ours = ""] = /^o=- (\S+ \S+)/m.exec(sdp) ?? [];
      bob.handle({ type: "answer", from: "bob", sdp: { type: "answer", sdp: sdp.replace(ours, "8 2"), re: ours } });
    }
    await clock.advance(10_500);
    assert.equal(world.connections.length, 8, word);
  }
});

test("of two whose answers are slow one yields, and the other waits for it", async () => {
  const { clock, world, bob, ann, assertStand, words } = pair();
  bob.offer();
  ann.offer();
  await clock.advance(395);
  // Longer than a stranger is waited for.
  world.latency = 3_000;
  await clock.advance(8_000);
  assertStand("settled");
  assert.deepEqual(words(), ["ann offer", "bob offer", "ann answer", "bob offer", "ann answer"], "said again once, after four seconds");
  assert.equal(world.connections.length, 3);
  for (const { connection } of [bob, ann]) connection?.restartIce();
  await clock.advance(12_000);
  assertStand("restarted, though slowly");
  assert.equal(world.connections.length, 3);
});

test("who waits for the other to yield says its offer again where that was lost", async () => {
  const { clock, world, wire, bob, ann, assertStand, words } = pair();
  wire.lose = ({ type, from }) => type === "offer" && from === "bob" && words().filter((word) => word === "bob offer").length === 1;
  bob.offer();
  ann.offer();
  await clock.advance(4_300);
  assert.deepEqual(words().sort(), ["ann offer", "bob offer"], "each waits");
  await clock.advance(700);
  assertStand("said again");
  assert.equal(world.connections.length, 3);
});

test("an answer may take its time, and then a path again", async () => {
  const { clock, world, bob, notes, assertStand } = pair();
  world.latency = 6_000;
  world.open = false;
  bob.offer();
  await clock.advance(14_000);
  for (const one of world.connections) one.become("connecting");
  await clock.advance(14_500);
  world.open = true;
  for (const one of world.connections) world.meet(one);
  await clock.advance(100);
  assertStand("found");
  assert.deepEqual(notes.filter((note) => note.includes("no path")), []);
});

test("what found no path in time is given longer, and no longer once it was found", async () => {
  const { clock, world, bob, notes, assertStand } = pair();
  world.open = false;
  bob.offer();
  /** @param {number} most */
  const late = async (most) => {
    const at = [];
    for (let seconds = 1; seconds <= most; seconds += 1) {
      await clock.advance(1_000);
      if (notes.splice(0).some((note) => note.endsWith("no path found in time"))) at.push(seconds);
    }
    return at;
  };
  assert.deepEqual(await late(110), [16, 46, 76, 106]);
  world.open = true;
  await clock.advance(31_000);
  assertStand("found");
  world.open = false;
  notes.length = 0;
  for (const one of world.connections) one.become("failed");
  // After eight seconds of a restart.
  assert.deepEqual(await late(60), [23, 53]);
});

test("each way to find no path is told", async () => {
  const { clock, world, wire, bob } = pair();
  world.open = false;
  bob.offer();
  await clock.advance(800);
  world.connections[0]?.become("failed");
  assert.equal(wire.pathless, 1);
  await clock.advance(40_000);
  assert.ok(wire.pathless > 1);
});

test("what a browser says of a description is not passed on", async () => {
  const { clock, world, bob, notes } = pair();
  world.latency = 1;
  bob.handle({ type: "offer", from: "bob", sdp: { type: "offer", sdp: "a=ice-pwd:secret" } });
  await clock.advance(50);
  assert.deepEqual(notes, ["bob: an offer was not understood: Error"]);
});

test("a connection that ends while a browser thinks about it stops nothing", async () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const { clock, world, bob, assertStand } = pair(seed);
    bob.offer();
    for (let at = 0; at < 6; at += 1) {
      await clock.advance(380 + seed);
      for (const one of world.connections) one.become("failed");
    }
    await clock.advance(20_000);
    assertStand(`seed ${seed}`);
  }
});

test("what could not be said while the line was down is said when it is back", async () => {
  const { clock, wire, bob, ann, world, assertStand } = pair();
  bob.offer();
  await clock.advance(800);
  wire.up = false;
  ann.connection?.restartIce();
  await clock.advance(30_000);
  assert.equal(world.connections.length, 2);
  wire.up = true;
  for (const peer of [bob, ann]) peer.lineBack();
  await clock.advance(500);
  assertStand("restarted");
  assert.ok(world.connections.every(({ generation }) => generation === 1));
});

test("once closed, nothing is done any more", async () => {
  for (let ms = 0; ms < 120; ms += 3) {
    const { clock, world, bob, ann, passed } = pair();
    bob.offer();
    await clock.advance(390 + ms);
    bob.close();
    ann.close();
    const said = passed.length;
    await clock.advance(60_000);
    bob.handle({ type: "offer", from: "bob", sdp: { type: "offer", sdp: "v=0" } });
    await clock.advance(60_000);
    assert.equal(passed.length, said);
    assert.equal(clock.pending, 0);
    assert.ok(world.connections.every(({ connectionState }) => connectionState === "closed"));
    assert.deepEqual([bob.state, ann.state], ["closed", "closed"]);
  }
});
