/* Decodes and prepares pictures away from the page, so that a large photograph does not stop it. */

import type { Preparation } from "../manifest";
import { decode } from "./decode";
import { prepare } from "./prepare";

export interface PictureRequest {
  id: number;
  file: Blob;
  preparation: Preparation;
}

self.onmessage = async (event: MessageEvent<PictureRequest>) => {
  const { id, file, preparation } = event.data;
  try {
    const { rgba, height, width } = await decode(file);
    const prepared = prepare(rgba, height, width, preparation);
    const transfer = [prepared.input.buffer as ArrayBuffer, prepared.shown.buffer];
    self.postMessage({ id, prepared }, { transfer });
  } catch (error) {
    const large = error instanceof RangeError;
    const message = large ? "There is not enough memory for this image; give a smaller one." : (error as Error).message;
    self.postMessage({ id, error: message });
  }
};
