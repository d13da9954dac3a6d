// How much faster that is than running the original model once a position, and that it says the same.
import * as ort from "onnxruntime-node";

const SIZES = [1, 4, 8, 16, 32], ROUNDS = 3;
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Milliseconds of `work`, and what it returned. */
async function timed(work) {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

/** A sentence: medians of rounds that time `positions` full inferences, at their best batch size, then the map. */
export async function measure(path, plan, image, grid, map, explain, positions) {
  const session = await ort.InferenceSession.create(path);
  const [output] = plan.outputs, [target] = map.targets;
  const fixed = session.inputMetadata[0].shape[0]; // a name where it is free

  /** The scores of some positions, each as an image of its own. */
  async function infer(some) {
    const data = new Float32Array(some.length * image.data.length);
    some.forEach(([top, left], index) => {
      const own = data.subarray(index * image.data.length, (index + 1) * image.data.length);
      own.set(image.data);
      hide(own, top, left, grid.patch, plan);
    });
    const feeds = { [plan.image_input]: new ort.Tensor("float32", data, [some.length, ...image.dims.slice(1)]) };
    const [milliseconds, results] = await timed(() => session.run(feeds, [output]));
    const scores = results[output].data;
    return [milliseconds, some.map((_, index) => scores[(index * scores.length) / some.length + target])];
  }

  const sizes = typeof fixed === "number" ? [fixed] : SIZES;
  const spent = new Map();
  for (const size of sizes) {
    await infer(spread(grid, 0, size)); // takes memory
    spent.set(size, Math.min((await infer(spread(grid, 0, size)))[0], (await infer(spread(grid, 0, size)))[0]) / size);
  }
  const batch = sizes.reduce((best, size) => (spent.get(size) < spent.get(best) ? size : best));

  const naive = [], ours = [];
  let difference = 0;
  for (let round = 0; round < ROUNDS; round++) {
    let milliseconds = 0;
    const runs = Math.ceil(positions / batch);
    for (let run = 0; run < runs; run++) {
      const some = spread(grid, (round * runs + run) * batch, batch);
      const [time, scores] = await infer(some);
      milliseconds += time;
      some.forEach(([top, left], index) => {
        const score = map.scores[0][top / grid.stride][left / grid.stride];
        difference = Math.max(difference, Math.abs(score - scores[index]));
      });
    }
    naive.push(milliseconds / (runs * batch));
    ours.push((await timed(explain))[0] / (grid.tops.length * grid.lefts.length));
  }
  return `full inference ${median(naive).toFixed(2)} ms a position (${batch} a run), rewritten ` +
    `${median(ours).toFixed(2)} ms: ${(median(naive) / median(ours)).toFixed(2)} times as fast; ` +
    `largest difference ${difference.toExponential(1)}`;
}

/** `count` positions from the `first` on of a sequence that is spread evenly over the grid (a Kronecker sequence). */
function spread({ tops, lefts }, first, count) {
  const pick = (axis, index, step) => axis[Math.floor((((index + 1) * step) % 1) * axis.length)];
  return Array.from({ length: count }, (_, index) => [
    pick(tops, first + index, 0.7548776662466927), pick(lefts, first + index, 0.5698402909980532),
  ]);
}

/** Zeros where the patch is, in one image. */
function hide(data, top, left, size, { layout, image_shape: [channels, height, width] }) {
  for (let channel = 0; channel < channels; channel++)
    for (let y = top; y < top + size; y++)
      for (let x = left; x < left + size; x++)
        data[layout === "NHWC" ? (y * width + x) * channels + channel : (channel * height + y) * width + x] = 0;
}
