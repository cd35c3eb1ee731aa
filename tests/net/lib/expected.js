// Which client must hear which server, and over what; or why it cannot in principle. Derived from what the networks do:
//
// - A NAT here drops what comes from an address and port that nothing was sent to. A *preserving* one gives a socket the same public
//   port towards everybody, so that a STUN server can tell it; a *symmetric* one gives another port for each destination, which
//   nobody can tell before. Neither lets a TCP connection in.
// - Two sides find each other by UDP when each sends to where the other's packets come from. One of them may be symmetric when the
//   other filters nothing: it answers to wherever it was called from. Where both are behind NATs and one of these is symmetric, its packets
//   come from a port that the other has sent nothing to, and are dropped, both ways, for ever. Either side has to be told of the other
//   by a STUN server: a page does not know its own address.
// - The closed relay is where the server is. It bridges what is wrong with a client's network (UDP, ports) and never what is wrong with
//   the server's: where nobody can reach the server, nobody reaches the relay.
// - coturn lets in who a permission names by address (RFC 8656 section 9), whatever the port, so a symmetric NAT is none to it. Either side
//   may sit on it: a client reaches it by UDP, TCP, or TLS on 443; a server without UDP by TCP. With it everybody connects.
//
// The words of a path are those of `pathOf` in listener.js: by what the client's packets leave, then what the server's end is. Host,
// srflx and prflx on the client's side are one word: which of them it is says more about mDNS than about the network.

/** @typedef {import("./networks.js").Client} Client */
/** @typedef {import("./networks.js").Server} Server */
/** @typedef {"closed relay" | "coturn"} Round */
/** @typedef {{ paths: string[] } | { never: string, verdict: string }} Expected the verdict is what the page finds out about it by itself */

/** @param {...string} paths @returns {Expected} */
const by = (...paths) => ({ paths });
/** @param {string} never @param {string} verdict @returns {Expected} */
const never = (never, verdict) => ({ never, verdict });

/** A server that can be reached: TCP directly and through the relay cost the same, so either is right. */
const REACHED = {
  open: by("udp to host"),
  preserving: by("udp to host"),
  symmetric: by("udp to host"),
  "no-udp": by("tcp to host", "relay by tcp to host", "relay by tls to host"),
  "only-443": by("relay by tls to host"),
};

/** Both send to where the other's packets come from. */
const FOUND = by("udp to reflexive");
/** For the page it is a server that does not answer where a STUN server sees it. */
const UNFORESEEN = never(
  "one side's NAT draws a port that nobody can know, and the other's lets nothing in from a port that nothing was sent to",
  "media_port_closed",
);
const ONLY_TCP = "nobody can connect to the server by TCP, and no relay stands outside";
const NO_WAY_IN = never(ONLY_TCP, "udp_blocked_tcp_failed");
/** Without UDP it does not learn its public address, and names private ones only. */
const HIDDEN = never("the server has no UDP, and nobody can connect to it by TCP", "server_behind_nat");
const HIDDEN_FROM_TCP = never(ONLY_TCP, "server_behind_nat");

/** Through coturn to the server's own socket, or to its place on coturn. */
const BY_UDP = by("udp to relay", "relay by udp to reflexive", "relay by udp to relay");
const BY_TCP = {
  "no-udp": by("relay by tcp to reflexive", "relay by tcp to relay", "relay by tls to reflexive", "relay by tls to relay"),
  "only-443": by("relay by tls to reflexive", "relay by tls to relay"),
};
const TO_RELAY = by("udp to relay", "relay by udp to relay");

/** @type {Record<Round, Record<Server, Record<Client, Expected>>>} */
export const EXPECTED = {
  "closed relay": {
    public: REACHED,
    forwarded: REACHED,
    preserving: { open: FOUND, preserving: FOUND, symmetric: UNFORESEEN, "no-udp": NO_WAY_IN, "only-443": NO_WAY_IN },
    symmetric: { open: FOUND, preserving: UNFORESEEN, symmetric: UNFORESEEN, "no-udp": NO_WAY_IN, "only-443": NO_WAY_IN },
    "no-udp": { open: HIDDEN, preserving: HIDDEN, symmetric: HIDDEN, "no-udp": HIDDEN_FROM_TCP, "only-443": HIDDEN_FROM_TCP },
  },
  coturn: {
    public: REACHED,
    forwarded: REACHED,
    preserving: { open: FOUND, preserving: FOUND, symmetric: BY_UDP, ...BY_TCP },
    symmetric: { open: FOUND, preserving: BY_UDP, symmetric: BY_UDP, ...BY_TCP },
    // The server is on coturn, which lets a client in by its address.
    "no-udp": {
      open: TO_RELAY,
      preserving: TO_RELAY,
      symmetric: TO_RELAY,
      "no-udp": by("relay by tcp to relay", "relay by tls to relay"),
      "only-443": by("relay by tls to relay"),
    },
  },
};
