"""Who reads a tensor of a graphsurgeon graph, and letting them read another: what several passes need."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def only_reader(graph: gs.Graph, tensor: gs.Variable) -> gs.Node | None:
    """The only node that reads the tensor; None where there are none or more, or it is an output of the graph."""
    if len(tensor.outputs) != 1 or any(tensor is result for result in graph.outputs):
        return None
    return tensor.outputs[0]


def read_constant(tensor: gs.Variable, name: str, value: np.ndarray) -> bool:
    """Let every reader of `tensor` read a constant instead; True where there is one."""
    constant, readers = gs.Constant(name, value), list(tensor.outputs)
    for reader in readers:
        reader.inputs = [constant if operand is tensor else operand for operand in reader.inputs]
    return bool(readers)
