/* The colours of a map: red supports the class, blue speaks against it, white does not matter. */

import { DIVERGING } from "./palette";

// Over an image, a cell is opaque from this share of the largest drop on, and the less so below.
const FADE = 0.3;

/** [red, green, blue, opacity], 0 to 255, of a drop where the strongest colour stands for `limit`. */
export function colourOfDrop(drop: number, limit: number): [number, number, number, number] {
  const share = Math.min(Math.max((drop + limit) / (2 * limit), 0), 1);
  const at = 3 * Math.round(255 * share);
  // Squared: rounding and weak effects all over an image would lie on it like a veil.
  const weight = Math.min(Math.abs(drop) / (FADE * limit), 1) ** 2;
  return [DIVERGING[at], DIVERGING[at + 1], DIVERGING[at + 2], Math.round(255 * weight)];
}

/** The colours from the lowest to the highest, opaque: (256, 4). */
export function colourBar(): Uint8ClampedArray<ArrayBuffer> {
  const bar = new Uint8ClampedArray(4 * 256).fill(255);
  for (let at = 0; at < 256; at += 1) bar.set(DIVERGING.subarray(3 * at, 3 * at + 3), 4 * at);
  return bar;
}
