// What the page asks of the browser around it: a remembered name, the clipboard, files, a screen that stays on, loudspeakers. Each may be
// refused, and none is needed.

/** @typedef {import("../token.js").Store} Store */

const NAME_KEY = "voxcast.name";
/** A browser has begun to save long before. */
const SAVING_MS = 60_000;

/** @param {Store} store */
export function rememberedName(store) {
  try {
    return store.getItem(NAME_KEY) ?? "";
  } catch {
    return ""; // storage is switched off
  }
}

/** @param {Store} store @param {string} name */
export function rememberName(store, name) {
  try {
    store.setItem(NAME_KEY, name);
  } catch {
    // Then it is asked for again.
  }
}

/** Rejects where the browser does not let a page copy. @param {Clipboard | undefined} clipboard there is none where the page is not secure @param {string} text */
export async function copyText(clipboard, text) {
  if (!clipboard) throw new Error("there is no clipboard");
  await clipboard.writeText(text);
}

/** @param {Document} document @param {Blob} blob @param {string} name @param {import("../../sdk/index.js").Clock} clock */
export function saveFile(document, blob, name, clock) {
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(blob), download: name });
  link.click();
  clock.after(SAVING_MS, () => URL.revokeObjectURL(link.href));
}

/** Loudspeakers, where the browser lets a page choose one. @param {MediaDevices | undefined} media @returns {Promise<import("./choices.js").Device[]>} */
export async function loudspeakers(media) {
  if (!media || !("setSinkId" in HTMLMediaElement.prototype)) return [];
  const all = await media.enumerateDevices().catch(() => []);
  return all.filter(({ kind, label }) => kind === "audiooutput" && label !== "").map(({ deviceId, label }) => ({ id: deviceId, name: label }));
}

/**
 * Runs something again and again at this pace, also while nobody sees the page; by the clock where there is no worker.
 * @param {{ Worker: typeof globalThis.Worker | undefined, clock: import("../../sdk/index.js").Clock }} means
 * @param {number} ms
 * @param {() => void} run
 * @returns {() => void} ends it
 */
export function pace({ Worker: Kind, clock }, ms, run) {
  /** @type {unknown} */
  let timer = null;
  const byClock = () => {
    timer = clock.after(ms, () => {
      byClock();
      run();
    });
  };
  const worker = startWorker(Kind);
  const stop = () => {
    if (worker) worker.onmessage = worker.onerror = null;
    worker?.terminate();
    clock.cancel(timer);
  };
  if (worker) {
    worker.onmessage = () => {
      worker.postMessage(ms);
      run();
    };
    // Its file did not come.
    worker.onerror = () => {
      stop();
      byClock();
    };
    worker.postMessage(ms);
  } else byClock();
  return stop;
}

/** @param {typeof globalThis.Worker | undefined} Kind */
function startWorker(Kind) {
  try {
    return Kind ? new Kind(new URL("./ticks.js", import.meta.url)) : null;
  } catch {
    return null;
  }
}

/** A phone that is only watched would go dark. */
export class Awake {
  #lock;
  /** @type {WakeLockSentinel | null} */
  #held = null;
  #wanted = false;

  /** @param {WakeLock | undefined} lock */
  constructor(lock) {
    this.#lock = lock;
  }

  /** Again after each time that the page was hidden: the browser lets go by itself then. */
  async hold() {
    this.#wanted = true;
    if (this.#held && !this.#held.released) return;
    const held = (await this.#lock?.request("screen").catch(() => null)) ?? null;
    if (this.#wanted && (!this.#held || this.#held.released)) this.#held = held;
    else held?.release().catch(() => {});
  }

  release() {
    this.#wanted = false;
    this.#held?.release().catch(() => {});
    this.#held = null;
  }
}
