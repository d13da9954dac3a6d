/* Where a picture of any shape goes in the frame of the model, as krypton_onnx/images/fitting.py has it. */

import type { Preparation } from "../manifest";
import { roundHalfEven } from "../numbers";

type Size = readonly [number, number];

/** Sizes are [height, width]. The picture becomes `resized`; its first row and column then lie at top and left of a
 * frame of `size` (below 0: cut off there). */
export interface Placement {
  resized: Size;
  size: Size;
  top: number;
  left: number;
}

/** By the preparation's size, fit and resize. Throws where nothing of that size can be cut out. */
export function place(frame: Size, preparation: Preparation): Placement {
  let resized = frame;
  const wanted = preparation.size;
  if (preparation.fit === "crop") {
    if (preparation.resize !== null) resized = shorterSide(frame, preparation.resize);
    else if (wanted !== null) resized = covering(frame, wanted);
  } else if (wanted !== null) {
    resized = preparation.fit === "stretch" ? wanted : inside(frame, wanted);
  }
  const size = wanted ?? resized;
  if (preparation.fit !== "crop") {
    const offset = (axis: 0 | 1) => Math.floor((size[axis] - resized[axis]) / 2);
    return { resized, size, top: offset(0), left: offset(1) };
  }
  if (resized[0] < size[0] || resized[1] < size[1]) {
    throw new Error(`The image is too small: no ${size[1]} x ${size[0]} px can be cut out of it.`);
  }
  const offset = (axis: 0 | 1) => 0 - roundHalfEven((resized[axis] - size[axis]) / 2);
  return { resized, size, top: offset(0), left: offset(1) };
}

/** As torchvision's Resize: the longer side is rounded down. */
function shorterSide([height, width]: Size, side: number): Size {
  return height <= width ? [side, Math.trunc((side * width) / height)] : [Math.trunc((side * height) / width), side];
}

/** The smallest of the frame's aspect in which `size` has room. */
function covering([height, width]: Size, size: Size): Size {
  if (size[0] * width >= size[1] * height) {
    return [size[0], Math.max(size[1], roundHalfEven((width * size[0]) / height))];
  }
  return [Math.max(size[0], roundHalfEven((height * size[1]) / width)), size[1]];
}

/** The largest of the frame's aspect that has room in `size`. */
function inside([height, width]: Size, size: Size): Size {
  if (size[0] * width <= size[1] * height) {
    return [size[0], Math.min(size[1], Math.max(1, roundHalfEven((width * size[0]) / height)))];
  }
  return [Math.min(size[0], Math.max(1, roundHalfEven((height * size[1]) / width))), size[1]];
}
