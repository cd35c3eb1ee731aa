// Tiles for any number of people in any box, as properties over many boxes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ASPECT, contain, layout, spotlight } from "../src/room/grid.js";

/** @typedef {import("../src/room/grid.js").Place} Place */
/** @typedef {import("../src/room/grid.js").Box} Box */

/** A phone either way up, a desk, a strip, odd ones, and drawn ones that are the same each time. @type {Box[]} */
const BOXES = [[374, 700], [828, 280], [1248, 660], [880, 660], [300, 300], [1920, 900], [200, 1200], [1500, 90]].map(([width = 0, height = 0]) => ({ width, height }));
let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
for (let count = 0; count < 60; count += 1) BOXES.push({ width: 160 + random() * 1800, height: 120 + random() * 1000 });

/** @param {Place} a @param {Place} b */
const overlap = (a, b) => a.x < b.x + b.width - 0.01 && b.x < a.x + a.width - 0.01 && a.y < b.y + b.height - 0.01 && b.y < a.y + a.height - 0.01;

/** @param {Place[]} places @param {Box} box @param {string} scene */
function fits(places, box, scene) {
  for (const [at, place] of places.entries()) {
    assert.ok(place.x >= -0.01 && place.y >= -0.01 && place.x + place.width <= box.width + 0.01 && place.y + place.height <= box.height + 0.01, `${scene}: tile ${at} leaves the box`);
    assert.ok(place.width > 0 && Math.abs(place.width / place.height - ASPECT) < 0.01, `${scene}: tile ${at} is ${place.width} x ${place.height}`);
    for (const other of places.slice(at + 1)) assert.ok(!overlap(place, other), `${scene}: tile ${at} overlaps`);
  }
}

/** The widest tile that this many columns allow. @param {number} count @param {number} columns @param {Box} box @param {number} gap */
function widest(count, columns, box, gap) {
  const rows = Math.ceil(count / columns);
  return Math.min((box.width - gap * (columns - 1)) / columns, ((box.height - gap * (rows - 1)) / rows) * ASPECT);
}

test("1 to 16 tiles stand in the box, apart from each other, of one size, and no other number of columns makes them larger", () => {
  for (const box of BOXES) {
    for (let count = 1; count <= 16; count += 1) {
      const scene = `${count} in ${box.width.toFixed()} x ${box.height.toFixed()}`;
      const places = layout(count, box);
      assert.equal(places.length, count, scene);
      fits(places, box, scene);
      assert.equal(new Set(places.map(({ width, height }) => `${width} ${height}`)).size, 1, scene);
      const best = Math.max(...Array.from({ length: count }, (_, at) => widest(count, at + 1, box, 8)));
      assert.ok(/** @type {Place} */ (places[0]).width > best - 1.01, `${scene}: ${places[0]?.width} of ${best}`);
    }
  }
});

test("a row that is not full stands in the middle, and so does the whole", () => {
  for (const box of BOXES) {
    for (let count = 1; count <= 16; count += 1) {
      const places = layout(count, box);
      const rows = group(places);
      for (const row of rows.values()) assert.ok(Math.abs(/** @type {Place} */ (row[0]).x - (box.width - /** @type {Place} */ (row.at(-1)).x - /** @type {Place} */ (row.at(-1)).width)) < 0.01);
      const last = /** @type {Place} */ (places.at(-1));
      assert.ok(Math.abs(/** @type {Place} */ (places[0]).y - (box.height - last.y - last.height)) < 0.01);
    }
  }
});

/** @param {Place[]} places */
function group(places) {
  /** @type {Map<number, Place[]>} */
  const rows = new Map();
  for (const place of places) rows.set(place.y, [...(rows.get(place.y) ?? []), place]);
  return rows;
}

test("nobody needs no tiles, and a box without room gives none that stick out", () => {
  assert.deepEqual(layout(0, { width: 100, height: 100 }), []);
  for (const { width, height } of layout(16, { width: 20, height: 20 })) assert.ok(width >= 0 && height >= 0);
});

test("one in front is larger than all others, which keep their order beside it", () => {
  for (const box of BOXES.filter(({ width, height }) => width > 250 && height > 250)) {
    for (let count = 2; count <= 16; count += 1) {
      for (const front of [0, count >> 1, count - 1]) {
        const places = spotlight(count, front, box);
        const scene = `${front} of ${count} in ${box.width.toFixed()} x ${box.height.toFixed()}`;
        assert.equal(places.length, count);
        fits(places, box, scene);
        const large = /** @type {Place} */ (places[front]);
        const others = places.filter((_, at) => at !== front);
        for (const place of others) assert.ok(large.width > place.width, scene);
        for (const [at, place] of others.slice(1).entries()) {
          const before = /** @type {Place} */ (others[at]);
          assert.ok(place.y > before.y || (place.y === before.y && place.x > before.x), `${scene}: the order is kept`);
        }
      }
    }
  }
});

test("one alone in front is just one", () => {
  const box = { width: 640, height: 480 };
  assert.deepEqual(spotlight(1, 0, box), layout(1, box));
});

test("a picture is shown whole and in the middle", () => {
  const place = { x: 10, y: 20, width: 160, height: 90 };
  assert.deepEqual(contain({ width: 1280, height: 720 }, place), place);
  assert.deepEqual(contain({ width: 900, height: 900 }, place), { x: 45, y: 20, width: 90, height: 90 });
  assert.deepEqual(contain({ width: 3200, height: 900 }, place), { x: 10, y: 42.5, width: 160, height: 45 });
});
