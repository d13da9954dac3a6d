/* From what the model puts out to scores. */

import type { Activation } from "../manifest";

/** float32 (rows, classes), in place: softmax over the classes, or sigmoid of each. */
export function activate(values: Float32Array, rows: number, activation: Activation): Float32Array {
  if (activation === null) return values;
  if (activation === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-value)));
  const classes = values.length / rows;
  for (let row = 0; row < rows; row += 1) {
    const scores = values.subarray(row * classes, (row + 1) * classes);
    const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const powers = Float64Array.from(scores, (value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    scores.set(powers.map((power) => power / sum));
  }
  return values;
}
