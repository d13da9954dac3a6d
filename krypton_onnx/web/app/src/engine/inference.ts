/* Inference that goes on: chooses where to run, and takes a fresh worker where memory has run out. */

import type { Manifest } from "../manifest";
import { Engine, OutOfMemory } from "./engine";
import { noAdapter, tryGpu } from "./gpu";
import type { Occlusions, Provider, Scores } from "./protocol";

const MOST_THREADS = 16;

/** provider : "auto" tries WebGPU where there is one. threads : null takes all cores, where threads are allowed. */
export interface Wishes {
  provider: "auto" | Provider;
  threads: number | null;
}

export class Inference {
  private input: Float32Array | null = null;
  private gpuTried = false;

  private constructor(
    private readonly manifest: Manifest,
    private readonly folder: string,
    private readonly wishes: Wishes,
    private engine: Engine,
    private gpu: string,
  ) {}

  static async start(
    manifest: Manifest,
    folder: string,
    wishes: Wishes,
    progress: (bytes: number) => void,
  ): Promise<Inference> {
    const threads = threadsOf(wishes);
    const first: Provider = wishes.provider === "webgpu" ? "webgpu" : "wasm";
    const engine = await Engine.start(manifest, folder, first, threads, progress);
    return new Inference(manifest, folder, wishes, engine, wishes.provider === "auto" ? "" : "the address asks for it");
  }

  get provider(): Provider {
    return this.engine.provider;
  }

  get threads(): number {
    return this.engine.threads;
  }

  /** "WebAssembly, 4 threads", or "WebGPU". */
  get words(): string {
    if (this.provider === "webgpu") return "WebGPU";
    return `WebAssembly, ${this.threads} thread${this.threads === 1 ? "" : "s"}`;
  }

  /** Why it runs there, in words. */
  get why(): string {
    const reasons = this.gpu === "" ? [] : [this.gpu];
    if (this.provider === "wasm" && this.threads === 1) {
      reasons.push(
        globalThis.crossOriginIsolated
          ? "one thread, as the machine or the address has it"
          : "one thread, because the server does not make this page cross-origin isolated",
      );
    }
    return reasons.join("; ");
  }

  /** The scores of the image as it is, one a class. */
  async setImage(input: Float32Array): Promise<Float32Array> {
    this.input = input;
    return this.guarded(() => this.engine.setImage(input));
  }

  async incremental(occlusions: Occlusions): Promise<Scores> {
    return this.guarded(() => this.engine.incremental(occlusions));
  }

  async full(occlusions: Occlusions): Promise<Scores> {
    return this.guarded(() => this.engine.full(occlusions));
  }

  /** Moves to WebGPU, once, where that is worth it. `batch` is what is tried on both. */
  async considerGpu(batch: Occlusions): Promise<void> {
    if (this.gpuTried || this.wishes.provider !== "auto" || this.input === null) return;
    this.gpuTried = true;
    const missing = await noAdapter();
    if (missing !== null) {
      this.gpu = missing;
      return;
    }
    const { engine, why } = await tryGpu(this.manifest, this.folder, this.engine, this.input, batch);
    this.gpu = why;
    if (engine === null) return;
    this.engine.close();
    this.engine = engine;
  }

  /** A worker whose memory has run out is replaced; the error is still thrown, for the caller must ask for less. */
  private async guarded<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (error instanceof OutOfMemory) {
        const { provider, threads } = this.engine;
        this.engine.close();
        this.engine = await Engine.start(this.manifest, this.folder, provider, threads);
        if (this.input !== null) await this.engine.setImage(this.input);
      }
      throw error;
    }
  }
}

/** Threads need memory that is shared, which browsers allow to isolated pages only. */
function threadsOf(wishes: Wishes): number {
  if (!globalThis.crossOriginIsolated) return 1;
  return Math.max(1, Math.min(wishes.threads ?? navigator.hardwareConcurrency ?? 1, MOST_THREADS));
}
