/* The occlusion grid: every position where the patch fits, as krypton_onnx/runtime/grid.py has it. */

export type Pair = readonly [number, number];

/** Pixels; pairs are [height, width]. A cell is a row and a column, or its index, rows first. */
export interface Grid {
  tops: number[];
  lefts: number[];
  patch: Pair;
  stride: Pair;
  frame: Pair;
}

/** Throws an Error of one line where the patch or the stride cannot be right. */
export function makeGrid(frame: Pair, patch: Pair, stride: Pair): Grid {
  for (const [name, values] of [
    ["patch", patch],
    ["stride", stride],
  ] as const) {
    if (values.length !== 2 || !values.every((value) => Number.isInteger(value) && value >= 1)) {
      throw new Error(`The ${name} must be a whole number of pixels, at least 1.`);
    }
  }
  if (patch[0] > frame[0] || patch[1] > frame[1]) {
    throw new Error(
      `The patch of ${patch[1]} x ${patch[0]} px does not fit into the ${frame[1]} x ${frame[0]} px image.`,
    );
  }
  const origins = (axis: 0 | 1) => {
    const count = Math.ceil((frame[axis] - patch[axis] + 1) / stride[axis]);
    return Array.from({ length: count }, (_, place) => place * stride[axis]);
  };
  return { tops: origins(0), lefts: origins(1), patch, stride, frame };
}

export const positionsOf = (grid: Grid): number => grid.tops.length * grid.lefts.length;

/** Where the cells lie in the image: each a stride wide, around the middle of its patch. */
export function extentOf({ tops, lefts, patch, stride }: Grid): {
  top: number;
  left: number;
  height: number;
  width: number;
} {
  return {
    top: (patch[0] - stride[0]) / 2,
    left: (patch[1] - stride[1]) / 2,
    height: stride[0] * tops.length,
    width: stride[1] * lefts.length,
  };
}

/** The cell nearest to a point of the image, in pixels. */
export function cellAt(grid: Grid, x: number, y: number): { row: number; column: number } {
  const { top, left } = extentOf(grid);
  const within = (value: number, count: number) => Math.min(Math.max(Math.floor(value), 0), count - 1);
  return {
    row: within((y - top) / grid.stride[0], grid.tops.length),
    column: within((x - left) / grid.stride[1], grid.lefts.length),
  };
}
