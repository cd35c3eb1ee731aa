// Time, as the client uses it: the browser's clock and timers behind three words, so that tests can turn them by hand.

/** @typedef {import("./index.js").Clock} Clock */

/** @type {Clock} */
export const browserClock = {
  now: () => performance.now(),
  after: (ms, run) => setTimeout(run, ms),
  cancel: (handle) => clearTimeout(/** @type {number | undefined} */ (handle)),
};
