// A room of people in networks that differ: who meets whom by which way, and one who goes from one network to another with the call going on.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timeline } from "../browser/lib/browser.js";
import { allTogether, figures, openPane, walkIn } from "../browser/lib/people.js";
import { launchIn } from "./lib/listener.js";
import { addNamespace } from "./lib/netns.js";
import { CLIENTS } from "./lib/networks.js";
import { entries, setStage, startServer } from "./lib/stage.js";
import { addUplink, plugIn, unplug } from "./lib/world.js";

/** @typedef {import("./lib/networks.js").Client} Client */
/** @typedef {import("../browser/lib/people.js").Person & { hz: number }} Person */

const PATIENCE = { timeout: 120_000 };
const ROOM = "Everywhere";
const SIZE = /** @type {[number, number]} */ ([96, 54]);

/** The two networks of somebody on the way. */
const HOME = { address: "198.51.100.110", host: "10.1.10.2", nat: /** @type {const} */ ("preserving") };
const MOBILE = { address: "198.51.100.111", host: "10.1.11.2", nat: /** @type {const} */ ("symmetric") };

/** @type {import("./lib/stage.js").Stage} */
let stage;
/** @type {import("./lib/stage.js").Serving} */
let serving;

before(async () => {
  stage = await setStage();
  serving = await startServer(stage, "public", "closed relay");
}, PATIENCE);
after(async () => {
  await serving?.stop();
  await stage?.close();
}, PATIENCE);

/** @param {import("../browser/lib/browser.js").Browser} browser @param {string} name @param {number} hz @param {string} url @returns {Promise<Person>} */
async function come(browser, name, hz, url) {
  const person = await walkIn(browser, { url }, name, { room: ROOM, looks: { hz, fps: 4, size: SIZE }, context: { ignoreHTTPSErrors: true, viewport: { width: 320, height: 480 } } });
  return { ...person, hz };
}

/** @param {Person[]} people @param {() => Promise<void>} act */
async function together(people, act) {
  try {
    await act();
  } catch (fault) {
    const pages = await Promise.all(people.map(async ({ name, page }) => `--- ${name}\n${await timeline(page)}`));
    throw new Error(`${fault}\n${pages.join("\n")}\n--- server\n${serving.output.slice(-3_000)}`, { cause: fault });
  } finally {
    await Promise.all(people.map(({ context }) => context.close()));
  }
}

/** Which way two must find, if there is one without the relay; else both use it, because it lets nobody out. @param {Client} one @param {Client} other */
function direct(one, other) {
  const both = [one, other];
  if (both.some((name) => name === "no-udp" || name === "only-443")) return false;
  return !(both.includes("symmetric") && both.includes("preserving"));
}

/** By what somebody who must use the relay reaches it. Who has both keeps what stood first. @type {Record<Client, RegExp>} */
const RELAYED = { open: /over (UDP|TCP)/, preserving: /over (UDP|TCP)/, symmetric: /over (UDP|TCP)/, "no-udp": /over (TCP|TLS)/, "only-443": /over TLS/ };

/** What the page says of each connection. @param {Person} person @param {number} others @returns {Promise<[name: string, way: string][]>} */
async function ways(person, others) {
  await openPane(person, "details");
  const told = await person.page.waitForFunction((count) => {
    const cards = [...document.querySelectorAll(".peer-card")].map((card) => {
      const way = [...card.querySelectorAll("dt")].find(({ textContent }) => textContent === "Path")?.nextElementSibling;
      return /** @type {[string, string]} */ ([card.querySelector("h3")?.textContent ?? "", way?.textContent ?? ""]);
    });
    return cards.length === count && cards.every(([, way]) => way.length > 1) && cards;
  }, others);
  return (await told.jsonValue()) || [];
}

test("people in five networks are all in one room", PATIENCE, async (run) => {
  /** @type {Person[]} */
  const people = [];
  await together(people, async () => {
    for (const [at, [client]] of entries(CLIENTS).entries()) people.push(await come(stage.browsers[client], client, 300 + 200 * at, serving.urlFor(client)));
    await allTogether(people, { timeout: 60_000, moves: 2 });
    for (const person of people) {
      for (const [other, way] of await ways(person, people.length - 1)) {
        run.diagnostic(`${person.name} to ${other}: ${way}`);
        const [near, far] = /** @type {[Client, Client]} */ ([person.name, other]);
        // Of an address that nobody announced the browser tells nothing.
        assert.match(way, direct(near, far) ? /^(through NAT|direct)$/ : RELAYED[near], `${near} to ${far}`);
      }
    }
  });
});

/** Runs in the page: the pair by which packets come. */
async function selected() {
  const connection = /** @type {RTCPeerConnection} */ (/** @type {any} */ (window).connections.at(-1));
  const rows = /** @type {any} */ (await connection.getStats());
  const { selectedCandidatePairId: id } = [...rows.values()].find(({ type }) => type === "transport");
  return { id, packets: rows.get(id)?.packetsReceived ?? 0 };
}

/** How long nothing came, until packets came by another pair than before. @param {import("../browser/lib/browser.js").Page} page @param {string} before */
async function silence(page, before) {
  const began = Date.now();
  for (;;) {
    const { id, packets } = await page.evaluate(selected);
    if (id && id !== before && packets > 0) return Date.now() - began;
    assert.ok(Date.now() - began < 30_000, "no other way was found");
    await page.waitForTimeout(50);
  }
}

test("who goes from one network to another goes on talking, and nobody is told that they left", PATIENCE, async (run) => {
  const mover = "client-mover";
  addNamespace(mover);
  addUplink(mover, HOME, "eth0");
  addUplink(mover, MOBILE, "eth1");
  plugIn(mover, HOME, "eth0");
  const browser = await launchIn(mover, stage.folder);
  /** @type {Person[]} */
  const people = [];
  try {
    await together(people, async () => {
      const url = serving.urlFor("open");
      const ann = await come(stage.browsers.open, "Ann", 300, url);
      people.push(ann);
      const moe = await come(browser, "Moe", 700, url);
      people.push(moe);
      await allTogether(people);
      const built = (await figures(ann)).built;
      // Toasts go by themselves, so that they are written down.
      await ann.page.evaluate(() => {
        const told = (/** @type {any} */ (window).told = /** @type {string[]} */ ([]));
        const watch = new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach(({ textContent }) => told.push(textContent ?? ""))));
        watch.observe(/** @type {Element} */ (document.querySelector("#toasts")), { childList: true, subtree: true });
      });

      for (const [from, to, network] of /** @type {const} */ ([["eth0", "eth1", MOBILE], ["eth1", "eth0", HOME]])) {
        const { id } = await ann.page.evaluate(selected);
        unplug(mover, from);
        plugIn(mover, network, to);
        run.diagnostic(`by ${to}: heard again after ${((await silence(ann.page, id)) / 1000).toFixed(1)} s`);
        await allTogether(people);
        await moe.page.waitForFunction(() => document.body.dataset.state === "joined", null, { timeout: 30_000 });
      }
      assert.equal((await figures(ann)).built, built, "by the same connection");
      assert.deepEqual(await ann.page.evaluate(() => /** @type {any} */ (window).told), []);
      await moe.page.click("#leave");
      await ann.page.waitForFunction(() => /** @type {any} */ (window).told.some((/** @type {string} */ text) => text.includes("Moe left.")));
    });
  } finally {
    await browser.close();
  }
});
