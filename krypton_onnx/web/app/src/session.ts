/* One image, one model, one map: all that the page and scripts ask for, without an element of the page. */

import { Inference, type Wishes } from "./engine/inference";
import { OutOfMemory } from "./engine/engine";
import { fillValues } from "./images/fill";
import type { Prepared } from "./images/prepare";
import { prepareFile } from "./images/preparer";
import { readManifest, type Fill, type Manifest } from "./manifest";
import { BatchSize } from "./maps/batch_size";
import { fillMap, occlusionsAt, type Progress } from "./maps/explain";
import { makeGrid, positionsOf, type Grid, type Pair } from "./maps/grid";
import { HeatMap, ranked } from "./maps/heat_map";
import { newCells } from "./maps/lattice";
import { measure, type Measured } from "./maps/measure";

export interface Settings {
  patch: Pair;
  stride: Pair;
  fill: Fill;
}

/** An image as the model takes it, and the model's scores of it. */
export interface Subject {
  picture: Prepared;
  baseline: Float32Array;
}

const MOST_SCORES = 64e6; // of all classes and positions: 256 MB
const KEPT_OTHERWISE = 20; // classes

export class Session {
  subject: Subject | null = null;

  private constructor(
    readonly manifest: Manifest,
    readonly inference: Inference,
    readonly folder: string,
  ) {}

  /** Loads manifest and model. progress : bytes of the model that are here, and all. */
  static async open(
    folder: string,
    wishes: Wishes,
    known: (manifest: Manifest) => void,
    progress: (bytes: number) => void,
  ) {
    const response = await fetch(new URL("manifest.json", folder), { cache: "no-cache" }).catch(() => null);
    if (response === null || !response.ok) {
      throw new Error(
        "This site has no model: model/manifest.json is missing. Write the site again with krypton-onnx web.",
      );
    }
    const manifest = readManifest(await response.json().catch(() => null));
    known(manifest);
    return new Session(manifest, await Inference.start(manifest, folder, wishes, progress), folder);
  }

  /** Takes an image file. Rejects with an Error of one line where it cannot be used. */
  async setImage(file: Blob): Promise<Subject> {
    const picture = await prepareFile(file, this.manifest.preparation);
    const baseline = await inWords(this.inference.setImage(picture.input));
    this.subject = { picture, baseline };
    return this.subject;
  }

  grid({ patch, stride }: Settings): Grid {
    const [, height, width] = this.manifest.image_shape;
    return makeGrid([height, width], patch, stride);
  }

  fillOf(settings: Settings): Float32Array {
    const { input, channels } = this.required().picture;
    return fillValues(settings.fill, input, channels, this.manifest.preparation);
  }

  /** An empty map. targets : classes that must be held where there is no memory for all. */
  newMap(settings: Settings, targets: readonly number[]): HeatMap {
    const { baseline } = this.required();
    const grid = this.grid(settings);
    const all = positionsOf(grid) * baseline.length <= MOST_SCORES;
    const kept = all ? [...baseline.keys()] : [...new Set([...targets, ...ranked(baseline).slice(0, KEPT_OTHERWISE)])];
    return new HeatMap(grid, baseline, this.manifest.score_name, kept);
  }

  /** Tries WebGPU, the first time, on the coarsest positions of a map. */
  async chooseProvider(settings: Settings): Promise<void> {
    const grid = this.grid(settings);
    const cells = newCells(grid.tops.length, grid.lefts.length, 4, []).slice(0, 32);
    await this.inference.considerGpu(occlusionsAt(grid, cells, this.fillOf(settings)));
  }

  async fill(
    map: HeatMap,
    settings: Settings,
    signal: AbortSignal,
    onUpdate: (progress: Progress) => void,
    batch: number | null = null,
  ): Promise<void> {
    const size = batch === null ? new BatchSize() : new BatchSize(batch, true);
    const run = (occlusions: Parameters<Inference["incremental"]>[0]) => this.inference.incremental(occlusions);
    await inWords(fillMap(map, this.fillOf(settings), run, size, signal, onUpdate));
  }

  async measure(settings: Settings, batch?: number, positions?: number): Promise<Measured> {
    const fill = this.fillOf(settings);
    return inWords(measure(this.inference, this.grid(settings), fill, batch, positions));
  }

  /** How a map was computed, for its note. */
  get note(): string {
    return `function bodies in onnxruntime-web: ${this.inference.words}`;
  }

  private required(): Subject {
    if (this.subject === null) throw new Error("Choose an image first.");
    return this.subject;
  }
}

async function inWords<T>(running: Promise<T>): Promise<T> {
  try {
    return await running;
  } catch (error) {
    if (!(error instanceof OutOfMemory)) throw error;
    throw new Error("This device has not enough memory for the model: close other tabs, or take a smaller model.");
  }
}
