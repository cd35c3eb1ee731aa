// Where the token comes from and how long it is kept: the address bar once, this tab, or this device if a person says so.

/** @typedef {Pick<Storage, "getItem" | "setItem" | "removeItem">} Store */

const KEY = "voxcast.token";

export class TokenStore {
  #location;
  #history;
  #tab;
  #device;

  /**
   * @param {object} options
   * @param {Pick<Location, "hash" | "pathname" | "search">} options.location
   * @param {Pick<History, "replaceState" | "state">} options.history
   * @param {Store} options.tab forgotten when the tab is closed
   * @param {Store} options.device stays
   */
  constructor({ location, history, tab, device }) {
    this.#location = location;
    this.#history = history;
    this.#tab = tab;
    this.#device = device;
  }

  /** The token to begin with, or null. One in the address bar wins, and leaves it: nobody shall copy it by accident. */
  take() {
    const given = new URLSearchParams(this.#location.hash.slice(1)).get("token");
    if (given !== null) {
      this.#history.replaceState(this.#history.state, "", this.#location.pathname + this.#location.search);
      if (given.trim()) return given.trim();
    }
    return read(this.#tab) ?? read(this.#device);
  }

  /** Keeps a token that the server accepted. @param {string} token @param {boolean} onDevice */
  keep(token, onDevice) {
    write(this.#tab, token);
    write(this.#device, onDevice ? token : null);
  }

  /** The person left: this tab does not come back by itself. */
  leave() {
    write(this.#tab, null);
  }

  forget() {
    write(this.#tab, null);
    write(this.#device, null);
  }

  /** Whether this device holds a token. */
  get remembered() {
    return read(this.#device) !== null;
  }
}

/**
 * What to ask with where nobody gave a token: a server that runs on this very machine takes `devtoken`, unless another was set. Nothing elsewhere:
 * it would count as a wrong guess.
 * @param {string} token
 * @param {string} hostname
 */
export function orDevToken(token, hostname) {
  return token || (/^(localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname) ? "devtoken" : "");
}

/** Storage throws where a person switched it off; then nothing is kept. @param {Store} store */
function read(store) {
  try {
    return store.getItem(KEY);
  } catch {
    return null;
  }
}

/** @param {Store} store @param {string | null} token */
function write(store, token) {
  try {
    if (token === null) store.removeItem(KEY);
    else store.setItem(KEY, token);
  } catch {
    // Kept in the field until the page is closed; that is all there is.
  }
}
