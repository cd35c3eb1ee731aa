// The client module in a real browser: heard by token and by key, from here and from elsewhere, aborted, and in words when it cannot connect.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { DESK, PHONE, bareDocument, freshPage, shoot, timeline } from "./lib/browser.js";
import { hearSilence, hearTone } from "./lib/ears.js";
import { installLoopback } from "./lib/loopback.js";
import { serveFiles } from "./lib/origin.js";
import { TOKEN, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";

/** @typedef {import("./lib/browser.js").Page} Page */

const PROGRAM = readFileSync(new URL("./fixtures/sdk-page.js", import.meta.url), "utf8");

const stage = setStage(startServer);

/** @param {(page: Page) => Promise<void>} act @param {{ output: string }} [server] */
async function onPage(act, server = stage.server) {
  const { page, context } = await freshPage(stage.browser);
  try {
    await act(page);
  } catch (fault) {
    throw new Error(`${fault}\n--- page\n${await timeline(page)}\n--- server\n${server.output.slice(-4_000)}`, { cause: fault });
  } finally {
    await context.close();
  }
}

/**
 * Connects; gives what it failed of, or null.
 * @param {Page} page
 * @param {object} options
 * @param {{ module?: string, abortIn?: string }} [how]
 */
function listen(page, options, { module = "/sdk/index.js", abortIn } = {}) {
  return page.evaluate(([from, with_, at]) => /** @type {any} */ (window).sdk.listen(from, with_, at), /** @type {const} */ ([module, options, abortIn]));
}

/** @param {Page} page @param {string} name @returns {Promise<any[]>} */
const told = (page, name) => page.evaluate((event) => /** @type {any} */ (window).sdk.told[event], name);

/** @param {string} name */
async function metric(name) {
  const text = await (await fetch(`${stage.server.url}metrics`)).text();
  return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1] ?? 0);
}

test("by token: a tone is heard, another one, and silence", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await bareDocument(page, stage.server.url, PROGRAM);
    assert.equal(await listen(page, { url: stage.server.url, token: TOKEN, voice: "sine-440" }), null);
    await hearTone(page, 440);
    await page.evaluate(() => /** @type {any} */ (window).sdk.client.start("sine-880"));
    await hearTone(page, 880);
    await page.waitForFunction(() => /** @type {any} */ (window).sdk.told.stats.at(-1)?.kbps > 10);
    await page.evaluate(() => /** @type {any} */ (window).sdk.client.stop());
    await hearSilence(page);
    const [pair] = await told(page, "pair");
    assert.deepEqual([pair.path, pair.remote.type, pair.remote.protocol], ["direct", "host", "udp"]);
    assert.match(pair.remote.address, /^127\.0\.0\.1:\d+$/);
    const seen = (await told(page, "candidate")).map(({ side, type, protocol }) => `${side} ${type} ${protocol}`);
    for (const kind of ["local host udp", "remote host udp", "remote host tcp"]) assert.ok(seen.includes(kind), `${kind}: ${seen}`);
    assert.deepEqual((await told(page, "state")).slice(0, 2), ["connecting", "streaming"]);
    assert.deepEqual(await told(page, "error"), []);
    await page.evaluate(() => /** @type {any} */ (window).sdk.client.close());
  }),
);

test("by key, from another origin: what is sent to the model echo comes back", { timeout: 60_000 }, async () => {
  const origin = await serveFiles({
    "/": { type: "text/html", body: `<!doctype html><title>elsewhere</title><audio></audio><script src="/program.js"></script>` },
    "/program.js": { type: "text/javascript", body: PROGRAM },
  });
  try {
    await onPage(async (page) => {
      await page.goto(origin.url);
      const fault = await page.evaluate(
        ([module, url, apiKey]) => {
          const { sdk } = /** @type {any} */ (window);
          return sdk.listen(module, { url, apiKey, model: "echo", media: sdk.sound(660) });
        },
        /** @type {const} */ ([`${stage.server.url}sdk/index.js`, stage.server.url, TOKEN]),
      );
      assert.equal(fault, null);
      await hearTone(page, 660);
      assert.match(await page.evaluate(() => /** @type {any} */ (window).sdk.client.sessionId), /^[0-9a-f]{32}$/);
      await page.waitForFunction(() => /** @type {any} */ (window).sdk.told.message.some((/** @type {any} */ { type }) => type === "generation_started"));
    });
  } finally {
    await origin.close();
  }
});

for (const policy of /** @type {const} */ (["all", "udp", "tcp"])) {
  for (const by of /** @type {const} */ (["token", "apiKey"])) {
    test(`policy ${policy}, by ${by}: heard over the path that it allows, without waiting`, { timeout: 60_000 }, () =>
      onPage(async (page) => {
        await bareDocument(page, stage.server.url, PROGRAM);
        assert.equal(await listen(page, { url: stage.server.url, [by]: TOKEN, iceTransportPolicy: policy, voice: "sine-220" }), null);
        await hearTone(page, 220);
        await page.waitForFunction(() => /** @type {any} */ (window).sdk.told.pair.length > 0);
        const [pair] = await told(page, "pair");
        assert.deepEqual([pair.path, pair.local.relayProtocol], policy === "all" ? ["direct", null] : ["relay", policy]);
        /** @type {{ phase: string, ms: number }[]} */
        const phases = await told(page, "phase");
        const [asked, offered] = ["configuring", "offering"].map((name) => phases.find(({ phase }) => phase === name)?.ms);
        // The server has answered before the client had to wait for it.
        assert.ok(offered !== undefined && offered - (asked ?? offered) < 1_500, JSON.stringify(phases));
        assert.deepEqual(await told(page, "error"), []);
      }),
    );
  }
}

for (const phase of ["opening", "greeting", "offering", "checking", "connected"]) {
  test(`aborted while ${phase}: it says so and lets go`, { timeout: 60_000 }, () =>
    onPage(async (page) => {
      await bareDocument(page, stage.server.url, PROGRAM);
      const fault = await listen(page, { url: stage.server.ws, token: TOKEN }, { abortIn: phase });
      assert.equal(fault?.name, "AbortError");
      assert.equal(await page.evaluate(() => /** @type {any} */ (window).sdk.client.state), "closed");
      const end = Date.now() + 10_000;
      while ((await metric("voxcast_websockets")) > 0) assert.ok(Date.now() < end, "the server still holds a socket");
    }),
  );
}

test("a wrong key or token, what is not served, and a server that is away are told as what they are", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await bareDocument(page, stage.server.url, PROGRAM);
    for (const login of [{ apiKey: "wrong-key" }, { token: "wrong-token" }]) {
      const fault = await listen(page, { url: stage.server.ws, ...login });
      assert.deepEqual([fault.name, fault.code, fault.permanent], ["VoxcastError", "unauthorized", true]);
      assert.match(fault.verdict.next.operator, /AUTH_TOKEN/);
    }
    for (const [wish, code] of /** @type {const} */ ([[{ model: "nothing" }, "unknown_model"], [{ rtpPortMin: 50_000, rtpPortMax: 50_010 }, "bad_port_range"]])) {
      const { code: said, permanent } = await listen(page, { url: stage.server.ws, token: TOKEN, ...wish });
      assert.deepEqual([said, permanent], [code, true]);
    }
    const fault = await listen(page, { url: "ws://127.0.0.1:9", token: TOKEN, retries: 1 });
    assert.deepEqual([fault.code, fault.permanent, fault.verdict.text], ["server_unreachable", false, "The server could not be reached."]);
  }),
);

test("relay only where the server has none is told at once", { timeout: 60_000 }, async () => {
  const server = await startServer({ RELAY: "off" });
  try {
    await onPage(async (page) => {
      await bareDocument(page, server.url, PROGRAM);
      for (const login of [{ apiKey: TOKEN }, { token: TOKEN }]) {
        const fault = await listen(page, { url: server.ws, ...login, iceTransportPolicy: "tcp" });
        assert.deepEqual([fault.code, fault.permanent, fault.verdict.code], ["no_relay", true, "no_relay"]);
        assert.match(fault.verdict.next.operator, /RELAY/);
      }
    }, server);
  } finally {
    await server.close();
  }
});

// The far side is a part of the page here: any policy is fine with it, and the relay is the real one.
for (const [name, port, code, text] of /** @type {const} */ ([
  ["refuses the credentials", "relay", "relay_refused", /\(401\)/],
  ["is not there", 9, "relay_unreachable", /over UDP.*could not be reached/],
])) {
  test(`relay only, and the relay ${name}`, { timeout: 60_000 }, () =>
    onPage(async (page) => {
      await page.addInitScript(installLoopback);
      await bareDocument(page, stage.server.url, PROGRAM);
      const urls = `turn:127.0.0.1:${port === "relay" ? stage.server.relay : port}?transport=udp`;
      const iceServers = [{ urls, username: "4102444800:nobody", credential: "wrong" }];
      const fault = await listen(page, { url: stage.server.ws, token: TOKEN, iceTransportPolicy: "udp", iceServers, retries: 0 });
      assert.equal(fault.code, code);
      assert.match(fault.verdict.text, text);
    }),
  );
}

/** Runs in the page before its scripts: the browser gets another answer than the one that came, and no candidate besides. @param {[pattern: string, with_: string]} change */
function tamper([pattern, with_]) {
  const Real = RTCPeerConnection;
  class Tampered extends Real {
    /** @param {RTCSessionDescriptionInit} description @returns {Promise<void>} */
    setRemoteDescription({ type, sdp = "" }) {
      return super.setRemoteDescription({ type, sdp: sdp.replaceAll(new RegExp(pattern, "g"), with_) });
    }
    /** @returns {Promise<void>} */
    addIceCandidate() {
      return Promise.resolve();
    }
  }
  Object.assign(window, { RTCPeerConnection: Tampered });
}

/** Neither side is told of an address: as if nothing came through. */
function block() {
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (text) {
    const message = JSON.parse(String(text));
    if (message.type === "ice-candidate") return;
    if (message.sdp) message.sdp = message.sdp.replaceAll(/a=candidate:.*\r\n/g, "");
    send.call(this, JSON.stringify(message));
  };
}

test("a handshake that fails after ICE found a path is told apart", { timeout: 60_000 }, () =>
  onPage(async (page) => {
    await page.addInitScript(tamper, /** @type {[string, string]} */ (["a=fingerprint:sha-256 ..:", "a=fingerprint:sha-256 00:"]));
    // The candidates are in this answer, so that none has to be added.
    await page.addInitScript(() => {
      const { send } = WebSocket.prototype;
      WebSocket.prototype.send = function (text) {
        send.call(this, String(text).replace('"type":"offer"', '"type":"webrtc_offer"'));
      };
    });
    await bareDocument(page, stage.server.url, PROGRAM);
    const fault = await listen(page, { url: stage.server.ws, token: TOKEN, retries: 0 });
    assert.equal(fault.code, "dtls_failed");
  }),
);

test("the page says why no path is found, what to do, and goes on trying", { timeout: 60_000 }, async () => {
  const server = await startServer({ RELAY: "off" });
  try {
    await onPage(async (page) => {
      await page.addInitScript(tamper, /** @type {[string, string]} */ (["a=candidate:.*\\r\\n", ""]));
      await page.addInitScript(block);
      await page.goto(`${server.url}#token=${TOKEN}`);
      await page.waitForSelector("#why:not([hidden])", { timeout: 25_000 });
      assert.equal(await page.textContent("#why-text"), "UDP does not get through to the server, and the TCP path failed too.");
      assert.match((await page.textContent("#why-next")) ?? "", /^Try another network/);
      assert.match((await page.textContent("#why-run")) ?? "", /^If you run the server: Let in UDP and TCP \d+, and offer a relay/);
      assert.match(await timeline(page), /\(udp_blocked_tcp_failed\)/);
      for (const [size, view] of Object.entries({ phone: PHONE, desk: DESK, small: { width: 320, height: 640 } })) {
        await page.setViewportSize(view);
        for (const colorScheme of /** @type {const} */ (["dark", "light"])) {
          await page.emulateMedia({ colorScheme });
          await shoot(page, `blocked-${size}-${colorScheme}`);
        }
        assert.deepEqual(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, size);
      }
      assert.equal(await page.evaluate(() => document.querySelector("#why")?.getAttribute("aria-live")), "polite");
      await page.click("#disconnect");
      assert.equal(await page.isVisible("#why"), false);
    }, server);
  } finally {
    await server.close();
  }
});
