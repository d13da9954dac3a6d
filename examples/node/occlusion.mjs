// The recipe: an occlusion map from a rewritten model in ONNX Runtime, and nothing else. Take this file as it is.
import * as ort from "onnxruntime-node";

/** Every position where a patch fits: origins along both axes, in pixels. patch: the side of a square. */
export function makeGrid([, height, width], patch, stride) {
  const origins = (side) =>
    Array.from({ length: Math.ceil((side - patch + 1) / stride) }, (_, index) => index * stride);
  return { patch, stride, tops: origins(height), lefts: origins(width) };
}

/** Squares of neighbours, of at most `most` positions: all of a run share one extent, so they should be alike. */
export function tiles({ tops, lefts }, most) {
  const side = Math.max(1, Math.floor(Math.sqrt(most)));
  const cut = (axis) => {
    const parts = Math.ceil(axis.length / side);
    const edge = (part) => Math.round((part * axis.length) / parts);
    return Array.from({ length: parts }, (_, part) => axis.slice(edge(part), edge(part + 1)));
  };
  return cut(tops).flatMap((some) => cut(lefts).map((others) => ({ tops: some, lefts: others })));
}

/**
 * The map of one image: {targets, baseline, scores (target, row, column)}, raw scores of one class.
 *
 * plan: what the model's metadata holds under krypton.plan. image: a tensor of batch 1. batches: a list of
 * {tops, lefts}, of which every pair is a position. target: a class; undefined is the one of the highest score.
 */
export async function explain(session, plan, image, grid, batches, target) {
  const [channels] = plan.image_shape;
  const [output] = plan.outputs;
  const patch = new Float32Array(channels * grid.patch ** 2); // zeros hide the pixels, as the model sees them
  const feeds = {
    [plan.image_input]: image,
    occlusion_patch: new ort.Tensor("float32", patch, [1, channels, grid.patch, grid.patch]),
    propagation_threshold: new ort.Tensor("float32", [1], [1]), // exact
  };
  const scores = grid.tops.map(() => grid.lefts.map(() => NaN));
  let baseline;
  for (const { tops, lefts } of batches) {
    const positions = tops.flatMap((top) => lefts.map((left) => [top, left]));
    feeds.occlusion_origin = new ort.Tensor("int64", positions.flat().map(BigInt), [positions.length, 2]);
    const results = await session.run(feeds, [output, `unoccluded_${output}`]);
    const unoccluded = results[`unoccluded_${output}`].data;
    target ??= unoccluded.indexOf(Math.max(...unoccluded));
    if (target >= unoccluded.length) throw new Error(`class ${target}: the model has ${unoccluded.length}, from 0`);
    baseline = unoccluded[target];
    positions.forEach(([top, left], index) => {
      scores[top / grid.stride][left / grid.stride] = results[output].data[index * unoccluded.length + target];
    });
  }
  return { targets: [target], baseline: [baseline], scores: [scores] };
}
