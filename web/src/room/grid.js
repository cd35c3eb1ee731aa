// Where tiles go: pure arithmetic over boxes. All tiles of a grid are of one size, as large as fits, and nothing scrolls.

/** @typedef {{ width: number, height: number }} Box */
/** @typedef {{ x: number, y: number, width: number, height: number }} Place */

export const ASPECT = 16 / 9;
const GAP = 8;
/** Of the box, for those who are not in front. */
const STRIP = 0.22;

/**
 * Places for this many tiles, row by row; each row stands in the middle.
 * @param {number} count
 * @param {Box} box
 * @param {{ gap?: number, aspect?: number }} [options]
 * @returns {Place[]}
 */
export function layout(count, box, { gap = GAP, aspect = ASPECT } = {}) {
  if (count < 1) return [];
  const columns = bestColumns(count, box, gap, aspect);
  const rows = Math.ceil(count / columns);
  const { width, height } = tileSize(columns, rows, box, gap, aspect);
  const top = (box.height - rows * height - (rows - 1) * gap) / 2;
  return Array.from({ length: count }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (box.width - inRow * width - (inRow - 1) * gap) / 2;
    return { x: left + (at % columns) * (width + gap), y: top + row * (height + gap), width, height };
  });
}

/**
 * One tile large, the others in a strip beside or under it, whichever leaves more for the one.
 * @param {number} count
 * @param {number} front which one is large
 * @param {Box} box
 * @param {{ gap?: number, aspect?: number }} [options]
 * @returns {Place[]}
 */
export function spotlight(count, front, box, { gap = GAP, aspect = ASPECT } = {}) {
  if (count < 2) return layout(count, box, { gap, aspect });
  const under = Math.round(box.height * STRIP);
  const beside = Math.round(box.width * STRIP);
  const cuts = [
    { main: { width: box.width, height: box.height - under - gap }, strip: { width: box.width, height: under }, x: 0, y: box.height - under },
    { main: { width: box.width - beside - gap, height: box.height }, strip: { width: beside, height: box.height }, x: box.width - beside, y: 0 },
  ].map((cut) => ({ ...cut, large: /** @type {Place} */ (layout(1, cut.main, { gap, aspect })[0]) }));
  const cut = cuts.reduce((best, other) => (other.large.width > best.large.width ? other : best));
  const small = layout(count - 1, cut.strip, { gap, aspect }).map((place) => ({ ...place, x: place.x + cut.x, y: place.y + cut.y }));
  return [...small.slice(0, front), cut.large, ...small.slice(front)];
}

/**
 * Where a picture of this shape stands in a place, whole and in the middle.
 * @param {Box} picture
 * @param {Place} place
 * @returns {Place}
 */
export function contain(picture, place) {
  const scale = Math.min(place.width / picture.width, place.height / picture.height);
  const width = picture.width * scale;
  const height = picture.height * scale;
  return { x: place.x + (place.width - width) / 2, y: place.y + (place.height - height) / 2, width, height };
}

/** @param {number} count @param {Box} box @param {number} gap @param {number} aspect */
function bestColumns(count, box, gap, aspect) {
  let best = 1;
  let widest = -1;
  for (let columns = 1; columns <= count; columns += 1) {
    const { width } = tileSize(columns, Math.ceil(count / columns), box, gap, aspect);
    if (width <= widest) continue;
    best = columns;
    widest = width;
  }
  return best;
}

/** Whole pixels, so that edges are sharp. @param {number} columns @param {number} rows @param {Box} box @param {number} gap @param {number} aspect */
function tileSize(columns, rows, box, gap, aspect) {
  const across = (box.width - gap * (columns - 1)) / columns;
  const down = (box.height - gap * (rows - 1)) / rows;
  const width = Math.max(0, Math.floor(Math.min(across, down * aspect)));
  return { width, height: Math.min(Math.max(0, down), width / aspect) };
}
