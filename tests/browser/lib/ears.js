// Hears what a page receives: the loudest tone by FFT, and the level, taken from the stream itself.

/** @typedef {import("./browser.js").Page} Page */
/** @typedef {{ db: number, hz: number }} Heard */

/** 2.9 Hz a bin at 48 kHz. */
const FFT = 16_384;
const NEAR_HZ = 3;

/**
 * Runs in the page: listens to the element's stream, whichever it is now.
 * @param {[selector: string, size: number]} what
 * @returns {Heard}
 */
function listen([selector, size]) {
  const kept = /** @type {any} */ (window);
  const element = /** @type {HTMLMediaElement | null} */ (document.querySelector(selector));
  const stream = /** @type {MediaStream | null} */ (element?.srcObject ?? null);
  if (!stream || stream.getAudioTracks().length === 0) return { db: -Infinity, hz: 0 };
  kept.ears ??= { context: new AudioContext() };
  const { ears } = kept;
  if (ears.stream !== stream) {
    ears.stream = stream;
    ears.source?.disconnect();
    ears.source = ears.context.createMediaStreamSource(stream);
    ears.analyser = new AnalyserNode(ears.context, { fftSize: size, smoothingTimeConstant: 0 });
    ears.source.connect(ears.analyser);
  }
  const wave = new Float32Array(size);
  ears.analyser.getFloatTimeDomainData(wave);
  const db = 10 * Math.log10(wave.reduce((sum, sample) => sum + sample * sample, 0) / size);
  const spectrum = new Float32Array(ears.analyser.frequencyBinCount);
  ears.analyser.getFloatFrequencyData(spectrum);
  let loudest = 0;
  for (let bin = 1; bin < spectrum.length; bin += 1) {
    if (/** @type {number} */ (spectrum[bin]) > /** @type {number} */ (spectrum[loudest])) loudest = bin;
  }
  return { db, hz: (loudest * ears.context.sampleRate) / size };
}

/** @param {Page} page @param {string} [selector] @returns {Promise<Heard>} */
export function hear(page, selector = "audio") {
  return page.evaluate(listen, /** @type {[string, number]} */ ([selector, FFT]));
}

/** @param {Page} page @param {(heard: Heard) => boolean} test @param {string} what @param {{ timeout?: number, selector?: string }} options */
async function until(page, test, what, { timeout = 15_000, selector = "audio" }) {
  const end = Date.now() + timeout;
  for (;;) {
    const heard = await hear(page, selector);
    if (test(heard)) return heard;
    if (Date.now() > end) throw new Error(`${what} was not heard in ${timeout} ms, but ${heard.hz.toFixed(1)} Hz at ${heard.db.toFixed(1)} dB`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** A tone of amplitude 0.3 is at -13.5 dB once it fills the window; less is a tone that only just begins. @param {Page} page @param {number} hz @param {{ timeout?: number }} [options] */
export function hearTone(page, hz, options = {}) {
  return until(page, (heard) => heard.db > -16 && Math.abs(heard.hz - hz) <= NEAR_HZ, `${hz} Hz`, options);
}

/** @param {Page} page @param {{ timeout?: number }} [options] */
export function hearSilence(page, options = {}) {
  return until(page, (heard) => heard.db < -60, "silence", options);
}

/** Any sound at all. @param {Page} page @param {{ timeout?: number, selector?: string }} [options] */
export function hearSomething(page, options = {}) {
  return until(page, (heard) => heard.db > -45, "any sound", options);
}
