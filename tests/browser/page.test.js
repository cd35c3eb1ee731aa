// The page alone, without a server: every state that a person can see, its layout, its accessibility, its pictures.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DESK, PHONE, freshPage, reach, shoot } from "./lib/browser.js";
import { installFake } from "./lib/fake.js";
import { servePages } from "./lib/pages.js";
import { setStage } from "./lib/stage.js";

/** @typedef {import("./lib/browser.js").Page} Page */

const stage = setStage(servePages);

/** @typedef {{ fake?: Parameters<typeof installFake>[0], hash?: string, context?: import("./lib/browser.js").ContextOptions }} Scene */

/** @param {Scene} scene @param {(page: Page) => Promise<void>} act */
async function onPage({ fake = {}, hash = "#token=t", context: options = {} }, act) {
  const { page, context, faults } = await freshPage(stage.browser, options);
  try {
    await page.addInitScript(installFake, fake);
    await page.goto(stage.server.url + hash);
    await page.waitForFunction(() => "fake" in window);
    await act(page);
    assert.deepEqual(faults, [], "the console is clean");
  } finally {
    await context.close();
  }
}

/** @param {Page} page */
async function play(page) {
  await reach(page, "connected");
  await page.click("#start");
  await reach(page, "streaming");
  await page.waitForFunction(() => Number(document.querySelector("#meter")?.getAttribute("aria-valuenow")) > -20);
  await page.getByText(/^Connected (directly|through a relay)$/).first().waitFor();
}

/**
 * Cuts the line, and with it what else is named, so that nothing comes back during the test.
 * @param {Page} page
 * @param {boolean} mediaToo
 */
async function cut(page, mediaToo) {
  await page.evaluate((both) => {
    // The longest wait of each span, so that the countdown can be seen.
    Math.random = () => 0.999;
    const { fake, cutLine, cutMedia } = /** @type {any} */ (window);
    fake.greet = "down";
    cutLine();
    if (both) cutMedia();
  }, mediaToo);
}

/** @type {Record<string, { scene: Scene, title: string, act: (page: Page) => Promise<unknown> }>} */
const STATES = {
  disconnected: { scene: { hash: "" }, title: "Not connected", act: (page) => reach(page, "idle") },
  connecting: { scene: { fake: { greet: "never" } }, title: "Connecting", act: (page) => reach(page, "connecting") },
  connected: {
    scene: {},
    title: "Connected directly",
    act: async (page) => {
      await reach(page, "connected");
      await page.getByText("Connected directly").first().waitFor();
    },
  },
  streaming: { scene: {}, title: "Streaming", act: play },
  relayed: {
    scene: { fake: { relay: true } },
    title: "Streaming",
    act: async (page) => {
      await play(page);
      await page.getByText("Connected through a relay").first().waitFor();
    },
  },
  "line-lost": {
    scene: {},
    title: "Still playing",
    act: async (page) => {
      await play(page);
      await cut(page, false);
      await reach(page, "detached");
    },
  },
  retrying: {
    scene: {},
    title: "Connection lost",
    act: async (page) => {
      await play(page);
      await cut(page, true);
      // The first waits are short: a later one stays for the pictures.
      await page.waitForFunction(() => /in [5-9] s/.test(document.querySelector("#countdown")?.textContent ?? ""), null, { timeout: 40_000 });
    },
  },
  unreachable: { scene: { fake: { greet: "down" } }, title: "Server unreachable", act: (page) => reach(page, "waiting") },
  "wrong-token": { scene: { fake: { greet: "unauthorized" } }, title: "Wrong token", act: (page) => reach(page, "refused") },
  "too-many": { scene: { fake: { greet: "too_many_attempts" } }, title: "Too many attempts", act: (page) => reach(page, "refused") },
  full: { scene: { fake: { greet: "over_capacity" } }, title: "Server is full", act: (page) => reach(page, "waiting") },
  "log-open": {
    scene: {},
    title: "Streaming",
    act: async (page) => {
      await play(page);
      await page.click("#log summary");
      await page.getByText(/\d kbit\/s/).waitFor();
      await page.evaluate(() => document.querySelector("#log")?.scrollIntoView({ block: "start" }));
    },
  },
};

for (const [name, { scene, act, title }] of Object.entries(STATES)) {
  test(`a person sees: ${name}`, { timeout: 90_000 }, () =>
    onPage(scene, async (page) => {
      await act(page);
      // Between two attempts of `unreachable` the title says Connecting for a moment, so it is waited for.
      await page.locator("#status-title", { hasText: title }).waitFor();
      for (const [size, view] of Object.entries({ phone: PHONE, desk: DESK })) {
        await page.setViewportSize(view);
        for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
          await page.emulateMedia({ colorScheme });
          await shoot(page, `${name}-${size}-${colorScheme}`);
        }
      }
    }),
  );
}

test("a phone of 320 px scrolls only down, and every target takes a thumb", { timeout: 120_000 }, async () => {
  for (const [name, { scene, act }] of Object.entries(STATES)) {
    if (name === "retrying") continue; // the same layout as line-lost
    await onPage({ ...scene, context: { viewport: { width: 320, height: 640 } } }, async (page) => {
      await act(page);
      assert.deepEqual(await page.evaluate(misfits), [], name);
      await shoot(page, `${name}-small`);
    });
  }
});

/** Runs in the page: what sticks out to the side, and which visible controls are smaller than 44 px. */
function misfits() {
  const wrong = [];
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) wrong.push(`the page is ${scrollWidth} px wide`);
  for (const target of document.querySelectorAll("button, input:not([type=checkbox]), summary, label.voice, label.check, a")) {
    const { width, height, right } = target.getBoundingClientRect();
    if (width === 0) continue;
    if (width < 44 || height < 44) wrong.push(`${target.id || target.className}: ${width} x ${height}`);
    if (right > clientWidth) wrong.push(`${target.id || target.className} sticks out`);
  }
  return wrong;
}

test("the keyboard is enough", { timeout: 60_000 }, () =>
  onPage({ hash: "" }, async (page) => {
    await page.focus("#token");
    await page.keyboard.type("t");
    await page.keyboard.press("Enter");
    await reach(page, "connected");
    await page.focus("#start");
    await page.keyboard.press("Space");
    await reach(page, "streaming");
    await page.focus("#voice-list input:checked");
    await page.keyboard.press("ArrowDown");
    await page.getByRole("heading", { name: "Mid Tone (440 Hz)" }).waitFor();
    assert.equal(await page.evaluate(() => /** @type {any} */ (window).fake.voice), "sine-440");
    await page.focus("#stop");
    await page.keyboard.press("Enter");
    await reach(page, "connected");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "start", "the focus stays in the dock");
  }),
);

test("every control has a name and a role", { timeout: 60_000 }, () =>
  onPage({}, async (page) => {
    await play(page);
    for (const name of ["Start", "Stop", "Disconnect"]) {
      assert.equal(await page.getByRole("button", { name: name === "Start" ? "Playing" : name }).count(), 1, name);
    }
    assert.equal(await page.getByRole("radio").count(), 3);
    assert.equal(await page.getByRole("meter", { name: "Sound level" }).count(), 1);
    assert.equal(await page.getByRole("status").textContent(), "Streaming");
  }),
);

test("the token leaves the address bar and comes back after a reload", { timeout: 60_000 }, () =>
  onPage({ hash: "?x=1#token=a%2Bb" }, async (page) => {
    await reach(page, "connected");
    assert.equal(page.url(), `${stage.server.url}?x=1`);
    assert.equal(await page.inputValue("#token"), "a+b");
    await page.reload();
    await reach(page, "connected");
    await page.click("#disconnect");
    await reach(page, "idle");
    await page.reload();
    await reach(page, "idle");
    assert.equal(await page.inputValue("#token"), "");
  }),
);

test("a token is kept on the device only when a person says so", { timeout: 60_000 }, () =>
  onPage({ hash: "" }, async (page) => {
    await page.fill("#token", "t");
    await page.check("#remember");
    await page.click("#connect");
    await reach(page, "connected");
    const kept = () => page.evaluate(() => [...Object.values({ ...localStorage })]);
    assert.deepEqual(await kept(), ["t"]);
    await page.click("#disconnect");
    await page.uncheck("#remember");
    await page.click("#connect");
    await reach(page, "connected");
    assert.deepEqual(await kept(), []);
  }),
);

test("where the browser wants a tap, the page asks for one", { timeout: 60_000 }, () =>
  onPage({}, async (page) => {
    await reach(page, "connected");
    await page.evaluate(() => {
      const { play } = HTMLMediaElement.prototype;
      HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("tap first", "NotAllowedError"));
      Object.assign(window, { allow: () => (HTMLMediaElement.prototype.play = play) });
    });
    await page.click("#start");
    await page.waitForSelector("#hear:not([hidden])");
    await shoot(page, "tap-to-hear-phone-dark");
    await page.evaluate(() => /** @type {any} */ (window).allow());
    await page.click("#hear");
    await page.waitForSelector("#hear", { state: "hidden" });
    assert.equal(await page.evaluate(() => document.querySelector("audio")?.paused), false);
  }),
);

test("nothing moves for those who asked for calm", { timeout: 60_000 }, () =>
  onPage({ context: { reducedMotion: "reduce" } }, async (page) => {
    await play(page);
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  }),
);

test("giving up while the server is away", { timeout: 60_000 }, () =>
  onPage({ fake: { greet: "down" } }, async (page) => {
    await page.waitForSelector("#cancel:not([hidden])");
    await page.click("#cancel");
    await reach(page, "idle");
  }),
);
