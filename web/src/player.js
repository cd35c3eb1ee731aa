// The audio element and the browser's rules about who may make a noise. It knows nothing of the network.

/** @typedef {"silent" | "playing" | "blocked"} State */

export class Player {
  #element;
  #on;
  /** @type {State} */
  #state = "silent";
  #wanted = false;

  /**
   * @param {object} options
   * @param {HTMLAudioElement} options.element
   * @param {(state: State) => void} options.on
   */
  constructor({ element, on }) {
    this.#element = element;
    this.#on = on;
  }

  /** @param {MediaStream} stream */
  attach(stream) {
    if (this.#element.srcObject !== stream) this.#element.srcObject = stream;
    if (this.#wanted) this.play();
  }

  /** Call it inside a gesture: that is what lets this very element play, now and later. */
  play() {
    this.#wanted = true;
    this.#element.play().then(
      () => this.#enter(this.#wanted ? "playing" : "silent"),
      (fault) => {
        // AbortError only says that another stream came in between; its own play() follows.
        if (this.#wanted && fault?.name === "NotAllowedError") this.#enter("blocked");
      },
    );
  }

  stop() {
    this.#wanted = false;
    this.#enter("silent");
  }

  get state() {
    return this.#state;
  }

  /** @param {State} state */
  #enter(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#on(state);
  }
}
