// Rooms in real browsers: all hear and see each other, whoever comes, goes, dies, restarts or was written by somebody else.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bareDocument, freshPage } from "./lib/browser.js";
import { TOKEN, startServer } from "./lib/server.js";
import { setStage } from "./lib/stage.js";
import { directWords } from "./lib/ways.js";

/** @typedef {import("./lib/browser.js").Page} Page */
/** @typedef {{ user: string, hz: number, page: Page, context: import("../../web/node_modules/playwright-core/index.d.ts").BrowserContext }} Visitor */

/** @param {string} name */
const fixture = (name) => readFileSync(new URL(`./fixtures/${name}`, import.meta.url), "utf8");
const OURS = fixture("room-page.js");
const FOREIGN = fixture("room-foreign.js");
/** Tones that are told apart by more than the 20 Hz that `heard` rounds to. @type {Record<string, number>} */
const TONES = { ann: 300, bob: 460, cid: 620, dan: 780, eve: 940, fay: 1_100 };
const PATIENCE_MS = 15_000;

const stage = setStage(startServer);

/**
 * A building with rooms: pages are opened as they come and closed in the end.
 * @param {(house: ReturnType<typeof open>) => Promise<void>} act
 */
async function inRoom(act) {
  const house = open();
  try {
    await act(house);
  } catch (fault) {
    const stories = await Promise.all(house.visitors.map(async ({ user, page }) => `--- ${user}\n${await story(page)}`));
    throw new Error(`${fault}\n${stories.join("\n")}\n--- server\n${stage.server.output.slice(-2_000)}`, { cause: fault });
  } finally {
    await Promise.all(house.visitors.map(({ context }) => context.close()));
  }
}

/** @param {Page} page */
function story(page) {
  return page
    .evaluate(() => JSON.stringify({ ...(/** @type {any} */ (window).page.told), chat: [], heard: /** @type {any} */ (window).page.heard(), errors: /** @type {any} */ (window).page.errors }, null, 0).slice(-3_000))
    .catch((fault) => `no story: ${fault}`);
}

function open() {
  /** @type {Visitor[]} */
  const visitors = [];
  const enter = async (/** @type {string} */ user, /** @type {string} */ script) => {
    const { page, context } = await freshPage(stage.browser);
    const visitor = { user, hz: TONES[user] ?? 0, page, context };
    visitors.push(visitor);
    await bareDocument(page, stage.server.url, script);
    return visitor;
  };
  return {
    visitors,
    /** @param {string} user @param {object} [options] */
    async join(user, options = {}) {
      const visitor = await enter(user, OURS);
      assert.equal(await joinAgain(visitor, options), null);
      return visitor;
    },
    /** @param {string} user @param {"newcomer" | "resident"} habit */
    async stranger(user, habit) {
      const visitor = await enter(user, FOREIGN);
      await visitor.page.evaluate(([token, id, way, hz]) => /** @type {any} */ (window).page.join(token, id, way, hz), /** @type {const} */ ([TOKEN, user, habit, visitor.hz]));
      return visitor;
    },
    enter: (/** @type {string} */ user) => enter(user, OURS),
  };
}

/** What it failed of, or null. @param {Visitor} visitor @param {object} [options] */
function joinAgain({ page, user, hz }, options = {}) {
  return page.evaluate(([with_, tone]) => /** @type {any} */ (window).page.join(with_, tone), /** @type {const} */ ([{ token: TOKEN, room: "blue", user, ...options }, hz]));
}

/**
 * @template T
 * @param {Visitor} visitor
 * @param {(page: any) => T} read runs in the page
 * @returns {Promise<T>}
 */
function ask({ page }, read) {
  return page.evaluate(`(${read})(window.page)`);
}

/** Looked at from here, since a page of the server's may not evaluate text. @param {Visitor} visitor @param {(page: any) => unknown} is runs in the page @param {string} what */
async function until(visitor, is, what) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await ask(visitor, is))) {
    assert.ok(Date.now() < end, `${visitor.user}: not ${what}`);
    await sleep(50);
  }
}

/** Each hears all others, each by their own tone. @param {Visitor[]} visitors */
async function allHear(visitors) {
  await Promise.all(
    visitors.map(async (visitor) => {
      const others = visitors.filter((other) => other !== visitor);
      const wanted = Object.fromEntries(others.map(({ user }) => [user, TONES[user]]));
      const end = Date.now() + PATIENCE_MS;
      for (;;) {
        const heard = /** @type {Record<string, number>} */ (await ask(visitor, (page) => page.heard()));
        if (Object.keys(heard).length === others.length && Object.entries(wanted).every(([id, hz]) => heard[id] === hz)) return;
        if (Date.now() > end) assert.deepEqual(heard, wanted, `${visitor.user} hears`);
        await sleep(100);
      }
    }),
  );
}

/** Each sees moving pictures of all others. @param {Visitor[]} visitors */
async function allSee(visitors) {
  for (const visitor of visitors) {
    await until(visitor, (page) => page.figures().then((/** @type {any} */ all) => Object.values(all).every((/** @type {any} */ { video }) => video.in?.width > 0)), "seeing all");
  }
}

for (const users of [["bob", "ann"], ["ann", "cid", "bob"]]) {
  test(`${users.length} hear and see each other, chat in order and once, point, and leave`, { timeout: 60_000 }, () =>
    inRoom(async ({ join }) => {
      const all = [];
      for (const user of users) all.push(await join(user));
      await allHear(all);
      await allSee(all);
      const [one, ...others] = /** @type {[Visitor, ...Visitor[]]} */ (all);
      await ask(one, ({ room }) => {
        for (let at = 0; at < 200; at += 1) room.sendChat(`line ${at}`);
      });
      for (const other of others) {
        await until(other, ({ room }) => room.chat.length === 200, "told all");
        const said = /** @type {any[]} */ (await ask(other, ({ room }) => room.chat.map((/** @type {any} */ { from, text, own }) => `${from} ${text} ${own}`)));
        assert.deepEqual(said, Array.from({ length: 200 }, (_, at) => `${one.user} line ${at} false`));
      }
      const took = /** @type {number} */ (await ask(one, async ({ room }) => {
        const begin = performance.now();
        for (let at = 0; at <= 100; at += 1) {
          room.moveCursor(at / 100, 0.5);
          await new Promise((done) => setTimeout(done, 5));
        }
        return performance.now() - begin;
      }));
      for (const other of others) {
        await until(other, ({ told }) => told.cursor.at(-1)?.[1] === 1, "pointed to the end");
        const points = /** @type {number} */ (await ask(other, ({ told }) => told.cursor.length));
        assert.ok(points > 3 && points <= took / 33 + 3, `thinned to ${points} in ${took} ms`);
      }
      const figures = /** @type {any} */ (await ask(one, (page) => page.figures()));
      for (const { state, path, pair, words, kbpsOut, rttMs, verdict } of Object.values(figures)) {
        assert.deepEqual([state, path, words], ["connected", "direct", directWords(pair)]);
        assert.ok(kbpsOut > 10 && rttMs >= 0 && verdict.text, JSON.stringify(figures));
      }
      await ask(one, ({ room }) => room.close());
      for (const other of others) {
        await until(other, ({ told }) => told.left.length === 1, "told who left");
        assert.equal(await ask(other, ({ room }) => room.peers.size), users.length - 2);
      }
      assert.equal(await ask(one, ({ stream }) => stream.getTracks().every((/** @type {any} */ { readyState }) => readyState === "live")), true, "the tracks are the caller's");
      if (others.length > 1) await allHear(others);
    }),
  );
}

test("a late joiner gets the screen that is shared, and all go back to the camera without an offer", { timeout: 60_000 }, () =>
  inRoom(async ({ join }) => {
    const [ann, bob] = [await join("ann"), await join("bob")];
    await allHear([ann, bob]);
    await ask(ann, async (page) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
      setInterval(() => canvas.getContext("2d")?.fillRect(Math.random() * 300, 0, 9, 240), 50);
      page.camera = page.stream.getVideoTracks()[0];
      const { connection } = page.room.peers.get("bob");
      page.negotiated = 0;
      connection.addEventListener("signalingstatechange", () => (page.negotiated += 1));
      await page.room.replaceTrack("video", canvas.captureStream(20).getVideoTracks()[0]);
    });
    const cid = await join("cid");
    for (const visitor of [bob, cid]) await until(visitor, (page) => page.figures().then((/** @type {any} */ { ann: { video } }) => video.in?.width === 320), "shown the screen");
    await ask(ann, (page) => page.room.replaceTrack("video", page.camera));
    for (const visitor of [bob, cid]) await until(visitor, (page) => page.figures().then((/** @type {any} */ { ann: { video } }) => video.in?.width === 160), "shown the camera");
    assert.equal(await ask(ann, ({ negotiated }) => negotiated), 0);
    await ask(ann, (page) => page.room.replaceTrack("video", null));
    for (const visitor of [bob, cid]) await until(visitor, ({ told }) => told.untrack.includes("ann video"), "told that the picture went");
    await ask(ann, (page) => page.room.replaceTrack("video", page.camera));
    await allHear([ann, bob, cid]);
    await allSee([bob, cid]);
  }),
);

test("who has nothing to send is there, and hears and sees", { timeout: 60_000 }, () =>
  inRoom(async ({ join }) => {
    const [ann, bob] = [await join("ann", { stream: null }), await join("bob")];
    await until(ann, (page) => page.heard().bob === 460, "hearing");
    await allSee([ann]);
    assert.equal(await ask(bob, ({ room }) => room.peers.get("ann").stream.getTracks().length), 0);
    await ask(ann, async (page) => page.room.replaceTrack("audio", page.stream.getAudioTracks()[0]));
    await until(bob, (page) => page.heard().ann === 300, "hearing who found a microphone");
  }),
);

test("a page that dies is gone with its media, and one that is loaded again is met anew", { timeout: 60_000 }, () =>
  inRoom(async ({ join, visitors }) => {
    const [ann, bob, cid] = [await join("ann"), await join("bob"), await join("cid")];
    await allHear([ann, bob, cid]);
    await bareDocument(bob.page, stage.server.url, OURS);
    assert.equal(await joinAgain(bob), null);
    await allHear([ann, bob, cid]);
    await cid.context.close();
    visitors.pop();
    for (const visitor of [ann, bob]) await until(visitor, ({ room }) => room.peers.size === 1, "rid of who died");
    await allHear([ann, bob]);
  }),
);

test("the server is started anew: media never stops, and all rejoin", { timeout: 60_000 }, () =>
  inRoom(async ({ join }) => {
    const all = [await join("ann"), await join("bob"), await join("cid")];
    await allHear(all);
    await stage.server.stop();
    for (const visitor of all) await until(visitor, ({ room }) => room.state === "detached", "detached");
    const count = () => Promise.all(all.map((visitor) => ask(visitor, (page) => page.packets())));
    const before = /** @type {any[]} */ (await count());
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      await sleep(250);
      const came = /** @type {any[]} */ (await count()).map((counts, at) => Object.entries(before[at]).map(([id, packets]) => counts[id] - packets));
      // A second's worth is 50.
      if (came.flat().every((packets) => packets > 30)) break;
      assert.ok(Date.now() < end, `all are heard on: ${JSON.stringify(came)} packets`);
    }
    await stage.server.start();
    for (const visitor of all) await until(visitor, ({ room }) => room.state === "joined", "joined again");
    await sleep(2_500);
    await allHear(all);
    for (const visitor of all) assert.deepEqual(await ask(visitor, ({ told }) => [told.left, told.untrack, told.peer.filter((/** @type {string} */ one) => !/connected|connecting/.test(one))]), [[], [], []]);
    const later = await join("dan");
    await allHear([...all, later]);
  }),
);

test("a restart of ICE, a dropped line and a closed connection are mended while all is heard", { timeout: 60_000 }, () =>
  inRoom(async ({ join }) => {
    const all = /** @type {[Visitor, Visitor]} */ ([await join("ann"), await join("bob")]);
    await allHear(all);
    const [ann, bob] = all;
    await ask(bob, (page) => {
      page.ufrag = () => /ice-ufrag:(\S+)/.exec(page.room.peers.get("ann").connection.localDescription.sdp)?.[1];
      page.before = page.ufrag();
    });
    // Both at once, again and again.
    await Promise.all(all.map((visitor) => ask(visitor, async ({ room }) => {
      for (let round = 0; round < 10; round += 1) {
        for (const { connection } of room.peers.values()) connection.restartIce();
        await new Promise((done) => setTimeout(done, 30 * Math.random()));
      }
    })));
    await until(bob, ({ room, ufrag, before }) => ufrag() !== before && room.peers.get("ann").connection.signalingState === "stable" && room.peers.get("ann").state === "connected", "restarted and settled");
    await ask(ann, ({ room }) => room.nudge());
    await allHear(all);
    // Behind the room's back: nobody is told, and the other side sees it first.
    await ask(ann, ({ room }) => {
      const { connection } = room.peers.get("bob");
      connection.onconnectionstatechange = null;
      connection.close();
    });
    await until(bob, ({ told }) => told.peer.filter((/** @type {string} */ one) => one === "ann connected").length >= 2, "connected again");
    await allHear(all);
    assert.deepEqual(await ask(ann, ({ told }) => told.left), []);
  }),
);

test("two that come at the very same time, many times, settle", { timeout: 60_000 }, () =>
  inRoom(async ({ enter }) => {
    const all = [await enter("ann"), await enter("bob"), await enter("cid")];
    for (let round = 0; round < 3; round += 1) {
      for (const fault of await Promise.all(all.map((visitor) => joinAgain(visitor, { room: `storm ${round}` })))) assert.equal(fault, null);
      await Promise.all(all.map((visitor) => ask(visitor, async (page) => {
        const video = page.stream.getVideoTracks()[0];
        for (let at = 0; at < 10; at += 1) {
          void page.room.replaceTrack("video", at % 2 ? video : null);
          if (Math.random() < 0.3) for (const { connection } of page.room.peers.values()) connection?.addTransceiver("audio", { direction: "inactive" });
          await new Promise((done) => setTimeout(done, 40 * Math.random()));
        }
        await page.room.replaceTrack("video", video);
      })));
      await allHear(all);
      await allSee(all);
      for (const visitor of all) {
        await until(visitor, ({ room }) => [...room.peers.values()].every((/** @type {any} */ { connection }) => connection.signalingState === "stable"), "stable");
        await ask(visitor, ({ room, analysers }) => {
          room.close();
          analysers.clear();
        });
      }
    }
  }),
);

test("two that may use the relay alone meet inside the server's own", { timeout: 60_000 }, () =>
  inRoom(async ({ join }) => {
    const all = /** @type {[Visitor, Visitor]} */ ([await join("ann", { iceTransportPolicy: "relay" }), await join("bob", { iceTransportPolicy: "relay" })]);
    await allHear(all);
    await allSee(all);
    const { bob } = /** @type {any} */ (await ask(all[0], (page) => page.figures()));
    assert.deepEqual([bob.path, bob.pair.local.type, bob.pair.remote.type], ["relay", "relay", "relay"]);
    assert.match(bob.words, /^relayed over (UDP|TCP)$/);
  }),
);

test("a name that is taken stays with who has it", { timeout: 60_000 }, () =>
  inRoom(async ({ join, enter }) => {
    const [ann, bob] = [await join("ann"), await join("bob")];
    const thief = await enter("ann");
    assert.deepEqual(await joinAgain(thief), { code: "taken", name: "VoxcastError" });
    assert.deepEqual(await joinAgain(thief, { token: "wrong", user: "eve" }), { code: "unauthorized", name: "VoxcastError" });
    await ask(ann, ({ room }) => room.nudge());
    await allHear([ann, bob]);
    assert.deepEqual(await ask(ann, ({ told }) => told.state), ["joined"]);
  }),
);

for (const habit of /** @type {const} */ (["newcomer", "resident"])) {
  test(`a client by somebody else, where the ${habit} offers, is met by who came before and after it`, { timeout: 60_000 }, () =>
    inRoom(async ({ join, stranger }) => {
      const ann = await join("ann");
      const bob = await stranger("bob", habit);
      const cid = await join("cid");
      await allHear([ann, bob, cid]);
      await until(bob, ({ peers }) => [...peers.values()].every(({ chat }) => chat?.readyState === "open"), "ready to chat");
      await ask(ann, ({ room }) => room.sendChat("hello"));
      await until(bob, ({ chat }) => chat.some((/** @type {any} */ { type, text }) => type === "chat" && text === "hello"), "told");
      await ask(bob, ({ peers }) => {
        for (const { chat } of peers.values()) chat.send(JSON.stringify({ type: "chat", text: "from elsewhere" }));
      });
      for (const visitor of [ann, cid]) await until(visitor, ({ room }) => room.chat.at(-1)?.text === "from elsewhere", "told");
      for (const visitor of [ann, cid]) await ask(visitor, ({ room }) => room.peers.get("bob").connection.restartIce());
      await sleep(500);
      await allHear([ann, bob, cid]);
      await bob.page.evaluate(() => /** @type {any} */ (window).page.socket.close());
      await bob.context.close();
      for (const visitor of [ann, cid]) await until(visitor, ({ room }) => room.peers.size === 1, "rid of who left");
    }),
  );
}
