// Who is where: the networks of clients and servers, and the hosts of the open internet that they may use.

/** @typedef {import("./world.js").Network} Network */
/** @typedef {"open" | "preserving" | "symmetric" | "no-udp" | "only-443"} Client */
/** @typedef {"public" | "forwarded" | "preserving" | "symmetric" | "no-udp"} Server */

/** Two servers of STUN and nothing else, so that one NAT can be told from another. */
export const STUN = /** @type {const} */ (["198.51.100.40", "198.51.100.41"]);
/** coturn, on 3478 and with TLS on 443. */
export const TURN = "198.51.100.30";

const NO_UDP = ["meta l4proto udp"];

/**
 * `hz` is the tone that each listens to, so that nobody hears another's.
 * @type {Record<Client, { words: string, address: string, network: Network | null, hz: 220 | 440 | 880 }>}
 */
export const CLIENTS = {
  open: { words: "open", address: "198.51.100.101", network: null, hz: 220 },
  preserving: {
    words: "port-preserving NAT",
    address: "198.51.100.105",
    network: { address: "198.51.100.105", host: "10.1.5.2", nat: "preserving" },
    hz: 880,
  },
  symmetric: {
    words: "symmetric NAT",
    address: "198.51.100.102",
    network: { address: "198.51.100.102", host: "10.1.2.2", nat: "symmetric" },
    hz: 440,
  },
  "no-udp": {
    words: "UDP blocked",
    address: "198.51.100.103",
    network: { address: "198.51.100.103", host: "10.1.3.2", nat: "preserving", forbidden: NO_UDP },
    hz: 880,
  },
  "only-443": {
    words: "only TCP 443",
    address: "198.51.100.104",
    network: { address: "198.51.100.104", host: "10.1.4.2", nat: "preserving", forbidden: ["meta l4proto != tcp", "tcp dport != 443"] },
    hz: 440,
  },
};

const MEDIA_PORT = 3479;
const RELAY_PORT = 3478;
const TURNS_PORT = 443;
const FORWARDED = { udp: [RELAY_PORT, MEDIA_PORT], tcp: [TURNS_PORT, RELAY_PORT, MEDIA_PORT] };

/**
 * `tunnel` is the address of the tunnel that leads to the server. `reachable` says whether its operator has a public address to
 * name, PUBLIC_IP: the relay is there, too, and has a certificate.
 * @type {Record<Server, { words: string, address: string, tunnel: string, reachable: boolean, network: Network | null }>}
 */
export const SERVERS = {
  public: { words: "public", address: "203.0.113.10", tunnel: "198.51.100.80", reachable: true, network: null },
  forwarded: {
    words: "NAT, ports forwarded",
    address: "203.0.113.11",
    tunnel: "198.51.100.81",
    reachable: true,
    network: { address: "203.0.113.11", host: "192.168.1.2", nat: "preserving", forwarded: FORWARDED },
  },
  preserving: {
    words: "port-preserving NAT",
    address: "203.0.113.12",
    tunnel: "198.51.100.82",
    reachable: false,
    network: { address: "203.0.113.12", host: "192.168.2.2", nat: "preserving" },
  },
  symmetric: {
    words: "symmetric NAT",
    address: "203.0.113.13",
    tunnel: "198.51.100.83",
    reachable: false,
    network: { address: "203.0.113.13", host: "192.168.3.2", nat: "symmetric" },
  },
  "no-udp": {
    words: "no UDP out",
    address: "203.0.113.14",
    tunnel: "198.51.100.84",
    reachable: false,
    network: { address: "203.0.113.14", host: "192.168.4.2", nat: "preserving", forbidden: NO_UDP },
  },
};

export const PORTS = { http: 8080, media: MEDIA_PORT, relay: RELAY_PORT, turns: TURNS_PORT };
