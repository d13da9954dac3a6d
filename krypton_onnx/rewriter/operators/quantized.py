"""QuantizeLinear and DequantizeLinear with constant scales: pointwise in space (QDQ models).

Integers between the two are patch activations of their own type. Weights are dequantized before (passes/), so what a
quantized model multiplies is float32 here, as it is wherever ONNX Runtime has no integer kernel for a pair.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.operators.channels import channel_axis


def rewrite_quantization(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Constant scales, one a tensor or one a channel (QDQ models)."""
    patch = operands[0]
    if not isinstance(patch, Patch) or not all(isinstance(operand, gs.Constant) for operand in node.inputs[1:]):
        raise NotIncremental("its scale is computed at run time")
    if node.attrs.get("block_size", 0):
        raise NotIncremental("it quantizes in blocks")
    attributes = dict(node.attrs)
    if np.size(node.inputs[1].values) > 1:
        if int(node.attrs.get("axis", 1)) % 4 != channel_axis(patch):
            raise NotIncremental("its scales differ along height or width")
        attributes["axis"] = 3
    tensor = emitter.emit(node.op, node.name, [patch.tensor, *node.inputs[1:]], attributes, domain=None)
    return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


FUNCTIONS = ()
HANDLERS = {"DequantizeLinear": rewrite_quantization, "QuantizeLinear": rewrite_quantization}
