// When to try again: exponential backoff with full jitter, bounded. It keeps no timer and knows nothing of sockets.

/** The widest first wait: short, because most losses are a blink. */
const FIRST_MS = 500;
/** The widest wait of all: a person who looks at the page should not have to wait longer. */
const LONGEST_MS = 15_000;
/** An address is locked out for no longer than this. */
const LOCKED_MS = 60_000;

export class Retry {
  #random;
  #first;
  #longest;
  #attempts = 0;

  /** @param {{ random?: () => number, first?: number, longest?: number }} [options] */
  constructor({ random = Math.random, first = FIRST_MS, longest = LONGEST_MS } = {}) {
    this.#random = random;
    this.#first = first;
    this.#longest = longest;
  }

  /** How long to wait before the next attempt. The whole span is drawn from, so that a crowd does not come back at once. */
  next() {
    // 2^16 times anything is beyond the bound; the exponent itself must not run away.
    const widest = Math.min(this.#longest, this.#first * 2 ** Math.min(this.#attempts, 16));
    this.#attempts += 1;
    return Math.round(this.#random() * widest);
  }

  /** Forgets the failures: call it when an attempt succeeded. */
  reset() {
    this.#attempts = 0;
  }
}

/** How long `too_many_attempts` locks our address out, as its text says, or as long as it can be. @param {string} text */
export function lockedMs(text) {
  const seconds = Number(/\b(\d+) s\b/.exec(text)?.[1] ?? NaN);
  return Number.isNaN(seconds) ? LOCKED_MS : Math.min(LOCKED_MS, seconds * 1_000);
}
