// Opens the room page with people that are made up inside it: for states and crowds that a real room gives only by chance.

import { readFile } from "node:fs/promises";

/** @typedef {import("./browser.js").Page} Page */
/**
 * @typedef {object} Scene
 * @property {string[]} [people] who is there before us
 * @property {({ video?: boolean, audio?: boolean, level?: number, size?: [number, number] } | undefined)[]} [kinds] what each of them sends
 * @property {string | null} [refuse] the code of a refusal
 * @property {boolean} [slow] joining never comes to an end
 * @property {boolean} [voices] whether the server tells its voices
 */

const SDK = new URL("./fakeroom-sdk.js", import.meta.url);

/** @param {Page} page @param {Scene} scene */
export async function fakeRoom(page, scene) {
  const body = await readFile(SDK, "utf8");
  await page.route("**/sdk/index.js", (route) => route.fulfill({ contentType: "text/javascript", body }));
  await page.addInitScript((given) => void Object.assign(window, { fakeScene: given }), scene);
}

/** Through the door. @param {Page} page @param {{ name?: string }} [options] */
export async function walkIn(page, { name = "Ann" } = {}) {
  await page.fill("#name", name);
  await page.click("#enter");
  await page.waitForSelector("#inside:not([hidden])");
}

/** Does something to the room as others would. @param {Page} page @param {string} word @param {...unknown} values */
export async function inRoom(page, word, ...values) {
  await page.evaluate(([name, given]) => /** @type {any} */ (window).fakeRoom.rooms[0][/** @type {string} */ (name)](.../** @type {unknown[]} */ (given)), /** @type {const} */ ([word, values]));
}

/** What the page did. @param {Page} page @returns {Promise<any>} */
export async function done(page) {
  return page.evaluate(() => {
    const { asked, sent, nudges, rooms, clients } = /** @type {any} */ (window).fakeRoom;
    return { asked, sent, nudges, rooms: rooms.map((/** @type {any} */ { user, state }) => ({ user, state })), clients: clients.map((/** @type {any} */ { token, started, closed }) => ({ token, started, closed: closed === true })) };
  });
}
