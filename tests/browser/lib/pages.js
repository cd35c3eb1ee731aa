// Serves the pages as the server does (same paths, same content policy) for tests of the page alone.

import { readFile } from "node:fs/promises";
import { extname, normalize } from "node:path";
import { serve } from "./origin.js";

const WEB = new URL("../../../web/", import.meta.url);
/** The server's own, word for word; speaker.test.js holds the two together. */
export const CONTENT_POLICY =
  "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/** @type {Record<string, string>} */
const PAGES = { "/": "index.html", "/room": "room.html" };
/** @type {Record<string, string>} */
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };

export function servePages() {
  return serve(async (request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://x").pathname);
    const file = PAGES[path] ?? path.replace(/^\/(assets\/)?/, "");
    try {
      const body = await readFile(new URL(file, WEB));
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "text/plain", "content-security-policy": CONTENT_POLICY });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
}
