/* Computes a map, coarse to fine. */

import { OutOfMemory } from "../engine/engine";
import type { Occlusions, Scores } from "../engine/protocol";
import type { BatchSize } from "./batch_size";
import type { HeatMap } from "./heat_map";
import { newCells, SPACINGS, Tiles } from "./lattice";
import type { Grid } from "./grid";

/** spacing : of the lattice that is being computed. left : milliseconds that the rest will take. */
export interface Progress {
  done: number;
  total: number;
  spacing: number;
  left: number;
}

/** The occlusions at some cells of a grid. */
export function occlusionsAt(grid: Grid, cells: readonly number[], fill: Float32Array): Occlusions {
  const origins = new Int32Array(2 * cells.length);
  cells.forEach((cell, n) => {
    origins[2 * n] = grid.tops[Math.floor(cell / grid.lefts.length)];
    origins[2 * n + 1] = grid.lefts[cell % grid.lefts.length];
  });
  return { origins, patch: grid.patch, fill };
}

/** Fills the map until it is complete or the signal says stop; what is computed stays in it.
 *
 * Throws what `run` throws, but OutOfMemory only where not even one position can be computed.
 */
export async function fillMap(
  map: HeatMap,
  fill: Float32Array,
  run: (occlusions: Occlusions) => Promise<Scores>,
  size: BatchSize,
  signal: AbortSignal,
  onUpdate: (progress: Progress) => void,
): Promise<void> {
  const stopped = new Promise<null>((resolve) => signal.addEventListener("abort", () => resolve(null), { once: true }));
  const start = performance.now();
  const before = map.knownCount;
  for (const spacing of SPACINGS) {
    const tiles = new Tiles(newCells(map.rows, map.columns, spacing, map.known), map.columns);
    for (let tile = tiles.next(size.size); tile !== null && !signal.aborted; tile = tiles.next(size.size)) {
      const cells = tile;
      const running = run(occlusionsAt(map.grid, cells, fill)).catch((error: unknown) => {
        if (error instanceof OutOfMemory && size.shrink(cells.length)) return "smaller" as const;
        throw error;
      });
      const made = await Promise.race([running, stopped]);
      if (made === null) {
        running.catch(() => undefined); // nobody waits for it any more
        return;
      }
      if (made === "smaller") {
        tiles.back(cells);
        continue;
      }
      map.put(cells, made.scores);
      size.took(cells.length, made.milliseconds[0]);
      const each = (performance.now() - start) / (map.knownCount - before);
      onUpdate({ done: map.knownCount, total: map.positions, spacing, left: each * (map.positions - map.knownCount) });
    }
  }
}
