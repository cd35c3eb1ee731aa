// Rooms in a simulated world: who meets whom, what survives which loss, and that nothing is left behind.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Room, joinRoom, lifetime } from "../sdk/roomclient.js";
import { FakeClock, fakeAbort } from "./fakes.js";
import { World, mediaStream, mediaTrack } from "./roomfakes.js";

/** @param {number} [seed] */
function scene(seed = 1) {
  const clock = new FakeClock();
  const world = new World(clock, seed);
  /** Joins, and remembers all that is told. @param {string} user @param {object} [more] */
  const visit = (user, more = {}) => {
    const from = world.connections.length;
    /** @type {any[]} */
    const story = [];
    const tracks = { audio: mediaTrack("audio"), video: mediaTrack("video") };
    const { WebSocket, MediaStream } = world;
    /** @type {any[]} */
    const own = [];
    const RTCPeerConnection = /** @type {any} */ (
      class extends /** @type {any} */ (world.RTCPeerConnection) {
        /** @param {any} configuration */
        constructor(configuration) {
          super(configuration);
          own.push(this);
        }
      }
    );
    const it = {
      user,
      story,
      tracks,
      from,
      own,
      room: /** @type {Room} */ (/** @type {unknown} */ (null)),
      fault: /** @type {any} */ (null),
      /** @param {string} id */
      peer: (id) => /** @type {any} */ (it.room.peers.get(id)),
      states: () => Object.fromEntries([...it.room.peers].map(([id, { state }]) => [id, state])),
      /** @param {string} name */
      all: (name) => story.filter((one) => one.name === name).map(({ event }) => event),
      chat: () => it.room.chat.map(({ from: who, text }) => `${who}: ${text}`),
      live: () => own.filter(({ connectionState }) => connectionState !== "closed"),
    };
    const options = { url: "http://server", room: "blue", user, WebSocket, RTCPeerConnection, MediaStream, clock, random: world.random };
    joinRoom({ ...options, stream: mediaStream(tracks.audio, tracks.video), ...more }).then(
      (room) => {
        it.room = room;
        for (const name of /** @type {const} */ (["state", "joined", "left", "peer", "track", "untrack", "chat", "cursor", "channel", "error", "note"])) {
          room.on(name, (/** @type {any} */ event) => story.push({ name, event }));
        }
      },
      (fault) => (it.fault = fault),
    );
    return it;
  };
  /** @param {string[]} users @param {number} [apart] */
  const gather = async (users, apart = 200) => {
    const all = [];
    for (const user of users) {
      all.push(visit(user));
      await clock.advance(apart);
    }
    await clock.advance(1_000);
    return all;
  };
  return { clock, world, visit, gather };
}

/** @typedef {ReturnType<ReturnType<typeof scene>["visit"]>} Visitor */

/** All stand, each by one connection that both ends agree upon, each hearing each. @param {Visitor[]} all */
function assertWhole(all, word = "") {
  for (const one of all) {
    const others = all.filter((other) => other !== one).map(({ user }) => user).sort();
    assert.deepEqual([...one.room.peers.keys()].sort(), others, `${word} ${one.user} knows all`);
    assert.deepEqual(Object.values(one.states()), others.map(() => "connected"), `${word} ${one.user} is connected to all`);
    assert.equal(one.live().length, others.length, `${word} ${one.user} has a connection for each`);
    for (const id of others) {
      const { stream, connection } = one.peer(id);
      assert.deepEqual(stream.getTracks().map((/** @type {any} */ { kind }) => kind).sort(), ["audio", "video"], `${word} ${one.user} hears ${id}`);
      assert.equal(connection.signalingState, "stable");
      assert.ok(!connection.pending);
      assert.equal(connection.world.agreed(connection)?.world, connection.world, `${word} ${one.user} and ${id} agree`);
    }
  }
}

/** @param {Visitor[]} visitors @param {FakeClock} clock @param {World} world */
async function assertNothingLeft(visitors, clock, world) {
  for (const { room, tracks } of visitors) {
    room?.close();
    assert.ok(!tracks.audio.stopped && !tracks.video.stopped, "tracks are the caller's");
  }
  await clock.advance(10_000);
  for (const connection of world.connections) {
    assert.equal(connection.connectionState, "closed");
    for (const [name, value] of Object.entries(connection)) if (/^on[a-z]/.test(name)) assert.equal(value, null, name);
  }
  for (const socket of world.sockets) {
    assert.equal(socket.readyState, 3);
    for (const [name, value] of Object.entries(socket)) if (/^on[a-z]/.test(name)) assert.equal(value, null, name);
  }
  assert.equal(clock.pending, 0, "no timer is left");
}

test("two, three and six see and hear each other, and leave nothing behind", async () => {
  for (const users of [["bob", "ann"], ["ann", "bob"], ["a", "c", "b"], ["f", "a", "e", "b", "d", "c"]]) {
    const { clock, world, gather } = scene();
    const all = await gather(users);
    assertWhole(all);
    assert.equal(world.connections.length, users.length * (users.length - 1), "no connection too many");
    assert.deepEqual([...(all[0]?.room.peers.keys() ?? [])], users.slice(1), "in the order in which they came");
    await assertNothingLeft(all, clock, world);
  }
});

test("the join carries no token in the URL", async () => {
  const { clock, world, visit } = scene();
  visit("ann", { url: "https://server/", token: "Zü/?>~" });
  visit("bob", { url: "ws://server/elsewhere" });
  await clock.advance(500);
  assert.equal(world.sockets[0].url, "wss://server/signal");
  assert.deepEqual(world.sockets[0].protocols, ["voxcast", `bearer.${Buffer.from("Zü/?>~").toString("base64url")}`]);
  assert.deepEqual([world.sockets[1].url, world.sockets[1].protocols], ["ws://server/elsewhere", undefined]);
  assert.deepEqual(world.sockets[0].sent[0], { type: "join", roomId: "blue", userId: "ann" });
});

test("options that make no sense are told so", async () => {
  const { world } = scene();
  const { WebSocket, RTCPeerConnection, MediaStream } = world;
  const options = { url: "http://s", room: "r", user: "u", WebSocket, RTCPeerConnection, MediaStream };
  await assert.rejects(joinRoom({ ...options, url: "ftp://s" }), TypeError);
  await assert.rejects(joinRoom({ ...options, iceTransportPolicy: /** @type {any} */ ("udp") }), TypeError);
});

test("offers that meet settle, at the first meeting and at any later one, whatever the interleaving", async () => {
  for (let seed = 1; seed <= 25; seed += 1) {
    const { clock, world, visit } = scene(seed);
    world.latency = 1 + (seed % 40);
    const all = [visit("ann"), visit("bob"), visit("cid")];
    await clock.advance(3_000);
    assertWhole(all, `seed ${seed}`);
    // Both sides of each pair want something at the same time, many times.
    for (let round = 0; round < 12; round += 1) {
      for (const one of all) {
        for (const peer of one.room.peers.values()) if (world.random() < 0.6) peer.connection?.restartIce();
        if (world.random() < 0.4) void one.room.replaceTrack("video", world.random() < 0.5 ? null : one.tracks.video);
      }
      await clock.advance(Math.floor(world.random() * 60));
    }
    for (const one of all) void one.room.replaceTrack("video", one.tracks.video);
    await clock.advance(15_000);
    assertWhole(all, `seed ${seed} after the storm`);
  }
});

test("whatever is lost or doubled on the way, they find each other in the end", async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { clock, world, visit } = scene(seed);
    world.lose = () => world.random() < 0.25;
    const all = [visit("ann"), visit("bob"), visit("cid")];
    await clock.advance(20_000);
    world.lose = () => false;
    await clock.advance(60_000);
    assertWhole(all, `seed ${seed}`);
    await assertNothingLeft(all, clock, world);
  }
});

test("restarts that meet settle at once, by the same connections", async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const { clock, world, gather } = scene(seed);
    const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
    for (const { own } of all) own[0].restartIce();
    await clock.advance(400);
    assertWhole(all, `seed ${seed}`);
    assert.equal(world.connections.length, 2);
    assert.ok(world.connections.every(({ generation }) => generation > 0));
  }
});

test("a newcomer offers; where it does not, the others do after 1.5 s", async () => {
  const { clock, world, gather } = scene();
  const [ann] = await gather(["ann"]);
  const socket = new world.WebSocket("x");
  await clock.advance(100);
  socket.send(JSON.stringify({ type: "join", roomId: "blue", userId: "zoe" }));
  await clock.advance(1_500);
  assert.deepEqual(world.passed, [], "it is given its time");
  assert.equal(ann?.peer("zoe").connection, null);
  await clock.advance(200);
  assert.deepEqual(world.passed.map(({ type, to }) => [type, to]).slice(0, 1), [["offer", "zoe"]]);
  socket.drop(1000);
});

test("who comes lets others offer first, because some do, and two offers that meet cost those their channels", async () => {
  const { clock, world, visit } = scene();
  const socket = new world.WebSocket("x");
  await clock.advance(100);
  socket.send(JSON.stringify({ type: "join", roomId: "blue", userId: "zoe" }));
  await clock.advance(100);
  const ann = visit("ann");
  await clock.advance(400);
  assert.deepEqual(world.passed, []);
  const lines = '[{"mid":"0","kind":"audio","direction":"sendrecv"}]';
  const sdp = `v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\na=ice-ufrag:u\r\na=data:true\r\na=lines:${lines}\r\n`;
  socket.send(JSON.stringify({ type: "offer", to: "ann", sdp: { type: "offer", sdp } }));
  await clock.advance(2_000);
  assert.deepEqual(world.passed.filter(({ type }) => type !== "ice-candidate").map(({ type, from }) => [type, from]), [["offer", "zoe"], ["answer", "ann"], ["offer", "ann"]]);
  const offer = /** @type {any} */ (world.passed.findLast(({ type }) => type === "offer"));
  assert.match(offer.sdp.sdp, /"video"/, "and a picture is offered on top");
  assert.equal(ann.own.length, 1);
  socket.drop(1000);
});

test("a browser that asks for offers without end is not obeyed without end", async () => {
  const { clock, world, gather } = scene();
  const [ann] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const { connection } = ann.peer("bob");
  const before = world.passed.length;
  for (let at = 0; at < 600; at += 1) {
    connection.onnegotiationneeded();
    await clock.advance(50);
  }
  const offers = world.passed.slice(before).filter(({ type }) => type === "offer").length;
  assert.ok(offers > 8 && offers < 30, `${offers} in 30 s`);
});

test("who is alone is joined, too, and one track of each kind is enough", async () => {
  const { clock, world, visit } = scene();
  const ann = visit("ann", { stream: null });
  const bob = visit("bob", { stream: mediaStream(mediaTrack("audio")) });
  await clock.advance(2_000);
  assert.deepEqual(ann.states(), { bob: "connected" });
  assert.deepEqual(ann.peer("bob").stream.getTracks().map((/** @type {any} */ { kind }) => kind), ["audio"]);
  assert.deepEqual(bob.peer("ann").stream.getTracks(), [], "a line without a track shows nothing");
  void ann.room.replaceTrack("video", mediaTrack("video"));
  await clock.advance(500);
  assert.deepEqual(bob.peer("ann").stream.getTracks().map((/** @type {any} */ { kind }) => kind), ["video"]);
  assert.equal(world.passed.filter(({ type }) => type === "offer").length, 1, "nothing was negotiated for it");
});

test("a guest only sends", async () => {
  const { clock, visit } = scene();
  const ann = visit("ann");
  await clock.advance(300);
  const bot = visit("bot", { receive: false });
  const zed = visit("zed");
  await clock.advance(4_000);
  for (const one of [ann, zed]) assert.equal(one.peer("bot").stream.getTracks().length, 2);
  for (const id of ["ann", "zed"]) assert.equal(bot.peer(id).stream.getTracks().length, 0);
  for (const connection of bot.live()) assert.deepEqual(connection.transceivers.map((/** @type {any} */ { currentDirection }) => currentDirection), ["sendonly", "sendonly"]);
});

test("a screen takes the place of a camera without another offer, also for who comes later", async () => {
  const { clock, world, gather, visit } = scene();
  const [ann, bob] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const offers = () => world.passed.filter(({ type }) => type === "offer").length;
  const before = offers();
  const screen = mediaTrack("video");
  await Promise.all([ann.room.replaceTrack("video", screen), clock.advance(100)]);
  assert.equal(offers(), before);
  assert.equal(ann.peer("bob").connection.transceivers[1].sender.track, screen);
  const cid = visit("cid");
  await clock.advance(1_000);
  assert.equal(ann.peer("cid").connection.transceivers[1].sender.track, screen);
  assert.equal(cid.peer("ann").stream.getTracks().length, 2);
  void ann.room.replaceTrack("video", null);
  await clock.advance(500);
  for (const one of [bob, cid]) {
    assert.deepEqual(one.peer("ann").stream.getTracks().map((/** @type {any} */ { kind }) => kind), ["audio"], "no picture stands still");
    assert.deepEqual(one.all("untrack").map(({ peer, track }) => [peer.id, track.kind]), [["ann", "video"]]);
  }
  void ann.room.replaceTrack("video", ann.tracks.video);
  await clock.advance(500);
  for (const one of [bob, cid]) assert.equal(one.peer("ann").stream.getTracks().length, 2);
  await assert.rejects(ann.room.replaceTrack("audio", screen), TypeError);
  assert.equal(bob.peer("ann").stream, bob.peer("ann").stream);
});

// --- leaving and coming back

test("who leaves is gone at once, and may come again", async () => {
  const { clock, world, gather, visit } = scene();
  const [ann, bob, cid] = /** @type {[Visitor, Visitor, Visitor]} */ (await gather(["ann", "bob", "cid"]));
  const gone = ann.peer("bob");
  bob.room.close();
  await clock.advance(100);
  assertWhole([ann, cid]);
  assert.equal(gone.state, "closed");
  assert.deepEqual(ann.all("left"), [gone]);
  assert.equal(ann.all("untrack").length, 2);
  assert.ok(!bob.tracks.audio.stopped);
  const again = visit("bob");
  await clock.advance(1_000);
  assertWhole([ann, cid, again]);
  assert.notEqual(ann.peer("bob"), gone);
  await assertNothingLeft([ann, bob, cid, again], clock, world);
});

test("a machine that dies without a word is gone once its media is", async () => {
  const { clock, world, gather } = scene();
  const [ann, bob] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  world.kill("bob", bob.own);
  await clock.advance(1_000);
  assert.deepEqual(ann.states(), { bob: "connected" }, "its media might flow on");
  await clock.advance(6_000);
  assert.deepEqual(ann.states(), {});
});

test("a page that is loaded again is met anew, on both sides, whoever offers", async () => {
  for (const users of [["ann", "bob"], ["bob", "ann"]]) {
    const { clock, world, gather, visit } = scene();
    const [one, two] = /** @type {[Visitor, Visitor]} */ (await gather(users));
    const known = one.peer(two.user);
    world.kill(two.user, two.own);
    await clock.advance(50);
    const again = visit(two.user);
    await clock.advance(2_000);
    assertWhole([one, again]);
    assert.equal(one.peer(two.user), known, "one and the same person");
    assert.deepEqual(one.all("left"), []);
    assert.equal(world.connections.length, 4, "a new connection for a new one");
    assert.equal(known.stream.getTracks().length, 2);
  }
});

test("a line that drops is joined again by session, unnoticed, and media goes on", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann, bob] = all;
  const { session } = world.sockets[0].sent[0];
  assert.equal(session, undefined);
  world.socketOf("ann").dead = true;
  world.socketOf("ann").drop(1006);
  assert.equal(ann.room.state, "detached");
  assert.ok(ann.room.retryAt !== null);
  await clock.advance(2_000);
  assert.equal(ann.room.state, "joined");
  assert.equal(ann.room.retryAt, null);
  assert.deepEqual([...bob.all("left"), ...ann.all("left")], []);
  assert.equal(world.connections.length, 2, "nothing was built anew");
  assertWhole(all);
});

test("a doubted line is proven by a fresh socket while the old one is kept", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann, bob] = all;
  const old = world.socketOf("ann");
  ann.room.nudge();
  ann.room.nudge();
  assert.equal(world.sockets.length, 3, "one proof at a time");
  assert.equal(old.readyState, 1);
  await clock.advance(200);
  assert.notEqual(world.socketOf("ann"), old);
  assert.equal(old.readyState, 3);
  assert.deepEqual(world.sockets[2].sent[0].session?.[0], "s");
  assert.deepEqual(ann.all("state"), ["joined"], "nobody saw anything");
  assert.deepEqual(bob.all("left"), []);
  // While the network is away the old one is not closed: that would be the first that the server hears.
  const second = world.socketOf("ann");
  second.dead = true;
  world.up = false;
  ann.room.nudge();
  await clock.advance(15_000);
  assert.equal(ann.room.state, "detached");
  assert.equal(second.readyState, 1);
  world.up = true;
  ann.room.nudge();
  await clock.advance(500);
  assert.equal(ann.room.state, "joined");
  assert.equal(second.readyState, 3);
  assert.deepEqual(bob.all("left"), []);
  await assertNothingLeft(all, clock, world);
});

test("a quiet line is asked, its answer is told to nobody, and it stays", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann] = all;
  const [stories, sent, passed] = [all.map(({ story }) => story.length), world.socketOf("ann").sent.length, world.passed.length];
  await clock.advance(600_000);
  assert.deepEqual(all.map(({ story }) => story.length), stories);
  assert.deepEqual([world.sockets.length, world.passed.length], [2, passed]);
  const asked = world.socketOf("ann").sent.slice(sent);
  assert.ok(asked.length >= 35 && asked.length <= 40, `each 15 s: ${asked.length}`);
  assert.deepEqual(asked[0], { type: "ice-candidate", to: "ann", candidate: {} });
  world.socketOf("ann").tell({ type: "error", code: "unknown_peer", message: "No such peer: zoe" });
  await clock.advance(100);
  assert.equal(ann.all("note").at(-1), "No such peer: zoe", "what nobody asked for is noted");
  await assertNothingLeft(all, clock, world);
});

test("a line that is half open is found out and taken over before others are told that we left", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann, bob] = all;
  const old = world.socketOf("ann");
  old.dead = true;
  await clock.advance(24_000);
  assert.notEqual(world.socketOf("ann"), old);
  assert.equal(old.readyState, 3);
  assert.deepEqual([ann.all("state"), ann.all("error"), bob.all("left")], [["joined"], [], []]);
  assertWhole(all);
  world.socketOf("ann").tell({ type: "error", code: "unknown_peer", message: "No such peer: zoe" });
  await clock.advance(100);
  assert.equal(ann.all("note").at(-1), "No such peer: zoe", "the old line's answer is not waited for");
  await assertNothingLeft(all, clock, world);
});

test("so is one on which nothing but the welcome was heard", async () => {
  const { clock, world, gather } = scene();
  await gather(["ann"]);
  const old = world.socketOf("ann");
  old.dead = true;
  await clock.advance(24_000);
  assert.notEqual(world.socketOf("ann"), old);
});

test("a server that forgot us without closing the line is joined anew, without a word", async () => {
  const { clock, world, gather } = scene();
  const [ann] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const old = world.socketOf("ann");
  old.user = null;
  await clock.advance(16_000);
  assert.notEqual(world.socketOf("ann"), old);
  assert.deepEqual(ann.all("error"), []);
});

test("a server that forgot us and gave our name away refuses us in the end", async () => {
  const { clock, world, gather } = scene();
  const [ann] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  world.refuse = () => "taken";
  world.socketOf("ann").user = null;
  await clock.advance(120_000);
  assert.equal(ann.room.state, "refused");
});

test("a line that does not answer keeps no refusal from being final", async () => {
  const { clock, world, gather } = scene();
  const [ann] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  world.refuse = () => "taken";
  world.socketOf("ann").dead = true;
  await clock.advance(100_000);
  assert.equal(ann.room.state, "refused");
  assert.equal(ann.all("error").at(-1).code, "taken");
});

test("a server that is started anew stops no media, and all rejoin", async () => {
  for (let seed = 1; seed <= 6; seed += 1) {
    const { clock, world, gather } = scene(seed);
    const all = await gather(["a", "c", "b", "d"]);
    const before = world.connections.length;
    world.stop();
    await clock.advance(3_000);
    for (const one of all) assert.equal(one.room.state, "detached");
    world.up = true;
    await clock.advance(40_000);
    for (const one of all) {
      assert.equal(one.room.state, "joined");
      assert.deepEqual([one.all("left"), one.all("untrack")], [[], []]);
    }
    assert.equal(world.connections.length, before, "nothing was built anew");
    assertWhole(all, `seed ${seed}`);
  }
});

test("after a restart of the server, who does not come back is gone after 30 s, or when media ends", async () => {
  const { clock, world, gather } = scene();
  const [ann, bob, cid] = /** @type {[Visitor, Visitor, Visitor]} */ (await gather(["ann", "bob", "cid"]));
  world.refuse = ({ userId }) => (userId === "ann" ? null : "over_capacity");
  world.stop();
  world.up = true;
  await clock.advance(1_000);
  assert.equal(ann.room.state, "joined");
  assert.deepEqual(ann.states(), { bob: "connected", cid: "connected" });
  cid.own.forEach((/** @type {any} */ connection) => connection.close());
  await clock.advance(1_000);
  assert.deepEqual(ann.states(), { bob: "connected" });
  await clock.advance(30_000);
  assert.deepEqual(ann.states(), {});
  assert.equal(bob.room.state, "detached");
});

test("who was told to be gone and is heard of again was never gone", async () => {
  const { clock, world, gather } = scene();
  const [ann, bob] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const socket = world.socketOf("bob");
  // The server gives up a socket that died, before bob noticed.
  socket.close();
  await clock.advance(100);
  assert.deepEqual(world.members, ["ann"]);
  assert.deepEqual(ann.states(), { bob: "connected" });
  bob.room.nudge();
  await clock.advance(20_000);
  assertWhole([ann, bob]);
  assert.deepEqual(ann.all("left"), []);
  assert.equal(world.connections.length, 2);
});

// --- first aid

test("a path that fails is mended by a restart, one that does not come back by a new connection", async () => {
  for (const word of ["failed", "disconnected"]) {
    const { clock, world, gather } = scene();
    const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
    const [ann, bob] = all;
    const lose = () => world.connections.filter(({ connectionState }) => connectionState === "connected").forEach((one) => one.become(word));
    lose();
    if (word === "disconnected") assert.equal(ann.peer("bob").state, "shaky");
    await clock.advance(6_000);
    assertWhole(all, word);
    assert.equal(world.connections.length, 2, "the same connections");
    assert.ok(world.connections.some(({ restarts }) => restarts === 1));
    world.open = false;
    lose();
    await clock.advance(4_500);
    assert.equal(ann.peer("bob").state, "restarting");
    await clock.advance(60_000);
    assert.ok(world.connections.length > 4, "tried again and again");
    assert.ok(world.connections.length < 40, `with a pause: ${world.connections.length}`);
    world.open = true;
    await clock.advance(40_000);
    assertWhole(all, word);
    assert.deepEqual([ann.all("left"), bob.all("left")], [[], []]);
    await assertNothingLeft(all, clock, world);
  }
});

test("a stutter that ends by itself is left alone", async () => {
  const { clock, world, gather } = scene();
  const [ann] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const { connection } = ann.peer("bob");
  connection.become("disconnected");
  await clock.advance(2_900);
  connection.become("connected");
  await clock.advance(10_000);
  assert.deepEqual(world.connections.map(({ restarts }) => restarts), [0, 0]);
  assert.deepEqual(ann.all("peer").map(() => 0).length, ann.all("peer").length);
});

test("while the line is down a broken path waits for it", async () => {
  const { clock, world, gather } = scene();
  const all = await gather(["ann", "bob"]);
  world.stop();
  await clock.advance(10);
  for (const one of world.connections) one.become("failed");
  await clock.advance(30_000);
  assert.equal(world.connections.length, 2, "nothing can be built without a line");
  assert.deepEqual(world.connections.map(({ connectionState }) => connectionState), ["failed", "failed"], "and what is there may come back by itself");
  world.up = true;
  await clock.advance(60_000);
  assertWhole(all);
});

test("an other side that closed its connection, and says nothing, is offered a new one", async () => {
  const { clock, world, gather } = scene();
  const [ann, bob] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  bob.own[0].onconnectionstatechange = null;
  bob.own[0].close();
  await clock.advance(9_000);
  assert.equal(world.connections.length, 4);
  assert.equal(ann.peer("bob").state, "connected");
});

test("an offer that is not answered makes the line doubted, and is said again", async () => {
  const { clock, world, visit } = scene();
  const ann = visit("ann");
  await clock.advance(200);
  let lost = 0;
  world.lose = ({ type }) => type === "offer" && (lost += 1) === 1;
  const bob = visit("bob");
  await clock.advance(6_000);
  assertWhole([ann, bob]);
  assert.equal(world.connections.length, 3, "only ann's own attempt was one too many");
});

test("credentials are renewed before they end, by a socket that nobody notices", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann] = all;
  const fresh = (/** @type {number} */ seconds) => [{ urls: ["turn:x.test"], username: `${Math.floor(Date.now() / 1000) + seconds}:ann`, credential: "c" }];
  world.iceServers = fresh(3_600);
  ann.room.nudge();
  await clock.advance(500);
  const { connection } = ann.peer("bob");
  assert.deepEqual(connection.configuration.iceServers, [{ urls: ["turn:x.test"], username: world.iceServers[0].username, credential: "c" }]);
  assert.equal(world.sockets.length, 3);
  world.iceServers = fresh(7_200);
  await clock.advance(2_890_000);
  assert.equal(world.sockets.length, 4);
  assert.equal(connection.configuration.iceServers[0].username, world.iceServers[0].username);
  assertWhole(all);
});

test("where no path is found fresh credentials are asked for, and not again soon", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann] = all;
  world.iceServers = [{ urls: "turn:x.test", username: "fresh", credential: "c" }];
  await clock.advance(120_000);
  world.open = false;
  for (const one of world.connections) one.become("failed");
  await clock.advance(60_000);
  assert.equal(world.sockets.length, 4, "one more of each");
  assert.equal(ann.peer("bob").connection.configuration.iceServers[0].username, "fresh");
  await clock.advance(59_000);
  assert.equal(world.sockets.length, 4, "these are fresh");
  await clock.advance(60_000);
  assert.equal(world.sockets.length, 6);
  world.open = true;
  await clock.advance(60_000);
  assertWhole(all);
  await assertNothingLeft(all, clock, world);
});

test("how long credentials last", () => {
  const undated = { urls: "turn:z", username: "ann", credential: "c" };
  const dated = (/** @type {number} */ seconds) => ({ urls: "turn:y", username: `${1_700_000_000 + seconds}:u`, credential: "c" });
  const at = (/** @type {number} */ seconds) => lifetime([{ urls: "turn:x" }, dated(seconds)], 1_700_000_000_000);
  assert.equal(lifetime([{ urls: "stun:x" }, { urls: "turn:y", username: "ann" }], 0), null);
  assert.equal(lifetime([{ urls: "stun:x" }, undated], 0), 1_800_000, "they do not say");
  assert.equal(lifetime([undated, dated(1_000)], 1_700_000_000_000), 800_000, "the first that end count");
  assert.equal(at(1_000), 800_000);
  assert.equal(at(10), 30_000);
  assert.equal(at(-5), 600_000, "our clock is wrong: no hurry, and no end");
  assert.equal(at(10_000_000), 43_200_000, "timers have an end");
});

// --- refusals

test("a first join that is refused for good rejects with the server's word", async () => {
  for (const code of ["taken", "room_full", "unauthorized", "too_many_attempts", "invalid_message"]) {
    const { clock, world, visit } = scene();
    world.refuse = () => code;
    const ann = visit("ann");
    await clock.advance(60_000);
    assert.equal(ann.fault?.code, code);
    assert.equal(ann.fault?.permanent, code !== "room_full");
    assert.equal(world.sockets.length, 1);
    await assertNothingLeft([], clock, world);
  }
});

test("a first join is tried again where that may help, and not for ever", async () => {
  for (const [code, retries, attempts] of /** @type {const} */ ([["over_capacity", undefined, 3], ["rate_limited", 0, 1], ["unreachable", 4, 5]])) {
    const { clock, world, visit } = scene();
    if (code === "unreachable") world.up = false;
    else world.refuse = () => code;
    const ann = visit("ann", { retries });
    await clock.advance(120_000);
    assert.equal(ann.fault?.code, code);
    assert.equal(world.sockets.length, attempts);
    await assertNothingLeft([], clock, world);
  }
});

test("our own dead socket may hold our name for a while", async () => {
  for (const [until, state] of /** @type {const} */ ([[30_000, "joined"], [90_000, "refused"]])) {
    const { clock, world, gather } = scene();
    const [ann, bob] = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
    const since = clock.now();
    world.refuse = ({ userId }) => (userId === "ann" && clock.now() - since < until ? "taken" : null);
    world.socketOf("ann").dead = true;
    world.socketOf("ann").drop(1006);
    await clock.advance(80_000);
    assert.equal(ann.room.state, state);
    assert.deepEqual(ann.states(), { bob: "connected" }, "media goes on");
    assert.equal(bob.room.state, "joined");
    if (state === "refused") {
      assert.equal(ann.all("error").at(-1).code, "taken");
      bob.room.close();
      await clock.advance(200);
      assert.deepEqual(ann.states(), {}, "and ends with it");
    }
    await assertNothingLeft([ann, bob], clock, world);
  }
});

test("a proof that is refused costs nobody the joined line, unless the token counts no more", async () => {
  for (const code of ["too_many_attempts", "invalid_message", "taken", "room_full", "unauthorized"]) {
    const { clock, world, gather } = scene();
    const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
    const [ann, bob] = all;
    const old = world.socketOf("ann");
    world.refuse = () => code;
    ann.room.nudge();
    await clock.advance(55_000);
    assert.equal(ann.room.state, code === "unauthorized" ? "refused" : "detached", code);
    assert.equal(old.readyState, code === "unauthorized" ? 3 : 1, code);
    assert.deepEqual(world.members, code === "unauthorized" ? ["bob"] : ["ann", "bob"], code);
    if (code === "too_many_attempts") assert.equal(world.sockets.length, 3, "it waits a minute");
    world.refuse = () => null;
    await clock.advance(20_000);
    if (code === "unauthorized") continue;
    assert.equal(ann.room.state, "joined", code);
    assert.deepEqual([...ann.all("left"), ...bob.all("left")], [], code);
    assertWhole(all, code);
    await assertNothingLeft(all, clock, world);
  }
});

test("whoever was in waits for the end of a lock-out of its address", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann, bob] = all;
  world.refuse = () => "too_many_attempts";
  world.socketOf("ann").dead = true;
  world.socketOf("ann").drop(1006);
  await clock.advance(59_000);
  assert.equal(ann.room.state, "detached");
  assert.equal(world.sockets.length, 3, "asked once");
  world.refuse = () => null;
  await clock.advance(3_000);
  assert.equal(ann.room.state, "joined");
  assert.deepEqual(bob.all("left"), []);
  assertWhole(all);
});

test("a name that another has stays theirs", async () => {
  const { clock, gather, visit } = scene();
  const all = await gather(["ann", "bob"]);
  const thief = visit("ann");
  await clock.advance(60_000);
  assert.equal(thief.fault?.code, "taken");
  assertWhole(all);
});

// --- ends

test("aborted or closed at any time, nothing is left", async () => {
  for (let ms = 0; ms < 700; ms += 17) {
    for (const how of ["abort", "close"]) {
      const { clock, world, visit, gather } = scene(ms + 1);
      const all = await gather(["ann", "zed"]);
      const abort = fakeAbort();
      const bob = visit("bob", { signal: abort.signal });
      await clock.advance(ms);
      if (how === "abort" || !bob.room) abort.abort();
      else bob.room.close();
      await clock.advance(500);
      assertWhole(all, `${how} after ${ms} ms`);
      if (!bob.room) assert.equal(bob.fault, abort.signal.reason);
      else assert.equal(bob.room.state, "closed");
      assert.equal(abort.listeners.size, 0);
      for (const connection of bob.own) assert.equal(connection.connectionState, "closed");
      await assertNothingLeft(all, clock, world);
    }
  }
});

test("a signal that is aborted already opens nothing", async () => {
  const { clock, world, visit } = scene();
  const ann = visit("ann", { signal: AbortSignal.abort() });
  await clock.advance(10);
  assert.equal(ann.fault?.name, "AbortError");
  assert.equal(world.sockets.length, 0);
});

test("leaving is said before anything closes", async () => {
  const { clock, world, gather } = scene();
  const [ann] = await gather(["ann", "bob"]);
  const socket = world.socketOf("ann");
  ann?.room.close();
  assert.deepEqual(socket.sent.at(-1), { type: "leave", roomId: "blue" });
  ann?.room.close();
  ann?.room.moveCursor(0, 0);
  await clock.advance(100);
  assert.equal(ann?.room.state, "closed");
  assert.deepEqual((await ann?.room.stats())?.peers, []);
});

test("nonsense from the server or from a stranger does no harm", async () => {
  const { clock, world, gather } = scene();
  const all = /** @type {[Visitor, Visitor]} */ (await gather(["ann", "bob"]));
  const [ann] = all;
  const socket = world.socketOf("ann");
  const sdp = { type: "answer", sdp: "v=0" };
  const odd = [
    "{", [], { type: "x" }, { type: "offer", from: "bob", sdp: "v=0" }, { type: "offer", from: "", sdp: { type: "offer", sdp: "" } },
    { type: "peer-joined" }, { type: "peer-left", peerId: "nobody" }, { type: "answer", from: "nobody", sdp }, { type: "answer", from: "bob", sdp },
    { type: "ice-candidate", from: "bob", candidate: null }, { type: "ice-candidate", from: "bob", candidate: { candidate: "junk" } },
    { type: "peer-joined", peerId: "ann" }, { type: "error", code: "unknown_peer", message: "Unknown peer: x" },
  ];
  for (const message of odd) socket.tell(message);
  await clock.advance(5_000);
  assertWhole(all);
  for (let at = 0; at < 400; at += 1) socket.tell({ type: "peer-joined", peerId: `stranger ${at}` });
  await clock.advance(100);
  assert.equal(ann.room.peers.size, 256);
});
