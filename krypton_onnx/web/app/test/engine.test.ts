import { describe, expect, it } from "vitest";
import { difference } from "../src/engine/gpu";
import { cutOut } from "../src/engine/original";
import { fieldsOf, joined, withLength } from "../src/engine/protobuf";
import { activate } from "../src/engine/scores";

const text = (number: number, value: string) => joined(withLength(number, [new TextEncoder().encode(value)]));
const message = (number: number, ...parts: Uint8Array[]) => joined(withLength(number, parts));
const node = (inputs: string[], outputs: string[], ...others: Uint8Array[]) =>
  message(1, ...inputs.map((name) => text(1, name)), ...outputs.map((name) => text(2, name)), ...others);

/** What a graph holds, as "number:name". */
function contents(model: Uint8Array): string[] {
  const graph = [...fieldsOf(model)].find(({ number }) => number === 7)!.body!;
  return [...fieldsOf(graph)].map(({ number, body }) => {
    const names = [...fieldsOf(body!)].filter((field) => field.number === ({ 1: 2, 5: 8 }[number] ?? 1));
    return `${number}:${new TextDecoder().decode(names[0].body!)}`;
  });
}

describe("cutting the original network out", () => {
  const inner = message(5, text(1, "then_branch"), message(6, node(["captured"], ["t"]), message(12, text(1, "t"))));
  const model = joined([
    Uint8Array.of(8, 8), // ir_version, a number
    message(
      7,
      node(["image", "weights"], ["view"]),
      node(["patch", "view"], ["score"]),
      node(["seed"], ["captured"]),
      node(["view"], ["unoccluded"], inner),
      message(5, text(8, "weights"), text(9, "x".repeat(300))),
      message(5, text(8, "unused")),
      message(5, text(8, "seed")),
      message(11, text(1, "image")),
      message(11, text(1, "patch")),
      message(12, text(1, "score")),
      message(12, text(1, "unoccluded")),
      message(13, text(1, "view")),
    ),
    text(2, "producer"),
  ]);

  it("keeps what the output needs, also what inner graphs read, and all outside the graph", () => {
    const cut = cutOut(model, "unoccluded");
    expect(contents(cut)).toEqual([
      "1:view",
      "1:captured",
      "1:unoccluded",
      "5:weights",
      "5:seed",
      "11:image",
      "12:unoccluded",
    ]);
    expect([...fieldsOf(cut)].map(({ number }) => number)).toEqual([1, 7, 2]);
  });

  it("leaves a graph whose every node is needed as it is", () => {
    expect(contents(cutOut(model, "score"))).toEqual([
      "1:view",
      "1:score",
      "5:weights",
      "11:image",
      "11:patch",
      "12:score",
    ]);
  });

  it("refuses what is cut short", () => {
    expect(() => cutOut(model.subarray(0, model.length - 4), "score")).toThrow("cut short");
  });
});

describe("activations", () => {
  it("softmax is over the classes of each row", () => {
    const made = activate(Float32Array.of(1000, 1001, 0, 0), 2, "softmax");
    expect(made[1]).toBeCloseTo(1 / (1 + Math.exp(-1)), 6);
    expect(made[0] + made[1]).toBeCloseTo(1, 6);
    expect([...made.subarray(2)]).toEqual([0.5, 0.5]);
  });

  it("sigmoid is of each, and none leaves all as it is", () => {
    expect(activate(Float32Array.of(0, 3), 1, "sigmoid")[0]).toBe(0.5);
    expect([...activate(Float32Array.of(4, 3), 1, null)]).toEqual([4, 3]);
  });
});

describe("differences", () => {
  it("are relative above 1, and infinite where a score is not a number", () => {
    expect(difference(Float32Array.of(0.5, 0.25), Float32Array.of(0.5, 0.5))).toBe(0.25);
    expect(difference(Float32Array.of(100, 0), Float32Array.of(100, 1))).toBeCloseTo(0.01);
    expect(difference(Float32Array.of(NaN), Float32Array.of(1))).toBe(Infinity);
    expect(difference(Float32Array.of(1), Float32Array.of(1, 2))).toBe(Infinity);
  });
});
