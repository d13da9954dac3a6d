/* The map on the page: its figures, its scale, the cell that is pointed at. Draws; computes nothing. */

import { colourOf, type Prepared } from "../images/prepare";
import type { Manifest } from "../manifest";
import { colourBar } from "../maps/colors";
import type { HeatMap } from "../maps/heat_map";
import { signed, threeDigits } from "../numbers";
import { announce, element, fillTerms } from "./elements";
import { drawSheet } from "./save";
import { Backdrop, cellByKey, cellUnder, paintMap, Stage } from "./stage";

/** What is shown. targets : one class, or two that are compared. fill : what hides the image, one number a channel. */
export interface Shown {
  map: HeatMap | null;
  baseline: Float32Array;
  targets: readonly number[];
  fill: Float32Array;
}

export class ResultView {
  private readonly stages: Stage[];
  private backdrop: Backdrop | null = null;
  private shown: Shown | null = null;
  private cell = -1;
  private drawn = false;

  constructor(
    private readonly manifest: Manifest,
    private readonly names: readonly string[],
  ) {
    this.stages = [0, 1].map(
      (n) =>
        new Stage(
          element(`stage-${n}`),
          (x, y) => this.pointAt(x, y),
          (key) => this.walk(key),
        ),
    );
    const slider = element<HTMLInputElement>("opacity");
    slider.addEventListener("input", () => {
      element("opacity-value").textContent = `${slider.value} %`;
      this.draw();
    });
    element<HTMLCanvasElement>("bar")
      .getContext("2d")!
      .putImageData(new ImageData(colourBar(), 256, 1), 0, 0);
  }

  setPicture(picture: Prepared): void {
    this.backdrop = new Backdrop(picture);
    this.cell = -1;
    for (const n of [0, 1]) element(`stage-${n}`).style.setProperty("--shape", String(picture.width / picture.height));
  }

  show(shown: Shown): void {
    if (this.shown?.map?.grid !== shown.map?.grid) this.cell = -1;
    this.shown = shown;
    this.draw();
  }

  /** Points at the largest drop, where nothing is pointed at yet. */
  pointAtStrongest(): void {
    const map = this.shown?.map;
    if (map && this.cell < 0) this.go(map.strongest(this.shown!.targets[0]));
  }

  /** The picture to keep. lines : what else belongs to it. */
  async picture(lines: readonly string[]): Promise<Blob> {
    const { map, targets } = this.required();
    const figures = targets.map((target, n) => ({
      canvas: this.stages[n].canvas,
      title: this.names[target],
      score: `${this.manifest.score_name} ${threeDigits(this.required().baseline[target])}`,
    }));
    this.draw(true);
    return drawSheet({ title: this.manifest.title, figures, limit: map?.limit(targets) ?? 1, lines });
  }

  /** Soon, once for many changes; or now. */
  private draw(now = false): void {
    if (now) {
      this.paint();
      return;
    }
    if (this.drawn) return;
    this.drawn = true;
    requestAnimationFrame(() => {
      this.drawn = false;
      this.paint();
    });
  }

  private paint(): void {
    if (this.backdrop === null || this.shown === null) return;
    const { map, targets, baseline } = this.shown;
    const limit = map?.limit(targets) ?? 1;
    const opacity = Number(element<HTMLInputElement>("opacity").value) / 100;
    element("second").hidden = targets.length < 2;
    element("result").classList.toggle("comparing", targets.length > 1);
    targets.forEach((target, n) => {
      const { canvas } = this.stages[n];
      paintMap(canvas, this.backdrop!, map, target, limit, opacity);
      const score = `${this.manifest.score_name} ${threeDigits(baseline[target])}`;
      element(`caption-${n}`).replaceChildren(
        Object.assign(document.createElement("b"), { textContent: this.names[target] }),
        ` ${score}`,
      );
      canvas.setAttribute("aria-label", `Occlusion map of ${this.names[target]}, ${score}. ${this.summary(target)}`);
    });
    const known = map !== null && map.knownCount > 0;
    element("scale").hidden = !known;
    element("tick-low").textContent = `\u2212${threeDigits(limit)}`;
    element("tick-high").textContent = `+${threeDigits(limit)}`;
    this.paintCell();
  }

  private paintCell(): void {
    if (this.backdrop === null || this.shown === null) return;
    const { map, targets, fill } = this.shown;
    const { colours, picture } = this.backdrop;
    for (const stage of this.stages) stage.mark(map?.grid ?? null, this.cell);
    const canvas = element<HTMLCanvasElement>("occluded");
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
    }
    const context = canvas.getContext("2d")!;
    context.drawImage(colours, 0, 0);
    if (map === null || this.cell < 0) {
      fillTerms(element("readout"), [["Position", map === null ? "no map yet" : "point at the map"]]);
      return;
    }
    const { top, left } = this.origin(map);
    context.fillStyle = `rgb(${colourOf(fill, this.manifest.preparation).join(" ")})`;
    context.fillRect(left, top, map.grid.patch[1], map.grid.patch[0]);
    fillTerms(element("readout"), this.readout(map, targets));
  }

  private readout(map: HeatMap, targets: readonly number[]): [string, string][] {
    const { top, left } = this.origin(map);
    const rows: [string, string][] = [["Position", `top ${top}, left ${left} px`]];
    if (!map.known[this.cell]) return [...rows, ["Score", "not computed yet"]];
    for (const target of targets) {
      const name = targets.length > 1 ? ` of ${this.names[target]}` : "";
      rows.push([`Score${name}`, threeDigits(map.score(target, this.cell))]);
      rows.push([`Drop${name}`, signed(map.drop(target, this.cell))]);
    }
    return [...rows, ["Then predicted", this.names[map.predicted[this.cell]]]];
  }

  private origin(map: HeatMap): { top: number; left: number } {
    return { top: map.grid.tops[Math.floor(this.cell / map.columns)], left: map.grid.lefts[this.cell % map.columns] };
  }

  /** The map of a class in a sentence, for those who do not see it. */
  private summary(target: number): string {
    const map = this.shown?.map ?? null;
    const cell = map?.strongest(target) ?? -1;
    if (map === null || cell < 0) return "Nothing is computed yet.";
    const top = map.grid.tops[Math.floor(cell / map.columns)];
    const left = map.grid.lefts[cell % map.columns];
    const [height, width] = map.grid.patch;
    return (
      `Hiding ${width} x ${height} pixels lowers the score most at ${left} px from the left and ${top} from the top` +
      `, to ${threeDigits(map.score(target, cell))}.`
    );
  }

  private pointAt(x: number, y: number): void {
    const map = this.shown?.map;
    if (map && x >= 0 && y >= 0 && x <= 1 && y <= 1) this.go(cellUnder(map.grid, x, y));
  }

  private walk(key: string): boolean {
    const map = this.shown?.map;
    if (!map) return false;
    const cell =
      key === "Home" ? map.strongest(this.shown!.targets[0]) : cellByKey(map.grid, Math.max(0, this.cell), key);
    if (cell === null || cell < 0) return false;
    this.go(cell);
    const [, ...said] = this.readout(map, this.shown!.targets);
    const row = Math.floor(cell / map.columns) + 1;
    const place = `row ${row} of ${map.rows}, column ${(cell % map.columns) + 1} of ${map.columns}`;
    announce(`${place}: ${said.map(([term, text]) => `${term} ${text}`).join(", ")}`);
    return true;
  }

  private go(cell: number): void {
    if (cell === this.cell) return;
    this.cell = cell;
    this.paintCell();
  }

  private required(): Shown {
    if (this.shown === null) throw new Error("There is no map yet.");
    return this.shown;
  }
}
