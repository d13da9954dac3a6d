/* From a file to pixels: decoded by the browser, turned upright as its EXIF data say, colours as the file has them. */

export interface Decoded {
  height: number;
  width: number;
  rgba: Uint8ClampedArray<ArrayBuffer>;
}

// As the Python side, and Pillow: more could be a decompression bomb.
const MAX_PIXELS = 178_956_970;

/** Throws an Error of one line where the file is no image that the browser reads. */
export async function decode(file: Blob): Promise<Decoded> {
  await refuseDeep(file);
  await refuseSeveral(file);
  const bitmap = await createImageBitmap(file, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
    imageOrientation: "from-image",
  }).catch(() => {
    throw new Error("The image cannot be read: give a PNG, JPEG, WebP or another picture that your browser shows.");
  });
  const { height, width } = bitmap;
  try {
    if (height * width > MAX_PIXELS)
      throw new Error(`The image has ${width} x ${height} pixels, more than are read here.`);
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (context === null) throw new Error(`There is not enough memory for an image of ${width} x ${height} pixels.`);
    context.imageSmoothingEnabled = false; // a turned picture is turned here, and must not be interpolated
    context.drawImage(bitmap, 0, 0);
    return { height, width, rgba: context.getImageData(0, 0, width, height).data as Uint8ClampedArray<ArrayBuffer> };
  } finally {
    bitmap.close();
  }
}

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Greys of 16 bits would silently become 8 bits here, by a rule that is not the model's. */
async function refuseDeep(file: Blob): Promise<void> {
  const start = new Uint8Array(await file.slice(0, 26).arrayBuffer());
  const png = start.length === 26 && PNG.every((byte, at) => start[at] === byte);
  if (png && start[24] === 16 && start[25] === 0) {
    throw new Error("The image has more than 8 bits a pixel, so its range is not known; save it with 8 bits first.");
  }
}

interface Decoder {
  new (init: { data: ArrayBuffer; type: string }): {
    tracks: { ready: Promise<void>; selectedTrack: { frameCount: number } | null };
    close(): void;
  };
  isTypeSupported(type: string): Promise<boolean>;
}

/** Of an animation the first frame would be taken, and nobody told; where the browser can count them. */
async function refuseSeveral(file: Blob): Promise<void> {
  const decoder = (globalThis as { ImageDecoder?: Decoder }).ImageDecoder;
  const type = await typeOf(file);
  if (type === null || decoder === undefined || !(await decoder.isTypeSupported(type))) return;
  const opened = new decoder({ data: await file.arrayBuffer(), type });
  try {
    await opened.tracks.ready;
    const count = opened.tracks.selectedTrack?.frameCount ?? 1;
    if (count > 1) throw new SeveralImages(`The file holds ${count} images; save the one to explain by itself.`);
  } catch (error) {
    if (error instanceof SeveralImages) throw error; // any other is found again, and said, when it is decoded
  } finally {
    opened.close();
  }
}

class SeveralImages extends Error {}

/** Of the formats that can hold animations, by their first bytes; null of others. */
async function typeOf(file: Blob): Promise<string | null> {
  const start = new TextDecoder("latin1").decode(await file.slice(0, 12).arrayBuffer());
  if (start.startsWith("GIF8")) return "image/gif";
  if (start.startsWith("\u0089PNG")) return "image/png";
  return start.startsWith("RIFF") && start.endsWith("WEBP") ? "image/webp" : null;
}
