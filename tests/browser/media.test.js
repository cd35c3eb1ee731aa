// The page with real WebRTC on both ends of one browser: negotiation, restart and rebuilding, without a server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { freshPage, reach, timeline } from "./lib/browser.js";
import { hearSilence, hearTone } from "./lib/ears.js";
import { installLoopback } from "./lib/loopback.js";
import { servePages } from "./lib/pages.js";
import { setStage } from "./lib/stage.js";

const stage = setStage(servePages);

/** @param {(page: import("./lib/browser.js").Page) => Promise<void>} act */
async function onPage(act) {
  const { page, context, faults } = await freshPage(stage.browser);
  try {
    await page.addInitScript(installLoopback);
    await page.goto(`${stage.server.url}#token=t`);
    await reach(page, "connected");
    await page.click("#start");
    await hearTone(page, 220);
    await act(page);
    assert.deepEqual(faults, []);
  } catch (fault) {
    throw new Error(`${fault}\n${await timeline(page)}`, { cause: fault });
  } finally {
    await context.close();
  }
}

/** @param {import("./lib/browser.js").Page} page */
const offers = (page) => page.evaluate(() => /** @type {any} */ (window).loopback.offers);

test("tones, switching and silence", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await page.getByText("Connected directly").first().waitFor();
    await page.click('label:has([value="sine-880"])');
    await hearTone(page, 880);
    await page.click("#stop");
    await hearSilence(page);
    assert.equal(await offers(page), 1);
  }),
);

test("fresh relay credentials restart ICE while the sound goes on", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await page.evaluate(() => {
      const { sockets } = /** @type {any} */ (window).loopback;
      sockets.at(-1).tell({ type: "ice_servers", ice_servers: [{ urls: ["turn:127.0.0.1:9"], username: "u", credential: "c" }] });
    });
    await page.waitForFunction(() => /** @type {any} */ (window).loopback.offers === 2);
    await hearTone(page, 220);
    await reach(page, "streaming");
  }),
);

test("a far side that vanishes is found again: restart first, then a new connection, the same voice", { timeout: 90_000 }, () =>
  onPage(async (page) => {
    await page.evaluate(() => /** @type {any} */ (window).loopback.far.close());
    await page.waitForFunction(() => document.body.dataset.state !== "streaming", null, { timeout: 40_000 });
    await reach(page, "streaming", 40_000);
    await hearTone(page, 220);
    assert.ok((await offers(page)) >= 2);
  }),
);

test("a line that is cut is resumed under the sound", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await page.evaluate(() => {
      const { loopback } = /** @type {any} */ (window);
      loopback.line = false;
      loopback.sockets.at(-1).onclose({ code: 1006 });
    });
    await reach(page, "detached");
    await hearTone(page, 220);
    await page.evaluate(() => (/** @type {any} */ (window).loopback.line = true));
    await reach(page, "streaming");
    assert.equal(await offers(page), 1);
  }),
);
