// Camera and microphone with stand-ins for the browser: none, one, denied, busy, unplugged, chosen.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Devices } from "../src/room/devices.js";
import { fakeMedia, settle } from "./room-fakes.js";

/** @param {Parameters<typeof fakeMedia>[0]} plugged */
function scene(plugged) {
  const media = fakeMedia(plugged);
  /** @type {any[]} */
  const told = [];
  const devices = new Devices({ media: /** @type {any} */ (media), secure: true, on: (change) => told.push(change) });
  return { media, told, devices };
}

test("both are asked for in one question, with what calls need", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
  await devices.open();
  assert.equal(media.asked.length, 1);
  assert.deepEqual(media.asked[0], { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true }, video: { width: { ideal: 1280 }, height: { ideal: 720 } } });
  assert.ok(devices.live("audio") && devices.live("video"));
  assert.deepEqual(devices.list("audio"), [{ id: "m1", name: "Microphone m1" }]);
});

test("without a camera there is sound, without a microphone a picture, without both nothing breaks", async () => {
  const noCamera = scene({ audio: ["m1"], video: [] });
  await noCamera.devices.open();
  assert.ok(noCamera.devices.live("audio") && !noCamera.devices.live("video"));
  assert.deepEqual(noCamera.devices.faults, { audio: null, video: "missing" });
  const noMicrophone = scene({ audio: [], video: ["c1"] });
  await noMicrophone.devices.open();
  assert.deepEqual(noMicrophone.devices.faults, { audio: "missing", video: null });
  const nothing = scene({ audio: [], video: [] });
  await nothing.devices.open();
  assert.deepEqual(nothing.devices.faults, { audio: "missing", video: "missing" });
});

test("denied, busy and odd faults are told apart", async () => {
  for (const [name, fault] of [["NotAllowedError", "denied"], ["NotReadableError", "busy"], ["TypeError", "failed"]]) {
    const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
    media.fault = name ?? "";
    await devices.open();
    assert.deepEqual(devices.faults, { audio: fault, video: fault });
  }
});

test("a page that is not secure, and a browser without devices, are told apart", async () => {
  for (const [secure, fault] of /** @type {const} */ ([[false, "insecure"], [true, "unsupported"]])) {
    const devices = new Devices({ media: undefined, secure, on: () => {} });
    await devices.open();
    assert.deepEqual(devices.faults, { audio: fault, video: fault });
    devices.close();
  }
});

test("a muted microphone stays open and silent, a camera that is off is closed", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
  await devices.open();
  const [microphone, camera] = [devices.track("audio"), devices.track("video")];
  await devices.set("audio", false);
  assert.equal(devices.track("audio"), microphone);
  assert.deepEqual([microphone?.enabled, microphone?.readyState], [false, "live"]);
  await devices.set("video", false);
  assert.equal(camera?.readyState, "ended");
  assert.equal(devices.track("video"), null);
  await devices.set("audio", true);
  await devices.set("video", true);
  assert.equal(microphone?.enabled, true);
  assert.ok(devices.live("video"));
  assert.equal(media.live.length, 2);
});

test("switching fast leaves no track that nobody stops", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
  await Promise.all([devices.open(), devices.set("video", false), devices.set("video", true), devices.set("video", false), devices.set("video", true), devices.set("video", false)]);
  assert.equal(devices.track("video"), null);
  assert.deepEqual(media.live.map(({ kind }) => kind), ["audio"]);
  devices.close();
  assert.equal(media.live.length, 0);
  assert.equal(media.listeners.size, 0);
  assert.equal(media.most, 1, "one question at a time: the last answer must be to the last wish");
});

test("a listener that throws keeps no camera on, and later changes are made", async () => {
  const media = fakeMedia({ audio: ["m1"], video: ["c1"] });
  let odd = false;
  const devices = new Devices({
    media: /** @type {any} */ (media),
    secure: true,
    on: () => {
      if (odd) throw new Error("odd");
    },
  });
  await devices.open();
  const camera = devices.track("video");
  odd = true;
  assert.throws(() => devices.set("video", false), /odd/);
  await settle();
  assert.deepEqual([camera?.readyState, devices.track("video")], ["ended", null]);
  await assert.rejects(devices.choose("audio", "m1"), /odd/, "the caller sees it");
  odd = false;
  await devices.set("video", true);
  assert.ok(devices.live("video"));
});

test("a microphone that was muted at the door comes up muted", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
  const opening = devices.open();
  // The question is open by then.
  while (media.asked.length === 0) await Promise.resolve();
  void devices.set("audio", false);
  await opening;
  assert.equal(devices.track("audio")?.enabled, false);
  assert.equal(devices.live("audio"), false);
});

test("another device takes the place of the first, which is let go", async () => {
  const { media, devices } = scene({ audio: ["m1", "m2"], video: ["c1", "c2"] });
  await devices.open();
  const first = devices.track("video");
  await devices.choose("video", "c2");
  assert.equal(first?.readyState, "ended");
  assert.equal(devices.current("video"), "c2");
  await devices.set("audio", false);
  await devices.choose("audio", "m2");
  assert.equal(devices.track("audio"), null, "nothing is opened while it is off");
  await devices.set("audio", true);
  assert.equal(devices.current("audio"), "m2");
  assert.equal(media.live.length, 2);
});

test("one that is pulled out is replaced by another, and told", async () => {
  const { media, told, devices } = scene({ audio: ["m1", "m2"], video: [] });
  await devices.open();
  await devices.choose("audio", "m2");
  await media.unplug("m2");
  assert.ok(told.some(({ kind, lost }) => kind === "audio" && lost));
  assert.equal(devices.current("audio"), "m1");
  assert.ok(devices.live("audio"));
  await media.unplug("m1");
  assert.equal(devices.track("audio"), null);
  assert.equal(devices.faults.audio, "missing");
});

test("one that is plugged in where there was none is taken, unless it is off", async () => {
  const { media, told, devices } = scene({ audio: [], video: [] });
  await devices.open();
  await devices.set("video", false);
  await media.plug("audio", "m9");
  await media.plug("video", "c9");
  assert.equal(devices.current("audio"), "m9");
  assert.ok(told.some(({ kind, found }) => kind === "audio" && found));
  assert.equal(devices.track("video"), null);
});

test("a chosen device that is gone is no reason to have none", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: [] });
  await devices.open();
  await devices.choose("audio", "gone");
  assert.equal(devices.current("audio"), "m1");
  assert.equal(media.live.length, 1);
});

test("what comes after the end is let go", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
  const opening = devices.open();
  await Promise.resolve();
  devices.close();
  await opening;
  assert.equal(media.live.length, 0);
});

test("at rest nothing is open and nothing is forgotten", async () => {
  const { media, told, devices } = scene({ audio: ["m1", "m2"], video: ["c1"] });
  await devices.open();
  await devices.choose("audio", "m2");
  await devices.set("video", false);
  told.length = 0;
  devices.rest();
  assert.equal(media.live.length, 0);
  assert.deepEqual(told, [{ kind: "audio" }, { kind: "video" }]);
  assert.deepEqual([devices.live("audio"), devices.current("audio"), devices.waiting, devices.resting], [false, "m2", ["audio"], true]);
  await media.unplug("m1");
  await media.plug("video", "c2");
  assert.equal(media.live.length, 0, "nothing comes back by itself");
  await devices.open();
  assert.deepEqual(media.live.map(({ kind, deviceId }) => [kind, deviceId]), [["audio", "m2"]]);
  assert.deepEqual([devices.waiting, devices.resting], [[], false]);
});

test("at rest, one that is switched on or chosen brings back what is wanted", async () => {
  const { media, devices } = scene({ audio: ["m1"], video: ["c1", "c2"] });
  await devices.open();
  devices.rest();
  const asked = media.asked.length;
  await devices.set("video", true);
  assert.ok(devices.live("audio") && devices.live("video"));
  assert.equal(media.asked.length, asked + 1, "in one question");
  devices.rest();
  await devices.set("audio", false);
  assert.equal(media.live.length, 0);
  await devices.choose("video", "c2");
  assert.deepEqual(media.live.map(({ deviceId }) => deviceId), ["c2"]);
});

test("what was asked for before the rest is let go when it comes, unless it is wanted again by then", async () => {
  for (const again of [false, true]) {
    const { media, devices } = scene({ audio: ["m1"], video: ["c1"] });
    const opening = devices.open();
    while (media.asked.length === 0) await Promise.resolve();
    devices.rest();
    if (again) await devices.open();
    await opening;
    await settle();
    assert.deepEqual(media.live.map(({ kind }) => kind), again ? ["audio", "video"] : []);
    assert.equal(media.asked.length, 1);
  }
});
