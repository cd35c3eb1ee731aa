// The people as tiles: picture or initial, name, who is heard, who is in front. It decides nothing about media.

import { element, part, say, stamp } from "./dom.js";
import { layout, spotlight } from "./grid.js";
import { hue, initial } from "./words.js";

/** @typedef {import("./grid.js").Place} Place */
/**
 * @typedef {object} Seat
 * @property {string} name
 * @property {boolean} own
 * @property {HTMLElement} box
 * @property {HTMLVideoElement} video
 * @property {MediaStream} stream
 * @property {Eye} eye
 */

const LOOK_MS = 500;
/**
 * A camera that is switched off is told by its track; this is for senders that replace it by nothing and say nothing. Long, because not every
 * browser repeats a screen that stands still.
 */
const STALE_MS = 15_000;

/** What the number of frames over time means: pure, told the time. */
export class Eye {
  #frames = 0;
  #movedAt = -Infinity;
  #counts = false;

  /** Whether it moves. Firefox, and Safari for long, count no frames of a stream: there nothing speaks against it. @param {number} frames @param {number} now */
  see(frames, now) {
    if (frames !== this.#frames) {
      this.#counts = true;
      this.#frames = frames;
      this.#movedAt = now;
    }
    return !this.#counts || now - this.#movedAt < STALE_MS;
  }
}

export class Tiles {
  #document;
  #clock;
  #on;
  #list;
  #stage;
  /** @type {Map<string, Seat>} in the order in which they are shown; oneself last */
  #seats = new Map();
  /** @type {string | null} */
  #front = null;
  /** @type {Place[]} */
  #places = [];
  #watcher;
  #sink = "";
  /** @type {unknown} */
  #timer;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {import("../../sdk/index.js").Clock} options.clock
   * @param {{ placed: () => void, blocked: () => void }} options.on
   */
  constructor({ document, clock, on }) {
    this.#document = document;
    this.#clock = clock;
    this.#on = on;
    this.#list = element(document, "tiles");
    this.#stage = element(document, "stage");
    this.#watcher = new ResizeObserver(() => this.#place());
    this.#watcher.observe(this.#stage);
    this.#timer = clock.after(LOOK_MS, () => this.#look());
  }

  /** @param {string} id @param {{ name: string, own: boolean, stream: MediaStream }} person */
  add(id, { name, own, stream }) {
    if (this.#seats.has(id)) return;
    const form = stamp(this.#document, "seat-form");
    const box = /** @type {HTMLElement} */ (part(form, ".seat"));
    const video = /** @type {HTMLVideoElement} */ (part(form, "video"));
    box.dataset.own = String(own);
    box.style.setProperty("--hue", String(hue(name)));
    say(part(box, ".who"), own ? `${name} (you)` : name);
    say(part(box, ".face span"), initial(name));
    const hit = /** @type {HTMLButtonElement} */ (part(box, ".seat-hit"));
    hit.ariaLabel = `Enlarge ${own ? "yourself" : name}`;
    hit.addEventListener("click", () => this.bring(this.#front === id ? null : id));
    // Nobody wants to hear themselves.
    video.muted = own;
    video.srcObject = stream;
    this.#listenOn(video);
    /** @type {Seat} */
    const seat = { name, own, box, video, stream, eye: new Eye() };
    const last = [...this.#seats].find(([, other]) => other.own);
    // Oneself stays at the end, so that others do not move when one looks for them.
    if (last) {
      this.#seats.delete(last[0]);
      this.#seats.set(id, seat).set(last[0], last[1]);
      this.#list.insertBefore(box, last[1].box);
    } else {
      this.#seats.set(id, seat);
      this.#list.append(box);
    }
    this.play(id);
    this.refresh(id);
    this.#place();
  }

  /** @param {string} id */
  remove(id) {
    const seat = this.#seats.get(id);
    if (!seat) return;
    const focused = seat.box.contains(this.#document.activeElement);
    seat.video.srcObject = null;
    seat.box.remove();
    this.#seats.delete(id);
    if (this.#front === id) this.bring(null);
    this.#place();
    if (focused) /** @type {HTMLElement | null} */ (this.#list.querySelector(".seat-hit"))?.focus();
  }

  clear() {
    for (const id of [...this.#seats.keys()]) this.remove(id);
  }

  /** Makes one large, or none. @param {string | null} id */
  bring(id) {
    this.#front = id !== null && this.#seats.has(id) ? id : null;
    for (const [other, { box, own, name }] of this.#seats) {
      const large = other === this.#front;
      const hit = /** @type {HTMLButtonElement} */ (part(box, ".seat-hit"));
      hit.ariaPressed = String(large);
      hit.ariaLabel = `${large ? "Shrink" : "Enlarge"} ${own ? "yourself" : name}`;
      box.dataset.front = String(large);
    }
    this.#place();
  }

  /** Its tracks came or went, or it shows something else. @param {string} id */
  refresh(id) {
    const seat = this.#seats.get(id);
    if (seat) this.#judge(seat);
  }

  /** @param {string} id @param {"camera" | "screen"} what */
  shows(id, what) {
    const seat = this.#seats.get(id);
    if (seat) seat.box.dataset.shows = what;
    this.refresh(id);
  }

  /** A short word on the tile. @param {string} id @param {string} word */
  word(id, word) {
    const seat = this.#seats.get(id);
    if (seat) say(part(seat.box, ".how"), word);
  }

  /** @param {string} id @param {boolean} silent */
  hush(id, silent) {
    const seat = this.#seats.get(id);
    if (seat) seat.box.dataset.silent = String(silent);
  }

  /** @param {string} id @param {boolean} speaking */
  speak(id, speaking) {
    const seat = this.#seats.get(id);
    if (seat && seat.box.dataset.speaking !== String(speaking)) seat.box.dataset.speaking = String(speaking);
  }

  /** Call it inside a gesture where the browser wanted one. @param {string} [id] all, unless told */
  play(id) {
    for (const [other, { video }] of this.#seats) {
      if (id !== undefined && other !== id) continue;
      video.play().catch((fault) => fault?.name === "NotAllowedError" && this.#on.blocked());
    }
  }

  /** Where sound comes out, for all and for who comes later. @param {string} sink */
  listenOn(sink) {
    this.#sink = sink;
    for (const { video } of this.#seats.values()) this.#listenOn(video);
  }

  get count() {
    return this.#seats.size;
  }

  /** Who is there, for a recording: it goes on while nobody sees the tiles, so frames that are not drawn say nothing about a picture. */
  get people() {
    return [...this.#seats].map(([id, seat]) => ({
      id,
      name: seat.name,
      video: hasPicture(seat) ? seat.video : null,
      sound: seat.stream.getAudioTracks().find(({ readyState }) => readyState === "live") ?? null,
    }));
  }

  /** What pointers are measured by: the tile in front, else the whole stage. @returns {Place} within the stage */
  get surface() {
    const at = [...this.#seats.keys()].indexOf(this.#front ?? "");
    const front = this.#front === null ? undefined : this.#places[at];
    return front ?? { x: 0, y: 0, width: this.#stage.clientWidth, height: this.#stage.clientHeight };
  }

  close() {
    this.clear();
    this.#watcher.disconnect();
    this.#clock.cancel(this.#timer);
  }

  #place() {
    const box = { width: this.#stage.clientWidth, height: this.#stage.clientHeight };
    if (box.width === 0) return;
    const ids = [...this.#seats.keys()];
    const front = this.#front === null ? -1 : ids.indexOf(this.#front);
    this.#places = front < 0 ? layout(ids.length, box) : spotlight(ids.length, front, box);
    [...this.#seats.values()].forEach(({ box: seat }, at) => {
      const { x, y, width, height } = /** @type {Place} */ (this.#places[at]);
      Object.assign(seat.style, { transform: `translate(${x}px, ${y}px)`, width: `${width}px`, height: `${height}px` });
      seat.dataset.size = width < 150 ? "tiny" : width < 320 ? "small" : "large";
    });
    this.#on.placed();
  }

  #look() {
    this.#timer = this.#clock.after(LOOK_MS, () => this.#look());
    // Nothing is drawn in a tab that nobody sees, so nothing can be told from it.
    if (this.#document.visibilityState === "visible") for (const seat of this.#seats.values()) this.#judge(seat);
  }

  /** @param {Seat} seat */
  #judge(seat) {
    const moves = seat.eye.see(seat.video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0, this.#clock.now());
    seat.box.dataset.picture = String(hasPicture(seat) && (seat.own || moves));
  }

  /** @param {HTMLVideoElement} video */
  #listenOn(video) {
    if ("setSinkId" in video) video.setSinkId(this.#sink).catch(() => {});
  }
}

/** Whether there is something to see, as far as the track and its first frame say. @param {Seat} seat */
function hasPicture({ own, stream, video }) {
  const track = stream.getVideoTracks().find(({ readyState }) => readyState === "live");
  return track !== undefined && (own || !track.muted) && video.videoWidth > 0;
}
