// What a person reads in a room: one place for every sentence. It decides nothing.

/** @typedef {"audio" | "video"} Kind */
/** @typedef {"insecure" | "unsupported" | "denied" | "missing" | "busy" | "failed"} Fault */
/** @typedef {{ title: string, text: string }} Words */

/** @type {Record<string, [title: string, text: string]>} */
const REFUSALS = {
  unauthorized: ["This room needs a token", "Enter the access token of this server. Whoever runs it has it."],
  too_many_attempts: ["Too many attempts", "Wrong tokens came from your address too often. Wait a minute, then try again."],
  taken: ["That name is taken", "Somebody in this room is called that already. Pick another name."],
  room_full: ["The room is full", "Every place is taken. Try again once somebody has left."],
  rate_limited: ["Too much at once", "The server closed the line because too much came from here. Wait a moment, then try again."],
  over_capacity: ["The server is full", "Try again in a minute."],
  invalid_message: ["That did not work", "The server does not accept this name or room. Use plain letters and up to 64 of them."],
  unreachable: ["The server cannot be reached", "Check that you are online, then try again."],
  unheard: ["The voice was not heard", "This browser could not send it on to the room."],
  unsupported: ["This browser cannot join", "It makes no WebRTC connections. Switch off extensions that block it, or use another browser."],
};

/** @param {{ code: string, message: string }} refusal @returns {Words} */
export function refusalWords({ code, message }) {
  const known = Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : undefined;
  const [title, text] = known ?? ["You could not join", message || "Try again in a moment."];
  return { title, text };
}

/** Why there are no voices, or why one did not come. @param {string} code */
export function voicesFaultWords(code) {
  // The panel has no field for it.
  if (code === "unauthorized") return "Join with the access token to ask voices in.";
  return refusalWords({ code, message: "The voices cannot be reached." }).text;
}

/**
 * The pill at the top.
 * @param {string} state
 * @param {number} people with oneself
 * @returns {{ title: string, mood: "calm" | "busy" | "good" | "warn" | "bad" }}
 */
export function statusWords(state, people) {
  switch (state) {
    case "joining":
      return { title: "Joining", mood: "busy" };
    case "joined":
      return { title: people === 1 ? "Only you" : `${people} here`, mood: "good" };
    case "detached":
      return { title: "Line lost", mood: "warn" };
    case "refused":
      return { title: "Not let in", mood: "bad" };
    default:
      return { title: "Not in a room", mood: "calm" };
  }
}

export const DETACHED = {
  title: "The line to the server is lost.",
  text: "You still see and hear each other. It comes back by itself.",
};

/** The word on a tile whose media does not flow, or nothing. @param {string} state */
export function peerWord(state) {
  /** @type {Record<string, string>} */
  const words = { new: "Connecting…", connecting: "Connecting…", shaky: "Unsteady", restarting: "Reconnecting…", failed: "No connection" };
  return Object.hasOwn(words, state) ? words[state] : "";
}

const NAMES = { audio: "microphone", video: "camera" };

/** @param {Kind} kind @param {Fault} fault */
export function faultWords(kind, fault) {
  const name = NAMES[kind];
  switch (fault) {
    case "insecure":
      return "Browsers give camera and microphone only to pages on https or on this very machine. You can still watch, listen and write.";
    case "unsupported":
      return "This browser gives pages neither camera nor microphone. You can still watch, listen and write.";
    case "denied":
      return `The ${name} is blocked for this page. Allow it beside the address, then switch it on again.`;
    case "missing":
      return `No ${name} was found. Plug one in, or go on without.`;
    case "busy":
      return `The ${name} is in use by another program.`;
    default:
      return `The ${name} could not be opened.`;
  }
}

/** All that is wrong with both, each said once. @param {{ audio: Fault | null, video: Fault | null }} faults */
export function faultsWords({ audio, video }) {
  if (audio === "missing" && video === "missing") return "No camera and no microphone were found. You can still watch, listen and write.";
  if (audio === "denied" && video === "denied") return "Camera and microphone are blocked for this page. Allow them beside the address, or go on without.";
  return [...new Set([audio && faultWords("audio", audio), video && faultWords("video", video)])].filter(Boolean).join(" ");
}

/** What was let go of at the end of a visit and comes back with the next. @param {Kind[]} kinds */
export function restWords(kinds) {
  const [only] = kinds;
  if (!only) return "";
  return kinds.length > 1 ? "Camera and microphone are off until you join." : `The ${NAMES[only]} is off until you join.`;
}

/** What the button does. @param {Kind} kind @param {boolean} on */
export function toggleWord(kind, on) {
  if (kind === "audio") return on ? "Mute microphone" : "Unmute microphone";
  return on ? "Turn camera off" : "Turn camera on";
}

/** What is shown where there is no picture. @param {string} name */
export function initial(name) {
  const [first = "?"] = [...name.trim()];
  return first.toLocaleUpperCase();
}

/** A colour of one's own, the same in every browser. @param {string} name @returns {number} hue in degrees */
export function hue(name) {
  let hash = 2166136261;
  for (const letter of name) hash = Math.imul(hash ^ /** @type {number} */ (letter.codePointAt(0)), 16777619);
  return (hash >>> 0) % 360;
}
