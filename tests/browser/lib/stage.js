// What all tests of one file share: a browser, and the server or the origin that its pages come from.

import { after, before } from "node:test";
import { launch } from "./browser.js";

/** More than a cold browser and a cold server need. */
const PATIENCE_MS = 60_000;

/**
 * Both are there once the first test runs, and gone after the last.
 * @template {{ close: () => Promise<unknown> }} T
 * @param {() => Promise<T>} start
 */
export function setStage(start) {
  const stage = /** @type {{ browser: import("./browser.js").Browser, server: T }} */ ({});
  before(async () => {
    // Each on its own, so that one that fails does not leave the other behind.
    const [browser, server] = await Promise.allSettled([
      launch().then((it) => (stage.browser = it)),
      start().then((it) => (stage.server = it)),
    ]);
    for (const one of [browser, server]) if (one.status === "rejected") throw one.reason;
  }, { timeout: PATIENCE_MS });
  after(async () => {
    await Promise.allSettled([stage.browser?.close(), stage.server?.close()]);
  }, { timeout: PATIENCE_MS });
  return stage;
}
