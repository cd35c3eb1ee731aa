// getStats of a connection to another browser, as numbers and in plain words. It asks nobody and changes nothing.

import { reachOf } from "./candidate.js";
import { PERIOD_MS, Stats, lossPercent, path, selectedPair } from "./stats.js";

/** @typedef {import("./room.js").PeerReport} PeerReport */
/** @typedef {import("./room.js").RoomReport} RoomReport */
/** @typedef {import("./room.js").Picture} Picture */
/** @typedef {import("./index.js").End} End */
/** @typedef {import("./stats.js").Rows} Rows */
/** @typedef {Pick<PeerReport, "kbpsIn" | "kbpsOut" | "lossPercent">} Rates */
/** @typedef {{ at: number, bytesIn: number, bytesOut: number, packets: number, lost: number, rates: Rates }} Counts */
/** @typedef {Omit<PeerReport, "peer" | "state" | "verdict"> & { lossOutPercent: number | null }} Figures */

/** Over less than this a rate says nothing: whoever asks again at once is told the same. */
const INTERVAL_MS = 250;

/** @type {Rates} */
const UNKNOWN = { kbpsIn: null, kbpsOut: null, lossPercent: null };

/** One report of a whole room, on demand or each second. */
export class RoomStats {
  #clock;
  #room;
  #on;
  /** @type {WeakMap<object, Stats<Figures, Counts>>} by person */
  #stats = new WeakMap();
  /** @type {unknown} */
  #timer = null;
  #running = false;

  /**
   * @param {object} options
   * @param {import("./clock.js").Clock} options.clock
   * @param {Pick<import("./room.js").Room, "room" | "user" | "peers">} options.room
   * @param {(report: RoomReport) => void} options.on
   */
  constructor({ clock, room, on }) {
    this.#clock = clock;
    this.#room = room;
    this.#on = on;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    void this.#look();
  }

  stop() {
    this.#running = false;
    this.#clock.cancel(this.#timer);
  }

  /** @returns {Promise<RoomReport>} */
  async read() {
    const { room, user, peers } = this.#room;
    const reports = await Promise.all([...peers.values()].map((peer) => this.#report(peer)));
    return { at: Date.now(), room, user, peers: reports };
  }

  /** @param {import("./room.js").RoomPeer} peer @returns {Promise<PeerReport>} */
  async #report(peer) {
    const stats = this.#stats.get(peer) ?? new Stats({ clock: this.#clock, connection: () => peer.connection, digest: digestPeer });
    this.#stats.set(peer, stats);
    const figures = await stats.read();
    return { peer: peer.id, state: peer.state, ...(figures ?? blank()), verdict: judge(peer.state, figures) };
  }

  async #look() {
    const report = await this.read();
    if (!this.#running) return;
    this.#on(report);
    this.#clock.cancel(this.#timer);
    if (this.#running) this.#timer = this.#clock.after(PERIOD_MS, () => void this.#look());
  }
}

/**
 * @param {Rows} rows
 * @param {Counts | null} before
 * @param {number} now
 * @returns {{ report: Figures, counts: Counts }}
 */
export function digestPeer(rows, before, now) {
  const inbound = all(rows, "inbound-rtp");
  const outbound = all(rows, "outbound-rtp");
  const audio = inbound.find(({ kind }) => kind === "audio");
  const rtt = selectedPair(rows)?.currentRoundTripTime;
  const far = all(rows, "remote-inbound-rtp").map(({ fractionLost }) => fractionLost).filter(Number.isFinite);
  const counts = count(inbound, outbound, before, now);
  const way = path(rows);
  return {
    counts,
    report: {
      ...way,
      words: words(way.pair),
      rttMs: typeof rtt === "number" ? rtt * 1000 : null,
      jitterMs: typeof audio?.jitter === "number" ? audio.jitter * 1000 : null,
      ...counts.rates,
      lossOutPercent: far.length > 0 ? Math.max(...far) * 100 : null,
      video: { in: picture(inbound, "framesReceived"), out: picture(outbound, "framesSent") },
      audioLevel: typeof audio?.audioLevel === "number" ? audio.audioLevel : null,
    },
  };
}

/** @param {any[]} inbound @param {any[]} outbound @param {Counts | null} before @param {number} now @returns {Counts} */
function count(inbound, outbound, before, now) {
  if (before && now - before.at < INTERVAL_MS) return before;
  const after = {
    at: now,
    bytesIn: sum(inbound, "bytesReceived"),
    bytesOut: sum(outbound, "bytesSent"),
    packets: sum(inbound, "packetsReceived"),
    lost: sum(inbound, "packetsLost"),
  };
  if (!before) return { ...after, rates: UNKNOWN };
  const kbps = (/** @type {number} */ bytes) => Math.max(0, (bytes * 8) / (now - before.at));
  const rates = {
    kbpsIn: kbps(after.bytesIn - before.bytesIn),
    kbpsOut: kbps(after.bytesOut - before.bytesOut),
    lossPercent: lossPercent(before, after),
  };
  return { ...after, rates };
}

/** How the way goes, for a person. @param {{ local: End, remote: End } | null} pair */
export function words(pair) {
  if (!pair) return "";
  const { local, remote } = pair;
  if (local.type === "relay") return `relayed over ${(local.relayProtocol ?? local.protocol).toUpperCase()}`;
  // How they reach it they alone know.
  if (remote.type === "relay") return "relayed at the other side";
  const ends = [local, remote];
  const by = local.protocol === "tcp" ? " by TCP" : "";
  if (ends.some(({ type }) => type === "srflx") || ends.some((end) => end.type === "prflx" && isPublic(end))) return `through NAT${by}`;
  // Where nobody announced an address and the browser hides it, it may be a NAT's as well as a neighbour's.
  const unknown = ends.some(({ type, address }) => type === "prflx" && address === "");
  return `${unknown || ends.every(isPublic) ? "direct" : "direct in the LAN"}${by}`;
}

/** An address that is announced and hidden is one of the own network. @param {End} end */
function isPublic({ address }) {
  return address !== "" && reachOf(address.replace(/:\d+$/, "")) === "anybody";
}

/** @typedef {PeerReport["verdict"]["rating"]} Rating */

/** From where on a figure is fair, and from where on poor. */
const LIMITS = /** @type {const} */ ([
  ["lossPercent", 2, 8, (/** @type {number} */ it) => `${it.toFixed(0)} % of what they send is lost`],
  ["lossOutPercent", 2, 8, (/** @type {number} */ it) => `${it.toFixed(0)} % of what we send is lost`],
  ["rttMs", 200, 400, (/** @type {number} */ it) => `it takes ${it.toFixed(0)} ms there and back`],
  ["jitterMs", 30, 60, (/** @type {number} */ it) => `it arrives unevenly, by ${it.toFixed(0)} ms`],
]);

/** @type {Partial<Record<PeerReport["state"], string>>} */
const WITHOUT = {
  connecting: "No connection yet.",
  shaky: "The connection stutters.",
  restarting: "The connection is lost; another path is looked for.",
  failed: "The connection failed; another attempt follows.",
  closed: "Nobody is there any more.",
};

/**
 * Good, poor, and why.
 * @param {PeerReport["state"]} state
 * @param {Figures | null} figures
 * @returns {PeerReport["verdict"]}
 */
export function judge(state, figures) {
  const without = WITHOUT[state];
  if (without) return { rating: state === "shaky" || state === "restarting" ? "poor" : "none", text: without };
  if (!figures?.pair) return { rating: "none", text: "No figures yet." };
  /** @type {Rating} */
  let rating = "good";
  const reasons = [];
  for (const [name, fair, poor, say] of LIMITS) {
    const value = figures[name];
    if (value === null || value < fair) continue;
    if (value >= poor) rating = "poor";
    else if (rating === "good") rating = "fair";
    reasons.push(say(value));
  }
  const text = reasons.length === 0 ? "All arrives, and in time." : `${reasons.join(", ")}.`;
  return { rating, text: text.charAt(0).toUpperCase() + text.slice(1) };
}

/** A report of somebody of whom there are no figures. @returns {Figures} */
export function blank() {
  return { path: null, words: "", pair: null, rttMs: null, jitterMs: null, ...UNKNOWN, lossOutPercent: null, video: { in: null, out: null }, audioLevel: null };
}

/** @param {Rows} rows @param {string} type @returns {any[]} */
function all(rows, type) {
  return [...rows.values()].filter((row) => row.type === type);
}

/** @param {any[]} rows @param {string} name @returns {number} */
function sum(rows, name) {
  return rows.reduce((total, row) => total + (row[name] ?? 0), 0);
}

/** @param {any[]} rows @param {string} frames @returns {Picture | null} */
function picture(rows, frames) {
  const row = rows.find((one) => one.kind === "video" && one[frames] > 0 && one.frameWidth > 0);
  return row ? { width: row.frameWidth, height: row.frameHeight, fps: row.framesPerSecond ?? 0 } : null;
}
