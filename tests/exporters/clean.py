"""What the files of ../exported keep: the graph as it was written, without notes about the place it was written at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

EXPORTED = Path(__file__).parents[1] / "exported"


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                yield from graphs_of(inner)


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, without doc strings and metadata: they hold stack traces with paths of files."""
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in graphs_of(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        del graph.quantization_annotation[:]
        for entry in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]:
            entry.doc_string = ""
            del entry.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    return model
