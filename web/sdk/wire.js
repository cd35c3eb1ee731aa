// The words of GET /ws: the shape of every message, and a reader that refuses what is malformed. It sends nothing.
// GET /signal has words of its own, read by the same reader.

/** @typedef {import("./index.js").Voice} Voice */
/** @typedef {import("./index.js").IceServer} IceServer */
/** @typedef {import("./index.js").Announcement} Announcement */

/**
 * What a client sends.
 * @typedef {{ type: "hello", token: string, session?: string }
 *   | { type: "offer", sdp: string }
 *   | { type: "ice-candidate", candidate: RTCIceCandidateInit | null }
 *   | { type: "start", voice_id: string }
 *   | { type: "stop" }
 *   | { type: "speak", text: string, voice_id?: string, id: string }
 *   | { type: "ping" }} ClientMessage
 */

/** @typedef {{ type: "hello_ack", voices: Voice[], ice_servers: IceServer[], session_id: string, resumed: boolean }} HelloAck */
/** @typedef {{ type: "error", code: string, message: string, error: string }} ErrorMessage */

/**
 * What the server sends.
 * @typedef {HelloAck
 *   | ErrorMessage
 *   | { type: "answer" | "webrtc_answer", sdp: string }
 *   | { type: "ice-candidate", candidate: RTCIceCandidateInit | null }
 *   | { type: "pong" }
 *   | { type: "session_id", session_id: string, server_ip?: string, server_port?: number }
 *   | { type: "turn_config", urls: string[], username?: string | null, credential?: string | null }
 *   | { type: "ice_servers", ice_servers: IceServer[] }
 *   | Announcement} ServerMessage
 */

/** @typedef {(value: unknown) => boolean} Shape */

/** @type {Shape} */
export const text = (value) => typeof value === "string";
/** @type {Shape} */
export const number = (value) => typeof value === "number" && Number.isFinite(value);
/** @type {Shape} */
export const bool = (value) => typeof value === "boolean";
/** @type {(shape: Shape) => Shape} */
export const maybe = (shape) => (value) => value === undefined || value === null || shape(value);
/** @type {(shape: Shape) => Shape} */
export const list = (shape) => (value) => Array.isArray(value) && value.every(shape);
/** @type {(fields: Record<string, Shape>) => Shape} */
export const object = (fields) => (value) => isObject(value) && Object.entries(fields).every(([name, shape]) => shape(value[name]));

const voice = object({ id: text, name: text, description: text });
export const iceServer = object({
  urls: (value) => text(value) || (list(text)(value) && /** @type {unknown[]} */ (value).length > 0),
  username: maybe(text),
  credential: maybe(text),
});
export const candidate = object({ candidate: text, sdpMid: maybe(text), sdpMLineIndex: maybe(number) });

/** @type {Record<string, Record<string, Shape>>} */
const SHAPES = {
  hello_ack: { voices: list(voice), ice_servers: list(iceServer), session_id: text, resumed: bool },
  error: { code: text, message: text },
  answer: { sdp: text },
  webrtc_answer: { sdp: text },
  "ice-candidate": { candidate: (value) => value === null || candidate(value) },
  pong: {},
  session_id: { session_id: text },
  turn_config: { urls: list(text), username: maybe(text), credential: maybe(text) },
  ice_servers: { ice_servers: list(iceServer) },
  generation_started: {},
  generation_tick: { seconds: number },
  generation_ended: { seconds: number, reason: text },
  speak_started: { id: text },
  speak_ended: { id: text, seconds: number, reason: text },
  prompt_ack: { prompt: text, success: bool, error: maybe(text) },
  set_image_ack: { success: bool, error: maybe(text) },
};

/**
 * The WebSocket's address out of what a caller gives for it.
 * @param {string | URL} base
 * @param {string} path where it names none
 */
export function socketUrl(base, path) {
  const url = new URL(base);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.protocol !== "ws:" && url.protocol !== "wss:") throw new TypeError(`url must be ws:, wss:, http: or https:, not ${url.protocol}`);
  if (url.pathname === "/") url.pathname = path;
  url.hash = "";
  return url;
}

/** @typedef {{ message: null, fault: string }} Fault */

/**
 * Makes a reader of text frames. What cannot be read is named in `fault`, and is no reason to hang up: a newer server may say more.
 * @template Message
 * @param {Record<string, Record<string, Shape>>} shapes by type
 * @returns {(frame: unknown) => { message: Message, fault: null } | Fault}
 */
export function reader(shapes) {
  return (frame) => {
    if (typeof frame !== "string") return refuse("a binary frame");
    /** @type {unknown} */
    let value;
    try {
      value = JSON.parse(frame);
    } catch {
      return refuse("not JSON");
    }
    if (!isObject(value) || typeof value.type !== "string") return refuse("no type");
    if (!Object.hasOwn(shapes, value.type)) return refuse(`unknown type ${value.type.slice(0, 40)}`);
    for (const [name, shape] of Object.entries(/** @type {Record<string, Shape>} */ (shapes[value.type]))) {
      if (!shape(value[name])) return refuse(`${value.type} with a wrong ${name}`);
    }
    return { message: /** @type {Message} */ (/** @type {unknown} */ (value)), fault: null };
  };
}

/** @type {(frame: unknown) => { message: ServerMessage, fault: null } | Fault} */
export const read = reader(SHAPES);

/** @param {string} fault @returns {Fault} */
function refuse(fault) {
  return { message: null, fault };
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
