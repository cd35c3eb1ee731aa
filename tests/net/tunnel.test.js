// A server that is reached through an HTTP tunnel: a stand-in whose near end dials out from beside the server, as real ones do, and whose
// far end tells who asks. That page, sound, and the relays which the server names are right behind it is what matrix.test.js shows; here
// it is that clients stay apart, although all of their connections come from this machine.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { bareDocument, freshPage } from "../browser/lib/browser.js";
import { TOKEN } from "../browser/lib/server.js";
import { CLIENTS } from "./lib/networks.js";
import { setStage, startServer } from "./lib/stage.js";

/** @typedef {import("./lib/networks.js").Client} Client */
/** @typedef {(token: string) => Promise<string>} Greet tells the type of the server's answer to `hello`, or the code of its error */

const PATIENCE = { timeout: 60_000 };
/** How many wrong tokens of one address the server answers in a minute. */
const GUESSES = 10;

/** @type {import("./lib/stage.js").Stage} */
let stage;

before(async () => {
  stage = await setStage();
}, PATIENCE);
after(() => stage?.close(), PATIENCE);

/**
 * @param {Record<string, string>} environment of the server
 * @param {(visit: (client: Client, speak: (greet: Greet) => Promise<void>) => Promise<void>, serving: import("./lib/stage.js").Serving) => Promise<void>} act
 */
async function behindTunnel(environment, act) {
  const serving = await startServer(stage, "preserving", "closed relay", environment);
  try {
    await act(async (client, speak) => {
      const { page, context } = await freshPage(stage.browsers[client], { ignoreHTTPSErrors: true });
      try {
        await bareDocument(page, serving.tunnel);
        await speak((token) => page.evaluate(greet, token));
      } finally {
        await context.close();
      }
    }, serving);
  } catch (fault) {
    throw new Error(`${fault}\n--- server\n${serving.output.slice(-4_000)}`, { cause: fault });
  } finally {
    await serving.stop();
  }
}

/** Runs in the page. @param {string} token @returns {Promise<string>} */
function greet(token) {
  const socket = new WebSocket(`wss://${location.host}/ws`);
  return new Promise((resolve) => {
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", token }));
    socket.onmessage = ({ data }) => {
      const { type, code } = JSON.parse(data);
      resolve(code ?? type);
      socket.close();
    };
    socket.onclose = ({ code }) => resolve(`closed ${code}`);
  });
}

test("who guesses tokens is locked out by their own address, nobody else is", PATIENCE, () =>
  behindTunnel({}, async (visit, serving) => {
    await visit("symmetric", async (greet) => {
      for (let guess = 0; guess < GUESSES; guess += 1) assert.equal(await greet(`a wrong token, the ${guess}th`), "unauthorized");
      assert.equal(await greet(TOKEN), "too_many_attempts");
    });
    await visit("open", async (greet) => assert.equal(await greet(TOKEN), "hello_ack"));
    assert.match(serving.output, new RegExp(`session opened .*client=${CLIENTS.open.address.replaceAll(".", "\\.")} `));
    await visit("symmetric", async (greet) => assert.equal(await greet(TOKEN), "too_many_attempts", "still"));
  }),
);

test("the token for this machine's own user opens nothing", PATIENCE, () =>
  behindTunnel({ AUTH_TOKEN: "" }, async (visit) => {
    await visit("open", async (greet) => assert.equal(await greet("devtoken"), "unauthorized"));
  }),
);
