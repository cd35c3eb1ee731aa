// Everything that stands while the matrix runs: the networks, the hosts of the open internet, a browser in each client's network;
// and a server in one of the servers' networks at a time.

import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TOKEN, binary } from "../../browser/lib/server.js";
import { makeCertificate } from "./certificate.js";
import { launchIn } from "./listener.js";
import { startIn } from "./netns.js";
import { CLIENTS, PORTS, SERVERS, STUN, TURN } from "./networks.js";
import { addHost, addNetwork, makeWorld, unmakeWorld } from "./world.js";

/** @typedef {import("./networks.js").Client} Client */
/** @typedef {import("./networks.js").Server} Server */
/** @typedef {import("./expected.js").Round} Round */
/** @typedef {import("../../browser/lib/browser.js").Browser} Browser */
/** @typedef {import("./netns.js").Running} Running */

const TURN_SECRET = "shared-with-coturn-in-tests";
export const TURN_URLS = [`turn:${TURN}:3478?transport=udp`, `turn:${TURN}:3478?transport=tcp`, `turns:${TURN}:443?transport=tcp`];

const EDGE = "edge";
const COTURN = "turn";
const STUN_HOST = "stun";
/** The namespace of a client's host. */
export const clientHost = (/** @type {Client} */ client) => `client-${client}`;
/** The namespace of a server's host. */
export const serverHost = (/** @type {Server} */ server) => `server-${server}`;

const inside = (/** @type {string} */ name) => fileURLToPath(new URL(`../inside/${name}.js`, import.meta.url));
/** Before these end this process, it takes the networks down. */
const SIGNALS = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);

/** Builds everything; `close` takes it down. */
export async function setStage() {
  if (process.getuid?.() !== 0) throw new Error("network namespaces need root: sudo make test-net");
  const folder = await mkdtemp(join(tmpdir(), "voxcast-net-"));
  process.on("exit", () => {
    unmakeWorld();
    rmSync(folder, { recursive: true, force: true });
  });
  for (const signal of SIGNALS) process.on(signal, () => process.exit(1));
  /** @type {Running[]} */
  const running = [];
  const browsers = /** @type {Record<Client, Browser>} */ ({});
  const close = async () => {
    await Promise.allSettled([...Object.values(browsers).map((browser) => browser.close()), ...running.map((one) => one.stop())]);
    unmakeWorld();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const tunnels = Object.values(SERVERS).map(({ tunnel }) => tunnel);
    const certificate = makeCertificate(folder, [TURN, ...tunnels, ...Object.values(SERVERS).map(({ address }) => address)]);
    makeWorld();
    addHost(EDGE, tunnels);
    addHost(COTURN, [TURN]);
    addHost(STUN_HOST, [...STUN]);
    for (const [client, { address, network }] of entries(CLIENTS)) {
      if (network) addNetwork(clientHost(client), network);
      else addHost(clientHost(client), [address]);
    }
    for (const [server, { address, network }] of entries(SERVERS)) {
      if (network) addNetwork(serverHost(server), network);
      else addHost(serverHost(server), [address]);
    }
    const { cert, key } = certificate;
    running.push(
      await startIn(EDGE, [process.execPath, inside("edge"), cert, key, ...tunnels], { ready: /edge ready/ }),
      await startCoturn(STUN_HOST, folder, [...STUN.flatMap((address) => ["-L", address]), "--stun-only", "--no-tls"]),
      await startCoturn(COTURN, folder, [
        ...["-L", TURN, "--tls-listening-port=443", `--cert=${cert}`, `--pkey=${key}`, "--realm=net.test", "--use-auth-secret"],
        ...[`--static-auth-secret=${TURN_SECRET}`, "--min-port=50000", "--max-port=50999"],
      ]),
    );
    for (const [client] of entries(CLIENTS)) browsers[client] = await launchIn(clientHost(client), folder);
    return { browsers, folder, certificate, close };
  } catch (fault) {
    await close();
    throw fault;
  }
}

/** @typedef {Awaited<ReturnType<typeof setStage>>} Stage */

/** @param {string} name @param {string} folder @param {string[]} options */
function startCoturn(name, folder, options) {
  const quiet = ["--no-cli", "--no-dtls", "--no-rfc5780", "--log-file=stdout", "--verbose", `--pidfile=${join(folder, name)}.pid`, `--userdb=${join(folder, name)}.db`];
  return startIn(name, ["turnserver", "-n", "-p", "3478", ...quiet, ...options], { ready: /SQLite DB connection success/, cwd: folder });
}

/**
 * A server in its network, and the near end of its tunnel.
 * @param {Stage} stage @param {Server} name @param {Round} round @param {Record<string, string>} [extra] further environment
 */
export async function startServer({ folder, certificate }, name, round, extra = {}) {
  const { address, tunnel, reachable } = SERVERS[name];
  const home = await mkdtemp(join(folder, "server-"));
  const turn = /** @type {Record<string, string>} */ (round === "coturn" ? { RELAY: "off", TURN_SECRET, TURN_URLS: TURN_URLS.join(",") } : {});
  const named = /** @type {Record<string, string>} */ (
    reachable ? { PUBLIC_IP: address, TURNS_PORT: String(PORTS.turns), TLS_CERT: certificate.cert, TLS_KEY: certificate.key } : {}
  );
  const env = {
    PORT: String(PORTS.http),
    MEDIA_PORT: String(PORTS.media),
    RELAY_PORT: String(PORTS.relay),
    AUTH_TOKEN: TOKEN,
    STUN_SERVERS: `stun:${STUN[0]}:3478`,
    // The authority that signed coturn's certificate.
    SSL_CERT_FILE: certificate.authority,
    LOG: "debug",
    ...named,
    ...turn,
    ...extra,
  };
  const server = await startIn(serverHost(name), [binary()], { env, cwd: home, ready: /./ });
  const own = `${reachable ? "https" : "http"}://127.0.0.1:${PORTS.http}/`;
  const agent = await startIn(serverHost(name), [process.execPath, inside("agent"), tunnel, own], { ready: /agent ready/ }).catch(async (fault) => {
    await server.stop();
    throw new Error(`${fault}\n--- server\n${server.output}`, { cause: fault });
  });
  return {
    tunnel: `https://${tunnel}/`,
    /** How a client gets to the page: directly where it may, else through the tunnel. */
    urlFor: (/** @type {Client} */ client) => (name === "public" && client !== "only-443" ? `https://${address}:${PORTS.http}/` : `https://${tunnel}/`),
    get output() {
      return server.output;
    },
    stop: () => Promise.allSettled([agent.stop(), server.stop()]),
  };
}

/** @typedef {Awaited<ReturnType<typeof startServer>>} Serving */

/** The pairs of a record, their keys as narrow as they were. @template {string} K @template V @param {Record<K, V>} record */
export function entries(record) {
  return /** @type {[K, V][]} */ (Object.entries(record));
}
