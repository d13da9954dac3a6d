/* What hides the image: one number a channel, in the model's own space, as krypton_onnx/runtime/fills has it. */

import type { Fill, Preparation } from "../manifest";

const PIXELS: Record<string, number> = { black: 0, white: 255, gray: 127.5 };

/** float32, one a channel. input : (C, H, W), of which "mean" is the mean colour. Throws where it does not fit. */
export function fillValues(fill: Fill, input: Float32Array, channels: number, preparation: Preparation): Float32Array {
  if (fill === "mean") return means(input, channels);
  if (typeof fill === "string") {
    if (!(fill in PIXELS)) throw new Error(`The fill must be numbers, mean, black, white or gray; it is ${fill}.`);
    return Float32Array.from({ length: channels }, (_, channel) => {
      const pick = (list: readonly number[]) => list[list.length === 1 ? 0 : channel];
      return (PIXELS[fill] * (preparation.scale ?? 1 / 255) - pick(preparation.mean)) / pick(preparation.std);
    });
  }
  const numbers = typeof fill === "number" ? [fill] : fill;
  if (![1, channels].includes(numbers.length) || !numbers.every(Number.isFinite)) {
    throw new Error(`The fill must be one number, or ${channels}, one a channel.`);
  }
  return Float32Array.from({ length: channels }, (_, channel) => numbers[numbers.length === 1 ? 0 : channel]);
}

function means(input: Float32Array, channels: number): Float32Array {
  const count = input.length / channels;
  return Float32Array.from({ length: channels }, (_, channel) => {
    let sum = 0;
    for (let at = channel * count; at < (channel + 1) * count; at += 1) sum += input[at];
    return sum / count;
  });
}
