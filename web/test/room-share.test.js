// The screen in place of the camera, and back, with a picker and tracks that obey.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Share } from "../src/room/share.js";
import { FakeTrack, fakeStream, named, settle } from "./room-fakes.js";

/** @param {{ capture?: () => Promise<MediaStream>, camera?: FakeTrack | null }} [options] */
function scene({ capture, camera = new FakeTrack("video", "camera") } = {}) {
  const screen = new FakeTrack("video", "screen");
  /** @type {unknown[]} */
  const sent = [];
  const world = { camera, screen, sent, changes: 0 };
  const share = new Share({
    capture: capture ?? (async () => fakeStream(screen)),
    send: async (track) => void sent.push(track),
    camera: () => /** @type {any} */ (world.camera),
    on: () => (world.changes += 1),
  });
  return { share, world };
}

test("the screen takes the camera's place, and the camera comes back", async () => {
  const { share, world } = scene();
  await share.start();
  assert.equal(share.track, /** @type {any} */ (world.screen));
  assert.equal(world.screen.contentHint, "detail");
  await share.stop();
  assert.deepEqual(world.sent, [world.screen, world.camera]);
  assert.equal(share.track, null);
  assert.equal(world.screen.readyState, "ended");
  assert.equal(world.camera?.readyState, "live", "the camera is not ours to stop");
  assert.equal(world.changes, 2);
});

test("the browser's own stop brings the camera back", async () => {
  const { share, world } = scene();
  await share.start();
  world.screen.end();
  await settle();
  assert.deepEqual(world.sent, [world.screen, world.camera]);
  assert.equal(world.screen.listening.size, 0);
});

test("with the camera off, nothing comes back; with one that was switched on meanwhile, that one", async () => {
  const { share, world } = scene({ camera: null });
  await share.start();
  await share.stop();
  assert.deepEqual(world.sent, [world.screen, null]);
  const other = scene({ camera: null });
  await other.share.start();
  other.world.camera = new FakeTrack("video", "late");
  other.world.screen.end();
  await settle();
  assert.equal(other.world.sent.at(-1), other.world.camera);
});

test("pressing twice asks once", async () => {
  let asked = 0;
  const { share, world } = scene({ capture: async () => { asked += 1; await settle(); return fakeStream(new FakeTrack("video")); } });
  await Promise.all([share.start(), share.start()]);
  await share.start();
  assert.equal(asked, 1);
  assert.equal(world.sent.length, 1);
});

test("a person who changed their mind is no fault, a browser that cannot is", async () => {
  const refused = scene({ capture: () => Promise.reject(named("NotAllowedError")) });
  await refused.share.start();
  assert.deepEqual([refused.world.sent, refused.world.changes], [[], 0]);
  await assert.rejects(scene({ capture: () => Promise.reject(named("NotReadableError")) }).share.start(), { name: "NotReadableError" });
  const none = new Share({ capture: undefined, send: async () => {}, camera: () => null, on: () => {} });
  assert.equal(none.supported, false);
  await none.start();
});

test("who left while the picker was open captures nothing", async () => {
  const screen = new FakeTrack("video");
  const { share, world } = scene({ capture: async () => { await settle(); return fakeStream(screen); } });
  const starting = share.start();
  share.close();
  await starting;
  assert.equal(screen.readyState, "ended");
  assert.deepEqual(world.sent, []);
});

test("leaving stops the capture and sends nothing any more", async () => {
  const { share, world } = scene();
  await share.start();
  share.close();
  assert.equal(world.screen.readyState, "ended");
  assert.deepEqual(world.sent, [world.screen]);
  assert.equal(world.screen.listening.size, 0);
});
