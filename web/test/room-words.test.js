// What a person reads and sees by name in a room.

import assert from "node:assert/strict";
import { test } from "node:test";
import { badge, follows } from "../src/room/chat.js";
import { portion } from "../src/room/cursors.js";
import { pictureWord, rowsOf } from "../src/room/diagnostics.js";
import { freeName } from "../src/room/guest.js";
import { chooseFormat, fileName } from "../src/room/recorder.js";
import { Ear } from "../src/room/speaking.js";
import { Eye } from "../src/room/tiles.js";
import { faultsWords, hue, initial, peerWord, refusalWords, restWords, statusWords, toggleWord } from "../src/room/words.js";

test("each refusal of the server says what to do, an unknown one says what the server said", () => {
  const codes = ["unauthorized", "too_many_attempts", "taken", "room_full", "rate_limited", "over_capacity", "invalid_message", "unreachable"];
  const titles = codes.map((code) => refusalWords({ code, message: "x" }).title);
  assert.equal(new Set(titles).size, codes.length);
  assert.deepEqual(refusalWords({ code: "constructor", message: "Odd." }), { title: "You could not join", text: "Odd." });
  assert.ok(refusalWords({ code: "", message: "" }).text);
});

test("the pill counts people and has a mood for every state", () => {
  assert.deepEqual(statusWords("joined", 1), { title: "Only you", mood: "good" });
  assert.equal(statusWords("joined", 7).title, "7 here");
  assert.deepEqual(["joining", "detached", "refused", "door"].map((state) => statusWords(state, 2).mood), ["busy", "warn", "bad", "calm"]);
});

test("what is wrong with both devices is said once", () => {
  assert.equal(faultsWords({ audio: null, video: null }), "");
  assert.equal(faultsWords({ audio: "insecure", video: "insecure" }).match(/https/g)?.length, 1);
  assert.match(faultsWords({ audio: "missing", video: "missing" }), /No camera and no microphone/);
  assert.match(faultsWords({ audio: "denied", video: "denied" }), /Camera and microphone are blocked/);
  assert.match(faultsWords({ audio: null, video: "missing" }), /^No camera was found/);
  assert.match(faultsWords({ audio: "busy", video: "denied" }), /microphone is in use.*camera is blocked/);
  assert.deepEqual([restWords([]), restWords(["video"])], ["", "The camera is off until you join."]);
  assert.match(restWords(["audio", "video"]), /^Camera and microphone are off/);
});

test("a button says what it does, a tile what is the matter", () => {
  assert.deepEqual([toggleWord("audio", true), toggleWord("audio", false), toggleWord("video", true), toggleWord("video", false)], ["Mute microphone", "Unmute microphone", "Turn camera off", "Turn camera on"]);
  assert.equal(peerWord("connected"), "");
  assert.equal(peerWord("toString"), "");
  for (const state of ["connecting", "shaky", "restarting", "failed"]) assert.ok(peerWord(state), state);
});

test("initials are whole letters, colours stay the same", () => {
  assert.deepEqual(["ann", " émile", "😀x", ""].map(initial), ["A", "É", "😀", "?"]);
  assert.equal(hue("Ann"), hue("Ann"));
  assert.notEqual(hue("Ann"), hue("Ben"));
  for (const name of ["", "x".repeat(64), "😀"]) assert.ok(hue(name) >= 0 && hue(name) < 360);
});

test("lines of one person stand together, until somebody else or a pause comes between", () => {
  const line = { from: "Ben", text: "x", at: 1_000, own: false };
  assert.equal(follows(null, line), false);
  assert.equal(follows(line, { ...line, at: 60_000 }), true);
  assert.equal(follows(line, { ...line, at: 1_000 + 120_000 }), false);
  assert.equal(follows(line, { ...line, from: "Clara" }), false);
  assert.equal(follows(line, { ...line, own: true }), false);
  assert.deepEqual([1, 99, 100].map(badge), ["1", "99", "99+"]);
});

test("a pointer is measured by the surface, and outside of it there is none", () => {
  const surface = { x: 100, y: 50, width: 200, height: 100 };
  assert.deepEqual(portion({ x: 200, y: 75 }, surface), { x: 0.5, y: 0.25 });
  assert.deepEqual(portion({ x: 100, y: 150 }, surface), { x: 0, y: 1 });
  for (const point of [{ x: 99, y: 75 }, { x: 301, y: 75 }, { x: 200, y: 49 }, { x: 200, y: 151 }]) assert.equal(portion(point, surface), null);
  assert.equal(portion({ x: 0, y: 0 }, { x: 0, y: 0, width: 0, height: 0 }), null);
});

test("the first format that the browser writes is taken, with its extension", () => {
  assert.deepEqual(chooseFormat(() => true), { type: "video/webm;codecs=vp8,opus", extension: "webm" });
  assert.deepEqual(chooseFormat((type) => type === "video/webm"), { type: "video/webm", extension: "webm" });
  assert.deepEqual(chooseFormat((type) => type.startsWith("video/mp4")), { type: "video/mp4;codecs=avc1.42E01E,mp4a.40.2", extension: "mp4" });
  assert.equal(chooseFormat((type) => type === "video/mp4")?.extension, "mp4");
  assert.equal(chooseFormat(() => false), null);
});

test("a file's name is one that every system takes", () => {
  const at = new Date(2026, 0, 9, 8, 7, 6);
  assert.equal(fileName("Blue room", at, "webm"), "Blue-room-2026-01-09-080706.webm");
  assert.equal(fileName("../../etc/<passwd>|?*", at, "mp4"), "etc-passwd-2026-01-09-080706.mp4");
  assert.equal(fileName("…", at, "webm"), "room-2026-01-09-080706.webm");
  assert.equal(fileName("Grüße 会", at, "webm"), "Grüße-会-2026-01-09-080706.webm");
  assert.ok(fileName("x".repeat(64), at, "webm").length < 90);
});

test("a voice that is in the room already gets a number", () => {
  assert.equal(freeName("Low Tone", () => false), "Low Tone");
  const taken = new Set(["Low Tone", "Low Tone 2"]);
  assert.equal(freeName("Low Tone", (name) => taken.has(name)), "Low Tone 3");
  assert.ok([...freeName("é".repeat(90), (name) => !/\d/.test(name))].length <= 64);
});

test("speech is heard at once and held over a breath, and only true silence is silence", () => {
  const ear = new Ear(0);
  assert.deepEqual(ear.hear(-60, 100), { speaking: false, silent: false });
  assert.equal(ear.hear(-30, 200).speaking, true);
  assert.equal(ear.hear(-70, 700).speaking, true, "a breath");
  assert.equal(ear.hear(-70, 900).speaking, false);
  assert.equal(ear.hear(-Infinity, 4_800).silent, false);
  assert.equal(ear.hear(-Infinity, 4_900).silent, true);
  assert.equal(ear.hear(-80, 5_000).silent, false, "the noise of a quiet room");
});

test("a picture moves as long as frames are counted, and where none ever is nothing speaks against it", () => {
  const blind = new Eye();
  for (const now of [0, 500, 60_000]) assert.equal(blind.see(0, now), true, "a browser that counts no frames of a stream");
  const eye = new Eye();
  assert.equal(eye.see(3, 1_000), true);
  assert.equal(eye.see(3, 15_900), true);
  assert.equal(eye.see(3, 16_000), false);
  assert.equal(eye.see(4, 16_500), true);
  assert.equal(eye.see(0, 17_000), true, "counted anew");
  assert.equal(eye.see(0, 60_000), false, "it does count");
});

test("figures in words, and a dash for each that is not there", () => {
  const none = { peer: "Ben", state: /** @type {const} */ ("connecting"), path: null, words: "", pair: null, rttMs: null, lossPercent: null, lossOutPercent: null, jitterMs: null, kbpsIn: null, kbpsOut: null, video: { in: null, out: null }, audioLevel: null, verdict: { rating: /** @type {const} */ ("none"), text: "" } };
  assert.ok(rowsOf(none).every(([name, value]) => name && value === "–"));
  const end = { type: "host", protocol: "udp", address: "192.0.2.1:5000", relayProtocol: null };
  const rows = new Map(rowsOf({ ...none, words: "through NAT", pair: { local: end, remote: end }, rttMs: 12.4, kbpsIn: 800, video: { in: { width: 640, height: 360, fps: 29.97 }, out: null } }));
  assert.deepEqual([rows.get("Path"), rows.get("Round trip"), rows.get("Coming in"), rows.get("Picture in")], ["through NAT", "12 ms", "800 kbit/s", "640 × 360, 30 a second"]);
  assert.equal(pictureWord(null), "–");
});
