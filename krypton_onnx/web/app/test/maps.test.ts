import { describe, expect, it } from "vitest";
import { OutOfMemory } from "../src/engine/engine";
import type { Occlusions, Scores } from "../src/engine/protocol";
import { BatchSize } from "../src/maps/batch_size";
import { colourOfDrop } from "../src/maps/colors";
import { fillMap, occlusionsAt } from "../src/maps/explain";
import { cellAt, makeGrid } from "../src/maps/grid";
import { HeatMap, ranked } from "../src/maps/heat_map";
import { newCells, SPACINGS, standIn, Tiles } from "../src/maps/lattice";

const GRID = makeGrid([40, 60], [8, 8], [4, 2]);
const FILL = Float32Array.of(0);

/** A model of two classes whose scores say where the patch was. */
function scoresAt({ origins }: Occlusions): Scores {
  const scores = new Float32Array(origins.length);
  for (let at = 0; at < origins.length; at += 2) scores.set([origins[at], -origins[at + 1]], at);
  return { scores, milliseconds: [1] };
}

const newMap = (kept = [0, 1]) => new HeatMap(GRID, Float32Array.of(100, 200), "output", kept);

describe("the grid", () => {
  it("holds every position where the patch fits", () => {
    expect(GRID.tops).toEqual([0, 4, 8, 12, 16, 20, 24, 28, 32]);
    expect(GRID.lefts.length).toBe(27);
    expect(makeGrid([10, 10], [10, 3], [50, 4])).toMatchObject({ tops: [0], lefts: [0, 4] });
  });

  it.each([
    [[41, 8], [4, 4], "does not fit"],
    [[0, 8], [4, 4], "whole number"],
    [[8, 8], [1.5, 4], "whole number"],
  ] as const)("refuses patch %s, stride %s", (patch, stride, words) => {
    expect(() => makeGrid([40, 60], patch, stride)).toThrow(words);
  });

  it("finds the cell around each patch's middle", () => {
    expect(cellAt(GRID, 4, 4)).toEqual({ row: 0, column: 0 });
    expect(cellAt(GRID, 30, 20)).toEqual({ row: 4, column: 13 });
    expect(cellAt(GRID, 60, 40)).toEqual({ row: 8, column: 26 });
  });
});

describe("the lattices", () => {
  it("meet every cell once", () => {
    const known = new Uint8Array(11 * 18);
    const met: number[] = [];
    for (const spacing of SPACINGS) {
      const cells = newCells(11, 18, spacing, known);
      for (const cell of cells) known[cell] = 1;
      met.push(...cells);
    }
    expect(newCells(11, 18, 8, []).length).toBe(6);
    expect(met.sort((a, b) => a - b)).toEqual(Array.from({ length: 11 * 18 }, (_, cell) => cell));
  });

  it("are cut into full tiles of neighbours", () => {
    const tiles = new Tiles(newCells(20, 30, 1, []), 30);
    const met: number[] = [];
    const sizes: number[] = [];
    for (let tile = tiles.next(64); tile !== null; tile = tiles.next(64)) {
      met.push(...tile);
      sizes.push(tile.length);
      const span = (values: number[]) => Math.max(...values) - Math.min(...values) + 1;
      const columns = span(tile.map((cell) => cell % 30));
      expect(Math.max(span(tile.map((cell) => Math.floor(cell / 30))), columns)).toBeLessThanOrEqual(16);
    }
    expect(new Set(met).size).toBe(600);
    expect(sizes.filter((size) => size === 64).length).toBe(9);
  });

  it("give a cell that is not known the nearest of the finest that is", () => {
    const known = new Uint8Array(9 * 9);
    expect(standIn(3, 3, 9, 9, known)).toBe(-1);
    for (const cell of newCells(9, 9, 8, [])) known[cell] = 1;
    expect(standIn(3, 5, 9, 9, known)).toBe(8);
    for (const cell of newCells(9, 9, 4, [])) known[cell] = 1;
    expect(standIn(3, 5, 9, 9, known)).toBe(4 * 9 + 4);
  });
});

describe("a map", () => {
  it("is filled coarse to fine with the score of each position", async () => {
    const map = newMap();
    const spacings: number[] = [];
    const run = async (occlusions: Occlusions) => scoresAt(occlusions);
    await fillMap(map, FILL, run, new BatchSize(10), new AbortController().signal, (at) => spacings.push(at.spacing));
    expect(map.complete).toBe(true);
    expect([...spacings].sort((a, b) => b - a)).toEqual(spacings);
    for (let cell = 0; cell < map.positions; cell += 1) {
      const [top, left] = occlusionsAt(GRID, [cell], FILL).origins;
      expect([map.score(0, cell), map.score(1, cell), map.predicted[cell]]).toEqual([top, -left, 0]);
    }
  });

  it("stops when told, and keeps what it has", async () => {
    const map = newMap();
    const stop = new AbortController();
    const run = async (occlusions: Occlusions) => scoresAt(occlusions);
    await fillMap(map, FILL, run, new BatchSize(5, true), stop.signal, ({ done }) => done >= 20 && stop.abort());
    expect(map.knownCount).toBeGreaterThanOrEqual(20);
    expect(map.knownCount).toBeLessThan(30);
    expect(map.toJson([0], "").complete).toBe(false);
  });

  it("stops at once while a run goes on", async () => {
    const stop = new AbortController();
    const filling = fillMap(
      newMap(),
      FILL,
      () => new Promise(() => undefined),
      new BatchSize(),
      stop.signal,
      () => undefined,
    );
    stop.abort();
    await filling;
  });

  it("takes smaller batches where memory runs out, and misses nothing", async () => {
    const map = newMap();
    const sizes: number[] = [];
    const run = async (occlusions: Occlusions) => {
      sizes.push(occlusions.origins.length / 2);
      if (occlusions.origins.length / 2 > 7) throw new OutOfMemory("full");
      return scoresAt(occlusions);
    };
    await fillMap(map, FILL, run, new BatchSize(64), new AbortController().signal, () => undefined);
    expect(map.complete).toBe(true);
    expect(Math.max(...sizes.slice(10))).toBeLessThanOrEqual(7);
  });

  it("fails where one position is too much, and on other errors", async () => {
    const fails = (error: Error) =>
      fillMap(
        newMap(),
        FILL,
        () => Promise.reject(error),
        new BatchSize(),
        new AbortController().signal,
        () => undefined,
      );
    await expect(fails(new OutOfMemory("full"))).rejects.toThrow("full");
    await expect(fails(new Error("broken"))).rejects.toThrow("broken");
  });

  it("holds the classes it is told to, and is JSON as HeatMap.to_dict has it", () => {
    const map = newMap([1]);
    map.put([0, 28], Float32Array.of(1, 2, 4, 3));
    expect(map.holds(0)).toBe(false);
    expect(map.score(0, 0)).toBeNaN();
    expect(map.drop(1, 28)).toBe(197);
    expect(map.strongest(1)).toBe(0);
    expect(map.limit([1])).toBe(198);
    const json = map.toJson([1], "how");
    expect(json.scores[0][0].slice(0, 2)).toEqual([2, null]);
    expect(json.scores[0][1][1]).toBe(3);
    expect(json.predicted[1][1]).toBe(0);
    expect(json.predicted[2][2]).toBe(-1);
    expect(json).toMatchObject({
      targets: [1],
      baseline: [200],
      patch: [8, 8],
      stride: [4, 2],
      frame: [40, 60],
      note: "how",
    });
  });
});

describe("batches", () => {
  it("grow where runs are short, shrink where they are long, and never beyond what memory held", () => {
    const size = new BatchSize(64);
    size.took(64, 100);
    expect(size.size).toBe(128);
    expect(size.shrink(128)).toBe(true);
    size.took(64, 100);
    expect(size.size).toBe(64);
    size.took(64, 60_000);
    expect(size.size).toBe(32);
    size.took(32, 60_000);
    expect(size.size).toBe(32);
    expect(size.shrink(1)).toBe(false);
  });

  it("stay as they are where that was asked for", () => {
    const size = new BatchSize(3, true);
    size.took(3, 1);
    size.took(3, 60_000);
    expect(size.size).toBe(3);
  });
});

describe("colours", () => {
  it("are blue, clear and red", () => {
    expect(colourOfDrop(0, 1)[3]).toBe(0);
    const [red, , blue, opaque] = colourOfDrop(1, 1);
    expect(red).toBeGreaterThan(blue);
    expect(opaque).toBe(255);
    expect(colourOfDrop(-0.3, 1)[2]).toBeGreaterThan(colourOfDrop(-0.3, 1)[0]);
    expect(colourOfDrop(-0.3, 1)[3]).toBe(255);
  });

  it("classes are ranked by score, then by number", () => {
    expect(ranked(Float32Array.of(1, 3, 3, 2))).toEqual([1, 2, 3, 0]);
  });
});
