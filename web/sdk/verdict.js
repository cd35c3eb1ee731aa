// Why it cannot connect, in words, and what to do about it: a pure function of what an attempt left behind.

import { reachOf } from "./candidate.js";
import { readIceUrl, relayOnly } from "./ice.js";

/** @typedef {import("./index.js").Evidence} Evidence */
/** @typedef {import("./index.js").Verdict} Verdict */
/** @typedef {import("./index.js").VerdictCode} Code */
/** @typedef {[text: string, listener: string, operator?: string]} Words without an operator's step both do the same */

const OTHER_NETWORK = "Try another network, such as mobile data, or switch off a VPN.";
const TELL_OPERATOR = "Tell whoever runs the server.";

/** @type {Record<string, Words>} */
const REFUSALS = {
  unauthorized: [
    "The server did not accept this token or key.",
    "Check it, or ask for a new one.",
    "Compare it with AUTH_TOKEN, or with the one that was printed at the start.",
  ],
  too_many_attempts: ["Wrong tokens came from this address too often.", "Wait a minute, then try again."],
  no_relay: [
    "Only a relay may be used, and there is none of that kind.",
    "Allow other paths: leave out iceTransportPolicy.",
    "Switch RELAY on and see that clients can reach it, or name TURN servers by TURN_URLS or ICE_SERVERS_JSON.",
  ],
  bad_port_range: [
    "The server does not serve the media ports that were asked for.",
    "Leave out rtpPortMin and rtpPortMax.",
    "Set RTP_PORT_RANGE so that it holds them.",
  ],
  unknown_model: ["The server has no such model.", "Leave out the model, or name one that it has.", "A token is served the models speaker and echo."],
  over_capacity: [
    "Every place on the server is taken.",
    "Wait: it goes on by itself once one is free.",
    "Raise MAX_SESSIONS or WORKERS, if the machine has more to give.",
  ],
};

/**
 * The first that fits counts: from the line over the browser and the answer to the path.
 * @param {Evidence} evidence
 * @returns {Verdict}
 */
export function explain(evidence) {
  const { refusal, line, failure, media, ice, answered, policy } = evidence;
  if (refusal) return refused(refusal);
  if (line === "never") {
    return verdict("server_unreachable", [
      "The server could not be reached.",
      "Check that you are online and that the address is right, then try again.",
      "See that it runs, that its port is open, and that a proxy before it passes WebSockets on. A page of another origin must be named in ALLOWED_ORIGINS.",
    ]);
  }
  if (line === "opened") {
    return verdict("no_greeting", [
      "The server was reached, but did not greet.",
      "Try again in a minute.",
      "See whether the server is stuck, and whether a proxy before it holds WebSocket messages back.",
    ]);
  }
  if (failure === "unsupported") {
    return verdict("unsupported", [
      "This browser makes no WebRTC connections.",
      "Switch off extensions that block WebRTC, or use another browser.",
      "See that the ICE servers that are named have sound URLs and credentials.",
    ]);
  }
  if (media) {
    return verdict("path_lost", [
      "The path for the sound broke, and no other was found.",
      "Wait: it is tried again. If you changed networks, it helps to reload.",
    ]);
  }
  if (ice) {
    return verdict("dtls_failed", [
      "A network path was found, but the encrypted handshake over it failed.",
      OTHER_NETWORK,
      "See that nothing on the way drops UDP packets above 1200 bytes or filters DTLS.",
    ]);
  }
  if (relayOnly(policy) && evidence.iceUrls.length === 0) return verdict("no_relay", /** @type {Words} */ (REFUSALS.no_relay));
  // A relay that gave nothing is known before the answer, and the answer changes nothing about it. Where the line dropped, nobody knows.
  if (relayOnly(policy) && failure !== null && !has(evidence.local, { type: "relay" })) return withoutRelay(evidence);
  if (failure === "bad_answer") {
    return verdict("bad_answer", [
      "The server's answer was not understood.",
      "Reload the page; if that does not help, use another browser.",
      "See that server and client module are of the same version.",
    ]);
  }
  if (!answered) {
    return verdict("no_answer", ["The server greeted, but did not answer the offer.", "Try again in a minute.", "See the server's log."]);
  }
  return relayOnly(policy) ? deadRelay(evidence) : withoutPath(evidence);
}

/** @param {{ code: string, text: string }} refusal */
function refused({ code, text }) {
  const words = Object.hasOwn(REFUSALS, code) ? REFUSALS[code] : undefined;
  if (words) return verdict(/** @type {Code} */ (code), words);
  return verdict("refused", [`The server refused: ${text.replace(/[.\s]+$/, "")}.`, TELL_OPERATOR, "See the server's log."]);
}

/** @param {Evidence} evidence */
function withoutRelay({ policy, iceErrors }) {
  const by = policy?.toUpperCase();
  const word = iceErrors.find(({ code, url }) => code >= 300 && code <= 699 && readIceUrl(url)?.relay);
  if (word) {
    return verdict("relay_refused", [
      `The relay refused to serve us (${word.code}).`,
      "Connect anew: that brings fresh credentials.",
      word.code === 486
        ? "The relay's quota is used up: raise it, or name another relay."
        : "See that the credentials of the TURN server are right and have not expired, and that its clock is.",
    ]);
  }
  return verdict("relay_unreachable", [
    `Only a relay over ${by} may be used, and it could not be reached.`,
    `${OTHER_NETWORK} Or allow other paths.`,
    `Let in ${by} to the relay (${policy === "tcp" ? "RELAY_PORT, TURNS_PORT" : "RELAY_PORT"}), and see that its URLs name an address that clients reach.`,
  ]);
}

/** @param {Evidence} evidence */
function deadRelay({ remote }) {
  if (remote.length === 0) return nameless();
  return verdict("relay_dead", [
    "The relay was reached, but nothing came back through it.",
    "Try again, or allow other paths.",
    `See that the relay may send to the server at ${places(remote)}.`,
  ]);
}

/** The network was free to choose and found nothing. @param {Evidence} evidence */
function withoutPath(evidence) {
  const { host, local, remote, iceUrls } = evidence;
  if (local.length === 0) {
    return verdict("no_local_candidates", [
      "This browser found no network that it may use for media.",
      "Switch off extensions or policies that block WebRTC, or use another browser.",
    ]);
  }
  if (remote.length === 0) return nameless();
  const near = reachOf(host);
  const ports = [...new Set(remote.filter(({ type }) => type !== "relay").map(({ port }) => port))].sort((a, b) => a - b).join(", ");
  const hidden = remote.every(({ address }) => reachOf(address) === "machine" || address.endsWith(".local"));
  if (hidden && near !== "machine") {
    return verdict("server_hidden", [
      "The server named only addresses that nobody outside its own machine can reach.",
      TELL_OPERATOR,
      "Set PUBLIC_IP to the address that clients reach, or HOST to one that is not loopback.",
    ]);
  }
  const relayed = has(local, { type: "relay" }) || has(remote, { type: "relay" });
  if (near === "anybody" && !relayed && remote.every(({ address }) => reachOf(address) !== "anybody")) {
    return verdict("server_behind_nat", [
      "The server is behind a NAT: it named private addresses only, and no relay helped.",
      "If you are in the server's own network, open its page by its local address. Otherwise tell whoever runs it.",
      `Forward UDP and TCP ${ports} to the server and set PUBLIC_IP, or name a relay by TURN_URLS.`,
    ]);
  }
  const urls = iceUrls.map(readIceUrl);
  const byTcp = has(remote, { protocol: "tcp" }) || urls.some((url) => url?.relay === "tcp");
  if (udpWorks(local)) {
    return verdict("media_port_closed", [
      "UDP works here, but the server's media port does not answer.",
      TELL_OPERATOR,
      `Let in UDP and TCP ${ports} at the firewall and forward them on the router, and see that PUBLIC_IP is right.`,
    ]);
  }
  // Whoever asked an ICE server by UDP and heard nothing knows; otherwise it may be the server's firewall as well.
  const asked = urls.some((url) => url && !(url.relay === "tcp") && !url.key.startsWith("stuns"));
  const blocked = asked ? "UDP is blocked here" : "UDP does not get through to the server";
  return byTcp
    ? verdict("udp_blocked_tcp_failed", [
      `${blocked}, and the TCP path failed too.`,
      OTHER_NETWORK,
      `Let in UDP and TCP ${ports}, and offer a relay by TLS on port 443 (TURNS_PORT).`,
    ])
    : verdict("udp_blocked_no_tcp", [
      `${blocked} and the server offered no TCP path.`,
      OTHER_NETWORK,
      `Let in UDP ${ports}, and offer TCP: the media port's own, or a relay by TLS on port 443 (TURNS_PORT).`,
    ]);
}

function nameless() {
  return verdict("no_server_candidates", [
    "The server named no address for media.",
    TELL_OPERATOR,
    "See that HOST names an interface that is up, or set PUBLIC_IP.",
  ]);
}

/** Something outside answered by UDP. @param {Evidence["local"]} local */
function udpWorks(local) {
  return local.some(({ type, protocol, relayProtocol }) => (type === "srflx" && protocol === "udp") || (type === "relay" && relayProtocol === "udp"));
}

/** @param {Evidence["local"]} candidates @param {Partial<Evidence["local"][number]>} like */
function has(candidates, like) {
  return candidates.some((candidate) => Object.entries(like).every(([name, value]) => Reflect.get(candidate, name) === value));
}

/** @param {Evidence["remote"]} remote */
function places(remote) {
  /** @param {Evidence["remote"][number]} candidate */
  const place = ({ protocol, address, port }) => `${protocol.toUpperCase()} ${address.includes(":") ? `[${address}]` : address}:${port}`;
  return [...new Set(remote.map(place))].slice(0, 3).join(", ");
}

/** @param {Code} code @param {Words} words @returns {Verdict} */
function verdict(code, [text, listener, operator = listener]) {
  return { code, text, next: { listener, operator } };
}
