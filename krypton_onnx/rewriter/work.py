"""What one full inference of a node costs, in multiply-adds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import known_dims

Shapes = Callable[[gs.Tensor], tuple]  # of a tensor; () where it is unknown


def multiply_adds(node: gs.Node, shape_of: Shapes) -> int:
    """Of a convolution, or of a matrix product of many rows an image; 0 of others, or where shapes are unknown."""
    if node.op not in ("Conv", "ConvTranspose"):
        return _row_products(node, shape_of)
    # A transposed convolution multiplies every input cell with all of its weights.
    known = known_dims(shape_of(node.outputs[0] if node.op == "Conv" else node.inputs[0])[2:])
    weights = node.inputs[1].shape
    return int(np.prod(weights)) * int(np.prod(known)) if weights and known else 0


def head_products(node: gs.Node, shape_of: Shapes) -> int:
    """Of a matrix product of one row an image, as in a classifier's head; 0 as above."""
    if node.op not in ("MatMul", "Gemm") or _row_products(node, shape_of):
        return 0
    output = known_dims(shape_of(node.outputs[0])[1:])
    operand, axis = node.inputs[0], -2 if node.op == "Gemm" and node.attrs.get("transA", 0) else -1
    shape = tuple(operand.shape) if isinstance(operand, gs.Constant) else shape_of(operand)
    if output is None or not shape or not isinstance(shape[axis], int):
        return 0
    return int(np.prod(output)) * int(shape[axis])


def _row_products(node: gs.Node, shape_of: Shapes) -> int:
    """Of a MatMul of more than one row an image: a 1x1 convolution by another name, or attention."""
    known = known_dims(shape_of(node.outputs[0])[1:])
    shape = shape_of(node.inputs[0]) if node.op == "MatMul" else ()
    if known is None or len(known) < 2 or not shape or not isinstance(shape[-1], int):
        return 0
    return int(np.prod(known)) * int(shape[-1])
