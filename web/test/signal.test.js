// The line to the server: greeting, refusal, ping, retry and resuming, each with a socket and a clock in hand.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Retry } from "../sdk/retry.js";
import { Signal } from "../sdk/signal.js";
import { FakeClock, error, fakeSockets, helloAck } from "./fakes.js";

function scene() {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  /** @type {string[]} */
  const states = [];
  /** @type {any[]} */
  const heard = [];
  /** @type {any[]} */
  const greetings = [];
  const signal = new Signal({
    url: "ws://server/ws",
    WebSocket: sockets.WebSocket,
    clock,
    retry: new Retry({ random: () => 1 }),
    on: {
      state: (state) => states.push(state),
      opening: () => {},
      opened: () => {},
      ready: (greeting) => greetings.push(greeting),
      message: (message) => heard.push(message),
      note: () => {},
    },
  });
  const greeted = () => {
    signal.open({ token: "t" });
    sockets.last.open();
    sockets.last.say(helloAck());
  };
  return { clock, sockets, states, heard, greetings, signal, greeted };
}

test("it greets with the token and is open after the acknowledgement", () => {
  const { signal, sockets, states, greetings } = scene();
  assert.equal(signal.send({ type: "stop" }), false, "nothing is sent before");
  signal.open({ token: "t" });
  assert.equal(sockets.last.url, "ws://server/ws");
  sockets.last.open();
  assert.deepEqual(sockets.last.sent, [{ type: "hello", token: "t" }]);
  sockets.last.say(helloAck());
  assert.deepEqual(states, ["connecting", "open"]);
  assert.equal(greetings.length, 1);
  assert.equal(signal.send({ type: "stop" }), true);
});

test("a session id greets who came with a key, and nobody else", () => {
  const id = { type: "session_id", session_id: "b", server_ip: "192.0.2.1", server_port: 3479 };
  const byToken = scene();
  byToken.signal.open({ token: "t" });
  byToken.sockets.last.open();
  byToken.sockets.last.say(id);
  assert.equal(byToken.signal.state, "connecting");
  byToken.sockets.last.say(helloAck());
  assert.deepEqual(byToken.greetings.map(({ sessionId }) => sessionId), ["a".repeat(32)]);

  const byKey = scene();
  byKey.signal.open({ apiKey: "k" });
  byKey.sockets.last.open();
  byKey.sockets.last.say(id);
  byKey.sockets.last.say(id);
  assert.deepEqual(byKey.greetings, [{ sessionId: "b", resumed: false, voices: null, iceServers: [], silent: false }]);
  assert.equal(byKey.heard.length, 1, "a second one is no greeting");
});

test("a dropped socket is opened again after a growing wait, with the session", async () => {
  const { clock, sockets, signal, greeted } = scene();
  greeted();
  sockets.last.drop();
  assert.equal(signal.state, "waiting");
  assert.equal(signal.retryAt, 500);
  await clock.advance(499);
  assert.equal(sockets.made.length, 1);
  await clock.advance(1);
  sockets.last.open();
  assert.deepEqual(sockets.last.sent, [{ type: "hello", token: "t", session: "a".repeat(32) }]);
  sockets.last.drop();
  assert.equal(signal.retryAt, 1500, "twice as long");
  await clock.advance(1000);
  sockets.last.open();
  sockets.last.say(helloAck({ resumed: true }));
  sockets.last.drop();
  assert.equal(signal.retryAt, 2000, "a greeting forgets the failures");
});

test("what cannot be mended is not tried again", async () => {
  for (const [code, text] of /** @type {const} */ ([["unauthorized", "Bad token"], ["too_many_attempts", "Slow down"]])) {
    const { clock, sockets, signal } = scene();
    signal.open({ token: "t" });
    sockets.last.open();
    sockets.last.say(error(code, text));
    sockets.last.drop();
    assert.equal(signal.state, "refused");
    assert.deepEqual([signal.refusal?.code, signal.refusal?.message], [code, text]);
    assert.equal(sockets.last.closedWith, 1000);
    await clock.advance(600_000);
    assert.equal(sockets.made.length, 1);
    signal.open({ token: "t2" });
    assert.equal(signal.refusal, null, "asking again starts clean");
    assert.equal(sockets.made.length, 2);
  }
});

test("a full server is asked again, later each time, and said so once", async () => {
  const { clock, sockets, heard, signal } = scene();
  const turnAway = () => {
    sockets.last.open();
    sockets.last.say(error("over_capacity", "Full"));
  };
  signal.open({ token: "t" });
  turnAway();
  assert.equal(signal.state, "waiting");
  assert.equal(signal.refusal?.code, "over_capacity");
  assert.equal(sockets.last.closedWith, 1000);
  assert.equal(signal.retryAt, 5_500);
  await clock.advance(5_500);
  turnAway();
  assert.equal(signal.retryAt, 11_500);
  assert.deepEqual(heard.map(({ code }) => code), ["over_capacity"]);
  await clock.advance(6_000);
  sockets.last.open();
  sockets.last.say(helloAck());
  assert.equal(signal.state, "open");
  assert.equal(signal.refusal, null);
});

test("whoever was greeted waits for the end of a lock-out of its address", async () => {
  const { clock, sockets, signal, heard, greeted } = scene();
  greeted();
  sockets.last.drop();
  for (const [text, wait] of /** @type {const} */ ([["Too many attempts: try again in 29 s", 30_000], ["Slow down", 62_000]])) {
    signal.nudge();
    sockets.last.open();
    sockets.last.say(error("too_many_attempts", text));
    assert.deepEqual([signal.state, signal.refusal?.code], ["waiting", "too_many_attempts"]);
    assert.equal(signal.retryAt - clock.now(), wait);
  }
  await clock.advance(62_000);
  sockets.last.open();
  assert.deepEqual(sockets.last.sent, [{ type: "hello", token: "t", session: "a".repeat(32) }]);
  sockets.last.say(helloAck({ resumed: true }));
  assert.deepEqual([signal.state, signal.refusal, heard], ["open", null, []]);
  signal.open({ token: "t" });
  sockets.last.open();
  sockets.last.say(error("too_many_attempts", "Slow down"));
  assert.equal(signal.state, "refused", "a person who asks is told");
});

test("a full server that goes away is no longer full", async () => {
  const { clock, sockets, signal } = scene();
  signal.open({ token: "t" });
  sockets.last.open();
  sockets.last.say(error("over_capacity", "Full"));
  await clock.advance(5_500);
  sockets.last.drop();
  assert.equal(signal.state, "waiting");
  assert.equal(signal.refusal, null);
});

test("a doubted socket is closed only after the next one was greeted", async () => {
  const { clock, sockets, signal, heard, greeted } = scene();
  greeted();
  const doubted = sockets.last;
  signal.nudge();
  await clock.advance(4_000);
  assert.equal(doubted.closedWith, "no", "its close would end the session");
  doubted.say({ type: "session_id" });
  assert.deepEqual(heard, [], "it is not heard any more");
  await clock.advance(500);
  sockets.last.open();
  assert.equal(sockets.last.sent[0].session, "a".repeat(32));
  assert.equal(doubted.closedWith, "no");
  sockets.last.say(helloAck({ resumed: true }));
  assert.equal(doubted.closedWith, 1000);
  assert.equal(sockets.last.closedWith, "no");
});

test("a socket that never opened is closed at once", async () => {
  const { clock, sockets, signal } = scene();
  signal.open({ token: "t" });
  await clock.advance(10_000);
  assert.equal(signal.state, "waiting");
  assert.notEqual(sockets.last.closedWith, "no");
});

test("doubted sockets do not pile up, and the greeted one is kept longest", async () => {
  const { clock, sockets, signal, greeted } = scene();
  greeted();
  signal.nudge();
  await clock.advance(4_000);
  for (let attempt = 0; attempt < 4; attempt += 1) {
    signal.nudge();
    sockets.last.open();
    await clock.advance(10_000);
  }
  assert.deepEqual(sockets.made.slice(0, 5).map(({ closedWith }) => closedWith === "no"), [true, true, false, false, false]);
});

test("hanging up, closing and a refusal close the doubted socket too", async () => {
  for (const end of /** @type {const} */ (["hangUp", "close", "refusal"])) {
    const { clock, sockets, signal, greeted } = scene();
    greeted();
    const doubted = sockets.last;
    signal.nudge();
    await clock.advance(4_000);
    if (end === "refusal") {
      signal.nudge();
      sockets.last.open();
      sockets.last.say(error("unauthorized", "Bad token"));
    } else {
      signal[end]();
    }
    assert.equal(doubted.closedWith, 1000, end);
    assert.equal(clock.pending, 0);
  }
});

test("other errors are passed on and the line stays", () => {
  const { sockets, heard, signal, greeted } = scene();
  greeted();
  sockets.last.say(error("unknown_voice", "Unknown voice: x"));
  assert.equal(signal.state, "open");
  assert.equal(heard[0].code, "unknown_voice");
});

test("a malformed message is ignored", () => {
  const { sockets, heard, signal, greeted } = scene();
  greeted();
  for (const frame of ["{", "[]", '{"type":"dance"}', '{"type":"answer"}']) sockets.last.say(frame);
  assert.equal(signal.state, "open");
  assert.deepEqual(heard, []);
});

test("it pings each 25 s of silence, and an unanswered ping is a dead line", async () => {
  const { clock, sockets, signal, greeted } = scene();
  greeted();
  await clock.advance(25_000);
  assert.deepEqual(sockets.last.all("ping"), [{ type: "ping" }]);
  sockets.last.say({ type: "pong" });
  await clock.advance(25_000);
  assert.equal(sockets.last.all("ping").length, 2);
  await clock.advance(10_000);
  assert.equal(signal.state, "waiting");
});

test("a greeting that does not come is given up", async () => {
  const { clock, sockets, signal } = scene();
  signal.open({ token: "t" });
  sockets.last.open();
  await clock.advance(10_000);
  assert.equal(signal.state, "waiting");
});

test("a socket that cannot even be made is a failure like others", () => {
  const { clock, signal } = scene();
  /** @type {string[]} */
  const notes = [];
  const broken = new Signal({
    url: "nonsense",
    WebSocket: /** @type {any} */ (
      class {
        constructor(/** @type {string} */ url) {
          throw new SyntaxError(`no: ${url}`);
        }
      }
    ),
    clock,
    retry: new Retry({ random: () => 1 }),
    on: { state: () => {}, opening: () => {}, opened: () => {}, ready: () => {}, message: () => {}, note: (text) => notes.push(text) },
  });
  broken.open({ apiKey: "secret" });
  assert.equal(broken.state, "waiting");
  assert.deepEqual(notes, ["the socket could not be opened: SyntaxError; trying again in 0.5 s"], "the key is in the URL, and not in the log");
  assert.equal(signal.state, "idle");
});

test("a nudge tries at once, and doubts an open line", async () => {
  const { clock, sockets, signal, greeted } = scene();
  greeted();
  signal.nudge();
  assert.equal(sockets.last.all("ping").length, 1);
  await clock.advance(4_000);
  assert.equal(signal.state, "waiting", "doubt has little patience");
  signal.nudge();
  assert.equal(signal.state, "connecting");
  assert.equal(sockets.made.length, 2);
});

test("another token does not resume the session of the first", () => {
  const { sockets, signal, greeted } = scene();
  greeted();
  signal.open({ token: "other" });
  sockets.last.open();
  assert.deepEqual(sockets.last.sent, [{ type: "hello", token: "other" }]);
});

test("an old socket is not heard any more", () => {
  const { sockets, signal, heard, greeted } = scene();
  greeted();
  const old = sockets.last;
  const late = old.onmessage;
  signal.open({ token: "t" });
  assert.equal(old.onmessage, null);
  assert.equal(old.onclose, null);
  assert.notEqual(late, null);
  assert.deepEqual(heard, []);
});

test("hanging up and closing leave no timer behind", async () => {
  const { clock, sockets, signal, greeted } = scene();
  greeted();
  signal.hangUp();
  assert.equal(signal.state, "idle");
  assert.equal(sockets.last.closedWith, 1000);
  assert.equal(clock.pending, 0);
  signal.open({ token: "t" });
  sockets.last.drop();
  signal.close();
  assert.equal(clock.pending, 0);
  signal.open({ token: "t" });
  signal.nudge();
  signal.hangUp();
  assert.equal(signal.state, "closed", "closed is closed");
});
