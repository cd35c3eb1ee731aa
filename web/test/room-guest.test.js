// Voices as guests, with clients and rooms that obey.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Guests, MOST_GUESTS } from "../src/room/guest.js";
import { settle } from "./room-fakes.js";

const VOICE = { id: "sine-220", name: "Low Tone", description: "Low." };

class Speaker {
  /** @type {Map<string, Set<(event: any) => void>>} */
  listeners = new Map();
  closed = false;

  /** @param {string} name @param {(event: any) => void} listener */
  on(name, listener) {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }
  /** @param {string} name @param {unknown} event */
  emit(name, event) {
    for (const listener of [...(this.listeners.get(name) ?? [])]) listener(event);
  }
  get heeded() {
    return [...this.listeners.values()].reduce((sum, { size }) => sum + size, 0);
  }
  close() {
    this.closed = true;
  }
}

function scene() {
  const world = { clients: /** @type {any[]} */ ([]), rooms: /** @type {any[]} */ ([]), relays: /** @type {any[]} */ ([]), deaf: "", joined: /** @type {any[]} */ ([]), refuse: "", taken: /** @type {string[]} */ ([]), connectFault: "", token: "t", changes: 0 };
  const guests = new Guests({
    token: () => world.token,
    listen: () => {
      const client = Object.assign(new Speaker(), { connect: () => (world.connectFault ? Promise.reject({ code: world.connectFault }) : Promise.resolve()), start: (/** @type {string} */ voice) => (client.voice = voice), voice: "" });
      world.clients.push(client);
      return /** @type {any} */ (client);
    },
    join: async (user, stream) => {
      await settle();
      if (world.refuse) throw { code: world.refuse };
      if (world.taken.includes(user)) throw { code: "taken" };
      const room = new Speaker();
      world.rooms.push(room);
      world.joined.push({ user, stream });
      return /** @type {any} */ (room);
    },
    relay: () => {
      if (world.deaf === "at once") throw new Error("no more contexts");
      const attach = (/** @type {any} */ stream) => {
        if (world.deaf) throw new Error("another sample rate");
        relay.attached.push(stream);
      };
      const relay = { stream: { of: world.relays.length }, attached: /** @type {any[]} */ ([]), closed: false, attach, close: () => (relay.closed = true) };
      world.relays.push(relay);
      return /** @type {any} */ (relay);
    },
    on: () => (world.changes += 1),
  });
  return { guests, world };
}

const free = () => false;

test("a voice is asked in: heard by one client, sent on by a second place in the room", async () => {
  const { guests, world } = scene();
  guests.open();
  world.clients[0].emit("change", { voices: [VOICE] });
  assert.deepEqual(guests.voices, [VOICE]);
  guests.ask(VOICE, free);
  assert.deepEqual(guests.guests, [{ name: "Low Tone", state: "coming" }]);
  world.clients[0].emit("track", { stream: "sound" });
  await settle();
  assert.equal(world.clients[0].voice, "sine-220");
  assert.deepEqual(world.joined, [{ user: "Low Tone", stream: { of: 0 } }]);
  assert.deepEqual(world.relays[0].attached, ["sound"]);
  assert.deepEqual(guests.guests, [{ name: "Low Tone", state: "here" }]);
  assert.equal(world.clients.length, 2, "another client tells the voices from now on");
});

test("sent away, everything of it is let go; the list stays", async () => {
  const { guests, world } = scene();
  guests.open();
  guests.ask(VOICE, free);
  await settle();
  guests.send("Low Tone");
  assert.ok(world.clients[0].closed && world.rooms[0].closed && world.relays[0].closed);
  assert.equal(world.clients[0].heeded + world.rooms[0].heeded, 0);
  assert.deepEqual(guests.guests, []);
  assert.equal(world.clients[1].closed, false);
});

test("leaving sends all of them away, also one that is still on the way", async () => {
  const { guests, world } = scene();
  guests.open();
  guests.ask(VOICE, free);
  await settle();
  guests.ask(VOICE, free);
  guests.close();
  await settle();
  assert.ok(world.clients.every(({ closed }) => closed), "clients");
  assert.ok(world.rooms.length === 2 && world.rooms.every(({ closed }) => closed), "rooms");
  assert.ok(world.relays.every(({ closed }) => closed), "relays");
});

test("names do not collide, and no more come than one browser can feed", async () => {
  const { guests, world } = scene();
  guests.open();
  for (let count = 0; count < MOST_GUESTS + 2; count += 1) guests.ask(VOICE, (name) => name === "Low Tone");
  await settle();
  assert.deepEqual(guests.guests.map(({ name }) => name), ["Low Tone 2", "Low Tone 3", "Low Tone 4", "Low Tone 5"]);
  assert.equal(world.rooms.length, MOST_GUESTS);
});

test("a name that somebody took meanwhile is given up for the next, and not for ever", async () => {
  const { guests, world } = scene();
  guests.open();
  world.taken = ["Low Tone", "Low Tone 2"];
  guests.ask(VOICE, free);
  for (let turn = 0; turn < 5; turn += 1) await settle();
  assert.deepEqual(guests.guests, [{ name: "Low Tone 3", state: "here" }]);
  const other = scene();
  other.guests.open();
  other.world.refuse = "taken";
  other.guests.ask(VOICE, free);
  for (let turn = 0; turn < 5; turn += 1) await settle();
  assert.deepEqual([other.guests.guests, other.guests.fault], [[], "taken"]);
});

test("a room that refuses, a client that is refused and a room that ended each end the guest", async () => {
  const full = scene();
  full.guests.open();
  full.world.refuse = "room_full";
  full.guests.ask(VOICE, free);
  await settle();
  assert.deepEqual([full.guests.guests, full.guests.fault, full.world.clients[0].closed], [[], "room_full", true]);
  for (const end of ["client", "room"]) {
    const { guests, world } = scene();
    guests.open();
    guests.ask(VOICE, free);
    await settle();
    (end === "client" ? world.clients[0] : world.rooms[0]).emit("state", "refused");
    assert.deepEqual(guests.guests, [], end);
    assert.ok(world.clients[0].closed && world.rooms[0].closed, end);
  }
});

test("a guest whose client never gets through does not stay", async () => {
  const { guests, world } = scene();
  world.connectFault = "over_capacity";
  guests.open();
  guests.ask(VOICE, free);
  world.connectFault = "";
  for (let turn = 0; turn < 3; turn += 1) await settle();
  assert.deepEqual(guests.guests, []);
  assert.ok(world.clients[0].closed && world.relays[0].closed);
  assert.ok(world.rooms.every(({ closed }) => closed));
});

test("a guest whose voice the browser does not take up goes, and why is told", async () => {
  const { guests, world } = scene();
  guests.open();
  guests.ask(VOICE, free);
  await settle();
  world.deaf = "later";
  world.clients[0].emit("track", { stream: "sound" });
  assert.deepEqual([guests.guests, guests.fault], [[], "unheard"]);
  assert.ok(world.clients[0].closed && world.rooms[0].closed && world.relays[0].closed);
  world.deaf = "at once";
  guests.ask(VOICE, free);
  assert.deepEqual([guests.guests, guests.fault, world.clients[1].closed], [[], "unheard", false]);
});

test("why there are no voices is told, and opening again asks again", async () => {
  const { guests, world } = scene();
  world.connectFault = "unreachable";
  guests.open();
  await settle();
  assert.equal(guests.fault, "unreachable");
  assert.ok(world.clients[0].closed);
  world.connectFault = "";
  guests.open();
  assert.equal(guests.fault, null);
  assert.equal(world.clients.length, 2);
  guests.shut();
  assert.ok(world.clients[1].closed);
  assert.equal(world.clients[1].heeded, 0);
});

test("without a token nothing is asked, and one that was refused is not tried again", async () => {
  const { guests, world } = scene();
  world.token = "";
  guests.open();
  assert.deepEqual([guests.fault, world.clients.length, world.changes], ["unauthorized", 0, 1]);
  world.token = "wrong";
  world.connectFault = "unauthorized";
  for (let again = 0; again < 3; again += 1) {
    guests.open();
    await settle();
    guests.shut();
  }
  assert.deepEqual([guests.fault, world.clients.length], ["unauthorized", 1]);
  world.token = "right";
  world.connectFault = "";
  guests.open();
  await settle();
  assert.deepEqual([guests.fault, world.clients.length], [null, 2]);
});
