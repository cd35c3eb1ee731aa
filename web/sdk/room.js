// Rooms: what programs import, through index.js or alone. The declarations beside it are their contract.

export { Room, joinRoom } from "./roomclient.js";
