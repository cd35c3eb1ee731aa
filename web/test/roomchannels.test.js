// Chat and cursors to one person: order, once, bounds, and what strangers may send.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RoomChannels } from "../sdk/roomchannels.js";
import { RoomCursor } from "../sdk/roomcursor.js";
import { readChat, readCursor } from "../sdk/roomwire.js";
import { FakeClock } from "./fakes.js";

class Channel extends EventTarget {
  readyState = "connecting";
  bufferedAmount = 0;
  /** @type {any[]} */ sent = [];
  listeners = 0;
  full = false;
  /** @param {string} label */
  constructor(label) {
    super();
    this.label = label;
  }
  /** @param {any[]} listener */
  addEventListener(...listener) {
    this.listeners += 1;
    super.addEventListener(.../** @type {[any, any]} */ (listener));
  }
  /** @param {any[]} listener */
  removeEventListener(...listener) {
    this.listeners -= 1;
    super.removeEventListener(.../** @type {[any, any]} */ (listener));
  }
  /** @param {string} text */
  send(text) {
    if (this.full) throw new Error("full");
    this.sent.push(JSON.parse(text));
  }
  open() {
    this.readyState = "open";
    this.dispatchEvent(new Event("open"));
  }
  close() {
    this.readyState = "closed";
    this.dispatchEvent(new Event("close"));
  }
  /** @param {unknown} data */
  hear(data) {
    this.dispatchEvent(new MessageEvent("message", { data: typeof data === "string" ? data : JSON.stringify(data) }));
  }
}

function scene() {
  const clock = new FakeClock();
  /** @type {any[]} */
  const told = [];
  const channels = new RoomChannels({
    clock,
    on: {
      chat: (text) => told.push(text),
      cursor: (at) => told.push(at),
      pointable: () => told.push("pointable"),
      channel: ({ label }) => told.push(`channel ${label}`),
      silent: () => told.push("silent"),
      note: () => told.push("note"),
    },
  });
  /** @param {string} label */
  const add = (label, open = true) => {
    const channel = new Channel(label);
    channels.add(/** @type {any} */ (channel));
    if (open) channel.open();
    return channel;
  };
  return { clock, told, channels, add };
}

const texts = (/** @type {Channel} */ channel) => channel.sent.map(({ text }) => text);

test("what is said before there is a way arrives then, in order and once", () => {
  const { channels, add } = scene();
  channels.say("1");
  const chat = add("chat", false);
  channels.say("2");
  chat.open();
  assert.deepEqual(chat.sent, [], "the connection does not stand");
  channels.ready = true;
  channels.say("3");
  assert.deepEqual(chat.sent, ["1", "2", "3"].map((text) => ({ type: "chat", text })));
  channels.ready = false;
  channels.say("4");
  channels.reset();
  assert.equal(chat.listeners, 0);
  const next = add("chat");
  channels.say("5");
  channels.ready = true;
  assert.deepEqual([texts(chat), texts(next)], [["1", "2", "3"], ["4", "5"]]);
  channels.close();
  channels.say("6");
  assert.deepEqual(texts(next), ["4", "5"]);
});

test("a channel that is full or closing loses no line", () => {
  const { channels, add } = scene();
  channels.ready = true;
  const chat = add("chat");
  chat.full = true;
  channels.say("1");
  chat.full = false;
  channels.say("2");
  assert.deepEqual(texts(chat), ["1", "2"]);
});

test("of what nobody takes, the last 256 lines are kept", () => {
  const { channels, add, told } = scene();
  for (let at = 0; at < 300; at += 1) channels.say(String(at));
  assert.equal(told.filter((one) => one === "note").length, 44);
  channels.ready = true;
  const chat = add("chat");
  assert.equal(texts(chat)[0], "44");
  assert.equal(chat.sent.length, 256);
});

test("of two of a label one is used while it works, and both are heard", () => {
  const { channels, add, told } = scene();
  channels.ready = true;
  const [one, two, three] = [add("chat", false), add("chat"), add("chat")];
  channels.say("1");
  one.open();
  channels.say("2");
  assert.deepEqual([one, two, three].map(texts), [[], ["1", "2"], []]);
  for (const channel of [one, two, three]) channel.hear({ type: "chat", text: "x" });
  assert.deepEqual(told, ["x", "x", "x"]);
  two.close();
  channels.say("3");
  assert.deepEqual([one, two, three].map(texts), [["3"], ["1", "2"], []]);
  assert.equal(channels.byLabel.get("chat"), /** @type {any} */ (one));
  one.close();
  three.close();
  assert.deepEqual(told.slice(3), ["silent"]);
  assert.equal(channels.byLabel.size, 0);
});

test("channels of other labels are told, left alone, and bounded", () => {
  const { channels, add, told } = scene();
  const file = add("file");
  file.hear({ type: "chat", text: "x" });
  assert.deepEqual(told, ["channel file"]);
  for (let at = 0; at < 40; at += 1) add(`x${at}`);
  assert.equal(channels.byLabel.size, 32);
  assert.equal(add("late").readyState, "open", "the stand-in opens it again");
  assert.ok(!channels.byLabel.has("late"));
});

test("a stranger's flood of chat is cut, and what comes later is heard again", async () => {
  const { clock, add, told } = scene();
  const chat = add("chat");
  for (let at = 0; at < 2_000; at += 1) chat.hear({ type: "chat", text: "x" });
  assert.equal(told.length, 512);
  await clock.advance(1_000);
  for (let at = 0; at < 2_000; at += 1) chat.hear({ type: "chat", text: "x" });
  assert.equal(told.length, 532);
});

test("a stranger's flood of cursors is cut, costs them no line of chat, and what comes later is seen again", async () => {
  const { clock, add, told } = scene();
  const [cursors, chat] = [add("cursors"), add("chat")];
  for (let at = 0; at < 2_000; at += 1) cursors.hear({ type: "cursor", x: 0, y: 0 });
  assert.equal(told.length, 120);
  chat.hear({ type: "chat", text: "x" });
  assert.equal(told.length, 121);
  await clock.advance(1_000);
  for (let at = 0; at < 2_000; at += 1) cursors.hear("{");
  cursors.hear({ type: "cursor", x: 0, y: 0 });
  assert.equal(told.length, 121, "what is no cursor counts as well");
  await clock.advance(1_000);
  for (let at = 0; at < 2_000; at += 1) cursors.hear({ type: "cursor", x: 0, y: 0 });
  assert.equal(told.length, 181);
});

test("chat is checked, trimmed and cut, and never through a character", () => {
  const line = (/** @type {unknown} */ text) => readChat(JSON.stringify({ type: "chat", text }));
  assert.equal(line("  a <b>\n "), "a <b>");
  for (const odd of ["", "  ", 1, null, ["x"], {}]) assert.equal(line(odd), null);
  for (const odd of ["{", "null", "[]", '{"type":"cursor","x":0,"y":0}', '{"text":"x"}', new ArrayBuffer(8)]) assert.equal(readChat(odd), null);
  assert.equal(line("x".repeat(5_000))?.length, 4_000);
  assert.equal(line("x".repeat(4_000))?.length, 4_000);
  assert.equal(line(`${"x".repeat(3_999)}😀`), "x".repeat(3_999));
  assert.equal(line(`${"x".repeat(3_998)}😀`), `${"x".repeat(3_998)}😀`);
  assert.equal(line("x".repeat(100_000)), null);
});

test("a cursor is finite and within the picture", () => {
  const at = (/** @type {string} */ x, y = "0.5") => readCursor(`{"type":"cursor","x":${x},"y":${y}}`);
  assert.deepEqual(at("0.25"), { x: 0.25, y: 0.5 });
  assert.deepEqual(at("-3", "9"), { x: 0, y: 1 });
  for (const odd of ["null", '"1"', "1e999", "[1]", "true"]) assert.equal(at(odd), null);
  assert.deepEqual(at("0.12345678901234567", "1e-300"), { x: 0.12345678901234567, y: 1e-300 });
  assert.equal(at(`0.${"1".repeat(256)}`), null, "longer than any cursor");
});

test("cursors wait for the connection and for room in the channel", () => {
  const { channels, add, told } = scene();
  const at = { x: 0, y: 1 };
  assert.equal(channels.point(at), true, "nobody to tell");
  const cursors = add("cursors");
  assert.equal(channels.point(at), true);
  assert.deepEqual([cursors.sent, told], [[], []]);
  channels.ready = true;
  assert.deepEqual(told, ["pointable"], "told once there is a way");
  cursors.bufferedAmount = 65_536;
  assert.equal(channels.point(at), false);
  cursors.bufferedAmount = 65_535;
  assert.equal(channels.point(at), true);
  assert.deepEqual(cursors.sent, [{ type: "cursor", x: 0, y: 1 }]);
  channels.say("x");
  assert.equal(cursors.sent.length, 1);
});

test("a cursor is sent 30 times a second at most, and its last position always", async () => {
  const clock = new FakeClock();
  const peer = (/** @type {boolean} */ free) => ({ free, at: /** @type {any[]} */ ([]), point(/** @type {any} */ at) { return this.free && this.at.push([clock.now(), at.x]) > 0; } });
  const [ann, bob] = [peer(true), peer(false)];
  // Browsers wait for whole milliseconds.
  const whole = { now: clock.now, after: (/** @type {number} */ ms, /** @type {() => void} */ run) => clock.after(Math.floor(ms), run), cancel: clock.cancel };
  const cursor = new RoomCursor({ clock: whole, peers: () => /** @type {any} */ ([ann, bob]) });
  for (let ms = 0; ms < 1_000; ms += 5) {
    cursor.move(ms / 1_000, 2);
    await clock.advance(5);
  }
  assert.ok(ann.at.length >= 28 && ann.at.length <= 30, `${ann.at.length}`);
  await clock.advance(100);
  assert.equal(ann.at[0][0], 0, "the first at once");
  assert.equal(ann.at.at(-1)[1], 0.995);
  assert.equal(bob.at.length, 0);
  bob.free = true;
  await clock.advance(40);
  assert.deepEqual(bob.at.map(([, x]) => x), [0.995], "the last, once there is room");
  await clock.advance(100);
  assert.equal(clock.pending, 0);
  cursor.move(NaN, 0);
  cursor.move(0, Infinity);
  assert.equal(clock.pending, 0);
  const cid = peer(true);
  cursor.due(/** @type {any} */ (cid));
  assert.deepEqual(cid.at.map(([, x]) => x), [0.995], "who comes later is told");
  const gone = peer(false);
  cursor.due(/** @type {any} */ (gone));
  cursor.forget(/** @type {any} */ (gone));
  await clock.advance(100);
  assert.equal(clock.pending, 0);
  cursor.move(0, 0);
  cursor.close();
  cursor.move(1, 1);
  assert.equal(clock.pending, 0);
});
