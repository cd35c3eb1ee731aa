// The page itself: the only module that touches `document`. It shows what it is given and reports what a person does.

import { FLOOR_DB } from "./meter.js";
import { Scope } from "./scope.js";
import { amount, describe, elapsed, endWord, eyebrow, pathWord, secondsUntil, startWord, why } from "./words.js";

/** @typedef {import("../sdk/index.js").View} View */
/** @typedef {import("../sdk/index.js").Report} Report */
/** @typedef {{ path: "direct" | "relay" | null, quietMs: number }} Media */
/** @typedef {{ samples: Float32Array, db: number }} Level */

/**
 * @typedef {object} Wishes
 * @property {(token: string, remember: boolean) => void} connect
 * @property {() => void} disconnect
 * @property {() => void} start
 * @property {() => void} stop
 * @property {(voice: string) => void} choose
 * @property {() => void} hear
 * @property {() => void} retry
 */

/** Old lines go: a phone that listens all night must not fill its memory. */
const TIMELINE_LINES = 200;
const NOTICE_MS = 6_000;
/** Countdown and clock. */
const TICK_MS = 250;
/** Below this the wave is at rest. */
const REST_DB = -75;
/** How fast the bar falls, in dB a frame: quick to rise and slow to fall, as the eye likes it. */
const FALL_DB = 1.2;

/** States in which there is something to connect to, so that the door is closed. */
const INSIDE = new Set(["connected", "streaming", "detached", "recovering"]);

export class Ui {
  #document;
  #window;
  #clock;
  #wishes;
  #read;
  /** @type {View | null} */
  #view = null;
  /** @type {Media} */
  #media = { path: null, quietMs: 0 };
  #blocked = false;
  #startedAt = 0;
  #bar = FLOOR_DB;
  #spokenAt = 0;
  /** @type {string} */
  #voicesShown = "";
  /** @type {unknown} */
  #noticeTimer = null;
  #scope;
  #openedAt;
  #calm;

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {import("../sdk/index.js").Clock} options.clock
   * @param {() => Level} options.level
   * @param {Wishes} options.wishes
   */
  constructor({ document, clock, level, wishes }) {
    this.#document = document;
    this.#window = /** @type {Window & typeof globalThis} */ (document.defaultView);
    this.#clock = clock;
    this.#read = level;
    this.#wishes = wishes;
    this.#openedAt = clock.now();
    this.#scope = new Scope({ canvas: /** @type {HTMLCanvasElement} */ (this.#element("scope")) });
    this.#calm = this.#window.matchMedia("(prefers-reduced-motion: reduce)");
    this.#listen();
    this.#tick();
    this.#window.requestAnimationFrame(() => this.#draw());
  }

  /** @param {View} view */
  show(view) {
    const streaming = view.wanted !== null;
    if (streaming && this.#view?.wanted == null) this.#startedAt = this.#clock.now();
    this.#view = view;
    this.#render();
  }

  /** @param {Report} report */
  report(report) {
    this.#media = report;
    this.#facts(report);
    this.#render();
  }

  /** Forgets the figures of a path that is gone. */
  unreport() {
    this.#media = { path: null, quietMs: 0 };
    this.#facts(null);
    this.#render();
  }

  /** @param {boolean} blocked */
  blocked(blocked) {
    this.#blocked = blocked;
    this.#render();
  }

  /** A line of the timeline. @param {string} text */
  note(text) {
    const line = this.#document.createElement("li");
    const time = this.#document.createElement("time");
    time.textContent = `+${((this.#clock.now() - this.#openedAt) / 1000).toFixed(2)}`;
    line.append(time, text);
    const timeline = this.#element("timeline");
    timeline.append(line);
    while (timeline.childElementCount > TIMELINE_LINES) timeline.firstElementChild?.remove();
    timeline.scrollTop = timeline.scrollHeight;
  }

  /** Something a person should read now; it goes away by itself. @param {string} text */
  notice(text) {
    const notice = this.#element("notice");
    notice.textContent = text;
    notice.hidden = false;
    this.#clock.cancel(this.#noticeTimer);
    this.#noticeTimer = this.#clock.after(NOTICE_MS, () => (notice.hidden = true));
  }

  /** @param {string} token @param {boolean} remembered */
  fill(token, remembered) {
    this.#input("token").value = token;
    this.#input("remember").checked = remembered;
  }

  get audio() {
    return /** @type {HTMLAudioElement} */ (this.#element("audio"));
  }

  #listen() {
    const wishes = this.#wishes;
    this.#element("door").addEventListener("submit", (event) => {
      event.preventDefault();
      wishes.connect(this.#input("token").value.trim(), this.#input("remember").checked);
    });
    this.#element("disconnect").addEventListener("click", () => wishes.disconnect());
    this.#element("cancel").addEventListener("click", () => wishes.disconnect());
    this.#element("start").addEventListener("click", () => wishes.start());
    this.#element("stop").addEventListener("click", () => wishes.stop());
    this.#element("hear").addEventListener("click", () => wishes.hear());
    this.#element("retry").addEventListener("click", () => wishes.retry());
    this.#element("reveal").addEventListener("click", () => this.#reveal());
    this.#element("voice-list").addEventListener("change", (event) => {
      wishes.choose(/** @type {HTMLInputElement} */ (event.target).value);
      this.#render();
    });
    const clipboard = this.#window.navigator.clipboard;
    // Only a secure page has a clipboard; a button that cannot work is not shown.
    this.#element("copy").hidden = !clipboard;
    this.#element("copy").addEventListener("click", () => {
      clipboard.writeText(this.#story()).then(() => this.notice("Copied."), () => this.notice("Could not copy."));
    });
  }

  #render() {
    const view = this.#view;
    if (!view) return;
    const words = describe(view, this.#media);
    const inside = INSIDE.has(view.state) || (view.once && view.state !== "idle" && view.state !== "refused");
    const playing = view.wanted !== null;
    this.#voices(view);
    const voice = inside ? view.voices.find(({ id }) => id === (view.wanted ?? this.voice)) : undefined;
    const { dataset } = this.#document.body;
    dataset.state = view.state;
    dataset.mood = words.mood;
    dataset.playing = String(playing);
    dataset.inside = String(inside);

    this.#text("status-title", words.title);
    this.#text("eyebrow", eyebrow(view.state, playing));
    this.#text("now-name", voice?.name ?? (view.state === "idle" ? "Hear it live" : words.title));
    this.#text("now-detail", voice && words.mood === "good" ? voice.description : words.detail);
    this.#why(why(view));
    this.#element("elapsed").hidden = !playing;
    this.#element("hear").hidden = !(playing && this.#blocked);

    this.#element("door").hidden = inside;
    this.#element("dock").hidden = !inside;
    this.#element("voices").hidden = !inside;
    this.#element("link").hidden = !inside;
    this.#text("start-word", startWord(view.state, playing));
    this.#transport(playing, view.voices.length > 0);
    this.#door(view);
    this.#text("link-title", words.mood === "good" ? pathWord(this.#media.path) : words.title);
    this.#countdown();
  }

  /** @param {import("../sdk/index.js").Verdict | null} verdict */
  #why(verdict) {
    this.#element("why").hidden = verdict === null;
    if (!verdict) return;
    const { listener, operator } = verdict.next;
    this.#text("why-text", verdict.text);
    this.#text("why-next", listener);
    this.#text("why-operator", operator);
    this.#element("why-run").hidden = operator === listener;
  }

  /** @param {boolean} playing @param {boolean} able */
  #transport(playing, able) {
    const [start, stop] = [this.#button("start"), this.#button("stop")];
    const focused = this.#document.activeElement;
    start.disabled = playing || !able;
    stop.disabled = !playing;
    // The keyboard stays in the dock when the button under it goes out.
    if (focused === start && start.disabled) stop.focus();
    if (focused === stop && stop.disabled) start.focus();
  }

  /** @param {View} view */
  #door(view) {
    const trying = view.state === "connecting" || view.state === "waiting";
    const wrong = view.state === "refused" && view.refusal?.code === "unauthorized";
    const connect = this.#button("connect");
    connect.disabled = trying;
    this.#element("cancel").hidden = !trying;
    connect.textContent = trying ? "Connecting…" : view.state === "refused" ? "Try again" : "Connect";
    this.#input("token").setAttribute("aria-invalid", String(wrong));
  }

  /** @param {View} view */
  #voices({ voices, wanted }) {
    const key = JSON.stringify(voices);
    if (key !== this.#voicesShown) {
      this.#voicesShown = key;
      const before = this.voice;
      this.#element("voice-list").replaceChildren(...voices.map((voice) => this.#card(voice)));
      const chosen = wanted ?? before;
      const kept = this.#radios().find(({ value }) => value === chosen) ?? this.#radios()[0];
      if (kept) kept.checked = true;
    }
    const playing = this.#radios().find(({ value }) => value === wanted);
    if (playing) playing.checked = true;
  }

  /** The voice that is selected, or null where there is none. */
  get voice() {
    return this.#radios().find(({ checked }) => checked)?.value ?? null;
  }

  /** @param {import("../sdk/index.js").Voice} voice */
  #card({ id, name, description }) {
    const label = this.#document.createElement("label");
    label.className = "voice";
    const radio = this.#document.createElement("input");
    Object.assign(radio, { type: "radio", name: "voice", value: id });
    const words = this.#document.createElement("span");
    words.className = "voice-words";
    for (const [tag, text] of /** @type {const} */ ([["strong", name], ["small", description]])) {
      const part = this.#document.createElement(tag);
      part.textContent = text;
      words.append(part);
    }
    const mark = this.#document.createElement("span");
    mark.className = "voice-mark";
    mark.ariaHidden = "true";
    mark.append(...Array.from({ length: 4 }, () => this.#document.createElement("i")));
    label.append(radio, words, mark);
    return label;
  }

  #radios() {
    return /** @type {HTMLInputElement[]} */ ([...this.#element("voice-list").querySelectorAll("input")]);
  }

  #reveal() {
    const token = this.#input("token");
    const shown = token.type === "password";
    token.type = shown ? "text" : "password";
    this.#text("reveal", shown ? "Hide" : "Show");
    this.#element("reveal").ariaPressed = String(shown);
  }

  /** @param {Report | null} report */
  #facts(report) {
    const pair = report?.pair;
    this.#text("link-detail", report?.pair ? `${amount(report.rttMs, "ms")} away, ${pair?.local.protocol.toUpperCase()}` : "");
    /** @type {[string, string][]} */
    const rows = report
      ? [
          ["Path", report.path ? pathWord(report.path) : "–"],
          ["This side", pair ? endWord(pair.local) : "–"],
          ["Server side", pair ? endWord(pair.remote) : "–"],
          ["Candidates here", report.localCandidates.join(", ") || "–"],
          ["Candidates there", report.remoteCandidates.join(", ") || "–"],
          ["Round trip", amount(report.rttMs, "ms")],
          ["Loss", amount(report.lossPercent, "%", 1)],
          ["Jitter", amount(report.jitterMs, "ms", 1)],
          ["Bitrate", amount(report.kbps, "kbit/s")],
          ["Packets", String(report.packets)],
          ["Codec", report.codec ?? "–"],
        ]
      : [["Path", "–"]];
    const facts = this.#element("facts");
    const known = new Map([...facts.children].map((row) => [row.firstElementChild?.textContent, row]));
    // Rows stay the same elements, so that a screen reader or a selection is not thrown out each second.
    facts.replaceChildren(
      ...rows.map(([name, value]) => {
        const row = known.get(name) ?? this.#fact(name);
        const place = /** @type {Element} */ (row.lastElementChild);
        if (place.textContent !== value) place.textContent = value;
        return row;
      }),
    );
  }

  /** @param {string} name */
  #fact(name) {
    const row = this.#document.createElement("div");
    const term = this.#document.createElement("dt");
    term.textContent = name;
    row.append(term, this.#document.createElement("dd"));
    return row;
  }

  /** Everything of the fold-out as text, for a report to whoever runs the server. It holds no token. */
  #story() {
    /** @param {Element} row */
    const line = (row) => [...row.childNodes].map((node) => node.textContent).join(" ");
    return [...this.#element("facts").children, ...this.#element("timeline").children].map(line).join("\n");
  }

  #tick() {
    this.#countdown();
    const playing = this.#view?.wanted != null;
    if (playing) this.#text("elapsed", elapsed(this.#clock.now() - this.#startedAt));
    this.#clock.after(TICK_MS, () => this.#tick());
  }

  /** Apart from the live region: nobody wants every second read out. */
  #countdown() {
    const at = this.#view?.retryAt ?? null;
    this.#element("again").hidden = at === null;
    if (at === null) return;
    const seconds = secondsUntil(at, this.#clock.now());
    this.#text("countdown", seconds === 0 ? "Trying again now…" : `Trying again in ${seconds} s`);
  }

  #draw() {
    this.#window.requestAnimationFrame(() => this.#draw());
    const level = this.#read();
    const before = this.#bar;
    this.#bar = Math.max(Math.min(0, level.db), before - FALL_DB, FLOOR_DB);
    if (this.#bar !== before) this.#showLevel();
    const { inside, mood } = this.#document.body.dataset;
    const moves = !this.#calm.matches;
    const style = this.#window.getComputedStyle(this.#document.body);
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    if (moves && level.db >= REST_DB) this.#scope.sound(level.samples, color("--accent"));
    else if (inside === "true") this.#scope.rest(color("--line"));
    else this.#scope.greet(color("--accent"), moves && mood === "busy" ? this.#clock.now() : 0);
  }

  #showLevel() {
    const meter = this.#element("meter");
    meter.style.setProperty("--level", String(1 - this.#bar / FLOOR_DB));
    const now = this.#clock.now();
    if (now - this.#spokenAt < 500 && this.#bar > FLOOR_DB) return;
    this.#spokenAt = now;
    meter.ariaValueNow = this.#bar.toFixed(0);
    meter.ariaValueText = this.#bar > FLOOR_DB ? `${this.#bar.toFixed(0)} decibels` : "silent";
  }

  /** Writes only what changed: a live region must not speak twice. @param {string} id @param {string} text */
  #text(id, text) {
    const element = this.#element(id);
    if (element.textContent !== text) element.textContent = text;
  }

  /** @param {string} id */
  #element(id) {
    const element = this.#document.getElementById(id);
    if (!element) throw new Error(`the page has no #${id}`);
    return element;
  }

  /** @param {string} id */
  #input(id) {
    return /** @type {HTMLInputElement} */ (this.#element(id));
  }

  /** @param {string} id */
  #button(id) {
    return /** @type {HTMLButtonElement} */ (this.#element(id));
  }
}
