// Clients that exist already work unchanged: the page before this one, and a realtime SDK from another origin.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bareDocument, freshPage } from "./lib/browser.js";
import { hearSilence, hearTone } from "./lib/ears.js";
import { serveFiles } from "./lib/origin.js";
import { TOKEN, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";

/** @param {string} name */
const fixture = (name) => readFileSync(new URL(`./fixtures/${name}`, import.meta.url), "utf8");

const stage = setStage(startServer);

/** @param {(page: import("./lib/browser.js").Page) => Promise<void>} act */
async function onPage(act) {
  const { page, context } = await freshPage(stage.browser);
  try {
    await act(page);
  } catch (fault) {
    throw new Error(`${fault}\n--- server\n${stage.server.output.slice(-4_000)}`, { cause: fault });
  } finally {
    await context.close();
  }
}

/** @param {import("./lib/browser.js").Page} page */
async function openOldPage(page) {
  await bareDocument(page, stage.server.url, fixture("old-page.js"));
}

test("the old page: greets, offers once, starts, stops, pings", { timeout: 90_000 }, () =>
  onPage(async (page) => {
    await openOldPage(page);
    await page.evaluate((token) => /** @type {any} */ (window).page.connect(token), TOKEN);
    await page.waitForFunction(() => /** @type {any} */ (window).page.log.includes("webrtc_answer"));
    const voices = await page.evaluate(() => /** @type {any} */ (window).page.voices);
    assert.deepEqual(
      voices.slice(0, 3).map((/** @type {any} */ { id, name }) => [id, name]),
      [["sine-220", "Low Tone (220 Hz)"], ["sine-440", "Mid Tone (440 Hz)"], ["sine-880", "High Tone (880 Hz)"]],
    );
    for (const voice of voices) assert.equal(typeof voice.description, "string");
    for (const hz of [440, 220, 880]) {
      await page.evaluate((id) => /** @type {any} */ (window).page.start(id), `sine-${hz}`);
      await hearTone(page, hz);
    }
    await page.evaluate(() => /** @type {any} */ (window).page.stop());
    await hearSilence(page);
    await page.evaluate(() => /** @type {any} */ (window).page.ping());
    await page.waitForFunction(() => /** @type {any} */ (window).page.pongs >= 1);
    await page.evaluate(() => /** @type {any} */ (window).page.start("nobody"));
    await page.waitForFunction(() => /** @type {any} */ (window).page.errors.length === 1);
    assert.deepEqual(await page.evaluate(() => /** @type {any} */ (window).page.errors), ["Unknown voice: nobody"]);
  }),
);

test("the old page is told about a bad token in the words that it knows", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await openOldPage(page);
    await page.evaluate(() => /** @type {any} */ (window).page.connect("wrong"));
    await page.waitForFunction(() => /** @type {any} */ (window).page.errors.length === 1);
    assert.deepEqual(await page.evaluate(() => /** @type {any} */ (window).page.errors), ["Bad token"]);
  }),
);

for (const ptime of [10, 40, 60]) {
  test(`a client that asks for packets of ${ptime} ms gets them`, { timeout: 60_000 }, () =>
    onPage(async (page) => {
      await bareDocument(page, stage.server.url, fixture("short-packets.js"));
      const answered = await page.evaluate(
        ([token, length]) => /** @type {any} */ (window).lengths.play(token, length, "sine-440"),
        /** @type {const} */ ([TOKEN, ptime]),
      );
      assert.equal(answered, String(ptime));
      await hearTone(page, 440);
      await page.waitForFunction(() => /** @type {any} */ (window).lengths.packets.length >= 60);
      /** @type {{ time: number, length: number }[]} */
      const packets = await page.evaluate(() => /** @type {any} */ (window).lengths.packets);
      const steps = packets.slice(1).map(({ time }, at) => ({ length: packets[at]?.length ?? 0, step: (time - (packets[at]?.time ?? 0)) >>> 0 }));
      const full = 48 * ptime;
      // A server without a processor skips what is late: a packet may be shorter before such a hole, and only there.
      assert.deepEqual(steps.filter(({ length, step }) => length > Math.min(full, step) || (length < full && length === step)), []);
      assert.ok(steps.filter(({ length, step }) => length === full && step === full).length >= 0.5 * steps.length, JSON.stringify(steps));
    }),
  );
}

test("a client without UDP hears by TCP, from the same port", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await bareDocument(page, stage.server.url, fixture("tcp-client.js"));
    await page.evaluate(([token, voice]) => /** @type {any} */ (window).byTcp.play(token, voice), /** @type {const} */ ([TOKEN, "sine-880"]));
    await hearTone(page, 880);
    const pair = await page.evaluate(() => /** @type {any} */ (window).byTcp.pair());
    assert.deepEqual(pair, { local: "prflx tcp", remote: "host tcp" });
  }),
);

for (const transport of ["udp", "tcp"]) {
  test(`a client that may use the relay alone hears through it, by ${transport}`, { timeout: 60_000 }, () =>
    onPage(async (page) => {
      await bareDocument(page, stage.server.url, fixture("relay-client.js"));
      const urls = await page.evaluate(
        ([token, by, voice]) => /** @type {any} */ (window).relayed.play(token, by, voice),
        /** @type {const} */ ([TOKEN, transport, "sine-220"]),
      );
      assert.match(urls.join(), new RegExp(`^turn:[^:]+:\\d+\\?transport=${transport}$`));
      await hearTone(page, 220);
      const pair = await page.evaluate(() => /** @type {any} */ (window).relayed.pair());
      assert.deepEqual([pair.local, pair.remote], [`relay by ${transport}`, "host"]);
      assert.match(pair.address, /^198\.1[89]\./, "nobody's address");
      await page.evaluate(() => /** @type {any} */ (window).relayed.close());
    }),
  );
}

test("the SDK's own suite passes, from another origin, three times in a row", { timeout: 150_000 }, async () => {
  const origin = await serveFiles({
    "/": { type: "text/html", body: `<!doctype html><title>sdk</title><script src="/sdk.js"></script>` },
    "/sdk.js": { type: "text/javascript", body: fixture("sdk-client.js") },
  });
  const url = `${stage.server.ws}?api_key=${TOKEN}&model=bit_invert&user_agent=${encodeURIComponent("sdk/1.0 lang/js")}`;
  try {
    for (let run = 0; run < 3; run += 1) {
      await onPage(async (page) => {
        await page.goto(origin.url);
        const result = await page.evaluate((address) => /** @type {any} */ (window).runSdk(address), url);
        assert.ok(result.frames > 0);
        assert.match(result.sessionId, /^[0-9a-f]{32}$/);
        assert.ok(result.types.indexOf("generation_started") > result.types.indexOf("answer"), `${result.types}`);
      });
    }
  } finally {
    await origin.close();
  }
  const health = await fetch(`${stage.server.url}healthz`);
  assert.equal(health.status, 200, "the abrupt ends did no harm");
  await health.body?.cancel();
});

test("a wrong key is told so after the upgrade, then the socket closes", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await bareDocument(page, stage.server.url);
    const story = await page.evaluate(
      (address) =>
        new Promise((done) => {
          /** @type {string[]} */
          const events = [];
          const socket = new WebSocket(address);
          socket.onopen = () => events.push("open");
          socket.onmessage = ({ data }) => events.push(JSON.parse(data).message);
          socket.onclose = () => done(events);
        }),
      `${stage.server.ws}?api_key=wrong&model=bit_invert`,
    );
    assert.deepEqual(story, ["open", "Invalid API key"]);
  }),
);
