// People in a real room: each a browser profile of its own with a picture and a tone by which they are told apart, and what each sees and hears of the others.

import { freshPage, reach } from "./browser.js";
import { TOKEN } from "./server.js";

/** @typedef {import("./browser.js").Page} Page */
/** @typedef {{ hz: number, db: number, frames: number, width: number, height: number, seen: boolean, how: string, colour: string }} Impression what one perceives of another */
/** @typedef {{ name: string, page: Page, context: import("../../../web/node_modules/playwright-core/index.d.ts").BrowserContext, faults: string[], notes: string[] }} Person */
/**
 * @typedef {object} Looks
 * @property {number} hz the tone; told apart by 100 Hz at least
 * @property {number} [hue]
 * @property {[width: number, height: number]} [size]
 * @property {number} [fps]
 */

/** Runs in the page before its scripts: keeps every connection for figures. */
function keepConnections() {
  const Real = RTCPeerConnection;
  /** @type {RTCPeerConnection[]} */
  const connections = [];
  Object.assign(window, { connections });
  window.RTCPeerConnection = class extends Real {
    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration) {
      super(configuration);
      connections.push(this);
    }
  };
}

/** Runs in the page before its scripts: a camera and a microphone that are made up. @param {Looks} looks */
function madeUp({ hz, hue = hz % 360, size: [width, height] = [160, 90], fps = 8 }) {
  navigator.mediaDevices.getUserMedia = async ({ audio, video } = {}) => {
    const stream = new MediaStream();
    if (audio) {
      const context = new AudioContext();
      const wave = new OscillatorNode(context, { frequency: hz });
      const gain = new GainNode(context, { gain: 0.2 });
      const out = context.createMediaStreamDestination();
      wave.connect(gain).connect(out);
      wave.start();
      stream.addTrack(/** @type {MediaStreamTrack} */ (out.stream.getAudioTracks()[0]));
    }
    if (video) {
      const canvas = Object.assign(document.createElement("canvas"), { width, height });
      const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
      let turn = 0;
      setInterval(() => {
        pen.fillStyle = `hsl(${hue} 60% 45%)`;
        pen.fillRect(0, 0, width, height);
        pen.fillStyle = "#fff";
        pen.fillRect(((turn += 1) * width) / 16 % width, height / 3, width / 16, height / 3);
      }, 1000 / fps);
      stream.addTrack(/** @type {MediaStreamTrack} */ (canvas.captureStream(fps).getVideoTracks()[0]));
    }
    return stream;
  };
}

/**
 * A page in front of the room's door.
 * @param {import("./browser.js").Browser} browser
 * @param {{ url: string }} server
 * @param {string} name
 * @param {{ room?: string, looks?: Looks, query?: string, context?: import("./browser.js").ContextOptions, before?: () => void }} [options] without `looks`: the browser's own devices
 * @returns {Promise<Person>}
 */
export async function knock(browser, server, name, { room = "Blue", looks, query = "", context: more = {}, before } = {}) {
  const { page, context, faults, notes } = await freshPage(browser, more);
  await page.addInitScript(keepConnections);
  if (looks) await page.addInitScript(madeUp, looks);
  if (before) await page.addInitScript(before);
  await page.goto(`${server.url}room?room=${encodeURIComponent(room)}${query}#token=${encodeURIComponent(TOKEN)}`);
  await reach(page, "door");
  await page.fill("#name", name);
  return { name, page, context, faults, notes };
}

/** @param {Parameters<typeof knock>} where @returns {Promise<Person>} */
export async function walkIn(...where) {
  const person = await knock(...where);
  await enter(person);
  return person;
}

/** @param {Person} person */
export async function enter({ page }) {
  // What is wanted of the devices is there, or refused, before one goes in.
  await page.waitForFunction(() => document.querySelector("#preview:not([hidden]), #door-fault:not([hidden])") !== null);
  await page.click("#enter");
  await reach(page, "joined");
}

/** Behind More where the screen is narrow. @param {Person} person @param {string} pane */
export async function openPane({ page }, pane) {
  if (!(await page.locator(`#${pane}`).isVisible())) await page.click("#more");
  await page.click(`#${pane}`);
  await page.waitForSelector(`#panel-${pane}:not([hidden])`);
}

/** Runs in the page. @returns {Record<string, Impression>} by name, without oneself */
function perceive() {
  const kept = /** @type {any} */ (window);
  kept.senses ??= { context: new AudioContext(), ears: new Map() };
  const { context, ears } = kept.senses;
  /** @param {HTMLVideoElement} video */
  const colourOf = (video) => {
    if (video.videoWidth === 0) return "";
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    // A strip at the top, where nothing moves.
    pen.drawImage(video, 0, 0, video.videoWidth, video.videoHeight / 8, 0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => Math.round(part / 32)).join(" ");
  };
  /** @param {MediaStreamTrack | undefined} track */
  const toneOf = (track) => {
    if (!track) return { hz: 0, db: -Infinity };
    let ear = ears.get(track.id);
    if (!ear || ear.track !== track) {
      ear = { track, source: context.createMediaStreamSource(new MediaStream([track])), analyser: new AnalyserNode(context, { fftSize: 16_384, smoothingTimeConstant: 0 }) };
      ear.source.connect(ear.analyser);
      ears.set(track.id, ear);
    }
    const wave = new Float32Array(16_384);
    ear.analyser.getFloatTimeDomainData(wave);
    const spectrum = new Float32Array(ear.analyser.frequencyBinCount);
    ear.analyser.getFloatFrequencyData(spectrum);
    const loudest = spectrum.indexOf(Math.max(...spectrum));
    return { hz: (loudest * context.sampleRate) / 16_384, db: 10 * Math.log10(wave.reduce((sum, sample) => sum + sample * sample, 0) / wave.length) };
  };
  return Object.fromEntries(
    [...document.querySelectorAll('.seat:not([data-own="true"])')].map((seat) => {
      const video = /** @type {HTMLVideoElement} */ (seat.querySelector("video"));
      const stream = /** @type {MediaStream} */ (video.srcObject);
      const seen = /** @type {HTMLElement} */ (seat).dataset.picture === "true";
      const figures = { frames: video.getVideoPlaybackQuality().totalVideoFrames, width: video.videoWidth, height: video.videoHeight, seen, colour: colourOf(video) };
      return [seat.querySelector(".who")?.textContent, { ...toneOf(stream.getAudioTracks()[0]), ...figures, how: seat.querySelector(".how")?.textContent ?? "" }];
    }),
  );
}

/** @param {Person} person */
export const impressions = ({ page }) => page.evaluate(perceive);

/**
 * Waits until somebody perceives others as told.
 * @param {Person} person
 * @param {(others: Record<string, Impression>) => boolean} fits
 * @param {string} what
 * @param {number} [timeout]
 */
export async function perceives(person, fits, what, timeout = 20_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const others = await impressions(person);
    if (fits(others)) return others;
    if (Date.now() > end) throw new Error(`${person.name} did not perceive ${what} in ${timeout} ms, but ${JSON.stringify(others)}`);
    await new Promise((done) => setTimeout(done, 250));
  }
}

/** @param {Impression | undefined} other @param {number} hz */
export const sounds = (other, hz) => other !== undefined && other.db > -30 && Math.abs(other.hz - hz) <= 4;

/**
 * Everybody sees and hears exactly all others, each with their own tone, and pictures that move. One is asked after the other: listening
 * costs more than talking.
 * @param {(Person & { hz: number })[]} people
 * @param {{ timeout?: number, moves?: number }} [options]
 */
export async function allTogether(people, { timeout = 20_000, moves = 3 } = {}) {
  for (const person of people) {
    const others = people.filter((other) => other !== person);
    /** @param {Record<string, Impression>} them */
    const there = (them) => Object.keys(them).length === others.length && others.every(({ name, hz }) => sounds(them[name], hz) && them[name]?.seen);
    const first = await perceives(person, there, others.map(({ name, hz }) => `${name} at ${hz} Hz`).join(", "), timeout);
    await perceives(person, (them) => there(them) && others.every(({ name }) => (them[name]?.frames ?? 0) >= (first[name]?.frames ?? 0) + moves), "pictures that move", timeout);
  }
}

/** Sums of a page's living connections. @param {Person} person */
export function figures({ page }) {
  return page.evaluate(async () => {
    const sums = { packetsReceived: 0, packetsSent: 0, framesDecoded: 0, connections: 0, built: 0 };
    const all = /** @type {RTCPeerConnection[]} */ (/** @type {any} */ (window).connections);
    for (const connection of all) {
      sums.built += 1;
      if (connection.connectionState === "closed") continue;
      sums.connections += 1;
      for (const row of /** @type {any} */ (await connection.getStats()).values()) {
        if (row.type === "inbound-rtp") {
          sums.packetsReceived += row.packetsReceived ?? 0;
          sums.framesDecoded += row.framesDecoded ?? 0;
        } else if (row.type === "outbound-rtp") sums.packetsSent += row.packetsSent ?? 0;
      }
    }
    return sums;
  });
}
