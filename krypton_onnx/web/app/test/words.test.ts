import { describe, expect, it } from "vitest";
import { readManifest } from "../src/manifest";
import { duration, megabytes, roundHalfEven, signed, threeDigits } from "../src/numbers";
import { matching } from "../src/ui/picker";
import { readSize, sizeText } from "../src/ui/settings";

describe("numbers", () => {
  it.each([
    [0.5, 0],
    [1.5, 2],
    [2.5, 2],
    [-0.5, -0],
    [-1.5, -2],
    [2.4, 2],
    [2.6, 3],
  ])("%d rounds to %d, as Python's", (value, whole) => {
    expect(roundHalfEven(value) + 0).toBe(whole + 0);
  });

  it.each([
    [0.98412, "0.984"],
    [12.345, "12.3"],
    [1.2e-5, "1.2e-05"],
    [123456, "1.23e+05"],
    [0, "0"],
    [NaN, "not computed"],
  ])("%d reads %s", (value, text) => expect(threeDigits(value)).toBe(text));

  it("have signs, units and lengths", () => {
    expect([signed(0.5), signed(-0.5), signed(0)]).toEqual(["+0.5", "\u22120.5", "0"]);
    expect([duration(10), duration(8200), duration(125_000), duration(7_260_000)]).toEqual([
      "1 s",
      "8 s",
      "2 min 5 s",
      "2 h 1 min",
    ]);
    expect([megabytes(4_994_876), megabytes(553e6)]).toEqual(["5.0 MB", "553 MB"]);
  });
});

describe("sizes in the form", () => {
  it("are one number or two", () => {
    expect(readSize(" 16 ", "patch")).toEqual([16, 16]);
    expect(readSize("16 x 24", "patch")).toEqual([16, 24]);
    expect(readSize("16×24", "patch")).toEqual([16, 24]);
    expect(sizeText([16, 24])).toBe("16 x 24");
    for (const text of ["", "a", "1.5", "-3", "1 x 2 x 3"])
      expect(() => readSize(text, "patch")).toThrow("The patch must");
  });
});

describe("searching a class", () => {
  const names = ["coffee mug", "espresso", "tea cup", "cup of coffee"];
  it("finds words in any order, names that start so first, and numbers", () => {
    expect(matching(names, [3, 2, 1, 0], "coffee")).toEqual([0, 3]);
    expect(matching(names, [3, 2, 1, 0], "MUG cof")).toEqual([0]);
    expect(matching(names, [3, 2, 1, 0], "2")).toEqual([2]);
    expect(matching(names, [3, 2, 1, 0], " ")).toEqual([3, 2, 1, 0]);
    expect(matching(names, [3, 2, 1, 0], "x")).toEqual([]);
  });
});

describe("the manifest", () => {
  const manifest = {
    format: 1,
    title: "Net",
    model: "rewritten.onnx",
    bytes: 9,
    sha256: "ab",
    image_input: "x",
    image_shape: [3, 8, 9],
    layout: "NCHW",
    image_type: "float32",
    patch_input: "p",
    origin_input: "o",
    threshold_input: "t",
    output: "y",
    unoccluded: "u",
    activation: null,
    score_name: "probability",
    labels: null,
    preparation: { size: [8, 9], scale: 1 },
    defaults: { patch: [2, 2], stride: [1, 1], fill: "mean" },
    sample: null,
    version: "1",
  };

  it("fills in what a preparation leaves out", () => {
    expect(readManifest(manifest).preparation).toMatchObject({ size: [8, 9], scale: 1, mean: [0], fit: "stretch" });
    expect(readManifest({ ...manifest, preparation: {} }).preparation.size).toEqual([8, 9]);
  });

  it.each([
    [null, "not an object"],
    [{ ...manifest, format: 2 }, "format is 2"],
    [{ ...manifest, output: 3 }, '"output"'],
    [{ ...manifest, image_shape: [3, 8] }, "image_shape"],
    [{ ...manifest, image_shape: [1, 8, 9] }, "1 channels"],
    [{ ...manifest, preparation: { size: [9, 9] } }, "size of the preparation"],
  ])("says what is wrong with it", (data, words) => {
    expect(() => readManifest(data)).toThrow(words);
  });
});
