// What a network looks like from inside.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { within } from "./netns.js";
import { STUN, TURN } from "./networks.js";

const PROBE = fileURLToPath(new URL("../inside/probe.js", import.meta.url));

/**
 * Of one UDP socket its own port and the addresses that two STUN servers see; and which TCP ports can be reached.
 * @param {string} host
 * @returns {Promise<{ port: number, mapped: (string | null)[], tcp3478: boolean, tcp443: boolean }>}
 */
export async function lookAround(host) {
  const [program = "", ...args] = [...within(host), process.execPath, PROBE, ...STUN, TURN];
  const { stdout } = await promisify(execFile)(program, args, { timeout: 15_000 });
  return JSON.parse(stdout);
}
