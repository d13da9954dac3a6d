/* A map as it is computed: one score a class and position. */

import { positionsOf, type Grid } from "./grid";

/** The keys of HeatMap.to_dict in Python; numbers that are not computed are null. */
export interface MapJson {
  scores: (number | null)[][][];
  baseline: number[];
  targets: number[];
  tops: number[];
  lefts: number[];
  patch: number[];
  stride: number[];
  mode: "exact";
  computed: boolean[][];
  expected_ssim: null;
  estimated_ssim: null;
  complete: boolean;
  note: string;
  frame: number[];
  predicted: number[][];
  score_name: string;
  mask: null;
}

export class HeatMap {
  readonly rows: number;
  readonly columns: number;
  readonly positions: number;
  readonly known: Uint8Array; // one a position
  readonly predicted: Int32Array; // the class of the largest score, -1 where not computed
  knownCount = 0;
  private readonly scores: Float32Array; // (positions, kept classes)
  private readonly places: Map<number, number>; // class -> its place among those kept

  /** baseline : the scores of the unoccluded image, one a class. kept : the classes whose scores are held. Throws a
   * RangeError where there is no memory for that. */
  constructor(
    readonly grid: Grid,
    readonly baseline: Float32Array,
    readonly scoreName: string,
    kept: readonly number[],
  ) {
    this.rows = grid.tops.length;
    this.columns = grid.lefts.length;
    this.positions = positionsOf(grid);
    this.known = new Uint8Array(this.positions);
    this.predicted = new Int32Array(this.positions).fill(-1);
    this.places = new Map(kept.map((one, place) => [one, place]));
    this.scores = new Float32Array(this.positions * kept.length);
  }

  get complete(): boolean {
    return this.knownCount === this.positions;
  }

  holds(target: number): boolean {
    return this.places.has(target);
  }

  /** scores : float32 (cells, classes), the rows in the order of `cells`. */
  put(cells: readonly number[], scores: Float32Array): void {
    const classes = this.baseline.length;
    const kept = [...this.places.keys()];
    cells.forEach((cell, n) => {
      const row = scores.subarray(n * classes, (n + 1) * classes);
      if (!this.known[cell]) this.knownCount += 1;
      this.known[cell] = 1;
      this.predicted[cell] = largest(row);
      for (let place = 0; place < kept.length; place += 1) this.scores[cell * kept.length + place] = row[kept[place]];
    });
  }

  /** NaN where it is not computed or not held. */
  score(target: number, cell: number): number {
    const place = this.places.get(target);
    if (place === undefined || !this.known[cell]) return NaN;
    return this.scores[cell * this.places.size + place];
  }

  /** By how much the score falls when the patch is hidden. */
  drop(target: number, cell: number): number {
    return Math.fround(this.baseline[target] - this.score(target, cell));
  }

  /** The largest drop or rise of some classes, which the strongest colour stands for; 1 where there is none. */
  limit(targets: readonly number[]): number {
    let most = 0;
    for (const target of targets) {
      for (let cell = 0; cell < this.positions; cell += 1) {
        const drop = Math.abs(this.drop(target, cell));
        if (drop > most) most = drop;
      }
    }
    return most > 0 ? most : 1;
  }

  /** The cell of the largest drop; -1 where none is known. */
  strongest(target: number): number {
    let best = -1;
    for (let cell = 0; cell < this.positions; cell += 1) {
      if (this.known[cell] && (best < 0 || this.drop(target, cell) > this.drop(target, best))) best = cell;
    }
    return best;
  }

  toJson(targets: readonly number[], note: string): MapJson {
    const cells = <T>(of: (cell: number) => T): T[][] =>
      Array.from({ length: this.rows }, (_, row) =>
        Array.from({ length: this.columns }, (__, column) => of(row * this.columns + column)),
      );
    const plain = (value: number) => (Number.isFinite(value) ? value : null);
    const { tops, lefts, patch, stride, frame } = this.grid;
    return {
      scores: targets.map((target) => cells((cell) => plain(this.score(target, cell)))),
      baseline: targets.map((target) => this.baseline[target]),
      targets: [...targets],
      tops,
      lefts,
      patch: [...patch],
      stride: [...stride],
      mode: "exact",
      computed: cells((cell) => this.known[cell] === 1),
      expected_ssim: null,
      estimated_ssim: null,
      complete: this.complete,
      note,
      frame: [...frame],
      predicted: cells((cell) => this.predicted[cell]),
      score_name: this.scoreName,
      mask: null,
    };
  }
}

function largest(values: Float32Array): number {
  let best = 0;
  for (let one = 1; one < values.length; one += 1) if (values[one] > values[best]) best = one;
  return best;
}

/** Class ids by their score, the largest first. */
export function ranked(scores: Float32Array): number[] {
  return [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
}
