// From a picture to the model's input, and from a map to a picture.
import * as ort from "onnxruntime-node";
import sharp from "sharp";

const KERNELS = { nearest: "nearest", bilinear: "linear", bicubic: "cubic", lanczos: "lanczos3" };
const GREY = [0.299, 0.587, 0.114]; // ITU-R 601
const RED = [178, 24, 43], BLUE = [33, 102, 172];

/** {image: a tensor of batch 1, pixels: bytes (height, width, RGB)}, as the model's stored preparation says. */
export async function prepare(path, preparation, plan) {
  if (!preparation) throw new Error("the model does not say how it wants its image: krypton-onnx convert --preset ...");
  const { mean = [0], std = [1], scale = 1 / 255, channel_order: order = "rgb", window } = preparation;
  if (window) throw new Error("a preparation with a window is for DICOM, which is not read here");
  const [channels, height, width] = plan.image_shape;
  const pixels = await fitted(path, preparation, height, width).catch((error) => {
    throw new Error(`${path}: ${error.message}`);
  });
  const data = new Float32Array(channels * height * width);
  for (let pixel = 0; pixel < height * width; pixel++) {
    const rgb = pixels.subarray(3 * pixel, 3 * pixel + 3);
    for (let channel = 0; channel < channels; channel++) {
      const value = channels === 1 ? rgb[0] * GREY[0] + rgb[1] * GREY[1] + rgb[2] * GREY[2]
        : rgb[order === "bgr" ? 2 - channel : channel];
      const place = plan.layout === "NHWC" ? pixel * channels + channel : channel * height * width + pixel;
      data[place] = (value * scale - (mean[channel] ?? mean[0])) / (std[channel] ?? std[0]);
    }
  }
  const dims = plan.layout === "NHWC" ? [1, height, width, channels] : [1, channels, height, width];
  return { image: new ort.Tensor("float32", data, dims), pixels };
}

/** Half of it, to the even number where it lies between two: as Python rounds. */
const halved = (length) => Math.round(length / 2) - (length % 4 === 1 ? 1 : 0);

/** The picture, upright, in the frame of the model: bytes (height, width, RGB). */
async function fitted(path, { size, fit = "stretch", resize, resample = "bilinear", padding = 0 }, height, width) {
  const picture = sharp(path).autoOrient();
  const { depth } = await picture.metadata();
  if (depth !== "uchar") throw new Error("has more than 8 bits a channel");
  if (!(await picture.stats()).isOpaque) throw new Error("has transparent pixels; lay it on a background first");
  const how = { kernel: KERNELS[resample], fastShrinkOnLoad: false };
  picture.removeAlpha().toColourspace("srgb");
  if (fit === "crop" && resize) { // shorter side first, then the centre
    const side = Math.round(resize * (size ? Math.max(height / size[0], width / size[1]) : 1));
    picture.resize(side, side, { ...how, fit: "outside" });
    const { data, info } = await picture.raw().toBuffer({ resolveWithObject: true });
    const left = halved(info.width - width), top = halved(info.height - height);
    if (left < 0 || top < 0) throw new Error(`no ${height} x ${width} pixels can be cut out of it`);
    return sharp(data, { raw: info }).extract({ left, top, width, height }).raw().toBuffer();
  }
  const background = { r: padding, g: padding, b: padding };
  const fits = { stretch: "fill", crop: "cover", pad: "contain" };
  return picture.resize(width, height, { ...how, fit: fits[fit], background }).raw().toBuffer();
}

/** PNG of the picture in grey, red where hiding it lowers the score, blue where it raises it. */
export function draw(scores, baseline, { patch, stride }, pixels, plan) {
  const [, height, width] = plan.image_shape;
  const limit = scores.flat().reduce((most, score) => Math.max(most, Math.abs(baseline - score)), 0) || 1;
  const cell = (place, count) => // the one whose patch has its centre nearest
    Math.min(count - 1, Math.max(0, Math.round((place + 0.5 - patch / 2) / stride)));
  const drawn = Buffer.alloc(3 * height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const at = 3 * (y * width + x);
      const grey = 0.75 * (pixels[at] * GREY[0] + pixels[at + 1] * GREY[1] + pixels[at + 2] * GREY[2]);
      const share = (baseline - scores[cell(y, scores.length)][cell(x, scores[0].length)]) / limit;
      const strength = Math.sqrt(Math.abs(share));
      for (let channel = 0; channel < 3; channel++)
        drawn[at + channel] = grey + strength * ((share > 0 ? RED : BLUE)[channel] - grey);
    }
  return sharp(drawn, { raw: { width, height, channels: 3 } }).png().toBuffer();
}
