// A person in one of the networks: opens the server's page, presses Start, and hears the tone, or is told that there is no way.

import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freshPage, launch, reach, timeline } from "../../browser/lib/browser.js";
import { hearSomething, hearTone } from "../../browser/lib/ears.js";
import { TOKEN } from "../../browser/lib/server.js";
import { within } from "./netns.js";

/** @typedef {import("../../browser/lib/browser.js").Browser} Browser */
/** @typedef {import("../../browser/lib/browser.js").Page} Page */
/** @typedef {{ type: string, protocol: string, relayProtocol?: string }} End */
/** @typedef {{ local: End, remote: End }} Pair */

/**
 * @typedef {object} Outcome
 * @property {string[]} turn the TURN URLs that the server named
 * @property {string[]} candidates those of the server, in its words
 * @property {Pair | null} pair null where there was no way
 * @property {number} connectedMs from the offer to the connection, or to the word that there is none
 * @property {number} heardMs from the offer to the first sound
 * @property {number} hz what was heard
 * @property {string} verdict the code of what the page says, where there was no way
 * @property {string} told its text
 */

/** Longer than the page looks for a path by itself. */
const PATIENCE_MS = 20_000;
/** The first path that stands is used at once, a better one when it is found. */
const SETTLED_MS = 3_000;

/** A page that may use the microphone tells its host's own addresses; a listener's does not. Nor has it candidates on loopback. */
const UNLIKE_A_LISTENER = ["--use-fake", "--allow-loopback"];

/** A Chromium in a namespace. @param {string} name @param {string} folder for a script */
export async function launchIn(name, folder) {
  const script = join(folder, `chromium-${name}`);
  const chromium = process.env.CHROMIUM || "/usr/bin/chromium";
  await writeFile(script, `#!/bin/sh\nexec ${within(name).join(" ")} ${chromium} "$@"\n`);
  await chmod(script, 0o755);
  return launch({ executablePath: script, without: UNLIKE_A_LISTENER, further: ["--ignore-certificate-errors"] });
}

/** Runs in the page before its scripts: keeps its connections, and when they were made and stood. */
function watch() {
  const Real = RTCPeerConnection;
  const watched = { connections: /** @type {RTCPeerConnection[]} */ ([]), servers: /** @type {RTCIceServer[]} */ ([]), offered: 0, connected: 0 };
  class Watched extends Real {
    /** @param {RTCConfiguration} configuration */
    constructor(configuration) {
      super(configuration);
      watched.connections.push(this);
      watched.servers = configuration.iceServers ?? [];
      watched.offered ||= performance.now();
      this.addEventListener("connectionstatechange", () => {
        if (this.connectionState === "connected") watched.connected ||= performance.now();
      });
    }
  }
  Object.assign(window, { watched, RTCPeerConnection: Watched });
}

/** Runs in the page: what came of it. */
async function look() {
  const { watched } = /** @type {any} */ (window);
  const connection = watched.connections.at(-1);
  const stats = connection ? await connection.getStats() : new Map();
  let pair = null;
  for (const report of stats.values()) {
    if (report.type !== "transport" || !report.selectedCandidatePairId) continue;
    const chosen = stats.get(report.selectedCandidatePairId);
    const end = (/** @type {string} */ id) => {
      const { candidateType, protocol, relayProtocol } = stats.get(id) ?? {};
      return { type: candidateType, protocol, relayProtocol };
    };
    pair = { local: end(chosen.localCandidateId), remote: end(chosen.remoteCandidateId) };
  }
  const urls = watched.servers.flatMap((/** @type {RTCIceServer} */ server) => server.urls);
  return { pair, urls, offered: watched.offered, connected: watched.connected, now: performance.now(), attempts: watched.connections.length };
}

/**
 * Opens the page, presses Start as soon as that can be done, and listens.
 * @param {Browser} browser
 * @param {string} url
 * @param {number} hz
 * @param {(pair: Pair) => boolean} wanted the pair that is waited for a little
 * @returns {Promise<Outcome>}
 */
export async function listen(browser, url, hz, wanted) {
  const { page, context } = await freshPage(browser, { ignoreHTTPSErrors: true });
  try {
    /** @type {string[]} */
    const candidates = [];
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => candidates.push(...candidatesIn(String(payload)))));
    await page.addInitScript(watch);
    await page.goto(`${url}#token=${TOKEN}`);
    await page.locator("#start:enabled").waitFor();
    await page.click(`label:has([value="sine-${hz}"])`);
    await page.click("#start");
    await page.waitForFunction(
      () => /** @type {any} */ (window).watched.connected || /** @type {HTMLElement | null} */ (document.querySelector("#why"))?.hidden === false,
      null,
      { timeout: PATIENCE_MS },
    );
    const seen = await page.evaluate(look);
    const outcome = { turn: seen.urls.filter((/** @type {string} */ url) => url.startsWith("turn")), candidates };
    if (!seen.connected) {
      const told = (await page.locator("#why-text").textContent()) ?? "";
      // The page shows words; the code goes with them into its log.
      const verdict = new RegExp(`${told.replaceAll(/[.()]/g, "\\$&")} \\((\\w+)\\)$`, "m").exec(await timeline(page))?.[1] ?? "";
      return { ...outcome, pair: null, connectedMs: seen.now - seen.offered, heardMs: 0, hz: 0, verdict, told };
    }
    await hearSomething(page);
    const heardMs = (await page.evaluate(() => performance.now())) - seen.offered;
    const heard = await hearTone(page, hz);
    await reach(page, "streaming");
    let { pair } = seen;
    for (const end = Date.now() + SETTLED_MS; Date.now() < end; ) {
      ({ pair } = await page.evaluate(look));
      if (pair && wanted(pair)) break;
      await new Promise((done) => setTimeout(done, 100));
    }
    return { ...outcome, pair, connectedMs: seen.connected - seen.offered, heardMs, hz: heard.hz, verdict: "", told: "" };
  } catch (fault) {
    throw new Error(`${fault}\n--- page\n${await timeline(page)}`, { cause: fault });
  } finally {
    await context.close();
  }
}

/** The server's candidates in a message of it. @param {string} message */
function candidatesIn(message) {
  return [...message.matchAll(/candidate:\S+ \d+ (\w+) \d+ (\S+) (\d+) typ (\w+)/gi)].map(([, protocol, address, port, type]) =>
    `${type} ${protocol?.toLowerCase()} ${address}:${port}`,
  );
}

/** The path of a pair, as expected.js writes it. @param {Pair} pair */
export function pathOf({ local, remote }) {
  const near = local.type === "relay" ? `relay by ${local.relayProtocol}` : local.protocol;
  const far = remote.type === "srflx" || remote.type === "prflx" ? "reflexive" : remote.type;
  return `${near} to ${far}`;
}

/** A pair in the browser's words. @param {Pair} pair */
export function pairWords({ local, remote }) {
  const word = (/** @type {End} */ { type, protocol, relayProtocol }) => `${type} ${relayProtocol ? `by ${relayProtocol}` : protocol}`;
  return `${word(local)} → ${word(remote)}`;
}
