// The speaker page against the real server: each tone is heard, silence is silent, and the sound survives what networks do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DESK, freshPage, reach, shoot, shootForReadme, timeline } from "./lib/browser.js";
import { hearSilence, hearTone } from "./lib/ears.js";
import { CONTENT_POLICY } from "./lib/pages.js";
import { startProxy } from "./lib/proxy.js";
import { TOKEN, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";

/** @typedef {import("./lib/browser.js").Page} Page */

const stage = setStage(startServer);

/**
 * @param {(page: Page, faults: string[]) => Promise<void>} act
 * @param {{ url?: string, token?: string, context?: import("./lib/browser.js").ContextOptions }} [options]
 */
async function onPage(act, { url = stage.server.url, token = TOKEN, context: options = {} } = {}) {
  const { page, context, faults } = await freshPage(stage.browser, options);
  try {
    await page.goto(token ? `${url}#token=${token}` : url);
    await act(page, faults);
  } catch (fault) {
    throw new Error(`${fault}\n--- page\n${await timeline(page)}\n--- server\n${stage.server.output.slice(-4_000)}`, { cause: fault });
  } finally {
    await context.close();
  }
}

/** @param {Page} page @param {number} hz */
async function choose(page, hz) {
  // The card, as a finger would; it scrolls out from under the dock where it has to.
  await page.click(`label:has([value="sine-${hz}"])`);
}

/** @param {Page} page @param {number} hz */
async function play(page, hz) {
  await reach(page, "connected");
  await choose(page, hz);
  await page.click("#start");
  await reach(page, "streaming");
  await hearTone(page, hz);
}

test("it connects directly and every tone is heard", { timeout: 120_000 }, () =>
  onPage(async (page, faults) => {
    await reach(page, "connected");
    await page.getByText("Connected directly").first().waitFor();
    assert.equal(new URL(page.url()).hash, "", "the token left the address bar");
    await shoot(page, "live-connected-phone-dark");
    for (const hz of [220, 440, 880]) {
      await choose(page, hz);
      await page.click("#start");
      const heard = await hearTone(page, hz);
      assert.ok(heard.db < -11, `a sine of 0.3 is at -13.5 dB, this one at ${heard.db}`);
      await page.click("#stop");
      await reach(page, "connected");
      await hearSilence(page);
    }
    assert.deepEqual(faults, []);
  }),
);

test("start, switch and stop, again and again", { timeout: 120_000 }, () =>
  onPage(async (page, faults) => {
    await play(page, 220);
    for (const hz of [440, 880, 220, 880, 440, 220]) {
      await choose(page, hz);
      await hearTone(page, hz);
    }
    for (const hz of [440, 880, 440]) {
      await page.click("#stop");
      await hearSilence(page);
      await choose(page, hz);
      await page.click("#start");
      await hearTone(page, hz);
    }
    assert.deepEqual(faults, []);
  }),
);

test("the meter moves with the sound, the figures are told", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    const level = () => page.evaluate(() => Number(document.querySelector("#meter")?.getAttribute("aria-valuenow")));
    await play(page, 440);
    await page.waitForFunction(() => Number(document.querySelector("#meter")?.getAttribute("aria-valuenow")) > -20);
    await shootForReadme(page, "streaming-phone-dark");
    await page.click("#log summary");
    await page.getByText(/[1-9]\d* kbit\/s/).waitFor();
    /** @param {string} name */
    const fact = (name) => page.locator("#facts div", { hasText: name }).locator("dd").textContent();
    assert.equal(await fact("Path"), "Connected directly");
    assert.match((await fact("Server side")) ?? "", /udp, 127\.0\.0\.1:\d+/);
    assert.match((await fact("Codec")) ?? "", /opus/);
    assert.match((await fact("Loss")) ?? "", /^0\.0 %$/);
    await page.evaluate(() => document.querySelector("#log")?.scrollIntoView({ block: "start" }));
    await shoot(page, "live-streaming-phone-dark");
    await shootForReadme(page, "details-phone-dark");
    await page.click("#stop");
    await page.waitForFunction(() => document.querySelector("#meter")?.getAttribute("aria-valuenow") === "-60");
    assert.equal(await level(), -60);
  }),
);

test("leaving and coming back", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await play(page, 440);
    await page.click("#disconnect");
    await reach(page, "idle");
    await hearSilence(page);
    await page.fill("#token", TOKEN);
    await page.click("#connect");
    await play(page, 880);
  }),
);

for (const signal of /** @type {const} */ (["SIGTERM", "SIGKILL"])) {
  test(`the sound comes back by itself after the server was restarted by ${signal}`, { timeout: 120_000 }, () =>
    onPage(async (page) => {
      await play(page, 880);
      await stage.server.stop(signal);
      await page.waitForFunction(() => document.body.dataset.state !== "streaming");
      await stage.server.start();
      await reach(page, "streaming", 40_000);
      await hearTone(page, 880);
      assert.equal(await page.textContent("#now-name"), await page.textContent("#voice-list label:has(:checked) strong"));
    }),
  );
}

test("a dropped line does not stop the sound, and the session is resumed", { timeout: 120_000 }, async () => {
  const proxy = await startProxy(stage.server.port);
  try {
    await onPage(
      async (page) => {
        await play(page, 440);
        proxy.cut();
        await reach(page, "detached");
        await hearTone(page, 440);
        await shoot(page, "live-line-lost-phone-dark");
        proxy.mend();
        // As where a network comes back: by then the next appointed attempt may lie beyond the server's grace.
        await page.evaluate(() => void dispatchEvent(new Event("online")));
        await reach(page, "streaming", 30_000);
        await hearTone(page, 440);
        const story = await timeline(page);
        assert.match(story, /session resumed/);
        assert.equal(story.match(/media connected/g)?.length, 1, "the media never had to connect again");
        // The resumed session obeys.
        await choose(page, 880);
        await hearTone(page, 880);
        await page.click("#stop");
        await hearSilence(page);
      },
      { url: proxy.url },
    );
  } finally {
    await proxy.close();
  }
});

test("a line that stays away longer than the grace costs a reconnect, not the voice", { timeout: 120_000 }, async () => {
  const proxy = await startProxy(stage.server.port);
  try {
    await onPage(
      async (page) => {
        await play(page, 220);
        proxy.cut();
        // The server lets go of the media after its grace; the page sees the path end.
        await reach(page, ["waiting", "reconnecting"], 60_000);
        proxy.mend();
        await reach(page, "streaming", 40_000);
        await hearTone(page, 220);
      },
      { url: proxy.url },
    );
  } finally {
    await proxy.close();
  }
});

test("a wrong token says so, and the right one then works", { timeout: 60_000 }, () =>
  onPage(
    async (page) => {
      await reach(page, "refused");
      assert.equal(await page.textContent("#status-title"), "Wrong token");
      await shoot(page, "live-wrong-token-phone-dark");
      await page.fill("#token", TOKEN);
      await page.click("#connect");
      await reach(page, "connected");
    },
    { token: "wrong" },
  ),
);

test("the page keeps its own content policy and fits a small phone", { timeout: 60_000 }, () =>
  onPage(
    async (page, faults) => {
      await play(page, 440);
      assert.deepEqual(faults, []);
      const width = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.equal(width[0], width[1]);
      const answer = await fetch(stage.server.url);
      assert.equal(answer.headers.get("content-security-policy"), CONTENT_POLICY, "the tests of the page alone keep the same policy");
      await answer.body?.cancel();
    },
    { context: { viewport: { width: 320, height: 640 } } },
  ),
);

test("two listeners hear what each of them chose", { timeout: 90_000 }, () =>
  onPage((one) => onPage(async (two) => {
    await play(one, 220);
    await play(two, 880);
    await hearTone(one, 220);
    await two.waitForFunction(() => Number(document.querySelector("#meter")?.getAttribute("aria-valuenow")) > -20);
    await shoot(two, "live-streaming-desk-light");
    await shootForReadme(two, "streaming-desk-light");
  }, { context: { viewport: DESK, colorScheme: "light" } })),
);
