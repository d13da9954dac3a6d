/* How many times faster than full inference: measured here, on this machine, on this image. */

import { difference } from "../engine/gpu";
import type { Inference } from "../engine/inference";
import { occlusionsAt } from "./explain";
import { positionsOf, type Grid } from "./grid";
import { Tiles } from "./lattice";

/** Milliseconds a position. difference : the largest between the scores of both, relative to the largest above 1. */
export interface Measured {
  naive_ms: number;
  incremental_ms: number;
  factor: number;
  batch: number;
  positions: number;
  difference: number;
  provider: string;
  threads: number;
}

const ROUNDS = 3;

/** Full inference is timed one image a run, on up to `positions` places of the batch that ours computes at once. The two
 * take turns, so that what else the machine does slows both. */
export async function measure(
  inference: Inference,
  grid: Grid,
  fill: Float32Array,
  batch = 64,
  positions = 6,
): Promise<Measured> {
  const cells = middleTile(grid, batch);
  const all = occlusionsAt(grid, cells, fill);
  const places = spread(cells.length, positions);
  await inference.incremental(all);
  const ours: number[] = [];
  const naive: number[] = [];
  let apart = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const { scores, milliseconds } = await inference.incremental(all);
    ours.push(milliseconds[0] / cells.length);
    const classes = scores.length / cells.length;
    for (const place of places.filter((_, n) => n % ROUNDS === round)) {
      const full = await inference.full(occlusionsAt(grid, [cells[place]], fill));
      naive.push(full.milliseconds[0]);
      apart = Math.max(apart, difference(full.scores, scores.slice(place * classes, (place + 1) * classes)));
    }
  }
  return {
    naive_ms: median(naive),
    incremental_ms: median(ours),
    factor: median(naive) / median(ours),
    batch: cells.length,
    positions: places.length,
    difference: apart,
    provider: inference.provider,
    threads: inference.threads,
  };
}

/** Up to `most` of the numbers below `count`, evenly. */
function spread(count: number, most: number): number[] {
  const step = Math.max(1, Math.floor(count / most));
  return Array.from({ length: Math.min(most, Math.ceil(count / step)) }, (_, n) => n * step);
}

/** Up to `most` cells that lie near each other, of the tiles of a map the middle one: neither best nor worst. */
function middleTile(grid: Grid, most: number): readonly number[] {
  const cells = Array.from({ length: positionsOf(grid) }, (_, cell) => cell);
  const left = new Tiles(cells, grid.lefts.length);
  const tiles: (readonly number[])[] = [];
  for (let tile = left.next(most); tile !== null; tile = left.next(most)) tiles.push(tile);
  return tiles[Math.floor((tiles.length - 1) / 2)];
}

function median(values: readonly number[]): number {
  const ordered = [...values].sort((a, b) => a - b);
  const middle = ordered.length >> 1;
  return ordered.length % 2 === 1 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}
