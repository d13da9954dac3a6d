/* The rewritten model in ONNX Runtime: an image, and scores of it with patches on it. Runs in a worker. */

import type { InferenceSession, Tensor } from "onnxruntime-web";
import type { Manifest } from "../manifest";
import { cutOut } from "./original";
import type { Occlusions, Provider, Scores } from "./protocol";
import type { Runtime } from "./runtimes";
import { activate } from "./scores";

const OPTIONS: InferenceSession.SessionOptions = {
  graphOptimizationLevel: "all",
  logSeverityLevel: 3,
  // The rewritten model of a quantized one holds its weights dequantized; they must not be quantized again.
  extra: { session: { disable_quant_qdq: "1" } },
};

export class Model {
  private image: Float32Array | null = null;
  private original: InferenceSession | null = null;

  private constructor(
    private readonly ort: Runtime,
    private readonly manifest: Manifest,
    private readonly session: InferenceSession,
    private readonly provider: Provider,
    private readonly bytes: () => Promise<Uint8Array>,
  ) {}

  /** bytes : gives the model; asked again where full inference is measured, so that it is not held all the time. */
  static async load(
    ort: Runtime,
    manifest: Manifest,
    provider: Provider,
    bytes: () => Promise<Uint8Array>,
  ): Promise<Model> {
    const session = await ort.InferenceSession.create(await bytes(), { ...OPTIONS, executionProviders: [provider] });
    return new Model(ort, manifest, session, provider, bytes);
  }

  /** Takes the prepared image, float32 (C, H, W); scores (1, classes) of it as it is. */
  async setImage(input: Float32Array): Promise<Scores> {
    this.image = input;
    const corner = { origins: new Int32Array(2), patch: [1, 1] as const, fill: this.pixel(input, 0) };
    return this.run(corner, this.manifest.unoccluded, 1);
  }

  /** Scores (N, classes) with the patch at each origin: the rewritten model, one run. */
  async incremental(occlusions: Occlusions): Promise<Scores> {
    return this.run(occlusions, this.manifest.output, occlusions.origins.length / 2);
  }

  /** The same by full inference of the original network, one run a position, after one that is not measured. */
  async full({ origins, patch, fill }: Occlusions): Promise<Scores> {
    const { ort, manifest } = this;
    if (this.original === null) {
      const cut = cutOut(await this.bytes(), manifest.unoccluded);
      this.original = await ort.InferenceSession.create(cut, { ...OPTIONS, executionProviders: [this.provider] });
    }
    const rows: Float32Array[] = [];
    const milliseconds: number[] = [];
    for (let n = -1; n < origins.length / 2; n += 1) {
      const place = Math.max(n, 0);
      const hidden = this.withPatch(origins[2 * place], origins[2 * place + 1], patch, fill);
      const feeds = { [manifest.image_input]: this.imageTensor(hidden) };
      const start = performance.now();
      const outputs = await this.original.run(feeds);
      const values = await floats(outputs[manifest.unoccluded]);
      if (n < 0) continue;
      milliseconds.push(performance.now() - start);
      rows.push(activate(values, 1, manifest.activation));
    }
    const scores = new Float32Array(rows.length * rows[0].length);
    rows.forEach((row, n) => scores.set(row, n * row.length));
    return { scores, milliseconds };
  }

  private async run({ origins, patch, fill }: Occlusions, output: string, rows: number): Promise<Scores> {
    const { ort, manifest } = this;
    const [height, width] = patch;
    const pixels = new Float32Array(fill.length * height * width);
    fill.forEach((value, channel) => pixels.fill(value, channel * height * width, (channel + 1) * height * width));
    const feeds = {
      [manifest.image_input]: this.imageTensor(this.required()),
      [manifest.patch_input]: new ort.Tensor("float32", pixels, [1, fill.length, height, width]),
      [manifest.origin_input]: new ort.Tensor("int64", BigInt64Array.from(origins, BigInt), [origins.length / 2, 2]),
      [manifest.threshold_input]: new ort.Tensor("float32", Float32Array.of(1), [1]),
    };
    const start = performance.now();
    const outputs = await this.session.run(feeds, [output]);
    const values = await floats(outputs[output]);
    const milliseconds = [performance.now() - start];
    return { scores: activate(values, rows, manifest.activation), milliseconds };
  }

  private required(): Float32Array {
    if (this.image === null) throw new Error("No image was given.");
    return this.image;
  }

  /** (C, H, W) in the layout and the type of the model's image input. */
  private imageTensor(image: Float32Array): Tensor {
    const { ort, manifest } = this;
    const [channels, height, width] = manifest.image_shape;
    const first = manifest.layout === "NCHW";
    const values = first ? image : channelsLast(image, channels);
    const dims = first ? [1, channels, height, width] : [1, height, width, channels];
    if (manifest.image_type === "float32") return new ort.Tensor("float32", values, dims);
    if (manifest.image_type === "uint8") {
      const bytes = Uint8Array.from(values);
      if (bytes.some((byte, at) => byte !== values[at])) {
        throw new Error(
          "The model's image is uint8, and its preparation makes numbers that are none: 0 to 255, whole.",
        );
      }
      return new ort.Tensor("uint8", bytes, dims);
    }
    return new ort.Tensor("float16", halves(values), dims);
  }

  private pixel(image: Float32Array, at: number): Float32Array {
    const [channels, height, width] = this.manifest.image_shape;
    return Float32Array.from({ length: channels }, (_, channel) => image[channel * height * width + at]);
  }

  private withPatch(top: number, left: number, patch: readonly [number, number], fill: Float32Array): Float32Array {
    const [, height, width] = this.manifest.image_shape;
    const image = this.required().slice();
    fill.forEach((value, channel) => {
      for (let row = top; row < top + patch[0]; row += 1) {
        const start = (channel * height + row) * width + left;
        image.fill(value, start, start + patch[1]);
      }
    });
    return image;
  }
}

async function floats(tensor: Tensor): Promise<Float32Array> {
  const data = await tensor.getData(true);
  return data instanceof Float32Array ? data : Float32Array.from(data as ArrayLike<number>);
}

function channelsLast(image: Float32Array, channels: number): Float32Array {
  const count = image.length / channels;
  return Float32Array.from(image, (_, at) => image[(at % channels) * count + Math.floor(at / channels)]);
}

/** float16 as its bits, or as the browser's own Float16Array where ONNX Runtime expects that. */
function halves(values: Float32Array): Uint16Array {
  const own = (globalThis as { Float16Array?: new (from: Float32Array) => { buffer: ArrayBuffer } }).Float16Array;
  if (own === undefined) throw new Error("The model's image is float16, which this browser has not: take a newer one.");
  return new own(values) as unknown as Uint16Array;
}
