// The client of a voxcast server: what programs import. Everything else in this folder may change.

export { browserClock } from "./clock.js";
export { Client, connect } from "./client.js";
export { VoxcastError } from "./error.js";
export { DEFAULT_ICE_SERVERS } from "./ice.js";
export { Room, joinRoom } from "./room.js";
export { explain } from "./verdict.js";
