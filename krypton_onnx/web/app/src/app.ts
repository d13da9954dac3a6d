/* The page: what the visitor does, and what is shown for it. */

import type { Prepared } from "./images/prepare";
import { ranked, type HeatMap, type MapJson } from "./maps/heat_map";
import { positionsOf } from "./maps/grid";
import type { Measured } from "./maps/measure";
import { duration, megabytes, threeDigits } from "./numbers";
import type { Session, Settings } from "./session";
import { announce, element, fillTerms, showError } from "./ui/elements";
import { ClassPicker } from "./ui/picker";
import { markPrediction, showPredictions } from "./ui/predictions";
import { ProgressView } from "./ui/progress";
import { ResultView } from "./ui/result";
import { save } from "./ui/save";
import { fillText, SettingsForm, sizeText } from "./ui/settings";

export class App {
  map: HeatMap | null = null;
  private names: readonly string[] = [];
  private order: readonly number[] = [];
  private target = 0;
  private other: number | null = null;
  private used: Settings;
  private running: AbortController | null = null;
  private result: ResultView | null = null;
  private pickers: ClassPicker[] = [];
  private readonly form: SettingsForm;
  private readonly progress = new ProgressView();

  constructor(private readonly session: Session) {
    this.form = new SettingsForm(session.manifest, () => this.showPositions());
    this.used = this.form.read();
    element<HTMLFormElement>("form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.guarded(() => this.explain(this.form.read(), null, this.targets, this.resumable()));
    });
    element("cancel").addEventListener("click", () => this.cancel());
    element<HTMLInputElement>("compare").addEventListener("change", () => this.compare());
    element("save-json").addEventListener("click", () => this.saveJson());
    element("save-png").addEventListener("click", () => void this.guarded(() => this.savePicture()));
    element("measure").addEventListener("click", () => void this.guarded(async () => void (await this.measure())));
    this.showFacts();
  }

  /** Takes an image and shows what the model says of it. */
  async setImage(file: Blob): Promise<Prepared> {
    this.cancel();
    const { picture, baseline } = await this.session.setImage(file);
    this.map = null;
    this.order = ranked(baseline);
    this.target = this.order[0];
    this.other = null;
    element<HTMLInputElement>("compare").checked = false;
    this.names = this.session.manifest.labels ?? [];
    if (this.names.length !== baseline.length) this.names = Array.from(baseline, (_, n) => `class ${n}`);
    for (const id of ["settings", "result", "about"]) element(id).hidden = false;
    document.body.classList.add("loaded");
    this.result ??= new ResultView(this.session.manifest, this.names);
    if (this.pickers.length === 0) this.pickers = [this.picker("class"), this.picker("other")];
    this.result.setPicture(picture);
    showPredictions(baseline, this.names, this.session.manifest.score_name === "probability", (one) =>
      this.choose(one),
    );
    this.showTargets();
    this.showPositions();
    announce(`The model predicts ${this.names[this.target]}`);
    return picture;
  }

  /** Computes the map, coarse to fine. Resolves when it is complete or cancelled. held : classes that it must hold.
   * resumed : goes on with the map that was stopped, where there is one of these settings. */
  async explain(
    settings: Settings,
    batch: number | null = null,
    held: readonly number[] = this.targets,
    resumed = false,
  ): Promise<HeatMap> {
    this.cancel();
    showError("");
    const { session } = this;
    const map = resumed && this.map !== null ? this.map : session.newMap(settings, held);
    const stop = new AbortController();
    this.running = stop;
    this.used = settings;
    this.map = map;
    this.busy(true);
    this.progress.start(map.knownCount, map.positions);
    this.showTargets();
    const start = performance.now();
    try {
      await session.chooseProvider(settings);
      this.showFacts();
      await session.fill(
        map,
        settings,
        stop.signal,
        (progress) => {
          if (this.map !== map) return;
          this.progress.update(progress);
          this.showTargets();
        },
        batch,
      );
    } finally {
      if (this.running === stop) {
        this.running = null;
        this.busy(false);
        this.progress.end(this.outcome(map, performance.now() - start));
        this.result?.pointAtStrongest();
      }
    }
    return map;
  }

  cancel(): void {
    this.running?.abort();
  }

  /** Chooses the classes to show: one, or two to compare. Throws an Error of one line where there is no such class. */
  chooseTargets(targets: readonly number[]): void {
    const classes = this.names.length;
    for (const one of targets) {
      if (!Number.isInteger(one) || one < 0 || one >= classes) throw new Error(`The model has no class ${one}.`);
    }
    if (targets.length > 0) this.target = targets[0];
    this.other = targets[1] ?? null;
    element<HTMLInputElement>("compare").checked = this.other !== null;
    this.showTargets();
  }

  get settings(): Settings {
    return this.form.read();
  }

  showSettings(settings: Settings): void {
    this.form.show(settings);
    this.showPositions();
  }

  get targets(): number[] {
    return this.other === null ? [this.target] : [this.target, this.other];
  }

  json(targets: readonly number[]): MapJson {
    if (this.map === null) throw new Error("There is no map yet.");
    return this.map.toJson(targets, this.session.note);
  }

  async measure(settings: Settings = this.form.read(), batch?: number, positions?: number): Promise<Measured> {
    const button = element<HTMLButtonElement>("measure");
    const text = element("measured");
    button.disabled = true;
    text.textContent = "Measuring: some positions by full inference, and a batch by ours …";
    try {
      const made = await this.session.measure(settings, batch, positions);
      text.textContent =
        `${threeDigits(made.factor)} times faster here: ${made.incremental_ms.toFixed(1)} ms a position in a batch ` +
        `of ${made.batch}, full inference ${made.naive_ms.toFixed(1)} ms (median of ${made.positions}). ` +
        `Scores differ by at most ${made.difference.toExponential(1)}.`;
      return made;
    } catch (error) {
      text.textContent = "";
      throw error;
    } finally {
      button.disabled = false;
    }
  }

  /** Runs, and shows what goes wrong in one line. */
  async guarded(run: () => Promise<unknown>): Promise<void> {
    try {
      showError("");
      await run();
    } catch (error) {
      showError(error instanceof Error ? error.message : String(error));
    }
  }

  private choose(target: number): void {
    this.target = target;
    this.changed();
  }

  /** A class that the map does not hold, for lack of memory, is computed anew. */
  private changed(): void {
    this.showTargets();
    const missing = this.map !== null && this.targets.some((target) => !this.map!.holds(target));
    if (missing) void this.guarded(() => this.explain(this.used));
  }

  private picker(name: "class" | "other"): ClassPicker {
    return new ClassPicker(
      element(`${name}-picker`),
      name,
      this.names,
      () => this.order,
      (target) => {
        if (name === "class") this.target = target;
        else this.other = target;
        this.changed();
      },
    );
  }

  private compare(): void {
    const second = this.order.find((one) => one !== this.target) ?? this.target;
    this.other = element<HTMLInputElement>("compare").checked ? second : null;
    this.changed();
  }

  private showTargets(): void {
    element("other").hidden = this.other === null;
    this.pickers[0]?.show(this.target);
    if (this.other !== null) this.pickers[1]?.show(this.other);
    markPrediction(this.target);
    const { subject } = this.session;
    if (subject === null) return;
    const fill = this.session.fillOf(this.used);
    this.result?.show({ map: this.map, baseline: subject.baseline, targets: this.targets, fill });
    const none = this.map === null || this.map.knownCount === 0;
    for (const id of ["save-png", "save-json"]) element<HTMLButtonElement>(id).disabled = none;
  }

  /** Whether the map was stopped, and the form still asks for it. */
  private resumable(): boolean {
    if (this.running !== null || this.map === null || this.map.complete || this.map.knownCount === 0) return false;
    const held = this.targets.every((target) => this.map!.holds(target));
    return held && JSON.stringify(this.form.read()) === JSON.stringify(this.used);
  }

  private showPositions(): void {
    let text: string;
    let action = "Explain";
    try {
      if (this.running !== null) action = "Start again";
      else if (this.resumable()) action = "Continue";
      const settings = this.form.read();
      const grid = this.session.grid(settings);
      const [height, width] = grid.frame;
      text = `${grid.lefts.length} x ${grid.tops.length} = ${positionsOf(grid)} positions in ${width} x ${height} px`;
    } catch (error) {
      text = (error as Error).message;
    }
    element("positions").textContent = text;
    element("explain").textContent = action;
  }

  private busy(on: boolean): void {
    element("cancel").hidden = !on;
    element<HTMLButtonElement>("measure").disabled = on;
    this.showPositions();
    element("result").setAttribute("aria-busy", String(on));
  }

  private outcome(map: HeatMap, milliseconds: number): string {
    if (map.complete) return `Complete: ${map.positions} positions in ${duration(milliseconds)}`;
    return `Stopped at ${map.knownCount} of ${map.positions} positions`;
  }

  private get fileName(): string {
    return `occlusion-map-${this.targets.join("-")}`;
  }

  private saveJson(): void {
    save(new Blob([JSON.stringify(this.json(this.targets))], { type: "application/json" }), `${this.fileName}.json`);
  }

  private async savePicture(): Promise<void> {
    const { patch, stride, fill } = this.used;
    const state = this.map?.complete
      ? "exact"
      : `not complete: ${this.map?.knownCount} of ${this.map?.positions} positions`;
    const lines = [
      `patch ${sizeText(patch)} px, stride ${sizeText(stride)} px, hidden by ${fillText(fill)}; ${state}`,
      `krypton-onnx ${this.session.manifest.version}, ${this.session.note}`,
    ];
    save(await this.result!.picture(lines), `${this.fileName}.png`);
  }

  private showFacts(): void {
    const { manifest, inference } = this.session;
    const why = inference.why === "" ? "" : ` (${inference.why})`;
    const [, height, width] = manifest.image_shape;
    fillTerms(element("facts"), [
      ["Runs on", `${inference.words}${why}`],
      ["Model", `${manifest.title}, ${megabytes(manifest.bytes)}, rewritten for incremental inference`],
      ["Image", `${width} x ${height} px, ${manifest.preparation.fit}, ${manifest.preparation.resample}`],
      ["Map", "exact: each score equals full inference of the image with the patch on it, up to rounding"],
    ]);
    element("version").textContent = `krypton-onnx ${manifest.version}`;
  }
}
