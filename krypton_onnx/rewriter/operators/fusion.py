"""Fusing what follows into the operator before it: a residual into a convolution, an activation into either.

An operator is fused when it alone reads the result, so that nobody misses the values in between.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, Patch

# Rows of a function body that apply an activation to {value}; by name of the ONNX operator, "" for none.
ACTIVATIONS = {
    "": "",
    "Relu": """
  active = Relu ({value})""",
    "Clip": """
  clip_from = Constant <value_float : float = @clip_min> ()
  clip_until = Constant <value_float : float = @clip_max> ()
  active = Clip ({value}, clip_from, clip_until)""",
}

# Operators that take an activation, and how many inputs they have without a residual (None: they take none).
INPUTS = {"IncrementalConv": 7, "PointwiseConv": 3, "ChannelAffine": None}


def final_name(node: gs.Node) -> str:
    """The operator that a finished node is, by what was fused into it."""
    plain = INPUTS[node.op]
    residual = plain is not None and len(node.inputs) > plain
    return node.op + ("Add" if residual else "") + node.attrs["activation"]


def fuse_residual(node: gs.Node, operands: list, emitter: Emitter) -> Patch | None:
    """Add of two patch activations into the convolution that alone feeds it; None where that is not possible."""
    if node.op != "Add" or len(operands) != 2 or not all(isinstance(operand, Patch) for operand in operands):
        return None
    for index in (1, 0):  # the branch written last is usually the deeper one, whose region is larger
        conv, other = operands[index], operands[1 - index]
        made = conv.tensor.inputs[0]
        plain = INPUTS.get(made.op)
        if plain is None or len(made.inputs) > plain or made.attrs["activation"]:
            continue
        if conv is other or not emitter.read_once(conv) or conv.layout != other.layout:
            continue
        # Broadcasting (a residual of another shape) is left to the stock operator.
        if not conv.geometry.contains(other.geometry) or not emitter.same_shape(conv.base, other.base):
            continue
        if made.op == "PointwiseConv":
            made.inputs.append(emitter.origin_of(conv))
        made.inputs.extend(emitter.read(other))
        return Patch(conv.tensor, conv.geometry, node.outputs[0], conv.layout, conv.origin)
    return None


def fuse_activation(node: gs.Node, operands: list, emitter: Emitter) -> Patch | None:
    """Relu or Clip with constant bounds into the operator that alone feeds it; None where that is not possible."""
    patch = operands[0]
    if not isinstance(patch, Patch) or not emitter.read_once(patch) or patch.tensor.inputs[0].op not in INPUTS:
        return None
    made = patch.tensor.inputs[0]
    if made.attrs["activation"]:
        return None
    if node.op == "Clip":
        bounds = _clip_bounds(node)
        if bounds is None:
            return None
        made.attrs["clip_min"], made.attrs["clip_max"] = bounds
    elif node.op != "Relu":
        return None
    made.attrs["activation"] = node.op
    return Patch(patch.tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


def _clip_bounds(node: gs.Node) -> tuple[float, float] | None:
    limits = [float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)]
    for index, bound in enumerate(node.inputs[1:3]):
        if isinstance(bound, gs.Constant):
            limits[index] = float(np.asarray(bound.values).ravel()[0])
        elif not bound.is_empty():
            return None
    return limits[0], limits[1]
