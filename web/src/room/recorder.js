// A recording of the room, made in the browser: pictures as a grid on a canvas, all sound mixed into one. Who comes and goes meanwhile
// changes the grid and the mix, never the file's tracks. It uploads nothing.

import { contain, layout } from "./grid.js";
import { hue, initial } from "./words.js";

/**
 * @typedef {object} Person
 * @property {string} id
 * @property {string} name
 * @property {HTMLVideoElement | null} video null where there is no picture
 * @property {MediaStreamTrack | null} sound
 */
/** @typedef {{ name: string, blob: Blob, seconds: number }} Recording */

const WIDTH = 1280;
const HEIGHT = 720;
const FPS = 24;
/** What is lost at most where the tab dies. */
const SLICE_MS = 1_000;
const GAP = 12;
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** VP8 first: it costs least, and every player of WebM knows it. @type {readonly (readonly [type: string, extension: string])[]} */
const FORMATS = [
  ["video/webm;codecs=vp8,opus", "webm"],
  ["video/webm;codecs=vp9,opus", "webm"],
  ["video/webm", "webm"],
  ["video/mp4;codecs=avc1.42E01E,mp4a.40.2", "mp4"],
  ["video/mp4", "mp4"],
];

/** The first format that this browser writes, or null. @param {(type: string) => boolean} supported */
export function chooseFormat(supported) {
  const found = FORMATS.find(([type]) => supported(type));
  return found ? { type: found[0], extension: found[1] } : null;
}

/** A name that every file system takes. @param {string} what @param {Date} at @param {string} extension */
export function fileName(what, at, extension) {
  const plain = what.normalize("NFC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "room";
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${plain}-${day}-${two(at.getHours())}${two(at.getMinutes())}${two(at.getSeconds())}.${extension}`;
}

export class Recorder {
  #MediaRecorder;
  #Context;
  #document;
  #clock;
  #pace;
  #people;
  #on;
  /** @type {Take | null} */
  #take = null;

  /**
   * @param {object} options
   * @param {typeof globalThis.MediaRecorder | undefined} options.MediaRecorder
   * @param {(new () => AudioContext) | undefined} options.AudioContext
   * @param {Document} options.document
   * @param {import("../../sdk/index.js").Clock} options.clock
   * @param {(ms: number, run: () => void) => () => void} options.pace runs something again and again until it is ended, also while nobody looks
   * @param {() => Person[]} options.people who is there now, in the order of the tiles
   * @param {(recording: Recording | null) => void} options.on one is ready, or came to nothing
   */
  constructor({ MediaRecorder, AudioContext: Context, document, clock, pace, people, on }) {
    this.#MediaRecorder = MediaRecorder;
    this.#Context = Context;
    this.#document = document;
    this.#clock = clock;
    this.#pace = pace;
    this.#people = people;
    this.#on = on;
  }

  get format() {
    const Kind = this.#MediaRecorder;
    return Kind ? chooseFormat((type) => Kind.isTypeSupported(type)) : null;
  }

  /** Milliseconds of the recording that runs, or null. */
  get elapsed() {
    return this.#take ? this.#clock.now() - this.#take.since : null;
  }

  /** Call it inside a gesture. @param {string} title of the file @param {string | null} who one person, or everybody */
  start(title, who) {
    const format = this.format;
    const Kind = this.#MediaRecorder;
    if (this.#take || !format || !Kind) return;
    const people = () => this.#people().filter(({ id }) => who === null || id === who);
    /** @type {AudioContext | null} */
    let context = null;
    /** @type {MediaStream | null} */
    let stream = null;
    try {
      const canvas = this.#document.createElement("canvas");
      Object.assign(canvas, { width: WIDTH, height: HEIGHT });
      const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
      draw(pen, people());
      context = this.#Context ? new this.#Context() : null;
      const mix = context && new Mix(context);
      mix?.sync(people());
      stream = canvas.captureStream(FPS);
      if (mix) stream.addTrack(mix.track);
      const recorder = new Kind(stream, { mimeType: format.type });
      /** @type {Take} */
      const take = { recorder, mix, stream, chunks: [], since: this.#clock.now(), name: fileName(title, new Date(), format.extension), end: () => {} };
      recorder.ondataavailable = ({ data }) => void (data.size > 0 && take.chunks.push(data));
      // An error is followed by `stop`, and what came before it is worth keeping.
      recorder.onstop = () => this.#finish(take, format.type);
      recorder.start(SLICE_MS);
      take.end = this.#pace(1000 / FPS, () => {
        const now = people();
        draw(pen, now);
        mix?.sync(now);
      });
      this.#take = take;
    } catch {
      context?.close().catch(() => {});
      for (const track of stream?.getTracks() ?? []) track.stop();
      this.#on(null);
    }
  }

  stop() {
    if (this.#take?.recorder.state !== "inactive") this.#take?.recorder.stop();
  }

  /** @param {Take} take @param {string} type */
  #finish(take, type) {
    take.end();
    take.recorder.ondataavailable = null;
    take.recorder.onstop = null;
    take.mix?.close();
    for (const track of take.stream.getTracks()) track.stop();
    const seconds = (this.#clock.now() - take.since) / 1000;
    this.#take = null;
    const blob = new Blob(take.chunks, { type: /** @type {string} */ (type.split(";")[0]) });
    this.#on(blob.size > 0 ? { name: take.name, blob, seconds } : null);
  }
}

/** @typedef {{ recorder: MediaRecorder, mix: Mix | null, stream: MediaStream, chunks: Blob[], since: number, name: string, end: () => void }} Take */

/** Everybody's sound in one track. */
class Mix {
  #context;
  #out;
  /** @type {Map<string, { track: MediaStreamTrack, source: MediaStreamAudioSourceNode | null }>} without a source where the browser gave none */
  #sources = new Map();

  /** @param {AudioContext} context */
  constructor(context) {
    this.#context = context;
    this.#out = context.createMediaStreamDestination();
    if (context.state !== "running") context.resume().catch(() => {});
    // Silence from the first moment: a track without samples would hold the file back.
    const floor = context.createConstantSource();
    floor.offset.value = 0;
    floor.connect(this.#out);
    floor.start();
  }

  get track() {
    return /** @type {MediaStreamTrack} */ (this.#out.stream.getAudioTracks()[0]);
  }

  /** @param {Person[]} people */
  sync(people) {
    const wanted = new Map(people.flatMap(({ id, sound }) => (sound?.readyState === "live" ? [[id, sound]] : [])));
    for (const [id, { track, source }] of this.#sources) {
      if (wanted.get(id) === track) continue;
      source?.disconnect();
      this.#sources.delete(id);
    }
    for (const [id, track] of wanted) {
      if (this.#sources.has(id)) continue;
      this.#sources.set(id, { track, source: this.#source(track) });
    }
  }

  /** Null in Firefox for a track of another sample rate: the others are recorded all the same. @param {MediaStreamTrack} track */
  #source(track) {
    try {
      const source = this.#context.createMediaStreamSource(new MediaStream([track]));
      source.connect(this.#out);
      return source;
    } catch {
      return null;
    }
  }

  close() {
    this.sync([]);
    this.#context.close().catch(() => {});
  }
}

/** @param {CanvasRenderingContext2D} pen @param {Person[]} people */
function draw(pen, people) {
  pen.fillStyle = "#0e1116";
  pen.fillRect(0, 0, WIDTH, HEIGHT);
  const inner = { width: WIDTH - 2 * GAP, height: HEIGHT - 2 * GAP };
  layout(people.length, inner, { gap: GAP }).forEach((place, at) => {
    const person = /** @type {Person} */ (people[at]);
    const box = { ...place, x: place.x + GAP, y: place.y + GAP };
    pen.save();
    pen.beginPath();
    pen.roundRect(box.x, box.y, box.width, box.height, 14);
    pen.clip();
    pen.fillStyle = "#171b22";
    pen.fillRect(box.x, box.y, box.width, box.height);
    if (person.video && person.video.videoWidth > 0) {
      const picture = contain({ width: person.video.videoWidth, height: person.video.videoHeight }, box);
      pen.drawImage(person.video, picture.x, picture.y, picture.width, picture.height);
    } else drawFace(pen, person.name, box);
    drawName(pen, person.name, box);
    pen.restore();
  });
}

/** @param {CanvasRenderingContext2D} pen @param {string} name @param {import("./grid.js").Place} box */
function drawFace(pen, name, { x, y, width, height }) {
  const radius = height * 0.24;
  pen.fillStyle = `hsl(${hue(name)} 45% 38%)`;
  pen.beginPath();
  pen.arc(x + width / 2, y + height / 2, radius, 0, 2 * Math.PI);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.font = `600 ${radius}px ${FONT}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(initial(name), x + width / 2, y + height / 2 + radius * 0.05);
}

/** @param {CanvasRenderingContext2D} pen @param {string} name @param {import("./grid.js").Place} box */
function drawName(pen, name, { x, y, width, height }) {
  const size = Math.max(14, Math.min(24, height * 0.07));
  pen.font = `600 ${size}px ${FONT}`;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  const text = fit(pen, name, width - 4 * size);
  const plate = pen.measureText(text).width + 1.4 * size;
  pen.fillStyle = "rgb(10 12 16 / 68%)";
  pen.beginPath();
  pen.roundRect(x + size * 0.6, y + height - size * 2.3, plate, size * 1.7, size * 0.85);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.fillText(text, x + size * 1.3, y + height - size * 1.42);
}

/** @param {CanvasRenderingContext2D} pen @param {string} text @param {number} width */
function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  const letters = [...text];
  while (letters.length > 1 && pen.measureText(`${letters.join("")}…`).width > width) letters.pop();
  return `${letters.join("")}…`;
}
