// Which way the sound goes: by an outside relay where that is asked for, directly where it can, on ports of one's own,
// and on when credentials end or a relay dies.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bareDocument, freshPage } from "./lib/browser.js";
import { startCoturn } from "./lib/coturn.js";
import { hearTone } from "./lib/ears.js";
import { TOKEN, freePort, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";

/** @typedef {import("./lib/browser.js").Page} Page */

const PROGRAM = readFileSync(new URL("./fixtures/sdk-page.js", import.meta.url), "utf8");
const stage = setStage(startServer);

/**
 * A server of its own and a page that listens to it.
 * @param {Record<string, string>} environment
 * @param {object} options of the client
 * @param {(page: Page, server: Awaited<ReturnType<typeof startServer>>) => Promise<void>} act
 */
async function listening(environment, options, act) {
  const server = await startServer(environment);
  const { page, context } = await freshPage(stage.browser);
  try {
    await bareDocument(page, server.url, PROGRAM);
    const all = { url: server.url, token: TOKEN, voice: "sine-440", ...options };
    assert.equal(await page.evaluate((with_) => /** @type {any} */ (window).sdk.listen("/sdk/index.js", with_), all), null);
    await hearTone(page, 440);
    await act(page, server);
  } catch (fault) {
    throw new Error(`${fault}\n--- server\n${server.output.slice(-4_000)}`, { cause: fault });
  } finally {
    await context.close();
    await server.close();
  }
}

/** The pair that carries the sound. @param {Page} page */
async function pair(page) {
  await page.waitForFunction(() => /** @type {any} */ (window).sdk.told.pair.length > 0);
  return page.evaluate(() => /** @type {any} */ (window).sdk.told.pair.at(-1));
}

/** @param {{ address: string }} end of a pair */
const portOf = ({ address }) => Number(address.split(":").at(-1));

/** The username of the relay that the page knows. @param {Page} page @returns {Promise<string>} */
const username = (page) =>
  page.evaluate(() => {
    const { connection } = /** @type {any} */ (window).sdk;
    return connection.getConfiguration().iceServers.find((/** @type {any} */ { username: name }) => name).username;
  });

for (const by of ["udp", "tcp"]) {
  test(`a client that wants ${by} alone goes through an outside relay`, { timeout: 60_000 }, async () => {
    const coturn = await startCoturn();
    try {
      await listening(coturn.environment, { iceTransportPolicy: by }, async (page) => {
        const { path, local } = await pair(page);
        assert.deepEqual([path, local.type, local.relayProtocol], ["relay", "relay", by]);
          const port = portOf(local);
        assert.ok(port >= 51_000 && port <= 51_999, "it is coturn's");
      });
    } finally {
      await coturn.close();
    }
  });
}

test("a client that wants any path goes straight where it can", { timeout: 60_000 }, async () => {
  const coturn = await startCoturn();
  try {
    await listening(coturn.environment, { iceTransportPolicy: "all" }, async (page) => {
      assert.equal((await pair(page)).path, "direct");
    });
  } finally {
    await coturn.close();
  }
});

test("a client that names ports is served on them", { timeout: 60_000 }, async () => {
  const port = await freePort();
  const range = { rtpPortMin: port, rtpPortMax: port };
  await listening({ RTP_PORT_RANGE: `${port}-${port}` }, range, async (page) => {
    const { remote } = await pair(page);
    assert.deepEqual([remote.protocol, portOf(remote)], ["udp", port]);
  });
  await listening({ RTP_PORT_RANGE: `${port}-${port}` }, { ...range, iceTransportPolicy: "tcp" }, async (page) => {
    const { path, remote } = await pair(page);
    assert.deepEqual([path, portOf(remote)], ["relay", port], "the relay knows the port as ours");
  });
});

test("credentials that end during a session are renewed before, by one restart", { timeout: 150_000 }, () =>
  listening({ TURN_TTL: "60s" }, { iceTransportPolicy: "tcp" }, async (page) => {
    const first = await username(page);
    const ufrag = () => page.evaluate(() => /a=ice-ufrag:(\S+)/.exec(/** @type {any} */ (window).sdk.connection.localDescription.sdp)?.[1]);
    const before = await ufrag();
    await page.waitForFunction(
      (name) => {
        const { connection } = /** @type {any} */ (window).sdk;
        return connection.getConfiguration().iceServers.some((/** @type {any} */ { username: known }) => known && known !== name);
      },
      first,
      { timeout: 70_000 },
    );
    const second = await username(page);
    const ends = [first, second].map((name) => Number(name.split(":")[0]));
    assert.ok(Number(ends[1]) >= Number(ends[0]) + 30, `${ends}`);
    assert.ok(Date.now() / 1_000 < Number(ends[0]), "in time");
    await page.waitForFunction((old) => /a=ice-ufrag:(\S+)/.exec(/** @type {any} */ (window).sdk.connection.localDescription.sdp)?.[1] !== old, before);
    const restarted = await ufrag();
    // Past the end of the first ones.
    await page.waitForFunction((end) => Date.now() / 1_000 > end + 5, ends[0], { timeout: 60_000 });
    await hearTone(page, 440);
    assert.equal((await pair(page)).path, "relay");
    assert.equal(await ufrag(), restarted, "one restart");
    assert.deepEqual(await page.evaluate(() => /** @type {any} */ (window).sdk.told.error), []);
  }),
);

test("a relay that dies is looked for until it is back, and heard within five seconds", { timeout: 90_000 }, async () => {
  const coturn = await startCoturn();
  try {
    await listening(coturn.environment, { iceTransportPolicy: "tcp" }, async (page) => {
      await coturn.kill();
      // It has tried in vain at least once.
      await page.waitForFunction(() => /** @type {any} */ (window).sdk.told.state.includes("waiting"));
      const pairs = await page.evaluate(() => /** @type {any} */ (window).sdk.told.pair.length);
      await coturn.start();
      // The waits between its attempts grow: it is told that something changed, until it is not under way with an attempt that began before.
      await page.waitForFunction(
        (known) => {
          const { client, told } = /** @type {any} */ (window).sdk;
          client.nudge();
          return told.pair.length > known;
        },
        pairs,
        { timeout: 5_000, polling: 250 },
      );
      await hearTone(page, 440);
      assert.equal((await pair(page)).path, "relay");
    });
  } finally {
    await coturn.close();
  }
});
