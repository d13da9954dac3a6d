/* Resizing 8-bit pictures, with the numbers of Pillow: along one axis, rounded to 8 bits, then along the other. */

import type { Preparation } from "../manifest";
import { axisWeights, nearestPixels, PRECISION_BITS } from "./filters";

/** uint8 (height, width, channels), rows first. */
export interface Picture {
  height: number;
  width: number;
  channels: number;
  data: Uint8Array;
}

const HALF = 1 << (PRECISION_BITS - 1);

/** The picture in another size. */
export function resize(picture: Picture, height: number, width: number, filter: Preparation["resample"]): Picture {
  if (filter === "nearest") return takeNearest(picture, height, width);
  const rows = (from: Picture) => (width === from.width ? from : alongRows(from, width, filter));
  const columns = (from: Picture) => (height === from.height ? from : alongColumns(from, height, filter));
  // Pillow's order, since version 13: columns first where the height loses more than twice what the width does.
  const lost = picture.height - height;
  const columnsFirst = lost > 0 && lost > 2 * (picture.width - width);
  return columnsFirst ? rows(columns(picture)) : columns(rows(picture));
}

type Smooth = Exclude<Preparation["resample"], "nearest">;

function alongRows(picture: Picture, width: number, filter: Smooth): Picture {
  const { height, channels, data } = picture;
  const { starts, counts, stride, weights } = axisWeights(picture.width, width, filter);
  const made = new Uint8ClampedArray(height * width * channels);
  let out = 0;
  for (let row = 0; row < height; row += 1) {
    const line = row * picture.width * channels;
    for (let place = 0; place < width; place += 1) {
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = HALF;
        let at = line + starts[place] * channels + channel;
        for (let k = place * stride; k < place * stride + counts[place]; k += 1) {
          sum += weights[k] * data[at];
          at += channels;
        }
        made[out] = sum >> PRECISION_BITS;
        out += 1;
      }
    }
  }
  return { height, width, channels, data: new Uint8Array(made.buffer) };
}

function alongColumns(picture: Picture, height: number, filter: Smooth): Picture {
  const { width, channels, data } = picture;
  const { starts, counts, stride, weights } = axisWeights(picture.height, height, filter);
  const line = width * channels;
  const made = new Uint8ClampedArray(height * line);
  const sums = new Int32Array(line);
  for (let place = 0; place < height; place += 1) {
    sums.fill(HALF);
    for (let k = 0; k < counts[place]; k += 1) {
      const weight = weights[place * stride + k];
      const from = (starts[place] + k) * line;
      for (let x = 0; x < line; x += 1) sums[x] += weight * data[from + x];
    }
    for (let x = 0; x < line; x += 1) made[place * line + x] = sums[x] >> PRECISION_BITS;
  }
  return { height, width, channels, data: new Uint8Array(made.buffer) };
}

function takeNearest(picture: Picture, height: number, width: number): Picture {
  const { channels, data } = picture;
  const rows = nearestPixels(picture.height, height);
  const columns = nearestPixels(picture.width, width);
  const made = new Uint8Array(height * width * channels);
  let out = 0;
  for (const row of rows) {
    for (const column of columns) {
      const at = (row * picture.width + column) * channels;
      for (let channel = 0; channel < channels; channel += 1) made[out + channel] = data[at + channel];
      out += channels;
    }
  }
  return { height, width, channels, data: made };
}
