/* What the site knows of its model: model/manifest.json, written by `krypton-onnx web`. */

export type Layout = "NCHW" | "NHWC";
export type ImageType = "float32" | "float16" | "uint8";
export type Activation = "softmax" | "sigmoid" | null;

/** As krypton_onnx/images/preparation.py: x = (pixel * scale - mean) / std. Sizes are [height, width]. */
export interface Preparation {
  size: readonly [number, number] | null;
  mean: readonly number[];
  std: readonly number[];
  scale: number | null;
  channel_order: "rgb" | "bgr" | "gray";
  layout: "nchw" | "nhwc";
  fit: "stretch" | "crop" | "pad";
  resize: number | null;
  resample: "nearest" | "bilinear" | "bicubic" | "lanczos";
  padding: number;
  window: readonly [number, number] | null;
}

/** A number or one a channel, in the model's own space, or a word. */
export type Fill = number | readonly number[] | "mean" | "black" | "white" | "gray";

export interface Manifest {
  title: string;
  model: string;
  bytes: number;
  sha256: string;
  image_input: string;
  image_shape: readonly [number, number, number];
  layout: Layout;
  image_type: ImageType;
  patch_input: string;
  origin_input: string;
  threshold_input: string;
  output: string;
  unoccluded: string;
  activation: Activation;
  score_name: string;
  labels: readonly string[] | null;
  preparation: Preparation;
  defaults: { patch: readonly [number, number]; stride: readonly [number, number]; fill: Fill };
  sample: { file: string; caption: string; credit: string } | null;
  version: string;
}

const PLAIN: Preparation = {
  size: null,
  mean: [0],
  std: [1],
  scale: null,
  channel_order: "rgb",
  layout: "nchw",
  fit: "stretch",
  resize: null,
  resample: "bilinear",
  padding: 0,
  window: null,
};

const TEXTS = [
  "title",
  "model",
  "sha256",
  "image_input",
  "layout",
  "image_type",
  "patch_input",
  "origin_input",
  "threshold_input",
  "output",
  "unoccluded",
  "score_name",
  "version",
] as const;

/** The manifest, checked; keys that a preparation leaves out are as by default. Throws an Error of one line. */
export function readManifest(data: unknown): Manifest {
  if (typeof data !== "object" || data === null) throw wrong("it is not an object");
  const given = data as Record<string, unknown>;
  if (given.format !== 1) throw wrong(`its format is ${String(given.format)}, and this page reads format 1`);
  for (const name of TEXTS) if (typeof given[name] !== "string") throw wrong(`"${name}" is not a text`);
  const shape = given.image_shape;
  if (!Array.isArray(shape) || shape.length !== 3 || !shape.every((side) => Number.isInteger(side) && side > 0)) {
    throw wrong('"image_shape" is not [channels, height, width]');
  }
  const [channels, height, width] = shape as [number, number, number];
  const preparation: Preparation = { ...PLAIN, ...(given.preparation as Partial<Preparation>) };
  if (channels !== (preparation.channel_order === "gray" ? 1 : 3)) {
    throw wrong(`the model takes ${channels} channels, and its preparation makes others`);
  }
  const size = preparation.size ?? [height, width];
  if (size[0] !== height || size[1] !== width) throw wrong("the size of the preparation is not that of the model");
  return { ...(given as unknown as Manifest), preparation: { ...preparation, size } };
}

function wrong(what: string): Error {
  return new Error(`model/manifest.json cannot be used: ${what}; write the site again with krypton-onnx web`);
}
