/* What the page and its inference worker say to each other. Every request has an id; its answer carries the same. */

import type { Manifest } from "../manifest";

export type Provider = "wasm" | "webgpu";

/** Positions of one patch filled with one colour. origins : (N, 2) of top and left. fill : one number a channel. */
export interface Occlusions {
  origins: Int32Array;
  patch: readonly [number, number];
  fill: Float32Array;
}

export type Request =
  | { kind: "load"; manifest: Manifest; folder: string; provider: Provider; threads: number }
  | { kind: "image"; input: Float32Array }
  | { kind: "incremental"; occlusions: Occlusions }
  | { kind: "full"; occlusions: Occlusions };

/** scores : float32 (N, classes). milliseconds : what the run took; of "full", one number a position. */
export interface Scores {
  scores: Float32Array;
  milliseconds: number[];
}

export interface Asked {
  id: number;
  request: Request;
}

export type Answer =
  | { id: number; done: Scores | null }
  | { id: number; progress: number } // bytes of the model
  | { id: number; failed: string; memory: boolean };
