/* WebGPU is used only where there is an adapter, and it computes the same as WebAssembly, and faster: tried first. */

import type { Manifest } from "../manifest";
import { duration } from "../numbers";
import { Engine } from "./engine";
import type { Occlusions } from "./protocol";

/** How far scores may differ, relative to their largest where that is above 1. */
export const TOLERANCE = 1e-4;
const PATIENCE = 90_000; // milliseconds, for a driver that hangs

interface Adapter {
  info?: { isFallbackAdapter?: boolean; vendor?: string; architecture?: string };
  isFallbackAdapter?: boolean;
}

/** null where there is an adapter, else why there is none to use. */
export async function noAdapter(): Promise<string | null> {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<Adapter | null> } }).gpu;
  if (gpu === undefined) return "this browser offers no WebGPU to this page";
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (adapter === null) return "there is no WebGPU adapter";
  const software = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  return software ? "the WebGPU adapter is software" : null;
}

/** The largest difference, relative to the largest score where that is above 1; infinite where one is not a number. */
export function difference(one: Float32Array, other: Float32Array): number {
  let most = one.length === other.length ? 0 : Infinity;
  let scale = 1;
  for (let at = 0; at < one.length; at += 1) {
    const apart = Math.abs(one[at] - other[at]);
    most = Math.max(most, Number.isNaN(apart) ? Infinity : apart);
    scale = Math.max(scale, Math.abs(one[at]));
  }
  return Number.isFinite(most) ? most / scale : Infinity;
}

/** An engine on WebGPU with the image set, or null; and why, for the page. */
export async function tryGpu(
  manifest: Manifest,
  folder: string,
  plain: Engine,
  input: Float32Array,
  batch: Occlusions,
): Promise<{ engine: Engine | null; why: string }> {
  let engine: Engine | null = null;
  let givenUp = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("it did not answer in time")), PATIENCE);
  });
  try {
    const starting = Engine.start(manifest, folder, "webgpu", 1);
    // One that comes too late must not go on.
    starting.then((made) => givenUp && made.close()).catch(() => undefined);
    engine = await Promise.race([starting, late]);
    await Promise.race([engine.setImage(input), late]);
    await Promise.race([engine.incremental(batch), late]); // compiles
    const fast = await Promise.race([engine.incremental(batch), late]);
    await plain.incremental(batch);
    const slow = await plain.incremental(batch);
    const apart = difference(slow.scores, fast.scores);
    if (!(apart <= TOLERANCE)) throw new Error(`its scores differ by ${apart.toExponential(1)}`);
    const [a, b] = [fast.milliseconds[0], slow.milliseconds[0]];
    if (a >= b) throw new Error(`it is slower here (${duration(a)} a batch instead of ${duration(b)})`);
    return { engine, why: `WebGPU computes the same (within ${TOLERANCE}) and is ${(b / a).toFixed(1)} times as fast` };
  } catch (error) {
    givenUp = true;
    (engine as Engine | null)?.close();
    return { engine: null, why: `WebGPU was tried and is not used: ${(error as Error).message}` };
  } finally {
    clearTimeout(timer);
  }
}
