// What is read from the server: every good message, and every way in which one can be bad.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { read } from "../sdk/wire.js";
import { helloAck } from "./fakes.js";

/** @type {(side: string) => Record<string, any>} */
const golden = (side) => JSON.parse(readFileSync(new URL(`../../src/tests/golden/${side}.json`, import.meta.url), "utf8"));

test("every golden message of the server is understood", () => {
  for (const [name, message] of Object.entries(golden("server"))) {
    assert.deepEqual(read(JSON.stringify(message)), { message, fault: null }, name);
  }
});

test("a message that lacks any one of its golden fields is refused", () => {
  const fields = ["error.error", "session_id.server_ip", "session_id.server_port", "turn_config.username", "turn_config.credential"];
  const optional = new Set(fields);
  for (const [name, message] of Object.entries(golden("server"))) {
    for (const field of Object.keys(message)) {
      const { [field]: _, ...rest } = message;
      if (optional.has(`${message.type}.${field}`) || message[field] === null) continue;
      if (field === "error" && message.type.endsWith("_ack")) continue;
      assert.notEqual(read(JSON.stringify(rest)).fault, null, `${name} without ${field}`);
    }
  }
});

test("unknown fields are ignored", () => {
  assert.equal(read(JSON.stringify({ type: "pong", more: [1] })).fault, null);
});

test("what is malformed is named, not thrown", () => {
  const bad = {
    "a binary frame": new ArrayBuffer(3),
    "not JSON": "{",
    "no type": "[]",
    "unknown type dance": '{"type":"dance"}',
    "unknown type toString": '{"type":"toString"}',
    "answer with a wrong sdp": '{"type":"answer","sdp":7}',
    "ice-candidate with a wrong candidate": '{"type":"ice-candidate","candidate":"x"}',
    "turn_config with a wrong urls": '{"type":"turn_config","urls":"turn:x","username":"u","credential":"c"}',
    "generation_tick with a wrong seconds": '{"type":"generation_tick","seconds":"1"}',
  };
  for (const [fault, frame] of Object.entries(bad)) assert.deepEqual(read(frame), { message: null, fault });
  for (const text of ["null", "7", '"pong"', '{"type":7}', "{}"]) assert.equal(read(text).fault, "no type");
});

test("a greeting with a broken part is refused whole", () => {
  const bad = [
    { voices: [{ id: "a", name: "A" }] },
    { voices: {} },
    { ice_servers: [{ urls: [] }] },
    { ice_servers: [{ urls: [1] }] },
    { ice_servers: [{ urls: "turn:x", username: 1 }] },
    { session_id: 1 },
    { resumed: "no" },
  ];
  for (const change of bad) assert.notEqual(read(JSON.stringify(helloAck(change))).fault, null, JSON.stringify(change));
  const good = [{ ice_servers: [{ urls: "stun:x", username: null }] }, { ice_servers: [{ urls: ["turn:x"], username: "u", credential: "c" }] }];
  for (const change of good) assert.equal(read(JSON.stringify(helloAck(change))).fault, null, JSON.stringify(change));
});

test("messages that only other clients ask for are understood too", () => {
  const messages = [
    { type: "session_id", session_id: "x", server_ip: "192.0.2.1", server_port: 3479 },
    { type: "turn_config", urls: ["turn:192.0.2.1"], username: "u", credential: "c" },
    { type: "turn_config", urls: [] },
    { type: "turn_config", urls: ["stun:192.0.2.1"], username: null, credential: null },
    { type: "ice_servers", ice_servers: [] },
    { type: "generation_started" },
    { type: "generation_tick", seconds: 10 },
    { type: "generation_ended", seconds: 10.5, reason: "stopped" },
    { type: "speak_started", id: "1" },
    { type: "speak_ended", id: "1", seconds: 2, reason: "done" },
    { type: "prompt_ack", prompt: "hi", success: true, error: null },
    { type: "set_image_ack", success: true, error: null },
  ];
  for (const message of messages) assert.deepEqual(read(JSON.stringify(message)).message, message);
});
