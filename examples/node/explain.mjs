#!/usr/bin/env node
// Explains a picture with a model that `krypton-onnx convert` wrote. Nothing of ours runs here, only ONNX Runtime.
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import { storedIn } from "./metadata.mjs";
import { measure } from "./naive.mjs";
import { explain, makeGrid, tiles } from "./occlusion.mjs";
import { draw, prepare } from "./picture.mjs";

const USAGE = `usage: node explain.mjs REWRITTEN.onnx PICTURE [--png map.png] [--json map.json] [--patch 16]
  [--stride 4] [--target CLASS] [--batch 128 | --batches FILE] [--naive ORIGINAL.onnx] [--positions 96]`;
const TEXTS = ["png", "json", "batches", "naive"];
const NUMBERS = { patch: 16, stride: 4, batch: 128, positions: 96, target: undefined };

async function main(model, picture, options) {
  const { plan, preparation, labels } = await storedIn(model);
  const [, height, width] = plan.image_shape;
  if (options.patch > Math.min(height, width))
    throw new Error(`--patch ${options.patch}: the model's image has ${height} x ${width} pixels`);
  const { image, pixels } = await prepare(picture, preparation, plan);
  const grid = makeGrid(plan.image_shape, options.patch, options.stride);
  const batches = options.batches ? await advised(options.batches, plan, grid) : tiles(grid, options.batch);
  const session = await ort.InferenceSession.create(model); // as it comes: its defaults are the fastest here

  const run = () => explain(session, plan, image, grid, batches, options.target);
  const start = performance.now();
  const map = await run();
  const seconds = (performance.now() - start) / 1000;
  const { targets: [target], baseline: [baseline], scores: [scores] } = map;
  const label = labels?.[target] ?? `class ${target}`;
  console.log(`${label}: ${baseline.toPrecision(4)}; ${grid.tops.length} x ${grid.lefts.length} positions, ` +
    `${batches.length} run${batches.length > 1 ? "s" : ""}, ${seconds.toFixed(1)} s`);

  const { tops, lefts, patch, stride } = grid;
  const json = { ...map, labels: [label], tops, lefts, patch: [patch, patch], stride: [stride, stride], mode: "exact" };
  if (options.json) await write(options.json, JSON.stringify(json));
  if (options.png) await write(options.png, await draw(scores, baseline, grid, pixels, plan));
  if (options.naive) console.log(await measure(options.naive, plan, image, grid, map, run, options.positions));
}

/** What `krypton-onnx inspect MODEL --batches FILE` wrote: it knows how regions grow in this model. */
async function advised(path, plan, { patch, stride }) {
  const text = await readFile(path, "utf8");
  let advice;
  try {
    advice = JSON.parse(text);
  } catch {
    throw new Error(`${path}: is not JSON`);
  }
  const found = [advice?.format, advice?.image_shape, advice?.patch, advice?.stride];
  if (String(found) !== String([1, plan.image_shape, patch, patch, stride, stride]))
    throw new Error(`${path}: is not for this model, patch and stride; write it again with krypton-onnx inspect`);
  return advice.batches;
}

/** Whole or not at all. */
async function write(path, content) {
  const part = `${path}.${process.pid}.part`;
  try {
    await writeFile(part, content);
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
}

/** [model, picture, options], or exit code 2. */
function commandLine() {
  try {
    const options = Object.fromEntries([...TEXTS, ...Object.keys(NUMBERS)].map((name) => [name, { type: "string" }]));
    const { positionals, values } = parseArgs({ allowPositionals: true, options });
    if (positionals.length !== 2) throw new Error("give a model and a picture");
    for (const name of Object.keys(NUMBERS).filter((name) => values[name] !== undefined)) {
      if (!/^\d{1,9}$/.test(values[name]) || (values[name] < 1 && name !== "target"))
        throw new Error(`--${name} ${values[name]}: is not a number${name === "target" ? "" : " of at least 1"}`);
      values[name] = Number(values[name]);
    }
    return [...positionals, { ...NUMBERS, ...values }];
  } catch (error) {
    console.error(`explain.mjs: ${error.message}\n${USAGE}`);
    return process.exit(2);
  }
}

main(...commandLine()).catch((error) => {
  console.error(`explain.mjs: ${error.message.split("\n")[0]}`);
  process.exitCode = 1;
});
