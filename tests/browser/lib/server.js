// Starts and stops the real server on free ports of this machine, and keeps what it said for failure messages.

import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const TOKEN = "a-token-for-browser-tests";
const READY_MS = 20_000;
const STOP_MS = 15_000;

/** The server that is tested. */
export function binary() {
  if (process.env.VOXCAST_BIN) return process.env.VOXCAST_BIN;
  const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../target", import.meta.url));
  const found = ["release", "debug"].map((profile) => join(target, profile, "voxcast")).find((path) => existsSync(path));
  if (!found) throw new Error(`no server in ${target}: run cargo build --release, or set VOXCAST_BIN`);
  return found;
}

/** A port number that is free for TCP and UDP alike. */
export async function freePort() {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const tcp = createServer().listen(0, "127.0.0.1");
    await once(tcp, "listening");
    const { port } = /** @type {import("node:net").AddressInfo} */ (tcp.address());
    const udp = createSocket("udp4");
    const free = await new Promise((done) => {
      udp.once("error", () => done(false));
      udp.bind(port, "127.0.0.1", () => done(true));
    });
    udp.close();
    tcp.close();
    await once(tcp, "close");
    if (free) return port;
  }
  throw new Error("no free port");
}

/** @param {Record<string, string>} [extra] further environment */
export async function startServer(extra = {}) {
  const home = await mkdtemp(join(tmpdir(), "voxcast-"));
  const [port, media, relay, turns] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const environment = {
    PATH: process.env.PATH ?? "",
    HOST: "127.0.0.1",
    PORT: String(port),
    MEDIA_PORT: String(media),
    RELAY_PORT: String(relay),
    TURNS_PORT: String(turns),
    STUN_SERVERS: "none",
    AUTH_TOKEN: TOKEN,
    ...extra,
  };
  let output = "";
  /** @type {import("node:child_process").ChildProcess | null} */
  let child = null;

  async function start() {
    // An empty folder, so that no .env file of the developer has a say.
    const started = spawn(binary(), { env: environment, cwd: home, stdio: ["ignore", "pipe", "pipe"] });
    child = started;
    for (const stream of [started.stdout, started.stderr]) stream.on("data", (text) => (output = (output + text).slice(-20_000)));
    started.on("error", (fault) => (output += String(fault)));
    const end = Date.now() + READY_MS;
    while (!(await ready())) {
      if (started.exitCode !== null || started.signalCode !== null) throw new Error(`the server ended:\n${output}`);
      if (Date.now() > end) throw new Error(`the server is not ready:\n${output}`);
      await sleep(50);
    }
  }

  async function ready() {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1_000) }).catch(() => null);
    await answer?.body?.cancel();
    return answer?.ok ?? false;
  }

  /** @param {NodeJS.Signals} [signal] */
  async function stop(signal = "SIGTERM") {
    const running = child;
    child = null;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const ended = once(running, "exit");
    running.kill(signal);
    // One that does not leave by itself is a fault of its own, but must not outlive the test.
    const patience = setTimeout(() => running.kill("SIGKILL"), STOP_MS);
    await ended;
    clearTimeout(patience);
  }

  try {
    await start();
  } catch (fault) {
    await stop("SIGKILL");
    throw fault;
  }
  return {
    port,
    url: `http://127.0.0.1:${port}/`,
    ws: `ws://127.0.0.1:${port}/ws`,
    relay,
    start,
    stop,
    close: async () => {
      await stop();
      await rm(home, { recursive: true, force: true });
    },
    get output() {
      return output;
    },
  };
}
