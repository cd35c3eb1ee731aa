// Network namespaces of this run, joined by veth pairs; their names carry this process's id. Nothing of the machine's own network is touched.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";

const PREFIX = "voxcast";
const STOP_MS = 10_000;
const OUTPUT_CHARS = 60_000;

/** @typedef {import("node:child_process").ChildProcess} ChildProcess */
/** @typedef {Awaited<ReturnType<typeof startIn>>} Running */

/** @type {Set<string>} */
const made = new Set();

/** The system's name of a namespace. @param {string} name */
const full = (name) => `${PREFIX}-${process.pid}-${name}`;

/** What must stand before a command for it to run in a namespace. @param {string} name */
export function within(name) {
  // Left behind by a run that was killed, nothing goes on.
  return ["setpriv", "--pdeathsig", "KILL", "nsenter", `--net=/run/netns/${full(name)}`];
}

/** @param {string[]} words @param {string} [input] */
function run([command = "", ...args], input = "") {
  try {
    return execFileSync(command, args, { input, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"] });
  } catch (fault) {
    throw new Error(`${command} ${args.join(" ")}: ${/** @type {any} */ (fault).stderr || fault}`, { cause: fault });
  }
}

/** Runs `ip` in a namespace. @param {string} name @param {string} words */
export function ip(name, words) {
  return run(["ip", "-n", full(name), ...words.split(" ")]);
}

/** Gives a namespace its firewall. @param {string} name @param {string} rules */
export function nft(name, rules) {
  run([...within(name), "nft", "-f", "-"], rules);
}

/** @param {string} name */
export function addNamespace(name) {
  run(["ip", "netns", "add", full(name)]);
  made.add(name);
  ip(name, "link set lo up");
}

/** Lets a namespace forward packets. @param {string} name */
export function forwarding(name) {
  run([...within(name), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
}

/** A wire between two namespaces. @param {[name: string, link: string]} a @param {[name: string, link: string]} b */
export function wire([a, linkOfA], [b, linkOfB]) {
  run(["ip", "link", "add", linkOfA, "netns", full(a), "type", "veth", "peer", "name", linkOfB, "netns", full(b)]);
  ip(a, `link set ${linkOfA} up`);
  ip(b, `link set ${linkOfB} up`);
}

/** Takes down what this run made, as far as that can be done: what stays, the next run finds. */
export function removeAll() {
  for (const name of made) {
    // A signal that ends this process is often one to its whole group, and reaches the commands that clean up after it, too.
    for (let attempt = 0; attempt < 3 && made.has(name); attempt += 1) {
      try {
        remove(full(name));
        made.delete(name);
      } catch (fault) {
        if (attempt === 2) console.error(`${fault}`);
      }
    }
  }
}

/** Takes down what runs left behind that were killed. */
export function removeLeftovers() {
  for (const line of run(["ip", "netns", "list"]).split("\n")) {
    const name = line.split(" ", 1)[0] ?? "";
    const pid = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1];
    if (pid && (Number(pid) === process.pid || !existsSync(`/proc/${pid}`))) remove(name);
  }
}

/** @param {string} name */
function remove(name) {
  // A namespace lives as long as a process in it.
  for (const pid of run(["ip", "netns", "pids", name]).split("\n").filter(Boolean)) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It went by itself.
    }
  }
  run(["ip", "netns", "del", name]);
}

/**
 * Starts a program in a namespace and waits until it says that it is ready.
 * @param {string} name
 * @param {string[]} command
 * @param {{ ready: RegExp, env?: Record<string, string>, cwd?: string, timeout?: number }} options
 */
export async function startIn(name, command, { ready, env = {}, cwd = "/", timeout = 20_000 }) {
  const [program = "", ...args] = [...within(name), ...command];
  const child = spawn(program, args, { env: { PATH: process.env.PATH ?? "", ...env }, cwd, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const what = `${command[0]} in ${name}`;
  await new Promise((resolve, reject) => {
    const patience = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${what} is not ready:\n${output}`));
    }, timeout);
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text) => {
        output = (output + text).slice(-OUTPUT_CHARS);
        if (!ready.test(output)) return;
        clearTimeout(patience);
        resolve(undefined);
      });
    }
    child.on("error", reject);
    child.on("exit", () => {
      clearTimeout(patience);
      reject(new Error(`${what} ended:\n${output}`));
    });
  });
  return {
    get output() {
      return output;
    },
    stop: () => stop(child),
  };
}

/** @param {ChildProcess} child */
async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const patience = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await ended;
  clearTimeout(patience);
}
