// The room page with real browsers in a room of the real server: seen, heard, written to, recorded; and what happens when something breaks.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { DESK, PHONE, bareDocument, freshPage, launch, notePresses, reach, shoot, timeline } from "./lib/browser.js";
import { hearTone } from "./lib/ears.js";
import { allTogether, figures, knock, openPane, perceives, sounds, walkIn } from "./lib/people.js";
import { TOKEN, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";
import { directWords } from "./lib/ways.js";

/** @typedef {import("./lib/people.js").Person} Person */

const stage = setStage(startServer);

/** Less than the 10 s after which one who said nothing is given up: who leaves on purpose is gone before. */
const GOODBYE_MS = 8_000;

/** A bare page that is in a room with a tone and listens to whoever else is there. */
const ROOM_PROGRAM = `window.meet = async (options, hz) => {
  const { joinRoom } = await import("/sdk/index.js");
  const context = new AudioContext();
  const out = context.createMediaStreamDestination();
  const wave = new OscillatorNode(context, { frequency: hz });
  wave.connect(new GainNode(context, { gain: 0.3 })).connect(out);
  wave.start();
  window.room = await joinRoom({ ...options, stream: out.stream });
  window.room.on("track", ({ stream }) => {
    const audio = document.querySelector("audio");
    audio.srcObject = stream;
    audio.play();
  });
};`;

const TONES = { Ann: 300, Ben: 500, Clara: 700, Dmitri: 900, Eleni: 1_100, Farid: 1_300 };

/**
 * Whoever is let in through `ask` is shown out in the end; nobody's console may have complained.
 * @param {(ask: (name: string, options?: Parameters<typeof knock>[3] & { wait?: boolean }) => Promise<Person & { hz: number }>) => Promise<void>} act
 * @param {{ server?: { url: string, output: string }, browser?: import("./lib/browser.js").Browser, expected?: RegExp }} [where] with complaints that are to be expected
 */
async function gathering(act, { server: at = stage.server, browser = stage.browser, expected } = {}) {
  /** @type {(Person & { hz: number })[]} */
  const people = [];
  try {
    await act(async (name, { wait = false, ...options } = {}) => {
      const hz = hertz(name);
      const person = await (wait ? knock : walkIn)(browser, at, name, { looks: { hz }, ...options });
      people.push({ ...person, hz });
      return /** @type {Person & { hz: number }} */ (people.at(-1));
    });
    for (const { name, faults } of people) assert.deepEqual(faults.filter((fault) => !expected?.test(fault)), [], `the console of ${name} is clean`);
  } catch (fault) {
    const pages = await Promise.all(people.map(async ({ name, page, notes, faults }) => `--- ${name}\n${await timeline(page)}\n${[...notes, ...faults].join("\n")}`));
    throw new Error(`${fault}\n${pages.join("\n")}\n--- server\n${at.output.slice(-3_000)}`, { cause: fault });
  } finally {
    await Promise.all(people.map(({ context }) => context.close()));
  }
}

/** @param {string} name */
const hertz = (name) => TONES[/** @type {keyof typeof TONES} */ (name)];

/** The chat must be open. @param {Person} person @param {string} text */
async function write({ page }, text) {
  await page.fill("#chat-text", text);
  await page.press("#chat-text", "Enter");
}

/** @param {Person} person @param {number} x @param {number} y */
async function pointAt({ page }, x, y) {
  const box = await page.locator("#stage").boundingBox();
  assert.ok(box);
  await page.mouse.move(box.x + box.width * x, box.y + box.height * y);
}

/** Runs in the page: where somebody points, as parts of the stage, or null. @param {string} name */
function lookAtPointer(name) {
  const pointer = [...document.querySelectorAll(".pointer")].find((one) => one.textContent?.trim() === name);
  const stage = /** @type {Element} */ (document.querySelector("#stage")).getBoundingClientRect();
  if (!pointer) return null;
  const { e, f } = new DOMMatrix(/** @type {HTMLElement} */ (pointer).style.transform);
  return { x: e / stage.width, y: f / stage.height };
}

/** @param {{ x: number, y: number } | null} at @param {number} x @param {number} y */
const isAt = (at, x, y) => at !== null && Math.abs(at.x - x) < 0.02 && Math.abs(at.y - y) < 0.02;

/** @param {Person} person @param {string} name @param {number} x @param {number} y */
async function pointed({ page }, name, x, y) {
  const end = Date.now() + 15_000;
  for (;;) {
    const at = await page.evaluate(lookAtPointer, name);
    if (isAt(at, x, y)) return;
    assert.ok(Date.now() < end, `${name} points at ${JSON.stringify(at)}, not at ${x} ${y}`);
    await page.waitForTimeout(50);
  }
}

/**
 * Waits until more than told came to each.
 * @param {Person[]} people
 * @param {{ packetsReceived: number, framesDecoded: number }} than
 */
async function getMore(people, { packetsReceived, framesDecoded }) {
  const before = await Promise.all(people.map(figures));
  const end = Date.now() + 20_000;
  for (;;) {
    const now = await Promise.all(people.map(figures));
    const grown = now.map((sums, at) => ({
      packetsReceived: sums.packetsReceived - (before[at]?.packetsReceived ?? 0),
      framesDecoded: sums.framesDecoded - (before[at]?.framesDecoded ?? 0),
    }));
    if (grown.every((by) => by.packetsReceived > packetsReceived && by.framesDecoded > framesDecoded)) return;
    assert.ok(Date.now() < end, `what came since: ${JSON.stringify(grown)}`);
    await new Promise((done) => setTimeout(done, 250));
  }
}

/** Who met already, by a late offer, may have built more than one for each. @param {Person[]} people */
const builtBy = async (people) => (await Promise.all(people.map(figures))).map(({ built }) => built);

/** Of the newest connection. @param {Person} person */
function ufrags({ page }) {
  return page.evaluate(() => {
    const { localDescription, remoteDescription } = /** @type {RTCPeerConnection} */ (/** @type {any} */ (window).connections.at(-1));
    const of = (/** @type {RTCSessionDescription | null} */ description) => /ice-ufrag:(\S+)/.exec(description?.sdp ?? "")?.[1];
    return { local: of(localDescription), remote: of(remoteDescription) };
  });
}

test("two people see and hear each other with the browser's own devices", { timeout: 60_000 }, () =>
  gathering(async (ask) => {
    const people = await Promise.all(["Ann", "Ben"].map((name) => ask(name, { looks: undefined })));
    for (const person of people) {
      const [other] = people.filter((one) => one !== person).map(({ name }) => name);
      await perceives(person, (them) => (them[/** @type {string} */ (other)]?.width ?? 0) >= 320 && (them[/** @type {string} */ (other)]?.frames ?? 0) > 10, "a picture");
      await perceives(person, (them) => (them[/** @type {string} */ (other)]?.db ?? -Infinity) > -45, "a beep");
      await getMore([person], { packetsReceived: 0, framesDecoded: 0 });
    }
  }),
);

test("three people, the last one late: all see, hear and write to each other, in order and once", { timeout: 90_000 }, () =>
  gathering(async (ask) => {
    const [ann, ben] = await Promise.all([ask("Ann"), ask("Ben")]);
    await allTogether([ann, ben]);
    const clara = await ask("Clara");
    const all = [ann, ben, clara];
    await allTogether(all);
    const sums = await Promise.all(all.map(figures));
    assert.deepEqual(sums.map(({ connections }) => connections), [2, 2, 2], "one connection to each");
    // Of two whose offers met, because one came late, one gave up its own; that happens to each pair at most once.
    const built = sums.map((one) => one.built);
    assert.ok(built.reduce((sum, count) => sum + count) <= 6 + 3, `none in vain: ${built}`);

    for (const { page } of all) await page.click("#chat");
    // All at once, faster than anybody types.
    const lines = Array.from({ length: 12 }, (_, at) => at);
    await Promise.all(all.map(async (one) => {
      for (const at of lines) await write(one, `${one.name} ${at}`);
    }));
    for (const { page, name } of all) {
      await page.waitForFunction((count) => document.querySelectorAll(".line").length >= count, all.length * lines.length);
      await page.waitForTimeout(200);
      const read = await page.locator(".line-text").allTextContents();
      for (const other of all) assert.deepEqual(read.filter((text) => text.startsWith(other.name)), lines.map((at) => `${other.name} ${at}`), `what ${name} reads of ${other.name}`);
    }
  }),
);

test("a cursor is where it is pointed, and the last position comes through a jam", { timeout: 60_000 }, () =>
  gathering(async (ask) => {
    const [ann, ben] = await Promise.all([ask("Ann", { context: { viewport: DESK } }), ask("Ben")]);
    await perceives(ben, (them) => Boolean(them.Ann?.seen), "Ann");
    await pointAt(ann, 0.25, 0.75);
    await pointed(ben, "Ann", 0.25, 0.75);
    await ann.page.evaluate(() => {
      Object.defineProperty(RTCDataChannel.prototype, "bufferedAmount", { configurable: true, get: () => /** @type {any} */ (window).jam });
      Object.assign(window, { jam: 65_536 });
    });
    await pointAt(ann, 0.6, 0.4);
    await pointAt(ann, 0.75, 0.25);
    await ben.page.waitForTimeout(300);
    // An arrow that rests is put away.
    const at = await ben.page.evaluate(lookAtPointer, "Ann");
    assert.ok(at === null || isAt(at, 0.25, 0.75), `nothing comes through: ${JSON.stringify(at)}`);
    await ann.page.evaluate(() => Object.assign(window, { jam: 0 }));
    await pointed(ben, "Ann", 0.75, 0.25);
  }),
);

test("six people in one room", { timeout: 300_000 }, () =>
  gathering(async (ask) => {
    // Small in every way: what is to be shown is thirty connections at once, on a machine of two cores.
    const small = (/** @type {string} */ name) => ({ looks: { hz: hertz(name), fps: 3, size: /** @type {[number, number]} */ ([96, 54]) }, context: { viewport: { width: 320, height: 480 } } });
    const names = Object.keys(TONES);
    const people = [];
    // Two at a time come through the door, as people do.
    while (names.length > 0) people.push(...(await Promise.all(names.splice(0, 2).map((name) => ask(name, small(name))))));
    await allTogether(people, { timeout: 120_000, moves: 2 });
    const { page } = /** @type {Person} */ (people[0]);
    assert.equal(await page.locator("#status").textContent(), "6 here");
    for (const [size, view] of Object.entries({ phone: PHONE, desk: DESK })) {
      await page.setViewportSize(view);
      await page.waitForTimeout(300);
      await shoot(page, `roomlive-6-${size}`);
    }
  }),
);

test("one who leaves, one who closes the browser and one whose page dies are gone", { timeout: 90_000 }, () =>
  gathering(async (ask) => {
    const [ann, ben, clara, dmitri] = await Promise.all([ask("Ann"), ask("Ben"), ask("Clara"), ask("Dmitri")]);
    await allTogether([ann, ben, clara, dmitri], { timeout: 30_000 });
    await ben.page.click("#leave");
    await perceives(ann, (them) => !("Ben" in them), "that Ben left", GOODBYE_MS);
    await clara.context.close();
    await perceives(ann, (them) => !("Clara" in them), "that Clara left", GOODBYE_MS);
    const crash = await dmitri.context.newCDPSession(dmitri.page);
    const at = Date.now();
    void crash.send("Page.crash").catch(() => {});
    await perceives(ann, (them) => !("Dmitri" in them), "that Dmitri is gone", 20_000);
    assert.ok(Date.now() - at < 15_000);
    await ann.page.locator("#alone").waitFor();
    assert.equal((await figures(ann)).connections, 0, "nothing is left over");
    // His place is free.
    const again = await ask("Dmitri");
    await allTogether([ann, again]);
  }),
);

test("a path that is given up is found again under the sound", { timeout: 60_000 }, () =>
  gathering(async (ask) => {
    const [ann, ben] = await Promise.all([ask("Ann"), ask("Ben")]);
    await allTogether([ann, ben]);
    const before = await ufrags(ben);
    const built = await builtBy([ann, ben]);
    await ann.page.evaluate(() => /** @type {any} */ (window).connections.at(-1).restartIce());
    await ben.page.waitForFunction((old) => /** @type {any} */ (window).connections.at(-1).remoteDescription.sdp.match(/ice-ufrag:(\S+)/)[1] !== old, before.remote);
    await allTogether([ann, ben]);
    assert.notEqual((await ufrags(ben)).local, before.local);
    assert.deepEqual(await builtBy([ann, ben]), built, "the connections stay");
  }),
);

test("a server that restarts: all come back by themselves, and the media never stops", { timeout: 120_000 }, async () => {
  const server = await startServer();
  try {
    await gathering(async (ask) => {
      const people = await Promise.all(["Ann", "Ben", "Clara"].map((name) => ask(name)));
      const [ann, ben] = /** @type {[Person & { hz: number }, Person & { hz: number }]} */ (/** @type {unknown} */ (people));
      await allTogether(people);
      const built = await builtBy(people);
      await server.stop();
      await Promise.all(people.map(({ page }) => reach(page, "detached")));
      await allTogether(people);
      // Two others of 50 packets of sound a second each, and pictures.
      await getMore(people, { packetsReceived: 80, framesDecoded: 4 });
      // Chat does not need the server.
      for (const { page } of people) await page.click("#chat");
      await write(ann, "still there?");
      await ben.page.getByText("still there?").waitFor();
      await server.start();
      await Promise.all(people.map(({ page }) => reach(page, "joined", 30_000)));
      await ann.page.waitForTimeout(1_000);
      await allTogether(people);
      assert.deepEqual(await builtBy(people), built, "nothing was built anew");
      for (const { page } of people) assert.equal(await page.locator("#status").textContent(), "3 here");
      await allTogether([...people, await ask("Dmitri")]);
    }, { server, expected: /WebSocket connection|ERR_CONNECTION_REFUSED/ });
  } finally {
    await server.close();
  }
});

test("two who may only be relayed meet inside the closed relay", { timeout: 60_000 }, async () => {
  const both = await Promise.all(["Ann", "Ben"].map(() => freshPage(stage.browser)));
  try {
    await Promise.all(both.map(async ({ page }, at) => {
      await bareDocument(page, stage.server.url, ROOM_PROGRAM);
      const options = { url: stage.server.url, token: TOKEN, room: "Relayed", user: ["Ann", "Ben"][at], iceTransportPolicy: "relay" };
      await page.evaluate(([with_, hz]) => /** @type {any} */ (window).meet(with_, hz), /** @type {const} */ ([options, 440 * (at + 1)]));
    }));
    await Promise.all(both.map(async ({ page }, at) => {
      await hearTone(page, 440 * (2 - at));
      const report = await page.evaluate(() => /** @type {any} */ (window).room.stats());
      const [peer] = report.peers;
      assert.deepEqual([peer.path, peer.pair.local.type, peer.pair.remote.type], ["relay", "relay", "relay"]);
      assert.match(peer.words, /^relayed over (UDP|TCP)$/);
      assert.ok(["good", "fair", "poor"].includes(peer.verdict.rating) && peer.verdict.text.length > 5, JSON.stringify(peer.verdict));
    }));
    for (const { faults } of both) assert.deepEqual(faults, []);
  } finally {
    await Promise.all(both.map(({ context }) => context.close()));
  }
});

/** A browser whose permissions and whose picker for screens are real: it shares the page called Slides, and ends when that is closed. */
async function strictBrowser() {
  return launch({ without: ["--use-fake-ui"], further: ["--auto-select-tab-capture-source-by-title=Slides"] });
}

test("a shared screen reaches all, who come later too, and the browser's own stop brings the camera back", { timeout: 90_000 }, async () => {
  const browser = await strictBrowser();
  try {
    await gathering(async (ask) => {
      const [ann, ben] = await Promise.all([ask("Ann", { context: { viewport: DESK } }), ask("Ben")]);
      await allTogether([ann, ben]);
      const built = await builtBy([ann, ben]);
      const slides = await ann.context.newPage();
      await slides.goto(`${stage.server.url}healthz`);
      await slides.evaluate(() => {
        document.title = "Slides";
        document.body.style.background = "rgb(0 128 0)";
        // What stands still is not sent again and again.
        setInterval(() => (document.body.textContent = String(Date.now())), 200);
      });
      await ann.page.bringToFront();
      await ann.page.getByRole("button", { name: "Share screen" }).click();
      await ann.page.locator('.seat[data-own="true"] .how', { hasText: "Sharing your screen" }).waitFor();
      /** @param {Record<string, import("./lib/people.js").Impression>} them */
      const screen = ({ Ann }) => Ann !== undefined && Ann.width > 160 && Ann.seen && green(Ann) && sounds(Ann, ann.hz);
      await perceives(ben, screen, "Ann's screen and her voice");
      assert.deepEqual(await builtBy([ann, ben]), built, "no connection was built for it");
      const clara = await ask("Clara");
      await perceives(clara, screen, "Ann's screen, coming late");
      await shoot(clara.page, "roomlive-screen-phone");
      await perceives(clara, ({ Ben }) => sounds(Ben, ben.hz), "Ben");
      const all = [ann, ben, clara];
      const builtForAll = await builtBy(all);
      // The page that is shared is closed: the track ends by itself.
      await slides.close();
      await ann.page.getByRole("button", { name: "Share screen" }).waitFor();
      for (const one of [ben, clara]) await perceives(one, ({ Ann }) => Ann?.width === 160 && Ann.seen && !green(Ann), "Ann's camera again");
      await allTogether(all);
      assert.deepEqual(await builtBy(all), builtForAll, "nor for its end");
    }, { browser });
  } finally {
    await browser.close();
  }
});

/** @param {import("./lib/people.js").Impression} other */
const green = ({ colour }) => /^0 [345] 0$/.test(colour);

test("no camera, no microphone, or neither: one is there all the same", { timeout: 90_000 }, async () => {
  const browser = await strictBrowser();
  try {
    await gathering(async (ask) => {
      const allowed = { Ann: ["camera"], Ben: ["microphone"], Clara: [] };
      const people = [];
      for (const [name, permissions] of Object.entries(allowed)) people.push(await ask(name, { looks: undefined, context: { permissions } }));
      const [ann, ben, clara] = /** @type {[Person, Person, Person]} */ (/** @type {unknown} */ (people));
      for (const one of [ben, clara]) await perceives(one, ({ Ann }) => Ann !== undefined && Ann.seen && Ann.db < -60, "Ann's picture without a sound");
      for (const one of [ann, clara]) await perceives(one, ({ Ben }) => Ben !== undefined && !Ben.seen && Ben.db > -45, "Ben's voice without a picture");
      for (const one of [ann, ben]) {
        const { Clara } = await perceives(one, (them) => them.Clara?.how === "", "that Clara is there");
        assert.deepEqual([Clara?.seen, Clara?.frames], [false, 0]);
      }
      for (const { page } of people) await page.click("#chat");
      await write(clara, "I can only write");
      for (const { page } of [ann, ben]) await page.getByText("I can only write").waitFor();
      // Told in words what is missing, and what to do.
      await ann.page.click("#panel-close");
      await ann.page.getByRole("button", { name: "Unmute microphone" }).click();
      await ann.page.locator("#toasts", { hasText: "icrophone" }).waitFor();
    }, { browser });
  } finally {
    await browser.close();
  }
});

test("a voice that is asked in is heard by all, and sent away again", { timeout: 90_000 }, () =>
  gathering(async (ask) => {
    const people = await Promise.all(["Ann", "Ben", "Clara"].map((name) => ask(name)));
    const [ann] = people;
    assert.ok(ann);
    await allTogether(people);
    await openPane(ann, "voices");
    const ask880 = ann.page.getByRole("button", { name: /^Ask in: .*880/ });
    const name = ((await ask880.getAttribute("aria-label")) ?? "").slice("Ask in: ".length);
    const at = Date.now();
    await ask880.click();
    await ann.page.getByText("Heard by everybody", { exact: true }).waitFor();
    await Promise.all(people.map((one) => perceives(one, (them) => sounds(them[name], 880) && !them[name]?.seen, `the voice ${name}`)));
    assert.ok(Date.now() - at < 40_000);
    for (const { page } of people) await page.locator("#status", { hasText: "4 here" }).waitFor();
    await ann.page.getByRole("button", { name: `Send away: ${name}` }).click();
    await Promise.all(people.map((one) => perceives(one, (them) => !(name in them), "that the voice is gone", GOODBYE_MS)));
    await allTogether(people);
    // Whoever asked it in takes it along.
    await ann.page.getByRole("button", { name: `Ask in: ${name}` }).click();
    await Promise.all(people.map((one) => perceives(one, (them) => sounds(them[name], 880), `the voice ${name}`)));
    await ann.page.click("#leave");
    for (const one of people.slice(1)) await perceives(one, (them) => !(name in them) && !("Ann" in them), "that both are gone", GOODBYE_MS);
  }),
);

for (const whole of [true, false]) {
  test(`a recording of ${whole ? "the whole room" : "one person"} plays back`, { timeout: 90_000 }, () =>
    gathering(async (ask) => {
      const [ann, ben] = await Promise.all([ask("Ann", { context: { viewport: DESK, acceptDownloads: true } }), ask("Ben")]);
      await allTogether([ann, ben]);
      await openPane(ann, "record");
      if (!whole) {
        await ann.page.waitForFunction(() => /** @type {HTMLSelectElement} */ (document.querySelector("#record-who")).options.length === 3);
        await ann.page.selectOption("#record-who", { label: "Ben" });
      }
      const saving = ann.page.waitForEvent("download");
      await ann.page.evaluate(notePresses);
      await ann.page.click("#record-go");
      await ann.page.waitForSelector("#recording:not([hidden])");
      await ann.page.waitForTimeout(4_000);
      await ann.page.click("#record-go");
      const download = await saving;
      const [start = 0, stop = 0] = await ann.page.evaluate(() => /** @type {any} */ (window).presses);
      const took = (stop - start) / 1_000;
      assert.match(download.suggestedFilename(), whole ? /^Blue-\d{4}-.*\.webm$/ : /^Blue-Ben-.*\.webm$/);
      await ben.page.click("#chat");
      await ben.page.getByText(whole ? "I am recording this room." : "I am recording Ben.").waitFor();
      const file = await readFile(/** @type {string} */ (await download.path()));
      const { width, height, seconds, sound, tones, colours } = await ben.page.evaluate(playBack, file.toString("base64"));
      assert.deepEqual([width, height], [1280, 720]);
      assert.ok(Math.abs(seconds - took) < 2, `${seconds} s of ${took} s of picture`);
      assert.ok(Math.abs(sound - took) < 2, `${sound} s of ${took} s of sound`);
      const heard = (/** @type {number} */ hz) => tones.some((tone) => Math.abs(tone - hz) <= 6);
      assert.deepEqual([heard(ann.hz), heard(ben.hz)], [whole, true], `${tones}`);
      assert.ok(colours >= (whole ? 3 : 2), `${colours} colours`);
    }),
  );
}

/** Runs in the page: what a recording holds, by a player and by a decoder. @param {string} base64 */
async function playBack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const video = document.createElement("video");
  video.muted = true;
  video.src = URL.createObjectURL(new Blob([bytes], { type: "video/webm" }));
  await new Promise((done, fail) => Object.assign(video, { onloadeddata: done, onerror: () => fail(new Error(video.error?.message)) }));
  // A recording does not say how long it is: whoever goes past its end is told.
  const ended = new Promise((done) => (video.onseeked = done));
  video.currentTime = 1e6;
  await ended;
  const seconds = video.duration === Infinity ? video.currentTime : video.duration;
  const middle = new Promise((done) => (video.onseeked = done));
  video.currentTime = seconds / 2;
  await middle;
  const pen = /** @type {CanvasRenderingContext2D} */ (Object.assign(document.createElement("canvas"), { width: 64, height: 36 }).getContext("2d"));
  pen.drawImage(video, 0, 0, 64, 36);
  const { data } = pen.getImageData(0, 0, 64, 36);
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4) colours.add([0, 1, 2].map((part) => (data[at + part] ?? 0) >> 6).join(" "));
  const context = new AudioContext();
  const sound = await context.decodeAudioData(bytes.buffer);
  // The spectrum of its middle, rendered without waiting for it to be played.
  const offline = new OfflineAudioContext(1, 32_768, sound.sampleRate);
  const source = new AudioBufferSourceNode(offline, { buffer: sound });
  const analyser = new AnalyserNode(offline, { fftSize: 16_384, smoothingTimeConstant: 0 });
  source.connect(analyser).connect(offline.destination);
  source.start(0, sound.duration / 2 - 0.4);
  await offline.startRendering();
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(spectrum);
  const tones = [];
  for (let bin = 2; bin < spectrum.length - 2; bin += 1) {
    const level = spectrum[bin] ?? -Infinity;
    if (level > -50 && level >= Math.max(...spectrum.slice(bin - 2, bin + 3))) tones.push(Math.round((bin * sound.sampleRate) / 16_384));
  }
  return { width: video.videoWidth, height: video.videoHeight, seconds, sound: sound.duration, tones, colours: colours.size };
}

test("the figures of a connection: its pair, its times, a verdict, and no secret", { timeout: 60_000 }, () =>
  gathering(async (ask) => {
    const [ann, ben] = await Promise.all([ask("Ann", { context: { viewport: DESK, acceptDownloads: true } }), ask("Ben")]);
    await allTogether([ann, ben]);
    await openPane(ann, "details");
    const card = ann.page.getByRole("region", { name: "Connection to Ben" });
    await card.getByText(/^direct/).waitFor();
    await ann.page.waitForFunction(() => /\d+ kbit\/s/.test(document.querySelector(".peer-card dl")?.textContent ?? ""));
    await ann.page.waitForTimeout(1_200);
    await shoot(ann.page, "roomlive-details-desk");
    const saving = ann.page.waitForEvent("download");
    await ann.page.getByRole("button", { name: "Save as JSON" }).click();
    const text = await readFile(/** @type {string} */ (await (await saving).path()), "utf8");
    const { room, user, peers } = JSON.parse(text);
    assert.deepEqual([room, user, peers.length], ["Blue", "Ann", 1]);
    const [report] = peers;
    assert.deepEqual([report.peer, report.state, report.path, report.pair.local.protocol], ["Ben", "connected", "direct", "udp"]);
    await card.getByText(directWords(report.pair), { exact: true }).waitFor();
    for (const name of ["rttMs", "jitterMs", "kbpsIn", "kbpsOut", "lossPercent"]) assert.ok(Number.isFinite(report[name]), `${name}: ${report[name]}`);
    assert.ok(report.kbpsIn > 5 && report.kbpsOut > 5 && report.rttMs < 2_000);
    assert.deepEqual([report.video.in.width, report.video.in.height], [160, 90]);
    assert.ok(["good", "fair", "poor"].includes(report.verdict.rating) && report.verdict.text.length > 5, JSON.stringify(report.verdict));
    // The pair is the one that the browser selected.
    const selected = await ann.page.evaluate(async () => {
      const rows = /** @type {any} */ (await /** @type {any} */ (window).connections.at(-1).getStats());
      const transport = [...rows.values()].find(({ type }) => type === "transport");
      return rows.get(rows.get(transport.selectedCandidatePairId).localCandidateId).port;
    });
    assert.ok(report.pair.local.address === "" || report.pair.local.address.endsWith(`:${selected}`), report.pair.local.address);
    const secrets = await ann.page.evaluate(() => {
      const connection = /** @type {RTCPeerConnection} */ (/** @type {any} */ (window).connections.at(-1));
      const servers = connection.getConfiguration().iceServers ?? [];
      const said = `${connection.localDescription?.sdp}${connection.remoteDescription?.sdp}`;
      return [...servers.flatMap(({ username, credential }) => [username, credential]), ...[...said.matchAll(/(?:ice-ufrag|ice-pwd|fingerprint):(\S.*)/g)].map(([, secret]) => secret?.trim())].filter((secret) => secret);
    });
    assert.ok(secrets.length >= 8, `${secrets.length}`);
    for (const secret of [TOKEN, ...secrets]) {
      assert.ok(!text.includes(/** @type {string} */ (secret)), "a secret in the report");
      assert.ok(!(await ann.page.content()).includes(/** @type {string} */ (secret)), "a secret in the page");
    }
  }),
);
