// Listeners by name. What comes before anybody listens is kept, within bounds, and handed to the first who does.

/** Far more than an attempt to connect says. */
const KEPT = 256;

/** @typedef {(event: any) => void} Listener */

/** @template {Record<string, any>} Shapes by event name */
export class Events {
  /** Names whose events are delivered and not kept: from the first listener on. */
  #direct;
  /** @type {Map<keyof Shapes, Set<Listener>>} */
  #listeners = new Map();
  /** @type {Map<keyof Shapes, unknown[]>} */
  #kept = new Map();

  /** @param {(keyof Shapes)[]} fleeting events of which only the newest matters, so that none is kept */
  constructor(fleeting) {
    this.#direct = new Set(fleeting);
  }

  /**
   * @template {keyof Shapes} Name
   * @param {Name} name
   * @param {(event: Shapes[Name]) => void} listener
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    if (this.#direct.has(name)) return;
    // What is emitted meanwhile is kept too, and comes after them. A listener that ends itself leaves the rest to the next.
    const kept = this.#kept.get(name) ?? [];
    while (kept.length > 0 && listeners.has(listener)) call(listener, kept.shift());
    if (kept.length > 0) return;
    this.#kept.delete(name);
    this.#direct.add(name);
  }

  /** @param {keyof Shapes} name @param {Listener} listener */
  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
  }

  /** @param {keyof Shapes} name */
  has(name) {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }

  /**
   * @template {keyof Shapes} Name
   * @param {Name} name
   * @param {Shapes[Name]} event
   */
  emit(name, event) {
    if (this.#direct.has(name)) for (const listener of [...(this.#listeners.get(name) ?? [])]) call(listener, event);
    else this.#keep(name, event);
  }

  clear() {
    this.#listeners.clear();
    this.#kept.clear();
  }

  /** @param {keyof Shapes} name @param {unknown} event */
  #keep(name, event) {
    const kept = this.#kept.get(name) ?? [];
    kept.push(event);
    if (kept.length > KEPT) kept.shift();
    this.#kept.set(name, kept);
  }
}

/** A listener's fault is its own: it is reported as uncaught, and stops nothing here. @param {Listener} listener @param {unknown} event */
function call(listener, event) {
  try {
    listener(event);
  } catch (fault) {
    queueMicrotask(() => {
      throw fault;
    });
  }
}
