/* The original network out of the rewritten model: the part of the graph that one of its outputs needs.
 *
 * A rewritten model computes `unoccluded_<output>` from the image alone, by the original's own operators. Cut out, that
 * is full inference, to measure beside ours. Field numbers are those of onnx.proto.
 */

import { fieldsOf, joined, withLength, type Field } from "./protobuf";

const GRAPH = 7; // of a model
const NODE = 1; // of a graph, as the four below
const INITIALIZER = 5;
const INPUT = 11;
const OUTPUT = 12;
const VALUE_INFO = 13;
const SPARSE_INITIALIZER = 15;

const texts = new TextDecoder();

/** The model cut down to the nodes, weights and inputs that the output needs. */
export function cutOut(model: Uint8Array, output: string): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [];
  for (const field of fieldsOf(model)) {
    if (field.number === GRAPH && field.body !== null) pieces.push(...withLength(GRAPH, reduced(field.body, output)));
    else pieces.push(field.whole);
  }
  return joined(pieces);
}

function reduced(graph: Uint8Array, output: string): Uint8Array[] {
  const fields = [...fieldsOf(graph)];
  const nodes = fields.filter((field) => field.number === NODE);
  const needed = new Set([output]);
  const kept = new Set<Field>();
  for (const node of [...nodes].reverse()) {
    // Nodes stand in the order of computation, so one pass from the end finds all that is needed.
    if (!namesIn(node.body!, 2).some((name) => needed.has(name))) continue;
    kept.add(node);
    for (const name of readBy(node.body!)) needed.add(name);
  }
  return fields
    .filter((field) => {
      if (field.number === NODE) return kept.has(field);
      if (field.number === INITIALIZER) return needed.has(nameIn(field.body!, 8));
      if (field.number === INPUT) return needed.has(nameIn(field.body!, 1));
      if (field.number === OUTPUT) return nameIn(field.body!, 1) === output;
      return field.number !== VALUE_INFO && field.number !== SPARSE_INITIALIZER;
    })
    .map((field) => field.whole);
}

/** Every name that a node reads, also inside the graphs that it holds (If, Loop). */
function readBy(node: Uint8Array): string[] {
  const names = namesIn(node, 1);
  for (const attribute of fieldsOf(node)) {
    if (attribute.number !== 5 || attribute.body === null) continue;
    for (const held of fieldsOf(attribute.body)) {
      if ((held.number !== 6 && held.number !== 11) || held.body === null) continue;
      for (const inner of fieldsOf(held.body)) {
        if (inner.number === NODE && inner.body !== null) names.push(...readBy(inner.body));
        if (inner.number === OUTPUT && inner.body !== null) names.push(nameIn(inner.body, 1));
      }
    }
  }
  return names;
}

function namesIn(message: Uint8Array, number: number): string[] {
  return [...fieldsOf(message)]
    .filter((field) => field.number === number && field.body !== null)
    .map((field) => texts.decode(field.body!));
}

const nameIn = (message: Uint8Array, number: number): string => namesIn(message, number)[0] ?? "";
