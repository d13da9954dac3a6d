/* In which order cells are computed: coarse to fine, and within a level in tiles of neighbours. */

export const SPACINGS = [8, 4, 2, 1] as const;

/** Indices (rows first) of the cells that are new at a level: each `spacing`-th row and column, not known before. */
export function newCells(rows: number, columns: number, spacing: number, known: ArrayLike<number>): number[] {
  const cells: number[] = [];
  for (let row = 0; row < rows; row += spacing) {
    for (let column = 0; column < columns; column += spacing) {
      if (!known[row * columns + column]) cells.push(row * columns + column);
    }
  }
  return cells;
}

/** Cells in tiles of neighbours: regions near a border are clipped, and all positions of a run share the largest extent
 * of them, so those of a run should lie near each other. The longer side is halved until a tile is small enough, at a
 * multiple of that, so that tiles are full. */
export class Tiles {
  private readonly pieces: (readonly number[])[];

  constructor(
    cells: readonly number[],
    private readonly columns: number,
  ) {
    this.pieces = cells.length > 0 ? [cells] : [];
  }

  /** The next tile, of up to `most` cells; null where none is left. */
  next(most: number): readonly number[] | null {
    let tile = this.pieces.pop();
    if (tile === undefined) return null;
    while (tile.length > most) {
      const ordered = this.alongLongerSide(tile);
      const middle = most * Math.ceil(Math.ceil(tile.length / most) / 2);
      this.pieces.push(ordered.slice(middle));
      tile = ordered.slice(0, middle);
    }
    return tile;
  }

  /** Takes back a tile that could not be computed as it was. */
  back(tile: readonly number[]): void {
    this.pieces.push(tile);
  }

  private alongLongerSide(cells: readonly number[]): number[] {
    const row = (cell: number) => Math.floor(cell / this.columns);
    const column = (cell: number) => cell % this.columns;
    const span = (of: (cell: number) => number) => {
      let low = Infinity;
      let high = -Infinity;
      for (const cell of cells) {
        low = Math.min(low, of(cell));
        high = Math.max(high, of(cell));
      }
      return high - low;
    };
    const flat = span(column) > span(row);
    return [...cells].sort((a, b) => (flat ? column(a) - column(b) : 0) || a - b);
  }
}

/** The index of the computed cell that stands for one that is not computed yet: the nearest of the finest lattice that
 * is known there; -1 where none is. */
export function standIn(row: number, column: number, rows: number, columns: number, known: ArrayLike<number>): number {
  for (const spacing of [...SPACINGS].reverse()) {
    const near = (value: number, count: number) =>
      Math.min(Math.round(value / spacing), Math.floor((count - 1) / spacing)) * spacing;
    const index = near(row, rows) * columns + near(column, columns);
    if (known[index]) return index;
  }
  return -1;
}
