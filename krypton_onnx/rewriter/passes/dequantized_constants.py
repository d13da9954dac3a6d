"""Dequantize constants: DequantizeLinear(constant, constant scale, constant zero point) -> float32 constant.

Quantized models (QDQ) store their weights so, one scale a tensor or one a channel. ONNX Runtime's BASIC level leaves
them for its fused integer kernels; here the weights of a convolution must be known. (ONNX operator DequantizeLinear.)
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.readers import read_constant


def fold_dequantized_constants(graph: gs.Graph) -> bool:
    """True when the graph changed."""
    changed = False
    for node in graph.nodes:
        if node.op != "DequantizeLinear" or not all(isinstance(operand, gs.Constant) for operand in node.inputs):
            continue
        if node.attrs.get("block_size", 0) or any(output is node.outputs[0] for output in graph.outputs):
            continue
        values, scale = (np.asarray(operand.values) for operand in node.inputs[:2])
        zero = np.asarray(node.inputs[2].values) if len(node.inputs) > 2 else np.zeros_like(scale, values.dtype)
        if scale.dtype != np.float32 or values.dtype.kind not in "iu":
            continue
        if scale.size > 1:  # one a channel
            shape = [1] * values.ndim
            shape[node.attrs.get("axis", 1)] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        else:
            scale, zero = scale.reshape(()), zero.reshape(())
        output = node.outputs[0]
        changed |= read_constant(output, f"{node.name or output.name}/values", _dequantized(values, scale, zero))
    if changed:
        graph.cleanup()
    return changed


def _dequantized(values: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    return ((values.astype(np.int64) - zero.astype(np.int64)).astype(np.float32) * scale).astype(np.float32)
