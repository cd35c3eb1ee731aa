// The screen in place of the camera, and back. The picker, the connection and the camera are given; it owns only the captured track.

export class Share {
  #capture;
  #send;
  #camera;
  #on;
  /** @type {MediaStreamTrack | null} */
  #track = null;
  #asking = false;
  #closed = false;

  /**
   * @param {object} options
   * @param {(() => Promise<MediaStream>) | undefined} options.capture there is none on phones
   * @param {(track: MediaStreamTrack | null) => Promise<unknown>} options.send
   * @param {() => MediaStreamTrack | null} options.camera what to come back to; null where it is off
   * @param {() => void} options.on it began or ended
   */
  constructor({ capture, send, camera, on }) {
    this.#capture = capture;
    this.#send = send;
    this.#camera = camera;
    this.#on = on;
  }

  get supported() {
    return this.#capture !== undefined;
  }

  get track() {
    return this.#track;
  }

  /** Rejects where the browser could not; a person who changed their mind is no fault. */
  async start() {
    if (!this.#capture || this.#asking || this.#track) return;
    this.#asking = true;
    try {
      const stream = await this.#capture();
      const [track] = stream.getVideoTracks();
      // The browser may have been told to stop, or the room left, while the picker was open.
      if (this.#closed || !track || track.readyState === "ended") {
        for (const one of stream.getTracks()) one.stop();
        return;
      }
      // Text must stay sharp; frames may be fewer.
      if ("contentHint" in track) track.contentHint = "detail";
      track.addEventListener("ended", this.#ended);
      this.#track = track;
      this.#on();
      await this.#send(track);
    } catch (fault) {
      if (/** @type {Error} */ (fault)?.name !== "NotAllowedError") throw fault;
    } finally {
      this.#asking = false;
    }
  }

  async stop() {
    if (!this.#track) return;
    this.#let();
    this.#on();
    await this.#send(this.#camera());
  }

  /** The room is left: nothing is sent any more. */
  close() {
    this.#closed = true;
    this.#let();
  }

  /** The browser's own stop, or the window that was shared was closed. */
  #ended = () => {
    this.stop().catch(() => {});
  };

  #let() {
    this.#track?.removeEventListener("ended", this.#ended);
    this.#track?.stop();
    this.#track = null;
  }
}
