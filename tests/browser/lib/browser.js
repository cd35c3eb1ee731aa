// A Chromium for the tests: the flags that real media on one machine needs, and pages that report what went wrong in them.

import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

// The package is installed beside the pages, by `npm ci` in web/.
const fromWeb = createRequire(new URL("../../../web/package.json", import.meta.url));
const { chromium } = /** @type {typeof import("../../../web/node_modules/playwright-core/index.d.ts")} */ (fromWeb("playwright-core"));

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
  "--allow-loopback-in-peer-connection",
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
];

export const PHONE = { width: 390, height: 844 };
export const DESK = { width: 1280, height: 800 };

const SHOTS = fileURLToPath(new URL("../shots/", import.meta.url));
const README_SHOTS = fileURLToPath(new URL("../../../web/screenshots/", import.meta.url));

/** @typedef {import("../../../web/node_modules/playwright-core/index.d.ts").Page} Page */
/** @typedef {import("../../../web/node_modules/playwright-core/index.d.ts").Browser} Browser */
/** @typedef {import("../../../web/node_modules/playwright-core/index.d.ts").BrowserContextOptions} ContextOptions */

/**
 * With `mayPlay: false` the browser's own autoplay rule stands. `without` names flags that are left out, `further` ones that are added.
 * @param {{ mayPlay?: boolean, executablePath?: string, without?: string[], further?: string[] }} [options]
 */
export async function launch({ mayPlay = true, executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium", without = [], further = [] } = {}) {
  const unwanted = mayPlay ? without : ["--autoplay-policy", ...without];
  return chromium.launch({
    executablePath,
    args: [...FLAGS.filter((flag) => !unwanted.some((name) => flag.startsWith(name))), ...further],
    // Playwright mutes by itself, which is harmless: what is measured is the stream, not the loudspeaker.
    timeout: 30_000,
  });
}

/**
 * A fresh page of a fresh profile; `faults` collects console errors, exceptions and violations of the content policy.
 * @param {Browser} browser
 * @param {ContextOptions} [options]
 */
export async function freshPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: PHONE, colorScheme: "dark", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  /** @type {string[]} */
  const faults = [];
  /** @type {string[]} what the page tells of its connections, for failure messages */
  const notes = [];
  page.on("pageerror", (fault) => faults.push(`exception: ${fault.message}`));
  page.on("console", (message) => {
    if (message.type() === "debug") notes.push(message.text());
    if (message.type() === "error" || message.text().includes("Content Security Policy")) faults.push(message.text());
  });
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy violation: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  return { page, context, faults, notes };
}

/**
 * A bare document that the server itself served, with a script of the test's in it. A document that a test makes up has no
 * network address, and Chromium lets it open no socket to this machine.
 * @param {Page} page
 * @param {string} url of the server
 * @param {string} script
 */
export async function bareDocument(page, url, script = "") {
  await page.goto(`${url}healthz`);
  await page.evaluate(`document.body.append(document.createElement("audio"));\n${script}\n;undefined`);
}

/**
 * Waits for the page's own word for its state.
 * @param {Page} page
 * @param {string | string[]} state
 * @param {number} [timeout]
 */
export async function reach(page, state, timeout = 20_000) {
  const wanted = [state].flat();
  try {
    await page.waitForFunction((words) => words.includes(document.body.dataset.state ?? ""), wanted, { timeout });
  } catch (fault) {
    throw new Error(`the page did not come to ${wanted.join(" or ")}:\n${await timeline(page)}`, { cause: fault });
  }
}

/** Runs in the page: keeps when a recording was begun and ended, by the page's own clock. */
export function notePresses() {
  /** @type {number[]} */
  const presses = [];
  Object.assign(window, { presses });
  document.querySelector("#record-go")?.addEventListener("click", () => presses.push(performance.now()), { capture: true });
}

/** The page's own log, for failure messages. @param {Page} page */
export async function timeline(page) {
  return page
    .evaluate(() => `${document.body.dataset.state}\n${[...document.querySelectorAll("#timeline li")].map((line) => line.textContent).join("\n")}`)
    .catch((fault) => `no timeline: ${fault}`);
}

/** @param {Page} page @param {string} name */
export async function shoot(page, name) {
  await mkdir(SHOTS, { recursive: true });
  await settle(page);
  await page.screenshot({ path: `${SHOTS}${name}.png` });
}

/** Waits until places and colours have stopped changing. @param {Page} page */
export async function settle(page) {
  await page.waitForFunction(() => !document.getAnimations().some((animation) => animation instanceof CSSTransition && animation.playState === "running"));
}

/** A picture that the README shows; only written when asked for. @param {Page} page @param {string} name */
export async function shootForReadme(page, name) {
  if (process.env.VOXCAST_SHOTS !== "1") return;
  await mkdir(README_SHOTS, { recursive: true });
  await settle(page);
  await page.screenshot({ path: `${README_SHOTS}${name}.png` });
}
