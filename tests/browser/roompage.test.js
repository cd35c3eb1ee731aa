// The room page alone, with people made up inside it: every state that a person can see, its layout, its accessibility, its pictures.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { DESK, PHONE, freshPage, notePresses, reach, settle, shoot, shootForReadme } from "./lib/browser.js";
import { done, fakeRoom, inRoom, walkIn } from "./lib/fakeroom.js";
import { servePages } from "./lib/pages.js";
import { setStage } from "./lib/stage.js";

/** @typedef {import("./lib/browser.js").Page} Page */

const stage = setStage(servePages);

const SIDE = { width: 844, height: 390 };
const SMALL = { width: 320, height: 640 };
const NAMES = ["Ben", "Clara", "Dmitri", "Eleni", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kaya", "Lars", "Mira", "Noor", "Otto", "Priya"];

/** @typedef {{ scene?: import("./lib/fakeroom.js").Scene, path?: string, context?: import("./lib/browser.js").ContextOptions, before?: () => void }} Setting */

/** @param {Setting} setting @param {(page: Page) => Promise<void>} act */
async function onPage({ scene = {}, path = "room?room=Blue%20room", context: options = {}, before }, act) {
  const { page, context, faults } = await freshPage(stage.browser, options);
  try {
    await fakeRoom(page, scene);
    if (before) await page.addInitScript(before);
    await page.goto(stage.server.url + path);
    await reach(page, "door");
    await act(page);
    assert.deepEqual(faults, [], "the console is clean");
  } finally {
    await context.close();
  }
}

/** Some without a camera, one who speaks. */
const crowd = (/** @type {number} */ count) => ({
  people: NAMES.slice(0, count - 1),
  kinds: NAMES.map((_, at) => ({ video: at % 4 !== 2, level: at === 0 ? 0.2 : 0.0008 })),
});

/** Runs in the page: tiles that overlap or leave the stage, controls that are out of reach or too small. */
function misfits() {
  const wrong = [];
  const { clientWidth, clientHeight, scrollWidth, scrollHeight } = document.documentElement;
  if (scrollWidth > clientWidth || scrollHeight > clientHeight) wrong.push(`the page scrolls: ${scrollWidth} x ${scrollHeight}`);
  const arena = /** @type {Element} */ (document.querySelector("#stage")).getBoundingClientRect();
  const tiles = [...document.querySelectorAll(".seat")].map((tile) => ({ name: tile.querySelector(".who")?.textContent, box: tile.getBoundingClientRect() }));
  for (const [at, { name, box }] of tiles.entries()) {
    if (box.width < 60 || box.left < arena.left - 1 || box.top < arena.top - 1 || box.right > arena.right + 1 || box.bottom > arena.bottom + 1) wrong.push(`${name} leaves the stage`);
    for (const other of tiles.slice(at + 1)) {
      if (box.left < other.box.right - 1 && other.box.left < box.right - 1 && box.top < other.box.bottom - 1 && other.box.top < box.bottom - 1) wrong.push(`${name} overlaps ${other.name}`);
    }
  }
  for (const key of document.querySelectorAll(".deck button, #invite")) {
    const { width, height, left, right, top, bottom } = key.getBoundingClientRect();
    if (width === 0 || !key.checkVisibility({ visibilityProperty: true })) continue;
    if (width < 44 || height < 44 || (key.closest(".deck") && (width < 48 || height < 48))) wrong.push(`${key.id} is ${width} x ${height}`);
    if (left < 0 || right > clientWidth || bottom > clientHeight) wrong.push(`${key.id} is out of sight`);
    const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    if (!hit || !key.contains(hit)) wrong.push(`${key.id} is covered by ${hit?.id || hit?.className}`);
  }
  return wrong;
}

/** Tiles move to their places: that is waited for, what is wrong then is told. @param {Page} page @param {string} scene */
async function fits(page, scene) {
  const end = Date.now() + 5_000;
  let wrong = await page.evaluate(misfits);
  while (wrong.length > 0 && Date.now() < end) {
    await page.waitForTimeout(100);
    wrong = await page.evaluate(misfits);
  }
  assert.deepEqual(wrong, [], scene);
}

for (const count of [1, 2, 6, 16]) {
  test(`${count} in the room, on every screen`, { timeout: 120_000 }, () =>
    onPage({ scene: crowd(count) }, async (page) => {
      await walkIn(page);
      await page.waitForFunction((wanted) => document.querySelectorAll('.seat[data-picture="true"]').length >= wanted, Math.ceil(count * 0.6));
      if (count > 1) await page.waitForSelector('.seat[data-speaking="true"] >> text=Ben');
      for (const [size, view] of Object.entries({ small: SMALL, phone: PHONE, side: SIDE, desk: DESK })) {
        await page.setViewportSize(view);
        await fits(page, size);
        assert.equal(await page.locator(".seat").count(), count);
        for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
          await page.emulateMedia({ colorScheme });
          await shoot(page, `room-${count}-${size}-${colorScheme}`);
        }
      }
      if (count === 6) await shootForReadme(page, "room-desk-light");
      // A panel takes room from the stage on a desk; the tiles follow.
      await page.click("#chat");
      await fits(page, "beside the chat");
      await shoot(page, `room-${count}-desk-chat`);
    }),
  );
}

/** @type {Record<string, { setting: Setting, act: (page: Page) => Promise<unknown> }>} */
const STATES = {
  door: { setting: {}, act: (page) => page.waitForSelector("#preview:not([hidden])") },
  joining: { setting: { scene: { slow: true } }, act: (page) => knock(page).then(() => reach(page, "joining")) },
  ...Object.fromEntries(
    [["unauthorized", "This room needs a token"], ["taken", "That name is taken"], ["room_full", "The room is full"], ["too_many_attempts", "Too many attempts"], ["unreachable", "The server cannot be reached"]].map(([refuse = "", title = ""]) => [
      `refused-${refuse}`,
      { setting: { scene: { refuse } }, act: (/** @type {Page} */ page) => knock(page).then(() => page.getByText(title).waitFor()) },
    ]),
  ),
  detached: {
    setting: { scene: crowd(4) },
    act: async (page) => {
      await walkIn(page);
      await inRoom(page, "become", "detached", 8_000);
      await reach(page, "detached");
      await page.getByText(/Next try in \d s/).waitFor();
      assert.equal(await page.locator(".seat").count(), 4, "media goes on");
    },
  },
  "refused-inside": {
    setting: { scene: crowd(2) },
    act: async (page) => {
      await walkIn(page);
      await page.evaluate(() => {
        const [room] = /** @type {any} */ (window).fakeRoom.rooms;
        // In the room client's own order.
        room.become("refused");
        room.emit("error", { code: "room_full", message: "Full" });
      });
      await page.locator("#banner", { hasText: "The room is full" }).waitFor();
    },
  },
  peers: {
    setting: { scene: crowd(6) },
    act: async (page) => {
      await walkIn(page);
      await inRoom(page, "peerBecomes", "Ben", "connecting");
      await inRoom(page, "peerBecomes", "Clara", "restarting");
      await inRoom(page, "peerBecomes", "Eleni", "failed");
      await inRoom(page, "dark", "Farid");
      await page.getByText("Reconnecting…").waitFor();
    },
  },
  pointers: {
    setting: { scene: crowd(3) },
    act: async (page) => {
      await walkIn(page);
      await inRoom(page, "point", "Ben", 0.3, 0.4);
      await inRoom(page, "point", "Clara", 0.7, 0.6);
      await page.waitForSelector(".pointer");
    },
  },
  front: {
    setting: { scene: crowd(6) },
    act: async (page) => {
      await walkIn(page);
      await page.getByRole("button", { name: "Enlarge Clara" }).click();
      await page.waitForSelector('.seat[data-front="true"]');
      await page.waitForTimeout(300);
    },
  },
  chat: {
    setting: { scene: crowd(3) },
    act: async (page) => {
      await walkIn(page);
      await open(page, "chat");
      await inRoom(page, "say", "Ben", "Good morning! Does everybody see the slides?");
      await inRoom(page, "say", "Clara", "Yes, sharp and clear.");
      await inRoom(page, "say", "Clara", "One question about the third one: where do the numbers come from?");
      await page.fill("#chat-text", "From the load test of last night.");
      await page.keyboard.press("Enter");
      await page.getByText("From the load test").waitFor();
    },
  },
  voices: {
    setting: { scene: crowd(2) },
    act: async (page) => {
      await walkIn(page);
      await open(page, "voices");
      await page.getByRole("button", { name: "Ask in: Low Tone (220 Hz)" }).click();
      await page.getByText("Heard by everybody", { exact: true }).waitFor();
      await page.getByRole("button", { name: "Ask in: Mid Tone (440 Hz)" }).waitFor();
    },
  },
  record: {
    setting: { scene: crowd(2) },
    act: async (page) => {
      await walkIn(page);
      await open(page, "record");
      await page.click("#record-go");
      await page.waitForSelector("#recording:not([hidden])");
    },
  },
  details: {
    setting: { scene: crowd(4) },
    act: async (page) => {
      await walkIn(page);
      await open(page, "details");
      await page.getByText("through NAT").waitFor();
    },
  },
  devices: { setting: { scene: crowd(2) }, act: (page) => walkIn(page).then(() => open(page, "devices")) },
  more: { setting: { scene: crowd(2) }, act: (page) => walkIn(page).then(() => page.click("#more")) },
};

for (const [name, { setting, act }] of Object.entries(STATES)) {
  test(`a person sees: ${name}`, { timeout: 90_000 }, () =>
    onPage(setting, async (page) => {
      await act(page);
      for (const [size, view] of Object.entries({ phone: PHONE, desk: DESK })) {
        await page.setViewportSize(view);
        for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
          await page.emulateMedia({ colorScheme });
          await shoot(page, `room-${name}-${size}-${colorScheme}`);
        }
      }
    }),
  );
}

/** @param {Page} page */
async function knock(page) {
  await page.fill("#name", "Ann");
  await page.click("#enter");
}

/** Opens a panel, behind More where the screen is narrow. @param {Page} page @param {string} pane */
async function open(page, pane) {
  if (!(await page.locator(`#${pane}`).isVisible())) await page.click("#more");
  await page.click(`#${pane}`);
  await page.waitForSelector(`#panel-${pane}:not([hidden])`);
}

test("the door: what is joined with, what is remembered, what leaves the address bar", { timeout: 60_000 }, () =>
  onPage({ path: "room?room=Blue%20room#token=s%2Bcret" }, async (page) => {
    assert.equal(await page.inputValue("#room"), "Blue room");
    await page.waitForSelector("#preview:not([hidden])");
    await walkIn(page);
    const { asked } = await done(page);
    assert.deepEqual(asked, [{ url: `${stage.server.url}signal`, room: "Blue room", user: "Ann", token: "s+cret", receive: true, kinds: ["audio", "video"] }]);
    assert.equal(page.url(), `${stage.server.url}room?room=Blue%20room`);
    assert.ok(!(await page.content()).includes("s+cret"), "no secret in the document");
    await page.click("#leave");
    await reach(page, "door");
    await page.reload();
    assert.equal(await page.inputValue("#name"), "Ann");
  }),
);

test("a token that comes inside is taken for the next try, and the link holds none", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2), context: { permissions: ["clipboard-read", "clipboard-write"] } }, async (page) => {
    await walkIn(page);
    const link = `${stage.server.url}room?room=Blue%20room`;
    await page.evaluate(() => void (location.hash = "#token=s%2Bcret"));
    await page.waitForFunction((wanted) => location.href === wanted, link);
    // An address that nobody cleaned is not copied either.
    await page.evaluate(() => history.replaceState(null, "", "#token=s%2Bcret"));
    await page.getByRole("button", { name: "Copy link" }).click();
    await page.getByText("The link is copied.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), link);
    await inRoom(page, "become", "refused");
    await page.getByRole("button", { name: "Try now" }).click();
    await page.waitForFunction(() => /** @type {any} */ (window).fakeRoom.rooms.length === 2);
    assert.deepEqual((await done(page)).asked.map((/** @type {any} */ { token }) => token), [null, "s+cret"]);
    await page.click("#leave");
    assert.equal(await page.inputValue("#token"), "s+cret");
  }),
);

test("a wrong token is asked for again, and giving up while joining works", { timeout: 60_000 }, async () => {
  await onPage({ scene: { refuse: "unauthorized" } }, async (page) => {
    await knock(page);
    await page.waitForSelector("#token:focus");
    assert.equal(await page.locator("#why").isVisible(), true);
    await reach(page, "door");
  });
  await onPage({ scene: { slow: true } }, async (page) => {
    await knock(page);
    await page.click("#cancel");
    await reach(page, "door");
    assert.equal(await page.locator("#why").isVisible(), false, "nobody is blamed");
    assert.equal(await page.locator("#enter").isEnabled(), true);
  });
});

test("who comes and who leaves is told, and the pill counts", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2) }, async (page) => {
    await walkIn(page);
    assert.equal(await page.locator(".toast").count(), 0, "those who were there before are no news");
    await inRoom(page, "add", "Zoe");
    await page.locator("#toasts", { hasText: "Zoe came in." }).waitFor();
    await page.locator("#status", { hasText: "3 here" }).waitFor();
    await inRoom(page, "remove", "Ben");
    await page.locator("#toasts", { hasText: "Ben left." }).waitFor();
    await page.locator("#status", { hasText: "2 here" }).waitFor();
    assert.deepEqual(await page.locator(".who").allTextContents(), ["Zoe", "Ann (you)"]);
    await inRoom(page, "remove", "Zoe");
    await page.locator("#alone").waitFor();
  }),
);

test("chat: sent once, shown as text whatever it holds, counted while closed, bounded", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2) }, async (page) => {
    await walkIn(page);
    const hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>&lt;b&gt; \u202e';
    await inRoom(page, "say", "Ben", hostile);
    await page.getByRole("button", { name: "Chat, 1 unread" }).waitFor();
    await open(page, "chat");
    assert.equal(await page.locator(".line-text").first().textContent(), hostile);
    assert.equal(await page.locator("#chat-log img, #chat-log script").count(), 0);
    assert.equal(await page.title(), "Blue room · voxcast");
    await page.waitForSelector("#unread", { state: "hidden" });
    await page.fill("#chat-text", "   ");
    await page.keyboard.press("Enter");
    await page.keyboard.type("first line");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("second line");
    // The key by which an input method in Safari takes a word.
    await page.evaluate(() => document.activeElement?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", keyCode: 229, bubbles: true, cancelable: true })));
    assert.deepEqual((await done(page)).sent.chat, []);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Send message" }).click();
    assert.deepEqual((await done(page)).sent.chat, ["first line\nsecond line"]);
    assert.equal(await page.locator(".line").count(), 2);
    assert.equal(await page.inputValue("#chat-text"), "");
    await page.evaluate(() => {
      const [room] = /** @type {any} */ (window).fakeRoom.rooms;
      for (let at = 0; at < 700; at += 1) room.say("Ben", `line ${at} ${"x".repeat(at % 50)}`);
    });
    assert.equal(await page.locator(".line").count(), 300);
    await page.waitForFunction(() => {
      const log = /** @type {Element} */ (document.querySelector("#chat-log"));
      return log.scrollHeight - log.scrollTop - log.clientHeight < 4;
    });
    // One long word must not widen the page.
    await inRoom(page, "say", "Ben", "w".repeat(4000));
    assert.deepEqual(await page.evaluate(() => document.documentElement.scrollWidth), 390);
  }),
);

test("mute: at the door, in the room, and on the tile", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2) }, async (page) => {
    await page.waitForSelector("#preview:not([hidden])");
    await page.locator("#door-mic").click();
    assert.equal(await page.locator("#door-mic").getAttribute("aria-label"), "Unmute microphone");
    await walkIn(page);
    const own = page.locator('.seat[data-own="true"]');
    const enabled = () => page.evaluate(() => /** @type {any} */ (document.querySelector('.seat[data-own="true"] video')).srcObject.getAudioTracks()[0].enabled);
    assert.equal(await own.getAttribute("data-silent"), "true");
    assert.equal(await enabled(), false);
    await page.getByRole("button", { name: "Unmute microphone" }).click();
    await page.getByRole("button", { name: "Mute microphone", exact: true }).waitFor();
    assert.equal(await own.getAttribute("data-silent"), "false");
    assert.equal(await enabled(), true);
    await page.getByRole("button", { name: "Turn camera off" }).click();
    await page.waitForSelector('.seat[data-own="true"][data-picture="false"]');
    await page.waitForFunction(() => /** @type {any} */ (window).fakeRoom.sent.tracks.at(-1).id === null);
    await page.getByRole("button", { name: "Turn camera on" }).click();
    await page.waitForSelector('.seat[data-own="true"][data-picture="true"]');
    const last = (await done(page)).sent.tracks.at(-1);
    assert.ok(last.kind === "video" && last.id !== null);
  }),
);

test("others who send nothing but silence, or no picture any more, are shown so", { timeout: 60_000 }, () =>
  onPage({ scene: { people: ["Ben", "Clara"], kinds: [{ level: 0 }, {}] } }, async (page) => {
    await walkIn(page);
    await page.waitForSelector('.seat[data-silent="true"] >> text=Ben');
    await page.locator('.seat[data-silent="false"]', { hasText: "Clara" }).waitFor();
    await inRoom(page, "loud", "Ben", 0.2);
    await page.waitForSelector('.seat[data-speaking="true"] >> text=Ben');
    assert.equal(await page.locator('.seat[data-silent="true"]').count(), 0);
    const clara = page.locator(".seat", { hasText: "Clara" });
    const shown = (/** @type {boolean} */ picture) => page.locator(`.seat[data-picture="${picture}"]`, { hasText: "Clara" }).waitFor();
    await shown(true);
    await inRoom(page, "muted", "Clara", true);
    await shown(false);
    await inRoom(page, "muted", "Clara", false);
    await shown(true);
    // It stands still: a screen that nobody touches, or a sender that replaced its track by none. The clock is turned on once the last frame was noticed.
    await inRoom(page, "freeze", "Clara");
    await page.waitForTimeout(1_500);
    const later = (/** @type {number} */ ms) => page.evaluate((more) => void (/** @type {any} */ (window).fakeRoom.ahead += more), ms);
    await later(5_000);
    await page.waitForTimeout(1_000);
    assert.equal(await clara.getAttribute("data-picture"), "true", "a screen may stand still");
    await later(10_000);
    await shown(false);
  }),
);

test("pictures are shown where the browser counts no frames of a stream", { timeout: 60_000 }, () =>
  onPage(
    {
      scene: { people: ["Ben", "Clara"], kinds: [{}, { video: false }] },
      before: () => (HTMLVideoElement.prototype.getVideoPlaybackQuality = () => ({ creationTime: 0, droppedVideoFrames: 0, totalVideoFrames: 0, corruptedVideoFrames: 0 })),
    },
    async (page) => {
      await walkIn(page);
      await page.locator('.seat[data-picture="true"]', { hasText: "Ben" }).waitFor();
      assert.equal(await page.locator(".seat", { hasText: "Clara" }).getAttribute("data-picture"), "false");
      await inRoom(page, "dark", "Ben");
      await page.locator('.seat[data-picture="false"]', { hasText: "Ben" }).waitFor();
    },
  ),
);

test("another camera and microphone are taken when chosen, and one that went away is replaced", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2) }, async (page) => {
    await page.waitForSelector("#preview:not([hidden])");
    await walkIn(page);
    await open(page, "devices");
    const select = page.locator("#panel-devices").getByLabel("Microphone");
    // They are listed a moment after the first of them is there.
    await page.waitForFunction(() => /** @type {HTMLSelectElement} */ (document.querySelector("#panel-devices select")).options.length > 1);
    const before = await select.inputValue();
    const other = await select.evaluate((list, now) => [.../** @type {HTMLSelectElement} */ (list).options].map(({ value }) => value).filter((value) => value !== now).at(-1), before);
    const count = (await done(page)).sent.tracks.length;
    await select.selectOption(other ?? "");
    await page.waitForFunction((known) => /** @type {any} */ (window).fakeRoom.sent.tracks.length > known, count);
    await page.waitForFunction(([wanted]) => /** @type {any} */ (document.querySelector('.seat[data-own="true"] video')).srcObject.getAudioTracks()[0]?.getSettings().deviceId === wanted, [other]);
    await page.evaluate(() => {
      const [track] = /** @type {any} */ (document.querySelector('.seat[data-own="true"] video')).srcObject.getVideoTracks();
      track.stop();
      track.dispatchEvent(new Event("ended"));
    });
    await page.locator("#toasts", { hasText: "The camera went away." }).waitFor();
    await page.waitForSelector('.seat[data-own="true"][data-picture="true"]');
  }),
);

test("the page works without camera and microphone, and says why", { timeout: 60_000 }, async () => {
  for (const [fault, words] of [["NotAllowedError", /Camera and microphone are blocked/], ["NotFoundError", /No camera and no microphone/]]) {
    await onPage(
      {
        scene: crowd(2),
        before: fault === "NotAllowedError"
          ? () => (MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError")))
          : () => (MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException("no", "NotFoundError"))),
      },
      async (page) => {
        await page.locator("#door-fault", { hasText: words }).waitFor();
        if (fault === "NotAllowedError") await shoot(page, "room-denied-phone-dark");
        await walkIn(page);
        assert.deepEqual((await done(page)).asked[0].kinds, []);
        assert.equal(await page.locator('.seat[data-own="true"]').getAttribute("data-picture"), "false");
        await page.getByRole("button", { name: "Unmute microphone" }).click();
        await page.locator("#toasts", { hasText: "microphone" }).waitFor();
      },
    );
  }
  await onPage({ before: () => Object.defineProperty(Navigator.prototype, "mediaDevices", { value: undefined }) }, async (page) => {
    await page.locator("#door-fault", { hasText: "neither camera nor microphone" }).waitFor();
    await walkIn(page);
    assert.equal(await page.locator("#share").isVisible(), false, "nothing to share with");
  });
});

/** A picker that gives a canvas. */
function fakePicker() {
  MediaDevices.prototype.getDisplayMedia = async () => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 1600, height: 900 });
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const draw = () => {
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, 1600, 900);
      pen.fillStyle = "#1c1a18";
      pen.font = "72px sans-serif";
      pen.fillText("Quarterly figures", 120, 180);
      for (let bar = 0; bar < 8; bar += 1) pen.fillRect(140 + bar * 170, 780 - bar * 60, 110, bar * 60 + 20);
    };
    draw();
    setInterval(draw, 200);
    const stream = canvas.captureStream(5);
    Object.assign(window, { screenTrack: stream.getVideoTracks()[0] });
    return stream;
  };
}

test("the screen takes the camera's place, and the browser's own stop brings it back", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2), before: fakePicker, context: { viewport: DESK } }, async (page) => {
    await page.waitForSelector("#preview:not([hidden])");
    await walkIn(page);
    const own = page.locator('.seat[data-own="true"]');
    const camera = await page.evaluate(() => /** @type {any} */ (document.querySelector('.seat[data-own="true"] video')).srcObject.getVideoTracks()[0].id);
    const lastVideo = async () => (await done(page)).sent.tracks.filter((/** @type {any} */ { kind }) => kind === "video").at(-1).id;
    for (const way of ["browser", "button"]) {
      await page.getByRole("button", { name: "Share screen" }).click();
      await own.locator(".how", { hasText: "Sharing your screen" }).waitFor();
      const screen = await page.evaluate(() => /** @type {any} */ (window).screenTrack.id);
      assert.equal(await lastVideo(), screen);
      assert.equal(await own.getAttribute("data-shows"), "screen");
      await page.waitForFunction(() => /** @type {HTMLVideoElement} */ (document.querySelector('.seat[data-own="true"] video')).videoWidth === 1600);
      if (way === "browser") {
        await shoot(page, "room-sharing-desk-dark");
        // What the browser's bar does: it ends the track and says so.
        await page.evaluate(() => {
          const { screenTrack } = /** @type {any} */ (window);
          screenTrack.stop();
          screenTrack.dispatchEvent(new Event("ended"));
        });
      } else await page.getByRole("button", { name: "Stop sharing" }).click();
      await page.getByRole("button", { name: "Share screen" }).waitFor();
      await page.waitForFunction((id) => /** @type {any} */ (window).fakeRoom.sent.tracks.at(-1).id === id, camera);
      assert.equal(await own.getAttribute("data-shows"), "camera");
    }
    // With the camera off: shared all the same, and nothing comes back.
    await page.getByRole("button", { name: "Turn camera off" }).click();
    await page.waitForFunction(() => /** @type {any} */ (window).fakeRoom.sent.tracks.at(-1).id === null);
    await page.getByRole("button", { name: "Share screen" }).click();
    await own.locator(".how", { hasText: "Sharing" }).waitFor();
    // Switched on meanwhile, it does not take the screen's place.
    await page.getByRole("button", { name: "Turn camera on" }).click();
    await page.getByRole("button", { name: "Turn camera off" }).waitFor();
    await page.waitForTimeout(400);
    assert.equal(await lastVideo(), await page.evaluate(() => /** @type {any} */ (window).screenTrack.id));
    await page.getByRole("button", { name: "Turn camera off" }).click();
    await page.getByRole("button", { name: "Stop sharing" }).click();
    await page.waitForFunction(() => /** @type {any} */ (window).fakeRoom.sent.tracks.at(-1).id === null);
  }),
);

test("pointers: sent as parts of the stage, drawn where they are, never in the way", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2), context: { viewport: DESK } }, async (page) => {
    await walkIn(page);
    await settle(page);
    const box = await page.locator("#stage").boundingBox();
    assert.ok(box);
    await page.mouse.move(box.x + box.width * 0.25, box.y + box.height * 0.75);
    const { x, y } = (await done(page)).sent.cursors.at(-1);
    assert.ok(Math.abs(x - 0.25) < 0.01 && Math.abs(y - 0.75) < 0.01, `${x} ${y}`);
    const tile = await page.getByRole("button", { name: "Enlarge Ben" }).boundingBox();
    assert.ok(tile);
    const at = { x: tile.x + tile.width / 2, y: tile.y + tile.height / 2 };
    await inRoom(page, "point", "Ben", (at.x - box.x) / box.width, (at.y - box.y) / box.height);
    await settle(page);
    const arrow = await page.locator(".pointer svg").boundingBox();
    assert.ok(arrow && Math.abs(arrow.x + 5 - at.x) < 4 && Math.abs(arrow.y + 4 - at.y) < 4, JSON.stringify(arrow));
    await page.mouse.click(at.x, at.y);
    await page.getByRole("button", { name: "Shrink Ben" }).waitFor();
    // With one in front, that one is the surface, on this side and on the other.
    await settle(page);
    const front = await page.getByRole("button", { name: "Shrink Ben" }).boundingBox();
    assert.ok(front);
    await page.mouse.move(front.x + front.width * 0.5, front.y + front.height * 0.1);
    const on = (await done(page)).sent.cursors.at(-1);
    assert.ok(Math.abs(on.x - 0.5) < 0.01 && Math.abs(on.y - 0.1) < 0.02, JSON.stringify(on));
    await page.waitForSelector(".pointer", { state: "detached" });
    await inRoom(page, "point", "Ben", 0.5, 0.5);
    await inRoom(page, "remove", "Ben");
    assert.equal(await page.locator(".pointer").count(), 0);
  }),
);

test("a recording is a file that plays: both tracks, the right length, also with people who come and go", { timeout: 90_000 }, () =>
  onPage({ scene: crowd(2), context: { viewport: DESK, acceptDownloads: true } }, async (page) => {
    await walkIn(page);
    await page.waitForSelector('.seat[data-picture="true"]');
    await open(page, "record");
    const saving = page.waitForEvent("download");
    await page.evaluate(notePresses);
    await page.getByRole("button", { name: "Start recording" }).click();
    await page.waitForTimeout(1_200);
    await inRoom(page, "add", "Zoe", { level: 0.3 });
    await page.waitForTimeout(1_500);
    await inRoom(page, "remove", "Ben");
    await page.waitForTimeout(1_300);
    await page.getByRole("button", { name: "Stop and save" }).click();
    const download = await saving;
    const [start = 0, stop = 0] = await page.evaluate(() => /** @type {any} */ (window).presses);
    const took = (stop - start) / 1_000;
    assert.match(download.suggestedFilename(), /^Blue-room-\d{4}-\d\d-\d\d-\d{6}\.webm$/);
    const bytes = await readFile(/** @type {string} */ (await download.path()));
    assert.deepEqual([...bytes.subarray(0, 4)], [0x1a, 0x45, 0xdf, 0xa3], "an EBML header");
    for (const codec of ["V_VP8", "A_OPUS"]) assert.ok(bytes.includes(codec), `${codec} is there`);
    assert.deepEqual((await done(page)).sent.chat, ["I am recording this room."]);
    const facts = await page.evaluate(playBack);
    assert.ok(facts.seconds > took - 1.5 && facts.seconds < took + 0.5, `${facts.seconds} s of ${took} s`);
    assert.deepEqual([facts.width, facts.height], [1280, 720]);
    assert.ok(facts.level > 0.01, `sound at ${facts.level}`);
    assert.ok(facts.colours > 8, `${facts.colours} colours`);
  }),
);

/** Runs in the page: plays the newest recording and looks at what comes out. */
async function playBack() {
  const link = /** @type {HTMLAnchorElement} */ (document.querySelector("#record-files a"));
  const video = document.createElement("video");
  video.src = link.href;
  document.body.append(video);
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaElementSource(video).connect(analyser);
  await video.play();
  const samples = new Float32Array(2048);
  let level = 0;
  const colours = new Set();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 64, height: 36 });
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  await new Promise((done) => {
    video.onended = done;
    const look = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      level = Math.max(level, ...samples);
      pen.drawImage(video, 0, 0, 64, 36);
      const { data } = pen.getImageData(0, 0, 64, 36);
      for (let at = 0; at < data.length; at += 4) colours.add(`${(data[at] ?? 0) >> 5} ${(data[at + 1] ?? 0) >> 5} ${(data[at + 2] ?? 0) >> 5}`);
      if (video.ended) clearInterval(look);
    }, 100);
  });
  return { seconds: video.currentTime, width: video.videoWidth, height: video.videoHeight, level, colours: colours.size };
}

test("a recording goes on while nobody sees the page, also with who comes then", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2), context: { viewport: DESK, acceptDownloads: true } }, async (page) => {
    await walkIn(page);
    await page.waitForSelector('.seat[data-picture="true"]');
    // What a browser does to a page that nobody sees.
    await page.evaluate(() => {
      Object.defineProperty(document, "visibilityState", { value: "hidden" });
      const after = window.setTimeout;
      Object.assign(window, { setTimeout: (/** @type {() => void} */ run, ms = 0) => after(run, Math.max(ms, 1_000)), drawn: /** @type {Record<string, number>} */ ({}) });
      const { drawImage } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.drawImage = function (/** @type {any[]} */ ...given) {
        const who = given[0].closest(".seat")?.querySelector(".who").textContent;
        const { drawn } = /** @type {any} */ (window);
        drawn[who] = (drawn[who] ?? 0) + 1;
        drawImage.apply(this, /** @type {any} */ (given));
      };
    });
    await open(page, "record");
    const saving = page.waitForEvent("download");
    await page.click("#record-go");
    await inRoom(page, "add", "Zoe");
    await page.waitForFunction(() => (/** @type {any} */ (window).drawn.Zoe ?? 0) > 20, undefined, { timeout: 8_000 });
    await inRoom(page, "muted", "Ben", true);
    await page.waitForTimeout(100);
    const before = await page.evaluate(() => ({ .../** @type {any} */ (window).drawn }));
    await page.waitForTimeout(500);
    const after = await page.evaluate(() => ({ .../** @type {any} */ (window).drawn }));
    assert.equal(after.Ben, before.Ben, "who switched the camera off is an initial");
    assert.ok(after.Zoe > before.Zoe);
    await page.click("#record-go");
    await saving;
  }),
);

test("one person is recorded under their own name, and nobody is told who did not want it", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(3), context: { viewport: DESK, acceptDownloads: true } }, async (page) => {
    await walkIn(page);
    await open(page, "record");
    await page.waitForFunction(() => /** @type {HTMLSelectElement} */ (document.querySelector("#record-who")).options.length === 4);
    await page.selectOption("#record-who", { label: "Clara" });
    await page.uncheck("#record-tell");
    const saving = page.waitForEvent("download");
    await page.click("#record-go");
    await page.waitForTimeout(1_500);
    // Leaving saves what there is.
    await page.click("#leave");
    assert.match((await saving).suggestedFilename(), /^Blue-room-Clara-.*\.webm$/);
    assert.deepEqual((await done(page)).sent.chat, []);
  }),
);

test("a voice: asked in as one more person, sent away, gone when its host leaves", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2), path: "room?room=Blue%20room#token=t", context: { viewport: DESK } }, async (page) => {
    await walkIn(page);
    await open(page, "voices");
    const name = "Low Tone (220 Hz)";
    await page.getByRole("button", { name: `Ask in: ${name}` }).click();
    await page.locator(".seat", { hasText: name }).waitFor();
    const { asked } = await done(page);
    assert.deepEqual(asked[1], { url: `${stage.server.url}signal`, room: "Blue room", user: name, token: "t", receive: false, kinds: ["audio"] });
    await page.waitForSelector(`.seat[data-speaking="true"] >> text=${name}`);
    await page.getByRole("button", { name: `Send away: ${name}` }).click();
    await page.locator(".seat", { hasText: name }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: `Ask in: ${name}` }).click();
    await page.locator(".seat", { hasText: name }).waitFor();
    await page.click("#leave");
    await reach(page, "door");
    const after = await done(page);
    assert.ok(after.rooms.every((/** @type {any} */ { state }) => state === "closed"), "no place is kept");
    assert.ok(after.clients.every((/** @type {any} */ { closed }) => closed), "no listener is left");
  }),
);

test("where the server tells no voices, the page says so, and does not guess again", { timeout: 60_000 }, () =>
  onPage({ scene: { voices: false } }, async (page) => {
    await walkIn(page);
    for (let again = 0; again < 3; again += 1) {
      await open(page, "voices");
      await page.locator("#voices-state", { hasText: "Join with the access token" }).waitFor();
      await page.click("#panel-close");
    }
    assert.deepEqual((await done(page)).clients, [{ token: "devtoken", started: "", closed: true }], "what a server on this machine takes");
  }),
);

test("without a token, voices of a server elsewhere are not asked for", { timeout: 60_000 }, () =>
  onPage({}, async (page) => {
    await page.route("http://elsewhere.test/**", async (route) => {
      const url = route.request().url();
      if (url.endsWith("/sdk/index.js")) await route.fallback();
      else await route.fulfill({ response: await route.fetch({ url: url.replace("http://elsewhere.test/", stage.server.url) }) });
    });
    await page.goto("http://elsewhere.test/room?room=Blue%20room");
    await walkIn(page);
    await open(page, "voices");
    await page.getByText("Join with the access token to ask voices in.").waitFor();
    assert.deepEqual((await done(page)).clients, []);
  }),
);

test("the figures can be saved as JSON", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(3), context: { viewport: DESK, acceptDownloads: true } }, async (page) => {
    await walkIn(page);
    await open(page, "details");
    await page.getByText("through NAT").waitFor();
    const saving = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save as JSON" }).click();
    const download = await saving;
    assert.match(download.suggestedFilename(), /^Blue-room-connections-.*\.json$/);
    const report = JSON.parse(await readFile(/** @type {string} */ (await download.path()), "utf8"));
    assert.deepEqual(report.peers.map((/** @type {any} */ { peer }) => peer), ["Ben", "Clara"]);
    await inRoom(page, "remove", "Clara");
    await page.waitForFunction(() => document.querySelectorAll(".peer-card").length === 1);
  }),
);

test("the line comes back, or is asked for", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2) }, async (page) => {
    await walkIn(page);
    await inRoom(page, "become", "detached", 20_000);
    await page.getByRole("button", { name: "Try now" }).click();
    assert.equal((await done(page)).nudges, 1);
    await inRoom(page, "become", "joined");
    await page.waitForSelector("#banner", { state: "hidden" });
    await inRoom(page, "become", "refused");
    await page.getByRole("button", { name: "Try now" }).click();
    await page.waitForFunction(() => /** @type {any} */ (window).fakeRoom.rooms.length === 2);
    await reach(page, "joined");
    assert.equal((await done(page)).rooms[0].state, "closed");
    await page.evaluate(() => /** @type {any} */ (window).fakeRoom.rooms[1].become("refused"));
    await page.getByRole("button", { name: "Change details" }).click();
    await reach(page, "door");
  }),
);

test("every control has a name, and panels give the focus back", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(3), context: { viewport: DESK } }, async (page) => {
    await page.waitForSelector("#preview:not([hidden])");
    await walkIn(page);
    for (const name of ["Mute microphone", "Turn camera off", "Chat", "Share screen", "Voices", "Record", "Details", "Devices", "Leave", "Copy link", "Enlarge Ben", "Enlarge yourself"]) {
      assert.equal(await page.getByRole("button", { name, exact: true }).count(), 1, name);
    }
    for (const pane of ["chat", "voices", "record", "details", "devices"]) {
      await page.focus(`#${pane}`);
      await page.keyboard.press("Enter");
      await page.waitForSelector(`#panel-${pane}:not([hidden])`);
      assert.equal(await page.locator(`#${pane}`).getAttribute("aria-expanded"), "true");
      const nameless = await page.evaluate(() =>
        [...document.querySelectorAll("button, input, select, textarea")].filter((control) => control.checkVisibility() && !control.ariaLabel && !control.textContent?.trim() && !(/** @type {HTMLInputElement} */ (control).labels?.length)).map(({ id }) => id),
      );
      assert.deepEqual(nameless, [], pane);
      await page.keyboard.press("Escape");
      await page.waitForSelector("#panel", { state: "hidden" });
      assert.equal(await page.evaluate(() => document.activeElement?.id), pane, "the focus comes back");
    }
    assert.equal(await page.getByRole("log", { includeHidden: true }).count(), 1);
    assert.equal(await page.getByRole("status").first().textContent(), "3 here");
  }),
);

test("the keyboard is enough", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2), path: "room" }, async (page) => {
    assert.equal(await page.evaluate(() => document.activeElement?.id), "name");
    await page.keyboard.type("Ann");
    await page.keyboard.press("Tab");
    await page.keyboard.type("Green room");
    await page.keyboard.press("Enter");
    await reach(page, "joined");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "mic");
    await page.getByRole("button", { name: "Mute microphone", exact: true }).waitFor();
    await page.keyboard.press("Space");
    await page.getByRole("button", { name: "Unmute microphone" }).waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#chat-text:focus");
    await page.keyboard.type("hello");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("#more").getAttribute("aria-expanded"), "true");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#panel-voices:not([hidden])");
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement?.id), "more", "what is hidden again cannot have the focus");
    await page.focus("#leave");
    await page.keyboard.press("Enter");
    await reach(page, "door");
    assert.deepEqual((await done(page)).sent.chat, ["hello"]);
  }),
);

test("where the browser wants a tap before it plays, the page asks for one", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(2) }, async (page) => {
    await page.waitForSelector("#preview:not([hidden])");
    await page.evaluate(() => {
      const { play } = HTMLMediaElement.prototype;
      HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException("tap first", "NotAllowedError"));
      Object.assign(window, { allow: () => (HTMLMediaElement.prototype.play = play) });
    });
    await walkIn(page);
    await page.waitForSelector("#hear:not([hidden])");
    await page.evaluate(() => /** @type {any} */ (window).allow());
    await page.click("#hear");
    await page.waitForSelector("#hear", { state: "hidden" });
  }),
);

test("nothing moves for those who asked for calm", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(3), context: { reducedMotion: "reduce" } }, async (page) => {
    await walkIn(page);
    await inRoom(page, "add", "Zoe");
    await inRoom(page, "point", "Zoe", 0.5, 0.5);
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  }),
);

test("leaving lets go of the room, and the way in stands open", { timeout: 60_000 }, () =>
  onPage({ scene: crowd(3) }, async (page) => {
    await walkIn(page);
    await open(page, "chat");
    await inRoom(page, "say", "Ben", "bye");
    await page.click("#leave");
    await reach(page, "door");
    assert.equal((await done(page)).rooms[0].state, "closed");
    assert.equal(await page.locator(".seat").count(), 0);
    await walkIn(page);
    assert.equal(await page.locator(".seat").count(), 3);
    assert.equal(await page.locator(".line").count(), 0, "the history is the visit's");
    assert.equal(await page.locator("#panel").isVisible(), false);
  }),
);

test("leaving puts out the lights, and coming in again brings back what was on", { timeout: 60_000 }, () =>
  onPage(
    {
      scene: crowd(2),
      before: () => {
        const { getUserMedia } = MediaDevices.prototype;
        /** @type {MediaStreamTrack[]} */
        const tracks = [];
        Object.assign(window, { open: () => tracks.filter(({ readyState }) => readyState === "live").map(({ kind }) => kind).sort() });
        MediaDevices.prototype.getUserMedia = async function (wishes) {
          const stream = await getUserMedia.call(this, wishes);
          tracks.push(...stream.getTracks());
          return stream;
        };
        // The page waits for devices before it asks to join, but not for ever: here it has the time.
        const after = window.setTimeout;
        Object.assign(window, { setTimeout: (/** @type {() => void} */ run, ms = 0) => after(run, ms < 1_000 ? ms : 10 * ms) });
      },
    },
    async (page) => {
      const lights = () => page.evaluate(() => /** @type {any} */ (window).open());
      await walkIn(page);
      await page.waitForSelector('.seat[data-own="true"][data-picture="true"]');
      await page.click("#leave");
      await reach(page, "door");
      assert.deepEqual(await lights(), []);
      assert.equal(await page.locator("#preview").isVisible(), false);
      await page.getByText("Camera and microphone are off until you join.").waitFor();
      assert.deepEqual(await page.locator("#door-mic, #door-camera").evaluateAll((keys) => keys.map(({ ariaLabel }) => ariaLabel)), ["Unmute microphone", "Turn camera on"]);
      assert.equal(await page.locator("#door-meter").getAttribute("aria-valuetext"), "silent");
      await shoot(page, "room-rest-phone-dark");
      await walkIn(page);
      assert.deepEqual((await done(page)).asked[1].kinds, ["audio", "video"]);
      await page.waitForSelector('.seat[data-own="true"][data-picture="true"]');
      assert.deepEqual(await lights(), ["audio", "video"]);
      // A button at the door does the same; what is off stays off.
      await page.getByRole("button", { name: "Turn camera off" }).click();
      await page.getByRole("button", { name: "Turn camera on" }).waitFor();
      await page.click("#leave");
      await page.getByText("The microphone is off until you join.").waitFor();
      await page.click("#door-mic");
      await page.getByRole("button", { name: "Mute microphone", exact: true }).waitFor();
      assert.equal(await page.locator("#door-fault").isVisible(), false);
      assert.deepEqual(await lights(), ["audio"]);
      // Coming in anew after a refusal, and changing a detail, are no end.
      await walkIn(page);
      await page.evaluate(() => /** @type {any} */ (window).fakeRoom.rooms.at(-1).become("refused"));
      await page.getByRole("button", { name: "Change details" }).click();
      await reach(page, "door");
      assert.deepEqual(await lights(), ["audio"]);
    },
  ),
);
