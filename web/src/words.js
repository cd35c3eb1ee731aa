// What a person reads about the state of things: one place for every sentence. It decides nothing.

/** @typedef {import("../sdk/index.js").View} View */
/** @typedef {import("../sdk/index.js").End} End */
/** @typedef {"direct" | "relay" | null} Path */
/** @typedef {import("../sdk/index.js").Verdict} Verdict */
/** @typedef {{ title: string, detail: string, mood: "calm" | "busy" | "good" | "warn" | "bad" }} Words */

/** Longer than any hiccup that a jitter buffer hides. */
const QUIET_MS = 3_000;

/** @type {Record<string, [title: string, detail: string]>} */
const REFUSALS = {
  unauthorized: ["Wrong token", "The server did not accept this token. Check it, or scan the QR code again."],
  too_many_attempts: ["Too many attempts", "Wrong tokens came from your address too often. Wait a minute, then try again."],
};

/** Verdicts on what was there before, or may have been. */
const LOSSES = new Set(["path_lost", "server_unreachable", "no_greeting"]);
/** States in which the last verdict still stands. */
const UNCONNECTED = new Set(["connecting", "recovering", "reconnecting", "waiting", "refused"]);

/**
 * @param {View} view
 * @param {{ path: Path, quietMs: number }} media
 * @returns {Words}
 */
export function describe(view, { path, quietMs }) {
  switch (view.state) {
    case "idle":
      return { title: "Not connected", detail: "Enter the token that the server printed, or scan its QR code.", mood: "calm" };
    case "connecting":
      return view.once
        ? { title: "Connecting", detail: "Finding the best path for the sound…", mood: "busy" }
        : { title: "Connecting", detail: "Calling the server…", mood: "busy" };
    case "connected":
      return { title: pathWord(path), detail: "Ready. Pick a voice and press Start.", mood: "good" };
    case "streaming":
      return quietMs >= QUIET_MS
        ? { title: "No sound arriving", detail: `${pathWord(path)}, but the voice is silent.`, mood: "warn" }
        : { title: "Streaming", detail: `${pathWord(path)}.`, mood: "good" };
    case "detached":
      return view.wanted === null
        ? { title: "Line lost", detail: "Reconnecting to the server…", mood: "warn" }
        : { title: "Still playing", detail: "The line to the server dropped. The sound goes on while it is restored.", mood: "warn" };
    case "recovering":
      return { title: "Interrupted", detail: "Finding another path for the sound…", mood: "warn" };
    case "reconnecting":
      return { title: "Connection lost", detail: "Trying again now…", mood: "warn" };
    case "waiting":
      if (view.refusal) return held(view.refusal);
      if (view.once && (!view.verdict || LOSSES.has(view.verdict.code))) return { title: "Connection lost", detail: resume(view), mood: "warn" };
      return { title: unconnected(view), detail: "It is tried again by itself.", mood: "warn" };
    case "refused":
      return refused(view);
    case "closed":
      return { title: "Closed", detail: "Reload the page to listen again.", mood: "calm" };
  }
}

/** Why it does not connect, where a person has not been told yet. @param {View} view */
export function why({ state, verdict, refusal }) {
  if (!verdict || !UNCONNECTED.has(state)) return null;
  return refusal && (Object.hasOwn(REFUSALS, refusal.code) || state === "waiting") ? null : verdict;
}

/** Whole seconds until then, never below zero. @param {number} at @param {number} now */
export function secondsUntil(at, now) {
  return Math.max(0, Math.ceil((at - now) / 1000));
}

/** Minutes and seconds, with hours where there are any. @param {number} ms */
export function elapsed(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, place) => (place === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

/** @param {View["state"]} state @param {boolean} playing */
export function startWord(state, playing) {
  if (!playing) return "Start";
  return state === "streaming" || state === "detached" ? "Playing" : "Waiting";
}

/** The small word above the name. @param {View["state"]} state @param {boolean} playing */
export function eyebrow(state, playing) {
  if (state === "streaming" || (state === "detached" && playing)) return "Now playing";
  if (state === "connected") return "Ready to play";
  return playing ? "Interrupted" : "Live audio";
}

/** @param {Path} path */
export function pathWord(path) {
  if (path === "direct") return "Connected directly";
  return path === "relay" ? "Connected through a relay" : "Connected";
}

/** @param {End} end */
export function endWord({ type, protocol, address, relayProtocol }) {
  const names = /** @type {Record<string, string>} */ ({
    host: "host",
    srflx: "behind NAT",
    prflx: "behind NAT (peer reflexive)",
    relay: "relay",
  });
  const by = relayProtocol ? `${protocol} over ${relayProtocol}` : protocol;
  return `${names[type] ?? type}, ${by}${address ? `, ${address}` : ""}`;
}

/** A number with its unit, or a dash where there is none. @param {number | null} value @param {string} unit @param {number} [digits] */
export function amount(value, unit, digits = 0) {
  return value === null ? "–" : `${value.toFixed(digits)} ${unit}`;
}

/** @param {View} view */
function unconnected({ once, verdict }) {
  if (once) return "Cannot connect";
  return verdict?.code === "no_greeting" ? "Server is silent" : "Server unreachable";
}

/** @param {View} view */
function resume({ wanted, voices }) {
  const voice = voices.find(({ id }) => id === wanted);
  return voice ? `${voice.name} comes back by itself.` : "It comes back by itself.";
}

/** @param {NonNullable<View["refusal"]>} refusal @returns {Words} */
function held({ code }) {
  if (code === "too_many_attempts") return { title: "Too many attempts", detail: "Wrong tokens came from your address too often. It goes on by itself in a minute.", mood: "warn" };
  return { title: "Server is full", detail: "Every place is taken. It goes on by itself once one is free.", mood: "warn" };
}

/** @param {View} view @returns {Words} */
function refused({ refusal }) {
  const [title, detail] = REFUSALS[refusal?.code ?? ""] ?? ["Refused by the server", refusal?.text ?? ""];
  return { title, detail, mood: "bad" };
}
