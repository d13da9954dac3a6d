// What krypton-onnx stored in a model. The API of onnxruntime-node does not show it, so it is read from the file; in
// other languages ONNX Runtime itself tells (docs/deploy.md).
import { readFile } from "node:fs/promises";
import { PbfReader } from "pbf";

const METADATA_PROPS = 14; // the number of this field of ModelProto, in onnx.proto

/** {plan, preparation, labels} of an ONNX file; the last two are undefined where it holds none. */
export async function storedIn(path) {
  const bytes = await readFile(path);
  const entries = {};
  try {
    new PbfReader(bytes).readFields((field, _, model) => {
      if (field !== METADATA_PROPS) return; // what is not read is skipped
      const [, key, value] = model.readMessage((number, pair, text) => (pair[number] = text.readString()), []);
      if (key.startsWith("krypton.")) entries[key] = JSON.parse(value);
    });
  } catch (error) {
    throw new Error(`${path}: is not an ONNX model, or what it stores is broken (${error.message})`);
  }
  const { "krypton.plan": plan, "krypton.preparation": preparation, "krypton.labels": labels } = entries;
  if (!plan) throw new Error(`${path}: is not a rewritten model; make one with krypton-onnx convert`);
  return { plan, preparation, labels };
}
