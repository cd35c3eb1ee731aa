// A TCP path between page and server that a test can cut: the line drops while the media, which goes elsewhere, does not.

import { once } from "node:events";
import { connect, createServer } from "node:net";

/** @param {number} port where the server listens */
export async function startProxy(port) {
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  let open = true;
  const proxy = createServer((near) => {
    if (!open) {
      near.destroy();
      return;
    }
    const far = connect(port, "127.0.0.1");
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const { port: own } = /** @type {import("node:net").AddressInfo} */ (proxy.address());
  const cut = () => {
    open = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${own}/`,
    cut,
    mend: () => (open = true),
    close: async () => {
      cut();
      proxy.close();
      await once(proxy, "close");
    },
  };
}
