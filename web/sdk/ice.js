// STUN and TURN servers: out of several lists one that no browser throws at, and what a policy leaves of it. It connects nothing.

/** @typedef {import("./index.js").IceServer} IceServer */
/** @typedef {import("./index.js").IceTransportPolicy} Policy */

/** Finds out a listener's outer address where our own server does not; it carries no media. */
export const DEFAULT_ICE_SERVERS = Object.freeze([Object.freeze({ urls: "stun:stun.l.google.com:19302" })]);

/** RFC 7064 and 7065 section 3.1. A browser throws at anything else, and then there is no connection at all. */
const URL_SHAPE = /^(stuns?|turns?):(\[[0-9a-f:.]+\]|[^\s:/?#@[\]]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/i;

/**
 * @typedef {object} IceUrl
 * @property {string} key the same for every way to write the same server
 * @property {"udp" | "tcp" | null} relay how it relays, if it does; TLS is TCP
 */

/** Null for what is no URL of an ICE server. @param {string} url @returns {IceUrl | null} */
export function readIceUrl(url) {
  const [whole, scheme = "", host = "", port, transport] = URL_SHAPE.exec(url.trim()) ?? [];
  if (whole === undefined) return null;
  const kind = scheme.toLowerCase();
  const turn = kind.startsWith("turn");
  if (!turn && transport !== undefined) return null;
  const secure = kind.endsWith("s");
  const at = Number(port ?? (secure ? 5349 : 3478));
  if (at < 1 || at > 65_535) return null;
  const by = secure || transport?.toLowerCase() === "tcp" ? "tcp" : "udp";
  return { key: `${kind}:${host.toLowerCase()}:${at}?${by}`, relay: turn ? by : null };
}

/**
 * One list out of several: each URL once, with the credentials that came last, and never without where there are some.
 * @param {...readonly Readonly<IceServer>[]} lists later ones are newer
 * @returns {{ urls: string[], username?: string, credential?: string }[]}
 */
export function mergeIceServers(...lists) {
  /** @type {Map<string, { url: string, username?: string, credential?: string }>} */
  const byKey = new Map();
  for (const { urls, username, credential } of lists.flat()) {
    for (const url of [urls].flat()) {
      const read = readIceUrl(url);
      const known = username && credential;
      // A TURN URL without credentials makes a browser throw.
      if (!read || (read.relay && !known)) continue;
      if (known) byKey.set(read.key, { url: url.trim(), username, credential });
      else if (!byKey.has(read.key)) byKey.set(read.key, { url: url.trim() });
    }
  }
  /** @type {Map<string, { urls: string[], username?: string, credential?: string }>} */
  const byLogin = new Map();
  for (const { url, ...login } of byKey.values()) {
    const key = JSON.stringify(login);
    const server = byLogin.get(key) ?? { urls: [], ...login };
    server.urls.push(url);
    byLogin.set(key, server);
  }
  return [...byLogin.values()];
}

/**
 * What a policy leaves: all, or the TURN URLs of one transport.
 * @param {ReturnType<typeof mergeIceServers>} servers
 * @param {Policy | null} policy
 */
export function allowed(servers, policy) {
  if (!relayOnly(policy)) return servers;
  return servers
    .map((server) => ({ ...server, urls: server.urls.filter((url) => readIceUrl(url)?.relay === policy) }))
    .filter(({ urls }) => urls.length > 0);
}

/** @param {Policy | null} policy */
export function relayOnly(policy) {
  return policy === "udp" || policy === "tcp";
}
