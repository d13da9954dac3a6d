/* A canvas with the image and the map over it, and the frame around one patch. */

import { colourOfDrop } from "../maps/colors";
import { cellAt, extentOf, type Grid } from "../maps/grid";
import type { HeatMap } from "../maps/heat_map";
import { standIn } from "../maps/lattice";
import type { Prepared } from "../images/prepare";
import { make } from "./elements";

const FEWEST_DOTS = 1000; // a side of a canvas, so that it is sharp on fine screens, too
const MOST_DOTS = 2048;

/** The picture in colours, and in grey and no lighter than three quarters, so that light colours stand out on it. */
export class Backdrop {
  readonly colours: HTMLCanvasElement;
  readonly grey: HTMLCanvasElement;

  constructor(readonly picture: Prepared) {
    const { shown, width, height } = picture;
    const dim = shown.map((_, at) => {
      if (at % 4 === 3) return 255;
      const pixel = at - (at % 4);
      return 0.75 * (0.299 * shown[pixel] + 0.587 * shown[pixel + 1] + 0.114 * shown[pixel + 2]);
    });
    this.colours = painted(shown, width, height);
    this.grey = painted(dim, width, height);
  }
}

export function painted(rgba: Uint8ClampedArray<ArrayBuffer>, width: number, height: number): HTMLCanvasElement {
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d")!.putImageData(new ImageData(rgba, width, height), 0, 0);
  return canvas;
}

/** The map of a class over the image. opacity 0: the image alone and in its colours; 1: what matters hides it. Cells
 * that are not computed yet look like the nearest that is. map : null draws the image alone. */
export function paintMap(
  canvas: HTMLCanvasElement,
  backdrop: Backdrop,
  map: HeatMap | null,
  target: number,
  limit: number,
  opacity: number,
): void {
  const { height, width } = backdrop.picture;
  const side = Math.max(height, width);
  const zoom = Math.min(Math.max(1, Math.ceil(FEWEST_DOTS / side)), MOST_DOTS / side);
  canvas.width = Math.round(width * zoom);
  canvas.height = Math.round(height * zoom);
  const context = canvas.getContext("2d")!;
  context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(backdrop.colours, 0, 0, width, height);
  if (map === null || map.knownCount === 0) return;
  context.globalAlpha = opacity;
  context.drawImage(backdrop.grey, 0, 0, width, height);
  context.imageSmoothingEnabled = false;
  const place = extentOf(map.grid);
  context.drawImage(cells(map, target, limit), place.left, place.top, place.width, place.height);
  context.globalAlpha = 1;
}

/** A dot a cell. */
function cells(map: HeatMap, target: number, limit: number): HTMLCanvasElement {
  const dots = new Uint8ClampedArray(4 * map.positions);
  for (let cell = 0; cell < map.positions; cell += 1) {
    const row = Math.floor(cell / map.columns);
    const near = map.known[cell] ? cell : standIn(row, cell % map.columns, map.rows, map.columns, map.known);
    if (near >= 0 && map.holds(target)) dots.set(colourOfDrop(map.drop(target, near), limit), 4 * cell);
  }
  return painted(dots, map.columns, map.rows);
}

/** One canvas that is pointed at and walked over. */
export class Stage {
  readonly canvas = make("canvas", { tabIndex: 0 });
  private readonly frame = make("div", { className: "frame", hidden: true });

  /** pointed : a point of the image, in shares of its width and height. */
  constructor(place: HTMLElement, pointed: (x: number, y: number) => void, walked: (key: string) => boolean) {
    place.replaceChildren(this.canvas, this.frame);
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "map");
    this.canvas.setAttribute("aria-describedby", "hint");
    const point = (event: PointerEvent) => {
      const box = this.canvas.getBoundingClientRect();
      pointed((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    this.canvas.addEventListener("pointermove", point);
    this.canvas.addEventListener("pointerdown", point);
    this.canvas.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && walked(event.key)) event.preventDefault();
    });
  }

  /** Puts the frame around a patch. */
  mark(grid: Grid | null, cell: number): void {
    this.frame.hidden = grid === null || cell < 0;
    if (grid === null || cell < 0) return;
    const [height, width] = grid.frame;
    const style = this.frame.style;
    style.top = `${(100 * grid.tops[Math.floor(cell / grid.lefts.length)]) / height}%`;
    style.left = `${(100 * grid.lefts[cell % grid.lefts.length]) / width}%`;
    style.height = `${(100 * grid.patch[0]) / height}%`;
    style.width = `${(100 * grid.patch[1]) / width}%`;
  }
}

/** The index of the cell under a point, given in shares of the image. */
export function cellUnder(grid: Grid, x: number, y: number): number {
  const { row, column } = cellAt(grid, x * grid.frame[1], y * grid.frame[0]);
  return row * grid.lefts.length + column;
}

/** Where a key leads from a cell; null where it leads nowhere. */
export function cellByKey(grid: Grid, cell: number, key: string): number | null {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
  if (step === undefined) return null;
  const columns = grid.lefts.length;
  const row = Math.min(Math.max(Math.floor(cell / columns) + step[0], 0), grid.tops.length - 1);
  const column = Math.min(Math.max((cell % columns) + step[1], 0), columns - 1);
  return row * columns + column;
}
