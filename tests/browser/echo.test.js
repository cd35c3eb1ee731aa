// An echo session: what the camera and the microphone send comes back, in each codec that the browser has.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bareDocument, freshPage } from "./lib/browser.js";
import { hearSomething } from "./lib/ears.js";
import { TOKEN, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";

const CLIENT = readFileSync(new URL("./fixtures/echo-client.js", import.meta.url), "utf8");
const SIZE = { width: 320, height: 240 };

const stage = setStage(startServer);

for (const codec of ["VP8", "H264"]) {
  test(`camera (${codec}) and microphone come back`, { timeout: 90_000 }, async (t) => {
    const { page, context } = await freshPage(stage.browser);
    try {
      await bareDocument(page, stage.server.url, CLIENT);
      const able = await page.evaluate((name) => {
        /** @param {{ getCapabilities: (kind: string) => RTCRtpCapabilities | null }} side */
        const has = (side) => side.getCapabilities("video")?.codecs.some(({ mimeType }) => mimeType === `video/${name}`);
        return has(RTCRtpSender) && has(RTCRtpReceiver);
      }, codec);
      if (!able) {
        t.skip(`this browser has no ${codec}`);
        return;
      }
      const url = `${stage.server.ws}?api_key=${TOKEN}&model=echo`;
      await page.evaluate((options) => /** @type {any} */ (window).startEcho(options), { url, codec, ...SIZE });

      await page.waitForFunction(() => /** @type {any} */ (window).echo.connection.connectionState === "connected");
      const { frames, ...size } = await video(page, 20);
      assert.deepEqual(size, SIZE);
      // It goes on growing: not one lucky key frame.
      await video(page, frames + 30);
      await hearSomething(page);

      const messages = await page.evaluate(() => /** @type {any} */ (window).echo.messages);
      const types = messages.map((/** @type {any} */ { type }) => type);
      assert.deepEqual(messages.filter((/** @type {any} */ { type }) => type === "error"), []);
      assert.ok(types.includes("session_id"), `${types}`);
      assert.ok(types.includes("generation_started"), `${types}`);
      assert.ok(types.indexOf("generation_started") > types.indexOf("answer"), `generation_started comes after the answer: ${types}`);
    } catch (fault) {
      throw new Error(`${fault}\n--- server\n${stage.server.output.slice(-4_000)}`, { cause: fault });
    } finally {
      await context.close();
    }
  });
}

/** Waits until more frames than these were decoded. @param {import("./lib/browser.js").Page} page @param {number} more */
async function video(page, more) {
  const end = Date.now() + 20_000;
  for (;;) {
    const seen = await page.evaluate(async () => {
      for (const row of (await /** @type {any} */ (window).echo.connection.getStats()).values()) {
        if (row.type === "inbound-rtp" && row.kind === "video") return { frames: row.framesDecoded ?? 0, width: row.frameWidth, height: row.frameHeight };
      }
      return { frames: 0, width: 0, height: 0 };
    });
    if (seen.frames > more) return seen;
    if (Date.now() > end) throw new Error(`no more than ${seen.frames} of ${more} frames came back`);
    await new Promise((done) => setTimeout(done, 100));
  }
}
