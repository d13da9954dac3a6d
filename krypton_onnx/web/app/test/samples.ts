/* Values that several tests start from. */

import type { Preparation } from "../src/manifest";

export function preparation(given: Partial<Preparation> = {}): Preparation {
  return {
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
    ...given,
  };
}
