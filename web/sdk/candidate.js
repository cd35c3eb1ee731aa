// ICE candidates as text (RFC 8839 section 5.1), read for diagnostics only.

/** @typedef {import("./index.js").Candidate} Candidate */

const TYPES = new Set(["host", "srflx", "prflx", "relay"]);

/** Null for what is no candidate, or one of the second component. @param {string | null | undefined} text @returns {Candidate | null} */
export function readCandidate(text) {
  const words = (text ?? "").trim().replace(/^(a=)?candidate:/, "").split(/\s+/);
  const [, component, transport = "", , address = "", port = "", typ, type = ""] = words;
  const protocol = transport.toLowerCase();
  if (component !== "1" || typ !== "typ" || !TYPES.has(type) || (protocol !== "udp" && protocol !== "tcp")) return null;
  const named = words.indexOf("tcptype");
  const tcpType = named > 0 ? words[named + 1] : undefined;
  return { type: /** @type {Candidate["type"]} */ (type), protocol, address, port: Number(port), ...(tcpType && { tcpType }) };
}

/** Those that stand in a description. @param {string} sdp @returns {Candidate[]} */
export function candidatesOf(sdp) {
  return sdp
    .split(/\r?\n/)
    .filter((line) => line.startsWith("a=candidate:"))
    .map(readCandidate)
    .filter((candidate) => candidate !== null);
}

/**
 * Who can reach an address: this machine alone, its own network, or anybody. A name that is not `localhost` says nothing, and is
 * taken for public; a `.local` name is known in its own network at most.
 * @param {string} address an IP address, with or without brackets, or a name
 * @returns {"machine" | "network" | "anybody"}
 */
export function reachOf(address) {
  const host = address.toLowerCase().replace(/^\[|\]$/g, "").replace(/^::ffff:(?=\d+\.)/, "");
  if (host === "localhost" || host.endsWith(".localhost") || host === "::1" || host === "::") return "machine";
  if (host.endsWith(".local") || /^(f[cd][0-9a-f]{2}|fe[89ab][0-9a-f]):/.test(host)) return "network";
  if (!/^\d+(\.\d+){3}$/.test(host)) return "anybody";
  if (/^(127|0)\./.test(host)) return "machine";
  // RFC 1918, link-local, and what carriers share among their customers (RFC 6598).
  return /^(10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./.test(host) ? "network" : "anybody";
}
