// The public client: what it waits for, what it gives the browser, how it ends, and that nothing is left when it has.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as sdk from "../sdk/index.js";
import { FakeClock, error, fakeAbort, fakeConnections, fakeSockets, helloAck, leftovers, settled } from "./fakes.js";

const { Client, DEFAULT_ICE_SERVERS, VoxcastError, connect } = sdk;

/** @typedef {import("../sdk/index.js").ConnectOptions} ConnectOptions */

const RELAY = { urls: ["turn:r.example?transport=udp", "turn:r.example?transport=tcp", "turns:r.example"], username: "u", credential: "c" };
const MINE = { urls: ["turn:mine.example", "turn:mine.example?transport=tcp"], username: "m", credential: "m" };
/** What each policy leaves of a relay's URLs. */
const LEFT = {
  unset: (/** @type {typeof RELAY} */ { urls }) => urls,
  all: (/** @type {typeof RELAY} */ { urls }) => urls,
  udp: (/** @type {typeof RELAY} */ { urls }) => urls.slice(0, 1),
  tcp: (/** @type {typeof RELAY} */ { urls }) => urls.slice(1),
};

/** @typedef {keyof typeof LEFT} Policy */
/** @typedef {"before" | "early" | "late" | "empty" | "never"} Config */
/** @typedef {"token" | "apiKey"} By */

/** @param {Partial<ConnectOptions>} [options] */
function scene(options = {}) {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const connections = fakeConnections();
  const abort = fakeAbort();
  const login = options.apiKey === undefined ? { token: "t" } : {};
  const client = new Client({
    url: "ws://server.example",
    ...login,
    defaultIceServers: [],
    WebSocket: sockets.WebSocket,
    RTCPeerConnection: connections.RTCPeerConnection,
    clock,
    random: () => 1,
    signal: abort.signal,
    ...options,
  });
  /** @type {{ result: string, fault: any }} */
  const outcome = { result: "pending", fault: null };
  const begin = () => {
    client.connect().then(
      () => (outcome.result = "connected"),
      (fault) => Object.assign(outcome, { result: "failed", fault }),
    );
  };
  const config = (relay = RELAY) => sockets.last?.say({ type: "turn_config", ...relay });
  const greet = async (/** @type {object} */ ack = {}) => {
    if (options.apiKey === undefined) sockets.last?.say(helloAck(ack));
    else sockets.last?.say({ type: "session_id", session_id: "5".repeat(32), server_ip: "192.0.2.1", server_port: 3479 });
    await settled();
  };
  const answer = async (sdp = "answer") => {
    sockets.last?.say({ type: "answer", sdp });
    await settled();
  };
  const become = async (/** @type {string} */ state) => {
    connections.last?.become(state);
    await settled();
  };
  const world = { clock, sockets, connections, abort };
  return { ...world, world, client, outcome, begin, config, greet, answer, become };
}

/** @param {ReturnType<typeof scene>} it @param {object} [ack] */
async function connected(it, ack) {
  it.begin();
  it.sockets.last.open();
  await it.greet(ack);
  await it.answer();
  await it.become("connected");
}

/** @param {By} by @param {Policy} policy @param {Partial<ConnectOptions>} [more] */
function withPolicy(by, policy, more = {}) {
  const login = by === "token" ? { token: "t" } : { apiKey: "k&y" };
  return scene({ ...login, ...(policy !== "unset" && { iceTransportPolicy: policy }), ...more });
}

/** Opens and greets, with the server's configuration when it comes. @param {ReturnType<typeof scene>} it @param {Config} config */
async function meet(it, config) {
  it.begin();
  it.sockets.last.open();
  if (config === "before") it.config();
  await it.greet();
  if (config === "early") it.config();
  if (config === "empty") it.config({ ...RELAY, urls: [] });
  await settled();
}

const BYS = /** @type {const} */ (["token", "apiKey"]);
const POLICIES = /** @type {const} */ (["unset", "all", "udp", "tcp"]);
const CONFIGS = /** @type {const} */ (["before", "early", "late", "empty", "never"]);

for (const by of BYS) {
  for (const policy of POLICIES) {
    const only = policy === "udp" || policy === "tcp";
    /** @param {typeof RELAY} relay */
    const left = (relay) => LEFT[policy](relay);

    for (const config of CONFIGS) {
      test(`${by}, policy ${policy}, configuration ${config}`, async () => {
        const it = withPolicy(by, policy);
        await meet(it, config);
        const named = config === "before" || config === "early";
        const waits = policy !== "unset" && (config === "late" || config === "never");
        if (waits) {
          await it.clock.advance(1_999);
          assert.equal(it.connections.made.length, 0, "the server may still say it");
          assert.equal(it.client.state, "connecting");
          await it.clock.advance(1);
        }
        assert.equal(it.clock.now(), waits ? 2_000 : 0, "nothing else is waited for");
        if (only && !named) {
          await settled();
          assert.equal(it.outcome.fault?.code, "no_relay");
          assert.equal(it.outcome.fault.permanent, true);
          assert.match(it.outcome.fault.message, /Only a relay may be used/);
          assert.equal(it.connections.made.length, 0);
          assert.equal(it.client.state, "refused");
          await it.clock.advance(600_000);
          assert.equal(it.sockets.made.length, 1, "in vain is in vain");
          assert.deepEqual(leftovers(it.world), []);
          return;
        }
        assert.equal(it.sockets.last.all("offer").length, 1);
        const { configuration } = it.connections.last;
        assert.equal(configuration.iceTransportPolicy, only ? "relay" : undefined);
        const known = named ? [{ ...RELAY, urls: left(RELAY) }] : [];
        assert.deepEqual(configuration.iceServers, known);
        if (config === "late") {
          await it.clock.advance(1_000);
          it.config();
          await it.answer();
          assert.deepEqual(it.connections.last.configuration.iceServers, [{ ...RELAY, urls: left(RELAY) }]);
          assert.equal(it.connections.last.restarts, 1, "one restart takes it in");
        }
        await it.answer();
        await it.become("connected");
        assert.equal(it.outcome.result, "connected");
        assert.equal(it.connections.made.length, 1);
        it.client.close();
        assert.deepEqual(leftovers(it.world), []);
      });

      test(`${by}, policy ${policy}, configuration ${config}, and aborted`, async () => {
        // In the middle of whatever waiting there is, and once more with an offer on its way.
        for (const at of [0, 1_000, 2_500]) {
          const it = withPolicy(by, policy, { iceServers: [MINE] });
          await meet(it, config);
          await it.clock.advance(at);
          if (config === "late" && at > 2_000) it.config();
          const sent = it.sockets.last.sent.length;
          it.abort.abort();
          await settled();
          assert.equal(it.outcome.result, "failed");
          assert.equal(it.outcome.fault, it.abort.signal.reason);
          assert.deepEqual(leftovers(it.world), [], `after ${at} ms`);
          it.config();
          await it.clock.advance(600_000);
          assert.deepEqual([it.sockets.made.length, it.sockets.last.sent.length], [1, sent]);
        }
      });
    }

    test(`${by}, policy ${policy}: the caller's relay does where the server names none`, async () => {
      for (const config of /** @type {const} */ (["empty", "never"])) {
        const it = withPolicy(by, policy, { iceServers: [MINE, { urls: "stun:mine.example" }] });
        await meet(it, config);
        await it.clock.advance(2_000);
        const urls = it.connections.last.configuration.iceServers.flatMap((/** @type {any} */ server) => server.urls);
        const expected = { unset: [...MINE.urls, "stun:mine.example"], all: [...MINE.urls, "stun:mine.example"], udp: MINE.urls.slice(0, 1), tcp: MINE.urls.slice(1) };
        assert.deepEqual(urls, expected[policy]);
        it.client.close();
        assert.deepEqual(leftovers(it.world), []);
      }
    });
  }
}

test("default, caller's, greeting's and configuration's servers are merged", async () => {
  const it = scene({ iceTransportPolicy: "all", iceServers: [{ urls: "stun:mine.example" }], defaultIceServers: undefined });
  it.begin();
  it.sockets.last.open();
  await it.greet({ ice_servers: [{ urls: ["turn:r.example"], username: "old", credential: "old" }, { urls: "stun:mine.example:3478" }] });
  it.config();
  await settled();
  assert.deepEqual(it.connections.last.configuration.iceServers, [
    { urls: ["stun:stun.l.google.com:19302", "stun:mine.example"] },
    { urls: RELAY.urls, username: "u", credential: "c" },
  ]);
  assert.deepEqual(DEFAULT_ICE_SERVERS, [{ urls: "stun:stun.l.google.com:19302" }]);
});

test("the address carries what the protocol's query has, and nothing else", () => {
  /** @type {[Partial<ConnectOptions>, string][]} */
  const cases = [
    [{}, "ws://server.example/ws"],
    [{ url: "https://server.example" }, "wss://server.example/ws"],
    [{ url: new URL("wss://server.example/deep/ws?x=1#y") }, "wss://server.example/deep/ws?x=1"],
    [{ model: "echo", apiKey: "a b&c" }, "ws://server.example/ws?model=echo&api_key=a%20b%26c"],
    [{ apiKey: "k" }, "ws://server.example/ws?api_key=k"],
    [
      { iceTransportPolicy: "tcp", rtpPortMin: 50_000, rtpPortMax: 50_100 },
      "ws://server.example/ws?ice_transport_policy=tcp&rtp_port_min=50000&rtp_port_max=50100",
    ],
  ];
  for (const [options, url] of cases) {
    const it = scene(options);
    it.begin();
    assert.equal(it.sockets.last.url, url);
  }
});

test("options that cannot be meant are refused at once", async () => {
  const wrong = [
    { url: "nonsense" },
    { url: "ftp://server.example" },
    { iceTransportPolicy: "relay" },
    { rtpPortMin: 5 },
    { rtpPortMin: 10, rtpPortMax: 5 },
    { rtpPortMin: 0, rtpPortMax: 5 },
    { rtpPortMin: 1.5, rtpPortMax: 5 },
  ];
  for (const options of wrong) assert.throws(() => scene(/** @type {any} */ (options)), TypeError, JSON.stringify(options));
  for (const login of [{}, { token: "t", apiKey: "k" }]) {
    const { client, sockets } = scene({ token: undefined, ...login });
    await assert.rejects(client.connect(), TypeError);
    assert.equal(sockets.made.length, 0);
  }
});

test("a key is sent in the address alone, and greeted by a session id", async () => {
  const it = scene({ apiKey: "k" });
  await connected(it);
  assert.deepEqual(it.sockets.last.all("hello"), []);
  assert.equal(it.client.sessionId, "5".repeat(32));
  assert.equal(it.outcome.result, "connected");
});

test("a server that greets a key by nothing is taken as it is after 2 s", async () => {
  for (const iceTransportPolicy of /** @type {const} */ ([undefined, "all"])) {
    const it = scene({ apiKey: "k", iceTransportPolicy });
    it.begin();
    await it.clock.advance(5_000);
    it.sockets.last.open();
    await it.clock.advance(1_999);
    assert.equal(it.sockets.last.sent.length, 0);
    await it.clock.advance(1);
    assert.equal(it.sockets.last.all("offer").length, 1, "its relay is not waited for a second time");
    it.sockets.last.say({ type: "session_id", session_id: "late" });
    assert.equal(it.client.sessionId, "late");
    await it.answer();
    await it.become("connected");
    assert.equal(it.outcome.result, "connected");
  }
});

test("what the declarations name is what the module exports", () => {
  /** @type {Record<import("./types.js").Exported, true>} */
  const names = { Client: true, DEFAULT_ICE_SERVERS: true, Room: true, VoxcastError: true, browserClock: true, connect: true, explain: true, joinRoom: true };
  assert.deepEqual(Object.keys(sdk).sort(), Object.keys(names).sort());
});

// --- abort

/** Steps of an attempt, each from where the last one left off. @type {Record<string, (it: ReturnType<typeof scene>) => unknown>} */
const STEPS = {
  opening: (it) => it.begin(),
  greeting: (it) => it.sockets.last.open(),
  configuring: (it) => it.greet(),
  offering: async (it) => {
    it.config();
    await settled();
  },
  checking: (it) => it.answer(),
  connected: (it) => it.become("connected"),
  restarting: (it) => it.become("failed"),
  "waiting for the path": (it) => it.clock.advance(6_000),
  "waiting for the line": (it) => it.sockets.last.drop(),
};

for (const [at, name] of Object.keys(STEPS).entries()) {
  test(`aborted while ${name}, nothing is left`, async () => {
    const it = scene({ iceTransportPolicy: "all" });
    for (const step of Object.values(STEPS).slice(0, at + 1)) await step(it);
    const wasConnected = it.outcome.result === "connected";
    assert.equal(wasConnected, at >= 5, `this is meant to be ${name}`);
    it.abort.abort();
    await settled();
    assert.equal(it.client.state, "closed");
    assert.deepEqual(leftovers(it.world), []);
    if (!wasConnected) assert.equal(it.outcome.fault, it.abort.signal.reason);
    const made = [it.sockets.made.length, it.connections.made.length];
    await it.clock.advance(600_000);
    assert.deepEqual([it.sockets.made.length, it.connections.made.length], made);
    await assert.rejects(it.client.connect());
  });
}

test("aborted before, nothing begins", async () => {
  const it = scene();
  it.abort.abort();
  it.begin();
  await settled();
  assert.equal(it.outcome.fault, it.abort.signal.reason);
  assert.equal(it.sockets.made.length, 0);
  assert.deepEqual(leftovers(it.world), []);
});

test("aborted while an offer is being made, none is sent", async () => {
  const it = scene();
  it.begin();
  it.sockets.last.open();
  it.sockets.last.say(helloAck());
  it.abort.abort();
  await settled();
  assert.deepEqual(it.sockets.last.all("offer"), []);
  assert.deepEqual(leftovers(it.world), []);
});

test("a signal outlives its client without a listener", async () => {
  for (const end of /** @type {const} */ (["close", "disconnect"])) {
    const it = scene();
    await connected(it);
    assert.equal(it.abort.listeners.size, 1);
    it.client[end]();
    assert.equal(it.abort.listeners.size, 0);
    it.abort.abort();
    assert.deepEqual(leftovers(it.world), []);
  }
});

for (const end of /** @type {const} */ (["abort", "close", "disconnect"])) {
  test(`${end} from within any event leaves nothing`, async () => {
    for (let at = 1; ; at += 1) {
      const it = scene({ iceTransportPolicy: "all", retries: 9 });
      let heard = 0;
      const count = () => {
        heard += 1;
        if (heard !== at) return;
        if (end === "abort") it.abort.abort();
        else it.client[end]();
      };
      const names = /** @type {const} */ (["state", "change", "phase", "candidate", "pair", "track", "notice", "note", "error", "message"]);
      for (const name of names) it.client.on(name, count);
      it.begin();
      it.sockets.last?.drop();
      await it.clock.advance(500);
      it.sockets.last?.open();
      await it.greet();
      it.config();
      await settled();
      it.connections.last?.gather("candidate:1 1 udp 1 192.0.2.9 5 typ host");
      await it.become("failed");
      await it.clock.advance(500);
      await it.answer("late");
      await it.answer("a=candidate:1 1 udp 1 203.0.113.7 3479 typ host\r\n");
      it.connections.last?.ontrack?.({ streams: [{}] });
      await it.become("connected");
      it.client.start("sine-220");
      it.sockets.last?.say({ type: "generation_started" });
      it.sockets.last?.say(error("no_session", "No WebRTC session"));
      await it.clock.advance(1_000);
      await it.answer("again");
      await it.become("connected");
      await it.become("disconnected");
      await it.clock.advance(20_000);
      it.sockets.last?.drop();
      await it.clock.advance(1_000);
      it.sockets.last?.open();
      it.sockets.last?.say(error("over_capacity", "Full"));
      await it.clock.advance(20_000);
      it.sockets.last?.open();
      it.sockets.last?.say(error("unauthorized", "Bad token"));
      if (heard < at) {
        assert.ok(at > 80, `${at} events in all`);
        return;
      }
      assert.deepEqual(leftovers(it.world), [], `in event ${at}`);
      assert.equal(it.client.state, end === "disconnect" ? "idle" : "closed", `in event ${at}`);
    }
  });
}

test("ended on every change, it ends", async () => {
  for (const end of /** @type {const} */ (["close", "disconnect"])) {
    const it = scene();
    let told = 0;
    it.begin();
    it.client.on("change", () => {
      told += 1;
      assert.ok(told < 20, "it goes round");
      it.client[end]();
    });
    it.sockets.last.open();
    await it.greet();
    assert.deepEqual(leftovers(it.world), [], end);
  }
});

test("ended as soon as the path is begun, it makes none", async () => {
  for (const end of /** @type {const} */ (["close", "disconnect"])) {
    const it = scene();
    it.begin();
    it.sockets.last.open();
    it.client.on("change", ({ once }) => once && it.client[end]());
    it.sockets.last.say(helloAck());
    await settled();
    assert.equal(it.connections.made.length, 0);
    assert.deepEqual(leftovers(it.world), [], end);
  }
});

// --- connect()

/** `connect` itself, with a world of fakes around it. @param {Partial<ConnectOptions>} [options] */
function calling(options = {}) {
  const world = { clock: new FakeClock(), sockets: fakeSockets(), connections: fakeConnections(), abort: fakeAbort() };
  const promise = connect({
    url: "ws://server.example",
    token: "t",
    WebSocket: world.sockets.WebSocket,
    RTCPeerConnection: world.connections.RTCPeerConnection,
    clock: world.clock,
    random: () => 1,
    signal: world.abort.signal,
    ...options,
  });
  promise.catch(() => {});
  return { ...world, world, promise };
}

test("connect gives the client once media is there, playing what was asked for", async () => {
  /** @type {any[]} */
  const tracks = [];
  const { sockets, connections, promise } = calling({ voice: "sine-440", onTrack: (event) => tracks.push(event) });
  sockets.last.open();
  sockets.last.say(helloAck());
  await settled();
  sockets.last.say({ type: "answer", sdp: "answer" });
  await settled();
  const stream = { id: "s" };
  connections.last.ontrack?.({ streams: [stream], track: "t" });
  connections.last.become("connected");
  const client = await promise;
  assert.equal(client.state, "streaming");
  assert.deepEqual(sockets.last.all("start"), [{ type: "start", voice_id: "sine-440" }]);
  assert.deepEqual(tracks, [{ track: "t", stream }]);
});

test("what trying again cannot mend is told at once, and nothing is left", async () => {
  for (const code of ["unauthorized", "too_many_attempts", "no_relay", "bad_port_range", "unknown_model"]) {
    const { clock, sockets, world, promise } = calling();
    sockets.last.open();
    sockets.last.say(error(code, "not allowed"));
    await assert.rejects(promise, (fault) => {
      assert.ok(fault instanceof VoxcastError && fault instanceof Error);
      assert.deepEqual([fault.name, fault.code, fault.permanent, fault.verdict?.code], ["VoxcastError", code, true, code]);
      return true;
    });
    assert.deepEqual(leftovers(world), []);
    await clock.advance(600_000);
    assert.equal(sockets.made.length, 1);
  }
});

test("a server that is away is tried again, later each time, then it is said why", async () => {
  const { clock, sockets, world, promise } = calling();
  for (const wait of [500, 1_000]) {
    sockets.last.drop();
    await clock.advance(wait - 1);
    const before = sockets.made.length;
    await clock.advance(1);
    assert.equal(sockets.made.length, before + 1);
  }
  sockets.last.drop();
  await assert.rejects(promise, { code: "server_unreachable", permanent: false, message: "The server could not be reached." });
  assert.equal(sockets.made.length, 3);
  assert.deepEqual(leftovers(world), []);
});

test("a path that is not found counts as well, and retries can be chosen", async () => {
  const { clock, sockets, connections, world, promise } = calling({ retries: 0, defaultIceServers: [], iceServers: [MINE] });
  sockets.last.open();
  sockets.last.say(helloAck());
  await settled();
  connections.last.gather("candidate:1 1 udp 1 abc.local 50000 typ host");
  sockets.last.say({ type: "answer", sdp: "a=candidate:1 1 udp 1 203.0.113.7 3479 typ host\r\n" });
  sockets.last.say({ type: "ice-candidate", candidate: { candidate: "candidate:2 1 tcp 1 203.0.113.7 3479 typ host tcptype passive", sdpMid: "0", sdpMLineIndex: 0 } });
  await settled();
  connections.last.onicecandidateerror?.({ errorCode: 701, url: "turn:mine.example:3478" });
  await clock.advance(15_000);
  await assert.rejects(promise, { code: "udp_blocked_tcp_failed", message: "UDP is blocked here, and the TCP path failed too." });
  assert.deepEqual(leftovers(world), []);
});

test("a path that once stood is mended without limit", async () => {
  const it = scene({ retries: 0 });
  await connected(it);
  it.sockets.last.drop();
  it.connections.last.become("failed");
  for (let time = 0; time < 5; time += 1) {
    await it.clock.advance(15_000);
    it.sockets.last.drop();
  }
  assert.equal(it.client.state, "waiting");
  assert.ok(it.sockets.made.length > 5);
});

test("who closes or begins again before it stood is told", async () => {
  for (const end of /** @type {const} */ (["close", "disconnect", "connect"])) {
    const it = scene();
    it.begin();
    void Promise.resolve(it.client[end]()).catch(() => {});
    await settled();
    assert.equal(it.outcome.fault?.code, "closed", end);
    it.client.close();
    assert.deepEqual(leftovers(it.world), []);
  }
});

// --- answers, candidates, relays

test("an answer to the offer of a connection that is gone is not taken for the next one's", async () => {
  const it = scene({ retries: 9 });
  it.begin();
  it.sockets.last.open();
  await it.greet();
  // The browser gives the first one up before the server has answered.
  await it.become("failed");
  await it.clock.advance(500);
  assert.equal(it.sockets.last.all("offer").length, 2);
  await it.answer("stale");
  it.sockets.last.say({ type: "ice-candidate", candidate: null });
  assert.equal(it.connections.last.remoteDescription?.sdp, undefined);
  await it.answer("fresh");
  assert.equal(it.connections.last.remoteDescription?.sdp, "fresh");
  assert.deepEqual(it.connections.last.candidates, []);
});

test("a server that never answered the last offer is not misunderstood for ever", async () => {
  const it = scene({ retries: 9 });
  it.begin();
  it.sockets.last.open();
  await it.greet();
  await it.clock.advance(15_000);
  await it.clock.advance(500);
  assert.equal(it.connections.made.length, 2);
  await it.answer("fresh");
  assert.equal(it.connections.last.remoteDescription.sdp, "fresh");
});

test("an offer that the server refuses fails at once", async () => {
  const it = scene({ retries: 0 });
  it.begin();
  it.sockets.last.open();
  await it.greet();
  it.sockets.last.say(error("invalid_sdp", "Missing SDP"));
  await settled();
  assert.equal(it.outcome.fault?.code, "no_answer");
  assert.equal(it.clock.now(), 0);
});

test("a restart that got no answer before the line dropped is asked for again", async () => {
  const it = scene();
  await connected(it);
  it.sockets.last.say({ type: "ice_servers", ice_servers: [MINE] });
  await settled();
  assert.equal(it.sockets.last.all("offer").length, 2);
  it.sockets.last.drop();
  await it.clock.advance(500);
  it.sockets.last.open();
  await it.greet({ resumed: true, ice_servers: [MINE] });
  assert.deepEqual(it.sockets.last.all("offer").map(({ sdp }) => sdp), ["offer 2"]);
  await it.answer("again");
  assert.equal(it.connections.last.remoteDescription.sdp, "again");
});

test("a resumed session's configuration is taken in without another restart", async () => {
  const it = scene({ iceTransportPolicy: "all" });
  it.begin();
  it.sockets.last.open();
  await it.greet();
  it.config();
  await settled();
  await it.answer();
  await it.become("connected");
  it.sockets.last.drop();
  await it.clock.advance(500);
  it.sockets.last.open();
  await it.greet({ resumed: true });
  it.config({ ...RELAY, credential: "fresh" });
  await settled();
  assert.equal(it.connections.made.length, 1);
  assert.equal(it.connections.last.restarts, 0);
  assert.equal(it.connections.last.configuration.iceServers[0].credential, "fresh");
  it.sockets.last.say({ type: "turn_config", ...RELAY, credential: "fresher" });
  await settled();
  assert.equal(it.connections.last.restarts, 1, "what comes in mid-session is a renewal");
});

test("a renewal that names nothing usable changes nothing", async () => {
  const it = scene({ iceTransportPolicy: "udp" });
  it.begin();
  it.sockets.last.open();
  await it.greet();
  it.config();
  await settled();
  await it.answer();
  await it.become("connected");
  for (const urls of [[], ["turn:r.example?transport=tcp"]]) it.config({ ...RELAY, urls });
  it.sockets.last.say({ type: "turn_config", urls: ["turn:r.example"] });
  await settled();
  assert.equal(it.connections.last.restarts, 0);
  assert.deepEqual(it.connections.last.configuration.iceServers, [{ ...RELAY, urls: RELAY.urls.slice(0, 1) }]);
});

test("relay only, and the relay gave nothing: it is told without waiting, with the relay's own word", async () => {
  const it = scene({ iceTransportPolicy: "udp", retries: 0 });
  it.begin();
  it.sockets.last.open();
  await it.greet();
  it.config();
  await settled();
  it.connections.last.onicecandidateerror?.({ errorCode: 401, url: "turn:r.example:3478?transport=udp" });
  it.connections.last.gather(null);
  await settled();
  assert.equal(it.clock.now(), 0);
  assert.equal(it.outcome.fault?.code, "relay_refused");
  assert.deepEqual(leftovers(it.world), []);
});

test("what is to be sent goes out on lines both ways", async () => {
  const tracks = [{ kind: "audio" }, { kind: "video" }];
  const media = /** @type {MediaStream} */ (/** @type {unknown} */ ({ getTracks: () => tracks }));
  const it = scene({ apiKey: "k", model: "echo", media });
  await connected(it);
  assert.deepEqual(it.connections.last.transceivers, tracks.map((track) => ({ kind: track, direction: "sendrecv", streams: [media] })));
});

// --- diagnostics

test("what happened before anybody listened is told to the first who does", async () => {
  const it = scene({ iceTransportPolicy: "all" });
  it.begin();
  await it.clock.advance(10);
  it.sockets.last.open();
  await it.clock.advance(20);
  await it.greet();
  await it.clock.advance(30);
  it.config();
  await settled();
  it.connections.last.gather("candidate:1 1 udp 1 198.18.0.1 2000 typ relay raddr 0.0.0.0 rport 0", { relayProtocol: "tls" });
  await it.clock.advance(40);
  await it.answer("a=candidate:1 1 udp 1 203.0.113.7 3479 typ host\r\n");
  await it.clock.advance(50);
  await it.become("connected");
  /** @type {any[][]} */
  const [phases, candidates, states] = [[], [], []];
  it.client.on("phase", (event) => phases?.push(event));
  it.client.on("candidate", (event) => candidates?.push(event));
  it.client.on("state", (state) => states?.push(state));
  assert.deepEqual(phases, [
    { phase: "opening", ms: 0 },
    { phase: "greeting", ms: 10 },
    { phase: "configuring", ms: 30 },
    { phase: "offering", ms: 60 },
    { phase: "checking", ms: 100 },
    { phase: "connected", ms: 150 },
  ]);
  assert.deepEqual(candidates, [
    { side: "local", type: "relay", protocol: "udp", address: "198.18.0.1", port: 2000, relayProtocol: "tls", ms: 60 },
    { side: "remote", type: "host", protocol: "udp", address: "203.0.113.7", port: 3479, ms: 100 },
  ]);
  assert.deepEqual(states, ["connecting", "connected"]);
});

test("the selected pair is told when it changes, and figures, while somebody listens", async () => {
  const rows = (/** @type {string} */ type) => [
    ["T", { type: "transport", selectedCandidatePairId: "P" }],
    ["P", { type: "candidate-pair", localCandidateId: "L", remoteCandidateId: "R" }],
    ["L", { type: "local-candidate", candidateType: type, protocol: "udp", address: "192.0.2.9", port: 5, relayProtocol: type === "relay" ? "tls" : undefined }],
    ["R", { type: "remote-candidate", candidateType: "host", protocol: "udp", address: "192.0.2.1", port: 3479 }],
  ];
  const it = scene();
  it.begin();
  it.sockets.last.open();
  await it.greet();
  let type = "host";
  Object.assign(it.connections.last, { getStats: async () => new Map(/** @type {any} */ (rows(type))) });
  await it.answer();
  await it.become("connected");
  await it.clock.advance(5_000);
  assert.equal((await it.client.stats())?.path, "direct");
  /** @type {any[][]} */
  const [pairs, reports] = [[], []];
  const quiet = it.clock.pending;
  const leave = it.client.on("pair", (pair) => pairs?.push(pair));
  const stop = it.client.on("stats", (report) => reports?.push(report));
  await it.clock.advance(1_000);
  type = "relay";
  await it.clock.advance(1_000);
  assert.deepEqual(pairs?.map(({ path, local, ms }) => [path, local.type, local.relayProtocol, ms]), [
    ["direct", "host", null, 0],
    ["relay", "relay", "tls", 7_000],
  ]);
  assert.equal(reports?.length, 3);
  stop();
  type = "host";
  await it.clock.advance(5_000);
  assert.equal(reports?.length, 3);
  assert.deepEqual(pairs?.map(({ path }) => path), ["direct", "relay", "direct"], "also to who listens to nothing else");
  leave();
  assert.equal(it.clock.pending, quiet, "nobody is asked for nobody");
  it.client.close();
  assert.deepEqual(leftovers(it.world), []);
  assert.equal(await it.client.stats(), null);
});

test("each failed attempt tells its error, and the view keeps the verdict until it is proven wrong", async () => {
  const it = scene({ retries: 9 });
  /** @type {import("../sdk/index.js").VoxcastError[]} */
  const faults = [];
  it.client.on("error", (fault) => faults.push(fault));
  it.begin();
  it.sockets.last.drop();
  const verdict = () => it.client.view.verdict?.code ?? null;
  assert.equal(verdict(), "server_unreachable");
  await it.clock.advance(500);
  it.sockets.last.open();
  it.sockets.last.drop();
  assert.equal(verdict(), "no_greeting");
  await it.clock.advance(1_000);
  it.sockets.last.open();
  await it.greet();
  assert.equal(verdict(), null, "it was about the line");
  await it.clock.advance(15_000);
  assert.equal(verdict(), "no_answer");
  await it.clock.advance(500);
  await it.answer("a=candidate:1 1 udp 1 203.0.113.7 3479 typ host\r\n");
  it.connections.last.becomeIce("connected");
  assert.equal(verdict(), "no_answer", "nothing proves it wrong yet");
  await it.become("failed");
  assert.equal(verdict(), "dtls_failed");
  await it.clock.advance(1_000);
  await it.answer();
  await it.become("connected");
  assert.equal(verdict(), null);
  assert.deepEqual(faults.map(({ code, permanent }) => [code, permanent]), [
    ["server_unreachable", false],
    ["no_greeting", false],
    ["no_answer", false],
    ["dtls_failed", false],
  ]);
});

test("a line that is accepted and dropped before the answer does not go round for ever", async () => {
  const it = scene();
  it.begin();
  for (let time = 0; time < 3; time += 1) {
    it.sockets.last.open();
    await it.greet();
    it.sockets.last.drop();
    await it.clock.advance(500);
  }
  assert.equal(it.outcome.fault?.code, "no_answer");
  assert.deepEqual(leftovers(it.world), []);
});

// --- speech

test("texts are sent with an id, and told of by it", async () => {
  const it = scene();
  assert.throws(() => it.client.speak("early"), { code: "not_connected" });
  await connected(it);
  /** @type {any[]} */
  const heard = [];
  assert.equal(it.client.speak("Good morning"), "speak-2");
  assert.equal(it.client.speak("Good night", { voice: "sine-220", id: "mine" }), "mine");
  assert.deepEqual(it.sockets.last.all("speak"), [
    { type: "speak", text: "Good morning", id: "speak-2" },
    { type: "speak", text: "Good night", voice_id: "sine-220", id: "mine" },
  ]);
  it.sockets.last.say({ type: "speak_started", id: "speak-2" });
  it.sockets.last.say({ type: "speak_ended", id: "speak-2", seconds: 1.5, reason: "done" });
  it.client.on("message", (message) => heard.push(message));
  assert.deepEqual(heard.map(({ type }) => type), ["speak_started", "speak_ended"]);
});

test("a text that cannot be spoken does not silence the voice that plays", async () => {
  const it = scene();
  await connected(it);
  it.client.start("sine-440");
  it.client.speak("Good morning");
  /** @type {any[]} */
  const faults = [];
  it.client.on("error", ({ code }) => faults.push(code));
  it.sockets.last.say(error("engine_failed", "Speech failed: no engine"));
  assert.equal(it.client.view.wanted, "sine-440");
  assert.deepEqual(it.sockets.last.all("stop"), []);
  assert.deepEqual(faults, ["engine_failed"]);
  it.sockets.last.say(error("engine_failed", "The voice failed"));
  assert.equal(it.client.view.wanted, null, "and this was the voice");
});
