// Another origin on this machine: serves the test's own documents, as a page of somebody else's would come.

import { once } from "node:events";
import { createServer } from "node:http";

/** @param {Record<string, { type: string, body: string }>} files by path */
export async function serveFiles(files) {
  return serve((request, response) => {
    const file = files[new URL(request.url ?? "/", "http://x").pathname];
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": file.type }).end(file.body);
  });
}

/** Serves on a free port of this machine. @param {import("node:http").RequestListener} handle */
export async function serve(handle) {
  const server = createServer(handle);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
