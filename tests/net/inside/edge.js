// The far end of a stand-in for an HTTP tunnel: browsers come to it by HTTPS, and what they ask goes through connections that the
// other end has dialled. It passes `Host` on and says in X-Forwarded-For who asks, as tunnels and reverse proxies do.
//
// edge.js CERT KEY ADDRESS… : each address is a tunnel of its own, port 443 for browsers, 7000 for the other end.

import { readFileSync } from "node:fs";
import { request as ask } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer } from "node:net";

/** @typedef {import("node:net").Socket} Socket */

const PATIENCE_MS = 5_000;

const [, , cert = "", key = "", ...addresses] = process.argv;
const tls = { cert: readFileSync(cert), key: readFileSync(key) };
await Promise.all(addresses.map(open));
console.log("edge ready");

/** @param {string} address */
async function open(address) {
  /** @type {Socket[]} connections that wait for a request */
  const idle = [];
  /** @type {((socket: Socket) => void)[]} requests that wait for a connection */
  const waiting = [];

  const inner = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      const at = idle.indexOf(socket);
      if (at >= 0) idle.splice(at, 1);
    });
    const next = waiting.shift();
    if (next) next(socket);
    else idle.push(socket);
  });

  /** @returns {Promise<Socket>} */
  function take() {
    const socket = idle.shift();
    if (socket) return Promise.resolve(socket);
    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => {
        waiting.splice(waiting.indexOf(got), 1);
        reject(new Error("nobody is at the other end of the tunnel"));
      }, PATIENCE_MS);
      const got = (/** @type {Socket} */ came) => {
        clearTimeout(patience);
        resolve(came);
      };
      waiting.push(got);
    });
  }

  /** The same request, as it goes on. @param {import("node:http").IncomingMessage} request @param {string} connection */
  async function pass(request, connection) {
    const socket = await take();
    const before = request.headers["x-forwarded-for"];
    const client = (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    return ask({
      createConnection: () => socket,
      method: request.method,
      path: request.url,
      headers: {
        ...request.headers,
        connection,
        "x-forwarded-for": before ? `${before}, ${client}` : client,
        "x-forwarded-proto": "https",
      },
    });
  }

  const outer = createHttpsServer(tls, async (request, response) => {
    const refuse = () => (response.headersSent ? response.destroy() : response.writeHead(502).end());
    try {
      const further = await pass(request, "close");
      further.on("error", refuse);
      further.on("response", (answer) => {
        const { connection: _, ...headers } = answer.headers;
        response.writeHead(answer.statusCode ?? 502, headers);
        answer.pipe(response);
      });
      request.pipe(further);
    } catch {
      refuse();
    }
  });
  outer.on("upgrade", async (request, near, head) => {
    near.on("error", () => near.destroy());
    try {
      const further = await pass(request, "upgrade");
      further.on("error", () => near.destroy());
      further.on("response", () => near.destroy());
      further.on("upgrade", (answer, far, first) => {
        const lines = answer.rawHeaders.flatMap((word, at) => (at % 2 ? [] : [`${word}: ${answer.rawHeaders[at + 1]}`]));
        near.write([`HTTP/1.1 101 ${answer.statusMessage}`, ...lines, "", ""].join("\r\n"));
        near.write(first);
        far.write(head);
        far.on("error", () => near.destroy());
        far.on("close", () => near.destroy());
        near.on("close", () => far.destroy());
        near.pipe(far).pipe(near);
      });
      further.end();
    } catch {
      near.destroy();
    }
  });
  await Promise.all([
    new Promise((done) => outer.listen(443, address, () => done(undefined))),
    new Promise((done) => inner.listen(7000, address, () => done(undefined))),
  ]);
}
