// What getStats says, as numbers. It asks once a second and changes nothing.

/** @typedef {import("./index.js").End} End */
/** @typedef {import("./index.js").Report} Report */

/** @typedef {{ at: number, bytes: number, packets: number, lost: number, heardAt: number }} Counts */
/** @typedef {Map<string, any>} Rows a report of getStats; `any` because browsers differ in what they fill in */

export const PERIOD_MS = 1_000;

/**
 * Of the listener's connection unless another digest is given.
 * @template [R=Report]
 * @template {object} [C=Counts]
 */
export class Stats {
  #clock;
  #connection;
  #digest;
  #on;
  /** @type {unknown} */
  #timer = null;
  /** @type {RTCPeerConnection | null} whose counts these are */
  #of = null;
  /** @type {C | null} */
  #counts = null;
  #running = false;

  /**
   * @param {object} options
   * @param {import("./clock.js").Clock} options.clock
   * @param {() => RTCPeerConnection | null} options.connection
   * @param {(rows: Rows, before: C | null, now: number) => { report: R, counts: C }} [options.digest]
   * @param {(report: R) => void} [options.on]
   */
  constructor({ clock, connection, digest: read = /** @type {any} */ (digest), on = () => {} }) {
    this.#clock = clock;
    this.#connection = connection;
    this.#digest = read;
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
    this.#timer = null;
  }

  close() {
    this.stop();
    this.#counts = null;
    this.#of = null;
  }

  /** The figures of this moment, or null where there is no connection, or not any more. @returns {Promise<R | null>} */
  async read() {
    const connection = this.#connection();
    if (!connection) return null;
    /** @type {Rows} */
    let rows;
    try {
      rows = /** @type {Rows} */ (/** @type {unknown} */ (await connection.getStats()));
    } catch {
      return null; // closed meanwhile
    }
    if (connection !== this.#connection()) return null;
    if (connection !== this.#of) this.#counts = null;
    this.#of = connection;
    const { report, counts } = this.#digest(rows, this.#counts, this.#clock.now());
    this.#counts = counts;
    return report;
  }

  async #look() {
    const report = await this.read();
    if (!this.#running) return;
    if (report) this.#on(report);
    this.#clock.cancel(this.#timer);
    this.#timer = this.#clock.after(PERIOD_MS, () => void this.#look());
  }
}

/**
 * One report out of the rows of getStats and what was counted before.
 * @param {Rows} rows
 * @param {Counts | null} before
 * @param {number} now
 * @returns {{ report: Report, counts: Counts }}
 */
export function digest(rows, before, now) {
  const inbound = find(rows, (row) => row.type === "inbound-rtp" && row.kind === "audio") ?? {};
  const pair = selectedPair(rows);
  const packets = inbound.packetsReceived ?? 0;
  const counts = {
    at: now,
    bytes: inbound.bytesReceived ?? 0,
    packets,
    lost: inbound.packetsLost ?? 0,
    heardAt: !before || packets !== before.packets ? now : before.heardAt,
  };
  const rtt = pair?.currentRoundTripTime;
  return {
    counts,
    report: {
      ...path(rows),
      localCandidates: kinds(rows, "local-candidate"),
      remoteCandidates: kinds(rows, "remote-candidate"),
      rttMs: typeof rtt === "number" ? rtt * 1000 : null,
      lossPercent: before && lossPercent(before, counts),
      jitterMs: typeof inbound.jitter === "number" ? inbound.jitter * 1000 : null,
      kbps: before && now > before.at ? Math.max(0, ((counts.bytes - before.bytes) * 8) / (now - before.at)) : null,
      packets,
      codec: codecWord(rows.get(inbound.codecId)),
      quietMs: now - counts.heardAt,
    },
  };
}

/** The way that is taken. @param {Rows} rows @returns {Pick<Report, "path" | "pair">} */
export function path(rows) {
  const pair = selectedPair(rows);
  const local = pair && end(rows.get(pair.localCandidateId));
  const remote = pair && end(rows.get(pair.remoteCandidateId));
  if (!local || !remote) return { path: null, pair: null };
  return { path: local.type === "relay" || remote.type === "relay" ? "relay" : "direct", pair: { local, remote } };
}

/** @param {Rows} rows */
export function selectedPair(rows) {
  const transport = find(rows, (row) => row.type === "transport" && row.selectedCandidatePairId);
  if (transport) return rows.get(transport.selectedCandidatePairId) ?? null;
  // Firefox marks the pair itself.
  return find(rows, (row) => row.type === "candidate-pair" && row.selected === true);
}

/** @param {{ packets: number, lost: number }} before @param {{ packets: number, lost: number }} after */
export function lossPercent(before, after) {
  const lost = Math.max(0, after.lost - before.lost);
  const expected = lost + Math.max(0, after.packets - before.packets);
  return expected === 0 ? null : (lost / expected) * 100;
}

/** @param {any} row @returns {End | null} */
function end(row) {
  if (!row) return null;
  const address = row.address ?? row.ip ?? "";
  const at = address && row.port ? (address.includes(":") ? `[${address}]:${row.port}` : `${address}:${row.port}`) : address;
  return { type: row.candidateType ?? "?", protocol: row.protocol ?? "?", address: at, relayProtocol: row.relayProtocol ?? null };
}

/** @param {any} row */
function codecWord(row) {
  if (!row?.mimeType) return null;
  return `${row.mimeType.replace("audio/", "")} ${(row.clockRate ?? 0) / 1000} kHz`;
}

/** @param {Rows} rows @param {string} type */
function kinds(rows, type) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const row of rows.values()) {
    if (row.type !== type) continue;
    const word = `${row.candidateType} ${row.protocol}`;
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].sort().map(([word, count]) => (count === 1 ? word : `${word} ×${count}`));
}

/** @param {Rows} rows @param {(row: any) => boolean} test */
function find(rows, test) {
  for (const row of rows.values()) if (test(row)) return row;
  return null;
}
