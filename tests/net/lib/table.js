// The matrix as Markdown: a table for each round, a row for each network of the server, a column for each of the client.

import { EXPECTED } from "./expected.js";
import { pairWords } from "./listener.js";
import { CLIENTS, SERVERS } from "./networks.js";

/** @typedef {import("./networks.js").Client} Client */
/** @typedef {import("./networks.js").Server} Server */
/** @typedef {import("./expected.js").Round} Round */
/** @typedef {import("./expected.js").Expected} Expected */
/** @typedef {{ round: Round, server: Server, client: Client, expected: Expected, outcome: import("./listener.js").Outcome | null }} Cell */

/** @param {Cell[]} cells */
export function table(cells) {
  /** @type {string[]} */
  const reasons = [];
  const tables = Object.keys(EXPECTED).map((round) => {
    const head = [`${round}: server ↓, client →`, ...Object.values(CLIENTS).map(({ words }) => words)];
    const rows = Object.entries(SERVERS).map(([server, { words }]) => [
      words,
      ...Object.keys(CLIENTS).map((client) => {
        const cell = cells.find((cell) => cell.round === round && cell.server === server && cell.client === client);
        return cell ? short(cell, reasons) : "not tried";
      }),
    ]);
    return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("");
  });
  const times = "Seconds from the offer to the connection / to sound, or to the word that there is no way.\n";
  return [...tables, times, reasons.map((reason, at) => `${at + 1}. ${reason}.\n`).join("")].join("\n");
}

/** @param {Cell} cell @param {string[]} reasons grows */
function short({ expected, outcome }, reasons) {
  if (!outcome) return "**fault**";
  const { pair, connectedMs, heardMs } = outcome;
  if (pair) return `${pairWords(pair)}, ${number(connectedMs)} / ${number(heardMs)}`;
  if ("paths" in expected) return `**no way**, ${number(connectedMs)}`;
  if (!reasons.includes(expected.never)) reasons.push(expected.never);
  return `no way (${reasons.indexOf(expected.never) + 1}), ${number(connectedMs)}`;
}

/** One line about a cell. @param {import("./listener.js").Outcome} outcome */
export function line({ pair, connectedMs, heardMs, hz, told }) {
  if (!pair) return `told ${number(connectedMs)} s after the offer: ${told}`;
  return `${pairWords(pair)}, connected ${number(connectedMs)} s and heard ${number(heardMs)} s after the offer, ${hz.toFixed(0)} Hz`;
}

/** Seconds. @param {number} ms */
function number(ms) {
  return (ms / 1000).toFixed(ms < 9_950 ? 2 : 0);
}
