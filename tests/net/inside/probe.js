// Looks at a network from inside: what two STUN servers see of one socket, and which TCP ports can be reached. Prints JSON.
//
// probe.js STUN1 STUN2 WEB : the STUN servers at UDP and TCP 3478, the other host at TCP 443.

import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";

const PATIENCE_MS = 2_000;
const EVERY_MS = 400;
const COOKIE = 0x2112_a442;
const XOR_MAPPED_ADDRESS = 0x0020;

const [, , first = "", second = "", web = ""] = process.argv;
const [seen, tcp3478, tcp443] = await Promise.all([seenBy([first, second]), reaches(first, 3478), reaches(web, 443)]);
console.log(JSON.stringify({ ...seen, tcp3478, tcp443 }));

/** @param {string[]} servers */
async function seenBy(servers) {
  const socket = createSocket("udp4");
  socket.bind();
  await once(socket, "listening");
  /** @type {Map<string, string>} */
  const answers = new Map();
  socket.on("message", (message, { address }) => answers.set(address, mappedAddress(message)));
  const end = Date.now() + PATIENCE_MS;
  while (answers.size < servers.length && Date.now() < end) {
    for (const server of servers.filter((server) => !answers.has(server))) socket.send(bindingRequest(), 3478, server);
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
  const { port } = socket.address();
  socket.close();
  return { port, mapped: servers.map((server) => answers.get(server) ?? null) };
}

/** RFC 8489 section 5, without attributes. */
function bindingRequest() {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(0x0001, 0);
  header.writeUInt32BE(COOKIE, 4);
  return Buffer.concat([header, randomBytes(12)]);
}

/** RFC 8489 section 14.2. @param {Buffer} message */
function mappedAddress(message) {
  for (let at = 20; at + 4 <= message.length; at += 4 + 4 * Math.ceil(message.readUInt16BE(at + 2) / 4)) {
    if (message.readUInt16BE(at) !== XOR_MAPPED_ADDRESS) continue;
    const address = Buffer.alloc(4);
    address.writeUInt32BE((message.readUInt32BE(at + 8) ^ COOKIE) >>> 0);
    return `${[...address].join(".")}:${message.readUInt16BE(at + 6) ^ (COOKIE >>> 16)}`;
  }
  throw new Error("an answer without an address");
}

/** @param {string} host @param {number} port */
async function reaches(host, port) {
  const socket = connect({ host, port, timeout: PATIENCE_MS });
  const reached = await new Promise((done) => {
    socket.on("connect", () => done(true));
    socket.on("timeout", () => done(false));
    socket.on("error", () => done(false));
  });
  socket.destroy();
  return reached;
}
