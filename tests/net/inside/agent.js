// The near end of a stand-in for an HTTP tunnel: it runs beside the server and dials out, so that nothing has to be opened for it.
// A connection that the far end uses is joined to the server, and another is dialled in its place.
//
// agent.js EDGE URL : URL is the server's own, on this machine.

import { request as askPlain } from "node:http";
import { request as askSecurely } from "node:https";
import { connect } from "node:net";
import { connect as connectSecurely } from "node:tls";

const SPARE = 8;
const RETRY_MS = 100;

const [, , edge = "", address = ""] = process.argv;
const server = new URL(address);
const port = Number(server.port);
// The certificate is for the server's public address, not for this one.
const secure = server.protocol === "https:" ? { rejectUnauthorized: false } : null;

function dial() {
  const far = connect(7000, edge);
  let used = false;
  far.on("error", () => far.destroy());
  far.on("close", () => {
    if (!used) setTimeout(dial, RETRY_MS);
  });
  far.once("readable", () => {
    if (far.readableLength === 0) return;
    used = true;
    dial();
    const near = secure ? connectSecurely({ ...secure, port, host: server.hostname }) : connect(port, server.hostname);
    near.on("error", () => far.destroy());
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
    far.pipe(near).pipe(far);
  });
}

function untilReady() {
  const ask = secure ? askSecurely : askPlain;
  const again = () => setTimeout(untilReady, RETRY_MS);
  const request = ask(new URL("readyz", server), { ...secure }, (answer) => {
    answer.resume();
    if (answer.statusCode === 200) console.log("agent ready");
    else again();
  });
  request.on("error", again);
  request.end();
}

for (let spare = 0; spare < SPARE; spare += 1) dial();
untilReady();
