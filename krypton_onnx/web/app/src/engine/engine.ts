/* The inference worker as the page sees it: promises. */

import type { Manifest } from "../manifest";
import type { Answer, Occlusions, Provider, Request, Scores } from "./protocol";

/** Memory has run out. After that a worker cannot be trusted: take a new one, and smaller batches. */
export class OutOfMemory extends Error {}

interface Waiting {
  resolve: (done: Scores | null) => void;
  reject: (error: Error) => void;
  progress: (bytes: number) => void;
}

export class Engine {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;

  private constructor(
    readonly provider: Provider,
    readonly threads: number,
  ) {
    this.worker.onmessage = ({ data }: MessageEvent<Answer>) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.close(new Error(`Inference stopped: ${event.message || "its script cannot be loaded"}.`));
    };
  }

  /** Loads the model. folder : the address of the manifest's folder. Rejects with an Error of one line. */
  static async start(
    manifest: Manifest,
    folder: string,
    provider: Provider,
    threads: number,
    progress: (bytes: number) => void = () => undefined,
  ): Promise<Engine> {
    const engine = new Engine(provider, threads);
    try {
      await engine.ask({ kind: "load", manifest, folder, provider, threads }, progress);
    } catch (error) {
      engine.close();
      throw error;
    }
    return engine;
  }

  /** The scores of the unoccluded image, one a class. */
  async setImage(input: Float32Array): Promise<Float32Array> {
    return (await this.ask({ kind: "image", input }))!.scores;
  }

  async incremental(occlusions: Occlusions): Promise<Scores> {
    return (await this.ask({ kind: "incremental", occlusions }))!;
  }

  async full(occlusions: Occlusions): Promise<Scores> {
    return (await this.ask({ kind: "full", occlusions }))!;
  }

  close(reason = new Error("Inference was stopped.")): void {
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }

  private ask(request: Request, progress: (bytes: number) => void = () => undefined): Promise<Scores | null> {
    this.last += 1;
    const id = this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ id, request });
    });
  }

  private receive(answer: Answer): void {
    const waiting = this.waiting.get(answer.id);
    if (waiting === undefined) return;
    if ("progress" in answer) {
      waiting.progress(answer.progress);
      return;
    }
    this.waiting.delete(answer.id);
    if ("done" in answer) waiting.resolve(answer.done);
    else waiting.reject(answer.memory ? new OutOfMemory(answer.failed) : new Error(answer.failed));
  }
}
