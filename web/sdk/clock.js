// Time, as the client uses it: the browser's clock and timers behind three words, so that tests can turn them by hand.

/**
 * @typedef {object} Clock
 * @property {() => number} now milliseconds on a clock that never steps back
 * @property {(ms: number, run: () => void) => unknown} after runs once, later; gives what `cancel` takes
 * @property {(handle: unknown) => void} cancel forgets a timer; one that ran already, or null, is fine
 */

/** @type {Clock} */
export const browserClock = {
  now: () => performance.now(),
  after: (ms, run) => setTimeout(run, ms),
  cancel: (handle) => clearTimeout(/** @type {number | undefined} */ (handle)),
};
