// A small internet: a backbone that routes public addresses, hosts that have one, and networks behind routers that are NATs or
// firewalls. Its public addresses are those of RFC 5737: neither Chromium nor the server takes them for private ones.

import { addNamespace, forwarding, ip, nft, removeAll, removeLeftovers, wire } from "./netns.js";

const BACKBONE = "backbone";
/** Every host's first hop. */
const GATEWAY = "192.0.2.1";

/**
 * @typedef {object} Network a network behind a router
 * @property {string} address the router's, on the internet
 * @property {string} host of the one host inside; the router is .1 of its /24
 * @property {"preserving" | "symmetric"} nat whether the router keeps the port of whoever sends, or draws one for each destination
 * @property {string[]} [forbidden] packets from inside that the router drops, as nftables matches
 * @property {{ udp: number[], tcp: number[] }} [forwarded] ports of the router that lead to the host
 */

let links = 0;

/** The backbone, and nothing on it. */
export function makeWorld() {
  removeLeftovers();
  addNamespace(BACKBONE);
  forwarding(BACKBONE);
  // Nobody answers for an address that does not exist.
  ip(BACKBONE, "route add blackhole default");
}

export function unmakeWorld() {
  removeAll();
}

/** A host with public addresses. @param {string} name @param {string[]} addresses @param {string} [link] */
export function addHost(name, addresses, link = "eth0") {
  links += 1;
  const far = `link${links}`;
  addNamespace(name);
  wire([name, link], [BACKBONE, far]);
  ip(BACKBONE, `addr add ${GATEWAY}/32 dev ${far}`);
  for (const address of addresses) {
    ip(name, `addr add ${address}/32 dev ${link}`);
    ip(BACKBONE, `route add ${address}/32 dev ${far}`);
  }
  ip(name, `route add ${GATEWAY}/32 dev ${link}`);
  ip(name, `route add default via ${GATEWAY} src ${addresses[0]}`);
}

/** A host behind a router of its own. @param {string} name @param {Network} network */
export function addNetwork(name, network) {
  addNamespace(name);
  addUplink(name, network, "eth0");
  plugIn(name, network, "eth0");
}

/** A link of a host to a router, and the router; nothing goes through it yet. @param {string} name @param {Network} network @param {string} link */
export function addUplink(name, { address, host, nat, forbidden, forwarded }, link) {
  const router = `${name}-${link}`;
  addHost(router, [address], "wan");
  wire([name, link], [router, "lan"]);
  ip(router, `addr add ${gatewayOf(host)}/24 dev lan`);
  ip(name, `addr add ${host}/24 dev ${link}`);
  ip(name, `link set ${link} down`);
  forwarding(router);
  const forwards = Object.entries(forwarded ?? {}).map(
    ([protocol, ports]) => `iifname "wan" ${protocol} dport { ${ports.join(", ")} } dnat to ${host}`,
  );
  const drops = (forbidden ?? []).map((match) => `iifname "lan" ${match} drop`);
  nft(
    router,
    `
    table ip nat {
      chain prerouting {
        type nat hook prerouting priority dstnat;
        ${forwards.join("\n")}
      }
      chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname "wan" masquerade ${nat === "symmetric" ? "fully-random" : ""}
      }
    }
    table ip filter {
      chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
      }
      chain forward {
        type filter hook forward priority filter; policy drop;
        ${drops.join("\n")}
        ct state established,related accept
        iifname "lan" accept
        iifname "wan" ct status dnat accept
      }
    }`,
  );
}

/** From here on a host's packets go out there. @param {string} name @param {Network} network @param {string} link */
export function plugIn(name, { host }, link) {
  ip(name, `link set ${link} up`);
  ip(name, `route add default via ${gatewayOf(host)}`);
}

/** Takes a link away, its route with it. @param {string} name @param {string} link */
export function unplug(name, link) {
  ip(name, `link set ${link} down`);
}

/** The router of a network. @param {string} host */
const gatewayOf = (host) => host.replace(/\d+$/, "1");
