// Who hears whom: every kind of client network against every kind of server network, behind real NATs, once with the closed relay and
// once with coturn. Needs root. The table goes to the file that TABLE names.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { EXPECTED } from "./lib/expected.js";
import { listen, pathOf } from "./lib/listener.js";
import { CLIENTS, PORTS, SERVERS } from "./lib/networks.js";
import { lookAround } from "./lib/probe.js";
import { TURN_URLS, clientHost, entries, serverHost, setStage, startServer } from "./lib/stage.js";
import { line, table } from "./lib/table.js";

/** @typedef {import("./lib/networks.js").Client} Client */
/** @typedef {import("./lib/networks.js").Server} Server */
/** @typedef {import("./lib/expected.js").Round} Round */
/** @typedef {import("./lib/table.js").Cell} Cell */

/** A path that ICE finds, it finds while a person still waits. */
const CONNECT_MS = 6_000;
/** By then the page has said that there is none. */
const TOLD_MS = 17_000;
const CELL = { timeout: 45_000 };
const SLOW = { timeout: 60_000 };

/** @type {import("./lib/stage.js").Stage} */
let stage;
/** @type {Cell[]} */
const cells = [];

before(async () => {
  stage = await setStage();
}, SLOW);

after(async () => {
  await stage?.close();
  const text = table(cells);
  console.log(text);
  if (process.env.TABLE) writeFileSync(process.env.TABLE, text);
}, SLOW);

describe("the networks are what they are called", { concurrency: 3 }, () => {
  const all = [
    ...entries(CLIENTS).map(([name, { address }]) => ({ host: clientHost(name), kind: name, address })),
    ...entries(SERVERS).map(([name, { address }]) => ({ host: serverHost(name), kind: name, address })),
  ];
  for (const { host, kind, address } of all) {
    test(host, CELL, async () => {
      const { port, mapped, tcp3478, tcp443 } = await lookAround(host);
      assert.deepEqual({ tcp3478, tcp443 }, { tcp3478: kind !== "only-443", tcp443: true });
      if (kind === "no-udp" || kind === "only-443") {
        assert.deepEqual(mapped, [null, null]);
      } else if (kind === "symmetric") {
        for (const seen of mapped) assert.ok(seen?.startsWith(`${address}:`), `${seen}`);
        assert.notEqual(mapped[0], mapped[1]);
      } else {
        assert.deepEqual(mapped, [`${address}:${port}`, `${address}:${port}`]);
      }
    });
  }
});

for (const [round, ofRound] of entries(EXPECTED)) {
  for (const [server, ofServer] of entries(ofRound)) {
    describe(`${round}, server ${SERVERS[server].words}`, () => {
      /** @type {import("./lib/stage.js").Serving} */
      let serving;
      before(async () => {
        serving = await startServer(stage, server, round);
      }, SLOW);
      after(() => serving?.stop(), SLOW);

      /** @param {import("node:test").TestContext} run @param {Client} client @param {import("./lib/expected.js").Expected} expected */
      async function meet(run, client, expected) {
        const cell = /** @type {Cell} */ ({ round, server, client, expected, outcome: null });
        cells.push(cell);
        try {
          const wanted = (/** @type {import("./lib/listener.js").Pair} */ pair) => "paths" in expected && expected.paths.includes(pathOf(pair));
          const outcome = await listen(stage.browsers[client], serving.urlFor(client), CLIENTS[client].hz, wanted);
          cell.outcome = outcome;
          run.diagnostic(`${round}, ${SERVERS[server].words}, ${CLIENTS[client].words}: ${line(outcome)}`);
          check(cell, outcome);
        } catch (fault) {
          throw new Error(`${fault}\n--- server\n${serving.output.slice(-8_000)}`, { cause: fault });
        }
      }

      for (const [client, expected] of entries(ofServer)) {
        if ("never" in expected) continue;
        test(`client ${CLIENTS[client].words}: hears`, CELL, (run) => meet(run, client, expected));
      }
      const vain = entries(ofServer).filter(([, expected]) => "never" in expected);
      if (vain.length === 0) return;
      // They only wait, and may do so together.
      describe("in vain", { concurrency: true }, () => {
        for (const [client, expected] of vain) {
          test(`client ${CLIENTS[client].words}: is told that there is no way`, CELL, (run) => meet(run, client, expected));
        }
      });
    });
  }
}

/** @param {Cell} cell @param {import("./lib/listener.js").Outcome} outcome */
function check({ round, server, expected }, outcome) {
  assert.deepEqual(outcome.turn, namedRelays(round, server), "the server names the relays that can be reached, and no others");
  if ("never" in expected) {
    assert.equal(outcome.pair, null, `it connected, which cannot be: ${expected.never}`);
    assert.equal(outcome.verdict, expected.verdict, outcome.told);
    assert.ok(outcome.connectedMs < TOLD_MS, `told after ${outcome.connectedMs} ms`);
  } else {
    assert.ok(outcome.pair, `${outcome.told}, from candidates ${outcome.candidates.join(", ") || "none"}`);
    const path = pathOf(outcome.pair);
    assert.ok(expected.paths.includes(path), `${path} instead of ${expected.paths.join(", or ")}`);
    assert.ok(outcome.connectedMs < CONNECT_MS, `connected after ${outcome.connectedMs} ms`);
  }
}

/** @param {Round} round @param {Server} server */
function namedRelays(round, server) {
  if (round === "coturn") return TURN_URLS;
  const { address, reachable } = SERVERS[server];
  const plain = ["udp", "tcp"].map((transport) => `turn:${address}:${PORTS.relay}?transport=${transport}`);
  return reachable ? [...plain, `turns:${address}:${PORTS.turns}?transport=tcp`] : [];
}
