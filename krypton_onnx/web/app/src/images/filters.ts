/* The weights by which a resized pixel is made of the pixels of the source, for one axis.
 *
 * The rules are those of Pillow, which Python's side uses: a filter is widened by the scale where the image shrinks
 * (antialiasing), weights are normalized, and then rounded to integers of 22 bits after the point.
 */

import type { Preparation } from "../manifest";

export const PRECISION_BITS = 32 - 8 - 2;

/** Source pixels start .. start + count - 1 of output pixel i have the weights from `stride * i` on. */
export interface Weights {
  starts: Int32Array;
  counts: Int32Array;
  stride: number;
  weights: Int32Array;
}

type Filter = { support: number; at: (x: number) => number };

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

const FILTERS: Record<Exclude<Preparation["resample"], "nearest">, Filter> = {
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, at: cubic },
  lanczos: { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Cubic convolution with a = -0.5 (R. Keys, 1981). */
function cubic(signedX: number): number {
  const a = -0.5;
  const x = Math.abs(signedX);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** For an axis of `from` pixels that gets `to`. */
export function axisWeights(from: number, to: number, name: keyof typeof FILTERS): Weights {
  const filter = FILTERS[name];
  const scale = from / to;
  const wider = Math.max(scale, 1);
  const support = filter.support * wider;
  const stride = Math.ceil(support) * 2 + 1;
  const made: Weights = {
    starts: new Int32Array(to),
    counts: new Int32Array(to),
    stride,
    weights: new Int32Array(to * stride),
  };
  for (let place = 0; place < to; place += 1) {
    const centre = (place + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(from, Math.trunc(centre + support + 0.5)) - start;
    const values = Array.from({ length: count }, (_, k) => filter.at((k + start - centre + 0.5) * (1 / wider)));
    const sum = values.reduce((total, value) => total + value, 0);
    values.forEach((value, k) => {
      const scaled = (sum === 0 ? value : value / sum) * 2 ** PRECISION_BITS;
      made.weights[place * stride + k] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    made.starts[place] = start;
    made.counts[place] = count;
  }
  return made;
}

/** Which source pixel each output pixel takes, for the filter "nearest". */
export function nearestPixels(from: number, to: number): Int32Array {
  const step = from / to;
  const taken = new Int32Array(to);
  let at = step * 0.5; // summed up, as Pillow does it, so that rounding is the same
  for (let place = 0; place < to; place += 1) {
    taken[place] = Math.min(from - 1, Math.trunc(at));
    at += step;
  }
  return taken;
}
