// What a direct path is to be called, by the addresses that this machine happens to have: some machines have only public ones.

import { BlockList, isIPv6 } from "node:net";

const OWN = new BlockList();
for (const [address, prefix] of /** @type {const} */ ([["10.0.0.0", 8], ["100.64.0.0", 10], ["127.0.0.0", 8], ["169.254.0.0", 16], ["172.16.0.0", 12], ["192.168.0.0", 16]])) OWN.addSubnet(address, prefix, "ipv4");
for (const [address, prefix] of /** @type {const} */ ([["::1", 128], ["fc00::", 7], ["fe80::", 10]])) OWN.addSubnet(address, prefix, "ipv6");

/** @param {{ local: { address: string }, remote: { address: string } }} pair of host candidates, as `address:port` */
export function directWords({ local, remote }) {
  return [local, remote].some(({ address }) => isOwn(address)) ? "direct in the LAN" : "direct";
}

/** An address that the browser hides is one of the own network. @param {string} text */
function isOwn(text) {
  const address = text.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return address === "" || address.endsWith(".local") || OWN.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}
