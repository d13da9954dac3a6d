/* From a picture to the model's numbers, bit for bit as krypton_onnx/images/prepared.py, and back for the eye. */

import type { Preparation } from "../manifest";
import { roundHalfEven } from "../numbers";
import { place } from "./placement";
import { resize, type Picture } from "./resample";

/** input : float32 (C, H, W) in the model's space and channel order. shown : RGBA (H, W), what the model saw. */
export interface Prepared {
  height: number;
  width: number;
  channels: number;
  input: Float32Array;
  shown: Uint8ClampedArray<ArrayBuffer>;
}

/** rgba : the picture as decoded, (height, width, 4). Throws an Error of one line where it cannot be used. */
export function prepare(rgba: Uint8ClampedArray, height: number, width: number, preparation: Preparation): Prepared {
  if (preparation.window !== null) {
    throw new Error("This model wants images of more than 8 bits (a window of values), which a browser cannot read.");
  }
  const placement = place([height, width], preparation);
  let picture = opaque(rgba, height, width, preparation.channel_order === "gray");
  const [newHeight, newWidth] = placement.resized;
  if (newHeight !== height || newWidth !== width) {
    picture = resize(picture, newHeight, newWidth, preparation.resample);
  }
  picture = fitted(picture, placement.size, placement.top, placement.left, roundHalfEven(preparation.padding));
  return { ...toModel(picture, preparation), shown: toRgba(picture) };
}

/** Red, green and blue, or grey by ITU-R 601 in Pillow's integers. Throws where pixels are transparent. */
function opaque(rgba: Uint8ClampedArray, height: number, width: number, gray: boolean): Picture {
  const channels = gray ? 1 : 3;
  const data = new Uint8Array(height * width * channels);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += channels) {
    if (rgba[from + 3] !== 255) throw new Error("The image has transparent pixels; lay it on a background first.");
    const red = rgba[from];
    const green = rgba[from + 1];
    const blue = rgba[from + 2];
    if (gray) {
      data[to] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else {
      data[to] = red;
      data[to + 1] = green;
      data[to + 2] = blue;
    }
  }
  return { height, width, channels, data };
}

/** Cut, or padded with `ground`: row `top` and column `left` of the result is the picture's first. */
function fitted(picture: Picture, size: readonly [number, number], top: number, left: number, ground: number): Picture {
  const [height, width] = size;
  const { channels } = picture;
  if (height === picture.height && width === picture.width) return picture;
  const data = new Uint8Array(height * width * channels).fill(ground);
  const first = Math.max(0, left);
  const last = Math.min(width, left + picture.width);
  for (let row = Math.max(0, top); row < Math.min(height, top + picture.height); row += 1) {
    const from = ((row - top) * picture.width + first - left) * channels;
    data.set(picture.data.subarray(from, from + (last - first) * channels), (row * width + first) * channels);
  }
  return { height, width, channels, data };
}

/** The number of every pixel value, of one of the model's channels; rounded where NumPy rounds to float32. */
function numbersOf(preparation: Preparation, channel: number): Float32Array {
  const factor = Math.fround(preparation.scale ?? 1 / 255);
  const mean = preparation.mean[preparation.mean.length === 1 ? 0 : channel];
  const std = preparation.std[preparation.std.length === 1 ? 0 : channel];
  return Float32Array.from({ length: 256 }, (_, value) => (Math.fround(value * factor) - mean) / std);
}

function toModel(picture: Picture, preparation: Preparation): Omit<Prepared, "shown"> {
  const { height, width, channels, data } = picture;
  const count = height * width;
  const input = new Float32Array(channels * count);
  for (let channel = 0; channel < channels; channel += 1) {
    const numbers = numbersOf(preparation, channel);
    const source = preparation.channel_order === "bgr" ? 2 - channel : channel;
    for (let at = 0; at < count; at += 1) input[channel * count + at] = numbers[data[at * channels + source]];
  }
  return { height, width, channels, input };
}

function toRgba({ height, width, channels, data }: Picture): Uint8ClampedArray<ArrayBuffer> {
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let at = 0; at < height * width; at += 1) {
    for (let channel = 0; channel < 3; channel += 1)
      rgba[4 * at + channel] = data[at * channels + (channel % channels)];
  }
  return rgba;
}

/** The colour, [red, green, blue], that numbers of the model's space (one a channel) are for the eye. */
export function colourOf(values: ArrayLike<number>, preparation: Preparation): [number, number, number] {
  const factor = preparation.scale ?? 1 / 255;
  const pick = (list: readonly number[], channel: number) => list[list.length === 1 ? 0 : channel];
  const pixels = Array.from(values, (value, channel) => {
    const pixel = (value * pick(preparation.std, channel) + pick(preparation.mean, channel)) / factor;
    return Math.min(255, Math.max(0, roundHalfEven(pixel)));
  });
  if (preparation.channel_order === "bgr") pixels.reverse();
  return pixels.length === 1 ? [pixels[0], pixels[0], pixels[0]] : [pixels[0], pixels[1], pixels[2]];
}
