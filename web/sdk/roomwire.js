// The words of GET /signal and of the data channels between two browsers, read by the reader of wire.js. It sends nothing.

import { bool, candidate, iceServer, list, maybe, object, reader, text } from "./wire.js";

/** @typedef {import("./index.js").IceServer} IceServer */
/** @typedef {import("./wire.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./wire.js").Shape} Shape */

/**
 * A description on its way. Two parts are ours: `re` in an answer names the offer that is answered, because nothing else in an answer
 * does, and `yields` in an offer says that of two that meet the polite side's is given up, and no other. A browser that does not know them
 * leaves them alone.
 * @typedef {{ type: "offer" | "answer", sdp: string, re?: string, yields?: boolean }} Description
 */

/** @typedef {{ type: "offer" | "answer", to: string, sdp: Description } | { type: "ice-candidate", to: string, candidate: RTCIceCandidateInit }} PeerMessage */

/** @typedef {{ type: "join", roomId: string, userId: string, session?: string } | { type: "leave", roomId: string } | PeerMessage} RoomClientMessage */

/** @typedef {{ type: "room-joined", peers: string[], iceServers: IceServer[], session: string }} RoomJoined */

/**
 * What another member sent us.
 * @typedef {{ type: "offer" | "answer", from: string, sdp: Description }
 *   | { type: "ice-candidate", from: string, candidate: RTCIceCandidateInit | null }} FromPeer
 */

/** @typedef {RoomJoined | { type: "peer-joined" | "peer-left", peerId: string } | FromPeer | ErrorMessage} RoomServerMessage */

/** The server allows 64 characters, of which each may be two units. */
const NAME = 128;
/** A line of chat; what is longer is cut. */
export const CHAT_CHARS = 4_000;
/** No line of chat needs more, however it is escaped. */
const CHAT_FRAME_CHARS = 64 * 1024;
/** And no cursor, however exact. */
const CURSOR_FRAME_CHARS = 256;

/** @type {Shape} */
const name = (value) => text(value) && /** @type {string} */ (value).length > 0 && /** @type {string} */ (value).length <= NAME;
/** @type {(type: string) => Shape} */
const description = (type) => object({ type: (value) => value === type, sdp: text, re: maybe(text), yields: maybe(bool) });

/** @type {(frame: unknown) => { message: RoomServerMessage, fault: null } | import("./wire.js").Fault} */
export const readRoom = reader({
  "room-joined": { peers: list(name), iceServers: list(iceServer), session: text },
  "peer-joined": { peerId: name },
  "peer-left": { peerId: name },
  offer: { from: name, sdp: description("offer") },
  answer: { from: name, sdp: description("answer") },
  "ice-candidate": { from: name, candidate: (value) => value === null || candidate(value) },
  error: { code: text, message: text },
});

/** @type {(frame: unknown) => { message: any, fault: null } | import("./wire.js").Fault} */
const readChannel = reader({ chat: { text }, cursor: { x: Number.isFinite, y: Number.isFinite } });

/** A line of chat, or null for what is none. @param {unknown} frame */
export function readChat(frame) {
  const message = small(frame, CHAT_FRAME_CHARS);
  const said = message?.type === "chat" ? message.text.trim() : "";
  return said === "" ? null : cut(said);
}

/** Where somebody points, or null. @param {unknown} frame @returns {{ x: number, y: number } | null} */
export function readCursor(frame) {
  const message = small(frame, CURSOR_FRAME_CHARS);
  return message?.type === "cursor" ? { x: unit(message.x), y: unit(message.y) } : null;
}

/** @param {number} value */
export function unit(value) {
  return Math.min(1, Math.max(0, value));
}

/** @param {unknown} frame @param {number} most */
function small(frame, most) {
  return typeof frame === "string" && frame.length <= most ? readChannel(frame).message : null;
}

/** Not through the middle of a character. @param {string} said */
function cut(said) {
  const end = /[\uD800-\uDBFF]/.test(said.charAt(CHAT_CHARS - 1)) ? CHAT_CHARS - 1 : CHAT_CHARS;
  return said.slice(0, said.length > CHAT_CHARS ? end : CHAT_CHARS);
}
