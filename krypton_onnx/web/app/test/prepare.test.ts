/* Prepared pixels equal Python's bit for bit: test/prepared.json is made by tests/web_fixtures.py. */

import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { fillValues } from "../src/images/fill";
import { place } from "../src/images/placement";
import { colourOf, prepare } from "../src/images/prepare";
import type { Preparation } from "../src/manifest";
import cases from "./prepared.json";
import { preparation } from "./samples";

/** As `picture` of tests/web_fixtures.py, with an opaque fourth channel. */
function picture(height: number, width: number): Uint8ClampedArray {
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        const value = row * 37 + column * 59 + row * column * (7 + channel) + channel * 85;
        rgba[4 * (row * width + column) + channel] = value % 256;
      }
    }
  }
  return rgba;
}

const rgbOf = (rgba: Uint8ClampedArray) => Array.from(rgba.filter((_, at) => at % 4 !== 3));

describe("prepared pixels equal Python's", () => {
  it.each(cases.map((one) => ({ name: `${one.frame.join(" x ")} ${JSON.stringify(one.preparation)}`, one })))(
    "$name",
    ({ one }) => {
      const [height, width] = one.frame;
      const made = prepare(
        picture(height, width),
        height,
        width,
        preparation(one.preparation as unknown as Partial<Preparation>),
      );
      if (one.shown !== null) expect(rgbOf(made.shown)).toEqual(one.shown.flat(2));
      expect(createHash("sha256").update(new Uint8Array(made.input.buffer)).digest("hex")).toBe(one.input_sha256);
    },
  );
});

describe("what cannot be prepared says why", () => {
  it("transparent pixels", () => {
    const rgba = picture(4, 4);
    rgba[7] = 254;
    expect(() => prepare(rgba, 4, 4, preparation({ size: [4, 4] }))).toThrow("transparent");
  });

  it("a window of values", () => {
    expect(() => prepare(picture(4, 4), 4, 4, preparation({ window: [40, 400] }))).toThrow("8 bits");
  });

  it("a crop that is larger than the picture", () => {
    expect(() => place([10, 10], preparation({ size: [10, 12], fit: "crop", resize: 11 }))).toThrow("too small");
  });
});

describe("fills", () => {
  const caffe = preparation({ size: [1, 2], mean: [100, 110, 120], scale: 1, channel_order: "bgr" });
  const input = Float32Array.of(1, 3, 5, 7, 9, 11);

  it("words and numbers are numbers of the model, one a channel", () => {
    expect([...fillValues("mean", input, 3, caffe)]).toEqual([2, 6, 10]);
    expect([...fillValues("white", input, 3, caffe)]).toEqual([155, 145, 135]);
    expect([...fillValues(0.5, input, 3, caffe)]).toEqual([0.5, 0.5, 0.5]);
    expect([...fillValues([1, 2, 3], input, 3, caffe)]).toEqual([1, 2, 3]);
    expect(() => fillValues([1, 2], input, 3, caffe)).toThrow("one a channel");
  });

  it("come back as colours: red first, whole, within range", () => {
    expect(colourOf([0, 0, 0], caffe)).toEqual([120, 110, 100]);
    expect(colourOf([1000, -1000, 0.4], caffe)).toEqual([120, 0, 255]);
    expect(colourOf([0.5], preparation({ channel_order: "gray" }))).toEqual([128, 128, 128]);
  });
});
