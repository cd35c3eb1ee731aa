// Where tiles go: pure arithmetic over boxes. All tiles of a grid are of one size, as large as fits, and nothing scrolls.

/** @typedef {{ width: number, height: number }} Box */
/** @typedef {{ x: number, y: number, width: number, height: number }} Place */

export const ASPECT = 16 / 9;
const GAP = 8;
/** Of the box, kept for those who are not in front. */
const STRIP = 0.22;
/** Of the tile in front, what each of the others may have at most: else it would not look like the one in front. */
const SMALL = 0.5;

/** @typedef {{ gap?: number, aspect?: number, widest?: number }} Options `widest`: of a tile */

/**
 * Places for this many tiles, row by row; each row stands in the middle.
 * @param {number} count
 * @param {Box} box
 * @param {Options} [options]
 * @returns {Place[]}
 */
export function layout(count, box, { gap = GAP, aspect = ASPECT, widest = Infinity } = {}) {
  if (count < 1) return [];
  const shape = { gap, aspect, widest };
  const columns = bestColumns(count, box, shape);
  const rows = Math.ceil(count / columns);
  const { width, height } = tileSize(columns, rows, box, shape);
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
 * @param {Options} [options]
 * @returns {Place[]}
 */
export function spotlight(count, front, box, { gap = GAP, aspect = ASPECT } = {}) {
  if (count < 2) return layout(count, box, { gap, aspect });
  const under = largest({ width: box.width, height: box.height * (1 - STRIP) - gap }, aspect);
  const beside = largest({ width: box.width * (1 - STRIP) - gap, height: box.height }, aspect);
  const below = under.width >= beside.width;
  const large = below ? { ...under, x: (box.width - under.width) / 2, y: 0 } : { ...beside, x: 0, y: (box.height - beside.height) / 2 };
  // Whatever the large one leaves is theirs.
  const strip = below
    ? { x: 0, y: large.height + gap, width: box.width, height: box.height - large.height - gap }
    : { x: large.width + gap, y: 0, width: box.width - large.width - gap, height: box.height };
  const small = layout(count - 1, strip, { gap, aspect, widest: large.width * SMALL });
  // Close to the large one, and all of it in the middle.
  const first = small.reduce((least, { x, y }) => ({ x: Math.min(least.x, x), y: Math.min(least.y, y) }), { x: Infinity, y: Infinity });
  const shift = below ? { x: 0, y: first.y } : { x: first.x, y: 0 };
  const places = small.map((place) => ({ ...place, x: place.x + strip.x - shift.x, y: place.y + strip.y - shift.y }));
  return [...places.slice(0, front), large, ...places.slice(front)].map((place) => ({ ...place, x: place.x + shift.x, y: place.y + shift.y }));
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

/** @param {Box} box @param {number} aspect */
function largest(box, aspect) {
  return tileSize(1, 1, box, { gap: 0, aspect, widest: Infinity });
}

/** Where it makes no difference, more columns: a row reads better than a tower. @param {number} count @param {Box} box @param {Required<Options>} shape */
function bestColumns(count, box, shape) {
  let best = 1;
  let width = 0;
  for (let columns = 1; columns <= count; columns += 1) {
    const size = tileSize(columns, Math.ceil(count / columns), box, shape);
    if (size.width < width) continue;
    best = columns;
    width = size.width;
  }
  return best;
}

/** Whole pixels, so that edges are sharp. @param {number} columns @param {number} rows @param {Box} box @param {Required<Options>} shape */
function tileSize(columns, rows, box, { gap, aspect, widest }) {
  const across = (box.width - gap * (columns - 1)) / columns;
  const down = (box.height - gap * (rows - 1)) / rows;
  const width = Math.max(0, Math.floor(Math.min(across, down * aspect, widest)));
  return { width, height: width / aspect };
}
