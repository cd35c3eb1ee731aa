// The tracks that come from one person: in their stream while something comes, and out of it when nothing does. It stops none.

/** Tracks that are shown of one person. */
const TRACKS = 16;

export class RoomTracks {
  #stream;
  #on;
  /** @type {Map<MediaStreamTrack, () => void>} those that were offered, and what lets go of them */
  #tracks = new Map();

  /**
   * @param {object} options
   * @param {MediaStream} options.stream one and the same for life
   * @param {{ track: (track: MediaStreamTrack) => void, untrack: (track: MediaStreamTrack) => void }} options.on
   */
  constructor({ stream, on }) {
    this.#stream = stream;
    this.#on = on;
  }

  /** A line that nobody sends on is muted, and shown by nobody. @param {MediaStreamTrack} track */
  add(track) {
    if (this.#tracks.has(track) || this.#tracks.size >= TRACKS) return;
    const shown = () => this.#show(track, !track.muted);
    const ended = () => this.#forget(track);
    track.addEventListener("mute", shown);
    track.addEventListener("unmute", shown);
    track.addEventListener("ended", ended);
    this.#tracks.set(track, () => {
      track.removeEventListener("mute", shown);
      track.removeEventListener("unmute", shown);
      track.removeEventListener("ended", ended);
    });
    shown();
  }

  /** The connection that they came through is gone. */
  reset() {
    for (const track of [...this.#tracks.keys()]) this.#forget(track);
  }

  /** @param {MediaStreamTrack} track @param {boolean} visible */
  #show(track, visible) {
    if (this.#stream.getTracks().includes(track) === visible) return;
    if (visible) this.#stream.addTrack(track);
    else this.#stream.removeTrack(track);
    if (visible) this.#on.track(track);
    else this.#on.untrack(track);
  }

  /** @param {MediaStreamTrack} track */
  #forget(track) {
    this.#tracks.get(track)?.();
    this.#tracks.delete(track);
    this.#show(track, false);
  }
}
