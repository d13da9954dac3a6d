/* Inference away from the page: answers one request after the other. */

import { download } from "./download";
import { Model } from "./model";
import type { Answer, Asked, Request, Scores } from "./protocol";
import { loadRuntime } from "./runtimes";

let model: Model | null = null;
let queue: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<Asked>) => {
  queue = queue.then(() => answer(data));
};

async function answer({ id, request }: Asked): Promise<void> {
  try {
    const done = await carriedOut(id, request);
    self.postMessage({ id, done } satisfies Answer, done === null ? [] : [done.scores.buffer]);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    self.postMessage({ id, failed: text, memory: isMemory(error, text) } satisfies Answer);
  }
}

async function carriedOut(id: number, request: Request): Promise<Scores | null> {
  if (request.kind === "load") {
    const { manifest, folder, provider, threads } = request;
    const ort = await loadRuntime(provider, threads);
    const tell = (progress: number) => self.postMessage({ id, progress } satisfies Answer);
    let told = false;
    model = await Model.load(ort, manifest, provider, async () => {
      const bytes = await download(folder, manifest, told ? () => undefined : tell);
      told = true;
      return bytes;
    });
    return null;
  }
  if (model === null) throw new Error("The model is not loaded.");
  if (request.kind === "image") return model.setImage(request.input);
  return request.kind === "full" ? model.full(request.occlusions) : model.incremental(request.occlusions);
}

/** Whether memory has run out, however ONNX Runtime, WebAssembly or the browser say that. */
function isMemory(error: unknown, text: string): boolean {
  if (error instanceof RangeError || typeof error === "number") return true; // a number: a C++ exception that got out
  return /bad_alloc|out of memory|OOM|allocat|memory access out of bounds|createBuffer|device.*lost/i.test(text);
}
