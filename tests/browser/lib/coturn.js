// An outside TURN server on this machine: coturn, with a secret that it shares with our own server.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./server.js";

const SECRET = "shared-by-the-two";
const READY_MS = 10_000;

export async function startCoturn() {
  const [home, port] = await Promise.all([mkdtemp(join(tmpdir(), "voxcast-coturn-")), freePort()]);
  const flags = ["-n", "-L", "127.0.0.1", "-p", String(port), "--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--realm=test.local"];
  const more = ["--use-auth-secret", `--static-auth-secret=${SECRET}`, "--min-port=51000", "--max-port=51999", "--log-file=stdout", `--pidfile=${home}/pid`];
  let output = "";
  /** @type {import("node:child_process").ChildProcess | null} */
  let child = null;

  async function start() {
    const started = spawn("turnserver", [...flags, ...more], { cwd: home, stdio: ["ignore", "pipe", "pipe"] });
    child = started;
    for (const stream of [started.stdout, started.stderr]) stream.on("data", (text) => (output = (output + text).slice(-20_000)));
    started.on("error", (fault) => (output += String(fault)));
    const end = Date.now() + READY_MS;
    while (!(await answers())) {
      if (started.exitCode !== null) throw new Error(`coturn ended:\n${output}`);
      if (Date.now() > end) throw new Error(`coturn is not ready:\n${output}`);
      await sleep(20);
    }
  }

  async function answers() {
    const socket = connect(port, "127.0.0.1");
    const open = await new Promise((done) => {
      socket.once("connect", () => done(true));
      socket.once("error", () => done(false));
    });
    socket.destroy();
    return open;
  }

  async function kill() {
    const running = child;
    child = null;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const ended = once(running, "exit");
    running.kill("SIGKILL");
    await ended;
  }

  await start();
  return {
    /** What our server must be told. */
    environment: { TURN_SECRET: SECRET, TURN_URLS: `turn:127.0.0.1:${port}?transport=udp,turn:127.0.0.1:${port}?transport=tcp` },
    start,
    kill,
    close: async () => {
      await kill();
      await rm(home, { recursive: true, force: true });
    },
    get output() {
      return output;
    },
  };
}
